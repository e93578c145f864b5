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

/// The most characters of the record that tells of a poisoned event.
const NOTICE_CHARACTERS_MAX: usize = 2_000;

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
    /// What the mapping needs beside the event is not there now.
    #[error("projection cannot map an event now. position=`{position}`, reason=`{reason}`")]
    Mapping {
        /// The event.
        position: u64,
        /// What is not there.
        reason: String,
    },
}

impl ProjectionError {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Journal(error) => error.kind(),
            Self::Sink(error) => error.kind(),
            Self::Mapping { .. } => ErrorKind::Unavailable,
        }
    }
}

/// Why an event was not made into records.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MappingError {
    /// The event itself can never be made into records here: it is put aside, and a record says so.
    #[error("event cannot be mapped. reason=`{reason}`")]
    Poisoned {
        /// What is wrong with it.
        reason: String,
    },
    /// Something beside the event cannot be read now: the projection stops before the event, and
    /// goes on with it when it is run again.
    #[error("event cannot be mapped now. reason=`{reason}`")]
    Unavailable {
        /// What cannot be read.
        reason: String,
    },
}

impl From<JournalError> for MappingError {
    /// An event that does not decode never will.
    fn from(error: JournalError) -> Self {
        let reason = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        match error {
            JournalError::Unavailable { .. } => Self::Unavailable { reason },
            _ => Self::Poisoned { reason },
        }
    }
}

/// Makes the records of one event; none for events that are not of interest. The same event makes
/// the same records each time, so that a batch that is sent again is the same batch.
pub type Mapping = dyn Fn(&Event) -> Result<Vec<Record>, MappingError> + Send + Sync;

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
/// records the sink refuses for good is left out, logged and counted; those around it are sent. An
/// event that the mapping finds [poisoned](MappingError::Poisoned) is put aside, logged and
/// counted, and a record of type `Operation` (category `Projection`, status `Error`) stands in its
/// place, so that whoever reads the records sees that one is missing. One task at a time may run
/// one projection.
pub struct Projection {
    journal: Arc<dyn Journal>,
    sink: Arc<dyn RecordSink>,
    clock: Arc<dyn Clock>,
    name: String,
    mapping: Arc<Mapping>,
    history_kinds: Option<Vec<String>>,
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
    /// Events that were poisoned, up to the last batch written.
    #[serde(default)]
    put_aside: u64,
    /// Events whose records were refused for good.
    #[serde(default)]
    refused: u64,
}

impl Progress {
    const FORMAT: u16 = 1;

    fn open(snapshot: Snapshot) -> Result<Self, JournalError> {
        if snapshot.format > Self::FORMAT {
            let (found, known) = (snapshot.format.into(), Self::FORMAT.into());
            return Err(JournalError::Newer { found, known });
        }
        serde_json::from_value(snapshot.body).map_err(Self::misfit)
    }

    fn seal(self) -> Result<Snapshot, JournalError> {
        let body = serde_json::to_value(self).map_err(Self::misfit)?;
        Ok(Snapshot { version: 1, format: Self::FORMAT, body })
    }

    fn misfit(source: serde_json::Error) -> JournalError {
        JournalError::Body { kind: "projection-progress".to_owned(), source }
    }
}

/// How far a projection is, and what it left out.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ProjectionReport {
    /// Every event up to this position of the journal is dealt with.
    pub position: u64,
    /// How many batches the sink took.
    pub batches: u64,
    /// How many events were [poisoned](MappingError::Poisoned); a record tells of each.
    pub put_aside: u64,
    /// How many events had records that the sink refused for good.
    pub refused: u64,
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
        Self { journal, sink, clock, name: name.into(), mapping, history_kinds: None }
    }

    /// The projection of histories of these kinds alone: the mapping never sees another event.
    #[must_use]
    pub fn of_kinds(mut self, history_kinds: &[&str]) -> Self {
        self.history_kinds = Some(history_kinds.iter().map(|kind| (*kind).to_owned()).collect());
        self
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How far the projection is and what it left out, over all its runs.
    ///
    /// # Errors
    /// [`ProjectionError::Journal`].
    pub async fn report(&self) -> Result<ProjectionReport, ProjectionError> {
        let history = HistoryId::new("projection", &self.name)?;
        let Some(progress) = self.stored(&history).await? else {
            return Ok(ProjectionReport::default());
        };
        let is_open = u64::from(!progress.is_written);
        Ok(ProjectionReport {
            position: if progress.is_written { progress.to } else { progress.from },
            batches: progress.sequence - is_open,
            put_aside: progress.put_aside,
            refused: progress.refused,
        })
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
            let (mut is_wanted, mut to, mut stop) = (false, last.position, None);
            for event in &events {
                match self.map(event) {
                    Ok(mapped) => is_wanted |= !mapped.records.is_empty(),
                    Err(error) => {
                        (to, stop) = (event.position - 1, Some(error));
                        break;
                    }
                }
            }
            if to > progress.to {
                let sequence = progress.sequence + u64::from(is_wanted);
                let from = progress.to;
                progress = Progress { sequence, from, to, is_written: !is_wanted, ..progress };
                self.save(&history, progress).await?;
            }
            if let Some(error) = stop {
                // What is before the event need not wait for it.
                if !progress.is_written {
                    let count = self.send(&history, &mut progress).await?;
                    self.count(count);
                }
                return Err(error);
            }
        }
    }

    /// The records of one event: those of the mapping, or the one that says that there are none.
    fn map(&self, event: &Event) -> Result<Mapped, ProjectionError> {
        let is_left_out = |kinds: &Vec<String>| !kinds.iter().any(|k| k == event.history.kind());
        if self.history_kinds.as_ref().is_some_and(is_left_out) {
            return Ok(Mapped::default());
        }
        match (self.mapping)(event) {
            Ok(records) => Ok(Mapped { records, poisoned: None }),
            Err(MappingError::Unavailable { reason }) => {
                Err(ProjectionError::Mapping { position: event.position, reason })
            }
            Err(MappingError::Poisoned { reason }) => {
                let records = self.notice(event, &reason).into_iter().collect();
                Ok(Mapped { records, poisoned: Some(reason) })
            }
        }
    }

    /// The record in the place of a poisoned event. It depends on the event alone, as every
    /// record of a batch that may be sent again must.
    fn notice(&self, event: &Event, reason: &str) -> Option<Record> {
        let (history, kind) = (&event.history, &event.envelope.kind);
        let (position, version) = (event.position, event.version);
        let detail = format!(
            "event is put aside. history=`{history}`, version=`{version}`, position=`{position}`, \
             kind=`{kind}`, reason=`{reason}`"
        );
        let detail: String = detail.chars().take(NOTICE_CHARACTERS_MAX).collect();
        let record = Record::new("Operation".parse().ok()?, event.envelope.time, &self.name);
        Some(
            record
                .with("OperationCategory", "Projection")
                .with("OperationStatus", "Error")
                .with("OperationKey", format!("{history}/{version}"))
                .with("Solution", self.name.as_str())
                .with("Detail", detail),
        )
    }

    async fn stored(&self, history: &HistoryId) -> Result<Option<Progress>, ProjectionError> {
        let Some(snapshot) = self.journal.snapshot(history).await? else { return Ok(None) };
        Ok(Some(Progress::open(snapshot)?))
    }

    fn count(&self, records: usize) {
        metrics::counter!("oms_projection_records_total", "projection" => self.name.clone())
            .increment(records as u64);
    }

    async fn load(&self, history: &HistoryId) -> Result<Progress, ProjectionError> {
        if let Some(progress) = self.stored(history).await? {
            return Ok(progress);
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
        self.journal.save_snapshot(history, progress.seal()?).await
    }

    async fn send(
        &self,
        history: &HistoryId,
        progress: &mut Progress,
    ) -> Result<usize, ProjectionError> {
        loop {
            let Range { events, records, poisoned } = self.read(*progress).await?;
            let count = records.len();
            let batch = Batch { producer: self.name.clone(), sequence: progress.sequence, records };
            match self.sink.write(batch).await {
                Ok(()) => {
                    for (position, reason) in &poisoned {
                        let projection = &self.name;
                        tracing::error!(projection, position, reason, "an event is put aside");
                    }
                    progress.is_written = true;
                    progress.put_aside += poisoned.len() as u64;
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
                        progress.refused += 1;
                        progress.put_aside += poisoned.len() as u64;
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

    /// The events of a batch again, and what they are mapped to.
    async fn read(&self, progress: Progress) -> Result<Range, ProjectionError> {
        let mut range = Range::default();
        let mut after = progress.from;
        while after < progress.to {
            let events = self.journal.read_all(after, READ_MAX).await?;
            let Some(last) = events.last() else { break };
            after = last.position;
            for event in events.iter().filter(|event| event.position <= progress.to) {
                let mapped = self.map(event)?;
                let poisoned = mapped.poisoned.map(|reason| (event.position, reason));
                range.poisoned.extend(poisoned);
                if !mapped.records.is_empty() {
                    range.events.push(event.position);
                    range.records.extend(mapped.records);
                }
            }
        }
        Ok(range)
    }
}

/// What one event is mapped to.
#[derive(Debug, Default)]
struct Mapped {
    records: Vec<Record>,
    poisoned: Option<String>,
}

/// What the events of one batch are mapped to.
#[derive(Debug, Default)]
struct Range {
    /// Positions of those that have records.
    events: Vec<u64>,
    records: Vec<Record>,
    /// Positions of those that are put aside, and why.
    poisoned: Vec<(u64, String)>,
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
        let journal = journal_of_jobs(12).await;
        let sink = Arc::new(Picky::default());
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let as_sink = Arc::clone(&sink) as Arc<dyn RecordSink>;
        let projection = Projection::new("svc", journal, as_sink, clock, Arc::new(mapping));
        projection.catch_up().await.expect("the others are sent");
        assert_eq!(projection.catch_up().await.expect("nothing is left"), 0);
        assert_eq!(projection.report().await.expect("a report").refused, 1);
        let taken = sink.taken.lock().expect("not poisoned").clone();
        assert_eq!(taken.iter().map(|(_, count)| count).sum::<usize>(), 11, "{taken:?}");
        let sequences: Vec<u64> = taken.iter().map(|(sequence, _)| *sequence).collect();
        let expected: Vec<u64> = (1..=taken.len() as u64).collect();
        assert_eq!(sequences, expected, "no gap, no repeat");
    }

    fn mapping(event: &Event) -> Result<Vec<Record>, MappingError> {
        if event.history.kind() != "job" {
            return Ok(Vec::new());
        }
        let record_type = "Operation".parse().expect("a name");
        let record = Record::new(record_type, event.envelope.time, "pc");
        Ok(vec![record.with("Detail", event.history.key().to_owned())])
    }

    async fn journal_of_jobs(count: u32) -> Arc<dyn Journal> {
        let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
        for key in 0..count {
            let event = Envelope::new("queued", 1, Timestamp::UNIX_EPOCH, "me", &());
            let history = HistoryId::new("job", &format!("job-{key}")).expect("a name");
            let appended = journal.append_to(&history, 0, vec![event.expect("a body")]).await;
            appended.expect("append");
        }
        journal
    }

    fn projection(
        journal: &Arc<dyn Journal>,
        sink: &Arc<impl RecordSink + 'static>,
        mapping: impl Fn(&Event) -> Result<Vec<Record>, MappingError> + Send + Sync + 'static,
    ) -> Projection {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let sink = Arc::clone(sink) as Arc<dyn RecordSink>;
        Projection::new("svc", Arc::clone(journal), sink, clock, Arc::new(mapping))
    }

    fn text(record: &Record, column: &str) -> String {
        match &record.fields[column] {
            crate::record::Value::String(text) => text.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_poisoned_event_is_put_aside_counted_and_told() {
        let journal = journal_of_jobs(5).await;
        let sink = Arc::new(Forgetful::default());
        let poisoned = |event: &Event| match event.history.key() {
            "job-2" => Err(event.envelope.decode::<u32>().expect_err("a unit").into()),
            _ => mapping(event),
        };
        // Its answer is lost once, so the batch is sent twice and counts once.
        while projection(&journal, &sink, poisoned).catch_up().await.is_err() {}
        let report = projection(&journal, &sink, poisoned).report().await.expect("a report");
        let expected = ProjectionReport { position: 6, batches: 1, put_aside: 1, refused: 0 };
        // The sixth event is the projection's own.
        assert_eq!(report, expected);
        let state = sink.state.lock().expect("not poisoned");
        let records: Vec<&Record> = state.0.values().flatten().collect();
        assert_eq!(records.len(), 5);
        let notice = records[2];
        assert_eq!(text(notice, "OperationCategory"), "Projection");
        assert_eq!(text(notice, "OperationKey"), "job/job-2/1");
        let detail = text(notice, "Detail");
        assert!(
            detail.contains("position=`3`, kind=`queued`, reason=`event body does"),
            "{detail}"
        );
    }

    #[tokio::test]
    async fn what_cannot_be_mapped_now_stops_before_the_event_and_goes_on_later() {
        let journal = journal_of_jobs(5).await;
        let sink = Arc::new(Picky::default());
        let closed = |event: &Event| match event.history.key() {
            "job-3" => Err(MappingError::Unavailable { reason: "closed".into() }),
            _ => mapping(event),
        };
        for _ in 0..3 {
            let stopped = projection(&journal, &sink, closed).catch_up().await;
            let error = stopped.expect_err("stopped");
            assert!(matches!(&error, ProjectionError::Mapping { position: 4, .. }), "{error}");
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert_eq!(*sink.taken.lock().expect("not poisoned"), [(1, 3)]);
        }
        projection(&journal, &sink, mapping).catch_up().await.expect("opened");
        assert_eq!(*sink.taken.lock().expect("not poisoned"), [(1, 3), (2, 2)]);
    }

    #[tokio::test]
    async fn other_kinds_of_histories_never_reach_the_mapping() {
        let journal = journal_of_jobs(3).await;
        let sink = Arc::new(Picky::default());
        let poisoned = |_: &Event| Err(MappingError::Poisoned { reason: "reached".into() });
        let others = projection(&journal, &sink, poisoned).of_kinds(&["node", "item"]);
        assert_eq!(others.catch_up().await.expect("nothing is wanted"), 0);
        assert_eq!(others.report().await.expect("a report").put_aside, 0);
        let jobs = projection(&journal, &sink, mapping).of_kinds(&["job"]);
        // The same name is the same projection, which has passed these events.
        assert_eq!(jobs.catch_up().await.expect("it is"), 0);
    }

    /// Progress as version 0.1.0 stored it.
    #[test]
    fn progress_without_counts_is_read() {
        let stored = serde_json::json!({"sequence": 3, "from": 1, "to": 9, "is_written": true});
        let progress = Progress::deserialize(&stored).expect("readable");
        assert_eq!((progress.to, progress.put_aside, progress.refused), (9, 0, 0));
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

    #[test]
    fn progress_of_the_first_format_is_read_and_of_a_newer_one_refused() {
        let body = include_str!("../tests/fixtures/snapshots/projection-progress-1.json");
        let body = serde_json::from_str(body).expect("JSON");
        let kept = Snapshot { version: 1, format: 1, body };
        let progress = Progress::open(kept.clone()).expect("progress");
        assert_eq!((progress.sequence, progress.from, progress.to), (7, 40, 52));
        assert_eq!((progress.is_written, progress.put_aside, progress.refused), (true, 1, 2));
        assert_eq!(progress.seal().expect("JSON"), kept);
        let newer = Progress::open(Snapshot { format: 2, ..kept }).expect_err("a newer format");
        assert!(matches!(newer, JournalError::Newer { found: 2, known: 1 }), "{newer}");
    }
}
