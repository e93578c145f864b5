//! What the vault holds, and what it says.

use crate::common::{World, random_disk, scribble};
use oms_core::Journal;
use oms_core::entropy::SeededEntropy;
use oms_core::journal::{HistoryId, JournalExt};
use oms_core::projection::MappingError;
use oms_core::record::{Record, Value};
use oms_recovery::machine::disk::BlockDevice;
use oms_recovery::recovery_point::{Consistency, PointChoice};
use oms_recovery::{Error, RecoveryVault, ReplicationPolicy, records};
use std::path::Path;
use std::sync::Arc;

/// Finds a byte string in every file below a folder.
fn files_with(folder: &Path, wanted: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_with(&path, wanted));
        } else if std::fs::read(&path).expect("a file").windows(wanted.len()).any(|w| w == wanted) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test]
async fn the_vault_holds_nothing_of_what_is_replicated() {
    let canary = b"CANARY-4b1d0c6e-2f4d-4b57-9d0a-1";
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let mut disk = vec![0; 1 << 20];
    disk[5000..5000 + canary.len()].copy_from_slice(canary);
    std::fs::write(dir.join("web1.img"), &disk).expect("write");

    let vault = RecoveryVault::builder(dir.join("vault")).build().expect("a vault");
    let (image, replica) = (dir.join("web1.img"), dir.join("replica"));
    let policy = ReplicationPolicy::default();
    let item = vault.enable_protection("web1", &image, &replica, policy).await.expect("enable");
    item.replicate().await.expect("replicate");
    item.device().expect("device").write_at(100_000, canary).expect("write");
    item.take_recovery_point(Consistency::CrashConsistent).await.expect("point");
    let drill = item.test_failover(PointChoice::Latest).await.expect("drill");
    drill.device().write_at(200_000, canary).expect("write");
    item.cleanup_test_failover("").await.expect("cleanup");
    item.planned_failover().await.expect("failover");
    item.commit().await.expect("commit");
    item.reprotect().await.expect("reprotect");
    item.device().expect("device").write_at(300_000, canary).expect("write");
    item.replicate().await.expect("replicate");

    assert!(!files_with(&replica, canary).is_empty(), "the search finds what is there");
    assert!(!files_with(&dir.join("web1.img.replication"), canary).is_empty());
    assert!(std::fs::read_dir(dir.join("vault")).expect("a folder").count() > 0);
    assert_eq!(files_with(&dir.join("vault"), canary), Vec::<String>::new());
}

#[tokio::test]
async fn a_vault_of_its_own_journal_is_read_by_the_next_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    std::fs::write(dir.join("web1.img"), vec![1; 1 << 20]).expect("write");
    let policy = ReplicationPolicy::default();
    {
        let vault = RecoveryVault::builder(dir.join("vault")).build().expect("a vault");
        let (image, replica) = (dir.join("web1.img"), dir.join("replica"));
        let item = vault.enable_protection("web1", &image, &replica, policy).await.expect("enable");
        item.replicate().await.expect("replicate");
        item.device().expect("device").write_at(3, b"kept").expect("write");
        item.device().expect("device").flush().expect("flush");
    }
    let vault = RecoveryVault::builder(dir.join("vault")).build().expect("a vault");
    assert_eq!(vault.items().await.expect("items").len(), 1);
    let item = vault.item("web1").await.expect("open");
    item.planned_failover().await.expect("failover");
    let mut bytes = [0; 4];
    item.device().expect("device").read_at(3, &mut bytes).expect("read");
    assert_eq!(&bytes, b"kept");
    let error = vault.item("web2").await.expect_err("unknown");
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

fn text<'a>(record: &'a Record, column: &str) -> &'a str {
    match &record.fields[column] {
        Value::String(text) => text,
        other => panic!("{column} is {other:?}"),
    }
}

#[tokio::test]
async fn events_become_rows_that_published_queries_read() {
    let entropy = SeededEntropy::new(1);
    let mut model = random_disk(&entropy);
    let world = World::new(1, &model);
    let item = world.protect(ReplicationPolicy::default()).await;
    scribble(&*item.device().expect("device"), &mut model, &entropy, 3);
    item.test_failover(PointChoice::Latest).await.expect("drill");
    item.cleanup_test_failover("fine").await.expect("cleanup");
    item.planned_failover().await.expect("failover");
    item.commit().await.expect("commit");
    item.reprotect().await.expect("reprotect");
    let events = world.journal.read_all(0, 1000).await.expect("events");
    let mapped = events.iter().map(|event| records(event, "vaulthost").expect("mapped"));
    let rows: Vec<_> = mapped.flatten().collect();
    assert!(rows.iter().all(|row| row.record_type.as_str() == "AzureDiagnostics"));
    let jobs: Vec<_> = rows
        .iter()
        .filter(|row| text(row, "Category") == "AzureSiteRecoveryJobs")
        .map(|row| format!("{} {}", text(row, "OperationName"), text(row, "ResultType")))
        .collect();
    assert_eq!(
        jobs,
        [
            "Enable replication InProgress",
            "Enable replication Succeeded",
            "Finalize protection Succeeded",
            "Test failover Succeeded",
            "Test failover cleanup InProgress",
            "Test failover cleanup Succeeded",
            "Planned failover InProgress",
            "Planned failover Succeeded",
            "Commit Succeeded",
            "Reprotect InProgress",
            "Reprotect Succeeded",
        ]
    );
    let last = rows.last().expect("rows");
    assert_eq!(text(last, "Category"), "AzureSiteRecoveryReplicatedItems");
    assert_eq!(text(last, "name_s"), "web1");
    assert_eq!(text(last, "Resource"), "VAULT1");
    assert_eq!(text(last, "replicationHealth_s"), "Normal");
    assert_eq!(text(last, "failoverHealth_s"), "Normal");
    assert!(last.fields.contains_key("lastSuccessfulTestFailoverTime_t"));
    let history = HistoryId::new("job", "web1").expect("a name");
    let other = oms_core::journal::Envelope::new("x", 1, last.time, "me", &1).expect("a body");
    world.journal.append_to(&history, 0, vec![other]).await.expect("append");
    let foreign = world.journal.read_whole(&history).await.expect("read");
    assert_eq!(records(&foreign[0], "vaulthost"), Ok(Vec::new()));
    let mut unknown = events[0].clone();
    unknown.envelope.format = 2;
    let poisoned = records(&unknown, "vaulthost").expect_err("a newer version's");
    assert!(matches!(poisoned, MappingError::Poisoned { .. }), "{poisoned}");
    unknown.envelope = foreign[0].envelope.clone();
    assert!(records(&unknown, "vaulthost").is_err(), "another history's");
}

#[tokio::test]
async fn a_second_process_cannot_append() {
    let world = World::new(9, &random_disk(&SeededEntropy::new(9)));
    let first = world.protect(ReplicationPolicy::default()).await;
    let second = world.vault().item("web1").await.expect("open");
    first.test_failover(PointChoice::Latest).await.expect("drill");
    let error = second.test_failover(PointChoice::Latest).await.expect_err("stale");
    assert_eq!(error.kind(), oms_core::ErrorKind::Conflict);
    let _ = Arc::strong_count(&first);
}
