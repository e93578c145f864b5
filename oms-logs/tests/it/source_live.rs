//! The agent's data sources on the computer that the tests run on.

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use oms_core::id::SourceId;
use oms_core::record::{Batch, Record, RecordSink, SinkError, Value};
use oms_logs::source::heartbeat::{Heartbeat, HostFiles};
use oms_logs::source::perf::Perf;
use oms_logs::source::syslog::SyslogFile;
use oms_logs::source::tail::StartAt;
use oms_logs::source::{Agent, DataSource, Moment};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn moment(seconds: u64) -> Moment<'static> {
    Moment {
        now: Timestamp::UNIX_EPOCH,
        monotonic: Duration::from_secs(seconds),
        computer: "this",
        source: SourceId(uuid::Uuid::nil()),
    }
}

fn text<'a>(record: &'a Record, column: &str) -> &'a str {
    match record.fields.get(column) {
        Some(Value::String(text)) => text,
        other => panic!("{column}: {other:?}"),
    }
}

fn values(records: &[Record]) -> BTreeMap<(&str, &str, &str), f64> {
    let value = |record: &Record| match record.fields["CounterValue"] {
        Value::Real(value) => value,
        ref other => panic!("{other:?}"),
    };
    let key = |record| {
        (text(record, "ObjectName"), text(record, "InstanceName"), text(record, "CounterName"))
    };
    records.iter().map(|record| (key(record), value(record))).collect()
}

#[test]
fn counters_of_this_computer_are_sane() {
    let mut perf = Perf::new();
    let first = perf.collect(&moment(0)).expect("collected");
    // Some processor time passes, so that there is something to divide. The kernel adds the total up
    // before it prints each processor, so one processor may have moved on alone.
    let mut second = perf.collect(&moment(1)).expect("collected");
    for seconds in 2..1_000_000 {
        if values(&second.records).keys().any(|key| (key.0, key.1) == ("Processor", "_Total")) {
            break;
        }
        second = perf.collect(&moment(seconds)).expect("collected");
    }
    let first = values(&first.records);
    let second = values(&second.records);

    let available = first[&("Memory", "Memory", "Available MBytes Memory")];
    let used = first[&("Memory", "Memory", "Used Memory MBytes")];
    assert!(available > 0.0 && used > 0.0, "{available} {used}");
    assert!(first.contains_key(&("Logical Disk", "_Total", "Free Megabytes")), "{first:#?}");
    assert!(first.contains_key(&("Logical Disk", "/", "% Used Space")), "{first:#?}");

    let busy = second[&("Processor", "_Total", "% Processor Time")];
    let idle = second[&("Processor", "_Total", "% Idle Time")];
    assert!((busy + idle - 100.0).abs() < 1e-9, "{busy} {idle}");
    for ((object, instance, counter), value) in first.iter().chain(&second) {
        let name = format!("{object}({instance}) {counter} = {value}");
        assert!(value.is_finite() && *value >= 0.0, "{name}");
        assert!(!counter.contains('%') || *value <= 100.0, "{name}");
    }
}

/// The columns of the standard tables that the agent fills, and their types. A repository refuses a
/// batch with a column that the table does not have.
const COLUMNS: [(&str, &[(&str, &str)]); 4] = [
    (
        "Heartbeat",
        &[
            ("Category", "string"),
            ("ComputerEnvironment", "string"),
            ("ComputerPrivateIPs", "dynamic"),
            ("OSMajorVersion", "string"),
            ("OSMinorVersion", "string"),
            ("OSName", "string"),
            ("OSType", "string"),
            ("SCAgentChannel", "string"),
            ("SourceSystem", "string"),
            ("Version", "string"),
            ("VMUUID", "string"),
        ],
    ),
    (
        "Perf",
        &[
            ("CounterName", "string"),
            ("CounterPath", "string"),
            ("CounterValue", "real"),
            ("InstanceName", "string"),
            ("ObjectName", "string"),
            ("SourceSystem", "string"),
        ],
    ),
    (
        "Syslog",
        &[
            ("CollectorHostName", "string"),
            ("EventTime", "datetime"),
            ("Facility", "string"),
            ("HostName", "string"),
            ("ProcessID", "int"),
            ("ProcessName", "string"),
            ("SeverityLevel", "string"),
            ("SourceSystem", "string"),
            ("SyslogMessage", "string"),
        ],
    ),
    (
        "Operation",
        &[
            ("Detail", "string"),
            ("OperationCategory", "string"),
            ("OperationStatus", "string"),
            ("Solution", "string"),
            ("SourceComputerId", "string"),
            ("SourceSystem", "string"),
        ],
    ),
];

/// Remembers every record.
#[derive(Debug, Default)]
struct Memory(Mutex<Vec<Record>>);

#[async_trait]
impl RecordSink for Memory {
    async fn write(&self, batch: Batch) -> Result<(), SinkError> {
        self.0.lock().expect("not poisoned").extend(batch.records);
        Ok(())
    }
}

#[tokio::test]
async fn every_column_is_one_of_its_table() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("syslog");
    std::fs::write(&log, "<34>Nov 24 15:00:00 web-1 sshd[7]: Accepted publickey for root\n")
        .expect("written");
    let sink = Arc::new(Memory::default());
    let agent = Agent::builder(Arc::<Memory>::clone(&sink))
        .state_dir(folder.path().join("state"))
        .this_computer()
        .source(SyslogFile::new(&log, StartAt::Beginning, TimeZone::UTC))
        .source(SyslogFile::new(folder.path(), StartAt::Beginning, TimeZone::UTC))
        .build()
        .expect("built");
    agent.collect_once().await.expect("a round");
    let records = sink.0.lock().expect("not poisoned");
    for (table, columns) in COLUMNS {
        let of_table: Vec<&Record> =
            records.iter().filter(|record| record.record_type.as_str() == table).collect();
        assert!(!of_table.is_empty(), "{table}");
        for (column, value) in of_table.iter().flat_map(|record| &record.fields) {
            let json = serde_json::to_value(value).expect("to JSON");
            let found = json["type"].as_str().expect("a type");
            assert!(columns.contains(&(column.as_str(), found)), "{table}.{column}: {found}");
        }
    }
}

#[test]
fn the_heartbeat_of_this_computer_names_its_system() {
    let files = HostFiles::default();
    assert!(!files.computer().expect("a name").contains('.'));
    let collected = Heartbeat::new(files).collect(&moment(0)).expect("collected");
    let record = &collected.records[0];
    assert_eq!(text(record, "OSType"), "Linux");
    assert_eq!(text(record, "Version"), env!("CARGO_PKG_VERSION"));
    assert!(!text(record, "OSName").is_empty());
}
