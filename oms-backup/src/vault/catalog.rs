//! Which blob lies where: the index files, in memory.

use super::Core;
use super::format::{BlobId, BlobKind, IndexFile, IndexId, PackId};
use super::store::FileId as _;
use crate::error::Error;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// The most blobs a catalog holds; about 4 GiB of memory.
pub const CATALOG_BLOBS_MAX: usize = 50_000_000;

/// Where a blob lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) pack: PackId,
    pub(crate) offset: u32,
    pub(crate) length: u32,
    pub(crate) uncompressed_length: Option<u32>,
}

/// A place whose pack is a number, to spend 20 bytes a blob and not 44.
#[derive(Clone, Copy, Debug)]
struct Slot {
    pack: u32,
    offset: u32,
    length: u32,
    uncompressed_length: u32,
}

/// Ids are hashes already: their first eight bytes serve as they are.
#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8).take(1) {
            let number = part.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
            self.0 = self.0.rotate_left(5) ^ number;
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn write_isize(&mut self, discriminant: isize) {
        self.0 ^= discriminant as u64;
    }
}

/// A map by kind and id of a blob.
pub(crate) type BlobMap<V> = HashMap<(BlobKind, BlobId), V, BuildHasherDefault<IdHasher>>;

/// Every blob that an index names.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    packs: Vec<PackId>,
    blobs: BlobMap<Slot>,
}

impl Catalog {
    /// Reads every index file.
    pub(crate) fn load(core: &Core) -> Result<Self, Error> {
        let mut catalog = Self::default();
        for id in core.store.list::<IndexId>()? {
            let index = core.read_index(id)?;
            catalog.insert(&index)?;
        }
        Ok(catalog)
    }

    pub(crate) fn insert(&mut self, index: &IndexFile) -> Result<(), Error> {
        for pack in &index.packs {
            let number = self.packs.len() as u32;
            self.packs.push(pack.id);
            for blob in &pack.blobs {
                let slot = Slot {
                    pack: number,
                    offset: blob.offset,
                    length: blob.length,
                    uncompressed_length: blob.uncompressed_length.unwrap_or(0),
                };
                self.blobs.insert((blob.kind, blob.id), slot);
            }
        }
        if self.blobs.len() > CATALOG_BLOBS_MAX {
            let (actual, limit) = (self.blobs.len() as u64, CATALOG_BLOBS_MAX as u64);
            return Err(Error::TooLarge { what: "number of blobs", actual, limit });
        }
        Ok(())
    }

    pub(crate) fn contains(&self, kind: BlobKind, id: BlobId) -> bool {
        self.blobs.contains_key(&(kind, id))
    }

    /// How many plaintext bytes a blob has.
    pub(crate) fn plain_length(&self, kind: BlobKind, id: BlobId) -> Option<u32> {
        let slot = self.blobs.get(&(kind, id))?;
        Some(match slot.uncompressed_length {
            0 => slot.length.saturating_sub(super::crypto::SEAL_BYTES as u32),
            length => length,
        })
    }

    pub(crate) fn find(&self, kind: BlobKind, id: BlobId) -> Result<Place, Error> {
        let missing = || Error::BlobMissing { kind: kind.to_string(), id: id.to_string() };
        let slot = self.blobs.get(&(kind, id)).ok_or_else(missing)?;
        let pack = *self.packs.get(slot.pack as usize).ok_or_else(missing)?;
        let uncompressed_length = Some(slot.uncompressed_length).filter(|length| *length != 0);
        let Slot { offset, length, .. } = *slot;
        Ok(Place { pack, offset, length, uncompressed_length })
    }
}

impl Core {
    /// Reads one index file.
    pub(crate) fn read_index(&self, id: IndexId) -> Result<IndexFile, Error> {
        let path = id.path().display().to_string();
        let sealed = self.store.read(id)?;
        let json = self.open_file(&path, &sealed, IndexId::BYTES_MAX)?;
        IndexFile::parse(&json).map_err(Error::format(path))
    }
}
