//! The Kusto query language over tables.
//!
//! ```text
//! text ──► syntax ──► ast ──► bind ──► bound tree ──► plan ──► DataFusion ──► QueryReport
//!            │                 │ names, KQL types,     │ stored columns stay
//!            │                 │ column names          │ stored, so files prune
//!            └── diagnostics ──┴── function/, operator/ hold one file per family
//! ```
//!
//! # Example
//! ```
//! use datafusion::catalog::TableProvider;
//! use oms_logs::query::{self, QueryOptions, TableSource};
//! use std::sync::Arc;
//!
//! #[derive(Debug)]
//! struct NoTables;
//!
//! impl TableSource for NoTables {
//!     fn table(&self, _name: &str) -> Option<Arc<dyn TableProvider>> {
//!         None
//!     }
//!
//!     fn table_names(&self) -> Vec<String> {
//!         Vec::new()
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let options = QueryOptions::new(Arc::new(oms_core::SystemClock));
//! let text = "range x from 1 to 10 step 1 | summarize sum(x) by Even = x % 2 == 0 | sort by sum_x";
//! let report = query::run(&NoTables, text, &options).await.unwrap();
//! assert_eq!(report.to_text(), "Even   sum_x\n-----  -----\ntrue      30\nfalse     25\n");
//! # });
//! ```
//!
//! # What runs
//! Statements: `let` of scalars, tables, views and functions (defaults, tables as parameters),
//! `set` (of which only `query_now` and the bins of `bin_auto` change an answer), `declare
//! query_parameters`, `declare pattern`, `restrict access to`; several queries in one text. `toscalar`, `materialize`, and
//! sub-queries after `in`: they are run before their query.
//!
//! Sources: tables, `print`, `range`, `datatable`, `union`, `search`, `find`. Operators: `as`,
//! `consume`, `count`, `distinct`, `evaluate`, `extend`, `facet`, `fork`, `getschema`, `invoke`,
//! `join` (every kind), `lookup`, `make-series`, `mv-apply`, `mv-expand`, `parse`, `parse-where`,
//! `parse-kv`, `partition`, `project` (`-away`, `-by-names`, `-keep`, `-rename`, `-reorder`),
//! `reduce`, `render`, `sample`, `sample-distinct`, `scan`, `search`, `serialize`, `sort`,
//! `summarize`, `take`, `top`, `top-hitters`, `top-nested`, `union`, `where`; of graphs
//! `make-graph`, `graph-match`, `graph-shortest-paths`, `graph-mark-components`, `graph-to-table`.
//! Functions over rows in an order: `row_number`, `prev`, `next`, `row_cumsum`, `row_rank_dense`,
//! `row_rank_min`, `row_window_session`. Plugins: `active_users_count`, `activity_counts_metrics`,
//! `activity_engagement`, `activity_metrics`, `autocluster`, `bag_unpack`, `basket`,
//! `dcount_intersect`, `diffpatterns`, `funnel_sequence`, `funnel_sequence_completion`,
//! `geo_line_lookup`, `geo_polygon_lookup`, `identity`, `ipv4_lookup`, `ipv6_lookup`, `narrow`,
//! `new_activity_metrics`, `pivot`, `preview`, `rolling_percentile`, `rows_near`, `schema_merge`,
//! `sequence_detect`, `session_count`, `sliding_window_counts`.
//!
//! Values of every type, `dynamic` ones with access to their parts and the functions over
//! arrays, bags and sets. Every aggregate but `passthrough`. Everything else of the language is an
//! error that names it and its place.
//!
//! Scalar functions: those over numbers, text, regular expressions, times and time zones, hashes,
//! addresses, units, encodings and structured text that the language documents, but
//! `parse_user_agent`, those of a cluster (`current_principal`, `cursor_after`, …) and those over
//! stored metadata. Regular expressions are those of RE2, without its `\C`. Geospatial functions, but
//! `geo_info_from_ip_address`, and those over series are all there.
//!
//! # Where it differs from the service
//! - `dcount` and `percentile` are exact, not estimates. The sketches of `hll` and `tdigest` are this
//!   engine's own: they cannot be read by the service, nor its by this one.
//! - `top-hitters` counts exactly; values that come equally often are in falling order.
//! - `sample` draws the same rows for the same rows and the same `now()`.
//! - `reduce` takes a number for what texts of one pattern differ in, whatever its threshold. Its
//!   `characters` separate where they are letters or digits, and do not where they are other signs.
//! - `funnel_sequence` passes over states between those of its sequence, takes a state that comes again
//!   at once for the same, and of sequences that start alike counts the one that ends first.
//! - `partition` runs its operators for at most 10,000 keys; what is in braces for at most 64, as in the
//!   service.
//! - A graph is matched whole: one of more matches or steps than its bounds is an error.
//! - Within `mv-apply` there are no functions over rows in an order, and `join` only with a table
//!   that is the same for every row.
//! - `make_list` after `sort` is in that order; the service promises none.
//! - A number of a `dynamic` value is a `long` or a `real`; an `int` becomes a `long` in it.
//! - Rows of one batch become at most 16 million rows by `mv-expand`.
//! - `datetime` values have the language's ticks of 100 ns throughout a query. Stored columns have
//!   microseconds, so a tick below is truncated when a record is stored.
//! - `hash_combine` and `hash_many` mix hashes in a way of their own, which the language leaves open.
//! - `decimal` has 34 digits everywhere, and rounds half to even.
//! - The scores of `series_periods_detect` and `series_periods_validate` are a measure of this engine's
//!   own, near the service's.
//! - Simplified lines and polygons keep points by an order of this engine's own, within the tolerance.
//! - A query's timespan includes its start and not its end, so that adjoining ones share no row.

pub mod diagnostic;

pub mod limits;

pub mod time;

pub mod types;

pub mod dynamic;

pub mod syntax;

mod bind;

mod bound;

mod decimal;

mod function;

mod ids;

mod operator;

mod plan;

mod render;

mod report;

mod error;

mod selection;

mod export;

mod interval;

mod transform;

mod workspace;

pub use bound::Column;
pub use diagnostic::{Diagnostic, DiagnosticKind};
pub use error::QueryError;
pub use export::{ExportFormat, ExportOptions, ExportReport};
pub use interval::{TimeInterval, TimeIntervalError};
pub use render::Render;
pub(crate) use selection::Condition;

pub use report::{QueryReport, ResultTable, Statistics};
pub(crate) use transform::{Transform, schema as transform_schema};
pub use types::KqlType;

use crate::error::Damage;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use diagnostic::Problem;
use futures::StreamExt;
use jiff::Timestamp;
use oms_core::clock::Stopwatch;
use oms_core::{Clock, Entropy, EntropyExt as _, ErrorKind, SystemEntropy};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tracing::Instrument as _;
use tracing::field::Empty;

/// Where a query's tables are.
pub trait TableSource: Debug + Send + Sync {
    /// The table of a name, as of one moment: the rows of later writes may or may not be in it.
    fn table(&self, name: &str) -> Option<Arc<dyn TableProvider>>;

    /// The names of every table, for `union *` and for suggestions.
    fn table_names(&self) -> Vec<String>;

    /// The caches and object stores that the tables need. By default there are none, and each query
    /// gets an environment of its own.
    fn runtime(&self) -> Option<Arc<RuntimeEnv>> {
        None
    }
}

/// What one query may do.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct QueryOptions {
    /// What `now()` is, for the whole query.
    pub now: Timestamp,
    /// Only rows whose `TimeGenerated` lies in this half-open range are read, from tables that have
    /// such a column.
    pub timespan: Option<(Timestamp, Timestamp)>,
    /// The most rows of the answer; past it the answer is partial.
    pub rows_max: usize,
    /// The most bytes of the answer in memory; past it the answer is partial.
    pub result_bytes_max: usize,
    /// The most memory for sorting and grouping, in bytes; past it the query fails.
    pub memory_bytes_max: usize,
    /// The longest that the query may take.
    pub timeout: Duration,
    /// The values of the parameters that the query declares, as literals of the language; a value
    /// of a string may also be the text itself.
    pub parameters: BTreeMap<String, String>,
    /// Measures how long it took.
    pub clock: Arc<dyn Clock>,
    /// What `rand()` and `new_guid()` draw from.
    pub entropy: Arc<dyn Entropy>,
}

impl QueryOptions {
    /// The default bounds, with the clock's time as `now()` and the system's randomness.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            now: clock.now(),
            timespan: None,
            rows_max: limits::ROWS_MAX_DEFAULT,
            result_bytes_max: limits::RESULT_BYTES_MAX_DEFAULT,
            memory_bytes_max: limits::MEMORY_BYTES_MAX_DEFAULT,
            timeout: Duration::from_secs(limits::TIMEOUT_SECONDS_DEFAULT),
            parameters: BTreeMap::new(),
            clock,
            entropy: Arc::new(SystemEntropy),
        }
    }
}

/// Runs a query.
///
/// # Errors
/// [`QueryError`]: one of its variants for what is wrong with the text, with all diagnostics, and
/// others for bounds that were reached and for failures to read.
pub async fn run(
    source: &dyn TableSource,
    text: &str,
    options: &QueryOptions,
) -> Result<QueryReport, QueryError> {
    let shown = shown(text);
    let span = tracing::info_span!("query", text = shown, rows = Empty, outcome = Empty);
    let watch = Stopwatch::start();
    let timeout_seconds = options.timeout.as_secs();
    let running = run_unbounded(source, text, options).instrument(span.clone());
    let result = match tokio::time::timeout(options.timeout, running).await {
        Ok(result) => result,
        Err(_elapsed) => Err(QueryError::Timeout { timeout_seconds }),
    };
    let outcome = match &result {
        Ok(report) if report.is_partial => "partial",
        other => ErrorKind::outcome(other, QueryError::kind),
    };
    if let Ok(report) = &result {
        let rows = report.statistics.rows_returned as u64;
        span.record("rows", rows);
        metrics::counter!("oms_logs_query_rows_total").increment(rows);
    }
    span.record("outcome", outcome);
    metrics::histogram!("oms_logs_query_seconds", "outcome" => outcome).record(watch.seconds());
    result
}

/// The beginning of a query's text, for its span.
fn shown(text: &str) -> &str {
    let mut end = text.len().min(limits::SPAN_TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Checks a query without running it, and answers with the columns of its first table. Where they
/// depend on rows, as those of `pivot` do, they are those of no rows.
///
/// # Errors
/// [`QueryError`] for what is wrong with the text.
pub fn check(
    source: &dyn TableSource,
    text: &str,
    options: &QueryOptions,
) -> Result<Vec<Column>, QueryError> {
    let query = parsed(text)?;
    match bound(source, text, &query, options, options.entropy.number(), None)? {
        bind::Bound::Query(bound) => {
            let first = bound.tables.first();
            Ok(first.map(|(_, relation)| relation.columns.clone()).unwrap_or_default())
        }
        bind::Bound::Needs(relation) => Ok(relation.columns.clone()),
    }
}

fn parsed(text: &str) -> Result<syntax::ast::Query, QueryError> {
    let bytes_max = limits::QUERY_BYTES_MAX;
    if text.len() > bytes_max {
        return Err(QueryError::TooLong { bytes: text.len(), bytes_max });
    }
    let parse = syntax::parse(text);
    match parse.query {
        Some(query) if parse.problems.is_empty() => Ok(query),
        _ => Err(refused(text, parse.problems)),
    }
}

fn bound(
    source: &dyn TableSource,
    text: &str,
    query: &syntax::ast::Query,
    options: &QueryOptions,
    seed: u64,
    answers: Option<&[RecordBatch]>,
) -> Result<bind::Bound, QueryError> {
    let ticks = time::ticks_of_timestamp;
    let surroundings = bind::Surroundings {
        source,
        given: None,
        now: ticks(options.now),
        timespan: options.timespan.map(|(start, end)| (ticks(start), ticks(end))),
        parameters: &options.parameters,
        seed,
    };
    bind::bind(query, surroundings, answers).map_err(|problems| refused(text, problems))
}

/// Binds a query; the sub-queries whose rows it needs for that are run first.
async fn analyze(
    source: &dyn TableSource,
    text: &str,
    options: &QueryOptions,
) -> Result<bind::BoundQuery, QueryError> {
    let query = parsed(text)?;
    let seed = options.entropy.number();
    let mut answers = Vec::new();
    loop {
        match bound(source, text, &query, options, seed, Some(&answers))? {
            bind::Bound::Query(bound) => return Ok(bound),
            bind::Bound::Needs(relation) => {
                answers.push(rows_of(source, &relation, options).await?);
            }
        }
    }
}

/// All rows of a sub-query, in computed form.
async fn rows_of(
    source: &dyn TableSource,
    relation: &bound::Relation,
    options: &QueryOptions,
) -> Result<RecordBatch, QueryError> {
    let failed = |source| failure(source, options);
    let plan = plan::plan_computed(relation, None).map_err(failed)?;
    let context = context(source, options, relation.needs_order()).map_err(failed)?;
    let frame = context.execute_logical_plan(plan).await.map_err(failed)?;
    let batches = frame.collect().await.map_err(failed)?;
    let schema = Arc::new(plan::computed_schema(&relation.columns));
    let rows = batches
        .into_iter()
        .map(|batch| RecordBatch::try_new(Arc::clone(&schema), batch.columns().to_vec()));
    let rows = rows.collect::<Result<Vec<_>, _>>().map_err(|error| failed(error.into()))?;
    concat_batches(&schema, &rows).map_err(|error| failed(error.into()))
}

/// The error for what is wrong: syntax before meaning, meaning before what is not there yet.
fn refused(text: &str, problems: Vec<Problem>) -> QueryError {
    let diagnostics = diagnostic::locate(text, problems);
    let has = |kind| diagnostics.iter().any(|diagnostic: &Diagnostic| diagnostic.kind == kind);
    if has(DiagnosticKind::Syntax) {
        return QueryError::Syntax { diagnostics };
    }
    if has(DiagnosticKind::Semantic) {
        return QueryError::Semantic { diagnostics };
    }
    match diagnostics.first() {
        Some(first) => QueryError::Unsupported {
            name: first.message.split('`').nth(1).unwrap_or_default().to_owned(),
            line: first.line,
            column: first.column,
            diagnostics,
        },
        None => QueryError::Semantic { diagnostics },
    }
}

async fn run_unbounded(
    source: &dyn TableSource,
    text: &str,
    options: &QueryOptions,
) -> Result<QueryReport, QueryError> {
    let started = options.clock.monotonic();
    let bound = analyze(source, text, options).await?;
    let mut report = QueryReport {
        columns: Vec::new(),
        batches: Vec::new(),
        others: Vec::new(),
        render: bound.render,
        statistics: Statistics::default(),
        is_partial: false,
    };
    for (at, (name, relation)) in bound.tables.into_iter().enumerate() {
        let failed = |source| failure(source, options);
        let plan = plan::plan(&relation).map_err(failed)?;
        let context = context(source, options, relation.needs_order()).map_err(failed)?;
        let batches = collect(&context, plan, &mut report, options).await?;
        let columns = relation.columns.clone();
        if at == 0 {
            (report.columns, report.batches) = (columns, batches);
        } else {
            report.others.push(ResultTable { name, columns, batches });
        }
    }
    report.statistics.elapsed = options.clock.monotonic().saturating_sub(started);
    Ok(report)
}

/// The rows of a plan, up to the bounds on the whole answer.
async fn collect(
    context: &SessionContext,
    plan: LogicalPlan,
    report: &mut QueryReport,
    options: &QueryOptions,
) -> Result<Vec<RecordBatch>, QueryError> {
    let failed = |source| failure(source, options);
    let frame = context.execute_logical_plan(plan).await.map_err(failed)?;
    let mut stream = frame.execute_stream().await.map_err(failed)?;
    let mut batches = Vec::new();
    let mut held = plan::Held::default();
    while let Some(batch) = stream.next().await {
        let mut batch = batch.map_err(failed)?;
        let left = options.rows_max - report.statistics.rows_returned;
        if batch.num_rows() > left {
            report.is_partial = true;
            batch = batch.slice(0, left);
        }
        report.statistics.rows_returned += batch.num_rows();
        report.statistics.bytes_returned += held.add(&batch);
        if batch.num_rows() > 0 {
            batches.push(batch);
        }
        report.is_partial |= report.statistics.bytes_returned > options.result_bytes_max;
        if report.is_partial {
            break;
        }
    }
    Ok(batches)
}

fn context(
    source: &dyn TableSource,
    options: &QueryOptions,
    keeps_order: bool,
) -> Result<SessionContext, DataFusionError> {
    let mut runtime = match source.runtime() {
        Some(shared) => RuntimeEnvBuilder::from_runtime_env(&shared),
        None => RuntimeEnvBuilder::new(),
    };
    runtime = runtime.with_memory_pool(Arc::new(GreedyMemoryPool::new(options.memory_bytes_max)));
    Ok(plan::session(runtime.build_arc()?, keeps_order))
}

fn failure(source: DataFusionError, options: &QueryOptions) -> QueryError {
    failure_within(source, options.memory_bytes_max)
}

fn failure_within(source: DataFusionError, memory_bytes_max: usize) -> QueryError {
    if let Some(damage) = Damage::of(&source) {
        return QueryError::Damaged(damage.clone());
    }
    let source = Box::new(source);
    match source.find_root() {
        DataFusionError::External(cause) if cause.is::<function::StringTooLong>() => {
            QueryError::StringTooLong { reason: cause.to_string() }
        }
        DataFusionError::External(cause) if cause.is::<function::Exceeded>() => {
            QueryError::LimitExceeded { reason: cause.to_string() }
        }
        DataFusionError::External(cause) if cause.is::<function::BadPattern>() => {
            QueryError::Regex { reason: cause.to_string() }
        }
        DataFusionError::ArrowError(cause, _)
            if cause.to_string().contains("Regular expression") =>
        {
            QueryError::Regex { reason: cause.to_string() }
        }
        DataFusionError::ResourcesExhausted(_) => QueryError::Memory { memory_bytes_max, source },
        _ => QueryError::Execution { source },
    }
}
