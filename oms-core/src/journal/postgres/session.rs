//! The connection that writes, and the exchanges of one transaction on it.

use super::plan::{Entry, Placed, Plan};
use super::reader::is_lost;
use super::schema::check_format;
use super::server::Server;
use super::text::escape;
use super::{column, failure, number};
use crate::clock::Stopwatch;
use crate::journal::queue::{Answer, Work};
use crate::journal::row::{SnapshotRow, stored};
use crate::journal::{HistoryId, JournalError};
use futures::join;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::error::Severity;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement};

/// A connection that writes.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    lock: Statement,
    find: Statement,
    put_histories: Statement,
    put_events: Statement,
    put_snapshots: Statement,
    advance: Statement,
    announce: Statement,
    /// Of a history's events, of its snapshot, of itself.
    delete: [Statement; 3],
    channel: String,
}

/// Why a whole transaction came to nothing, or may have.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) error: JournalError,
    /// Whether the server was not yet asked to commit.
    pub(super) is_before_commit: bool,
    /// Whether its connection can no longer be used.
    pub(super) is_lost: bool,
}

impl Broken {
    /// Whether nothing was written and one request may be at fault, so that each is worth a try
    /// alone.
    pub(super) const fn may_spare_some(&self) -> bool {
        matches!(self.error, JournalError::Full | JournalError::Corrupt { .. })
    }
}

impl Session {
    pub(super) async fn prepare(client: Client, server: &Server) -> Result<Self, JournalError> {
        let prepare = async |text: &str| {
            let query = server.schema.query(text);
            client.prepare(&query).await.map_err(|error| failure(&error))
        };
        let lock = prepare("SELECT format, head, histories FROM @log FOR UPDATE").await?;
        let find = prepare(
            "SELECT history.kind, history.key, history.id, history.version
             FROM unnest($1::text[], $2::text[]) AS wanted (kind, key)
             JOIN @history AS history ON history.kind = wanted.kind AND history.key = wanted.key",
        )
        .await?;
        let put_histories = prepare(
            "INSERT INTO @history (id, kind, key, version)
             SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[])
             ON CONFLICT (id) DO UPDATE SET version = EXCLUDED.version",
        )
        .await?;
        let put_events = prepare(
            "INSERT INTO @event (position, history, version, kind, format, time, actor,
                 correlation, body, checksum)
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[],
                 $5::integer[], $6::text[], $7::text[], $8::text[], $9::text[], $10::bytea[])",
        )
        .await?;
        let put_snapshots = prepare(
            "INSERT INTO @snapshot (history, version, format, body, checksum)
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::integer[], $4::text[],
                 $5::bytea[])
             ON CONFLICT (history) DO UPDATE SET version = EXCLUDED.version,
                 format = EXCLUDED.format, body = EXCLUDED.body, checksum = EXCLUDED.checksum",
        )
        .await?;
        let advance = prepare("UPDATE @log SET head = $1, histories = $2").await?;
        let announce = prepare("SELECT pg_catalog.pg_notify($1, $2)").await?;
        let delete = [
            prepare("DELETE FROM @event WHERE history = $1").await?,
            prepare("DELETE FROM @snapshot WHERE history = $1").await?,
            prepare("DELETE FROM @history WHERE id = $1").await?,
        ];
        Ok(Self {
            delete,
            channel: server.schema.channel(),
            lock,
            find,
            put_histories,
            put_events,
            put_snapshots,
            advance,
            announce,
            client,
        })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Ends a transaction that failed; answers whether the session can be used again.
    pub(super) async fn roll_back(&self) -> bool {
        self.client.batch_execute("ROLLBACK").await.is_ok()
    }

    /// Two exchanges with the server: what is there under the lock, and what is written with the
    /// commit.
    pub(super) async fn transact(&self, group: &[Work]) -> Result<(Vec<Answer>, u64), Broken> {
        let mut plan = self.begin(group).await?;
        let answers = group.iter().map(|work| plan.add(work)).collect();
        if plan.is_empty() {
            let ended = self.client.batch_execute("ROLLBACK").await;
            ended.map_err(|error| self.broken(&error, true))?;
            return Ok((answers, plan.head));
        }
        let watch = Stopwatch::start();
        self.write(&plan).await?;
        metrics::histogram!("oms_journal_commit_seconds").record(watch.seconds());
        Ok((answers, plan.head))
    }

    fn broken(&self, error: &Error, is_before_commit: bool) -> Broken {
        let is_lost = is_lost(error, &self.client);
        Broken { error: failure(error), is_before_commit, is_lost }
    }

    /// Locks the log and finds the group's histories. The requests are sent together and run one
    /// after the other, each with a view of its own: the second one's is later than the lock.
    async fn begin<'a>(&self, group: &[Work]) -> Result<Plan<'a>, Broken> {
        let names: BTreeSet<_> = group.iter().flat_map(Work::histories).collect();
        let kinds: Vec<_> = names.iter().map(|history| history.kind()).collect();
        let keys: Vec<_> = names.iter().map(|history| history.key()).collect();
        let wanted: [&(dyn ToSql + Sync); 2] = [&kinds, &keys];
        let (begun, locked, found) = join!(
            self.client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"),
            self.client.query(&self.lock, &[]),
            self.client.query(&self.find, &wanted),
        );
        let broken = |error: Error| self.broken(&error, true);
        begun.map_err(broken)?;
        let (locked, found) = (locked.map_err(broken)?, found.map_err(broken)?);
        let damaged = |error| Broken { error, is_before_commit: true, is_lost: false };
        let Some(log) = locked.first() else {
            let reason = "its table log is empty".to_owned();
            return Err(damaged(JournalError::Corrupt { reason }));
        };
        let read = || {
            // A newer version may have changed the tables since they were opened.
            check_format(column(log, 0)?)?;
            let mut stored = BTreeMap::new();
            for row in &found {
                let history = HistoryId::new(column(row, 0)?, column(row, 1)?)
                    .map_err(|error| JournalError::Corrupt { reason: error.to_string() })?;
                let entry = Entry { id: Some(number(row, 2)?), version: number(row, 3)? };
                stored.insert(history, entry);
            }
            Ok(Plan::new(number(log, 1)?, number(log, 2)?, stored))
        };
        read().map_err(damaged)
    }

    /// Writes and commits. All of it is sent at once; if a part fails, the rest does nothing and
    /// the commit is a rollback, so every part is looked at.
    async fn write(&self, plan: &Plan<'_>) -> Result<(), Broken> {
        let written = match plan.deleted {
            Some(history) => self.delete(stored(history)).await,
            None => self.put(plan).await,
        };
        written.map_err(|error| {
            let is_refused = error
                .as_db_error()
                .is_some_and(|said| said.parsed_severity() == Some(Severity::Error));
            let broken = self.broken(&error, false);
            if is_refused {
                return broken;
            }
            // The commit may have been done before its answer was lost.
            let reason = broken.error.to_string();
            Broken { error: JournalError::Unavailable { reason }, ..broken }
        })
    }

    async fn put(&self, plan: &Plan<'_>) -> Result<(), Error> {
        let (head, histories) = (stored(plan.head), stored(plan.histories));
        let announcement = plan.head.to_string();
        let advance: [&(dyn ToSql + Sync); 2] = [&head, &histories];
        let announce: [&(dyn ToSql + Sync); 2] = [&self.channel, &announcement];
        let (histories, events, snapshots, advanced, announced, committed) = join!(
            self.put_histories(&plan.changed),
            self.put_events(&plan.events),
            self.put_snapshots(&plan.snapshots),
            self.client.execute(&self.advance, &advance),
            self.client.execute(&self.announce, &announce),
            self.client.batch_execute("COMMIT"),
        );
        histories.and(events).and(snapshots).and(advanced).and(announced)?;
        committed
    }

    /// Histories that get events: the new ones, and the versions of those that were there.
    async fn put_histories(&self, changed: &BTreeMap<&HistoryId, Entry>) -> Result<u64, Error> {
        if changed.is_empty() {
            return Ok(0);
        }
        let ids: Vec<_> = changed.values().map(|entry| entry.id.map(stored)).collect();
        let kinds: Vec<_> = changed.keys().map(|history| history.kind()).collect();
        let keys: Vec<_> = changed.keys().map(|history| history.key()).collect();
        let versions: Vec<_> = changed.values().map(|entry| stored(entry.version)).collect();
        self.client.execute(&self.put_histories, &[&ids, &kinds, &keys, &versions]).await
    }

    async fn put_events(&self, events: &[Placed<'_>]) -> Result<u64, Error> {
        if events.is_empty() {
            return Ok(0);
        }
        let rows = || events.iter().map(|placed| placed.event);
        let positions: Vec<_> = events.iter().map(|placed| stored(placed.position)).collect();
        let histories: Vec<_> = events.iter().map(|placed| stored(placed.history)).collect();
        let versions: Vec<_> = rows().map(|row| stored(row.version)).collect();
        let kinds: Vec<_> = rows().map(|row| escape(&row.kind)).collect();
        let formats: Vec<_> = rows().map(|row| i32::from(row.format)).collect();
        let times: Vec<_> = rows().map(|row| row.time.as_str()).collect();
        let actors: Vec<_> = rows().map(|row| escape(&row.actor)).collect();
        let correlations: Vec<_> = rows().map(|row| row.correlation.as_deref()).collect();
        let bodies: Vec<_> = rows().map(|row| row.body.as_str()).collect();
        let checksums: Vec<_> = rows().map(|row| row.checksum.as_slice()).collect();
        let values: [&(dyn ToSql + Sync); 10] = [
            &positions,
            &histories,
            &versions,
            &kinds,
            &formats,
            &times,
            &actors,
            &correlations,
            &bodies,
            &checksums,
        ];
        self.client.execute(&self.put_events, &values).await
    }

    async fn put_snapshots(&self, snapshots: &BTreeMap<u64, &SnapshotRow>) -> Result<u64, Error> {
        if snapshots.is_empty() {
            return Ok(0);
        }
        let histories: Vec<_> = snapshots.keys().map(|history| stored(*history)).collect();
        let versions: Vec<_> = snapshots.values().map(|row| stored(row.version)).collect();
        let formats: Vec<_> = snapshots.values().map(|row| i32::from(row.format)).collect();
        let bodies: Vec<_> = snapshots.values().map(|row| row.body.as_str()).collect();
        let checksums: Vec<_> = snapshots.values().map(|row| row.checksum.as_slice()).collect();
        let values: [&(dyn ToSql + Sync); 5] =
            [&histories, &versions, &formats, &bodies, &checksums];
        self.client.execute(&self.put_snapshots, &values).await
    }

    async fn delete(&self, history: i64) -> Result<(), Error> {
        let [events, snapshot, itself] = &self.delete;
        let values: [&(dyn ToSql + Sync); 1] = [&history];
        let (events, snapshot, itself, committed) = join!(
            self.client.execute(events, &values),
            self.client.execute(snapshot, &values),
            self.client.execute(itself, &values),
            self.client.batch_execute("COMMIT"),
        );
        events.and(snapshot).and(itself)?;
        committed
    }
}
