//! One job's process: prepared, run, and gone with all that it started.

use super::{command_line, file_name, interpreter, joined};
use crate::Error;
use crate::error::failed;
use crate::job::engine::Ending;
use crate::job::{EXCEPTION_BYTES_MAX, Job, JobId};
use crate::runbook::LogSwitches;
use crate::stream::{
    Line, LineSplitter, Redactor, StreamEntry, StreamSummary, StreamType, StreamWriter,
};
use crate::worker::system::{self, Cell, TreeGuard, sweep, terminate};
use crate::worker::{Applied, IsolationMode, Marker, Shared, is_set, isolation};
use oms_core::Clock;
use oms_core::task::blocking;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// How much of a pipe is read at a time, in bytes.
const CHUNK_BYTES: usize = 64 << 10;

/// How long the pipes of a job whose processes are gone may take to end.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// How many of the last lines of standard error a failed job's exception quotes.
const ERROR_LINES_MAX: usize = 20;

/// A process that is ready to be started.
#[derive(Debug)]
pub(crate) struct Launch {
    /// Which of the job's streams are kept.
    pub(crate) logs: LogSwitches,
    cell: Cell,
    command: Command,
}

/// What a process is run with.
#[derive(Clone, Debug)]
pub(crate) struct RunContext {
    pub(crate) job: JobId,
    pub(crate) logs: LogSwitches,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) redactor: Redactor,
    pub(crate) record_bytes_max: usize,
    pub(crate) stop_grace: Duration,
}

/// The folder that a job's process works in.
pub(crate) fn sandbox(shared: &Shared, job: JobId) -> PathBuf {
    shared.sandboxes.join(job.to_string())
}

/// Makes a job's folder, its restricted thread and its command line. Nothing runs yet.
///
/// # Errors
/// Why the job cannot run on this computer.
pub(crate) async fn prepare(shared: &Arc<Shared>, job: &Job) -> Result<(Launch, Applied), Error> {
    system::check()?;
    let settings = &shared.settings;
    let kind = job.task.kind;
    let interpreter = interpreter(kind, &settings.search_path)?;
    if !isolation::is_readable(&settings.isolation, &interpreter) {
        let reason =
            format!("isolation.readable does not hold the interpreter `{}`", interpreter.display());
        return Err(Error::IsolationUnavailable { reason });
    }
    let folder = sandbox(shared, job.id);
    let (account, task, into) = (Arc::clone(shared), job.task.clone(), folder.clone());
    blocking(move || {
        let content = account.content.get(&task.content)?;
        let parameters: serde_json::Map<String, serde_json::Value> = task
            .arguments
            .iter()
            .map(|argument| (argument.name.clone(), argument.value.clone()))
            .collect();
        let parameters = serde_json::Value::Object(parameters).to_string();
        let files = [(file_name(task.kind), content), (PARAMETERS_FILE, parameters.into_bytes())];
        make_folder(&account, &into, &files)
    })
    .await?;
    let (cell, mut applied) = Cell::new(&settings.isolation, &folder).await?;
    let line = command_line(kind, &interpreter, &folder.join(file_name(kind)));
    let mut arguments = line.arguments;
    arguments.extend(job.task.arguments.iter().map(|argument| OsString::from(argument.text())));
    let mut command = system::command(shared, job, arguments, &mut applied)?;
    command
        .env_clear()
        .env("PATH", joined(&settings.search_path))
        .env("HOME", &folder)
        .env("TMPDIR", folder.join(TEMPORARY_FOLDER))
        .env("LANG", "C.UTF-8")
        .env("AUTOMATION_JOB_ID", job.id.to_string())
        .env("AUTOMATION_ACTIVITY_ID", job.id.to_string())
        .env("OMS_PARAMETERS_FILE", folder.join(PARAMETERS_FILE))
        .env(system::MARKER_VARIABLE, Marker::new(job.id).variable())
        .envs(line.environment.iter().copied())
        .current_dir(&folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    Ok((Launch { logs: job.task.logs, cell, command }, applied))
}

/// The name of the file with a job's parameters, a JSON object, in its folder.
const PARAMETERS_FILE: &str = "parameters.json";

/// The name of the folder for temporary files in a job's folder.
const TEMPORARY_FOLDER: &str = "tmp";

fn make_folder(shared: &Shared, folder: &Path, files: &[(&str, Vec<u8>)]) -> Result<(), Error> {
    remove_folder(folder)?;
    let user = shared.settings.isolation.run_as;
    let user = user.filter(|_| shared.settings.isolation.mode != IsolationMode::Off);
    let own = |path: &Path| match user {
        Some(user) => system::give(path, user).map_err(failed("give to user", path)),
        None => Ok(()),
    };
    for folder in [folder.to_owned(), folder.join(TEMPORARY_FOLDER)] {
        system::make_folder(&folder).map_err(failed("create folder", &folder))?;
        own(&folder)?;
    }
    for (name, bytes) in files {
        let path = folder.join(name);
        let file = system::make_file(&path);
        let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, bytes));
        written.map_err(failed("write", &path))?;
        own(&path)?;
    }
    Ok(())
}

/// Removes a job's folder, if it is there. Links in it are removed, not followed.
pub(crate) fn remove_folder(folder: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(failed("remove folder", folder)(error))
        }
        _ => Ok(()),
    }
}

/// Starts the process and stays with it until it and all that it started are gone and its streams
/// are durable.
pub(crate) async fn run(
    launch: Launch,
    context: RunContext,
    writer: StreamWriter,
    mut stop: watch::Receiver<bool>,
) -> Ending {
    let marker = Marker::new(context.job);
    let guard = TreeGuard::new(marker);
    let mut recorder = Recorder::new(context, writer);
    let status = match launch.cell.spawn(launch.command).await {
        Ok(child) => attend(child, marker, &mut recorder, &mut stop).await,
        Err(source) => Err(failed("start process", Path::new("the job's interpreter"))(source)),
    };
    guard.disarm();
    recorder.finish(status).await
}

/// Reads the process's streams until it is gone.
async fn attend(
    mut child: Child,
    marker: Marker,
    recorder: &mut Recorder,
    stop: &mut watch::Receiver<bool>,
) -> Result<ExitStatus, Error> {
    let (mut output, mut error) = (child.stdout.take(), child.stderr.take());
    let (mut output_bytes, mut error_bytes) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    let grace = tokio::time::sleep(recorder.context.stop_grace);
    tokio::pin!(grace);
    let (mut is_stopping, mut is_killed) = (false, false);
    // It leads a group of its own, by `setsid` or from the start.
    let first = child.id();
    let status = loop {
        tokio::select! {
            count = read(&mut output, &mut output_bytes) => {
                recorder.output(&output_bytes[..count]).await;
            }
            count = read(&mut error, &mut error_bytes) => {
                recorder.error(&error_bytes[..count]).await;
            }
            status = child.wait() => break status,
            () = is_set(stop), if !is_stopping => {
                is_stopping = true;
                blocking(move || terminate(marker)).await?;
                let end = recorder.context.stop_grace;
                grace.set(tokio::time::sleep(end));
            }
            () = &mut grace, if is_stopping && !is_killed => {
                is_killed = true;
                blocking(move || sweep(marker, None).map(|_| ())).await?;
            }
        }
        if recorder.failure.is_some() && !is_killed {
            is_killed = true;
            blocking(move || sweep(marker, None).map(|_| ())).await?;
        }
    };
    // What the runbook left in the background ends with it; then the pipes end too.
    blocking(move || sweep(marker, first).map(|_| ())).await?;
    let drain = async {
        while output.is_some() || error.is_some() {
            tokio::select! {
                count = read(&mut output, &mut output_bytes) => {
                    recorder.output(&output_bytes[..count]).await;
                }
                count = read(&mut error, &mut error_bytes) => {
                    recorder.error(&error_bytes[..count]).await;
                }
            }
        }
    };
    if tokio::time::timeout(DRAIN_TIME_MAX, drain).await.is_err() {
        tracing::warn!(job = %recorder.context.job, "a pipe of an ended job stayed open");
    }
    status.map_err(failed("await process", Path::new("the job's interpreter")))
}

/// Reads what is there; a pipe that ended is taken away and is not asked again.
async fn read<R: AsyncRead + Unpin>(pipe: &mut Option<R>, bytes: &mut [u8]) -> usize {
    let Some(open) = pipe else { return std::future::pending().await };
    let count = open.read(bytes).await.unwrap_or(0);
    if count == 0 {
        *pipe = None;
    }
    count
}

/// Turns bytes into records and keeps them.
#[derive(Debug)]
struct Recorder {
    context: RunContext,
    writer: Option<StreamWriter>,
    output_lines: LineSplitter,
    error_lines: LineSplitter,
    /// The last lines of standard error.
    last_errors: VecDeque<String>,
    failure: Option<Error>,
}

impl Recorder {
    fn new(context: RunContext, writer: StreamWriter) -> Self {
        // A secret that begins within the limit is seen whole before the line is cut.
        let limit = context.record_bytes_max + context.redactor.longest();
        Self {
            context,
            writer: Some(writer),
            output_lines: LineSplitter::new(limit),
            error_lines: LineSplitter::new(limit),
            last_errors: VecDeque::new(),
            failure: None,
        }
    }

    async fn output(&mut self, bytes: &[u8]) {
        let mut lines = self.output_lines.push(bytes);
        if bytes.is_empty() {
            lines.extend(self.output_lines.finish());
        }
        let entries = lines.into_iter().map(|line| self.entry(&line, None)).collect();
        self.append(entries).await;
    }

    async fn error(&mut self, bytes: &[u8]) {
        let mut lines = self.error_lines.push(bytes);
        if bytes.is_empty() {
            lines.extend(self.error_lines.finish());
        }
        let mut entries = Vec::with_capacity(lines.len());
        for line in lines {
            let entry = self.entry(&line, Some(StreamType::Error));
            if self.last_errors.len() == ERROR_LINES_MAX {
                self.last_errors.pop_front();
            }
            self.last_errors.push_back(beginning(&entry.text, EXCEPTION_BYTES_MAX / 4).to_owned());
            entries.push(entry);
        }
        self.append(entries).await;
    }

    fn entry(&self, line: &Line, stream_type: Option<StreamType>) -> StreamEntry {
        let text = String::from_utf8_lossy(&line.bytes);
        let text = self.context.redactor.redact(&text);
        let kept = beginning(&text, self.context.record_bytes_max);
        StreamEntry {
            time: self.context.clock.now(),
            stream_type: stream_type.unwrap_or_else(|| StreamType::of_line(kept)),
            cut_bytes: line.cut_bytes + (text.len() - kept.len()) as u64,
            text: kept.to_owned(),
        }
    }

    async fn append(&mut self, mut entries: Vec<StreamEntry>) {
        let logs = self.context.logs;
        entries.retain(|entry| entry.stream_type.is_kept(logs));
        if entries.is_empty() {
            return;
        }
        let Some(mut writer) = self.writer.take() else { return };
        let appended = blocking(move || {
            writer.append(entries)?;
            Ok(writer)
        });
        match appended.await {
            Ok(writer) => self.writer = Some(writer),
            Err(error) => self.failure = Some(error),
        }
    }

    async fn finish(mut self, status: Result<ExitStatus, Error>) -> Ending {
        let kept: Result<StreamSummary, Error> = match (self.failure.take(), self.writer.take()) {
            (Some(error), _) => Err(error),
            (None, Some(writer)) => blocking(move || writer.finish()).await,
            (None, None) => Err(Error::ShutDown),
        };
        let exit_code = status.as_ref().ok().and_then(ExitStatus::code);
        let mut exception = match &status {
            Ok(status) => self.exception(*status),
            Err(error) => Some(error.describe()),
        };
        if let Err(error) = &kept {
            exception = Some(format!("the job's streams could not be kept: {}", error.describe()));
        }
        let exception = exception.map(|text| beginning(&text, EXCEPTION_BYTES_MAX).to_owned());
        let are_processes_gone = status.is_ok();
        Ending { exception, exit_code, are_processes_gone, streams: kept.ok() }
    }

    /// Why an exit is a failure, with what the runbook said last on standard error.
    fn exception(&self, status: ExitStatus) -> Option<String> {
        if status.success() {
            return None;
        }
        let mut text = match (status.code(), system::signal_of(status)) {
            (Some(code), _) => format!("the runbook ended with exit code {code}"),
            (None, Some(24)) => "the runbook used up its CPU time (signal 24)".to_owned(),
            (None, Some(25)) => "the runbook wrote too large a file (signal 25)".to_owned(),
            (None, Some(number)) => format!("the runbook was ended by signal {number}"),
            (None, None) => "the runbook ended in an unknown way".to_owned(),
        };
        let mut room = EXCEPTION_BYTES_MAX - text.len() - 2;
        let fits = |line: &&String| {
            let needed = line.len() + 1;
            let is_room = needed <= room;
            room = room.saturating_sub(needed);
            is_room
        };
        let mut last: Vec<&String> = self.last_errors.iter().rev().take_while(fits).collect();
        last.reverse();
        if !last.is_empty() {
            let last: Vec<&str> = last.into_iter().map(String::as_str).collect();
            text.push_str(": ");
            text.push_str(&last.join("\n"));
        }
        Some(text)
    }
}

/// The longest beginning of at most `limit` bytes that ends between characters.
fn beginning(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}
