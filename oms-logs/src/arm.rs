//! What the service has in a subscription.

use oms_core::resource::{NameRules, TypeRegistryBuilder};

/// The name under which the service registers its types.
const SERVICE: &str = "logs";

/// The type of a workspace, which is this service's alone.
pub const WORKSPACES: &str = "Microsoft.OperationalInsights/workspaces";

/// Registers the types of resources of this service: the workspace, and what it keeps below.
#[must_use]
pub fn arm_types(types: TypeRegistryBuilder) -> TypeRegistryBuilder {
    types.tracked(SERVICE, WORKSPACES, NameRules::WORKSPACE).child(
        SERVICE,
        &format!("{WORKSPACES}/tables"),
        NameRules::ANY,
    )
}
