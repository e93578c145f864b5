//! What a surface claims, and whether two claims are in each other's way.

use super::path::{Pattern, PatternError, segments};
use super::surface::Claim;

/// A claim, read. A segment is a name, or none for any one segment.
#[derive(Clone, Debug)]
pub(super) struct Territory {
    path: Vec<Option<String>>,
    is_exact: bool,
    pub(super) is_yielding: bool,
}

impl Territory {
    pub(super) fn new(claim: &Claim) -> Result<Self, PatternError> {
        let refuse = |reason| PatternError { pattern: claim.path.clone(), reason };
        let mut path = Vec::new();
        for segment in segments(&claim.path).map_err(|error| refuse(error.message()))? {
            let is_any = segment.starts_with('{') && segment.ends_with('}');
            if is_any && segment.starts_with("{*") {
                return Err(refuse("a claim covers what lies below it without `{*rest}`"));
            }
            path.push((!is_any).then_some(segment));
        }
        Ok(Self { path, is_exact: claim.is_exact, is_yielding: claim.is_yielding })
    }

    /// Whether some path lies in both and neither yields to the other.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let fits_both = |(a, b): (&Option<String>, &Option<String>)| match (a, b) {
            (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
            (None, _) | (_, None) => true,
        };
        let common = self.path.iter().zip(&other.path).all(fits_both);
        let (shorter, longer) = match self.path.len() <= other.path.len() {
            true => (self, other),
            false => (other, self),
        };
        common
            && self.is_yielding == other.is_yielding
            && (shorter.path.len() == longer.path.len() || !shorter.is_exact)
    }

    /// Whether every path that fits a pattern lies in it.
    pub(super) fn covers(&self, pattern: &Pattern) -> bool {
        pattern.is_below(&self.path) && (!self.is_exact || pattern.len() == self.path.len())
    }

    /// Whether a path lies in it.
    pub(super) fn has(&self, path: &[String]) -> bool {
        let fits = |(want, found): (&Option<String>, &String)| {
            want.as_ref().is_none_or(|want| want.eq_ignore_ascii_case(found))
        };
        path.len() >= self.path.len()
            && (!self.is_exact || path.len() == self.path.len())
            && self.path.iter().zip(path).all(fits)
    }

    /// The claim as a path.
    pub(super) fn shown(&self) -> String {
        let any = || "{}".to_owned();
        let shown: Vec<_> =
            self.path.iter().map(|segment| segment.clone().unwrap_or_else(any)).collect();
        format!("/{}", shown.join("/"))
    }
}
