//! Command resources of DSC version 3: `OMS_CommandResource`, of which a manifest says what to run.
//!
//! A manifest is a file `NAME.dsc.resource.json` in one of some folders. It names a type
//! (`Owner.Area/Name`) and, for each operation, a program with its arguments. The program is run as it
//! stands, through no shell, with the properties as JSON on its standard input, in an argument, or as
//! variables of its environment; it answers with JSON on its output. Without a `test` of its own a
//! resource is tested by what `get` tells. A test changes nothing, so it is the preview too.
//!
//! A manifest says what root runs: one that others can write, or that lies below a folder in which they can,
//! is refused by name, and so is a symbolic link to it.

mod compare;

use super::command::{OUTPUT_BYTES_MAX, Program, Ran, TIMEOUT};
use super::manifest::{Argument, Input, Manifest, Operation};
use super::property::Properties;
use super::run_as::RunAs;
use super::{Difference, Resource, SetReport};
use crate::Error;
use crate::configuration::ResourceInstance;
use async_trait::async_trait;
use compare::{differences, shown};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

const CLASSES: [&str; 1] = ["OMS_CommandResource"];

const KNOWN: [&str; 6] = ["Type", "Name", "Properties", "User", "Group", "TimeoutSec"];

/// What an error calls it.
const WHAT: &str = "Command resource";

/// The longest that one program may be let run, in seconds.
const TIMEOUT_SECONDS_MAX: u64 = 86_400;

/// Whether it is there: the canonical property of DSC version 3.
const EXIST: &str = "_exist";
const IN_DESIRED_STATE: &str = "_inDesiredState";

/// Resources of DSC version 3 by their manifests. Their programs can do whatever their user can, so no
/// folder keeps them in.
#[derive(Clone, Debug)]
pub struct CommandResource {
    folders: Vec<PathBuf>,
    timeout: Duration,
}

impl CommandResource {
    /// Those whose manifests are in some folders, the first of which goes before the others.
    #[must_use]
    pub fn new(folders: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { folders: folders.into_iter().collect(), timeout: TIMEOUT }
    }

    /// Those of this system: in the folders of `DSC_RESOURCE_PATH`, or else where programs are.
    #[must_use]
    pub fn system() -> Self {
        let set = std::env::var_os("DSC_RESOURCE_PATH").filter(|paths| !paths.is_empty());
        let Some(paths) = set else {
            // Where `/bin` is a link, what it leads to is in the list too.
            let folders = std::env::split_paths(super::command::SEARCH_PATH);
            return Self::new(folders.filter(|path| !path.is_symlink()));
        };
        Self::new(std::env::split_paths(&paths).filter(|path| path.is_absolute()))
    }

    /// How long each program may run, where the instance says nothing else; ten minutes without it.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn call(&self, instance: &ResourceInstance) -> Result<Call, Error> {
        let read = Properties::new(instance, WHAT, &KNOWN)?;
        let kind = read.needed("Type")?.to_owned();
        let text = read.filled("Properties")?.unwrap_or("{}");
        let desired: Map<String, Value> = serde_json::from_str(text)
            .map_err(|error| read.invalid("Properties", &format!("no object of JSON: {error}")))?;
        let timeout = match read.number("TimeoutSec")? {
            None | Some(0) => self.timeout,
            Some(seconds @ 1..=TIMEOUT_SECONDS_MAX) => Duration::from_secs(seconds),
            Some(_) => return Err(read.invalid("TimeoutSec", "more than a day")),
        };
        let run_as = RunAs::of(&read)?;
        let folders = self.folders.clone();
        let wanted = kind.clone();
        let manifest = oms_core::task::blocking(move || Manifest::find(&folders, &wanted)).await?;
        Ok(Call { manifest, kind, desired, timeout, run_as })
    }
}

#[async_trait]
impl Resource for CommandResource {
    fn classes(&self) -> &[&str] {
        &CLASSES
    }

    async fn get(&self, instance: &ResourceInstance) -> Result<BTreeMap<String, Value>, Error> {
        let found = self.call(instance).await?.get().await?;
        Ok(found.into_iter().collect())
    }

    async fn test(&self, instance: &ResourceInstance) -> Result<Vec<Difference>, Error> {
        self.call(instance).await?.test().await
    }

    async fn set(&self, instance: &ResourceInstance) -> Result<SetReport, Error> {
        self.call(instance).await?.set().await
    }
}

/// One instance with the manifest of its type.
struct Call {
    manifest: Manifest,
    kind: String,
    desired: Map<String, Value>,
    timeout: Duration,
    run_as: RunAs,
}

impl Call {
    async fn get(&self) -> Result<Map<String, Value>, Error> {
        let operation = self.operation("get", self.manifest.get.as_ref())?;
        let ran = self.run("get", operation).await?;
        self.states("get", &ran)?.into_iter().next().ok_or_else(|| self.said_nothing("get"))
    }

    async fn test(&self) -> Result<Vec<Difference>, Error> {
        let Some(operation) = &self.manifest.test else {
            return differences(&self.desired, &self.get().await?);
        };
        let ran = self.run("test", operation).await?;
        let state = self.states("test", &ran)?.into_iter().next();
        let found = state.ok_or_else(|| self.said_nothing("test"))?;
        let differences = differences(&self.desired, &found)?;
        match found.get(IN_DESIRED_STATE).and_then(Value::as_bool) {
            Some(true) => Ok(Vec::new()),
            Some(false) if differences.is_empty() => {
                Ok(vec![Difference::new(IN_DESIRED_STATE, "false", "true")])
            }
            _ => Ok(differences),
        }
    }

    async fn set(&self) -> Result<SetReport, Error> {
        let is_to_go = self.desired.get(EXIST) == Some(&Value::Bool(false));
        let handles_exist = self.manifest.set.as_ref().is_some_and(|set| set.handles_exist);
        let (name, operation) = match is_to_go && !handles_exist {
            true => ("delete", self.operation("delete", self.manifest.delete.as_ref())?),
            false => ("set", self.operation("set", self.manifest.set.as_ref())?),
        };
        let ran = self.run(name, operation).await?;
        let reboot_required = match operation.returned {
            None => false,
            Some(_) => self.states(name, &ran)?.first().is_some_and(wants_restart),
        };
        Ok(SetReport { reboot_required })
    }

    fn operation<'a>(
        &self,
        name: &str,
        operation: Option<&'a Operation>,
    ) -> Result<&'a Operation, Error> {
        operation.ok_or_else(|| Error::Unsupported {
            what: "operation of a resource",
            name: format!("{name} of {}", self.kind),
        })
    }

    async fn run(&self, name: &str, operation: &Operation) -> Result<Ran, Error> {
        let properties = Value::Object(self.desired.clone()).to_string();
        let mut arguments = Vec::with_capacity(operation.arguments.len());
        for argument in &operation.arguments {
            match argument {
                Argument::Text(text) => arguments.push(text.clone()),
                Argument::Properties { name, is_mandatory } => {
                    if *is_mandatory || !self.desired.is_empty() {
                        arguments.extend([name.clone(), properties.clone()]);
                    }
                }
                Argument::Type { name } => arguments.extend([name.clone(), self.kind.clone()]),
            }
        }
        let mut program = Program::new(self.manifest.program(&operation.executable)?, arguments);
        program.folder.clone_from(&self.manifest.folder);
        program.timeout = self.timeout;
        self.run_as.apply(&mut program);
        match operation.input {
            None => {}
            Some(Input::Stdin) => program.input = properties.into_bytes(),
            Some(Input::Env) => program.environment.extend(self.variables()?),
        }
        let ran = program.run().await?;
        if ran.is_success() {
            return Ok(ran);
        }
        let code = ran.code.map(|code| code.to_string()).unwrap_or_default();
        let meaning = self.manifest.exit_codes.get(&code).map(String::as_str).unwrap_or_default();
        let said = last_message(&ran.errors).unwrap_or_else(|| ran.last_words());
        let parts = [&*ran.ending(), meaning, &*said];
        let told: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        Err(Error::Program { program: format!("{} {name}", self.kind), reason: told.join(": ") })
    }

    /// The properties as variables: of what is neither text, number nor boolean there is none.
    fn variables(&self) -> Result<Vec<(String, String)>, Error> {
        let mut variables = Vec::new();
        for (name, value) in &self.desired {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    let name = format!("{name} of {}, as a variable", self.kind);
                    return Err(Error::Unsupported { what: "property", name });
                }
            };
            let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(is_plain) || text.contains('\0') {
                let reason = format!("`{name}` cannot be a variable of the environment");
                return Err(Error::Invalid { what: WHAT, reason });
            }
            variables.push((name.clone(), text));
        }
        Ok(variables)
    }

    /// The objects that a program printed, one behind the other; a list of texts behind a state, which
    /// says what differs, is no object, and what differs is seen by itself.
    fn states(&self, name: &str, ran: &Ran) -> Result<Vec<Map<String, Value>>, Error> {
        let program = || format!("{} {name}", self.kind);
        if ran.output.len() >= OUTPUT_BYTES_MAX {
            let (actual, limit) = (ran.output.len(), OUTPUT_BYTES_MAX);
            return Err(Error::TooLarge { what: "output of a resource, in bytes", actual, limit });
        }
        let mut states = Vec::new();
        for value in serde_json::Deserializer::from_slice(&ran.output).into_iter::<Value>() {
            let value = value.map_err(|error| Error::Program {
                program: program(),
                reason: format!("its output is not JSON: {error}"),
            })?;
            if let Value::Object(state) = value {
                states.push(state);
            }
        }
        Ok(states)
    }

    fn said_nothing(&self, name: &str) -> Error {
        let program = format!("{} {name}", self.kind);
        Error::Program { program, reason: "it printed no state".to_owned() }
    }
}

/// Whether the computer has to restart: older resources tell a flag, newer ones a list of what has to.
fn wants_restart(state: &Map<String, Value>) -> bool {
    let list = state.get("_restartRequired").and_then(Value::as_array);
    state.get("_rebootRequested") == Some(&Value::Bool(true))
        || list.is_some_and(|list| list.iter().any(|what| what.get("system").is_some()))
}

/// The last error among the messages of a program: each a line of JSON.
fn last_message(errors: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(errors);
    let error = |line: &str| {
        let message: Map<String, Value> = serde_json::from_str(line).ok()?;
        Some(shown(&json!(message.get("error")?.as_str()?)))
    };
    text.lines().rev().find_map(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_is_told_by_a_flag_or_a_list() {
        let check = |state: Value, expect| {
            assert_eq!(wants_restart(state.as_object().expect("an object")), expect);
        };
        check(json!({"_rebootRequested": true}), true);
        check(json!({"_restartRequired": [{"service": "x"}, {"system": "this"}]}), true);
        check(json!({"_restartRequired": [{"service": "x"}]}), false);
        check(json!({"_rebootRequested": false}), false);
    }
}
