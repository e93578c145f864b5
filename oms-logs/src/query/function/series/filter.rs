//! Filters and the Fourier transform.

use super::super::budget;
use std::f64::consts::PI;

/// A complex number.
pub(super) type Complex = (f64, f64);

/// `y[i] = sum of filter[k] x[i - k]`, where what is before or after the series counts as zero. A
/// centered filter looks as far ahead as back.
pub(super) fn finite_response(
    series: &[f64],
    filter: &[f64],
    normalize: bool,
    center: bool,
) -> Option<Vec<f64>> {
    budget::steps(series.len().saturating_mul(filter.len()))?;
    let ahead = if center { filter.len() / 2 } else { 0 };
    let sum = if normalize { filter.iter().sum() } else { 1.0 };
    let at = |i: usize| -> f64 {
        let terms = filter.iter().enumerate().filter_map(|(k, weight)| {
            (i + ahead).checked_sub(k).and_then(|j| series.get(j)).map(|value| weight * value)
        });
        terms.sum::<f64>() / sum
    };
    Some((0..series.len()).map(at).collect())
}

/// `a[0] y[i] = sum of b[k] x[i - k] - sum of a[k] y[i - k] for k > 0`.
pub(super) fn infinite_response(
    series: &[f64],
    numerators: &[f64],
    denominators: &[f64],
) -> Option<Vec<f64>> {
    let coefficients = numerators.len() + denominators.len();
    let (first, rest) = denominators.split_first()?;
    budget::steps(series.len().saturating_mul(coefficients))?;
    let mut made: Vec<f64> = Vec::with_capacity(series.len());
    for i in 0..series.len() {
        let of = |weights: &[f64], values: &[f64], offset: usize| -> f64 {
            let terms = weights.iter().enumerate().filter_map(|(k, weight)| {
                i.checked_sub(k + offset).and_then(|j| values.get(j)).map(|value| weight * value)
            });
            terms.sum()
        };
        made.push((of(numerators, series, 0) - of(rest, &made, 1)) / first);
    }
    Some(made)
}

/// The Fourier transform of any length, or the inverse one.
pub(super) fn fourier(values: &[Complex], inverse: bool) -> Vec<Complex> {
    let count = values.len();
    let mut made = if count.is_power_of_two() {
        let mut values = values.to_vec();
        radix_two(&mut values, inverse);
        values
    } else {
        chirp(values, inverse)
    };
    if inverse {
        let scale = 1.0 / count as f64;
        made.iter_mut().for_each(|(re, im)| {
            *re *= scale;
            *im *= scale;
        });
    }
    made
}

fn product(a: Complex, b: Complex) -> Complex {
    (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0)
}

/// In place, for powers of two, without scaling.
fn radix_two(values: &mut [Complex], inverse: bool) {
    let count = values.len();
    if count < 2 {
        return;
    }
    let bits = count.trailing_zeros();
    for at in 0..count {
        let other = at.reverse_bits() >> (usize::BITS - bits);
        if at < other {
            values.swap(at, other);
        }
    }
    let turn = if inverse { 2.0 * PI } else { -2.0 * PI };
    let mut width = 2;
    while width <= count {
        let half = width / 2;
        let roots: Vec<Complex> = (0..half)
            .map(|k| {
                let (sin, cos) = (turn * k as f64 / width as f64).sin_cos();
                (cos, sin)
            })
            .collect();
        for block in values.chunks_exact_mut(width) {
            let (low, high) = block.split_at_mut(half);
            for ((a, b), root) in low.iter_mut().zip(high).zip(&roots) {
                let (x, y) = (*a, product(*b, *root));
                *a = (x.0 + y.0, x.1 + y.1);
                *b = (x.0 - y.0, x.1 - y.1);
            }
        }
        width *= 2;
    }
}

/// Any length, as a convolution of a power of two (Bluestein), without scaling.
fn chirp(values: &[Complex], inverse: bool) -> Vec<Complex> {
    let count = values.len();
    if count == 0 {
        return Vec::new();
    }
    let turn = if inverse { PI } else { -PI };
    let root = |k: usize| {
        // The square is taken modulo two turns, which keeps the angle's digits.
        let square = (k as u128 * k as u128 % (2 * count as u128)) as f64;
        let (sin, cos) = (turn * square / count as f64).sin_cos();
        (cos, sin)
    };
    let size = (2 * count).next_power_of_two();
    let mut first = vec![(0.0, 0.0); size];
    let mut second = vec![(0.0, 0.0); size];
    for (k, value) in values.iter().enumerate() {
        let (cos, sin) = root(k);
        first[k] = product(*value, (cos, sin));
        second[k] = (cos, -sin);
        if k > 0 {
            second[size - k] = (cos, -sin);
        }
    }
    radix_two(&mut first, false);
    radix_two(&mut second, false);
    first.iter_mut().zip(second).for_each(|(a, b)| *a = product(*a, b));
    radix_two(&mut first, true);
    let scale = 1.0 / size as f64;
    let unscaled = first.into_iter().take(count).enumerate();
    unscaled.map(|(k, (re, im))| product((re * scale, im * scale), root(k))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_weighs_what_came_before() {
        let series = [1.0, 2.0, 4.0, 8.0];
        assert_eq!(
            finite_response(&series, &[1.0, -1.0], false, false).unwrap(),
            [1.0, 1.0, 2.0, 4.0]
        );
        assert_eq!(
            finite_response(&series, &[1.0, 1.0, 1.0], false, true).unwrap(),
            [3.0, 7.0, 14.0, 12.0]
        );
        assert_eq!(
            finite_response(&series, &[1.0, 1.0], true, false).unwrap(),
            [0.5, 1.5, 3.0, 6.0]
        );
    }

    #[test]
    fn an_infinite_filter_can_sum_up() {
        let sums = infinite_response(&[1.0, 2.0, 3.0], &[1.0], &[1.0, -1.0]);
        assert_eq!(sums.unwrap(), [1.0, 3.0, 6.0]);
        assert_eq!(infinite_response(&[1.0], &[1.0], &[]), None);
    }

    #[test]
    fn the_transform_is_that_of_its_definition_and_comes_back() {
        for count in [1, 2, 3, 5, 8, 12, 60] {
            let values: Vec<Complex> =
                (0..count).map(|k| ((k * k % 7) as f64, (k % 3) as f64)).collect();
            let made = fourier(&values, false);
            for (f, (re, im)) in made.iter().enumerate() {
                let (mut x, mut y) = (0.0, 0.0);
                for (k, value) in values.iter().enumerate() {
                    let (sin, cos) = (-2.0 * PI * (f * k) as f64 / count as f64).sin_cos();
                    let term = product(*value, (cos, sin));
                    (x, y) = (x + term.0, y + term.1);
                }
                assert!((x - re).abs() < 1e-9 && (y - im).abs() < 1e-9, "{count} {f}");
            }
            for (back, value) in fourier(&made, true).iter().zip(&values) {
                assert!((back.0 - value.0).abs() < 1e-9 && (back.1 - value.1).abs() < 1e-9);
            }
        }
        assert!(fourier(&[], false).is_empty());
    }
}
