//! Verification: is everything there, and is it what was stored?

use super::restore::lock_to_read;
use super::{Control, Entries, observed};
use crate::error::{Error, with_causes};
use crate::vault::format::{
    BlobId, BlobKind, IndexId, IndexedBlob, KeyFile, KeyId, NodeKind, PackHeader, PackId,
    SnapshotId,
};
use crate::vault::{
    BlobReader, Catalog, Core, FileId as _, Open, PACK_BYTES_MAX, Place, Vault, is_not_found,
    read_whole,
};
use oms_core::disk::OpenMode;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How thoroughly to verify.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VerifyOptions {
    /// Whether every stored byte is read, decrypted and hashed. Without it packs are only measured.
    pub read_data: bool,
    /// The threads that read packs, 1 to 64.
    pub workers: usize,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self { read_data: false, workers: 2 }
    }
}

/// A verification that can be run.
#[derive(Debug)]
pub struct VerifyPlan {
    core: Arc<Core>,
    options: VerifyOptions,
    packs: usize,
    points: usize,
}

/// Something that is wrong with the vault.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// The file in the vault, or the file in a recovery point that is affected.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.reason)
    }
}

/// What a verification found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct VerifyReport {
    /// Damage; empty if everything can be restored.
    pub findings: Entries<Finding>,
    /// Packs that no index names: left by an interrupted backup, or being written right now.
    pub orphan_packs: u64,
    /// Recovery points walked.
    pub points: u64,
    /// Packs looked at.
    pub packs: u64,
    /// Folders read.
    pub trees: u64,
    /// Bytes of packs read.
    pub bytes_read: u64,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

impl VerifyPlan {
    pub(crate) fn new(vault: &Vault<Open>, options: &VerifyOptions) -> Result<Self, Error> {
        if !(1..=64).contains(&options.workers) {
            let (what, value) = ("workers", options.workers.to_string());
            return Err(Error::Invalid { what, value, reason: "not 1 to 64" });
        }
        let core = Arc::clone(vault.core());
        let packs = core.store.list_packs()?.len();
        let points = core.store.list::<SnapshotId>()?.len();
        Ok(Self { core, options: *options, packs, points })
    }

    /// How many packs there are.
    #[must_use]
    pub const fn packs(&self) -> usize {
        self.packs
    }

    /// How many recovery points there are.
    #[must_use]
    pub const fn points(&self) -> usize {
        self.points
    }

    /// Verifies. Damage is no error but a finding.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::Cancelled`], and [`Error::Disk`] if the vault cannot be listed.
    pub fn run(self, control: &Control) -> Result<VerifyReport, Error> {
        observed("verify", || self.run_unobserved(control), control)
    }

    fn run_unobserved(self, control: &Control) -> Result<VerifyReport, Error> {
        let lock = lock_to_read(&self.core)?;
        let verifier = Verifier {
            core: Arc::clone(&self.core),
            control: control.clone(),
            report: Mutex::default(),
        };
        verifier.keys()?;
        let (catalog, indexed) = verifier.indexes()?;
        let stored = self.core.store.list_packs()?;
        let orphans = stored.iter().filter(|pack| !indexed.contains_key(pack)).count();
        verifier.report(|report| {
            report.orphan_packs = orphans as u64;
            report.packs = indexed.len() as u64;
        });
        let packs: Vec<(PackId, Vec<IndexedBlob>)> = indexed.into_iter().collect();
        let (next, read_data) = (AtomicUsize::new(0), self.options.read_data);
        std::thread::scope(|scope| {
            for _ in 0..self.options.workers {
                scope.spawn(|| {
                    while let Some((id, blobs)) = packs.get(next.fetch_add(1, Ordering::Relaxed))
                        && !control.is_cancelled()
                    {
                        verifier.pack(*id, blobs, read_data);
                        if let Some(lock) = &lock {
                            // A verification that loses its lock may only find too much.
                            let _ = lock.refresh();
                        }
                    }
                });
            }
        });
        verifier.points(&Arc::new(catalog))?;
        control.check()?;
        Ok(verifier.report.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Verifier {
    core: Arc<Core>,
    control: Control,
    report: Mutex<VerifyReport>,
}

impl Verifier {
    fn report(&self, change: impl FnOnce(&mut VerifyReport)) {
        change(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn found(&self, path: impl Into<String>, reason: impl Into<String>) {
        let finding = Finding { path: path.into(), reason: reason.into() };
        // The report tells it.
        tracing::debug!(%finding, "vault is damaged");
        self.report(|report| report.findings.push(finding));
    }

    /// Damage that came as an error.
    fn found_error(&self, path: impl Into<String>, error: &Error) {
        match error {
            Error::Corrupt { path, reason } => self.found(path, reason),
            other => self.found(path, with_causes(other)),
        }
    }

    /// Key files other than the one that opened the vault may be damaged, too.
    fn keys(&self) -> Result<(), Error> {
        for id in self.core.store.list::<KeyId>()? {
            let path = id.path().display().to_string();
            let parsed = self.core.store.read(id).and_then(|bytes| {
                let key = KeyFile::parse(&bytes).map_err(Error::format(path.clone()))?;
                key.parameters().map_err(Error::format(path.clone()))
            });
            if let Err(error) = parsed {
                self.found_error(path, &error);
            }
        }
        Ok(())
    }

    fn indexes(&self) -> Result<(Catalog, HashMap<PackId, Vec<IndexedBlob>>), Error> {
        let (mut catalog, mut packs) = (Catalog::default(), HashMap::new());
        for id in self.core.store.list::<IndexId>()? {
            match self.core.read_index(id) {
                Ok(index) => {
                    catalog.insert(&index)?;
                    packs.extend(index.packs.into_iter().map(|pack| (pack.id, pack.blobs)));
                }
                Err(error) => self.found_error(id.path().display().to_string(), &error),
            }
        }
        Ok((catalog, packs))
    }

    fn pack(&self, id: PackId, blobs: &[IndexedBlob], read_data: bool) {
        let path = id.path();
        let shown = path.display().to_string();
        let file = match self.core.store.disk.open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if is_not_found(&error) => {
                return self.found(shown, "it is missing, but an index names it");
            }
            Err(error) => return self.found_error(shown, &error.into()),
        };
        let header = header_of(blobs);
        let expected = header.blob_bytes() + header.sealed_bytes() + 4;
        match file.len() {
            Ok(length) if length == expected => {}
            Ok(length) => {
                return self
                    .found(shown, format!("it has {length} bytes, the index says {expected}"));
            }
            Err(error) => return self.found_error(shown, &error.into()),
        }
        if !read_data {
            return;
        }
        match read_whole(&*file, &path, PACK_BYTES_MAX) {
            Err(error) => self.found_error(shown, &error),
            Ok(bytes) => {
                self.report(|report| report.bytes_read += bytes.len() as u64);
                self.control.add_bytes(bytes.len() as u64);
                self.pack_bytes(id, &shown, &header, &bytes);
            }
        }
    }

    fn pack_bytes(&self, id: PackId, path: &str, header: &PackHeader, bytes: &[u8]) {
        if PackId::of(bytes) != id {
            self.found(path, "its SHA-256 does not match its name");
        }
        match PackHeader::read(bytes, &self.core.key) {
            Ok(own) if own == *header => {}
            Ok(_) => self.found(path, "its own list of blobs is not the index's"),
            Err(error) => self.found(path, error.to_string()),
        }
        for blob in &header.entries {
            let (start, length) = (blob.offset as usize, blob.length as usize);
            let place = Place {
                pack: id,
                offset: blob.offset,
                length: blob.length,
                uncompressed_length: blob.uncompressed_length,
            };
            let opened = match bytes.get(start..start + length) {
                Some(sealed) => self.core.open_blob(blob.kind, blob.id, &place, sealed).err(),
                None => Some(Error::corrupt(path, format!("blob {} is outside of it", blob.id))),
            };
            if let Some(error) = opened {
                self.found_error(path, &error);
            }
        }
    }

    /// Walks every folder of every recovery point once.
    fn points(&self, catalog: &Arc<Catalog>) -> Result<(), Error> {
        let reader = BlobReader::new(&self.core, catalog);
        let mut seen = HashSet::new();
        for id in self.core.store.list::<SnapshotId>()? {
            match self.core.read_snapshot(id) {
                Err(error) => self.found_error(id.path().display().to_string(), &error),
                Ok(snapshot) => {
                    self.report(|report| report.points += 1);
                    self.trees(&reader, &id.short(), snapshot.tree, &mut seen)?;
                }
            }
        }
        Ok(())
    }

    fn trees(
        &self,
        reader: &BlobReader,
        point: &str,
        root: BlobId,
        seen: &mut HashSet<BlobId>,
    ) -> Result<(), Error> {
        let mut waiting = vec![(root, format!("{point}:"))];
        while let Some((id, path)) = waiting.pop() {
            self.control.check()?;
            if !seen.insert(id) {
                continue;
            }
            self.report(|report| report.trees += 1);
            let tree = match reader.read_tree(id) {
                Ok(tree) => tree,
                Err(error) => {
                    let shown = if path.ends_with(':') { format!("{path}/") } else { path };
                    self.found(shown, with_causes(&error));
                    continue;
                }
            };
            for node in tree.nodes {
                let path = format!("{path}/{}", node.name);
                if node.kind == NodeKind::File {
                    self.content(reader, &path, node.size, node.content.as_deref());
                }
                waiting.extend(node.subtree.map(|subtree| (subtree, path)));
            }
        }
        Ok(())
    }

    fn content(&self, reader: &BlobReader, path: &str, size: u64, content: Option<&[BlobId]>) {
        let Some(content) = content else {
            return self.found(path, "the file has no list of its content");
        };
        let mut bytes = 0;
        for id in content {
            match reader.catalog().plain_length(BlobKind::Data, *id) {
                Some(length) => bytes += u64::from(length),
                None => return self.found(path, format!("data blob {id} is in no index")),
            }
        }
        if bytes != size {
            self.found(path, format!("its content has {bytes} bytes, its folder says {size}"));
        }
    }
}

/// The list that a pack with these blobs has at its end.
fn header_of(blobs: &[IndexedBlob]) -> PackHeader {
    let mut entries: Vec<_> = blobs
        .iter()
        .map(|blob| crate::vault::format::PackEntry {
            kind: blob.kind,
            id: blob.id,
            offset: blob.offset,
            length: blob.length,
            uncompressed_length: blob.uncompressed_length,
        })
        .collect();
    entries.sort_by_key(|entry| entry.offset);
    PackHeader { entries }
}
