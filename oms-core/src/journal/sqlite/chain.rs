//! How the events of one history hang together in the file.
//!
//! Each event holds the positions of two earlier ones: `back`, the version before its own, and
//! `skip`, its own version without the lowest bit that is set in it. Where there is no such version
//! it holds 0. A history's row holds the position of its last event.
//!
//! ```text
//! version   1   2   3   4   5   6   7   8
//! back      -   1   2   3   4   5   6   7
//! skip      -   -   2   -   4   4   6   -
//! ```
//!
//! So an append writes only at the end of the table of events, however many histories there are,
//! where an index of them would have a page to write for each; and of `n` events any one is found
//! in some `log n * log n / 2` steps, from the last one on. Every step looks whether it leads to the
//! version it should: versions fall, so a walk ends also in a damaged file.

use super::failure;
use super::reader::unstored;
use crate::journal::JournalError;
use crate::journal::row::stored;
use rusqlite::{CachedStatement, Connection, OptionalExtension};

/// Why rows could not be used.
#[derive(Debug)]
pub(super) enum Fault {
    /// SQLite says so.
    Sqlite(rusqlite::Error),
    /// They contradict each other.
    Contradiction {
        /// Which, and how.
        reason: String,
    },
}

impl Fault {
    /// What it means to the caller.
    pub(super) fn error(&self) -> JournalError {
        match self {
            Self::Sqlite(error) => failure(error),
            Self::Contradiction { reason } => JournalError::Corrupt { reason: reason.clone() },
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// The row of a history.
#[derive(Clone, Copy, Debug)]
pub(super) struct HistoryRow {
    pub(super) id: i64,
    pub(super) version: u64,
    /// The position of its last event.
    pub(super) last: u64,
}

impl HistoryRow {
    /// The row of the history of this kind and key.
    pub(super) fn find(
        connection: &Connection,
        kind: &str,
        key: &str,
    ) -> rusqlite::Result<Option<Self>> {
        connection
            .prepare_cached("SELECT id, version, last FROM history WHERE kind = ?1 AND key = ?2")?
            .query_row([kind, key], |row| {
                Ok(Self { id: row.get(0)?, version: unstored(row, 1)?, last: unstored(row, 2)? })
            })
            .optional()
    }
}

/// One event's place, and where it leads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) position: u64,
    pub(super) version: u64,
    back: u64,
    skip: u64,
}

/// The version that event number `version` skips to; 0 if it skips to none.
const fn skipped(version: u64) -> u64 {
    version & version.saturating_sub(1)
}

/// The events of one history, walked from the last to the first.
pub(super) struct Chain<'c> {
    history: HistoryRow,
    query: CachedStatement<'c>,
}

impl<'c> Chain<'c> {
    pub(super) fn new(connection: &'c Connection, history: HistoryRow) -> rusqlite::Result<Self> {
        let query = "SELECT history, version, back, skip FROM event WHERE position = ?1";
        Ok(Self { history, query: connection.prepare_cached(query)? })
    }

    /// The last event of the history.
    pub(super) fn last(&mut self) -> Result<Link, Fault> {
        self.at(self.history.last, self.history.version)
    }

    /// The event before `link`, whose version is 2 or more.
    pub(super) fn back(&mut self, link: &Link) -> Result<Link, Fault> {
        self.at(link.back, link.version.saturating_sub(1))
    }

    /// Event number `version`, which is not after `link`.
    pub(super) fn seek(&mut self, mut link: Link, version: u64) -> Result<Link, Fault> {
        while link.version > version {
            let skipped = skipped(link.version);
            link = if skipped >= version.max(1) {
                self.at(link.skip, skipped)?
            } else {
                self.back(&link)?
            };
        }
        Ok(link)
    }

    /// The event at `position`, which must be event number `version`.
    fn at(&mut self, position: u64, version: u64) -> Result<Link, Fault> {
        let HistoryRow { id, .. } = self.history;
        let read = |row: &rusqlite::Row<'_>| {
            let (back, skip) = (unstored(row, 2)?, unstored(row, 3)?);
            let link = Link { position, version: unstored(row, 1)?, back, skip };
            Ok((row.get::<_, i64>(0)?, link))
        };
        match self.query.query_row([stored(position)], read).optional()? {
            Some((history, link)) if history == id && link.version == version => Ok(link),
            found => {
                let found = if found.is_some() { "another event" } else { "none" };
                let reason = format!(
                    "event {version} of history row {id} should be at position {position}, \
                     where {found} is"
                );
                Err(Fault::Contradiction { reason })
            }
        }
    }
}

/// The positions of a history's last event, of the one that it skips to, and so on; the last one
/// comes last. The next event leads to two of them.
///
/// Their versions are the last one's, with its lowest bits that are set cleared one by one.
#[derive(Debug, Default)]
pub(super) struct Spine(Vec<u64>);

impl Spine {
    /// The spine of the history that `chain` walks.
    pub(super) fn load(chain: &mut Chain<'_>) -> Result<Self, Fault> {
        let mut link = chain.last()?;
        let mut positions = vec![link.position];
        while skipped(link.version) > 0 {
            link = chain.at(link.skip, skipped(link.version))?;
            positions.push(link.position);
        }
        positions.reverse();
        Ok(Self(positions))
    }

    /// Adds event number `version`, the next one, at `position`; answers its `back` and `skip`.
    pub(super) fn push(&mut self, version: u64, position: u64) -> (u64, u64) {
        let end = |positions: &[u64]| positions.last().copied().unwrap_or(0);
        let back = end(&self.0);
        // It skips past as many as it clears bits of the version before it.
        let passed = version.trailing_zeros() as usize;
        self.0.truncate(self.0.len().saturating_sub(passed));
        let skip = end(&self.0);
        self.0.push(position);
        (back, skip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Beside a list of all positions.
        #[test]
        fn the_spine_leads_each_event_to_the_two_it_should(
            steps in prop::collection::vec(1_u64..1000, 1..300),
        ) {
            // That of version 0 is 0.
            let mut positions = vec![0_u64];
            let mut spine = Spine::default();
            for (version, step) in (1_u64..).zip(steps) {
                let before = positions[positions.len() - 1];
                let (back, skip) = spine.push(version, before + step);
                prop_assert_eq!(back, before);
                prop_assert_eq!(skip, positions[skipped(version) as usize], "{}", version);
                prop_assert_eq!(spine.0.len(), version.count_ones() as usize);
                positions.push(before + step);
            }
        }
    }
}
