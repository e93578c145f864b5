//! What was not taken: rows of `Operation`, few however much it is.

use super::operation::{Operation, PRODUCER};
use crate::workspace::{Inner, whole};
use crate::{Error, Workspace};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// How many different reasons are told at a time; what has others is counted together.
const REASONS_MAX: usize = 20;

/// How much of a reason is told, in characters.
const REASON_CHARACTERS_MAX: usize = 500;

/// Refused input that was not told yet.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    /// By table, reason and what became of the records.
    told: BTreeMap<(String, String, Fate), u64>,
    /// Records for which there was no place.
    others: u64,
}

/// What became of records that are told of.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Fate {
    /// They are not in their table.
    Refused,
    /// They are, and not all that they had.
    Changed,
}

impl Refusals {
    /// Counts records of a table that were refused or changed.
    fn note(&self, table: &str, reason: &str, fate: Fate, records: u64) {
        let reason: String = reason.chars().take(REASON_CHARACTERS_MAX).collect();
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (table.to_owned(), reason, fate);
        if counted.told.len() < REASONS_MAX || counted.told.contains_key(&key) {
            *counted.told.entry(key).or_default() += records;
        } else {
            counted.others += records;
        }
    }

    fn take(&self) -> Counted {
        std::mem::take(&mut *self.counted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts back what could not be told.
    fn put_back(&self, counted: &Counted) {
        for ((table, reason, fate), records) in &counted.told {
            self.note(table, reason, *fate, *records);
        }
        let mut now = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        now.others += counted.others;
    }
}

impl Workspace {
    /// Counts records that a source or a protocol refused before they got here, so that `Operation`
    /// tells of them as of those that the workspace itself refuses.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn note_refused(&self, table: &str, reason: &str, records: u64) -> Result<(), Error> {
        self.inner()?.note_refused(table, reason, records);
        Ok(())
    }

    /// Counts records that are in their table without all that they had, such as a text that was cut
    /// or a field that was left out, so that `Operation` tells of them.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn note_changed(&self, table: &str, reason: &str, records: u64) -> Result<(), Error> {
        self.inner()?.note_change(table, reason, records);
        Ok(())
    }

    /// Writes what was refused since the last time as rows of `Operation` (`OperationCategory` is
    /// `Ingestion`), at most 21 of them, and answers how many. The background task does so each
    /// minute, and closing does.
    ///
    /// # Errors
    /// Those of a write; what was refused is told the next time.
    pub async fn tell_refused(&self) -> Result<u64, Error> {
        self.inner()?.tell_refused().await
    }
}

impl Inner {
    /// Counts records that were refused before they were a batch.
    pub(crate) fn note_refused(&self, table: &str, reason: &str, records: u64) {
        self.keep.refusals.note(table, reason, Fate::Refused, records);
    }

    /// Counts records that were taken without all that they had.
    pub(crate) fn note_change(&self, table: &str, reason: &str, records: u64) {
        self.keep.refusals.note(table, reason, Fate::Changed, records);
    }

    /// Counts a batch that was refused, unless the workspace wrote it itself: what it tells of
    /// refusals is no refusal to tell of.
    pub(crate) fn note_refusal(&self, producer: &str, records: u64, error: &Error) {
        let refusals = &self.keep.refusals;
        match error {
            _ if producer.starts_with(PRODUCER) => {}
            Error::Record { record_type, column, reason, .. } => {
                let reason = format!("{reason} (column {column})");
                refusals.note(record_type, &reason, Fate::Refused, records);
            }
            Error::Batch { reason, .. } => refusals.note("", reason, Fate::Refused, records),
            Error::Transform { table, .. } => {
                refusals.note(table, &whole(error), Fate::Refused, records);
            }
            _ => {}
        }
    }

    pub(crate) async fn tell_refused(&self) -> Result<u64, Error> {
        let counted = self.keep.refusals.take();
        let mut operations: Vec<Operation> = counted
            .told
            .iter()
            .map(|((table, reason, fate), records)| {
                let of = if table.is_empty() { "no one table" } else { table };
                match fate {
                    Fate::Refused => {
                        let how = "were refused, alone or with others";
                        refused(table, format!("{records} records of {of} {how}: {reason}"))
                    }
                    Fate::Changed => {
                        let how = "were taken, and not all that they had";
                        let detail = format!("{records} records of {of} {how}: {reason}");
                        Operation { status: "Warning", ..refused(table, detail) }
                    }
                }
            })
            .collect();
        if counted.others > 0 {
            let records = counted.others;
            operations.push(refused("", format!("{records} more records were refused or changed")));
        }
        if operations.is_empty() {
            return Ok(0);
        }
        if let Err(error) = self.tell(&operations).await {
            self.keep.refusals.put_back(&counted);
            return Err(error);
        }
        Ok(operations.len() as u64)
    }
}

fn refused(table: &str, detail: String) -> Operation {
    Operation { category: "Ingestion", status: "Error", key: table.to_owned(), detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_reasons_is_counted_and_not_kept() {
        let refusals = Refusals::default();
        let key = |reason: &str| ("T_CL".to_owned(), reason.to_owned(), Fate::Refused);
        for number in 0..1_000_u64 {
            refusals.note("T_CL", &format!("reason {number}"), Fate::Refused, 2);
        }
        refusals.note("T_CL", "reason 3", Fate::Refused, 5);
        let counted = refusals.take();
        assert_eq!(counted.told.len(), REASONS_MAX);
        assert_eq!(counted.told[&key("reason 3")], 7);
        assert_eq!(counted.others, 2 * (1_000 - REASONS_MAX as u64));
        refusals.note("T_CL", "reason 3", Fate::Changed, 1);
        refusals.put_back(&counted);
        let again = refusals.take();
        let sum: u64 = again.told.values().sum();
        assert_eq!(sum + again.others, 2_006);
        assert_eq!(refusals.take().told.len(), 0);
    }
}
