//! The nearest-rank percentile as a DataFusion aggregate. It is exact: it keeps every value of a
//! group in memory, which the query's memory limit bounds.

use super::arguments::longs;
use super::one_group::{Grouped, counted, of_one_group};
use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Float64Array, Int64Array,
    ListArray, PrimitiveArray,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::{Result, exec_err, resources_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};
use std::cmp::Ordering;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The aggregate for one percentile, from 0 to 100, over long or real values.
pub(crate) fn percentile(percent: f64) -> AggregateUDF {
    let signature = Signature::any(1, Volatility::Immutable);
    AggregateUDF::from(Percentile { percent, signature })
}

#[derive(Debug)]
struct Percentile {
    percent: f64,
    signature: Signature,
}

impl PartialEq for Percentile {
    fn eq(&self, other: &Self) -> bool {
        self.percent.to_bits() == other.percent.to_bits()
    }
}

impl Eq for Percentile {}

impl Hash for Percentile {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.percent.to_bits().hash(state);
    }
}

impl AggregateUDFImpl for Percentile {
    fn name(&self) -> &'static str {
        "kql_percentile"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [DataType::Int64] => Ok(DataType::Int64),
            [DataType::Float64] => Ok(DataType::Float64),
            other => exec_err!("percentile does not take {other:?}"),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(match args.return_field.data_type() {
            DataType::Int64 => of_one_group(Collected::<Int64Type>::new(self.percent)),
            _ => of_one_group(Collected::<Float64Type>::new(self.percent)),
        })
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(match args.return_field.data_type() {
            DataType::Int64 => Box::new(Collected::<Int64Type>::new(self.percent)),
            _ => Box::new(Collected::<Float64Type>::new(self.percent)),
        })
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let item = Field::new_list_field(args.return_field.data_type().clone(), true);
        Ok(vec![Arc::new(Field::new_list(format!("{}[values]", args.name), item, true))])
    }
}

/// A type of values.
trait Value: ArrowPrimitiveType + Debug + Sized {
    /// The values of a column.
    fn read(array: &ArrayRef) -> Result<PrimitiveArray<Self>>;

    fn order(left: &Self::Native, right: &Self::Native) -> Ordering;
}

impl Value for Int64Type {
    fn read(array: &ArrayRef) -> Result<Int64Array> {
        longs(array)
    }

    fn order(left: &i64, right: &i64) -> Ordering {
        left.cmp(right)
    }
}

impl Value for Float64Type {
    fn read(array: &ArrayRef) -> Result<Float64Array> {
        match array.as_primitive_opt() {
            Some(array) => Ok(array.clone()),
            None => exec_err!("percentile expects reals"),
        }
    }

    fn order(left: &f64, right: &f64) -> Ordering {
        left.total_cmp(right)
    }
}

/// Every value of each group.
#[derive(Debug)]
struct Collected<T: Value> {
    percent: f64,
    groups: Vec<Vec<T::Native>>,
    /// Values that the groups have room for.
    room: usize,
}

impl<T: Value> Collected<T> {
    const fn new(percent: f64) -> Self {
        Self { percent, groups: Vec::new(), room: 0 }
    }

    fn add(&mut self, group: usize, values: impl IntoIterator<Item = T::Native>) {
        if let Some(group) = self.groups.get_mut(group) {
            let before = group.capacity();
            group.extend(values);
            self.room += group.capacity() - before;
        }
    }

    fn take(&mut self, emit_to: EmitTo) -> Vec<Vec<T::Native>> {
        let taken = emit_to.take_needed(&mut self.groups);
        self.room -= taken.iter().map(Vec::capacity).sum::<usize>();
        taken
    }
}

impl<T: Value> Grouped for Collected<T> {
    fn grow(&mut self, groups: usize) {
        self.groups.resize_with(groups.max(self.groups.len()), Vec::new);
    }
}

/// The place of the percentile among that many sorted values.
fn rank(percent: f64, count: usize) -> Option<usize> {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a percentage of a count lies between 0 and the count"
    )]
    let nearest = (percent.clamp(0.0, 100.0) / 100.0 * count as f64).ceil() as usize;
    nearest.max(1).min(count).checked_sub(1)
}

impl<T: Value> GroupsAccumulator for Collected<T> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        let [values] = values else { return exec_err!("percentile expects one column") };
        self.grow(total_num_groups);
        let counts = counted(opt_filter);
        let values = T::read(values)?;
        for (row, (group, value)) in group_indices.iter().zip(&values).enumerate() {
            if counts(row) {
                self.add(*group, value);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let percent = self.percent;
        let found = self.take(emit_to).into_iter().map(|mut values| {
            rank(percent, values.len()).map(|at| *values.select_nth_unstable_by(at, T::order).1)
        });
        Ok(Arc::new(PrimitiveArray::<T>::from_iter(found)))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = self.take(emit_to);
        if i32::try_from(groups.iter().map(Vec::len).sum::<usize>()).is_err() {
            return resources_err!("percentile has more values than a list holds");
        }
        let offsets = OffsetBuffer::from_lengths(groups.iter().map(Vec::len));
        let values: PrimitiveArray<T> =
            PrimitiveArray::from_iter_values(groups.into_iter().flatten());
        let item = Arc::new(Field::new_list_field(T::DATA_TYPE, true));
        Ok(vec![Arc::new(ListArray::try_new(item, offsets, Arc::new(values), None)?)])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        let [state] = values else { return exec_err!("percentile expects one column") };
        let Some(lists) = state.as_list_opt::<i32>() else {
            return exec_err!("percentile expects lists");
        };
        self.grow(total_num_groups);
        for (group, list) in group_indices.iter().zip(lists.iter()) {
            if let Some(list) = list {
                let list = list.as_primitive::<T>();
                self.add(*group, list.values().iter().copied());
            }
        }
        Ok(())
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let [values] = values else { return exec_err!("percentile expects one column") };
        let (counts, values) = (counted(opt_filter), T::read(values)?);
        let has = |row: usize| values.is_valid(row) && counts(row);
        let lengths = (0..values.len()).map(|row| usize::from(has(row)));
        let offsets = OffsetBuffer::from_lengths(lengths);
        let kept = (0..values.len()).filter(|row| has(*row)).map(|row| values.value(row));
        let kept: PrimitiveArray<T> = PrimitiveArray::from_iter_values(kept);
        let item = Arc::new(Field::new_list_field(T::DATA_TYPE, true));
        Ok(vec![Arc::new(ListArray::try_new(item, offsets, Arc::new(kept), None)?)])
    }

    fn size(&self) -> usize {
        self.room * size_of::<T::Native>() + self.groups.capacity() * size_of::<Vec<T::Native>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rank_is_the_nearest_one() {
        assert_eq!(rank(50.0, 4), Some(1));
        assert_eq!(rank(95.0, 100), Some(94));
        assert_eq!(rank(0.0, 3), Some(0));
        assert_eq!(rank(100.0, 3), Some(2));
        assert_eq!(rank(50.0, 0), None);
    }
}
