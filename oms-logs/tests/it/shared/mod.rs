//! Several processes that write to one repository in an object store.

mod columns;
mod damage;
mod diskless;
mod gate;
mod owner;
mod purge;
mod simulation;

use crate::{batch, numbers, quiet, start, up_to};
use futures::TryStreamExt as _;
use gate::{Conditions, Gate};
use jiff::SignedDuration;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use oms_core::clock::ManualClock;
use oms_core::entropy::SeededEntropy;
use oms_core::record::RecordType;
use oms_core::{EntropyExt as _, SystemClock};
use oms_logs::query::QueryOptions;
use oms_logs::repository::maintain::{CompactOptions, MaintenanceSettings};
use oms_logs::workspace::WorkspaceBuilder;
use oms_logs::{Error, Settings, Workspace};
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

/// An object store, its clock, and the folders of the processes that use it.
struct Place {
    store: Arc<InMemory>,
    clock: Arc<ManualClock>,
    entropy: SeededEntropy,
    folders: Vec<tempfile::TempDir>,
}

impl Place {
    fn new(folders: usize) -> Self {
        Self {
            store: Arc::new(InMemory::new()),
            clock: Arc::new(ManualClock::new(start())),
            entropy: SeededEntropy::new(3),
            folders: (0..folders).map(|_| tempfile::tempdir().expect("a folder")).collect(),
        }
    }

    fn folder(&self, at: usize) -> &Path {
        self.folders[at].path()
    }

    fn bare(&self) -> Arc<dyn ObjectStore> {
        Arc::<InMemory>::clone(&self.store)
    }

    /// A process that does what it is told to, and nothing in the background.
    fn writer(&self, at: usize) -> WorkspaceBuilder {
        self.builder(at).shared()
    }

    fn builder(&self, at: usize) -> WorkspaceBuilder {
        let url = "s3://bucket/logs".parse().expect("a URL");
        quiet(self.folder(at))
            .settings(settings())
            .clock(Arc::<ManualClock>::clone(&self.clock))
            .entropy(Arc::new(SeededEntropy::new(self.entropy.number())))
            .object_store(self.bare(), url)
    }

    async fn open(&self, at: usize) -> Workspace {
        self.writer(at).build().await.expect("a workspace")
    }

    /// The same behind a gate.
    async fn gated(&self, at: usize) -> (Workspace, Gate) {
        let gate = Gate::new(self.bare());
        let layer: Arc<dyn ObjectStore> = Arc::new(gate.clone());
        let workspace = self.writer(at).store_layer(|_| layer).build().await;
        (workspace.expect("a workspace"), gate)
    }

    /// Lets an owner of maintenance that does not show any life be none any more, for `other`.
    async fn let_owner_pass_away(&self, other: &Workspace) {
        let refused = other.vacuum().await.expect_err("another one's");
        assert!(matches!(refused, Error::MaintainedElsewhere { .. }), "{refused}");
        self.clock.advance(std::time::Duration::from_secs(120));
    }
}

fn settings() -> Settings {
    Settings {
        workspace_id: Some(Uuid::from_u128(1)),
        flush_age: SignedDuration::from_hours(10_000_000),
        flush_bytes: u64::MAX,
        refresh_every: SignedDuration::ZERO,
        log_interval: SignedDuration::from_millis(1),
        maintenance: MaintenanceSettings {
            is_automatic: false,
            writers_wait: SignedDuration::ZERO,
            removed_files_kept: SignedDuration::from_hours(1),
            shortening_wait: SignedDuration::ZERO,
            ..MaintenanceSettings::default()
        },
        ..Settings::default()
    }
}

fn forced() -> CompactOptions {
    CompactOptions { is_forced: true, ..CompactOptions::default() }
}

fn table(name: &str) -> RecordType {
    name.parse().expect("a name")
}

/// Nothing is agreed on in a store that lets two processes both be the first.
#[tokio::test]
async fn a_store_that_does_not_keep_conditions_is_refused_by_name() {
    for (conditions, what) in [
        (Conditions::Unknown, "it knows no such writes"),
        (Conditions::OfCreatesIgnored, "it creates an object that is there"),
        (Conditions::OfUpdatesIgnored, "it replaces an object that is another one by then"),
        (Conditions::WithoutVersions, "its objects have no versions"),
    ] {
        let place = Place::new(2);
        let behind = |at| {
            let mut gate = Gate::new(place.bare());
            gate.conditions = conditions;
            place.builder(at).store_layer(move |_| Arc::new(gate) as Arc<dyn ObjectStore>)
        };
        let refused = behind(0).shared().build().await.expect_err("it is shared");
        let shown = refused.to_string();
        assert!(matches!(&refused, Error::Setting { setting: "shared", .. }), "{shown}");
        assert!(shown.contains(what) && shown.contains("s3://bucket/logs"), "{shown}");
    }
    let place = Place::new(2);
    let (a, b) = (place.open(0).await, place.open(1).await);
    let tried = place.store.list(None).try_collect::<Vec<_>>().await.expect("listed");
    let tried = tried.iter().filter(|object| object.location.as_ref().contains("conditions"));
    assert_eq!(tried.count(), 0, "nothing of the trial is left");
    drop((a, b));
}

#[tokio::test]
async fn a_process_sees_its_own_rows_at_once_and_those_of_others_when_it_looks() {
    let place = Place::new(3);
    let (a, b) = (place.open(0).await, place.open(1).await);
    a.write(batch("a", 1, 0..10)).await.expect("written");
    b.write(batch("b", 1, 10..20)).await.expect("written");
    assert_eq!(numbers(&a).await, up_to(10));
    assert_eq!(numbers(&b).await, (10..20).collect::<Vec<_>>());
    a.flush().await.expect("flushed");
    assert_eq!(numbers(&b).await.len(), 10, "not before it looks");
    b.refresh().await.expect("looked");
    assert_eq!(numbers(&b).await, up_to(20), "flushed by the other, and its own");
    b.flush().await.expect("flushed");
    assert_eq!(numbers(&b).await, up_to(20));
    a.refresh().await.expect("looked");
    assert_eq!(numbers(&a).await, up_to(20));
    // Both commit to a table that the other one committed to since.
    for sequence in 2..6 {
        let first = sequence * 10;
        a.write(batch("a", sequence, first..first + 5)).await.expect("written");
        b.write(batch("b", sequence, first + 5..first + 10)).await.expect("written");
        a.flush().await.expect("flushed");
        b.flush().await.expect("flushed");
    }
    let mut ids: Vec<_> = a.writers().await.expect("listed");
    ids.sort_unstable();
    assert_eq!(ids.len(), 2);
    a.close().await.expect("closed");
    assert_eq!(b.writers().await.expect("listed").len(), 1, "the other one has nothing left");
    drop(b);
    let c = place.open(2).await;
    assert_eq!(c.writers().await.expect("listed").len(), 2, "that was killed may have");
    assert_eq!(numbers(&c).await, up_to(60));
    let a = place.open(0).await;
    assert_eq!(numbers(&a).await, up_to(60), "opened again");
    let options = QueryOptions::new(Arc::<ManualClock>::clone(&place.clock));
    let query = "Perf | summarize count(), dcount(_ItemId)";
    let answer = a.query(query, &options).await.expect("answered");
    assert_eq!(
        answer.rows(),
        [[serde_json::json!(60), serde_json::json!(60)]],
        "no id is there twice"
    );
}

#[tokio::test]
async fn tables_of_others_are_found_and_a_look_without_news_is_cheap() {
    let place = Place::new(2);
    let ((a, _), (b, gate)) = (place.gated(0).await, place.gated(1).await);
    a.write(batch("a", 1, 0..10)).await.expect("written");
    a.flush().await.expect("flushed");
    assert_eq!(b.tables(), []);
    b.refresh().await.expect("looked");
    assert_eq!(b.tables()[0].rows, 10);
    let before = gate.calls();
    b.refresh().await.expect("looked");
    assert_eq!(gate.calls() - before, 6, "for the table, and for what is agreed on");
    a.write(batch("a", 2, 10..20)).await.expect("written");
    a.flush().await.expect("flushed");
    b.refresh().await.expect("looked");
    assert_eq!(numbers(&b).await, up_to(20));
}

#[tokio::test]
async fn a_store_is_shared_by_those_who_say_so() {
    let place = Place::new(4);
    let own = place.builder(0).build().await.expect("its own");
    own.write(batch("a", 1, 0..10)).await.expect("written");
    let kept = oms_logs::repository::maintain::TableSettings {
        interactive_retention_days: 60,
        total_retention_days: 90,
        ..Default::default()
    };
    own.set_table_settings(&table("Perf"), kept).await.expect("set");
    let refused = place.writer(1).build().await.expect_err("another folder's");
    assert!(matches!(refused, Error::OtherFolder { .. }), "{refused}");
    own.close().await.expect("closed");
    let a = place.open(0).await;
    let refused = place.builder(0).build().await.expect_err("it is open");
    assert!(matches!(refused, Error::Locked { .. }), "{refused}");
    for builder in [place.builder(2), place.builder(2).take_over()] {
        let refused = builder.build().await.expect_err("shared");
        assert!(matches!(refused, Error::SharedStore { .. }), "{refused}");
    }
    let b = place.open(1).await;
    assert_eq!(numbers(&b).await, up_to(10));
    assert_eq!(
        b.table_settings(&table("Perf")).expect("open"),
        kept,
        "they are shared from now on"
    );
    let shorter =
        oms_logs::repository::maintain::TableSettings { total_retention_days: 61, ..kept };
    b.set_table_settings(&table("Perf"), shorter).await.expect("set");
    a.refresh().await.expect("looked");
    assert_eq!(a.table_settings(&table("Perf")).expect("open"), shorter);

    let foreign = place.writer(3);
    let foreign =
        foreign.settings(Settings { workspace_id: Some(Uuid::from_u128(9)), ..settings() });
    let refused = foreign.build().await.expect_err("another workspace's");
    assert!(matches!(refused, Error::OtherWorkspace { .. }), "{refused}");
    for wrong in [SignedDuration::from_secs(30), SignedDuration::from_millis(99)] {
        let wrong = place.writer(2).settings(Settings { refresh_every: wrong, ..settings() });
        let refused = wrong.build().await.expect_err("out of range").to_string();
        assert!(refused.contains("setting=`refresh_every`"), "{refused}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let refused = quiet(folder.path()).shared().build().await.expect_err("a folder").to_string();
    assert!(refused.contains("setting=`shared`"), "{refused}");
}

/// The background task looks, and answers those who wait for a flush.
#[tokio::test]
async fn a_process_looks_by_itself() {
    let place = Place::new(2);
    let every = SignedDuration::from_millis(100);
    let maintenance = MaintenanceSettings {
        writers_wait: SignedDuration::from_mins(10),
        ..settings().maintenance
    };
    let settings = Settings { refresh_every: every, maintenance, ..settings() };
    let clock = Arc::new(SystemClock);
    let builder = |at: usize| {
        place.writer(at).settings(settings.clone()).clock(Arc::<SystemClock>::clone(&clock))
    };
    let a = builder(0).build().await.expect("a workspace");
    let b = builder(1).build().await.expect("a workspace");
    b.write(batch("b", 1, 0..10)).await.expect("written");
    b.flush().await.expect("flushed");
    while a.tables().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    b.write(batch("b", 2, 10..20)).await.expect("written");
    let plan = a.plan_purge(&table("Perf"), "CounterValue == 13").await.expect("a plan");
    assert_eq!(plan.apply().await.expect("purged").rows, 1);
}

/// Each tells of the bytes that came to it, so that the sum is right.
#[tokio::test]
async fn usage_is_told_once() {
    let place = Place::new(2);
    let (a, b) = (place.open(0).await, place.open(1).await);
    for (workspace, producer, rows) in [(&a, "a", 0..10), (&b, "b", 10..40)] {
        workspace.write(batch(producer, 1, rows)).await.expect("written");
        workspace.flush().await.expect("flushed");
    }
    place.clock.advance(std::time::Duration::from_secs(2 * 3_600));
    for workspace in [&a, &b] {
        workspace.refresh().await.expect("looked");
        assert_eq!(workspace.account_usage().await.expect("told"), 1);
        assert_eq!(workspace.account_usage().await.expect("told"), 0);
        workspace.flush().await.expect("flushed");
    }
    a.refresh().await.expect("looked");
    let options = QueryOptions::new(Arc::<ManualClock>::clone(&place.clock));
    let ask = async |query: &str| a.query(query, &options).await.expect("answered").rows();
    let told = ask("Usage | where DataType == 'Perf' | summarize round(sum(Quantity) * 1e6)").await;
    let billed = ask("Perf | summarize round(todouble(sum(_BilledSize)))").await;
    assert_eq!(told, billed);
}

#[tokio::test]
async fn data_collection_rules_are_those_of_all() {
    let place = Place::new(3);
    let (a, b) = (place.open(0).await, place.open(1).await);
    let rule = |table: &str| {
        serde_json::json!({"location": "local", "properties": {
            "streamDeclarations": {"Custom-In": {"columns": [
                {"name": "TimeGenerated", "type": "datetime"}, {"name": "N", "type": "long"}]}},
            "destinations": {"logAnalytics": [{"name": "here", "workspaceResourceId": "/w"}]},
            "dataFlows": [{"streams": ["Custom-In"], "destinations": ["here"],
                "transformKql": "source", "outputStream": format!("Custom-{table}")}],
        }})
    };
    let names = |workspace: &Workspace| {
        let rules = workspace.rules().expect("open");
        rules.into_iter().map(|rule| rule.name).collect::<Vec<_>>()
    };
    let (first, _) = a.put_rule("one", rule("One_CL")).await.expect("put");
    assert!(names(&b).is_empty(), "not before it looks");
    // Whoever changes something has looked.
    let (_, is_new) = b.put_rule("two", rule("Two_CL")).await.expect("put");
    assert!(is_new);
    assert_eq!(names(&b), ["one", "two"]);
    a.refresh().await.expect("looked");
    assert_eq!(names(&a), ["one", "two"]);
    let (again, is_new) = b.put_rule("ONE", rule("Other_CL")).await.expect("put");
    assert!(!is_new && again.immutable_id == first.immutable_id, "{again:?}");
    let (put, deleted) = tokio::join!(a.put_rule("three", rule("Three_CL")), b.delete_rule("two"));
    put.expect("put");
    deleted.expect("deleted");
    let late = place.open(2).await;
    for workspace in [&a, &b, &late] {
        workspace.refresh().await.expect("looked");
        assert_eq!(names(workspace), ["one", "three"]);
    }
    let row = serde_json::json!({"TimeGenerated": start().to_string(), "N": 7});
    let sent = oms_logs::ingest::rule::StreamBatch {
        producer: "p".to_owned(),
        sequence: 1,
        rule: "one".to_owned(),
        stream: "Custom-In".to_owned(),
        records: vec![row],
    };
    a.ingest_stream(sent).await.expect("taken");
    assert_eq!(a.table_names(), ["Other_CL"], "as the other process changed it");
}
