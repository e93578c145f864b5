//! A local object store that syncs what it writes.
//!
//! The local store of `object_store` 0.13 gives an object its name before its bytes are durable and
//! syncs neither, so a power failure could leave an empty file as a commit in a Delta log. This one
//! writes under a temporary name, syncs, gives the name, and syncs the folder, all of it through
//! [`Disk`], so that power can be made to fail at any point of it.

use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    RenameTargetMode, Result, UploadPart,
};
use oms_core::disk::{Disk, DiskError, DiskFile, LocalDisk, OpenMode};
use oms_core::task::offload;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How many folders are known to be there at most, before they are asked for again.
const FOLDERS_KNOWN_MAX: usize = 10_000;

/// How many bytes a copy holds in memory.
const COPY_BYTES: usize = 1 << 20;

/// The local file system from its root, every write synced.
#[derive(Clone, Debug)]
pub(crate) struct SyncedStore {
    inner: Arc<LocalFileSystem>,
    staged: Arc<AtomicU64>,
    folders: Folders,
}

/// Folders that were made durable.
type Folders = Arc<Mutex<BTreeSet<PathBuf>>>;

impl SyncedStore {
    pub(crate) fn new() -> Self {
        let (staged, folders) = (Arc::new(AtomicU64::new(1)), Folders::default());
        Self { inner: Arc::new(LocalFileSystem::new()), staged, folders }
    }
}

impl fmt::Display for SyncedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "synced {}", self.inner)
    }
}

#[async_trait::async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for SyncedStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let is_new = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => {
                return Err(Error::NotImplemented {
                    operation: "`put_opts` with mode `PutMode::Update`".to_owned(),
                    implementer: self.to_string(),
                });
            }
        };
        let place = self.place(location)?;
        on_disk(location, move || place.put(&payload, is_new)).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let staged = Staged { place: self.place(location)?, file: None };
        let file = Arc::new(Mutex::new(staged));
        Ok(Box::new(Upload { location: location.clone(), bytes: 0, file }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        // A removed file that comes back after a power failure is one that nobody refers to.
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let is_new = matches!(options.mode, CopyMode::Create);
        let (source, place) = (self.place(from)?, self.place(to)?);
        on_disk(to, move || place.copy_of(&source.path, is_new)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let is_new = matches!(options.target_mode, RenameTargetMode::Create);
        let (source, place) = (self.place(from)?, self.place(to)?);
        on_disk(to, move || place.take_over(&source.path, is_new)).await
    }
}

impl SyncedStore {
    fn place(&self, location: &Path) -> Result<Place> {
        let absolute = self.inner.path_to_filesystem(location)?;
        let root = absolute.ancestors().last().unwrap_or(FilePath::new(""));
        let disk = LocalDisk::new(root).map_err(|error| named(location, error))?;
        let path = absolute.strip_prefix(root).unwrap_or(&absolute).to_owned();
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        Ok(Place::new(Arc::new(disk), path, number, Arc::clone(&self.folders)))
    }
}

/// Where an object is on a disk, and where it is written before it is there.
#[derive(Clone, Debug)]
struct Place {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// A name that nothing else has. Names that end in `#` and digits are no objects: listings pass
    /// them over.
    staged: PathBuf,
    folders: Folders,
}

impl Place {
    fn new(disk: Arc<dyn Disk>, path: PathBuf, number: u64, folders: Folders) -> Self {
        let mut staged = path.as_os_str().to_owned();
        staged.push(format!("#{number}"));
        Self { disk, path, staged: staged.into(), folders }
    }

    fn folder(&self) -> &FilePath {
        self.path.parent().unwrap_or(FilePath::new(""))
    }

    fn put(&self, payload: &PutPayload, is_new: bool) -> Result<(), DiskError> {
        let file = self.open_staged()?;
        let mut at = 0;
        let write = |part: &Bytes| {
            file.write_at(at, part)?;
            at += part.len() as u64;
            Ok(())
        };
        let written = payload.iter().try_for_each(write);
        self.name_or_remove(written.and_then(|()| file.sync()), is_new)
    }

    fn copy_of(&self, source: &FilePath, is_new: bool) -> Result<(), DiskError> {
        let source = self.disk.open(source, OpenMode::Read)?;
        let file = self.open_staged()?;
        let copy = || {
            let (mut bytes, mut at) = (vec![0; COPY_BYTES], 0);
            loop {
                let count = source.read_at(at, &mut bytes)?;
                if count == 0 {
                    return file.sync();
                }
                file.write_at(at, &bytes[..count])?;
                at += count as u64;
            }
        };
        self.name_or_remove(copy(), is_new)
    }

    fn take_over(&self, source: &FilePath, is_new: bool) -> Result<(), DiskError> {
        self.make_folder(false)?;
        self.name(source, is_new)?;
        self.disk.sync_dir(source.parent().unwrap_or(FilePath::new("")))
    }

    /// A new file beside the object; one that a process left which ended goes.
    fn open_staged(&self) -> Result<Box<dyn DiskFile>, DiskError> {
        self.make_folder(false)?;
        let open = || self.disk.open(&self.staged, OpenMode::CreateNew);
        match open() {
            Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => {
                self.disk.remove(&self.staged)?;
                open()
            }
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => {
                self.make_folder(true)?;
                open()
            }
            opened => opened,
        }
    }

    /// Makes the object's folder durable, once unless it went.
    fn make_folder(&self, is_gone: bool) -> Result<(), DiskError> {
        let folder = self.folder();
        let known = || self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if is_gone || !known().contains(folder) {
            self.disk.create_dir_all(folder)?;
            let mut known = known();
            if known.len() >= FOLDERS_KNOWN_MAX {
                known.clear();
            }
            known.insert(folder.to_owned());
        }
        Ok(())
    }

    /// Gives what was staged and synced its name.
    fn name_or_remove(&self, synced: Result<(), DiskError>, is_new: bool) -> Result<(), DiskError> {
        let named = synced.and_then(|()| self.name(&self.staged, is_new));
        if named.is_err() {
            // Whoever finds a leftover passes it over, so a failure here changes nothing.
            let _ = self.disk.remove(&self.staged);
        }
        named
    }

    fn name(&self, source: &FilePath, is_new: bool) -> Result<(), DiskError> {
        match is_new {
            true => self.disk.rename_new(source, &self.path)?,
            false => self.disk.rename(source, &self.path)?,
        }
        self.disk.sync_dir(self.folder())
    }
}

/// An upload in parts, which gets its name when it is complete: the checkpoints of a Delta log, and
/// the data files that are written as rows are read.
#[derive(Debug)]
struct Upload {
    location: Path,
    /// Bytes of all parts so far, which is where the next one goes.
    bytes: u64,
    file: Arc<Mutex<Staged>>,
}

/// A file that has no name of its own yet, and goes unless it gets one.
#[derive(Debug)]
struct Staged {
    place: Place,
    file: Option<Box<dyn DiskFile>>,
}

impl Staged {
    fn file(&mut self) -> Result<&dyn DiskFile, DiskError> {
        let file = match self.file.take() {
            Some(file) => file,
            None => self.place.open_staged()?,
        };
        Ok(&**self.file.insert(file))
    }

    fn write(&mut self, mut at: u64, data: &PutPayload) -> Result<(), DiskError> {
        let file = self.file()?;
        data.iter().try_for_each(|part| {
            file.write_at(at, part)?;
            at += part.len() as u64;
            Ok(())
        })
    }

    fn complete(&mut self) -> Result<(), DiskError> {
        let synced = self.file()?.sync();
        self.file = None;
        self.place.name_or_remove(synced, false)
    }

    fn abort(&mut self) -> Result<(), DiskError> {
        match self.file.take() {
            Some(_) => self.place.disk.remove(&self.place.staged),
            None => Ok(()),
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Whoever finds a leftover passes it over, so a failure here changes nothing.
        let _ = self.abort();
    }
}

impl Upload {
    /// Does blocking work on the file, in the runtime's pool.
    fn work(
        &self,
        work: impl FnOnce(&mut Staged) -> Result<(), DiskError> + Send + 'static,
    ) -> UploadPart {
        let file = Arc::clone(&self.file);
        let location = self.location.clone();
        Box::pin(async move {
            let work = move || work(&mut file.lock().unwrap_or_else(PoisonError::into_inner));
            on_disk(&location, work).await
        })
    }
}

#[async_trait::async_trait]
#[deny(clippy::missing_trait_methods)]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let at = self.bytes;
        self.bytes += data.content_length() as u64;
        self.work(move |file| file.write(at, &data))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.work(Staged::complete).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        self.work(Staged::abort).await
    }
}

/// Runs blocking work in the runtime's pool.
async fn on_disk(
    location: &Path,
    work: impl FnOnce() -> Result<(), DiskError> + Send + 'static,
) -> Result<()> {
    match offload(work).await {
        Ok(done) => done.map_err(|error| named(location, error)),
        Err(source) => Err(Error::Generic { store: "SyncedStore", source: source.into() }),
    }
}

fn named(location: &Path, error: DiskError) -> Error {
    let path = location.to_string();
    match error.source.kind() {
        io::ErrorKind::AlreadyExists => Error::AlreadyExists { path, source: error.into() },
        io::ErrorKind::NotFound => Error::NotFound { path, source: error.into() },
        _ => Error::Generic { store: "SyncedStore", source: error.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt as _;
    use object_store::ObjectStoreExt as _;
    use object_store::prefix::PrefixStore;
    use oms_core::testkit::crash::crash_at_every_operation;
    use oms_core::testkit::disk::SimDisk;

    oms_core::object_store_conformance!(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let root = Path::from_absolute_path(folder.path()).expect("a path");
        (folder, PrefixStore::new(SyncedStore::new(), root))
    });

    #[tokio::test]
    async fn objects_are_put_once_or_replaced_and_leave_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = SyncedStore::new();
        let root = Path::from_absolute_path(folder.path()).expect("a path");
        let object = root.clone().join("a").join("b");
        let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        store.put_opts(&object, "one".into(), create()).await.expect("new");
        let again = store.put_opts(&object, "two".into(), create()).await;
        assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
        let read = async || store.get(&object).await.expect("there").bytes().await.expect("read");
        assert_eq!(read().await, "one");
        store.put(&object, "three".into()).await.expect("replaced");
        assert_eq!(read().await, "three");
        let mut upload = store.put_multipart(&object).await.expect("an upload");
        for part in ["fo", "ur"] {
            upload.put_part(part.into()).await.expect("a part");
        }
        upload.complete().await.expect("complete");
        assert_eq!(read().await, "four");
        let mut given_up = store.put_multipart(&object).await.expect("an upload");
        given_up.put_part("five".into()).await.expect("a part");
        drop(given_up);
        assert_eq!(read().await, "four");
        let names: Vec<_> = store.list(Some(&root)).try_collect().await.expect("listed");
        assert_eq!(names.len(), 1);
        assert_eq!(std::fs::read_dir(folder.path().join("a")).expect("a").count(), 1);
    }

    const OLD: &[u8] = &[1; 3_000];
    const NEW: &[u8] = &[2; 5_000];

    fn place_on(disk: &SimDisk, path: &str) -> Place {
        Place::new(Arc::new(disk.clone()), path.into(), 1, Folders::default())
    }

    fn put(disk: &SimDisk, path: &str, bytes: &'static [u8], is_new: bool) -> bool {
        place_on(disk, path).put(&bytes.into(), is_new).is_ok()
    }

    fn upload(disk: &SimDisk, path: &str, bytes: &'static [u8]) -> bool {
        let mut staged = Staged { place: place_on(disk, path), file: None };
        let (first, rest) = bytes.split_at(700);
        let mut write = || {
            staged.write(0, &first.into())?;
            staged.write(700, &rest.into())?;
            staged.complete()
        };
        write().is_ok()
    }

    /// A way of writing `t/a`, given a disk that has `s/b`.
    type Way = fn(&SimDisk) -> bool;

    const WAYS: [(&str, bool, Way); 7] = [
        ("put", false, |disk| put(disk, "t/a", NEW, false)),
        ("put new", true, |disk| put(disk, "t/a", NEW, true)),
        ("upload", false, |disk| upload(disk, "t/a", NEW)),
        ("copy", false, |disk| place_on(disk, "t/a").copy_of("s/b".as_ref(), false).is_ok()),
        ("copy new", true, |disk| place_on(disk, "t/a").copy_of("s/b".as_ref(), true).is_ok()),
        ("rename", false, |disk| place_on(disk, "t/a").take_over("s/b".as_ref(), false).is_ok()),
        ("rename new", true, |disk| place_on(disk, "t/a").take_over("s/b".as_ref(), true).is_ok()),
    ];

    /// Auditor: an object is there as it was, or whole as it is to be; and as it is to be from the
    /// moment of the answer.
    #[test]
    fn power_may_fail_at_any_operation_of_a_write() {
        for (way, is_new, write) in WAYS {
            let prepare = |disk: &SimDisk| {
                assert!(is_new || put(disk, "t/a", OLD, false));
                assert!(put(disk, "s/b", NEW, false));
            };
            let work = |disk: &SimDisk, (): &()| write(disk);
            let audit = |disk: &SimDisk, (), is_done: bool| {
                let found = disk.contents().remove(FilePath::new("t/a"));
                let before = if is_new { None } else { Some(OLD) };
                let is_right = match found.as_deref() {
                    found if found == Some(NEW) => true,
                    found => !is_done && found == before,
                };
                assert!(is_right, "{way}, done {is_done}: {:?}", found.map(|bytes| bytes.len()));
                let kept = disk.contents().remove(FilePath::new("s/b"));
                assert!(way.starts_with("rename") || kept.as_deref() == Some(NEW), "{way}");
            };
            let operations = crash_at_every_operation(20, prepare, work, audit);
            assert!(operations >= 4, "{way} {operations}");
        }
    }

    /// What a process left that ended may be another name of the object: it is not written to.
    #[test]
    fn a_leftover_is_not_written_to() {
        let disk = SimDisk::default();
        for (path, bytes) in [("t/a", OLD), ("t/a#1", OLD)] {
            disk.create_dir_all("t".as_ref()).expect("a folder");
            let file = disk.open(path.as_ref(), OpenMode::CreateNew).expect("made");
            file.write_at(0, bytes).expect("written");
        }
        let leftover = disk.open("t/a#1".as_ref(), OpenMode::Read).expect("open");
        assert!(!put(&disk, "t/a", NEW, true), "the name is taken");
        let mut bytes = vec![0; OLD.len()];
        leftover.read_at(0, &mut bytes).expect("read");
        assert!(bytes == OLD, "it is as it was");
        assert_eq!(disk.contents().len(), 1, "and has gone");
    }
}
