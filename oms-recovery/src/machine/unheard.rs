//! Events of which the journal did not tell whether it took them. It may have: an item goes on by what
//! the journal holds, and finds out before its next operation.

use super::protected::{ProtectedItem, Runtime};
use super::{ItemEvent, StoredEvent};
use crate::error::Result;
use crate::vault::{Shared, Unwritten};
use oms_core::journal::JournalEvent as _;
use oms_core::task::blocking;
use tokio::sync::MutexGuard;

/// How many events are remembered that were sent and not heard of. At most one of them is in the
/// journal, and none once another one is: they all were sent to follow the same event.
const UNHEARD_MAX: usize = 16;

impl ProtectedItem {
    /// Begins an operation: what the last one left open comes first.
    pub(crate) async fn begin(&self) -> Result<MutexGuard<'_, Runtime>> {
        let mut runtime = self.runtime.lock().await;
        self.settle(&mut runtime).await?;
        Ok(runtime)
    }

    /// Appends an event that the state allows, then takes it into account.
    pub(crate) async fn append(&self, runtime: &mut Runtime, event: ItemEvent) -> Result<()> {
        let sealed = self.shared.seal(&runtime.item, event)?;
        // Noted before it is sent: whoever sends it may not live to hear of it.
        runtime.unheard.truncate(UNHEARD_MAX - 1);
        runtime.unheard.push(sealed.envelope.clone());
        match self.shared.send(sealed).await {
            Ok(item) => {
                (runtime.item, runtime.unheard) = (item, Vec::new());
                Ok(())
            }
            Err(unwritten) => {
                if let Unwritten::Refused(_) = unwritten {
                    runtime.unheard.pop();
                }
                Err(unwritten.into())
            }
        }
    }

    /// Appends the event that production has moved, then makes it so. While nobody knows whether it
    /// has, its disk takes no writes: those of the old one would be lost.
    pub(crate) async fn move_to(
        &self,
        runtime: &mut Runtime,
        epoch: u64,
        event: ItemEvent,
    ) -> Result<()> {
        let Err(error) = self.append(runtime, event.clone()).await else {
            return self.complete(runtime, &event).await;
        };
        if let Some(active) = &runtime.active {
            active.device.suspend();
        }
        let settled = self.settle(runtime).await;
        if runtime.item.epoch == epoch { settled } else { Err(error) }
    }

    /// Takes into account what the journal took without telling, and ends a move that was interrupted
    /// by its silence.
    pub(crate) async fn settle(&self, runtime: &mut Runtime) -> Result<()> {
        if runtime.unheard.is_empty() && !runtime.item.state.is_moving() {
            return Ok(());
        }
        self.hear(runtime).await?;
        if runtime.item.state.is_moving() {
            let reason = "interrupted by a failure of the journal".to_owned();
            self.append(runtime, ItemEvent::FailoverFailed { reason }).await?;
        }
        // Only now no event that was sent before can move production any more.
        self.resume(runtime);
        Ok(())
    }

    async fn hear(&self, runtime: &mut Runtime) -> Result<()> {
        if runtime.unheard.is_empty() {
            return Ok(());
        }
        let history = Shared::history(&runtime.item.machine.name)?;
        let found = self.shared.journal.read(&history, runtime.item.version, 1).await?;
        // Of another process's event the next append tells.
        let own = found.first().filter(|event| runtime.unheard.contains(&event.envelope));
        let Some(own) = own else { return Ok(()) };
        let event = StoredEvent::open(&own.envelope)?.event;
        let mut next = runtime.item.clone();
        next.apply(&event, own.envelope.time)?;
        next.version = own.version;
        if matches!(event, ItemEvent::Disabled) {
            return Box::pin(self.hear_end(runtime, next)).await;
        }
        (runtime.item, runtime.unheard) = (next, Vec::new());
        tracing::info!(name = runtime.item.machine.name, kind = event.kind(), "event was taken");
        self.complete(runtime, &event).await
    }

    /// Does what follows an event in the journal. Where it fails it is done again when what it is for
    /// is needed next.
    async fn complete(&self, runtime: &mut Runtime, event: &ItemEvent) -> Result<()> {
        match event {
            ItemEvent::FailoverCompleted { epoch, .. } => {
                let epoch = *epoch;
                if let Some(former) = runtime.active.take() {
                    let fenced = blocking(move || former.device.fence(epoch)).await;
                    if let Err(error) = fenced {
                        // Its epoch is refused all the same.
                        tracing::warn!(%error, "former disk could not be fenced durably");
                    }
                }
                self.let_go(runtime);
                self.need_device(runtime).await.map(drop)
            }
            ItemEvent::PointChanged { epoch, .. } => {
                if let Some(former) = runtime.active.take() {
                    former.device.retire(*epoch);
                }
                self.let_go(runtime);
                self.need_device(runtime).await.map(drop)
            }
            ItemEvent::Committed => self.complete_commit(runtime).await,
            ItemEvent::TestFailoverStarted { .. } => self.open_test(runtime).await.map(drop),
            _ => Ok(()),
        }
    }
}
