//! Protected items: what is backed up, and the container that holds them.

pub mod source;

mod container;
mod state;

pub use container::{ContainerBuilder, ProtectionContainer};
pub use state::{ProtectionEvent, ProtectionState};

use crate::error::Error;
use crate::vault::format::SnapshotId;
use jiff::Timestamp;
use oms_core::Lifecycle as _;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The kind of a protected item's history in the journal.
pub const ITEM_HISTORY: &str = "backup-item";

/// The longest name of an item or container, in bytes.
pub const NAME_BYTES_MAX: usize = 200;

/// The most items of one container.
pub const ITEMS_MAX: usize = 2_000;

oms_core::uuid_id! {
    /// A protected item.
    ItemId, "protected item id"
}

/// What to protect.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct ItemOptions {
    /// A name for people, 1 to 200 bytes.
    pub name: String,
    /// Files and folders, as absolute paths.
    pub paths: Vec<PathBuf>,
    /// Whether folders on other file systems stay empty.
    pub one_file_system: bool,
}

/// Something that is backed up again and again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProtectedItem {
    /// Its id.
    pub id: ItemId,
    /// What it is.
    pub options: ItemOptions,
    /// How well it is protected.
    pub state: ProtectionState,
    /// When protection began.
    pub created: Timestamp,
    /// Its newest recovery point and when its backup ended.
    pub latest: Option<(SnapshotId, Timestamp)>,
    /// How many events it has.
    pub(crate) version: u64,
}

/// What happened to a protected item, as it is kept in the journal.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ItemEvent {
    /// Protection began.
    Enabled {
        /// What is protected.
        options: ItemOptions,
    },
    /// The state changed.
    Changed {
        /// Because of this.
        event: ProtectionEvent,
        /// The state that follows, for whoever reads this event alone.
        state: ProtectionState,
        /// The item's name, likewise.
        name: String,
        /// The recovery point, after a backup.
        point: Option<SnapshotId>,
    },
}

oms_core::journal_event!(ItemEvent, format 1, whole, {
    Self::Enabled { .. } => "backup-item-enabled",
    Self::Changed { .. } => "backup-item-changed",
});

impl ProtectedItem {
    /// The item after its first event.
    pub(crate) fn enabled(id: ItemId, options: ItemOptions, created: Timestamp) -> Self {
        let state = ProtectionState::IrPending;
        Self { id, options, state, created, latest: None, version: 1 }
    }

    /// Takes in one further event.
    pub(crate) fn apply(&mut self, event: &ItemEvent, time: Timestamp) -> Result<(), Error> {
        match event {
            ItemEvent::Enabled { .. } => return Err(self.refuse("is enabled already")),
            ItemEvent::Changed { event, point, .. } => {
                self.state =
                    self.state.next(*event).map_err(|it| self.refuse(it.state.description()))?;
                self.latest = point.map(|point| (point, time)).or(self.latest);
            }
        }
        self.version += 1;
        Ok(())
    }

    /// The event of this kind, if the state allows it.
    pub(crate) fn change(
        &self,
        event: ProtectionEvent,
        point: Option<SnapshotId>,
    ) -> Result<ItemEvent, Error> {
        let state = self.state.next(event).map_err(|it| self.refuse(it.state.description()))?;
        Ok(ItemEvent::Changed { event, state, name: self.options.name.clone(), point })
    }

    fn refuse(&self, reason: &str) -> Error {
        let (what, id, reason) = ("protected item", self.id.to_string(), reason.to_owned());
        Error::State { what, id, reason }
    }
}

/// Checks a name of an item or container.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), Error> {
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    if fits {
        return Ok(());
    }
    let value = name.chars().take(100).collect();
    Err(Error::Invalid { what, value, reason: "not 1 to 200 bytes without control characters" })
}
