//! The tables of a workspace, and what the log adds to them after a restart.

use crate::Error;
use crate::ingest::batch::decode;
use crate::ingest::wal::{self, Entry, read_held};
use crate::repository::heads::{Head, Heads};
use crate::repository::home::Home;
use crate::repository::memory::Memory;
use crate::repository::table::Table;
use crate::repository::terms::TermsCache;
use crate::workspace::{LogDamage, TABLES_MAX};
use arrow::array::RecordBatch;
use oms_core::record::RecordType;
use oms_core::task::blocking;
use std::collections::{BTreeMap, BTreeSet};
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
    /// The newest versions that were seen.
    pub(crate) heads: Heads,
}

impl Tables {
    /// Opens the tables that there are, for the application of this id.
    pub(crate) async fn open(home: Home, app_id: String, heads: Heads) -> Result<Self, Error> {
        let mut names = home.names().await?;
        // A table whose folder is gone is one that is damaged.
        names.extend(heads.all().into_keys());
        let (open, terms) = (RwLock::default(), Arc::default());
        let tables = Self { home, app_id, open, terms, heads };
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

    /// The names of those that have rows, or may have some: whoever asks for all of them is told of a
    /// damaged one.
    pub(crate) fn names(&self) -> Vec<String> {
        let may_have_rows = |table: &Table| table.view().rows() > 0 || table.damage().is_some();
        let tables = self.all().into_iter().filter(|(_, table)| may_have_rows(table));
        tables.map(|(name, _)| name.into()).collect()
    }

    pub(crate) async fn find_or_open(&self, name: &RecordType) -> Result<Arc<Table>, Error> {
        if let Some(table) = self.find(name) {
            return Ok(table);
        }
        let (home, terms) = (self.home.table(name)?, Arc::clone(&self.terms));
        let seen = self.heads.of(name.as_str()).map(|head| head.version);
        let table = Table::open(name.clone(), home, self.app_id.clone(), seen, terms).await?;
        if let Some(damage) = table.damage() {
            tracing::error!(%damage, "the table is not read or written, others are");
        }
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

impl Tables {
    /// A table that takes rows, opened if need be.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it cannot keep them; those of opening it.
    pub(crate) async fn for_writing(&self, name: &RecordType) -> Result<Arc<Table>, Error> {
        let table = self.find_or_open(name).await?;
        match table.damage() {
            Some(damage) => Err(Error::Damaged(damage)),
            None => Ok(table),
        }
    }

    /// Makes durable which versions were seen.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub(crate) async fn save_heads(self: &Arc<Self>) -> Result<(), Error> {
        for (name, table) in self.all() {
            if let Some(version) = table.view().delta_version {
                let through = table.through().await;
                self.heads.note(name.as_str(), Head { version, through });
            }
        }
        let tables = Arc::clone(self);
        blocking(move || tables.heads.save()).await
    }
}

/// What the log holds that the tables do not.
struct Replayed {
    /// The newest log sequence that each table holds.
    held: BTreeMap<RecordType, u64>,
    entries: Vec<(u64, RecordType, RecordBatch)>,
    /// What was taken: rows that were put aside may be in a segment as well.
    seen: BTreeSet<(u64, RecordType)>,
}

impl Replayed {
    fn take(&mut self, lsn: u64, entry: Entry) -> Result<(), Error> {
        for section in entry.sections {
            let name: RecordType = section.table.parse().map_err(|error| Error::Internal {
                what: format!("log sequence {lsn} has a table of no valid name: {error}"),
            })?;
            let is_new = lsn > self.held.get(&name).copied().unwrap_or(0);
            if self.seen.insert((lsn, name.clone())) && is_new {
                self.entries.push((lsn, name, decode(&section.ipc)?));
            }
        }
        Ok(())
    }
}

/// Takes an entry of a log.
pub(crate) type Replay<'a> = &'a mut dyn FnMut(u64, Entry) -> Result<(), Error>;

/// Reads a log into the tables, without what they hold already. `read` is given the highest log
/// sequence that one of them holds, and who takes the entries. It may block.
pub(crate) async fn replay<T: Send + 'static>(
    tables: &Tables,
    memory: &Arc<Memory>,
    read: impl FnOnce(u64, Replay<'_>) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (mut held, mut floor) = (BTreeMap::new(), 0);
    for head in tables.heads.all().into_values() {
        floor = head.through.max(floor);
    }
    for (name, table) in tables.all() {
        let through = table.through().await;
        floor = through.max(floor);
        held.insert(name, through);
    }
    let (opened, entries) = blocking(move || {
        let mut replayed = Replayed { held, entries: Vec::new(), seen: BTreeSet::new() };
        let opened = read(floor, &mut |lsn, entry| replayed.take(lsn, entry))?;
        Ok::<_, Error>((opened, replayed.entries))
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

/// What was read of a log on a disk: the log, its damage, and the newest log sequence of what was put
/// aside for each table.
pub(crate) type LogRead = (wal::Wal, Vec<LogDamage>, BTreeMap<RecordType, u64>);

/// Opens a log on a disk, and hands over what it holds and what was put aside.
///
/// # Errors
/// Those of [`wal::open`], and of `replay`.
pub(crate) fn read_log(mut log: wal::Open, replay: Replay<'_>) -> Result<LogRead, Error> {
    let (aside, mut damages) = read_held(log.disk.as_ref(), log.quarantine)?;
    let mut put_aside = BTreeMap::new();
    for (lsn, entry) in aside {
        log.floor = log.floor.max(lsn);
        let names = entry.sections.iter().filter_map(|section| section.table.parse().ok());
        for name in names.collect::<Vec<RecordType>>() {
            let newest = put_aside.entry(name).or_insert(lsn);
            *newest = lsn.max(*newest);
        }
        replay(lsn, entry)?;
    }
    let (wal, found) = wal::open(log, replay)?;
    damages.extend(found);
    Ok((wal, damages, put_aside))
}
