//! Managed Object Format, the language of configurations. See DMTF DSP0004, annex A.
//!
//! [`parse`] takes stored bytes (UTF-8, or UTF-16 in either order) and answers the tree together
//! with every diagnostic, so that an editor can show both. Printing a [`Document`] gives text that
//! parses to the same tree.
//!
//! What is read: instances with aliases and embedded instances, class declarations with
//! qualifiers, methods and default values, qualifier declarations, and pragmas, those of Windows
//! too. `#pragma include` is kept in the tree and never followed.
//!
//! Depth, size, number of values and number of diagnostics have limits, so that a document costs
//! time and memory in proportion to its bytes. A comment may hold bytes of another encoding: it
//! means nothing. Anywhere else they are a diagnostic.

mod ast;

mod parser;

mod printer;

mod token;

pub use ast::{
    Class, DataType, Document, Feature, Instance, Item, Method, Parameter, Pragma, PragmaParameter,
    Property, PropertyDeclaration, Qualifier, QualifierDeclaration, Value, ValueKind,
};
pub use parser::{DEPTH_MAX, Parsed, VALUES_MAX, parse};
pub use token::{DIAGNOSTICS_MAX, SOURCE_BYTES_MAX};

use serde::{Deserialize, Serialize};
use std::fmt;

/// A place in a document: line and column, both from 1. A column is one Unicode scalar value; a
/// line ends with CR, LF or CR LF.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in Unicode scalar values.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One thing that is wrong with a document, and where.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Where it starts.
    pub position: Position,
    /// What is wrong, and what was expected.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    /// `LINE:COLUMN: MESSAGE`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.position, self.message)
    }
}
