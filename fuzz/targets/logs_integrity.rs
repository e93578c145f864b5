//! The end of a data file with its checksums: any bytes, and any behind a mark whose checksum is right,
//! are the end of a file that has some or not, and the blocks that they tell of lie before them. A file of a
//! Delta log that ends with any bytes is as it was written, until a bit of it flips.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (kind, rest) = fuzz::choose(data);
    let Some((more, rest)) = rest.split_first_chunk::<2>() else { return };
    let size = rest.len() as u64 + u64::from(u16::from_le_bytes(*more));
    if let Some(sums_at) = oms_logs::fuzz::integrity(rest, size, kind % 4 == 0) {
        assert!(sums_at < size);
    }
    assert!(oms_logs::fuzz::delta_log(rest, usize::from(u16::from_le_bytes(*more))));
});
