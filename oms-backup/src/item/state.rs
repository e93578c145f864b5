//! How well a protected item is protected.

use oms_core::lifecycle::{IllegalTransition, Lifecycle};
use serde::{Deserialize, Serialize};

/// Where a protected item stands (`ProtectionState`).
///
/// ```text
///             FirstBackup                    BackupFailed
///  IRPending ─────────────► Protected ◄──────────────────► ProtectionError
///   │  ▲ Resume without      │     ▲       BackupSucceeded      │
///   │  │ a recovery point    │Stop │Resume                      │Stop
///   │  └───────────────────┐ ▼     │                            │
///   └─────────────────► ProtectionStopped ◄─────────────────────┘
///             Stop
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ProtectionState {
    /// Protection is on; there is no recovery point yet.
    IrPending,
    /// Has recovery points, takes more; the last backup succeeded.
    Protected,
    /// Has recovery points, takes more; the last backup failed.
    ProtectionError,
    /// Takes no more recovery points and keeps those it has.
    ProtectionStopped,
}

/// What can happen to a protected item.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ProtectionEvent {
    /// The first recovery point was committed.
    FirstBackup,
    /// A further recovery point was committed.
    BackupSucceeded,
    /// A backup failed.
    BackupFailed,
    /// Protection was stopped; recovery points are kept.
    Stop,
    /// Protection was resumed; there are recovery points.
    Resume,
    /// Protection was resumed before there was any recovery point.
    ResumeEmpty,
}

impl ProtectionState {
    /// Every state, in the order of the diagram.
    pub const ALL: [Self; 4] = oms_core::every_variant!(ProtectionState {
        IrPending,
        Protected,
        ProtectionError,
        ProtectionStopped
    });

    /// In plain words.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::IrPending => "it waits for its first backup",
            Self::Protected => "it is protected",
            Self::ProtectionError => "it is protected, and its last backup failed",
            Self::ProtectionStopped => "its protection is stopped",
        }
    }

    /// The name that Azure Backup gives the state.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::IrPending => "IRPending",
            Self::Protected => "Protected",
            Self::ProtectionError => "ProtectionError",
            Self::ProtectionStopped => "ProtectionStopped",
        }
    }
}

impl ProtectionEvent {
    /// Every event.
    pub const ALL: [Self; 6] = oms_core::every_variant!(ProtectionEvent {
        FirstBackup,
        BackupSucceeded,
        BackupFailed,
        Stop,
        Resume,
        ResumeEmpty
    });
}

impl Lifecycle for ProtectionState {
    type Event = ProtectionEvent;

    fn next(
        self,
        event: ProtectionEvent,
    ) -> Result<Self, IllegalTransition<Self, ProtectionEvent>> {
        use ProtectionEvent as E;
        Ok(match (self, event) {
            (Self::IrPending, E::FirstBackup)
            | (Self::Protected | Self::ProtectionError, E::BackupSucceeded)
            | (Self::ProtectionStopped, E::Resume) => Self::Protected,
            // A backup that was running when protection was stopped still ends.
            (Self::ProtectionStopped, E::FirstBackup | E::BackupSucceeded | E::BackupFailed)
            | (Self::IrPending | Self::Protected | Self::ProtectionError, E::Stop) => {
                Self::ProtectionStopped
            }
            (Self::IrPending, E::BackupFailed) | (Self::ProtectionStopped, E::ResumeEmpty) => {
                Self::IrPending
            }
            (Self::Protected | Self::ProtectionError, E::BackupFailed) => Self::ProtectionError,
            (state, event) => return Err(IllegalTransition { state, event }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::lifecycle::listing;

    #[test]
    fn transition_table() {
        assert_eq!(
            listing(&ProtectionState::ALL, &ProtectionEvent::ALL),
            "IrPending --FirstBackup--> Protected\n\
             IrPending --BackupFailed--> IrPending\n\
             IrPending --Stop--> ProtectionStopped\n\
             Protected --BackupSucceeded--> Protected\n\
             Protected --BackupFailed--> ProtectionError\n\
             Protected --Stop--> ProtectionStopped\n\
             ProtectionError --BackupSucceeded--> Protected\n\
             ProtectionError --BackupFailed--> ProtectionError\n\
             ProtectionError --Stop--> ProtectionStopped\n\
             ProtectionStopped --FirstBackup--> ProtectionStopped\n\
             ProtectionStopped --BackupSucceeded--> ProtectionStopped\n\
             ProtectionStopped --BackupFailed--> ProtectionStopped\n\
             ProtectionStopped --Resume--> Protected\n\
             ProtectionStopped --ResumeEmpty--> IrPending\n"
        );
    }
}
