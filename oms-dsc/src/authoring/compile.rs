//! A source to the documents of its nodes.

use super::emit::{About, emit, settle};
use super::expand::expand;
use super::metaconfiguration;
use super::source::Source;
use crate::Error;
use crate::configuration::credential::{Passwords, Recipient};
use crate::configuration::{Schemas, meant};
use crate::mof::{Diagnostic, Document, Position};
use crate::protocol::{Checksum, ConfigurationName};
use crate::pull_server::CONFIGURATION_BYTES_MAX;
use oms_core::{Entropy, SystemEntropy};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The node that stands for all, and whose data every node has.
pub(super) const ALL: &str = "*";

/// The node of a document that names none.
const ANY_NODE: &str = "localhost";

/// Where a document begins, for what has no other place.
const START: Position = Position { line: 1, column: 1 };

/// How a source is compiled.
#[derive(Clone)]
pub struct CompileOptions {
    /// The configuration's name, in place of the document's own; one of DSC version 3 has none.
    pub name: Option<String>,
    /// Values of parameters, by name.
    pub parameters: BTreeMap<String, Value>,
    /// The certificates that passwords are encrypted for, by node; `*` is for those without one.
    pub recipients: BTreeMap<String, Recipient>,
    /// Whether passwords stay in the clear where there is no certificate, in place of being refused.
    pub leaves_passwords_clear: bool,
    /// Where keys and paddings of encrypted passwords come from.
    pub entropy: Arc<dyn Entropy>,
}

impl Default for CompileOptions {
    /// Without parameters; a password needs a certificate.
    fn default() -> Self {
        Self {
            name: None,
            parameters: BTreeMap::new(),
            recipients: BTreeMap::new(),
            leaves_passwords_clear: false,
            entropy: Arc::new(SystemEntropy),
        }
    }
}

impl fmt::Debug for CompileOptions {
    /// Parameters by name alone: their values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompileOptions")
            .field("name", &self.name)
            .field("parameters", &self.parameters.keys())
            .field("recipients", &self.recipients)
            .field("leaves_passwords_clear", &self.leaves_passwords_clear)
            .field("entropy", &self.entropy)
            .finish()
    }
}

/// What one node should be like, compiled.
#[derive(Clone)]
pub struct NodeConfiguration {
    /// `Config.Node`, the name under which it is published.
    pub name: ConfigurationName,
    /// The node.
    pub node: String,
    /// The document, in MOF.
    pub text: String,
    /// Of the document's bytes.
    pub checksum: Checksum,
    /// Whether it is for the node's local configuration manager (`meta.mof`), and nothing to publish.
    pub is_metaconfiguration: bool,
}

impl fmt::Debug for NodeConfiguration {
    /// Without the document, which may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeConfiguration")
            .field("name", &self.name)
            .field("node", &self.node)
            .field("checksum", &self.checksum)
            .field("is_metaconfiguration", &self.is_metaconfiguration)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// Compiles the document of every node that it names, in its order; of `localhost` if it names
    /// none. The same source and parameters make the same bytes, but for encrypted passwords.
    ///
    /// # Errors
    /// [`Error::Document`] with everything that is wrong with any node's, each place once;
    /// [`Error::Invalid`] for a parameter that is not declared, a certificate of a node that there is
    /// none of, or a name that is not given; [`Error::Name`] for one that is given and is none.
    pub fn compile(
        &self,
        schemas: &Schemas,
        options: &CompileOptions,
    ) -> Result<Vec<NodeConfiguration>, Error> {
        let nodes: Vec<&str> = match self.nodes().next() {
            Some(_) => self.nodes().collect(),
            None => vec![ANY_NODE],
        };
        let name = self.configuration_name(options)?;
        self.check_options(options, &nodes)?;
        let (mut compiled, mut diagnostics) = (Vec::new(), Vec::new());
        for node in nodes {
            match self.node(schemas, options, &name, node) {
                Ok(configuration) => compiled.push(configuration),
                Err(wrong) => {
                    diagnostics.extend(wrong);
                    // The same is wrong with many nodes.
                    settle(&mut diagnostics);
                }
            }
        }
        if diagnostics.is_empty() {
            return Ok(compiled);
        }
        Err(self.refused(diagnostics))
    }

    fn refused(&self, diagnostics: Vec<Diagnostic>) -> Error {
        Error::Document { document: self.file.clone(), diagnostics }
    }

    /// The name that is given, or the document's own.
    fn configuration_name(&self, options: &CompileOptions) -> Result<ConfigurationName, Error> {
        if let Some(given) = &options.name {
            return Ok(given.parse()?);
        }
        let Some((own, position)) = &self.configuration else {
            let reason = format!("`{}` says no name, and none was given", self.file);
            return Err(Error::Invalid { what: "configuration name", reason });
        };
        own.parse().map_err(|error: oms_core::id::ParseIdError| {
            let (position, message) = (*position, error.to_string());
            self.refused(vec![Diagnostic { position, message }])
        })
    }

    /// Refuses what is given for nothing: a name that was mistaken would be passed over.
    fn check_options(&self, options: &CompileOptions, nodes: &[&str]) -> Result<(), Error> {
        for given in options.parameters.keys() {
            let known = self.parameters.iter().map(|parameter| parameter.name.as_str());
            if !known.clone().any(|known| known == given) {
                let reason = format!("`{given}` is not declared{}", meant(given, known));
                return Err(Error::Invalid { what: "parameter", reason });
            }
        }
        for given in options.recipients.keys() {
            if given != ALL && !nodes.contains(&given.as_str()) {
                let meant = meant(given, nodes.iter().copied());
                let reason = format!("there is no node `{given}`{meant}");
                return Err(Error::Invalid { what: "certificate", reason });
            }
        }
        Ok(())
    }

    fn node(
        &self,
        schemas: &Schemas,
        options: &CompileOptions,
        configuration: &ConfigurationName,
        node: &str,
    ) -> Result<NodeConfiguration, Vec<Diagnostic>> {
        let named = self.nodes.iter().find(|entry| entry.key == node);
        let place = named.map_or(START, |entry| entry.position);
        let wrong = |message| vec![Diagnostic { position: place, message }];
        let configuration = configuration.as_str();
        let name = format!("{configuration}.{node}").parse();
        let name = name.map_err(|error: oms_core::id::ParseIdError| wrong(error.to_string()))?;
        let document = self.document(schemas, options, configuration, node)?;
        let text = format!("/*\n@TargetNode='{node}'\n@GeneratedBy='oms'\n*/\n\n{document}");
        if text.len() > CONFIGURATION_BYTES_MAX {
            return Err(wrong(format!(
                "the document of `{node}` has {} bytes, and at most {CONFIGURATION_BYTES_MAX} are \
                 taken",
                text.len()
            )));
        }
        Ok(NodeConfiguration {
            name,
            node: node.to_owned(),
            checksum: Checksum::of(text.as_bytes()),
            text,
            is_metaconfiguration: self.settings.is_some(),
        })
    }

    fn document(
        &self,
        schemas: &Schemas,
        options: &CompileOptions,
        configuration: &str,
        node: &str,
    ) -> Result<Document, Vec<Diagnostic>> {
        let (expansion, mut diagnostics) = expand(self, node, &options.parameters);
        let Some(expansion) = expansion else { return Err(diagnostics) };
        let recipient = options.recipients.get(node).or_else(|| options.recipients.get(ALL));
        let passwords = match recipient {
            Some(recipient) => Passwords::Encrypt(recipient),
            None if options.leaves_passwords_clear => Passwords::LeaveClear,
            None => Passwords::Refuse,
        };
        let (author, source) = (self.author.as_deref(), Some(self.file.as_str()));
        let about = About { configuration, author, source, passwords };
        let (declarations, entropy) = (&expansion.declarations, &*options.entropy);
        let emitted = match &expansion.settings {
            Some(settings) => {
                metaconfiguration::emit(schemas, &about, settings, declarations, entropy)
            }
            None => emit(schemas, &about, declarations, entropy),
        };
        match emitted {
            Ok(document) if diagnostics.is_empty() => Ok(document),
            Ok(_) => Err(diagnostics),
            Err(wrong) => {
                diagnostics.extend(wrong);
                Err(diagnostics)
            }
        }
    }
}
