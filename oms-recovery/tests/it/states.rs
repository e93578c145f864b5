use oms_core::lifecycle::listing;
use oms_recovery::ProtectionState;
use oms_recovery::replication::{ProtectionEvent as E, TestFailoverEvent, TestFailoverState};

const GOLDEN: &str = "\
Unprotected --Enable--> Enabling
Enabling --PrerequisitesMet--> InitialReplication
Enabling --PrerequisitesFailed--> Unprotected
InitialReplication --CopyCompleted--> Protected
InitialReplication --CopyFailed--> InitialReplicationFailed
InitialReplication --Disable--> Unprotected
InitialReplicationFailed --RepairReplication--> InitialReplication
InitialReplicationFailed --Disable--> Unprotected
Protected --Diverged--> ResyncRequired
Protected --PlannedFailover--> PlannedFailoverInProgress
Protected --UnplannedFailover--> UnplannedFailoverInProgress
Protected --Disable--> Unprotected
ResyncRequired --RepairReplication--> Resyncing
ResyncRequired --UnplannedFailover--> UnplannedFailoverInProgress
ResyncRequired --Disable--> Unprotected
Resyncing --CopyCompleted--> Protected
Resyncing --CopyFailed--> ResyncRequired
Resyncing --Diverged--> ResyncRequired
Resyncing --UnplannedFailover--> UnplannedFailoverInProgress
Resyncing --Disable--> Unprotected
PlannedFailoverInProgress --FailoverCompleted--> PlannedFailoverCommitRequired
PlannedFailoverInProgress --FailoverFailed--> Protected
PlannedFailoverCommitRequired --ChangePoint--> PlannedFailoverCommitRequired
PlannedFailoverCommitRequired --Commit--> PlannedFailoverCommitted
PlannedFailoverCommitRequired --Disable--> Unprotected
PlannedFailoverCommitted --ReverseReplicate--> Reprotecting
PlannedFailoverCommitted --Disable--> Unprotected
UnplannedFailoverInProgress --FailoverCompleted--> UnplannedFailoverCommitPending
UnplannedFailoverInProgress --FailoverFailed--> UnplannedFailoverFailed
UnplannedFailoverFailed --RepairReplication--> Resyncing
UnplannedFailoverFailed --UnplannedFailover--> UnplannedFailoverInProgress
UnplannedFailoverFailed --Disable--> Unprotected
UnplannedFailoverCommitPending --ChangePoint--> UnplannedFailoverCommitPending
UnplannedFailoverCommitPending --Commit--> UnplannedFailoverCommitted
UnplannedFailoverCommitPending --Disable--> Unprotected
UnplannedFailoverCommitted --ReverseReplicate--> Reprotecting
UnplannedFailoverCommitted --Disable--> Unprotected
Reprotecting --CopyCompleted--> ReverseProtected
Reprotecting --CopyFailed--> ReverseResyncRequired
Reprotecting --Diverged--> ReverseResyncRequired
Reprotecting --Disable--> Unprotected
ReverseProtected --Diverged--> ReverseResyncRequired
ReverseProtected --PlannedFailover--> FailbackInProgress
ReverseProtected --Disable--> Unprotected
ReverseResyncRequired --RepairReplication--> Reprotecting
ReverseResyncRequired --Disable--> Unprotected
FailbackInProgress --FailoverCompleted--> FailbackCommitRequired
FailbackInProgress --FailoverFailed--> ReverseProtected
FailbackCommitRequired --ChangePoint--> FailbackCommitRequired
FailbackCommitRequired --Commit--> FailedBack
FailbackCommitRequired --Disable--> Unprotected
FailedBack --ReverseReplicate--> InitialReplication
FailedBack --Disable--> Unprotected
";

#[test]
fn transition_table() {
    assert_eq!(listing(&ProtectionState::ALL, &E::ALL), GOLDEN);
}

#[test]
fn test_failover_table() {
    assert_eq!(
        listing(&TestFailoverState::ALL, &TestFailoverEvent::ALL),
        "None --Start--> Running\n\
         Running --Cleanup--> MarkedForDeletion\n\
         MarkedForDeletion --CleanedUp--> None\n"
    );
}

#[test]
fn release_table() {
    use oms_recovery::machine::ended::state::{ReleaseEvent, ReleaseState};
    assert_eq!(
        listing(&ReleaseState::ALL, &ReleaseEvent::ALL),
        "Kept --Merge--> Merging\n\
         Kept --Discard--> Discarding\n\
         Merging --Complete--> Released\n\
         Discarding --Complete--> Released\n"
    );
}

/// What the management API was seen to answer, as far as this scenario has it: without the
/// operations of an Azure target, and with a reversal where that is the way back.
#[test]
fn allowed_operations_follow_from_the_table() {
    use ProtectionState as S;
    let allowed = |state: S| state.allowed_operations(TestFailoverState::None);
    assert_eq!(
        allowed(S::Protected),
        ["PlannedFailover", "UnplannedFailover", "DisableProtection", "TestFailover"]
    );
    assert_eq!(allowed(S::PlannedFailoverCommitRequired), ["Commit", "ChangePit"]);
    assert_eq!(allowed(S::UnplannedFailoverCommitPending), ["Commit", "ChangePit"]);
    assert_eq!(allowed(S::PlannedFailoverCommitted), ["ReverseReplicate", "DisableProtection"]);
    assert_eq!(
        allowed(S::ReverseProtected),
        ["PlannedFailover", "DisableProtection", "TestFailover"]
    );
    assert_eq!(
        S::Protected.allowed_operations(TestFailoverState::Running),
        ["TestFailoverCleanup"]
    );
}

#[test]
fn wire_names_are_those_of_the_management_api() {
    use ProtectionState as S;
    for (state, name, description) in [
        (S::Protected, "Protected", "Protected"),
        (
            S::PlannedFailoverCommitRequired,
            "PlannedFailoverCommitRequired",
            "Planned failover finished",
        ),
        (
            S::UnplannedFailoverCommitPending,
            "UnplannedFailoverCommitPendingStatesBegin",
            "Failover completed",
        ),
        (S::PlannedFailoverCommitted, "PlannedFailoverStatesBegin", "Planned failover committed"),
        (S::UnplannedFailoverFailed, "UnplannedFailoverFailed", "Failover failed"),
        (S::InitialReplication, "UnprotectedStatesBegin", "Initial replication in progress"),
    ] {
        assert_eq!((state.wire_name(), state.description()), (name, description));
    }
}
