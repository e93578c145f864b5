//! Versions of manifests, and which of two is the newer.

use std::cmp::Ordering;

/// What a manifest says of its version.
///
/// The schema of manifests asks for a version of Semantic Versioning 2.0.0. DSC version 3 takes any other
/// text too, as older than each of those, and compares such texts by their characters, which is right for
/// dates.
#[derive(Clone, Debug)]
pub(super) enum Version {
    /// Another text, also none.
    Arbitrary(String),
    Semantic(Semantic),
}

/// `MAJOR.MINOR.PATCH`, what is before its release, and no build: two builds of one version are equal
/// (SemVer 2.0.0, 10).
#[derive(Clone, Debug)]
pub(super) struct Semantic {
    release: [Digits; 3],
    /// Empty for the release itself.
    preliminary: Vec<Part>,
}

/// A whole number without leading zeros, of any length.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Digits(String);

/// One part of what is before a release. Numbers are older than texts (SemVer 2.0.0, 11.4.3).
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Part {
    Number(Digits),
    Text(String),
}

impl Version {
    pub(super) fn parse(text: &str) -> Self {
        Semantic::parse(text).map_or_else(|| Self::Arbitrary(text.to_owned()), Self::Semantic)
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
            (Self::Semantic(one), Self::Semantic(other)) => one.cmp(other),
            (Self::Arbitrary(one), Self::Arbitrary(other)) => one.cmp(other),
            (Self::Semantic(_), Self::Arbitrary(_)) => Ordering::Greater,
            (Self::Arbitrary(_), Self::Semantic(_)) => Ordering::Less,
        }
    }
}

impl Semantic {
    fn parse(text: &str) -> Option<Self> {
        let (text, build) = text.split_once('+').map_or((text, None), |(a, b)| (a, Some(b)));
        let is_plain = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if build.is_some_and(|build| !build.split('.').all(is_plain)) {
            return None;
        }
        // A number has no hyphen, so the first one ends the release.
        let (release, preliminary) =
            text.split_once('-').map_or((text, None), |(a, b)| (a, Some(b)));
        let mut numbers = release.split('.').map(Digits::parse);
        let mut next = || numbers.next().flatten();
        let release = [next()?, next()?, next()?];
        if numbers.next().is_some() {
            return None;
        }
        let part = |part| {
            let is_number = str::bytes(part).all(|byte| byte.is_ascii_digit());
            match is_number {
                true => Digits::parse(part).map(Part::Number),
                false => is_plain(part).then(|| Part::Text(part.to_owned())),
            }
        };
        let preliminary = preliminary.map(|text| text.split('.').map(part).collect());
        let preliminary: Option<Vec<Part>> = preliminary.unwrap_or_else(|| Some(Vec::new()));
        Some(Self { release, preliminary: preliminary? })
    }
}

impl Ord for Semantic {
    fn cmp(&self, other: &Self) -> Ordering {
        let is_release = |version: &Self| version.preliminary.is_empty();
        self.release
            .cmp(&other.release)
            // What comes before a release is older than it (SemVer 2.0.0, 11.3).
            .then_with(|| is_release(self).cmp(&is_release(other)))
            // Of several parts alike, more are newer (SemVer 2.0.0, 11.4.4), as in the order of lists.
            .then_with(|| self.preliminary.cmp(&other.preliminary))
    }
}

impl Digits {
    fn parse(text: &str) -> Option<Self> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        (is_number && (text == "0" || !text.starts_with('0'))).then(|| Self(text.to_owned()))
    }
}

impl Ord for Digits {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.cmp(&other.0))
    }
}

/// The other comparisons of what has an order.
macro_rules! ordered {
    ($($name:ident)+) => {
        $(
            impl PartialOrd for $name {
                fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                    Some(self.cmp(other))
                }
            }
        )+
    };
}

ordered!(Version Semantic Digits);

/// Equality by an order that leaves something out.
macro_rules! equal_in_order {
    ($($name:ident)+) => {
        $(
            impl PartialEq for $name {
                fn eq(&self, other: &Self) -> bool {
                    self.cmp(other).is_eq()
                }
            }

            impl Eq for $name {}
        )+
    };
}

equal_in_order!(Version Semantic);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn versions_are_in_the_order_of_their_specification() {
        let ordered = [
            "",
            "1.2",
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
            "18446744073709551616.0.0",
            "18446744073709551617.0.0",
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
