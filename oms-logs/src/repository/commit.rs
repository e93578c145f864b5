//! From fresh batches to data files in a Delta table.
//!
//! Each commit carries a Delta application transaction: this workspace's id as the application, and
//! the log sequence of the newest row as its version. So the table itself knows which part of the
//! log it holds, and a commit whose outcome is unknown is looked up before it is tried again.

use crate::Error;
use crate::ingest::batch::unite;
use crate::repository::encode::encode;
use crate::repository::fresh::Fresh;
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
use std::path::Path;
use std::sync::Arc;
use url::Url;

/// Commits of a new table between two checkpoints, so that opening it reads few log files.
const CHECKPOINT_COMMITS: u32 = 20;

/// Commits that are tried when other writers come first.
const COMMIT_ATTEMPTS_MAX: u32 = 5;

/// One Delta table, as its only committer in this workspace sees it.
#[derive(Debug)]
pub(crate) struct Committer {
    table: RecordType,
    /// The application id of the transactions.
    app_id: String,
    /// The table's folder, from the root of the file system.
    root: ObjectPath,
    log_store: LogStoreRef,
    state: Option<DeltaTableState>,
    /// The newest log sequence that `state` holds; 0 if it holds none.
    through: u64,
    /// Whether `state` may lack a commit of this workspace: one was begun and its outcome not
    /// seen, or the table was not read to the end since.
    is_in_doubt: bool,
}

/// What a commit did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Committed {
    pub(crate) rows: u64,
    pub(crate) files: usize,
    pub(crate) bytes: u64,
}

impl Committer {
    /// Opens the table in `folder`, which may not be there yet; `store` is the whole file system.
    ///
    /// # Errors
    /// [`Error::Delta`], [`Error::Unsupported`].
    pub(crate) async fn open(
        table: RecordType,
        folder: &Path,
        app_id: String,
        store: Arc<dyn ObjectStore>,
    ) -> Result<Self, Error> {
        let url = Url::from_directory_path(folder).map_err(|()| Error::Internal {
            what: format!("table folder {} is not absolute", folder.display()),
        })?;
        let root = ObjectPath::from_url_path(url.path()).map_err(Error::file(&table))?;
        let prefixed = Arc::new(PrefixStore::new(Arc::clone(&store), root.clone()));
        let log_store = default_logstore(prefixed, store, &url, &StorageConfig::default());
        let mut committer =
            Self { table, app_id, root, log_store, state: None, through: 0, is_in_doubt: true };
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
            files.push(DataFile { path, size: view.size().unsigned_abs(), stats });
        }
        Ok(files)
    }

    /// Reads the newest version and what it holds: the doubt ends when both are known, so that a
    /// call that fails half way does not leave a table whose rows would be written again.
    async fn reload(&mut self) -> Result<(), Error> {
        self.is_in_doubt = true;
        let (log, table) = (self.log_store.as_ref(), &self.table);
        let exists = log.is_delta_table_location().await.map_err(Error::delta(table))?;
        (self.state, self.through) = if exists {
            let state = DeltaTableState::try_new(log, None).await.map_err(Error::delta(table))?;
            let held = state.transaction_version(log, &self.app_id).await;
            let held = held.map_err(Error::delta(table))?;
            (Some(state), held.and_then(|held| u64::try_from(held).ok()).unwrap_or(0))
        } else {
            (None, 0)
        };
        self.is_in_doubt = false;
        Ok(())
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
        for attempt in 1.. {
            let mut actions = self.schema_actions(schema, now, entropy)?;
            actions.extend(adds.iter().cloned());
            let Err(error) = self.write_log(actions, fresh.through, now).await else { break };
            // Another writer, such as a compaction, was first, or a late commit of an earlier call:
            // its version is read, and the same files are committed after it unless it has them.
            if attempt == COMMIT_ATTEMPTS_MAX || !is_conflict(&error) {
                return Err(error);
            }
            self.reload().await?;
            if self.through >= fresh.through {
                break;
            }
        }
        Ok(committed)
    }

    /// Writes the data files, synced; answers the actions that add them.
    async fn write_files(
        &self,
        schema: &Arc<TableSchema>,
        fresh: &Fresh,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<(Vec<Action>, Committed), Error> {
        let encoded = {
            let (schema, fresh) = (Arc::clone(schema), fresh.clone());
            blocking(move || encode(&schema, &unite(fresh.iter().map(|part| &part.batch))?)).await?
        };
        let mut committed = Committed { rows: fresh.rows, files: encoded.len(), bytes: 0 };
        let mut adds = Vec::new();
        for file in encoded {
            let id = entropy.uuid();
            let path =
                format!("{DAY_COLUMN}={}/part-{:020}-{id}.zstd.parquet", file.day, fresh.through);
            committed.bytes += file.bytes.len() as u64;
            adds.push(Action::Add(Add {
                path: path.clone(),
                partition_values: HashMap::from([(DAY_COLUMN.to_owned(), Some(file.day))]),
                size: i64::try_from(file.bytes.len()).unwrap_or(i64::MAX),
                modification_time: now.as_millisecond(),
                data_change: true,
                stats: Some(file.stats),
                ..Add::default()
            }));
            let store = self.log_store.object_store(None);
            store
                .put(&ObjectPath::from(path), file.bytes.into())
                .await
                .map_err(Error::file(&self.table))?;
        }
        Ok((adds, committed))
    }

    async fn write_log(
        &mut self,
        actions: Vec<Action>,
        through: u64,
        now: Timestamp,
    ) -> Result<(), Error> {
        let transaction = Transaction::new_with_last_update(
            &self.app_id,
            i64::try_from(through).unwrap_or(i64::MAX),
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
        self.state = Some(finished.snapshot());
        self.through = through;
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

/// Whether another commit stood in the way, so that nothing was committed.
fn is_conflict(error: &Error) -> bool {
    let Error::Delta { source, .. } = error else { return false };
    matches!(
        source.as_ref(),
        DeltaTableError::Transaction {
            source: TransactionError::CommitConflict(_) | TransactionError::MaxCommitAttempts(_)
        }
    )
}
