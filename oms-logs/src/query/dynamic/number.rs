//! The order of numbers of all kinds: by their values, as exact as they are.

use super::View;
use crate::query::decimal::Decimal;
use std::cmp::Ordering;

/// Where a number is among all.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Place {
    Lowest,
    At(Decimal),
    Highest,
    /// What is no number is after all that are, and equals itself.
    NotANumber,
}

/// The order of two numbers; `None` if one is none.
pub(super) fn order(a: View<'_>, b: View<'_>) -> Option<Ordering> {
    Some(match (a, b) {
        (View::Long(a), View::Long(b)) => a.cmp(&b),
        (View::Real(a), View::Real(b)) => reals(a, b),
        (View::Long(a), View::Real(b)) => long_and_real(a, b),
        (View::Real(a), View::Long(b)) => long_and_real(b, a).reverse(),
        _ => place(a)?.cmp(&place(b)?),
    })
}

fn reals(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

#[expect(clippy::cast_possible_truncation, reason = "what does not fit was told apart before")]
fn long_and_real(long: i64, real: f64) -> Ordering {
    // The first real that is no long.
    const END: f64 = 9_223_372_036_854_775_808.0;
    if real.is_nan() || real >= END {
        return Ordering::Less;
    }
    if real < -END {
        return Ordering::Greater;
    }
    let whole = real.trunc();
    long.cmp(&(whole as i64)).then_with(|| reals(0.0, real - whole))
}

fn place(number: View<'_>) -> Option<Place> {
    Some(match number {
        View::Long(value) => Place::At(Decimal::of_long(value)),
        View::Real(value) if value == f64::INFINITY => Place::Highest,
        View::Real(value) if value == f64::NEG_INFINITY => Place::Lowest,
        View::Real(value) => of_real(value).map_or(Place::NotANumber, Place::At),
        View::Decimal(digits) => digits.parse().map_or(Place::NotANumber, Place::At),
        _ => return None,
    })
}

/// A decimal that no other real has, in the order of reals: the value itself where it is whole, so
/// that it equals a long, else the digits that tell it from its neighbours.
#[expect(clippy::cast_possible_truncation, reason = "the bound has 34 digits")]
fn of_real(value: f64) -> Option<Decimal> {
    if value.fract() == 0.0 && value.abs() < 1e34 {
        return Decimal::of_whole(value as i128);
    }
    Decimal::of_real(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_kinds_have_one_order() {
        use View::{Decimal as D, Long as L, Real as R};
        const BIG: i64 = 1 << 53;
        let whole = 9_007_199_254_740_992.0;
        // Each group holds equals, and comes before the next one.
        let groups: &[&[View<'_>]] = &[
            &[R(f64::NEG_INFINITY)],
            &[D("-1E+400")],
            &[R(-1e300)],
            &[L(i64::MIN), R(-9_223_372_036_854_775_808.0), D("-9223372036854775808")],
            &[R(-1.5), D("-1.5")],
            &[L(-1), R(-1.0), D("-1")],
            &[R(-0.5)],
            &[L(0), R(0.0), R(-0.0), D("0")],
            &[R(5e-324)],
            &[R(0.1), D("0.1")],
            &[D("0.1000000000000000000000000000000001")],
            &[L(BIG - 1), R(whole - 1.0)],
            &[L(BIG), R(whole), D("9007199254740992")],
            &[L(BIG + 1), D("9007199254740993")],
            &[D("9007199254740993.5")],
            &[L(BIG + 2), R(whole + 2.0)],
            &[L(1 << 60), R(1_152_921_504_606_846_976.0)],
            &[L(i64::MAX)],
            &[R(9_223_372_036_854_775_808.0), D("9223372036854775808")],
            &[R(1e300)],
            &[D("1E+400")],
            &[R(f64::INFINITY)],
            &[R(f64::NAN), R(-f64::NAN)],
        ];
        for (at, group) in groups.iter().enumerate() {
            for (other_at, other) in groups.iter().enumerate() {
                for (a, b) in group.iter().flat_map(|a| other.iter().map(move |b| (*a, *b))) {
                    assert_eq!(order(a, b), Some(at.cmp(&other_at)), "{a:?} {b:?}");
                }
            }
        }
        assert_eq!(order(View::Null, L(0)), None);
    }
}
