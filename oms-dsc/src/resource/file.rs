//! Files, directories and symbolic links: `File` of Windows and `nxFile`.
//!
//! Every path is walked from an open directory, and with an allowed root the kernel itself
//! refuses to leave it (`openat2`, `RESOLVE_BENEATH`), so a symbolic link that appears at the
//! wrong moment leads nowhere. Contents are written beside their place, synced, and renamed into
//! it: a reader sees the old file or the new one.

mod desired;

mod tree;

use super::{Difference, Resource, SetReport};
use crate::Error;
use crate::configuration::ResourceInstance;
use crate::protocol::Checksum;
use async_trait::async_trait;
use desired::{Desired, Ensure, Kind, Source};
use oms_core::task::blocking;
use rustix::fs::{FileType, Mode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tree::{Found, Place, Root};

/// The largest file that is compared or copied, in bytes.
pub const FILE_BYTES_MAX: u64 = 256 << 20;

const CLASSES: [&str; 3] =
    ["MSFT_FileDirectoryConfiguration", "MSFT_nxFileResource", "MSFT_nxFile"];

/// Files and directories.
#[derive(Clone, Debug)]
pub struct FileResource {
    root: Root,
}

impl FileResource {
    /// A resource that may change any path that the process may.
    #[must_use]
    pub fn unrestricted() -> Self {
        Self { root: Root::everywhere() }
    }

    /// A resource that refuses every path outside of `root`, which must exist.
    ///
    /// # Errors
    /// [`Error::Io`] if there is no such folder.
    pub fn within(root: impl Into<PathBuf>) -> Result<Self, Error> {
        Ok(Self { root: Root::only(root.into())? })
    }
}

#[async_trait]
impl Resource for FileResource {
    fn classes(&self) -> &[&str] {
        &CLASSES
    }

    async fn get(&self, instance: &ResourceInstance) -> Result<BTreeMap<String, Value>, Error> {
        let (desired, root) = (Desired::of(instance)?, self.root.clone());
        blocking(move || get(&root, &desired)).await
    }

    async fn test(&self, instance: &ResourceInstance) -> Result<Vec<Difference>, Error> {
        let (desired, root) = (Desired::of(instance)?, self.root.clone());
        blocking(move || Comparison::new(&root, &desired).map(|found| found.differences)).await
    }

    async fn set(&self, instance: &ResourceInstance) -> Result<SetReport, Error> {
        let (desired, root) = (Desired::of(instance)?, self.root.clone());
        blocking(move || set(&root, &desired)).await.map(|()| SetReport::default())
    }
}

fn get(root: &Root, desired: &Desired) -> Result<BTreeMap<String, Value>, Error> {
    let mut properties =
        BTreeMap::from([("DestinationPath".to_owned(), json!(desired.path.display().to_string()))]);
    let mut add = |name: &str, value| properties.insert(name.to_owned(), value);
    let Some(place) = root.place(&desired.path, false)? else {
        add("Ensure", json!("absent"));
        return Ok(properties);
    };
    let Some(found) = place.found()? else {
        add("Ensure", json!("absent"));
        return Ok(properties);
    };
    add("Ensure", json!("present"));
    add("Type", json!(found.kind_name()));
    add("Mode", json!(format!("{:04o}", found.mode)));
    add("ModifiedDate", json!(found.modified.map(|time| time.to_string())));
    match found.file_type {
        FileType::RegularFile => {
            add("Size", json!(found.bytes));
            add("Checksum", json!(Checksum::of(&place.read(FILE_BYTES_MAX)?).to_string()));
        }
        FileType::Symlink => {
            add("SourcePath", json!(place.link_target()?.display().to_string()));
        }
        _ => {}
    }
    Ok(properties)
}

/// What is there, beside what should be.
struct Comparison {
    place: Option<Place>,
    found: Option<Found>,
    differences: Vec<Difference>,
    /// What the file should hold, where that was needed to compare.
    contents: Option<Vec<u8>>,
}

impl Comparison {
    fn new(root: &Root, desired: &Desired) -> Result<Self, Error> {
        let place = root.place(&desired.path, false)?;
        let found = place.as_ref().map(Place::found).transpose()?.flatten();
        let mut comparison = Self { place, found, differences: Vec::new(), contents: None };
        match (&comparison.found, desired.ensure) {
            (None, Ensure::Absent) => {}
            (Some(_), Ensure::Absent) => comparison.differ("Ensure", "present", "absent"),
            (None, Ensure::Present) => {
                comparison.differ("Ensure", "absent", "present");
                comparison.contents = wanted(root, desired)?;
            }
            (Some(found), Ensure::Present) if found.file_type != desired.kind.file_type() => {
                let kind = found.kind_name();
                comparison.differ("Type", kind, desired.kind.name());
                comparison.contents = wanted(root, desired)?;
            }
            (Some(_), Ensure::Present) => comparison.compare(root, desired)?,
        }
        Ok(comparison)
    }

    fn differ(&mut self, property: &str, found: &str, desired: &str) {
        self.differences.push(Difference::new(property, found, desired));
    }

    /// Compares what both are of one kind.
    fn compare(&mut self, root: &Root, desired: &Desired) -> Result<(), Error> {
        let (Some(place), Some(found)) = (&self.place, &self.found) else { return Ok(()) };
        let mode = found.mode;
        match (desired.kind, &desired.source) {
            (Kind::File, Source::Nothing) | (Kind::Directory, _) => {}
            // Without a checksum kind, Windows compares the name alone.
            (Kind::File, Source::Path { compares: false, .. }) => {}
            (Kind::File, _) => {
                let contents = wanted(root, desired)?.unwrap_or_default();
                let is_same =
                    found.bytes == contents.len() as u64 && place.read(FILE_BYTES_MAX)? == contents;
                if !is_same {
                    let shown = format!("{} bytes", found.bytes);
                    let wanted = format!("{} bytes, {}", contents.len(), Checksum::of(&contents));
                    self.differ("Contents", &shown, &wanted);
                }
                self.contents = Some(contents);
            }
            (Kind::Link, Source::Path { path, .. }) => {
                let target = place.link_target()?;
                if target != *path {
                    let (found, desired) = (target.display(), path.display());
                    self.differ("SourcePath", &found.to_string(), &desired.to_string());
                }
            }
            (Kind::Link, _) => {}
        }
        if let Some(wanted) = desired.mode.filter(|wanted| *wanted != mode) {
            self.differ("Mode", &format!("{mode:04o}"), &format!("{wanted:04o}"));
        }
        Ok(())
    }
}

/// What a file should hold; none if it is not for the resource to say.
fn wanted(root: &Root, desired: &Desired) -> Result<Option<Vec<u8>>, Error> {
    match (&desired.kind, &desired.source) {
        (Kind::File, Source::Contents(text)) => Ok(Some(text.clone().into_bytes())),
        (Kind::File, Source::Path { path, .. }) => {
            let not_found = || Error::NotFound { what: "source", name: path.display().to_string() };
            let place = root.place(path, false)?.ok_or_else(not_found)?;
            match place.found()? {
                Some(found) if found.file_type == FileType::RegularFile => {
                    place.read(FILE_BYTES_MAX).map(Some)
                }
                Some(found) => Err(Error::Unsupported {
                    what: "SourcePath that is not a file",
                    name: format!("{} ({})", path.display(), found.kind_name()),
                }),
                None => Err(not_found()),
            }
        }
        _ => Ok(None),
    }
}

fn set(root: &Root, desired: &Desired) -> Result<(), Error> {
    let Comparison { found, differences, contents, place } = Comparison::new(root, desired)?;
    if differences.is_empty() {
        return Ok(());
    }
    if desired.ensure == Ensure::Absent {
        let (Some(place), Some(found)) = (place, found) else { return Ok(()) };
        return remove(&place, &found, desired);
    }
    let missing = || Error::NotFound { what: "folder", name: desired.path.display().to_string() };
    let place = root.place(&desired.path, true)?.ok_or_else(missing)?;
    let mut kept = found;
    if let Some(found) = kept.as_ref().filter(|f| f.file_type != desired.kind.file_type()) {
        needs_force(desired, "replace what is of another type")?;
        remove(&place, found, desired)?;
        kept = None;
    }
    match desired.kind {
        Kind::File => {
            let contents = match (contents, &kept) {
                (Some(contents), _) => contents,
                (None, None) => Vec::new(),
                // Nothing but the mode differs.
                (None, Some(_)) => return set_mode(&place, desired),
            };
            place.write(&contents, desired.mode.map(Mode::from_raw_mode), kept.as_ref())
        }
        Kind::Directory => {
            if kept.is_none() {
                place.make_directory()?;
            }
            set_mode(&place, desired)
        }
        Kind::Link => match &desired.source {
            Source::Path { path, .. } => {
                root.check(path)?;
                place.link_to(path)
            }
            _ => Ok(()),
        },
    }
}

fn set_mode(place: &Place, desired: &Desired) -> Result<(), Error> {
    desired.mode.map_or(Ok(()), |mode| place.set_mode(Mode::from_raw_mode(mode)))
}

fn remove(place: &Place, found: &Found, desired: &Desired) -> Result<(), Error> {
    if found.file_type != desired.kind.file_type() {
        needs_force(desired, "remove what is of another type")?;
    }
    if found.file_type != FileType::Directory {
        return place.remove_file();
    }
    if !place.is_empty_directory()? {
        needs_force(desired, "remove a directory that is not empty")?;
    }
    place.remove_directory()
}

fn needs_force(desired: &Desired, what: &str) -> Result<(), Error> {
    if desired.force {
        return Ok(());
    }
    let reason = format!("Force is needed to {what}: {}", desired.path.display());
    Err(Error::Invalid { what: "File resource", reason })
}

/// Names the failed operation and the path.
fn failed(operation: &'static str, path: &Path) -> impl FnOnce(rustix::io::Errno) -> Error {
    let path = path.to_owned();
    move |errno| Error::Io { operation, path, source: errno.into() }
}
