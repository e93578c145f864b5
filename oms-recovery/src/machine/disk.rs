//! Disks of fixed length, and copy-on-write over them.

use super::extent_map::{ExtentMap, Source};
use crate::error::{Error, Result};
use crate::recovery_point::log::write_extents;
use crate::recovery_point::{PointView, view};
use crate::replication::Stamp;
use crate::replication::segment::SegmentLog;
use crate::replication::transfer::{Change, Content, Frame, WRITE_BYTES_MAX};
use oms_core::Entropy;
use oms_core::disk::{Disk, DiskFile, OpenMode};
use std::fmt::Debug;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How much of a disk one step of a whole-disk copy reads, in bytes.
pub const COPY_STEP_BYTES: u64 = 1 << 20;

/// A disk of fixed length. Its calls block.
///
/// As with any disk, a write is taken in order when `write_at` returns and durable when a later
/// `flush` returns.
pub trait BlockDevice: Debug + Send + Sync {
    /// The length in bytes; it never changes.
    fn len(&self) -> u64;

    /// Whether the disk has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `bytes` from `offset`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], or what lies below failed.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()>;

    /// Takes a write.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Fenced`], [`Error::ReadOnly`], or what lies below failed.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Makes every write taken before durable.
    ///
    /// # Errors
    /// What lies below failed; none of the writes since the last flush may be assumed durable.
    fn flush(&self) -> Result<()>;
}

/// Refuses bytes that are not on the disk.
pub(crate) fn check_range(disk_bytes: u64, offset: u64, length: usize) -> Result<()> {
    let length = length as u64;
    if offset.checked_add(length).is_none_or(|end| end > disk_bytes) {
        return Err(Error::OutOfRange { offset, length, disk_bytes });
    }
    Ok(())
}

/// A raw image in a file.
#[derive(Debug)]
pub struct FileDevice {
    file: Box<dyn DiskFile>,
    disk_bytes: u64,
}

impl FileDevice {
    /// Opens an image that exists; its length is that of the file.
    ///
    /// # Errors
    /// [`Error::Disk`]; [`Error::Invalid`] for an empty file.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let file = disk.open(path, OpenMode::Write)?;
        let disk_bytes = file.len()?;
        if disk_bytes == 0 {
            return Err(Error::Invalid {
                what: "disk image",
                value: path.display().to_string(),
                reason: "has no bytes",
            });
        }
        Ok(Self { file, disk_bytes })
    }

    /// Opens an image, or makes one of zeros with this length; durable when it returns.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn open_or_create(disk: &dyn Disk, path: &Path, disk_bytes: u64) -> Result<Self> {
        let file = disk.open(path, OpenMode::OpenOrCreate)?;
        if file.len()? != disk_bytes {
            file.set_len(disk_bytes)?;
        }
        file.sync()?;
        disk.sync_dir(path.parent().unwrap_or(Path::new("")))?;
        Ok(Self { file, disk_bytes })
    }
}

impl BlockDevice for FileDevice {
    fn len(&self) -> u64 {
        self.disk_bytes
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        check_range(self.disk_bytes, offset, bytes.len())?;
        let done = self.file.read_at(offset, bytes)?;
        // A file that lost its tail reads as zeros there, as a hole does.
        bytes[done..].fill(0);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        check_range(self.disk_bytes, offset, bytes.len())?;
        Ok(self.file.write_at(offset, bytes)?)
    }

    fn flush(&self) -> Result<()> {
        Ok(self.file.sync()?)
    }
}

/// Copy-on-write: writes go to a log of their own, and what lies below never changes.
///
/// ```text
///  write ──► log (durable at flush) ──► extent map
///  read  ──► extent map, else what lies below
/// ```
#[derive(Debug)]
pub struct OverlayDevice {
    below: Arc<PointView>,
    state: Mutex<Overlay>,
}

#[derive(Debug)]
struct Overlay {
    log: SegmentLog,
    map: ExtentMap,
    last: Stamp,
}

impl OverlayDevice {
    /// Opens the overlay in `folder`, empty if there is none, over `below`.
    ///
    /// # Errors
    /// [`Error::Disk`], [`Error::Corrupt`].
    pub fn open(
        below: Arc<PointView>,
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        segment_bytes: u64,
        entropy: &dyn Entropy,
    ) -> Result<Self> {
        let log = SegmentLog::open(disk, folder, segment_bytes, entropy)?;
        let map = view::extents(&log, None)?;
        let last = log.last().unwrap_or(Stamp { epoch: 0, sequence: 0 });
        Ok(Self { below, state: Mutex::new(Overlay { log, map, last }) })
    }

    /// The prefix of writes that lies below.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.below.stamp()
    }

    /// Writes what it holds into another device, in steps of bounded size.
    pub(crate) fn settle(&self, device: &dyn BlockDevice) -> Result<()> {
        let overlay = self.lock();
        write_extents(&overlay.map, &overlay.log, device)
    }

    /// How many bytes its log takes.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.lock().log.bytes()
    }

    fn lock(&self) -> MutexGuard<'_, Overlay> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlockDevice for OverlayDevice {
    fn len(&self) -> u64 {
        self.below.len()
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        check_range(self.len(), offset, bytes.len())?;
        let overlay = self.lock();
        view::read(&overlay.map, &*self.below, &overlay.log, offset, bytes)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        check_range(self.len(), offset, bytes.len())?;
        let mut overlay = self.lock();
        let overlay = &mut *overlay;
        for (part, chunk) in bytes.chunks(WRITE_BYTES_MAX).enumerate() {
            let offset = offset + (part * WRITE_BYTES_MAX) as u64;
            let stamp = Stamp { epoch: 0, sequence: overlay.last.sequence + 1 };
            let mut payload = Vec::new();
            let change = Change::Write { offset, content: Content::Bytes(chunk) };
            let skip = Frame { stamp, change }.encode(&mut payload) as u64;
            let (number, at) = overlay.log.append(stamp, stamp, &payload)?;
            let source = Source::Segment { number, at: at + skip };
            overlay.map.insert(offset, chunk.len() as u64, stamp, source);
            overlay.last = stamp;
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        self.lock().log.sync()
    }
}

/// Writes the whole disk to a new file of the operating system, holes for zeros; durable when it
/// returns.
///
/// # Errors
/// What the device answers; [`Error::AlreadyExists`] for an existing file; [`Error::Disk`].
pub fn export_raw(device: &dyn BlockDevice, path: &Path) -> Result<u64> {
    let failed = |source: io::Error| {
        if source.kind() == io::ErrorKind::AlreadyExists {
            let name = path.display().to_string();
            return Error::AlreadyExists { what: "export file", name };
        }
        let path = path.to_owned();
        Error::Disk(oms_core::disk::DiskError { operation: "export", path, source })
    };
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).open(path).map_err(failed)?;
    let mut step = vec![0; COPY_STEP_BYTES as usize];
    let (mut at, end) = (0, device.len());
    while at < end {
        let length = COPY_STEP_BYTES.min(end - at) as usize;
        device.read_at(at, &mut step[..length])?;
        if is_zero(&step[..length]) {
            io::Seek::seek(&mut file, io::SeekFrom::Current(length as i64)).map_err(failed)?;
        } else {
            file.write_all(&step[..length]).map_err(failed)?;
        }
        at += length as u64;
    }
    file.set_len(end).and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(end)
}

/// Whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    rest.iter().all(|byte| *byte == 0) && words.iter().all(|word| u128::from_ne_bytes(*word) == 0)
}
