//! Module packages: what is taken, and what is refused by the entry's name.

use flate2::Compression;
use flate2::write::DeflateEncoder;
use oms_dsc::module::{INFLATED_BYTES_MAX, Package};
use proptest::prelude::*;
use std::io::Write as _;

/// One entry, of which any field may be a lie.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    name: Vec<u8>,
    local_name: Vec<u8>,
    content: Vec<u8>,
    len: u32,
    crc: u32,
    method: u16,
    flags: u16,
    /// The system whose tool made it: 3 is Unix, 0 DOS.
    system: u8,
    mode: u32,
    extra: Vec<u8>,
}

impl Entry {
    fn stored(name: &str, content: &[u8]) -> Self {
        let mut crc = flate2::Crc::new();
        crc.update(content);
        Self {
            name: name.into(),
            local_name: name.into(),
            content: content.to_vec(),
            len: u32::try_from(content.len()).expect("small"),
            crc: crc.sum(),
            method: 0,
            flags: 0,
            system: 3,
            mode: 0o100_644,
            extra: Vec::new(),
        }
    }

    fn deflated(name: &str, content: &[u8]) -> Self {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content).expect("memory");
        let packed = encoder.finish().expect("memory");
        Self { content: packed, method: 8, ..Self::stored(name, content) }
    }
}

/// Writes archives, right ones and others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Zip(Vec<Entry>);

impl Zip {
    pub(crate) fn of(files: &[(&str, &[u8])]) -> Self {
        Self(files.iter().map(|(name, content)| Entry::deflated(name, content)).collect())
    }

    fn one(entry: Entry) -> Self {
        Self(vec![entry])
    }

    pub(crate) fn finish(&self) -> Vec<u8> {
        let (mut bytes, mut directory) = (Vec::new(), Vec::new());
        for entry in &self.0 {
            let offset = u32::try_from(bytes.len()).expect("small");
            let mut common = Vec::new();
            for number in [20, entry.flags, entry.method, 0, 0] {
                common.extend(number.to_le_bytes());
            }
            let stored = u32::try_from(entry.content.len()).expect("small");
            for number in [entry.crc, stored, entry.len] {
                common.extend(number.to_le_bytes());
            }
            let len = |name: &[u8]| u16::try_from(name.len()).expect("short").to_le_bytes();
            bytes.extend(b"PK\x03\x04");
            bytes.extend(&common);
            bytes.extend(len(&entry.local_name));
            bytes.extend(len(&entry.extra));
            bytes.extend(&entry.local_name);
            bytes.extend(&entry.extra);
            bytes.extend(&entry.content);
            directory.extend(b"PK\x01\x02\x14");
            directory.push(entry.system);
            directory.extend(&common);
            directory.extend(len(&entry.name));
            directory.extend(len(&entry.extra));
            directory.extend([0; 6]); // no comment, the first volume, a binary
            directory.extend((entry.mode << 16).to_le_bytes());
            directory.extend(offset.to_le_bytes());
            directory.extend(&entry.name);
            directory.extend(&entry.extra);
        }
        let start = u32::try_from(bytes.len()).expect("small");
        let count = u16::try_from(self.0.len()).expect("few").to_le_bytes();
        bytes.extend(&directory);
        bytes.extend(b"PK\x05\x06\0\0\0\0");
        bytes.extend(count);
        bytes.extend(count);
        bytes.extend(u32::try_from(directory.len()).expect("small").to_le_bytes());
        bytes.extend(start.to_le_bytes());
        bytes.extend([0, 0]);
        bytes
    }
}

/// Why an archive is refused.
fn check(bytes: &[u8], expect: &str) {
    let error = Package::read(bytes).expect_err(expect);
    let shown = error.to_string();
    let reason = shown.strip_prefix("module package is not valid. reason=").unwrap_or(&shown);
    assert_eq!(reason, expect);
}

#[test]
fn right_packages_are_read() {
    let mut folder = Entry::stored("nx\\DSCResources\\", b"");
    folder.mode = 0;
    let zip = Zip(vec![
        folder,
        Entry::deflated("nx/DSCResources/a.py", &b"text ".repeat(100_000)),
        Entry::stored("nx\\b", b"b"),
        Entry::stored("nx/empty", b""),
    ]);
    let bytes = zip.finish();
    let package = Package::read(&bytes).expect("right");
    let paths: Vec<_> = package.entries().iter().map(|e| (e.path.as_str(), e.is_folder)).collect();
    assert_eq!(
        paths,
        [
            ("nx/DSCResources", true),
            ("nx/DSCResources/a.py", false),
            ("nx/b", false),
            ("nx/empty", false)
        ]
    );
    assert_eq!(package.content(&package.entries()[1]).expect("it"), b"text ".repeat(100_000));
    assert_eq!(package.entries()[1].len, 500_000);
    // A comment behind the end is no part of it.
    let mut with_comment = bytes.clone();
    let len = with_comment.len();
    with_comment[len - 2] = 7;
    with_comment.extend(b"comment");
    assert!(Package::read(&with_comment).is_ok());
}

#[test]
fn paths_that_leave_the_folder_are_refused() {
    for (name, reason) in [
        ("../x", "has a part that is empty, or ends with a dot or a space"),
        ("a/../../x", "has a part that is empty, or ends with a dot or a space"),
        ("a\\..\\..\\x", "has a part that is empty, or ends with a dot or a space"),
        ("./x", "has a part that is empty, or ends with a dot or a space"),
        ("a//x", "has a part that is empty, or ends with a dot or a space"),
        ("a./x", "has a part that is empty, or ends with a dot or a space"),
        ("", "has a part that is empty, or ends with a dot or a space"),
        ("/etc/passwd", "is absolute, or names a stream"),
        ("\\\\host\\x", "is absolute, or names a stream"),
        ("C:\\x", "is absolute, or names a stream"),
        ("a:stream", "is absolute, or names a stream"),
        ("a\0b", "has a control character"),
    ] {
        let bytes = Zip::one(Entry::stored(name, b"x")).finish();
        check(&bytes, &format!("``{}`: its path {reason}`", name.escape_debug()));
    }
    let mut entry = Entry::stored("x", b"");
    entry.name = vec![0xff];
    entry.local_name = vec![0xff];
    check(&Zip::one(entry).finish(), "``\u{fffd}`: its path is not UTF-8`");
}

#[test]
fn entries_that_hide_others_are_refused() {
    check(&Zip::of(&[("a/b", b"1"), ("A/B", b"2")]).finish(), "``A/B`: it is there twice`");
    check(&Zip::of(&[("a/b/c", b"1"), ("A/b", b"2")]).finish(), "``a/b/c`: `a/b` is a file`");
}

#[test]
fn links_and_what_cannot_be_read_are_refused_by_name() {
    let mut link = Entry::stored("link", b"/etc/passwd");
    link.mode = 0o120_777;
    check(&Zip::one(link).finish(), "link or device in a module is not supported. name=`link`");
    let mut encrypted = Entry::stored("a", b"x");
    encrypted.flags = 1;
    check(&Zip::one(encrypted).finish(), "encrypted entry of a module is not supported. name=`a`");
    let mut method = Entry::stored("a", b"x");
    method.method = 14;
    check(
        &Zip::one(method).finish(),
        "compressed entry of a module is not supported. name=`a, by method 14`",
    );
    let mut large = Entry::stored("a", b"x");
    large.len = u32::MAX;
    check(&Zip::one(large).finish(), "archive is not supported. name=`Zip64`");
}

#[test]
fn bombs_are_refused() {
    // What says that it is small and is not.
    let mut bomb = Entry::deflated("bomb", &vec![0; 50 << 20]);
    bomb.len = 10;
    check(&Zip::one(bomb).finish(), "``bomb`: it does not unpack to what is said of it`");
    // Many that are large, and say so.
    let content = vec![0; 40 << 20];
    let one = Entry::deflated("0", &content);
    let many = (0..14).map(|n| {
        let name = n.to_string().into_bytes();
        Entry { name: name.clone(), local_name: name, ..one.clone() }
    });
    let error = Package::read(&Zip(many.collect()).finish()).expect_err("too large").to_string();
    assert!(error.contains(&format!("limit=`{INFLATED_BYTES_MAX}`")), "{error}");
}

#[test]
fn archives_that_contradict_themselves_are_refused() {
    let entry = || Entry::deflated("a", b"content");
    let mut other_name = entry();
    other_name.local_name = b"b".to_vec();
    check(&Zip::one(other_name).finish(), "``a`: its header has another name than its directory`");
    let mut crc = entry();
    crc.crc ^= 1;
    check(&Zip::one(crc).finish(), "``a`: its content has another checksum`");
    let mut trailing = entry();
    trailing.content.push(0);
    check(&Zip::one(trailing).finish(), "``a`: it does not unpack to what is said of it`");
    let mut size = Entry::stored("a", b"content");
    size.len = 3;
    check(&Zip::one(size).finish(), "``a`: two sizes of it differ`");
    let folder = Entry::stored("a/", b"content");
    check(&Zip::one(folder).finish(), "``a`: it is a folder and has content`");
    check(b"text", "`it is not a zip archive`");
    check(b"PK\x03\x04 and no more than that is here", "`it is not a zip archive`");
    // Directory and header differ in the method.
    let mut bytes = Zip::one(Entry::stored("a", b"content")).finish();
    bytes[8] = 8;
    check(&bytes, "``a`: its header and its directory differ`");
}

proptest! {
    /// Whatever is changed of an archive: it is refused, or it still has the same content.
    #[test]
    fn a_changed_archive_is_refused_or_says_the_same(at in 0_usize..10_000, to in any::<u8>()) {
        let files: [(&str, &[u8]); 2] = [("a/b", b"one one one one"), ("c", b"two")];
        let mut bytes = Zip::of(&files).finish();
        let at = at % bytes.len();
        bytes[at] = to;
        if let Ok(package) = Package::read(&bytes) {
            for entry in package.entries() {
                let content = package.content(entry).expect("it was checked");
                prop_assert!(files.iter().any(|(_, known)| *known == content), "{entry:?}");
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Package::read(&bytes);
        let _ = Package::read(&[&bytes[..], b"PK\x05\x06", &bytes[..]].concat());
    }
}

/// The end of an archive without a comment.
const END_BYTES: usize = 22;

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"))
}

/// Programs that find the directory by its size see an entry that others do not.
#[test]
fn an_entry_before_the_directory_is_refused() {
    let mut bytes = Zip::of(&[("../evil", b"x"), ("nx/good", b"y")]).finish();
    let end = bytes.len() - END_BYTES;
    let first = u32::try_from(46 + "../evil".len()).expect("small");
    let start = number(&bytes, end + 16) + first;
    bytes[end + 8..end + 12].copy_from_slice(&[1, 0, 1, 0]);
    bytes[end + 16..end + 20].copy_from_slice(&start.to_le_bytes());
    let refused = Package::read(&bytes).expect_err("one is hidden").to_string();
    assert!(refused.contains("another size"), "{refused}");
    let whole = Zip::of(&[("nx/good", b"y")]).finish();
    assert_eq!(Package::read(&whole).expect("right").entries().len(), 1);
}

#[test]
fn links_by_any_system_and_second_paths_are_refused() {
    for system in [0, 3, 19] {
        let link = Entry { system, mode: 0o120_777, ..Entry::stored("nx/link", b"/etc/passwd") };
        let refused = Package::read(&Zip::one(link).finish()).expect_err("a link").to_string();
        assert!(refused.contains("nx/link"), "{refused}");
    }
    // One of a time before it.
    let mut extra = vec![0x55, 0x54, 5, 0, 1, 0, 0, 0, 0];
    let timed = Entry { extra: extra.clone(), ..Entry::stored("nx/file", b"x") };
    Package::read(&Zip::one(timed).finish()).expect("times are no paths");
    extra.extend([0x75, 0x70, 6, 0, 1, 0, 0, 0, 0, b'e']);
    let named = Entry { extra, ..Entry::stored("nx/file", b"x") };
    let refused = Package::read(&Zip::one(named).finish()).expect_err("two paths").to_string();
    assert!(refused.contains("`nx/file`: it has a second path"), "{refused}");
}

/// An entry whose bytes lie in those of another one could be there a thousand times.
#[test]
fn entries_that_share_their_bytes_are_refused() {
    let inner = Zip::one(Entry::stored("b", &[7; 4_000])).finish();
    let inner_end = inner.len() - END_BYTES;
    let directory = number(&inner, inner_end + 16) as usize;
    let outer = Zip::one(Entry::stored("a", &inner[..directory])).finish();
    let end = outer.len() - END_BYTES;
    let mut bytes = outer[..end].to_vec();
    let mut second = inner[directory..inner_end].to_vec();
    let within = u32::try_from(30 + "a".len()).expect("small");
    second[42..46].copy_from_slice(&within.to_le_bytes());
    bytes.extend(&second);
    let mut tail = outer[end..].to_vec();
    tail[8..12].copy_from_slice(&[2, 0, 2, 0]);
    let size = number(&outer, end + 12) + u32::try_from(second.len()).expect("small");
    tail[12..16].copy_from_slice(&size.to_le_bytes());
    bytes.extend(&tail);
    let refused = Package::read(&bytes).expect_err("they share").to_string();
    assert!(refused.contains("more bytes than it has"), "{refused}");
}
