//! Executors: how a runbook of each kind becomes a process.

mod bash;
pub(crate) mod process;
mod python;

use crate::Error;
use crate::runbook::RunbookKind;
use crate::worker::system;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What an interpreter is started with.
#[derive(Clone, Debug)]
pub(crate) struct CommandLine {
    /// The interpreter and its arguments, up to the runbook's own.
    pub(crate) arguments: Vec<OsString>,
    /// What it needs in its environment beside what every job has.
    pub(crate) environment: &'static [(&'static str, &'static str)],
}

/// The name of a runbook's text in its job's folder.
pub(crate) const fn file_name(kind: RunbookKind) -> &'static str {
    match kind {
        RunbookKind::Python3 => python::FILE_NAME,
        RunbookKind::Bash => bash::FILE_NAME,
    }
}

/// The program that runs a kind.
pub(crate) const fn program(kind: RunbookKind) -> &'static str {
    match kind {
        RunbookKind::Python3 => python::PROGRAM,
        RunbookKind::Bash => bash::PROGRAM,
    }
}

/// How `interpreter` runs the text at `script`.
pub(crate) fn command_line(kind: RunbookKind, interpreter: &Path, script: &Path) -> CommandLine {
    match kind {
        RunbookKind::Python3 => python::command_line(interpreter, script),
        RunbookKind::Bash => bash::command_line(interpreter, script),
    }
}

/// The first executable file of that name in the search path.
pub(crate) fn find(program: &str, search_path: &[PathBuf]) -> Option<PathBuf> {
    let is_executable = |path: &PathBuf| {
        path.metadata().is_ok_and(|meta| meta.is_file() && system::is_executable(&meta))
    };
    search_path.iter().map(|folder| folder.join(program)).find(is_executable)
}

/// The interpreter of a kind.
///
/// # Errors
/// [`Error::ProgramMissing`] names it and where it was looked for.
pub(crate) fn interpreter(kind: RunbookKind, search_path: &[PathBuf]) -> Result<PathBuf, Error> {
    require(kind, program(kind), search_path)
}

/// A program that jobs of a kind need.
///
/// # Errors
/// [`Error::ProgramMissing`] names it and where it was looked for.
pub(crate) fn require(
    kind: RunbookKind,
    program: &'static str,
    search_path: &[PathBuf],
) -> Result<PathBuf, Error> {
    find(program, search_path).ok_or_else(|| Error::ProgramMissing {
        kind,
        program,
        search_path: joined(search_path),
    })
}

/// A search path as `PATH` has it.
pub(crate) fn joined(search_path: &[PathBuf]) -> String {
    let folders: Vec<_> = search_path.iter().map(|folder| folder.display().to_string()).collect();
    folders.join(":")
}
