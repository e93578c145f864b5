//! Query text to a tree.
//!
//! ```text
//! text ──► token ──► parser ──► ast
//!            └──────────┴──────► every diagnostic, not only the first
//! ```

pub mod token;

pub mod ast;

pub mod parser;

mod expression;

mod operator;

mod statement;

mod tabular;

mod graph;

mod printer;

pub use parser::{Parse, parse};

/// A range of bytes of the query text.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// The range from `start` up to `end`.
    #[must_use]
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The smallest range that holds both.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}
