//! The way between the two sites.

use super::primary::{Outcome, PrimaryEnd, SentCounts};
use super::replica::Replica;
use super::tracker::TrackedDevice;
use crate::error::{Error, Result};
use crate::machine::disk::BlockDevice as _;
use async_trait::async_trait;
use oms_core::task::blocking;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use uuid::Uuid;

/// Brings a device's writes to its replica: what a vault goes by when it replicates.
#[async_trait]
pub trait Link: Debug + Send + Sync {
    /// Sends until the replica holds every write that the device had taken when this was called, or
    /// until it is known that it never will.
    ///
    /// # Errors
    /// [`Error::ChannelClosed`] if the other end cannot be reached; [`Error::Disk`],
    /// [`Error::Decode`].
    async fn replicate(
        &self,
        item: Uuid,
        device: Arc<TrackedDevice>,
        replica: Arc<Mutex<Replica>>,
    ) -> Result<(Outcome, SentCounts)>;
}

/// The link of a process that reaches both sites.
#[derive(Clone, Copy, Debug, Default)]
pub struct InProcessLink;

#[async_trait]
impl Link for InProcessLink {
    async fn replicate(
        &self,
        item: Uuid,
        device: Arc<TrackedDevice>,
        replica: Arc<Mutex<Replica>>,
    ) -> Result<(Outcome, SentCounts)> {
        run_in_process(item, device, replica).await
    }
}

/// How many messages an in-process channel holds in each direction.
pub const CHANNEL_MESSAGES_MAX: usize = 1024;

/// One end of a connection that keeps messages whole and in order, as a TCP connection with frames
/// does. The engines above need neither: they stand loss and reordering too.
#[async_trait]
pub trait Channel: Debug + Send + Sync {
    /// Sends a message; waits while the channel is full.
    ///
    /// # Errors
    /// [`Error::ChannelClosed`].
    async fn send(&self, message: Vec<u8>) -> Result<()>;

    /// The next message, or none when the other end has closed.
    ///
    /// # Errors
    /// [`Error::ChannelClosed`] if the connection broke.
    async fn receive(&self) -> Result<Option<Vec<u8>>>;
}

/// A channel within one process.
#[derive(Debug)]
pub struct InProcessChannel {
    sender: mpsc::Sender<Vec<u8>>,
    receiver: tokio::sync::Mutex<mpsc::Receiver<Vec<u8>>>,
}

impl InProcessChannel {
    /// Two ends of one channel.
    #[must_use]
    pub fn pair() -> (Self, Self) {
        let (to_right, from_left) = mpsc::channel(CHANNEL_MESSAGES_MAX);
        let (to_left, from_right) = mpsc::channel(CHANNEL_MESSAGES_MAX);
        let end = |sender, receiver| Self { sender, receiver: tokio::sync::Mutex::new(receiver) };
        (end(to_right, from_right), end(to_left, from_left))
    }
}

#[async_trait]
impl Channel for InProcessChannel {
    async fn send(&self, message: Vec<u8>) -> Result<()> {
        self.sender.send(message).await.map_err(|_closed| Error::ChannelClosed)
    }

    async fn receive(&self) -> Result<Option<Vec<u8>>> {
        Ok(self.receiver.lock().await.recv().await)
    }
}

/// Sends to a replica until it holds every write that the device had taken when this was called.
///
/// # Errors
/// [`Error::ChannelClosed`], [`Error::Disk`], [`Error::Decode`].
pub async fn run_primary(
    item: Uuid,
    device: Arc<TrackedDevice>,
    channel: &dyn Channel,
) -> Result<(Outcome, SentCounts)> {
    let mut end = PrimaryEnd::new(item, Arc::clone(&device));
    let through = blocking(move || {
        // A fenced device cannot flush what it refuses; what is durable is sent all the same.
        device.flush()?;
        Ok::<_, Error>(device.status().durable)
    })
    .await?;
    loop {
        let (returned, messages) = blocking(move || {
            let messages = end.poll()?;
            Ok::<_, Error>((end, messages))
        })
        .await?;
        end = returned;
        for message in messages {
            channel.send(message).await?;
        }
        if let Some(outcome) = end.outcome(through) {
            return Ok((outcome, end.counts()));
        }
        let message = channel.receive().await?.ok_or(Error::ChannelClosed)?;
        end.receive(&message)?;
    }
}

/// Serves a replica until the channel closes.
///
/// # Errors
/// [`Error::ChannelClosed`] if an answer cannot be sent.
pub async fn run_replica(replica: Arc<Mutex<Replica>>, channel: &dyn Channel) -> Result<()> {
    while let Some(message) = channel.receive().await? {
        let replica = Arc::clone(&replica);
        let answer = blocking(move || {
            Ok::<_, Error>(replica.lock().unwrap_or_else(PoisonError::into_inner).handle(&message))
        })
        .await?;
        if let Some(answer) = answer {
            channel.send(answer).await?;
        }
    }
    Ok(())
}

/// Replicates within this process until the replica holds what the device had taken.
///
/// # Errors
/// Those of [`run_primary`].
pub async fn run_in_process(
    item: Uuid,
    device: Arc<TrackedDevice>,
    replica: Arc<Mutex<Replica>>,
) -> Result<(Outcome, SentCounts)> {
    let (near, far) = InProcessChannel::pair();
    let serving = tokio::spawn(async move { run_replica(replica, &far).await });
    let outcome = run_primary(item, device, &near).await;
    drop(near);
    // The replica's task ends when its channel closes; an answer it could not send is no error.
    if let Err(error) = serving.await {
        return Err(Error::Internal { reason: error.to_string() });
    }
    outcome
}
