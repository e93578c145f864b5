//! Lifecycles as pure functions.

use std::fmt::Debug;

/// A lifecycle: which event is legal in which state, and what follows.
pub trait Lifecycle: Copy + Debug + Eq + Sized {
    /// What can happen to it.
    type Event: Copy + Debug;

    /// The state after `event`, or why `event` cannot happen in this state.
    ///
    /// # Errors
    /// [`IllegalTransition`] names the state and the event.
    fn next(self, event: Self::Event) -> Result<Self, IllegalTransition<Self, Self::Event>>;
}

/// An event arrived in a state that does not allow it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("event {event:?} is illegal in state {state:?}")]
pub struct IllegalTransition<S: Debug, E: Debug> {
    /// The state it was in.
    pub state: S,
    /// The event it refused.
    pub event: E,
}

/// Folds a history, as recovery after a crash does.
///
/// # Errors
/// [`IllegalTransition`] at the first event the history cannot contain.
pub fn replay<L: Lifecycle>(
    initial: L,
    events: impl IntoIterator<Item = L::Event>,
) -> Result<L, IllegalTransition<L, L::Event>> {
    events.into_iter().try_fold(initial, L::next)
}

/// Prints every legal transition, one `State --Event--> Next` a line, in the order given.
///
/// A state table's test compares this with a golden text, so that a change of the table is a
/// change of the test. [`every_variant!`](crate::every_variant) makes sure that none is left out.
#[must_use]
pub fn listing<L: Lifecycle>(states: &[L], events: &[L::Event]) -> String {
    let mut table = String::new();
    for state in states {
        for event in events {
            if let Ok(next) = state.next(*event) {
                table.push_str(&format!("{state:?} --{event:?}--> {next:?}\n"));
            }
        }
    }
    table
}

/// Every value of a fieldless enum of the same crate, as an array in the order given. One that is left
/// out is an error of the compiler.
///
/// ```
/// #[derive(Debug, PartialEq)]
/// enum Door {
///     Open,
///     Shut,
/// }
/// assert_eq!(oms_core::every_variant!(Door { Shut, Open }), [Door::Shut, Door::Open]);
/// ```
///
/// ```compile_fail
/// enum Door {
///     Open,
///     Shut,
/// }
/// let doors = oms_core::every_variant!(Door { Shut });
/// ```
#[macro_export]
macro_rules! every_variant {
    ($name:ident { $($variant:ident),+ $(,)? }) => {{
        const _: fn($name) = |value| match value {
            $($name::$variant => {})+
        };
        [$($name::$variant),+]
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    enum Door {
        Open,
        Shut,
    }

    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    enum Push {
        Pull,
        Push,
    }

    impl Lifecycle for Door {
        type Event = Push;

        fn next(self, event: Push) -> Result<Self, IllegalTransition<Self, Push>> {
            match (self, event) {
                (Self::Open, Push::Push) => Ok(Self::Shut),
                (Self::Shut, Push::Pull) => Ok(Self::Open),
                (state, event) => Err(IllegalTransition { state, event }),
            }
        }
    }

    #[test]
    fn lists_every_legal_transition() {
        assert_eq!(
            listing(&[Door::Open, Door::Shut], &[Push::Pull, Push::Push]),
            "Open --Push--> Shut\nShut --Pull--> Open\n"
        );
    }

    #[test]
    fn replay_stops_at_the_first_impossible_event() {
        assert_eq!(replay(Door::Open, [Push::Push, Push::Pull]), Ok(Door::Open));
        let error = replay(Door::Open, [Push::Push, Push::Push]).expect_err("a shut door");
        assert_eq!(error.to_string(), "event Push is illegal in state Shut");
    }
}
