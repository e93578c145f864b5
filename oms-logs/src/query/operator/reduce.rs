//! `reduce`: the patterns of many texts.

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
    words: Vec<Option<String>>,
    count: i64,
    representative: String,
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
    fn add(
        &self,
        patterns: &mut Vec<Pattern>,
        by_length: &mut HashMap<usize, Vec<usize>>,
        text: &str,
    ) {
        let words = self.words(text);
        let near = by_length.entry(words.len()).or_default();
        let mut best: Option<(usize, usize)> = None;
        for place in near.iter() {
            let Some(pattern) = patterns.get(*place) else { continue };
            let same = pattern
                .words
                .iter()
                .zip(&words)
                .filter(|(of_pattern, word)| of_pattern.as_deref() == Some(word))
                .count();
            if best.is_none_or(|(_, most)| same > most) {
                best = Some((*place, same));
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a text has few words")]
        let enough = |same: usize| {
            words.is_empty() || same as f64 / words.len() as f64 >= (1.0 - self.threshold).min(0.5)
        };
        if let Some((place, same)) = best
            && (enough(same) || patterns.len() >= PATTERNS_MAX)
            && let Some(pattern) = patterns.get_mut(place)
        {
            pattern.count += 1;
            for (of_pattern, word) in pattern.words.iter_mut().zip(&words) {
                if of_pattern.as_deref() != Some(word) {
                    *of_pattern = None;
                }
            }
            return;
        }
        near.push(patterns.len());
        patterns.push(Pattern {
            words: words.iter().map(|word| Some((*word).to_owned())).collect(),
            count: 1,
            representative: text.to_owned(),
        });
    }
}

impl Pattern {
    fn text(&self) -> String {
        let mut text = String::new();
        for word in &self.words {
            match word {
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
        _context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        let Some(texts) = inputs.first().and_then(|input| input.column(0).as_string_view_opt())
        else {
            return exec_err!("reduce takes text");
        };
        let texts: &StringViewArray = texts;
        let (mut patterns, mut by_length) = (Vec::new(), HashMap::new());
        for row in 0..texts.len() {
            self.add(&mut patterns, &mut by_length, texts.value(row));
        }
        patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.count));
        let names: StringViewArray = patterns.iter().map(|pattern| Some(pattern.text())).collect();
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

    #[test]
    fn what_differs_becomes_a_star() {
        let reduce = Patterns { threshold: 0.1, characters: String::new() };
        let (mut patterns, mut by_length) = (Vec::new(), HashMap::new());
        for text in ["user 1 logged in", "user 22 logged in", "disk full"] {
            reduce.add(&mut patterns, &mut by_length, text);
        }
        let shown: Vec<(String, i64)> =
            patterns.iter().map(|pattern| (pattern.text(), pattern.count)).collect();
        assert_eq!(shown, [("user * logged in".to_owned(), 2), ("disk full".to_owned(), 1)]);
    }
}
