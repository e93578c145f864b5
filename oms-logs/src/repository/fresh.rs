//! Batches that are durable in the log and not yet in a data file.

use crate::Error;
use crate::ingest::batch::unite;
use crate::schema::TIME_GENERATED;
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{max, min};
use arrow::datatypes::TimestampMicrosecondType;
use std::sync::Arc;

/// Batches that are put together as soon as there are so many.
const OPEN_BATCHES_MAX: usize = 64;

/// Batches of so many rows are left as they are.
const UNITED_ROWS_MAX: usize = 8_192;

/// A batch that comes with so many rows is not copied: it costs a query little more than a part of
/// a longer one, and the log's thread, which everyone waits for, nothing.
const LARGE_ROWS: usize = 512;

/// A batch with the columns that its rows have values for.
#[derive(Debug)]
pub(crate) struct FreshBatch {
    pub(crate) batch: RecordBatch,
    /// The earliest `TimeGenerated`, in microseconds.
    pub(crate) time_min: i64,
    /// The latest.
    pub(crate) time_max: i64,
}

impl FreshBatch {
    pub(crate) fn new(batch: RecordBatch) -> Self {
        let times = batch
            .column_by_name(TIME_GENERATED)
            .and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
        let time_min = times.and_then(min).unwrap_or(i64::MIN);
        let time_max = times.and_then(max).unwrap_or(i64::MAX);
        Self { batch, time_min, time_max }
    }
}

/// The fresh batches of one table: cheap to clone, so that each publication is a new value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fresh {
    united: Vec<Arc<FreshBatch>>,
    open: Vec<Arc<FreshBatch>>,
    /// The log sequence of the newest batch; 0 if there is none.
    pub(crate) through: u64,
    /// Rows in all batches.
    pub(crate) rows: u64,
    /// What the batches count towards the workspace's limit, in bytes.
    pub(crate) bytes: u64,
}

impl Fresh {
    /// Whether there are no batches.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The batches, in the order they came.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<FreshBatch>> + Clone {
        self.united.iter().chain(&self.open)
    }

    /// Adds a batch. Batches that cannot be put together stay apart, and are read all the same.
    pub(crate) fn push(&mut self, lsn: u64, batch: RecordBatch, bytes: u64) {
        self.through = self.through.max(lsn);
        self.rows += batch.num_rows() as u64;
        self.bytes += bytes;
        let fresh = Arc::new(FreshBatch::new(batch));
        if fresh.batch.num_rows() >= LARGE_ROWS {
            if !self.open.is_empty() {
                self.close_open();
            }
            self.united.push(fresh);
            return;
        }
        self.open.push(fresh);
        let open_rows: usize = self.open.iter().map(|fresh| fresh.batch.num_rows()).sum();
        if self.open.len() < OPEN_BATCHES_MAX && open_rows < UNITED_ROWS_MAX {
            return;
        }
        self.close_open();
    }

    /// Puts the open batches together, if they can be.
    fn close_open(&mut self) {
        if let Err(error) = self.unite_open() {
            tracing::warn!(error = %error, "fresh batches stay apart");
            self.united.append(&mut self.open);
        }
    }

    /// Puts the open batches together, and with the ones before them while those are not larger:
    /// each row is copied a logarithmic number of times.
    fn unite_open(&mut self) -> Result<(), Error> {
        let mut rows: usize = self.open.iter().map(|fresh| fresh.batch.num_rows()).sum();
        let mut from = self.united.len();
        while let Some(before) = from.checked_sub(1).and_then(|at| self.united.get(at))
            && before.batch.num_rows() <= rows
            && before.batch.num_rows() < UNITED_ROWS_MAX
        {
            rows += before.batch.num_rows();
            from -= 1;
        }
        let parts = self.united.iter().skip(from).chain(&self.open);
        let united = unite(parts.map(|fresh| &fresh.batch))?;
        self.united.truncate(from);
        self.united.push(Arc::new(FreshBatch::new(united)));
        self.open.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, TimestampMicrosecondArray};
    use arrow::datatypes::Int64Type;

    fn batch(values: &[i64]) -> RecordBatch {
        let times = TimestampMicrosecondArray::from(values.to_vec()).with_timezone("UTC");
        RecordBatch::try_from_iter([
            (TIME_GENERATED, Arc::new(times) as _),
            ("N", Arc::new(Int64Array::from(values.to_vec())) as _),
        ])
        .expect("a batch")
    }

    #[test]
    fn rows_keep_their_order_and_batches_become_few() {
        let mut fresh = Fresh::default();
        for n in 0..10_000_i64 {
            fresh.push(n as u64 + 1, batch(&[n]), 8);
        }
        let mut values = Vec::new();
        for part in fresh.iter() {
            let column = part.batch.column_by_name("N").expect("N");
            values.extend_from_slice(column.as_primitive::<Int64Type>().values());
            assert_eq!(part.time_max - part.time_min + 1, part.batch.num_rows() as i64);
        }
        assert_eq!(values, (0..10_000).collect::<Vec<_>>());
        assert!(fresh.iter().count() < 100, "{}", fresh.iter().count());
        assert_eq!((fresh.rows, fresh.through, fresh.bytes), (10_000, 10_000, 80_000));
    }

    #[test]
    fn long_batches_are_not_copied_and_keep_their_place() {
        let long: Vec<i64> = (0..1_000).collect();
        let mut fresh = Fresh::default();
        for n in 0..20_u64 {
            fresh.push(2 * n + 1, batch(&[-1]), 8);
            fresh.push(2 * n + 2, batch(&long), 8_000);
        }
        let lengths: Vec<usize> = fresh.iter().map(|part| part.batch.num_rows()).collect();
        assert_eq!(lengths, [1, 1_000].repeat(20));
        assert_eq!(fresh.rows, 20_020);
    }

    #[test]
    fn a_published_value_does_not_change() {
        let mut fresh = Fresh::default();
        fresh.push(1, batch(&[1]), 8);
        let seen = fresh.clone();
        fresh.push(2, batch(&[2]), 8);
        assert_eq!(seen.iter().count(), 1);
    }
}
