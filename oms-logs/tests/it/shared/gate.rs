//! A store that stops a call and every one after it until it is told to go on, as a process is stopped.

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{oneshot, watch};

/// What is stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Call {
    Put,
    Delete,
}

#[derive(Debug)]
struct Stop {
    call: Call,
    /// A part of the path.
    path: &'static str,
    reached: oneshot::Sender<()>,
}

/// A call that is to be stopped.
#[derive(Debug)]
pub(super) struct Stopped {
    reached: oneshot::Receiver<()>,
    is_stopped: Arc<watch::Sender<bool>>,
}

impl Stopped {
    /// Waits until it is.
    pub(super) async fn reached(&mut self) {
        (&mut self.reached).await.expect("the call is made");
    }

    pub(super) fn go_on(self) {
        self.is_stopped.send_replace(false);
    }
}

/// What becomes of the conditions of writes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Conditions {
    #[default]
    Kept,
    /// A write that replaces a version is refused by name.
    Unknown,
    /// An object that is there is created.
    OfCreatesIgnored,
    /// Another version is replaced.
    OfUpdatesIgnored,
    /// Nothing tells two versions of an object apart.
    WithoutVersions,
}

#[derive(Clone, Debug)]
pub(super) struct Gate {
    pub(super) conditions: Conditions,
    inner: Arc<dyn ObjectStore>,
    stop: Arc<Mutex<Option<Stop>>>,
    is_stopped: Arc<watch::Sender<bool>>,
    /// The part of a path that nothing is stopped on.
    is_open: Arc<watch::Sender<Option<&'static str>>>,
    /// Calls that were made.
    calls: Arc<AtomicU64>,
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gate({})", self.inner)
    }
}

impl Gate {
    pub(super) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        let is_stopped = Arc::new(watch::Sender::new(false));
        let conditions = Conditions::Kept;
        let is_open = Arc::new(watch::Sender::new(None));
        Self { conditions, inner, stop: Arc::default(), is_stopped, is_open, calls: Arc::default() }
    }

    /// Lets calls on a path that has this part pass, also those that are stopped.
    pub(super) fn open(&self, path: &'static str) {
        self.is_open.send_replace(Some(path));
    }

    /// Stops the next call of this kind on a path that has this part.
    pub(super) fn stop(&self, call: Call, path: &'static str) -> Stopped {
        let (told, reached) = oneshot::channel();
        let stop = Stop { call, path, reached: told };
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = Some(stop);
        Stopped { reached, is_stopped: Arc::clone(&self.is_stopped) }
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn count(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    async fn pass(&self, call: Call, path: ObjectPath) {
        self.count();
        let stop = {
            let mut stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
            stop.take_if(|stop| stop.call == call && path.as_ref().contains(stop.path))
        };
        if let Some(stop) = stop {
            self.is_stopped.send_replace(true);
            stop.reached.send(()).expect("someone waits");
        }
        let mut is_stopped = self.is_stopped.subscribe();
        let goes_on = is_stopped.wait_for(|is_stopped| !is_stopped);
        let mut is_open = self.is_open.subscribe();
        let is_open =
            is_open.wait_for(|open| open.is_some_and(|part| path.as_ref().contains(part)));
        tokio::select! {
            it = goes_on => drop(it.expect("it goes on")),
            it = is_open => drop(it.expect("it goes on")),
        }
    }
}

#[async_trait]
impl ObjectStore for Gate {
    async fn put_opts(
        &self,
        location: &ObjectPath,
        payload: PutPayload,
        mut opts: PutOptions,
    ) -> Result<PutResult> {
        self.pass(Call::Put, location.clone()).await;
        match (self.conditions, &opts.mode) {
            (Conditions::Unknown, PutMode::Update(_)) => {
                let (operation, implementer) = ("conditional put".to_owned(), self.to_string());
                return Err(Error::NotImplemented { operation, implementer });
            }
            (Conditions::OfCreatesIgnored, PutMode::Create)
            | (Conditions::OfUpdatesIgnored, PutMode::Update(_)) => opts.mode = PutMode::Overwrite,
            _ => {}
        }
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &ObjectPath,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.count();
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &ObjectPath, options: GetOptions) -> Result<GetResult> {
        self.count();
        let mut found = self.inner.get_opts(location, options).await?;
        if self.conditions == Conditions::WithoutVersions {
            (found.meta.e_tag, found.meta.version) = (None, None);
        }
        Ok(found)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<ObjectPath>>,
    ) -> BoxStream<'static, Result<ObjectPath>> {
        let gate = self.clone();
        let passed = locations.then(move |path| {
            let gate = gate.clone();
            async move {
                if let Ok(path) = &path {
                    gate.pass(Call::Delete, path.clone()).await;
                }
                path
            }
            .boxed()
        });
        self.inner.delete_stream(passed.boxed())
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.count();
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> Result<ListResult> {
        self.count();
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &ObjectPath,
        to: &ObjectPath,
        options: CopyOptions,
    ) -> Result<()> {
        self.count();
        self.inner.copy_opts(from, to, options).await
    }
}
