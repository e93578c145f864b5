//! Why a query failed.

use super::diagnostic::Diagnostic;
use crate::error::Damage;
use datafusion::error::DataFusionError;
use oms_core::ErrorKind;

/// Why a query failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The text is not a query.
    #[error("query has syntax errors. first=`{}`, count=`{}`", first(.diagnostics), .diagnostics.len())]
    Syntax {
        /// What is wrong, in the order of the text; never empty.
        diagnostics: Vec<Diagnostic>,
    },
    /// The query means nothing: unknown names, types that do not fit.
    #[error("query has semantic errors. first=`{}`, count=`{}`", first(.diagnostics), .diagnostics.len())]
    Semantic {
        /// What is wrong, in the order of the text; never empty.
        diagnostics: Vec<Diagnostic>,
    },
    /// The query is right, but this version cannot run it.
    #[error(
        "query uses what is not supported in this version. line=`{line}`, column=`{column}`, name=`{name}`"
    )]
    Unsupported {
        /// The operator, function or form.
        name: String,
        /// The line, from 1.
        line: usize,
        /// The column in that line, in characters from 1.
        column: usize,
        /// All of them.
        diagnostics: Vec<Diagnostic>,
    },
    /// The query's text is longer than its bound.
    #[error("query text is too long. bytes=`{bytes}`, bytes_max=`{bytes_max}`")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// The query took longer than its bound.
    #[error("query timed out. timeout_seconds=`{timeout_seconds}`")]
    Timeout {
        /// The bound.
        timeout_seconds: u64,
    },
    /// The query needed more memory than its bound.
    #[error("query needs too much memory. memory_bytes_max=`{memory_bytes_max}`")]
    Memory {
        /// The bound.
        memory_bytes_max: usize,
        /// What asked for more.
        #[source]
        source: Box<DataFusionError>,
    },
    /// A function made a string that is longer than its bound.
    #[error("query makes a string that is too long. reason=`{reason}`")]
    StringTooLong {
        /// Which function, and the bound.
        reason: String,
    },
    /// A function or an operator does more than it may: steps, bytes, rows, or levels of a dynamic value.
    #[error("query exceeds a bound. reason=`{reason}`")]
    LimitExceeded {
        /// Which function or operator, and the bound.
        reason: String,
    },
    /// A regular expression that is not a constant is wrong.
    #[error("regular expression is wrong. reason=`{reason}`")]
    Regex {
        /// What is wrong with it.
        reason: String,
    },
    /// A table's data is not what was written.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// Reading or computing failed.
    #[error("query failed to run")]
    Execution {
        /// What failed.
        #[source]
        source: Box<DataFusionError>,
    },
}

fn first(diagnostics: &[Diagnostic]) -> String {
    diagnostics.first().map(ToString::to_string).unwrap_or_default()
}

impl QueryError {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Syntax { .. } | Self::Semantic { .. } => ErrorKind::Invalid,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Regex { .. } => ErrorKind::Invalid,
            Self::TooLong { .. } | Self::StringTooLong { .. } | Self::LimitExceeded { .. } => {
                ErrorKind::TooLarge
            }
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Memory { .. } => ErrorKind::LimitExceeded { retry_after: None },
            Self::Damaged(_) => ErrorKind::Corrupt,
            Self::Execution { source } => match source.find_root() {
                DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => {
                    ErrorKind::Unavailable
                }
                DataFusionError::ParquetError(_) => ErrorKind::Corrupt,
                _ => ErrorKind::Internal,
            },
        }
    }

    /// What is wrong with the text and where; empty if the text is right.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            Self::Syntax { diagnostics }
            | Self::Semantic { diagnostics }
            | Self::Unsupported { diagnostics, .. } => diagnostics,
            _ => &[],
        }
    }
}
