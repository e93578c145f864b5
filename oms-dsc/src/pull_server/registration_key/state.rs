//! Where a registration key stands.

use oms_core::lifecycle::{IllegalTransition, Lifecycle};
use serde::{Deserialize, Serialize};

/// Where a registration key stands. That it has expired is no state: the clock says so.
///
/// ```text
///        Make             Revoke
///  New ────────► Active ──────────► Revoked ─┐
///                                      ▲     │ Revoke: now its nodes go, too
///                                      └─────┘
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RegistrationKeyState {
    /// Not made yet.
    #[default]
    New,
    /// Nodes may register with it until it expires.
    Active,
    /// Nobody registers with it any more.
    Revoked,
}

/// What can happen to a registration key.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum RegistrationKeyTransition {
    /// It was made.
    Make,
    /// An operator revoked it.
    Revoke,
}

impl Lifecycle for RegistrationKeyState {
    type Event = RegistrationKeyTransition;

    fn next(
        self,
        event: RegistrationKeyTransition,
    ) -> Result<Self, IllegalTransition<Self, RegistrationKeyTransition>> {
        use RegistrationKeyTransition as E;
        match (self, event) {
            (Self::New, E::Make) => Ok(Self::Active),
            (Self::Active | Self::Revoked, E::Revoke) => Ok(Self::Revoked),
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
        let states = oms_core::every_variant!(RegistrationKeyState { New, Active, Revoked });
        let events = oms_core::every_variant!(RegistrationKeyTransition { Make, Revoke });
        let expected = "\
New --Make--> Active
Active --Revoke--> Revoked
Revoked --Revoke--> Revoked
";
        assert_eq!(listing(&states, &events), expected);
    }
}
