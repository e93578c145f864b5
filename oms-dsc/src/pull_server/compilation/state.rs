//! Where a compilation job stands.

use oms_core::lifecycle::{IllegalTransition, Lifecycle};
use serde::{Deserialize, Serialize};

/// Where a compilation job stands, in the words of Azure Automation's `JobStatus`.
///
/// ```text
///         Create         Start            Complete
///  Absent ──────► New ──────────► Running ─────────► Completed
///                                 │  ▲ │    Fail
///                Start: taken up ─┘  │ └───────────► Failed
///                again, by another ──┘
///                server or after a restart
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CompilationState {
    /// Not asked for yet.
    #[default]
    Absent,
    /// Asked for; no server has begun.
    New,
    /// A server compiles.
    Running,
    /// Every node configuration is published.
    Completed,
    /// Nothing is published.
    Failed,
}

impl CompilationState {
    /// Every state that a job can be seen in.
    pub const ALL: [Self; 4] = [Self::New, Self::Running, Self::Completed, Self::Failed];

    /// Its word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "Absent",
            Self::New => "New",
            Self::Running => "Running",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
        }
    }

    /// Whether nothing more happens to the job.
    #[must_use]
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// What can happen to a compilation job.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum CompilationTransition {
    /// It was asked for.
    Create,
    /// A server began with it, perhaps again.
    Start,
    /// Every node configuration is published.
    Complete,
    /// It cannot be compiled or published.
    Fail,
}

impl Lifecycle for CompilationState {
    type Event = CompilationTransition;

    fn next(
        self,
        event: CompilationTransition,
    ) -> Result<Self, IllegalTransition<Self, CompilationTransition>> {
        use CompilationTransition as E;
        match (self, event) {
            (Self::Absent, E::Create) => Ok(Self::New),
            (Self::New | Self::Running, E::Start) => Ok(Self::Running),
            (Self::Running, E::Complete) => Ok(Self::Completed),
            (Self::Running, E::Fail) => Ok(Self::Failed),
            (state, event) => Err(IllegalTransition { state, event }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::lifecycle::listing;

    #[test]
    fn transition_table() {
        let states =
            oms_core::every_variant!(CompilationState { Absent, New, Running, Completed, Failed });
        let events =
            oms_core::every_variant!(CompilationTransition { Create, Start, Complete, Fail });
        let expected = "\
Absent --Create--> New
New --Start--> Running
Running --Start--> Running
Running --Complete--> Completed
Running --Fail--> Failed
";
        assert_eq!(listing(&states, &events), expected);
        assert_eq!(states[1..], CompilationState::ALL);
    }
}
