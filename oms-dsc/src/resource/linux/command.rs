//! Programs of other people, run with bounds: an environment of its own, a time limit, a limit on what
//! they print, and an end for everything that they started. A program that must not be ended in the
//! middle goes on to its own end.

use crate::Error;
use rustix::fs::{Mode, OFlags};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

/// The most that is read of what a program prints on one of its streams, in bytes. It may print more.
pub(super) const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// How long a program may run that nobody gave another limit, in seconds.
pub(super) const TIMEOUT: Duration = Duration::from_secs(600);

/// How long what a program printed is read after its end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The folders in which programs are looked for.
pub(super) const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program to run.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) name: PathBuf,
    pub(super) arguments: Vec<String>,
    /// Beside `PATH` and `LANG`; the environment of this process is not handed on.
    pub(super) environment: Vec<(String, String)>,
    pub(super) input: Vec<u8>,
    pub(super) timeout: Duration,
    /// The folder that it runs in.
    pub(super) folder: PathBuf,
    /// User and group to run as.
    pub(super) identity: (Option<u32>, Option<u32>),
    /// Whether it may be ended in the middle. One that may not goes on by itself when nobody waits for
    /// it any more, as when it takes too long or this process ends.
    pub(super) is_interruptible: bool,
}

/// What a program came to.
#[derive(Clone, Debug)]
pub(super) struct Ran {
    /// Its exit code; none if a signal ended it.
    pub(super) code: Option<i32>,
    pub(super) output: Vec<u8>,
    pub(super) errors: Vec<u8>,
}

impl Ran {
    pub(super) const fn is_success(&self) -> bool {
        matches!(self.code, Some(0))
    }

    /// The last words on its error stream, or else on its output.
    pub(super) fn last_words(&self) -> String {
        const SHOWN_CHARS_MAX: usize = 400;
        let said = if self.errors.trim_ascii().is_empty() { &self.output } else { &self.errors };
        let said = String::from_utf8_lossy(said.trim_ascii()).into_owned();
        let skipped = said.chars().count().saturating_sub(SHOWN_CHARS_MAX);
        let end: String = said.chars().skip(skipped).collect();
        end.replace('\n', "; ")
    }

    /// How it ended, for messages.
    pub(super) fn ending(&self) -> String {
        match self.code {
            Some(code) => format!("exit code {code}"),
            None => "ended by a signal".to_owned(),
        }
    }
}

impl Program {
    pub(super) fn new<A: Into<String>>(
        name: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        Self {
            name: name.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: Vec::new(),
            input: Vec::new(),
            timeout: TIMEOUT,
            folder: PathBuf::from("/"),
            identity: (None, None),
            is_interruptible: true,
        }
    }

    /// Runs it to its end. When this future is dropped, an interruptible program ends too, with
    /// everything that it started and that stayed in its process group.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such program, [`Error::Io`] if it cannot be started, or
    /// [`Error::Program`] if it takes too long.
    pub(super) async fn run(&self) -> Result<Ran, Error> {
        match self.is_interruptible {
            true => self.run_interruptible().await,
            false => self.run_whole().await,
        }
    }

    async fn run_interruptible(&self) -> Result<Ran, Error> {
        let mut command = self.command()?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut group = Group(self.spawn(command)?);
        let ran = tokio::time::timeout(self.timeout, self.finish(&mut group.0)).await;
        ran.unwrap_or_else(|_elapsed| Err(self.too_slow("it was ended")))
    }

    /// What it prints goes to a file and into no pipe, which would end it as soon as nobody reads. The end
    /// of that is read.
    async fn run_whole(&self) -> Result<Ran, Error> {
        let stream = |name| unnamed(name).map_err(|source| self.io("make a stream of", source));
        let (output, errors) = (stream("output")?, stream("errors")?);
        let failed = |source| self.io("wait for", source);
        let mut command = self.command()?;
        command
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(errors.try_clone().map_err(failed)?);
        let mut child = self.spawn(command)?;
        let Ok(status) = tokio::time::timeout(self.timeout, child.wait()).await else {
            return Err(self.too_slow("it goes on by itself"));
        };
        let code = status.map_err(failed)?.code();
        let end = |file: std::fs::File| {
            let len = file.metadata().map_err(failed)?.len();
            let mut kept = vec![0; OUTPUT_BYTES_MAX];
            let from = len.saturating_sub(OUTPUT_BYTES_MAX as u64);
            let read = file.read_at(&mut kept, from).map_err(failed)?;
            kept.truncate(read);
            Ok::<_, Error>(kept)
        };
        Ok(Ran { code, output: end(output)?, errors: end(errors)? })
    }

    /// All but where its output goes.
    fn command(&self) -> Result<Command, Error> {
        let mut command = Command::new(&self.name);
        command
            .args(&self.arguments)
            .env_clear()
            .env("PATH", SEARCH_PATH)
            .env("LANG", "C.UTF-8")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder)
            .process_group(0)
            .stdin(self.stdin()?);
        if let Some(group) = self.identity.1 {
            command.gid(group);
        }
        if let Some(user) = self.identity.0 {
            command.uid(user);
        }
        Ok(command)
    }

    /// Starts it. This process keeps none of the streams that it gave away.
    fn spawn(&self, mut command: Command) -> Result<Child, Error> {
        command.spawn().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => {
                Error::NotFound { what: "program", name: self.name.display().to_string() }
            }
            _ => self.io("start", source),
        })
    }

    fn too_slow(&self, consequence: &str) -> Error {
        let seconds = self.timeout.as_secs();
        self.failed(format!("not done after {seconds} seconds, so {consequence}"))
    }

    fn io(&self, operation: &'static str, source: std::io::Error) -> Error {
        Error::Io { operation, path: self.name.clone(), source }
    }

    async fn finish(&self, child: &mut Child) -> Result<Ran, Error> {
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let status = {
            let streams = (child.stdout.take(), child.stderr.take());
            let drains = async {
                tokio::join!(drain(streams.0, &mut output), drain(streams.1, &mut errors))
            };
            tokio::pin!(drains);
            tokio::select! {
                status = child.wait() => {
                    // What it left running may hold its streams for ever.
                    let _ = tokio::time::timeout(LAST_WORDS, &mut drains).await;
                    status
                }
                _ = &mut drains => child.wait().await,
            }
        };
        let status = status.map_err(|source| self.io("wait for", source))?;
        Ok(Ran { code: status.code(), output, errors })
    }

    /// Runs it, and takes any exit code but 0 for a failure.
    pub(super) async fn run_well(&self) -> Result<Ran, Error> {
        let ran = self.run().await?;
        match ran.is_success() {
            true => Ok(ran),
            false => Err(self.failed(format!("{}: {}", ran.ending(), ran.last_words()))),
        }
    }

    pub(super) fn failed(&self, reason: String) -> Error {
        Error::Program { program: self.name.display().to_string(), reason }
    }

    /// What it reads: a file without a name, so that a program that reads nothing blocks nobody.
    fn stdin(&self) -> Result<Stdio, Error> {
        if self.input.is_empty() {
            return Ok(Stdio::null());
        }
        let failed = |source| self.io("hand input to", source);
        let mut file = memory("input").map_err(failed)?;
        file.write_all(&self.input).map_err(failed)?;
        std::io::Seek::rewind(&mut file).map_err(failed)?;
        Ok(file.into())
    }
}

/// A file without a name, on disk if that has such: what a program, or a service that it starts, prints has
/// no end, and what an archive holds may be large.
pub(super) fn unnamed(name: &str) -> std::io::Result<std::fs::File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open("/var/tmp", flags, Mode::from_raw_mode(0o600)) {
        Ok(file) => Ok(file.into()),
        Err(_) => memory(name),
    }
}

/// A file without a name, in memory.
fn memory(name: &str) -> std::io::Result<std::fs::File> {
    Ok(rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)?.into())
}

/// A child that ends with its whole process group, unless it came to its own end.
#[derive(Debug)]
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        let Some(id) = self.0.id().and_then(|id| i32::try_from(id).ok()) else { return };
        if let Some(group) = rustix::process::Pid::from_raw(id) {
            // It may have ended by itself.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

/// Reads a stream to its end and keeps its beginning.
async fn drain(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut piece = vec![0; 16 << 10];
    while let Ok(read @ 1..) = stream.read(&mut piece).await {
        let room = OUTPUT_BYTES_MAX.saturating_sub(kept.len());
        kept.extend_from_slice(&piece[..read.min(room)]);
    }
}

/// The first of `names` that is a program here, whole.
pub(super) fn find(names: &[&str]) -> Option<PathBuf> {
    let folders = SEARCH_PATH.split(':').map(Path::new);
    names.iter().find_map(|name| {
        folders.clone().map(|folder| folder.join(name)).find(|path| path.is_file())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that is asked to end, and a program that takes too long: a package manager is not cut off
    /// in the middle, though nobody reads any more what it prints.
    #[tokio::test]
    async fn what_must_not_be_interrupted_goes_on_by_itself() {
        for timeout in [Duration::ZERO, TIMEOUT] {
            let folder = tempfile::tempdir().expect("a folder");
            let script = "until [ -e go ]; do sleep 0.01; done; echo x; echo y >&2; : > done";
            let script = format!("cd '{}'; : > begun; {script}", folder.path().display());
            let mut program = Program::new("/bin/sh", ["-ec", &script]);
            (program.is_interruptible, program.timeout) = (false, timeout);
            let is_there = |name: &str| folder.path().join(name).exists();
            let has_begun = async {
                while !is_there("begun") {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                ran = program.run(), if timeout == TIMEOUT => panic!("nobody let it go: {ran:?}"),
                ran = program.run(), if timeout != TIMEOUT => {
                    let error = ran.expect_err("too slow").to_string();
                    assert!(error.contains("after 0 seconds, so it goes on by itself"), "{error}");
                }
                () = has_begun => {}
            }
            std::fs::write(folder.path().join("go"), "").expect("written");
            while !is_there("done") {
                std::thread::yield_now();
            }
        }
        let mut program = Program::new("/bin/sh", ["-c", "echo out; echo err >&2; exit 3"]);
        program.is_interruptible = false;
        let ran = program.run().await.expect("it runs");
        assert_eq!((ran.code, &*ran.output, &*ran.errors), (Some(3), &b"out\n"[..], &b"err\n"[..]));
        let mut loud =
            Program::new("/bin/sh", ["-c", "yes | head -c 3000000; echo at last; exit 1"]);
        loud.is_interruptible = false;
        let ran = loud.run().await.expect("it runs");
        assert!(ran.output.len() == OUTPUT_BYTES_MAX && ran.last_words().ends_with("at last"));
    }
}
