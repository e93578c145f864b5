//! A program that ends at any of its operations, with the machine or alone.

use super::disk::SimDisk;
use crate::entropy::SeededEntropy;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// How many operations [`crash_at_every_operation`] lets a program do at most.
pub const OPERATIONS_MAX: u64 = 10_000;

/// Power fails at each operation of a program in turn. For each, and each of `crashes` ways in
/// which what was not synced is lost: `prepare` a new disk, do the `work`, which answers whether
/// it was done, lose power, and `audit` what is left, told whether the work was done. Answers how
/// many operations the work takes.
///
/// # Panics
/// As `audit` does, after the operation and the crash are printed.
pub fn crash_at_every_operation<P>(
    crashes: u64,
    prepare: impl Fn(&SimDisk) -> P,
    work: impl Fn(&SimDisk, &P) -> bool,
    audit: impl Fn(&SimDisk, P, bool),
) -> u64 {
    for operations in 0..OPERATIONS_MAX {
        let mut is_always_done = true;
        for crash in 0..crashes {
            let disk = SimDisk::default();
            let prepared = prepare(&disk);
            disk.fail_after(operations, io::ErrorKind::Other);
            let is_done = work(&disk, &prepared);
            is_always_done &= is_done;
            disk.crash(&SeededEntropy::new(operations * 1_000 + crash));
            let audited = AssertUnwindSafe(|| audit(&disk, prepared, is_done));
            if let Err(panic) = catch_unwind(audited) {
                told(operations, crash);
                resume_unwind(panic);
            }
        }
        if is_always_done {
            return operations;
        }
    }
    too_many()
}

/// The program alone is killed at each operation in turn, is started again, does its work to the
/// end, and then power fails. What the killed one had written is there to read when the second one
/// starts, and is as little durable as before: who takes it for durable is found. For each
/// operation, and each of `crashes` ways in which what was not synced is lost: `prepare` a new
/// disk, do the `work` twice, lose power, and `audit` what is left. Answers how many operations the
/// work takes.
///
/// # Panics
/// As `audit` does, and if the second try of the work is not done, after the operation and the
/// crash are printed.
pub fn kill_at_every_operation<P>(
    crashes: u64,
    prepare: impl Fn(&SimDisk) -> P,
    work: impl Fn(&SimDisk, &P) -> bool,
    audit: impl Fn(&SimDisk, P),
) -> u64 {
    for operations in 0..OPERATIONS_MAX {
        let mut is_always_done = true;
        for crash in 0..crashes {
            let disk = SimDisk::default();
            let prepared = prepare(&disk);
            disk.fail_after(operations, io::ErrorKind::Other);
            is_always_done &= work(&disk, &prepared);
            disk.kill();
            let audited = AssertUnwindSafe(|| {
                assert!(work(&disk, &prepared), "the work is done after a restart");
                disk.crash(&SeededEntropy::new(operations * 1_000 + crash));
                audit(&disk, prepared);
            });
            if let Err(panic) = catch_unwind(audited) {
                told(operations, crash);
                resume_unwind(panic);
            }
        }
        if is_always_done {
            return operations;
        }
    }
    too_many()
}

fn too_many() -> u64 {
    let is_done = false;
    assert!(is_done, "the work takes more than {OPERATIONS_MAX} operations");
    OPERATIONS_MAX
}

#[expect(clippy::print_stderr, reason = "a failing test prints where it fails")]
fn told(operations: u64, crash: u64) {
    eprintln!("the program ended after {operations} operations, crash {crash}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, DiskError, OpenMode};
    use std::path::Path;

    fn write(disk: &SimDisk, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let file = disk.open(Path::new(name), OpenMode::OpenOrCreate)?;
        file.write_at(0, bytes)?;
        file.sync()
    }

    /// A file is replaced by writing beside it; without the first sync this is found.
    #[test]
    fn every_operation_of_a_program_is_one_at_which_it_stops() {
        let run = |has_sync: bool| {
            let replace = move |disk: &SimDisk| -> Result<(), DiskError> {
                let file = disk.open(Path::new("new"), OpenMode::OpenOrCreate)?;
                file.write_at(0, b"new")?;
                if has_sync {
                    file.sync()?;
                }
                disk.rename(Path::new("new"), Path::new("f"))?;
                disk.sync_dir(Path::new(""))
            };
            let prepare = |disk: &SimDisk| {
                write(disk, "f", b"old").expect("written");
                disk.sync_dir(Path::new("")).expect("sync names");
            };
            let audit = |disk: &SimDisk, (), is_done: bool| {
                let found = disk.contents().remove(Path::new("f")).expect("a file");
                assert!(found == b"new" || !is_done && found == b"old", "{found:?}");
            };
            let work = move |disk: &SimDisk, (): &()| replace(disk).is_ok();
            catch_unwind(|| crash_at_every_operation(20, prepare, work, audit))
        };
        assert_eq!(run(true).expect("sound"), 5);
        run(false).expect_err("the missing sync is found");
    }

    /// A file that is there is not written again; unless it is synced, it may go all the same.
    #[test]
    fn what_a_killed_program_wrote_is_not_durable() {
        let run = |has_sync: bool| {
            let once = move |disk: &SimDisk| -> Result<(), DiskError> {
                let is_there = disk.list(Path::new(""))?.contains(&"f".to_owned());
                let file = disk.open(Path::new("f"), OpenMode::OpenOrCreate)?;
                if !is_there || file.len()? < 3 {
                    file.write_at(0, b"new")?;
                    file.sync()?;
                    disk.sync_dir(Path::new(""))?;
                } else if has_sync {
                    file.sync()?;
                    disk.sync_dir(Path::new(""))?;
                }
                Ok(())
            };
            let audit = |disk: &SimDisk, ()| {
                let found = disk.contents().remove(Path::new("f"));
                assert_eq!(found.as_deref(), Some(&b"new"[..]));
            };
            let work = move |disk: &SimDisk, (): &()| once(disk).is_ok();
            catch_unwind(|| kill_at_every_operation(20, |_disk| (), work, audit))
        };
        assert_eq!(run(true).expect("sound"), 5);
        run(false).expect_err("the missing sync is found");
    }
}
