//! What the journal holds of a lease, read and tidied.

use super::Duty;
use super::state::{Ownership, RENEWAL_KIND, View};
use crate::journal::{HistoryId, Journal, JournalError, READ_MAX};

/// The most old renewal histories one [`trim`] deletes.
pub const TRIM_MAX: usize = 64;

/// Reads who owns a duty, and how often the owner has renewed.
///
/// The two are read one after the other. A renewal in between is counted or not; a change of
/// ownership in between makes every claim on this view fail.
///
/// # Errors
/// Those of the journal; [`JournalError::Corrupt`] if the history cannot be a lease's.
pub async fn view(journal: &dyn Journal, duty: &Duty) -> Result<View, JournalError> {
    let snapshot = journal.snapshot(duty.history()).await?;
    let mut ownership = snapshot.map(Ownership::from_snapshot).transpose()?.unwrap_or_default();
    loop {
        let page = journal.read(duty.history(), ownership.version, READ_MAX).await?;
        for event in &page {
            ownership.apply(event)?;
        }
        if page.len() < READ_MAX {
            break;
        }
    }
    let renewals = match ownership.owner {
        Some(_) => count(journal, &duty.renewals(ownership.version)).await?,
        None => 0,
    };
    Ok(View { ownership, renewals })
}

/// How many events a renewal history holds, without reading them.
async fn count(journal: &dyn Journal, history: &HistoryId) -> Result<u64, JournalError> {
    // Keys end in a number of fixed width, so nothing sorts between its prefix and itself.
    let before = history.key().trim_end_matches(|c: char| c.is_ascii_digit());
    let number = history.key().get(before.len()..).and_then(|digits| digits.parse::<u64>().ok());
    let after = format!("{before}{:020}", number.unwrap_or_default().saturating_sub(1));
    let heads = journal.list(RENEWAL_KIND, Some(&after), 1).await?;
    let head = heads.into_iter().find(|head| head.history == *history);
    Ok(head.map_or(0, |head| head.version))
}

/// Deletes the renewals of ownership versions below `below`, at most [`TRIM_MAX`] histories.
/// Nobody counts them any more; what is left over is deleted another time.
///
/// # Errors
/// Those of the journal.
pub async fn trim(journal: &dyn Journal, duty: &Duty, below: u64) -> Result<(), JournalError> {
    let prefix = format!("{duty}#");
    let end = duty.renewals(below);
    for head in journal.list(RENEWAL_KIND, Some(&prefix), TRIM_MAX).await? {
        if !head.history.key().starts_with(&prefix) || head.history.key() >= end.key() {
            break;
        }
        journal.delete(&head.history, head.version).await?;
    }
    Ok(())
}
