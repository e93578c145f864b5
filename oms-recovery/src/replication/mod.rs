//! How writes get from one site to the other.

pub mod policy;

pub mod state;

pub mod segment;

pub mod mark;

pub mod image;

pub mod tracker;

pub mod transfer;

pub mod channel;

pub mod primary;

pub mod replica;

pub mod health;

pub use image::ImageState;
pub use policy::ReplicationPolicy;
pub use state::{ProtectionEvent, ProtectionState, TestFailoverEvent, TestFailoverState};
pub use tracker::TrackedDevice;

use crate::error::Result;
use oms_core::disk::{Disk, DiskError};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A change's place in the order of all changes of an item.
///
/// The sequence counts on over epochs; the epoch grows by one whenever production moves, so that
/// what a former primary still sends is told apart.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
pub struct Stamp {
    /// How often production has moved.
    pub epoch: u64,
    /// How many changes there were up to and with this one.
    pub sequence: u64,
}

/// Why the log no longer joins primary and replica.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DivergenceReason {
    /// The replica was away for longer than the outgoing log holds.
    OutgoingLogFull,
    /// The outgoing log could not be written.
    OutgoingLogFailed,
    /// The replica lost frames that it had acknowledged.
    ReplicaBehind,
    /// The replica holds frames that the primary lost.
    ReplicaAhead,
    /// The replica is in the middle of a copy that the primary does not know of.
    CopyUnknown,
    /// Something else than production's device has written to the disk image.
    ImageChanged,
}

impl std::fmt::Display for DivergenceReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::OutgoingLogFull => "the outgoing log is full",
            Self::OutgoingLogFailed => "the outgoing log could not be written",
            Self::ReplicaBehind => "the replica lost writes that it had acknowledged",
            Self::ReplicaAhead => "the replica holds writes that the primary lost",
            Self::CopyUnknown => "the replica is in the middle of another copy",
            Self::ImageChanged => {
                "something else than the protected device has written to the disk image"
            }
        })
    }
}

/// One of an item's two sites: where the disk is, and where replication keeps its files.
///
/// ```text
///  location/IMAGE              the disk, or the replica's base
///  location/FOLDER/mark        what this site is
///  location/FOLDER/image       the disk as it was when it last had everything of the outgoing log
///  location/FOLDER/outgoing/   writes that the other site has not acknowledged
///  location/FOLDER/log/        writes received, in order, with recovery points
///  location/FOLDER/overlay/    writes since a failover that is not committed
///  location/FOLDER/test/       writes of a test failover
///  location/FOLDER/lock        held while what an ended protection kept is released
/// ```
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// Which store, in the words of [`SiteStores`]; a folder by default.
    pub location: String,
    /// The image, relative to the location.
    pub image: PathBuf,
    /// Replication's folder, relative to the location.
    pub folder: PathBuf,
}

impl Site {
    pub(crate) fn mark(&self) -> PathBuf {
        self.folder.join("mark")
    }

    pub(crate) fn image_note(&self) -> PathBuf {
        self.folder.join("image")
    }

    pub(crate) fn outgoing(&self) -> PathBuf {
        self.folder.join("outgoing")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    pub(crate) fn overlay(&self) -> PathBuf {
        self.folder.join("overlay")
    }

    pub(crate) fn test(&self) -> PathBuf {
        self.folder.join("test")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.folder.join("lock")
    }

    /// The folders in replication's folder.
    pub(crate) fn folders(&self) -> [PathBuf; 4] {
        [self.outgoing(), self.log(), self.overlay(), self.test()]
    }
}

/// Opens the store of a site.
pub trait SiteStores: std::fmt::Debug + Send + Sync {
    /// The store at a location.
    ///
    /// # Errors
    /// [`crate::Error::Disk`] if it is not there.
    fn open(&self, location: &str) -> Result<Arc<dyn Disk>>;

    /// Whether there is a store at a location: to open one may make it. By default there is.
    fn exists(&self, _location: &str) -> bool {
        true
    }

    /// Whether the images of two sites are one, whatever they are called. By default, if they have one
    /// place.
    fn is_same_image(&self, one: &Site, other: &Site) -> bool {
        one.location == other.location && one.image == other.image
    }

    /// Removes a folder of a location if it holds nothing; by default it stays. Whether it is gone is no
    /// concern of what goes on.
    fn remove_empty(&self, _location: &str, _folder: &Path) {}

    /// What tells whether the image of a site was written to. By default nothing does, and then only
    /// another length is noticed, when the image is opened.
    ///
    /// # Errors
    /// [`crate::Error::Disk`] if it cannot be told now.
    fn image_state(&self, _site: &Site) -> Result<Option<ImageState>> {
        Ok(None)
    }

    /// Makes durable what [`image_state`](Self::image_state) tells, with every byte that was written
    /// before. It is called before that is noted: a power loss that brought back what was told earlier
    /// would be taken for somebody's write. By default it does nothing.
    ///
    /// # Errors
    /// [`crate::Error::Disk`].
    fn sync_image(&self, _site: &Site) -> Result<()> {
        Ok(())
    }
}

/// Takes a site's location as a folder of this computer.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalStores;

impl SiteStores for LocalStores {
    fn open(&self, location: &str) -> Result<Arc<dyn Disk>> {
        Ok(Arc::new(oms_core::LocalDisk::new(location)?))
    }

    fn exists(&self, location: &str) -> bool {
        Path::new(location).is_dir()
    }

    /// Also by another path, and through links.
    fn is_same_image(&self, one: &Site, other: &Site) -> bool {
        let path = |site: &Site| Path::new(&site.location).join(&site.image);
        let (one, other) = (path(one), path(other));
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            let file = |path: &Path| std::fs::metadata(path).map(|it| (it.dev(), it.ino())).ok();
            if let (Some(one), Some(other)) = (file(&one), file(&other)) {
                return one == other;
            }
        }
        // What is away has nothing but its name.
        let place = |path: PathBuf| path.canonicalize().unwrap_or(path);
        place(one) == place(other)
    }

    fn remove_empty(&self, location: &str, folder: &Path) {
        let _ = std::fs::remove_dir(Path::new(location).join(folder));
    }

    /// By the time at which the file system says that the file was modified: what is written within the
    /// same tick of its clock as a write of production's is not told apart.
    fn image_state(&self, site: &Site) -> Result<Option<ImageState>> {
        let path = Path::new(&site.location).join(&site.image);
        let failed = |source| DiskError { operation: "look at", path: path.clone(), source };
        let file = std::fs::metadata(&path).map_err(failed)?;
        let modified = file.modified().map_err(failed)?;
        let nanoseconds = |span: std::time::Duration| span.as_nanos() as i128;
        let version = match modified.duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => nanoseconds(since),
            Err(before) => -nanoseconds(before.duration()),
        };
        #[cfg(unix)]
        let number = std::os::unix::fs::MetadataExt::ino(&file);
        #[cfg(not(unix))]
        let number = 0;
        Ok(Some(ImageState { bytes: file.len(), file: number, version }))
    }

    /// With the time at which the file was modified, which a sync of its bytes leaves out.
    fn sync_image(&self, site: &Site) -> Result<()> {
        let path = Path::new(&site.location).join(&site.image);
        let failed = |source| DiskError { operation: "sync", path: path.clone(), source };
        // Windows syncs only what it may write.
        let file = std::fs::File::options().read(true).write(cfg!(windows)).open(&path);
        Ok(file.and_then(|file| file.sync_all()).map_err(failed)?)
    }
}
