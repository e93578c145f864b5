//! An object store that fails, and the suite of every [`ObjectStore`].
//!
//! A put is whole or not there at all, as every object store promises. What can be torn is the body
//! of an answer, a listing, and an upload in parts.

mod suite;

pub use suite::{CASES, Case};
pub use suite::{
    a_copy_is_whole_and_does_not_replace, conditional_puts_are_kept, listings_are_whole,
    multipart_is_seen_when_complete, one_of_many_creators_wins, puts_are_read_back,
    renames_replace_or_refuse,
};

use super::fault::{Faults, Faulty, Rate};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    Result, UploadPart,
};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

impl<T: fmt::Display> fmt::Display for Faulty<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty {}", self.inner)
    }
}

fn injected(what: &'static str) -> Error {
    Error::Generic { store: "Faulty", source: format!("injected {what} the effect").into() }
}

impl Faults {
    fn object(
        &self,
        rate: &Rate,
        when: &'static str,
        operation: &str,
        name: &dyn fmt::Display,
    ) -> Result<()> {
        if self.strikes_at(rate, operation, name) { Err(injected(when)) } else { Ok(()) }
    }

    async fn begin_object(&self, operation: &str, name: &(dyn fmt::Display + Sync)) -> Result<()> {
        self.linger_at(operation, name).await;
        self.object(&self.before, "before", operation, name)
    }

    async fn end_object(&self, operation: &str, name: &(dyn fmt::Display + Sync)) -> Result<()> {
        self.linger_at(operation, name).await;
        self.object(&self.after, "after", operation, name)
    }
}

/// A body that breaks off: some of its bytes, then an error.
fn break_off(result: GetResult, faults: &Faults, name: &str) -> GetResult {
    let GetResult { meta, range, attributes, .. } = &result;
    let (meta, range, attributes) = (meta.clone(), range.clone(), attributes.clone());
    let bytes = range.end.saturating_sub(range.start).max(1);
    let kept = faults.draw(&faults.torn, "get", &name, bytes);
    let mut left = usize::try_from(kept).unwrap_or(0);
    let beginning = result.into_stream().map_ok(move |bytes| {
        let taken = bytes.slice(..bytes.len().min(left));
        left -= taken.len();
        taken
    });
    let beginning = beginning.try_take_while(|bytes| std::future::ready(Ok(!bytes.is_empty())));
    let torn = beginning.chain(stream::once(std::future::ready(Err(injected("torn in")))));
    GetResult { payload: GetResultPayload::Stream(torn.boxed()), meta, range, attributes }
}

impl<T: ObjectStore> Faulty<T> {
    /// Faults of a listing: none of it, all of it and then an error, or a part of it.
    fn listing(
        &self,
        prefix: Option<&Path>,
        listing: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.faults.pass_time();
        let failed = |what| stream::once(std::future::ready(Err(injected(what))));
        let (faults, prefix) = (&self.faults, prefix.map(Path::as_ref).unwrap_or_default());
        if faults.strikes_at(&faults.before, "list", &prefix) {
            return failed("before").boxed();
        }
        if faults.strikes_at(&faults.torn, "list", &prefix) {
            let kept = usize::try_from(faults.draw(&faults.torn, "list", &prefix, 4)).unwrap_or(0);
            return listing.take(kept).chain(failed("torn in")).boxed();
        }
        listing
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: ObjectStore> ObjectStore for Faulty<T> {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.faults.begin_object("put", location).await?;
        let put = self.inner.put_opts(location, payload, opts).await?;
        self.faults.end_object("put", location).await?;
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.faults.begin_object("upload", location).await?;
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        self.faults.end_object("upload", location).await?;
        let (faults, location) = (Arc::clone(&self.faults), location.clone());
        Ok(Box::new(FaultyUpload { inner, faults, location, parts: 0 }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let is_head = options.head;
        // Parts of one object are calls of their own.
        let name = format!("{location} {:?}", options.range);
        let operation = if is_head { "head" } else { "get" };
        self.faults.begin_object(operation, &name).await?;
        let result = self.inner.get_opts(location, options).await?;
        if !is_head && self.faults.strikes_at(&self.faults.torn, operation, &name) {
            return Ok(break_off(result, &self.faults, &name));
        }
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.faults.begin_object("get", &format!("{location} {ranges:?}")).await?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.faults.pass_time();
        // Each object on its own, so that some of a stream are gone and others are not.
        let (before, after) = (Arc::clone(&self.faults), Arc::clone(&self.faults));
        let locations = locations.and_then(move |location| {
            let done = before.object(&before.before, "before", "delete", &location);
            std::future::ready(done.map(|()| location))
        });
        let deleted = self.inner.delete_stream(locations.boxed());
        deleted
            .and_then(move |location| {
                let done = after.object(&after.after, "after", "delete", &location);
                std::future::ready(done.map(|()| location))
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix, self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix, self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.faults.begin_object("list", &prefix.map(Path::as_ref).unwrap_or_default()).await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.faults.begin_object("copy", from).await?;
        self.inner.copy_opts(from, to, options).await?;
        self.faults.end_object("copy", from).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.faults.begin_object("rename", from).await?;
        self.inner.rename_opts(from, to, options).await?;
        self.faults.end_object("rename", from).await
    }
}

/// An upload whose parts and completion fail; an object that is not complete is not there.
#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    faults: Arc<Faults>,
    location: Path,
    parts: usize,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let faults = Arc::clone(&self.faults);
        self.parts += 1;
        let name = format!("{} {}", self.location, self.parts);
        if faults.strikes_at(&faults.before, "part", &name) {
            return Box::pin(std::future::ready(Err(injected("before"))));
        }
        let part = self.inner.put_part(data);
        Box::pin(async move {
            part.await?;
            faults.end_object("part", &name).await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.faults.begin_object("complete", &self.location).await?;
        // Torn: the parts stay where they are, and nothing puts them together.
        self.faults.object(&self.faults.torn, "torn in", "complete", &self.location)?;
        let put = self.inner.complete().await?;
        self.faults.end_object("complete", &self.location).await?;
        Ok(put)
    }

    async fn abort(&mut self) -> Result<()> {
        self.faults.begin_object("abort", &self.location).await?;
        self.inner.abort().await?;
        self.faults.end_object("abort", &self.location).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::fault::FaultCounts;
    use object_store::memory::InMemory;
    use object_store::{ObjectStoreExt as _, PutMode};

    /// A wrapper that is told to do no harm is the store itself.
    mod faulty {
        use super::*;

        crate::object_store_conformance!(|| {
            ((), Faulty::new(InMemory::new(), Arc::new(Faults::new(1))))
        });
    }

    mod local {
        crate::object_store_conformance!(|| {
            let folder = tempfile::tempdir().expect("a folder");
            let store =
                object_store::local::LocalFileSystem::new_with_prefix(folder.path()).expect("one");
            (folder, store)
        });
    }

    fn faulty() -> (Faulty<InMemory>, Arc<Faults>, Path) {
        let faults = Arc::new(Faults::new(7));
        (Faulty::new(InMemory::new(), Arc::clone(&faults)), faults, Path::from("a/b"))
    }

    async fn holds(store: &InMemory, path: &Path) -> Option<Bytes> {
        match store.get(path).await {
            Ok(result) => Some(result.bytes().await.expect("a body")),
            Err(_) => None,
        }
    }

    #[tokio::test]
    async fn a_put_before_its_effect_leaves_nothing_and_after_it_leaves_all() {
        let (store, faults, path) = faulty();
        let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        faults.set_before(1000);
        store.put_opts(&path, "x".into(), create()).await.expect_err("refused");
        assert_eq!(holds(store.inner(), &path).await, None);
        faults.set_before(0);
        faults.set_after(1000);
        let error = store.put_opts(&path, "y".into(), create()).await.expect_err("answer lost");
        assert!(matches!(error, Error::Generic { .. }), "{error}");
        assert_eq!(holds(store.inner(), &path).await.as_deref(), Some(&b"y"[..]));
        // Whoever tries again is told that someone was first.
        let again = store.put_opts(&path, "y".into(), create()).await.expect_err("there");
        assert!(matches!(again, Error::AlreadyExists { .. }), "{again}");
        store.copy(&path, &Path::from("c")).await.expect_err("answer lost");
        store.rename(&path, &Path::from("d")).await.expect_err("answer lost");
        store.delete(&Path::from("c")).await.expect_err("answer lost");
        faults.calm();
        let listed: Vec<_> = store.list(None).try_collect().await.expect("listed");
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!(listed[0].location, Path::from("d"));
        assert_eq!(faults.counts(), FaultCounts { before: 1, after: 4, ..FaultCounts::default() });
    }

    #[tokio::test]
    async fn bodies_and_listings_break_off_with_an_error() {
        let (store, faults, path) = faulty();
        let long = vec![7; 10_000];
        for name in ["a/1", "a/2", "a/3", "a/4", "a/5"] {
            store.put(&Path::from(name), long.clone().into()).await.expect("put");
        }
        faults.set_torn(1000);
        store.head(&Path::from("a/1")).await.expect("nothing to tear");
        let result = store.get(&Path::from("a/1")).await.expect("begun");
        assert_eq!(result.meta.size, 10_000);
        result.bytes().await.expect_err("torn");
        let names: Vec<_> = store.list(Some(&Path::from("a"))).collect().await;
        assert!(names.len() <= 4 && names.last().expect("an error").is_err());
        faults.calm();
        faults.set_before(1000);
        store.list(None).try_collect::<Vec<_>>().await.expect_err("refused");
        store.list_with_delimiter(None).await.expect_err("refused");
        store.get(&path).await.expect_err("refused");
        store
            .get_ranges(&Path::from("a/1"), std::slice::from_ref(&(0..1)))
            .await
            .expect_err("refused");
    }

    #[tokio::test]
    async fn an_upload_that_fails_leaves_no_object_unless_only_the_answer_is_lost() {
        let (store, faults, path) = faulty();
        let begin = async || {
            let mut upload = store.put_multipart(&path).await.expect("begun");
            upload.put_part("one".into()).await.expect("a part");
            upload
        };
        let mut upload = begin().await;
        faults.set_torn(1000);
        upload.complete().await.expect_err("torn");
        faults.calm();
        assert_eq!(holds(store.inner(), &path).await, None);
        upload.abort().await.expect("aborted");
        let mut upload = begin().await;
        faults.set_before(1000);
        upload.put_part("two".into()).await.expect_err("refused");
        faults.calm();
        faults.set_after(1000);
        upload.complete().await.expect_err("answer lost");
        assert_eq!(holds(store.inner(), &path).await.as_deref(), Some(&b"one"[..]));
    }

    /// What fails is told by its name: in whatever order, the same calls of one turn fail.
    #[tokio::test]
    async fn faults_by_name_do_not_depend_on_the_order_of_calls() {
        let faults = Arc::new(Faults::by_name(7));
        let store = Faulty::new(InMemory::new(), Arc::clone(&faults));
        let paths: Vec<Path> = (0..60).map(|number| format!("f/{number}").into()).collect();
        for path in &paths {
            store.put(path, vec![7; 1_000].into()).await.expect("put");
        }
        faults.set_before(200);
        faults.set_torn(200);
        let read = async |path: &Path| match store.get(path).await {
            Ok(result) => match result.bytes().await {
                Ok(_) => "whole",
                Err(_) => "torn",
            },
            Err(_) => "refused",
        };
        let mut turns = Vec::new();
        for _ in 0..3 {
            let mut there = Vec::new();
            for path in &paths {
                there.push(read(path).await);
            }
            let mut back = Vec::new();
            for path in paths.iter().rev() {
                back.insert(0, read(path).await);
            }
            assert_eq!(there, back, "one turn");
            for outcome in ["whole", "torn", "refused"] {
                assert!(there.contains(&outcome), "{there:?}");
            }
            turns.push(there);
            faults.next_turn();
        }
        assert!(turns[0] != turns[1] && turns[1] != turns[2], "{turns:?}");
    }

    /// Another call of one kind on one object is another call, in whatever order those on others are.
    #[tokio::test]
    async fn faults_by_call_are_those_of_the_calls_of_each_object() {
        let run = async |seed: u64, is_reversed: bool| {
            let faults = Arc::new(Faults::by_call(seed));
            let store = Faulty::new(InMemory::new(), Arc::clone(&faults));
            faults.set_before(300);
            faults.set_after(200);
            faults.set_late(200);
            let mut ends = std::collections::BTreeMap::new();
            for turn in 0..3 {
                let mut paths: Vec<Path> = (0..10).map(|it| format!("f/{it}").into()).collect();
                if is_reversed {
                    paths.reverse();
                }
                for path in paths {
                    for attempt in 0..6 {
                        let is_put = store.put(&path, "x".into()).await.is_ok();
                        ends.insert((turn, path.clone(), attempt), is_put);
                    }
                }
                faults.next_turn();
            }
            (ends, faults.trace())
        };
        let (ends, trace) = run(7, false).await;
        assert_eq!((ends.clone(), trace.clone()), run(7, true).await);
        assert_ne!(ends, run(8, false).await.0);
        let of = |turn: u32| -> Vec<bool> {
            ends.iter().filter(|((it, ..), _)| *it == turn).map(|(_, is_put)| *is_put).collect()
        };
        assert!(of(0) != of(1) && of(1) != of(2), "turns differ");
        let ends: Vec<bool> = ends.into_values().collect();
        let is_mixed = |six: &&[bool]| six.contains(&true) && six.contains(&false);
        assert!(ends.chunks(6).filter(is_mixed).count() > 15, "attempts end alike: {ends:?}");
        let seen = |kind: &str| trace.iter().filter(|line| line.contains(kind)).count();
        assert!(["before put f/", "after put f/", "late put f/"].iter().all(|it| seen(it) > 5));
    }

    #[tokio::test]
    async fn late_puts_are_overtaken() {
        let (store, faults, path) = faulty();
        faults.set_late(500);
        let (store, path) = (&store, &path);
        let put = |number: u32| async move {
            store.put(path, number.to_string().into()).await.expect("put");
        };
        let mut winners = std::collections::BTreeSet::new();
        for _ in 0..20 {
            futures::future::join_all((0..5).map(put)).await;
            winners.insert(holds(store.inner(), path).await.expect("there"));
        }
        assert!(winners.len() > 1, "the last one always wins: {winners:?}");
    }
}
