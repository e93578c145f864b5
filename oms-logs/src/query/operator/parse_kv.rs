//! `parse-kv`: columns out of text of keys and values.

use crate::query::bind::{BindResult, Binder, Items, Scope};
use crate::query::bound::{Column, Expr, Relation, RelationKind};
use crate::query::diagnostic::Problem;
use crate::query::function::to_text;
use crate::query::plan::RowFunction;
use crate::query::syntax::Span;
use crate::query::syntax::ast::ParseKv;
use crate::query::types::KqlType;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringViewArray, StringViewBuilder};
use datafusion::common::{Result, exec_err};
use regex::Regex;
use std::sync::Arc;

/// The options of `parse-kv`.
const OPTIONS: [&str; 6] = ["escape", "greedy", "kv_delimiter", "pair_delimiter", "quote", "regex"];

impl Binder<'_> {
    /// The input with a column for each key; null or empty where the key is not there.
    pub(crate) fn parse_kv(
        &mut self,
        input: Arc<Relation>,
        parse: &ParseKv,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let text = self.expr(&parse.text, &mut Scope::rows(&input.columns))?;
        let mut wanted: Vec<Column> = Vec::new();
        for key in &parse.keys {
            let kql_type = self.kql_type(&key.kql_type)?;
            if wanted.iter().any(|column| column.name == key.name.text) {
                let message = format!("there is a column `{}` already", key.name.text);
                return Err(self.report(Problem::semantic(key.name.span, message)));
            }
            wanted.push(Column::new(&key.name.text, kql_type));
        }
        let reader = self.reader(parse, span)?;
        let function =
            KeyValues { reader, keys: wanted.iter().map(|column| column.name.clone()).collect() };
        let of_input = input.columns.clone();
        let added: Vec<Column> = (0..wanted.len())
            .map(|at| Column::new(format!("$part{at}"), KqlType::String))
            .collect();
        let columns = of_input.iter().chain(&added).cloned().collect();
        let kind = RelationKind::Append {
            input,
            function: Arc::new(function),
            arguments: vec![to_text(text)],
            added,
        };
        let parts = self.relation(kind, columns, span)?;
        let mut items = Items::of_columns(&of_input, span);
        for (at, column) in wanted.iter().enumerate() {
            let part = Expr::column(format!("$part{at}"), KqlType::String, span);
            let value = self.converted(part, column.kql_type)?;
            items.replace(&column.name, value);
        }
        self.projected(parts, items, span)
    }

    fn reader(&mut self, parse: &ParseKv, span: Span) -> BindResult<Reader> {
        let mut quotes = Vec::new();
        let mut escapes = Vec::new();
        let (mut pair, mut kv, mut regex, mut greedy) = (None, None, None, false);
        for (name, value) in &parse.options {
            let bound = self.expr(value, &mut Scope::constants())?;
            let text = bound.as_text().map(str::to_owned);
            match (name.text.as_str(), text) {
                ("pair_delimiter", Some(text)) => pair = Some(text),
                ("kv_delimiter", Some(text)) => kv = Some(text),
                ("quote", Some(text)) => {
                    let mut marks = text.chars();
                    let open = marks.next();
                    let close = marks.next().or(open);
                    match (open, close, marks.next()) {
                        (Some(open), Some(close), None) => quotes.push((open, close)),
                        _ => {
                            let message = "`quote` takes one or two characters";
                            return Err(self.report(Problem::semantic(value.span, message)));
                        }
                    }
                }
                ("escape", Some(text)) => escapes.extend(text.chars().next()),
                ("regex", Some(text)) => regex = Some((text, value.span)),
                ("greedy", None) => {
                    greedy = bound.as_constant()
                        == Some(&datafusion::scalar::ScalarValue::Boolean(Some(true)));
                }
                (other, _) => {
                    let message = format!("`{other}` is not an option of parse-kv here");
                    let problem = Problem::semantic(name.span, message).near(other, OPTIONS);
                    return Err(self.report(problem));
                }
            }
        }
        if let Some((pattern, at)) = regex {
            let regex = Regex::new(&pattern).ok().filter(|regex| regex.captures_len() == 3);
            return match regex {
                Some(regex) => Ok(Reader::Regex(regex)),
                None => {
                    let message = "`regex` takes a regular expression with two groups";
                    Err(self.report(Problem::semantic(at, message)))
                }
            };
        }
        let marks = Marks { quotes, escapes };
        match (pair, kv) {
            (Some(pair), Some(kv)) if !pair.is_empty() && !kv.is_empty() => {
                Ok(Reader::Delimited { pair, kv, greedy, marks })
            }
            (None, None) => Ok(Reader::Words(marks)),
            _ => {
                let message = "`pair_delimiter` and `kv_delimiter` go together and are not empty";
                Err(self.report(Problem::semantic(span, message)))
            }
        }
    }
}

/// Quotes and escapes of values.
#[derive(Clone, Debug, Default)]
struct Marks {
    quotes: Vec<(char, char)>,
    escapes: Vec<char>,
}

impl Marks {
    /// A quoted text at the start: the text, without escapes, and its length with its quotes.
    fn quoted(&self, text: &str) -> Option<(String, usize)> {
        let open = text.chars().next()?;
        let (_, close) = self.quotes.iter().find(|(quote, _)| *quote == open)?;
        let mut value = String::new();
        let mut rest = text.char_indices().skip(1);
        while let Some((at, c)) = rest.next() {
            if self.escapes.contains(&c) {
                value.extend(rest.next().map(|(_, c)| c));
            } else if c == *close {
                return Some((value, at + c.len_utf8()));
            } else {
                value.push(c);
            }
        }
        None
    }
}

/// How keys and values are found.
#[derive(Debug)]
enum Reader {
    Delimited {
        pair: String,
        kv: String,
        greedy: bool,
        marks: Marks,
    },
    /// Whatever is no letter or digit delimits.
    Words(Marks),
    Regex(Regex),
}

impl Reader {
    /// The first value of each key.
    fn values(&self, text: &str, keys: &[String]) -> Vec<Option<String>> {
        let mut values: Vec<Option<String>> = vec![None; keys.len()];
        let mut found = |key: &str, value: String| {
            if let Some(at) = keys.iter().position(|wanted| wanted == key)
                && let Some(slot @ None) = values.get_mut(at)
            {
                *slot = Some(value);
            }
        };
        match self {
            Self::Regex(regex) => {
                for groups in regex.captures_iter(text) {
                    let group = |at: usize| groups.get(at).map_or("", |group| group.as_str());
                    found(group(1).trim(), group(2).trim().to_owned());
                }
            }
            Self::Words(marks) => words(text, marks, keys, &mut found),
            Self::Delimited { pair, kv, greedy, marks } => {
                delimited(text, (pair, kv), *greedy, marks, &mut found);
            }
        }
        values
    }
}

/// A key, the delimiter, a value up to the next delimiter of pairs.
fn delimited(
    text: &str,
    (pair, kv): (&str, &str),
    greedy: bool,
    marks: &Marks,
    found: &mut impl FnMut(&str, String),
) {
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        // The key: quoted, or what stands before the delimiter, after the last delimiter of pairs.
        let start = rest.len() - rest.trim_start().len();
        let after_blank = rest.get(start..).unwrap_or_default();
        let (key, mut next) = match marks.quoted(after_blank) {
            Some((key, length)) => {
                let after = after_blank.get(length..).unwrap_or_default();
                let Some(mark) = after.find(kv) else { return };
                (key, at + start + length + mark + kv.len())
            }
            None => {
                let Some(mark) = rest.find(kv) else { return };
                let before = rest.get(..mark).unwrap_or_default().trim_end();
                let key = before.rfind(pair).map_or(0, |cut| cut + pair.len());
                (before.get(key..).unwrap_or_default().trim().to_owned(), at + mark + kv.len())
            }
        };
        let rest = text.get(next..).unwrap_or_default();
        next += rest.len() - rest.trim_start().len();
        let rest = text.get(next..).unwrap_or_default();
        let value = match marks.quoted(rest) {
            Some((value, length)) => {
                let after = rest.get(length..).unwrap_or_default();
                next += length + after.find(pair).map_or(after.len(), |cut| cut + pair.len());
                value
            }
            None => {
                let end = if greedy { greedy_end(rest, pair, kv) } else { rest.find(pair) };
                let end = end.unwrap_or(rest.len());
                next += (end + pair.len()).min(rest.len());
                rest.get(..end).unwrap_or_default().trim().to_owned()
            }
        };
        found(&key, value);
        at = next;
    }
}

/// Where a value ends that may hold delimiters of pairs: before the last one before the next key.
fn greedy_end(text: &str, pair: &str, kv: &str) -> Option<usize> {
    let next_key = text.find(kv)?;
    text.get(..next_key)?.trim_end().rfind(pair)
}

/// Keys and values are runs of letters and digits, or quoted.
fn words(text: &str, marks: &Marks, keys: &[String], found: &mut impl FnMut(&str, String)) {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut before: Option<String> = None;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let (word, length) = match marks.quoted(rest) {
            Some(quoted) => quoted,
            None => {
                let length = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
                if length == 0 {
                    at += rest.chars().next().map_or(1, char::len_utf8);
                    continue;
                }
                (rest.get(..length).unwrap_or_default().to_owned(), length)
            }
        };
        at += length.max(1);
        match before.take() {
            Some(key) => found(&key, word),
            None if keys.contains(&word) => before = Some(word),
            None => {}
        }
    }
}

/// Makes a column of text for each key.
#[derive(Debug)]
struct KeyValues {
    reader: Reader,
    keys: Vec<String>,
}

impl RowFunction for KeyValues {
    fn name(&self) -> &'static str {
        "parse_kv"
    }

    fn run(&self, arguments: &[ArrayRef], rows: usize) -> Result<Vec<ArrayRef>> {
        let Some(text) = arguments.first().and_then(|array| array.as_string_view_opt()) else {
            return exec_err!("parse-kv takes text");
        };
        let text: &StringViewArray = text;
        let mut columns: Vec<StringViewBuilder> =
            self.keys.iter().map(|_| StringViewBuilder::with_capacity(rows)).collect();
        for row in 0..rows {
            let value = if text.is_null(row) { "" } else { text.value(row) };
            for (column, value) in columns.iter_mut().zip(self.reader.values(value, &self.keys)) {
                column.append_value(value.unwrap_or_default());
            }
        }
        Ok(columns.into_iter().map(|mut column| Arc::new(column.finish()) as ArrayRef).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reader: &Reader, text: &str, expect: &[&str]) {
        let keys: Vec<String> = ["a", "b c", "d"].map(str::to_owned).to_vec();
        let values = reader.values(text, &keys);
        let shown: Vec<&str> = values.iter().map(|value| value.as_deref().unwrap_or("-")).collect();
        assert_eq!(shown, expect, "{text}");
    }

    fn reader(pair: &str, kv: &str, greedy: bool) -> Reader {
        let marks = Marks { quotes: vec![('"', '"'), ('(', ')')], escapes: vec!['\\'] };
        Reader::Delimited { pair: pair.to_owned(), kv: kv.to_owned(), greedy, marks }
    }

    #[test]
    fn delimiters_and_quotes() {
        let plain = reader(";", "=", false);
        check(&plain, "a=1; d = x y ;a=2", &["1", "-", "x y"]);
        check(&plain, "\"b c\"=(x;y);d=\"q\\\"=;\"", &["-", "x;y", "q\"=;"]);
        check(&plain, "noise;a=é;=;d=", &["é", "-", ""]);
        check(&reader(" ", "=", false), "a=John Doe d=5", &["John", "-", "5"]);
        check(&reader(" ", "=", true), "a=John Doe d=5 6", &["John Doe", "-", "5 6"]);
        check(&reader(" ", "=", false), "  a  =  value  ", &["value", "-", "-"]);
    }

    #[test]
    fn words_and_regular_expressions() {
        let marks = Marks { quotes: vec![('\'', '\'')], escapes: vec!['\\'] };
        check(&Reader::Words(marks), "x [a:12], d -> 'it \\' is'", &["12", "-", "it ' is"]);
        let pairs = Regex::new(r"(\w+)<([^>]*)>").unwrap();
        check(&Reader::Regex(pairs), "a<1> d<2 3>", &["1", "-", "2 3"]);
    }
}
