//! Systems whose files this version cannot read as recovery points keep them: with owners, modes,
//! inodes, extended attributes and names of any bytes.

use super::{FileState, Step};
use crate::error::Error;
use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A walk that never begins.
#[derive(Debug)]
pub(crate) struct FileSource {
    never: Infallible,
}

impl FileSource {
    /// # Errors
    /// [`Error::Invalid`] without a path; else [`Error::Source`] says what this system lacks.
    pub(crate) fn new(paths: &[PathBuf], _is_one_file_system: bool) -> Result<Self, Error> {
        let Some(path) = paths.first() else {
            let (what, value) = ("backup source", String::new());
            return Err(Error::Invalid { what, value, reason: "no path is given" });
        };
        Err(Error::Source { path: path.clone(), source: unsupported() })
    }

    pub(crate) fn roots(&self) -> &[PathBuf] {
        match self.never {}
    }

    pub(crate) fn next(&mut self) -> Option<Step> {
        match self.never {}
    }
}

pub(crate) fn open_file(_path: &Path) -> io::Result<File> {
    Err(unsupported())
}

pub(crate) fn state_of(_file: &File) -> io::Result<FileState> {
    Err(unsupported())
}

fn unsupported() -> io::Error {
    let reason = "files are backed up on Linux only in this version";
    io::Error::new(io::ErrorKind::Unsupported, reason)
}
