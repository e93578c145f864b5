//! Columns of dynamic values.

use super::binary::{NULL_BYTES, View, Writer, is_deeper};
use super::{BYTES_MAX, DEPTH_MAX, json, reader};
use crate::query::function::{StringTooLong, exceeded};
use datafusion::arrow::array::builder::NullBufferBuilder;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BinaryViewBuilder, ByteView, StringViewArray,
    StringViewBuilder, make_view,
};
use datafusion::arrow::buffer::ScalarBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result};
use std::sync::Arc;

/// A dynamic argument: a value per row, or one for all rows.
#[derive(Debug)]
pub(crate) struct Dynamics {
    array: BinaryViewArray,
    single: bool,
}

impl Dynamics {
    pub(crate) const fn new(array: BinaryViewArray, single: bool) -> Self {
        Self { array, single }
    }

    /// The bytes of a row's value, if it is not null.
    pub(crate) fn bytes(&self, row: usize) -> Option<&[u8]> {
        let at = if self.single { 0 } else { row };
        self.array.is_valid(at).then(|| self.array.value(at))
    }

    /// A row's value.
    pub(crate) fn get(&self, row: usize) -> View<'_> {
        self.bytes(row).map_or(View::Null, View::of)
    }

    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.bytes(row).is_none()
    }

    /// Whether it is one value for all rows.
    pub(crate) const fn is_single(&self) -> bool {
        self.single
    }

    /// The values as they are.
    pub(crate) const fn array(&self) -> &BinaryViewArray {
        &self.array
    }
}

/// The column as dynamic values: as it is, or from JSON text.
pub(crate) fn arrays_of(array: &ArrayRef) -> Result<BinaryViewArray> {
    if let Some(array) = array.as_binary_view_opt() {
        return Ok(array.clone());
    }
    if *array.data_type() == DataType::Null {
        return Ok(cast(array, &DataType::BinaryView)?.as_binary_view().clone());
    }
    of_text(cast(array, &DataType::Utf8View)?.as_string_view())
}

/// JSON text as dynamic values. Empty text is null, and text that is not JSON is a string.
pub(crate) fn of_text(texts: &StringViewArray) -> Result<BinaryViewArray> {
    let mut builder = DynamicBuilder::with_capacity(texts.len());
    let mut bytes = Vec::new();
    for text in texts {
        bytes.clear();
        match text {
            None | Some("") => builder.append_null(),
            Some(text) => {
                if !reader::parse(text, &mut bytes) {
                    Writer::new(&mut bytes).text(text);
                }
                builder.append_bytes(Some(&bytes))?;
            }
        }
    }
    Ok(builder.finish_views())
}

/// Of the value of each row's JSON text the part that `pick` writes if there is one; nothing else of
/// the value is made.
pub(crate) fn select_of_text(
    texts: &StringViewArray,
    mut pick: impl FnMut(usize, &str, &mut Vec<u8>) -> bool,
) -> Result<ArrayRef> {
    let mut builder = DynamicBuilder::with_capacity(texts.len());
    let mut bytes = Vec::new();
    for (row, text) in texts.iter().enumerate() {
        bytes.clear();
        let found = text.is_some_and(|text| pick(row, text, &mut bytes));
        builder.append_bytes(found.then_some(bytes.as_slice()))?;
    }
    Ok(builder.finish())
}

/// Dynamic values as JSON text; null stays null.
pub(crate) fn to_json(values: &BinaryViewArray) -> StringViewArray {
    let mut builder = StringViewBuilder::with_capacity(values.len());
    let mut text = String::new();
    for value in values {
        match value {
            None => builder.append_null(),
            Some(bytes) => {
                text.clear();
                json::text(View::of(bytes), &mut text);
                builder.append_value(&text);
            }
        }
    }
    builder.finish()
}

/// Makes a column of dynamic values.
#[derive(Debug)]
pub(crate) struct DynamicBuilder {
    builder: BinaryViewBuilder,
    bytes: Vec<u8>,
    /// The length of all values.
    length: usize,
}

impl DynamicBuilder {
    pub(crate) fn with_capacity(rows: usize) -> Self {
        Self { builder: BinaryViewBuilder::with_capacity(rows), bytes: Vec::new(), length: 0 }
    }

    pub(crate) fn append_null(&mut self) {
        self.builder.append_null();
    }

    /// The length of the values so far, in bytes.
    pub(crate) const fn length(&self) -> usize {
        self.length
    }

    /// Appends a value that is in its form in memory.
    ///
    /// # Errors
    /// Those of [`bounded`].
    pub(crate) fn append_bytes(&mut self, bytes: Option<&[u8]>) -> Result<()> {
        match bytes {
            None | Some([] | NULL_BYTES) => self.builder.append_null(),
            Some(bytes) => {
                self.length += bytes.len();
                self.builder.try_append_value(bounded(bytes)?)?;
            }
        }
        Ok(())
    }

    /// Appends the value that `write` writes.
    ///
    /// # Errors
    /// Those of [`bounded`].
    pub(crate) fn append(&mut self, write: impl FnOnce(&mut Writer<'_>)) -> Result<()> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        write(&mut Writer::new(&mut bytes));
        let appended = self.append_bytes(Some(&bytes));
        self.bytes = bytes;
        appended
    }

    pub(crate) fn finish_views(mut self) -> BinaryViewArray {
        self.builder.finish()
    }

    pub(crate) fn finish(self) -> ArrayRef {
        Arc::new(self.finish_views())
    }
}

/// The value itself.
///
/// # Errors
/// If it is longer or nested deeper than a value may be.
pub(crate) fn bounded(bytes: &[u8]) -> Result<&[u8]> {
    if bytes.len() > BYTES_MAX {
        return Err(too_long());
    }
    if is_deeper(bytes, DEPTH_MAX) {
        let message = format!("a dynamic value is nested deeper than {DEPTH_MAX} levels");
        return Err(exceeded(message));
    }
    Ok(bytes)
}

/// The error of a value that is too long.
pub(crate) fn too_long() -> DataFusionError {
    let message = format!("a dynamic value has more than {BYTES_MAX} bytes");
    DataFusionError::External(Box::new(StringTooLong(message)))
}

/// Makes a column of parts of another column's values, without copying them.
#[derive(Debug)]
pub(crate) struct Picker<'a> {
    source: &'a BinaryViewArray,
    views: Vec<u128>,
    nulls: NullBufferBuilder,
}

impl<'a> Picker<'a> {
    pub(crate) fn new(source: &'a BinaryViewArray, capacity: usize) -> Self {
        let nulls = NullBufferBuilder::new(capacity);
        Self { source, views: Vec::with_capacity(capacity), nulls }
    }

    /// Appends a part of a row's value, or null.
    pub(crate) fn pick(&mut self, row: usize, part: Option<&[u8]>) {
        let view = part.filter(|part| !matches!(*part, [] | NULL_BYTES));
        let view = view.and_then(|part| self.view(row, part));
        self.nulls.append(view.is_some());
        self.views.push(view.unwrap_or(0));
    }

    fn view(&self, row: usize, part: &[u8]) -> Option<u128> {
        let whole = self.source.value(row);
        let of_row = ByteView::from(*self.source.views().get(row)?);
        let offset = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
        if offset + part.len() > whole.len() {
            return None;
        }
        // A short value is in the view itself, and so are its parts.
        let offset = of_row.offset.wrapping_add(u32::try_from(offset).ok()?);
        Some(make_view(part, of_row.buffer_index, offset))
    }

    pub(crate) fn len(&self) -> usize {
        self.views.len()
    }

    pub(crate) fn finish(mut self) -> Result<BinaryViewArray> {
        let buffers = self.source.data_buffers().to_vec();
        let views = ScalarBuffer::from(self.views);
        Ok(BinaryViewArray::try_new(views, buffers, self.nulls.finish())?)
    }
}

/// Of each row's value the part that `pick` finds, without copying it.
pub(crate) fn select(
    values: &Dynamics,
    rows: usize,
    mut pick: impl for<'v> FnMut(usize, &'v [u8]) -> Option<&'v [u8]>,
) -> Result<ArrayRef> {
    let mut picker = Picker::new(&values.array, rows);
    for row in 0..rows {
        let at = if values.single { 0 } else { row };
        picker.pick(at, values.bytes(row).and_then(|bytes| pick(row, bytes)));
    }
    Ok(Arc::new(picker.finish()?))
}

#[cfg(test)]
mod tests {
    use super::super::Value;
    use super::*;

    #[test]
    fn a_value_is_not_deeper_than_it_may_be() {
        // The innermost one is empty, and each other has two items or a member.
        let nested = |levels: usize| {
            (1..levels).fold(Value::Array(Vec::new()), |value, level| match level % 2 {
                0 => Value::Array(vec![value, Value::Long(1)]),
                _ => Value::Bag(vec![(String::new(), value)]),
            })
        };
        for (levels, fits) in [(1, true), (DEPTH_MAX, true), (DEPTH_MAX + 1, false), (500, false)] {
            let mut builder = DynamicBuilder::with_capacity(1);
            let bytes = nested(levels).to_bytes();
            assert_eq!(builder.append_bytes(bytes.as_deref()).is_ok(), fits, "{levels}");
        }
        assert!(bounded(&Value::Text("x".repeat(2000)).to_bytes().expect("a text")).is_ok());
    }

    #[test]
    fn parts_are_views_of_the_same_bytes() {
        let texts = StringViewArray::from(vec![
            Some(r#"{"a":{"b":"a text that is longer than a view"},"n":1}"#),
            Some(r#"{"a":"short"}"#),
            None,
            Some("[1]"),
        ]);
        let values = Dynamics::new(of_text(&texts).expect("valid"), false);
        let picked = select(&values, 4, |_, bytes| {
            View::of(bytes).as_bag().and_then(|members| members.get("a"))
        });
        let picked = picked.expect("valid");
        let picked = picked.as_binary_view();
        assert_eq!(
            to_json(picked).iter().collect::<Vec<_>>(),
            [Some(r#"{"b":"a text that is longer than a view"}"#), Some("\"short\""), None, None]
        );
        assert_eq!(
            picked.data_buffers().iter().map(|b| b.as_ptr()).collect::<Vec<_>>(),
            values.array().data_buffers().iter().map(|b| b.as_ptr()).collect::<Vec<_>>()
        );
    }
}
