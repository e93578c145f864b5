//! The segment log and the mark file: whatever their files hold, they open or are refused, what was
//! opened reads, takes more and opens again with it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_core::entropy::SeededEntropy;
use oms_core::testkit::disk::SimDisk;
use oms_core::{Disk, disk::OpenMode};
use oms_recovery::replication::Stamp;
use oms_recovery::replication::mark::{Mark, MarkFile, Role};
use oms_recovery::replication::segment::SegmentLog;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

const SEGMENT_BYTES: u64 = 256;

fn open(disk: &SimDisk) -> Result<SegmentLog, oms_recovery::Error> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    SegmentLog::open(disk, PathBuf::from("log"), SEGMENT_BYTES, &SeededEntropy::new(3))
}

fn stamp(sequence: u64) -> Stamp {
    Stamp { epoch: 1, sequence }
}

/// The files of a good log.
fn files() -> &'static [Vec<u8>] {
    static FILES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    FILES.get_or_init(|| {
        let disk = SimDisk::default();
        let mut log = open(&disk).expect("a new log");
        for sequence in 1..8 {
            log.append(stamp(sequence), stamp(sequence), &[7; 60]).expect("appended");
            log.sync().expect("synced");
        }
        disk.contents().into_values().collect()
    })
}

/// Bytes with some of them changed: each four bytes say where (two), what (one) and how (one).
fn edited(bytes: &[u8], edits: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for edit in edits.chunks_exact(4).take(8) {
        if bytes.is_empty() {
            break;
        }
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % bytes.len();
        match edit[3] % 3 {
            0 => bytes[at] = edit[2],
            1 => bytes.truncate(at),
            _ => bytes.insert(at, edit[2]),
        }
    }
    bytes
}

fn log(data: &[u8], is_raw: bool) {
    let disk = SimDisk::default();
    let mut pieces = fuzz::pieces(data);
    for (number, file) in files().iter().enumerate() {
        let bytes = match pieces.next() {
            Some((_, piece)) if is_raw => piece.to_vec(),
            Some((_, edits)) => edited(file, edits),
            None => file.clone(),
        };
        fuzz::put(&disk, &format!("log/{:016x}.log", number + 1), &bytes);
    }
    let Ok(mut log) = open(&disk) else { return };
    for batch in log.batches() {
        let payload = log.read(batch).expect("what was taken is good");
        assert!(is_raw || payload == [7; 60]);
    }
    let count = log.batches().count();
    log.append(stamp(9), stamp(9), b"more").expect("appended");
    log.sync().expect("synced");
    drop(log);
    assert_eq!(open(&disk).expect("it opens again").batches().count(), count + 1);
}

fn mark(data: &[u8]) {
    let disk = fuzz::disk_with("mark", data);
    let path = Path::new("mark");
    let Ok(mut file) = MarkFile::open(&disk, path) else { return };
    let item = file.mark().map_or(uuid::Uuid::nil(), |mark| mark.item);
    let mark = Mark { item, role: Role::Fenced, epoch: 9, stamp: stamp(1), floor: stamp(1) };
    file.set(mark).expect("set");
    assert_eq!(MarkFile::open(&disk, path).expect("it opens again").mark(), Some(mark));
}

/// A mark whose checksum is right, whatever else it says.
fn checked_mark(data: &[u8]) {
    let mut bytes = vec![0; 1024];
    for (slot, data) in bytes.chunks_exact_mut(512).zip(data.chunks(72)) {
        slot[..8].copy_from_slice(b"OMSRMRK1");
        slot[8..8 + data.len()].copy_from_slice(data);
        let crc = crc32c::crc32c(&slot[..80]);
        slot[80..84].copy_from_slice(&crc.to_le_bytes());
    }
    mark(&bytes);
}

fn names(data: &[u8]) {
    let Ok(name) = std::str::from_utf8(data) else { return };
    let disk = SimDisk::default();
    disk.create_dir_all(Path::new("log")).expect("a folder");
    let path = Path::new("log").join(name);
    if let Ok(file) = disk.open(&path, OpenMode::OpenOrCreate) {
        file.write_at(0, &files()[0]).expect("written");
        let Ok(mut log) = open(&disk) else { return };
        for sequence in 10..20 {
            let _ = log.append(stamp(sequence), stamp(sequence), &[1; 90]);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let (kind, rest) = fuzz::choose(data);
    match kind % 5 {
        0 => log(rest, true),
        1 => log(rest, false),
        2 => mark(rest),
        3 => checked_mark(rest),
        _ => names(rest),
    }
});
