//! Aggregates that gather values into a dynamic one: lists, sets, bags, schemas, sketches.
//!
//! Their arguments are dynamic, and so is their state, which can be sent and merged.

mod collect;

mod hll;

mod percentiles;

mod schema;

mod sum;

mod tdigest;

pub(crate) use hll::Hll;
pub(crate) use tdigest::TDigest;

use crate::query::dynamic::{View, arrays_of, bounded};
use datafusion::arrow::array::{Array, ArrayRef, BinaryViewArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;
use std::fmt::Debug;
use std::sync::Arc;

/// What is gathered.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Gather {
    /// Values in their order; with a second argument in that one's order.
    List { nulls: bool, items_max: usize },
    /// Each value once.
    Set { items_max: usize },
    /// The members of bags, of those with one key the first.
    Bag { members_max: usize },
    /// The kinds of values at each place.
    Schema,
    /// The bits of the values' hashes from which their distinct count is reckoned.
    Hll { precision: u8 },
    /// Such sketches as one.
    HllMerge,
    /// Where values lie; a second argument is how often each counts.
    TDigest,
    /// Such sketches as one.
    TDigestMerge,
    /// Values at percentages of all, by the bits of each; a second argument is how often each counts.
    Percentiles { percents: Vec<u64> },
    /// The sum of decimals.
    Sum,
}

/// Gathers the values of one group.
trait Gatherer: Debug + Send + Sync {
    /// Takes a value, and the second argument where there is one.
    fn add(&mut self, value: Option<&[u8]>, second: Option<&[u8]>) -> Result<()>;

    /// Takes what another one gathered.
    fn merge(&mut self, state: &[u8]) -> Result<()>;

    /// What was gathered, for [`Self::merge`].
    fn state(&mut self) -> Vec<u8>;

    /// The answer; empty for null.
    fn finish(&mut self) -> Result<Vec<u8>>;

    /// How many bytes are held.
    fn size(&self) -> usize;
}

/// The aggregate of a kind.
pub(crate) fn gather(gather: Gather) -> AggregateUDF {
    AggregateUDF::from(GatherUdf {
        gather,
        signature: Signature::variadic_any(Volatility::Immutable),
    })
}

#[derive(Debug, Eq, Hash, PartialEq)]
struct GatherUdf {
    gather: Gather,
    signature: Signature,
}

impl AggregateUDFImpl for GatherUdf {
    fn name(&self) -> &'static str {
        match self.gather {
            Gather::List { .. } => "kql_make_list",
            Gather::Set { .. } => "kql_make_set",
            Gather::Bag { .. } => "kql_make_bag",
            Gather::Schema => "kql_buildschema",
            Gather::Hll { .. } => "kql_hll",
            Gather::HllMerge => "kql_hll_merge",
            Gather::TDigest => "kql_tdigest",
            Gather::TDigestMerge => "kql_tdigest_merge",
            Gather::Percentiles { .. } => "kql_percentiles",
            Gather::Sum => "kql_decimal_sum",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::BinaryView)
    }

    fn accumulator(&self, _args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let gatherer: Box<dyn Gatherer> = match &self.gather {
            Gather::List { nulls, items_max } => Box::new(collect::List::new(*nulls, *items_max)),
            Gather::Set { items_max } => Box::new(collect::Set::new(*items_max)),
            Gather::Bag { members_max } => Box::new(collect::Bag::new(*members_max)),
            Gather::Schema => Box::new(schema::Schema::default()),
            Gather::Hll { precision } => Box::new(Hll::new(*precision)),
            Gather::HllMerge => Box::new(hll::Merged::default()),
            Gather::TDigest => Box::new(TDigest::default()),
            Gather::TDigestMerge => Box::new(tdigest::Merged::default()),
            Gather::Percentiles { percents } => {
                Box::new(percentiles::Percentiles::new(percents.clone()))
            }
            Gather::Sum => Box::new(sum::Sum::default()),
        };
        Ok(Box::new(Gathering { gatherer }))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let name = format!("{}[gathered]", args.name);
        Ok(vec![Arc::new(Field::new(name, DataType::BinaryView, true))])
    }
}

#[derive(Debug)]
struct Gathering {
    gatherer: Box<dyn Gatherer>,
}

fn value(array: &BinaryViewArray, row: usize) -> Option<&[u8]> {
    array.is_valid(row).then(|| array.value(row))
}

impl Accumulator for Gathering {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let arrays = values.iter().map(arrays_of).collect::<Result<Vec<_>>>()?;
        let (first, second) = match arrays.as_slice() {
            [first] => (first, None),
            [first, second] => (first, Some(second)),
            _ => return exec_err!("one or two arguments are gathered"),
        };
        (0..first.len()).try_for_each(|row| {
            let second = second.and_then(|second| value(second, row));
            self.gatherer.add(value(first, row), second)
        })
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for state in states {
            let state = arrays_of(state)?;
            state.iter().flatten().try_for_each(|state| self.gatherer.merge(state))?;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::BinaryView(Some(self.gatherer.state()))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let value = self.gatherer.finish()?;
        bounded(&value)?;
        let null = matches!(View::of(&value), View::Null);
        Ok(ScalarValue::BinaryView((!null).then_some(value)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.gatherer.size()
    }
}
