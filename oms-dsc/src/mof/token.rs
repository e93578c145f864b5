//! Bytes to text to tokens.

use super::{Diagnostic, Position};

/// The largest document, in bytes as stored.
pub const SOURCE_BYTES_MAX: usize = 32 << 20;

/// The most diagnostics of one document; reading stops there.
pub const DIAGNOSTICS_MAX: usize = 100;

/// A token with the place of its first character.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) position: Position,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenKind {
    /// A keyword or a name; which one depends on where it stands.
    Word(String),
    /// One string literal, its escapes replaced.
    Text(String),
    Char(char),
    Integer(i128),
    Real(f64),
    /// `$Name`, with the dollar sign.
    Alias(String),
    /// One of `{ } ( ) [ ] ; , = :`
    Symbol(char),
    /// `#pragma`
    Pragma,
    End,
}

impl TokenKind {
    /// How a message names it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Word(word) => format!("`{}`", clip(word)),
            Self::Text(text) => format!("the string \"{}\"", clip(text).escape_debug()),
            Self::Char(_) => "a character".to_owned(),
            Self::Integer(number) => format!("the number {number}"),
            Self::Real(number) => format!("the number {number}"),
            Self::Alias(alias) => format!("`{}`", clip(alias)),
            Self::Symbol(symbol) => format!("`{symbol}`"),
            Self::Pragma => "`#pragma`".to_owned(),
            Self::End => "the end of the document".to_owned(),
        }
    }
}

/// The start of a long text, for messages.
fn clip(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 40;
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

/// A document's text, and what in its bytes was none. In place of that stands U+FFFD.
#[derive(Debug, Default)]
pub(super) struct Source {
    text: String,
    /// By the offset of its U+FFFD in the text, in order.
    faults: Vec<(usize, Fault)>,
}

/// What is not text.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// A byte that is not UTF-8.
    Byte(u8),
    /// Half of a surrogate pair.
    Surrogate(u16),
    /// One byte where two should be, at the end.
    HalfUnit,
}

impl Fault {
    fn describe(self) -> String {
        match self {
            Self::Byte(byte) => format!("the byte 0x{byte:02X} is not UTF-8 here"),
            Self::Surrogate(unit) => format!("the UTF-16 unit 0x{unit:04X} is half of a pair"),
            Self::HalfUnit => "the document ends in the middle of a UTF-16 unit".to_owned(),
        }
    }
}

/// The most places that are not text; a document with more is of no encoding that is read.
const FAULTS_MAX: usize = 10_000;

impl Source {
    /// Turns stored bytes into text. The byte order mark decides; without one, a zero in the first
    /// two bytes means UTF-16, for a document starts with an ASCII character.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Diagnostic> {
        if bytes.len() > SOURCE_BYTES_MAX {
            let message = format!(
                "the document has {} bytes, and at most {SOURCE_BYTES_MAX} are read",
                bytes.len()
            );
            return Err(Diagnostic { position: Position { line: 1, column: 1 }, message });
        }
        let mut source = Self::default();
        match bytes {
            [0xef, 0xbb, 0xbf, rest @ ..] => source.utf8(rest),
            [0xff, 0xfe, rest @ ..] => source.utf16(rest, u16::from_le_bytes),
            [0xfe, 0xff, rest @ ..] => source.utf16(rest, u16::from_be_bytes),
            [first, 0, ..] if *first != 0 => source.utf16(bytes, u16::from_le_bytes),
            [0, second, ..] if *second != 0 => source.utf16(bytes, u16::from_be_bytes),
            _ => source.utf8(bytes),
        }
        match source.faults.get(FAULTS_MAX) {
            None => Ok(source),
            Some((_, fault)) => {
                let message = format!("{}, and there is more that is not", fault.describe());
                Err(Diagnostic { position: end_of(&source.text), message })
            }
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.faults.push((self.text.len(), fault));
        self.text.push(char::REPLACEMENT_CHARACTER);
    }

    fn utf8(&mut self, bytes: &[u8]) {
        self.text.reserve(bytes.len());
        for chunk in bytes.utf8_chunks() {
            self.text.push_str(chunk.valid());
            for byte in chunk.invalid() {
                self.fault(Fault::Byte(*byte));
            }
            if self.faults.len() > FAULTS_MAX {
                return;
            }
        }
    }

    fn utf16(&mut self, bytes: &[u8], unit: fn([u8; 2]) -> u16) {
        self.text.reserve(bytes.len() / 2);
        let (pairs, rest) = bytes.as_chunks::<2>();
        for decoded in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
            match decoded {
                Ok(c) => self.text.push(c),
                Err(error) => self.fault(Fault::Surrogate(error.unpaired_surrogate())),
            }
            if self.faults.len() > FAULTS_MAX {
                return;
            }
        }
        if !rest.is_empty() {
            self.fault(Fault::HalfUnit);
        }
    }
}

/// The place behind the last character.
fn end_of(text: &str) -> Position {
    let mut lexer = Lexer::of(text, &[]);
    while lexer.bump().is_some() {}
    lexer.position
}

/// Reads one token after the other; what it cannot read becomes a diagnostic.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    rest: &'a str,
    position: Position,
    /// What is not text and lies ahead.
    faults: &'a [(usize, Fault)],
    is_comment: bool,
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        Self::of(&source.text, &source.faults)
    }

    fn of(text: &'a str, faults: &'a [(usize, Fault)]) -> Self {
        let position = Position { line: 1, column: 1 };
        let diagnostics = Vec::new();
        Self { text, rest: text, position, faults, is_comment: false, diagnostics }
    }

    /// From here on the text counts as ended.
    pub(super) fn end(&mut self) {
        self.rest = "";
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    /// Takes one character and moves the position behind it.
    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        if c == char::REPLACEMENT_CHARACTER {
            self.notice_fault();
        }
        // Reporting may have ended the text.
        self.rest = self.rest.get(c.len_utf8()..)?;
        if c == '\n' || (c == '\r' && self.peek() != Some('\n')) {
            self.position.line = self.position.line.saturating_add(1);
            self.position.column = 1;
        } else {
            self.position.column = self.position.column.saturating_add(1);
        }
        Some(c)
    }

    /// Reports what is not text at this place, unless it is in a comment.
    fn notice_fault(&mut self) {
        let offset = self.text.len() - self.rest.len();
        while let Some(((at, fault), ahead)) = self.faults.split_first() {
            if *at > offset {
                return;
            }
            self.faults = ahead;
            if *at == offset && !self.is_comment {
                self.report(self.position, fault.describe());
            }
        }
    }

    /// Keeps a diagnostic. After the last one that fits, the text counts as ended.
    pub(super) fn report(&mut self, position: Position, message: impl Into<String>) {
        if self.diagnostics.len() < DIAGNOSTICS_MAX {
            self.diagnostics.push(Diagnostic { position, message: message.into() });
        }
        if self.diagnostics.len() == DIAGNOSTICS_MAX {
            self.end();
        }
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let taken = self.rest[..end].to_owned();
        while self.peek().is_some_and(&wanted) {
            self.bump();
        }
        taken
    }

    /// The next token; at the end of the text, and ever after, [`TokenKind::End`].
    pub(super) fn next_token(&mut self) -> Token {
        loop {
            self.skip_blank();
            let position = self.position;
            let Some(c) = self.peek() else { return Token { kind: TokenKind::End, position } };
            let kind = match c {
                '{' | '}' | '(' | ')' | '[' | ']' | ';' | ',' | '=' | ':' => {
                    self.bump();
                    Some(TokenKind::Symbol(c))
                }
                '"' => Some(self.text(position)),
                '\'' => self.character(position),
                '$' => self.alias(position),
                '#' => self.directive(position),
                '0'..='9' | '+' | '-' | '.' => self.number(position),
                c if is_name_start(c) => Some(TokenKind::Word(self.take_while(is_name))),
                c => {
                    let known = self.diagnostics.len();
                    self.bump();
                    if self.diagnostics.len() > known {
                        // It is no text, which is said already.
                        continue;
                    }
                    let shown = c.escape_debug();
                    self.report(position, format!("the character `{shown}` is not expected here"));
                    None
                }
            };
            if let Some(kind) = kind {
                return Token { kind, position };
            }
        }
    }

    /// Skips white space and comments.
    fn skip_blank(&mut self) {
        loop {
            if self.peek().is_some_and(|c| c.is_whitespace() || c == '\u{feff}') {
                self.bump();
            } else if self.rest.starts_with("//") || self.rest.starts_with("/*") {
                self.is_comment = true;
                self.skip_comment();
                self.is_comment = false;
            } else {
                return;
            }
        }
    }

    fn skip_comment(&mut self) {
        let start = self.position;
        let is_line = self.rest.starts_with("//");
        self.bump();
        self.bump();
        if is_line {
            while self.peek().is_some_and(|c| c != '\n' && c != '\r') {
                self.bump();
            }
            return;
        }
        while !self.rest.starts_with("*/") {
            if self.bump().is_none() {
                self.report(start, "the comment is not closed with `*/`");
                return;
            }
        }
        self.bump();
        self.bump();
    }

    fn alias(&mut self, position: Position) -> Option<TokenKind> {
        self.bump();
        let name = self.take_while(is_name);
        if name.starts_with(is_name_start) {
            return Some(TokenKind::Alias(format!("${name}")));
        }
        self.report(position, "a name is missing after `$`");
        None
    }

    fn directive(&mut self, position: Position) -> Option<TokenKind> {
        self.bump();
        let name = self.take_while(is_name);
        if name.eq_ignore_ascii_case("pragma") {
            return Some(TokenKind::Pragma);
        }
        self.report(position, format!("`#{}` is not a directive; only `#pragma` is", clip(&name)));
        None
    }

    fn text(&mut self, start: Position) -> TokenKind {
        self.bump();
        let mut text = String::new();
        loop {
            let position = self.position;
            match self.bump() {
                None => {
                    self.report(start, "the string is not closed with `\"`");
                    return TokenKind::Text(text);
                }
                Some('"') => return TokenKind::Text(text),
                Some('\\') => {
                    if let Some(c) = self.escape(position) {
                        text.push(c);
                    }
                }
                Some(c) => text.push(c),
            }
        }
    }

    fn character(&mut self, start: Position) -> Option<TokenKind> {
        self.bump();
        let position = self.position;
        let value = match self.peek() {
            Some('\'') => None,
            Some('\\') => {
                self.bump();
                self.escape(position)
            }
            _ => self.bump(),
        };
        if self.peek() != Some('\'') {
            self.report(start, "a character literal holds one character between `'`");
            return None;
        }
        self.bump();
        match value {
            Some(c) if (c as u32) <= 0xffff => Some(TokenKind::Char(c)),
            Some(_) => {
                self.report(start, "a character literal holds at most U+FFFF");
                None
            }
            None => {
                self.report(start, "a character literal holds one character between `'`");
                None
            }
        }
    }

    /// Reads what stands behind a backslash. See DSP0004, A.1 `escapedUCSchar`.
    fn escape(&mut self, start: Position) -> Option<char> {
        match self.bump() {
            Some('b') => Some('\u{8}'),
            Some('t') => Some('\t'),
            Some('n') => Some('\n'),
            Some('f') => Some('\u{c}'),
            Some('r') => Some('\r'),
            Some(c @ ('"' | '\'' | '\\')) => Some(c),
            Some('x' | 'X') => self.hexadecimal(start),
            Some(c) => {
                let shown = c.escape_debug();
                self.report(start, format!("`\\{shown}` is not an escape sequence"));
                Some(c)
            }
            None => None,
        }
    }

    /// Reads one to four hexadecimal digits; the two halves of a surrogate pair are joined.
    fn hexadecimal(&mut self, start: Position) -> Option<char> {
        let Some(unit) = self.hexadecimal_unit() else {
            self.report(start, "`\\x` needs one to four hexadecimal digits");
            return None;
        };
        if let Some(c) = char::from_u32(unit) {
            return Some(c);
        }
        let is_pair = self.rest.starts_with("\\x") || self.rest.starts_with("\\X");
        if (0xd800..0xdc00).contains(&unit) && is_pair {
            self.bump();
            self.bump();
            if let Some(low) = self.hexadecimal_unit().filter(|u| (0xdc00..0xe000).contains(u)) {
                return char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00));
            }
        }
        self.report(start, format!("`\\x{unit:04X}` is half of a UTF-16 pair"));
        None
    }

    fn hexadecimal_unit(&mut self) -> Option<u32> {
        let mut unit = None;
        for _ in 0..4 {
            let Some(digit) = self.peek().and_then(|c| c.to_digit(16)) else { break };
            self.bump();
            unit = Some(unit.unwrap_or(0) * 16 + digit);
        }
        unit
    }

    fn number(&mut self, position: Position) -> Option<TokenKind> {
        let (mut text, mut has_point) = (String::new(), false);
        while let Some(c) = self.peek() {
            let is_sign = matches!(c, '+' | '-');
            let is_decimal = text.trim_start_matches(['+', '-']).starts_with(|c: char| c != '0');
            let after_exponent = (has_point || is_decimal) && text.ends_with(['e', 'E']);
            let fits = c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
            if !fits && !(is_sign && (text.is_empty() || after_exponent)) {
                break;
            }
            has_point |= c == '.';
            text.push(c);
            self.bump();
        }
        match number_of(&text) {
            Ok(kind) => Some(kind),
            Err(reason) => {
                self.report(position, format!("`{}` is not a number: {reason}", clip(&text)));
                Some(TokenKind::Integer(0))
            }
        }
    }
}

/// See DSP0004, A.1 `firstIdentifierChar`: letters, the underscore, and U+0080 to U+FFEF, of which
/// white space and control characters are left out.
fn is_name_start(c: char) -> bool {
    let is_beyond = ('\u{80}'..='\u{ffef}').contains(&c) && c != '\u{feff}';
    c.is_ascii_alphabetic() || c == '_' || (is_beyond && !c.is_whitespace() && !c.is_control())
}

fn is_name(c: char) -> bool {
    c.is_ascii_digit() || is_name_start(c)
}

/// Reads a number in any of the five notations. See DSP0004, A.1 `integerValue`, `realValue`.
fn number_of(text: &str) -> Result<TokenKind, &'static str> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() {
        return Err("there are no digits");
    }
    // Without a point an exponent is none of DSP0004's, and what compilers of other cultures write.
    let has_exponent = || {
        let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, ""));
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        is_number(mantissa) && is_number(exponent.trim_start_matches(['+', '-']))
    };
    if digits.contains('.') || has_exponent() {
        return real_of(text, digits);
    }
    let is_all =
        |digits: &str, radix| !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    let (body, radix) = if let Some(hex) = digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        (hex, 16)
    } else if let Some(binary) = digits.strip_suffix(['b', 'B']) {
        (binary, 2)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (digits, 8)
    } else {
        (digits, 10)
    };
    if !is_all(body, radix) {
        return Err(match radix {
            16 => "hexadecimal digits follow `0x`",
            2 => "a binary number has the digits 0 and 1 before `b`",
            8 => "a number that starts with 0 has octal digits",
            _ => "it holds something other than digits",
        });
    }
    let range = "it is outside of the 64-bit integers";
    let magnitude = i128::from_str_radix(body, radix).map_err(|_overflow| range)?;
    let number = if text.starts_with('-') { -magnitude } else { magnitude };
    if number < i128::from(i64::MIN) || number > i128::from(u64::MAX) {
        return Err(range);
    }
    Ok(TokenKind::Integer(number))
}

fn real_of(text: &str, digits: &str) -> Result<TokenKind, &'static str> {
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (digits, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or(("", mantissa));
    let is_decimal = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit());
    if fraction.is_empty() || !is_decimal(fraction) || !is_decimal(whole) {
        return Err("digits are missing beside the point");
    }
    if let Some(exponent) = exponent {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if exponent.is_empty() || !is_decimal(exponent) {
            return Err("digits are missing in the exponent");
        }
    }
    let number: f64 = text.parse().map_err(|_malformed| "it is not a real number")?;
    if !number.is_finite() {
        return Err("it is too large for a 64-bit real number");
    }
    Ok(TokenKind::Real(number))
}
