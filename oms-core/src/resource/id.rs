//! Paths of resources.

use super::ArmId;
use crate::id::ParseIdError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// The path of a resource, such as
/// `/subscriptions/S/resourceGroups/G/providers/Microsoft.Automation/automationAccounts/A`.
///
/// Compared and hashed without regard to ASCII case; printed as written. Starts with a slash, has
/// no empty segment, `.` or `..`, and at most 2,048 bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResourceId(String);

impl ResourceId {
    /// The longest path, in bytes.
    pub const LENGTH_MAX: usize = 2048;

    /// The path as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `scope` itself or lies below it.
    #[must_use]
    pub fn is_within(&self, scope: &Self) -> bool {
        let (path, scope) = (self.0.as_bytes(), scope.0.as_bytes());
        scope == b"/"
            || (path.len() >= scope.len()
                && path[..scope.len()].eq_ignore_ascii_case(scope)
                && (path.len() == scope.len() || path[scope.len()] == b'/'))
    }

    /// The root, above every subscription.
    #[must_use]
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// A subscription.
    ///
    /// # Errors
    /// If `subscription` is no single segment.
    pub fn of_subscription(subscription: &str) -> Result<Self, ParseIdError> {
        Self::root().below(&["subscriptions", subscription])
    }

    /// A resource group of a subscription.
    ///
    /// # Errors
    /// If a name is no single segment.
    pub fn of_group(subscription: &str, group: &str) -> Result<Self, ParseIdError> {
        Self::root().below(&["subscriptions", subscription, "resourceGroups", group])
    }

    /// A resource of a top-level type in this scope, or an extension of this resource:
    /// `SCOPE/providers/NAMESPACE/TYPE/NAME`.
    ///
    /// # Errors
    /// If a part is no single segment.
    pub fn provider(&self, namespace: &str, kind: &str, name: &str) -> Result<Self, ParseIdError> {
        self.below(&["providers", namespace, kind, name])
    }

    /// A resource of a child type below this resource: `PARENT/TYPE/NAME`.
    ///
    /// # Errors
    /// If a part is no single segment.
    pub fn child(&self, kind: &str, name: &str) -> Result<Self, ParseIdError> {
        self.below(&[kind, name])
    }

    /// The path with further segments.
    fn below(&self, segments: &[&str]) -> Result<Self, ParseIdError> {
        let mut path = self.0.trim_end_matches('/').to_owned();
        for segment in segments {
            if segment.is_empty() || segment.contains('/') {
                let reason = "a segment is empty or has a slash";
                return Err(ParseIdError::new("resource id", segment, reason));
            }
            path.push('/');
            path.push_str(segment);
        }
        path.parse()
    }

    /// The segments, none for the root.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|segment| !segment.is_empty())
    }

    /// The path without its last segment; none for the root.
    #[must_use]
    pub fn above(&self) -> Option<Self> {
        let (above, last) = self.0.rsplit_once('/')?;
        match (above, last) {
            ("", "") => None,
            ("", _) => Some(Self::root()),
            _ => Some(Self(above.to_owned())),
        }
    }

    /// The path in lower case, the same for every spelling.
    #[must_use]
    pub fn canonical(&self) -> String {
        self.0.to_ascii_lowercase()
    }

    /// What the path says by the rules of Azure Resource Manager.
    ///
    /// # Errors
    /// If it is not of that form; the reason says why.
    pub fn arm(&self) -> Result<ArmId<'_>, ParseIdError> {
        ArmId::parse(self)
    }
}

impl FromStr for ResourceId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let refuse = |reason| Err(ParseIdError::new("resource id", text, reason));
        if text == "/" {
            return Ok(Self::root());
        }
        if text.len() > Self::LENGTH_MAX {
            return refuse("longer than 2048 bytes");
        }
        let Some(path) = text.strip_prefix('/') else {
            return refuse("does not start with a slash");
        };
        let path = path.strip_suffix('/').unwrap_or(path);
        if path.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return refuse("has an empty, `.` or `..` segment");
        }
        if path.chars().any(char::is_control) {
            return refuse("has a control character");
        }
        Ok(Self(format!("/{path}")))
    }
}

impl TryFrom<String> for ResourceId {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<ResourceId> for String {
    fn from(id: ResourceId) -> Self {
        id.0
    }
}

impl PartialEq for ResourceId {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for ResourceId {}

impl Hash for ResourceId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for byte in self.0.bytes() {
            state.write_u8(byte.to_ascii_lowercase());
        }
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ResourceId {
        text.parse().expect("a resource id")
    }

    #[test]
    fn case_does_not_matter_and_a_prefix_of_a_name_is_not_a_scope() {
        assert_eq!(id("/Subscriptions/S"), id("/subscriptions/s/"));
        assert!(id("/subscriptions/s/resourceGroups/g").is_within(&id("/SUBSCRIPTIONS/S")));
        assert!(!id("/subscriptions/s2").is_within(&id("/subscriptions/s")));
        assert!(id("/subscriptions/s2").is_within(&ResourceId::root()));
    }

    #[test]
    fn builders_make_what_parses_and_take_one_segment_at_a_time() {
        let group = ResourceId::of_group("S", "g").expect("a group");
        let vault = group.provider("Microsoft.RecoveryServices", "vaults", "v").expect("a vault");
        let fabric = vault.child("replicationFabrics", "f").expect("a child");
        let text = "/subscriptions/S/resourceGroups/g/providers/Microsoft.RecoveryServices\
                    /vaults/v/replicationFabrics/f";
        assert_eq!(fabric.as_str(), text);
        assert_eq!(fabric.above().and_then(|kind| kind.above()), Some(vault.clone()));
        assert_eq!(ResourceId::root().above(), None);
        assert_eq!(id("/a").above(), Some(ResourceId::root()));
        for bad in ["a/b", "", ".."] {
            assert!(vault.child("replicationFabrics", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn traversal_is_refused() {
        for bad in ["", "subscriptions", "/a//b", "/a/../b", "/a/./b", "/a\nb"] {
            assert!(bad.parse::<ResourceId>().is_err(), "{bad:?}");
        }
    }
}
