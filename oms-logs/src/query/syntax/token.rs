//! Characters to tokens.

use super::Span;
use crate::query::diagnostic::Problem;
use crate::query::time;

/// A piece of query text.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Where it stands.
    pub span: Span,
}

/// What a piece of query text is.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "the lexer and its parser change together")]
pub enum TokenKind {
    /// A name or a keyword: which of them depends on the place.
    Name(String),
    /// An integer without its sign.
    Integer(u64),
    /// A number with a fraction or an exponent.
    Real(f64),
    /// A number with a unit of time, in ticks of 100 ns.
    TimeSpan(i64),
    /// A string with its escapes decoded.
    Text(String),
    /// A typed literal such as `datetime(2020-01-01)`.
    Typed(LiteralType, String),
    /// An operator or a bracket.
    Punct(&'static str),
    /// The end of the text.
    End,
}

impl TokenKind {
    /// The token in words, for messages.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Name(name) => format!("`{name}`"),
            Self::Integer(_) | Self::Real(_) => "a number".to_owned(),
            Self::TimeSpan(_) => "a timespan".to_owned(),
            Self::Text(_) => "a string".to_owned(),
            Self::Typed(kind, _) => format!("a `{}` literal", kind.name()),
            Self::Punct(text) => format!("`{text}`"),
            Self::End => "the end of the query".to_owned(),
        }
    }
}

/// The type that a literal of the form `type(value)` names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "the language's literal types")]
pub enum LiteralType {
    /// `bool(…)`
    Bool,
    /// `datetime(…)`
    DateTime,
    /// `decimal(…)`
    Decimal,
    /// `guid(…)`
    Guid,
    /// `int(…)`
    Int,
    /// `long(…)`
    Long,
    /// `real(…)`
    Real,
    /// `timespan(…)`
    TimeSpan,
}

impl LiteralType {
    /// The type's first name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::DateTime => "datetime",
            Self::Decimal => "decimal",
            Self::Guid => "guid",
            Self::Int => "int",
            Self::Long => "long",
            Self::Real => "real",
            Self::TimeSpan => "timespan",
        }
    }

    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "bool" | "boolean" => Self::Bool,
            "datetime" | "date" => Self::DateTime,
            "decimal" => Self::Decimal,
            "guid" | "uuid" | "uniqueid" => Self::Guid,
            "int" | "int32" => Self::Int,
            "long" | "int64" => Self::Long,
            "real" | "double" => Self::Real,
            "timespan" | "time" => Self::TimeSpan,
            _ => return None,
        })
    }
}

/// Longest first, so that the first match is the right one.
const PUNCTUATION: [&str; 31] = [
    "...", "==", "=~", "=>", "!=", "!~", "<=", ">=", "<>", "..", "|", "(", ")", "[", "]", "{", "}",
    ",", ";", ".", ":", "=", "<", ">", "+", "-", "*", "/", "%", "?", "!",
];

/// Splits the text into tokens; the last is [`TokenKind::End`]. A character that starts no token is
/// reported and skipped.
#[must_use]
pub fn tokenize(text: &str) -> (Vec<Token>, Vec<Problem>) {
    let mut lexer = Lexer { text, at: 0, tokens: Vec::new(), problems: Vec::new() };
    while lexer.next_token() {}
    (lexer.tokens, lexer.problems)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    tokens: Vec<Token>,
    problems: Vec<Problem>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn push(&mut self, start: usize, kind: TokenKind) {
        self.tokens.push(Token { kind, span: Span::new(start, self.at) });
    }

    fn problem(&mut self, start: usize, message: impl Into<String>) {
        self.problems.push(Problem::syntax(Span::new(start, self.at), message));
    }

    /// Reads one token; `false` at the end.
    fn next_token(&mut self) -> bool {
        self.skip_blanks();
        let start = self.at;
        let Some(first) = self.peek() else {
            self.push(start, TokenKind::End);
            return false;
        };
        if first.is_ascii_digit() {
            self.number(start);
        } else if self.string_prefix().is_some() {
            self.string(start);
        } else if first.is_ascii_alphabetic() || first == '_' || first == '$' {
            self.name(start);
        } else if self.rest().starts_with("```") || self.rest().starts_with("~~~") {
            self.multi_line(start);
        } else if let Some(text) = PUNCTUATION.iter().find(|text| self.rest().starts_with(**text)) {
            self.at += text.len();
            self.push(start, TokenKind::Punct(text));
        } else if first == '~' {
            // Only in `in~` and `!in~`, where it is part of the name.
            self.at += 1;
            match self.tokens.last_mut() {
                Some(Token { kind: TokenKind::Name(name), span })
                    if span.end == start && matches!(name.as_str(), "in" | "has_any") =>
                {
                    name.push('~');
                    span.end = self.at;
                }
                _ => self.problem(start, "unexpected character `~`"),
            }
        } else {
            self.at += first.len_utf8();
            self.problem(start, format!("unexpected character `{}`", first.escape_debug()));
        }
        true
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            let blank = rest.len()
                - rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}').len();
            self.at += blank;
            if !self.rest().starts_with("//") {
                return;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    fn name(&mut self, start: usize) {
        let name = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
        if let Some(literal) = LiteralType::of(name) {
            let before = self.at;
            self.skip_blanks();
            // After a colon it is the type of a column or a parameter: `(x:long)`.
            // In a bag, `"name": datetime(…)`, it is a value.
            let is_type = match self.tokens.as_slice() {
                [.., before, Token { kind: TokenKind::Punct(":"), .. }] => {
                    !matches!(before.kind, TokenKind::Text(_))
                }
                _ => false,
            };
            if self.rest().starts_with('(') && !is_type {
                return self.typed(start, literal);
            }
            self.at = before;
        }
        self.push(start, TokenKind::Name(name.to_owned()));
    }

    fn typed(&mut self, start: usize, literal: LiteralType) {
        self.at += 1;
        let Some(length) = self.rest().find(')') else {
            self.at = self.text.len();
            self.problem(start, format!("`{}(` is not closed", literal.name()));
            return self.push(start, TokenKind::Typed(literal, "null".to_owned()));
        };
        let content = self.rest().get(..length).unwrap_or_default().trim();
        let unquoted = ['"', '\''].iter().find_map(|quote| {
            content.strip_prefix(*quote).and_then(|text| text.strip_suffix(*quote))
        });
        let content = unquoted.unwrap_or(content).trim().to_owned();
        self.at += length + 1;
        self.push(start, TokenKind::Typed(literal, content));
    }

    fn number(&mut self, start: usize) {
        if self.rest().starts_with("0x") || self.rest().starts_with("0X") {
            self.at += 2;
            let digits = self.take_while(|c| c.is_ascii_hexdigit());
            // Sixteen digits are the bit pattern of a signed long.
            return match u64::from_str_radix(digits, 16) {
                Ok(value) => self.push(start, TokenKind::Integer(value)),
                Err(_) => self.bad_number(start, "hexadecimal number is empty or too large"),
            };
        }
        self.take_while(|c| c.is_ascii_digit());
        let mut real = false;
        let mut after = self.rest().chars();
        if after.next() == Some('.') && after.next().is_some_and(|c| c.is_ascii_digit()) {
            real = true;
            self.at += 1;
            self.take_while(|c| c.is_ascii_digit());
        }
        // `0.` is a real, `0..1` a range, and `0.name` a part of something.
        let mut after = self.rest().chars();
        if !real
            && after.next() == Some('.')
            && !after.next().is_some_and(|c| c == '.' || c == '_' || c.is_alphanumeric())
        {
            real = true;
            self.at += 1;
        }
        real |= self.exponent();
        let digits = self.text.get(start..self.at).unwrap_or_default();
        let unit = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        if !unit.is_empty() {
            let Some(ticks) = time::unit_ticks(unit) else {
                return self.bad_number(start, format!("`{unit}` is not a unit of time"));
            };
            return match time::scale(digits, ticks) {
                Some(ticks) => self.push(start, TokenKind::TimeSpan(ticks)),
                None => self.bad_number(start, "timespan is out of range"),
            };
        }
        if real {
            self.push(start, TokenKind::Real(digits.parse().unwrap_or(f64::NAN)));
        } else if let Ok(value) = digits.parse::<u64>() {
            self.push(start, TokenKind::Integer(value));
        } else {
            self.bad_number(start, "integer is larger than a long");
        }
    }

    fn bad_number(&mut self, start: usize, message: impl Into<String>) {
        self.problem(start, message);
        self.push(start, TokenKind::Integer(0));
    }

    fn exponent(&mut self) -> bool {
        let mut rest = self.rest().chars().peekable();
        if !matches!(rest.next(), Some('e' | 'E')) {
            return false;
        }
        let signed = matches!(rest.peek(), Some('+' | '-'));
        if signed {
            rest.next();
        }
        if !rest.next().is_some_and(|c| c.is_ascii_digit()) {
            return false;
        }
        self.at += 1 + usize::from(signed);
        self.take_while(|c| c.is_ascii_digit());
        true
    }

    /// The length of what precedes the quote, whether the string is verbatim, and the quote.
    fn string_prefix(&self) -> Option<(usize, bool, char)> {
        let rest = self.rest();
        let hidden = usize::from(rest.starts_with(['h', 'H']));
        let after = rest.get(hidden..)?;
        let verbatim = after.starts_with('@');
        let quote = after.get(usize::from(verbatim)..)?.chars().next()?;
        matches!(quote, '"' | '\'').then_some((hidden + usize::from(verbatim), verbatim, quote))
    }

    fn string(&mut self, start: usize) {
        let Some((prefix, verbatim, quote)) = self.string_prefix() else { return };
        self.at += prefix + 1;
        let mut value = String::new();
        while let Some(c) = self.peek() {
            let here = self.at;
            self.at += c.len_utf8();
            if c == quote {
                if verbatim && self.peek() == Some(quote) {
                    self.at += 1;
                    value.push(quote);
                    continue;
                }
                return self.push(start, TokenKind::Text(value));
            }
            if c == '\n' && !verbatim {
                self.at = here;
                break;
            }
            if c == '\\' && !verbatim {
                self.escape(here, &mut value);
            } else {
                value.push(c);
            }
        }
        self.problem(start, "string is not closed");
        self.push(start, TokenKind::Text(value));
    }

    fn escape(&mut self, start: usize, value: &mut String) {
        let Some(c) = self.peek() else { return };
        self.at += c.len_utf8();
        let digits = match c {
            'n' => return value.push('\n'),
            't' => return value.push('\t'),
            'r' => return value.push('\r'),
            '0' => return value.push('\0'),
            'a' => return value.push('\u{7}'),
            'b' => return value.push('\u{8}'),
            'f' => return value.push('\u{c}'),
            'v' => return value.push('\u{b}'),
            '\\' | '"' | '\'' => return value.push(c),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return self.problem(start, format!("unknown escape `\\{}`", c.escape_debug())),
        };
        let code = self
            .rest()
            .get(..digits)
            .and_then(|text| u32::from_str_radix(text, 16).ok())
            .and_then(char::from_u32);
        match code {
            Some(c) => {
                self.at += digits;
                value.push(c);
            }
            None => self.problem(start, format!("`\\{c}` needs {digits} hexadecimal digits")),
        }
    }

    fn multi_line(&mut self, start: usize) {
        let fence = self.rest().get(..3).unwrap_or_default();
        self.at += 3;
        let rest = self.rest();
        let closed = rest.find(fence);
        let length = closed.unwrap_or(rest.len());
        let value = rest.get(..length).unwrap_or_default().to_owned();
        self.at += length + if closed.is_some() { 3 } else { 0 };
        if closed.is_none() {
            self.problem(start, "string is not closed");
        }
        self.push(start, TokenKind::Text(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        let (tokens, problems) = tokenize(text);
        let mut parts: Vec<String> = tokens
            .iter()
            .filter(|token| token.kind != TokenKind::End)
            .map(|token| match &token.kind {
                TokenKind::Name(name) => name.clone(),
                TokenKind::Integer(value) => format!("{value}"),
                TokenKind::Real(value) => format!("{value:?}"),
                TokenKind::TimeSpan(ticks) => format!("{ticks}t"),
                TokenKind::Text(text) => format!("{text:?}"),
                TokenKind::Typed(kind, text) => format!("{}<{text}>", kind.name()),
                TokenKind::Punct(text) => (*text).to_owned(),
                TokenKind::End => String::new(),
            })
            .collect();
        parts.extend(problems.iter().map(|problem| format!("!{}", problem.message)));
        assert_eq!(parts.join(" "), expect, "{text}");
    }

    #[test]
    fn tokens() {
        check("Perf | where x>=5", "Perf | where x >= 5");
        check("1..5", "1 .. 5");
        check("1.5e-3 2e2 0x1F", "0.0015 200.0 31");
        check(
            "5m 1.5h 1d 10ms 3microseconds 1tick",
            "3000000000t 54000000000t 864000000000t 100000t 30t 1t",
        );
        check("5parsecs", "0 !`parsecs` is not a unit of time");
        check("\"a\\n\\\"b\" 'c\"' @'d\\e''f' h'g' h@\"i\"", r#""a\n\"b" "c\"" "d\\e'f" "g" "i""#);
        check("'open", "\"open\" !string is not closed");
        check("```a\nb```", "\"a\\nb\"");
        check(
            "datetime(2020-01-01 10:00) time(1.02:03:04)",
            "datetime<2020-01-01 10:00> timespan<1.02:03:04>",
        );
        check("datatable(a:datetime, b:long)", "datatable ( a : datetime , b : long )");
        check("int (null)", "int<null>");
        check("x !in~ (1) // comment", "x ! in~ ( 1 )");
        check("a # b", "a b !unexpected character `#`");
        check("99999999999999999999", "0 !integer is larger than a long");
        check("'\\q'", "\"\" !unknown escape `\\q`");
        check("'\\u00e9'", "\"é\"");
    }
}
