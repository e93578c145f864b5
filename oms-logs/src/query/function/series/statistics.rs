//! Statistics of series and the lines and polynomials that fit them.

/// What is counted of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Statistics {
    pub(super) min: f64,
    pub(super) min_index: usize,
    pub(super) max: f64,
    pub(super) max_index: usize,
    pub(super) average: f64,
    /// Of a sample.
    pub(super) variance: f64,
    pub(super) sum: f64,
    pub(super) count: usize,
}

/// The statistics of the values that are there; `None` of none.
pub(super) fn statistics(values: &[Option<f64>]) -> Option<Statistics> {
    let present = || values.iter().enumerate().filter_map(|(at, value)| Some((at, (*value)?)));
    let count = present().count();
    let first = present().next()?;
    let sum: f64 = present().map(|(_, value)| value).sum();
    let average = sum / count as f64;
    let squares: f64 = present().map(|(_, value)| (value - average).powi(2)).sum();
    let least = present().fold(first, |a, b| if b.1 < a.1 { b } else { a });
    let most = present().fold(first, |a, b| if b.1 > a.1 { b } else { a });
    Some(Statistics {
        min: least.1,
        min_index: least.0,
        max: most.1,
        max_index: most.0,
        average,
        variance: if count > 1 { squares / (count - 1) as f64 } else { 0.0 },
        sum,
        count,
    })
}

/// The mean of values of which there is at least one.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The variance of a sample.
fn variance(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = mean(values);
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64
}

/// A line that fits a series.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fit {
    pub(super) r_square: f64,
    pub(super) slope: f64,
    pub(super) variance: f64,
    /// Of what the line leaves.
    pub(super) residual: f64,
    pub(super) interception: f64,
    pub(super) line: Vec<f64>,
}

/// The line of least squares, where the values stand at `first`, `first + 1` and so on.
pub(super) fn fit_line(values: &[f64], first: f64) -> Option<Fit> {
    if values.is_empty() {
        return None;
    }
    let count = values.len() as f64;
    let (mean_x, mean_y) = (first + (count - 1.0) / 2.0, mean(values));
    let xs = || (0..values.len()).map(|at| first + at as f64);
    let xy: f64 = xs().zip(values).map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let xx: f64 = xs().map(|x| (x - mean_x).powi(2)).sum();
    let slope = if xx > 0.0 { xy / xx } else { 0.0 };
    let interception = mean_y - slope * mean_x;
    let line: Vec<f64> = xs().map(|x| slope * x + interception).collect();
    let left: Vec<f64> = values.iter().zip(&line).map(|(y, fit)| y - fit).collect();
    let (variance, residual) = (variance(values), variance(&left));
    let r_square = if variance > 0.0 { (1.0 - residual / variance).max(0.0) } else { 1.0 };
    Some(Fit { r_square, slope, variance, residual, interception, line })
}

/// Two lines that fit a series, before and from the index of its split.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TwoFits {
    pub(super) r_square: f64,
    pub(super) split: usize,
    pub(super) variance: f64,
    pub(super) residual: f64,
    pub(super) line: Vec<f64>,
    pub(super) left: Fit,
    pub(super) right: Fit,
}

/// Running sums for the squares that a line leaves on any part of a series.
#[derive(Debug)]
struct Sums {
    y: Vec<f64>,
    yy: Vec<f64>,
    xy: Vec<f64>,
}

impl Sums {
    fn new(values: &[f64]) -> Self {
        // Values around their mean keep more digits.
        let mean = mean(values);
        let (mut y, mut yy, mut xy) = (vec![0.0], vec![0.0], vec![0.0]);
        let (mut sum, mut squares, mut products) = (0.0, 0.0, 0.0);
        for (at, value) in values.iter().enumerate() {
            let value = value - mean;
            (sum, squares, products) =
                (sum + value, squares + value * value, products + at as f64 * value);
            y.push(sum);
            yy.push(squares);
            xy.push(products);
        }
        Self { y, yy, xy }
    }

    /// The sum of the squares that the best line leaves.
    fn left(&self, from: usize, to: usize) -> f64 {
        let count = (to - from) as f64;
        let mean_x = (from + to - 1) as f64 / 2.0;
        let y = self.y[to] - self.y[from];
        let xy = self.xy[to] - self.xy[from] - mean_x * y;
        let xx = count * (count * count - 1.0) / 12.0;
        let yy = self.yy[to] - self.yy[from] - y * y / count;
        if xx > 0.0 { (yy - xy * xy / xx).max(0.0) } else { 0.0 }
    }
}

/// The best two lines: those that leave the least.
pub(super) fn fit_two_lines(values: &[f64]) -> Option<TwoFits> {
    // Each side of a split has at least two values.
    if values.len() < 4 {
        return None;
    }
    let sums = Sums::new(values);
    let left = |split: usize| sums.left(0, split) + sums.left(split, values.len());
    let split = (2..=values.len() - 2).min_by(|a, b| left(*a).total_cmp(&left(*b)))?;
    let (before, after) = values.split_at(split);
    let (left, right) = (fit_line(before, 1.0)?, fit_line(after, (split + 1) as f64)?);
    let line: Vec<f64> = left.line.iter().chain(&right.line).copied().collect();
    let rest: Vec<f64> = values.iter().zip(&line).map(|(y, fit)| y - fit).collect();
    let (variance, residual) = (variance(values), variance(&rest));
    let r_square = if variance > 0.0 { (1.0 - residual / variance).max(0.0) } else { 1.0 };
    Some(TwoFits { r_square, split, variance, residual, line, left, right })
}

/// A polynomial that fits a series.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PolynomialFit {
    pub(super) r_square: f64,
    /// From the highest power.
    pub(super) coefficients: Vec<f64>,
    pub(super) variance: f64,
    pub(super) residual: f64,
    pub(super) curve: Vec<f64>,
}

/// The polynomial of least squares. `None` if the places do not determine one.
pub(super) fn fit_polynomial(ys: &[f64], xs: &[f64], degree: usize) -> Option<PolynomialFit> {
    if ys.len() != xs.len() || ys.len() <= degree {
        return None;
    }
    // Powers of places around their middle, in units of their spread, stay near one.
    let (low, high) = xs.iter().fold((f64::MAX, f64::MIN), |(a, b), x| (a.min(*x), b.max(*x)));
    let (middle, spread) = (f64::midpoint(low, high), ((high - low) / 2.0).max(f64::MIN_POSITIVE));
    let rows: Vec<Vec<f64>> = xs
        .iter()
        .map(|x| {
            let unit = (x - middle) / spread;
            let powers = std::iter::successors(Some(1.0), |power| Some(power * unit));
            powers.take(degree + 1).collect()
        })
        .collect();
    let scaled = least_squares(rows, ys.to_vec())?;
    let value =
        |coefficients: &[f64], x: f64| coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c);
    let curve: Vec<f64> = xs.iter().map(|x| value(&scaled, (x - middle) / spread)).collect();
    // The same polynomial of the places themselves, by Horner's scheme on polynomials.
    let mut plain = vec![0.0; degree + 1];
    for coefficient in scaled.iter().rev() {
        let mut next = vec![0.0; degree + 1];
        for (power, old) in plain.iter().enumerate() {
            next[power] -= old * middle / spread;
            if power < degree {
                next[power + 1] += old / spread;
            }
        }
        next[0] += coefficient;
        plain = next;
    }
    plain.reverse();
    let rest: Vec<f64> = ys.iter().zip(&curve).map(|(y, fit)| y - fit).collect();
    let (variance, residual) = (variance(ys), variance(&rest));
    let r_square = if variance > 0.0 { (1.0 - residual / variance).max(0.0) } else { 1.0 };
    Some(PolynomialFit { r_square, coefficients: plain, variance, residual, curve })
}

/// The solution of an overdetermined system, by reflections (Householder).
fn least_squares(mut rows: Vec<Vec<f64>>, mut right: Vec<f64>) -> Option<Vec<f64>> {
    let columns = rows.first()?.len();
    for column in 0..columns {
        let norm = rows[column..].iter().map(|row| row[column].powi(2)).sum::<f64>().sqrt();
        if norm < 1e-12 {
            return None;
        }
        let pivot = rows[column][column];
        let alpha = if pivot > 0.0 { -norm } else { norm };
        let mut mirror: Vec<f64> = rows[column..].iter().map(|row| row[column]).collect();
        mirror[0] -= alpha;
        let length: f64 = mirror.iter().map(|value| value * value).sum();
        if length == 0.0 {
            continue;
        }
        for other in column..columns {
            let dot: f64 = mirror.iter().zip(&rows[column..]).map(|(m, row)| m * row[other]).sum();
            let factor = 2.0 * dot / length;
            mirror.iter().zip(&mut rows[column..]).for_each(|(m, row)| row[other] -= factor * m);
        }
        let dot: f64 = mirror.iter().zip(&right[column..]).map(|(m, value)| m * value).sum();
        let factor = 2.0 * dot / length;
        mirror.iter().zip(&mut right[column..]).for_each(|(m, value)| *value -= factor * m);
    }
    let mut solution = vec![0.0; columns];
    for column in (0..columns).rev() {
        let known: f64 = (column + 1..columns).map(|k| rows[column][k] * solution[k]).sum();
        solution[column] = (right[column] - known) / rows[column][column];
    }
    Some(solution)
}

/// The correlation of two series of one length, `None` if one does not vary.
pub(super) fn pearson(first: &[f64], second: &[f64]) -> Option<f64> {
    if first.len() != second.len() || first.is_empty() {
        return None;
    }
    let (a, b) = (mean(first), mean(second));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in first.iter().zip(second) {
        ab += (x - a) * (y - b);
        aa += (x - a).powi(2);
        bb += (y - b).powi(2);
    }
    (aa > 0.0 && bb > 0.0).then(|| ab / (aa.sqrt() * bb.sqrt()))
}

/// The value below which a percentage of the sorted values lies, on a line between two of them.
pub(super) fn quantile(sorted: &[f64], percent: f64) -> Option<f64> {
    let place = (sorted.len().checked_sub(1)? as f64) * percent / 100.0;
    let below = place.floor();
    let low = *sorted.get(below as usize)?;
    let high = sorted.get(below as usize + 1).copied().unwrap_or(low);
    Some(low + (high - low) * (place - below))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6 * b.abs().max(1.0)
    }

    #[test]
    fn statistics_are_of_the_values_that_are_there() {
        let values = [23, 46, 23, 87, 4, 8, 3, 75, 2, 56, 13, 75, 32, 16, 29];
        let values: Vec<_> = values.iter().map(|value| Some(f64::from(*value))).collect();
        let all = statistics(&values).unwrap();
        assert_eq!((all.min_index, all.max_index, all.count), (8, 3, 15));
        assert!(close(all.average, 32.8) && close(all.variance, 812.457_142_857_143));
        let some = statistics(&[None, Some(1.0), None, Some(3.0)]).unwrap();
        assert_eq!((some.min_index, some.max_index, some.average), (1, 3, 2.0));
        assert_eq!(statistics(&[None]), None);
    }

    #[test]
    fn a_line_starts_at_one() {
        let values = [2.0, 5.0, 6.0, 8.0, 11.0, 15.0, 17.0, 18.0, 25.0, 26.0, 30.0, 30.0];
        let fit = fit_line(&values, 1.0).unwrap();
        assert!((fit.r_square - 0.982).abs() < 1e-2 && (fit.slope - 2.730).abs() < 1e-3);
        assert!((fit.variance - 98.628).abs() < 1e-3 && (fit.residual - 1.686).abs() < 1e-3);
        assert!((fit.interception + 1.666).abs() < 1e-3 && (fit.line[0] - 1.064).abs() < 1e-3);
        assert_eq!(fit_line(&[], 1.0), None);
    }

    #[test]
    fn two_lines_part_where_the_trend_does() {
        let values: Vec<f64> =
            (0..20).map(|at| f64::from(if at < 8 { at } else { 40 - 2 * at })).collect();
        let fit = fit_two_lines(&values).unwrap();
        assert_eq!(fit.split, 8);
        assert!(close(fit.left.slope, 1.0) && close(fit.right.slope, -2.0));
        assert!(close(fit.r_square, 1.0) && fit.line.len() == 20);
        assert_eq!(fit_two_lines(&[1.0, 2.0, 3.0]), None);
    }

    #[test]
    fn a_polynomial_is_found_again() {
        let xs: Vec<f64> = (0..30).map(|x| f64::from(x) / 3.0 + 100.0).collect();
        let of = |x: f64| 2.0 * x.powi(3) - 600.0 * x * x + 5.0 * x - 7.0;
        let ys: Vec<f64> = xs.iter().map(|x| of(*x)).collect();
        let fit = fit_polynomial(&ys, &xs, 3).unwrap();
        for (found, expect) in fit.coefficients.iter().zip([2.0, -600.0, 5.0]) {
            assert!((found - expect).abs() < 1e-3 * expect.abs(), "{found} {expect}");
        }
        assert!(close(fit.r_square, 1.0));
        assert_eq!(fit_polynomial(&[1.0, 2.0], &[1.0, 1.0], 1), None);
    }

    #[test]
    fn correlation_and_quantiles() {
        assert!(close(pearson(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]).unwrap(), 1.0));
        assert_eq!(pearson(&[1.0, 1.0], &[1.0, 2.0]), None);
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 75.0), Some(3.0));
        assert_eq!(quantile(&[], 50.0), None);
    }
}
