//! Expressions over what is known of a node: `tag.role -eq 'web' -and name -like 'web-*'`.
//!
//! ```text
//! expression  = term { "-and" term } | term { "-or" term }
//! term        = "-not" term | "(" expression ")" | "all" | comparison
//! comparison  = fact ( "-eq" | "-ne" | "-like" | "-notlike" ) value
//!             | fact ( "-in" | "-notin" ) "(" value { "," value } ")"
//!             | fact                                  it has a value
//! fact        = "name" | "agentId" | "tag." NAME | "lcmVersion" | "ipAddress" | "registered"
//!             | "configurationMode" | "refreshMode"
//! value       = 'text' | "text" | a word without blanks, quotes, commas and parentheses
//! ```
//!
//! Words, and the texts that are compared, are without regard to case. `-and` and `-or` side by side need
//! parentheses: languages differ in which binds first.

use super::name::TagName;
use super::node::Node;
use crate::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The longest expression, in bytes.
pub const NODE_EXPRESSION_BYTES_MAX: usize = 4 << 10;

/// How deep parentheses and `-not` may lie in each other.
const DEPTH_MAX: usize = 32;

/// A condition on what is known of a node.
///
/// - `name`, `lcmVersion`, `ipAddress` (each of its addresses), `registered` (each configuration that it
///   registered for): as the node said when it registered.
/// - `configurationMode`, `refreshMode`: as its last finished run reported.
/// - `agentId`; `tag.NAME`: as an operator set it.
///
/// A fact with several values has what is asked for if one of them has; `-ne`, `-notlike` and `-notin` are
/// the opposite of `-eq`, `-like` and `-in`, so that they hold where there is no value. In the pattern of
/// `-like`, `*` stands for any text and `?` for one character.
///
/// ```
/// use oms_dsc::pull_server::NodeExpression;
///
/// let rule: NodeExpression = "tag.role -eq web -and -not (name -like 'test-*')".parse()?;
/// assert_eq!(rule.to_string(), "tag.role -eq web -and -not (name -like 'test-*')");
/// let refused = "tag.role -is web".parse::<NodeExpression>().unwrap_err();
/// assert!(refused.to_string().contains("column 10: `-is` is no operator"));
/// # Ok::<(), oms_dsc::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeExpression {
    text: String,
    root: Term,
}

#[derive(Clone, Debug, PartialEq)]
enum Term {
    All,
    Not(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
    Compare { fact: Fact, test: Test, is_negated: bool },
}

#[derive(Clone, Debug, PartialEq)]
enum Fact {
    Name,
    AgentId,
    Tag(TagName),
    LcmVersion,
    IpAddress,
    Registered,
    ConfigurationMode,
    RefreshMode,
}

/// What one value of a fact is asked for; texts are in lower case.
#[derive(Clone, Debug, PartialEq)]
enum Test {
    IsThere,
    In(Vec<String>),
    Like(Vec<char>),
}

impl NodeExpression {
    /// The condition that a node has a tag of that value.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Invalid`] for a value that is too long.
    pub fn tag(name: &str, value: &str) -> Result<Self, Error> {
        let name: TagName = name.parse()?;
        format!("tag.{name} -eq '{}'", value.replace('\'', "''")).parse()
    }

    /// Whether it holds for a node.
    #[must_use]
    pub fn matches(&self, node: &Node) -> bool {
        self.root.holds(node)
    }
}

impl FromStr for NodeExpression {
    type Err = Error;

    /// # Errors
    /// [`Error::Invalid`] with the column, in characters from 1.
    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = |reason| Error::Invalid { what: "node expression", reason };
        if text.len() > NODE_EXPRESSION_BYTES_MAX {
            return Err(refused(format!("it has more than {NODE_EXPRESSION_BYTES_MAX} bytes")));
        }
        if text.chars().any(char::is_control) {
            return Err(refused("it has a control character".to_owned()));
        }
        let mut parser = Parser { tokens: tokens(text).map_err(refused)?, next: 0, depth: 0 };
        let root = parser.expression().map_err(refused)?;
        match parser.peek() {
            (_, Token::End) => Ok(Self { text: text.to_owned(), root }),
            (at, other) => Err(refused(format!("column {at}: {other} is one too many"))),
        }
    }
}

impl fmt::Display for NodeExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for NodeExpression {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<NodeExpression> for String {
    fn from(expression: NodeExpression) -> Self {
        expression.text
    }
}

impl Term {
    fn holds(&self, node: &Node) -> bool {
        match self {
            Self::All => true,
            Self::Not(term) => !term.holds(node),
            Self::And(terms) => terms.iter().all(|term| term.holds(node)),
            Self::Or(terms) => terms.iter().any(|term| term.holds(node)),
            Self::Compare { fact, test, is_negated } => {
                fact.values(node).iter().any(|value| test.holds(value)) != *is_negated
            }
        }
    }
}

impl Fact {
    fn named(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "name" => Self::Name,
            "agentid" => Self::AgentId,
            "lcmversion" => Self::LcmVersion,
            "ipaddress" => Self::IpAddress,
            "registered" => Self::Registered,
            "configurationmode" => Self::ConfigurationMode,
            "refreshmode" => Self::RefreshMode,
            word => Self::Tag(word.strip_prefix("tag.")?.parse().ok()?),
        })
    }

    /// Its values in lower case; an empty text is none.
    fn values(&self, node: &Node) -> Vec<String> {
        let report = node.last_report.as_ref();
        let values: Vec<&str> = match self {
            Self::Name => vec![&node.agent.node_name],
            Self::AgentId => return vec![node.agent_id.to_string()],
            Self::Tag(name) => node.tags.get(name).map(String::as_str).into_iter().collect(),
            Self::LcmVersion => vec![&node.agent.lcm_version],
            Self::IpAddress => node.agent.ip_address.split(';').map(str::trim).collect(),
            Self::Registered => node.registered_names.iter().map(|name| name.as_str()).collect(),
            Self::ConfigurationMode => {
                report.and_then(|report| report.configuration_mode.as_deref()).into_iter().collect()
            }
            Self::RefreshMode => {
                report.and_then(|report| report.refresh_mode.as_deref()).into_iter().collect()
            }
        };
        values.into_iter().filter(|value| !value.is_empty()).map(str::to_lowercase).collect()
    }
}

impl Test {
    fn holds(&self, value: &str) -> bool {
        match self {
            Self::IsThere => true,
            Self::In(texts) => texts.iter().any(|text| text == value),
            Self::Like(pattern) => is_like(pattern, &value.chars().collect::<Vec<char>>()),
        }
    }
}

/// Whether a text has the form of a pattern of `*` and `?`. Where it does not go on, the last `*` takes one
/// character more, so the time is at most the product of the two lengths.
fn is_like(pattern: &[char], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (p, t) = (at + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// As written; an operator begins with `-`.
    Word(String),
    /// What stood between quotes.
    Text(String),
    Open,
    Close,
    Comma,
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => write!(f, "`{word}`"),
            Self::Text(text) => write!(f, "'{text}'"),
            Self::Open => f.write_str("`(`"),
            Self::Close => f.write_str("`)`"),
            Self::Comma => f.write_str("`,`"),
            Self::End => f.write_str("the end"),
        }
    }
}

/// Each token with its column, and [`Token::End`] behind them.
fn tokens(text: &str) -> Result<Vec<(usize, Token)>, String> {
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    let is_end = |c: char| c.is_whitespace() || matches!(c, '(' | ')' | ',' | '\'' | '"');
    while let Some(c) = chars.get(at) {
        let column = at + 1;
        at += 1;
        let token = match *c {
            c if c.is_whitespace() => continue,
            '(' => Token::Open,
            ')' => Token::Close,
            ',' => Token::Comma,
            quote @ ('\'' | '"') => {
                let mut quoted = String::new();
                let unclosed = || format!("column {column}: the text is not closed");
                loop {
                    let c = chars.get(at).ok_or_else(unclosed)?;
                    at += 1;
                    if *c != quote {
                        quoted.push(*c);
                    } else if chars.get(at) == Some(&quote) {
                        // Two are one within a text.
                        quoted.push(quote);
                        at += 1;
                    } else {
                        break Token::Text(quoted);
                    }
                }
            }
            _ => {
                let len = chars[at..].iter().take_while(|c| !is_end(**c)).count();
                let word = chars[at - 1..at + len].iter().collect();
                at += len;
                Token::Word(word)
            }
        };
        tokens.push((column, token));
    }
    tokens.push((chars.len() + 1, Token::End));
    Ok(tokens)
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

impl Parser {
    /// The last token is the end, which is never passed.
    fn peek(&self) -> &(usize, Token) {
        &self.tokens[self.next]
    }

    fn take(&mut self) -> (usize, Token) {
        let taken = self.peek().clone();
        self.next += usize::from(taken.1 != Token::End);
        taken
    }

    fn take_word(&mut self, wanted: &str) -> bool {
        let is_it =
            matches!(&self.peek().1, Token::Word(word) if word.eq_ignore_ascii_case(wanted));
        self.next += usize::from(is_it);
        is_it
    }

    fn expect(&mut self, wanted: &Token) -> Result<(), String> {
        match self.take() {
            (_, found) if found == *wanted => Ok(()),
            (at, found) => Err(format!("column {at}: {wanted} is missing before {found}")),
        }
    }

    fn expression(&mut self) -> Result<Term, String> {
        let first = self.term()?;
        let (word, other, join): (_, _, fn(Vec<Term>) -> Term) = match &self.peek().1 {
            Token::Word(word) if word.eq_ignore_ascii_case("-and") => ("-and", "-or", Term::And),
            Token::Word(word) if word.eq_ignore_ascii_case("-or") => ("-or", "-and", Term::Or),
            _ => return Ok(first),
        };
        let mut terms = vec![first];
        while self.take_word(word) {
            terms.push(self.term()?);
        }
        match self.peek() {
            (at, Token::Word(found)) if found.eq_ignore_ascii_case(other) => {
                Err(format!("column {at}: `-and` and `-or` side by side need parentheses"))
            }
            _ => Ok(join(terms)),
        }
    }

    fn term(&mut self) -> Result<Term, String> {
        let (at, token) = self.take();
        if self.depth == DEPTH_MAX {
            return Err(format!("column {at}: more than {DEPTH_MAX} parentheses and `-not`"));
        }
        self.depth += 1;
        let term = match token {
            Token::Word(word) if word.eq_ignore_ascii_case("-not") => {
                Term::Not(Box::new(self.term()?))
            }
            Token::Word(word) if word.eq_ignore_ascii_case("all") => Term::All,
            Token::Open => {
                let inner = self.expression()?;
                self.expect(&Token::Close)?;
                inner
            }
            Token::Word(word) => match Fact::named(&word) {
                Some(fact) => self.comparison(fact)?,
                None => return Err(format!("column {at}: `{word}` is nothing known of a node")),
            },
            found => return Err(format!("column {at}: {found} in place of a condition")),
        };
        self.depth -= 1;
        Ok(term)
    }

    fn comparison(&mut self, fact: Fact) -> Result<Term, String> {
        let operator = match self.peek() {
            (_, Token::Word(word)) if !is_joint(word) => word.to_ascii_lowercase(),
            (at, found @ Token::Text(_)) => {
                return Err(format!("column {at}: an operator is missing before {found}"));
            }
            _ => return Ok(Term::Compare { fact, test: Test::IsThere, is_negated: false }),
        };
        let (at, found) = self.take();
        let (test, is_negated) = match operator.as_str() {
            "-eq" | "-ne" => (Test::In(vec![self.value()?]), operator == "-ne"),
            "-like" | "-notlike" => {
                (Test::Like(self.value()?.chars().collect()), operator == "-notlike")
            }
            "-in" | "-notin" => (Test::In(self.list()?), operator == "-notin"),
            _ => return Err(format!("column {at}: {found} is no operator")),
        };
        Ok(Term::Compare { fact, test, is_negated })
    }

    fn list(&mut self) -> Result<Vec<String>, String> {
        self.expect(&Token::Open)?;
        let mut values = vec![self.value()?];
        while self.peek().1 == Token::Comma {
            self.take();
            values.push(self.value()?);
        }
        self.expect(&Token::Close)?;
        Ok(values)
    }

    /// In lower case.
    fn value(&mut self) -> Result<String, String> {
        match self.take() {
            (_, Token::Text(text)) => Ok(text.to_lowercase()),
            (_, Token::Word(word)) if !word.starts_with('-') => Ok(word.to_lowercase()),
            (at, found) => Err(format!("column {at}: {found} in place of a value")),
        }
    }
}

/// What may follow a fact that stands alone.
fn is_joint(word: &str) -> bool {
    word.eq_ignore_ascii_case("-and") || word.eq_ignore_ascii_case("-or")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Compliance, ReportSummary};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn node() -> Node {
        let agent_id = "91e51a37-b59f-11e5-9c04-14109fd663ae".parse().expect("an id");
        let mut node = Node::new(agent_id);
        node.agent.node_name = "Web-01".to_owned();
        node.agent.lcm_version = "2.0".to_owned();
        node.agent.ip_address = "10.0.0.1;fe80::1; ".to_owned();
        node.registered_names = vec!["Site.Web".parse().expect("a name")];
        let tags = [("role", "Web"), ("ring", "canary"), ("it's", "o'clock")];
        let tags = tags.into_iter().filter_map(|(name, value)| Some((name.parse().ok()?, value)));
        node.tags = tags.map(|(name, value)| (name, value.to_owned())).collect();
        node.last_report = Some(Arc::new(ReportSummary {
            job_id: agent_id.to_string().parse().expect("an id"),
            compliance: Compliance::Compliant,
            operation_type: "Consistency".to_owned(),
            refresh_mode: Some("Pull".to_owned()),
            configuration_mode: None,
            node_name: None,
            ip_address: None,
            start_time: None,
            end_time: None,
            resource_count: 0,
            resources: Vec::new(),
            error: None,
        }));
        node
    }

    #[test]
    fn conditions_on_a_node() {
        let node = node();
        for (text, expect) in [
            ("all", true),
            ("name -eq web-01", true),
            ("name -eq 'WEB-01'", true),
            ("name -eq web", false),
            ("NAME -LIKE 'web-*'", true),
            ("name -like web-0?", true),
            ("name -like *-*-*", false),
            ("name -notlike 'db-*'", true),
            ("agentId -like 91e5*", true),
            ("tag.role -eq web", true),
            ("tag.Role -ne web", false),
            ("tag.owner -eq x", false),
            ("tag.owner -ne x", true),
            ("tag.owner", false),
            ("tag.ring -and tag.role", true),
            ("(tag.owner) -or (tag.ring)", true),
            ("-not tag.owner", true),
            ("-not -not tag.owner", false),
            ("tag.ring -in (early, 'canary')", true),
            ("tag.ring -notin(early,canary)", false),
            ("ipAddress -eq fe80::1", true),
            ("ipAddress -eq ''", false),
            ("ipAddress -ne 10.0.0.2", true),
            ("registered -eq site.web", true),
            ("lcmVersion -eq \"2.0\"", true),
            ("refreshMode -eq pull", true),
            ("configurationMode -ne ApplyOnly", true),
            ("name -eq x -or (tag.role -eq web -and -not tag.owner)", true),
            ("name -eq web-01 -and tag.role -eq db", false),
        ] {
            let expression: NodeExpression = text.parse().expect(text);
            assert_eq!(expression.matches(&node), expect, "{text}");
            assert_eq!(expression.to_string(), text);
        }
        assert!(NodeExpression::tag("role", "web").expect("a tag").matches(&node));
        assert!(!NodeExpression::tag("role", "w'eb").expect("a tag").matches(&node));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_column() {
        for (text, expect) in [
            ("", "column 1: the end in place of a condition"),
            ("host -eq a", "column 1: `host` is nothing known of a node"),
            ("tag. -eq a", "column 1: `tag.` is nothing known of a node"),
            ("name -is a", "column 6: `-is` is no operator"),
            ("name a", "column 6: `a` is no operator"),
            ("name 'a'", "column 6: an operator is missing before 'a'"),
            ("name -eq", "column 9: the end in place of a value"),
            ("name -eq -and", "column 10: `-and` in place of a value"),
            ("name -eq 'a", "column 10: the text is not closed"),
            ("name -eq a b", "column 12: `b` is one too many"),
            ("(name -eq a", "column 12: `)` is missing before the end"),
            ("name -in a", "column 10: `(` is missing before `a`"),
            ("name -in (a", "column 12: `)` is missing before the end"),
            ("name) -eq a", "column 5: `)` is one too many"),
            (
                "name -and tag.a -or tag.b",
                "column 17: `-and` and `-or` side by side need parentheses",
            ),
            ("name -eq a\n", "it has a control character"),
        ] {
            let refused = text.parse::<NodeExpression>().expect_err(text).to_string();
            assert_eq!(
                refused,
                format!("node expression is not valid. reason=`{expect}`"),
                "{text}"
            );
        }
        for deep in ["(".repeat(40), "-not ".repeat(40)] {
            let refused = deep.parse::<NodeExpression>().expect_err("too deep").to_string();
            assert!(refused.contains("more than 32"), "{refused}");
        }
        let long = format!("name -eq {}", "a".repeat(NODE_EXPRESSION_BYTES_MAX));
        assert!(long.parse::<NodeExpression>().is_err());
    }

    /// The plain definition of a pattern.
    fn is_like_slowly(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|at| is_like_slowly(rest, &text[at..])),
            Some((c, rest)) => {
                text.first().is_some_and(|t| *c == '?' || c == t)
                    && is_like_slowly(rest, &text[1..])
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_expression_or_told_why_not(
            text in prop_oneof![
                ".{0,60}",
                "(name|tag\\.a|all| |\\(|\\)|,|'|-and|-or|-not|-eq|-in|-like|x){0,20}",
            ],
        ) {
            match text.parse::<NodeExpression>() {
                Ok(expression) => {
                    let _ = expression.matches(&node());
                    prop_assert_eq!(&expression.to_string(), &text);
                    // It is the same where it stands in another.
                    let not: NodeExpression = format!("-not ({text})").parse().expect("nested");
                    prop_assert_ne!(not.matches(&node()), expression.matches(&node()));
                }
                Err(error) => prop_assert!(matches!(error, Error::Invalid { .. }), "{}", error),
            }
        }

        #[test]
        fn patterns_mean_what_they_say(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            let [pattern, text] = [pattern, text].map(|text| text.chars().collect::<Vec<_>>());
            prop_assert_eq!(is_like(&pattern, &text), is_like_slowly(&pattern, &text));
        }
    }
}
