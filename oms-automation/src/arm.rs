//! What the service has in a subscription.

use oms_core::resource::{NameRules, TypeRegistryBuilder};

/// The name under which the service registers its types.
const SERVICE: &str = "automation";

/// The type of an account, which automation and configuration share and neither owns.
pub const ACCOUNTS: &str = "Microsoft.Automation/automationAccounts";

/// Registers the types of resources that this service keeps, below the account.
#[must_use]
pub fn arm_types(types: TypeRegistryBuilder) -> TypeRegistryBuilder {
    let below = ["runbooks", "jobs"];
    // An account's name here may be shorter than Azure would take.
    below.iter().fold(types.parent(SERVICE, ACCOUNTS, NameRules::ANY), |types, kind| {
        types.child(SERVICE, &format!("{ACCOUNTS}/{kind}"), NameRules::ANY)
    })
}
