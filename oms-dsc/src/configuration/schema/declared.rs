//! A class as a schema file declares it.

use crate::mof::{Class, Diagnostic, Feature, Position, PropertyDeclaration, Qualifier, ValueKind};
use std::collections::HashMap;

/// A class of resources, or of what lies in them.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceClass {
    /// Its name: `MSFT_FileDirectoryConfiguration`.
    pub name: String,
    /// `FriendlyName`, which configurations call it by: `File`.
    pub friendly_name: Option<String>,
    /// `ClassVersion`
    pub version: Option<String>,
    /// The class it extends.
    pub superclass: Option<String>,
    /// Those that it declares itself, in the order of the text.
    pub properties: Vec<PropertySchema>,
    /// Where it is declared.
    pub position: Position,
}

/// A property of a class.
#[derive(Clone, Debug, PartialEq)]
pub struct PropertySchema {
    /// Its name.
    pub name: String,
    /// The type of its value, or of each element.
    pub value_type: PropertyType,
    /// Whether it is an array.
    pub is_array: bool,
    /// `Key`: one resource of the class has these values.
    pub is_key: bool,
    /// `Required`
    pub is_required: bool,
    /// `Read`: it is told and cannot be wished for.
    pub is_read_only: bool,
    /// `ValueMap`: the only values, if there are any.
    pub values: Vec<String>,
    /// Where it is declared.
    pub position: Position,
}

/// The type of a value.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PropertyType {
    /// `boolean`
    Boolean,
    /// `uint8` to `uint64`, by bits.
    Unsigned(u32),
    /// `sint8` to `sint64`, by bits.
    Signed(u32),
    /// `real32`, `real64`
    Real,
    /// `char16`
    Char,
    /// `string`
    Text,
    /// `datetime`
    DateTime,
    /// An instance of that class or of one that extends it: `EmbeddedInstance`, or a reference.
    Instance(String),
    /// `EmbeddedObject`: an instance of any class.
    Object,
}

impl PropertyType {
    /// How messages name it.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Boolean => "a boolean".to_owned(),
            Self::Unsigned(bits) => format!("an integer of 0 to {}", u64::MAX >> (64 - bits)),
            Self::Signed(bits) => {
                let most = i64::MAX >> (64 - bits);
                format!("an integer of {} to {most}", -most - 1)
            }
            Self::Real => "a number".to_owned(),
            Self::Char => "a character".to_owned(),
            Self::Text => "a string".to_owned(),
            Self::DateTime => "a date and time as a string".to_owned(),
            Self::Instance(class) => format!("an instance of `{class}`"),
            Self::Object => "an instance".to_owned(),
        }
    }

    fn of(declaration: &PropertyDeclaration) -> Option<Self> {
        let data_type = &declaration.data_type;
        if data_type.is_reference {
            return Some(Self::Instance(data_type.name.clone()));
        }
        Some(match data_type.name.to_ascii_lowercase().as_str() {
            "boolean" => Self::Boolean,
            "uint8" => Self::Unsigned(8),
            "uint16" => Self::Unsigned(16),
            "uint32" => Self::Unsigned(32),
            "uint64" => Self::Unsigned(64),
            "sint8" => Self::Signed(8),
            "sint16" => Self::Signed(16),
            "sint32" => Self::Signed(32),
            "sint64" => Self::Signed(64),
            "real32" | "real64" => Self::Real,
            "char16" => Self::Char,
            "datetime" => Self::DateTime,
            "string" => match find(&declaration.qualifiers, "EmbeddedInstance") {
                Some(found) => match text(found) {
                    Some(class) => Self::Instance(class),
                    None => Self::Object,
                },
                None if find(&declaration.qualifiers, "EmbeddedObject").is_some() => Self::Object,
                None => Self::Text,
            },
            _ => return None,
        })
    }
}

impl ResourceClass {
    /// Its keys among its own properties.
    pub fn keys(&self) -> impl Iterator<Item = &PropertySchema> {
        self.properties.iter().filter(|property| property.is_key)
    }

    /// Reads a declaration; what is wrong with it is added to the diagnostics.
    pub(super) fn read(class: &Class, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let mut properties: Vec<PropertySchema> = Vec::new();
        let mut given = HashMap::new();
        for feature in &class.features {
            // Methods are the resource's own matter.
            let Feature::Property(declaration) = feature else { continue };
            let (name, position) = (declaration.name.clone(), declaration.position);
            if let Some(first) = given.insert(name.to_ascii_lowercase(), position) {
                let message = format!("the property `{name}` was declared at {first} already");
                diagnostics.push(Diagnostic { position, message });
                continue;
            }
            match PropertyType::of(declaration) {
                Some(value_type) => properties.push(property(declaration, value_type)),
                None => {
                    let data_type = &declaration.data_type.name;
                    let message = format!("`{data_type}` is no type of a property");
                    diagnostics.push(Diagnostic { position, message });
                }
            }
        }
        let named = |name| find(&class.qualifiers, name).and_then(text);
        Self {
            name: class.name.clone(),
            friendly_name: named("FriendlyName"),
            version: named("ClassVersion"),
            superclass: class.superclass.clone(),
            properties,
            position: class.position,
        }
    }
}

fn property(declaration: &PropertyDeclaration, value_type: PropertyType) -> PropertySchema {
    let is = |name| find(&declaration.qualifiers, name).is_some_and(is_set);
    let values = find(&declaration.qualifiers, "ValueMap").map(texts).unwrap_or_default();
    PropertySchema {
        name: declaration.name.clone(),
        value_type,
        is_array: declaration.data_type.is_array,
        is_key: is("Key"),
        is_required: is("Required"),
        // What can be read and written has both.
        is_read_only: is("Read") && !is("Write"),
        values,
        position: declaration.position,
    }
}

fn find<'a>(qualifiers: &'a [Qualifier], name: &str) -> Option<&'a Qualifier> {
    qualifiers.iter().find(|qualifier| qualifier.name.eq_ignore_ascii_case(name))
}

/// A qualifier without a value is a boolean that is true.
fn is_set(qualifier: &Qualifier) -> bool {
    let value = qualifier.value.as_ref().map(|value| &value.kind);
    !matches!(value, Some(ValueKind::Boolean(false) | ValueKind::Null))
}

fn text(qualifier: &Qualifier) -> Option<String> {
    qualifier.value.as_ref()?.as_text().map(str::to_owned)
}

fn texts(qualifier: &Qualifier) -> Vec<String> {
    match qualifier.value.as_ref().map(|value| &value.kind) {
        Some(ValueKind::Array(values)) => {
            values.iter().filter_map(|value| value.as_text().map(str::to_owned)).collect()
        }
        Some(ValueKind::Text(text)) => vec![text.clone()],
        _ => Vec::new(),
    }
}
