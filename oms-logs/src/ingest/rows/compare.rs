//! Whether columns are what records would become, for tests and fuzz targets.

use super::{ColumnReader, Row, RowFormat, RowReader, RowTarget};
use crate::Error;
use crate::ingest::admit::{Rows, check_record, fit};
use crate::ingest::batch::{Stamp, align, build};
use crate::schema::{TENANT_ID, TIME_RECEIVED, TYPE};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use jiff::Timestamp;
use oms_core::record::Record;
use std::io::{self, BufReader, Cursor};

/// Rows in columns, their numbers, and those that are refused; or why the file cannot be read.
type Read = Result<(RecordBatch, Vec<u64>, Vec<(u64, String)>), String>;

/// How a text is read otherwise through columns than through records, if it is. The columns are read
/// at most `max` rows at a time, through a buffer of so many bytes.
pub(crate) fn difference(
    format: RowFormat,
    text: &[u8],
    target: &RowTarget,
    max: usize,
    buffer: usize,
) -> Option<String> {
    let records = RowReader::new(format, Cursor::new(text.to_vec()), target.clone());
    let input = BufReader::with_capacity(buffer, Cursor::new(text.to_vec()));
    let columns = ColumnReader::new(format, input, target.clone());
    difference_of(records, columns, target, max)
}

/// How a file is read otherwise through columns than through records, if it is.
pub(crate) fn difference_of(
    records: io::Result<RowReader>,
    columns: io::Result<ColumnReader>,
    target: &RowTarget,
    max: usize,
) -> Option<String> {
    let records = by_records(records, target);
    let columns = by_columns(columns, max);
    let ((records, numbers, refused), found) = match (records, columns) {
        (Ok(records), Ok(columns)) => (records, columns),
        (one, other) if one == other => return None,
        (one, other) => return Some(format!("{one:?}\n{other:?}")),
    };
    let (columns, found_numbers, found_refused) = found;
    if (&numbers, &refused) != (&found_numbers, &found_refused) {
        return Some(format!("{numbers:?} {refused:?}\n{found_numbers:?} {found_refused:?}"));
    }
    if records.schema() != columns.schema() {
        return Some(format!("{:?}\n{:?}", records.schema(), columns.schema()));
    }
    let schema = records.schema();
    let arrays = records.columns().iter().zip(columns.columns());
    schema.fields().iter().zip(arrays).find_map(|(field, (one, other))| {
        let is_own = [TENANT_ID, TYPE, TIME_RECEIVED].contains(&field.name().as_str());
        (!is_own && one != other).then(|| format!("{}\n{one:?}\n{other:?}", field.name()))
    })
}

/// Through records, one at a time.
fn by_records(rows: io::Result<RowReader>, target: &RowTarget) -> Read {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let mut schema = target.schema.clone();
    let mut taken = Rows::default();
    let (mut numbers, mut refused) = (Vec::new(), Vec::new());
    let mut admit = |record: Record| {
        check_record(0, &record)?;
        let mut one = Rows { records: vec![(0, record)] };
        if let Some(grown) = fit(&schema, &mut one)? {
            schema = grown;
        }
        taken.records.append(&mut one.records);
        Ok::<_, Error>(())
    };
    for row in rows.map_err(|error| told(&error))? {
        let Row { number, record } = row.map_err(|error| told(&error))?;
        match record.map(&mut admit) {
            Ok(Ok(())) => numbers.push(number),
            Ok(Err(Error::Record { column, reason, .. })) => {
                refused.push((number, format!("{reason} (column {column})")));
            }
            Ok(Err(error)) => return Err(format!("no refusal of a record: {error}")),
            Err(reason) => refused.push((number, reason)),
        }
    }
    let stamp = Stamp { tenant_id: "t".into(), received: Timestamp::UNIX_EPOCH };
    let rows = build(&schema, &taken, &stamp).map_err(|error| told(&error))?;
    let rows = align(&rows, schema.arrow()).map_err(|error| told(&error))?;
    Ok((rows, numbers, refused))
}

/// Through columns.
fn by_columns(reader: io::Result<ColumnReader>, max: usize) -> Read {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let mut reader = reader.map_err(|error| told(&error))?;
    let (mut batches, mut numbers, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(read) = reader.next_rows(max).map_err(|error| told(&error))? {
        if read.numbers.len() + read.refused.len() > max
            || read.rows.num_rows() != read.numbers.len()
        {
            return Err("a batch has not the rows that it says".to_owned());
        }
        numbers.extend(read.numbers);
        refused.extend(read.refused);
        batches.push(read.rows);
    }
    let schema = reader.schema().arrow();
    let aligned: Result<Vec<_>, _> = batches.iter().map(|rows| align(rows, schema)).collect();
    let aligned = aligned.map_err(|error| told(&error))?;
    let rows = concat_batches(schema, &aligned).map_err(|error| told(&error))?;
    Ok((rows, numbers, refused))
}
