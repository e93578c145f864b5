//! The resources of Linux.

mod accounts;

mod archive;

mod authorized_key;

mod command;

mod command_resource;

mod crypt;

mod diff;

mod differences;

mod environment;

mod file;

mod file_line;

#[cfg(feature = "testkit")]
#[doc(hidden)]
pub mod fuzz;

mod group;

mod log;

mod manifest;

mod package;

mod property;

mod reboot;

mod run_as;

mod script;

mod service;

mod tree;

mod user;

pub use archive::ArchiveResource;
pub use authorized_key::SshAuthorizedKeysResource;
pub use command_resource::CommandResource;
pub use environment::EnvironmentResource;
pub use file::{FILE_BYTES_MAX, FileResource};
pub use file_line::FileLineResource;
pub use group::GroupResource;
pub use log::LogResource;
pub use package::PackageResource;
pub use reboot::PendingRebootResource;
pub use script::{REBOOT_EXIT_CODE, ScriptResource};
pub use service::{ServiceController, ServiceResource, ServiceState, Systemd};
pub use user::UserResource;

use super::{Difference, Resource, SetReport};
