//! Expressions, by operator precedence.

use super::Span;
use super::ast::{
    BinaryOperator, Expr, ExprKind, ListOperator, Literal, Name, NamedExpr, TextOperator,
};
use super::parser::{Parsed, Parser};
use super::token::{LiteralType, TokenKind};
use crate::query::decimal::Decimal;
use crate::query::diagnostic::Problem;
use crate::query::dynamic::{Keyed, Value};
use crate::query::time;

/// How tightly operators bind, from the loosest.
mod level {
    pub(super) const OR: u8 = 1;
    pub(super) const AND: u8 = 2;
    pub(super) const EQUAL: u8 = 3;
    pub(super) const ORDER: u8 = 4;
    pub(super) const SUM: u8 = 5;
    pub(super) const PRODUCT: u8 = 6;
    pub(super) const TEXT: u8 = 7;
}

#[derive(Clone, Copy)]
enum Infix {
    And,
    Or,
    Binary(BinaryOperator),
    List(ListOperator, bool),
    Between(bool),
}

impl Parser {
    /// An expression.
    pub(super) fn expression(&mut self) -> Parsed<Expr> {
        self.grouped(|parser| parser.binary(level::OR))
    }

    /// `name = expression` or `expression`, separated by commas.
    pub(super) fn named_expressions(&mut self) -> Parsed<Vec<NamedExpr>> {
        let mut list = vec![self.named_expression()?];
        while self.take_punct(",") {
            list.push(self.named_expression()?);
        }
        Ok(list)
    }

    pub(super) fn named_expression(&mut self) -> Parsed<NamedExpr> {
        let plain = matches!(self.peek(), TokenKind::Name(_)) && self.is_punct_at(1, "=");
        let bracketed = self.is_punct("[") && self.is_punct_at(2, "]") && self.is_punct_at(3, "=");
        let name = if plain || bracketed {
            let name = self.expect_name("a column name")?;
            self.bump();
            Some(name)
        } else {
            None
        };
        if name.is_none()
            && let Some(names) = self.column_names()
        {
            let start = names.first().map_or_else(|| self.span(), |name| name.span);
            let call = Box::new(self.expression()?);
            let span = start.to(call.span);
            return Ok(NamedExpr { name, expr: self.expr(ExprKind::Columns(names, call), span)? });
        }
        Ok(NamedExpr { name, expr: self.expression()? })
    }

    /// `(name, …) =`, if that is next.
    fn column_names(&mut self) -> Option<Vec<Name>> {
        if !self.is_punct("(") {
            return None;
        }
        let mut ahead = 1;
        let mut names = Vec::new();
        loop {
            let TokenKind::Name(text) = self.peek_at(ahead) else { return None };
            names.push(Name { text: text.clone(), span: self.span_at(ahead) });
            ahead += 2;
            if !self.is_punct_at(ahead - 1, ",") {
                break;
            }
        }
        if !self.is_punct_at(ahead - 1, ")") || !self.is_punct_at(ahead, "=") {
            return None;
        }
        (0..=ahead).for_each(|_| drop(self.bump()));
        Some(names)
    }

    fn binary(&mut self, least: u8) -> Parsed<Expr> {
        let mut left = self.unary()?;
        while let Some((infix, binds, tokens)) = self.infix() {
            if binds < least {
                break;
            }
            (0..tokens).for_each(|_| drop(self.bump()));
            left = self.infix_rest(left, infix, binds)?;
        }
        Ok(left)
    }

    fn infix_rest(&mut self, left: Expr, infix: Infix, binds: u8) -> Parsed<Expr> {
        let start = left.span;
        let kind = match infix {
            Infix::And => {
                let right = self.binary(binds + 1)?;
                match left.kind {
                    ExprKind::And(mut parts) => {
                        parts.push(right);
                        ExprKind::And(parts)
                    }
                    _ => ExprKind::And(vec![left, right]),
                }
            }
            Infix::Or => {
                let right = self.binary(binds + 1)?;
                match left.kind {
                    ExprKind::Or(mut parts) => {
                        parts.push(right);
                        ExprKind::Or(parts)
                    }
                    _ => ExprKind::Or(vec![left, right]),
                }
            }
            Infix::Binary(operator) => {
                let right = Box::new(self.binary(binds + 1)?);
                ExprKind::Binary { operator, left: Box::new(left), right }
            }
            Infix::List(operator, negated) => {
                let list = self.list()?;
                ExprKind::List { operator, negated, value: Box::new(left), list }
            }
            Infix::Between(negated) => {
                self.expect_punct("(")?;
                let low = Box::new(self.expression()?);
                self.expect_punct("..")?;
                let high = Box::new(self.expression()?);
                self.expect_punct(")")?;
                ExprKind::Between { negated, value: Box::new(left), low, high }
            }
        };
        let span = start.to(self.previous());
        self.expr(kind, span)
    }

    /// `(item, …)`, or one item without parentheses.
    fn list(&mut self) -> Parsed<Vec<Expr>> {
        if !self.take_punct("(") {
            return Ok(vec![self.unary()?]);
        }
        let mut list = Vec::new();
        while !self.is_punct(")") {
            list.push(self.expression_or_pipeline()?);
            if !self.take_punct(",") {
                break;
            }
        }
        self.expect_punct(")")?;
        Ok(list)
    }

    /// The operator that is next, how tightly it binds, and its count of tokens.
    fn infix(&self) -> Option<(Infix, u8, usize)> {
        use BinaryOperator as B;
        let text = |operator, negated, tokens| {
            Some((Infix::Binary(B::Text { operator, negated }), level::TEXT, tokens))
        };
        let binary = |operator, binds| Some((Infix::Binary(operator), binds, 1));
        match self.peek() {
            TokenKind::Punct(symbol) => match *symbol {
                "+" => binary(B::Add, level::SUM),
                "-" => binary(B::Subtract, level::SUM),
                "*" => binary(B::Multiply, level::PRODUCT),
                "/" => binary(B::Divide, level::PRODUCT),
                "%" => binary(B::Modulo, level::PRODUCT),
                "==" => binary(B::Equal, level::EQUAL),
                "!=" | "<>" => binary(B::NotEqual, level::EQUAL),
                "<" => binary(B::Less, level::ORDER),
                "<=" => binary(B::LessOrEqual, level::ORDER),
                ">" => binary(B::Greater, level::ORDER),
                ">=" => binary(B::GreaterOrEqual, level::ORDER),
                "=~" => text(TextOperator::EqualAnyCase, false, 1),
                "!~" => text(TextOperator::EqualAnyCase, true, 1),
                "!" => self.word_operator(1, true),
                ":" if self.in_search => text(TextOperator::Has, false, 1),
                _ => None,
            },
            TokenKind::Name(_) => self.word_operator(0, false),
            _ => None,
        }
    }

    fn word_operator(&self, ahead: usize, negated: bool) -> Option<(Infix, u8, usize)> {
        let TokenKind::Name(word) = self.peek_at(ahead) else { return None };
        let list = |operator| Some((Infix::List(operator, negated), level::EQUAL, ahead + 1));
        match word.as_str() {
            "and" if !negated => Some((Infix::And, level::AND, 1)),
            "or" if !negated => Some((Infix::Or, level::OR, 1)),
            "between" => Some((Infix::Between(negated), level::EQUAL, ahead + 1)),
            "in" => list(ListOperator::In),
            "in~" => list(ListOperator::InAnyCase),
            "has_any" => list(ListOperator::HasAny),
            "has_all" => list(ListOperator::HasAll),
            word => {
                let regex = word == "matches"
                    && matches!(self.peek_at(ahead + 1), TokenKind::Name(next) if next == "regex");
                let symbol = if regex { "matches regex" } else { word };
                let operator = TextOperator::ALL.into_iter().find(|o| o.symbol() == symbol)?;
                let infix = Infix::Binary(BinaryOperator::Text { operator, negated });
                Some((infix, level::TEXT, ahead + 1 + usize::from(regex)))
            }
        }
    }

    fn unary(&mut self) -> Parsed<Expr> {
        let start = self.span();
        if self.is_punct("-") {
            self.bump();
            // The smallest long has no positive counterpart.
            if *self.peek() == TokenKind::Integer(i64::MIN.unsigned_abs()) {
                let span = start.to(self.bump().span);
                return self.expr(ExprKind::Literal(Literal::Long(Some(i64::MIN))), span);
            }
            let inner = self.grouped(Self::unary)?;
            let span = start.to(inner.span);
            return self.expr(ExprKind::Negate(Box::new(inner)), span);
        }
        if self.is_punct("+") {
            self.bump();
            return self.grouped(Self::unary);
        }
        self.postfix()
    }

    /// A value with the members and items that follow it.
    pub(super) fn postfix(&mut self) -> Parsed<Expr> {
        let start = self.span();
        let mut expr = self.primary()?;
        loop {
            let kind = if self.is_punct(".") {
                self.bump();
                // `a.[b]` is `a[b]`.
                if self.is_punct("[") && !matches!(self.peek_at(1), TokenKind::Text(_)) {
                    continue;
                }
                let name = self.expect_name("a name after `.`")?;
                ExprKind::Member(Box::new(expr), name)
            } else if self.is_punct("[") {
                self.bump();
                let index = self.expression()?;
                self.expect_punct("]")?;
                ExprKind::Index(Box::new(expr), Box::new(index))
            } else {
                return Ok(expr);
            };
            let span = start.to(self.previous());
            expr = self.expr(kind, span)?;
        }
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let span = self.span();
        if let Some(name) = self.bracketed_name() {
            return self.expr(ExprKind::Name(name.text), name.span);
        }
        match self.peek().clone() {
            TokenKind::Integer(value) => {
                self.bump();
                let Ok(value) = i64::try_from(value) else {
                    let message = "integer is larger than a long";
                    return Err(self.problem(Problem::syntax(span, message)));
                };
                self.literal(Literal::Long(Some(value)), span)
            }
            TokenKind::Real(value) => {
                self.bump();
                self.literal(Literal::Real(Some(value)), span)
            }
            TokenKind::TimeSpan(ticks) => {
                self.bump();
                self.literal(Literal::TimeSpan(Some(ticks)), span)
            }
            TokenKind::Text(mut text) => {
                self.bump();
                // Neighbouring strings are one.
                while let TokenKind::Text(more) = self.peek() {
                    text.push_str(more);
                    self.bump();
                }
                let span = span.to(self.previous());
                self.literal(Literal::String(text), span)
            }
            TokenKind::Typed(kind, text) => {
                self.bump();
                self.typed_literal(kind, &text, span)
            }
            TokenKind::Punct("(") => {
                self.bump();
                let mut expr = self.expression_or_pipeline()?;
                expr.span = span.to(self.expect_punct(")")?);
                Ok(expr)
            }
            TokenKind::Punct("*") => {
                self.bump();
                self.expr(ExprKind::Star("*".to_owned()), span)
            }
            TokenKind::Name(word) => self.name_or_call(word, span),
            TokenKind::Punct(_) | TokenKind::End => Err(self.expected("an expression")),
        }
    }

    fn literal(&mut self, literal: Literal, span: Span) -> Parsed<Expr> {
        self.expr(ExprKind::Literal(literal), span)
    }

    fn name_or_call(&mut self, word: String, span: Span) -> Parsed<Expr> {
        match word.as_str() {
            "true" | "false" => {
                self.bump();
                return self.literal(Literal::Bool(Some(word == "true")), span);
            }
            "and" | "or" | "by" | "on" => return Err(self.expected("an expression")),
            "dynamic" if self.is_punct_at(1, "(") => {
                self.bump();
                self.bump();
                let value = self.nested(Self::json)?;
                let span = span.to(self.expect_punct(")")?);
                return self.literal(Literal::Dynamic(value), span);
            }
            _ => {}
        }
        self.bump();
        if !self.take_punct("(") {
            return self.expr(ExprKind::Name(word), span);
        }
        let name = Name { text: word, span };
        let (arguments, end) = self.arguments()?;
        self.expr(ExprKind::Call { name, arguments }, span.to(end))
    }

    /// The arguments of a call or a plugin, after the bracket, and where the closing one is.
    pub(super) fn arguments(&mut self) -> Parsed<(Vec<NamedExpr>, Span)> {
        let mut arguments = Vec::new();
        while !self.is_punct(")") {
            let named = matches!(self.peek(), TokenKind::Name(_)) && self.is_punct_at(1, "=");
            arguments.push(if named {
                self.named_expression()?
            } else {
                NamedExpr { name: None, expr: self.expression_or_pipeline()? }
            });
            if !self.take_punct(",") {
                break;
            }
        }
        Ok((arguments, self.expect_punct(")")?))
    }

    /// A time of the current day.
    fn today_at(&mut self, ticks: i64, span: Span) -> Parsed<Expr> {
        let name = |text: &str| Name { text: text.to_owned(), span };
        let now = ExprKind::Call { name: name("now"), arguments: Vec::new() };
        let now = NamedExpr { name: None, expr: self.expr(now, span)? };
        let today = ExprKind::Call { name: name("startofday"), arguments: vec![now] };
        let left = Box::new(self.expr(today, span)?);
        let right = Box::new(self.literal(Literal::TimeSpan(Some(ticks)), span)?);
        self.expr(ExprKind::Binary { operator: BinaryOperator::Add, left, right }, span)
    }

    fn typed_literal(&mut self, kind: LiteralType, text: &str, span: Span) -> Parsed<Expr> {
        if kind == LiteralType::DateTime && text.is_empty() {
            // `datetime()` is the current time.
            let name = Name { text: "now".to_owned(), span };
            return self.expr(ExprKind::Call { name, arguments: Vec::new() }, span);
        }
        if kind == LiteralType::DateTime
            && let Some(ticks) = time_of_day(text)
        {
            return self.today_at(ticks, span);
        }
        let Some(literal) = typed_value(kind, text) else {
            let message = format!("`{text}` is not a value of type {}", kind.name());
            return Err(self.problem(Problem::syntax(span, message)));
        };
        self.literal(literal, span)
    }

    /// The value inside `dynamic(…)`: JSON, in which typed literals keep their type.
    fn json(&mut self) -> Parsed<Value> {
        let negative = self.take_punct("-");
        let token = self.bump();
        let value = match token.kind {
            TokenKind::Integer(value) => whole_number(value, negative),
            TokenKind::Real(value) => Value::Real(if negative { -value } else { value }),
            TokenKind::TimeSpan(ticks) if negative => Value::TimeSpan(ticks.wrapping_neg()),
            TokenKind::TimeSpan(ticks) => Value::TimeSpan(ticks),
            TokenKind::Text(text) => Value::Text(text),
            TokenKind::Typed(kind, text) => match typed_value(kind, &text) {
                Some(literal) => value_of(literal),
                None => return Err(self.expected("a JSON value")),
            },
            TokenKind::Name(word) if word == "true" => Value::Bool(true),
            TokenKind::Name(word) if word == "false" => Value::Bool(false),
            TokenKind::Name(word) if word == "null" => Value::Null,
            TokenKind::Name(word) if word == "dynamic" && self.is_punct("(") => {
                self.bump();
                let value = self.nested(Self::json)?;
                self.expect_punct(")")?;
                value
            }
            TokenKind::Punct("[") => {
                let mut items = Vec::new();
                while !self.is_punct("]") {
                    items.push(self.nested(Self::json)?);
                    if !self.take_punct(",") {
                        break;
                    }
                }
                self.expect_punct("]")?;
                Value::Array(items)
            }
            TokenKind::Punct("{") => self.json_object()?,
            _ => {
                let message = "expected a JSON value in `dynamic(…)`";
                return Err(self.problem(Problem::syntax(token.span, message)));
            }
        };
        Ok(value)
    }

    fn json_object(&mut self) -> Parsed<Value> {
        let mut members = Keyed::default();
        while !self.is_punct("}") {
            let TokenKind::Text(key) = self.peek().clone() else {
                return Err(self.expected("a member's name in quotes"));
            };
            self.bump();
            self.expect_punct(":")?;
            let value = self.nested(Self::json)?;
            members.insert(key, value);
            if !self.take_punct(",") {
                break;
            }
        }
        self.expect_punct("}")?;
        Ok(members.into_bag())
    }
}

/// A whole number, or the nearest real past the longs.
#[expect(clippy::cast_precision_loss, reason = "past the longs there are only reals")]
fn whole_number(value: u64, negative: bool) -> Value {
    match (i64::try_from(value), negative) {
        (Ok(value), true) => Value::Long(-value),
        (Ok(value), false) => Value::Long(value),
        (Err(_), true) if value == i64::MIN.unsigned_abs() => Value::Long(i64::MIN),
        (Err(_), true) => Value::Real(-(value as f64)),
        (Err(_), false) => Value::Real(value as f64),
    }
}

fn value_of(literal: Literal) -> Value {
    let value = match literal {
        Literal::Bool(value) => value.map(Value::Bool),
        Literal::Int(value) => value.map(|value| Value::Long(value.into())),
        Literal::Long(value) => value.map(Value::Long),
        Literal::Real(value) => value.map(Value::Real),
        Literal::String(text) => Some(Value::Text(text)),
        Literal::DateTime(ticks) => ticks.map(Value::DateTime),
        Literal::TimeSpan(ticks) => ticks.map(Value::TimeSpan),
        Literal::Guid(value) => value.map(Value::Guid),
        Literal::Decimal(value) => value.map(Value::Decimal),
        Literal::Dynamic(value) => Some(value),
    };
    value.unwrap_or(Value::Null)
}

/// `8:00` or `8:00:05.5`: a time without a date.
fn time_of_day(text: &str) -> Option<i64> {
    let plain = text.chars().all(|c| c.is_ascii_digit() || c == ':' || c == '.');
    if !plain || !text.contains(':') || text.split(':').next()?.contains('.') {
        return None;
    }
    time::parse_timespan(text).filter(|ticks| (0..time::TICKS_PER_DAY).contains(ticks))
}

/// `2025, 6, 14` as a date is written otherwise.
fn numbered_date(text: &str) -> Option<String> {
    let parts: Vec<u32> =
        text.split(',').map(|part| part.trim().parse().ok()).collect::<Option<_>>()?;
    let [year, month, day] = parts.as_slice() else { return None };
    Some(format!("{year:04}-{month:02}-{day:02}"))
}

/// The value of `type(text)`, or `None` if the text is no such value.
fn typed_value(kind: LiteralType, text: &str) -> Option<Literal> {
    let null = text == "null";
    Some(match kind {
        LiteralType::Bool => Literal::Bool(match text {
            "null" => None,
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => return None,
        }),
        LiteralType::DateTime if null => Literal::DateTime(None),
        LiteralType::DateTime => {
            let text = numbered_date(text).unwrap_or_else(|| text.replace(" - ", "-"));
            Literal::DateTime(Some(time::parse_datetime(&text)?))
        }
        LiteralType::TimeSpan if null => Literal::TimeSpan(None),
        LiteralType::TimeSpan => Literal::TimeSpan(Some(time::parse_timespan(text)?)),
        LiteralType::Guid if null => Literal::Guid(None),
        LiteralType::Guid => Literal::Guid(Some(text.parse().ok()?)),
        LiteralType::Int if null => Literal::Int(None),
        LiteralType::Int => Literal::Int(Some(i32::try_from(integer(text)?).ok()?)),
        LiteralType::Long if null => Literal::Long(None),
        LiteralType::Long => Literal::Long(Some(integer(text)?)),
        LiteralType::Real => Literal::Real(match text {
            "null" => None,
            "nan" | "NaN" => Some(f64::NAN),
            "+inf" | "inf" => Some(f64::INFINITY),
            "-inf" => Some(f64::NEG_INFINITY),
            _ => Some(text.parse().ok()?),
        }),
        LiteralType::Decimal if null => Literal::Decimal(None),
        LiteralType::Decimal => {
            let value: Decimal = text.parse().ok()?;
            Literal::Decimal(Some(value.to_string()))
        }
    })
}

fn integer(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
