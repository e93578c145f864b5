//! The nearest-rank percentile as a DataFusion aggregate. It is exact: it keeps every value of a
//! group in memory, which the query's memory limit bounds.

use super::arguments::longs;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;
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
        let values = match args.return_field.data_type() {
            DataType::Int64 => Values::Long(Vec::new()),
            _ => Values::Real(Vec::new()),
        };
        Ok(Box::new(Collected { percent: self.percent, values }))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let item = Field::new_list_field(args.return_field.data_type().clone(), true);
        Ok(vec![Arc::new(Field::new_list(format!("{}[values]", args.name), item, true))])
    }
}

#[derive(Debug)]
enum Values {
    Long(Vec<i64>),
    Real(Vec<f64>),
}

#[derive(Debug)]
struct Collected {
    percent: f64,
    values: Values,
}

impl Collected {
    fn add(&mut self, array: &ArrayRef) -> Result<()> {
        match &mut self.values {
            Values::Long(values) => values.extend(longs(array)?.iter().flatten()),
            Values::Real(values) => match array.as_primitive_opt::<Float64Type>() {
                Some(array) => values.extend(array.iter().flatten()),
                None => return exec_err!("percentile expects reals"),
            },
        }
        Ok(())
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

impl Accumulator for Collected {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        values.iter().try_for_each(|array| self.add(array))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(match &mut self.values {
            Values::Long(values) => ScalarValue::Int64(
                rank(self.percent, values.len()).map(|at| *values.select_nth_unstable(at).1),
            ),
            Values::Real(values) => ScalarValue::Float64(
                rank(self.percent, values.len())
                    .map(|at| *values.select_nth_unstable_by(at, f64::total_cmp).1),
            ),
        })
    }

    fn size(&self) -> usize {
        size_of_val(self)
            + match &self.values {
                Values::Long(values) => values.capacity() * size_of::<i64>(),
                Values::Real(values) => values.capacity() * size_of::<f64>(),
            }
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let (array, item): (ArrayRef, _) = match &self.values {
            Values::Long(values) => (Arc::new(Int64Array::from(values.clone())), DataType::Int64),
            Values::Real(values) => {
                (Arc::new(Float64Array::from(values.clone())), DataType::Float64)
            }
        };
        let values = (0..array.len())
            .map(|at| ScalarValue::try_from_array(&array, at))
            .collect::<Result<Vec<_>>>()?;
        Ok(vec![ScalarValue::List(ScalarValue::new_list_nullable(&values, &item))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for state in states {
            let Some(lists) = state.as_list_opt::<i32>() else {
                return exec_err!("percentile expects lists");
            };
            for list in lists.iter().flatten() {
                // Values outside the calendar were dropped when they were first read.
                match &mut self.values {
                    Values::Long(values) => {
                        values.extend(list.as_primitive::<Int64Type>().iter().flatten());
                    }
                    Values::Real(_) => self.add(&list)?,
                }
            }
        }
        Ok(())
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
