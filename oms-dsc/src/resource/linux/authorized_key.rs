//! Keys with which a user may log in over SSH: `nxSshAuthorizedKeys`.
//!
//! A key is known by its comment: the line of that comment in `~/.ssh/authorized_keys` becomes the key,
//! or goes. Every other line stays byte for byte. A user owns that folder, so it is walked with the
//! user's home as the boundary: a link that leads out of it is refused. Folder and file become the
//! user's, and closed to the writing of others, since the server for SSH takes no keys from them else.
//! What root keeps there, and the user can read, stays root's: the server takes keys from it too. A
//! folder of somebody else becomes the user's only if it holds nothing but keys. A home, or a folder
//! between, that others can write in or that is somebody else's is told and refused, and stays as it is;
//! a group of which only the user is may write in it, for Debian's server lets it.

use super::accounts::{Account, Names};
use super::property::{Ensure, Properties};
use super::tree::{Attributes, Found, Place, Root, failed, names_in, rooted};
use super::{Difference, Resource, SetReport};
use crate::Error;
use crate::configuration::ResourceInstance;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, fsync};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

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
                let found = Keys::of(root, desired)?.found(desired).map(|key| shown(&key));
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
    key: Vec<u8>,
}

impl Desired {
    fn of(instance: &ResourceInstance) -> Result<Self, Error> {
        let read = Properties::new(instance, "SshAuthorizedKeys resource", &KNOWN)?;
        let comment = read.needed("KeyComment")?.trim_ascii();
        if comment.is_empty() || comment.contains(char::is_control) {
            return Err(read.invalid("KeyComment", "no text of one line"));
        }
        let ensure = read.ensure()?;
        let key = match (ensure, read.filled("Key")?) {
            (Ensure::Absent, None) => Vec::new(),
            (Ensure::Present, None) => return Err(read.invalid("Key", "missing")),
            (_, Some(key)) => {
                let line = key.trim_ascii();
                let parsed = Key::parse(line.as_bytes()).filter(|_| !line.contains(['\n', '\r']));
                parsed.ok_or_else(|| read.invalid("Key", "not a public key of one line"))?.text
            }
        };
        let (comment, user) = (comment.to_owned(), read.needed("Username")?.to_owned());
        Ok(Self { comment, user, ensure, key })
    }
}

/// A line of a file of keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Key {
    /// Options, type and body, with one blank between them.
    pub(super) text: Vec<u8>,
    pub(super) comment: Vec<u8>,
}

impl Key {
    /// Reads a line; none if it is a comment or no key.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            return None;
        }
        Self::behind(b"", line).or_else(|| {
            let (options, rest) = line.split_at(options_end(line)?);
            Self::behind(options, rest.trim_ascii_start())
        })
    }

    /// The key that begins with its type, behind the options of its line.
    fn behind(options: &[u8], key: &[u8]) -> Option<Self> {
        let (kind, rest) = key.split_at(key.iter().position(|byte| b" \t".contains(byte))?);
        let rest = rest.trim_ascii_start();
        let end = rest.iter().position(|byte| b" \t\r".contains(byte)).unwrap_or(rest.len());
        let (body, comment) = rest.split_at(end);
        let bytes = STANDARD.decode(body).ok()?;
        // The body says its type once more, behind its length.
        let length = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
        let named = bytes.get(4..)?.get(..usize::try_from(length).ok()?)?;
        if kind.is_empty() || named != kind {
            return None;
        }
        let parts = [options, kind, body];
        let text = parts[usize::from(options.is_empty())..].join(&b' ');
        Some(Self { text, comment: comment.trim_ascii().to_vec() })
    }
}

/// Where the options at the start of a line end: at the first blank outside of quotation marks, as the
/// server for SSH reads them. A backslash says something before a quotation mark only.
fn options_end(line: &[u8]) -> Option<usize> {
    let (mut is_quoted, mut at) = (false, 0);
    while let Some(byte) = line.get(at) {
        match byte {
            b'\\' if line.get(at + 1) == Some(&b'"') => at += 1,
            b'"' => is_quoted = !is_quoted,
            b' ' | b'\t' if !is_quoted => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The text of a file of keys as it should be: one line of the comment, where the first one was or at
/// the end; without a key, none. A line that says the same stays as it is.
pub(super) fn with_key(text: &[u8], comment: &[u8], key: Option<&[u8]>) -> Vec<u8> {
    let mut line = key.map(|key| [key, b" ", comment, b"\n"].concat());
    let mut wanted = Vec::with_capacity(text.len());
    for found in text.split_inclusive(|byte| *byte == b'\n') {
        match Key::parse(found).filter(|found| found.comment == comment) {
            None => wanted.extend_from_slice(found),
            Some(parsed) => {
                let is_same = key == Some(&*parsed.text);
                match line.take() {
                    Some(_) if is_same => wanted.extend_from_slice(found),
                    Some(line) => wanted.extend_from_slice(&line),
                    None => {}
                }
            }
        }
    }
    if let Some(line) = line {
        if !wanted.is_empty() && !wanted.ends_with(b"\n") {
            wanted.push(b'\n');
        }
        wanted.extend_from_slice(&line);
    }
    wanted
}

fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// A user's file of keys.
struct Keys {
    account: Account,
    /// The folder of keys and what is there, if it is.
    folder: (Place, Option<Found>),
    /// Whether a link leads to the folder.
    is_linked: bool,
    /// The file of keys and what is there, if its folder is.
    file: Option<(Place, Option<Found>)>,
    text: Vec<u8>,
    /// The home, and the folders between it and folder and file where links lead deeper.
    above: Vec<(PathBuf, Found)>,
    names: Names,
}

impl Keys {
    fn of(root: &Root, desired: &Desired) -> Result<Self, Error> {
        let names = Names::read(root)?;
        let account = names.account(&desired.user)?;
        let path = root.system(&account.home);
        let not_found = || Error::NotFound { what: "home", name: path.display().to_string() };
        let (place, found_home) = root
            .follow(&path)?
            .filter(|(_, found)| found.file_type == FileType::Directory)
            .ok_or_else(not_found)?;
        let path = place.path().join(".ssh");
        // What is touched is below the home, also over links.
        let home = Root::only(place.path().to_owned())?;
        let folder = followed(&home, &path, FileType::Directory)?;
        let is_linked = folder.0.path() != path;
        let (mut file, mut text) = (None, Vec::new());
        if folder.1.is_some() {
            let path = folder.0.path().join("authorized_keys");
            let (place, mut found) = followed(&home, &path, FileType::RegularFile)?;
            if found.is_some() {
                let read = place.read_found(FILE_BYTES_MAX)?;
                (found, text) = (Some(read.0), read.1);
            }
            file = Some((place, found));
        }
        let mut above = vec![(place.path().to_owned(), found_home)];
        for end in [Some(&folder.0), file.as_ref().map(|(place, _)| place)].into_iter().flatten() {
            let within = |path: &&Path| path.starts_with(place.path()) && *path != place.path();
            for path in end.path().ancestors().skip(1).take_while(within) {
                // One folder has many names where links lead on by `..`.
                if let Some((_, found)) = home.follow(path)?
                    && folder.1.as_ref().is_none_or(|folder| folder.id != found.id)
                    && above.iter().all(|(_, known)| known.id != found.id)
                {
                    above.push((path.to_owned(), found));
                }
            }
        }
        Ok(Self { account, folder, is_linked, file, text, above, names })
    }

    fn found(&self, desired: &Desired) -> Option<Vec<u8>> {
        let lines = self.text.split(|byte| *byte == b'\n');
        let mut keys = lines.filter_map(Key::parse);
        keys.find(|key| key.comment == desired.comment.as_bytes()).map(|key| key.text)
    }

    fn differences(&self, desired: &Desired) -> Vec<Difference> {
        let mut differences = Vec::new();
        if self.text != self.wanted(desired) {
            let found = self.found(desired).map_or_else(|| "absent".to_owned(), |key| shown(&key));
            let wanted = match desired.ensure {
                Ensure::Present => shown(&desired.key),
                Ensure::Absent => "absent".to_owned(),
            };
            differences.push(Difference::new("Key", found, wanted));
        }
        // A key that is gone lets nobody in, wherever it was.
        if desired.ensure == Ensure::Present {
            let file = self.file.as_ref().and_then(|(_, found)| found.as_ref());
            for (name, found) in [(".ssh", self.folder.1.as_ref()), ("authorized_keys", file)] {
                let closed = |found| self.unfit(name, found, 0o022);
                differences.extend(found.into_iter().flat_map(closed));
            }
            differences.extend(self.unfit_above());
        }
        differences
    }

    /// Why the server for SSH takes no keys from anywhere below.
    fn unfit_above(&self) -> impl Iterator<Item = Difference> {
        self.above.iter().flat_map(|(path, found)| {
            let is_private = self.names.is_private(found.owner.1, self.account.id);
            let closed = if is_private { 0o002 } else { 0o022 };
            self.unfit(&path.display().to_string(), found, closed)
        })
    }

    /// Why the server for SSH ignores what is in a file or folder, or cannot read it. `closed` is what
    /// its mode may not have.
    fn unfit(&self, name: &str, found: &Found, closed: u32) -> Vec<Difference> {
        let mut differences = Vec::new();
        if found.owner.0 != self.account.id && !self.is_roots(found) {
            let (found, wanted) = (found.owner.0.to_string(), self.account.id.to_string());
            differences.push(Difference::new(format!("Owner of {name}"), found, wanted));
        }
        if found.mode & closed != 0 {
            let mode = |mode: u32| format!("{mode:04o}");
            let (found, wanted) = (mode(found.mode), mode(found.mode & !closed));
            differences.push(Difference::new(format!("Mode of {name}"), found, wanted));
        }
        differences
    }

    /// Whether root keeps a file or folder in which the server for SSH finds keys as the user.
    fn is_roots(&self, found: &Found) -> bool {
        let needed = if found.file_type == FileType::Directory { 0o001 } else { 0o004 };
        let needed = if found.owner.1 == self.account.group { needed << 3 } else { needed };
        found.owner.0 == 0 && found.mode & needed != 0
    }

    fn wanted(&self, desired: &Desired) -> Vec<u8> {
        let key = (desired.ensure == Ensure::Present).then_some(&*desired.key);
        with_key(&self.text, desired.comment.as_bytes(), key)
    }

    fn set(&self, desired: &Desired) -> Result<(), Error> {
        if self.differences(desired).is_empty() {
            return Ok(());
        }
        let wanted = self.wanted(desired);
        if desired.ensure == Ensure::Absent {
            let Some((place, found)) = &self.file else { return Ok(()) };
            return place.write(&wanted, Attributes::default(), found.as_ref());
        }
        // Who else writes in a home is no matter of keys, and may be meant.
        if let Some(difference) = self.unfit_above().next() {
            let reason = format!("the server for SSH would take no keys there: {difference}");
            return Err(Error::Invalid { what: "home of keys", reason });
        }
        if let Some((place, Some(found))) = &self.file {
            self.refuse_foreign(place, found)?;
        }
        self.set_folder()?;
        let (place, found) = match &self.file {
            Some((place, found)) => (place.clone(), found.as_ref()),
            None => (self.folder.0.child("authorized_keys".as_ref())?, None),
        };
        // In a folder that root keeps, so is a new file.
        let is_roots = found.or(self.folder.1.as_ref()).is_some_and(|found| self.is_roots(found));
        let new_mode = if is_roots { 0o644 } else { 0o600 };
        let mode = found.map_or(new_mode, |found| found.mode & !0o022);
        let to_user = |id| (!is_roots).then_some(id);
        let (user, group) = (to_user(self.account.id), to_user(self.account.group));
        let attributes = Attributes { mode: Some(mode), user, group, ..Attributes::default() };
        place.write(&wanted, attributes, found)
    }

    /// A user can give any file that lies in the home this name. One that belongs to somebody else
    /// becomes the user's only if it holds nothing but keys.
    fn refuse_foreign(&self, place: &Place, found: &Found) -> Result<(), Error> {
        let is_harmless = |line: &[u8]| {
            let line = line.trim_ascii();
            line.is_empty() || line.starts_with(b"#") || Key::parse(line).is_some()
        };
        if found.owner.0 == self.account.id
            || self.text.split(|byte| *byte == b'\n').all(is_harmless)
        {
            return Ok(());
        }
        let (path, owner) = (place.path().display(), found.owner.0);
        let reason = format!("{path} belongs to the user {owner} and holds what is no key");
        Err(Error::Invalid { what: "file of keys", reason })
    }

    /// Makes the folder, or gives it to its user. What is looked at and changed is the folder that was
    /// opened: the user may put something else in its place at any time.
    fn set_folder(&self) -> Result<(), Error> {
        let (place, is_new) = (&self.folder.0, self.folder.1.is_none());
        if is_new {
            place.make_directory(0o700)?;
        }
        let folder = place.open(OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        let fail = |operation| failed(operation, place.path());
        let found = Found::of(&fstat(&folder).map_err(fail("look at"))?);
        let mode = if is_new { 0o700 } else { found.mode & !0o022 };
        let is_users = found.owner.0 == self.account.id;
        let is_taken = !is_users && (is_new || !self.is_roots(&found));
        if !is_taken && found.mode == mode {
            return Ok(());
        }
        if !is_users {
            self.refuse_foreign_folder(&folder, &found)?;
        }
        if is_taken {
            let (user, group) = (self.account.id, self.account.group);
            fchown(&folder, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))
                .map_err(fail("change owner of"))?;
        }
        if found.mode != mode {
            fchmod(&folder, Mode::from_raw_mode(mode)).map_err(fail("change mode of"))?;
        }
        fsync(&folder).map_err(fail("sync"))
    }

    /// A user can give any folder that lies in the home this name, or lead a link to it. One that belongs
    /// to somebody else is changed only if it hides nothing: it is no link's target, nothing is mounted
    /// there, and it holds nothing but the file of keys.
    fn refuse_foreign_folder(&self, folder: &OwnedFd, found: &Found) -> Result<(), Error> {
        let place = &self.folder.0;
        let names = names_in(folder).map_err(failed("list", place.path()))?;
        let more = names.iter().find(|(name, _)| name != "authorized_keys");
        let why = match more {
            Some((name, _)) => format!("holds {}", name.display()),
            None if self.is_linked => "is reached over a link".to_owned(),
            None if place.is_mounted(found)? => "is another file system".to_owned(),
            None => return Ok(()),
        };
        let (path, owner) = (place.path().display(), found.owner.0);
        let reason = format!("{path} belongs to the user {owner} and {why}");
        Err(Error::Invalid { what: "folder of keys", reason })
    }
}

/// What a path leads to over links, which is of that type or not there at all.
fn followed(
    home: &Root,
    path: &Path,
    file_type: FileType,
) -> Result<(Place, Option<Found>), Error> {
    let missing = || Error::NotFound { what: "folder of", name: path.display().to_string() };
    let place = home.place(path, false)?.ok_or_else(missing)?;
    let (place, found) = match place.found()? {
        None => return Ok((place, None)),
        Some(found) if found.file_type == FileType::Symlink => {
            let target =
                || Error::NotFound { what: "target of the link", name: path.display().to_string() };
            home.follow(path)?.ok_or_else(target)?
        }
        Some(found) => (place, found),
    };
    if found.file_type != file_type {
        let reason = format!("{} is {}", place.path().display(), found.kind_name());
        return Err(Error::Invalid { what: "file of keys", reason });
    }
    Ok((place, Some(found)))
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
            let found =
                Key::parse(line.as_bytes()).map(|key| (shown(&key.text), shown(&key.comment)));
            let found = found.as_ref().map(|(text, comment)| (text.as_str(), comment.as_str()));
            assert_eq!(found, expect, "{line}");
        };
        let plain = format!("ssh-ed25519 {body}");
        check(&plain, Some((&plain, "")));
        check(&format!("{plain} jo at home\n"), Some((&plain, "jo at home")));
        check(&format!(" ssh-ed25519 \t {body}  \tjo \r\n"), Some((&plain, "jo")));
        let options = format!("from=\"a b,\\\"c\",no-pty {plain}");
        check(&format!("{options} x"), Some((&options, "x")));
        check(&format!("no-pty \t{plain}"), Some((&format!("no-pty {plain}"), "")));
        // Here the quotation mark does not end, for the server for SSH.
        check(&format!("command=\"a\\\\\" {plain}"), None);
        check(&format!("ssh-rsa {body} x"), None);
        for line in ["", "# x", "ssh-ed25519", "ssh-ed25519 ???", "x y z", "\"", "ssh-rsa AAAA x"] {
            check(line, None);
        }
    }

    /// A user may give the file's name to another file of the home at any moment.
    #[test]
    fn owner_and_mode_are_those_of_the_file_that_was_read() {
        use std::os::unix::fs::PermissionsExt;
        const ROUNDS: usize = 10_000;
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["etc", "home/jo/.ssh"] {
            std::fs::create_dir_all(at(name)).expect("a folder");
        }
        let passwd = "jo:x:1000:1000::/home/jo:/bin/sh\n";
        for (name, text) in [("etc/passwd", passwd), ("etc/group", "jo:x:1000:\n")] {
            std::fs::write(at(name), text).expect("written");
        }
        let file = at("home/jo/.ssh/authorized_keys");
        let [open, closed] = ["open", "closed"].map(|name| at("home/jo").join(name));
        for (path, mode) in [(&open, 0o644), (&closed, 0o600), (&file, 0o644)] {
            std::fs::write(path, format!("{mode:o}")).expect("written");
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(path, mode).expect("a mode");
        }
        let root = Root::only(folder.path().to_owned()).expect("a root");
        let (comment, user) = ("desk".to_owned(), "jo".to_owned());
        let desired = Desired { comment, user, ensure: Ensure::Absent, key: Vec::new() };
        super::super::tree::while_replaced(&file, [&closed, &open], || {
            for round in 0..ROUNDS {
                let keys = Keys::of(&root, &desired).expect("read");
                let found = keys.file.expect("a folder").1.expect("a file");
                assert_eq!(shown(&keys.text), format!("{:o}", found.mode), "in round {round}");
            }
        });
    }

    /// A line, a key more often than not.
    fn line() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => (0u8..3).prop_map(|seed| format!("ssh-ed25519 {}", body("ssh-ed25519", seed)).into_bytes()),
            4 => prop_oneof![Just(" a"), Just("  b"), Just(" a b"), Just("no-pty "), Just("x=\"")]
                .prop_map(|text| text.as_bytes().to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 0..6),
        ];
        proptest::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        /// Any line is read or is none, and what is read is read again.
        #[test]
        fn any_line_is_looked_at(line in line()) {
            if let Some(key) = Key::parse(&line) {
                let again = [&*key.text, b" ", &*key.comment].concat();
                prop_assert_eq!(Key::parse(&again), Some(key));
            }
        }

        /// Whatever a file holds: a key that comes is there once and one that goes is not there, a
        /// second time changes nothing, and every other line stays as it was.
        #[test]
        fn a_key_comes_and_goes_and_every_other_line_stays(
            lines in proptest::collection::vec(line(), 0..6),
            is_present in any::<bool>(),
        ) {
            let text = lines.join(&b'\n');
            let key = format!("ssh-ed25519 {}", body("ssh-ed25519", 1)).into_bytes();
            let key = is_present.then_some(&*key);
            let wanted = with_key(&text, b"a", key);
            prop_assert_eq!(&with_key(&wanted, b"a", key), &wanted);
            let split = |text: &[u8]| -> (Vec<Key>, Vec<Vec<u8>>) {
                let is_it = |line: &Vec<u8>| Key::parse(line).is_some_and(|key| key.comment == b"a");
                let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec);
                let (own, others): (Vec<_>, Vec<_>) = lines.partition(is_it);
                let own = own.iter().filter_map(|line| Key::parse(line)).collect();
                (own, others.into_iter().filter(|line| !line.is_empty()).collect())
            };
            let (own, others) = split(&wanted);
            let own: Vec<&[u8]> = own.iter().map(|key| &*key.text).collect();
            prop_assert_eq!(own, key.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(others, split(&text).1);
        }
    }
}
