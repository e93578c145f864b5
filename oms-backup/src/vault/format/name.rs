//! Names of files, which are bytes, inside JSON, which is Unicode.

use super::FormatError;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// The longest name read, in bytes; file systems of this world stop at 255.
pub const NAME_BYTES_MAX: usize = 4096;

/// The name of a file in its folder: any bytes but `/` and NUL, and neither `.` nor `..`.
///
/// In JSON it is quoted the way Go's `strconv.Quote` does, without the outer quotes: bytes that
/// are not UTF-8 become `\xff`.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NodeName(Vec<u8>);

impl NodeName {
    /// Takes the bytes of a name.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] if they cannot be one file's name, so that a damaged or hostile
    /// tree cannot reach outside the folder it is restored to.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, FormatError> {
        let bytes = bytes.into();
        let refuse = |reason: &str| {
            let shown: String = quote(&bytes).chars().take(100).collect();
            Err(FormatError::malformed("file name", format!("{reason}: {shown}")))
        };
        match bytes.as_slice() {
            b"" => refuse("empty"),
            b"." | b".." => refuse("names a folder itself or the one above"),
            _ if bytes.contains(&b'/') => refuse("has a slash"),
            _ if bytes.contains(&0) => refuse("has a zero byte"),
            _ if bytes.len() > NAME_BYTES_MAX => refuse("longer than 4096 bytes"),
            _ => Ok(Self(bytes)),
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name as the operating system takes it. Only on Unix any bytes are a name.
    #[cfg(unix)]
    #[must_use]
    pub fn as_os_str(&self) -> &std::ffi::OsStr {
        std::os::unix::ffi::OsStrExt::from_bytes(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Display for NodeName {
    /// Prints the quoted form, which is one line whatever the bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quote(&self.0))
    }
}

impl Serialize for NodeName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&quote(&self.0))
    }
}

impl<'de> Deserialize<'de> for NodeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = unquote(&text)
            .ok_or_else(|| serde::de::Error::custom("file name has a bad escape sequence"))?;
        Self::new(bytes).map_err(serde::de::Error::custom)
    }
}

/// Quotes bytes as Go's `strconv.Quote` does, without the outer quotes.
fn quote(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|character| quote_char(character, &mut text));
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

fn quote_char(character: char, text: &mut String) {
    let short = match character {
        '\x07' => 'a',
        '\x08' => 'b',
        '\x0c' => 'f',
        '\n' => 'n',
        '\r' => 'r',
        '\t' => 't',
        '\x0b' => 'v',
        '"' => '"',
        '\\' => '\\',
        _ if is_printable(character) => return text.push(character),
        _ => {
            let code = u32::from(character);
            text.push_str(&match code {
                0..0x20 | 0x7f => format!("\\x{code:02x}"),
                0x80..0x1_0000 => format!("\\u{code:04x}"),
                _ => format!("\\U{code:08x}"),
            });
            return;
        }
    };
    text.push('\\');
    text.push(short);
}

/// Whether the character is a letter, mark, number, punctuation, symbol or the ASCII space.
fn is_printable(character: char) -> bool {
    if character.is_ascii() {
        return character == ' ' || character.is_ascii_graphic();
    }
    // The standard library escapes exactly the others, except that it also escapes a combining
    // mark at the start of a text; so the character is looked at in second place.
    let mut bytes = [0; 5];
    bytes[0] = b'a';
    let end = 1 + character.encode_utf8(&mut bytes[1..]).len();
    std::str::from_utf8(&bytes[..end]).is_ok_and(|pair| pair.escape_debug().count() == 2)
}

/// Reads what `quote` writes, and every other escape of Go's double-quoted strings.
fn unquote(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '"', '\n']) {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let mut chars = rest[at..].chars();
        if chars.next() != Some('\\') {
            return None;
        }
        let escape = chars.next()?;
        rest = chars.as_str();
        match escape {
            'a' => bytes.push(0x07),
            'b' => bytes.push(0x08),
            'f' => bytes.push(0x0c),
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            'v' => bytes.push(0x0b),
            '\\' => bytes.push(b'\\'),
            '"' => bytes.push(b'"'),
            'x' => bytes.push(u8::try_from(take_digits(&mut rest, 2, 16)?).ok()?),
            '0'..='7' => {
                let tail = take_digits(&mut rest, 2, 8)?;
                bytes.push(u8::try_from(escape.to_digit(8)? * 64 + tail).ok()?);
            }
            'u' | 'U' => {
                let count = if escape == 'u' { 4 } else { 8 };
                let character = char::from_u32(take_digits(&mut rest, count, 16)?)?;
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return None,
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

fn take_digits(rest: &mut &str, count: usize, radix: u32) -> Option<u32> {
    let digits = rest.get(..count)?;
    if !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    *rest = &rest[count..];
    u32::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quotes_as_restic_does() {
        // Seen in a tree that restic 0.14.0 wrote.
        let name = [b"n\xff\x01\"\\<".as_slice(), "e\u{301}\u{ad}".as_bytes()].concat();
        assert_eq!(quote(&name), "n\\xff\\x01\\\"\\\\<e\u{301}\\u00ad");
        assert_eq!(quote("\u{301}x".as_bytes()), "\u{301}x");
        assert_eq!(quote("\u{f0000}".as_bytes()), "\\U000f0000");
    }

    #[test]
    fn unquotes_every_escape_of_go() {
        let text = r#"\a\b\f\n\r\t\v\\\"\x00\377\u00e9\U0001f600z"#;
        let bytes = unquote(text).expect("valid");
        assert_eq!(bytes, b"\x07\x08\x0c\n\r\t\x0b\\\"\x00\xff\xc3\xa9\xf0\x9f\x98\x80z");
        for bad in [r"\", r"\q", r"\x1", r"\u12", r"\400", "\"", r"\ud800", r"\x+1"] {
            assert_eq!(unquote(bad), None, "{bad}");
        }
    }

    #[test]
    fn refuses_names_that_leave_the_folder() {
        for bad in ["", ".", "..", "a/b", "/", "a\0"] {
            assert!(NodeName::new(bad).is_err(), "{bad:?}");
        }
        assert!(serde_json::from_str::<NodeName>(r#""..\\x2fetc""#).is_err());
    }

    proptest! {
        #[test]
        fn quoting_loses_nothing(bytes: Vec<u8>) {
            prop_assert_eq!(unquote(&quote(&bytes)), Some(bytes));
        }

        #[test]
        fn any_text_unquotes_or_is_refused(text: String) {
            let _ = unquote(&text);
        }
    }
}
