//! The sum of decimals.

use super::Gatherer;
use crate::query::decimal::Decimal;
use crate::query::dynamic::{Value, View};
use datafusion::common::{Result, exec_err};

/// A sum so far; zero of no values.
#[derive(Debug, Default)]
pub(super) struct Sum(Decimal);

impl Gatherer for Sum {
    fn add(&mut self, value: Option<&[u8]>, _second: Option<&[u8]>) -> Result<()> {
        let Some(value) = value else { return Ok(()) };
        let View::Decimal(digits) = View::of(value) else { return Ok(()) };
        let Some(sum) = digits.parse().ok().and_then(|value| self.0.add(value)) else {
            return exec_err!("the sum of decimals is out of range");
        };
        self.0 = sum;
        Ok(())
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        self.add(Some(state), None)
    }

    fn state(&mut self) -> Vec<u8> {
        Value::Decimal(self.0.to_string()).to_bytes().unwrap_or_default()
    }

    fn finish(&mut self) -> Result<Vec<u8>> {
        Ok(self.state())
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }
}
