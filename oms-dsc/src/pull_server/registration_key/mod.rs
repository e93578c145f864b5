//! Registration keys that are kept: scoped, expiring, revocable.
//!
//! ```text
//!  make ──► drawn, sealed by the key ring ──► journal (dsc-registration-key)
//!                                                  │ read anew before each registration
//!  revoke ─────────────────────────────────────────┤
//!                                                  ▼
//!  PUT Nodes ──► which key signed it? ──► its scope, its end ──► node, on condition that the
//!                                                                key is as it was read
//! ```
//!
//! A signature is an HMAC, so a server needs the clear key: it is kept sealed, where
//! `oms_core::auth::Credentials` would keep a hash of what a caller sends.

mod account;

mod pattern;

mod state;

mod store;

pub use account::{AccountKeyName, AccountKeys};
pub use pattern::ConfigurationPattern;
pub use state::{RegistrationKeyState, RegistrationKeyTransition};
pub(super) use store::{HeldKey, KeyRingPlace, RegistrationKeys};

use super::PullServer;
use super::node::{Node, NodeEvent};
use crate::Error;
use crate::protocol::ConfigurationName;
use jiff::Timestamp;
use oms_core::Secret;
use oms_core::secret::Sealed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The kind of a registration key's history; its key is the [`RegistrationKeyId`].
pub const REGISTRATION_KEY_HISTORY: &str = "dsc-registration-key";

/// The most registration keys that are kept at a time, revoked ones not counted: a signature is
/// tried with each.
pub const REGISTRATION_KEYS_MAX: usize = 1_000;

/// The shortest registration key that is taken, in bytes; what is drawn is a UUID in upper case, as
/// real servers have it.
pub const REGISTRATION_KEY_BYTES_MIN: usize = 16;

/// The longest registration key that is taken, in bytes.
pub const REGISTRATION_KEY_BYTES_MAX: usize = 4_096;

/// The most patterns of one key's scope.
pub const SCOPE_PATTERNS_MAX: usize = 64;

/// The longest description of a key, in bytes.
pub const KEY_DESCRIPTION_BYTES_MAX: usize = 1_024;

oms_core::uuid_id! {
    /// Names one registration key. It is no secret.
    RegistrationKeyId, "registration key id"
}

/// A registration key to keep.
#[derive(Clone, Debug, Default)]
pub struct NewRegistrationKey {
    /// The key, such as a line of a Windows server's `RegistrationKeys.txt`; drawn if none.
    pub key: Option<Secret>,
    /// What an operator says of it.
    pub description: String,
    /// The configurations that a node may register for with it; all if empty.
    pub configurations: Vec<ConfigurationPattern>,
    /// When it ends by itself. Nodes that registered with it stay.
    pub expires: Option<Timestamp>,
}

/// A registration key that is kept, without what would let anyone use it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RegistrationKey {
    /// Its identifier.
    pub id: RegistrationKeyId,
    /// Where it stands.
    pub state: RegistrationKeyState,
    /// What an operator says of it.
    pub description: String,
    /// The configurations that a node may register for with it; all if empty.
    pub configurations: Vec<ConfigurationPattern>,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends by itself.
    pub expires: Option<Timestamp>,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
    /// Whether the nodes that registered with it last were to go with it.
    pub removes_nodes: bool,
    /// Which of the account's own keys it is, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_key: Option<AccountKeyName>,
}

impl RegistrationKey {
    /// Whether it has ended by itself.
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Whether a node may register for these configurations with it.
    pub(super) fn covers(&self, name: &ConfigurationName) -> bool {
        self.configurations.is_empty() || self.configurations.iter().any(|held| held.covers(name))
    }
}

/// How a key is revoked.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RevokeOptions {
    /// Whether the nodes that registered with it last are taken out, too. Without it they stay: a
    /// node's credential is its AgentId, and the key was only its way in.
    pub removes_nodes: bool,
}

/// What revoking a key did.
#[derive(Clone, Debug, PartialEq)]
pub struct RevokeReport {
    /// The key as it is now.
    pub key: RegistrationKey,
    /// How many nodes were taken out.
    pub nodes_removed: usize,
}

/// What can happen to a registration key, with its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RegistrationKeyEvent {
    /// It was made.
    Made {
        /// The key, sealed for its identifier.
        sealed: Sealed,
        /// What an operator says of it.
        description: String,
        /// The configurations that a node may register for with it; all if empty.
        configurations: Vec<ConfigurationPattern>,
        /// When it ends by itself.
        expires: Option<Timestamp>,
        /// Which of the account's own keys it is, if it is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account_key: Option<AccountKeyName>,
    },
    /// It was revoked, perhaps again.
    Revoked {
        /// Whether the nodes that registered with it last go with it.
        removes_nodes: bool,
    },
}

oms_core::journal_event!(RegistrationKeyEvent, format 1, whole, {
    Self::Made { .. } => "dsc-registration-key-made",
    Self::Revoked { .. } => "dsc-registration-key-revoked",
});

impl RegistrationKeyEvent {
    const fn transition(&self) -> RegistrationKeyTransition {
        match self {
            Self::Made { .. } => RegistrationKeyTransition::Make,
            Self::Revoked { .. } => RegistrationKeyTransition::Revoke,
        }
    }
}

impl PullServer {
    /// Keeps a registration key, drawn if none is given. The answer holds its only clear copy: it is
    /// not shown again. It is durable when this returns.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a key that is short, in use, or expired; [`Error::TooLarge`];
    /// [`Error::LimitExceeded`]; [`Error::Key`]; [`Error::Journal`].
    pub async fn make_registration_key(
        &self,
        new: NewRegistrationKey,
    ) -> Result<(RegistrationKey, Secret), Error> {
        self.registrar.keys.make(new, &self.registrar.given, "local").await
    }

    /// Every registration key that is kept, revoked ones too, in order of identifier.
    ///
    /// # Errors
    /// [`Error::Key`], [`Error::Journal`].
    pub async fn registration_keys(&self) -> Result<Vec<RegistrationKey>, Error> {
        self.registrar.keys.refresh().await?;
        Ok(self.registrar.keys.all().iter().map(|held| held.about.clone()).collect())
    }

    /// Revokes a registration key: when this returns, no server on the same journal registers a node
    /// with it. A repeat does no harm, and may take the nodes out that a first call left.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Key`], [`Error::Journal`]; nodes that are left then go with
    /// [`PullServer::maintain`].
    pub async fn revoke_registration_key(
        &self,
        id: RegistrationKeyId,
        options: RevokeOptions,
    ) -> Result<RevokeReport, Error> {
        let key = self.registrar.keys.revoke(id, options.removes_nodes, "local").await?;
        let nodes_removed = self.remove_nodes_of_revoked_keys().await?;
        Ok(RevokeReport { key, nodes_removed })
    }

    /// Takes out the nodes that go with their key, and answers how many.
    pub(super) async fn remove_nodes_of_revoked_keys(&self) -> Result<usize, Error> {
        let held = self.registrar.keys.all();
        let gone: BTreeSet<RegistrationKeyId> =
            held.iter().filter(|held| held.about.removes_nodes).map(|held| held.about.id).collect();
        if gone.is_empty() {
            return Ok(0);
        }
        let goes = |node: &Node| {
            node.is_registered() && node.registration_key.is_some_and(|id| gone.contains(&id))
        };
        let mut count = 0;
        for node in self.nodes.list().await? {
            if goes(&node) {
                // One that registered again with another key meanwhile stays.
                let decide = |node: &Node| Ok(goes(node).then_some(NodeEvent::Removed));
                let left = self.nodes.change(node.agent_id, "local", decide).await?;
                if !left.is_registered() {
                    self.nodes.forget(node.agent_id);
                    count += 1;
                }
            }
        }
        Ok(count)
    }
}
