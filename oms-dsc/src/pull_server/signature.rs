//! Signatures that were used: each is good once, on every server of a journal.
//!
//! A signature covers date and body and not the AgentId of the path, so whoever sees one could use it
//! for another node, or on another server. Its use is therefore written together with the
//! registration that it made, as the first event of a history of its own: a journal begins a history
//! once.

use crate::Error;
use crate::protocol::AgentId;
use crate::protocol::auth::{Signed, x_ms_date};
use jiff::{SignedDuration, Timestamp};
use oms_core::journal::{Append, HistoryId, Journal, JournalError, JournalEvent as _};
use serde::{Deserialize, Serialize};

/// The kind of a used signature's history; its key is the signature's date and the signature, so that
/// the oldest come first.
pub const SIGNATURE_HISTORY: &str = "dsc-signature";

/// How long a used signature is kept after its date is no longer accepted: longer than any two
/// servers' clocks, or the windows of their settings, are apart.
const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// How many signatures are looked at together.
const BATCH: usize = 1_000;

/// The most signatures that are dropped at a time, so that other maintenance has its turn.
const DROPPED_MAX: usize = 100 * BATCH;

/// A registration's signature was used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SignatureUsed {
    /// Who registered with it.
    pub agent_id: AgentId,
}

oms_core::journal_event!(SignatureUsed, format 1, whole, {
    Self { .. } => "dsc-signature-used",
});

/// What must be written with a registration, and can be once.
pub(super) fn used(
    signed: &Signed,
    agent_id: AgentId,
    now: Timestamp,
    actor: &str,
) -> Result<Append, Error> {
    let key = format!("{}/{}", x_ms_date(signed.date), signed.signature);
    let history = HistoryId::new(SIGNATURE_HISTORY, &key)?;
    let events = vec![SignatureUsed { agent_id }.seal(now, actor)?];
    Ok(Append { history, expected: 0, events })
}

/// Forgets signatures whose date is long past the window, and answers how many.
pub(super) async fn drop_old(
    journal: &dyn Journal,
    now: Timestamp,
    window: SignedDuration,
) -> Result<usize, Error> {
    let age = window.saturating_add(KEPT);
    let oldest = now.saturating_sub(age);
    let oldest = oldest.map_err(|error| Error::Internal { reason: error.to_string() })?;
    let (oldest, mut count) = (x_ms_date(oldest), 0);
    for _ in 0..DROPPED_MAX / BATCH {
        let heads = journal.list(SIGNATURE_HISTORY, None, BATCH).await?;
        let is_last = heads.len() < BATCH;
        for head in heads {
            if *head.history.key() >= *oldest {
                return Ok(count);
            }
            match journal.delete(&head.history, head.version).await {
                Ok(()) => count += 1,
                // Another server was first.
                Err(JournalError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if is_last {
            break;
        }
    }
    Ok(count)
}
