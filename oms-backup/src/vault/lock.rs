//! Lock files, as restic writes and honours them.
//!
//! A backup, a restore and a check hold a *shared* lock; whoever deletes (`restic prune`) holds an
//! *exclusive* one. A lock is refreshed while its holder works and counts as stale after thirty
//! minutes, or at once if its process on this computer is gone. A writer that was asleep for
//! longer must not commit, because a prune may have run meanwhile: see [`LockGuard::confirm`].

use super::Core;
use super::format::{LockId, SMALL_FILE_BYTES_MAX, to_json};
use super::holder::is_process_alive;
use super::store::{FileId as _, is_not_found};
use crate::error::Error;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// How often a holder makes its lock new.
pub const LOCK_REFRESH_INTERVAL: SignedDuration = SignedDuration::from_mins(5);

/// The age from which nobody honours a lock.
pub const LOCK_STALE_AGE: SignedDuration = SignedDuration::from_mins(30);

/// A file under `locks/`.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct LockFile {
    pub(crate) time: Timestamp,
    pub(crate) exclusive: bool,
    #[serde(default)]
    pub(crate) hostname: String,
    #[serde(default)]
    pub(crate) username: String,
    #[serde(default)]
    pub(crate) pid: i64,
    #[serde(default)]
    pub(crate) uid: u32,
    #[serde(default)]
    pub(crate) gid: u32,
}

impl LockFile {
    fn is_stale(&self, now: Timestamp, hostname: &str) -> bool {
        now.duration_since(self.time) > LOCK_STALE_AGE
            || (self.hostname == hostname && !is_process_alive(self.pid))
    }
}

/// A lock held; dropping it removes its file.
#[derive(Debug)]
pub(crate) struct LockGuard {
    core: Arc<Core>,
    is_exclusive: bool,
    held: Mutex<(LockId, Timestamp)>,
}

impl LockGuard {
    /// Takes a lock. Both sides write first and look afterwards, so of two that exclude each other
    /// at least one sees the other.
    pub(crate) fn acquire(core: &Arc<Core>, is_exclusive: bool) -> Result<Self, Error> {
        check_others(core, is_exclusive, None)?;
        let held = Mutex::new(write_lock(core, is_exclusive)?);
        let guard = Self { core: Arc::clone(core), is_exclusive, held };
        // An early return drops the guard, which removes the file again.
        check_others(core, is_exclusive, Some(guard.held().0))?;
        Ok(guard)
    }

    fn held(&self) -> (LockId, Timestamp) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the lock new if it is time. Long operations call this now and then.
    pub(crate) fn refresh(&self) -> Result<(), Error> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let age = self.core.store.clock.now().duration_since(held.1);
        if age < LOCK_REFRESH_INTERVAL {
            return Ok(());
        }
        self.check_held(*held)?;
        let old = held.0;
        *held = write_lock(&self.core, self.is_exclusive)?;
        self.core.store.remove(old)
    }

    /// Asks whether the lock's file is somewhere, by its path in a vault, which stays the same meanwhile.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nothing is read there"))]
    pub(crate) fn look_for(&self, is_there: impl FnOnce(&Path) -> bool) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        is_there(&held.0.path())
    }

    /// Checks that the lock has been honoured without a break until now.
    pub(crate) fn confirm(&self) -> Result<(), Error> {
        self.check_held(self.held())
    }

    fn check_held(&self, held: (LockId, Timestamp)) -> Result<(), Error> {
        let age = self.core.store.clock.now().duration_since(held.1);
        if age > LOCK_STALE_AGE || !self.core.store.exists(&held.0.path())? {
            return Err(Error::LockLost { lock: held.0.path().display().to_string() });
        }
        Ok(())
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        // A lock that cannot be removed goes stale by itself.
        let _ = self.core.store.remove(self.held().0);
    }
}

fn write_lock(core: &Core, exclusive: bool) -> Result<(LockId, Timestamp), Error> {
    let holder = &core.holder;
    let time = core.store.clock.now();
    let lock = LockFile {
        time,
        exclusive,
        hostname: holder.hostname.clone(),
        username: holder.username.clone(),
        pid: i64::from(holder.pid),
        uid: holder.uid,
        gid: holder.gid,
    };
    let json = to_json("lock", &lock).map_err(Error::format("locks"))?;
    Ok((core.store.write::<LockId>(&core.seal_file(&json)?)?, time))
}

/// Refuses if someone's lock excludes this one. Stale locks are removed.
fn check_others(core: &Core, is_exclusive: bool, own: Option<LockId>) -> Result<(), Error> {
    for id in core.store.list::<LockId>()? {
        if Some(id) == own {
            continue;
        }
        let sealed = match core.store.read(id) {
            // Released between the listing and now.
            Err(Error::Disk(error)) if is_not_found(&error) => continue,
            sealed => sealed?,
        };
        let path = id.path().display().to_string();
        let json = core.open_file(&path, &sealed, SMALL_FILE_BYTES_MAX)?;
        let lock: LockFile = serde_json::from_slice(&json)
            .map_err(|error| Error::corrupt(path, error.to_string()))?;
        if lock.is_stale(core.store.clock.now(), &core.holder.hostname) {
            core.store.remove(id)?;
        } else if is_exclusive || lock.exclusive {
            let (user, host, pid) = (&lock.username, &lock.hostname, lock.pid);
            let holder = format!("{user}@{host}, process {pid}");
            return Err(Error::Locked { holder, since: lock.time });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::{BackupOptions, Control};
    use crate::vault::Holder;
    use crate::vault::Vault;
    use crate::vault::format::KdfParameters;
    use oms_core::clock::ManualClock;
    use oms_core::testkit::disk::SimDisk;
    use oms_core::{Clock as _, Disk as _, Secret, SystemClock};
    use std::time::Duration;

    /// A vault in memory on which someone else holds a lock, as restic would.
    fn locked_by(exclusive: bool, pid: i64, hostname: &str) -> (SimDisk, Arc<ManualClock>) {
        let disk = SimDisk::default();
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        let vault = Vault::new(Arc::new(disk.clone()))
            .kdf(KdfParameters { log_n: 4, r: 1, p: 1 })
            .clock(Arc::<ManualClock>::clone(&clock))
            .create(&Secret::from("test"))
            .expect("a vault");
        let time = clock.now();
        let json = format!(
            r#"{{"time":"{time}","exclusive":{exclusive},"hostname":"{hostname}","username":"eve","pid":{pid}}}"#
        );
        let core = vault.core();
        let sealed = core.seal_file(json.as_bytes()).expect("sealed");
        core.store.write::<LockId>(&sealed).expect("a lock");
        (disk, clock)
    }

    fn try_backup(disk: &SimDisk, clock: &Arc<ManualClock>, source: &Path) -> Result<(), Error> {
        let holder = Holder {
            hostname: "here".to_owned(),
            username: "alice".to_owned(),
            pid: std::process::id(),
            uid: 0,
            gid: 0,
        };
        let vault = Vault::new(Arc::new(disk.clone()))
            .clock(Arc::<ManualClock>::clone(clock))
            .holder(holder)
            .open(&Secret::from("test"))
            .expect("the vault opens");
        let options = BackupOptions { paths: vec![source.to_owned()], ..BackupOptions::default() };
        vault.plan_backup(&options)?.run(&Control::default()).map(drop)
    }

    #[test]
    fn an_exclusive_lock_is_honoured_until_it_is_stale() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("file"), b"x").expect("a file");
        let (disk, clock) = locked_by(true, 1, "elsewhere");
        let error = try_backup(&disk, &clock, folder.path()).expect_err("locked");
        assert!(error.to_string().contains("eve@elsewhere, process 1"), "{error}");
        assert!(error.kind().is_retryable());
        assert_eq!(disk.list(Path::new("locks")).expect("a list").len(), 1, "only the other's");
        clock.advance(
            Duration::try_from(LOCK_STALE_AGE).expect("positive") + Duration::from_secs(1),
        );
        try_backup(&disk, &clock, folder.path()).expect("stale");
        assert!(disk.list(Path::new("locks")).expect("a list").is_empty());
    }

    #[test]
    fn the_lock_of_a_dead_process_on_this_computer_is_stale_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("file"), b"x").expect("a file");
        // No process has the largest number.
        let (disk, clock) = locked_by(true, i64::from(i32::MAX), "here");
        try_backup(&disk, &clock, folder.path()).expect("its process is gone");
        let (disk, clock) = locked_by(true, i64::from(std::process::id()), "here");
        try_backup(&disk, &clock, folder.path()).expect_err("its process is alive");
    }

    #[test]
    fn shared_locks_do_not_exclude_each_other() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("file"), b"x").expect("a file");
        let (disk, clock) = locked_by(false, 1, "elsewhere");
        try_backup(&disk, &clock, folder.path()).expect("shared");
        assert_eq!(disk.list(Path::new("locks")).expect("a list").len(), 1, "the other's is kept");
    }
}
