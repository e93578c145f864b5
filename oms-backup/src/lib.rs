//! WIP
pub mod error;
pub mod item;
pub mod job;
pub mod operation;
pub mod recovery_point;
pub mod vault;
pub use error::Error;
