//! A node's desired state: what a compiled configuration document says.
//!
//! [`Configuration::parse`] reads the document, replaces aliases by what they name, and refuses
//! what no node could apply: a resource id given twice, a dependency that is not there, a cycle.

mod dependency;

mod document;

mod value;

pub use document::{CONFIGURATION_VERSION_MAX, Configuration, ConfigurationDocument};
pub use document::{RESOURCES_MAX, ResourceInstance};
pub use value::{Embedded, PropertyValue};
