//! What a disk must do about names and locks that only one may have, and about what was synced.

use super::read_whole;
use crate::ErrorKind;
use crate::disk::{Disk, OpenMode};
use std::path::Path;
use std::sync::Barrier;

/// How many crashes the durability of what was synced is tried with.
const CRASHES: u64 = 100;

/// How many race for one name or one lock.
const RACERS: usize = 8;

fn create(disk: &dyn Disk, path: &str, bytes: &[u8]) {
    let file = disk.open(Path::new(path), OpenMode::CreateNew).expect("create");
    file.write_at(0, bytes).expect("write");
    file.sync().expect("sync");
}

/// A read fills the whole buffer, however large, unless the file ends.
pub fn a_large_read_is_whole(disk: &dyn Disk) {
    let pattern: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    create(disk, "large", &pattern);
    assert!(read_whole(disk, Path::new("large")) == pattern, "as it was written");
    let file = disk.open(Path::new("large"), OpenMode::Read).expect("open");
    let mut bytes = vec![0; 2_000_000];
    assert_eq!(file.read_at(1_500_000, &mut bytes).expect("read"), 1_500_000);
    assert!(bytes[..1_500_000] == pattern[1_500_000..], "from the middle to the end");
}

/// `rename_new` moves a name to a free one and leaves everything alone where it is taken; of many
/// that want one name, one gets it.
pub fn rename_new_replaces_nothing(disk: &dyn Disk) {
    disk.create_dir_all(Path::new("a")).expect("folder");
    create(disk, "1", b"one");
    create(disk, "a/2", b"two");
    let rename = |from: &str, to: &str| disk.rename_new(Path::new(from), Path::new(to));
    for taken in ["a/2", "a"] {
        let error = rename("1", taken).expect_err("the name is taken");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{taken}");
    }
    assert_eq!(read_whole(disk, Path::new("1")), b"one");
    assert_eq!(read_whole(disk, Path::new("a/2")), b"two");
    assert_eq!(rename("none", "a/3").expect_err("no such file").kind(), ErrorKind::NotFound);
    assert_eq!(rename("1", "no/folder").expect_err("no such folder").kind(), ErrorKind::NotFound);
    assert!(rename("1", "../1").is_err() && rename("../1", "1").is_err(), "paths stay inside");
    rename("1", "a/1").expect("the name is free");
    assert_eq!(read_whole(disk, Path::new("a/1")), b"one");
    assert_eq!(disk.list(Path::new("a")).expect("list"), ["1", "2"]);
    assert_eq!(disk.list(Path::new("")).expect("list"), ["a"]);

    (0..RACERS).for_each(|n| create(disk, &format!("from-{n}"), n.to_string().as_bytes()));
    let won = race(|n| rename(&format!("from-{n}"), "won").is_ok());
    let winners: Vec<usize> = (0..RACERS).filter(|n| won[*n]).collect();
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(read_whole(disk, Path::new("won")), winners[0].to_string().as_bytes());
    assert_eq!(disk.list(Path::new("")).expect("list").len(), RACERS + 1);
}

/// A lock has one holder until it is dropped; another is told so; other locks are other locks.
pub fn a_lock_has_one_holder(disk: &dyn Disk) {
    disk.create_dir_all(Path::new("a")).expect("folder");
    let (path, other) = (Path::new("a/lock"), Path::new("lock"));
    let held = disk.lock(path).expect("it is free");
    let error = disk.lock(path).expect_err("it is held");
    assert!(error.is_locked() && error.kind().is_retryable(), "{error:?}");
    assert_eq!(error.path.file_name(), path.file_name());
    assert!(disk.lock(Path::new("./a/lock")).expect_err("by another name").is_locked());
    let second = disk.lock(other).expect("another lock");
    let file = disk.open(path, OpenMode::Write).expect("the file is there");
    file.write_at(0, b"holder").expect("it can be written");
    drop(held);
    assert!(disk.lock(other).expect_err("it is still held").is_locked());
    drop(second);
    drop(disk.lock(path).expect("it is free again"));
    assert_eq!(read_whole(disk, path), b"holder", "a lock leaves the bytes alone");
    let missing = disk.lock(Path::new("no/folder")).expect_err("no such folder");
    assert!(!missing.is_locked() && missing.kind() == ErrorKind::NotFound, "{missing:?}");
    assert!(disk.lock(Path::new("../lock")).is_err(), "paths stay inside");

    // Nobody drops what it got before all have asked.
    let asked = Barrier::new(RACERS);
    let won = race(|_| {
        let lock = disk.lock(path);
        asked.wait();
        lock.is_ok()
    });
    assert_eq!(won.into_iter().filter(|won| *won).count(), 1);
}

/// Bytes that were synced, under names whose folder was synced, are there after a crash: created,
/// renamed, or gone.
pub fn what_is_synced_survives(disk: &dyn Disk, crash: &dyn Fn(u64)) {
    for seed in 0..CRASHES {
        let path = |name: &str| format!("{seed}/{name}");
        let rename_new = |from: &str, to: &str| {
            disk.rename_new(Path::new(&path(from)), Path::new(&path(to))).expect("rename");
        };
        let folder = seed.to_string();
        disk.create_dir_all(Path::new(&folder)).expect("folder");
        disk.create_dir_all(Path::new(&path("within"))).expect("folder");
        for name in ["created", "draft", "fresh", "gone", "moved"] {
            create(disk, &path(name), name.as_bytes());
        }
        disk.rename(Path::new(&path("draft")), Path::new(&path("renamed"))).expect("rename");
        rename_new("fresh", "new");
        rename_new("moved", "within/moved");
        disk.remove(Path::new(&path("gone"))).expect("remove");
        for folder in [path("within"), folder.clone()] {
            disk.sync_dir(Path::new(&folder)).expect("sync the names");
        }
        let file = disk.open(Path::new(&path("created")), OpenMode::Write).expect("open");
        file.write_at(2, b"AT").expect("write");
        file.sync().expect("sync");
        crash(seed);
        let names = disk.list(Path::new(&folder)).expect("list");
        assert_eq!(names, ["created", "new", "renamed", "within"], "seed {seed}");
        assert_eq!(disk.list(Path::new(&path("within"))).expect("list"), ["moved"], "seed {seed}");
        assert_eq!(read_whole(disk, Path::new(&path("created"))), b"crATted", "seed {seed}");
        assert_eq!(read_whole(disk, Path::new(&path("renamed"))), b"draft", "seed {seed}");
        assert_eq!(read_whole(disk, Path::new(&path("new"))), b"fresh", "seed {seed}");
    }
}

/// Runs the racers from one moment.
fn race(racer: impl Fn(usize) -> bool + Sync) -> Vec<bool> {
    let start = Barrier::new(RACERS);
    let (start, racer) = (&start, &racer);
    std::thread::scope(|scope| {
        let run = move |n| {
            start.wait();
            racer(n)
        };
        let threads: Vec<_> = (0..RACERS).map(|n| scope.spawn(move || run(n))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, bool>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    })
}
