//! The larger operators back to text.

use super::{Pattern, Quoted, TopLevel, list, sub_pipeline, tables};
use crate::query::syntax::ast::{
    ColumnOrder, EdgeCount, Evaluate, Expr, ExprKind, Facet, Find, FindColumn, GraphDirection,
    GraphEdge, GraphMatch, GraphPattern, Join, MakeSeries, Name, NamedExpr, OperatorKind, Parse,
    ParseKv, ParsePart, Partition, Reduce, Scan, ScanStep, Search, TopNested,
};
use std::fmt::{self, Display, Formatter};

/// An operator that has more than one list of arguments.
pub(super) fn write(f: &mut Formatter<'_>, kind: &OperatorKind) -> fmt::Result {
    match kind {
        OperatorKind::Parse(parse) => parse.fmt(f),
        OperatorKind::ParseKv(parse) => parse.fmt(f),
        OperatorKind::MakeSeries(series) => series.fmt(f),
        OperatorKind::Scan(scan) => scan.fmt(f),
        OperatorKind::Partition(of) => partition(f, of),
        OperatorKind::Serialize(items) if items.is_empty() => f.write_str("serialize"),
        OperatorKind::Serialize(items) => {
            f.write_str("serialize ")?;
            list(f, items, |f, item| item.fmt(f))
        }
        OperatorKind::TopNested(levels) => list(f, levels, |f, level| level.fmt(f)),
        OperatorKind::TopHitters(top) => {
            write!(f, "top-hitters {} of {}", top.count, top.of)?;
            optional(f, " by ", top.by.as_ref())
        }
        OperatorKind::Sample(count) => write!(f, "sample {count}"),
        OperatorKind::SampleDistinct(count, of) => write!(f, "sample-distinct {count} of {of}"),
        OperatorKind::Reduce(reduce) => reduce.fmt(f),
        OperatorKind::Lookup(join) => write!(f, "lookup {join}"),
        OperatorKind::Search(search) => search.fmt(f),
        OperatorKind::GetSchema => f.write_str("getschema"),
        OperatorKind::Consume => f.write_str("consume"),
        OperatorKind::As(name) => write!(f, "as {name}"),
        OperatorKind::Invoke(call) => write!(f, "invoke {call}"),
        OperatorKind::ProjectReorder(orders) => {
            f.write_str("project-reorder ")?;
            list(f, orders, |f, order| order.fmt(f))
        }
        OperatorKind::ProjectByNames(names) => {
            f.write_str("project-by-names ")?;
            list(f, names, |f, name| name.fmt(f))
        }
        OperatorKind::Fork(forks) => {
            f.write_str("fork")?;
            for fork in forks {
                f.write_str(" ")?;
                if let Some(name) = &fork.name {
                    write!(f, "{name}=")?;
                }
                sub_pipeline(f, &fork.operators)?;
            }
            Ok(())
        }
        OperatorKind::Facet(facet) => facet.fmt(f),
        OperatorKind::Evaluate(evaluate) => evaluate.fmt(f),
        other => graph(f, other),
    }
}

impl Display for ParseKv {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "parse-kv {} as (", self.text)?;
        list(f, &self.keys, |f, key| key.fmt(f))?;
        f.write_str(")")?;
        if self.options.is_empty() {
            return Ok(());
        }
        f.write_str(" with (")?;
        options(f, &self.options)?;
        f.write_str(")")
    }
}

fn partition(f: &mut Formatter<'_>, partition: &Partition) -> fmt::Result {
    f.write_str("partition ")?;
    optional(f, "hint.strategy=", partition.strategy.as_ref())?;
    let space = if partition.strategy.is_some() { " " } else { "" };
    write!(f, "{space}by {} ", partition.key)?;
    match &partition.table {
        Some(table) => write!(f, "{{{}}}", TopLevel(table)),
        None => sub_pipeline(f, &partition.operators),
    }
}

impl Display for Reduce {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("reduce ")?;
        if let Some(kind) = &self.kind {
            write!(f, "kind={kind} ")?;
        }
        write!(f, "by {}", self.by)?;
        if self.options.is_empty() {
            return Ok(());
        }
        f.write_str(" with ")?;
        options(f, &self.options)
    }
}

impl Display for Facet {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("facet by ")?;
        list(f, &self.columns, |f, column| column.fmt(f))?;
        if self.operators.is_empty() {
            return Ok(());
        }
        f.write_str(" with ")?;
        sub_pipeline(f, &self.operators)
    }
}

fn graph(f: &mut Formatter<'_>, kind: &OperatorKind) -> fmt::Result {
    match kind {
        OperatorKind::MakeGraph(graph) => {
            write!(f, "make-graph {} --> {}", graph.source, graph.target)?;
            if let Some(name) = &graph.node_id {
                write!(f, " with_node_id={name}")?;
            } else if !graph.nodes.is_empty() {
                f.write_str(" with ")?;
                list(f, &graph.nodes, |f, (table, key)| {
                    tables(f, std::slice::from_ref(table))?;
                    write!(f, " on {key}")
                })?;
            }
            match &graph.partition {
                Some((column, operators)) => {
                    write!(f, " partitioned-by {column} ")?;
                    sub_pipeline(f, operators)
                }
                None => Ok(()),
            }
        }
        OperatorKind::GraphMatch(found) => found.fmt(f),
        OperatorKind::GraphToTable(made) => {
            f.write_str("graph-to-table ")?;
            list(f, &made.outputs, |f, output| {
                output.part.fmt(f)?;
                optional(f, " as ", output.name.as_ref())?;
                if output.options.is_empty() {
                    return Ok(());
                }
                f.write_str(" with (")?;
                list(f, &output.options, |f, (name, value)| write!(f, "{name}={value}"))?;
                f.write_str(")")
            })
        }
        OperatorKind::GraphMarkComponents(kind, column) => {
            f.write_str("graph-mark-components")?;
            optional(f, " kind=", kind.as_ref())?;
            optional(f, " with_component_id=", column.as_ref())
        }
        _ => Ok(()),
    }
}

fn optional(f: &mut Formatter<'_>, before: &str, value: Option<&impl Display>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, "{before}{value}"))
}

fn options(f: &mut Formatter<'_>, options: &[(Name, Expr)]) -> fmt::Result {
    list(f, options, |f, (name, value)| write!(f, "{name}={value}"))
}

fn by(f: &mut Formatter<'_>, keys: &[NamedExpr]) -> fmt::Result {
    if keys.is_empty() {
        return Ok(());
    }
    f.write_str(" by ")?;
    list(f, keys, |f, key| key.fmt(f))
}

impl Display for Join {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(kind) = &self.kind {
            write!(f, "kind={kind} ")?;
        }
        match &self.right.kind {
            ExprKind::Pipeline(_) | ExprKind::Name(_) => self.right.fmt(f)?,
            _ => write!(f, "({})", self.right)?,
        }
        f.write_str(" on ")?;
        list(f, &self.on, |f, on| on.fmt(f))
    }
}

impl Display for Parse {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(if self.only_matches { "parse-where" } else { "parse" })?;
        optional(f, " kind=", self.kind.as_ref())?;
        optional(f, " flags=", self.flags.as_ref())?;
        write!(f, " {} with", self.text)?;
        for part in &self.parts {
            match part {
                ParsePart::Star => f.write_str(" *")?,
                ParsePart::Text(text) => write!(f, " {}", Quoted(text))?,
                ParsePart::Column { name, kql_type } => {
                    write!(f, " {name}")?;
                    optional(f, ":", kql_type.as_ref())?;
                }
            }
        }
        Ok(())
    }
}

impl Display for MakeSeries {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(if self.nonempty { "make-series kind=nonempty " } else { "make-series " })?;
        list(f, &self.aggregates, |f, (aggregate, default)| {
            aggregate.fmt(f)?;
            optional(f, " default=", default.as_ref())
        })?;
        write!(f, " on {}", self.axis)?;
        match (&self.from, &self.to) {
            (Some(from), Some(to)) if self.in_range => {
                write!(f, " in range({from}, {to}, {})", self.step)?;
            }
            (from, to) => {
                optional(f, " from ", from.as_ref())?;
                optional(f, " to ", to.as_ref())?;
                write!(f, " step {}", self.step)?;
            }
        }
        by(f, &self.keys)
    }
}

impl Display for Scan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("scan ")?;
        if let Some(name) = &self.match_id {
            write!(f, "with_match_id={name} ")?;
        }
        if !self.partition.is_empty() {
            f.write_str("partition")?;
            by(f, &self.partition)?;
            f.write_str(" ")?;
        }
        if !self.declared.is_empty() {
            f.write_str("declare (")?;
            list(f, &self.declared, |f, (column, default)| {
                column.fmt(f)?;
                optional(f, "=", default.as_ref())
            })?;
            f.write_str(") ")?;
        }
        f.write_str("with (")?;
        for step in &self.steps {
            step.fmt(f)?;
        }
        f.write_str(")")
    }
}

impl Display for ScanStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "step {}", self.name)?;
        optional(f, " output=", self.output.as_ref())?;
        write!(f, ": {}", self.condition)?;
        if !self.assignments.is_empty() {
            f.write_str(" => ")?;
            list(f, &self.assignments, |f, (name, value)| write!(f, "{name}={value}"))?;
        }
        f.write_str("; ")
    }
}

impl Display for TopNested {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("top-nested")?;
        optional(f, " ", self.count.as_ref())?;
        write!(f, " of {}", self.of)?;
        optional(f, " with others=", self.others.as_ref())?;
        write!(f, " by {} {}", self.by, if self.ascending { "asc" } else { "desc" })
    }
}

impl Display for ColumnOrder {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Pattern(&self.pattern.text).fmt(f)?;
        match &self.order {
            Some(order) => write!(f, " {}", order.text),
            None => Ok(()),
        }
    }
}

impl Display for Search {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("search ")?;
        if let Some(kind) = &self.kind {
            write!(f, "kind={kind} ")?;
        }
        in_tables(f, &self.tables)?;
        self.predicate.fmt(f)
    }
}

fn in_tables(f: &mut Formatter<'_>, names: &[Expr]) -> fmt::Result {
    if names.is_empty() {
        return Ok(());
    }
    f.write_str("in (")?;
    tables(f, names)?;
    f.write_str(") ")
}

impl Display for Find {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("find ")?;
        if let Some(name) = &self.source_column {
            write!(f, "withsource={name} ")?;
        }
        in_tables(f, &self.tables)?;
        write!(f, "where {}", self.predicate)?;
        let Some(columns) = &self.project else { return Ok(()) };
        f.write_str(" project ")?;
        list(f, columns, |f, column| match column {
            FindColumn::Column { name, kql_type } => {
                name.fmt(f)?;
                optional(f, ":", kql_type.as_ref())
            }
            FindColumn::Pack => f.write_str("pack_all()"),
        })
    }
}

impl Display for Evaluate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "evaluate {}(", self.name)?;
        list(f, &self.arguments, |f, argument| argument.fmt(f))?;
        f.write_str(")")?;
        let Some((star, columns)) = &self.schema else { return Ok(()) };
        f.write_str(" : (")?;
        if *star {
            f.write_str(if columns.is_empty() { "*" } else { "*, " })?;
        }
        list(f, columns, |f, column| column.fmt(f))?;
        f.write_str(")")
    }
}

impl Display for GraphMatch {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(if self.shortest { "graph-shortest-paths " } else { "graph-match " })?;
        for (name, value) in &self.options {
            write!(f, "{name}={value} ")?;
        }
        list(f, &self.patterns, |f, pattern| pattern.fmt(f))?;
        optional(f, " where ", self.predicate.as_ref())?;
        if self.project.is_empty() {
            return Ok(());
        }
        f.write_str(" project ")?;
        list(f, &self.project, |f, item| item.fmt(f))
    }
}

impl Display for GraphPattern {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let node = |f: &mut Formatter<'_>, name: &Option<Name>| {
            f.write_str("(")?;
            optional(f, "", name.as_ref())?;
            f.write_str(")")
        };
        node(f, &self.first)?;
        for (edge, next) in &self.edges {
            edge.fmt(f)?;
            node(f, next)?;
        }
        Ok(())
    }
}

impl Display for EdgeCount {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(count) => count.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl Display for GraphEdge {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(if self.direction == GraphDirection::Left { "<-" } else { "-" })?;
        if self.name.is_some() || self.length.is_some() {
            f.write_str("[")?;
            optional(f, "", self.name.as_ref())?;
            if let Some((least, most)) = &self.length {
                write!(f, "*{least}..{most}")?;
            }
            f.write_str("]")?;
        }
        f.write_str(if self.direction == GraphDirection::Right { "->" } else { "-" })
    }
}
