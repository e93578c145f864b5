//! Archives: what is unpacked stays within its folder, each path is there once, and no file is a folder.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_dsc::resource::fuzz::archive;
use std::collections::HashSet;

fuzz_target!(|data: &[u8]| {
    let Ok(entries) = archive(data) else { return };
    let mut seen = HashSet::new();
    for (path, is_folder, content) in &entries {
        let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        assert!(path.split('/').all(is_plain), "{path}");
        assert!(!path.chars().any(char::is_control), "{path:?}");
        assert!(!is_folder || content.is_empty(), "{path}");
        assert!(seen.insert(path), "{path} is there twice");
    }
    for (path, ..) in &entries {
        for (above, is_folder, _) in &entries {
            let is_above = path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'));
            assert!(!is_above || *is_folder, "{above} is a file");
        }
    }
});
