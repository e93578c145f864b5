//! What an archive holds, unpacked: `Archive` of Windows and `nxArchive`.
//!
//! The archive is zip, or tar: by itself, or compressed by gzip or Zstandard. Which it is its bytes tell. It
//! is read without trusting it, by the rules of module packages: no link, no device, no path that leaves the
//! destination, no more bytes than it says. A tar archive tells which files are executable; whose they are
//! it does not decide. A symbolic link below the destination leads no file
//! out of it either; an absolute one is refused, also where it leads below the destination. Every file is
//! written beside its place and renamed into it, so one that is there is whole. What the archive does not
//! name stays.

pub(super) mod contents;

mod tar;

use super::differences::Differences;
use super::property::{Ensure, Properties};
use super::tree::{Attributes, NEW_DIRECTORY, Place, Root, rooted};
use super::{Difference, Resource, SetReport};
use crate::Error;
use crate::configuration::ResourceInstance;
use crate::module::{INFLATED_BYTES_MAX, MODULE_BYTES_MAX};
use async_trait::async_trait;
use contents::{Archive, Entry};
use oms_core::task::blocking;
use rustix::fs::FileType;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const CLASSES: [&str; 3] = ["MSFT_ArchiveResource", "MSFT_nxArchiveResource", "MSFT_nxArchive"];

const KNOWN: [&str; 8] = [
    "Path",
    "SourcePath",
    "Destination",
    "DestinationPath",
    "Ensure",
    "Validate",
    "Checksum",
    "Force",
];

rooted! {
    /// Unpacked archives.
    pub struct ArchiveResource;

    /// A resource that may change any path that the process may.
    everywhere;

    /// A resource that refuses every path outside of `root`, which must exist.
    within;
}

impl ArchiveResource {
    async fn with<T: Send + 'static>(
        &self,
        instance: &ResourceInstance,
        work: fn(&Unpacked<'_>, &Archive<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (desired, root) = (Desired::of(instance)?, self.root.clone());
        blocking(move || {
            let shown = || desired.source.display().to_string();
            let not_found = || Error::NotFound { what: "archive", name: shown() };
            let (place, _) = root.follow(&desired.source)?.ok_or_else(not_found)?;
            let bytes = place.read(MODULE_BYTES_MAX as u64)?;
            let archive = Archive::read(&bytes, &shown)?;
            let inside = root.below(&desired.target, false)?;
            work(&Unpacked { root: &root, inside, source: &place, desired: &desired }, &archive)
        })
        .await
    }
}

#[async_trait]
impl Resource for ArchiveResource {
    fn classes(&self) -> &[&str] {
        &CLASSES
    }

    async fn get(&self, instance: &ResourceInstance) -> Result<BTreeMap<String, Value>, Error> {
        self.with(instance, |unpacked, archive| {
            let (mut there, mut files) = (0, 0);
            for entry in archive.entries().iter().filter(|entry| !entry.is_folder) {
                files += 1;
                let found = unpacked.place(entry, false)?.map(|place| place.found()).transpose()?;
                there += usize::from(found.flatten().is_some());
            }
            Ok(BTreeMap::from([
                ("Destination".to_owned(), json!(unpacked.desired.target.display().to_string())),
                ("Files".to_owned(), json!(files)),
                ("FilesPresent".to_owned(), json!(there)),
            ]))
        })
        .await
    }

    async fn test(&self, instance: &ResourceInstance) -> Result<Vec<Difference>, Error> {
        self.with(instance, |unpacked, archive| unpacked.differences(archive)).await
    }

    async fn set(&self, instance: &ResourceInstance) -> Result<SetReport, Error> {
        self.with(instance, |unpacked, archive| match unpacked.desired.ensure {
            Ensure::Present => unpacked.with_destination()?.unpack(archive),
            Ensure::Absent => unpacked.remove(archive),
        })
        .await
        .map(|()| SetReport::default())
    }
}

/// What should be.
#[derive(Clone, Debug)]
struct Desired {
    source: PathBuf,
    target: PathBuf,
    ensure: Ensure,
    /// Whether contents are compared, and not names alone.
    validates: bool,
    force: bool,
}

impl Desired {
    fn of(instance: &ResourceInstance) -> Result<Self, Error> {
        let read = Properties::new(instance, "Archive resource", &KNOWN)?;
        let is_nx = instance.class.to_ascii_lowercase().contains("nxarchive");
        let (source, target) = match is_nx {
            true => ("SourcePath", "DestinationPath"),
            false => ("Path", "Destination"),
        };
        let compares = match read.word("Checksum")?.as_deref() {
            None => is_nx,
            Some("sha-1" | "sha-256" | "sha-512" | "md5") => true,
            Some(other) => return Err(read.unsupported(&format!("Checksum `{other}`"))),
        };
        Ok(Self {
            source: read.needed_path(source)?,
            target: read.needed_path(target)?,
            ensure: read.ensure()?,
            validates: if is_nx { compares } else { read.flag("Validate")?.unwrap_or(compares) },
            force: read.flag("Force")?.unwrap_or(false),
        })
    }
}

/// A destination, beside the archive that it is to hold.
struct Unpacked<'a> {
    root: &'a Root,
    /// The destination, which no entry leaves; none if it is not there.
    inside: Option<Root>,
    /// The archive's file.
    source: &'a Place,
    desired: &'a Desired,
}

impl Unpacked<'_> {
    /// Makes the destination if it is not there.
    fn with_destination(&self) -> Result<Self, Error> {
        Ok(Self { inside: self.root.below(&self.desired.target, true)?, ..*self })
    }

    fn place(&self, entry: &Entry, makes_folders: bool) -> Result<Option<Place>, Error> {
        self.place_of(Path::new(&entry.path), makes_folders)
    }

    fn place_of(&self, path: &Path, makes_folders: bool) -> Result<Option<Place>, Error> {
        match &self.inside {
            Some(inside) => inside.place(&self.desired.target.join(path), makes_folders),
            None => Ok(None),
        }
    }

    /// What is at an entry's place, and how it differs; none for what is as it should be.
    fn difference(
        &self,
        archive: &Archive<'_>,
        entry: &Entry,
    ) -> Result<Option<Difference>, Error> {
        let place = self.place(entry, false)?;
        let found = place.as_ref().map(Place::found).transpose()?.flatten();
        let differ = |property: &str, found: &str, wanted: &str| {
            Some(Difference::new(format!("{property} of {}", entry.path), found, wanted))
        };
        let wanted = if entry.is_folder { FileType::Directory } else { FileType::RegularFile };
        Ok(match (place, found) {
            (Some(place), Some(found)) if found.file_type == wanted => {
                let is_same = entry.is_folder
                    || !self.desired.validates
                    || found.bytes == entry.len
                        && place.read(INFLATED_BYTES_MAX)? == archive.content(entry)?;
                let shown = (format!("{} bytes", found.bytes), format!("{} bytes", entry.len));
                let mode = entry.mode.filter(|_| self.desired.validates);
                match mode.filter(|mode| *mode != found.mode) {
                    _ if !is_same => differ("Contents", &shown.0, &shown.1),
                    Some(mode) => {
                        differ("Mode", &format!("{:04o}", found.mode), &format!("{mode:04o}"))
                    }
                    None => None,
                }
            }
            (_, Some(found)) => {
                let wanted = if entry.is_folder { "directory" } else { "file" };
                differ("Type", found.kind_name(), wanted)
            }
            (_, None) => differ("Ensure", "absent", "present"),
        })
    }

    fn differences(&self, archive: &Archive<'_>) -> Result<Vec<Difference>, Error> {
        let mut differences = Differences::default();
        for entry in archive.entries() {
            let difference = match self.desired.ensure {
                Ensure::Present => self.difference(archive, entry)?,
                Ensure::Absent => self.is_there(entry)?.then(|| {
                    Difference::new(format!("Ensure of {}", entry.path), "present", "absent")
                }),
            };
            if let Some(difference) = difference {
                differences.add(|| difference);
            }
        }
        Ok(differences.told())
    }

    /// Whether a file of the archive is there; of folders nobody knows whose they are.
    fn is_there(&self, entry: &Entry) -> Result<bool, Error> {
        let found = self.place(entry, false)?.map(|place| place.found()).transpose()?.flatten();
        Ok(!entry.is_folder && found.is_some_and(|found| found.file_type == FileType::RegularFile))
    }

    fn unpack(&self, archive: &Archive<'_>) -> Result<(), Error> {
        for entry in archive.entries() {
            if self.difference(archive, entry)?.is_none() {
                continue;
            }
            let missing = || Error::NotFound { what: "folder of", name: entry.path.clone() };
            let place = self.place(entry, true)?.ok_or_else(missing)?;
            let found = place.found()?;
            if found.is_some() && !self.desired.force {
                let reason = format!("Force is needed to replace {}", place.path().display());
                return Err(Error::Invalid { what: "Archive resource", reason });
            }
            let wanted = if entry.is_folder { FileType::Directory } else { FileType::RegularFile };
            let kept = match found {
                Some(found) if found.file_type == wanted => Some(found),
                Some(found) => {
                    if self.source.goes_with(&found)? {
                        let (replaced, source) = (place.path().display(), self.source.path());
                        let reason = format!("{replaced} holds the archive {}", source.display());
                        return Err(Error::Invalid { what: "Archive resource", reason });
                    }
                    match found.file_type {
                        FileType::Directory => place.remove_directory()?,
                        _ => place.remove_file()?,
                    }
                    None
                }
                None => None,
            };
            match entry.is_folder {
                true => place.make_directory(NEW_DIRECTORY)?,
                false => {
                    let contents = archive.content(entry)?;
                    let attributes = Attributes { mode: entry.mode, ..Attributes::default() };
                    place.write(&contents, attributes, kept.as_ref())?;
                }
            }
        }
        Ok(())
    }

    /// Removes the archive's files, and then the folders below the destination that hold nothing any
    /// more.
    fn remove(&self, archive: &Archive<'_>) -> Result<(), Error> {
        let mut folders = BTreeSet::new();
        for entry in archive.entries() {
            folders.extend(Path::new(&entry.path).ancestors().skip(1).map(Path::to_owned));
            if entry.is_folder {
                folders.insert(PathBuf::from(&entry.path));
            } else if self.is_there(entry)?
                && let Some(place) = self.place(entry, false)?
            {
                place.remove_file()?;
            }
        }
        folders.remove(Path::new(""));
        // What lies deeper comes later in the order of paths.
        for folder in folders.iter().rev() {
            let Some(place) = self.place_of(folder, false)? else { continue };
            let is_folder =
                place.found()?.is_some_and(|found| found.file_type == FileType::Directory);
            if is_folder {
                // One that holds something stays.
                place.remove_empty_directory()?;
            }
        }
        Ok(())
    }
}
