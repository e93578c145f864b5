//! Data files that are written as their rows are read, in bounded memory.

use crate::Error;
use crate::repository::encode::FileEncoder;
use crate::repository::integrity::FILE_SUFFIX;
use crate::repository::maintain::retention::date;
use crate::repository::snapshot::{DataFile, FileStats};
use crate::repository::table::Table;
use crate::schema::{DAY_COLUMN, TIME_GENERATED};
use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_expr::expressions::col;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use datafusion::prelude::{SessionConfig, SessionContext};
use deltalake_core::kernel::Add;
use jiff::Timestamp;
use object_store::buffered::BufWriter;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt as _};
use oms_core::record::RecordType;
use oms_core::task::blocking;
use oms_core::{Entropy, EntropyExt as _};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use tokio::io::AsyncWriteExt as _;

/// Memory for sorting and merging, in bytes; past it, rows are spilled to disk.
const SORT_BYTES_MAX: usize = 128 << 20;

/// Rows of one batch that is read and written.
const BATCH_ROWS: usize = 4_096;

/// How the name of a file begins that this crate wrote, whose rows are sorted by time.
const SORTED_PREFIX: &str = "part-";

/// The same for files that a load wrote.
const LOADED_PREFIX: &str = "load-";

/// The same for rows that are in another order, of a file that someone else wrote.
const UNSORTED_PREFIX: &str = "rows-";

/// The rows of some files of one day, sorted by time.
pub(super) fn read_sorted(
    schema: &SchemaRef,
    files: &[DataFile],
    spill: &Path,
) -> Result<SendableRecordBatchStream, DataFusionError> {
    let context = session(spill)?;
    let by_time = PhysicalSortExpr {
        expr: col(TIME_GENERATED, schema)?,
        options: SortOptions { descending: false, nulls_first: true },
    };
    let Some(by_time) = LexOrdering::new([by_time]) else {
        return Err(DataFusionError::Internal("an order of one column is none".to_owned()));
    };
    let mut rows = scan(schema, files, &context)?;
    if !files.iter().all(is_sorted) {
        rows = Arc::new(SortExec::new(by_time.clone(), rows).with_preserve_partitioning(true));
    }
    if files.len() > 1 {
        rows = Arc::new(SortPreservingMergeExec::new(by_time, rows));
    }
    rows.execute(0, context.task_ctx())
}

/// The rows of one file, in the order that they stand in it.
pub(super) fn read_in_order(
    schema: &SchemaRef,
    file: &DataFile,
    spill: &Path,
) -> Result<SendableRecordBatchStream, DataFusionError> {
    let context = session(spill)?;
    scan(schema, std::slice::from_ref(file), &context)?.execute(0, context.task_ctx())
}

fn session(spill: &Path) -> Result<SessionContext, DataFusionError> {
    let disk = DiskManagerBuilder::default()
        .with_mode(DiskManagerMode::Directories(vec![spill.to_owned()]));
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(SORT_BYTES_MAX)))
        .with_disk_manager_builder(disk)
        .build_arc()?;
    let config = SessionConfig::new().with_batch_size(BATCH_ROWS).with_target_partitions(1);
    Ok(SessionContext::new_with_config_rt(config, runtime))
}

/// Each file as a partition of its own.
fn scan(
    schema: &SchemaRef,
    files: &[DataFile],
    context: &SessionContext,
) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    let groups = files
        .iter()
        .map(|file| FileGroup::new(vec![PartitionedFile::new(file.path.to_string(), file.size)]))
        .collect();
    let options = context.state().table_options().parquet.clone();
    let mut source = ParquetSource::new(Arc::clone(schema)).with_table_parquet_options(options);
    let runtime = context.runtime_env();
    let mut url = ObjectStoreUrl::local_filesystem();
    if let Some(file) = files.first() {
        let (found, readers) = file.home.readers(&runtime)?;
        url = found;
        source = source.with_parquet_file_reader_factory(readers);
    }
    let config = FileScanConfigBuilder::new(url, Arc::new(source)).with_file_groups(groups);
    Ok(DataSourceExec::from_data_source(config.build()))
}

fn is_sorted(file: &DataFile) -> bool {
    let is_sorted = |name: &str| name.starts_with(SORTED_PREFIX) || name.starts_with(LOADED_PREFIX);
    file.path.filename().is_some_and(is_sorted)
}

/// Writes the rows of one day of a table into files of bounded size.
#[derive(Debug)]
pub(super) struct DayWriter {
    table: RecordType,
    /// The table's folder.
    store: Arc<dyn ObjectStore>,
    day: String,
    /// How the names of the files begin.
    prefix: &'static str,
    file_bytes_max: u64,
    now: Timestamp,
    open: Option<OpenFile>,
    done: Vec<Add>,
    /// Rows in all files.
    pub(super) rows: u64,
}

struct OpenFile {
    path: String,
    encoder: FileEncoder,
    into: BufWriter,
    stats: FileStats,
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl DayWriter {
    pub(super) async fn new(table: &Table, day: i64, file_bytes_max: u64, now: Timestamp) -> Self {
        Self {
            table: table.name.clone(),
            store: table.committer.lock().await.log_store.object_store(None),
            day: date(day).to_string(),
            prefix: SORTED_PREFIX,
            file_bytes_max,
            now,
            open: None,
            done: Vec::new(),
            rows: 0,
        }
    }

    /// The writer for rows that are in the order of those of `file`.
    pub(super) fn ordered_as(mut self, file: &DataFile) -> Self {
        self.prefix = if is_sorted(file) { SORTED_PREFIX } else { UNSORTED_PREFIX };
        self
    }

    /// Writes rows, which come in the order of their time unless another one was told.
    pub(super) async fn write(
        &mut self,
        rows: &RecordBatch,
        entropy: &dyn Entropy,
    ) -> Result<(), Error> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => self.begin(rows, entropy)?,
        };
        let OpenFile { path, mut encoder, mut into, mut stats } = open;
        let (table, batch) = (self.table.clone(), rows.clone());
        let (encoder, piece, stats) = blocking(move || {
            encoder.write(&batch).map_err(Error::file(&table))?;
            let piece = encoder.take();
            stats.merge(&FileStats::of(&batch));
            Ok::<_, Error>((encoder, piece, stats))
        })
        .await?;
        into.put(piece).await.map_err(Error::file(&self.table))?;
        self.rows += rows.num_rows() as u64;
        let open = OpenFile { path, encoder, into, stats };
        if open.encoder.bytes() as u64 >= self.file_bytes_max {
            return self.end(open).await;
        }
        self.open = Some(open);
        Ok(())
    }

    /// Ends the last file; answers the actions that add all of them, durable on disk.
    pub(super) async fn finish(mut self) -> Result<(Vec<Add>, u64), Error> {
        if let Some(open) = self.open.take() {
            self.end(open).await?;
        }
        Ok((self.done, self.rows))
    }

    /// Begins a file whose columns are like those of `rows`.
    fn begin(&self, rows: &RecordBatch, entropy: &dyn Entropy) -> Result<OpenFile, Error> {
        let id = entropy.uuid();
        let path = format!("{DAY_COLUMN}={}/{}{id}{FILE_SUFFIX}", self.day, self.prefix);
        let into = BufWriter::new(Arc::clone(&self.store), ObjectPath::from(path.as_str()));
        let encoder = FileEncoder::start(rows).map_err(Error::file(&self.table))?;
        Ok(OpenFile { path, encoder, into, stats: FileStats::default() })
    }

    async fn end(&mut self, open: OpenFile) -> Result<(), Error> {
        let OpenFile { path, encoder, mut into, stats } = open;
        let table = self.table.clone();
        let piece = blocking(move || encoder.finish().map_err(Error::file(&table))).await?;
        into.put(piece).await.map_err(Error::file(&self.table))?;
        into.shutdown().await.map_err(Error::file(&self.table))?;
        let written = self.store.head(&ObjectPath::from(path.as_str())).await;
        let size = written.map_err(Error::file(&self.table))?.size;
        self.done.push(Add {
            path,
            partition_values: HashMap::from([(DAY_COLUMN.to_owned(), Some(self.day.clone()))]),
            size: i64::try_from(size).unwrap_or(i64::MAX),
            modification_time: self.now.as_millisecond(),
            data_change: false,
            stats: Some(stats.to_json()),
            ..Add::default()
        });
        Ok(())
    }
}
