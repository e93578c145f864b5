//! What a query reads: one published view of a table.

use crate::Error;
use crate::error::Damage;
use crate::repository::codes;
use crate::repository::encode::DAY_MICROSECONDS;
use crate::repository::fresh::Fresh;
use crate::repository::home::Home;
use crate::repository::terms::{Selected, TermsCache, Wanted};
use crate::schema::{TIME_GENERATED, TableSchema};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray,
    UInt64Array, new_null_array,
};
use arrow::compute::{max, min};
use arrow::datatypes::{
    DataType, Float64Type, Int32Type, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, DFSchema, ScalarValue, Statistics, project_schema};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::parquet::{
    ParquetFileReaderFactory, ParquetRowSelection,
};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, utils::conjunction};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::union::UnionExec;
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use object_store::path::Path as ObjectPath;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// Texts longer than this have no place in file statistics.
const STATS_TEXT_BYTES_MAX: usize = 64;

/// Columns that are read whole by a query without conditions.
const NARROW_COLUMNS_MAX: usize = 3;

/// How many files are looked into at once.
pub(crate) const INDEXES_AT_ONCE: usize = 8;

/// One Parquet file of a Delta version.
#[derive(Clone, Debug)]
pub(crate) struct DataFile {
    /// The table's folder.
    pub(crate) home: Arc<Home>,
    /// From the root of the store.
    pub(crate) path: ObjectPath,
    /// In bytes.
    pub(crate) size: u64,
    /// The day of its rows, in days since 1970; none if the Delta log does not say.
    pub(crate) day: Option<i64>,
    pub(crate) stats: FileStats,
}

impl DataFile {
    /// The file with the times of its rows: the newest files are read first where the newest rows
    /// are asked for, and the others then not at all.
    fn for_scan(&self, schema: &SchemaRef) -> PartitionedFile {
        let file = PartitionedFile::new(self.path.to_string(), self.size);
        let Some(times) = self.times(schema) else { return file };
        file.with_statistics(Arc::new(times))
    }

    fn times(&self, schema: &SchemaRef) -> Option<Statistics> {
        let (at, field) = schema.column_with_name(TIME_GENERATED)?;
        let bound = |values: &BTreeMap<String, Json>, round_up| {
            scalar(values.get(TIME_GENERATED)?, field.data_type(), round_up).map(Precision::Exact)
        };
        let nulls = self.stats.null_count.get(TIME_GENERATED).and_then(Json::as_u64);
        let mut statistics = Statistics::new_unknown(schema);
        let column = statistics.column_statistics.get_mut(at)?;
        column.min_value = bound(&self.stats.min_values, false)?;
        column.max_value = bound(&self.stats.max_values, true)?;
        column.null_count = Precision::Exact(usize::try_from(nulls?).ok()?);
        Some(statistics)
    }
}

/// Delta file statistics. See the Delta protocol, "Per-file Statistics".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct FileStats {
    /// Rows, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) num_records: Option<u64>,
    min_values: BTreeMap<String, Json>,
    max_values: BTreeMap<String, Json>,
    null_count: BTreeMap<String, Json>,
}

impl FileStats {
    /// Reads what a writer put into the log. Statistics that cannot be read are none.
    pub(crate) fn parse(text: Option<&str>) -> Self {
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// Statistics of rows.
    pub(crate) fn of(rows: &RecordBatch) -> Self {
        let mut stats = Self { num_records: Some(rows.num_rows() as u64), ..Self::default() };
        for (field, array) in rows.schema_ref().fields().iter().zip(rows.columns()) {
            stats.null_count.insert(field.name().clone(), array.null_count().into());
            if let Some((low, high)) = range_of(array) {
                stats.min_values.insert(field.name().clone(), low);
                stats.max_values.insert(field.name().clone(), high);
            }
        }
        stats
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The latest value of a column of times, if it is known.
    pub(crate) fn newest(&self, column: &str) -> Option<Timestamp> {
        self.max_values.get(column)?.as_str()?.parse().ok()
    }

    /// Takes in the statistics of more rows. A column of which some rows' range is not known has
    /// none.
    pub(crate) fn merge(&mut self, more: &Self) {
        let (own, new) = (self.num_records.unwrap_or(0), more.num_records.unwrap_or(0));
        let nulls = |stats: &Self, name: &String| stats.null_count.get(name).and_then(Json::as_u64);
        let names: Vec<String> = more.null_count.keys().cloned().collect();
        for name in names {
            let (own_nulls, new_nulls) = (nulls(self, &name), nulls(more, &name).unwrap_or(0));
            let is_known =
                |stats: &Self, rows, nulls| rows == nulls || stats.min_values.contains_key(&name);
            let known =
                is_known(self, own, own_nulls.unwrap_or(0)) && is_known(more, new, new_nulls);
            widen(&mut self.min_values, &more.min_values, &name, known, Ordering::Less);
            widen(&mut self.max_values, &more.max_values, &name, known, Ordering::Greater);
            self.null_count.insert(name, (own_nulls.unwrap_or(0) + new_nulls).into());
        }
        self.num_records = Some(own + new);
    }
}

/// Moves one end of a column's range, or takes it away if it is not known.
fn widen(
    own: &mut BTreeMap<String, Json>,
    more: &BTreeMap<String, Json>,
    name: &str,
    is_known: bool,
    further: Ordering,
) {
    if !is_known {
        own.remove(name);
        return;
    }
    let Some(new) = more.get(name) else { return };
    let moves = own.get(name).is_none_or(|old| compare(new, old) == Some(further));
    if moves {
        own.insert(name.to_owned(), new.clone());
    }
}

/// Values of one column's statistics. Times are texts of one length, so they compare as such.
fn compare(a: &Json, b: &Json) -> Option<Ordering> {
    match (a, b) {
        (Json::String(a), Json::String(b)) => Some(a.cmp(b)),
        (Json::Number(a), Json::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
        },
        _ => None,
    }
}

/// The smallest and largest value, as the Delta log keeps them.
fn range_of(array: &ArrayRef) -> Option<(Json, Json)> {
    Some(match array.data_type() {
        DataType::Int32 => {
            let array = array.as_primitive::<Int32Type>();
            (min(array)?.into(), max(array)?.into())
        }
        DataType::Int64 => {
            let array = array.as_primitive::<Int64Type>();
            (min(array)?.into(), max(array)?.into())
        }
        DataType::Float64 => {
            let array = array.as_primitive::<Float64Type>();
            // Readers disagree on where not-a-number stands, so such a column has no range.
            if array.iter().flatten().any(|number| !number.is_finite()) {
                return None;
            }
            (min(array)?.into(), max(array)?.into())
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let array = array.as_primitive::<TimestampMicrosecondType>();
            let text = |time| Timestamp::from_microsecond(time).ok().map(|t| format!("{t:.6}"));
            (text(min(array)?)?.into(), text(max(array)?)?.into())
        }
        DataType::Utf8 => {
            let (low, high) = range_of_text(array.as_string())?;
            if low.len().max(high.len()) > STATS_TEXT_BYTES_MAX {
                return None;
            }
            (low.into(), high.into())
        }
        _ => return None,
    })
}

/// The smallest and largest text, in the order of bytes. Most texts are told from both by their first
/// bytes.
fn range_of_text(array: &StringArray) -> Option<(&str, &str)> {
    let head = |text: &str| {
        let mut bytes = [0; 8];
        bytes.iter_mut().zip(text.bytes()).for_each(|(to, byte)| *to = byte);
        u64::from_be_bytes(bytes)
    };
    let mut texts = array.iter().flatten().map(|text| (head(text), text));
    let first = texts.next()?;
    // Heads compare as the texts do, or are alike.
    let (low, high) =
        texts.fold((first, first), |(low, high), text| (low.min(text), high.max(text)));
    Some((low.1, high.1))
}

/// A table at one instant: the files of one Delta version, and the batches that they do not hold.
#[derive(Clone, Debug)]
pub(crate) struct TableView {
    pub(crate) schema: Arc<TableSchema>,
    /// None before the first flush.
    pub(crate) delta_version: Option<u64>,
    /// What [`VACUUM_MARK`](super::commit::VACUUM_MARK) is there.
    pub(crate) vacuum_mark: Option<Arc<str>>,
    /// Why it is not known which files there are, if it is not: then nothing is answered.
    pub(crate) damage: Option<Arc<Damage>>,
    pub(crate) files: Arc<[DataFile]>,
    /// Batches that a flush is bringing into files.
    pub(crate) flushing: Fresh,
    /// Batches that came since.
    pub(crate) fresh: Fresh,
}

impl TableView {
    pub(crate) fn empty(schema: Arc<TableSchema>) -> Self {
        Self {
            schema,
            delta_version: None,
            vacuum_mark: None,
            damage: None,
            files: Arc::new([]),
            flushing: Fresh::default(),
            fresh: Fresh::default(),
        }
    }

    pub(crate) fn rows(&self) -> u64 {
        let stored: u64 = self.files.iter().filter_map(|file| file.stats.num_records).sum();
        stored + self.flushing.rows + self.fresh.rows
    }

    pub(crate) fn bytes(&self) -> u64 {
        let stored: u64 = self.files.iter().map(|file| file.size).sum();
        stored + self.flushing.bytes + self.fresh.bytes
    }

    /// The view without the rows of days before `first_day`, which counts from 1970.
    pub(crate) fn since(self: Arc<Self>, first_day: i64) -> Result<Arc<Self>, Error> {
        let time = first_day.saturating_mul(DAY_MICROSECONDS);
        let is_kept = |file: &&DataFile| file.day.is_none_or(|day| day >= first_day);
        let has_old_files = !self.files.iter().all(|file| is_kept(&file));
        if !has_old_files && self.flushing.is_since(time) && self.fresh.is_since(time) {
            return Ok(self);
        }
        let mut view = Self::clone(&self);
        view.files = self.files.iter().filter(is_kept).cloned().collect();
        view.flushing = self.flushing.since(time)?;
        view.fresh = self.fresh.since(time)?;
        Ok(Arc::new(view))
    }
}

/// A table for DataFusion, as it was when the provider was made: every scan of one provider reads
/// the same rows, so a query that names a table twice sees it once.
///
/// Each field of the schema has its KQL type in the metadata
/// ([`KQL_TYPE_KEY`](crate::schema::KQL_TYPE_KEY)). A value that a record did not have is null,
/// text too.
#[derive(Clone, Debug)]
pub struct TableSnapshot {
    view: Arc<TableView>,
    terms: Arc<TermsCache>,
    /// The view's, but for columns that are given as codes.
    schema: SchemaRef,
}

impl TableSnapshot {
    pub(crate) fn new(view: Arc<TableView>, terms: Arc<TermsCache>) -> Self {
        let schema = Arc::clone(view.schema.arrow());
        Self { view, terms, schema }
    }

    /// The snapshot with columns of text as codes into a dictionary; `None` if there is none that is
    /// not given so already.
    pub(crate) fn with_codes(&self, columns: &BTreeSet<&str>) -> Option<Self> {
        let schema = codes::with_codes(&self.schema, columns)?;
        Some(Self { schema, ..self.clone() })
    }

    /// Some files of a table, without the batches that are in none.
    pub(crate) fn of_files(schema: Arc<TableSchema>, files: &[DataFile]) -> Self {
        let files = files.into();
        Self::new(Arc::new(TableView { files, ..TableView::empty(schema) }), Arc::default())
    }

    /// The table without the rows of days before `first_day`, which counts from 1970.
    pub(crate) fn since(self, first_day: i64) -> Result<Self, Error> {
        Ok(Self::new(self.view.since(first_day)?, self.terms))
    }

    /// A table without rows.
    pub(crate) fn empty(schema: TableSchema) -> Self {
        Self::new(Arc::new(TableView::empty(Arc::new(schema))), Arc::default())
    }

    /// The table's columns.
    #[must_use]
    pub fn table_schema(&self) -> &TableSchema {
        &self.view.schema
    }

    /// Its rows, as far as the files' statistics tell.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.view.rows()
    }

    /// The Delta version whose files are read; none before the first flush.
    #[must_use]
    pub fn delta_version(&self) -> Option<u64> {
        self.view.delta_version
    }

    /// Why nothing of the table is answered, if nothing is.
    #[must_use]
    pub fn damage(&self) -> Option<&Damage> {
        self.view.damage.as_deref()
    }

    async fn scan_files(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        predicate: Option<&Arc<dyn PhysicalExpr>>,
        limit: Option<usize>,
    ) -> DataFusionResult<Option<Arc<dyn ExecutionPlan>>> {
        let Some(file) = self.view.files.first() else { return Ok(None) };
        let (url, readers) = file.home.readers(session.runtime_env())?;
        let files = prune_files(&self.view, predicate)?;
        let files = files.into_iter().map(|file| file.for_scan(&self.schema)).collect();
        let files = self.prune_rows(files, &Wanted::of(filters), readers.as_ref()).await?;
        let reads_late = self.reads_late(projection, predicate);
        // Filters above the scan compare text.
        let compared = if reads_late { filters } else { &[] };
        let files = codes::read_as_codes(files, &self.schema, compared, readers.as_ref()).await?;
        if files.is_empty() {
            return Ok(None);
        }
        let groups = FileGroup::new(files).split_files(session.config().target_partitions());
        let options = session.table_options().parquet.clone();
        let mut source = ParquetSource::new(self.schema())
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(readers);
        if reads_late {
            // What filters the rows above hands its predicate down to a source that takes it, and so
            // does what keeps the first of them in an order, while it runs.
            source = source.with_pushdown_filters(true);
        } else if let Some(predicate) = predicate {
            source = source.with_predicate(Arc::clone(predicate));
        }
        let config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(groups)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .with_expr_adapter(Some(Arc::new(codes::CodesAdapterFactory)))
            .build();
        Ok(Some(DataSourceExec::from_data_source(config)))
    }

    /// Whether most columns are read only where a predicate is true. That pays where there are
    /// columns besides the predicate's own; and not for times alone, which leave out whole files and
    /// row groups already. Without a predicate one may come up while the query runs.
    fn reads_late(
        &self,
        projection: Option<&Vec<usize>>,
        predicate: Option<&Arc<dyn PhysicalExpr>>,
    ) -> bool {
        let fields = self.view.schema.arrow().fields().iter().enumerate();
        let mut read = fields.filter(|(at, _)| projection.is_none_or(|all| all.contains(at)));
        let Some(predicate) = predicate else { return read.count() > NARROW_COLUMNS_MAX };
        let needed = collect_columns(predicate);
        let is_needed = |name: &str| needed.iter().any(|column| column.name() == name);
        needed.iter().any(|column| column.name() != TIME_GENERATED)
            && read.any(|(_, field)| !is_needed(field.name()))
    }

    /// Leaves out the rows, and the files, that the indexes of terms tell nothing wanted is in.
    async fn prune_rows(
        &self,
        files: Vec<PartitionedFile>,
        wanted: &Wanted,
        readers: &dyn ParquetFileReaderFactory,
    ) -> DataFusionResult<Vec<PartitionedFile>> {
        if *wanted == Wanted::Nothing {
            return Ok(files);
        }
        let pruned = futures::stream::iter(files).map(|file| async {
            let selected = match self.terms.terms(&file, readers).await? {
                Some(terms) => terms.select(wanted),
                None => Selected::Everything,
            };
            Ok::<_, DataFusionError>(match selected {
                Selected::Nothing => None,
                Selected::Rows(rows) => Some(file.with_extension(ParquetRowSelection::new(rows))),
                Selected::Everything => Some(file),
            })
        });
        let pruned: Vec<_> = pruned.buffered(INDEXES_AT_ONCE).try_collect().await?;
        Ok(pruned.into_iter().flatten().collect())
    }

    fn scan_fresh(
        &self,
        session: &dyn Session,
        schema: &SchemaRef,
        predicate: Option<&Arc<dyn PhysicalExpr>>,
    ) -> DataFusionResult<Option<Arc<dyn ExecutionPlan>>> {
        let parts: Vec<_> = self.view.flushing.iter().chain(self.view.fresh.iter()).collect();
        let times: Vec<_> = parts.iter().map(|part| (part.time_min, part.time_max)).collect();
        let kept = prune(predicate, self.view.schema.arrow(), &FreshTimes(times))?;
        let stored = codes::without_codes(schema);
        let partitions = session.config().target_partitions().max(1);
        let mut groups: Vec<Vec<RecordBatch>> = vec![Vec::new(); partitions];
        for (at, (part, _)) in parts.iter().zip(kept).filter(|(_, kept)| *kept).enumerate() {
            let batch = part.aligned(&stored).map_err(external)?;
            let batch = codes::encoded(&batch, schema)?;
            if let Some(group) = groups.get_mut(at % partitions) {
                group.push(batch);
            }
        }
        groups.retain(|group| !group.is_empty());
        if groups.is_empty() {
            return Ok(None);
        }
        Ok(Some(MemorySourceConfig::try_new_exec(&groups, Arc::clone(schema), None)?))
    }
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

#[async_trait]
impl TableProvider for TableSnapshot {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        // Files, row groups and pages are left out; rows are filtered above the scan.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        if let Some(damage) = &self.view.damage {
            return Err(external(Error::Damaged(Damage::clone(damage))));
        }
        let projected = project_schema(&self.schema(), projection)?;
        let predicate = match conjunction(filters.to_vec()) {
            Some(filter) => {
                let schema = DFSchema::try_from(self.schema())?;
                Some(session.create_physical_expr(filter, &schema)?)
            }
            None => None,
        };
        let limit = if predicate.is_none() { limit } else { None };
        let files =
            self.scan_files(session, projection, filters, predicate.as_ref(), limit).await?;
        let fresh = self.scan_fresh(session, &projected, predicate.as_ref())?;
        let mut inputs: Vec<_> = files.into_iter().chain(fresh).collect();
        match inputs.len() {
            0 => Ok(Arc::new(EmptyExec::new(projected))),
            1 => Ok(inputs.remove(0)),
            _ => UnionExec::try_new(inputs),
        }
    }
}

/// The files that can hold a row that `predicate` takes.
fn prune_files<'a>(
    view: &'a TableView,
    predicate: Option<&Arc<dyn PhysicalExpr>>,
) -> DataFusionResult<Vec<&'a DataFile>> {
    let kept = prune(predicate, view.schema.arrow(), &Files { view })?;
    Ok(view.files.iter().zip(kept).filter_map(|(file, kept)| kept.then_some(file)).collect())
}

fn prune(
    predicate: Option<&Arc<dyn PhysicalExpr>>,
    schema: &SchemaRef,
    statistics: &impl PruningStatistics,
) -> DataFusionResult<Vec<bool>> {
    let all = || vec![true; statistics.num_containers()];
    let Some(predicate) = predicate else { return Ok(all()) };
    let pruning = PruningPredicateBuilder::new()
        .with_file_schema(Arc::clone(schema))
        .build(Arc::clone(predicate));
    // A predicate that pruning cannot use takes everything.
    pruning.map_or_else(|| Ok(all()), |pruning| pruning.prune(statistics))
}

struct Files<'a> {
    view: &'a TableView,
}

impl Files<'_> {
    fn values(
        &self,
        column: &Column,
        values: impl Fn(&FileStats) -> &BTreeMap<String, Json>,
        round_up: bool,
    ) -> Option<ArrayRef> {
        let field = self.view.schema.arrow().field_with_name(&column.name).ok()?.clone();
        let scalars = self.view.files.iter().map(|file| {
            let value = values(&file.stats).get(&column.name);
            value
                .and_then(|value| scalar(value, field.data_type(), round_up))
                .map_or_else(|| ScalarValue::try_from(field.data_type()), Ok)
        });
        let scalars = scalars.collect::<DataFusionResult<Vec<_>>>().ok()?;
        ScalarValue::iter_to_array(scalars).ok()
    }
}

/// A value of file statistics in the column's type.
fn scalar(value: &Json, data_type: &DataType, round_up: bool) -> Option<ScalarValue> {
    Some(match data_type {
        DataType::Int32 => ScalarValue::Int32(Some(i32::try_from(value.as_i64()?).ok()?)),
        DataType::Int64 => ScalarValue::Int64(Some(value.as_i64()?)),
        DataType::Float64 => ScalarValue::Float64(Some(value.as_f64()?)),
        DataType::Utf8 => ScalarValue::Utf8(Some(value.as_str()?.to_owned())),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let time: Timestamp = value.as_str()?.parse().ok()?;
            // Other writers cut statistics off at the millisecond.
            let is_cut = round_up && time.subsec_nanosecond() % 1_000_000 == 0;
            let time = time.as_microsecond() + if is_cut { 999 } else { 0 };
            ScalarValue::TimestampMicrosecond(Some(time), zone.clone())
        }
        _ => return None,
    })
}

impl PruningStatistics for Files<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |stats| &stats.min_values, false)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |stats| &stats.max_values, true)
    }

    fn num_containers(&self) -> usize {
        self.view.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let count = |file: &DataFile| file.stats.null_count.get(&column.name)?.as_u64();
        Some(Arc::new(UInt64Array::from_iter(self.view.files.iter().map(count))))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let rows = self.view.files.iter().map(|file| file.stats.num_records);
        Some(Arc::new(UInt64Array::from_iter(rows)))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// Ranges of `TimeGenerated` of fresh batches.
struct FreshTimes(Vec<(i64, i64)>);

impl FreshTimes {
    fn array(&self, column: &Column, pick: impl Fn(&(i64, i64)) -> i64) -> Option<ArrayRef> {
        (column.name == TIME_GENERATED).then(|| {
            let times = TimestampMicrosecondArray::from_iter_values(self.0.iter().map(pick));
            Arc::new(times.with_timezone("UTC")) as ArrayRef
        })
    }
}

impl PruningStatistics for FreshTimes {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.array(column, |range| range.0)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.array(column, |range| range.1)
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, _: &Column) -> Option<ArrayRef> {
        Some(new_null_array(&DataType::UInt64, self.0.len()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_range_of_text_is_that_of_its_order(
            texts in prop::collection::vec(prop::option::of("(prefix-of)?[a\u{0}é]{0,9}"), 0..20),
        ) {
            let array = StringArray::from(texts.clone());
            let known = texts.iter().flatten().map(String::as_str);
            let expected = known.clone().min().zip(known.max());
            prop_assert_eq!(range_of_text(&array), expected);
        }
    }
}
