//! What the service has in a subscription, and its management by the shapes of Azure Automation.
//!
//! ```text
//!  GET, PUT, PATCH, DELETE configurations ─────► source documents ─┐
//!  GET, PUT compilationjobs, streams ──────────► compilation jobs ◄┘
//!  GET, PUT, DELETE nodeConfigurations ────────► what is published ◄┘
//!  GET, PATCH, DELETE nodes; reports; nodecounts ► nodes, reports
//!  GET, POST agentRegistrationInformation ─────► the account's registration keys
//!  GET statistics ─────────────────────────────► compilation jobs by status
//! ```
//!
//! The routes are those of `Microsoft.Automation/automationAccounts/{account}/…` in the specifications of
//! Azure's REST APIs (`specification/automation/resource-manager/Microsoft.Automation`, files
//! `dscConfiguration.json` of 2015-10-31, the other `dsc*.json` and `account.json` of 2018-01-15), which
//! azure-mgmt-automation is generated from; any `api-version` is taken. Where this server says something
//! else than Azure does, its module says so:
//!
//! - A configuration is a document in YAML or JSON ([`authoring`](crate::authoring)), and no script.
//! - A node's `nodeId` is its [`handle`](crate::pull_server::Node::handle): its AgentId is a secret.
//! - The account's keys are not for whoever may read: see `registration`.

#[cfg(feature = "http")]
mod compilation;

#[cfg(feature = "http")]
mod configuration;

#[cfg(feature = "http")]
mod filter;

#[cfg(feature = "http")]
mod node;

#[cfg(feature = "http")]
mod node_configuration;

#[cfg(feature = "http")]
mod page;

#[cfg(feature = "http")]
mod registration;

#[cfg(feature = "http")]
mod report;

#[cfg(feature = "http")]
mod request;

#[cfg(feature = "http")]
mod statistics;

#[cfg(feature = "http")]
mod surface;

#[cfg(feature = "http")]
pub use surface::{ArmAccount, surface};

#[cfg(all(feature = "http", feature = "testkit"))]
#[doc(hidden)]
pub use filter::fuzz;

use oms_core::resource::{NameRules, TypeRegistryBuilder};

/// The name under which the service registers its types.
const SERVICE: &str = "dsc";

/// The type of an account, which automation and configuration share and neither owns.
pub const ACCOUNTS: &str = "Microsoft.Automation/automationAccounts";

/// Registers the types of resources that this service keeps, below the account.
#[must_use]
pub fn arm_types(types: TypeRegistryBuilder) -> TypeRegistryBuilder {
    let below =
        ["configurations", "compilationjobs", "nodes", "nodes/reports", "nodeConfigurations"];
    // An account's name here may be shorter than Azure would take.
    below.iter().fold(types.parent(SERVICE, ACCOUNTS, NameRules::ANY), |types, kind| {
        types.child(SERVICE, &format!("{ACCOUNTS}/{kind}"), NameRules::ANY)
    })
}
