//! Who works on a vault: this computer, user and process, as locks and recovery points name them.

/// Who holds locks and makes backups.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Holder {
    /// The computer.
    pub hostname: String,
    /// The user.
    pub username: String,
    /// The process.
    pub pid: u32,
    /// The user's id.
    pub uid: u32,
    /// The user's group.
    pub gid: u32,
}

impl Holder {
    /// This process.
    pub(crate) fn this_process() -> Self {
        system::this_process()
    }
}

/// Whether this computer has such a process; yes if that cannot be told.
pub(crate) fn is_process_alive(pid: i64) -> bool {
    system::is_process_alive(pid)
}

#[cfg(unix)]
mod system {
    use super::Holder;
    use crate::item::source::Accounts;
    use rustix::io::Errno;
    use rustix::process::{Pid, getgid, getuid, test_kill_process};

    pub(super) fn this_process() -> Holder {
        let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
        let username = Accounts::load().user(uid).to_owned();
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Holder { hostname, username, pid: std::process::id(), uid, gid }
    }

    pub(super) fn is_process_alive(pid: i64) -> bool {
        let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return true;
        };
        test_kill_process(pid) != Err(Errno::SRCH)
    }
}

/// There are no user and group numbers here, and restic writes 0 for both too. A lock of a process
/// that died is honoured until it is [`LOCK_STALE_AGE`](super::LOCK_STALE_AGE) old.
#[cfg(not(unix))]
mod system {
    use super::Holder;

    pub(super) fn this_process() -> Holder {
        let named = |variable| std::env::var(variable).unwrap_or_default();
        let (hostname, username) = (named("COMPUTERNAME"), named("USERNAME"));
        Holder { hostname, username, pid: std::process::id(), uid: 0, gid: 0 }
    }

    pub(super) fn is_process_alive(_pid: i64) -> bool {
        true
    }
}
