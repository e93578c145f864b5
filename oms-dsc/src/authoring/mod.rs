//! Configurations without PowerShell: documents in YAML or JSON, or Rust, compiled to one MOF document
//! a node.
//!
//! ```text
//!  YAML, JSON ──► Source ──► compile(parameters, node) ──► NodeConfiguration: Config.Node, MOF,
//!                                      ▲                   checksum
//!  ConfigurationBuilder ───────────────┴──── Schemas: classes, types, keys
//! ```
//!
//! # A document
//! ```
//! use oms_dsc::authoring::{CompileOptions, Source};
//! use oms_dsc::configuration::Schemas;
//!
//! let text = "
//! configuration: Web
//! parameters:
//!   greeting: {type: string, defaultValue: hello}
//! nodes:
//!   '*': {port: 80}
//!   web-1: {}
//!   web-2: {port: 8080}
//! resources:
//!   - type: nxFile
//!     name: motd
//!     properties:
//!       DestinationPath: /etc/motd
//!       Contents: \"[format('{0} from {1}:{2}', parameters('greeting'), nodeName(), node('port'))]\"
//! ";
//! let source = Source::read("web.yaml", text.as_bytes())?;
//! let nodes = source.compile(&Schemas::standard()?, &CompileOptions::default())?;
//! assert_eq!(nodes[1].name.as_str(), "Web.web-2");
//! assert!(nodes[1].text.contains("Contents = \"hello from web-2:8080\""));
//! # Ok::<(), oms_dsc::Error>(())
//! ```
//!
//! Its parts: `configuration` (the name), `author`, `parameters`, `variables`, `nodes` (what is said of
//! each node; `'*'` is said of all), `composites` (resources of resources, with parameters of their own)
//! and `resources` (`type`, `name`, `properties`, `dependsOn`, `condition`, `module`). A configuration
//! document of DSC version 3 is one too: it has `$schema`, and its resource types are
//! `Module/Resource`; a type of which there is no schema becomes an `OMS_CommandResource`, which a node
//! runs by its manifest.
//!
//! A source with `settings` is one of metaconfigurations: the settings are those of the local
//! configuration manager, and its resources are what it talks to (`ConfigurationRepositoryWeb`,
//! `ResourceRepositoryWeb`, `ReportServerWeb`, those of a share, `PartialConfiguration`,
//! `SignatureValidation`).
//!
//! What is wrong is told all at once, each with its line and column in the source.

mod builder;

mod compile;

mod emit;

mod expression;

mod function;

mod metaconfiguration;

mod source;

mod tree;

pub use builder::{ConfigurationBuilder, ResourceBuilder};
pub use compile::{CompileOptions, NodeConfiguration};
pub use source::{ParameterType, Source};
pub use tree::SOURCE_BYTES_MAX;

use crate::Error;
use serde_json::Value;

/// Reads values in YAML or JSON, such as those of parameters. `file` appears in errors.
///
/// # Errors
/// [`Error::Document`] with the place.
pub fn read_values(file: &str, bytes: &[u8]) -> Result<Value, Error> {
    match tree::Tree::read(bytes) {
        Ok(tree) => Ok(tree.value()),
        Err(diagnostic) => {
            Err(Error::Document { document: file.to_owned(), diagnostics: vec![diagnostic] })
        }
    }
}
