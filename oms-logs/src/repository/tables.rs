//! The tables of a workspace, and what the log adds to them after a restart.

use crate::Error;
use crate::ingest::batch::decode;
use crate::ingest::wal;
use crate::repository::folder::Identity;
use crate::repository::home::Home;
use crate::repository::memory::Memory;
use crate::repository::table::Table;
use crate::repository::terms::TermsCache;
use crate::workspace::{LogDamage, TABLES_MAX};
use arrow::array::RecordBatch;
use oms_core::record::RecordType;
use oms_core::task::blocking;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// The tables of a workspace.
#[derive(Debug)]
pub(crate) struct Tables {
    home: Home,
    /// The application id of the Delta transactions.
    app_id: String,
    open: RwLock<BTreeMap<RecordType, Arc<Table>>>,
    /// The indexes of terms that queries read.
    terms: Arc<TermsCache>,
}

impl Tables {
    pub(crate) async fn open(home: Home, identity: &Identity) -> Result<Self, Error> {
        let names = home.names().await?;
        let (open, terms) = (RwLock::default(), Arc::default());
        let tables = Self { home, app_id: identity.app_id(), open, terms };
        for name in names {
            let Ok(name) = name.parse::<RecordType>() else { continue };
            tables.find_or_open(&name).await?;
        }
        Ok(tables)
    }

    /// Opens the tables that other writers made since.
    pub(crate) async fn discover(&self) -> Result<(), Error> {
        for name in self.home.names().await? {
            let Ok(name) = name.parse::<RecordType>() else { continue };
            self.find_or_open(&name).await?;
        }
        Ok(())
    }

    pub(crate) fn find(&self, name: &RecordType) -> Option<Arc<Table>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(crate) fn all(&self) -> Vec<(RecordType, Arc<Table>)> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.iter().map(|(name, table)| (name.clone(), Arc::clone(table))).collect()
    }

    pub(crate) async fn find_or_open(&self, name: &RecordType) -> Result<Arc<Table>, Error> {
        if let Some(table) = self.find(name) {
            return Ok(table);
        }
        let (home, terms) = (self.home.table(name)?, Arc::clone(&self.terms));
        let table = Table::open(name.clone(), home, self.app_id.clone(), terms).await?;
        let table = Arc::new(table);
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= TABLES_MAX && !open.contains_key(name) {
            return Err(Error::Unsupported {
                table: name.to_string(),
                what: format!("more than {TABLES_MAX} tables"),
            });
        }
        // Another writer may have been faster; everyone uses the same one.
        Ok(Arc::clone(open.entry(name.clone()).or_insert(table)))
    }
}

/// Reads the log into the tables, without what they hold already. Answers its damage, too.
pub(crate) async fn replay(
    mut log: wal::Open,
    tables: &Tables,
    memory: &Arc<Memory>,
) -> Result<(wal::Wal, Vec<LogDamage>), Error> {
    let mut held = BTreeMap::new();
    for (name, table) in tables.all() {
        let through = table.through().await;
        log.floor = log.floor.max(through);
        held.insert(name, through);
    }
    let (opened, entries) = blocking(move || {
        let mut entries: Vec<(u64, RecordType, RecordBatch)> = Vec::new();
        let opened = wal::open(log, |lsn, entry| {
            for section in entry.sections {
                let name: RecordType = section.table.parse().map_err(|error| Error::Internal {
                    what: format!("log sequence {lsn} has a table of no valid name: {error}"),
                })?;
                if lsn > held.get(&name).copied().unwrap_or(0) {
                    entries.push((lsn, name, decode(&section.ipc)?));
                }
            }
            Ok(())
        })?;
        Ok::<_, Error>((opened, entries))
    })
    .await?;
    for (lsn, name, batch) in entries {
        let table = tables.find_or_open(&name).await?;
        let batch = table.adopt(batch)?;
        let bytes = batch.get_array_memory_size() as u64;
        if let Some(reserved) = memory.reserve(bytes, u64::MAX) {
            reserved.keep();
        }
        table.publish(lsn, batch, bytes);
    }
    Ok(opened)
}
