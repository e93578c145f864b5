//! Punycode: text in letters, digits and hyphens. See RFC 3492.

const BASE: u32 = 36;
const T_MIN: u32 = 1;
const T_MAX: u32 = 26;
const SKEW: u32 = 38;
const DAMP: u32 = 700;
const BIAS_FIRST: u32 = 72;
const CODE_FIRST: u32 = 0x80;

/// The longest text, in characters: the time grows with its square.
const CHARACTERS_MAX: usize = 4096;

/// The prefix of an encoded label of a domain name.
const PREFIX: &str = "xn--";

const fn adapt(delta: u32, count: u32, first: bool) -> u32 {
    let mut delta = if first { delta / DAMP } else { delta / 2 };
    delta += delta / count;
    let mut k = 0;
    while delta > (BASE - T_MIN) * T_MAX / 2 {
        delta /= BASE - T_MIN;
        k += BASE;
    }
    k + (BASE - T_MIN + 1) * delta / (delta + SKEW)
}

fn threshold(k: u32, bias: u32) -> u32 {
    k.saturating_sub(bias).clamp(T_MIN, T_MAX)
}

fn digit(value: u32) -> Option<char> {
    char::from_digit(value + 10, BASE)
        .filter(|_| value < 26)
        .or_else(|| value.checked_sub(26).and_then(|value| char::from_digit(value, 10)))
}

fn value_of(digit: char) -> Option<u32> {
    match digit {
        'a'..='z' => Some(u32::from(digit) - u32::from('a')),
        'A'..='Z' => Some(u32::from(digit) - u32::from('A')),
        '0'..='9' => Some(u32::from(digit) - u32::from('0') + 26),
        _ => None,
    }
}

/// Encodes a text, or `None` if it is too long for the scheme.
pub(super) fn encode(text: &str) -> Option<String> {
    let characters: Vec<u32> = text.chars().map(u32::from).take(CHARACTERS_MAX + 1).collect();
    if characters.len() > CHARACTERS_MAX {
        return None;
    }
    let mut output: String = text.chars().filter(char::is_ascii).collect();
    let basic = u32::try_from(output.len()).ok()?;
    if basic > 0 {
        output.push('-');
    }
    let (mut code, mut delta, mut bias, mut handled) = (CODE_FIRST, 0_u32, BIAS_FIRST, basic);
    while usize::try_from(handled).ok()? < characters.len() {
        let next = characters.iter().copied().filter(|c| *c >= code).min()?;
        delta = delta.checked_add((next - code).checked_mul(handled + 1)?)?;
        code = next;
        for character in &characters {
            if *character < code {
                delta = delta.checked_add(1)?;
            }
            if *character == code {
                let (mut rest, mut k) = (delta, BASE);
                loop {
                    let t = threshold(k, bias);
                    if rest < t {
                        break;
                    }
                    output.push(digit(t + (rest - t) % (BASE - t))?);
                    rest = (rest - t) / (BASE - t);
                    k += BASE;
                }
                output.push(digit(rest)?);
                bias = adapt(delta, handled + 1, handled == basic);
                delta = 0;
                handled += 1;
            }
        }
        delta = delta.checked_add(1)?;
        code += 1;
    }
    Some(output)
}

/// Decodes a text, or `None` if it is no encoding of one.
pub(super) fn decode(text: &str) -> Option<String> {
    let (basic, rest) = text.rsplit_once('-').unwrap_or(("", text));
    if !basic.is_ascii() || text.len() > CHARACTERS_MAX {
        return None;
    }
    let mut output: Vec<char> = basic.chars().collect();
    let (mut code, mut i, mut bias) = (CODE_FIRST, 0_u32, BIAS_FIRST);
    let mut digits = rest.chars().peekable();
    while digits.peek().is_some() {
        let (before, mut weight, mut k) = (i, 1_u32, BASE);
        loop {
            let value = value_of(digits.next()?)?;
            i = i.checked_add(value.checked_mul(weight)?)?;
            let t = threshold(k, bias);
            if value < t {
                break;
            }
            weight = weight.checked_mul(BASE - t)?;
            k += BASE;
        }
        let count = u32::try_from(output.len()).ok()? + 1;
        bias = adapt(i - before, count, before == 0);
        code = code.checked_add(i / count)?;
        i %= count;
        output.insert(usize::try_from(i).ok()?, char::from_u32(code)?);
        i += 1;
    }
    Some(output.into_iter().collect())
}

/// A domain name with each label encoded that needs it.
pub(super) fn encode_domain(domain: &str) -> Option<String> {
    let labels = domain.split(['.', '\u{3002}', '\u{ff0e}', '\u{ff61}']);
    let labels = labels.map(|label| {
        if label.is_ascii() {
            Some(label.to_owned())
        } else {
            encode(label).map(|label| format!("{PREFIX}{label}"))
        }
    });
    Some(labels.collect::<Option<Vec<_>>>()?.join("."))
}

/// A domain name with each encoded label decoded.
pub(super) fn decode_domain(domain: &str) -> Option<String> {
    let labels = domain.split('.').map(|label| match label.get(..PREFIX.len()) {
        Some(prefix) if prefix.eq_ignore_ascii_case(PREFIX) => {
            decode(label.get(PREFIX.len()..).unwrap_or_default())
        }
        _ => Some(label.to_owned()),
    });
    Some(labels.collect::<Option<Vec<_>>>()?.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_the_standard_survive() {
        for (text, expect) in [
            ("他们为什么不说中文", "ihqwcrb4cv8a8dqg056pqjye"),
            ("Pročprostěnemluvíčesky", "Proprostnemluvesky-uyb24dma41a"),
            ("MajiでKoiする5秒前", "MajiKoi5-783gue6qz075azm5e"),
            ("bücher", "bcher-kva"),
            ("", ""),
        ] {
            assert_eq!(encode(text).as_deref(), Some(expect));
            assert_eq!(decode(expect).as_deref(), Some(text));
        }
        assert_eq!(encode(&"ü".repeat(CHARACTERS_MAX + 1)), None);
        assert_eq!(decode("99999999"), None);
        assert_eq!(decode("a-b*"), None);
    }

    #[test]
    fn only_labels_that_need_it_are_encoded() {
        assert_eq!(encode_domain("www。bücher.de").as_deref(), Some("www.xn--bcher-kva.de"));
        assert_eq!(decode_domain("WWW.xn--bcher-kva.DE").as_deref(), Some("WWW.bücher.DE"));
    }
}
