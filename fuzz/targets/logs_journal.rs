//! The journal's export format: every byte is accounted for, and entries are the same however their
//! bytes arrive.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_logs::source::journald::{Entry, parse};

fn is_well_formed(entry: &Entry) -> bool {
    entry.value("MALFORMED").is_none()
}

fuzz_target!(|data: &[u8]| {
    let (cut, rest) = fuzz::choose(data);
    let whole = parse(rest, usize::MAX, true);
    assert_eq!(whole.used, rest.len());
    let cut = rest.len() * usize::from(cut) / 255;
    let first = parse(&rest[..cut], usize::MAX, false);
    assert!(first.used <= cut);
    let second = parse(&rest[first.used..], usize::MAX, true);
    assert_eq!(first.used + second.used, rest.len());
    if whole.entries.iter().all(is_well_formed) {
        let pieces: Vec<_> = first.entries.into_iter().chain(second.entries).collect();
        assert_eq!(pieces, whole.entries, "cut at {cut}");
    }
    for entry in &whole.entries {
        for (name, _) in &entry.fields {
            assert!(entry.text(name).is_some());
        }
    }
    assert!(parse(rest, 1, true).entries.len() <= 1);
});
