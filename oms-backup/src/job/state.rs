//! Where a job stands.

use oms_core::lifecycle::{IllegalTransition, Lifecycle};
use serde::{Deserialize, Serialize};

/// Where a job stands.
///
/// ```text
///          Start              Complete
///  Queued ───────► InProgress ───────────────────────► Completed
///    │ Cancel       │  │  │    CompleteWithWarnings
///    │              │  │  └───────────────────────────► CompletedWithWarnings
///    │              │  │ Fail
///    │              │  └──────────────────────────────► Failed
///    │              │ Cancel               Cancelled
///    │              └────────► Cancelling ────────────► Cancelled
///    └────────────────────────────────────────────────►
/// ```
/// A job that is being cancelled may still complete or fail: the work was quicker than the wish.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum JobState {
    /// Accepted, not begun.
    Queued,
    /// Working.
    InProgress,
    /// Working, asked to end.
    Cancelling,
    /// Did everything.
    Completed,
    /// Did what could be done; the warnings tell what could not.
    CompletedWithWarnings,
    /// Did not do it.
    Failed,
    /// Ended on request before it was done.
    Cancelled,
}

/// What can happen to a job.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum JobEventKind {
    /// A thread took it up.
    Start,
    /// Someone asked it to end.
    Cancel,
    /// It did everything.
    Complete,
    /// It did what could be done.
    CompleteWithWarnings,
    /// It could not do it.
    Fail,
    /// It ended because someone asked it to.
    EndCancelled,
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 7] = oms_core::every_variant!(JobState {
        Queued,
        InProgress,
        Cancelling,
        Completed,
        CompletedWithWarnings,
        Failed,
        Cancelled
    });

    /// In plain words.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Queued => "it waits for its turn",
            Self::InProgress => "it is under way",
            Self::Cancelling => "it is being cancelled",
            Self::Completed => "it is done",
            Self::CompletedWithWarnings => "it is done, with warnings",
            Self::Failed => "it has failed",
            Self::Cancelled => "it was cancelled",
        }
    }

    /// Whether it will not change any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::CompletedWithWarnings | Self::Failed | Self::Cancelled
        )
    }

    /// The name that Azure Backup gives the state.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "Queued",
            Self::InProgress => "InProgress",
            Self::Cancelling => "Cancelling",
            Self::Completed => "Completed",
            Self::CompletedWithWarnings => "CompletedWithWarnings",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
        }
    }
}

impl JobEventKind {
    /// Every event.
    pub const ALL: [Self; 6] = oms_core::every_variant!(JobEventKind {
        Start,
        Cancel,
        Complete,
        CompleteWithWarnings,
        Fail,
        EndCancelled
    });
}

impl Lifecycle for JobState {
    type Event = JobEventKind;

    fn next(self, event: JobEventKind) -> Result<Self, IllegalTransition<Self, JobEventKind>> {
        use JobEventKind as E;
        Ok(match (self, event) {
            (Self::Queued, E::Start) => Self::InProgress,
            (Self::InProgress, E::Cancel) => Self::Cancelling,
            (Self::InProgress | Self::Cancelling, E::Complete) => Self::Completed,
            (Self::InProgress | Self::Cancelling, E::CompleteWithWarnings) => {
                Self::CompletedWithWarnings
            }
            (Self::Queued | Self::InProgress | Self::Cancelling, E::Fail) => Self::Failed,
            (Self::Queued, E::Cancel) | (Self::Cancelling, E::EndCancelled) => Self::Cancelled,
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
            listing(&JobState::ALL, &JobEventKind::ALL),
            "Queued --Start--> InProgress\n\
             Queued --Cancel--> Cancelled\n\
             Queued --Fail--> Failed\n\
             InProgress --Cancel--> Cancelling\n\
             InProgress --Complete--> Completed\n\
             InProgress --CompleteWithWarnings--> CompletedWithWarnings\n\
             InProgress --Fail--> Failed\n\
             Cancelling --Complete--> Completed\n\
             Cancelling --CompleteWithWarnings--> CompletedWithWarnings\n\
             Cancelling --Fail--> Failed\n\
             Cancelling --EndCancelled--> Cancelled\n"
        );
    }

    #[test]
    fn final_states_lead_nowhere() {
        for state in JobState::ALL {
            let leads = JobEventKind::ALL.iter().any(|event| state.next(*event).is_ok());
            assert_eq!(leads, !state.is_final(), "{state:?}");
        }
    }
}
