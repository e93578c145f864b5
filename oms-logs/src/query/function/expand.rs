//! Dynamic values as Arrow lists, whose items DataFusion makes rows of.

use super::text_of_dynamic;
use crate::query::dynamic::{DynamicBuilder, Picker, View, arrays_of};
use crate::query::limits::exceeded;
use crate::query::time;
use crate::query::types::KqlType;
use datafusion::arrow::array::{
    Array, ArrayRef, BinaryViewArray, BooleanArray, Float64Array, Int32Array, Int64Array,
    ListArray, StringViewArray,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

/// The most rows that the rows of one batch become.
const ITEMS_MAX: usize = 16 * 1024 * 1024;

/// What lists a function makes of dynamic values.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Lists {
    /// Of one value: its items, in a type.
    Items { kql_type: KqlType, members_as_arrays: bool },
    /// Of several values side by side: the places of their items.
    Index,
    /// Of several values side by side: true for each of their items, and one false.
    Live,
}

#[derive(Debug, Eq, Hash, PartialEq)]
struct ListUdf {
    lists: Lists,
    limit: Option<usize>,
    signature: Signature,
}

fn udf(lists: Lists, limit: Option<usize>) -> ScalarUDF {
    let signature = Signature::variadic_any(Volatility::Immutable);
    ScalarUDF::from(ListUdf { lists, limit, signature })
}

/// The items of one dynamic value.
pub(crate) fn items(kql_type: KqlType, members_as_arrays: bool, limit: Option<usize>) -> ScalarUDF {
    udf(Lists::Items { kql_type, members_as_arrays }, limit)
}

/// The places of the items of dynamic values side by side.
pub(crate) fn index(limit: Option<usize>) -> ScalarUDF {
    udf(Lists::Index, limit)
}

/// True for each of the items of dynamic values side by side, and one false.
pub(crate) fn live(limit: Option<usize>) -> ScalarUDF {
    udf(Lists::Live, limit)
}

impl ListUdf {
    fn item_type(&self) -> DataType {
        match self.lists {
            Lists::Items { kql_type, .. } => kql_type.computed_type(),
            Lists::Index => DataType::Int64,
            Lists::Live => DataType::Boolean,
        }
    }
}

impl ScalarUDFImpl for ListUdf {
    fn name(&self) -> &str {
        match self.lists {
            Lists::Items { .. } => "items",
            Lists::Index => "item_index",
            Lists::Live => "item_live",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(Arc::new(Field::new_list_field(self.item_type(), true))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let values = args.args.iter().map(|value| arrays_of(&value.to_array(rows)?));
        let values = values.collect::<Result<Vec<_>>>()?;
        let limit = self.limit.unwrap_or(usize::MAX);
        let list: ArrayRef = match (self.lists, values.as_slice()) {
            (Lists::Items { kql_type, members_as_arrays }, [values]) => {
                Arc::new(items_of(values, kql_type, members_as_arrays, limit)?)
            }
            (Lists::Items { .. }, _) => return exec_err!("items of one value are made"),
            (Lists::Index, values) => {
                let counts = counts(values, rows, limit);
                let places: Int64Array =
                    counts.iter().flat_map(|count| 0..signed(*count)).collect();
                Arc::new(list(Arc::new(places), &counts, None)?)
            }
            (Lists::Live, values) => {
                let mut counts = counts(values, rows, limit);
                let live = counts
                    .iter()
                    .flat_map(|count| std::iter::repeat_n(Some(true), *count).chain([Some(false)]));
                let live: BooleanArray = live.collect();
                counts.iter_mut().for_each(|count| *count += 1);
                Arc::new(list(Arc::new(live), &counts, None)?)
            }
        };
        Ok(ColumnarValue::Array(list))
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// How many rows each row becomes: as many as its longest value has items; null is one row.
fn counts(values: &[BinaryViewArray], rows: usize, limit: usize) -> Vec<usize> {
    let count = |values: &BinaryViewArray, row: usize| {
        if values.is_null(row) {
            return 1;
        }
        match View::of(values.value(row)) {
            View::Array(items) => items.len().min(limit),
            View::Bag(members) => members.len().min(limit),
            _ => 1,
        }
    };
    let longest = |row| values.iter().map(|values| count(values, row)).max().unwrap_or(0);
    (0..rows).map(longest).collect()
}

fn too_many<T>() -> Result<T> {
    exceeded("mv-expand makes too many rows of one batch of rows", "items_max", ITEMS_MAX)
}

fn list(items: ArrayRef, counts: &[usize], nulls: Option<NullBuffer>) -> Result<ListArray> {
    if items.len() > ITEMS_MAX {
        return too_many();
    }
    let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths(counts.iter().copied());
    Ok(ListArray::try_new(field, offsets, items, nulls)?)
}

/// A list for each row: the items of an array, the members of a bag, or a scalar alone.
fn items_of(
    values: &BinaryViewArray,
    kql_type: KqlType,
    members_as_arrays: bool,
    limit: usize,
) -> Result<ListArray> {
    let mut counts = Vec::with_capacity(values.len());
    let bags = values.iter().flatten().any(|value| matches!(View::of(value), View::Bag(_)));
    let items = if bags {
        let mut builder = DynamicBuilder::with_capacity(values.len());
        let mut total = 0;
        for value in values {
            let count = append_items(&mut builder, value, members_as_arrays, limit)?;
            counts.push(count);
            total += count;
            if total > ITEMS_MAX {
                return too_many();
            }
        }
        builder.finish_views()
    } else {
        let mut picker = Picker::new(values, values.len());
        for (row, value) in values.iter().enumerate() {
            let before = picker.len();
            match value.map(View::of) {
                Some(View::Array(items)) => {
                    items.iter().take(limit).for_each(|item| picker.pick(row, Some(item)));
                }
                Some(_) => picker.pick(row, value),
                None => {}
            }
            counts.push(picker.len() - before);
            if picker.len() > ITEMS_MAX {
                return too_many();
            }
        }
        picker.finish()?
    };
    list(typed(items, kql_type), &counts, values.nulls().cloned())
}

fn append_items(
    builder: &mut DynamicBuilder,
    value: Option<&[u8]>,
    members_as_arrays: bool,
    limit: usize,
) -> Result<usize> {
    let mut count = 0;
    match value.map(View::of) {
        Some(View::Array(items)) => {
            for item in items.iter().take(limit) {
                builder.append_bytes(Some(item))?;
                count += 1;
            }
        }
        Some(View::Bag(members)) => {
            for (key, member) in members.iter().take(limit) {
                builder.append(|writer| {
                    if members_as_arrays {
                        writer.array(|parts| {
                            parts.item(|writer| writer.text(key));
                            parts.item(|writer| writer.raw(member));
                        });
                    } else {
                        writer.bag(|parts| parts.member(key, |writer| writer.raw(member)));
                    }
                })?;
                count += 1;
            }
        }
        Some(_) => {
            builder.append_bytes(value)?;
            count = 1;
        }
        None => {}
    }
    Ok(count)
}

/// The items in a type. An item of another kind is null; anything can be text.
fn typed(items: BinaryViewArray, kql_type: KqlType) -> ArrayRef {
    fn number(view: View<'_>) -> Option<i64> {
        match view {
            View::Long(value) => Some(value),
            View::Bool(value) => Some(value.into()),
            #[expect(clippy::cast_possible_truncation, reason = "saturates, as the language does")]
            View::Real(value) => (!value.is_nan()).then_some(value as i64),
            _ => None,
        }
    }
    let views = items.iter().map(|item| item.map_or(View::Null, View::of));
    match kql_type {
        KqlType::Dynamic => Arc::new(items),
        KqlType::Bool => Arc::new(
            views
                .map(|view| match view {
                    View::Bool(value) => Some(value),
                    other => number(other).map(|value| value != 0),
                })
                .collect::<BooleanArray>(),
        ),
        #[expect(clippy::cast_possible_truncation, reason = "the lower 32 bits are kept")]
        KqlType::Int => {
            Arc::new(views.map(|v| number(v).map(|v| v as i32)).collect::<Int32Array>())
        }
        KqlType::Long => Arc::new(views.map(number).collect::<Int64Array>()),
        KqlType::Real => Arc::new(views.map(View::as_number).collect::<Float64Array>()),
        KqlType::DateTime => Arc::new(
            views
                .map(|view| match view {
                    View::DateTime(ticks) => Some(ticks),
                    View::Text(text) => time::parse_datetime(text),
                    _ => None,
                })
                .collect::<Int64Array>(),
        ),
        KqlType::TimeSpan => Arc::new(
            views
                .map(|view| match view {
                    View::TimeSpan(ticks) => Some(ticks),
                    View::Text(text) => time::parse_timespan(text),
                    _ => None,
                })
                .collect::<Int64Array>(),
        ),
        KqlType::String => {
            Arc::new(views.map(|view| Some(text_of_dynamic(view))).collect::<StringViewArray>())
        }
        KqlType::Guid => Arc::new(
            views
                .map(|view| match view {
                    View::Guid(value) => Some(value.to_string()),
                    View::Text(text) => uuid::Uuid::try_parse(text).ok().map(|g| g.to_string()),
                    _ => None,
                })
                .collect::<StringViewArray>(),
        ),
        KqlType::Decimal => Arc::new(
            views
                .map(|view| match view {
                    View::Decimal(digits) => Some(digits.to_owned()),
                    View::Long(value) => Some(value.to_string()),
                    View::Real(value) if value.is_finite() => Some(value.to_string()),
                    _ => None,
                })
                .collect::<StringViewArray>(),
        ),
    }
}
