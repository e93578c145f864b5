//! One line of a file: `nxFileLine`.
//!
//! `ContainsLine` is added at the end where it is missing; lines that `DoesNotContainPattern` matches go,
//! except for that line itself, so that the two together change a setting. Everything else stays byte for
//! byte. A file that is not there is one without lines.

use super::property::Properties;
use super::tree::{Attributes, Place, Root, rooted};
use super::{Difference, Resource, SetReport, diff};
use crate::Error;
use crate::configuration::ResourceInstance;
use async_trait::async_trait;
use regex::bytes::{Regex, RegexBuilder};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

const CLASSES: [&str; 2] = ["MSFT_nxFileLineResource", "MSFT_nxFileLine"];

const KNOWN: [&str; 3] = ["FilePath", "ContainsLine", "DoesNotContainPattern"];

/// The largest file whose lines are looked at, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// The largest compiled pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

rooted! {
    /// Lines of files.
    pub struct FileLineResource;

    /// A resource that may change any file that the process may.
    everywhere;

    /// A resource that refuses every path outside of `root`, which must exist.
    within;
}

#[async_trait]
impl Resource for FileLineResource {
    fn classes(&self) -> &[&str] {
        &CLASSES
    }

    async fn get(&self, instance: &ResourceInstance) -> Result<BTreeMap<String, Value>, Error> {
        self.root.with(Desired::of(instance)?, get).await
    }

    async fn test(&self, instance: &ResourceInstance) -> Result<Vec<Difference>, Error> {
        self.root.with(Desired::of(instance)?, test).await
    }

    async fn set(&self, instance: &ResourceInstance) -> Result<SetReport, Error> {
        self.root.with(Desired::of(instance)?, set).await.map(|()| SetReport::default())
    }
}

/// What should be.
#[derive(Clone, Debug)]
struct Desired {
    path: PathBuf,
    line: Option<String>,
    pattern: Option<Regex>,
}

impl Desired {
    fn of(instance: &ResourceInstance) -> Result<Self, Error> {
        let read = Properties::new(instance, "FileLine resource", &KNOWN)?;
        let path = read.needed_path("FilePath")?;
        let line = read.filled("ContainsLine")?;
        if line.is_some_and(|line| line.contains(['\n', '\r'])) {
            return Err(read.invalid("ContainsLine", "more than one line"));
        }
        let pattern = read.filled("DoesNotContainPattern")?.map(|pattern| {
            let compiled = RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build();
            compiled.map_err(|error| read.invalid("DoesNotContainPattern", &error.to_string()))
        });
        let pattern = pattern.transpose()?;
        if line.is_none() && pattern.is_none() {
            return Err(read.invalid("ContainsLine", "missing, and so is DoesNotContainPattern"));
        }
        Ok(Self { path, line: line.map(str::to_owned), pattern })
    }

    fn is_line(&self, line: &[u8]) -> bool {
        self.line.as_ref().is_some_and(|wanted| bare(line) == wanted.as_bytes())
    }

    fn goes(&self, line: &[u8]) -> bool {
        let matches = self.pattern.as_ref().is_some_and(|pattern| pattern.is_match(bare(line)));
        matches && !self.is_line(line)
    }

    /// The text as it should be.
    fn apply(&self, text: &[u8]) -> Vec<u8> {
        let lines = text.split_inclusive(|byte| *byte == b'\n');
        let mut wanted: Vec<u8> = Vec::with_capacity(text.len());
        lines.filter(|line| !self.goes(line)).for_each(|line| wanted.extend_from_slice(line));
        if let Some(line) = &self.line
            && !text.split_inclusive(|byte| *byte == b'\n').any(|line| self.is_line(line))
        {
            if !wanted.is_empty() && !wanted.ends_with(b"\n") {
                wanted.push(b'\n');
            }
            wanted.extend_from_slice(line.as_bytes());
            wanted.push(b'\n');
        }
        wanted
    }
}

/// A line without its break.
fn bare(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn text(place: Option<&Place>) -> Result<Vec<u8>, Error> {
    match place.map(|place| Ok::<_, Error>((place, place.found()?))).transpose()? {
        Some((place, Some(_))) => place.read(FILE_BYTES_MAX),
        _ => Ok(Vec::new()),
    }
}

fn get(root: &Root, desired: &Desired) -> Result<BTreeMap<String, Value>, Error> {
    let text = text(root.place(&desired.path, false)?.as_ref())?;
    let lines = || text.split_inclusive(|byte| *byte == b'\n');
    let matching = lines().filter(|line| desired.goes(line));
    let matching = matching.map(|line| String::from_utf8_lossy(bare(line)).into_owned());
    Ok(BTreeMap::from([
        ("FilePath".to_owned(), json!(desired.path.display().to_string())),
        ("ContainsLine".to_owned(), json!(lines().any(|line| desired.is_line(line)))),
        ("MatchingLines".to_owned(), json!(matching.collect::<Vec<_>>())),
    ]))
}

fn test(root: &Root, desired: &Desired) -> Result<Vec<Difference>, Error> {
    let text = text(root.place(&desired.path, false)?.as_ref())?;
    let lines = || text.split_inclusive(|byte| *byte == b'\n');
    let mut differences = Vec::new();
    if let Some(line) = &desired.line
        && !lines().any(|line| desired.is_line(line))
    {
        differences.push(Difference::new("ContainsLine", "absent", line));
    }
    let matching = lines().filter(|line| desired.goes(line)).count();
    if let (Some(pattern), 1..) = (&desired.pattern, matching) {
        let (found, wanted) = (format!("{matching} lines match"), format!("none of {pattern}"));
        differences.push(Difference::new("DoesNotContainPattern", found, wanted));
    }
    if let Some(first) = differences.first_mut() {
        first.diff = diff::diff(&text, &desired.apply(&text));
    }
    Ok(differences)
}

fn set(root: &Root, desired: &Desired) -> Result<(), Error> {
    let missing =
        || Error::NotFound { what: "folder of", name: desired.path.display().to_string() };
    let place = root.place(&desired.path, false)?.ok_or_else(missing)?;
    let found = place.found()?;
    let text = text(Some(&place))?;
    let wanted = desired.apply(&text);
    if wanted == text {
        return Ok(());
    }
    place.write(&wanted, Attributes::default(), found.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn desired(line: Option<&str>, pattern: Option<&str>) -> Desired {
        let pattern = pattern.map(|pattern| Regex::new(pattern).expect("a pattern"));
        Desired { path: PathBuf::from("/x"), line: line.map(str::to_owned), pattern }
    }

    #[test]
    fn a_setting_is_changed() {
        let wanted = desired(Some("A=1"), Some("^A="));
        let check = |text: &str, expect: &str| {
            assert_eq!(String::from_utf8_lossy(&wanted.apply(text.as_bytes())), expect);
        };
        check("", "A=1\n");
        check("A=2\nB=3", "B=3\nA=1\n");
        check("# A\r\nA=1\r\nA=9\r\n", "# A\r\nA=1\r\n");
        check("A=1", "A=1");
    }

    proptest! {
        /// Once is enough; the line is there, no other line matches, and the rest is as it was.
        #[test]
        fn applying_is_done_once(text in "([abA=1 ]{0,4}\r?\n){0,8}[ab]{0,2}", has_line: bool, has_pattern: bool) {
            let wanted = desired(has_line.then_some("A=1"), has_pattern.then_some("A|b"));
            let once = wanted.apply(text.as_bytes());
            prop_assert_eq!(wanted.apply(&once), once.clone());
            let lines = |text: &[u8]| -> Vec<Vec<u8>> {
                text.split_inclusive(|byte| *byte == b'\n').map(|line| bare(line).to_vec()).collect()
            };
            prop_assert!(lines(&once).iter().all(|line| !wanted.goes(line)));
            prop_assert!(!has_line || lines(&once).contains(&b"A=1".to_vec()));
            let mut kept: Vec<Vec<u8>> =
                lines(text.as_bytes()).into_iter().filter(|line| !wanted.goes(line)).collect();
            if has_line && !kept.contains(&b"A=1".to_vec()) {
                kept.push(b"A=1".to_vec());
            }
            prop_assert_eq!(lines(&once), kept);
        }
    }
}
