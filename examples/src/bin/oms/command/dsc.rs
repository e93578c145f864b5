//! `oms dsc`: documents, nodes, and this machine's own state.

mod compile;
mod key;
mod node;
mod nodes;
mod rollout;
mod rules;

use super::{Output, Place, absolute};
use crate::data::read_secret;
use crate::suite::{Service, Suite};
use crate::{config, serve};
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use oms_core::Secret;
use oms_dsc::configuration::Configuration;
use oms_dsc::configuration::credential::clear_passwords;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum Dsc {
    /// Reads MOF documents: the tree as JSON, or what is wrong, by line and column.
    Parse {
        /// Documents.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Compiles a source in YAML or JSON to one MOF document a node.
    Compile(compile::Compile),
    /// Publishes configuration documents: nodes of those configurations fetch them.
    Publish {
        /// The configuration's name; that of the file by default.
        #[arg(long)]
        name: Option<String>,
        /// The documents, in MOF.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Publishes a module package.
    Module {
        /// The module's name; from the file's NAME_VERSION.zip by default.
        #[arg(long, requires = "version")]
        name: Option<String>,
        /// The module's version.
        #[arg(long, requires = "name")]
        version: Option<String>,
        /// The package.
        file: PathBuf,
    },
    /// Lists the nodes that have registered.
    Nodes {
        /// Show each node's AgentId too, which is its secret.
        #[arg(long)]
        show_agent_ids: bool,
    },
    /// Gives a node configurations, in place of what rules give it and of those that it registered for.
    Assign {
        /// The node: its id in `oms dsc nodes`, or its computer's name.
        node: String,
        /// The configurations, such as Web.web-1.
        #[arg(required_unless_present = "none", conflicts_with = "none")]
        configurations: Vec<String>,
        /// Give back what rules give it, or what it registered for.
        #[arg(long)]
        none: bool,
    },
    /// Sets tags of a node, for rules and roll-outs to go by, or takes them away.
    Tag(rules::Tag),
    /// Gives configurations to every node that a condition holds for.
    #[command(subcommand)]
    Rule(rules::Rule),
    /// Gives a new version of a configuration to one ring of nodes after the other.
    #[command(subcommand)]
    Rollout(rollout::Rollout),
    /// Makes, lists and revokes keys that nodes register with, beside that of admin.json.
    #[command(subcommand)]
    Key(key::Key),
    /// Asks a node for a new certificate, with each answer until it gives one. What it gave and never
    /// presented is void.
    Rotate {
        /// The node: its id in `oms dsc nodes`, or its computer's name.
        node: String,
    },
    /// Says that a node which looks like two machines with one AgentId is one.
    DismissClone {
        /// The node: its id in `oms dsc nodes`, or its computer's name.
        node: String,
    },
    /// Takes a node out of the list. It may register again.
    Remove {
        /// The node: its id in `oms dsc nodes`, or its computer's name.
        node: String,
    },
    /// Shows what a node reported: its newest runs, or one in full.
    Report {
        /// The node: its id in `oms dsc nodes`, or its computer's name.
        node: String,
        /// The run to show in full.
        #[arg(long)]
        job: Option<String>,
        /// The most runs that are listed.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Shows what a node runs against what it would get now.
    Diff {
        /// The node: its id in `oms dsc nodes`, or its computer's name.
        node: String,
    },
    /// Brings this machine into the state of a document.
    Apply(node::Apply),
    /// Tests this machine against a document; changes nothing.
    Test(node::Document),
    /// Shows what is there for each resource of a document.
    Get(node::Document),
    /// Runs the pull server alone, until it is asked to end.
    Serve(ServeArgs),
    /// Registers this machine with a pull server, fetches its configuration, applies and reports.
    Pull(Box<node::Pull>),
}

/// Where the pull server listens, and who may register.
#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct ServeArgs {
    /// Address and port; port 0 takes a free one.
    #[arg(long)]
    listen: SocketAddr,
    /// The key that nodes register with; that of admin.json by default, better in a file.
    #[arg(long, value_parser = secret)]
    #[serde(skip)]
    registration_key: Option<Secret>,
    /// A file that holds the registration key.
    #[arg(long, conflicts_with = "registration_key")]
    registration_key_file: Option<PathBuf>,
    /// Certificate chain in PEM; with it the address speaks TLS.
    #[arg(long, requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key in PEM.
    #[arg(long, requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Serve clear text on addresses that other machines reach.
    #[arg(long)]
    insecure_http: bool,
}

impl ServeArgs {
    /// The same as options of `oms serve`, over what the configuration says.
    pub(crate) fn configure(&self, serve: &mut config::Serve) {
        let options = serve::Options {
            listen: Some(self.listen),
            tls_cert: self.tls_cert.clone(),
            tls_key: self.tls_key.clone(),
            insecure_http: self.insecure_http,
            services: vec![Service::Logs, Service::Dsc],
            print_config: false,
        };
        options.configure(serve);
    }

    /// The key that nodes register with, if not that of `admin.json`.
    pub(crate) fn registration_key(&self) -> Result<Option<Secret>> {
        match (&self.registration_key, &self.registration_key_file) {
            (Some(key), _) => Ok(Some(key.clone())),
            (None, Some(file)) => read_secret(file).map(Some),
            (None, None) => Ok(None),
        }
    }
}

impl Dsc {
    pub(super) const fn needs_data(&self) -> bool {
        matches!(
            self,
            Self::Publish { .. }
                | Self::Module { .. }
                | Self::Nodes { .. }
                | Self::Assign { .. }
                | Self::Tag(_)
                | Self::Rule(_)
                | Self::Rollout(_)
                | Self::Key(_)
                | Self::Rotate { .. }
                | Self::DismissClone { .. }
                | Self::Remove { .. }
                | Self::Report { .. }
                | Self::Diff { .. }
        )
    }

    pub(super) fn absolute(&mut self) -> Result<()> {
        match self {
            // Diagnostics name a document as it was given.
            Self::Parse { .. }
            | Self::Compile(_)
            | Self::Nodes { .. }
            | Self::Assign { .. }
            | Self::Tag(_)
            | Self::Rule(_)
            | Self::Rotate { .. }
            | Self::DismissClone { .. }
            | Self::Remove { .. }
            | Self::Report { .. }
            | Self::Diff { .. }
            | Self::Serve(_) => Ok(()),
            Self::Rollout(rollout) => rollout.absolute(),
            Self::Publish { files, .. } => absolute(files),
            Self::Module { file, .. } => absolute([file]),
            Self::Key(key) => key.absolute(),
            Self::Apply(apply) => apply.document.absolute(),
            Self::Test(document) | Self::Get(document) => document.absolute(),
            Self::Pull(pull) => pull.absolute(),
        }
    }

    pub(super) async fn run(&self, suite: &Suite) -> Result<Output> {
        match self {
            Self::Publish { name, files } => publish(suite, name.as_deref(), files).await,
            Self::Module { name, version, file } => {
                module(suite, name.as_deref().zip(version.as_deref()), file).await
            }
            Self::Nodes { show_agent_ids } => nodes::list(suite, *show_agent_ids).await,
            Self::Assign { node, configurations, none: _ } => {
                nodes::assign(suite, node, configurations).await
            }
            Self::Tag(tag) => rules::tag(suite, tag).await,
            Self::Rule(rule) => rules::rule(suite, rule).await,
            Self::Rollout(rollout) => rollout.run(suite).await,
            Self::Key(key) => key.run(suite).await,
            Self::Rotate { node } => nodes::rotate(suite, node).await,
            Self::DismissClone { node } => nodes::dismiss_clone(suite, node).await,
            Self::Remove { node } => nodes::remove(suite, node).await,
            Self::Report { node, job, limit } => {
                nodes::report(suite, node, job.as_deref(), *limit).await
            }
            Self::Diff { node } => nodes::diff(suite, node).await,
            _ => bail!("this command needs no data directory"),
        }
    }

    pub(super) async fn run_alone(&self, place: &Place<'_>) -> Result<Output> {
        match self {
            Self::Parse { files } => parse(files),
            Self::Compile(compile) => compile.run(),
            Self::Apply(apply) => apply.run().await,
            Self::Test(document) => document.test().await,
            Self::Get(document) => document.get().await,
            Self::Pull(pull) => pull.run(place).await,
            Self::Publish { .. }
            | Self::Module { .. }
            | Self::Nodes { .. }
            | Self::Assign { .. }
            | Self::Tag(_)
            | Self::Rule(_)
            | Self::Rollout(_)
            | Self::Key(_)
            | Self::Rotate { .. }
            | Self::DismissClone { .. }
            | Self::Remove { .. }
            | Self::Report { .. }
            | Self::Diff { .. } => {
                bail!("this command needs a data directory")
            }
            Self::Serve(_) => bail!("a server does not run inside another"),
        }
    }
}

/// A key given as an argument. It stays in this process: what takes one is not sent to another, so
/// that it need not be serialized.
#[expect(clippy::unnecessary_wraps, reason = "the form that the parser of arguments calls")]
fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::from(text))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("file {}", file.display()))
}

/// `NAME` of `NAME.mof`, `NAME.meta.mof` and the like.
fn stem(file: &Path) -> Result<&str> {
    let name = file.file_stem().and_then(|name| name.to_str());
    name.with_context(|| format!("file has no name that is text. path=`{}`", file.display()))
}

fn parse(files: &[PathBuf]) -> Result<Output> {
    let mut trees = serde_json::Map::new();
    let mut wrong = String::new();
    for file in files {
        let parsed = oms_dsc::mof::parse(&read(file)?);
        for diagnostic in &parsed.diagnostics {
            wrong.push_str(&format!("{}:{diagnostic}\n", file.display()));
        }
        trees.insert(file.display().to_string(), serde_json::to_value(&parsed.document)?);
    }
    if !wrong.is_empty() {
        bail!(ParseFailure(wrong.trim_end().to_owned()));
    }
    let json = match files.len() {
        1 => trees.into_iter().next().map(|(_, tree)| tree).unwrap_or_default(),
        _ => trees.into(),
    };
    Ok(Output::new(format!("{json:#}\n"), json))
}

/// Diagnostics, one a line, as they are printed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ParseFailure(String);

async fn publish(suite: &Suite, name: Option<&str>, files: &[PathBuf]) -> Result<Output> {
    if name.is_some() && files.len() > 1 {
        bail!("--name is for one document. documents=`{}`", files.len());
    }
    // All of them are read before any is published.
    let mut documents = Vec::new();
    let mut named = HashMap::new();
    for file in files {
        let name = match name {
            Some(name) => name,
            None => stem(file)?,
        };
        let document = read(file)?;
        Configuration::parse(name, &document).map_err(shown)?;
        if let Some(first) = named.insert(name.to_lowercase(), file) {
            bail!("two documents are {name}. paths=`{}`, `{}`", first.display(), file.display());
        }
        documents.push((name, document));
    }
    let (mut text, mut rows) = (String::new(), Vec::new());
    for (name, document) in documents {
        let published = suite.dsc()?.publish(name, &document).await.map_err(shown);
        let published = published.with_context(|| {
            format!("{} of {} documents are published", rows.len(), files.len())
        })?;
        let (name, checksum) = (published.name.to_string(), published.checksum.to_string());
        text.push_str(&format!(
            "configuration {name} published, {} bytes\nSHA-256 {checksum}\n",
            published.bytes
        ));
        let clear = clear_passwords(&oms_dsc::mof::parse(&document).document);
        if clear > 0 {
            text.push_str(&format!("{clear} passwords in it are in the clear\n"));
        }
        rows.push(json!({
            "name": name, "checksum": checksum, "bytes": published.bytes,
            "clear_passwords": clear,
        }));
    }
    let json = if let [row] = &rows[..] { row.clone() } else { json!(rows) };
    Ok(Output::new(text, json))
}

async fn module(suite: &Suite, given: Option<(&str, &str)>, file: &Path) -> Result<Output> {
    let (name, version) = match given {
        Some(given) => given,
        None => stem(file)?.rsplit_once('_').with_context(|| {
            format!(
                "file is not called NAME_VERSION.zip; give --name and --version. path=`{}`",
                file.display()
            )
        })?,
    };
    let published = suite.dsc()?.publish_module(name, version.parse()?, &read(file)?).await?;
    let (version, checksum) = (published.version.to_string(), published.checksum.to_string());
    let text = format!(
        "module {name} {version} published, {} bytes\nSHA-256 {checksum}\n",
        published.bytes
    );
    let json = json!({
        "name": name, "version": version, "checksum": checksum, "bytes": published.bytes,
    });
    Ok(Output::new(text, json))
}

/// A document's diagnostics, one a line with its place.
fn shown(error: oms_dsc::Error) -> anyhow::Error {
    match error {
        oms_dsc::Error::Document { document, diagnostics } => {
            let lines = diagnostics.iter().map(|line| format!("{document}:{line}"));
            ParseFailure(lines.collect::<Vec<_>>().join("\n")).into()
        }
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser, Serialize)]
    struct Line {
        #[command(subcommand)]
        dsc: Dsc,
    }

    #[test]
    fn a_certificate_comes_with_its_key() {
        let pull = ["pull", "--server", "https://pull.example", "--configuration", "Web"];
        let pull = [&pull[..], &["--registration-key-file", "key"]].concat();
        for arguments in [&["test", "x.mof"][..], &["apply", "x.mof"], &pull] {
            for (given, missing) in
                [("--certificate", "--certificate-key"), ("--certificate-key", "--certificate")]
            {
                let line = [&["oms"], arguments, &[given, "file"]].concat();
                let error = Line::try_parse_from(&line).expect_err("half of it").to_string();
                assert!(error.contains(&format!("{missing} <")), "{error}");
                let whole = [&line[..], &[missing, "other"]].concat();
                Line::try_parse_from(whole).expect("both");
            }
        }
    }

    #[test]
    fn a_key_given_as_an_argument_is_never_shown() {
        let key = "hunter2-is-not-to-be-seen";
        let serve = ["oms", "serve", "--listen", "127.0.0.1:0", "--registration-key", key];
        let pull = ["oms", "pull", "--server", "https://pull.example", "--configuration", "Web"];
        let pull = [&pull[..], &["--registration-key", key]].concat();
        for arguments in [&serve[..], &pull] {
            let line = Line::try_parse_from(arguments).expect("it is right");
            let shown = format!("{line:?} {}", serde_json::to_string(&line).expect("JSON"));
            assert!(!shown.contains(key), "{shown}");
            let given = match &line.dsc {
                Dsc::Serve(options) => options.registration_key().expect("a key"),
                Dsc::Pull(pull) => pull.registration_key().expect("a key"),
                other => panic!("another command: {other:?}"),
            };
            assert_eq!(given, Some(Secret::from(key)));
            // A mistake beside it does not show it either.
            let wrong = [arguments, &["--registration-key-file", "key"]].concat();
            let error = Line::try_parse_from(wrong).expect_err("one or the other");
            assert!(!error.to_string().contains(key), "{error}");
        }
    }
}
