//! The keys of one server, as the journal has them.

use super::{
    KEY_DESCRIPTION_BYTES_MAX, NewRegistrationKey, REGISTRATION_KEY_BYTES_MAX,
    REGISTRATION_KEY_BYTES_MIN, REGISTRATION_KEY_HISTORY, REGISTRATION_KEYS_MAX, RegistrationKey,
    RegistrationKeyEvent, RegistrationKeyId, RegistrationKeyState, SCOPE_PATTERNS_MAX,
};
use crate::Error;
use oms_core::journal::{
    Append, Event, HistoryId, Journal, JournalError, JournalEvent as _, JournalExt,
};
use oms_core::secret::{KeyRing, Sealed};
use oms_core::task::blocking;
use oms_core::{Clock, Disk, Entropy, EntropyExt, Lifecycle, LocalDisk, Secret};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{Mutex, OnceCell};

/// How often a change is tried again when another process changed the same key first.
const ATTEMPTS_MAX: usize = 8;

/// The account that the server's own key ring is of.
const ACCOUNT: &str = "dsc";

/// A key with its secret, as the journal had it at a version of its history.
#[derive(Clone, Debug)]
pub(in crate::pull_server) struct HeldKey {
    pub(in crate::pull_server) about: RegistrationKey,
    /// None once it was revoked.
    pub(in crate::pull_server) secret: Option<Secret>,
    version: u64,
}

impl HeldKey {
    /// What must hold where an append rests on this key: nobody changed it since it was read.
    pub(in crate::pull_server) fn unchanged(&self) -> Result<Append, Error> {
        Ok(Append::condition(history(self.about.id)?, self.version))
    }
}

/// Where the key ring is: given, or in the server's own place, begun when the first key is made.
#[derive(Debug)]
pub(in crate::pull_server) struct KeyRingPlace {
    pub(in crate::pull_server) ring: OnceCell<Arc<KeyRing>>,
    /// In place of the folder.
    pub(in crate::pull_server) disk: Option<Arc<dyn Disk>>,
    pub(in crate::pull_server) folder: PathBuf,
    pub(in crate::pull_server) entropy: Arc<dyn Entropy>,
}

impl KeyRingPlace {
    /// The ring. `has_data` says whether the journal holds what it sealed.
    pub(in crate::pull_server) async fn ring(&self, has_data: bool) -> Result<Arc<KeyRing>, Error> {
        let open = || async {
            let (disk, folder) = (self.disk.clone(), self.folder.clone());
            let entropy = Arc::clone(&self.entropy);
            blocking(move || {
                let disk: Arc<dyn Disk> = match disk {
                    Some(disk) => disk,
                    None => Arc::new(LocalDisk::new(folder)?),
                };
                Ok(Arc::new(KeyRing::open_folder(disk, entropy, ACCOUNT, has_data)?))
            })
            .await
        };
        self.ring.get_or_try_init(open).await.map(Arc::clone)
    }
}

/// Every registration key that is kept.
#[derive(Debug)]
pub(in crate::pull_server) struct RegistrationKeys {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) place: Arc<KeyRingPlace>,
    held: RwLock<BTreeMap<RegistrationKeyId, Arc<HeldKey>>>,
    /// Whose turn it is to change what is held.
    pub(super) changing: Mutex<()>,
}

impl RegistrationKeys {
    /// Reads every key.
    pub(in crate::pull_server) async fn open(
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
        place: Arc<KeyRingPlace>,
    ) -> Result<Self, Error> {
        let (held, changing) = (RwLock::default(), Mutex::default());
        let keys = Self { journal, clock, place, held, changing };
        keys.refresh().await?;
        Ok(keys)
    }

    /// Reads what another process changed.
    pub(in crate::pull_server) async fn refresh(&self) -> Result<(), Error> {
        let _turn = self.changing.lock().await;
        self.read_new().await
    }

    pub(super) async fn read_new(&self) -> Result<(), Error> {
        let known = |history: &HistoryId| {
            let id = history.key().parse().ok();
            id.and_then(|id| self.get(id)).map_or(0, |held| held.version)
        };
        for event in self.journal.read_new(REGISTRATION_KEY_HISTORY, known).await? {
            self.replay(&event).await?;
        }
        Ok(())
    }

    fn get(&self, id: RegistrationKeyId) -> Option<Arc<HeldKey>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).get(&id).map(Arc::clone)
    }

    /// Every key, in order of identifier.
    pub(in crate::pull_server) fn all(&self) -> Vec<Arc<HeldKey>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.values().map(Arc::clone).collect()
    }

    async fn replay(&self, event: &Event) -> Result<(), Error> {
        let id: RegistrationKeyId = event.history.key().parse()?;
        let (opened, time) = (RegistrationKeyEvent::open(&event.envelope)?, event.envelope.time);
        let before = self.get(id);
        let state = before.as_ref().map_or(RegistrationKeyState::New, |held| held.about.state);
        let state = state.next(opened.transition()).map_err(|error| Error::Corrupt {
            what: event.history.to_string(),
            reason: format!("event {}: {error}", event.version),
        })?;
        let (about, secret) = match opened {
            RegistrationKeyEvent::Made {
                sealed,
                description,
                configurations,
                expires,
                account_key,
            } => {
                let ring = self.place.ring(true).await?;
                let secret = ring.open_sealed(&sealed, &identity(id))?;
                let (created, revoked, removes_nodes) = (time, None, false);
                let about = RegistrationKey {
                    id,
                    state,
                    description,
                    configurations,
                    created,
                    expires,
                    revoked,
                    removes_nodes,
                    account_key,
                };
                (about, Some(secret))
            }
            RegistrationKeyEvent::Revoked { removes_nodes } => {
                let Some(before) = before else { return Ok(()) };
                let mut about = before.about.clone();
                about.state = state;
                about.revoked = about.revoked.or(Some(time));
                about.removes_nodes |= removes_nodes;
                (about, None)
            }
        };
        let held = HeldKey { about, secret, version: event.version };
        let mut all = self.held.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(id, Arc::new(held));
        Ok(())
    }

    /// Keeps a key. The answer holds the only clear copy that anybody sees.
    pub(in crate::pull_server) async fn make(
        &self,
        new: NewRegistrationKey,
        others: &[Secret],
        actor: &str,
    ) -> Result<(RegistrationKey, Secret), Error> {
        let NewRegistrationKey { key, description, configurations, expires } = new;
        let now = self.clock.now();
        check("scope of a registration key", configurations.len(), SCOPE_PATTERNS_MAX)?;
        check("description", description.len(), KEY_DESCRIPTION_BYTES_MAX)?;
        if expires.is_some_and(|expires| expires <= now) {
            return Err(unfit("it would have expired already"));
        }
        let _turn = self.changing.lock().await;
        self.read_new().await?;
        let all = self.all();
        let usable: Vec<&Secret> = all.iter().filter_map(|held| held.secret.as_ref()).collect();
        self.check_room(0)?;
        let entropy = &*self.place.entropy;
        let drawn = || Secret::new(entropy.uuid().to_string().to_uppercase());
        let secret = key.unwrap_or_else(drawn);
        check("registration key", secret.expose().len(), REGISTRATION_KEY_BYTES_MAX)?;
        if secret.expose().len() < REGISTRATION_KEY_BYTES_MIN {
            return Err(unfit("it has fewer than 16 bytes"));
        }
        // Which of two keys signed a registration could not be told.
        if usable.into_iter().chain(others).any(|held| *held == secret) {
            return Err(unfit("it is in use already"));
        }
        let id = RegistrationKeyId::draw(entropy);
        let event = RegistrationKeyEvent::Made {
            sealed: self.seal(&secret, id).await?,
            description,
            configurations,
            expires,
            account_key: None,
        };
        let history = history(id)?;
        self.journal.append_to(&history, 0, vec![event.seal(now, actor)?]).await?;
        self.read_new().await?;
        Ok((self.about(id)?, secret))
    }

    /// Refuses one more key if there is no room for it, when so many are to be revoked.
    pub(super) fn check_room(&self, revoked: usize) -> Result<(), Error> {
        let usable = self.all().iter().filter(|held| held.secret.is_some()).count();
        if usable.saturating_sub(revoked) >= REGISTRATION_KEYS_MAX {
            let limit = REGISTRATION_KEYS_MAX;
            return Err(Error::LimitExceeded { what: "registration keys", limit });
        }
        Ok(())
    }

    /// Seals a key for its identifier.
    pub(super) async fn seal(
        &self,
        secret: &Secret,
        id: RegistrationKeyId,
    ) -> Result<Sealed, Error> {
        let has_data = !self.held.read().unwrap_or_else(PoisonError::into_inner).is_empty();
        let ring = self.place.ring(has_data).await?;
        Ok(ring.seal(secret, &identity(id))?)
    }

    /// Revokes a key; nothing more if that was done already.
    pub(in crate::pull_server) async fn revoke(
        &self,
        id: RegistrationKeyId,
        removes_nodes: bool,
        actor: &str,
    ) -> Result<RegistrationKey, Error> {
        let _turn = self.changing.lock().await;
        for _ in 0..ATTEMPTS_MAX {
            self.read_new().await?;
            let held = self.get(id).ok_or_else(|| not_found(id))?;
            let about = &held.about;
            let is_revoked = about.state == RegistrationKeyState::Revoked;
            if is_revoked && (about.removes_nodes || !removes_nodes) {
                return Ok(about.clone());
            }
            let event = RegistrationKeyEvent::Revoked { removes_nodes };
            let envelope = event.seal(self.clock.now(), actor)?;
            match self.journal.append_to(&history(id)?, held.version, vec![envelope]).await {
                Ok(_) => {}
                // Another process was first: read again and decide anew.
                Err(JournalError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Internal { reason: format!("registration key {id} changes too fast") })
    }

    fn about(&self, id: RegistrationKeyId) -> Result<RegistrationKey, Error> {
        self.get(id).map(|held| held.about.clone()).ok_or_else(|| not_found(id))
    }

    /// The keys that a signature may be of, expired ones among them.
    pub(in crate::pull_server) fn unrevoked(&self) -> Vec<Arc<HeldKey>> {
        let mut all = self.all();
        all.retain(|held| held.secret.is_some());
        all
    }
}

/// What a key is sealed for.
fn identity(id: RegistrationKeyId) -> String {
    format!("{REGISTRATION_KEY_HISTORY}/{id}")
}

pub(super) fn history(id: RegistrationKeyId) -> Result<HistoryId, Error> {
    Ok(HistoryId::new(REGISTRATION_KEY_HISTORY, &id.to_string())?)
}

fn not_found(id: RegistrationKeyId) -> Error {
    Error::NotFound { what: "registration key", name: id.to_string() }
}

fn unfit(reason: &str) -> Error {
    Error::Invalid { what: "registration key", reason: reason.to_owned() }
}

fn check(what: &'static str, actual: usize, limit: usize) -> Result<(), Error> {
    match actual > limit {
        true => Err(Error::TooLarge { what, actual, limit }),
        false => Ok(()),
    }
}
