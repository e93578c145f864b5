//! `reduce`: the patterns of many texts.
//!
//! A term that enough texts have at the same place is of their pattern; what stands elsewhere is a `*`.
//! Texts whose pattern too few have are gathered under [`OTHERS`]. (Vaarandi, "A Data Clustering
//! Algorithm for Mining Patterns From Event Logs", which the language's documentation names.)

use super::effort::Effort;
use super::values::dynamic_column;
use crate::query::bind::{BindResult, Binder, Items, Scope};
use crate::query::bound::{Column, Expr, Relation, RelationKind};
use crate::query::diagnostic::Problem;
use crate::query::dynamic::Value;
use crate::query::function::aggregate::constant_real;
use crate::query::function::to_text;
use crate::query::plan::TableFunction;
use crate::query::syntax::Span;
use crate::query::syntax::ast::Reduce;
use crate::query::types::KqlType;
use async_trait::async_trait;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray, StringViewBuilder,
};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Result, exec_err};
use datafusion::execution::TaskContext;
use std::collections::HashMap;
use std::sync::Arc;

/// The share of the rows that more rows than have a pattern, if the query does not say.
const THRESHOLD_DEFAULT: f64 = 0.1;
/// The pattern of the texts that have no other.
const OTHERS: &str = "others";
/// The column of the texts, which comes last.
const TEXT: &str = "$text";

impl Binder<'_> {
    /// A row for each pattern: the pattern, how many texts have it, and one of them. With
    /// `kind=source`, the rows as they are, each with its pattern.
    pub(crate) fn reduce(
        &mut self,
        input: Arc<Relation>,
        reduce: &Reduce,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let text = self.expr(&reduce.by, &mut Scope::rows(&input.columns))?;
        let keeps_rows = match &reduce.kind {
            None => false,
            Some(kind) if kind.text == "source" => true,
            Some(kind) => {
                let message = format!("`{}` is not a kind of reduce", kind.text);
                let problem = Problem::semantic(kind.span, message).near(&kind.text, ["source"]);
                return Err(self.report(problem));
            }
        };
        let (mut threshold, mut characters) = (THRESHOLD_DEFAULT, String::new());
        for (name, value) in &reduce.options {
            let bound = self.expr(value, &mut Scope::constants())?;
            match (name.text.as_str(), bound.as_text(), constant_real(&bound)) {
                ("threshold", _, Some(value)) if (0.0..=1.0).contains(&value) => threshold = value,
                ("characters", Some(text), _) => text.clone_into(&mut characters),
                (other, ..) => {
                    let message = format!("`{other}` is not an option of reduce here");
                    let known = ["characters", "threshold"];
                    return Err(
                        self.report(Problem::semantic(name.span, message).near(other, known))
                    );
                }
            }
        }
        let (mut items, columns) = if keeps_rows {
            let mut columns = Items::of_columns(&input.columns, span);
            let null = Expr::null(KqlType::String, span);
            columns.add_implied(Some("Pattern".to_owned()), "Column", null);
            (Items::of_columns(&input.columns, span), columns.columns())
        } else {
            let columns = vec![
                Column::new("Pattern", KqlType::String),
                Column::new("Count", KqlType::Long),
                Column::new("Representative", KqlType::Dynamic),
            ];
            (Items::default(), columns)
        };
        items.add_implied(Some(TEXT.to_owned()), "Column", to_text(text));
        let input = self.projected(input, items, span)?;
        let kind = RelationKind::Table {
            inputs: vec![input],
            function: Arc::new(Patterns { threshold, characters, keeps_rows }),
            serialized: false,
        };
        self.relation(kind, columns, span)
    }
}

#[derive(Debug)]
struct Patterns {
    /// More than this share of the rows have a term or a pattern, or all of them.
    threshold: f64,
    /// Characters that end a term although they are letters or digits, or that end none although
    /// they are neither.
    characters: String,
    /// Whether the rows are kept.
    keeps_rows: bool,
}

/// A part of a text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Part<'t> {
    Term(&'t str),
    /// What ends a term; whether it is one of the given letters, which a `*` beside it takes in.
    Separator(&'t str, bool),
}

/// How often each term is there, by the place among the terms of its text.
type Terms<'t> = HashMap<(usize, &'t str), usize>;

/// The patterns: how many texts have each, and the first of these.
#[derive(Debug, Default)]
struct Found {
    numbers: HashMap<String, usize>,
    names: Vec<String>,
    counts: Vec<usize>,
    firsts: Vec<usize>,
}

impl Patterns {
    fn parts<'t>(&self, text: &'t str) -> Vec<Part<'t>> {
        let ends = |c: char| c.is_alphanumeric() == self.characters.contains(c);
        let mut parts = Vec::new();
        let mut start = 0;
        for (at, c) in text.char_indices().filter(|(_, c)| ends(*c)) {
            let end = at + c.len_utf8();
            parts.extend(text.get(start..at).filter(|term| !term.is_empty()).map(Part::Term));
            parts.extend(text.get(at..end).map(|of| Part::Separator(of, c.is_alphanumeric())));
            start = end;
        }
        parts.extend(text.get(start..).filter(|term| !term.is_empty()).map(Part::Term));
        parts
    }

    /// Whether so many of the rows are enough for a pattern.
    #[expect(clippy::cast_precision_loss, reason = "rows are fewer than 2^53")]
    fn is_enough(&self, count: usize, rows: usize) -> bool {
        count == rows || count as f64 > self.threshold * rows as f64
    }

    /// How often each term is there. A number is what texts of one pattern differ in, and so is no
    /// term.
    async fn terms<'t>(
        &self,
        texts: &'t StringViewArray,
        effort: &mut Effort,
    ) -> Result<Terms<'t>> {
        let mut terms = Terms::new();
        for row in 0..texts.len() {
            for (place, term) in numbered(&self.parts(texts.value(row))) {
                let before = terms.len();
                *terms.entry((place, term)).or_default() += 1;
                if terms.len() > before {
                    effort.keep(2 * size_of::<(usize, &str, usize)>())?;
                }
                effort.step().await;
            }
        }
        Ok(terms)
    }

    /// The text with a `*` for what too few texts have; `None` if that is all of it.
    fn pattern(&self, text: &str, terms: &Terms<'_>, rows: usize) -> Option<String> {
        let mut pattern = String::new();
        let (mut place, mut has_term) = (0, false);
        // A separator is written when it is known what follows.
        let mut between: Vec<(&str, bool)> = Vec::new();
        for part in self.parts(text) {
            match part {
                Part::Separator(separator, is_letter) => between.push((separator, is_letter)),
                Part::Term(term) => {
                    let count = if is_number(term) { None } else { terms.get(&(place, term)) };
                    let is_kept = count.is_some_and(|count| self.is_enough(*count, rows));
                    separate(&mut pattern, &mut between, !is_kept);
                    if is_kept {
                        pattern.push_str(term);
                        has_term = true;
                    } else if !pattern.ends_with('*') {
                        pattern.push('*');
                    }
                    place += 1;
                }
            }
        }
        separate(&mut pattern, &mut between, false);
        has_term.then_some(pattern)
    }

    /// The pattern of each row.
    async fn find(
        &self,
        texts: &StringViewArray,
        effort: &mut Effort,
    ) -> Result<(Found, Vec<usize>)> {
        let terms = self.terms(texts, effort).await?;
        let mut found = Found::default();
        let mut of_rows = Vec::new();
        effort.keep(texts.len() * size_of::<usize>())?;
        for row in 0..texts.len() {
            let pattern = self.pattern(texts.value(row), &terms, texts.len());
            of_rows.push(found.add(pattern.unwrap_or_else(|| OTHERS.to_owned()), row, effort)?);
            effort.step().await;
        }
        Ok((found, of_rows))
    }
}

/// The separators before a term. What a `*` stands for may also have separators within it.
fn separate(pattern: &mut String, between: &mut Vec<(&str, bool)>, is_wild: bool) {
    let was_wild = pattern.ends_with('*');
    for (separator, is_letter) in between.drain(..) {
        let is_taken_in = (was_wild && is_wild) || (is_letter && (was_wild || is_wild));
        if !is_taken_in {
            pattern.push_str(separator);
        }
    }
}

fn is_number(term: &str) -> bool {
    term.bytes().all(|byte| byte.is_ascii_digit())
}

/// The terms that are no numbers, each with its place among the terms.
fn numbered<'p, 't: 'p>(parts: &'p [Part<'t>]) -> impl Iterator<Item = (usize, &'t str)> + 'p {
    let terms = parts.iter().filter_map(|part| match part {
        Part::Term(term) => Some(*term),
        Part::Separator(..) => None,
    });
    terms.enumerate().filter(|(_, term)| !is_number(term))
}

impl Found {
    /// The number of a pattern that a row has.
    fn add(&mut self, pattern: String, row: usize, effort: &mut Effort) -> Result<usize> {
        if let Some(number) = self.numbers.get(&pattern) {
            if let Some(count) = self.counts.get_mut(*number) {
                *count += 1;
            }
            return Ok(*number);
        }
        let number = self.names.len();
        effort.keep(2 * (size_of::<String>() + pattern.len()) + 3 * size_of::<usize>())?;
        self.names.push(pattern.clone());
        self.numbers.insert(pattern, number);
        self.counts.push(1);
        self.firsts.push(row);
        Ok(number)
    }

    /// What each pattern is shown as, and how many rows have it: those of too few rows are others.
    fn shown(&self, patterns: &Patterns, rows: usize) -> Vec<(&str, usize)> {
        let all = self.names.iter().zip(&self.counts);
        let shown = all.map(|(name, count)| {
            (if patterns.is_enough(*count, rows) { name } else { OTHERS }, *count)
        });
        shown.collect()
    }
}

#[async_trait]
impl TableFunction for Patterns {
    fn name(&self) -> &'static str {
        "reduce"
    }

    async fn run(
        &self,
        inputs: Vec<RecordBatch>,
        schema: &SchemaRef,
        context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        let Some(input) = inputs.first() else { return exec_err!("reduce takes a table") };
        let Some((texts, others)) = input.columns().split_last() else {
            return exec_err!("reduce takes a column");
        };
        let Some(texts) = texts.as_string_view_opt() else { return exec_err!("reduce takes text") };
        let mut effort = Effort::new(self.name(), context);
        let (found, of_rows) = self.find(texts, &mut effort).await?;
        let shown = found.shown(self, texts.len());
        let columns = if self.keeps_rows {
            let mut patterns = StringViewBuilder::with_capacity(of_rows.len());
            for number in of_rows {
                patterns.append_value(shown.get(number).map_or(OTHERS, |(name, _)| *name));
            }
            let mut columns = others.to_vec();
            columns.push(Arc::new(patterns.finish()));
            columns
        } else {
            summed(&shown, &found.firsts, texts)?
        };
        Ok(vec![RecordBatch::try_new(Arc::clone(schema), columns)?])
    }
}

/// A row for each pattern, the most frequent first, with one of its texts; then the others.
fn summed(
    shown: &[(&str, usize)],
    firsts: &[usize],
    texts: &StringViewArray,
) -> Result<Vec<ArrayRef>> {
    let mut rows: Vec<(&str, usize, &str)> = Vec::new();
    let mut others = 0;
    for ((name, count), first) in shown.iter().zip(firsts) {
        if *name == OTHERS {
            others += count;
        } else {
            rows.push((name, *count, texts.value(*first)));
        }
    }
    rows.sort_by_key(|(_, count, _)| std::cmp::Reverse(*count));
    if others > 0 {
        rows.push((OTHERS, others, ""));
    }
    let names: StringViewArray = rows.iter().map(|(name, ..)| Some(*name)).collect();
    let counts = rows.iter().map(|(_, count, _)| i64::try_from(*count).unwrap_or(i64::MAX));
    let firsts: Vec<Value> =
        rows.iter().map(|(.., first)| Value::Text((*first).to_owned())).collect();
    Ok(vec![
        Arc::new(names),
        Arc::new(Int64Array::from_iter_values(counts)),
        dynamic_column(&firsts)?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::Schema;
    use futures::FutureExt as _;

    fn reduce(characters: &str) -> Patterns {
        Patterns { threshold: 0.1, characters: characters.to_owned(), keeps_rows: false }
    }

    async fn shown(reduce: &Patterns, texts: &[&str]) -> Vec<(String, usize)> {
        let texts: StringViewArray = texts.iter().map(|text| Some(*text)).collect();
        let mut effort = Effort::new("test", &TaskContext::default());
        let (found, _) = reduce.find(&texts, &mut effort).await.unwrap();
        let shown = found.shown(reduce, texts.len()).into_iter();
        shown.map(|(name, count)| (name.to_owned(), count)).collect()
    }

    #[tokio::test]
    async fn what_differs_becomes_a_star() {
        let texts = ["user 1 logged in", "user 22 logged in", "disk full", "at 10:20, x=1"];
        let found = shown(&reduce(""), &texts).await;
        let expect = [("user * logged in", 2), ("disk full", 1), ("at *, x=*", 1)];
        assert_eq!(found, expect.map(|(name, count)| (name.to_owned(), count)));
        // Letters that separate are of the star; signs that do not are of the term.
        assert_eq!(shown(&reduce("Z"), &["fooZ1", "fooZ2"]).await, [("foo*".to_owned(), 2)]);
        assert_eq!(shown(&reduce("-"), &["a-1 b", "a-1 b"]).await, [("a-1 b".to_owned(), 2)]);
    }

    #[tokio::test]
    async fn many_patterns_give_turns() {
        let texts: StringViewArray = (0..2000).map(|at| Some(format!("{at}"))).collect();
        let texts: ArrayRef = Arc::new(texts);
        let input = RecordBatch::try_from_iter([("text", texts)]).unwrap();
        let (schema, context) = (Arc::new(Schema::empty()), Arc::default());
        let reduce = reduce("");
        let run = reduce.run(vec![input], &schema, &context);
        assert!(run.now_or_never().is_none());
    }
}
