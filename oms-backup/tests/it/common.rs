//! Vaults, trees of files and their comparison.

use oms_backup::operation::{
    BackupOptions, BackupReport, Control, RestoreOptions, RestoreReport, VerifyOptions,
    VerifyReport,
};
use oms_backup::vault::format::KdfParameters;
use oms_backup::vault::{Open, Vault, WriteSettings};
use oms_core::entropy::SeededEntropy;
use oms_core::{Disk, Entropy, LocalDisk, Secret};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Cheap, for tests only.
pub(crate) const KDF: KdfParameters = KdfParameters { log_n: 4, r: 1, p: 1 };

pub(crate) fn passphrase() -> Secret {
    Secret::from("correct horse battery staple")
}

pub(crate) fn random(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    SeededEntropy::new(seed).fill(&mut bytes);
    bytes
}

/// Text that compresses, different for each seed.
pub(crate) fn text(seed: u64, length: usize) -> Vec<u8> {
    let words = random(seed, length / 4 + 8);
    let text = words.iter().map(|word| format!("{:03} ", word % 100));
    text.flat_map(String::into_bytes).take(length).collect()
}

pub(crate) fn local(folder: &Path) -> Arc<dyn Disk> {
    Arc::new(LocalDisk::new(folder).expect("a disk"))
}

pub(crate) fn create(disk: Arc<dyn Disk>) -> Vault<Open> {
    Vault::new(disk).kdf(KDF).create(&passphrase()).expect("a vault")
}

pub(crate) fn open(disk: Arc<dyn Disk>) -> Vault<Open> {
    Vault::new(disk).open(&passphrase()).expect("the vault opens")
}

pub(crate) fn options(path: &Path) -> BackupOptions {
    let write = WriteSettings { workers: 2, pack_bytes: 4 << 20, ..WriteSettings::default() };
    BackupOptions { paths: vec![path.to_owned()], write, ..BackupOptions::default() }
}

pub(crate) fn backup(vault: &Vault<Open>, path: &Path) -> BackupReport {
    let plan = vault.plan_backup(&options(path)).expect("a plan");
    plan.run(&Control::default()).expect("a recovery point")
}

/// Restores what was backed up from `source` into `target` itself.
pub(crate) fn restore(
    vault: &Vault<Open>,
    point: &str,
    source: &Path,
    target: &Path,
) -> RestoreReport {
    let options = RestoreOptions {
        point: point.to_owned(),
        path: Some(source.to_owned()),
        ..RestoreOptions::latest(target)
    };
    let plan = vault.plan_restore(&options).expect("a plan");
    plan.run(&Control::default()).expect("it is restored")
}

pub(crate) fn verify(vault: &Vault<Open>, read_data: bool) -> VerifyReport {
    let options = VerifyOptions { read_data, ..VerifyOptions::default() };
    let plan = vault.plan_verify(&options).expect("a plan");
    plan.run(&Control::default()).expect("it is verified")
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Somebody who is no superuser, by number.
pub(crate) const USER: u32 = 12_345;

/// Does something as an ordinary user, in a thread of its own: those that it starts have its rights.
/// Whoever is not the superuser is one already.
pub(crate) fn as_user<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    use rustix::process::{Gid, Uid};
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if is_root() {
                let (user, group) = (Uid::from_raw(USER), Gid::from_raw(USER));
                set_thread_groups(&[]).expect("no groups");
                set_thread_res_gid(group, group, group).expect("a group");
                set_thread_res_uid(user, user, user).expect("a user");
            }
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(mode)).expect("a mode");
}

/// One file as a restore should bring it back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    content: Vec<u8>,
    attributes: BTreeMap<String, Vec<u8>>,
    device: u64,
    /// The first path of the same inode.
    same_as: Option<PathBuf>,
}

/// Everything below `root` but change times and inode numbers; the root itself under an empty path.
pub(crate) fn describe(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut entries = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    let mut paths = Vec::new();
    while let Some(path) = waiting.pop() {
        if std::fs::symlink_metadata(&path).expect("metadata").is_dir() {
            let list = std::fs::read_dir(&path).expect("a folder");
            waiting.extend(list.map(|entry| entry.expect("an entry").path()));
        }
        paths.push(path);
    }
    paths.sort();
    let mut inodes = BTreeMap::new();
    for path in paths {
        let relative = path.strip_prefix(root).expect("inside").to_owned();
        let meta = std::fs::symlink_metadata(&path).expect("metadata");
        let file_type = meta.file_type();
        let (kind, content) = if file_type.is_file() {
            ("file", std::fs::read(&path).expect("content"))
        } else if file_type.is_dir() {
            ("folder", Vec::new())
        } else if file_type.is_symlink() {
            ("link", std::fs::read_link(&path).expect("a link").as_os_str().as_bytes().to_vec())
        } else if file_type.is_fifo() {
            ("pipe", Vec::new())
        } else if file_type.is_socket() {
            ("socket", Vec::new())
        } else {
            ("device", Vec::new())
        };
        let is_file_with_names = file_type.is_file() && meta.nlink() > 1;
        let same_as = is_file_with_names
            .then(|| inodes.entry(meta.ino()).or_insert_with(|| relative.clone()).clone());
        let entry = Entry {
            kind,
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            content,
            attributes: attributes(&path),
            device: meta.rdev(),
            same_as,
        };
        entries.insert(relative, entry);
    }
    entries
}

/// Tells the first difference, instead of printing megabytes.
pub(crate) fn assert_same(before: &BTreeMap<PathBuf, Entry>, after: &BTreeMap<PathBuf, Entry>) {
    for (path, entry) in before {
        let Some(other) = after.get(path) else { panic!("{} is missing", path.display()) };
        assert!(entry.content == other.content, "content of {} differs", path.display());
        let (mut entry, mut other) = (entry.clone(), other.clone());
        entry.content.clear();
        other.content.clear();
        assert_eq!(entry, other, "{}", path.display());
    }
    for path in after.keys() {
        assert!(before.contains_key(path), "{} was not there", path.display());
    }
}

fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 4096];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).expect("a value");
            value.truncate(length);
            (String::from_utf8_lossy(name).into_owned(), value)
        })
        .collect()
}

/// Copies what files and folders there are, as a new folder.
pub(crate) fn copy(from: &Path, to: &Path) {
    for (path, entry) in describe(from) {
        match entry.kind {
            "folder" => std::fs::create_dir_all(to.join(path)).expect("a folder"),
            _ => write(&to.join(path), &entry.content),
        }
    }
}

/// Writes a file and the folders above it.
pub(crate) fn write(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
    std::fs::write(path, content).expect("a file");
}

/// A tree with everything that is easily lost.
pub(crate) fn make_nasty_tree(root: &Path, large_bytes: usize) {
    use rustix::fs::{CWD, FileType, Mode, XattrFlags};
    write(&root.join("empty"), b"");
    write(&root.join("one byte"), b"x");
    write(&root.join("random/large"), &random(1, large_bytes));
    write(&root.join("text/a"), &text(2, 3_000_000));
    write(&root.join("text/zeros"), &vec![0; 9_000_000]);
    let sparse = std::fs::File::create(root.join("sparse")).expect("a file");
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 40_000_000).expect("written");
    let deep: PathBuf = (0..300).map(|level| format!("d{level}")).collect();
    write(&root.join(&deep).join("bottom"), b"deep");
    write(&root.join("ünïcode/日本語/😀"), "é".as_bytes());
    write(&root.join("e\u{301} \u{ad} <&> \"quoted\" \\ back\nline"), b"name");
    write(&root.join(OsStr::from_bytes(b"not \xff\xfe utf-8/\x80")), b"bytes");
    write(&root.join("many/0"), b"0");
    for number in 1..500 {
        write(&root.join(format!("many/{number}")), number.to_string().as_bytes());
    }
    std::fs::create_dir(root.join("empty folder")).expect("a folder");
    let link = |target: &OsStr, name: &str| {
        std::os::unix::fs::symlink(target, root.join(name)).expect("a link");
    };
    link(OsStr::new("."), "loop to here");
    link(OsStr::new("loop b"), "loop a");
    link(OsStr::new("loop a"), "loop b");
    link(OsStr::new("/no/such/place"), "dangling");
    link(OsStr::from_bytes(b"to \xff"), "link not utf-8");
    std::fs::hard_link(root.join("text/a"), root.join("another name of a")).expect("a name");
    std::fs::hard_link(root.join("text/a"), root.join("many/third name")).expect("a name");
    let pipe = root.join("pipe");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
    rustix::fs::mknodat(CWD, root.join("socket"), FileType::Socket, Mode::RUSR, 0)
        .expect("a socket");
    // A file system without attributes keeps none to lose.
    let _ = rustix::fs::setxattr(root.join("text/a"), "user.note", b"\0\xff", XattrFlags::empty());
    let _ = rustix::fs::setxattr(root.join("many"), "user.folder", b"", XattrFlags::empty());
    chmod(&root.join("one byte"), 0o6751);
    chmod(&root.join("empty"), 0o400);
    chmod(&root.join("empty folder"), 0o1777);
    chmod(&root.join("many"), 0o555);
    if is_root() {
        let chown =
            |name: &str| std::os::unix::fs::lchown(root.join(name), Some(12345), Some(54321));
        chown("text/zeros").expect("given away");
        chown("dangling").expect("given away");
        // Changing the owner clears these.
        chmod(&root.join("one byte"), 0o6751);
        let device = rustix::fs::makedev(1, 3);
        let kind = FileType::CharacterDevice;
        let _ = rustix::fs::mknodat(CWD, root.join("null"), kind, Mode::RUSR, device);
    }
    let time = |path: PathBuf, seconds, nanoseconds| {
        let time = filetime::FileTime::from_unix_time(seconds, nanoseconds);
        filetime::set_symlink_file_times(path, time, time).expect("a time");
    };
    time(root.join("one byte"), -86_400, 123_456_789);
    time(root.join("text/a"), 1_700_000_000, 1);
    time(root.join("dangling"), 1_000_000_000, 999_999_999);
    time(root.join("text"), 4_102_444_800, 5);
    time(root.to_owned(), 1_600_000_000, 42);
}
