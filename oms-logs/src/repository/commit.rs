//! From fresh batches to data files in a Delta table.
//!
//! Each commit carries a Delta application transaction: this workspace's id as the application, and
//! the log sequence of the newest row as its version. So the table itself knows which part of the
//! log it holds, and a commit whose outcome is unknown is looked up before it is tried again.
//!
//! Files of rows that did not pass the log are committed likewise, as another application with a
//! version of its own: the count of such commits.

use crate::Error;
use crate::ingest::batch::unite;
use crate::repository::encode::{DAY_MICROSECONDS, EncodedFile, encode};
use crate::repository::fresh::{Fresh, FreshBatch};
use crate::repository::home::Home;
use crate::repository::snapshot::{DataFile, FileStats};
use crate::schema::{DAY_COLUMN, TableSchema};
use deltalake_core::DeltaTableError;
use deltalake_core::kernel::transaction::{
    CommitBuilder, CommitProperties, TableReference, TransactionError,
};
use deltalake_core::kernel::{Action, Add, Metadata, Protocol, Transaction};
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::table::state::DeltaTableState;
use jiff::Timestamp;
use object_store::path::Path as ObjectPath;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt as _};
use oms_core::record::RecordType;
use oms_core::task::blocking;
use oms_core::{Clock, Entropy, EntropyExt as _};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;

/// Commits of a new table between two checkpoints, so that opening it reads few log files.
const CHECKPOINT_COMMITS: u32 = 20;

/// Bytes of rows that are put together, sorted and encoded at a time, so that a flush of all that may
/// wait takes little more memory than it has already. More than what starts a flush by default, which
/// stays one file a day.
const ENCODED_BYTES_MAX: usize = 96 << 20;

/// Commits that are tried when other writers come first.
pub(super) const COMMIT_ATTEMPTS_MAX: u32 = 5;

/// One Delta table, as its only committer in this workspace sees it.
#[derive(Debug)]
pub(crate) struct Committer {
    pub(super) table: RecordType,
    /// The application id of the transactions of logged rows.
    app_id: String,
    /// That of rows which did not pass the log.
    load_app_id: String,
    home: Arc<Home>,
    /// The table's folder, from the root of the store.
    pub(super) root: ObjectPath,
    pub(super) log_store: LogStoreRef,
    pub(super) state: Option<DeltaTableState>,
    /// The newest log sequence that `state` holds; 0 if it holds none.
    through: u64,
    /// How many commits of rows that did not pass the log it holds.
    loads: u64,
    /// Whether `state` may lack a commit of this workspace: one was begun and its outcome not
    /// seen, or the table was not read to the end since.
    pub(super) is_in_doubt: bool,
}

/// What a commit brings into the table, and the version of its transaction.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// The rows of the log up to this sequence.
    Logged(u64),
    /// Rows that did not pass the log, in this commit of them, counted from 1.
    Loaded(u64),
}

/// What a commit did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Committed {
    pub(crate) rows: u64,
    pub(crate) files: usize,
    pub(crate) bytes: u64,
}

impl Committer {
    /// Opens the table in the folder `home`, which may not be there yet.
    ///
    /// # Errors
    /// [`Error::Delta`], [`Error::Unsupported`].
    pub(crate) async fn open(
        table: RecordType,
        home: Arc<Home>,
        app_id: String,
    ) -> Result<Self, Error> {
        let (root, store) = (home.path()?, Arc::clone(home.store()));
        let prefixed = Arc::new(PrefixStore::new(Arc::clone(&store), root.clone()));
        let log_store = default_logstore(prefixed, store, home.url(), &StorageConfig::default());
        let load_app_id = format!("{app_id}-load");
        let (state, through, loads, is_in_doubt) = (None, 0, 0, true);
        let mut committer = Self {
            table,
            app_id,
            load_app_id,
            home,
            root,
            log_store,
            state,
            through,
            loads,
            is_in_doubt,
        };
        committer.reload().await?;
        Ok(committer)
    }

    /// The newest log sequence that the table holds; 0 if it holds none.
    pub(crate) const fn through(&self) -> u64 {
        self.through
    }

    /// The schema in the Delta log; none if there is no table yet.
    pub(crate) fn schema(&self) -> Result<Option<TableSchema>, Error> {
        let Some(state) = &self.state else { return Ok(None) };
        TableSchema::of_delta(&self.table, &state.schema()).map(Some)
    }

    /// The Delta version; none if there is no table yet.
    pub(crate) fn version(&self) -> Option<u64> {
        self.state.as_ref().map(DeltaTableState::version)
    }

    /// The data files of that version.
    pub(crate) fn files(&self) -> Result<Vec<DataFile>, Error> {
        let Some(state) = &self.state else { return Ok(Vec::new()) };
        let mut files = Vec::new();
        for view in state.log_data().iter() {
            if view.deletion_vector_descriptor().is_some() {
                return Err(Error::Unsupported {
                    table: self.table.to_string(),
                    what: format!("deletion vector of file {}", view.path()),
                });
            }
            let path = self.root.parts().chain(view.object_store_path().parts()).collect();
            let stats = FileStats::parse(view.stats().as_deref());
            let days = view.partition_values_map();
            let day = days.get(DAY_COLUMN).and_then(|day| day_number(day.as_deref()?));
            let (home, size) = (Arc::clone(&self.home), view.size().unsigned_abs());
            files.push(DataFile { home, path, size, day, stats });
        }
        Ok(files)
    }

    /// Reads the newest version and what it holds: the doubt ends when both are known, so that a
    /// call that fails half way does not leave a table whose rows would be written again.
    pub(super) async fn reload(&mut self) -> Result<(), Error> {
        self.is_in_doubt = true;
        let (log, table) = (self.log_store.as_ref(), &self.table);
        let exists = log.is_delta_table_location().await.map_err(Error::delta(table))?;
        (self.state, self.through, self.loads) = if exists {
            let state = DeltaTableState::try_new(log, None).await.map_err(Error::delta(table))?;
            let (through, loads) = self.held(&state).await?;
            (Some(state), through, loads)
        } else {
            (None, 0, 0)
        };
        self.is_in_doubt = false;
        Ok(())
    }

    /// The newest log sequence that a state of the table holds, and its commits of rows that did not
    /// pass the log; 0 if it holds none.
    async fn held(&self, state: &DeltaTableState) -> Result<(u64, u64), Error> {
        let version = async |app_id: &String| {
            let held = state.transaction_version(self.log_store.as_ref(), app_id).await;
            let held = held.map_err(Error::delta(&self.table))?;
            Ok::<u64, Error>(held.and_then(|held| u64::try_from(held).ok()).unwrap_or(0))
        };
        Ok((version(&self.app_id).await?, version(&self.load_app_id).await?))
    }

    /// Brings fresh batches into the table, once: batches that an earlier call brought in, though
    /// it failed or was given up, are not brought in again.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Delta`]; call again with the same batches.
    pub(crate) async fn commit(
        &mut self,
        schema: &Arc<TableSchema>,
        fresh: &Fresh,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<Committed, Error> {
        if self.is_in_doubt {
            self.reload().await?;
        }
        if self.through >= fresh.through {
            return Ok(Committed { rows: fresh.rows, files: 0, bytes: 0 });
        }
        let now = clock.now();
        let (adds, committed) = self.write_files(schema, fresh, now, entropy).await?;
        self.write(schema, &adds, Part::Logged(fresh.through), now, entropy).await?;
        Ok(committed)
    }

    /// Brings files that [`put_files`] wrote into the table, once, as long as one call follows the
    /// other. One that fails may have brought them in nevertheless, if the table's log could not be
    /// read after it.
    ///
    /// # Errors
    /// [`Error::Delta`].
    pub(crate) async fn add(
        &mut self,
        schema: &Arc<TableSchema>,
        adds: &[Action],
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<(), Error> {
        if self.is_in_doubt {
            self.reload().await?;
        }
        let part = Part::Loaded(self.loads + 1);
        let mut written = Ok(());
        for _ in 0..COMMIT_ATTEMPTS_MAX {
            if self.is_in_doubt {
                // Without an answer: what became of it stands in the table's log.
                self.reload().await?;
                if self.holds(part) {
                    return Ok(());
                }
            }
            written = self.write(schema, adds, part, clock.now(), entropy).await;
            if written.is_ok() {
                break;
            }
        }
        written
    }

    /// Whether the table holds it.
    const fn holds(&self, part: Part) -> bool {
        match part {
            Part::Logged(through) => self.through >= through,
            Part::Loaded(loads) => self.loads >= loads,
        }
    }

    /// Commits files, after other writers if they come first.
    async fn write(
        &mut self,
        schema: &TableSchema,
        adds: &[Action],
        part: Part,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<(), Error> {
        for attempt in 1.. {
            let mut actions = self.schema_actions(schema, now, entropy)?;
            actions.extend(adds.iter().cloned());
            let Err(error) = self.write_log(actions, part, now).await else { break };
            // Another writer, such as a compaction, was first, or a late commit of an earlier call:
            // its version is read, and the same files are committed after it unless it has them.
            if attempt == COMMIT_ATTEMPTS_MAX || !is_conflict(&error) {
                return Err(error);
            }
            self.reload().await?;
            if self.holds(part) {
                break;
            }
        }
        Ok(())
    }

    /// Writes the data files, synced; answers the actions that add them.
    async fn write_files(
        &self,
        schema: &Arc<TableSchema>,
        fresh: &Fresh,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<(Vec<Action>, Committed), Error> {
        let (store, name) = (self.store(), format!("part-{:020}", fresh.through));
        let mut adds = Vec::new();
        let mut committed = Committed { rows: fresh.rows, ..Committed::default() };
        for parts in rounds(fresh) {
            let schema = Arc::clone(schema);
            let encoded = blocking(move || {
                let parts = parts.iter().map(|part| part.with_ids());
                let parts = parts.collect::<Result<Vec<_>, Error>>()?;
                encode(&schema, &unite(parts.iter())?)
            })
            .await?;
            committed.files += encoded.len();
            committed.bytes += encoded.iter().map(|file| file.bytes.len() as u64).sum::<u64>();
            adds.extend(put_files(&store, &self.table, encoded, &name, now, entropy).await?);
        }
        Ok((adds, committed))
    }

    /// Where the table's files are.
    pub(crate) fn store(&self) -> Arc<dyn ObjectStore> {
        self.log_store.object_store(None)
    }

    async fn write_log(
        &mut self,
        actions: Vec<Action>,
        part: Part,
        now: Timestamp,
    ) -> Result<(), Error> {
        let (app_id, version) = match part {
            Part::Logged(through) => (&self.app_id, through),
            Part::Loaded(loads) => (&self.load_app_id, loads),
        };
        let transaction = Transaction::new_with_last_update(
            app_id,
            i64::try_from(version).unwrap_or(i64::MAX),
            Some(now.as_millisecond()),
        );
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: Some(vec![DAY_COLUMN.to_owned()]),
            predicate: None,
        };
        let mut properties = CommitProperties::default().with_application_transaction(transaction);
        if self.state.is_none() {
            // The Delta library goes on from a first version that is there already, without asking
            // whose transaction it is. It may be ours, landed after its answer was given up.
            properties = properties.with_max_retries(0);
        }
        self.commit_actions(actions, operation, properties).await
    }

    /// Makes one commit. If this fails or is given up, its outcome is unknown.
    pub(super) async fn commit_actions(
        &mut self,
        actions: Vec<Action>,
        operation: DeltaOperation,
        properties: CommitProperties,
    ) -> Result<(), Error> {
        // Set before the first await, so that a call that is given up leaves it set.
        self.is_in_doubt = true;
        let state = self.state.take();
        let before = state.as_ref().map(|state| state as &dyn TableReference);
        let commit = CommitBuilder::from(properties).with_actions(actions).build(
            before,
            Arc::clone(&self.log_store),
            operation,
        );
        let finished = commit.into_future().await.map_err(Error::delta(&self.table))?;
        let state = finished.snapshot();
        // A commit that was given up before may have landed ahead of this one.
        (self.through, self.loads) = self.held(&state).await?;
        self.state = Some(state);
        self.is_in_doubt = false;
        Ok(())
    }

    /// What brings the Delta schema to `schema`: everything for a new table, nothing for a table
    /// that has its columns.
    fn schema_actions(
        &self,
        schema: &TableSchema,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Vec<Action>, Error> {
        let wrong = |error: serde_json::Error| Error::Internal {
            what: format!("delta action of table {} is not valid: {error}", self.table),
        };
        let Some(state) = &self.state else {
            let text = serde_json::to_string(&schema.delta()?).map_err(wrong)?;
            let protocol: Protocol =
                serde_json::from_value(json!({"minReaderVersion": 1, "minWriterVersion": 2}))
                    .map_err(wrong)?;
            let metadata: Metadata = serde_json::from_value(json!({
                "id": entropy.uuid().to_string(),
                "name": self.table.as_str(),
                "format": {"provider": "parquet", "options": {}},
                "schemaString": text,
                "partitionColumns": [DAY_COLUMN],
                "configuration": {"delta.checkpointInterval": CHECKPOINT_COMMITS.to_string()},
                "createdTime": now.as_millisecond(),
            }))
            .map_err(wrong)?;
            return Ok(vec![Action::Protocol(protocol), Action::Metadata(metadata)]);
        };
        let stored = TableSchema::of_delta(&self.table, &state.schema())?;
        let has_all = schema.columns().iter().all(|column| stored.column(&column.name).is_some());
        if has_all {
            return Ok(Vec::new());
        }
        let grown = stored.with_columns(schema.columns().iter().cloned()).delta()?;
        let known = state.metadata();
        let metadata: Metadata = serde_json::from_value(json!({
            "id": known.id(),
            "name": known.name(),
            "description": known.description(),
            "format": {"provider": "parquet", "options": {}},
            "schemaString": serde_json::to_string(&grown).map_err(wrong)?,
            "partitionColumns": known.partition_columns(),
            "configuration": known.configuration(),
            "createdTime": known.created_time(),
        }))
        .map_err(wrong)?;
        Ok(vec![Action::Metadata(metadata)])
    }
}

/// The batches in their order, as many at a time as are encoded together: at least one.
fn rounds(fresh: &Fresh) -> Vec<Vec<Arc<FreshBatch>>> {
    let (mut rounds, mut bytes) = (Vec::<Vec<_>>::new(), 0);
    for part in fresh.iter() {
        let size = part.batch.get_array_memory_size();
        bytes += size;
        match rounds.last_mut() {
            Some(round) if bytes <= ENCODED_BYTES_MAX => round.push(Arc::clone(part)),
            _ => {
                rounds.push(vec![Arc::clone(part)]);
                bytes = size;
            }
        }
    }
    rounds
}

/// Writes data files, synced, under names that begin with `name`; answers the actions that add them.
/// Nobody sees them before.
///
/// # Errors
/// [`Error::File`].
pub(crate) async fn put_files(
    store: &Arc<dyn ObjectStore>,
    table: &RecordType,
    files: Vec<EncodedFile>,
    name: &str,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<Vec<Action>, Error> {
    let mut adds = Vec::with_capacity(files.len());
    for file in files {
        let path = format!("{DAY_COLUMN}={}/{name}-{}.zstd.parquet", file.day, entropy.uuid());
        adds.push(Action::Add(Add {
            path: path.clone(),
            partition_values: HashMap::from([(DAY_COLUMN.to_owned(), Some(file.day))]),
            size: i64::try_from(file.bytes.len()).unwrap_or(i64::MAX),
            modification_time: now.as_millisecond(),
            data_change: true,
            stats: Some(file.stats),
            ..Add::default()
        }));
        store.put(&ObjectPath::from(path), file.bytes.into()).await.map_err(Error::file(table))?;
    }
    Ok(adds)
}

/// Whether another commit stood in the way, so that nothing was committed.
pub(super) fn is_conflict(error: &Error) -> bool {
    let Error::Delta { source, .. } = error else { return false };
    matches!(
        source.as_ref(),
        DeltaTableError::Transaction {
            source: TransactionError::CommitConflict(_) | TransactionError::MaxCommitAttempts(_)
        }
    )
}

/// The number of a day since 1970, from a Delta partition value.
fn day_number(text: &str) -> Option<i64> {
    let day: jiff::civil::Date = text.parse().ok()?;
    let start = jiff::tz::Offset::UTC.to_timestamp(day.to_datetime(jiff::civil::Time::midnight()));
    Some(start.ok()?.as_microsecond().div_euclid(DAY_MICROSECONDS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{RecordBatch, StringArray};

    fn batch(bytes: usize) -> RecordBatch {
        // Many rows, so that it stays apart.
        let mut texts = vec![String::new(); 1_000];
        texts[0] = "x".repeat(bytes);
        let column = Arc::new(StringArray::from(texts)) as _;
        RecordBatch::try_from_iter([("Text", column)]).expect("a batch")
    }

    #[test]
    fn few_bytes_are_encoded_together_and_many_apart_in_their_order() {
        let sizes = |megabytes: &[usize]| {
            let mut fresh = Fresh::default();
            for (at, size) in megabytes.iter().enumerate() {
                fresh.push(0, at as u64 + 1, batch(size << 20), 0);
            }
            let size = |part: &Arc<FreshBatch>| part.batch.get_array_memory_size() >> 20;
            let rounds = rounds(&fresh);
            rounds.iter().map(|round| round.iter().map(size).collect()).collect::<Vec<Vec<_>>>()
        };
        assert_eq!(sizes(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(sizes(&[30, 30, 30]), [[30, 30, 30]]);
        assert_eq!(sizes(&[60, 30, 30, 1]), [vec![60, 30], vec![30, 1]]);
        assert_eq!(sizes(&[1, 200, 1]), [[1], [200], [1]], "one batch is not cut");
    }
}
