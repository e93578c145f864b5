//! Gamma, beta and error functions, and what statistics makes of them.

use super::arguments::Args;
use super::{Function, Naming, Parameter, kernel};
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result;

const PLAIN: Naming = Naming::Default;
const ONE: &[Parameter] = &[Parameter::Real];
const THREE: &[Parameter] = &[Parameter::Real, Parameter::Real, Parameter::Real];

pub(super) const FUNCTIONS: &[Function] = &[
    kernel("gamma", Naming::FirstArgument, ONE, KqlType::Real, |args| one(args, libm::tgamma)),
    kernel("loggamma", Naming::FirstArgument, ONE, KqlType::Real, |args| one(args, libm::lgamma)),
    kernel("erf", Naming::FirstArgument, ONE, KqlType::Real, |args| one(args, libm::erf)),
    kernel("erfc", Naming::FirstArgument, ONE, KqlType::Real, |args| one(args, libm::erfc)),
    kernel("beta_cdf", PLAIN, THREE, KqlType::Real, |args| {
        three(args, |x, a, b| Some(beta_cdf(x, a, b)))
    }),
    kernel("beta_pdf", PLAIN, THREE, KqlType::Real, |args| {
        three(args, |x, a, b| Some(beta_pdf(x, a, b)))
    }),
    kernel("beta_inv", PLAIN, THREE, KqlType::Real, |args| three(args, beta_inv)),
    kernel(
        "welch_test",
        PLAIN,
        &[
            Parameter::Real,
            Parameter::Real,
            Parameter::Real,
            Parameter::Real,
            Parameter::Real,
            Parameter::Real,
        ],
        KqlType::Real,
        |args| {
            let parts = (0..6).map(|at| args.real(at)).collect::<Result<Vec<_>>>()?;
            Ok(args.make_real(|row| {
                let values = parts.iter().map(|part| part.get(row)).collect::<Option<Vec<_>>>()?;
                let [mean_1, variance_1, count_1, mean_2, variance_2, count_2] =
                    <[f64; 6]>::try_from(values).ok()?;
                Some(welch_test(
                    Sample { mean: mean_1, variance: variance_1, count: count_1 },
                    Sample { mean: mean_2, variance: variance_2, count: count_2 },
                ))
            }))
        },
    ),
];

fn one(args: &Args<'_>, f: impl Fn(f64) -> f64) -> Result<ArrayRef> {
    let value = args.real(0)?;
    Ok(args.make_real(|row| value.get(row).map(&f)))
}

fn three(args: &Args<'_>, f: impl Fn(f64, f64, f64) -> Option<f64>) -> Result<ArrayRef> {
    let (x, a, b) = (args.real(0)?, args.real(1)?, args.real(2)?);
    Ok(args.make_real(|row| f(x.get(row)?, a.get(row)?, b.get(row)?)))
}

/// The most steps of a series or a search.
const STEPS_MAX: u32 = 1000;

/// Lentz's method for the continued fraction of the incomplete beta function.
fn beta_fraction(x: f64, a: f64, b: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / away(1.0 - (a + b) * x / (a + 1.0));
    let mut sum = d;
    for step in 1..=STEPS_MAX {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / away(1.0 + even * d);
        c = away(1.0 + even / c);
        sum *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / away(1.0 + odd * d);
        c = away(1.0 + odd / c);
        sum *= d * c;
        if (d * c - 1.0).abs() < 1e-16 {
            break;
        }
    }
    sum
}

/// The logarithm of x^a (1-x)^b / B(a, b).
fn beta_log(x: f64, a: f64, b: f64) -> f64 {
    libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b) + a * x.ln() + b * (-x).ln_1p()
}

/// The regularized incomplete beta function.
fn beta_cdf(x: f64, a: f64, b: f64) -> f64 {
    if !(0.0..=1.0).contains(&x) || a.is_nan() || b.is_nan() {
        return f64::NAN;
    }
    if x == 0.0 || x == 1.0 {
        return x;
    }
    let front = beta_log(x, a, b).exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        front * beta_fraction(x, a, b) / a
    } else {
        1.0 - front * beta_fraction(1.0 - x, b, a) / b
    }
}

fn beta_pdf(x: f64, a: f64, b: f64) -> f64 {
    if !(x > 0.0 && x < 1.0 && a > 0.0 && b > 0.0) {
        return f64::NAN;
    }
    beta_log(x, a, b).exp() / (x * (1.0 - x))
}

/// Null for what is no probability.
fn beta_inv(probability: f64, a: f64, b: f64) -> Option<f64> {
    if probability.is_nan() || !(a > 0.0 && b > 0.0) {
        return Some(f64::NAN);
    }
    if !(0.0..=1.0).contains(&probability) {
        return None;
    }
    // The function grows with x.
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..STEPS_MAX {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            break;
        }
        if beta_cdf(middle, a, b) < probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(high)
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    mean: f64,
    variance: f64,
    count: f64,
}

/// The probability of so different means if the true ones are equal, whatever the variances.
fn welch_test(first: Sample, second: Sample) -> f64 {
    let error = |sample: Sample| sample.variance / sample.count;
    let (a, b) = (error(first), error(second));
    let t = (first.mean - second.mean) / (a + b).sqrt();
    let freedom =
        (a + b).powi(2) / (a.powi(2) / (first.count - 1.0) + b.powi(2) / (second.count - 1.0));
    beta_cdf(freedom / (freedom + t.powi(2)), freedom / 2.0, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions() {
        let check = |found: f64, expect: f64| assert!((found - expect).abs() < 1e-12, "{found}");
        check(beta_cdf(0.5, 2.0, 2.0), 0.5);
        check(beta_cdf(0.25, 1.0, 1.0), 0.25);
        check(beta_cdf(0.3, 2.0, 3.0), 0.3483);
        check(beta_pdf(0.5, 2.0, 2.0), 1.5);
        check(beta_inv(0.3483, 2.0, 3.0).unwrap_or_default(), 0.3);
        assert!(beta_cdf(1.5, 2.0, 3.0).is_nan());
        assert_eq!(beta_inv(1.5, 2.0, 3.0), None);
        let sample = |mean| Sample { mean, variance: 4.0, count: 10.0 };
        check(welch_test(sample(1.0), sample(1.0)), 1.0);
        assert!((welch_test(sample(1.0), sample(3.0)) - 0.038_250_9).abs() < 1e-4);
    }
}
