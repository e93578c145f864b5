//! Folders copied and compared, with what belongs to their files.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// What a tree holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Count {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// Copies folders, regular files and symbolic links, up to a number of bytes of content; modes and
/// times go with them. Files of other kinds and those that cannot be read are left out.
pub(crate) fn copy(from: &Path, to: &Path, bytes_max: u64) -> Result<Count> {
    let mut count = Count::default();
    copy_folder(from, to, bytes_max, &mut count)?;
    Ok(count)
}

fn copy_folder(from: &Path, to: &Path, bytes_max: u64, count: &mut Count) -> Result<()> {
    let named = || format!("copying {}", from.display());
    fs::create_dir(to).with_context(named)?;
    let mut entries: Vec<PathBuf> = fs::read_dir(from)
        .with_context(named)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    entries.sort();
    for path in entries {
        let Some(name) = path.file_name() else { continue };
        let (target, meta) = (to.join(name), fs::symlink_metadata(&path).with_context(named)?);
        if meta.is_symlink() {
            symlink(fs::read_link(&path).with_context(named)?, &target).with_context(named)?;
        } else if meta.is_dir() {
            copy_folder(&path, &target, bytes_max, count)?;
        } else if meta.is_file() && count.bytes + meta.len() <= bytes_max {
            let Ok(bytes) = fs::read(&path) else { continue };
            fs::write(&target, &bytes).with_context(named)?;
            set_meta(&target, &meta).with_context(named)?;
            count.files += 1;
            count.bytes += bytes.len() as u64;
        }
    }
    let meta = fs::metadata(from).with_context(named)?;
    set_meta(to, &meta).with_context(named)
}

fn set_meta(path: &Path, meta: &Metadata) -> std::io::Result<()> {
    // Its owner must be able to work in the copy.
    let mode = meta.mode() & 0o777 | if meta.is_dir() { 0o700 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    fs::File::open(path)?.set_modified(meta.modified()?)
}

/// Everything that a restore has to bring back.
#[derive(Debug, Eq, PartialEq)]
struct Entry {
    kind: &'static str,
    mode: u32,
    /// Of files and folders, in nanoseconds.
    modified: Option<i128>,
    owner: (u32, u32),
    contents: Vec<u8>,
}

/// Whether two trees are the same, or the first thing in which they differ.
pub(crate) fn compare(a: &Path, b: &Path) -> Result<Count> {
    let (left, right) = (entries(a)?, entries(b)?);
    for (path, entry) in &left {
        match right.get(path) {
            None => bail!("missing in the copy. path=`{}`", path.display()),
            Some(other) if other != entry => {
                let what = difference(entry, other);
                bail!("differs in the copy. path=`{}`, what=`{what}`", path.display());
            }
            Some(_) => {}
        }
    }
    if let Some(path) = right.keys().find(|path| !left.contains_key(*path)) {
        bail!("only in the copy. path=`{}`", path.display());
    }
    let files = left.values().filter(|entry| entry.kind == "file");
    Ok(files.fold(Count::default(), |count, entry| Count {
        files: count.files + 1,
        bytes: count.bytes + entry.contents.len() as u64,
    }))
}

fn difference(a: &Entry, b: &Entry) -> &'static str {
    match () {
        () if a.kind != b.kind => "kind",
        () if a.contents != b.contents => "contents",
        () if a.mode != b.mode => "mode",
        () if a.owner != b.owner => "owner",
        () => "modification time",
    }
}

fn entries(root: &Path) -> Result<BTreeMap<PathBuf, Entry>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(relative) = waiting.pop() {
        let path = root.join(&relative);
        let named = || format!("looking at {}", path.display());
        let meta = fs::symlink_metadata(&path).with_context(named)?;
        let modified = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
        let (kind, modified, contents) = if meta.is_symlink() {
            let target = fs::read_link(&path).with_context(named)?;
            ("symbolic link", None, target.into_os_string().into_encoded_bytes())
        } else if meta.is_dir() {
            for entry in fs::read_dir(&path).with_context(named)? {
                waiting.push(relative.join(entry.with_context(named)?.file_name()));
            }
            ("folder", Some(modified), Vec::new())
        } else {
            ("file", Some(modified), fs::read(&path).with_context(named)?)
        };
        let (mode, owner) = (meta.mode(), (meta.uid(), meta.gid()));
        found.insert(relative, Entry { kind, mode, modified, owner, contents });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_equal_until_something_changes() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let (a, b) = (root.path().join("a"), root.path().join("b"));
        fs::create_dir_all(a.join("sub")).expect("folders");
        fs::write(a.join("sub/file"), "text").expect("file");
        symlink("sub/file", a.join("link")).expect("link");
        let count = copy(&a, &b, 1000).expect("copied");
        assert_eq!(count, Count { files: 1, bytes: 4 });
        // The folder's own entry changed while it was filled.
        let meta = fs::metadata(&a).expect("meta");
        set_meta(&b, &meta).expect("set");
        assert_eq!(compare(&a, &b).expect("equal"), count);
        fs::set_permissions(b.join("sub/file"), fs::Permissions::from_mode(0o600)).expect("mode");
        let error = compare(&a, &b).expect_err("another mode");
        assert!(error.to_string().contains("mode"), "{error}");
        fs::write(b.join("sub/file"), "texd").expect("file");
        assert!(compare(&a, &b).expect_err("other bytes").to_string().contains("contents"));
    }
}
