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

    /// The variant's name, for labels and span fields.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Conflict => "conflict",
            Self::PreconditionFailed => "precondition_failed",
            Self::Invalid => "invalid",
            Self::Unsupported => "unsupported",
            Self::Unauthenticated => "unauthenticated",
            Self::Denied => "denied",
            Self::LimitExceeded { .. } => "limit_exceeded",
            Self::TooLarge => "too_large",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Unavailable => "unavailable",
            Self::Corrupt => "corrupt",
            Self::Internal => "internal",
        }
    }

    /// What a result came to, for labels and span fields: `ok`, or the [name](Self::name) of what
    /// `kind` makes of its error.
    pub fn outcome<T, E>(result: &Result<T, E>, kind: impl FnOnce(&E) -> Self) -> &'static str {
        match result {
            Ok(_) => "ok",
            Err(error) => kind(error).name(),
        }
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

    #[test]
    fn an_outcome_is_ok_or_the_name_of_its_kind() {
        let whole = |kind: &ErrorKind| *kind;
        assert_eq!(ErrorKind::outcome(&Ok::<_, ErrorKind>(1), whole), "ok");
        let full = ErrorKind::LimitExceeded { retry_after: None };
        assert_eq!(ErrorKind::outcome(&Err::<(), _>(full), whole), "limit_exceeded");
    }
}
