//! WIP

pub mod workspace;

pub mod schema;

pub mod ingest;

pub mod repository;

pub mod error;

pub use error::Error;
pub use workspace::{Settings, Workspace};
