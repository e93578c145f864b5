//! The tree of a query, as written.

mod operator;

pub use operator::*;

use super::Span;
use crate::query::dynamic::Value;
use uuid::Uuid;

/// A name and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    /// The name.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

/// A whole query, or the body of a function.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The statements, in order. Each [`Statement::Ask`] has an answer.
    pub statements: Vec<Statement>,
}

/// One statement.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Statement {
    /// `let name = value;`
    Let(Let),
    /// `set option = value;`
    Set(Name, Option<Expr>),
    /// `declare query_parameters (…);`
    Parameters(Vec<Parameter>),
    /// `declare pattern …;`
    Pattern(Pattern),
    /// `restrict access to (…);`
    Restrict(Vec<Expr>),
    /// What is asked.
    Ask(Expr),
}

/// `let name = value;`
#[derive(Clone, Debug, PartialEq)]
pub struct Let {
    /// The new name.
    pub name: Name,
    /// A scalar or a pipeline.
    pub value: Expr,
}

/// A source and what is done to its rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// Where rows come from.
    pub source: Source,
    /// What is done to them, in order.
    pub operators: Vec<Operator>,
}

/// Where rows come from.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Source {
    /// A table's name, or a pipeline in parentheses.
    Table(Box<Expr>),
    /// `print`
    Print(Vec<NamedExpr>),
    /// `range name from first to last step step`
    Range {
        /// The column.
        name: Name,
        /// The first value.
        first: Box<Expr>,
        /// The bound, which is included.
        last: Box<Expr>,
        /// The difference of neighbours.
        step: Box<Expr>,
    },
    /// `datatable (name: type, …) [value, …]`
    DataTable {
        /// Names and type names.
        columns: Vec<(Name, Name)>,
        /// Row by row.
        values: Vec<Expr>,
        /// The list of values.
        span: Span,
    },
    /// `union …` at the start of a pipeline.
    Union(Union),
    /// `search …` at the start of a pipeline.
    Search(Search),
    /// `find …`
    Find(Find),
    /// `evaluate …` at the start of a pipeline.
    Evaluate(Evaluate),
}

/// One operator of a pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Operator {
    /// Which.
    pub kind: OperatorKind,
    /// Its name in the text.
    pub span: Span,
}

/// An operator and its arguments.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum OperatorKind {
    /// `where`, `filter`
    Where(Expr),
    /// `project`
    Project(Vec<NamedExpr>),
    /// `project-away`
    ProjectAway(Vec<Name>),
    /// `project-keep`
    ProjectKeep(Vec<Name>),
    /// `project-rename`: new and old names
    ProjectRename(Vec<(Name, Name)>),
    /// `extend`
    Extend(Vec<NamedExpr>),
    /// `summarize … by …`
    Summarize {
        /// The aggregates.
        aggregates: Vec<NamedExpr>,
        /// The keys.
        keys: Vec<NamedExpr>,
    },
    /// `sort`, `order`
    Sort(Vec<SortKey>),
    /// `take`, `limit`
    Take(Expr),
    /// `top`
    Top {
        /// How many rows.
        count: Expr,
        /// By what.
        keys: Vec<SortKey>,
    },
    /// `count`
    Count,
    /// `distinct`
    Distinct(Vec<NamedExpr>),
    /// `join`
    Join(Join),
    /// `union`
    Union(Union),
    /// `mv-expand`
    Expand(Expand),
    /// `mv-apply … on (…)`
    Apply {
        /// What each row becomes.
        expand: Expand,
        /// What is done to the rows of each row.
        operators: Vec<Operator>,
    },
    /// `parse`, `parse-where`
    Parse(Parse),
    /// `parse-kv`
    ParseKv(ParseKv),
    /// `make-series`
    MakeSeries(MakeSeries),
    /// `scan`
    Scan(Scan),
    /// `partition`
    Partition(Partition),
    /// `serialize`
    Serialize(Vec<NamedExpr>),
    /// `top-nested`
    TopNested(Vec<TopNested>),
    /// `top-hitters`
    TopHitters(TopHitters),
    /// `sample`
    Sample(Expr),
    /// `sample-distinct`: how many, and of what
    SampleDistinct(Expr, NamedExpr),
    /// `reduce`
    Reduce(Reduce),
    /// `lookup`
    Lookup(Join),
    /// `search`
    Search(Search),
    /// `getschema`
    GetSchema,
    /// `consume`
    Consume,
    /// `as`
    As(Name),
    /// `invoke`
    Invoke(Expr),
    /// `project-reorder`
    ProjectReorder(Vec<ColumnOrder>),
    /// `project-by-names`
    ProjectByNames(Vec<Expr>),
    /// `fork`
    Fork(Vec<Fork>),
    /// `facet`
    Facet(Facet),
    /// `evaluate`
    Evaluate(Evaluate),
    /// `make-graph`
    MakeGraph(MakeGraph),
    /// `graph-match`, `graph-shortest-paths`
    GraphMatch(GraphMatch),
    /// `graph-to-table`
    GraphToTable(GraphToTable),
    /// `graph-mark-components`: the kind and the new column
    GraphMarkComponents(Option<Name>, Option<Name>),
    /// `render`
    Render {
        /// The kind of picture.
        visualization: Name,
        /// Its properties, in order; a list is comma-separated.
        properties: Vec<(Name, String)>,
    },
}

/// `kind=` of a join and its sides.
#[derive(Clone, Debug, PartialEq)]
pub struct Join {
    /// `inner`, `leftouter`, …; `innerunique` where it is left out.
    pub kind: Option<Name>,
    /// The other table.
    pub right: Box<Expr>,
    /// The conditions after `on`.
    pub on: Vec<Expr>,
}

/// Arrays and bags that become rows.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Expand {
    /// Members of bags become arrays of a key and a value, not bags of one member.
    pub members_as_arrays: bool,
    /// The column of each item's place, from 0.
    pub index: Option<Name>,
    /// What is expanded, side by side.
    pub items: Vec<ExpandItem>,
    /// The most rows of each row.
    pub limit: Option<Expr>,
}

/// One array or bag that becomes rows.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ExpandItem {
    /// The array or bag, and the column of its items.
    pub item: NamedExpr,
    /// The type of the items, after `to typeof`.
    pub to: Option<Name>,
}

/// The tables of a `union`.
#[derive(Clone, Debug, PartialEq)]
pub struct Union {
    /// `inner` (common columns) or `outer` (all columns), which is the default.
    pub kind: Option<Name>,
    /// The column that names each row's table.
    pub source_column: Option<Name>,
    /// Whether tables that are not there are left out.
    pub fuzzy: bool,
    /// The tables: names, names with `*`, or pipelines in parentheses.
    pub tables: Vec<Expr>,
}

/// An expression with the name of its column, if one is given.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedExpr {
    /// The given name.
    pub name: Option<Name>,
    /// The expression.
    pub expr: Expr,
}

/// One key of a sort.
#[derive(Clone, Debug, PartialEq)]
pub struct SortKey {
    /// By what.
    pub expr: Expr,
    /// Smallest first; the language's default is largest first.
    pub ascending: bool,
    /// Where nulls go; by default first if ascending, last if descending.
    pub nulls_first: Option<bool>,
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// Which.
    pub kind: ExprKind,
    /// Where it stands.
    pub span: Span,
    /// The levels of the tree below and with this one.
    pub depth: usize,
}

/// An expression and its parts.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ExprKind {
    /// A value written out.
    Literal(Literal),
    /// A column, a `let` or a table.
    Name(String),
    /// `*`, or a name with `*` in it
    Star(String),
    /// `name(arguments)`
    Call {
        /// The function.
        name: Name,
        /// Its arguments.
        arguments: Vec<NamedExpr>,
    },
    /// `-x`
    Negate(Box<Expr>),
    /// Two operands, or text operators with their negation.
    Binary {
        /// Which.
        operator: BinaryOperator,
        /// Left operand.
        left: Box<Expr>,
        /// Right operand.
        right: Box<Expr>,
    },
    /// All hold.
    And(Vec<Expr>),
    /// One holds.
    Or(Vec<Expr>),
    /// `value in (list)` and its kin.
    List {
        /// Which.
        operator: ListOperator,
        /// Whether the answer is turned around.
        negated: bool,
        /// What is looked for, or looked into.
        value: Box<Expr>,
        /// The list.
        list: Vec<Expr>,
    },
    /// `value between (low .. high)`
    Between {
        /// Whether the answer is turned around.
        negated: bool,
        /// The value.
        value: Box<Expr>,
        /// The lower bound, included.
        low: Box<Expr>,
        /// The upper bound, included.
        high: Box<Expr>,
    },
    /// `value.name`
    Member(Box<Expr>, Name),
    /// `value[index]`
    Index(Box<Expr>, Box<Expr>),
    /// A pipeline where an expression can stand.
    Pipeline(Box<Pipeline>),
    /// `(name, …) = call`: names for the columns of a call that makes several.
    Columns(Vec<Name>, Box<Expr>),
    /// A function where a value can stand: after `let name =`.
    Function(Box<Function>),
}

impl Expr {
    /// An expression; its depth is counted from its parts.
    #[must_use]
    pub fn new(kind: ExprKind, span: Span) -> Self {
        let depth = 1 + kind.parts_depth();
        Self { kind, span, depth }
    }
}

impl ExprKind {
    fn parts_depth(&self) -> usize {
        let deepest = |parts: &[Expr]| parts.iter().map(|part| part.depth).max().unwrap_or(0);
        match self {
            Self::Literal(_) | Self::Name(_) | Self::Star(_) => 0,
            Self::Call { arguments, .. } => {
                arguments.iter().map(|argument| argument.expr.depth).max().unwrap_or(0)
            }
            Self::Negate(inner) | Self::Member(inner, _) | Self::Columns(_, inner) => inner.depth,
            Self::Binary { left, right, .. } | Self::Index(left, right) => {
                left.depth.max(right.depth)
            }
            Self::And(parts) | Self::Or(parts) => deepest(parts),
            Self::List { value, list, .. } => value.depth.max(deepest(list)),
            Self::Between { value, low, high, .. } => value.depth.max(low.depth).max(high.depth),
            // The parser bounds pipelines within pipelines by its own depth.
            Self::Pipeline(_) | Self::Function(_) => 0,
        }
    }
}

/// A value written out; `None` is null.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Literal {
    /// `true`, `bool(1)`
    Bool(Option<bool>),
    /// `int(1)`
    Int(Option<i32>),
    /// `1`
    Long(Option<i64>),
    /// `1.5`
    Real(Option<f64>),
    /// `"a"`
    String(String),
    /// `datetime(2020-01-01)`, in ticks
    DateTime(Option<i64>),
    /// `5m`, in ticks
    TimeSpan(Option<i64>),
    /// `guid(…)`
    Guid(Option<Uuid>),
    /// `decimal(1.5)`
    Decimal(Option<String>),
    /// `dynamic(…)`
    Dynamic(Value),
}

/// An operator between two operands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum BinaryOperator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Modulo,
    /// `==`
    Equal,
    /// `!=`, `<>`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// A text operator.
    Text {
        /// Which.
        operator: TextOperator,
        /// Whether the answer is turned around.
        negated: bool,
    },
}

impl BinaryOperator {
    /// The operator as it is written.
    #[must_use]
    pub fn symbol(self) -> String {
        let symbol = match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Text { operator: TextOperator::EqualAnyCase, negated: true } => "!~",
            Self::Text { operator, negated } => {
                let sign = if negated { "!" } else { "" };
                return format!("{sign}{}", operator.symbol());
            }
        };
        symbol.to_owned()
    }
}

/// An operator that looks into text. Names without `Case` ignore case.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum TextOperator {
    /// `=~`
    EqualAnyCase,
    /// `contains`
    Contains,
    /// `contains_cs`
    ContainsCase,
    /// `startswith`
    StartsWith,
    /// `startswith_cs`
    StartsWithCase,
    /// `endswith`
    EndsWith,
    /// `endswith_cs`
    EndsWithCase,
    /// `has`
    Has,
    /// `has_cs`
    HasCase,
    /// `hasprefix`
    HasPrefix,
    /// `hasprefix_cs`
    HasPrefixCase,
    /// `hassuffix`
    HasSuffix,
    /// `hassuffix_cs`
    HasSuffixCase,
    /// `matches regex`
    MatchesRegex,
}

impl TextOperator {
    /// Every operator.
    pub const ALL: [Self; 14] = [
        Self::EqualAnyCase,
        Self::Contains,
        Self::ContainsCase,
        Self::StartsWith,
        Self::StartsWithCase,
        Self::EndsWith,
        Self::EndsWithCase,
        Self::Has,
        Self::HasCase,
        Self::HasPrefix,
        Self::HasPrefixCase,
        Self::HasSuffix,
        Self::HasSuffixCase,
        Self::MatchesRegex,
    ];

    /// The operator as it is written.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::EqualAnyCase => "=~",
            Self::Contains => "contains",
            Self::ContainsCase => "contains_cs",
            Self::StartsWith => "startswith",
            Self::StartsWithCase => "startswith_cs",
            Self::EndsWith => "endswith",
            Self::EndsWithCase => "endswith_cs",
            Self::Has => "has",
            Self::HasCase => "has_cs",
            Self::HasPrefix => "hasprefix",
            Self::HasPrefixCase => "hasprefix_cs",
            Self::HasSuffix => "hassuffix",
            Self::HasSuffixCase => "hassuffix_cs",
            Self::MatchesRegex => "matches regex",
        }
    }
}

/// An operator with a list on its right.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ListOperator {
    /// `in`
    In,
    /// `in~`
    InAnyCase,
    /// `has_any`
    HasAny,
    /// `has_all`
    HasAll,
}

impl ListOperator {
    /// The operator as it is written.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::InAnyCase => "in~",
            Self::HasAny => "has_any",
            Self::HasAll => "has_all",
        }
    }
}
