//! The declarations of one node: composites opened, expressions replaced by what they come to.

use super::compile::ALL;
use super::emit::{Declaration, Declared};
use super::expression::evaluate;
use super::scope::{Bound, Budget, Scope, Secure, is_plain, weigh};
use super::source::{Composite, NAME_BYTES_MAX, Parameter, ParameterType, Resource, Source};
use super::tree::{Entry, Kind, Tree, describe};
use crate::configuration::{DEPENDENCIES_MAX, RESOURCES_MAX, is_secret_name, meant};
use crate::mof::{DIAGNOSTICS_MAX, Diagnostic, Position};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::rc::Rc;

/// How deep composites may lie in each other.
const COMPOSITES_MAX: usize = 8;

/// What a source comes to for one node.
pub(super) struct Expansion {
    pub(super) declarations: Vec<Declaration>,
    /// Of the local configuration manager, if the source is one of metaconfigurations.
    pub(super) settings: Option<Vec<Declared>>,
}

/// Expands a source for a node. Fails with everything that is wrong, and with what was declared
/// nevertheless, if it is worth a look.
pub(super) fn expand(
    source: &Source,
    node: &str,
    given: &BTreeMap<String, Value>,
) -> (Option<Expansion>, Vec<Diagnostic>) {
    let budget = Budget::new();
    let mut expander =
        Expander { source, budget, declarations: Vec::new(), diagnostics: Vec::new() };
    let scope = expander.scope(node, given);
    if !expander.diagnostics.is_empty() {
        return (None, expander.diagnostics);
    }
    expander.body(&source.resources, &scope, "", 0);
    let settings = source.settings.as_ref().map(|entries| expander.declared(entries, &scope));
    let is_whole = !expander.is_exhausted();
    let Expander { declarations, diagnostics, .. } = expander;
    (is_whole.then_some(Expansion { declarations, settings }), diagnostics)
}

struct Expander<'a> {
    source: &'a Source,
    budget: Rc<Budget>,
    declarations: Vec<Declaration>,
    diagnostics: Vec<Diagnostic>,
}

/// What a declared resource came to: where its declarations are.
struct Expanded<'a> {
    range: Range<usize>,
    resource: &'a Resource,
}

/// The resources of the document or of a composite, with those of the groups in it: they know each
/// other's names.
#[derive(Default)]
struct Body<'a> {
    /// What `[Type]Name` in lower case came to.
    ids: HashMap<String, Vec<String>>,
    expanded: Vec<Expanded<'a>>,
}

impl<'a> Expander<'a> {
    /// Tells what is wrong, each once: a composite may be wrong in the same way many times.
    fn report(&mut self, position: Position, message: impl Into<String>) {
        let told = Diagnostic { position, message: message.into() };
        if !self.diagnostics.contains(&told) {
            self.diagnostics.push(told);
        }
        if self.diagnostics.len() >= DIAGNOSTICS_MAX {
            self.budget.exhaust();
        }
    }

    /// Whether the work on this node has ended: it costs too much, or enough is wrong. At least one
    /// diagnostic tells it then.
    fn is_exhausted(&self) -> bool {
        self.budget.is_exhausted()
    }

    /// What expressions see on a node.
    fn scope(&mut self, node: &str, given: &BTreeMap<String, Value>) -> Scope {
        let mut scope = Scope::new(node, &self.budget);
        // Parameters may be told by what is said of the node, and the other way round.
        let (plain, computed): (Vec<&Entry>, Vec<&Entry>) =
            said_of(self.source, node).into_iter().partition(|entry| is_plain(&entry.value));
        scope.awaited = computed.iter().map(|entry| entry.key.clone()).collect();
        for entry in plain {
            self.say(entry, &mut scope);
        }
        let given = given.iter().map(|(name, value)| {
            (
                name.clone(),
                Given { bound: Bound { value: value.clone(), secure: None }, position: None },
            )
        });
        self.parameters(&self.source.parameters, given.collect(), &mut scope);
        for entry in computed {
            self.say(entry, &mut scope);
        }
        for variable in &self.source.variables {
            let what = format!("the variable `{}`", variable.key);
            if let Some(bound) = self.hold(&what, variable, &scope) {
                Rc::make_mut(&mut scope.variables).insert(variable.key.clone(), bound);
            }
        }
        scope
    }

    /// Adds what is said of the node by one entry.
    fn say(&mut self, entry: &Entry, scope: &mut Scope) {
        let what = format!("the value `{}` of the node", entry.key);
        let held = self.hold(&what, entry, scope);
        scope.awaited.remove(&entry.key);
        if let Some(bound) = held {
            Rc::make_mut(&mut scope.data).insert(entry.key.clone(), bound);
        }
    }

    /// The value of an entry that everybody may read.
    fn hold(&mut self, what: &str, entry: &Entry, scope: &Scope) -> Option<Bound> {
        let bound = self.entry(entry, scope)?;
        if let Some(Secure { parameter, .. }) = &bound.secure {
            let message = format!("{what} would hold the secure parameter `{parameter}`");
            self.report(entry.position, message);
        }
        Some(bound)
    }

    /// Gives every parameter its value: the given one, or its default.
    fn parameters(
        &mut self,
        declared: &[Parameter],
        mut given: BTreeMap<String, Given>,
        scope: &mut Scope,
    ) {
        for parameter in declared {
            let name = &parameter.name;
            let (bound, position) = match (given.remove(name), &parameter.default) {
                (Some(Given { bound, position }), _) => {
                    (self.taken(bound, parameter), position.unwrap_or(parameter.position))
                }
                (None, Some(default)) => {
                    let hides = parameter.parameter_type.is_secure() || is_secret_name(name);
                    (self.evaluate_hiding(default, scope, hides), default.position)
                }
                (None, None) => {
                    let message = format!("the parameter `{name}` has no value and no default");
                    self.report(parameter.position, message);
                    continue;
                }
            };
            let Some(Bound { value, secure }) = bound else { continue };
            if let Some(reason) = refusal(parameter, &value) {
                self.report(position, format!("the parameter `{name}` {reason}"));
            }
            let secure = secure_as(parameter, secure);
            scope.parameters.insert(name.clone(), Bound { value, secure });
        }
    }

    /// A given value, which is paid for as one that was evaluated.
    fn taken(&mut self, bound: Bound, parameter: &Parameter) -> Option<Bound> {
        match weigh(&bound.value).and_then(|bytes| self.budget.charge(bytes)) {
            Ok(()) => Some(bound),
            Err(message) => {
                let name = &parameter.name;
                self.report(parameter.position, format!("the parameter `{name}`: {message}"));
                None
            }
        }
    }

    /// What a part of the source comes to, and the secret that is in it.
    fn evaluate(&mut self, tree: &Tree, scope: &Scope) -> Option<Bound> {
        self.evaluate_hiding(tree, scope, false)
    }

    /// The same of an entry, whose name may say that it is a secret.
    fn entry(&mut self, entry: &Entry, scope: &Scope) -> Option<Bound> {
        self.evaluate_hiding(&entry.value, scope, is_secret_name(&entry.key))
    }

    /// The same, where no message shows the text of an expression if it may be a secret itself.
    fn evaluate_hiding(&mut self, tree: &Tree, scope: &Scope, hides: bool) -> Option<Bound> {
        if self.is_exhausted() {
            return None;
        }
        scope.hide_source(hides);
        let evaluated = evaluate(&tree.value(), scope);
        // Whatever came of it: what is evaluated next has secrets of its own.
        let mut secure = scope.take_touched();
        let value = match evaluated {
            Ok(value) => value,
            Err(message) => {
                self.report(tree.position, message);
                return None;
            }
        };
        if let Some(secure) = secure.as_mut().filter(|_| !matches!(tree.kind, Kind::Scalar(_))) {
            let readable = self.readable(tree, scope, false);
            secure.is_account = readable.is_none();
            secure.parameter = readable.unwrap_or_else(|| secure.parameter.clone());
        }
        Some(Bound { value, secure })
    }

    /// The secure parameter in a value that could still be read if every credential's password were
    /// encrypted: each part of the source is looked at apart.
    fn readable(&mut self, tree: &Tree, scope: &Scope, is_password: bool) -> Option<String> {
        match &tree.kind {
            Kind::Scalar(_) => {
                let Bound { value, secure } = self.evaluate_hiding(tree, scope, is_password)?;
                let secure = secure.filter(|secure| !secure.is_account)?;
                // Anything else in its place is not encrypted.
                (!(is_password && value.is_string())).then_some(secure.parameter)
            }
            Kind::List(items) => items.iter().find_map(|item| self.readable(item, scope, false)),
            Kind::Map(entries) => entries.iter().find_map(|entry| {
                let is_password = entry.key.eq_ignore_ascii_case("password");
                self.readable(&entry.value, scope, is_password)
            }),
        }
    }

    /// A string that everybody may read.
    fn text(&mut self, what: &str, tree: &Tree, scope: &Scope) -> Option<String> {
        let Bound { value, secure } = self.evaluate(tree, scope)?;
        if let Some(Secure { parameter, .. }) = secure {
            let message = format!("{what} would hold the secure parameter `{parameter}`");
            self.report(tree.position, message);
            return None;
        }
        match value {
            Value::String(text) => Some(text),
            other => {
                self.report(tree.position, format!("{what} is {}, not a string", describe(&other)));
                None
            }
        }
    }

    /// Whether there is work left for one more resource.
    fn step(&mut self, position: Position) -> bool {
        if self.is_exhausted() {
            return false;
        }
        match self.budget.step() {
            Ok(()) => true,
            Err(message) => {
                self.report(position, message);
                false
            }
        }
    }

    /// Declares the resources of a body, which are all within `suffix`, and joins them by what they
    /// depend on.
    fn body(&mut self, resources: &'a [Resource], scope: &Scope, suffix: &str, depth: usize) {
        let mut body = Body::default();
        self.members(resources, scope, suffix, depth, &mut body);
        let Body { ids, expanded } = body;
        for Expanded { range, resource } in expanded {
            for tree in &resource.depends_on {
                let Some(wanted) = self.text("`dependsOn`", tree, scope) else { continue };
                // What is not of this body may be outside of it.
                let wanted =
                    ids.get(&wanted.to_lowercase()).cloned().unwrap_or_else(|| vec![wanted]);
                self.join(range.clone(), &wanted, tree.position);
            }
        }
    }

    /// Declares resources of a body: its own, or those of a group in it.
    fn members(
        &mut self,
        resources: &'a [Resource],
        scope: &Scope,
        suffix: &str,
        depth: usize,
        body: &mut Body<'a>,
    ) {
        for resource in resources {
            if !self.step(resource.position) {
                return;
            }
            let Some(name) = self.name(resource, scope) else { continue };
            let short = resource.kind.rsplit_once('/').map_or(&*resource.kind, |(_, short)| short);
            let key = format!("[{short}]{name}").to_lowercase();
            let start = self.declarations.len();
            if self.holds(resource, scope) {
                self.resource(resource, name, scope, suffix, depth, body);
            }
            if self.declarations.len() > RESOURCES_MAX {
                let message = format!("there are more than {RESOURCES_MAX} resources");
                self.report(resource.position, message);
                self.budget.exhaust();
                return;
            }
            let range = start..self.declarations.len();
            // One that its condition leaves out is no dependency of anything.
            let own = self.declarations[range.clone()].iter().map(Declaration::id);
            body.ids.entry(key).or_default().extend(own);
            body.expanded.push(Expanded { range, resource });
        }
    }

    /// Makes every declaration of a range depend on every id.
    fn join(&mut self, range: Range<usize>, wanted: &[String], position: Position) {
        let before = self.declarations[range.clone()].iter().map(|made| made.depends_on.len());
        if before.max().unwrap_or_default() + wanted.len() > DEPENDENCIES_MAX {
            let message = format!("a resource depends on more than {DEPENDENCIES_MAX} others");
            self.report(position, message);
            return;
        }
        let bytes = wanted.iter().map(|id| id.len() + size_of::<(String, Position)>());
        let bytes = bytes.sum::<usize>().saturating_mul(range.len());
        if self.budget.charge(bytes).is_err() {
            self.report(position, "the dependencies of all resources are too many");
            return;
        }
        for declaration in &mut self.declarations[range] {
            declaration.depends_on.extend(wanted.iter().map(|id| (id.clone(), position)));
        }
    }

    fn name(&mut self, resource: &Resource, scope: &Scope) -> Option<String> {
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
        match self.evaluate(condition, scope).map(|bound| bound.value) {
            // It may ask for a secret, of which it shows nothing.
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
        body: &mut Body<'a>,
    ) {
        let source = self.source;
        let mut composites = source.composites.iter();
        let composite = composites.find(|known| known.name.eq_ignore_ascii_case(&resource.kind));
        if (composite.is_some() || resource.members.is_some()) && depth == COMPOSITES_MAX {
            let message = format!("composites lie more than {COMPOSITES_MAX} deep");
            self.report(resource.position, message);
        } else if let Some(members) = &resource.members {
            self.members(members, scope, suffix, depth + 1, body);
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
            let bytes = entry.key.len() + size_of::<Declared>();
            if let Err(message) = self.budget.charge(bytes) {
                self.report(entry.position, message);
                return None;
            }
            let Bound { value, secure } = self.entry(entry, scope)?;
            let (position, value_position) = (entry.position, entry.value.position);
            Some(Declared { name: entry.key.clone(), value, secure, position, value_position })
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
        let mut scope = outer.within();
        let mut given = BTreeMap::new();
        let before = self.diagnostics.len();
        for entry in &resource.properties {
            let mut parameters = composite.parameters.iter();
            let Some(parameter) = parameters.find(|known| known.name == entry.key) else {
                let known = composite.parameters.iter().map(|known| known.name.as_str());
                let meant = meant(&entry.key, known);
                let message =
                    format!("`{}` has no parameter `{}`{meant}", composite.name, entry.key);
                self.report(entry.position, message);
                continue;
            };
            let hides = parameter.parameter_type.is_secure() || is_secret_name(&entry.key);
            let bound = self.evaluate_hiding(&entry.value, outer, hides);
            let Some(bound) = bound else { continue };
            let position = Some(entry.value.position);
            given.insert(entry.key.clone(), Given { bound, position });
        }
        for parameter in &composite.parameters {
            if parameter.default.is_none() && !given.contains_key(&parameter.name) {
                let name = &parameter.name;
                let message = format!("`{}` needs a value of `{name}`", composite.name);
                self.report(resource.position, message);
            }
        }
        if self.diagnostics.len() > before || self.is_exhausted() {
            return;
        }
        self.parameters(&composite.parameters, given, &mut scope);
        self.body(&composite.resources, &scope, suffix, depth + 1);
    }
}

/// A parameter's value from outside, and its place if the document gives it.
struct Given {
    bound: Bound,
    position: Option<Position>,
}

/// What makes a parameter's value a secret: what was one stays one, by the name that it has here.
fn secure_as(parameter: &Parameter, given: Option<Secure>) -> Option<Secure> {
    let of_type = parameter.parameter_type;
    let is_secure = of_type.is_secure() || given.is_some();
    let is_account = given.is_none_or(|secure| secure.is_account);
    is_secure.then(|| Secure {
        parameter: parameter.name.clone(),
        is_account: is_account && of_type != ParameterType::SecureString,
    })
}

/// What is said of a node: of all, but for what is said of it alone.
fn said_of<'a>(source: &'a Source, node: &str) -> Vec<&'a Entry> {
    let of = |name: &str| {
        let found = source.nodes.iter().find(|entry| entry.key == name);
        found.map(|entry| entry.value.entries()).unwrap_or_default()
    };
    let own = of(node);
    let of_all = of(ALL).iter().filter(|entry| own.iter().all(|other| other.key != entry.key));
    of_all.chain(own).collect()
}

/// Why a value is none of a parameter's, if it is none. The value itself is not told, and no other that
/// may be a secret.
fn refusal(parameter: &Parameter, value: &Value) -> Option<String> {
    let wanted = parameter.parameter_type;
    if !wanted.fits(value) {
        return Some(format!("is of type {}, not {}", wanted.as_str(), describe(value)));
    }
    if let Some(allowed) = parameter.allowed.as_ref().filter(|allowed| !allowed.contains(value)) {
        if wanted.is_secure() {
            return Some("is none of its `allowedValues`".to_owned());
        }
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
