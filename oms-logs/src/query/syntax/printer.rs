//! The tree back to text: one operator a line, every operation in parentheses. What it prints
//! parses to the same tree.

mod operator;

mod statement;

use super::ast::{
    Expand, Expr, ExprKind, Literal, Name, NamedExpr, Operator, OperatorKind, Pipeline, SortKey,
    Source, Union,
};
use crate::query::time;
use std::fmt::{self, Display, Formatter};

fn list<T>(
    f: &mut Formatter<'_>,
    items: &[T],
    each: impl Fn(&mut Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            f.write_str(", ")?;
        }
        each(f, item)?;
    }
    Ok(())
}

/// A string in double quotes.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

/// Whether it is read as one name without brackets.
fn is_plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '$')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$')
}

/// A name, in brackets if it is not plain or could be taken for a word of the language.
struct Plain<'a>(&'a str);

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if is_plain(self.0) { f.write_str(self.0) } else { write!(f, "[{}]", Quoted(self.0)) }
    }
}

impl Display for Name {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Plain(&self.text).fmt(f)
    }
}

/// A name in which `*` stands for any text, in brackets if what is around the stars is not plain.
struct Pattern<'a>(&'a str);

impl Display for Pattern<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let is_bare = |name: &str| {
            name.contains('*') && name.split('*').all(|part| part.is_empty() || is_plain(part))
        };
        if is_bare(self.0) { f.write_str(self.0) } else { Plain(self.0).fmt(f) }
    }
}

/// An expression that needs no parentheses around a pipeline.
struct TopLevel<'a>(&'a Expr);

impl Display for TopLevel<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.0.kind {
            ExprKind::Pipeline(pipeline) => pipeline.fmt(f),
            _ => self.0.fmt(f),
        }
    }
}

impl Display for Pipeline {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Table(expr) => expr.fmt(f)?,
            Source::Print(items) => {
                f.write_str("print ")?;
                list(f, items, |f, item| item.fmt(f))?;
            }
            Source::Range { name, first, last, step } => {
                write!(f, "range {name} from {first} to {last} step {step}")?;
            }
            Source::DataTable { columns, values, .. } => {
                f.write_str("datatable(")?;
                list(f, columns, |f, (name, kind)| write!(f, "{name}:{kind}"))?;
                f.write_str(")[")?;
                list(f, values, |f, value| value.fmt(f))?;
                f.write_str("]")?;
            }
            Source::Union(union) => union.fmt(f)?,
            Source::Search(search) => search.fmt(f)?,
            Source::Find(find) => find.fmt(f)?,
            Source::Evaluate(evaluate) => evaluate.fmt(f)?,
        }
        for operator in &self.operators {
            write!(f, "\n| {operator}")?;
        }
        Ok(())
    }
}

impl Display for Union {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("union ")?;
        if let Some(kind) = &self.kind {
            write!(f, "kind={kind} ")?;
        }
        if let Some(column) = &self.source_column {
            write!(f, "withsource={column} ")?;
        }
        if self.fuzzy {
            f.write_str("isfuzzy=true ")?;
        }
        tables(f, &self.tables)
    }
}

impl Display for Expand {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.members_as_arrays {
            f.write_str("kind=array ")?;
        }
        if let Some(index) = &self.index {
            write!(f, "with_itemindex={index} ")?;
        }
        list(f, &self.items, |f, item| {
            item.item.fmt(f)?;
            match &item.to {
                Some(to) => write!(f, " to typeof({to})"),
                None => Ok(()),
            }
        })?;
        match &self.limit {
            Some(limit) => write!(f, " limit {limit}"),
            None => Ok(()),
        }
    }
}

/// Names of tables, and other tables in parentheses.
fn tables(f: &mut Formatter<'_>, tables: &[Expr]) -> fmt::Result {
    list(f, tables, |f, table| match &table.kind {
        ExprKind::Name(_) | ExprKind::Star(_) | ExprKind::Pipeline(_) => table.fmt(f),
        _ => write!(f, "({table})"),
    })
}

/// Operators in parentheses, the first of which has no `|`.
fn sub_pipeline(f: &mut Formatter<'_>, operators: &[Operator]) -> fmt::Result {
    f.write_str("(")?;
    for (at, operator) in operators.iter().enumerate() {
        write!(f, "{}{operator}", if at > 0 { "\n| " } else { "" })?;
    }
    f.write_str(")")
}

impl Display for NamedExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{name}=")?;
        }
        self.expr.fmt(f)
    }
}

impl Display for SortKey {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.expr, if self.ascending { "asc" } else { "desc" })?;
        match self.nulls_first {
            Some(true) => f.write_str(" nulls first"),
            Some(false) => f.write_str(" nulls last"),
            None => Ok(()),
        }
    }
}

impl Display for Operator {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let named = |f: &mut Formatter<'_>, word: &str, items: &[NamedExpr]| {
            write!(f, "{word} ")?;
            list(f, items, |f, item| item.fmt(f))
        };
        let patterns = |f: &mut Formatter<'_>, word: &str, items: &[Name]| {
            write!(f, "{word} ")?;
            list(f, items, |f, item| Pattern(&item.text).fmt(f))
        };
        match &self.kind {
            OperatorKind::Where(predicate) => write!(f, "where {predicate}"),
            OperatorKind::Project(items) => named(f, "project", items),
            OperatorKind::ProjectAway(items) => patterns(f, "project-away", items),
            OperatorKind::ProjectKeep(items) => patterns(f, "project-keep", items),
            OperatorKind::ProjectRename(items) => {
                f.write_str("project-rename ")?;
                list(f, items, |f, (new, old)| write!(f, "{new}={old}"))
            }
            OperatorKind::Extend(items) => named(f, "extend", items),
            OperatorKind::Summarize { aggregates, keys } => {
                named(f, "summarize", aggregates)?;
                if keys.is_empty() { Ok(()) } else { named(f, " by", keys) }
            }
            OperatorKind::Sort(keys) => {
                f.write_str("sort by ")?;
                list(f, keys, |f, key| key.fmt(f))
            }
            OperatorKind::Take(count) => write!(f, "take {count}"),
            OperatorKind::Top { count, keys } => {
                write!(f, "top {count} by ")?;
                list(f, keys, |f, key| key.fmt(f))
            }
            OperatorKind::Count => f.write_str("count"),
            OperatorKind::Distinct(items) => named(f, "distinct", items),
            OperatorKind::Join(join) => {
                f.write_str("join ")?;
                join.fmt(f)
            }
            OperatorKind::Union(union) => union.fmt(f),
            OperatorKind::Expand(expand) => write!(f, "mv-expand {expand}"),
            OperatorKind::Apply { expand, operators } => {
                write!(f, "mv-apply {expand} on (")?;
                for (at, operator) in operators.iter().enumerate() {
                    write!(f, "{}{operator}", if at > 0 { " | " } else { "" })?;
                }
                f.write_str(")")
            }
            OperatorKind::Render { visualization, properties } => {
                write!(f, "render {visualization}")?;
                if properties.is_empty() {
                    return Ok(());
                }
                f.write_str(" with (")?;
                list(f, properties, |f, (name, value)| write!(f, "{name}={}", Quoted(value)))?;
                f.write_str(")")
            }
            other => operator::write(f, other),
        }
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut Formatter<'_>, parts: &[Self], word: &str| {
            f.write_str("(")?;
            for (at, part) in parts.iter().enumerate() {
                if at > 0 {
                    write!(f, " {word} ")?;
                }
                part.fmt(f)?;
            }
            f.write_str(")")
        };
        match &self.kind {
            ExprKind::Literal(literal) => literal.fmt(f),
            ExprKind::Name(name) => Plain(name).fmt(f),
            ExprKind::Star(pattern) => Pattern(pattern).fmt(f),
            ExprKind::Call { name, arguments } => {
                write!(f, "{}(", name.text)?;
                list(f, arguments, |f, argument| argument.fmt(f))?;
                f.write_str(")")
            }
            ExprKind::Negate(inner) => write!(f, "(-{inner})"),
            ExprKind::Binary { operator, left, right } => {
                write!(f, "({left} {} {right})", operator.symbol())
            }
            ExprKind::And(parts) => joined(f, parts, "and"),
            ExprKind::Or(parts) => joined(f, parts, "or"),
            ExprKind::List { operator, negated, value, list: items } => {
                let sign = if *negated { "!" } else { "" };
                write!(f, "({value} {sign}{} (", operator.symbol())?;
                list(f, items, |f, item| item.fmt(f))?;
                f.write_str("))")
            }
            ExprKind::Between { negated, value, low, high } => {
                let sign = if *negated { "!" } else { "" };
                write!(f, "({value} {sign}between ({low} .. {high}))")
            }
            ExprKind::Member(value, name) => write!(f, "{value}.{name}"),
            ExprKind::Index(value, index) => write!(f, "{value}[({index})]"),
            ExprKind::Pipeline(pipeline) => write!(f, "({pipeline})"),
            ExprKind::Columns(names, call) => {
                f.write_str("(")?;
                list(f, names, |f, name| name.fmt(f))?;
                write!(f, ")={call}")
            }
            ExprKind::Function(function) => function.fmt(f),
        }
    }
}

impl Display for Literal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        fn typed(f: &mut Formatter<'_>, name: &str, value: Option<impl Display>) -> fmt::Result {
            match value {
                Some(value) => write!(f, "{name}({value})"),
                None => write!(f, "{name}(null)"),
            }
        }
        match self {
            Self::Bool(Some(value)) => value.fmt(f),
            Self::Bool(None) => f.write_str("bool(null)"),
            Self::Int(value) => typed(f, "int", *value),
            Self::Long(Some(value)) if *value >= 0 => value.fmt(f),
            Self::Long(value) => typed(f, "long", *value),
            Self::Real(Some(value)) if value.is_infinite() => {
                f.write_str(if *value > 0.0 { "real(+inf)" } else { "real(-inf)" })
            }
            Self::Real(value) => typed(f, "real", *value),
            Self::String(text) => Quoted(text).fmt(f),
            Self::DateTime(ticks) => {
                typed(f, "datetime", ticks.map(|ticks| time::format_datetime(ticks, false)))
            }
            Self::TimeSpan(ticks) => typed(f, "timespan", ticks.map(time::format_timespan)),
            Self::Guid(value) => typed(f, "guid", *value),
            Self::Decimal(value) => typed(f, "decimal", value.as_deref()),
            Self::Dynamic(value) => write!(f, "dynamic({value})"),
        }
    }
}
