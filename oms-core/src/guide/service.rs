use jiff::{SignedDuration, Timestamp};
use oms_core::journal::{Event, Journal, JournalError, JournalEvent, JournalExt};
use oms_core::{IllegalTransition, Lifecycle, Record, projection::MappingError};

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State { Valid, Expiring, #[default] Expired }

#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
enum Change { Renewed { until: Timestamp }, Warned, Expired }

oms_core::journal_event!(Change, format 1, whole, {
    Self::Renewed { .. } => "certificate-renewed",
    Self::Warned => "certificate-warned",
    Self::Expired => "certificate-expired",
});

impl Lifecycle for State {
    type Event = Change;
    fn next(self, event: Change) -> Result<Self, IllegalTransition<Self, Change>> {
        match (self, event) {
            (_, Change::Renewed { .. }) => Ok(Self::Valid),
            (Self::Valid, Change::Warned) => Ok(Self::Expiring),
            (Self::Valid | Self::Expiring, Change::Expired) => Ok(Self::Expired),
            (state, event) => Err(IllegalTransition { state, event }),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Certificate { state: State, until: Timestamp }

fn apply(it: &mut Certificate, change: Change, event: &Event) -> Result<(), JournalError> {
    it.state = it.state.next(change).map_err(|illegal| event.corrupt(&illegal))?;
    if let Change::Renewed { until } = change { it.until = until; }
    Ok(())
}

fn step(it: &Certificate, now: Timestamp) -> Option<Change> {
    let warned_from = it.until - SignedDuration::from_hours(30 * 24);
    match it.state {
        State::Valid | State::Expiring if now >= it.until => Some(Change::Expired),
        State::Valid if now >= warned_from => Some(Change::Warned),
        _ => None,
    }
}

async fn tick(journal: &dyn Journal, now: Timestamp) -> Result<(), JournalError> {
    for it in journal.replay_kind("certificate", Certificate::default(), apply).await? {
        let Some(change) = step(&it.state, now) else { continue };
        journal.append_event(&it.history, it.version, &change, now, "watcher").await?;
    }
    Ok(())
}

fn records(event: &Event) -> Result<Vec<Record>, MappingError> {
    let Change::Warned = Change::open(&event.envelope)? else { return Ok(vec![]) };
    let record = Record::new("Operation".parse().unwrap(), event.envelope.time, "pki");
    Ok(vec![record.with("Detail", format!("{} expires soon", event.history.key()))])
}
