//! Systems to which this version cannot restore: a recovery point holds names of any bytes, links,
//! devices, owners and modes, which are not what these systems have.

use super::{CopyOption, Made, Ownership, Placed};
use crate::vault::format::{Node, NodeName};
use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A folder that is never open.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    never: Infallible,
    pub(crate) path: PathBuf,
}

/// # Errors
/// Always: says what this system lacks.
pub(crate) fn open_root(_path: &Path, _own: Option<&Node>) -> io::Result<(Folder, bool)> {
    Err(unsupported())
}

/// For messages: the quoted name, since the name itself may be none here.
pub(crate) fn join(folder: &Path, name: &NodeName) -> PathBuf {
    folder.join(name.to_string())
}

pub(crate) fn ownership() -> Ownership {
    Ownership { is_restored: false }
}

pub(crate) fn write_all_at(_file: &File, _bytes: &[u8], _offset: u64) -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn finish_file(_file: &File, _node: &Node, _ownership: Ownership) -> Vec<String> {
    vec![unsupported().to_string()]
}

fn unsupported() -> io::Error {
    let reason = "recovery points are restored on Linux only in this version";
    io::Error::new(io::ErrorKind::Unsupported, reason)
}

impl Folder {
    pub(crate) fn sync_file_system(&self) -> io::Result<()> {
        match self.never {}
    }

    pub(crate) fn open(&self, _name: &NodeName) -> io::Result<Self> {
        match self.never {}
    }

    pub(crate) fn open_to_fill(&self, _name: &NodeName) -> io::Result<Self> {
        match self.never {}
    }

    pub(crate) fn open_below(&self, _path: &Path) -> io::Result<Self> {
        match self.never {}
    }

    pub(crate) fn has(&self, _name: &NodeName) -> io::Result<bool> {
        match self.never {}
    }

    pub(crate) fn make(&self, _node: &Node, _copy: CopyOption) -> io::Result<Made> {
        match self.never {}
    }

    pub(crate) fn place(
        &self,
        _temporary: &str,
        _name: &NodeName,
        _copy: CopyOption,
    ) -> io::Result<Placed> {
        match self.never {}
    }

    pub(crate) fn discard(&self, _temporary: &str) {
        match self.never {}
    }

    pub(crate) fn create_file(&self, _temporary: &str) -> io::Result<File> {
        match self.never {}
    }

    pub(crate) fn open_existing(&self, _node: &Node, _ownership: Ownership) -> Option<File> {
        match self.never {}
    }

    pub(crate) fn remove_leftovers(
        &self,
        _now: jiff::Timestamp,
        _is_kept: impl Fn(&[u8]) -> bool,
    ) -> io::Result<u64> {
        match self.never {}
    }

    pub(crate) fn create_special(&self, _temporary: &str, _node: &Node) -> io::Result<()> {
        match self.never {}
    }

    pub(crate) fn link_from(
        &self,
        _from: &Self,
        _name: &NodeName,
        _temporary: &str,
    ) -> io::Result<()> {
        match self.never {}
    }

    pub(crate) fn finish(&self, _node: &Node, _ownership: Ownership) -> Vec<String> {
        match self.never {}
    }

    pub(crate) fn finish_special(
        &self,
        _temporary: &str,
        _node: &Node,
        _ownership: Ownership,
    ) -> Vec<String> {
        match self.never {}
    }
}
