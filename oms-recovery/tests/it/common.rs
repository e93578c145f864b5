//! Two sites on simulated disks, and a model of the machine's disk.

use oms_core::clock::ManualClock;
use oms_core::disk::{Disk, DiskError, DiskFile, DiskLock, OpenMode};
use oms_core::entropy::SeededEntropy;
use oms_core::journal::MemoryJournal;
use oms_core::testkit::disk::SimDisk;
use oms_core::testkit::fault::{Faults, Faulty};
use oms_core::{EntropyExt, Journal};
use oms_recovery::machine::disk::BlockDevice;
use oms_recovery::replication::{ImageState, Site, SiteStores};
use oms_recovery::vault::Settings;
use oms_recovery::{ProtectedItem, RecoveryVault, ReplicationPolicy};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Large enough for several copy messages, small enough for many runs, and no whole block.
pub(crate) const DISK_BYTES: u64 = 3 * (1 << 20) + 512;

/// Stores by the names `primary` and `recovery`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sites {
    pub(crate) primary: SimDisk,
    pub(crate) recovery: SimDisk,
    pub(crate) fuse: Fuse,
    /// The location that cannot be reached, if any, also by those who have it open.
    pub(crate) lost: Arc<Mutex<Option<&'static str>>>,
}

impl Sites {
    fn reach(&self, location: &str) -> Result<(), DiskError> {
        if *self.lost.lock().expect("lock") == Some(location) {
            let source = std::io::ErrorKind::HostUnreachable.into();
            return Err(DiskError { operation: "reach", path: location.into(), source });
        }
        Ok(())
    }
}

/// Lets a number of storage operations pass and then none, until it is healed.
#[derive(Clone, Debug)]
pub(crate) struct Fuse {
    left: Arc<AtomicU64>,
    /// At which sync of a folder it blows.
    names: Arc<AtomicU64>,
    /// What goes out with it.
    others: Option<Arc<Faults>>,
}

impl Default for Fuse {
    fn default() -> Self {
        let never = || Arc::new(AtomicU64::new(u64::MAX));
        Self { left: never(), names: never(), others: None }
    }
}

impl Fuse {
    /// A fuse with which everything goes out that `others` are of, until these are told otherwise.
    pub(crate) fn with(others: Arc<Faults>) -> Self {
        Self { others: Some(others), ..Self::default() }
    }

    pub(crate) fn blow_after(&self, operations: u64) {
        self.left.store(operations, Ordering::SeqCst);
    }

    /// Lets a number of syncs of folders pass, and blows at the next: a name is there and not durable.
    pub(crate) fn blow_at_names(&self, syncs: u64) {
        self.names.store(syncs, Ordering::SeqCst);
    }

    pub(crate) fn heal(&self) {
        self.left.store(u64::MAX, Ordering::SeqCst);
        self.names.store(u64::MAX, Ordering::SeqCst);
    }

    pub(crate) fn is_blown(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }

    fn pass(&self, operation: &'static str, path: &Path) -> Result<(), DiskError> {
        let spend = |left: u64| match left {
            u64::MAX => Some(left),
            _ => left.checked_sub(1),
        };
        if operation == "sync folder"
            && self.names.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend).is_err()
        {
            self.left.store(0, Ordering::SeqCst);
        }
        match self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend) {
            Ok(_) => Ok(()),
            Err(_) => {
                self.others.iter().for_each(|others| others.set_before(1_000));
                let source = std::io::Error::other("the fuse has blown");
                Err(DiskError { operation, path: path.to_owned(), source })
            }
        }
    }
}

#[derive(Debug)]
struct Fused<T> {
    inner: T,
    sites: Sites,
    location: &'static str,
}

impl<T> Fused<T> {
    fn pass(&self, operation: &'static str, path: &Path) -> Result<(), DiskError> {
        self.sites.reach(self.location)?;
        self.sites.fuse.pass(operation, path)
    }
}

impl Disk for Fused<SimDisk> {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Box<dyn DiskFile>, DiskError> {
        self.pass("open", path)?;
        let inner = self.inner.open(path, mode)?;
        Ok(Box::new(Fused { inner, sites: self.sites.clone(), location: self.location }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.pass("rename", from)?;
        self.inner.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.pass("rename", from)?;
        self.inner.rename_new(from, to)
    }

    fn lock(&self, path: &Path) -> Result<DiskLock, DiskError> {
        self.pass("lock", path)?;
        self.inner.lock(path)
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        self.pass("remove", path)?;
        self.inner.remove(path)
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        self.pass("create folder", path)?;
        self.inner.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> Result<Vec<String>, DiskError> {
        self.pass("list", path)?;
        self.inner.list(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.pass("sync folder", path)?;
        self.inner.sync_dir(path)
    }
}

impl DiskFile for Fused<Box<dyn DiskFile>> {
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize, DiskError> {
        self.pass("read", Path::new("file"))?;
        self.inner.read_at(offset, bytes)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.pass("write", Path::new("file"))?;
        self.inner.write_at(offset, bytes)
    }

    fn len(&self) -> Result<u64, DiskError> {
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        self.pass("set length", Path::new("file"))?;
        self.inner.set_len(len)
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.pass("sync", Path::new("file"))?;
        self.inner.sync()
    }
}

impl SiteStores for Sites {
    fn open(&self, location: &str) -> Result<Arc<dyn Disk>, oms_recovery::Error> {
        self.reach(location)?;
        let (inner, location) = match location {
            "primary" => (self.primary.clone(), "primary"),
            "recovery" => (self.recovery.clone(), "recovery"),
            other => panic!("no site {other}"),
        };
        Ok(Arc::new(Fused { inner, sites: self.clone(), location }))
    }
}

/// A disk that tells when its image was written to last, as a file system does: a sync of the image's
/// bytes does not make that durable.
#[derive(Clone, Debug)]
pub(crate) struct Timed {
    pub(crate) disk: SimDisk,
    times: Arc<Mutex<Times>>,
}

/// Times of writes, which count up.
#[derive(Debug, Default)]
struct Times {
    seen: u64,
    durable: u64,
}

const TIMED_IMAGE: &str = "disk.img";

impl Timed {
    pub(crate) fn new(disk: SimDisk) -> Self {
        Self { disk, times: Arc::default() }
    }

    /// Power fails. The file system may have brought any time to the disk that it had not lost.
    pub(crate) fn crash(&self, entropy: &dyn oms_core::Entropy) {
        self.disk.crash(entropy);
        let mut times = self.times();
        times.seen = times.durable + entropy.below(times.seen - times.durable + 1);
        times.durable = times.seen;
    }

    /// The image, as whoever writes to it opens it.
    pub(crate) fn open_image(&self, mode: OpenMode) -> Result<Box<dyn DiskFile>, DiskError> {
        Disk::open(self, Path::new(TIMED_IMAGE), mode)
    }

    /// The image as it is, whatever fails.
    pub(crate) fn image(&self) -> Vec<u8> {
        self.disk.contents().remove(Path::new(TIMED_IMAGE)).expect("an image")
    }

    fn times(&self) -> std::sync::MutexGuard<'_, Times> {
        self.times.lock().expect("lock")
    }
}

impl Disk for Timed {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Box<dyn DiskFile>, DiskError> {
        let inner = self.disk.open(path, mode)?;
        match path == Path::new(TIMED_IMAGE) {
            true => Ok(Box::new(TimedFile { inner, disk: self.clone() })),
            false => Ok(inner),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.disk.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.disk.rename_new(from, to)
    }

    fn lock(&self, path: &Path) -> Result<DiskLock, DiskError> {
        self.disk.lock(path)
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        self.disk.remove(path)
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        self.disk.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> Result<Vec<String>, DiskError> {
        self.disk.list(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.disk.sync_dir(path)
    }
}

#[derive(Debug)]
struct TimedFile {
    inner: Box<dyn DiskFile>,
    disk: Timed,
}

impl DiskFile for TimedFile {
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize, DiskError> {
        self.inner.read_at(offset, bytes)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.inner.write_at(offset, bytes)?;
        self.disk.times().seen += 1;
        Ok(())
    }

    fn len(&self) -> Result<u64, DiskError> {
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        self.inner.set_len(len)?;
        self.disk.times().seen += 1;
        Ok(())
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.inner.sync()
    }
}

impl SiteStores for Timed {
    fn open(&self, _location: &str) -> Result<Arc<dyn Disk>, oms_recovery::Error> {
        Ok(Arc::new(self.clone()))
    }

    fn image_state(&self, site: &Site) -> Result<Option<ImageState>, oms_recovery::Error> {
        let bytes = self.disk.open(&site.image, OpenMode::Read)?.len()?;
        Ok(Some(ImageState { bytes, file: 1, version: self.times().seen.into() }))
    }

    fn sync_image(&self, site: &Site) -> Result<(), oms_recovery::Error> {
        self.disk.open(&site.image, OpenMode::Read)?.sync()?;
        let mut times = self.times();
        times.durable = times.seen;
        Ok(())
    }
}

/// One world: two sites, a journal, a clock.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) sites: Sites,
    pub(crate) journal: Arc<Faulty<MemoryJournal>>,
    /// The journal's; none at first.
    pub(crate) faults: Arc<Faults>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) entropy: Arc<SeededEntropy>,
    folder: tempfile::TempDir,
}

pub(crate) fn primary_site() -> Site {
    let (image, folder) = ("disk.img".into(), "disk.img.replication".into());
    Site { location: "primary".to_owned(), image, folder }
}

pub(crate) fn recovery_site() -> Site {
    let (image, folder) = ("disk.img".into(), "replication".into());
    Site { location: "recovery".to_owned(), image, folder }
}

impl World {
    /// A world whose primary site holds the model's bytes as `disk.img`.
    pub(crate) fn new(seed: u64, model: &[u8]) -> Self {
        let sites = Sites::default();
        let disk = &sites.primary;
        let file = disk.open(Path::new("disk.img"), OpenMode::CreateNew).expect("create");
        file.write_at(0, model).expect("write");
        file.sync().expect("sync");
        disk.sync_dir(Path::new("")).expect("sync");
        let faults = Arc::new(Faults::new(seed));
        Self {
            sites,
            journal: Arc::new(Faulty::new(MemoryJournal::default(), Arc::clone(&faults))),
            faults,
            clock: Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().expect("a time"))),
            entropy: Arc::new(SeededEntropy::new(seed)),
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    /// A process that opens the vault.
    pub(crate) fn vault(&self) -> RecoveryVault {
        let settings = Settings { name: "vault1".to_owned(), segment_bytes: 64 << 10 };
        RecoveryVault::builder(self.folder.path())
            .journal(Arc::clone(&self.journal) as Arc<dyn Journal>)
            .clock(Arc::<ManualClock>::clone(&self.clock))
            .entropy(Arc::<SeededEntropy>::clone(&self.entropy))
            .stores(Arc::new(self.sites.clone()))
            .settings(settings)
            .build()
            .expect("a vault")
    }

    /// Protects the primary's disk and replicates it.
    pub(crate) async fn protect(&self, policy: ReplicationPolicy) -> Arc<ProtectedItem> {
        let item = self
            .vault()
            .enable_protection_at("web1", primary_site(), recovery_site(), policy)
            .await
            .expect("enable");
        item.replicate().await.expect("replicate");
        item
    }
}

/// Bytes that differ everywhere, with a run of zeros.
pub(crate) fn random_disk(entropy: &SeededEntropy) -> Vec<u8> {
    use oms_core::Entropy;
    let mut model = vec![0; DISK_BYTES as usize];
    entropy.fill(&mut model);
    model[1 << 20..(1 << 20) + (300 << 10)].fill(0);
    model
}

/// Writes `count` random extents to the device and the model.
pub(crate) fn scribble(
    device: &dyn BlockDevice,
    model: &mut [u8],
    entropy: &SeededEntropy,
    count: u64,
) {
    use oms_core::Entropy;
    for _ in 0..count {
        let length = 1 + entropy.below(20_000);
        let offset = entropy.below(DISK_BYTES - length);
        let mut bytes = vec![0; length as usize];
        if entropy.below(4) > 0 {
            entropy.fill(&mut bytes);
        }
        device.write_at(offset, &bytes).expect("write");
        model[offset as usize..(offset + length) as usize].copy_from_slice(&bytes);
    }
}

/// Every byte of a device.
pub(crate) fn read_all(device: &dyn BlockDevice) -> Vec<u8> {
    let mut bytes = vec![0; device.len() as usize];
    device.read_at(0, &mut bytes).expect("read");
    bytes
}

/// Compares without printing megabytes.
#[track_caller]
pub(crate) fn assert_disk(device: &dyn BlockDevice, model: &[u8], what: &str) {
    let bytes = read_all(device);
    assert_eq!(bytes.len(), model.len(), "{what}");
    if bytes != model {
        let at = bytes.iter().zip(model).position(|(a, b)| a != b);
        panic!("{what}: first difference at byte {at:?}");
    }
}
