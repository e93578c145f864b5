//! A batch of records as it came: which records there are, and the rows that they become.

use super::columns::Columns;
use super::{PROPERTIES_MAX, RECORDS_MAX};
use crate::Error;
use crate::ingest::admit::refused;
use crate::schema::TableSchema;
use arrow::array::RecordBatch;
use bytes::Bytes;
use jiff::Timestamp;
use oms_core::record::RecordType;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// The records of a batch, and what belongs to each of them.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) table: RecordType,
    pub(crate) records: Bytes,
    pub(crate) time_property: Option<String>,
    pub(crate) resource_id: Option<String>,
}

/// Rows that fit a table.
#[derive(Debug)]
pub(crate) struct Taken {
    /// In the columns of `schema`, without those that the workspace fills.
    pub(crate) rows: RecordBatch,
    /// The table's schema if it has to grow for them.
    pub(crate) grown: Option<TableSchema>,
    /// What was cut or changed, with the count of values.
    pub(crate) changes: BTreeMap<String, u64>,
}

impl Post {
    /// Checks that the table is a custom one.
    ///
    /// # Errors
    /// Why it is not.
    pub(crate) fn check_table(&self) -> Result<(), String> {
        match self.table.as_str().ends_with("_CL") {
            true => Ok(()),
            false => Err(format!("{} is no custom table, whose name ends in _CL", self.table)),
        }
    }

    /// How many records there are.
    ///
    /// # Errors
    /// Why the text is not of records, with the place.
    pub(crate) fn count(&self) -> Result<usize, String> {
        self.split().map(|records| records.len())
    }

    /// Brings the records into columns of a table, adding those that it lacks.
    ///
    /// # Errors
    /// [`Error::Record`] by the record's place and the property; [`Error::Arrow`].
    pub(crate) fn read(&self, schema: &TableSchema, received: Timestamp) -> Result<Taken, Error> {
        let refuse = |index, property: &str, reason| refused(index, &self.table, property, reason);
        // That it is of records was found when they were counted.
        let records = self.split().map_err(|reason| refuse(0, "", reason))?;
        let mut columns = Columns::new(schema, self, received);
        for (index, record) in records.into_iter().enumerate() {
            let read = serde_json::from_str::<Properties<'_>>(record.get());
            let properties = read.map_err(|error| refuse(index, "", error.to_string()))?.0;
            for (name, raw) in properties {
                let taken = columns.take(&name, raw);
                taken.map_err(|reason| refuse(index, &name, reason))?;
            }
            columns.end_row().map_err(|(column, reason)| refuse(index, column, reason))?;
        }
        columns.finish()
    }

    /// The records as they stand in the text.
    fn split(&self) -> Result<Vec<&RawValue>, String> {
        let text = std::str::from_utf8(&self.records)
            .map_err(|error| format!("is not UTF-8: byte {}", error.valid_up_to()))?;
        let records = match text.trim_start().as_bytes().first() {
            Some(b'[') => serde_json::from_str::<Records<'_>>(text).map(|records| records.0),
            Some(b'{') => serde_json::from_str(text).map(|record| vec![record]),
            _ => return Err("is neither an array of records nor a record".to_owned()),
        };
        let records = records.map_err(|error| format!("is not JSON of records: {error}"))?;
        match records.iter().position(|record| !record.get().starts_with('{')) {
            Some(index) => Err(format!("record {index} is not an object")),
            None => Ok(records),
        }
    }
}

/// The elements of an array, up to [`RECORDS_MAX`].
struct Records<'t>(Vec<&'t RawValue>);

impl<'de> serde::Deserialize<'de> for Records<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = Records<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of records")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut records = Vec::new();
                while let Some(record) = seq.next_element()? {
                    if records.len() == RECORDS_MAX {
                        return Err(A::Error::custom(format!("more than {RECORDS_MAX} records")));
                    }
                    records.push(record);
                }
                Ok(Records(records))
            }
        }
        deserializer.deserialize_seq(Elements)
    }
}

/// The members of an object in their order, up to [`PROPERTIES_MAX`].
struct Properties<'t>(Vec<(Cow<'t, str>, &'t RawValue)>);

impl<'de> serde::Deserialize<'de> for Properties<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Properties<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    if members.len() == PROPERTIES_MAX {
                        let reason = format!("has more than {PROPERTIES_MAX} properties");
                        return Err(A::Error::custom(reason));
                    }
                    members.push((name, value));
                }
                Ok(Properties(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// The name of a member, as it stands in the text where that has no escapes.
struct Name<'t>(Cow<'t, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}
