//! The spans and counts of the repository's works, which are an interface.

use crate::bulk::lines;
use crate::{batch, quiet, start};
use jiff::SignedDuration;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use oms_core::clock::ManualClock;
use oms_logs::query::{ExportFormat, ExportOptions, QueryOptions};
use oms_logs::repository::maintain::CompactOptions;
use oms_logs::workspace::{LoadFile, LoadOptions};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};

/// A span: its name, and each field that has a value with its text.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Seen {
    name: String,
    fields: Vec<(String, String)>,
}

impl Seen {
    fn field(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|(field, _)| field == name);
        field.map(|(_, value)| value.as_str())
    }
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.push((field.name().to_owned(), format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.push((field.name().to_owned(), value.to_owned()));
    }
}

thread_local! {
    /// The spans that this thread began, in their order.
    static SEEN: RefCell<Vec<Seen>> = const { RefCell::new(Vec::new()) };
}

/// Keeps every span of the repository with the thread that began it. It listens to the whole process:
/// which spans are of interest is decided once, by whichever test reaches one first.
#[derive(Clone, Copy, Debug)]
struct Spans;

impl Spans {
    /// The one span of a name that has this value of a field.
    fn one(name: &str, field: &str, value: &str) -> Seen {
        SEEN.with_borrow(|seen| {
            let fits = |span: &&Seen| span.name == name && span.field(field) == Some(value);
            let found: Vec<&Seen> = seen.iter().filter(fits).collect();
            assert_eq!(found.len(), 1, "{name} of {field}=`{value}` in {seen:?}");
            found[0].clone()
        })
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        let is_ours = metadata.target().starts_with("oms_logs");
        metadata.is_span() && is_ours && *metadata.level() == Level::INFO
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut seen = Seen { name: span.metadata().name().to_owned(), fields: Vec::new() };
        span.record(&mut seen);
        SEEN.with_borrow_mut(|all| {
            all.push(seen);
            Id::from_u64(all.len() as u64)
        })
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let at = usize::try_from(span.into_u64() - 1).expect("an index");
        // One that another thread began is none of this one's.
        SEEN.with_borrow_mut(|all| {
            all.get_mut(at).into_iter().for_each(|seen| values.record(seen))
        });
    }

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, _event: &Event<'_>) {}

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

/// Keeps which series were counted into: the name, and each label.
#[derive(Clone, Debug, Default)]
struct Names(Arc<Mutex<BTreeSet<String>>>);

impl Names {
    fn note(&self, key: &Key) {
        let labels = key.labels().map(|label| format!(" {}={}", label.key(), label.value()));
        let name = format!("{}{}", key.name(), labels.collect::<String>());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
    }
}

impl metrics::Recorder for Names {
    fn describe_counter(&self, _key: KeyName, _unit: Option<Unit>, _text: SharedString) {}

    fn describe_gauge(&self, _key: KeyName, _unit: Option<Unit>, _text: SharedString) {}

    fn describe_histogram(&self, _key: KeyName, _unit: Option<Unit>, _text: SharedString) {}

    fn register_counter(&self, key: &Key, _metadata: &Metadata<'_>) -> Counter {
        self.note(key);
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _metadata: &Metadata<'_>) -> Gauge {
        self.note(key);
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _metadata: &Metadata<'_>) -> Histogram {
        self.note(key);
        Histogram::noop()
    }
}

/// Every load, export, compaction, purge, retention and vacuum is a span that tells what it did.
#[tokio::test]
async fn each_work_of_the_repository_is_a_span_and_is_counted() {
    let names = Names::default();
    tracing::subscriber::set_global_default(Spans).expect("the one that listens");
    let _recorder = metrics::set_default_local_recorder(&names);
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(ManualClock::new(start() + SignedDuration::from_hours(1)));
    let workspace = quiet(folder.path()).clock(Arc::<ManualClock>::clone(&clock)).build().await;
    let workspace = workspace.expect("a workspace");
    for sequence in 1..=2 {
        workspace.write(batch("a", sequence, [sequence])).await.expect("written");
        workspace.flush().await.expect("flushed");
    }
    let perf = "Perf".parse().expect("a name");
    let file = |text: &str| LoadFile::text("rows", Cursor::new(text.to_owned()));
    let text = format!("{}soup\n", lines(3..8));
    let loaded = workspace.load(&perf, vec![file(&text)], &LoadOptions::default()).await;
    assert!(loaded.expect("a report").failure.is_none());
    let options = ExportOptions {
        format: ExportFormat::Csv,
        is_total: true,
        query: QueryOptions::new(Arc::<ManualClock>::clone(&clock)),
    };
    workspace.export("Perf | take 4", &options, Vec::new()).await.expect("exported");
    workspace.export("Nothing | take 4", &options, Vec::new()).await.expect_err("no such table");
    let forced = CompactOptions { is_forced: true, ..CompactOptions::default() };
    let compacted = workspace.compact(&forced).await.expect("compacted").files_before();
    let plan = workspace.plan_purge(&perf, "CounterValue == 1").await.expect("planned");
    plan.apply().await.expect("purged");
    let now = start() + SignedDuration::from_hours(24 * 365);
    clock.set(now);
    let plan = workspace.plan_retention(now).await.expect("planned").trusting_the_clock();
    plan.apply().await.expect("removed");
    workspace.vacuum().await.expect("vacuumed");
    drop(workspace.plan_retention(now).await.expect("planned").apply().await);

    let load = Spans::one("load", "table", "Perf");
    let told = ["rows", "refused", "files", "outcome"].map(|field| load.field(field));
    assert_eq!(told, [Some("5"), Some("1"), Some("1"), Some("ok")], "{load:?}");
    assert_ne!(load.field("bytes"), Some("0"), "{load:?}");
    let export = Spans::one("export", "text", "Perf | take 4");
    assert_eq!(["rows", "outcome"].map(|field| export.field(field)), [Some("4"), Some("ok")]);
    let refused = Spans::one("export", "text", "Nothing | take 4");
    assert_eq!(["rows", "outcome"].map(|field| refused.field(field)), [None, Some("invalid")]);
    let maintenance = |operation| {
        let span = Spans::one("maintenance", "operation", operation);
        ["rows", "files", "outcome"].map(|field| span.field(field).map(str::to_owned))
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(compacted, 3);
    assert_eq!(maintenance("compaction"), [text("7"), text("3"), text("ok")]);
    assert_eq!(maintenance("purge"), [text("1"), text("1"), text("ok")]);
    let vacuum = maintenance("vacuum");
    assert_eq!((&vacuum[0], &vacuum[2]), (&text("0"), &text("ok")));
    let names = names.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for name in [
        "oms_logs_load_seconds outcome=ok",
        "oms_logs_export_seconds outcome=ok",
        "oms_logs_export_seconds outcome=invalid",
        "oms_logs_export_rows_total",
        "oms_logs_maintenance_seconds operation=compaction outcome=ok",
        "oms_logs_maintenance_seconds operation=purge outcome=ok",
        "oms_logs_maintenance_seconds operation=retention outcome=ok",
        "oms_logs_maintenance_seconds operation=vacuum outcome=ok",
    ] {
        assert!(names.contains(name), "{name} in {names:?}");
    }
}
