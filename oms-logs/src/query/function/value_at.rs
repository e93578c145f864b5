//! The value of the row with the greatest or least order, as a DataFusion aggregate: `arg_max` and
//! `arg_min`.
//!
//! A group keeps where its value stands among the batches of values that came, and no copy of it.
//! Batches of which few rows are still a group's are put together now and then.

use super::one_group::{Grouped, counted, of_one_group};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, new_null_array,
};
use datafusion::arrow::compute::{cast, interleave};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};
use std::sync::Arc;

/// Rows of kept batches, beside those of groups, past which they are put together.
const SPARE_ROWS_MAX: usize = 512 * 1024;

/// Whether orders of this type are compared here.
pub(crate) fn takes(order: &DataType) -> bool {
    matches!(
        order,
        DataType::Int32 | DataType::Int64 | DataType::Float64 | DataType::Timestamp(_, _)
    )
}

/// The aggregate over (order, value). Of rows with the same order the first is taken; one without an
/// order only if there is no other.
pub(crate) fn value_at(greatest: bool) -> AggregateUDF {
    let signature = Signature::any(2, Volatility::Immutable);
    AggregateUDF::from(ValueAt { greatest, signature })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ValueAt {
    greatest: bool,
    signature: Signature,
}

impl AggregateUDFImpl for ValueAt {
    fn name(&self) -> &'static str {
        if self.greatest { "value_at_greatest" } else { "value_at_least" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [order, value] if takes(order) => Ok(value.clone()),
            other => exec_err!("{} does not take {other:?}", self.name()),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(of_one_group(Groups::new(self.greatest, args.return_field.data_type())))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let field = |name: &str, data_type: DataType| {
            Arc::new(Field::new(format!("{}[{name}]", args.name), data_type, true))
        };
        let value = args.return_field.data_type().clone();
        Ok(vec![
            field("order", DataType::Int64),
            field("value", value),
            field("is_set", DataType::Boolean),
        ])
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Groups::new(self.greatest, args.return_field.data_type())))
    }
}

/// Orders as whole numbers that compare as the orders do.
fn keys(orders: &ArrayRef) -> Result<Int64Array> {
    if let Some(reals) = orders.as_primitive_opt::<Float64Type>() {
        return Ok(reals.unary(|real| {
            let bits = real.to_bits().cast_signed();
            bits ^ (bits >> 63).cast_unsigned().wrapping_shr(1).cast_signed()
        }));
    }
    Ok(cast(orders, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

/// What a group has so far.
#[derive(Clone, Copy, Debug, Default)]
struct Best {
    /// None for an order that is null.
    key: Option<i64>,
    /// The batch and the row in it; no batch is 0, whose one value is null.
    at: (usize, usize),
}

fn is_better(greatest: bool, key: Option<i64>, than: &Best) -> bool {
    match (key, than.key) {
        _ if than.at.0 == 0 => true,
        (Some(key), Some(than)) => {
            if greatest {
                key > than
            } else {
                key < than
            }
        }
        (Some(_), None) => true,
        (None, _) => false,
    }
}

#[derive(Debug)]
struct Groups {
    greatest: bool,
    best: Vec<Best>,
    batches: Vec<ArrayRef>,
    /// Rows of all batches.
    rows: usize,
}

impl Groups {
    fn new(greatest: bool, data_type: &DataType) -> Self {
        let batches = vec![new_null_array(data_type, 1)];
        Self { greatest, best: Vec::new(), batches, rows: 0 }
    }

    fn add(
        &mut self,
        keys: &Int64Array,
        values: &ArrayRef,
        groups: &[usize],
        counts: impl Fn(usize) -> bool,
        group_count: usize,
    ) -> Result<()> {
        self.grow(group_count);
        let (batch, mut is_used) = (self.batches.len(), false);
        let nulls = keys.nulls();
        for ((row, group), key) in groups.iter().enumerate().zip(keys.values()) {
            if !counts(row) {
                continue;
            }
            let key = nulls.is_none_or(|nulls| nulls.is_valid(row)).then_some(*key);
            let Some(best) = self.best.get_mut(*group) else { continue };
            if is_better(self.greatest, key, best) {
                *best = Best { key, at: (batch, row) };
                is_used = true;
            }
        }
        if is_used {
            self.rows += values.len();
            self.batches.push(Arc::clone(values));
            if self.rows > SPARE_ROWS_MAX + 2 * self.best.len() {
                self.put_together()?;
            }
        }
        Ok(())
    }

    /// The values of some groups, in their order.
    fn values(&self, of: &[Best]) -> Result<ArrayRef> {
        let batches: Vec<&dyn Array> = self.batches.iter().map(AsRef::as_ref).collect();
        let places: Vec<(usize, usize)> = of.iter().map(|best| best.at).collect();
        let values = interleave(&batches, &places)?;
        // Views would keep the text of every batch.
        Ok(match values.data_type() {
            DataType::Utf8View => Arc::new(values.as_string_view().gc()),
            DataType::BinaryView => Arc::new(values.as_binary_view().gc()),
            _ => values,
        })
    }

    fn put_together(&mut self) -> Result<()> {
        let kept = self.values(&self.best)?;
        self.rows = kept.len();
        self.batches.truncate(1);
        self.batches.push(kept);
        for (group, best) in self.best.iter_mut().enumerate().filter(|(_, best)| best.at.0 > 0) {
            best.at = (1, group);
        }
        Ok(())
    }

    fn emit(&mut self, emit_to: EmitTo) -> Result<(Vec<Best>, ArrayRef)> {
        let emitted = emit_to.take_needed(&mut self.best);
        let values = self.values(&emitted)?;
        if self.best.is_empty() {
            // What was emitted to make room leaves nothing behind.
            self.batches.truncate(1);
            self.rows = 0;
        }
        Ok((emitted, values))
    }
}

impl Grouped for Groups {
    fn grow(&mut self, groups: usize) {
        self.best.resize(groups.max(self.best.len()), Best::default());
    }
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        let [orders, values] = values else { return exec_err!("an order and a value are needed") };
        let counts = counted(opt_filter);
        self.add(&keys(orders)?, values, group_indices, counts, total_num_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.emit(emit_to).map(|(_, values)| values)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (emitted, values) = self.emit(emit_to)?;
        let keys = emitted.iter().map(|best| best.key).collect::<Int64Array>();
        let set = emitted.iter().map(|best| Some(best.at.0 > 0)).collect::<BooleanArray>();
        Ok(vec![Arc::new(keys), values, Arc::new(set)])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        let [keys, values, set] = values else { return exec_err!("a state has three columns") };
        let (keys, set) = (keys.as_primitive::<Int64Type>(), set.as_boolean());
        self.add(keys, values, group_indices, |row| set.value(row), total_num_groups)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let [orders, values] = values else { return exec_err!("an order and a value are needed") };
        let counts = counted(opt_filter);
        let set = (0..values.len()).map(|row| Some(counts(row))).collect::<BooleanArray>();
        Ok(vec![Arc::new(keys(orders)?), Arc::clone(values), Arc::new(set)])
    }

    fn size(&self) -> usize {
        let batches = self.batches.iter().map(|batch| batch.get_array_memory_size());
        self.best.capacity() * size_of::<Best>() + batches.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Float64Array, StringArray, StringViewArray};
    use datafusion::scalar::ScalarValue;

    fn update(
        groups: &mut Groups,
        orders: ArrayRef,
        values: Vec<&str>,
        at: &[usize],
        count: usize,
    ) {
        let values: ArrayRef = Arc::new(StringViewArray::from(values));
        groups.update_batch(&[orders, values], at, None, count).expect("updated");
    }

    fn texts(array: &ArrayRef) -> Vec<Option<String>> {
        let array = cast(array, &DataType::Utf8).expect("text");
        let array: &StringArray = array.as_string();
        array.iter().map(|text| text.map(str::to_owned)).collect()
    }

    #[test]
    fn the_first_of_the_greatest_is_taken_and_states_merge() {
        let longs = |values: Vec<Option<i64>>| Arc::new(Int64Array::from(values)) as ArrayRef;
        let mut one = Groups::new(true, &DataType::Utf8View);
        update(&mut one, longs(vec![Some(1), Some(3), None]), vec!["a", "b", "n"], &[0, 0, 1], 3);
        update(&mut one, longs(vec![Some(3), Some(2), None]), vec!["c", "d", "m"], &[0, 0, 1], 3);
        one.put_together().expect("put together");
        let state = one.state(EmitTo::All).expect("a state");
        let mut other = Groups::new(true, &DataType::Utf8View);
        update(&mut other, longs(vec![Some(-9), Some(4)]), vec!["x", "y"], &[1, 2], 3);
        other.merge_batch(&state, &[0, 1, 2], 3).expect("merged");
        let first = other.evaluate(EmitTo::First(2)).expect("values");
        assert_eq!(texts(&first), [Some("b".to_owned()), Some("x".to_owned())]);
        let rest = other.evaluate(EmitTo::All).expect("values");
        assert_eq!((other.batches.len(), other.rows), (1, 0));
        assert_eq!(texts(&rest), [Some("y".to_owned())]);
    }

    #[test]
    fn reals_are_in_their_total_order() {
        let order = [f64::NEG_INFINITY, -1.5, -0.0, 0.0, 1e-300, 2.0, f64::INFINITY, f64::NAN];
        let orders: ArrayRef = Arc::new(Float64Array::from(order.to_vec()));
        let keys = keys(&orders).expect("keys");
        assert!(keys.values().windows(2).all(|pair| pair[0] < pair[1]), "{keys:?}");
    }

    #[test]
    fn without_rows_the_value_is_null() {
        let mut none = of_one_group(Groups::new(false, &DataType::Int64));
        let state = none.state().expect("a state");
        assert_eq!(state[2], ScalarValue::Boolean(Some(false)));
        let mut none = of_one_group(Groups::new(false, &DataType::Int64));
        assert_eq!(none.evaluate().expect("a value"), ScalarValue::Int64(None));
    }
}
