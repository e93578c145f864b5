//! Names beside a place, where what is to come there is made.
//!
//! There are a few of them for each place, one a writer. A writer holds a lock on its file as long as it
//! lives, so a file whose lock can be had was left by one that did not end, and goes.

use super::{FileId, Place, failed};
use crate::Error;
use oms_core::{EntropyExt as _, SystemEntropy};
use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, flock, fstat, openat, renameat, statat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How many writers to one place have a name that a later one clears if they do not end.
const NAMES: usize = 16;

/// A new file beside a place, which goes unless it is moved there.
#[derive(Debug)]
pub(super) struct Temporary<'a> {
    place: &'a Place,
    name: OsString,
    file: File,
    is_moved: bool,
}

impl<'a> Temporary<'a> {
    /// A file that is empty and can be read by its owner alone, once the leavings of earlier writers are
    /// gone.
    pub(super) fn beside(place: &'a Place) -> Result<Self, Error> {
        let sum = crc32c::crc32c(place.name.as_bytes());
        let mut own = None;
        for writer in 0..NAMES {
            let name = OsString::from(format!(".oms-new-{sum:08x}-{writer}"));
            clear(place, &name);
            if own.is_none() {
                own = create(place, &name)?.map(|file| (name, File::from(file)));
            }
        }
        let (name, file) = match own {
            Some(own) => own,
            None => by_chance(place, sum)?,
        };
        Ok(Self { place, name, file, is_moved: false })
    }

    pub(super) const fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn move_into_place(mut self) -> Result<(), Error> {
        self.rename(&self.name)?;
        self.is_moved = true;
        self.place.sync_folder()
    }

    /// Puts a symbolic link at the place; the file keeps other writers off its name meanwhile.
    pub(super) fn link_into_place(self, target: &Path) -> Result<(), Error> {
        let folder = &self.place.folder;
        let link = link_name(&self.name);
        // One that stayed where the file did not.
        unlink(self.place, &link);
        symlinkat(target, folder, &link).map_err(failed("create link", &self.place.path))?;
        let renamed = self.rename(&link);
        if renamed.is_err() {
            unlink(self.place, &link);
        }
        renamed?;
        self.place.sync_folder()
    }

    fn rename(&self, name: &OsString) -> Result<(), Error> {
        let folder = &self.place.folder;
        renameat(folder, name, folder, &self.place.name)
            .map_err(failed("replace", &self.place.path))
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.is_moved {
            // The lock is still held.
            unlink(self.place, &self.name);
        }
    }
}

fn link_name(name: &OsString) -> OsString {
    let mut link = name.clone();
    link.push(".link");
    link
}

/// Removes a name beside a place. One that cannot be removed is left to the next writer.
fn unlink(place: &Place, name: &OsString) {
    let _ = unlinkat(&place.folder, name, AtFlags::empty());
}

/// A file of a name that nobody foresees: whoever may write to the folder could hold all the others, and
/// so keep a key in its place that is to go.
fn by_chance(place: &Place, sum: u32) -> Result<(OsString, File), Error> {
    let name = OsString::from(format!(".oms-new-{sum:08x}-{:016x}", SystemEntropy.number()));
    let file = create(place, &name)?.ok_or_else(|| failed("create", &place.path)(Errno::AGAIN))?;
    Ok((name, File::from(file)))
}

/// Makes the file of that name and locks it; none if another has it.
fn create(place: &Place, name: &OsString) -> Result<Option<OwnedFd>, Error> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let secret = Mode::from_raw_mode(0o600);
    let file = match openat(&place.folder, name, flags, secret) {
        Ok(file) => file,
        Err(Errno::EXIST) => return Ok(None),
        Err(errno) => return Err(failed("create", &place.path)(errno)),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        // Who came between the two took it for one that was left, and removed it.
        Ok(()) => Ok(is_at(place, name, &file).then_some(file)),
        Err(Errno::AGAIN) => Ok(None),
        // There are no locks here, so nobody takes it for one that was left.
        Err(Errno::NOLCK | Errno::OPNOTSUPP) => Ok(Some(file)),
        Err(errno) => {
            unlink(place, name);
            Err(failed("lock", &place.path)(errno))
        }
    }
}

/// Removes what a writer of that name left, if it does not live any more.
fn clear(place: &Place, name: &OsString) {
    // Some file systems lock only what is open for writing.
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(&place.folder, name, flags, Mode::empty()) {
        Ok(file) => file,
        // No writer makes a link of that name.
        Err(Errno::LOOP) => return unlink(place, name),
        Err(_) => return,
    };
    let is_left = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
    if is_left && is_at(place, name, &file) {
        unlink(place, &link_name(name));
        unlink(place, name);
    }
}

/// Whether a locked file still has its name, which only who holds the lock takes from it.
fn is_at(place: &Place, name: &OsString, file: impl AsFd) -> bool {
    let named = statat(&place.folder, name, AtFlags::SYMLINK_NOFOLLOW);
    matches!((fstat(file), named), (Ok(own), Ok(named)) if FileId::of(&own) == FileId::of(&named))
}

#[cfg(test)]
mod tests {
    use super::super::{Attributes, Root};
    use super::*;

    /// The folder of a place `x`, and that place.
    fn place() -> (tempfile::TempDir, Place) {
        let folder = tempfile::tempdir().expect("a folder");
        let root = Root::only(folder.path().to_owned()).expect("a root");
        let place = root.place(&folder.path().join("x"), false).expect("below").expect("there");
        (folder, place)
    }

    fn names(folder: &tempfile::TempDir) -> Vec<OsString> {
        let entries = std::fs::read_dir(folder.path()).expect("a folder");
        entries.map(|entry| entry.expect("an entry").file_name()).collect()
    }

    #[test]
    fn what_fails_leaves_nothing() {
        let (folder, place) = place();
        place.make_directory(0o755).expect("made");
        let failed = place.write(b"text", Attributes::default(), None);
        assert!(failed.expect_err("a directory is there").to_string().contains("replace"));
        let failed = place.link_to(Path::new("target"));
        assert!(failed.expect_err("a directory is there").to_string().contains("replace"));
        assert_eq!(names(&folder), ["x"]);
    }

    #[test]
    fn there_is_a_name_for_one_more() {
        let (folder, place) = place();
        let beside = || Temporary::beside(&place).expect("a file");
        let writers: Vec<_> = (0..NAMES + 2).map(|_| beside()).collect();
        beside().move_into_place().expect("moved");
        assert_eq!(names(&folder).len(), NAMES + 3);
        drop(writers);
        assert_eq!(names(&folder), ["x"]);
    }

    /// Somebody who may write to the folder, as a user to that of their keys.
    #[test]
    fn names_that_are_taken_keep_nobody_from_writing() {
        let (folder, place) = place();
        let sum = crc32c::crc32c(b"x");
        let name = |writer: usize| folder.path().join(format!(".oms-new-{sum:08x}-{writer}"));
        for writer in 0..NAMES {
            match writer % 2 {
                0 => std::os::unix::fs::symlink("x", name(writer)).expect("a link"),
                _ => std::fs::create_dir(name(writer)).expect("a folder"),
            }
        }
        place.write(b"text", Attributes::default(), None).expect("written");
        assert_eq!(place.read(9).expect("read"), b"text");
        // A folder is somebody's.
        assert_eq!(names(&folder).len(), 1 + NAMES / 2);
        // As where all names are folders.
        for writer in (0..NAMES).step_by(2) {
            std::fs::create_dir(name(writer)).expect("a folder");
        }
        place.write(b"again", Attributes::default(), None).expect("written");
        assert_eq!(place.read(9).expect("read"), b"again");
        assert_eq!(names(&folder).len(), 1 + NAMES);
    }
}
