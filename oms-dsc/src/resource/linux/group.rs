//! Groups: `Group` of Windows and `nxGroup`.

use super::accounts::{Accounts, AccountsLock, Order, check_name, list};
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
        Ensure::Absent => {
            desired.remove(&mut accounts)?;
            accounts.save(root, &before, Order::Going)
        }
        Ensure::Present => {
            desired.apply(&mut accounts)?;
            accounts.save(root, &before, Order::Coming)
        }
    }
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
                found.insert("GroupID".to_owned(), json!(group.get(2)));
                found.insert("Members".to_owned(), json!(members_of(&group)));
            }
            None => {
                found.insert("Ensure".to_owned(), json!("absent"));
            }
        }
        found
    }

    /// The members that a group should have that has `found`.
    fn wanted(&self, found: &BTreeSet<String>) -> BTreeSet<String> {
        let mut wanted = self.members.clone().unwrap_or_else(|| found.clone());
        wanted.extend(self.include.iter().cloned());
        wanted.retain(|member| !self.exclude.contains(member));
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
                self.check_members(accounts, &self.wanted(&BTreeSet::new()))?;
                differences.push(Difference::new("Ensure", "absent", "present"));
            }
            (Ensure::Present, Some(group), _) => {
                let found = members_of(group);
                let wanted = self.wanted(&found);
                self.check_members(accounts, &wanted)?;
                let shown = |members: &BTreeSet<String>| {
                    let members: Vec<&str> = members.iter().map(String::as_str).collect();
                    format!("{{{}}}", members.join(", "))
                };
                if found != wanted {
                    differences.push(Difference::new("Members", shown(&found), shown(&wanted)));
                }
                if let Some(row) = gshadow
                    && row.as_deref().map(members_of) != Some(wanted)
                {
                    let found =
                        row.map_or_else(|| "absent".to_owned(), |row| shown(&members_of(&row)));
                    differences.push(Difference::new("gshadow", found, "as the group"));
                }
            }
        }
        Ok(differences)
    }

    fn check_members(&self, accounts: &Accounts, wanted: &BTreeSet<String>) -> Result<(), Error> {
        match wanted.iter().find(|member| accounts.passwd.find(member).is_none()) {
            // Somebody who was a member before and is no user is not this resource's doing.
            Some(name)
                if self.include.contains(name)
                    || self.members.as_ref().is_some_and(|members| members.contains(name)) =>
            {
                Err(Error::NotFound { what: "user", name: name.clone() })
            }
            _ => Ok(()),
        }
    }

    fn apply(&self, accounts: &mut Accounts) -> Result<(), Error> {
        if accounts.group.find(&self.name).is_none() {
            let taken: Vec<u32> = accounts.group.numbers(2).map(|(_, id)| id).collect();
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
        let wanted = self.wanted(&members_of(&group));
        self.check_members(accounts, &wanted)?;
        let text = wanted.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        group.resize(4.max(group.len()), String::new());
        group[3].clone_from(&text);
        accounts.group.put(&group);
        if let Some(gshadow) = &mut accounts.gshadow {
            let new = || [&self.name, "!", "", ""].map(str::to_owned).to_vec();
            let mut row = gshadow.find(&self.name).unwrap_or_else(new);
            row.resize(4.max(row.len()), String::new());
            row[3] = text;
            gshadow.put(&row);
        }
        Ok(())
    }

    fn remove(&self, accounts: &mut Accounts) -> Result<(), Error> {
        let id = accounts.group.find(&self.name).and_then(|group| group.get(2)?.parse().ok());
        let mut primary = accounts.passwd.numbers(3);
        if let Some((user, _)) = primary.find(|(_, group)| Some(*group) == id) {
            let reason = format!("`{}` is the primary group of the user `{user}`", self.name);
            return Err(Error::Invalid { what: "Group resource", reason });
        }
        drop(primary);
        accounts.group.remove(&self.name);
        if let Some(gshadow) = &mut accounts.gshadow {
            gshadow.remove(&self.name);
        }
        Ok(())
    }
}

/// The members in a row of `/etc/group` or `/etc/gshadow`.
fn members_of(row: &[String]) -> BTreeSet<String> {
    let members = row.get(3).map(|text| list(text)).unwrap_or_default();
    members.into_iter().map(str::to_owned).collect()
}
