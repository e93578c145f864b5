//! That one writer of a shared store maintains its tables.

use crate::Error;
use crate::repository::commit::{Committer, EPOCH_MARK};
use crate::repository::share::Epoch;
use crate::repository::table::Table;
use crate::workspace::Inner;

impl Inner {
    /// Whether this process maintains the tables, which it does from here on if nobody else does.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(super) async fn owns_maintenance(&self) -> Result<bool, Error> {
        match self.epoch().await {
            Ok(_) => Ok(true),
            Err(Error::MaintainedElsewhere { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The ownership by which the tables are maintained; none if nobody else could.
    ///
    /// # Errors
    /// [`Error::MaintainedElsewhere`], [`Error::Store`].
    pub(super) async fn epoch(&self) -> Result<Option<Epoch>, Error> {
        match &self.share {
            Some(share) => share.duty.hold().await.map(Some),
            None => Ok(None),
        }
    }

    /// Makes sure that nobody who owned maintenance before changes a table, whose view is as new as
    /// that then.
    ///
    /// # Errors
    /// [`Error::MaintainedElsewhere`], [`Error::Store`], [`Error::Delta`].
    pub(super) async fn tend(&self, table: &Table) -> Result<Option<Epoch>, Error> {
        let Some(epoch) = self.epoch().await? else { return Ok(None) };
        table.tend(&epoch, |bytes| self.memory.release(bytes)).await?;
        Ok(Some(epoch))
    }
}

impl Table {
    async fn tend(&self, epoch: &Epoch, released: impl Fn(u64) + Send + Sync) -> Result<(), Error> {
        let mut committer = self.committer.lock().await;
        committer.refresh().await?;
        committer.check_epoch(Some(epoch))?;
        let number = epoch.number.to_string();
        if committer.version().is_some() && committer.mark(EPOCH_MARK) != Some(number.as_str()) {
            let check = |committer: &Committer| committer.check_epoch(Some(epoch));
            committer.set_mark(EPOCH_MARK, &number, check).await?;
        }
        released(self.catch_up(&committer)?);
        Ok(())
    }

    /// A property of the table, as it was read last.
    pub(super) async fn mark(&self, name: &str) -> Option<String> {
        self.committer.lock().await.mark(name).map(str::to_owned)
    }

    /// Gives the table a property, so that no commit lands that was begun before.
    pub(super) async fn set_mark(&self, name: &str, value: &str) -> Result<(), Error> {
        let mut committer = self.committer.lock().await;
        committer.refresh().await?;
        committer.set_mark(name, value, |_| Ok(())).await
    }
}
