//! Which names a resource may have.

use crate::id::ParseIdError;

/// Length and characters of a name. See Azure's "Naming rules and restrictions for Azure
/// resources".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NameRules {
    /// The fewest characters.
    pub length_min: usize,
    /// The most characters.
    pub length_max: usize,
    /// What may stand in it.
    pub characters: Characters,
    /// Whether it begins with an ASCII letter.
    pub begins_with_letter: bool,
    /// Whether it begins and ends with an ASCII letter or digit.
    pub ends_alphanumeric: bool,
}

/// What may stand in a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Characters {
    /// All but control characters and `<>%&:\?/`; the last is neither `.` nor a space.
    Any,
    /// ASCII letters, digits and these.
    Ascii(&'static str),
    /// Letters and digits of any script and these; the last is not `.`.
    Unicode(&'static str),
}

impl NameRules {
    /// What every name keeps: 1 to 260 characters.
    pub const ANY: Self = Self {
        length_min: 1,
        length_max: 260,
        characters: Characters::Any,
        begins_with_letter: false,
        ends_alphanumeric: false,
    };

    /// `Microsoft.Resources/subscriptions/resourceGroups`: 1 to 90 of letters, digits, `_-.()`.
    pub const RESOURCE_GROUP: Self =
        Self { length_max: 90, characters: Characters::Unicode("_-.()"), ..Self::ANY };

    /// `Microsoft.RecoveryServices/vaults`: 2 to 50 of letters, digits and `-`, a letter first.
    pub const VAULT: Self = Self {
        length_min: 2,
        length_max: 50,
        characters: Characters::Ascii("-"),
        begins_with_letter: true,
        ends_alphanumeric: false,
    };

    /// `Microsoft.Automation/automationAccounts`: 6 to 50 of letters, digits and `-`, a letter
    /// first, a letter or digit last.
    pub const AUTOMATION_ACCOUNT: Self =
        Self { length_min: 6, ends_alphanumeric: true, ..Self::VAULT };

    /// `Microsoft.OperationalInsights/workspaces`: 4 to 63 of letters, digits and `-`, a letter
    /// or digit first and last.
    pub const WORKSPACE: Self = Self {
        length_min: 4,
        length_max: 63,
        begins_with_letter: false,
        ends_alphanumeric: true,
        ..Self::VAULT
    };

    /// Whether a name keeps the rules.
    ///
    /// # Errors
    /// The reason names the rule that it breaks.
    pub fn check(&self, name: &str) -> Result<(), ParseIdError> {
        let refuse = |reason| Err(ParseIdError::new("resource name", name, reason));
        if !(self.length_min..=self.length_max).contains(&name.chars().count()) {
            return refuse("too short or too long for its type");
        }
        let fits = match self.characters {
            Characters::Any => !name.contains(['<', '>', '%', '&', ':', '\\', '?', '/']),
            Characters::Ascii(more) => {
                name.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
            }
            Characters::Unicode(more) => {
                name.chars().all(|c| c.is_alphanumeric() || more.contains(c))
            }
        };
        if !fits || name.chars().any(char::is_control) {
            return refuse("has a character that its type does not take");
        }
        if name.ends_with(['.', ' ']) {
            return refuse("ends in a dot or a space");
        }
        let is_alphanumeric = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        if self.begins_with_letter && !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return refuse("does not begin with a letter");
        }
        let (first, last) = (name.chars().next(), name.chars().next_back());
        if self.ends_alphanumeric && !(is_alphanumeric(first) && is_alphanumeric(last)) {
            return refuse("does not begin and end with a letter or digit");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_type_takes_its_names_alone() {
        let long = "a".repeat(51);
        for (rules, good, bad) in [
            (NameRules::VAULT, ["v1", "a-"], ["v", "1a", "a_b", &long]),
            (
                NameRules::AUTOMATION_ACCOUNT,
                ["abc-de", "Abc123"],
                ["abcde", "abcde-", "1bcdef", &long],
            ),
            (NameRules::WORKSPACE, ["1-23", "work"], ["abc", "-abc", "abc-", "a.bc"]),
            (NameRules::RESOURCE_GROUP, ["g", "ß_(1)"], ["", "g.", "a b", "a/b"]),
            (NameRules::ANY, ["Azure;VM;x", "a b"], ["", "a?", "a.", "a\u{7}"]),
        ] {
            for name in good {
                assert_eq!(rules.check(name), Ok(()), "{name}");
            }
            for name in bad {
                assert!(rules.check(name).is_err(), "{name:?} {rules:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_name_is_taken_or_refused(name in "\\PC{0,80}") {
            for rules in [NameRules::ANY, NameRules::VAULT, NameRules::RESOURCE_GROUP] {
                let _ = rules.check(&name);
            }
        }
    }
}
