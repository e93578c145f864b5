//! Backup vaults in the restic repository format.
//!
//! A protection container holds one computer's protected items and their vault: a restic
//! repository, format version 2. Backups made here are checked, listed and restored by stock
//! restic, and the other way round; nobody needs this software to get their data back.
//!
//! ```text
//!  ProtectedItem ──► job ──► walk of files ──► chunks ──► blobs ──► packs ─► index ─► snapshot
//!   (journaled)   (journaled)                 (content-   (zstd,   (synced in this order, so that
//!                                              defined)    sealed)  a crash leaves the vault whole)
//!                                                                                         │
//!  target folder ◄── verified blobs ◄── trees ◄── RecoveryPoint ◄─────────────────────────┘
//! ```
//!
//! # Example
//! ```
//! use oms_backup::Vault;
//! use oms_backup::operation::{BackupOptions, Control, RestoreOptions};
//! use oms_core::{LocalDisk, Secret};
//! use std::sync::Arc;
//!
//! # let folder = tempfile::tempdir()?;
//! # let source = folder.path().join("documents");
//! # std::fs::create_dir(&source)?;
//! std::fs::write(source.join("letter.txt"), "Dear all")?;
//! let disk = Arc::new(LocalDisk::new(folder.path().join("vault"))?);
//! let vault = Vault::new(disk).create(&Secret::from("a long passphrase"))?;
//!
//! let options = BackupOptions { paths: vec![source.clone()], ..BackupOptions::default() };
//! let backup = vault.plan_backup(&options)?.run(&Control::default())?;
//! assert_eq!(backup.summary.files_new, 1);
//!
//! let target = folder.path().join("restored");
//! let options = RestoreOptions { path: Some(source), ..RestoreOptions::latest(&target) };
//! let restore = vault.plan_restore(&options)?.run(&Control::default())?;
//! assert!(restore.failures.is_empty());
//! assert_eq!(std::fs::read_to_string(target.join("letter.txt"))?, "Dear all");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//! [`ProtectionContainer`] does the same as journaled jobs, which can be watched, cancelled and
//! found again after a restart.
//!
//! # Features
//! - `interop`: tests that need restic.
//!
//! # What it is not
//! It deletes nothing: there is no `forget` or `prune`, no retention and no schedule; `restic
//! forget --prune` works on a vault that its operator owns. A vault is a folder on a [`Disk`];
//! object stores and the REST protocol are not spoken. Files are read one after the other without
//! a snapshot of the file system, on Unix systems only; flags and ACLs that are no extended
//! attributes are not kept. There are no workload sources, no disk images, no mounts.
//!
//! [`Disk`]: oms_core::Disk

pub mod item;

pub mod recovery_point;

pub mod vault;

pub mod operation;

pub mod job;

pub mod arm;

pub mod error;

pub use error::Error;
pub use item::ProtectionContainer;
pub use job::records;
pub use recovery_point::RecoveryPoint;
pub use vault::Vault;
