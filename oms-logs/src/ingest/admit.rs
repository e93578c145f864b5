//! What may enter a table, and what a table does to take it.
//!
//! - A column that the table has takes a value of its type, and a value that fits into it without
//!   loss: a whole number into a wider number, anything into `dynamic`, a guid into `string`.
//! - A column that the table does not have is added to a custom table and to `AzureDiagnostics`,
//!   whose `AdditionalFields` takes what they have no more columns for; a standard table takes
//!   columns that end in `_CF` only.
//! - Everything else refuses the whole batch, by the record's place and the column's name.

use crate::Error;
use crate::schema::{
    ADDITIONAL_FIELDS, BILLED_SIZE, COLUMN_NAME_BYTES_MAX, COLUMNS_MAX, COMPUTER, Column,
    ColumnType, DAY_COLUMN, Growth, IS_BILLABLE, ITEM_ID, TENANT_ID, TIME_GENERATED, TIME_RECEIVED,
    TYPE, TableSchema,
};
use arrow::datatypes::Schema;
use jiff::Timestamp;
use oms_core::record::{Batch, Record, RecordType, Value};
use std::collections::BTreeMap;

/// The longest producer's name, in characters.
pub const PRODUCER_CHARS_MAX: usize = 200;

/// The most records of one batch.
pub const BATCH_RECORDS_MAX: usize = 100_000;

/// The most bytes of one batch: names and values, as text.
pub const BATCH_BYTES_MAX: usize = 64 << 20;

/// The most bytes of one value, as text. Protocols with a smaller limit apply it before.
pub const FIELD_BYTES_MAX: usize = 1 << 20;

/// The deepest nesting of a `dynamic` value.
pub const DYNAMIC_DEPTH_MAX: usize = 64;

/// Columns that the workspace fills itself.
pub(crate) const OWN_COLUMNS: [&str; 9] = [
    TENANT_ID,
    TIME_GENERATED,
    COMPUTER,
    TYPE,
    TIME_RECEIVED,
    ITEM_ID,
    IS_BILLABLE,
    BILLED_SIZE,
    DAY_COLUMN,
];

/// The records of one table, each with its place in the batch.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) records: Vec<(usize, Record)>,
}

/// Sorts a batch by table, after checking what does not need a table.
pub(crate) fn by_table(batch: Batch) -> Result<BTreeMap<RecordType, Rows>, Error> {
    check_batch(&batch.producer, batch.records.len())?;
    let mut bytes = 0_usize;
    for (index, record) in batch.records.iter().enumerate() {
        bytes = bytes.saturating_add(check_record(index, record)?);
        if bytes > BATCH_BYTES_MAX {
            let reason = format!("more than {BATCH_BYTES_MAX} bytes, reached at record {index}");
            return Err(refused_batch(&batch.producer, reason));
        }
    }
    let mut tables: BTreeMap<RecordType, Rows> = BTreeMap::new();
    for (index, record) in batch.records.into_iter().enumerate() {
        tables.entry(record.record_type.clone()).or_default().records.push((index, record));
    }
    Ok(tables)
}

/// Checks what a batch says of itself.
pub(crate) fn check_batch(producer: &str, records: usize) -> Result<(), Error> {
    if producer.is_empty() || producer.chars().count() > PRODUCER_CHARS_MAX {
        let reason = format!("producer has not 1 to {PRODUCER_CHARS_MAX} characters");
        return Err(refused_batch(producer, reason));
    }
    if records > BATCH_RECORDS_MAX {
        let reason = format!("{records} records are more than {BATCH_RECORDS_MAX}");
        return Err(refused_batch(producer, reason));
    }
    Ok(())
}

pub(crate) fn refused_batch(producer: &str, reason: String) -> Error {
    Error::Batch { producer: producer.chars().take(PRODUCER_CHARS_MAX).collect(), reason }
}

/// Checks one record by itself; answers its size in bytes.
pub(super) fn check_record(index: usize, record: &Record) -> Result<usize, Error> {
    let refuse = |column: &str, reason: String| refused(index, &record.record_type, column, reason);
    if !is_in_range(record.time) {
        return Err(refuse(TIME_GENERATED, "time is outside the years 1 to 9999".into()));
    }
    if record.computer.len() > FIELD_BYTES_MAX {
        return Err(refuse(COMPUTER, format!("longer than {FIELD_BYTES_MAX} bytes")));
    }
    let mut bytes = record.computer.len() + size_of::<i64>();
    for (column, value) in &record.fields {
        let size = match value {
            Value::String(text) => text.len(),
            Value::Dynamic(json) => match json_size(json, DYNAMIC_DEPTH_MAX) {
                Some(size) => size,
                None => {
                    let reason = format!("nested deeper than {DYNAMIC_DEPTH_MAX}");
                    return Err(refuse(column, reason));
                }
            },
            Value::DateTime(time) if !is_in_range(*time) => {
                return Err(refuse(column, "time is outside the years 1 to 9999".into()));
            }
            Value::TimeSpan(span) if ticks(span.as_nanos()).is_none() => {
                return Err(refuse(column, "timespan does not fit into 64-bit ticks".into()));
            }
            _ => size_of::<u128>(),
        };
        if size > FIELD_BYTES_MAX {
            return Err(refuse(column, format!("longer than {FIELD_BYTES_MAX} bytes")));
        }
        bytes = bytes.saturating_add(column.len() + size);
    }
    Ok(bytes)
}

/// 100-ns ticks, the fraction cut off; none if they do not fit into 64 bits.
pub(crate) fn ticks(nanoseconds: i128) -> Option<i64> {
    i64::try_from(nanoseconds / 100).ok()
}

/// The second that the year 1 begins with.
pub(super) const YEAR_1: i64 = -62_135_596_800;

/// The language's `datetime` has the years 1 to 9999.
pub(super) fn is_in_range(time: Timestamp) -> bool {
    time.as_second() >= YEAR_1
}

/// About how long the JSON text is; none if it is nested deeper than `depth`.
pub(super) fn json_size(json: &serde_json::Value, depth: usize) -> Option<usize> {
    use serde_json::Value as Json;
    Some(match json {
        Json::Null | Json::Bool(_) => 5,
        Json::Number(_) => 20,
        Json::String(text) => text.len() + 2,
        Json::Array(items) => {
            let depth = depth.checked_sub(1)?;
            let mut size = 2;
            for item in items {
                size += 1 + json_size(item, depth)?;
            }
            size
        }
        Json::Object(members) => {
            let depth = depth.checked_sub(1)?;
            let mut size = 2;
            for (key, item) in members {
                size += key.len() + 4 + json_size(item, depth)?;
            }
            size
        }
    })
}

/// Fits records to a table; answers the table's schema if it has to grow for them.
///
/// Values that a full table has no column for are moved into its `AdditionalFields`.
pub(crate) fn fit(schema: &TableSchema, rows: &mut Rows) -> Result<Option<TableSchema>, Error> {
    let mut added: Vec<Column> = Vec::new();
    for (index, record) in &mut rows.records {
        let mut overflow: Vec<String> = Vec::new();
        for (name, value) in &record.fields {
            let refuse = |reason| Err(refused(*index, &record.record_type, name, reason));
            if OWN_COLUMNS.contains(&name.as_str()) {
                return refuse("the workspace fills this column itself".into());
            }
            let known = schema.column(name).or_else(|| added.iter().find(|c| c.name == *name));
            if let Some(column) = known {
                if let Err(reason) = fits(column.column_type, value) {
                    return refuse(reason);
                }
                continue;
            }
            let Some(column_type) = ColumnType::of(value) else {
                return refuse("this version does not know the value's type".into());
            };
            match new_column(schema, added.len(), name, column_type) {
                Ok(Some(column)) => {
                    if let Some(other) = same_but_for_case(schema, &added, name) {
                        return refuse(format!("differs from column {other} in case alone"));
                    }
                    added.push(column);
                }
                Ok(None) => overflow.push(name.clone()),
                Err(reason) => return refuse(reason),
            }
        }
        if !overflow.is_empty() {
            move_over(record, &overflow).map_err(|(column, reason)| {
                refused(*index, &record.record_type, &column, reason)
            })?;
            let bag = bag_column(schema, &added).map_err(|reason| {
                refused(*index, &record.record_type, ADDITIONAL_FIELDS, reason)
            })?;
            added.extend(bag);
        }
    }
    Ok((!added.is_empty()).then(|| schema.with_columns(added)))
}

/// The column for what a full table has no columns for; none if it is there.
///
/// # Errors
/// Why it cannot be: the table has one of its name that holds something else, or was filled to its
/// last place when its like did not have this column.
pub(super) fn bag_column(schema: &TableSchema, added: &[Column]) -> Result<Option<Column>, String> {
    let mut columns = schema.columns().iter().chain(added);
    match columns.find(|column| column.name == ADDITIONAL_FIELDS) {
        Some(column) if column.column_type == ColumnType::Dynamic => Ok(None),
        Some(column) => Err(format!("is {}, and the table is full", column.column_type)),
        None if schema.columns().len() + added.len() >= COLUMNS_MAX => {
            Err(format!("table {} has its {COLUMNS_MAX} columns already", schema.name()))
        }
        None => Ok(Some(Column {
            name: ADDITIONAL_FIELDS.to_owned(),
            column_type: ColumnType::Dynamic,
        })),
    }
}

/// Gives a table the columns of rows that fit an earlier schema of it; none if it has them.
///
/// # Errors
/// [`Error::Unsupported`] names a column that the table has taken otherwise since, or that it has no
/// place for any more.
pub(crate) fn take_columns(
    schema: &TableSchema,
    rows: &Schema,
) -> Result<Option<TableSchema>, Error> {
    let Some(grown) = schema.adopt(rows)? else {
        return same_types(schema, rows).map(|()| None);
    };
    same_types(&grown, rows)?;
    let unsupported = |what| Err(Error::Unsupported { table: schema.name().to_string(), what });
    if grown.columns().len() > COLUMNS_MAX {
        return unsupported(format!("more than {COLUMNS_MAX} columns"));
    }
    for Column { name, .. } in grown.columns().iter().skip(schema.columns().len()) {
        if let Some(other) = same_but_for_case(schema, &[], name) {
            return unsupported(format!("column {name} beside column {other}"));
        }
    }
    Ok(Some(grown))
}

fn same_types(schema: &TableSchema, rows: &Schema) -> Result<(), Error> {
    for field in rows.fields() {
        let (name, found) = (field.name(), ColumnType::of_field(field));
        let Some(column) = schema.column(name) else { continue };
        if found != Some(column.column_type) {
            let found = found.map_or("an unknown type", ColumnType::as_str);
            let what = format!("{found} in column {name}, which is {}", column.column_type);
            return Err(Error::Unsupported { table: schema.name().to_string(), what });
        }
    }
    Ok(())
}

/// A column whose name differs in case alone. Delta tables, and those who read them, know no case.
pub(super) fn same_but_for_case<'a>(
    schema: &'a TableSchema,
    added: &'a [Column],
    name: &str,
) -> Option<&'a str> {
    let columns = schema.columns().iter().chain(added);
    // A table that overflows has this one sooner or later.
    let bag = (schema.growth() == Growth::Open).then_some(ADDITIONAL_FIELDS);
    let names = columns.map(|column| column.name.as_str()).chain(OWN_COLUMNS);
    names.chain(bag).find(|other| *other != name && other.eq_ignore_ascii_case(name))
}

/// The column that the table gets for a value; none if the value goes to `AdditionalFields`.
pub(super) fn new_column(
    schema: &TableSchema,
    added: usize,
    name: &str,
    column_type: ColumnType,
) -> Result<Option<Column>, String> {
    check_name(name)?;
    if schema.growth() == Growth::CustomColumns && !name.ends_with("_CF") {
        return Err(format!(
            "table {} has no such column (custom columns of standard tables end in _CF)",
            schema.name()
        ));
    }
    if has_place(schema, added) {
        return Ok(Some(Column { name: name.to_owned(), column_type }));
    }
    match schema.growth() {
        Growth::Open => Ok(None),
        Growth::CustomColumns => {
            Err(format!("table {} has its {COLUMNS_MAX} columns already", schema.name()))
        }
    }
}

/// Whether a table that gets so many columns has a place for one more.
pub(super) fn has_place(schema: &TableSchema, added: usize) -> bool {
    // One place stays free for `AdditionalFields`.
    let reserved =
        usize::from(schema.growth() == Growth::Open && schema.column(ADDITIONAL_FIELDS).is_none());
    schema.columns().len() + added + reserved < COLUMNS_MAX
}

pub(super) fn check_name(name: &str) -> Result<(), String> {
    if name.len() > COLUMN_NAME_BYTES_MAX {
        return Err(format!("column name is longer than {COLUMN_NAME_BYTES_MAX} bytes"));
    }
    let is_word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic());
    if is_word && starts_well {
        return Ok(());
    }
    Err("column name is not a letter followed by letters, digits and underscores".into())
}

/// Moves columns into the record's `AdditionalFields`.
fn move_over(record: &mut Record, columns: &[String]) -> Result<(), (String, String)> {
    let mut bag = match record.fields.remove(ADDITIONAL_FIELDS) {
        None => serde_json::Map::new(),
        Some(Value::Dynamic(serde_json::Value::Object(bag))) => bag,
        Some(_) => {
            let reason = "is not an object, and the table is full".to_owned();
            return Err((ADDITIONAL_FIELDS.to_owned(), reason));
        }
    };
    for column in columns {
        let Some(value) = record.fields.remove(column) else { continue };
        if bag.contains_key(column) {
            return Err((column.clone(), "stands in AdditionalFields too".to_owned()));
        }
        bag.insert(column.clone(), super::batch::json(&value));
    }
    let bag = Value::Dynamic(serde_json::Value::Object(bag));
    record.fields.insert(ADDITIONAL_FIELDS.to_owned(), bag);
    Ok(())
}

/// Whole numbers up to here are exact as a double.
pub(super) const EXACT: i64 = 1 << 53;

/// Whether a value goes into a column without loss.
pub(super) fn fits(column: ColumnType, value: &Value) -> Result<(), String> {
    let does = match (column, value) {
        (ColumnType::Bool, Value::Bool(_))
        | (ColumnType::Int, Value::Int(_))
        | (ColumnType::Long, Value::Int(_) | Value::Long(_))
        | (ColumnType::Real, Value::Int(_) | Value::Real(_))
        | (ColumnType::String, Value::String(_) | Value::Guid(_))
        | (ColumnType::DateTime, Value::DateTime(_))
        | (ColumnType::TimeSpan, Value::TimeSpan(_))
        | (ColumnType::Guid, Value::Guid(_))
        | (ColumnType::Decimal, Value::Int(_) | Value::Long(_))
        | (ColumnType::Dynamic, _) => true,
        (ColumnType::Int, Value::Long(number)) => i32::try_from(*number).is_ok(),
        (ColumnType::Real, Value::Long(number)) => (-EXACT..=EXACT).contains(number),
        (ColumnType::Guid, Value::String(text)) => uuid::Uuid::parse_str(text).is_ok(),
        (ColumnType::Decimal, Value::String(text)) => is_decimal(text),
        _ => false,
    };
    if does {
        return Ok(());
    }
    Err(misfit(column, ColumnType::of(value).map_or("an unknown type", ColumnType::as_str)))
}

pub(super) fn misfit(column: ColumnType, found: &str) -> String {
    format!("column is {column}, and the value is {found} and does not fit into it")
}

/// An optional sign, digits, and an optional fraction.
pub(super) fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    all_digits(whole) && all_digits(fraction)
}

pub(super) fn refused(
    index: usize,
    record_type: &RecordType,
    column: &str,
    reason: String,
) -> Error {
    Error::Record {
        index,
        record_type: record_type.to_string(),
        column: column.chars().take(COLUMN_NAME_BYTES_MAX * 2).collect(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use serde_json::json;

    fn record(table: &str) -> Record {
        Record::new(table.parse().expect("a name"), Timestamp::UNIX_EPOCH, "pc")
    }

    fn admit(schema: &TableSchema, record: Record) -> Result<Option<TableSchema>, Error> {
        let batch = Batch { producer: "p".into(), sequence: 1, records: vec![record] };
        let mut tables = by_table(batch)?;
        let rows = tables.values_mut().next().expect("one table");
        fit(schema, rows)
    }

    fn initial(table: &str) -> TableSchema {
        TableSchema::initial(&table.parse().expect("a name"))
    }

    fn refusal(schema: &TableSchema, record: Record) -> String {
        admit(schema, record).expect_err("refused").to_string()
    }

    #[test]
    fn a_wrong_type_is_refused_by_name() {
        let message = refusal(&initial("Perf"), record("Perf").with("CounterValue", "high"));
        assert_eq!(
            message,
            "record refused: column is real, and the value is string and does not fit into it. \
             record=`0`, type=`Perf`, column=`CounterValue`"
        );
    }

    #[test]
    fn values_fit_without_loss_or_not_at_all() {
        let perf = initial("Perf");
        assert!(admit(&perf, record("Perf").with("CounterValue", 3_i32)).is_ok());
        assert!(admit(&perf, record("Perf").with("CounterValue", 1_i64 << 53)).is_ok());
        assert!(admit(&perf, record("Perf").with("CounterValue", (1_i64 << 53) + 1)).is_err());
        assert!(admit(&perf, record("Perf").with("SampleCount", 7_i64)).is_ok());
        assert!(admit(&perf, record("Perf").with("SampleCount", 1_i64 << 31)).is_err());
        assert!(admit(&perf, record("Perf").with("InstanceName", uuid::Uuid::nil())).is_ok());
        assert!(admit(&perf, record("Perf").with("InstanceName", 7_i32)).is_err());
    }

    #[test]
    fn standard_tables_take_custom_columns_only() {
        let perf = initial("Perf");
        let grown = admit(&perf, record("Perf").with("Rack_CF", "r1")).expect("taken");
        assert!(grown.expect("grown").column("Rack_CF").is_some());
        let message = refusal(&perf, record("Perf").with("Rack", "r1"));
        assert!(message.contains("has no such column") && message.contains("`Rack`"), "{message}");
    }

    #[test]
    fn custom_tables_grow_and_keep_a_columns_type() {
        let table = initial("My_CL");
        let grown = admit(&table, record("My_CL").with("Count_d", 1.5)).expect("taken");
        let grown = grown.expect("grown");
        assert!(admit(&grown, record("My_CL").with("Count_d", 2.5)).expect("taken").is_none());
        assert!(admit(&grown, record("My_CL").with("Count_d", "x")).is_err());
        for bad in ["1st", "_hidden", "a b", "ä", "", &"x".repeat(46)] {
            assert!(admit(&grown, record("My_CL").with(bad, 1.0)).is_err(), "{bad}");
        }
    }

    #[test]
    fn two_records_of_one_batch_agree_on_a_new_column() {
        let batch = Batch {
            producer: "p".into(),
            sequence: 1,
            records: vec![record("My_CL").with("A", 1_i64), record("My_CL").with("A", "one")],
        };
        let mut tables = by_table(batch).expect("sorted");
        let rows = tables.values_mut().next().expect("one table");
        let message = fit(&initial("My_CL"), rows).expect_err("refused").to_string();
        assert!(message.contains("record=`1`") && message.contains("column=`A`"), "{message}");
    }

    #[test]
    fn own_columns_are_not_for_records() {
        for column in OWN_COLUMNS {
            let message = refusal(&initial("My_CL"), record("My_CL").with(column, "x"));
            assert!(message.contains("fills this column itself"), "{message}");
        }
    }

    #[test]
    fn a_column_that_differs_in_case_alone_is_refused_by_name() {
        let table = initial("My_CL");
        for (name, other) in
            [("type", TYPE), ("computer", COMPUTER), ("TIMEGENERATED", TIME_GENERATED)]
        {
            let message = refusal(&table, record("My_CL").with(name, "x"));
            assert!(message.contains(&format!("column {other} in case alone")), "{message}");
        }
        let both = record("My_CL").with("a", 1_i64).with("A", 2_i64);
        assert!(refusal(&table, both).contains("in case alone"));
        let grown = admit(&table, record("My_CL").with("a", 1_i64)).expect("taken").expect("grown");
        assert!(
            refusal(&grown, record("My_CL").with("A", 2_i64)).contains("column a in case alone")
        );
    }

    #[test]
    fn a_full_table_moves_columns_into_a_bag() {
        for table in ["AzureDiagnostics", "My_CL"] {
            full_table_moves_columns_into_a_bag(table);
        }
        // One that was filled to its last place has none for the bag.
        let table = initial("My_CL");
        let more = (table.columns().len()..COLUMNS_MAX)
            .map(|at| Column { name: format!("c{at}_s"), column_type: ColumnType::String });
        let full = table.with_columns(more);
        let message = refusal(&full, record("My_CL").with("more_d", 5.0));
        assert!(message.contains("has its 500 columns already"), "{message}");
        assert!(admit(&full, record("My_CL").with("c100_s", "x")).expect("taken").is_none());
    }

    fn full_table_moves_columns_into_a_bag(name: &str) {
        let table = initial(name);
        let more = (table.columns().len()..COLUMNS_MAX - 1)
            .map(|at| Column { name: format!("c{at}_s"), column_type: ColumnType::String });
        let full = table.with_columns(more);
        let entry = record(name).with("jobs_d", 4.0).with("c100_s", "kept");
        let batch = Batch { producer: "p".into(), sequence: 1, records: vec![entry] };
        let mut tables = by_table(batch).expect("sorted");
        let rows = tables.values_mut().next().expect("one table");
        let grown = fit(&full, rows).expect("taken").expect("grown by the bag");
        let bag = grown.column(ADDITIONAL_FIELDS).expect("a column for what has none");
        assert_eq!(bag.column_type, ColumnType::Dynamic);
        assert_eq!(grown.columns().len(), COLUMNS_MAX);
        let fields = &rows.records[0].1.fields;
        assert_eq!(fields[ADDITIONAL_FIELDS], Value::Dynamic(json!({"jobs_d": 4.0})));
        assert_eq!(fields["c100_s"], Value::from("kept"));
        assert!(!fields.contains_key("jobs_d"));
        // With the bag there, nothing grows any more; a bag of another type takes nothing.
        let entry = record(name).with("more_d", 5.0);
        assert!(admit(&grown, entry.clone()).expect("taken").is_none());
        let text = Column { name: ADDITIONAL_FIELDS.into(), column_type: ColumnType::String };
        let texts = full.with_columns([text]);
        assert!(refusal(&texts, entry).contains("is string, and the table is full"));
        let other = record(name).with("additionalfields", 1_i64);
        assert!(refusal(&initial(name), other).contains("in case alone"));
    }

    #[test]
    fn sizes_and_ranges_are_limited_by_name() {
        let table = initial("My_CL");
        let long = "x".repeat(FIELD_BYTES_MAX + 1);
        assert!(refusal(&table, record("My_CL").with("Long_s", long)).contains("`Long_s`"));
        let mut deep = json!(1);
        for _ in 0..=DYNAMIC_DEPTH_MAX {
            deep = json!([deep]);
        }
        assert!(refusal(&table, record("My_CL").with("Deep", deep)).contains("nested deeper"));
        let endless = SignedDuration::MAX;
        assert!(refusal(&table, record("My_CL").with("Span", endless)).contains("64-bit ticks"));
        let mut early = record("My_CL");
        early.time = "-000001-01-01T00:00:00Z".parse().expect("a time");
        assert!(refusal(&table, early).contains("years 1 to 9999"));
    }

    #[test]
    fn producers_have_names() {
        for producer in [String::new(), "x".repeat(201)] {
            let batch = Batch { producer, sequence: 1, records: Vec::new() };
            assert!(by_table(batch).is_err());
        }
    }
}
