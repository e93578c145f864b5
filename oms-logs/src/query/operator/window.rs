//! `serialize` and the functions that look at other rows: `row_number`, `prev`, `row_cumsum`, ….

use crate::query::bind::{BindResult, Binder};
use crate::query::bound::{Column, Expr, ExprKind, Relation, RelationKind};
use crate::query::decimal::Decimal;
use crate::query::diagnostic::Problem;
use crate::query::function::{Parameter, cast, coerce};
use crate::query::plan::RowFunction;
use crate::query::syntax::Span;
use crate::query::syntax::ast::NamedExpr;
use crate::query::types::KqlType;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, Int64Array, StringViewArray,
    StringViewBuilder,
};
use datafusion::arrow::compute::interleave;
use datafusion::arrow::datatypes::{Float64Type, Int32Type, Int64Type};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, exec_err};
use datafusion::scalar::ScalarValue;
use std::sync::Arc;

/// The functions that look at other rows.
pub(crate) const NAMES: [&str; 8] = [
    "next",
    "prev",
    "row_cumsum",
    "row_number",
    "row_rank_dense",
    "row_rank_min",
    "row_window_session",
    "row_rank",
];

/// A call of such a function and the column that it becomes.
#[derive(Clone, Debug)]
pub(crate) struct WindowCall {
    window: Window,
    arguments: Vec<Expr>,
    pub(crate) column: Column,
    /// How many calls stand within each other in it.
    level: usize,
}

#[derive(Clone, Debug)]
enum Window {
    Number {
        first: i64,
    },
    /// The value of the row so many rows before, or after if it is negative.
    Shift {
        back: i64,
        otherwise: ScalarValue,
    },
    Sum,
    Rank {
        dense: bool,
    },
    Session {
        most: i64,
        gap: i64,
    },
}

impl WindowCall {
    /// Binds a call; `before` are those that were found already.
    pub(crate) fn bind(
        name: &str,
        arguments: Vec<Expr>,
        before: &[Self],
        span: Span,
    ) -> std::result::Result<Self, Problem> {
        let level = arguments.iter().map(|argument| level_of(argument, before)).max().unwrap_or(0);
        let arity = match name {
            "row_number" => 0..=2,
            "prev" | "next" => 1..=3,
            "row_window_session" => 3..=4,
            _ => 1..=2,
        };
        if !arity.contains(&arguments.len()) {
            let message = format!("`{name}` does not take {} arguments", arguments.len());
            return Err(Problem::semantic(span, message));
        }
        let mut arguments = arguments.into_iter();
        let first = arguments.next();
        let (window, kept, restart, kql_type) = match (name, first) {
            ("row_number", first) => {
                let first = first.map_or(Ok(1), |first| constant_long(&first, name))?;
                (Window::Number { first }, Vec::new(), arguments.next(), KqlType::Long)
            }
            (_, None) => return Err(Problem::semantic(span, format!("`{name}` takes a value"))),
            ("prev" | "next", Some(value)) => {
                let back = match arguments.next() {
                    Some(offset) => constant_long(&offset, name)?,
                    None => 1,
                };
                let back = if name == "prev" { back } else { back.saturating_neg() };
                let kql_type = value.kql_type;
                let otherwise = shifted_default(arguments.next(), kql_type, name, span)?;
                (Window::Shift { back, otherwise }, vec![value], None, kql_type)
            }
            ("row_cumsum", Some(term)) => {
                let kql_type = term.kql_type;
                let is_other = matches!(kql_type, KqlType::TimeSpan | KqlType::Decimal);
                if !kql_type.is_number() && !is_other {
                    let message = format!("`{name}` takes a number, not {kql_type}");
                    return Err(Problem::semantic(term.span, message));
                }
                (Window::Sum, vec![term], arguments.next(), kql_type)
            }
            ("row_window_session", Some(value)) => {
                let value = coerce(value, Parameter::DateTime, name)?;
                let mut span_of = || match arguments.next() {
                    Some(length) => constant_ticks(&length, name),
                    None => Err(Problem::semantic(span, format!("`{name}` takes two timespans"))),
                };
                let (most, gap) = (span_of()?, span_of()?);
                let window = Window::Session { most, gap };
                (window, vec![value], arguments.next(), KqlType::DateTime)
            }
            (_, Some(term)) => {
                let window = Window::Rank { dense: name != "row_rank_min" };
                (window, vec![term], arguments.next(), KqlType::Long)
            }
        };
        let mut kept = kept;
        kept.extend(restart.map(|restart| coerce(restart, Parameter::Bool, name)).transpose()?);
        let column = Column::new(format!("$window{}", before.len()), kql_type);
        Ok(Self { window, arguments: kept, column, level })
    }
}

/// How many calls stand within each other in an expression.
fn level_of(expr: &Expr, calls: &[WindowCall]) -> usize {
    let deepest = |parts: &mut dyn Iterator<Item = &Expr>| {
        parts.map(|part| level_of(part, calls)).max().unwrap_or(0)
    };
    match &expr.kind {
        ExprKind::Column(name) => {
            let call = calls.iter().find(|call| call.column.name == *name);
            call.map_or(0, |call| call.level + 1)
        }
        ExprKind::Constant(_) => 0,
        ExprKind::Random { below, .. } => below.as_ref().map_or(0, |below| level_of(below, calls)),
        ExprKind::And(parts) | ExprKind::Or(parts) => deepest(&mut parts.iter()),
        ExprKind::Call { arguments, .. } => deepest(&mut arguments.iter()),
        ExprKind::Not(part)
        | ExprKind::IsNull(part)
        | ExprKind::Cast(part)
        | ExprKind::Hold(part)
        | ExprKind::In { value: part, .. } => level_of(part, calls),
        ExprKind::Compare(_, left, right) | ExprKind::Arithmetic(_, left, right) => {
            level_of(left, calls).max(level_of(right, calls))
        }
        ExprKind::Case { branches, otherwise } => {
            let branches = branches.iter().flat_map(|(when, then)| [when, then]);
            deepest(&mut branches.chain(std::iter::once(&**otherwise)))
        }
    }
}

fn constant_long(expr: &Expr, name: &str) -> std::result::Result<i64, Problem> {
    match expr.as_long() {
        Some(value) if expr.kql_type.is_number() => Ok(value),
        _ => Err(Problem::semantic(expr.span, format!("`{name}` takes a constant integer here"))),
    }
}

fn constant_ticks(expr: &Expr, name: &str) -> std::result::Result<i64, Problem> {
    match expr.as_long() {
        Some(ticks) if expr.kql_type == KqlType::TimeSpan => Ok(ticks),
        _ => Err(Problem::semantic(expr.span, format!("`{name}` takes a constant timespan here"))),
    }
}

/// What stands where there is no such row.
fn shifted_default(
    given: Option<Expr>,
    kql_type: KqlType,
    name: &str,
    span: Span,
) -> std::result::Result<ScalarValue, Problem> {
    let Some(given) = given else { return Ok(crate::query::bound::null_of(kql_type)) };
    let both_numbers = given.kql_type.is_number() && kql_type.is_number();
    if given.kql_type != kql_type && !both_numbers {
        let message = format!("`{name}` takes a default of {kql_type}, not {}", given.kql_type);
        return Err(Problem::semantic(given.span, message));
    }
    let value = crate::query::plan::evaluate(&cast(given, kql_type));
    value.map_err(|error| Problem::semantic(span, error.strip_backtrace()))
}

impl Binder<'_> {
    /// Fixes the order of rows, and adds columns.
    pub(crate) fn serialize(
        &mut self,
        input: Arc<Relation>,
        items: &[NamedExpr],
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let columns = input.columns.clone();
        let serialized = self.relation(RelationKind::Serialized(input), columns, span)?;
        if items.is_empty() {
            return Ok(serialized);
        }
        self.extend(serialized, items, span)
    }

    /// The input with the columns of the calls.
    pub(crate) fn with_windows(
        &mut self,
        mut input: Arc<Relation>,
        calls: &[WindowCall],
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let deepest = calls.iter().map(|call| call.level).max();
        for level in 0..=deepest.unwrap_or(0) {
            let here: Vec<&WindowCall> = calls.iter().filter(|call| call.level == level).collect();
            if here.is_empty() {
                continue;
            }
            let function = Windows {
                calls: here
                    .iter()
                    .map(|call| (call.window.clone(), call.arguments.len()))
                    .collect(),
            };
            let arguments = here.iter().flat_map(|call| call.arguments.clone()).collect();
            let added: Vec<Column> = here.iter().map(|call| call.column.clone()).collect();
            let columns = input.columns.iter().chain(&added).cloned().collect();
            let kind =
                RelationKind::Append { input, function: Arc::new(function), arguments, added };
            input = self.relation(kind, columns, span)?;
        }
        Ok(input)
    }
}

/// Calls over the same rows, each with its count of arguments.
#[derive(Debug)]
struct Windows {
    calls: Vec<(Window, usize)>,
}

impl RowFunction for Windows {
    fn name(&self) -> &'static str {
        "window"
    }

    fn needs_all_rows(&self) -> bool {
        true
    }

    fn run(&self, arguments: &[ArrayRef], rows: usize) -> Result<Vec<ArrayRef>> {
        let mut rest = arguments;
        let mut columns = Vec::with_capacity(self.calls.len());
        for (window, count) in &self.calls {
            let Some((own, others)) = rest.split_at_checked(*count) else {
                return exec_err!("a window function lacks arguments");
            };
            rest = others;
            columns.push(window.run(own, rows)?);
        }
        Ok(columns)
    }
}

/// Where a count begins again.
struct Restarts<'a>(Option<&'a BooleanArray>);

impl Restarts<'_> {
    fn at(&self, row: usize) -> bool {
        self.0.is_some_and(|flags| !flags.is_null(row) && flags.value(row))
    }
}

impl Window {
    fn run(&self, arguments: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let flags =
            |at: usize| Restarts(arguments.get(at).and_then(|array| array.as_boolean_opt()));
        let value = || match arguments.first() {
            Some(value) => Ok(value),
            None => exec_err!("a window function lacks its value"),
        };
        match self {
            Self::Number { first } => Ok(numbers(*first, &flags(0), rows)),
            Self::Shift { back, otherwise } => shift(value()?, *back, otherwise),
            Self::Sum => sums(value()?, &flags(1)),
            Self::Rank { dense } => ranks(value()?, &flags(1), *dense),
            Self::Session { most, gap } => sessions(value()?, &flags(1), *most, *gap),
        }
    }
}

fn numbers(first: i64, restarts: &Restarts<'_>, rows: usize) -> ArrayRef {
    let mut next = first;
    let numbers = (0..rows).map(|row| {
        if restarts.at(row) {
            next = first;
        }
        let number = next;
        next = next.wrapping_add(1);
        number
    });
    Arc::new(Int64Array::from_iter_values(numbers))
}

fn shift(value: &ArrayRef, back: i64, otherwise: &ScalarValue) -> Result<ArrayRef> {
    let otherwise = otherwise.to_array()?;
    let places: Vec<(usize, usize)> = (0..value.len())
        .map(|row| {
            let from = i64::try_from(row).ok().and_then(|row| row.checked_sub(back));
            let from = from.and_then(|from| usize::try_from(from).ok());
            from.filter(|from| *from < value.len()).map_or((1, 0), |from| (0, from))
        })
        .collect();
    Ok(interleave(&[value.as_ref(), otherwise.as_ref()], &places)?)
}

/// The sums of decimals, which are held as text.
fn decimal_sums(terms: &StringViewArray, restarts: &Restarts<'_>) -> Result<ArrayRef> {
    let (mut sum, mut sums) = (Decimal::default(), StringViewBuilder::new());
    for (row, term) in terms.iter().enumerate() {
        let term = term.and_then(|term| term.parse().ok()).unwrap_or_default();
        let before = if restarts.at(row) { Decimal::default() } else { sum };
        let Some(next) = before.add(term) else {
            return exec_err!("row_cumsum of decimals is out of range");
        };
        sum = next;
        sums.append_value(sum.to_string());
    }
    Ok(Arc::new(sums.finish()))
}

/// Nulls count as zero.
fn sums(value: &ArrayRef, restarts: &Restarts<'_>) -> Result<ArrayRef> {
    if let Some(terms) = value.as_primitive_opt::<Int64Type>() {
        let mut sum = 0_i64;
        let sums = terms.iter().enumerate().map(|(row, term)| {
            sum = if restarts.at(row) { 0 } else { sum }.wrapping_add(term.unwrap_or(0));
            sum
        });
        return Ok(Arc::new(Int64Array::from_iter_values(sums)));
    }
    if let Some(terms) = value.as_primitive_opt::<Int32Type>() {
        let mut sum = 0_i32;
        let sums = terms.iter().enumerate().map(|(row, term)| {
            sum = if restarts.at(row) { 0 } else { sum }.wrapping_add(term.unwrap_or(0));
            sum
        });
        return Ok(Arc::new(Int32Array::from_iter_values(sums)));
    }
    if let Some(terms) = value.as_string_view_opt() {
        return decimal_sums(terms, restarts);
    }
    let Some(terms) = value.as_primitive_opt::<Float64Type>() else {
        return exec_err!("row_cumsum takes a number");
    };
    let mut sum = 0.0;
    let sums = terms.iter().enumerate().map(|(row, term)| {
        sum = if restarts.at(row) { 0.0 } else { sum } + term.unwrap_or(0.0);
        sum
    });
    Ok(Arc::new(Float64Array::from_iter_values(sums)))
}

/// The rank of each value among its neighbours: equal neighbours have one rank, and the next has
/// the next number, or the number of its row.
fn ranks(value: &ArrayRef, restarts: &Restarts<'_>, dense: bool) -> Result<ArrayRef> {
    let converter = RowConverter::new(vec![SortField::new(value.data_type().clone())])?;
    let keys = converter.convert_columns(std::slice::from_ref(value))?;
    let (mut rank, mut seen) = (0_i64, 0_i64);
    let ranks = (0..value.len()).map(|row| {
        let begins = row == 0 || restarts.at(row);
        if begins {
            (rank, seen) = (1, 1);
        } else {
            seen += 1;
            if keys.row(row) != keys.row(row - 1) {
                rank = if dense { rank + 1 } else { seen };
            }
        }
        rank
    });
    Ok(Arc::new(Int64Array::from_iter_values(ranks)))
}

/// The first value of each session: a session ends where it is too long or its values too far
/// apart.
fn sessions(value: &ArrayRef, restarts: &Restarts<'_>, most: i64, gap: i64) -> Result<ArrayRef> {
    let Some(times) = value.as_primitive_opt::<Int64Type>() else {
        return exec_err!("row_window_session takes a datetime");
    };
    let (mut first, mut last) = (None::<i64>, None::<i64>);
    let starts = times.iter().enumerate().map(|(row, time)| {
        let time = time?;
        let same = !restarts.at(row)
            && first.is_some_and(|first| time.saturating_sub(first) <= most)
            && last.is_some_and(|last| time.saturating_sub(last) <= gap);
        if !same {
            first = Some(time);
        }
        last = Some(time);
        first
    });
    Ok(Arc::new(starts.collect::<Int64Array>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn longs(values: &[i64]) -> ArrayRef {
        Arc::new(Int64Array::from(values.to_vec()))
    }

    fn found(array: &ArrayRef) -> Vec<Option<i64>> {
        array.as_primitive::<Int64Type>().iter().collect()
    }

    #[test]
    fn ranks_of_equal_neighbours_are_equal() {
        let values = longs(&[3, 3, 5, 5, 9]);
        let dense = ranks(&values, &Restarts(None), true).unwrap();
        assert_eq!(found(&dense), [1, 1, 2, 2, 3].map(Some));
        let least = ranks(&values, &Restarts(None), false).unwrap();
        assert_eq!(found(&least), [1, 1, 3, 3, 5].map(Some));
        let flags = BooleanArray::from(vec![false, false, true, false, false]);
        let again = ranks(&values, &Restarts(Some(&flags)), false).unwrap();
        assert_eq!(found(&again), [1, 1, 1, 1, 3].map(Some));
    }

    #[test]
    fn a_shift_past_either_end_is_the_default() {
        let values = longs(&[1, 2, 3]);
        let none = ScalarValue::Int64(None);
        assert_eq!(found(&shift(&values, 1, &none).unwrap()), [None, Some(1), Some(2)]);
        assert_eq!(found(&shift(&values, -2, &none).unwrap()), [Some(3), None, None]);
        let far = shift(&values, i64::MIN, &ScalarValue::Int64(Some(7))).unwrap();
        assert_eq!(found(&far), [7, 7, 7].map(Some));
    }

    #[test]
    fn sessions_end_by_length_and_by_gap() {
        let times = longs(&[0, 5, 10, 11, 30]);
        let starts = sessions(&times, &Restarts(None), 10, 9).unwrap();
        assert_eq!(found(&starts), [0, 0, 0, 11, 30].map(Some));
    }
}
