//! The front door.

use crate::error::{Error, Result};
use crate::machine::disk::{BlockDevice as _, FileDevice};
use crate::machine::ended::state::ReleaseEvent;
use crate::machine::ended::{EndedProtection, ReleasePlan};
use crate::machine::protected::ProtectedItem;
use crate::machine::site::{check_primary, check_recovery};
use crate::machine::{
    HISTORY_KIND, ItemEvent, ItemId, Machine, NAME_BYTES_MAX, ReplicationProtectedItem, StoredEvent,
};
use crate::replication::channel::{InProcessLink, Link};
use crate::replication::state::ActiveLocation;
use crate::replication::{LocalStores, ReplicationPolicy, Site, SiteStores};
use oms_core::disk::DiskError;
use oms_core::journal::{
    Envelope, Event, HistoryId, JournalError, JournalEvent as _, JournalExt, SqliteJournal,
};
use oms_core::task::{TaskError, blocking};
use oms_core::{Clock, Entropy, Journal, SystemClock, SystemEntropy};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::Instrument as _;
use tracing::instrument::WithSubscriber as _;

/// The most items one vault protects.
pub const ITEMS_MAX: usize = 10_000;

/// How a vault works.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Its name: 1 to 200 bytes.
    pub name: String,
    /// At which size a replication log begins a new file, in bytes: 4 KiB to 1 GiB.
    pub segment_bytes: u64,
}

impl Default for Settings {
    /// `recovery-vault`, 16 MiB.
    fn default() -> Self {
        Self { name: "recovery-vault".to_owned(), segment_bytes: 16 << 20 }
    }
}

/// What every item of a vault shares.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) stores: Arc<dyn SiteStores>,
    pub(crate) link: Arc<dyn Link>,
}

impl Shared {
    pub(crate) fn history(name: &str) -> Result<HistoryId> {
        Ok(HistoryId::new(HISTORY_KIND, name)?)
    }

    /// Takes a machine under protection, in the journal.
    async fn enable(
        self: &Arc<Self>,
        name: &str,
        primary: Site,
        recovery: Site,
        policy: ReplicationPolicy,
    ) -> Result<ReplicationProtectedItem> {
        if !(1..=NAME_BYTES_MAX).contains(&name.len()) {
            let (what, value, reason) = ("machine name", name.to_owned(), "not 1 to 200 bytes");
            return Err(Error::Invalid { what, value, reason });
        }
        let replayed = self.journal.replay(&Self::history(name)?, None, follow).await?;
        if replayed.state.is_some() {
            return Err(Error::AlreadyExists { what: "protected item", name: name.to_owned() });
        }
        let items = self.items().await?;
        if items.len() >= ITEMS_MAX {
            return Err(Error::Unsupported { what: "more than 10000 items in one vault" });
        }
        self.check_free(items, &primary).await?;
        let (shared, source) = (Arc::clone(self), primary.clone());
        let disk_bytes = blocking(move || check_source(&shared, &source)).await?;
        // Last, since to open a store may make it.
        let (shared, target) = (Arc::clone(self), recovery.clone());
        blocking(move || check_target(&shared, &target)).await?;
        let machine = Machine { name: name.to_owned(), disk_bytes };
        let request = ItemEvent::EnableRequested { machine, primary, recovery, policy };
        let (id, expected) = (ItemId::draw(&*self.entropy), replayed.version);
        let Some(item) = ReplicationProtectedItem::requested(id, expected, &request) else {
            return Err(Error::Internal { reason: "a request is none".to_owned() });
        };
        let sealed = self.sealed(item, expected, request, self.clock.now())?;
        Ok(self.send(sealed).await?)
    }

    /// Every protected item as the journal has it, by name.
    pub(crate) async fn items(&self) -> Result<Vec<ReplicationProtectedItem>> {
        let all = self.journal.replay_kind(HISTORY_KIND, None, follow).await?;
        Ok(all.into_iter().filter_map(|replayed| replayed.state).collect())
    }

    /// That no item has a disk at one of its sites, under whatever name: two that write to one disk
    /// each undo what the other one does.
    pub(crate) async fn check_free(
        self: &Arc<Self>,
        items: Vec<ReplicationProtectedItem>,
        site: &Site,
    ) -> Result<()> {
        let (shared, wanted) = (Arc::clone(self), site.clone());
        blocking(move || {
            for item in items {
                let is_same = |site| shared.stores.is_same_image(site, &wanted);
                if is_same(&item.primary) || is_same(&item.recovery) {
                    let (what, name) = ("protection of this disk", item.machine.name);
                    return Err(Error::AlreadyExists { what, name });
                }
            }
            Ok(())
        })
        .await
    }

    /// Appends an event that the state allows, then takes it into account.
    pub(crate) async fn append(
        &self,
        item: &mut ReplicationProtectedItem,
        event: ItemEvent,
    ) -> std::result::Result<(), Unwritten> {
        *item = self.send(self.seal(item, event)?).await?;
        Ok(())
    }

    /// An event that the state allows, as the journal is to have it.
    pub(crate) fn seal(&self, item: &ReplicationProtectedItem, event: ItemEvent) -> Result<Sealed> {
        let now = self.clock.now();
        let mut next = item.clone();
        next.apply(&event, now)?;
        self.sealed(next, item.version, event, now)
    }

    fn sealed(
        &self,
        next: ReplicationProtectedItem,
        expected: u64,
        event: ItemEvent,
        now: jiff::Timestamp,
    ) -> Result<Sealed> {
        let stored = StoredEvent {
            vault: self.settings.name.clone(),
            item: next.id,
            state: next.state,
            test: next.test,
            policy: next.policy.name.clone(),
            last_successful_test_failover: next.last_successful_test_failover,
            event,
        };
        let envelope = stored.seal(now, "oms-recovery")?;
        Ok(Sealed { next, expected, envelope })
    }

    /// Appends a sealed event; answers the item as it is then.
    pub(crate) async fn send(
        &self,
        sealed: Sealed,
    ) -> std::result::Result<ReplicationProtectedItem, Unwritten> {
        let Sealed { mut next, expected, envelope } = sealed;
        let history = Self::history(&next.machine.name)?;
        let sent = vec![envelope.clone()];
        let error = match self.journal.append_to(&history, expected, sent).await {
            Ok(version) => {
                next.version = version;
                return Ok(next);
            }
            // Another process has the history.
            Err(error @ JournalError::Conflict { .. }) => return Err(Error::from(error).into()),
            Err(error) => Error::from(error),
        };
        // The answer may be lost, and not the event.
        let found = self.journal.read(&history, expected, 1).await.unwrap_or_default();
        match found.first().filter(|event| event.envelope == envelope) {
            Some(own) => {
                next.version = own.version;
                Ok(next)
            }
            None => Err(Unwritten::Unheard { error }),
        }
    }
}

/// What an item is after one event more.
#[expect(clippy::needless_pass_by_value, reason = "it is what `JournalExt::replay` applies")]
fn follow(
    item: &mut Option<ReplicationProtectedItem>,
    stored: StoredEvent,
    event: &Event,
) -> Result<()> {
    ReplicationProtectedItem::follow(item, &stored, event).map(drop)
}

/// An event on its way to the journal.
#[derive(Debug)]
pub(crate) struct Sealed {
    /// The item as it is once the event is there.
    next: ReplicationProtectedItem,
    /// Which event it follows.
    expected: u64,
    pub(crate) envelope: Envelope,
}

/// Why an event is not known to be in the journal.
#[derive(Debug)]
pub(crate) enum Unwritten {
    /// It is not there.
    Refused(Error),
    /// The journal did not tell: it may be there, or come to be.
    Unheard { error: Error },
}

impl From<Error> for Unwritten {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<Unwritten> for Error {
    fn from(unwritten: Unwritten) -> Self {
        match unwritten {
            Unwritten::Refused(error) | Unwritten::Unheard { error } => error,
        }
    }
}

/// Makes a [`RecoveryVault`].
#[derive(Debug)]
pub struct RecoveryVaultBuilder {
    dir: PathBuf,
    settings: Settings,
    journal: Option<Arc<dyn Journal>>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    stores: Arc<dyn SiteStores>,
    link: Arc<dyn Link>,
}

impl RecoveryVaultBuilder {
    /// Where the vault's events go; a file `journal.sqlite` in the vault's folder by default.
    #[must_use]
    pub fn journal(mut self, journal: Arc<dyn Journal>) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Where time comes from; the system's clock by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where ids come from; the system's generator by default.
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// How the vault works.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// What a site's location means; a folder of this computer by default.
    #[must_use]
    pub fn stores(mut self, stores: Arc<dyn SiteStores>) -> Self {
        self.stores = stores;
        self
    }

    /// The way between the sites; both are reached from this process by default.
    #[must_use]
    pub fn link(mut self, link: Arc<dyn Link>) -> Self {
        self.link = link;
        self
    }

    /// Opens the vault. Items open when they are asked for.
    ///
    /// # Errors
    /// [`Error::Invalid`] for settings out of range; [`Error::Disk`] if the vault's folder cannot be
    /// made; [`Error::Journal`] if its journal cannot be opened.
    pub fn build(self) -> Result<RecoveryVault> {
        let Settings { name, segment_bytes } = &self.settings;
        let refuse = |what, value: String, reason| Err(Error::Invalid { what, value, reason });
        if !(1..=NAME_BYTES_MAX).contains(&name.len()) {
            return refuse("vault name", name.clone(), "not 1 to 200 bytes");
        }
        if !(4 << 10..=1 << 30).contains(segment_bytes) {
            return refuse("segment_bytes", segment_bytes.to_string(), "not 4 KiB to 1 GiB");
        }
        oms_core::LocalDisk::new(&self.dir)?;
        let journal = match self.journal {
            Some(journal) => journal,
            None => Arc::new(SqliteJournal::open(self.dir.join("journal.sqlite"))?),
        };
        let shared = Shared {
            settings: self.settings,
            journal,
            clock: self.clock,
            entropy: self.entropy,
            stores: self.stores,
            link: self.link,
        };
        Ok(RecoveryVault { dir: self.dir, shared: Arc::new(shared), items: Items::default() })
    }
}

/// Protects machines. Holds metadata only: what is replicated is at the sites and nowhere else.
///
/// One process at a time may have one item open; the journal notices a second one and refuses its
/// events.
#[derive(Debug)]
pub struct RecoveryVault {
    dir: PathBuf,
    shared: Arc<Shared>,
    items: Items,
}

/// The items that are open, by name.
pub(crate) type Items = Arc<tokio::sync::Mutex<HashMap<String, Arc<ProtectedItem>>>>;

/// Does work in a task of its own, so that nothing of it stops half-way when its caller stops
/// waiting.
pub(crate) async fn whole<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let done = tokio::spawn(work.in_current_span().with_current_subscriber()).await;
    done.map_err(TaskError::from)?
}

impl RecoveryVault {
    /// Begins a vault whose own files are in `dir`.
    #[must_use]
    pub fn builder(dir: impl Into<PathBuf>) -> RecoveryVaultBuilder {
        RecoveryVaultBuilder {
            dir: dir.into(),
            settings: Settings::default(),
            journal: None,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            stores: Arc::new(LocalStores),
            link: Arc::new(InProcessLink),
        }
    }

    /// The vault's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Protects the disk in the image `primary_disk` by a replica in the folder `replica_dir`.
    /// Writes are tracked when it returns; [`ProtectedItem::replicate`] copies the disk.
    ///
    /// Replication keeps its files beside the image, in a folder `IMAGE.replication`, and in
    /// `replica_dir`. From now on the disk is written through [`ProtectedItem::device`] only.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] for a name, replica or protected disk that is there already;
    /// [`Error::Invalid`], also for a folder `replica_dir` or `IMAGE.replication` that holds other files;
    /// [`Error::Disk`];
    /// [`Error::Journal`].
    pub async fn enable_protection(
        &self,
        name: &str,
        primary_disk: &Path,
        replica_dir: &Path,
        policy: ReplicationPolicy,
    ) -> Result<Arc<ProtectedItem>> {
        let image = absolute("primary disk", primary_disk)?;
        if Path::new(&image).is_dir() {
            let (what, reason) = ("primary disk", "is a folder");
            return Err(Error::Invalid { what, value: image, reason });
        }
        let invalid =
            |reason| Error::Invalid { what: "primary disk", value: image.clone(), reason };
        let path = Path::new(&image);
        let (Some(folder), Some(file)) = (path.parent(), path.file_name()) else {
            return Err(invalid("has no file name"));
        };
        if !path.is_file() {
            return Err(Error::NotFound { what: "primary disk", name: image });
        }
        let file = file.to_string_lossy().into_owned();
        let primary = Site {
            location: folder.to_string_lossy().into_owned(),
            folder: format!("{file}.replication").into(),
            image: file.into(),
        };
        let recovery = Site {
            location: absolute("replica folder", replica_dir)?,
            image: "disk.img".into(),
            folder: "replication".into(),
        };
        let (checked, made) = (recovery.clone(), recovery.location.clone());
        let is_new = blocking(move || check_replica_folder(&checked)).await?;
        let enabled = self.enable_protection_at(name, primary, recovery, policy).await;
        if enabled.is_err() && is_new {
            // Only if it is empty.
            let _ = blocking(move || Ok::<_, Error>(std::fs::remove_dir(made))).await?;
        }
        enabled
    }

    /// Protects a disk between two sites as the vault's stores know them.
    ///
    /// # Errors
    /// As [`enable_protection`](Self::enable_protection).
    pub async fn enable_protection_at(
        &self,
        name: &str,
        primary: Site,
        recovery: Site,
        policy: ReplicationPolicy,
    ) -> Result<Arc<ProtectedItem>> {
        policy.check()?;
        let (shared, items, name) = (Arc::clone(&self.shared), self.items_open(), name.to_owned());
        whole(async move {
            let mut items = items.lock().await;
            let item = shared.enable(&name, primary, recovery, policy).await?;
            let protected = ProtectedItem::open(shared, item).await?;
            items.insert(name, Arc::clone(&protected));
            Ok(protected)
        })
        .await
    }

    /// An item by its name; what a crash interrupted is completed or undone first.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Disk`] if a site is away; [`Error::Corrupt`].
    pub async fn item(&self, name: &str) -> Result<Arc<ProtectedItem>> {
        let (shared, items, name) = (Arc::clone(&self.shared), self.items_open(), name.to_owned());
        whole(async move {
            let mut items = items.lock().await;
            if let Some(item) = items.get(&name).filter(|item| !item.is_closed()) {
                return Ok(Arc::clone(item));
            }
            let history = Shared::history(&name)?;
            let item = shared.journal.replay(&history, None, follow).await?.state;
            let unknown = || Error::NotFound { what: "protected item", name: name.clone() };
            let protected = ProtectedItem::open(shared, item.ok_or_else(unknown)?).await?;
            items.insert(name, Arc::clone(&protected));
            Ok(protected)
        })
        .await
    }

    fn items_open(&self) -> Items {
        Arc::clone(&self.items)
    }

    /// The protections of a machine that have ended, oldest first, with what is still at their sites, as
    /// they are now: also what an end whose answer was lost left there. Looks, and changes nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a name that never was protected; [`Error::Journal`].
    pub async fn ended_protections(&self, name: &str) -> Result<Vec<EndedProtection>> {
        let (shared, name) = (Arc::clone(&self.shared), name.to_owned());
        whole(async move { shared.ended_protections(&name).await }).await
    }

    /// Plans to bring what the newest ended protection of a machine kept at a site to the image there, and
    /// then to remove its files. Reads and checks the whole log; a torn tail, which never was durable, is
    /// cut.
    ///
    /// The image is then what that site's disk was when it was last flushed. If the disk was
    /// [production's before a failover](crate::machine::ended::RemainsKind::FormerPrimary), it is not what
    /// production went on with.
    ///
    /// # Errors
    /// [`Error::NotFound`] if nothing is kept there; [`Error::Unsupported`] for a replica, and
    /// [`Error::IllegalState`] for what is being discarded; [`Error::Invalid`] for an image that something
    /// else has written to since it had everything, or that has shrunk; [`Error::Corrupt`];
    /// [`Error::Disk`]; [`Error::Journal`].
    pub async fn plan_merge(&self, name: &str, site: ActiveLocation) -> Result<ReleasePlan> {
        self.plan_release(name, site, ReleaseEvent::Merge).await
    }

    /// Plans to remove what the newest ended protection of a machine kept at a site. The image stays as it
    /// is, but that of a replica at the recovery site, which goes too.
    ///
    /// # Errors
    /// [`Error::NotFound`] if nothing is kept there; [`Error::Unsupported`] for files that are
    /// production's disk themselves, and [`Error::IllegalState`] for what is being merged;
    /// [`Error::Disk`]; [`Error::Journal`].
    pub async fn plan_discard(&self, name: &str, site: ActiveLocation) -> Result<ReleasePlan> {
        self.plan_release(name, site, ReleaseEvent::Discard).await
    }

    async fn plan_release(
        &self,
        name: &str,
        site: ActiveLocation,
        event: ReleaseEvent,
    ) -> Result<ReleasePlan> {
        let (shared, items, name) = (Arc::clone(&self.shared), self.items_open(), name.to_owned());
        whole(async move { ReleasePlan::new(shared, items, &name, site, event).await }).await
    }

    /// Every protected item as the journal has it, by name. Opens no site.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn items(&self) -> Result<Vec<ReplicationProtectedItem>> {
        self.shared.items().await
    }
}

fn absolute(what: &'static str, path: &Path) -> Result<String> {
    let value = path.display().to_string();
    let absolute = std::path::absolute(path).map_err(|_empty| Error::Invalid {
        what,
        value: value.clone(),
        reason: "is no path",
    })?;
    let text = absolute.to_str().map(str::to_owned);
    text.ok_or(Error::Invalid { what, value, reason: "is not UTF-8" })
}

/// Checks that the source can be read, and that nothing is in the way beside it; answers the disk's
/// length.
fn check_source(shared: &Shared, primary: &Site) -> Result<u64> {
    let source = shared.stores.open(&primary.location)?;
    let image = FileDevice::open(&*source, &primary.image)?;
    check_primary(&*source, primary)?;
    Ok(image.len())
}

/// Checks that nothing is in the way at the target.
fn check_target(shared: &Shared, recovery: &Site) -> Result<()> {
    use oms_core::disk::OpenMode;
    let target = shared.stores.open(&recovery.location)?;
    match target.open(&recovery.image, OpenMode::Read) {
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => {
            check_recovery(&*target, recovery)
        }
        Err(error) => Err(error.into()),
        Ok(_) => {
            let name = format!("{}/{}", recovery.location, recovery.image.display());
            Err(Error::AlreadyExists { what: "replica", name })
        }
    }
}

/// Refuses a replica's folder in which other files are: a replica has a folder of its own. Answers
/// whether there is none yet.
fn check_replica_folder(recovery: &Site) -> Result<bool> {
    let location = Path::new(&recovery.location);
    let failed = |source| DiskError { operation: "list", path: location.to_owned(), source };
    let entries = match std::fs::read_dir(location) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(failed(error).into()),
    };
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        // What a replica itself has there is told by name; a new file system is not without a folder.
        let is_own = [recovery.image.as_os_str(), recovery.folder.as_os_str()].contains(&&*name);
        if !is_own && name != "lost+found" {
            let (what, value) = ("replica folder", recovery.location.clone());
            let value = format!("{value}, in it: {}", name.to_string_lossy());
            let reason = "holds other files: a replica wants a new or empty folder";
            return Err(Error::Invalid { what, value, reason });
        }
    }
    Ok(false)
}
