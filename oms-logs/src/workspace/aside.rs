//! Rows of tables that are damaged, until they are mended.

use super::Inner;
use crate::error::{Damage, Error};
use crate::ingest::batch::{Encoding, encode};
use crate::ingest::wal::{EntryWriter, put_held, remove_held};
use crate::repository::table::Table;
use crate::workspace::Workspace;
use oms_core::record::RecordType;
use oms_core::task::blocking;
use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

impl Workspace {
    /// The tables that are neither read nor written, and why: their logs are damaged. Every flush looks
    /// whether they were mended. Rows that they acknowledged before are durable, and come into them
    /// then.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn damage(&self) -> Result<Vec<Damage>, Error> {
        let tables = self.inner()?.tables.all();
        Ok(tables.into_iter().filter_map(|(_, table)| table.damage()).collect())
    }
}

impl Inner {
    fn aside(&self) -> MutexGuard<'_, BTreeMap<RecordType, u64>> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the rows of a table that cannot take them where the log's segments are not needed for them;
    /// `false` if they are needed, for there is no disk.
    pub(super) async fn put_aside(&self, table: &Table) -> Result<bool, Error> {
        let (parts, through) = table.waiting();
        if parts.is_empty() || self.aside().get(table.name()) == Some(&through) {
            return Ok(true);
        }
        let Some(disk) = self.log_disk.clone() else { return Ok(false) };
        let name = table.name().clone();
        blocking(move || {
            let mut batches = Vec::new();
            for (lsn, rows) in parts.iter().flat_map(|part| part.parts()) {
                let mut entry = EntryWriter::new(String::new(), lsn, 0);
                entry.section(name.as_str(), |out| encode(&rows, Encoding::Lz4, out))?;
                batches.push((lsn, entry.finish()));
            }
            put_held(disk.as_ref(), name.as_str(), &batches)
        })
        .await?;
        self.aside().insert(table.name().clone(), through);
        Ok(true)
    }

    /// Removes what was put aside for tables that have it.
    pub(super) async fn forget_aside(&self, tables: &[RecordType]) -> Result<(), Error> {
        for name in tables {
            if !self.aside().contains_key(name) {
                continue;
            }
            let Some(disk) = self.log_disk.clone() else { continue };
            let text = name.to_string();
            blocking(move || remove_held(disk.as_ref(), &text)).await?;
            self.aside().remove(name);
        }
        Ok(())
    }

    /// A flush that is not stopped by tables that are damaged, unless it is about one of them.
    pub(crate) fn but_for_others<T: Default>(
        flushed: Result<T, Error>,
        table: &RecordType,
    ) -> Result<T, Error> {
        match flushed {
            Err(Error::Damaged(damage)) if damage.table != table.as_str() => Ok(T::default()),
            flushed => flushed,
        }
    }
}
