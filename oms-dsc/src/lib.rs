//! Desired State Configuration: a pull server, and the agent of a node.
//!
//! A configuration says what a computer should be like. The pull server keeps configurations and
//! modules, knows its nodes, and stores what they report; it speaks \[MS-DSCPM\] version 2 and 1,
//! so the Local Configuration Managers of Windows and Linux pull from it. The node side is a
//! Local Configuration Manager of our own.
//!
//! ```text
//!  document (YAML) ─► authoring ─┐
//!  document (MOF) ──► mof ──► configuration ──► publish ──► pull_server ◄──── register, ask,
//!                                │                           │     │          fetch, report
//!                                ▼                           │     ▼               │
//!       resource ◄── test, set ── node (LCM) ◄───────────────┘   report ──► journal, records
//!                                  └───────────────────────────────────────────────┘
//! ```
//!
//! # Example
//! ```
//! use oms_core::SystemClock;
//! use oms_dsc::configuration::Configuration;
//! use oms_dsc::resource::{FileResource, Registry};
//! use std::sync::Arc;
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("motd");
//! let document = format!(
//!     r#"instance of MSFT_FileDirectoryConfiguration as $motd {{
//!          ResourceID = "[File]motd"; ModuleName = "PSDesiredStateConfiguration";
//!          DestinationPath = "{}"; Contents = "hello\n"; Ensure = "Present";
//!        }};
//!        instance of OMI_ConfigurationDocument {{ Version = "2.0.0"; Name = "Greeting"; }};"#,
//!     path.display()
//! );
//! let configuration = Arc::new(Configuration::parse("Greeting", document.as_bytes())?);
//! let files = FileResource::within(folder.path())?;
//! let resources = Registry::new().with(Arc::new(files));
//!
//! let before = oms_dsc::node::test(configuration.clone(), &resources, &SystemClock).await;
//! assert!(!before[0].is_in_desired_state());
//! oms_dsc::node::apply(configuration.clone(), &resources, &SystemClock).await;
//! assert_eq!(std::fs::read_to_string(&path)?, "hello\n");
//! let after = oms_dsc::node::test(configuration, &resources, &SystemClock).await;
//! assert!(after[0].is_in_desired_state());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//! - `client` (default): the node's way to its server over HTTP.
//! - `http`: `http::surface`, the pull server as an HTTP surface; `arm::surface`, its management.
//! - `interop`: tests against captured conversations of other implementations.
//!
//! # What it is not
//! It does not compile configuration scripts of PowerShell: documents come as MOF, or are written in
//! YAML, JSON or Rust ([`authoring`]). It does not run PowerShell resources; a class that no
//! [`resource::Resource`] serves is an error that names it.
//! A node is whoever knows its AgentId and, where TLS presented a certificate when it registered,
//! holds that one or the one that it was rotated to; who issued it is not asked. Our own node has no
//! certificate, so a pull server that insists on one will not register it.

pub mod mof;

pub mod configuration;

pub mod authoring;

pub mod module;

pub mod protocol;

pub mod pull_server;

pub mod report;

pub mod resource;

pub mod node;

#[cfg(feature = "http")]
pub mod http;

mod content;

pub mod arm;

pub mod error;

pub use error::Error;
pub use node::{Lcm, Metaconfiguration};
pub use pull_server::{PullServer, PullServerSettings};
pub use report::records;
