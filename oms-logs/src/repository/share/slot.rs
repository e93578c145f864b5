//! A place among the writers of a store, which one process at a time has, whatever machine it is on.
//!
//! `slots/NAME` tells whose log in the store is the newest of the place. A process that takes the place
//!
//! 1. sets a fence behind the log of the one before it, which can acknowledge nothing from then on,
//! 2. brings what that log holds into the tables, as the one before it would have: the tables know by
//!    its application id what they have of the log, whoever of the two writes it. What is for a table
//!    that is damaged stays in the log, for the next one to try again,
//! 3. begins a log of its own, which knows the producers of the one before,
//! 4. writes its name into `slots/NAME`, and
//! 5. removes what the one before left.
//!
//! It may end anywhere between: the next one begins again.

use super::writers::{LOST, WRITERS};
use super::{Documents, app_id};
use crate::Error;
use crate::ingest::producer::Producers;
use crate::ingest::wal::{LogFolder, Remains, StoreLog, read_objects};
use crate::repository::heads::Heads;
use crate::repository::home::Home;
use crate::repository::memory::Memory;
use crate::repository::tables::{Tables, replay};
use crate::workspace::LogDamage;
use oms_core::task::blocking;
use oms_core::{Clock, Disk, Entropy};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

const SLOTS: &str = "slots";
const LOGS: &str = "log";

/// The most characters of a place's name.
const NAME_MAX: usize = 63;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Tenure {
    format: u32,
    /// Who has the place.
    node: String,
    /// Who had it before and may have left something.
    #[serde(default)]
    former: BTreeSet<String>,
}

/// Who wants a place.
pub(crate) struct Slot<'a> {
    pub(crate) name: &'a str,
    /// The workspace's own.
    pub(crate) disk: &'a Arc<dyn Disk>,
    pub(crate) home: &'a Home,
    pub(crate) documents: &'a Arc<Documents>,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) entropy: &'a Arc<dyn Entropy>,
    /// Whether damage in the log of the one before does not matter.
    pub(crate) quarantine: bool,
}

/// A place that was taken.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) log: StoreLog,
    pub(crate) damage: Vec<LogDamage>,
    /// Who had it before and left nothing that is needed.
    pub(crate) former: BTreeSet<String>,
}

impl Slot<'_> {
    /// Takes the place from whoever has it.
    ///
    /// # Errors
    /// [`Error::Setting`] if it has no name; [`Error::WriterReplaced`] if another process takes it at
    /// the same time; [`Error::Store`], [`Error::Corrupt`], and those of a flush.
    pub(crate) async fn take(&self) -> Result<Taken, Error> {
        self.check_name()?;
        let document = format!("{SLOTS}/{}", self.name);
        let (before, version) = match self.documents.read::<Tenure>(&document).await? {
            Some((tenure, version)) => (Some(tenure), Some(version)),
            None => (None, None),
        };
        if let Some(format) = before.as_ref().map(|it| it.format).filter(|it| *it != 1) {
            let path = self.documents.path(&document).to_string();
            let reason = format!("format {format} is not known, only 1");
            return Err(Error::Corrupt { path, offset: 0, reason });
        }
        let (mut former, mut done) = (BTreeSet::new(), BTreeSet::new());
        let (mut producers, mut damage) = (Producers::default(), Vec::new());
        if let Some(Tenure { node, former: earlier, .. }) = before {
            // The last one has the producers of all.
            let nodes = earlier.iter().filter(|earlier| **earlier != node).chain([&node]);
            for former in nodes {
                let (remains, is_done) = self.bring_in(former, *former == node).await?;
                producers = remains.producers;
                damage.extend(remains.damage);
                if is_done {
                    done.insert(former.clone());
                }
            }
            former = earlier;
            former.insert(node);
        }
        let node = self.documents.node.clone();
        let folder = self.documents.log_folder(&node);
        let log = StoreLog::begin(folder.clone(), Arc::clone(self.entropy), producers).await?;
        let tenure = Tenure { format: 1, node: node.clone(), former };
        if !self.documents.put_if(&document, &tenure, version).await? && !self.has(&node).await? {
            // Nobody knows of this log.
            folder.clear(u64::MAX).await?;
            return Err(Error::WriterReplaced { writer: node });
        }
        Ok(Taken { log, damage, former: done })
    }

    /// Whether a process has the place, by what stands there: a request that was answered by a
    /// refusal may have been the second of two.
    async fn has(&self, node: &str) -> Result<bool, Error> {
        let found = self.documents.read::<Tenure>(&format!("{SLOTS}/{}", self.name)).await?;
        Ok(found.is_some_and(|(tenure, _)| tenure.node == node))
    }

    /// Removes what those left who had the place before, when the one that has it is among the
    /// writers.
    ///
    /// # Errors
    /// [`Error::Store`]; some of it may be left for the next one.
    pub(crate) async fn clear(&self, former: &BTreeSet<String>) -> Result<(), Error> {
        if former.is_empty() {
            return Ok(());
        }
        for node in former {
            let folder = self.documents.log_folder(node);
            folder.clear(folder.fence().await?).await?;
            self.documents.remove(&format!("{WRITERS}/{node}")).await?;
        }
        let document = format!("{SLOTS}/{}", self.name);
        let Some((tenure, version)) = self.documents.read::<Tenure>(&document).await? else {
            return Ok(());
        };
        if tenure.node == self.documents.node {
            let left = tenure.former.difference(former).cloned().collect();
            let tenure = Tenure { former: left, ..tenure };
            // Whoever took the place since has those names and removes them again.
            self.documents.put_if(&document, &tenure, Some(version)).await?;
        }
        Ok(())
    }

    /// Brings into the tables what a former process acknowledged, which acknowledges nothing more;
    /// answers whether all of it is there.
    async fn bring_in(&self, node: &str, is_last: bool) -> Result<(Remains, bool), Error> {
        let folder = self.documents.log_folder(node);
        let fence = folder.fence().await?;
        let lost = self.documents.read::<serde_json::Value>(&format!("{LOST}/{node}")).await?;
        let objects = folder.contents(fence).await?;
        // Given up, by who said so; or removed, as far as someone came before the last one.
        if lost.is_some() || (objects.is_empty() && (!is_last || self.quarantine)) {
            return Ok((Remains::default(), true));
        }
        if objects.is_empty() {
            let (path, reason) = (folder.path.to_string(), "the log is gone".to_owned());
            return Err(Error::Corrupt { path, offset: 0, reason });
        }
        let heads = {
            let disk = Arc::clone(self.disk);
            blocking(move || Heads::open(disk)).await?
        };
        let tables = Tables::open(self.home.clone(), app_id(node), heads).await?;
        let (memory, quarantine) = (Arc::new(Memory::default()), self.quarantine);
        let name = folder.path.to_string();
        let remains = replay(&tables, &memory, move |_, replay| {
            read_objects(&name, objects, quarantine, replay)
        })
        .await?;
        let (mut rows, mut is_done) = (0, true);
        for (_, table) in tables.all() {
            match table.flush(self.clock, self.entropy.as_ref(), |_| {}).await {
                Ok(flushed) => rows += flushed.map_or(0, |flushed| flushed.rows),
                Err(Error::Damaged(damage)) => {
                    let is_needed = !table.waiting().0.is_empty();
                    is_done &= !is_needed;
                    tracing::error!(%damage, former = node, is_needed, "a log may have to stay");
                }
                Err(error) => return Err(error),
            }
        }
        tracing::info!(former = node, slot = self.name, rows, "a log was taken over");
        folder.set_aside(&remains.damaged).await?;
        Ok((remains, is_done))
    }

    fn check_name(&self) -> Result<(), Error> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_name = (1..=NAME_MAX).contains(&self.name.len())
            && self.name.bytes().all(is_plain)
            && self.name.bytes().any(|byte| byte != b'.');
        if is_name {
            return Ok(());
        }
        let (of, value) = ("the workspace".to_owned(), self.name.to_owned());
        let reason = format!("1 to {NAME_MAX} letters, digits, `-`, `_` and `.`");
        Err(Error::Setting { of, setting: "diskless", value, reason })
    }
}

impl Documents {
    /// Where the log of a process is.
    fn log_folder(&self, node: &str) -> LogFolder {
        LogFolder {
            store: Arc::clone(&self.store),
            path: self.path(&format!("{LOGS}/{node}")),
            url: Arc::clone(&self.url),
            node: node.to_owned(),
        }
    }
}
