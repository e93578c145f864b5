//! Replication, failover and failback of machines: an embeddable Azure Site Recovery.
//!
//! A machine's disk is replicated write by write to another site. Recovery points are exact
//! prefixes of its writes. A test failover shows a point on a copy-on-write disk while replication
//! goes on; a planned failover moves production without loss, an unplanned one as of a point;
//! reprotect reverses the replication by comparing checksums, and failback returns. A protection can be
//! ended at any time; what its end could not reach, or could not bring to the disk, stays and is told, to be
//! [merged or discarded](machine::ended) later.
//!
//! ```text
//!  primary site                                          recovery site
//!  machine ──write──► TrackedDevice ──(epoch, sequence)──► Replica ──► RecoveryLog ──► base image
//!                      │        │        frames, copy         │            │
//!                      ▼        ▼                             ▼            ▼ point
//!                    image   outgoing log                   epoch     PointView ◄── OverlayDevice
//!                            (or bitmap)                    fence                   test failover,
//!  RecoveryVault ── ItemEvent ──► Journal                                           failover
//!                   (metadata only)
//! ```
//!
//! # Example
//! ```
//! use oms_core::journal::MemoryJournal;
//! use oms_recovery::machine::disk::BlockDevice;
//! use oms_recovery::recovery_point::{Consistency, PointChoice};
//! use oms_recovery::{RecoveryVault, ReplicationPolicy};
//! use std::sync::Arc;
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! # let folder = tempfile::tempdir().unwrap();
//! # let dir = folder.path();
//! let image = dir.join("web1.img");
//! std::fs::write(&image, vec![0; 1 << 20]).unwrap();
//!
//! let journal = Arc::new(MemoryJournal::default());
//! let vault = RecoveryVault::builder(dir.join("vault")).journal(journal).build()?;
//! let policy = ReplicationPolicy::default();
//! let web1 = vault.enable_protection("web1", &image, &dir.join("replica"), policy).await?;
//! web1.replicate().await?;
//!
//! web1.device()?.write_at(4096, b"hello")?;
//! let point = web1.take_recovery_point(Consistency::CrashConsistent).await?;
//! web1.device()?.write_at(4096, b"oops!")?;
//! web1.replicate().await?;
//!
//! let drill = web1.test_failover(PointChoice::Point(point.id)).await?;
//! let mut bytes = [0; 5];
//! drill.device().read_at(4096, &mut bytes)?;
//! assert_eq!(&bytes, b"hello");
//! web1.cleanup_test_failover("the application came up").await?;
//!
//! web1.planned_failover().await?;
//! web1.device()?.read_at(4096, &mut bytes)?;
//! assert_eq!(&bytes, b"oops!");
//! web1.commit().await?;
//! # Ok::<(), oms_recovery::Error>(())
//! # }).unwrap();
//! ```
//!
//! # Features
//! - `interop`: tests that need e2fsprogs.
//!
//! # What it is not
//! It is no hypervisor: starting, stopping and freezing machines is its caller's, through the disk
//! that [`ProtectedItem::device`] answers and a [`recovery_point::Quiescer`]. Both sites are
//! reached from one process today; the engines talk in messages, and a network is another
//! [`replication::channel::Link`]. A machine has one disk. Nothing here keeps replicated data
//! in the vault.

pub mod machine;

pub mod replication;

pub mod recovery_point;

pub mod failover;

pub mod failback;

pub mod records;

pub mod vault;

pub mod arm;

pub mod error;

pub use error::Error;
pub use failover::{SourceOperations, TestFailover};
pub use machine::protected::ProtectedItem;
pub use records::records;
pub use recovery_point::RecoveryPoint;
pub use replication::{ProtectionState, ReplicationPolicy};
pub use vault::RecoveryVault;
