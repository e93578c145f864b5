//! A journal that takes events and does not tell, and is not there when it is asked.

use crate::common::{World, assert_disk, primary_site, random_disk, scribble};
use oms_core::entropy::SeededEntropy;
use oms_core::journal::{HistoryId, JournalExt as _};
use oms_recovery::machine::disk::BlockDevice as _;
use oms_recovery::machine::{HISTORY_KIND, ReplicationProtectedItem};
use oms_recovery::recovery_point::PointChoice;
use oms_recovery::replication::TestFailoverState;
use oms_recovery::{Error, ProtectedItem, ProtectionState, ReplicationPolicy, SourceOperations};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

/// How often a step is asked for before it counts as one that is refused for ever.
const ATTEMPTS_MAX: u32 = 300;

#[derive(Clone, Copy, Debug)]
enum Step {
    Drill,
    Cleanup,
    Planned,
    Unplanned,
    ChangePoint,
    Commit,
    Reprotect,
    Failback,
    Disable,
}

impl Step {
    /// What an operator does who sees where the item stands.
    async fn ask(self, item: &ProtectedItem) -> Result<(), Error> {
        use ProtectionState as S;
        let latest = PointChoice::Latest;
        match self {
            Self::Drill => item.test_failover(latest).await.map(drop),
            Self::Cleanup => item.cleanup_test_failover("").await,
            Self::Planned => item.planned_failover().await.map(drop),
            Self::Unplanned => {
                item.unplanned_failover(latest, SourceOperations::NotRequired).await.map(drop)
            }
            Self::ChangePoint => item.change_point(latest).await.map(drop),
            Self::Commit => item.commit().await,
            Self::Reprotect => match item.status().await.item.state {
                S::Reprotecting | S::InitialReplication => item.replicate().await.map(drop),
                _ => item.reprotect().await.map(drop),
            },
            Self::Failback => item.failback().await.map(drop),
            Self::Disable => item.disable_protection().await.map(drop),
        }
    }

    /// Whether it is done, as the journal has it; `epoch` is that of before.
    fn is_done(self, item: Option<&ReplicationProtectedItem>, epoch: u64) -> bool {
        use ProtectionState as S;
        let Some(item) = item else { return matches!(self, Self::Disable) };
        match self {
            Self::Drill => item.test == TestFailoverState::Running,
            Self::Cleanup => item.test == TestFailoverState::None,
            Self::Planned | Self::Unplanned | Self::Failback => item.state.is_uncommitted(),
            Self::ChangePoint => item.epoch > epoch,
            Self::Commit => {
                matches!(item.state, S::PlannedFailoverCommitted | S::FailedBack)
                    || item.state == S::UnplannedFailoverCommitted
            }
            Self::Reprotect => matches!(item.state, S::Protected | S::ReverseProtected),
            Self::Disable => false,
        }
    }
}

/// What the journal holds, read without faults.
async fn truth(world: &World) -> (u64, Option<ReplicationProtectedItem>) {
    let history = HistoryId::new(HISTORY_KIND, "web1").expect("a name");
    let events = world.journal.inner().read_whole(&history).await.expect("events");
    let item = ReplicationProtectedItem::replay(&events).expect("events that follow");
    (events.len() as u64, item)
}

/// Asks until it is done; answers how often the journal took an event without telling.
async fn insist(world: &World, item: &ProtectedItem, step: Step) -> u32 {
    let mut unheard = 0;
    let epoch = truth(world).await.1.expect("protected").epoch;
    for _ in 0..ATTEMPTS_MAX {
        world.faults.set_before(400);
        world.faults.set_after(600);
        let asked = step.ask(item).await;
        // So that looking tells nothing new.
        world.faults.set_before(1_000);
        let known = item.status().await.item.version;
        world.faults.calm();
        let (version, held) = truth(world).await;
        unheard += u32::from(version > known);
        let is_done = step.is_done(held.as_ref(), epoch);
        assert!(is_done || asked.is_err(), "{step:?} is done, and the journal has {held:?}");
        if is_done {
            return unheard;
        }
    }
    panic!("{step:?} is refused for ever: {:?}", item.status().await);
}

/// Auditor: whatever the journal took without telling, the item's next operation goes by it, and one
/// disk takes writes: that of the site that the journal names.
#[tokio::test]
async fn an_item_finds_out_by_itself_what_the_journal_took() {
    use Step as T;
    let mut unheard = 0;
    for seed in 0..4 {
        let entropy = SeededEntropy::new(seed);
        let mut model = random_disk(&entropy);
        let world = World::new(seed, &model);
        let item = world.protect(ReplicationPolicy::default()).await;
        for step in [
            T::Drill,
            T::Cleanup,
            T::Planned,
            T::ChangePoint,
            T::Commit,
            T::Reprotect,
            T::Failback,
            T::Commit,
            T::Reprotect,
            T::Unplanned,
            T::ChangePoint,
            T::Commit,
            T::Reprotect,
            T::Drill,
            T::Cleanup,
            T::Disable,
        ] {
            let before = item.device().expect("a device");
            if !matches!(step, T::ChangePoint) {
                scribble(&*before, &mut model, &entropy, 5);
            }
            if matches!(step, T::Unplanned) {
                // What is not replicated is lost with the source.
                item.replicate().await.expect("replicated");
            }
            unheard += insist(&world, &item, step).await;
            let status = item.status().await;
            let (_, held) = truth(&world).await;
            let Some(held) = held else { break };
            assert_eq!(status.item, held, "seed {seed}, {step:?}");
            let device = item.device().expect("a device");
            if !Arc::ptr_eq(&before, &device) {
                before.write_at(0, b"from the past").expect_err("production has moved");
            }
            assert_disk(&*device, &model, &format!("seed {seed}, {step:?}"));
            device.write_at(0, &model[..1]).expect("production goes on");
            let has_drill = item.running_test_failover().await.is_some();
            assert_eq!(has_drill, held.test == TestFailoverState::Running, "seed {seed}, {step:?}");
        }
        let error = item.replicate().await.expect_err("nothing is protected");
        assert!(matches!(error, Error::IllegalState { .. }), "{error}");
        let left = world.sites.primary.contents().into_keys().collect::<Vec<_>>();
        let log = primary_site().folder.join("log");
        assert!(left.iter().all(|path| !path.starts_with(&log)), "seed {seed}: {left:?}");
    }
    assert!(unheard > 30, "the journal tells too much: {unheard}");
}

/// What is to be removed or kept by hand is told to whoever asks again.
#[tokio::test]
async fn an_end_that_was_not_heard_of_is_reported_to_the_next_call() {
    let mut unheard = 0;
    for seed in 0..48 {
        let world = World::new(seed, &random_disk(&SeededEntropy::new(seed)));
        let item = world.protect(ReplicationPolicy::default()).await;
        *world.sites.lost.lock().expect("lock") = Some("recovery");
        if insist(&world, &item, Step::Disable).await == 0 {
            continue;
        }
        unheard += 1;
        // Whoever looks in between takes nothing away.
        item.status().await;
        let report = item.disable_protection().await.expect("ended");
        let [left] = &report.left[..] else { panic!("{report:?}") };
        assert!(left.starts_with("recovery/"), "{left}");
        assert_eq!(report.disk.as_deref(), Some("primary/disk.img"));
        let error = item.disable_protection().await.expect_err("nothing is protected");
        assert!(matches!(error, Error::IllegalState { .. }), "{error}");
    }
    assert!(unheard > 2, "the journal tells too much: {unheard}");
}

/// Waits for so many turns of the other tasks, and then no more.
async fn give_up_after<F: Future>(turns: u32, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    for turn in 0..=turns {
        let polled = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        if let Poll::Ready(done) = polled {
            return Some(done);
        }
        if turn < turns {
            tokio::task::yield_now().await;
        }
    }
    None
}

/// Gives a step up after so many turns, looks whether the item knows what became of it, and asks
/// again until it is done; answers how often it was given up.
async fn give_up(world: &World, item: &ProtectedItem, step: Step, turns: u32) -> u32 {
    let epoch = truth(world).await.1.expect("protected").epoch;
    let mut given_up = 0;
    for attempt in 0..ATTEMPTS_MAX {
        if turns % 2 == 1 && attempt < 3 {
            world.faults.set_before(200);
            world.faults.set_after(300);
        }
        let asked = give_up_after(turns + attempt, step.ask(item)).await;
        given_up += u32::from(asked.is_none());
        // Comes after what was begun.
        drop(item.replicate().await);
        world.faults.calm();
        let known = item.status().await.item;
        let (_, held) = truth(world).await;
        let is_done = step.is_done(held.as_ref(), epoch);
        match held {
            Some(held) => assert_eq!(known, held, "{step:?} given up after {turns}"),
            None => assert!(is_done, "{step:?} given up after {turns}"),
        }
        if is_done {
            return given_up;
        }
    }
    panic!("{step:?} is never done: {:?}", item.status().await);
}

/// Auditor: wherever the caller of an operation stops waiting, the item is what the journal has, and
/// one disk takes writes: that of the site that the journal names.
#[tokio::test]
async fn an_operation_that_its_caller_gives_up_is_whole() {
    use Step as T;
    let mut given_up = 0;
    for turns in (0..12).chain([20, 33, 60, 101, 300]) {
        let entropy = SeededEntropy::new(u64::from(turns));
        let mut model = random_disk(&entropy);
        let world = World::new(u64::from(turns), &model);
        let item = world.protect(ReplicationPolicy::default()).await;
        for step in [
            T::Drill,
            T::Cleanup,
            T::Planned,
            T::ChangePoint,
            T::Commit,
            T::Reprotect,
            T::Failback,
            T::Commit,
            T::Reprotect,
            T::Unplanned,
            T::Commit,
            T::Disable,
        ] {
            let before = item.device().expect("a device");
            if !matches!(step, T::ChangePoint) {
                scribble(&*before, &mut model, &entropy, 5);
            }
            if matches!(step, T::Unplanned) {
                item.replicate().await.expect("replicated");
            }
            given_up += give_up(&world, &item, step, turns).await;
            if matches!(step, T::Disable) {
                break;
            }
            let device = item.device().expect("a device");
            if !Arc::ptr_eq(&before, &device) {
                before.write_at(0, b"from the past").expect_err("production has moved");
            }
            assert_disk(&*device, &model, &format!("{step:?} given up after {turns}"));
            device.write_at(0, &model[..1]).expect("production goes on");
        }
    }
    assert!(given_up > 30, "hardly ever given up: {given_up}");
}
