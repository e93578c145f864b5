//! A service's operation records, as a projection of its journal.

use crate::journal::{
    Envelope, Event, HistoryId, Journal, JournalError, JournalExt, READ_MAX, Snapshot,
};
use crate::record::{Batch, Record, RecordSink, SinkError};
use crate::{Clock, ErrorKind};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// The most journal events that one batch of records covers.
pub const PROJECTION_EVENTS_MAX: usize = 1_000;

/// Why a projection stopped. Running it again goes on where it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectionError {
    /// The journal could not be read, or the position not be kept.
    #[error("projection cannot use its journal")]
    Journal(#[from] JournalError),
    /// The sink did not take the records.
    #[error("projection cannot write its records")]
    Sink(#[from] SinkError),
}

impl ProjectionError {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Journal(error) => error.kind(),
            Self::Sink(error) => error.kind(),
        }
    }
}

/// Makes the records of one event; none for events that are not of interest.
pub type Mapping = dyn Fn(&Event) -> Vec<Record> + Send + Sync;

/// Turns journal events into records exactly once.
///
/// ```text
///  journal ──read after `from`──► map ──► keep (sequence, from, to) ──► sink.write(sequence)
///     ▲                                            │
///     └────── a restart sends the kept range again, under the same sequence ◄──┘
/// ```
///
/// The range of a batch is kept before the batch is sent, so a repeat after a crash carries the
/// same events under the same sequence and the sink drops it if it had taken it. An event whose
/// records the sink refuses for good is left out and logged; those around it are sent. One task at
/// a time may run one projection.
pub struct Projection {
    journal: Arc<dyn Journal>,
    sink: Arc<dyn RecordSink>,
    clock: Arc<dyn Clock>,
    name: String,
    mapping: Arc<Mapping>,
}

impl fmt::Debug for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Projection").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The batch sent last: events after `from` up to `to`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Progress {
    sequence: u64,
    from: u64,
    to: u64,
    is_written: bool,
}

impl Projection {
    /// A projection called `name`, which is also the producer's name in the sink.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        journal: Arc<dyn Journal>,
        sink: Arc<dyn RecordSink>,
        clock: Arc<dyn Clock>,
        mapping: Arc<Mapping>,
    ) -> Self {
        Self { journal, sink, clock, name: name.into(), mapping }
    }

    /// Sends everything that the journal holds now; answers how many records that were.
    ///
    /// # Errors
    /// [`ProjectionError`].
    pub async fn catch_up(&self) -> Result<usize, ProjectionError> {
        let history = HistoryId::new("projection", &self.name)?;
        let mut progress = self.load(&history).await?;
        let mut sent = 0;
        loop {
            if !progress.is_written {
                let count = self.send(&history, &mut progress).await?;
                self.count(count);
                sent += count;
            }
            let events = self.journal.read_all(progress.to, PROJECTION_EVENTS_MAX).await?;
            // How far it was behind: the age of the first event that it had not seen.
            let lag = events.first().map_or(0.0, |first| {
                self.clock.now().duration_since(first.envelope.time).as_secs_f64().max(0.0)
            });
            metrics::gauge!("oms_projection_lag_seconds", "projection" => self.name.clone())
                .set(lag);
            let Some(last) = events.last() else { return Ok(sent) };
            let is_wanted = events.iter().any(|event| !(self.mapping)(event).is_empty());
            let sequence = progress.sequence + u64::from(is_wanted);
            let (from, to) = (progress.to, last.position);
            progress = Progress { sequence, from, to, is_written: !is_wanted };
            self.save(&history, progress).await?;
        }
    }

    fn count(&self, records: usize) {
        metrics::counter!("oms_projection_records_total", "projection" => self.name.clone())
            .increment(records as u64);
    }

    async fn load(&self, history: &HistoryId) -> Result<Progress, ProjectionError> {
        if let Some(snapshot) = self.journal.snapshot(history).await? {
            return Ok(Progress::deserialize(&snapshot.body).map_err(|source| {
                JournalError::Body { kind: "projection-progress".to_owned(), source }
            })?);
        }
        let started = Envelope::new("projection-started", 1, self.clock.now(), &self.name, &())?;
        match self.journal.append_to(history, 0, vec![started]).await {
            // A crash between this event and the first snapshot leaves the event alone.
            Ok(_) | Err(JournalError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Progress { is_written: true, ..Progress::default() })
    }

    async fn save(&self, history: &HistoryId, progress: Progress) -> Result<(), JournalError> {
        let kind = || "projection-progress".to_owned();
        let body = serde_json::to_value(progress)
            .map_err(|source| JournalError::Body { kind: kind(), source })?;
        self.journal.save_snapshot(history, Snapshot { version: 1, format: 1, body }).await
    }

    async fn send(
        &self,
        history: &HistoryId,
        progress: &mut Progress,
    ) -> Result<usize, ProjectionError> {
        loop {
            let (events, records) = self.read(*progress).await?;
            let count = records.len();
            let batch = Batch { producer: self.name.clone(), sequence: progress.sequence, records };
            match self.sink.write(batch).await {
                Ok(()) => {
                    progress.is_written = true;
                    self.save(history, *progress).await?;
                    return Ok(count);
                }
                // Nothing of a refused batch was written, so its sequence may carry another one:
                // half of the events, down to the one that is not taken.
                Err(SinkError::Refused { reason, .. }) => {
                    let Some(middle) = events.len().checked_sub(1).map(|last| last / 2) else {
                        return Ok(0);
                    };
                    if events.len() > 1 {
                        progress.to = events[middle];
                    } else {
                        tracing::error!(
                            projection = self.name,
                            position = progress.to,
                            reason,
                            "records of an event are refused for good and left out"
                        );
                        // The sequence was not used; the next batch takes it.
                        progress.sequence -= 1;
                        progress.is_written = true;
                    }
                    self.save(history, *progress).await?;
                    if progress.is_written {
                        return Ok(0);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The positions of the events of a batch that have records, and their records.
    async fn read(&self, progress: Progress) -> Result<(Vec<u64>, Vec<Record>), JournalError> {
        let (mut positions, mut records) = (Vec::new(), Vec::new());
        let mut after = progress.from;
        while after < progress.to {
            let events = self.journal.read_all(after, READ_MAX).await?;
            let Some(last) = events.last() else { break };
            after = last.position;
            for event in events.iter().filter(|event| event.position <= progress.to) {
                let made = (self.mapping)(event);
                if !made.is_empty() {
                    positions.push(event.position);
                    records.extend(made);
                }
            }
        }
        Ok((positions, records))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::journal::MemoryJournal;
    use async_trait::async_trait;
    use jiff::Timestamp;
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    /// A sink that keeps batches by sequence and loses the answer of every second write.
    #[derive(Debug, Default)]
    struct Forgetful {
        state: Mutex<(BTreeMap<u64, Vec<Record>>, u64)>,
    }

    #[async_trait]
    impl RecordSink for Forgetful {
        async fn write(&self, batch: Batch) -> Result<(), SinkError> {
            let mut state = self.state.lock().expect("not poisoned");
            state.0.entry(batch.sequence).or_insert(batch.records);
            state.1 += 1;
            if state.1 % 2 == 1 {
                return Err(SinkError::Unavailable { reason: "the answer was lost".into() });
            }
            Ok(())
        }
    }

    /// A sink that refuses batches with the record of one event.
    #[derive(Debug, Default)]
    struct Picky {
        taken: Mutex<Vec<(u64, usize)>>,
    }

    #[async_trait]
    impl RecordSink for Picky {
        async fn write(&self, batch: Batch) -> Result<(), SinkError> {
            let is_bad = |record: &Record| record.fields["Detail"] == "job-5".into();
            if batch.records.iter().any(is_bad) {
                let Batch { producer, sequence, .. } = batch;
                return Err(SinkError::Refused { producer, sequence, reason: "bad".into() });
            }
            self.taken.lock().expect("not poisoned").push((batch.sequence, batch.records.len()));
            Ok(())
        }
    }

    #[tokio::test]
    async fn an_event_that_is_refused_for_good_holds_up_no_other() {
        let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
        for key in 0..12 {
            let event = Envelope::new("queued", 1, Timestamp::UNIX_EPOCH, "me", &());
            let history = HistoryId::new("job", &format!("job-{key}")).expect("a name");
            let appended = journal.append_to(&history, 0, vec![event.expect("a body")]).await;
            appended.expect("append");
        }
        let sink = Arc::new(Picky::default());
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let as_sink = Arc::clone(&sink) as Arc<dyn RecordSink>;
        let projection = Projection::new("svc", journal, as_sink, clock, Arc::new(mapping));
        projection.catch_up().await.expect("the others are sent");
        assert_eq!(projection.catch_up().await.expect("nothing is left"), 0);
        let taken = sink.taken.lock().expect("not poisoned").clone();
        assert_eq!(taken.iter().map(|(_, count)| count).sum::<usize>(), 11, "{taken:?}");
        let sequences: Vec<u64> = taken.iter().map(|(sequence, _)| *sequence).collect();
        let expected: Vec<u64> = (1..=taken.len() as u64).collect();
        assert_eq!(sequences, expected, "no gap, no repeat");
    }

    fn mapping(event: &Event) -> Vec<Record> {
        if event.history.kind() != "job" {
            return Vec::new();
        }
        let record_type = "Operation".parse().expect("a name");
        vec![
            Record::new(record_type, event.envelope.time, "pc")
                .with("Detail", event.history.key().to_owned()),
        ]
    }

    #[tokio::test]
    async fn every_event_becomes_its_record_once_although_answers_are_lost() {
        let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
        let sink = Arc::new(Forgetful::default());
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let mut expected = Vec::new();
        for round in 0..20 {
            for kind in ["job", "other"] {
                let key = format!("{kind}-{round}");
                let event = Envelope::new("queued", 1, clock.now(), "me", &()).expect("a body");
                let history = HistoryId::new(kind, &key).expect("a name");
                journal.append_to(&history, 0, vec![event]).await.expect("append");
                if kind == "job" {
                    expected.push(key);
                }
            }
            // Each round is a new process: nothing but journal and sink survives.
            let projection = Projection::new(
                "svc",
                Arc::clone(&journal),
                Arc::clone(&sink) as Arc<dyn RecordSink>,
                Arc::clone(&clock) as Arc<dyn Clock>,
                Arc::new(mapping),
            );
            let _ = projection.catch_up().await;
        }
        let last = Projection::new(
            "svc",
            journal,
            Arc::clone(&sink) as Arc<dyn RecordSink>,
            clock,
            Arc::new(mapping),
        );
        while last.catch_up().await.is_err() {}
        let state = sink.state.lock().expect("not poisoned");
        let mut details = Vec::new();
        for record in state.0.values().flatten() {
            details.push(record.fields["Detail"].clone());
        }
        let expected: Vec<_> = expected.into_iter().map(crate::record::Value::String).collect();
        assert_eq!(details, expected);
    }
}
