//! Managed computers and services.

use crate::id::SourceId;
use jiff::Timestamp;
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
