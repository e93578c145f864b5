//! ARCHITECTURE.md lists the metrics and spans of the workspace: each that the sources have, with its
//! kind and its labels or fields, and no other.

use crate::sources::{Token, Workspace, group, parts, tokens};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The kind of a metric, or `span`, and the names of its labels or fields.
type Shape = (String, BTreeSet<String>);

/// Metrics and spans by their names.
type Listed = BTreeMap<String, BTreeSet<Shape>>;

/// The one metric that is no call of a macro: the recorder counts what it did not keep.
const BY_THE_RECORDER: &str = "oms_metrics_series_refused_total";

fn note(listed: &mut Listed, name: &str, kind: &str, of: impl Iterator<Item = String>) {
    listed.entry(name.to_owned()).or_default().insert((kind.to_owned(), of.collect()));
}

/// What a source text counts, measures and traces.
fn emitted(text: &str, listed: &mut Listed) {
    let tokens = tokens(text);
    for at in 0..tokens.len() {
        let [Token::Word(name), Token::Mark('!'), Token::Mark('('), Token::Text(called), ..] =
            &tokens[at..]
        else {
            continue;
        };
        let given = parts(group(&tokens, at + 2).0).into_iter().skip(1);
        match name.as_str() {
            "counter" | "gauge" | "histogram" if called.starts_with("oms_") => {
                let label = |part: &[Token]| match part.first() {
                    Some(Token::Text(label)) => label.clone(),
                    other => format!("{other:?}"),
                };
                note(listed, called, name, given.map(label));
            }
            "info_span" => {
                let field = |part: &[Token]| {
                    part.iter().find_map(Token::word).unwrap_or_default().to_owned()
                };
                note(listed, called, "span", given.map(field));
            }
            _ => {}
        }
    }
}

/// A text without what is in round brackets.
fn unbracketed(text: &str) -> String {
    let mut depth = 0;
    let outside = text.chars().filter(|c| {
        depth += i32::from(*c == '(');
        let is_outside = depth == 0;
        depth -= i32::from(*c == ')');
        is_outside
    });
    outside.collect()
}

/// What is between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// What the document lists.
fn documented(document: &str) -> Listed {
    let mut listed = Listed::new();
    for row in document.lines().filter(|line| line.starts_with("| `oms_")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let labels = unbracketed(cells[3]);
        let labels = quoted(&labels).map(str::to_owned);
        note(&mut listed, cells[0].trim_matches('`'), cells[1], labels);
    }
    let (_, spans) = document.split_once("is a `tracing` span").expect("the paragraph of spans");
    let spans = spans.split("\n\n").next().unwrap_or_default();
    for (name, rest) in spans.split('`').skip(1).step_by(2).zip(spans.split('`').skip(2).step_by(2))
    {
        let fields = rest.trim_start().strip_prefix('(').and_then(|rest| rest.split(')').next());
        let Some(fields) = fields else { continue };
        // After a semicolon it says what is none.
        let fields = fields.split(';').next().unwrap_or_default().split(',');
        let first = |field: &str| field.trim().split([':', ' ']).next().unwrap_or("").to_owned();
        note(&mut listed, name, "span", fields.map(first));
    }
    listed
}

/// What is in one and not in the other, each way.
fn differences(documented: &Listed, emitted: &Listed) -> Vec<String> {
    let lacks = |of: &Listed, name: &str, shapes: &BTreeSet<Shape>| of.get(name) != Some(shapes);
    let undocumented = emitted.iter().filter(|(name, shapes)| lacks(documented, name, shapes));
    let unfounded = documented.iter().filter(|(name, shapes)| lacks(emitted, name, shapes));
    undocumented
        .map(|(name, shapes)| format!("the sources have {name} {shapes:?}"))
        .chain(unfounded.map(|(name, shapes)| format!("the document has {name} {shapes:?}")))
        .collect()
}

#[test]
fn a_planted_difference_is_seen() {
    let document = "| `oms_a_total` | counter | things | `outcome` (`ok`), `kind` | things |\n\
                    | `oms_b_seconds` | histogram | seconds |  | how long |\n\nEach is a `tracing` \
                    span:\n`job` (job, text: at most 9,\nrows; never\na key), `flush` (rows).\n\n## Next";
    let source = "fn f() { metrics::counter!(\"oms_a_total\", \"outcome\" => a(), \"kind\" => \"x\").\
                  increment(1); histogram!(\n\"oms_b_seconds\"\n); info_span!(\"job\", job = %id, text \
                  = f(a, b), rows = Empty); tracing::info_span!(\"flush\", rows); counter!(\"a\"); }";
    let compare = |document: &str, source: &str| {
        let mut found = Listed::new();
        emitted(source, &mut found);
        differences(&documented(document), &found).len()
    };
    assert_eq!(compare(document, source), 0);
    assert_eq!(compare(document, &source.replace("oms_b_seconds", "oms_c_seconds")), 2);
    assert_eq!(compare(document, &source.replace("histogram!", "counter!")), 2);
    assert_eq!(compare(document, &source.replace("\"kind\" => \"x\"", "")), 2);
    assert_eq!(compare(document, &source.replace("info_span!(\"flush\", rows)", "f()")), 1);
    assert_eq!(compare(document, &source.replace("info_span!(\"job\", job", "f!(\"job\", x")), 1);
    assert_eq!(compare(&document.replace("| `oms_b_seconds`", "| b"), source), 1);
    assert_eq!(compare(&document.replace("(`ok`), `kind`", "(`ok`, `kind`)"), source), 2);
    assert_eq!(compare(&document.replace(", `flush` (rows)", ""), source), 1);
    assert_eq!(compare(&document.replace("rows; never", "never"), source), 2);
}

#[test]
fn every_metric_and_span_is_documented_and_every_documented_one_is_there() {
    let workspace = Workspace::read();
    if !workspace.is_whole {
        return;
    }
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ARCHITECTURE.md");
    let document = std::fs::read_to_string(document).expect("ARCHITECTURE.md");
    let (mut documented, mut found) = (documented(&document), Listed::new());
    for (_, text) in &workspace.files {
        emitted(text, &mut found);
    }
    let is_there = workspace.files.iter().any(|(_, text)| text.contains(BY_THE_RECORDER));
    assert!(is_there && documented.remove(BY_THE_RECORDER).is_some(), "{BY_THE_RECORDER}");
    assert!(found.len() > 50, "{}", found.len());
    let differences = differences(&documented, &found);
    assert!(differences.is_empty(), "{differences:#?}");
}
