//! The named nodes and edges of a pattern, and what a query says of them.

use super::{HIDDEN, PARTITION, match_column, paths};
use crate::query::bound::{Column, Relation};
use crate::query::diagnostic::Problem;
use crate::query::dynamic::Value;
use crate::query::syntax::Span;
use crate::query::syntax::ast::{
    self, EdgeCount, Expr, ExprKind, GraphDirection, GraphMatch, Name,
};
use crate::query::types::KqlType;

/// How the values of an edge of variable length become one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ListKind {
    All,
    Any,
    Map,
}

/// `map(edge, expression)` and its kin: a value for each edge, or node between them.
#[derive(Debug)]
pub(super) struct List {
    pub(super) kind: ListKind,
    /// The edge's place.
    pub(super) edge: usize,
    pub(super) of_nodes: bool,
    pub(super) expr: Expr,
    /// The column of the nodes or edges, and of the matches.
    pub(super) column: String,
    pub(super) kql_type: KqlType,
}

/// A condition on one node or edge alone, by which paths are cut short.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) of_nodes: bool,
    /// The node's or edge's place.
    element: usize,
    pub(super) expr: Expr,
    pub(super) column: String,
}

/// An edge of a chain and the node after it, by their places.
#[derive(Clone, Copy, Debug)]
struct Link {
    edge: usize,
    direction: GraphDirection,
    least: u64,
    most: u64,
    next: usize,
}

#[derive(Debug)]
pub(super) struct Elements {
    /// Names; those that are not given are `$node0`, `$edge0`, ….
    pub(super) nodes: Vec<String>,
    /// Names, and whether they stand for several edges.
    pub(super) edges: Vec<(String, bool)>,
    chains: Vec<(usize, Vec<Link>)>,
    pub(super) lists: Vec<List>,
    pub(super) checks: Vec<Check>,
    problem: Option<Problem>,
}

/// Whether the query calls a function.
pub(super) fn calls(wanted: &GraphMatch, function: &str) -> bool {
    let project = wanted.project.iter().map(|item| &item.expr);
    wanted.predicate.iter().chain(project).any(|expr| expr.to_string().contains(function))
}

impl Elements {
    /// The elements of a pattern, with the conditions that are on one of them alone.
    pub(super) fn of(wanted: &GraphMatch) -> Self {
        let mut elements = Self {
            nodes: Vec::new(),
            edges: Vec::new(),
            chains: Vec::new(),
            lists: Vec::new(),
            checks: Vec::new(),
            problem: None,
        };
        for pattern in &wanted.patterns {
            let first = elements.node(pattern.first.as_ref());
            let mut steps = Vec::new();
            for (edge, node) in &pattern.edges {
                let name = match &edge.name {
                    Some(name) => name.text.clone(),
                    None => format!("$edge{}", elements.edges.len()),
                };
                if elements.edges.iter().any(|(known, _)| *known == name)
                    || elements.nodes.contains(&name)
                {
                    let span = edge.name.as_ref().map(|name| name.span).unwrap_or_default();
                    let message = format!("`{name}` stands for an element already");
                    elements.problem = Some(Problem::semantic(span, message));
                }
                let place = elements.edges.len();
                elements.edges.push((name, edge.length.is_some()));
                let number = |count: &EdgeCount| match count {
                    EdgeCount::Number(count) => *count,
                    EdgeCount::Name(_) => u64::MAX,
                };
                let (least, most) = match &edge.length {
                    Some((least, most)) => (number(least), number(most)),
                    None => (1, 1),
                };
                if least > most || most > paths::LENGTH_MAX {
                    let span = edge.name.as_ref().map(|name| name.span).unwrap_or_default();
                    let message =
                        format!("an edge has 0 to {} lengths, in order", paths::LENGTH_MAX);
                    elements.problem = Some(Problem::semantic(span, message));
                }
                let next = elements.node(node.as_ref());
                let direction = edge.direction;
                steps.push(Link { edge: place, direction, least, most, next });
            }
            elements.chains.push((first, steps));
        }
        if let Some(predicate) = &wanted.predicate {
            elements.find_checks(predicate);
        }
        elements
    }

    pub(super) fn check(&mut self) -> Result<(), Problem> {
        self.problem.take().map_or(Ok(()), Err)
    }

    fn node(&mut self, name: Option<&Name>) -> usize {
        let name = match name {
            Some(name) => name.text.clone(),
            None => format!("$node{}", self.nodes.len()),
        };
        match self.nodes.iter().position(|known| *known == name) {
            Some(place) => place,
            None => {
                self.nodes.push(name);
                self.nodes.len() - 1
            }
        }
    }

    /// Conditions that hold of one element whatever the others are.
    fn find_checks(&mut self, predicate: &Expr) {
        let parts = match &predicate.kind {
            ExprKind::And(parts) => parts.as_slice(),
            _ => std::slice::from_ref(predicate),
        };
        for part in parts {
            let mut named = Vec::new();
            elements_in(part, &mut named);
            named.dedup();
            let [name] = named.as_slice() else { continue };
            let node = self.nodes.iter().position(|known| known == name);
            let edge = self.edges.iter().position(|(known, several)| known == name && !several);
            let (of_nodes, element) = match (node, edge) {
                (Some(node), _) => (true, node),
                (None, Some(edge)) => (false, edge),
                (None, None) => continue,
            };
            let column = format!("$check{}", self.checks.len());
            let expr = of_one(part, name);
            self.checks.push(Check { of_nodes, element, expr, column });
        }
    }

    /// The expression over the columns of matches: calls over edges of variable length become
    /// columns.
    pub(super) fn rewritten(&mut self, expr: &Expr) -> Expr {
        if let ExprKind::Call { name, arguments } = &expr.kind {
            if let Some(list) = self.list(&name.text, arguments) {
                return named(&list, expr.span);
            }
            // No node and no edge of `make-graph` has labels.
            if name.text == "labels"
                && let [ast::NamedExpr { expr: Expr { kind: ExprKind::Name(of), .. }, .. }] =
                    arguments.as_slice()
                && self.has(of)
            {
                return no_labels(expr.span);
            }
            if matches!(name.text.as_str(), "node_degree_in" | "node_degree_out")
                && let [argument] = arguments.as_slice()
            {
                let part = Name { text: format!("${}", name.text), span: name.span };
                let kind = ExprKind::Member(Box::new(argument.expr.clone()), part);
                return Expr::new(kind, expr.span);
            }
        }
        // A property of an edge of variable length is that of each edge.
        if let ExprKind::Member(base, part) = &expr.kind
            && let ExprKind::Name(edge) = &base.kind
            && self.edges.iter().any(|(known, several)| known == edge && *several)
        {
            let item = |expr| ast::NamedExpr { name: None, expr };
            let value = named(&part.text, expr.span);
            if let Some(list) = self.list("map", &[item((**base).clone()), item(value)]) {
                return named(&list, expr.span);
            }
        }
        // The edge itself is an array of the bags of its edges' properties.
        if let ExprKind::Name(edge) = &expr.kind
            && self.edges.iter().any(|(known, several)| known == edge && *several)
        {
            let item = |expr| ast::NamedExpr { name: None, expr };
            let all = Expr::new(ExprKind::Star("*".to_owned()), expr.span);
            if let Some(list) = self.list("map", &[item(expr.clone()), item(all)]) {
                return named(&list, expr.span);
            }
        }
        map_parts(expr, &mut |part| self.rewritten(part))
    }

    fn has(&self, name: &str) -> bool {
        self.nodes.iter().any(|known| known == name)
            || self.edges.iter().any(|(known, _)| known == name)
    }

    /// `all(edge, condition)`, `any(inner_nodes(edge), condition)`, `map(edge, expression)`
    fn list(&mut self, function: &str, arguments: &[ast::NamedExpr]) -> Option<String> {
        let kind = match function {
            "all" => ListKind::All,
            "any" => ListKind::Any,
            "map" => ListKind::Map,
            _ => return None,
        };
        let [of, value] = arguments else { return None };
        let (edge, of_nodes) = match &of.expr.kind {
            ExprKind::Name(name) => (name, false),
            ExprKind::Call { name, arguments } if name.text == "inner_nodes" => {
                match arguments.first().map(|argument| &argument.expr.kind) {
                    Some(ExprKind::Name(name)) => (name, true),
                    _ => return None,
                }
            }
            _ => return None,
        };
        let edge = self.edges.iter().position(|(known, _)| known == edge)?;
        let column = format!("$list{}", self.lists.len());
        let expr = of_each(&value.expr);
        self.lists.push(List {
            kind,
            edge,
            of_nodes,
            expr,
            column: column.clone(),
            kql_type: KqlType::Bool,
        });
        Some(column)
    }

    /// The columns of the matches and where they come from.
    pub(super) fn outputs(
        &self,
        nodes: &Relation,
        edges: &Relation,
    ) -> (Vec<Column>, Vec<paths::Output>) {
        let (mut columns, mut outputs) = (Vec::new(), Vec::new());
        let hidden = |name: &str| {
            HIDDEN.contains(&name) || name.starts_with("$list") || name.starts_with("$check")
        };
        for (element, name) in self.nodes.iter().enumerate() {
            for (at, column) in nodes.columns.iter().enumerate() {
                if !hidden(&column.name) && !name.starts_with('$') {
                    columns.push(Column::new(match_column(name, &column.name), column.kql_type));
                    outputs.push(paths::Output::Node { element, column: at });
                }
            }
        }
        for (element, (name, several)) in self.edges.iter().enumerate() {
            for (at, column) in edges.columns.iter().enumerate() {
                if !hidden(&column.name) && !name.starts_with('$') && !several {
                    columns.push(Column::new(match_column(name, &column.name), column.kql_type));
                    outputs.push(paths::Output::Edge { element, column: at });
                }
            }
        }
        for list in &self.lists {
            let relation = if list.of_nodes { nodes } else { edges };
            let at = relation.columns.iter().position(|column| column.name == list.column);
            let kql_type =
                if list.kind == ListKind::Map { KqlType::Dynamic } else { KqlType::Bool };
            columns.push(Column::new(&list.column, kql_type));
            outputs.push(paths::Output::List {
                kind: list.kind,
                element: list.edge,
                of_nodes: list.of_nodes,
                column: at.unwrap_or(0),
                kql_type: list.kql_type,
            });
        }
        // Which of many graphs a match is of.
        if let Some(column) = nodes.columns.iter().position(|column| column.name == PARTITION) {
            columns.push(Column::new(PARTITION, KqlType::String));
            outputs.push(paths::Output::Node { element: 0, column });
        }
        (columns, outputs)
    }

    /// What a column of the matches is called where the query does not choose.
    pub(super) fn plain_name(&self, column: &str) -> Option<String> {
        let rest = column.strip_prefix("$of.")?;
        let (element, name) = rest.split_once('.')?;
        (!name.starts_with('$')).then(|| format!("{element}_{name}"))
    }

    /// The chains, with the columns of what is checked on the way.
    pub(super) fn patterns(&self, nodes: &Relation, edges: &Relation) -> Vec<paths::Chain> {
        let checks = |relation: &Relation, of_nodes: bool, element: usize| {
            let own = self
                .checks
                .iter()
                .filter(|check| check.of_nodes == of_nodes && check.element == element);
            own.filter_map(|check| {
                relation.columns.iter().position(|column| column.name == check.column)
            })
            .collect::<Vec<usize>>()
        };
        let node = |element: usize| paths::Node { element, checks: checks(nodes, true, element) };
        self.chains
            .iter()
            .map(|(first, steps)| paths::Chain {
                first: node(*first),
                steps: steps
                    .iter()
                    .map(|link| paths::Step {
                        edge: link.edge,
                        checks: checks(edges, false, link.edge),
                        direction: link.direction,
                        least: link.least,
                        most: link.most,
                        next: node(link.next),
                    })
                    .collect(),
            })
            .collect()
    }
}

fn named(name: &str, span: Span) -> Expr {
    Expr::new(ExprKind::Name(name.to_owned()), span)
}

/// The names of elements whose members are used, and `$` for what is not of one element.
fn elements_in(expr: &Expr, names: &mut Vec<String>) {
    match &expr.kind {
        ExprKind::Member(base, _) => match &base.kind {
            ExprKind::Name(name) => names.push(name.clone()),
            _ => elements_in(base, names),
        },
        ExprKind::Call { name, arguments } => {
            // Calls over lists, of degrees and of what a query defines are checked later.
            let plain = crate::query::function::find(&name.text).is_some();
            if !plain {
                names.extend(["$".to_owned(), String::new()]);
            }
            arguments.iter().for_each(|argument| elements_in(&argument.expr, names));
        }
        _ => {
            map_parts(expr, &mut |part| {
                elements_in(part, names);
                part.clone()
            });
        }
    }
}

/// The expression with `name.column` as the column.
fn of_one(expr: &Expr, name: &str) -> Expr {
    if let ExprKind::Member(base, part) = &expr.kind
        && matches!(&base.kind, ExprKind::Name(base) if base == name)
    {
        return named(&part.text, expr.span);
    }
    map_parts(expr, &mut |part| of_one(part, name))
}

/// The expression over one of several nodes: `node_degree_in()` is its own.
fn of_each(expr: &Expr) -> Expr {
    if let ExprKind::Call { name, arguments } = &expr.kind
        && matches!(name.text.as_str(), "node_degree_in" | "node_degree_out")
        && arguments.is_empty()
    {
        return named(&format!("${}", name.text), expr.span);
    }
    if let ExprKind::Call { name, arguments } = &expr.kind
        && name.text == "labels"
        && arguments.is_empty()
    {
        return no_labels(expr.span);
    }
    map_parts(expr, &mut of_each)
}

fn no_labels(span: Span) -> Expr {
    Expr::new(ExprKind::Literal(ast::Literal::Dynamic(Value::Array(Vec::new()))), span)
}

/// The expression with other parts.
fn map_parts(expr: &Expr, map: &mut dyn FnMut(&Expr) -> Expr) -> Expr {
    let mut all = |parts: &[Expr]| parts.iter().map(&mut *map).collect::<Vec<Expr>>();
    let kind = match &expr.kind {
        ExprKind::And(parts) => ExprKind::And(all(parts)),
        ExprKind::Or(parts) => ExprKind::Or(all(parts)),
        ExprKind::Negate(inner) => ExprKind::Negate(Box::new(map(inner))),
        ExprKind::Member(inner, part) => ExprKind::Member(Box::new(map(inner)), part.clone()),
        ExprKind::Index(inner, at) => ExprKind::Index(Box::new(map(inner)), Box::new(map(at))),
        ExprKind::Binary { operator, left, right } => ExprKind::Binary {
            operator: *operator,
            left: Box::new(map(left)),
            right: Box::new(map(right)),
        },
        ExprKind::List { operator, negated, value, list } => ExprKind::List {
            operator: *operator,
            negated: *negated,
            value: Box::new(map(value)),
            list: list.iter().map(&mut *map).collect(),
        },
        ExprKind::Between { negated, value, low, high } => ExprKind::Between {
            negated: *negated,
            value: Box::new(map(value)),
            low: Box::new(map(low)),
            high: Box::new(map(high)),
        },
        ExprKind::Call { name, arguments } => ExprKind::Call {
            name: name.clone(),
            arguments: arguments
                .iter()
                .map(|argument| ast::NamedExpr {
                    name: argument.name.clone(),
                    expr: map(&argument.expr),
                })
                .collect(),
        },
        _ => return expr.clone(),
    };
    Expr::new(kind, expr.span)
}
