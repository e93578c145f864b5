//! The exact number of distinct values of each group, as a DataFusion aggregate: `dcount` and
//! `count_distinct`.
//!
//! One table holds the pairs of group and value of all groups, and the values have numbers, so that
//! a row costs one or two looks into it and no group has a set of its own. Text that is read as codes
//! is never made.

use super::never_null_of;
use super::one_group::{Grouped, counted, of_one_group};
use crate::query::ids::{KeyIds, PairIds, is_number, is_text};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray as _, BooleanArray, Int64Array, ListArray,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::{Result, exec_err, internal_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, Expr, GroupsAccumulator, Signature,
    Volatility,
};
use std::sync::Arc;

const NAME: &str = "distinct_count";

/// Whether values of this type are counted here.
pub(crate) fn takes(data_type: &DataType) -> bool {
    is_number(data_type) || is_text(data_type) || *data_type == DataType::Float64
}

/// The aggregate over values. Null is none, but for text that is never null.
pub(crate) fn distinct_count() -> AggregateUDF {
    AggregateUDF::from(DistinctCount { signature: Signature::any(1, Volatility::Immutable) })
}

/// Whether an aggregate is [`distinct_count`]: it reads codes.
pub(crate) fn is_distinct_count(function: &AggregateUDF) -> bool {
    function.inner().downcast_ref::<DistinctCount>().is_some()
}

/// What an aggregate of a plan counts the distinct values of, if that is all it does with them.
pub(crate) fn counted_values(aggregate: &Expr) -> Option<&Expr> {
    match aggregate {
        Expr::Alias(alias) => counted_values(&alias.expr),
        Expr::AggregateFunction(call) if is_distinct_count(&call.func) => {
            call.params.args.first().filter(|_| call.params.filter.is_none())
        }
        _ => None,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DistinctCount {
    signature: Signature,
}

/// What values are between two phases.
fn state_type(value: &DataType) -> DataType {
    if is_text(value) { DataType::Utf8View } else { DataType::Int64 }
}

impl DistinctCount {
    fn groups(args: &AccumulatorArgs<'_>) -> Result<Groups> {
        match (args.expr_fields, args.exprs) {
            ([field], [value]) => {
                Ok(Groups::new(field.data_type(), never_null_of(value).is_some()))
            }
            _ => internal_err!("{NAME} takes one value"),
        }
    }
}

impl AggregateUDFImpl for DistinctCount {
    fn name(&self) -> &'static str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [value] if takes(value) => Ok(DataType::Int64),
            other => exec_err!("{NAME} does not take {other:?}"),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(of_one_group(Self::groups(&args)?))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let [value] = args.input_fields else { return internal_err!("{NAME} takes one value") };
        let values = Field::new_list_field(state_type(value.data_type()), true);
        let name = format!("{}[values]", args.name);
        Ok(vec![Arc::new(Field::new_list(name, values, true))])
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Self::groups(&args)?))
    }
}

/// No pair.
const NONE: u32 = u32::MAX;

/// What a group has so far.
#[derive(Clone, Copy, Debug)]
struct Counted {
    count: usize,
    /// The pair of the value that came last.
    last: u32,
}

impl Default for Counted {
    fn default() -> Self {
        Self { count: 0, last: NONE }
    }
}

#[derive(Debug)]
struct Groups {
    /// What values are between two phases.
    state_type: DataType,
    null_is_empty: bool,
    ids: KeyIds,
    pairs: PairIds,
    /// The pair that the same group had before each pair.
    before: Vec<u32>,
    groups: Vec<Counted>,
    /// How many groups were given away: the pairs know a group by its number among all.
    given: usize,
    of_rows: Vec<u32>,
}

impl Groups {
    fn new(value: &DataType, null_is_empty: bool) -> Self {
        Self {
            state_type: state_type(value),
            null_is_empty,
            ids: KeyIds::new(is_text(value)),
            pairs: PairIds::default(),
            before: Vec::new(),
            groups: Vec::new(),
            given: 0,
            of_rows: Vec::new(),
        }
    }

    /// Counts the values of rows, each for its group, if it has one.
    fn add(
        &mut self,
        values: &ArrayRef,
        groups: impl Iterator<Item = Option<usize>>,
    ) -> Result<()> {
        let values = match values.as_primitive_opt::<Float64Type>() {
            Some(reals) => &(Arc::new(reals.unary::<_, Int64Type>(bits)) as ArrayRef),
            None => values,
        };
        let nulls = values.logical_nulls().filter(|_| !self.null_is_empty);
        self.of_rows.clear();
        self.ids.assign(values, &mut self.of_rows)?;
        for ((row, id), group) in self.of_rows.iter().enumerate().zip(groups) {
            let Some(group) = group else { continue };
            let Some(counted) = self.groups.get_mut(group) else { continue };
            if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                continue;
            }
            let pair = self.pairs.id((self.given + group) as u32, *id);
            if pair as usize == self.before.len() {
                self.before.push(counted.last);
                *counted = Counted { count: counted.count + 1, last: pair };
            }
        }
        Ok(())
    }

    /// Counts the values of lists, each for the group of its row.
    fn add_lists(&mut self, lists: &ListArray, groups: impl Iterator<Item = usize>) -> Result<()> {
        let offsets = lists.value_offsets();
        let [first, .., last] = offsets else { return Ok(()) };
        let values = lists.values().slice(*first as usize, (last - first) as usize);
        let lengths = offsets.windows(2).map(|ends| (ends[1] - ends[0]) as usize);
        let groups = groups.zip(lengths);
        let groups = groups.flat_map(|(group, length)| std::iter::repeat_n(Some(group), length));
        self.add(&values, groups)
    }

    /// The values of each group, as a list.
    fn lists(&self, of: &[Counted]) -> Result<ListArray> {
        let pair = |pair: u32| Some(pair).filter(|pair| *pair != NONE);
        let pairs = of.iter().flat_map(|group| {
            std::iter::successors(pair(group.last), |at| pair(*self.before.get(*at as usize)?))
        });
        let ids: Vec<u32> = self.pairs.seconds(pairs).collect();
        let values = self.ids.values(&ids, &self.state_type)?;
        let offsets = OffsetBuffer::from_lengths(of.iter().map(|group| group.count));
        let field = Arc::new(Field::new_list_field(self.state_type.clone(), true));
        Ok(ListArray::try_new(field, offsets, values, None)?)
    }

    /// Takes groups away, after their values were read. Their pairs stay until there are more of them
    /// than of others: groups are given away a few at a time.
    fn remove(&mut self, emit_to: EmitTo) -> Result<Vec<Counted>> {
        let removed = emit_to.take_needed(&mut self.groups);
        self.given += removed.len();
        let left: usize = self.groups.iter().map(|group| group.count).sum();
        if self.before.len() > 2 * left {
            let groups = std::mem::take(&mut self.groups);
            let lists = self.lists(&groups)?;
            *self = Self::new(&self.state_type, self.null_is_empty);
            self.grow(groups.len());
            self.add_lists(&lists, 0..groups.len())?;
        }
        Ok(removed)
    }
}

/// A real as a whole number. Not a number is one value, whatever its bits.
const fn bits(real: f64) -> i64 {
    let real = if real.is_nan() { f64::NAN } else { real };
    real.to_bits().cast_signed()
}

impl Grouped for Groups {
    fn grow(&mut self, groups: usize) {
        self.groups.resize(groups.max(self.groups.len()), Counted::default());
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
        let [values] = values else { return exec_err!("{NAME} takes one value") };
        self.grow(total_num_groups);
        let counts = counted(opt_filter);
        let groups = group_indices.iter().enumerate();
        self.add(values, groups.map(|(row, group)| counts(row).then_some(*group)))
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let counts = self.remove(emit_to)?.into_iter().map(|group| group.count as i64);
        Ok(Arc::new(counts.collect::<Int64Array>()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let emitted = match emit_to {
            EmitTo::All => self.groups.len(),
            EmitTo::First(count) => count.min(self.groups.len()),
        };
        let lists = self.lists(&self.groups[..emitted])?;
        self.remove(emit_to)?;
        Ok(vec![Arc::new(lists)])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        let Some(lists) = values.first().and_then(|lists| lists.as_list_opt::<i32>()) else {
            return exec_err!("the state of {NAME} is one list");
        };
        self.grow(total_num_groups);
        self.add_lists(lists, group_indices.iter().copied())
    }

    /// A group for each row.
    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |values| values.len());
        let mut each = Self::new(&self.state_type, self.null_is_empty);
        each.update_batch(values, &(0..rows).collect::<Vec<_>>(), opt_filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.ids.size()
            + self.pairs.size()
            + 4 * (self.before.capacity() + self.of_rows.capacity())
            + self.groups.capacity() * size_of::<Counted>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{DictionaryArray, Float64Array, StringArray, StringViewArray};
    use datafusion::arrow::datatypes::Int32Type;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn counts(array: &ArrayRef) -> Vec<i64> {
        array.as_primitive::<Int64Type>().values().to_vec()
    }

    /// A group, whether the row counts, and its value.
    type Row = (usize, bool, Option<i64>);

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let value = prop_oneof![-2_i64..70_000, any::<i64>(), 0_i64..4];
        prop::collection::vec(
            (0_usize..5, any::<bool>(), prop::option::weighted(0.9, value)),
            0..80,
        )
    }

    fn values(rows: &[Row], form: u8) -> ArrayRef {
        let numbers = rows.iter().map(|(_, _, value)| *value);
        let texts = numbers.clone().map(|value| value.map(|value| value.to_string()));
        match form % 5 {
            0 => Arc::new(numbers.collect::<Int64Array>()),
            1 => Arc::new(texts.collect::<StringViewArray>()),
            2 => Arc::new(texts.collect::<StringArray>()),
            3 => Arc::new(
                numbers
                    .map(|value| value.map(|value| f64::from_bits(value.cast_unsigned())))
                    .map(|real| real.filter(|real| !real.is_nan()))
                    .collect::<Float64Array>(),
            ),
            _ => {
                let texts: Vec<Option<String>> = texts.collect();
                let texts = texts.iter().map(Option::as_deref);
                Arc::new(texts.collect::<DictionaryArray<Int32Type>>())
            }
        }
    }

    proptest! {
        /// Batches go to two first phases, which give their groups away in parts to a last one.
        #[test]
        fn a_count_is_that_of_a_set(
            batches in prop::collection::vec(rows(), 1..8),
            form in 0_u8..5,
            null_is_empty: bool,
            part in 1_usize..6,
        ) {
            let data_type = values(&[], form).data_type().clone();
            let null_is_empty = null_is_empty && is_text(&data_type);
            let mut sets = vec![BTreeSet::new(); 5];
            let mut phases = [(); 2].map(|()| Groups::new(&data_type, null_is_empty));
            for (number, rows) in batches.iter().enumerate() {
                let of_rows: Vec<usize> = rows.iter().map(|row| row.0).collect();
                let filter: BooleanArray = rows.iter().map(|row| Some(row.1)).collect();
                let values = values(rows, form);
                for (row, (group, is_counted, value)) in rows.iter().enumerate() {
                    let is_null = values.is_null(row);
                    if *is_counted && (!is_null || null_is_empty) {
                        sets[*group].insert(value.filter(|_| !is_null));
                    }
                }
                for _again in 0..2 {
                    let phase = &mut phases[number % 2];
                    let values = [Arc::clone(&values)];
                    phase.update_batch(&values, &of_rows, Some(&filter), 5).unwrap();
                }
            }
            let mut last = Groups::new(&data_type, null_is_empty);
            last.grow(5);
            for mut phase in phases {
                phase.grow(5);
                let mut first = 0;
                while first < 5 {
                    let taken = part.min(5 - first);
                    let state = phase.state(EmitTo::First(taken)).unwrap();
                    let groups: Vec<usize> = (first..first + taken).collect();
                    last.merge_batch(&state, &groups, 5).unwrap();
                    first += taken;
                }
                prop_assert_eq!(phase.before.len(), 0, "what was given away is forgotten");
            }
            let rows = &batches[0];
            let each = last.convert_to_state(&[values(rows, form)], None).unwrap();
            let of_rows: Vec<usize> = rows.iter().map(|row| row.0).collect();
            let mut again = Groups::new(&data_type, null_is_empty);
            again.merge_batch(&each, &of_rows, 5).unwrap();
            let mut once = Groups::new(&data_type, null_is_empty);
            once.update_batch(&[values(rows, form)], &of_rows, None, 5).unwrap();
            let counted = [again, once].map(|mut one| counts(&one.evaluate(EmitTo::All).unwrap()));
            prop_assert_eq!(&counted[0], &counted[1]);
            let mut found = counts(&last.evaluate(EmitTo::First(2)).unwrap());
            found.extend(counts(&last.evaluate(EmitTo::All).unwrap()));
            let expected: Vec<i64> = sets.iter().map(|set| set.len() as i64).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn not_a_number_is_one_value_and_zeros_are_two() {
        let reals = [f64::NAN, f64::from_bits(f64::NAN.to_bits() | 1), 0.0, -0.0];
        let reals: ArrayRef = Arc::new(Float64Array::from(reals.to_vec()));
        let mut all = of_one_group(Groups::new(&DataType::Float64, false));
        all.update_batch(&[reals]).unwrap();
        assert_eq!(all.evaluate().unwrap(), datafusion::scalar::ScalarValue::Int64(Some(3)));
    }
}
