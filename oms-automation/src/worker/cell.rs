//! A thread that restricts itself and then becomes a job's first process; see
//! [`isolation`](super::isolation).

use super::isolation::{Applied, IsolationMode, IsolationSettings, Support, TcpAccess, check};
use super::{Marker, Shared};
use crate::Error;
use crate::error::failed;
use crate::executor::require;
use crate::job::Job;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus,
    PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
    path_beneath_rules,
};
use rustix::process::geteuid;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

/// The newest Landlock whose rights are asked for: the newest that this code was tested on.
const NEWEST: ABI = ABI::V7;

/// What this computer offers.
pub(crate) fn probe() -> Result<Support, Error> {
    // Landlock says its version when a thread restricts itself, so a thread does just that.
    let ask = || {
        let created = Ruleset::default().handle_access(AccessFs::Execute)?.create()?;
        created.restrict_self()
    };
    let thread = std::thread::Builder::new().name("oms-landlock-probe".to_owned());
    let thread = thread.spawn(ask).map_err(failed("start thread", Path::new("landlock")))?;
    let status = thread.join().ok().and_then(Result::ok);
    let landlock_abi = status.and_then(|status| abi(status.landlock));
    Ok(Support { landlock_abi, is_root: geteuid().is_root() })
}

fn abi(status: LandlockStatus) -> Option<u32> {
    match status {
        LandlockStatus::Available { effective_abi, kernel_abi } => {
            let newer = kernel_abi.and_then(|version| u32::try_from(version).ok());
            newer.or_else(|| effective_abi.to_string().parse().ok())
        }
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => None,
    }
}

/// The command that limits itself and becomes `arguments`, a job's interpreter.
pub(crate) fn command(
    shared: &Shared,
    job: &Job,
    arguments: Vec<OsString>,
    applied: &mut Applied,
) -> Result<Command, Error> {
    let settings = &shared.settings;
    let is_on = settings.isolation.mode != IsolationMode::Off;
    let line = if is_on {
        let tool = |program| require(job.task.kind, program, &settings.search_path);
        let tools = Tools {
            prlimit: tool("prlimit")?,
            setpriv: tool("setpriv")?,
            setsid: tool("setsid")?,
            bash: tool("bash").ok(),
        };
        let inherited = inherited_descriptors();
        let limit = Marker::new(job.id).limit();
        wrap(&settings.isolation, &tools, limit, &inherited, applied, arguments)?
    } else {
        arguments
    };
    let mut line = line.into_iter();
    let mut command = Command::new(line.next().unwrap_or_default());
    command.args(line);
    if !is_on {
        command.process_group(0);
    }
    if let Some(user) = applied.user {
        command.uid(user.uid).gid(user.gid);
    }
    Ok(command)
}

/// The programs that set what only a process itself can set before it becomes another.
#[derive(Clone, Debug)]
struct Tools {
    prlimit: PathBuf,
    setpriv: PathBuf,
    setsid: PathBuf,
    bash: Option<PathBuf>,
}

/// The command line that limits itself and becomes `arguments`; none of it if isolation is off.
fn wrap(
    settings: &IsolationSettings,
    tools: &Tools,
    marker_limit: u64,
    inherited: &[u32],
    applied: &mut Applied,
    arguments: Vec<OsString>,
) -> Result<Vec<OsString>, Error> {
    let limits = &settings.limits;
    let mut line: Vec<OsString> = Vec::new();
    if !inherited.is_empty() {
        let Some(bash) = &tools.bash else {
            let reason = "this process has descriptors that a job would inherit, and `bash`, which \
                          would close them, is not in the search path";
            return Err(Error::IsolationUnavailable { reason: reason.to_owned() });
        };
        let closes: String = inherited.iter().map(|number| format!(" {number}>&-")).collect();
        line.push(bash.into());
        line.extend(["--noprofile", "--norc", "-c"].map(OsString::from));
        line.push(format!("exec{closes}; exec \"$@\"").into());
        line.push("bash".into());
        applied.closed_descriptors = inherited.len();
    }
    line.push((&tools.prlimit).into());
    let pairs = [
        ("as", limits.memory_bytes_max),
        ("core", 0),
        ("cpu", limits.cpu_seconds_max),
        ("fsize", limits.file_bytes_max),
        ("nofile", limits.files_max),
        ("nproc", limits.processes_max),
        ("rttime", marker_limit),
    ];
    line.extend(pairs.map(|(name, value)| OsString::from(format!("--{name}={value}:{value}"))));
    line.push("--".into());
    applied.limits = Some(*limits);
    if geteuid().is_root() && settings.run_as.is_none() {
        line.push((&tools.setpriv).into());
        let drop = ["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--"];
        line.extend(drop.map(OsString::from));
        applied.are_capabilities_dropped = true;
    }
    // `setsid` gives its own process the session: it was started as no group's leader.
    line.push((&tools.setsid).into());
    line.push("--".into());
    applied.has_own_session = true;
    line.extend(arguments);
    Ok(line)
}

/// Descriptors of this process, from 3, that a program started now would inherit. One opened by
/// another thread without the close-on-exec flag right after this is not seen.
fn inherited_descriptors() -> Vec<u32> {
    /// `O_CLOEXEC` as `/proc/pid/fdinfo` shows it. See proc(5).
    const CLOSE_ON_EXEC: u64 = 0o2_000_000;
    let Ok(entries) = std::fs::read_dir("/proc/self/fdinfo") else { return Vec::new() };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_inherited = |number: &u32| {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}"));
        // A descriptor that is closed meanwhile is not inherited.
        let flags = info.ok().and_then(|info| {
            let line = info.lines().find(|line| line.starts_with("flags:"))?;
            u64::from_str_radix(line.split_whitespace().nth(1)?, 8).ok()
        });
        flags.is_some_and(|flags| flags & CLOSE_ON_EXEC == 0)
    };
    numbers.filter(|number| *number >= 3).filter(is_inherited).collect()
}

type Launch = (Command, oneshot::Sender<std::io::Result<Child>>);

/// A thread that has restricted itself and waits to start one process. Dropped, the thread ends.
#[derive(Debug)]
pub(crate) struct Cell {
    launches: mpsc::SyncSender<Launch>,
}

impl Cell {
    /// Starts a thread that restricts itself to `folder` and the settings' allow-list.
    ///
    /// # Errors
    /// [`Error::IsolationUnavailable`] if the kernel does not restrict it.
    pub(crate) async fn new(
        settings: &IsolationSettings,
        folder: &Path,
    ) -> Result<(Self, Applied), Error> {
        let (launches, waiting) = mpsc::sync_channel::<Launch>(1);
        let (tell, told) = oneshot::channel();
        let (settings, folder) = (settings.clone(), folder.to_owned());
        let runtime = tokio::runtime::Handle::current();
        let work = move || {
            let restricted = restrict(&settings, &folder);
            let is_restricted = restricted.is_ok();
            if tell.send(restricted).is_err() || !is_restricted {
                return;
            }
            let Ok((mut command, answer)) = waiting.recv() else { return };
            let _runtime = runtime.enter();
            // If nobody waits for it any more, the child is dropped here, and killed with that.
            let _ = answer.send(command.spawn());
        };
        let thread = std::thread::Builder::new().name("oms-job-cell".to_owned());
        thread.spawn(work).map_err(failed("start thread", Path::new("oms-job-cell")))?;
        let applied = told.await.map_err(|_| Error::IsolationUnavailable {
            reason: "the thread that was to restrict itself ended".to_owned(),
        })??;
        Ok((Self { launches }, applied))
    }

    /// Starts the process from the restricted thread.
    pub(crate) async fn spawn(self, command: Command) -> std::io::Result<Child> {
        let gone = || std::io::Error::other("the restricted thread is gone");
        let (answer, answered) = oneshot::channel();
        self.launches.send((command, answer)).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// Restricts the calling thread, for good.
fn restrict(settings: &IsolationSettings, folder: &Path) -> Result<Applied, Error> {
    let mut applied = Applied { user: settings.run_as, ..Applied::default() };
    if settings.mode == IsolationMode::Off {
        applied.user = None;
        return Ok(applied);
    }
    let refuse = |reason: String| Error::IsolationUnavailable { reason };
    let status = ruleset(settings, folder).map_err(|error| refuse(error.to_string()))?;
    applied.no_new_privileges = status.no_new_privs;
    if status.ruleset != RulesetStatus::NotEnforced {
        applied.landlock_abi = abi(status.landlock);
        applied.tcp = settings.tcp;
    }
    if !applied.no_new_privileges {
        return Err(refuse("the kernel refused no_new_privs".to_owned()));
    }
    let support = Support { landlock_abi: applied.landlock_abi, is_root: geteuid().is_root() };
    check(&IsolationSettings { readable: Vec::new(), ..settings.clone() }, support, folder)?;
    Ok(applied)
}

fn ruleset(
    settings: &IsolationSettings,
    folder: &Path,
) -> Result<landlock::RestrictionStatus, Box<dyn std::error::Error + Send + Sync>> {
    let read = AccessFs::from_read(NEWEST);
    // No device files: a node of the disk would be a way around every other rule.
    let devices = AccessFs::MakeBlock | AccessFs::MakeChar | AccessFs::IoctlDev;
    let write: BitFlags<AccessFs> = AccessFs::from_all(NEWEST) & !devices;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?;
    if settings.tcp == TcpAccess::Denied {
        ruleset = ruleset.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?;
    }
    let created = ruleset
        .create()?
        .add_rules(path_beneath_rules(&settings.readable, read))?
        .add_rules(path_beneath_rules(&settings.writable, write))?
        .add_rule(PathBeneath::new(PathFd::new(folder)?, write))?;
    Ok(created.restrict_self()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_that_would_be_inherited_are_found() {
        use std::os::fd::AsRawFd;
        let file = std::fs::File::open("/dev/null").expect("there");
        let number = u32::try_from(file.as_raw_fd()).expect("not negative");
        assert!(!inherited_descriptors().contains(&number));
        rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).expect("its own file");
        assert!(inherited_descriptors().contains(&number));
    }
}
