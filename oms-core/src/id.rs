//! Identifiers, parsed on construction.

/// Text that is not an identifier of the kind asked for.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a valid {what}. value=`{value}`, reason=`{reason}`")]
pub struct ParseIdError {
    /// The kind of identifier.
    pub what: &'static str,
    /// The text, shortened to 100 characters.
    pub value: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl ParseIdError {
    /// An error about `value`, of which at most 100 characters are kept.
    #[must_use]
    pub fn new(what: &'static str, value: &str, reason: &'static str) -> Self {
        Self { what, value: value.chars().take(100).collect(), reason }
    }
}

/// Defines a newtype over a UUID that parses, prints in lower case and draws itself from an
/// [`Entropy`](crate::Entropy).
#[macro_export]
macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd,
            ::serde::Serialize, ::serde::Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub ::uuid::Uuid);

        impl $name {
            /// Draws a new identifier.
            pub fn draw(entropy: &(impl $crate::Entropy + ?Sized)) -> Self {
                Self($crate::EntropyExt::uuid(entropy))
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::id::ParseIdError;

            fn from_str(text: &str) -> ::std::result::Result<Self, Self::Err> {
                ::uuid::Uuid::parse_str(text).map(Self).map_err(|_not_a_uuid| {
                    $crate::id::ParseIdError::new($what, text, "not a UUID")
                })
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                write!(f, "{}", self.0.as_hyphenated())
            }
        }
    };
}

uuid_id! {
    /// One run of an [`Action`](crate::Action), such as a runbook job.
    ActionId, "action id"
}

uuid_id! {
    /// Ties together every event and record that one request caused.
    CorrelationId, "correlation id"
}

uuid_id! {
    /// A connected source: one agent, management group or storage account.
    SourceId, "source id"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_parse_and_print() {
        let id: ActionId =
            "{6F9619FF-8B86-D011-B42D-00CF4FC964FF}".parse().expect("braces are allowed");
        assert_eq!(id.to_string(), "6f9619ff-8b86-d011-b42d-00cf4fc964ff");
        let error = "nope".parse::<ActionId>().expect_err("not a UUID");
        assert_eq!(error.to_string(), "not a valid action id. value=`nope`, reason=`not a UUID`");
    }
}
