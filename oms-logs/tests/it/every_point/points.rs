//! Seams that count the points at which they could fail, and fail at one of them.

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use oms_core::disk::{Disk, DiskError, DiskFile, DiskLock, OpenMode};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What comes after the fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum After {
    /// Every call fails: the machine is off.
    Off,
    /// No further fault.
    GoOn,
}

/// The points of a run: before each call, in the middle of each write, and after each effect.
#[derive(Debug)]
pub(crate) struct Points {
    strikes_at: AtomicU64,
    after: After,
    next: AtomicU64,
    is_off: AtomicBool,
    is_full: AtomicBool,
}

/// Where a call is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Before,
    During,
    After,
}

impl Points {
    pub(crate) fn new(strikes_at: u64, after: After) -> Self {
        let (next, is_off, is_full) = Default::default();
        let strikes_at = AtomicU64::new(strikes_at);
        Self { strikes_at, after, next, is_off, is_full }
    }

    /// No fault at all.
    pub(crate) fn calm() -> Self {
        Self::new(u64::MAX, After::GoOn)
    }

    /// Refuses every put from now on, as a full disk does, or takes them again.
    pub(crate) fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::SeqCst);
    }

    pub(crate) fn has_struck(&self) -> bool {
        self.next.load(Ordering::SeqCst) > self.strikes_at.load(Ordering::SeqCst)
    }

    /// No fault from now on.
    pub(crate) fn rest(&self) {
        self.strikes_at.store(u64::MAX, Ordering::SeqCst);
    }

    fn pass(&self, phase: Phase) -> io::Result<()> {
        if self.is_off.load(Ordering::SeqCst) {
            return match phase {
                Phase::Before => Err(io::Error::other("the machine is off")),
                Phase::During | Phase::After => Ok(()),
            };
        }
        let strikes_at = self.strikes_at.load(Ordering::SeqCst);
        if self.next.fetch_add(1, Ordering::SeqCst) != strikes_at {
            return Ok(());
        }
        self.is_off.store(self.after == After::Off, Ordering::SeqCst);
        Err(io::Error::other("injected"))
    }

    fn disk(&self, phase: Phase, operation: &'static str, path: &Path) -> Result<(), DiskError> {
        let failed = |source| DiskError { operation, path: path.to_owned(), source };
        self.pass(phase).map_err(failed)
    }

    fn object(&self, phase: Phase) -> object_store::Result<()> {
        let failed = |error: io::Error| object_store::Error::Generic {
            store: "Pointed",
            source: error.into(),
        };
        self.pass(phase).map_err(failed)
    }
}

/// A seam with points.
#[derive(Debug)]
pub(crate) struct Pointed<T> {
    pub(crate) inner: T,
    pub(crate) points: Arc<Points>,
}

impl<T> Pointed<T> {
    /// A call of a disk that has an effect.
    fn around<R>(
        &self,
        operation: &'static str,
        path: &Path,
        call: impl FnOnce(&T) -> Result<R, DiskError>,
    ) -> Result<R, DiskError> {
        self.points.disk(Phase::Before, operation, path)?;
        let done = call(&self.inner)?;
        self.points.disk(Phase::After, operation, path)?;
        Ok(done)
    }
}

impl<T: Disk> Disk for Pointed<T> {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Box<dyn DiskFile>, DiskError> {
        let inner = self.around("open", path, |disk| disk.open(path, mode))?;
        Ok(Box::new(PointedFile {
            file: Pointed { inner, points: Arc::clone(&self.points) },
            path: path.to_owned(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.around("rename", from, |disk| disk.rename(from, to))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.around("rename", from, |disk| disk.rename_new(from, to))
    }

    fn lock(&self, path: &Path) -> Result<DiskLock, DiskError> {
        self.inner.lock(path)
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        self.around("remove", path, |disk| disk.remove(path))
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        self.around("create folder", path, |disk| disk.create_dir_all(path))
    }

    fn list(&self, path: &Path) -> Result<Vec<String>, DiskError> {
        self.points.disk(Phase::Before, "list", path)?;
        self.inner.list(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.around("sync folder", path, |disk| disk.sync_dir(path))
    }
}

#[derive(Debug)]
struct PointedFile {
    file: Pointed<Box<dyn DiskFile>>,
    path: PathBuf,
}

impl DiskFile for PointedFile {
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize, DiskError> {
        self.file.points.disk(Phase::Before, "read", &self.path)?;
        self.file.inner.read_at(offset, bytes)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let (points, inner) = (&self.file.points, &self.file.inner);
        points.disk(Phase::Before, "write", &self.path)?;
        let torn = points.disk(Phase::During, "write", &self.path);
        if torn.is_err() {
            inner.write_at(offset, &bytes[..bytes.len() / 2])?;
            return torn;
        }
        inner.write_at(offset, bytes)?;
        points.disk(Phase::After, "write", &self.path)
    }

    fn len(&self) -> Result<u64, DiskError> {
        self.file.points.disk(Phase::Before, "measure", &self.path)?;
        self.file.inner.len()
    }

    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        self.file.around("set length", &self.path, |file| file.set_len(len))
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.file.around("sync", &self.path, |file| file.sync())
    }
}

impl std::fmt::Display for Pointed<Arc<dyn ObjectStore>> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pointed {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Pointed<Arc<dyn ObjectStore>> {
    async fn put_opts(
        &self,
        location: &ObjectPath,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.points.object(Phase::Before)?;
        if self.points.is_full.load(Ordering::SeqCst) {
            let source = io::Error::from(io::ErrorKind::StorageFull).into();
            return Err(object_store::Error::Generic { store: "Pointed", source });
        }
        let put = self.inner.put_opts(location, payload, opts).await?;
        self.points.object(Phase::After)?;
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        location: &ObjectPath,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.points.object(Phase::Before)?;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(
        &self,
        location: &ObjectPath,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        self.points.object(Phase::Before)?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<ObjectPath>>,
    ) -> BoxStream<'static, object_store::Result<ObjectPath>> {
        let points = Arc::clone(&self.points);
        let passed = locations.map(move |location| {
            points.object(Phase::Before)?;
            location
        });
        self.inner.delete_stream(passed.boxed())
    }

    fn list(
        &self,
        prefix: Option<&ObjectPath>,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        match self.points.object(Phase::Before) {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(
        &self,
        prefix: Option<&ObjectPath>,
    ) -> object_store::Result<ListResult> {
        self.points.object(Phase::Before)?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &ObjectPath,
        to: &ObjectPath,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.points.object(Phase::Before)?;
        self.inner.copy_opts(from, to, options).await?;
        self.points.object(Phase::After)
    }
}
