//! The document of a rule: what its parts are, and that they agree with each other.

use super::TRANSFORM_CHARS_MAX;
use super::{FLOWS_MAX, Problems, RULE_BYTES_MAX, RULE_NAME_CHARS_MAX, RuleProblem};
use crate::ingest::admit::check_name;
use crate::query::{Column, KqlType};
use crate::schema::COLUMNS_MAX;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Names that a column of a stream may not have, in any letter case.
const RESERVED: [&str; 7] = [
    "Type",
    "TenantId",
    "resource",
    "resourceid",
    "resourcename",
    "resourcetype",
    "subscriptionid",
];

/// The types of a stream's columns.
const TYPES: [(&str, KqlType); 7] = [
    ("boolean", KqlType::Bool),
    ("datetime", KqlType::DateTime),
    ("dynamic", KqlType::Dynamic),
    ("int", KqlType::Int),
    ("long", KqlType::Long),
    ("real", KqlType::Real),
    ("string", KqlType::String),
];

/// What begins the name of a stream that a rule declares, and of a custom table.
pub(super) const CUSTOM: &str = "Custom-";

/// What begins the name of a stream, or of a table, that everyone has.
pub(super) const MICROSOFT: &str = "Microsoft-";

/// What a rule declares.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Declared {
    pub(super) immutable_id: Option<String>,
    pub(super) streams: BTreeMap<String, Vec<Column>>,
    pub(super) flows: Vec<DeclaredFlow>,
}

impl Declared {
    pub(super) fn immutable_id(&self) -> Option<&str> {
        self.immutable_id.as_deref()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct DeclaredFlow {
    /// Where it stands.
    pub(super) place: String,
    pub(super) streams: Vec<String>,
    pub(super) transform: Option<String>,
    pub(super) output: Option<String>,
}

/// Reads a document.
///
/// # Errors
/// Everything that is wrong with it.
pub(super) fn read(name: &str, document: &Value) -> Result<Declared, Vec<RuleProblem>> {
    let mut reader = Reader::default();
    let bytes = document.to_string().len();
    if bytes > RULE_BYTES_MAX {
        let reason = format!("{bytes} bytes of a rule are more than {RULE_BYTES_MAX}");
        reader.problems.add("", reason);
        return Err(reader.problems.0);
    }
    if !is_name(name) {
        let reason = format!(
            "a rule's name is 1 to {RULE_NAME_CHARS_MAX} letters, digits, `-`, `_` and `.`"
        );
        reader.problems.add("name", reason);
    }
    let declared = reader.rule(document);
    match reader.problems.0 {
        problems if problems.is_empty() => Ok(declared),
        problems => Err(problems),
    }
}

fn is_name(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=RULE_NAME_CHARS_MAX).contains(&name.len()) && name.chars().all(is_part)
}

/// `dcr-` and 32 hexadecimal digits.
pub(super) fn is_immutable_id(text: &str) -> bool {
    let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    text.strip_prefix("dcr-").is_some_and(|id| id.len() == 32 && id.chars().all(is_digit))
}

#[derive(Debug, Default)]
struct Reader {
    problems: Problems,
}

impl Reader {
    fn rule(&mut self, document: &Value) -> Declared {
        let mut declared = Declared::default();
        let Some(document) = self.object("the document", document) else { return declared };
        let Some(properties) = document.get("properties") else {
            self.problems.add("properties", "is missing");
            return declared;
        };
        let Some(properties) = self.object("properties", properties) else { return declared };
        let place = "properties.immutableId";
        if let Some(id) = self.optional_text(place, properties.get("immutableId")) {
            if !is_immutable_id(&id) {
                let reason = "is not `dcr-` and 32 lower-case hexadecimal digits";
                self.problems.add(place, reason);
            }
            declared.immutable_id = Some(id);
        }
        declared.streams = self.streams(properties);
        let destinations = self.destinations(properties);
        declared.flows = self.flows(properties, &declared.streams, &destinations);
        declared
    }

    fn object<'v>(&mut self, place: &str, value: &'v Value) -> Option<&'v Map<String, Value>> {
        let object = value.as_object();
        if object.is_none() {
            self.problems.add(place, "is not an object");
        }
        object
    }

    fn array<'v>(&mut self, place: &str, value: Option<&'v Value>) -> &'v [Value] {
        match value {
            Some(Value::Array(items)) if !items.is_empty() => return items,
            Some(Value::Array(_)) => self.problems.add(place, "is empty"),
            Some(_) => self.problems.add(place, "is not an array"),
            None => self.problems.add(place, "is missing"),
        }
        &[]
    }

    fn text(&mut self, place: &str, value: Option<&Value>) -> Option<String> {
        if value.is_none_or(Value::is_null) {
            self.problems.add(place, "is missing");
        }
        self.optional_text(place, value)
    }

    fn optional_text(&mut self, place: &str, value: Option<&Value>) -> Option<String> {
        match value {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => {
                self.problems.add(place, "is not a string");
                None
            }
        }
    }

    fn texts(&mut self, place: &str, value: Option<&Value>) -> Vec<String> {
        let mut texts = Vec::new();
        for (at, item) in self.array(place, value).iter().enumerate() {
            let place = format!("{place}[{at}]");
            let Some(text) = self.text(&place, Some(item)) else { continue };
            if texts.contains(&text) {
                self.problems.add(place, format!("names `{text}` again"));
                continue;
            }
            texts.push(text);
        }
        texts
    }

    fn streams(&mut self, properties: &Map<String, Value>) -> BTreeMap<String, Vec<Column>> {
        let mut streams = BTreeMap::new();
        let place = "properties.streamDeclarations";
        let declarations = match properties.get("streamDeclarations") {
            None | Some(Value::Null) => return streams,
            Some(value) => self.object(place, value),
        };
        for (name, declaration) in declarations.into_iter().flatten() {
            let place = format!("{place}.{name}");
            if name.strip_prefix(CUSTOM).is_none_or(str::is_empty) {
                self.problems.add(&place, "the name of a declared stream begins with `Custom-`");
            }
            let Some(declaration) = self.object(&place, declaration) else { continue };
            let columns = self.columns(&format!("{place}.columns"), declaration.get("columns"));
            streams.insert(name.clone(), columns);
        }
        streams
    }

    fn columns(&mut self, place: &str, value: Option<&Value>) -> Vec<Column> {
        let (mut columns, mut names) = (Vec::<Column>::new(), BTreeSet::new());
        for (at, item) in self.array(place, value).iter().enumerate() {
            let place = format!("{place}[{at}]");
            let Some(item) = self.object(&place, item) else { continue };
            let name = self.text(&format!("{place}.name"), item.get("name"));
            let kind = self.text(&format!("{place}.type"), item.get("type"));
            let (Some(name), Some(kind)) = (name, kind) else { continue };
            let of_name = format!("{place}.name");
            if let Err(reason) = check_name(&name) {
                self.problems.add(&of_name, reason);
            }
            if RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(&name)) {
                self.problems.add(&of_name, format!("`{name}` is reserved"));
            }
            if !names.insert(name.to_ascii_lowercase()) {
                self.problems.add(&of_name, format!("there is a column `{name}` already"));
            }
            let found = TYPES.iter().find(|(known, _)| *known == kind);
            let Some((_, kql_type)) = found else {
                let known: Vec<&str> = TYPES.iter().map(|(known, _)| *known).collect();
                let reason = format!("`{kind}` is not one of {}", known.join(", "));
                self.problems.add(format!("{place}.type"), reason);
                continue;
            };
            columns.push(Column { name, kql_type: *kql_type });
        }
        if columns.len() > COLUMNS_MAX {
            self.problems.add(place, format!("more than {COLUMNS_MAX} columns"));
        }
        columns
    }

    /// The workspaces that flows may name, each with what tells it apart from others; none for a
    /// destination that is no workspace.
    fn destinations(
        &mut self,
        properties: &Map<String, Value>,
    ) -> BTreeMap<String, Option<String>> {
        let mut destinations = BTreeMap::new();
        let place = "properties.destinations";
        let Some(value) = properties.get("destinations") else {
            self.problems.add(place, "is missing");
            return destinations;
        };
        for (kind, items) in self.object(place, value).into_iter().flatten() {
            let place = format!("{place}.{kind}");
            if kind != "logAnalytics" {
                // They are for agents and other services; a flow that names one is refused.
                let items = match items {
                    Value::Array(items) => items.as_slice(),
                    one => std::slice::from_ref(one),
                };
                let names = items.iter().filter_map(|item| item.get("name")?.as_str());
                destinations.extend(names.map(|name| (name.to_owned(), None)));
                continue;
            }
            for (at, item) in self.array(&place, Some(items)).iter().enumerate() {
                let place = format!("{place}[{at}]");
                let Some(item) = self.object(&place, item) else { continue };
                let name = self.text(&format!("{place}.name"), item.get("name"));
                let id = item.get("workspaceResourceId").or_else(|| item.get("workspaceId"));
                let id = self.text(&format!("{place}.workspaceResourceId"), id);
                let (Some(name), Some(id)) = (name, id) else { continue };
                if destinations.insert(name.clone(), Some(id.to_ascii_lowercase())).is_some() {
                    let reason = format!("there is a destination `{name}` already");
                    self.problems.add(format!("{place}.name"), reason);
                }
            }
        }
        destinations
    }

    fn flows(
        &mut self,
        properties: &Map<String, Value>,
        streams: &BTreeMap<String, Vec<Column>>,
        destinations: &BTreeMap<String, Option<String>>,
    ) -> Vec<DeclaredFlow> {
        let place = "properties.dataFlows";
        let items = self.array(place, properties.get("dataFlows"));
        if items.len() > FLOWS_MAX {
            self.problems.add(place, format!("more than {FLOWS_MAX} data flows"));
            return Vec::new();
        }
        let mut flows = Vec::new();
        for (at, item) in items.iter().enumerate() {
            let place = format!("{place}[{at}]");
            let Some(item) = self.object(&place, item) else { continue };
            let named = self.texts(&format!("{place}.streams"), item.get("streams"));
            for (at, stream) in named.iter().enumerate() {
                if stream.starts_with(CUSTOM) && !streams.contains_key(stream) {
                    let reason = format!("stream `{stream}` is not declared");
                    self.problems.add(format!("{place}.streams[{at}]"), reason);
                }
            }
            self.destinations_of(&place, item, destinations);
            let of_transform = format!("{place}.transformKql");
            let transform = self.optional_text(&of_transform, item.get("transformKql"));
            if let Some(text) = &transform {
                if text.chars().count() > TRANSFORM_CHARS_MAX {
                    let reason = format!("longer than {TRANSFORM_CHARS_MAX} characters");
                    self.problems.add(&of_transform, reason);
                    continue;
                }
                if named.len() > 1 {
                    let reason = "a flow with a transformation has one stream";
                    self.problems.add(format!("{place}.streams"), reason);
                }
            }
            let of_output = format!("{place}.outputStream");
            let output = self.optional_text(&of_output, item.get("outputStream"));
            flows.push(DeclaredFlow { place, streams: named, transform, output });
        }
        flows
    }

    fn destinations_of(
        &mut self,
        place: &str,
        flow: &Map<String, Value>,
        destinations: &BTreeMap<String, Option<String>>,
    ) {
        let place = format!("{place}.destinations");
        let mut workspaces = BTreeSet::new();
        for (at, name) in self.texts(&place, flow.get("destinations")).iter().enumerate() {
            let place = format!("{place}[{at}]");
            match destinations.get(name) {
                Some(Some(workspace)) => drop(workspaces.insert(workspace)),
                Some(None) => {
                    let reason =
                        format!("destination `{name}` is no workspace; no other kind is supported");
                    self.problems.add(place, reason);
                }
                None => self.problems.add(place, format!("there is no destination `{name}`")),
            }
        }
        if workspaces.len() > 1 {
            self.problems.add(place, "a flow to several workspaces is not supported");
        }
    }
}
