//! Tokens to the tree. One error does not hide the next: after each, reading goes on behind the
//! next semicolon.

use super::ast::{
    Class, DataType, Document, Feature, Instance, Item, Method, Parameter, Pragma, PragmaParameter,
    Property, PropertyDeclaration, Qualifier, QualifierDeclaration, Value, ValueKind,
};
use super::token::{Lexer, Source, Token, TokenKind};
use super::{Diagnostic, Position};
use std::collections::HashMap;

/// How deep arrays and embedded instances may lie in each other.
pub const DEPTH_MAX: usize = 32;

/// The most values of one document, those within arrays and qualifiers too: a value in memory is
/// many times as large as the two bytes that may spell it.
pub const VALUES_MAX: usize = 2_000_000;

/// What was read, with everything that was wrong with it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// What could be read; whole only without diagnostics.
    pub document: Document,
    /// In the order of their positions.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// The document, if nothing was wrong with it.
    ///
    /// # Errors
    /// Every diagnostic, at least one.
    pub fn into_result(self) -> Result<Document, Vec<Diagnostic>> {
        if self.diagnostics.is_empty() { Ok(self.document) } else { Err(self.diagnostics) }
    }
}

/// Reads a document as it is stored: UTF-8, or UTF-16 in either byte order, with or without a
/// byte order mark. At most [`DIAGNOSTICS_MAX`](super::DIAGNOSTICS_MAX) diagnostics are kept.
#[must_use]
pub fn parse(bytes: &[u8]) -> Parsed {
    let source = match Source::decode(bytes) {
        Ok(source) => source,
        Err(diagnostic) => {
            return Parsed { document: Document::default(), diagnostics: vec![diagnostic] };
        }
    };
    let mut parser = Parser::new(&source);
    let document = parser.document();
    let mut diagnostics = parser.lexer.diagnostics;
    diagnostics.sort_by_key(|diagnostic| diagnostic.position);
    Parsed { document, diagnostics }
}

/// A part could not be read; why is among the diagnostics already.
struct Failed;

type Outcome<T> = Result<T, Failed>;

struct Parser<'a> {
    lexer: Lexer<'a>,
    peeked: Token,
    /// Open braces around the next token.
    braces: usize,
    /// Arrays and instances around the next token.
    depth: usize,
    /// Values that were read.
    values: usize,
    /// An `instance of` was met where a property should stand: the brace before it is missing.
    resume: Option<Position>,
    aliases: HashMap<String, Position>,
    references: Vec<(String, Position)>,
}

impl<'a> Parser<'a> {
    fn new(source: &'a Source) -> Self {
        let mut lexer = Lexer::new(source);
        let peeked = lexer.next_token();
        Self {
            lexer,
            peeked,
            braces: 0,
            depth: 0,
            values: 0,
            resume: None,
            aliases: HashMap::new(),
            references: Vec::new(),
        }
    }

    fn advance(&mut self) -> Token {
        let next = self.lexer.next_token();
        let token = std::mem::replace(&mut self.peeked, next);
        match token.kind {
            TokenKind::Symbol('{') => self.braces += 1,
            TokenKind::Symbol('}') => self.braces = self.braces.saturating_sub(1),
            _ => {}
        }
        token
    }

    fn fail<T>(&mut self, position: Position, message: impl Into<String>) -> Outcome<T> {
        self.lexer.report(position, message);
        Err(Failed)
    }

    fn unexpected<T>(&mut self, wanted: &str) -> Outcome<T> {
        let found = self.peeked.kind.describe();
        self.fail(self.peeked.position, format!("{wanted} is expected, not {found}"))
    }

    fn is_symbol(&self, symbol: char) -> bool {
        self.peeked.kind == TokenKind::Symbol(symbol)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(&self.peeked.kind, TokenKind::Word(found) if found.eq_ignore_ascii_case(word))
    }

    fn take_symbol(&mut self, symbol: char) -> bool {
        let is_there = self.is_symbol(symbol);
        if is_there {
            self.advance();
        }
        is_there
    }

    fn take_word(&mut self, word: &str) -> bool {
        let is_there = self.is_word(word);
        if is_there {
            self.advance();
        }
        is_there
    }

    fn symbol(&mut self, symbol: char) -> Outcome<()> {
        if self.take_symbol(symbol) { Ok(()) } else { self.unexpected(&format!("`{symbol}`")) }
    }

    fn name(&mut self, what: &str) -> Outcome<String> {
        if !matches!(self.peeked.kind, TokenKind::Word(_)) {
            return self.unexpected(what);
        }
        match self.advance().kind {
            TokenKind::Word(word) => Ok(word),
            _ => Err(Failed),
        }
    }

    fn document(&mut self) -> Document {
        let mut items = Vec::new();
        while self.resume.is_some() || self.peeked.kind != TokenKind::End {
            match self.item() {
                Ok(item) => items.push(item),
                Err(Failed) if self.resume.is_some() => self.braces = 0,
                Err(Failed) => self.skip_item(),
            }
        }
        self.check_references();
        Document { items }
    }

    /// Skips to behind the next semicolon outside of braces, or to what starts an item.
    fn skip_item(&mut self) {
        loop {
            match &self.peeked.kind {
                TokenKind::End => return,
                TokenKind::Symbol(';') if self.braces == 0 => {
                    self.advance();
                    return;
                }
                TokenKind::Symbol('}') if self.braces == 1 => {
                    self.advance();
                    self.take_symbol(';');
                    return;
                }
                TokenKind::Pragma if self.braces == 0 => return,
                TokenKind::Word(word)
                    if self.braces == 0
                        && ["instance", "class"].iter().any(|w| word.eq_ignore_ascii_case(w)) =>
                {
                    return;
                }
                _ => {
                    self.advance();
                }
            }
        }
    }

    /// Skips to behind the next semicolon within the braces that are open now, or to the brace
    /// that closes them.
    fn skip_within(&mut self, braces: usize) {
        loop {
            match self.peeked.kind {
                TokenKind::End => return,
                TokenKind::Symbol('}') if self.braces <= braces => return,
                TokenKind::Symbol(';') if self.braces <= braces => {
                    self.advance();
                    return;
                }
                _ => {
                    self.advance();
                }
            }
        }
    }

    fn item(&mut self) -> Outcome<Item> {
        if let Some(position) = self.resume.take() {
            let instance = self.instance_after_word(position, Vec::new())?;
            self.symbol(';')?;
            return Ok(Item::Instance(instance));
        }
        if self.peeked.kind == TokenKind::Pragma {
            return self.pragma();
        }
        let qualifiers = self.qualifiers()?;
        if self.is_word("class") {
            return self.class(qualifiers);
        }
        if self.is_word("instance") {
            let instance = self.instance(qualifiers)?;
            self.symbol(';')?;
            return Ok(Item::Instance(instance));
        }
        if self.is_word("qualifier") && qualifiers.is_empty() {
            return self.qualifier_declaration();
        }
        let wanted = "`instance`, `class`, `qualifier` or `#pragma`";
        let outcome = self.unexpected(wanted);
        // The token that cannot start an item is skipped, so that reading always moves on.
        if !self.is_symbol(';') && !self.is_symbol('}') {
            self.advance();
        } else if self.is_symbol('}') {
            self.advance();
            self.take_symbol(';');
        }
        outcome
    }

    fn pragma(&mut self) -> Outcome<Item> {
        let position = self.advance().position;
        let name = self.name("the name of a pragma")?;
        let mut parameters = Vec::new();
        if self.take_symbol('(') && !self.take_symbol(')') {
            loop {
                parameters.push(match self.peeked.kind {
                    TokenKind::Text(_) => PragmaParameter::Text(self.text()),
                    _ => PragmaParameter::Word(self.name("a string or a word")?),
                });
                if !self.take_symbol(',') {
                    break;
                }
            }
            self.symbol(')')?;
        }
        self.take_symbol(';');
        Ok(Item::Pragma(Pragma { name, parameters, position }))
    }

    /// Adjacent literals as one text.
    fn text(&mut self) -> String {
        let mut text = String::new();
        while matches!(self.peeked.kind, TokenKind::Text(_)) {
            if let TokenKind::Text(part) = self.advance().kind {
                text.push_str(&part);
            }
        }
        text
    }

    fn qualifiers(&mut self) -> Outcome<Vec<Qualifier>> {
        let mut qualifiers = Vec::new();
        if !self.take_symbol('[') {
            return Ok(qualifiers);
        }
        loop {
            qualifiers.push(self.qualifier()?);
            if !self.take_symbol(',') {
                break;
            }
        }
        if !self.is_symbol(']') {
            return self.unexpected("`,` or `]`");
        }
        self.advance();
        Ok(qualifiers)
    }

    fn qualifier(&mut self) -> Outcome<Qualifier> {
        let position = self.peeked.position;
        let name = self.name("the name of a qualifier")?;
        let value = if self.is_symbol('{') {
            Some(self.value()?)
        } else if self.take_symbol('(') {
            let value = self.value()?;
            self.symbol(')')?;
            Some(value)
        } else {
            None
        };
        let mut flavor = Vec::new();
        if self.take_symbol(':') {
            flavor.push(self.name("a flavor")?);
            while matches!(self.peeked.kind, TokenKind::Word(_)) {
                flavor.push(self.name("a flavor")?);
            }
        }
        Ok(Qualifier { name, value, flavor, position })
    }

    fn qualifier_declaration(&mut self) -> Outcome<Item> {
        let position = self.advance().position;
        let name = self.name("the name of a qualifier")?;
        self.symbol(':')?;
        let mut data_type = self.data_type()?;
        self.brackets(&mut data_type)?;
        let default = if self.take_symbol('=') { Some(self.value()?) } else { None };
        let (mut scope, mut flavor) = (Vec::new(), Vec::new());
        while self.take_symbol(',') {
            let is_scope = self.is_word("scope");
            if !is_scope && !self.is_word("flavor") {
                return self.unexpected("`Scope` or `Flavor`");
            }
            self.advance();
            self.symbol('(')?;
            let names = if is_scope { &mut scope } else { &mut flavor };
            let mut found = Vec::new();
            loop {
                found.push(self.name("a name")?);
                if !self.take_symbol(',') {
                    break;
                }
            }
            names.append(&mut found);
            self.symbol(')')?;
        }
        self.symbol(';')?;
        let declaration =
            QualifierDeclaration { name, data_type, default, scope, flavor, position };
        Ok(Item::Qualifier(declaration))
    }

    fn class(&mut self, qualifiers: Vec<Qualifier>) -> Outcome<Item> {
        let position = self.advance().position;
        let name = self.name("the name of a class")?;
        let alias = self.alias()?;
        let superclass =
            if self.take_symbol(':') { Some(self.name("the name of a class")?) } else { None };
        self.symbol('{')?;
        let braces = self.braces;
        let mut features = Vec::new();
        while !self.is_symbol('}') {
            if self.peeked.kind == TokenKind::End {
                return self.fail(position, "the class is not closed with `}`");
            }
            match self.feature() {
                Ok(feature) => features.push(feature),
                Err(Failed) => self.skip_within(braces),
            }
        }
        self.advance();
        self.symbol(';')?;
        Ok(Item::Class(Class { qualifiers, name, alias, superclass, features, position }))
    }

    fn feature(&mut self) -> Outcome<Feature> {
        let qualifiers = self.qualifiers()?;
        let mut data_type = self.data_type()?;
        let position = self.peeked.position;
        let name = self.name("the name of a property or method")?;
        if self.take_symbol('(') {
            let mut parameters = Vec::new();
            if !self.is_symbol(')') {
                loop {
                    parameters.push(self.parameter()?);
                    if !self.take_symbol(',') {
                        break;
                    }
                }
            }
            self.symbol(')')?;
            self.symbol(';')?;
            let method = Method { qualifiers, data_type, name, parameters, position };
            return Ok(Feature::Method(method));
        }
        self.brackets(&mut data_type)?;
        let default = if self.take_symbol('=') { Some(self.value()?) } else { None };
        self.symbol(';')?;
        let property = PropertyDeclaration { qualifiers, data_type, name, default, position };
        Ok(Feature::Property(property))
    }

    fn parameter(&mut self) -> Outcome<Parameter> {
        let qualifiers = self.qualifiers()?;
        let mut data_type = self.data_type()?;
        let name = self.name("the name of a parameter")?;
        self.brackets(&mut data_type)?;
        Ok(Parameter { qualifiers, data_type, name })
    }

    fn data_type(&mut self) -> Outcome<DataType> {
        let name = self.name("a type")?;
        let is_reference = self.take_word("ref");
        Ok(DataType { name, is_reference, is_array: false, array_len: None })
    }

    /// The brackets behind a name make its type an array.
    fn brackets(&mut self, data_type: &mut DataType) -> Outcome<()> {
        if !self.take_symbol('[') {
            return Ok(());
        }
        data_type.is_array = true;
        if let TokenKind::Integer(len) = self.peeked.kind {
            let position = self.advance().position;
            match u64::try_from(len) {
                Ok(len) => data_type.array_len = Some(len),
                Err(_negative) => return self.fail(position, "an array has no negative size"),
            }
        }
        self.symbol(']')
    }

    fn alias(&mut self) -> Outcome<Option<String>> {
        if !self.take_word("as") {
            return Ok(None);
        }
        if !matches!(self.peeked.kind, TokenKind::Alias(_)) {
            return self.unexpected("an alias such as `$Name`");
        }
        let Token { kind: TokenKind::Alias(alias), position } = self.advance() else {
            return Err(Failed);
        };
        if let Some(first) = self.aliases.insert(alias.to_ascii_lowercase(), position) {
            self.lexer
                .report(position, format!("the alias `{alias}` was given at {first} already"));
        }
        Ok(Some(alias))
    }

    fn instance(&mut self, qualifiers: Vec<Qualifier>) -> Outcome<Instance> {
        let position = self.advance().position;
        self.instance_after_word(position, qualifiers)
    }

    /// Reads an instance of which the word `instance` at `position` is taken.
    fn instance_after_word(
        &mut self,
        position: Position,
        qualifiers: Vec<Qualifier>,
    ) -> Outcome<Instance> {
        if !self.take_word("of") {
            return self.unexpected("`of`");
        }
        let class = self.name("the name of a class")?;
        let alias = self.alias()?;
        self.symbol('{')?;
        let braces = self.braces;
        let mut instance = Instance { qualifiers, class, alias, properties: Vec::new(), position };
        let mut given = HashMap::new();
        while !self.is_symbol('}') {
            if self.peeked.kind == TokenKind::End {
                return self.fail(position, "the instance is not closed with `}`");
            }
            match self.property() {
                Ok(property) => match given.get(&property.name.to_ascii_lowercase()) {
                    Some(first) => {
                        let name = &property.name;
                        let message = format!("the property `{name}` was given at {first} already");
                        self.lexer.report(property.position, message);
                    }
                    None => {
                        given.insert(property.name.to_ascii_lowercase(), property.position);
                        instance.properties.push(property);
                    }
                },
                Err(Failed) if self.resume.is_some() => return Err(Failed),
                Err(Failed) => self.skip_within(braces),
            }
        }
        self.advance();
        Ok(instance)
    }

    fn property(&mut self) -> Outcome<Property> {
        let qualifiers = self.qualifiers()?;
        let position = self.peeked.position;
        let name = self.name("the name of a property or `}`")?;
        if name.eq_ignore_ascii_case("instance") && self.is_word("of") {
            self.resume = Some(position);
            return self.fail(position, "the instance before this one is not closed with `}`");
        }
        self.symbol('=')?;
        let value = self.value()?;
        self.symbol(';')?;
        Ok(Property { qualifiers, name, value, position })
    }

    fn value(&mut self) -> Outcome<Value> {
        let position = self.peeked.position;
        if self.depth == DEPTH_MAX {
            return self.fail(position, format!("values lie more than {DEPTH_MAX} deep"));
        }
        self.values += 1;
        if self.values > VALUES_MAX {
            self.lexer.end();
            return self.fail(position, format!("there are more than {VALUES_MAX} values"));
        }
        self.depth += 1;
        let kind = self.value_kind();
        self.depth -= 1;
        Ok(Value { kind: kind?, position })
    }

    fn value_kind(&mut self) -> Outcome<ValueKind> {
        if matches!(self.peeked.kind, TokenKind::Text(_)) {
            return Ok(ValueKind::Text(self.text()));
        }
        match self.peeked.kind.clone() {
            TokenKind::Symbol('{') => self.array(),
            TokenKind::Integer(number) => self.scalar(ValueKind::Integer(number)),
            TokenKind::Real(number) => self.scalar(ValueKind::Real(number)),
            TokenKind::Char(c) => self.scalar(ValueKind::Char(c)),
            TokenKind::Alias(alias) => {
                self.references.push((alias.clone(), self.peeked.position));
                self.scalar(ValueKind::Alias(alias))
            }
            TokenKind::Word(word) => match word.to_ascii_lowercase().as_str() {
                "null" => self.scalar(ValueKind::Null),
                "true" => self.scalar(ValueKind::Boolean(true)),
                "false" => self.scalar(ValueKind::Boolean(false)),
                "instance" => {
                    let instance = self.instance(Vec::new())?;
                    Ok(ValueKind::Instance(Box::new(instance)))
                }
                _ => self.unexpected("a value"),
            },
            TokenKind::Text(_) | TokenKind::Symbol(_) | TokenKind::Pragma | TokenKind::End => {
                self.unexpected("a value")
            }
        }
    }

    fn scalar(&mut self, kind: ValueKind) -> Outcome<ValueKind> {
        self.advance();
        Ok(kind)
    }

    fn array(&mut self) -> Outcome<ValueKind> {
        self.advance();
        let mut values = Vec::new();
        if self.take_symbol('}') {
            return Ok(ValueKind::Array(values));
        }
        loop {
            let value = self.value()?;
            if matches!(value.kind, ValueKind::Array(_)) {
                return self.fail(value.position, "an array cannot hold an array");
            }
            values.push(value);
            if !self.take_symbol(',') {
                break;
            }
        }
        if !self.is_symbol('}') {
            return self.unexpected("`,` or `}`");
        }
        self.advance();
        Ok(ValueKind::Array(values))
    }

    /// Every alias that is used is given somewhere, before or after.
    fn check_references(&mut self) {
        for (alias, position) in std::mem::take(&mut self.references) {
            if !self.aliases.contains_key(&alias.to_ascii_lowercase()) {
                self.lexer.report(position, format!("no instance has the alias `{alias}`"));
            }
        }
    }
}
