//! What the service has in a subscription.

use oms_core::resource::{NameRules, TypeRegistryBuilder};

/// The name under which the service registers its types.
const SERVICE: &str = "backup";

/// The type of a vault, which backup and recovery share and neither owns.
pub const VAULTS: &str = "Microsoft.RecoveryServices/vaults";

/// Registers the types of resources that this service keeps, below the vault.
#[must_use]
pub fn arm_types(types: TypeRegistryBuilder) -> TypeRegistryBuilder {
    let below = [
        "backupJobs",
        "backupFabrics",
        "backupFabrics/protectionContainers",
        "backupFabrics/protectionContainers/protectedItems",
        "backupFabrics/protectionContainers/protectedItems/recoveryPoints",
    ];
    below.iter().fold(types.parent(SERVICE, VAULTS, NameRules::VAULT), |types, kind| {
        types.child(SERVICE, &format!("{VAULTS}/{kind}"), NameRules::ANY)
    })
}
