//! What is wrong with a query, and where.

use super::limits::DIAGNOSTICS_MAX;
use super::syntax::Span;
use std::fmt;

/// The kind of a diagnostic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum DiagnosticKind {
    /// The text is not a query.
    Syntax,
    /// The query is well formed but means nothing: an unknown name, a wrong type.
    Semantic,
    /// The query is right, but this version cannot run it.
    Unsupported,
}

/// One thing that is wrong with a query.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Diagnostic {
    /// What kind of thing.
    pub kind: DiagnosticKind,
    /// What is wrong, in lower case.
    pub message: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in that line, in characters from 1.
    pub column: usize,
    /// The bytes of the query text that are meant.
    pub span: Span,
    /// A known name that is near to the one given.
    pub suggestion: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)?;
        if let Some(name) = &self.suggestion {
            write!(f, "; did you mean `{name}`?")?;
        }
        Ok(())
    }
}

/// A diagnostic before its place is counted in lines.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Problem {
    /// What kind of thing.
    pub kind: DiagnosticKind,
    /// Where.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// A known name that is near to the one given.
    pub suggestion: Option<String>,
}

impl Problem {
    /// Text that is not a query.
    #[must_use]
    pub fn syntax(span: Span, message: impl Into<String>) -> Self {
        Self { kind: DiagnosticKind::Syntax, span, message: message.into(), suggestion: None }
    }

    /// A query that means nothing.
    #[must_use]
    pub fn semantic(span: Span, message: impl Into<String>) -> Self {
        Self { kind: DiagnosticKind::Semantic, span, message: message.into(), suggestion: None }
    }

    /// A query that this version cannot run; `name` is the operator, function or form.
    #[must_use]
    pub fn unsupported(span: Span, name: impl Into<String>) -> Self {
        let message = format!("`{}` is not supported in this version", name.into());
        Self { kind: DiagnosticKind::Unsupported, span, message, suggestion: None }
    }

    /// The same, with the nearest of the known names, if one is near.
    #[must_use]
    pub fn near<'a>(mut self, given: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        self.suggestion = nearest(given, known);
        self
    }
}

/// Counts the places of problems in lines and columns. The order is that of the text.
#[must_use]
pub fn locate(text: &str, mut problems: Vec<Problem>) -> Vec<Diagnostic> {
    problems.sort_by_key(|problem| problem.span.start);
    problems.dedup();
    problems.truncate(DIAGNOSTICS_MAX);
    let place = |at: usize| {
        let before = text.get(..at.min(text.len())).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        (before.matches('\n').count() + 1, column)
    };
    problems
        .into_iter()
        .map(|problem| {
            let (line, column) = place(problem.span.start);
            Diagnostic {
                kind: problem.kind,
                message: problem.message,
                line,
                column,
                span: problem.span,
                suggestion: problem.suggestion,
            }
        })
        .collect()
}

/// The longest name that is compared, in characters.
const NAME_COMPARED_MAX: usize = 64;

/// The known name nearest to the given one: at most a third of its characters differ.
#[must_use]
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    if given.chars().count() > NAME_COMPARED_MAX {
        return None;
    }
    let allowed = (given.chars().count() / 3).max(1);
    known
        .into_iter()
        .filter(|name| *name != given && name.len() <= NAME_COMPARED_MAX)
        .map(|name| (distance(&given.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, name)| name.to_owned())
}

/// The edits between two names, a swap of neighbours counting as one.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for (i, ca) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(ca != cb);
            let mut best = replaced.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *ca == b[j - 1] && a[i - 1] == *cb {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        let known = ["Computer", "CounterValue", "where", "project"];
        assert_eq!(nearest("Compuetr", known).as_deref(), Some("Computer"));
        assert_eq!(nearest("counterValue", known).as_deref(), Some("CounterValue"));
        assert_eq!(nearest("wher", known).as_deref(), Some("where"));
        assert_eq!(nearest("zzzz", known), None);
    }

    #[test]
    fn places_are_counted_in_characters() {
        let problem = Problem::syntax(Span::new(9, 10), "x");
        let found = locate("é\nünd | #", vec![problem]);
        assert_eq!((found[0].line, found[0].column), (2, 6));
    }
}
