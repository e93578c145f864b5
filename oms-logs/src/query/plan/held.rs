//! How much memory rows hold.

use datafusion::arrow::array::{Array, ArrayData, RecordBatch};
use datafusion::arrow::datatypes::DataType;
use std::collections::HashSet;

/// Counts the bytes of batches of rows. Batches are often slices of one allocation, and the text of
/// views often lies in buffers that many batches share: a slice counts for its own rows, and a
/// buffer that is shared as a whole once.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Where shared buffers begin that were counted, and how long they are.
    counted: HashSet<(usize, usize)>,
}

impl Held {
    /// The bytes that these rows hold beyond those counted before.
    pub(crate) fn add(&mut self, rows: &RecordBatch) -> usize {
        rows.columns().iter().map(|column| self.add_data(&column.to_data())).sum()
    }

    fn add_data(&mut self, data: &ArrayData) -> usize {
        let sliced = |data: &ArrayData| {
            data.get_slice_memory_size().unwrap_or_else(|_| data.get_buffer_memory_size())
        };
        let children = data.child_data();
        let of_children: usize = children.iter().map(sliced).sum();
        let mut bytes = sliced(data).saturating_sub(of_children);
        if matches!(data.data_type(), DataType::Utf8View | DataType::BinaryView) {
            let texts = data.buffers().iter().skip(1);
            bytes += texts
                .filter(|text| self.counted.insert((text.as_ptr() as usize, text.len())))
                .map(|text| text.len())
                .sum::<usize>();
        }
        for child in children {
            // The values of a dictionary are the same for all its slices, as are the items of lists.
            let first = child.buffers().first().map(|buffer| buffer.as_ptr() as usize);
            if first.is_none_or(|first| self.counted.insert((first, child.len()))) {
                bytes += self.add_data(child);
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{
        ArrayRef, DictionaryArray, Int64Array, ListArray, StringViewArray,
    };
    use datafusion::arrow::datatypes::{Int32Type, Int64Type};
    use std::sync::Arc;

    fn held(column: ArrayRef) -> usize {
        let whole = RecordBatch::try_from_iter([("x", column)]).unwrap();
        let mut held = Held::default();
        (0..8).map(|part| held.add(&whole.slice(part * 128, 128))).sum()
    }

    #[test]
    fn slices_count_once() {
        assert_eq!(held(Arc::new(Int64Array::from_iter_values(0..1024))), 8 * 1024);
        let text = "x".repeat(100);
        let views = StringViewArray::from_iter_values((0..1024).map(|_| &text));
        let texts: usize = views.data_buffers().iter().map(|buffer| buffer.len()).sum();
        assert_eq!(held(Arc::new(views)), 16 * 1024 + texts);
        let names: DictionaryArray<Int32Type> = (0..1024).map(|_| Some("name")).collect();
        assert_eq!(held(Arc::new(names)), 4 * 1024 + 8 + 4);
        let lists = (0..1024).map(|row| Some([Some(row)]));
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(lists);
        // A slice has an offset more than rows.
        assert_eq!(held(Arc::new(lists)), 4 * (1024 + 8) + 8 * 1024);
    }
}
