//! Where a roll-out stands.

use oms_core::lifecycle::{IllegalTransition, Lifecycle};
use serde::{Deserialize, Serialize};

/// Where a roll-out stands.
///
/// ```text
///       Begin           Complete
///  New ───────► Running ─────────► Completed
///                │ ▲  │ Abort
///           Stop │ │  └──────────► Aborted ◄─┐
///                ▼ │ Resume                  │
///               Stopped ─────────────────────┘ Abort
/// ```
///
/// A node that reports, or that leaves, changes nothing of it while it runs or is stopped; another roll-out
/// of the configuration begins where the last one ended.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum RolloutState {
    /// None has begun.
    #[default]
    New,
    /// Nodes of open rings get the new version.
    Running,
    /// No further node gets the new version; those that got it keep it.
    Stopped,
    /// Every ring passed: the new version is the published one.
    Completed,
    /// Every node gets the old version again.
    Aborted,
}

impl RolloutState {
    /// Whether it decides which version a node gets.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Running | Self::Stopped)
    }
}

/// What can happen to a roll-out.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum RolloutTransition {
    /// An operator began it.
    Begin,
    /// A node was given the new version.
    Offer,
    /// A node that was given it succeeded or failed.
    Decide,
    /// A node that was given it is none of the configuration any more.
    Leave,
    /// The next ring opened.
    OpenRing,
    /// The failures of a ring passed their bound.
    Stop,
    /// An operator let it go on.
    Resume,
    /// The last ring passed.
    Complete,
    /// An operator took it back.
    Abort,
}

impl Lifecycle for RolloutState {
    type Event = RolloutTransition;

    fn next(
        self,
        event: RolloutTransition,
    ) -> Result<Self, IllegalTransition<Self, RolloutTransition>> {
        use RolloutTransition as E;
        Ok(match (self, event) {
            (Self::New | Self::Completed | Self::Aborted, E::Begin) => Self::Running,
            (Self::Running, E::Offer | E::OpenRing) => Self::Running,
            (state @ (Self::Running | Self::Stopped), E::Decide | E::Leave) => state,
            (Self::Running, E::Stop) => Self::Stopped,
            (Self::Running, E::Complete) => Self::Completed,
            (Self::Stopped, E::Resume) => Self::Running,
            (Self::Running | Self::Stopped, E::Abort) => Self::Aborted,
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
        let states =
            oms_core::every_variant!(RolloutState { New, Running, Stopped, Completed, Aborted });
        let events = oms_core::every_variant!(RolloutTransition {
            Begin,
            Offer,
            Decide,
            Leave,
            OpenRing,
            Stop,
            Resume,
            Complete,
            Abort
        });
        let expected = "\
New --Begin--> Running
Running --Offer--> Running
Running --Decide--> Running
Running --Leave--> Running
Running --OpenRing--> Running
Running --Stop--> Stopped
Running --Complete--> Completed
Running --Abort--> Aborted
Stopped --Decide--> Stopped
Stopped --Leave--> Stopped
Stopped --Resume--> Running
Stopped --Abort--> Aborted
Completed --Begin--> Running
Aborted --Begin--> Running
";
        assert_eq!(listing(&states, &events), expected);
    }
}
