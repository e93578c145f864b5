//! Configurations in Rust.

use super::emit::{About, Declaration, Declared, emit};
use crate::Error;
use crate::configuration::Schemas;
use crate::configuration::credential::{Passwords, Recipient};
use crate::mof::{Document, Position};
use crate::protocol::ConfigurationName;
use oms_core::Entropy;
use serde_json::Value;
use std::fmt;

/// Puts a configuration together.
///
/// ```
/// use oms_core::SystemEntropy;
/// use oms_dsc::authoring::{ConfigurationBuilder, ResourceBuilder};
/// use oms_dsc::configuration::Schemas;
///
/// let folder = ResourceBuilder::new("nxFile", "site")
///     .property("DestinationPath", "/srv/site")
///     .property("Type", "directory");
/// let page = ResourceBuilder::new("nxFile", "page")
///     .property("DestinationPath", "/srv/site/index.html")
///     .property("Contents", "hello\n")
///     .depends_on("[nxFile]site");
/// let document = ConfigurationBuilder::new("Web")
///     .resource(folder)
///     .resource(page)
///     .build(&Schemas::standard()?, &SystemEntropy)?;
/// assert!(document.to_string().contains("DependsOn = {\"[nxFile]site\"};"));
/// # Ok::<(), oms_dsc::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ConfigurationBuilder {
    name: String,
    author: Option<String>,
    recipient: Option<Recipient>,
    clear_passwords: bool,
    resources: Vec<ResourceBuilder>,
}

impl ConfigurationBuilder {
    /// Begins a configuration of that name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            author: None,
            recipient: None,
            clear_passwords: false,
            resources: Vec::new(),
        }
    }

    /// Who wrote it.
    #[must_use]
    pub fn author(mut self, author: impl Into<String>) -> Self {
        self.author = Some(author.into());
        self
    }

    /// Adds a resource. A diagnostic names it by its number, as line of the text that there is none
    /// of.
    #[must_use]
    pub fn resource(mut self, resource: ResourceBuilder) -> Self {
        self.resources.push(resource);
        self
    }

    /// Encrypts passwords for the node that holds this certificate.
    #[must_use]
    pub fn encrypt_for(mut self, recipient: Recipient) -> Self {
        self.recipient = Some(recipient);
        self
    }

    /// Leaves passwords in the clear where there is no certificate, in place of refusing them.
    #[must_use]
    pub fn leave_passwords_clear(mut self) -> Self {
        self.clear_passwords = true;
        self
    }

    /// Makes the document.
    ///
    /// # Errors
    /// [`Error::Document`] with everything that is wrong, [`Error::Name`].
    pub fn build(&self, schemas: &Schemas, entropy: &dyn Entropy) -> Result<Document, Error> {
        let name: ConfigurationName = self.name.parse()?;
        let passwords = match &self.recipient {
            Some(recipient) => Passwords::Encrypt(recipient),
            None if self.clear_passwords => Passwords::LeaveClear,
            None => Passwords::Refuse,
        };
        let author = self.author.as_deref();
        let about = About { configuration: name.as_str(), author, source: None, passwords };
        let declarations: Vec<Declaration> =
            (1..).zip(&self.resources).map(|(number, resource)| resource.declare(number)).collect();
        emit(schemas, &about, &declarations, entropy)
            .map_err(|diagnostics| Error::Document { document: name.to_string(), diagnostics })
    }
}

/// Puts a resource together.
#[derive(Clone)]
pub struct ResourceBuilder {
    kind: String,
    name: String,
    properties: Vec<(String, Value)>,
    depends_on: Vec<String>,
    module: Option<(String, String)>,
}

impl fmt::Debug for ResourceBuilder {
    /// Properties by name alone: their values may be passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let properties: Vec<&str> = self.properties.iter().map(|(name, _)| &**name).collect();
        f.debug_struct("ResourceBuilder")
            .field("kind", &self.kind)
            .field("name", &self.name)
            .field("properties", &properties)
            .field("depends_on", &self.depends_on)
            .field("module", &self.module)
            .finish()
    }
}

impl ResourceBuilder {
    /// Begins a resource of that type (the class or its friendly name) and name.
    #[must_use]
    pub fn new(kind: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            name: name.into(),
            properties: Vec::new(),
            depends_on: Vec::new(),
            module: None,
        }
    }

    /// Gives a property a value. An object is an instance of the class that the schema says, or of the
    /// one in its member `$class`; where the schema has names with values, it is those.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// Adds a resource that has to be in its state before: `[Type]Name`.
    #[must_use]
    pub fn depends_on(mut self, id: impl Into<String>) -> Self {
        self.depends_on.push(id.into());
        self
    }

    /// The module that the class comes in, and its version.
    #[must_use]
    pub fn module(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
        self.module = Some((name.into(), version.into()));
        self
    }

    fn declare(&self, number: u32) -> Declaration {
        let position = Position { line: number, column: 1 };
        let properties = self.properties.iter().map(|(name, value)| Declared {
            name: name.clone(),
            value: value.clone(),
            secure: None,
            position,
            value_position: position,
        });
        Declaration {
            kind: self.kind.clone(),
            name: self.name.clone(),
            suffix: String::new(),
            properties: properties.collect(),
            depends_on: self.depends_on.iter().map(|id| (id.clone(), position)).collect(),
            module: self.module.clone(),
            position,
        }
    }
}
