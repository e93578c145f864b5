//! All processes of a job, found by a mark that they inherit.
//!
//! A process leaves its group and session at will and outlives its parent, so neither says whose
//! it is. What a job's first process is started with, and every descendant inherits, is:
//! - an environment variable, [`MARKER_VARIABLE`]; a program may drop it (`env -i`);
//! - a hard limit on real-time CPU time whose value is the job's own number, far above any use. No
//!   program drops limits by accident, and without privileges it can only be lowered.
//!
//! A process is the job's if it has either, if its parent is, or if it is in a session of one that is.
//! To kill them the groups that they are in are killed too: a signal to a group reaches all of it at
//! once, also processes that begin and end faster than a list of them is read. One that takes pains
//! to lower the limit, drop the variable, leave the session and outlive its parent is not found, and
//! neither is for sure a chain of processes of which each begins a session and ends at once; Landlock
//! still binds them.

use crate::Error;
use crate::error::failed;
use crate::job::JobId;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Names the job in the environment of its processes.
pub(crate) const MARKER_VARIABLE: &str = "OMS_JOB_MARKER";

/// How often the processes are looked for and killed before that is given up. Between rounds is a
/// pause of up to 20 ms, so this is about 10 seconds.
const SWEEP_ROUNDS_MAX: u32 = 500;

/// The number of every session and group that began outside this PID namespace, see
/// pid_namespaces(7): those of a container's first processes, say. Who is in it says nothing about
/// whose it is.
const OUTSIDE: i32 = 0;

/// How often in a row no process is found before there is none: a list of processes is no picture of
/// one moment.
const EMPTY_ROUNDS: u32 = 5;

/// The same where the group of the job's first process was killed unseen, which is how nearly every job
/// ends: a look at all processes of the computer is not free.
const EMPTY_ROUNDS_AFTER_GROUP: u32 = 2;

/// The mark of one job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marker {
    job: JobId,
}

impl Marker {
    pub(crate) const fn new(job: JobId) -> Self {
        Self { job }
    }

    /// The value of [`MARKER_VARIABLE`].
    pub(crate) fn variable(self) -> String {
        self.job.to_string()
    }

    /// The limit on real-time CPU time, in microseconds: 2⁶² and the job's last 61 bits, between
    /// 146,000 and 219,000 years.
    pub(crate) const fn limit(self) -> u64 {
        (1 << 62) | (self.job.0.as_u128() as u64 >> 3)
    }

    fn is_on(self, process: &Path) -> bool {
        let line = |text: String| {
            let line = text.lines().find(|line| line.starts_with("Max realtime timeout"))?;
            line.split_whitespace().rev().nth(1)?.parse::<u64>().ok()
        };
        let limit = std::fs::read_to_string(process.join("limits")).ok().and_then(line);
        if limit == Some(self.limit()) {
            return true;
        }
        let wanted = format!("{MARKER_VARIABLE}={}", self.job);
        let environment = std::fs::read(process.join("environ")).unwrap_or_default();
        environment.split(|b| *b == 0).any(|variable| variable == wanted.as_bytes())
    }
}

/// Asks every process of the job to end.
pub(crate) fn terminate(marker: Marker) -> Result<(), Error> {
    for (pid, status) in members(marker)? {
        send(pid, status.started, Signal::TERM);
    }
    Ok(())
}

/// Kills every process of the job until none is left; answers how many there were at first. It
/// blocks for some milliseconds, and for seconds if processes do not die. `first` is the job's first
/// process if it has just ended: what is left of the group that it led is killed unseen.
///
/// # Errors
/// [`Error::Unkillable`] names those that are still there at the end.
pub(crate) fn sweep(marker: Marker, first: Option<u32>) -> Result<usize, Error> {
    let own = own_session();
    let mut groups: BTreeSet<i32> =
        first.and_then(|id| i32::try_from(id).ok()).into_iter().collect();
    let empty_rounds = if groups.is_empty() { EMPTY_ROUNDS } else { EMPTY_ROUNDS_AFTER_GROUP };
    let (mut at_first, mut empty) = (None, 0);
    for round in 0..SWEEP_ROUNDS_MAX {
        let members = members(marker)?;
        // A group of another session than ours has processes of one job only. Its number is free
        // for others once it is empty, so it is forgotten after this round.
        groups.extend(members.values().filter(|it| it.session != own).map(|it| it.group));
        for group in std::mem::take(&mut groups) {
            // There may be nobody left.
            let _ = Pid::from_raw(group).map(|group| kill_process_group(group, Signal::KILL));
        }
        for (pid, status) in &members {
            send(*pid, status.started, Signal::KILL);
        }
        let at_first = *at_first.get_or_insert(members.len());
        empty = if members.is_empty() { empty + 1 } else { 0 };
        if empty == empty_rounds {
            return Ok(at_first);
        }
        // A killed process is seen until the kernel has torn it down.
        std::thread::sleep(Duration::from_millis(u64::from(round.clamp(1, 20))));
    }
    let processes: Vec<i32> = members(marker)?.into_keys().collect();
    if processes.is_empty() {
        return Ok(at_first.unwrap_or_default());
    }
    Err(Error::Unkillable { job: marker.job, processes })
}

/// The session of this process, [`OUTSIDE`] if it is not known. It is read like that of others:
/// in a container it may have begun outside, and has no number inside.
fn own_session() -> i32 {
    status(Path::new("/proc/self")).map_or(OUTSIDE, |status| status.session)
}

/// Kills a job's processes when it is dropped before it is disarmed: when the runtime ends, say.
#[derive(Debug)]
pub(crate) struct TreeGuard {
    marker: Marker,
    is_armed: bool,
}

impl TreeGuard {
    pub(crate) const fn new(marker: Marker) -> Self {
        Self { marker, is_armed: true }
    }

    pub(crate) fn disarm(mut self) {
        self.is_armed = false;
    }
}

impl Drop for TreeGuard {
    fn drop(&mut self) {
        if self.is_armed
            && let Err(error) = sweep(self.marker, None)
        {
            tracing::error!(error = %error.describe(), "a job's processes are left");
        }
    }
}

/// The job's processes that have not ended, by their ids.
fn members(marker: Marker) -> Result<BTreeMap<i32, Status>, Error> {
    let session = own_session();
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let root = Path::new("/proc");
    let mut others = Vec::new();
    let mut members = BTreeMap::new();
    for entry in std::fs::read_dir(root).map_err(failed("list processes", root))? {
        let Ok(entry) = entry else { continue };
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let process = entry.path();
        // A process that ends meanwhile has no files any more.
        let Some(status) = status(&process).filter(|_| pid != own) else { continue };
        if marker.is_on(&process) {
            members.insert(pid, status);
        } else {
            others.push((pid, status));
        }
    }
    loop {
        let sessions: BTreeSet<i32> = (members.values().map(|it: &Status| it.session))
            .filter(|it| *it != session && *it != OUTSIDE)
            .collect();
        let (found, rest): (Vec<_>, Vec<_>) = others.into_iter().partition(|(_, status)| {
            members.contains_key(&status.parent) || sessions.contains(&status.session)
        });
        if found.is_empty() {
            return Ok(members);
        }
        members.extend(found);
        others = rest;
    }
}

#[derive(Clone, Copy, Debug)]
struct Status {
    parent: i32,
    group: i32,
    session: i32,
    /// In ticks since the computer started: with the id, it names a process for good.
    started: u64,
}

/// Of a process that has not ended. See proc(5), `/proc/pid/stat`: the name in brackets may hold
/// anything, so fields are counted from its end.
fn status(process: &Path) -> Option<Status> {
    let stat = std::fs::read(process.join("stat")).ok()?;
    let end = stat.iter().rposition(|b| *b == b')')?;
    let text = std::str::from_utf8(&stat[end + 1..]).ok()?;
    let fields: Vec<&str> = text.split_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X" | "x") {
        return None;
    }
    let number = |at: usize| fields.get(at)?.parse().ok();
    let (parent, group, session) = (number(1)?, number(2)?, number(3)?);
    Some(Status { parent, group, session, started: fields.get(19)?.parse().ok()? })
}

/// Signals a process if it still is what it was: its descriptor is taken first and its start read
/// after, so the number cannot have passed to another process in between.
fn send(pid: i32, started: u64, signal: Signal) {
    let Some(raw) = Pid::from_raw(pid) else { return };
    let Ok(descriptor) = pidfd_open(raw, PidfdFlags::empty()) else { return };
    let now = status(&PathBuf::from(format!("/proc/{pid}")));
    if now.is_some_and(|status| status.started == started) {
        // It may have ended just now, which is as good.
        let _ = pidfd_send_signal(&descriptor, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::entropy::SeededEntropy;
    use std::process::{Command, Stdio};

    fn marker(seed: u64) -> Marker {
        Marker::new(JobId::draw(&SeededEntropy::new(seed ^ u64::from(std::process::id()) << 20)))
    }

    #[test]
    fn a_process_is_found_by_its_environment_and_nobody_elses_is() {
        let (mine, other) = (marker(1), marker(2));
        let mut child = Command::new("sleep")
            .arg("1000")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env(MARKER_VARIABLE, mine.variable())
            .stdout(Stdio::null())
            .spawn()
            .expect("sleep is there");
        assert_eq!(sweep(other, None).expect("nothing to do"), 0);
        assert_eq!(sweep(mine, None).expect("killed"), 1);
        assert!(!child.wait().expect("reaped").success());
    }

    #[test]
    fn a_process_without_environment_is_found_by_its_limit() {
        let mine = marker(3);
        let mut child = Command::new("prlimit")
            .arg(format!("--rttime={0}:{0}", mine.limit()))
            .args(["--", "env", "-i", "sleep", "1000"])
            .spawn()
            .expect("prlimit is there");
        // The limit is set by the program itself, so wait until it has become `sleep`.
        let name = format!("/proc/{}/comm", child.id());
        while std::fs::read_to_string(&name).expect("alive").trim() != "sleep" {
            std::thread::yield_now();
        }
        assert_eq!(sweep(mine, None).expect("killed"), 1);
        assert!(!child.wait().expect("reaped").success());
    }

    /// Processes that each live for a moment are killed with their group.
    #[test]
    fn a_chain_of_short_lived_processes_is_ended() {
        let mine = marker(4);
        let chain = "import os, time\n\
                     end = time.monotonic() + 60\n\
                     while time.monotonic() < end:\n    \
                         if os.fork() > 0: os._exit(0)\n";
        let mut child = Command::new("setsid")
            .args(["python3", "-c", chain])
            .env(MARKER_VARIABLE, mine.variable())
            .stdout(Stdio::null())
            .spawn()
            .expect("util-linux and python3 are there");
        let first = child.id();
        child.wait().expect("the first link ends by itself");
        let group = i32::try_from(first).expect("an id");
        // A killed one may not be reaped yet; it begins no other.
        let lives = || {
            let processes = std::fs::read_dir("/proc").expect("listed").flatten();
            let mut found = processes.filter_map(|entry| status(&entry.path()));
            found.any(|status| status.group == group)
        };
        let is_seen = (0..1_000).any(|_| lives());
        assert!(is_seen, "the chain goes on");
        sweep(mine, Some(first)).expect("killed");
        // One that is killed dies when it is its turn.
        let is_ended = (0..1_000).any(|_| !lives());
        assert!(is_ended && (0..200).all(|_| !lives()));
    }
}
