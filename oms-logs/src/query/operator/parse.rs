//! `parse` and `parse-where`: columns out of text by a pattern.

use crate::query::bind::{BindResult, Binder, Items, Scope};
use crate::query::bound::{Column, Expr, ExprKind, Relation, RelationKind};
use crate::query::diagnostic::Problem;
use crate::query::function::to_text;
use crate::query::plan::RowFunction;
use crate::query::syntax::Span;
use crate::query::syntax::ast::{Parse, ParsePart};
use crate::query::types::KqlType;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, StringViewArray, StringViewBuilder,
};
use datafusion::common::{Result, exec_err};
use regex::{Regex, RegexBuilder};
use std::fmt::Write;
use std::sync::Arc;

/// The largest compiled pattern, in bytes.
const REGEX_BYTES_MAX: usize = 10 * 1024 * 1024;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Simple,
    Relaxed,
    Regex,
}

impl Binder<'_> {
    /// The input with a column for each name of the pattern. Where the text does not fit, they are
    /// null or empty; so they are where a value does not fit its type, unless the kind is relaxed.
    pub(crate) fn parse(
        &mut self,
        input: Arc<Relation>,
        parse: &Parse,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let kind = match parse.kind.as_ref().map(|kind| kind.text.as_str()) {
            None | Some("simple") => Kind::Simple,
            Some("relaxed") => Kind::Relaxed,
            Some("regex") => Kind::Regex,
            Some(other) => {
                let at = parse.kind.as_ref().map_or(span, |kind| kind.span);
                let message = format!("`{other}` is not a kind of parse");
                let kinds = ["regex", "relaxed", "simple"];
                return Err(self.report(Problem::semantic(at, message).near(other, kinds)));
            }
        };
        let text = self.expr(&parse.text, &mut Scope::rows(&input.columns))?;
        let mut wanted: Vec<Column> = Vec::new();
        let mut parts = Vec::new();
        for part in &parse.parts {
            parts.push(match part {
                ParsePart::Star => Part::Star,
                ParsePart::Text(text) => Part::Text(text.clone()),
                ParsePart::Column { name, kql_type } => {
                    let kql_type = match kql_type {
                        Some(kql_type) => self.kql_type(kql_type)?,
                        None => KqlType::String,
                    };
                    if wanted.iter().any(|column| column.name == name.text) {
                        let message = format!("there is a column `{}` already", name.text);
                        return Err(self.report(Problem::semantic(name.span, message)));
                    }
                    wanted.push(Column::new(&name.text, kql_type));
                    Part::Column(kql_type)
                }
            });
        }
        let flags = parse.flags.as_ref().map_or("", |flags| flags.text.as_str());
        let matcher =
            Matcher::new(kind, flags, parts).map_err(|message| Problem::semantic(span, message));
        let matcher = self.checked(matcher)?;
        let strict = kind != Kind::Relaxed;
        self.parsed(input, to_text(text), Arc::new(matcher), &wanted, strict, parse.only_matches)
    }

    /// The columns that a function makes of text: whether it fits, and a text for each column.
    fn parsed(
        &mut self,
        input: Arc<Relation>,
        text: Expr,
        function: Arc<dyn RowFunction>,
        wanted: &[Column],
        strict: bool,
        only_matches: bool,
    ) -> BindResult<Arc<Relation>> {
        let span = text.span;
        let of_input = input.columns.clone();
        let mut added = vec![Column::new("$fits", KqlType::Bool)];
        added
            .extend((0..wanted.len()).map(|at| Column::new(format!("$part{at}"), KqlType::String)));
        let columns = of_input.iter().chain(&added).cloned().collect();
        let kind = RelationKind::Append { input, function, arguments: vec![text], added };
        let parts = self.relation(kind, columns, span)?;
        let mut fits = vec![Expr::column("$fits", KqlType::Bool, span)];
        let mut values = Vec::new();
        for (at, column) in wanted.iter().enumerate() {
            let part = Expr::column(format!("$part{at}"), KqlType::String, span);
            let value = self.converted(part, column.kql_type)?;
            if column.kql_type != KqlType::String && strict {
                let null = ExprKind::IsNull(Box::new(value.clone()));
                fits.push(crate::query::bind::not(Expr::new(null, KqlType::Bool, span)));
            }
            values.push(value);
        }
        let checked = fits.len() > 1;
        let fits = Expr::new(ExprKind::And(fits), KqlType::Bool, span);
        let mut items = Items::of_columns(&of_input, span);
        for (column, value) in wanted.iter().zip(values) {
            let value = if checked {
                let otherwise = Box::new(Expr::null(column.kql_type, span));
                let kind = ExprKind::Case { branches: vec![(fits.clone(), value)], otherwise };
                Expr::new(kind, column.kql_type, span)
            } else {
                value
            };
            items.replace(&column.name, value);
        }
        let parts = if only_matches { self.filtered(parts, fits, span)? } else { parts };
        self.projected(parts, items, span)
    }
}

#[derive(Clone, Debug)]
enum Part {
    Star,
    Text(String),
    Column(KqlType),
}

/// Finds the texts of columns in text.
#[derive(Debug)]
struct Matcher {
    parts: Vec<Part>,
    /// For patterns of regular expressions: the whole pattern, with a group `kqlN` for each column.
    regex: Option<Regex>,
    columns: usize,
}

impl Matcher {
    fn new(kind: Kind, flags: &str, parts: Vec<Part>) -> std::result::Result<Self, String> {
        let columns = parts.iter().filter(|part| matches!(part, Part::Column(_))).count();
        let regex = if kind == Kind::Regex { Some(whole(flags, &parts)?) } else { None };
        Ok(Self { parts, regex, columns })
    }

    /// The text of each column, or `None` if the text does not fit.
    fn find<'t>(&self, text: &'t str) -> Option<Vec<&'t str>> {
        let Some(regex) = &self.regex else { return simple(&self.parts, text) };
        let found = regex.captures(text)?;
        let group = |at: usize| found.name(&format!("kql{at}")).map_or("", |group| group.as_str());
        Some((0..self.columns).map(group).collect())
    }
}

/// The parts as one regular expression.
fn whole(flags: &str, parts: &[Part]) -> std::result::Result<Regex, String> {
    if let Some(other) = flags.chars().find(|flag| !"Uimsx-".contains(*flag)) {
        return Err(format!("`{other}` is not a flag of regular expressions"));
    }
    let mut pattern = if flags.is_empty() { "^".to_owned() } else { format!("(?{flags})^") };
    let mut column = 0_usize;
    for part in parts {
        match part {
            Part::Star => pattern.push_str(".*?"),
            Part::Text(text) => pattern.push_str(text),
            Part::Column(kql_type) => {
                let value = match kql_type {
                    KqlType::Int | KqlType::Long => r"[-+]?\d+",
                    KqlType::Real | KqlType::Decimal => r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?",
                    _ => ".*",
                };
                // Writing to a string cannot fail.
                let _ = write!(pattern, "(?P<kql{column}>{value})");
                column += 1;
            }
        }
    }
    RegexBuilder::new(&pattern)
        .size_limit(REGEX_BYTES_MAX)
        .build()
        .map_err(|error| format!("regular expression is wrong: {}", last_line(&error.to_string())))
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().trim().to_owned()
}

/// Texts are found from left to right, each at its first place.
fn simple<'t>(parts: &[Part], text: &'t str) -> Option<Vec<&'t str>> {
    let mut found = Vec::new();
    let mut at = 0;
    // Whether anything may stand before the next text.
    let mut loose = false;
    for (place, part) in parts.iter().enumerate() {
        let rest = text.get(at..)?;
        match part {
            Part::Star => loose = true,
            Part::Text(wanted) if loose => {
                at += rest.find(wanted.as_str())? + wanted.len();
                loose = false;
            }
            Part::Text(wanted) => {
                rest.strip_prefix(wanted.as_str())?;
                at += wanted.len();
            }
            Part::Column(kql_type) => {
                let length = match parts.get(place + 1) {
                    Some(Part::Text(next)) => rest.find(next.as_str())?,
                    Some(Part::Star) | Some(Part::Column(_)) | None => {
                        typed_length(*kql_type, rest, parts.get(place + 1).is_none())
                    }
                };
                let value = rest.get(..length)?;
                at += length;
                loose = false;
                found.push(value);
            }
        }
    }
    Some(found)
}

/// How much of the text can be a value of the type.
fn typed_length(kql_type: KqlType, text: &str, last: bool) -> usize {
    let digits = |from: usize| {
        let rest = text.get(from..).unwrap_or_default();
        rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())
    };
    let sign = usize::from(text.starts_with(['-', '+']));
    match kql_type {
        KqlType::String => text.len(),
        KqlType::Int | KqlType::Long => sign + digits(sign),
        KqlType::Real | KqlType::Decimal => {
            let mut end = sign + digits(sign);
            if text.get(end..).is_some_and(|rest| rest.starts_with('.')) {
                end += 1 + digits(end + 1);
            }
            let exponent = text.get(end..).unwrap_or_default();
            if exponent.starts_with(['e', 'E']) {
                let signed = exponent.get(1..).is_some_and(|rest| rest.starts_with(['-', '+']));
                let start = end + 1 + usize::from(signed);
                let more = digits(start);
                if more > 0 {
                    end = start + more;
                }
            }
            end
        }
        _ if last => text.len(),
        _ => text.find([',', ';', ')', '\n', '\t']).unwrap_or(text.len()),
    }
}

impl RowFunction for Matcher {
    fn name(&self) -> &'static str {
        "parse"
    }

    fn run(&self, arguments: &[ArrayRef], rows: usize) -> Result<Vec<ArrayRef>> {
        let Some(text) = arguments.first().and_then(|array| array.as_string_view_opt()) else {
            return exec_err!("parse takes text");
        };
        let text: &StringViewArray = text;
        let typed: Vec<bool> = self
            .parts
            .iter()
            .filter_map(|part| match part {
                Part::Column(kql_type) => Some(*kql_type != KqlType::String),
                _ => None,
            })
            .collect();
        let mut fits = BooleanBuilder::with_capacity(rows);
        let mut columns: Vec<StringViewBuilder> =
            typed.iter().map(|_| StringViewBuilder::with_capacity(rows)).collect();
        for row in 0..rows {
            let value = if text.is_null(row) { "" } else { text.value(row) };
            let found = self.find(value);
            fits.append_value(found.is_some());
            for (at, (column, typed)) in columns.iter_mut().zip(&typed).enumerate() {
                let part = found.as_ref().and_then(|found| found.get(at)).copied();
                let part = part.unwrap_or_default();
                column.append_value(if *typed { part.trim() } else { part });
            }
        }
        let mut made: Vec<ArrayRef> = vec![Arc::new(fits.finish())];
        made.extend(columns.into_iter().map(|mut column| Arc::new(column.finish()) as ArrayRef));
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Part {
        Part::Text(text.to_owned())
    }

    #[test]
    fn texts_are_found_at_their_first_place() {
        let parts = [Part::Star, text("a="), Part::Column(KqlType::String), text(";"), Part::Star];
        assert_eq!(simple(&parts, "x a=1;2; a=3;"), Some(vec!["1"]));
        assert_eq!(simple(&parts, "b=1;"), None);
        let anchored = [text("a="), Part::Column(KqlType::Long), Part::Star, text("!")];
        assert_eq!(simple(&anchored, "a=-12 and more!"), Some(vec!["-12"]));
        assert_eq!(simple(&anchored, "ba=12!"), None);
    }

    #[test]
    fn the_last_column_is_the_rest() {
        let parts = [Part::Column(KqlType::String), text("é"), Part::Column(KqlType::String)];
        assert_eq!(simple(&parts, "aéébé"), Some(vec!["a", "ébé"]));
        assert_eq!(typed_length(KqlType::Real, "-1.5e3x", true), 6);
        assert_eq!(typed_length(KqlType::Real, "2e", true), 1);
    }

    #[test]
    fn regular_expressions_are_greedy_and_begin_at_the_start() {
        let parts =
            || vec![Part::Column(KqlType::String), text("[0-9]+"), Part::Column(KqlType::String)];
        let greedy = Matcher::new(Kind::Regex, "", parts()).unwrap();
        assert_eq!(greedy.find("ab12c"), Some(vec!["ab1", "c"]));
        let lazy = Matcher::new(Kind::Regex, "U", parts()).unwrap();
        assert_eq!(lazy.find("ab12c"), Some(vec!["ab", ""]));
        assert!(Matcher::new(Kind::Regex, "", vec![text("(")]).is_err());
        assert!(Matcher::new(Kind::Regex, "q", parts()).is_err());
    }
}
