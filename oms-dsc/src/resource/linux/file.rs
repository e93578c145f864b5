//! Files, directories and symbolic links: `File` of Windows and `nxFile`.
//!
//! Every path is walked from an open directory, and with an allowed root the kernel itself
//! refuses to leave it (`openat2`, `RESOLVE_BENEATH`), so a symbolic link that appears at the
//! wrong moment leads nowhere. Contents are written beside their place, synced, and renamed into
//! it: a reader sees the old file or the new one.
//!
//! A directory with a `SourcePath` is a copy of it: of the files in it, and with `Recurse` of the
//! directories too. What the source does not have stays. A new file that is a copy has the permissions
//! of its source, without the rights of its owner (`setuid`, `setgid`), unless `Mode` says another.
//! `Recurse` also takes `Mode`, `Owner` and `Group` to all that is below; directories can be entered by
//! whoever may read them, and of links, sockets and devices only the owner is set.

mod copy;

mod desired;

use super::differences::Differences;
use super::property::Ensure;
use super::tree::{Attributes, FileId, Found, NEW_DIRECTORY, Place, Root, rooted};
use super::{Difference, Resource, SetReport, diff};
use crate::Error;
use crate::configuration::ResourceInstance;
use crate::protocol::Checksum;
use async_trait::async_trait;
use copy::{Drift, Tree};
use desired::{Compares, Desired, Kind, Links, Source};
use oms_core::task::blocking;
use rustix::fs::FileType;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// The largest file that is compared or copied, in bytes.
pub const FILE_BYTES_MAX: u64 = 256 << 20;

const CLASSES: [&str; 3] =
    ["MSFT_FileDirectoryConfiguration", "MSFT_nxFileResource", "MSFT_nxFile"];

rooted! {
    /// Files and directories.
    pub struct FileResource;

    /// A resource that may change any path that the process may.
    everywhere;

    /// A resource that refuses every path outside of `root`, which must exist.
    within;
}

impl FileResource {
    async fn with<T: Send + 'static>(
        &self,
        instance: &ResourceInstance,
        work: fn(&Root, &Desired) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (instance, root) = (instance.clone(), self.root.clone());
        blocking(move || work(&root, &Desired::of(&instance, &root)?)).await
    }
}

#[async_trait]
impl Resource for FileResource {
    fn classes(&self) -> &[&str] {
        &CLASSES
    }

    async fn get(&self, instance: &ResourceInstance) -> Result<BTreeMap<String, Value>, Error> {
        self.with(instance, get).await
    }

    async fn test(&self, instance: &ResourceInstance) -> Result<Vec<Difference>, Error> {
        self.with(instance, |root, desired| {
            Comparison::new(root, desired).map(|found| found.differences)
        })
        .await
    }

    async fn set(&self, instance: &ResourceInstance) -> Result<SetReport, Error> {
        self.with(instance, set).await.map(|()| SetReport::default())
    }
}

fn get(root: &Root, desired: &Desired) -> Result<BTreeMap<String, Value>, Error> {
    let mut properties =
        BTreeMap::from([("DestinationPath".to_owned(), json!(desired.path.display().to_string()))]);
    let mut add = |name: &str, value| properties.insert(name.to_owned(), value);
    let place = root.place(&desired.path, false)?;
    let found = place.as_ref().map(Place::found).transpose()?.flatten();
    let (Some(place), Some(found)) = (place, found) else {
        add("Ensure", json!("absent"));
        return Ok(properties);
    };
    let names = super::accounts::Names::read(root)?;
    add("Ensure", json!("present"));
    add("Type", json!(found.kind_name()));
    add("Mode", json!(format!("{:04o}", found.mode)));
    add("Owner", json!(names.user_name(found.owner.0)));
    add("Group", json!(names.group_name(found.owner.1)));
    add("ModifiedDate", json!(found.modified.map(|time| time.to_string())));
    match found.file_type {
        FileType::RegularFile => {
            add("Size", json!(found.bytes));
            add("Checksum", json!(Checksum::of(&place.read(FILE_BYTES_MAX)?).to_string()));
        }
        FileType::Symlink => {
            add("SourcePath", json!(place.link_target()?.display().to_string()));
        }
        FileType::Directory => {
            let names = place.children()?;
            let names = names.iter().map(|(child, _)| child.name().to_string_lossy().into_owned());
            add("SubItems", json!(names.collect::<Vec<_>>()));
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
    /// The file that those are copied from, if they are.
    source: Option<Found>,
}

impl Comparison {
    fn new(root: &Root, desired: &Desired) -> Result<Self, Error> {
        let place = root.place(&desired.path, false)?;
        let found = place.as_ref().map(Place::found).transpose()?.flatten();
        let differences = Vec::new();
        let mut comparison = Self { place, found, differences, contents: None, source: None };
        match (&comparison.found, desired.ensure) {
            (None, Ensure::Absent) => {}
            (Some(_), Ensure::Absent) => comparison.differ("Ensure", "present", "absent"),
            (None, Ensure::Present) => {
                comparison.differ("Ensure", "absent", "present");
                comparison.read_wanted(root, desired)?;
            }
            (Some(found), Ensure::Present) if found.file_type != desired.kind.file_type() => {
                let kind = found.kind_name();
                comparison.differ("Type", kind, desired.kind.name());
                comparison.keep_source(root, desired)?;
                comparison.read_wanted(root, desired)?;
            }
            (Some(_), Ensure::Present) => comparison.compare(root, desired)?,
        }
        Ok(comparison)
    }

    fn differ(&mut self, property: &str, found: &str, desired: &str) {
        self.differences.push(Difference::new(property, found, desired));
    }

    /// Refuses what holds its own source and would be replaced.
    fn keep_source(&self, root: &Root, desired: &Desired) -> Result<(), Error> {
        let (Source::Path(path), Some(place), Some(found)) =
            (&desired.source, &self.place, &self.found)
        else {
            return Ok(());
        };
        if found.file_type == FileType::Directory
            && let Some((source, _)) = root.follow(path)?
        {
            keep_source(&source, place, found)?;
        }
        Ok(())
    }

    /// Reads what should be there; for a directory makes sure that there is a source.
    fn read_wanted(&mut self, root: &Root, desired: &Desired) -> Result<(), Error> {
        match (desired.kind, &desired.source) {
            (Kind::File, Source::Contents(text)) => self.contents = Some(text.clone().into_bytes()),
            (Kind::File, Source::Path(path)) => {
                let (found, contents) = read_source(root, path)?;
                self.contents = Some(contents);
                self.source = Some(found);
            }
            (Kind::Directory, Source::Path(path)) => {
                Tree::new(root, desired)?.enter(path)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Compares what both are of one kind.
    fn compare(&mut self, root: &Root, desired: &Desired) -> Result<(), Error> {
        let (Some(place), Some(found)) = (self.place.clone(), self.found.clone()) else {
            return Ok(());
        };
        match (desired.kind, &desired.source) {
            (Kind::File, Source::Path(path)) => {
                let compares = desired.compares;
                if compares == Compares::Name {
                    // Without a checksum kind, Windows compares the name alone.
                } else if let Some(drift) = Drift::of(root, compares, path, &place)? {
                    self.differences.push(drift.difference());
                    self.read_wanted(root, desired)?;
                }
            }
            (Kind::File, Source::Contents(text)) => {
                let drift = Drift::of_contents(&place, &found, text.as_bytes())?;
                self.differences.extend(drift.map(Drift::difference));
                self.contents = Some(text.clone().into_bytes());
            }
            (Kind::Link, Source::Path(path)) => {
                let target = place.link_target()?;
                if target != *path {
                    let (found, desired) = (target.display(), path.display());
                    self.differ("SourcePath", &found.to_string(), &desired.to_string());
                }
            }
            _ => {}
        }
        self.differences.extend(copy::attribute_differences("", &found, desired));
        if desired.kind == Kind::Directory {
            self.differences.extend(Tree::new(root, desired)?.differences(&place)?);
        }
        Ok(())
    }
}

/// A source that has to be there, over symbolic links.
fn source_of(root: &Root, path: &Path, file_type: FileType) -> Result<(Place, Found), Error> {
    let shown = || path.display().to_string();
    match root.follow(path)? {
        Some((place, found)) if found.file_type == file_type => Ok((place, found)),
        Some((_, found)) => Err(Error::Unsupported {
            what: "SourcePath of another type",
            name: format!("{} ({})", shown(), found.kind_name()),
        }),
        None => Err(Error::NotFound { what: "source", name: shown() }),
    }
}

/// A file that is a source and its contents, so that a copy is as closed as what it holds.
fn read_source(root: &Root, path: &Path) -> Result<(Found, Vec<u8>), Error> {
    let (place, _) = source_of(root, path, FileType::RegularFile)?;
    place.read_found(FILE_BYTES_MAX)
}

fn set(root: &Root, desired: &Desired) -> Result<(), Error> {
    let Comparison { found, differences, contents, place, source } =
        Comparison::new(root, desired)?;
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
        needs_force(desired, "replace what is of another type", place.path())?;
        remove(&place, found, desired)?;
        kept = None;
    }
    let mut attributes = desired.attributes_of(desired.kind.file_type());
    if let Some(source) = source {
        let copied = copy::attributes_of_copy(&source, desired, kept.as_ref());
        attributes.mode = attributes.mode.or(copied.mode);
        attributes.modified_at = copied.modified_at;
    }
    match desired.kind {
        Kind::File => {
            let contents = match (contents, &kept) {
                (Some(contents), _) => contents,
                (None, None) => Vec::new(),
                // Nothing but owner and mode differ.
                (None, Some(_)) => return place.set_attributes(attributes),
            };
            place.write(&contents, attributes, kept.as_ref())
        }
        Kind::Directory => {
            if kept.is_none() {
                let mode = match &desired.source {
                    Source::Path(path) => copy::mode_of_copy(root, path)?,
                    _ => NEW_DIRECTORY,
                };
                place.make_directory(mode)?;
            }
            place.set_attributes(attributes)?;
            Tree::new(root, desired)?.set(&place)
        }
        Kind::Link => match &desired.source {
            Source::Path(path) => {
                root.check(path)?;
                if kept.is_none() || place.link_target()? != *path {
                    place.link_to(path)?;
                }
                place.set_owner(attributes)
            }
            _ => Ok(()),
        },
    }
}

fn remove(place: &Place, found: &Found, desired: &Desired) -> Result<(), Error> {
    if found.file_type != desired.kind.file_type() {
        needs_force(desired, "remove what is of another type", place.path())?;
    }
    if found.file_type != FileType::Directory {
        return place.remove_file();
    }
    if desired.force {
        return place.remove_directory();
    }
    match place.remove_empty_directory()? {
        true => Ok(()),
        false => needs_force(desired, "remove a directory that is not empty", place.path()),
    }
}

/// Refuses to replace what was found at a place if that holds the source.
fn keep_source(source: &Place, place: &Place, found: &Found) -> Result<(), Error> {
    if !source.goes_with(found)? {
        return Ok(());
    }
    let (place, source) = (place.path().display(), source.path().display());
    let reason = format!("{place} would be replaced, but holds its source: {source}");
    Err(Error::Invalid { what: "File resource", reason })
}

fn needs_force(desired: &Desired, what: &str, path: &Path) -> Result<(), Error> {
    if desired.force {
        return Ok(());
    }
    let reason = format!("Force is needed to {what}: {}", path.display());
    Err(Error::Invalid { what: "File resource", reason })
}

/// Makes a directory that is not there yet, with a copy of what `source` holds, and for its owner
/// alone. It appears whole.
pub(super) fn new_directory(
    root: &Root,
    source: &Path,
    target: &Path,
    owner: Attributes,
) -> Result<(), Error> {
    let missing = || Error::NotFound { what: "folder of", name: target.display().to_string() };
    let place = root.place(target, true)?.ok_or_else(missing)?;
    let mut name = std::ffi::OsString::from(".oms-new-");
    name.push(place.name());
    let temporary = target.with_file_name(name);
    let beside = root.place(&temporary, false)?.ok_or_else(missing)?;
    if beside.found()?.is_some() {
        beside.remove_directory()?;
    }
    let source_found = root.follow(source)?;
    let has_source = source_found.is_some_and(|(_, found)| found.file_type == FileType::Directory);
    let desired = Desired {
        path: temporary,
        ensure: Ensure::Present,
        kind: Kind::Directory,
        source: if has_source { Source::Path(source.to_owned()) } else { Source::Nothing },
        compares: Compares::Contents,
        links: Links::Manage,
        recurse: true,
        force: false,
        attributes: owner,
    };
    set(root, &desired)?;
    beside.set_attributes(Attributes { mode: Some(0o700), ..Attributes::default() })?;
    place.take_over(&beside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU8, Ordering};

    /// What a resource without `Force` says of a directory.
    fn directory(path: &Path) -> Desired {
        Desired {
            path: path.to_owned(),
            ensure: Ensure::Absent,
            kind: Kind::Directory,
            source: Source::Nothing,
            compares: Compares::Contents,
            links: Links::Follow,
            recurse: false,
            force: false,
            attributes: Attributes::default(),
        }
    }

    /// Another program may give the source's name to another file at any moment.
    #[test]
    fn contents_and_mode_are_those_of_one_source() {
        use std::os::unix::fs::PermissionsExt;
        const ROUNDS: usize = 20_000;
        let folder = tempfile::tempdir().expect("a folder");
        let root = Root::only(folder.path().to_owned()).expect("a root");
        let [source, open, closed] =
            ["source", "open", "closed"].map(|name| folder.path().join(name));
        for (path, mode) in [(&open, 0o644), (&closed, 0o600), (&source, 0o644)] {
            std::fs::write(path, format!("{mode:o}")).expect("written");
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(path, mode).expect("a mode");
        }
        let desired = Desired {
            ensure: Ensure::Present,
            kind: Kind::File,
            source: Source::Path(source.clone()),
            ..directory(&folder.path().join("copy"))
        };
        super::super::tree::while_replaced(&source, [&closed, &open], || {
            for round in 0..ROUNDS {
                let wanted = Comparison::new(&root, &desired).expect("compared");
                let mode = wanted.source.expect("a source").mode;
                let contents = String::from_utf8(wanted.contents.expect("contents"));
                assert_eq!(contents.expect("text"), format!("{mode:o}"), "in round {round}");
            }
        });
    }

    /// Another program may put a file into an empty directory at any moment.
    #[test]
    fn what_comes_into_a_directory_that_goes_is_not_lost() {
        const ROUNDS: usize = 1_000;
        let folder = tempfile::tempdir().expect("a folder");
        let root = Root::only(folder.path().to_owned()).expect("a root");
        let path = folder.path().join("x");
        let desired = directory(&path);
        for round in 0..ROUNDS {
            std::fs::create_dir(&path).expect("a folder");
            let place = root.place(&path, false).expect("below").expect("there");
            let found = place.found().expect("a look").expect("there");
            let ready = AtomicU8::new(0);
            let (is_made, removed) = std::thread::scope(|scope| {
                let writer = scope.spawn(|| {
                    ready.store(1, Ordering::Release);
                    while ready.load(Ordering::Acquire) != 2 {
                        std::thread::yield_now();
                    }
                    // At another moment in each round.
                    (0..round % 1_000).for_each(|_| std::hint::spin_loop());
                    std::fs::write(path.join("file"), "mine").is_ok()
                });
                while ready.load(Ordering::Acquire) != 1 {
                    std::thread::yield_now();
                }
                ready.store(2, Ordering::Release);
                let removed = remove(&place, &found, &desired);
                (writer.join().expect("no panic"), removed)
            });
            assert_eq!(is_made, removed.is_err(), "in round {round}: {removed:?}");
            if let Err(error) = removed {
                assert!(error.to_string().contains("not empty"), "{error}");
                assert_eq!(std::fs::read(path.join("file")).expect("kept"), b"mine");
                std::fs::remove_dir_all(&path).expect("removed");
            }
        }
    }
}
