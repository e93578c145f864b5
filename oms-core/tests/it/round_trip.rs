//! Whatever envelope goes into the file comes out of it.

use jiff::Timestamp;
use oms_core::id::CorrelationId;
use oms_core::journal::{Envelope, HistoryId, Journal, JournalExt, Snapshot, SqliteJournal};
use proptest::prelude::*;
use serde_json::Value;
use uuid::Uuid;

/// Every number that JSON text keeps. Without its feature `float_roundtrip`, `serde_json` reads
/// some doubles back as a neighbour.
fn floats() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("JSON text keeps it", |float| {
        let text = serde_json::to_string(float).expect("it has a form");
        serde_json::from_str(&text).is_ok_and(|read: f64| read == *float)
    })
}

fn bodies() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        floats().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn envelopes() -> impl Strategy<Value = Envelope> {
    let nanoseconds = Timestamp::MIN.as_nanosecond()..=Timestamp::MAX.as_nanosecond();
    let times = nanoseconds.prop_map(|n| Timestamp::from_nanosecond(n).expect("in range"));
    let correlations = prop::option::of(any::<u128>().prop_map(Uuid::from_u128));
    (any::<String>(), any::<u16>(), times, any::<String>(), correlations, bodies()).prop_map(
        |(kind, format, time, actor, correlation, body)| {
            let correlation = correlation.map(CorrelationId);
            Envelope { kind, format, time, actor, correlation, body }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_envelope_comes_back(
        envelopes in prop::collection::vec(envelopes(), 1..20),
        key in "[^\\p{Cc}]{1,100}",
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join("journal.sqlite");
            let history = HistoryId::new("any", &key).expect("a name");
            let journal = SqliteJournal::open(&path).expect("open");
            journal.append_to(&history, 0, envelopes.clone()).await.expect("append");
            let body = envelopes[0].body.clone();
            let snapshot = Snapshot { version: 1, format: envelopes[0].format, body };
            journal.save_snapshot(&history, snapshot.clone()).await.expect("save");
            drop(journal);

            let journal = SqliteJournal::open(&path).expect("open");
            let events = journal.read_whole(&history).await.expect("read");
            let found: Vec<_> = events.into_iter().map(|event| event.envelope).collect();
            prop_assert_eq!(found, envelopes);
            prop_assert_eq!(journal.snapshot(&history).await.expect("snapshot"), Some(snapshot));
            Ok(())
        })?;
    }
}
