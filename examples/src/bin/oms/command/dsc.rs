//! `oms dsc`: documents, nodes, and this machine's own state.

mod node;

use super::{Output, Place, absolute};
use crate::data::read_secret;
use crate::suite::{Service, Suite};
use crate::{config, serve};
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use oms_core::Secret;
use serde::{Deserialize, Serialize};
use serde_json::json;
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
    /// Publishes a configuration document: nodes of that configuration fetch it.
    Publish {
        /// The configuration's name; that of the file by default.
        #[arg(long)]
        name: Option<String>,
        /// The document.
        file: PathBuf,
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
    Nodes,
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
        matches!(self, Self::Publish { .. } | Self::Module { .. } | Self::Nodes)
    }

    pub(super) fn absolute(&mut self) -> Result<()> {
        match self {
            // Diagnostics name a document as it was given.
            Self::Parse { .. } | Self::Nodes | Self::Serve(_) => Ok(()),
            Self::Publish { file, .. } | Self::Module { file, .. } => absolute([file]),
            Self::Apply(apply) => apply.document.absolute(),
            Self::Test(document) | Self::Get(document) => document.absolute(),
            Self::Pull(pull) => pull.absolute(),
        }
    }

    pub(super) async fn run(&self, suite: &Suite) -> Result<Output> {
        match self {
            Self::Publish { name, file } => publish(suite, name.as_deref(), file).await,
            Self::Module { name, version, file } => {
                module(suite, name.as_deref().zip(version.as_deref()), file).await
            }
            Self::Nodes => nodes(suite).await,
            _ => bail!("this command needs no data directory"),
        }
    }

    pub(super) async fn run_alone(&self, place: &Place<'_>) -> Result<Output> {
        match self {
            Self::Parse { files } => parse(files),
            Self::Apply(apply) => apply.run().await,
            Self::Test(document) => document.test().await,
            Self::Get(document) => document.get().await,
            Self::Pull(pull) => pull.run(place).await,
            Self::Publish { .. } | Self::Module { .. } | Self::Nodes => {
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

async fn publish(suite: &Suite, name: Option<&str>, file: &Path) -> Result<Output> {
    let name = match name {
        Some(name) => name,
        None => stem(file)?,
    };
    let published = suite.dsc()?.publish(name, &read(file)?).await.map_err(shown)?;
    let (name, checksum) = (published.name.to_string(), published.checksum.to_string());
    let text =
        format!("configuration {name} published, {} bytes\nSHA-256 {checksum}\n", published.bytes);
    Ok(Output::new(text, json!({"name": name, "checksum": checksum, "bytes": published.bytes})))
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

async fn nodes(suite: &Suite) -> Result<Output> {
    let mut text = String::new();
    let mut rows = Vec::new();
    for node in suite.dsc()?.nodes().await? {
        let names: Vec<String> =
            node.configuration_names().iter().map(ToString::to_string).collect();
        let heard = node.last_heard.map(|at| at.to_string()).unwrap_or_default();
        text.push_str(&format!(
            "{}  {:?}  {}  {}  {heard}\n",
            node.agent_id,
            node.state,
            node.agent.node_name,
            names.join(", ")
        ));
        rows.push(json!({
            "agent_id": node.agent_id.to_string(), "state": format!("{:?}", node.state),
            "node_name": node.agent.node_name, "configurations": names,
            "last_heard": node.last_heard,
        }));
    }
    if rows.is_empty() {
        text.push_str("no node has registered yet\n");
    }
    Ok(Output::new(text, json!(rows)))
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
