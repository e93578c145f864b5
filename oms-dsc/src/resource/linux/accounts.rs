//! The users and groups of a system: `/etc/passwd`, `/etc/shadow`, `/etc/group` and `/etc/gshadow`.
//!
//! Files are changed under the lock that every other program of the system takes (`/etc/.pwd.lock`), and
//! replaced one by one, each as a whole. Lines that nobody asked about stay byte for byte.

use super::tree::{Attributes, Place, Root};
use crate::Error;
use rustix::fs::{FlockOperation, Mode, OFlags, fcntl_lock};
use std::os::fd::OwnedFd;

pub(super) const PASSWD: &str = "/etc/passwd";
pub(super) const SHADOW: &str = "/etc/shadow";
pub(super) const GROUP: &str = "/etc/group";
pub(super) const GSHADOW: &str = "/etc/gshadow";

/// The longest name of a user or a group, in bytes.
const NAME_BYTES_MAX: usize = 32;

/// A file of lines of fields, of which the first is a name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Table {
    lines: Vec<Vec<u8>>,
    /// Whether the last line has a line break.
    is_closed: bool,
}

impl Table {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let is_closed = bytes.is_empty() || bytes.ends_with(b"\n");
        let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let lines = match bytes.is_empty() {
            true => Vec::new(),
            false => body.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect(),
        };
        Self { lines, is_closed }
    }

    pub(super) fn print(&self) -> Vec<u8> {
        let mut bytes = self.lines.join(&b'\n');
        if self.is_closed && !self.lines.is_empty() {
            bytes.push(b'\n');
        }
        bytes
    }

    /// The fields of every line, with an empty text for each that is no text.
    fn rows(&self) -> impl Iterator<Item = Vec<&str>> {
        self.lines.iter().map(|line| fields(line))
    }

    /// The fields of the line of that name.
    pub(super) fn find(&self, name: &str) -> Option<Vec<String>> {
        let found = self.rows().find(|fields| fields.first() == Some(&name))?;
        Some(found.into_iter().map(str::to_owned).collect())
    }

    /// Puts a line in the place of the one of the same name, or at the end.
    pub(super) fn put(&mut self, fields: &[String]) {
        let line = fields.join(":").into_bytes();
        let name = fields.first().map(String::as_str);
        let at = self.rows().position(|fields| fields.first().copied() == name);
        match at {
            Some(at) => self.lines[at] = line,
            None => {
                self.lines.push(line);
                self.is_closed = true;
            }
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        let at = self.rows().position(|fields| fields.first() == Some(&name));
        if let Some(at) = at {
            self.lines.remove(at);
        }
    }

    /// Names with the number in a field, of lines that have one.
    pub(super) fn numbers(&self, field: usize) -> impl Iterator<Item = (&str, u32)> {
        self.rows()
            .filter_map(move |fields| Some((*fields.first()?, fields.get(field)?.parse().ok()?)))
    }

    /// Every line's name with the list in a field.
    pub(super) fn lists(&self, field: usize) -> impl Iterator<Item = (&str, Vec<&str>)> {
        self.rows().filter_map(move |fields| Some((*fields.first()?, list(fields.get(field)?))))
    }
}

fn fields(line: &[u8]) -> Vec<&str> {
    let fields = line.split(|byte| *byte == b':');
    fields.map(|field| std::str::from_utf8(field).unwrap_or_default()).collect()
}

/// The items of a list that commas separate.
pub(super) fn list(text: &str) -> Vec<&str> {
    text.split(',').filter(|item| !item.is_empty()).collect()
}

/// One user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Account {
    pub(super) id: u32,
    pub(super) group: u32,
    pub(super) home: String,
}

/// Names of users and groups with their ids.
#[derive(Clone, Debug)]
pub(super) struct Names {
    users: Table,
    groups: Table,
}

impl Names {
    pub(super) fn read(root: &Root) -> Result<Self, Error> {
        let table =
            |path| Ok::<_, Error>(Table::parse(&root.read_system(path)?.unwrap_or_default()));
        Ok(Self { users: table(PASSWD)?, groups: table(GROUP)? })
    }

    /// The id of a user given by name or number.
    pub(super) fn user(&self, name: &str) -> Result<u32, Error> {
        id(&self.users, "user", name)
    }

    /// The id of a group given by name or number.
    pub(super) fn group(&self, name: &str) -> Result<u32, Error> {
        id(&self.groups, "group", name)
    }

    /// A user with all that its line says, given by name.
    pub(super) fn account(&self, name: &str) -> Result<Account, Error> {
        let not_found = || Error::NotFound { what: "user", name: name.to_owned() };
        let row = self.users.find(name).ok_or_else(not_found)?;
        let number = |index: usize| row.get(index).and_then(|field| field.parse().ok());
        let account = || {
            let home = row.get(5).filter(|home| home.starts_with('/'))?.clone();
            Some(Account { id: number(2)?, group: number(3)?, home })
        };
        account().ok_or_else(|| Error::Corrupt {
            what: "accounts".to_owned(),
            reason: format!("the line of the user `{name}` has no ids or no home"),
        })
    }

    /// The name of a user, or the number if it has none.
    pub(super) fn user_name(&self, id: u32) -> String {
        name_of(&self.users, id)
    }

    /// The name of a group, or the number if it has none.
    pub(super) fn group_name(&self, id: u32) -> String {
        name_of(&self.groups, id)
    }
}

fn id(table: &Table, what: &'static str, name: &str) -> Result<u32, Error> {
    let found = table.numbers(2).find(|(found, _)| *found == name).map(|(_, id)| id);
    let found = found.or_else(|| name.parse().ok());
    found.ok_or_else(|| Error::NotFound { what, name: name.to_owned() })
}

fn name_of(table: &Table, id: u32) -> String {
    let found = table.numbers(2).find(|(_, found)| *found == id);
    found.map_or_else(|| id.to_string(), |(name, _)| name.to_owned())
}

/// A name that programs of the system take for a user or a group.
pub(super) fn check_name(what: &'static str, name: &str) -> Result<(), Error> {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_next = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let body = name.strip_suffix('$').unwrap_or(name);
    let is_good = body.starts_with(is_first) && body.chars().all(is_next);
    match is_good && name.len() <= NAME_BYTES_MAX {
        true => Ok(()),
        false => Err(Error::Invalid { what, reason: format!("`{name}` is not a name") }),
    }
}

/// Text that fits into a field of a line.
pub(super) fn check_field(what: &'static str, text: &str) -> Result<(), Error> {
    match text.contains([':', '\n', '\0']) {
        true => Err(Error::Invalid { what, reason: "a colon or a line break in a field".into() }),
        false => Ok(()),
    }
}

/// The four files. The two of passwords need not be there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Accounts {
    pub(super) passwd: Table,
    pub(super) group: Table,
    pub(super) shadow: Option<Table>,
    pub(super) gshadow: Option<Table>,
}

/// In which order files are written, so that what is told of first is what everything else hangs on last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Order {
    /// Something comes: it is known by name when everything else is there.
    Coming,
    /// Something goes: its name goes first.
    Going,
}

impl Accounts {
    /// # Errors
    /// [`Error::NotFound`] if the system has no users at all, which is no system.
    pub(super) fn read(root: &Root) -> Result<Self, Error> {
        let needed = |path: &'static str| {
            let not_found = || Error::NotFound {
                what: "file of accounts",
                name: root.system(path).display().to_string(),
            };
            let bytes = root.read_system(path)?.ok_or_else(not_found)?;
            Ok::<_, Error>(Table::parse(&bytes))
        };
        let optional = |path| {
            let bytes = root.read_system(path)?;
            Ok::<_, Error>(bytes.map(|bytes| Table::parse(&bytes)))
        };
        Ok(Self {
            passwd: needed(PASSWD)?,
            group: needed(GROUP)?,
            shadow: optional(SHADOW)?,
            gshadow: optional(GSHADOW)?,
        })
    }

    /// Writes what differs from `before`, file by file.
    pub(super) fn save(&self, root: &Root, before: &Self, order: Order) -> Result<(), Error> {
        let mut files = vec![
            (GSHADOW, self.gshadow.as_ref(), before.gshadow.as_ref()),
            (GROUP, Some(&self.group), Some(&before.group)),
            (SHADOW, self.shadow.as_ref(), before.shadow.as_ref()),
            (PASSWD, Some(&self.passwd), Some(&before.passwd)),
        ];
        if order == Order::Going {
            files.reverse();
        }
        for (path, now, before) in files {
            let Some(now) = now.filter(|now| Some(*now) != before) else { continue };
            let place = system_place(root, path)?;
            let found = place.found()?;
            place.write(&now.print(), Attributes::default(), found.as_ref())?;
        }
        Ok(())
    }
}

/// Keeps every other program of the system from changing accounts until it is dropped.
#[derive(Debug)]
pub(super) struct AccountsLock(#[expect(dead_code, reason = "closing it ends the lock")] OwnedFd);

impl AccountsLock {
    pub(super) fn take(root: &Root) -> Result<Self, Error> {
        let place = system_place(root, "/etc/.pwd.lock")?;
        let flags = OFlags::WRONLY | OFlags::CREATE;
        let file = place.open(flags, Mode::from_raw_mode(0o600))?;
        fcntl_lock(&file, FlockOperation::LockExclusive)
            .map_err(super::tree::failed("lock", place.path()))?;
        Ok(Self(file))
    }
}

fn system_place(root: &Root, path: &str) -> Result<Place, Error> {
    let path = root.system(path);
    let missing = || Error::NotFound { what: "folder of", name: path.display().to_string() };
    root.place(&path, false)?.ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever a file holds, what nobody asked about stays as it was.
        #[test]
        fn a_table_keeps_every_other_line(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b':'), any::<u8>()], 0..200),
            name in "[a-z]{1,3}",
        ) {
            let table = Table::parse(&bytes);
            prop_assert_eq!(table.print(), bytes);
            let mut changed = table.clone();
            let row = [name.clone(), "x".to_owned(), "7".to_owned()];
            changed.put(&row);
            prop_assert_eq!(changed.find(&name), Some(row.to_vec()));
            prop_assert_eq!(Table::parse(&changed.print()), changed.clone());
            if table.find(&name).is_none() {
                changed.remove(&name);
                prop_assert_eq!(&changed.lines, &table.lines);
            }
        }
    }

    #[test]
    fn names_and_fields() {
        for good in ["a", "_apt", "web-1", "A.b", "machine$"] {
            assert!(check_name("user", good).is_ok(), "{good}");
        }
        for bad in ["", "1a", "a:b", "a b", "-a", "a\n", "$", "ä", &"x".repeat(33)] {
            assert!(check_name("user", bad).is_err(), "{bad}");
        }
        assert!(check_field("user", "Jo, Berlin").is_ok() && check_field("user", "a:b").is_err());
    }
}
