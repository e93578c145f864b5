//! Periods of series, and series in parts: season, trend and the rest.

use super::super::budget;
use super::filter::fourier;
use super::statistics::{fit_line, mean, quantile};

/// The least period, in elements.
const PERIOD_MIN: usize = 4;

/// The score from which an unasked period counts, unless the caller says otherwise.
pub(super) const THRESHOLD_DEFAULT: f64 = 0.6;

/// How a series resembles itself some elements later, for the lags up to half of it.
#[derive(Debug)]
struct Resemblance {
    count: usize,
    /// From lag 0; 1 is the same.
    by_lag: Vec<f64>,
}

impl Resemblance {
    /// `None` for a series that is too short or does not vary.
    fn new(series: &[f64]) -> Option<Self> {
        let count = series.len();
        if count < 2 * PERIOD_MIN {
            return None;
        }
        let mean = mean(series);
        // The correlation is the transform of the power, where zeros keep the ends apart.
        let mut padded = vec![(0.0, 0.0); (2 * count).next_power_of_two()];
        padded.iter_mut().zip(series).for_each(|(to, value)| to.0 = value - mean);
        let power: Vec<_> =
            fourier(&padded, false).into_iter().map(|(re, im)| (re * re + im * im, 0.0)).collect();
        let correlation = fourier(&power, true);
        let whole = correlation.first()?.0;
        let scale = mean.abs().max(1.0);
        if whole <= 1e-18 * scale * scale * count as f64 {
            return None;
        }
        let by_lag = correlation.iter().take(count / 2 + 1).map(|(re, _)| re / whole).collect();
        Some(Self { count, by_lag })
    }

    /// How significant a period is, from 0 to 1; 0 unless it stands out among its neighbors.
    fn score(&self, period: usize) -> f64 {
        if period < PERIOD_MIN || period >= self.by_lag.len() {
            return 0.0;
        }
        let reach = (period / 4).max(1);
        let around = period - reach..(period + reach + 1).min(self.by_lag.len());
        let own = self.by_lag[period];
        let all = around.len();
        let higher = self.by_lag[around].iter().position(|other| *other > own);
        if budget::steps(higher.unwrap_or(all)).is_none() || higher.is_some() {
            return 0.0;
        }
        // Between the correlation and the one that makes up for the elements without a partner.
        let partners = (self.count - period) as f64;
        (own * (self.count as f64 / partners).sqrt()).clamp(0.0, 1.0)
    }
}

/// The most significant periods between two bounds and their scores, the best first.
pub(super) fn detect(series: &[f64], least: f64, most: f64, count: usize) -> Vec<(f64, f64)> {
    let Some(resemblance) = Resemblance::new(series) else { return Vec::new() };
    // The correlation that one of twenty series without any period exceeds.
    let chance = 1.96 / (series.len() as f64).sqrt();
    // A peak needs an element on either side.
    let periods = PERIOD_MIN..resemblance.by_lag.len().saturating_sub(1);
    let mut found: Vec<(usize, f64)> = periods
        .filter(|period| (least..=most).contains(&(*period as f64)))
        .map(|period| (period, resemblance.score(period)))
        .filter(|(_, score)| *score > chance)
        .collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut kept: Vec<(usize, f64)> = Vec::new();
    for (period, score) in found {
        // What repeats in a period also repeats in its multiples.
        if kept.len() < count && !kept.iter().any(|(better, _)| period.is_multiple_of(*better)) {
            kept.push((period, score));
        }
    }
    kept.into_iter().map(|(period, score)| (period as f64, score)).collect()
}

/// The score of each period.
pub(super) fn validate(series: &[f64], periods: &[f64]) -> Vec<f64> {
    let resemblance = Resemblance::new(series);
    let score = |period: &f64| {
        let valid = *period >= PERIOD_MIN as f64 && *period <= series.len() as f64 / 2.0;
        match &resemblance {
            Some(resemblance) if valid => resemblance.score(period.round() as usize),
            _ => 0.0,
        }
    };
    periods.iter().map(score).collect()
}

/// The period to take the season of: the given one, or the best one if that is negative.
fn period_of(series: &[f64], season: i64, threshold: f64) -> Option<usize> {
    if season >= 0 {
        return usize::try_from(season).ok().filter(|period| *period > 0);
    }
    let (period, score) = *detect(series, 0.0, series.len() as f64, 1).first()?;
    (score >= threshold).then_some(period as usize)
}

/// The middle of the values of each place in the period, repeated for `count` elements.
fn repeated(series: &[f64], period: usize, count: usize) -> Vec<f64> {
    let middles: Vec<f64> = (0..period.min(series.len()))
        .map(|phase| {
            let mut values: Vec<f64> = series.iter().skip(phase).step_by(period).copied().collect();
            values.sort_by(f64::total_cmp);
            quantile(&values, 50.0).unwrap_or_default()
        })
        .collect();
    if period > series.len() {
        return vec![0.0; count];
    }
    (0..count).map(|at| middles[at % period]).collect()
}

/// The elements that are learned from: all but the last ones.
fn learned(series: &[f64], test_points: usize) -> &[f64] {
    series.get(..series.len().saturating_sub(test_points)).unwrap_or_default()
}

/// The seasonal part of a series: zero where there is no period.
pub(super) fn seasonal(
    series: &[f64],
    season: i64,
    test_points: usize,
    threshold: f64,
) -> Vec<f64> {
    let known = learned(series, test_points);
    match period_of(known, season, threshold) {
        Some(period) => repeated(known, period, series.len()),
        None => vec![0.0; series.len()],
    }
}

/// What goes through a series.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Trend {
    Average,
    Line,
    None,
}

impl Trend {
    pub(super) fn of_name(name: &str) -> Option<Self> {
        match name {
            "avg" => Some(Self::Average),
            "linefit" => Some(Self::Line),
            "none" => Some(Self::None),
            _ => None,
        }
    }

    /// The trend that some values have, for `count` elements.
    fn of(self, known: &[f64], count: usize) -> Vec<f64> {
        if known.is_empty() {
            return vec![0.0; count];
        }
        match self {
            Self::None => vec![0.0; count],
            Self::Average => vec![mean(known); count],
            Self::Line => match fit_line(known, 0.0) {
                Some(fit) => {
                    (0..count).map(|at| fit.interception + fit.slope * at as f64).collect()
                }
                None => vec![0.0; count],
            },
        }
    }
}

/// A series in parts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parts {
    /// Season and trend.
    pub(super) baseline: Vec<f64>,
    pub(super) seasonal: Vec<f64>,
    pub(super) trend: Vec<f64>,
    /// What is left.
    pub(super) residual: Vec<f64>,
}

/// How a series is taken apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choices {
    /// The period; 0 for none, and less to detect it.
    pub(super) season: i64,
    pub(super) trend: Trend,
    /// How many elements at the end are not learned from.
    pub(super) test_points: usize,
    /// The least score of a detected period.
    pub(super) threshold: f64,
}

pub(super) fn decompose(series: &[f64], choices: Choices) -> Parts {
    let known = learned(series, choices.test_points);
    let count = series.len();
    // A line through the series would hide its period.
    let flat: Vec<f64> = match choices.trend {
        Trend::Line => {
            let line = Trend::Line.of(known, known.len());
            known.iter().zip(line).map(|(value, line)| value - line).collect()
        }
        Trend::Average | Trend::None => known.to_vec(),
    };
    let seasonal = match period_of(&flat, choices.season, choices.threshold) {
        Some(period) => repeated(&flat, period, count),
        None => vec![0.0; count],
    };
    let unseasonal: Vec<f64> = known.iter().zip(&seasonal).map(|(value, s)| value - s).collect();
    let trend = choices.trend.of(&unseasonal, count);
    let baseline: Vec<f64> = seasonal.iter().zip(&trend).map(|(s, t)| s + t).collect();
    let residual = series.iter().zip(&baseline).map(|(value, base)| value - base).collect();
    Parts { baseline, seasonal, trend, residual }
}

/// How values are told from others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fence {
    /// By the quartiles.
    Quartiles,
    /// By the quartiles of what is below, and of what is above, a percentage.
    Trimmed { low: f64, high: f64 },
}

/// By how many ranges between the quartiles a value is above the upper or below the lower one.
pub(super) fn outliers(series: &[Option<f64>], fence: Fence, test_points: usize) -> Vec<f64> {
    let known = series.get(..series.len().saturating_sub(test_points)).unwrap_or_default();
    let mut sorted: Vec<f64> = known.iter().flatten().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let quartiles = |values: &[f64]| Some((quantile(values, 25.0)?, quantile(values, 75.0)?));
    let Some(all) = quartiles(&sorted) else { return vec![0.0; series.len()] };
    let (below, above) = match fence {
        Fence::Quartiles => (all, all),
        Fence::Trimmed { low, high } => {
            let index = |percent: f64| (sorted.len() as f64 * percent / 100.0).floor() as usize;
            let (from, to) = (index(low).min(sorted.len()), index(high).min(sorted.len()));
            (quartiles(&sorted[from..]).unwrap_or(all), quartiles(&sorted[..to]).unwrap_or(all))
        }
    };
    let noise = sorted.iter().map(|value| value.abs()).fold(0.0, f64::max) * 1e-12;
    let score = |value: f64| {
        let (border, (low, high)) = if value > all.1 {
            (above.1, above)
        } else if value < all.0 {
            (below.0, below)
        } else {
            return 0.0;
        };
        // Without a range, whatever is out of it is infinitely so, except for what rounding makes.
        if (value - border).abs() <= noise { 0.0 } else { (value - border) / (high - low) }
    };
    series.iter().map(|value| value.filter(|v| v.is_finite()).map_or(0.0, score)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALES: [f64; 28] = [
        5.0, 6.0, 7.0, 6.0, 5.0, 1.0, 0.0, 5.0, 6.0, 7.0, 7.0, 5.0, 1.0, 0.0, 5.0, 6.0, 8.0, 6.0,
        5.0, 1.0, 0.0, 5.0, 6.0, 7.0, 6.0, 5.0, 2.0, 0.0,
    ];

    #[test]
    fn a_period_is_found_and_its_multiples_are_not() {
        let found = detect(&SALES, 0.0, 28.0, 3);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, 7.0);
        assert!(found[0].1 > 0.8);
        assert!(detect(&SALES, 8.0, 28.0, 3).iter().all(|(period, _)| *period != 7.0));
        assert_eq!(detect(&[1.0; 40], 0.0, 40.0, 3), []);
        assert_eq!(detect(&[1.0, 2.0], 0.0, 40.0, 3), []);
    }

    #[test]
    fn a_score_is_high_for_a_period_alone() {
        let scores = validate(&SALES, &[7.0, 5.0, 3.0, 15.0]);
        assert!(scores[0] > 0.8);
        assert_eq!(scores[1..], [0.0, 0.0, 0.0]);
    }

    #[test]
    fn a_season_is_the_middle_of_each_phase() {
        let expect = [5.0, 6.0, 7.0, 6.0, 5.0, 1.0, 0.0];
        let season = seasonal(&SALES, -1, 0, THRESHOLD_DEFAULT);
        assert_eq!(season[..7], expect);
        assert_eq!(season[7..14], expect);
        assert_eq!(seasonal(&[1.0, 3.0, 2.0, 4.0], 2, 0, 0.6), [1.5, 3.5, 1.5, 3.5]);
        assert_eq!(seasonal(&[1.0, 3.0, 2.0, 4.0], -1, 0, 0.6), [0.0; 4]);
        assert_eq!(seasonal(&[1.0, 3.0], 9, 0, 0.6), [0.0; 2]);
    }

    #[test]
    fn parts_add_up_and_a_trend_goes_on() {
        let rising: Vec<f64> =
            SALES.iter().enumerate().map(|(at, value)| value + at as f64).collect();
        let choices = Choices { season: -1, trend: Trend::Line, test_points: 7, threshold: 0.6 };
        let parts = decompose(&rising, choices);
        for (at, value) in rising.iter().enumerate() {
            let sum = parts.seasonal[at] + parts.trend[at] + parts.residual[at];
            assert!((sum - value).abs() < 1e-9);
            assert!((parts.baseline[at] - value).abs() < 2.0, "{at}");
        }
    }

    #[test]
    fn outliers_are_measured_by_what_is_not_extreme() {
        let values = [30.0, 28.0, 5.0, 27.0, 31.0, 38.0, 29.0, 80.0, 25.0, 37.0, 30.0].map(Some);
        let scores = outliers(&values, Fence::Trimmed { low: 10.0, high: 90.0 }, 0);
        let expect = [
            0.0, 0.0, -3.206_897, -0.172_414, 0.0, 2.666_667, 0.0, 16.666_667, -0.448_276,
            2.333_333, 0.0,
        ];
        for (score, expect) in scores.iter().zip(expect) {
            assert!((score - expect).abs() < 1e-6, "{score} {expect}");
        }
        let plain = outliers(&values, Fence::Quartiles, 0);
        assert!((plain[7] - 46.0 / 6.5).abs() < 1e-12);
        assert_eq!(outliers(&[None, Some(1.0)], Fence::Quartiles, 0), [0.0, 0.0]);
    }
}
