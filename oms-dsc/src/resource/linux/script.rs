//! Scripts that get, test and set: `nxScript`.
//!
//! A script is a text whose first line may name its interpreter (`#!`); without that it is one of
//! `/bin/sh`. `TestScript` ends with 0 if all is as it should be. Scripts run with an environment of their
//! own, as the user and group that are named, for as long as they are let; everything that they started
//! ends with them if they are not done by then.

use super::command::{Program, Ran, TIMEOUT};
use super::property::Properties;
use super::run_as::RunAs;
use super::{Difference, Resource, SetReport};
use crate::Error;
use crate::configuration::ResourceInstance;
use async_trait::async_trait;
use oms_core::{Entropy, SystemEntropy};
use rustix::fs::{Gid, Mode, OFlags, Uid, fchown, open};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const CLASSES: [&str; 2] = ["MSFT_nxScriptResource", "MSFT_nxScript"];

const KNOWN: [&str; 5] = ["GetScript", "TestScript", "SetScript", "User", "Group"];

/// The largest script, in bytes.
const SCRIPT_BYTES_MAX: usize = 1 << 20;

/// The exit code of a `SetScript` after which the computer has to restart.
pub const REBOOT_EXIT_CODE: i32 = 194;

/// Scripts. They can do whatever their user can, so no folder keeps them in.
#[derive(Clone, Debug)]
pub struct ScriptResource {
    folder: PathBuf,
    timeout: Duration,
    entropy: Arc<dyn Entropy>,
}

impl Default for ScriptResource {
    fn default() -> Self {
        Self { folder: std::env::temp_dir(), timeout: TIMEOUT, entropy: Arc::new(SystemEntropy) }
    }
}

impl ScriptResource {
    /// Scripts that may run for ten minutes each.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How long each script may run.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn run(&self, instance: &ResourceInstance, property: &str) -> Result<Ran, Error> {
        let script = Script::of(instance, property)?;
        let mut draw = [0; 16];
        self.entropy.fill(&mut draw);
        let name = format!(".oms-dsc-{:032x}", u128::from_le_bytes(draw));
        let file = ScriptFile::write(&self.folder.join(name), &script)?;
        let (interpreter, argument) = interpreter(&script.text);
        let mut arguments: Vec<String> = argument.into_iter().map(str::to_owned).collect();
        arguments.push(file.0.display().to_string());
        let mut program = Program::new(interpreter, arguments);
        program.timeout = self.timeout;
        script.run_as.apply(&mut program);
        program.run().await
    }
}

#[async_trait]
impl Resource for ScriptResource {
    fn classes(&self) -> &[&str] {
        &CLASSES
    }

    async fn get(&self, instance: &ResourceInstance) -> Result<BTreeMap<String, Value>, Error> {
        let ran = self.run(instance, "GetScript").await?;
        Ok(BTreeMap::from([
            ("Result".to_owned(), json!(String::from_utf8_lossy(&ran.output))),
            ("ExitCode".to_owned(), json!(ran.code)),
        ]))
    }

    async fn test(&self, instance: &ResourceInstance) -> Result<Vec<Difference>, Error> {
        let ran = self.run(instance, "TestScript").await?;
        if ran.is_success() {
            return Ok(Vec::new());
        }
        if ran.code.is_none() {
            return Err(Error::Program { program: "TestScript".into(), reason: ran.ending() });
        }
        let said = ran.last_words();
        let found = match said.is_empty() {
            true => ran.ending(),
            false => format!("{}: {said}", ran.ending()),
        };
        Ok(vec![Difference::new("TestScript", found, "exit code 0")])
    }

    async fn set(&self, instance: &ResourceInstance) -> Result<SetReport, Error> {
        let ran = self.run(instance, "SetScript").await?;
        match ran.code {
            Some(0) => Ok(SetReport::default()),
            Some(REBOOT_EXIT_CODE) => Ok(SetReport { reboot_required: true }),
            _ => {
                let reason = format!("{}: {}", ran.ending(), ran.last_words());
                Err(Error::Program { program: "SetScript".into(), reason })
            }
        }
    }
}

/// One script of an instance.
struct Script {
    text: String,
    run_as: RunAs,
}

impl Script {
    fn of(instance: &ResourceInstance, property: &str) -> Result<Self, Error> {
        let read = Properties::new(instance, "Script resource", &KNOWN)?;
        // Each of them has to be there, whichever is run now.
        for name in ["GetScript", "TestScript", "SetScript"] {
            let text = read.needed(name)?;
            if text.len() > SCRIPT_BYTES_MAX {
                let (actual, limit) = (text.len(), SCRIPT_BYTES_MAX);
                return Err(Error::TooLarge { what: "script, in bytes", actual, limit });
            }
        }
        // Compiled on Windows, and read by interpreters that take a carriage return for text.
        let text = read.needed(property)?.replace("\r\n", "\n");
        Ok(Self { text, run_as: RunAs::of(&read)? })
    }
}

/// The program that reads a script, and its one argument, if it has one.
fn interpreter(text: &str) -> (&str, Option<&str>) {
    let line = text.strip_prefix("#!").and_then(|rest| rest.lines().next()).map(str::trim);
    match line.filter(|line| line.starts_with('/')) {
        None => ("/bin/sh", None),
        Some(line) => match line.split_once(char::is_whitespace) {
            Some((program, argument)) => (program, Some(argument.trim())),
            None => (line, None),
        },
    }
}

/// A script on disk for as long as it runs, for its user alone.
struct ScriptFile(PathBuf);

impl ScriptFile {
    fn write(path: &Path, script: &Script) -> Result<Self, Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let failed = |operation| super::tree::failed(operation, path);
        let file = open(path, flags, Mode::from_raw_mode(0o600)).map_err(failed("create"))?;
        let written = Self(path.to_owned());
        let mut file = File::from(file);
        let io = |source| Error::Io { operation: "write", path: path.to_owned(), source };
        file.write_all(script.text.as_bytes()).map_err(io)?;
        let (user, group) = script.run_as.identity;
        if user.is_some() || group.is_some() {
            fchown(&file, user.map(Uid::from_raw), group.map(Gid::from_raw))
                .map_err(failed("change owner of"))?;
        }
        if user.is_none() && group.is_some() {
            let readable = Mode::from_raw_mode(0o640);
            rustix::fs::fchmod(&file, readable).map_err(failed("change mode of"))?;
        }
        Ok(written)
    }
}

impl Drop for ScriptFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "a script stays behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_names_the_interpreter() {
        let check = |text: &str, expect| assert_eq!(interpreter(text), expect, "{text}");
        check("echo", ("/bin/sh", None));
        check("#!/bin/bash\nx", ("/bin/bash", None));
        check("#! /usr/bin/env  python3 -u \nx", ("/usr/bin/env", Some("python3 -u")));
        check("#!bash\nx", ("/bin/sh", None));
        check("#!", ("/bin/sh", None));
    }
}
