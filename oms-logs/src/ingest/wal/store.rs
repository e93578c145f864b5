//! The write-ahead log of a process without a disk: objects in a store.
//!
//! ```text
//!  .oms/log/NODE/000000000001.wal   header              the producers that were known before
//!  .oms/log/NODE/000000000002.wal   header group        one object a group, created and never changed
//!  .oms/log/NODE/000000000003.wal   header group
//!  .oms/log/NODE/000000000004.wal   fence               of whoever took the log over
//! ```
//!
//! Why it recovers exactly what was acknowledged:
//! - A group is acknowledged when its object was created: by one request that creates it or finds one
//!   there, so that an object is whole or not there, and of two processes one creates it.
//! - As long as it is not known whether a request did it, the same object is created again and nothing
//!   else: what its senders were told is an error, and it is written sooner or later, or by nobody.
//! - Whoever takes the log over creates the next object first. From then on no group of the former
//!   process can be acknowledged, and none comes after what is read. The fence stays for ever, for a
//!   process may sleep for as long before it tries.
//! - Objects are removed one after the other from the first, or from the last once all are, so a gap in
//!   the numbers is damage.

use super::frame::{BODY_BYTES_MAX, Encoded, Entry, Header, body_bytes, header_frame, put_group};
use super::recover::{INDEX_MAX, Reading, Segment, corrupt};
use super::{Append, quarantine_name, segment_name};
use crate::Error;
use crate::ingest::producer::Producers;
use crate::workspace::LogDamage;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutPayload};
use oms_core::{Entropy, EntropyExt as _};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// What an object begins with behind which nothing follows. It is no header.
const FENCE_MAGIC: &[u8] = b"OMSf";

/// How often it is tried to be first, before it is given up.
const FENCE_ATTEMPTS_MAX: u32 = 20;

/// Objects that are read at a time.
const READS: usize = 8;

/// Producers that take so few bytes are in every header.
const PRODUCERS_BYTES_SMALL: u64 = 16 << 10;

/// Others are in a header as soon as so many times their bytes came behind them.
const PRODUCERS_SHARE: u64 = 4;

/// Where the log of one process is.
#[derive(Clone, Debug)]
pub(crate) struct LogFolder {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) path: ObjectPath,
    /// Of the tables, for errors.
    pub(crate) url: Arc<str>,
    /// Whose log it is.
    pub(crate) node: String,
}

/// What became of an object that was to be created.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Created {
    Done,
    /// There is one already.
    Taken,
}

impl LogFolder {
    fn name(&self) -> &str {
        self.path.as_ref()
    }

    fn object(&self, index: u64) -> ObjectPath {
        ObjectPath::from(segment_name(self.name(), index))
    }

    fn failed(&self) -> impl Fn(object_store::Error) -> Error + use<> {
        let url = self.url.to_string();
        move |source| Error::Store { url: url.clone(), source }
    }

    async fn create(&self, index: u64, bytes: &Bytes) -> Result<Created, object_store::Error> {
        let payload = PutPayload::from(bytes.clone());
        match self.store.put_opts(&self.object(index), payload, PutMode::Create.into()).await {
            Ok(_) => Ok(Created::Done),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => Ok(Created::Taken),
            Err(error) => Err(error),
        }
    }

    async fn read(&self, index: u64) -> Result<Bytes, object_store::Error> {
        self.store.get(&self.object(index)).await?.bytes().await
    }

    /// The numbers of the objects, in order.
    async fn indices(&self) -> Result<Vec<u64>, Error> {
        let listed = self.store.list_with_delimiter(Some(&self.path)).await;
        let mut indices = Vec::new();
        for object in listed.map_err(self.failed())?.objects {
            let name = object.location.filename().unwrap_or_default();
            let Some(index) = name.strip_suffix(".wal").and_then(|stem| stem.parse().ok()) else {
                continue;
            };
            if index > INDEX_MAX {
                let path = object.location.to_string();
                return Err(corrupt(path, 0, "no log has so many segments"));
            }
            indices.push(index);
        }
        indices.sort_unstable();
        Ok(indices)
    }

    /// Lets nothing be added any more; answers the number of the fence. Also if there is no log.
    ///
    /// # Errors
    /// [`Error::Store`]: there is a fence or not.
    pub(crate) async fn fence(&self) -> Result<u64, Error> {
        let mut failure = None;
        for _ in 0..FENCE_ATTEMPTS_MAX {
            let last = self.indices().await?.last().copied().unwrap_or(0);
            if last > 0 && is_fence(&self.read(last).await.map_err(self.failed())?) {
                return Ok(last);
            }
            match self.create(last + 1, &Bytes::from_static(FENCE_MAGIC)).await {
                Ok(Created::Done) => return Ok(last + 1),
                // The process that has the log was faster, or an earlier attempt did it.
                Ok(Created::Taken) => {}
                Err(error) => failure = Some(error),
            }
        }
        Err(match failure {
            Some(error) => self.failed()(error),
            None => Error::WriterReplaced { writer: self.node.clone() },
        })
    }

    /// The objects before a fence. Those that the process which had the log removes meanwhile are
    /// not needed.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(crate) async fn contents(&self, fence: u64) -> Result<Vec<(u64, Bytes)>, Error> {
        loop {
            let indices = self.indices().await?.into_iter().filter(|index| *index < fence);
            let read = async |index| Ok::<_, object_store::Error>((index, self.read(index).await?));
            let objects = futures::stream::iter(indices).map(read).buffered(READS);
            match objects.try_collect::<Vec<_>>().await {
                // Another fence may stand before this one, of who began to take it over and ended.
                Ok(read) => return Ok(read.into_iter().filter(|(_, it)| !is_fence(it)).collect()),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(self.failed()(error)),
            }
        }
    }

    /// Moves damaged objects aside, where nothing removes them.
    ///
    /// # Errors
    /// [`Error::Store`]; some may be moved.
    pub(crate) async fn set_aside(&self, damaged: &[u64]) -> Result<(), Error> {
        for index in damaged {
            let to = ObjectPath::from(quarantine_name(self.name(), *index));
            match self.store.copy(&self.object(*index), &to).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(self.failed()(error)),
            }
        }
        Ok(())
    }

    /// Removes all objects before a fence, from the last on, so that what is left can be read.
    ///
    /// # Errors
    /// [`Error::Store`]; the last of them may be gone.
    pub(crate) async fn clear(&self, fence: u64) -> Result<(), Error> {
        for index in self.indices().await?.into_iter().rev().filter(|index| *index < fence) {
            self.remove(index).await?;
        }
        Ok(())
    }

    async fn remove(&self, index: u64) -> Result<(), Error> {
        match self.store.delete(&self.object(index)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed()(error)),
        }
    }
}

fn is_fence(bytes: &Bytes) -> bool {
    bytes.starts_with(FENCE_MAGIC)
}

/// What a log holds that was taken over.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    pub(crate) producers: Producers,
    pub(crate) damage: Vec<LogDamage>,
    /// The objects with damage.
    pub(crate) damaged: Vec<u64>,
}

/// Reads the objects of a log in `folder`, handing every entry to `replay`.
///
/// # Errors
/// [`Error::Corrupt`] names the object and the offset of damage, unless `quarantine` is set; what
/// `replay` answers.
pub(crate) fn read(
    folder: &str,
    objects: Vec<(u64, Bytes)>,
    quarantine: bool,
    replay: impl FnMut(u64, Entry) -> Result<(), Error>,
) -> Result<Remains, Error> {
    let mut reading = Reading::new(replay, quarantine, folder, true);
    let mut damaged = Vec::new();
    let read = objects.into_iter();
    let read = read.map(|(index, bytes)| (index, Segment::of(folder, index, bytes)));
    reading.segments(read, |segment| {
        if segment.is_damaged {
            damaged.push(segment.index);
        }
        Ok(())
    })?;
    let producers = reading.producers.take().unwrap_or_default();
    Ok(Remains { producers, damage: reading.into_damage(), damaged })
}

/// An object that was written.
#[derive(Clone, Copy, Debug)]
struct Written {
    index: u64,
    /// The log sequence of its last entry, or of the entry before it if it has none.
    last: u64,
    has_producers: bool,
}

/// A group whose object may be there or not.
struct Head {
    bytes: Bytes,
    /// How many bytes its producers have, if it has them.
    producers_bytes: Option<u64>,
    appends: Vec<Append>,
}

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Head").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// The log, open for writing.
#[derive(Debug)]
pub(crate) struct StoreLog {
    folder: LogFolder,
    entropy: Arc<dyn Entropy>,
    producers: Arc<Mutex<Producers>>,
    written: VecDeque<Written>,
    /// What has to be created before anything else.
    head: Option<Head>,
    /// Whether another process took the log over.
    is_replaced: bool,
    removing: Arc<Removing>,
    /// The number of the next object.
    next_index: u64,
    /// The length of the last one.
    previous_end: u64,
    /// The log sequence of the next entry.
    next: u64,
    /// How many bytes the producers had when they were written last.
    producers_bytes: u64,
    /// Bytes of objects since then.
    since_producers: u64,
}

/// Objects that are not needed any more, the first one first.
#[derive(Debug)]
pub(super) struct Removing {
    folder: LogFolder,
    due: Mutex<VecDeque<u64>>,
    turn: tokio::sync::Mutex<()>,
}

impl Removing {
    fn due(&self) -> std::sync::MutexGuard<'_, VecDeque<u64>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes them.
    ///
    /// # Errors
    /// [`Error::Store`]; what is left is removed by a later call.
    pub(super) async fn finish(&self) -> Result<(), Error> {
        let _one_after_the_other = self.turn.lock().await;
        loop {
            let Some(index) = self.due().front().copied() else { return Ok(()) };
            self.folder.remove(index).await?;
            self.due().pop_front();
        }
    }
}

impl StoreLog {
    /// Begins the log of a process in a folder where there is none. What its producers wrote before
    /// is not taken again.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(crate) async fn begin(
        folder: LogFolder,
        entropy: Arc<dyn Entropy>,
        producers: Producers,
    ) -> Result<Self, Error> {
        let (due, turn) = (Mutex::default(), tokio::sync::Mutex::default());
        let removing = Arc::new(Removing { folder: folder.clone(), due, turn });
        let mut log = Self {
            folder,
            entropy,
            producers: Arc::new(Mutex::new(producers)),
            written: VecDeque::new(),
            head: None,
            is_replaced: false,
            removing,
            next_index: 1,
            previous_end: 0,
            next: 1,
            producers_bytes: 0,
            since_producers: 0,
        };
        log.head = Some(log.object(Vec::new()));
        log.settle().await?;
        Ok(log)
    }

    /// Which batches were written, shared with whoever wants to know before writing.
    pub(crate) fn producers(&self) -> Arc<Mutex<Producers>> {
        Arc::clone(&self.producers)
    }

    /// The log sequence of the last entry.
    pub(super) fn last(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// Whether it is not known if some batches are written.
    pub(super) const fn is_in_doubt(&self) -> bool {
        self.head.is_some()
    }

    fn object(&self, appends: Vec<Append>) -> Head {
        let salt = self.entropy.number() as u32;
        // Of the first object they are 0 bytes. They are not looked at where they are not written:
        // they may be many.
        let has_producers = self.producers_bytes <= PRODUCERS_BYTES_SMALL
            || self.since_producers >= PRODUCERS_SHARE * self.producers_bytes;
        let producers = || self.producers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let header = Header {
            salt,
            first: self.next,
            previous_end: self.previous_end,
            producers: has_producers.then(producers),
        };
        let payload = header.encode();
        let producers_bytes = has_producers.then_some(payload.len() as u64);
        let mut bytes = header_frame(&payload);
        if !appends.is_empty() {
            let mut group = Vec::new();
            put_group(&mut group, salt, self.next, appends.iter().map(|append| &append.entry));
            bytes.append(&mut group);
        }
        Head { bytes: bytes.into(), producers_bytes, appends }
    }

    /// Writes a group, which is published when it is written: at once, or sooner or later if this
    /// call fails with [`Error::Store`] and [`StoreLog::is_in_doubt`] is true afterwards.
    ///
    /// # Errors
    /// [`Error::Store`]; [`Error::WriterReplaced`]: then it is not written.
    pub(super) async fn append(&mut self, appends: Vec<Append>) -> Result<(), Error> {
        let bytes = body_bytes(appends.iter().map(|append| &append.entry));
        if bytes > BODY_BYTES_MAX {
            let what = format!("a batch of {bytes} bytes is too long for the log");
            return Err(Error::Internal { what });
        }
        self.settle().await?;
        self.head = Some(self.object(appends));
        self.settle().await
    }

    /// Finds out what is not known yet, by doing it.
    ///
    /// # Errors
    /// As [`StoreLog::append`].
    pub(super) async fn settle(&mut self) -> Result<(), Error> {
        if self.is_replaced {
            return Err(Error::WriterReplaced { writer: self.folder.node.clone() });
        }
        let Some(bytes) = self.head.as_ref().map(|head| head.bytes.clone()) else { return Ok(()) };
        let failed = self.folder.failed();
        match self.folder.create(self.next_index, &bytes).await {
            Ok(Created::Done) => {}
            Ok(Created::Taken) => {
                // Perhaps by an earlier request of this process.
                let found = self.folder.read(self.next_index).await.map_err(failed)?;
                if found != bytes {
                    (self.head, self.is_replaced) = (None, true);
                    return Err(Error::WriterReplaced { writer: self.folder.node.clone() });
                }
            }
            Err(error) => return Err(failed(error)),
        }
        self.advance();
        Ok(())
    }

    /// Goes on behind the object that is written now, and publishes what it holds.
    fn advance(&mut self) {
        let Some(Head { bytes, producers_bytes, appends }) = self.head.take() else { return };
        let mut producers = self.producers.lock().unwrap_or_else(PoisonError::into_inner);
        for Append { entry: Encoded { producer, sequence, .. }, .. } in &appends {
            producers.insert(producer, *sequence);
        }
        drop(producers);
        let index = self.next_index;
        self.next_index += 1;
        self.previous_end = bytes.len() as u64;
        match producers_bytes {
            Some(written) => (self.producers_bytes, self.since_producers) = (written, 0),
            None => self.since_producers += self.previous_end,
        }
        for append in appends {
            (append.publish)(self.next);
            self.next += 1;
        }
        let has_producers = producers_bytes.is_some();
        self.written.push_back(Written { index, last: self.last(), has_producers });
    }

    /// Gives up the objects that hold nothing after `through`; [`Removing::finish`] removes them. The
    /// newest that has the producers, and what came after it, stays.
    pub(super) fn release_through(&mut self, through: u64) -> Arc<Removing> {
        let newest = self.written.iter().rposition(|written| written.has_producers).unwrap_or(0);
        let count = self.written.iter().take(newest).take_while(|it| it.last <= through).count();
        let released = self.written.drain(..count).map(|written| written.index);
        self.removing.due().extend(released);
        Arc::clone(&self.removing)
    }
}

#[cfg(test)]
mod tests {
    use super::super::EntryWriter;
    use super::*;
    use object_store::memory::InMemory;
    use oms_core::entropy::SeededEntropy;

    fn append(producer: &str, sequence: u64) -> Append {
        let entry = EntryWriter::new(producer.to_owned(), sequence, 0).finish();
        Append { entry, publish: Box::new(|_| {}) }
    }

    /// Many producers are not in each object, and are all known from what a flush leaves.
    #[tokio::test]
    async fn many_producers_are_in_few_objects_and_none_is_forgotten() {
        const MANY: u64 = 2_000;
        let folder = LogFolder {
            store: Arc::new(InMemory::new()),
            path: ObjectPath::from("logs/.oms/log/node"),
            url: "s3://bucket/logs".into(),
            node: "node".to_owned(),
        };
        let mut expected = Producers::default();
        for n in 0..MANY {
            expected.insert(&format!("producer-{n}"), 1);
        }
        let entropy = Arc::new(SeededEntropy::new(1));
        let log = StoreLog::begin(folder.clone(), entropy, expected.clone()).await;
        let mut log = log.expect("begun");
        let (mut fulls, mut bytes) = (0, 0);
        for n in 0..3 * MANY {
            let (producer, sequence) = (format!("producer-{}", n % MANY), 2 + n / MANY);
            let group = vec![append("late", n + 1), append(&producer, sequence)];
            log.append(group).await.expect("written");
            expected.insert("late", n + 1);
            expected.insert(&producer, sequence);
            let written = *log.written.back().expect("an object");
            fulls += u64::from(written.has_producers);
            bytes += log.previous_end;
            if n % 100 == 99 {
                log.release_through(log.last()).finish().await.expect("removed");
                let objects = folder.contents(u64::MAX).await.expect("read");
                assert!(objects.len() as u64 <= n + 2);
                let remains = read(folder.name(), objects, false, |_, _| Ok(())).expect("sound");
                assert_eq!(remains.producers, expected, "after {n}");
            }
        }
        assert!((1..20).contains(&fulls), "{fulls} objects");
        assert!(bytes < 3 * MANY * 1_000, "{bytes} bytes");
    }
}
