use oms_core::lifecycle::{IllegalTransition, Lifecycle};
use serde::{Deserialize, Serialize};

/// Where a runbook stands.
///
/// ```text
///            Create         Publish              SaveDraft
///   Absent ─────────► New ───────────► Published ─────────► Edit ─┐ SaveDraft
///     ▲               │ ▲ SaveDraft     ▲   ▲  UndoEdit      │ ◄──┘
///     │               │ └─┘             │   └────────────────┤
///     │ Delete        │                 └────────────────────┘ Publish
///     └───────────────┴── from New, Published and Edit
/// ```
///
/// `New`, `Published` and `Edit` are Azure Automation's names; `Absent` is a name that has no
/// runbook, or has none any more.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RunbookState {
    /// There is none of this name.
    Absent,
    /// Created and never published; it may have a draft.
    New,
    /// Has a published version and no draft.
    Published,
    /// Has a published version, which runs, and a newer draft.
    Edit,
}

/// What can happen to a runbook.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum RunbookEvent {
    /// It was made, without content.
    Create,
    /// Its draft was made or replaced.
    SaveDraft,
    /// Its draft became the version that runs.
    Publish,
    /// Its draft was thrown away.
    UndoEdit,
    /// It was deleted. Jobs that were started keep the version they were started with.
    Delete,
}

impl RunbookState {
    /// In plain words.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Absent => "there is none of this name",
            Self::New => "it was never published",
            Self::Published => "it is published and has no draft",
            Self::Edit => "it has a draft beside what is published",
        }
    }
}

impl Lifecycle for RunbookState {
    type Event = RunbookEvent;

    fn next(self, event: RunbookEvent) -> Result<Self, IllegalTransition<Self, RunbookEvent>> {
        use RunbookEvent as E;
        Ok(match (self, event) {
            (Self::Absent, E::Create) | (Self::New, E::SaveDraft) => Self::New,
            (Self::New | Self::Edit, E::Publish) | (Self::Edit, E::UndoEdit) => Self::Published,
            (Self::Published | Self::Edit, E::SaveDraft) => Self::Edit,
            (Self::New | Self::Published | Self::Edit, E::Delete) => Self::Absent,
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
        let states = oms_core::every_variant!(RunbookState { Absent, New, Published, Edit });
        let events =
            oms_core::every_variant!(RunbookEvent { Create, SaveDraft, Publish, UndoEdit, Delete });
        assert_eq!(
            listing(&states, &events),
            "Absent --Create--> New\n\
             New --SaveDraft--> New\n\
             New --Publish--> Published\n\
             New --Delete--> Absent\n\
             Published --SaveDraft--> Edit\n\
             Published --Delete--> Absent\n\
             Edit --SaveDraft--> Edit\n\
             Edit --Publish--> Published\n\
             Edit --UndoEdit--> Published\n\
             Edit --Delete--> Absent\n"
        );
    }
}
