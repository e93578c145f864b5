//! Logs of Internet Information Services: the W3C Extended Log File Format, WD-logfile-960323, with
//! the fields of "W3C Logging" of the IIS documentation.
//!
//! A directive `#Fields` names the fields of the lines after it, also in the middle of a file; `-` is
//! no value. Times are UTC, of the fields `date` and `time`; without the former the day is that of
//! the last `#Date`. Fields get the columns of the table `W3CIISLog`; other ones, such as
//! `X-Forwarded-For`, are custom columns.

use super::gathered::Gathered;
use super::lines::Lines;
use super::{Row, RowTarget, Source, place, text};
use crate::ingest::admit::OWN_COLUMNS;
use crate::ingest::batch::microseconds;
use crate::schema::{COMPUTER, ColumnType, Growth, TIME_GENERATED};
use oms_core::record::Record;
use std::io::{self, BufRead};

/// Fields and their columns.
const COLUMNS: [(&str, &str); 20] = [
    ("c-ip", "cIP"),
    ("cs(Cookie)", "csCookie"),
    ("cs(Referer)", "csReferer"),
    ("cs(User-Agent)", "csUserAgent"),
    ("cs-bytes", "csBytes"),
    ("cs-host", "csHost"),
    ("cs-method", "csMethod"),
    ("cs-uri-query", "csUriQuery"),
    ("cs-uri-stem", "csUriStem"),
    ("cs-username", "csUserName"),
    ("cs-version", "csVersion"),
    ("s-computername", COMPUTER),
    ("s-ip", "sIP"),
    ("s-port", "sPort"),
    ("s-sitename", "sSiteName"),
    ("sc-bytes", "scBytes"),
    ("sc-status", "scStatus"),
    ("sc-substatus", "scSubStatus"),
    ("sc-win32-status", "scWin32Status"),
    ("time-taken", "TimeTaken"),
];

/// What a field is for.
#[derive(Clone, Debug)]
enum Field {
    Date,
    Time,
    Column(String),
}

/// The log of a web server.
#[derive(Debug)]
pub(super) struct W3c<R> {
    lines: Lines<R>,
    fields: Vec<Field>,
    /// The day of the last `#Date`.
    day: Option<String>,
    target: RowTarget,
}

impl<R: BufRead> W3c<R> {
    pub(super) const fn new(input: R, target: RowTarget) -> Self {
        Self { lines: Lines::new(input), fields: Vec::new(), day: None, target }
    }

    fn direct(&mut self, directive: &str) {
        let (name, rest) = directive.split_once(':').unwrap_or((directive, ""));
        if name.trim().eq_ignore_ascii_case("Fields") {
            self.fields = rest.split_ascii_whitespace().map(|name| self.field(name)).collect();
        } else if name.trim().eq_ignore_ascii_case("Date") {
            self.day = rest.split_ascii_whitespace().next().map(str::to_owned);
        }
    }

    fn field(&self, name: &str) -> Field {
        match name {
            "date" => return Field::Date,
            "time" => return Field::Time,
            _ => {}
        }
        let known = COLUMNS.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
        if let Some((_, column)) = known {
            return Field::Column((*column).to_owned());
        }
        let mut column: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        if self.target.schema.growth() == Growth::CustomColumns {
            column.push_str("_CF");
        }
        Field::Column(column)
    }

    /// Begins a row with values that are what columns of the table hold; answers its size in bytes.
    /// None if the record of it has to be looked at.
    pub(super) fn begin_row(&self, line: &str, into: &mut Gathered) -> Option<usize> {
        let (mut date, mut time) = (self.day.as_deref(), None);
        let mut values = line.split_ascii_whitespace();
        for field in &self.fields {
            let value = values.next()?;
            match field {
                _ if value == "-" => {}
                Field::Date => date = Some(value),
                Field::Time => time = Some(value),
                Field::Column(name) => {
                    let rows = into.rows();
                    let is_own = OWN_COLUMNS.contains(&name.as_str()) && name != COMPUTER;
                    let place = into.target().schema.place(name).filter(|_| !is_own)?;
                    // None too if the field is named twice.
                    let buffer = into.buffer(place).filter(|buffer| buffer.len() == rows)?;
                    match buffer.column_type() {
                        ColumnType::String => buffer.push_text(value),
                        // Their text is looked at.
                        ColumnType::Dynamic | ColumnType::Decimal => return None,
                        column => buffer.push(&text::value(column, value)?),
                    }
                }
            }
        }
        let at = text::datetime(&format!("{} {}", date?, time?))?;
        let is_whole = !self.fields.is_empty() && values.next().is_none();
        let place = into.target().schema.place(TIME_GENERATED).filter(|_| is_whole)?;
        into.buffer(place)?.push_long(microseconds(at));
        Some(line.len())
    }

    pub(super) fn record(&self, line: &str) -> Result<Record, String> {
        if self.fields.is_empty() {
            return Err("no #Fields before it".to_owned());
        }
        let values: Vec<&str> = line.split_ascii_whitespace().collect();
        if values.len() != self.fields.len() {
            let count = self.fields.len();
            return Err(format!("{} values in place of {count}", values.len()));
        }
        let RowTarget { schema, computer, now } = &self.target;
        let mut record = Record::new(schema.name().clone(), *now, computer.as_str());
        let (mut date, mut time) = (self.day.as_deref(), None);
        for (field, value) in self.fields.iter().zip(values) {
            match field {
                _ if value == "-" => {}
                Field::Date => date = Some(value),
                Field::Time => time = Some(value),
                Field::Column(name) => place(&mut record, name, value.into())?,
            }
        }
        let at = match (date, time) {
            (Some(date), Some(time)) => format!("{date} {time}"),
            _ => return Err("neither the line nor a #Date says when it was".to_owned()),
        };
        let of_line = text::datetime(&at);
        record.time = of_line.ok_or_else(|| format!("{TIME_GENERATED} is no time: {at}"))?;
        Ok(record)
    }
}

impl<R: BufRead> W3c<R> {
    /// The next line that is no directive.
    pub(super) fn next_entry(&mut self) -> io::Result<Option<(u64, Result<String, String>)>> {
        while let Some((number, line)) = self.lines.next_line()? {
            let line = line.map(|line| String::from_utf8_lossy(&line).into_owned());
            match line.as_ref().ok().and_then(|text| text.strip_prefix('#')) {
                Some(directive) => self.direct(directive),
                None => return Ok(Some((number, line))),
            }
        }
        Ok(None)
    }
}

impl<R: BufRead + Send> Source for W3c<R> {
    fn next_row(&mut self) -> io::Result<Option<Row>> {
        let Some((number, line)) = self.next_entry()? else { return Ok(None) };
        let record = line.and_then(|line| self.record(&line));
        Ok(Some(Row { number, record }))
    }
}
