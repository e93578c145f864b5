//! Copies of files and of whole directories.

use super::super::tree::{Attributes, DEPTH_MAX};
use super::{
    Compares, Desired, Difference, Differences, Error, FILE_BYTES_MAX, FileId, Found, Links, Place,
    Root, Source, diff, keep_source, needs_force, read_source, remove, source_of,
};
use crate::protocol::Checksum;
use rustix::fs::FileType;
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// The most files of a directory that are compared or copied.
const FILES_MAX: usize = 100_000;

/// Seconds and nanoseconds.
type Time = (i64, i64);

/// How a file is not what it should be.
#[derive(Debug)]
pub(super) enum Drift<'a> {
    /// It holds something else; what it holds, unless that is too much, and how much that is.
    Contents { held: Option<Vec<u8>>, bytes: u64, wanted: Cow<'a, [u8]> },
    /// It was modified at another time than its source.
    Modified { found: Time, wanted: Time },
    /// It was changed before its source was.
    Changed { found: Time, wanted: Time },
}

impl<'a> Drift<'a> {
    /// How a copy that is there drifted from its source; none if it did not.
    pub(super) fn of(
        root: &Root,
        compares: Compares,
        source: &Path,
        copy: &Place,
    ) -> Result<Option<Self>, Error> {
        let (source, wanted) = source_of(root, source, FileType::RegularFile)?;
        let Some(found) = copy.found()? else { return Ok(None) };
        Ok(match compares {
            Compares::Name => None,
            Compares::Contents => Self::of_contents(copy, &found, source.read(FILE_BYTES_MAX)?)?,
            Compares::Modified => (found.modified_at != wanted.modified_at)
                .then_some(Self::Modified { found: found.modified_at, wanted: wanted.modified_at }),
            Compares::Changed => (found.changed_at < wanted.changed_at)
                .then_some(Self::Changed { found: found.changed_at, wanted: wanted.changed_at }),
        })
    }

    /// How a file drifted from what it should hold; none if it did not.
    pub(super) fn of_contents(
        place: &Place,
        found: &Found,
        wanted: impl Into<Cow<'a, [u8]>>,
    ) -> Result<Option<Self>, Error> {
        let wanted = wanted.into();
        let held = match found.bytes > FILE_BYTES_MAX {
            true => None,
            false => Some(place.read(FILE_BYTES_MAX)?),
        };
        let is_same = held.as_deref() == Some(&*wanted);
        Ok((!is_same).then_some(Self::Contents { held, bytes: found.bytes, wanted }))
    }

    /// As it is told, with the lines that differ.
    pub(super) fn difference(self) -> Difference {
        let time = |(seconds, nanoseconds): Time| {
            let nanoseconds = i32::try_from(nanoseconds).unwrap_or_default();
            let time = jiff::Timestamp::new(seconds, nanoseconds);
            time.map_or_else(|_| seconds.to_string(), |time| time.to_string())
        };
        match self {
            Self::Contents { held, bytes, wanted } => {
                let shown = |bytes: &[u8]| {
                    format!("{} bytes, SHA-256 {}", bytes.len(), Checksum::of(bytes))
                };
                let before = held.as_deref().map_or_else(|| format!("{bytes} bytes"), shown);
                let diff = held.and_then(|held| diff::diff(&held, &wanted));
                Difference { diff, ..Difference::new("Contents", before, shown(&wanted)) }
            }
            Self::Modified { found, wanted } => {
                Difference::new("ModifiedDate", time(found), time(wanted))
            }
            Self::Changed { found, wanted } => {
                let later = format!("{} or later", time(wanted));
                Difference::new("CreatedDate", time(found), later)
            }
        }
    }
}

/// What a copy takes over from its source beside the contents. One that was there stays as it was.
pub(super) fn attributes_of_copy(
    source: &Found,
    desired: &Desired,
    replaced: Option<&Found>,
) -> Attributes {
    // The copy belongs to another user, whose rights nobody gets by it.
    let mode = replaced.is_none().then_some(source.mode & 0o777);
    let modified_at = (desired.compares == Compares::Modified).then_some(source.modified_at);
    Attributes { mode, modified_at, ..Attributes::default() }
}

/// The mode of a new copy of a directory: as closed as that, and open for its owner, who fills it.
pub(super) fn mode_of_copy(root: &Root, source: &Path) -> Result<u32, Error> {
    let (_, found) = source_of(root, source, FileType::Directory)?;
    Ok(found.mode & 0o777 | 0o700)
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

impl Entry {
    const fn file_type(&self) -> FileType {
        match self {
            Self::File => FileType::RegularFile,
            Self::Directory => FileType::Directory,
            Self::Link(_) => FileType::Symlink,
        }
    }
}

/// A directory and all that is to be in it.
pub(super) struct Tree<'a> {
    root: &'a Root,
    desired: &'a Desired,
    /// The directories in which the copy lies.
    holders: Vec<FileId>,
    /// The directories of the source that are being walked, each in the one before.
    entered: Vec<(FileId, Place)>,
    files: usize,
    differences: Differences,
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: &'a Root, desired: &'a Desired) -> Result<Self, Error> {
        // Without directories there is no end to miss.
        let holders = match desired.recurse && matches!(desired.source, Source::Path(_)) {
            true => root.holders(&desired.path)?,
            false => Vec::new(),
        };
        let differences = Differences::default();
        Ok(Self { root, desired, holders, entered: Vec::new(), files: 0, differences })
    }

    /// How what is below `target` differs.
    pub(super) fn differences(mut self, target: &Place) -> Result<Vec<Difference>, Error> {
        if let Source::Path(source) = &self.desired.source {
            self.compare(source, target, "", 0)?;
        }
        if self.desired.recurse {
            self.compare_attributes(target, "", 0)?;
        }
        Ok(self.differences.told())
    }

    /// Makes everything below `target` as it should be.
    pub(super) fn set(mut self, target: &Place) -> Result<(), Error> {
        if let Source::Path(source) = &self.desired.source {
            self.copy(source, target, 0)?;
        }
        match self.desired.recurse {
            true => self.set_attributes(target, 0),
            false => Ok(()),
        }
    }

    /// Begins with a directory of the source, which has to be there and must not hold its own copy.
    pub(super) fn enter(&mut self, source: &Path) -> Result<Place, Error> {
        let (place, found) = source_of(self.root, source, FileType::Directory)?;
        let is_entered = self.entered.iter().any(|(id, _)| *id == found.id);
        if self.holders.contains(&found.id) || is_entered {
            let reason = format!("{} would be copied into itself", source.display());
            return Err(Error::Invalid { what: "File resource", reason });
        }
        self.entered.push((found.id, place.clone()));
        Ok(place)
    }

    /// Refuses to replace a directory of the copy that holds the entry which it would give way to, or a
    /// directory of the source that is being walked.
    fn keep_sources(
        &self,
        (entry, kind): (&Path, &Entry),
        copy: &Place,
        found: &Found,
    ) -> Result<(), Error> {
        for (_, source) in &self.entered {
            keep_source(source, copy, found)?;
        }
        // A link is copied itself, so it may lead anywhere.
        if found.file_type == FileType::Directory
            && !matches!(kind, Entry::Link(_))
            && let Some((source, _)) = self.root.follow(entry)?
        {
            keep_source(&source, copy, found)?;
        }
        Ok(())
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
    fn entries(&self, place: &Place) -> Result<Vec<(Place, PathBuf, Entry)>, Error> {
        let mut entries = Vec::new();
        for (child, file_type) in place.children()? {
            let mut path = child.path().to_owned();
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
        let source = self.enter(source)?;
        for (entry, path, kind) in self.entries(&source)? {
            self.count(depth)?;
            let name = format!("{inside}{}", entry.name().to_string_lossy());
            let copy = target.child(entry.name())?;
            let found = copy.found()?;
            if let Some(other) = found.as_ref().filter(|found| found.file_type != kind.file_type())
            {
                self.keep_sources((&path, &kind), &copy, other)?;
            }
            let mut differ = |property: &str, found: &str, desired: &str| {
                let property = || format!("{property} of {name}");
                self.differences.add(|| Difference::new(property(), found, desired));
            };
            match (&kind, found.as_ref().map(|found| found.file_type)) {
                (_, None) => differ("Ensure", "absent", "present"),
                (Entry::File, Some(FileType::RegularFile)) => {
                    if let Some(drift) = Drift::of(self.root, self.desired.compares, &path, &copy)?
                    {
                        self.differences.add(|| {
                            let difference = drift.difference();
                            let property = format!("{} of {name}", difference.property);
                            Difference { property, ..difference }
                        });
                    }
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
        self.entered.pop();
        Ok(())
    }

    fn copy(&mut self, source: &Path, target: &Place, depth: usize) -> Result<(), Error> {
        let source = self.enter(source)?;
        for (entry, path, kind) in self.entries(&source)? {
            self.count(depth)?;
            let copy = target.child(entry.name())?;
            let mut found = copy.found()?;
            if let Some(other) = found.take_if(|found| found.file_type != kind.file_type()) {
                needs_force(self.desired, "replace what is of another type", copy.path())?;
                self.keep_sources((&path, &kind), &copy, &other)?;
                remove(&copy, &other, self.desired)?;
            }
            match kind {
                Entry::File => self.copy_file(&path, &copy, found.as_ref())?,
                Entry::Directory => {
                    if found.is_none() {
                        copy.make_directory(mode_of_copy(self.root, &path)?)?;
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
        self.entered.pop();
        Ok(())
    }

    fn copy_file(&self, source: &Path, copy: &Place, found: Option<&Found>) -> Result<(), Error> {
        let compares = self.desired.compares;
        if found.is_some() && Drift::of(self.root, compares, source, copy)?.is_none() {
            return Ok(());
        }
        let (source, contents) = read_source(self.root, source)?;
        let attributes = attributes_of_copy(&source, self.desired, found);
        copy.write(&contents, attributes, found)
    }

    fn compare_attributes(
        &mut self,
        target: &Place,
        inside: &str,
        depth: usize,
    ) -> Result<(), Error> {
        for (child, _) in target.children()? {
            self.count(depth)?;
            let Some(found) = child.found()? else { continue };
            let name = format!("{inside}{}", child.name().to_string_lossy());
            for difference in attribute_differences(&name, &found, self.desired) {
                self.differences.add(|| difference);
            }
            if found.file_type == FileType::Directory {
                self.compare_attributes(&child, &format!("{name}/"), depth + 1)?;
            }
        }
        Ok(())
    }

    fn set_attributes(&mut self, target: &Place, depth: usize) -> Result<(), Error> {
        for (child, _) in target.children()? {
            self.count(depth)?;
            let Some(found) = child.found()? else { continue };
            if found.file_type == FileType::Directory {
                self.set_attributes(&child, depth + 1)?;
            }
            if attribute_differences("", &found, self.desired).is_empty() {
                continue;
            }
            let attributes = self.desired.attributes_of(found.file_type);
            match found.file_type {
                FileType::RegularFile | FileType::Directory => child.set_attributes(attributes)?,
                // Opening a pipe or a device may wait or do something; a socket cannot be opened.
                _ => child.set_owner(attributes)?,
            }
        }
        Ok(())
    }
}
