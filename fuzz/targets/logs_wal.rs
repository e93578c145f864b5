//! The write-ahead log: whatever its segments hold, it opens or is refused, gives dense log
//! sequences, and opens again to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_core::testkit::disk::SimDisk;
use oms_logs::fuzz::{open_wal, wal_frame};

/// Two segments: frames whose checksums are right, whatever their payloads are, or any bytes.
fn segments(data: &[u8], is_raw: bool) -> SimDisk {
    let disk = SimDisk::default();
    let (mut bytes, mut number) = (Vec::new(), 1);
    for (kind, piece) in fuzz::pieces(data).take(8) {
        if kind & 4 != 0 && !bytes.is_empty() {
            fuzz::put(&disk, &format!("wal/{number:012}.wal"), &bytes);
            (bytes, number) = (Vec::new(), number + 1);
        }
        if is_raw {
            bytes.extend(piece);
        } else {
            bytes.extend(wal_frame(kind & 1 == 0, u32::from(kind & 2), piece));
        }
    }
    fuzz::put(&disk, &format!("wal/{number:012}.wal"), &bytes);
    disk
}

fuzz_target!(|data: &[u8]| {
    let (kind, rest) = fuzz::choose(data);
    let disk = match kind % 3 {
        0 => segments(rest, true),
        1 => segments(rest, false),
        _ => {
            let disk = SimDisk::default();
            let name = String::from_utf8_lossy(rest).replace('/', "_");
            let header = [&2_u32.to_le_bytes()[..], &[0; 4], &1_u64.to_le_bytes(), &[0; 12]];
            let name = format!("wal/{name}");
            if std::path::Path::new(&name).file_name().is_some() && !name.contains('\0') {
                fuzz::put(&disk, &name, &wal_frame(true, 0, &header.concat()));
            }
            disk
        }
    };
    let Ok(first) = open_wal(&disk) else { return };
    assert!(first.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert_eq!(open_wal(&disk).expect("it opens again"), first);
});
