//! The documents of a restic repository: what is read is written again as what reads back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_backup::vault::format::{
    Config, FormatError, IndexFile, KDF_MEMORY_BYTES_MAX, KeyFile, NodeName, Snapshot, Tree,
};
use std::fmt::Debug;

fn check<T: PartialEq + Debug>(
    bytes: &[u8],
    read: impl Fn(&[u8]) -> Result<T, FormatError>,
    write: impl Fn(&T) -> Result<Vec<u8>, FormatError>,
) -> Option<T> {
    let value = read(bytes).ok()?;
    let written = write(&value).expect("what was read can be written");
    assert_eq!(read(&written).expect("it reads back"), value);
    Some(value)
}

fuzz_target!(|data: &[u8]| {
    let (kind, rest) = fuzz::choose(data);
    match kind % 6 {
        0 => {
            check(rest, Config::parse, Config::to_bytes);
        }
        1 => {
            check(rest, IndexFile::parse, IndexFile::to_bytes);
        }
        2 => {
            if let Some(tree) = check(rest, Tree::parse, Tree::to_bytes) {
                for node in &tree.nodes {
                    assert_eq!(tree.find(node.name.as_bytes()), Some(node));
                }
            }
        }
        3 => {
            check(rest, Snapshot::parse, Snapshot::to_bytes);
        }
        4 => {
            let Ok(file) = KeyFile::parse(rest) else { return };
            let written = file.to_bytes().expect("what was read can be written");
            let again = KeyFile::parse(&written).expect("it reads back");
            assert_eq!((again.n, again.r, again.p), (file.n, file.r, file.p));
            if let Ok(cost) = file.parameters() {
                // scrypt takes N blocks at once, and one for each pass beside them.
                let block = 128 * u64::from(cost.r);
                let bytes = block * ((1 << cost.log_n) + u64::from(cost.p));
                assert!(bytes <= 2 * KDF_MEMORY_BYTES_MAX, "{cost:?}: {bytes}");
            }
        }
        _ => {
            if let Ok(name) = NodeName::new(rest) {
                let json = serde_json::to_string(&name).expect("a name has a JSON form");
                let again: NodeName = serde_json::from_str(&json).expect("it reads back");
                assert_eq!(again, name);
            }
        }
    }
});
