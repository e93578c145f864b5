//! What a job's process is kept away from, and how.
//!
//! | means | against |
//! |---|---|
//! | Landlock: an allow-list of files, without the account's folder | reading and changing the service's data, its keys, other jobs |
//! | Landlock scopes (where the kernel has them) | signals and abstract sockets of other processes |
//! | `no_new_privs`, no capabilities, or another user id | set-user-id programs; what root may do beside files |
//! | cleared environment, standard input from nowhere, no inherited descriptors | the service's secrets |
//! | own session | the service's terminal and signals |
//! | resource limits | one job taking the computer |
//!
//! Landlock and `no_new_privs` hold for a thread and what it starts, so each job is started by a
//! thread of its own that restricts itself first. Limits, capabilities and the session
//! are set by the system's own `prlimit`, `setpriv` and `setsid` (util-linux), which become the
//! interpreter. Without one of them no job is run: an error names it.
//!
//! Not kept away from: the network, unless TCP is denied; Unix sockets in the file system (a
//! kernel's Landlock knows them from ABI 9); the CPU and disk that the limits leave.

use crate::Error;
use crate::error::failed;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus,
    PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
    path_beneath_rules,
};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

/// The newest Landlock whose rights are asked for: the newest that this code was tested on.
const NEWEST: ABI = ABI::V7;

/// The oldest Landlock that can deny TCP.
const TCP_ABI: u32 = 4;

/// Whether jobs are isolated.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum IsolationMode {
    /// Jobs are refused where they cannot be isolated.
    #[default]
    Required,
    /// Jobs run as this process's user with all its rights, limited only in time and output.
    Off,
}

/// Whether jobs may use TCP.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TcpAccess {
    /// They may.
    #[default]
    Allowed,
    /// They may neither connect nor bind. Needs Landlock ABI 4. UDP is not covered.
    Denied,
}

/// Another user to run jobs as. Only root can.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct RunAs {
    /// The user id, not 0.
    pub uid: u32,
    /// The group id, not 0. Supplementary groups are dropped.
    pub gid: u32,
}

/// What one process of a job may use.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceLimits {
    /// Address space, in bytes.
    pub memory_bytes_max: u64,
    /// CPU time, in seconds.
    pub cpu_seconds_max: u64,
    /// Open files.
    pub files_max: u64,
    /// Processes and threads of the user the job runs as, the service's own included. Linux does
    /// not enforce it on root.
    pub processes_max: u64,
    /// The largest file written, in bytes.
    pub file_bytes_max: u64,
}

impl Default for ResourceLimits {
    /// 4 GiB of address space, 3 hours of CPU time, 1,024 files, 4,096 processes, files of 1 GiB.
    fn default() -> Self {
        Self {
            memory_bytes_max: 4 << 30,
            cpu_seconds_max: 3 * 3600,
            files_max: 1024,
            processes_max: 4096,
            file_bytes_max: 1 << 30,
        }
    }
}

/// How jobs are isolated.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct IsolationSettings {
    /// Whether they are at all.
    pub mode: IsolationMode,
    /// Another user to run them as. The sandbox folder must be reachable for that user.
    pub run_as: Option<RunAs>,
    /// Files and folders, with all below, that jobs may read and execute. Those that are not there
    /// are left out. The default is the system's programs and libraries and the few files of `/etc`
    /// and `/proc` that ordinary programs need.
    pub readable: Vec<PathBuf>,
    /// Files and folders, with all below, that jobs may also write, beside their own folder.
    pub writable: Vec<PathBuf>,
    /// Folders beside the account's own that no readable path may hold, such as the folder of all
    /// services' data.
    pub protected: Vec<PathBuf>,
    /// Whether they may use TCP.
    pub tcp: TcpAccess,
    /// What each process may use.
    pub limits: ResourceLimits,
}

impl Default for IsolationSettings {
    fn default() -> Self {
        let readable = [
            "/usr",
            "/bin",
            "/sbin",
            "/lib",
            "/lib32",
            "/lib64",
            "/libx32",
            "/etc/alternatives",
            "/etc/ca-certificates",
            "/etc/gai.conf",
            "/etc/group",
            "/etc/host.conf",
            "/etc/hosts",
            "/etc/ld.so.cache",
            "/etc/ld.so.conf",
            "/etc/ld.so.conf.d",
            "/etc/localtime",
            "/etc/mime.types",
            "/etc/nsswitch.conf",
            "/etc/os-release",
            "/etc/passwd",
            "/etc/pki/ca-trust/extracted",
            "/etc/pki/tls/certs",
            "/etc/protocols",
            "/etc/resolv.conf",
            "/etc/services",
            "/etc/ssl/certs",
            "/etc/ssl/openssl.cnf",
            "/etc/timezone",
            "/dev/random",
            "/dev/urandom",
            "/proc/cpuinfo",
            "/proc/filesystems",
            "/proc/loadavg",
            "/proc/meminfo",
            "/proc/stat",
            "/proc/uptime",
            "/proc/version",
        ];
        Self {
            mode: IsolationMode::default(),
            run_as: None,
            readable: readable.map(PathBuf::from).to_vec(),
            writable: ["/dev/null", "/dev/zero", "/dev/full"].map(PathBuf::from).to_vec(),
            protected: Vec::new(),
            tcp: TcpAccess::default(),
            limits: ResourceLimits::default(),
        }
    }
}

/// What this computer offers for isolation.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Support {
    /// The version of Landlock's interface, if the kernel has it switched on.
    pub landlock_abi: Option<u32>,
    /// Whether this process runs as root, and so can start others as another user.
    pub is_root: bool,
}

impl Support {
    /// Asks the kernel.
    ///
    /// # Errors
    /// [`Error::Io`] if no thread could be started to ask.
    pub fn probe() -> Result<Self, Error> {
        // Landlock says its version when a thread restricts itself, so a thread does just that.
        let ask = || {
            let created = Ruleset::default().handle_access(AccessFs::Execute)?.create()?;
            created.restrict_self()
        };
        let thread = std::thread::Builder::new().name("oms-landlock-probe".to_owned());
        let thread = thread.spawn(ask).map_err(failed("start thread", Path::new("landlock")))?;
        let status = thread.join().ok().and_then(Result::ok);
        let landlock_abi = status.and_then(|status| abi(status.landlock));
        Ok(Self { landlock_abi, is_root: geteuid().is_root() })
    }
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

/// What a job's process was kept away from; part of the job's history.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    /// The version of Landlock's interface, if files were restricted.
    pub landlock_abi: Option<u32>,
    /// Whether no program it starts gets more rights than it has.
    pub no_new_privileges: bool,
    /// The user it ran as, if not this process's.
    pub user: Option<RunAs>,
    /// Whether it ran as root without root's capabilities.
    pub are_capabilities_dropped: bool,
    /// Whether it had a session of its own.
    pub has_own_session: bool,
    /// What each of its processes could use.
    pub limits: Option<ResourceLimits>,
    /// Whether it could use TCP.
    pub tcp: TcpAccess,
    /// How many descriptors of this process were closed that it would have inherited.
    pub closed_descriptors: usize,
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.landlock_abi.map(|abi| format!("landlock {abi}")));
        parts.extend(self.user.map(|user| format!("uid {}", user.uid)));
        let flags = [
            (self.no_new_privileges, "no new privileges"),
            (self.are_capabilities_dropped, "no capabilities"),
            (self.has_own_session, "own session"),
            (self.limits.is_some(), "limits"),
            (self.tcp == TcpAccess::Denied, "no TCP"),
        ];
        parts.extend(flags.iter().filter(|(is_on, _)| *is_on).map(|(_, name)| (*name).to_owned()));
        if parts.is_empty() {
            return f.write_str("none");
        }
        f.write_str(&parts.join(", "))
    }
}

/// Checks that jobs can be isolated as asked, on a computer that offers `support`.
///
/// # Errors
/// [`Error::IsolationUnavailable`] or [`Error::Setting`].
pub fn check(settings: &IsolationSettings, support: Support, folder: &Path) -> Result<(), Error> {
    if settings.mode == IsolationMode::Off {
        return Ok(());
    }
    let unavailable = |reason: &str| Err(Error::IsolationUnavailable { reason: reason.to_owned() });
    if let Some(user) = settings.run_as {
        if user.uid == 0 || user.gid == 0 {
            let reason = "root is not another user".to_owned();
            return Err(Error::Setting { name: "isolation.run_as", reason });
        }
        if !support.is_root {
            return unavailable(
                "isolation.run_as names another user, and only root can run as one",
            );
        }
    }
    if support.landlock_abi.is_none() && settings.run_as.is_none() {
        return unavailable(
            "this kernel has no Landlock and isolation.run_as names no other user; set one, or set \
             isolation.mode to Off to run jobs with all rights of this process",
        );
    }
    if settings.tcp == TcpAccess::Denied && support.landlock_abi.is_none_or(|abi| abi < TCP_ABI) {
        return unavailable("isolation.tcp is Denied, and this kernel has no Landlock ABI 4");
    }
    let protected = settings.protected.iter().map(PathBuf::as_path).chain([folder]);
    for folder in protected {
        // What is not there yet is compared as it is spelled.
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        for path in settings.readable.iter().chain(&settings.writable) {
            let real = path.canonicalize().unwrap_or_else(|_| path.clone());
            if folder.starts_with(&real) || real.starts_with(&folder) {
                let reason = format!(
                    "jobs may read `{}`, which would open `{}` to them",
                    path.display(),
                    folder.display()
                );
                return Err(Error::Setting { name: "isolation.readable", reason });
            }
        }
    }
    Ok(())
}

/// Whether jobs may execute a program, given the allow-list.
#[must_use]
pub fn is_readable(settings: &IsolationSettings, program: &Path) -> bool {
    let real = program.canonicalize().unwrap_or_else(|_| program.to_owned());
    let allowed = settings.readable.iter().chain(&settings.writable);
    settings.mode == IsolationMode::Off
        || allowed.filter_map(|path| path.canonicalize().ok()).any(|path| real.starts_with(path))
}

/// The programs that set what only a process itself can set before it becomes another.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    pub(crate) prlimit: PathBuf,
    pub(crate) setpriv: PathBuf,
    pub(crate) setsid: PathBuf,
    pub(crate) bash: Option<PathBuf>,
}

/// The command line that limits itself and becomes `arguments`; none of it if isolation is off.
pub(crate) fn wrap(
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
pub(crate) fn inherited_descriptors() -> Vec<u32> {
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

    const HERE: Support = Support { landlock_abi: Some(7), is_root: false };

    fn reason(settings: &IsolationSettings, support: Support, folder: &str) -> String {
        check(settings, support, Path::new(folder)).expect_err("refused").to_string()
    }

    #[test]
    fn without_landlock_and_another_user_jobs_are_refused_by_name() {
        let settings = IsolationSettings::default();
        let bare = Support { landlock_abi: None, is_root: true };
        assert!(check(&settings, HERE, Path::new("/srv/oms")).is_ok());
        let text = reason(&settings, bare, "/srv/oms");
        assert!(text.contains("no Landlock") && text.contains("isolation.mode"), "{text}");
        let off = IsolationSettings { mode: IsolationMode::Off, ..settings.clone() };
        assert!(check(&off, bare, Path::new("/srv/oms")).is_ok());
        let run_as = Some(RunAs { uid: 65_534, gid: 65_534 });
        let other = IsolationSettings { run_as, ..settings.clone() };
        assert!(check(&other, bare, Path::new("/srv/oms")).is_ok());
        assert!(reason(&other, HERE, "/srv/oms").contains("only root"));
        let root = IsolationSettings { run_as: Some(RunAs { uid: 0, gid: 0 }), ..settings.clone() };
        assert!(reason(&root, bare, "/srv/oms").contains("isolation.run_as"));
        let no_tcp = IsolationSettings { tcp: TcpAccess::Denied, ..settings };
        let old = Support { landlock_abi: Some(3), is_root: false };
        assert!(reason(&no_tcp, old, "/srv/oms").contains("ABI 4"));
    }

    #[test]
    fn an_allow_list_that_holds_the_data_is_refused() {
        let settings = IsolationSettings::default();
        assert!(reason(&settings, HERE, "/usr/local/oms").contains("`/usr`"));
        let wide = IsolationSettings { readable: vec!["/".into()], ..settings.clone() };
        assert!(reason(&wide, HERE, "/srv/oms").contains("isolation.readable"));
        let inside = IsolationSettings { writable: vec!["/srv/oms/x".into()], ..settings.clone() };
        assert!(reason(&inside, HERE, "/srv/oms").contains("`/srv/oms/x`"));
        let protected = IsolationSettings { protected: vec!["/usr/share".into()], ..settings };
        assert!(reason(&protected, HERE, "/srv/oms").contains("/usr/share"));
    }

    #[test]
    fn what_was_applied_reads_as_text() {
        assert_eq!(Applied::default().to_string(), "none");
        let applied = Applied {
            landlock_abi: Some(7),
            no_new_privileges: true,
            has_own_session: true,
            limits: Some(ResourceLimits::default()),
            ..Applied::default()
        };
        assert_eq!(applied.to_string(), "landlock 7, no new privileges, own session, limits");
    }

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
