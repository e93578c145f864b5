//! What running jobs asks of the operating system, in one place.

#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::*;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;

#[cfg(target_os = "linux")]
mod linux {
    pub(crate) use super::super::cell::{Cell, command, probe};
    pub(crate) use super::super::tree::{MARKER_VARIABLE, Marker, TreeGuard, sweep, terminate};

    use crate::Error;
    use crate::worker::RunAs;
    use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
    use std::io;
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
    use std::os::unix::process::ExitStatusExt;
    use std::path::Path;
    use std::process::ExitStatus;

    /// Whether jobs can run on this system at all.
    #[expect(clippy::unnecessary_wraps, reason = "on other systems they cannot")]
    pub(crate) const fn check() -> Result<(), Error> {
        Ok(())
    }

    pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)
    }

    pub(crate) fn make_file(path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
    }

    pub(crate) fn give(path: &Path, user: RunAs) -> io::Result<()> {
        chown(path, Some(user.uid), Some(user.gid))
    }

    pub(crate) fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
        std::fs::set_permissions(path, Permissions::from_mode(mode))
    }

    pub(crate) fn is_executable(metadata: &Metadata) -> bool {
        metadata.permissions().mode() & 0o111 != 0
    }

    /// The signal that ended a process.
    pub(crate) fn signal_of(status: ExitStatus) -> Option<i32> {
        status.signal()
    }
}

/// Systems on which this version runs no jobs: it has no way to isolate them there and to find all
/// their processes. An account can be opened, with isolation off, and its runbooks and jobs looked at;
/// every job is refused by name.
#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use crate::Error;
    use crate::job::{Job, JobId};
    use crate::worker::{Applied, IsolationSettings, RunAs, Shared, Support};
    use std::convert::Infallible;
    use std::ffi::OsString;
    use std::fs::{File, Metadata};
    use std::io;
    use std::path::Path;
    use std::process::ExitStatus;
    use tokio::process::{Child, Command};

    const REASON: &str = "jobs run on Linux only in this version";

    pub(crate) const MARKER_VARIABLE: &str = "OMS_JOB_MARKER";

    /// The mark of one job.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Marker {
        job: JobId,
    }

    impl Marker {
        pub(crate) const fn new(job: JobId) -> Self {
            Self { job }
        }

        pub(crate) fn variable(self) -> String {
            self.job.to_string()
        }
    }

    /// Guards nothing: there is no process.
    #[derive(Debug)]
    pub(crate) struct TreeGuard;

    impl TreeGuard {
        pub(crate) const fn new(_marker: Marker) -> Self {
            Self
        }

        pub(crate) fn disarm(self) {}
    }

    /// A thread that no job can have.
    #[derive(Debug)]
    pub(crate) struct Cell {
        never: Infallible,
    }

    impl Cell {
        pub(crate) async fn new(
            _settings: &IsolationSettings,
            _folder: &Path,
        ) -> Result<(Self, Applied), Error> {
            Err(unavailable())
        }

        pub(crate) async fn spawn(self, _command: Command) -> io::Result<Child> {
            match self.never {}
        }
    }

    pub(crate) fn check() -> Result<(), Error> {
        Err(unavailable())
    }

    pub(crate) fn probe() -> Result<Support, Error> {
        Ok(Support { landlock_abi: None, is_root: false })
    }

    pub(crate) fn command(
        _shared: &Shared,
        _job: &Job,
        _arguments: Vec<OsString>,
        _applied: &mut Applied,
    ) -> Result<Command, Error> {
        Err(unavailable())
    }

    /// # Errors
    /// Always: nobody can tell here which processes a job left.
    pub(crate) fn sweep(_marker: Marker, _first: Option<u32>) -> Result<usize, Error> {
        Err(unavailable())
    }

    pub(crate) fn terminate(_marker: Marker) -> Result<(), Error> {
        Err(unavailable())
    }

    pub(crate) fn make_folder(_path: &Path) -> io::Result<()> {
        Err(unsupported())
    }

    pub(crate) fn make_file(_path: &Path) -> io::Result<File> {
        Err(unsupported())
    }

    pub(crate) fn give(_path: &Path, _user: RunAs) -> io::Result<()> {
        Err(unsupported())
    }

    /// There are no modes: the account's folder is for whoever the folder above it is for.
    pub(crate) fn set_mode(_path: &Path, _mode: u32) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn is_executable(_metadata: &Metadata) -> bool {
        false
    }

    /// Processes do not end by signals.
    pub(crate) fn signal_of(_status: ExitStatus) -> Option<i32> {
        None
    }

    fn unavailable() -> Error {
        Error::IsolationUnavailable { reason: REASON.to_owned() }
    }

    fn unsupported() -> io::Error {
        io::Error::new(io::ErrorKind::Unsupported, REASON)
    }
}
