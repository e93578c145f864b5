//! `hll`: how many distinct values there are, reckoned from the bits of their hashes.
//!
//! Until there are [`EXACT_MAX`] of them the hashes themselves are kept, and the count is exact.
//! A sketch is a dynamic array: the precision, and either an array of hashes or a string of one
//! character for each register.

use super::Gatherer;
use crate::query::dynamic::{View, Writer};
use datafusion::common::Result;
use std::collections::BTreeSet;

/// How many hashes are kept before they are counted by registers.
const EXACT_MAX: usize = 1024;

/// The precision of each accuracy of the language, 0 to 4.
const PRECISIONS: [u8; 5] = [12, 14, 16, 17, 18];

/// The first character of a register's value, 0.
const ZERO: u8 = b' ';

/// A sketch of distinct values.
#[derive(Clone, Debug)]
pub(crate) struct Hll {
    precision: u8,
    hashes: BTreeSet<u64>,
    /// The longest run of zeros of each register, and one more; empty while hashes are kept.
    registers: Vec<u8>,
}

/// A hash that is the same on every machine.
fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // Mixes the bits, so that all of them depend on all bytes.
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

impl Hll {
    pub(crate) const fn new(precision: u8) -> Self {
        Self { precision, hashes: BTreeSet::new(), registers: Vec::new() }
    }

    /// The precision of an accuracy from 0 to 4.
    pub(crate) fn precision_of(accuracy: i64) -> Option<u8> {
        PRECISIONS.get(usize::try_from(accuracy).ok()?).copied()
    }

    /// The sketch that a dynamic value is.
    pub(crate) fn of_value(value: View<'_>) -> Option<Self> {
        let both = value.as_array()?;
        let View::Long(precision) = View::of(both.get(0)?) else { return None };
        let precision = u8::try_from(precision).ok().filter(|p| PRECISIONS.contains(p))?;
        let mut sketch = Self::new(precision);
        match View::of(both.get(1)?) {
            View::Array(hashes) => {
                for hash in hashes.iter() {
                    let View::Long(hash) = View::of(hash) else { return None };
                    sketch.add_hash(hash.cast_unsigned());
                }
            }
            View::Text(text) if text.len() == 1 << precision => {
                sketch.registers = text.bytes().map(|c| c.saturating_sub(ZERO).min(64)).collect();
            }
            _ => return None,
        }
        Some(sketch)
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.array(|parts| {
            parts.item(|writer| writer.long(self.precision.into()));
            parts.item(|writer| {
                if self.registers.is_empty() {
                    writer.array(|parts| {
                        for hash in &self.hashes {
                            parts.item(|writer| writer.long(hash.cast_signed()));
                        }
                    });
                } else {
                    let text: String =
                        self.registers.iter().map(|run| char::from(run + ZERO)).collect();
                    writer.text(&text);
                }
            });
        });
    }

    fn add_value(&mut self, bytes: &[u8]) {
        self.add_hash(hash(bytes));
    }

    fn add_hash(&mut self, hash: u64) {
        if !self.registers.is_empty() {
            return self.count_hash(hash);
        }
        self.hashes.insert(hash);
        if self.hashes.len() > EXACT_MAX {
            self.count_by_registers();
        }
    }

    fn count_by_registers(&mut self) {
        if self.registers.is_empty() {
            self.registers = vec![0; 1 << self.precision];
            for hash in std::mem::take(&mut self.hashes) {
                self.count_hash(hash);
            }
        }
    }

    fn count_hash(&mut self, hash: u64) {
        let register = usize::try_from(hash >> (64 - self.precision)).unwrap_or(0);
        let rest = hash << self.precision;
        let longest = 64 - u32::from(self.precision);
        let run = u8::try_from(rest.leading_zeros().min(longest) + 1).unwrap_or(0);
        if let Some(known) = self.registers.get_mut(register) {
            *known = (*known).max(run);
        }
    }

    /// Fewer registers that hold the same.
    fn coarser(mut self, precision: u8) -> Self {
        while self.precision > precision {
            let halves = self.registers.chunks(2).map(|pair| match pair {
                // The last bit of the register's number becomes the first of the rest.
                [even, _] if *even > 0 => even + 1,
                [_, odd] if *odd > 0 => 1,
                _ => 0,
            });
            self.registers = halves.collect();
            self.precision -= 1;
        }
        self
    }

    pub(crate) fn merge_with(&mut self, other: Self) {
        if self.registers.is_empty() && other.registers.is_empty() {
            self.precision = self.precision.min(other.precision);
            other.hashes.into_iter().for_each(|hash| self.add_hash(hash));
            return;
        }
        let precision = self.precision.min(other.precision);
        let mut other = other;
        other.count_by_registers();
        self.count_by_registers();
        let mine = std::mem::replace(self, Self::new(precision)).coarser(precision);
        let other = other.coarser(precision);
        *self = mine;
        for (known, run) in self.registers.iter_mut().zip(&other.registers) {
            *known = (*known).max(*run);
        }
    }

    /// How many distinct values there are.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "an estimate of a count"
    )]
    pub(crate) fn count(&self) -> i64 {
        if self.registers.is_empty() {
            return i64::try_from(self.hashes.len()).unwrap_or(i64::MAX);
        }
        let count = self.registers.len() as f64;
        let sum: f64 = self.registers.iter().map(|run| 0.5_f64.powi((*run).into())).sum();
        let estimate = 0.7213 / (1.0 + 1.079 / count) * count * count / sum;
        let empty = self.registers.iter().filter(|run| **run == 0).count();
        if estimate <= 2.5 * count && empty > 0 {
            return (count * (count / empty as f64).ln()).round() as i64;
        }
        estimate.round() as i64
    }
}

impl Gatherer for Hll {
    fn add(&mut self, value: Option<&[u8]>, _second: Option<&[u8]>) -> Result<()> {
        value.into_iter().for_each(|value| self.add_value(value));
        Ok(())
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        if let Some(other) = Self::of_value(View::of(state)) {
            self.merge_with(other);
        }
        Ok(())
    }

    fn state(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut Writer::new(&mut out));
        out
    }

    fn finish(&mut self) -> Result<Vec<u8>> {
        if self.registers.is_empty() && self.hashes.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.state())
    }

    fn size(&self) -> usize {
        self.registers.capacity() + self.hashes.len() * 2 * size_of::<u64>()
    }
}

/// Sketches of a column as one; null if there is none.
#[derive(Debug, Default)]
pub(super) struct Merged(Option<Hll>);

impl Gatherer for Merged {
    fn add(&mut self, value: Option<&[u8]>, _second: Option<&[u8]>) -> Result<()> {
        value.map_or(Ok(()), |value| self.merge(value))
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        match (&mut self.0, Hll::of_value(View::of(state))) {
            (_, None) => {}
            (Some(known), Some(other)) => known.merge_with(other),
            (none, Some(first)) => *none = Some(first),
        }
        Ok(())
    }

    fn state(&mut self) -> Vec<u8> {
        self.0.as_mut().map(Gatherer::state).unwrap_or_default()
    }

    fn finish(&mut self) -> Result<Vec<u8>> {
        Ok(self.state())
    }

    fn size(&self) -> usize {
        self.0.as_ref().map_or(0, Gatherer::size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: std::ops::Range<u32>, precision: u8) -> Hll {
        let mut sketch = Hll::new(precision);
        values.for_each(|value| sketch.add_value(&value.to_le_bytes()));
        sketch
    }

    fn near(found: i64, expect: i64) {
        assert!((found - expect).abs() * 50 <= expect, "{found} is not near {expect}");
    }

    #[test]
    fn counts_are_near_and_few_are_exact() {
        assert_eq!(of(0..1000, 14).count(), 1000);
        near(of(0..20_000, 14).count(), 20_000);
        near(of(0..200_000, 14).count(), 200_000);
    }

    #[test]
    fn merged_sketches_count_what_either_saw() {
        let mut merged = of(0..30_000, 14);
        merged.merge_with(of(20_000..50_000, 12));
        assert_eq!(merged.precision, 12);
        assert!((merged.count() - 50_000).abs() < 2_500, "{}", merged.count());
        let mut few = of(0..10, 14);
        few.merge_with(of(5..15, 14));
        assert_eq!(few.count(), 15);
    }

    #[test]
    fn sketches_survive_as_values() {
        for values in [0..10, 0..10_000] {
            let mut sketch = of(values, 12);
            let bytes = sketch.state();
            let again = Hll::of_value(View::of(&bytes)).expect("a sketch");
            assert_eq!(again.count(), sketch.count());
        }
    }
}
