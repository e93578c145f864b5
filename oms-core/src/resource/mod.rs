//! Azure Resource Manager identities, and the resources that no single service owns.
//!
//! A [`ResourceId`] is a path; [`ArmId`] is what it says: subscription, resource group, provider,
//! types and names. [`Resources`] keeps subscriptions, resource groups and tracked resources as
//! histories of the journal, with an index in memory that is rebuilt from them. Which types there
//! are is in a [`TypeRegistry`]: several services hang child types below one parent that neither
//! owns.
//!
//! ```text
//!  put / delete ─► preconditions, names, tags ─► Journal (one append, parent fenced) ─► index
//!                                                    │                                   │
//!                                                    └──── open: replay every history ──►┤
//!                                                                        get, list ◄─────┘
//! ```

mod id;

mod arm;

mod name;

mod tags;

mod tracked;

mod registry;

mod filter;

mod change;

mod index;

mod store;

mod error;

pub use arm::{ArmId, ProviderPath, ResourceType};
pub use error::ResourceError;
pub use filter::{Filter, LIST_MAX, ListQuery, Page, Scope};
pub use id::ResourceId;
pub use name::{Characters, NameRules};
pub use registry::{RegistryError, ResourceGuard, TypeInfo, TypeRegistry, TypeRegistryBuilder};
pub use store::{MEMBERS_MAX, Put, Resources};
pub use tags::Tags;
pub use tracked::{
    Completion, ETag, GroupSpec, Outcome, PROPERTIES_BYTES_MAX, Preconditions, ProvisioningEvent,
    ProvisioningState, ResourceGroup, ResourceSpec, Subscription, SystemData, TrackedResource,
};
