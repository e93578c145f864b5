//! Log Analytics: connected sources, an open repository, and KQL.
//!
//! A [`Workspace`] takes records of many producers. A write that is acknowledged survives a power
//! failure and is visible to queries at once; a flush brings it into Delta tables that DuckDB,
//! Polars, Spark and delta-rs read without this crate.
//!
//! An [`Agent`](source::Agent) collects what its Linux computer counts and logs;
//! [`ColumnReader`](ingest::rows::ColumnReader) reads rows of CSV, JSON lines, IIS logs and Parquet
//! files, and [`Workspace::load`] brings whole files into a table;
//! [`Workspace::ingest_stream`] takes records through [data collection rules](ingest::rule), which
//! transform them; [`Workspace::ingest_custom`] names the columns of [custom tables](ingest::custom) by
//! what records bring; [`Workspace::query`] answers in the Kusto query language. Rows are there for as many days as their
//! table's [settings](Workspace::set_table_settings) say, 30 by default.
//!
//! ```text
//!  records ──► admit ──► Arrow batch ──► write-ahead log ──► acknowledged
//!  (RecordSink,  types,     one per        one sync for           │
//!   RowBatch)    growth     table          many writers           ▼
//!                                                     fresh batches ──► query
//!                                                            │            ▲
//!                                                          flush          │
//!                                                            ▼            │
//!                                        sorted Parquet + Delta commit ───┘
//! ```
//!
//! # Example
//! ```
//! use oms_core::record::{Batch, Record};
//! use oms_logs::Workspace;
//!
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! # let temporary = tempfile::tempdir().unwrap();
//! # let folder = temporary.path();
//! let workspace = Workspace::builder(folder).build().await?;
//! let record = Record::new("Perf".parse()?, "2026-11-23T10:00:00Z".parse()?, "web-1")
//!     .with("CounterName", "% Processor Time")
//!     .with("CounterValue", 12.5);
//! let batch = Batch { producer: "agent-1".into(), sequence: 1, records: vec![record] };
//! workspace.write(batch.clone()).await?;
//! workspace.write(batch).await?; // A repeat adds nothing.
//!
//! let flushed = workspace.flush().await?;
//! assert_eq!(flushed.rows(), 1);
//! assert_eq!(workspace.tables()[0].name, "Perf");
//! workspace.close().await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # Features
//! - `http`: the Logs Ingestion API and the HTTP Data Collector API, see `http`.
//! - `testkit`: generators of records and the suite of every record sink, see `testkit`.
//! - `interop`: tests against other readers of Delta tables.
//!
//! # What it is not
//! - No replication of its own: one process has a workspace's folder open, and what is not flushed is on
//!   one machine's disk, as the Delta tables are. What is to outlive the machine is in an
//!   [object store](workspace::WorkspaceBuilder::object_store), which several processes can
//!   [share](repository::share): the tables, and the log of a
//!   [diskless](workspace::WorkspaceBuilder::diskless) process.
//! - No update of records. A delete is a purge, which writes files again: see
//!   [`repository::maintain`].
//! - No index that a reader needs: files, row groups and pages are left out by their statistics, and
//!   blocks of rows by an index of their terms, within each file, that others pass over.
//! - No repair: what is damaged at rest is found by its checksums and named ([`Damage`]), and brought
//!   back from a backup or given up.

pub mod workspace;

pub mod source;

pub mod schema;

pub mod ingest;

pub mod repository;

pub mod query;

#[cfg(feature = "http")]
pub mod http;

pub mod arm;

pub mod error;

mod json_scan;

#[cfg(any(test, feature = "testkit"))]
pub mod testkit;

#[cfg(feature = "testkit")]
#[doc(hidden)]
pub mod fuzz;

pub use error::{Damage, Error};
pub use ingest::columnar::RowBatch;
pub use workspace::{Settings, Workspace};

/// The Arrow that this crate's interfaces use.
pub use arrow;
/// The DataFusion that [`Workspace::table_provider`] is for.
pub use datafusion;
/// The object stores that [`workspace::WorkspaceBuilder::object_store`] takes and
/// [`store_layer`](workspace::WorkspaceBuilder::store_layer) wraps.
pub use object_store;
/// The URLs of [`workspace::WorkspaceBuilder::object_store`].
pub use url;
