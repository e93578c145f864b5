//! The document: what it says of itself, and its resources.

use super::dependency::{self, Edge};
use super::keys::{self, COMMON, Keyed};
use super::value::{PropertyValue, Resolver};
use crate::Error;
use crate::mof::{self, Diagnostic, Document, Instance, Position, Value, ValueKind};
use std::collections::{BTreeMap, HashMap};

/// The most resources of one configuration.
pub const RESOURCES_MAX: usize = 10_000;

/// The most dependencies of one resource.
pub(crate) const DEPENDENCIES_MAX: usize = 1_000;

/// The newest document version that is understood; `MinimumCompatibleVersion` may not be above.
pub const CONFIGURATION_VERSION_MAX: [u64; 3] = [2, 0, 0];

const DOCUMENT_CLASS: &str = "OMI_ConfigurationDocument";
/// Classes of files, of Windows and of Linux, and the property that tells one of them from another.
const FILE_CLASSES: [&str; 3] =
    ["MSFT_FileDirectoryConfiguration", "MSFT_nxFileResource", "MSFT_nxFile"];
const FILE_KEY: &str = "DestinationPath";

const METACONFIGURATION_CLASS: &str = "MSFT_DSCMetaConfiguration";

/// A compiled configuration of one node.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// What the document says of itself.
    pub document: ConfigurationDocument,
    /// Its resources in the order of the text.
    pub resources: Vec<ResourceInstance>,
}

/// `OMI_ConfigurationDocument`: what a document says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConfigurationDocument {
    /// `Version`
    pub version: String,
    /// `MinimumCompatibleVersion`
    pub minimum_compatible_version: Option<String>,
    /// `Name` of the configuration.
    pub name: Option<String>,
    /// `Author`
    pub author: Option<String>,
    /// `GenerationDate`, as text: it has no fixed form.
    pub generation_date: Option<String>,
    /// `GenerationHost`
    pub generation_host: Option<String>,
    /// `ContentType`: `PasswordEncrypted` or `NotEncrypted`.
    pub content_type: Option<String>,
    /// `CertificateID` of the key that passwords are encrypted for.
    pub certificate_id: Option<String>,
}

/// One resource of a configuration: an instance of a resource class.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceInstance {
    /// The class: `MSFT_FileDirectoryConfiguration`.
    pub class: String,
    /// `ResourceID`: `[File]motd`. One resource has it, without regard to case.
    pub resource_id: String,
    /// `DependsOn`, as written.
    pub depends_on: Vec<String>,
    /// Indexes of `depends_on` among the configuration's resources; without cycles.
    pub dependencies: Vec<usize>,
    /// `SourceInfo`: `FILE::LINE::COLUMN::TYPE` of the script it was compiled from.
    pub source_info: Option<String>,
    /// `ModuleName`
    pub module_name: Option<String>,
    /// `ModuleVersion`
    pub module_version: Option<String>,
    /// `ConfigurationName`
    pub configuration_name: Option<String>,
    /// Every other property by its name as written.
    pub properties: BTreeMap<String, PropertyValue>,
    /// Where it stands in the document.
    pub position: Position,
}

impl ResourceInstance {
    /// The friendly type name: `File` of `[File]motd`, or the class if the id has none.
    #[must_use]
    pub fn type_name(&self) -> &str {
        let named = self.resource_id.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        named.map_or(self.class.as_str(), |(name, _)| name)
    }

    /// The name within the type: `motd` of `[File]motd`.
    #[must_use]
    pub fn instance_name(&self) -> &str {
        self.resource_id.split_once(']').map_or(self.resource_id.as_str(), |(_, name)| name)
    }

    /// The property of that name, without regard to ASCII case; none if it is NULL.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&PropertyValue> {
        let found = self.properties.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value).filter(|value| **value != PropertyValue::Null)
    }
}

impl Configuration {
    /// Reads and checks a document as it is stored. `name` appears in errors.
    ///
    /// # Errors
    /// [`Error::Document`] with every diagnostic.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, Error> {
        let refused = |diagnostics| Error::Document { document: name.to_owned(), diagnostics };
        let document = mof::parse(bytes).into_result().map_err(refused)?;
        Self::from_document(&document).map_err(refused)
    }

    /// Checks a document that was read.
    ///
    /// # Errors
    /// Every diagnostic, at least one.
    pub fn from_document(document: &Document) -> Result<Self, Vec<Diagnostic>> {
        Reader { resolver: Resolver::new(document), diagnostics: Vec::new() }.read(document)
    }
}

struct Reader<'a> {
    resolver: Resolver<'a>,
    diagnostics: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn report(&mut self, position: Position, message: impl Into<String>) {
        if self.diagnostics.len() < mof::DIAGNOSTICS_MAX {
            self.diagnostics.push(Diagnostic { position, message: message.into() });
        }
    }

    fn read(mut self, document: &Document) -> Result<Configuration, Vec<Diagnostic>> {
        let mut about: Option<(ConfigurationDocument, Position)> = None;
        let (mut resources, mut edges) = (Vec::new(), Vec::new());
        let mut others = Vec::new();
        self.refuse_includes(document);
        for instance in document.instances() {
            if instance.class.eq_ignore_ascii_case(DOCUMENT_CLASS) {
                if let Some((_, first)) = &about {
                    let message = format!("a second {DOCUMENT_CLASS}; the first is at {first}");
                    self.report(instance.position, message);
                } else {
                    about = Some((self.about(instance), instance.position));
                }
            } else if instance.class.eq_ignore_ascii_case(METACONFIGURATION_CLASS) {
                self.report(instance.position, "this is a metaconfiguration, not a configuration");
            } else if instance.property("ResourceID").is_some() {
                let resource = self.resource(instance, resources.len(), &mut edges);
                resources.push(resource);
            } else {
                others.push(instance);
            }
        }
        for other in others.iter().filter(|o| !self.resolver.used.contains(&o.position)) {
            let message = format!(
                "the instance of `{}` has no ResourceID and no reference to it",
                other.class
            );
            self.diagnostics.push(Diagnostic { position: other.position, message });
        }
        if resources.len() > RESOURCES_MAX {
            let message = format!("{} resources, and at most {RESOURCES_MAX}", resources.len());
            self.report(Position { line: 1, column: 1 }, message);
        }
        if about.is_none() {
            let message = format!("there is no instance of {DOCUMENT_CLASS}");
            self.report(Position { line: 1, column: 1 }, message);
        }
        self.check_ids(&resources);
        self.check_keys(&resources);
        dependency::resolve(&mut resources, edges, &mut self.diagnostics);
        self.diagnostics.append(&mut self.resolver.diagnostics);
        self.diagnostics.sort_by_key(|diagnostic| diagnostic.position);
        self.diagnostics.truncate(mof::DIAGNOSTICS_MAX);
        match about {
            Some((document, _)) if self.diagnostics.is_empty() => {
                Ok(Configuration { document, resources })
            }
            _ => Err(self.diagnostics),
        }
    }

    fn refuse_includes(&mut self, document: &Document) {
        for item in &document.items {
            if let mof::Item::Pragma(pragma) = item
                && pragma.name.eq_ignore_ascii_case("include")
            {
                let file = pragma.text().unwrap_or_default();
                let message = format!("`#pragma include (\"{file}\")` is not supported");
                self.report(pragma.position, message);
            }
        }
    }

    fn about(&mut self, instance: &Instance) -> ConfigurationDocument {
        let mut text = |name| self.text(instance, name);
        let about = ConfigurationDocument {
            version: text("Version").unwrap_or_default(),
            minimum_compatible_version: text("MinimumCompatibleVersion"),
            name: text("Name"),
            author: text("Author"),
            generation_date: text("GenerationDate"),
            generation_host: text("GenerationHost"),
            content_type: text("ContentType"),
            certificate_id: text("CertificateID"),
        };
        if let Some(needed) = &about.minimum_compatible_version
            && let Some(property) = instance.property("MinimumCompatibleVersion")
        {
            let position = property.value.position;
            match version_of(needed) {
                Some(version) if version <= CONFIGURATION_VERSION_MAX => {}
                Some(_) => {
                    let [major, minor, patch] = CONFIGURATION_VERSION_MAX;
                    let newest = format!("{major}.{minor}.{patch}");
                    let message = format!(
                        "the document needs version {needed}, and {newest} is the newest known"
                    );
                    self.report(position, message);
                }
                None => self.report(position, format!("`{needed}` is not a version")),
            }
        }
        about
    }

    /// A property that is a string if it is there; anything else is reported.
    fn text(&mut self, instance: &Instance, name: &str) -> Option<String> {
        let value = &instance.property(name)?.value;
        match &value.kind {
            ValueKind::Text(text) => Some(text.clone()),
            ValueKind::Null => None,
            _ => {
                let message = format!("`{name}` is {}, not a string", value.describe());
                self.report(value.position, message);
                None
            }
        }
    }

    fn resource(
        &mut self,
        instance: &Instance,
        index: usize,
        edges: &mut Vec<Edge>,
    ) -> ResourceInstance {
        let mut properties = self.resolver.properties(instance);
        properties.retain(|name, _| !COMMON.iter().any(|common| common.eq_ignore_ascii_case(name)));
        let resource_id = self.text(instance, "ResourceID").unwrap_or_default();
        if resource_id.is_empty() {
            self.report(instance.position, "the resource has an empty ResourceID");
        }
        let before = edges.len();
        if let Some(property) = instance.property("DependsOn") {
            self.depends_on(&property.value, index, edges);
        }
        if edges.len() - before > DEPENDENCIES_MAX {
            let message = format!("more than {DEPENDENCIES_MAX} dependencies of one resource");
            self.report(instance.position, message);
            edges.truncate(before);
        }
        ResourceInstance {
            class: instance.class.clone(),
            resource_id,
            depends_on: edges[before..].iter().map(|edge| edge.to.clone()).collect(),
            dependencies: Vec::new(),
            source_info: self.text(instance, "SourceInfo"),
            module_name: self.text(instance, "ModuleName"),
            module_version: self.text(instance, "ModuleVersion"),
            configuration_name: self.text(instance, "ConfigurationName"),
            properties,
            position: instance.position,
        }
    }

    fn depends_on(&mut self, value: &Value, from: usize, edges: &mut Vec<Edge>) {
        match &value.kind {
            ValueKind::Null => {}
            ValueKind::Text(to) => {
                edges.push(Edge { from, to: to.clone(), position: value.position });
            }
            ValueKind::Array(values) => {
                for value in values {
                    self.depends_on(value, from, edges);
                }
            }
            _ => {
                let message = format!("`DependsOn` holds {}, not strings", value.describe());
                self.report(value.position, message);
            }
        }
    }

    fn check_ids(&mut self, resources: &[ResourceInstance]) {
        let mut first = HashMap::new();
        for resource in resources.iter().filter(|resource| !resource.resource_id.is_empty()) {
            let key = resource.resource_id.to_lowercase();
            if let Some(place) = first.get(&key) {
                let id = &resource.resource_id;
                let message = format!("the resource id `{id}` was given at {place} already");
                self.report(resource.position, message);
            } else {
                first.insert(key, resource.position);
            }
        }
    }

    /// Of classes of files alone, whose key is known without a schema.
    fn check_keys(&mut self, resources: &[ResourceInstance]) {
        let is_file = |resource: &&ResourceInstance| {
            FILE_CLASSES.iter().any(|class| class.eq_ignore_ascii_case(&resource.class))
        };
        let files = resources.iter().filter(is_file).filter_map(|resource| {
            let place = (resource.resource_id.as_str(), resource.position);
            Keyed::new(FILE_KEY, vec![FILE_KEY], place, &resource.properties)
        });
        for Diagnostic { position, message } in keys::conflicts(files) {
            self.report(position, message);
        }
    }
}

/// One to four dotted numbers; the first three count.
fn version_of(text: &str) -> Option<[u64; 3]> {
    let mut version = [0; 3];
    let mut count = 0;
    for part in text.split('.') {
        let number = part.trim().parse().ok()?;
        if let Some(place) = version.get_mut(count) {
            *place = number;
        }
        count += 1;
    }
    (count <= 4).then_some(version)
}
