//! `$filter` of lists, as the clients of Azure Automation write it.
//!
//! ```text
//!  filter     = condition *( "and" condition )
//!  condition  = property ( "eq" / "ne" / "gt" / "ge" / "lt" / "le" ) ( text / time )
//!             / "contains" "(" property "," text ")" / "contains" "(" text "," property ")"
//!  text       = "'" *( any character but "'" / "''" ) "'"
//! ```
//!
//! `contains` on a name means a part of it; on a status or the name of a node's configuration it means one of
//! those that the text lists with commas, where `$$Not$$Configured$$` is none. See the examples
//! `listPagedDscNodesByAutomationAccountWith*Filter.json` of the specifications. Text is compared without
//! case.

use crate::Error;
use jiff::Timestamp;
use oms_core::id::ParseIdError;

/// The longest filter, in bytes.
pub(super) const FILTER_BYTES_MAX: usize = 4 << 10;

/// The most conditions of a filter.
const CONDITIONS_MAX: usize = 32;

/// What a list of nodes calls those without a configuration.
const NOT_CONFIGURED: &str = "$$Not$$Configured$$";

/// What a property holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// A name.
    Text,
    /// One of some words, or of some names.
    OneOf,
    /// An instant.
    Time,
}

/// A property that a list can be filtered by, and what it holds.
pub(super) type Property = (&'static str, Kind);

/// What one thing has there.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Time(Option<Timestamp>),
}

/// Which things of a list are wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Filter {
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, PartialEq)]
struct Condition {
    property: &'static str,
    test: Test,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Is(String),
    IsNot(String),
    Contains(String),
    OneOf(Vec<String>),
    Time(Order, Timestamp),
}

/// How an instant is to lie to another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Order {
    Equal,
    After,
    AtOrAfter,
    Before,
    AtOrBefore,
}

impl Filter {
    /// Reads a filter by the properties that a list has.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; [`Error::Invalid`] and [`Error::Unsupported`] with the column.
    pub(super) fn parse(text: &str, properties: &[Property]) -> Result<Self, Error> {
        if text.len() > FILTER_BYTES_MAX {
            let (actual, limit) = (text.len(), FILTER_BYTES_MAX);
            return Err(Error::TooLarge { what: "$filter", actual, limit });
        }
        let mut reader = Reader { text, at: 0, properties };
        let mut conditions = Vec::new();
        while !reader.is_done() {
            if !conditions.is_empty() {
                reader.keyword("and")?;
            }
            if conditions.len() == CONDITIONS_MAX {
                return Err(reader.refuse(reader.at, "more than 32 conditions"));
            }
            conditions.push(reader.condition()?);
        }
        Ok(Self { conditions })
    }

    /// Whether a thing is wanted that has these values.
    pub(super) fn admits(&self, value: impl Fn(&str) -> Value) -> bool {
        self.conditions.iter().all(|condition| condition.test.holds(&value(condition.property)))
    }

    /// The conditions on instants of one property.
    pub(super) fn times(&self, property: &str) -> impl Iterator<Item = (Order, Timestamp)> {
        let of_it = self.conditions.iter().filter(move |condition| condition.property == property);
        of_it.filter_map(|condition| match condition.test {
            Test::Time(order, time) => Some((order, time)),
            _ => None,
        })
    }
}

impl Test {
    fn holds(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Is(wanted), Value::Text(text)) => same(wanted, text),
            (Self::IsNot(wanted), Value::Text(text)) => !same(wanted, text),
            (Self::Contains(part), Value::Text(text)) => {
                text.to_lowercase().contains(&part.to_lowercase())
            }
            (Self::OneOf(list), Value::Text(text)) => list.iter().any(|one| same(one, text)),
            (Self::Time(order, limit), Value::Time(Some(time))) => match order {
                Order::Equal => time == limit,
                Order::After => time > limit,
                Order::AtOrAfter => time >= limit,
                Order::Before => time < limit,
                Order::AtOrBefore => time <= limit,
            },
            _ => false,
        }
    }
}

fn same(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

struct Reader<'a> {
    text: &'a str,
    /// How many bytes are read.
    at: usize,
    properties: &'a [Property],
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_spaces(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn is_done(&mut self) -> bool {
        self.skip_spaces();
        self.rest().is_empty()
    }

    fn shown(&self, at: usize) -> String {
        self.text.get(at..).unwrap_or_default().chars().take(40).collect()
    }

    fn column(&self, at: usize) -> usize {
        self.text.get(..at).map_or(0, |read| read.chars().count()) + 1
    }

    fn refuse(&self, at: usize, why: &str) -> Error {
        let reason = format!("column {}: {why}, at `{}`", self.column(at), self.shown(at));
        Error::Invalid { what: "$filter", reason }
    }

    fn unsupported(&self, at: usize) -> Error {
        let name = format!("column {}: `{}`", self.column(at), self.shown(at));
        Error::Unsupported { what: "condition in $filter", name }
    }

    fn word(&mut self) -> &'a str {
        self.skip_spaces();
        let rest = self.rest();
        let is_part = |c: char| !c.is_whitespace() && !matches!(c, '(' | ')' | ',' | '\'');
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn keyword(&mut self, wanted: &str) -> Result<(), Error> {
        self.skip_spaces();
        let at = self.at;
        match self.word().eq_ignore_ascii_case(wanted) {
            true => Ok(()),
            false => Err(self.refuse(at, &format!("`{wanted}` is missing"))),
        }
    }

    fn sign(&mut self, sign: char) -> Result<(), Error> {
        self.skip_spaces();
        match self.rest().starts_with(sign) {
            true => {
                self.at += sign.len_utf8();
                Ok(())
            }
            false => Err(self.refuse(self.at, &format!("`{sign}` is missing"))),
        }
    }

    /// A text in quotes, if one follows.
    fn quoted(&mut self) -> Result<Option<String>, Error> {
        self.skip_spaces();
        let begin = self.at;
        if !self.rest().starts_with('\'') {
            return Ok(None);
        }
        self.at += 1;
        let mut text = String::new();
        loop {
            let rest = self.rest();
            let end = rest.find('\'').ok_or_else(|| self.refuse(begin, "a text has no end"))?;
            text.push_str(&rest[..end]);
            self.at += end + 1;
            match self.rest().starts_with('\'') {
                true => self.at += 1,
                false => return Ok(Some(text)),
            }
            text.push('\'');
        }
    }

    fn property(&mut self) -> Result<Property, Error> {
        self.skip_spaces();
        let at = self.at;
        let word = self.word();
        let known = self.properties.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
        known.copied().ok_or_else(|| self.unsupported(at))
    }

    fn condition(&mut self) -> Result<Condition, Error> {
        self.skip_spaces();
        let at = self.at;
        if self.word().eq_ignore_ascii_case("contains") && self.rest().trim_start().starts_with('(')
        {
            return self.contains();
        }
        self.at = at;
        let (property, kind) = self.property()?;
        self.skip_spaces();
        let at = self.at;
        let operator = self.word().to_ascii_lowercase();
        let order = match operator.as_str() {
            "eq" => Some(Order::Equal),
            "gt" => Some(Order::After),
            "ge" => Some(Order::AtOrAfter),
            "lt" => Some(Order::Before),
            "le" => Some(Order::AtOrBefore),
            _ => None,
        };
        let test = match (kind, order, operator.as_str()) {
            (Kind::Time, Some(order), _) => Test::Time(order, self.time()?),
            (Kind::Text | Kind::OneOf, _, "eq") => Test::Is(self.text()?),
            (Kind::Text | Kind::OneOf, _, "ne") => Test::IsNot(self.text()?),
            _ => return Err(self.unsupported(at)),
        };
        Ok(Condition { property, test })
    }

    fn contains(&mut self) -> Result<Condition, Error> {
        self.sign('(')?;
        let first = self.quoted()?;
        let at = self.at;
        let (property, kind, text) = match first {
            Some(text) => {
                self.sign(',')?;
                let (property, kind) = self.property()?;
                (property, kind, text)
            }
            None => {
                let (property, kind) = self.property()?;
                self.sign(',')?;
                (property, kind, self.text()?)
            }
        };
        self.sign(')')?;
        let test = match kind {
            Kind::Text => Test::Contains(text),
            Kind::OneOf => {
                let one = |one: &str| match one.trim() {
                    NOT_CONFIGURED => String::new(),
                    one => one.to_owned(),
                };
                Test::OneOf(text.split(',').map(one).collect())
            }
            Kind::Time => return Err(self.unsupported(at)),
        };
        Ok(Condition { property, test })
    }

    fn text(&mut self) -> Result<String, Error> {
        let text = self.quoted()?;
        text.ok_or_else(|| self.refuse(self.at, "a text in quotes is missing"))
    }

    fn time(&mut self) -> Result<Timestamp, Error> {
        self.skip_spaces();
        let at = self.at;
        let text = match self.quoted()? {
            Some(text) => text,
            None => self.word().to_owned(),
        };
        text.parse().map_err(|_no_time| {
            let why = ParseIdError::new("time", &text, "not like 2026-01-01T00:00:00Z");
            self.refuse(at, &why.to_string())
        })
    }
}

/// For the fuzz target.
#[cfg(feature = "testkit")]
pub mod fuzz {
    use super::{Filter, Kind, Value};

    /// Reads a filter and asks it about a node; answers whether it was read.
    #[must_use]
    pub fn filter(text: &str) -> bool {
        let properties = [
            ("name", Kind::Text),
            ("properties/status", Kind::OneOf),
            ("properties/startTime", Kind::Time),
        ];
        let Ok(filter) = Filter::parse(text, &properties) else { return false };
        let now = "2026-01-01T00:00:00Z".parse().ok();
        let _ = filter.admits(|name| match name {
            "properties/startTime" => Value::Time(now),
            _ => Value::Text("web".to_owned()),
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PROPERTIES: [Property; 4] = [
        ("name", Kind::Text),
        ("properties/status", Kind::OneOf),
        ("properties/nodeConfiguration/name", Kind::OneOf),
        ("properties/startTime", Kind::Time),
    ];

    fn node(property: &str) -> Value {
        match property {
            "name" => Value::Text("DscComp".into()),
            "properties/status" => Value::Text("Compliant".into()),
            "properties/nodeConfiguration/name" => Value::Text(String::new()),
            _ => Value::Time("2026-01-01T00:00:00Z".parse().ok()),
        }
    }

    fn check(filter: &str, expect: &str) {
        let said = match Filter::parse(filter, &PROPERTIES) {
            Ok(filter) => filter.admits(node).to_string(),
            Err(error) => error.to_string(),
        };
        assert!(said.contains(expect), "{filter}: {said}");
    }

    #[test]
    fn filters_of_the_specifications_are_read() {
        for (filter, expect) in [
            ("", "true"),
            ("contains('DSCCOMP',name)", "true"),
            ("contains(name,'server')", "false"),
            ("contains(properties/status,'NotCompliant')", "false"),
            ("contains(properties/status,'NotCompliant,Compliant')", "true"),
            ("properties/nodeConfiguration/name eq ''", "true"),
            (
                "contains(properties/nodeConfiguration/name,'Setup.localhost,$$Not$$Configured$$')",
                "true",
            ),
            ("Properties/Status EQ 'compliant' and name ne 'x'", "true"),
            ("properties/startTime ge 2025-12-31T23:59:59.0000000Z", "true"),
            ("properties/startTime gt '2026-01-01T01:00:00+01:00'", "false"),
            ("name eq 'it''s'", "false"),
        ] {
            check(filter, expect);
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_column() {
        for (filter, expect) in [
            (
                "properties/extensionHandler/any(eh: eh/version gt '2.70')",
                "supported. name=`column 1",
            ),
            ("name gt 'x'", "not supported. name=`column 6"),
            ("name eq x", "column 9: a text in quotes is missing"),
            ("name eq 'x", "column 9: a text has no end"),
            ("ä eq 'x'", "column 1"),
            ("name eq 'ä' or name eq 'y'", "column 13: `and` is missing"),
            ("contains(name 'x')", "column 15: `,` is missing"),
            ("contains(properties/startTime,'x')", "not supported"),
            ("properties/startTime ge now", "column 25"),
            (&"x".repeat(5_000), "too large"),
            (&vec!["name eq ''"; 33].join(" and "), "more than 32 conditions"),
        ] {
            check(filter, expect);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
            let _ = Filter::parse(&text, &PROPERTIES);
        }

        #[test]
        fn any_text_in_quotes_comes_back(text in "\\PC{0,40}") {
            let filter = format!("name eq '{}'", text.replace('\'', "''"));
            let filter = Filter::parse(&filter, &PROPERTIES).expect("a filter");
            prop_assert!(filter.admits(|_| Value::Text(text.clone())));
        }
    }
}
