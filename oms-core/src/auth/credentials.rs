//! Credentials, kept in the journal and checked in memory.

use super::credential::{Change, Proof, SECRET_BYTES_MAX, Stored, digest};
use super::{
    AuthError, Credential, CredentialError, CredentialId, CredentialKind, DRAWN_BYTES,
    NewCredential, Principal, PrincipalKind,
};
use crate::entropy::Entropy;
use crate::journal::{Event, HistoryId, Journal, JournalEvent as _, JournalExt};
use crate::secret::KeyRing;
use crate::{Clock, Secret};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use subtle::{Choice, ConstantTimeEq};

/// The most credentials at a time, revoked ones not counted.
pub const CREDENTIALS_MAX: usize = 10_000;

/// Histories of credentials, by [`CredentialId`].
const KIND: &str = "credential";

const WRONG: AuthError = AuthError::Unauthenticated { reason: "credential is unknown or wrong" };
const EXPIRED: AuthError = AuthError::Unauthenticated { reason: "credential has expired" };

/// A credential with its key, if it has one, opened.
#[derive(Clone, Debug, PartialEq)]
struct Held {
    stored: Stored,
    key: Option<Secret>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Index {
    held: BTreeMap<CredentialId, Held>,
    by_principal: HashMap<Principal, BTreeSet<CredentialId>>,
    by_digest: HashMap<String, CredentialId>,
    /// Whoever has or had a credential.
    known: BTreeSet<Principal>,
    versions: HashMap<CredentialId, u64>,
}

impl Index {
    fn insert(&mut self, stored: Stored, key: Option<Secret>) {
        let id = stored.id;
        self.known.insert(stored.principal.clone());
        self.by_principal.entry(stored.principal.clone()).or_default().insert(id);
        match &stored.proof {
            Proof::Digest(digest) | Proof::Agent { digest, .. } => {
                self.by_digest.insert(digest.clone(), id);
            }
            Proof::Sealed(_) => {}
        }
        self.held.insert(id, Held { stored, key });
    }

    fn remove(&mut self, id: CredentialId) {
        let Some(Held { stored, .. }) = self.held.remove(&id) else { return };
        if let Proof::Digest(digest) | Proof::Agent { digest, .. } = &stored.proof {
            self.by_digest.remove(digest);
        }
        if let Some(of_principal) = self.by_principal.get_mut(&stored.principal) {
            of_principal.remove(&id);
            if of_principal.is_empty() {
                self.by_principal.remove(&stored.principal);
            }
        }
    }

    fn of<'a>(&'a self, principal: &Principal) -> impl Iterator<Item = &'a Held> {
        let ids = self.by_principal.get(principal).into_iter().flatten();
        ids.filter_map(|id| self.held.get(id))
    }

    fn by_digest(&self, digest: &str) -> Option<&Held> {
        self.by_digest.get(digest).and_then(|id| self.held.get(id))
    }
}

/// What a client's secret turned out to be.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum SecretVerdict {
    /// It is right and current.
    Right(Principal),
    /// Nobody of that name has a credential.
    UnknownName,
    /// It is none of that principal's.
    Wrong,
    /// It was right until it expired.
    Expired,
}

/// Keeps credentials of every kind, and recognises callers by them.
///
/// Nothing kept is enough to call with: secrets that are sent are kept as hashes, keys that sign
/// are sealed by the key ring. Secrets and MACs are compared in constant time; what is looked up
/// by is a hash, so a search tells nothing of the secret.
pub struct Credentials {
    journal: Arc<dyn Journal>,
    ring: Arc<KeyRing>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    index: RwLock<Index>,
    writing: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.read(|index| index.held.len());
        f.debug_struct("Credentials").field("credentials", &count).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads what the journal holds and opens the keys with the ring.
    ///
    /// # Errors
    /// [`CredentialError::Journal`]; [`CredentialError::Key`] if the ring is another.
    pub async fn open(
        journal: Arc<dyn Journal>,
        ring: Arc<KeyRing>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, CredentialError> {
        let (index, writing) = (RwLock::default(), tokio::sync::Mutex::new(()));
        let this = Self { journal, ring, clock, entropy, index, writing };
        this.refresh().await?;
        Ok(this)
    }

    /// Reads what another process changed.
    ///
    /// # Errors
    /// Those of [`Credentials::open`]; nothing changes then.
    pub async fn refresh(&self) -> Result<(), CredentialError> {
        let _writing = self.writing.lock().await;
        let known = |history: &HistoryId| {
            let id = history.key().parse().ok();
            self.read(|index| id.and_then(|id| index.versions.get(&id).copied()).unwrap_or(0))
        };
        let new = self.journal.read_new(KIND, known).await?;
        if new.is_empty() {
            return Ok(());
        }
        let mut index = self.read(Index::clone);
        new.iter().try_for_each(|event| self.apply(&mut index, event))?;
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = index;
        Ok(())
    }

    /// Keeps a credential that is given. A principal may have several at a time.
    ///
    /// # Errors
    /// [`CredentialError::Unfit`]; [`CredentialError::InUse`]; [`CredentialError::TooMany`];
    /// [`CredentialError::Key`]; [`CredentialError::Journal`].
    pub async fn add(
        &self,
        new: &NewCredential,
        by: &Principal,
    ) -> Result<Credential, CredentialError> {
        let principal = new.principal()?;
        let _writing = self.writing.lock().await;
        if self.read(|index| index.held.len()) >= CREDENTIALS_MAX {
            return Err(CredentialError::TooMany { limit: CREDENTIALS_MAX });
        }
        let id = CredentialId::draw(&*self.entropy);
        let proof = match &new.proof {
            CredentialKind::Secret(secret) => Proof::Digest(digest_of(principal.kind, secret)),
            CredentialKind::Key(key) => Proof::Sealed(self.ring.seal(key, &identity(id))?),
            CredentialKind::Certificate(der) => Proof::Digest(digest("certificate", der)),
            CredentialKind::Agent { id, certificate } => Proof::Agent {
                digest: digest_of(principal.kind, id),
                certificate: certificate.as_deref().map(|der| digest("certificate", der)),
            },
        };
        if let Proof::Digest(digest) | Proof::Agent { digest, .. } = &proof
            && let Some(held) = self.read(|index| index.by_digest.get(digest).copied())
        {
            return Err(CredentialError::InUse { credential: held });
        }
        let (created, expires) = (self.clock.now(), new.expires);
        let stored = Stored { id, principal: principal.clone(), created, expires, proof };
        self.append(id, &Change::Added(stored), by).await?;
        Ok(Credential { id, principal, created, expires })
    }

    /// Draws a secret and keeps it; the answer is its only clear copy.
    ///
    /// # Errors
    /// Those of [`Credentials::add`]; a certificate cannot be drawn.
    pub async fn draw(
        &self,
        principal: Principal,
        expires: Option<Timestamp>,
        by: &Principal,
    ) -> Result<(Credential, Secret), CredentialError> {
        let mut bytes = zeroize::Zeroizing::new([0; DRAWN_BYTES]);
        self.entropy.fill(&mut *bytes);
        let secret = Secret::new(URL_SAFE_NO_PAD.encode(*bytes));
        let proof = match principal.kind {
            PrincipalKind::SharedKey | PrincipalKind::RegistrationKey => {
                CredentialKind::Key(secret.clone())
            }
            PrincipalKind::Agent => CredentialKind::Agent { id: secret.clone(), certificate: None },
            _ => CredentialKind::Secret(secret.clone()),
        };
        let credential = self.add(&NewCredential { principal, expires, proof }, by).await?;
        Ok((credential, secret))
    }

    /// Ends a credential at once.
    ///
    /// # Errors
    /// [`CredentialError::Unknown`]; [`CredentialError::Journal`].
    pub async fn revoke(
        &self,
        credential: CredentialId,
        by: &Principal,
    ) -> Result<(), CredentialError> {
        let _writing = self.writing.lock().await;
        if !self.read(|index| index.held.contains_key(&credential)) {
            return Err(CredentialError::Unknown { credential });
        }
        self.append(credential, &Change::Revoked, by).await
    }

    /// The credentials of a kind that were not revoked, in order of their identifiers.
    #[must_use]
    pub fn list(&self, kind: PrincipalKind) -> Vec<Credential> {
        let show = |held: &Held| Credential {
            id: held.stored.id,
            principal: held.stored.principal.clone(),
            created: held.stored.created,
            expires: held.stored.expires,
        };
        self.read(|index| {
            let of_kind = index.held.values().filter(|held| held.stored.principal.kind == kind);
            of_kind.map(show).collect()
        })
    }

    /// Whether a principal has a current credential: what was given out for another one, such as
    /// a token, ends with it.
    #[must_use]
    pub fn is_active(&self, principal: &Principal) -> bool {
        let now = self.clock.now();
        self.read(|index| index.of(principal).any(|held| is_current(held, now)))
    }

    /// Whether a principal has or had a credential, which may have expired or been revoked: one that
    /// is given out at first, and not again when it is gone.
    #[must_use]
    pub fn has_known(&self, principal: &Principal) -> bool {
        let name = principal.name.to_ascii_lowercase();
        let principal = Principal::new(principal.kind, name);
        self.read(|index| index.known.contains(&principal))
    }

    /// Checks a client's secret, and says what is wrong with it.
    #[must_use]
    pub fn judge_secret(&self, name: &str, secret: &Secret) -> SecretVerdict {
        let principal = Principal::new(PrincipalKind::ClientSecret, name.to_ascii_lowercase());
        let given = digest_of(principal.kind, secret);
        let now = self.clock.now();
        self.read(|index| {
            let (mut is_known, mut right, mut expired) = (false, Choice::from(0), Choice::from(0));
            for held in index.of(&principal) {
                is_known = true;
                let Proof::Digest(kept) = &held.stored.proof else { continue };
                let is_same = kept.as_bytes().ct_eq(given.as_bytes());
                let current = Choice::from(u8::from(is_current(held, now)));
                right |= is_same & current;
                expired |= is_same & !current;
            }
            match (bool::from(right), bool::from(expired), is_known) {
                (true, ..) => SecretVerdict::Right(principal),
                (_, true, _) => SecretVerdict::Expired,
                (_, _, true) => SecretVerdict::Wrong,
                (_, _, false) => SecretVerdict::UnknownName,
            }
        })
    }

    /// Recognises a client by its id and secret.
    ///
    /// # Errors
    /// [`AuthError::Unauthenticated`].
    pub fn verify_secret(&self, name: &str, secret: &Secret) -> Result<Principal, AuthError> {
        match self.judge_secret(name, secret) {
            SecretVerdict::Right(principal) => Ok(principal),
            SecretVerdict::Expired => Err(EXPIRED),
            SecretVerdict::UnknownName | SecretVerdict::Wrong => Err(WRONG),
        }
    }

    /// Recognises the bearer of a webhook's token, or of the local one.
    ///
    /// # Errors
    /// [`AuthError::Unauthenticated`], also for kinds that are not known by a token alone.
    pub fn verify_token(
        &self,
        kind: PrincipalKind,
        token: &Secret,
    ) -> Result<Principal, AuthError> {
        if !matches!(kind, PrincipalKind::WebhookToken | PrincipalKind::Local) {
            return Err(WRONG);
        }
        self.by_digest(kind, &digest_of(kind, token), |_stored| true)
    }

    /// Recognises an agent by its id, which counts for nothing without the certificate that it
    /// registered, if it did. `certificate` is what the connection presented, in DER.
    ///
    /// # Errors
    /// [`AuthError::Unauthenticated`].
    pub fn verify_agent(
        &self,
        id: &Secret,
        certificate: Option<&[u8]>,
    ) -> Result<Principal, AuthError> {
        let presented = certificate.map(|der| digest("certificate", der));
        let kind = PrincipalKind::Agent;
        self.by_digest(kind, &digest_of(kind, id), |stored| match &stored.proof {
            Proof::Agent { certificate: Some(bound), .. } => presented.as_ref() == Some(bound),
            Proof::Agent { certificate: None, .. } => true,
            Proof::Digest(_) | Proof::Sealed(_) => false,
        })
    }

    /// Recognises a client by its certificate, in DER. That the client holds its key is for the
    /// TLS handshake to prove. A certificate's own validity is not looked at: what counts is that
    /// it was added, has not been revoked and has not passed the credential's expiry.
    ///
    /// # Errors
    /// [`AuthError::Unauthenticated`].
    pub fn verify_certificate(&self, der: &[u8]) -> Result<Principal, AuthError> {
        self.by_digest(PrincipalKind::Certificate, &digest("certificate", der), |_stored| true)
    }

    /// Recognises who signed `message` with HMAC-SHA-256: a shared key's owner by name, or, with
    /// no name, whoever holds one of the registration keys.
    ///
    /// # Errors
    /// [`AuthError::Unauthenticated`], also for kinds that do not sign.
    pub fn verify_mac(
        &self,
        kind: PrincipalKind,
        name: Option<&str>,
        message: &[u8],
        mac: &[u8],
    ) -> Result<Principal, AuthError> {
        let now = self.clock.now();
        let name = name.map(str::to_ascii_lowercase);
        self.read(|index| {
            let is_meant = |held: &&Held| {
                held.stored.principal.kind == kind
                    && name.as_ref().is_none_or(|name| held.stored.principal.name == *name)
            };
            let mut found = Err(WRONG);
            // Every key is tried, so that the time does not tell which one fits.
            for held in index.held.values().filter(is_meant) {
                let Some(key) = &held.key else { continue };
                if fits(key, message, mac) {
                    found = match is_current(held, now) {
                        true => Ok(held.stored.principal.clone()),
                        false => found.or(Err(EXPIRED)),
                    };
                }
            }
            found
        })
    }

    /// The current keys of a principal that signs, for protocols with a signature of their own.
    #[must_use]
    pub fn keys(&self, principal: &Principal) -> Vec<Secret> {
        let now = self.clock.now();
        let name = principal.name.to_ascii_lowercase();
        let principal = Principal::new(principal.kind, name);
        self.read(|index| {
            let current = index.of(&principal).filter(|held| is_current(held, now));
            current.filter_map(|held| held.key.clone()).collect()
        })
    }

    fn by_digest(
        &self,
        kind: PrincipalKind,
        digest: &str,
        also: impl FnOnce(&Stored) -> bool,
    ) -> Result<Principal, AuthError> {
        let now = self.clock.now();
        self.read(|index| match index.by_digest(digest) {
            Some(held) if held.stored.principal.kind != kind || !also(&held.stored) => Err(WRONG),
            Some(held) if !is_current(held, now) => Err(EXPIRED),
            Some(held) => Ok(held.stored.principal.clone()),
            None => Err(WRONG),
        })
    }

    fn read<T>(&self, look: impl FnOnce(&Index) -> T) -> T {
        look(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn apply(&self, index: &mut Index, event: &Event) -> Result<(), CredentialError> {
        let id: CredentialId = event.history.key().parse()?;
        index.versions.insert(id, event.version);
        match Change::open(&event.envelope)? {
            Change::Added(stored) => {
                let key = match &stored.proof {
                    Proof::Sealed(sealed) => {
                        Some(self.ring.open_sealed(sealed, &identity(stored.id))?)
                    }
                    Proof::Digest(_) | Proof::Agent { .. } => None,
                };
                index.insert(stored, key);
            }
            Change::Revoked => index.remove(id),
        }
        Ok(())
    }

    /// Appends one change and applies it. The caller holds `writing`.
    async fn append(
        &self,
        id: CredentialId,
        change: &Change,
        by: &Principal,
    ) -> Result<(), CredentialError> {
        let history = HistoryId::new(KIND, &id.to_string())?;
        let expected = self.read(|index| index.versions.get(&id).copied().unwrap_or(0));
        let envelope = change.seal(self.clock.now(), &by.to_string())?;
        let version = self.journal.append_to(&history, expected, vec![envelope.clone()]).await?;
        let event = Event { position: 0, history, version, envelope };
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        self.apply(&mut index, &event)
    }
}

fn is_current(held: &Held, now: Timestamp) -> bool {
    held.stored.expires.is_none_or(|expires| now < expires)
}

/// What a key is sealed for.
fn identity(id: CredentialId) -> String {
    format!("credential/{id}")
}

/// A secret that is longer than any that is taken has a digest that none is kept under.
fn digest_of(kind: PrincipalKind, secret: &Secret) -> String {
    let bytes = secret.expose();
    digest(&format!("{kind:?}"), &bytes[..bytes.len().min(SECRET_BYTES_MAX + 1)])
}

fn fits(key: &Secret, message: &[u8], mac: &[u8]) -> bool {
    let Ok(mut expected) = Hmac::<Sha256>::new_from_slice(key.expose()) else { return false };
    expected.update(message);
    expected.verify_slice(mac).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::disk::Disk;
    use crate::entropy::SeededEntropy;
    use crate::journal::MemoryJournal;
    use crate::testkit::disk::SimDisk;
    use std::time::Duration;

    struct World {
        journal: Arc<dyn Journal>,
        ring: Arc<KeyRing>,
        clock: Arc<ManualClock>,
        entropy: Arc<dyn Entropy>,
    }

    impl World {
        fn new() -> Self {
            let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(1));
            let disk: Arc<dyn Disk> = Arc::new(SimDisk::default());
            let ring = KeyRing::open_folder(disk, Arc::clone(&entropy), "a", false);
            Self {
                journal: Arc::new(MemoryJournal::default()),
                ring: Arc::new(ring.expect("a ring")),
                clock: Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)),
                entropy,
            }
        }

        async fn open(&self) -> Credentials {
            let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
            let (journal, ring) = (Arc::clone(&self.journal), Arc::clone(&self.ring));
            let opened = Credentials::open(journal, ring, clock, Arc::clone(&self.entropy));
            opened.await.expect("opens")
        }
    }

    fn new(kind: PrincipalKind, name: &str, proof: CredentialKind) -> NewCredential {
        NewCredential { principal: Principal::new(kind, name), expires: None, proof }
    }

    fn mac(key: &Secret, message: &[u8]) -> Vec<u8> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("any length");
        mac.update(message);
        mac.finalize().into_bytes().to_vec()
    }

    const LONG: &str = "a secret of enough length";

    #[tokio::test]
    async fn every_kind_is_recognised_by_its_own_proof_alone_also_after_a_restart() {
        use PrincipalKind as Kind;
        let (world, by) = (World::new(), Principal::local());
        let first = world.open().await;
        let (_, secret) =
            first.draw(Principal::new(Kind::ClientSecret, "App"), None, &by).await.expect("drawn");
        let (_, token) =
            first.draw(Principal::new(Kind::WebhookToken, "hook"), None, &by).await.expect("drawn");
        let (_, local) = first.draw(Principal::local(), None, &by).await.expect("drawn");
        let key = Secret::from(LONG);
        for kind in [Kind::SharedKey, Kind::RegistrationKey] {
            let new = new(kind, "WS", CredentialKind::Key(key.clone()));
            first.add(&new, &by).await.expect("kept");
        }
        let certificate = CredentialKind::Certificate(b"der".to_vec());
        first.add(&new(Kind::Certificate, "", certificate), &by).await.expect("kept");
        let agent = |id: &str, der: Option<&[u8]>| CredentialKind::Agent {
            id: Secret::from(id),
            certificate: der.map(<[u8]>::to_vec),
        };
        let (bound, free) = ("00000000-bound-agent", "00000000-other-agent");
        first.add(&new(Kind::Agent, "n1", agent(bound, Some(b"der"))), &by).await.expect("kept");
        first.add(&new(Kind::Agent, "n2", agent(free, None)), &by).await.expect("kept");

        for credentials in [&first, &world.open().await] {
            let named = |name: &str, kind| Ok(Principal::new(kind, name));
            let app = named("app", Kind::ClientSecret);
            assert_eq!(credentials.verify_secret("APP", &secret), app);
            assert_eq!(credentials.verify_secret("app", &token), Err(WRONG));
            assert_eq!(credentials.judge_secret("no", &secret), SecretVerdict::UnknownName);
            assert_eq!(credentials.judge_secret("app", &token), SecretVerdict::Wrong);
            let hook = named("hook", Kind::WebhookToken);
            assert_eq!(credentials.verify_token(Kind::WebhookToken, &token), hook);
            assert_eq!(credentials.verify_token(Kind::Local, &token), Err(WRONG));
            assert_eq!(credentials.verify_token(Kind::Local, &local), named("local", Kind::Local));
            assert_eq!(credentials.verify_token(Kind::ClientSecret, &secret), Err(WRONG));
            let verify = |kind, name, message: &[u8], mac: &[u8]| {
                credentials.verify_mac(kind, name, message, mac)
            };
            let signed = mac(&key, b"message");
            let shared = named("ws", Kind::SharedKey);
            assert_eq!(verify(Kind::SharedKey, Some("Ws"), b"message", &signed), shared);
            assert_eq!(verify(Kind::SharedKey, Some("other"), b"message", &signed), Err(WRONG));
            assert_eq!(verify(Kind::SharedKey, Some("ws"), b"changed", &signed), Err(WRONG));
            assert_eq!(verify(Kind::SharedKey, Some("ws"), b"message", &signed[1..]), Err(WRONG));
            let node = named("ws", Kind::RegistrationKey);
            assert_eq!(verify(Kind::RegistrationKey, None, b"message", &signed), node);
            assert_eq!(verify(Kind::ClientSecret, None, b"message", &signed), Err(WRONG));
            let owner = credentials.verify_certificate(b"der").expect("known");
            assert_eq!(owner.name, super::super::thumbprint(b"der"));
            assert_eq!(credentials.verify_certificate(b"other"), Err(WRONG));
            let agent = |id: &str, der| credentials.verify_agent(&Secret::from(id), der);
            assert_eq!(agent(bound, Some(b"der")), named("n1", Kind::Agent));
            assert_eq!(agent(bound, None), Err(WRONG), "the id alone is not enough");
            assert_eq!(agent(bound, Some(b"other")), Err(WRONG));
            assert_eq!(agent(free, None), named("n2", Kind::Agent));
            assert_eq!(
                credentials.keys(&Principal::new(Kind::SharedKey, "WS")),
                std::slice::from_ref(&key)
            );
        }
        let again = world.open().await;
        assert!(first.read(|a| again.read(|b| a == b)), "rebuilt equal");
    }

    #[tokio::test]
    async fn what_an_earlier_version_wrote_is_read() {
        use PrincipalKind as Kind;
        let fixtures = crate::testkit::released();
        crate::testkit::Fixture::check::<Change>(&fixtures);
        let (journal, ring) = (fixtures[0].journal().await, crate::testkit::released_ring());
        let world = World { journal: Arc::new(journal), ring: Arc::new(ring), ..World::new() };
        let credentials = world.open().await;
        let verdict = credentials.verify_secret("app", &"the secret of app".into());
        assert_eq!(verdict, Ok(Principal::new(Kind::ClientSecret, "app")));
        let key = credentials.keys(&Principal::new(Kind::SharedKey, "ws"));
        assert_eq!(key, [Secret::from("the shared key of ws")]);
        assert!(credentials.verify_certificate(b"der").is_ok());
        let agent = |der| credentials.verify_agent(&"the agent id of node".into(), der);
        assert_eq!(agent(Some(b"der")), Ok(Principal::new(Kind::Agent, "node")));
        assert_eq!(agent(None), Err(WRONG));
        let revoked = credentials.verify_token(Kind::WebhookToken, &"the token of hook".into());
        assert_eq!(revoked, Err(WRONG));
        world.clock.set("2027-01-01T00:00:00Z".parse().expect("a time"));
        assert_eq!(credentials.verify_secret("app", &"the secret of app".into()), Err(EXPIRED));
    }

    #[tokio::test]
    async fn credentials_expire_and_are_revoked_and_others_of_the_principal_stay() {
        let (world, by) = (World::new(), Principal::local());
        let credentials = world.open().await;
        let app = Principal::new(PrincipalKind::ClientSecret, "app");
        let hour = Timestamp::from_second(3600).expect("a time");
        let (_, short) = credentials.draw(app.clone(), Some(hour), &by).await.expect("drawn");
        let (long, secret) = credentials.draw(app.clone(), None, &by).await.expect("drawn");
        assert!(credentials.verify_secret("app", &short).is_ok());
        world.clock.advance(Duration::from_secs(3600));
        assert_eq!(credentials.verify_secret("app", &short), Err(EXPIRED));
        assert_eq!(credentials.judge_secret("app", &short), SecretVerdict::Expired);
        assert!(credentials.verify_secret("app", &secret).is_ok() && credentials.is_active(&app));
        credentials.revoke(long.id, &by).await.expect("revoked");
        for credentials in [&credentials, &world.open().await] {
            assert_eq!(credentials.verify_secret("app", &secret), Err(WRONG));
            assert!(!credentials.is_active(&app) && credentials.has_known(&app));
            let other = Principal::new(PrincipalKind::SharedKey, "app");
            assert!(!credentials.has_known(&other));
        }
        let gone = credentials.revoke(long.id, &by).await.expect_err("gone");
        assert!(matches!(gone, CredentialError::Unknown { .. }));
    }

    #[tokio::test]
    async fn the_same_secret_vouches_for_one_principal_alone() {
        let (world, by) = (World::new(), Principal::local());
        let credentials = world.open().await;
        let hook =
            |name| new(PrincipalKind::WebhookToken, name, CredentialKind::Secret(LONG.into()));
        let first = credentials.add(&hook("a"), &by).await.expect("kept");
        let second = credentials.add(&hook("b"), &by).await.expect_err("in use");
        assert!(matches!(second, CredentialError::InUse { credential } if credential == first.id));
    }

    #[tokio::test]
    async fn neither_debug_nor_the_journal_shows_a_secret() {
        let (world, by) = (World::new(), Principal::local());
        let credentials = world.open().await;
        for (kind, proof) in [
            (PrincipalKind::ClientSecret, CredentialKind::Secret(LONG.into())),
            (PrincipalKind::SharedKey, CredentialKind::Key(LONG.into())),
            (PrincipalKind::Agent, CredentialKind::Agent { id: LONG.into(), certificate: None }),
        ] {
            let new = new(kind, "x", proof);
            assert!(!format!("{new:?}").contains(LONG));
            credentials.add(&new, &by).await.expect("kept");
        }
        let shown = credentials.read(|index| format!("{index:?} {credentials:?}"));
        let events = world.journal.read_all(0, 100).await.expect("read");
        let journal = format!("{events:?}");
        for text in [&shown, &journal] {
            assert!(!text.contains(LONG) && !text.contains(&URL_SAFE_NO_PAD.encode(LONG)));
        }
        assert_eq!(events.len(), 3);
    }
}
