//! What the targets share.

use oms_core::Disk;
use oms_core::disk::OpenMode;
use oms_core::testkit::disk::SimDisk;
use std::future::Future;
use std::path::Path;

/// Runs a future on this thread, with a pool for what blocks.
///
/// # Panics
/// If there is no thread to be had.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// A disk in memory that holds one file.
///
/// # Panics
/// If the path is none.
#[must_use]
pub fn disk_with(path: &str, bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::default();
    put(&disk, path, bytes);
    disk
}

/// Adds a file to a disk.
///
/// # Panics
/// If the path is none.
pub fn put(disk: &SimDisk, path: &str, bytes: &[u8]) {
    let path = Path::new(path);
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        disk.create_dir_all(folder).expect("a folder");
    }
    let file = disk.open(path, OpenMode::OpenOrCreate).expect("a file");
    file.set_len(0).expect("an empty file");
    file.write_at(0, bytes).expect("written");
    file.sync().expect("synced");
}

/// Takes the first byte off, which chooses what the rest is.
#[must_use]
pub fn choose(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (*first, rest))
}

/// Cuts data into pieces, each behind its kind (one byte) and its length (two, little-endian).
pub fn pieces(mut data: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let ([kind, low, high], rest) = data.split_first_chunk::<3>()?;
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (piece, rest) = rest.split_at(length);
        data = rest;
        Some((*kind, piece))
    })
}
