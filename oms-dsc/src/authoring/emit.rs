//! Declared resources to a MOF document, by the schemas of their classes.

use super::scope::Secure;
use super::tree::describe;
use crate::configuration::credential::{CREDENTIAL_CLASS, Passwords, protect};
use crate::configuration::{
    CheckOptions, Configuration, PropertySchema, PropertyType, ResourceClass, Schemas, meant,
};
use crate::mof::{
    DIAGNOSTICS_MAX, Diagnostic, Document, Instance, Item, Position, Property, Value as Mof,
    ValueKind,
};
use oms_core::Entropy;
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// The class of resources of DSC version 3, which have no schema here.
const COMMAND_CLASS: &str = "OMS_CommandResource";

/// The key of an object that says of which class it is.
const CLASS_KEY: &str = "$class";

const PAIR_CLASS: &str = "MSFT_KeyValuePair";

/// What a resource has besides its properties, and what it is told by.
const GIVEN_APART: [(&str, &str); 6] = [
    ("ResourceID", "made of `type` and `name`"),
    ("DependsOn", "given as `dependsOn`"),
    ("ModuleName", "given as `module`"),
    ("ModuleVersion", "given as `module`"),
    ("ConfigurationName", "the name of the configuration"),
    ("SourceInfo", "the place in the source"),
];

/// A resource as it was declared.
#[derive(Clone)]
pub(super) struct Declaration {
    /// The friendly name of its class, the class, or `Owner.Area/Name` of DSC version 3.
    pub(super) kind: String,
    pub(super) name: String,
    /// What stands behind the name in its id: `::[Site]x` of a composite.
    pub(super) suffix: String,
    pub(super) properties: Vec<Declared>,
    /// Ids, in full.
    pub(super) depends_on: Vec<(String, Position)>,
    pub(super) module: Option<(String, String)>,
    pub(super) position: Position,
}

/// A property as it was declared.
#[derive(Clone)]
pub(super) struct Declared {
    pub(super) name: String,
    pub(super) value: Value,
    /// The secret that is in its value.
    pub(super) secure: Option<Secure>,
    pub(super) position: Position,
    pub(super) value_position: Position,
}

impl Declaration {
    /// The name of its type within an id.
    pub(super) fn short_kind(&self) -> &str {
        self.kind.rsplit_once('/').map_or(self.kind.as_str(), |(_, short)| short)
    }

    /// `[Type]Name`, with the composites it is in.
    pub(super) fn id(&self) -> String {
        format!("[{}]{}{}", self.short_kind(), self.name, self.suffix)
    }
}

/// What is emitted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Configuration,
    Metaconfiguration,
}

/// What the whole document says, besides its resources.
#[derive(Debug)]
pub(super) struct About<'a> {
    pub(super) configuration: &'a str,
    pub(super) author: Option<&'a str>,
    /// The file, for `SourceInfo`; none says nothing of a place.
    pub(super) source: Option<&'a str>,
    pub(super) passwords: Passwords<'a>,
}

/// Makes a document of declared resources, and checks it as a node's configuration and against the
/// schemas.
pub(super) fn emit(
    schemas: &Schemas,
    about: &About<'_>,
    declarations: &[Declaration],
    entropy: &dyn Entropy,
) -> Result<Document, Vec<Diagnostic>> {
    let mut emitter = Emitter::new(schemas, about, Kind::Configuration);
    for declaration in declarations {
        emitter.resource(declaration);
    }
    let Emitter { mut items, mut diagnostics, hidden, .. } = emitter;
    items.push(Item::Instance(about.instance()));
    let mut document = Document { items };
    if diagnostics.is_empty() {
        diagnostics
            .extend(protect(&mut document, about.passwords, entropy).err().into_iter().flatten());
    }
    let options = CheckOptions { refuses_unknown_classes: true };
    diagnostics.extend(schemas.check_hiding(&document, options, hidden));
    diagnostics.extend(Configuration::from_document(&document).err().into_iter().flatten());
    finish(document, diagnostics)
}

/// The document, or everything that is wrong with it, each once and in order.
pub(super) fn finish(
    document: Document,
    mut diagnostics: Vec<Diagnostic>,
) -> Result<Document, Vec<Diagnostic>> {
    if diagnostics.is_empty() {
        return Ok(document);
    }
    settle(&mut diagnostics);
    Err(diagnostics)
}

/// Puts diagnostics in order, each once.
pub(super) fn settle(diagnostics: &mut Vec<Diagnostic>) {
    diagnostics
        .sort_by(|one, other| (one.position, &one.message).cmp(&(other.position, &other.message)));
    diagnostics.dedup();
    diagnostics.truncate(DIAGNOSTICS_MAX);
}

impl About<'_> {
    /// The document's own instance. It has no date: the same source makes the same bytes, so that a
    /// node fetches a configuration again only if something in it changed.
    fn instance(&self) -> Instance {
        let mut instance = Instance {
            qualifiers: Vec::new(),
            class: "OMI_ConfigurationDocument".to_owned(),
            alias: None,
            properties: Vec::new(),
            position: Position { line: 1, column: 1 },
        };
        let minimum =
            if matches!(self.passwords, Passwords::Encrypt(_)) { "2.0.0" } else { "1.0.0" };
        let mut push = |name: &str, kind| push(&mut instance, name, kind);
        push("Version", text("2.0.0"));
        push("MinimumCompatibleVersion", text(minimum));
        let additional = Mof {
            kind: text("Omi_BaseResource:ConfigurationName"),
            position: Position { line: 1, column: 1 },
        };
        push("CompatibleVersionAdditionalProperties", ValueKind::Array(vec![additional]));
        if let Some(author) = self.author {
            push("Author", text(author));
        }
        push("Name", text(self.configuration));
        instance
    }
}

pub(super) fn text(text: &str) -> ValueKind {
    ValueKind::Text(text.to_owned())
}

pub(super) fn push(instance: &mut Instance, name: &str, kind: ValueKind) {
    let position = instance.position;
    let value = Mof { kind, position };
    let (name, qualifiers) = (name.to_owned(), Vec::new());
    instance.properties.push(Property { qualifiers, name, value, position });
}

/// Makes instances of what was declared.
pub(super) struct Emitter<'a> {
    schemas: &'a Schemas,
    about: &'a About<'a>,
    kind: Kind,
    pub(super) items: Vec<Item>,
    /// How many aliases each class has.
    aliases: HashMap<String, usize>,
    /// Where values are that a secure parameter is in, which no diagnostic shows.
    pub(super) hidden: HashSet<Position>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl<'a> Emitter<'a> {
    pub(super) fn new(schemas: &'a Schemas, about: &'a About<'a>, kind: Kind) -> Self {
        let (items, diagnostics) = (Vec::new(), Vec::new());
        let (aliases, hidden) = (HashMap::new(), HashSet::new());
        Self { schemas, about, kind, items, aliases, hidden, diagnostics }
    }

    /// Tells what is wrong, each once: a composite may be wrong in the same way many times.
    pub(super) fn report(&mut self, position: Position, message: impl Into<String>) {
        let told = Diagnostic { position, message: message.into() };
        if self.diagnostics.len() < DIAGNOSTICS_MAX && !self.diagnostics.contains(&told) {
            self.diagnostics.push(told);
        }
    }

    pub(super) fn alias(&mut self, class: &str) -> String {
        let count = self.aliases.entry(class.to_owned()).or_default();
        *count += 1;
        format!("${class}{count}ref")
    }

    fn resource(&mut self, declaration: &Declaration) {
        let short = declaration.short_kind();
        let module = declaration.kind.rsplit_once('/').map(|(module, _)| module);
        let is_its = |class: &&ResourceClass| match (module, standard_module(short, &class.name)) {
            // A type of the same name from elsewhere is another.
            (Some(module), Some((standard, _))) => module.eq_ignore_ascii_case(standard),
            _ => true,
        };
        if let Some(class) = self.schemas.resource(short).filter(is_its) {
            let schema = self.schemas.properties(class).unwrap_or_default();
            let mut instance = self.begin(declaration, &class.name);
            for declared in &declaration.properties {
                let known = schema.iter().find(|p| p.name.eq_ignore_ascii_case(&declared.name));
                self.property(&mut instance, known.copied(), declared);
            }
            self.end(instance, declaration);
        } else if declaration.kind.contains('/') {
            self.command(declaration);
        } else {
            let known = self.schemas.classes();
            let known = known.filter_map(|class| class.friendly_name.as_deref());
            let message =
                format!("there is no schema of the resource `{short}`{}", meant(short, known));
            self.report(declaration.position, message);
        }
    }

    /// A resource of DSC version 3, whose properties only its own schema knows: they stay JSON.
    fn command(&mut self, declaration: &Declaration) {
        let mut instance = self.begin(declaration, COMMAND_CLASS);
        let mut properties = serde_json::Map::new();
        for declared in &declaration.properties {
            self.refuse_secure(declared);
            properties.insert(declared.name.clone(), declared.value.clone());
        }
        push(&mut instance, "Type", text(&declaration.kind));
        push(&mut instance, "Name", text(&declaration.name));
        push(&mut instance, "Properties", text(&Value::Object(properties).to_string()));
        self.end(instance, declaration);
    }

    fn begin(&mut self, declaration: &Declaration, class: &str) -> Instance {
        let mut instance = Instance {
            qualifiers: Vec::new(),
            class: class.to_owned(),
            alias: Some(self.alias(class)),
            properties: Vec::new(),
            position: declaration.position,
        };
        push(&mut instance, "ResourceID", text(&declaration.id()));
        instance
    }

    fn end(&mut self, mut instance: Instance, declaration: &Declaration) {
        let Position { line, column } = declaration.position;
        if let Some(file) = self.about.source {
            let place = format!("{file}::{line}::{column}::{}", declaration.short_kind());
            push(&mut instance, "SourceInfo", text(&place));
        }
        let standard = standard_module(declaration.short_kind(), &instance.class);
        let module = declaration.module.as_ref().map(|(name, version)| (&**name, &**version));
        if let Some((name, version)) = module.or(standard) {
            push(&mut instance, "ModuleName", text(name));
            push(&mut instance, "ModuleVersion", text(version));
        }
        self.depends_on(&mut instance, declaration);
        push(&mut instance, "ConfigurationName", text(self.about.configuration));
        self.items.push(Item::Instance(instance));
    }

    /// Adds `DependsOn`, if there is something in it.
    pub(super) fn depends_on(&mut self, instance: &mut Instance, declaration: &Declaration) {
        const NAME: &str = "DependsOn";
        let Some((_, position)) = declaration.depends_on.first() else { return };
        if let Some(given) = instance.property(NAME) {
            let message = format!("`{NAME}` was given at {} already", given.position);
            self.report(*position, message);
            return;
        }
        let ids = declaration.depends_on.iter();
        let ids = ids.map(|(id, position)| Mof { kind: text(id), position: *position });
        let value = Mof { kind: ValueKind::Array(ids.collect()), position: *position };
        let (name, qualifiers) = (NAME.to_owned(), Vec::new());
        instance.properties.push(Property { qualifiers, name, value, position: *position });
    }

    pub(super) fn property(
        &mut self,
        instance: &mut Instance,
        schema: Option<&'a PropertySchema>,
        declared: &Declared,
    ) {
        if let Some((name, source)) = self.given_apart(&declared.name) {
            self.report(declared.position, format!("`{name}` is {source}"));
            return;
        }
        let is_credential = schema.is_some_and(|schema| {
            matches!(&schema.value_type, PropertyType::Instance(class)
                if class.eq_ignore_ascii_case(CREDENTIAL_CLASS))
        });
        // A configuration manager reads its registration keys as they are.
        let is_key = self.kind == Kind::Metaconfiguration
            && declared.name.eq_ignore_ascii_case("RegistrationKey");
        // Of a credential the password alone is encrypted.
        let is_encrypted = is_credential
            && are_credentials(&declared.value)
            && declared.secure.as_ref().is_none_or(|secure| secure.is_account);
        if !(is_encrypted || is_key) {
            self.refuse_secure(declared);
        }
        let position = declared.value_position;
        if declared.secure.is_some() {
            self.hidden.insert(position);
        }
        let value_type = schema.map(|schema| (&schema.value_type, schema.is_array));
        if let Some(value) = self.value(&declared.name, value_type, &declared.value, position) {
            // The schema's spelling, where there is one.
            let name = schema.map_or(&declared.name, |schema| &schema.name);
            self.put(instance, name, value, declared.position);
        }
    }

    /// Adds a property, unless it is there.
    fn put(&mut self, instance: &mut Instance, name: &str, value: Mof, position: Position) {
        if let Some(given) = instance.property(name) {
            let message = match self.hidden.contains(&value.position) {
                true => "a property was given already".to_owned(),
                false => format!("the property `{name}` was given at {} already", given.position),
            };
            self.report(position, message);
            return;
        }
        let (name, qualifiers) = (name.to_owned(), Vec::new());
        instance.properties.push(Property { qualifiers, name, value, position });
    }

    /// A property that is not given as one, and what it is told by.
    fn given_apart(&self, name: &str) -> Option<(&'static str, &'static str)> {
        let mut all = GIVEN_APART.into_iter();
        let found = all.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        // What is not a resource has of these its id alone.
        (self.kind == Kind::Configuration || found.0 == "ResourceID").then_some(found)
    }

    /// The value of a secure parameter is written down where it is encrypted, or nowhere.
    fn refuse_secure(&mut self, declared: &Declared) {
        let is_asked_for = matches!(self.about.passwords, Passwords::LeaveClear);
        if let Some(Secure { parameter, .. }) = declared.secure.as_ref().filter(|_| !is_asked_for) {
            let name = &declared.name;
            let message =
                format!("`{name}` would hold the secure parameter `{parameter}` in the clear");
            self.report(declared.value_position, message);
        }
    }

    /// A value as MOF has it; none if it cannot be, which is told.
    fn value(
        &mut self,
        name: &str,
        value_type: Option<(&'a PropertyType, bool)>,
        value: &Value,
        position: Position,
    ) -> Option<Mof> {
        let element = value_type.map(|(value_type, _)| (value_type, false));
        let kind = match (value, value_type) {
            // A table of names and values.
            (Value::Object(map), Some((PropertyType::Instance(class), true)))
                if class.eq_ignore_ascii_case(PAIR_CLASS) =>
            {
                ValueKind::Array(self.pairs(map, position))
            }
            // One where several may be.
            (Value::Object(_), Some((_, true))) => {
                ValueKind::Array(vec![self.value(name, element, value, position)?])
            }
            (Value::Object(map), value_type) => {
                let class = match value_type {
                    Some((PropertyType::Instance(class), _)) => Some(class.as_str()),
                    _ => None,
                };
                return self.object(name, class, map, position);
            }
            (Value::Array(values), _) => {
                let values = values.iter().map(|value| self.value(name, element, value, position));
                ValueKind::Array(values.collect::<Option<_>>()?)
            }
            (Value::Null, _) => ValueKind::Null,
            (Value::Bool(flag), _) => ValueKind::Boolean(*flag),
            (Value::String(value), _) => text(value),
            (Value::Number(number), _) => match (number.as_i64(), number.as_u64(), number.as_f64())
            {
                (Some(number), _, _) => ValueKind::Integer(number.into()),
                (_, Some(number), _) => ValueKind::Integer(number.into()),
                (_, _, Some(number)) => ValueKind::Real(number),
                _ => return None,
            },
        };
        Some(Mof { kind, position })
    }

    fn pairs(&mut self, map: &serde_json::Map<String, Value>, position: Position) -> Vec<Mof> {
        let mut pairs = Vec::new();
        for (key, value) in map {
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Object(_) | Value::Array(_) => {
                    let key = if self.hidden.contains(&position) { "a value" } else { key };
                    let message = format!("`{key}` is {}, not a string", describe(value));
                    self.report(position, message);
                    continue;
                }
                other => other.to_string(),
            };
            let mut pair = Instance {
                qualifiers: Vec::new(),
                class: PAIR_CLASS.to_owned(),
                alias: Some(self.alias(PAIR_CLASS)),
                properties: Vec::new(),
                position,
            };
            push(&mut pair, "Key", text(key));
            push(&mut pair, "Value", text(&value));
            pairs.push(self.refer(pair));
        }
        pairs
    }

    /// Puts an instance in front of the resource that it is for, and refers to it.
    fn refer(&mut self, instance: Instance) -> Mof {
        let position = instance.position;
        let alias = instance.alias.clone().unwrap_or_default();
        self.items.push(Item::Instance(instance));
        Mof { kind: ValueKind::Alias(alias), position }
    }

    fn object(
        &mut self,
        name: &str,
        class: Option<&str>,
        map: &serde_json::Map<String, Value>,
        position: Position,
    ) -> Option<Mof> {
        let named = map.get(CLASS_KEY).and_then(Value::as_str);
        let Some(class) = named.or(class) else {
            let message = format!("`{name}` is an object; `{CLASS_KEY}` in it says of which class");
            self.report(position, message);
            return None;
        };
        let schemas = self.schemas;
        let known = schemas.class(class);
        let class = known.map_or(class, |known| &known.name).to_owned();
        let schema = known.map(|known| schemas.properties(known).unwrap_or_default());
        let mut instance = Instance {
            qualifiers: Vec::new(),
            alias: Some(self.alias(&class)),
            class,
            properties: Vec::new(),
            position,
        };
        for (key, value) in map.iter().filter(|(key, _)| *key != CLASS_KEY) {
            let found = schema.iter().flatten().find(|p| p.name.eq_ignore_ascii_case(key));
            let value_type = found.map(|found| (&found.value_type, found.is_array));
            let value = self.value(key, value_type, value, position)?;
            self.put(&mut instance, found.map_or(key, |found| &found.name), value, position);
        }
        Some(self.refer(instance))
    }
}

/// Whether a value is a credential, or several, whose passwords are encrypted.
fn are_credentials(value: &Value) -> bool {
    match value {
        Value::Array(values) => {
            values.iter().all(|value| value.is_object() && are_credentials(value))
        }
        // One of a class that extends it is none of those.
        Value::Object(map) => map.get(CLASS_KEY).is_none_or(|class| {
            class.as_str().is_some_and(|class| class.eq_ignore_ascii_case(CREDENTIAL_CLASS))
        }),
        _ => false,
    }
}

/// The module that a resource of the standard schemas comes in.
fn standard_module(short: &str, class: &str) -> Option<(&'static str, &'static str)> {
    /// Those that Windows has without a module to fetch.
    const WINDOWS: [&str; 14] = [
        "archive",
        "environment",
        "file",
        "group",
        "log",
        "package",
        "registry",
        "script",
        "service",
        "user",
        "waitforall",
        "waitforany",
        "waitforsome",
        "windowsprocess",
    ];
    let class = class.to_ascii_lowercase();
    if class.starts_with("msft_nx") {
        return Some(match short.to_ascii_lowercase().as_str() {
            "nxfirewall" => ("nxNetworking", "1.1"),
            "nxcomputer" => ("nxComputerManagement", "1.1"),
            _ => ("nx", "1.0"),
        });
    }
    let is_windows = WINDOWS.iter().any(|known| known.eq_ignore_ascii_case(short));
    (is_windows && class.starts_with("msft_")).then_some(("PSDesiredStateConfiguration", "1.1"))
}
