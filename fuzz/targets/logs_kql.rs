//! Query text: what parses without a problem prints to text that parses to what prints the same, and
//! checking it against no tables ends with columns or diagnostics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_core::clock::ManualClock;
use oms_logs::datafusion::catalog::TableProvider;
use oms_logs::query::diagnostic::locate;
use oms_logs::query::limits::DIAGNOSTICS_MAX;
use oms_logs::query::syntax::parse;
use oms_logs::query::{QueryOptions, TableSource, check};
use std::sync::Arc;

#[derive(Debug)]
struct NoTables;

impl TableSource for NoTables {
    fn table(&self, _name: &str) -> Option<Arc<dyn TableProvider>> {
        None
    }

    fn table_names(&self) -> Vec<String> {
        Vec::new()
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let parsed = parse(text);
    assert!(parsed.query.is_some() || !parsed.problems.is_empty());
    let is_whole = parsed.problems.is_empty();
    let found = locate(text, parsed.problems);
    assert!(found.len() <= DIAGNOSTICS_MAX && found.iter().all(|it| it.line > 0 && it.column > 0));
    if let (Some(query), true) = (parsed.query, is_whole) {
        let printed = query.to_string();
        let again = parse(&printed);
        assert!(again.problems.is_empty(), "{printed}: {:?}", again.problems);
        assert_eq!(again.query.map(|query| query.to_string()), Some(printed));
        let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
        let _ = check(&NoTables, text, &QueryOptions::new(clock));
    }
});
