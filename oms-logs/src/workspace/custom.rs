//! Records of custom tables whose columns are named by what they hold.

use super::{Inner, Workspace, count_records};
use crate::Error;
use crate::ingest::admit::{check_batch, refused_batch};
use crate::ingest::batch::Stamp;
use crate::ingest::custom::{CustomBatch, CustomReport, Post};
use oms_core::ErrorKind;
use oms_core::task::blocking;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many batches are brought into columns at a time: what they are in memory is bounded for each of
/// them, and counts towards what waits once it is done.
pub(super) const READ_AT_ONCE_MAX: usize = 4;

impl Workspace {
    /// Writes records of a custom table whose columns are named by what they hold, see
    /// [`custom`](crate::ingest::custom): `Ok` means that all of them survive a power failure and that
    /// queries see them. They go into the log together or not at all; a batch of the same producer and
    /// sequence is written once.
    ///
    /// # Errors
    /// [`Error::Record`] by the record's place and the property, and [`Error::Batch`]: nothing was
    /// written, and `Operation` tells of it. After [`Error::Busy`] and [`Error::Disk`] the same batch
    /// can be sent again.
    pub async fn ingest_custom(&self, batch: CustomBatch) -> Result<CustomReport, Error> {
        self.inner()?.ingest_custom(batch).await
    }
}

impl Inner {
    async fn ingest_custom(&self, batch: CustomBatch) -> Result<CustomReport, Error> {
        let CustomBatch { producer, sequence, table, records, time_property, resource_id } = batch;
        let post = Arc::new(Post { table, records, time_property, resource_id });
        if self.syncer.is_written(&producer, sequence) {
            return Ok(CustomReport { is_repeat: true, ..CustomReport::default() });
        }
        if let Err(error) = check_batch(&producer, 0) {
            self.note_refusal(&producer, 1, &error);
            return Err(error);
        }
        let of_post = Arc::clone(&post);
        let counted =
            blocking(move || Ok::<_, Error>(of_post.check_table().and_then(|()| of_post.count())));
        let count = match counted.await? {
            Ok(count) => count,
            Err(reason) => {
                count_records(ErrorKind::Invalid.name(), 1);
                self.note_refused(post.table.as_str(), &reason, 1);
                return Err(refused_batch(&producer, reason));
            }
        };
        let mut changes = BTreeMap::new();
        let admit = async |stamp: Stamp| {
            if count == 0 {
                return Ok(Vec::new());
            }
            let table = self.tables.for_writing(&post.table).await?;
            let (of_table, of_post) = (Arc::clone(&table), Arc::clone(&post));
            let _turn = self.reading.acquire().await.map_err(|_closed| Error::Closed)?;
            // Megabytes of text are not for the threads that answer others.
            let (rows, changed) = blocking(move || of_table.fit_custom(&of_post, &stamp)).await?;
            changes = changed;
            Ok(vec![(table, rows)])
        };
        self.write_once(producer, sequence, count, admit).await?;
        let mut report = CustomReport { records: count as u64, ..CustomReport::default() };
        for (reason, values) in changes {
            self.note_change(post.table.as_str(), &reason, values);
            report.changes.push((reason, values));
        }
        Ok(report)
    }
}
