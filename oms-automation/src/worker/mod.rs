//! Workers: what runs jobs, apart from the account's own process.

#[cfg(target_os = "linux")]
mod cell;
pub mod isolation;
mod local;
pub(crate) mod system;
#[cfg(target_os = "linux")]
mod tree;

pub use isolation::{
    Applied, IsolationMode, IsolationSettings, ResourceLimits, RunAs, Support, TcpAccess,
};
pub(crate) use local::{LocalWorker, Shared, is_set};
pub(crate) use system::Marker;

oms_core::uuid_id! {
    /// One life of a worker, from its start to its end.
    WorkerRunId, "worker run id"
}
