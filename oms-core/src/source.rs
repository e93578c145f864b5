//! Managed computers and services.

use crate::id::SourceId;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How a source is connected.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SourceKind {
    /// An agent on the computer itself (`Direct`).
    DirectAgent,
    /// A management group that speaks for its computers (`SCOM`).
    ManagementGroup,
    /// A storage account that services write their diagnostics to.
    StorageAccount,
    /// A service of this suite.
    Service,
}

/// A managed computer or service.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct ConnectedSource {
    /// Its identity, the same for its life.
    pub id: SourceId,
    /// How it is connected.
    pub kind: SourceKind,
    /// Its name (`Computer`).
    pub computer: String,
    /// When it was connected.
    pub connected: Timestamp,
    /// When it was heard of last.
    pub last_heartbeat: Option<Timestamp>,
    /// Thumbprint of the client certificate it was connected with: 40 hex digits (SHA-1) or 64
    /// (SHA-256).
    pub certificate_thumbprint: Option<String>,
}

impl ConnectedSource {
    /// Whether it was heard of within `window` before `now`.
    #[must_use]
    pub fn is_alive(&self, now: Timestamp, window: SignedDuration) -> bool {
        self.last_heartbeat.is_some_and(|heard| now.duration_since(heard) <= window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alive_within_the_window_only() {
        let mut source = ConnectedSource {
            id: SourceId(uuid::Uuid::nil()),
            kind: SourceKind::DirectAgent,
            computer: "pc".into(),
            connected: Timestamp::UNIX_EPOCH,
            last_heartbeat: None,
            certificate_thumbprint: None,
        };
        let minute = SignedDuration::from_mins(1);
        assert!(!source.is_alive(Timestamp::UNIX_EPOCH, minute));
        source.last_heartbeat = Some(Timestamp::UNIX_EPOCH);
        assert!(source.is_alive(Timestamp::UNIX_EPOCH + minute, minute));
        assert!(!source.is_alive(Timestamp::UNIX_EPOCH + minute * 2, minute));
    }
}
