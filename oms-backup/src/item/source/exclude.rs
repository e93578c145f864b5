//! Patterns of what is left out, with the meaning that they have for restic's `--exclude`.
//!
//! A pattern is compared with the whole path of a file or folder, name by name. Without a `/` at its
//! beginning it may begin at any name of the path; it need not reach to the path's end. In a name `*`
//! stands for any characters, `?` for one, `[a-z]` for one of a set, `[^a-z]` for one that is not, and
//! `\` takes the meaning of the next one away. The name `**` stands for any number of names. After `!`
//! a pattern takes back what those before it leave out; what is in a folder that is left out stays out.

use crate::error::Error;
use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::Path;

/// The most bytes a pattern may have.
pub const EXCLUDE_BYTES_MAX: usize = 4096;

/// The most patterns of one backup.
pub const EXCLUDES_MAX: usize = 10_000;

/// Patterns that were understood, in the order in which they take effect.
#[derive(Clone, Debug, Default)]
pub struct Excludes {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    takes_back: bool,
    names: Vec<Part>,
}

/// What one name of a path is compared with.
#[derive(Clone, Debug)]
enum Part {
    /// Any number of names.
    Names,
    Name(Vec<Token>),
}

#[derive(Clone, Debug)]
enum Token {
    Characters,
    Character,
    This(char),
    OneOf { is_not: bool, ranges: Vec<(char, char)> },
}

impl Excludes {
    /// Understands patterns. Empty ones say nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] for one that is none, [`Error::TooLarge`].
    pub fn parse(patterns: &[String]) -> Result<Self, Error> {
        if patterns.len() > EXCLUDES_MAX {
            let (actual, limit) = (patterns.len() as u64, EXCLUDES_MAX as u64);
            return Err(Error::TooLarge { what: "number of exclude patterns", actual, limit });
        }
        let given = patterns.iter().filter(|pattern| !pattern.is_empty());
        Ok(Self { patterns: given.map(|text| Pattern::parse(text)).collect::<Result<_, _>>()? })
    }

    /// Whether a file or folder is left out, by its path from the root.
    #[must_use]
    pub fn leave_out(&self, path: &Path) -> bool {
        if self.patterns.is_empty() {
            return false;
        }
        let names: Vec<Vec<char>> = path
            .components()
            .filter_map(|component| match component {
                std::path::Component::Normal(name) => Some(characters(name)),
                _ => None,
            })
            .collect();
        self.patterns.iter().fold(false, |is_out, pattern| match pattern.takes_back {
            true => is_out && !pattern.fits(&names),
            false => is_out || pattern.fits(&names),
        })
    }
}

/// The characters of a name; bytes that are none count as one each.
fn characters(name: &OsStr) -> Vec<char> {
    let mut found = Vec::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        found.extend(chunk.valid().chars());
        found.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    found
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, Error> {
        let refuse = |reason| {
            let value = text.chars().take(200).collect();
            Err(Error::Invalid { what: "exclude pattern", value, reason })
        };
        if text.len() > EXCLUDE_BYTES_MAX {
            return refuse("longer than 4096 bytes");
        }
        let (takes_back, path) = match text.strip_prefix('!') {
            Some("") => return refuse("nothing follows the `!`"),
            Some(path) => (true, path),
            None => (false, text),
        };
        let is_whole = path.starts_with('/');
        let mut names = if is_whole { Vec::new() } else { vec![Part::Names] };
        for name in clean(path, is_whole) {
            if name != "**" {
                match tokens(name) {
                    Ok(tokens) => names.push(Part::Name(tokens)),
                    Err(reason) => return refuse(reason),
                }
            } else if !matches!(names.last(), Some(Part::Names)) {
                names.push(Part::Names);
            }
        }
        Ok(Self { takes_back, names })
    }

    /// Whether it fits the beginning of a path: what follows is inside of what it fits. Of a `**` only
    /// the last one is tried further, so that no pattern takes long.
    fn fits(&self, path: &[Vec<char>]) -> bool {
        let (mut part, mut at, mut again) = (0, 0, None);
        loop {
            match self.names.get(part) {
                None => return true,
                Some(Part::Names) => {
                    again = Some((part + 1, at));
                    part += 1;
                }
                Some(Part::Name(tokens)) if path.get(at).is_some_and(|name| fits(tokens, name)) => {
                    (part, at) = (part + 1, at + 1);
                }
                Some(Part::Name(_)) => match again {
                    Some((next, from)) if from < path.len() => {
                        again = Some((next, from + 1));
                        (part, at) = (next, from + 1);
                    }
                    _ => return false,
                },
            }
        }
    }
}

/// The names of a path with `.`, `..` and empty ones taken out as text.
fn clean(path: &str, is_whole: bool) -> Vec<&str> {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." if names.last().is_some_and(|last| *last != "..") => {
                names.pop();
            }
            ".." if is_whole => {}
            name => names.push(name),
        }
    }
    if names.is_empty() && !is_whole {
        // The folder itself, which is the name of nothing.
        names.push(".");
    }
    names
}

fn tokens(name: &str) -> Result<Vec<Token>, &'static str> {
    let mut tokens = Vec::new();
    let mut rest = name.chars().peekable();
    while let Some(next) = rest.next() {
        tokens.push(match next {
            '*' => Token::Characters,
            '?' => Token::Character,
            '\\' => Token::This(rest.next().ok_or("nothing follows its `\\`")?),
            '[' => {
                let is_not = rest.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                while ranges.is_empty() || rest.next_if_eq(&']').is_none() {
                    let low = end_of_range(&mut rest)?;
                    let high = match rest.next_if_eq(&'-') {
                        Some(_) => end_of_range(&mut rest)?,
                        None => low,
                    };
                    ranges.push((low, high));
                }
                Token::OneOf { is_not, ranges }
            }
            other => Token::This(other),
        });
    }
    Ok(tokens)
}

fn end_of_range(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<char, &'static str> {
    match rest.next() {
        Some('\\') => rest.next().ok_or("nothing follows its `\\`"),
        Some('-' | ']') => Err("`-` or `]` in a set is not written with `\\`, or the set is empty"),
        Some(other) => Ok(other),
        None => Err("a set has no `]`"),
    }
}

/// Whether a name fits. Of a `*` only the last one is tried further.
fn fits(tokens: &[Token], name: &[char]) -> bool {
    let (mut token, mut at, mut again) = (0, 0, None);
    loop {
        let is_fit = match (tokens.get(token), name.get(at)) {
            (None, None) => return true,
            (Some(Token::Characters), _) => {
                again = Some((token + 1, at));
                token += 1;
                continue;
            }
            (Some(Token::Character), Some(_)) => true,
            (Some(Token::This(wanted)), Some(found)) => wanted == found,
            (Some(Token::OneOf { is_not, ranges }), Some(found)) => {
                ranges.iter().any(|(low, high)| (low..=high).contains(&found)) != *is_not
            }
            _ => false,
        };
        match again {
            _ if is_fit => (token, at) = (token + 1, at + 1),
            Some((next, from)) if from < name.len() => {
                again = Some((next, from + 1));
                (token, at) = (next, from + 1);
            }
            _ => return false,
        }
    }
}

/// The patterns of a file, one a line, as restic's `--exclude-file` has them: without the spaces around
/// them, without empty lines and those that begin with `#`, and with `$NAME` and `${NAME}` replaced by
/// what `variable` says, `$$` by `$`. The file is UTF-8, or UTF-16 if a byte order mark at its beginning
/// says so.
///
/// # Errors
/// [`Error::Invalid`] for a file in another encoding, with the line that shows it.
pub fn exclude_file_patterns(
    bytes: &[u8],
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, Error> {
    let text = decode(bytes)?;
    let lines = text.lines().map(str::trim);
    let patterns = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(patterns.map(|pattern| expand(pattern, &variable)).collect())
}

/// The text of a file, without its byte order mark.
fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, Error> {
    const WHAT: &str = "exclude file";
    let utf_16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes.as_chunks::<2>();
        let text = char::decode_utf16(pairs.iter().map(|pair| unit(*pair)));
        let text = text.collect::<Result<String, _>>().ok().filter(|_| rest.is_empty());
        let reason = "is not UTF-16, as its byte order mark says";
        text.map(Cow::Owned).ok_or(Error::Invalid { what: WHAT, value: String::new(), reason })
    };
    let bytes = match bytes {
        [0xff, 0xfe, rest @ ..] => return utf_16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => return utf_16(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => rest,
        bytes => bytes,
    };
    let refuse = |at: usize, reason| {
        let number = bytes[..at].iter().filter(|byte| **byte == b'\n').count();
        let line = bytes.split(|byte| *byte == b'\n').nth(number).unwrap_or_default();
        let line = &line[..line.len().min(200)];
        let value = format!("line {}: {}", number + 1, line.escape_ascii());
        Error::Invalid { what: WHAT, value, reason }
    };
    match std::str::from_utf8(bytes) {
        Err(error) => Err(refuse(error.valid_up_to(), "is not UTF-8")),
        // No name has that character, so no pattern with it would fit anything.
        Ok(text) => match text.find('\0') {
            Some(at) => Err(refuse(at, "is not UTF-8, perhaps UTF-16 without a byte order mark")),
            None => Ok(Cow::Borrowed(text)),
        },
    }
}

fn expand(pattern: &str, variable: &impl Fn(&str) -> Option<String>) -> String {
    let (mut text, mut rest) = (String::new(), pattern);
    while let Some((before, after)) = rest.split_once('$') {
        text.push_str(before);
        let is_word = |c: char| c == '_' || c.is_ascii_alphanumeric();
        let word = after.find(|c| !is_word(c)).unwrap_or(after.len());
        let (name, next) = match after.strip_prefix('{').and_then(|it| it.split_once('}')) {
            Some(braced) => braced,
            None if after.starts_with('$') => ("$", &after[1..]),
            None => after.split_at(word),
        };
        match name {
            "" | "$" => text.push('$'),
            name => text.push_str(&variable(name).unwrap_or_default()),
        }
        rest = next;
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaves_out(patterns: &[&str], path: &str) -> bool {
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        Excludes::parse(&patterns).expect("patterns").leave_out(Path::new(path))
    }

    /// Rows of restic's own description of its patterns, and of how it goes by them.
    #[test]
    fn patterns_mean_what_they_mean_to_restic() {
        for (pattern, path, is_out) in [
            ("*.c", "/home/user/foo.c", true),
            ("*.c", "/home/user/foo.cc", false),
            ("*.c", "/home/a.c/foo", true),
            ("foo", "/a/foo/b", true),
            ("foo", "/a/foobar", false),
            ("/foo", "/a/foo", false),
            ("/a", "/a/foo", true),
            ("/bin/", "/bin/bash", true),
            ("foo/", "/a/foo", true),
            ("foo/bar", "/x/foo/bar/y", true),
            ("foo/bar", "/x/foo/z/bar", false),
            ("foo/**/bar", "/x/foo/z/y/bar", true),
            ("foo/**/bar", "/x/foo/bar", true),
            ("foo/**", "/x/foo", true),
            ("/home/**/cache", "/home/a/b/cache/c", true),
            ("/home/**/cache", "/srv/cache", false),
            ("**/a/**/b/**/c", "/a/x/b/x/b/c", true),
            ("/*/user", "/home/user/a", true),
            ("/*/user", "/home/x/user", false),
            ("a?c", "/abc", true),
            ("a?c", "/ac", false),
            ("[a-cx]1", "/x1", true),
            ("[^a-c]1", "/b1", false),
            ("[^a-c]1", "/d1", true),
            (r"\*", "/*", true),
            (r"\*", "/a", false),
            (r"[\]]", "/]", true),
            ("./foo//bar/../baz", "/foo/baz", true),
            (".", "/foo", false),
            ("/", "/foo", true),
            ("*", "/foo", true),
            ("**", "/foo", true),
            ("??", "/日本", true),
        ] {
            assert_eq!(leaves_out(&[pattern], path), is_out, "{pattern} on {path}");
        }
        let home = ["/home/u/*", "!/home/u/Documents", "/home/u/Documents/*.tmp"];
        assert!(leaves_out(&home, "/home/u/Music"));
        assert!(!leaves_out(&home, "/home/u/Documents"));
        assert!(leaves_out(&home, "/home/u/Documents/a.tmp"));
        assert!(!leaves_out(&["", "!x"], "/x"));
    }

    #[test]
    fn a_pattern_that_is_none_is_refused_by_name() {
        for pattern in ["[", "[a", "[]a]", "a\\", "[a-]", "!", "[\\", "[a-\\"] {
            let error = Excludes::parse(&[pattern.to_owned()]).expect_err(pattern).to_string();
            assert!(error.contains("exclude pattern") && error.contains(pattern), "{error}");
        }
        let long = "x".repeat(EXCLUDE_BYTES_MAX + 1);
        assert!(Excludes::parse(&[long]).is_err());
        assert!(Excludes::parse(&vec!["a".to_owned(); EXCLUDES_MAX + 1]).is_err());
    }

    #[test]
    fn a_file_of_patterns_is_read_as_restic_reads_it() {
        let text = "# comment\n\n  *.tmp  \r\n$HOME/x\n${HOME}y\n$$a\n$NO/z\n5$\n";
        let variable = |name: &str| (name == "HOME").then(|| "/home/u".to_owned());
        let wanted = ["*.tmp", "/home/u/x", "/home/uy", "$a", "/z", "5$"];
        let marked: Vec<u16> = "\u{feff}".encode_utf16().chain(text.encode_utf16()).collect();
        for bytes in [
            text.as_bytes().to_vec(),
            format!("\u{feff}{text}").into_bytes(),
            marked.iter().flat_map(|unit| unit.to_le_bytes()).collect(),
            marked.iter().flat_map(|unit| unit.to_be_bytes()).collect(),
        ] {
            assert_eq!(exclude_file_patterns(&bytes, variable).expect("patterns"), wanted);
        }
        // The first line is a pattern like any other.
        let first = exclude_file_patterns("\u{feff}*.tmp\n".as_bytes(), variable);
        assert_eq!(first.expect("patterns"), ["*.tmp"]);
    }

    #[test]
    fn a_file_of_patterns_in_another_encoding_is_refused_with_its_line() {
        for (bytes, told) in [
            (&b"*.tmp\ncaf\xe9\n*.o"[..], &["line 2: caf\\xe9", "is not UTF-8"][..]),
            (b"a\n*\0.\0o\0\n\0", &["line 2: *\\x00", "UTF-16 without a byte order mark"]),
            (b"\xff\xfea\0b", &["not UTF-16"]),
            (b"\xfe\xff\xd8\x00", &["not UTF-16"]),
        ] {
            let error = exclude_file_patterns(bytes, |_| None).expect_err("refused").to_string();
            assert!(error.starts_with("exclude file"), "{error}");
            assert!(told.iter().all(|it| error.contains(it)), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_file_of_patterns_is_read_or_refused(
            mark in prop::sample::select(vec![&b""[..], b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf"]),
            bytes: Vec<u8>,
        ) {
            let _ = exclude_file_patterns(&[mark, &bytes].concat(), |_| None);
        }

        #[test]
        fn any_pattern_is_understood_or_refused(pattern: String, path in "(/[a-c*.]{0,3}){0,8}") {
            if let Ok(excludes) = Excludes::parse(&[pattern]) {
                let _ = excludes.leave_out(Path::new(&path));
            }
        }

        /// The short way to match comes to what trying everything comes to.
        #[test]
        fn matching_is_what_trying_everything_says(
            pattern in "[ab*?]{0,5}", name in "[ab]{0,6}",
            parts in prop::collection::vec("a|b|\\*\\*|\\*", 0..5),
            path in prop::collection::vec("a|b|c", 0..6),
        ) {
            fn slow(pattern: &[char], name: &[char]) -> bool {
                match pattern.split_first() {
                    None => name.is_empty(),
                    Some(('*', rest)) => (0..=name.len()).any(|at| slow(rest, &name[at..])),
                    Some((one, rest)) => name
                        .split_first()
                        .is_some_and(|(first, more)| (*one == '?' || one == first) && slow(rest, more)),
                }
            }
            let (wanted, found): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
            prop_assert_eq!(fits(&tokens(&pattern).expect("tokens"), &found), slow(&wanted, &found));

            fn slow_path(parts: &[String], path: &[String]) -> bool {
                match parts.split_first() {
                    None => true,
                    Some((part, rest)) if part == "**" => {
                        (0..=path.len()).any(|at| slow_path(rest, &path[at..]))
                    }
                    Some((part, rest)) => path
                        .split_first()
                        .is_some_and(|(first, more)| (part == "*" || part == first) && slow_path(rest, more)),
                }
            }
            let whole = format!("/{}", parts.join("/"));
            let place = format!("/{}", path.join("/"));
            prop_assert_eq!(leaves_out(&[&whole], &place), slow_path(&parts, &path));
        }
    }
}
