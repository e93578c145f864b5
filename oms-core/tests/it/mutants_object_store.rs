//! Object stores with one flaw each: every one must fall to a named case of the suite.

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    RenameOptions, RenameTargetMode, Result, UploadPart,
};
use oms_core::testkit::object_store::CASES;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Flaw {
    None,
    KeepsDeleted,
    HidesOneOfAListing,
    CreateReplaces,
    CreateChecksThenPuts,
    UpdateIgnoresTheVersion,
    CopyReplaces,
    RenameReplaces,
    RenameKeepsTheSource,
    ShowsPartsBeforeTheEnd,
}

#[derive(Clone, Debug)]
struct Mutant {
    inner: Arc<InMemory>,
    flaw: Flaw,
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.flaw)
    }
}

#[async_trait]
impl ObjectStore for Mutant {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut opts: PutOptions,
    ) -> Result<PutResult> {
        match (self.flaw, &opts.mode) {
            (Flaw::CreateReplaces, PutMode::Create) => opts.mode = PutMode::Overwrite,
            (Flaw::UpdateIgnoresTheVersion, PutMode::Update(_)) => opts.mode = PutMode::Overwrite,
            (Flaw::CreateChecksThenPuts, PutMode::Create)
                if self.inner.head(location).await.is_err() =>
            {
                tokio::task::yield_now().await;
                opts.mode = PutMode::Overwrite;
            }
            _ => {}
        }
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.inner.put_multipart_opts(location, opts).await?;
        if self.flaw == Flaw::ShowsPartsBeforeTheEnd {
            let (store, location) = (Arc::clone(&self.inner), location.clone());
            return Ok(Box::new(Eager { upload, store, location }));
        }
        Ok(upload)
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        match self.flaw {
            Flaw::KeepsDeleted => locations,
            _ => self.inner.delete_stream(locations),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let skipped = usize::from(self.flaw == Flaw::HidesOneOfAListing);
        self.inner.list(prefix).skip(skipped).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, mut options: CopyOptions) -> Result<()> {
        if self.flaw == Flaw::CopyReplaces {
            options.mode = CopyMode::Overwrite;
        }
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, mut options: RenameOptions) -> Result<()> {
        match self.flaw {
            Flaw::RenameReplaces => options.target_mode = RenameTargetMode::Overwrite,
            Flaw::RenameKeepsTheSource => {
                let mut copy = CopyOptions::default();
                if options.target_mode == RenameTargetMode::Create {
                    copy.mode = CopyMode::Create;
                }
                return self.inner.copy_opts(from, to, copy).await;
            }
            _ => {}
        }
        self.inner.rename_opts(from, to, options).await
    }
}

/// An upload that puts an object as soon as it has a part.
#[derive(Debug)]
struct Eager {
    upload: Box<dyn MultipartUpload>,
    store: Arc<InMemory>,
    location: Path,
}

#[async_trait]
impl MultipartUpload for Eager {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (store, location) = (Arc::clone(&self.store), self.location.clone());
        let part = self.upload.put_part(data.clone());
        Box::pin(async move {
            store.put(&location, data).await?;
            part.await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.upload.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

async fn is_caught(flaw: Flaw, name: &str) -> bool {
    let (_, case) = CASES.iter().find(|(case, _)| *case == name).expect("such a case");
    let mutant = Mutant { inner: Arc::new(InMemory::new()), flaw };
    AssertUnwindSafe(case(&mutant)).catch_unwind().await.is_err()
}

#[tokio::test]
async fn every_flaw_of_an_object_store_is_caught() {
    for (name, _) in CASES {
        assert!(!is_caught(Flaw::None, name).await, "{name}");
    }
    let expected = [
        (Flaw::KeepsDeleted, "puts_are_read_back"),
        (Flaw::HidesOneOfAListing, "listings_are_whole"),
        (Flaw::CreateReplaces, "conditional_puts_are_kept"),
        (Flaw::UpdateIgnoresTheVersion, "conditional_puts_are_kept"),
        (Flaw::CreateChecksThenPuts, "one_of_many_creators_wins"),
        (Flaw::CopyReplaces, "a_copy_is_whole_and_does_not_replace"),
        (Flaw::RenameReplaces, "renames_replace_or_refuse"),
        (Flaw::RenameKeepsTheSource, "renames_replace_or_refuse"),
        (Flaw::ShowsPartsBeforeTheEnd, "multipart_is_seen_when_complete"),
    ];
    for (flaw, case) in expected {
        assert!(is_caught(flaw, case).await, "{flaw:?} got past {case}");
    }
    for (name, _) in CASES {
        assert!(expected.iter().any(|(_, case)| case == name), "{name} catches nothing");
    }
}
