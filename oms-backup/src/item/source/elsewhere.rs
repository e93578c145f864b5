//! Systems whose files this version cannot read as recovery points keep them: with owners, modes,
//! inodes, extended attributes and names of any bytes.

use super::{Selection, SourceEntry, SourceFile, SourceTree, SourceWarning, Step};
use crate::error::Error;
use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files of this computer, none of which can be read.
#[derive(Debug)]
pub(crate) struct LocalTree;

impl LocalTree {
    pub(crate) fn load() -> Self {
        Self
    }
}

impl SourceTree for LocalTree {
    fn look_at(&self, _path: &Path, _follows: bool) -> io::Result<SourceEntry> {
        Err(unsupported())
    }

    fn list(&self, _folder: &Path) -> io::Result<Vec<OsString>> {
        Err(unsupported())
    }

    fn open(&self, _file: &Path) -> io::Result<Box<dyn SourceFile>> {
        Err(unsupported())
    }
}

/// A walk that never begins.
#[derive(Debug)]
pub(crate) struct FileSource {
    never: Infallible,
}

impl FileSource {
    /// # Errors
    /// [`Error::Invalid`] without a path; else [`Error::Source`] says what this system lacks.
    pub(crate) fn new(
        _tree: Arc<dyn SourceTree>,
        paths: &[PathBuf],
        _selection: Selection,
    ) -> Result<(Self, Vec<SourceWarning>), Error> {
        let Some(path) = paths.first() else {
            let (what, value) = ("backup source", String::new());
            return Err(Error::Invalid { what, value, reason: "no path is given" });
        };
        Err(Error::Source { path: path.clone(), source: unsupported() })
    }

    pub(crate) const fn has_any(&self) -> bool {
        match self.never {}
    }

    pub(crate) fn roots(&self) -> &[PathBuf] {
        match self.never {}
    }

    pub(crate) fn next(&mut self) -> Option<Step> {
        match self.never {}
    }
}

fn unsupported() -> io::Error {
    let reason = "files are backed up on Linux only in this version";
    io::Error::new(io::ErrorKind::Unsupported, reason)
}
