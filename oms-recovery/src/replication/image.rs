//! Whether something else has written to the image of production's disk.
//!
//! What a store tells of the image is noted whenever the image holds every write that is in the outgoing
//! log, in a small file at the site that is rewritten in place:
//!
//! ```text
//!  0          8        24       32     40        56       60
//!  "OMSRIMG1" item     bytes    file   version   CRC32C
//!             16 bytes u64      u64    i128      u32
//!
//!  image, synced with its time ──► note ┄┄► note blotted out ──► log, synced ──► image
//! ```
//! Each step is durable before the next begins. So whoever opens a site with a note replays no write of
//! the log, which would undo what something else has written since, and knows that nothing has while the
//! store tells the same. A note that is torn by a power loss is none, as is one that was blotted out:
//! then the log is replayed, and nothing is known of the time before.

use super::{Site, SiteStores};
use crate::error::{Error, Result};
use crate::machine::disk::BlockDevice;
use oms_core::disk::{Disk, DiskExt as _, OpenMode};
use std::io;
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

const NOTE_BYTES: usize = 60;
const MAGIC: [u8; 8] = *b"OMSRIMG1";

/// What a store tells of an image. It changes when the image is written to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ImageState {
    /// Its length, in bytes.
    pub bytes: u64,
    /// Which file it is: another one may have taken its name. 0 where the store cannot tell.
    pub file: u64,
    /// Another one after a write; of a file, when it was modified, in nanoseconds since 1970.
    pub version: i128,
}

/// What is known of a site's note.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Note {
    /// There is none, and no power loss brings one back.
    None,
    /// There may be one, now or after a power loss.
    Unknown,
    /// It says what is expected.
    Whole,
}

/// Refuses an image of another length than the disk that is protected.
pub(crate) fn check_length(site: &Site, found: u64, disk_bytes: u64) -> Result<()> {
    if found == disk_bytes {
        return Ok(());
    }
    let path = Path::new(&site.location).join(&site.image);
    let reason = "something else has changed its length, and what lies past the protected one is not \
                  replicated: bring it back to that length, or disable the protection and protect it \
                  again";
    let value = format!("{}, bytes: {found}, protected: {disk_bytes}", path.display());
    Err(Error::Invalid { what: "disk image", value, reason })
}

/// Looks after the image of one site.
#[derive(Debug)]
pub(crate) struct ImageWatch {
    stores: Arc<dyn SiteStores>,
    site: Site,
    disk: Arc<dyn Disk>,
    item: Uuid,
    /// The file that the device has open.
    file: Option<u64>,
    /// The image as the device's own writes left it; none while that is not known.
    expected: Option<ImageState>,
    note: Note,
    has_changed: bool,
}

impl ImageWatch {
    /// Goes by what was noted of the image last, if anything was.
    pub(crate) fn open(
        stores: Arc<dyn SiteStores>,
        disk: Arc<dyn Disk>,
        site: Site,
        item: Uuid,
    ) -> Result<Self> {
        let file = stores.image_state(&site)?.map(|state| state.file);
        let (note, expected) = read_note(&*disk, &site.image_note(), item)?;
        Ok(Self { stores, site, disk, item, file, expected, note, has_changed: false })
    }

    /// Whether the image had every write of the log when it was noted, and the device has logged none
    /// since.
    pub(crate) const fn is_noted(&self) -> bool {
        matches!(self.note, Note::Whole)
    }

    /// Whether something else has written to the image since it was known to be the device's.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another length, or if another file has taken the image's name.
    pub(crate) fn look(&mut self, disk_bytes: u64) -> Result<bool> {
        let Some(state) = self.stores.image_state(&self.site)? else { return Ok(false) };
        if self.file.is_some_and(|file| file != state.file) {
            let value = Path::new(&self.site.location).join(&self.site.image).display().to_string();
            let reason = "another file has taken its place while this process had it open";
            return Err(Error::Invalid { what: "disk image", value, reason });
        }
        check_length(&self.site, state.bytes, disk_bytes)?;
        self.has_changed |= self.expected.is_some_and(|expected| expected != state);
        Ok(self.has_changed)
    }

    /// As [`look`](Self::look), for a device that goes on whatever the answer is.
    pub(crate) fn is_changed(&mut self) -> bool {
        let Some(expected) = self.expected else { return self.has_changed };
        self.has_changed |= self.stores.image_state(&self.site).ok().flatten() != Some(expected);
        self.has_changed
    }

    /// Takes the image as it is for the device's own, if nothing is known of it.
    pub(crate) fn adopt(&mut self) {
        if self.expected.is_none() {
            self.after_write();
        }
    }

    /// Blots the note out. To be called before a write gets into the log: whoever found the note after a
    /// power loss would not replay it.
    pub(crate) fn blot(&mut self) -> Result<()> {
        if self.note == Note::None {
            return Ok(());
        }
        self.note = Note::Unknown;
        // Made if somebody has removed it: a power loss may bring it back.
        let file = self.disk.open(&self.site.image_note(), OpenMode::OpenOrCreate)?;
        // A new one on a full disk stays empty.
        if !file.is_empty()? {
            file.write_at(0, &[0; NOTE_BYTES])?;
        }
        file.sync()?;
        self.disk.sync_dir(&self.site.folder)?;
        self.note = Note::None;
        Ok(())
    }

    fn before_write(&mut self) -> Result<()> {
        self.is_changed();
        // Found after a power loss, it would take the device's writes for another's.
        self.blot()
    }

    fn after_write(&mut self) {
        self.expected = self.stores.image_state(&self.site).ok().flatten();
    }

    /// Takes the image for the device's own as it is now, and notes it.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.blot()?;
        (self.expected, self.has_changed) = (self.stores.image_state(&self.site)?, false);
        self.note()
    }

    /// Notes what is expected, for whoever opens the site next, unless it is noted or there is nothing to
    /// note. The image has every write of the log.
    pub(crate) fn note(&mut self) -> Result<()> {
        let Some(state) = self.expected.filter(|_| !self.has_changed && !self.is_noted()) else {
            return Ok(());
        };
        // A power loss that took the image's time back would be taken for somebody's write, and what it
        // took of the image would not be replayed.
        self.stores.sync_image(&self.site)?;
        let file = self.disk.open(&self.site.image_note(), OpenMode::OpenOrCreate)?;
        self.note = Note::Unknown;
        file.write_at(0, &encode(self.item, state))?;
        file.sync()?;
        self.disk.sync_dir(&self.site.folder)?;
        self.note = Note::Whole;
        Ok(())
    }
}

/// Writes to an image, seen by those who look after it.
pub(crate) fn write_image(
    watch: &mut Option<ImageWatch>,
    image: &dyn BlockDevice,
    offset: u64,
    bytes: &[u8],
) -> Result<()> {
    let Some(watch) = watch else { return image.write_at(offset, bytes) };
    watch.before_write()?;
    let written = image.write_at(offset, bytes);
    watch.after_write();
    written
}

/// What a note says. A process that was killed may have written it, or blotted it out, and not synced it.
fn read_note(disk: &dyn Disk, path: &Path, item: Uuid) -> Result<(Note, Option<ImageState>)> {
    let file = match disk.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => {
            return Ok((Note::None, None));
        }
        Err(error) => return Err(error.into()),
    };
    let mut bytes = [0; NOTE_BYTES];
    file.read_at(0, &mut bytes)?;
    let Some(state) = decode(&bytes, item) else { return Ok((Note::Unknown, None)) };
    disk.settle(path)?;
    Ok((Note::Whole, Some(state)))
}

fn encode(item: Uuid, state: ImageState) -> [u8; NOTE_BYTES] {
    let mut bytes = [0; NOTE_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..24].copy_from_slice(item.as_bytes());
    bytes[24..32].copy_from_slice(&state.bytes.to_le_bytes());
    bytes[32..40].copy_from_slice(&state.file.to_le_bytes());
    bytes[40..56].copy_from_slice(&state.version.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..56]);
    bytes[56..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// None for what is not a whole note of this item.
fn decode(bytes: &[u8; NOTE_BYTES], item: Uuid) -> Option<ImageState> {
    let number = |at: usize| bytes[at..].first_chunk::<8>().copied().map(u64::from_le_bytes);
    let state = ImageState {
        bytes: number(24)?,
        file: number(32)?,
        version: i128::from_le_bytes(*bytes[40..].first_chunk()?),
    };
    (encode(item, state) == *bytes).then_some(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn notes_round_trip(bytes: u64, file: u64, version: i128, item: u128, bit in 0..60_usize * 8) {
            let item = Uuid::from_u128(item);
            let state = ImageState { bytes, file, version };
            let mut note = encode(item, state);
            prop_assert_eq!(decode(&note, item), Some(state));
            prop_assert_eq!(decode(&note, Uuid::from_u128(!item.as_u128())), None);
            note[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(decode(&note, item), None, "a changed bit");
        }

        #[test]
        fn any_bytes_are_a_note_or_none(bytes: [u8; 28], rest: [u8; 32]) {
            let bytes: Vec<u8> = bytes.into_iter().chain(rest).collect();
            let _ = decode(bytes.first_chunk().expect("60"), Uuid::nil());
        }
    }
}
