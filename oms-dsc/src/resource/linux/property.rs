//! The properties of an instance, read by type.

use crate::Error;
use crate::configuration::{PropertyValue, ResourceInstance};
use oms_core::Secret;
use std::path::{Component, Path, PathBuf};

/// Whether something should be there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ensure {
    Present,
    Absent,
}

/// Reads the properties of one instance. Errors name the resource and the property.
#[derive(Clone, Copy, Debug)]
pub(super) struct Properties<'a> {
    instance: &'a ResourceInstance,
    what: &'static str,
}

impl<'a> Properties<'a> {
    /// The properties of an instance, for errors about `what`, such as `File resource`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] names a property that is not `known` and says something: left undone in
    /// silence, its resource would seem to be in a state that it is not in.
    pub(super) fn new(
        instance: &'a ResourceInstance,
        what: &'static str,
        known: &[&str],
    ) -> Result<Self, Error> {
        let read = Self { instance, what };
        for (name, value) in &instance.properties {
            let is_known = known.iter().any(|known| known.eq_ignore_ascii_case(name))
                || name.eq_ignore_ascii_case("PsDscRunAsCredential") && is_empty(value);
            if !is_known && !is_empty(value) {
                return Err(read.unsupported(name));
            }
        }
        Ok(read)
    }

    pub(super) fn id(&self) -> &'a str {
        &self.instance.resource_id
    }

    pub(super) fn invalid(&self, property: &str, value: &str) -> Error {
        let reason = format!("{} has {property}: {value}", self.id());
        Error::Invalid { what: self.what, reason }
    }

    pub(super) fn unsupported(&self, property: &str) -> Error {
        let name = format!("{property} of {}", self.id());
        Error::Unsupported { what: "property", name }
    }

    /// The value as it is.
    pub(super) fn value(&self, name: &str) -> Option<&'a PropertyValue> {
        self.instance.property(name)
    }

    /// A text as it is, also an empty one.
    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, Error> {
        match self.instance.property(name) {
            None => Ok(None),
            Some(PropertyValue::Text(text)) => Ok(Some(text)),
            Some(other) => Err(self.invalid(name, other.describe())),
        }
    }

    /// The password of a credential.
    pub(super) fn credential_password(&self, name: &str) -> Result<Option<&'a Secret>, Error> {
        let Some(value) = self.instance.property(name) else { return Ok(None) };
        let PropertyValue::Instance(credential) = value else {
            return Err(self.invalid(name, value.describe()));
        };
        let mut properties = credential.properties.iter();
        let password = properties.find(|(name, _)| name.eq_ignore_ascii_case("Password"));
        match password {
            Some((_, PropertyValue::Secret(password))) => Ok(Some(password)),
            Some((_, other)) => {
                Err(self
                    .invalid(name, &format!("a credential whose password is {}", other.describe())))
            }
            None => Err(self.invalid(name, &format!("a {} without a password", credential.class))),
        }
    }

    /// A text that says something; none if it is empty.
    pub(super) fn filled(&self, name: &str) -> Result<Option<&'a str>, Error> {
        Ok(self.text(name)?.filter(|text| !text.is_empty()))
    }

    /// A text that has to be there.
    pub(super) fn needed(&self, name: &str) -> Result<&'a str, Error> {
        self.filled(name)?.ok_or_else(|| self.invalid(name, "missing"))
    }

    /// A word of a fixed list in lower case; none if it is empty.
    pub(super) fn word(&self, name: &str) -> Result<Option<String>, Error> {
        Ok(self.filled(name)?.map(str::to_ascii_lowercase))
    }

    /// A boolean, or one of the words that the resources of Linux take for it.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Error> {
        match self.instance.property(name) {
            None => Ok(None),
            Some(PropertyValue::Boolean(flag)) => Ok(Some(*flag)),
            Some(PropertyValue::Text(text)) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" => Ok(Some(true)),
                "false" | "no" => Ok(Some(false)),
                "" => Ok(None),
                other => Err(self.invalid(name, other)),
            },
            Some(other) => Err(self.invalid(name, other.describe())),
        }
    }

    pub(super) fn ensure(&self) -> Result<Ensure, Error> {
        match self.word("Ensure")?.as_deref() {
            None | Some("present") => Ok(Ensure::Present),
            Some("absent") => Ok(Ensure::Absent),
            Some(other) => Err(self.invalid("Ensure", other)),
        }
    }

    /// A whole number that is not negative, also one written as text.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Error> {
        let number = match self.instance.property(name) {
            None => return Ok(None),
            Some(PropertyValue::Text(text)) if text.is_empty() => return Ok(None),
            Some(PropertyValue::Integer(number)) => u64::try_from(*number).ok(),
            Some(PropertyValue::Text(text)) => text.trim().parse().ok(),
            Some(other) => return Err(self.invalid(name, other.describe())),
        };
        number.map(Some).ok_or_else(|| self.invalid(name, "not a number from 0"))
    }

    /// Texts: an array, or one text. None if the property is not there; it may be there and empty.
    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<&'a str>>, Error> {
        match self.instance.property(name) {
            None => Ok(None),
            Some(PropertyValue::Text(text)) => Ok(Some(vec![text])),
            Some(PropertyValue::Array(values)) => {
                let text = |value: &'a PropertyValue| match value {
                    PropertyValue::Text(text) => Ok(text.as_str()),
                    other => Err(self.invalid(name, other.describe())),
                };
                values.iter().map(text).collect::<Result<_, _>>().map(Some)
            }
            Some(other) => Err(self.invalid(name, other.describe())),
        }
    }

    /// An absolute path without `..`, which is not the root.
    pub(super) fn path(&self, name: &str) -> Result<Option<PathBuf>, Error> {
        let Some(text) = self.filled(name)? else { return Ok(None) };
        let path = PathBuf::from(text);
        let is_plain = |c| matches!(c, Component::RootDir | Component::Normal(_));
        let has_zero = path.as_os_str().as_encoded_bytes().contains(&0);
        if !path.is_absolute() || has_zero || !path.components().all(is_plain) {
            let shown = format!("`{}` is not an absolute path without `..`", path.display());
            return Err(self.invalid(name, &shown));
        }
        if path == Path::new("/") {
            return Err(self.invalid(name, "the root cannot be a file or be removed"));
        }
        Ok(Some(path))
    }

    /// A path that has to be there.
    pub(super) fn needed_path(&self, name: &str) -> Result<PathBuf, Error> {
        self.path(name)?.ok_or_else(|| self.invalid(name, "missing"))
    }
}

/// Whether a value says nothing.
fn is_empty(value: &PropertyValue) -> bool {
    match value {
        PropertyValue::Null | PropertyValue::Boolean(false) => true,
        PropertyValue::Text(text) => text.is_empty() || text.eq_ignore_ascii_case("false"),
        PropertyValue::Array(values) => values.is_empty(),
        _ => false,
    }
}
