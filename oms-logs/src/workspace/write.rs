//! Records and columns on their way into the log and the tables.

use super::{Inner, count_records};
use crate::Error;
use crate::ingest::admit::by_table;
use crate::ingest::batch::{Encoding, Stamp, build, encode};
use crate::ingest::columnar::{Columns, RowBatch};
use crate::ingest::wal::{Append, EntryWriter};
use crate::repository::table::Table;
use arrow::array::RecordBatch;
use oms_core::record::Batch;
use std::sync::{Arc, PoisonError};

impl Inner {
    pub(crate) async fn write(&self, batch: Batch) -> Result<(), Error> {
        let (producer, sequence) = (batch.producer.clone(), batch.sequence);
        let records = batch.records.len();
        self.write_once(producer, sequence, records, async |stamp| {
            let mut rows = Vec::new();
            for (name, mut part) in by_table(batch)? {
                let table = self.tables.for_writing(&name).await?;
                let schema = table.fit(&mut part)?;
                rows.push((table, build(&schema, &part, &stamp)?));
            }
            Ok(rows)
        })
        .await
    }

    pub(super) async fn write_rows(&self, batch: RowBatch) -> Result<(), Error> {
        let (producer, sequence) = (batch.producer.clone(), batch.sequence);
        self.write_once(producer, sequence, batch.rows.num_rows(), async |stamp| {
            let Some(columns) = Columns::read(&batch)? else { return Ok(Vec::new()) };
            let table = self.tables.for_writing(&batch.table).await?;
            let built = table.fit_columns(&columns, &stamp)?;
            Ok(vec![(table, built)])
        })
        .await
    }

    /// Admits, unless it was written already, and writes what was admitted.
    pub(super) async fn write_once(
        &self,
        producer: String,
        sequence: u64,
        records: usize,
        admit: impl AsyncFnOnce(Stamp) -> Result<Vec<(Arc<Table>, RecordBatch)>, Error>,
    ) -> Result<(), Error> {
        let (records, producer_name) = (records as u64, producer.clone());
        if self.syncer.is_written(&producer, sequence) {
            count_records("repeated", records);
            return Ok(());
        }
        let (tenant_id, received) = (self.identity.workspace_id.to_string(), self.clock.now());
        let written = match admit(Stamp { tenant_id, received }).await {
            Ok(rows) => self.append(producer, sequence, rows).await,
            Err(error) => Err(error),
        };
        match &written {
            Ok(()) => count_records("accepted", records),
            Err(error) => {
                count_records(error.kind().name(), records);
                self.note_refusal(&producer_name, records, error);
            }
        }
        metrics::gauge!("oms_logs_fresh_bytes").set(self.memory.used() as f64);
        written
    }

    /// Makes admitted rows durable and visible.
    async fn append(
        &self,
        producer: String,
        sequence: u64,
        rows: Vec<(Arc<Table>, RecordBatch)>,
    ) -> Result<(), Error> {
        let bytes = rows.iter().map(|(_, built)| built.get_array_memory_size() as u64).sum();
        let reserved = self.memory.reserve(bytes, self.settings.memory_bytes_max);
        let Some(reserved) = reserved else {
            self.flush_due.notify_one();
            let (used, limit) = (self.memory.used(), self.settings.memory_bytes_max);
            return Err(Error::Busy { used, limit });
        };
        // As long as the disk keeps up with the writers, less work is faster; from then on fewer
        // bytes are.
        let encoding = if self.syncer.is_behind() { Encoding::Lz4 } else { Encoding::Plain };
        let mut entry = EntryWriter::new(producer, sequence, bytes as usize);
        for (table, built) in &rows {
            entry.section(table.name().as_str(), |out| encode(built, encoding, out))?;
        }
        let entry = entry.finish();
        let publish = Box::new(move |lsn| {
            for (table, built) in rows {
                let bytes = built.get_array_memory_size() as u64;
                table.publish(lsn, built, bytes);
            }
            reserved.keep();
        });
        self.syncer.append(Append { entry, publish }).await?;
        metrics::counter!("oms_logs_bytes_total").increment(bytes);
        self.note_waiting();
        Ok(())
    }

    /// Notes that rows wait, and wakes the background task if they are many.
    pub(super) fn note_waiting(&self) {
        let used = self.memory.used();
        if used > 0 {
            let mut oldest = self.oldest.lock().unwrap_or_else(PoisonError::into_inner);
            oldest.get_or_insert_with(|| self.clock.monotonic());
        }
        if used >= self.settings.flush_bytes {
            self.flush_due.notify_one();
        }
    }
}
