//! Values that never reach a stream.

use oms_core::Secret;
use std::borrow::Cow;

/// What stands where a secret stood.
pub const REDACTED: &str = "***";

/// The shortest secret that is looked for, in bytes: a shorter one would blot out ordinary text.
pub const REDACTED_BYTES_MIN: usize = 4;

/// Replaces secrets in text. It sees one record at a time, so a secret with a line break in it is
/// looked for line by line.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    /// Longest first, so that a secret inside a longer one does not break it up.
    needles: Vec<Secret>,
}

impl Redactor {
    /// Looks for these. Lines shorter than [`REDACTED_BYTES_MIN`] are left out.
    #[must_use]
    pub fn new(secrets: &[Secret]) -> Self {
        let lines = secrets.iter().flat_map(|secret| secret.expose().split(|b| *b == b'\n'));
        let mut needles: Vec<Secret> = lines
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            .filter(|line| line.len() >= REDACTED_BYTES_MIN && std::str::from_utf8(line).is_ok())
            .map(Secret::new)
            .collect();
        needles.sort_by_key(|needle| std::cmp::Reverse(needle.expose().len()));
        Self { needles }
    }

    /// The longest text looked for, in bytes.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.needles.first().map_or(0, |needle| needle.expose().len())
    }

    /// The text without secrets.
    #[must_use]
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for needle in &self.needles {
            if let Ok(needle) = needle.expose_text()
                && text.contains(needle)
            {
                text = Cow::Owned(text.replace(needle, REDACTED));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_their_lines_are_replaced() {
        let secrets = [Secret::from("hunter2"), Secret::from("hunter2-long"), Secret::from("abc")];
        let redactor = Redactor::new(&secrets);
        assert_eq!(redactor.redact("a hunter2-long, a hunter2, abc"), "a ***, a ***, abc");
        assert!(matches!(redactor.redact("nothing"), Cow::Borrowed("nothing")));
        let key = Redactor::new(&[Secret::from("-----BEGIN\r\nMIIEvQ==\n--\n")]);
        assert_eq!(key.redact("key MIIEvQ=="), "key ***");
        assert_eq!(key.longest(), 10);
    }

    proptest::proptest! {
        #[test]
        fn no_line_of_a_secret_stays(secret in "[a-d\r\n]{0,24}", text in "[a-d]{0,80}") {
            let redacted = Redactor::new(&[Secret::from(secret.as_str())]).redact(&text).into_owned();
            for line in secret.split('\n') {
                let line = line.strip_suffix('\r').unwrap_or(line);
                let is_looked_for = line.len() >= REDACTED_BYTES_MIN;
                proptest::prop_assert!(!is_looked_for || !redacted.contains(line), "{redacted}");
            }
        }
    }
}
