//! What a table's Delta log says.

use super::{BARRED, CHEAP_LOOKS_MAX, Committer, day_number, load_app_id};
use crate::Error;
use crate::error::Damage;
use crate::repository::home::Home;
use crate::repository::integrity::CheckedLog;
use crate::repository::share::writer_of;
use crate::repository::snapshot::{DataFile, FileStats};
use crate::schema::{DAY_COLUMN, TableSchema};
use deltalake_core::DeltaTableError;
use deltalake_core::logstore::{StorageConfig, default_logstore};
use deltalake_core::table::state::DeltaTableState;
use object_store::path::Path as ObjectPath;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt as _};
use oms_core::record::RecordType;
use std::sync::Arc;

impl Committer {
    /// Opens the table in the folder `home`, which may not be there yet, and whose newest version here
    /// was `seen`. One whose log is damaged is opened all the same, and every use of it tries to read
    /// it again.
    ///
    /// # Errors
    /// [`Error::Delta`], [`Error::Unsupported`].
    pub(crate) async fn open(
        table: RecordType,
        home: Arc<Home>,
        app_id: String,
        seen: Option<u64>,
    ) -> Result<Self, Error> {
        let root = home.path()?;
        let inner = Arc::clone(home.store());
        let log = Arc::new(CheckedLog::new(inner, root.clone(), table.to_string()));
        let store: Arc<dyn ObjectStore> = Arc::<CheckedLog>::clone(&log);
        let prefixed = Arc::new(PrefixStore::new(Arc::clone(&store), root.clone()));
        let log_store = default_logstore(prefixed, store, home.url(), &StorageConfig::default());
        let load_app_id = load_app_id(&app_id);
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
            looks: 0,
            log,
            seen,
            damage: None,
        };
        match committer.reload().await {
            // Other tables are read and written meanwhile.
            Ok(()) | Err(Error::Damaged(_)) => Ok(committer),
            Err(error) => Err(error),
        }
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

    /// Reads the table again if the outcome of an earlier commit is not known.
    pub(crate) async fn settle(&mut self) -> Result<(), Error> {
        if self.is_in_doubt { self.reload().await } else { Ok(()) }
    }

    /// Reads what was committed since. One question tells if there is nothing new.
    ///
    /// # Errors
    /// [`Error::Delta`].
    pub(crate) async fn refresh(&mut self) -> Result<(), Error> {
        let Some(next) = self.version().map(|version| version + 1) else {
            return self.reload().await;
        };
        if self.is_in_doubt {
            return self.reload().await;
        }
        self.looks += 1;
        if self.looks <= CHEAP_LOOKS_MAX && !self.has_version(next).await? {
            return Ok(());
        }
        let Some(mut state) = self.state.take() else { return self.reload().await };
        self.is_in_doubt = true;
        let log = self.log_store.as_ref();
        self.log.found();
        if let Err(error) = state.update(log, None).await {
            return Err(self.unreadable(error));
        }
        (self.through, self.loads) = self.held(&state).await?;
        self.take(state);
        (self.is_in_doubt, self.looks) = (false, 0);
        Ok(())
    }

    async fn has_version(&self, version: u64) -> Result<bool, Error> {
        let path = ObjectPath::from(format!("_delta_log/{version:020}.json"));
        match self.store().head(&path).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(Error::delta(&self.table)(error.into())),
        }
    }

    /// A property of the table; see [`EPOCH_MARK`].
    pub(crate) fn mark(&self, name: &str) -> Option<&str> {
        self.state.as_ref()?.metadata().configuration().get(name).map(String::as_str)
    }

    /// Reads the newest version and what it holds: the doubt ends when both are known, so that a
    /// call that fails half way does not leave a table whose rows would be written again.
    pub(super) async fn reload(&mut self) -> Result<(), Error> {
        self.is_in_doubt = true;
        self.log.found();
        let read = self.read_newest().await;
        self.damage = match &read {
            Err(Error::Damaged(damage)) => Some(damage.clone()),
            _ => None,
        };
        match read? {
            Some((state, through, loads)) => {
                (self.through, self.loads) = (through, loads);
                self.take(state);
            }
            None => (self.state, self.through, self.loads) = (None, 0, 0),
        }
        // What was read of it is not kept in memory.
        self.log.found();
        self.is_in_doubt = false;
        Ok(())
    }

    /// The newest version and what it holds; none if there is no table yet.
    async fn read_newest(&self) -> Result<Option<(DeltaTableState, u64, u64)>, Error> {
        let log = self.log_store.as_ref();
        let exists = log.is_delta_table_location().await.map_err(|error| self.unreadable(error))?;
        let state = match exists {
            true => {
                let state = DeltaTableState::try_new(log, None).await;
                Some(state.map_err(|error| self.unreadable(error))?)
            }
            false => None,
        };
        let version = state.as_ref().map(DeltaTableState::version);
        if version < self.seen {
            let version = version.map_or_else(|| "not there".to_owned(), |it| it.to_string());
            let seen = self.seen.unwrap_or(0);
            let reason = format!("its newest version is {version}, and {seen} was seen");
            return Err(Error::Damaged(self.damage_of_log(reason)));
        }
        let Some(state) = state else { return Ok(None) };
        let (through, loads) = self.held(&state).await?;
        Ok(Some((state, through, loads)))
    }

    /// Goes by a state from here on.
    pub(super) fn take(&mut self, state: DeltaTableState) {
        self.seen = self.seen.max(Some(state.version()));
        self.state = Some(state);
        self.damage = None;
    }

    /// Reads every file of the log; answers how many there are, and what is damaged.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) async fn log_damages(&self) -> Result<(usize, Vec<Damage>), Error> {
        self.log.check_all().await.map_err(Error::file(&self.table))
    }

    /// Why the log could not be read the last time.
    pub(crate) const fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    fn damage_of_log(&self, reason: String) -> Damage {
        let (table, file) = (self.table.to_string(), "_delta_log".to_owned());
        Damage { table, file, offset: 0, reason }
    }

    /// What it means that the Delta library failed.
    pub(super) fn failed(&self, error: DeltaTableError) -> Error {
        match self.log.found().damage {
            Some(damage) => Error::Damaged(damage),
            None => Error::delta(&self.table)(error),
        }
    }

    /// What it means that the Delta library could not read the log: where the store did what it was
    /// asked, what is there is no log.
    fn unreadable(&self, error: DeltaTableError) -> Error {
        let found = self.log.found();
        match found.damage {
            Some(damage) => Error::Damaged(damage),
            None if found.has_failed || is_unsupported(&error) => Error::delta(&self.table)(error),
            None => Error::Damaged(self.damage_of_log(error.to_string())),
        }
    }

    /// The newest log sequence that a state of the table holds, and its commits of rows that did not
    /// pass the log; 0 if it holds none.
    pub(super) async fn held(&self, state: &DeltaTableState) -> Result<(u64, u64), Error> {
        let version = async |app_id: &String| {
            let held = self.transaction(state, app_id).await?;
            if held == Some(BARRED) {
                return Err(Error::WriterForgotten { writer: writer_of(&self.app_id).to_owned() });
            }
            Ok::<u64, Error>(held.and_then(|held| u64::try_from(held).ok()).unwrap_or(0))
        };
        Ok((version(&self.app_id).await?, version(&self.load_app_id).await?))
    }

    pub(super) async fn transaction(
        &self,
        state: &DeltaTableState,
        app_id: &str,
    ) -> Result<Option<i64>, Error> {
        let version = state.transaction_version(self.log_store.as_ref(), app_id).await;
        version.map_err(|error| self.failed(error))
    }
}

/// Whether a log is right, and needs what this version does not have.
fn is_unsupported(error: &DeltaTableError) -> bool {
    match error {
        DeltaTableError::Transaction { .. } => true,
        DeltaTableError::KernelError(error) => error.to_string().contains("nsupported"),
        _ => false,
    }
}
