//! A dynamic value as a tree: literals, and what is worked on part by part.

use super::binary::{View, Writer};
use crate::query::time;
use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};
use uuid::Uuid;

/// A dynamic value.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A whole number.
    Long(i64),
    /// A number with a fraction.
    Real(f64),
    /// A string.
    Text(String),
    /// A `datetime`, in ticks.
    DateTime(i64),
    /// A `timespan`, in ticks.
    TimeSpan(i64),
    /// A `guid`.
    Guid(Uuid),
    /// A `decimal`, as its digits.
    Decimal(String),
    /// An array.
    Array(Vec<Self>),
    /// A property bag, in the order of its keys' first appearance; no key is there twice.
    Bag(Vec<(String, Self)>),
}

impl Value {
    /// The value in its form in memory; `None` if it is null or longer than a value may be.
    #[must_use]
    pub(crate) fn to_bytes(&self) -> Option<Vec<u8>> {
        if *self == Self::Null {
            return None;
        }
        let mut out = Vec::new();
        Writer::new(&mut out).value(self);
        (out.len() <= super::BYTES_MAX).then_some(out)
    }
}

/// The members of a bag in the making, in the order of their keys' first appearance.
#[derive(Debug, Default)]
pub(crate) struct Keyed {
    members: Vec<(String, Value)>,
    places: HashMap<String, usize>,
}

impl Keyed {
    pub(crate) const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The value of a key.
    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        let place = *self.places.get(key)?;
        self.members.get_mut(place).map(|(_, value)| value)
    }

    /// Puts a member in, in the place of one of the same key. Whether there was one.
    pub(crate) fn insert(&mut self, key: String, value: Value) -> bool {
        match self.get_mut(&key) {
            Some(known) => {
                *known = value;
                true
            }
            None => {
                self.places.insert(key.clone(), self.members.len());
                self.members.push((key, value));
                false
            }
        }
    }

    pub(crate) fn into_bag(self) -> Value {
        Value::Bag(self.members)
    }
}

impl From<View<'_>> for Value {
    fn from(view: View<'_>) -> Self {
        match view {
            View::Null => Self::Null,
            View::Bool(value) => Self::Bool(value),
            View::Long(value) => Self::Long(value),
            View::Real(value) => Self::Real(value),
            View::Text(text) => Self::Text(text.to_owned()),
            View::DateTime(ticks) => Self::DateTime(ticks),
            View::TimeSpan(ticks) => Self::TimeSpan(ticks),
            View::Guid(value) => Self::Guid(value),
            View::Decimal(digits) => Self::Decimal(digits.to_owned()),
            View::Array(items) => Self::Array(items.iter().map(|i| View::of(i).into()).collect()),
            View::Bag(members) => {
                let members = members.iter().map(|(k, v)| (k.to_owned(), View::of(v).into()));
                Self::Bag(members.collect())
            }
        }
    }
}

/// As it stands in `dynamic(…)`.
impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Long(value) => value.fmt(f),
            Self::Real(value) if value.is_finite() => write!(f, "{value:?}"),
            Self::Real(value) if value.is_nan() => f.write_str("real(nan)"),
            Self::Real(value) if *value > 0.0 => f.write_str("real(+inf)"),
            Self::Real(_) => f.write_str("real(-inf)"),
            Self::Text(text) => super::json::quote(text, f),
            Self::DateTime(ticks) => write!(f, "datetime({})", time::format_datetime(*ticks, true)),
            Self::TimeSpan(ticks) => write!(f, "timespan({})", time::format_timespan(*ticks)),
            Self::Guid(value) => write!(f, "guid({value})"),
            Self::Decimal(digits) => write!(f, "decimal({digits})"),
            Self::Array(items) => {
                f.write_str("[")?;
                for (at, item) in items.iter().enumerate() {
                    let comma = if at > 0 { "," } else { "" };
                    write!(f, "{comma}{item}")?;
                }
                f.write_str("]")
            }
            Self::Bag(members) => {
                f.write_str("{")?;
                for (at, (key, value)) in members.iter().enumerate() {
                    let comma = if at > 0 { "," } else { "" };
                    f.write_str(comma)?;
                    super::json::quote(key, f)?;
                    write!(f, ":{value}")?;
                }
                f.write_str("}")
            }
        }
    }
}
