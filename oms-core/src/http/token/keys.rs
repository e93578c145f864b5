//! Keys that sign tokens, and the tokens they sign.

use super::TOKEN_SECONDS;
use crate::auth::Principal;
use crate::entropy::Entropy;
use crate::id::ParseIdError;
use crate::journal::{
    self, Event, HistoryId, Journal, JournalError, JournalEvent as _, JournalExt,
};
use crate::secret::{KeyError, KeyRing, Sealed};
use crate::{Clock, ErrorKind, Secret};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

crate::uuid_id! {
    /// Names a key that signs tokens: the `kid` of its tokens.
    SigningKeyId, "signing key id"
}

/// Histories of signing keys, by their identifiers.
const KIND: &str = "token-signing-key";

/// Length of a drawn key, in bytes.
const KEY_BYTES: usize = 32;

/// The most keys that are kept.
const KEYS_MAX: usize = 1_000;

/// The longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 4096;

/// Why a signing key was not drawn, kept or revoked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SigningKeyError {
    /// Too many keys are kept.
    #[error("too many signing keys. limit=`{KEYS_MAX}`")]
    TooMany,
    /// A stored identifier cannot be read.
    #[error(transparent)]
    Id(#[from] ParseIdError),
    /// The key ring did not seal or open a key.
    #[error("signing keys cannot use their key ring")]
    Key(#[from] KeyError),
    /// The journal did not do what it was asked.
    #[error("signing keys cannot use their journal")]
    Journal(#[from] JournalError),
}

impl SigningKeyError {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooMany => ErrorKind::LimitExceeded { retry_after: None },
            Self::Id(_) => ErrorKind::Invalid,
            Self::Key(error) => error.kind(),
            Self::Journal(error) => error.kind(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "camelCase")]
enum Change {
    Drawn { sealed: Sealed },
    Revoked,
}

crate::journal_event!(Change, format 1, whole, {
    Self::Drawn { .. } => "token-key-drawn",
    Self::Revoked => "token-key-revoked",
});

#[derive(Clone, Debug)]
struct Key {
    id: SigningKeyId,
    drawn: Timestamp,
    secret: Secret,
}

/// The keys that sign tokens, sealed by the key ring and kept in the journal.
///
/// The newest signs. An older one still verifies for as long as a token of it can live after the
/// newer one was drawn; a revoked one ends with all its tokens at once.
pub struct SigningKeys {
    journal: Arc<dyn Journal>,
    ring: Arc<KeyRing>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// In the order in which they were drawn.
    keys: RwLock<Vec<Key>>,
    /// Held while keys change: what the journal listed when all of them were read last.
    listed: tokio::sync::Mutex<Vec<journal::Head>>,
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<SigningKeyId> = self.read(|keys| keys.iter().map(|key| key.id).collect());
        f.debug_struct("SigningKeys").field("keys", &ids).finish_non_exhaustive()
    }
}

impl SigningKeys {
    /// Opens the keys that the journal holds, or draws the first.
    ///
    /// # Errors
    /// [`SigningKeyError::Key`] if the ring is another; [`SigningKeyError::Journal`].
    pub async fn open(
        journal: Arc<dyn Journal>,
        ring: Arc<KeyRing>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, SigningKeyError> {
        let (keys, listed) = Default::default();
        let this = Self { journal, ring, clock, entropy, keys, listed };
        this.refresh().await?;
        if this.read(Vec::is_empty) {
            this.rotate(&Principal::local()).await?;
        }
        Ok(this)
    }

    /// Reads everything again, if there is something that another process may have changed.
    ///
    /// # Errors
    /// Those of [`SigningKeys::open`]; nothing changes then.
    pub async fn refresh(&self) -> Result<(), SigningKeyError> {
        let mut listed = self.listed.lock().await;
        let heads = self.journal.list_whole(KIND).await?;
        if heads == *listed {
            return Ok(());
        }
        let mut found = BTreeMap::new();
        for head in &heads {
            let id: SigningKeyId = head.history.key().parse()?;
            for event in self.journal.read_whole(&head.history).await? {
                match self.key(id, &event)? {
                    Some(key) => drop(found.insert(id, (event.position, key))),
                    None => drop(found.remove(&id)),
                }
            }
        }
        let mut found: Vec<(u64, Key)> = found.into_values().collect();
        found.sort_by_key(|(position, _)| *position);
        let found = found.into_iter().map(|(_, key)| key).collect();
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = found;
        *listed = heads;
        Ok(())
    }

    /// Draws a key, which signs from now on.
    ///
    /// # Errors
    /// [`SigningKeyError`].
    pub async fn rotate(&self, by: &Principal) -> Result<SigningKeyId, SigningKeyError> {
        let _listed = self.listed.lock().await;
        if self.read(Vec::len) >= KEYS_MAX {
            return Err(SigningKeyError::TooMany);
        }
        let id = SigningKeyId::draw(&*self.entropy);
        let mut bytes = vec![0; KEY_BYTES];
        self.entropy.fill(&mut bytes);
        let secret = Secret::new(bytes);
        let change = Change::Drawn { sealed: self.ring.seal(&secret, &identity(id))? };
        self.append(id, 0, &change, by).await?;
        let key = Key { id, drawn: self.clock.now(), secret };
        self.keys.write().unwrap_or_else(PoisonError::into_inner).push(key);
        Ok(id)
    }

    /// Ends a key with all tokens that it signed. If it was the newest, the one before it signs
    /// again; if none is left, no token is given out before the next rotation or start.
    ///
    /// # Errors
    /// [`SigningKeyError`].
    pub async fn revoke(&self, id: SigningKeyId, by: &Principal) -> Result<(), SigningKeyError> {
        let _listed = self.listed.lock().await;
        self.append(id, 1, &Change::Revoked, by).await?;
        self.keys.write().unwrap_or_else(PoisonError::into_inner).retain(|key| key.id != id);
        Ok(())
    }

    fn newest(&self) -> Option<(String, Secret)> {
        self.read(|keys| keys.last().map(|key| (key.id.to_string(), key.secret.clone())))
    }

    fn verifying(&self, kid: &str, now: Timestamp) -> Option<Secret> {
        let id: SigningKeyId = kid.parse().ok()?;
        self.read(|keys| {
            let at = keys.iter().position(|key| key.id == id)?;
            let lifetime = SignedDuration::from_secs(TOKEN_SECONDS);
            let is_over =
                keys.get(at + 1).is_some_and(|newer| now.duration_since(newer.drawn) >= lifetime);
            (!is_over).then(|| keys[at].secret.clone())
        })
    }

    #[cfg(test)]
    pub(super) fn verifying_count(&self, now: Timestamp) -> usize {
        let ids: Vec<String> =
            self.read(|keys| keys.iter().map(|key| key.id.to_string()).collect());
        ids.iter().filter(|id| self.verifying(id, now).is_some()).count()
    }

    fn key(&self, id: SigningKeyId, event: &Event) -> Result<Option<Key>, SigningKeyError> {
        Ok(match Change::open(&event.envelope)? {
            Change::Drawn { sealed } => {
                let secret = self.ring.open_sealed(&sealed, &identity(id))?;
                Some(Key { id, drawn: event.envelope.time, secret })
            }
            Change::Revoked => None,
        })
    }

    fn read<T>(&self, look: impl FnOnce(&Vec<Key>) -> T) -> T {
        look(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn append(
        &self,
        id: SigningKeyId,
        expected: u64,
        change: &Change,
        by: &Principal,
    ) -> Result<(), SigningKeyError> {
        let history = HistoryId::new(KIND, &id.to_string())?;
        let (now, by) = (self.clock.now(), by.to_string());
        self.journal.append_event(&history, expected, change, now, &by).await?;
        Ok(())
    }
}

/// What a key is sealed for.
fn identity(id: SigningKeyId) -> String {
    format!("token-signing-key/{id}")
}

/// What signs and verifies.
#[derive(Debug)]
pub(super) enum Signer {
    /// One key for good.
    Fixed(Secret),
    Rotating(Arc<SigningKeys>),
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    alg: String,
    typ: String,
    kid: String,
}

/// What a token says. See RFC 7519, 4.1, and "Access tokens in the Microsoft identity platform".
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) aud: String,
    pub(super) sub: String,
    pub(super) tid: String,
    pub(super) appid: String,
    pub(super) iat: i64,
    pub(super) nbf: i64,
    pub(super) exp: i64,
    pub(super) uti: String,
    pub(super) ver: String,
}

impl Signer {
    /// A signed token; none while there is no key.
    pub(super) fn sign(&self, claims: &Claims) -> Option<String> {
        let (kid, key) = match self {
            Self::Fixed(key) => ("fixed".to_owned(), key.clone()),
            Self::Rotating(keys) => keys.newest()?,
        };
        let head = Head { alg: "HS256".to_owned(), typ: "JWT".to_owned(), kid };
        let encode = |json: Vec<u8>| URL_SAFE_NO_PAD.encode(json);
        let (head, claims) = (serde_json::to_vec(&head).ok()?, serde_json::to_vec(claims).ok()?);
        let signed = format!("{}.{}", encode(head), encode(claims));
        let signature = mac(&key, &signed)?.finalize().into_bytes();
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// What a token says, if a key of ours signed it and it is its time.
    pub(super) fn verify(&self, token: &str, now: Timestamp) -> Option<Claims> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (head, claims) = signed.split_once('.')?;
        let head: Head = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).ok()?).ok()?;
        if head.alg != "HS256" {
            return None;
        }
        let key = match self {
            Self::Fixed(key) => key.clone(),
            Self::Rotating(keys) => keys.verifying(&head.kid, now)?,
        };
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        mac(&key, signed)?.verify_slice(&signature).ok()?;
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let now = now.as_second();
        (claims.nbf <= now && now < claims.exp).then_some(claims)
    }
}

fn mac(key: &Secret, signed: &str) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).ok()?;
    mac.update(signed.as_bytes());
    Some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::entropy::SeededEntropy;
    use crate::journal::MemoryJournal;
    use crate::testkit::{Fixture, released, released_ring};

    #[tokio::test]
    async fn what_an_earlier_version_wrote_is_read() {
        let fixtures = released();
        Fixture::check::<Change>(&fixtures);
        let journal: Arc<dyn Journal> = Arc::new(fixtures[0].journal().await);
        let clock = Arc::new(ManualClock::new("2026-01-01T02:00:00Z".parse().expect("a time")));
        let entropy = Arc::new(SeededEntropy::new(1));
        let keys = SigningKeys::open(journal, Arc::new(released_ring()), clock, entropy).await;
        let keys = keys.expect("opens");
        keys.read(|keys| {
            assert_eq!(keys.len(), 2, "the revoked one is gone");
            assert!(keys[0].drawn < keys[1].drawn);
            assert!(keys.iter().all(|key| key.secret.expose().len() == KEY_BYTES));
        });
    }

    #[tokio::test]
    async fn what_another_process_draws_and_revokes_is_seen_after_a_refresh() {
        let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let entropy = Arc::new(SeededEntropy::new(1));
        let ring = Arc::new(released_ring());
        let open = async || {
            let (ring, clock, entropy) =
                (Arc::clone(&ring), Arc::clone(&clock), Arc::clone(&entropy));
            SigningKeys::open(Arc::clone(&journal), ring, clock, entropy).await
        };
        let one = open().await.expect("opens");
        let two = open().await.expect("opens");
        let newest = |keys: &SigningKeys| keys.newest().expect("a key").0;
        assert_eq!(newest(&one), newest(&two));
        let by = Principal::local();
        let drawn = one.rotate(&by).await.expect("draws");
        assert_ne!(newest(&two), drawn.to_string());
        for process in [&one, &two] {
            process.refresh().await.expect("reads");
            process.refresh().await.expect("finds nothing new");
            assert_eq!(newest(process), drawn.to_string());
        }
        two.revoke(drawn, &by).await.expect("revokes");
        one.refresh().await.expect("reads");
        assert_eq!(newest(&one), newest(&two));
        assert_ne!(newest(&one), drawn.to_string());
    }
}
