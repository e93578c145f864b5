//! Bringing what an ended protection kept to its image, or doing without it.

use super::state::{self, ReleaseEvent, ReleaseState, StoredRelease};
use super::{KnownImage, LogContent, Remains, RemainsKind};
use crate::error::{Error, Result};
use crate::machine::ReplicationProtectedItem;
use crate::machine::disk::{BlockDevice as _, FileDevice};
use crate::machine::site::{
    is_there, names, options, remove_file, remove_replica, remove_replication, settle_last, tidy,
};
use crate::replication::Site;
use crate::replication::image::check_length;
use crate::replication::mark::MarkFile;
use crate::replication::state::ActiveLocation;
use crate::replication::tracker::merge::KeptLog;
use crate::vault::{Items, Shared, whole};
use oms_core::Lifecycle as _;
use oms_core::disk::{Disk, OpenMode};
use oms_core::journal::JournalExt as _;
use oms_core::task::blocking;
use std::sync::Arc;

/// A release that can be done: what is at a site of an ended protection, and what is to become of it.
#[derive(Debug)]
pub struct ReleasePlan {
    shared: Arc<Shared>,
    items: Items,
    item: ReplicationProtectedItem,
    location: ActiveLocation,
    event: ReleaseEvent,
    /// None if nothing is left to be done at the site but to say so.
    remains: Option<Remains>,
    content: LogContent,
}

impl ReleasePlan {
    pub(crate) async fn new(
        shared: Arc<Shared>,
        items: Items,
        name: &str,
        location: ActiveLocation,
        event: ReleaseEvent,
    ) -> Result<Self> {
        let (item, remains) = shared.newest(name, location).await?;
        if let Some(remains) = &remains {
            remains.check(event)?;
        }
        let mut content = LogContent::default();
        let is_log = remains.as_ref().is_some_and(|it| it.known_image.is_some());
        if is_log && event == ReleaseEvent::Merge {
            let (shared, item) = (Arc::clone(&shared), item.clone());
            content = blocking(move || open_log(&shared, &item, location)?.content()).await?;
        }
        Ok(Self { shared, items, item, location, event, remains, content })
    }

    /// What is at the site; none if an earlier release was interrupted when nothing was left to be done.
    #[must_use]
    pub const fn remains(&self) -> Option<&Remains> {
        self.remains.as_ref()
    }

    /// The item as it was before its end.
    #[must_use]
    pub const fn item(&self) -> &ReplicationProtectedItem {
        &self.item
    }

    /// What the log holds that would be merged, whether or not the image has it.
    #[must_use]
    pub const fn content(&self) -> LogContent {
        self.content
    }

    /// Does it, if `confirmation` is the name of the protected machine. Interrupted at any place, it goes on
    /// when it is planned and done again.
    ///
    /// The site is fenced first: nothing takes it for one that runs production any more. But a process that
    /// has had the disk open since before the end of the protection does not ask, and a machine that runs
    /// on the image without its tracked device does not either: stop them before.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another name, and for an image that something else has written to since it
    /// had every write of the log; [`Error::IllegalState`] if the other thing was begun;
    /// [`Error::AlreadyExists`] for a disk that is protected again; [`Error::Corrupt`] if the log is damaged, of
    /// which nothing was merged then; [`Error::Disk`], also while another process does it; [`Error::Journal`].
    pub async fn apply(self, confirmation: &str) -> Result<()> {
        let name = &self.item.machine.name;
        if confirmation != name {
            let (what, value) = ("confirmation", confirmation.to_owned());
            return Err(Error::Invalid { what, value, reason: "is not the name of the machine" });
        }
        whole(async move {
            // Nothing of this vault is protected meanwhile.
            let items = Arc::clone(&self.items);
            let _items = items.lock().await;
            Box::pin(self.release()).await
        })
        .await
    }

    async fn release(self) -> Result<()> {
        let Self { shared, item, location, event, .. } = self;
        shared.check_free(shared.items().await?, item.site(location)).await?;
        // Another process may have begun, or done it, since it was planned.
        let remains = shared.find(&item, location).await?;
        let history = state::history(item.id, location)?;
        let found = state::read(&*shared.journal, &history).await?;
        let (found, mut version) = (found.state, found.version);
        match &remains {
            Some(remains) => remains.check(event)?,
            None if found == ReleaseState::Released => return Ok(()),
            None => {}
        }
        if found == ReleaseState::Kept {
            version = shared.say(&item, location, version, event).await?;
        }
        let (working, ended) = (Arc::clone(&shared), item.clone());
        blocking(move || perform(&working, &ended, location, event)).await?;
        shared.say(&item, location, version, ReleaseEvent::Complete).await?;
        let (name, site) = (&item.machine.name, item.site(location).image_path());
        tracing::info!(name, site, ?event, "what an ended protection kept is released");
        Ok(())
    }
}

impl Remains {
    /// Whether a release makes sense for it, and may follow what was begun.
    fn check(&self, event: ReleaseEvent) -> Result<()> {
        let begun = match event {
            ReleaseEvent::Discard => ReleaseState::Discarding,
            _ => ReleaseState::Merging,
        };
        let operation = match event {
            ReleaseEvent::Discard => "discarding what is kept",
            _ => "merging what is kept",
        };
        if self.state != begun && self.state.next(event).is_err() {
            return Err(Error::IllegalState {
                item: self.image.clone(),
                operation: operation.to_owned(),
                state: self.state.description().to_owned(),
            });
        }
        match (event, self.kind) {
            (ReleaseEvent::Discard, RemainsKind::OneDisk) => Err(Error::Unsupported {
                what: "discarding the files that production's disk lies in: merge them into its image",
            }),
            (ReleaseEvent::Merge, RemainsKind::Replica) => Err(Error::Unsupported {
                what: "merging a replica of a disk that another site has: discard it",
            }),
            (ReleaseEvent::Merge, _) if self.known_image == Some(KnownImage::Changed) => {
                let reason = "something else has written to it since it had every write of the log: \
                              to merge them would undo that, so discard them";
                Err(Error::Invalid { what: "disk image", value: self.image.clone(), reason })
            }
            _ => Ok(()),
        }
    }
}

impl Shared {
    /// The newest ended protection of a machine that has something at a site.
    async fn newest(
        self: &Arc<Self>,
        name: &str,
        location: ActiveLocation,
    ) -> Result<(ReplicationProtectedItem, Option<Remains>)> {
        let mut unreachable = None;
        for (item, _) in self.ended(name).await?.into_iter().rev() {
            match self.find(&item, location).await {
                Ok(Some(remains)) => return Ok((item, Some(remains))),
                Ok(None) => {
                    let history = state::history(item.id, location)?;
                    let found = state::read(&*self.journal, &history).await?.state;
                    if matches!(found, ReleaseState::Merging | ReleaseState::Discarding) {
                        return Ok((item, None));
                    }
                }
                // An older one may be at another place.
                Err(error) => unreachable = unreachable.or(Some(error)),
            }
        }
        let (what, name) = ("files that an ended protection kept at that site", name.to_owned());
        Err(unreachable.unwrap_or(Error::NotFound { what, name }))
    }

    /// Journals an event of a release; answers the version of its history then.
    async fn say(
        &self,
        item: &ReplicationProtectedItem,
        location: ActiveLocation,
        version: u64,
        event: ReleaseEvent,
    ) -> Result<u64> {
        let stored = StoredRelease {
            vault: self.settings.name.clone(),
            machine: item.machine.name.clone(),
            item: item.id,
            location,
            image: item.site(location).image_path(),
            event,
        };
        let (history, now) = (state::history(item.id, location)?, self.clock.now());
        Ok(self.journal.append_event(&history, version, &stored, now, "oms-recovery").await?)
    }
}

/// Does what was journalled, at one site. Repeated after a crash.
fn perform(
    shared: &Shared,
    item: &ReplicationProtectedItem,
    location: ActiveLocation,
    event: ReleaseEvent,
) -> Result<()> {
    let site = item.site(location);
    if !shared.stores.exists(&site.location) {
        return Ok(());
    }
    let store = shared.stores.open(&site.location)?;
    if names(&*store, &site.folder)?.is_none() {
        // It goes last, when everything in it is gone for good.
        return Ok(());
    }
    // Another process that does the same must not write to the image when this one is done.
    let _lock = store.lock(&site.lock())?;
    let mark = MarkFile::peek(&*store, &site.mark())?.filter(|mark| mark.item == item.id.0);
    if mark.is_none() {
        // It was done when the lock was taken, or by one that was interrupted before it knew that the mark
        // is gone for good.
        remove_file(&*store, &site.lock())?;
        store.sync_dir(&site.folder)?;
        tidy(shared, site);
        return Ok(());
    }
    let role = MarkFile::open(&*store, &site.mark())?.expect(item.id.0)?.role;
    match (super::kind(item, location, role), event) {
        (RemainsKind::Replica, _) => {
            return remove_replica(shared, &*store, site, location == ActiveLocation::Recovery);
        }
        (RemainsKind::OneDisk, ReleaseEvent::Merge) => settle_last(shared, item, site, &store)?,
        (_, ReleaseEvent::Merge) => open_log(shared, item, location)?.merge()?,
        // Until it is durable it lacks what it seems to have.
        _ => is_there(store.open(&site.image, OpenMode::Write))?.map_or(Ok(()), |it| it.sync())?,
    }
    remove_replication(shared, &*store, site)
}

fn open_log(
    shared: &Shared,
    item: &ReplicationProtectedItem,
    location: ActiveLocation,
) -> Result<KeptLog> {
    let site: &Site = item.site(location);
    let store: Arc<dyn Disk> = shared.stores.open(&site.location)?;
    let image = Arc::new(FileDevice::open(&*store, &site.image)?);
    // What was protected of an image that has grown is there.
    let protected = item.machine.disk_bytes;
    check_length(site, image.len().min(protected), protected)?;
    KeptLog::open(image, &store, site, options(shared, item))
}
