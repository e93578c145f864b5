//! Data collection rules of a workspace, and the records that come through them.

use super::{Inner, Workspace, count_records};
use crate::Error;
use crate::ingest::admit::{check_batch, refused_batch};
use crate::ingest::batch::{Stamp, unite};
use crate::ingest::columnar::{Columns, RowBatch};
use crate::ingest::rule::{
    Converted, DataCollectionRule, Flow, Made, StreamBatch, StreamReport, convert, table_rows,
};
use crate::repository::table::Table;
use crate::schema::TableSchema;
use arrow::array::RecordBatch;
use oms_core::record::RecordType;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most bytes of memory that the rows of one batch take in all tables.
const ROWS_BYTES_MAX: usize = 128 << 20;

/// The rows of one batch for one table.
type OfTable = (Arc<Table>, Vec<RecordBatch>);

impl Workspace {
    /// Takes a data collection rule, durably, in the place of the one of its name if there is one;
    /// answers the rule, and whether it is new. See [`rule`](crate::ingest::rule).
    ///
    /// A rule that has no immutable id in its properties gets one, which stays the same when it is
    /// replaced.
    ///
    /// # Errors
    /// [`Error::Rule`] with everything that is wrong, and where; [`Error::Disk`]: the rules are the
    /// old ones; [`Error::Closed`].
    pub async fn put_rule(
        &self,
        name: &str,
        document: Value,
    ) -> Result<(DataCollectionRule, bool), Error> {
        let inner = self.inner()?;
        let (now, entropy) = (inner.clock.now(), inner.entropy.as_ref());
        inner.rules.put(name, document, entropy, |table| inner.schema_of(table), now).await
    }

    /// Every data collection rule, by name.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn rules(&self) -> Result<Vec<DataCollectionRule>, Error> {
        Ok(self.inner()?.rules.all())
    }

    /// The data collection rule of a name or an immutable id.
    ///
    /// # Errors
    /// [`Error::RuleNotFound`]; [`Error::Closed`].
    pub fn rule(&self, name: &str) -> Result<DataCollectionRule, Error> {
        let found = self.inner()?.rules.rule(name);
        found.ok_or_else(|| Error::RuleNotFound { rule: name.chars().take(100).collect() })
    }

    /// Removes the data collection rule of a name or an immutable id, durably. The rows that came
    /// through it stay.
    ///
    /// # Errors
    /// [`Error::RuleNotFound`]; [`Error::Disk`]: the rules are the old ones; [`Error::Closed`].
    pub async fn delete_rule(&self, name: &str) -> Result<DataCollectionRule, Error> {
        self.inner()?.rules.delete(name).await
    }

    /// Writes records of a stream through a data collection rule: `Ok` means that the rows that it
    /// makes of them survive a power failure and that queries see them. Those of all flows go into
    /// the log together or not at all; a batch of the same producer and sequence is written once.
    ///
    /// # Errors
    /// [`Error::RuleNotFound`], [`Error::StreamNotFound`]; [`Error::Rule`] if the rule does not go
    /// with this version or its tables any more; [`Error::Record`], [`Error::Batch`] and
    /// [`Error::Transform`] refuse the whole batch, and `Operation` tells of it. The place in
    /// [`Error::Record`] is that of the row among those that the flow makes. After [`Error::Busy`]
    /// and [`Error::Disk`] the same batch can be sent again.
    pub async fn ingest_stream(&self, batch: StreamBatch) -> Result<StreamReport, Error> {
        self.inner()?.ingest_stream(batch).await
    }
}

impl Inner {
    fn schema_of(&self, table: &RecordType) -> TableSchema {
        let found = self.tables.find(table);
        found.map_or_else(
            || TableSchema::initial(table),
            |table| TableSchema::clone(&table.schema()),
        )
    }

    async fn ingest_stream(&self, batch: StreamBatch) -> Result<StreamReport, Error> {
        let StreamBatch { producer, sequence, rule, stream, records } = batch;
        let mut report = StreamReport { records: records.len() as u64, ..StreamReport::default() };
        if self.syncer.is_written(&producer, sequence) {
            count_records("repeated", report.records);
            report.is_repeat = true;
            return Ok(report);
        }
        let now = self.clock.now();
        let program = self.rules.program(&rule, |table| self.schema_of(table), now)?;
        let Some(of_stream) = program.stream(&stream) else {
            let short = |text: &str| text.chars().take(100).collect();
            return Err(Error::StreamNotFound { rule: short(&rule), stream: short(&stream) });
        };
        let mut changes = BTreeMap::<(String, String), u64>::new();
        let (name, count) = (producer.clone(), records.len());
        let admit = async |stamp: Stamp| {
            check_batch(&name, count)?;
            let converted = convert(&stream, &of_stream.columns, &records);
            let Converted { rows, changes: lost } = converted.map_err(|(index, reason)| {
                let (record_type, column) = (stream.chars().take(100).collect(), String::new());
                Error::Record { index, record_type, column, reason }
            })?;
            drop(records);
            if let Some(first) = of_stream.flows.first() {
                let of = |reason| (first.table.to_string(), reason);
                changes.extend(lost.into_iter().map(|(reason, count)| (of(reason), count)));
            }
            // Every flow first: a batch that one of them refuses changes no table.
            let mut batches = Vec::with_capacity(of_stream.flows.len());
            for flow in &of_stream.flows {
                let made = self.run_flow(&rule, flow, &rows, &stamp, &mut report)?;
                if made.without_time > 0 {
                    let reason = "a row had no TimeGenerated and got the time of its arrival";
                    let key = (flow.table.to_string(), reason.to_owned());
                    *changes.entry(key).or_default() += made.without_time;
                }
                let (producer, table, rows) = (name.clone(), flow.table.clone(), made.rows);
                batches.push(RowBatch { producer, sequence, table, rows });
            }
            let mut tables = BTreeMap::<RecordType, OfTable>::new();
            for batch in &batches {
                let Some(columns) = Columns::read(batch)? else { continue };
                let table = self.tables.for_writing(&batch.table).await?;
                let built = table.fit_columns(&columns, &stamp)?;
                tables.entry(batch.table.clone()).or_insert((table, Vec::new())).1.push(built);
            }
            united(&name, tables)
        };
        self.write_once(producer, sequence, count, admit).await?;
        for (outcome, rows) in [("written", report.rows), ("filtered", report.filtered)] {
            metrics::counter!("oms_logs_stream_rows_total", "outcome" => outcome).increment(rows);
        }
        for ((table, reason), records) in changes {
            self.note_change(&table, &reason, records);
            report.changes.push((reason, records));
        }
        Ok(report)
    }

    /// The rows that a flow makes of a batch.
    fn run_flow(
        &self,
        rule: &str,
        flow: &Flow,
        rows: &RecordBatch,
        stamp: &Stamp,
        report: &mut StreamReport,
    ) -> Result<Made, Error> {
        let made = match &flow.transform {
            None => rows.clone(),
            Some(transform) => {
                transform.run(rows.clone(), stamp.received).map_err(|source| Error::Transform {
                    rule: rule.to_owned(),
                    flow: flow.place.clone(),
                    table: flow.table.to_string(),
                    source: Box::new(source),
                })?
            }
        };
        report.rows += made.num_rows() as u64;
        report.filtered += (rows.num_rows() - made.num_rows()) as u64;
        table_rows(&flow.columns, &made, stamp.received)
    }
}

/// One batch for each table: the log and the ids of records know a table once in a batch.
fn united(
    producer: &str,
    tables: BTreeMap<RecordType, OfTable>,
) -> Result<Vec<(Arc<Table>, RecordBatch)>, Error> {
    let (mut rows, mut bytes) = (Vec::with_capacity(tables.len()), 0);
    for (_, (table, batches)) in tables {
        let built = match batches.as_slice() {
            [one] => one.clone(),
            several => unite(several.iter())?,
        };
        bytes += built.get_array_memory_size();
        rows.push((table, built));
    }
    if bytes > ROWS_BYTES_MAX {
        let reason = format!("its rows are more than {ROWS_BYTES_MAX} bytes in all tables");
        return Err(refused_batch(producer, reason));
    }
    Ok(rows)
}
