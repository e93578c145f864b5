//! Several processes find a table damaged, and go on with the others.

use super::Place;
use crate::{batch, numbers, up_to};
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use oms_core::record::{Batch, Record};
use oms_logs::{Error, Workspace};

fn other(producer: &str, sequence: u64) -> Batch {
    let records = vec![Record::new("Other_CL".parse().expect("a name"), crate::start(), "pc")];
    Batch { producer: producer.into(), sequence, records }
}

fn rows(workspace: &Workspace, table: &str) -> u64 {
    let tables = workspace.tables();
    tables.iter().find(|found| found.name == table).map_or(0, |found| found.rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_commit_is_told_by_each_of_them_and_rows_wait_until_it_is_mended() {
    let place = Place::new(3);
    let (a, b) = (place.open(0).await, place.open(1).await);
    a.write(batch("a", 1, 0..4)).await.expect("written");
    a.write(other("a", 2)).await.expect("written");
    a.flush().await.expect("flushed");
    b.refresh().await.expect("refreshed");
    assert_eq!(numbers(&b).await, up_to(4));
    a.write(batch("a", 3, 4..6)).await.expect("written");
    a.flush().await.expect("flushed");
    let commit = Path::from("logs/Perf/_delta_log/00000000000000000001.json");
    let bytes = place.store.get(&commit).await.expect("it").bytes().await.expect("bytes");
    let mut flipped = bytes.to_vec();
    flipped[55] ^= 2;
    place.store.put(&commit, flipped.into()).await.expect("damaged");
    // One that had the table open before, with rows for it, and one that opens it now.
    b.write(batch("b", 1, 6..8)).await.expect("not known yet");
    b.write(other("b", 2)).await.expect("written");
    b.refresh().await.expect("of the other tables");
    let [damage] = b.damage().expect("open").try_into().expect("one table");
    assert!(damage.file.ends_with("00000000000000000001.json"), "{damage}");
    let c = place.open(2).await;
    assert_eq!(c.damage().expect("open"), [damage]);
    let refused = c.write(batch("c", 1, 8..9)).await;
    assert!(matches!(refused, Err(Error::Damaged(_))), "{refused:?}");
    let flushed = b.flush().await;
    assert!(matches!(flushed, Err(Error::Damaged(_))), "{flushed:?}");
    c.refresh().await.expect("of the other tables");
    assert_eq!((rows(&b, "Other_CL"), rows(&c, "Other_CL")), (2, 2));
    place.store.put(&commit, bytes.into()).await.expect("mended");
    b.flush().await.expect("flushed");
    for workspace in [&a, &b, &c] {
        workspace.refresh().await.expect("refreshed");
        assert_eq!(workspace.damage().expect("open"), []);
        assert_eq!(numbers(workspace).await, up_to(8));
    }
    // Those who have seen a version miss it; those who did not are told by nobody.
    place
        .store
        .delete(&Path::from("logs/Perf/_delta_log/00000000000000000002.json"))
        .await
        .expect("");
    drop(c);
    let c = place.open(2).await;
    let [damage] = c.damage().expect("open").try_into().expect("one table");
    assert!(damage.reason.contains('2'), "{damage}");
}
