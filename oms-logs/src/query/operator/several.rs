//! `fork` and `facet`: several tables out of one.

use crate::query::bind::{BindResult, Binder};
use crate::query::bound::{Column, Relation};
use crate::query::diagnostic::Problem;
use crate::query::syntax::Span;
use crate::query::syntax::ast::{Facet, Fork};
use crate::query::types::KqlType;
use std::sync::Arc;

impl Binder<'_> {
    /// A table for each fork; no operator can follow.
    pub(crate) fn fork(
        &mut self,
        input: &Arc<Relation>,
        forks: &[Fork],
    ) -> BindResult<Arc<Relation>> {
        let mut tables = Vec::new();
        for (at, fork) in forks.iter().enumerate() {
            let table = self.operators(Arc::clone(input), &fork.operators)?;
            let name = fork.name.as_ref().map(|name| name.text.clone());
            tables.push((name.unwrap_or_else(|| format!("GenericResult{at}")), table));
        }
        self.answer_with(tables, input)
    }

    /// A table of counts for each column, and one of the rows if something is done to them.
    pub(crate) fn facet(
        &mut self,
        input: &Arc<Relation>,
        facet: &Facet,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let mut tables = Vec::new();
        for name in &facet.columns {
            let Some(column) = input.columns.iter().find(|column| column.name == name.text) else {
                return Err(self.no_column(input, name));
            };
            if column.kql_type == KqlType::Dynamic {
                let problem = Problem::unsupported(name.span, "facet by a dynamic column");
                return Err(self.report(problem));
            }
            let keys: Vec<Column> = vec![column.clone()];
            let count = format!("count_{}", column.name);
            let counted = self.counted(Arc::clone(input), &keys, &count, span)?;
            tables.push((name.text.clone(), counted));
        }
        if !facet.operators.is_empty() {
            let table = self.operators(Arc::clone(input), &facet.operators)?;
            tables.push(("FacetResult".to_owned(), table));
        }
        self.answer_with(tables, input)
    }

    /// Makes the tables the answer.
    fn answer_with(
        &mut self,
        tables: Vec<(String, Arc<Relation>)>,
        input: &Arc<Relation>,
    ) -> BindResult<Arc<Relation>> {
        let first =
            tables.first().map_or_else(|| Arc::clone(input), |(_, first)| Arc::clone(first));
        self.others.extend(tables);
        Ok(first)
    }
}
