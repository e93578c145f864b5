//! Runbooks, the jobs that run them, and the workers that run the jobs.
//!
//! A runbook is a script with parameters, edited as a draft and run as a published version. A job is
//! one run of it: taken by a worker, isolated from the service's own data, its words kept in six
//! streams.
//!
//! ```text
//!  create, save draft, publish          start (idempotent by name)
//!          │                                │
//!          ▼                                ▼
//!       Runbook ──published version──► Job: New ─► Activating ─► Running ─► Completed
//!                                           │                       │       Failed, Stopped
//!                                           ▼                       ▼
//!                        journal ──► Engine::step ──► prepare, run, stop
//!                                                         │
//!                              isolated process (python3, bash) ──lines──► six streams ──► disk
//! ```
//!
//! # Example
//! ```
//! use oms_automation::{AutomationAccount, JobOptions, RunbookOptions};
//! use oms_automation::runbook::{LogSwitches, RunbookKind};
//! use oms_core::journal::MemoryJournal;
//! use std::sync::Arc;
//!
//! # let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
//! # runtime.block_on(async {
//! # let folder = tempfile::tempdir()?;
//! let account = AutomationAccount::builder(folder.path())
//!     .journal(Arc::new(MemoryJournal::default()))
//!     .build()
//!     .await?;
//! let name = "Greet".parse()?;
//! account
//!     .create_runbook(RunbookOptions {
//!         name: "Greet".parse()?,
//!         kind: RunbookKind::Bash,
//!         description: String::new(),
//!         logs: LogSwitches::default(),
//!     })
//!     .await?;
//! account.save_draft(&name, b"echo \"Hello, $1\"", vec![]).await?;
//! account.publish(&name).await?;
//!
//! let parameters = [("who".to_owned(), "world".into())].into();
//! let job = account.start_job(&name, JobOptions { parameters, ..JobOptions::default() }).await?;
//! account.wait(job.id).await?;
//! assert_eq!(account.output(job.id, 1_000).await?, "Hello, world");
//! # account.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a runbook finds
//! Its parameters as program arguments in order (text as it is, other JSON values as JSON text) and
//! by name in the JSON file that `OMS_PARAMETERS_FILE` names; an empty environment but for `PATH`,
//! `HOME`, `TMPDIR`, `LANG`, `AUTOMATION_JOB_ID` and a mark; its own folder, to write in, as working
//! folder; the system's programs and libraries, to read. How it writes to the six streams: [`stream`].
//! What it is kept away from: [`worker::isolation`].
//!
//! # What it is not
//! It runs Python 3 and Bash on Linux; every other kind of runbook is refused by name. It has no
//! checkpoints, so a job is never suspended, and one whose worker died while it ran is Failed rather
//! than run again: a runbook is started at most once a job.

pub mod runbook;

pub mod job;

pub mod worker;

mod executor;

pub mod stream;

pub mod account;

pub mod settings;

pub mod action;

pub mod projection;

pub mod arm;

pub mod error;

#[cfg(feature = "testkit")]
#[doc(hidden)]
pub mod fuzz;

pub use account::{AutomationAccount, AutomationAccountBuilder};
pub use error::Error;
pub use projection::records;
pub use settings::{AccountName, AutomationSettings, JobOptions, RunbookOptions, StreamQuery};
