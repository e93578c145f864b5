//! What was used lately, up to a bound of bytes.

use std::collections::BTreeMap;

/// What an entry counts, besides itself.
const ENTRY_BYTES: usize = 256;

/// Things by path. What was used least lately goes first.
#[derive(Debug)]
pub(crate) struct Recent<T> {
    entries: BTreeMap<String, Entry<T>>,
    bytes: usize,
    bytes_max: usize,
    /// How often something was looked up.
    uses: u64,
}

#[derive(Debug)]
struct Entry<T> {
    used: u64,
    bytes: usize,
    value: T,
}

impl<T: Clone> Recent<T> {
    pub(crate) const fn new(bytes_max: usize) -> Self {
        Self { entries: BTreeMap::new(), bytes: 0, bytes_max, uses: 0 }
    }

    pub(crate) fn find(&mut self, path: &str) -> Option<T> {
        self.uses += 1;
        let entry = self.entries.get_mut(path)?;
        entry.used = self.uses;
        Some(entry.value.clone())
    }

    /// Keeps something of so many bytes.
    pub(crate) fn add(&mut self, path: String, value: T, bytes: usize) {
        let bytes = bytes + ENTRY_BYTES;
        self.bytes += bytes;
        if let Some(before) = self.entries.insert(path, Entry { used: self.uses, bytes, value }) {
            self.bytes -= before.bytes;
        }
        while self.bytes > self.bytes_max {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
            let Some(path) = oldest.map(|(path, _)| path.clone()) else { break };
            if let Some(gone) = self.entries.remove(&path) {
                self.bytes -= gone.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_lately_goes() {
        const HALF: usize = 10_000;
        let mut kept = Recent::new(2 * HALF);
        kept.add("a".into(), 1, HALF - 1_000);
        kept.add("b".into(), 2, HALF - 1_000);
        assert_eq!(kept.find("a"), Some(1));
        kept.add("c".into(), 3, HALF - 1_000);
        assert_eq!(kept.find("b"), None);
        assert!(kept.find("a").is_some() && kept.find("c").is_some());
        assert!(kept.bytes <= 2 * HALF);
        kept.add("c".into(), 4, 0);
        assert_eq!(kept.bytes, HALF - 1_000 + 2 * ENTRY_BYTES);
        assert_eq!(kept.find("c"), Some(4));
    }
}
