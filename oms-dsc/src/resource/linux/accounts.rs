//! The users and groups of a system: `/etc/passwd`, `/etc/shadow`, `/etc/group` and `/etc/gshadow`.
//!
//! Files are changed under the lock that every other program of the system takes (`/etc/.pwd.lock`), and
//! replaced one by one, each as a whole. Lines that nobody asked about stay byte for byte.

use super::tree::{Attributes, Place, Root};
use crate::Error;
use rustix::fs::{FlockOperation, Mode, OFlags, fcntl_lock};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(super) const PASSWD: &str = "/etc/passwd";
pub(super) const SHADOW: &str = "/etc/shadow";
pub(super) const GROUP: &str = "/etc/group";
pub(super) const GSHADOW: &str = "/etc/gshadow";

/// The longest name of a user or a group, in bytes.
const NAME_BYTES_MAX: usize = 32;

/// The fields of a line. They are bytes: not every file of accounts is UTF-8, and what nobody asked
/// about is written as it was read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Row(Vec<Vec<u8>>);

impl Row {
    pub(super) fn new<const N: usize>(fields: [&str; N]) -> Self {
        Self(fields.map(|field| field.as_bytes().to_vec()).to_vec())
    }

    fn parse(line: &[u8]) -> Self {
        Self(line.split(|byte| *byte == b':').map(<[u8]>::to_vec).collect())
    }

    fn name(&self) -> &[u8] {
        self.field(0)
    }

    /// How many fields there are.
    #[cfg(feature = "testkit")]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// A field; one that is missing is empty.
    pub(super) fn field(&self, index: usize) -> &[u8] {
        self.0.get(index).map(Vec::as_slice).unwrap_or_default()
    }

    /// A field to be shown.
    pub(super) fn shown(&self, index: usize) -> String {
        String::from_utf8_lossy(self.field(index)).into_owned()
    }

    /// The number in a field.
    pub(super) fn number(&self, index: usize) -> Option<u32> {
        std::str::from_utf8(self.field(index)).ok()?.parse().ok()
    }

    /// The items of a field, which commas separate.
    pub(super) fn list(&self, index: usize) -> BTreeSet<Vec<u8>> {
        items(self.field(index)).map(<[u8]>::to_vec).collect()
    }

    /// Writes a field, and makes those before it that are missing.
    pub(super) fn set(&mut self, index: usize, field: impl Into<Vec<u8>>) {
        self.resize(index + 1);
        self.0[index] = field.into();
    }

    /// Makes the fields up to `count` that are missing.
    pub(super) fn resize(&mut self, count: usize) {
        self.0.resize(count.max(self.0.len()), Vec::new());
    }

    /// Takes an item out of the list in a field; answers whether it was there.
    fn take_out(&mut self, index: usize, item: &str) -> bool {
        let rest: Vec<&[u8]> = items(self.field(index)).filter(|i| *i != item.as_bytes()).collect();
        let is_there = rest.len() < items(self.field(index)).count();
        if is_there {
            let rest = rest.join(&b',');
            self.set(index, rest);
        }
        is_there
    }
}

fn items(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    field.split(|byte| *byte == b',').filter(|item| !item.is_empty())
}

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

    pub(super) fn rows(&self) -> impl Iterator<Item = Row> {
        self.lines.iter().map(|line| Row::parse(line))
    }

    /// The line of that name.
    pub(super) fn find(&self, name: &str) -> Option<Row> {
        self.rows().find(|row| row.name() == name.as_bytes())
    }

    /// Puts a line in the place of the one of the same name, or at the end.
    pub(super) fn put(&mut self, row: &Row) {
        let line = row.0.join(&b':');
        let at = self.rows().position(|found| found.name() == row.name());
        match at {
            Some(at) => self.lines[at] = line,
            None => {
                self.lines.push(line);
                self.is_closed = true;
            }
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        let at = self.rows().position(|row| row.name() == name.as_bytes());
        if let Some(at) = at {
            self.lines.remove(at);
        }
    }

    /// Takes a name out of the lists in these fields of every line.
    pub(super) fn take_out(&mut self, name: &str, fields: &[usize]) {
        for line in &mut self.lines {
            let mut row = Row::parse(line);
            let taken = fields.iter().filter(|field| row.take_out(**field, name)).count();
            if taken > 0 {
                *line = row.0.join(&b':');
            }
        }
    }

    /// The numbers in a field, of lines that have one.
    pub(super) fn numbers(&self, field: usize) -> impl Iterator<Item = u32> {
        self.rows().filter_map(move |row| row.number(field))
    }
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
        let account = || {
            let home = std::str::from_utf8(row.field(5)).ok();
            let home = home.filter(|home| home.starts_with('/'))?.to_owned();
            Some(Account { id: row.number(2)?, group: row.number(3)?, home })
        };
        account().ok_or_else(|| Error::Corrupt {
            what: "accounts".to_owned(),
            reason: format!("the line of the user `{name}` has no ids, or no home in UTF-8"),
        })
    }

    /// Whether a group is private to a user: that one, and nobody else, is in it.
    pub(super) fn is_private(&self, group: u32, user: u32) -> bool {
        let Some(row) = self.groups.rows().find(|row| row.number(2) == Some(group)) else {
            return false;
        };
        let (listed, name) = (row.list(3), self.user_name(user).into_bytes());
        let primary = || self.users.rows().filter(|row| row.number(3) == Some(group));
        let is_empty = listed.is_empty() && primary().next().is_none();
        !is_empty
            && primary().all(|row| row.number(2) == Some(user))
            && listed.iter().all(|member| *member == name)
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
    let found = table.find(name).and_then(|row| row.number(2)).or_else(|| name.parse().ok());
    found.ok_or_else(|| Error::NotFound { what, name: name.to_owned() })
}

fn name_of(table: &Table, id: u32) -> String {
    let found = table.rows().find(|row| row.number(2) == Some(id));
    found.map_or_else(|| id.to_string(), |row| row.shown(0))
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

/// Whether a text fits into a field of a line.
pub(super) fn is_field(text: &str) -> bool {
    !text.contains([':', '\n', '\0'])
}

/// The four files. The two of passwords need not be there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Accounts {
    pub(super) passwd: Table,
    pub(super) group: Table,
    pub(super) shadow: Option<Table>,
    pub(super) gshadow: Option<Table>,
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

    /// Writes what differs from `before`, file by file, users last. So who comes is known by name when
    /// everything else is there; and who goes is as long as anything is left, which the next attempt
    /// finds by what the line of the user says.
    pub(super) fn save(&self, root: &Root, before: &Self) -> Result<(), Error> {
        let files = [
            (GSHADOW, self.gshadow.as_ref(), before.gshadow.as_ref()),
            (GROUP, Some(&self.group), Some(&before.group)),
            (SHADOW, self.shadow.as_ref(), before.shadow.as_ref()),
            (PASSWD, Some(&self.passwd), Some(&before.passwd)),
        ];
        for (path, now, before) in files {
            let Some(now) = now.filter(|now| Some(*now) != before) else { continue };
            let place = system_place(root, path)?;
            let found = place.found()?;
            place.write(&now.print(), Attributes::default(), found.as_ref())?;
        }
        Ok(())
    }
}

/// How long another program may hold the accounts before that is an error: as long as the system's own
/// programs wait for each other.
const LOCK_PATIENCE: Duration = Duration::from_secs(15);

/// How long until the lock is tried again.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Whoever changes accounts in this process. The lock of the file is between processes only, and ends as
/// soon as anybody in this one closes the file.
static CHANGER: Mutex<()> = Mutex::new(());

/// Keeps everybody else, in this process and others, from changing accounts until it is dropped.
#[derive(Debug)]
pub(super) struct AccountsLock {
    /// Closing it ends the lock, before somebody else of this process may come.
    _file: OwnedFd,
    _changer: MutexGuard<'static, ()>,
}

impl AccountsLock {
    /// # Errors
    /// [`Error::Io`] if another program has held the accounts for too long.
    pub(super) fn take(root: &Root) -> Result<Self, Error> {
        Self::take_within(root, LOCK_PATIENCE)
    }

    fn take_within(root: &Root, patience: Duration) -> Result<Self, Error> {
        let changer = CHANGER.lock().unwrap_or_else(PoisonError::into_inner);
        let place = system_place(root, "/etc/.pwd.lock")?;
        let flags = OFlags::WRONLY | OFlags::CREATE;
        let file = place.open(flags, Mode::from_raw_mode(0o600))?;
        let mut waited = Duration::ZERO;
        loop {
            match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: file, _changer: changer }),
                Err(Errno::AGAIN | Errno::ACCESS) if waited < patience => {
                    std::thread::sleep(LOCK_PAUSE);
                    waited += LOCK_PAUSE;
                }
                Err(Errno::AGAIN | Errno::ACCESS) => {
                    let reason = format!("another program has held it for {waited:?}");
                    let source = std::io::Error::new(std::io::ErrorKind::WouldBlock, reason);
                    let path = place.path().to_owned();
                    return Err(Error::Io { operation: "lock", path, source });
                }
                Err(errno) => return Err(super::tree::failed("lock", place.path())(errno)),
            }
        }
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
    use std::io::{BufRead as _, BufReader};
    use std::path::Path;
    use std::process::{Command, Stdio};

    proptest! {
        /// Whatever a file holds, what nobody asked about stays as it was.
        #[test]
        fn a_table_keeps_every_other_line_and_field(
            bytes in proptest::collection::vec(
                prop_oneof![Just(b'\n'), Just(b':'), Just(b','), Just(b'a'), any::<u8>()], 0..200,
            ),
            name in "[a-z]{1,3}",
        ) {
            let table = Table::parse(&bytes);
            prop_assert_eq!(table.print(), bytes);
            let mut same = table.clone();
            for row in table.rows() {
                if let Ok(name) = std::str::from_utf8(row.name())
                    && table.find(name) == Some(row.clone())
                {
                    same.put(&row);
                }
            }
            prop_assert_eq!(&same, &table, "a line that is put back is the same line");
            let mut changed = table.clone();
            let row = Row::new([&name, "x", "7"]);
            changed.put(&row);
            prop_assert_eq!(changed.find(&name), Some(row));
            prop_assert_eq!(Table::parse(&changed.print()), changed.clone());
            if table.find(&name).is_none() {
                changed.remove(&name);
                prop_assert_eq!(&changed.lines, &table.lines);
            }
            changed.take_out(&name, &[1, 3]);
            let others = changed.rows().zip(table.rows());
            for (found, before) in others.filter(|(found, _)| found.name() != name.as_bytes()) {
                prop_assert!(!found.list(1).contains(name.as_bytes()));
                let mut wanted = before.list(3);
                wanted.remove(name.as_bytes());
                prop_assert_eq!(found.list(3), wanted);
                prop_assert_eq!(found.field(2), before.field(2));
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
        assert!(is_field("Jo, Berlin") && !is_field("a:b") && !is_field("a\nb"));
    }

    const FOLDER: &str = "OMS_DSC_TEST_LOCK_FOLDER";

    /// What the child of the next test does: it holds the accounts, as `vipw` does, until its input
    /// ends. By itself it finds them free.
    #[test]
    fn accounts_are_held() {
        let own = tempfile::tempdir().expect("a folder");
        let given = std::env::var(FOLDER).ok();
        let folder = given.as_ref().map_or(own.path(), Path::new);
        std::fs::create_dir_all(folder.join("etc")).expect("a folder");
        let root = Root::only(folder.to_owned()).expect("a root");
        let _lock = AccountsLock::take_within(&root, Duration::ZERO).expect("nobody else");
        if given.is_some() {
            println!("\nheld");
            std::io::stdin().lines().for_each(drop);
        }
    }

    #[test]
    fn who_holds_accounts_is_waited_for_and_not_for_ever() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("etc")).expect("a folder");
        let root = Root::only(folder.path().to_owned()).expect("a root");
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "--nocapture", "resource::linux::accounts::tests::accounts_are_held"])
            .env(FOLDER, folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        // It is kept: the child goes on printing.
        let mut said = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        assert!(said.any(|line| line.expect("text") == "held"));
        let error = AccountsLock::take_within(&root, LOCK_PAUSE).expect_err("it is held");
        assert!(error.to_string().contains("lock failed. path=`"), "{error}");
        assert!(error.to_string().contains("etc/.pwd.lock"), "{error}");
        let input = child.stdin.take();
        let releasing = std::thread::spawn(move || drop(input));
        AccountsLock::take(&root).expect("it is free in the end");
        releasing.join().expect("it ends");
        assert!(child.wait().expect("it ends").success());
    }
}
