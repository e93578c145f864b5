//! The sources of the workspace, for tests that look at them.

mod token;

pub(crate) use self::token::{Token, tokens};
use std::path::{Path, PathBuf};

/// What stands beside this crate in the repository.
const BESIDE: [&str; 6] =
    ["oms-logs", "oms-automation", "oms-dsc", "oms-backup", "oms-recovery", "examples"];

/// Every source file.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// Each file and its text.
    pub(crate) files: Vec<(PathBuf, String)>,
    /// Whether the other crates are there: not where this one was got by itself.
    pub(crate) is_whole: bool,
}

impl Workspace {
    pub(crate) fn read() -> Self {
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        let beside = BESIDE.map(|name| own.join("..").join(name).join("src"));
        let is_whole = beside.iter().all(|path| path.is_dir());
        let mut files = Vec::new();
        for folder in beside.iter().chain([&own.join("src")]).filter(|path| path.is_dir()) {
            read_folder(folder, &mut files);
        }
        Self { files, is_whole }
    }
}

fn read_folder(folder: &Path, files: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read_folder(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            files.push((path, text));
        }
    }
}

/// What is within the brackets that open at `at`, and where they close.
pub(crate) fn group(tokens: &[Token], at: usize) -> (&[Token], usize) {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token {
            Token::Mark('(' | '[' | '{') => depth += 1,
            Token::Mark(')' | ']' | '}') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (&tokens[at + 1..index.max(at + 1)], index);
        }
    }
    (&tokens[(at + 1).min(tokens.len())..], tokens.len())
}

/// Splits at the commas that are in no brackets.
pub(crate) fn parts(tokens: &[Token]) -> Vec<&[Token]> {
    let (mut parts, mut depth, mut begin) = (Vec::new(), 0_i32, 0);
    for (index, token) in tokens.iter().enumerate() {
        let is_arrow = index > 0 && ["-", "="].iter().any(|mark| tokens[index - 1].is(mark));
        match token {
            Token::Mark('(' | '[' | '{' | '<') => depth += 1,
            Token::Mark('>') if is_arrow => {}
            Token::Mark(')' | ']' | '}' | '>') => depth -= 1,
            Token::Mark(',') if depth == 0 => {
                parts.push(&tokens[begin..index]);
                begin = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&tokens[begin..]);
    parts.retain(|part| !part.is_empty());
    parts
}
