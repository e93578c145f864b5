//! Bounds of one query. Past each of them the query fails, or its answer is cut, with the bound's name.

use super::function;
use datafusion::error::DataFusionError;

/// The longest query text, in bytes.
pub const QUERY_BYTES_MAX: usize = 256 * 1024;

/// The deepest nesting of expressions and sub-queries, in levels. Parsing, binding and planning
/// recurse, so this bounds their stack.
pub const NESTING_DEPTH_MAX: usize = 64;

/// The longest pipeline, in operators, counting those of the `let` tables that it begins with or
/// joins. Planning recurses over it.
pub const PIPELINE_OPERATORS_MAX: usize = 100;

/// The most operators of all pipelines of a query, counting each use of a `let` table: the branches
/// of `union`, and the parts of `partition` that are bound one by one.
pub const OPERATORS_MAX: usize = 1_000;

/// The most expressions that one query may have, counting each use of a `let` table.
pub const EXPRESSIONS_MAX: usize = 50_000;

/// The most diagnostics that one query reports.
pub const DIAGNOSTICS_MAX: usize = 50;

/// The most rows that `range` makes.
pub const RANGE_ROWS_MAX: usize = 1_000_000;

/// The default bound on the rows of an answer, that of the Log Analytics query API.
pub const ROWS_MAX_DEFAULT: usize = 500_000;

/// The default bound on the bytes of an answer in memory.
pub const RESULT_BYTES_MAX_DEFAULT: usize = 256 * 1024 * 1024;

/// The default time that a query may take, in seconds.
pub const TIMEOUT_SECONDS_DEFAULT: u64 = 180;

/// The default bound on the memory that sorting and grouping may take, in bytes.
pub const MEMORY_BYTES_MAX_DEFAULT: usize = 1024 * 1024 * 1024;

/// The deepest expression after columns are replaced by what they were computed from, in levels:
/// DataFusion does so and recurses over the result, on the 2 MiB stack of a worker thread.
pub const COMPUTED_DEPTH_MAX: usize = 64;

/// The largest expression that DataFusion may put in the place of its column, in nodes. A larger
/// one is computed where it stands, so that chains of columns that each use the one before several
/// times do not double at each step.
pub const COMPUTED_NODES_MAX: usize = 64;

/// The largest key of a group, counted in the same way.
pub const KEY_NODES_MAX: usize = 10_000;

/// The longest string that a function makes, in bytes.
pub const STRING_BYTES_MAX: usize = 1024 * 1024;

/// How much of a query's text its tracing span shows, in bytes. What a query asks for may be
/// confidential, so it is little.
pub const SPAN_TEXT_BYTES_MAX: usize = 200;

/// The most statements of a query or of a function.
pub const STATEMENTS_MAX: usize = 500;

/// The most edges of one pattern of `graph-match`.
pub const GRAPH_EDGES_MAX: usize = 32;

/// The most parts that `partition` makes by the strategies `native` and `shuffle`; each is a query of
/// its own.
pub const PARTITIONS_MAX: usize = 10_000;

/// The most parts that `partition` makes where no strategy is named, or each begins with a table of
/// its own, as in the service.
pub const PARTITION_TABLES_MAX: usize = 64;

/// The most values that a sub-query after `in` may have.
pub const IN_VALUES_MAX: usize = 100_000;

/// The most values of one series that `make-series` makes.
pub const SERIES_VALUES_MAX: usize = 1_048_576;

/// The most values of all series that one `make-series` makes.
pub const SERIES_TOTAL_MAX: usize = 16 * SERIES_VALUES_MAX;

/// The most rows, matches or cells that one operator of this crate makes.
pub const OPERATOR_ROWS_MAX: usize = 10_000_000;

/// The most columns that `pivot` makes.
pub const PIVOT_COLUMNS_MAX: usize = 1_000;

/// The most sub-queries that are run before their query: those of `toscalar`, `in` and `pivot`.
pub const SUB_QUERIES_MAX: usize = 100;

/// The deepest calls of functions of a query, in levels.
pub const CALL_DEPTH_MAX: usize = 16;

/// The failure of an operator that goes past a limit, with the limit's name.
pub(crate) fn exceeded<T>(what: &str, limit: &str, most: usize) -> Result<T, DataFusionError> {
    Err(function::exceeded(format!("{what}. {limit}=`{most}`")))
}
