//! Maintenance in the background.

use super::CompactOptions;
use crate::workspace::{Inner, whole};
use jiff::SignedDuration;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How often the background task looks what is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often rows are removed and folders vacuumed.
const DAILY: SignedDuration = SignedDuration::from_hours(24);

/// What is due when, by the monotonic clock.
#[derive(Debug, Default)]
struct Due {
    retention: Duration,
    vacuum: Option<Duration>,
    compaction: Option<Duration>,
    telling: Option<Duration>,
    /// When to ask again whether another writer owns maintenance.
    owner: Duration,
}

/// How often the workspace tells of refused input, and looks whether an hour of usage is over.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// How often a process that does not own maintenance asks whether it can.
const OWNER_EVERY: Duration = Duration::from_secs(10);

/// Maintains the tables as long as the workspace is there: retention soon and then each day,
/// compaction every few minutes, and a vacuum each day, counted over restarts.
pub(crate) async fn run(inner: Weak<Inner>) {
    let mut due = Due::default();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(inner) = inner.upgrade() else { return };
        inner.maintain(&mut due).await;
    }
}

impl Inner {
    /// Does what is due. What fails is told and tried again when it is due again.
    async fn maintain(self: &Arc<Self>, due: &mut Due) {
        let now = self.clock.monotonic();
        self.tell_due(due, now).await;
        let every = self.settings.maintenance.compaction_every.unsigned_abs();
        let compaction = *due.compaction.get_or_insert(now + every);
        let vacuum = match due.vacuum {
            Some(vacuum) => vacuum,
            None => now + self.until_vacuum().await,
        };
        due.vacuum = Some(vacuum);
        if now < due.retention.min(vacuum).min(compaction) || !self.is_mine(due, now).await {
            return;
        }
        let daily = DAILY.unsigned_abs();
        if now >= due.retention {
            due.retention = now + daily;
            if let Err(error) = self.retain().await {
                tracing::warn!(error = %whole(&error), "retention failed, it is tried again");
            }
        }
        if now >= vacuum {
            due.vacuum = Some(now + daily);
            if let Err(error) = self.vacuum().await {
                tracing::warn!(error = %whole(&error), "vacuum failed, it is tried again");
            }
        }
        if now >= compaction {
            due.compaction = Some(now + every);
            if let Err(error) = self.compact(&CompactOptions::default()).await {
                tracing::warn!(error = %whole(&error), "compaction failed, it is tried again");
            }
        }
    }

    /// Whether what is due is for this process to do. Of several writers the others look again later.
    async fn is_mine(&self, due: &mut Due, now: Duration) -> bool {
        if now < due.owner {
            return false;
        }
        match self.owns_maintenance().await {
            Ok(true) => true,
            Ok(false) => {
                due.owner = now + OWNER_EVERY;
                false
            }
            Err(error) => {
                tracing::warn!(error = %whole(&error), "who maintains the tables is not known");
                due.owner = now + OWNER_EVERY;
                false
            }
        }
    }

    /// Tells what this process refused and took.
    async fn tell_due(&self, due: &mut Due, now: Duration) {
        let telling = *due.telling.get_or_insert(now + TELL_EVERY);
        if now < telling {
            return;
        }
        due.telling = Some(now + TELL_EVERY);
        if let Err(error) = self.tell_refused().await {
            tracing::warn!(error = %whole(&error), "refused input is told later");
        }
        if let Err(error) = self.account_usage().await {
            tracing::warn!(error = %whole(&error), "usage is told later");
        }
    }

    /// How long until the next vacuum is due: a day after the last one, or after now.
    async fn until_vacuum(&self) -> Duration {
        let mut progress = self.keep.working.lock().await;
        let now = self.clock.now();
        let Some(last) = progress.vacuumed.filter(|last| *last <= now) else {
            progress.vacuumed = Some(now);
            return DAILY.unsigned_abs();
        };
        (DAILY - now.duration_since(last)).max(SignedDuration::ZERO).unsigned_abs()
    }
}
