//! From records to durable batches.
//!
//! ```text
//!  Batch ─► admit ─► batch ─► wal ─► the table's fresh batches
//!           checks,  columns  durable   ▲
//!           grows a  by type            │
//!           table                       │
//!  RowBatch ─────► columnar ────────────┘
//!                      ▲
//!  StreamBatch ─► rule ┤ transforms
//!  CustomBatch ─► custom names columns by what they hold
//! ```

pub mod admit;

pub(crate) mod batch;

pub(crate) mod billing;

pub(crate) mod column;

pub(crate) mod conform;

pub(crate) mod item;

pub mod columnar;

pub(crate) mod producer;

pub mod rows;

pub mod rule;

pub mod custom;

pub(crate) mod wal;
