//! The types of the language and their form in Arrow.

use datafusion::arrow::datatypes::{DataType, Field, TimeUnit};
use std::fmt;

/// The key of the Arrow field metadata that holds a column's KQL type by its name.
pub const KQL_TYPE_KEY: &str = "oms.kql_type";

/// A scalar type of the language.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[expect(clippy::exhaustive_enums, reason = "the language has these ten types")]
pub enum KqlType {
    /// `bool`
    Bool,
    /// `datetime`: ticks of 100 ns since 0001-01-01
    DateTime,
    /// `decimal`, kept as text
    Decimal,
    /// `dynamic`: a typed, nested value; JSON text at rest and in answers
    Dynamic,
    /// `guid`, kept as lower-case text
    Guid,
    /// `int`, 32 bits
    Int,
    /// `long`, 64 bits
    Long,
    /// `real`, a double
    Real,
    /// `string`, never null
    String,
    /// `timespan`: ticks of 100 ns
    TimeSpan,
}

impl KqlType {
    /// The type's name in the language and on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::DateTime => "datetime",
            Self::Decimal => "decimal",
            Self::Dynamic => "dynamic",
            Self::Guid => "guid",
            Self::Int => "int",
            Self::Long => "long",
            Self::Real => "real",
            Self::String => "string",
            Self::TimeSpan => "timespan",
        }
    }

    /// The type of a name in the language, with its synonyms.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "bool" | "boolean" => Self::Bool,
            "datetime" | "date" | "DateTime" => Self::DateTime,
            "decimal" => Self::Decimal,
            "dynamic" => Self::Dynamic,
            "guid" | "uuid" | "uniqueid" => Self::Guid,
            "int" | "int32" => Self::Int,
            "long" | "int64" => Self::Long,
            "real" | "double" => Self::Real,
            "string" => Self::String,
            "timespan" | "time" => Self::TimeSpan,
            _ => return None,
        })
    }

    /// Whether values are counts or measures.
    #[must_use]
    pub const fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Long | Self::Real)
    }

    /// The Arrow type of computed values. A stored `datetime` is a microsecond timestamp instead,
    /// and stored text can be any of Arrow's string types.
    #[must_use]
    pub const fn computed_type(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int => DataType::Int32,
            Self::Long | Self::DateTime | Self::TimeSpan => DataType::Int64,
            Self::Real => DataType::Float64,
            Self::String | Self::Guid | Self::Decimal => DataType::Utf8View,
            Self::Dynamic => DataType::BinaryView,
        }
    }

    /// The type of a stored column: what its metadata says, else what its Arrow type implies.
    /// `None` if no type of the language fits.
    #[must_use]
    pub fn of_field(field: &Field) -> Option<Self> {
        if let Some(name) = field.metadata().get(KQL_TYPE_KEY) {
            return Self::of_name(name);
        }
        Some(match field.data_type() {
            DataType::Boolean => Self::Bool,
            DataType::Int8 | DataType::Int16 | DataType::Int32 => Self::Int,
            DataType::UInt8 | DataType::UInt16 => Self::Int,
            DataType::Int64 | DataType::UInt32 | DataType::UInt64 => Self::Long,
            DataType::Float16 | DataType::Float32 | DataType::Float64 => Self::Real,
            DataType::Timestamp(..) | DataType::Date32 => Self::DateTime,
            DataType::Dictionary(_, value) if is_text(value) => Self::String,
            text if is_text(text) => Self::String,
            _ => return None,
        })
    }

    /// Whether values of the Arrow type can be read as this type without a cast.
    #[must_use]
    pub fn reads(self, data_type: &DataType) -> bool {
        match self {
            Self::DateTime => {
                matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _) | DataType::Int64)
            }
            Self::Dynamic if *data_type == DataType::BinaryView => true,
            Self::String | Self::Guid | Self::Dynamic | Self::Decimal => match data_type {
                DataType::Dictionary(_, value) => is_text(value),
                text => is_text(text),
            },
            other => *data_type == other.computed_type(),
        }
    }
}

/// Whether it is one of Arrow's string types.
#[must_use]
pub const fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

impl fmt::Display for KqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_decides_before_the_arrow_type() {
        let plain = Field::new("x", DataType::Int64, true);
        assert_eq!(KqlType::of_field(&plain), Some(KqlType::Long));
        let metadata = [(KQL_TYPE_KEY.to_owned(), "timespan".to_owned())];
        let marked = plain.with_metadata(metadata.into());
        assert_eq!(KqlType::of_field(&marked), Some(KqlType::TimeSpan));
        let list = Field::new_list("x", Field::new("item", DataType::Int64, true), true);
        assert_eq!(KqlType::of_field(&list), None);
    }
}
