//! Numbers for batches of senders that number none themselves.
//!
//! All of them are one producer, since a workspace remembers each producer for ever. Its numbers
//! may have few gaps, so a batch that was not written gives its number back. Where that is not known
//! the number is not used for other records: if the batch is in the log after all, a restart would
//! take it for them. An empty batch fills its place.

use crate::{Error, Workspace};
use oms_core::record::Batch;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Semaphore, SemaphorePermit};

/// The producer of what comes over HTTP.
pub(super) const PRODUCER: &str = "logs-ingestion-api";

/// How many batches are on their way at a time: so many gaps there are at most.
const AT_ONCE_MAX: usize = 64;

/// The numbers of one workspace: two of these would give one number to two batches, and the second
/// would pass for a repeat of the first.
#[derive(Debug)]
pub(crate) struct Numbers {
    state: Mutex<State>,
    permits: Semaphore,
}

#[derive(Debug, Default)]
struct State {
    /// The highest number that was given out.
    last: u64,
    /// Numbers below it of batches that were not written.
    free: BTreeSet<u64>,
    /// Numbers of batches of which it is not known.
    doubtful: BTreeSet<u64>,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { state: Mutex::default(), permits: Semaphore::new(AT_ONCE_MAX) }
    }
}

/// A number that is in use. Dropped without being settled, it is in doubt.
#[derive(Debug)]
pub(super) struct Number<'a> {
    numbers: &'a Numbers,
    sequence: u64,
    fate: Fate,
    _permit: SemaphorePermit<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Written,
    Free,
    Doubtful,
}

impl Numbers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that no batch has, once those in doubt are filled.
    ///
    /// # Errors
    /// Those of writing an empty batch; [`Error::Closed`].
    pub(super) async fn take(&self, workspace: &Workspace) -> Result<Number<'_>, Error> {
        let permit = self.permits.acquire().await.map_err(|_closed| Error::Closed)?;
        let mut number =
            Number { numbers: self, sequence: 0, fate: Fate::Written, _permit: permit };
        loop {
            let doubtful = self.state().doubtful.pop_first();
            let Some(sequence) = doubtful else { break };
            (number.sequence, number.fate) = (sequence, Fate::Doubtful);
            let batch = Batch { producer: PRODUCER.to_owned(), sequence, records: Vec::new() };
            workspace.write(batch).await?;
            number.fate = Fate::Written;
        }
        let known = workspace.last_sequence(PRODUCER)?;
        let mut state = self.state();
        state.last = state.last.max(known);
        let free = state.free.pop_first();
        number.sequence = free.unwrap_or_else(|| {
            state.last += 1;
            state.last
        });
        drop(state);
        number.fate = Fate::Doubtful;
        Ok(number)
    }
}

impl Number<'_> {
    pub(super) const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Says what became of the batch.
    pub(super) fn settle<T>(mut self, sent: &Result<T, Error>) {
        self.fate = match sent {
            Ok(_) => Fate::Written,
            Err(
                Error::Record { .. }
                | Error::Batch { .. }
                | Error::Busy { .. }
                | Error::Rule { .. }
                | Error::RuleNotFound { .. }
                | Error::StreamNotFound { .. }
                | Error::Transform { .. }
                | Error::Unsupported { .. },
            ) => Fate::Free,
            Err(_) => Fate::Doubtful,
        };
    }
}

impl Drop for Number<'_> {
    fn drop(&mut self) {
        let mut state = self.numbers.state();
        match self.fate {
            Fate::Written => {}
            Fate::Free => drop(state.free.insert(self.sequence)),
            Fate::Doubtful => drop(state.doubtful.insert(self.sequence)),
        }
    }
}
