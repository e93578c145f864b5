//! From fresh batches to data files in a Delta table.
//!
//! Each commit carries a Delta application transaction: this workspace's id as the application, and
//! the log sequence of the newest row as its version. So the table itself knows which part of the
//! log it holds, and a commit whose outcome is unknown is looked up before it is tried again.
//!
//! Files of rows that did not pass the log are committed likewise, as another application with a
//! version of its own: the count of such commits.
//!
//! Others may commit to the table meanwhile. Delta lets appends pass each other; a commit that comes
//! after a change of the table's metadata is refused, and made again from what the table is then.
//! What is to stop commits that were begun before it is therefore a change of the metadata, see
//! [`EPOCH_MARK`], [`VACUUM_MARK`] and [`SETTINGS_MARK`].

use crate::Error;
use crate::error::Damage;
use crate::ingest::batch::unite;
use crate::ingest::conform::reconcile;
use crate::repository::encode::{DAY_MICROSECONDS, EncodedFile, encode};
use crate::repository::fresh::{Fresh, FreshBatch};
use crate::repository::home::Home;
use crate::repository::integrity::{CHECKED_KEY, COMMIT_KEY, CheckedLog, FILE_SUFFIX, NO_LOG_SUM};
use crate::schema::{DAY_COLUMN, TableSchema};
use deltalake_core::DeltaTableError;
use deltalake_core::kernel::transaction::{
    CommitBuilder, CommitProperties, TableReference, TransactionError,
};
use deltalake_core::kernel::{Action, Add, Metadata, Protocol, Transaction};
use deltalake_core::logstore::LogStoreRef;
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::table::state::DeltaTableState;
use jiff::Timestamp;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt as _};
use oms_core::record::RecordType;
use oms_core::task::blocking;
use oms_core::{Clock, Entropy, EntropyExt as _};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;

mod read;

/// Commits of a new table between two checkpoints, so that opening it reads few log files.
const CHECKPOINT_COMMITS: u32 = 20;

/// Bytes of rows that are put together, sorted and encoded at a time, so that a flush of all that may
/// wait takes little more memory than it has already. More than what starts a flush by default, which
/// stays one file a day.
const ENCODED_BYTES_MAX: usize = 96 << 20;

/// Commits that are tried when other writers come first.
const COMMIT_ATTEMPTS_MAX: u32 = 5;

/// The same for commits that have to come right after the version that they were made from, which any
/// other one is in the way of.
pub(super) const CHANGE_ATTEMPTS_MAX: u32 = 20;

/// The property of a table that has the epoch of the ownership of its maintenance: whoever owned it
/// before changes nothing any more.
pub(crate) const EPOCH_MARK: &str = "oms.maintenanceEpoch";

/// The property of a table that changes before files are deleted that no commit names: whoever wrote
/// such files and did not commit them yet writes them again.
pub(crate) const VACUUM_MARK: &str = "oms.vacuum";

/// The property of a table that changes after its settings did: what was to be removed by the old
/// ones is not.
pub(crate) const SETTINGS_MARK: &str = "oms.settings";

/// The version of the transactions of an application that may not commit any more.
const BARRED: i64 = i64::MAX;

/// Looks for newer versions that ask for the next one alone, before one that lists the log: the next
/// one may have been cleaned up.
const CHEAP_LOOKS_MAX: u32 = 100;

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
    /// Looks for the next version since the log was listed.
    looks: u32,
    /// What the log is read and written through.
    log: Arc<CheckedLog>,
    /// The newest version that was ever seen here: a log that ends before it has lost some.
    seen: Option<u64>,
    /// Why the log could not be read the last time.
    damage: Option<Damage>,
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
    /// Lets no commit of another application land any more. Nothing if there is no table.
    ///
    /// # Errors
    /// [`Error::Delta`]: it is barred or not.
    pub(crate) async fn bar(&mut self, app_id: &str, clock: &dyn Clock) -> Result<(), Error> {
        for attempt in 1.. {
            self.refresh().await?;
            let Some(state) = &self.state else { break };
            let app_ids = [app_id.to_owned(), load_app_id(app_id)];
            let mut transactions = Vec::new();
            for app_id in app_ids {
                if self.transaction(state, &app_id).await? != Some(BARRED) {
                    let now = Some(clock.now().as_millisecond());
                    transactions.push(Transaction::new_with_last_update(app_id, BARRED, now));
                }
            }
            if transactions.is_empty() {
                break;
            }
            let properties =
                CommitProperties::default().with_application_transactions(transactions);
            match self.commit_actions(Vec::new(), append(), properties).await {
                Ok(()) => break,
                Err(error) if attempt >= CHANGE_ATTEMPTS_MAX || !is_conflict(&error) => {
                    return Err(error);
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Brings fresh batches into the table, once: batches that an earlier call brought in, though
    /// it failed or was given up, are not brought in again. None if the table has taken a column of
    /// theirs otherwise: they have to be brought into its columns first; or if it has some of them.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Delta`]; call again with the same batches.
    pub(crate) async fn commit(
        &mut self,
        schema: &Arc<TableSchema>,
        fresh: &Fresh,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<Option<Committed>, Error> {
        self.settle().await?;
        let part = Part::Logged(fresh.through);
        let mut committed = Committed { rows: fresh.rows, files: 0, bytes: 0 };
        let mut written = None;
        for attempt in 1.. {
            if self.holds(part) {
                break;
            }
            let is_in_part = fresh.first().is_some_and(|first| first <= self.through);
            if is_in_part || !self.takes(schema)? {
                return Ok(None);
            }
            let (now, mark) = (clock.now(), self.mark(VACUUM_MARK).map(str::to_owned));
            // What was written before a vacuum began may be gone.
            let adds = match written.take() {
                Some((adds, before)) if before == mark => adds,
                _ => {
                    let adds;
                    (adds, committed) = self.write_files(schema, fresh, now, entropy).await?;
                    adds
                }
            };
            let Err(error) = self.write(schema, &adds, part, now, entropy).await else { break };
            // Another writer, such as a compaction, was first, or a late commit of an earlier call:
            // its version is read, and the same files are committed after it unless it has them.
            if attempt == COMMIT_ATTEMPTS_MAX || !is_conflict(&error) {
                return Err(error);
            }
            written = Some((adds, mark));
            self.reload().await?;
        }
        Ok(Some(committed))
    }

    /// Brings files that [`put_files`] wrote into the table, once, as long as one call follows the
    /// other. One that fails may have brought them in nevertheless, if the table's log could not be
    /// read after it. `mark` is what [`VACUUM_MARK`] was before they were written.
    ///
    /// # Errors
    /// [`Error::Delta`]; [`Error::Superseded`] if another writer took their columns otherwise, or may
    /// have deleted them.
    pub(crate) async fn add(
        &mut self,
        schema: &Arc<TableSchema>,
        adds: &[Action],
        mark: Option<&str>,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<(), Error> {
        self.settle().await?;
        let part = Part::Loaded(self.loads + 1);
        let mut written = Ok(());
        for _ in 0..2 * COMMIT_ATTEMPTS_MAX {
            if self.is_in_doubt {
                // Without an answer: what became of it stands in the table's log.
                self.reload().await?;
                if self.holds(part) {
                    return Ok(());
                }
            }
            let superseded = |what: &str| {
                Err(Error::Superseded { table: self.table.to_string(), what: what.to_owned() })
            };
            if !self.takes(schema)? {
                return superseded("it has columns of these rows otherwise since");
            }
            if self.mark(VACUUM_MARK) != mark {
                return superseded("it was vacuumed while these rows were written");
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

    /// Whether rows of these columns go into the table as they are.
    fn takes(&self, schema: &TableSchema) -> Result<bool, Error> {
        let Some(stored) = self.schema()? else { return Ok(true) };
        Ok(reconcile(&stored, schema).is_none_or(|(_, yields)| !yields))
    }

    /// Commits files once.
    async fn write(
        &mut self,
        schema: &TableSchema,
        adds: &[Action],
        part: Part,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<(), Error> {
        let mut actions = self.schema_actions(schema, now, entropy)?;
        actions.extend(adds.iter().cloned());
        self.write_log(actions, part, now).await
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
        let mut properties = CommitProperties::default().with_application_transaction(transaction);
        if self.home.is_shared() {
            // What of the log is old enough to go is for one of its writers to say.
            properties = properties.with_cleanup_expired_logs(Some(false));
        }
        if self.state.is_none() {
            // The Delta library goes on from a first version that is there already, without asking
            // whose transaction it is. It may be ours, landed after its answer was given up.
            properties = properties.with_max_retries(0);
        }
        self.commit_actions(actions, append(), properties).await
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
        self.log.found();
        let properties = properties.with_metadata([
            (CHECKED_KEY.to_owned(), json!(true)),
            (COMMIT_KEY.to_owned(), json!(NO_LOG_SUM)),
        ]);
        let state = self.state.take();
        let before = state.as_ref().map(|state| state as &dyn TableReference);
        let commit = CommitBuilder::from(properties).with_actions(actions).build(
            before,
            Arc::clone(&self.log_store),
            operation,
        );
        let finished = commit.into_future().await.map_err(|error| self.failed(error))?;
        let state = finished.snapshot();
        // A commit that was given up before may have landed ahead of this one.
        (self.through, self.loads) = self.held(&state).await?;
        self.take(state);
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
        let text = serde_json::to_string(&grown).map_err(wrong)?;
        Ok(vec![self.metadata(state, &text, state.metadata().configuration())?])
    }

    /// The action that gives the table another schema, or other properties.
    fn metadata(
        &self,
        state: &DeltaTableState,
        schema: &str,
        properties: &HashMap<String, String>,
    ) -> Result<Action, Error> {
        let known = state.metadata();
        let metadata = serde_json::from_value(json!({
            "id": known.id(),
            "name": known.name(),
            "description": known.description(),
            "format": {"provider": "parquet", "options": {}},
            "schemaString": schema,
            "partitionColumns": known.partition_columns(),
            "configuration": properties,
            "createdTime": known.created_time(),
        }));
        metadata.map(Action::Metadata).map_err(|error| Error::Internal {
            what: format!("delta action of table {} is not valid: {error}", self.table),
        })
    }

    /// Gives the table a property, so that no commit lands that was begun before and does not know
    /// it. Nothing if there is no table. `check` has to allow it for what the table is then.
    ///
    /// # Errors
    /// [`Error::Delta`]: it has it or not. Those of `check`.
    pub(crate) async fn set_mark(
        &mut self,
        name: &str,
        value: &str,
        check: impl Fn(&Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for attempt in 1.. {
            self.settle().await?;
            check(self)?;
            let Some(state) = &self.state else { break };
            if self.mark(name) == Some(value) {
                break;
            }
            let schema = serde_json::to_string(state.schema().as_ref());
            let schema = schema.map_err(|error| Error::Internal { what: error.to_string() })?;
            let mut properties = state.metadata().configuration().clone();
            properties.insert(name.to_owned(), value.to_owned());
            let action = self.metadata(state, &schema, &properties)?;
            let properties = HashMap::from([(name.to_owned(), value.to_owned())]);
            let operation = DeltaOperation::SetTableProperties { properties };
            // Once, since the metadata are those of the version that was read.
            let once = CommitProperties::default().with_max_retries(0);
            match self.commit_actions(vec![action], operation, once).await {
                Ok(()) => break,
                Err(error) if attempt >= CHANGE_ATTEMPTS_MAX || !is_conflict(&error) => {
                    return Err(error);
                }
                Err(_) => {}
            }
        }
        Ok(())
    }
}

/// The application id of the rows that do not pass the log.
fn load_app_id(app_id: &str) -> String {
    format!("{app_id}-load")
}

fn append() -> DeltaOperation {
    DeltaOperation::Write {
        mode: SaveMode::Append,
        partition_by: Some(vec![DAY_COLUMN.to_owned()]),
        predicate: None,
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
        let path = format!("{DAY_COLUMN}={}/{name}-{}{FILE_SUFFIX}", file.day, entropy.uuid());
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
