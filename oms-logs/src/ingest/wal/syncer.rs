//! Who writes the log: one thread to a disk, one task to an object store.

use super::frame::Encoded;
use super::spare::Preparer;
use super::{StoreLog, Wal, keeper};
use crate::Error;
use crate::ingest::producer::{Producers, Verdict};
use oms_core::clock::Stopwatch;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The most batches that wait for the thread. Past it, a writer waits for its turn.
pub(crate) const QUEUE_MAX: usize = 1_024;

/// So many batches in the queue show that the disk does not keep up.
const BEHIND_MIN: usize = 2;

/// The most bytes of one group, unless its first batch alone is longer.
const GROUP_BYTES_MAX: usize = 16 << 20;

/// Runs once the batch is durable, with its log sequence, before it is acknowledged. It does not
/// run for a repeat.
pub(crate) type Publish = Box<dyn FnOnce(u64) + Send>;

/// A batch to write.
pub(crate) struct Append {
    /// What to write.
    pub(crate) entry: Encoded,
    /// What makes it visible.
    pub(crate) publish: Publish,
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// A batch, and who waits for it.
pub(super) type Waiting = (Append, Reply<()>);

pub(super) enum Command {
    Append(Append, Reply<()>),
    Rotate(Reply<u64>),
    Remove(u64, Reply<()>),
    RemoveSpares(Reply<()>),
}

/// The queue to whoever writes. Dropping it ends a thread after what is queued, and waits for it; a
/// task ends at once.
#[derive(Debug)]
pub(crate) struct Syncer {
    queue: Option<mpsc::Sender<Command>>,
    thread: Option<std::thread::JoinHandle<()>>,
    /// Aborted with it.
    _task: Option<tokio::task::JoinSet<()>>,
    producers: Arc<Mutex<Producers>>,
}

impl Syncer {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`Error::Internal`] if the operating system has no thread left.
    pub(crate) fn start(wal: Wal) -> Result<Self, Error> {
        let (queue, commands) = mpsc::channel(QUEUE_MAX);
        let producers = wal.producers();
        let thread = std::thread::Builder::new()
            .name("oms-logs-wal".to_owned())
            .spawn(move || run(wal, commands))
            .map_err(|error| Error::Internal { what: format!("no thread for the log: {error}") })?;
        Ok(Self { queue: Some(queue), thread: Some(thread), _task: None, producers })
    }

    /// Starts the task, which writes one group an interval.
    pub(crate) fn start_in_store(log: StoreLog, interval: Duration) -> Self {
        let (queue, commands) = mpsc::channel(QUEUE_MAX);
        let producers = log.producers();
        let mut task = tokio::task::JoinSet::new();
        task.spawn(keeper::run(log, commands, interval));
        Self { queue: Some(queue), thread: None, _task: Some(task), producers }
    }

    /// The highest sequence of a producer that was written.
    pub(crate) fn last_sequence(&self, producer: &str) -> u64 {
        self.producers.lock().unwrap_or_else(PoisonError::into_inner).last(producer)
    }

    /// Whether this batch was written already.
    pub(crate) fn is_written(&self, producer: &str, sequence: u64) -> bool {
        let producers = self.producers.lock().unwrap_or_else(PoisonError::into_inner);
        producers.verdict(producer, sequence) == Verdict::Repeat
    }

    /// Whether batches wait for the disk.
    pub(crate) fn is_behind(&self) -> bool {
        let waiting = |queue: &mpsc::Sender<Command>| queue.max_capacity() - queue.capacity();
        self.queue.as_ref().is_some_and(|queue| waiting(queue) >= BEHIND_MIN)
    }

    /// Writes a batch: `Ok` means durable and visible.
    pub(crate) async fn append(&self, append: Append) -> Result<(), Error> {
        self.call(|reply| Command::Append(append, reply)).await
    }

    /// See [`Wal::rotate`].
    pub(crate) async fn rotate(&self) -> Result<u64, Error> {
        self.call(Command::Rotate).await
    }

    /// See [`Wal::remove_through`].
    pub(crate) async fn remove_through(&self, through: u64) -> Result<(), Error> {
        self.call(|reply| Command::Remove(through, reply)).await
    }

    /// See [`Wal::remove_spares`].
    pub(crate) async fn remove_spares(&self) -> Result<(), Error> {
        self.call(Command::RemoveSpares).await
    }

    async fn call<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(Error::Closed)?;
        queue.send(command(reply)).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the log's thread ended with a panic");
        }
    }
}

fn run(mut wal: Wal, mut commands: mpsc::Receiver<Command>) {
    let mut preparer = Preparer::new(Arc::clone(&wal.disk), wal.segment_bytes_max);
    let mut held = None;
    while let Some(command) = held.take().or_else(|| commands.blocking_recv()) {
        match command {
            Command::Append(append, reply) => {
                let mut group = vec![(append, reply)];
                let mut bytes = group.iter().map(|(append, _)| append.entry.len()).sum::<usize>();
                while group.len() < QUEUE_MAX
                    && bytes < GROUP_BYTES_MAX
                    && let Ok(command) = commands.try_recv()
                {
                    match command {
                        Command::Append(append, reply)
                            if bytes + append.entry.len() <= GROUP_BYTES_MAX =>
                        {
                            bytes += append.entry.len();
                            group.push((append, reply));
                        }
                        other => {
                            held = Some(other);
                            break;
                        }
                    }
                }
                write(&mut wal, group);
                if let Some(spare) = preparer.made() {
                    wal.add_spare(spare);
                } else if wal.wants_spare() {
                    preparer.begin();
                }
            }
            Command::Rotate(reply) => {
                let _ = reply.send(wal.rotate().map_err(Error::from));
            }
            Command::Remove(through, reply) => {
                let _ = reply.send(wal.remove_through(through).map_err(Error::from));
            }
            Command::RemoveSpares(reply) => {
                wal.remove_spares();
                let _ = reply.send(Ok(()));
            }
        }
    }
}

/// Writes a group, publishes what is new in it, and answers everyone. A caller that is gone does
/// not matter: its batch is written all the same.
fn write(wal: &mut Wal, group: Vec<Waiting>) {
    let producers = wal.producers();
    let (fresh, repeats) = sorted(&producers, group);
    let result = if fresh.is_empty() {
        Ok(0)
    } else {
        let (watch, bytes) = (Stopwatch::start(), fresh.iter().map(|(it, _)| it.entry.len()));
        metrics::counter!("oms_logs_wal_bytes_total").increment(bytes.sum::<usize>() as u64);
        let first = wal.append(fresh.iter().map(|(append, _)| &append.entry));
        metrics::histogram!("oms_logs_wal_sync_seconds").record(watch.seconds());
        first
    };
    match result {
        Ok(first) => {
            let mut written = producers.lock().unwrap_or_else(PoisonError::into_inner);
            for (append, _) in &fresh {
                written.insert(&append.entry.producer, append.entry.sequence);
            }
            drop(written);
            let mut replies = Vec::with_capacity(fresh.len());
            for (lsn, (append, reply)) in (first..).zip(fresh) {
                (append.publish)(lsn);
                replies.push(reply);
            }
            for reply in replies.into_iter().chain(repeats) {
                let _ = reply.send(Ok(()));
            }
        }
        Err(error) => {
            let replies = fresh.into_iter().map(|(_, reply)| reply).chain(repeats);
            refuse_all(&error.into(), replies);
        }
    }
}

/// The batches of a group that are new, and the replies of those that are written already or with
/// the group. Answers those that cannot be taken.
pub(super) fn sorted(
    producers: &Mutex<Producers>,
    group: Vec<Waiting>,
) -> (Vec<Waiting>, Vec<Reply<()>>) {
    let (mut fresh, mut repeats) = (Vec::new(), Vec::new());
    let written = producers.lock().unwrap_or_else(PoisonError::into_inner);
    let mut in_group = BTreeSet::new();
    for (append, reply) in group {
        let Encoded { producer, sequence, .. } = &append.entry;
        let verdict = written.verdict(producer, *sequence);
        match verdict {
            Verdict::New if in_group.insert((producer.clone(), *sequence)) => {
                fresh.push((append, reply));
            }
            // A repeat within the group is durable when the group is.
            Verdict::New | Verdict::Repeat => repeats.push(reply),
            Verdict::TooManyGaps | Verdict::TooManyProducers => {
                let _ = reply.send(Err(refusal(verdict, producer)));
            }
        }
    }
    (fresh, repeats)
}

/// Answers everyone in a group by one failure.
pub(super) fn refuse_all(error: &Error, replies: impl Iterator<Item = Reply<()>>) {
    let mut batches = 0;
    for reply in replies {
        batches += 1;
        let _ = reply.send(Err(copy(error)));
    }
    keeper::tell(error, batches);
}

/// The same for each of many.
fn copy(error: &Error) -> Error {
    match error {
        Error::Disk(error) => Error::Disk(oms_core::disk::DiskError {
            operation: error.operation,
            path: error.path.clone(),
            source: std::io::Error::new(error.source.kind(), error.source.to_string()),
        }),
        Error::Store { url, source } => Error::Store {
            url: url.clone(),
            source: object_store::Error::Generic {
                store: "log",
                source: source.to_string().into(),
            },
        },
        Error::WriterReplaced { writer } => Error::WriterReplaced { writer: writer.clone() },
        other => Error::Internal { what: other.to_string() },
    }
}

fn refusal(verdict: Verdict, producer: &str) -> Error {
    let reason = match verdict {
        Verdict::TooManyProducers => "too many producers",
        _ => "too many sequences before this one are missing",
    };
    Error::Batch { producer: producer.to_owned(), reason: reason.to_owned() }
}
