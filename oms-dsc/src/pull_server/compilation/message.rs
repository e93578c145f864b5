//! What a compilation job says: kept as content, and named by the event that ends the job.

use crate::Error;
use crate::pull_server::PublishedConfiguration;
use serde::{Deserialize, Serialize};

/// The longest reason of a failed job, in characters.
const REASON_CHARS_MAX: usize = 1_000;

/// What kind of message it is: `JobStreamType` of Azure Automation.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CompilationMessageKind {
    /// How far the job is.
    Progress,
    /// What it made.
    Output,
    /// What is wrong.
    Error,
    /// What else there is to know.
    Verbose,
}

impl CompilationMessageKind {
    /// Its word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Progress => "Progress",
            Self::Output => "Output",
            Self::Error => "Error",
            Self::Verbose => "Verbose",
        }
    }
}

/// One message of a compilation job.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct CompilationMessage {
    /// What kind.
    pub kind: CompilationMessageKind,
    /// What it says.
    pub text: String,
}

impl CompilationMessage {
    pub(super) const fn new(kind: CompilationMessageKind, text: String) -> Self {
        Self { kind, text }
    }

    /// That a node configuration is published.
    pub(super) fn published(published: &PublishedConfiguration) -> Self {
        let text = format!(
            "node configuration is published. name=`{}`, checksum=`{}`",
            published.name, published.checksum
        );
        Self::new(CompilationMessageKind::Output, text)
    }

    /// Everything that is wrong, each with its place.
    pub(super) fn errors(error: &Error) -> Vec<Self> {
        let new = |text| Self::new(CompilationMessageKind::Error, text);
        match error {
            Error::Document { document, diagnostics } => {
                diagnostics.iter().map(|wrong| new(format!("{document}: {wrong}"))).collect()
            }
            error => vec![new(error.to_string())],
        }
    }
}

/// Why a job failed, in short.
pub(super) fn reason(error: &Error) -> String {
    error.to_string().chars().take(REASON_CHARS_MAX).collect()
}
