//! The tree back to text. Nothing is lost but layout, comments and positions.

use super::ast::{
    Class, DataType, Document, Feature, Instance, Item, Pragma, PragmaParameter, Qualifier,
    QualifierDeclaration, Value, ValueKind,
};
use std::fmt::{self, Display, Formatter, Write as _};

impl Display for Document {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for item in &self.items {
            match item {
                Item::Pragma(pragma) => pragma.fmt(f)?,
                Item::Qualifier(declaration) => declaration.fmt(f)?,
                Item::Class(class) => class.fmt(f)?,
                Item::Instance(instance) => {
                    print_instance(f, instance, "")?;
                    f.write_str(";\n")?;
                }
            }
        }
        Ok(())
    }
}

impl Display for Pragma {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "#pragma {}", self.name)?;
        for (index, parameter) in self.parameters.iter().enumerate() {
            f.write_str(if index > 0 { ", " } else { " (" })?;
            match parameter {
                PragmaParameter::Text(text) => Quoted(text).fmt(f)?,
                PragmaParameter::Word(word) => f.write_str(word)?,
            }
        }
        f.write_str(if self.parameters.is_empty() { "\n" } else { ")\n" })
    }
}

impl Display for QualifierDeclaration {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "Qualifier {} : {}{}", self.name, self.data_type, Brackets(&self.data_type))?;
        if let Some(default) = &self.default {
            write!(f, " = {default}")?;
        }
        for (word, names) in [("Scope", &self.scope), ("Flavor", &self.flavor)] {
            if !names.is_empty() {
                write!(f, ", {word}({})", names.join(", "))?;
            }
        }
        f.write_str(";\n")
    }
}

impl Display for Class {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        print_qualifiers(f, &self.qualifiers, "\n")?;
        write!(f, "class {}", self.name)?;
        if let Some(alias) = &self.alias {
            write!(f, " as {alias}")?;
        }
        if let Some(superclass) = &self.superclass {
            write!(f, " : {superclass}")?;
        }
        f.write_str("\n{\n")?;
        for feature in &self.features {
            f.write_str("  ")?;
            match feature {
                Feature::Property(property) => {
                    print_qualifiers(f, &property.qualifiers, " ")?;
                    let data_type = &property.data_type;
                    write!(f, "{data_type} {}{}", property.name, Brackets(data_type))?;
                    if let Some(default) = &property.default {
                        write!(f, " = {default}")?;
                    }
                }
                Feature::Method(method) => {
                    print_qualifiers(f, &method.qualifiers, " ")?;
                    write!(f, "{} {}(", method.data_type, method.name)?;
                    for (index, parameter) in method.parameters.iter().enumerate() {
                        f.write_str(if index > 0 { ", " } else { "" })?;
                        print_qualifiers(f, &parameter.qualifiers, " ")?;
                        let data_type = &parameter.data_type;
                        write!(f, "{data_type} {}{}", parameter.name, Brackets(data_type))?;
                    }
                    f.write_str(")")?;
                }
            }
            f.write_str(";\n")?;
        }
        f.write_str("};\n")
    }
}

impl Display for DataType {
    /// The name without the brackets of an array, which stand behind the declared name.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        f.write_str(if self.is_reference { " ref" } else { "" })
    }
}

/// The `[]` or `[5]` behind a declared name.
struct Brackets<'a>(&'a DataType);

impl Display for Brackets<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (self.0.is_array, self.0.array_len) {
            (false, _) => Ok(()),
            (true, None) => f.write_str("[]"),
            (true, Some(len)) => write!(f, "[{len}]"),
        }
    }
}

fn print_qualifiers(f: &mut Formatter<'_>, qualifiers: &[Qualifier], end: &str) -> fmt::Result {
    if qualifiers.is_empty() {
        return Ok(());
    }
    f.write_str("[")?;
    for (index, qualifier) in qualifiers.iter().enumerate() {
        f.write_str(if index > 0 { ", " } else { "" })?;
        f.write_str(&qualifier.name)?;
        match &qualifier.value {
            None => {}
            Some(value) if matches!(value.kind, ValueKind::Array(_)) => write!(f, " {value}")?,
            Some(value) => write!(f, "({value})")?,
        }
        if !qualifier.flavor.is_empty() {
            write!(f, " : {}", qualifier.flavor.join(" "))?;
        }
    }
    write!(f, "]{end}")
}

fn print_instance(f: &mut Formatter<'_>, instance: &Instance, indent: &str) -> fmt::Result {
    print_qualifiers(f, &instance.qualifiers, "\n")?;
    write!(f, "instance of {}", instance.class)?;
    if let Some(alias) = &instance.alias {
        write!(f, " as {alias}")?;
    }
    write!(f, "\n{indent}{{\n")?;
    let inner = format!("{indent}  ");
    for property in &instance.properties {
        f.write_str(&inner)?;
        print_qualifiers(f, &property.qualifiers, " ")?;
        write!(f, "{} = ", property.name)?;
        print_value(f, &property.value, &inner)?;
        f.write_str(";\n")?;
    }
    write!(f, "{indent}}}")
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        print_value(f, self, "")
    }
}

fn print_value(f: &mut Formatter<'_>, value: &Value, indent: &str) -> fmt::Result {
    match &value.kind {
        ValueKind::Null => f.write_str("NULL"),
        ValueKind::Boolean(true) => f.write_str("True"),
        ValueKind::Boolean(false) => f.write_str("False"),
        ValueKind::Integer(number) => write!(f, "{number}"),
        ValueKind::Real(number) => print_real(f, *number),
        ValueKind::Char(c) => {
            f.write_char('\'')?;
            print_char(f, *c, '\'')?;
            f.write_char('\'')
        }
        ValueKind::Text(text) => Quoted(text).fmt(f),
        ValueKind::Alias(alias) => f.write_str(alias),
        ValueKind::Array(values) => {
            f.write_str("{")?;
            for (index, value) in values.iter().enumerate() {
                f.write_str(if index > 0 { ", " } else { "" })?;
                print_value(f, value, indent)?;
            }
            f.write_str("}")
        }
        ValueKind::Instance(instance) => print_instance(f, instance, indent),
    }
}

/// The shortest digits that read back as the same number, always with a point.
fn print_real(f: &mut Formatter<'_>, number: f64) -> fmt::Result {
    let text = format!("{number:?}");
    match text.split_once('e') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => {
            write!(f, "{mantissa}.0e{exponent}")
        }
        _ => f.write_str(&text),
    }
}

/// A text between quotation marks.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        self.0.chars().try_for_each(|c| print_char(f, c, '"'))?;
        f.write_char('"')
    }
}

fn print_char(f: &mut Formatter<'_>, c: char, quote: char) -> fmt::Result {
    match c {
        '\n' => f.write_str("\\n"),
        '\r' => f.write_str("\\r"),
        '\t' => f.write_str("\\t"),
        '\\' => f.write_str("\\\\"),
        c if c == quote => write!(f, "\\{c}"),
        // Four digits always, so that a digit behind the escape is not taken for a part of it.
        c if c.is_control() || c == '\u{feff}' => write!(f, "\\x{:04X}", c as u32),
        c => f.write_char(c),
    }
}
