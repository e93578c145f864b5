//! Why a source did not give its records.

use oms_core::ErrorKind;
use oms_core::disk::DiskError;
use oms_core::id::ParseIdError;
use std::io;
use std::path::{Path, PathBuf};

/// Why a connected source or one of its data sources failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The operating system refused an operation on a file that is collected from.
    #[error("{operation} failed. path=`{}`", path.display())]
    Io {
        /// What was tried: `open`, `read`, `list`.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The agent's own state could not be read or written.
    #[error("agent state is not accessible")]
    State(#[from] DiskError),
    /// A file does not have the form that its kind of file has.
    #[error("malformed input. path=`{path}`, line=`{line}`, reason=`{reason}`")]
    Malformed {
        /// The file, or the name of the text where there is no file.
        path: String,
        /// Where, in lines from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// The agent's own state contradicts itself or its checksum. Collecting on from it could lose
    /// or double records, so the agent does not start.
    #[error("agent state is corrupt. path=`{path}`, reason=`{reason}`")]
    Corrupt {
        /// The file in the state folder.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another agent works in the same state folder.
    #[error("agent state is in use by another process. path=`{}`", path.display())]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// This version cannot collect from such a thing.
    #[error("{what} is not supported. path=`{}`", path.display())]
    Unsupported {
        /// What, and what to do instead.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A setting of the agent or of a data source is wrong.
    #[error("setting is invalid. name=`{name}`, value=`{value}`, reason=`{reason}`")]
    Setting {
        /// Which setting.
        name: &'static str,
        /// Its value, shortened to 100 characters.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A defect in this software.
    #[error("defect in the agent. reason=`{reason}`")]
    Internal {
        /// What was impossible.
        reason: String,
    },
}

impl SourceError {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } => ErrorKind::of_io(source),
            Self::State(error) => error.kind(),
            Self::Malformed { .. } | Self::Setting { .. } => ErrorKind::Invalid,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::InUse { .. } => ErrorKind::Conflict,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Internal { .. } => ErrorKind::Internal,
        }
    }

    /// The error with every error it came from, outermost first, for a record or a report.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            text.push_str(": ");
            text.push_str(&error.to_string());
            next = error.source();
        }
        text
    }

    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }

    pub(crate) fn setting(name: &'static str, value: &str, reason: &'static str) -> Self {
        Self::Setting { name, value: value.chars().take(100).collect(), reason }
    }
}

impl From<oms_core::task::TaskError> for SourceError {
    fn from(error: oms_core::task::TaskError) -> Self {
        Self::Internal { reason: error.to_string() }
    }
}

impl From<ParseIdError> for SourceError {
    /// Names that this module gives to record types are constants, so a refusal is a defect.
    fn from(error: ParseIdError) -> Self {
        Self::Internal { reason: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_names_the_file_and_the_cause() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = SourceError::io("open", Path::new("/var/log/auth.log"))(denied);
        assert_eq!(error.chain(), "open failed. path=`/var/log/auth.log`: permission denied");
        assert_eq!(error.kind(), ErrorKind::Denied);
    }
}
