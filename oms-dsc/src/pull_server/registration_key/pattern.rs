//! Which configurations a key is for.

use crate::protocol::{ConfigurationName, check_name};
use oms_core::id::ParseIdError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The name of a configuration, or the beginning of names with a star after it: `Site.Web`,
/// `Site.*`, `*`.
///
/// Compared without regard to case, as [`ConfigurationName`] is, and of the same characters. Only a
/// star at the end stands for more than itself.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConfigurationPattern(String);

impl ConfigurationPattern {
    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it covers a configuration.
    #[must_use]
    pub fn covers(&self, name: &ConfigurationName) -> bool {
        let pattern = self.0.to_lowercase();
        match pattern.strip_suffix('*') {
            Some(beginning) => name.key().starts_with(beginning),
            None => name.key() == pattern,
        }
    }
}

impl FromStr for ConfigurationPattern {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        check_name("configuration pattern", text)?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for ConfigurationPattern {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<ConfigurationPattern> for String {
    fn from(pattern: ConfigurationPattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for ConfigurationPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn covers(pattern: &str, name: &str) -> bool {
        let pattern: ConfigurationPattern = pattern.parse().expect("a pattern");
        pattern.covers(&name.parse().expect("a name"))
    }

    #[test]
    fn a_star_at_the_end_stands_for_the_rest() {
        for (pattern, name, expect) in [
            ("*", "Web", true),
            ("Site.*", "SITE.Web", true),
            ("Site.*", "Site.", true),
            ("Site.*", "Site", false),
            ("Site.*", "MySite.Web", false),
            ("web", "Web", true),
            ("web", "Web2", false),
            ("*.Web", "Site.Web", false),
            ("*.Web", "*.web", true),
        ] {
            assert_eq!(covers(pattern, name), expect, "{pattern} {name}");
        }
        for bad in ["", "..", "a/b", "a'b", &"a".repeat(256)] {
            assert!(bad.parse::<ConfigurationPattern>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_covered_by_itself_and_each_of_its_beginnings(
            name in "[a-cA-C.]{1,6}x", cut in 0_usize..6
        ) {
            prop_assert!(covers(&name, &name.to_uppercase()));
            let beginning = &name[..cut.min(name.len())];
            let (shorter, longer) = (format!("{beginning}*"), format!("{name}y*"));
            prop_assert!(covers(&shorter, &name));
            prop_assert!(!covers(&longer, &name));
        }

        #[test]
        fn any_text_is_a_pattern_that_prints_the_same_or_refused(text in any::<String>()) {
            if let Ok(pattern) = text.parse::<ConfigurationPattern>() {
                prop_assert_eq!(pattern.to_string(), text);
            }
        }
    }
}
