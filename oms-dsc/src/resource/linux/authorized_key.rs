//! Keys with which a user may log in over SSH: `nxSshAuthorizedKeys`.
//!
//! A key is known by its comment: the line of that comment in `~/.ssh/authorized_keys` becomes the key,
//! or goes. A user owns that folder, so it is walked with the user's home as the boundary: a link that
//! leads out of it is refused.

use super::accounts::{Account, Names};
use super::property::{Ensure, Properties};
use super::tree::{Attributes, Root, rooted};
use super::{Difference, Resource, SetReport};
use crate::Error;
use crate::configuration::ResourceInstance;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::FileType;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

const CLASSES: [&str; 2] = ["MSFT_nxSshAuthorizedKeysResource", "MSFT_nxSshAuthorizedKeys"];

const KNOWN: [&str; 4] = ["KeyComment", "Username", "Ensure", "Key"];

/// The largest file of keys, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

rooted! {
    /// Keys of users.
    pub struct SshAuthorizedKeysResource;

    /// The users of this system.
    everywhere;

    /// The users of the system whose files are below `root`.
    within;
}

#[async_trait]
impl Resource for SshAuthorizedKeysResource {
    fn classes(&self) -> &[&str] {
        &CLASSES
    }

    async fn get(&self, instance: &ResourceInstance) -> Result<BTreeMap<String, Value>, Error> {
        self.root
            .with(Desired::of(instance)?, |root, desired| {
                let found = Keys::of(root, desired)?.found(&desired.comment);
                let ensure = if found.is_some() { "present" } else { "absent" };
                Ok(BTreeMap::from([
                    ("KeyComment".to_owned(), json!(desired.comment)),
                    ("Username".to_owned(), json!(desired.user)),
                    ("Ensure".to_owned(), json!(ensure)),
                    ("Key".to_owned(), json!(found)),
                ]))
            })
            .await
    }

    async fn test(&self, instance: &ResourceInstance) -> Result<Vec<Difference>, Error> {
        self.root
            .with(Desired::of(instance)?, |root, desired| {
                Ok(Keys::of(root, desired)?.differences(desired))
            })
            .await
    }

    async fn set(&self, instance: &ResourceInstance) -> Result<SetReport, Error> {
        self.root
            .with(Desired::of(instance)?, |root, desired| Keys::of(root, desired)?.set(desired))
            .await
            .map(|()| SetReport::default())
    }
}

/// What should be.
#[derive(Clone, Debug)]
struct Desired {
    comment: String,
    user: String,
    ensure: Ensure,
    /// Options, type and body, without a comment.
    key: String,
}

impl Desired {
    fn of(instance: &ResourceInstance) -> Result<Self, Error> {
        let read = Properties::new(instance, "SshAuthorizedKeys resource", &KNOWN)?;
        let comment = read.needed("KeyComment")?.trim();
        if comment.is_empty() || comment.contains(char::is_control) {
            return Err(read.invalid("KeyComment", "no text of one line"));
        }
        let ensure = read.ensure()?;
        let key = match (ensure, read.filled("Key")?) {
            (Ensure::Absent, None) => String::new(),
            (Ensure::Present, None) => return Err(read.invalid("Key", "missing")),
            (_, Some(key)) => {
                let parsed = Key::parse(key.trim()).filter(|_| !key.trim().contains(['\n', '\r']));
                parsed.ok_or_else(|| read.invalid("Key", "not a public key of one line"))?.text
            }
        };
        let (comment, user) = (comment.to_owned(), read.needed("Username")?.to_owned());
        Ok(Self { comment, user, ensure, key })
    }
}

/// A line of a file of keys.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Key {
    /// Options, type and body.
    text: String,
    comment: String,
}

impl Key {
    /// Reads a line; none if it is a comment or no key.
    fn parse(line: &str) -> Option<Self> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        Self::without_options(line, 0).or_else(|| {
            let end = options_end(line)?;
            let rest = &line[end..];
            Self::without_options(line, end + (rest.len() - rest.trim_start().len()))
        })
    }

    /// The key of a line whose type stands at `start`.
    fn without_options(line: &str, start: usize) -> Option<Self> {
        let mut parts = line[start..].splitn(3, [' ', '\t']);
        let (kind, body) = (parts.next()?, parts.next()?);
        let bytes = STANDARD.decode(body).ok()?;
        // The body says its type once more, behind its length.
        let length = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
        let named = bytes.get(4..4 + usize::try_from(length).ok()?)?;
        if kind.is_empty() || named != kind.as_bytes() {
            return None;
        }
        let comment = parts.next().unwrap_or_default().trim().to_owned();
        Some(Self { text: format!("{}{kind} {body}", &line[..start]), comment })
    }
}

/// Where the options at the start of a line end: at the first blank outside of quotation marks.
fn options_end(line: &str) -> Option<usize> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, c) in line.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ' ' | '\t' if !is_quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// A user's file of keys.
struct Keys {
    account: Account,
    /// The user's home, as the boundary of what is touched.
    home: Root,
    folder: PathBuf,
    text: String,
    /// The modes of folder and file that are not what they should be, with their names.
    open_to_others: Vec<(&'static str, u32)>,
}

impl Keys {
    fn of(root: &Root, desired: &Desired) -> Result<Self, Error> {
        let account = Names::read(root)?.account(&desired.user)?;
        let path = root.system(&account.home);
        let not_found = || Error::NotFound { what: "home", name: path.display().to_string() };
        let (place, _) = root
            .follow(&path)?
            .filter(|(_, found)| found.file_type == FileType::Directory)
            .ok_or_else(not_found)?;
        let home = Root::only(place.path().to_owned())?;
        let folder = place.path().join(".ssh");
        let mut keys =
            Self { account, home, folder, text: String::new(), open_to_others: Vec::new() };
        let Some(place) = keys.home.place(&keys.folder.join("authorized_keys"), false)? else {
            return Ok(keys);
        };
        if let Some(folder) = keys.home.place(&keys.folder, false)?
            && let Some(found) = folder.found()?.filter(|found| found.mode & 0o022 != 0)
        {
            keys.open_to_others.push(("Mode of .ssh", found.mode));
        }
        if let Some(found) = place.found()? {
            keys.text = String::from_utf8_lossy(&place.read(FILE_BYTES_MAX)?).into_owned();
            if found.mode & 0o022 != 0 {
                keys.open_to_others.push(("Mode of authorized_keys", found.mode));
            }
        }
        Ok(keys)
    }

    fn found(&self, comment: &str) -> Option<String> {
        let mut keys = self.text.lines().filter_map(Key::parse);
        keys.find(|key| key.comment == comment).map(|key| key.text)
    }

    fn differences(&self, desired: &Desired) -> Vec<Difference> {
        let mut differences = Vec::new();
        if self.text != self.wanted(desired) {
            let found = self.found(&desired.comment);
            let shown = |key: Option<String>| key.unwrap_or_else(|| "absent".to_owned());
            let wanted = match desired.ensure {
                Ensure::Present => desired.key.clone(),
                Ensure::Absent => "absent".to_owned(),
            };
            differences.push(Difference::new("Key", shown(found), wanted));
        }
        // The server for SSH ignores keys in what others may write to.
        if desired.ensure == Ensure::Present {
            for (property, mode) in &self.open_to_others {
                let (found, wanted) = (format!("{mode:04o}"), format!("{:04o}", mode & !0o022));
                differences.push(Difference::new(*property, found, wanted));
            }
        }
        differences
    }

    /// The file as it should be: one line of the comment, where the first one was or at the end.
    fn wanted(&self, desired: &Desired) -> String {
        let mut line = (desired.ensure == Ensure::Present)
            .then(|| format!("{} {}\n", desired.key, desired.comment));
        let mut text = String::with_capacity(self.text.len());
        for found in self.text.split_inclusive('\n') {
            match Key::parse(found) {
                Some(key) if key.comment == desired.comment => {
                    // A line that says the same stays as it is.
                    let is_same = key.text == desired.key && line.is_some();
                    match line.take() {
                        Some(_) if is_same => text.push_str(found),
                        Some(line) => text.push_str(&line),
                        None => {}
                    }
                }
                _ => text.push_str(found),
            }
        }
        if let Some(line) = line {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(&line);
        }
        text
    }

    fn set(&self, desired: &Desired) -> Result<(), Error> {
        if self.differences(desired).is_empty() {
            return Ok(());
        }
        let missing =
            || Error::NotFound { what: "folder", name: self.folder.display().to_string() };
        let folder = self.home.place(&self.folder, false)?.ok_or_else(missing)?;
        let owner = Attributes {
            user: Some(self.account.id),
            group: Some(self.account.group),
            ..Attributes::default()
        };
        match folder.found()? {
            None => {
                folder.make_directory()?;
                folder.set_attributes(Attributes { mode: Some(0o700), ..owner })?;
            }
            Some(found) if found.mode & 0o022 != 0 => {
                folder.set_attributes(Attributes {
                    mode: Some(found.mode & !0o022),
                    ..Attributes::default()
                })?;
            }
            Some(_) => {}
        }
        let path = self.folder.join("authorized_keys");
        let place = self.home.place(&path, false)?.ok_or_else(missing)?;
        let found = place.found()?;
        let mode = found.as_ref().map_or(0o600, |found| found.mode & !0o022);
        place.write(
            self.wanted(desired).as_bytes(),
            Attributes { mode: Some(mode), ..owner },
            found.as_ref(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn body(kind: &str, seed: u8) -> String {
        let mut bytes = u32::try_from(kind.len()).expect("short").to_be_bytes().to_vec();
        bytes.extend_from_slice(kind.as_bytes());
        bytes.extend([seed; 32]);
        STANDARD.encode(bytes)
    }

    #[test]
    fn lines_are_read_with_and_without_options_and_comment() {
        let body = body("ssh-ed25519", 1);
        let check = |line: &str, expect: Option<(&str, &str)>| {
            let found = Key::parse(line);
            let found = found.as_ref().map(|key| (key.text.as_str(), key.comment.as_str()));
            assert_eq!(found, expect, "{line}");
        };
        let plain = format!("ssh-ed25519 {body}");
        check(&plain, Some((&plain, "")));
        check(&format!("{plain} jo at home\n"), Some((&plain, "jo at home")));
        let options = format!("from=\"a b,\\\"c\",no-pty {plain}");
        check(&format!("{options} x"), Some((&options, "x")));
        check(&format!("ssh-rsa {body} x"), None);
        for line in ["", "# x", "ssh-ed25519", "ssh-ed25519 ???", "x y z", "\"", "ssh-rsa AAAA x"] {
            check(line, None);
        }
    }

    proptest! {
        /// Any line is read or is none, and what is read is read again.
        #[test]
        fn any_line_is_looked_at(line in "\\PC{0,80}") {
            if let Some(key) = Key::parse(&line) {
                let again = Key::parse(&format!("{} {}", key.text, key.comment));
                prop_assert_eq!(again, Some(key));
            }
        }
    }
}
