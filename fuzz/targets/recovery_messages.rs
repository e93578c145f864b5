//! Frames and messages of replication: what is read is written again as the same bytes or the same
//! message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_recovery::replication::transfer::{Message, decode, frames};

/// The bytes of a message of any kind and payload, with the header that belongs to them.
fn message(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes =
        [&b"OMSR"[..], &[1, kind, 0, 0], &(payload.len() as u32).to_le_bytes()].concat();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), payload);
    bytes.extend(crc.to_le_bytes());
    bytes.extend(payload);
    bytes
}

fn check(message: &Message<'_>) {
    let bytes = message.encode();
    assert_eq!(&decode(&bytes).expect("it reads back"), message);
}

fuzz_target!(|data: &[u8]| {
    let (kind, rest) = fuzz::choose(data);
    if let Ok(found) = decode(rest) {
        check(&found);
    }
    if let Ok(found) = decode(&message(kind, rest)) {
        check(&found);
    }
    let (mut written, mut is_whole) = (Vec::new(), true);
    for frame in frames(rest) {
        match frame {
            Ok((frame, _)) => {
                frame.encode(&mut written);
            }
            Err(_) => is_whole = false,
        }
    }
    assert!(rest.starts_with(&written) && is_whole == (rest.len() == written.len()));
});
