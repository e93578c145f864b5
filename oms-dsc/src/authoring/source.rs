//! A source document: what it declares, before it is compiled for a node.

use super::tree::{Entry, Kind, Tree};
use crate::Error;
use crate::configuration::meant;
use crate::mof::{DIAGNOSTICS_MAX, Diagnostic, Position};
use serde_json::Value;
use std::collections::HashMap;
use std::fmt;

/// Types of DSC version 3 whose `resources` are resources of the document itself.
const GROUPS: [&str; 4] = [
    "Microsoft.DSC/Group",
    "Microsoft.DSC/PowerShell",
    "Microsoft.Windows/WindowsPowerShell",
    "Microsoft.Adapter/PowerShell",
];

/// Types of DSC version 3 that mean something only while the document is read by its own engine.
const OF_THE_ENGINE: [&str; 3] =
    ["Microsoft.DSC/Assertion", "Microsoft.DSC/Include", "Microsoft.DSC/Import"];

/// The longest name of a resource, a type, a module or a composite, in bytes: every resource of a document
/// has its own copy.
pub(super) const NAME_BYTES_MAX: usize = 255;

/// A source document: what it declares, before it is compiled for a node.
#[derive(Clone)]
pub struct Source {
    /// The name that diagnostics and `SourceInfo` have.
    pub(super) file: String,
    pub(super) configuration: Option<(String, Position)>,
    pub(super) author: Option<String>,
    pub(super) parameters: Vec<Parameter>,
    pub(super) variables: Vec<Entry>,
    pub(super) nodes: Vec<Entry>,
    pub(super) composites: Vec<Composite>,
    pub(super) resources: Vec<Resource>,
    /// Of the local configuration manager; with them the source is one of metaconfigurations.
    pub(super) settings: Option<Vec<Entry>>,
}

/// A resource that is made of others.
#[derive(Clone)]
pub(super) struct Composite {
    pub(super) name: String,
    pub(super) parameters: Vec<Parameter>,
    pub(super) resources: Vec<Resource>,
}

/// A resource as it is written.
#[derive(Clone)]
pub(super) struct Resource {
    pub(super) kind: String,
    pub(super) name: Tree,
    pub(super) properties: Vec<Entry>,
    /// The resources of a group, in place of properties.
    pub(super) members: Option<Vec<Self>>,
    pub(super) depends_on: Vec<Tree>,
    pub(super) condition: Option<Tree>,
    pub(super) module: Option<(String, String)>,
    pub(super) position: Position,
}

/// A parameter as it is declared.
#[derive(Clone)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) parameter_type: ParameterType,
    pub(super) default: Option<Tree>,
    pub(super) allowed: Option<Vec<Value>>,
    /// `minValue`, `maxValue`
    pub(super) values: (Option<i64>, Option<i64>),
    /// `minLength`, `maxLength`
    pub(super) lengths: (Option<i64>, Option<i64>),
    pub(super) position: Position,
}

/// The type of a parameter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ParameterType {
    /// `string`
    String,
    /// `secureString`: a string that is written down as a credential's password, which is encrypted, or as
    /// a registration key, and nowhere else.
    SecureString,
    /// `int`
    Int,
    /// `bool`
    Bool,
    /// `array`
    Array,
    /// `object`
    Object,
    /// `secureObject`: an object that is written down as a credential, whose `userName` is in the clear and
    /// whose `password` is encrypted, and nowhere else.
    SecureObject,
}

impl ParameterType {
    const ALL: [(&'static str, Self); 7] = [
        ("string", Self::String),
        ("secureString", Self::SecureString),
        ("int", Self::Int),
        ("bool", Self::Bool),
        ("array", Self::Array),
        ("object", Self::Object),
        ("secureObject", Self::SecureObject),
    ];

    fn parse(text: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        found.map(|(_, parameter_type)| *parameter_type)
    }

    /// Its spelling in documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, parameter_type)| *parameter_type == self);
        found.map_or("string", |(name, _)| name)
    }

    /// Whether its values are secrets.
    #[must_use]
    pub const fn is_secure(self) -> bool {
        matches!(self, Self::SecureString | Self::SecureObject)
    }

    pub(super) fn fits(self, value: &Value) -> bool {
        match self {
            Self::String | Self::SecureString => value.is_string(),
            Self::Int => value.is_i64(),
            Self::Bool => value.is_boolean(),
            Self::Array => value.is_array(),
            Self::Object | Self::SecureObject => value.is_object(),
        }
    }

    /// A value that travels as text, as in the parameters of Azure Automation's jobs: JSON, but that a
    /// string may go without its quotes, and `True` is taken for `true`. None if it is no value of the
    /// type.
    pub(crate) fn read(self, text: &str) -> Option<Value> {
        let json = serde_json::from_str::<Value>(text).ok().filter(|value| self.fits(value));
        match self {
            Self::String | Self::SecureString => json.or_else(|| Some(text.into())),
            Self::Bool if text.eq_ignore_ascii_case("true") => Some(true.into()),
            Self::Bool if text.eq_ignore_ascii_case("false") => Some(false.into()),
            _ => json,
        }
    }
}

impl fmt::Debug for Source {
    /// By names alone: a value may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<&str> = self.nodes().collect();
        f.debug_struct("Source")
            .field("file", &self.file)
            .field("configuration", &self.configuration.as_ref().map(|(name, _)| name))
            .field("parameters", &self.parameters().collect::<Vec<_>>())
            .field("nodes", &nodes)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// Reads a document in YAML or JSON. `file` appears in errors and in the `SourceInfo` of what is
    /// compiled.
    ///
    /// # Errors
    /// [`Error::Document`] with everything that is wrong.
    pub fn read(file: &str, bytes: &[u8]) -> Result<Self, Error> {
        let refused = |diagnostics| Error::Document { document: file.to_owned(), diagnostics };
        let tree = Tree::read(bytes).map_err(|diagnostic| refused(vec![diagnostic]))?;
        if !matches!(tree.kind, Kind::Map(_)) {
            let message = format!("the document is {}, not an object", tree.describe());
            return Err(refused(vec![Diagnostic { position: tree.position, message }]));
        }
        let mut reader = Reader::default();
        let source = reader.source(file, &tree);
        if reader.diagnostics.is_empty() {
            return Ok(source);
        }
        reader.diagnostics.sort_by_key(|diagnostic| diagnostic.position);
        reader.diagnostics.truncate(DIAGNOSTICS_MAX);
        Err(refused(reader.diagnostics))
    }

    /// The parameters that it declares, by name.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, ParameterType)> {
        self.parameters.iter().map(|parameter| (parameter.name.as_str(), parameter.parameter_type))
    }

    /// The default of a parameter as it is written; none if the parameter has to be given, or is a secret.
    #[cfg(feature = "http")]
    pub(crate) fn default_of(&self, name: &str) -> Option<Value> {
        let declared = self.parameters.iter().find(|parameter| parameter.name == name);
        let shown = declared.filter(|parameter| !parameter.parameter_type.is_secure())?;
        shown.default.as_ref().map(Tree::value)
    }

    /// Whether a parameter has to be given.
    #[cfg(feature = "http")]
    pub(crate) fn is_mandatory(&self, name: &str) -> bool {
        let declared = self.parameters.iter().find(|parameter| parameter.name == name);
        declared.is_some_and(|parameter| parameter.default.is_none())
    }

    /// Whether it is one of metaconfigurations.
    #[must_use]
    pub const fn is_metaconfiguration(&self) -> bool {
        self.settings.is_some()
    }

    /// The configuration that it says it is of; none in documents of DSC version 3.
    #[must_use]
    pub fn configuration(&self) -> Option<&str> {
        self.configuration.as_ref().map(|(name, _)| name.as_str())
    }

    /// The nodes that it names; none if it is for any.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|node| node.key.as_str()).filter(|name| *name != super::compile::ALL)
    }
}

/// The keys of a map that are known, and what is said of those that are not.
struct Fields<'a> {
    entries: &'a [Entry],
}

impl<'a> Fields<'a> {
    fn find(&self, name: &str) -> Option<&'a Entry> {
        self.entries.iter().find(|entry| entry.key == name)
    }

    fn tree(&self, name: &str) -> Option<&'a Tree> {
        let tree = self.find(name).map(|entry| &entry.value);
        tree.filter(|tree| !matches!(tree.kind, Kind::Scalar(Value::Null)))
    }
}

#[derive(Default)]
struct Reader {
    diagnostics: Vec<Diagnostic>,
}

impl Reader {
    fn report(&mut self, position: Position, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic { position, message: message.into() });
    }

    /// The map that a tree is, with every key among `known`; an empty one if it is none, which is
    /// told.
    fn fields<'a>(&mut self, what: &str, tree: &'a Tree, known: &[&str]) -> Fields<'a> {
        let Kind::Map(entries) = &tree.kind else {
            self.report(tree.position, format!("{what} is {}, not an object", tree.describe()));
            return Fields { entries: &[] };
        };
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let meant = meant(&entry.key, known.iter().copied());
            self.report(entry.position, format!("{what} has no `{}`{meant}", entry.key));
        }
        Fields { entries }
    }

    fn entries<'a>(&mut self, what: &str, tree: Option<&'a Tree>) -> &'a [Entry] {
        match tree.map(|tree| (&tree.kind, tree)) {
            None => &[],
            Some((Kind::Map(entries), _)) => entries,
            Some((_, tree)) => {
                self.report(tree.position, format!("{what} is {}, not an object", tree.describe()));
                &[]
            }
        }
    }

    fn list<'a>(&mut self, what: &str, tree: Option<&'a Tree>) -> &'a [Tree] {
        match tree.map(|tree| (&tree.kind, tree)) {
            None => &[],
            Some((Kind::List(items), _)) => items,
            Some((_, tree)) => {
                self.report(tree.position, format!("{what} is {}, not a list", tree.describe()));
                &[]
            }
        }
    }

    fn text(&mut self, what: &str, tree: Option<&Tree>) -> Option<String> {
        let tree = tree?;
        let text = tree.text();
        if text.is_none() {
            self.report(tree.position, format!("{what} is {}, not a string", tree.describe()));
        }
        text.map(str::to_owned)
    }

    /// A text that is copied with every resource.
    fn name(&mut self, what: &str, tree: Option<&Tree>) -> Option<String> {
        let text = self.text(what, tree)?;
        let position = tree?.position;
        self.is_short(what, &text, position).then_some(text)
    }

    fn is_short(&mut self, what: &str, name: &str, position: Position) -> bool {
        let is_short = name.len() <= NAME_BYTES_MAX;
        if !is_short {
            self.report(position, format!("{what} has more than {NAME_BYTES_MAX} bytes"));
        }
        is_short
    }

    fn integer(&mut self, what: &str, tree: Option<&Tree>) -> Option<i64> {
        let tree = tree?;
        let number = tree.value().as_i64();
        if number.is_none() {
            self.report(tree.position, format!("{what} is {}, not an integer", tree.describe()));
        }
        number
    }

    fn source(&mut self, file: &str, tree: &Tree) -> Source {
        /// What says nothing of a node's state.
        const SILENT: [&str; 4] = ["$schema", "contentVersion", "metadata", "description"];
        let is_version_3 = matches!(&tree.kind, Kind::Map(entries)
            if entries.iter().any(|entry| entry.key == "$schema"));
        let mut known = vec!["configuration", "author", "parameters", "variables", "resources"];
        known.extend(SILENT);
        known.extend(["nodes", "composites", "settings"]);
        let fields = self.fields("the document", tree, &known);
        let configuration = fields.find("configuration").and_then(|entry| {
            let name = self.text("`configuration`", Some(&entry.value))?;
            Some((name, entry.value.position))
        });
        if configuration.is_none() && !is_version_3 && !fields.entries.is_empty() {
            self.report(tree.position, "the document has no `configuration`, which is its name");
        }
        let composites = self.entries("`composites`", fields.tree("composites"));
        let nodes = self.entries("`nodes`", fields.tree("nodes"));
        let mut places: HashMap<String, &Entry> = HashMap::new();
        for node in nodes {
            // The document of each is published by its name, whatever its case.
            if let Some(other) = places.insert(node.key.to_lowercase(), node) {
                let (one, other, place) = (&node.key, &other.key, other.position);
                let message = format!("the node `{one}` is `{other}` at {place} in another case");
                self.report(node.position, message);
            }
            let data =
                Some(&node.value).filter(|tree| !matches!(tree.kind, Kind::Scalar(Value::Null)));
            self.entries(&format!("the node `{}`", node.key), data);
        }
        Source {
            file: file.to_owned(),
            configuration,
            author: self.text("`author`", fields.tree("author")),
            parameters: self.parameters(fields.tree("parameters")),
            variables: self.entries("`variables`", fields.tree("variables")).to_vec(),
            nodes: nodes.to_vec(),
            composites: composites.iter().filter_map(|entry| self.composite(entry)).collect(),
            resources: self.resources(fields.tree("resources"), tree.position),
            settings: fields
                .tree("settings")
                .map(|tree| self.entries("`settings`", Some(tree)).to_vec()),
        }
    }

    fn composite(&mut self, entry: &Entry) -> Option<Composite> {
        if !self.is_short("a composite's name", &entry.key, entry.position) {
            return None;
        }
        let what = format!("the composite `{}`", entry.key);
        let fields = self.fields(&what, &entry.value, &["parameters", "resources", "description"]);
        Some(Composite {
            name: entry.key.clone(),
            parameters: self.parameters(fields.tree("parameters")),
            resources: self.resources(fields.tree("resources"), entry.position),
        })
    }

    fn parameters(&mut self, tree: Option<&Tree>) -> Vec<Parameter> {
        let entries = self.entries("`parameters`", tree);
        entries.iter().map(|entry| self.parameter(entry)).collect()
    }

    fn parameter(&mut self, entry: &Entry) -> Parameter {
        const KNOWN: [&str; 9] = [
            "type",
            "defaultValue",
            "allowedValues",
            "minValue",
            "maxValue",
            "minLength",
            "maxLength",
            "description",
            "metadata",
        ];
        let what = format!("the parameter `{}`", entry.key);
        let fields = self.fields(&what, &entry.value, &KNOWN);
        let named = self.text("`type`", fields.tree("type"));
        let parameter_type = named.as_deref().and_then(ParameterType::parse);
        if parameter_type.is_none() {
            let all: Vec<&str> = ParameterType::ALL.iter().map(|(name, _)| *name).collect();
            let all = all.join("`, `");
            let position = fields.tree("type").map_or(entry.position, |tree| tree.position);
            self.report(position, format!("the type of {what} is one of `{all}`"));
        }
        let allowed = fields.tree("allowedValues");
        let allowed = allowed
            .map(|tree| self.list("`allowedValues`", Some(tree)).iter().map(Tree::value).collect());
        let mut number = |name| self.integer(&format!("`{name}`"), fields.tree(name));
        let values = (number("minValue"), number("maxValue"));
        let lengths = (number("minLength"), number("maxLength"));
        Parameter {
            name: entry.key.clone(),
            parameter_type: parameter_type.unwrap_or(ParameterType::String),
            default: fields.find("defaultValue").map(|entry| entry.value.clone()),
            allowed,
            values,
            lengths,
            position: entry.position,
        }
    }

    fn resources(&mut self, tree: Option<&Tree>, position: Position) -> Vec<Resource> {
        if tree.is_none() {
            self.report(position, "there are no `resources`");
        }
        let items = self.list("`resources`", tree);
        items.iter().filter_map(|item| self.resource(item)).collect()
    }

    fn resource(&mut self, tree: &Tree) -> Option<Resource> {
        const KNOWN: [&str; 10] = [
            "type",
            "name",
            "properties",
            "dependsOn",
            "condition",
            "module",
            "metadata",
            "comments",
            "apiVersion",
            "description",
        ];
        let fields = self.fields("the resource", tree, &KNOWN);
        if fields.entries.is_empty() {
            return None;
        }
        let kind = self.name("`type`", fields.tree("type"));
        let name = fields.tree("name").filter(|tree| tree.text().is_some());
        if fields.tree("type").is_none() {
            self.report(tree.position, "the resource has no `type`");
        }
        if name.is_none() {
            self.report(tree.position, "the resource has no `name` that is a string");
        }
        let (kind, name) = (kind?, name?.clone());
        if OF_THE_ENGINE.iter().any(|known| known.eq_ignore_ascii_case(&kind)) {
            self.report(tree.position, format!("a resource of type `{kind}` is not supported"));
            return None;
        }
        let properties = self.entries("`properties`", fields.tree("properties"));
        let is_group = GROUPS.iter().any(|known| known.eq_ignore_ascii_case(&kind));
        let members = is_group.then(|| {
            let members = properties.iter().find(|entry| entry.key == "resources");
            self.resources(members.map(|entry| &entry.value), tree.position)
        });
        let depends_on = fields.tree("dependsOn");
        let depends_on = match depends_on.map(|tree| &tree.kind) {
            // One need not be a list.
            Some(Kind::Scalar(_)) => depends_on.into_iter().cloned().collect(),
            _ => self.list("`dependsOn`", depends_on).to_vec(),
        };
        Some(Resource {
            kind,
            name,
            properties: properties.to_vec(),
            members,
            depends_on,
            condition: fields.tree("condition").cloned(),
            module: fields.tree("module").and_then(|tree| self.module(tree)),
            position: tree.position,
        })
    }

    fn module(&mut self, tree: &Tree) -> Option<(String, String)> {
        let fields = self.fields("`module`", tree, &["name", "version"]);
        let name = self.name("`name`", fields.tree("name"));
        let version = self.name("`version`", fields.tree("version"));
        let is_text = |name| fields.tree(name).is_some_and(|tree| tree.text().is_some());
        if !(is_text("name") && is_text("version")) {
            self.report(tree.position, "`module` has a `name` and a `version`, both strings");
        }
        name.zip(version)
    }
}
