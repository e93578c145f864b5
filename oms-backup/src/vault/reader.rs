//! Reading blobs back, each checked against its id.

use super::Core;
use super::catalog::{Catalog, Place};
use super::crypto::Forged;
use super::format::{BlobId, BlobKind, PackId, Tree};
use super::store::FileId as _;
use crate::error::Error;
use oms_core::disk::{DiskFile, OpenMode};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How many pack files a reader keeps open.
const OPEN_PACKS_MAX: usize = 64;

/// Reads blobs; one serves many threads.
#[derive(Debug)]
pub(crate) struct BlobReader {
    core: Arc<Core>,
    catalog: Arc<Catalog>,
    open: Mutex<HashMap<PackId, Arc<dyn DiskFile>>>,
}

impl BlobReader {
    pub(crate) fn new(core: &Arc<Core>, catalog: &Arc<Catalog>) -> Self {
        Self { core: Arc::clone(core), catalog: Arc::clone(catalog), open: Mutex::default() }
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The plaintext of a blob.
    pub(crate) fn read(&self, kind: BlobKind, id: BlobId) -> Result<Vec<u8>, Error> {
        let place = self.catalog.find(kind, id)?;
        let mut sealed = vec![0; place.length as usize];
        let count = self.pack(place.pack)?.read_at(u64::from(place.offset), &mut sealed)?;
        if count != sealed.len() {
            let path = place.pack.path().display().to_string();
            return Err(Error::corrupt(path, format!("ends within {kind} blob {id}")));
        }
        self.core.open_blob(kind, id, &place, &sealed)
    }

    /// A folder's tree.
    pub(crate) fn read_tree(&self, id: BlobId) -> Result<Tree, Error> {
        let bytes = self.read(BlobKind::Tree, id)?;
        Tree::parse(&bytes).map_err(Error::format(format!("tree {id}")))
    }

    fn pack(&self, id: PackId) -> Result<Arc<dyn DiskFile>, Error> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&id) {
            return Ok(Arc::clone(file));
        }
        let file: Arc<dyn DiskFile> =
            Arc::from(self.core.store.disk.open(&id.path(), OpenMode::Read)?);
        if open.len() >= OPEN_PACKS_MAX {
            open.clear();
        }
        open.insert(id, Arc::clone(&file));
        Ok(file)
    }
}

impl Core {
    /// Verifies, decrypts, decompresses and verifies again.
    pub(crate) fn open_blob(
        &self,
        kind: BlobKind,
        id: BlobId,
        place: &Place,
        sealed: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let damaged = |reason: &str| {
            let path = place.pack.path().display().to_string();
            Error::corrupt(path, format!("{kind} blob {id}: {reason}"))
        };
        let opened = self
            .key
            .open(sealed)
            .map_err(|Forged| damaged("its authentication code does not match"))?;
        let plain = match place.uncompressed_length {
            None => opened,
            Some(length) => {
                let plain = zstd::bulk::decompress(&opened, length as usize)
                    .map_err(|error| damaged(&format!("it does not decompress: {error}")))?;
                if plain.len() != length as usize {
                    return Err(damaged("its length is not what the index says"));
                }
                plain
            }
        };
        if BlobId::of(&plain) != id {
            return Err(damaged("its SHA-256 does not match its id"));
        }
        Ok(plain)
    }
}
