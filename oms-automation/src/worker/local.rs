//! The worker inside the account's own process.

use super::isolation::Support;
use super::system::sweep;
use super::{Applied, Marker, WorkerRunId};
use crate::Error;
use crate::executor::process::{self, Launch, RunContext, sandbox};
use crate::job::engine::{Effect, Ending, Engine, EngineSettings, Input};
use crate::job::{self, Admission, Job, JobId, JobRecorded, JobState};
use crate::runbook::ContentStore;
use crate::settings::{AccountName, AutomationSettings};
use crate::stream::{Redactor, StreamStore, StreamSummary};
use oms_core::clock::Stopwatch;
use oms_core::disk::DiskLock;
use oms_core::journal::{
    Event, HistoryId, Journal, JournalError, JournalEvent as _, JournalExt, Snapshot,
};
use oms_core::lifecycle::Lifecycle;
use oms_core::task::{blocking, offload};
use oms_core::{Clock, Entropy};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tracing::Instrument as _;
use tracing::field::Empty;

/// The kind of the histories of workers.
pub(crate) const WORKER_HISTORY: &str = "automation-worker";

/// How often time limits are looked at and failed appends are tried again while there are any.
const TICK: Duration = Duration::from_millis(200);

/// How long the worker waits after the journal could not be read.
const JOURNAL_PAUSE: Duration = Duration::from_millis(500);

/// How often a job that is to be prepared is read again when the journal cannot answer.
const PREPARE_TRIES_MAX: u32 = 20;

/// How many events are read at a time.
const FOLLOW_EVENTS_MAX: usize = 1_000;

/// After how many events the worker's place in the journal is kept, so that the next life need not
/// read from the beginning.
const SNAPSHOT_EVENTS: usize = 1_000;

/// What the account and its worker share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) account: AccountName,
    pub(crate) settings: AutomationSettings,
    pub(crate) support: Support,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) content: ContentStore,
    pub(crate) streams: StreamStore,
    pub(crate) redactor: Redactor,
    pub(crate) admission: Admission,
    /// The folder of all jobs' folders, absolute.
    pub(crate) sandboxes: PathBuf,
    /// Held for as long as anything uses the account's folder.
    #[expect(dead_code, reason = "its lock is what counts")]
    pub(crate) lock: DiskLock,
}

impl Shared {
    /// Reads a job; none if there is none of that id.
    pub(crate) async fn job(&self, id: JobId) -> Result<Option<Job>, Error> {
        Job::read(&*self.journal, &job::history(&self.account, id)?, id).await
    }
}

/// What a worker's history holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "body")]
enum WorkerRecorded {
    /// A life of the worker began.
    #[serde(rename = "worker-started")]
    Started { worker: WorkerRunId, support: Support },
}

oms_core::journal_event!(WorkerRecorded, format 1, content, {
    Self::Started { .. } => "worker-started",
});

/// The worker's place in the journal and the jobs that were open there.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Place {
    position: u64,
    open: Vec<JobId>,
}

impl Place {
    const FORMAT: u16 = 1;

    fn open(snapshot: Snapshot) -> Result<Self, JournalError> {
        if snapshot.format > Self::FORMAT {
            let (found, known) = (snapshot.format.into(), Self::FORMAT.into());
            return Err(JournalError::Newer { found, known });
        }
        serde_json::from_value(snapshot.body).map_err(Self::misfit)
    }

    fn seal(&self, version: u64) -> Result<Snapshot, JournalError> {
        let body = serde_json::to_value(self).map_err(Self::misfit)?;
        Ok(Snapshot { version, format: Self::FORMAT, body })
    }

    fn misfit(source: serde_json::Error) -> JournalError {
        JournalError::Body { kind: "automation-worker-place".to_owned(), source }
    }
}

/// What a task found out.
#[derive(Debug)]
enum Outcome {
    Prepared(Box<Result<(Launch, Applied), Error>>),
    Ended(Ending),
    Swept(Option<StreamSummary>),
    Cleaned,
}

/// Takes jobs from the journal and runs them.
#[derive(Debug)]
pub(crate) struct LocalWorker {
    shared: Arc<Shared>,
    engine: Engine,
    history: HistoryId,
    /// How many events the worker's history has.
    version: u64,
    position: u64,
    unsaved: usize,
    is_live: bool,
    inputs: VecDeque<Input>,
    tasks: JoinSet<Outcome>,
    task_jobs: HashMap<Id, JobId>,
    launches: HashMap<JobId, Launch>,
    stops: HashMap<JobId, watch::Sender<bool>>,
}

impl LocalWorker {
    /// Begins a life of the worker: reads what is open, and begins to see to it.
    pub(crate) async fn start(shared: Arc<Shared>) -> Result<Self, Error> {
        let worker = WorkerRunId::draw(shared.entropy.as_ref());
        let history = HistoryId::new(WORKER_HISTORY, shared.account.as_str())?;
        let support = shared.support;
        let event = WorkerRecorded::Started { worker, support };
        let version = shared.journal.read_whole(&history).await?.len() as u64;
        let now = shared.clock.now();
        let version = shared.journal.append_event(&history, version, &event, now, "worker").await?;
        let settings = EngineSettings {
            concurrency: shared.settings.concurrency,
            time_limit: shared.settings.time_limit.map(|limit| limit.unsigned_abs()),
        };
        let mut worker = Self {
            shared,
            engine: Engine::new(worker, settings),
            history,
            version,
            position: 0,
            unsaved: 0,
            is_live: false,
            inputs: VecDeque::new(),
            tasks: JoinSet::new(),
            task_jobs: HashMap::new(),
            launches: HashMap::new(),
            stops: HashMap::new(),
        };
        worker.recover().await?;
        Ok(worker)
    }

    async fn recover(&mut self) -> Result<(), Error> {
        let place = match self.shared.journal.snapshot(&self.history).await? {
            Some(snapshot) => Place::open(snapshot)?,
            None => Place::default(),
        };
        self.position = place.position;
        for job in place.open {
            let history = job::history(&self.shared.account, job)?;
            for event in self.shared.journal.read_whole(&history).await? {
                self.record(job, &event)?;
            }
            self.work().await;
        }
        self.follow().await?;
        self.work().await;
        let open = self.engine.open_jobs();
        open.iter().for_each(|_| self.shared.admission.readmit());
        let (sandboxes, clear) = (self.shared.sandboxes.clone(), open);
        blocking(move || clear_sandboxes(&sandboxes, &clear)).await?;
        self.save_place().await?;
        self.is_live = true;
        self.inputs.push_back(Input::CaughtUp);
        self.work().await;
        Ok(())
    }

    /// Works until told to end, then ends what runs and returns.
    pub(crate) async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut is_told = false;
        let journal = Arc::clone(&self.shared.journal);
        while !self.engine.is_drained() {
            tokio::select! {
                () = is_set(&mut shutdown), if !is_told => {
                    is_told = true;
                    self.inputs.push_back(Input::ShutDown);
                }
                Some(done) = self.tasks.join_next_with_id() => self.take(done),
                head = journal.wait(self.position) => {
                    let followed = match head {
                        Ok(_) => self.follow().await,
                        Err(error) => Err(error.into()),
                    };
                    if let Err(error) = followed {
                        tracing::warn!(error = %error.describe(), "worker cannot read its journal");
                        tokio::time::sleep(JOURNAL_PAUSE).await;
                    }
                }
                _ = ticks.tick(), if self.engine.needs_ticks() => {
                    self.inputs.push_back(Input::Tick);
                }
            }
            self.work().await;
            if self.unsaved >= SNAPSHOT_EVENTS
                && let Err(error) = self.save_place().await
            {
                // The next life reads more; nothing is lost.
                tracing::warn!(error = %error.describe(), "worker cannot keep its place");
                self.unsaved = 0;
            }
        }
        while self.tasks.join_next().await.is_some() {}
    }

    /// Reads what the journal holds after the worker's place.
    async fn follow(&mut self) -> Result<(), Error> {
        loop {
            let events = self.shared.journal.read_all(self.position, FOLLOW_EVENTS_MAX).await?;
            for event in &events {
                self.position = event.position;
                self.unsaved += 1;
                if let Some(job) = job::job_of(&self.shared.account, &event.history)
                    && let Err(error) = self.record(job, event)
                {
                    tracing::error!(%job, error = %error.describe(), "job event is unreadable");
                }
            }
            if events.is_empty() {
                return Ok(());
            }
            self.work().await;
        }
    }

    fn record(&mut self, job: JobId, event: &Event) -> Result<(), Error> {
        let event_of_job = JobRecorded::open(&event.envelope)?;
        let version = event.version;
        self.inputs.push_back(Input::Recorded { job, version, event: event_of_job });
        Ok(())
    }

    async fn save_place(&mut self) -> Result<(), Error> {
        let place = Place { position: self.position, open: self.engine.open_jobs() };
        let snapshot = place.seal(self.version)?;
        self.shared.journal.save_snapshot(&self.history, snapshot).await?;
        self.unsaved = 0;
        Ok(())
    }

    /// Tells the engine everything that is to be told, and does what it wants.
    async fn work(&mut self) {
        while let Some(input) = self.inputs.pop_front() {
            let ended = match &input {
                Input::Recorded { event, .. } if self.is_live => event
                    .transition()
                    .and_then(|transition| JobState::Stopping.next(transition).ok())
                    .filter(|state| state.is_final()),
                _ => None,
            };
            let elapsed = self.shared.clock.monotonic();
            for effect in self.engine.step(elapsed, input) {
                self.perform(effect).await;
            }
            if let Some(state) = ended {
                let state = format!("{state:?}");
                metrics::counter!("oms_automation_jobs_total", "state" => state).increment(1);
                self.shared.admission.release();
            }
        }
    }

    async fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Append { job, expected, event } => self.append(job, expected, &event).await,
            Effect::Prepare { job } => {
                let shared = Arc::clone(&self.shared);
                self.spawn(
                    job,
                    async move { Outcome::Prepared(Box::new(prepare(&shared, job).await)) },
                );
            }
            Effect::Run { job } => self.run_job(job),
            Effect::Stop { job } => {
                if let Some(stop) = self.stops.get(&job) {
                    stop.send_replace(true);
                }
            }
            Effect::Sweep { job } => {
                let shared = Arc::clone(&self.shared);
                let sweep = offload(move || sweep_job(&shared, job));
                self.spawn(job, async move { Outcome::Swept(sweep.await.unwrap_or_default()) });
            }
            Effect::Abandon { job } => {
                self.launches.remove(&job);
                self.clean(job);
            }
        }
    }

    async fn append(&mut self, job: JobId, expected: u64, event: &JobRecorded) {
        let appended = async {
            let history = job::history(&self.shared.account, job)?;
            let now = self.shared.clock.now();
            self.shared.journal.append_event(&history, expected, event, now, "worker").await?;
            Ok::<(), Error>(())
        };
        if let Err(error) = appended.await {
            let is_conflict = matches!(error, Error::Journal(JournalError::Conflict { .. }));
            tracing::warn!(%job, error = %error.describe(), "job event was not appended");
            self.inputs.push_back(Input::NotAppended { job, expected, is_conflict });
        }
    }

    fn run_job(&mut self, job: JobId) {
        let (stop, stopped) = watch::channel(false);
        self.stops.insert(job, stop);
        let shared = Arc::clone(&self.shared);
        let launch = self.launches.remove(&job);
        self.spawn(job, async move { Outcome::Ended(run(&shared, job, launch, stopped).await) });
    }

    fn spawn(&mut self, job: JobId, task: impl Future<Output = Outcome> + Send + 'static) {
        let handle = self.tasks.spawn(task);
        self.task_jobs.insert(handle.id(), job);
    }

    fn clean(&mut self, job: JobId) {
        let folder = sandbox(&self.shared, job);
        self.spawn(job, async move {
            let _ = offload(move || remove_folder(&folder)).await;
            Outcome::Cleaned
        });
    }

    fn take(&mut self, done: Result<(Id, Outcome), JoinError>) {
        let (id, outcome) = match done {
            Ok((id, outcome)) => (id, outcome),
            Err(error) => {
                let id = error.id();
                let exception = Some(format!("the worker's task failed: {error}"));
                let ending =
                    Ending { exception, exit_code: None, are_processes_gone: false, streams: None };
                (id, Outcome::Ended(ending))
            }
        };
        let Some(job) = self.task_jobs.remove(&id) else { return };
        let input = match outcome {
            Outcome::Prepared(prepared) => match *prepared {
                Ok((launch, isolation)) => {
                    self.launches.insert(job, launch);
                    Input::Prepared { job, isolation }
                }
                Err(error) => {
                    self.clean(job);
                    Input::Refused { job, reason: error.describe() }
                }
            },
            Outcome::Ended(ending) => {
                self.stops.remove(&job);
                Input::Ended { job, ending }
            }
            Outcome::Swept(streams) => Input::Swept { job, streams },
            Outcome::Cleaned => return,
        };
        self.inputs.push_back(input);
    }
}

/// Waits until a flag is set, or nobody is left to set it.
pub(crate) async fn is_set(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|is_set| *is_set).await;
}

async fn prepare(shared: &Arc<Shared>, id: JobId) -> Result<(Launch, Applied), Error> {
    let mut tries = 0;
    let job = loop {
        match shared.job(id).await {
            Ok(job) => break job.ok_or(Error::JobNotFound { job: id })?,
            Err(error) if error.kind().is_retryable() && tries < PREPARE_TRIES_MAX => {
                tries += 1;
                tokio::time::sleep(JOURNAL_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    };
    process::prepare(shared, &job).await
}

async fn run(
    shared: &Arc<Shared>,
    id: JobId,
    launch: Option<Launch>,
    stop: watch::Receiver<bool>,
) -> Ending {
    let span = tracing::info_span!(
        "job",
        job = %id,
        account = %shared.account.as_str(),
        exit_code = Empty,
        stream_bytes = Empty,
        outcome = Empty
    );
    let watch = Stopwatch::start();
    let ending = execute(shared, id, launch, stop).instrument(span.clone()).await;
    let outcome = if ending.exception.is_none() { "ok" } else { "failed" };
    span.record("outcome", outcome);
    ending.exit_code.map(|code| span.record("exit_code", code));
    let bytes = ending.streams.map_or(0, |streams| streams.bytes);
    span.record("stream_bytes", bytes);
    metrics::counter!("oms_automation_stream_bytes_total").increment(bytes);
    metrics::histogram!("oms_automation_job_seconds", "outcome" => outcome).record(watch.seconds());
    ending
}

async fn execute(
    shared: &Arc<Shared>,
    id: JobId,
    launch: Option<Launch>,
    stop: watch::Receiver<bool>,
) -> Ending {
    let begun = async {
        let launch = launch.ok_or(Error::ShutDown)?;
        let streams = shared.streams.clone();
        let writer = blocking(move || streams.begin(id)).await?;
        Ok::<_, Error>((launch, writer))
    };
    match begun.await {
        Ok((launch, writer)) => {
            let context = RunContext {
                job: id,
                logs: launch.logs,
                clock: Arc::clone(&shared.clock),
                redactor: shared.redactor.clone(),
                record_bytes_max: shared.settings.streams.record_bytes_max,
                stop_grace: shared.settings.stop_grace.unsigned_abs(),
            };
            let ending = process::run(launch, context, writer, stop).await;
            let folder = sandbox(shared, id);
            let _ = offload(move || remove_folder(&folder)).await;
            ending
        }
        Err(error) => Ending {
            exception: Some(error.describe()),
            exit_code: None,
            are_processes_gone: true,
            streams: None,
        },
    }
}

/// Ends what a predecessor's job left.
fn sweep_job(shared: &Shared, job: JobId) -> Option<StreamSummary> {
    match sweep(Marker::new(job), None) {
        Ok(0) => {}
        Ok(count) => tracing::warn!(%job, count, "ended what a job left over a restart"),
        Err(error) => tracing::error!(error = %error.describe(), "a job's processes are left"),
    }
    remove_folder(&sandbox(shared, job));
    shared.streams.recover(job).unwrap_or_else(|error| {
        tracing::error!(%job, error = %error.describe(), "a job's streams cannot be recovered");
        None
    })
}

/// Removes a job's folder; one that cannot be removed now is removed at the next start.
fn remove_folder(folder: &Path) {
    if let Err(error) = process::remove_folder(folder) {
        tracing::warn!(error = %error.describe(), "a job's folder is left");
    }
}

/// Removes the folders of jobs that are not open; those of open jobs are seen to with their jobs.
fn clear_sandboxes(sandboxes: &Path, open: &[JobId]) -> Result<(), Error> {
    let entries = std::fs::read_dir(sandboxes);
    for entry in entries.map_err(crate::error::failed("list folder", sandboxes))?.flatten() {
        let job = entry.file_name().to_str().and_then(|name| name.parse::<JobId>().ok());
        let Some(job) = job.filter(|job| !open.contains(job)) else { continue };
        sweep(Marker::new(job), None)?;
        process::remove_folder(&entry.path())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::testkit::Fixture;

    #[test]
    fn every_event_of_a_worker_is_kept_and_read() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/events");
        Fixture::check::<WorkerRecorded>(&Fixture::all(&dir));
    }

    #[test]
    fn a_place_of_the_first_format_is_read_and_of_a_newer_one_refused() {
        let body = include_str!("../../tests/fixtures/snapshots/worker-place-1.json");
        let body = serde_json::from_str(body).expect("JSON");
        let kept = Snapshot { version: 1, format: 1, body };
        let place = Place::open(kept.clone()).expect("a place");
        let open: Vec<_> = place.open.iter().map(ToString::to_string).collect();
        assert_eq!(
            (place.position, open.join(",")),
            (41, "a22c25c1-a6a8-4c21-8c31-94e1a9da79c7".to_owned())
        );
        assert_eq!(place.seal(1).expect("JSON"), kept);
        let newer = Place::open(Snapshot { format: 2, ..kept }).expect_err("a newer format");
        assert!(matches!(newer, JournalError::Newer { found: 2, known: 1 }), "{newer}");
    }
}
