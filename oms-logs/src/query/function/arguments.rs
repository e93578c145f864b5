//! The arguments of a kernel as typed columns, and the columns it makes.

use super::budget;
use crate::query::dynamic::{DynamicBuilder, Dynamics, Writer, arrays_of};
use crate::query::time;
use crate::query::types::KqlType;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, Float64Array, Int32Array, Int64Array,
    StringViewArray, StringViewBuilder,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result, exec_err};
use datafusion::logical_expr::ColumnarValue;
use std::sync::Arc;

/// The arguments of one call over a batch of rows.
#[derive(Debug)]
pub(crate) struct Args<'a> {
    pub(super) function: &'static str,
    pub(super) values: &'a [ColumnarValue],
    pub(super) types: &'a [KqlType],
    /// The rows to make: one if every argument is the same for all rows.
    pub(super) rows: usize,
}

/// One argument: a value per row, or one for all rows.
#[derive(Debug)]
pub(crate) struct Column<A> {
    array: A,
    single: bool,
}

impl<A: Array> Column<A> {
    const fn at(&self, row: usize) -> usize {
        if self.single { 0 } else { row }
    }

    /// Whether it is one value for all rows.
    pub(crate) const fn is_single(&self) -> bool {
        self.single
    }

    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.array.is_null(self.at(row))
    }
}

impl Column<StringViewArray> {
    /// The text, empty for null.
    pub(crate) fn get(&self, row: usize) -> &str {
        if self.is_null(row) { "" } else { self.array.value(self.at(row)) }
    }
}

impl Column<Int64Array> {
    pub(crate) fn get(&self, row: usize) -> Option<i64> {
        (!self.is_null(row)).then(|| self.array.value(self.at(row)))
    }
}

impl Column<Float64Array> {
    pub(crate) fn get(&self, row: usize) -> Option<f64> {
        (!self.is_null(row)).then(|| self.array.value(self.at(row)))
    }
}

impl Column<BooleanArray> {
    pub(crate) fn get(&self, row: usize) -> Option<bool> {
        (!self.is_null(row)).then(|| self.array.value(self.at(row)))
    }
}

impl Args<'_> {
    /// The count of arguments.
    pub(crate) const fn len(&self) -> usize {
        self.values.len()
    }

    /// The argument's type.
    pub(crate) fn kql_type(&self, at: usize) -> Result<KqlType> {
        match self.types.get(at) {
            Some(kql_type) => Ok(*kql_type),
            None => exec_err!("argument {at} is missing"),
        }
    }

    fn array(&self, at: usize) -> Result<(ArrayRef, bool)> {
        match self.values.get(at) {
            Some(ColumnarValue::Array(array)) => Ok((Arc::clone(array), false)),
            Some(ColumnarValue::Scalar(value)) => Ok((value.to_array()?, true)),
            None => exec_err!("argument {at} is missing"),
        }
    }

    /// The argument as it is, if it is a column.
    pub(super) fn column(&self, at: usize) -> Option<&ArrayRef> {
        match self.values.get(at) {
            Some(ColumnarValue::Array(array)) => Some(array),
            _ => None,
        }
    }

    /// The first argument as it is.
    pub(super) fn first(&self) -> Result<ArrayRef> {
        self.array(0).map(|(array, _)| array)
    }

    pub(crate) fn text(&self, at: usize) -> Result<Column<StringViewArray>> {
        let (array, single) = self.array(at)?;
        let array = cast(&array, &DataType::Utf8View)?.as_string_view().clone();
        Ok(Column { array, single })
    }

    /// Integers, or ticks of a datetime or timespan.
    pub(crate) fn long(&self, at: usize) -> Result<Column<Int64Array>> {
        let (array, single) = self.array(at)?;
        Ok(Column { array: longs(&array)?, single })
    }

    pub(crate) fn real(&self, at: usize) -> Result<Column<Float64Array>> {
        let (array, single) = self.array(at)?;
        let array = cast(&array, &DataType::Float64)?.as_primitive().clone();
        Ok(Column { array, single })
    }

    pub(crate) fn bool(&self, at: usize) -> Result<Column<BooleanArray>> {
        let (array, single) = self.array(at)?;
        match array.as_boolean_opt() {
            Some(array) => Ok(Column { array: array.clone(), single }),
            None => exec_err!("argument {at} is not a bool"),
        }
    }

    /// Text as it is: a value for each row to make.
    pub(crate) fn texts(&self, at: usize) -> Result<StringViewArray> {
        let (array, _) = self.array(at)?;
        Ok(cast(&array, &DataType::Utf8View)?.as_string_view().clone())
    }

    /// A dynamic argument, from storage too.
    pub(crate) fn dynamic(&self, at: usize) -> Result<Dynamics> {
        let (array, single) = self.array(at)?;
        Ok(Dynamics::new(arrays_of(&array)?, single))
    }

    /// A dynamic argument that is JSON text from storage, a value for each row.
    pub(crate) fn stored_dynamic(&self, at: usize) -> Result<Option<StringViewArray>> {
        let (array, single) = self.array(at)?;
        let is_text = array.as_binary_view_opt().is_none() && *array.data_type() != DataType::Null;
        if single || !is_text {
            return Ok(None);
        }
        Ok(Some(cast(&array, &DataType::Utf8View)?.as_string_view().clone()))
    }

    /// An argument of any type as dynamic values.
    pub(crate) fn as_dynamic(&self, at: usize) -> Result<Dynamics> {
        let (array, single) = self.array(at)?;
        Ok(Dynamics::new(dynamic_of(&array, self.kql_type(at)?)?, single))
    }

    /// A dynamic value for each row, which `each` writes; it writes null for null. As for text,
    /// rows are missing if they have more bytes than the call may make, for it fails then.
    pub(crate) fn make_dynamic(
        &self,
        mut each: impl FnMut(usize, &mut Writer<'_>),
    ) -> Result<ArrayRef> {
        let mut builder = DynamicBuilder::with_capacity(self.rows);
        for row in 0..self.rows {
            let before = builder.length();
            builder.append(|writer| each(row, writer))?;
            if budget::bytes(builder.length() - before).is_none() {
                break;
            }
        }
        Ok(builder.finish())
    }

    pub(crate) fn make_text<S: AsRef<str>>(
        &self,
        mut each: impl FnMut(usize) -> Option<S>,
    ) -> ArrayRef {
        let mut builder = StringViewBuilder::with_capacity(self.rows);
        for row in 0..self.rows {
            let text = each(row);
            let length = text.as_ref().map_or(0, |text| text.as_ref().len());
            builder.append_option(text);
            if budget::bytes(length).is_none() {
                break;
            }
        }
        Arc::new(builder.finish())
    }

    /// Like [`Self::make_text`], for values that may fail.
    pub(crate) fn try_text<S: AsRef<str>>(
        &self,
        mut each: impl FnMut(usize) -> Result<Option<S>>,
    ) -> Result<ArrayRef> {
        let mut builder = StringViewBuilder::with_capacity(self.rows);
        for row in 0..self.rows {
            let text = each(row)?;
            let length = text.as_ref().map_or(0, |text| text.as_ref().len());
            builder.append_option(text);
            if budget::bytes(length).is_none() {
                break;
            }
        }
        Ok(Arc::new(builder.finish()))
    }

    pub(crate) fn make_long(&self, each: impl FnMut(usize) -> Option<i64>) -> ArrayRef {
        Arc::new((0..self.rows).map(each).collect::<Int64Array>())
    }

    pub(crate) fn make_int(&self, each: impl FnMut(usize) -> Option<i32>) -> ArrayRef {
        Arc::new((0..self.rows).map(each).collect::<Int32Array>())
    }

    pub(crate) fn make_real(&self, each: impl FnMut(usize) -> Option<f64>) -> ArrayRef {
        Arc::new((0..self.rows).map(each).collect::<Float64Array>())
    }

    pub(crate) fn make_bool(&self, each: impl FnMut(usize) -> Option<bool>) -> ArrayRef {
        Arc::new((0..self.rows).map(each).collect::<BooleanArray>())
    }
}

/// Values of any type as dynamic ones, which keep the type.
pub(crate) fn dynamic_of(array: &ArrayRef, kql_type: KqlType) -> Result<BinaryViewArray> {
    if kql_type == KqlType::Dynamic {
        return arrays_of(array);
    }
    fn each<T>(
        values: impl ExactSizeIterator<Item = Option<T>>,
        write: impl Fn(&mut Writer<'_>, T),
    ) -> Result<BinaryViewArray> {
        let mut builder = DynamicBuilder::with_capacity(values.len());
        for value in values {
            match value {
                Some(value) => builder.append(|writer| write(writer, value))?,
                None => builder.append_null(),
            }
        }
        Ok(builder.finish_views())
    }
    let texts =
        || Ok::<_, DataFusionError>(cast(array, &DataType::Utf8View)?.as_string_view().clone());
    match kql_type {
        KqlType::Bool => match array.as_boolean_opt() {
            Some(values) => each(values.iter(), |writer, value| writer.bool(value)),
            None => exec_err!("the argument is not a bool"),
        },
        KqlType::Int | KqlType::Long => {
            each(longs(array)?.iter(), |writer, value| writer.long(value))
        }
        KqlType::Real => {
            let values = cast(array, &DataType::Float64)?;
            each(values.as_primitive::<Float64Type>().iter(), |writer, value| writer.real(value))
        }
        KqlType::DateTime => each(longs(array)?.iter(), |writer, value| writer.datetime(value)),
        KqlType::TimeSpan => each(longs(array)?.iter(), |writer, value| writer.timespan(value)),
        KqlType::String | KqlType::Dynamic => {
            each(texts()?.iter().map(|t| Some(t.unwrap_or_default())), |writer, t| writer.text(t))
        }
        KqlType::Decimal => each(texts()?.iter(), |writer, digits| writer.decimal(digits)),
        KqlType::Guid => each(texts()?.iter(), |writer, text| match text.parse() {
            Ok(guid) => writer.guid(guid),
            Err(_) => writer.text(text),
        }),
    }
}

/// Integers, or ticks: a stored timestamp outside the years 1 to 9999 reads as null.
pub(crate) fn longs(array: &ArrayRef) -> Result<Int64Array> {
    Ok(match array.data_type() {
        DataType::Int64 => array.as_primitive::<Int64Type>().clone(),
        DataType::Timestamp(..) => {
            let micros = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None);
            let array = cast(array, &micros)?;
            let micros = array.as_primitive::<TimestampMicrosecondType>();
            micros.iter().map(|micros| micros.and_then(time::ticks_of_micros)).collect()
        }
        _ => cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::budget::Budget;
    use super::*;

    #[test]
    fn what_a_call_makes_of_a_batch_is_bounded() {
        let args = Args { function: "f", values: &[], types: &[], rows: 1000 };
        let within = |bytes, run: &dyn Fn() -> Result<ArrayRef>| {
            budget::within(Budget { steps: 0, bytes }, "f", run).map(|array| array.len()).ok()
        };
        let text = || Ok(args.make_text(|_| Some("0123456789")));
        let fallible = || args.try_text(|_| Ok(Some("0123456789".to_owned())));
        // One byte says that it is text.
        let dynamic = || args.make_dynamic(|_, writer| writer.text("012345678"));
        let kinds: [&dyn Fn() -> Result<ArrayRef>; 3] = [&text, &fallible, &dynamic];
        for run in kinds {
            assert_eq!(within(10_000, run), Some(1000));
            assert_eq!(within(9_999, run), None);
        }
    }
}
