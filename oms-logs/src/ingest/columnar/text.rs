//! Columns of text.

use super::{Checked, Refusal};
use crate::ingest::admit::{BATCH_BYTES_MAX, FIELD_BYTES_MAX};
use arrow::array::{Array, ArrayRef, AsArray as _, OffsetSizeTrait, StringBuilder};
use arrow::datatypes::DataType;
use std::sync::Arc;

/// Refuses texts that together are longer than a batch, before anything copies them: a few bytes
/// of a dictionary or of views can stand for very many.
pub(super) fn check_total(array: &ArrayRef, first: usize) -> Checked<()> {
    let bytes = match array.data_type() {
        DataType::LargeUtf8 => span(array.as_string::<i64>().value_offsets()),
        DataType::Utf8View => {
            let views = array.as_string_view().views().iter();
            // The length is in the lowest 32 bits of a view.
            views.fold(0_usize, |sum, &view| sum.saturating_add(view as u32 as usize))
        }
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let lengths = lengths(dictionary.values());
            if lengths.is_empty() {
                return Ok(());
            }
            let keys = dictionary.normalized_keys().into_iter();
            let valid = keys.enumerate().filter(|(row, _)| array.is_valid(*row));
            valid.fold(0_usize, |sum, (_, key)| {
                sum.saturating_add(lengths.get(key).copied().unwrap_or(0))
            })
        }
        _ => span(array.as_string::<i32>().value_offsets()),
    };
    check_bytes(bytes, first)
}

/// Refuses a column of so many bytes.
pub(super) fn check_bytes(bytes: usize, first: usize) -> Checked<()> {
    if bytes <= BATCH_BYTES_MAX {
        return Ok(());
    }
    let reason = format!("has values of more than {BATCH_BYTES_MAX} bytes together");
    Err(Refusal { row: first, reason })
}

/// Refuses a value of so many bytes.
pub(super) fn check_field(bytes: usize) -> Result<(), String> {
    if bytes <= FIELD_BYTES_MAX {
        return Ok(());
    }
    Err(format!("longer than {FIELD_BYTES_MAX} bytes"))
}

/// Refuses a text that is too long; answers how many bytes all have.
pub(super) fn check_lengths(texts: &ArrayRef) -> Checked<usize> {
    let offsets = texts.as_string::<i32>().value_offsets();
    let total = span(offsets);
    if total > FIELD_BYTES_MAX {
        let too_long = |pair: &[i32]| span(pair) > FIELD_BYTES_MAX;
        if let Some(row) = offsets.windows(2).position(too_long) {
            check_field(span(offsets.get(row..row + 2).unwrap_or_default()))
                .map_err(|reason| Refusal { row, reason })?;
        }
    }
    Ok(total)
}

/// Bytes from the first offset to the last.
fn span<O: OffsetSizeTrait>(offsets: &[O]) -> usize {
    match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => last.as_usize().saturating_sub(first.as_usize()),
        _ => 0,
    }
}

fn lengths(values: &ArrayRef) -> Vec<usize> {
    fn between<O: OffsetSizeTrait>(offsets: &[O]) -> Vec<usize> {
        offsets.windows(2).map(span).collect()
    }
    match values.data_type() {
        DataType::LargeUtf8 => between(values.as_string::<i64>().value_offsets()),
        DataType::Utf8View => {
            values.as_string_view().views().iter().map(|&view| view as u32 as usize).collect()
        }
        _ => between(values.as_string::<i32>().value_offsets()),
    }
}

/// Refuses the first text that `check` does not take.
pub(super) fn check(
    texts: &ArrayRef,
    mut check: impl FnMut(&str) -> Result<(), String>,
) -> Checked<()> {
    for (row, text) in texts.as_string::<i32>().iter().enumerate() {
        if let Some(text) = text {
            check(text).map_err(|reason| Refusal { row, reason })?;
        }
    }
    Ok(())
}

/// Each text as `write` writes it.
pub(super) fn rewrite(
    texts: &ArrayRef,
    mut write: impl FnMut(&str, &mut String) -> Result<(), String>,
) -> Checked<ArrayRef> {
    let texts = texts.as_string::<i32>();
    let mut builder = StringBuilder::with_capacity(texts.len(), span(texts.value_offsets()));
    let mut out = String::new();
    for (row, text) in texts.iter().enumerate() {
        match text {
            Some(text) => {
                out.clear();
                write(text, &mut out).map_err(|reason| Refusal { row, reason })?;
                builder.append_value(&out);
            }
            None => builder.append_null(),
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// Guids in the form in which tables keep them; most come in it.
pub(super) fn guids(texts: &ArrayRef, what: &str) -> Checked<ArrayRef> {
    if texts.as_string::<i32>().iter().flatten().all(is_kept_form) {
        return Ok(Arc::clone(texts));
    }
    rewrite(texts, |text, out| {
        let id = uuid::Uuid::parse_str(text).map_err(|_| format!("is not {what}"))?;
        out.push_str(id.as_hyphenated().encode_lower(&mut [0; 36]));
        Ok(())
    })
}

/// Lower case, with dashes.
fn is_kept_form(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}
