//! Tar archives: POSIX (ustar and pax), those of GNU, and the old ones that have neither.
//!
//! Files and folders are read, and nothing else: links, devices, sparse files and volumes are refused by
//! name. What a header says of users and times is not read; of the mode of a file its permissions count, as
//! Python's filter for data takes them (PEP 706).

use super::contents::Bytes;
use crate::Error;
use crate::module::{ENTRIES_MAX, INFLATED_BYTES_MAX};
use std::collections::{BTreeMap, HashSet};

/// The size of a header, and of what files are filled up to.
const BLOCK_BYTES: usize = 512;

/// The longest path of an entry, in bytes.
const PATH_BYTES_MAX: usize = 1_024;

/// The most bytes of what goes before an entry: a long path, or properties.
const EXTENSION_BYTES_MAX: u64 = 64 << 10;

/// The files and folders of an archive, every one checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Tar {
    pub(super) entries: Vec<TarEntry>,
}

/// A file or folder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct TarEntry {
    pub(super) path: String,
    pub(super) is_folder: bool,
    pub(super) len: u64,
    pub(super) mode: u32,
    /// Where its content begins.
    pub(super) start: u64,
}

pub(super) fn invalid(reason: impl Into<String>) -> Error {
    Error::Invalid { what: "tar archive", reason: reason.into() }
}

/// What goes before an entry and is about it.
#[derive(Debug, Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    len: Option<u64>,
    has_any: bool,
}

impl Tar {
    /// Whether bytes begin with a header.
    pub(super) fn is_one(bytes: &[u8]) -> bool {
        bytes.first_chunk().is_some_and(|block| Header(block).has_checksum())
    }

    /// Reads the headers of an archive.
    ///
    /// # Errors
    /// [`Error::Unsupported`], [`Error::TooLarge`] or [`Error::Invalid`], with the entry or where it is.
    pub(super) fn read(bytes: &Bytes<'_>) -> Result<Self, Error> {
        let mut entries = Vec::new();
        let (mut at, mut total, mut count) = (0_u64, 0_u64, 0);
        let mut before = Extensions::default();
        loop {
            let mut block = [0; BLOCK_BYTES];
            if bytes.read_at(at, &mut block)? < BLOCK_BYTES {
                return Err(invalid(format!("it is cut off at byte {at}")));
            }
            let header = Header(&block);
            if header.is_end() {
                if before.has_any {
                    return Err(invalid("it ends where an entry should follow"));
                }
                only_zeros(bytes, at)?;
                break;
            }
            if !header.has_checksum() {
                return Err(invalid(format!("the header at byte {at} has another checksum")));
            }
            let start = at + BLOCK_BYTES as u64;
            // A size among the properties is that of the entry, and of no other header before it.
            let len = before.len.filter(|_| !header.is_extension());
            let len = len.map_or_else(|| header.len(at), Ok)?;
            let filled = len.checked_next_multiple_of(BLOCK_BYTES as u64);
            let next = filled.and_then(|filled| start.checked_add(filled));
            at = next.ok_or_else(|| too_long(len))?;
            count += 1;
            if count > ENTRIES_MAX.saturating_mul(2) || entries.len() >= ENTRIES_MAX {
                let (actual, limit) = (ENTRIES_MAX + 1, ENTRIES_MAX);
                return Err(Error::TooLarge { what: "entries of an archive", actual, limit });
            }
            if before.read(&header, bytes, start, len)? {
                continue;
            }
            let entry = entry(&header, &std::mem::take(&mut before), start, len)?;
            total = total.saturating_add(entry.as_ref().map_or(0, |entry| entry.len));
            if total > INFLATED_BYTES_MAX {
                return Err(too_long(total));
            }
            entries.extend(entry);
        }
        Ok(Self { entries: checked(entries)? })
    }
}

fn too_long(actual: u64) -> Error {
    let size = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
    let (actual, limit) = (size(actual), size(INFLATED_BYTES_MAX));
    Error::TooLarge { what: "files of an archive", actual, limit }
}

/// Refuses what would be read by some programs and not by others.
fn only_zeros(bytes: &Bytes<'_>, mut at: u64) -> Result<(), Error> {
    let mut part = vec![0; 64 << 10];
    loop {
        let read = bytes.read_at(at, &mut part)?;
        if read == 0 {
            return Ok(());
        }
        if let Some(place) = part[..read].iter().position(|byte| *byte != 0) {
            let place = at + place as u64;
            return Err(invalid(format!("there is something behind its end, at byte {place}")));
        }
        at += read as u64;
    }
}

/// The entry of a header; none for the archive's own folder.
fn entry(
    header: &Header<'_>,
    before: &Extensions,
    start: u64,
    len: u64,
) -> Result<Option<TarEntry>, Error> {
    let name = before.path.clone().unwrap_or_else(|| header.path());
    let path = path_of(&name)?;
    let shown = || String::from_utf8_lossy(&name).into_owned();
    let is_folder = match header.kind() {
        b'0' | b'\0' | b'7' => name.ends_with(b"/"),
        b'5' => true,
        kind => {
            let what = match kind {
                b'1' | b'2' => "link in an archive",
                b'3' | b'4' => "device in an archive",
                b'6' => "pipe in an archive",
                b'S' => "sparse file in an archive",
                _ => "kind of entry in an archive",
            };
            let name = format!("{}, of kind `{}`", shown(), char::from(kind).escape_debug());
            return Err(Error::Unsupported { what, name });
        }
    };
    if is_folder && len > 0 {
        return Err(invalid(format!("`{}`: it is a folder and has content", shown())));
    }
    if path.is_empty() {
        return match is_folder {
            true => Ok(None),
            false => Err(invalid(format!("`{}`: a file without a name", shown().escape_debug()))),
        };
    }
    let mode = header.number(100..108).ok_or_else(|| invalid(format!("`{path}`: no mode")))?;
    let mode = u32::try_from(mode & 0o755).unwrap_or_default() | 0o600;
    let mode = if mode & 0o100 == 0 { mode & 0o644 } else { mode };
    Ok(Some(TarEntry { path, is_folder, len, mode, start }))
}

impl Extensions {
    /// Takes in what goes before an entry; whether it was such.
    fn read(
        &mut self,
        header: &Header<'_>,
        bytes: &Bytes<'_>,
        start: u64,
        len: u64,
    ) -> Result<bool, Error> {
        if !header.is_extension() {
            return Ok(false);
        }
        let kind = header.kind();
        if len > EXTENSION_BYTES_MAX {
            let size = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
            let (actual, limit) = (size(len), size(EXTENSION_BYTES_MAX));
            return Err(Error::TooLarge { what: "header of an archive", actual, limit });
        }
        let mut text = vec![0; usize::try_from(len).unwrap_or_default()];
        if bytes.read_at(start, &mut text)? < text.len() {
            return Err(invalid(format!("it is cut off in the header at byte {start}")));
        }
        // What is said of the whole archive is not about one entry.
        self.has_any |= kind != b'g';
        match kind {
            b'L' => {
                let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
                text.truncate(end);
                self.set_path(text, start)?;
            }
            // The target of a link, which is refused by its own header.
            b'K' => {}
            _ => self.properties(&text, kind == b'g', start)?,
        }
        Ok(true)
    }

    /// The properties of pax: `LENGTH KEY=VALUE`, each with its line's end.
    fn properties(&mut self, mut text: &[u8], is_of_all: bool, start: u64) -> Result<(), Error> {
        let wrong = || invalid(format!("the properties at byte {start} are not of their form"));
        while !text.is_empty() {
            let space = text.iter().position(|byte| *byte == b' ').ok_or_else(wrong)?;
            let len = std::str::from_utf8(&text[..space]).ok().and_then(|text| text.parse().ok());
            let len: usize = len.ok_or_else(wrong)?;
            let record = text.get(space + 1..len).ok_or_else(wrong)?;
            text = &text[len..];
            let record = record.strip_suffix(b"\n").ok_or_else(wrong)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(wrong)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            let is_wanted = key == b"path" || key == b"size" || key.starts_with(b"GNU.sparse.");
            if is_wanted && (is_of_all || key.starts_with(b"GNU.sparse.")) {
                let name = String::from_utf8_lossy(key).into_owned();
                return Err(Error::Unsupported { what: "property in an archive", name });
            }
            match key {
                b"path" => self.set_path(value.to_vec(), start)?,
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    self.len = Some(size.ok_or_else(wrong)?);
                }
                // Of owners and times nothing is read.
                _ => {}
            }
        }
        Ok(())
    }

    fn set_path(&mut self, path: Vec<u8>, start: u64) -> Result<(), Error> {
        match self.path.replace(path) {
            None => Ok(()),
            Some(_) => Err(invalid(format!("a second path of one entry, at byte {start}"))),
        }
    }
}

/// A block that describes what follows it.
struct Header<'a>(&'a [u8; BLOCK_BYTES]);

impl Header<'_> {
    fn is_end(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// Whether the bytes add up; those of the sum itself count as spaces.
    fn has_checksum(&self) -> bool {
        let sum = |value: fn(u8) -> i64| -> i64 {
            let byte = |(at, byte): (usize, &u8)| match at {
                148..156 => i64::from(b' '),
                _ => value(*byte),
            };
            self.0.iter().enumerate().map(byte).sum()
        };
        let said = self.number(148..156).and_then(|number| i64::try_from(number).ok());
        // Some old programs took bytes for signed.
        said == Some(sum(i64::from)) || said == Some(sum(|byte| i64::from(byte.cast_signed())))
    }

    fn kind(&self) -> u8 {
        self.0[156]
    }

    /// Whether it goes before an entry and is about it.
    fn is_extension(&self) -> bool {
        matches!(self.kind(), b'L' | b'K' | b'x' | b'g')
    }

    fn len(&self, at: u64) -> Result<u64, Error> {
        let len = self.number(124..136);
        len.ok_or_else(|| invalid(format!("the header at byte {at} has no size")))
    }

    /// A number of octal digits, or of GNU's form for large ones: its bytes behind a first bit.
    fn number(&self, field: std::ops::Range<usize>) -> Option<u64> {
        let field = self.0.get(field)?;
        let (first, rest) = field.split_first()?;
        if first & 0x80 != 0 {
            // A negative one has all bits of the first byte.
            let start = u64::from(first & 0x7f);
            let add = |sum: u64, byte: &u8| sum.checked_mul(256)?.checked_add(u64::from(*byte));
            return rest.iter().try_fold(start, add);
        }
        let is_filler = |byte: &u8| *byte == b' ' || *byte == 0;
        let digits = field.iter().copied().skip_while(|byte| *byte == b' ');
        let digits: Vec<u8> = digits.take_while(|byte| !is_filler(byte)).collect();
        let add = |sum: u64, digit: &u8| match digit {
            b'0'..=b'7' => sum.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
            _ => None,
        };
        digits.iter().try_fold(0, add)
    }

    fn text(&self, field: std::ops::Range<usize>) -> &[u8] {
        let field = self.0.get(field).unwrap_or_default();
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
        &field[..end]
    }

    /// The path; long ones of POSIX are in two parts. GNU has other things in the place of the first.
    fn path(&self) -> Vec<u8> {
        let is_posix = &self.0[257..263] == b"ustar\0";
        let prefix = if is_posix { self.text(345..500) } else { &[] };
        match prefix {
            [] => self.text(0..100).to_vec(),
            prefix => [prefix, b"/", self.text(0..100)].concat(),
        }
    }
}

/// The path of an entry, if it stays within the folder that an archive is unpacked to; empty for that
/// folder itself.
fn path_of(name: &[u8]) -> Result<String, Error> {
    let shown = String::from_utf8_lossy(name).chars().take(80).collect::<String>();
    let refuse = |reason: &str| Err(invalid(format!("`{}`: {reason}", shown.escape_debug())));
    let Ok(text) = std::str::from_utf8(name) else {
        return refuse("its path is not UTF-8");
    };
    if text.len() > PATH_BYTES_MAX {
        return refuse("its path is too long");
    }
    if text.starts_with('/') {
        return refuse("its path is absolute");
    }
    if text.chars().any(char::is_control) {
        return refuse("its path has a control character");
    }
    let parts: Vec<&str> =
        text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    match parts.contains(&"..") {
        true => refuse("its path leads out of its folder"),
        false => Ok(parts.join("/")),
    }
}

/// No file is there twice or is a folder of others. A folder may be named again, and counts once.
fn checked(entries: Vec<TarEntry>) -> Result<Vec<TarEntry>, Error> {
    let mut kinds: BTreeMap<String, bool> = BTreeMap::new();
    let mut kept = Vec::with_capacity(entries.len());
    for entry in entries {
        match kinds.get(&entry.path) {
            Some(true) if entry.is_folder => continue,
            Some(_) => return Err(invalid(format!("`{}`: it is there twice", entry.path))),
            None => {}
        }
        kinds.insert(entry.path.clone(), entry.is_folder);
        kept.push(entry);
    }
    let files: HashSet<&str> =
        kept.iter().filter(|entry| !entry.is_folder).map(|entry| entry.path.as_str()).collect();
    for entry in &kept {
        let mut above = entry.path.match_indices('/').map(|(at, _)| &entry.path[..at]);
        if let Some(file) = above.find(|above| files.contains(above)) {
            return Err(invalid(format!("`{}`: `{file}` is a file", entry.path)));
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A header with its checksum.
    fn header(name: &[u8], kind: u8, len: u64, mode: u32) -> Vec<u8> {
        let mut block = vec![0; BLOCK_BYTES];
        block[..name.len()].copy_from_slice(name);
        block[100..107].copy_from_slice(format!("{mode:07o}").as_bytes());
        block[124..135].copy_from_slice(format!("{len:011o}").as_bytes());
        block[156] = kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        summed(block)
    }

    fn summed(mut block: Vec<u8>) -> Vec<u8> {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block
    }

    fn entry(name: &[u8], kind: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = header(name, kind, content.len() as u64, 0o4777);
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        bytes
    }

    fn finished(parts: &[Vec<u8>]) -> Vec<u8> {
        [&*parts.concat(), &[0; 2 * BLOCK_BYTES]].concat()
    }

    fn read(bytes: &[u8]) -> Result<Tar, Error> {
        Tar::read(&Bytes::Memory(bytes))
    }

    fn refused(parts: &[Vec<u8>], why: &str) {
        let error = read(&finished(parts)).expect_err(why).to_string();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn every_form_of_a_path_is_read() {
        let long = "l".repeat(120);
        let record = format!("path=p/{long}\n");
        let record = format!("{} {record}", record.len() + 4);
        let mut split = header(b"name", b'0', 0, 0o644);
        split[345..350].copy_from_slice(b"a/dir");
        let archive = finished(&[
            entry(b"./", b'5', b""),
            entry(b"./a/", b'5', b""),
            entry(b"a", b'5', b""),
            entry(b"a/x:y\\z", b'0', b"one"),
            entry(b"././@LongLink", b'L', format!("{long}\0").as_bytes()),
            entry(b"short", b'0', b"two"),
            entry(b"PaxHeaders/x", b'x', record.as_bytes()),
            entry(b"short", b'\0', b"three"),
            entry(b"pax_global_header", b'g', b"13 comment=x\n"),
            summed(split),
            entry(b"old/", b'0', b""),
        ]);
        let found = read(&archive).expect("an archive").entries;
        let shown: Vec<(&str, bool, u64)> =
            found.iter().map(|entry| (&*entry.path, entry.is_folder, entry.len)).collect();
        let pax = format!("p/{long}");
        let expect = [
            ("a", true, 0),
            ("a/x:y\\z", false, 3),
            (&*long, false, 3),
            (&*pax, false, 5),
            ("a/dir/name", false, 0),
            ("old", true, 0),
        ];
        assert_eq!(shown, expect);
        // Nobody else gets to write, and no file changes whose it is.
        assert_eq!((found[1].mode, found[4].mode), (0o755, 0o644));
        let start = usize::try_from(found[1].start).expect("small");
        assert_eq!(&archive[start..start + 3], b"one");
    }

    /// A size among the properties passes over the headers between them and the entry.
    #[test]
    fn a_size_is_that_of_the_entry() {
        let long = "l".repeat(120);
        let mut file = entry(b"short", b'0', b"abc");
        file[..BLOCK_BYTES].copy_from_slice(&header(b"short", b'0', 0, 0o644));
        let archive = finished(&[
            entry(b"PaxHeaders/x", b'x', b"9 size=3\n"),
            entry(b"././@LongLink", b'L', format!("{long}\0").as_bytes()),
            file,
            entry(b"next", b'0', b"de"),
        ]);
        let found = read(&archive).expect("an archive").entries;
        let shown: Vec<(&str, u64)> = found.iter().map(|entry| (&*entry.path, entry.len)).collect();
        assert_eq!(shown, [(&*long, 3), ("next", 2)]);
    }

    #[test]
    fn what_is_neither_file_nor_folder_is_refused_by_name() {
        for (kind, why) in [
            (b'1', "link in an archive"),
            (b'2', "link in an archive"),
            (b'3', "device in an archive"),
            (b'4', "device in an archive"),
            (b'6', "pipe in an archive"),
            (b'S', "sparse file in an archive"),
            (b'M', "kind of entry in an archive"),
        ] {
            let name =
                format!("{why} is not supported. name=`dev/x, of kind `{}``", char::from(kind));
            refused(&[entry(b"dev/x", kind, b"")], &name);
        }
        for (name, why) in [
            (&b"/x"[..], "absolute"),
            (b"a/../x", "leads out"),
            (b"..", "leads out"),
            (b"a\xff", "not UTF-8"),
            (b"a\nb", "control character"),
            (b".", "without a name"),
        ] {
            refused(&[entry(name, b'0', b"")], why);
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let file = |name: &[u8]| entry(name, b'0', b"1");
        refused(&[file(b"a"), file(b"./a")], "`a`: it is there twice");
        refused(&[file(b"a"), entry(b"a/", b'5', b"")], "`a`: it is there twice");
        refused(&[file(b"a/b"), file(b"a")], "`a/b`: `a` is a file");
        refused(&[entry(b"a", b'5', b"1")], "`a`: it is a folder and has content");
        refused(&[entry(b"x", b'L', b"a\0")], "it ends where an entry should follow");
        refused(&[entry(b"x", b'L', b"a"), entry(b"x", b'L', b"b"), file(b"c")], "a second path");
        refused(&[entry(b"x", b'x', b"99 path=a\n"), file(b"c")], "not of their form");
        refused(&[entry(b"x", b'x', b"0 path=a\n"), file(b"c")], "not of their form");
        refused(&[entry(b"x", b'g', b"9 path=a\n"), file(b"c")], "property in an archive");
        refused(&[entry(b"x", b'x', b"22 GNU.sparse.major=1\n"), file(b"c")], "GNU.sparse.major");
        let mut broken = file(b"a");
        broken[0] = b'b';
        refused(&[broken], "the header at byte 0 has another checksum");
        let behind = [finished(&[file(b"a")]), file(b"b")].concat();
        let error = read(&behind).expect_err("behind").to_string();
        assert!(error.contains("there is something behind its end, at byte 2048"), "{error}");
        for cut in [0, 511, 512, 1023, 1024, 1535] {
            let cut = &finished(&[file(b"a")])[..cut];
            assert!(read(cut).expect_err("cut").to_string().contains("it is cut off"));
        }
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let too_large = |bytes: Vec<u8>| {
            assert!(matches!(read(&bytes).expect_err("a bomb"), Error::TooLarge { .. }));
        };
        too_large(header(b"a", b'0', INFLATED_BYTES_MAX + 1, 0));
        too_large(header(b"a", b'x', EXTENSION_BYTES_MAX + 1, 0));
        // A number of GNU's form.
        let mut large = header(b"a", b'0', 0, 0);
        large[124..136].fill(0xff);
        let error = read(&summed(large.clone())).expect_err("no size").to_string();
        assert!(error.contains("has no size"), "{error}");
        large[124..136].fill(0);
        (large[124], large[128]) = (0x80, 0x7f);
        too_large(summed(large));
        too_large(
            (0..=ENTRIES_MAX).flat_map(|n| header(format!("{n}").as_bytes(), b'0', 0, 0)).collect(),
        );
        too_large(vec![entry(b"x", b'g', b""); 2 * ENTRIES_MAX + 1].concat());
    }

    proptest! {
        /// What was put in is what is found.
        #[test]
        fn an_archive_is_read_as_it_was_written(
            files in proptest::collection::btree_map("[a-d]{1,3}", proptest::collection::vec(any::<u8>(), 0..1_200), 0..5),
        ) {
            let parts: Vec<Vec<u8>> =
                files.iter().map(|(name, content)| entry(name.as_bytes(), b'0', content)).collect();
            let archive = finished(&parts);
            let found = read(&archive).expect("an archive").entries;
            prop_assert_eq!(found.len(), files.len());
            for (entry, (name, content)) in found.iter().zip(&files) {
                let start = usize::try_from(entry.start).expect("small");
                prop_assert_eq!(&entry.path, name);
                prop_assert_eq!(&archive[start..start + content.len()], &content[..]);
            }
        }

        /// Any change is an archive or an error.
        #[test]
        fn any_bytes_are_an_archive_or_an_error(at in 0_usize..2_048, byte in any::<u8>(), resum in any::<bool>()) {
            let mut archive = finished(&[entry(b"a/b", b'0', b"1")]);
            archive[at] = byte;
            if resum {
                let block = summed(archive[..BLOCK_BYTES].to_vec());
                archive[..BLOCK_BYTES].copy_from_slice(&block);
            }
            if let Ok(tar) = read(&archive) {
                for entry in tar.entries {
                    prop_assert!(entry.start + entry.len <= archive.len() as u64);
                    prop_assert!(!entry.path.starts_with('/') && !entry.path.split('/').any(|part| part == ".."));
                    prop_assert_eq!(entry.mode & !0o755, 0);
                }
            }
        }
    }
}
