//! Tables: fresh batches, data files, and the one view of both.
//!
//! ```text
//!  wal ──► fresh ──flush──► encode: sort, one Parquet file a day ──► commit: fsync, Delta commit
//!            │                                                          │
//!            └──────────────────► snapshot ◄────────────────────────────┘
//!                                 a query reads one published view: files of one Delta version
//!                                 and what they do not hold yet
//! ```

pub(crate) mod fresh;

pub(crate) mod store;

pub(crate) mod terms;

pub(crate) mod integrity;

pub(crate) mod encode;

pub(crate) mod codes;

pub(crate) mod commit;

pub mod snapshot;

pub(crate) mod table;

pub mod maintain;

pub(crate) mod tables;

pub(crate) mod folder;

pub(crate) mod home;

pub mod share;

pub(crate) mod memory;

pub(crate) mod recent;

pub(crate) mod heads;
