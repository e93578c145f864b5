//! `decimal`: numbers of 34 decimal digits.
//!
//! A column of decimals is text in one form for each value: digits with a point where one is
//! needed, without zeros that say nothing, with an exponent only where the number is far from 1. So
//! equal numbers are equal texts, and grouping and joining need nothing else.

use datafusion::arrow::datatypes::i256;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// The digits of a decimal.
const DIGITS_MAX: u32 = 34;

/// How far the last digit can be from the point, in digits.
const SCALE_MAX: i32 = 6176;

/// How far a number can be from 1 before it is written with an exponent, in digits.
const PLAIN_MAX: i32 = 40;

/// A decimal number: `digits` / 10^`scale`, without zeros at the end of the digits.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Decimal {
    digits: i128,
    scale: i32,
}

fn power(exponent: u32) -> Option<i256> {
    i256::from_i128(10).checked_pow(exponent)
}

fn count_digits(value: i256) -> u32 {
    let count = |value: i128| value.unsigned_abs().checked_ilog10().map_or(0, |last| last + 1);
    match value.to_i128() {
        Some(value) => count(value),
        None => {
            const REST: u32 = 38;
            let first = power(REST).and_then(|unit| value.checked_div(unit)?.to_i128());
            REST + first.map_or(0, count)
        }
    }
}

/// The rest of `digits` times 10^`exponent`, by squaring, of which no step has more than 68 digits.
fn shifted_modulo(digits: i256, mut exponent: u32, divisor: i256) -> Option<i256> {
    let mut rest = digits.checked_rem(divisor)?;
    let mut base = i256::from_i128(10).checked_rem(divisor)?;
    while exponent > 0 {
        if exponent % 2 == 1 {
            rest = rest.checked_mul(base)?.checked_rem(divisor)?;
        }
        base = base.checked_mul(base)?.checked_rem(divisor)?;
        exponent /= 2;
    }
    Some(rest)
}

impl Decimal {
    const ZERO: Self = Self { digits: 0, scale: 0 };

    /// The nearest decimal; half goes to the even digit. `None` if it is out of range.
    fn rounded(digits: i256, scale: i32) -> Option<Self> {
        let surplus = count_digits(digits).saturating_sub(DIGITS_MAX);
        let unit = power(surplus)?;
        let mut kept = digits.checked_div(unit)?;
        let rest = digits.checked_sub(kept.checked_mul(unit)?)?.checked_abs()?;
        let odd = kept.checked_rem(i256::from_i128(2))? != i256::ZERO;
        let half = rest.checked_mul(i256::from_i128(2))?.cmp(&unit);
        if half == Ordering::Greater || (half == Ordering::Equal && odd && surplus > 0) {
            let away = if digits < i256::ZERO { -1 } else { 1 };
            kept = kept.checked_add(i256::from_i128(away))?;
        }
        let scale = scale.checked_sub(i32::try_from(surplus).ok()?)?;
        Self { digits: kept.to_i128()?, scale }.normal()
    }

    /// Without zeros at the end.
    fn normal(mut self) -> Option<Self> {
        if self.digits == 0 {
            return Some(Self::ZERO);
        }
        while self.digits % 10 == 0 {
            self.digits /= 10;
            self.scale = self.scale.checked_sub(1)?;
        }
        (-SCALE_MAX..=SCALE_MAX).contains(&self.scale).then_some(self)
    }

    pub(crate) fn of_long(value: i64) -> Self {
        Self { digits: i128::from(value), scale: 0 }.normal().unwrap_or(Self::ZERO)
    }

    /// A whole number of at most 34 digits, or the nearest one.
    pub(crate) fn of_whole(value: i128) -> Option<Self> {
        Self::rounded(i256::from_i128(value), 0)
    }

    /// The digits that tell the real from its neighbours; `None` for what is no number.
    pub(crate) fn of_real(value: f64) -> Option<Self> {
        if value.is_finite() { value.to_string().parse().ok() } else { None }
    }

    #[cfg(test)]
    fn to_real(self) -> f64 {
        format!("{}e{}", self.digits, -self.scale).parse().unwrap_or(f64::NAN)
    }

    /// Cut off at the point; the nearest long if it does not fit.
    pub(crate) fn to_long(self) -> i64 {
        let end = if self.digits < 0 { i64::MIN } else { i64::MAX };
        let whole = match u32::try_from(self.scale) {
            Ok(scale) => {
                10_i128.checked_pow(scale).map_or(Some(0), |unit| Some(self.digits / unit))
            }
            Err(_) => 10_i128
                .checked_pow(self.scale.unsigned_abs())
                .and_then(|unit| self.digits.checked_mul(unit)),
        };
        whole.and_then(|whole| i64::try_from(whole).ok()).unwrap_or(end)
    }

    /// The digits of both over one power of ten, and its exponent. `None` if they do not fit: then one
    /// has more than 76 digits before the last one of the other, which has no more than 34.
    fn aligned(self, other: Self) -> Option<(i256, i256, i32)> {
        let scale = self.scale.max(other.scale);
        let at = |value: Self| {
            let apart = u32::try_from(scale - value.scale).ok()?;
            i256::from_i128(value.digits).checked_mul(power(apart)?)
        };
        Some((at(self)?, at(other)?, scale))
    }

    pub(crate) fn add(self, other: Self) -> Option<Self> {
        if self.digits == 0 || other.digits == 0 {
            return Some(if self.digits == 0 { other } else { self });
        }
        match self.aligned(other) {
            Some((a, b, scale)) => Self::rounded(a.checked_add(b)?, scale),
            // The smaller one is below the last digit of the larger one.
            None => Some(if self.magnitude() > other.magnitude() { self } else { other }),
        }
    }

    pub(crate) const fn negate(self) -> Self {
        Self { digits: -self.digits, ..self }
    }

    pub(crate) const fn absolute(self) -> Self {
        Self { digits: self.digits.abs(), ..self }
    }

    pub(crate) fn multiply(self, other: Self) -> Option<Self> {
        let digits = i256::from_i128(self.digits).checked_mul(i256::from_i128(other.digits))?;
        Self::rounded(digits, self.scale.checked_add(other.scale)?)
    }

    /// `None` for division by zero.
    pub(crate) fn divide(self, other: Self) -> Option<Self> {
        if other.digits == 0 {
            return None;
        }
        let (a, b) = (i256::from_i128(self.digits), i256::from_i128(other.digits));
        // One digit more than are kept, and one that says whether there is a rest.
        let shift = DIGITS_MAX + 1 + count_digits(b) - count_digits(a).min(DIGITS_MAX);
        let a = a.checked_mul(power(shift)?)?;
        let (quotient, rest) = (a.checked_div(b)?, a.checked_rem(b)?);
        let sticky = match (rest == i256::ZERO, (a < i256::ZERO) == (b < i256::ZERO)) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => -1,
        };
        let digits =
            quotient.checked_mul(i256::from_i128(10))?.checked_add(i256::from_i128(sticky))?;
        let scale = self.scale - other.scale + i32::try_from(shift).ok()? + 1;
        Self::rounded(digits, scale)
    }

    /// Never negative, as for other numbers. `None` for division by zero.
    pub(crate) fn modulo(self, other: Self) -> Option<Self> {
        if other.digits == 0 {
            return None;
        }
        let (rest, b, scale) = match self.aligned(other) {
            Some((a, b, scale)) => (a.checked_rem(b)?, b, scale),
            None if self.scale < other.scale => {
                let apart = u32::try_from(other.scale.checked_sub(self.scale)?).ok()?;
                let b = i256::from_i128(other.digits);
                (shifted_modulo(i256::from_i128(self.digits), apart, b)?, b, other.scale)
            }
            // The divisor is larger, so what is divided is the rest.
            None if self.digits < 0 => {
                return Self { digits: other.digits.abs(), ..other }.add(self);
            }
            None => return Some(self),
        };
        let rest = if rest < i256::ZERO { rest.checked_add(b.checked_abs()?)? } else { rest };
        Self::rounded(rest, scale)
    }

    /// A text by whose order decimals sort.
    pub(crate) fn order_key(self) -> String {
        let place = self.magnitude() + 2 * SCALE_MAX;
        let size = format!("{place:05}{}", self.digits.unsigned_abs());
        match self.digits.signum() {
            0 => "1".to_owned(),
            1 => format!("2{size}"),
            // Larger numbers come first, and so do longer ones: the end is above all digits.
            _ => {
                let turned = size.bytes().map(|digit| char::from(b'9' - (digit - b'0')));
                format!("0{}:", turned.collect::<String>())
            }
        }
    }

    /// The place of the first digit, counted from the point.
    fn magnitude(self) -> i32 {
        let digits = i32::try_from(count_digits(i256::from_i128(self.digits))).unwrap_or(0);
        digits - self.scale
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_sign = self.digits.signum().cmp(&other.digits.signum());
        if by_sign != Ordering::Equal || self.digits == 0 {
            return by_sign;
        }
        let by_size = match self.aligned(*other) {
            Some((a, b, _)) => return a.cmp(&b),
            None => self.magnitude().cmp(&other.magnitude()),
        };
        if self.digits < 0 { by_size.reverse() } else { by_size }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A text is no decimal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NoDecimal;

impl FromStr for Decimal {
    type Err = NoDecimal;

    /// `[+-]digits[.digits][e[+-]digits]`; digits past the 34th are rounded.
    fn from_str(text: &str) -> Result<Self, NoDecimal> {
        let text = text.trim();
        let (number, exponent) = match text.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, exponent.parse().map_err(|_| NoDecimal)?),
            None => (text, 0_i32),
        };
        let (negative, number) = match number.strip_prefix('-') {
            Some(number) => (true, number),
            None => (false, number.strip_prefix('+').unwrap_or(number)),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let mut digits = whole.bytes().chain(fraction.bytes());
        if whole.len() + fraction.len() == 0 || !digits.all(|b| b.is_ascii_digit()) {
            return Err(NoDecimal);
        }
        let all = whole.bytes().chain(fraction.bytes()).skip_while(|b| *b == b'0');
        let (mut value, mut kept, mut dropped, mut sticky) = (0_i128, 0_u32, 0_i32, false);
        for digit in all {
            // One digit more than fit decides how the last one is rounded.
            if kept <= DIGITS_MAX {
                value = value * 10 + i128::from(digit - b'0');
                kept += 1;
            } else {
                dropped = dropped.saturating_add(1);
                sticky |= digit != b'0';
            }
        }
        let fraction = i32::try_from(fraction.len()).map_err(|_| NoDecimal)?;
        let value = i256::from_i128(if negative { -value } else { value });
        let last = i256::from_i128(if negative { -1 } else { 1 });
        let sticky = if sticky { last } else { i256::ZERO };
        let digits = value
            .checked_mul(i256::from_i128(10))
            .and_then(|value| value.checked_add(sticky))
            .ok_or(NoDecimal)?;
        let scale = fraction
            .checked_sub(dropped)
            .and_then(|scale| scale.checked_sub(exponent))
            .and_then(|scale| scale.checked_add(1))
            .ok_or(NoDecimal)?;
        Self::rounded(digits, scale).ok_or(NoDecimal)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.digits < 0 { "-" } else { "" };
        let digits = self.digits.unsigned_abs().to_string();
        let length = i32::try_from(digits.len()).unwrap_or(i32::MAX);
        if self.scale > PLAIN_MAX || self.scale < -PLAIN_MAX {
            let exponent = length - 1 - self.scale;
            let (first, rest) = digits.split_at(1);
            let point = if rest.is_empty() { "" } else { "." };
            return write!(f, "{sign}{first}{point}{rest}E{exponent:+}");
        }
        if self.scale <= 0 {
            let zeros = usize::try_from(-self.scale).unwrap_or(0);
            return write!(f, "{sign}{digits}{}", "0".repeat(zeros));
        }
        let scale = usize::try_from(self.scale).unwrap_or(0);
        let padded = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = padded.split_at(padded.len() - scale);
        write!(f, "{sign}{whole}.{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Decimal {
        text.parse().expect("a decimal")
    }

    #[test]
    fn texts_have_one_form() {
        for (text, expect) in [
            ("1.50", "1.5"),
            ("-0.0", "0"),
            ("1e3", "1000"),
            (".5", "0.5"),
            ("5.", "5"),
            ("-1.25E-2", "-0.0125"),
            ("1234567890123456789012345678901234.5", "1234567890123456789012345678901234"),
            ("1234567890123456789012345678901235.5", "1234567890123456789012345678901236"),
            ("1e100", "1E+100"),
            ("-1.5e-100", "-1.5E-100"),
        ] {
            assert_eq!(of(text).to_string(), expect, "{text}");
            assert_eq!(of(expect), of(text), "{text}");
        }
        for bad in ["", ".", "x", "1e", "1.2.3", "--1", "1e99999"] {
            assert_eq!(bad.parse::<Decimal>(), Err(NoDecimal), "{bad}");
        }
    }

    #[test]
    fn arithmetic_is_exact_or_rounded() {
        let text = |value: Option<Decimal>| value.map(|value| value.to_string());
        let is = |found, expect: &str| assert_eq!(text(found).as_deref(), Some(expect));
        is(of("0.1").add(of("0.2")), "0.3");
        is(of("1e60").add(of("1")), "1E+60");
        is(of("10").divide(of("3")), "3.333333333333333333333333333333333");
        is(of("2").divide(of("3")), "0.6666666666666666666666666666666667");
        is(of("-1").divide(of("8")), "-0.125");
        is(of("1.5").multiply(of("-2")), "-3");
        is(of("-7").modulo(of("3")), "2");
        is(of("7.5").modulo(of("2")), "1.5");
        is(of("1e90").modulo(of("7")), "1");
        is(of("-1e90").modulo(of("7")), "6");
        is(of("1e6000").modulo(of("9.7")), "8.7");
        is(of("3e-90").modulo(of("-7")), "3E-90");
        is(of("-3e-90").modulo(of("7e10")), "70000000000");
        is(of("1e41").add(of("9e33")), "100000009000000000000000000000000000000000");
        assert_eq!(of("1").divide(of("0")), None);
        assert_eq!(of("1").modulo(of("0")), None);
        let most = of("9999999999999999999999999999999999");
        is(
            most.multiply(most),
            "99999999999999999999999999999999980000000000000000000000000000000000",
        );
    }

    #[test]
    fn order_and_other_types() {
        let mut all: Vec<_> = ["3", "-1e50", "0", "2.5", "1e-50", "-2", "1e50"].map(of).into();
        all.sort();
        let texts: Vec<_> = all.iter().map(ToString::to_string).collect();
        assert_eq!(texts.join(" "), "-1E+50 -2 0 1E-50 2.5 3 1E+50");
        let mut keyed: Vec<_> =
            ["-1.25", "12", "-1e50", "0", "-1.2", "1e-50", "1.25", "-1e-3", "1.2", "-12"]
                .map(of)
                .into();
        let mut sorted = keyed.clone();
        keyed.sort_by_key(|value| value.order_key());
        sorted.sort();
        assert_eq!(keyed, sorted);
        assert_eq!(of("-2.9").to_long(), -2);
        assert_eq!(of("1e30").to_long(), i64::MAX);
        assert_eq!(of("1e-45").to_long(), 0);
        assert_eq!(Decimal::of_real(0.1), Some(of("0.1")));
        assert_eq!(Decimal::of_real(f64::NAN), None);
        assert!((of("2.5").to_real() - 2.5).abs() < f64::EPSILON);
        assert_eq!(Decimal::of_long(-1200).to_string(), "-1200");
    }
}
