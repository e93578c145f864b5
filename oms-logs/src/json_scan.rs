//! Pieces of JSON text, eight bytes at a time.

/// A byte in each of the eight places.
const fn eight(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The end of the text from `at` on that stands in a JSON string as it is: the place of the next
/// quote, backslash or control character, or the end of the bytes.
pub(crate) fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let stops = stops(u64::from_le_bytes(*word));
        if stops != 0 {
            return at + (stops.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let stop = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
    at + stop.unwrap_or(rest.len())
}

/// The highest bit of each byte that ends a plain text. Bits above the lowest one may be set without
/// reason, for the borrow of a subtraction.
const fn stops(word: u64) -> u64 {
    let (quote, slash) = (word ^ eight(b'"'), word ^ eight(b'\\'));
    let is_zero = (quote.wrapping_sub(eight(1)) & !quote) | (slash.wrapping_sub(eight(1)) & !slash);
    let is_control = word.wrapping_sub(eight(0x20)) & !word;
    (is_zero | is_control) & eight(0x80)
}

/// Passes over blanks that do not end a line.
pub(crate) fn blanks(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\r') = bytes.get(at) {
        at += 1;
    }
    at
}

/// Writes the string whose text begins at `at` into `out`; answers the place after its closing quote.
/// None if it has an escape of four digits, or no end in its line.
pub(crate) fn string(text: &str, mut at: usize, out: &mut String) -> Option<usize> {
    loop {
        let end = plain_end(text.as_bytes(), at);
        out.push_str(text.get(at..end)?);
        match text.as_bytes().get(end)? {
            b'"' => return Some(end + 1),
            b'\\' => out.push(escaped(*text.as_bytes().get(end + 1)?)?),
            _ => return None,
        }
        at = end + 2;
    }
}

/// The character that a backslash and a letter stand for; none for an escape of four digits.
pub(crate) const fn escaped(letter: u8) -> Option<char> {
    Some(match letter {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        _ => return None,
    })
}

/// A number as JSON writes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    /// Without fraction and exponent.
    Whole(i64),
    /// With one of them.
    Real(f64),
}

/// The number at `at`, and the place after it. None for one that a reader of numbers has to look at:
/// of very many digits, out of range, a negative zero; and for what is none.
pub(crate) fn number(text: &str, at: usize) -> Option<(Number, usize)> {
    let bytes = text.as_bytes();
    let is_negative = bytes.get(at) == Some(&b'-');
    let begin = at + usize::from(is_negative);
    let (whole, mut end) = digits(bytes, begin, 0)?;
    let is_zero = bytes.get(begin) == Some(&b'0');
    if is_zero && end > begin + 1 {
        return None;
    }
    let mut mantissa = Some(whole);
    let mut places = 0;
    let mut is_whole = true;
    if bytes.get(end) == Some(&b'.') {
        is_whole = false;
        let of_fraction = digits(bytes, end + 1, whole);
        let fraction_end = match of_fraction {
            Some((_, end)) => end,
            None => end_of_digits(bytes, end + 1)?,
        };
        mantissa = of_fraction.map(|(mantissa, _)| mantissa);
        places = fraction_end - end - 1;
        end = fraction_end;
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        (is_whole, mantissa) = (false, None);
        end = end_of_digits(bytes, end + 1 + sign)?;
    }
    if is_whole {
        let number = if is_negative { -whole } else { whole };
        return (!(is_negative && is_zero)).then_some((Number::Whole(number), end));
    }
    // Both are exact as doubles, so that their quotient is the nearest double.
    let exact = mantissa.filter(|mantissa| *mantissa <= 1 << 53);
    let real = match (exact, POWERS_OF_TEN.get(places)) {
        (Some(mantissa), Some(power)) => {
            let real = mantissa as f64 / power;
            if is_negative { -real } else { real }
        }
        _ => text.get(at..end)?.parse().ok()?,
    };
    real.is_finite().then_some((Number::Real(real), end))
}

/// The powers of ten that a double holds exactly.
const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// The digits at `at` after those of `number`, and the place after them. None if there is none, or
/// more than 64 bits hold for certain.
fn digits(bytes: &[u8], at: usize, mut number: i64) -> Option<(i64, usize)> {
    /// A number below it takes one more digit.
    const BELOW: i64 = i64::MAX / 10;
    let mut end = at;
    while let Some(digit @ b'0'..=b'9') = bytes.get(end) {
        if number >= BELOW {
            return None;
        }
        number = number * 10 + i64::from(digit - b'0');
        end += 1;
    }
    (end > at).then_some((number, end))
}

fn end_of_digits(bytes: &[u8], at: usize) -> Option<usize> {
    let count = bytes.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (count > 0).then_some(at + count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_byte_in_every_place_is_found_or_passed_over() {
        for byte in 0..=255_u8 {
            let ends = matches!(byte, b'"' | b'\\') || byte < 0x20;
            for length in 1..20 {
                for place in 0..length {
                    let mut text = vec![b'a'; length];
                    text[place] = byte;
                    let expected = if ends { place } else { length };
                    assert_eq!(plain_end(&text, 0), expected, "{byte} at {place} of {length}");
                }
            }
        }
    }

    /// What `serde_json` reads.
    fn expected(text: &str) -> Option<Number> {
        let number: serde_json::Number = serde_json::from_str(text).ok()?;
        number.as_i64().map(Number::Whole).or_else(|| number.as_f64().map(Number::Real))
    }

    fn check(text: &str) -> bool {
        let given = format!("{text},");
        match number(&given, 0) {
            Some((number, end)) if end == text.len() => {
                assert_eq!(Some(number), expected(text), "{text}");
                true
            }
            _ => false,
        }
    }

    #[test]
    fn numbers_are_those_of_json() {
        for text in ["0", "-1", "12", "0.1", "-0.0", "1e5", "1.5E-3", "1e+2", "123456789012345678"]
        {
            assert!(check(text), "{text}");
        }
        for text in ["0.30000000000000004", "9007199254740993.5", "1e-400", "5e-324"] {
            assert!(check(text), "{text}");
        }
        for text in ["", "-", "-0", "01", "1.", ".5", "1e", "+1", "1e400", "99999999999999999999"] {
            assert!(!check(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn reals_are_the_nearest_doubles(bits in any::<u64>(), short in any::<i32>(), places in 0..12_usize) {
            let real = f64::from_bits(bits);
            if real.is_finite() {
                check(&format!("{real:?}"));
            }
            check(&format!("{:.places$}", f64::from(short) / 1e6));
        }

        #[test]
        fn strings_are_those_of_json(given in any::<String>(), tail in "[a-z\"]{0,3}") {
            let quoted = serde_json::Value::from(given.as_str()).to_string();
            let mut read = String::new();
            if let Some(end) = string(&format!("{quoted}{tail}"), 1, &mut read) {
                prop_assert_eq!((read, end), (given, quoted.len()));
            } else {
                prop_assert!(quoted.contains("\\u"));
            }
        }
    }
}
