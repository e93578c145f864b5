//! Expressions: `[concat('/srv/', parameters('site'))]`, as configuration documents of DSC version 3
//! have them.
//!
//! A string that begins with `[` and ends with `]` is one; `[[` begins a string that is none. What an
//! expression may cost is bounded: its length, its depth, and the size of what it makes. No message shows a
//! value that a secure parameter may be in, or the text in the place of a password.

use super::function;
use super::scope::{Scope, weigh};
use super::tree::describe;
use crate::configuration::is_secret_name;
use serde_json::Value;

/// The longest expression, in bytes.
const EXPRESSION_BYTES_MAX: usize = 16 << 10;

/// How deep calls may lie in each other, and how many members may follow each other.
const DEPTH_MAX: usize = 32;

/// What is told of a text that may have been meant as one.
const ESCAPED: &str = "a text that begins with `[` is written `[[`";

/// Functions that answer a value as it was given.
const READERS: [&str; 3] = ["parameters", "variables", "node"];

/// A call or a literal.
#[derive(Debug)]
enum Expression {
    Literal(Value),
    Call {
        name: String,
        arguments: Vec<Self>,
    },
    /// `of.name[index]`, with everything that follows each other.
    Member {
        of: Box<Self>,
        path: Vec<Self>,
    },
}

/// The value with every expression in it replaced by what it comes to.
pub(super) fn evaluate(value: &Value, scope: &Scope) -> Result<Value, String> {
    let value = replaced(value, scope)?;
    scope.charge(weigh(&value)?)?;
    Ok(value)
}

fn replaced(value: &Value, scope: &Scope) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => match inner(text) {
            Some(expression) => {
                scope.charge(text.len())?;
                let parsed = parse(expression).map_err(|why| match scope.is_source_hidden() {
                    true => format!("the text is no expression; {ESCAPED}"),
                    false => hinted(why, expression),
                })?;
                parsed.evaluate(scope)?
            }
            None => Value::String(
                text.strip_prefix('[')
                    .filter(|rest| rest.starts_with('['))
                    .map_or_else(|| text.clone(), str::to_owned),
            ),
        },
        Value::Array(values) => {
            values.iter().map(|value| replaced(value, scope)).collect::<Result<_, _>>()?
        }
        Value::Object(map) => {
            let mut evaluated = serde_json::Map::new();
            for (key, value) in map {
                let before = scope.hide_source(scope.is_source_hidden() || is_secret_name(key));
                let value = replaced(value, scope);
                scope.hide_source(before);
                evaluated.insert(key.clone(), value?);
            }
            Value::Object(evaluated)
        }
        other => other.clone(),
    })
}

/// The expression within a string, if it is one.
fn inner(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    (!inner.starts_with('[')).then_some(inner)
}

/// Whether a string is an expression.
pub(super) fn is_expression(text: &str) -> bool {
    inner(text).is_some()
}

/// Why a text is no expression; with how a text is written, unless it begins with a call.
fn hinted(why: String, expression: &str) -> String {
    let mut parser = Parser { rest: expression.trim_start(), depth: 0 };
    let is_call = !parser.word().is_empty() && parser.take('(');
    if is_call { why } else { format!("{why}; {ESCAPED}") }
}

fn parse(text: &str) -> Result<Expression, String> {
    if text.len() > EXPRESSION_BYTES_MAX {
        return Err(format!("an expression has at most {EXPRESSION_BYTES_MAX} bytes"));
    }
    let mut parser = Parser { rest: text.trim_start(), depth: 0 };
    let expression = parser.expression()?;
    match parser.rest {
        "" => Ok(expression),
        rest => Err(format!("the expression ends before `{}`", clip(rest))),
    }
}

fn clip(text: &str) -> String {
    text.chars().take(40).collect()
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn take(&mut self, symbol: char) -> bool {
        match self.rest.strip_prefix(symbol) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, symbol: char) -> Result<(), String> {
        if self.take(symbol) {
            return Ok(());
        }
        match self.rest {
            "" => Err(format!("`{symbol}` is missing at the end of the expression")),
            rest => Err(format!("`{symbol}` is missing before `{}`", clip(rest))),
        }
    }

    fn word(&mut self) -> &str {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word
    }

    fn expression(&mut self) -> Result<Expression, String> {
        if self.depth == DEPTH_MAX {
            return Err(format!("calls lie more than {DEPTH_MAX} deep"));
        }
        self.depth += 1;
        let expression = self.primary()?;
        let mut path = Vec::new();
        loop {
            let index = if self.take('.') {
                let name = self.word();
                if name.is_empty() {
                    return Err("a name is missing behind `.`".to_owned());
                }
                Expression::Literal(name.into())
            } else if self.take('[') {
                let index = self.expression()?;
                self.expect(']')?;
                index
            } else {
                break;
            };
            if path.len() == DEPTH_MAX {
                return Err(format!("more than {DEPTH_MAX} members follow each other"));
            }
            path.push(index);
        }
        self.depth -= 1;
        Ok(match path.is_empty() {
            true => expression,
            false => Expression::Member { of: Box::new(expression), path },
        })
    }

    fn primary(&mut self) -> Result<Expression, String> {
        match self.rest.chars().next() {
            None => Err("the expression is empty, or ends too early".to_owned()),
            Some('\'') => self.text(),
            Some(c) if c.is_ascii_digit() || c == '-' => self.number(),
            Some(c) if c.is_ascii_alphabetic() || c == '_' => {
                let name = self.word().to_owned();
                if self.take('(') {
                    return self.call(name);
                }
                match name.as_str() {
                    "true" => Ok(Expression::Literal(true.into())),
                    "false" => Ok(Expression::Literal(false.into())),
                    "null" => Ok(Expression::Literal(Value::Null)),
                    _ => Err(format!("`{name}` is no function without `(`")),
                }
            }
            Some(_) => Err(format!("`{}` begins no expression", clip(self.rest))),
        }
    }

    fn text(&mut self) -> Result<Expression, String> {
        let mut text = String::new();
        let mut rest = self.rest.get(1..).unwrap_or_default();
        loop {
            let Some((part, after)) = rest.split_once('\'') else {
                return Err(format!("the string is not closed: `{}`", clip(self.rest)));
            };
            text.push_str(part);
            // Two are one within a string.
            match after.strip_prefix('\'') {
                Some(after) => {
                    text.push('\'');
                    rest = after;
                }
                None => {
                    self.rest = after.trim_start();
                    return Ok(Expression::Literal(text.into()));
                }
            }
        }
    }

    fn number(&mut self) -> Result<Expression, String> {
        let is_part = |c: char| c.is_ascii_digit() || c == '-';
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        let number: i64 = digits.parse().map_err(|_| format!("`{digits}` is no integer"))?;
        self.rest = rest.trim_start();
        Ok(Expression::Literal(number.into()))
    }

    fn call(&mut self, name: String) -> Result<Expression, String> {
        let mut arguments = Vec::new();
        if self.take(')') {
            return Ok(Expression::Call { name, arguments });
        }
        loop {
            arguments.push(self.expression()?);
            if !self.take(',') {
                break;
            }
        }
        self.expect(')')?;
        Ok(Expression::Call { name, arguments })
    }
}

impl Expression {
    fn evaluate(&self, scope: &Scope) -> Result<Value, String> {
        let value = match self {
            Self::Literal(value) => value.clone(),
            // What is not chosen is not evaluated, as an index that is not there.
            Self::Call { name, arguments } if name.eq_ignore_ascii_case("if") => {
                let [condition, yes, no] = arguments.as_slice() else {
                    return Err("`if` takes a condition and two values".to_owned());
                };
                return match condition.evaluate(scope)? {
                    Value::Bool(true) => yes.evaluate(scope),
                    Value::Bool(false) => no.evaluate(scope),
                    other => Err(format!("`if` asks for a boolean, not {}", describe(&other))),
                };
            }
            Self::Call { name, arguments } => {
                let arguments: Vec<Value> = arguments
                    .iter()
                    .map(|argument| argument.evaluate(scope))
                    .collect::<Result<_, _>>()?;
                let value = function::call(name, &arguments, scope)?;
                if !READERS.iter().any(|reader| reader.eq_ignore_ascii_case(name)) {
                    scope.make(&value);
                }
                value
            }
            Self::Member { of, path } => {
                let of = of.evaluate(scope)?;
                let mut found = &of;
                for index in path {
                    let index = index.evaluate(scope)?;
                    found = member(found, &index, scope)?;
                    // Everybody reads the user name of a credential.
                    if !index.as_str().is_some_and(|name| name.eq_ignore_ascii_case("userName")) {
                        scope.make(found);
                    }
                }
                found.clone()
            }
        };
        scope.charge(weigh(&value)?)?;
        Ok(value)
    }
}

fn member<'a>(of: &'a Value, index: &Value, scope: &Scope) -> Result<&'a Value, String> {
    let found = match (of, index) {
        (Value::Object(map), Value::String(name)) => map.get(name),
        (Value::Array(values), Value::Number(number)) => number
            .as_u64()
            .and_then(|index| usize::try_from(index).ok())
            .and_then(|index| values.get(index)),
        _ => {
            let (of, index) = (describe(of), describe(index));
            return Err(format!("{of} has no member by {index}"));
        }
    };
    found.ok_or_else(|| match scope.is_secret() {
        true => "there is no such member".to_owned(),
        false => format!("there is no member {index}"),
    })
}
