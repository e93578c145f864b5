//! Decides what happens to jobs and items; performs nothing.
//!
//! ```text
//!  input ──► step(now, input) ──► effects: Record(changes) first, then Run or Stop
//!                ▲                              │
//!                └────────── apply(change) ◄────┘ once the journal has it
//! ```

use super::{Job, JobEnd, JobEvent, JobEventKind, JobId, JobOperation, JobState};
use crate::error::Error;
use crate::item::{ITEMS_MAX, ItemEvent, ItemId, ItemOptions, ProtectedItem, ProtectionEvent};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// How many jobs of one container run at a time; each has threads of its own.
pub const RUNNING_JOBS_MAX: usize = 2;

/// How many jobs of one container wait.
pub const QUEUED_JOBS_MAX: usize = 1_000;

/// What the engine is told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Input {
    /// Protect something.
    Protect(ItemId, ItemOptions),
    /// Stop protecting an item and keep its recovery points.
    StopProtection(ItemId),
    /// Protect an item again.
    ResumeProtection(ItemId),
    /// Accept a job.
    Queue(JobId, JobOperation),
    /// Take up what waits, as far as there is room.
    Schedule,
    /// Ask a job to end.
    Cancel(JobId),
    /// A job's work ended.
    Ended(JobId, JobEnd),
}

/// What is to be done, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Effect {
    /// Append these together; what follows only once they are durable.
    Record(Vec<Change>),
    /// Begin the work of a job.
    Run(JobId),
    /// Ask the work of a job to end.
    Stop(JobId),
}

/// One event of one history.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// Of a job.
    Job(JobId, JobEvent),
    /// Of an item.
    Item(ItemId, ItemEvent),
}

/// Every item, and every job that has not ended.
#[derive(Clone, Debug, Default)]
pub struct JobEngine {
    pub(crate) jobs: BTreeMap<JobId, Job>,
    pub(crate) items: BTreeMap<ItemId, ProtectedItem>,
}

impl JobEngine {
    /// Decides what follows from an input. It changes nothing here; [`apply`](Self::apply) does.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::State`], [`Error::TooLarge`] if a limit is reached.
    pub fn step(&self, now: Timestamp, input: Input) -> Result<Vec<Effect>, Error> {
        match input {
            Input::Protect(id, options) => {
                limit("number of protected items", self.items.len(), ITEMS_MAX)?;
                Ok(record(Change::Item(id, ItemEvent::Enabled { options })))
            }
            Input::StopProtection(id) => {
                let event = self.item(id)?.change(ProtectionEvent::Stop, None)?;
                Ok(record(Change::Item(id, event)))
            }
            Input::ResumeProtection(id) => {
                let item = self.item(id)?;
                let event = match item.latest {
                    Some(_) => ProtectionEvent::Resume,
                    None => ProtectionEvent::ResumeEmpty,
                };
                Ok(record(Change::Item(id, item.change(event, None)?)))
            }
            Input::Queue(id, operation) => self.queue(id, operation),
            Input::Schedule => Ok(self.schedule()),
            Input::Cancel(id) => {
                let job = self.job(id)?;
                let next = job.next(JobEventKind::Cancel)?;
                let mut effects = record(Change::Job(id, JobEvent::CancelRequested));
                if !next.is_final() {
                    effects.push(Effect::Stop(id));
                }
                Ok(effects)
            }
            Input::Ended(id, end) => self.ended(now, id, end),
        }
    }

    fn queue(&self, id: JobId, operation: JobOperation) -> Result<Vec<Effect>, Error> {
        limit("number of waiting jobs", self.jobs.len(), QUEUED_JOBS_MAX)?;
        if let Some(item) = operation.item() {
            let state = self.item(item)?.state;
            let refuse = |reason: String| {
                Err(Error::State { what: "protected item", id: item.to_string(), reason })
            };
            if state == crate::item::ProtectionState::ProtectionStopped {
                return refuse("protection is stopped".to_owned());
            }
            let running = self.jobs.values().find(|job| job.operation.item() == Some(item));
            if let Some(job) = running {
                return refuse(format!("backup job {} has not ended", job.id));
            }
        }
        Ok(record(Change::Job(id, JobEvent::Queued { operation })))
    }

    fn schedule(&self) -> Vec<Effect> {
        let running = self.jobs.values().filter(|job| job.state != JobState::Queued).count();
        let mut waiting: Vec<&Job> =
            self.jobs.values().filter(|job| job.state == JobState::Queued).collect();
        waiting.sort_by_key(|job| (job.queued, job.id));
        waiting
            .into_iter()
            .take(RUNNING_JOBS_MAX.saturating_sub(running))
            .flat_map(|job| {
                let started = Effect::Record(vec![Change::Job(job.id, JobEvent::Started)]);
                [started, Effect::Run(job.id)]
            })
            .collect()
    }

    fn ended(&self, _now: Timestamp, id: JobId, end: JobEnd) -> Result<Vec<Effect>, Error> {
        let job = self.job(id)?;
        // Work that was stopped without anyone asking for it has failed.
        let end = match (end, job.state) {
            (JobEnd::Cancelled, JobState::InProgress) => JobEnd::interrupted(),
            (end, _) => end,
        };
        let state = job.next(end.event())?;
        let mut changes = Vec::new();
        if let Some(item) = job.operation.item().and_then(|item| self.items.get(&item)) {
            let event = match (&end, item.latest) {
                (JobEnd::Done(_), None) => Some(ProtectionEvent::FirstBackup),
                (JobEnd::Done(_), Some(_)) => Some(ProtectionEvent::BackupSucceeded),
                (JobEnd::Failed { .. }, _) => Some(ProtectionEvent::BackupFailed),
                (JobEnd::Cancelled, _) => None,
            };
            let point = match &end {
                JobEnd::Done(outcome) => outcome.point,
                _ => None,
            };
            if let Some(event) = event {
                changes.push(Change::Item(item.id, item.change(event, point)?));
            }
        }
        let (operation, queued) = (job.operation.clone(), job.queued);
        changes.push(Change::Job(id, JobEvent::Ended { end, state, operation, queued }));
        Ok(vec![Effect::Record(changes)])
    }

    /// Takes in what the journal has.
    ///
    /// # Errors
    /// [`Error::State`] if the history cannot contain this event.
    pub fn apply(&mut self, change: &Change, time: Timestamp) -> Result<(), Error> {
        match change {
            Change::Item(id, ItemEvent::Enabled { options }) => {
                self.items.insert(*id, ProtectedItem::enabled(*id, options.clone(), time));
            }
            Change::Item(id, event) => match self.items.get_mut(id) {
                Some(item) => item.apply(event, time)?,
                None => return Err(no_item(*id)),
            },
            Change::Job(id, JobEvent::Queued { operation }) => {
                self.jobs.insert(*id, Job::queued(*id, operation.clone(), time));
            }
            Change::Job(id, event) => {
                let job = self.jobs.get_mut(id).ok_or_else(|| no_job(*id))?;
                job.apply(event, time)?;
                // Jobs that have ended are read from the journal if anyone asks.
                if job.state.is_final() {
                    self.jobs.remove(id);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn version(&self, change: &Change) -> u64 {
        match change {
            Change::Item(id, _) => self.items.get(id).map_or(0, |item| item.version),
            Change::Job(id, _) => self.jobs.get(id).map_or(0, |job| job.version),
        }
    }

    fn item(&self, id: ItemId) -> Result<&ProtectedItem, Error> {
        self.items.get(&id).ok_or_else(|| no_item(id))
    }

    fn job(&self, id: JobId) -> Result<&Job, Error> {
        self.jobs.get(&id).ok_or_else(|| no_job(id))
    }
}

pub(crate) fn no_item(id: ItemId) -> Error {
    Error::NotFound { what: "protected item", id: id.to_string() }
}

pub(crate) fn no_job(id: JobId) -> Error {
    Error::NotFound { what: "running backup job", id: id.to_string() }
}

fn record(change: Change) -> Vec<Effect> {
    vec![Effect::Record(vec![change])]
}

fn limit(what: &'static str, actual: usize, limit: usize) -> Result<(), Error> {
    if actual < limit {
        return Ok(());
    }
    Err(Error::TooLarge { what, actual: actual as u64, limit: limit as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobOutcome;
    use oms_core::entropy::SeededEntropy;

    fn perform(engine: &mut JobEngine, input: Input) -> Vec<Effect> {
        let effects = engine.step(Timestamp::UNIX_EPOCH, input).expect("legal");
        for effect in &effects {
            if let Effect::Record(changes) = effect {
                for change in changes {
                    engine.apply(change, Timestamp::UNIX_EPOCH).expect("applies");
                }
            }
        }
        effects
    }

    fn engine() -> (JobEngine, ItemId, JobId, JobOperation) {
        let entropy = SeededEntropy::new(5);
        let (item, job) = (ItemId::draw(&entropy), JobId::draw(&entropy));
        let mut engine = JobEngine::default();
        perform(&mut engine, Input::Protect(item, ItemOptions::default()));
        (engine, item, job, JobOperation::Backup { item, name: "x".to_owned() })
    }

    #[test]
    fn a_backup_runs_once_and_protects_its_item() {
        let (mut engine, item, job, backup) = engine();
        perform(&mut engine, Input::Queue(job, backup.clone()));
        let second = JobId::draw(&SeededEntropy::new(6));
        assert!(engine.step(Timestamp::UNIX_EPOCH, Input::Queue(second, backup)).is_err());
        let effects = perform(&mut engine, Input::Schedule);
        assert_eq!(effects.last(), Some(&Effect::Run(job)));
        assert_eq!(perform(&mut engine, Input::Schedule), []);
        let outcome = JobOutcome { point: Some(SNAPSHOT), ..JobOutcome::default() };
        perform(&mut engine, Input::Ended(job, JobEnd::Done(outcome)));
        assert_eq!(engine.items[&item].state, crate::item::ProtectionState::Protected);
        assert!(engine.jobs.is_empty());
    }

    const SNAPSHOT: crate::vault::format::SnapshotId =
        crate::vault::format::SnapshotId::from_bytes([7; 32]);

    #[test]
    fn a_waiting_job_is_cancelled_at_once_and_a_running_one_is_asked_to_stop() {
        let (mut engine, _, job, backup) = engine();
        perform(&mut engine, Input::Queue(job, backup.clone()));
        let effects = perform(&mut engine, Input::Cancel(job));
        assert_eq!(effects.len(), 1, "nothing to stop");
        assert!(engine.jobs.is_empty());
        perform(&mut engine, Input::Queue(job, backup));
        perform(&mut engine, Input::Schedule);
        assert_eq!(perform(&mut engine, Input::Cancel(job)).last(), Some(&Effect::Stop(job)));
        perform(&mut engine, Input::Ended(job, JobEnd::Cancelled));
        assert!(engine.jobs.is_empty());
    }

    #[test]
    fn work_that_stops_unasked_has_failed() {
        let (mut engine, item, job, backup) = engine();
        perform(&mut engine, Input::Queue(job, backup));
        perform(&mut engine, Input::Schedule);
        perform(&mut engine, Input::Ended(job, JobEnd::Cancelled));
        assert_eq!(engine.items[&item].state, crate::item::ProtectionState::IrPending);
    }

    #[test]
    fn stopped_items_take_no_backups() {
        let (mut engine, item, job, backup) = engine();
        perform(&mut engine, Input::StopProtection(item));
        let error = engine.step(Timestamp::UNIX_EPOCH, Input::Queue(job, backup.clone()));
        assert!(error.expect_err("stopped").to_string().contains("protection is stopped"));
        perform(&mut engine, Input::ResumeProtection(item));
        perform(&mut engine, Input::Queue(job, backup));
    }
}
