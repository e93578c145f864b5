//! One table of a workspace.

use crate::Error;
use crate::ingest::admit::{Rows, fit, take_columns};
use crate::ingest::batch::{Stamp, stamped};
use crate::ingest::columnar::Columns;
use crate::ingest::custom::{Post, Taken};
use crate::ingest::item;
use crate::repository::commit::{Committed, Committer};
use crate::repository::fresh::Fresh;
use crate::repository::home::Home;
use crate::repository::snapshot::{TableSnapshot, TableView};
use crate::repository::terms::TermsCache;
use crate::schema::TableSchema;
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use deltalake_core::kernel::Action;
use object_store::ObjectStore;
use oms_core::record::RecordType;
use oms_core::{Clock, Entropy};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// A table: its published view, and its committer.
#[derive(Debug)]
pub(crate) struct Table {
    pub(super) name: RecordType,
    home: Arc<Home>,
    /// The newest schema that a record was admitted by. It runs ahead of the view's.
    schema: Mutex<Arc<TableSchema>>,
    view: RwLock<Arc<TableView>>,
    /// What stands for it in the ids of records.
    place: u64,
    pub(super) committer: tokio::sync::Mutex<Committer>,
    /// Where the table's files are.
    store: Arc<dyn ObjectStore>,
    terms: Arc<TermsCache>,
}

/// What a flush did to one table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TableFlush {
    /// The table.
    pub name: String,
    /// Rows that went into files.
    pub rows: u64,
    /// Files that were written.
    pub files: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// The version of the Delta table now.
    pub delta_version: u64,
}

impl Table {
    /// Opens the table in the folder `home`, which may not be there yet.
    pub(crate) async fn open(
        name: RecordType,
        home: Home,
        app_id: String,
        terms: Arc<TermsCache>,
    ) -> Result<Self, Error> {
        let place = item::place(&app_id, name.as_str());
        let home = Arc::new(home);
        let committer = Committer::open(name.clone(), Arc::clone(&home), app_id).await?;
        let initial = TableSchema::initial(&name);
        let schema = match committer.schema()? {
            Some(schema) => schema.completed_by(&initial),
            None => initial,
        };
        let schema = Arc::new(schema);
        let mut view = TableView::empty(Arc::clone(&schema));
        view.delta_version = committer.version();
        view.files = committer.files()?.into();
        Ok(Self {
            name,
            home,
            schema: Mutex::new(schema),
            place,
            view: RwLock::new(Arc::new(view)),
            store: committer.store(),
            committer: tokio::sync::Mutex::new(committer),
            terms,
        })
    }

    pub(crate) const fn name(&self) -> &RecordType {
        &self.name
    }

    /// Where the table is.
    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    pub(crate) const fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// What stands for it in the ids of records.
    pub(crate) const fn place(&self) -> u64 {
        self.place
    }

    /// The newest log sequence that the Delta table holds.
    pub(crate) async fn through(&self) -> u64 {
        self.committer.lock().await.through()
    }

    pub(crate) fn view(&self) -> Arc<TableView> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn snapshot(&self) -> TableSnapshot {
        TableSnapshot::new(self.view(), Arc::clone(&self.terms))
    }

    /// The newest schema.
    pub(crate) fn schema(&self) -> Arc<TableSchema> {
        Arc::clone(&self.schema.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the columns of rows that fit an earlier schema of the table.
    ///
    /// # Errors
    /// [`Error::Unsupported`] names a column that the table cannot take any more.
    pub(crate) fn grow(&self, rows: &Schema) -> Result<Arc<TableSchema>, Error> {
        let mut schema = self.schema.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(grown) = take_columns(&schema, rows)? {
            *schema = Arc::new(grown);
        }
        Ok(Arc::clone(&schema))
    }

    /// Fits records to the table, growing its schema if that is allowed.
    pub(crate) fn fit(&self, rows: &mut Rows) -> Result<Arc<TableSchema>, Error> {
        let mut schema = self.schema.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(grown) = fit(&schema, rows)? {
            *schema = Arc::new(grown);
        }
        Ok(Arc::clone(&schema))
    }

    /// Fits columns to the table, growing its schema if that is allowed; answers the table's batch
    /// of them.
    pub(crate) fn fit_columns(
        &self,
        columns: &Columns,
        stamp: &Stamp,
    ) -> Result<RecordBatch, Error> {
        let lock = || self.schema.lock().unwrap_or_else(PoisonError::into_inner);
        // The columns are checked without the lock, and again if another writer let the table grow.
        let grow = |known: &Arc<TableSchema>, grown| {
            let mut schema = lock();
            let is_known = Arc::ptr_eq(&schema, known);
            if is_known {
                *schema = grown;
            }
            is_known
        };
        columns.build(stamp, || Arc::clone(&lock()), grow, |rows| self.fit(rows))
    }

    /// Brings records into columns that are named by what they hold, growing the schema for them;
    /// answers the table's batch of them, and what was cut or changed.
    pub(crate) fn fit_custom(
        &self,
        post: &Post,
        stamp: &Stamp,
    ) -> Result<(RecordBatch, BTreeMap<String, u64>), Error> {
        // As columns are: without the lock, and again if another writer let the table grow.
        loop {
            let mut schema = self.schema();
            let Taken { rows, grown, changes } = post.read(&schema, stamp.received)?;
            if let Some(grown) = grown {
                let grown = Arc::new(grown);
                let mut newest = self.schema.lock().unwrap_or_else(PoisonError::into_inner);
                if !Arc::ptr_eq(&newest, &schema) {
                    continue;
                }
                *newest = Arc::clone(&grown);
                drop(newest);
                schema = grown;
            }
            return Ok((stamped(&rows, &schema, stamp)?, changes));
        }
    }

    /// Takes the columns of a batch that was admitted before a restart.
    pub(crate) fn adopt(&self, batch: &RecordBatch) -> Result<(), Error> {
        let mut schema = self.schema.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(grown) = schema.adopt(batch.schema_ref())? {
            *schema = Arc::new(grown);
        }
        Ok(())
    }

    /// Makes durable rows visible.
    pub(crate) fn publish(&self, lsn: u64, batch: RecordBatch, bytes: u64) {
        let schema = Arc::clone(&self.schema.lock().unwrap_or_else(PoisonError::into_inner));
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = TableView::clone(&view);
        next.schema = schema;
        next.fresh.push(self.place, lsn, batch, bytes);
        *view = Arc::new(next);
    }

    /// Brings every fresh row into the Delta table; `released` is told how many bytes of them do
    /// not wait any more. None if there was nothing to do.
    ///
    /// # Errors
    /// Those of [`Committer::commit`]; the rows stay visible and the next flush goes on with them.
    pub(crate) async fn flush(
        &self,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
        released: impl Fn(u64) + Send + Sync,
    ) -> Result<Option<TableFlush>, Error> {
        let mut committer = self.committer.lock().await;
        let mut total = Committed::default();
        // The second round takes what came after a flush that failed.
        for _ in 0..2 {
            let Some((schema, flushing)) = self.start_flush() else { break };
            let done = committer.commit(&schema, &flushing, clock, entropy).await?;
            released(self.publish_files(&committer, None)?);
            total.rows += done.rows;
            total.files += done.files;
            total.bytes += done.bytes;
        }
        Ok((total.rows > 0).then(|| TableFlush {
            name: self.name.to_string(),
            rows: total.rows,
            files: total.files,
            bytes: total.bytes,
            delta_version: committer.version().unwrap_or(0),
        }))
    }

    /// Sets the fresh batches apart, unless an earlier flush left some.
    fn start_flush(&self) -> Option<(Arc<TableSchema>, Fresh)> {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        if view.flushing.is_empty() {
            if view.fresh.is_empty() {
                return None;
            }
            let mut next = TableView::clone(&view);
            next.flushing = std::mem::take(&mut next.fresh);
            *view = Arc::new(next);
        }
        Some((Arc::clone(&view.schema), view.flushing.clone()))
    }

    /// Brings files of rows that did not pass the log into the Delta table, and into the view;
    /// answers the version that holds them. `released` is told how many bytes of fresh rows do not
    /// wait any more, for an earlier flush may turn out to have been committed.
    ///
    /// # Errors
    /// Those of [`Committer::add`].
    pub(crate) async fn add(
        &self,
        schema: &Arc<TableSchema>,
        adds: &[Action],
        clock: &dyn Clock,
        entropy: &dyn Entropy,
        released: impl Fn(u64) + Send + Sync,
    ) -> Result<Option<u64>, Error> {
        let mut committer = self.committer.lock().await;
        committer.add(schema, adds, clock, entropy).await?;
        released(self.publish_files(&committer, Some(schema))?);
        Ok(committer.version())
    }

    /// Publishes the committer's files in place of the batches that they hold, in one step; answers
    /// how many bytes these have. A table's schemas grow at their end, so that the longer one has
    /// the columns of both.
    pub(super) fn publish_files(
        &self,
        committer: &Committer,
        schema: Option<&Arc<TableSchema>>,
    ) -> Result<u64, Error> {
        let files = committer.files()?;
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = TableView::clone(&view);
        if let Some(schema) = schema
            && schema.columns().len() > next.schema.columns().len()
        {
            next.schema = Arc::clone(schema);
        }
        next.files = files.into();
        next.delta_version = committer.version();
        let held = match committer.through() >= next.flushing.through {
            true => std::mem::take(&mut next.flushing).bytes,
            false => 0,
        };
        *view = Arc::new(next);
        Ok(held)
    }
}
