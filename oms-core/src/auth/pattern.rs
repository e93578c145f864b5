//! Patterns of operations.

use crate::id::ParseIdError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 512;

/// An operation, or a pattern in which each `*` stands for any text, also none and also with
/// slashes: `*`, `*/read`, `Microsoft.Automation/automationAccounts/jobs/*`.
///
/// Compared without regard to ASCII case. 1 to 512 bytes of ASCII letters, digits and `*./_-`.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OperationPattern(String);

impl OperationPattern {
    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it covers an operation.
    #[must_use]
    pub fn covers(&self, operation: &str) -> bool {
        fits(&self.0, operation)
    }
}

impl FromStr for OperationPattern {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let refuse = |reason| Err(ParseIdError::new("operation pattern", text, reason));
        if !(1..=PATTERN_BYTES_MAX).contains(&text.len()) {
            return refuse("not 1 to 512 bytes");
        }
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"*./_-".contains(&b);
        if !text.bytes().all(is_allowed) {
            return refuse("has another character than letters, digits and `*./_-`");
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for OperationPattern {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<OperationPattern> for String {
    fn from(pattern: OperationPattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for OperationPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `operation` fits `pattern`. Each part between stars is taken where it first fits, so
/// the time is bounded by the product of the lengths.
pub(super) fn fits(pattern: &str, operation: &str) -> bool {
    let operation = operation.as_bytes();
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern.as_bytes().eq_ignore_ascii_case(operation);
    };
    let begins = operation
        .get(..first.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(first.as_bytes()));
    if !begins {
        return false;
    }
    let mut left = &operation[first.len()..];
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*').filter(|part| !part.is_empty()) {
        let part = part.as_bytes();
        let at = left.windows(part.len()).position(|window| window.eq_ignore_ascii_case(part));
        let Some(at) = at else { return false };
        left = &left[at + part.len()..];
    }
    let Some(from) = left.len().checked_sub(last.len()) else { return false };
    left[from..].eq_ignore_ascii_case(last.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, operation, expect) in [
            ("*", "", true),
            ("*/read", "Microsoft.A/b/READ", true),
            ("*/read", "Microsoft.A/b/readAll", false),
            ("*/read", "read", false),
            ("Microsoft.A/jobs/*", "microsoft.a/jobs/stop/action", true),
            ("Microsoft.A/jobs/*", "Microsoft.A/jobs", false),
            ("Microsoft.A/jobs/*", "Microsoft.A/jobschedules/read", false),
            ("Microsoft.A/*/read", "Microsoft.A/read", false),
            ("Microsoft.A/*/read", "Microsoft.A/x/y/read", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "abbxc", true),
            ("a*b*c", "acb", false),
            ("ab*b", "ab", false),
            ("a", "a", true),
            ("a", "ab", false),
            ("", "", true),
        ] {
            assert_eq!(fits(pattern, operation), expect, "{pattern} {operation}");
        }
        for bad in ["", "a b", "a{b}", &"a".repeat(513)] {
            assert!(bad.parse::<OperationPattern>().is_err(), "{bad:?}");
        }
    }

    /// By the definition, in exponential time.
    fn oracle(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|skip| oracle(rest, &text[skip..])),
            Some((byte, rest)) => text.split_first().is_some_and(|(found, after)| {
                found.eq_ignore_ascii_case(byte) && oracle(rest, after)
            }),
        }
    }

    proptest! {
        #[test]
        fn fits_agrees_with_the_definition(pattern in "[ab*/A]{0,8}", text in "[abB/]{0,10}") {
            prop_assert_eq!(fits(&pattern, &text), oracle(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn without_a_star_only_the_operation_itself_fits(
            pattern in "[a-c./]{1,6}", text in "[a-c./]{1,6}"
        ) {
            prop_assert_eq!(fits(&pattern, &text), pattern == text);
        }
    }
}
