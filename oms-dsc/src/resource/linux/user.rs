//! Users: `User` of Windows and `nxUser`.
//!
//! A new user gets the next free id from 1000 on, a group of the same name unless `GroupID` says
//! another, and a home with what `/etc/skel` holds. What `GroupID`, `HomeDirectory` and the like do not
//! say stays as it is. `Password` is a hash as `/etc/shadow` has it, or a credential, of whose password a
//! hash of SHA-512-crypt is made unless there is one of it already. The group that a user had as the first of all goes with the user, if it has the
//! same name and nobody else is in it; the home is left where it is.

use super::accounts::{Accounts, AccountsLock, Row, check_name, is_field};
use super::crypt;
use super::file::new_directory;
use super::property::{Ensure, Properties};
use super::tree::{Attributes, rooted};
use super::{Difference, Resource, SetReport};
use crate::Error;
use crate::configuration::{PropertyValue, ResourceInstance};
use async_trait::async_trait;
use oms_core::task::blocking;
use oms_core::{Clock, Entropy, Secret, SystemClock, SystemEntropy};
use serde_json::{Value, json};
use std::collections::BTreeMap;
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

rooted! {
    /// Users of a system.
    pub struct UserResource {
        clock: Arc<dyn Clock> = Arc::new(SystemClock),
        entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy),
    };

    /// The users of this system.
    everywhere;

    /// The users of the system whose files are below `root`.
    within;
}

impl UserResource {
    async fn with<T: Send + 'static>(
        &self,
        instance: &ResourceInstance,
        work: fn(&Self, &Desired) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (desired, resource) = (Desired::of(instance, &*self.entropy)?, self.clone());
        blocking(move || work(&resource, &desired)).await
    }

    fn differences(&self, desired: &Desired) -> Result<Vec<Difference>, Error> {
        let accounts = Accounts::read(&self.root)?;
        let mut differences = desired.differences(&accounts)?;
        if desired.ensure == Ensure::Present && accounts.passwd.find(&desired.name).is_none() {
            // What would keep the user from being made is told before anybody tries.
            let (user, _, home) = desired.apply(&mut accounts.clone(), 0, "")?;
            self.refuse_foreign_home(&desired.name, user, &home)?;
        }
        if let Some(home) = desired.home.as_ref().filter(|_| differences.is_empty())
            && desired.ensure == Ensure::Present
            && self.home_is_missing(home)?
        {
            differences.push(Difference::new("HomeDirectory", "absent", home));
        }
        Ok(differences)
    }

    fn home_is_missing(&self, home: &str) -> Result<bool, Error> {
        let place = self.root.place(&self.root.system(home), false)?;
        Ok(place.map(|place| place.found()).transpose()?.flatten().is_none())
    }

    /// Refuses to give a new user a home that is somebody else's: the user could not write in it, and
    /// would read what another left there. One of root's is let, as many accounts of services have it.
    fn refuse_foreign_home(&self, name: &str, user: u32, home: &str) -> Result<(), Error> {
        let place = self.root.place(&self.root.system(home), false)?;
        let found = place.map(|place| place.found()).transpose()?.flatten();
        match found.map(|found| found.owner.0).filter(|owner| *owner != user && *owner != 0) {
            None => Ok(()),
            Some(owner) => {
                let reason = format!(
                    "the home {home} of the new user `{name}` belongs to the id {owner} already, and \
                     the user would have {user}"
                );
                Err(Error::Invalid { what: "User resource", reason })
            }
        }
    }

    fn set(&self, desired: &Desired) -> Result<(), Error> {
        let _lock = AccountsLock::take(&self.root)?;
        let before = Accounts::read(&self.root)?;
        if desired.ensure == Ensure::Absent {
            let mut accounts = before.clone();
            desired.remove(&mut accounts);
            return accounts.save(&self.root, &before);
        }
        let mut accounts = before.clone();
        let today = self.clock.now().as_second().div_euclid(SECONDS_PER_DAY);
        let is_new = before.passwd.find(&desired.name).is_none();
        let shell = self.default_shell()?;
        let (user, group, home) = desired.apply(&mut accounts, today, &shell)?;
        if is_new {
            self.refuse_foreign_home(&desired.name, user, &home)?;
        }
        // The home comes before the user does: after a crash in between nobody takes a user without
        // a home for a whole one.
        if (is_new || desired.home.is_some()) && self.home_is_missing(&home)? {
            let (user, group) = (Some(user), Some(group));
            let attributes = Attributes { user, group, ..Attributes::default() };
            let (skeleton, home) = (self.root.system("/etc/skel"), self.root.system(&home));
            new_directory(&self.root, &skeleton, &home, attributes)?;
        }
        accounts.save(&self.root, &before)
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

/// The password that should be.
#[derive(Clone)]
enum Password {
    /// The hash, as `/etc/shadow` has it.
    Hash(String),
    /// The password itself, with the salt of a new hash.
    Clear(Secret, String),
}

impl Password {
    fn of(read: &Properties<'_>, entropy: &dyn Entropy) -> Result<Option<Self>, Error> {
        const NAME: &str = "Password";
        if matches!(read.value(NAME), Some(PropertyValue::Instance(_))) {
            let Some(password) = read.credential_password(NAME)? else { return Ok(None) };
            crypt::check(password)?;
            return Ok(Some(Self::Clear(password.clone(), crypt::salt(entropy))));
        }
        let Some(hash) = read.filled(NAME)? else { return Ok(None) };
        if !is_field(hash) {
            return Err(read.invalid(NAME, "a colon or a line break"));
        }
        if !(hash.starts_with('$') || hash == "*" || hash == "!") {
            return Err(read.unsupported("Password that is neither a hash nor a credential"));
        }
        Ok(Some(Self::Hash(hash.to_owned())))
    }

    /// The hash, in view of the one that there is.
    fn hash(&self, found: &[u8]) -> Vec<u8> {
        match self {
            Self::Hash(hash) => hash.as_bytes().to_vec(),
            Self::Clear(password, _) if crypt::is_hash_of(found, password) => found.to_vec(),
            Self::Clear(password, salt) => crypt::hash(password, salt).into_bytes(),
        }
    }

    /// What is there and what should be, in words.
    const fn difference(&self) -> (&'static str, &'static str) {
        match self {
            Self::Hash(_) => ("another hash", "the given hash"),
            Self::Clear(..) => ("another password", "the given password"),
        }
    }
}

/// What should be. It is not shown: the hash of a password is nobody's business.
#[derive(Clone)]
struct Desired {
    name: String,
    ensure: Ensure,
    full_name: Option<String>,
    description: Option<String>,
    password: Option<Password>,
    is_disabled: Option<bool>,
    must_change_password: Option<bool>,
    home: Option<String>,
    group: Option<u32>,
}

impl Desired {
    fn of(instance: &ResourceInstance, entropy: &dyn Entropy) -> Result<Self, Error> {
        let read = Properties::new(instance, "User resource", &KNOWN)?;
        let name = read.needed("UserName")?;
        check_name("User resource", name)?;
        let field = |property: &str| {
            let text = read.text(property)?;
            match text.is_none_or(is_field) {
                true => Ok(text.map(str::to_owned)),
                false => Err(read.invalid(property, "a colon or a line break")),
            }
        };
        let gecos = |property: &str| {
            let text = field(property)?;
            match text.as_ref().is_some_and(|text| text.contains(',')) {
                true => Err(read.invalid(property, "a comma, which separates such fields")),
                false => Ok(text),
            }
        };
        let password = Password::of(&read, entropy)?;
        read.path("HomeDirectory")?;
        let home = field("HomeDirectory")?.filter(|home| !home.is_empty());
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
        add("Ensure", json!("present"));
        add("UserID", json!(user.shown(2)));
        add("GroupID", json!(user.shown(3)));
        add("FullName", json!(part(user.field(4), 0)));
        add("Description", json!(part(user.field(4), 4)));
        add("HomeDirectory", json!(user.shown(5)));
        add("Shell", json!(user.shown(6)));
        let shadow = accounts.shadow.as_ref().and_then(|shadow| shadow.find(&self.name));
        if let Some(shadow) = shadow {
            // Never the hash itself.
            add("Disabled", json!(shadow.field(1).starts_with(b"!")));
            add("PasswordChangeRequired", json!(shadow.field(2) == b"0"));
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
        let mut differ = |property: &str, found: String, desired: Option<String>| {
            if let Some(desired) = desired.filter(|desired| *desired != found) {
                differences.push(Difference::new(property, found, desired));
            }
        };
        differ("FullName", part(user.field(4), 0), self.full_name.clone());
        differ("Description", part(user.field(4), 4), self.description.clone());
        differ("HomeDirectory", user.shown(5), self.home.clone());
        differ("GroupID", user.shown(3), self.group.map(|group| group.to_string()));
        let Some(shadow) = &accounts.shadow else { return Ok(differences) };
        let shadow = shadow.find(&self.name);
        if shadow.is_none() {
            differences.push(Difference::new("shadow", "absent", "present"));
        }
        let shadow = shadow.unwrap_or_default();
        let hash = shadow.field(1);
        let wanted = self.hash(hash);
        if hash != wanted {
            let is_locked = |hash: &[u8]| hash.starts_with(b"!");
            if is_locked(hash) != is_locked(&wanted) {
                let shown = |hash: &[u8]| if is_locked(hash) { "true" } else { "false" };
                differences.push(Difference::new("Disabled", shown(hash), shown(&wanted)));
            }
            if unlocked(hash) != unlocked(&wanted)
                && let Some(password) = &self.password
            {
                let (found, wanted) = password.difference();
                differences.push(Difference::new("Password", found, wanted));
            }
        }
        let must_change = shadow.field(2) == b"0";
        if let Some(wanted) = self.must_change_password.filter(|wanted| *wanted != must_change) {
            let (found, wanted) = (must_change.to_string(), wanted.to_string());
            differences.push(Difference::new("PasswordChangeRequired", found, wanted));
        }
        Ok(differences)
    }

    /// The field of the password as it should be, from what it is.
    fn hash(&self, found: &[u8]) -> Vec<u8> {
        if self.password.is_none() && self.is_disabled.is_none() {
            return found.to_owned();
        }
        // A mark without a hash is that of a user who never had a password.
        let was_locked =
            found.starts_with(b"!") && !(self.password.is_some() && unlocked(found).is_empty());
        let is_locked = self.is_disabled.unwrap_or(was_locked);
        let found = unlocked(found);
        let hash = self.password.as_ref().map_or(found.to_vec(), |password| password.hash(found));
        match (is_locked, unlocked(&hash)) {
            (true, hash) => [b"!", hash].concat(),
            // Without the mark anybody could log in.
            (false, b"") => b"*".to_vec(),
            (false, hash) => hash.to_vec(),
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
        user.resize(7);
        if let Some(group) = self.group {
            if !accounts.group.numbers(2).any(|id| id == group) {
                return Err(Error::NotFound { what: "group", name: group.to_string() });
            }
            user.set(3, group.to_string());
        }
        for (index, text) in [(0, &self.full_name), (4, &self.description)] {
            if let Some(text) = text {
                user.set(4, with_part(user.field(4), index, text));
            }
        }
        if let Some(home) = &self.home {
            user.set(5, home.as_str());
        }
        let unfit = |index: usize, what: &str| {
            let reason = format!("`{}` has {what}: {}", self.name, user.shown(index));
            Error::Corrupt { what: "accounts".to_owned(), reason }
        };
        let id = |index: usize| {
            user.number(index).ok_or_else(|| unfit(index, "an id that is no number"))
        };
        let home = std::str::from_utf8(user.field(5));
        let home = home.map_err(|_| unfit(5, "a home that is not UTF-8"))?.to_owned();
        let ids = (id(2)?, id(3)?, home);
        accounts.passwd.put(&user);
        if let Some(shadow) = &mut accounts.shadow {
            let today = today.to_string();
            let new = || Row::new([&*self.name, "!", &*today, "0", "99999", "7", "", "", ""]);
            let mut row = shadow.find(&self.name).unwrap_or_else(new);
            row.resize(9);
            row.set(1, self.hash(row.field(1)));
            match self.must_change_password {
                Some(true) => row.set(2, "0"),
                Some(false) if row.field(2) == b"0" => row.set(2, today),
                _ => {}
            }
            shadow.put(&row);
        }
        Ok(ids)
    }

    fn new_user(&self, accounts: &mut Accounts, shell: &str) -> Result<Row, Error> {
        let full = || Error::LimitExceeded {
            what: "ids of users",
            limit: (IDS.end() - IDS.start()) as usize,
        };
        let user = free_id(accounts.passwd.numbers(2)).ok_or_else(full)?;
        let own = accounts.group.find(&self.name).and_then(|group| group.number(2));
        let group = match (self.group, own) {
            (Some(group), _) | (None, Some(group)) => group,
            (None, None) => {
                let taken: Vec<u32> = accounts.group.numbers(2).collect();
                let free = (!taken.contains(&user)).then_some(user);
                let group = free.or_else(|| free_id(taken.into_iter())).ok_or_else(full)?;
                put_group(accounts, &self.name, group);
                group
            }
        };
        let home = self.home.clone().unwrap_or_else(|| format!("/home/{}", self.name));
        let password = if accounts.shadow.is_some() { "x" } else { "*" };
        let (user, group) = (user.to_string(), group.to_string());
        Ok(Row::new([&self.name, password, &user, &group, "", &home, shell]))
    }

    /// Takes the user out of every file. The user's own group goes too: the one of the same name that
    /// the user's line has, if nobody else is in it.
    fn remove(&self, accounts: &mut Accounts) {
        let Accounts { passwd, group, gshadow, shadow } = accounts;
        let primary = passwd.find(&self.name).and_then(|user| user.number(3));
        passwd.remove(&self.name);
        if let Some(shadow) = shadow {
            shadow.remove(&self.name);
        }
        group.take_out(&self.name, &[3]);
        if let Some(gshadow) = gshadow {
            gshadow.take_out(&self.name, &[2, 3]);
        }
        let is_own = |id: u32| {
            let own = group.find(&self.name).filter(|own| own.number(2) == Some(id));
            let is_alone = own.is_some_and(|own| own.list(3).is_empty());
            is_alone && IDS.contains(&id) && !passwd.numbers(3).any(|other| other == id)
        };
        if primary.is_some_and(is_own) {
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
    accounts.group.put(&Row::new([name, password, &id.to_string(), ""]));
    if let Some(gshadow) = &mut accounts.gshadow {
        gshadow.put(&Row::new([name, "!", "", ""]));
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
fn part(field: &[u8], index: usize) -> String {
    let part = field.split(|byte| *byte == b',').nth(index).unwrap_or_default();
    String::from_utf8_lossy(part).into_owned()
}

fn with_part(field: &[u8], index: usize, text: &str) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = field.split(|byte| *byte == b',').collect();
    parts.resize(parts.len().max(index + 1), b"");
    parts[index] = text.as_bytes();
    while parts.len() > 1 && parts.last().is_some_and(|part| part.is_empty()) {
        parts.pop();
    }
    parts.join(&b',')
}

/// A hash without the marks that keep it from being used.
fn unlocked(hash: &[u8]) -> &[u8] {
    let marks = hash.iter().take_while(|byte| **byte == b'!').count();
    &hash[marks..]
}
