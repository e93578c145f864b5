//! How much was ingested: rows of `Usage`, one a table and hour.
//!
//! They are reckoned from the rows themselves, by `_TimeReceived` and `_BilledSize`, and written
//! under the number of their hour as their sequence: whatever ends the process, each hour is told
//! once, and none is left out.

use crate::ingest::billing::is_billable;
use crate::ingest::item;
use crate::query::{self, QueryOptions, TableSource};
use crate::schema::{BILLED_SIZE, ITEM_ID, TIME_RECEIVED};
use crate::workspace::Inner;
use crate::{Error, Workspace};
use datafusion::catalog::TableProvider;
use jiff::{SignedDuration, Timestamp};
use oms_core::record::{Batch, Record, RecordType};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The producer of the rows; its sequences are hours since 1970.
const PRODUCER: &str = "oms-logs usage";

/// The table of the rows.
const USAGE: &str = "Usage";

/// How long after its end an hour is told: rows carry the time at which their write began.
const TOLD_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// How far back hours are told that nobody told.
const HOURS_MAX: i64 = 31 * 24;

/// The longest that the sums of one table may take.
const SECONDS_MAX: u64 = 3_600;

const HOUR_SECONDS: i64 = 3_600;

/// Bytes of the megabyte that `Quantity` counts in.
const MEGABYTE: f64 = 1e6;

/// The tables of a workspace with all of their rows.
#[derive(Debug)]
struct Total<'a>(&'a Inner);

impl TableSource for Total<'_> {
    fn table(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        Some(Arc::new(self.0.total_snapshot(&name.parse().ok()?)?))
    }

    fn table_names(&self) -> Vec<String> {
        self.0.tables.all().into_iter().map(|(name, _)| name.into()).collect()
    }
}

impl Workspace {
    /// Writes rows of `Usage` for every hour that is over and was not told, and answers how many.
    /// The background task does so each hour.
    ///
    /// `Quantity` is the sum of `_BilledSize` in megabytes (`QuantityUnit` is `MBytes`, of 1,000,000
    /// bytes) of the rows of the table `DataType` that came from `StartTime` to `EndTime`.
    ///
    /// # Errors
    /// Those of a write, and [`Error::Select`].
    pub async fn account_usage(&self) -> Result<u64, Error> {
        self.inner()?.account_usage().await
    }
}

impl Inner {
    pub(super) async fn account_usage(&self) -> Result<u64, Error> {
        let mut told = self.keep.told_hour.lock().await;
        let end = hour_of(self.clock.now().checked_sub(TOLD_AFTER).unwrap_or(Timestamp::MIN));
        let last = i64::try_from(self.last_sequence(PRODUCER)).unwrap_or(i64::MAX).max(*told);
        let first = last.saturating_add(1).max(end - HOURS_MAX);
        if first >= end {
            return Ok(0);
        }
        let mut hours: BTreeMap<i64, Vec<Record>> = BTreeMap::new();
        for (table, _) in self.tables.all() {
            let billed = match self.billed(&table, first, end).await {
                Err(Error::Damaged(damage)) => {
                    tracing::warn!(%damage, "the usage of a table is not told");
                    continue;
                }
                billed => billed?,
            };
            for (hour, bytes) in billed {
                hours.entry(hour).or_default().push(record(&table, hour, bytes)?);
            }
        }
        let mut rows = 0;
        for (hour, records) in hours {
            rows += records.len() as u64;
            let sequence = hour.unsigned_abs();
            self.write(Batch { producer: PRODUCER.to_owned(), sequence, records }).await?;
            *told = hour;
        }
        *told = end - 1;
        Ok(rows)
    }

    /// The bytes of a table's rows by the hour in which they came.
    async fn billed(
        &self,
        table: &RecordType,
        first: i64,
        end: i64,
    ) -> Result<Vec<(i64, f64)>, Error> {
        let (from, to) = (start_of(first), start_of(end));
        // Of several writers each tells of what came to it.
        let own = match (&self.share, self.tables.find(table)) {
            (Some(_), Some(table)) => {
                let place = item::id_prefix(table.place());
                format!(" and {ITEM_ID} startswith_cs '{place}'")
            }
            _ => String::new(),
        };
        let text = format!(
            "['{table}'] | where {TIME_RECEIVED} >= datetime({from}) and {TIME_RECEIVED} < \
             datetime({to}){own} | summarize sum({BILLED_SIZE}) by bin({TIME_RECEIVED}, 1h)"
        );
        let mut options = QueryOptions::new(Arc::clone(&self.clock));
        options.timeout = Duration::from_secs(SECONDS_MAX);
        let report = query::run(&Total(self), &text, &options).await;
        let report = report.map_err(Error::select(table))?;
        let hour = |row: &Vec<serde_json::Value>| {
            let time: Timestamp = row.first()?.as_str()?.parse().ok()?;
            Some((hour_of(time), row.get(1)?.as_f64()?))
        };
        Ok(report.rows().iter().filter_map(hour).collect())
    }
}

fn record(table: &RecordType, hour: i64, bytes: f64) -> Result<Record, Error> {
    let usage =
        USAGE.parse().map_err(|error| Error::Internal { what: format!("{USAGE}: {error}") })?;
    let (start, end) = (start_of(hour), start_of(hour + 1));
    Ok(Record::new(usage, end, "")
        .with("DataType", table.as_str())
        .with("Quantity", bytes / MEGABYTE)
        .with("QuantityUnit", "MBytes")
        .with("StartTime", start)
        .with("EndTime", end)
        .with("IsBillable", is_billable(table.as_str()))
        .with("Solution", "LogManagement")
        .with("SourceSystem", "OMS"))
}

fn hour_of(time: Timestamp) -> i64 {
    time.as_second().div_euclid(HOUR_SECONDS)
}

fn start_of(hour: i64) -> Timestamp {
    Timestamp::from_second(hour.saturating_mul(HOUR_SECONDS)).unwrap_or_default()
}
