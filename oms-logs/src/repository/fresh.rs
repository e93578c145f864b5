//! Batches that are durable in the log and not yet in a data file.

use crate::Error;
use crate::ingest::batch::{align, unite};
use crate::ingest::billing::billed;
use crate::ingest::item::{Origin, with_ids};
use crate::schema::{ITEM_ID, TIME_GENERATED};
use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, max, min};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
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
    /// Where in the log its rows stand, in their order.
    origins: Vec<Origin>,
}

impl FreshBatch {
    fn new(batch: RecordBatch, origins: Vec<Origin>) -> Self {
        let times = batch
            .column_by_name(TIME_GENERATED)
            .and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
        let time_min = times.and_then(min).unwrap_or(i64::MIN);
        let time_max = times.and_then(max).unwrap_or(i64::MAX);
        Self { batch, time_min, time_max, origins }
    }

    /// The rows with their ids.
    ///
    /// # Errors
    /// [`Error::Arrow`].
    pub(crate) fn with_ids(&self) -> Result<RecordBatch, Error> {
        if self.batch.column_by_name(ITEM_ID).is_some() {
            return Ok(self.batch.clone());
        }
        with_ids(&self.batch, &self.origins)
    }

    /// The rows that came after a log sequence; none if there are none.
    fn after(&self, through: u64) -> Result<Option<Self>, Error> {
        let (mut rows, mut origins, mut at) = (Vec::new(), Vec::new(), 0);
        for origin in &self.origins {
            if origin.lsn > through {
                rows.push(self.batch.slice(at, origin.rows));
                origins.push(*origin);
            }
            at += origin.rows;
        }
        Ok(match origins.is_empty() {
            true => None,
            false => Some(Self::new(unite(rows.iter())?, origins)),
        })
    }

    /// The rows of each batch that it was put together from, with its log sequence.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (u64, RecordBatch)> + '_ {
        let mut at = 0;
        self.origins.iter().map(move |origin| {
            let part = self.batch.slice(at, origin.rows);
            at += origin.rows;
            (origin.lsn, part)
        })
    }

    /// The rows with exactly the columns of `schema`.
    ///
    /// # Errors
    /// [`Error::Arrow`].
    pub(crate) fn aligned(&self, schema: &SchemaRef) -> Result<RecordBatch, Error> {
        let rows = match schema.column_with_name(ITEM_ID) {
            Some(_) => self.with_ids()?,
            None => self.batch.clone(),
        };
        align(&billed(rows, schema)?, schema)
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

    /// Whether no row is before `time`, in microseconds.
    pub(crate) fn is_since(&self, time: i64) -> bool {
        self.iter().all(|part| part.time_min >= time)
    }

    /// The batches without the rows before `time`, in microseconds.
    pub(crate) fn since(&self, time: i64) -> Result<Self, Error> {
        let mut kept = Self { through: self.through, bytes: self.bytes, ..Self::default() };
        for part in self.iter().filter(|part| part.time_max >= time) {
            let part = match part.time_min >= time {
                true => Arc::clone(part),
                false => {
                    Arc::new(FreshBatch::new(rows_since(&part.with_ids()?, time)?, Vec::new()))
                }
            };
            kept.rows += part.batch.num_rows() as u64;
            kept.united.push(part);
        }
        Ok(kept)
    }

    /// Puts other rows in place of batches, as many as each has.
    ///
    /// # Errors
    /// Those of `other`, which answers none for a batch that stays; nothing is changed then.
    pub(crate) fn replace(
        &mut self,
        mut other: impl FnMut(&RecordBatch) -> Result<Option<RecordBatch>, Error>,
    ) -> Result<(), Error> {
        let mut next = self.clone();
        for part in next.united.iter_mut().chain(&mut next.open) {
            if let Some(rows) = other(&part.batch)? {
                *part = Arc::new(FreshBatch::new(rows, part.origins.clone()));
            }
        }
        *self = next;
        Ok(())
    }

    /// The log sequence of the oldest rows; none if there are none.
    pub(crate) fn first(&self) -> Option<u64> {
        self.iter().flat_map(|part| &part.origins).map(|origin| origin.lsn).min()
    }

    /// Leaves out the rows up to a log sequence; answers the bytes that they counted, about.
    ///
    /// # Errors
    /// [`Error::Arrow`].
    pub(crate) fn leave_after(&mut self, through: u64) -> Result<u64, Error> {
        if self.first().is_none_or(|first| first > through) {
            return Ok(0);
        }
        let mut kept = Self { through: self.through, ..Self::default() };
        for part in self.iter() {
            if let Some(part) = part.after(through)? {
                kept.rows += part.batch.num_rows() as u64;
                kept.united.push(Arc::new(part));
            }
        }
        kept.bytes = match kept.rows {
            0 => 0,
            rows => self.bytes / self.rows.max(1) * rows,
        };
        let left = self.bytes.saturating_sub(kept.bytes);
        if kept.rows == 0 {
            kept.through = 0;
        }
        *self = kept;
        Ok(left)
    }

    /// Adds a batch. Batches that cannot be put together stay apart, and are read all the same.
    /// `place` is that of [`Origin`].
    pub(crate) fn push(&mut self, place: u64, lsn: u64, batch: RecordBatch, bytes: u64) {
        self.through = self.through.max(lsn);
        self.rows += batch.num_rows() as u64;
        self.bytes += bytes;
        let origin = Origin { place, lsn, rows: batch.num_rows() };
        let fresh = Arc::new(FreshBatch::new(batch, vec![origin]));
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
        let united = unite(parts.clone().map(|fresh| &fresh.batch))?;
        let origins = parts.flat_map(|fresh| &fresh.origins).copied().collect();
        self.united.truncate(from);
        self.united.push(Arc::new(FreshBatch::new(united, origins)));
        self.open.clear();
        Ok(())
    }
}

fn rows_since(batch: &RecordBatch, time: i64) -> Result<RecordBatch, Error> {
    let times = batch
        .column_by_name(TIME_GENERATED)
        .and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
    let Some(times) = times else { return Ok(batch.clone()) };
    let is_kept: BooleanArray =
        times.iter().map(|at| Some(at.is_none_or(|at| at >= time))).collect();
    filter_record_batch(batch, &is_kept).map_err(Error::arrow("cut"))
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
            fresh.push(0, n as u64 + 1, batch(&[n]), 8);
        }
        let mut values = Vec::new();
        for part in fresh.iter() {
            let column = part.batch.column_by_name("N").expect("N");
            values.extend_from_slice(column.as_primitive::<Int64Type>().values());
            assert_eq!(part.time_max - part.time_min + 1, part.batch.num_rows() as i64);
            let ids = part.with_ids().expect("ids");
            let ids = ids.column_by_name(ITEM_ID).expect("ids").as_string::<i32>();
            let all: Vec<_> = ids.iter().flatten().collect();
            assert!(all.is_sorted() && all.len() == part.batch.num_rows());
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
            fresh.push(0, 2 * n + 1, batch(&[-1]), 8);
            fresh.push(0, 2 * n + 2, batch(&long), 8_000);
        }
        let lengths: Vec<usize> = fresh.iter().map(|part| part.batch.num_rows()).collect();
        assert_eq!(lengths, [1, 1_000].repeat(20));
        assert_eq!(fresh.rows, 20_020);
    }

    #[test]
    fn rows_up_to_a_log_sequence_are_taken_away_also_from_the_middle_of_a_batch() {
        let values = |fresh: &Fresh| {
            let values = |part: &Arc<FreshBatch>| {
                let column = part.batch.column_by_name("N").expect("N");
                column.as_primitive::<Int64Type>().values().to_vec()
            };
            fresh.iter().flat_map(values).collect::<Vec<_>>()
        };
        for count in [10, 100, 1_000_i64] {
            let mut all = Fresh::default();
            for n in 1..=count {
                all.push(7, n as u64, batch(&[n, -n]), 8);
            }
            let mut step = all.clone();
            let mut released = 0;
            for through in 0..=count {
                released += step.leave_after(through as u64).expect("left");
                let left = (through + 1..=count).flat_map(|n| [n, -n]).collect::<Vec<_>>();
                assert_eq!(values(&step), left);
                assert_eq!((step.rows, step.is_empty()), (left.len() as u64, left.is_empty()));
                assert_eq!(step.bytes + released, 8 * count as u64);
                let mut at_once = all.clone();
                at_once.leave_after(through as u64).expect("left");
                assert_eq!(values(&at_once), left);
                let ids = |fresh: &Fresh| {
                    let ids = fresh.iter().map(|part| part.with_ids().expect("ids"));
                    let ids = ids.flat_map(|rows| {
                        let ids = rows.column_by_name(ITEM_ID).expect("ids");
                        ids.as_string::<i32>()
                            .iter()
                            .flatten()
                            .map(str::to_owned)
                            .collect::<Vec<_>>()
                    });
                    ids.collect::<Vec<_>>()
                };
                assert_eq!(ids(&step), ids(&all)[2 * through as usize..], "each keeps its id");
            }
        }
    }

    #[test]
    fn a_published_value_does_not_change() {
        let mut fresh = Fresh::default();
        fresh.push(0, 1, batch(&[1]), 8);
        let seen = fresh.clone();
        fresh.push(0, 2, batch(&[2]), 8);
        assert_eq!(seen.iter().count(), 1);
    }
}
