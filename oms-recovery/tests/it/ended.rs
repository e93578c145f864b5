//! What an ended protection kept is told, brought to its image or done without, whatever fails meanwhile.

use crate::common::{World, primary_site, random_disk, recovery_site, scribble};
use oms_core::EntropyExt as _;
use oms_core::disk::Disk as _;
use oms_core::entropy::SeededEntropy;
use oms_core::testkit::disk::SimDisk;
use oms_core::testkit::seeds::Seeds;
use oms_recovery::machine::disk::BlockDevice as _;
use oms_recovery::machine::ended::{KnownImage, RemainsKind};
use oms_recovery::recovery_point::PointChoice;
use oms_recovery::replication::mark::{MarkFile, Role};
use oms_recovery::replication::state::ActiveLocation;
use oms_recovery::{Error, RecoveryVault, ReplicationPolicy, SourceOperations};
use std::path::Path;
use std::sync::Mutex;

const SEEDS: u64 = 24;

/// After so many attempts nothing fails any more.
const ATTEMPTS_MAX: u32 = 40;

const IMAGE: &str = "disk.img";

/// What the images must be, since they are all that is left of the disks.
struct Expected {
    /// The primary site's as it was last flushed there.
    primary: Vec<u8>,
    /// The recovery site's, if production was moved there and not committed.
    recovery: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    interrupted: u32,
    merged: u32,
    discarded: u32,
    former: u32,
}

fn lose(world: &World, site: Option<&'static str>) {
    *world.sites.lost.lock().expect("lock") = site;
}

fn disk(world: &World, location: ActiveLocation) -> &SimDisk {
    match location {
        ActiveLocation::Recovery => &world.sites.recovery,
        _ => &world.sites.primary,
    }
}

fn image(world: &World, location: ActiveLocation) -> Option<Vec<u8>> {
    disk(world, location).contents().remove(Path::new(IMAGE))
}

/// What the site says that it is, if anything.
fn role(world: &World, location: ActiveLocation) -> Option<Role> {
    let folder = match location {
        ActiveLocation::Recovery => recovery_site().folder,
        _ => primary_site().folder,
    };
    let mark = MarkFile::peek(disk(world, location), &folder.join("mark")).expect("a mark");
    mark.map(|mark| mark.role)
}

fn files(world: &World, location: ActiveLocation) -> Vec<String> {
    let files = disk(world, location).contents().into_keys();
    files.map(|path| path.display().to_string()).collect()
}

/// The process dies, and power fails at both sites or at neither.
fn die(world: &World, draws: &SeededEntropy) {
    let has_power = draws.below(2) == 0;
    for disk in [&world.sites.primary, &world.sites.recovery] {
        match has_power {
            true => disk.kill(),
            false => disk.crash(draws),
        }
    }
    world.sites.fuse.heal();
    world.faults.calm();
}

/// Ends a protection whose production cannot be reached; with a failover before that is not committed, or
/// with none.
async fn end(world: &World, draws: &SeededEntropy, has_moved: bool) -> Expected {
    let mut primary = image(world, ActiveLocation::Primary).expect("an image");
    let item = world.protect(ReplicationPolicy::default()).await;
    scribble(&*item.device().expect("device"), &mut primary, draws, 8);
    item.replicate().await.expect("replicated");
    let mut recovery = primary.clone();
    // The replica has not got these.
    scribble(&*item.device().expect("device"), &mut primary, draws, 8);
    item.device().expect("device").flush().expect("flush");
    let mut taken = primary.clone();
    scribble(&*item.device().expect("device"), &mut taken, draws, 3);
    if has_moved {
        // It hears of its end, or does not.
        let is_away = draws.below(2) == 0;
        lose(world, is_away.then_some("primary"));
        let none = SourceOperations::NotRequired;
        item.unplanned_failover(PointChoice::Latest, none).await.expect("moved");
        lose(world, None);
        scribble(&*item.device().expect("device"), &mut recovery, draws, 8);
        item.device().expect("device").flush().expect("flush");
    }
    drop(item);
    die(world, draws);
    lose(world, Some(if has_moved { "recovery" } else { "primary" }));
    let item = world.vault().item("web1").await.expect("open");
    let report = item.disable_protection().await.expect("ended");
    assert!(!report.kept.is_empty(), "{report:?}");
    lose(world, None);
    Expected { primary, recovery: has_moved.then_some(recovery) }
}

/// What is done with what a site kept.
#[derive(Clone, Copy)]
enum Release<'a> {
    /// The image is this one then.
    Merge(&'a Vec<u8>),
    /// The image is what it was.
    Discard,
    /// There is no image then.
    DiscardReplica,
}

/// Releases what a site kept, however often it is interrupted; answers how often it was.
async fn release(
    world: &World,
    draws: &SeededEntropy,
    location: ActiveLocation,
    release: Release<'_>,
) -> u32 {
    for attempt in 0..=ATTEMPTS_MAX {
        let before = image(world, location);
        let wanted = match release {
            Release::Merge(disk) => Some(disk.clone()),
            Release::Discard => before.clone(),
            Release::DiscardReplica => None,
        };
        if attempt < ATTEMPTS_MAX {
            world.sites.fuse.blow_after(draws.below(120));
            world.faults.set_before(60);
            world.faults.set_after(60);
        }
        let vault = world.vault();
        let plan = match release {
            Release::Merge(_) => vault.plan_merge("web1", location).await,
            _ => vault.plan_discard("web1", location).await,
        };
        let done = match plan {
            Ok(plan) => plan.apply("web1").await,
            Err(error) => Err(error),
        };
        let is_touched = image(world, location) != before;
        die(world, draws);
        let is_done = match done {
            Ok(()) => true,
            // What was done last is known to the journal only.
            Err(Error::NotFound { .. }) if attempt > 0 => true,
            Err(Error::Disk(_) | Error::Journal(_)) => false,
            Err(error) => panic!("attempt {attempt}: {error}"),
        };
        let role = role(world, location);
        // Nobody takes a disk that is half merged for production's.
        let may_run =
            matches!(role, Some(Role::Logging | Role::CopyingInitial | Role::CopyingResync));
        assert!(!may_run || !is_touched, "written to and not fenced: {role:?}");
        let is_gone = role.is_none();
        assert!(is_gone || !is_done, "there is {:?}", files(world, location));
        if is_gone {
            assert!(
                image(world, location) == wanted,
                "what was kept is gone, the image is another"
            );
        }
        if is_done {
            let left: &[&str] = if wanted.is_some() { &[IMAGE] } else { &[] };
            assert_eq!(files(world, location), left);
            return attempt;
        }
    }
    panic!("it never ends");
}

async fn run(seed: u64) -> Counts {
    use ActiveLocation::{Primary, Recovery};
    let draws = SeededEntropy::new(seed);
    let world = World::new(seed, &random_disk(&draws));
    let has_moved = draws.below(2) == 0;
    let expected = end(&world, &draws, has_moved).await;
    let mut counts = Counts { former: u32::from(has_moved), ..Counts::default() };
    let (vault, policy) = (world.vault(), ReplicationPolicy::default());
    let again = vault.enable_protection_at("web1", primary_site(), recovery_site(), policy).await;
    let error = again.map(drop).expect_err("what is kept is in the way");
    assert!(matches!(error, Error::AlreadyExists { .. }), "seed {seed}: {error}");

    let here = match draws.below(3) {
        0 => Release::Discard,
        _ => Release::Merge(&expected.primary),
    };
    counts.interrupted += release(&world, &draws, Primary, here).await;
    match here {
        Release::Merge(_) => counts.merged += 1,
        _ => counts.discarded += 1,
    }
    if let Some(expected) = &expected.recovery {
        let there = Release::Merge(expected);
        counts.interrupted += release(&world, &draws, Recovery, there).await;
        counts.merged += 1;
        world.sites.recovery.remove(Path::new(IMAGE)).expect("removed");
    }
    let ended = world.vault().ended_protections("web1").await.expect("a history");
    assert!(ended.iter().all(|it| it.remains.is_empty() && it.problems.is_empty()), "{ended:?}");
    // Nothing is in the way of another protection.
    world.protect(ReplicationPolicy::default()).await;
    counts
}

/// Auditor: what was flushed at a site is in its image before the files that kept it are gone, the image of
/// a site whose files are done without is not touched, and nothing else is left.
#[tokio::test]
async fn what_was_kept_is_in_its_image_whatever_fails() {
    let seeds = Seeds::of("ended::what_was_kept_is_in_its_image", 0..SEEDS);
    let total = Mutex::new(Counts::default());
    let note = |counts: Counts| {
        let mut total = total.lock().expect("not poisoned");
        total.interrupted += counts.interrupted;
        total.merged += counts.merged;
        total.discarded += counts.discarded;
        total.former += counts.former;
    };
    seeds.run_async(|seed| async move { note(run(seed).await) }).await;
    let total = *total.lock().expect("not poisoned");
    if seeds.is_fixed() {
        let is_hard = total.interrupted > 30 && total.merged > 10;
        assert!(is_hard && total.discarded > 2 && total.former > 4, "too easy: {total:?}");
    }
}

/// A disk on this computer whose protection has ended while its image was of another length.
struct Local {
    dir: tempfile::TempDir,
}

impl Local {
    const BYTES: u64 = 1 << 20;

    /// With a write that the image has not got, or with none.
    async fn ended(has_missed: bool) -> Self {
        let local = Self { dir: tempfile::tempdir().expect("a folder") };
        let bytes = vec![7; Self::BYTES as usize];
        std::fs::write(local.at("web1.img"), &bytes).expect("a disk");
        let (image, replica) = (local.at("web1.img"), local.at("replica"));
        let policy = ReplicationPolicy::default();
        let item = local.vault().enable_protection("web1", &image, &replica, policy).await;
        let item = item.expect("protected");
        item.replicate().await.expect("replicated");
        if has_missed {
            let device = item.device().expect("device");
            device.write_at(5, b"own").expect("write");
            device.flush().expect("flush");
        }
        drop(item);
        if has_missed {
            std::fs::write(local.at("web1.img"), &bytes).expect("power fails");
        }
        local.set_len(4_096);
        let report = local.vault().item("web1").await.expect("open").disable_protection().await;
        assert_eq!(report.expect("ended").kept.len(), 1);
        local.set_len(Self::BYTES);
        local
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn vault(&self) -> RecoveryVault {
        RecoveryVault::builder(self.at("vault")).build().expect("a vault")
    }

    fn set_len(&self, bytes: u64) {
        let file = std::fs::File::options().write(true).open(self.at("web1.img"));
        file.and_then(|file| file.set_len(bytes)).expect("a length");
    }
}

#[tokio::test]
async fn what_is_kept_is_told_to_another_process_and_merged_under_its_name() {
    let local = Local::ended(true).await;
    let ended = local.vault().ended_protections("web1").await.expect("a history");
    let [ended] = &ended[..] else { panic!("{ended:?}") };
    let [remains] = &ended.remains[..] else { panic!("{ended:?}") };
    assert_eq!(remains.kind, RemainsKind::Production);
    assert_eq!(remains.known_image, Some(KnownImage::MayLack));
    assert!(remains.log_bytes > 0, "{remains:?}");
    let report = ended.report();
    let image = local.at("web1.img").display().to_string();
    assert_eq!((report.disk.as_ref(), report.left.len()), (Some(&image), 0));
    let told = format!("{image}.replication, which may hold writes that {image} lacks");
    assert_eq!(report.kept, [told]);

    for name in ["", "web2", "WEB1"] {
        let plan = local.vault().plan_merge("web1", ActiveLocation::Primary).await.expect("a plan");
        assert_eq!((plan.content().writes, plan.content().bytes), (1, 3));
        let error = plan.apply(name).await.expect_err("another name");
        assert!(matches!(error, Error::Invalid { what: "confirmation", .. }), "{error}");
    }
    assert_eq!(std::fs::read(&image).expect("read")[5], 7, "nothing was done");
    let error = local.vault().plan_merge("web1", ActiveLocation::Recovery).await;
    assert!(matches!(error.expect_err("nothing is there"), Error::NotFound { .. }));
    let error = local.vault().plan_merge("web2", ActiveLocation::Primary).await;
    assert!(matches!(error.expect_err("never protected"), Error::NotFound { .. }));

    let vault = local.vault();
    let (first, second) = (
        vault.plan_merge("web1", ActiveLocation::Primary).await.expect("a plan"),
        vault.plan_merge("web1", ActiveLocation::Primary).await.expect("a plan"),
    );
    let disk = oms_core::LocalDisk::new(local.at("web1.img.replication")).expect("a folder");
    let held = disk.lock(Path::new("lock")).expect("another process does it");
    let busy = vault.plan_merge("web1", ActiveLocation::Primary).await.expect("a plan");
    let error = busy.apply("web1").await.expect_err("one at a time");
    assert!(matches!(&error, Error::Disk(error) if error.is_locked()), "{error}");
    drop(held);
    let error = vault.plan_discard("web1", ActiveLocation::Primary).await.map(drop);
    assert!(matches!(error.expect_err("a merge was begun"), Error::IllegalState { .. }));
    first.apply("web1").await.expect("merged");
    second.apply("web1").await.expect("it is done already");
    let bytes = std::fs::read(&image).expect("read");
    assert_eq!((&bytes[5..8], bytes.len() as u64), (&b"own"[..], Local::BYTES));
    assert!(!local.at("web1.img.replication").exists());
    let ended = vault.ended_protections("web1").await.expect("a history");
    assert_eq!(ended[0].report().kept, Vec::<String>::new());
}

/// A log whose writes were all in the image is older than what something else has written since.
#[tokio::test]
async fn what_something_else_has_written_since_is_not_undone() {
    let local = Local::ended(false).await;
    let image = local.at("web1.img");
    let mut bytes = std::fs::read(&image).expect("read");
    bytes[..6].copy_from_slice(b"theirs");
    std::fs::write(&image, &bytes).expect("write");
    let ended = local.vault().ended_protections("web1").await.expect("a history");
    assert_eq!(ended[0].remains[0].known_image, Some(KnownImage::Changed));
    let error = local.vault().plan_merge("web1", ActiveLocation::Primary).await;
    let error = error.map(drop).expect_err("changed").to_string();
    assert!(error.contains("web1.img") && error.contains("discard them"), "{error}");
    let plan = local.vault().plan_discard("web1", ActiveLocation::Primary).await.expect("a plan");
    plan.apply("web1").await.expect("discarded");
    assert_eq!(std::fs::read(&image).expect("read"), bytes);
    assert!(!local.at("web1.img.replication").exists());
    let policy = ReplicationPolicy::default();
    let item = local.vault().enable_protection("web1", &image, &local.at("replica"), policy).await;
    item.expect("protected again").replicate().await.expect("replicated");
}

#[tokio::test]
async fn a_damaged_log_is_named_before_anything_is_merged() {
    let local = Local::ended(true).await;
    let folder = local.at("web1.img.replication/outgoing");
    let log = std::fs::read_dir(&folder).expect("a folder").next().expect("a log").expect("it");
    let mut bytes = std::fs::read(log.path()).expect("read");
    let at = bytes.windows(3).position(|window| window == b"own").expect("the write");
    bytes[at] ^= 1;
    std::fs::write(log.path(), bytes).expect("write");
    let error = local.vault().plan_merge("web1", ActiveLocation::Primary).await.map(drop);
    assert!(matches!(error.expect_err("damaged"), Error::Corrupt { .. }));
    assert_eq!(std::fs::read(local.at("web1.img")).expect("read")[5], 7);
    assert!(log.path().exists(), "and nothing is removed");
}

/// Production's disk is not thrown away, and a replica does not become one.
#[tokio::test]
async fn what_makes_no_sense_is_refused_by_name() {
    let draws = SeededEntropy::new(3);
    let world = World::new(3, &random_disk(&draws));
    end(&world, &draws, true).await;
    let ended = world.vault().ended_protections("web1").await.expect("a history");
    let kinds: Vec<_> = ended[0].remains.iter().map(|it| (it.location, it.kind)).collect();
    let expected = [
        (ActiveLocation::Primary, RemainsKind::FormerPrimary),
        (ActiveLocation::Recovery, RemainsKind::OneDisk),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(ended[0].report().disk, None);
    let error = world.vault().plan_discard("web1", ActiveLocation::Recovery).await.map(drop);
    assert!(matches!(error.expect_err("one disk"), Error::Unsupported { .. }));

    // An end that could not reach the replica, which is back.
    let world = World::new(4, &random_disk(&draws));
    let item = world.protect(ReplicationPolicy::default()).await;
    lose(&world, Some("recovery"));
    let report = item.disable_protection().await.expect("ended");
    assert_eq!((report.left.len(), report.kept.len()), (1, 0));
    drop(item);
    let ended = world.vault().ended_protections("web1").await.expect("a history");
    assert!(ended[0].problems[0].contains("reach failed"), "{:?}", ended[0].problems);
    assert_eq!(ended[0].report().left.len(), 1);
    lose(&world, None);
    let ended = world.vault().ended_protections("web1").await.expect("a history");
    assert_eq!(ended[0].report().left, ["recovery/replication and the image recovery/disk.img"]);
    let error = world.vault().plan_merge("web1", ActiveLocation::Recovery).await.map(drop);
    assert!(matches!(error.expect_err("a replica"), Error::Unsupported { .. }));
    let plan = world.vault().plan_discard("web1", ActiveLocation::Recovery).await.expect("a plan");
    plan.apply("web1").await.expect("discarded");
    assert_eq!(files(&world, ActiveLocation::Recovery), Vec::<String>::new());
}

/// The process dies when the journal has the end and the sites have not heard of it.
async fn ends_and_dies(seed: u64) -> bool {
    let draws = SeededEntropy::new(seed);
    let model = random_disk(&draws);
    let world = World::new(seed, &model);
    let item = world.protect(ReplicationPolicy::default()).await;
    world.faults.set_before(500);
    world.faults.set_after(1_000);
    let asked = item.disable_protection().await;
    die(&world, &draws);
    drop(item);
    if asked.is_ok() || world.vault().item("web1").await.is_ok() {
        return false;
    }
    let ended = world.vault().ended_protections("web1").await.expect("a history");
    let kinds: Vec<_> = ended[0].remains.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [RemainsKind::Production, RemainsKind::Replica]);
    release(&world, &draws, ActiveLocation::Primary, Release::Merge(&model)).await;
    release(&world, &draws, ActiveLocation::Recovery, Release::DiscardReplica).await;
    true
}

#[tokio::test]
async fn an_end_that_a_process_did_not_live_to_carry_out_is_told() {
    let mut seed = 0;
    while !ends_and_dies(seed).await {
        seed += 1;
        assert!(seed < 40, "the journal always tells");
    }
}
