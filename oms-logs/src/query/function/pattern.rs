//! Regular expressions, in the syntax of RE2 and without its backtracking: the time that a match
//! takes grows with the length of the text, whatever the pattern.

use super::arguments::{Args, Column};
use super::dynamic_text::{self, Dynamic};
use super::kernel::{KernelFn, call as kernel_call};
use super::runs::Runs;
use super::string::{Search, Searches, bounded, overlapping};
use super::{Call, Function, Naming, Parameter, coerce, conversion, kernel, special};
use crate::query::bound::Expr;
use crate::query::diagnostic::Problem;
use crate::query::syntax::Span;
use crate::query::types::KqlType;
use datafusion::arrow::array::{ArrayRef, StringViewArray};
use datafusion::common::{DataFusionError, Result as DfResult};
use regex::{CaptureLocations, Captures, Regex, RegexBuilder};
use serde_json::Value as Json;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// The largest compiled pattern, in bytes.
const PROGRAM_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The most groups of a pattern of which all matches are taken.
const GROUPS_MAX: usize = 16;

/// The most patterns that one call keeps compiled.
const CACHE_MAX: usize = 64;

/// The most constant patterns that one thread keeps compiled.
const CONSTANTS_MAX: usize = 8;

const PLAIN: Naming = Naming::Default;
const TWO: &[Parameter] = &[Parameter::Text, Parameter::Text];
const THREE: &[Parameter] = &[Parameter::Text, Parameter::Text, Parameter::Text];

pub(super) const FUNCTIONS: &[Function] = &[
    special("extract", PLAIN, bind_extract),
    special("extract_all", PLAIN, bind_extract_all),
    special("extractall", PLAIN, bind_extract_all),
    kernel("replace_regex", PLAIN, THREE, KqlType::String, |args| replace(args, 0, 1, 2))
        .with_pattern(1),
    kernel("replace", PLAIN, THREE, KqlType::String, |args| replace(args, 2, 0, 1)).with_pattern(0),
    kernel("trim", PLAIN, TWO, KqlType::String, |args| trim(args, true, true)).with_pattern(0),
    kernel("trim_start", PLAIN, TWO, KqlType::String, |args| trim(args, true, false))
        .with_pattern(0),
    kernel("trim_end", PLAIN, TWO, KqlType::String, |args| trim(args, false, true)).with_pattern(0),
    special("countof", PLAIN, bind_count),
    kernel(
        "indexof_regex",
        PLAIN,
        &[Parameter::Text, Parameter::Text, Parameter::Long, Parameter::Long, Parameter::Long],
        KqlType::Long,
        index,
    )
    .optional(2)
    .with_pattern(1),
    kernel("regex_quote", PLAIN, &[Parameter::Text], KqlType::String, |args| {
        let text = args.text(0)?;
        args.try_text(|row| {
            let quoted = regex::escape(text.get(row));
            bounded(quoted.len(), "regex_quote")?;
            Ok(Some(quoted))
        })
    }),
];

/// A pattern that is not a constant is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadPattern(String);

/// Compiles a pattern.
pub(crate) fn compile(pattern: &str) -> Result<Regex, BadPattern> {
    RegexBuilder::new(pattern)
        .size_limit(PROGRAM_BYTES_MAX)
        .dfa_size_limit(PROGRAM_BYTES_MAX)
        .build()
        .map_err(|error| {
            // The error draws the pattern over several lines and says at the end what is wrong.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            BadPattern(format!("regular expression `{pattern}` is wrong: {reason}"))
        })
}

/// Fails if the argument is a constant and no pattern.
pub(crate) fn check(arguments: &[Expr], at: usize) -> Result<(), Problem> {
    match arguments.get(at) {
        Some(argument) => check_text(argument.as_text(), argument.span),
        None => Ok(()),
    }
}

fn check_text(pattern: Option<&str>, span: Span) -> Result<(), Problem> {
    match pattern.map(compile) {
        Some(Err(error)) => Err(Problem::semantic(span, error.to_string())),
        _ => Ok(()),
    }
}

/// A compiled pattern.
#[derive(Debug)]
struct Pattern {
    regex: Regex,
    /// The same, if it is so plain.
    runs: Option<Runs>,
}

impl Deref for Pattern {
    type Target = Regex;

    fn deref(&self) -> &Regex {
        &self.regex
    }
}

thread_local! {
    /// Constant patterns that calls of this thread met lately: a query calls once for each batch of
    /// rows.
    static CONSTANTS: RefCell<HashMap<String, Arc<Pattern>>> = RefCell::default();
}

/// The pattern out of those that are known. A compiled pattern is shared and not cloned: each clone
/// finds out anew what it needs to match fast.
fn known_or_compiled(
    known: &mut HashMap<String, Arc<Pattern>>,
    known_max: usize,
    pattern: &str,
) -> DfResult<Arc<Pattern>> {
    if let Some(found) = known.get(pattern) {
        return Ok(Arc::clone(found));
    }
    let regex = compile(pattern).map_err(|error| DataFusionError::External(Box::new(error)))?;
    let made = Arc::new(Pattern { regex, runs: Runs::of(pattern) });
    if known.len() >= known_max {
        known.clear();
    }
    known.insert(pattern.to_owned(), Arc::clone(&made));
    Ok(made)
}

/// The patterns of one call, compiled when they are first met.
#[derive(Debug)]
struct Patterns {
    column: Column<StringViewArray>,
    /// What stands around each pattern.
    around: (&'static str, &'static str),
    compiled: HashMap<String, Arc<Pattern>>,
    /// The pattern of all rows.
    constant: Option<Arc<Pattern>>,
}

impl Patterns {
    fn read(args: &Args<'_>, at: usize, around: (&'static str, &'static str)) -> DfResult<Self> {
        let column = args.text(at)?;
        Ok(Self { column, around, compiled: HashMap::new(), constant: None })
    }

    fn at(&mut self, row: usize) -> DfResult<Arc<Pattern>> {
        if let Some(constant) = &self.constant {
            return Ok(Arc::clone(constant));
        }
        let full = format!("{}{}{}", self.around.0, self.column.get(row), self.around.1);
        if !self.column.is_single() {
            return known_or_compiled(&mut self.compiled, CACHE_MAX, &full);
        }
        let made =
            CONSTANTS.with_borrow_mut(|known| known_or_compiled(known, CONSTANTS_MAX, &full))?;
        self.constant = Some(Arc::clone(&made));
        Ok(made)
    }
}

const AS_IS: (&str, &str) = ("", "");

/// `extract(pattern, group, text)`, with a type that the text is converted to.
fn bind_extract(call: &Call<'_>, mut arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 3, 4)?;
    let wanted = match arguments.get(3) {
        Some(name) => match name.as_text().and_then(KqlType::of_name) {
            Some(kql_type) => Some(kql_type),
            None => return Err(Problem::semantic(name.span, "expected a type: `typeof(long)`")),
        },
        None => None,
    };
    arguments.truncate(3);
    check(&arguments, 0)?;
    let parameters = [Parameter::Text, Parameter::Long, Parameter::Text];
    let arguments = arguments
        .into_iter()
        .zip(parameters)
        .map(|(argument, parameter)| coerce(argument, parameter, call.name))
        .collect::<Result<_, _>>()?;
    let found = kernel_call("extract", extract, arguments, KqlType::String, call.span);
    match wanted {
        Some(kql_type) => conversion::convert(found, kql_type),
        None => Ok(found),
    }
}

/// The text of a group in the first match, empty if there is none.
fn extract(args: &Args<'_>) -> DfResult<ArrayRef> {
    let (mut patterns, group, text) =
        (Patterns::read(args, 0, AS_IS)?, args.long(1)?, args.text(2)?);
    // Where the groups of the last pattern stand: room for them is made once.
    let mut places: Option<(Arc<Pattern>, CaptureLocations)> = None;
    args.try_text(|row| {
        let pattern = patterns.at(row)?;
        let Some(group) = group.get(row).and_then(|group| usize::try_from(group).ok()) else {
            return Ok(None);
        };
        let text = text.get(row);
        if group == 0 {
            return Ok(pattern.find(text).map(|found| found.as_str()));
        }
        let (_, places) = match &mut places {
            Some(last) if Arc::ptr_eq(&last.0, &pattern) => last,
            other => other.insert((Arc::clone(&pattern), pattern.capture_locations())),
        };
        let found = pattern.captures_read(places, text);
        Ok(found.and_then(|_| places.get(group)).and_then(|(from, to)| text.get(from..to)))
    })
}

/// `extract_all(pattern, [groups,] text)`.
fn bind_extract_all(call: &Call<'_>, mut arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 2, 3)?;
    check(&arguments, 0)?;
    let groups = arguments.len() == 3;
    if let Some(constant) = arguments.first().and_then(Expr::as_text)
        && compile(constant).is_ok_and(|pattern| !has_groups(&pattern))
    {
        let message = format!("the pattern of `extract_all` needs 1 to {GROUPS_MAX} groups");
        return Err(call.problem(message));
    }
    if groups && arguments.get(1).is_some_and(|groups| groups.kql_type != KqlType::Dynamic) {
        return Err(call.problem("`extract_all` takes a dynamic array of groups"));
    }
    let text = arguments.pop().ok_or_else(|| call.problem("an argument is missing"))?;
    arguments.push(coerce(text, Parameter::Text, call.name)?);
    let (name, kernel): (_, KernelFn) = if groups {
        ("extract_all_groups", |args| extract_all(args, 2, true))
    } else {
        ("extract_all", |args| extract_all(args, 1, false))
    };
    Ok(kernel_call(name, kernel, arguments, KqlType::Dynamic, call.span))
}

/// Whether all matches of the pattern can be taken. The whole match counts as a group.
fn has_groups(pattern: &Regex) -> bool {
    (2..=GROUPS_MAX + 1).contains(&pattern.captures_len())
}

/// Which groups of each match are wanted: all but the whole if none is named.
fn chosen(pattern: &Regex, groups: Option<&Json>) -> Vec<usize> {
    let of = |group: &Json| match group {
        Json::String(name) => pattern.capture_names().position(|known| known == Some(name)),
        number => usize::try_from(number.as_u64()?).ok().filter(|at| *at < pattern.captures_len()),
    };
    match groups {
        Some(Json::Array(groups)) => groups.iter().filter_map(of).take(GROUPS_MAX).collect(),
        Some(Json::Null) | None => (1..pattern.captures_len()).collect(),
        Some(group) => of(group).into_iter().collect(),
    }
}

/// Each match: the text of its only group, or an array of its groups' texts. Null without a match.
fn extract_all(args: &Args<'_>, text_at: usize, with_groups: bool) -> DfResult<ArrayRef> {
    let (mut patterns, text) = (Patterns::read(args, 0, AS_IS)?, args.text(text_at)?);
    let groups = if with_groups { Some(Dynamic::read(args, 1)?) } else { None };
    let mut failed = None;
    let made = dynamic_text::make(args, |row| {
        let pattern = match patterns.at(row) {
            Ok(pattern) if has_groups(&pattern) => pattern,
            // Of a pattern that is no constant and has too few or too many groups.
            Ok(_) => return None,
            Err(error) => {
                failed.get_or_insert(error);
                return None;
            }
        };
        let groups = groups.as_ref().map(|groups| groups.get(row));
        let groups = chosen(&pattern, groups.as_ref());
        let of = |found: &Captures<'_>, group: usize| {
            Json::from(found.get(group).map_or("", |part| part.as_str()))
        };
        let matches: Vec<Json> = pattern
            .captures_iter(text.get(row))
            .map(|found| match groups.as_slice() {
                [group] => of(&found, *group),
                groups => groups.iter().map(|group| of(&found, *group)).collect(),
            })
            .collect();
        (!matches.is_empty()).then_some(Json::Array(matches))
    })?;
    failed.map_or(Ok(made), Err)
}

/// What a match is replaced with: text, and the texts of groups.
#[derive(Debug, PartialEq)]
enum Piece {
    Text(String),
    Group(usize),
}

/// Reads `\0` to `\9` as groups and `\\` as a backslash.
fn rewrite(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match characters.next() {
            Some(digit @ '0'..='9') => {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
                let group = digit.to_digit(10).and_then(|group| usize::try_from(group).ok());
                pieces.push(Piece::Group(group.unwrap_or_default()));
            }
            Some('\\') | None => plain.push('\\'),
            Some(other) => plain.extend(['\\', other]),
        }
    }
    pieces.push(Piece::Text(plain));
    pieces.retain(|piece| *piece != Piece::Text(String::new()));
    pieces
}

fn replace(args: &Args<'_>, text_at: usize, pattern_at: usize, by_at: usize) -> DfResult<ArrayRef> {
    let (text, by) = (args.text(text_at)?, args.text(by_at)?);
    let mut patterns = Patterns::read(args, pattern_at, AS_IS)?;
    let constant = by.is_single().then(|| rewrite(by.get(0)));
    args.try_text(|row| {
        let (pattern, text) = (patterns.at(row)?, text.get(row));
        let computed;
        let by = match &constant {
            Some(by) => by,
            None => {
                computed = rewrite(by.get(row));
                &computed
            }
        };
        replaced(&pattern, text, by).map(Some)
    })
}

fn replaced(pattern: &Pattern, text: &str, by: &[Piece]) -> DfResult<String> {
    let mut made = String::with_capacity(text.len());
    let mut from = 0;
    let mut replace = |whole: Range<usize>, found: Option<&Captures<'_>>| {
        made.push_str(text.get(from..whole.start).unwrap_or_default());
        for piece in by {
            let group = |group| found.and_then(|found| found.get(group));
            made.push_str(match piece {
                Piece::Text(text) => text,
                Piece::Group(number) => group(*number).map_or("", |part| part.as_str()),
            });
        }
        from = whole.end;
        bounded(made.len(), "replace_regex")
    };
    // Where the groups are takes much longer to find than where the match is.
    if by.iter().any(|piece| matches!(piece, Piece::Group(_))) {
        for found in pattern.captures_iter(text) {
            if let Some(whole) = found.get(0) {
                replace(whole.range(), Some(&found))?;
            }
        }
    } else if let Some(runs) = pattern.runs.as_ref().and_then(|runs| runs.matches(text)) {
        for whole in runs {
            replace(whole, None)?;
        }
    } else {
        for whole in pattern.find_iter(text) {
            replace(whole.range(), None)?;
        }
    }
    made.push_str(text.get(from..).unwrap_or_default());
    bounded(made.len(), "replace_regex")?;
    Ok(made)
}

/// Takes one match off the start, the end or both.
fn trim(args: &Args<'_>, start: bool, end: bool) -> DfResult<ArrayRef> {
    let mut starts = Patterns::read(args, 0, (r"\A(?:", ")"))?;
    let mut ends = Patterns::read(args, 0, ("(?:", r")\z"))?;
    let text = args.text(1)?;
    args.try_text(|row| {
        let mut text = text.get(row);
        if start && let Some(found) = starts.at(row)?.find(text) {
            text = text.get(found.end()..).unwrap_or_default();
        }
        if end && let Some(found) = ends.at(row)?.find(text) {
            text = text.get(..found.start()).unwrap_or_default();
        }
        Ok(Some(text.to_owned()))
    })
}

/// `countof(text, sought[, kind])`
fn bind_count(call: &Call<'_>, arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 2, 3)?;
    let kind = match arguments.get(2) {
        Some(kind) => kind.as_text().map(str::to_owned),
        None => Some("normal".to_owned()),
    };
    let (name, kernel): (_, KernelFn) = match kind.as_deref() {
        Some("normal") => ("countof", count_text),
        Some("regex") => {
            check(&arguments, 1)?;
            ("countof_regex", count_matches)
        }
        _ => return Err(call.problem("the kind of `countof` is \"normal\" or \"regex\"")),
    };
    let arguments = arguments
        .into_iter()
        .take(2)
        .map(|argument| coerce(argument, Parameter::Text, call.name))
        .collect::<Result<_, _>>()?;
    Ok(kernel_call(name, kernel, arguments, KqlType::Long, call.span))
}

/// Occurrences of a text may overlap.
fn count_text(args: &Args<'_>) -> DfResult<ArrayRef> {
    let (text, sought) = (args.text(0)?, args.text(1)?);
    Ok(args.make_long(|row| {
        let (text, sought) = (text.get(row), sought.get(row));
        if sought.is_empty() {
            return Some(0);
        }
        i64::try_from(overlapping(text, sought).count()).ok()
    }))
}

fn count_matches(args: &Args<'_>) -> DfResult<ArrayRef> {
    let (text, mut patterns) = (args.text(0)?, Patterns::read(args, 1, AS_IS)?);
    let counts = (0..args.rows)
        .map(|row| Ok(i64::try_from(patterns.at(row)?.find_iter(text.get(row)).count()).ok()))
        .collect::<DfResult<Vec<_>>>()?;
    Ok(args.make_long(|row| *counts.get(row)?))
}

fn index(args: &Args<'_>) -> DfResult<ArrayRef> {
    let mut patterns = Patterns::read(args, 1, AS_IS)?;
    let patterns = (0..args.rows).map(|row| patterns.at(row)).collect::<DfResult<Vec<_>>>()?;
    let searches = Searches::read(args, false)?;
    Ok(args.make_long(|row| {
        let Search { text, first, nth } = searches.at(row)?;
        let found = patterns.get(row)?.find_iter(text).nth(nth);
        let before = found.and_then(|found| text.get(..found.start()));
        before.map_or(Some(-1), |before| i64::try_from(first + before.chars().count()).ok())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewrites_name_groups() {
        let group = Piece::Group;
        let text = |text: &str| Piece::Text(text.to_owned());
        assert_eq!(rewrite(r"a\1b\0"), [text("a"), group(1), text("b"), group(0)]);
        assert_eq!(rewrite(r"$1 \\1 \x\"), [text(r"$1 \1 \x\")]);
        assert_eq!(rewrite(""), []);
    }

    #[test]
    fn wrong_patterns_say_why() {
        let reason = |pattern| compile(pattern).expect_err("an error").to_string();
        assert!(reason("a(b").contains("unclosed group"), "{}", reason("a(b"));
        assert!(compile(r"(?P<year>\d{4})-\d\d\b").is_ok());
        assert!(compile("(?:(?:a{1000}){1000}){1000}").is_err());
    }
}
