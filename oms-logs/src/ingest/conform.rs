//! Rows that were admitted before another writer gave their table a column otherwise.
//!
//! Two writers may add a column of one name at the same time, one as a `long`, say, and the other as
//! a `string`. The Delta log takes one of them, and the rows of the other are acknowledged already.
//!
//! ```text
//!  a value of a column that the table has otherwise
//!      │ goes into the table's column without loss, as it would if it came now
//!      ├──► that column: 7 of an int in a long, 42 of a long in a real, anything in a dynamic
//!      │ does not, or the table has its 500 columns
//!      └──► AdditionalFields, under the name of the column that it was sent as
//! ```
//!
//! A column whose name differs in letter case alone counts as of one name. If the table's
//! `AdditionalFields` holds something else, `AdditionalFields2_CF` takes them, and so on: a value of
//! an acknowledged record always has a place.

use super::admit::{fits, has_place};
use super::batch::{json, write_canonical};
use super::column::ColumnBuffer;
use crate::Error;
use crate::schema::{ADDITIONAL_FIELDS, Column, ColumnType, TableSchema};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{
    Field, Float64Type, Int32Type, Int64Type, Schema, TimestampMicrosecondType,
};
use jiff::{SignedDuration, Timestamp};
use oms_core::record::Value;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many columns are asked whether they can take what has no column.
const BAGS_MAX: usize = 100;

const TICKS_OF_SECOND: i64 = 10_000_000;

/// Rows as a table takes them.
#[derive(Debug, Default)]
pub(crate) struct Conformed {
    /// None if they are right as they are.
    pub(crate) rows: Option<RecordBatch>,
    /// The table's schema, if it had to grow.
    pub(crate) grown: Option<TableSchema>,
}

/// What a table that has the columns `stored` has together with the columns that this process
/// admitted rows by; none if that is `own` itself. Answers, too, whether one of its own columns has
/// no place there as it is.
pub(crate) fn reconcile(stored: &TableSchema, own: &TableSchema) -> Option<(TableSchema, bool)> {
    let is_own = |column: &Column| own.column(&column.name) == Some(column);
    if stored.columns().iter().all(is_own) {
        return None;
    }
    let (mut added, mut yields) = (Vec::<Column>::new(), false);
    for column in own.columns() {
        match stored.column_like(&column.name) {
            Some(known) => yields |= known != column,
            None if column.name == ADDITIONAL_FIELDS || has_place(stored, added.len()) => {
                added.push(column.clone());
            }
            None => yields = true,
        }
    }
    Some((stored.with_columns(added), yields))
}

/// Brings rows into the columns of a table.
///
/// # Errors
/// [`Error::Unsupported`] names a column of a type that the language does not have;
/// [`Error::Arrow`].
pub(crate) fn conform(schema: &TableSchema, batch: &RecordBatch) -> Result<Conformed, Error> {
    let (mut added, mut kept, mut misfits) = (Vec::<Column>::new(), Vec::new(), Vec::new());
    for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        let Some(column_type) = ColumnType::of_field(field) else {
            let what = format!("column {} of type {}", field.name(), field.data_type());
            return Err(Error::Unsupported { table: schema.name().to_string(), what });
        };
        let column = Column { name: field.name().clone(), column_type };
        match schema.column_like(&column.name) {
            Some(known) if *known == column => kept.push((column, Arc::clone(array))),
            Some(known) => misfits.push((column, Some(known.clone()), array)),
            None if column.name == ADDITIONAL_FIELDS || has_place(schema, added.len()) => {
                added.push(column.clone());
                kept.push((column, Arc::clone(array)));
            }
            None => misfits.push((column, None, array)),
        }
    }
    let mut grown = schema.with_columns(added.iter().cloned());
    let mut is_grown = !added.is_empty();
    if misfits.is_empty() {
        return Ok(Conformed { rows: None, grown: is_grown.then_some(grown) });
    }
    let mut left = BTreeMap::<usize, BTreeMap<String, Json>>::new();
    for (column, target, array) in misfits {
        let target = target.filter(|target| !kept.iter().any(|(it, _)| it.name == target.name));
        let rows = converted(&column, target.as_ref(), array, &mut left)?;
        kept.extend(target.zip(rows));
    }
    if !left.is_empty() {
        let bag = Column { name: String::new(), column_type: ColumnType::Dynamic };
        let (name, array) = bag_of(&grown, &kept, &left, batch.num_rows())?;
        let bag = Column { name, ..bag };
        if grown.column(&bag.name).is_none() {
            grown = grown.with_columns([bag.clone()]);
            is_grown = true;
        }
        kept.retain(|(it, _)| it.name != bag.name);
        kept.push((bag, array));
    }
    let rows = Some(assembled(&grown, kept, batch.num_rows())?);
    Ok(Conformed { rows, grown: is_grown.then_some(grown) })
}

/// The rows in the order of the table's columns.
fn assembled(
    schema: &TableSchema,
    kept: Vec<(Column, ArrayRef)>,
    rows: usize,
) -> Result<RecordBatch, Error> {
    let mut kept: Vec<_> = kept
        .into_iter()
        .filter_map(|(column, array)| Some((schema.place(&column.name)?, array)))
        .collect();
    kept.sort_unstable_by_key(|(place, _)| *place);
    let all = schema.arrow().fields();
    let fields: Vec<Arc<Field>> =
        kept.iter().filter_map(|(place, _)| all.get(*place)).map(Arc::clone).collect();
    let arrays = kept.into_iter().map(|(_, array)| array).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
        .map_err(Error::arrow("conform"))
}

/// A column as the table's column of its name keeps it, if there is one and it takes a value; what
/// it does not take is put into `left`, by row.
fn converted(
    column: &Column,
    target: Option<&Column>,
    array: &ArrayRef,
    left: &mut BTreeMap<usize, BTreeMap<String, Json>>,
) -> Result<Option<ArrayRef>, Error> {
    let kind = target.map_or(column.column_type, |target| target.column_type);
    let mut buffer = ColumnBuffer::with_capacity(kind, array.len(), 0);
    for row in 0..array.len() {
        let Some(value) = value_at(column.column_type, array, row) else {
            buffer.push_null();
            continue;
        };
        if target.is_some() && fits(kind, &value).is_ok() {
            buffer.push(&value);
        } else {
            buffer.push_null();
            left.entry(row).or_default().insert(column.name.clone(), json(&value));
        }
    }
    let array = buffer.finish().map_err(Error::arrow("conform"))?;
    Ok((target.is_some() && array.null_count() < array.len()).then_some(array))
}

/// A value of a column, as a record has it.
fn value_at(column_type: ColumnType, array: &ArrayRef, row: usize) -> Option<Value> {
    if array.is_null(row) {
        return None;
    }
    let text = || array.as_string_opt::<i32>().map(|texts| texts.value(row));
    let long = || array.as_primitive_opt::<Int64Type>().map(|numbers| numbers.value(row));
    Some(match column_type {
        ColumnType::Bool => Value::Bool(array.as_boolean_opt()?.value(row)),
        ColumnType::Int => Value::Int(array.as_primitive_opt::<Int32Type>()?.value(row)),
        ColumnType::Long => Value::Long(long()?),
        ColumnType::Real => Value::Real(array.as_primitive_opt::<Float64Type>()?.value(row)),
        ColumnType::DateTime => {
            let times = array.as_primitive_opt::<TimestampMicrosecondType>()?;
            Value::DateTime(Timestamp::from_microsecond(times.value(row)).ok()?)
        }
        ColumnType::TimeSpan => {
            let ticks = long()?;
            let nanoseconds = (ticks.rem_euclid(TICKS_OF_SECOND) * 100) as i32;
            Value::TimeSpan(SignedDuration::new(ticks.div_euclid(TICKS_OF_SECOND), nanoseconds))
        }
        ColumnType::Guid => match uuid::Uuid::parse_str(text()?) {
            Ok(id) => Value::Guid(id),
            Err(_) => Value::String(text()?.to_owned()),
        },
        ColumnType::Dynamic => match serde_json::from_str(text()?) {
            Ok(json) => Value::Dynamic(json),
            Err(_) => Value::String(text()?.to_owned()),
        },
        ColumnType::String | ColumnType::Decimal => Value::String(text()?.to_owned()),
    })
}

/// The column that takes what has no column of its own, with what it held before.
fn bag_of(
    schema: &TableSchema,
    kept: &[(Column, ArrayRef)],
    left: &BTreeMap<usize, BTreeMap<String, Json>>,
    rows: usize,
) -> Result<(String, ArrayRef), Error> {
    for number in 1..BAGS_MAX {
        let name = match number {
            1 => ADDITIONAL_FIELDS.to_owned(),
            number => format!("{ADDITIONAL_FIELDS}{number}_CF"),
        };
        let bag = Column { name, column_type: ColumnType::Dynamic };
        if schema.column_like(&bag.name).is_some_and(|known| *known != bag) {
            continue;
        }
        let held = kept.iter().find(|(column, _)| column.name == bag.name).map(|(_, array)| array);
        if let Some(array) = filled(held, left, rows) {
            return Ok((bag.name, array));
        }
    }
    let what = format!("no column of table {} takes what has none", schema.name());
    Err(Error::Internal { what })
}

/// The texts of a bag with more members; none if a row has another value than an object there, or
/// one with a member of that name.
fn filled(
    held: Option<&ArrayRef>,
    left: &BTreeMap<usize, BTreeMap<String, Json>>,
    rows: usize,
) -> Option<ArrayRef> {
    let held = match held {
        Some(array) => Some(array.as_string_opt::<i32>()?),
        None => None,
    };
    let mut texts = Vec::with_capacity(rows);
    for row in 0..rows {
        let before = held.filter(|held| held.is_valid(row)).map(|held| held.value(row));
        let Some(more) = left.get(&row) else {
            texts.push(before.map(str::to_owned));
            continue;
        };
        let mut bag: serde_json::Map<String, Json> = match before {
            Some(text) => serde_json::from_str(text).ok()?,
            None => serde_json::Map::new(),
        };
        for (name, value) in more {
            if bag.insert(name.clone(), value.clone()).is_some() {
                return None;
            }
        }
        let mut text = String::new();
        write_canonical(&Json::Object(bag), &mut text);
        texts.push(Some(text));
    }
    Some(Arc::new(StringArray::from(texts)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::COLUMNS_MAX;
    use arrow::array::{BooleanArray, Int32Array, Int64Array};
    use oms_core::record::RecordType;
    use serde_json::json;

    fn table() -> RecordType {
        "My_CL".parse().expect("a name")
    }

    fn schema(columns: &[(&str, ColumnType)]) -> TableSchema {
        let columns = columns.iter().map(|&(name, column_type)| column(name, column_type));
        TableSchema::initial(&table()).with_columns(columns)
    }

    fn column(name: &str, column_type: ColumnType) -> Column {
        Column { name: name.to_owned(), column_type }
    }

    /// Rows of one column.
    fn rows(name: &str, column_type: ColumnType, values: ArrayRef) -> RecordBatch {
        let all = schema(&[(name, column_type)]);
        let (_, field) = all.arrow().column_with_name(name).expect("the column");
        let schema = Arc::new(Schema::new(vec![field.clone()]));
        RecordBatch::try_new(schema, vec![values]).expect("rows")
    }

    fn texts(rows: &RecordBatch, name: &str) -> Vec<Option<String>> {
        let column = rows.column_by_name(name).expect(name).as_string::<i32>();
        column.iter().map(|text| text.map(str::to_owned)).collect()
    }

    #[test]
    fn rows_that_fit_stay_as_they_are() {
        let own = schema(&[("A", ColumnType::Long)]);
        let rows = rows("A", ColumnType::Long, Arc::new(Int64Array::from(vec![1])));
        let conformed = conform(&own, &rows).expect("conformed");
        assert!(conformed.rows.is_none() && conformed.grown.is_none());
        assert!(reconcile(&own, &own).is_none());
        let shorter = schema(&[]);
        assert!(reconcile(&shorter, &own).is_none(), "what is not in the log yet stays");
        let grown = conform(&shorter, &rows).expect("conformed").grown.expect("grown");
        assert_eq!(grown.column("A"), own.column("A"));
    }

    #[test]
    fn values_go_where_they_fit_without_loss_and_the_others_into_the_bag() {
        let stored = schema(&[("A", ColumnType::Int)]);
        let numbers = Int64Array::from(vec![Some(7), None, Some(1 << 40)]);
        let rows = rows("A", ColumnType::Long, Arc::new(numbers));
        let own = schema(&[("A", ColumnType::Long), ("B", ColumnType::Bool)]);
        let (merged, yields) = reconcile(&stored, &own).expect("another one");
        assert!(yields && merged.column("B").is_some());
        assert_eq!(merged.column("A"), stored.column("A"));
        let Conformed { rows, grown } = conform(&merged, &rows).expect("conformed");
        let (rows, grown) = (rows.expect("other rows"), grown.expect("a bag"));
        assert_eq!(
            grown.column(ADDITIONAL_FIELDS),
            Some(&column(ADDITIONAL_FIELDS, ColumnType::Dynamic))
        );
        let numbers = rows.column_by_name("A").expect("A").as_primitive::<Int32Type>();
        assert_eq!(numbers.iter().collect::<Vec<_>>(), [Some(7), None, None]);
        let bags = [None, None, Some(r#"{"A":1099511627776}"#.to_owned())];
        assert_eq!(texts(&rows, ADDITIONAL_FIELDS), bags);
        let again = conform(&grown, &rows).expect("conformed");
        assert!(again.rows.is_none() && again.grown.is_none(), "once is enough");
    }

    #[test]
    fn text_and_json_are_told_apart_though_both_are_kept_as_text() {
        let stored = schema(&[("A", ColumnType::Dynamic)]);
        let values = Arc::new(StringArray::from(vec![Some("x"), Some("{}")]));
        let told = rows("A", ColumnType::String, values);
        let conformed = conform(&stored, &told).expect("conformed").rows.expect("other rows");
        let (x, braces) = (json!("x").to_string(), json!("{}").to_string());
        assert_eq!(texts(&conformed, "A"), [Some(x), Some(braces)]);
        let stored = schema(&[("A", ColumnType::Decimal)]);
        let conformed = conform(&stored, &told).expect("conformed").rows.expect("other rows");
        assert!(conformed.column_by_name("A").is_none(), "it takes none of them");
        let bag = texts(&conformed, ADDITIONAL_FIELDS);
        assert_eq!(bag, [Some(r#"{"A":"x"}"#.to_owned()), Some(r#"{"A":"{}"}"#.to_owned())]);
    }

    #[test]
    fn letter_case_and_a_full_table_are_no_reason_to_lose_a_value() {
        let stored = schema(&[("level", ColumnType::Bool)]);
        let own = schema(&[("Level", ColumnType::Bool)]);
        let (merged, yields) = reconcile(&stored, &own).expect("another one");
        assert!(yields && merged.column("Level").is_none());
        let flags = rows("Level", ColumnType::Bool, Arc::new(BooleanArray::from(vec![true])));
        let conformed = conform(&merged, &flags).expect("conformed").rows.expect("other rows");
        assert!(conformed.column_by_name("level").expect("the other one").as_boolean().value(0));

        let many: Vec<String> = (0..COLUMNS_MAX).map(|at| format!("C{at}")).collect();
        let room = COLUMNS_MAX - 1 - schema(&[]).columns().len();
        let many: Vec<_> =
            many.iter().take(room).map(|name| (name.as_str(), ColumnType::Int)).collect();
        let full = schema(&many);
        let (merged, yields) = reconcile(&full, &own).expect("another one");
        assert!(yields && merged.column("Level").is_none());
        let Conformed { rows, grown } = conform(&merged, &flags).expect("conformed");
        let bag = texts(&rows.expect("other rows"), ADDITIONAL_FIELDS);
        assert_eq!(bag, [Some(r#"{"Level":true}"#.to_owned())]);
        assert_eq!(grown.expect("a bag").columns().len(), COLUMNS_MAX);
    }

    #[test]
    fn a_bag_that_holds_something_else_has_another_beside_it() {
        let bag = (ADDITIONAL_FIELDS, ColumnType::Dynamic);
        let stored = schema(&[("A", ColumnType::Bool), bag]);
        let own = schema(&[("A", ColumnType::Int), bag]);
        let fields: Vec<Field> = ["A", ADDITIONAL_FIELDS]
            .iter()
            .map(|name| own.arrow().field_with_name(name).expect("a column").clone())
            .collect();
        let bags = [Some(r#"{"B":1}"#), Some(r#"{"A":2}"#), Some("[3]")];
        for (at, bag) in bags.iter().enumerate() {
            let arrays: Vec<ArrayRef> =
                vec![Arc::new(Int32Array::from(vec![9])), Arc::new(StringArray::from(vec![*bag]))];
            let rows = RecordBatch::try_new(Arc::new(Schema::new(fields.clone())), arrays);
            let conformed = conform(&stored, &rows.expect("rows")).expect("conformed");
            let rows = conformed.rows.expect("other rows");
            let expected = match at {
                0 => r#"{"A":9,"B":1}"#,
                _ => bag.expect("a text"),
            };
            assert_eq!(texts(&rows, ADDITIONAL_FIELDS), [Some(expected.to_owned())]);
            if at > 0 {
                let second = texts(&rows, "AdditionalFields2_CF");
                assert_eq!(second, [Some(r#"{"A":9}"#.to_owned())]);
            }
        }
    }
}
