//! Manifests of command resources: what is read does not depend on how it is written, and of two one is the
//! newer, whichever is asked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_dsc::resource::fuzz::CommandManifest;

const MARK: &[u8] = b"\xef\xbb\xbf";

fn manifest(bytes: &[u8]) -> Option<CommandManifest> {
    let read = match CommandManifest::parse(bytes) {
        Ok(read) => read,
        Err(error) => {
            assert!(error.contains(" at line "), "{error}");
            return None;
        }
    };
    if !bytes.starts_with(MARK) {
        assert_eq!(CommandManifest::parse(&[MARK, bytes].concat()).as_ref(), Ok(&read));
    }
    // What nobody reads may be no value: a number that is too large.
    let text = bytes.strip_prefix(MARK).unwrap_or(bytes);
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(text) {
        assert_eq!(CommandManifest::parse(value.to_string().as_bytes()).as_ref(), Ok(&read));
    }
    Some(read)
}

fuzz_target!(|data: &[u8]| {
    // The whole, and its lines as one manifest each.
    manifest(data);
    let lines = data.split(|byte| *byte == b'\n').take(3);
    let all: Vec<CommandManifest> = lines.filter_map(manifest).collect();
    for one in &all {
        for other in &all {
            assert_eq!(one.age(other), other.age(one).reverse());
            for third in &all {
                let goes_on = one.age(other).is_le() && other.age(third).is_le();
                assert!(!goes_on || one.age(third).is_le());
            }
        }
    }
});
