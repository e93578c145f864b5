//! Queries, and the record of each (`LAQueryLogs`).

use anyhow::Result;
use oms_core::record::{Batch, Record};
use oms_core::{Clock, EntropyExt, SystemClock, SystemEntropy};
use oms_logs::Workspace;
use oms_logs::query::{QueryError, QueryOptions, QueryReport};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How much of a query's text its record keeps, in characters.
const TEXT_CHARACTERS_MAX: usize = 30_000;

/// Asks, and records that it asked.
#[derive(Debug)]
pub(crate) struct Auditor {
    producer: String,
    sequence: AtomicU64,
    computer: String,
}

impl Auditor {
    pub(crate) fn new(computer: &str) -> Self {
        // A producer of its own for each process, so its count begins at 1.
        let producer = format!("oms-queries-{}", SystemEntropy.uuid());
        Self { producer, sequence: AtomicU64::new(1), computer: computer.to_owned() }
    }

    /// Runs a query; what it came to is recorded whether it succeeds or not.
    pub(crate) async fn ask(&self, workspace: &Workspace, kql: &str) -> Result<QueryReport> {
        let begin = SystemClock.monotonic();
        let options = QueryOptions::new(Arc::new(SystemClock));
        let asked = workspace.query(kql, &options).await;
        let milliseconds = (SystemClock.monotonic() - begin).as_secs_f64() * 1e3;
        let batch = Batch {
            producer: self.producer.clone(),
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed),
            records: vec![self.record(kql, &asked, milliseconds)?],
        };
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
