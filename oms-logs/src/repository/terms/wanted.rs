//! What a row needs to have for a query's conditions to be true.

use super::for_each_term;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{InList, Like, ScalarFunction};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

/// The deepest nesting of conditions that is looked into.
const DEPTH_MAX: usize = 32;

/// What a row needs. A row that does not have it does not meet the conditions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wanted {
    /// Nothing that can be told.
    Nothing,
    /// A term in a column, by its hash.
    Term {
        column: String,
        hash: u64,
    },
    All(Vec<Self>),
    Any(Vec<Self>),
}

impl Wanted {
    /// What all of some conditions need.
    pub(crate) fn of(conditions: &[Expr]) -> Self {
        Self::all(conditions.iter().map(|condition| need(condition, DEPTH_MAX)))
    }

    /// Whether rows may have it of which `has` tells whether a term may be in a column.
    pub(super) fn may_be(&self, has: &impl Fn(&str, u64) -> bool) -> bool {
        match self {
            Self::Nothing => true,
            Self::Term { column, hash } => has(column, *hash),
            Self::All(all) => all.iter().all(|wanted| wanted.may_be(has)),
            Self::Any(any) => any.iter().any(|wanted| wanted.may_be(has)),
        }
    }

    fn all(parts: impl Iterator<Item = Self>) -> Self {
        let mut parts: Vec<Self> = parts.filter(|part| *part != Self::Nothing).collect();
        match parts.len() {
            0 => Self::Nothing,
            1 => parts.remove(0),
            _ => Self::All(parts),
        }
    }

    fn any(parts: impl Iterator<Item = Self>) -> Self {
        let parts: Vec<Self> = parts.collect();
        if parts.is_empty() || parts.contains(&Self::Nothing) {
            return Self::Nothing;
        }
        Self::Any(parts)
    }
}

fn need(condition: &Expr, depth: usize) -> Wanted {
    let Some(depth) = depth.checked_sub(1) else { return Wanted::Nothing };
    match condition {
        Expr::Alias(alias) => need(&alias.expr, depth),
        Expr::IsTrue(inner) => need(inner, depth),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::And => Wanted::all([left, right].into_iter().map(|side| need(side, depth))),
            Operator::Or => Wanted::any([left, right].into_iter().map(|side| need(side, depth))),
            Operator::Eq | Operator::IsNotDistinctFrom => {
                let sides = column(left).zip(text(right)).or_else(|| column(right).zip(text(left)));
                sides.map_or(Wanted::Nothing, |(name, value)| Ends::WHOLE.terms(name, value))
            }
            _ => Wanted::Nothing,
        },
        Expr::InList(InList { expr, list, negated: false }) => match column(expr) {
            Some(name) => Wanted::any(list.iter().map(|item| {
                text(item).map_or(Wanted::Nothing, |value| Ends::WHOLE.terms(name, value))
            })),
            None => Wanted::Nothing,
        },
        Expr::Like(like) => need_of_pattern(like),
        Expr::ScalarFunction(call) => need_of_call(call),
        _ => Wanted::Nothing,
    }
}

/// The text operators of the query language, by the names of their functions, and those of SQL.
fn need_of_call(ScalarFunction { func, args }: &ScalarFunction) -> Wanted {
    let Some((first, items)) = args.split_first() else { return Wanted::Nothing };
    let Some(name) = column(first) else { return Wanted::Nothing };
    let one = |ends: Ends| match items {
        [item] => text(item).map_or(Wanted::Nothing, |value| ends.terms(name, value)),
        _ => Wanted::Nothing,
    };
    let of_item =
        |item: &Expr| text(item).map_or(Wanted::Nothing, |value| Ends::WHOLE.terms(name, value));
    match func.name() {
        "=~" | "has" | "has_cs" => one(Ends::WHOLE),
        "contains" | "contains_cs" => one(Ends::OPEN),
        "startswith" | "startswith_cs" | "starts_with" => one(Ends::BEGINS),
        "hasprefix" | "hasprefix_cs" => one(Ends::BEGINS),
        "endswith" | "endswith_cs" | "ends_with" => one(Ends::ENDS),
        "hassuffix" | "hassuffix_cs" => one(Ends::ENDS),
        "in~" | "has_any" => Wanted::any(items.iter().map(of_item)),
        "has_all" => Wanted::all(items.iter().map(of_item)),
        _ => Wanted::Nothing,
    }
}

/// `LIKE` and `ILIKE`: what stands between the wildcards.
fn need_of_pattern(like: &Like) -> Wanted {
    let (Some(name), Some(pattern)) = (column(&like.expr), text(&like.pattern)) else {
        return Wanted::Nothing;
    };
    if like.negated || pattern.contains('\\') || like.escape_char.is_some() || !pattern.is_ascii() {
        return Wanted::Nothing;
    }
    let parts: Vec<&str> = pattern.split(['%', '_']).collect();
    let last = parts.len() - 1;
    Wanted::all(parts.into_iter().enumerate().map(|(at, part)| {
        let ends = Ends { start: at == 0, end: at == last };
        ends.terms(name, part)
    }))
}

/// At which ends of an operand no term goes on in the text.
#[derive(Clone, Copy)]
struct Ends {
    start: bool,
    end: bool,
}

impl Ends {
    const WHOLE: Self = Self { start: true, end: true };
    const BEGINS: Self = Self { start: true, end: false };
    const ENDS: Self = Self { start: false, end: true };
    const OPEN: Self = Self { start: false, end: false };

    /// The terms of an operand that are whole terms of a text in which it stands.
    fn terms(self, column: &str, operand: &str) -> Wanted {
        // The one letter whose lower case depends on what is around it.
        if operand.contains(['Σ', 'σ', 'ς']) {
            return Wanted::Nothing;
        }
        let is_end = |c: char| !c.is_alphanumeric();
        let begin = if self.start { Some(0) } else { operand.find(is_end) };
        let end = if self.end { Some(operand.len()) } else { operand.rfind(is_end) };
        let inner = begin.zip(end).and_then(|(begin, end)| operand.get(begin..end));
        let mut terms = Vec::new();
        for_each_term(inner.unwrap_or_default(), &mut |hash| {
            terms.push(Wanted::Term { column: column.to_owned(), hash });
        });
        Wanted::all(terms.into_iter())
    }
}

/// The column that an expression is, as it is stored or with null as empty text.
fn column(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Column(column) => Some(&column.name),
        Expr::Cast(cast) => column(&cast.expr),
        Expr::ScalarFunction(call) if call.func.name() == "never_null" => match &call.args[..] {
            [argument] => column(argument),
            _ => None,
        },
        _ => None,
    }
}

fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(
            ScalarValue::Utf8(Some(text))
            | ScalarValue::Utf8View(Some(text))
            | ScalarValue::LargeUtf8(Some(text)),
            _,
        ) => Some(text),
        _ => None,
    }
}
