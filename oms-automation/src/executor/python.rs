//! Python 3 runbooks. Parameters are `sys.argv[1:]`, as in Azure Automation.

use super::CommandLine;
use std::path::Path;

pub(super) const FILE_NAME: &str = "runbook.py";
pub(super) const PROGRAM: &str = "python3";

pub(super) fn command_line(interpreter: &Path, script: &Path) -> CommandLine {
    CommandLine {
        // Unbuffered, so that lines arrive when they are printed; no `__pycache__`; no packages
        // from a user's home.
        arguments: vec![interpreter.into(), "-u".into(), "-B".into(), "-s".into(), script.into()],
        environment: &[("PYTHONUTF8", "1")],
    }
}
