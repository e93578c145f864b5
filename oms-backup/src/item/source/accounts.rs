//! Names of users and groups.

use std::collections::HashMap;

/// The accounts in `/etc/passwd` and `/etc/group`. Accounts that a directory service knows keep
/// their numbers and have no names here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Accounts {
    /// Reads both files; a missing one has no accounts.
    pub(crate) fn load() -> Self {
        let read = |path| std::fs::read(path).unwrap_or_default();
        Self { users: parse(&read("/etc/passwd")), groups: parse(&read("/etc/group")) }
    }

    /// The user's name, or nothing.
    pub(crate) fn user(&self, id: u32) -> &str {
        self.users.get(&id).map_or("", String::as_str)
    }

    /// The group's name, or nothing.
    pub(crate) fn group(&self, id: u32) -> &str {
        self.groups.get(&id).map_or("", String::as_str)
    }
}

/// Lines of `name:password:id:...`; the first of an id counts.
fn parse(file: &[u8]) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in String::from_utf8_lossy(file).lines() {
        let mut fields = line.split(':');
        let (name, id) = (fields.next(), fields.nth(1).and_then(|id| id.parse().ok()));
        if let (Some(name), Some(id)) = (name, id) {
            names.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_an_id_counts() {
        let names = parse(b"root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/root:/bin/sh\n\n#x\na:b\n");
        assert_eq!(names, HashMap::from([(0, "root".to_owned())]));
    }
}
