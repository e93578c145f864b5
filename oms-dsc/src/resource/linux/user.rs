//! Users: `User` of Windows and `nxUser`.
//!
//! A new user gets the next free id from 1000 on, a group of the same name unless `GroupID` says
//! another, and a home with what `/etc/skel` holds. What `GroupID`, `HomeDirectory` and the like do not
//! say stays as it is. The home of a user that goes is left where it is.

use super::accounts::{Accounts, AccountsLock, Order, check_field, check_name, list};
use super::file::new_directory;
use super::property::{Ensure, Properties};
use super::tree::{Attributes, Root};
use super::{Difference, Resource, SetReport};
use crate::Error;
use crate::configuration::ResourceInstance;
use async_trait::async_trait;
use oms_core::task::blocking;
use oms_core::{Clock, SystemClock};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

const CLASSES: [&str; 3] = ["MSFT_UserResource", "MSFT_nxUserResource", "MSFT_nxUser"];

const KNOWN: [&str; 9] = [
    "UserName",
    "Ensure",
    "FullName",
    "Description",
    "Password",
    "Disabled",
    "PasswordChangeRequired",
    "HomeDirectory",
    "GroupID",
];

/// Ids of people's accounts, where `/etc/login.defs` says nothing else.
pub(super) const IDS: std::ops::RangeInclusive<u32> = 1_000..=60_000;

const SECONDS_PER_DAY: i64 = 86_400;

/// Users of a system.
#[derive(Clone, Debug)]
pub struct UserResource {
    root: Root,
    clock: Arc<dyn Clock>,
}

impl UserResource {
    /// The users of this system.
    #[must_use]
    pub fn unrestricted() -> Self {
        Self { root: Root::everywhere(), clock: Arc::new(SystemClock) }
    }

    /// The users of the system whose files are below `root`.
    ///
    /// # Errors
    /// [`Error::Io`] if there is no such folder.
    pub fn within(root: impl Into<PathBuf>) -> Result<Self, Error> {
        Ok(Self { root: Root::only(root.into())?, clock: Arc::new(SystemClock) })
    }

    async fn with<T: Send + 'static>(
        &self,
        instance: &ResourceInstance,
        work: fn(&Self, &Desired) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (desired, resource) = (Desired::of(instance)?, self.clone());
        blocking(move || work(&resource, &desired)).await
    }

    fn differences(&self, desired: &Desired) -> Result<Vec<Difference>, Error> {
        let accounts = Accounts::read(&self.root)?;
        let mut differences = desired.differences(&accounts)?;
        let home = accounts.passwd.find(&desired.name).and_then(|fields| fields.get(5).cloned());
        if let Some(home) = home.filter(|_| desired.home.is_some() && differences.is_empty())
            && self.home_is_missing(&home)?
        {
            differences.push(Difference::new("HomeDirectory", "absent", home));
        }
        Ok(differences)
    }

    fn home_is_missing(&self, home: &str) -> Result<bool, Error> {
        let place = self.root.place(&self.root.system(home), false)?;
        Ok(place.map(|place| place.found()).transpose()?.flatten().is_none())
    }

    fn set(&self, desired: &Desired) -> Result<(), Error> {
        let _lock = AccountsLock::take(&self.root)?;
        let before = Accounts::read(&self.root)?;
        if desired.ensure == Ensure::Absent {
            let mut accounts = before.clone();
            desired.remove(&mut accounts);
            return accounts.save(&self.root, &before, Order::Going);
        }
        let mut accounts = before.clone();
        let today = self.clock.now().as_second().div_euclid(SECONDS_PER_DAY);
        let is_new = before.passwd.find(&desired.name).is_none();
        let shell = self.default_shell()?;
        let (user, group, home) = desired.apply(&mut accounts, today, &shell)?;
        // The home comes before the user does: after a crash in between nobody takes a user without
        // a home for a whole one.
        if (is_new || desired.home.is_some()) && self.home_is_missing(&home)? {
            let (user, group) = (Some(user), Some(group));
            let attributes = Attributes { user, group, ..Attributes::default() };
            let (skeleton, home) = (self.root.system("/etc/skel"), self.root.system(&home));
            new_directory(&self.root, &skeleton, &home, attributes)?;
        }
        accounts.save(&self.root, &before, Order::Coming)
    }

    /// `SHELL` of `/etc/default/useradd`.
    fn default_shell(&self) -> Result<String, Error> {
        let settings = self.root.read_system("/etc/default/useradd")?.unwrap_or_default();
        let settings = String::from_utf8_lossy(&settings).into_owned();
        let shell = settings.lines().find_map(|line| line.trim().strip_prefix("SHELL="));
        let shell = shell.filter(|shell| shell.starts_with('/') && !shell.contains(':'));
        Ok(shell.unwrap_or("/bin/sh").to_owned())
    }
}

#[async_trait]
impl Resource for UserResource {
    fn classes(&self) -> &[&str] {
        &CLASSES
    }

    async fn get(&self, instance: &ResourceInstance) -> Result<BTreeMap<String, Value>, Error> {
        self.with(instance, |resource, desired| Ok(desired.found(&Accounts::read(&resource.root)?)))
            .await
    }

    async fn test(&self, instance: &ResourceInstance) -> Result<Vec<Difference>, Error> {
        self.with(instance, Self::differences).await
    }

    async fn set(&self, instance: &ResourceInstance) -> Result<SetReport, Error> {
        self.with(instance, Self::set).await.map(|()| SetReport::default())
    }
}

/// What should be. It is not shown: the hash of a password is nobody's business.
#[derive(Clone)]
struct Desired {
    name: String,
    ensure: Ensure,
    full_name: Option<String>,
    description: Option<String>,
    /// The hash, as `/etc/shadow` has it.
    password: Option<String>,
    is_disabled: Option<bool>,
    must_change_password: Option<bool>,
    home: Option<String>,
    group: Option<u32>,
}

impl Desired {
    fn of(instance: &ResourceInstance) -> Result<Self, Error> {
        let read = Properties::new(instance, "User resource", &KNOWN)?;
        let name = read.needed("UserName")?;
        check_name("User resource", name)?;
        let field = |property: &str| {
            let text = read.text(property)?.map(str::to_owned);
            if let Some(text) = &text {
                check_field("User resource", text)?;
            }
            Ok::<_, Error>(text)
        };
        let gecos = |property: &str| {
            let text = field(property)?;
            match text.as_ref().is_some_and(|text| text.contains(',')) {
                true => Err(read.invalid(property, "a comma, which separates such fields")),
                false => Ok(text),
            }
        };
        // The credential of Windows holds a password in the clear, which nobody here can hash.
        if read.text("Password").is_err() {
            return Err(read.unsupported("Password that is not a hash"));
        }
        let password = field("Password")?.filter(|hash| !hash.is_empty());
        if let Some(hash) = &password
            && !(hash.starts_with('$') || hash == "*" || hash == "!")
        {
            return Err(read.unsupported("Password that is not a hash"));
        }
        let home = read.path("HomeDirectory")?.map(|path| path.display().to_string());
        let group = read.number("GroupID")?.map(u32::try_from).transpose();
        let group = group.map_err(|_| read.invalid("GroupID", "not an id"))?;
        Ok(Self {
            name: name.to_owned(),
            ensure: read.ensure()?,
            full_name: gecos("FullName")?,
            description: gecos("Description")?,
            password,
            is_disabled: read.flag("Disabled")?,
            must_change_password: read.flag("PasswordChangeRequired")?,
            home,
            group,
        })
    }

    fn found(&self, accounts: &Accounts) -> BTreeMap<String, Value> {
        let mut found = BTreeMap::from([("UserName".to_owned(), json!(self.name))]);
        let mut add = |name: &str, value: Value| found.insert(name.to_owned(), value);
        let Some(user) = accounts.passwd.find(&self.name) else {
            add("Ensure", json!("absent"));
            return found;
        };
        let field = |index: usize| user.get(index).map(String::as_str).unwrap_or_default();
        add("Ensure", json!("present"));
        add("UserID", json!(field(2)));
        add("GroupID", json!(field(3)));
        add("FullName", json!(part(field(4), 0)));
        add("Description", json!(part(field(4), 4)));
        add("HomeDirectory", json!(field(5)));
        add("Shell", json!(field(6)));
        let shadow = accounts.shadow.as_ref().and_then(|shadow| shadow.find(&self.name));
        if let Some(shadow) = shadow {
            // Never the hash itself.
            add("Disabled", json!(shadow.get(1).is_some_and(|hash| hash.starts_with('!'))));
            let changed = shadow.get(2).map(String::as_str);
            add("PasswordChangeRequired", json!(changed == Some("0")));
        }
        found
    }

    fn differences(&self, accounts: &Accounts) -> Result<Vec<Difference>, Error> {
        let mut differences = Vec::new();
        let user = accounts.passwd.find(&self.name);
        if self.ensure == Ensure::Absent {
            let mut rest = accounts.clone();
            self.remove(&mut rest);
            if rest != *accounts {
                let found = if user.is_some() { "present" } else { "present in part" };
                differences.push(Difference::new("Ensure", found, "absent"));
            }
            return Ok(differences);
        }
        let Some(user) = user else {
            differences.push(Difference::new("Ensure", "absent", "present"));
            return Ok(differences);
        };
        let field = |index: usize| user.get(index).cloned().unwrap_or_default();
        let mut differ = |property: &str, found: String, desired: Option<String>| {
            if let Some(desired) = desired.filter(|desired| *desired != found) {
                differences.push(Difference::new(property, found, desired));
            }
        };
        differ("FullName", part(&field(4), 0), self.full_name.clone());
        differ("Description", part(&field(4), 4), self.description.clone());
        differ("HomeDirectory", field(5), self.home.clone());
        differ("GroupID", field(3), self.group.map(|group| group.to_string()));
        let Some(shadow) = &accounts.shadow else { return Ok(differences) };
        let shadow = shadow.find(&self.name);
        if shadow.is_none() {
            differences.push(Difference::new("shadow", "absent", "present"));
        }
        let shadow = shadow.unwrap_or_default();
        let hash = shadow.get(1).cloned().unwrap_or_default();
        let wanted = self.hash(&hash);
        if hash != wanted {
            let is_locked = |hash: &str| hash.starts_with('!');
            if is_locked(&hash) != is_locked(&wanted) {
                let shown = |hash: &str| if is_locked(hash) { "true" } else { "false" };
                differences.push(Difference::new("Disabled", shown(&hash), shown(&wanted)));
            }
            if hash.trim_start_matches('!') != wanted.trim_start_matches('!') {
                differences.push(Difference::new("Password", "another hash", "the given hash"));
            }
        }
        let must_change = shadow.get(2).map(String::as_str) == Some("0");
        if let Some(wanted) = self.must_change_password.filter(|wanted| *wanted != must_change) {
            let (found, wanted) = (must_change.to_string(), wanted.to_string());
            differences.push(Difference::new("PasswordChangeRequired", found, wanted));
        }
        Ok(differences)
    }

    /// The field of the password as it should be, from what it is.
    fn hash(&self, found: &str) -> String {
        if self.password.is_none() && self.is_disabled.is_none() {
            return found.to_owned();
        }
        // A mark without a hash is that of a user who never had a password.
        let was_locked = found.starts_with('!')
            && !(self.password.is_some() && found.trim_start_matches('!').is_empty());
        let is_locked = self.is_disabled.unwrap_or(was_locked);
        let hash = self.password.as_deref().unwrap_or(found).trim_start_matches('!');
        match (is_locked, hash) {
            (true, hash) => format!("!{hash}"),
            // Without the mark anybody could log in.
            (false, "") => "*".to_owned(),
            (false, hash) => hash.to_owned(),
        }
    }

    /// Brings the files into the desired state; answers user id, group id and home.
    fn apply(
        &self,
        accounts: &mut Accounts,
        today: i64,
        shell: &str,
    ) -> Result<(u32, u32, String), Error> {
        let mut user = match accounts.passwd.find(&self.name) {
            Some(user) => user,
            None => self.new_user(accounts, shell)?,
        };
        user.resize(7.max(user.len()), String::new());
        let number = |text: &str| {
            let reason = format!("`{}` has an id that is no number: {text}", self.name);
            text.parse().map_err(|_| Error::Corrupt { what: "accounts".to_owned(), reason })
        };
        if let Some(group) = self.group {
            if !accounts.group.numbers(2).any(|(_, id)| id == group) {
                return Err(Error::NotFound { what: "group", name: group.to_string() });
            }
            user[3] = group.to_string();
        }
        for (index, text) in [(0, &self.full_name), (4, &self.description)] {
            if let Some(text) = text {
                user[4] = with_part(&user[4], index, text);
            }
        }
        if let Some(home) = &self.home {
            user[5].clone_from(home);
        }
        let ids = (number(&user[2])?, number(&user[3])?, user[5].clone());
        accounts.passwd.put(&user);
        if let Some(shadow) = &mut accounts.shadow {
            let new = || -> Vec<String> {
                let fields = [&self.name, "!", &today.to_string(), "0", "99999", "7", "", "", ""];
                fields.map(str::to_owned).to_vec()
            };
            let found = shadow.find(&self.name);
            let mut fields = found.unwrap_or_else(new);
            fields.resize(9.max(fields.len()), String::new());
            fields[1] = self.hash(&fields[1]);
            match self.must_change_password {
                Some(true) => fields[2] = "0".to_owned(),
                Some(false) if fields[2] == "0" => fields[2] = today.to_string(),
                _ => {}
            }
            shadow.put(&fields);
        }
        Ok(ids)
    }

    fn new_user(&self, accounts: &mut Accounts, shell: &str) -> Result<Vec<String>, Error> {
        let full = || Error::LimitExceeded {
            what: "ids of users",
            limit: (IDS.end() - IDS.start()) as usize,
        };
        let user = free_id(accounts.passwd.numbers(2).map(|(_, id)| id)).ok_or_else(full)?;
        let own = accounts.group.find(&self.name).and_then(|fields| fields.get(2)?.parse().ok());
        let group = match (self.group, own) {
            (Some(group), _) | (None, Some(group)) => group,
            (None, None) => {
                let taken: Vec<u32> = accounts.group.numbers(2).map(|(_, id)| id).collect();
                let free = (!taken.contains(&user)).then_some(user);
                let group = free.or_else(|| free_id(taken.into_iter())).ok_or_else(full)?;
                put_group(accounts, &self.name, group);
                group
            }
        };
        let home = self.home.clone().unwrap_or_else(|| format!("/home/{}", self.name));
        let password = if accounts.shadow.is_some() { "x" } else { "*" };
        let (user, group) = (user.to_string(), group.to_string());
        Ok([&self.name, password, &user, &group, "", &home, shell].map(str::to_owned).to_vec())
    }

    /// Takes the user out of every file, and its own group if nobody else is in it.
    fn remove(&self, accounts: &mut Accounts) {
        accounts.passwd.remove(&self.name);
        if let Some(shadow) = &mut accounts.shadow {
            shadow.remove(&self.name);
        }
        let Accounts { passwd, group, gshadow, .. } = accounts;
        take_out(group, &self.name, &[3]);
        if let Some(gshadow) = gshadow {
            take_out(gshadow, &self.name, &[2, 3]);
        }
        let own = group.find(&self.name).filter(|own| {
            let id = own.get(2).and_then(|id| id.parse().ok());
            let is_alone = own.get(3).is_none_or(String::is_empty);
            is_alone
                && id.is_some_and(|id: u32| IDS.contains(&id))
                && !passwd.numbers(3).any(|(_, primary)| Some(primary) == id)
        });
        if own.is_some() {
            group.remove(&self.name);
            if let Some(gshadow) = gshadow {
                gshadow.remove(&self.name);
            }
        }
    }
}

/// Adds a group without members.
pub(super) fn put_group(accounts: &mut Accounts, name: &str, id: u32) {
    let password = if accounts.gshadow.is_some() { "x" } else { "*" };
    accounts.group.put(&[name, password, &id.to_string(), ""].map(str::to_owned));
    if let Some(gshadow) = &mut accounts.gshadow {
        gshadow.put(&[name, "!", "", ""].map(str::to_owned));
    }
}

/// Takes a name out of the lists in these fields.
fn take_out(table: &mut super::accounts::Table, name: &str, fields: &[usize]) {
    let mut affected: Vec<String> = Vec::new();
    for field in fields {
        let has = table.lists(*field).filter(|(_, members)| members.contains(&name));
        affected.extend(has.map(|(group, _)| group.to_owned()));
    }
    for group in affected {
        let Some(mut row) = table.find(&group) else { continue };
        for field in fields {
            if let Some(members) = row.get_mut(*field) {
                let rest: Vec<&str> = list(members).into_iter().filter(|m| *m != name).collect();
                *members = rest.join(",");
            }
        }
        table.put(&row);
    }
}

/// The id after the highest that is taken, or else the lowest that is free.
pub(super) fn free_id(taken: impl Iterator<Item = u32>) -> Option<u32> {
    let mut taken: Vec<u32> = taken.filter(|id| IDS.contains(id)).collect();
    taken.sort_unstable();
    let next = taken.last().map_or(*IDS.start(), |last| last + 1);
    let first_free = || IDS.into_iter().find(|id| taken.binary_search(id).is_err());
    Some(next).filter(|next| IDS.contains(next)).or_else(first_free)
}

/// A part of the field that commas separate.
fn part(field: &str, index: usize) -> String {
    field.split(',').nth(index).unwrap_or_default().to_owned()
}

fn with_part(field: &str, index: usize, text: &str) -> String {
    let mut parts: Vec<&str> = field.split(',').collect();
    parts.resize(parts.len().max(index + 1), "");
    parts[index] = text;
    while parts.len() > 1 && parts.last() == Some(&"") {
        parts.pop();
    }
    parts.join(",")
}
