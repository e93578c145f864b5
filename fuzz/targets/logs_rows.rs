//! Rows of text files: the first byte chooses the format and the size of batches; the rows end, their
//! numbers rise, what is a record has the table's type, and columns are what records become. (Parquet
//! is parsed by a library.)
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_logs::ingest::rows::{RowFormat, RowReader, RowTarget};
use oms_logs::schema::TableSchema;
use std::io::Cursor;

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    let table = if choice & 8 == 0 { "T_CL" } else { "W3CIISLog" }.parse().expect("a name");
    let target = RowTarget {
        schema: TableSchema::initial(&table),
        computer: "here".to_owned(),
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    let format = match choice & 3 {
        0 => RowFormat::Ndjson,
        1 => RowFormat::Csv,
        2 => RowFormat::IisW3c,
        _ => RowFormat::Lines,
    };
    let difference =
        oms_logs::fuzz::difference(format, bytes, &target, 1 + usize::from(choice >> 4));
    assert_eq!(difference, None);
    let rows = RowReader::new(format, Cursor::new(bytes.to_vec()), target);
    let Ok(rows) = rows else { return };
    let mut number = 0;
    for row in rows.take(10_000) {
        let Ok(row) = row else { return };
        assert!(row.number > number);
        number = row.number;
        assert!(row.record.is_err() || row.record.is_ok_and(|record| record.record_type == table));
    }
});
