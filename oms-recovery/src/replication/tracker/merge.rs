//! The log of a site whose protection has ended: what it has, and bringing that to the image.

use super::TrackerOptions;
use super::state::Tracker;
use crate::error::{Error, Result};
use crate::machine::disk::{BlockDevice, check_range};
use crate::replication::image::ImageWatch;
use crate::replication::mark::{Mark, Role};
use crate::replication::transfer::{Change, frames};
use crate::replication::{Site, Stamp};
use oms_core::disk::Disk;
use std::path::Path;
use std::sync::Arc;

/// What is known of the image beside a log that was kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum KnownImage {
    /// It has every write of the log, or the log has none.
    Whole,
    /// It may lack writes of the log. Nothing tells whether something else has written to it since.
    MayLack,
    /// It had every write of the log, and something else has written to it since.
    Changed,
}

/// What a log that was kept holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LogContent {
    /// How many writes.
    pub writes: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The place of the last one in the order of all changes.
    pub last: Stamp,
}

impl Role {
    /// Whether a site's log may have writes that its image lacks. Of one that has diverged the image had
    /// everything before the first write that is in no log, and a log that is still there is older.
    pub(crate) const fn has_log(self) -> bool {
        matches!(self, Self::Logging | Self::CopyingInitial | Self::CopyingResync | Self::Fenced)
    }
}

impl KnownImage {
    /// What a watch knows of the image beside the log of a site.
    pub(crate) fn of(role: Role, watch: &mut ImageWatch, disk_bytes: u64) -> Result<Self> {
        Ok(match (role.has_log(), watch.look(disk_bytes)?) {
            (false, _) => Self::Whole,
            (true, true) => Self::Changed,
            (true, false) if watch.is_noted() => Self::Whole,
            (true, false) => Self::MayLack,
        })
    }
}

/// A log of former days that is open, with its image.
#[derive(Debug)]
pub(crate) struct KeptLog {
    tracker: Tracker,
    mark: Mark,
    options: TrackerOptions,
    /// For messages.
    path: String,
}

impl KeptLog {
    /// Opens the files of a site; a torn tail of the log, which never was durable, is cut.
    pub(crate) fn open(
        image: Arc<dyn BlockDevice>,
        disk: &Arc<dyn Disk>,
        site: &Site,
        options: TrackerOptions,
    ) -> Result<Self> {
        let (tracker, mark) = Tracker::load(image, disk, site, &options)?;
        let path = Path::new(&site.location).join(&site.image).display().to_string();
        Ok(Self { tracker, mark, options, path })
    }

    /// Reads and checks all of it, and that the image has room for it.
    pub(crate) fn content(&self) -> Result<LogContent> {
        let mut content = LogContent::default();
        if !self.mark.role.has_log() {
            return Ok(content);
        }
        for batch in self.tracker.log.batches() {
            for frame in frames(&self.tracker.log.read(batch)?) {
                let (frame, _) = frame?;
                if let Change::Write { offset, content: data } = frame.change {
                    let length = data.length();
                    check_range(self.tracker.image.len(), offset, length as usize)?;
                    content.writes += 1;
                    content.bytes += length;
                    content.last = frame.stamp;
                }
            }
        }
        Ok(content)
    }

    /// Brings every write to the image, durably. Nobody takes the site for one that runs production from
    /// then on, and the whole log was checked before its first write gets there. Repeated after a crash.
    ///
    /// # Errors
    /// [`Error::Invalid`] if something else has written to the image since it had everything;
    /// [`Error::Corrupt`]; [`Error::Disk`].
    pub(crate) fn merge(mut self) -> Result<()> {
        if !self.mark.role.has_log() {
            return Ok(());
        }
        if self.tracker.has_image_changed()? {
            let reason = "something else has written to it since it had every write of the log: to merge \
                          them would undo that, so discard them";
            return Err(Error::Invalid { what: "disk image", value: self.path, reason });
        }
        self.content()?;
        let Mark { role, epoch, stamp, .. } = self.mark;
        if role != Role::Fenced {
            let epoch = epoch + 1;
            let item = self.options.item;
            let floor = Stamp::default();
            self.tracker.mark.set(Mark { item, role: Role::Fenced, epoch, stamp, floor })?;
        }
        self.tracker.recover(stamp, None)
    }
}
