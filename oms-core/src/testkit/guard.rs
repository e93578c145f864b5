//! What every [`ResourceGuard`] must do.

use crate::resource::{ResourceGuard, ResourceId};

/// A guard, and what is known of its resources.
#[derive(Debug)]
pub struct TestedGuard<G> {
    /// The guard.
    pub guard: G,
    /// A resource that its service has something in.
    pub held: ResourceId,
    /// One that it has nothing in, if it ever lets one go.
    pub free: Option<ResourceId>,
    /// One that may be made.
    pub wanted: ResourceId,
    /// One that it has no use for, if it refuses any.
    pub unwanted: Option<ResourceId>,
}

impl<G: ResourceGuard> TestedGuard<G> {
    /// Asks about a resource, and about it in capitals and in small letters: they are one resource, so
    /// the answers are alike. Answers why it may not go, and why it may not be made.
    async fn ask(&self, id: &ResourceId) -> [Option<String>; 2] {
        let text = id.to_string();
        let mut answers = Vec::new();
        for spelling in [text.clone(), text.to_ascii_uppercase(), text.to_ascii_lowercase()] {
            let id: ResourceId = spelling.parse().expect("a resource");
            let stays = self.guard.check_delete(&id).await.err();
            let refused = self.guard.check_create(&id).await.err().map(str::to_owned);
            answers.push([stays, refused]);
        }
        let first = answers.swap_remove(0);
        let is_alike = |other: &[Option<String>; 2]| {
            first.iter().zip(other).all(|(first, other)| first.is_some() == other.is_some())
        };
        assert!(answers.iter().all(is_alike), "spelling matters. resource=`{id}`");
        first
    }
}

fn assert_told(reason: Option<String>, id: &ResourceId) {
    let is_told = reason.is_some_and(|reason| reason.chars().any(char::is_alphabetic));
    assert!(is_told, "nothing is said against it. resource=`{id}`");
}

/// What the service has something in stays, and the reason is told, however the resource is spelled.
pub async fn what_is_held_stays<G: ResourceGuard>(tested: &TestedGuard<G>) {
    let [stays, _] = tested.ask(&tested.held).await;
    assert_told(stays, &tested.held);
}

/// What the service has nothing in may go.
pub async fn what_is_free_goes<G: ResourceGuard>(tested: &TestedGuard<G>) {
    if let Some(free) = &tested.free {
        let [stays, _] = tested.ask(free).await;
        assert_eq!(stays, None, "{free}");
    }
}

/// What the service can serve may be made.
pub async fn what_is_wanted_is_made<G: ResourceGuard>(tested: &TestedGuard<G>) {
    let [_, refused] = tested.ask(&tested.wanted).await;
    assert_eq!(refused, None, "{}", tested.wanted);
}

/// What the service has no use for is refused by what is not supported, however it is spelled.
pub async fn what_is_unwanted_is_refused<G: ResourceGuard>(tested: &TestedGuard<G>) {
    if let Some(unwanted) = &tested.unwanted {
        let [_, refused] = tested.ask(unwanted).await;
        assert_told(refused, unwanted);
    }
}

/// Asking does nothing: the answers stay, in whatever order and however often is asked.
pub async fn asking_changes_nothing<G: ResourceGuard>(tested: &TestedGuard<G>) {
    let all = || {
        let certain = [&tested.held, &tested.wanted];
        certain.into_iter().chain(&tested.free).chain(&tested.unwanted)
    };
    let mut first = Vec::new();
    for id in all() {
        first.push((id, tested.ask(id).await));
    }
    for round in 0..3 {
        for (id, answer) in first.iter().rev() {
            assert_eq!(&tested.ask(id).await, answer, "round {round}: {id}");
        }
    }
}

/// Instantiates the whole suite for one implementation; the factory makes a [`TestedGuard`].
#[macro_export]
macro_rules! resource_guard_conformance {
    ($make:expr) => {
        $crate::resource_guard_conformance!(@each $make;
            what_is_held_stays, what_is_free_goes, what_is_wanted_is_made,
            what_is_unwanted_is_refused, asking_changes_nothing);
    };
    (@each $make:expr; $($case:ident),+) => {
        mod conformance {
            #[allow(unused_imports, reason = "the factory may need no imports")]
            use super::*;
            $(#[tokio::test]
            async fn $case() {
                $crate::testkit::guard::$case(&($make)()).await;
            })+
        }
    };
}
