use oms_core::lifecycle::{IllegalTransition, Lifecycle};
use serde::{Deserialize, Serialize};

/// Where a job stands, in Azure Automation's names.
///
/// ```text
///  Queue        Activate            Start            Complete
///  ─────► New ──────────► Activating ────► Running ───────────► Completed
///          │ ▲               │  │            │ │ │     Fail
///          │ └─── Requeue ───┼──┼────────────┘ │ └────────────► Failed   (from every open state
///          │                 │  │ BeginStop    │                          but Suspended)
///          │                 │  └────────────► Stopping ──Stop─► Stopped
///          │ Stop            │                 ▲                  ▲
///          └─────────────────┼─────────────────┼──────────────────┘
///                            │ Suspend         │ BeginStop
///                            ▼                 │
///  Running ─BeginSuspend─► Suspending ─Suspend─► Suspended ─Resume─► Resuming ─► Activating
///  Running ◄─Unblock/Block─► Blocked     Running ◄─Reconnect/Disconnect─► Disconnected
///  New, Suspended, Completed, Failed, Stopped ─Remove─► Removing
/// ```
///
/// Azure publishes the names and no list of edges; these are the ones that its documents, its SDK's
/// verbs and its worker support. The engine of this version drives those of New, Activating,
/// Running, Stopping and the three ends: Python and Bash have no checkpoints, so such jobs are
/// neither suspended nor resumed.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[non_exhaustive]
pub enum JobState {
    /// Waiting for a worker; the portal says Queued.
    New,
    /// A worker has taken it and prepares; the portal says Starting. Nothing of the runbook has run.
    Activating,
    /// The runbook runs.
    Running,
    /// It ended by itself and well.
    Completed,
    /// It ended by itself and not well, or could not be started, or its worker was lost.
    Failed,
    /// It was ended on request or at its time limit.
    Stopped,
    /// It waits for another job.
    Blocked,
    /// It is parked at a checkpoint.
    Suspended,
    /// Its worker does not answer.
    Disconnected,
    /// It runs on to its next checkpoint.
    Suspending,
    /// Its processes are being ended.
    Stopping,
    /// It was parked and is about to go on.
    Resuming,
    /// It is being deleted.
    Removing,
}

impl JobState {
    /// Every state, in the order of the job runtime protocol's numbers.
    pub const ALL: [Self; 13] = oms_core::every_variant!(JobState {
        New,
        Activating,
        Running,
        Completed,
        Failed,
        Stopped,
        Blocked,
        Suspended,
        Disconnected,
        Suspending,
        Stopping,
        Resuming,
        Removing
    });

    /// In plain words.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::New => "the job waits for a worker",
            Self::Activating => "the job is being started",
            Self::Running => "the job runs",
            Self::Completed => "the job has completed",
            Self::Failed => "the job has failed",
            Self::Stopped => "the job was stopped",
            Self::Blocked => "the job waits for another one",
            Self::Suspended => "the job is suspended",
            Self::Disconnected => "the job's worker does not answer",
            Self::Suspending => "the job is being suspended",
            Self::Stopping => "the job is being stopped",
            Self::Resuming => "the job is being resumed",
            Self::Removing => "the job is being deleted",
        }
    }

    /// Whether it has ended for good.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Stopped | Self::Removing)
    }
}

/// What can happen to a job.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum JobEvent {
    /// A worker took it.
    Activate,
    /// Its process was about to be started.
    Start,
    /// It ended by itself and well.
    Complete,
    /// It ended by itself and not well, or could not run.
    Fail,
    /// It was asked to end.
    BeginStop,
    /// It ended because it was asked to.
    Stop,
    /// It was asked to park.
    BeginSuspend,
    /// It parked.
    Suspend,
    /// It was asked to go on.
    Resume,
    /// It was unloaded and waits again.
    Requeue,
    /// It began to wait for another job.
    Block,
    /// The other job ended.
    Unblock,
    /// Its worker stopped answering.
    Disconnect,
    /// Its worker answers again.
    Reconnect,
    /// Its deletion began.
    Remove,
}

impl JobEvent {
    /// Every event.
    pub const ALL: [Self; 15] = oms_core::every_variant!(JobEvent {
        Activate,
        Start,
        Complete,
        Fail,
        BeginStop,
        Stop,
        BeginSuspend,
        Suspend,
        Resume,
        Requeue,
        Block,
        Unblock,
        Disconnect,
        Reconnect,
        Remove
    });
}

impl Lifecycle for JobState {
    type Event = JobEvent;

    fn next(self, event: JobEvent) -> Result<Self, IllegalTransition<Self, JobEvent>> {
        use JobEvent as E;
        Ok(match (self, event) {
            (Self::New | Self::Resuming, E::Activate) => Self::Activating,
            (Self::Activating | Self::Resuming, E::Start) => Self::Running,
            (Self::Running | Self::Stopping | Self::Suspending, E::Complete) => Self::Completed,
            (
                Self::New
                | Self::Activating
                | Self::Running
                | Self::Stopping
                | Self::Suspending
                | Self::Resuming,
                E::Fail,
            ) => Self::Failed,
            (Self::Activating | Self::Running | Self::Blocked | Self::Suspended, E::BeginStop) => {
                Self::Stopping
            }
            (Self::New | Self::Stopping, E::Stop) => Self::Stopped,
            (Self::Running, E::BeginSuspend) => Self::Suspending,
            (
                Self::Activating | Self::Running | Self::Suspending | Self::Disconnected,
                E::Suspend,
            ) => Self::Suspended,
            (Self::Suspended, E::Resume) => Self::Resuming,
            (Self::Running | Self::Disconnected, E::Requeue) => Self::New,
            (Self::Running, E::Block) => Self::Blocked,
            (Self::Running, E::Disconnect) => Self::Disconnected,
            (Self::Blocked, E::Unblock) | (Self::Disconnected, E::Reconnect) => Self::Running,
            (
                Self::New | Self::Suspended | Self::Completed | Self::Failed | Self::Stopped,
                E::Remove,
            ) => Self::Removing,
            (state, event) => return Err(IllegalTransition { state, event }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::lifecycle::listing;
    use proptest::prelude::*;

    const TABLE: &str = "\
New --Activate--> Activating
New --Fail--> Failed
New --Stop--> Stopped
New --Remove--> Removing
Activating --Start--> Running
Activating --Fail--> Failed
Activating --BeginStop--> Stopping
Activating --Suspend--> Suspended
Running --Complete--> Completed
Running --Fail--> Failed
Running --BeginStop--> Stopping
Running --BeginSuspend--> Suspending
Running --Suspend--> Suspended
Running --Requeue--> New
Running --Block--> Blocked
Running --Disconnect--> Disconnected
Completed --Remove--> Removing
Failed --Remove--> Removing
Stopped --Remove--> Removing
Blocked --BeginStop--> Stopping
Blocked --Unblock--> Running
Suspended --BeginStop--> Stopping
Suspended --Resume--> Resuming
Suspended --Remove--> Removing
Disconnected --Suspend--> Suspended
Disconnected --Requeue--> New
Disconnected --Reconnect--> Running
Suspending --Complete--> Completed
Suspending --Fail--> Failed
Suspending --Suspend--> Suspended
Stopping --Complete--> Completed
Stopping --Fail--> Failed
Stopping --Stop--> Stopped
Resuming --Activate--> Activating
Resuming --Start--> Running
Resuming --Fail--> Failed
";

    #[test]
    fn transition_table() {
        assert_eq!(listing(&JobState::ALL, &JobEvent::ALL), TABLE);
    }

    proptest! {
        /// Whatever is tried, a job that ended is only ever removed.
        #[test]
        fn an_end_is_an_end(tries in prop::collection::vec(0..JobEvent::ALL.len(), 0..60)) {
            let mut state = JobState::New;
            for index in tries {
                let event = JobEvent::ALL[index];
                let was = state;
                state = state.next(event).unwrap_or(state);
                if was.is_final() && state != was {
                    prop_assert_eq!(state, JobState::Removing);
                }
            }
        }
    }
}
