//! Bash runbooks. Parameters are `$1` and so on.

use super::CommandLine;
use std::path::Path;

pub(super) const FILE_NAME: &str = "runbook.sh";
pub(super) const PROGRAM: &str = "bash";

pub(super) fn command_line(interpreter: &Path, script: &Path) -> CommandLine {
    CommandLine {
        arguments: vec![interpreter.into(), "--noprofile".into(), "--norc".into(), script.into()],
        environment: &[],
    }
}
