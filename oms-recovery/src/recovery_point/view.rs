//! The disk as of a recovery point.

use super::log::RecoveryLog;
use crate::error::{Error, Result};
use crate::machine::disk::{BlockDevice, check_range};
use crate::machine::extent_map::{Extent, ExtentMap, Source};
use crate::replication::Stamp;
use crate::replication::segment::SegmentLog;
use crate::replication::transfer::{Change, Content, frames};
use oms_core::disk::DiskFile;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The disk as of a place in the log: what the log holds up to there, over the base. Read-only.
///
/// Every byte of the log is checked when the view is made. The base below must not take up later
/// writes while the view is in use, which the holder of the log sees to.
#[derive(Debug)]
pub struct PointView {
    base: Arc<dyn BlockDevice>,
    map: ExtentMap,
    files: BTreeMap<u64, Arc<dyn DiskFile>>,
    stamp: Stamp,
}

impl PointView {
    pub(super) fn new(log: &RecoveryLog, stamp: Stamp) -> Result<Self> {
        Ok(Self {
            base: Arc::clone(log.base()),
            map: extents(log.segments(), Some(stamp))?,
            files: log.segments().files().collect(),
            stamp,
        })
    }

    /// Which prefix it shows.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        self.stamp
    }
}

impl BlockDevice for PointView {
    fn len(&self) -> u64 {
        self.base.len()
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        check_range(self.len(), offset, bytes.len())?;
        read(&self.map, &*self.base, &self.files, offset, bytes)
    }

    fn write_at(&self, _offset: u64, _bytes: &[u8]) -> Result<()> {
        Err(Error::ReadOnly)
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

/// Where the bytes of segments are read.
pub(crate) trait SegmentFiles {
    /// Fills `bytes` from a segment.
    fn read_segment(&self, number: u64, at: u64, bytes: &mut [u8]) -> Result<()>;
}

fn check_whole(done: usize, wanted: usize, number: u64, at: u64) -> Result<()> {
    if done == wanted {
        return Ok(());
    }
    let path = format!("{number:016x}.log");
    Err(Error::Corrupt { path, offset: at, reason: "segment ends too early" })
}

impl SegmentFiles for BTreeMap<u64, Arc<dyn DiskFile>> {
    fn read_segment(&self, number: u64, at: u64, bytes: &mut [u8]) -> Result<()> {
        let file = self.get(&number).ok_or_else(|| Error::Internal {
            reason: format!("segment {number} of the view is not open"),
        })?;
        check_whole(file.read_at(at, bytes)?, bytes.len(), number, at)
    }
}

impl SegmentFiles for SegmentLog {
    fn read_segment(&self, number: u64, at: u64, bytes: &mut [u8]) -> Result<()> {
        check_whole(self.read_bytes(number, at, bytes)?, bytes.len(), number, at)
    }
}

/// Reads through an extent map.
pub(crate) fn read(
    map: &ExtentMap,
    below: &dyn BlockDevice,
    files: &impl SegmentFiles,
    offset: u64,
    bytes: &mut [u8],
) -> Result<()> {
    let end = offset + bytes.len() as u64;
    let mut at = offset;
    for (start, Extent { length, source, .. }) in map.overlapping(offset, end) {
        let (gap, rest) = bytes[(at - offset) as usize..].split_at_mut((start - at) as usize);
        if !gap.is_empty() {
            below.read_at(at, gap)?;
        }
        let part = &mut rest[..length as usize];
        match source {
            Source::Zeros => part.fill(0),
            Source::Segment { number, at } => files.read_segment(number, at, part)?,
        }
        at = start + length;
    }
    if at < end {
        below.read_at(at, &mut bytes[(at - offset) as usize..])?;
    }
    Ok(())
}

/// The extents of a log's frames up to a stamp, or of all. Checks every byte it passes.
pub(crate) fn extents(log: &SegmentLog, through: Option<Stamp>) -> Result<ExtentMap> {
    let mut map = ExtentMap::default();
    for batch in log.batches() {
        let payload = log.read(batch)?;
        for frame in frames(&payload) {
            let (frame, data_at) = frame?;
            if through.is_some_and(|through| frame.stamp > through) {
                continue;
            }
            let (Change::Write { offset, content } | Change::CopyBlock { offset, content }) =
                frame.change
            else {
                continue;
            };
            let source = match content {
                Content::Zeros(_) => Source::Zeros,
                Content::Bytes(_) => {
                    Source::Segment { number: batch.number, at: batch.at + data_at as u64 }
                }
            };
            if content.length() > 0 {
                map.insert(offset, content.length(), frame.stamp, source);
            }
        }
    }
    Ok(map)
}
