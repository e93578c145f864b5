//! Account keys, and the values they seal.

use super::{FileKeyProvider, KeyProvider, Secret, provider};
use crate::ErrorKind;
use crate::disk::{Disk, DiskError, DiskExt as _, OpenMode};
use crate::entropy::Entropy;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

/// Length of every key, in bytes.
pub(super) const KEY_BYTES: usize = 32;

/// Length of a nonce, in bytes.
const NONCE_BYTES: usize = 24;

/// The largest value that is sealed, in bytes.
pub const SEALED_BYTES_MAX: usize = 1 << 20;

/// The ring's file, below the disk's folder.
const FILE: &str = "ring.json";

/// The name of the file while it is being written.
const FILE_NEW: &str = "ring.json.new";

/// Why a value was not sealed or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key-encryption key is not there. Put its copy back; a new one would open nothing.
    #[error("key-encryption key is missing beside existing data")]
    Missing,
    /// The account keys are not there. Put their copy back; new ones would open nothing.
    #[error("key ring is missing beside existing data. account=`{account}`")]
    MissingRing {
        /// Whose keys.
        account: String,
    },
    /// There is a key-encryption key already, or a key ring.
    #[error("key or key ring exists already")]
    Exists,
    /// The key file is not one.
    #[error("key file has the wrong length. found=`{found}`, expected=`{expected}`")]
    Length {
        /// In bytes.
        found: u64,
        /// In bytes.
        expected: usize,
    },
    /// The value was sealed with a key that this ring does not have.
    #[error("account key is not in the ring. key=`{key}`")]
    UnknownKey {
        /// Its number.
        key: u32,
    },
    /// The key, the identity or the bytes are not those it was sealed with.
    #[error("sealed bytes do not open: wrong key, moved or changed")]
    Refused,
    /// The text is not a sealed value.
    #[error("not a sealed value. reason=`{reason}`")]
    Format {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The ring's file cannot be read.
    #[error("key ring is damaged. reason=`{reason}`")]
    Corrupt {
        /// Where it cannot be read.
        reason: String,
    },
    /// The value is larger than what is sealed.
    #[error("value is too large to seal. bytes=`{bytes}`, limit=`{SEALED_BYTES_MAX}`")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// The disk did not do what it was asked.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl KeyError {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing | Self::MissingRing { .. } | Self::UnknownKey { .. } => {
                ErrorKind::PreconditionFailed
            }
            Self::Exists => ErrorKind::AlreadyExists,
            Self::Length { .. } | Self::Refused | Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Format { .. } => ErrorKind::Invalid,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Disk(error) => error.kind(),
        }
    }
}

/// Encrypts with a fresh nonce, which stands first.
pub(super) fn seal_bytes(
    key: &Secret,
    plain: &[u8],
    context: &[u8],
    entropy: &dyn Entropy,
) -> Result<Vec<u8>, KeyError> {
    let mut nonce = [0; NONCE_BYTES];
    entropy.fill(&mut nonce);
    let payload = Payload { msg: plain, aad: context };
    let sealed = cipher(key)?.encrypt(&XNonce::from(nonce), payload);
    let sealed = sealed.map_err(|_too_long| KeyError::TooLarge { bytes: plain.len() })?;
    Ok([&nonce[..], &sealed].concat())
}

/// Decrypts what [`seal_bytes`] gave.
pub(super) fn open_bytes(key: &Secret, sealed: &[u8], context: &[u8]) -> Result<Secret, KeyError> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(KeyError::Refused)?;
    let payload = Payload { msg: sealed, aad: context };
    let plain = cipher(key)?.decrypt(&XNonce::from(*nonce), payload);
    plain.map(Secret::new).map_err(|_wrong| KeyError::Refused)
}

fn cipher(key: &Secret) -> Result<XChaCha20Poly1305, KeyError> {
    XChaCha20Poly1305::new_from_slice(key.expose()).map_err(|_length| KeyError::Refused)
}

/// A sealed value, as text for storage: `s1.KEY.WRAPPED.VALUE`, the last two in base64url.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sealed {
    key: u32,
    wrapped: Vec<u8>,
    value: Vec<u8>,
}

impl fmt::Display for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        write!(f, "s1.{}.{}.{}", self.key, text(&self.wrapped), text(&self.value))
    }
}

impl FromStr for Sealed {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let refuse = |reason| KeyError::Format { reason };
        let mut parts = text.split('.');
        let mut next = || parts.next().ok_or_else(|| refuse("too few parts"));
        if next()? != "s1" {
            return Err(refuse("unknown version"));
        }
        let key = next()?.parse().map_err(|_nan| refuse("key is not a number"))?;
        let decode = |text: &str| {
            URL_SAFE_NO_PAD.decode(text).map_err(|_bad| refuse("a part is not base64url"))
        };
        let (wrapped, value) = (decode(next()?)?, decode(next()?)?);
        match parts.next() {
            None => Ok(Self { key, wrapped, value }),
            Some(_) => Err(refuse("too many parts")),
        }
    }
}

impl TryFrom<String> for Sealed {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<Sealed> for String {
    fn from(sealed: Sealed) -> Self {
        sealed.to_string()
    }
}

/// What is kept: account keys, wrapped.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    format: u32,
    /// By number; the highest seals.
    keys: BTreeMap<u32, String>,
}

/// The account keys of one owner.
pub struct KeyRing {
    disk: Arc<dyn Disk>,
    provider: Arc<dyn KeyProvider>,
    entropy: Arc<dyn Entropy>,
    account: String,
    keys: BTreeMap<u32, Secret>,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&u32> = self.keys.keys().collect();
        f.debug_struct("KeyRing").field("account", &self.account).field("keys", &keys).finish()
    }
}

impl KeyRing {
    /// Begins the ring of `account` with its first key.
    ///
    /// # Errors
    /// [`KeyError::Exists`] if the disk has one: it is never replaced.
    pub fn create(
        disk: Arc<dyn Disk>,
        provider: Arc<dyn KeyProvider>,
        entropy: Arc<dyn Entropy>,
        account: &str,
    ) -> Result<Self, KeyError> {
        if has_file(&*disk, FILE)? {
            return Err(KeyError::Exists);
        }
        let account = account.to_owned();
        let mut ring = Self { disk, provider, entropy, account, keys: BTreeMap::new() };
        ring.rotate_account_key()?;
        Ok(ring)
    }

    /// Opens the ring of `account`.
    ///
    /// # Errors
    /// [`KeyError::MissingRing`] if there is none: a ring beside existing data is never begun anew;
    /// [`KeyError::Refused`] if the provider's key or the account is another;
    /// [`KeyError::Corrupt`] if the file cannot be read.
    pub fn open(
        disk: Arc<dyn Disk>,
        provider: Arc<dyn KeyProvider>,
        entropy: Arc<dyn Entropy>,
        account: &str,
    ) -> Result<Self, KeyError> {
        let account = account.to_owned();
        if !has_file(&*disk, FILE)? {
            return Err(KeyError::MissingRing { account });
        }
        let mut ring = Self { disk, provider, entropy, account, keys: BTreeMap::new() };
        ring.load()?;
        Ok(ring)
    }

    /// Opens the ring and the key-encryption key of one folder, the default of a service that
    /// starts. What is missing is drawn only if there is nothing yet that it would have to open:
    /// neither data (`has_data`, which the caller knows: the journal or the store holds something)
    /// nor, for the key-encryption key, a ring.
    ///
    /// # Errors
    /// [`KeyError::Missing`] or [`KeyError::MissingRing`] beside existing data; those of
    /// [`KeyRing::open`].
    pub fn open_folder(
        disk: Arc<dyn Disk>,
        entropy: Arc<dyn Entropy>,
        account: &str,
        has_data: bool,
    ) -> Result<Self, KeyError> {
        let has_ring = has_file(&*disk, FILE)?;
        let is_new = !has_data && !has_ring && !has_file(&*disk, provider::FILE)?;
        let provider: Arc<dyn KeyProvider> = match is_new {
            true => Arc::new(FileKeyProvider::create(&*disk, Arc::clone(&entropy))?),
            false => Arc::new(FileKeyProvider::open(&*disk, Arc::clone(&entropy))?),
        };
        match has_data || has_ring {
            true => Self::open(disk, provider, entropy, account),
            // Also after a crash between the key and the first ring.
            false => Self::create(disk, provider, entropy, account),
        }
    }

    /// Seals a value for `identity`, which says whose it is: a table and row, a credential's name.
    ///
    /// # Errors
    /// [`KeyError::TooLarge`].
    pub fn seal(&self, value: &Secret, identity: &str) -> Result<Sealed, KeyError> {
        let bytes = value.expose().len();
        if bytes > SEALED_BYTES_MAX {
            return Err(KeyError::TooLarge { bytes });
        }
        let (key, account_key) = self.newest()?;
        let data_key = self.draw();
        let value =
            seal_bytes(&data_key, value.expose(), &self.value_context(identity), &*self.entropy)?;
        let context = self.data_key_context(key, identity);
        let wrapped = seal_bytes(account_key, data_key.expose(), &context, &*self.entropy)?;
        Ok(Sealed { key, wrapped, value })
    }

    /// Opens what was sealed for the same identity.
    ///
    /// # Errors
    /// [`KeyError::Refused`] if it was sealed for another, or changed.
    pub fn open_sealed(&self, sealed: &Sealed, identity: &str) -> Result<Secret, KeyError> {
        let data_key = self.data_key(sealed, identity)?;
        open_bytes(&data_key, &sealed.value, &self.value_context(identity))
    }

    /// Wraps a value's data key with the newest account key. The value itself is not encrypted
    /// again.
    ///
    /// # Errors
    /// [`KeyError::Refused`] if it was sealed for another, or its key changed.
    pub fn rewrap(&self, sealed: &Sealed, identity: &str) -> Result<Sealed, KeyError> {
        let data_key = self.data_key(sealed, identity)?;
        let (key, account_key) = self.newest()?;
        let context = self.data_key_context(key, identity);
        let wrapped = seal_bytes(account_key, data_key.expose(), &context, &*self.entropy)?;
        Ok(Sealed { key, wrapped, value: sealed.value.clone() })
    }

    /// Adds an account key, which seals from now on. Older ones still open.
    ///
    /// # Errors
    /// [`KeyError`]; the ring is then as it was.
    pub fn rotate_account_key(&mut self) -> Result<u32, KeyError> {
        let last = self.keys.keys().next_back().copied().unwrap_or(0);
        let number = last.checked_add(1).ok_or_else(|| KeyError::Corrupt {
            reason: format!("account key {last} is the last"),
        })?;
        let mut keys = self.keys.clone();
        keys.insert(number, self.draw());
        self.save(&*self.provider, &keys)?;
        self.keys = keys;
        Ok(number)
    }

    /// Wraps the account keys with another provider's key. No sealed value changes.
    ///
    /// # Errors
    /// [`KeyError`]; the ring is then as it was.
    pub fn rotate_provider(&mut self, provider: Arc<dyn KeyProvider>) -> Result<(), KeyError> {
        self.save(&*provider, &self.keys)?;
        self.provider = provider;
        Ok(())
    }

    fn data_key(&self, sealed: &Sealed, identity: &str) -> Result<Secret, KeyError> {
        let key = sealed.key;
        let account_key = self.keys.get(&key).ok_or(KeyError::UnknownKey { key })?;
        open_bytes(account_key, &sealed.wrapped, &self.data_key_context(key, identity))
    }

    fn newest(&self) -> Result<(u32, &Secret), KeyError> {
        let newest = self.keys.iter().next_back().map(|(number, key)| (*number, key));
        newest.ok_or(KeyError::UnknownKey { key: 0 })
    }

    fn draw(&self) -> Secret {
        let mut bytes = vec![0; KEY_BYTES];
        self.entropy.fill(&mut bytes);
        Secret::new(bytes)
    }

    fn account_key_context(&self, key: u32) -> Vec<u8> {
        context(&["account-key", &self.account, &key.to_string()])
    }

    fn data_key_context(&self, key: u32, identity: &str) -> Vec<u8> {
        context(&["data-key", &self.account, &key.to_string(), identity])
    }

    fn value_context(&self, identity: &str) -> Vec<u8> {
        context(&["value", &self.account, identity])
    }

    fn load(&mut self) -> Result<(), KeyError> {
        let corrupt = |reason: String| KeyError::Corrupt { reason };
        // What is sealed with a key must not outlive it.
        self.disk.settle(Path::new(FILE))?;
        let file = self.disk.open(Path::new(FILE), OpenMode::Read)?;
        let length = usize::try_from(file.len()?).unwrap_or(usize::MAX);
        if length > SEALED_BYTES_MAX {
            return Err(corrupt(format!("file of {length} bytes")));
        }
        let mut bytes = vec![0; length];
        file.read_at(0, &mut bytes)?;
        let stored: Stored =
            serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
        if stored.format != 1 {
            return Err(corrupt(format!("format {} is not known here", stored.format)));
        }
        for (number, wrapped) in stored.keys {
            let wrapped = URL_SAFE_NO_PAD
                .decode(wrapped)
                .map_err(|error| corrupt(format!("key {number}: {error}")))?;
            let key = self.provider.unwrap_key(&wrapped, &self.account_key_context(number))?;
            self.keys.insert(number, key);
        }
        Ok(())
    }

    fn save(
        &self,
        provider: &dyn KeyProvider,
        keys: &BTreeMap<u32, Secret>,
    ) -> Result<(), KeyError> {
        let mut wrapped = BTreeMap::new();
        for (number, key) in keys {
            let bytes = provider.wrap_key(key, &self.account_key_context(*number))?;
            wrapped.insert(*number, URL_SAFE_NO_PAD.encode(bytes));
        }
        let text = serde_json::to_vec_pretty(&Stored { format: 1, keys: wrapped })
            .map_err(|error| KeyError::Corrupt { reason: error.to_string() })?;
        let file = self.disk.open(Path::new(FILE_NEW), OpenMode::OpenOrCreate)?;
        file.set_len(0)?;
        file.write_at(0, &text)?;
        file.sync()?;
        self.disk.rename(Path::new(FILE_NEW), Path::new(FILE))?;
        Ok(self.disk.sync_dir(Path::new(""))?)
    }
}

fn has_file(disk: &dyn Disk, name: &str) -> Result<bool, KeyError> {
    Ok(disk.list(Path::new(""))?.iter().any(|found| found == name))
}

/// Parts with their lengths, so that no two lists of parts give the same bytes.
fn context(parts: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;
    use crate::testkit::disk::SimDisk;

    fn entropy(seed: u64) -> Arc<dyn Entropy> {
        Arc::new(SeededEntropy::new(seed))
    }

    fn provider(seed: u64) -> Arc<dyn KeyProvider> {
        let disk = SimDisk::default();
        Arc::new(FileKeyProvider::create(&disk, entropy(seed)).expect("a new key"))
    }

    fn ring(disk: &SimDisk, provider: &Arc<dyn KeyProvider>) -> Result<KeyRing, KeyError> {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let open = match has_file(&*disk, FILE)? {
            true => KeyRing::open,
            false => KeyRing::create,
        };
        open(disk, Arc::clone(provider), entropy(9), "account")
    }

    #[test]
    fn a_sealed_value_opens_for_its_identity_alone_also_after_a_restart() {
        let (disk, provider) = (SimDisk::default(), provider(1));
        let sealed = {
            let ring = ring(&disk, &provider).expect("a new ring");
            ring.seal(&"hunter2".into(), "credential/a").expect("sealed").to_string()
        };
        assert!(!sealed.contains("hunter2"));
        disk.crash(&SeededEntropy::new(1));
        let ring = ring(&disk, &provider).expect("the same ring");
        let sealed: Sealed = sealed.parse().expect("sealed text");
        assert_eq!(ring.open_sealed(&sealed, "credential/a").expect("opens").expose(), b"hunter2");
        let moved = ring.open_sealed(&sealed, "credential/b").expect_err("moved");
        assert!(matches!(moved, KeyError::Refused));
    }

    #[test]
    fn changed_truncated_and_foreign_text_is_refused() {
        let ring = ring(&SimDisk::default(), &provider(1)).expect("a new ring");
        let text = ring.seal(&"hunter2".into(), "a").expect("sealed").to_string();
        for cut in 0..text.len() {
            let opened = text[..cut].parse().and_then(|sealed| ring.open_sealed(&sealed, "a"));
            assert!(opened.is_err(), "cut at {cut}");
        }
        let sealed: Sealed = text.parse().expect("sealed text");
        for index in 0..sealed.value.len() {
            let mut changed = sealed.clone();
            changed.value[index] ^= 1;
            assert!(ring.open_sealed(&changed, "a").is_err(), "changed at {index}");
        }
        for bad in ["", "s2.1.AA.AA", "s1.x.AA.AA", "s1.1.!.AA", "s1.1.AA.AA.AA"] {
            assert!(matches!(bad.parse::<Sealed>(), Err(KeyError::Format { .. })), "{bad}");
        }
        let unknown = ring.open_sealed(&"s1.7.AA.AA".parse().expect("form"), "a");
        assert!(matches!(unknown, Err(KeyError::UnknownKey { key: 7 })));
    }

    #[test]
    fn another_key_encryption_key_is_refused_and_a_missing_one_never_drawn_anew() {
        let disk = SimDisk::default();
        drop(ring(&disk, &provider(1)).expect("a new ring"));
        assert!(matches!(ring(&disk, &provider(2)), Err(KeyError::Refused)));
        let keys = SimDisk::default();
        assert!(matches!(FileKeyProvider::open(&keys, entropy(1)), Err(KeyError::Missing)));
        FileKeyProvider::create(&keys, entropy(1)).expect("a new key");
        assert!(matches!(FileKeyProvider::create(&keys, entropy(2)), Err(KeyError::Exists)));
        FileKeyProvider::open(&keys, entropy(3)).expect("the same key");
    }

    #[test]
    fn a_folder_begins_once_and_never_again_beside_data() {
        let folder = |disk: &SimDisk, has_data| {
            let disk: Arc<dyn Disk> = Arc::new(disk.clone());
            KeyRing::open_folder(disk, entropy(5), "account", has_data)
        };
        let disk = SimDisk::default();
        assert!(matches!(folder(&disk, true), Err(KeyError::Missing)), "neither, beside data");
        let sealed = folder(&disk, false).expect("begun").seal(&"x".into(), "a").expect("sealed");
        let again = folder(&disk, true).expect("opened");
        assert_eq!(again.open_sealed(&sealed, "a").expect("opens").expose(), b"x");
        assert!(folder(&disk, false).expect("opened").open_sealed(&sealed, "a").is_ok());

        let without = |names: &[&str]| {
            let disk = SimDisk::default();
            folder(&disk, false).expect("begun");
            for name in names {
                disk.remove(Path::new(name)).expect("it was there");
            }
            disk
        };
        for has_data in [true, false] {
            let missing = folder(&without(&["kek"]), has_data);
            assert!(matches!(missing, Err(KeyError::Missing)), "a ring is data too");
        }
        let missing = folder(&without(&[FILE]), true).expect_err("no ring beside data");
        assert!(matches!(&missing, KeyError::MissingRing { account } if account == "account"));
        assert_eq!(missing.kind(), ErrorKind::PreconditionFailed);
        assert!(folder(&without(&[FILE]), false).is_ok(), "a crash before the first ring");
        assert!(matches!(folder(&without(&["kek", FILE]), true), Err(KeyError::Missing)));
        let disk: Arc<dyn Disk> = Arc::new(without(&[]));
        let created = KeyRing::create(disk, provider(1), entropy(1), "account");
        assert!(matches!(created, Err(KeyError::Exists)));
    }

    /// Every part of the text: another key, row, account or provider, each bit, each length.
    #[test]
    fn values_of_other_rings_and_accounts_are_refused() {
        let (disk, provider) = (SimDisk::default(), provider(1));
        let ours = ring(&disk, &provider).expect("a new ring");
        let sealed = ours.seal(&"hunter2".into(), "a").expect("sealed");
        for index in 0..sealed.wrapped.len() {
            let mut changed = sealed.clone();
            changed.wrapped[index] ^= 0x80;
            assert!(matches!(ours.open_sealed(&changed, "a"), Err(KeyError::Refused)), "{index}");
        }
        // The value of one row under the data key of another.
        let other = ours.seal(&"hunter3".into(), "b").expect("sealed");
        let mixed = Sealed { value: other.value.clone(), ..sealed.clone() };
        assert!(matches!(ours.open_sealed(&mixed, "a"), Err(KeyError::Refused)));
        assert!(matches!(ours.open_sealed(&mixed, "b"), Err(KeyError::Refused)));
        let empty: Arc<dyn Disk> = Arc::new(SimDisk::default());
        let theirs = KeyRing::create(empty, Arc::clone(&provider), entropy(10), "account");
        let opened = theirs.expect("another ring").open_sealed(&sealed, "a");
        assert!(matches!(opened, Err(KeyError::Refused)));
        let same_disk: Arc<dyn Disk> = Arc::new(disk);
        let renamed = KeyRing::open(same_disk, provider, entropy(9), "another account");
        assert!(matches!(renamed, Err(KeyError::Refused)), "a ring is bound to its account");
    }

    #[test]
    fn rotation_wraps_again_and_does_not_encrypt_again() {
        let (disk, old, new) = (SimDisk::default(), provider(1), provider(2));
        let mut ring_ = ring(&disk, &old).expect("a new ring");
        let first = ring_.seal(&"hunter2".into(), "a").expect("sealed");
        assert_eq!(ring_.rotate_account_key().expect("rotated"), 2);
        assert_eq!(ring_.open_sealed(&first, "a").expect("still opens").expose(), b"hunter2");
        let again = ring_.rewrap(&first, "a").expect("wrapped again");
        assert_eq!((again.key, &again.value), (2, &first.value));
        assert!(ring_.rewrap(&first, "b").is_err());
        ring_.rotate_provider(Arc::clone(&new)).expect("rotated");
        assert!(matches!(ring(&disk, &old), Err(KeyError::Refused)));
        let reopened = ring(&disk, &new).expect("the new provider's");
        assert_eq!(reopened.open_sealed(&again, "a").expect("opens").expose(), b"hunter2");
    }

    #[test]
    fn a_crash_in_a_rotation_leaves_the_old_ring_or_the_new_one() {
        for operations in 0..8 {
            for seed in 0..20 {
                let (disk, provider) = (SimDisk::default(), provider(1));
                let mut ring_ = ring(&disk, &provider).expect("a new ring");
                let sealed = ring_.seal(&"x".into(), "a").expect("sealed");
                disk.fail_after(operations, std::io::ErrorKind::Other);
                let rotated = ring_.rotate_account_key();
                disk.crash(&SeededEntropy::new(seed));
                let ring = ring(&disk, &provider).expect("a ring, old or new");
                assert!(ring.open_sealed(&sealed, "a").is_ok(), "{operations} {seed}");
                assert!(rotated.is_err() || ring.keys.len() == 2, "{operations} {seed}");
            }
        }
    }

    /// What was sealed opens after a power failure, also where the process before was killed in the
    /// middle of making or rotating the keys that it is sealed with.
    #[test]
    fn what_is_sealed_does_not_outlive_its_keys() {
        use crate::testkit::crash::kill_at_every_operation;
        use std::sync::Mutex;
        let open = |disk: &SimDisk| {
            let disk: Arc<dyn Disk> = Arc::new(disk.clone());
            KeyRing::open_folder(disk, entropy(5), "account", false)
        };
        let work = |disk: &SimDisk, sealed: &Mutex<Vec<Sealed>>| {
            let seal = || -> Result<(), KeyError> {
                let mut ring = open(disk)?;
                let mut sealed = sealed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                sealed.push(ring.seal(&"x".into(), "a")?);
                if ring.keys.len() == 1 {
                    ring.rotate_account_key()?;
                    sealed.push(ring.seal(&"x".into(), "a")?);
                }
                Ok(())
            };
            seal().is_ok()
        };
        let audit = |disk: &SimDisk, sealed: Mutex<Vec<Sealed>>| {
            let ring = open(disk).expect("the ring");
            for sealed in sealed.into_inner().expect("not poisoned") {
                assert_eq!(ring.open_sealed(&sealed, "a").expect("opens").expose(), b"x");
            }
        };
        let operations = kill_at_every_operation(12, |_disk| Mutex::default(), work, audit);
        assert!(operations > 15, "{operations}");
    }

    #[test]
    fn nothing_shows_a_key() {
        let ring = ring(&SimDisk::default(), &provider(1)).expect("a new ring");
        assert_eq!(format!("{ring:?}"), "KeyRing { account: \"account\", keys: [1] }");
        assert_eq!(format!("{:?}", provider(1)), "FileKeyProvider { .. }");
    }
}
