//! A protection container: one computer's items, jobs and vault, and the way into this crate.

use super::{
    ITEM_HISTORY, ItemEvent, ItemId, ItemOptions, ProtectedItem, check_name,
    source::{SourceTree, SourceWarning},
};
use crate::error::Error;
use crate::job::{
    Change, Effect, Input, JOB_HISTORY, Job, JobEnd, JobEngine, JobEvent, JobId, JobOperation,
    JobOutcome, JobState,
};
use crate::operation::{BackupOptions, Control, CopyOption, Parent, Progress, RestoreOptions};
use crate::recovery_point::RecoveryPoint;
use crate::vault::format::KdfParameters;
use crate::vault::{Holder, Open, Vault, WriteSettings};
use jiff::Timestamp;
use oms_core::journal::{
    Append, Event, HistoryId, Journal, JournalError, JournalEvent as _, JournalExt as _,
};
use oms_core::task::blocking;
use oms_core::{Clock, Disk, Entropy, Secret, SystemClock, SystemEntropy};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// Prefix of the tag that ties a recovery point to the job that made it.
const JOB_TAG: &str = "oms-job:";

/// How often a job's end is offered to a journal that is unavailable, before the next caller does.
const RECORD_ATTEMPTS_MAX: u32 = 5;

/// Puts a container together; see [`ProtectionContainer::builder`].
#[derive(Debug)]
pub struct ContainerBuilder {
    disk: Arc<dyn Disk>,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    name: String,
    holder: Option<Holder>,
    source_tree: Option<Arc<dyn SourceTree>>,
    kdf: KdfParameters,
    write: WriteSettings,
}

impl ContainerBuilder {
    /// Names the container, 1 to 200 bytes without `/`; `local` unless set. The name keys its
    /// histories in the journal.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Takes the time from `clock`.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Takes keys, nonces and ids from `entropy`, which must be the system's outside of tests.
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// Names this computer, user and process in locks and recovery points.
    #[must_use]
    pub fn holder(mut self, holder: Holder) -> Self {
        self.holder = Some(holder);
        self
    }

    /// Backs up files of this tree in place of this computer's own.
    #[must_use]
    pub fn source_tree(mut self, tree: Arc<dyn SourceTree>) -> Self {
        self.source_tree = Some(tree);
        self
    }

    /// Sets the cost of deriving a new vault's key from its passphrase.
    #[must_use]
    pub fn kdf(mut self, kdf: KdfParameters) -> Self {
        self.kdf = kdf;
        self
    }

    /// Sets how backups store.
    #[must_use]
    pub fn write(mut self, write: WriteSettings) -> Self {
        self.write = write;
        self
    }

    /// Makes the vault, and the container on it.
    ///
    /// # Errors
    /// Those of [`Vault::create`], and [`Error::Journal`].
    pub async fn create(self, passphrase: &Secret) -> Result<ProtectionContainer, Error> {
        let passphrase = passphrase.clone();
        self.start(move |vault| vault.create(&passphrase)).await
    }

    /// Opens the vault, and brings the container to where it was. Jobs that a crash interrupted
    /// end now: completed if their recovery point was committed, failed otherwise. One program at
    /// a time may have a container open.
    ///
    /// # Errors
    /// Those of [`Vault::open`], and [`Error::Journal`].
    pub async fn open(self, passphrase: &Secret) -> Result<ProtectionContainer, Error> {
        let passphrase = passphrase.clone();
        self.start(move |vault| vault.open(&passphrase)).await
    }

    async fn start(
        self,
        unlock: impl FnOnce(Vault<crate::vault::Locked>) -> Result<Vault<Open>, Error> + Send + 'static,
    ) -> Result<ProtectionContainer, Error> {
        check_name("container name", &self.name)?;
        if self.name.contains('/') {
            let (what, value) = ("container name", self.name);
            return Err(Error::Invalid { what, value, reason: "has a slash" });
        }
        self.write.check()?;
        let mut vault = Vault::new(self.disk)
            .clock(Arc::clone(&self.clock))
            .entropy(Arc::clone(&self.entropy))
            .kdf(self.kdf);
        if let Some(holder) = self.holder {
            vault = vault.holder(holder);
        }
        if let Some(tree) = self.source_tree {
            vault = vault.source_tree(tree);
        }
        let vault = blocking(move || unlock(vault)).await?;
        let inner = Arc::new(Inner {
            vault,
            journal: self.journal,
            clock: self.clock,
            entropy: self.entropy,
            name: self.name,
            write: self.write,
            engine: tokio::sync::Mutex::default(),
            stale: Mutex::default(),
            controls: Mutex::default(),
            unrecorded: Mutex::default(),
            changed: watch::Sender::new(0),
        });
        inner.recover().await?;
        Ok(ProtectionContainer { inner })
    }
}

/// One computer's protected items, their jobs and their vault. Clones are the same container.
///
/// Every change is in the journal before it takes effect. Backups and restores run on blocking
/// threads of the Tokio runtime that the caller runs in.
#[derive(Clone, Debug)]
pub struct ProtectionContainer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    vault: Vault<Open>,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    name: String,
    write: WriteSettings,
    engine: tokio::sync::Mutex<JobEngine>,
    /// Histories that may hold an event the engine has not seen, because the journal's answer was
    /// lost; read again before anything else is decided.
    stale: Mutex<Vec<Change>>,
    controls: Mutex<HashMap<JobId, Control>>,
    /// Ends that the journal did not take; at most as many as jobs can run.
    unrecorded: Mutex<Vec<(JobId, JobEnd)>>,
    /// Counts changes, so that waiters look again.
    changed: watch::Sender<u64>,
}

impl ProtectionContainer {
    /// A container whose vault is on `disk` and whose histories are in `journal`.
    #[must_use]
    pub fn builder(disk: Arc<dyn Disk>, journal: Arc<dyn Journal>) -> ContainerBuilder {
        ContainerBuilder {
            disk,
            journal,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            name: "local".to_owned(),
            holder: None,
            source_tree: None,
            kdf: KdfParameters::default(),
            write: WriteSettings::default(),
        }
    }

    /// The vault, for what needs no journal: recovery points, verification.
    #[must_use]
    pub fn vault(&self) -> &Vault<Open> {
        &self.inner.vault
    }

    /// Protects files and folders. `Ok` means durable; the first backup is the caller's to start.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::TooLarge`], [`Error::Journal`].
    pub async fn protect(&self, options: ItemOptions) -> Result<ItemId, Error> {
        check_name("item name", &options.name)?;
        for path in &options.paths {
            if !path.is_absolute() || path.to_str().is_none() {
                let (what, value) = ("protected path", path.display().to_string());
                return Err(Error::Invalid { what, value, reason: "not absolute, or not UTF-8" });
            }
        }
        if options.paths.is_empty() {
            let (what, value) = ("protected path", String::new());
            return Err(Error::Invalid { what, value, reason: "no path is given" });
        }
        let id = ItemId::draw(&*self.inner.entropy);
        self.inner.drive(Input::Protect(id, options)).await?;
        Ok(id)
    }

    /// Every protected item.
    pub async fn items(&self) -> Vec<ProtectedItem> {
        self.inner.engine.lock().await.items.values().cloned().collect()
    }

    /// One protected item.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn item(&self, id: ItemId) -> Result<ProtectedItem, Error> {
        let engine = self.inner.engine.lock().await;
        engine.items.get(&id).cloned().ok_or_else(|| crate::job::no_item(id))
    }

    /// Stops protecting an item and keeps its recovery points.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::State`], [`Error::Journal`].
    pub async fn stop_protection(&self, id: ItemId) -> Result<(), Error> {
        self.inner.drive(Input::StopProtection(id)).await
    }

    /// Protects an item again.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::State`], [`Error::Journal`].
    pub async fn resume_protection(&self, id: ItemId) -> Result<(), Error> {
        self.inner.drive(Input::ResumeProtection(id)).await
    }

    /// Starts a backup of an item. `Ok` means that the job is durable.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::State`] if a backup of it has not ended or protection is
    /// stopped, [`Error::TooLarge`] if too many jobs wait, [`Error::Journal`].
    pub async fn backup(&self, item: ItemId) -> Result<JobId, Error> {
        let name = self.item(item).await?.options.name;
        self.inner.queue(JobOperation::Backup { item, name }).await
    }

    /// Starts a restore. `Ok` means that the job is durable. `is_sparse` and `workers` are taken
    /// as their defaults.
    ///
    /// # Errors
    /// [`Error::PointNotFound`], [`Error::TooLarge`] if too many jobs wait, [`Error::Journal`].
    pub async fn restore(&self, options: RestoreOptions) -> Result<JobId, Error> {
        let vault = self.inner.vault.clone();
        let name = options.point.clone();
        let point = blocking(move || vault.point(&name)).await?;
        let operation = JobOperation::Restore {
            point: point.id,
            point_time: point.snapshot.time,
            path: options.path,
            target: options.target,
            copy: format!("{:?}", options.copy),
        };
        self.inner.queue(operation).await
    }

    /// Asks a job to end. A backup that is cancelled leaves no recovery point; a restore leaves
    /// whole files only.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a job that has ended, [`Error::State`], [`Error::Journal`].
    pub async fn cancel(&self, id: JobId) -> Result<(), Error> {
        self.inner.drive(Input::Cancel(id)).await
    }

    /// A job, running or ended.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Journal`].
    pub async fn job(&self, id: JobId) -> Result<Job, Error> {
        if let Some(job) = self.inner.engine.lock().await.jobs.get(&id) {
            return Ok(job.clone());
        }
        self.inner.read_job(id).await?.ok_or_else(|| crate::job::no_job(id))
    }

    /// Every job, oldest first.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn jobs(&self) -> Result<Vec<Job>, Error> {
        let mut jobs = Vec::new();
        for key in self.inner.keys(JOB_HISTORY).await? {
            if let Ok(id) = key.parse() {
                jobs.extend(self.inner.read_job(id).await?);
            }
        }
        jobs.sort_by_key(|job| (job.queued, job.id));
        Ok(jobs)
    }

    /// How far a running job is.
    #[must_use]
    pub fn progress(&self, id: JobId) -> Option<Progress> {
        let controls = self.inner.controls.lock().unwrap_or_else(PoisonError::into_inner);
        controls.get(&id).map(Control::progress)
    }

    /// Waits until a job has ended.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Journal`] if its end cannot be recorded now; calling again
    /// tries again.
    pub async fn wait(&self, id: JobId) -> Result<Job, Error> {
        let mut changes = self.inner.changed.subscribe();
        loop {
            changes.mark_unchanged();
            Inner::record_ends(&self.inner).await?;
            let job = self.job(id).await?;
            if job.state.is_final() {
                return Ok(job);
            }
            if changes.changed().await.is_err() {
                return Err(Error::Internal { reason: "the container is gone".to_owned() });
            }
        }
    }

    /// Every recovery point in the vault, oldest first.
    ///
    /// # Errors
    /// Those of [`Vault::points`].
    pub async fn points(&self) -> Result<Vec<RecoveryPoint>, Error> {
        let vault = self.inner.vault.clone();
        blocking(move || vault.points()).await
    }
}

impl Inner {
    fn history(
        &self,
        kind: &str,
        id: &(dyn std::fmt::Display + Sync),
    ) -> Result<HistoryId, JournalError> {
        HistoryId::new(kind, &format!("{}/{id}", self.name))
    }

    /// The ids of this container's histories of one kind.
    async fn keys(&self, kind: &str) -> Result<Vec<String>, Error> {
        let heads = self.journal.list_whole(kind).await?;
        let of_container = heads.into_iter().filter_map(|head| {
            let (container, id) = head.history.key().rsplit_once('/')?;
            (container == self.name).then(|| id.to_owned())
        });
        Ok(of_container.collect())
    }

    async fn read_job(&self, id: JobId) -> Result<Option<Job>, Error> {
        let fold = |job: &mut Option<Job>, recorded, event: &Event| {
            let time = event.envelope.time;
            match (recorded, &mut *job) {
                (JobEvent::Queued { operation }, None) => {
                    *job = Some(Job::queued(id, operation, time));
                }
                (event, Some(job)) => job.apply(&event, time)?,
                (_, None) => return Err(crate::job::no_job(id)),
            }
            Ok(())
        };
        Ok(self.journal.replay(&self.history(JOB_HISTORY, &id)?, None, fold).await?.state)
    }

    async fn read_item(&self, id: ItemId) -> Result<Option<ProtectedItem>, Error> {
        let fold = |item: &mut Option<ProtectedItem>, recorded, event: &Event| {
            let time = event.envelope.time;
            match (recorded, &mut *item) {
                (ItemEvent::Enabled { options }, None) => {
                    *item = Some(ProtectedItem::enabled(id, options, time));
                }
                (event, Some(item)) => item.apply(&event, time)?,
                (_, None) => return Err(crate::job::no_item(id)),
            }
            Ok(())
        };
        Ok(self.journal.replay(&self.history(ITEM_HISTORY, &id)?, None, fold).await?.state)
    }

    /// Replays the journal, ends what a crash interrupted, and goes on with what waits.
    async fn recover(self: &Arc<Self>) -> Result<(), Error> {
        let mut interrupted = Vec::new();
        {
            let mut engine = self.engine.lock().await;
            for key in self.keys(ITEM_HISTORY).await? {
                let Ok(id) = key.parse() else { continue };
                engine.items.extend(self.read_item(id).await?.map(|item| (id, item)));
            }
            for key in self.keys(JOB_HISTORY).await? {
                let Ok(id) = key.parse() else { continue };
                let Some(job) = self.read_job(id).await?.filter(|job| !job.state.is_final()) else {
                    continue;
                };
                if job.state != JobState::Queued {
                    interrupted.push(id);
                }
                engine.jobs.insert(id, job);
            }
        }
        if !interrupted.is_empty() {
            let vault = self.vault.clone();
            let points = blocking(move || vault.points()).await?;
            for id in interrupted {
                let tag = format!("{JOB_TAG}{id}");
                let made = points.iter().find(|point| point.snapshot.tags.contains(&tag));
                let end = made.map_or_else(JobEnd::interrupted, |point| JobEnd::Done(found(point)));
                self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner).push((id, end));
            }
        }
        // A job may have begun when a later append fails. Its work must not go on without a container,
        // beside the one that the caller opens next: what is not recorded now is offered again by the
        // next call.
        match Self::record_ends(self).await {
            Err(Error::Journal(JournalError::Unavailable { reason })) => {
                tracing::warn!(%reason, "backup jobs wait for the journal");
                Ok(())
            }
            recorded => recorded,
        }
    }

    async fn queue(self: &Arc<Self>, operation: JobOperation) -> Result<JobId, Error> {
        let id = JobId::draw(&*self.entropy);
        self.drive(Input::Queue(id, operation)).await?;
        // The job is accepted: a failure to begin it now leaves it waiting, not lost.
        if let Err(error) = self.drive(Input::Schedule).await {
            tracing::warn!(%error, "backup job waits");
        }
        Ok(id)
    }

    /// Decides and performs. After a failure of the journal the histories concerned are read
    /// again, because the append may have taken effect all the same.
    async fn drive(self: &Arc<Self>, input: Input) -> Result<(), Error> {
        let now = self.clock.now();
        let mut engine = self.engine.lock().await;
        if self.reread(&mut engine).await? {
            self.repeat_effects(&engine);
            self.changed.send_modify(|count| *count += 1);
        }
        let effects = engine.step(now, input)?;
        let is_change = !effects.is_empty();
        for effect in effects {
            match effect {
                Effect::Record(changes) => {
                    if let Err(error) = self.record(&mut engine, &changes, now).await {
                        self.stale.lock().unwrap_or_else(PoisonError::into_inner).extend(changes);
                        return Err(error);
                    }
                }
                Effect::Run(id) => self.run(id, &engine),
                Effect::Stop(id) => self.stop(id),
            }
        }
        if is_change {
            self.changed.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    async fn record(
        &self,
        engine: &mut JobEngine,
        changes: &[Change],
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut appends = Vec::with_capacity(changes.len());
        for change in changes {
            let (history, envelope) = match change {
                Change::Job(id, event) => {
                    (self.history(JOB_HISTORY, id)?, event.seal(now, &self.name)?)
                }
                Change::Item(id, event) => {
                    (self.history(ITEM_HISTORY, id)?, event.seal(now, &self.name)?)
                }
            };
            let expected = engine.version(change);
            appends.push(Append { history, expected, events: vec![envelope] });
        }
        self.journal.append(appends).await?;
        changes.iter().try_for_each(|change| engine.apply(change, now))
    }

    /// Reads the histories again that the engine may not know to their ends; answers whether
    /// there was one.
    async fn reread(&self, engine: &mut JobEngine) -> Result<bool, Error> {
        for has_read in std::iter::once(false).chain(std::iter::repeat(true)) {
            let next = {
                let stale = self.stale.lock().unwrap_or_else(PoisonError::into_inner);
                stale.last().cloned()
            };
            match &next {
                None => return Ok(has_read),
                Some(Change::Job(id, _)) => {
                    let job = self.read_job(*id).await?.filter(|job| !job.state.is_final());
                    match job {
                        Some(job) => engine.jobs.insert(*id, job),
                        None => engine.jobs.remove(id),
                    };
                }
                Some(Change::Item(id, _)) => {
                    let item = self.read_item(*id).await?;
                    engine.items.extend(item.map(|item| (*id, item)));
                }
            }
            self.stale.lock().unwrap_or_else(PoisonError::into_inner).pop();
        }
        Ok(true)
    }

    /// Performs again what follows from the journal: work that was to begin and did not, because
    /// the answer to its event was lost, begins; work that was to stop is told so once more.
    fn repeat_effects(self: &Arc<Self>, engine: &JobEngine) {
        for job in engine.jobs.values() {
            match job.state {
                JobState::InProgress if !self.is_at_work(job.id) => self.run(job.id, engine),
                JobState::Cancelling if self.is_at_work(job.id) => self.stop(job.id),
                JobState::Cancelling => {
                    let mut ends = self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner);
                    ends.push((job.id, JobEnd::Cancelled));
                }
                _ => {}
            }
        }
    }

    /// Whether a job's work runs or has an end that is not recorded.
    fn is_at_work(&self, id: JobId) -> bool {
        // In this order: work enters `unrecorded` before it leaves `controls`.
        let runs = self.controls.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&id);
        let ends = self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner);
        runs || ends.iter().any(|(other, _)| *other == id)
    }

    fn stop(&self, id: JobId) {
        let controls = self.controls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(control) = controls.get(&id) {
            control.cancel();
        }
    }

    /// Begins the work of a job.
    fn run(self: &Arc<Self>, id: JobId, engine: &JobEngine) {
        let Some(operation) = engine.jobs.get(&id).map(|job| job.operation.clone()) else { return };
        let control = Control::default();
        self.controls.lock().unwrap_or_else(PoisonError::into_inner).insert(id, control.clone());
        let item = operation.item().and_then(|item| engine.items.get(&item)).cloned();
        let (vault, write) = (self.vault.clone(), self.write);
        let work = move || work(&vault, write, id, &operation, item.as_ref(), &control);
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            let end = match blocking(work).await {
                Ok(outcome) => JobEnd::Done(outcome),
                Err(error) => JobEnd::of_error(&error),
            };
            inner.unrecorded.lock().unwrap_or_else(PoisonError::into_inner).push((id, end));
            inner.controls.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            for _ in 0..RECORD_ATTEMPTS_MAX {
                match Self::record_ends(&inner).await {
                    Ok(()) => break,
                    Err(error) => {
                        tracing::error!(%error, job = %id, "the end of a job is not recorded");
                    }
                }
            }
            inner.changed.send_modify(|count| *count += 1);
        });
    }

    /// Records the ends that wait for it, then takes up waiting jobs.
    async fn record_ends(self: &Arc<Self>) -> Result<(), Error> {
        loop {
            let next = {
                let unrecorded = self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner);
                unrecorded.first().cloned()
            };
            let Some((id, end)) = next else { break };
            match self.drive(Input::Ended(id, end)).await {
                // An earlier attempt took effect.
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
            let mut unrecorded = self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner);
            unrecorded.retain(|(other, _)| *other != id);
        }
        self.drive(Input::Schedule).await
    }
}

/// What is known of a backup whose report was lost in a crash.
fn found(point: &RecoveryPoint) -> JobOutcome {
    let summary = point.snapshot.summary.unwrap_or_default();
    JobOutcome {
        point: Some(point.id),
        files: summary.total_files_processed,
        bytes: summary.total_bytes_processed,
        transferred_bytes: summary.data_added_packed,
        warnings: 0,
        first_warnings: Vec::new(),
    }
}

/// The work of one job, on a blocking thread.
fn work(
    vault: &Vault<Open>,
    write: WriteSettings,
    id: JobId,
    operation: &JobOperation,
    item: Option<&ProtectedItem>,
    control: &Control,
) -> Result<JobOutcome, Error> {
    match operation {
        JobOperation::Backup { item: item_id, .. } => {
            let item = item.ok_or_else(|| crate::job::no_item(*item_id))?;
            let options = BackupOptions {
                paths: item.options.paths.clone(),
                tags: vec![format!("{JOB_TAG}{id}")],
                parent: Parent::Newest,
                one_file_system: item.options.one_file_system,
                write,
                ..BackupOptions::default()
            };
            let report = vault.plan_backup(&options)?.run(control)?;
            for warning in &report.warnings.listed {
                let SourceWarning { path, reason, .. } = warning;
                tracing::warn!(path = %path.display(), %reason, job = %id, "backup warning");
            }
            Ok(JobOutcome::of_backup(&report))
        }
        JobOperation::Restore { point, path, target, copy, .. } => {
            let options = RestoreOptions {
                point: point.to_string(),
                path: path.clone(),
                copy: parse_copy(copy)?,
                ..RestoreOptions::latest(PathBuf::from(target))
            };
            let report = vault.plan_restore(&options)?.run(control)?;
            if report.files + report.folders + report.others == 0 && !report.failures.is_empty() {
                let first = report.failures.listed.first().map(ToString::to_string);
                return Err(Error::corrupt(
                    target.display().to_string(),
                    first.unwrap_or_default(),
                ));
            }
            Ok(JobOutcome::of_restore(&report))
        }
    }
}

fn parse_copy(name: &str) -> Result<CopyOption, Error> {
    match name {
        "FailOnConflict" => Ok(CopyOption::FailOnConflict),
        "Skip" => Ok(CopyOption::Skip),
        "Overwrite" => Ok(CopyOption::Overwrite),
        other => Err(Error::Unsupported { what: format!("copy option `{other}`") }),
    }
}
