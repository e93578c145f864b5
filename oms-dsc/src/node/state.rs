//! Where a local configuration manager stands, and what its events made of it.

use crate::Error;
use crate::protocol::{AgentId, Checksum, ConfigurationName, JobId};
use oms_core::journal::Event;
use oms_core::lifecycle::{IllegalTransition, Lifecycle};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The configurations of a node, each by the checksum of its document. A node has all of one set
/// or all of another.
pub type ConfigurationSet = BTreeMap<ConfigurationName, Checksum>;

/// Where a local configuration manager stands.
///
/// ```text
///            Receive                       Apply
///   Idle ───────────► PendingConfiguration ─────► Applying
///   │ ▲ ▲              ▲  │ ▲ ▲   Fail, Interrupt  │  │ │
///   │ │ │              └──┘ │ └────────────────────┘  │ │
///   │ │ │             Receive                         │ │
///   │ │ └───────────────────┼─── Succeed ─────────────┘ │
///   │ │                     │                           │
///   │ │              Resume └── PendingReboot ◄─────────┤ RequestReboot
///   │ │                            │   ▲                │
///   │ │                            └───┘ Receive        │
///   │ └─ Succeed, Fail, Interrupt ── Checking ──────────┘
///   └────────────── Check ──────────────▲
/// ```
///
/// On the wire `Applying` and `Checking` are both `Busy`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LcmState {
    /// It has what it should have.
    #[default]
    Idle,
    /// It holds a configuration that it has yet to apply.
    PendingConfiguration,
    /// It is applying that.
    Applying,
    /// It is checking what it applied before.
    Checking,
    /// It waits for the computer to restart, and goes on after that.
    PendingReboot,
}

impl LcmState {
    /// `LCMState` in reports.
    #[must_use]
    pub const fn wire_name(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::PendingConfiguration => "PendingConfiguration",
            Self::Applying | Self::Checking => "Busy",
            Self::PendingReboot => "PendingReboot",
        }
    }
}

/// What can happen to a local configuration manager.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum LcmTransition {
    /// A new set of configurations is stored.
    Receive,
    /// It begins to apply that.
    Apply,
    /// It begins to check the set it has.
    Check,
    /// The run ended with every resource done.
    Succeed,
    /// The run ended with some resource not done.
    Fail,
    /// The process ended in the middle.
    Interrupt,
    /// What it set counts after a restart only.
    RequestReboot,
    /// The computer has restarted.
    Resume,
}

impl Lifecycle for LcmState {
    type Event = LcmTransition;

    fn next(self, event: LcmTransition) -> Result<Self, IllegalTransition<Self, LcmTransition>> {
        use LcmTransition as E;
        Ok(match (self, event) {
            (Self::Idle | Self::PendingConfiguration, E::Receive) => Self::PendingConfiguration,
            (Self::PendingConfiguration, E::Apply) => Self::Applying,
            (Self::Idle, E::Check) => Self::Checking,
            (Self::Applying | Self::Checking, E::Succeed) => Self::Idle,
            (Self::Applying, E::Fail | E::Interrupt) => Self::PendingConfiguration,
            (Self::Checking, E::Fail | E::Interrupt) => Self::Idle,
            (Self::Applying | Self::Checking, E::RequestReboot)
            | (Self::PendingReboot, E::Receive) => Self::PendingReboot,
            (Self::PendingReboot, E::Resume) => Self::PendingConfiguration,
            (state, event) => return Err(IllegalTransition { state, event }),
        })
    }
}

/// What can happen to a local configuration manager, with its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LcmEvent {
    /// It took its identity.
    Created {
        /// Which.
        agent_id: AgentId,
    },
    /// A pull server took its registration.
    Registered {
        /// The server's address.
        server_url: String,
        /// What it registered for.
        configuration_names: Vec<String>,
    },
    /// The pull server does not know it any more.
    Unregistered,
    /// A whole set of configurations is stored.
    Received {
        /// Which.
        configurations: ConfigurationSet,
    },
    /// It begins to apply the pending set.
    ApplyBegan {
        /// The run.
        job_id: JobId,
    },
    /// It begins to check the current set.
    CheckBegan {
        /// The run.
        job_id: JobId,
    },
    /// A run ended.
    Ended {
        /// The run.
        job_id: JobId,
        /// Whether every resource was done.
        is_success: bool,
    },
    /// The process ended in the middle of a run.
    Interrupted,
    /// A resource asked for a restart of the computer. What the run was about is to be applied after
    /// it.
    RebootRequested {
        /// The run.
        job_id: JobId,
        /// The start of the computer in which it was asked for.
        boot_id: String,
    },
    /// The computer has restarted since.
    Rebooted {
        /// Its new start.
        boot_id: String,
    },
}

oms_core::journal_event!(LcmEvent, format 1, whole, {
    Self::Created { .. } => "dsc-lcm-created",
    Self::Registered { .. } => "dsc-lcm-registered",
    Self::Unregistered => "dsc-lcm-unregistered",
    Self::Received { .. } => "dsc-lcm-received",
    Self::ApplyBegan { .. } => "dsc-lcm-apply-began",
    Self::CheckBegan { .. } => "dsc-lcm-check-began",
    Self::Ended { .. } => "dsc-lcm-ended",
    Self::Interrupted => "dsc-lcm-interrupted",
    Self::RebootRequested { .. } => "dsc-lcm-reboot-requested",
    Self::Rebooted { .. } => "dsc-lcm-rebooted",
});

impl LcmEvent {
    const fn transition(&self) -> Option<LcmTransition> {
        match self {
            Self::Created { .. } | Self::Registered { .. } | Self::Unregistered => None,
            Self::Received { .. } => Some(LcmTransition::Receive),
            Self::ApplyBegan { .. } => Some(LcmTransition::Apply),
            Self::CheckBegan { .. } => Some(LcmTransition::Check),
            Self::Ended { is_success: true, .. } => Some(LcmTransition::Succeed),
            Self::Ended { is_success: false, .. } => Some(LcmTransition::Fail),
            Self::Interrupted => Some(LcmTransition::Interrupt),
            Self::RebootRequested { .. } => Some(LcmTransition::RequestReboot),
            Self::Rebooted { .. } => Some(LcmTransition::Resume),
        }
    }
}

/// A local configuration manager, as its events made it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LcmRecord {
    /// Its identity, once it has one.
    pub agent_id: Option<AgentId>,
    /// Where it stands.
    pub state: LcmState,
    /// The server that knows it, and for which configurations.
    pub registered: Option<(String, Vec<String>)>,
    /// What it applied last with success.
    pub current: ConfigurationSet,
    /// What it applied before that.
    pub previous: ConfigurationSet,
    /// What it has yet to apply.
    pub pending: Option<ConfigurationSet>,
    /// The start of the computer in which a restart was asked for, as long as that is awaited.
    #[serde(default)]
    pub reboot_from: Option<String>,
    /// How often the computer was restarted for what is pending.
    #[serde(default)]
    pub reboots: u32,
    pub(super) version: u64,
}

impl LcmRecord {
    /// What it should have: the pending set, or else the current one.
    #[must_use]
    pub fn wanted(&self) -> &ConfigurationSet {
        self.pending.as_ref().unwrap_or(&self.current)
    }

    pub(super) fn apply(&mut self, event: &LcmEvent) -> Result<(), Error> {
        let internal =
            |error: &dyn std::fmt::Display| Error::Internal { reason: error.to_string() };
        if let Some(transition) = event.transition() {
            self.state = self.state.next(transition).map_err(|error| internal(&error))?;
        }
        match event {
            LcmEvent::Created { agent_id } => self.agent_id = Some(*agent_id),
            LcmEvent::Registered { server_url, configuration_names } => {
                self.registered = Some((server_url.clone(), configuration_names.clone()));
            }
            LcmEvent::Unregistered => self.registered = None,
            LcmEvent::Received { configurations } => {
                self.pending = Some(configurations.clone());
                self.reboots = 0;
            }
            LcmEvent::Ended { is_success: true, .. } => {
                // After a restart what is pending may be what was being corrected.
                if let Some(applied) = self.pending.take().filter(|set| *set != self.current) {
                    self.previous = std::mem::replace(&mut self.current, applied);
                }
                self.reboots = 0;
            }
            LcmEvent::RebootRequested { boot_id, .. } => {
                self.reboot_from = Some(boot_id.clone());
                self.pending.get_or_insert_with(|| self.current.clone());
            }
            LcmEvent::Rebooted { .. } => {
                self.reboot_from = None;
                self.reboots = self.reboots.saturating_add(1);
            }
            LcmEvent::ApplyBegan { .. }
            | LcmEvent::CheckBegan { .. }
            | LcmEvent::Ended { is_success: false, .. }
            | LcmEvent::Interrupted => {}
        }
        Ok(())
    }

    #[expect(clippy::needless_pass_by_value, reason = "it is what `JournalExt::replay` applies")]
    pub(super) fn replay(&mut self, opened: LcmEvent, event: &Event) -> Result<(), Error> {
        self.apply(&opened).map_err(|error| Error::Corrupt {
            what: event.history.to_string(),
            reason: format!("event {}: {error}", event.version),
        })?;
        self.version = event.version;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::lifecycle::listing;

    #[test]
    fn transition_table() {
        let states = oms_core::every_variant!(LcmState {
            Idle,
            PendingConfiguration,
            Applying,
            Checking,
            PendingReboot
        });
        let events = oms_core::every_variant!(LcmTransition {
            Receive,
            Apply,
            Check,
            Succeed,
            Fail,
            Interrupt,
            RequestReboot,
            Resume
        });
        let expected = "\
Idle --Receive--> PendingConfiguration
Idle --Check--> Checking
PendingConfiguration --Receive--> PendingConfiguration
PendingConfiguration --Apply--> Applying
Applying --Succeed--> Idle
Applying --Fail--> PendingConfiguration
Applying --Interrupt--> PendingConfiguration
Applying --RequestReboot--> PendingReboot
Checking --Succeed--> Idle
Checking --Fail--> Idle
Checking --Interrupt--> Idle
Checking --RequestReboot--> PendingReboot
PendingReboot --Receive--> PendingReboot
PendingReboot --Resume--> PendingConfiguration
";
        assert_eq!(listing(&states, &events), expected);
    }
}
