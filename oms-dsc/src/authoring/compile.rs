//! A source to the documents of its nodes.

use super::emit::{About, Declaration, Declared, emit};
use super::expression::{Scope, evaluate};
use super::metaconfiguration;
use super::source::{Composite, Parameter, Resource, Source};
use super::tree::{Entry, Tree, describe};
use crate::Error;
use crate::configuration::credential::{Passwords, Recipient};
use crate::configuration::{RESOURCES_MAX, Schemas, meant};
use crate::mof::{DIAGNOSTICS_MAX, Diagnostic, Position};
use crate::protocol::{Checksum, ConfigurationName};
use oms_core::{Entropy, SystemEntropy};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// The node that stands for all, and whose data every node has.
pub(super) const ALL: &str = "*";

/// The node of a document that names none.
const ANY_NODE: &str = "localhost";

/// How deep composites may lie in each other.
const COMPOSITES_MAX: usize = 8;

/// How a source is compiled.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// The configuration's name, in place of the document's own; one of DSC version 3 has none.
    pub name: Option<String>,
    /// Values of parameters, by name.
    pub parameters: BTreeMap<String, Value>,
    /// The certificates that passwords are encrypted for, by node; `*` is for those without one.
    pub recipients: BTreeMap<String, Recipient>,
    /// Whether passwords stay in the clear where there is no certificate, in place of being refused.
    pub leaves_passwords_clear: bool,
    /// Where keys and paddings of encrypted passwords come from.
    pub entropy: Arc<dyn Entropy>,
}

impl Default for CompileOptions {
    /// Without parameters; a password needs a certificate.
    fn default() -> Self {
        Self {
            name: None,
            parameters: BTreeMap::new(),
            recipients: BTreeMap::new(),
            leaves_passwords_clear: false,
            entropy: Arc::new(SystemEntropy),
        }
    }
}

/// What one node should be like, compiled.
#[derive(Clone, Debug)]
pub struct NodeConfiguration {
    /// `Config.Node`, the name under which it is published.
    pub name: ConfigurationName,
    /// The node.
    pub node: String,
    /// The document, in MOF.
    pub text: String,
    /// Of the document's bytes.
    pub checksum: Checksum,
    /// Whether it is for the node's local configuration manager (`meta.mof`), and nothing to publish.
    pub is_metaconfiguration: bool,
}

impl Source {
    /// Compiles the document of every node that it names, in its order; of `localhost` if it names
    /// none. The same source and parameters make the same bytes, but for encrypted passwords.
    ///
    /// # Errors
    /// [`Error::Document`] with everything that is wrong with any node's, each place once;
    /// [`Error::Invalid`] for a parameter that is not declared, or a name that is not
    /// given.
    pub fn compile(
        &self,
        schemas: &Schemas,
        options: &CompileOptions,
    ) -> Result<Vec<NodeConfiguration>, Error> {
        let own = self.configuration.as_ref().map(|(name, _)| name);
        let Some(name) = options.name.as_ref().or(own) else {
            let reason = format!("`{}` says no name, and none was given", self.file);
            return Err(Error::Invalid { what: "configuration name", reason });
        };
        for given in options.parameters.keys() {
            let known = self.parameters.iter().map(|parameter| parameter.name.as_str());
            if !known.clone().any(|known| known == given) {
                let reason = format!("`{given}` is not declared{}", meant(given, known));
                return Err(Error::Invalid { what: "parameter", reason });
            }
        }
        let nodes: Vec<&str> = match self.nodes().next() {
            Some(_) => self.nodes().collect(),
            None => vec![ANY_NODE],
        };
        let (mut compiled, mut diagnostics) = (Vec::new(), Vec::new());
        for node in nodes {
            let full: ConfigurationName = match format!("{name}.{node}").parse() {
                Ok(full) => full,
                Err(error) => {
                    let named = self.nodes.iter().find(|entry| entry.key == node);
                    let own = self.configuration.as_ref().map(|(_, position)| *position);
                    let position = named.map(|entry| entry.position).or(own).unwrap_or_default();
                    let position = position.max(Position { line: 1, column: 1 });
                    diagnostics.push(Diagnostic { position, message: error.to_string() });
                    continue;
                }
            };
            match self.node(schemas, options, name, node) {
                Ok(text) => {
                    let (checksum, node) = (Checksum::of(text.as_bytes()), node.to_owned());
                    let is_metaconfiguration = self.settings.is_some();
                    compiled.push(NodeConfiguration {
                        name: full,
                        node,
                        text,
                        checksum,
                        is_metaconfiguration,
                    });
                }
                Err(wrong) => diagnostics.extend(wrong),
            }
        }
        if diagnostics.is_empty() {
            return Ok(compiled);
        }
        diagnostics.sort_by(|one: &Diagnostic, other| {
            (one.position, &one.message).cmp(&(other.position, &other.message))
        });
        diagnostics.dedup();
        diagnostics.truncate(DIAGNOSTICS_MAX);
        Err(Error::Document { document: self.file.clone(), diagnostics })
    }

    fn node(
        &self,
        schemas: &Schemas,
        options: &CompileOptions,
        name: &str,
        node: &str,
    ) -> Result<String, Vec<Diagnostic>> {
        let mut expander =
            Expander { source: self, declarations: Vec::new(), diagnostics: Vec::new() };
        let scope = expander.scope(node, &options.parameters);
        if expander.diagnostics.is_empty() {
            expander.body(&self.resources, &scope, "", 0);
        }
        let settings = self.settings.as_ref().map(|entries| expander.declared(entries, &scope));
        let Expander { declarations, mut diagnostics, .. } = expander;
        let recipient = options.recipients.get(node).or_else(|| options.recipients.get(ALL));
        let passwords = match recipient {
            Some(recipient) => Passwords::Encrypt(recipient),
            None if options.leaves_passwords_clear => Passwords::LeaveClear,
            None => Passwords::Refuse,
        };
        let (author, source) = (self.author.as_deref(), Some(self.file.as_str()));
        let about = About { configuration: name, author, source, passwords };
        let emitted = match &settings {
            Some(settings) => metaconfiguration::emit(schemas, &about, settings, &declarations),
            None => emit(schemas, &about, &declarations, &*options.entropy),
        };
        match emitted {
            Ok(document) if diagnostics.is_empty() => {
                Ok(format!("/*\n@TargetNode='{node}'\n@GeneratedBy='oms'\n*/\n\n{document}"))
            }
            Ok(_) => Err(diagnostics),
            Err(wrong) => {
                diagnostics.extend(wrong);
                Err(diagnostics)
            }
        }
    }
}

struct Expander<'a> {
    source: &'a Source,
    declarations: Vec<Declaration>,
    diagnostics: Vec<Diagnostic>,
}

/// What a declared resource came to: its ids, and where its declarations are.
struct Expanded<'a> {
    range: Range<usize>,
    resource: &'a Resource,
}

impl<'a> Expander<'a> {
    fn report(&mut self, position: Position, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic { position, message: message.into() });
    }

    /// What expressions see on a node.
    fn scope(&mut self, node: &str, given: &BTreeMap<String, Value>) -> Scope {
        let mut scope = Scope { node: node.to_owned(), ..Scope::default() };
        for name in [ALL, node] {
            let entries = self.source.nodes.iter().filter(|entry| entry.key == name);
            for entry in entries {
                if let Value::Object(data) = entry.value.value() {
                    scope.data.extend(data);
                }
            }
        }
        let given = given.iter().map(|(name, value)| (name.clone(), (value.clone(), None)));
        self.parameters(&self.source.parameters, &given.collect(), &mut scope);
        for variable in &self.source.variables {
            if let Some(value) = self.evaluate(&variable.value, &scope) {
                if let Some(parameter) = scope.take_touched() {
                    let name = &variable.key;
                    let message = format!(
                        "the variable `{name}` would hold the secure parameter `{parameter}`"
                    );
                    self.report(variable.position, message);
                }
                scope.variables.insert(variable.key.clone(), value);
            }
        }
        scope
    }

    /// Gives every parameter its value: the given one, or its default. A given one has a place if the
    /// document gives it.
    fn parameters(
        &mut self,
        declared: &[Parameter],
        given: &BTreeMap<String, (Value, Option<Position>)>,
        scope: &mut Scope,
    ) {
        for parameter in declared {
            let name = &parameter.name;
            if parameter.parameter_type.is_secure() {
                scope.secure.push(name.clone());
            }
            let (value, position) = match (given.get(name), &parameter.default) {
                (Some((value, position)), _) => {
                    (Some(value.clone()), position.unwrap_or(parameter.position))
                }
                (None, Some(default)) => (self.evaluate(default, scope), default.position),
                (None, None) => {
                    let message = format!("the parameter `{name}` has no value and no default");
                    self.report(parameter.position, message);
                    continue;
                }
            };
            let Some(value) = value else { continue };
            if let Some(reason) = refusal(parameter, &value) {
                self.report(position, format!("the parameter `{name}` {reason}"));
            }
            scope.parameters.insert(name.clone(), value);
        }
    }

    fn evaluate(&mut self, tree: &Tree, scope: &Scope) -> Option<Value> {
        match evaluate(&tree.value(), scope) {
            Ok(value) => Some(value),
            Err(message) => {
                self.report(tree.position, message);
                None
            }
        }
    }

    fn text(&mut self, what: &str, tree: &Tree, scope: &Scope) -> Option<String> {
        match self.evaluate(tree, scope)? {
            Value::String(text) => Some(text),
            other => {
                self.report(tree.position, format!("{what} is {}, not a string", describe(&other)));
                None
            }
        }
    }

    /// Declares the resources of a body, which are all within `suffix`, and joins them by what they
    /// depend on.
    fn body(&mut self, resources: &'a [Resource], scope: &Scope, suffix: &str, depth: usize) {
        let mut ids: HashMap<String, Vec<String>> = HashMap::new();
        let mut expanded = Vec::new();
        for resource in resources {
            let Some(name) = self.name(resource, scope) else { continue };
            let short = resource.kind.rsplit_once('/').map_or(&*resource.kind, |(_, short)| short);
            let key = format!("[{short}]{name}").to_lowercase();
            let start = self.declarations.len();
            if self.holds(resource, scope) {
                self.resource(resource, name, scope, suffix, depth);
            }
            if self.declarations.len() > RESOURCES_MAX {
                let message = format!("there are more than {RESOURCES_MAX} resources");
                self.report(resource.position, message);
                self.declarations.truncate(start);
                return;
            }
            let range = start..self.declarations.len();
            // One that its condition leaves out is no dependency of anything.
            let own = self.declarations[range.clone()].iter().map(Declaration::id);
            ids.entry(key).or_default().extend(own);
            expanded.push(Expanded { range, resource });
        }
        for Expanded { range, resource } in expanded {
            for tree in &resource.depends_on {
                let Some(wanted) = self.text("`dependsOn`", tree, scope) else { continue };
                // What is not of this body may be outside of it.
                let wanted =
                    ids.get(&wanted.to_lowercase()).cloned().unwrap_or_else(|| vec![wanted]);
                for declaration in &mut self.declarations[range.clone()] {
                    let wanted = wanted.iter().map(|id| (id.clone(), tree.position));
                    declaration.depends_on.extend(wanted);
                }
            }
        }
    }

    fn name(&mut self, resource: &Resource, scope: &Scope) -> Option<String> {
        const NAME_BYTES_MAX: usize = 255;
        let name = self.text("`name`", &resource.name, scope)?;
        let is_right = !name.is_empty()
            && name.len() <= NAME_BYTES_MAX
            && !name.chars().any(|c| c.is_control() || matches!(c, '[' | ']'));
        if !is_right {
            let message = format!(
                "a resource's name has 1 to {NAME_BYTES_MAX} bytes without brackets and control \
                 characters"
            );
            self.report(resource.name.position, message);
        }
        is_right.then_some(name)
    }

    fn holds(&mut self, resource: &Resource, scope: &Scope) -> bool {
        let Some(condition) = &resource.condition else { return true };
        match self.evaluate(condition, scope) {
            Some(Value::Bool(holds)) => holds,
            Some(other) => {
                let message = format!("`condition` is {}, not a boolean", describe(&other));
                self.report(condition.position, message);
                false
            }
            None => false,
        }
    }

    fn resource(
        &mut self,
        resource: &'a Resource,
        name: String,
        scope: &Scope,
        suffix: &str,
        depth: usize,
    ) {
        let source = self.source;
        let mut composites = source.composites.iter();
        let composite = composites.find(|known| known.name.eq_ignore_ascii_case(&resource.kind));
        if (composite.is_some() || resource.members.is_some()) && depth == COMPOSITES_MAX {
            let message = format!("composites lie more than {COMPOSITES_MAX} deep");
            self.report(resource.position, message);
        } else if let Some(members) = &resource.members {
            self.body(members, scope, suffix, depth + 1);
        } else if let Some(composite) = composite {
            let suffix = format!("::[{}]{name}{suffix}", composite.name);
            self.composite(resource, composite, scope, &suffix, depth);
        } else {
            let properties = self.declared(&resource.properties, scope);
            self.declarations.push(Declaration {
                kind: resource.kind.clone(),
                name,
                suffix: suffix.to_owned(),
                properties,
                depends_on: Vec::new(),
                module: resource.module.clone(),
                position: resource.position,
            });
        }
    }

    fn declared(&mut self, entries: &[Entry], scope: &Scope) -> Vec<Declared> {
        let properties = entries.iter().filter_map(|entry| {
            let value = self.evaluate(&entry.value, scope)?;
            Some(Declared {
                name: entry.key.clone(),
                value,
                secure: scope.take_touched().map(str::to_owned),
                position: entry.position,
                value_position: entry.value.position,
            })
        });
        properties.collect()
    }

    fn composite(
        &mut self,
        resource: &Resource,
        composite: &'a Composite,
        outer: &Scope,
        suffix: &str,
        depth: usize,
    ) {
        let mut scope = Scope {
            node: outer.node.clone(),
            data: outer.data.clone(),
            variables: outer.variables.clone(),
            ..Scope::default()
        };
        let mut given = BTreeMap::new();
        let before = self.diagnostics.len();
        for entry in &resource.properties {
            let known = composite.parameters.iter().map(|parameter| parameter.name.as_str());
            if !known.clone().any(|known| known == entry.key) {
                let meant = meant(&entry.key, known);
                let message =
                    format!("`{}` has no parameter `{}`{meant}", composite.name, entry.key);
                self.report(entry.position, message);
                continue;
            }
            let Some(value) = self.evaluate(&entry.value, outer) else { continue };
            // What was a secret outside stays one inside.
            if outer.take_touched().is_some() {
                scope.secure.push(entry.key.clone());
            }
            given.insert(entry.key.clone(), (value, Some(entry.value.position)));
        }
        for parameter in &composite.parameters {
            if parameter.default.is_none() && !given.contains_key(&parameter.name) {
                let name = &parameter.name;
                let message = format!("`{}` needs a value of `{name}`", composite.name);
                self.report(resource.position, message);
            }
        }
        if self.diagnostics.len() > before {
            return;
        }
        self.parameters(&composite.parameters, &given, &mut scope);
        self.body(&composite.resources, &scope, suffix, depth + 1);
    }
}

/// Why a value is none of a parameter's, if it is none. The value itself is not told: it may be a
/// secret.
fn refusal(parameter: &Parameter, value: &Value) -> Option<String> {
    let wanted = parameter.parameter_type;
    if !wanted.fits(value) {
        return Some(format!("is of type {}, not {}", wanted.as_str(), describe(value)));
    }
    if let Some(allowed) = parameter.allowed.as_ref().filter(|allowed| !allowed.contains(value)) {
        let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        return Some(format!("is one of {}", allowed.join(", ")));
    }
    let is_outside = |number: i64, (least, most): (Option<i64>, Option<i64>)| {
        least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most)
    };
    let shown = |(least, most): (Option<i64>, Option<i64>)| match (least, most) {
        (Some(least), Some(most)) => format!("{least} to {most}"),
        (Some(least), None) => format!("at least {least}"),
        (None, Some(most)) => format!("at most {most}"),
        (None, None) => String::new(),
    };
    if value.as_i64().is_some_and(|number| is_outside(number, parameter.values)) {
        return Some(format!("is {}", shown(parameter.values)));
    }
    let len = match value {
        Value::String(text) => text.chars().count(),
        Value::Array(values) => values.len(),
        Value::Object(map) => map.len(),
        _ => return None,
    };
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    is_outside(len, parameter.lengths)
        .then(|| format!("has a length of {}", shown(parameter.lengths)))
}
