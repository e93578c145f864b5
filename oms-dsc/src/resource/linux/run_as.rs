//! `User` and `Group` of what runs programs for an instance.

use super::accounts::Names;
use super::command::Program;
use super::property::Properties;
use super::tree::Root;
use crate::Error;

/// As whom a program runs.
#[derive(Clone, Debug, Default)]
pub(super) struct RunAs {
    /// User and group, where they are not those of this process.
    pub(super) identity: (Option<u32>, Option<u32>),
    home: Option<String>,
}

impl RunAs {
    /// `User` and `Group` of an instance. A user without a group has the user's first.
    ///
    /// # Errors
    /// Of a name that no account has.
    pub(super) fn of(read: &Properties<'_>) -> Result<Self, Error> {
        let (user, group) = (read.filled("User")?, read.filled("Group")?);
        if user.is_none() && group.is_none() {
            return Ok(Self::default());
        }
        let names = Names::read(&Root::everywhere())?;
        let account = user.map(|user| names.account(user)).transpose()?;
        let group = group.map(|group| names.group(group)).transpose()?;
        let own = account.as_ref().map(|account| account.group);
        let identity = (account.as_ref().map(|account| account.id), group.or(own));
        Ok(Self { identity, home: account.map(|account| account.home) })
    }

    pub(super) fn apply(&self, program: &mut Program) {
        program.identity = self.identity;
        program.environment.extend(self.home.clone().map(|home| ("HOME".to_owned(), home)));
    }
}
