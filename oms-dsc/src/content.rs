//! Content by its checksum: what is stored never changes, and what is read is checked.

use crate::Error;
use crate::protocol::Checksum;
use oms_core::disk::{Disk, DiskError, OpenMode};
use oms_core::{Entropy, EntropyExt, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder of files named by the SHA-256 of their bytes.
#[derive(Clone, Debug)]
pub(crate) struct ContentStore {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    entropy: Arc<dyn Entropy>,
}

impl ContentStore {
    /// Opens the folder, making it if it is missing.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        folder: &str,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, DiskError> {
        let folder = PathBuf::from(folder);
        disk.create_dir_all(&folder)?;
        // A crash while writing leaves a file that nothing refers to.
        for name in disk.list(&folder)? {
            if name.starts_with("new-") {
                disk.remove(&folder.join(name))?;
            }
        }
        Ok(Self { disk, folder, entropy })
    }

    fn path(&self, checksum: Checksum) -> PathBuf {
        self.folder.join(checksum.to_string())
    }

    /// Stores bytes. They are durable when this returns.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Checksum, Error> {
        let checksum = Checksum::of(bytes);
        let path = self.path(checksum);
        if self.get(checksum).is_ok() {
            // An earlier attempt may have failed after the bytes were there to read.
            self.disk.open(&path, OpenMode::Read)?.sync()?;
            self.disk.sync_dir(&self.folder)?;
            return Ok(checksum);
        }
        let temporary = self.folder.join(format!("new-{}", self.entropy.uuid()));
        replace(&*self.disk, &temporary, &path, bytes)?;
        Ok(checksum)
    }

    /// Reads and checks bytes.
    pub(crate) fn get(&self, checksum: Checksum) -> Result<Vec<u8>, Error> {
        let path = self.path(checksum);
        let bytes = read(&*self.disk, &path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::NotFound { what: "content", name: checksum.to_string() },
            _ => error.into(),
        })?;
        if Checksum::of(&bytes) != checksum {
            let (what, reason) = (checksum.to_string(), "the bytes have another checksum".into());
            return Err(Error::Corrupt { what, reason });
        }
        Ok(bytes)
    }
}

/// Reads a whole file.
pub(crate) fn read(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, DiskError> {
    let file = disk.open(path, OpenMode::Read)?;
    let len = usize::try_from(file.len()?).unwrap_or(usize::MAX);
    let mut bytes = vec![0; len];
    let count = file.read_at(0, &mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// Writes a file beside its place, makes it durable, and puts it there in one step.
pub(crate) fn replace(
    disk: &dyn Disk,
    temporary: &Path,
    path: &Path,
    bytes: &[u8],
) -> Result<(), DiskError> {
    let file = disk.open(temporary, OpenMode::CreateNew)?;
    file.write_at(0, bytes)?;
    file.sync()?;
    disk.rename(temporary, path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new("")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::entropy::SeededEntropy;
    use oms_core::testkit::disk::SimDisk;

    #[test]
    fn content_survives_a_crash_and_damage_is_noticed() {
        let disk = SimDisk::default();
        let entropy: Arc<SeededEntropy> = Arc::new(SeededEntropy::new(1));
        let open = || {
            let (disk, entropy) = (Arc::new(disk.clone()), Arc::clone(&entropy));
            ContentStore::open(disk, "content", entropy).expect("opens")
        };
        let checksum = open().put(b"text").expect("stored");
        disk.crash(&*entropy);
        assert_eq!(open().get(checksum).expect("durable"), b"text");
        disk.flip_bit(&Path::new("content").join(checksum.to_string()), 1, 3);
        assert_eq!(open().get(checksum).expect_err("damaged").kind(), ErrorKind::Corrupt);
        assert_eq!(open().put(b"text").expect("mended"), checksum);
        assert_eq!(open().get(checksum).expect("whole again"), b"text");
        let none = Checksum::of(b"none");
        assert_eq!(open().get(none).expect_err("never stored").kind(), ErrorKind::NotFound);
    }

    /// Auditor: content whose put was answered is whole ever after; content whose put failed is
    /// not there, or whole, or is known to be damaged, and can be put again.
    #[test]
    fn power_may_fail_at_any_operation_of_a_put() {
        use oms_core::testkit::crash::crash_at_every_operation;
        let text = &[b'x'; 3_000][..];
        let open = |disk: &SimDisk, seed| {
            let entropy = Arc::new(SeededEntropy::new(seed));
            ContentStore::open(Arc::new(disk.clone()), "content", entropy)
        };
        let work =
            |disk: &SimDisk, (): &()| open(disk, 1).is_ok_and(|store| store.put(text).is_ok());
        let audit = |disk: &SimDisk, (), is_done: bool| {
            let store = open(disk, 2).expect("opens");
            match store.get(Checksum::of(text)) {
                Ok(found) => assert!(found == text),
                Err(error) => assert!(!is_done, "{error}"),
            }
            let checksum = store.put(text).expect("stored now");
            assert!(store.get(checksum).expect("there") == text);
        };
        crash_at_every_operation(20, |_disk| (), work, audit);
    }
}
