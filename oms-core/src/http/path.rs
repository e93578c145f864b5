//! Paths as the protocols of this suite write them: names without case, OData functions.

use percent_encoding::percent_decode_str;

/// The most segments of a path.
pub(super) const SEGMENTS_MAX: usize = 64;

/// The longest path, in bytes.
pub(super) const PATH_BYTES_MAX: usize = 8 * 1024;

/// The most arguments of one OData segment.
const ARGUMENTS_MAX: usize = 16;

/// A route's pattern that cannot be read: a mistake in the program, found at start.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("route pattern cannot be read. pattern=`{pattern}`, reason=`{reason}`")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Why a request's path cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PathError {
    TooLong,
    NotUtf8,
    Traversal,
    Control,
}

impl PathError {
    pub(super) const fn message(self) -> &'static str {
        match self {
            Self::TooLong => "path is too long",
            Self::NotUtf8 => "path is not UTF-8",
            Self::Traversal => "path has a `.` or `..` segment",
            Self::Control => "path has a control character",
        }
    }
}

/// The decoded segments of a path; empty ones (of `//`) are left out.
pub(super) fn segments(path: &str) -> Result<Vec<String>, PathError> {
    if path.len() > PATH_BYTES_MAX {
        return Err(PathError::TooLong);
    }
    let mut segments = Vec::new();
    for raw in split_outside_quotes(path, b'/') {
        let decoded = percent_decode_str(raw).decode_utf8().map_err(|_bytes| PathError::NotUtf8)?;
        if decoded.is_empty() {
            continue;
        }
        if matches!(&*decoded, "." | "..") {
            return Err(PathError::Traversal);
        }
        if decoded.chars().any(char::is_control) {
            return Err(PathError::Control);
        }
        if segments.len() == SEGMENTS_MAX {
            return Err(PathError::TooLong);
        }
        segments.push(decoded.into_owned());
    }
    Ok(segments)
}

/// Splits at a byte that stands outside `'…'` within parentheses: an OData key may hold one.
fn split_outside_quotes(text: &str, at: u8) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut depth, mut is_quoted) = (0, 0usize, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'\'' if depth > 0 => is_quoted = !is_quoted,
            b'(' if !is_quoted => depth += 1,
            b')' if !is_quoted => depth = depth.saturating_sub(1),
            _ if byte == at && !is_quoted => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// `Nodes(AgentId='x',Name='y')` as its name and arguments.
fn odata(segment: &str) -> Option<(&str, Vec<(&str, String)>)> {
    let (name, rest) = segment.split_once('(')?;
    let inside = rest.strip_suffix(')')?;
    let mut arguments = Vec::new();
    if inside.trim().is_empty() {
        return Some((name, arguments));
    }
    for part in split_arguments(inside) {
        let (key, value) = part.split_once('=')?;
        let value = value.trim();
        let value = match value.strip_prefix('\'') {
            Some(quoted) => quoted.strip_suffix('\'')?.replace("''", "'"),
            None => value.to_owned(),
        };
        if arguments.len() == ARGUMENTS_MAX {
            return None;
        }
        arguments.push((key.trim(), value));
    }
    Some((name, arguments))
}

fn split_arguments(inside: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut is_quoted) = (0, false);
    for (index, byte) in inside.bytes().enumerate() {
        match byte {
            b'\'' => is_quoted = !is_quoted,
            b',' if !is_quoted => {
                parts.push(&inside[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&inside[start..]);
    parts
}

/// A route's path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Pattern {
    segments: Vec<Piece>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Piece {
    /// `name`
    Literal(String),
    /// `{name}`
    Capture(String),
    /// `{*name}`: the rest, at least one segment.
    Rest(String),
    /// `Name(Key='{name}',…)`
    Function { name: String, arguments: Vec<(String, String)> },
}

impl Pattern {
    pub(super) fn parse(pattern: &str) -> Result<Self, PatternError> {
        let refuse = |reason| PatternError { pattern: pattern.to_owned(), reason };
        let path = pattern.strip_prefix('/').ok_or_else(|| refuse("no leading slash"))?;
        let mut segments = Vec::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            if matches!(segments.last(), Some(Piece::Rest(_))) {
                return Err(refuse("a segment after `{*rest}`"));
            }
            segments.push(Piece::parse(part).map_err(refuse)?);
        }
        Ok(Self { segments })
    }

    /// The captured values by name, if the path fits.
    pub(super) fn matches(&self, path: &[String]) -> Option<Vec<(String, String)>> {
        let mut captured = Vec::new();
        for (index, piece) in self.segments.iter().enumerate() {
            let segment = path.get(index)?;
            match piece {
                Piece::Literal(literal) if literal.eq_ignore_ascii_case(segment) => {}
                Piece::Literal(_) => return None,
                Piece::Capture(name) => captured.push((name.clone(), segment.clone())),
                Piece::Rest(name) => {
                    // An encoded slash stays within its segment, until segments are joined here.
                    let is_dots = |part| matches!(part, "." | "..");
                    if path[index..].iter().any(|segment| segment.split('/').any(is_dots)) {
                        return None;
                    }
                    captured.push((name.clone(), path[index..].join("/")));
                    return Some(captured);
                }
                Piece::Function { name, arguments } => {
                    captured.extend(match_function(name, arguments, segment)?);
                }
            }
        }
        (path.len() == self.segments.len()).then_some(captured)
    }

    /// Whether every path that fits lies below `prefix` (decoded, compared without case; none is
    /// any segment).
    pub(super) fn is_below(&self, prefix: &[Option<String>]) -> bool {
        self.segments.len() >= prefix.len()
            && prefix.iter().zip(&self.segments).all(|(want, piece)| match (want, piece) {
                (Some(want), Piece::Literal(literal)) => literal.eq_ignore_ascii_case(want),
                (Some(_), _) | (None, Piece::Rest(_)) => false,
                (None, Piece::Literal(_) | Piece::Capture(_) | Piece::Function { .. }) => true,
            })
    }

    /// The number of segments, which for `{*rest}` is the least.
    pub(super) const fn len(&self) -> usize {
        self.segments.len()
    }

    /// A path that fits, with `x` for each capture.
    pub(super) fn example(&self) -> String {
        let show = |piece: &Piece| match piece {
            Piece::Literal(literal) => literal.clone(),
            Piece::Capture(_) | Piece::Rest(_) => "x".to_owned(),
            Piece::Function { name, arguments } => {
                let shown: Vec<_> = arguments.iter().map(|(key, _)| format!("{key}='x'")).collect();
                format!("{name}({})", shown.join(","))
            }
        };
        let shown: Vec<_> = self.segments.iter().map(show).collect();
        format!("/{}", shown.join("/"))
    }
}

impl Piece {
    fn parse(part: &str) -> Result<Self, &'static str> {
        if let Some(name) = part.strip_prefix("{*").and_then(|rest| rest.strip_suffix('}')) {
            return Ok(Self::Rest(name.to_owned()));
        }
        if let Some(name) = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            return Ok(Self::Capture(name.to_owned()));
        }
        let Some((name, arguments)) = odata(part) else {
            return match part.contains(['{', '}', '(', ')']) {
                true => Err("a segment that is neither a name, a capture nor a function"),
                false => Ok(Self::Literal(part.to_owned())),
            };
        };
        let capture = |(key, value): (&str, String)| {
            let name = value.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            name.map(|name| (key.to_owned(), name.to_owned()))
        };
        let arguments: Option<Vec<_>> = arguments.into_iter().map(capture).collect();
        let arguments = arguments.ok_or("a function argument that is not `Key='{name}'`")?;
        Ok(Self::Function { name: name.to_owned(), arguments })
    }
}

/// Matches `Name(Key='value',…)` with exactly the wanted keys, in any order.
fn match_function(
    name: &str,
    wanted: &[(String, String)],
    segment: &str,
) -> Option<Vec<(String, String)>> {
    let (found_name, found) = odata(segment)?;
    if !found_name.eq_ignore_ascii_case(name) || found.len() != wanted.len() {
        return None;
    }
    let mut captured = Vec::new();
    for (key, capture) in wanted {
        let (_, value) = found.iter().find(|(found_key, _)| found_key.eq_ignore_ascii_case(key))?;
        captured.push((capture.clone(), value.clone()));
    }
    Some(captured)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn captures(pattern: &str, path: &str) -> Option<Vec<(String, String)>> {
        let pattern = Pattern::parse(pattern).expect("a pattern");
        pattern.matches(&segments(path).expect("a path"))
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn case_double_slashes_and_percent_signs_do_not_matter() {
        assert_eq!(captures("/api/logs", "//API//Logs/"), Some(vec![]));
        assert_eq!(captures("/a/{x}", "/A/b%20c"), Some(owned(&[("x", "b c")])));
        assert_eq!(captures("/a/{x}", "/a"), None);
        assert_eq!(captures("/a/{*x}", "/a/b/c"), Some(owned(&[("x", "b/c")])));
        assert_eq!(captures("/a/{*x}", "/a/b%2F..%2fc"), None);
    }

    #[test]
    fn odata_functions_take_their_arguments_in_any_order() {
        let pattern = "/M(Name='{n}',Version='{v}')/Content";
        let expect = Some(owned(&[("n", "a/b"), ("v", "1.0")]));
        assert_eq!(captures(pattern, "/m(version='1.0',NAME='a/b')/content"), expect);
        assert_eq!(captures(pattern, "/M(Name=a%2Fb,Version=1.0)/Content"), expect);
        assert_eq!(captures(pattern, "/M(Name='a')/Content"), None);
        assert_eq!(captures(pattern, "/M(Name='a',Version='1',X='2')/Content"), None);
        let quoted = captures("/N(Id='{id}')", "/N(Id='it''s')");
        assert_eq!(quoted, Some(owned(&[("id", "it's")])));
        assert_eq!(captures("/Reports()", "/reports()"), Some(vec![]));
    }

    #[test]
    fn traversal_is_refused_also_when_encoded() {
        assert_eq!(segments("/a/../b"), Err(PathError::Traversal));
        assert_eq!(segments("/a/%2e%2E/b"), Err(PathError::Traversal));
        assert_eq!(segments("/a/%00"), Err(PathError::Control));
        assert_eq!(segments("/a/%ff"), Err(PathError::NotUtf8));
        assert_eq!(segments(&"/a".repeat(65)), Err(PathError::TooLong));
        assert_eq!(segments(&"a".repeat(PATH_BYTES_MAX + 1)), Err(PathError::TooLong));
    }

    #[test]
    fn wrong_patterns_are_refused() {
        for pattern in ["no/slash", "/a{b}", "/{*rest}/more", "/F(A='fixed')"] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn an_example_fits_its_pattern() {
        for pattern in ["/a/{b}", "/N(A='{a}',B='{b}')/C", "/x/{*rest}", "/Reports()"] {
            let pattern = Pattern::parse(pattern).expect("a pattern");
            let path = segments(&pattern.example()).expect("a path");
            assert!(pattern.matches(&path).is_some(), "{}", pattern.example());
        }
    }

    proptest! {
        #[test]
        fn any_path_is_read_or_refused(path in "\\PC{0,200}") {
            let pattern = Pattern::parse("/N(A='{a}',B='{b}')/{c}/{*rest}").expect("a pattern");
            if let Ok(path) = segments(&path) {
                let _ = pattern.matches(&path);
            }
        }

        #[test]
        fn an_argument_comes_back_as_it_was(value in "[^\u{0}-\u{1f}\u{7f}-\u{9f}]{1,40}") {
            use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
            let encoded = utf8_percent_encode(&value.replace('\'', "''"), NON_ALPHANUMERIC)
                .to_string();
            let found = captures("/N(A='{a}')", &format!("/N(A='{encoded}')"));
            prop_assert_eq!(found, Some(vec![("a".to_owned(), value)]));
        }
    }
}
