//! Where the release of what an ended protection left at a site stands.

use crate::error::{Error, Result};
use crate::machine::ItemId;
use crate::replication::state::ActiveLocation;
use oms_core::journal::{
    BodyShape, Event, HistoryId, Journal, JournalEvent, JournalExt as _, Replayed,
};
use oms_core::lifecycle::{IllegalTransition, Lifecycle};
use serde::{Deserialize, Serialize};

/// The kind of the history of a site's release; its key is the item's id and the site.
///
/// It is no part of the item's own history: the machine may be protected again by then, and an open
/// item's events follow each other.
pub const RELEASE_HISTORY_KIND: &str = "ended-protection-site";

/// The state of what an ended protection left at one site.
///
/// ```text
///  Kept ──Merge────► Merging ────Complete──► Released
///    └────Discard──► Discarding ─Complete──────▲
/// ```
///
/// What was begun is completed by asking for it again. Of a log that is half removed nothing is merged,
/// and the rest of one that is half merged is not discarded: that image would be the disk of no moment.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ReleaseState {
    /// It is as the end left it.
    #[default]
    Kept,
    /// It is being brought to the image.
    Merging,
    /// It is being removed.
    Discarding,
    /// Nothing of it is there any more.
    Released,
}

/// What can happen to it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ReleaseEvent {
    /// Bring it to the image.
    Merge,
    /// Do without it.
    Discard,
    /// It is done.
    Complete,
}

impl ReleaseState {
    /// Every state.
    pub const ALL: [Self; 4] =
        oms_core::every_variant!(ReleaseState { Kept, Merging, Discarding, Released });

    /// In plain words.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Kept => "Kept",
            Self::Merging => "A merge into the image was begun",
            Self::Discarding => "A removal was begun",
            Self::Released => "Released",
        }
    }
}

impl ReleaseEvent {
    /// Every event.
    pub const ALL: [Self; 3] = oms_core::every_variant!(ReleaseEvent { Merge, Discard, Complete });
}

impl Lifecycle for ReleaseState {
    type Event = ReleaseEvent;

    fn next(
        self,
        event: ReleaseEvent,
    ) -> std::result::Result<Self, IllegalTransition<Self, ReleaseEvent>> {
        use ReleaseEvent as E;
        Ok(match (self, event) {
            (Self::Kept, E::Merge) => Self::Merging,
            (Self::Kept, E::Discard) => Self::Discarding,
            (Self::Merging | Self::Discarding, E::Complete) => Self::Released,
            (state, event) => return Err(IllegalTransition { state, event }),
        })
    }
}

/// An event's body in the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredRelease {
    /// The vault's name.
    pub vault: String,
    /// The machine's name.
    pub machine: String,
    /// The protection that has ended.
    pub item: ItemId,
    /// Which of its sites.
    pub location: ActiveLocation,
    /// The image there.
    pub image: String,
    /// What happened.
    pub event: ReleaseEvent,
}

impl JournalEvent for StoredRelease {
    const KINDS: &'static [&'static str] =
        &["release-merge-started", "release-discard-started", "release-completed"];
    const FORMAT: u16 = 1;
    const SHAPE: BodyShape = BodyShape::Whole;

    fn kind(&self) -> &'static str {
        match self.event {
            ReleaseEvent::Merge => "release-merge-started",
            ReleaseEvent::Discard => "release-discard-started",
            ReleaseEvent::Complete => "release-completed",
        }
    }
}

/// The history of a site's release.
pub(crate) fn history(item: ItemId, location: ActiveLocation) -> Result<HistoryId> {
    let site = match location {
        ActiveLocation::Primary => "primary",
        ActiveLocation::Recovery => "recovery",
    };
    Ok(HistoryId::new(RELEASE_HISTORY_KIND, &format!("{item}/{site}"))?)
}

/// The state that a history comes to.
pub(crate) async fn read(
    journal: &dyn Journal,
    history: &HistoryId,
) -> Result<Replayed<ReleaseState>> {
    let fold = |state: &mut ReleaseState, stored: StoredRelease, event: &Event| {
        *state = state.next(stored.event).map_err(|illegal| event.corrupt(&illegal))?;
        Ok::<(), Error>(())
    };
    journal.replay(history, ReleaseState::default(), fold).await
}
