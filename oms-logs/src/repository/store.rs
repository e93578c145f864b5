//! A local object store that syncs what it writes.
//!
//! The local store of `object_store` 0.13 gives an object its name before its bytes are durable and
//! syncs neither, so a power failure could leave an empty file as a commit in a Delta log. This one
//! writes under a temporary name, syncs, gives the name, and syncs the folder.

use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    Result, UploadPart,
};
use oms_core::task::offload;
use std::fmt;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The local file system from its root, every write synced.
#[derive(Clone, Debug)]
pub(crate) struct SyncedStore {
    inner: Arc<LocalFileSystem>,
    staged: Arc<AtomicU64>,
}

impl SyncedStore {
    pub(crate) fn new() -> Self {
        Self { inner: Arc::new(LocalFileSystem::new()), staged: Arc::new(AtomicU64::new(1)) }
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
        let path = self.inner.path_to_filesystem(location)?;
        let staged = self.staged_beside(&path);
        let name = location.to_string();
        on_disk(name, move || put(&path, &staged, &payload, is_new)).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let path = self.inner.path_to_filesystem(location)?;
        let staged = self.staged_beside(&path);
        let file = Arc::new(Mutex::new(Staged { path: staged, file: None }));
        Ok(Box::new(Upload { path, location: location.clone(), bytes: 0, file }))
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
        self.inner.copy_opts(from, to, options).await?;
        self.sync(to).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await?;
        self.sync(to).await
    }
}

impl SyncedStore {
    /// A name that nothing else has. Names that end in `#` and digits are no objects: listings pass
    /// them over.
    fn staged_beside(&self, path: &FilePath) -> PathBuf {
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        let mut staged = path.as_os_str().to_owned();
        staged.push(format!("#{number}"));
        PathBuf::from(staged)
    }

    async fn sync(&self, location: &Path) -> Result<()> {
        let path = self.inner.path_to_filesystem(location)?;
        on_disk(location.to_string(), move || {
            std::fs::File::open(&path)?.sync_all()?;
            sync_parent(&path)
        })
        .await
    }
}

/// An upload in parts, which gets its name when it is complete: the checkpoints of a Delta log, and
/// the data files that are written as rows are read.
#[derive(Debug)]
struct Upload {
    path: PathBuf,
    location: Path,
    /// Bytes of all parts so far, which is where the next one goes.
    bytes: u64,
    file: Arc<Mutex<Staged>>,
}

/// A file that has no name of its own yet, and goes unless it gets one.
#[derive(Debug)]
struct Staged {
    path: PathBuf,
    file: Option<std::fs::File>,
}

impl Staged {
    fn file(&mut self) -> io::Result<&mut std::fs::File> {
        if let Some(folder) = self.path.parent() {
            make_folders(folder)?;
        }
        if self.file.is_none() {
            self.file = Some(std::fs::File::create(&self.path)?);
        }
        self.file.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn write(&mut self, at: u64, data: &PutPayload) -> io::Result<()> {
        let file = self.file()?;
        file.seek(SeekFrom::Start(at))?;
        data.iter().try_for_each(|part| file.write_all(part))
    }

    fn complete(&mut self, path: &FilePath) -> io::Result<()> {
        self.file()?.sync_all()?;
        std::fs::rename(&self.path, path)?;
        self.file = None;
        sync_parent(path)
    }

    fn abort(&mut self) -> io::Result<()> {
        match self.file.take() {
            Some(_) => std::fs::remove_file(&self.path),
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
        work: impl FnOnce(&mut Staged) -> io::Result<()> + Send + 'static,
    ) -> UploadPart {
        let file = Arc::clone(&self.file);
        Box::pin(on_disk(self.location.to_string(), move || {
            work(&mut file.lock().unwrap_or_else(PoisonError::into_inner))
        }))
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
        let path = self.path.clone();
        self.work(move |file| file.complete(&path)).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        self.work(Staged::abort).await
    }
}

fn put(path: &FilePath, staged: &FilePath, payload: &PutPayload, is_new: bool) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        make_folders(folder)?;
    }
    let written = write_synced(staged, payload).and_then(|()| {
        if is_new { std::fs::hard_link(staged, path) } else { std::fs::rename(staged, path) }
    });
    if is_new || written.is_err() {
        // Whoever finds a leftover passes it over, so a failure here changes nothing.
        let _ = std::fs::remove_file(staged);
    }
    written?;
    sync_parent(path)
}

fn write_synced(path: &FilePath, payload: &PutPayload) -> io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    for part in payload {
        file.write_all(part)?;
    }
    file.sync_all()
}

/// Makes a folder and those above it, each new name synced.
fn make_folders(path: &FilePath) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_folders(parent)?;
    }
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_parent(path),
    }
}

fn sync_parent(path: &FilePath) -> io::Result<()> {
    match path.parent() {
        Some(parent) if cfg!(unix) => std::fs::File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

/// Runs blocking work in the runtime's pool.
async fn on_disk(
    path: String,
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<()> {
    let failed = |path, source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => Error::AlreadyExists { path, source: source.into() },
        io::ErrorKind::NotFound => Error::NotFound { path, source: source.into() },
        _ => Error::Generic { store: "SyncedStore", source: source.into() },
    };
    match offload(work).await {
        Ok(done) => done.map_err(|source| failed(path, source)),
        Err(source) => Err(Error::Generic { store: "SyncedStore", source: source.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt as _;
    use object_store::ObjectStoreExt as _;
    use object_store::prefix::PrefixStore;

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
}
