//! Copies of files and of whole directories.

use super::super::tree::{Attributes, DEPTH_MAX};
use super::{
    Compares, Desired, Difference, Error, FILE_BYTES_MAX, Found, Links, Place, Root, Source, diff,
    needs_force, remove, source_of,
};
use crate::protocol::Checksum;
use rustix::fs::FileType;
use std::path::{Path, PathBuf};

/// The most differences of a directory that are told; one more says that there are more.
const DIFFERENCES_MAX: usize = 50;

/// The most files of a directory that are compared or copied.
const FILES_MAX: usize = 100_000;

/// How a file differs from what it should hold.
pub(super) fn contents_difference(
    place: &Place,
    found: &Found,
    wanted: &[u8],
) -> Result<Option<Difference>, Error> {
    let held = match found.bytes > FILE_BYTES_MAX {
        true => None,
        false => Some(place.read(FILE_BYTES_MAX)?),
    };
    if held.as_deref() == Some(wanted) {
        return Ok(None);
    }
    let shown = |bytes: &[u8]| format!("{} bytes, SHA-256 {}", bytes.len(), Checksum::of(bytes));
    let before = held.as_deref().map_or_else(|| format!("{} bytes", found.bytes), shown);
    let diff = held.and_then(|held| diff::diff(&held, wanted));
    Ok(Some(Difference { diff, ..Difference::new("Contents", before, shown(wanted)) }))
}

/// How a copy that is there differs from its source.
pub(super) fn difference(
    root: &Root,
    compares: Compares,
    source: &Path,
    copy: &Place,
) -> Result<Option<Difference>, Error> {
    let (source, wanted) = source_of(root, source, FileType::RegularFile)?;
    let Some(found) = copy.found()? else { return Ok(None) };
    let time = |(seconds, nanoseconds): (i64, i64)| {
        let time = jiff::Timestamp::new(seconds, i32::try_from(nanoseconds).unwrap_or_default());
        time.map_or_else(|_| seconds.to_string(), |time| time.to_string())
    };
    Ok(match compares {
        Compares::Name => None,
        Compares::Contents => contents_difference(copy, &found, &source.read(FILE_BYTES_MAX)?)?,
        Compares::Modified => (found.modified_at != wanted.modified_at).then(|| {
            Difference::new("ModifiedDate", time(found.modified_at), time(wanted.modified_at))
        }),
        Compares::Changed => (found.changed_at < wanted.changed_at).then(|| {
            let later = format!("{} or later", time(wanted.changed_at));
            Difference::new("CreatedDate", time(found.changed_at), later)
        }),
    })
}

/// How mode and owner differ; `inside` is the way from the destination.
pub(super) fn attribute_differences(
    inside: &str,
    found: &Found,
    desired: &Desired,
) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut differ = |property: &str, found: String, desired: String| {
        let property = match inside {
            "" => property.to_owned(),
            inside => format!("{property} of {inside}"),
        };
        differences.push(Difference::new(property, found, desired));
    };
    let Attributes { mode, user, group, .. } = desired.attributes_of(found.file_type);
    // The mode of a link says nothing.
    let mode = mode.filter(|_| found.file_type != FileType::Symlink);
    if let Some(mode) = mode.filter(|mode| *mode != found.mode) {
        differ("Mode", format!("{:04o}", found.mode), format!("{mode:04o}"));
    }
    if let Some(user) = user.filter(|user| *user != found.owner.0) {
        differ("Owner", found.owner.0.to_string(), user.to_string());
    }
    if let Some(group) = group.filter(|group| *group != found.owner.1) {
        differ("Group", found.owner.1.to_string(), group.to_string());
    }
    differences
}

/// What the copy of an entry is to be.
enum Entry {
    File,
    Directory,
    Link(PathBuf),
}

/// A directory and all that is to be in it.
pub(super) struct Tree<'a> {
    root: &'a Root,
    desired: &'a Desired,
    files: usize,
    differences: Vec<Difference>,
}

impl<'a> Tree<'a> {
    pub(super) const fn new(root: &'a Root, desired: &'a Desired) -> Self {
        Self { root, desired, files: 0, differences: Vec::new() }
    }

    /// How what is below `target` differs.
    pub(super) fn differences(mut self, target: &Place) -> Result<Vec<Difference>, Error> {
        if let Source::Path(source) = &self.desired.source {
            self.compare(&source.clone(), target, "", 0)?;
        }
        if self.desired.recurse {
            self.compare_attributes(target, "", 0)?;
        }
        let more = self.differences.len().saturating_sub(DIFFERENCES_MAX);
        self.differences.truncate(DIFFERENCES_MAX);
        if more > 0 {
            self.differences.push(Difference::new("more", format!("{more} differences"), "none"));
        }
        Ok(self.differences)
    }

    /// Makes everything below `target` as it should be.
    pub(super) fn set(mut self, target: &Place) -> Result<(), Error> {
        if let Source::Path(source) = &self.desired.source {
            self.copy(&source.clone(), target, 0)?;
        }
        match self.desired.recurse {
            true => self.set_attributes(target, 0),
            false => Ok(()),
        }
    }

    fn count(&mut self, depth: usize) -> Result<(), Error> {
        self.files += 1;
        if self.files > FILES_MAX {
            let (actual, limit) = (self.files, FILES_MAX);
            return Err(Error::TooLarge { what: "directory to copy, in files", actual, limit });
        }
        if depth == DEPTH_MAX {
            let (actual, limit) = (depth + 1, DEPTH_MAX);
            return Err(Error::TooLarge { what: "directory to copy, in depth", actual, limit });
        }
        Ok(())
    }

    /// The entries of a source that are to be copied, in order, each with its path.
    fn entries(&self, source: &Path) -> Result<Vec<(Place, PathBuf, Entry)>, Error> {
        let (place, _) = source_of(self.root, source, FileType::Directory)?;
        let mut entries = Vec::new();
        for (child, file_type) in place.children()? {
            let mut path = source.join(child.name());
            let file_type = match (file_type, self.desired.links) {
                (FileType::Symlink, Links::Ignore) => continue,
                (FileType::Symlink, Links::Manage) => {
                    let target = child.link_target()?;
                    entries.push((child, path, Entry::Link(target)));
                    continue;
                }
                (FileType::Symlink, Links::Follow) => {
                    let not_found = || Error::NotFound {
                        what: "target of a link",
                        name: path.display().to_string(),
                    };
                    let (led_to, found) = self.root.follow(&path)?.ok_or_else(not_found)?;
                    path = led_to.path().to_owned();
                    found.file_type
                }
                (file_type, _) => file_type,
            };
            match file_type {
                FileType::RegularFile => entries.push((child, path, Entry::File)),
                FileType::Directory if self.desired.recurse => {
                    entries.push((child, path, Entry::Directory));
                }
                FileType::Directory => {}
                _ => {
                    let name = path.display().to_string();
                    return Err(Error::Unsupported { what: "copy of a special file", name });
                }
            }
        }
        Ok(entries)
    }

    fn compare(
        &mut self,
        source: &Path,
        target: &Place,
        inside: &str,
        depth: usize,
    ) -> Result<(), Error> {
        for (entry, path, kind) in self.entries(source)? {
            self.count(depth)?;
            let name = format!("{inside}{}", entry.name().to_string_lossy());
            let copy = target.child(entry.name())?;
            let found = copy.found()?;
            let mut differ = |property: &str, found: &str, desired: &str| {
                let property = format!("{property} of {name}");
                self.differences.push(Difference::new(property, found, desired));
            };
            match (&kind, found.as_ref().map(|found| found.file_type)) {
                (_, None) => differ("Ensure", "absent", "present"),
                (Entry::File, Some(FileType::RegularFile)) => {
                    let difference = difference(self.root, self.desired.compares, &path, &copy)?;
                    self.differences.extend(difference.map(|mut difference| {
                        difference.property = format!("{} of {name}", difference.property);
                        difference
                    }));
                }
                (Entry::Directory, Some(FileType::Directory)) => {
                    self.compare(&path, &copy, &format!("{name}/"), depth + 1)?;
                }
                (Entry::Link(target), Some(FileType::Symlink)) => {
                    let led = copy.link_target()?;
                    if led != *target {
                        let (led, target) = (led.display(), target.display());
                        differ("SourcePath", &led.to_string(), &target.to_string());
                    }
                }
                (_, Some(_)) => {
                    let wanted = match kind {
                        Entry::File => "file",
                        Entry::Directory => "directory",
                        Entry::Link(_) => "link",
                    };
                    differ("Type", found.map_or("", |found| found.kind_name()), wanted);
                }
            }
        }
        Ok(())
    }

    fn copy(&mut self, source: &Path, target: &Place, depth: usize) -> Result<(), Error> {
        for (entry, path, kind) in self.entries(source)? {
            self.count(depth)?;
            let copy = target.child(entry.name())?;
            let wanted = match kind {
                Entry::File => FileType::RegularFile,
                Entry::Directory => FileType::Directory,
                Entry::Link(_) => FileType::Symlink,
            };
            let mut found = copy.found()?;
            if let Some(other) = found.take_if(|found| found.file_type != wanted) {
                needs_force(self.desired, "replace what is of another type", copy.path())?;
                remove(&copy, &other, self.desired)?;
            }
            match kind {
                Entry::File => self.copy_file(&path, &copy, found.as_ref())?,
                Entry::Directory => {
                    if found.is_none() {
                        copy.make_directory()?;
                    }
                    self.copy(&path, &copy, depth + 1)?;
                }
                Entry::Link(target) => {
                    if found.is_none() || copy.link_target()? != target {
                        copy.link_to(&target)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn copy_file(&self, source: &Path, copy: &Place, found: Option<&Found>) -> Result<(), Error> {
        let compares = self.desired.compares;
        if found.is_some() && difference(self.root, compares, source, copy)?.is_none() {
            return Ok(());
        }
        let (place, source) = source_of(self.root, source, FileType::RegularFile)?;
        // A new file is as its source is, and one that was there stays as it was.
        let mode = found.is_none().then_some(source.mode);
        let modified_at = (compares == Compares::Modified).then_some(source.modified_at);
        let attributes = Attributes { mode, modified_at, ..Attributes::default() };
        copy.write(&place.read(FILE_BYTES_MAX)?, attributes, found)
    }

    fn compare_attributes(
        &mut self,
        target: &Place,
        inside: &str,
        depth: usize,
    ) -> Result<(), Error> {
        for (child, file_type) in target.children()? {
            self.count(depth)?;
            let Some(found) = child.found()? else { continue };
            let name = format!("{inside}{}", child.name().to_string_lossy());
            self.differences.extend(attribute_differences(&name, &found, self.desired));
            if file_type == FileType::Directory {
                self.compare_attributes(&child, &format!("{name}/"), depth + 1)?;
            }
        }
        Ok(())
    }

    fn set_attributes(&mut self, target: &Place, depth: usize) -> Result<(), Error> {
        for (child, file_type) in target.children()? {
            self.count(depth)?;
            let Some(found) = child.found()? else { continue };
            if file_type == FileType::Directory {
                self.set_attributes(&child, depth + 1)?;
            }
            if attribute_differences("", &found, self.desired).is_empty() {
                continue;
            }
            match file_type {
                FileType::Symlink => child.set_owner(self.desired.attributes)?,
                _ => child.set_attributes(self.desired.attributes_of(file_type))?,
            }
        }
        Ok(())
    }
}
