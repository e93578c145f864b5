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
//! Not kept away from: the owner, mode, times and extended attributes of files of its user, whose paths
//! it knows: Landlock has no rule for them, so a job that runs as the service's user can open the
//! service's data to other users of the computer, if not read it; run jobs as another
//! ([`IsolationSettings::run_as`]) where that matters. Nor from the network, unless TCP is denied;
//! Unix sockets in the file system (a kernel's Landlock knows them from ABI 9); the CPU and disk that
//! the limits leave.

use super::system;
use crate::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

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
        system::probe()
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
}
