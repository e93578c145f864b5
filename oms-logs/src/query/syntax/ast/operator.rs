//! The arguments of the larger operators and statements.

use super::{Expr, Name, NamedExpr, Operator, Query};

/// A name with the type that is declared for it.
#[derive(Clone, Debug, PartialEq)]
pub struct TypedName {
    /// The name.
    pub name: Name,
    /// The type's name.
    pub kql_type: Name,
}

/// `(parameters) { statements }`
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// Whether `union *` and `search` see it as a table.
    pub view: bool,
    /// What it takes.
    pub parameters: Vec<Parameter>,
    /// What it answers with.
    pub body: Query,
}

/// What a function takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its name.
    pub name: Name,
    /// A value or rows.
    pub kind: ParameterKind,
}

/// A value or rows.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ParameterKind {
    /// `name: type = default`
    Scalar {
        /// The type's name.
        kql_type: Name,
        /// The value of a call that gives none.
        default: Option<Expr>,
    },
    /// `name: (column: type, …)`
    Table {
        /// The columns that it must have.
        columns: Vec<TypedName>,
        /// `(*)`: it may have more.
        open: bool,
    },
}

/// `declare pattern name = (parameters)[path: type] { (values).[path] = { body }; … };`
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    /// Its name.
    pub name: Name,
    /// What a call gives.
    pub parameters: Vec<TypedName>,
    /// What follows the call's dot.
    pub path: Option<TypedName>,
    /// Which query stands for which arguments.
    pub cases: Vec<PatternCase>,
}

/// One case of a pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct PatternCase {
    /// The arguments.
    pub arguments: Vec<Expr>,
    /// The path.
    pub path: Option<Expr>,
    /// What stands for them.
    pub body: Query,
}

/// `parse`, `parse-where`
#[derive(Clone, Debug, PartialEq)]
pub struct Parse {
    /// Whether rows that do not fit are left out.
    pub only_matches: bool,
    /// `simple`, `regex` or `relaxed`.
    pub kind: Option<Name>,
    /// Flags of the regular expression.
    pub flags: Option<Name>,
    /// The text.
    pub text: Expr,
    /// What it is made of.
    pub parts: Vec<ParsePart>,
}

/// One part of a `parse` pattern.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ParsePart {
    /// `*`: anything.
    Star,
    /// Text, or a regular expression.
    Text(String),
    /// `name: type`
    Column {
        /// The new column.
        name: Name,
        /// Its type's name; `string` where it is left out.
        kql_type: Option<Name>,
    },
}

/// `parse-kv text as (keys) with (options)`
#[derive(Clone, Debug, PartialEq)]
pub struct ParseKv {
    /// The text.
    pub text: Expr,
    /// The keys that become columns.
    pub keys: Vec<TypedName>,
    /// `name = value`, in order.
    pub options: Vec<(Name, Expr)>,
}

/// `make-series`
#[derive(Clone, Debug, PartialEq)]
pub struct MakeSeries {
    /// Whether no rows make a series of defaults.
    pub nonempty: bool,
    /// The aggregates, each with its default.
    pub aggregates: Vec<(NamedExpr, Option<Expr>)>,
    /// What is put into bins.
    pub axis: NamedExpr,
    /// The first bin.
    pub from: Option<Expr>,
    /// The bound.
    pub to: Option<Expr>,
    /// The bins' width.
    pub step: Expr,
    /// The older form `in range(first, last, step)`, whose bound is included.
    pub in_range: bool,
    /// The keys of the series.
    pub keys: Vec<NamedExpr>,
}

/// `scan`
#[derive(Clone, Debug, PartialEq)]
pub struct Scan {
    /// The column that numbers the matches.
    pub match_id: Option<Name>,
    /// New columns with their defaults.
    pub declared: Vec<(TypedName, Option<Expr>)>,
    /// The keys of independent scans.
    pub partition: Vec<NamedExpr>,
    /// The steps, in order.
    pub steps: Vec<ScanStep>,
}

/// One step of a `scan`.
#[derive(Clone, Debug, PartialEq)]
pub struct ScanStep {
    /// Its name, by which its state is read.
    pub name: Name,
    /// `all`, `last` or `none`.
    pub output: Option<Name>,
    /// Which rows match.
    pub condition: Expr,
    /// What a match assigns.
    pub assignments: Vec<(Name, Expr)>,
}

/// `partition by key (operators)` or `partition by key { table }`
#[derive(Clone, Debug, PartialEq)]
pub struct Partition {
    /// `hint.strategy`
    pub strategy: Option<Name>,
    /// The column.
    pub key: Expr,
    /// What is done to each part.
    pub operators: Vec<Operator>,
    /// The table that there is for each key, in place of what is done to its part.
    pub table: Option<Box<Expr>>,
}

/// One level of `top-nested`.
#[derive(Clone, Debug, PartialEq)]
pub struct TopNested {
    /// How many values; all where it is left out.
    pub count: Option<Expr>,
    /// The values.
    pub of: NamedExpr,
    /// What stands for the values that are left out.
    pub others: Option<Expr>,
    /// By which aggregate.
    pub by: NamedExpr,
    /// Smallest first; the default is largest first.
    pub ascending: bool,
}

/// `name: pattern [asc|desc|granny-asc|granny-desc]` of `project-reorder`
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnOrder {
    /// A name, in which `*` stands for any text.
    pub pattern: Name,
    /// The order among those that fit.
    pub order: Option<Name>,
}

/// `search`
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// `case_sensitive`, `default` or `case_insensitive`
    pub kind: Option<Name>,
    /// The tables of `in (…)`; all where it is empty.
    pub tables: Vec<Expr>,
    /// What is looked for.
    pub predicate: Expr,
}

/// `find`
#[derive(Clone, Debug, PartialEq)]
pub struct Find {
    /// The column that names each row's table.
    pub source_column: Option<Name>,
    /// The tables of `in (…)`; all where it is empty.
    pub tables: Vec<Expr>,
    /// What is looked for.
    pub predicate: Expr,
    /// The columns of `project`; those that the predicate names where it is left out.
    pub project: Option<Vec<FindColumn>>,
}

/// One column of `find … project`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum FindColumn {
    /// `name: type`
    Column {
        /// The column.
        name: Name,
        /// Its type's name.
        kql_type: Option<Name>,
    },
    /// `pack(*)`: all others in one bag.
    Pack,
}

/// `name = (operators)` of `fork`
#[derive(Clone, Debug, PartialEq)]
pub struct Fork {
    /// The name of its table.
    pub name: Option<Name>,
    /// What is done to the rows.
    pub operators: Vec<Operator>,
}

/// `facet by columns with (operators)`
#[derive(Clone, Debug, PartialEq)]
pub struct Facet {
    /// The columns whose values are counted.
    pub columns: Vec<Name>,
    /// What is done to the rows themselves.
    pub operators: Vec<Operator>,
}

/// `reduce by column`
#[derive(Clone, Debug, PartialEq)]
pub struct Reduce {
    /// `kind=source`, which keeps the rows.
    pub kind: Option<Name>,
    /// The text.
    pub by: Expr,
    /// `threshold`, `characters`
    pub options: Vec<(Name, Expr)>,
}

/// `name(arguments): (schema)` of `evaluate`
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluate {
    /// The plugin.
    pub name: Name,
    /// What it takes.
    pub arguments: Vec<NamedExpr>,
    /// The columns that it must make; `*` first keeps those of the input.
    pub schema: Option<(bool, Vec<TypedName>)>,
}

/// `top-hitters count of column by weight`
#[derive(Clone, Debug, PartialEq)]
pub struct TopHitters {
    /// How many values.
    pub count: Expr,
    /// The values.
    pub of: NamedExpr,
    /// What is summed for each value; rows are counted where it is left out.
    pub by: Option<NamedExpr>,
}

/// `make-graph source --> target with nodes on key`
#[derive(Clone, Debug, PartialEq)]
pub struct MakeGraph {
    /// The edges' column that names where they start.
    pub source: Name,
    /// The edges' column that names where they end.
    pub target: Name,
    /// Tables of nodes, each with the column of its key.
    pub nodes: Vec<(Expr, Name)>,
    /// The name of the nodes' key where there are no tables of nodes.
    pub node_id: Option<Name>,
    /// The column of nodes and edges whose values are graphs of their own, and the operators of each.
    pub partition: Option<(Name, Vec<Operator>)>,
}

/// `graph-match` and `graph-shortest-paths`
#[derive(Clone, Debug, PartialEq)]
pub struct GraphMatch {
    /// Whether only the shortest paths count.
    pub shortest: bool,
    /// `cycles=…` or `output=…`
    pub options: Vec<(Name, Name)>,
    /// Chains of nodes and edges.
    pub patterns: Vec<GraphPattern>,
    /// What must hold.
    pub predicate: Option<Expr>,
    /// The columns of the answer.
    pub project: Vec<NamedExpr>,
}

/// `(a)-[b]->(c)…`
#[derive(Clone, Debug, PartialEq)]
pub struct GraphPattern {
    /// The first node; it has no name where it is not given.
    pub first: Option<Name>,
    /// The edges, each with the node after it.
    pub edges: Vec<(GraphEdge, Option<Name>)>,
}

/// A bound of how many edges one of variable length stands for.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "the language's forms")]
pub enum EdgeCount {
    /// A number.
    Number(u64),
    /// What a `let` statement or a parameter has the number for.
    Name(Name),
}

/// `-[name*least..most]->`
#[derive(Clone, Debug, PartialEq)]
pub struct GraphEdge {
    /// Its name.
    pub name: Option<Name>,
    /// Which way it goes.
    pub direction: GraphDirection,
    /// How many edges it stands for, if it is not one.
    pub length: Option<(EdgeCount, EdgeCount)>,
}

/// Which way an edge goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum GraphDirection {
    /// `-->`
    Right,
    /// `<--`
    Left,
    /// `--`
    Any,
}

/// `graph-to-table nodes, edges`
#[derive(Clone, Debug, PartialEq)]
pub struct GraphToTable {
    /// The parts of the graph: `nodes` or `edges`, each with its options.
    pub outputs: Vec<GraphOutput>,
}

/// One table of `graph-to-table`.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphOutput {
    /// `nodes` or `edges`
    pub part: Name,
    /// `as name`
    pub name: Option<Name>,
    /// `with_node_id=…`, `with_source_id=…`, `with_target_id=…`
    pub options: Vec<(Name, Name)>,
}
