//! What the workspace tells about itself, in its own `Operation` table.

use crate::Error;
use crate::workspace::Inner;
use oms_core::record::{Batch, Record, RecordType};

/// The producer of the workspace's own records.
pub(super) const PRODUCER: &str = "oms-logs";

/// The table of what happened to a workspace.
pub(super) const OPERATION: &str = "Operation";

/// One row of `Operation`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Operation {
    /// `OperationCategory`
    pub(crate) category: &'static str,
    /// `OperationStatus`: `Succeeded`, `Warning`, `Error`.
    pub(crate) status: &'static str,
    /// `OperationKey`: what it was about.
    pub(crate) key: String,
    /// `Detail`
    pub(crate) detail: String,
}

impl Inner {
    /// Writes rows of `Operation`, durably and visible at once as any other row.
    ///
    /// # Errors
    /// Those of a write.
    pub(crate) async fn tell(&self, operations: &[Operation]) -> Result<(), Error> {
        let table: RecordType = OPERATION
            .parse()
            .map_err(|error| Error::Internal { what: format!("{OPERATION}: {error}") })?;
        let record = |operation: &Operation| {
            Record::new(table.clone(), self.clock.now(), "")
                .with("OperationCategory", operation.category)
                .with("OperationStatus", operation.status)
                .with("OperationKey", operation.key.as_str())
                .with("Solution", "LogManagement")
                .with("SourceSystem", "OMS")
                .with("Detail", operation.detail.as_str())
        };
        self.write_own(PRODUCER, operations.iter().map(record).collect()).await
    }

    /// Writes records of the workspace itself after those that it wrote before.
    pub(super) async fn write_own(
        &self,
        producer: &str,
        records: Vec<Record>,
    ) -> Result<(), Error> {
        let _in_order = self.keep.telling.lock().await;
        let sequence = self.last_sequence(producer) + 1;
        self.write(Batch { producer: producer.to_owned(), sequence, records }).await
    }
}
