//! The words of a source text, without its comments.

/// A word of a source text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Token {
    /// A name or a number.
    Word(String),
    /// What is in a text.
    Text(String),
    /// Any other character.
    Mark(char),
}

impl Token {
    pub(crate) fn is(&self, text: &str) -> bool {
        match self {
            Self::Word(word) => word == text,
            Self::Mark(mark) => text.len() == 1 && text.starts_with(*mark),
            Self::Text(_) => false,
        }
    }

    pub(crate) fn word(&self) -> Option<&str> {
        match self {
            Self::Word(word) => Some(word),
            _ => None,
        }
    }
}

/// Splits a source text.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let (mut rest, mut tokens) = (text, Vec::new());
    while let Some(first) = rest.chars().next() {
        let length = if first.is_whitespace() {
            first.len_utf8()
        } else if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment(rest)
        } else if let Some((length, text)) = literal(rest) {
            tokens.push(Token::Text(text));
            length
        } else if first == '\'' {
            lifetime_or_character(rest)
        } else if is_of_word(first) {
            let length = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..length].to_owned()));
            length
        } else {
            tokens.push(Token::Mark(first));
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// How long the comment is, with those within.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += rest.chars().next().map_or(0, char::len_utf8);
        }
        if depth == 0 || at >= text.len() {
            return at;
        }
    }
}

/// A text between quotes, raw or not: how long it is, and what is in it.
fn literal(text: &str) -> Option<(usize, String)> {
    let prefix = ["", "b", "c", "r", "br", "cr"].into_iter().rev().find(|prefix| {
        let rest = text.strip_prefix(prefix).unwrap_or_default();
        let is_raw = prefix.ends_with('r');
        rest.trim_start_matches(if is_raw { '#' } else { '"' }).len() < rest.len()
            && is_raw
            && rest.trim_start_matches('#').starts_with('"')
            || rest.starts_with('"')
    })?;
    let rest = &text[prefix.len()..];
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    let open = prefix.len() + hashes + 1;
    let body = &text[open..];
    let end = if prefix.ends_with('r') {
        body.find(&format!("\"{}", "#".repeat(hashes))).unwrap_or(body.len())
    } else {
        let mut is_escaped = false;
        let end = body.char_indices().find(|(_, c)| {
            let is_end = *c == '"' && !is_escaped;
            is_escaped = *c == '\\' && !is_escaped;
            is_end
        });
        end.map_or(body.len(), |(at, _)| at)
    };
    Some(((open + end + 1 + hashes).min(text.len()), body[..end].to_owned()))
}

/// How long what begins with an apostrophe is: the name of a lifetime, or a character.
fn lifetime_or_character(text: &str) -> usize {
    let body = &text[1..];
    if let Some(escaped) = body.strip_prefix('\\') {
        let first = escaped.chars().next().map_or(0, char::len_utf8);
        let end = escaped[first..].find('\'').map_or(0, |at| at + 1);
        return 2 + first + end;
    }
    let first = body.chars().next().map_or(0, char::len_utf8);
    if body[first..].starts_with('\'') {
        return 2 + first;
    }
    1 + body.find(|c| !is_of_word(c)).unwrap_or(body.len())
}
