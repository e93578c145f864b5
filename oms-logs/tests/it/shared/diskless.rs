//! Processes whose log is in the object store, too.

use super::gate::{Call, Gate};
use super::{Place, settings};
use crate::every_point::points::{After, Pointed, Points};
use crate::{batch, numbers, up_to};
use futures::TryStreamExt as _;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt as _};
use oms_core::record::{Batch, Record};
use oms_core::testkit::fault::{Faults, Faulty};
use oms_logs::workspace::WorkspaceBuilder;
use oms_logs::{Error, Settings, Workspace};
use std::sync::Arc;

const SLOT: &str = "pod-0";

/// On a new machine each time.
fn builder(place: &mut Place) -> WorkspaceBuilder {
    place.folders.push(tempfile::tempdir().expect("a folder"));
    place.builder(place.folders.len() - 1).diskless(SLOT)
}

async fn open(place: &mut Place) -> Workspace {
    builder(place).build().await.expect("a workspace")
}

async fn gated(place: &mut Place) -> (WorkspaceBuilder, Gate) {
    let gate = Gate::new(place.bare());
    let layer: Arc<dyn ObjectStore> = Arc::new(gate.clone());
    (builder(place).store_layer(|_| layer), gate)
}

/// The objects of logs.
async fn log(place: &Place) -> Vec<ObjectPath> {
    let folder = ObjectPath::from("logs/.oms/log");
    let objects: Vec<_> = place.store.list(Some(&folder)).try_collect().await.expect("listed");
    let mut paths: Vec<_> = objects.into_iter().map(|object| object.location).collect();
    paths.sort();
    paths
}

async fn write(workspace: &Workspace, sequence: u64) -> Result<(), Error> {
    workspace.write(batch("a", sequence, (sequence - 1) * 10..sequence * 10)).await
}

#[tokio::test]
async fn what_is_acknowledged_outlives_the_machine_and_a_repeat_is_found() {
    let mut place = Place::new(0);
    let lost = open(&mut place).await;
    write(&lost, 1).await.expect("written");
    lost.flush().await.expect("flushed");
    write(&lost, 2).await.expect("written");
    write(&lost, 3).await.expect("written");
    assert_eq!(numbers(&lost).await, up_to(30));
    drop(lost);
    place.folders.clear();

    let next = open(&mut place).await;
    assert_eq!(numbers(&next).await, up_to(30));
    assert_eq!(next.last_sequence("a").expect("open"), 3);
    write(&next, 3).await.expect("known");
    assert_eq!(numbers(&next).await, up_to(30));
    assert_eq!(next.writers().await.expect("listed").len(), 1, "the lost one is none any more");
    let left = log(&place).await;
    assert_eq!(left.len(), 2, "its own, and the fence of the lost one: {left:?}");
    write(&next, 4).await.expect("written");
    next.close().await.expect("closed");
    place.folders.clear();

    // The store knows the workspace.
    let unnamed = Settings { workspace_id: None, ..settings() };
    let last = builder(&mut place).settings(unnamed).build().await.expect("a workspace");
    assert_eq!(numbers(&last).await, up_to(40));
    assert_eq!(last.last_sequence("a").expect("open"), 4);
}

#[tokio::test]
async fn a_process_whose_place_was_taken_acknowledges_nothing_more() {
    let mut place = Place::new(0);
    let former = open(&mut place).await;
    write(&former, 1).await.expect("written");
    let next = open(&mut place).await;
    for _ in 0..2 {
        let refused = write(&former, 2).await.expect_err("replaced");
        assert!(matches!(refused, Error::WriterReplaced { .. }), "{refused}");
    }
    assert_eq!(numbers(&next).await, up_to(10));
    write(&next, 2).await.expect("written");
    // Its rows are in the table already.
    former.refresh().await.expect("looked");
    assert_eq!(numbers(&former).await, up_to(10), "none twice");
    drop(former.close().await);
    next.flush().await.expect("flushed");
    assert_eq!(numbers(&next).await, up_to(20));
    let third = open(&mut place).await;
    assert_eq!(numbers(&third).await, up_to(20));
}

/// What the former process flushes late is a part of what the next one found in its log.
#[tokio::test]
async fn of_two_that_bring_in_one_log_each_brings_what_the_other_did_not() {
    for next_is_first in [false, true] {
        let mut place = Place::new(0);
        let (former, gate) = gated(&mut place).await;
        let former = former.build().await.expect("a workspace");
        write(&former, 1).await.expect("written");
        let mut stopped = gate.stop(Call::Put, "_delta_log");
        let flushing = tokio::spawn(async move { (former.flush().await, former) });
        stopped.reached().await;
        // While that one is stopped nothing of it reaches the store, so another handle writes.
        let (next, next_gate) = gated(&mut place).await;
        if next_is_first {
            let next = next.build().await.expect("a workspace");
            stopped.go_on();
            let (flushed, former) = flushing.await.expect("ended");
            flushed.expect("it is in the table");
            assert_eq!(numbers(&next).await, up_to(10));
            former.refresh().await.expect("looked");
            assert_eq!(numbers(&former).await, up_to(10));
            continue;
        }
        let mut next_stopped = next_gate.stop(Call::Put, "_delta_log");
        let opening = tokio::spawn(next.build());
        next_stopped.reached().await;
        stopped.go_on();
        let (flushed, former) = flushing.await.expect("ended");
        flushed.expect("flushed");
        next_stopped.go_on();
        let next = opening.await.expect("ended").expect("a workspace");
        assert_eq!(numbers(&next).await, up_to(10));
        assert_eq!(numbers(&former).await, up_to(10));
    }
}

#[tokio::test]
async fn a_part_of_a_log_that_is_in_the_table_is_not_brought_in_again() {
    let mut place = Place::new(0);
    let (former, gate) = gated(&mut place).await;
    let former = Arc::new(former.build().await.expect("a workspace"));
    write(&former, 1).await.expect("written");
    let mut stopped = gate.stop(Call::Put, "_delta_log");
    let flushing = {
        let former = Arc::clone(&former);
        tokio::spawn(async move { former.flush().await })
    };
    stopped.reached().await;
    // The object of a second batch gets there although nothing else does any more.
    let writing = {
        let former = Arc::clone(&former);
        tokio::spawn(async move { write(&former, 2).await })
    };
    let (next, next_gate) = gated(&mut place).await;
    gate.open("/log/");
    writing.await.expect("ended").expect("written");
    let mut next_stopped = next_gate.stop(Call::Put, "_delta_log");
    let opening = tokio::spawn(next.build());
    next_stopped.reached().await;
    stopped.go_on();
    flushing.await.expect("ended").expect("the first batch is in the table");
    next_stopped.go_on();
    let next = opening.await.expect("ended").expect("a workspace");
    assert_eq!(numbers(&next).await, up_to(20));
    former.refresh().await.expect("looked");
    assert_eq!(numbers(&former).await, up_to(20));
}

#[tokio::test]
async fn a_batch_whose_answer_is_lost_is_written_once() {
    let mut place = Place::new(0);
    let faults = Arc::new(Faults::new(1));
    let layer = {
        let faults = Arc::clone(&faults);
        move |store| -> Arc<dyn ObjectStore> { Arc::new(Faulty::new(store, faults)) }
    };
    let workspace = builder(&mut place).store_layer(layer).build().await.expect("a workspace");
    write(&workspace, 1).await.expect("written");
    for (sequence, is_there) in [(2, true), (3, false)] {
        match is_there {
            true => faults.set_after(1_000),
            false => faults.set_before(1_000),
        }
        let refused = write(&workspace, sequence).await.expect_err("no answer");
        assert!(matches!(refused, Error::Store { .. }), "{refused}");
        if !is_there {
            // As long as it is not known, nothing else is written.
            let other = batch("b", sequence, 900..901);
            let refused = workspace.write(other).await.expect_err("no answer");
            assert!(matches!(refused, Error::Store { .. }), "{refused}");
        }
        faults.calm();
        write(&workspace, sequence).await.expect("found, or written");
        assert_eq!(numbers(&workspace).await, up_to(sequence * 10));
    }
    // Also without anyone who sends again.
    faults.set_before(1_000);
    drop(write(&workspace, 4).await.expect_err("no answer"));
    faults.calm();
    workspace.flush().await.expect("flushed");
    assert_eq!(numbers(&workspace).await, up_to(40));
    drop(workspace);
    assert_eq!(numbers(&open(&mut place).await).await, up_to(40));
}

#[tokio::test]
async fn many_writers_share_an_object_and_a_flush_removes_what_is_not_needed() {
    let mut place = Place::new(0);
    let slow = Settings { log_interval: jiff::SignedDuration::from_millis(100), ..settings() };
    let workspace = builder(&mut place).settings(slow).build().await.expect("a workspace");
    let writes = (0..64).map(|n| workspace.write(batch(&format!("p{n}"), 1, n..n + 1)));
    futures::future::try_join_all(writes).await.expect("written");
    let count = log(&place).await.len();
    assert!((2..8).contains(&count), "{count} objects");
    for sequence in 2..6 {
        workspace.write(batch("p0", sequence, [sequence * 100])).await.expect("written");
    }
    assert!(log(&place).await.len() >= count + 4);
    workspace.flush().await.expect("flushed");
    let left = log(&place).await;
    assert_eq!(left.len(), 1, "the newest, which knows the producers: {left:?}");
    drop(workspace);
    let next = open(&mut place).await;
    assert_eq!(numbers(&next).await.len(), 68);
    assert_eq!(next.last_sequence("p63").expect("open"), 1);
    assert_eq!(next.last_sequence("p0").expect("open"), 5);
}

#[tokio::test]
async fn damage_is_named_and_the_rest_can_be_read() {
    let mut place = Place::new(0);
    let workspace = open(&mut place).await;
    for sequence in 1..=4 {
        write(&workspace, sequence).await.expect("written");
    }
    drop(workspace);
    let objects = log(&place).await;
    let (second, third) = (&objects[2], &objects[3]);
    let whole = place.store.get(second).await.expect("there").bytes().await.expect("read");
    let length = whole.len();
    // A bit of the header, of the group's head, and of its entry.
    for at in [20, length / 3, length - 1] {
        let mut flipped = whole.to_vec();
        flipped[at] ^= 4;
        place.store.put(second, flipped.into()).await.expect("put");
        let error = builder(&mut place).build().await.expect_err("damaged");
        assert!(
            matches!(&error, Error::Corrupt { path, .. } if path == second.as_ref()),
            "{error}"
        );
    }
    for cut in [0, 10, length / 2, length - 1] {
        place.store.put(second, whole.slice(..cut).into()).await.expect("put");
        let error = builder(&mut place).build().await.expect_err("cut").to_string();
        assert!(error.contains(second.as_ref()), "{error}");
    }
    let opened = builder(&mut place).quarantine(true).build().await.expect("opened");
    let damage = opened.log_damage().expect("open");
    assert_eq!((damage.len(), damage[0].batches_missing), (1, Some(1)), "{damage:?}");
    let moved = ObjectPath::from(damage[0].moved_to.as_str());
    assert_eq!(place.store.head(&moved).await.expect("moved").size as usize, length - 1);
    let expected: Vec<u64> = up_to(40).into_iter().filter(|n| n / 10 != 1).collect();
    assert_eq!(numbers(&opened).await, expected);
    // Its sequence is known from the next header.
    assert_eq!(opened.last_sequence("a").expect("open"), 4);
    drop(opened);
    assert!(place.store.head(third).await.is_err(), "taken over");

    let workspace = open(&mut place).await;
    for sequence in 5..=8 {
        write(&workspace, sequence).await.expect("written");
    }
    let id = workspace.writers().await.expect("listed")[0].to_string();
    drop(workspace);
    let own: Vec<_> =
        log(&place).await.into_iter().filter(|it| it.as_ref().contains(&id)).collect();
    place.store.delete(&own[2]).await.expect("deleted");
    let error = builder(&mut place).build().await.expect_err("a gap").to_string();
    assert!(error.contains("the segment before it is missing"), "{error}");
    for path in &own {
        drop(place.store.delete(path).await);
    }
    let error = builder(&mut place).build().await.expect_err("gone").to_string();
    assert!(error.contains("the log is gone") && error.contains(&id), "{error}");
    let opened = builder(&mut place).quarantine(true).build().await.expect("opened");
    assert_eq!(numbers(&opened).await, expected);
}

/// Auditor: whenever a process that takes a place over ends, the next one finds every acknowledged
/// record once.
#[tokio::test]
async fn a_process_may_end_at_any_call_while_it_takes_a_place_over() {
    let mut points = 0;
    for after in [After::Off, After::GoOn] {
        for at in 0.. {
            let mut place = Place::new(0);
            let first = open(&mut place).await;
            write(&first, 1).await.expect("written");
            first.flush().await.expect("flushed");
            write(&first, 2).await.expect("written");
            drop(first);
            let struck = Arc::new(Points::new(at, after));
            let layer = |inner| -> Arc<dyn ObjectStore> {
                Arc::new(Pointed { inner, points: Arc::clone(&struck) })
            };
            let mut acknowledged = 20;
            if let Ok(second) = builder(&mut place).store_layer(layer).build().await {
                if write(&second, 3).await.is_ok() {
                    acknowledged = 30;
                }
                drop(second.close().await);
            }
            if !struck.has_struck() {
                points += at;
                break;
            }
            let third = open(&mut place).await;
            let found = numbers(&third).await;
            assert!(found == up_to(acknowledged) || found == up_to(30), "point {at}: {found:?}");
            write(&third, 3).await.expect("written, or known");
            assert_eq!(numbers(&third).await, up_to(30), "point {at}");
            third.close().await.expect("closed");
            assert_eq!(numbers(&open(&mut place).await).await, up_to(30), "point {at}");
        }
    }
    assert!(points > 80, "{points} points");
}

/// What is for a damaged table stays in the log, whoever has the place, until the table is mended.
#[tokio::test]
async fn rows_of_a_damaged_table_stay_in_the_log_until_it_is_mended() {
    let mut place = Place::new(0);
    let other = |sequence| {
        let records = vec![Record::new("Other_CL".parse().expect("a name"), crate::start(), "pc")];
        Batch { producer: "a".into(), sequence, records }
    };
    let rows = |workspace: &Workspace| {
        let tables = workspace.tables();
        tables.iter().find(|found| found.name == "Other_CL").map_or(0, |found| found.rows)
    };
    let first = open(&mut place).await;
    write(&first, 1).await.expect("written");
    first.flush().await.expect("flushed");
    write(&first, 2).await.expect("written");
    first.write(other(3)).await.expect("written");
    let commit = ObjectPath::from("logs/Perf/_delta_log/00000000000000000000.json");
    let bytes = place.store.get(&commit).await.expect("it").bytes().await.expect("bytes");
    let mut flipped = bytes.to_vec();
    flipped[55] ^= 2;
    place.store.put(&commit, flipped.into()).await.expect("damaged");
    drop(first);
    for n in 0..2 {
        let next = open(&mut place).await;
        assert_eq!((next.damage().expect("open").len(), rows(&next)), (1, 1 + n));
        next.write(other(4 + n)).await.expect("others are written");
        let flushed = next.flush().await;
        assert!(matches!(flushed, Err(Error::Damaged(_))), "{flushed:?}");
        drop(next.close().await);
    }
    place.store.put(&commit, bytes.into()).await.expect("mended");
    let last = open(&mut place).await;
    assert_eq!((numbers(&last).await, rows(&last)), (up_to(20), 3));
    assert_eq!(last.writers().await.expect("listed").len(), 1);
    last.close().await.expect("closed");
    let again = open(&mut place).await;
    assert_eq!((numbers(&again).await, rows(&again)), (up_to(20), 3));
}

/// Also where the process that has them goes on.
#[tokio::test]
async fn a_log_keeps_what_a_damaged_table_does_not_take() {
    let mut place = Place::new(0);
    let process = open(&mut place).await;
    write(&process, 1).await.expect("written");
    process.flush().await.expect("flushed");
    write(&process, 2).await.expect("written");
    process.flush().await.expect("flushed");
    write(&process, 3).await.expect("written");
    let commit = ObjectPath::from("logs/Perf/_delta_log/00000000000000000001.json");
    let bytes = place.store.get(&commit).await.expect("it").bytes().await.expect("bytes");
    let mut flipped = bytes.to_vec();
    flipped[55] ^= 2;
    place.store.put(&commit, flipped.into()).await.expect("damaged");
    process.compact(&super::forced()).await.expect_err("it looks at the log");
    for _ in 0..2 {
        let flushed = process.flush().await;
        assert!(matches!(flushed, Err(Error::Damaged(_))), "{flushed:?}");
    }
    drop(process);
    place.folders.clear();
    place.store.put(&commit, bytes.into()).await.expect("mended");
    let next = open(&mut place).await;
    assert_eq!(numbers(&next).await, up_to(30));
}

#[tokio::test]
async fn what_does_not_fit_together_is_refused_by_name() {
    let mut place = Place::new(1);
    let folder = place.folder(0).to_owned();
    let refused = Workspace::builder(folder).diskless(SLOT).build().await.expect_err("no store");
    assert!(refused.to_string().contains("object store"), "{refused}");
    for name in ["", ".", "..", "a/b", "a b", &"x".repeat(64)] {
        let refused = builder(&mut place).diskless(name).build().await.expect_err(name);
        let is_named = matches!(&refused, Error::Setting { setting: "diskless", .. });
        assert!(is_named, "{refused}");
    }
    for millis in [0, 10_001] {
        let log_interval = jiff::SignedDuration::from_millis(millis);
        let settings = Settings { log_interval, ..settings() };
        let refused = builder(&mut place).settings(settings).build().await.expect_err("interval");
        assert!(refused.to_string().contains("log_interval"), "{refused}");
    }
    // A store that belongs to one folder is no place for it before that folder says so.
    let mut place = Place::new(1);
    drop(place.builder(0).build().await.expect("of one folder"));
    let refused = builder(&mut place).build().await.expect_err("another folder's");
    assert!(matches!(refused, Error::OtherFolder { .. }), "{refused}");
}
