//! `reduce`: the patterns of many texts.

use super::effort::Effort;
use super::values::dynamic_column;
use crate::query::bind::{BindResult, Binder, Items, Scope};
use crate::query::bound::{Column, Relation, RelationKind};
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
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray,
};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Result, exec_err};
use datafusion::execution::TaskContext;
use std::collections::HashMap;
use std::sync::Arc;

/// The share of its rows that a part of a pattern must have, if the query does not say.
const THRESHOLD_DEFAULT: f64 = 0.1;
/// The most patterns that are kept apart.
const PATTERNS_MAX: usize = 10_000;

impl Binder<'_> {
    /// A row for each pattern: the pattern, how many texts have it, and one of them.
    pub(crate) fn reduce(
        &mut self,
        input: Arc<Relation>,
        reduce: &Reduce,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let text = self.expr(&reduce.by, &mut Scope::rows(&input.columns))?;
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
        let mut items = Items::default();
        items.replace("$text", to_text(text));
        let input = self.projected(input, items, span)?;
        let columns = vec![
            Column::new("Pattern", KqlType::String),
            Column::new("Count", KqlType::Long),
            Column::new("Representative", KqlType::Dynamic),
        ];
        let kind = RelationKind::Table {
            inputs: vec![input],
            function: Arc::new(Patterns { threshold, characters }),
            serialized: false,
        };
        self.relation(kind, columns, span)
    }
}

/// Texts of as many words of which enough are the same have one pattern.
#[derive(Debug)]
struct Patterns {
    threshold: f64,
    /// Characters that do not end a word.
    characters: String,
}

/// A pattern: its words, of which `None` stands for any.
struct Pattern {
    words: Vec<Option<usize>>,
    count: i64,
    representative: String,
}

/// The patterns so far. A text is compared with all of its length, so words are compared by number.
#[derive(Default)]
struct Found {
    patterns: Vec<Pattern>,
    by_length: HashMap<usize, Vec<usize>>,
    words: Vec<String>,
    numbers: HashMap<String, usize>,
}

impl Patterns {
    fn words<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let ends = |c: char| !c.is_alphanumeric() && !self.characters.contains(c);
        let mut words = Vec::new();
        let mut start = 0;
        for (at, c) in text.char_indices() {
            if ends(c) {
                words.extend(text.get(start..at).filter(|word| !word.is_empty()));
                let end = at + c.len_utf8();
                words.extend(text.get(at..end));
                start = end;
            }
        }
        words.extend(text.get(start..).filter(|word| !word.is_empty()));
        words
    }

    /// Adds a text to the pattern that it is nearest to.
    async fn add(&self, found: &mut Found, text: &str, effort: &mut Effort) -> Result<()> {
        let mut words = Vec::new();
        for word in self.words(text) {
            words.push(found.number(word, effort)?);
        }
        let best = found.nearest(&words, effort).await;
        #[expect(clippy::cast_precision_loss, reason = "a text has few words")]
        let enough = |same: usize| {
            words.is_empty() || same as f64 / words.len() as f64 >= (1.0 - self.threshold).min(0.5)
        };
        if let Some((place, same)) = best
            && (enough(same) || found.patterns.len() >= PATTERNS_MAX)
            && let Some(pattern) = found.patterns.get_mut(place)
        {
            pattern.count += 1;
            for (of_pattern, word) in pattern.words.iter_mut().zip(&words) {
                if of_pattern.as_ref() != Some(word) {
                    *of_pattern = None;
                }
            }
            return Ok(());
        }
        effort.keep(size_of::<Pattern>() + 16 * words.len() + text.len())?;
        found.by_length.entry(words.len()).or_default().push(found.patterns.len());
        found.patterns.push(Pattern {
            words: words.into_iter().map(Some).collect(),
            count: 1,
            representative: text.to_owned(),
        });
        Ok(())
    }
}

impl Found {
    fn number(&mut self, word: &str, effort: &mut Effort) -> Result<usize> {
        if let Some(number) = self.numbers.get(word) {
            return Ok(*number);
        }
        let number = self.words.len();
        effort.keep(2 * (size_of::<String>() + word.len()) + size_of::<usize>())?;
        self.words.push(word.to_owned());
        self.numbers.insert(word.to_owned(), number);
        Ok(number)
    }

    /// The first of the patterns that have the most words in common, and how many.
    async fn nearest(&self, words: &[usize], effort: &mut Effort) -> Option<(usize, usize)> {
        let mut best: Option<(usize, usize)> = None;
        for place in self.by_length.get(&words.len()).into_iter().flatten() {
            let Some(pattern) = self.patterns.get(*place) else { continue };
            let pairs = pattern.words.iter().zip(words);
            let same = pairs.filter(|(of_pattern, word)| of_pattern.as_ref() == Some(word)).count();
            if best.is_none_or(|(_, most)| same > most) {
                best = Some((*place, same));
            }
            if same == words.len() {
                break;
            }
            effort.step().await;
        }
        best
    }

    fn text(&self, pattern: &Pattern) -> String {
        let mut text = String::new();
        for word in &pattern.words {
            match word.and_then(|word| self.words.get(word)) {
                Some(word) => text.push_str(word),
                None if text.ends_with('*') => {}
                None => text.push('*'),
            }
        }
        text
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
        let Some(texts) = inputs.first().and_then(|input| input.column(0).as_string_view_opt())
        else {
            return exec_err!("reduce takes text");
        };
        let texts: &StringViewArray = texts;
        let mut effort = Effort::new(self.name(), context);
        let mut found = Found::default();
        for row in 0..texts.len() {
            self.add(&mut found, texts.value(row), &mut effort).await?;
            effort.step().await;
        }
        let mut patterns: Vec<&Pattern> = found.patterns.iter().collect();
        patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.count));
        let names: StringViewArray =
            patterns.iter().map(|pattern| Some(found.text(pattern))).collect();
        let counts = Int64Array::from_iter_values(patterns.iter().map(|pattern| pattern.count));
        let shown: Vec<Value> =
            patterns.iter().map(|pattern| Value::Text(pattern.representative.clone())).collect();
        let columns: Vec<ArrayRef> =
            vec![Arc::new(names), Arc::new(counts), dynamic_column(&shown)?];
        Ok(vec![RecordBatch::try_new(Arc::clone(schema), columns)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::Schema;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn what_differs_becomes_a_star() {
        let reduce = Patterns { threshold: 0.1, characters: String::new() };
        let mut found = Found::default();
        let mut effort = Effort::new("test", &TaskContext::default());
        for text in ["user 1 logged in", "user 22 logged in", "disk full"] {
            reduce.add(&mut found, text, &mut effort).await.unwrap();
        }
        let shown: Vec<(String, i64)> =
            found.patterns.iter().map(|pattern| (found.text(pattern), pattern.count)).collect();
        assert_eq!(shown, [("user * logged in".to_owned(), 2), ("disk full".to_owned(), 1)]);
    }

    #[tokio::test]
    async fn many_patterns_give_turns() {
        let reduce = Patterns { threshold: 0.1, characters: String::new() };
        let texts: StringViewArray = (0..100).map(|at| Some(format!("{at}"))).collect();
        let texts: ArrayRef = Arc::new(texts);
        let input = RecordBatch::try_from_iter([("text", texts)]).unwrap();
        let (schema, context) = (Arc::new(Schema::empty()), Arc::default());
        let run = reduce.run(vec![input], &schema, &context);
        assert!(run.now_or_never().is_none());
    }
}
