//! Writing blobs: many threads compress and seal, one stores packs.
//!
//! ```text
//!  add(kind, bytes)          workers                    storer
//!  hash ─► known? ──queue──► compress ─► seal ─► pack ──queue──► sync pack ─► index
//!            │ yes                                 (16 MiB)
//!            ▼
//!         its id
//! ```
//! The caller's thread hashes, so it knows each id at once and nothing is sent twice. Both queues
//! are bounded; a slow vault slows the caller down. Packs are durable before an index names them.

use super::catalog::{BlobMap, Catalog};
use super::format::{
    BLOB_BYTES_MAX, BlobId, BlobKind, IndexFile, IndexId, IndexedBlob, IndexedPack, PackBuilder,
    PackId,
};
use super::lock::LockGuard;
use super::{Core, store::FileId as _};
use crate::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// How many blobs wait for each worker.
const WAITING_BLOBS_PER_WORKER_MAX: usize = 2;

/// How many full packs wait for the storer.
const WAITING_PACKS_MAX: usize = 1;

/// How many blobs a pack holds at most; their list stays far below its limit of 16 MiB.
const PACK_BLOBS_MAX: usize = 10_000;

/// An index file is written after this many blobs, as restic does, or this many packs, so that a
/// long backup that is interrupted need not store them again.
const INDEX_BLOBS_MAX: usize = 50_000;
const INDEX_PACKS_MAX: usize = 64;

/// Blobs below this many bytes are compressed without a trial.
const TRIAL_BYTES_MIN: usize = 32 << 10;

/// How a backup stores.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WriteSettings {
    /// The threads that compress and seal, 1 to 64.
    pub workers: usize,
    /// The zstd level, 1 to 19.
    pub compression_level: i32,
    /// The size at which a pack is closed, in bytes, 1 MiB to 128 MiB.
    pub pack_bytes: usize,
}

impl Default for WriteSettings {
    fn default() -> Self {
        let workers = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 16);
        Self { workers, compression_level: 3, pack_bytes: 16 << 20 }
    }
}

impl WriteSettings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the setting.
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |what, value: String, reason| Err(Error::Invalid { what, value, reason });
        if !(1..=64).contains(&self.workers) {
            return refuse("workers", self.workers.to_string(), "not 1 to 64");
        }
        if !(1..=19).contains(&self.compression_level) {
            return refuse("compression_level", self.compression_level.to_string(), "not 1 to 19");
        }
        if !(1 << 20..=128 << 20).contains(&self.pack_bytes) {
            return refuse("pack_bytes", self.pack_bytes.to_string(), "not 1 MiB to 128 MiB");
        }
        Ok(())
    }
}

/// What was added.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Added {
    pub(crate) data_blobs: u64,
    pub(crate) tree_blobs: u64,
    pub(crate) plain_bytes: u64,
    pub(crate) stored_bytes: u64,
}

/// What the threads share.
#[derive(Debug)]
struct Shared {
    core: Arc<Core>,
    lock: Arc<LockGuard>,
    settings: WriteSettings,
    packs: [Mutex<PackBuilder>; 2],
    has_failed: AtomicBool,
    failure: Mutex<Option<Error>>,
    stored_bytes: AtomicU64,
}

struct Job {
    kind: BlobKind,
    id: BlobId,
    plain: Vec<u8>,
}

/// Adds blobs to a vault. [`finish`](Self::finish) makes them findable; dropping it instead leaves
/// packs that no index names, which harm nobody.
#[derive(Debug)]
pub(crate) struct BlobWriter {
    shared: Arc<Shared>,
    catalog: Arc<Catalog>,
    added: BlobMap<u32>,
    total: Added,
    jobs: Option<SyncSender<Job>>,
    workers: Vec<JoinHandle<()>>,
    storer: Option<JoinHandle<()>>,
}

impl BlobWriter {
    pub(crate) fn start(
        core: &Arc<Core>,
        lock: &Arc<LockGuard>,
        catalog: &Arc<Catalog>,
        settings: WriteSettings,
    ) -> Result<Self, Error> {
        // Blobs that the catalog knows are not stored again.
        core.store.settle()?;
        let shared = Arc::new(Shared {
            core: Arc::clone(core),
            lock: Arc::clone(lock),
            settings,
            packs: Default::default(),
            has_failed: AtomicBool::new(false),
            failure: Mutex::default(),
            stored_bytes: AtomicU64::new(0),
        });
        let (jobs, queue) = sync_channel(settings.workers * WAITING_BLOBS_PER_WORKER_MAX);
        let (full_packs, pack_queue) = sync_channel(WAITING_PACKS_MAX);
        let queue = Arc::new(Mutex::new(queue));
        let mut writer = Self {
            shared: Arc::clone(&shared),
            catalog: Arc::clone(catalog),
            added: BlobMap::default(),
            total: Added::default(),
            jobs: Some(jobs),
            workers: Vec::new(),
            storer: None,
        };
        let storing = Arc::clone(&shared);
        let storer = spawn("backup-store", move || storing.store_packs(&pack_queue))?;
        writer.storer = Some(storer);
        for _ in 0..settings.workers {
            let (working, queue) = (Arc::clone(&shared), Arc::clone(&queue));
            let full_packs = full_packs.clone();
            let worker = spawn("backup-seal", move || working.seal_blobs(&queue, &full_packs))?;
            writer.workers.push(worker);
        }
        Ok(writer)
    }

    /// Adds a blob unless the vault has it; answers its id and whether it is new.
    pub(crate) fn add(&mut self, kind: BlobKind, plain: Vec<u8>) -> Result<(BlobId, bool), Error> {
        let length = u32::try_from(plain.len()).unwrap_or(u32::MAX);
        if length > BLOB_BYTES_MAX {
            let (actual, limit) = (u64::from(length), u64::from(BLOB_BYTES_MAX));
            return Err(Error::TooLarge { what: "blob", actual, limit });
        }
        let id = BlobId::of(&plain);
        if self.contains(kind, id) {
            return Ok((id, false));
        }
        let sent = self.jobs.as_ref().map(|jobs| jobs.send(Job { kind, id, plain }));
        if self.shared.has_failed.load(Ordering::Acquire) || !matches!(sent, Some(Ok(()))) {
            return Err(self.shared.take_failure());
        }
        self.added.insert((kind, id), length);
        self.total.plain_bytes += u64::from(length);
        match kind {
            BlobKind::Data => self.total.data_blobs += 1,
            BlobKind::Tree => self.total.tree_blobs += 1,
        }
        Ok((id, true))
    }

    /// Whether the vault has the blob, or will have after [`finish`](Self::finish).
    pub(crate) fn contains(&self, kind: BlobKind, id: BlobId) -> bool {
        self.catalog.contains(kind, id) || self.added.contains_key(&(kind, id))
    }

    /// Stores what is left and the index. `Ok` means that everything added is durable.
    pub(crate) fn finish(mut self) -> Result<Added, Error> {
        self.join();
        if self.shared.has_failed.load(Ordering::Acquire) {
            return Err(self.shared.take_failure());
        }
        let mut added = self.total;
        added.stored_bytes = self.shared.stored_bytes.load(Ordering::Acquire);
        Ok(added)
    }

    /// Ends the threads: without a sender the workers end, and after them the storer.
    fn join(&mut self) {
        self.jobs = None;
        for thread in self.workers.drain(..).chain(self.storer.take()) {
            if thread.join().is_err() {
                let reason = "a writing thread panicked".to_owned();
                self.shared.fail(Error::Internal { reason });
            }
        }
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        // Without this the threads would store what is left for nobody.
        self.shared.fail(Error::Cancelled);
        self.join();
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|error| Error::Internal { reason: format!("no thread could be started: {error}") })
}

impl Shared {
    fn fail(&self, error: Error) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        self.has_failed.store(true, Ordering::Release);
    }

    fn take_failure(&self) -> Error {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure
            .take()
            .unwrap_or_else(|| Error::Internal { reason: "a writing thread ended early".into() })
    }

    /// A worker: takes blobs until there are no more. After a failure it goes on taking, so that
    /// nobody waits at a full queue.
    fn seal_blobs(&self, queue: &Mutex<Receiver<Job>>, full_packs: &SyncSender<PackBuilder>) {
        let mut compressor = match zstd::bulk::Compressor::new(self.settings.compression_level) {
            Ok(compressor) => Some(compressor),
            Err(error) => {
                self.fail(Error::Internal { reason: format!("zstd does not start: {error}") });
                None
            }
        };
        loop {
            let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return };
            let Some(compressor) = &mut compressor else { continue };
            if self.has_failed.load(Ordering::Acquire) {
                continue;
            }
            self.seal_blob(job, compressor, full_packs);
        }
    }

    fn seal_blob(
        &self,
        job: Job,
        compressor: &mut zstd::bulk::Compressor<'_>,
        full_packs: &SyncSender<PackBuilder>,
    ) {
        let Job { kind, id, plain } = job;
        let compressed = if is_worth_compressing(&plain) {
            compressor.compress(&plain).ok().filter(|bytes| bytes.len() < plain.len())
        } else {
            None
        };
        let (stored, uncompressed) = match &compressed {
            Some(bytes) => (bytes, Some(plain.len() as u32)),
            None => (&plain, None),
        };
        let sealed = self.core.key.seal(stored, &*self.core.store.entropy);
        let mut pack = self.packs[kind as usize].lock().unwrap_or_else(PoisonError::into_inner);
        pack.push(kind, id, &sealed, uncompressed);
        if pack.len() >= self.settings.pack_bytes || pack.count() >= PACK_BLOBS_MAX {
            let full = std::mem::take(&mut *pack);
            drop(pack);
            // The storer ends only after every worker, so the queue is open.
            let _ = full_packs.send(full);
        }
    }

    /// The storer: stores full packs, then what is left, then the index.
    fn store_packs(&self, full_packs: &Receiver<PackBuilder>) {
        let mut index = IndexFile::default();
        for pack in full_packs {
            self.store_pack(pack, &mut index);
        }
        // Every worker has ended: nobody adds to the packs any more. Data goes first, so that a
        // tree in the vault never names data that is not there.
        for pack in &self.packs {
            let rest = std::mem::take(&mut *pack.lock().unwrap_or_else(PoisonError::into_inner));
            self.store_pack(rest, &mut index);
        }
        self.store_index(&mut index);
    }

    fn store_pack(&self, pack: PackBuilder, index: &mut IndexFile) {
        if pack.is_empty() || self.has_failed.load(Ordering::Acquire) {
            return;
        }
        let (bytes, header) = pack.finish(&self.core.key, &*self.core.store.entropy);
        let stored = self.lock.refresh().and_then(|()| self.core.store.write::<PackId>(&bytes));
        let id = match stored {
            Ok(id) => id,
            Err(error) => return self.fail(error),
        };
        self.stored_bytes.fetch_add(bytes.len() as u64, Ordering::AcqRel);
        let blobs = header.entries.iter().map(|entry| IndexedBlob {
            id: entry.id,
            kind: entry.kind,
            offset: entry.offset,
            length: entry.length,
            uncompressed_length: entry.uncompressed_length,
        });
        index.packs.push(IndexedPack { id, blobs: blobs.collect() });
        let blobs: usize = index.packs.iter().map(|pack| pack.blobs.len()).sum();
        if blobs >= INDEX_BLOBS_MAX || index.packs.len() >= INDEX_PACKS_MAX {
            self.store_index(index);
        }
    }

    fn store_index(&self, index: &mut IndexFile) {
        let index = std::mem::take(index);
        if index.packs.is_empty() || self.has_failed.load(Ordering::Acquire) {
            return;
        }
        let stored = index
            .to_bytes()
            .map_err(Error::format(IndexId::FOLDER))
            .and_then(|json| self.core.seal_file(&json))
            .and_then(|sealed| {
                self.stored_bytes.fetch_add(sealed.len() as u64, Ordering::AcqRel);
                self.core.store.write::<IndexId>(&sealed)
            });
        if let Err(error) = stored {
            self.fail(error);
        }
    }
}

/// Tries three samples of a large blob at the fastest level: media and archives do not shrink, and
/// compressing them in earnest costs more than everything else.
fn is_worth_compressing(plain: &[u8]) -> bool {
    const SAMPLE_BYTES: usize = 4 << 10;
    if plain.len() < TRIAL_BYTES_MIN {
        return true;
    }
    let starts = [0, plain.len() / 2, plain.len() - SAMPLE_BYTES];
    let sample: Vec<u8> =
        starts.iter().flat_map(|at| &plain[*at..*at + SAMPLE_BYTES]).copied().collect();
    zstd::bulk::compress(&sample, 1).is_ok_and(|small| small.len() * 100 < sample.len() * 97)
}
