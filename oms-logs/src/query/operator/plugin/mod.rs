//! `evaluate`: the plugins, one file per family.

mod activity;

mod bag_unpack;

mod funnel;

mod geo;

mod ip;

mod lookup;

mod mining;

mod patterns;

mod rolling;

mod schema_merge;

mod sequence;

mod shape;

mod timeline;

use crate::query::bind::{BindResult, Binder, Items, Scope};
use crate::query::bound::{Column, Expr, Relation, RelationKind};
use crate::query::diagnostic::Problem;
use crate::query::plan::TableFunction;
use crate::query::syntax::Span;
use crate::query::syntax::ast::{self, Evaluate};
use datafusion::arrow::array::{ArrayRef, RecordBatch};
use std::sync::Arc;

/// Plugins of the language that this version does not run.
const UNSUPPORTED: [&str; 22] = [
    "ai_chat_completion",
    "ai_chat_completion_prompt",
    "ai_embed_text",
    "ai_embeddings",
    "azure_digital_twins_query_request",
    "cosmosdb_sql_request",
    "csharp",
    "dax_request",
    "diffpatterns_text",
    "estimate_rows_count",
    "execute_query",
    "execute_show_command",
    "external_datatable",
    "http_request",
    "http_request_post",
    "infer_storage_schema",
    "infer_storage_schema_with_suggestions",
    "mysql_request",
    "postgresql_request",
    "python",
    "r",
    "sql_request",
];
/// The plugins that this version runs.
const NAMES: [&str; 26] = [
    "active_users_count",
    "activity_counts_metrics",
    "activity_engagement",
    "activity_metrics",
    "autocluster",
    "bag_unpack",
    "basket",
    "dcount_intersect",
    "diffpatterns",
    "funnel_sequence",
    "funnel_sequence_completion",
    "geo_line_lookup",
    "geo_polygon_lookup",
    "identity",
    "ipv4_lookup",
    "ipv6_lookup",
    "narrow",
    "new_activity_metrics",
    "pivot",
    "preview",
    "rolling_percentile",
    "rows_near",
    "schema_merge",
    "sequence_detect",
    "session_count",
    "sliding_window_counts",
];

/// The most sets of `dcount_intersect`, whose unions double with each.
const SETS_MAX: usize = 6;

/// The arguments of a plugin, taken one after the other.
pub(super) struct Arguments<'a> {
    pub(super) plugin: &'a ast::Name,
    rest: std::slice::Iter<'a, ast::NamedExpr>,
}

impl<'a> Arguments<'a> {
    pub(super) fn next(&mut self) -> Option<&'a ast::Expr> {
        self.rest.next().map(|argument| &argument.expr)
    }

    /// The value of `name = value` among the arguments that are left.
    pub(super) fn named(&self, name: &str) -> Option<&'a ast::Expr> {
        let named = self
            .rest
            .clone()
            .find(|argument| argument.name.as_ref().is_some_and(|of| of.text == name));
        named.map(|argument| &argument.expr)
    }

    /// The arguments that are left and have no name.
    pub(super) fn positional(&self) -> Vec<&'a ast::Expr> {
        let plain = self.rest.clone().filter(|argument| argument.name.is_none());
        plain.map(|argument| &argument.expr).collect()
    }

    pub(super) const fn span(&self) -> Span {
        self.plugin.span
    }
}

impl Binder<'_> {
    /// What a plugin makes of the rows.
    pub(crate) fn evaluate(
        &mut self,
        input: Option<Arc<Relation>>,
        evaluate: &Evaluate,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let plugin = &evaluate.name;
        let text = plugin.text.as_str();
        if !NAMES.contains(&text) {
            if UNSUPPORTED.contains(&text) {
                let what = format!("plugin {text}");
                return Err(self.report(Problem::unsupported(plugin.span, what)));
            }
            let message = format!("no plugin `{text}`");
            let known = NAMES.into_iter().chain(UNSUPPORTED);
            return Err(self.report(Problem::semantic(plugin.span, message).near(text, known)));
        }
        let Some(input) = input else {
            let message = format!("plugin `{text}` takes a table");
            return Err(self.report(Problem::semantic(span, message)));
        };
        let arguments = Arguments { plugin, rest: evaluate.arguments.iter() };
        let schema = evaluate.schema.as_ref().map(|(_, columns)| columns.as_slice());
        let made = match text {
            "bag_unpack" => {
                let declared = schema.filter(|columns| !columns.is_empty());
                let keeps = evaluate.schema.as_ref().is_some_and(|(star, _)| *star);
                let made = self.bag_unpack(input, arguments, declared)?;
                // A star keeps the columns of the input that are not declared.
                if keeps {
                    return Ok(made);
                }
                made
            }
            _ => self.plugin(input, arguments)?,
        };
        match &evaluate.schema {
            Some((_, columns)) if !columns.is_empty() => self.in_schema(made, columns, span),
            _ => Ok(made),
        }
    }

    fn plugin(
        &mut self,
        input: Arc<Relation>,
        arguments: Arguments<'_>,
    ) -> BindResult<Arc<Relation>> {
        match arguments.plugin.text.as_str() {
            "pivot" => self.pivot(input, arguments),
            "narrow" => self.narrow(input, arguments.span()),
            "preview" => self.preview(input, arguments),
            "rows_near" => self.rows_near(input, arguments),
            "schema_merge" => self.schema_merge(input, &arguments),
            "geo_line_lookup" => self.geo_lookup(input, arguments, true),
            "geo_polygon_lookup" => self.geo_lookup(input, arguments, false),
            "ipv4_lookup" => self.ip_lookup(input, arguments, false),
            "ipv6_lookup" => self.ip_lookup(input, arguments, true),
            "rolling_percentile" => self.rolling_percentile(input, arguments),
            "dcount_intersect" => self.dcount_intersect(input, &arguments),
            "autocluster" | "basket" | "diffpatterns" => self.common_patterns(input, arguments),
            "funnel_sequence" => self.funnel_sequence(input, arguments),
            "funnel_sequence_completion" => self.funnel_sequence_completion(input, arguments),
            "sequence_detect" => self.sequence_detect(input, arguments),
            "identity" => Ok(input),
            _ => self.activity(input, arguments),
        }
    }

    /// How many values the first set has, the first two have in common, and so on: by inclusion and
    /// exclusion of their unions.
    fn dcount_intersect(
        &mut self,
        input: Arc<Relation>,
        arguments: &Arguments<'_>,
    ) -> BindResult<Arc<Relation>> {
        let span = arguments.span();
        let sets = self.exprs(arguments.positional(), &mut Scope::rows(&input.columns))?;
        if !(2..=SETS_MAX).contains(&sets.len()) {
            let message = format!("plugin `dcount_intersect` takes 2 to {SETS_MAX} sets");
            return Err(self.report(Problem::semantic(span, message)));
        }
        let mut items = Items::default();
        for count in 1..=sets.len() {
            let mut common = Expr::long(0, span);
            for chosen in 1_u32..1 << count {
                let union: Vec<Expr> = sets
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| chosen & (1 << at) != 0)
                    .map(|(_, set)| set.clone())
                    .collect();
                let odd = union.len() % 2 == 1;
                let union = match <[Expr; 1]>::try_from(union) {
                    Ok([only]) => only,
                    Err(several) => self.call_built_in("hll_merge", several)?,
                };
                let size = self.call_built_in("dcount_hll", vec![union])?;
                let sign =
                    if odd { ast::BinaryOperator::Add } else { ast::BinaryOperator::Subtract };
                common = self.binary_of(sign, common, size, span)?;
            }
            items.replace(&format!("s{}", count - 1), common);
        }
        self.projected(input, items, span)
    }

    /// The declared columns, in order; those that are not there are null.
    fn in_schema(
        &mut self,
        input: Arc<Relation>,
        columns: &[ast::TypedName],
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let mut items = Items::default();
        for column in columns {
            let wanted = self.kql_type(&column.kql_type)?;
            let there = input.columns.iter().find(|of| of.name == column.name.text);
            let value = match there {
                Some(of) => {
                    let value = Expr::column(&of.name, of.kql_type, span);
                    self.converted(value, wanted)?
                }
                None => Expr::null(wanted, span),
            };
            self.checked(items.add_named(&column.name, value))?;
        }
        self.projected(input, items, span)
    }

    /// The column that an argument names.
    pub(super) fn plugin_column(
        &mut self,
        input: &Relation,
        argument: Option<&ast::Expr>,
        plugin: &ast::Name,
    ) -> BindResult<Column> {
        let Some(argument) = argument else {
            let message = format!("plugin `{}` lacks an argument", plugin.text);
            return Err(self.report(Problem::semantic(plugin.span, message)));
        };
        let ast::ExprKind::Name(name) = &argument.kind else {
            let message = format!("plugin `{}` takes a column here", plugin.text);
            return Err(self.report(Problem::semantic(argument.span, message)));
        };
        match input.columns.iter().find(|column| column.name == *name) {
            Some(column) => Ok(column.clone()),
            None => {
                let name = ast::Name { text: name.clone(), span: argument.span };
                Err(self.no_column(input, &name))
            }
        }
    }

    /// The constant that an argument is.
    pub(super) fn plugin_constant(
        &mut self,
        argument: Option<&ast::Expr>,
        plugin: &ast::Name,
    ) -> BindResult<Expr> {
        let Some(argument) = argument else {
            let message = format!("plugin `{}` lacks an argument", plugin.text);
            return Err(self.report(Problem::semantic(plugin.span, message)));
        };
        self.expr(argument, &mut Scope::constants())
    }

    /// Whether a named option is on.
    pub(super) fn plugin_flag(
        &mut self,
        arguments: &Arguments<'_>,
        name: &str,
    ) -> BindResult<bool> {
        match arguments.named(name) {
            Some(value) => {
                let bound = self.expr(value, &mut Scope::constants())?;
                let on = datafusion::scalar::ScalarValue::Boolean(Some(true));
                Ok(bound.as_constant() == Some(&on))
            }
            None => Ok(false),
        }
    }

    /// A relation of a function over tables.
    pub(super) fn table_function(
        &mut self,
        inputs: Vec<Arc<Relation>>,
        function: Arc<dyn TableFunction>,
        columns: Vec<Column>,
        serialized: bool,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        self.relation(RelationKind::Table { inputs, function, serialized }, columns, span)
    }
}

/// The columns of a batch from one on.
pub(super) fn columns_from(batch: &RecordBatch, from: usize) -> &[ArrayRef] {
    batch.columns().get(from..).unwrap_or_default()
}
