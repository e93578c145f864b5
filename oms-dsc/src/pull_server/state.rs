//! Where a node stands, as the pull server sees it.

use oms_core::lifecycle::{IllegalTransition, Lifecycle};
use serde::{Deserialize, Serialize};

/// Where a node stands.
///
/// ```text
///         Register               ReportCompliant
///  New ────────────► Pending ─────────────────────► Compliant
///                     ▲  │ ▲                          ▲   │
///              Assign │  │ └── Assign, from any ──────┼───┤
///                     │  │ ReportNotCompliant         ▼   │ FallSilent, from any
///                     │  ├───────────────────► NotCompliant
///                     │  │ ReportFailed               ▲   ▼
///                     │  └───────────────────► Failed ◄► Unresponsive
///           Register  │
///  Removed ───────────┘  (Remove leads here from any; a report in any state decides anew;
///                         Hear leads from Unresponsive to Pending and leaves the others;
///                         Tag, Rotate, SuspectClone and DismissClone leave it)
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NodeState {
    /// Never registered.
    #[default]
    New,
    /// Registered, newly assigned or heard of again after silence, and no run reported since.
    Pending,
    /// Its last run found everything in the desired state, or brought it there.
    Compliant,
    /// Its last run found something out of the desired state.
    NotCompliant,
    /// Its last run failed.
    Failed,
    /// Nothing was heard of it for longer than the limit.
    Unresponsive,
    /// Taken out by an operator.
    Removed,
}

/// What can happen to a node.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum NodeTransition {
    /// It registered, perhaps again.
    Register,
    /// An operator assigned configurations.
    Assign,
    /// An operator set its tags.
    Tag,
    /// It reported a run without differences.
    ReportCompliant,
    /// It reported differences.
    ReportNotCompliant,
    /// It reported a failed run.
    ReportFailed,
    /// It called.
    Hear,
    /// It was not heard of for too long.
    FallSilent,
    /// It rotates its certificate, or is asked to.
    Rotate,
    /// It may be two machines.
    SuspectClone,
    /// An operator found that it is one machine.
    DismissClone,
    /// An operator took it out.
    Remove,
}

impl Lifecycle for NodeState {
    type Event = NodeTransition;

    fn next(self, event: NodeTransition) -> Result<Self, IllegalTransition<Self, NodeTransition>> {
        use NodeTransition as E;
        Ok(match (self, event) {
            (Self::New | Self::Removed, E::Register) => Self::Pending,
            (state @ (Self::New | Self::Removed), event) => {
                return Err(IllegalTransition { state, event });
            }
            (state, E::Register | E::Tag | E::Rotate | E::SuspectClone | E::DismissClone) => state,
            (_, E::Assign) => Self::Pending,
            (_, E::ReportCompliant) => Self::Compliant,
            (_, E::ReportNotCompliant) => Self::NotCompliant,
            (_, E::ReportFailed) => Self::Failed,
            (Self::Unresponsive, E::Hear) => Self::Pending,
            (state, E::Hear) => state,
            (state @ Self::Unresponsive, E::FallSilent) => {
                return Err(IllegalTransition { state, event });
            }
            (_, E::FallSilent) => Self::Unresponsive,
            (_, E::Remove) => Self::Removed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::lifecycle::listing;

    #[test]
    fn transition_table() {
        let states = oms_core::every_variant!(NodeState {
            New,
            Pending,
            Compliant,
            NotCompliant,
            Failed,
            Unresponsive,
            Removed
        });
        let events = oms_core::every_variant!(NodeTransition {
            Register,
            Assign,
            Tag,
            ReportCompliant,
            ReportNotCompliant,
            ReportFailed,
            Hear,
            FallSilent,
            Rotate,
            SuspectClone,
            DismissClone,
            Remove
        });
        let expected = "\
New --Register--> Pending
Pending --Register--> Pending
Pending --Assign--> Pending
Pending --Tag--> Pending
Pending --ReportCompliant--> Compliant
Pending --ReportNotCompliant--> NotCompliant
Pending --ReportFailed--> Failed
Pending --Hear--> Pending
Pending --FallSilent--> Unresponsive
Pending --Rotate--> Pending
Pending --SuspectClone--> Pending
Pending --DismissClone--> Pending
Pending --Remove--> Removed
Compliant --Register--> Compliant
Compliant --Assign--> Pending
Compliant --Tag--> Compliant
Compliant --ReportCompliant--> Compliant
Compliant --ReportNotCompliant--> NotCompliant
Compliant --ReportFailed--> Failed
Compliant --Hear--> Compliant
Compliant --FallSilent--> Unresponsive
Compliant --Rotate--> Compliant
Compliant --SuspectClone--> Compliant
Compliant --DismissClone--> Compliant
Compliant --Remove--> Removed
NotCompliant --Register--> NotCompliant
NotCompliant --Assign--> Pending
NotCompliant --Tag--> NotCompliant
NotCompliant --ReportCompliant--> Compliant
NotCompliant --ReportNotCompliant--> NotCompliant
NotCompliant --ReportFailed--> Failed
NotCompliant --Hear--> NotCompliant
NotCompliant --FallSilent--> Unresponsive
NotCompliant --Rotate--> NotCompliant
NotCompliant --SuspectClone--> NotCompliant
NotCompliant --DismissClone--> NotCompliant
NotCompliant --Remove--> Removed
Failed --Register--> Failed
Failed --Assign--> Pending
Failed --Tag--> Failed
Failed --ReportCompliant--> Compliant
Failed --ReportNotCompliant--> NotCompliant
Failed --ReportFailed--> Failed
Failed --Hear--> Failed
Failed --FallSilent--> Unresponsive
Failed --Rotate--> Failed
Failed --SuspectClone--> Failed
Failed --DismissClone--> Failed
Failed --Remove--> Removed
Unresponsive --Register--> Unresponsive
Unresponsive --Assign--> Pending
Unresponsive --Tag--> Unresponsive
Unresponsive --ReportCompliant--> Compliant
Unresponsive --ReportNotCompliant--> NotCompliant
Unresponsive --ReportFailed--> Failed
Unresponsive --Hear--> Pending
Unresponsive --Rotate--> Unresponsive
Unresponsive --SuspectClone--> Unresponsive
Unresponsive --DismissClone--> Unresponsive
Unresponsive --Remove--> Removed
Removed --Register--> Pending
";
        assert_eq!(listing(&states, &events), expected);
    }
}
