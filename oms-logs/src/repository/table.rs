//! One table of a workspace.

use crate::Error;
use crate::error::Damage;
use crate::ingest::admit::{Rows, fit, take_columns};
use crate::ingest::batch::{Stamp, stamped};
use crate::ingest::columnar::Columns;
use crate::ingest::conform::{Conformed, conform, reconcile};
use crate::ingest::custom::{Post, Taken};
use crate::ingest::item;
use crate::repository::commit::{Committed, Committer, VACUUM_MARK};
use crate::repository::fresh::{Fresh, FreshBatch};
use crate::repository::home::Home;
use crate::repository::snapshot::{TableSnapshot, TableView};
use crate::repository::terms::TermsCache;
use crate::schema::{Column, TableSchema};
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use deltalake_core::kernel::Action;
use object_store::ObjectStore;
use oms_core::record::RecordType;
use oms_core::{Clock, Entropy};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// How often in one flush another writer may give the table columns that rows have otherwise.
const OUTGROWN_MAX: u32 = 5;

/// A table: its published view, and its committer.
#[derive(Debug)]
pub(crate) struct Table {
    pub(super) name: RecordType,
    home: Arc<Home>,
    /// The newest schema that a record was admitted by. It runs ahead of the view's.
    schema: Mutex<Arc<TableSchema>>,
    /// Whether another writer's columns took the place of some that rows were admitted by. Rows may
    /// be on their way that have to be brought into the table's.
    has_yielded: AtomicBool,
    /// Locked before `schema`.
    view: RwLock<Arc<TableView>>,
    /// What stands for it in the ids of records.
    place: u64,
    pub(super) committer: tokio::sync::Mutex<Committer>,
    /// Where the table's files are.
    store: Arc<dyn ObjectStore>,
    terms: Arc<TermsCache>,
    /// Why it takes no rows: its log could not be read the last time.
    damage: Mutex<Option<Damage>>,
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
    /// Opens the table in the folder `home`, which may not be there yet, and whose newest version here
    /// was `seen`. One whose log is damaged is opened: whoever reads it or writes to it gets that for
    /// an answer.
    pub(crate) async fn open(
        name: RecordType,
        home: Home,
        app_id: String,
        seen: Option<u64>,
        terms: Arc<TermsCache>,
    ) -> Result<Self, Error> {
        let place = item::place(&app_id, name.as_str());
        let home = Arc::new(home);
        let committer = Committer::open(name.clone(), Arc::clone(&home), app_id, seen).await?;
        let initial = TableSchema::initial(&name);
        let schema = match committer.schema()? {
            Some(schema) => schema.completed_by(&initial),
            None => initial,
        };
        let schema = Arc::new(schema);
        let mut view = TableView::empty(Arc::clone(&schema));
        view.delta_version = committer.version();
        view.files = committer.files()?.into();
        view.vacuum_mark = committer.mark(VACUUM_MARK).map(Into::into);
        view.damage = committer.damage().cloned().map(Arc::new);
        let damage = Mutex::new(committer.damage().cloned());
        Ok(Self {
            name,
            home,
            schema: Mutex::new(schema),
            has_yielded: AtomicBool::new(false),
            place,
            view: RwLock::new(Arc::new(view)),
            store: committer.store(),
            committer: tokio::sync::Mutex::new(committer),
            terms,
            damage,
        })
    }

    /// Why it takes no rows, if it does not.
    pub(crate) fn damage(&self) -> Option<Damage> {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads every file of its log; answers how many there are, and what is damaged.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) async fn log_damages(&self) -> Result<(usize, Vec<Damage>), Error> {
        self.committer.lock().await.log_damages().await
    }

    /// That it can be read and written.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.damage().map_or(Ok(()), |damage| Err(Error::Damaged(damage)))
    }

    fn note_damage(&self, damage: Option<Damage>) {
        *self.damage.lock().unwrap_or_else(PoisonError::into_inner) = damage;
    }

    /// The rows that are in no file, from the oldest on, and the log sequence of the newest.
    pub(crate) fn waiting(&self) -> (Vec<Arc<FreshBatch>>, u64) {
        let view = self.view();
        let parts = view.flushing.iter().chain(view.fresh.iter()).cloned().collect();
        (parts, view.flushing.through.max(view.fresh.through))
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

    /// Takes the columns of a batch that was admitted before a restart; answers the batch with the
    /// columns that the table has now.
    pub(crate) fn adopt(&self, batch: RecordBatch) -> Result<RecordBatch, Error> {
        let mut schema = self.schema.lock().unwrap_or_else(PoisonError::into_inner);
        let Conformed { rows, grown } = conform(&schema, &batch)?;
        if let Some(grown) = grown {
            *schema = Arc::new(grown);
        }
        Ok(rows.unwrap_or(batch))
    }

    /// Makes durable rows visible.
    pub(crate) fn publish(&self, lsn: u64, batch: RecordBatch, bytes: u64) {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        let mut schema = self.schema.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = TableView::clone(&view);
        let batch = match self.has_yielded.load(Ordering::Relaxed) {
            true => self.conformed(batch, &mut schema),
            false => batch,
        };
        next.fresh.push(self.place, lsn, batch, bytes);
        next.schema = Arc::clone(&schema);
        *view = Arc::new(next);
    }

    /// A batch in the columns that the table has.
    fn conformed(&self, batch: RecordBatch, schema: &mut Arc<TableSchema>) -> RecordBatch {
        match conform(schema, &batch) {
            Ok(Conformed { rows, grown }) => {
                if let Some(grown) = grown {
                    *schema = Arc::new(grown);
                }
                rows.unwrap_or(batch)
            }
            Err(error) => {
                // The next flush fails by the same, and loses nothing.
                tracing::error!(%error, table = %self.name, "rows do not fit the table's columns");
                batch
            }
        }
    }

    /// Lets no commit of another application land any more.
    pub(crate) async fn bar(&self, app_id: &str, clock: &dyn Clock) -> Result<(), Error> {
        self.committer.lock().await.bar(app_id, clock).await
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
        if self.is_flushed() && self.damage().is_none() {
            return Ok(None);
        }
        let mut committer = self.committer.lock().await;
        let flushed = self.flush_into(&mut committer, clock, entropy, released).await;
        if let Err(Error::Damaged(damage)) = &flushed {
            self.note_damage(Some(damage.clone()));
        }
        flushed
    }

    async fn flush_into(
        &self,
        committer: &mut Committer,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
        released: impl Fn(u64) + Send + Sync,
    ) -> Result<Option<TableFlush>, Error> {
        let (mut total, mut outgrown) = (Committed::default(), 0);
        // The second round takes what came after a flush that failed.
        let mut rounds = 2;
        while rounds > 0 {
            committer.settle().await?;
            released(self.catch_up(committer)?);
            let Some((schema, flushing)) = self.start_flush() else { break };
            let done = committer.commit(&schema, &flushing, clock, entropy).await?;
            released(self.publish_files(committer)?);
            let Some(done) = done else {
                outgrown += 1;
                if outgrown > OUTGROWN_MAX {
                    let what = "its columns change all the time".to_owned();
                    return Err(Error::Superseded { table: self.name.to_string(), what });
                }
                continue;
            };
            rounds -= 1;
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
        mark: Option<&str>,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
        released: impl Fn(u64) + Send + Sync,
    ) -> Result<Option<u64>, Error> {
        let mut committer = self.committer.lock().await;
        let added = committer.add(schema, adds, mark, clock, entropy).await;
        if let Err(error @ Error::Superseded { .. }) = added {
            // The next rows are read for what the table is now.
            released(self.catch_up(&committer)?);
            return Err(error);
        }
        added?;
        released(self.publish_files(&committer)?);
        Ok(committer.version())
    }

    /// Whether every row is in the Delta table.
    fn is_flushed(&self) -> bool {
        let view = self.view();
        view.flushing.is_empty() && view.fresh.is_empty()
    }

    /// Reads what other writers committed since, and publishes it; `released` is as for
    /// [`Table::add`].
    ///
    /// # Errors
    /// [`Error::Delta`]; those of [`Table::publish_files`].
    pub(crate) async fn refresh(&self, released: impl Fn(u64) + Send + Sync) -> Result<(), Error> {
        let mut committer = self.committer.lock().await;
        if let Err(error) = committer.refresh().await {
            if let Error::Damaged(damage) = &error {
                self.note_damage(Some(damage.clone()));
            }
            return Err(error);
        }
        released(self.catch_up(&committer)?);
        Ok(())
    }

    /// Publishes what the committer has read, if that is news.
    pub(super) fn catch_up(&self, committer: &Committer) -> Result<u64, Error> {
        let view = self.view();
        let is_known = committer.version() == view.delta_version && view.damage.is_none();
        match is_known && self.damage().is_none() && !self.has_yielded.load(Ordering::Relaxed) {
            true => Ok(0),
            false => self.publish_files(committer),
        }
    }

    /// Publishes the committer's files in place of the batches that they hold, in one step; answers
    /// how many bytes these have. The batches that are left get the columns that the table has.
    ///
    /// # Errors
    /// [`Error::Unsupported`] names what of the table cannot be read; [`Error::Arrow`].
    pub(super) fn publish_files(&self, committer: &Committer) -> Result<u64, Error> {
        let (files, stored) = (committer.files()?, committer.schema()?);
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        let mut schema = self.schema.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = TableView::clone(&view);
        next.files = files.into();
        next.delta_version = committer.version();
        next.vacuum_mark = committer.mark(VACUUM_MARK).map(Into::into);
        let through = committer.through();
        let mut held = match through >= next.flushing.through {
            true => std::mem::take(&mut next.flushing).bytes,
            // Some of them, where whoever takes a log over and whoever had it both bring its rows in.
            false => next.flushing.leave_after(through)?,
        };
        // Those too that were read from the log when it was not known what the table holds of them.
        held += next.fresh.leave_after(through)?;
        next.damage = None;
        self.note_damage(None);
        if let Some(stored) = stored {
            if let Some((both, yields)) = reconcile(&stored, &schema) {
                *schema = Arc::new(both);
                self.has_yielded.fetch_or(yields, Ordering::Relaxed);
            }
            let has = |column: &Column| next.schema.column(&column.name) == Some(column);
            if !stored.columns().iter().all(has) {
                next.schema = Arc::clone(&schema);
            }
            if self.has_yielded.load(Ordering::Relaxed) {
                conform_fresh(&mut next, &mut schema)?;
                next.schema = Arc::clone(&schema);
            }
        }
        *view = Arc::new(next);
        Ok(held)
    }
}

/// Brings the batches of a view into the columns of its table, which may grow for them.
fn conform_fresh(view: &mut TableView, schema: &mut Arc<TableSchema>) -> Result<(), Error> {
    let mut into_columns = |batch: &RecordBatch| {
        let Conformed { rows, grown } = conform(schema, batch)?;
        if let Some(grown) = grown {
            *schema = Arc::new(grown);
        }
        Ok(rows)
    };
    view.flushing.replace(&mut into_columns)?;
    view.fresh.replace(&mut into_columns)
}
