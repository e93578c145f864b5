//! A vault: one protection container's repository, in restic's format version 2.
//!
//! ```text
//!  config            sealed: version, id, chunker polynomial
//!  keys/ID           the master key, sealed under a passphrase
//!  data/xx/ID        packs of sealed blobs             1 written first
//!  index/ID          which blob lies where             2
//!  snapshots/ID      recovery points                   3 written last
//!  locks/ID          who works on it now
//!  oms/tmp/          files being written; restic ignores it
//! ```
//! A file's name is the SHA-256 of its bytes. What is written last names only what is durable, so
//! a crash at any moment leaves every recovery point whole.
//!
//! A directory vault stands on [`Disk`] and not on an object store: a recovery point is
//! acknowledged only after its bytes *and* the folders that name them are synced, which
//! `object_store`'s local file system does not do, and which `Disk`'s simulation proves.

pub mod chunk;
pub mod crypto;
pub mod format;

mod catalog;
mod holder;
mod lock;
mod reader;
mod store;
mod writer;

pub use catalog::CATALOG_BLOBS_MAX;
pub use holder::Holder;
pub use lock::{LOCK_REFRESH_INTERVAL, LOCK_STALE_AGE};
pub use writer::WriteSettings;

pub(crate) use catalog::{Catalog, Place};
pub(crate) use lock::LockGuard;
pub(crate) use reader::BlobReader;
pub(crate) use store::{FileId, PACK_BYTES_MAX, is_not_found, read_whole};
pub(crate) use writer::{Added, BlobWriter};

use crate::error::Error;
use crate::item::source::{LocalTree, SourceTree};
use crate::operation::{
    BackupOptions, BackupPlan, RestoreOptions, RestorePlan, VerifyOptions, VerifyPlan,
};
use crate::recovery_point::RecoveryPoint;
use chunk::GearTable;
use crypto::{Forged, MasterKey};
use format::{
    Config, FORMAT_VERSION, IndexId, KdfParameters, KeyFile, KeyId, RepositoryId,
    SMALL_FILE_BYTES_MAX, Snapshot, SnapshotId,
};
use oms_core::{Clock, Disk, Entropy, Secret, SystemClock, SystemEntropy};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use store::Store;

pub(crate) const CONFIG: &str = "config";

/// The most key files tried with a passphrase.
const KEYS_MAX: usize = 20;

/// The first byte of a compressed index, snapshot or lock.
const COMPRESSED: u8 = 2;

/// A vault whose passphrase has not been given.
#[derive(Debug)]
pub struct Locked {
    store: Store,
    holder: Holder,
    source_tree: Option<Arc<dyn SourceTree>>,
    kdf: KdfParameters,
}

/// A vault that can be read and written.
#[derive(Clone, Debug)]
pub struct Open {
    pub(crate) core: Arc<Core>,
}

/// What every operation on an open vault shares.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) store: Store,
    pub(crate) holder: Holder,
    source_tree: Option<Arc<dyn SourceTree>>,
    pub(crate) key: MasterKey,
    pub(crate) config: Config,
    pub(crate) gear: GearTable,
}

impl Core {
    /// What backups read.
    pub(crate) fn source_tree(&self) -> Arc<dyn SourceTree> {
        match &self.source_tree {
            Some(tree) => Arc::clone(tree),
            None => Arc::new(LocalTree::load()),
        }
    }
}

/// A vault, [`Locked`] or [`Open`].
///
/// ```text
///  Vault::new(disk) ─► Vault<Locked> ── create(passphrase) ─┬─► Vault<Open> ─► plan_backup,
///                                    └─ open(passphrase) ───┘                  plan_restore, …
/// ```
/// Its calls block on the disk; call them from a blocking thread.
#[derive(Clone, Debug)]
pub struct Vault<S = Open> {
    state: S,
}

impl Vault<Locked> {
    /// The vault that is or will be on `disk`.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        let store = Store { disk, clock: Arc::new(SystemClock), entropy: Arc::new(SystemEntropy) };
        let holder = Holder::this_process();
        let (source_tree, kdf) = (None, KdfParameters::default());
        Self { state: Locked { store, holder, source_tree, kdf } }
    }

    /// Takes the time from `clock`.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.state.store.clock = clock;
        self
    }

    /// Takes keys and nonces from `entropy`, which must be the system's outside of tests.
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.state.store.entropy = entropy;
        self
    }

    /// Names this computer, user and process in locks and recovery points.
    #[must_use]
    pub fn holder(mut self, holder: Holder) -> Self {
        self.state.holder = holder;
        self
    }

    /// Backs up files of this tree in place of this computer's own.
    #[must_use]
    pub fn source_tree(mut self, tree: Arc<dyn SourceTree>) -> Self {
        self.state.source_tree = Some(tree);
        self
    }

    /// Sets the cost of deriving a new key from its passphrase.
    #[must_use]
    pub fn kdf(mut self, kdf: KdfParameters) -> Self {
        self.state.kdf = kdf;
        self
    }

    /// Makes a new vault. `Ok` means durable. What an interrupted `create` left is cleared away;
    /// two programs must not create one vault at the same time.
    ///
    /// # Errors
    /// [`Error::VaultExists`]; [`Error::Invalid`] if there are other files; [`Error::Corrupt`] if there are recovery points but no `config`,
    /// which is a vault to repair and not a place for a new one; [`Error::EmptyPassphrase`];
    /// [`Error::Full`] or [`Error::Disk`].
    pub fn create(self, passphrase: &Secret) -> Result<Vault<Open>, Error> {
        if passphrase.is_empty() {
            return Err(Error::EmptyPassphrase);
        }
        let store = &self.state.store;
        if store.exists(Path::new(CONFIG))? {
            return Err(Error::VaultExists);
        }
        let is_used = !store.list::<SnapshotId>()?.is_empty()
            || !store.list::<IndexId>()?.is_empty()
            || !store.list_packs()?.is_empty();
        if is_used {
            return Err(Error::corrupt(CONFIG, "it is missing, but the vault has data"));
        }
        store.check_free()?;
        store.create_folders()?;
        for leftover in store.list::<KeyId>()? {
            store.remove(leftover)?;
        }
        let config = Config::draw(&*store.entropy);
        let key = MasterKey::draw(&*store.entropy);
        write_key(&self.state, passphrase, &key)?;
        let json = config.to_bytes().map_err(Error::format(CONFIG))?;
        // The configuration is what makes a folder a vault, so it comes last.
        store.write_as(Path::new(CONFIG), &key.seal(&json, &*store.entropy))?;
        Ok(Vault::unlocked(self.state, key, config))
    }

    /// Opens a vault.
    ///
    /// # Errors
    /// [`Error::VaultNotFound`], [`Error::WrongPassphrase`], [`Error::Corrupt`] with the damaged
    /// key file or `config`, [`Error::Unsupported`] for another format version.
    pub fn open(self, passphrase: &Secret) -> Result<Vault<Open>, Error> {
        if passphrase.is_empty() {
            return Err(Error::EmptyPassphrase);
        }
        let store = &self.state.store;
        let sealed = match store.read_path(Path::new(CONFIG), SMALL_FILE_BYTES_MAX) {
            Err(Error::Disk(error)) if is_not_found(&error) => return Err(Error::VaultNotFound),
            sealed => sealed?,
        };
        let key = find_key(store, passphrase)?;
        let json = key
            .open(&sealed)
            .map_err(|Forged| Error::corrupt(CONFIG, "its authentication code does not match"))?;
        let config = Config::parse(&json).map_err(Error::format(CONFIG))?;
        if config.version != FORMAT_VERSION {
            let what = format!("repository format version {}, only 2", config.version);
            return Err(Error::Unsupported { what });
        }
        Ok(Vault::unlocked(self.state, key, config))
    }
}

/// Writes a key file that opens with `passphrase`.
fn write_key(locked: &Locked, passphrase: &Secret, key: &MasterKey) -> Result<KeyId, Error> {
    let Locked { store, holder, kdf, .. } = locked;
    let mut salt = vec![0; 64];
    store.entropy.fill(&mut salt);
    let sealing =
        MasterKey::derive(passphrase, &salt, *kdf).map_err(Error::format(KeyId::FOLDER))?;
    let json = key.to_json().map_err(Error::format(KeyId::FOLDER))?;
    let file = KeyFile {
        created: store.clock.now(),
        username: holder.username.clone(),
        hostname: holder.hostname.clone(),
        kdf: "scrypt".to_owned(),
        n: 1 << kdf.log_n,
        r: kdf.r,
        p: kdf.p,
        salt,
        data: sealing.seal(&json, &*store.entropy),
    };
    store.write(&file.to_bytes().map_err(Error::format(KeyId::FOLDER))?)
}

/// The master key, from the first key file that the passphrase opens. A damaged key file does not
/// hide an intact one, but is named if none opens.
fn find_key(store: &Store, passphrase: &Secret) -> Result<MasterKey, Error> {
    let ids = store.list::<KeyId>()?;
    if ids.is_empty() {
        return Err(Error::corrupt(KeyId::FOLDER, "there is no key file"));
    }
    let mut damage = None;
    for id in ids.iter().take(KEYS_MAX) {
        match try_key(store, passphrase, *id) {
            Ok(Some(key)) => return Ok(key),
            Ok(None) => {}
            Err(error) => damage = damage.or(Some(error)),
        }
    }
    Err(damage.unwrap_or(Error::WrongPassphrase { keys: ids.len() }))
}

fn try_key(store: &Store, passphrase: &Secret, id: KeyId) -> Result<Option<MasterKey>, Error> {
    let path = id.path().display().to_string();
    let file = KeyFile::parse(&store.read(id)?).map_err(Error::format(path.clone()))?;
    let kdf = file.parameters().map_err(Error::format(path.clone()))?;
    let sealing =
        MasterKey::derive(passphrase, &file.salt, kdf).map_err(Error::format(path.clone()))?;
    match sealing.open(&file.data) {
        Ok(json) => MasterKey::parse(&json).map(Some).map_err(Error::format(path)),
        Err(Forged) => Ok(None),
    }
}

impl Vault<Open> {
    fn unlocked(locked: Locked, key: MasterKey, config: Config) -> Self {
        let gear = GearTable::derive(&config);
        let Locked { store, holder, source_tree, .. } = locked;
        let core = Core { store, holder, source_tree, key, config, gear };
        Self { state: Open { core: Arc::new(core) } }
    }

    /// The vault's own id, the same for its life.
    #[must_use]
    pub fn id(&self) -> RepositoryId {
        self.state.core.config.id
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.state.core
    }

    /// Every recovery point, oldest first.
    ///
    /// # Errors
    /// [`Error::Corrupt`] names the damaged snapshot file; [`Error::Disk`].
    pub fn points(&self) -> Result<Vec<RecoveryPoint>, Error> {
        let mut points = Vec::new();
        for id in self.core().store.list::<SnapshotId>()? {
            let snapshot = match self.core().read_snapshot(id) {
                // Deleted since the listing.
                Err(Error::Disk(error)) if is_not_found(&error) => continue,
                snapshot => snapshot?,
            };
            points.push(RecoveryPoint::new(id, snapshot));
        }
        points.sort_by_key(|point| (point.snapshot.time, point.id));
        Ok(points)
    }

    /// The recovery point named by `latest`, an id, or the first digits of one.
    ///
    /// # Errors
    /// [`Error::PointNotFound`], [`Error::PointAmbiguous`], and those of [`points`](Self::points).
    pub fn point(&self, name: &str) -> Result<RecoveryPoint, Error> {
        let not_found = || Error::PointNotFound { id: name.chars().take(100).collect() };
        if name == "latest" {
            return self.points()?.pop().ok_or_else(not_found);
        }
        let fits = |id: &SnapshotId| !name.is_empty() && id.to_string().starts_with(name);
        let ids: Vec<SnapshotId> =
            self.core().store.list::<SnapshotId>()?.into_iter().filter(fits).collect();
        match ids.as_slice() {
            [] => Err(not_found()),
            [id] => Ok(RecoveryPoint::new(*id, self.core().read_snapshot(*id)?)),
            [first, second, ..] => {
                Err(Error::PointAmbiguous { id: name.to_owned(), first: *first, second: *second })
            }
        }
    }

    /// Plans a backup of files and folders.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::Source`] for a path that cannot be backed up.
    pub fn plan_backup(&self, options: &BackupOptions) -> Result<BackupPlan, Error> {
        BackupPlan::new(self, options)
    }

    /// Plans a restore.
    ///
    /// # Errors
    /// [`Error::PointNotFound`], [`Error::PathNotFound`], [`Error::Conflict`], and damage.
    pub fn plan_restore(&self, options: &RestoreOptions) -> Result<RestorePlan, Error> {
        RestorePlan::new(self, options)
    }

    /// Plans a check of the vault.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn plan_verify(&self, options: &VerifyOptions) -> Result<VerifyPlan, Error> {
        VerifyPlan::new(self, options)
    }
}

impl Core {
    /// Compresses and seals an index, snapshot or lock.
    pub(crate) fn seal_file(&self, json: &[u8]) -> Result<Vec<u8>, Error> {
        let mut plain = vec![COMPRESSED];
        let compressed = zstd::bulk::compress(json, 3)
            .map_err(|error| Error::Internal { reason: format!("zstd failed: {error}") })?;
        plain.extend_from_slice(&compressed);
        Ok(self.key.seal(&plain, &*self.store.entropy))
    }

    /// Opens an index, snapshot or lock, of at most `limit` bytes of JSON.
    pub(crate) fn open_file(
        &self,
        path: &str,
        sealed: &[u8],
        limit: usize,
    ) -> Result<Vec<u8>, Error> {
        let plain = self
            .key
            .open(sealed)
            .map_err(|Forged| Error::corrupt(path, "its authentication code does not match"))?;
        match plain.split_first() {
            Some((b'{' | b'[', _)) => Ok(plain),
            Some((&COMPRESSED, compressed)) => {
                let damaged =
                    |error: std::io::Error| Error::corrupt(path, format!("no zstd frame: {error}"));
                let mut json = Vec::new();
                let decoder = zstd::stream::read::Decoder::new(compressed).map_err(damaged)?;
                decoder.take(limit as u64 + 1).read_to_end(&mut json).map_err(damaged)?;
                if json.len() > limit {
                    let (actual, limit) = (json.len() as u64, limit as u64);
                    return Err(Error::TooLarge { what: "vault file", actual, limit });
                }
                Ok(json)
            }
            _ => Err(Error::corrupt(path, "its content is neither JSON nor compressed")),
        }
    }

    pub(crate) fn read_snapshot(&self, id: SnapshotId) -> Result<Snapshot, Error> {
        let path = id.path().display().to_string();
        let json = self.open_file(&path, &self.store.read(id)?, SMALL_FILE_BYTES_MAX)?;
        Snapshot::parse(&json).map_err(Error::format(path))
    }
}
