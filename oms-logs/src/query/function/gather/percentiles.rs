//! Percentiles of weighted values, exact: every value of a group is kept.

use super::Gatherer;
use super::tdigest::{bounded_weight, number};
use crate::query::dynamic::{View, Writer};
use datafusion::common::Result;

/// Values of a group, with how often each counts.
#[derive(Debug)]
pub(super) struct Percentiles {
    /// The percentages, by their bits.
    percents: Vec<u64>,
    /// The values in their form in memory.
    values: Vec<(Box<[u8]>, f64)>,
    bytes: usize,
}

impl Percentiles {
    pub(super) const fn new(percents: Vec<u64>) -> Self {
        Self { percents, values: Vec::new(), bytes: 0 }
    }
}

/// The value whose weight, with those before it, is the percentage of all.
fn at_percentile(values: &[(Box<[u8]>, f64)], percent: f64) -> Option<&[u8]> {
    let total: f64 = values.iter().map(|(_, weight)| weight).sum();
    let wanted = percent.clamp(0.0, 100.0) / 100.0 * total;
    let mut sum = 0.0;
    let found = values.iter().find(|(_, weight)| {
        sum += weight;
        sum >= wanted
    });
    found.or(values.last()).map(|(value, _)| &**value)
}

impl Gatherer for Percentiles {
    fn add(&mut self, value: Option<&[u8]>, second: Option<&[u8]>) -> Result<()> {
        let weight = second.map_or(Some(1.0), number).and_then(bounded_weight);
        if let (Some(value), Some(weight)) = (value, weight) {
            self.bytes += value.len();
            self.values.push((value.into(), weight));
        }
        Ok(())
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        let Some(pairs) = View::of(state).as_array() else { return Ok(()) };
        pairs.iter().filter_map(|pair| View::of(pair).as_array()).try_for_each(|pair| {
            let weight = pair.get(1);
            self.add(pair.get(0), weight)
        })
    }

    fn state(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let values = std::mem::take(&mut self.values);
        Writer::new(&mut out).array(|parts| {
            for (value, weight) in &values {
                parts.item(|writer| {
                    writer.array(|parts| {
                        parts.item(|writer| writer.raw(value));
                        parts.item(|writer| writer.real(*weight));
                    });
                });
            }
        });
        out
    }

    fn finish(&mut self) -> Result<Vec<u8>> {
        self.values.sort_by(|(a, _), (b, _)| View::of(a).order(View::of(b)));
        let mut out = Vec::new();
        Writer::new(&mut out).array(|parts| {
            for percent in &self.percents {
                let value = at_percentile(&self.values, f64::from_bits(*percent));
                parts.item(|writer| writer.raw(value.unwrap_or_default()));
            }
        });
        Ok(out)
    }

    fn size(&self) -> usize {
        self.bytes + self.values.capacity() * size_of::<(Box<[u8]>, f64)>()
    }
}
