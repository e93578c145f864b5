//! Paths into dynamic values: `$.a.b[0]['c']`.

use crate::query::dynamic::View;

/// The most steps of a path.
const STEPS_MAX: usize = 64;

/// The way to a part of a value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Path {
    pub(super) steps: Vec<Step>,
}

/// One step of the way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Step {
    Member(String),
    Item(i64),
}

impl Path {
    /// A path that begins with `$`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut rest = text.trim().strip_prefix('$')?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if steps.len() == STEPS_MAX {
                return None;
            }
            let (step, after) = Self::step(rest)?;
            steps.push(step);
            rest = after;
        }
        Some(Self { steps })
    }

    fn step(text: &str) -> Option<(Step, &str)> {
        if let Some(rest) = text.strip_prefix('.') {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (name, rest) = rest.split_at_checked(end)?;
            return (!name.is_empty()).then(|| (Step::Member(name.to_owned()), rest));
        }
        let rest = text.strip_prefix('[')?;
        if let Some(quote) = rest.chars().next().filter(|c| matches!(c, '\'' | '"')) {
            let (name, rest) = rest.get(1..)?.split_once(quote)?;
            return Some((Step::Member(name.to_owned()), rest.strip_prefix(']')?));
        }
        let (index, rest) = rest.split_once(']')?;
        Some((Step::Item(index.trim().parse().ok()?), rest))
    }

    /// A key, or a path of keys if it begins with `$.`.
    pub(super) fn of_key(key: &str) -> Option<Self> {
        if key.starts_with("$.") || key.starts_with("$[") {
            return Self::parse(key);
        }
        Some(Self { steps: vec![Step::Member(key.to_owned())] })
    }

    /// The part of a value that the path leads to.
    pub(super) fn find<'v>(&self, value: &'v [u8]) -> Option<&'v [u8]> {
        self.steps.iter().try_fold(value, |value, step| match step {
            Step::Member(name) => View::of(value).as_bag()?.get(name),
            Step::Item(index) => View::of(value).as_array()?.at(*index),
        })
    }

    /// The names of the steps, if all are members.
    pub(super) fn names(&self) -> Option<Vec<&str>> {
        let names = self.steps.iter().map(|step| match step {
            Step::Member(name) => Some(name.as_str()),
            Step::Item(_) => None,
        });
        names.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let member = |name: &str| Step::Member(name.to_owned());
        let check = |text: &str, expect: Option<Vec<Step>>| {
            assert_eq!(Path::parse(text).map(|path| path.steps), expect, "{text}");
        };
        check("$", Some(vec![]));
        check("$.a.b[0]", Some(vec![member("a"), member("b"), Step::Item(0)]));
        check("$['a b'][\"c\"][-1]", Some(vec![member("a b"), member("c"), Step::Item(-1)]));
        for bad in ["", "a", "$a", "$..a", "$[", "$[x]", "$['a'", "$.a["] {
            check(bad, None);
        }
        check(&format!("${}", ".a".repeat(65)), None);
    }
}
