//! `bag_unpack`: the members of a column of bags as columns.

use super::Arguments;
use crate::query::bind::{BindResult, Binder, Failed, Items};
use crate::query::bound::{Aggregate, AggregateFunction, Column, Expr, Relation, RelationKind};
use crate::query::diagnostic::Problem;
use crate::query::dynamic::View;
use crate::query::function;
use crate::query::function::gather::Gather;
use crate::query::syntax::Span;
use crate::query::syntax::ast::TypedName;
use crate::query::types::KqlType;
use datafusion::arrow::array::AsArray;
use datafusion::scalar::ScalarValue;
use std::sync::Arc;

/// The most columns that bags become.
const MEMBERS_MAX: usize = 10_000;

/// What happens to a member whose column is there already.
#[derive(Clone, Copy)]
enum Conflict {
    Refuse,
    Replace,
    Keep,
}

/// The options of a call.
struct Options {
    prefix: String,
    conflict: Conflict,
    ignored: Vec<String>,
}

impl Binder<'_> {
    /// The input's columns but that of the bags, then one for each member, by name. The types are
    /// those of the values, or those of the declared schema, for which nothing has to run before.
    pub(super) fn bag_unpack(
        &mut self,
        input: Arc<Relation>,
        mut arguments: Arguments<'_>,
        schema: Option<&[TypedName]>,
    ) -> BindResult<Arc<Relation>> {
        let span = arguments.span();
        let column = self.plugin_column(&input, arguments.next(), arguments.plugin)?;
        if column.kql_type != KqlType::Dynamic {
            let message = format!("column `{}` is no dynamic one", column.name);
            return Err(self.report(Problem::semantic(span, message)));
        }
        let options = self.unpack_options(&arguments)?;
        let members = match schema {
            Some(columns) => self.declared_members(columns, &input, &options)?,
            None => self.members_of(&input, &column, span)?,
        };
        let members: Vec<(Column, Expr)> = members
            .into_iter()
            .filter(|(key, _)| !options.ignored.contains(key))
            .map(|(key, kql_type)| {
                let bag = Expr::column(column.name.clone(), KqlType::Dynamic, span);
                let part = function::dynamic::part(bag, Expr::text(key.as_str(), span), span)?;
                let made = Column::new(format!("{}{key}", options.prefix), kql_type);
                Ok((made, function::of_dynamic(part, kql_type)))
            })
            .collect::<Result<_, _>>()
            .map_err(|problem| self.report(problem))?;
        self.unpacked(input, &column, &members, options.conflict, span)
    }

    fn unpacked(
        &mut self,
        input: Arc<Relation>,
        bags: &Column,
        members: &[(Column, Expr)],
        conflict: Conflict,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let mut items = Items::default();
        for column in &input.columns {
            let member = members.iter().find(|(made, _)| made.name == column.name);
            let own = || Expr::column(column.name.clone(), column.kql_type, span);
            match (member, conflict) {
                // The bags make room for a member of their name.
                (Some((_, value)), _) if column.name == bags.name => {
                    items.replace(&column.name, value.clone());
                }
                (None, _) if column.name == bags.name => {}
                (Some((_, value)), Conflict::Replace) => items.replace(&column.name, value.clone()),
                (Some((made, _)), Conflict::Refuse) => {
                    let message = format!("there is a column `{}` already", made.name);
                    return Err(self.report(Problem::semantic(span, message)));
                }
                (Some(_), Conflict::Keep) | (None, _) => items.replace(&column.name, own()),
            }
        }
        for (made, value) in members {
            if !input.columns.iter().any(|column| column.name == made.name) {
                items.replace(&made.name, value.clone());
            }
        }
        if items.items.is_empty() {
            return Err(self.report(Problem::semantic(span, "the bags have no members")));
        }
        self.projected(input, items, span)
    }

    /// `prefix`, `columnsConflict` and `ignoredProperties`, by place or by name.
    fn unpack_options(&mut self, arguments: &Arguments<'_>) -> BindResult<Options> {
        let plain = arguments.positional();
        let mut option = |names: &[&str], at: usize| {
            let named = names.iter().find_map(|name| arguments.named(name));
            match named.or_else(|| plain.get(at).copied()) {
                Some(expr) => self.plugin_constant(Some(expr), arguments.plugin).map(Some),
                None => Ok(None),
            }
        };
        let prefix = option(&["OutputColumnPrefix", "outputColumnPrefix"], 0)?;
        let conflict = option(&["columnsConflict"], 1)?;
        let ignored = option(&["ignoredProperties"], 2)?;
        let conflict = match conflict.as_ref().map(|conflict| conflict.as_text()) {
            None | Some(Some("error" | "")) => Conflict::Refuse,
            Some(Some("replace_source")) => Conflict::Replace,
            Some(Some("keep_source")) => Conflict::Keep,
            Some(_) => {
                let message = "`columnsConflict` is 'error', 'replace_source' or 'keep_source'";
                return Err(self.report(Problem::semantic(arguments.span(), message)));
            }
        };
        let prefix = prefix.as_ref().and_then(Expr::as_text).unwrap_or_default().to_owned();
        let mut names = Vec::new();
        if let Some(ScalarValue::BinaryView(Some(bytes))) =
            ignored.as_ref().and_then(Expr::as_constant)
            && let View::Array(items) = View::of(bytes)
        {
            names.extend(items.iter().filter_map(|item| match View::of(item) {
                View::Text(name) => Some(name.to_owned()),
                _ => None,
            }));
        }
        Ok(Options { prefix, conflict, ignored: names })
    }

    /// The declared columns that are members and not columns of the input.
    fn declared_members(
        &mut self,
        columns: &[TypedName],
        input: &Relation,
        options: &Options,
    ) -> BindResult<Vec<(String, KqlType)>> {
        let mut members = Vec::new();
        for column in columns {
            let name = &column.name.text;
            let kept = input.columns.iter().any(|known| known.name == *name)
                && !matches!(options.conflict, Conflict::Replace);
            if let Some(key) = name.strip_prefix(options.prefix.as_str()).filter(|_| !kept) {
                members.push((key.to_owned(), self.kql_type(&column.kql_type)?));
            }
        }
        Ok(members)
    }

    /// The members of all bags, by name, each with the type of its values.
    fn members_of(
        &mut self,
        input: &Arc<Relation>,
        bags: &Column,
        span: Span,
    ) -> BindResult<Vec<(String, KqlType)>> {
        let aggregate = Aggregate {
            function: AggregateFunction::Gather { gather: Gather::Schema, second: None },
            argument: Expr::column(bags.name.clone(), KqlType::Dynamic, span),
            filter: None,
            kql_type: KqlType::Dynamic,
        };
        let made = vec![Column::new("$schema", KqlType::Dynamic)];
        let aggregates = vec![("$schema".to_owned(), aggregate)];
        let kind =
            RelationKind::Aggregate { input: Arc::clone(input), keys: Vec::new(), aggregates };
        let schema = self.relation(kind, made, span)?;
        let rows = self.rows_of(&schema, span)?;
        let Some(schema) = rows.columns().first().and_then(|column| column.as_binary_view_opt())
        else {
            return Err(Failed);
        };
        let found = schema.iter().flatten().map(|schema| match View::of(schema) {
            // Bags among other values.
            View::Array(kinds) => {
                kinds.iter().map(View::of).find_map(View::as_bag).map(types).unwrap_or_default()
            }
            kind => kind.as_bag().map(types).unwrap_or_default(),
        });
        let found: Vec<_> = found.flatten().collect();
        if found.len() > MEMBERS_MAX {
            let message = format!("the bags have more than {MEMBERS_MAX} members");
            return Err(self.report(Problem::semantic(span, message)));
        }
        Ok(found)
    }
}

/// The type of each member of a schema.
fn types(members: crate::query::dynamic::Members<'_>) -> Vec<(String, KqlType)> {
    let of_name = |name: View<'_>| match name {
        View::Text("double") => Some(KqlType::Real),
        View::Text(name) => KqlType::of_name(name),
        _ => None,
    };
    let of_kind = |kind: View<'_>| match kind {
        View::Array(kinds) => {
            // Values of several types keep them.
            let mut kinds = kinds.iter().map(|kind| of_name(View::of(kind)));
            let first = kinds.next()?;
            first.filter(|_| kinds.all(|kind| kind == first))
        }
        one => of_name(one),
    };
    members
        .iter()
        .filter(|(key, _)| *key != "`indexer`")
        .map(|(key, kind)| (key.to_owned(), of_kind(View::of(kind)).unwrap_or(KqlType::Dynamic)))
        .collect()
}
