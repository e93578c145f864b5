//! Names that an operator gives: to tags, rules, rings and compilation jobs.

use oms_core::id::ParseIdError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The longest of them, in bytes.
const BYTES_MAX: usize = 64;

/// Defines a name of 1 to 64 of `A-Z a-z 0-9 . _ -`, which is kept in lower case: names that differ by
/// case alone are one.
macro_rules! operator_name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// 1 to 64 of `A-Z a-z 0-9 . _ -`, not beginning with `-`; kept in lower case.
        #[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                check($what, text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseIdError;

            fn try_from(text: String) -> Result<Self, ParseIdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

operator_name! {
    /// The name of a tag: `role` of `role=web`.
    TagName, "tag name"
}

operator_name! {
    /// The name of an assignment rule.
    RuleName, "rule name"
}

operator_name! {
    /// The name of a ring of a roll-out.
    RingName, "ring name"
}

operator_name! {
    /// The name of a compilation job; often a UUID.
    CompilationName, "compilation job name"
}

fn check(what: &'static str, text: &str) -> Result<String, ParseIdError> {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let refuse = |reason| Err(ParseIdError::new(what, text, reason));
    if text.is_empty() || text.len() > BYTES_MAX {
        return refuse("not 1 to 64 bytes");
    }
    if !text.bytes().all(is_part) || text.starts_with('-') {
        return refuse("not of A-Z a-z 0-9 . _ -, or begins with -");
    }
    Ok(text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_and_nothing_else_gets_in() {
        assert_eq!("Ring-1.a_B".parse::<TagName>().expect("a name").as_str(), "ring-1.a_b");
        let long = "a".repeat(65);
        for wrong in ["", "-a", "a b", "a=b", "a/b", "ä", "a\n", long.as_str()] {
            assert!(wrong.parse::<TagName>().is_err(), "{wrong}");
            assert!(serde_json::from_value::<RuleName>(wrong.into()).is_err(), "{wrong}");
        }
    }
}
