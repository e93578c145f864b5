//! What kind of failure an error is, the same for all crates.

use jiff::SignedDuration;

/// What a caller can do about an error.
///
/// Each crate's `Error::kind()` maps to one of these, and `oms_core::http` maps each to one
/// status, in one place.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The named thing is not there.
    NotFound,
    /// A thing of that name is there already.
    AlreadyExists,
    /// Someone else changed it first; read again and retry.
    Conflict,
    /// The thing is not in the state that the call needs.
    PreconditionFailed,
    /// The input is wrong; the message says where.
    Invalid,
    /// The input is right but this version cannot do it; the message names what.
    Unsupported,
    /// Nobody vouched for the caller.
    Unauthenticated,
    /// The caller is known and may not do this.
    Denied,
    /// A rate or count limit was reached.
    LimitExceeded {
        /// When a retry can succeed, if known.
        retry_after: Option<SignedDuration>,
    },
    /// One input is larger than its limit.
    TooLarge,
    /// It took longer than its limit.
    Timeout,
    /// The caller or an operator cancelled it.
    Cancelled,
    /// A part that is needed is not reachable now.
    Unavailable,
    /// Stored or received bytes do not match their checksum or format.
    Corrupt,
    /// A defect in this software.
    Internal,
}

impl ErrorKind {
    /// Whether the same call can succeed later without a change by the caller.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::Conflict | Self::LimitExceeded { .. } | Self::Timeout | Self::Unavailable
        )
    }

    /// The kind of an operating system's error.
    #[must_use]
    pub fn of_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        match error.kind() {
            Io::NotFound => Self::NotFound,
            Io::AlreadyExists => Self::AlreadyExists,
            Io::PermissionDenied | Io::ReadOnlyFilesystem => Self::Denied,
            Io::StorageFull | Io::QuotaExceeded => Self::LimitExceeded { retry_after: None },
            Io::TimedOut => Self::Timeout,
            Io::InvalidData | Io::UnexpectedEof => Self::Corrupt,
            Io::InvalidInput => Self::Invalid,
            _ => Self::Unavailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_a_limit_and_worth_a_retry() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(ErrorKind::of_io(&full), ErrorKind::LimitExceeded { retry_after: None });
        assert!(ErrorKind::of_io(&full).is_retryable());
        assert!(!ErrorKind::Invalid.is_retryable());
    }
}
