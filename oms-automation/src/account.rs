//! The front door: an automation account.

use crate::Error;
use crate::error::failed;
use crate::job::{self, Admission, Job, JobId, JobLabel, JobRecorded, JobState, JobTask};
use crate::runbook::{
    self, ContentStore, Named, PARAMETERS_BYTES_MAX, ParameterDefinition, PublishedVersion,
    Runbook, RunbookContent, RunbookEvent, RunbookId, RunbookName, RunbookRecorded, RunbookState,
};
use crate::settings::{
    AccountName, AutomationSettings, JobOptions, RunbookOptions, StreamQuery, check_settings,
};
use crate::stream::{Redactor, StreamRecord, StreamStore, StreamType};
use crate::worker::{LocalWorker, Shared, Support, isolation, system};
use oms_core::disk::DiskLock;
use oms_core::journal::{Journal, JournalError, JournalExt, READ_MAX};
use oms_core::lifecycle::Lifecycle;
use oms_core::task::blocking;
use oms_core::{Clock, Disk, Entropy, EntropyExt, LocalDisk, Secret, SystemClock, SystemEntropy};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often a change is tried again after someone else changed the same thing first.
const CONFLICTS_MAX: u32 = 10;

/// Makes an [`AutomationAccount`].
#[derive(Debug)]
#[must_use]
pub struct AutomationAccountBuilder {
    folder: PathBuf,
    journal: Option<Arc<dyn Journal>>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    settings: AutomationSettings,
    secrets: Vec<Secret>,
}

impl AutomationAccountBuilder {
    /// Where runbooks and jobs are recorded. There is no default: the journal of all services is
    /// one, and its owner gives it.
    pub fn journal(mut self, journal: Arc<dyn Journal>) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Another clock than the system's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Another randomness than the system's.
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// Other settings than the defaults.
    pub fn settings(mut self, settings: AutomationSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Values that are replaced by `***` wherever a job writes them.
    pub fn redact(mut self, secrets: impl IntoIterator<Item = Secret>) -> Self {
        self.secrets.extend(secrets);
        self
    }

    /// Opens the account and starts its worker on the current Tokio runtime. Jobs that were open
    /// are seen to: what may have run when the last process died is ended and Failed, what had not
    /// begun is taken again.
    ///
    /// # Errors
    /// [`Error::Setting`] (also if no journal was given), [`Error::IsolationUnavailable`], [`Error::InUse`] if another process has
    /// the folder open, and those of the journal and the disk.
    pub async fn build(self) -> Result<AutomationAccount, Error> {
        let account: AccountName = self.settings.account.parse()?;
        check_settings(&self.settings)?;
        let (folder, run_as) = (self.folder.clone(), self.settings.isolation.run_as);
        let (folder, lock) = blocking(move || open_folder(&folder, run_as.is_some())).await?;
        let support = Support::probe()?;
        isolation::check(&self.settings.isolation, support, &folder)?;
        let disk: Arc<dyn Disk> = Arc::new(LocalDisk::new(&folder)?);
        let Some(journal) = self.journal else {
            let reason = "none was given to the builder".to_owned();
            return Err(Error::Setting { name: "journal", reason });
        };
        let shared = Arc::new(Shared {
            account,
            support,
            journal,
            clock: self.clock,
            entropy: self.entropy,
            content: ContentStore::open(Arc::clone(&disk))?,
            streams: StreamStore::open(disk, self.settings.streams)?,
            redactor: Redactor::new(&self.secrets),
            admission: Admission::new(self.settings.open_jobs_max),
            sandboxes: folder.join(SANDBOXES),
            settings: self.settings,
            lock,
        });
        let worker = LocalWorker::start(Arc::clone(&shared)).await?;
        let (shutdown, told) = watch::channel(false);
        let worker = Mutex::new(Some(tokio::spawn(worker.run(told))));
        Ok(AutomationAccount { shared, shutdown, worker })
    }
}

/// The name of the folder of all jobs' folders.
const SANDBOXES: &str = "sandbox";

/// Makes the account's folder and takes its lock. Only its owner may look into it; jobs that run as
/// another user pass through to their own folder.
fn open_folder(folder: &Path, is_passed: bool) -> Result<(PathBuf, DiskLock), Error> {
    let disk = LocalDisk::new(folder)?;
    let folder = folder.canonicalize().map_err(failed("resolve", folder))?;
    let lock = disk.lock(Path::new("lock")).map_err(|error| match error.is_locked() {
        true => Error::InUse { folder: folder.clone() },
        false => error.into(),
    })?;
    let way = if is_passed { 0o711 } else { 0o700 };
    for (name, mode) in [("", way), (SANDBOXES, way), ("content", 0o700), ("streams", 0o700)] {
        let path = folder.join(name);
        LocalDisk::new(&path)?;
        system::set_mode(&path, mode).map_err(failed("set permissions", &path))?;
    }
    Ok((folder, lock))
}

/// An automation account: runbooks, their jobs, and a worker in this process.
///
/// Dropped without [`shutdown`](Self::shutdown), it leaves jobs as a crash would: their processes
/// are killed, and the next process records them as Failed.
#[derive(Debug)]
pub struct AutomationAccount {
    shared: Arc<Shared>,
    shutdown: watch::Sender<bool>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for AutomationAccount {
    fn drop(&mut self) {
        if let Some(worker) = self.take_worker() {
            worker.abort();
        }
    }
}

impl AutomationAccount {
    /// Begins to open the account in this folder, which is made if it is missing.
    pub fn builder(folder: impl Into<PathBuf>) -> AutomationAccountBuilder {
        AutomationAccountBuilder {
            folder: folder.into(),
            journal: None,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            settings: AutomationSettings::default(),
            secrets: Vec::new(),
        }
    }

    /// The account's name.
    #[must_use]
    pub fn name(&self) -> &AccountName {
        &self.shared.account
    }

    /// What this computer offers for isolation.
    #[must_use]
    pub fn support(&self) -> Support {
        self.shared.support
    }

    /// Ends what runs, records it as Failed, and stops the worker. Nothing can be started after.
    pub async fn shutdown(&self) {
        self.shutdown.send_replace(true);
        let worker = self.take_worker();
        if let Some(worker) = worker
            && let Err(error) = worker.await
        {
            tracing::error!(%error, "worker did not end well");
        }
    }

    /// The streams on disk.
    pub(crate) fn stored_streams(&self) -> &StreamStore {
        &self.shared.streams
    }

    fn take_worker(&self) -> Option<JoinHandle<()>> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Creates a runbook, without content.
    ///
    /// # Errors
    /// [`Error::RunbookExists`], or those of the journal.
    pub async fn create_runbook(&self, options: RunbookOptions) -> Result<Runbook, Error> {
        let RunbookOptions { name, kind, description, logs } = options;
        let id = RunbookId::draw(self.shared.entropy.as_ref());
        let created = RunbookRecorded::Created { id, name: name.clone(), kind, description, logs };
        self.change_runbook(&name, |_| Ok(created.clone())).await
    }

    /// Saves a runbook's text as its draft, in place of an earlier draft. A published version goes
    /// on running until the draft is published.
    ///
    /// # Errors
    /// [`Error::RunbookNotFound`], [`Error::Content`], [`Error::Parameter`], [`Error::TooLarge`], or
    /// those of the journal and the disk.
    pub async fn save_draft(
        &self,
        name: &RunbookName,
        text: &[u8],
        parameters: Vec<ParameterDefinition>,
    ) -> Result<Runbook, Error> {
        let refuse = |reason| Error::Content { runbook: name.clone(), reason };
        if let Err(error) = std::str::from_utf8(text) {
            return Err(refuse(format!("not UTF-8 at byte {}", error.valid_up_to())));
        }
        if let Some(at) = text.iter().position(|byte| *byte == 0) {
            return Err(refuse(format!("NUL at byte {at}")));
        }
        runbook::check_definitions(&parameters).map_err(|refusal| parameter(name, refusal))?;
        let (content, bytes) = (self.shared.content.clone(), text.to_vec());
        let content = blocking(move || content.put(&bytes)).await?;
        let draft = RunbookContent { content, bytes: text.len() as u64, parameters };
        self.change_runbook(name, |_| Ok(RunbookRecorded::DraftSaved { draft: draft.clone() }))
            .await
    }

    /// Makes the draft the version that runs.
    ///
    /// # Errors
    /// [`Error::RunbookNotFound`], [`Error::RunbookState`] if there is no draft, or those of the
    /// journal.
    pub async fn publish(&self, name: &RunbookName) -> Result<Runbook, Error> {
        self.change_runbook(name, |runbook| {
            let draft = runbook.and_then(|runbook| runbook.draft.clone());
            let state = runbook.map_or(RunbookState::Absent, |runbook| runbook.state);
            let content = draft.ok_or_else(|| Error::RunbookState {
                runbook: name.clone(),
                operation: "publish without a draft",
                state,
            })?;
            let last = runbook.and_then(|runbook| runbook.published.as_ref());
            let number = last.map_or(1, |published| published.number + 1);
            Ok(RunbookRecorded::Published { published: PublishedVersion { number, content } })
        })
        .await
    }

    /// Throws the draft away.
    ///
    /// # Errors
    /// [`Error::RunbookNotFound`], [`Error::RunbookState`] if nothing is published or there is no
    /// draft, or those of the journal.
    pub async fn undo_edit(&self, name: &RunbookName) -> Result<Runbook, Error> {
        self.change_runbook(name, |_| Ok(RunbookRecorded::EditUndone {})).await
    }

    /// Deletes a runbook. Its jobs stay, and those that wait run the version they were started
    /// with.
    ///
    /// # Errors
    /// [`Error::RunbookNotFound`], or those of the journal.
    pub async fn delete_runbook(&self, name: &RunbookName) -> Result<(), Error> {
        let deleted = self.change_runbook(name, |_| Ok(RunbookRecorded::Deleted {})).await;
        match deleted {
            // What was asked for is that it is not there.
            Err(Error::RunbookNotFound { .. }) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads a runbook.
    ///
    /// # Errors
    /// [`Error::RunbookNotFound`], or those of the journal.
    pub async fn runbook(&self, name: &RunbookName) -> Result<Runbook, Error> {
        let named = self.named(name).await?;
        named.runbook.ok_or_else(|| Error::RunbookNotFound { runbook: name.clone() })
    }

    /// Every runbook, in order of name.
    ///
    /// # Errors
    /// Those of the journal.
    pub async fn runbooks(&self) -> Result<Vec<Runbook>, Error> {
        let mut runbooks = Vec::new();
        for key in self.keys(runbook::RUNBOOK_HISTORY, None, usize::MAX).await? {
            let named = self.named(&key.parse()?).await?;
            runbooks.extend(named.runbook);
        }
        Ok(runbooks)
    }

    /// The text of a runbook's draft or published version.
    ///
    /// # Errors
    /// Those of the disk, and [`Error::Corrupt`].
    pub async fn text(&self, content: &RunbookContent) -> Result<Vec<u8>, Error> {
        let (store, id) = (self.shared.content.clone(), content.content.clone());
        blocking(move || store.get(&id)).await
    }

    async fn named(&self, name: &RunbookName) -> Result<Named, Error> {
        let history = runbook::history(&self.shared.account, name)?;
        Named::read(&*self.shared.journal, &history).await
    }

    /// Appends what `decide` makes of the runbook as it stands; decides again if it changed
    /// meanwhile.
    async fn change_runbook(
        &self,
        name: &RunbookName,
        decide: impl Fn(Option<&Runbook>) -> Result<RunbookRecorded, Error>,
    ) -> Result<Runbook, Error> {
        let history = runbook::history(&self.shared.account, name)?;
        let mut tries = 0;
        loop {
            let named = self.named(name).await?;
            let event = decide(named.runbook.as_ref())?;
            let state = named.state();
            if state.next(event.transition()).is_err() {
                return Err(refused(name, state, event.transition()));
            }
            let (journal, now) = (&self.shared.journal, self.shared.clock.now());
            match journal.append_event(&history, named.version, &event, now, "automation").await {
                Ok(_) if event.transition() == RunbookEvent::Delete => {
                    return named
                        .runbook
                        .ok_or_else(|| Error::RunbookNotFound { runbook: name.clone() });
                }
                Ok(_) => return self.runbook(name).await,
                Err(JournalError::Conflict { .. }) if tries < CONFLICTS_MAX => tries += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Starts a runbook's published version. Under the name of an earlier job of that runbook, answers
    /// that job and starts nothing.
    ///
    /// # Errors
    /// [`Error::JobExists`], [`Error::RunbookNotFound`], [`Error::NotPublished`], [`Error::Parameter`],
    /// [`Error::TooLarge`], [`Error::QueueFull`], [`Error::ShutDown`], or those of the journal.
    /// After [`JournalError::Unavailable`] a repeat under the same name is safe.
    pub async fn start_job(
        &self,
        runbook: &RunbookName,
        options: JobOptions,
    ) -> Result<Job, Error> {
        let shared = &self.shared;
        if *self.shutdown.borrow() {
            return Err(Error::ShutDown);
        }
        let name = options.name.unwrap_or_else(|| shared.entropy.uuid().to_string());
        job::check_name(&name)?;
        let id = JobId::of(&shared.account, &name);
        if let Some(job) = shared.job(id).await? {
            return of_runbook(job, &name, runbook);
        }
        let task = self.task(runbook, options.parameters).await?;
        let label = JobLabel {
            account: shared.account.clone(),
            runbook: task.0,
            started_by: options.started_by.chars().take(256).collect(),
        };
        let reservation = shared
            .admission
            .reserve()
            .ok_or(Error::QueueFull { limit: shared.settings.open_jobs_max })?;
        let actor = label.started_by.clone();
        let queued = JobRecorded::Queued { label, name: name.clone(), task: task.1 };
        let (history, now) = (job::history(&shared.account, id)?, shared.clock.now());
        match shared.journal.append_event(&history, 0, &queued, now, &actor).await {
            Ok(_) => reservation.keep(),
            // Another start under the same name was first.
            Err(JournalError::Conflict { .. }) => drop(reservation),
            Err(error) => return Err(error.into()),
        }
        of_runbook(self.job(id).await?, &name, runbook)
    }

    async fn task(
        &self,
        name: &RunbookName,
        parameters: BTreeMap<String, Value>,
    ) -> Result<(RunbookName, JobTask), Error> {
        let runbook = self.runbook(name).await?;
        let Some(published) = runbook.published else {
            return Err(Error::NotPublished { runbook: name.clone(), state: runbook.state });
        };
        let definitions = &published.content.parameters;
        let arguments =
            runbook::bind(definitions, parameters).map_err(|refusal| parameter(name, refusal))?;
        let bytes: usize = arguments
            .iter()
            .map(|argument| argument.name.len() + argument.value.to_string().len())
            .sum();
        if bytes > PARAMETERS_BYTES_MAX {
            let what = "parameters in bytes of JSON";
            return Err(Error::TooLarge { what, actual: bytes, limit: PARAMETERS_BYTES_MAX });
        }
        let task = JobTask {
            runbook_id: runbook.id,
            runbook_version: published.number,
            kind: runbook.kind,
            content: published.content.content,
            arguments,
            logs: runbook.logs,
        };
        Ok((runbook.name, task))
    }

    /// Reads a job.
    ///
    /// # Errors
    /// [`Error::JobNotFound`], or those of the journal.
    pub async fn job(&self, id: JobId) -> Result<Job, Error> {
        self.shared.job(id).await?.ok_or(Error::JobNotFound { job: id })
    }

    /// Jobs in order of their ids, after `after`, at most `limit`.
    ///
    /// # Errors
    /// Those of the journal.
    pub async fn jobs(&self, after: Option<JobId>, limit: usize) -> Result<Vec<Job>, Error> {
        let after = after.map(|id| id.to_string());
        let mut jobs = Vec::new();
        for key in self.keys(job::JOB_HISTORY, after.as_deref(), limit).await? {
            jobs.push(self.job(key.parse()?).await?);
        }
        Ok(jobs)
    }

    /// The keys of this account's histories of a kind, without the account's name.
    async fn keys(
        &self,
        kind: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, Error> {
        let prefix = format!("{}/", self.shared.account);
        let mut last = format!("{prefix}{}", after.unwrap_or_default());
        let mut keys = Vec::new();
        while keys.len() < limit {
            let page = (limit - keys.len()).min(READ_MAX);
            let heads = self.shared.journal.list(kind, Some(&last), page).await?;
            let count = heads.len();
            for head in heads {
                let Some(key) = head.history.key().strip_prefix(&prefix) else { return Ok(keys) };
                keys.push(key.to_owned());
                last = head.history.key().to_owned();
            }
            if count < page {
                break;
            }
        }
        Ok(keys)
    }

    /// Asks a job to end, with its reason for the record; one that waits ends at once. To ask again
    /// changes nothing.
    ///
    /// # Errors
    /// [`Error::JobNotFound`], [`Error::JobState`] if it has ended, or those of the journal.
    pub async fn stop_job(&self, id: JobId, reason: &str) -> Result<Job, Error> {
        let reason: String = reason.chars().take(1_000).collect();
        let mut tries = 0;
        loop {
            let job = self.job(id).await?;
            let label = job.label.clone();
            let event = match job.state {
                JobState::Stopping => return Ok(job),
                JobState::New => {
                    JobRecorded::Stopped { label, reason: reason.clone(), streams: None }
                }
                _ => JobRecorded::Stopping { label, reason: reason.clone() },
            };
            if event.transition().is_none_or(|transition| job.state.next(transition).is_err()) {
                return Err(Error::JobState { job: id, operation: "stop", state: job.state });
            }
            let (journal, now) = (&self.shared.journal, self.shared.clock.now());
            let history = job::history(&self.shared.account, id)?;
            match journal.append_event(&history, job.version, &event, now, "automation").await {
                Ok(_) => return self.job(id).await,
                Err(JournalError::Conflict { .. }) if tries < CONFLICTS_MAX => tries += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until a job has ended.
    ///
    /// # Errors
    /// [`Error::JobNotFound`], or those of the journal.
    pub async fn wait(&self, id: JobId) -> Result<Job, Error> {
        let mut position = 0;
        loop {
            let job = self.job(id).await?;
            if job.state.is_final() {
                return Ok(job);
            }
            position = self.shared.journal.wait(position).await?;
        }
    }

    /// Reads a job's streams, also while it runs.
    ///
    /// # Errors
    /// [`Error::JobNotFound`], or those of the journal and the disk.
    pub async fn streams(&self, id: JobId, query: StreamQuery) -> Result<Vec<StreamRecord>, Error> {
        self.job(id).await?;
        let store = self.shared.streams.clone();
        let StreamQuery { after, limit, stream_type } = query;
        let filter = move |other| stream_type.is_none_or(|wanted| wanted == other);
        blocking(move || store.read(id, after, limit, filter)).await
    }

    /// A job's Output records, joined by line breaks: at most `bytes_max` bytes of their beginning.
    ///
    /// # Errors
    /// Those of [`streams`](Self::streams).
    pub async fn output(&self, id: JobId, bytes_max: usize) -> Result<String, Error> {
        let mut output = String::new();
        let mut query =
            StreamQuery { stream_type: Some(StreamType::Output), ..StreamQuery::default() };
        loop {
            let records = self.streams(id, query).await?;
            let Some(last) = records.last() else { return Ok(output) };
            query.after = last.sequence;
            for record in records {
                if query.after > 1 && !output.is_empty() {
                    output.push('\n');
                }
                output.push_str(&record.text);
                if output.len() > bytes_max {
                    output.truncate(output.floor_char_boundary(bytes_max));
                    return Ok(output);
                }
            }
        }
    }
}

fn parameter(runbook: &RunbookName, (parameter, reason): (String, String)) -> Error {
    Error::Parameter { runbook: runbook.clone(), parameter, reason }
}

/// Why a runbook in that state refuses an event, in the words of the caller.
fn refused(name: &RunbookName, state: RunbookState, event: RunbookEvent) -> Error {
    let runbook = name.clone();
    let operation = match event {
        RunbookEvent::Create => return Error::RunbookExists { runbook },
        RunbookEvent::SaveDraft => "save draft",
        RunbookEvent::Publish => "publish",
        RunbookEvent::UndoEdit => "undo edit",
        RunbookEvent::Delete => "delete",
    };
    match state {
        RunbookState::Absent => Error::RunbookNotFound { runbook },
        _ => Error::RunbookState { runbook, operation, state },
    }
}

/// The job of a name, if it is one of that runbook.
fn of_runbook(job: Job, name: &str, runbook: &RunbookName) -> Result<Job, Error> {
    if job.label.runbook == *runbook {
        return Ok(job);
    }
    Err(Error::JobExists { name: name.to_owned(), runbook: job.label.runbook })
}
