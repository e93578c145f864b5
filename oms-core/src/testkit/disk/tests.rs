use super::*;
use crate::entropy::SeededEntropy;

crate::disk_conformance!(|| ((), SimDisk::default()));

#[test]
fn what_is_synced_survives_every_crash() {
    let disk = SimDisk::default();
    what_is_synced_survives(&disk, &|seed| disk.crash(&SeededEntropy::new(seed)));
}

#[test]
fn a_crash_lets_go_of_locks() {
    let disk = SimDisk::default();
    let before = disk.lock(Path::new("lock")).expect("lock");
    disk.crash(&SeededEntropy::new(1));
    let after = disk.lock(Path::new("lock")).expect("its holder is gone");
    drop(before);
    assert!(disk.lock(Path::new("lock")).expect_err("held").is_locked());
    drop(after);
}

fn write(disk: &SimDisk, path: &str, bytes: &[u8]) -> Box<dyn DiskFile> {
    let file = disk.open(Path::new(path), OpenMode::OpenOrCreate).expect("open");
    file.write_at(0, bytes).expect("write");
    file
}

#[test]
fn synced_bytes_and_names_survive_every_crash() {
    for seed in 0..200 {
        let disk = SimDisk::default();
        write(&disk, "f", b"kept").sync().expect("sync");
        disk.sync_dir(Path::new("")).expect("sync names");
        disk.crash(&SeededEntropy::new(seed));
        assert_eq!(read_whole(&disk, Path::new("f")), b"kept", "seed {seed}");
    }
}

#[test]
fn a_missing_sync_is_found() {
    let (mut lost_bytes, mut lost_name, mut torn) = (0, 0, 0);
    let mut losses = Losses::default();
    for seed in 0..200 {
        let disk = SimDisk::default();
        write(&disk, "unsynced name", b"x").sync().expect("sync");
        let file = write(&disk, "f", &[0; 2048]);
        file.sync().expect("sync");
        disk.sync_dir(Path::new("")).expect("sync names");
        file.write_at(0, &[1; 2048]).expect("write");
        write(&disk, "late", b"x").sync().expect("sync");
        disk.crash(&SeededEntropy::new(seed));
        let bytes = read_whole(&disk, Path::new("f"));
        let ones = bytes.iter().filter(|byte| **byte == 1).count();
        lost_bytes += u64::from(ones == 0);
        torn += u64::from(ones > 0 && ones < 2048);
        lost_name += u64::from(!disk.contents().contains_key(Path::new("late")));
        losses += disk.losses();
    }
    assert_eq!(losses.power_failures, 200);
    assert_eq!((losses.lost, losses.torn, losses.names), (lost_bytes, torn, lost_name));
    assert_eq!(losses.lost + losses.torn + losses.kept, 200);
    assert_eq!(losses.never(), ["reordered"]);
    assert!(lost_bytes > 20 && torn > 20 && lost_name > 20, "{lost_bytes} {torn} {lost_name}");
}

#[test]
fn a_later_write_stays_without_an_earlier_one() {
    let mut losses = Losses::default();
    for seed in 0..100 {
        let disk = SimDisk::default();
        let file = write(&disk, "f", b"1");
        disk.sync_dir(Path::new("")).expect("sync names");
        file.write_at(1, b"2").expect("write");
        disk.crash(&SeededEntropy::new(seed));
        let is_gap = read_whole(&disk, Path::new("f")) == b"\x002";
        assert_eq!(disk.losses().reordered, u64::from(is_gap), "seed {seed}");
        losses += disk.losses();
    }
    assert!(losses.reordered > 10, "{losses:?}");
}

#[test]
fn a_forgotten_sync_loses_what_it_should_have_kept() {
    for forgotten in [Forgotten::Files, Forgotten::Folders] {
        let lost = (0..50).filter(|seed| {
            let disk = SimDisk::default();
            disk.forget(forgotten);
            write(&disk, "f", b"x").sync().expect("it says so");
            disk.sync_dir(Path::new("")).expect("it says so");
            disk.crash(&SeededEntropy::new(*seed));
            disk.contents().get(Path::new("f")).is_none_or(|bytes| bytes != b"x")
        });
        assert!(lost.count() > 5, "{forgotten:?}");
    }
}

#[test]
fn handles_from_before_a_crash_are_dead() {
    let disk = SimDisk::default();
    let file = write(&disk, "f", b"x");
    disk.crash(&SeededEntropy::new(1));
    assert!(file.write_at(0, b"y").is_err());
    assert!(file.sync().is_err());
}

#[test]
fn a_full_disk_refuses_growth_only() {
    let disk = SimDisk::default();
    let file = write(&disk, "f", b"1234");
    disk.set_capacity(Some(4));
    file.write_at(0, b"4321").expect("overwriting needs no room");
    let error = file.write_at(4, b"5").expect_err("no room");
    assert_eq!(error.source.kind(), io::ErrorKind::StorageFull);
    disk.set_capacity(None);
    file.write_at(4, b"5").expect("room again");
}

#[test]
fn operations_are_watched_until_enough_is_seen_or_a_crash_comes() {
    let (disk, seen) = (SimDisk::default(), Arc::new(Mutex::new(Vec::new())));
    let watch = || {
        let seen = Arc::clone(&seen);
        disk.watch(move |path| {
            let mut seen = seen.lock().expect("not poisoned");
            seen.push(path.to_owned());
            seen.len() == 2
        });
    };
    watch();
    for path in ["a", "b", "c"] {
        drop(disk.list(Path::new(path)));
    }
    assert_eq!(*seen.lock().expect("not poisoned"), [Path::new("a"), Path::new("b")]);
    watch();
    disk.kill();
    drop(disk.list(Path::new("d")));
    assert_eq!(seen.lock().expect("not poisoned").len(), 2);
}

/// A disk that tears loses no write as a whole, and stops where one can be torn.
#[test]
fn torn_writes_can_be_asked_for() {
    for seed in 0..50 {
        let disk = SimDisk::default();
        let file = write(&disk, "f", &[0; 2048]);
        file.sync().expect("sync");
        disk.sync_dir(Path::new("")).expect("sync names");
        disk.tear_writes(true);
        disk.fail_from_large_sync();
        let small = write(&disk, "f", b"small");
        small.write_at(0, b"small").expect("write");
        file.sync().expect("no sector is torn");
        small.write_at(510, &[2; 4]).expect("a write over two sectors");
        assert!(!disk.is_broken());
        file.sync().expect_err("it could be torn");
        assert!(disk.is_broken());
        disk.crash(&SeededEntropy::new(seed));
        let bytes = read_whole(&disk, Path::new("f"));
        assert_eq!(&bytes[..5], b"small", "seed {seed}");
        assert_eq!(bytes.iter().filter(|byte| **byte == 2).count(), 2, "seed {seed}");
        let Losses { torn, lost, power_failures, .. } = disk.losses();
        assert_eq!((torn, lost, power_failures), (1, 0, 1), "seed {seed}");
        let file = disk.open(Path::new("f"), OpenMode::Write).expect("open");
        file.write_at(0, b"whole").expect("write");
        disk.crash(&SeededEntropy::new(seed));
        assert_eq!(&read_whole(&disk, Path::new("f"))[..5], b"whole", "seed {seed}");
    }
}

#[test]
fn a_disk_fails_from_a_sync_on_until_a_crash() {
    for (kind, reached) in [(Forgotten::Files, 1), (Forgotten::Folders, 2)] {
        let disk = SimDisk::default();
        disk.fail_from_sync(kind, 1);
        let mut done = 0;
        for name in ["a", "b", "c"] {
            let synced = disk.open(Path::new(name), OpenMode::CreateNew).and_then(|file| {
                file.write_at(0, b"x")?;
                file.sync()?;
                disk.sync_dir(Path::new(""))
            });
            done += usize::from(synced.is_ok());
        }
        assert_eq!((done, disk.is_broken()), (1, true), "{kind:?}");
        disk.crash(&SeededEntropy::new(1));
        assert!(!disk.is_broken() && disk.list(Path::new("")).is_ok());
        let losses = disk.losses();
        assert_eq!(losses.kept + losses.lost + losses.torn, 2 - reached, "{kind:?} {losses:?}");
    }
}

#[test]
fn the_next_operations_fail_and_then_no_more() {
    let disk = SimDisk::default();
    disk.fail_next(2, io::ErrorKind::Other);
    assert!(disk.list(Path::new("")).is_err());
    assert!(disk.list(Path::new("")).is_err());
    assert!(disk.list(Path::new("")).is_ok());
}
