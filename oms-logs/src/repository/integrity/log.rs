//! Checksums of a table's Delta log.
//!
//! ```text
//!  _delta_log/N.json                commitInfo has "oms.crc32c": CRC32C of the file, its own eight
//!                                   digits taken for zeros; and "oms.checked", so that one without the
//!                                   other is damage too
//!  _delta_log/_last_checkpoint      the same, as a member of its own
//!  _delta_log/N.checkpoint.parquet  _oms/checkpoints/N.checkpoint.parquet.CRC32C-BYTES, a name for each
//!                                   content that was written, before it is
//! ```
//!
//! Everything that reads or writes the log passes here. What has a checksum and is not as it was written
//! is an error, but for the hint, without which the log is listed. Files of other writers, and those of
//! before, have none and are read as they are. Other readers pass over an unknown member of
//! `commitInfo`, and over folders whose names begin with an underscore.

use crate::error::Damage;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use memchr::memmem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions, Result, UploadPart,
};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The member of `commitInfo` that has the checksum.
pub(crate) const COMMIT_KEY: &str = "oms.crc32c";

/// The member that says that there is one.
pub(crate) const CHECKED_KEY: &str = "oms.checked";

/// A checksum while it is computed.
pub(crate) const NO_LOG_SUM: &str = "00000000";

/// How the member stands in a file, before its digits.
const MEMBER: &[u8] = b"\"oms.crc32c\":\"";

/// The other member.
const CHECKED: &[u8] = b"\"oms.checked\":true";

/// The folder of the checksums of checkpoints, in the table's.
const SUMS_FOLDER: &str = "_oms/checkpoints";

/// How far behind the newest checkpoint the checksums of others go, in versions.
const SUMS_KEPT: u64 = 4_000;

/// What a path is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Commit,
    Checkpoint,
    Hint,
    Other,
}

/// A store, with the log of one table in it verified.
#[derive(Debug)]
pub(crate) struct CheckedLog {
    inner: Arc<dyn ObjectStore>,
    /// The table's folder, from the root of the store.
    root: Path,
    table: String,
    noted: Arc<Mutex<Noted>>,
}

#[derive(Debug, Default)]
struct Noted {
    /// What was found since somebody asked.
    damage: Option<Damage>,
    /// Requests that the store failed since.
    failures: u64,
    /// The checkpoint that is being read.
    checkpoint: Option<(Path, Bytes)>,
}

/// What reading the log came upon.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) damage: Option<Damage>,
    /// Whether the store failed, so that nothing is known.
    pub(crate) has_failed: bool,
}

impl CheckedLog {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, root: Path, table: String) -> Self {
        Self { inner, root, table, noted: Arc::default() }
    }

    /// What was found since this was asked last.
    pub(crate) fn found(&self) -> Found {
        let noted = std::mem::take(&mut *self.noted());
        Found { damage: noted.damage, has_failed: noted.failures > 0 }
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kind(&self, location: &Path) -> Kind {
        let Some(mut parts) = location.prefix_match(&self.root) else { return Kind::Other };
        let folder = parts.next();
        let (Some(name), None) = (parts.next(), parts.next()) else { return Kind::Other };
        if folder.is_none_or(|folder| folder.as_ref() != "_delta_log") {
            return Kind::Other;
        }
        match name.as_ref() {
            "_last_checkpoint" => Kind::Hint,
            name if name.ends_with(".checkpoint.parquet") => Kind::Checkpoint,
            name => match name.strip_suffix(".json") {
                Some(stem) if stem.bytes().all(|byte| byte.is_ascii_digit()) => Kind::Commit,
                _ => Kind::Other,
            },
        }
    }

    /// Takes note of what a request came to.
    fn note<T>(&self, done: Result<T>) -> Result<T> {
        if done.as_ref().is_err_and(is_failure) {
            self.noted().failures += 1;
        }
        done
    }

    /// Takes note of what a listing comes to.
    fn noting(
        &self,
        listing: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let noted = Arc::clone(&self.noted);
        let note = move |found: &Result<ObjectMeta>| {
            if found.as_ref().is_err_and(is_failure) {
                noted.lock().unwrap_or_else(PoisonError::into_inner).failures += 1;
            }
        };
        listing.inspect(note).boxed()
    }

    fn damaged(&self, location: &Path, reason: &str) -> Error {
        let file = location.filename().unwrap_or_default();
        let damage = Damage {
            table: self.table.clone(),
            file: format!("_delta_log/{file}"),
            offset: 0,
            reason: reason.to_owned(),
        };
        self.noted().damage.get_or_insert_with(|| damage.clone());
        Error::Generic { store: "oms-logs", source: Box::new(damage) }
    }

    /// Reads a whole file of the log, verified.
    async fn whole(
        &self,
        location: &Path,
        kind: Kind,
        options: GetOptions,
    ) -> Result<(GetResult, Bytes)> {
        let mut found = self.note(self.inner.get_opts(location, options).await)?;
        let payload = std::mem::replace(
            &mut found.payload,
            GetResultPayload::Stream(futures::stream::empty().boxed()),
        );
        let (meta, range) = (found.meta.clone(), found.range.clone());
        let attributes = found.attributes.clone();
        let bytes = GetResult { payload, meta, range, attributes }.bytes().await;
        let bytes = self.note(bytes)?;
        match kind {
            Kind::Commit if !is_sound(&bytes) => {
                Err(self.damaged(location, "the checksum of a commit does not match"))
            }
            Kind::Hint if !is_sound(&bytes) => {
                tracing::warn!(table = self.table, "the hint at a checkpoint is damaged, not used");
                let source = "its checksum does not match".into();
                Err(Error::NotFound { path: location.to_string(), source })
            }
            Kind::Checkpoint => {
                self.check_checkpoint(location, &bytes).await?;
                Ok((found, bytes))
            }
            _ => Ok((found, bytes)),
        }
    }

    /// Reads every file of the log; answers how many there are, and what is damaged.
    pub(crate) async fn check_all(&self) -> Result<(usize, Vec<Damage>)> {
        let folder: Path = self.root.clone().join("_delta_log");
        let listed = self.note(self.inner.list_with_delimiter(Some(&folder)).await)?;
        let (mut looked_at, mut damages) = (0, Vec::new());
        for object in listed.objects {
            let kind = self.kind(&object.location);
            if kind == Kind::Other {
                continue;
            }
            looked_at += 1;
            match self.whole(&object.location, kind, GetOptions::default()).await {
                Ok(_) => {}
                // It was cleaned up meanwhile.
                Err(Error::NotFound { .. }) if kind != Kind::Hint => {}
                Err(Error::NotFound { .. }) => {
                    let reason = "the hint at a checkpoint is damaged, and not used".to_owned();
                    let (table, file) = (self.table.clone(), "_delta_log/_last_checkpoint");
                    damages.push(Damage { table, file: file.to_owned(), offset: 0, reason });
                }
                Err(error) => match Damage::of(&error) {
                    Some(damage) => damages.push(damage.clone()),
                    None => return Err(error),
                },
            }
        }
        self.found();
        Ok((looked_at, damages))
    }

    async fn check_checkpoint(&self, location: &Path, bytes: &Bytes) -> Result<()> {
        let name = format!("{}.", location.filename().unwrap_or_default());
        let sums = self.note(self.inner.list_with_delimiter(Some(&self.sums_folder())).await)?;
        let names = sums.objects.iter().filter_map(|sum| sum.location.filename());
        let mut sums = names.filter_map(|sum| sum.strip_prefix(&name)).peekable();
        let own = sum_of(crc32c::crc32c(bytes), bytes.len());
        if sums.peek().is_some() && !sums.any(|sum| sum == own) {
            return Err(self.damaged(location, "the checksum of a checkpoint does not match"));
        }
        self.noted().checkpoint = Some((location.clone(), bytes.clone()));
        Ok(())
    }

    /// A checkpoint, read once by whoever reads it in parts.
    async fn checkpoint(&self, location: &Path) -> Result<Bytes> {
        let known = self.noted().checkpoint.clone();
        match known {
            Some((path, bytes)) if path == *location => Ok(bytes),
            _ => self.whole(location, Kind::Checkpoint, GetOptions::default()).await.map(|it| it.1),
        }
    }

    fn sums_folder(&self) -> Path {
        self.root.parts().chain(Path::from(SUMS_FOLDER).parts()).collect()
    }

    /// Makes the checksum of a checkpoint known, before it is there.
    async fn put_sum(&self, location: &Path, crc: u32, length: usize) -> Result<()> {
        put_sum(&self.inner, &self.sums_folder(), location, crc, length).await
    }
}

/// Whether a store did not do what it was asked, and does not know why.
fn is_failure(error: &Error) -> bool {
    !matches!(
        error,
        Error::NotFound { .. } | Error::AlreadyExists { .. } | Error::Precondition { .. }
    )
}

async fn put_sum(
    store: &Arc<dyn ObjectStore>,
    folder: &Path,
    location: &Path,
    crc: u32,
    length: usize,
) -> Result<()> {
    let name = location.filename().unwrap_or_default();
    let sum = folder.clone().join(format!("{name}.{}", sum_of(crc, length)));
    store.put(&sum, PutPayload::new()).await?;
    let version = |name: &str| name.split('.').next().and_then(|it| it.parse::<u64>().ok());
    let oldest = version(name).unwrap_or(0).saturating_sub(SUMS_KEPT);
    let is_old = |path: &Path| path.filename().and_then(version).is_some_and(|it| it < oldest);
    if oldest > 0 {
        for known in store.list_with_delimiter(Some(folder)).await?.objects {
            if is_old(&known.location) {
                store.delete(&known.location).await?;
            }
        }
    }
    Ok(())
}

fn sum_of(crc: u32, length: usize) -> String {
    format!("{crc:08x}-{length}")
}

/// Where a file's digits are; none if it has no checksum.
fn digits_at(bytes: &[u8]) -> Option<usize> {
    memmem::find(bytes, MEMBER).map(|at| at + MEMBER.len())
}

/// The checksum of a file whose digits are at `at`.
fn sum_without(bytes: &[u8], at: usize) -> String {
    let (before, rest) = bytes.split_at(at.min(bytes.len()));
    let crc = crc32c::crc32c_append(crc32c::crc32c(before), NO_LOG_SUM.as_bytes());
    let crc = crc32c::crc32c_append(crc, rest.get(NO_LOG_SUM.len()..).unwrap_or_default());
    format!("{crc:08x}")
}

/// Whether a file is as it was written, as far as it tells.
pub(super) fn is_sound(bytes: &[u8]) -> bool {
    let Some(at) = digits_at(bytes) else { return memmem::find(bytes, CHECKED).is_none() };
    bytes.get(at..at + NO_LOG_SUM.len()) == Some(sum_without(bytes, at).as_bytes())
}

/// A file with its checksum in the place that it has for one.
fn sealed(payload: &PutPayload) -> PutPayload {
    let mut bytes: Vec<u8> = payload.iter().flatten().copied().collect();
    if let Some(at) = digits_at(&bytes) {
        let sum = sum_without(&bytes, at);
        if let Some(place) = bytes.get_mut(at..at + NO_LOG_SUM.len()) {
            place.copy_from_slice(sum.as_bytes());
        }
    }
    bytes.into()
}

/// A hint with a place for its checksum.
fn with_place(payload: &PutPayload) -> PutPayload {
    let mut bytes: Vec<u8> = payload.iter().flatten().copied().collect();
    // Written as a line.
    bytes.truncate(bytes.trim_ascii_end().len());
    let is_object = bytes.len() > 2 && bytes.first() == Some(&b'{') && bytes.pop() == Some(b'}');
    if !is_object {
        return payload.clone();
    }
    bytes.push(b',');
    bytes.extend_from_slice(CHECKED);
    bytes.push(b',');
    bytes.extend_from_slice(MEMBER);
    bytes.extend_from_slice(NO_LOG_SUM.as_bytes());
    bytes.extend_from_slice(b"\"}");
    bytes.into()
}

impl fmt::Display for CheckedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "checked {}", self.inner)
    }
}

#[async_trait::async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for CheckedLog {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let payload = match self.kind(location) {
            Kind::Commit => sealed(&payload),
            Kind::Hint => sealed(&with_place(&payload)),
            Kind::Checkpoint => {
                let crc = payload.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part));
                let put = self.put_sum(location, crc, payload.content_length()).await;
                self.note(put)?;
                payload
            }
            Kind::Other => payload,
        };
        self.note(self.inner.put_opts(location, payload, opts).await)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.note(self.inner.put_multipart_opts(location, opts).await)?;
        if self.kind(location) != Kind::Checkpoint {
            return Ok(upload);
        }
        let (store, folder) = (Arc::clone(&self.inner), self.sums_folder());
        let location = location.clone();
        Ok(Box::new(SummedUpload { upload, store, folder, location, crc: 0, length: 0 }))
    }

    async fn get_opts(&self, location: &Path, mut options: GetOptions) -> Result<GetResult> {
        let kind = self.kind(location);
        if kind == Kind::Other || options.head {
            return self.note(self.inner.get_opts(location, options).await);
        }
        let range = options.range.take();
        let (mut found, bytes) = self.whole(location, kind, options).await?;
        let all = bytes.len() as u64;
        let range = match range {
            Some(range) => range
                .as_range(all)
                .map_err(|error| Error::Generic { store: "oms-logs", source: Box::new(error) })?,
            None => 0..all,
        };
        let part = cut(&bytes, &range);
        found.range = range;
        found.payload = GetResultPayload::Stream(futures::stream::once(async { Ok(part) }).boxed());
        Ok(found)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let bytes = match self.kind(location) {
            Kind::Other => return self.note(self.inner.get_ranges(location, ranges).await),
            Kind::Checkpoint => self.checkpoint(location).await?,
            kind => self.whole(location, kind, GetOptions::default()).await?.1,
        };
        Ok(ranges.iter().map(|range| cut(&bytes, range)).collect())
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.noting(self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.noting(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.note(self.inner.list_with_delimiter(prefix).await)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.note(self.inner.copy_opts(from, to, options).await)
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.note(self.inner.rename_opts(from, to, options).await)
    }
}

fn cut(bytes: &Bytes, range: &Range<u64>) -> Bytes {
    let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    let (start, end) = (place(range.start), place(range.end));
    bytes.slice(start.min(end)..end)
}

/// An upload of a checkpoint, whose checksum is known before it is there.
#[derive(Debug)]
struct SummedUpload {
    upload: Box<dyn MultipartUpload>,
    store: Arc<dyn ObjectStore>,
    folder: Path,
    location: Path,
    crc: u32,
    length: usize,
}

#[async_trait::async_trait]
#[deny(clippy::missing_trait_methods)]
impl MultipartUpload for SummedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.crc = data.iter().fold(self.crc, |crc, part| crc32c::crc32c_append(crc, part));
        self.length += data.content_length();
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        put_sum(&self.store, &self.folder, &self.location, self.crc, self.length).await?;
        self.upload.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

/// Whether any bytes with a place for a checksum are as they were written once it is in, and not when
/// another bit of them flips. For the fuzz target.
#[cfg(feature = "testkit")]
pub(super) fn seal_any(bytes: &[u8], flipped: usize) -> bool {
    let mut file = b"{\"oms.checked\":true,\"oms.crc32c\":\"00000000\"}".to_vec();
    file.extend_from_slice(bytes);
    let sound = sealed(&file.into());
    let mut bytes: Vec<u8> = sound.iter().flatten().copied().collect();
    let is_sound = is_sound(&bytes);
    let at = flipped / 8 % bytes.len();
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << (flipped % 8);
    }
    is_sound && !self::is_sound(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::PutMode;
    use object_store::memory::InMemory;
    use proptest::prelude::*;

    fn log(store: &Arc<InMemory>) -> CheckedLog {
        CheckedLog::new(Arc::<InMemory>::clone(store), "t/Perf".into(), "Perf".to_owned())
    }

    fn in_log(name: &str) -> Path {
        Path::from(format!("t/Perf/_delta_log/{name}"))
    }

    async fn read(log: &CheckedLog, path: &Path) -> Result<Bytes> {
        log.get(path).await?.bytes().await
    }

    const COMMIT: &str = r#"{"commitInfo":{"oms.checked":true,"oms.crc32c":"00000000","x":1}}
{"add":{"path":"a"}}"#;

    oms_core::object_store_conformance!(|| ((), log(&Arc::new(InMemory::new()))));

    /// Two writers of one version: the second is refused, and what is read is the first one's, sound.
    #[tokio::test]
    async fn a_commit_is_created_once() {
        let store = Arc::new(InMemory::new());
        let path = in_log("00000000000000000007.json");
        let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        log(&store).put_opts(&path, COMMIT.into(), create()).await.expect("new");
        let first = read(&log(&store), &path).await.expect("sound");
        let other = COMMIT.replace("\"x\":1", "\"x\":2");
        let again = log(&store).put_opts(&path, other.into(), create()).await;
        assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
        assert_eq!(read(&log(&store), &path).await.expect("sound"), first);
        assert!(memmem::find(&first, b"\"x\":1").is_some());
    }

    #[tokio::test]
    async fn any_flip_of_a_commit_a_checkpoint_or_a_hint_is_found() {
        let store = Arc::new(InMemory::new());
        let names = [
            "00000000000000000007.json",
            "00000000000000000020.checkpoint.parquet",
            "_last_checkpoint",
        ];
        let contents = [COMMIT, "PAR1 anything", "{\"version\":20,\"size\":3}\n"];
        for (name, content) in names.iter().zip(contents) {
            let path = in_log(name);
            log(&store).put(&path, content.into()).await.expect("put");
            let written = read(&log(&store), &path).await.expect("as it was written");
            for bit in 0..written.len() * 8 {
                let mut bytes = written.to_vec();
                bytes[bit / 8] ^= 1 << (bit % 8);
                store.put(&path, bytes.into()).await.expect("damaged");
                let log = log(&store);
                let error = read(&log, &path).await.expect_err("damaged");
                let (looked_at, damages) = log.check_all().await.expect("checked");
                assert!(looked_at >= 1);
                let [damage] = damages.as_slice() else { panic!("{name} bit {bit}: {damages:?}") };
                assert_eq!(damage.file, format!("_delta_log/{name}"));
                let is_hint = *name == "_last_checkpoint";
                assert_eq!(matches!(error, Error::NotFound { .. }), is_hint, "{error}");
            }
            store.put(&path, written.into()).await.expect("mended");
        }
        let whole = log(&store).get_range(&in_log(names[0]), 2..12).await.expect("a part");
        assert_eq!(whole, "commitInfo".as_bytes());
        let parts = log(&store).get_ranges(&in_log(names[1]), &[0..4, 5..8]).await.expect("parts");
        assert_eq!(parts, ["PAR1", "any"]);
    }

    #[tokio::test]
    async fn files_without_checksums_and_other_files_are_read_as_they_are() {
        let store = Arc::new(InMemory::new());
        for name in ["00000000000000000001.json", "x.checkpoint.parquet", "_last_checkpoint"] {
            let path = in_log(name);
            store.put(&path, "{\"commitInfo\":{}}".into()).await.expect("put");
            assert_eq!(read(&log(&store), &path).await.expect("read").len(), 17, "{name}");
        }
        let data = Path::from("t/Perf/day=2026-11-23/a.json");
        log(&store).put(&data, COMMIT.into()).await.expect("put");
        assert_eq!(read(&log(&store), &data).await.expect("read"), COMMIT);
    }

    #[tokio::test]
    async fn each_of_several_writers_of_one_checkpoint_is_believed_and_old_sums_go() {
        let store = Arc::new(InMemory::new());
        let path = in_log("00000000000000000020.checkpoint.parquet");
        for content in ["one", "another", "one"] {
            log(&store).put(&path, content.into()).await.expect("put");
            assert_eq!(read(&log(&store), &path).await.expect("read"), content);
        }
        store.put(&path, "another".into()).await.expect("put");
        assert_eq!(read(&log(&store), &path).await.expect("of the other writer"), "another");
        let mut upload = log(&store).put_multipart(&path).await.expect("an upload");
        for part in ["in ", "parts"] {
            upload.put_part(part.into()).await.expect("a part");
        }
        upload.complete().await.expect("complete");
        assert_eq!(read(&log(&store), &path).await.expect("read"), "in parts");
        store.put(&path, "in parta".into()).await.expect("put");
        assert!(read(&log(&store), &path).await.is_err());
        let later = in_log("00000000000000008000.checkpoint.parquet");
        log(&store).put(&later, "x".into()).await.expect("put");
        let sums = Path::from("t/Perf/_oms/checkpoints");
        let sums = store.list_with_delimiter(Some(&sums)).await.expect("listed").objects;
        assert_eq!(sums.len(), 1, "{sums:?}");
    }

    proptest! {
        #[test]
        fn a_file_is_sound_once_it_is_sealed(bytes: Vec<u8>, flipped: usize) {
            let mut file = br#"{"oms.checked":true,"oms.crc32c":"00000000"}"#.to_vec();
            file.extend_from_slice(&bytes);
            let sound: Vec<u8> = sealed(&file.into()).iter().flatten().copied().collect();
            prop_assert!(is_sound(&sound));
            let mut flipped_file = sound.clone();
            flipped_file[flipped / 8 % sound.len()] ^= 1 << (flipped % 8);
            prop_assert!(!is_sound(&flipped_file));
            let _ = is_sound(&bytes);
        }
    }
}
