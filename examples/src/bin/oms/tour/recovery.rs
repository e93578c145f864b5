//! The recovery part: replicate a disk, drill, fail over without loss, fail back.

use super::account::{Teller, bytes};
use super::{Tour, backup, image};
use crate::suite::Suite;
use anyhow::{Context, Result, ensure};
use oms_core::{Clock, Entropy, SystemClock, SystemEntropy};
use oms_recovery::machine::disk::{BlockDevice, export_raw};
use oms_recovery::recovery_point::{Consistency, PointChoice};
use oms_recovery::{Error, ProtectedItem, ReplicationPolicy};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a machine writes between two recovery points, in bytes.
const FILE_BYTES: usize = 256 << 10;

/// The disk of the tour's machine: how it looks after each change.
struct Machine {
    folder: PathBuf,
    /// Whether it has a file system that can be checked.
    has_files: bool,
    changes: u32,
}

impl Machine {
    fn new(tour: &Tour, teller: &mut Teller) -> Result<Self> {
        let folder = tour.folder.join("machine");
        fs::create_dir(&folder)?;
        let has_files = image::has_tools();
        let machine = Self { folder, has_files, changes: 0 };
        if has_files {
            image::make(&machine.disk(), &backup::folder(tour))?;
        } else {
            teller.lack("there is no e2fsprogs here: the disk has no file system to check");
            image::make_raw(&machine.disk())?;
        }
        Ok(machine)
    }

    fn disk(&self) -> PathBuf {
        self.folder.join("disk.img")
    }

    fn file(&self, number: u32) -> PathBuf {
        self.folder.join(format!("file-{number}"))
    }

    /// Has the machine write a file of its own through its tracked disk; answers how many bytes
    /// of disk changed.
    fn change(&mut self, item: &ProtectedItem) -> Result<u64> {
        self.changes += 1;
        let mut noise = vec![0; FILE_BYTES];
        SystemEntropy.fill(&mut noise);
        let file = self.file(self.changes);
        fs::write(&file, &noise)?;
        let wanted = self.folder.join(format!("wanted-{}.img", self.changes));
        let device = item.device()?;
        export_raw(&*device, &wanted)?;
        if self.has_files {
            image::put(&wanted, &file, &format!("from-the-machine-{}", self.changes))?;
        } else {
            let place = u64::from(self.changes) * FILE_BYTES as u64;
            fs::File::options().write(true).open(&wanted)?.write_all_at(&noise, place)?;
        }
        image::write_differences(&wanted, &*device)
    }

    /// Checks a disk against how it looked after a change: file system, file and every byte.
    fn check(&self, disk: &Path, change: u32) -> Result<()> {
        let name = format!("from-the-machine-{change}");
        if self.has_files {
            let wanted = fs::read(self.file(change))?;
            image::check(disk, Some((&name, &wanted)))?;
        }
        let wanted = self.folder.join(format!("wanted-{change}.img"));
        let is_same = fs::read(disk)? == fs::read(&wanted)?;
        ensure!(is_same, "the disk is not as it was after change {change}");
        Ok(())
    }

    fn what(&self) -> &'static str {
        match self.has_files {
            true => "e2fsck -fn is clean, its files and every byte are equal",
            false => "every byte is equal",
        }
    }
}

/// The name of a run's machine.
fn name_of(run: u64) -> String {
    format!("tour-{run}")
}

/// Ends the protections of this run and of those before it, whose disks go with their working files: one
/// that was killed, or whose part failed, has left its own.
pub(super) async fn end_protections(suite: &Suite, run: u64) -> Result<()> {
    let vault = suite.recovery()?;
    let names: Vec<String> = (1..=run).map(name_of).collect();
    for item in vault.items().await? {
        if names.contains(&item.machine.name) {
            let item = vault.item(&item.machine.name).await?;
            match item.disable_protection().await {
                Ok(_report) => {}
                // A failover that was not committed yet is in its way.
                Err(Error::IllegalState { .. }) => {
                    item.commit().await?;
                    item.disable_protection().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

pub(super) async fn show(tour: &Tour, teller: &mut Teller) -> Result<String> {
    let mut machine = Machine::new(tour, teller)?;
    let vault = tour.suite.recovery()?;
    let (name, replica) = (name_of(tour.run), tour.folder.join("replica"));
    fs::create_dir(&replica)?;
    let begin = SystemClock.monotonic();
    let policy = ReplicationPolicy::default();
    let item = vault.enable_protection(&name, &machine.disk(), &replica, policy).await?;
    let copied = item.replicate().await?;
    let seconds = (SystemClock.monotonic() - begin).as_secs_f64();
    teller.say(format!(
        "a disk of {} replicated, {} sent, in {seconds:.2} s",
        bytes(image::DISK_BYTES),
        bytes(copied.copy_bytes + copied.frame_bytes)
    ));

    let points = drill(tour, teller, &mut machine, &item).await?;
    move_and_return(tour, teller, &mut machine, &item).await?;
    Ok(format!(
        "{} disk, {points} recovery points, over and back without loss",
        bytes(image::DISK_BYTES)
    ))
}

/// Two changes with a recovery point after each; a test failover to the first.
async fn drill(
    tour: &Tour,
    teller: &mut Teller,
    machine: &mut Machine,
    item: &Arc<ProtectedItem>,
) -> Result<usize> {
    let mut points = Vec::new();
    let mut changed = 0;
    for _ in 0..2 {
        changed += machine.change(item)?;
        item.replicate().await?;
        points.push(item.take_recovery_point(Consistency::CrashConsistent).await?);
    }
    item.replicate().await?;
    teller.say(format!("the machine changed {} of its disk; 2 recovery points", bytes(changed)));
    let first = points.first().context("no recovery point")?;
    let drill = item.test_failover(PointChoice::Point(first.id)).await?;
    let exported = tour.folder.join("drill.img");
    drill.export_raw(&exported).await?;
    machine.check(&exported, 1)?;
    item.cleanup_test_failover("the tour looked at it").await?;
    fs::remove_file(&exported)?;
    teller.say(format!("test failover to the first point, beside replication: {}", machine.what()));
    Ok(item.recovery_points().await.len())
}

/// A planned failover with a change that was not replicated yet, a change at the other site, and
/// the way back.
async fn move_and_return(
    tour: &Tour,
    teller: &mut Teller,
    machine: &mut Machine,
    item: &Arc<ProtectedItem>,
) -> Result<()> {
    machine.change(item)?;
    item.planned_failover().await?;
    let exported = tour.folder.join("failed-over.img");
    export_raw(&*item.device()?, &exported)?;
    machine.check(&exported, 3)?;
    item.commit().await?;
    teller.say(format!("planned failover with a change still under way: {}", machine.what()));

    machine.change(item)?;
    let resent = item.reprotect().await?;
    teller.say(format!(
        "reprotected: only what differs was sent back, {}",
        bytes(resent.copy_bytes + resent.frame_bytes)
    ));
    machine.change(item)?;
    item.failback().await?;
    item.commit().await?;
    let back = tour.folder.join("failed-back.img");
    export_raw(&*item.device()?, &back)?;
    machine.check(&back, 5)?;
    item.device()?.flush()?;
    ensure!(
        image::is_equal(&*item.device()?, &machine.disk())?,
        "production is not on its own disk"
    );
    teller.say(format!("failed back to the machine's own disk: {}", machine.what()));
    item.disable_protection().await?;
    Ok(())
}
