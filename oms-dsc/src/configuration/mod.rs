//! A node's desired state: what a compiled configuration document says.
//!
//! [`Configuration::parse`] reads the document, replaces aliases by what they name, and refuses
//! what no node could apply: a resource id given twice, a dependency that is not there, a cycle.
//! [`Schemas`] say more where the classes of its resources are known.

pub mod credential;

mod dependency;

mod difference;

mod document;

mod keys;

mod schema;

mod value;

pub use difference::{
    CHANGES_BYTES_MAX, ChangeKind, ConfigurationChanges, PropertyChange, ResourceChange,
};
pub(crate) use document::DEPENDENCIES_MAX;
pub use document::{CONFIGURATION_VERSION_MAX, Configuration, ConfigurationDocument};
pub use document::{RESOURCES_MAX, ResourceInstance};
pub use schema::{CheckOptions, PropertySchema, PropertyType, ResourceClass, Schemas};
pub(crate) use schema::{is_secret_name, meant};
pub use value::{Embedded, PropertyValue};
