//! Which column of a table takes a value, and the values so far.

use super::value::Given;
use super::{CELLS_MAX, Post, SOURCE_SYSTEM, TEXT_BYTES_MAX, TIME_AGE_MAX, Taken};
use crate::Error;
use crate::ingest::admit::{bag_column, has_place};
use crate::ingest::batch::{microseconds, write_canonical};
use crate::ingest::column::ColumnBuffer;
use crate::schema::infer::{SUFFIXES, base_of, datetime};
use crate::schema::{ADDITIONAL_FIELDS, COMPUTER, Column, TIME_GENERATED, TableSchema};
use arrow::array::{Array as _, ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema};
use jiff::Timestamp;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// How much of a property's name a change tells, in characters.
const NAME_CHARACTERS_MAX: usize = 100;

/// A property, and the columns that it has.
#[derive(Debug)]
struct Property {
    /// What it is in the names of its columns.
    base: String,
    /// By the suffix.
    places: [Option<usize>; SUFFIXES.len()],
    /// How many rows there were when one had it last, with that one.
    seen: usize,
    is_computer: bool,
}

/// The columns of a table while records are brought into them.
#[derive(Debug)]
pub(super) struct Columns<'a> {
    schema: &'a TableSchema,
    post: &'a Post,
    received: Timestamp,
    added: Vec<Column>,
    /// Places by name in lower case.
    by_name: HashMap<String, usize>,
    properties: Vec<Property>,
    /// By the name that records have.
    by_property: HashMap<String, usize>,
    /// By what it is in the names of columns, in lower case.
    by_base: HashMap<String, usize>,
    /// By place: those of the schema, and then those that were added.
    buffers: Vec<Option<ColumnBuffer>>,
    used: usize,
    rows: usize,
    /// Of the row that is begun: its time, `Computer` and `AdditionalFields`.
    time: Option<i64>,
    computer: String,
    bag: serde_json::Map<String, serde_json::Value>,
    changes: BTreeMap<String, u64>,
}

impl<'a> Columns<'a> {
    pub(super) fn new(schema: &'a TableSchema, post: &'a Post, received: Timestamp) -> Self {
        let names = schema.columns().iter().enumerate();
        let by_name = names.map(|(at, column)| (column.name.to_ascii_lowercase(), at)).collect();
        Self {
            schema,
            post,
            received,
            added: Vec::new(),
            by_name,
            properties: Vec::new(),
            by_property: HashMap::new(),
            by_base: HashMap::new(),
            buffers: Vec::new(),
            used: 0,
            rows: 0,
            time: None,
            computer: String::new(),
            bag: serde_json::Map::new(),
            changes: BTreeMap::new(),
        }
    }

    /// Takes a value of the row that is begun.
    ///
    /// # Errors
    /// Why the table cannot.
    pub(super) fn take(&mut self, name: &str, raw: &RawValue) -> Result<(), String> {
        let at = self.property(name)?;
        let Some((given, is_cut)) = Given::read(raw, TEXT_BYTES_MAX)? else { return Ok(()) };
        let Some(property) = self.properties.get_mut(at) else { return Ok(()) };
        if property.seen > self.rows {
            return Err("stands in the record twice, or beside one of another letter case".into());
        }
        property.seen = self.rows + 1;
        if property.is_computer
            && let Given::Text(text, _) = &given
        {
            self.computer.clear();
            self.computer.push_str(text);
        }
        if self.post.time_property.as_deref() == Some(name)
            && let Given::Text(text, _) = &given
        {
            self.time = datetime(text);
        }
        if is_cut {
            self.change(&format!("a text of `{}` was cut to {TEXT_BYTES_MAX} bytes", short(name)));
        }
        if matches!(given, Given::Number { is_exact: false, .. }) {
            self.change(&format!("a number of `{}` has more digits than a real", short(name)));
        }
        self.place(at, &given)
    }

    fn change(&mut self, reason: &str) {
        match self.changes.get_mut(reason) {
            Some(count) => *count += 1,
            None => drop(self.changes.insert(reason.to_owned(), 1)),
        }
    }

    /// The property of a name, with the columns that the table has for it.
    fn property(&mut self, name: &str) -> Result<usize, String> {
        if let Some(at) = self.by_property.get(name) {
            return Ok(*at);
        }
        let base = base_of(name)?;
        let lower = base.to_ascii_lowercase();
        let at = match self.by_base.get(&lower) {
            Some(at) => *at,
            None => {
                let named = |(_, suffix): (_, &str)| self.by_name.get(&format!("{lower}{suffix}"));
                let places = SUFFIXES.map(|suffix| named(suffix).copied());
                let is_computer = COMPUTER.eq_ignore_ascii_case(&base);
                // As the columns that are there have it.
                let known = places.iter().flatten().min().and_then(|at| self.name_at(*at));
                let known = known.and_then(|name| name.get(..base.len()).map(str::to_owned));
                let base = known.unwrap_or_else(|| base.into_owned());
                self.properties.push(Property { base, places, seen: 0, is_computer });
                let at = self.properties.len() - 1;
                self.by_base.insert(lower, at);
                at
            }
        };
        self.by_property.insert(name.to_owned(), at);
        Ok(at)
    }

    fn name_at(&self, place: usize) -> Option<&str> {
        let mut columns = self.schema.columns().iter().chain(&self.added);
        columns.nth(place).map(|column| column.name.as_str())
    }

    /// Finds a column for a value, or makes one; what has none goes into the bag.
    fn place(&mut self, at: usize, given: &Given<'_>) -> Result<(), String> {
        let Some(Property { base, places, .. }) = self.properties.get(at) else { return Ok(()) };
        let (places, kind) = (*places, given.kind());
        let own = places.get(kind).copied().flatten();
        let (column_type, suffix) = SUFFIXES.get(kind).copied().unwrap_or(SUFFIXES[0]);
        let name = format!("{base}{suffix}");
        if own.is_some_and(|place| self.push(place, given)) {
            return Ok(());
        }
        if matches!(given, Given::Text(..)) {
            let mut others = places;
            // The older column first.
            others.sort_unstable();
            let others = others.into_iter().flatten().filter(|place| Some(*place) != own);
            for place in others {
                if self.push(place, given) {
                    return Ok(());
                }
            }
        }
        if own.is_none() && has_place(self.schema, self.added.len()) {
            let place = self.add(Column { name, column_type });
            if let Some(property) = self.properties.get_mut(at)
                && let Some(own) = property.places.get_mut(kind)
            {
                *own = Some(place);
            }
            self.push(place, given);
            return Ok(());
        }
        if let Some(bag) = bag_column(self.schema, &self.added)? {
            self.add(bag);
        }
        self.bag.insert(name, given.json());
        Ok(())
    }

    /// Adds a column to the table; answers its place.
    fn add(&mut self, column: Column) -> usize {
        let place = self.schema.columns().len() + self.added.len();
        self.by_name.insert(column.name.to_ascii_lowercase(), place);
        self.added.push(column);
        place
    }

    fn push(&mut self, place: usize, given: &Given<'_>) -> bool {
        self.buffer(place).is_some_and(|buffer| given.push(buffer))
    }

    /// The column at a place, at the row that is begun.
    fn buffer(&mut self, place: usize) -> Option<&mut ColumnBuffer> {
        if self.buffers.len() <= place {
            self.buffers.resize_with(place + 1, || None);
        }
        let mut columns = self.schema.columns().iter().chain(&self.added);
        let slot = self.buffers.get_mut(place)?;
        if slot.is_none() {
            let column_type = columns.nth(place)?.column_type;
            *slot = Some(ColumnBuffer::with_capacity(column_type, 0, 0));
            self.used += 1;
        }
        let buffer = slot.as_mut()?;
        // A column has no value in the rows since the last one that it was in.
        buffer.push_nulls(self.rows.saturating_sub(buffer.len()));
        Some(buffer)
    }

    /// Ends the row that is begun.
    ///
    /// # Errors
    /// A column, and why the rows cannot be taken.
    pub(super) fn end_row(&mut self) -> Result<(), (&'static str, String)> {
        let time = self.row_time();
        self.every(TIME_GENERATED, |buffer| buffer.push_long(time))?;
        let computer = std::mem::take(&mut self.computer);
        self.every(COMPUTER, |buffer| buffer.push_text(&computer))?;
        self.every("SourceSystem", |buffer| buffer.push_text(SOURCE_SYSTEM))?;
        if let Some(id) = &self.post.resource_id {
            self.every("_ResourceId", |buffer| buffer.push_text(id))?;
        }
        if !self.bag.is_empty() {
            let bag = serde_json::Value::Object(std::mem::take(&mut self.bag));
            self.every(ADDITIONAL_FIELDS, |buffer| {
                if let Some(text) = buffer.text() {
                    write_canonical(&bag, text);
                    buffer.end_text();
                }
            })?;
        }
        self.rows += 1;
        if self.used.saturating_mul(self.rows) > CELLS_MAX {
            let reason = format!("the records times their columns are more than {CELLS_MAX}");
            return Err(("", reason));
        }
        Ok(())
    }

    /// Puts a value into a column that every table has.
    fn every(
        &mut self,
        name: &'static str,
        push: impl FnOnce(&mut ColumnBuffer),
    ) -> Result<(), (&'static str, String)> {
        let place = self.by_name.get(&name.to_ascii_lowercase()).copied();
        let buffer = place.and_then(|place| self.buffer(place));
        match buffer {
            Some(buffer) => {
                push(buffer);
                Ok(())
            }
            None => Err((name, "the table has no such column".to_owned())),
        }
    }

    /// The time of the row that is begun, in microseconds.
    fn row_time(&mut self) -> i64 {
        let received = microseconds(self.received);
        let Some(property) = &self.post.time_property else { return received };
        let name = short(property);
        let age_max = i64::try_from(TIME_AGE_MAX.as_micros()).unwrap_or(i64::MAX);
        let reason = match self.time.take() {
            Some(time) if time >= received.saturating_sub(age_max) => return time,
            Some(_) => format!("a time of `{name}` is more than 48 hours old"),
            None => format!("a record has no time of ISO 8601 in `{name}`"),
        };
        self.change(&format!("{reason}, so `{TIME_GENERATED}` is that of its arrival"));
        received
    }

    /// The rows.
    ///
    /// # Errors
    /// [`Error::Arrow`].
    pub(super) fn finish(mut self) -> Result<Taken, Error> {
        let grown = match std::mem::take(&mut self.added) {
            added if added.is_empty() => None,
            added => Some(self.schema.with_columns(added)),
        };
        let schema = grown.as_ref().unwrap_or(self.schema);
        let (mut fields, mut arrays) = (Vec::<Arc<Field>>::new(), Vec::<ArrayRef>::new());
        for (buffer, field) in self.buffers.into_iter().zip(schema.arrow().fields()) {
            let Some(mut buffer) = buffer else { continue };
            buffer.push_nulls(self.rows.saturating_sub(buffer.len()));
            let array = buffer.finish().map_err(Error::arrow("build"))?;
            // None if it was only asked whether it takes a value.
            if array.null_count() < array.len() {
                fields.push(Arc::clone(field));
                arrays.push(array);
            }
        }
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays);
        let rows = rows.map_err(Error::arrow("build"))?;
        Ok(Taken { rows, grown, changes: self.changes })
    }
}

/// The beginning of a property's name.
fn short(name: &str) -> String {
    name.chars().take(NAME_CHARACTERS_MAX).collect()
}
