//! Numbers and guids that are different in each row.

use crate::query::types::KqlType;
use datafusion::arrow::array::{Array, ArrayRef, Float64Array, Int64Array, StringViewArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One call in a query of a function that draws at random.
#[derive(Debug)]
struct Random {
    /// What is drawn follows from this and from how much was drawn before.
    seed: u64,
    drawn: AtomicU64,
    returns: KqlType,
    signature: Signature,
}

/// The function of a call: a guid, or a real from 0 to below 1, or a whole one from 0 to below the
/// argument.
pub(crate) fn random(seed: u64, returns: KqlType, arguments: usize) -> ScalarUDF {
    let signature = match arguments {
        0 => Signature::nullary(Volatility::Volatile),
        count => Signature::any(count, Volatility::Volatile),
    };
    ScalarUDF::from(Random { seed, drawn: AtomicU64::new(0), returns, signature })
}

impl PartialEq for Random {
    fn eq(&self, other: &Self) -> bool {
        self.seed == other.seed && self.returns == other.returns
    }
}

impl Eq for Random {}

impl Hash for Random {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.seed, self.returns).hash(state);
    }
}

/// The number at a place of a sequence (SplitMix64).
const fn number(seed: u64, at: u64) -> u64 {
    let mut mixed = seed.wrapping_add(at.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// From 0 to below 1, in steps of 2^-53.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
fn fraction(number: u64) -> f64 {
    (number >> 11) as f64 / (1_u64 << 53) as f64
}

impl ScalarUDFImpl for Random {
    fn name(&self) -> &str {
        "random"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.returns.computed_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows as u64;
        let first = self.drawn.fetch_add(rows.saturating_mul(2), Ordering::Relaxed);
        let numbers = (0..rows).map(|row| {
            let at = first.wrapping_add(row.wrapping_mul(2));
            (number(self.seed, at), number(self.seed, at + 1))
        });
        let array: ArrayRef = if self.returns == KqlType::Guid {
            let guids = numbers.map(|(high, low)| {
                let bytes = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
                Some(uuid::Builder::from_random_bytes(bytes).into_uuid().to_string())
            });
            Arc::new(guids.collect::<StringViewArray>())
        } else {
            let bounds = match args.args.first() {
                Some(bound) => {
                    let bound = bound.clone().into_array(args.number_rows)?;
                    Some(Int64Array::from(cast(&bound, &DataType::Int64)?.to_data()))
                }
                None => None,
            };
            let reals = numbers.enumerate().map(|(row, (number, _))| match &bounds {
                Some(bounds) if bounds.is_null(row) => None,
                Some(bounds) => Some(below(number, bounds.value(row))),
                None => Some(fraction(number)),
            });
            Arc::new(reals.collect::<Float64Array>())
        };
        Ok(ColumnarValue::Array(array))
    }
}

/// A whole number from 0 to below the bound; a bound that is not above 1 gives a fraction.
#[expect(clippy::cast_precision_loss, reason = "the function answers with a real")]
fn below(number: u64, bound: i64) -> f64 {
    match u64::try_from(bound) {
        Ok(bound @ 2..) => ((u128::from(number) * u128::from(bound)) >> 64) as f64,
        _ => fraction(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_stay_in_range() {
        let mut sum = 0.0;
        for at in 0..10_000 {
            let number = number(7, at);
            assert!((0.0..1.0).contains(&fraction(number)));
            assert!((0.0..3.0).contains(&below(number, 3)));
            sum += fraction(number);
        }
        assert!((sum / 10_000.0 - 0.5).abs() < 0.02);
    }
}
