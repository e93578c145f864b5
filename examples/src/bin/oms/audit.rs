//! Queries, and the record of each (`LAQueryLogs`).

use anyhow::Result;
use oms_core::record::{Batch, Record};
use oms_core::{Clock, SystemClock};
use oms_logs::Workspace;
use oms_logs::query::{QueryError, QueryOptions, QueryReport, TimeInterval};
use std::sync::Arc;
use tokio::sync::Mutex;

/// How much of a query's text its record keeps, in characters.
const TEXT_CHARACTERS_MAX: usize = 30_000;

/// The producer of the records. One for all processes: the repository remembers each for ever.
const PRODUCER: &str = "oms-queries";

/// Asks, and records that it asked.
#[derive(Debug)]
pub(crate) struct Auditor {
    /// One record at a time, so that sequences have no gaps.
    turn: Mutex<()>,
    computer: String,
}

impl Auditor {
    pub(crate) fn new(computer: &str) -> Self {
        Self { turn: Mutex::default(), computer: computer.to_owned() }
    }

    /// Runs a query over a time, or over all; what it came to is recorded whether it succeeds or
    /// not.
    pub(crate) async fn ask(
        &self,
        workspace: &Workspace,
        kql: &str,
        interval: Option<&TimeInterval>,
    ) -> Result<QueryReport> {
        let begin = SystemClock.monotonic();
        let mut options = QueryOptions::new(Arc::new(SystemClock));
        options.timespan = interval.map(|interval| interval.range(options.now)).transpose()?;
        let asked = workspace.query(kql, &options).await;
        let milliseconds = (SystemClock.monotonic() - begin).as_secs_f64() * 1e3;
        let records = vec![self.record(kql, &asked, milliseconds)?];
        let _turn = self.turn.lock().await;
        let sequence = workspace.last_sequence(PRODUCER)? + 1;
        let batch = Batch { producer: PRODUCER.to_owned(), sequence, records };
        if let Err(error) = workspace.write(batch).await {
            tracing::warn!(%error, "a query was not recorded");
        }
        Ok(asked?)
    }

    fn record(
        &self,
        kql: &str,
        asked: &Result<QueryReport, QueryError>,
        milliseconds: f64,
    ) -> Result<Record> {
        let (code, rows) = match asked {
            Ok(report) => (200, report.batches.iter().map(|batch| batch.num_rows()).sum()),
            Err(error) => (i32::from(oms_core::http::respond::status_of(error.kind()).as_u16()), 0),
        };
        let text: String = kql.chars().take(TEXT_CHARACTERS_MAX).collect();
        Ok(Record::new("LAQueryLogs".parse()?, SystemClock.now(), &self.computer)
            .with("QueryText", text)
            .with("RequestClientApp", "oms")
            .with("ResponseCode", code)
            .with("ResponseRowCount", i32::try_from(rows).unwrap_or(i32::MAX))
            .with("ResponseDurationMs", milliseconds))
    }
}
