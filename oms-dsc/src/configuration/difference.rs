//! What changes from one configuration to another, resource by resource.

use super::document::{Configuration, ResourceInstance};
use super::keys::Comparison;
use super::value::PropertyValue;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter, Write as _};

/// The most that one comparison tells, in bytes of names and values as they are shown.
pub const CHANGES_BYTES_MAX: usize = 8 << 20;

/// What two configurations do not have alike.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationChanges {
    /// In order of id.
    pub resources: Vec<ResourceChange>,
    /// How many more changed, that are not told because it would be more than [`CHANGES_BYTES_MAX`].
    pub omitted: usize,
}

impl ConfigurationChanges {
    /// Whether nothing changed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.omitted == 0
    }
}

/// One resource that two configurations do not have alike.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceChange {
    /// `[Type]Name`
    pub resource_id: String,
    /// What becomes of it.
    pub kind: ChangeKind,
    /// Its properties that differ, by name; for one that is new or gone, all of them.
    pub properties: Vec<PropertyChange>,
}

/// What becomes of a resource.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::exhaustive_enums, reason = "there is no fourth")]
pub enum ChangeKind {
    /// Only the newer has it.
    Added,
    /// Only the older has it. A node lets it be as it is: it is no longer looked at.
    Removed,
    /// Both have it.
    Changed,
}

/// A property before and after, as they are shown.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct PropertyChange {
    /// Its name.
    pub name: String,
    /// Its value in the older, if it had one.
    pub before: Option<String>,
    /// Its value in the newer, if it has one.
    pub after: Option<String>,
}

impl Configuration {
    /// What changes on the way from this configuration to another, in order of id. Nothing is said of
    /// what only tells where a resource comes from. A password is shown as `***`, and of a long value the
    /// beginning.
    ///
    /// Time and memory are bounded, whatever the documents refer to how often: values that are past what
    /// is compared are told as changed, and of the changes at most [`CHANGES_BYTES_MAX`] is told.
    #[must_use]
    pub fn changes_to(&self, newer: &Self) -> ConfigurationChanges {
        let by_id = |configuration: &'_ Self| -> BTreeMap<String, usize> {
            let resources = configuration.resources.iter().enumerate();
            resources
                .map(|(index, resource)| (resource.resource_id.to_lowercase(), index))
                .collect()
        };
        let (before, after) = (by_id(self), by_id(newer));
        let mut ids: Vec<&String> = before.keys().chain(after.keys()).collect();
        ids.sort();
        ids.dedup();
        let (mut comparison, mut told_bytes) = (Comparison::default(), 0);
        let mut changes = ConfigurationChanges::default();
        for id in ids {
            let one = before.get(id).and_then(|index| self.resources.get(*index));
            let other = after.get(id).and_then(|index| newer.resources.get(*index));
            let Some(difference) = Difference::of(one, other, &mut comparison) else { continue };
            if told_bytes > CHANGES_BYTES_MAX {
                changes.omitted += 1;
                continue;
            }
            let change = difference.told();
            told_bytes += change.bytes();
            changes.resources.push(change);
        }
        changes
    }
}

/// A resource that two configurations do not have alike, before it is told.
struct Difference<'a> {
    kind: ChangeKind,
    resource_id: &'a str,
    before: BTreeMap<String, Told<'a>>,
    after: BTreeMap<String, Told<'a>>,
    /// The names of the properties that differ, in order.
    names: Vec<String>,
}

impl<'a> Difference<'a> {
    /// None if both have the resource alike.
    fn of(
        before: Option<&'a ResourceInstance>,
        after: Option<&'a ResourceInstance>,
        comparison: &mut Comparison<'a>,
    ) -> Option<Self> {
        let kind = match (before, after) {
            (None, _) => ChangeKind::Added,
            (_, None) => ChangeKind::Removed,
            _ => ChangeKind::Changed,
        };
        let resource_id = after.or(before)?.resource_id.as_str();
        let (before, after) = (told_properties(before), told_properties(after));
        let mut names: Vec<String> = before.keys().chain(after.keys()).cloned().collect();
        names.sort();
        names.dedup();
        names.retain(|name| match (before.get(name), after.get(name)) {
            (Some(one), Some(other)) => !one.is_same(other, comparison),
            _ => true,
        });
        let is_alike = kind == ChangeKind::Changed && names.is_empty();
        (!is_alike).then_some(Self { kind, resource_id, before, after, names })
    }

    fn told(self) -> ResourceChange {
        let shown = |all: &BTreeMap<String, Told<'_>>, name: &str| {
            all.get(name).map(|told| told.shown(name))
        };
        let properties = self.names.iter().map(|name| PropertyChange {
            name: name.clone(),
            before: shown(&self.before, name),
            after: shown(&self.after, name),
        });
        let properties = properties.collect();
        ResourceChange { resource_id: self.resource_id.to_owned(), kind: self.kind, properties }
    }
}

impl ResourceChange {
    /// How much of [`CHANGES_BYTES_MAX`] it takes.
    fn bytes(&self) -> usize {
        let shown = |shown: &Option<String>| shown.as_ref().map_or(0, String::len);
        let properties = self.properties.iter();
        let told =
            properties.map(|told| told.name.len() + shown(&told.before) + shown(&told.after));
        self.resource_id.len() + told.sum::<usize>()
    }
}

/// What is told of a resource: a property's value, or a text of its own, which is compared without
/// regard to case.
enum Told<'a> {
    Value(&'a PropertyValue),
    Text(String),
}

impl<'a> Told<'a> {
    /// Whether both say the same. What is not shown is compared too.
    fn is_same(&self, other: &Self, comparison: &mut Comparison<'a>) -> bool {
        match (self, other) {
            (Self::Value(one), Self::Value(other)) => comparison.is_same(one, other),
            (Self::Text(one), Self::Text(other)) => one.to_lowercase() == other.to_lowercase(),
            _ => false,
        }
    }

    fn shown(&self, name: &str) -> String {
        match self {
            Self::Value(_) if name.eq_ignore_ascii_case("Password") => HIDDEN.to_owned(),
            Self::Value(value) => {
                let mut shown = Clipped(String::new());
                // It fails where it is clipped.
                let _ = write!(shown, "{}", Shown(value));
                shown.0
            }
            Self::Text(text) => text.clone(),
        }
    }
}

fn told_properties(resource: Option<&ResourceInstance>) -> BTreeMap<String, Told<'_>> {
    let mut all = BTreeMap::new();
    let Some(resource) = resource else { return all };
    for (name, value) in &resource.properties {
        if *value != PropertyValue::Null {
            all.insert(name.clone(), Told::Value(value));
        }
    }
    let mut put = |name: &str, text: String| all.insert(name.to_owned(), Told::Text(text));
    put("(class)", resource.class.clone());
    if let (Some(name), Some(version)) = (&resource.module_name, &resource.module_version) {
        put("(module)", format!("{name} {version}"));
    }
    if !resource.depends_on.is_empty() {
        put("DependsOn", resource.depends_on.join(", "));
    }
    all
}

/// A text that ends with `…` where it would be too long: a value may refer to instances that refer to
/// others, and come to much more than its document.
struct Clipped(String);

impl Clipped {
    const BYTES_MAX: usize = 64 << 10;
}

impl fmt::Write for Clipped {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let left = Self::BYTES_MAX - self.0.len();
        if text.len() <= left {
            self.0.push_str(text);
            return Ok(());
        }
        self.0.push_str(&text[..text.floor_char_boundary(left)]);
        self.0.push('…');
        Err(fmt::Error)
    }
}

const HIDDEN: &str = "***";

/// A value in one line, without passwords.
struct Shown<'a>(&'a PropertyValue);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            PropertyValue::Null => f.write_str("NULL"),
            PropertyValue::Boolean(flag) => write!(f, "{flag}"),
            PropertyValue::Integer(number) => write!(f, "{number}"),
            PropertyValue::Real(number) => write!(f, "{number}"),
            PropertyValue::Text(text) => write!(f, "{text:?}"),
            PropertyValue::Secret(_) => f.write_str(HIDDEN),
            PropertyValue::Array(values) => {
                f.write_str("{")?;
                for (index, value) in values.iter().enumerate() {
                    f.write_str(if index > 0 { ", " } else { "" })?;
                    Self(value).fmt(f)?;
                }
                f.write_str("}")
            }
            PropertyValue::Instance(instance) => {
                write!(f, "{} {{", instance.class)?;
                for (index, (name, value)) in instance.properties.iter().enumerate() {
                    f.write_str(if index > 0 { "; " } else { " " })?;
                    if name.eq_ignore_ascii_case("Password") {
                        write!(f, "{name} = {HIDDEN}")?;
                    } else {
                        write!(f, "{name} = {}", Self(value))?;
                    }
                }
                f.write_str(" }")
            }
        }
    }
}

impl Display for ResourceChange {
    /// Several lines: the resource behind `+`, `-` or `~`, then each property.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mark = match self.kind {
            ChangeKind::Added => '+',
            ChangeKind::Removed => '-',
            ChangeKind::Changed => '~',
        };
        write!(f, "{mark} {}", self.resource_id)?;
        for PropertyChange { name, before, after } in &self.properties {
            match (before, after) {
                (Some(before), Some(after)) => write!(f, "\n    {name}: {before} -> {after}")?,
                (None, Some(after)) => write!(f, "\n    {name}: {after}")?,
                (Some(before), None) if self.kind == ChangeKind::Changed => {
                    write!(f, "\n    {name}: {before} -> (none)")?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}
