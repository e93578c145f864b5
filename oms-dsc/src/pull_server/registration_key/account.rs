//! The two registration keys of an account, as Azure Automation has them: each is drawn anew by itself, so
//! that machines can be moved from one to the other.

use super::state::RegistrationKeyState;
use super::store::{HeldKey, RegistrationKeys};
use super::{PullServer, RegistrationKeyEvent, RegistrationKeyId};
use crate::Error;
use oms_core::journal::{Append, JournalError, JournalEvent as _};
use oms_core::{EntropyExt as _, Secret};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How often a change is tried again when another process changed the same keys first.
const ATTEMPTS_MAX: usize = 8;

/// Which of the two: `AgentRegistrationKeyName` of Azure Automation.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::exhaustive_enums, reason = "an account has two")]
pub enum AccountKeyName {
    /// `primary`
    Primary,
    /// `secondary`
    Secondary,
}

/// The registration keys of an account, in the clear.
#[derive(Clone, Debug)]
pub struct AccountKeys {
    /// The first.
    pub primary: Secret,
    /// The second.
    pub secondary: Secret,
}

impl PullServer {
    /// The registration keys of the account, which are drawn when they are asked for first: good for any
    /// configuration until they are regenerated. They are durable when this returns.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`], [`Error::Key`], [`Error::Journal`].
    pub async fn account_keys(&self, actor: &str) -> Result<AccountKeys, Error> {
        let keys = &self.registrar.keys;
        let primary = keys.account_key(AccountKeyName::Primary, actor).await?;
        let secondary = keys.account_key(AccountKeyName::Secondary, actor).await?;
        Ok(AccountKeys { primary, secondary })
    }

    /// Draws one of the account's registration keys anew: when this returns, no server on the same journal
    /// registers a node with the one before. Nodes that registered with it stay.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`], [`Error::Key`], [`Error::Journal`].
    pub async fn regenerate_account_key(
        &self,
        name: AccountKeyName,
        actor: &str,
    ) -> Result<AccountKeys, Error> {
        self.registrar.keys.regenerate(name, actor).await?;
        self.account_keys(actor).await
    }
}

impl RegistrationKeys {
    async fn account_key(&self, name: AccountKeyName, actor: &str) -> Result<Secret, Error> {
        let _turn = self.changing.lock().await;
        for _ in 0..ATTEMPTS_MAX {
            self.read_new().await?;
            // Of two that servers drew at once, both take the one that was first.
            if let Some(secret) = self.held_for(name).first().and_then(|held| held.secret.clone()) {
                return Ok(secret);
            }
            self.draw_for(name, &[], actor).await?;
        }
        Err(too_fast())
    }

    async fn regenerate(&self, name: AccountKeyName, actor: &str) -> Result<(), Error> {
        let _turn = self.changing.lock().await;
        for _ in 0..ATTEMPTS_MAX {
            self.read_new().await?;
            match self.draw_for(name, &self.held_for(name), actor).await {
                // Another process was first: read again.
                Err(Error::Journal(JournalError::Conflict { .. })) => {}
                outcome => return outcome,
            }
        }
        Err(too_fast())
    }

    /// The keys that are good for a name, the first one first.
    fn held_for(&self, name: AccountKeyName) -> Vec<Arc<HeldKey>> {
        let mut held = self.all();
        held.retain(|held| {
            let is_active = held.about.state == RegistrationKeyState::Active;
            is_active && held.about.account_key == Some(name)
        });
        held.sort_by_key(|held| (held.about.created, held.about.id));
        held
    }

    /// Draws a key and revokes others in one append.
    async fn draw_for(
        &self,
        name: AccountKeyName,
        others: &[Arc<HeldKey>],
        actor: &str,
    ) -> Result<(), Error> {
        self.check_room(others.len())?;
        let entropy = &*self.place.entropy;
        let secret = Secret::new(entropy.uuid().to_string().to_uppercase());
        let id = RegistrationKeyId::draw(entropy);
        let made = RegistrationKeyEvent::Made {
            sealed: self.seal(&secret, id).await?,
            description: String::new(),
            configurations: Vec::new(),
            expires: None,
            account_key: Some(name),
        };
        let now = self.clock.now();
        let events = vec![made.seal(now, actor)?];
        let mut appends = vec![Append { history: super::store::history(id)?, expected: 0, events }];
        let revoked = RegistrationKeyEvent::Revoked { removes_nodes: false };
        for held in others {
            let events = vec![revoked.seal(now, actor)?];
            appends.push(Append { events, ..held.unchanged()? });
        }
        self.journal.append(appends).await?;
        self.read_new().await
    }
}

fn too_fast() -> Error {
    Error::Internal { reason: "registration keys of the account change too fast".to_owned() }
}
