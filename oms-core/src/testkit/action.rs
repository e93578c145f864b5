//! What every [`Action`] must do.

#![expect(clippy::panic, reason = "a test suite fails by panicking")]

use crate::action::{Action, ActionError, ActionOutcome};
use crate::id::ActionId;
use futures::future::BoxFuture;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// A name and parameters.
pub type Call = (&'static str, BTreeMap<String, Value>);

/// An action with something to start, new for each case.
pub trait TestedAction: Action {
    /// What ends well and answers `done` in its output.
    fn succeeding(&self) -> Call;

    /// What ends without doing what it should.
    fn failing(&self) -> Call;

    /// What ends only when it is cancelled.
    fn waiting(&self) -> Call;

    /// Comes back when the outcome is final.
    fn settle(&self, id: ActionId) -> BoxFuture<'_, ()>;

    /// How many actions were ever started.
    fn started(&self) -> BoxFuture<'_, usize>;

    /// Ends the service and begins it again from what is durable.
    fn restart(&self) -> BoxFuture<'_, ()>;
}

/// One requirement: its name and the function that checks it on a new action.
pub type Case = (&'static str, for<'a> fn(&'a dyn TestedAction) -> BoxFuture<'a, ()>);

async fn start(action: &dyn TestedAction, key: &str, call: Call) -> ActionId {
    action.start(key, call.0, call.1).await.expect("started")
}

async fn outcome(action: &dyn TestedAction, id: ActionId) -> ActionOutcome {
    action.outcome(id).await.expect("an outcome")
}

/// One key starts once and answers the same id, also at once and after a restart.
pub async fn a_key_starts_once(action: &dyn TestedAction) {
    let id = start(action, "one", action.succeeding()).await;
    assert_eq!(start(action, "one", action.succeeding()).await, id, "the same key");
    let other = start(action, "two", action.succeeding()).await;
    assert_ne!(other, id, "another key");
    let at_once = (0..8).map(|_| start(action, "three", action.succeeding()));
    let at_once: BTreeSet<_> = futures::future::join_all(at_once).await.into_iter().collect();
    assert_eq!(at_once.len(), 1, "the same key many times at once");
    action.settle(id).await;
    action.restart().await;
    assert_eq!(start(action, "one", action.succeeding()).await, id, "after a restart");
    assert_eq!(action.started().await, 3, "nothing was started twice");
}

/// An outcome becomes final, says what came of it, and stays, also after a restart.
pub async fn an_outcome_is_told_and_stays(action: &dyn TestedAction) {
    let good = start(action, "good", action.succeeding()).await;
    let bad = start(action, "bad", action.failing()).await;
    action.settle(good).await;
    action.settle(bad).await;
    let (good_end, bad_end) = (outcome(action, good).await, outcome(action, bad).await);
    let ActionOutcome::Succeeded { output } = &good_end else { panic!("{good_end:?}") };
    assert!(output.contains("done"), "{output}");
    let ActionOutcome::Failed { reason } = &bad_end else { panic!("{bad_end:?}") };
    assert!(!reason.is_empty(), "a failure says why");
    action.restart().await;
    assert_eq!(outcome(action, good).await, good_end, "after a restart");
    assert_eq!(outcome(action, bad).await, bad_end, "after a restart");
}

/// What waits is pending until it is cancelled; cancelling twice is accepted.
pub async fn a_cancelled_action_ends(action: &dyn TestedAction) {
    let id = start(action, "one", action.waiting()).await;
    assert_eq!(outcome(action, id).await, ActionOutcome::Pending, "it waits");
    action.cancel(id).await.expect("asked to end");
    action.settle(id).await;
    assert_eq!(outcome(action, id).await, ActionOutcome::Cancelled, "it was cancelled");
    action.cancel(id).await.expect("asked again");
    assert_eq!(outcome(action, id).await, ActionOutcome::Cancelled, "it stays");
}

/// What has ended stays as it is when it is cancelled.
pub async fn cancelling_what_ended_changes_nothing(action: &dyn TestedAction) {
    let id = start(action, "one", action.succeeding()).await;
    action.settle(id).await;
    let end = outcome(action, id).await;
    action.cancel(id).await.expect("accepted");
    assert_eq!(outcome(action, id).await, end, "it had ended");
}

/// A name or id that is not known is an error that says so, and starts nothing.
pub async fn the_unknown_is_not_found(action: &dyn TestedAction) {
    let missing = |result: Result<(), ActionError>| {
        let error = result.expect_err("nothing of that name");
        assert!(matches!(error, ActionError::NotFound { .. }), "{error}");
    };
    missing(action.start("one", "No-Such-Thing", BTreeMap::new()).await.map(|_id| ()));
    let id = ActionId(Uuid::from_u128(0xdead));
    missing(action.outcome(id).await.map(|_outcome| ()));
    missing(action.cancel(id).await);
    assert_eq!(action.started().await, 0, "nothing was started");
}

/// Hands the list of cases to a macro, so that it is written once.
#[doc(hidden)]
#[macro_export]
macro_rules! action_cases {
    ($then:ident $(, $argument:tt)*) => {
        $crate::$then! { @each [$($argument)*]
            a_key_starts_once
            an_outcome_is_told_and_stays
            a_cancelled_action_ends
            cancelling_what_ended_changes_nothing
            the_unknown_is_not_found
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! action_case_table {
    (@each [] $($case:ident)+) => {
        &[$((stringify!($case), |action| Box::pin($crate::testkit::action::$case(action)))),+]
    };
}

/// Every requirement.
pub const CASES: &[Case] = crate::action_cases!(action_case_table);

/// Runs every requirement as a test of its own, each on a new [`TestedAction`] from the factory, an
/// asynchronous closure.
#[macro_export]
macro_rules! action_conformance {
    (@each [($make:expr)] $($case:ident)+) => {
        mod conformance {
            #[allow(unused_imports, reason = "the factory may need no imports")]
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::testkit::action::$case(&($make)().await).await;
            })+
        }
    };
    ($make:expr) => {
        $crate::action_cases! { action_conformance, ($make) }
    };
}
