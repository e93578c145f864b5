//! The bound tree: names resolved, every expression with its type, every relation with its columns.

use super::function::KernelFn;
use super::function::gather::Gather;
use super::plan::{RowFunction, TableFunction};
use super::syntax::Span;
use super::types::KqlType;
use datafusion::catalog::TableProvider;
use datafusion::scalar::ScalarValue;
use std::sync::Arc;

/// A column of a relation or of an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "a column is a name and a type")]
pub struct Column {
    /// Its name, unique in its relation.
    pub name: String,
    /// Its type.
    pub kql_type: KqlType,
}

impl Column {
    pub(crate) fn new(name: impl Into<String>, kql_type: KqlType) -> Self {
        Self { name: name.into(), kql_type }
    }
}

/// A value or a way to compute one for each row.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub(crate) kind: ExprKind,
    pub(crate) kql_type: KqlType,
    pub(crate) span: Span,
}

#[derive(Clone, Debug)]
pub(crate) enum ExprKind {
    /// In the type's computed form.
    Constant(ScalarValue),
    /// A column of the input.
    Column(String),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    /// Both operands have one type.
    Compare(Comparison, Box<Expr>, Box<Expr>),
    /// The items have the value's type, and none is null. Never null itself.
    In {
        value: Box<Expr>,
        items: Vec<ScalarValue>,
    },
    IsNull(Box<Expr>),
    /// The branches' values and the last one have one type.
    Case {
        branches: Vec<(Expr, Expr)>,
        otherwise: Box<Expr>,
    },
    /// Both operands are long (wrapping), timespan or real.
    Arithmetic(Arithmetic, Box<Expr>, Box<Expr>),
    /// A number in another type of number, or a count of ticks as a long and back.
    Cast(Box<Expr>),
    Call {
        name: &'static str,
        kernel: KernelFn,
        arguments: Vec<Expr>,
    },
    /// Computed where it stands, whoever uses it.
    Hold(Box<Expr>),
    /// Drawn for each row: a guid, a real from 0 to below 1, or a whole one from 0 to below another.
    Random {
        seed: u64,
        below: Option<Box<Expr>>,
    },
}

/// How large an expression is when its columns are replaced by what they are computed from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Cost {
    pub(crate) depth: usize,
    pub(crate) nodes: usize,
}

impl Cost {
    pub(crate) const LEAF: Self = Self { depth: 1, nodes: 1 };

    /// One node over parts.
    fn over(parts: impl IntoIterator<Item = Self>) -> Self {
        let parts = parts.into_iter().fold(Self { depth: 0, nodes: 0 }, |all, part| Self {
            depth: all.depth.max(part.depth),
            nodes: all.nodes.saturating_add(part.nodes),
        });
        Self { depth: parts.depth + 1, nodes: parts.nodes.saturating_add(1) }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    /// Of reals only.
    Divide,
}

impl Expr {
    pub(crate) const fn new(kind: ExprKind, kql_type: KqlType, span: Span) -> Self {
        Self { kind, kql_type, span }
    }

    pub(crate) fn column(name: impl Into<String>, kql_type: KqlType, span: Span) -> Self {
        Self::new(ExprKind::Column(name.into()), kql_type, span)
    }

    pub(crate) const fn constant(value: ScalarValue, kql_type: KqlType, span: Span) -> Self {
        Self::new(ExprKind::Constant(value), kql_type, span)
    }

    pub(crate) fn text(value: impl Into<String>, span: Span) -> Self {
        let value = ScalarValue::Utf8View(Some(value.into()));
        Self::constant(value, KqlType::String, span)
    }

    pub(crate) const fn long(value: i64, span: Span) -> Self {
        Self::constant(ScalarValue::Int64(Some(value)), KqlType::Long, span)
    }

    pub(crate) const fn bool(value: bool, span: Span) -> Self {
        Self::constant(ScalarValue::Boolean(Some(value)), KqlType::Bool, span)
    }

    /// The type's null; the empty string for strings, which have none.
    pub(crate) fn null(kql_type: KqlType, span: Span) -> Self {
        Self::constant(null_of(kql_type), kql_type, span)
    }

    pub(crate) const fn as_constant(&self) -> Option<&ScalarValue> {
        match &self.kind {
            ExprKind::Constant(value) => Some(value),
            _ => None,
        }
    }

    /// The constant count of ticks or the constant integer.
    pub(crate) const fn as_long(&self) -> Option<i64> {
        match self.as_constant() {
            Some(ScalarValue::Int64(value)) => *value,
            Some(ScalarValue::Int32(Some(value))) => Some(*value as i64),
            _ => None,
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match self.as_constant() {
            Some(ScalarValue::Utf8View(Some(value))) => Some(value),
            _ => None,
        }
    }

    /// Whether it is made of constants and is not one.
    pub(crate) fn is_foldable(&self) -> bool {
        let constant = |part: &Self| part.as_constant().is_some() || part.is_foldable();
        match &self.kind {
            ExprKind::Constant(_)
            | ExprKind::Column(_)
            | ExprKind::Hold(_)
            | ExprKind::Random { .. } => false,
            ExprKind::And(parts) | ExprKind::Or(parts) => parts.iter().all(constant),
            ExprKind::Not(part) | ExprKind::IsNull(part) | ExprKind::Cast(part) => constant(part),
            ExprKind::Compare(_, left, right) | ExprKind::Arithmetic(_, left, right) => {
                constant(left) && constant(right)
            }
            ExprKind::In { value, .. } => constant(value),
            ExprKind::Case { branches, otherwise } => {
                branches.iter().all(|(when, then)| constant(when) && constant(then))
                    && constant(otherwise)
            }
            ExprKind::Call { arguments, .. } => arguments.iter().all(constant),
        }
    }

    /// Whether it is a value of a row.
    pub(crate) fn reads_columns(&self) -> bool {
        match &self.kind {
            ExprKind::Constant(_) => false,
            ExprKind::Column(_) => true,
            ExprKind::Random { below, .. } => below.iter().any(|part| part.reads_columns()),
            ExprKind::And(parts) | ExprKind::Or(parts) => parts.iter().any(Self::reads_columns),
            ExprKind::Not(part)
            | ExprKind::IsNull(part)
            | ExprKind::Cast(part)
            | ExprKind::Hold(part) => part.reads_columns(),
            ExprKind::Compare(_, left, right) | ExprKind::Arithmetic(_, left, right) => {
                left.reads_columns() || right.reads_columns()
            }
            ExprKind::In { value, .. } => value.reads_columns(),
            ExprKind::Case { branches, otherwise } => {
                branches.iter().any(|(when, then)| when.reads_columns() || then.reads_columns())
                    || otherwise.reads_columns()
            }
            ExprKind::Call { arguments, .. } => arguments.iter().any(Self::reads_columns),
        }
    }
}

impl Expr {
    /// The size over an input's columns.
    pub(crate) fn cost(&self, input: &Relation) -> Cost {
        let cost = |part: &Self| part.cost(input);
        match &self.kind {
            ExprKind::Constant(_) => Cost::LEAF,
            ExprKind::Column(name) => {
                let at = input.columns.iter().position(|column| column.name == *name);
                at.and_then(|at| input.costs.get(at)).copied().unwrap_or(Cost::LEAF)
            }
            ExprKind::Hold(inner) => Cost { nodes: 1, ..cost(inner) },
            ExprKind::And(parts) | ExprKind::Or(parts) => {
                // They become a balanced tree.
                let all = Cost::over(parts.iter().map(cost));
                let levels = usize::try_from(parts.len().max(1).ilog2()).unwrap_or(0);
                Cost { depth: all.depth + levels, ..all }
            }
            ExprKind::Not(part) | ExprKind::IsNull(part) | ExprKind::Cast(part) => {
                Cost::over([cost(part)])
            }
            ExprKind::In { value, items } => {
                let value = Cost::over([cost(value)]);
                Cost { nodes: value.nodes.saturating_add(items.len()), ..value }
            }
            ExprKind::Compare(_, left, right) | ExprKind::Arithmetic(_, left, right) => {
                Cost::over([cost(left), cost(right)])
            }
            ExprKind::Case { branches, otherwise } => Cost::over(
                branches
                    .iter()
                    .flat_map(|(when, then)| [cost(when), cost(then)])
                    .chain([cost(otherwise)]),
            ),
            ExprKind::Call { arguments, .. } => Cost::over(arguments.iter().map(cost)),
            ExprKind::Random { below, .. } => Cost::over(below.iter().map(|below| cost(below))),
        }
    }
}

/// The type's null in its computed form; the empty string for strings.
pub(crate) fn null_of(kql_type: KqlType) -> ScalarValue {
    match kql_type {
        KqlType::Bool => ScalarValue::Boolean(None),
        KqlType::Int => ScalarValue::Int32(None),
        KqlType::Long | KqlType::DateTime | KqlType::TimeSpan => ScalarValue::Int64(None),
        KqlType::Real => ScalarValue::Float64(None),
        KqlType::String => ScalarValue::Utf8View(Some(String::new())),
        KqlType::Guid | KqlType::Decimal => ScalarValue::Utf8View(None),
        KqlType::Dynamic => ScalarValue::BinaryView(None),
    }
}

/// Rows and how to make them.
#[derive(Clone, Debug)]
pub(crate) struct Relation {
    pub(crate) kind: RelationKind,
    pub(crate) columns: Vec<Column>,
    /// Of each column, how large it is when it is computed from stored columns.
    pub(crate) costs: Vec<Cost>,
    /// The count of relations in the tree, a shared one counted each time.
    pub(crate) size: usize,
    /// The count of relations from it to the furthest that it reads.
    pub(crate) depth: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum RelationKind {
    Scan {
        table: String,
        provider: Arc<dyn TableProvider>,
    },
    /// Row by row, in computed form.
    Rows(Vec<Vec<ScalarValue>>),
    Range {
        first: i64,
        step: i64,
        count: usize,
    },
    Filter {
        input: Arc<Relation>,
        predicate: Expr,
    },
    Project {
        input: Arc<Relation>,
        items: Vec<(String, Expr)>,
    },
    Aggregate {
        input: Arc<Relation>,
        keys: Vec<(String, Expr)>,
        aggregates: Vec<(String, Aggregate)>,
    },
    Sort {
        input: Arc<Relation>,
        keys: Vec<OrderKey>,
        limit: Option<usize>,
    },
    Limit {
        input: Arc<Relation>,
        count: usize,
    },
    /// Items of arrays and members of bags as rows: the input's columns, one for each item.
    Expand {
        input: Arc<Relation>,
        items: Vec<Expansion>,
        options: ExpandOptions,
    },
    /// The input's columns and each row's number, from 1, among those of its part.
    Number {
        input: Arc<Relation>,
        column: String,
        parts: Vec<String>,
        keys: Vec<OrderKey>,
    },
    /// The inputs have the same columns in the same order.
    Union(Vec<Arc<Relation>>),
    /// The sides have no column name in common.
    Join {
        left: Arc<Relation>,
        right: Arc<Relation>,
        kind: JoinKind,
        keys: Vec<(String, String)>,
    },
    /// The input's columns and those that a function of its rows makes.
    Append {
        input: Arc<Relation>,
        function: Arc<dyn RowFunction>,
        arguments: Vec<Expr>,
        added: Vec<Column>,
    },
    /// What a function makes of whole tables.
    Table {
        inputs: Vec<Arc<Relation>>,
        function: Arc<dyn TableFunction>,
        /// Whether its rows have an order that window functions can go by.
        serialized: bool,
    },
    /// The input under a name of its own, for `union` and `search` to show.
    Named {
        input: Arc<Relation>,
        name: String,
    },
    /// The input, whose order of rows counts from here on.
    Serialized(Arc<Relation>),
    /// Rows that whoever runs the plan brings.
    Given,
}

impl RelationKind {
    pub(crate) fn inputs(&self) -> Vec<&Arc<Relation>> {
        match self {
            Self::Scan { .. } | Self::Rows(_) | Self::Range { .. } | Self::Given => Vec::new(),
            Self::Serialized(input)
            | Self::Append { input, .. }
            | Self::Named { input, .. }
            | Self::Filter { input, .. }
            | Self::Project { input, .. }
            | Self::Aggregate { input, .. }
            | Self::Expand { input, .. }
            | Self::Number { input, .. }
            | Self::Sort { input, .. }
            | Self::Limit { input, .. } => vec![input],
            Self::Union(inputs) | Self::Table { inputs, .. } => inputs.iter().collect(),
            Self::Join { left, right, .. } => vec![left, right],
        }
    }

    /// The size of each column that it makes; short where columns are stored.
    pub(crate) fn costs(&self) -> Vec<Cost> {
        match self {
            Self::Scan { .. }
            | Self::Rows(_)
            | Self::Range { .. }
            | Self::Given
            | Self::Table { .. } => Vec::new(),
            Self::Append { input, added, .. } => widened(input, added.len()),
            Self::Named { input, .. }
            | Self::Serialized(input)
            | Self::Filter { input, .. }
            | Self::Sort { input, .. }
            | Self::Limit { input, .. } => input.costs.clone(),
            Self::Project { input, items } => {
                items.iter().map(|(_, expr)| expr.cost(input)).collect()
            }
            Self::Aggregate { input, keys, aggregates } => {
                let keys = keys.iter().map(|(_, key)| key.cost(input));
                keys.chain(aggregates.iter().map(|_| Cost::LEAF)).collect()
            }
            Self::Expand { input, items, options } => {
                let more = options.index.iter().chain(&options.live).count() + items.len();
                widened(input, more)
            }
            Self::Number { input, .. } => widened(input, 1),
            Self::Union(inputs) => {
                let most = |costs: Vec<Cost>, input: &Arc<Relation>| {
                    (0..costs.len().max(input.costs.len()))
                        .map(|at| {
                            let of = |all: &[Cost]| all.get(at).copied().unwrap_or(Cost::LEAF);
                            let (a, b) = (of(&costs), of(&input.costs));
                            Cost { depth: a.depth.max(b.depth), nodes: a.nodes.max(b.nodes) }
                        })
                        .collect()
                };
                inputs.iter().fold(Vec::new(), most)
            }
            Self::Join { left, right, .. } => {
                let of = |side: &Relation| {
                    let costs = (0..side.columns.len())
                        .map(|at| side.costs.get(at).copied().unwrap_or(Cost::LEAF));
                    costs.collect::<Vec<_>>()
                };
                of(left).into_iter().chain(of(right)).collect()
            }
        }
    }

    /// The sizes of what it computes besides its columns.
    pub(crate) fn inner_costs(&self) -> Vec<Cost> {
        match self {
            Self::Filter { input, predicate } => vec![predicate.cost(input)],
            Self::Sort { input, keys, .. } => keys.iter().map(|key| key.expr.cost(input)).collect(),
            Self::Aggregate { input, aggregates, .. } => aggregates
                .iter()
                .flat_map(|(_, made)| std::iter::once(&made.argument).chain(&made.filter))
                .map(|expr| expr.cost(input))
                .collect(),
            Self::Expand { input, items, .. } => {
                items.iter().map(|item| item.value.cost(input)).collect()
            }
            Self::Number { input, keys, .. } => {
                keys.iter().map(|key| key.expr.cost(input)).collect()
            }
            Self::Append { input, arguments, .. } => {
                arguments.iter().map(|expr| expr.cost(input)).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// The sizes of the input's columns and of as many more that are computed where they stand.
fn widened(input: &Relation, more: usize) -> Vec<Cost> {
    let of_input =
        (0..input.columns.len()).map(|at| input.costs.get(at).copied().unwrap_or(Cost::LEAF));
    of_input.chain(std::iter::repeat_n(Cost::LEAF, more)).collect()
}

/// A dynamic value whose items become rows.
#[derive(Clone, Debug)]
pub(crate) struct Expansion {
    /// The column of the items.
    pub(crate) name: String,
    pub(crate) value: Expr,
    /// The type of the items.
    pub(crate) kql_type: KqlType,
}

/// How values become rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExpandOptions {
    /// Members of bags become arrays of a key and a value.
    pub(crate) members_as_arrays: bool,
    /// The most rows of each row.
    pub(crate) limit: Option<usize>,
    /// The column of each item's place, from 0.
    pub(crate) index: Option<String>,
    /// A column that is true; each row becomes one row more, in which it is false.
    pub(crate) live: Option<String>,
}

impl Relation {
    /// Whether its rows have an order that window functions can go by.
    pub(crate) fn is_serialized(&self) -> bool {
        match &self.kind {
            RelationKind::Sort { .. }
            | RelationKind::Rows(_)
            | RelationKind::Range { .. }
            | RelationKind::Serialized(_)
            | RelationKind::Given => true,
            RelationKind::Filter { input, .. }
            | RelationKind::Project { input, .. }
            | RelationKind::Limit { input, .. }
            | RelationKind::Append { input, .. }
            | RelationKind::Expand { input, .. }
            | RelationKind::Number { input, .. }
            | RelationKind::Named { input, .. } => input.is_serialized(),
            RelationKind::Table { serialized, .. } => *serialized,
            RelationKind::Scan { .. }
            | RelationKind::Aggregate { .. }
            | RelationKind::Union(_)
            | RelationKind::Join { .. } => false,
        }
    }

    /// Whether a function in the tree goes by the order of rows.
    pub(crate) fn needs_order(&self) -> bool {
        let here = match &self.kind {
            RelationKind::Append { function, .. } => function.needs_all_rows(),
            RelationKind::Table { .. } => true,
            // Its rows follow those that they are made of.
            RelationKind::Expand { input, .. } => input.is_serialized(),
            _ => false,
        };
        here || self.kind.inputs().iter().any(|input| input.needs_order())
    }
}

#[derive(Clone, Debug)]
pub(crate) struct OrderKey {
    pub(crate) expr: Expr,
    pub(crate) ascending: bool,
    pub(crate) nulls_first: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum JoinKind {
    Inner,
    LeftOuter,
    RightOuter,
    FullOuter,
    LeftSemi,
    LeftAnti,
    RightSemi,
    RightAnti,
}

/// One aggregate of a group.
#[derive(Clone, Debug)]
pub(crate) struct Aggregate {
    pub(crate) function: AggregateFunction,
    pub(crate) argument: Expr,
    /// Only rows for which this holds are counted.
    pub(crate) filter: Option<Expr>,
    pub(crate) kql_type: KqlType,
}

#[derive(Clone, Debug)]
pub(crate) enum AggregateFunction {
    /// Rows, whatever the argument.
    Rows,
    /// Values that are not null.
    Values,
    DistinctValues,
    Sum,
    Min,
    Max,
    StandardDeviation {
        sample: bool,
    },
    Variance {
        sample: bool,
    },
    /// The nearest-rank percentile, from 0 to 100.
    Percentile(f64),
    /// The argument in the row where the expression is greatest or least.
    ValueAt {
        order: Box<Expr>,
        greatest: bool,
    },
    /// The bits that are set in all values, in any, or in an odd number of them.
    BitsOfAll,
    BitsOfAny,
    BitsOfOdd,
    Covariance {
        sample: bool,
        other: Box<Expr>,
    },
    /// A dynamic value of dynamic ones; the second argument is the place or the weight of each.
    Gather {
        gather: Gather,
        second: Option<Box<Expr>>,
    },
    /// The argument in one row, not null if any row has one.
    AnyValue,
    /// The argument in one row, the same for all such aggregates of a group.
    RowValue,
}
