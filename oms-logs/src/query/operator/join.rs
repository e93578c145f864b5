//! `join`: pairs of rows with equal keys.

use crate::query::bind::{BindResult, Binder, Failed, Items};
use crate::query::bound::{Column, Expr, JoinKind, Relation, RelationKind};
use crate::query::diagnostic::Problem;
use crate::query::function::{self, common_type};
use crate::query::syntax::Span;
use crate::query::syntax::ast::{BinaryOperator, Expr as AstExpr, ExprKind, Join, Name};
use crate::query::types::KqlType;
use std::sync::Arc;

const KINDS: [&str; 14] = [
    "innerunique",
    "inner",
    "leftouter",
    "rightouter",
    "fullouter",
    "leftsemi",
    "semi",
    "leftanti",
    "anti",
    "leftantisemi",
    "rightsemi",
    "rightanti",
    "rightantisemi",
    "outer",
];

/// The kind, and whether the left side is first cut to one row for each key.
fn kind_of(name: &str) -> Option<(JoinKind, bool)> {
    Some(match name {
        "innerunique" => (JoinKind::Inner, true),
        "inner" => (JoinKind::Inner, false),
        "leftouter" => (JoinKind::LeftOuter, false),
        "rightouter" => (JoinKind::RightOuter, false),
        "fullouter" | "outer" => (JoinKind::FullOuter, false),
        "leftsemi" | "semi" => (JoinKind::LeftSemi, false),
        "leftanti" | "anti" | "leftantisemi" => (JoinKind::LeftAnti, false),
        "rightsemi" => (JoinKind::RightSemi, false),
        "rightanti" | "rightantisemi" => (JoinKind::RightAnti, false),
        _ => return None,
    })
}

impl Binder<'_> {
    /// Left columns, then right columns; a right name that the left has gets a number. Null keys
    /// equal each other, unlike elsewhere.
    pub(crate) fn join(
        &mut self,
        left: Arc<Relation>,
        join: &Join,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let kind = join.kind.as_ref().map_or("innerunique", |kind| kind.text.as_str());
        let Some((kind, unique)) = kind_of(kind) else {
            let at = join.kind.as_ref().map_or(span, |kind| kind.span);
            let message = format!("`{kind}` is not a kind of join");
            return Err(self.report(Problem::semantic(at, message).near(kind, KINDS)));
        };
        let right = self.table(&join.right)?;
        let keys = self.join_keys(&left, &right, join)?;
        let left = if unique {
            let names: Vec<String> = keys.iter().map(|(key, _)| key.name.clone()).collect();
            self.one_row_per(left, &names, span)?
        } else {
            left
        };
        self.joined(left, right, kind, &keys, span)
    }

    /// The left columns, and the right ones that are no keys.
    pub(crate) fn lookup(
        &mut self,
        left: Arc<Relation>,
        join: &Join,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let kind = match join.kind.as_ref().map(|kind| kind.text.as_str()) {
            None | Some("leftouter") => JoinKind::LeftOuter,
            Some("inner") => JoinKind::Inner,
            Some(other) => {
                let at = join.kind.as_ref().map_or(span, |kind| kind.span);
                let message = format!("`{other}` is not a kind of lookup");
                let problem = Problem::semantic(at, message).near(other, ["inner", "leftouter"]);
                return Err(self.report(problem));
            }
        };
        let right = self.table(&join.right)?;
        let keys = self.join_keys(&left, &right, join)?;
        let is_key = |at: usize| {
            let column = right.columns.get(at);
            column.is_some_and(|column| keys.iter().any(|(_, key)| key == column))
        };
        let kept: Vec<bool> = (0..left.columns.len())
            .map(|_| true)
            .chain((0..right.columns.len()).map(|at| !is_key(at)))
            .collect();
        let renamed = lookup_names(&left.columns, &right.columns, &kept);
        let joined = self.joined(left, Arc::clone(&right), kind, &keys, span)?;
        let mut items = Items::default();
        for ((column, kept), name) in joined.columns.iter().zip(&kept).zip(renamed) {
            if *kept {
                let expr = Expr::column(column.name.clone(), column.kql_type, span);
                items.replace(&name, expr);
            }
        }
        self.projected(joined, items, span)
    }

    fn join_keys(
        &mut self,
        left: &Relation,
        right: &Relation,
        join: &Join,
    ) -> BindResult<Vec<(Column, Column)>> {
        let mut keys = Vec::new();
        for condition in &join.on {
            let parts = match &condition.kind {
                ExprKind::And(parts) => parts.as_slice(),
                _ => std::slice::from_ref(condition),
            };
            for part in parts {
                keys.push(self.join_key(left, right, part)?);
            }
        }
        Ok(keys)
    }

    pub(crate) fn joined(
        &mut self,
        left: Arc<Relation>,
        right: Arc<Relation>,
        kind: JoinKind,
        keys: &[(Column, Column)],
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        // Both sides get names of their own, so that none is shared.
        let (mut left_items, mut right_items) = (Items::default(), Items::default());
        let prefixed = |side: &str, name: &str| Name { text: format!("{side}{name}"), span };
        let mut made = Items::default();
        let both = !matches!(kind, JoinKind::RightSemi | JoinKind::RightAnti);
        for column in &left.columns {
            let name = prefixed("$left.", &column.name);
            let expr = Expr::column(column.name.clone(), column.kql_type, span);
            self.checked(left_items.add_named(&name, expr))?;
            if both {
                let out = Expr::column(name.text, column.kql_type, span);
                made.add_implied(Some(column.name.clone()), "Column", out);
            }
        }
        let with_right = !matches!(kind, JoinKind::LeftSemi | JoinKind::LeftAnti);
        for column in &right.columns {
            let name = prefixed("$right.", &column.name);
            let expr = Expr::column(column.name.clone(), column.kql_type, span);
            self.checked(right_items.add_named(&name, expr))?;
            if with_right {
                let out = Expr::column(name.text, column.kql_type, span);
                made.add_implied(Some(column.name.clone()), "Column", out);
            }
        }
        let mut pairs = Vec::new();
        for (at, (from_left, from_right)) in keys.iter().enumerate() {
            let Some(kql_type) = common_type([from_left.kql_type, from_right.kql_type]) else {
                return Err(Failed);
            };
            let side = |items: &mut Items, column: &Column, name: String| {
                let expr = Expr::column(column.name.clone(), column.kql_type, span);
                let name = Name { text: name, span };
                items.add_named(&name, function::cast(expr, kql_type)).map(|()| name.text)
            };
            let left_key = side(&mut left_items, from_left, format!("$leftkey{at}"));
            let right_key = side(&mut right_items, from_right, format!("$rightkey{at}"));
            pairs.push((self.checked(left_key)?, self.checked(right_key)?));
        }
        let left = self.projected(left, left_items, span)?;
        let right = self.projected(right, right_items, span)?;
        let columns: Vec<Column> = left.columns.iter().chain(&right.columns).cloned().collect();
        let kind = RelationKind::Join { left, right, kind, keys: pairs };
        let joined = self.relation(kind, columns, span)?;
        self.projected(joined, made, span)
    }

    /// `name` or `$left.name == $right.name`.
    fn join_key(
        &mut self,
        left: &Relation,
        right: &Relation,
        condition: &AstExpr,
    ) -> BindResult<(Column, Column)> {
        let (left_name, right_name) = match &condition.kind {
            ExprKind::Name(name) => {
                let name = Name { text: name.clone(), span: condition.span };
                (name.clone(), name)
            }
            ExprKind::Binary { operator: BinaryOperator::Equal, left, right } => {
                match (side(left), side(right)) {
                    (Some(("$left", left)), Some(("$right", right))) => (left, right),
                    (Some(("$right", right)), Some(("$left", left))) => (left, right),
                    _ => return Err(self.bad_condition(condition.span)),
                }
            }
            _ => return Err(self.bad_condition(condition.span)),
        };
        let left_key = self.join_column(left, &left_name)?;
        let right_key = self.join_column(right, &right_name)?;
        let types = [left_key.kql_type, right_key.kql_type];
        if common_type(types).is_none_or(|kql_type| kql_type == KqlType::Dynamic) {
            let message = format!("{} and {} cannot be joined", types[0], types[1]);
            return Err(self.report(Problem::semantic(condition.span, message)));
        }
        Ok((left_key, right_key))
    }

    fn bad_condition(&mut self, span: Span) -> Failed {
        let message = "expected a column of both sides, or `$left.a == $right.b`";
        self.report(Problem::semantic(span, message))
    }

    fn join_column(&mut self, relation: &Relation, name: &Name) -> BindResult<Column> {
        match relation.columns.iter().find(|column| column.name == name.text) {
            Some(column) => Ok(column.clone()),
            None => Err(self.no_column(relation, name)),
        }
    }
}

/// The names of a lookup's columns: keys of the right side take none from the others.
fn lookup_names(left: &[Column], right: &[Column], kept: &[bool]) -> Vec<String> {
    let mut names = Items::default();
    let mut all = Vec::new();
    for (column, kept) in left.iter().chain(right).zip(kept) {
        let name = names.free(&column.name);
        if *kept {
            let null = Expr::null(column.kql_type, Span::default());
            names.add_implied(Some(column.name.clone()), "Column", null);
        }
        all.push(name);
    }
    all
}

/// `$left.name` or `$right.name` in its two parts.
fn side(expr: &AstExpr) -> Option<(&str, Name)> {
    match &expr.kind {
        ExprKind::Member(side, name) => match &side.kind {
            ExprKind::Name(side) => Some((side, name.clone())),
            _ => None,
        },
        _ => None,
    }
}
