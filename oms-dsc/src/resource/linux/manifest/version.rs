//! Versions of manifests, and which of two is the newer.

use semver::Version as Semantic;
use std::cmp::Ordering;

/// What a manifest says of its version.
///
/// The schema of manifests asks for a version of Semantic Versioning 2.0.0. DSC version 3 takes any other
/// text too, as older than each of those, and compares such texts by their characters, which is right for
/// dates. As there, numbers of more than 64 bits are such a text.
#[derive(Clone, Debug)]
pub(super) enum Version {
    /// Another text, also none.
    Arbitrary(String),
    /// Of two builds of one version none is newer (SemVer 2.0.0, 10).
    Semantic(Semantic),
}

impl Version {
    pub(super) fn parse(text: &str) -> Self {
        Semantic::parse(text).map_or_else(|_other| Self::Arbitrary(text.to_owned()), Self::Semantic)
    }
}

impl Default for Version {
    fn default() -> Self {
        Self::Arbitrary(String::new())
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Semantic(one), Self::Semantic(other)) => one.cmp_precedence(other),
            (Self::Arbitrary(one), Self::Arbitrary(other)) => one.cmp(other),
            (Self::Semantic(_), Self::Arbitrary(_)) => Ordering::Greater,
            (Self::Arbitrary(_), Self::Semantic(_)) => Ordering::Less,
        }
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn versions_are_in_the_order_of_their_specification() {
        let ordered = [
            "",
            "1.2",
            "18446744073709551616.0.0",
            "18446744073709551617.0.0",
            "2026-01-15",
            "2026-02-01",
            "v1.0.0",
            "0.9.9",
            "1.0.0-0",
            "1.0.0-2",
            "1.0.0-10",
            "1.0.0--",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.1-a",
            "1.9.9",
            "1.10.0",
            "18446744073709551615.0.0",
        ];
        let versions: Vec<Version> = ordered.iter().map(|text| Version::parse(text)).collect();
        for pair in versions.windows(2) {
            assert!(pair[0] < pair[1], "{pair:?}");
        }
        // Which build it is does not count.
        assert_eq!(Version::parse("1.0.0+a.1"), Version::parse("1.0.0+b"));
        assert_ne!(Version::parse("1.0.0-rc.1"), Version::parse("1.0.0"));
    }

    #[test]
    fn what_the_schema_refuses_is_no_semantic_version() {
        for text in [
            "1",
            "1.0",
            "1.0.0.0",
            "01.0.0",
            "1.00.0",
            "1.0.0-",
            "1.0.0-01",
            "1.0.0-a..b",
            "1.0.0+",
            "1.0.0+a..b",
            "1.0.0+a+b",
            "1.0.0-ä",
            "-1.0.0",
            " 1.0.0",
            "1.0.x",
        ] {
            assert!(matches!(Version::parse(text), Version::Arbitrary(_)), "{text}");
        }
        for text in ["0.0.0", "1.0.0-0a", "1.0.0-a-b.0+01.-"] {
            assert!(matches!(Version::parse(text), Version::Semantic(_)), "{text}");
        }
    }

    proptest! {
        /// The order is one: it does not depend on how two are asked for, and goes on over a third.
        #[test]
        fn the_order_is_whole(texts in proptest::collection::vec("([0-2]\\.){0,3}[0-2](-[0a.-]{0,3})?", 3)) {
            let [a, b, c] = [0, 1, 2].map(|index| Version::parse(&texts[index]));
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert!(!(a <= b && b <= c) || a <= c);
        }
    }
}
