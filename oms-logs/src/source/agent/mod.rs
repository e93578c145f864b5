//! The agent on a computer: it collects, keeps and delivers.

mod gather;
mod outbox;
mod spool;

use super::heartbeat::{Heartbeat, HostFiles};
use super::perf::Perf;
use super::{DataSource, Every, Moment, Notes, SOURCE_SYSTEM, SourceError};
use gather::{Gathered, Gatherer};
use jiff::SignedDuration;
use oms_core::id::SourceId;
use oms_core::record::{Batch, SinkError};
use oms_core::source::{ConnectedSource, SourceKind};
use oms_core::{
    Clock, Disk, Entropy, ErrorKind, LocalDisk, Record, RecordSink, SystemClock, SystemEntropy,
};
use outbox::{Effect, Input, Outbox};
use serde::{Deserialize, Serialize};
use spool::Spool;
use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The most data sources of one agent.
pub const SOURCES_MAX: usize = 1_000;

/// How often a computer says that it is there, and samples its counters.
const SAMPLE_EVERY: Duration = Duration::from_secs(60);

/// The file that stands for the use of the state.
const LOCK_FILE: &str = "lock";

/// How an agent works.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentSettings {
    /// The time between two rounds of collection and delivery.
    pub interval: SignedDuration,
    /// The most batches that wait for the sink. Then collection stops; logs wait in their files.
    pub spool_batches_max: usize,
    /// The most bytes that wait for the sink, exceeded by at most one batch.
    pub spool_bytes_max: u64,
}

impl Default for AgentSettings {
    /// Every 10 seconds; 10,000 batches or 256 MiB.
    fn default() -> Self {
        Self {
            interval: SignedDuration::from_secs(10),
            spool_batches_max: 10_000,
            spool_bytes_max: 256 * 1024 * 1024,
        }
    }
}

/// A data source that failed in a round. It is asked again in the next one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SourceFailure {
    /// Its name.
    pub source: String,
    /// What can be done about it.
    pub kind: ErrorKind,
    /// The error with its causes.
    pub error: String,
}

/// What a round did.
#[derive(Debug, Default)]
pub struct CollectReport {
    /// How many records were collected and stored.
    pub collected_records: usize,
    /// How many batches the sink took.
    pub written_batches: usize,
    /// How many records the sink took.
    pub written_records: usize,
    /// How many batches wait for the sink now.
    pub pending_batches: usize,
    /// Whether collection was left out because too much waits for the sink.
    pub spool_full: bool,
    /// What was changed or lost on the way.
    pub notes: Notes,
    /// The data sources that failed.
    pub failures: Vec<SourceFailure>,
    /// Why the last batch was not taken, if it was not. It is sent again later.
    pub delivery: Option<SinkError>,
}

/// A computer's agent: one connected source.
///
/// Each round collects from the data sources into numbered batches, stores them, and hands them to
/// the sink in order. A batch stays stored until the sink has it durably, and is sent again with the
/// same number and records after a lost answer or a restart, so the sink gets every record once.
///
/// Trouble is collected, too: a data source that fails, a gap in a log and a batch that the sink
/// refuses for good each become an `Operation` record.
///
/// ```
/// # use oms_core::record::{Batch, RecordSink, SinkError};
/// # use std::sync::{Arc, Mutex};
/// # #[derive(Debug, Default)]
/// # struct Memory(Mutex<Vec<Batch>>);
/// # #[async_trait::async_trait]
/// # impl RecordSink for Memory {
/// #     async fn write(&self, batch: Batch) -> Result<(), SinkError> {
/// #         self.0.lock().unwrap().push(batch);
/// #         Ok(())
/// #     }
/// # }
/// use oms_logs::source::{Agent, syslog::SyslogFile, tail::StartAt};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// # let folder = tempfile::tempdir()?;
/// let log = folder.path().join("syslog");
/// std::fs::write(&log, "Nov 24 15:00:00 web-1 sshd[7]: Accepted publickey for root\n")?;
/// let sink = Arc::new(Memory::default());
/// let agent = Agent::builder(sink.clone())
///     .state_dir(folder.path().join("agent"))
///     .this_computer()
///     .source(SyslogFile::new(&log, StartAt::Beginning, jiff::tz::TimeZone::UTC))
///     .build()?;
/// let report = agent.collect_once().await?;
/// assert_eq!(report.pending_batches, 0);
/// let batches = sink.0.lock().unwrap();
/// assert!(batches[0].records.iter().any(|record| record.record_type.as_str() == "Syslog"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct Agent {
    settings: AgentSettings,
    identity: ConnectedSource,
    sink: Arc<dyn RecordSink>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    gatherer: Arc<Mutex<Gatherer>>,
    /// Held through a round, so that rounds do not mix.
    outbox: tokio::sync::Mutex<Outbox>,
}

impl Agent {
    /// Begins an agent that delivers to `sink`.
    pub fn builder(sink: Arc<dyn RecordSink>) -> AgentBuilder {
        AgentBuilder {
            sink,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            settings: AgentSettings::default(),
            state: None,
            computer: None,
            files: HostFiles::default(),
            sources: Vec::new(),
        }
    }

    /// Who this agent is: its identity, which is also the producer of its batches, and its computer.
    #[must_use]
    pub fn connected_source(&self) -> &ConnectedSource {
        &self.identity
    }

    /// Does one round: delivers what waits, collects, delivers that.
    ///
    /// A sink or data source that fails is in the report, not an error. The caller may give up
    /// waiting at any time; the next round goes on from what became durable.
    ///
    /// # Errors
    /// [`SourceError::State`] or [`SourceError::Corrupt`] if the agent's own state cannot be read
    /// or written. Nothing is lost; the next round goes on.
    pub async fn collect_once(&self) -> Result<CollectReport, SourceError> {
        let mut outbox = self.outbox.lock().await;
        let mut report = CollectReport::default();
        let known = outbox.next_sequence();
        let stored = self
            .blocking(move |gatherer| {
                gatherer.begin_round();
                Ok(gatherer.stored_since(known))
            })
            .await?;
        let step = |outbox: &mut Outbox, inputs: Vec<Input>| -> VecDeque<Effect> {
            let now = self.clock.monotonic();
            let one = |input| outbox.step(now, self.entropy.as_ref(), input);
            inputs.into_iter().flat_map(one).collect()
        };
        let mut inputs = spooled(stored);
        inputs.push(Input::Begin);
        let mut effects = step(&mut outbox, inputs);
        while let Some(effect) = effects.pop_front() {
            let inputs = self.perform(effect, outbox.next_sequence(), &mut report).await?;
            effects.extend(step(&mut outbox, inputs));
        }
        report.pending_batches = outbox.pending();
        report.spool_full = outbox.is_full();
        Ok(report)
    }

    /// Does rounds until `stop` is ready. A round that has begun is finished.
    pub async fn run(&self, stop: impl Future<Output = ()> + Send) {
        tokio::pin!(stop);
        let interval = self.settings.interval.unsigned_abs();
        loop {
            match self.collect_once().await {
                Ok(report) => {
                    for failure in &report.failures {
                        tracing::warn!(source = %failure.source, error = %failure.error, "data source failed");
                    }
                    if let Some(error) = &report.delivery {
                        tracing::warn!(%error, pending = report.pending_batches, "batch not delivered");
                    }
                }
                Err(error) => tracing::error!(error = %error.chain(), "round failed"),
            }
            let retry = self.outbox.lock().await.retry_in(self.clock.monotonic());
            // A retry that is due at once waits for the clock to move all the same.
            let retry = retry.map_or(interval, |retry| retry.max(Duration::from_millis(100)));
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(interval.min(retry)) => {}
            }
        }
    }

    /// Performs an effect; answers what came of it. `known` is the first sequence that the outbox
    /// does not know of.
    async fn perform(
        &self,
        effect: Effect,
        known: u64,
        report: &mut CollectReport,
    ) -> Result<Vec<Input>, SourceError> {
        match effect {
            Effect::Collect => {
                let (gathered, stored) = self.gather(known).await?;
                report.notes.add(gathered.notes);
                report.failures.extend(gathered.failures);
                report.collected_records += gathered.records;
                let mut inputs = spooled(stored);
                inputs.push(Input::Collected { more: gathered.more });
                Ok(inputs)
            }
            Effect::Send { sequence } => Ok(vec![self.send(sequence, report).await?]),
            Effect::Forget { sequence } => {
                self.blocking(move |gatherer| gatherer.spool().forget(sequence)).await?;
                Ok(Vec::new())
            }
            Effect::Replace { sequence } => {
                let reason = report.delivery.as_ref().map(ToString::to_string).unwrap_or_default();
                let detail = format!("batch {sequence} was refused and put aside: {reason}");
                let notice = operation(&self.moment(), "Error", detail)?;
                self.blocking(move |gatherer| gatherer.spool().replace(sequence, notice)).await?;
                Ok(vec![Input::Replaced { sequence }])
            }
        }
    }

    async fn send(&self, sequence: u64, report: &mut CollectReport) -> Result<Input, SourceError> {
        let stored = self.blocking(move |gatherer| gatherer.spool().get(sequence)).await?;
        let records = stored.records.len();
        let producer = self.identity.id.to_string();
        let answer = self.sink.write(Batch { producer, sequence, records: stored.records }).await;
        let error = match answer {
            Ok(()) => {
                report.written_batches += 1;
                report.written_records += records;
                return Ok(Input::Acknowledged { sequence });
            }
            Err(error) => error,
        };
        let input = match &error {
            SinkError::Refused { .. } => Input::Refused { sequence },
            SinkError::Busy { retry_after_ms } => {
                let retry_after = Some(Duration::from_millis(*retry_after_ms));
                Input::Deferred { sequence, retry_after }
            }
            _ => Input::Deferred { sequence, retry_after: None },
        };
        report.delivery = Some(error);
        Ok(input)
    }

    /// Collects; answers also the stored batches from sequence `known` on.
    async fn gather(&self, known: u64) -> Result<(Gathered, Vec<(u64, u64)>), SourceError> {
        let clock = Arc::clone(&self.clock);
        let (computer, source) = (self.identity.computer.clone(), self.identity.id);
        self.blocking(move |gatherer| {
            let (now, monotonic) = (clock.now(), clock.monotonic());
            let at = Moment { now, monotonic, computer: &computer, source };
            let gathered = gatherer.collect(&at)?;
            Ok((gathered, gatherer.stored_since(known)))
        })
        .await
    }

    fn moment(&self) -> Moment<'_> {
        Moment {
            now: self.clock.now(),
            monotonic: self.clock.monotonic(),
            computer: &self.identity.computer,
            source: self.identity.id,
        }
    }

    /// Runs what blocks on a thread for that.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Gatherer) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        let gatherer = Arc::clone(&self.gatherer);
        let run = move || work(&mut gatherer.lock().unwrap_or_else(PoisonError::into_inner));
        oms_core::task::blocking(run).await
    }
}

/// Where an agent keeps its state.
#[derive(Debug)]
enum State {
    Folder(PathBuf),
    Disk(Arc<dyn Disk>),
}

/// Puts an agent together.
#[derive(Debug)]
#[must_use]
pub struct AgentBuilder {
    sink: Arc<dyn RecordSink>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    settings: AgentSettings,
    state: Option<State>,
    computer: Option<String>,
    files: HostFiles,
    sources: Vec<Box<dyn DataSource>>,
}

impl AgentBuilder {
    /// Keeps the state in a folder, which is made if it is missing. Two agents cannot share one.
    pub fn state_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.state = Some(State::Folder(path.into()));
        self
    }

    /// Keeps the state on a disk, which no other agent uses.
    pub fn state_disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.state = Some(State::Disk(disk));
        self
    }

    /// Reads the time from `clock` instead of the operating system.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Draws the identity and delays from `entropy` instead of the operating system.
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// Works with other settings than the defaults.
    pub fn settings(mut self, settings: AgentSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Names the computer, instead of the kernel's name for it without the domain.
    pub fn computer(mut self, name: impl Into<String>) -> Self {
        self.computer = Some(name.into());
        self
    }

    /// Adds a data source. They are asked in the order they were added.
    pub fn source(mut self, source: impl DataSource + 'static) -> Self {
        self.sources.push(Box::new(source));
        self
    }

    /// Adds the heartbeat and the performance counters of this computer, once a minute.
    pub fn this_computer(self) -> Self {
        let heartbeat = Heartbeat::new(self.files.clone());
        let perf = Perf::new();
        self.source(Every::new(heartbeat, SAMPLE_EVERY)).source(Every::new(perf, SAMPLE_EVERY))
    }

    /// Opens the state and begins where the agent stopped.
    ///
    /// # Errors
    /// [`SourceError::Setting`] without a place for the state, or with two data sources of one name;
    /// [`SourceError::InUse`]; [`SourceError::Corrupt`]; [`SourceError::State`]; those of reading
    /// the computer's name.
    pub fn build(self) -> Result<Agent, SourceError> {
        let mut names = BTreeSet::new();
        for source in &self.sources {
            if !names.insert(source.name().to_owned()) {
                return Err(SourceError::setting("data source", source.name(), "added twice"));
            }
        }
        if names.len() > SOURCES_MAX {
            let count = names.len().to_string();
            return Err(SourceError::setting("data sources", &count, "more than 1000"));
        }
        if self.settings.interval <= SignedDuration::ZERO {
            let value = self.settings.interval.to_string();
            return Err(SourceError::setting("interval", &value, "not longer than nothing"));
        }
        let computer = match self.computer {
            Some(computer) => computer,
            None => self.files.computer()?,
        };
        let disk: Arc<dyn Disk> = match self.state {
            Some(State::Folder(path)) => Arc::new(LocalDisk::new(&path)?),
            Some(State::Disk(disk)) => disk,
            None => return Err(SourceError::setting("state", "", "no place was given")),
        };
        let lock = disk.lock(Path::new(LOCK_FILE)).map_err(|error| match error.is_locked() {
            true => SourceError::InUse { path: error.path },
            false => error.into(),
        })?;
        let (spool, found) = Spool::open(disk, self.entropy.as_ref(), self.clock.now())?;
        let last_sequence = found.acknowledged + found.pending.len() as u64;
        let outbox = Outbox::new(
            found.acknowledged,
            found.pending,
            self.settings.spool_batches_max,
            self.settings.spool_bytes_max,
        );
        let gatherer = Gatherer::new(self.sources, spool, found.positions, last_sequence, lock)?;
        Ok(Agent {
            settings: self.settings,
            identity: ConnectedSource {
                id: found.identity.source,
                kind: SourceKind::DirectAgent,
                computer,
                connected: found.identity.connected,
                last_heartbeat: None,
                certificate_thumbprint: None,
            },
            sink: self.sink,
            clock: self.clock,
            entropy: self.entropy,
            gatherer: Arc::new(Mutex::new(gatherer)),
            outbox: tokio::sync::Mutex::new(outbox),
        })
    }
}

/// Tells the outbox of stored batches, given as sequence and size.
fn spooled(stored: Vec<(u64, u64)>) -> Vec<Input> {
    stored.into_iter().map(|(sequence, bytes)| Input::Spooled { sequence, bytes }).collect()
}

/// What the agent says about its own work.
fn operation(at: &Moment<'_>, status: &str, detail: String) -> Result<Record, SourceError> {
    let mut detail = detail;
    super::cut_to_field(&mut detail);
    let source: SourceId = at.source;
    Ok(Record::new("Operation".parse()?, at.now, at.computer)
        .with("Detail", detail)
        .with("OperationCategory", "Agent")
        .with("OperationStatus", status)
        .with("Solution", "LogManagement")
        .with("SourceComputerId", source.to_string())
        .with("SourceSystem", SOURCE_SYSTEM))
}
