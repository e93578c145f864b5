//! Tells those who wait of what other processes append.

use super::schema::check_format;
use super::server::Server;
use super::{column, failure, number};
use crate::journal::JournalError;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;

/// How long a notification can be lost before a look at the table makes up for it.
const LOOK: Duration = Duration::from_secs(2);

/// The longest one look may take before its connection counts as lost.
const LOOK_TIME_MAX: Duration = Duration::from_secs(15);

/// The first and the longest pause before another attempt to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Keeps `head` at the last position given out, as long as it is not aborted.
pub(super) async fn run(server: Arc<Server>, head: Arc<watch::Sender<u64>>) {
    let (mut pause, longest) = PAUSES;
    loop {
        let mut is_first = true;
        let error = follow(&server, &head, &mut is_first).await;
        if !is_first {
            pause = PAUSES.0;
        }
        tracing::warn!(%error, "journal listener lost its connection and connects again");
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

/// Listens on one connection until it fails, and says why.
async fn follow(
    server: &Server,
    head: &Arc<watch::Sender<u64>>,
    is_first: &mut bool,
) -> JournalError {
    let told = Arc::clone(head);
    let listening = server.listen(move |payload| {
        if let Ok(position) = payload.parse() {
            advance(&told, position);
        }
    });
    let (client, mut driver) = match listening.await {
        Ok(listening) => listening,
        Err(error) => return error,
    };
    // First listen, then look: what is appended in between is told of.
    let listen = format!("LISTEN {}", server.schema.channel());
    if let Err(error) = client.batch_execute(&listen).await {
        return failure(&error);
    }
    loop {
        match timeout(LOOK_TIME_MAX, look(server, &client)).await {
            Ok(Ok(position)) => advance(head, position),
            Ok(Err(error)) => return error,
            Err(_elapsed) => {
                return JournalError::Unavailable { reason: "no answer to a look".to_owned() };
            }
        }
        *is_first = false;
        // Ends early with the connection, so that a new one is made at once.
        if timeout(LOOK, &mut driver).await.is_ok() {
            let reason = "the server closed the connection".to_owned();
            return JournalError::Unavailable { reason };
        }
    }
}

/// The last position given out.
pub(super) async fn look(server: &Server, client: &Client) -> Result<u64, JournalError> {
    let query = server.schema.query("SELECT format, head FROM @log");
    let rows = client.query(&query, &[]).await.map_err(|error| failure(&error))?;
    let Some(row) = rows.first() else {
        return Err(JournalError::Corrupt { reason: "its table log is empty".to_owned() });
    };
    check_format(column(row, 0)?)?;
    number(row, 1)
}

/// Tells of `position`, unless a later one is known.
pub(super) fn advance(head: &watch::Sender<u64>, position: u64) {
    head.send_if_modified(|last| {
        let is_later = position > *last;
        *last = position.max(*last);
        is_later
    });
}
