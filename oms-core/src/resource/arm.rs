//! What a resource's path says.

use super::{NameRules, ResourceId};
use crate::id::ParseIdError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// The most types of one provider in a path, such as `vaults/backupFabrics/…`.
const TYPES_MAX: usize = 16;

/// A resource type, such as `Microsoft.RecoveryServices/vaults/backupFabrics`.
///
/// Compared and hashed without regard to ASCII case; printed as written. A namespace and 1 to 16
/// types, each of ASCII letters, digits, `.`, `-` and `_`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResourceType(String);

impl ResourceType {
    /// The type as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The provider's namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// The types from the top down, without the namespace.
    pub fn types(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').skip(1)
    }

    /// The type it is a child of; none for a top-level type.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (parent, _) = self.0.rsplit_once('/')?;
        parent.contains('/').then(|| Self(parent.to_owned()))
    }

    /// The type in lower case, the same for every spelling.
    #[must_use]
    pub fn canonical(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl FromStr for ResourceType {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let refuse = |reason| Err(ParseIdError::new("resource type", text, reason));
        let parts = text.split('/').count();
        if !(2..=TYPES_MAX + 1).contains(&parts) {
            return refuse("not a namespace and 1 to 16 types");
        }
        if !text.split('/').all(is_word) {
            return refuse("a part is not of letters, digits, `.`, `-` and `_`");
        }
        Ok(Self(text.to_owned()))
    }
}

/// Whether a segment can be a namespace or a type.
fn is_word(segment: &str) -> bool {
    let is_word_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    (1..=128).contains(&segment.len()) && segment.bytes().all(is_word_byte)
}

impl TryFrom<String> for ResourceType {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<ResourceType> for String {
    fn from(of: ResourceType) -> Self {
        of.0
    }
}

impl PartialEq for ResourceType {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for ResourceType {}

impl Hash for ResourceType {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.canonical().hash(state);
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One `providers/NAMESPACE/TYPE/NAME/TYPE/NAME…` of a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProviderPath<'a> {
    namespace: &'a str,
    types: Vec<&'a str>,
    names: Vec<&'a str>,
}

impl<'a> ProviderPath<'a> {
    /// The provider's namespace.
    #[must_use]
    pub const fn namespace(&self) -> &'a str {
        self.namespace
    }

    /// The types from the top down; at least one.
    #[must_use]
    pub fn types(&self) -> &[&'a str] {
        &self.types
    }

    /// The names from the top down; one fewer than types where a whole collection is meant.
    #[must_use]
    pub fn names(&self) -> &[&'a str] {
        &self.names
    }

    /// The types with their namespace.
    #[must_use]
    pub fn resource_type(&self) -> ResourceType {
        ResourceType(format!("{}/{}", self.namespace, self.types.join("/")))
    }
}

/// What a path says by the rules of Azure Resource Manager.
///
/// ```
/// use oms_core::resource::ResourceId;
///
/// let id: ResourceId = "/subscriptions/S/resourceGroups/G/providers/Microsoft.RecoveryServices\
///                       /vaults/V/replicationFabrics/F".parse()?;
/// let arm = id.arm()?;
/// assert_eq!(arm.subscription(), Some("S"));
/// assert_eq!(arm.resource_group(), Some("G"));
/// let kind = arm.resource_type().expect("a resource");
/// assert_eq!(kind.as_str(), "Microsoft.RecoveryServices/vaults/replicationFabrics");
/// assert_eq!(arm.name(), Some("F"));
/// # Ok::<(), oms_core::id::ParseIdError>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ArmId<'a> {
    id: &'a ResourceId,
    subscription: Option<&'a str>,
    group: Option<&'a str>,
    /// Each after the first extends the one before it.
    providers: Vec<ProviderPath<'a>>,
    /// Where the path ends in a collection of subscriptions or groups.
    is_scope_collection: bool,
}

impl<'a> ArmId<'a> {
    pub(super) fn parse(id: &'a ResourceId) -> Result<Self, ParseIdError> {
        let refuse = |reason| ParseIdError::new("ARM resource id", id.as_str(), reason);
        let segments: Vec<&str> = id.segments().collect();
        let mut rest = segments.as_slice();
        let mut arm = Self {
            id,
            subscription: None,
            group: None,
            providers: Vec::new(),
            is_scope_collection: false,
        };
        if let Some(name) = take(&mut rest, "subscriptions") {
            arm.subscription = name;
            arm.is_scope_collection = name.is_none();
        }
        if arm.subscription.is_some()
            && let Some(name) = take(&mut rest, "resourceGroups")
        {
            arm.group = name;
            arm.is_scope_collection = name.is_none();
            if name.is_some_and(|name| NameRules::RESOURCE_GROUP.check(name).is_err()) {
                return Err(refuse("not a name of a resource group"));
            }
        }
        while let Some((first, after)) = rest.split_first() {
            if !first.eq_ignore_ascii_case("providers") {
                return Err(refuse("a segment is neither a scope nor `providers`"));
            }
            // A resource may be called `providers`; a type may not.
            let is_next = |(index, segment): (usize, &&str)| {
                index % 2 == 1 && segment.eq_ignore_ascii_case("providers")
            };
            let end = after.iter().enumerate().position(is_next).unwrap_or(after.len());
            arm.providers.push(provider(&after[..end]).map_err(refuse)?);
            rest = &after[end..];
        }
        Ok(arm)
    }

    /// The path that was read.
    #[must_use]
    pub const fn id(&self) -> &'a ResourceId {
        self.id
    }

    /// The subscription.
    #[must_use]
    pub const fn subscription(&self) -> Option<&'a str> {
        self.subscription
    }

    /// The resource group.
    #[must_use]
    pub const fn resource_group(&self) -> Option<&'a str> {
        self.group
    }

    /// The providers in order: the first is the resource's own, each further one extends the
    /// resource before it.
    #[must_use]
    pub fn providers(&self) -> &[ProviderPath<'a>] {
        &self.providers
    }

    /// The last provider's namespace.
    #[must_use]
    pub fn namespace(&self) -> Option<&'a str> {
        self.providers.last().map(ProviderPath::namespace)
    }

    /// The type of what the path names: the last provider's, or that of the group or the
    /// subscription; none for the root.
    #[must_use]
    pub fn resource_type(&self) -> Option<ResourceType> {
        if let Some(last) = self.providers.last() {
            return Some(last.resource_type());
        }
        let of = |text: &str| Some(ResourceType(text.to_owned()));
        match (self.subscription, self.group, self.is_scope_collection) {
            (Some(_), Some(_), _) | (Some(_), None, true) => {
                of("Microsoft.Resources/subscriptions/resourceGroups")
            }
            (Some(_), None, false) | (None, _, true) => of("Microsoft.Resources/subscriptions"),
            (None, ..) => None,
        }
    }

    /// The name of what the path names; none for the root and for a collection.
    #[must_use]
    pub fn name(&self) -> Option<&'a str> {
        if self.is_collection() {
            return None;
        }
        match self.providers.last() {
            Some(last) => last.names.last().copied(),
            None => self.group.or(self.subscription),
        }
    }

    /// Whether the path names all things of a type instead of one.
    #[must_use]
    pub fn is_collection(&self) -> bool {
        let of_provider = |last: &ProviderPath<'_>| last.names.len() < last.types.len();
        self.is_scope_collection || self.providers.last().is_some_and(of_provider)
    }

    /// Whether it is a resource of one provider on top of another resource.
    #[must_use]
    pub fn is_extension(&self) -> bool {
        self.providers.len() > 1
    }

    /// What lies above: the parent resource of a child, the scope of a top-level resource, the
    /// resource that an extension extends, the subscription of a group; none for the root.
    #[must_use]
    pub fn parent(&self) -> Option<ResourceId> {
        let levels = match self.providers.last() {
            Some(last) if self.is_collection() => 1 + 2 * usize::from(last.types.len() == 1),
            Some(last) => 2 + 2 * usize::from(last.types.len() == 1),
            None if self.is_scope_collection => 1,
            None => 2,
        };
        let mut above = self.id.clone();
        for _ in 0..levels {
            above = above.above()?;
        }
        Some(above)
    }
}

/// Takes `KEY/NAME`, or `KEY` at the end, off the front: none if the key is another.
fn take<'a>(rest: &mut &[&'a str], key: &str) -> Option<Option<&'a str>> {
    let (first, after) = rest.split_first()?;
    if !first.eq_ignore_ascii_case(key) {
        return None;
    }
    let name = after.first().copied();
    *rest = after.get(1..).unwrap_or_default();
    Some(name)
}

fn provider<'a>(segments: &[&'a str]) -> Result<ProviderPath<'a>, &'static str> {
    let Some((namespace, rest)) = segments.split_first() else {
        return Err("`providers` without a namespace");
    };
    if rest.is_empty() {
        return Err("a provider without a type");
    }
    let types: Vec<&str> = rest.iter().copied().step_by(2).collect();
    let names: Vec<&str> = rest.iter().copied().skip(1).step_by(2).collect();
    if types.len() > TYPES_MAX {
        return Err("more than 16 types");
    }
    if !is_word(namespace) || !types.iter().all(|kind| is_word(kind)) {
        return Err("a namespace or type is not of letters, digits, `.`, `-` and `_`");
    }
    if names.iter().any(|name| NameRules::ANY.check(name).is_err()) {
        return Err("a name is too long, ends in `.` or space, or has one of `<>%&:\\?/`");
    }
    Ok(ProviderPath { namespace, types, names })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn show(text: &str) -> String {
        let id: ResourceId = text.parse().expect("a resource id");
        match id.arm() {
            Ok(arm) => format!(
                "{} {} {} {} {} ^{}",
                arm.subscription().unwrap_or("-"),
                arm.resource_group().unwrap_or("-"),
                arm.resource_type().map_or("-".to_owned(), |of| of.to_string()),
                arm.name().unwrap_or("-"),
                if arm.is_collection() { "all" } else { "one" },
                arm.parent().map_or("-".to_owned(), |parent| parent.to_string()),
            ),
            Err(error) => error.reason.to_owned(),
        }
    }

    #[test]
    fn paths_say_their_parts() {
        let groups = "Microsoft.Resources/subscriptions/resourceGroups";
        for (path, expect) in [
            ("/", "- - - - one ^-"),
            ("/subscriptions", "- - Microsoft.Resources/subscriptions - all ^/"),
            ("/SUBSCRIPTIONS/s", "s - Microsoft.Resources/subscriptions s one ^/"),
            ("/subscriptions/s/resourcegroups", &format!("s - {groups} - all ^/subscriptions/s")),
            ("/subscriptions/s/resourceGroups/g", &format!("s g {groups} g one ^/subscriptions/s")),
            ("/providers/A.B/c/d", "- - A.B/c d one ^/"),
            ("/subscriptions/s/providers/A.B/c", "s - A.B/c - all ^/subscriptions/s"),
            (
                "/subscriptions/s/providers/A.B/c/d/e",
                "s - A.B/c/e - all ^/subscriptions/s/providers/A.B/c/d",
            ),
            (
                "/subscriptions/s/providers/A.B/c/d/e/f",
                "s - A.B/c/e f one ^/subscriptions/s/providers/A.B/c/d",
            ),
            ("/providers/A.B/c/d/Providers/X/y/z", "- - X/y z one ^/providers/A.B/c/d"),
            ("/elsewhere", "a segment is neither a scope nor `providers`"),
            ("/subscriptions/s/resourceGroups/g.", "not a name of a resource group"),
            ("/providers", "`providers` without a namespace"),
            ("/providers/A.B", "a provider without a type"),
            ("/providers/A.B/c/providers/X", "- - A.B/c/X - all ^/providers/A.B/c/providers"),
            (
                "/subscriptions/providers/providers/A.B/c",
                "providers - A.B/c - all ^/subscriptions/providers",
            ),
        ] {
            assert_eq!(show(path), expect, "{path}");
        }
        assert!(show("/providers/A B/c/d").starts_with("a namespace or type"));
        assert!(show("/providers/A.B/c/d?").starts_with("a name is too long"));
        assert_eq!(show(&format!("/providers/A{}", "/t/n".repeat(17))), "more than 16 types");
    }

    #[test]
    fn types_know_their_parents() {
        let of: ResourceType = "A.B/vaults/items".parse().expect("a type");
        assert_eq!((of.namespace(), of.types().count()), ("A.B", 2));
        assert_eq!(of.parent().map(|parent| parent.to_string()), Some("A.B/vaults".to_owned()));
        assert_eq!(of.parent().and_then(|parent| parent.parent()), None);
        assert_eq!(of, "a.b/VAULTS/items".parse().expect("a type"));
        for bad in ["", "A", "A/", "A/b c", "/A/b"] {
            assert!(bad.parse::<ResourceType>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_read_or_refused_and_what_is_read_has_a_parent_above_it(
            path in "(/(subscriptions|resourceGroups|providers|[a-zA-Z.?]{1,4})){0,12}"
        ) {
            let Ok(id) = path.parse::<ResourceId>() else { return Ok(()) };
            if let Ok(arm) = id.arm() {
                prop_assert_eq!(arm.parent().is_none(), id == ResourceId::root());
                if let Some(parent) = arm.parent() {
                    prop_assert!(id.is_within(&parent) && parent.arm().is_ok(), "{}", parent);
                }
            }
        }

        #[test]
        fn what_is_built_is_read_back(
            names in proptest::collection::vec("[a-z][a-z0-9-]{0,20}", 1..6)
        ) {
            let group = ResourceId::of_group("s", "g").expect("a group");
            let mut id = group.provider("A.B", "t0", &names[0]).expect("a resource");
            for (level, name) in names.iter().enumerate().skip(1) {
                id = id.child(&format!("t{level}"), name).expect("a child");
            }
            let arm = id.arm().expect("what was built");
            prop_assert_eq!(arm.providers()[0].names(), names.as_slice());
            prop_assert_eq!(arm.providers()[0].types().len(), names.len());
        }
    }
}
