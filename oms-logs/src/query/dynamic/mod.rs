//! `dynamic`: values that carry their own type, nested.
//!
//! ```text
//! literal ──► Value ──┐                      ┌──► View: reads in place
//! JSON text ──────────┼──► bytes, one row ───┤
//! typed columns ──────┘    of a BinaryView   └──► JSON text (answers, storage)
//! ```
//!
//! # In memory
//! A column of dynamic values is an Arrow `BinaryView` array of self-describing values: one byte for
//! the type, then the value; arrays and bags begin with a table of where their parts end, so that a
//! part is found without reading those before it. The forms are in `binary`.
//!
//! Why this one:
//! - A part of a value is itself a value, in one piece. So `a.b` and `a[0]` over a column make a column
//!   of *views* into the same buffers, and `mv-expand` one view for each item: nothing is parsed and
//!   nothing is copied, whatever the rows hold.
//! - Numbers, and strings of up to 11 bytes, fit into the 16 bytes of the view itself.
//! - Rows need not agree on a shape. A union of typed children or Parquet's shredded variant are
//!   faster while they do, and need a fallback such as this one for when they do not; Parquet's plain
//!   variant keeps names in a dictionary beside the value, so a part of it is not a value.
//! - DataFusion groups, sorts, joins, spills and sends `BinaryView` like any other column.
//!
//! Equal values of equal key order have equal bytes. Typed values (`datetime`, `timespan`, `guid`,
//! `decimal`) keep their type within a query. At rest and in answers they are JSON text.
//!
//! From storage a part is read out of the text itself, and nothing else of the value is made; but the
//! whole text is looked at, since it is no JSON if its end is none. So `a.b` over a stored column takes
//! about as long as reading the text once.
//!
//! A column that is null and one that holds JSON's `null` are the same: both are Arrow's null.

mod array;

mod binary;

mod json;

mod number;

pub(crate) mod reader;

mod value;

pub(crate) use array::{
    DynamicBuilder, Dynamics, Picker, arrays_of, bounded, of_text, select, select_of_text, to_json,
    too_long,
};
pub(crate) use binary::{Items, Members, Parts, View, Writer};
pub(crate) use json::text as json_text;
pub(crate) use value::Keyed;
pub use value::Value;

/// The deepest nesting of a value, in levels: what works on values recurses. JSON that is deeper is
/// text, and an expression whose value would be deeper fails.
pub(crate) const DEPTH_MAX: usize = 128;

/// The longest dynamic value, in bytes of its form in memory.
pub(crate) const BYTES_MAX: usize = 64 * 1024 * 1024;

/// The most items of an array that a function or an aggregate makes, as in the service.
pub(crate) const ITEMS_MAX: usize = 1_048_576;
