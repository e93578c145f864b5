//! `oms dsc compile`: sources in YAML or JSON to the MOF documents of their nodes.

use super::{Output, read, shown};
use anyhow::{Context, Result, bail};
use clap::Args;
use oms_dsc::authoring::{CompileOptions, ParameterType, Source};
use oms_dsc::configuration::Schemas;
use oms_dsc::configuration::credential::Recipient;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What is compiled, and for whom.
#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct Compile {
    /// The source, in YAML or JSON; a configuration document of DSC version 3 is one too.
    pub(super) file: PathBuf,
    /// The folder for NAME.NODE.mof and its checksum, or NODE.meta.mof; the configuration's name by
    /// default.
    #[arg(long)]
    pub(super) output: Option<PathBuf>,
    /// The configuration's name, in place of the source's own.
    #[arg(long)]
    name: Option<String>,
    /// A parameter's value; of those that are no strings, in JSON. A secret is better in a file.
    #[arg(long = "parameter", value_name = "NAME=VALUE")]
    #[serde(skip)]
    parameters: Vec<GivenParameter>,
    /// A file in JSON or YAML with values of parameters by name.
    #[arg(long, value_name = "FILE")]
    pub(super) parameters_file: Option<PathBuf>,
    /// A schema file (MOF) of classes that do not come with the configuration managers.
    #[arg(long = "schema", value_name = "FILE")]
    pub(super) schemas: Vec<PathBuf>,
    /// A node's certificate in PEM, for which passwords are encrypted; without NODE for every node
    /// that has none of its own.
    #[arg(long = "certificate", value_name = "[NODE=]FILE")]
    certificates: Vec<String>,
    /// Write passwords in the clear where there is no certificate.
    #[arg(long)]
    clear_passwords: bool,
    /// Say what is wrong, or what would be written, and write nothing.
    #[arg(long)]
    check: bool,
}

/// `NAME=VALUE`, whose value may be a secret.
#[derive(Clone)]
struct GivenParameter(String);

impl FromStr for GivenParameter {
    /// What is wrong with it is told later, without the value that an error of the command line shows.
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for GivenParameter {
    /// The name alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.split_once('=').map_or("", |(name, _)| name);
        write!(f, "{name}=***")
    }
}

impl Compile {
    pub(super) fn run(&self) -> Result<Output> {
        let file = self.file.display().to_string();
        let source = Source::read(&file, &read(&self.file)?).map_err(shown)?;
        let mut schemas = Schemas::standard()?;
        for schema in &self.schemas {
            let name = schema.display().to_string();
            schemas = schemas.with(&name, &read(schema)?).map_err(shown)?;
        }
        let mut options = CompileOptions { name: self.name.clone(), ..CompileOptions::default() };
        options.leaves_passwords_clear = self.clear_passwords;
        self.give_parameters(&source, &mut options)?;
        for given in &self.certificates {
            let (node, file) = given.split_once('=').unwrap_or(("*", given));
            let recipient = Recipient::from_pem(&read(Path::new(file))?)
                .with_context(|| format!("certificate {file}"))?;
            options.recipients.insert(node.to_owned(), recipient);
        }
        let compiled = source.compile(&schemas, &options).map_err(shown)?;
        let (mut text, mut rows) = (String::new(), Vec::new());
        for node in &compiled {
            let (configuration, _) = node
                .name
                .as_str()
                .split_at(node.name.as_str().len().saturating_sub(node.node.len() + 1));
            let folder = self.output.clone().unwrap_or_else(|| PathBuf::from(configuration));
            let path = match node.is_metaconfiguration {
                true => folder.join(format!("{}.meta.mof", node.node)),
                false => folder.join(format!("{}.mof", node.name)),
            };
            if !self.check {
                std::fs::create_dir_all(&folder)
                    .with_context(|| format!("folder {}", folder.display()))?;
                write(&path, node.text.as_bytes())?;
            }
            if !self.check && !node.is_metaconfiguration {
                let checksum = folder.join(format!("{}.mof.checksum", node.name));
                write(&checksum, node.checksum.to_string().as_bytes())?;
            }
            text.push_str(&format!("{}  SHA-256 {}\n", path.display(), node.checksum));
            rows.push(json!({
                "name": node.name.to_string(), "node": node.node, "file": path,
                "checksum": node.checksum.to_string(), "bytes": node.text.len(),
            }));
        }
        Ok(Output::new(text, json!(rows)))
    }

    fn give_parameters(&self, source: &Source, options: &mut CompileOptions) -> Result<()> {
        if let Some(file) = &self.parameters_file {
            let name = file.display().to_string();
            let values = oms_dsc::authoring::read_values(&name, &read(file)?).map_err(shown)?;
            let Value::Object(values) = values else {
                bail!("parameters are not an object. path=`{}`", file.display());
            };
            options.parameters.extend(values);
        }
        for given in &self.parameters {
            let (name, value) =
                given.0.split_once('=').context("a parameter is given as NAME=VALUE")?;
            let declared = source.parameters().find(|(declared, _)| *declared == name);
            let is_text = declared.is_none_or(|(_, kind)| {
                matches!(kind, ParameterType::String | ParameterType::SecureString)
            });
            let value = match is_text {
                true => value.into(),
                // What is wrong with it may not be told: it may be a secret.
                false => serde_json::from_str(value)
                    .ok()
                    .with_context(|| format!("value is not JSON. parameter=`{name}`"))?,
            };
            options.parameters.insert(name.to_owned(), value);
        }
        Ok(())
    }
}

/// Writes a file whole or not at all, for its owner alone: a document may hold what others should not
/// read. One that was there is replaced, with whatever mode it had.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| {
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)
    });
    written.map(drop).with_context(|| format!("file {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    /// As a log of what was asked for has it.
    #[test]
    fn a_parameter_is_shown_by_its_name() {
        #[derive(Debug, Parser)]
        struct Program {
            #[command(flatten)]
            compile: Compile,
        }
        let program = Program::try_parse_from(["oms", "s.yaml", "--parameter", "pw=hunter2=x"]);
        let Program { compile } = program.expect("a command");
        let shown = format!("{compile:?}");
        assert!(shown.contains("pw=***") && !shown.contains("hunter2"), "{shown}");
        assert_eq!(compile.parameters[0].0, "pw=hunter2=x");
    }
}
