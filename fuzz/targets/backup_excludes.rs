//! Exclude patterns: any are understood or refused, and matching a path comes to an end soon.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_backup::item::source::{Excludes, exclude_file_patterns};
use std::path::Path;

fuzz_target!(|text: &str| {
    let (path, file) = text.split_once('\n').unwrap_or((text, ""));
    let patterns = exclude_file_patterns(file, |name| Some(name.to_owned()));
    if let Ok(excludes) = Excludes::parse(&patterns) {
        let _ = excludes.leave_out(Path::new(path));
    }
});
