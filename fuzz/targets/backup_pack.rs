//! Packs and seals: what was not sealed with the key is refused, and a list that was is read or
//! refused by its own rules.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_backup::vault::crypto::MasterKey;
use oms_backup::vault::format::{BLOB_BYTES_MAX, PackHeader};
use oms_core::entropy::SeededEntropy;
use std::sync::OnceLock;

fn check(header: &PackHeader) {
    assert_eq!(&PackHeader::parse(&header.to_bytes()).expect("it reads back"), header);
    let mut offset = 0;
    for entry in &header.entries {
        assert_eq!(entry.offset, offset, "blobs lie one behind the other");
        offset += entry.length;
        let limit = BLOB_BYTES_MAX + BLOB_BYTES_MAX / 16;
        assert!(entry.length <= limit && entry.uncompressed_length.unwrap_or(0) <= limit);
    }
}

fuzz_target!(|data: &[u8]| {
    static KEY: OnceLock<MasterKey> = OnceLock::new();
    let key = KEY.get_or_init(|| MasterKey::draw(&SeededEntropy::new(1)));
    let (kind, rest) = fuzz::choose(data);
    match kind % 3 {
        0 => {
            assert!(key.open(rest).is_err(), "nobody guesses a seal");
            assert!(PackHeader::read(rest, key).is_err());
        }
        1 => {
            if let Ok(header) = PackHeader::parse(rest) {
                check(&header);
            }
        }
        _ => {
            // Blobs of any bytes before a list of any bytes that is sealed and measured right.
            let (blobs, list) = rest.split_at(rest.len() / 2);
            let sealed = key.seal(list, &SeededEntropy::new(2));
            let length = (sealed.len() as u32).to_le_bytes();
            let pack = [blobs, &sealed, &length].concat();
            if let Ok(header) = PackHeader::read(&pack, key) {
                check(&header);
                assert_eq!(header.blob_bytes(), blobs.len() as u64);
            }
        }
    }
});
