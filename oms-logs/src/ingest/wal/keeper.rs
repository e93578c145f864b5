//! The one task that writes a log in an object store.

use super::StoreLog;
use super::syncer::{Command, QUEUE_MAX, Waiting, refuse_all, sorted};
use crate::Error;
use oms_core::clock::Stopwatch;
use std::time::Duration;
use tokio::sync::mpsc;

/// The most bytes of one group, unless its first batch alone is longer.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// How long it waits before it tries again to find out whether a group is written.
const SETTLE_EVERY: Duration = Duration::from_secs(1);

/// Writes what comes, a group an interval, until nobody sends any more.
pub(super) async fn run(
    mut log: StoreLog,
    mut commands: mpsc::Receiver<Command>,
    interval: Duration,
) {
    let mut held = None;
    loop {
        let command = match held.take() {
            Some(command) => Some(command),
            None if log.is_in_doubt() => {
                match tokio::time::timeout(SETTLE_EVERY, commands.recv()).await {
                    Ok(command) => command,
                    Err(_) => {
                        settle(&mut log).await;
                        continue;
                    }
                }
            }
            None => commands.recv().await,
        };
        let Some(command) = command else { return };
        match command {
            Command::Append(append, reply) => {
                let mut group = vec![(append, reply)];
                held = gather(&mut group, &mut commands, interval).await;
                write(&mut log, group).await;
            }
            Command::Rotate(reply) => {
                // Nothing is written to that has to be closed, but what may be written has to be known.
                let settled = log.settle().await;
                let _ = reply.send(settled.map(|()| log.last()));
            }
            Command::Remove(through, reply) => {
                let removing = log.release_through(through);
                // Others do not wait for it.
                tokio::spawn(async move {
                    let _ = reply.send(removing.finish().await);
                });
            }
            Command::RemoveSpares(reply) => {
                let _ = reply.send(Ok(()));
            }
        }
    }
}

/// Takes what comes within an interval into a group; answers what comes and does not go into it.
async fn gather(
    group: &mut Vec<Waiting>,
    commands: &mut mpsc::Receiver<Command>,
    interval: Duration,
) -> Option<Command> {
    let end = tokio::time::sleep(interval);
    tokio::pin!(end);
    let mut bytes = group.iter().map(|(append, _)| append.entry.len()).sum::<usize>();
    while group.len() < QUEUE_MAX && bytes < GROUP_BYTES_MAX {
        let command = tokio::select! {
            biased;
            command = commands.recv() => command,
            () = &mut end => break,
        };
        match command {
            Some(Command::Append(append, reply))
                if bytes + append.entry.len() <= GROUP_BYTES_MAX =>
            {
                bytes += append.entry.len();
                group.push((append, reply));
            }
            Some(other) => return Some(other),
            // Nobody sends any more.
            None => break,
        }
    }
    None
}

/// Writes a group and answers everyone. A caller that is gone does not matter: its batch is written
/// all the same.
async fn write(log: &mut StoreLog, group: Vec<Waiting>) {
    // Before it is looked what is new: a batch may be sent again whose first time is not known yet.
    if let Err(error) = log.settle().await {
        let replies = group.into_iter().map(|(_, reply)| reply);
        return refuse_all(&error, replies);
    }
    let producers = log.producers();
    let (fresh, repeats) = sorted(&producers, group);
    let (appends, replies): (Vec<_>, Vec<_>) = fresh.into_iter().unzip();
    let mut written = Ok(());
    if !appends.is_empty() {
        let watch = Stopwatch::start();
        let bytes = appends.iter().map(|append| append.entry.len()).sum::<usize>();
        metrics::counter!("oms_logs_wal_bytes_total").increment(bytes as u64);
        written = log.append(appends).await;
        metrics::histogram!("oms_logs_wal_sync_seconds").record(watch.seconds());
    }
    let replies = replies.into_iter().chain(repeats);
    match written {
        Ok(()) => replies.for_each(|reply| drop(reply.send(Ok(())))),
        Err(error) => refuse_all(&error, replies),
    }
}

async fn settle(log: &mut StoreLog) {
    if let Err(error) = log.settle().await {
        tell(&error, 0);
    }
}

pub(super) fn tell(error: &Error, batches: usize) {
    let error = crate::workspace::whole(error);
    tracing::warn!(error, batches, "the log cannot be written");
}
