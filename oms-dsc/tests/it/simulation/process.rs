//! A node's process and its computer, as seen from inside.

use crate::support::Cell;
use async_trait::async_trait;
use oms_core::EntropyExt;
use oms_core::entropy::SeededEntropy;
use oms_dsc::Error;
use oms_dsc::configuration::ResourceInstance;
use oms_dsc::node::{Host, Transport};
use oms_dsc::protocol::{Reply, Request};
use oms_dsc::resource::{Difference, Resource, SetReport};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, oneshot};

/// Chances that all parts of one world share, so that they can be ended together.
#[derive(Debug)]
pub(super) struct Chances {
    pub(super) draws: SeededEntropy,
    /// How many of a thousand requests are kept to arrive once more, perhaps much later.
    pub(super) stale: AtomicU16,
    /// How many of a thousand points in a node's run are its last.
    pub(super) crash: AtomicU16,
    /// How many of a thousand points in a node's work are followed by a pause of its process.
    pub(super) stall: AtomicU16,
    /// How many of a thousand sets fail.
    pub(super) refusal: AtomicU16,
    /// How many of a thousand sets ask for a restart of the computer.
    pub(super) restart: AtomicU16,
}

impl Chances {
    pub(super) fn strikes(&self, per_mille: &AtomicU16) -> bool {
        self.draws.below(1000) < u64::from(per_mille.load(Ordering::Relaxed))
    }

    pub(super) fn end(&self) {
        for chance in [&self.stale, &self.crash, &self.stall, &self.refusal, &self.restart] {
            chance.store(0, Ordering::Relaxed);
        }
    }
}

/// Why a node's process does not go on by itself.
#[derive(Debug)]
pub(super) enum Halt {
    /// It waits for the answer to this.
    Asks(Box<Request>, oneshot::Sender<Reply>),
    /// The operating system runs something else.
    Stalls(oneshot::Sender<Reply>),
    /// It ended.
    Ends,
}

/// A node's process, as seen from inside.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) chances: Arc<Chances>,
    pub(super) halt: Arc<Mutex<Option<Halt>>>,
    pub(super) halted: Arc<Notify>,
}

impl Process {
    pub(super) fn new(chances: &Arc<Chances>) -> Self {
        let (halt, halted) = (Arc::default(), Arc::default());
        Self { chances: Arc::clone(chances), halt, halted }
    }

    pub(super) fn halt(&self, why: Halt) {
        *self.halt.lock().expect("not poisoned") = Some(why);
        self.halted.notify_one();
    }

    /// The end of the process: whoever comes here never goes on.
    pub(super) async fn end_here(&self) {
        if self.chances.strikes(&self.chances.crash) {
            self.halt(Halt::Ends);
            std::future::pending::<()>().await;
        }
    }

    pub(super) async fn stall_here(&self) {
        if self.chances.strikes(&self.chances.stall) {
            let (end, ended) = oneshot::channel();
            self.halt(Halt::Stalls(end));
            let _ = ended.await;
        }
    }
}

#[async_trait]
impl Transport for Process {
    async fn exchange(&self, request: &Request) -> Result<Reply, Error> {
        self.end_here().await;
        let (answer, answered) = oneshot::channel();
        self.halt(Halt::Asks(Box::new(request.clone()), answer));
        let reply = answered.await.map_err(|_given_up| Error::Unreachable {
            operation: request.operation.name(),
            reason: "no answer in time".to_owned(),
        });
        self.end_here().await;
        reply
    }
}

/// A computer whose restart ends its processes.
#[derive(Clone, Debug)]
pub(super) struct Booted {
    pub(super) starts: Arc<AtomicU64>,
    pub(super) process: Process,
}

#[async_trait]
impl Host for Booted {
    fn boot_id(&self) -> Result<String, Error> {
        Ok(self.starts.load(Ordering::Relaxed).to_string())
    }

    async fn restart(&self) -> Result<(), Error> {
        self.starts.fetch_add(1, Ordering::Relaxed);
        self.process.halt(Halt::Ends);
        std::future::pending().await
    }
}

/// A cell in whose set the process may pause or end, before and after its effect.
#[derive(Clone, Debug)]
pub(super) struct Fragile {
    pub(super) cell: Cell,
    pub(super) process: Process,
}

#[async_trait]
impl Resource for Fragile {
    fn classes(&self) -> &[&str] {
        &["Test_Cell"]
    }

    async fn get(
        &self,
        instance: &ResourceInstance,
    ) -> Result<BTreeMap<String, serde_json::Value>, Error> {
        self.cell.get(instance).await
    }

    async fn test(&self, instance: &ResourceInstance) -> Result<Vec<Difference>, Error> {
        self.process.stall_here().await;
        self.cell.test(instance).await
    }

    async fn set(&self, instance: &ResourceInstance) -> Result<SetReport, Error> {
        self.process.end_here().await;
        self.process.stall_here().await;
        let chances = &self.process.chances;
        if chances.strikes(&chances.refusal) {
            return Err(Error::Invalid { what: "cell", reason: "not now".into() });
        }
        self.cell.set(instance).await?;
        self.process.end_here().await;
        Ok(SetReport { reboot_required: chances.strikes(&chances.restart) })
    }
}
