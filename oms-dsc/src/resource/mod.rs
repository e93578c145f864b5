//! Resources: what can be tested and brought into a desired state.
//!
//! A [`Resource`] serves one or more classes. A [`Registry`] finds the resource of an instance; a
//! class that no resource serves is an error that names it.

#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
pub use linux::*;

use crate::Error;
use crate::configuration::credential::{self, RecipientKey};
use crate::configuration::{ConfigurationDocument, ResourceInstance};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::path::Path;
use std::sync::Arc;

/// One way in which what is differs from what should be.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The property: `Ensure`, `Contents`.
    pub property: String,
    /// What was found.
    pub found: String,
    /// What should be.
    pub desired: String,
    /// For text of several lines, what would change line by line, with a mark at the start of each:
    /// `-` goes, `+` comes. It may show what a file holds, so it stays on this computer: reports
    /// leave it out.
    #[serde(default, skip_serializing)]
    pub diff: Option<String>,
}

impl Difference {
    /// A property that is `found` and should be `desired`.
    pub fn new(
        property: impl Into<String>,
        found: impl Into<String>,
        desired: impl Into<String>,
    ) -> Self {
        Self { property: property.into(), found: found.into(), desired: desired.into(), diff: None }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, desired is {}", self.property, self.found, self.desired)
    }
}

/// What a set came to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SetReport {
    /// Whether the computer has to restart before the state counts. Nothing else is set before it
    /// has.
    pub reboot_required: bool,
}

/// Tests, sets and gets instances of some classes.
#[async_trait]
pub trait Resource: Debug + Send + Sync {
    /// The classes it serves, such as `MSFT_FileDirectoryConfiguration`.
    fn classes(&self) -> &[&str];

    /// What is there, as properties by name. Changes nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::Unsupported`] for the instance, [`Error::OutsideRoot`], or
    /// what kept it from looking.
    async fn get(
        &self,
        instance: &ResourceInstance,
    ) -> Result<BTreeMap<String, serde_json::Value>, Error>;

    /// How what is differs from what should be; nothing if it does not. Changes nothing, so it is
    /// also the preview of [`Resource::set`].
    ///
    /// # Errors
    /// As [`Resource::get`].
    async fn test(&self, instance: &ResourceInstance) -> Result<Vec<Difference>, Error>;

    /// Brings it into the desired state. Repeating it after an interruption at any point does the
    /// rest.
    ///
    /// # Errors
    /// As [`Resource::get`], or what kept it from changing.
    async fn set(&self, instance: &ResourceInstance) -> Result<SetReport, Error>;
}

/// Resources by the classes they serve.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    by_class: BTreeMap<String, Arc<dyn Resource>>,
    recipient_key: Option<Arc<RecipientKey>>,
}

impl Registry {
    /// A registry that serves nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Every resource of this crate. With `root`, none of them touches anything outside of that
    /// folder, and those of a system are about the one whose files are below it; what cannot be kept
    /// in a folder, such as scripts, is left out.
    ///
    /// # Errors
    /// [`Error::Io`] if there is no such folder.
    #[cfg(target_os = "linux")]
    pub fn standard(root: Option<&Path>) -> Result<Self, Error> {
        let Some(root) = root else {
            return Ok(Self::new()
                .with(Arc::new(FileResource::unrestricted()))
                .with(Arc::new(FileLineResource::unrestricted()))
                .with(Arc::new(ArchiveResource::unrestricted()))
                .with(Arc::new(EnvironmentResource::unrestricted()))
                .with(Arc::new(UserResource::unrestricted()))
                .with(Arc::new(GroupResource::unrestricted()))
                .with(Arc::new(SshAuthorizedKeysResource::unrestricted()))
                .with(Arc::new(LogResource::unrestricted()))
                .with(Arc::new(PendingRebootResource::unrestricted()))
                .with(Arc::new(PackageResource::unrestricted()))
                .with(Arc::new(ServiceResource::new(Arc::new(Systemd))))
                .with(Arc::new(ScriptResource::new()))
                .with(Arc::new(CommandResource::system())));
        };
        Ok(Self::new()
            .with(Arc::new(FileResource::within(root)?))
            .with(Arc::new(FileLineResource::within(root)?))
            .with(Arc::new(ArchiveResource::within(root)?))
            .with(Arc::new(EnvironmentResource::within(root)?))
            .with(Arc::new(UserResource::within(root)?))
            .with(Arc::new(GroupResource::within(root)?))
            .with(Arc::new(SshAuthorizedKeysResource::within(root)?))
            .with(Arc::new(PackageResource::within(root)?))
            .with(Arc::new(LogResource::within(root)?))
            .with(Arc::new(PendingRebootResource::within(root)?)))
    }

    /// Every resource of this crate that this system can have: none yet. [`Registry::find`] refuses
    /// each class by name.
    ///
    /// # Errors
    /// None.
    #[cfg(not(target_os = "linux"))]
    pub fn standard(_root: Option<&Path>) -> Result<Self, Error> {
        Ok(Self::new())
    }

    /// The same registry with one more resource, which takes over the classes it names.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "a builder takes its components")]
    pub fn with(mut self, resource: Arc<dyn Resource>) -> Self {
        for class in resource.classes() {
            self.by_class.insert(class.to_ascii_lowercase(), Arc::clone(&resource));
        }
        self
    }

    /// The same registry with one more resource for those of its classes that nothing serves.
    #[expect(clippy::needless_pass_by_value, reason = "as `with`")]
    pub(crate) fn or(mut self, resource: Arc<dyn Resource>) -> Self {
        for class in resource.classes() {
            let class = class.to_ascii_lowercase();
            self.by_class.entry(class).or_insert_with(|| Arc::clone(&resource));
        }
        self
    }

    /// The same registry with a key for encrypted passwords: a resource gets them in the clear, as
    /// [`PropertyValue::Secret`](crate::configuration::PropertyValue::Secret), for the one call that it
    /// serves. Without a key, a resource that has one fails and says so.
    #[must_use]
    pub fn with_recipient_key(mut self, key: Arc<RecipientKey>) -> Self {
        self.recipient_key = Some(key);
        self
    }

    /// The certificate whose key opens passwords, by its thumbprint, if there is one.
    #[must_use]
    pub fn certificate_thumbprint(&self) -> Option<&str> {
        self.recipient_key.as_deref().map(RecipientKey::thumbprint)
    }

    /// The instance of a document as its resource gets it: with its passwords opened.
    pub(crate) fn opened<'a>(
        &self,
        instance: &'a ResourceInstance,
        document: &ConfigurationDocument,
    ) -> Result<Cow<'a, ResourceInstance>, Error> {
        credential::opened(instance, document, self.recipient_key.as_deref())
    }

    /// The classes that are served, in lower case and in the order of the alphabet.
    pub fn classes(&self) -> impl Iterator<Item = &str> {
        self.by_class.keys().map(String::as_str)
    }

    /// The resource of an instance.
    ///
    /// # Errors
    /// [`Error::Unsupported`] names the class.
    pub fn find(&self, instance: &ResourceInstance) -> Result<&Arc<dyn Resource>, Error> {
        let class = instance.class.to_ascii_lowercase();
        self.by_class.get(&class).ok_or_else(|| Error::Unsupported {
            what: "resource class",
            name: instance.class.clone(),
        })
    }
}
