//! Environment variables of every session: `Environment` of Windows and `nxEnvironment`, kept in
//! `/etc/environment`.
//!
//! With `Path` a variable is a list that colons separate: items are added to it and taken out of it, and
//! the others stay.

use super::property::{Ensure, Properties};
use super::tree::{Attributes, Root, rooted};
use super::{Difference, Resource, SetReport};
use crate::Error;
use crate::configuration::ResourceInstance;
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const CLASSES: [&str; 3] =
    ["MSFT_EnvironmentResource", "MSFT_nxEnvironmentResource", "MSFT_nxEnvironment"];

const KNOWN: [&str; 5] = ["Name", "Value", "Ensure", "Path", "Target"];

const FILE: &str = "/etc/environment";

rooted! {
    /// Environment variables of a system.
    pub struct EnvironmentResource;

    /// The variables of this system.
    everywhere;

    /// The variables of the system whose files are below `root`.
    within;
}

#[async_trait]
impl Resource for EnvironmentResource {
    fn classes(&self) -> &[&str] {
        &CLASSES
    }

    async fn get(&self, instance: &ResourceInstance) -> Result<BTreeMap<String, Value>, Error> {
        self.root
            .with(Desired::of(instance)?, |root, desired| {
                let text = root.read_system(FILE)?.unwrap_or_default();
                let found = found(&text, &desired.name);
                let ensure = if found.is_some() { "present" } else { "absent" };
                Ok(BTreeMap::from([
                    ("Name".to_owned(), json!(desired.name)),
                    ("Ensure".to_owned(), json!(ensure)),
                    ("Value".to_owned(), json!(found)),
                ]))
            })
            .await
    }

    async fn test(&self, instance: &ResourceInstance) -> Result<Vec<Difference>, Error> {
        self.root
            .with(Desired::of(instance)?, |root, desired| {
                let text = root.read_system(FILE)?.unwrap_or_default();
                Ok(desired.differences(found(&text, &desired.name)))
            })
            .await
    }

    async fn set(&self, instance: &ResourceInstance) -> Result<SetReport, Error> {
        self.root.with(Desired::of(instance)?, set).await.map(|()| SetReport::default())
    }
}

fn set(root: &Root, desired: &Desired) -> Result<(), Error> {
    let path = root.system(FILE);
    let missing = || Error::NotFound { what: "folder of", name: path.display().to_string() };
    let place = root.place(&path, false)?.ok_or_else(missing)?;
    let replaced = place.found()?;
    let text = root.read_system(FILE)?.unwrap_or_default();
    let found = found(&text, &desired.name);
    if desired.differences(found.clone()).is_empty() {
        return Ok(());
    }
    let wanted = desired.wanted(found.as_deref());
    let text = with(&text, &desired.name, wanted.as_deref());
    place.write(&text, Attributes::default(), replaced.as_ref())
}

/// What should be.
#[derive(Clone, Debug)]
struct Desired {
    name: String,
    value: Option<String>,
    ensure: Ensure,
    is_list: bool,
}

impl Desired {
    fn of(instance: &ResourceInstance) -> Result<Self, Error> {
        let read = Properties::new(instance, "Environment resource", &KNOWN)?;
        let name = read.needed("Name")?;
        let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
        let is_next = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !(name.starts_with(is_first) && name.chars().all(is_next)) {
            return Err(read.invalid("Name", &format!("`{name}` is not the name of a variable")));
        }
        let value = read.filled("Value")?;
        // What the file cannot say is not said in another way.
        if value.is_some_and(|value| value.contains(['\n', '\r', '"', '#', '\0'])) {
            return Err(read.invalid("Value", "a quotation mark, `#` or a line break"));
        }
        for target in read.texts("Target")?.unwrap_or_default() {
            if !target.eq_ignore_ascii_case("Machine") {
                return Err(read.unsupported(&format!("Target `{target}`")));
            }
        }
        let (ensure, is_list) = (read.ensure()?, read.flag("Path")?.unwrap_or(false));
        if value.is_none() && (ensure == Ensure::Present || is_list) {
            return Err(read.invalid("Value", "missing"));
        }
        Ok(Self { name: name.to_owned(), value: value.map(str::to_owned), ensure, is_list })
    }

    /// The value that the variable should have; none if it should not be there.
    fn wanted(&self, found: Option<&str>) -> Option<String> {
        let value = self.value.as_deref().unwrap_or_default();
        if !self.is_list {
            return (self.ensure == Ensure::Present).then(|| value.to_owned());
        }
        let mut items: Vec<&str> = items(found.unwrap_or_default());
        for item in self::items(value) {
            match self.ensure {
                Ensure::Present if !items.contains(&item) => items.push(item),
                Ensure::Present => {}
                Ensure::Absent => items.retain(|found| *found != item),
            }
        }
        (!items.is_empty()).then(|| items.join(":"))
    }

    fn differences(&self, found: Option<String>) -> Vec<Difference> {
        let is_there = |item: &str| items(found.as_deref().unwrap_or_default()).contains(&item);
        let differs = match (self.is_list, self.ensure) {
            (false, _) => self.wanted(found.as_deref()) != found,
            (true, Ensure::Present) => {
                !items(self.value.as_deref().unwrap_or_default()).into_iter().all(is_there)
            }
            (true, Ensure::Absent) => {
                items(self.value.as_deref().unwrap_or_default()).into_iter().any(is_there)
            }
        };
        if !differs {
            return Vec::new();
        }
        let shown = |value: Option<String>| value.unwrap_or_else(|| "absent".to_owned());
        let wanted = self.wanted(found.as_deref());
        vec![Difference::new("Value", shown(found), shown(wanted))]
    }
}

fn items(list: &str) -> Vec<&str> {
    list.split(':').filter(|item| !item.is_empty()).collect()
}

/// The name and value of a line; none for comments and the like.
fn assignment(line: &[u8]) -> Option<(&str, &str)> {
    let line = std::str::from_utf8(line).ok()?.trim();
    let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
    let (name, value) = line.split_once('=').filter(|_| !line.starts_with('#'))?;
    let value = value.trim();
    let unquoted = [b'"', b'\''].into_iter().find_map(|quote| {
        let quote = char::from(quote);
        value.strip_prefix(quote)?.strip_suffix(quote)
    });
    Some((name.trim_end(), unquoted.unwrap_or(value)))
}

/// The value of a variable; the last line that gives it one counts.
fn found(text: &[u8], name: &str) -> Option<String> {
    let mut lines = text.rsplit(|byte| *byte == b'\n').filter_map(assignment);
    lines.find(|(found, _)| *found == name).map(|(_, value)| value.to_owned())
}

/// The text with that value in one line, where the first one was or at the end, and no other.
fn with(text: &[u8], name: &str, value: Option<&str>) -> Vec<u8> {
    let mut line = value.map(|value| format!("{name}=\"{value}\"\n"));
    let mut result = Vec::with_capacity(text.len());
    for found in text.split_inclusive(|byte| *byte == b'\n') {
        match assignment(found).filter(|(found, _)| *found == name) {
            Some(_) => result.extend(line.take().unwrap_or_default().into_bytes()),
            None => result.extend_from_slice(found),
        }
    }
    if let Some(line) = line {
        if !result.is_empty() && !result.ends_with(b"\n") {
            result.push(b'\n');
        }
        result.extend(line.into_bytes());
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_read_as_sessions_read_them() {
        let text = b"# A=0\nexport A='1 2'\nB = \"x\"\nA=3\nC";
        assert_eq!(found(text, "A").as_deref(), Some("3"));
        assert_eq!(found(text, "B").as_deref(), Some("x"));
        assert_eq!(found(text, "C"), None);
        assert_eq!(with(text, "A", Some("9")), b"# A=0\nA=\"9\"\nB = \"x\"\nC");
        assert_eq!(
            with(text, "D", Some("9")),
            b"# A=0\nexport A='1 2'\nB = \"x\"\nA=3\nC\nD=\"9\"\n"
        );
        assert_eq!(with(text, "A", None), b"# A=0\nB = \"x\"\nC");
    }

    proptest! {
        /// What was wanted is there after it was written, other variables are as they were, and there
        /// is nothing more to do.
        #[test]
        fn a_wish_is_granted_once(
            text in "((A|B|#A|export A)=[\"']?[ab:]{0,4}[\"']?\n){0,6}",
            value in "[ab]{1,2}(:[ab]{1,2}){0,2}",
            is_list: bool,
            is_present: bool,
        ) {
            let ensure = if is_present { Ensure::Present } else { Ensure::Absent };
            let wish = Desired { name: "A".into(), value: Some(value), ensure, is_list };
            let before = found(text.as_bytes(), "A");
            let wanted = wish.wanted(before.as_deref());
            let after = with(text.as_bytes(), "A", wanted.as_deref());
            prop_assert_eq!(found(&after, "A"), wanted);
            prop_assert_eq!(wish.differences(found(&after, "A")), Vec::new());
            prop_assert_eq!(found(&after, "B"), found(text.as_bytes(), "B"));
        }
    }
}
