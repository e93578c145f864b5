//! Workers: what runs jobs, apart from the account's own process.

pub mod isolation;
mod local;
mod tree;

pub use isolation::{
    Applied, IsolationMode, IsolationSettings, ResourceLimits, RunAs, Support, TcpAccess,
};
pub(crate) use local::{LocalWorker, Shared, is_set};
pub(crate) use tree::{MARKER_VARIABLE, Marker, TreeGuard, signal, sweep};

oms_core::uuid_id! {
    /// One life of a worker, from its start to its end.
    WorkerRunId, "worker run id"
}
