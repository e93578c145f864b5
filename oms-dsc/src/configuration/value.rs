//! Values with their aliases replaced.

use super::credential::{CREDENTIAL_CLASS, is_encrypted};
use crate::mof::{Diagnostic, Document, Instance, Position, Value, ValueKind};
use oms_core::Secret;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// A property's value, free of aliases.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PropertyValue {
    /// No value.
    Null,
    /// A boolean.
    Boolean(bool),
    /// An integer of 64 bits, with or without sign.
    Integer(i128),
    /// A finite real number.
    Real(f64),
    /// A string, or a character.
    Text(String),
    /// The password of a credential, unless it is encrypted: that stays a text. It does not print.
    Secret(Secret),
    /// Several values.
    Array(Vec<Self>),
    /// An embedded instance, such as a credential.
    Instance(Arc<Embedded>),
}

/// An instance that is a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedded {
    /// Its class: `MSFT_Credential`, `MSFT_KeyValuePair`.
    pub class: String,
    /// Its properties by name.
    pub properties: BTreeMap<String, PropertyValue>,
}

impl PropertyValue {
    /// What it is, for messages.
    #[must_use]
    pub const fn describe(&self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::Boolean(_) => "a boolean",
            Self::Integer(_) => "an integer",
            Self::Real(_) => "a real number",
            Self::Text(_) => "a string",
            Self::Secret(_) => "a secret",
            Self::Array(_) => "an array",
            Self::Instance(_) => "an instance",
        }
    }
}

/// Replaces aliases. Each named instance is built once and shared, so that a small document
/// cannot grow to a large tree.
pub(super) struct Resolver<'a> {
    named: HashMap<String, &'a Instance>,
    done: HashMap<String, Arc<Embedded>>,
    under_way: HashSet<String>,
    pub(super) used: HashSet<Position>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(document: &'a Document) -> Self {
        let mut named = HashMap::new();
        for instance in document.instances() {
            if let Some(alias) = &instance.alias {
                named.insert(alias.to_ascii_lowercase(), instance);
            }
        }
        Self {
            named,
            done: HashMap::new(),
            under_way: HashSet::new(),
            used: HashSet::new(),
            diagnostics: Vec::new(),
        }
    }

    pub(super) fn properties(&mut self, instance: &Instance) -> BTreeMap<String, PropertyValue> {
        let mut properties = BTreeMap::new();
        let is_credential = instance.class.eq_ignore_ascii_case(CREDENTIAL_CLASS);
        for property in &instance.properties {
            let mut value = self.value(&property.value);
            if let PropertyValue::Text(text) = &value
                && is_credential
                && property.name.eq_ignore_ascii_case("Password")
                && !is_encrypted(text)
            {
                value = PropertyValue::Secret(Secret::from(text.as_str()));
            }
            properties.insert(property.name.clone(), value);
        }
        properties
    }

    pub(super) fn value(&mut self, value: &Value) -> PropertyValue {
        match &value.kind {
            ValueKind::Null => PropertyValue::Null,
            ValueKind::Boolean(value) => PropertyValue::Boolean(*value),
            ValueKind::Integer(value) => PropertyValue::Integer(*value),
            ValueKind::Real(value) => PropertyValue::Real(*value),
            ValueKind::Char(value) => PropertyValue::Text(value.to_string()),
            ValueKind::Text(text) => PropertyValue::Text(text.clone()),
            ValueKind::Array(values) => {
                PropertyValue::Array(values.iter().map(|value| self.value(value)).collect())
            }
            ValueKind::Instance(instance) => {
                let properties = self.properties(instance);
                let class = instance.class.clone();
                PropertyValue::Instance(Arc::new(Embedded { class, properties }))
            }
            ValueKind::Alias(alias) => self.alias(alias, value.position),
        }
    }

    fn alias(&mut self, alias: &str, position: Position) -> PropertyValue {
        /// How many instances may refer to each other in a row.
        const REFERENCE_DEPTH_MAX: usize = 32;
        let key = alias.to_ascii_lowercase();
        if let Some(done) = self.done.get(&key) {
            return PropertyValue::Instance(Arc::clone(done));
        }
        let problem = if self.under_way.contains(&key) {
            "refers to itself"
        } else if self.under_way.len() == REFERENCE_DEPTH_MAX {
            "lies behind too many references"
        } else if let Some(instance) = self.named.get(&key).copied() {
            self.used.insert(instance.position);
            self.under_way.insert(key.clone());
            let properties = self.properties(instance);
            self.under_way.remove(&key);
            let embedded = Arc::new(Embedded { class: instance.class.clone(), properties });
            self.done.insert(key, Arc::clone(&embedded));
            return PropertyValue::Instance(embedded);
        } else {
            "names no instance"
        };
        let message = format!("the reference `{alias}` {problem}");
        self.diagnostics.push(Diagnostic { position, message });
        PropertyValue::Null
    }
}
