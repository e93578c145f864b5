//! Tags of a resource.

use crate::id::ParseIdError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Names and values on a resource: at most 50; a name of 1 to 512 characters without `<>%&\?/`,
/// compared without ASCII case; a value of at most 256 characters.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Tags(BTreeMap<String, String>);

impl Tags {
    /// The most tags.
    pub const COUNT_MAX: usize = 50;

    /// The longest name, in characters.
    pub const NAME_MAX: usize = 512;

    /// The longest value, in characters.
    pub const VALUE_MAX: usize = 256;

    /// The value of a tag.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut of_name = self.0.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        of_name.next().map(|(_, value)| value.as_str())
    }

    /// Every name and value, in order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<BTreeMap<String, String>> for Tags {
    type Error = ParseIdError;

    fn try_from(tags: BTreeMap<String, String>) -> Result<Self, ParseIdError> {
        if tags.len() > Self::COUNT_MAX {
            return Err(ParseIdError::new("tags", &tags.len().to_string(), "more than 50"));
        }
        let mut seen = std::collections::BTreeSet::new();
        for (name, value) in &tags {
            let refuse = |reason| Err(ParseIdError::new("tag", name, reason));
            if !(1..=Self::NAME_MAX).contains(&name.chars().count()) {
                return refuse("a name is not 1 to 512 characters");
            }
            if name.contains(['<', '>', '%', '&', '\\', '?', '/']) {
                return refuse("a name has one of `<>%&\\?/`");
            }
            if name.chars().chain(value.chars()).any(char::is_control) {
                return refuse("has a control character");
            }
            if value.chars().count() > Self::VALUE_MAX {
                return refuse("a value is longer than 256 characters");
            }
            if !seen.insert(name.to_ascii_lowercase()) {
                return refuse("a name is there twice, in another case");
            }
        }
        Ok(Self(tags))
    }
}

impl From<Tags> for BTreeMap<String, String> {
    fn from(tags: Tags) -> Self {
        tags.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(pairs: &[(&str, &str)]) -> Result<Tags, ParseIdError> {
        let owned = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        owned.collect::<BTreeMap<_, _>>().try_into()
    }

    #[test]
    fn limits_are_kept() {
        let many: Vec<String> = (0..51).map(|number| format!("t{number}")).collect();
        let many: Vec<_> = many.iter().map(|name| (name.as_str(), "v")).collect();
        assert!(tags(&many[..50]).is_ok() && tags(&many).is_err());
        let (name, value) = ("n".repeat(513), "v".repeat(257));
        assert!(tags(&[(&name[1..], &value[1..])]).is_ok());
        for bad in [(name.as_str(), "v"), ("n", &value), ("", "v"), ("a?", "v"), ("n", "\n")] {
            assert!(tags(&[bad]).is_err(), "{bad:?}");
        }
        assert!(tags(&[("Cost", "1"), ("cost", "2")]).is_err());
        assert_eq!(tags(&[("Cost", "1")]).expect("a tag").get("COST"), Some("1"));
        assert!(serde_json::from_str::<Tags>("{\"a/b\":\"\"}").is_err());
    }
}
