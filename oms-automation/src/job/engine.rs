//! What a worker does next: decided here, done by the worker's loop.

use super::{JobId, JobLabel, JobRecorded, JobState, Queue};
use crate::stream::StreamSummary;
use crate::worker::{Applied, WorkerRunId};
use oms_core::lifecycle::Lifecycle;
use std::collections::BTreeMap;
use std::time::Duration;

/// What an engine is set to.
#[derive(Clone, Copy, Debug)]
pub struct EngineSettings {
    /// How many jobs are prepared or run at a time.
    pub concurrency: usize,
    /// How long a job may run before it is stopped.
    pub time_limit: Option<Duration>,
}

/// What an engine is told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Input {
    /// The journal holds this event of a job. Every event of every open job comes once, in order,
    /// also those that this engine asked for.
    Recorded {
        /// Which job.
        job: JobId,
        /// The event's place in the job's history.
        version: u64,
        /// The event.
        event: JobRecorded,
    },
    /// Everything that was in the journal when the worker began has been told.
    CaughtUp,
    /// An append did not succeed, or its fate is unknown.
    NotAppended {
        /// Which job.
        job: JobId,
        /// How many events the append expected.
        expected: u64,
        /// Whether the history held another number of events: someone else was first, and what
        /// they wrote will be told.
        is_conflict: bool,
    },
    /// A job's folder and its isolation are ready.
    Prepared {
        /// Which job.
        job: JobId,
        /// What its process will be kept away from.
        isolation: Applied,
    },
    /// A job cannot be run here.
    Refused {
        /// Which job.
        job: JobId,
        /// Why.
        reason: String,
    },
    /// A job's process and all that it left are gone, and its streams are durable.
    Ended {
        /// Which job.
        job: JobId,
        /// How.
        ending: Ending,
    },
    /// What a predecessor's job left is gone, and its streams are durable.
    Swept {
        /// Which job.
        job: JobId,
        /// What is in its streams, if there are any.
        streams: Option<StreamSummary>,
    },
    /// Time passed.
    Tick,
    /// The worker is to end: take nothing more, end what runs.
    ShutDown,
}

/// How a job's process ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// None if the runbook ended well; else why not.
    pub exception: Option<String>,
    /// The process's exit code, if it had one.
    pub exit_code: Option<i32>,
    /// Whether it and all that it started are known to be gone.
    pub are_processes_gone: bool,
    /// What is in its streams; none if they could not be made durable.
    pub streams: Option<StreamSummary>,
}

/// What an engine wants done. Each is answered by an [`Input`], except [`Effect::Stop`], whose
/// answer is the job's [`Input::Ended`], and [`Effect::Abandon`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Effect {
    /// Append to the job's history, if it holds `expected` events.
    Append {
        /// Which job.
        job: JobId,
        /// How many events it must hold.
        expected: u64,
        /// The event.
        event: JobRecorded,
    },
    /// Make the job's folder and isolation ready. Nothing of the runbook runs yet. May be repeated.
    Prepare {
        /// Which job.
        job: JobId,
    },
    /// Start the process. Asked at most once a job, over all workers' lives.
    Run {
        /// Which job.
        job: JobId,
    },
    /// End the process and all that it started.
    Stop {
        /// Which job.
        job: JobId,
    },
    /// End what a job of a predecessor left. May be repeated.
    Sweep {
        /// Which job.
        job: JobId,
    },
    /// Undo the preparation.
    Abandon {
        /// Which job.
        job: JobId,
    },
}

/// What this worker is doing for a job.
#[derive(Clone, Debug)]
enum Activity {
    Idle,
    Preparing,
    Prepared(Applied),
    Refused(String),
    Executing,
    Terminating,
    /// `was_stopped` says that it was being terminated when it ended.
    Ended {
        ending: Ending,
        was_stopped: bool,
    },
    Sweeping,
    Swept(Option<StreamSummary>),
    Abandoned,
}

/// An append that is under way or has to be tried again.
#[derive(Clone, Debug)]
struct Pending {
    event: JobRecorded,
    must_retry: bool,
}

#[derive(Clone, Debug)]
struct Slot {
    label: JobLabel,
    version: u64,
    state: JobState,
    /// Which life of a worker took it last.
    worker: Option<WorkerRunId>,
    /// Whether it is this worker's to see to its end: taken by it, or left by a predecessor.
    is_mine: bool,
    stop_reason: Option<String>,
    started: Option<Duration>,
    activity: Activity,
    pending: Option<Pending>,
}

impl Slot {
    fn is_taken(&self) -> bool {
        (self.state != JobState::New && self.is_mine) || self.pending.is_some()
    }
}

/// Decides what one worker does, from the journal's events alone.
///
/// ```text
///   journal ──Recorded──► state of each open job ─┐
///                                                 ├─► settle: what follows ──► effects
///   Prepared, Ended, Swept ──► activity of each ──┘        ▲        │
///                                   ▲                      │        ▼
///                                   └── the worker's loop ─┴── journal, processes
/// ```
///
/// An effect follows from an event that was read back from the journal, so it is recorded before it
/// is done. What that guarantees, also when the worker dies anywhere:
/// - a process is started at most once a job: only after `job-running` of this very worker's life;
/// - a job that may have run when its worker died is swept and then Failed, or Stopped if it was
///   asked to end; a job that cannot have run is taken again;
/// - every job ends in exactly one of Completed, Failed and Stopped, after its processes are gone.
#[derive(Debug)]
pub struct Engine {
    worker: WorkerRunId,
    settings: EngineSettings,
    slots: BTreeMap<JobId, Slot>,
    queue: Queue,
    is_live: bool,
    is_shutting_down: bool,
}

impl Engine {
    /// An engine for one life of a worker.
    #[must_use]
    pub fn new(worker: WorkerRunId, settings: EngineSettings) -> Self {
        Self {
            worker,
            settings,
            slots: BTreeMap::new(),
            queue: Queue::default(),
            is_live: false,
            is_shutting_down: false,
        }
    }

    /// The jobs that have not ended.
    #[must_use]
    pub fn open_jobs(&self) -> Vec<JobId> {
        self.slots.keys().copied().collect()
    }

    /// Whether time matters now: something runs, or an append has to be tried again.
    #[must_use]
    pub fn needs_ticks(&self) -> bool {
        let is_waiting = |slot: &Slot| {
            slot.pending.as_ref().is_some_and(|pending| pending.must_retry)
                || matches!(slot.activity, Activity::Executing)
        };
        self.slots.values().any(is_waiting)
    }

    /// Whether a shutdown is over: nothing runs and no end is unrecorded.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let is_busy = |slot: &Slot| match slot.activity {
            Activity::Executing
            | Activity::Terminating
            | Activity::Ended { .. }
            | Activity::Sweeping
            | Activity::Swept(_) => true,
            Activity::Idle
            | Activity::Preparing
            | Activity::Prepared(_)
            | Activity::Refused(_)
            | Activity::Abandoned => slot.pending.is_some(),
        };
        self.is_shutting_down && !self.slots.values().any(is_busy)
    }

    /// Takes one input; `elapsed` is a reading of [`Clock::monotonic`](oms_core::Clock::monotonic).
    pub fn step(&mut self, elapsed: Duration, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Recorded { job, version, event } => {
                self.record(elapsed, job, version, event, &mut effects);
            }
            Input::CaughtUp => {
                self.is_live = true;
                self.slots.values_mut().for_each(|slot| slot.is_mine = true);
                let jobs = self.open_jobs();
                jobs.into_iter().for_each(|job| self.settle(job, &mut effects));
            }
            Input::NotAppended { job, expected, is_conflict } => {
                self.not_appended(job, expected, is_conflict);
            }
            Input::Prepared { job, isolation } => {
                self.set(job, Activity::Prepared(isolation), &mut effects);
            }
            Input::Refused { job, reason } => {
                self.set(job, Activity::Refused(reason), &mut effects);
            }
            Input::Ended { job, ending } => {
                let was_stopped = self
                    .slots
                    .get(&job)
                    .is_some_and(|slot| matches!(slot.activity, Activity::Terminating));
                self.set(job, Activity::Ended { ending, was_stopped }, &mut effects);
            }
            Input::Swept { job, streams } => {
                self.set(job, Activity::Swept(streams), &mut effects);
            }
            Input::Tick => self.tick(elapsed, &mut effects),
            Input::ShutDown => self.shut_down(&mut effects),
        }
        self.take_more(&mut effects);
        effects
    }

    fn record(
        &mut self,
        elapsed: Duration,
        job: JobId,
        version: u64,
        event: JobRecorded,
        effects: &mut Vec<Effect>,
    ) {
        if let JobRecorded::Queued { label, .. } = event {
            if self.slots.contains_key(&job) {
                return;
            }
            let slot = Slot {
                label,
                version,
                state: JobState::New,
                worker: None,
                is_mine: false,
                stop_reason: None,
                started: None,
                activity: Activity::Idle,
                pending: None,
            };
            self.slots.insert(job, slot);
            self.queue.push(job);
            return;
        }
        let slot = self.slots.get_mut(&job).filter(|slot| slot.version < version);
        let Some(slot) = slot else { return };
        let next = event.transition().map(|transition| slot.state.next(transition));
        let Some(Ok(state)) = next else {
            tracing::error!(%job, state = ?slot.state, ?event, "job history is impossible");
            return;
        };
        (slot.version, slot.state, slot.pending) = (version, state, None);
        match event {
            JobRecorded::Activating { worker, .. } => {
                slot.worker = Some(worker);
                slot.is_mine = worker == self.worker;
            }
            JobRecorded::Running { worker, .. } => {
                slot.worker = Some(worker);
                slot.is_mine = worker == self.worker;
                slot.started = Some(elapsed);
            }
            JobRecorded::Stopping { reason, .. } => slot.stop_reason = Some(reason),
            _ => {}
        }
        self.queue.remove(job);
        if state.is_final() {
            self.release(job, effects);
        } else {
            self.settle(job, effects);
        }
    }

    fn release(&mut self, job: JobId, effects: &mut Vec<Effect>) {
        let Some(slot) = self.slots.remove(&job) else { return };
        match slot.activity {
            Activity::Preparing | Activity::Prepared(_) => effects.push(Effect::Abandon { job }),
            // Only another writer's event can end a job that runs here; its processes go with it.
            Activity::Executing => effects.push(Effect::Stop { job }),
            _ => {}
        }
    }

    fn set(&mut self, job: JobId, activity: Activity, effects: &mut Vec<Effect>) {
        let is_prepared = matches!(activity, Activity::Prepared(_));
        let slot = self.slots.get_mut(&job);
        match slot.filter(|slot| !matches!(slot.activity, Activity::Abandoned)) {
            Some(slot) => {
                slot.activity = activity;
                self.settle(job, effects);
            }
            // It was given up while it was prepared.
            None if is_prepared => effects.push(Effect::Abandon { job }),
            None => {}
        }
    }

    fn not_appended(&mut self, job: JobId, expected: u64, is_conflict: bool) {
        let slot = self.slots.get_mut(&job).filter(|slot| slot.version == expected);
        let Some(slot) = slot else { return };
        // After a conflict the append stays pending: what was written in its place, maybe by an
        // append of its own whose answer was lost, is about to be told.
        if let Some(pending) = &mut slot.pending {
            pending.must_retry = !is_conflict;
        }
    }

    fn tick(&mut self, elapsed: Duration, effects: &mut Vec<Effect>) {
        let limit = self.settings.time_limit;
        for (job, slot) in &mut self.slots {
            if let Some(pending) = &mut slot.pending {
                if std::mem::take(&mut pending.must_retry) {
                    let event = pending.event.clone();
                    effects.push(Effect::Append { job: *job, expected: slot.version, event });
                }
                continue;
            }
            let is_running = slot.state == JobState::Running;
            let executes = matches!(slot.activity, Activity::Executing);
            let over = limit
                .zip(slot.started)
                .filter(|(limit, started)| elapsed.saturating_sub(*started) >= *limit);
            if let Some((limit, _)) = over.filter(|_| is_running && executes) {
                let reason = format!("the time limit of {} seconds was reached", limit.as_secs());
                append(*job, slot, effects, |label| JobRecorded::Stopping { label, reason });
            }
        }
    }

    fn shut_down(&mut self, effects: &mut Vec<Effect>) {
        self.is_shutting_down = true;
        for (job, slot) in &mut self.slots {
            match slot.activity {
                Activity::Executing => {
                    slot.activity = Activity::Terminating;
                    effects.push(Effect::Stop { job: *job });
                }
                Activity::Preparing | Activity::Prepared(_) => {
                    slot.activity = Activity::Abandoned;
                    effects.push(Effect::Abandon { job: *job });
                }
                _ => {}
            }
        }
    }

    /// Takes waiting jobs while there is room.
    fn take_more(&mut self, effects: &mut Vec<Effect>) {
        if !self.is_live || self.is_shutting_down {
            return;
        }
        let mut taken = self.slots.values().filter(|slot| slot.is_taken()).count();
        while taken < self.settings.concurrency {
            let Some(job) = self.queue.pop() else { return };
            let worker = self.worker;
            if let Some(slot) = self.slots.get_mut(&job) {
                append(job, slot, effects, |label| JobRecorded::Activating { label, worker });
                taken += 1;
            }
        }
    }

    /// Does what follows from a job's recorded state and what this worker is doing for it.
    fn settle(&mut self, job: JobId, effects: &mut Vec<Effect>) {
        let (worker, is_live, is_leaving) = (self.worker, self.is_live, self.is_shutting_down);
        let Some(slot) = self.slots.get_mut(&job) else { return };
        if !is_live || !slot.is_mine || slot.pending.is_some() {
            return;
        }
        match (slot.state, slot.activity.clone()) {
            (JobState::Activating, Activity::Idle) if !is_leaving => {
                slot.activity = Activity::Preparing;
                effects.push(Effect::Prepare { job });
            }
            (JobState::Activating, Activity::Prepared(isolation)) if !is_leaving => {
                append(job, slot, effects, |label| JobRecorded::Running {
                    label,
                    worker,
                    isolation,
                });
            }
            (JobState::Activating, Activity::Refused(exception)) => {
                append(job, slot, effects, |label| failed(label, exception, None));
            }
            (JobState::Running, Activity::Prepared(_)) => {
                slot.activity = Activity::Executing;
                effects.push(Effect::Run { job });
                if is_leaving {
                    slot.activity = Activity::Terminating;
                    effects.push(Effect::Stop { job });
                }
            }
            (JobState::Running | JobState::Stopping, Activity::Idle) => {
                slot.activity = Activity::Sweeping;
                effects.push(Effect::Sweep { job });
            }
            (JobState::Running, Activity::Swept(streams)) => {
                let exception = "the worker was restarted while the job ran".to_owned();
                append(job, slot, effects, |label| failed(label, exception, streams));
            }
            (JobState::Running, Activity::Abandoned) => {
                let exception = "the worker was shut down before the job ran".to_owned();
                append(job, slot, effects, |label| failed(label, exception, None));
            }
            (JobState::Running, Activity::Ended { ending, was_stopped }) => {
                append(job, slot, effects, |label| finished(label, ending, was_stopped));
            }
            (JobState::Stopping, activity) => settle_stopping(job, slot, activity, effects),
            _ => {}
        }
    }
}

fn settle_stopping(job: JobId, slot: &mut Slot, activity: Activity, effects: &mut Vec<Effect>) {
    match activity {
        Activity::Executing => {
            slot.activity = Activity::Terminating;
            effects.push(Effect::Stop { job });
        }
        Activity::Prepared(_) => {
            slot.activity = Activity::Abandoned;
            effects.push(Effect::Abandon { job });
            append_stopped(job, slot, effects, None);
        }
        Activity::Refused(_) | Activity::Abandoned => append_stopped(job, slot, effects, None),
        Activity::Swept(streams) => append_stopped(job, slot, effects, streams),
        // A process that would not end, or streams that could not be kept, make a failure of a stop.
        Activity::Ended { ending, was_stopped: true }
            if ending.are_processes_gone && ending.streams.is_some() =>
        {
            append_stopped(job, slot, effects, ending.streams);
        }
        // Or it ended by itself before it was touched: the finish wins the race.
        Activity::Ended { ending, .. } => {
            append(job, slot, effects, |label| finished(label, ending, false));
        }
        Activity::Idle | Activity::Preparing | Activity::Terminating | Activity::Sweeping => {}
    }
}

fn append_stopped(
    job: JobId,
    slot: &mut Slot,
    effects: &mut Vec<Effect>,
    streams: Option<StreamSummary>,
) {
    let reason = slot.stop_reason.clone().unwrap_or_default();
    append(job, slot, effects, |label| JobRecorded::Stopped { label, reason, streams });
}

fn append(
    job: JobId,
    slot: &mut Slot,
    effects: &mut Vec<Effect>,
    event: impl FnOnce(JobLabel) -> JobRecorded,
) {
    let event = event(slot.label.clone());
    slot.pending = Some(Pending { event: event.clone(), must_retry: false });
    effects.push(Effect::Append { job, expected: slot.version, event });
}

fn failed(label: JobLabel, exception: String, streams: Option<StreamSummary>) -> JobRecorded {
    JobRecorded::Failed { label, exception, exit_code: None, streams }
}

fn finished(label: JobLabel, ending: Ending, was_stopped: bool) -> JobRecorded {
    let Ending { exception, exit_code, streams, .. } = ending;
    match (exception, streams) {
        _ if was_stopped => {
            failed(label, "the worker was shut down while the job ran".to_owned(), streams)
        }
        (None, Some(streams)) => JobRecorded::Completed { label, streams },
        (exception, streams) => {
            let exception = exception.unwrap_or_else(|| "its streams were not kept".to_owned());
            JobRecorded::Failed { label, exception, exit_code, streams }
        }
    }
}
