//! Groups: `Group` of Windows and `nxGroup`.

use super::accounts::{Accounts, AccountsLock, Row, check_name};
use super::property::{Ensure, Properties};
use super::tree::{Root, rooted};
use super::user::{IDS, free_id, put_group};
use super::{Difference, Resource, SetReport};
use crate::Error;
use crate::configuration::ResourceInstance;
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const CLASSES: [&str; 3] = ["MSFT_GroupResource", "MSFT_nxGroupResource", "MSFT_nxGroup"];

const KNOWN: [&str; 6] =
    ["GroupName", "Ensure", "Members", "MembersToInclude", "MembersToExclude", "PreferredGroupID"];

rooted! {
    /// Groups of a system.
    pub struct GroupResource;

    /// The groups of this system.
    everywhere;

    /// The groups of the system whose files are below `root`.
    within;
}

#[async_trait]
impl Resource for GroupResource {
    fn classes(&self) -> &[&str] {
        &CLASSES
    }

    async fn get(&self, instance: &ResourceInstance) -> Result<BTreeMap<String, Value>, Error> {
        self.root
            .with(Desired::of(instance)?, |root, desired| Ok(desired.found(&Accounts::read(root)?)))
            .await
    }

    async fn test(&self, instance: &ResourceInstance) -> Result<Vec<Difference>, Error> {
        self.root
            .with(Desired::of(instance)?, |root, desired| {
                desired.differences(&Accounts::read(root)?)
            })
            .await
    }

    async fn set(&self, instance: &ResourceInstance) -> Result<SetReport, Error> {
        self.root.with(Desired::of(instance)?, set).await.map(|()| SetReport::default())
    }
}

fn set(root: &Root, desired: &Desired) -> Result<(), Error> {
    let _lock = AccountsLock::take(root)?;
    let before = Accounts::read(root)?;
    let mut accounts = before.clone();
    match desired.ensure {
        Ensure::Absent => desired.remove(&mut accounts)?,
        Ensure::Present => desired.apply(&mut accounts)?,
    }
    accounts.save(root, &before)
}

/// What should be.
#[derive(Clone, Debug)]
struct Desired {
    name: String,
    ensure: Ensure,
    members: Option<BTreeSet<String>>,
    include: BTreeSet<String>,
    exclude: BTreeSet<String>,
    id: Option<u32>,
}

impl Desired {
    fn of(instance: &ResourceInstance) -> Result<Self, Error> {
        let read = Properties::new(instance, "Group resource", &KNOWN)?;
        let name = read.needed("GroupName")?;
        check_name("Group resource", name)?;
        let names = |property: &str| {
            let Some(names) = read.texts(property)? else { return Ok(None) };
            for name in &names {
                check_name("Group resource", name)?;
            }
            Ok::<_, Error>(Some(names.into_iter().map(str::to_owned).collect::<BTreeSet<_>>()))
        };
        let members = names("Members")?;
        let include = names("MembersToInclude")?.unwrap_or_default();
        let exclude = names("MembersToExclude")?.unwrap_or_default();
        if members.as_ref().is_some_and(|members| !members.is_empty())
            && !(include.is_empty() && exclude.is_empty())
        {
            let problem = "given together with MembersToInclude or MembersToExclude";
            return Err(read.invalid("Members", problem));
        }
        if let Some(both) = include.intersection(&exclude).next() {
            return Err(read.invalid("MembersToInclude", &format!("also excluded: {both}")));
        }
        // An empty list beside the other two is what a compiler writes for none.
        let members = members.filter(|_| include.is_empty() && exclude.is_empty());
        let id = read.number("PreferredGroupID")?.map(u32::try_from).transpose();
        let id = id.map_err(|_| read.invalid("PreferredGroupID", "not an id"))?;
        let ensure = read.ensure()?;
        Ok(Self { name: name.to_owned(), ensure, members, include, exclude, id })
    }

    fn found(&self, accounts: &Accounts) -> BTreeMap<String, Value> {
        let mut found = BTreeMap::from([("GroupName".to_owned(), json!(self.name))]);
        match accounts.group.find(&self.name) {
            Some(group) => {
                found.insert("Ensure".to_owned(), json!("present"));
                let members: Vec<_> = group.list(3).iter().map(|member| shown(member)).collect();
                found.insert("GroupID".to_owned(), json!(group.shown(2)));
                found.insert("Members".to_owned(), json!(members));
            }
            None => {
                found.insert("Ensure".to_owned(), json!("absent"));
            }
        }
        found
    }

    /// The members that a group should have that has `found`.
    fn wanted(&self, found: &BTreeSet<Vec<u8>>) -> BTreeSet<Vec<u8>> {
        let bytes = |name: &String| name.clone().into_bytes();
        let given = self.members.as_ref().map(|members| members.iter().map(bytes).collect());
        let mut wanted: BTreeSet<Vec<u8>> = given.unwrap_or_else(|| found.clone());
        wanted.extend(self.include.iter().map(bytes));
        for member in &self.exclude {
            wanted.remove(member.as_bytes());
        }
        wanted
    }

    fn differences(&self, accounts: &Accounts) -> Result<Vec<Difference>, Error> {
        let group = accounts.group.find(&self.name);
        let gshadow = accounts.gshadow.as_ref().map(|gshadow| gshadow.find(&self.name));
        let mut differences = Vec::new();
        match (self.ensure, &group, &gshadow) {
            (Ensure::Absent, None, None | Some(None)) => {}
            (Ensure::Absent, ..) => {
                differences.push(Difference::new("Ensure", "present", "absent"));
            }
            (Ensure::Present, None, _) => {
                self.check_members(accounts)?;
                differences.push(Difference::new("Ensure", "absent", "present"));
            }
            (Ensure::Present, Some(group), _) => {
                let found = group.list(3);
                let wanted = self.wanted(&found);
                self.check_members(accounts)?;
                let shown = |members: &BTreeSet<Vec<u8>>| {
                    let members: Vec<_> = members.iter().map(|member| shown(member)).collect();
                    format!("{{{}}}", members.join(", "))
                };
                if found != wanted {
                    differences.push(Difference::new("Members", shown(&found), shown(&wanted)));
                }
                if let Some(row) = gshadow
                    && row.as_ref().map(|row| row.list(3)) != Some(wanted)
                {
                    let found = row.map_or_else(|| "absent".to_owned(), |row| shown(&row.list(3)));
                    differences.push(Difference::new("gshadow", found, "as the group"));
                }
            }
        }
        Ok(differences)
    }

    /// Refuses a member to be who is no user. Somebody who was a member before and is none is not this
    /// resource's doing.
    fn check_members(&self, accounts: &Accounts) -> Result<(), Error> {
        let mut given = self.members.iter().flatten().chain(&self.include);
        match given.find(|member| accounts.passwd.find(member).is_none()) {
            Some(name) => Err(Error::NotFound { what: "user", name: name.clone() }),
            None => Ok(()),
        }
    }

    fn apply(&self, accounts: &mut Accounts) -> Result<(), Error> {
        if accounts.group.find(&self.name).is_none() {
            let taken: Vec<u32> = accounts.group.numbers(2).collect();
            let full = || Error::LimitExceeded {
                what: "ids of groups",
                limit: (IDS.end() - IDS.start()) as usize,
            };
            // It is a preference, and only for a group that is new.
            let preferred = self.id.filter(|id| !taken.contains(id));
            let id = preferred.or_else(|| free_id(taken.into_iter())).ok_or_else(full)?;
            put_group(accounts, &self.name, id);
        }
        let Some(mut group) = accounts.group.find(&self.name) else { return Ok(()) };
        self.check_members(accounts)?;
        let wanted: Vec<Vec<u8>> = self.wanted(&group.list(3)).into_iter().collect();
        let text = wanted.join(&b',');
        group.set(3, text.clone());
        accounts.group.put(&group);
        if let Some(gshadow) = &mut accounts.gshadow {
            let new = || Row::new([&self.name, "!", "", ""]);
            let mut row = gshadow.find(&self.name).unwrap_or_else(new);
            row.set(3, text);
            gshadow.put(&row);
        }
        Ok(())
    }

    fn remove(&self, accounts: &mut Accounts) -> Result<(), Error> {
        let id = accounts.group.find(&self.name).and_then(|group| group.number(2));
        let has_it = |user: &Row| id.is_some() && user.number(3) == id;
        if let Some(user) = accounts.passwd.rows().find(has_it) {
            let user = user.shown(0);
            let reason = format!("`{}` is the primary group of the user `{user}`", self.name);
            return Err(Error::Invalid { what: "Group resource", reason });
        }
        accounts.group.remove(&self.name);
        if let Some(gshadow) = &mut accounts.gshadow {
            gshadow.remove(&self.name);
        }
        Ok(())
    }
}

fn shown(member: &[u8]) -> String {
    String::from_utf8_lossy(member).into_owned()
}
