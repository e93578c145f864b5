//! The plainest regular expressions: characters of one kind, `[0-9]+` or `\s`.
//!
//! They are most of what takes numbers, addresses and blanks out of messages. Their matches are found
//! by a look at each byte, without the states of a general expression.

use regex_syntax::hir::{Class, Hir, HirKind};
use std::ops::Range;

/// A pattern that matches characters of one kind.
#[derive(Debug)]
pub(super) struct Runs {
    /// Whether a byte is such a character, if it is ASCII.
    is_in: [bool; 256],
    /// Whether a match is as many as follow each other, and not one.
    are_long: bool,
    /// Whether other characters than ASCII may be such.
    beyond_ascii: bool,
}

impl Runs {
    /// None for any other pattern.
    pub(super) fn of(pattern: &str) -> Option<Self> {
        let hir = regex_syntax::parse(pattern).ok()?;
        let (class, are_long) = match hir.kind() {
            HirKind::Repetition(repeated)
                if repeated.min == 1 && repeated.max.is_none() && repeated.greedy =>
            {
                (class_of(&repeated.sub)?, true)
            }
            _ => (class_of(&hir)?, false),
        };
        let ranges = match class {
            Class::Unicode(class) => class.iter().map(|range| (range.start(), range.end())),
            Class::Bytes(_) => return None,
        };
        let (mut is_in, mut beyond_ascii) = ([false; 256], false);
        for (first, last) in ranges {
            beyond_ascii |= !last.is_ascii();
            for at in u32::from(first)..=u32::from(last).min(0x7f) {
                if let Some(is_in) = is_in.get_mut(at as usize) {
                    *is_in = true;
                }
            }
        }
        Some(Self { is_in, are_long, beyond_ascii })
    }

    /// All matches in a text, in bytes; none if they cannot be found by bytes.
    pub(super) fn matches<'t>(
        &'t self,
        text: &'t str,
    ) -> Option<impl Iterator<Item = Range<usize>> + 't> {
        if self.beyond_ascii && !text.is_ascii() {
            return None;
        }
        let bytes = text.as_bytes();
        let is_in = |byte: &u8| self.is_in[usize::from(*byte)];
        let mut from = 0;
        Some(std::iter::from_fn(move || {
            let rest = bytes.get(from..)?;
            let start = from + rest.iter().position(is_in)?;
            let run = bytes.get(start..)?;
            let length = match self.are_long {
                true => run.iter().position(|byte| !is_in(byte)).unwrap_or(run.len()),
                false => 1,
            };
            from = start + length;
            Some(start..from)
        }))
    }
}

fn class_of(hir: &Hir) -> Option<&Class> {
    match hir.kind() {
        HirKind::Class(class) => Some(class),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use regex::Regex;

    #[test]
    fn other_patterns_are_none() {
        for pattern in
            ["a+", "[0-9]*", "[0-9]+?", "[0-9]{2,}", "[0-9]+x", "([0-9]+)", "^[0-9]+", "("]
        {
            assert!(Runs::of(pattern).is_none(), "{pattern}");
        }
        assert!(Runs::of(r"\d+").is_some_and(|runs| runs.matches("٣").is_none()));
        assert!(Runs::of("[0-9]+").is_some_and(|runs| runs.matches("٣").is_some()));
    }

    proptest! {
        #[test]
        fn the_matches_are_those_of_the_expression(
            pattern in prop::sample::select(vec![
                "[0-9]+", "[0-9]", r"\d+", r"\s+", r"\W", "[^a-c]+", "[a-fA-F0-9]+", "(?i)[k-m]+", ".",
                "[[:punct:]]+", r"[\d.]+",
            ]),
            text in "[a-f0-9 .,\n_Kkéſ\u{212A}٣\u{85}]{0,24}",
        ) {
            let runs = Runs::of(pattern).expect(pattern);
            let Some(found) = runs.matches(&text) else {
                prop_assert!(!text.is_ascii());
                return Ok(());
            };
            let regex = Regex::new(pattern).expect(pattern);
            let expected: Vec<_> = regex.find_iter(&text).map(|found| found.range()).collect();
            prop_assert_eq!(found.collect::<Vec<_>>(), expected);
        }
    }
}
