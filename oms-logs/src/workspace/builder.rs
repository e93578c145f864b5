//! How a workspace is put together, and opened.

use super::{Inner, LogDamage, Settings, Workspace, custom, run};
use crate::Error;
use crate::ingest::rule::RuleStore;
use crate::ingest::wal::{Open, Syncer};
use crate::repository::folder::Folder;
use crate::repository::heads::Heads;
use crate::repository::home::Place;
use crate::repository::maintain::{self, Keep};
use crate::repository::memory::Memory;
use crate::repository::share::{self, Documents, Share, Slot, Taken};
use crate::repository::tables::{Tables, read_log, replay};
use jiff::SignedDuration;
use object_store::ObjectStore;
use oms_core::record::RecordType;
use oms_core::task::blocking;
use oms_core::{Clock, Disk, Entropy, SystemClock, SystemEntropy};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use url::Url;

/// Puts a workspace together. See [`Workspace::builder`].
#[derive(Debug)]
pub struct WorkspaceBuilder {
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    settings: Settings,
    log_disk: Option<Arc<dyn Disk>>,
    place: Place,
    slot: Option<String>,
    quarantine: bool,
}

impl WorkspaceBuilder {
    /// In a folder, with the defaults.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            settings: Settings::default(),
            log_disk: None,
            place: Place::default(),
            slot: None,
            quarantine: false,
        }
    }

    /// Where the time comes from; the operating system's clock by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where ids come from; the operating system's generator by default.
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// How it runs.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Keeps the write-ahead log on another disk than the workspace's folder. The same one has to
    /// be given each time: what is not flushed is only there.
    #[must_use]
    pub fn log_disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.log_disk = Some(disk);
        self
    }

    /// Opens the workspace also if its write-ahead log is damaged: what can be read of it is brought
    /// into the tables, each damaged segment is moved into `wal/quarantine/`, and
    /// [`Workspace::log_damage`] tells what is missing. Without it opening fails with
    /// [`Error::Corrupt`], so that nobody loses acknowledged records without having said so. What a
    /// crash leaves half written is no damage.
    #[must_use]
    pub const fn quarantine(mut self, quarantine: bool) -> Self {
        self.quarantine = quarantine;
        self
    }

    /// Keeps the Delta tables in an object store in place of the workspace's folder, which keeps the
    /// write-ahead log: a record is acknowledged when it is durable on this machine, and goes into
    /// the store with the next flush. `url` is the place of the tables, `s3://bucket/logs` say, and
    /// `store` the whole bucket. It has to refuse to replace an object where it is told to
    /// ([`PutMode::Create`](object_store::PutMode)), as S3, Azure and Google Cloud Storage do.
    ///
    /// The store belongs to this folder, and another one is refused, unless they
    /// [share](Self::shared) it. Give it before [`store_layer`](Self::store_layer).
    #[must_use]
    pub fn object_store(mut self, store: Arc<dyn ObjectStore>, url: Url) -> Self {
        self.place.set_remote(store, url);
        self
    }

    /// Takes the object store over from the folder that it belongs to, which is lost: what its
    /// write-ahead log held and was not flushed is lost with it, and so are the tables' settings and
    /// the data collection rules. The process that used it must have ended, and
    /// [`Settings::workspace_id`] name the workspace.
    #[must_use]
    pub const fn take_over(mut self) -> Self {
        self.place.claim.takes_over = true;
        self
    }

    /// Shares the object store with other folders of the workspace, whose processes write to the same
    /// tables: see [`share`] for what they see of each other.
    /// [`Settings::workspace_id`] has to name the workspace. A store that was one folder's is shared
    /// from when that folder says so, or another one that takes it over, and stays so; plans and
    /// retention of tables, and data collection rules, are kept in it from then on.
    #[must_use]
    pub const fn shared(mut self) -> Self {
        self.place.claim.shares = true;
        self
    }

    /// Keeps the write-ahead log in the [`object_store`](Self::object_store), too, which is
    /// [shared](Self::shared) then: what is acknowledged is lost with no machine. The folder has
    /// nothing that anyone needs again, and may be a new one each time; in one that is the same it is
    /// also found if a table's Delta log lost its end meanwhile.
    ///
    /// `slot` is a name of 1 to 63 letters, digits, `-`, `_` and `.`, and stands for a place among the
    /// writers of the store which one process at a time has, such as that of a pod in a set of pods. A
    /// process that opens it takes it from the one before, also if that one still runs, brings into
    /// the tables what it had acknowledged and not flushed, and goes on with the sequences of its
    /// producers; see [`share`]. A place that is not needed any more is opened and closed once.
    ///
    /// An acknowledgement takes up to [`Settings::log_interval`], and a request to the store. As long
    /// as a request has no answer nobody knows whether a batch is written: its sender gets
    /// [`Error::Store`], it is written when the store answers again, and a sender that tries again
    /// finds it written. [`Settings::workspace_id`] is that of the store unless it is set.
    #[must_use]
    pub fn diskless(mut self, slot: impl Into<String>) -> Self {
        self.slot = Some(slot.into());
        self.place.claim.shares = true;
        self
    }

    /// Puts a layer around the object store that the Delta tables are committed through: the local
    /// file system from its root, every put synced, unless there is an
    /// [`object_store`](Self::object_store). Queries read the data files past it.
    #[must_use]
    pub fn store_layer(
        mut self,
        layer: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>,
    ) -> Self {
        self.place.layer(layer);
        self
    }

    /// Opens the workspace, making it if the folder is empty, and reads what the log holds.
    ///
    /// # Errors
    /// [`Error::Locked`] if it is open already; [`Error::OtherWorkspace`]; [`Error::OtherFolder`];
    /// [`Error::SharedStore`]; [`Error::WriterForgotten`]; [`Error::WriterReplaced`] if another process
    /// takes the same place at the same time; [`Error::Setting`]; [`Error::Store`];
    /// [`Error::Corrupt`] by file and offset; [`Error::Unsupported`]; [`Error::Disk`];
    /// [`Error::Delta`].
    pub async fn build(self) -> Result<Workspace, Error> {
        let Self { folder, clock, entropy, settings, log_disk, place, slot, quarantine } = self;
        if slot.is_some() {
            check_diskless(&place, &settings, log_disk.is_some())?;
        }
        let opened = {
            let wanted = match (&slot, settings.workspace_id) {
                (Some(_), None) => place.clone().home(&folder)?.workspace_id().await?,
                (_, wanted) => wanted,
            };
            let entropy = Arc::clone(&entropy);
            blocking(move || Folder::open(&folder, wanted, entropy.as_ref())).await?
        };
        let Folder { root, disk, lock, mut identity } = opened;
        if slot.is_some() {
            identity = identity.without_folder(entropy.as_ref());
        }
        let (others, how) = (settings.table_settings, &settings.maintenance);
        let keep = Keep::open(&root, Arc::clone(&disk), others, how).await?;
        let rules = {
            let disk = Arc::clone(&disk);
            blocking(move || RuleStore::open(disk)).await?
        };
        let claim = place.claim;
        let mut home = place.home(&root)?;
        home.claim(&identity, claim).await?;
        let (mut share, mut taken) = (None, None);
        if home.is_shared() {
            let documents = Arc::new(Documents::of(&home, &identity)?);
            documents.check_conditions().await?;
            let at = slot.as_deref().map(|name| Slot {
                name,
                disk: &disk,
                home: &home,
                documents: &documents,
                clock: clock.as_ref(),
                entropy: &entropy,
                quarantine,
            });
            let join =
                Share::join(Arc::clone(&documents), Arc::clone(&clock), &settings, &keep, &rules);
            let (joined, place) = join_in_place(at, join).await?;
            (share, taken) = (Some(joined), place);
        }
        let heads = {
            let disk = Arc::clone(&disk);
            blocking(move || Heads::open(disk)).await?
        };
        let tables = Arc::new(Tables::open(home, identity.app_id(), heads).await?);
        let memory = Arc::new(Memory::default());
        let OpenedLog { syncer, log_disk, log_damage, aside } = match taken {
            Some(taken) => OpenedLog::in_store(taken, &settings),
            None => {
                let segment_bytes_max = settings.segment_bytes_max;
                let log = Open {
                    disk: log_disk.unwrap_or(disk),
                    entropy: Arc::clone(&entropy),
                    segment_bytes_max,
                    spare_bytes_min: (segment_bytes_max / 2).max(1 << 20),
                    floor: 0,
                    quarantine,
                };
                OpenedLog::on_disk(log, &tables, &memory).await?
            }
        };
        let inner = Arc::new(Inner {
            syncer,
            log_disk,
            aside: Mutex::new(aside),
            _lock: lock,
            clock,
            entropy,
            settings,
            identity,
            tables,
            memory,
            log_damage,
            keep,
            share,
            rules,
            #[cfg(feature = "http")]
            http_numbers: Arc::default(),
            flushing: tokio::sync::Mutex::new(()),
            reading: Semaphore::new(custom::READ_AT_ONCE_MAX),
            flush_due: Arc::new(Notify::new()),
            oldest: Mutex::new(None),
            runtime: Arc::default(),
        });
        take_over_damage(&inner).await?;
        inner.note_waiting();
        let background = Mutex::new(background(&inner));
        Ok(Workspace { inner: RwLock::new(Some(inner)), background })
    }
}

/// The log as it was opened, on a disk or in the store.
struct OpenedLog {
    syncer: Syncer,
    log_disk: Option<Arc<dyn Disk>>,
    log_damage: Vec<LogDamage>,
    /// The newest entry of each table that was put aside.
    aside: BTreeMap<RecordType, u64>,
}

impl OpenedLog {
    fn in_store(taken: Taken, settings: &Settings) -> Self {
        let syncer = Syncer::start_in_store(taken.log, settings.log_interval.unsigned_abs());
        Self { syncer, log_disk: None, log_damage: taken.damage, aside: BTreeMap::new() }
    }

    /// Reads what of the log is not in the tables yet into memory.
    async fn on_disk(log: Open, tables: &Arc<Tables>, memory: &Arc<Memory>) -> Result<Self, Error> {
        let log_disk = Some(Arc::clone(&log.disk));
        let read =
            replay(tables, memory, move |floor, replay| read_log(Open { floor, ..log }, replay));
        let (wal, log_damage, aside) = read.await?;
        Ok(Self { syncer: Syncer::start(wal)?, log_disk, log_damage, aside })
    }
}

/// Joins those who share the store. A place of one's own there is taken before, and what its former
/// owners left is cleared away after that.
async fn join_in_place(
    slot: Option<Slot<'_>>,
    join: impl Future<Output = Result<Share, Error>>,
) -> Result<(Share, Option<Taken>), Error> {
    let Some(slot) = slot else { return Ok((join.await?, None)) };
    let taken = slot.take().await?;
    let share = join.await?;
    slot.clear(&taken.former).await?;
    Ok((share, Some(taken)))
}

/// Tells of what the log could not give, and moves the damaged segments once the tables hold what was
/// read of them.
async fn take_over_damage(inner: &Arc<Inner>) -> Result<(), Error> {
    for damage in &inner.log_damage {
        let LogDamage { path, offset, reason, batches_missing, moved_to } = damage;
        tracing::error!(
            path,
            offset,
            reason,
            batches_missing,
            moved_to,
            "the log cannot be read here"
        );
    }
    if inner.log_damage.is_empty() {
        return Ok(());
    }
    match inner.flush().await {
        // Its rows are put aside.
        Err(Error::Damaged(_)) => Ok(()),
        flushed => flushed.map(drop),
    }
}

/// What runs while the workspace is open.
fn background(inner: &Arc<Inner>) -> JoinSet<()> {
    let mut background = JoinSet::new();
    background.spawn(run(Arc::downgrade(inner), Arc::clone(&inner.flush_due)));
    if inner.share.is_some() && !inner.settings.refresh_every.is_zero() {
        background.spawn(share::refresh::run(Arc::downgrade(inner)));
    }
    if inner.settings.maintenance.is_automatic {
        background.spawn(maintain::run::run(Arc::downgrade(inner)));
    }
    background
}

/// Bounds of [`Settings::log_interval`].
const LOG_INTERVAL_MIN: SignedDuration = SignedDuration::from_millis(1);
const LOG_INTERVAL_MAX: SignedDuration = SignedDuration::from_secs(10);

/// That nothing of a builder needs a disk.
fn check_diskless(place: &Place, settings: &Settings, has_log_disk: bool) -> Result<(), Error> {
    let refuse = |setting, value: String, reason: String| {
        Err(Error::Setting { of: "the workspace".to_owned(), setting, value, reason })
    };
    if !place.is_remote() {
        let reason = "the tables have to be in an object store".to_owned();
        return refuse("diskless", "no object store".to_owned(), reason);
    }
    if has_log_disk {
        let reason = "the log is in the object store".to_owned();
        return refuse("log_disk", "a disk".to_owned(), reason);
    }
    let interval = settings.log_interval;
    if !(LOG_INTERVAL_MIN..=LOG_INTERVAL_MAX).contains(&interval) {
        let reason = format!("{LOG_INTERVAL_MIN:#} to {LOG_INTERVAL_MAX:#}");
        return refuse("log_interval", format!("{interval:#}"), reason);
    }
    Ok(())
}
