//! Exclude patterns: any are understood or refused, and matching a path comes to an end soon.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_backup::item::source::{Excludes, exclude_file_patterns};
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (path, file) =
        (String::from_utf8_lossy(&bytes[..end]), bytes.get(end + 1..).unwrap_or(b""));
    let Ok(patterns) = exclude_file_patterns(file, |name| Some(name.to_owned())) else { return };
    if let Ok(excludes) = Excludes::parse(&patterns) {
        let _ = excludes.leave_out(Path::new(&*path));
    }
});
