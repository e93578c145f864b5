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
//! each node; `'*'` is said of all), `composites` (resources of resources, with `parameters` of their own)
//! and `resources` (`type`, `name`, `properties`, `dependsOn`, `condition`, `module` with its `name` and
//! `version`). `dependsOn` names `[Type]Name`; that of a composite is on all of its resources.
//!
//! A parameter has a `type` (`string`, `int`, `bool`, `array`, `object`, `secureString`, `secureObject`),
//! and may have `defaultValue`, `allowedValues`, `minValue`, `maxValue`, `minLength`, `maxLength` and
//! `description`. The value of a secure one is written where it is encrypted (passwords of credentials) or
//! read as it is (registration keys), and is refused anywhere else, also behind a default or within a
//! composite; no message shows it. A secure object may be a credential, or a list of them; its `userName` is
//! no secret then, and is written in the clear.
//!
//! The properties of a resource are those of its class. An object is an instance of the class that the
//! schema says, such as a credential `{userName: u, password: p}`, or of the one in its member `$class`;
//! where the schema has names with values, it is those.
//!
//! # Expressions
//! A string that begins with `[` and ends with `]` is an expression; a text that does so is written with
//! `[[` at its beginning. There are calls, `'text'` (where `''` is one quote), integers, `true`, `false`,
//! `null`, and members: `node('disks')[0].size`. They stand in values, names, `dependsOn`, conditions,
//! variables, defaults of parameters, and in what is said of a node. What is plain there is known first,
//! then the parameters, then what is computed of the node (each sees what is in front of it), then the
//! variables.
//!
//! | about | functions |
//! |---|---|
//! | the source | `parameters(name)`, `variables(name)`, `node(name)`, `node()`, `nodeName()`, `resourceId(type, name)` |
//! | text | `concat`, `format('{0}', …)`, `replace(text, old, new)`, `split(text, by)`, `join(list, by)`, `trim`, `toLower`, `toUpper`, `startsWith`, `endsWith`, `string`, `base64`, `base64ToString`, `json` |
//! | lists, objects, text | `contains`, `indexOf`, `first`, `last`, `length`, `empty`, `union`, `concat`, `array`, `createArray`, `createObject(key, value, …)`, `range(start, count)`, `coalesce` |
//! | numbers | `add`, `sub`, `mul`, `div`, `mod`, `min`, `max`, `int` |
//! | logic | `if(condition, yes, no)`, `and`, `or`, `not`, `equals`, `less`, `lessOrEquals`, `greater`, `greaterOrEquals`, `bool`, `true()`, `false()`, `null()` |
//!
//! # Documents of DSC version 3
//! A configuration document of DSC version 3 is a source too: it has `$schema` and no `configuration`, so
//! that [`CompileOptions::name`] names it, and its resource types are `Module/Resource`. A type of which
//! there is no schema becomes an `OMS_CommandResource`, whose properties are JSON; a node of Linux runs what
//! the manifest of that type says.
//!
//! # Metaconfigurations
//! A source with `settings` is one of metaconfigurations: the settings are those of the local
//! configuration manager, and its resources are what it talks to (`ConfigurationRepositoryWeb`,
//! `ResourceRepositoryWeb`, `ReportServerWeb`, those of a share, `PartialConfiguration`,
//! `SignatureValidation`).
//!
//! # What is wrong
//! It is told all at once, each with its line and column in the source. What a source may come to is
//! bounded: 10,000 resources of a node that depend on 1,000 others each, and a document that a pull server
//! takes ([`CONFIGURATION_BYTES_MAX`](crate::pull_server::CONFIGURATION_BYTES_MAX)).

mod builder;

mod compile;

mod emit;

mod expand;

mod expression;

mod function;

mod metaconfiguration;

mod scope;

mod source;

mod tree;

pub use builder::{ConfigurationBuilder, ResourceBuilder};
pub use compile::{CompileOptions, NodeConfiguration};
pub use source::{ParameterType, Source};
pub use tree::SOURCE_BYTES_MAX;
pub(crate) use tree::from_yaml;

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
