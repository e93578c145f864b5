//! Names and types: the tree as written becomes the bound tree.
//!
//! Everything that is wrong with one operator is reported together; the pipeline is not bound
//! beyond it, because its columns are not known.

mod expression;

mod intrinsic;

mod names;

use super::TableSource;
use super::bound::{Column, Comparison, Expr, ExprKind, Relation, RelationKind};
use super::diagnostic::Problem;
use super::function;
use super::limits::{
    COMPUTED_DEPTH_MAX, COMPUTED_NODES_MAX, EXPRESSIONS_MAX, KEY_NODES_MAX, OPERATORS_MAX,
};
use super::render::Render;
use super::syntax::Span;
use super::syntax::ast;
use super::types::KqlType;
use std::collections::HashMap;
use std::sync::Arc;

pub(super) use expression::{Made, Scope};
pub(super) use names::{
    Items, column_name, literal_text, matches as name_matches, percentile_name,
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
    pub(super) relation: Arc<Relation>,
    pub(super) render: Option<Render>,
}

/// What a name of a `let` statement stands for.
#[derive(Clone, Debug)]
enum LetValue {
    Scalar(Expr),
    Table(Arc<Relation>),
    /// Its statement is wrong, which was reported.
    Broken,
}

/// The state of binding one query.
#[derive(Debug)]
pub(super) struct Binder<'a> {
    source: &'a dyn TableSource,
    /// The current time, in ticks.
    now: i64,
    /// Rows are read only from this instant up to that one, in ticks.
    timespan: Option<(i64, i64)>,
    /// What the next call of a random function draws from.
    seed: u64,
    lets: HashMap<String, LetValue>,
    problems: Vec<Problem>,
    pub(super) render: Option<Render>,
    expressions: usize,
}

/// Binds a query.
pub(super) fn bind(
    query: &ast::Query,
    source: &dyn TableSource,
    now: i64,
    timespan: Option<(i64, i64)>,
    seed: u64,
) -> Result<BoundQuery, Vec<Problem>> {
    let mut binder = Binder {
        source,
        now,
        timespan,
        seed,
        lets: HashMap::new(),
        problems: Vec::new(),
        render: None,
        expressions: 0,
    };
    match binder.query(query) {
        Ok(relation) if binder.problems.is_empty() => {
            Ok(BoundQuery { relation, render: binder.render })
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
        // An operator can take several relations.
        if size >= RELATIONS_PER_OPERATOR * OPERATORS_MAX {
            let message =
                format!("more than {OPERATORS_MAX} operators, with those of `let` tables");
            return Err(self.report(Problem::semantic(span, message)));
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
        Ok(Arc::new(Relation { kind, columns, costs, size: size + 1 }))
    }

    fn query(&mut self, query: &ast::Query) -> BindResult<Arc<Relation>> {
        for statement in &query.lets {
            let value = self.let_value(&statement.value).unwrap_or(LetValue::Broken);
            self.lets.insert(statement.name.text.clone(), value);
        }
        self.table(&query.body)
    }

    fn let_value(&mut self, value: &ast::Expr) -> BindResult<LetValue> {
        let table = match &value.kind {
            ast::ExprKind::Pipeline(_) => true,
            ast::ExprKind::Name(name) => match self.lets.get(name) {
                Some(value) => return Ok(value.clone()),
                None => self.source.table(name).is_some(),
            },
            ast::ExprKind::Call { name, .. } => {
                matches!(name.text.as_str(), "table" | "materialize")
            }
            _ => false,
        };
        if table {
            return self.table(value).map(LetValue::Table);
        }
        let scalar = self.expr(value, &mut Scope::constants())?;
        Ok(LetValue::Scalar(scalar))
    }

    /// The relation of a table's name or of a pipeline.
    pub(super) fn table(&mut self, expr: &ast::Expr) -> BindResult<Arc<Relation>> {
        match &expr.kind {
            ast::ExprKind::Pipeline(pipeline) => self.pipeline(pipeline, expr.span),
            ast::ExprKind::Name(name) => self.named_table(name, expr.span),
            ast::ExprKind::Call { name, arguments } if name.text == "table" => {
                match arguments.as_slice() {
                    [argument] => {
                        let value = self.expr(&argument.expr, &mut Scope::constants())?;
                        match value.as_text().map(str::to_owned) {
                            Some(name) => self.stored_table(&name, expr.span),
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
            ast::ExprKind::Call { name, .. } => {
                Err(self.report(Problem::unsupported(name.span, format!("{}()", name.text))))
            }
            _ => Err(self.report(Problem::semantic(expr.span, "expected a table here"))),
        }
    }

    fn named_table(&mut self, name: &str, span: Span) -> BindResult<Arc<Relation>> {
        match self.lets.get(name) {
            Some(LetValue::Table(relation)) => Ok(Arc::clone(relation)),
            Some(LetValue::Broken) => Err(Failed),
            Some(LetValue::Scalar(_)) => {
                let message = format!("`{name}` is a scalar, and a table is needed");
                Err(self.report(Problem::semantic(span, message)))
            }
            None => self.stored_table(name, span),
        }
    }

    /// A table of the source, cut to the query's timespan.
    pub(super) fn stored_table(&mut self, name: &str, span: Span) -> BindResult<Arc<Relation>> {
        let Some(provider) = self.source.table(name) else {
            let known = self.source.table_names();
            let lets: Vec<String> = self.lets.keys().cloned().collect();
            let known = known.iter().chain(&lets).map(String::as_str);
            let problem = Problem::semantic(span, format!("no table `{name}`")).near(name, known);
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

    /// The names of the source's tables that fit a pattern with `*`.
    pub(super) fn tables_like(&self, pattern: &str) -> Vec<String> {
        let mut found: Vec<String> = self
            .source
            .table_names()
            .into_iter()
            .filter(|name| names::matches(pattern, name))
            .collect();
        found.sort();
        found
    }

    fn pipeline(&mut self, pipeline: &ast::Pipeline, span: Span) -> BindResult<Arc<Relation>> {
        let mut relation = match &pipeline.source {
            ast::Source::Table(expr) => self.table(expr)?,
            ast::Source::Print(items) => self.print(items, span)?,
            ast::Source::Range { name, first, last, step } => {
                self.range(name, [first, last, step], span)?
            }
            ast::Source::DataTable { columns, values, span } => {
                self.datatable(columns, values, *span)?
            }
            ast::Source::Union(union) => self.union(None, union, span)?,
        };
        for operator in &pipeline.operators {
            relation = self.operator(relation, operator)?;
        }
        Ok(relation)
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
        }
    }
}
