//! Parsers without a public name of their own, for the fuzz targets. No part of the interface.

use super::accounts::{Row, Table};
use super::archive::contents::Archive;
use super::authorized_key::{self, Key};
use super::manifest::Manifest;

/// A file of accounts, in which lines are put and names are taken out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Accounts(Table);

impl Accounts {
    /// Reads a file.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        Self(Table::parse(bytes))
    }

    /// The file.
    #[must_use]
    pub fn print(&self) -> Vec<u8> {
        self.0.print()
    }

    /// The fields of the line of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Vec<Vec<u8>>> {
        let row = self.0.find(name)?;
        Some((0..row.len()).map(|index| row.field(index).to_vec()).collect())
    }

    /// Sets a field of the line of that name, which is made if there is none.
    pub fn set(&mut self, name: &str, field: usize, text: &str) {
        let mut row = self.0.find(name).unwrap_or_else(|| Row::new([name]));
        row.set(field, text);
        self.0.put(&row);
    }

    /// Takes out the line of that name.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Takes a name out of the lists of members and managers.
    pub fn take_out(&mut self, name: &str) {
        self.0.take_out(name, &[2, 3]);
    }
}

/// The key in a line of `authorized_keys`, and its comment.
#[must_use]
pub fn authorized_key(line: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    Key::parse(line).map(|key| (key.text, key.comment))
}

/// A file of keys in which a comment has that key, or none.
#[must_use]
pub fn with_key(text: &[u8], comment: &[u8], key: Option<&[u8]>) -> Vec<u8> {
    authorized_key::with_key(text, comment, key)
}

/// A manifest of a resource of DSC version 3.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CommandManifest(Manifest);

impl CommandManifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// Says what is wrong, and where.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        Manifest::parse(bytes).map(Self)
    }

    /// Which of two is the newer.
    #[must_use]
    pub fn age(&self, other: &Self) -> std::cmp::Ordering {
        self.0.age(&other.0)
    }
}

/// The paths of what an archive holds, each with whether it is a folder and with its content.
///
/// # Errors
/// Says why it is refused.
pub fn archive(bytes: &[u8]) -> Result<Vec<(String, bool, Vec<u8>)>, crate::Error> {
    let archive = Archive::read(bytes, &|| "fuzz".to_owned())?;
    let entries = archive.entries().iter();
    entries
        .map(|entry| Ok((entry.path.clone(), entry.is_folder, archive.content(entry)?)))
        .collect()
}
