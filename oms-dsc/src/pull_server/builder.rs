//! What a pull server is made of, and how it behaves.

use super::PullServer;
use super::compilation::Compilations;
use super::content::Library;
use super::registration::Registrar;
use super::registration_key::{KeyRingPlace, RegistrationKeys};
use super::registry::Nodes;
use super::rollout::Rollouts;
use super::rule::Rules;
use crate::Error;
use crate::content::ContentStore;
use crate::report::ReportStore;
use jiff::SignedDuration;
use oms_core::journal::{Journal, SqliteJournal};
use oms_core::secret::KeyRing;
use oms_core::task::blocking;
use oms_core::{Clock, Disk, Entropy, LocalDisk, Secret, SystemClock, SystemEntropy};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{OnceCell, Semaphore};

/// How a pull server behaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PullServerSettings {
    /// How far a registration's date may lie from the server's clock, in seconds, to either side.
    pub clock_window_seconds: u32,
    /// How long reports are kept, in days.
    pub report_retention_days: u16,
    /// After how long without a word a node counts as unresponsive, in minutes.
    pub unresponsive_after_minutes: u32,
    /// How long before the end of a certificate that TLS presents its node is asked to rotate it, in
    /// days; 0 for never.
    pub rotation_before_days: u16,
    /// Whether registrations and reports are refused that the pull server of Windows refuses, though
    /// the protocol allows them: see [`strict`](crate::protocol::strict).
    pub is_strict: bool,
    /// Whether nodes of protocol version 1 are served, whose ConfigurationId is their only
    /// credential.
    pub serves_version_1: bool,
}

impl Default for PullServerSettings {
    /// Five minutes, thirty days, ninety minutes (three refresh intervals), thirty days, not strict,
    /// version 1 served.
    fn default() -> Self {
        Self {
            clock_window_seconds: 300,
            report_retention_days: 30,
            unresponsive_after_minutes: 90,
            rotation_before_days: 30,
            is_strict: false,
            serves_version_1: true,
        }
    }
}

/// Collects what a [`PullServer`] is made of.
#[derive(Debug)]
pub struct PullServerBuilder {
    directory: PathBuf,
    disk: Option<Arc<dyn Disk>>,
    journal: Option<Arc<dyn Journal>>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    settings: PullServerSettings,
    registration_keys: Vec<Secret>,
    key_ring: Option<Arc<KeyRing>>,
}

impl PullServerBuilder {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            disk: None,
            journal: None,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            settings: PullServerSettings::default(),
            registration_keys: Vec::new(),
            key_ring: None,
        }
    }

    /// Where events go; `journal.db` in the server's folder without it.
    #[must_use]
    pub fn journal(mut self, journal: Arc<dyn Journal>) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Where contents and reports go, in place of the server's folder.
    #[must_use]
    pub fn disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = Some(disk);
        self
    }

    /// Where the time comes from; the system's without it.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where ids come from; the system's generator without it.
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// How it behaves.
    #[must_use]
    pub fn settings(mut self, settings: PullServerSettings) -> Self {
        self.settings = settings;
        self
    }

    /// A key that nodes may register for anything with; several may be given. Without one only
    /// those of [`PullServer::make_registration_key`] are good.
    #[must_use]
    pub fn registration_key(mut self, key: Secret) -> Self {
        self.registration_keys.push(key);
        self
    }

    /// What seals the registration keys that are kept. Without it the server begins one of its own
    /// with the first key: in the folder `keys` of its own, or where [`Self::disk`] is. Servers that
    /// share a journal share one.
    #[must_use]
    pub fn key_ring(mut self, ring: Arc<KeyRing>) -> Self {
        self.key_ring = Some(ring);
        self
    }

    /// Opens the server and reads what it knew.
    ///
    /// # Errors
    /// [`Error::Disk`], [`Error::Journal`]; [`Error::Key`] if the keys that are kept do not open;
    /// [`Error::Invalid`] for an empty registration key.
    pub async fn build(self) -> Result<PullServer, Error> {
        if self.registration_keys.iter().any(Secret::is_empty) {
            let reason = "it is empty".to_owned();
            return Err(Error::Invalid { what: "registration key", reason });
        }
        let (clock, entropy) = (self.clock, self.entropy);
        let (directory, disk, journal) = (self.directory, self.disk, self.journal);
        let drawn = Arc::clone(&entropy);
        let place = Arc::new(KeyRingPlace {
            ring: OnceCell::new_with(self.key_ring),
            disk: disk.clone(),
            folder: directory.join("keys"),
            entropy: Arc::clone(&entropy),
        });
        let (journal, content, reports) = blocking(move || {
            let disk: Arc<dyn Disk> = match disk {
                Some(disk) => disk,
                None => Arc::new(LocalDisk::new(&directory)?),
            };
            let journal: Arc<dyn Journal> = match journal {
                Some(journal) => journal,
                None => {
                    let directory = LocalDisk::new(&directory)?;
                    Arc::new(SqliteJournal::open(directory.root().join("journal.db"))?)
                }
            };
            let content = ContentStore::open(Arc::clone(&disk), "content", drawn)?;
            Ok::<_, Error>((journal, content, ReportStore::open(disk)?))
        })
        .await?;
        let window = SignedDuration::from_secs(self.settings.clock_window_seconds.into());
        let parts = || (Arc::clone(&journal), Arc::clone(&clock));
        let (kept, time) = parts();
        let keys = RegistrationKeys::open(kept, time, Arc::clone(&place)).await?;
        let registrar =
            Registrar::new(self.registration_keys, keys, window, self.settings.is_strict);
        let nodes = Nodes::open(Arc::clone(&journal), Arc::clone(&clock)).await?;
        let rules = Rules::open(Arc::clone(&journal), Arc::clone(&clock)).await?;
        let rollouts = Rollouts::open(Arc::clone(&journal)).await?;
        let (kept, time) = parts();
        let compilations = Compilations::open(kept, time, &*entropy, place).await?;
        let library = Library::open(journal, Arc::clone(&clock), content).await?;
        Ok(PullServer {
            nodes,
            rules,
            rollouts,
            library,
            compilations,
            registrar,
            reports: Arc::new(reports),
            clock,
            entropy,
            settings: self.settings,
            comparing: Arc::new(Semaphore::new(1)),
        })
    }
}
