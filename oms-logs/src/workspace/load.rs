//! Files into a table, past the write-ahead log.

use super::{Inner, Workspace, count_records, whole};
use crate::Error;
use crate::ingest::batch::{Stamp, stamped, unite};
use crate::ingest::item::{Origin, with_ids};
use crate::ingest::rows::{ColumnReader, RowFormat, RowTarget, RowsRead};
use crate::repository::commit::{Committed, put_files};
use crate::repository::encode::encode;
use crate::repository::table::Table;
use crate::schema::TableSchema;
use arrow::array::RecordBatch;
use deltalake_core::kernel::Action;
use futures::StreamExt as _;
use futures::executor::block_on;
use futures::stream::FuturesOrdered;
use oms_core::clock::Stopwatch;
use oms_core::entropy::SeededEntropy;
use oms_core::record::RecordType;
use oms_core::task::{TaskError, blocking};
use oms_core::{Clock, EntropyExt as _, ErrorKind};
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::Instrument as _;
use tracing::field::Empty;

/// Bytes of one step, as a reader of columns counts them.
const STEP_BYTES_MAX: usize = 96 << 20;

/// Steps that are sorted and written at a time.
const LANES_MAX: usize = 2;

/// Steps of one commit.
const COMMIT_STEPS: usize = 8;

/// A file to load.
pub struct LoadFile {
    /// What a report calls it.
    name: PathBuf,
    content: Content,
}

enum Content {
    File(File),
    Text(Box<dyn BufRead + Send>),
}

impl fmt::Debug for LoadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadFile").field("name", &self.name).finish_non_exhaustive()
    }
}

impl LoadFile {
    /// The file at a path.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let file = File::open(path.as_ref())?;
        Ok(Self::file(path.as_ref(), file))
    }

    /// An open file, under a name for reports.
    #[must_use]
    pub fn file(name: impl Into<PathBuf>, file: File) -> Self {
        Self { name: name.into(), content: Content::File(file) }
    }

    /// A text, under a name for reports. It cannot be [`RowFormat::Parquet`].
    #[must_use]
    pub fn text(name: impl Into<PathBuf>, text: impl BufRead + Send + 'static) -> Self {
        Self { name: name.into(), content: Content::Text(Box::new(text)) }
    }

    fn reader(self, format: RowFormat, target: RowTarget) -> io::Result<ColumnReader> {
        match self.content {
            Content::File(file) => ColumnReader::open(format, file, target),
            Content::Text(text) => ColumnReader::new(format, text, target),
        }
    }
}

/// How files are loaded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LoadOptions {
    /// How the rows are written.
    pub format: RowFormat,
    /// `Computer` of a row that names none.
    pub computer: String,
    /// How many refused rows are told one by one.
    pub refused_told_max: usize,
    /// The most rows that are sorted and written together, at least 1. Fewer take less memory and
    /// make smaller files.
    pub step_rows_max: usize,
}

impl Default for LoadOptions {
    /// JSON lines of no computer; 20 refused rows are told; steps of 262,144 rows.
    fn default() -> Self {
        Self {
            format: RowFormat::Ndjson,
            computer: String::new(),
            refused_told_max: 20,
            step_rows_max: 256 * 1024,
        }
    }
}

/// A row that the table did not take.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RefusedRow {
    /// The file's name.
    pub file: PathBuf,
    /// Its number in the file; see [`Row::number`](crate::ingest::rows::Row::number).
    pub number: u64,
    /// Why it was refused.
    pub reason: String,
}

/// What a load did.
#[derive(Debug, Default)]
pub struct LoadReport {
    /// Rows that are in the Delta table: synced, and visible to queries.
    pub accepted: u64,
    /// Rows that were refused, told or not.
    pub refused: u64,
    /// The first of them, in the order of the files.
    pub refused_rows: Vec<RefusedRow>,
    /// Data files that were written.
    pub data_files: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// The version of the Delta table that holds all accepted rows; none if there are none.
    pub delta_version: Option<u64>,
    /// What ended the load early; the rows that it had accepted before stay.
    pub failure: Option<LoadFailure>,
}

/// What ended a load early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadFailure {
    /// A file could not be read further.
    #[error("file {} cannot be read: {source}", file.display())]
    Read {
        /// The file's name.
        file: PathBuf,
        /// What the reader said.
        source: io::Error,
    },
    /// The table could not take more.
    #[error("{}", whole(source))]
    Table {
        /// What the repository said.
        #[from]
        source: Error,
    },
}

impl LoadFailure {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            // What is no row of its format is that, too.
            Self::Read { source, .. } if source.kind() == io::ErrorKind::InvalidData => {
                ErrorKind::Invalid
            }
            Self::Read { source, .. } => ErrorKind::of_io(source),
            Self::Table { source } => source.kind(),
        }
    }
}

impl From<TaskError> for LoadFailure {
    fn from(error: TaskError) -> Self {
        Error::from(error).into()
    }
}

impl Workspace {
    /// Loads files into a table, past the write-ahead log: the way for many rows at once.
    ///
    /// ```text
    ///  files ─► ColumnReader ─► steps ─► sorted Parquet files, synced ─► Delta commit ─► visible
    ///           one thread              two steps at a time              in the files' order
    /// ```
    ///
    /// A row is accepted when its step is committed, which each step is once: those of a report's
    /// [`LoadReport::accepted`] rows are in the table, and the rows of a failed step are not, unless
    /// the commit itself got no answer, and no look into the table's log either. The workspace does
    /// not remember what was loaded: a file that is loaded twice is there twice.
    ///
    /// Besides what waits for the log, a load takes about 300 MiB of memory by default. Rows are
    /// written and queried by others meanwhile. `Operation` tells of rows that are refused.
    ///
    /// # Errors
    /// [`Error::Closed`], and those of opening the table: nothing was loaded. What happens after
    /// that is in the report.
    pub async fn load(
        &self,
        table: &RecordType,
        files: Vec<LoadFile>,
        options: &LoadOptions,
    ) -> Result<LoadReport, Error> {
        let span = tracing::info_span!(
            "load",
            table = %table,
            rows = Empty,
            refused = Empty,
            files = Empty,
            bytes = Empty,
            outcome = Empty
        );
        let watch = Stopwatch::start();
        let loaded = self.load_all(table, files, options).instrument(span.clone()).await;
        let outcome = match &loaded {
            Ok(LoadReport { failure: Some(failure), .. }) => failure.kind().name(),
            loaded => ErrorKind::outcome(loaded, Error::kind),
        };
        if let Ok(report) = &loaded {
            span.record("rows", report.accepted);
            span.record("refused", report.refused);
            span.record("files", report.data_files);
            span.record("bytes", report.bytes);
        }
        span.record("outcome", outcome);
        metrics::histogram!("oms_logs_load_seconds", "outcome" => outcome).record(watch.seconds());
        loaded
    }

    async fn load_all(
        &self,
        table: &RecordType,
        files: Vec<LoadFile>,
        options: &LoadOptions,
    ) -> Result<LoadReport, Error> {
        let inner = self.inner()?;
        let table = inner.tables.for_writing(table).await?;
        let (to, from) = mpsc::channel(1);
        let reading = {
            let (table, options) = (Arc::clone(&table), options.clone());
            let clock = Arc::clone(&inner.clock);
            let files = files.into_iter();
            let reading = Reading { files, open: None, table, options, clock };
            blocking(move || reading.send(&to))
        };
        let mut load = Load {
            workspace: self,
            stamp: Stamp {
                tenant_id: inner.identity.workspace_id.to_string(),
                received: inner.clock.now(),
            },
            clock: Arc::clone(&inner.clock),
            // What else the workspace draws does not depend on how many steps it begins.
            entropy: SeededEntropy::new(inner.entropy.number()),
            table,
            options: options.clone(),
            report: LoadReport::default(),
            lanes: FuturesOrdered::new(),
            written: Written::default(),
        };
        // A workspace that is closed meanwhile is not kept open by this.
        drop(inner);
        let (read, taken) = tokio::join!(reading, load.take(from));
        load.report.failure = taken.err().map(LoadFailure::from).or(read.err());
        let Load { table, report, .. } = load;
        if report.refused > 0 {
            let first = report.refused_rows.first();
            let first = first.map(|row| {
                format!(", such as {}:{}: {}", row.file.display(), row.number, row.reason)
            });
            let reason = format!("rows of files{}", first.unwrap_or_default());
            // A workspace that was closed meanwhile takes no more.
            drop(self.note_refused(table.name().as_str(), &reason, report.refused));
        }
        Ok(report)
    }
}

/// Rows that are sorted and written together, and what was refused beside them.
#[derive(Default)]
struct Step {
    rows: Vec<RecordBatch>,
    /// The table's, which has their columns; none without rows.
    schema: Option<Arc<TableSchema>>,
    accepted: usize,
    refused: usize,
    refused_rows: Vec<RefusedRow>,
}

/// Files that are being read.
struct Reading {
    files: std::vec::IntoIter<LoadFile>,
    open: Option<(PathBuf, ColumnReader)>,
    table: Arc<Table>,
    options: LoadOptions,
    clock: Arc<dyn Clock>,
}

impl Reading {
    /// Reads step by step, until nobody takes more. A step is begun when the one before it is taken,
    /// so that no more of them are in memory than have to be.
    fn send(mut self, to: &mpsc::Sender<Step>) -> Result<(), LoadFailure> {
        while let Ok(place) = block_on(to.reserve()) {
            let mut step = Step::default();
            let filled = self.fill(&mut step);
            place.send(step);
            if !filled? {
                break;
            }
        }
        Ok(())
    }

    /// Fills a step; `false` if the files end with it. What was read before an error is in it.
    fn fill(&mut self, step: &mut Step) -> Result<bool, LoadFailure> {
        let rows_max = self.options.step_rows_max.max(1);
        let mut bytes = STEP_BYTES_MAX;
        while bytes > 0 && step.accepted + step.refused < rows_max {
            let Some((name, reader)) = &mut self.open else {
                let Some(file) = self.files.next() else { return Ok(false) };
                self.open = Some(self.open(file)?);
                continue;
            };
            let left = rows_max - step.accepted - step.refused;
            let read = reader.next_rows_within(left, &mut bytes);
            let read = read.map_err(|source| LoadFailure::Read { file: name.clone(), source })?;
            let Some(RowsRead { rows, refused, .. }) = read else {
                self.open = None;
                continue;
            };
            step.refused += refused.len();
            let room = self.options.refused_told_max.saturating_sub(step.refused_rows.len());
            let told = refused.into_iter().take(room);
            let file = &*name;
            step.refused_rows.extend(told.map(|(number, reason)| RefusedRow {
                file: file.clone(),
                number,
                reason,
            }));
            if rows.num_rows() > 0 {
                step.schema = Some(self.table.grow(rows.schema_ref())?);
                step.accepted += rows.num_rows();
                step.rows.push(rows);
            }
        }
        Ok(true)
    }

    fn open(&self, file: LoadFile) -> Result<(PathBuf, ColumnReader), LoadFailure> {
        let target = RowTarget {
            schema: TableSchema::clone(&self.table.schema()),
            computer: self.options.computer.clone(),
            now: self.clock.now(),
        };
        let name = file.name.clone();
        match file.reader(self.options.format, target) {
            Ok(reader) => Ok((name, reader)),
            Err(source) => Err(LoadFailure::Read { file: name, source }),
        }
    }
}

/// Files that are written and not committed yet.
#[derive(Default)]
struct Written {
    actions: Vec<Action>,
    /// The table's when the first of them began.
    mark: Option<Arc<str>>,
    schema: Option<Arc<TableSchema>>,
    steps: usize,
    done: Committed,
}

/// A load that is under way.
struct Load<'a> {
    workspace: &'a Workspace,
    table: Arc<Table>,
    clock: Arc<dyn Clock>,
    entropy: SeededEntropy,
    stamp: Stamp,
    options: LoadOptions,
    report: LoadReport,
    /// Steps that are being written, in the order of their rows.
    lanes: FuturesOrdered<JoinHandle<Result<Written, Error>>>,
    written: Written,
}

impl Load<'_> {
    /// Brings steps into the table, until no more come. None of them is under way afterwards, whatever
    /// came of them: what the caller does next runs beside no write of this load.
    async fn take(&mut self, steps: mpsc::Receiver<Step>) -> Result<(), Error> {
        let taken = self.take_until_one_fails(steps).await;
        while self.lanes.next().await.is_some() {}
        taken
    }

    async fn take_until_one_fails(&mut self, mut steps: mpsc::Receiver<Step>) -> Result<(), Error> {
        let mut has_ended = false;
        loop {
            tokio::select! {
                biased;
                Some(written) = self.lanes.next(), if !self.lanes.is_empty() => {
                    match written.map_err(TaskError::from)? {
                        Ok(written) => self.add(written),
                        Err(error) => {
                            // Those before it are in order.
                            self.commit().await?;
                            return Err(error);
                        }
                    }
                    if self.written.steps >= COMMIT_STEPS {
                        self.commit().await?;
                    }
                }
                step = steps.recv(), if !has_ended && self.lanes.len() < LANES_MAX => match step {
                    Some(step) => self.start(step),
                    None => has_ended = true,
                },
                else => break,
            }
        }
        self.commit().await
    }

    /// Has the rows sorted and written while others are read.
    fn start(&mut self, step: Step) {
        let Step { rows, schema, accepted, refused, refused_rows } = step;
        self.report.refused += refused as u64;
        if refused > 0 {
            count_records(ErrorKind::Invalid.name(), refused as u64);
        }
        let told = self.report.refused_rows.len();
        let room = self.options.refused_told_max.saturating_sub(told);
        self.report.refused_rows.extend(refused_rows.into_iter().take(room));
        let Some(schema) = schema else { return };
        let stamp = Stamp { received: self.clock.now(), ..self.stamp.clone() };
        // Steps that are written beside each other draw the names of their files each for itself.
        let entropy = SeededEntropy::new(self.entropy.number());
        let table = Arc::clone(&self.table);
        let now = stamp.received;
        let origin = Origin::drawn(table.place(), &self.entropy, accepted);
        // No later version has files of this name, whatever ids are drawn.
        let view = table.view();
        let version = view.delta_version.map_or(0, |version| version + 1);
        let mark = view.vacuum_mark.clone();
        let name = format!("load-{version:020}");
        self.lanes.push_back(tokio::spawn(async move {
            let files = {
                let schema = Arc::clone(&schema);
                blocking(move || {
                    let united = match <[RecordBatch; 1]>::try_from(rows) {
                        Ok([whole]) => whole,
                        Err(rows) => unite(rows.iter())?,
                    };
                    let stamped = stamped(&united, &schema, &stamp)?;
                    encode(&schema, &with_ids(&stamped, &[origin])?)
                })
                .await?
            };
            let bytes = files.iter().map(|file| file.bytes.len() as u64).sum();
            let done = Committed { rows: accepted as u64, files: files.len(), bytes };
            let actions =
                put_files(table.store(), schema.name(), files, &name, now, &entropy).await?;
            Ok(Written { actions, mark, schema: Some(schema), steps: 1, done })
        }));
    }

    /// Sets written files apart for the next commit.
    fn add(&mut self, written: Written) {
        if self.written.steps == 0 {
            self.written.mark = written.mark;
        }
        self.written.actions.extend(written.actions);
        // A later one has the columns of the earlier ones.
        self.written.schema = written.schema;
        self.written.steps += written.steps;
        self.written.done.rows += written.done.rows;
        self.written.done.files += written.done.files;
        self.written.done.bytes += written.done.bytes;
    }

    async fn commit(&mut self) -> Result<(), Error> {
        let Written { actions, mark, schema, done, .. } = std::mem::take(&mut self.written);
        let Some(schema) = schema else { return Ok(()) };
        let inner: Arc<Inner> = self.workspace.inner()?;
        let memory = Arc::clone(&inner.memory);
        let released = move |bytes| memory.release(bytes);
        let (clock, entropy) = (self.clock.as_ref(), &self.entropy);
        let (table, mark) = (&self.table, mark.as_deref());
        let version = table.add(&schema, &actions, mark, clock, entropy, released).await?;
        self.report.accepted += done.rows;
        self.report.data_files += done.files;
        self.report.bytes += done.bytes;
        self.report.delta_version = version;
        count_records("accepted", done.rows);
        Ok(())
    }
}
