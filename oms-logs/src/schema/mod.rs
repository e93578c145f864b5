//! A table's columns and their types.
//!
//! ```text
//!  KQL type   Arrow (and Delta) type              text of the value
//!  bool       Boolean
//!  int        Int32
//!  long       Int64
//!  real       Float64
//!  string     Utf8
//!  datetime   Timestamp(microsecond, "UTC")       finer digits are cut off
//!  timespan   Int64                               ticks of 100 ns
//!  guid       Utf8                                lower case, with dashes
//!  dynamic    Utf8                                JSON, keys in order, no spaces
//!  decimal    Utf8                                digits, lossless
//! ```
//!
//! The KQL type stands in the metadata of each Arrow field under [`KQL_TYPE_KEY`], and in the
//! Delta schema, where other readers pass over it.

pub(crate) mod infer;

mod standard;

use crate::Error;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use deltalake_core::kernel::{
    DataType as DeltaType, MetadataValue, PrimitiveType, StructField, StructType,
};
use oms_core::record::{RecordType, Value};
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The key of a field's metadata that holds its KQL type.
pub const KQL_TYPE_KEY: &str = "oms.kql_type";

/// The most columns of one table.
pub const COLUMNS_MAX: usize = 500;

/// The longest name of a column that a record adds, in bytes.
pub const COLUMN_NAME_BYTES_MAX: usize = 45;

/// The Delta partition column: the UTC day of `TimeGenerated`. Readers of the Delta table see it;
/// queries of the workspace do not.
pub const DAY_COLUMN: &str = "TimeGeneratedDay";

/// The id of the workspace.
pub const TENANT_ID: &str = "TenantId";
/// When it happened.
pub const TIME_GENERATED: &str = "TimeGenerated";
/// Where it happened.
pub const COMPUTER: &str = "Computer";
/// The table's name.
pub const TYPE: &str = "Type";
/// When the workspace took it.
pub const TIME_RECEIVED: &str = "_TimeReceived";
/// The bytes that a record counts for, see `Workspace::account_usage`.
pub const BILLED_SIZE: &str = "_BilledSize";
/// Whether they are billed: `True` or `False`.
pub const IS_BILLABLE: &str = "_IsBillable";
/// What tells a record apart from all others.
pub const ITEM_ID: &str = "_ItemId";
/// Where values go for which a full table has no column.
pub(crate) const ADDITIONAL_FIELDS: &str = "AdditionalFields";

/// A type of the Kusto query language.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "the language has these scalar types")]
pub enum ColumnType {
    /// `bool`
    Bool,
    /// `int`, 32 bits
    Int,
    /// `long`, 64 bits
    Long,
    /// `real`, a double
    Real,
    /// `string`
    String,
    /// `datetime`
    DateTime,
    /// `timespan`
    TimeSpan,
    /// `guid`
    Guid,
    /// `dynamic`
    Dynamic,
    /// `decimal`
    Decimal,
}

impl ColumnType {
    /// Every type.
    pub const ALL: [Self; 10] = [
        Self::Bool,
        Self::Int,
        Self::Long,
        Self::Real,
        Self::String,
        Self::DateTime,
        Self::TimeSpan,
        Self::Guid,
        Self::Dynamic,
        Self::Decimal,
    ];

    /// The name in the language.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Long => "long",
            Self::Real => "real",
            Self::String => "string",
            Self::DateTime => "datetime",
            Self::TimeSpan => "timespan",
            Self::Guid => "guid",
            Self::Dynamic => "dynamic",
            Self::Decimal => "decimal",
        }
    }

    /// How a column of this type is kept.
    #[must_use]
    pub fn arrow(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int => DataType::Int32,
            Self::Long | Self::TimeSpan => DataType::Int64,
            Self::Real => DataType::Float64,
            Self::String | Self::Guid | Self::Dynamic | Self::Decimal => DataType::Utf8,
            Self::DateTime => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }

    /// The type that a new column takes from its first value; none for a value this version does
    /// not know.
    #[must_use]
    pub const fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Bool(_) => Self::Bool,
            Value::Int(_) => Self::Int,
            Value::Long(_) => Self::Long,
            Value::Real(_) => Self::Real,
            Value::String(_) => Self::String,
            Value::DateTime(_) => Self::DateTime,
            Value::TimeSpan(_) => Self::TimeSpan,
            Value::Guid(_) => Self::Guid,
            Value::Dynamic(_) => Self::Dynamic,
            _ => return None,
        })
    }

    /// The type of an Arrow field: what its metadata says if it agrees with how the field is kept,
    /// else what the field is kept as.
    #[must_use]
    pub fn of_field(field: &Field) -> Option<Self> {
        let named = field.metadata().get(KQL_TYPE_KEY).and_then(|name| name.parse::<Self>().ok());
        if let Some(named) = named.filter(|named| named.arrow() == *field.data_type()) {
            return Some(named);
        }
        Some(match field.data_type() {
            DataType::Boolean => Self::Bool,
            DataType::Int8 | DataType::Int16 | DataType::Int32 => Self::Int,
            DataType::Int64 => Self::Long,
            DataType::Float32 | DataType::Float64 => Self::Real,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::String,
            DataType::Timestamp(_, _) => Self::DateTime,
            _ => return None,
        })
    }

    fn delta(self) -> DeltaType {
        DeltaType::Primitive(match self {
            Self::Bool => PrimitiveType::Boolean,
            Self::Int => PrimitiveType::Integer,
            Self::Long | Self::TimeSpan => PrimitiveType::Long,
            Self::Real => PrimitiveType::Double,
            Self::String | Self::Guid | Self::Dynamic | Self::Decimal => PrimitiveType::String,
            Self::DateTime => PrimitiveType::Timestamp,
        })
    }

    fn of_delta(field: &StructField) -> Option<Self> {
        let named = match field.metadata().get(KQL_TYPE_KEY) {
            Some(MetadataValue::String(name)) => name.parse::<Self>().ok(),
            _ => None,
        };
        if let Some(named) = named.filter(|named| named.delta() == *field.data_type()) {
            return Some(named);
        }
        Self::ALL.into_iter().find(|kind| kind.delta() == *field.data_type())
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ColumnType {
    type Err = oms_core::id::ParseIdError;

    /// Takes the names of the language, and the aliases that its older clients send.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(found) = Self::ALL.into_iter().find(|kind| kind.as_str() == text) {
            return Ok(found);
        }
        Ok(match text {
            "boolean" => Self::Bool,
            "double" => Self::Real,
            "date" => Self::DateTime,
            "time" => Self::TimeSpan,
            "uuid" | "uniqueid" => Self::Guid,
            _ => {
                return Err(oms_core::id::ParseIdError::new(
                    "column type",
                    text,
                    "not a type of the Kusto query language",
                ));
            }
        })
    }
}

/// A column of a table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Column {
    /// Its name; letter case counts.
    pub name: String,
    /// What it holds.
    pub column_type: ColumnType,
}

/// What a table does with a column that it does not have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "callers decide on each")]
pub enum Growth {
    /// Takes it, and past [`COLUMNS_MAX`] puts the value into the dynamic column
    /// `AdditionalFields`, under the name of the column that it would have had: a custom table
    /// (`…_CL`), a table nobody defined, `AzureDiagnostics`.
    Open,
    /// Takes custom columns (`…_CF`) and refuses every other one: the standard tables.
    CustomColumns,
}

/// A table's columns. Cheap to clone through an `Arc`; growing makes a new one.
#[derive(Clone, Debug)]
pub struct TableSchema {
    name: RecordType,
    columns: Vec<Column>,
    places: HashMap<String, usize>,
    growth: Growth,
    arrow: SchemaRef,
}

impl TableSchema {
    /// The schema that a table of this name starts with: the documented columns of a standard
    /// table, else the columns that every table has.
    #[must_use]
    pub fn initial(name: &RecordType) -> Self {
        Self::standard(name).unwrap_or_else(|| {
            let columns = standard::EVERY_TABLE
                .iter()
                .map(|&(name, column_type)| Column { name: name.to_owned(), column_type });
            Self::new(name.clone(), columns.collect(), Growth::Open)
        })
    }

    /// The schema of a standard table, such as `Heartbeat`; none for other names.
    #[must_use]
    pub fn standard(name: &RecordType) -> Option<Self> {
        let columns = standard::columns(name.as_str())?;
        let growth = growth(name);
        Some(Self::new(name.clone(), columns, growth))
    }

    /// The names of the standard tables, sorted.
    #[must_use]
    pub fn standard_names() -> Vec<&'static str> {
        standard::names()
    }

    fn new(name: RecordType, columns: Vec<Column>, growth: Growth) -> Self {
        let places = columns.iter().enumerate().map(|(at, c)| (c.name.clone(), at)).collect();
        let fields: Vec<Field> = columns.iter().map(arrow_field).collect();
        let arrow = Arc::new(Schema::new(fields));
        Self { name, columns, places, growth, arrow }
    }

    /// The table's name.
    #[must_use]
    pub const fn name(&self) -> &RecordType {
        &self.name
    }

    /// The columns, in order.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The column of that name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.place(name).and_then(|at| self.columns.get(at))
    }

    /// The column of that name, or one whose name differs in letter case alone.
    pub(crate) fn column_like(&self, name: &str) -> Option<&Column> {
        let is_like = |column: &&Column| column.name.eq_ignore_ascii_case(name);
        self.column(name).or_else(|| self.columns.iter().find(is_like))
    }

    /// Where among the columns the one of that name is.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// What the table does with a column that it does not have.
    #[must_use]
    pub const fn growth(&self) -> Growth {
        self.growth
    }

    /// The columns as an Arrow schema, each field with its KQL type in the metadata.
    #[must_use]
    pub const fn arrow(&self) -> &SchemaRef {
        &self.arrow
    }

    /// The schema with more columns at its end. Columns that are there already are passed over.
    #[must_use]
    pub fn with_columns(&self, more: impl IntoIterator<Item = Column>) -> Self {
        let mut columns = self.columns.clone();
        for column in more {
            if !columns.iter().any(|known| known.name == column.name) {
                columns.push(column);
            }
        }
        Self::new(self.name.clone(), columns, self.growth)
    }

    /// The schema of a table that was made when `initial` had fewer columns, with the others at its
    /// end, as far as there is room and no column of a record has the name.
    pub(crate) fn completed_by(&self, initial: &Self) -> Self {
        let is_new = |column: &&Column| {
            !self.columns.iter().any(|known| known.name.eq_ignore_ascii_case(&column.name))
        };
        let room = COLUMNS_MAX.saturating_sub(self.columns.len());
        self.with_columns(initial.columns.iter().filter(is_new).take(room).cloned())
    }

    /// The schema with the columns of a batch that an earlier process admitted; none if it has
    /// them.
    pub(crate) fn adopt(&self, batch: &Schema) -> Result<Option<Self>, Error> {
        let mut added = Vec::new();
        for field in batch.fields() {
            if self.column(field.name()).is_some() {
                continue;
            }
            let Some(column_type) = ColumnType::of_field(field) else {
                return Err(Error::Unsupported {
                    table: self.name.to_string(),
                    what: format!("column {} of type {}", field.name(), field.data_type()),
                });
            };
            added.push(Column { name: field.name().clone(), column_type });
        }
        Ok((!added.is_empty()).then(|| self.with_columns(added)))
    }

    /// The schema as it stands in the Delta log, with the day column at its end.
    pub(crate) fn delta(&self) -> Result<StructType, Error> {
        let fields = self.columns.iter().map(|column| {
            let kind = column.column_type;
            StructField::nullable(&column.name, kind.delta())
                .with_metadata([(KQL_TYPE_KEY, kind.as_str().to_owned())])
        });
        let day = StructField::nullable(DAY_COLUMN, DeltaType::Primitive(PrimitiveType::Date));
        StructType::try_new(fields.chain([day])).map_err(|error| Error::Internal {
            what: format!("schema of table {} is not valid: {error}", self.name),
        })
    }

    /// The schema that a Delta log holds.
    ///
    /// # Errors
    /// [`Error::Unsupported`] names a column whose type has no KQL type here.
    pub(crate) fn of_delta(name: &RecordType, schema: &StructType) -> Result<Self, Error> {
        let mut columns = Vec::new();
        for field in schema.fields().filter(|field| field.name() != DAY_COLUMN) {
            let Some(column_type) = ColumnType::of_delta(field) else {
                return Err(Error::Unsupported {
                    table: name.to_string(),
                    what: format!("column {} of type {}", field.name(), field.data_type()),
                });
            };
            columns.push(Column { name: field.name().clone(), column_type });
        }
        Ok(Self::new(name.clone(), columns, growth(name)))
    }
}

fn growth(name: &RecordType) -> Growth {
    match name.as_str() {
        "AzureDiagnostics" => Growth::Open,
        known if standard::columns(known).is_some() => Growth::CustomColumns,
        _ => Growth::Open,
    }
}

fn arrow_field(column: &Column) -> Field {
    let kind = column.column_type.as_str().to_owned();
    Field::new(&column.name, column.column_type.arrow(), true)
        .with_metadata(HashMap::from([(KQL_TYPE_KEY.to_owned(), kind)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RecordType {
        text.parse().expect("a record type")
    }

    #[test]
    fn type_names_parse_back() {
        for kind in ColumnType::ALL {
            assert_eq!(kind.as_str().parse::<ColumnType>().expect("a type"), kind);
        }
        let error = "float".parse::<ColumnType>().expect_err("not in the language");
        assert!(error.to_string().contains("`float`"), "{error}");
    }

    #[test]
    fn the_kql_type_survives_arrow_and_delta() {
        let grown = TableSchema::initial(&name("My_CL")).with_columns(
            ColumnType::ALL
                .map(|kind| Column { name: format!("{kind}_column"), column_type: kind }),
        );
        let delta = grown.delta().expect("a Delta schema");
        let text = serde_json::to_string(&delta).expect("to JSON");
        let read: StructType = serde_json::from_str(&text).expect("from JSON");
        let back = TableSchema::of_delta(grown.name(), &read).expect("known types");
        assert_eq!(back.columns(), grown.columns());
        for (column, field) in grown.columns().iter().zip(grown.arrow().fields()) {
            assert_eq!(ColumnType::of_field(field), Some(column.column_type));
        }
    }

    #[test]
    fn every_standard_table_has_the_columns_of_every_table() {
        for table in TableSchema::standard_names() {
            let schema = TableSchema::standard(&name(table)).expect("standard");
            for (column, kind) in standard::EVERY_TABLE {
                assert_eq!(schema.column(column).map(|c| c.column_type), Some(kind), "{table}");
            }
            assert!(schema.columns().len() < COLUMNS_MAX);
            assert_eq!(schema.places.len(), schema.columns.len(), "{table} repeats a column");
        }
    }

    #[test]
    fn growth_depends_on_the_table() {
        assert_eq!(TableSchema::initial(&name("AzureDiagnostics")).growth(), Growth::Open);
        assert_eq!(TableSchema::initial(&name("Perf")).growth(), Growth::CustomColumns);
        assert_eq!(TableSchema::initial(&name("Perf_CL")).growth(), Growth::Open);
    }
}
