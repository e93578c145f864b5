//! Names and types: the tree as written becomes the bound tree.
//!
//! Everything that is wrong with one operator is reported together; the pipeline is not bound
//! beyond it, because its columns are not known.

mod definition;

mod expression;

mod intrinsic;

mod names;

mod sub_query;

use super::TableSource;
use super::bound::{Column, Comparison, Expr, ExprKind, Relation, RelationKind};
use super::diagnostic::Problem;
use super::function;
use super::limits::{
    COMPUTED_DEPTH_MAX, COMPUTED_NODES_MAX, EXPRESSIONS_MAX, KEY_NODES_MAX, OPERATORS_MAX,
    PIPELINE_OPERATORS_MAX,
};
use super::operator::graph::Graph;
use super::render::Render;
use super::syntax::Span;
use super::syntax::ast;
use super::types::KqlType;
use datafusion::arrow::array::RecordBatch;
use definition::Closure;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub(super) use expression::{Made, Scope, flatten, not, of_part};
pub(super) use names::{
    Items, column_name, literal_text, matches as name_matches, percentile_name, unnamed_argument,
};

/// The most relations that one operator becomes.
const RELATIONS_PER_OPERATOR: usize = 2;

/// Makes DataFusion compute large columns once, where they stand.
fn hold_large(kind: &mut RelationKind) {
    let RelationKind::Project { input, items } = kind else { return };
    for (_, expr) in items {
        let plain = matches!(expr.kind, ExprKind::Column(_) | ExprKind::Constant(_));
        if !plain && expr.cost(input).nodes > COMPUTED_NODES_MAX {
            let (kql_type, span) = (expr.kql_type, expr.span);
            let inner = std::mem::replace(expr, Expr::null(kql_type, span));
            *expr = Expr::new(ExprKind::Hold(Box::new(inner)), kql_type, span);
        }
    }
}

/// A part could not be bound; the problem is recorded.
#[derive(Debug)]
pub(super) struct Failed;

pub(super) type BindResult<T> = Result<T, Failed>;

/// A bound query.
#[derive(Debug)]
pub(super) struct BoundQuery {
    /// The tables of the answer, at least one, each with its name.
    pub(super) tables: Vec<(String, Arc<Relation>)>,
    pub(super) render: Option<Render>,
}

/// What binding comes to.
#[derive(Debug)]
pub(super) enum Bound {
    Query(BoundQuery),
    /// These rows must be known first; binding begins again with them.
    Needs(Arc<Relation>),
}

/// What a query is bound in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) source: &'a dyn TableSource,
    /// Rows that whoever runs the query brings, by what they are called.
    pub(super) given: Option<(&'a str, &'a [Column])>,
    /// The current time, in ticks.
    pub(super) now: i64,
    /// Rows are read only from this instant up to that one, in ticks.
    pub(super) timespan: Option<(i64, i64)>,
    /// The values of declared parameters, as literals.
    pub(super) parameters: &'a BTreeMap<String, String>,
    /// What random functions draw from.
    pub(super) seed: u64,
}

/// What a name of a `let` statement stands for.
#[derive(Clone, Debug)]
enum LetValue {
    Scalar(Expr),
    Table(Arc<Relation>),
    Graph(Graph),
    Function(Arc<Closure>),
    /// A value of a row, where there is no row.
    OfRow,
    /// Its statement is wrong, which was reported.
    Broken,
}

impl LetValue {
    /// Whether it is a value of a row, or a function that sees one.
    fn is_of_row(&self) -> bool {
        match self {
            Self::Scalar(value) => value.reads_columns(),
            Self::Function(closure) => closure.sees_row,
            _ => false,
        }
    }

    /// Takes the row away.
    fn leave_row(&mut self) {
        match self {
            Self::Scalar(value) if value.reads_columns() => *self = Self::OfRow,
            Self::Function(closure) if closure.sees_row => {
                *closure = Arc::new(closure.without_row());
            }
            _ => {}
        }
    }
}

/// What a pipeline has come to.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    Rows(Arc<Relation>),
    Graph(Graph),
}

/// The names that `let` statements, parameters and `as` gave.
type Lets = HashMap<String, LetValue>;

/// The state of binding one query.
#[derive(Debug)]
pub(super) struct Binder<'a> {
    source: &'a dyn TableSource,
    /// The current time, in ticks.
    pub(super) now: i64,
    /// Rows are read only from this instant up to that one, in ticks.
    timespan: Option<(i64, i64)>,
    /// What the next call of a random function draws from.
    seed: u64,
    /// The size of the bins of `bin_auto`, and where one of them starts.
    bin_size: Option<Expr>,
    bin_at: Option<Expr>,
    parameters: &'a BTreeMap<String, String>,
    lets: Lets,
    patterns: HashMap<String, Arc<ast::Pattern>>,
    /// The names of the stored tables that may be read, if `restrict` bounds them.
    allowed: Option<Vec<String>>,
    /// The names where each function that is being called was called, the first one first.
    callers: Vec<Lets>,
    /// The rows of the sub-queries that were run before, in order; `None` if none is run.
    answers: Option<&'a [RecordBatch]>,
    answers_used: usize,
    /// The sub-query that must be run next.
    pending: Option<Arc<Relation>>,
    /// How many parts of `partition`, one in another, are being bound.
    pub(super) parts: usize,
    /// Whether a sub-query reads the rows of such a part, which are not known before the query runs.
    pub(super) reads_part: bool,
    /// How many names of tables stood for none.
    pub(super) missing_tables: usize,
    /// Tables of the answer after the one that is being bound.
    pub(super) others: Vec<(String, Arc<Relation>)>,
    problems: Vec<Problem>,
    pub(super) render: Option<Render>,
    expressions: usize,
}

/// Binds a query. `answers` are the rows of what it needed so far; without them, sub-queries are
/// taken to have no rows.
pub(super) fn bind(
    query: &ast::Query,
    surroundings: Surroundings<'_>,
    answers: Option<&[RecordBatch]>,
) -> Result<Bound, Vec<Problem>> {
    let Surroundings { source, given, now, timespan, parameters, seed } = surroundings;
    let mut binder = Binder {
        source,
        now,
        timespan,
        seed,
        bin_size: None,
        bin_at: None,
        parameters,
        lets: HashMap::new(),
        patterns: HashMap::new(),
        allowed: None,
        callers: Vec::new(),
        answers,
        answers_used: 0,
        pending: None,
        parts: 0,
        reads_part: false,
        missing_tables: 0,
        others: Vec::new(),
        problems: Vec::new(),
        render: None,
        expressions: 0,
    };
    if let Some((name, columns)) = given
        && let Ok(rows) = binder.relation(RelationKind::Given, columns.to_vec(), Span::default())
    {
        binder.lets.insert(name.to_owned(), LetValue::Table(rows));
    }
    let tables = binder.query(query);
    match (tables, binder.pending) {
        (_, Some(pending)) if binder.problems.is_empty() => Ok(Bound::Needs(pending)),
        (Ok(tables), None) if binder.problems.is_empty() => {
            Ok(Bound::Query(BoundQuery { tables, render: binder.render }))
        }
        _ => Err(binder.problems),
    }
}

impl Binder<'_> {
    pub(super) fn report(&mut self, problem: Problem) -> Failed {
        self.problems.push(problem);
        Failed
    }

    pub(super) fn checked<T>(&mut self, result: Result<T, Problem>) -> BindResult<T> {
        result.map_err(|problem| self.report(problem))
    }

    /// Binds what need not succeed: the inner error holds the problems, which are not reported.
    pub(super) fn attempt<T>(
        &mut self,
        bind: impl FnOnce(&mut Self) -> BindResult<T>,
    ) -> BindResult<Result<T, Vec<Problem>>> {
        let before = self.problems.len();
        match bind(self) {
            Ok(made) => Ok(Ok(made)),
            // Binding begins again when the rows that are missing are known.
            Err(Failed) if self.pending.is_some() => Err(Failed),
            Err(Failed) => Ok(Err(self.problems.split_off(before))),
        }
    }

    /// Reports what an attempt kept.
    pub(super) fn report_all(&mut self, problems: Vec<Problem>) -> Failed {
        self.problems.extend(problems);
        Failed
    }

    /// Counts an expression towards the bound on the query's size.
    fn count_expression(&mut self, span: Span) -> BindResult<()> {
        self.expressions += 1;
        if self.expressions > EXPRESSIONS_MAX {
            let message = format!("more than {EXPRESSIONS_MAX} expressions");
            return Err(self.report(Problem::semantic(span, message)));
        }
        Ok(())
    }

    /// A relation of the tree, within the bounds on its size.
    pub(super) fn relation(
        &mut self,
        mut kind: RelationKind,
        columns: Vec<Column>,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let inputs = kind.inputs();
        let size: usize = inputs.iter().map(|input| input.size).sum();
        let depth = inputs.iter().map(|input| input.depth).max().unwrap_or(0);
        // An operator can take several relations.
        for (relations, most, what) in [
            (depth, PIPELINE_OPERATORS_MAX, "operators one after the other"),
            (size, OPERATORS_MAX, "operators"),
        ] {
            if relations >= RELATIONS_PER_OPERATOR * most {
                let message = format!("more than {most} {what}, with those of `let` tables");
                return Err(self.report(Problem::semantic(span, message)));
            }
        }
        hold_large(&mut kind);
        let costs = kind.costs();
        if costs.iter().chain(&kind.inner_costs()).any(|cost| cost.depth > COMPUTED_DEPTH_MAX) {
            let message = format!(
                "expressions that are built on each other are deeper than {COMPUTED_DEPTH_MAX} levels"
            );
            return Err(self.report(Problem::semantic(span, message)));
        }
        if let RelationKind::Aggregate { input, keys, .. } = &kind
            && keys.iter().any(|(_, key)| key.cost(input).nodes > KEY_NODES_MAX)
        {
            let message = format!("a key is computed from more than {KEY_NODES_MAX} expressions");
            return Err(self.report(Problem::semantic(span, message)));
        }
        Ok(Arc::new(Relation { kind, columns, costs, size: size + 1, depth: depth + 1 }))
    }

    /// Every statement; the tables are those of what is asked.
    fn query(&mut self, query: &ast::Query) -> BindResult<Vec<(String, Arc<Relation>)>> {
        let mut tables: Vec<(String, Arc<Relation>)> = Vec::new();
        let mut failed = false;
        for statement in &query.statements {
            let ast::Statement::Ask(asked) = statement else {
                failed |= self.statement(statement).is_err();
                continue;
            };
            match self.asked(asked) {
                Ok(_) if !self.others.is_empty() => tables.append(&mut self.others),
                Ok(relation) => {
                    tables.push((format!("PrimaryResult{}", suffix(tables.len())), relation));
                }
                Err(Failed) => failed = true,
            }
        }
        if failed || tables.is_empty() { Err(Failed) } else { Ok(tables) }
    }

    /// A table, or a value in a row of its own.
    fn asked(&mut self, expr: &ast::Expr) -> BindResult<Arc<Relation>> {
        match self.let_value(expr)? {
            LetValue::Table(relation) => Ok(relation),
            LetValue::Scalar(value) => self.one_row("print_0", &value),
            LetValue::Graph(_) => {
                let message = "a graph is no answer; end with `graph-match` or `graph-to-table`";
                Err(self.report(Problem::semantic(expr.span, message)))
            }
            LetValue::Function(_) => {
                let message = "a function is called with `()`";
                Err(self.report(Problem::semantic(expr.span, message)))
            }
            LetValue::Broken | LetValue::OfRow => Err(Failed),
        }
    }

    fn let_value(&mut self, value: &ast::Expr) -> BindResult<LetValue> {
        let table = match &value.kind {
            ast::ExprKind::Function(function) => return Ok(self.closure(function)),
            ast::ExprKind::Pipeline(_) => true,
            ast::ExprKind::Name(name) => match self.lets.get(name) {
                Some(LetValue::Function(_)) if self.function(name).is_some_and(takes_nothing) => {
                    return self.call_named(name, &[], None, &mut Scope::constants(), value.span);
                }
                Some(value) => return Ok(value.clone()),
                // A value by itself has no columns, so what is not known was meant for a table.
                None => true,
            },
            ast::ExprKind::Call { name, arguments } => {
                if self.function(&name.text).is_some() {
                    let mut scope = Scope::constants();
                    return self.call_named(&name.text, arguments, None, &mut scope, value.span);
                }
                matches!(name.text.as_str(), "table" | "materialize")
                    || self.patterns.contains_key(&name.text)
            }
            ast::ExprKind::Member(base, _) => match &base.kind {
                ast::ExprKind::Call { name, .. } => self.patterns.contains_key(&name.text),
                _ => false,
            },
            _ => false,
        };
        if table {
            return Ok(match self.stage(value)? {
                Stage::Rows(relation) => LetValue::Table(relation),
                Stage::Graph(graph) => LetValue::Graph(graph),
            });
        }
        let scalar = self.expr(value, &mut Scope::constants())?;
        Ok(LetValue::Scalar(scalar))
    }

    /// The relation of a table's name or of a pipeline.
    pub(super) fn table(&mut self, expr: &ast::Expr) -> BindResult<Arc<Relation>> {
        let stage = self.stage(expr)?;
        self.rows(stage, expr.span)
    }

    fn rows(&mut self, stage: Stage, span: Span) -> BindResult<Arc<Relation>> {
        match stage {
            Stage::Rows(relation) => Ok(relation),
            Stage::Graph(_) => {
                let message = "a graph is no table; `graph-match` and `graph-to-table` make one";
                Err(self.report(Problem::semantic(span, message)))
            }
        }
    }

    /// The table or graph of a name, of a function's call or of a pipeline.
    fn stage(&mut self, expr: &ast::Expr) -> BindResult<Stage> {
        let value = match &expr.kind {
            ast::ExprKind::Pipeline(pipeline) => return self.pipeline(pipeline, expr.span),
            ast::ExprKind::Name(name) => match self.lets.get(name) {
                Some(LetValue::Graph(graph)) => return Ok(Stage::Graph(graph.clone())),
                Some(LetValue::Function(_)) => {
                    self.call_named(name, &[], None, &mut Scope::constants(), expr.span)?
                }
                _ => return self.named_table(name, expr.span).map(Stage::Rows),
            },
            ast::ExprKind::Call { name, arguments } if self.function(&name.text).is_some() => {
                let mut scope = Scope::constants();
                self.call_named(&name.text, arguments, None, &mut scope, expr.span)?
            }
            _ => return self.plain_table(expr).map(Stage::Rows),
        };
        match (value, &expr.kind) {
            (LetValue::Table(relation), _) => Ok(Stage::Rows(relation)),
            (LetValue::Graph(graph), _) => Ok(Stage::Graph(graph)),
            (LetValue::Scalar(value), ast::ExprKind::Call { .. }) => {
                self.one_row("print_0", &value).map(Stage::Rows)
            }
            (LetValue::Scalar(_), _) => Err(self.no_table(expr)),
            (LetValue::Function(_) | LetValue::Broken | LetValue::OfRow, _) => Err(Failed),
        }
    }

    fn no_table(&mut self, expr: &ast::Expr) -> Failed {
        let message = format!("`{expr}` is a scalar, and a table is needed");
        self.report(Problem::semantic(expr.span, message))
    }

    /// A table of the repository, or what the language itself makes one of.
    fn plain_table(&mut self, expr: &ast::Expr) -> BindResult<Arc<Relation>> {
        match &expr.kind {
            ast::ExprKind::Call { name, arguments } if name.text == "table" => {
                match arguments.as_slice() {
                    [argument] => {
                        let value = self.expr(&argument.expr, &mut Scope::constants())?;
                        match value.as_text().map(str::to_owned) {
                            Some(name) => self.table_of_name(&name, expr.span),
                            None => {
                                let message = "`table` takes the name of a table as a string";
                                Err(self.report(Problem::semantic(expr.span, message)))
                            }
                        }
                    }
                    _ => {
                        let problem = Problem::unsupported(expr.span, "table() with a data scope");
                        Err(self.report(problem))
                    }
                }
            }
            // The engine caches a materialized table; here it is read as often as it is named.
            ast::ExprKind::Call { name, arguments } if name.text == "materialize" => {
                match arguments.as_slice() {
                    [argument] => self.table(&argument.expr),
                    _ => {
                        let message = "`materialize` takes one table";
                        Err(self.report(Problem::semantic(expr.span, message)))
                    }
                }
            }
            ast::ExprKind::Call { name, .. } if !self.patterns.contains_key(&name.text) => {
                Err(self.report(Problem::unsupported(name.span, format!("{}()", name.text))))
            }
            ast::ExprKind::Call { .. } | ast::ExprKind::Member(..) => self.pattern_table(expr),
            _ => Err(self.report(Problem::semantic(expr.span, "expected a table here"))),
        }
    }

    /// A table by its name as text: also one that the query gives, here or where the function that
    /// asks is called.
    fn table_of_name(&mut self, name: &str, span: Span) -> BindResult<Arc<Relation>> {
        let is_table = |lets: &Lets| match lets.get(name) {
            Some(LetValue::Table(_)) => true,
            Some(LetValue::Function(closure)) => closure.takes_nothing(),
            _ => false,
        };
        if is_table(&self.lets) {
            return self.named_table(name, span);
        }
        let Some(at) = self.callers.iter().rposition(is_table) else {
            return self.stored_table(name, span);
        };
        let lets = self.callers.get(at).cloned().unwrap_or_default();
        let inner = std::mem::replace(&mut self.lets, lets);
        let made = self.named_table(name, span);
        self.lets = inner;
        made
    }

    pub(super) fn named_table(&mut self, name: &str, span: Span) -> BindResult<Arc<Relation>> {
        match self.lets.get(name) {
            Some(LetValue::Table(relation)) => Ok(Arc::clone(relation)),
            Some(LetValue::Broken | LetValue::OfRow) => Err(Failed),
            Some(LetValue::Function(_)) => {
                match self.call_named(name, &[], None, &mut Scope::constants(), span)? {
                    LetValue::Table(relation) => Ok(relation),
                    _ => {
                        let message = format!("`{name}` is a scalar, and a table is needed");
                        Err(self.report(Problem::semantic(span, message)))
                    }
                }
            }
            Some(LetValue::Graph(graph)) => {
                let stage = Stage::Graph(graph.clone());
                self.rows(stage, span)
            }
            Some(LetValue::Scalar(_)) => {
                let message = format!("`{name}` is a scalar, and a table is needed");
                Err(self.report(Problem::semantic(span, message)))
            }
            None => self.stored_table(name, span),
        }
    }

    /// A table of the source, cut to the query's timespan.
    pub(super) fn stored_table(&mut self, name: &str, span: Span) -> BindResult<Arc<Relation>> {
        if !self.may_read(name) {
            let message = format!("access to `{name}` is restricted");
            return Err(self.report(Problem::semantic(span, message)));
        }
        let Some(provider) = self.source.table(name) else {
            let known = self.source.table_names();
            let lets: Vec<String> = self.lets.keys().cloned().collect();
            let known = known.iter().chain(&lets).map(String::as_str);
            let problem = Problem::semantic(span, format!("no table `{name}`")).near(name, known);
            self.missing_tables += 1;
            return Err(self.report(problem));
        };
        let schema = provider.schema();
        let mut columns = Vec::new();
        for field in schema.fields() {
            let Some(kql_type) = KqlType::of_field(field) else {
                let what = format!("column `{}` of Arrow type {}", field.name(), field.data_type());
                return Err(self.report(Problem::unsupported(span, what)));
            };
            columns.push(Column::new(field.name(), kql_type));
        }
        let kind = RelationKind::Scan { table: name.to_owned(), provider };
        let scan = self.relation(kind, columns, span)?;
        self.cut_to_timespan(scan, span)
    }

    fn cut_to_timespan(&mut self, scan: Arc<Relation>, span: Span) -> BindResult<Arc<Relation>> {
        let Some((start, end)) = self.timespan else { return Ok(scan) };
        let time = Column::new("TimeGenerated", KqlType::DateTime);
        if !scan.columns.contains(&time) {
            return Ok(scan);
        }
        let side = |comparison, ticks| {
            let time = Expr::column(time.name.clone(), KqlType::DateTime, span);
            let bound = Expr { kql_type: KqlType::DateTime, ..Expr::long(ticks, span) };
            function::operator::compare(comparison, time, bound, span)
        };
        let sides = [side(Comparison::GreaterOrEqual, start), side(Comparison::Less, end)];
        let sides = self.checked(sides.into_iter().collect::<Result<_, _>>())?;
        let predicate = Expr::new(ExprKind::And(sides), KqlType::Bool, span);
        let columns = scan.columns.clone();
        self.relation(RelationKind::Filter { input: scan, predicate }, columns, span)
    }

    /// The names of the source's tables and of views that fit a pattern with `*`.
    pub(super) fn tables_like(&self, pattern: &str) -> Vec<String> {
        let stored = self.source.table_names().into_iter().filter(|name| self.may_read(name));
        let mut found: Vec<String> =
            stored.chain(self.views()).filter(|name| names::matches(pattern, name)).collect();
        found.sort();
        found.dedup();
        found
    }

    /// Whether there is a table of the name, stored or given.
    pub(super) fn has_table(&self, name: &str) -> bool {
        match self.lets.get(name) {
            Some(value) => matches!(value, LetValue::Table(_) | LetValue::Function(_)),
            None => self.may_read(name) && self.source.table(name).is_some(),
        }
    }

    /// A table under the name that `withsource` shows.
    pub(super) fn named(
        &mut self,
        input: Arc<Relation>,
        name: &str,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let columns = input.columns.clone();
        let kind = RelationKind::Named { input, name: name.to_owned() };
        self.relation(kind, columns, span)
    }

    /// Gives a table a name for the rest of the query.
    pub(super) fn remember(&mut self, name: &str, relation: &Arc<Relation>) {
        self.lets.insert(name.to_owned(), LetValue::Table(Arc::clone(relation)));
    }

    /// Binds while a name stands for a value.
    pub(super) fn with_value<T>(
        &mut self,
        name: &str,
        value: Expr,
        bind: impl FnOnce(&mut Self) -> BindResult<T>,
    ) -> BindResult<T> {
        let outer = self.lets.insert(name.to_owned(), LetValue::Scalar(value));
        let made = bind(self);
        match outer {
            Some(outer) => drop(self.lets.insert(name.to_owned(), outer)),
            None => drop(self.lets.remove(name)),
        }
        made
    }

    fn pipeline(&mut self, pipeline: &ast::Pipeline, span: Span) -> BindResult<Stage> {
        let relation = match &pipeline.source {
            ast::Source::Table(expr) => {
                let stage = self.stage(expr)?;
                return self.stages(stage, &pipeline.operators);
            }
            ast::Source::Print(items) => self.print(items, span)?,
            ast::Source::Range { name, first, last, step } => {
                self.range(name, [first, last, step], span)?
            }
            ast::Source::DataTable { columns, values, span } => {
                self.datatable(columns, values, *span)?
            }
            ast::Source::Union(union) => self.union(None, union, span)?,
            ast::Source::Search(search) => self.search(None, search, span)?,
            ast::Source::Find(find) => self.find(find, span)?,
            ast::Source::Evaluate(evaluate) => self.evaluate(None, evaluate, span)?,
        };
        self.stages(Stage::Rows(relation), &pipeline.operators)
    }

    /// The operators of a pipeline, one after the other, up to rows.
    pub(super) fn operators(
        &mut self,
        relation: Arc<Relation>,
        operators: &[ast::Operator],
    ) -> BindResult<Arc<Relation>> {
        let stage = self.stages(Stage::Rows(relation), operators)?;
        self.rows(stage, operators.last().map(|last| last.span).unwrap_or_default())
    }

    fn stages(&mut self, mut stage: Stage, operators: &[ast::Operator]) -> BindResult<Stage> {
        for operator in operators {
            if !self.others.is_empty() {
                let message = "no operator can follow `fork` or `facet`";
                return Err(self.report(Problem::semantic(operator.span, message)));
            }
            stage = match (stage, &operator.kind) {
                (Stage::Rows(relation), ast::OperatorKind::MakeGraph(graph)) => {
                    self.graph(relation, graph, operator.span)?
                }
                (Stage::Rows(relation), _) => Stage::Rows(self.operator(relation, operator)?),
                (Stage::Graph(graph), _) => self.graph_operator(&graph, operator)?,
            };
        }
        Ok(stage)
    }

    /// One operator over an input.
    pub(super) fn operator(
        &mut self,
        input: Arc<Relation>,
        operator: &ast::Operator,
    ) -> BindResult<Arc<Relation>> {
        use ast::OperatorKind as Kind;
        let span = operator.span;
        match &operator.kind {
            Kind::Where(predicate) => self.filter(input, predicate, span),
            Kind::Project(items) => self.project(input, items, span),
            Kind::ProjectAway(patterns) => self.project_away(input, patterns, span),
            Kind::ProjectKeep(patterns) => self.project_keep(input, patterns, span),
            Kind::ProjectRename(renames) => self.project_rename(input, renames, span),
            Kind::Extend(items) => self.extend(input, items, span),
            Kind::Summarize { aggregates, keys } => self.summarize(input, aggregates, keys, span),
            Kind::Sort(keys) => self.sort(input, keys, None, span),
            Kind::Take(count) => self.take(input, count, span),
            Kind::Top { count, keys } => {
                let count = self.row_count(count)?;
                self.sort(input, keys, Some(count), span)
            }
            Kind::Count => self.count(input, span),
            Kind::Distinct(items) => self.distinct(input, items, span),
            Kind::Join(join) => self.join(input, join, span),
            Kind::Union(union) => self.union(Some(input), union, span),
            Kind::Expand(expand) => self.expand(input, expand, span),
            Kind::Apply { expand, operators } => self.apply(input, expand, operators, span),
            Kind::Render { visualization, properties } => {
                self.render = Some(Render::new(visualization, properties));
                Ok(input)
            }
            _ => self.larger_operator(input, operator),
        }
    }

    /// The operators with a syntax of their own.
    fn larger_operator(
        &mut self,
        input: Arc<Relation>,
        operator: &ast::Operator,
    ) -> BindResult<Arc<Relation>> {
        use ast::OperatorKind as Kind;
        let span = operator.span;
        match &operator.kind {
            Kind::Parse(parse) => self.parse(input, parse, span),
            Kind::ParseKv(parse) => self.parse_kv(input, parse, span),
            Kind::MakeSeries(series) => self.make_series(input, series, span),
            Kind::Scan(scan) => self.scan(input, scan, span),
            Kind::Partition(partition) => self.partition(input, partition, span),
            Kind::Serialize(items) => self.serialize(input, items, span),
            Kind::TopNested(levels) => self.top_nested(&input, levels, span),
            Kind::TopHitters(top) => self.top_hitters(input, top, span),
            Kind::Sample(count) => self.sample(input, count, span),
            Kind::SampleDistinct(count, of) => self.sample_distinct(input, count, of, span),
            Kind::Reduce(reduce) => self.reduce(input, reduce, span),
            Kind::Lookup(join) => self.lookup(input, join, span),
            Kind::Search(search) => self.search(Some(input), search, span),
            Kind::GetSchema => self.get_schema(&input, span),
            Kind::Consume => self.consume(input, span),
            Kind::As(name) => {
                let named = self.named(input, &name.text, span)?;
                self.remember(&name.text, &named);
                Ok(named)
            }
            Kind::Invoke(call) => self.invoke(input, call),
            Kind::ProjectReorder(orders) => self.project_reorder(input, orders, span),
            Kind::ProjectByNames(names) => self.project_by_names(input, names, span),
            Kind::Fork(forks) => self.fork(&input, forks),
            Kind::Facet(facet) => self.facet(&input, facet, span),
            Kind::Evaluate(evaluate) => self.evaluate(Some(input), evaluate, span),
            _ => {
                let message = "this operator takes a graph, which `make-graph` makes";
                Err(self.report(Problem::semantic(span, message)))
            }
        }
    }
}

/// The number after the name of a table that is not the first.
fn suffix(number: usize) -> String {
    if number == 0 { String::new() } else { number.to_string() }
}

fn takes_nothing(function: &ast::Function) -> bool {
    function.parameters.is_empty()
}
