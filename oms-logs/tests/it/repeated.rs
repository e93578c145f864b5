//! Simulations that a seed repeats, whatever the operating system does with their threads.
//!
//! The tables are in memory, and the times of their objects are those of the simulated clock. What
//! fails is told by operation and object, by [`Faults::by_call`].

use crate::quiet;
use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use oms_core::Clock;
use oms_core::clock::ManualClock;
use oms_core::entropy::SeededEntropy;
use oms_core::testkit::fault::{Faults, Faulty};
use oms_logs::workspace::WorkspaceBuilder;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What came to pass, a line each.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Trace {
    /// What the workspace answered.
    pub(crate) results: Vec<String>,
    /// What failed.
    pub(crate) faults: Vec<String>,
}

/// Tables in memory, with the simulated clock's times.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    inner: Arc<InMemory>,
    clock: Arc<ManualClock>,
    written: Arc<Mutex<HashMap<ObjectPath, Duration>>>,
    lives: Arc<AtomicU64>,
    seed: u64,
}

impl Store {
    pub(crate) fn new(seed: u64, clock: &Arc<ManualClock>) -> Self {
        Self {
            inner: Arc::new(InMemory::new()),
            clock: Arc::clone(clock),
            written: Arc::default(),
            lives: Arc::default(),
            seed,
        }
    }

    /// A workspace of this folder that reaches the tables through what fails.
    pub(crate) fn builder(&self, folder: &Path, faults: &Arc<Faults>) -> WorkspaceBuilder {
        let faults = Arc::clone(faults);
        let layer = move |store| -> Arc<dyn ObjectStore> { Arc::new(Faulty::new(store, faults)) };
        self.bare(folder).store_layer(layer)
    }

    /// A workspace of this folder to which nothing fails.
    pub(crate) fn bare(&self, folder: &Path) -> WorkspaceBuilder {
        // Names of files that repeat would replace what is there.
        let life = self.lives.fetch_add(1, Ordering::Relaxed);
        let url = "s3://bucket/logs".parse().expect("a URL");
        quiet(folder)
            .object_store(Arc::new(self.clone()), url)
            .clock(Arc::<ManualClock>::clone(&self.clock))
            .entropy(Arc::new(SeededEntropy::new(self.seed << 32 | life)))
    }

    /// How many commits the Delta log of `Perf` has.
    pub(crate) async fn commits(&self) -> usize {
        let log = ObjectPath::from("logs/Perf/_delta_log");
        let found: Vec<_> = self.inner.list(Some(&log)).try_collect().await.expect("listed");
        found.iter().filter(|object| object.location.as_ref().ends_with(".json")).count()
    }

    fn times(&self) -> MutexGuard<'_, HashMap<ObjectPath, Duration>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, path: &ObjectPath) {
        let now = u64::try_from(self.clock.now().as_millisecond()).expect("after 1970");
        self.times().insert(path.clone(), Duration::from_millis(now));
    }

    fn dated(&self, mut meta: ObjectMeta) -> ObjectMeta {
        // Since 1970.
        meta.last_modified = Default::default();
        meta.last_modified += *self.times().get(&meta.location).expect("it was written");
        meta
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dated {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Store {
    async fn put_opts(
        &self,
        location: &ObjectPath,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let put = self.inner.put_opts(location, payload, opts).await?;
        self.note(location);
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        location: &ObjectPath,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.note(location);
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &ObjectPath, options: GetOptions) -> Result<GetResult> {
        let mut found = self.inner.get_opts(location, options).await?;
        found.meta = self.dated(found.meta);
        Ok(found)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<ObjectPath>>,
    ) -> BoxStream<'static, Result<ObjectPath>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.clone();
        self.inner.list(prefix).map_ok(move |meta| store.dated(meta)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> Result<ListResult> {
        let mut listed = self.inner.list_with_delimiter(prefix).await?;
        listed.objects = listed.objects.into_iter().map(|meta| self.dated(meta)).collect();
        Ok(listed)
    }

    async fn copy_opts(
        &self,
        from: &ObjectPath,
        to: &ObjectPath,
        options: CopyOptions,
    ) -> Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        self.note(to);
        Ok(())
    }
}

/// Runs each seed twice: it has to do the same, and no two seeds do.
pub(crate) async fn assert_repeated(seeds: std::ops::Range<u64>, run: impl AsyncFn(u64) -> Trace) {
    let mut traces: Vec<Trace> = Vec::new();
    for seed in seeds {
        let (first, again) = (run(seed).await, run(seed).await);
        assert_eq!(first.results, again.results, "seed {seed}");
        assert_eq!(first.faults, again.faults, "seed {seed}");
        assert!(first.faults.len() > 2, "seed {seed}: hardly anything fails");
        assert!(traces.iter().all(|trace| *trace != first), "seed {seed} is no other");
        traces.push(first);
    }
}
