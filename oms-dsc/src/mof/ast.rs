//! The tree of a document.

use super::Position;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// A whole document. Its JSON form groups the items by kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// In the order of the text.
    pub items: Vec<Item>,
}

impl Document {
    /// Every instance that stands on its own, in order.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.items.iter().filter_map(|item| match item {
            Item::Instance(instance) => Some(instance),
            _ => None,
        })
    }

    /// Every class declaration, in order.
    pub fn classes(&self) -> impl Iterator<Item = &Class> {
        self.items.iter().filter_map(|item| match item {
            Item::Class(class) => Some(class),
            _ => None,
        })
    }

    /// The same tree with every position at 0:0, so that two trees compare by content alone.
    #[must_use]
    pub fn without_positions(mut self) -> Self {
        self.items.iter_mut().for_each(Item::forget_position);
        self
    }
}

/// One top-level part of a document.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Item {
    /// `#pragma name ("value", Word)`
    Pragma(Pragma),
    /// `Qualifier Name : type …;`
    Qualifier(QualifierDeclaration),
    /// `class Name { … };`
    Class(Class),
    /// `instance of Class { … };`
    Instance(Instance),
}

/// A compiler directive. The standard ones have one string; those of Windows have none, as
/// `autorecover`, or several, as `deleteclass ("Name", NOFAIL)`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pragma {
    /// Its name: `locale`, `include`, `namespace`.
    pub name: String,
    /// What stands between its parentheses; without parameters there are none to print.
    pub parameters: Vec<PragmaParameter>,
    /// Where it starts.
    #[serde(skip)]
    pub position: Position,
}

impl Pragma {
    /// The text of its first parameter, in quotation marks or not.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.parameters.first().map(|parameter| match parameter {
            PragmaParameter::Text(text) | PragmaParameter::Word(text) => text.as_str(),
        })
    }
}

/// A parameter of a compiler directive.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum PragmaParameter {
    /// A string.
    Text(String),
    /// A name without quotation marks: `NOFAIL`.
    Word(String),
}

/// The declaration of a qualifier type.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QualifierDeclaration {
    /// The qualifier's name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub data_type: DataType,
    /// Its default value.
    pub default: Option<Value>,
    /// What it may stand on: `class`, `property`, `any`.
    pub scope: Vec<String>,
    /// How it is inherited: `EnableOverride`, `ToSubclass`.
    pub flavor: Vec<String>,
    /// Where it starts.
    #[serde(skip)]
    pub position: Position,
}

/// A qualifier on a class, a feature or a parameter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Qualifier {
    /// Its name: `Key`, `ClassVersion`.
    pub name: String,
    /// Its value; without one it is a boolean that is true, or its type's default.
    pub value: Option<Value>,
    /// How it is inherited, behind a colon.
    pub flavor: Vec<String>,
    /// Where it starts.
    #[serde(skip)]
    pub position: Position,
}

/// A class declaration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Class {
    /// In front of the class.
    pub qualifiers: Vec<Qualifier>,
    /// Its name.
    pub name: String,
    /// `as $Alias`
    pub alias: Option<String>,
    /// The class it extends.
    pub superclass: Option<String>,
    /// Properties and methods, in order.
    pub features: Vec<Feature>,
    /// Where the word `class` stands.
    #[serde(skip)]
    pub position: Position,
}

/// A property or method of a class.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Feature {
    /// `type Name;`
    Property(PropertyDeclaration),
    /// `type Name(…);`
    Method(Method),
}

/// The type of a property, parameter or qualifier.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DataType {
    /// `uint32`, `string`, or the name of a class.
    pub name: String,
    /// Whether it is a reference to an instance: `Class ref`.
    pub is_reference: bool,
    /// Whether it is an array.
    pub is_array: bool,
    /// The fixed number of elements, if there is one.
    pub array_len: Option<u64>,
}

/// A property of a class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PropertyDeclaration {
    /// In front of the property.
    pub qualifiers: Vec<Qualifier>,
    /// Its type.
    #[serde(rename = "type")]
    pub data_type: DataType,
    /// Its name.
    pub name: String,
    /// Its default value.
    pub default: Option<Value>,
    /// Where its name stands.
    #[serde(skip)]
    pub position: Position,
}

/// A method of a class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Method {
    /// In front of the method.
    pub qualifiers: Vec<Qualifier>,
    /// What it returns.
    #[serde(rename = "type")]
    pub data_type: DataType,
    /// Its name.
    pub name: String,
    /// Its parameters, in order.
    pub parameters: Vec<Parameter>,
    /// Where its name stands.
    #[serde(skip)]
    pub position: Position,
}

/// A parameter of a method.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Parameter {
    /// In front of the parameter.
    pub qualifiers: Vec<Qualifier>,
    /// Its type.
    #[serde(rename = "type")]
    pub data_type: DataType,
    /// Its name.
    pub name: String,
}

/// An instance of a class.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// In front of the instance.
    pub qualifiers: Vec<Qualifier>,
    /// The class's name.
    pub class: String,
    /// `as $Alias`, with the dollar sign.
    pub alias: Option<String>,
    /// In the order of the text, each name once.
    pub properties: Vec<Property>,
    /// Where the word `instance` stands.
    pub position: Position,
}

impl Instance {
    /// The property of that name, without regard to ASCII case.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&Property> {
        self.properties.iter().find(|property| property.name.eq_ignore_ascii_case(name))
    }

    /// The text of the property of that name, if it has one that is a string.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.property(name).and_then(|property| property.value.as_text())
    }
}

/// A property of an instance and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Property {
    /// In front of the property.
    pub qualifiers: Vec<Qualifier>,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Value,
    /// Where its name stands.
    pub position: Position,
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// What it is.
    pub kind: ValueKind,
    /// Where it starts.
    pub position: Position,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ValueKind {
    /// `NULL`
    Null,
    /// `TRUE`, `FALSE`
    Boolean(bool),
    /// Any integer that fits into 64 bits with or without sign.
    Integer(i128),
    /// A finite real number.
    Real(f64),
    /// `'a'`, at most U+FFFF.
    Char(char),
    /// `"text"`; adjacent literals are one value.
    Text(String),
    /// `$Name`: the instance of that alias.
    Alias(String),
    /// `{ … }`, whose elements are not arrays.
    Array(Vec<Value>),
    /// `instance of Class { … }` as a value.
    Instance(Box<Instance>),
}

impl Value {
    /// The text of a string.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match &self.kind {
            ValueKind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What it is, for messages.
    #[must_use]
    pub fn describe(&self) -> &'static str {
        match self.kind {
            ValueKind::Null => "NULL",
            ValueKind::Boolean(_) => "a boolean",
            ValueKind::Integer(_) => "an integer",
            ValueKind::Real(_) => "a real number",
            ValueKind::Char(_) => "a character",
            ValueKind::Text(_) => "a string",
            ValueKind::Alias(_) => "a reference",
            ValueKind::Array(_) => "an array",
            ValueKind::Instance(_) => "an instance",
        }
    }

    fn forget_position(&mut self) {
        self.position = Position::default();
        match &mut self.kind {
            ValueKind::Array(values) => values.iter_mut().for_each(Self::forget_position),
            ValueKind::Instance(instance) => instance.forget_position(),
            _ => {}
        }
    }
}

impl Item {
    fn forget_position(&mut self) {
        match self {
            Self::Pragma(pragma) => pragma.position = Position::default(),
            Self::Qualifier(declaration) => {
                declaration.position = Position::default();
                declaration.default.iter_mut().for_each(Value::forget_position);
            }
            Self::Class(class) => {
                class.position = Position::default();
                forget_positions(&mut class.qualifiers);
                class.features.iter_mut().for_each(Feature::forget_position);
            }
            Self::Instance(instance) => instance.forget_position(),
        }
    }
}

impl Feature {
    fn forget_position(&mut self) {
        match self {
            Self::Property(property) => {
                property.position = Position::default();
                forget_positions(&mut property.qualifiers);
                property.default.iter_mut().for_each(Value::forget_position);
            }
            Self::Method(method) => {
                method.position = Position::default();
                forget_positions(&mut method.qualifiers);
                for parameter in &mut method.parameters {
                    forget_positions(&mut parameter.qualifiers);
                }
            }
        }
    }
}

impl Instance {
    fn forget_position(&mut self) {
        self.position = Position::default();
        forget_positions(&mut self.qualifiers);
        for property in &mut self.properties {
            property.position = Position::default();
            forget_positions(&mut property.qualifiers);
            property.value.forget_position();
        }
    }
}

fn forget_positions(qualifiers: &mut [Qualifier]) {
    for qualifier in qualifiers {
        qualifier.position = Position::default();
        qualifier.value.iter_mut().for_each(Value::forget_position);
    }
}

impl Serialize for Document {
    /// `{"pragmas": […], "qualifiers": […], "classes": […], "instances": […]}`
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (mut pragmas, mut qualifiers, mut classes, mut instances) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for item in &self.items {
            match item {
                Item::Pragma(pragma) => pragmas.push(pragma),
                Item::Qualifier(declaration) => qualifiers.push(declaration),
                Item::Class(class) => classes.push(class),
                Item::Instance(instance) => instances.push(instance),
            }
        }
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("pragmas", &pragmas)?;
        map.serialize_entry("qualifiers", &qualifiers)?;
        map.serialize_entry("classes", &classes)?;
        map.serialize_entry("instances", &instances)?;
        map.end()
    }
}

impl Serialize for Instance {
    /// `{"class": …, "alias": …, "properties": {…}}`; the properties keep their order, and their
    /// qualifiers, which are rare, are in `propertyQualifiers` by name.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.qualifiers.is_empty() {
            map.serialize_entry("qualifiers", &self.qualifiers)?;
        }
        map.serialize_entry("class", &self.class)?;
        if let Some(alias) = &self.alias {
            map.serialize_entry("alias", alias)?;
        }
        map.serialize_entry("properties", &Properties(&self.properties))?;
        let qualified = self.properties.iter().filter(|property| !property.qualifiers.is_empty());
        let qualified: BTreeMap<_, _> =
            qualified.map(|property| (&property.name, &property.qualifiers)).collect();
        if !qualified.is_empty() {
            map.serialize_entry("propertyQualifiers", &qualified)?;
        }
        map.end()
    }
}

struct Properties<'a>(&'a [Property]);

impl Serialize for Properties<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for property in self.0 {
            map.serialize_entry(&property.name, &property.value)?;
        }
        map.end()
    }
}

impl Serialize for Value {
    /// Scalars and arrays as themselves, `{"char": …}`, `{"alias": "$Name"}`, and an instance as
    /// its object.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tagged = |serializer: S, tag: &str, text: &str| {
            let mut map = serializer.serialize_map(Some(1))?;
            map.serialize_entry(tag, text)?;
            map.end()
        };
        match &self.kind {
            ValueKind::Null => serializer.serialize_unit(),
            ValueKind::Boolean(value) => serializer.serialize_bool(*value),
            ValueKind::Integer(value) => match i64::try_from(*value) {
                Ok(value) => serializer.serialize_i64(value),
                Err(_beyond) => serializer.serialize_u64(u64::try_from(*value).unwrap_or(u64::MAX)),
            },
            ValueKind::Real(value) => serializer.serialize_f64(*value),
            ValueKind::Char(value) => tagged(serializer, "char", &value.to_string()),
            ValueKind::Text(text) => serializer.serialize_str(text),
            ValueKind::Alias(alias) => tagged(serializer, "alias", alias),
            ValueKind::Array(values) => {
                let mut seq = serializer.serialize_seq(Some(values.len()))?;
                for value in values {
                    seq.serialize_element(value)?;
                }
                seq.end()
            }
            ValueKind::Instance(instance) => instance.serialize(serializer),
        }
    }
}
