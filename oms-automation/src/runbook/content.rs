//! Runbook texts on disk, each under the hash of its bytes.

use crate::Error;
use oms_core::Disk;
use oms_core::disk::OpenMode;
use oms_core::id::ParseIdError;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// The largest text of one runbook, in bytes.
pub const RUNBOOK_BYTES_MAX: usize = 1 << 20;

/// The SHA-256 hash of a runbook's text, in lower-case hexadecimal.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContentId(String);

impl ContentId {
    /// The id of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ContentId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 64 && text.bytes().all(is_digit) {
            return Ok(Self(text.to_owned()));
        }
        Err(ParseIdError::new("content id", text, "not 64 lower-case hexadecimal digits"))
    }
}

impl TryFrom<String> for ContentId {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<ContentId> for String {
    fn from(id: ContentId) -> Self {
        id.0
    }
}

/// Texts by their hash. Two runbooks of the same text share one file, and no file ever changes:
/// a job runs the very bytes that were published when it was started.
#[derive(Clone, Debug)]
pub struct ContentStore {
    disk: Arc<dyn Disk>,
}

impl ContentStore {
    const FOLDER: &str = "content";

    /// Opens the store, making its folder.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn open(disk: Arc<dyn Disk>) -> Result<Self, Error> {
        disk.create_dir_all(Path::new(Self::FOLDER))?;
        Ok(Self { disk })
    }

    /// Keeps `bytes`; `Ok` means durable. A repeat is harmless.
    ///
    /// # Errors
    /// [`Error::TooLarge`] past [`RUNBOOK_BYTES_MAX`], or [`Error::Disk`].
    pub fn put(&self, bytes: &[u8]) -> Result<ContentId, Error> {
        if bytes.len() > RUNBOOK_BYTES_MAX {
            let what = "runbook content in bytes";
            return Err(Error::TooLarge { what, actual: bytes.len(), limit: RUNBOOK_BYTES_MAX });
        }
        let id = ContentId::of(bytes);
        if self.get(&id).is_ok() {
            // Whoever put it may have died before its name was durable.
            self.disk.sync_dir(Path::new(Self::FOLDER))?;
            return Ok(id);
        }
        // Every writer of this hash writes the same bytes, so they may share one unfinished file.
        let unfinished = Path::new(Self::FOLDER).join(format!("{id}.unfinished"));
        let file = self.disk.open(&unfinished, OpenMode::OpenOrCreate)?;
        file.set_len(0)?;
        file.write_at(0, bytes)?;
        file.sync()?;
        self.disk.rename(&unfinished, &Self::path(&id))?;
        self.disk.sync_dir(Path::new(Self::FOLDER))?;
        Ok(id)
    }

    /// Reads a text back.
    ///
    /// # Errors
    /// [`Error::Disk`] if it was never put, [`Error::Corrupt`] if its bytes changed.
    pub fn get(&self, id: &ContentId) -> Result<Vec<u8>, Error> {
        let path = Self::path(id);
        let file = self.disk.open(&path, OpenMode::Read)?;
        let len = usize::try_from(file.len()?).unwrap_or(usize::MAX);
        if len > RUNBOOK_BYTES_MAX {
            let reason = format!("{len} bytes are more than any runbook has");
            return Err(Error::Corrupt { path, reason });
        }
        let mut bytes = vec![0; len];
        let count = file.read_at(0, &mut bytes)?;
        bytes.truncate(count);
        if ContentId::of(&bytes) != *id {
            let reason = "its hash is not its name".to_owned();
            return Err(Error::Corrupt { path, reason });
        }
        Ok(bytes)
    }

    fn path(id: &ContentId) -> PathBuf {
        Path::new(Self::FOLDER).join(id.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::entropy::SeededEntropy;
    use oms_core::testkit::disk::SimDisk;

    #[test]
    fn an_acknowledged_text_survives_power_loss_and_damage_is_noticed() {
        for seed in 0..50 {
            let disk = SimDisk::default();
            let store = ContentStore::open(Arc::new(disk.clone())).expect("open");
            let id = store.put(b"echo hello").expect("put");
            disk.crash(&SeededEntropy::new(seed));
            let store = ContentStore::open(Arc::new(disk.clone())).expect("open again");
            assert_eq!(store.get(&id).expect("durable"), b"echo hello", "seed {seed}");
            disk.flip_bit(&ContentStore::path(&id), 3, 1);
            let error = store.get(&id).expect_err("damaged");
            assert_eq!(error.kind(), oms_core::ErrorKind::Corrupt);
            assert_eq!(store.put(b"echo hello").expect("put repairs"), id);
            assert_eq!(store.get(&id).expect("repaired"), b"echo hello");
        }
    }

    /// Auditor: a text whose put was answered is whole ever after; one whose put failed is not
    /// there, or whole.
    #[test]
    fn power_may_fail_at_any_operation_of_a_put() {
        use oms_core::testkit::crash::crash_at_every_operation;
        let text = &[b'x'; 3_000][..];
        let open = |disk: &SimDisk| ContentStore::open(Arc::new(disk.clone()));
        let work = |disk: &SimDisk, (): &()| open(disk).is_ok_and(|store| store.put(text).is_ok());
        let audit = |disk: &SimDisk, (), is_done: bool| {
            let store = open(disk).expect("opens");
            match store.get(&ContentId::of(text)) {
                Ok(found) => assert!(found == text),
                Err(error) => assert!(!is_done, "{error}"),
            }
            let id = store.put(text).expect("stored now");
            assert!(store.get(&id).expect("there") == text);
        };
        crash_at_every_operation(20, |_disk| (), work, audit);
    }

    #[test]
    fn content_ids_parse() {
        let id = ContentId::of(b"");
        assert!(id.as_str().starts_with("e3b0c44298fc1c14"));
        assert_eq!(id.as_str().parse::<ContentId>().expect("round trip"), id);
        assert!("../../etc/passwd".parse::<ContentId>().is_err());
    }
}
