//! The extent map against a map of single bytes: the highest rank wins, and of equal ranks the later
//! insertion.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_recovery::machine::extent_map::{ExtentMap, Source};
use oms_recovery::replication::Stamp;

const DISK: usize = 256;

fuzz_target!(|data: &[u8]| {
    let mut map = ExtentMap::default();
    let mut model = vec![None; DISK];
    for (number, insert) in data.chunks_exact(3).take(200).enumerate() {
        let start = usize::from(insert[0]);
        let length = usize::from(insert[1]).min(DISK - start);
        let rank = Stamp { epoch: 1, sequence: u64::from(insert[2] % 16) };
        let is_zeros = insert[2] & 0x80 != 0;
        let source = match is_zeros {
            true => Source::Zeros,
            false => Source::Segment { number: number as u64, at: 1000 },
        };
        map.insert(start as u64, length as u64, rank, source);
        for (skip, byte) in model[start..start + length].iter_mut().enumerate() {
            if byte.is_none_or(|(old, _)| old <= rank) {
                let at = (!is_zeros).then_some((number as u64, 1000 + skip as u64));
                *byte = Some((rank, at));
            }
        }
    }
    let mut seen = vec![None; DISK];
    let mut end = 0;
    for (start, extent) in map.overlapping(0, DISK as u64) {
        assert!(extent.length > 0 && start >= end, "extents are apart and in order");
        end = start + extent.length;
        for skip in 0..extent.length {
            let at = match extent.source {
                Source::Segment { number, at } => Some((number, at + skip)),
                _ => None,
            };
            seen[(start + skip) as usize] = Some((extent.rank, at));
        }
    }
    assert_eq!(seen, model);
    assert_eq!(map.iter().count(), map.len());
});
