//! The graph operators: rows as edges and nodes.

use crate::query::bind::{BindResult, Binder};
use crate::query::bound::Relation;
use crate::query::diagnostic::Problem;
use crate::query::syntax::Span;
use crate::query::syntax::ast::{MakeGraph, Operator};
use std::sync::Arc;

impl Binder<'_> {
    pub(crate) fn graph(
        &mut self,
        _edges: Arc<Relation>,
        _graph: &MakeGraph,
        _rest: &mut std::slice::Iter<'_, Operator>,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        Err(self.report(Problem::unsupported(span, "make-graph")))
    }
}
