//! `tdigest`: where values lie, as means of neighbours and how many each stands for.
//!
//! Up to [`MEANS_MAX`] values are kept as they are. A digest is a dynamic array of pairs of a mean
//! and a weight, in order; of values that are not real, the name of their type stands first.

use super::Gatherer;
use crate::query::dynamic::{View, Writer};
use crate::query::types::KqlType;
use datafusion::common::Result;

/// How many means a digest has at most.
const MEANS_MAX: usize = 1000;

/// How many values are taken before they are merged into the means.
const PENDING_MAX: usize = 4 * MEANS_MAX;

/// A digest of values.
#[derive(Clone, Debug, Default)]
pub(crate) struct TDigest {
    /// Means and weights; in order up to `sorted`.
    means: Vec<(f64, f64)>,
    /// The type of the values, once there is one; `Real` for those of several types.
    kql_type: Option<KqlType>,
}

impl TDigest {
    /// The digest that a dynamic value is.
    pub(crate) fn of_value(value: View<'_>) -> Option<Self> {
        let pairs = value.as_array()?;
        let mut digest = Self::default();
        let named = pairs.get(0).and_then(|first| match View::of(first) {
            View::Text(name) => KqlType::of_name(name),
            _ => None,
        });
        digest.kql_type = named.or(Some(KqlType::Real));
        for pair in pairs.iter().skip(usize::from(named.is_some())) {
            let pair = View::of(pair).as_array()?;
            let number = |at| pair.get(at).map(View::of).and_then(View::as_number);
            digest.push(number(0)?, number(1)?);
        }
        Some(digest)
    }

    pub(crate) fn write(&mut self, writer: &mut Writer<'_>) {
        self.compress();
        if self.means.is_empty() {
            return writer.null();
        }
        writer.array(|parts| {
            if let Some(named) = self.kql_type.filter(|kql_type| *kql_type != KqlType::Real) {
                parts.item(|writer| writer.text(named.name()));
            }
            for (mean, weight) in &self.means {
                parts.item(|writer| {
                    writer.array(|parts| {
                        parts.item(|writer| writer.real(*mean));
                        parts.item(|writer| writer.real(*weight));
                    });
                });
            }
        });
    }

    /// Takes a value that counts as often as its weight says.
    pub(crate) fn push(&mut self, value: f64, weight: f64) {
        let Some(weight) = bounded_weight(weight).filter(|_| !value.is_nan()) else { return };
        self.means.push((value, weight));
        if self.means.len() > PENDING_MAX {
            self.compress();
        }
    }

    /// Writes what the digest tells of its values, in a type or in their own.
    #[expect(clippy::cast_possible_truncation, reason = "ticks and longs were put in as such")]
    pub(crate) fn write_value(&self, value: f64, wanted: KqlType, writer: &mut Writer<'_>) {
        let own = self.kql_type.unwrap_or(KqlType::Real);
        match if wanted == KqlType::Dynamic { own } else { wanted } {
            KqlType::DateTime => writer.datetime(value.round() as i64),
            KqlType::TimeSpan => writer.timespan(value.round() as i64),
            KqlType::Int | KqlType::Long => writer.long(value as i64),
            _ => writer.real(value),
        }
    }

    fn is_of(&mut self, kql_type: Option<KqlType>) {
        let Some(kql_type) = kql_type else { return };
        let same = self.kql_type.is_none_or(|known| known == kql_type);
        self.kql_type = Some(if same { kql_type } else { KqlType::Real });
    }

    pub(crate) fn merge_with(&mut self, other: &Self) {
        self.is_of(other.kql_type);
        other.means.iter().for_each(|(mean, weight)| self.push(*mean, *weight));
    }

    fn total(&self) -> f64 {
        self.means.iter().map(|(_, weight)| weight).sum()
    }

    /// Brings means in order, and merges neighbours if there are too many. Those at the ends stand
    /// for fewest values, so that extreme percentiles are near.
    fn compress(&mut self) {
        self.means.sort_unstable_by(|(a, _), (b, _)| a.total_cmp(b));
        if self.means.len() <= MEANS_MAX {
            return;
        }
        let total = self.total();
        #[expect(clippy::cast_precision_loss, reason = "the bound is small")]
        let scale = |share: f64| {
            MEANS_MAX as f64 / 2.0
                * ((2.0 * share - 1.0).clamp(-1.0, 1.0).asin() / std::f64::consts::PI + 0.5)
        };
        let mut merged: Vec<(f64, f64)> = Vec::with_capacity(MEANS_MAX);
        let (mut before, mut first) = (0.0, 0.0);
        for (value, weight) in std::mem::take(&mut self.means) {
            let fits = scale((before + weight) / total) - scale(first / total) <= 1.0;
            match merged.last_mut() {
                Some((mean, known)) if *mean == value => *known += weight,
                // An infinite one is not the mean of any others.
                Some((mean, known)) if fits && mean.is_finite() && value.is_finite() => {
                    *known += weight;
                    let share = weight / *known;
                    *mean = *mean * (1.0 - share) + value * share;
                }
                _ => {
                    first = before;
                    merged.push((value, weight));
                }
            }
            before += weight;
        }
        self.means = merged;
    }

    /// The value that a percentage of all is at most.
    pub(crate) fn percentile(&mut self, percent: f64) -> Option<f64> {
        self.compress();
        at_percentile(&self.means, percent)
    }

    /// How many values are at most this one.
    pub(crate) fn rank(&mut self, value: f64) -> f64 {
        self.compress();
        self.means.iter().take_while(|(mean, _)| *mean <= value).map(|(_, weight)| weight).sum()
    }

    /// How many values there are.
    pub(crate) fn count(&self) -> f64 {
        self.total()
    }
}

/// A weight of which any number have a finite sum; `None` if it is no weight.
pub(super) fn bounded_weight(weight: f64) -> Option<f64> {
    // What a long can count.
    const WEIGHT_MAX: f64 = 9_223_372_036_854_775_808.0;
    (weight > 0.0 && weight.is_finite()).then_some(weight.min(WEIGHT_MAX))
}

/// The first of ordered values whose weight, with those before it, is the percentage of all.
pub(super) fn at_percentile(values: &[(f64, f64)], percent: f64) -> Option<f64> {
    if percent.is_nan() {
        return None;
    }
    let total: f64 = values.iter().map(|(_, weight)| weight).sum();
    let wanted = percent.clamp(0.0, 100.0) / 100.0 * total;
    let mut sum = 0.0;
    for (value, weight) in values {
        sum += weight;
        if sum >= wanted {
            return Some(*value);
        }
    }
    values.last().map(|(value, _)| *value)
}

/// The number that a value is for a digest: times as their ticks.
#[expect(clippy::cast_precision_loss, reason = "a digest holds reals")]
pub(super) fn number(value: &[u8]) -> Option<f64> {
    match View::of(value) {
        View::DateTime(ticks) | View::TimeSpan(ticks) => Some(ticks as f64),
        other => other.as_number(),
    }
}

fn type_of(value: &[u8]) -> KqlType {
    match View::of(value) {
        View::DateTime(_) => KqlType::DateTime,
        View::TimeSpan(_) => KqlType::TimeSpan,
        View::Long(_) => KqlType::Long,
        _ => KqlType::Real,
    }
}

impl Gatherer for TDigest {
    fn add(&mut self, value: Option<&[u8]>, second: Option<&[u8]>) -> Result<()> {
        if let Some((value, kql_type)) = value.and_then(|of| Some((number(of)?, type_of(of)))) {
            self.is_of(Some(kql_type));
            self.push(value, second.and_then(number).unwrap_or(1.0));
        }
        Ok(())
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        if let Some(other) = Self::of_value(View::of(state)) {
            self.merge_with(&other);
        }
        Ok(())
    }

    fn state(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut Writer::new(&mut out));
        out
    }

    fn finish(&mut self) -> Result<Vec<u8>> {
        Ok(self.state())
    }

    fn size(&self) -> usize {
        self.means.capacity() * size_of::<(f64, f64)>()
    }
}

/// Digests of a column as one; null if there is none.
#[derive(Debug, Default)]
pub(super) struct Merged(TDigest);

impl Gatherer for Merged {
    fn add(&mut self, value: Option<&[u8]>, _second: Option<&[u8]>) -> Result<()> {
        value.map_or(Ok(()), |value| self.0.merge(value))
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        self.0.merge(state)
    }

    fn state(&mut self) -> Vec<u8> {
        self.0.state()
    }

    fn finish(&mut self) -> Result<Vec<u8>> {
        self.0.finish()
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_values_are_exact_and_many_are_near() {
        let mut few = TDigest::default();
        (1..=10).for_each(|value| few.push(value.into(), 1.0));
        assert_eq!(few.percentile(50.0), Some(5.0));
        assert_eq!(few.percentile(100.0), Some(10.0));
        let mut many = TDigest::default();
        (0..100_000).for_each(|value| many.push((value * 7919 % 100_000).into(), 1.0));
        many.compress();
        assert!(many.means.len() <= MEANS_MAX, "{}", many.means.len());
        assert!((many.percentile(50.0).expect("a value") - 50_000.0).abs() < 500.0);
        assert!((many.percentile(99.9).expect("a value") - 99_900.0).abs() < 50.0);
        assert!((many.count() - 100_000.0).abs() < 1e-6);
    }

    #[test]
    fn extremes_do_not_spoil_a_digest() {
        let mut digest = TDigest::default();
        for at in 0..20_000_u32 {
            let extremes = [f64::MAX, f64::MIN, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
            extremes.into_iter().for_each(|value| digest.push(value, f64::MAX));
            digest.push(f64::from(at), f64::MAX);
        }
        [f64::INFINITY, f64::NAN, 0.0, -1.0]
            .into_iter()
            .for_each(|weight| digest.push(7.5, weight));
        digest.compress();
        assert!(digest.means.len() <= MEANS_MAX + 4, "{}", digest.means.len());
        assert!(digest.count().is_finite());
        assert!(digest.means.iter().all(|(mean, weight)| !mean.is_nan() && weight.is_finite()));
        assert_eq!(digest.percentile(0.0), Some(f64::NEG_INFINITY));
        assert_eq!(digest.percentile(100.0), Some(f64::INFINITY));
        assert!((digest.percentile(50.0).expect("a value") - 10_000.0).abs() < 500.0);
        assert_eq!(digest.percentile(f64::NAN), None);
    }

    #[test]
    fn a_digest_survives_as_a_value() {
        let mut digest = TDigest::default();
        (1..=5).for_each(|value| digest.push(value.into(), 2.0));
        let bytes = digest.state();
        let mut again = TDigest::of_value(View::of(&bytes)).expect("a digest");
        assert_eq!(again.percentile(40.0), Some(2.0));
        assert!((again.rank(3.5) - 6.0).abs() < 1e-9);
    }
}
