//! Which fields a source text shows.

use crate::sources::{Token, group, parts, tokens};
use std::collections::BTreeMap;

/// Words in the name of a field that holds a secret. Every key counts, whatever it is the key of.
pub(super) const SECRET_WORDS: [&str; 9] = [
    "_key",
    "authorization",
    "bearer",
    "credential",
    "kek",
    "passphrase",
    "password",
    "secret",
    "token",
];

/// Types that print or serialize what they are given.
const PLAIN_TYPES: [&str; 6] = ["String", "str", "u8", "Bytes", "Cow", "Value"];

/// What says no more of a secret than whether it is there, or how long it is.
const HARMLESS: [&str; 5] = ["is_some", "is_none", "is_empty", "len", "is_ok"];

/// The macros of `tracing` that take fields.
const LOGS: [&str; 12] = [
    "trace",
    "debug",
    "info",
    "warn",
    "error",
    "event",
    "span",
    "trace_span",
    "debug_span",
    "info_span",
    "warn_span",
    "error_span",
];

/// Traits that show what they are given.
const SHOWING: [&str; 5] = ["Debug", "Display", "Serialize", "LowerHex", "UpperHex"];

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // A bound or a count is none.
    let is_measure = ["_max", "_min", "_seconds", "_count"].iter().any(|end| name.ends_with(end));
    name == "key" || !is_measure && SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// `AccessToken` as `access_token`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

/// A type's fields that are secret by their names: whether each is plain.
type Fields = BTreeMap<String, bool>;

/// What is shown although it is secret by its name and plain by its type, as `Type.field`, or as
/// `macro!.field`.
pub(super) fn shown_secrets(text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let (mut types, mut found) = (BTreeMap::new(), Vec::new());
    for at in 0..tokens.len() {
        if tokens[at].is("struct") || tokens[at].is("enum") {
            declared(&tokens, at, &mut types, &mut found);
        }
    }
    for at in 0..tokens.len() {
        if tokens[at].is("impl") {
            implemented(&tokens, at, &types, &mut found);
        }
        logged(&tokens, at, &mut found);
        instrumented(&tokens, at, &mut found);
    }
    found.dedup();
    found
}

/// A field, variant or parameter without its attributes and its visibility.
fn bare(mut part: &[Token]) -> &[Token] {
    loop {
        match part {
            [Token::Mark('#'), Token::Mark('['), ..] => part = &part[group(part, 1).1 + 1..],
            [first, Token::Mark('('), ..] if first.is("pub") => {
                part = &part[group(part, 1).1 + 1..];
            }
            [first, rest @ ..] if first.is("pub") => part = rest,
            _ => return part,
        }
    }
}

fn is_plain(of_type: &[Token]) -> bool {
    // One byte is no secret; several are, whatever they are in.
    let is_one = of_type.len() == 1;
    let mut words = of_type.iter().filter_map(Token::word);
    words.any(|word| PLAIN_TYPES.contains(&word) && !(is_one && word == "u8"))
}

/// Whether what is declared at `at` derives a trait that shows it.
fn is_derived(tokens: &[Token], at: usize) -> bool {
    // What stands between the end of the item before and the word.
    let mut begin = at;
    while begin > 0 && !matches!(tokens[begin - 1], Token::Mark(';' | '}' | '{')) {
        begin -= 1;
    }
    let attributes = &tokens[begin..at];
    let derives = attributes.iter().enumerate().filter(|(_, token)| token.is("derive"));
    derives.into_iter().any(|(index, _)| {
        let (listed, _) = group(attributes, index + 1);
        listed.iter().filter_map(Token::word).any(|word| SHOWING.contains(&word))
    })
}

/// Notes the fields of a type, and those that it shows.
fn declared(
    tokens: &[Token],
    at: usize,
    types: &mut BTreeMap<String, Fields>,
    found: &mut Vec<String>,
) {
    let Some(name) = tokens.get(at + 1).and_then(Token::word) else { return };
    let Some(start) = body_of(tokens, at) else { return };
    let (body, _) = group(tokens, start);
    let mut fields = Fields::new();
    match &tokens[start] {
        Token::Mark(';') => return,
        Token::Mark('(') => elements(body, name, &mut |number, plain| {
            fields.insert(number.to_string(), plain);
        }),
        _ if tokens[at].is("struct") => named(body, &mut fields),
        _ => {
            for variant in parts(body).into_iter().map(bare) {
                let Some(called) = variant.first().and_then(Token::word) else { continue };
                match variant.get(1) {
                    Some(Token::Mark('{')) => named(group(variant, 1).0, &mut fields),
                    Some(Token::Mark('(')) => {
                        elements(group(variant, 1).0, called, &mut |_, it| {
                            *fields.entry(called.to_owned()).or_default() |= it;
                        })
                    }
                    _ => {}
                }
            }
        }
    }
    if is_derived(tokens, at) {
        let shown = fields.iter().filter(|(_, is_plain)| **is_plain);
        found.extend(shown.map(|(field, _)| format!("{name}.{field}")));
    }
    types.insert(name.to_owned(), fields);
}

/// Where the fields of a type begin, past its parameters and their bounds.
fn body_of(tokens: &[Token], at: usize) -> Option<usize> {
    let (mut depth, mut is_bound) = (0_i32, false);
    for index in at..tokens.len() {
        match &tokens[index] {
            Token::Mark('<') => depth += 1,
            Token::Mark('>') if tokens[index - 1].is("-") => {}
            Token::Mark('>') => depth -= 1,
            Token::Mark('{' | ';') if depth == 0 => return Some(index),
            Token::Mark('(') if depth == 0 && !is_bound => return Some(index),
            token => is_bound |= token.is("where"),
        }
    }
    None
}

fn named(body: &[Token], fields: &mut Fields) {
    for field in parts(body).into_iter().map(bare) {
        if let [Token::Word(name), Token::Mark(':'), of_type @ ..] = field
            && is_secret(name)
        {
            *fields.entry(name.clone()).or_default() |= is_plain(of_type);
        }
    }
}

/// What has no name of its own is called as what it is in.
fn elements(body: &[Token], called: &str, note: &mut dyn FnMut(usize, bool)) {
    if is_secret(&snake(called)) {
        for (number, of_type) in parts(body).into_iter().enumerate() {
            if is_plain(of_type) {
                note(number, true);
            }
        }
    }
}

/// What a handwritten implementation reaches.
fn implemented(
    tokens: &[Token],
    at: usize,
    types: &BTreeMap<String, Fields>,
    found: &mut Vec<String>,
) {
    let Some(start) = tokens[at..].iter().position(|token| token.is("{")) else { return };
    let head = &tokens[at..at + start];
    let Some(of) = head.iter().position(|token| token.is("for")) else { return };
    let shows = |token: &Token| token.word().is_some_and(|word| SHOWING.contains(&word));
    // The trait is the last word before `for`.
    let is_showing =
        head[..of].iter().rev().find(|token| token.word().is_some()).is_some_and(shows);
    // Of `path::Name<'_, T>` it is the last word before the brackets.
    let of = head[of + 1..].split(|token| token.is("<")).next().unwrap_or_default();
    let name = of.iter().rev().find_map(Token::word);
    let Some(name) = name.filter(|_| is_showing) else { return };
    let (body, _) = group(tokens, at + start);
    let fields = types.get(name);
    for (index, token) in body.iter().enumerate() {
        let is_own = index >= 2 && body[index - 1].is(".") && body[index - 2].is("self");
        for field in mentioned(token) {
            let is_shown = match fields {
                Some(fields) => fields.get(field) == Some(&true),
                None => is_own && is_secret(field),
            };
            let is_number = field.starts_with(|c: char| c.is_ascii_digit());
            if is_shown && (is_own || !is_number) && !is_harmless(body, index) {
                found.push(format!("{name}.{field}"));
            }
        }
    }
}

/// The names in a word: itself, or those that a text has inserted.
fn mentioned(token: &Token) -> Vec<&str> {
    match token {
        Token::Word(word) => vec![word],
        Token::Mark(_) => Vec::new(),
        Token::Text(text) => {
            let inserted = text.split('{').skip(1).filter_map(|part| part.split(['}', ':']).next());
            inserted.collect()
        }
    }
}

/// Whether only the length or the presence of what is named at `index` is asked for.
fn is_harmless(tokens: &[Token], index: usize) -> bool {
    tokens.get(index + 1).is_some_and(|dot| dot.is("."))
        && tokens
            .get(index + 2)
            .and_then(Token::word)
            .is_some_and(|method| HARMLESS.contains(&method))
}

/// Notes what is secret by its name among what is logged.
fn logged(tokens: &[Token], at: usize, found: &mut Vec<String>) {
    let [Token::Word(name), Token::Mark('!'), Token::Mark('('), ..] = &tokens[at..] else { return };
    if LOGS.contains(&name.as_str()) {
        let (given, _) = group(tokens, at + 2);
        note_logged(given, &format!("{name}!"), found);
    }
}

fn note_logged(given: &[Token], by: &str, found: &mut Vec<String>) {
    for (index, token) in given.iter().enumerate() {
        // What is called, or has a field that is logged, is not what is logged.
        let next =
            |past: usize, mark: &str| given.get(index + past).is_some_and(|token| token.is(mark));
        let leads = next(1, "(") || next(1, ".") && !next(3, "(");
        let is_path = next(1, ":");
        let is_word = matches!(token, Token::Word(_));
        for name in mentioned(token) {
            let shows = is_secret(name) && !(is_word && (leads || is_path));
            if shows && !is_harmless(given, index) && !is_presence(given, index) {
                found.push(format!("{by}.{name}"));
            }
        }
    }
}

/// Whether a field is one of those that say `has_token` of a token.
fn is_presence(given: &[Token], index: usize) -> bool {
    given[index].word().is_some_and(|name| name.starts_with("has_") || name.starts_with("is_"))
}

/// Notes what a span of a function has of its parameters.
fn instrumented(tokens: &[Token], at: usize, found: &mut Vec<String>) {
    let is_attribute = at > 0 && (tokens[at - 1].is("[") || tokens[at - 1].is(":"));
    if !tokens[at].is("instrument") || !is_attribute {
        return;
    }
    let (given, end) = match tokens.get(at + 1) {
        Some(Token::Mark('(')) => group(tokens, at + 1),
        _ => (&[][..], at),
    };
    if let Some(fields) = given.iter().position(|token| token.is("fields")) {
        note_logged(group(given, fields + 1).0, "instrument", found);
    }
    let skips = |what: &str| given.iter().any(|token| token.is(what));
    let function = tokens[end..].iter().position(|token| token.is("fn"));
    let Some(function) = function.filter(|_| !skips("skip_all")) else { return };
    let open = tokens[end + function..].iter().position(|token| token.is("("));
    let Some(open) = open else { return };
    for parameter in parts(group(tokens, end + function + open).0).into_iter().map(bare) {
        if let [Token::Word(name), Token::Mark(':'), of_type @ ..] = parameter
            && is_secret(name)
            && is_plain(of_type)
            && !skips(name)
        {
            found.push(format!("instrument.{name}"));
        }
    }
}
