//! The folder of a workspace: who has it open, and whose it is.

use crate::Error;
use crate::repository::share::app_id;
use oms_core::disk::{DiskError, DiskExt as _, DiskLock, LocalDisk, OpenMode};
use oms_core::{Disk, Entropy, EntropyExt as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

const LOCK_FILE: &str = "LOCK";
const IDENTITY_FILE: &str = "workspace.json";

/// The longest document of the folder, in bytes.
const DOCUMENT_BYTES_MAX: u64 = 16 << 20;

/// Where the Delta tables are.
pub(crate) const TABLES_FOLDER: &str = "tables";

/// What `workspace.json` holds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Identity {
    format: u32,
    pub(crate) workspace_id: Uuid,
    /// The application id of this folder's Delta transactions.
    pub(crate) node_id: Uuid,
}

impl Identity {
    /// Of a process of the same workspace that has no folder of its own.
    pub(crate) fn without_folder(self, entropy: &dyn Entropy) -> Self {
        Self { node_id: entropy.uuid(), ..self }
    }

    pub(crate) fn app_id(&self) -> String {
        app_id(&self.node())
    }

    /// The folder among those of the workspace.
    pub(crate) fn node(&self) -> String {
        self.node_id.to_string()
    }

    fn check(&self) -> Result<(), String> {
        match self.format {
            1 => Ok(()),
            other => Err(format!("format {other} is not known, only 1")),
        }
    }
}

/// An open folder.
pub(crate) struct Folder {
    pub(crate) root: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    /// Held as long as it is open.
    pub(crate) lock: DiskLock,
    pub(crate) identity: Identity,
}

impl Folder {
    pub(crate) fn open(
        folder: &Path,
        wanted: Option<Uuid>,
        entropy: &dyn Entropy,
    ) -> Result<Self, Error> {
        let disk = LocalDisk::new(folder)?;
        let root = folder.canonicalize().map_err(|source| {
            let (operation, path) = ("resolve", folder.to_owned());
            DiskError { operation, path, source }
        })?;
        let lock = disk.lock(Path::new(LOCK_FILE)).map_err(|error| match error.is_locked() {
            true => Error::Locked { path: root.clone() },
            false => error.into(),
        })?;
        let identity = identity(&disk, wanted, entropy)?;
        if let Some(wanted) = wanted.filter(|wanted| *wanted != identity.workspace_id) {
            let (found, wanted) = (identity.workspace_id.to_string(), wanted.to_string());
            return Err(Error::OtherWorkspace { path: root, found, wanted });
        }
        disk.create_dir_all(Path::new(TABLES_FOLDER))?;
        Ok(Self { root, disk: Arc::new(disk), lock, identity })
    }
}

/// Reads the folder's identity, or draws one and makes it durable.
fn identity(
    disk: &dyn Disk,
    wanted: Option<Uuid>,
    entropy: &dyn Entropy,
) -> Result<Identity, Error> {
    if let Some(identity) = read_document::<Identity>(disk, IDENTITY_FILE)? {
        let corrupt = |reason| {
            let path = IDENTITY_FILE.to_owned();
            Error::Corrupt { path, offset: 0, reason }
        };
        return identity.check().map(|()| identity).map_err(corrupt);
    }
    let workspace_id = wanted.unwrap_or_else(|| entropy.uuid());
    let identity = Identity { format: 1, workspace_id, node_id: entropy.uuid() };
    write_document(disk, IDENTITY_FILE, &identity)?;
    Ok(identity)
}

/// Reads a small document of the workspace's folder; none if it is not there.
///
/// # Errors
/// [`Error::Disk`]; [`Error::Corrupt`] if it cannot be understood.
pub(crate) fn read_document<T: DeserializeOwned>(
    disk: &dyn Disk,
    name: &str,
) -> Result<Option<T>, Error> {
    if !disk.list(Path::new(""))?.iter().any(|known| known == name) {
        return Ok(None);
    }
    let corrupt = |reason: String| Error::Corrupt { path: name.to_owned(), offset: 0, reason };
    // What is done in its name must not outlive it.
    disk.settle(Path::new(name))?;
    let file = disk.open(Path::new(name), OpenMode::Read)?;
    let length = file.len()?;
    if length > DOCUMENT_BYTES_MAX {
        return Err(corrupt(format!("{length} bytes are more than {DOCUMENT_BYTES_MAX}")));
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_at(0, &mut bytes)?;
    serde_json::from_slice(&bytes).map(Some).map_err(|error| corrupt(error.to_string()))
}

/// Puts a small document into the workspace's folder: after a power failure it is the new one or
/// the old one.
///
/// # Errors
/// [`Error::Disk`].
pub(crate) fn write_document(
    disk: &dyn Disk,
    name: &str,
    document: &impl Serialize,
) -> Result<(), Error> {
    let temporary = Path::new(name).with_extension("tmp");
    let text = serde_json::to_vec_pretty(document)
        .map_err(|error| Error::Internal { what: error.to_string() })?;
    let file = disk.open(&temporary, OpenMode::OpenOrCreate)?;
    file.set_len(0)?;
    file.write_at(0, &text)?;
    file.sync()?;
    disk.rename(&temporary, Path::new(name))?;
    disk.sync_dir(Path::new(""))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::entropy::SeededEntropy;
    use oms_core::testkit::crash::{crash_at_every_operation, kill_at_every_operation};
    use oms_core::testkit::disk::SimDisk;
    use std::sync::Mutex;

    /// Auditor: an identity that was answered is the same ever after; a creation that failed
    /// leaves none or a whole one.
    #[test]
    fn power_may_fail_at_any_operation_of_an_identity_s_creation() {
        let draw = |disk: &SimDisk, seed| identity(disk, None, &SeededEntropy::new(seed));
        let work = |disk: &SimDisk, known: &Mutex<Option<Identity>>| {
            *known.lock().expect("not poisoned") = draw(disk, 1).ok();
            known.lock().expect("not poisoned").is_some()
        };
        let audit = |disk: &SimDisk, known: Mutex<Option<Identity>>, _is_done: bool| {
            let found = draw(disk, 2).expect("an identity");
            if let Some(known) = known.into_inner().expect("not poisoned") {
                assert_eq!(found.workspace_id, known.workspace_id);
                assert_eq!(found.app_id(), known.app_id());
            }
        };
        let operations = crash_at_every_operation(20, |_disk| Mutex::new(None), work, audit);
        assert!(operations >= 6, "{operations}");
        let audit = |disk: &SimDisk, known: Mutex<Option<Identity>>| audit(disk, known, true);
        kill_at_every_operation(20, |_disk| Mutex::new(None), work, audit);
    }
}
