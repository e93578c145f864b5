//! The chunker: whatever the file and the pieces it is fed in, the chunks are those of the whole
//! file, together they are the file, and each is within the bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_backup::vault::chunk::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, Chunker, GearTable};
use oms_backup::vault::format::Config;
use oms_core::Entropy;
use oms_core::entropy::SeededEntropy;
use std::sync::OnceLock;

/// The longest file, in bytes.
const FILE_BYTES_MAX: usize = 6 << 20;

/// A file of runs: each a kind, a length and a byte or a seed.
fn file(data: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    for run in data.chunks_exact(4).take(64) {
        let length = usize::from(u16::from_le_bytes([run[1], run[2]])) << (run[0] >> 4);
        let length = length.min(FILE_BYTES_MAX - file.len());
        let from = file.len();
        file.resize(from + length, run[3]);
        match run[0] % 4 {
            0 => {}
            1 => SeededEntropy::new(run[3].into()).fill(&mut file[from..]),
            2 => file[from..].iter_mut().enumerate().for_each(|(at, byte)| *byte = at as u8),
            _ => {
                for at in from..file.len() {
                    file[at] = file[at.saturating_sub(usize::from(run[3]) + 1)];
                }
            }
        }
    }
    file
}

fn lengths(table: &GearTable, file: &[u8], piece: usize) -> Vec<usize> {
    let mut chunker = Chunker::new(table);
    let (mut lengths, mut length) = (Vec::new(), 0);
    for mut piece in file.chunks(piece) {
        while let Some(end) = chunker.feed(piece) {
            assert!(end <= piece.len());
            lengths.push(length + end);
            (length, piece) = (0, &piece[end..]);
        }
        length += piece.len();
    }
    if length > 0 {
        lengths.push(length);
    }
    lengths
}

fuzz_target!(|data: &[u8]| {
    static TABLE: OnceLock<GearTable> = OnceLock::new();
    let table = TABLE.get_or_init(|| GearTable::derive(&Config::draw(&SeededEntropy::new(1))));
    let (piece, rest) = fuzz::choose(data);
    let file = file(rest);
    let whole = lengths(table, &file, FILE_BYTES_MAX);
    assert_eq!(whole.iter().sum::<usize>(), file.len());
    if let Some((last, before)) = whole.split_last() {
        assert!(*last <= CHUNK_BYTES_MAX);
        assert!(before.iter().all(|it| (CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(it)));
    }
    let piece = 1 + (usize::from(piece) << 10);
    if piece > 1 || file.len() < 1 << 20 {
        assert_eq!(lengths(table, &file, piece), whole, "pieces of {piece}");
    }
});
