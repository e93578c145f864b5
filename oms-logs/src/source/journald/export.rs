//! The export format: entries of fields, text or binary.

use crate::source::FIELD_BYTES_MAX;

/// The longest name of a field, in bytes. See systemd.journal-fields(7).
const NAME_BYTES_MAX: usize = 64;

/// The most fields of one entry.
const FIELDS_MAX: usize = 1_024;

/// One entry.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Entry {
    /// Names and values in the order they came. A name may come several times.
    pub fields: Vec<(String, Vec<u8>)>,
}

impl Entry {
    /// The first value of a field.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_slice())
    }

    /// The first value of a field as text, with U+FFFD for what is not UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        self.value(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// All fields on one line each.
    pub(super) fn all(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.fields {
            if !out.is_empty() {
                out.push('\n');
            }
            out.push_str(name);
            out.push('=');
            out.push_str(&String::from_utf8_lossy(value));
        }
        out
    }
}

/// What [`parse`] found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Parsed {
    /// The whole entries. Bytes that are no entry stand among them as an entry with the single
    /// field `MALFORMED`, so that nothing is lost silently.
    pub entries: Vec<Entry>,
    /// How many bytes they took.
    pub used: usize,
}

/// Reads entries from the beginning of `bytes`, at most `limit`. An entry that is not finished is
/// left, unless `whole` says that no more bytes will come.
#[must_use]
pub fn parse(bytes: &[u8], limit: usize, whole: bool) -> Parsed {
    let mut out = Parsed::default();
    while out.entries.len() < limit {
        // Entries may stand more than one empty line apart.
        while bytes.get(out.used) == Some(&b'\n') {
            out.used += 1;
        }
        let rest = &bytes[out.used..];
        if rest.is_empty() {
            break;
        }
        match entry(rest, whole) {
            Outcome::Entry(entry, used) => {
                out.entries.push(entry);
                out.used += used;
            }
            Outcome::Unfinished if whole => {
                out.entries.push(malformed(rest));
                out.used = bytes.len();
            }
            Outcome::Unfinished => break,
            Outcome::Malformed => {
                // The next entry that begins like one from a journal is taken for one.
                let next = b"\n\n__CURSOR=";
                let Some(end) = rest.windows(next.len()).position(|window| window == next) else {
                    if !whole {
                        break;
                    }
                    out.entries.push(malformed(rest));
                    out.used = bytes.len();
                    break;
                };
                out.entries.push(malformed(&rest[..end]));
                out.used += end + 2;
            }
        }
    }
    out
}

enum Outcome {
    /// An entry and how many bytes it took.
    Entry(Entry, usize),
    /// The bytes end within it.
    Unfinished,
    /// It has another form.
    Malformed,
}

fn malformed(bytes: &[u8]) -> Entry {
    let kept = &bytes[..bytes.len().min(FIELD_BYTES_MAX)];
    Entry { fields: vec![("MALFORMED".to_owned(), kept.to_owned())] }
}

/// Reads one entry, which ends with an empty line, or with the bytes where they are `whole`.
fn entry(bytes: &[u8], whole: bool) -> Outcome {
    let mut entry = Entry::default();
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        if rest.is_empty() && whole {
            return Outcome::Entry(entry, at);
        }
        let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
            return if is_begun_name(rest) { Outcome::Unfinished } else { Outcome::Malformed };
        };
        let line = &rest[..end];
        at += end + 1;
        if line.is_empty() {
            return Outcome::Entry(entry, at);
        }
        let (name, value) = match line.iter().position(|&byte| byte == b'=') {
            Some(equals) => (&line[..equals], line[equals + 1..].to_owned()),
            None => match binary(&bytes[at..]) {
                Binary::Value(value, used) => {
                    at += used;
                    (line, value)
                }
                Binary::Unfinished => return Outcome::Unfinished,
                Binary::Malformed => return Outcome::Malformed,
            },
        };
        match name_of(name) {
            Some(name) if entry.fields.len() < FIELDS_MAX => entry.fields.push((name, value)),
            // Fields beyond the limit are no reason to lose the entry.
            Some(_) => {}
            None => return Outcome::Malformed,
        }
    }
}

enum Binary {
    Value(Vec<u8>, usize),
    Unfinished,
    Malformed,
}

/// Reads a size of 64 bits, least byte first, so many bytes and a newline.
fn binary(bytes: &[u8]) -> Binary {
    let Some((size, rest)) = bytes.split_first_chunk::<8>() else { return Binary::Unfinished };
    let size = u64::from_le_bytes(*size);
    let Some(size) = usize::try_from(size).ok().filter(|size| *size < super::BYTES_PER_COLLECT_MAX)
    else {
        return Binary::Malformed;
    };
    match rest.get(size) {
        Some(b'\n') => Binary::Value(rest[..size].to_owned(), 8 + size + 1),
        Some(_) => Binary::Malformed,
        None => Binary::Unfinished,
    }
}

/// A name of capital letters, digits and underscores.
fn name_of(bytes: &[u8]) -> Option<String> {
    let fits = (1..=NAME_BYTES_MAX).contains(&bytes.len());
    let is_name = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_';
    (fits && bytes.iter().all(is_name)).then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// Whether bytes without a newline can become a field.
fn is_begun_name(bytes: &[u8]) -> bool {
    let name = bytes.split(|&byte| byte == b'=').next().unwrap_or_default();
    name.is_empty() == bytes.is_empty() && (bytes.is_empty() || name_of(name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn write(entries: &[Entry]) -> Vec<u8> {
        let mut out = Vec::new();
        for entry in entries {
            for (name, value) in &entry.fields {
                out.extend(name.as_bytes());
                let is_text = std::str::from_utf8(value)
                    .is_ok_and(|text| text.chars().all(|c| c >= ' ' || c == '\t'));
                if is_text {
                    out.push(b'=');
                } else {
                    out.push(b'\n');
                    out.extend((value.len() as u64).to_le_bytes());
                }
                out.extend(value);
                out.push(b'\n');
            }
            out.push(b'\n');
        }
        out
    }

    #[test]
    fn what_is_no_entry_is_kept_and_passed() {
        let good = write(&[Entry { fields: vec![("__CURSOR".into(), b"x".to_vec())] }]);
        for bad in [
            "lower=1\n\n",
            "MESSAGE\n\x05\0\0\0\0\0\0\0abc\n\n=\n\n",
            "A\n\x01\0\0\0\0\0\0\x7f\n\n",
        ] {
            let bytes = [bad.as_bytes(), &good].concat();
            let parsed = parse(&bytes, 10, true);
            assert_eq!(parsed.used, bytes.len(), "{bad:?}");
            assert_eq!(parsed.entries[0].fields[0].0, "MALFORMED", "{bad:?}");
            assert_eq!(
                parsed.entries.last().and_then(|e| e.text("__CURSOR")).as_deref(),
                Some("x")
            );
        }
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let value = prop_oneof![
            "[ -~\t]{0,30}".prop_map(String::into_bytes),
            proptest::collection::vec(any::<u8>(), 0..40),
        ];
        let field = ("[A-Z_][A-Z0-9_]{0,15}", value);
        let entry = proptest::collection::vec(field, 1..6).prop_map(|fields| Entry { fields });
        proptest::collection::vec(entry, 0..5)
    }

    proptest! {
        #[test]
        fn random_bytes_are_all_accounted_for(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(parse(&bytes, usize::MAX, true).used, bytes.len());
            prop_assert!(parse(&bytes, usize::MAX, false).used <= bytes.len());
        }

        #[test]
        fn near_misses_are_all_accounted_for(text in "(([A-Za-z_]{0,3}=?[ab]{0,3}|\0{0,8})\n){0,12}") {
            prop_assert_eq!(parse(text.as_bytes(), usize::MAX, true).used, text.len());
        }

        #[test]
        fn written_entries_are_read_however_they_arrive(entries in entries(), cut in 0.0..1.0_f64) {
            let bytes = write(&entries);
            let cut = (bytes.len() as f64 * cut) as usize;
            let mut first = parse(&bytes[..cut], usize::MAX, false);
            let second = parse(&bytes[first.used..], usize::MAX, true);
            first.entries.extend(second.entries);
            prop_assert_eq!(first.entries, entries);
            prop_assert_eq!(first.used + second.used, bytes.len());
        }
    }
}
