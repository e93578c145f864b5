//! Heartbeats: that a computer is there, and what it is.

use super::perf::read_text;
use super::{Collected, DataSource, Moment, SOURCE_SYSTEM, SourceError};
use oms_core::Record;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// The chassis tag that every virtual machine in Azure has, and no other computer.
const AZURE_CHASSIS_TAG: &str = "7783-7084-3265-9085-8269-3286-77";

/// Where a computer says what it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostFiles {
    /// `/proc`
    pub proc: PathBuf,
    /// The files of os-release(5); the first that is there counts.
    pub os_release: Vec<PathBuf>,
    /// `/sys/class/dmi/id`
    pub dmi: PathBuf,
}

impl Default for HostFiles {
    fn default() -> Self {
        Self {
            proc: "/proc".into(),
            os_release: vec!["/etc/os-release".into(), "/usr/lib/os-release".into()],
            dmi: "/sys/class/dmi/id".into(),
        }
    }
}

impl HostFiles {
    /// The computer's name without its domain.
    ///
    /// # Errors
    /// [`SourceError::Io`] if the kernel's name cannot be read; [`SourceError::Malformed`] if it is
    /// empty.
    pub fn computer(&self) -> Result<String, SourceError> {
        let path = self.proc.join("sys/kernel/hostname");
        let text = read_text(&path)?;
        let name = text.trim().split('.').next().unwrap_or_default();
        if name.is_empty() {
            let reason = "the computer has no name".to_owned();
            return Err(SourceError::Malformed {
                path: path.display().to_string(),
                line: 1,
                reason,
            });
        }
        Ok(name.to_owned())
    }
}

/// One `Heartbeat` record with every collection.
///
/// What the computer does not tell is left out, and so is `ComputerIP`, which is the address that a
/// server sees.
#[derive(Clone, Debug, Default)]
pub struct Heartbeat {
    files: HostFiles,
}

impl Heartbeat {
    /// The heartbeat of the computer that the files describe.
    #[must_use]
    pub fn new(files: HostFiles) -> Self {
        Self { files }
    }

    /// The contents of a file that need not be there or be readable for this user.
    fn optional(path: &Path) -> Result<Option<String>, SourceError> {
        match read_text(path) {
            Ok(text) => Ok(Some(text)),
            Err(SourceError::Io { source, .. })
                if matches!(
                    source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn os_release(&self) -> Result<BTreeMap<String, String>, SourceError> {
        for path in &self.files.os_release {
            if let Some(text) = Self::optional(path)? {
                return Ok(os_release(&text));
            }
        }
        Ok(BTreeMap::new())
    }

    fn private_addresses(&self) -> Result<Vec<String>, SourceError> {
        let read = |name| Self::optional(&self.files.proc.join(name));
        let v4 = read("net/fib_trie")?.map(|text| local_ipv4(&text)).unwrap_or_default();
        let v6 = read("net/if_inet6")?.map(|text| local_ipv6(&text)).unwrap_or_default();
        let v4 = v4.into_iter().filter(Ipv4Addr::is_private).map(IpAddr::V4);
        let v6 = v6.into_iter().filter(Ipv6Addr::is_unique_local).map(IpAddr::V6);
        Ok(v4.chain(v6).map(|address| address.to_string()).collect())
    }
}

impl DataSource for Heartbeat {
    fn name(&self) -> &str {
        "heartbeat"
    }

    fn collect(&mut self, at: &Moment<'_>) -> Result<Collected, SourceError> {
        let dmi = |name| Self::optional(&self.files.dmi.join(name));
        let is_azure = dmi("chassis_asset_tag")?.is_some_and(|tag| tag.trim() == AZURE_CHASSIS_TAG);
        let mut record = Record::new("Heartbeat".parse()?, at.now, at.computer)
            .with("Category", "Direct Agent")
            .with("ComputerEnvironment", if is_azure { "Azure" } else { "Non-Azure" })
            .with("OSType", "Linux")
            .with("SCAgentChannel", "Direct")
            .with("SourceSystem", SOURCE_SYSTEM)
            .with("Version", env!("CARGO_PKG_VERSION"));
        let os = self.os_release()?;
        if let Some(name) = os.get("NAME") {
            record = record.with("OSName", name.as_str());
        }
        if let Some(version) = os.get("VERSION_ID") {
            let mut parts = version.split('.');
            for column in ["OSMajorVersion", "OSMinorVersion"] {
                if let Some(part) = parts.next() {
                    record = record.with(column, part);
                }
            }
        }
        let addresses = self.private_addresses()?;
        if !addresses.is_empty() {
            record = record.with("ComputerPrivateIPs", serde_json::Value::from(addresses));
        }
        if let Some(id) =
            dmi("product_uuid")?.and_then(|text| text.trim().parse::<uuid::Uuid>().ok())
        {
            record = record.with("VMUUID", id.to_string());
        }
        Ok(Collected { records: vec![record], ..Collected::default() })
    }
}

/// Reads os-release(5): assignments in shell form. Lines of another form are left out.
#[must_use]
pub fn os_release(text: &str) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for line in text.lines() {
        let Some((name, value)) = line.trim().split_once('=') else { continue };
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !name.is_empty() && name.chars().all(is_name) {
            out.insert(name.to_owned(), unquote(value));
        }
    }
    out
}

/// Takes shell quotes off a value.
fn unquote(value: &str) -> String {
    let single = value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    if let Some(text) = single {
        return text.to_owned();
    }
    let double = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let mut out = String::new();
    let mut chars = double.unwrap_or(value).chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}

/// Reads this computer's own IPv4 addresses, without those of the loopback interface, from
/// `/proc/net/fib_trie`.
#[must_use]
pub fn local_ipv4(text: &str) -> BTreeSet<Ipv4Addr> {
    let mut out = BTreeSet::new();
    let mut last = None;
    for line in text.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line.starts_with("/32 host LOCAL") {
            out.extend(last.filter(|address| !address.is_loopback()));
        }
    }
    out
}

/// Reads this computer's own IPv6 addresses, without those of the loopback interface, from
/// `/proc/net/if_inet6`.
#[must_use]
pub fn local_ipv6(text: &str) -> BTreeSet<Ipv6Addr> {
    text.lines()
        .filter_map(|line| line.split_ascii_whitespace().next())
        .filter(|hex| hex.len() == 32)
        .filter_map(|hex| u128::from_str_radix(hex, 16).ok())
        .map(Ipv6Addr::from_bits)
        .filter(|address| !address.is_loopback())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use oms_core::id::SourceId;
    use oms_core::record::Value;
    use proptest::prelude::*;
    use std::time::Duration;

    const FIB_TRIE: &str = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n\
        Local:\n        |-- 10.1.0.0\n           /16 link UNICAST\n        |-- 10.1.2.3\n           \
        /32 host LOCAL\n        |-- 10.1.255.255\n           /32 link BROADCAST\n        \
        |-- 127.0.0.1\n           /32 host LOCAL\n        |-- 203.0.113.9\n           /32 host LOCAL\n";
    const IF_INET6: &str = "fd001122000000000000000000000001 02 40 00 80     eth0\n\
        fe80000000000000021122fffe334455 02 40 20 80     eth0\n\
        00000000000000000000000000000001 01 80 10 80       lo\n";

    fn files(folder: &Path) -> HostFiles {
        for sub in ["proc/net", "proc/sys/kernel", "dmi"] {
            std::fs::create_dir_all(folder.join(sub)).expect("a folder");
        }
        for (name, text) in [
            ("proc/net/fib_trie", FIB_TRIE),
            ("proc/net/if_inet6", IF_INET6),
            ("proc/sys/kernel/hostname", "web-1.example.com\n"),
            ("dmi/product_uuid", "4C4C4544-0051-3610-8052-B4C04F4E3132\n"),
            ("os-release", "NAME=\"Ubuntu\"\nVERSION_ID='24.04'\nID=ubuntu\n# comment\n"),
        ] {
            std::fs::write(folder.join(name), text).expect("written");
        }
        HostFiles {
            proc: folder.join("proc"),
            os_release: vec![folder.join("none"), folder.join("os-release")],
            dmi: folder.join("dmi"),
        }
    }

    #[test]
    fn a_heartbeat_says_what_the_computer_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = files(folder.path());
        let computer = files.computer().expect("a name");
        assert_eq!(computer, "web-1");
        let at = Moment {
            now: Timestamp::UNIX_EPOCH,
            monotonic: Duration::ZERO,
            computer: &computer,
            source: SourceId(uuid::Uuid::nil()),
        };
        let collected = Heartbeat::new(files).collect(&at).expect("collected");
        let fields = &collected.records[0].fields;
        for (column, value) in [
            ("Category", "Direct Agent"),
            ("OSName", "Ubuntu"),
            ("OSMajorVersion", "24"),
            ("OSMinorVersion", "04"),
            ("VMUUID", "4c4c4544-0051-3610-8052-b4c04f4e3132"),
            ("ComputerEnvironment", "Non-Azure"),
        ] {
            assert_eq!(fields[column], Value::from(value), "{column}");
        }
        let addresses = serde_json::json!(["10.1.2.3", "fd00:1122::1"]);
        assert_eq!(fields["ComputerPrivateIPs"], Value::Dynamic(addresses));
    }

    #[test]
    fn a_computer_that_tells_little_has_a_heartbeat() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = HostFiles {
            proc: folder.path().into(),
            os_release: vec![folder.path().join("none")],
            dmi: folder.path().into(),
        };
        assert!(files.computer().is_err());
        let at = Moment {
            now: Timestamp::UNIX_EPOCH,
            monotonic: Duration::ZERO,
            computer: "pc",
            source: SourceId(uuid::Uuid::nil()),
        };
        let collected = Heartbeat::new(files).collect(&at).expect("collected");
        assert!(!collected.records[0].fields.contains_key("OSName"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "([|/A-Za-z0-9=.\"' \\\\-]{0,40}\n){0,6}") {
            let _ = (os_release(&text), local_ipv4(&text), local_ipv6(&text));
        }

        #[test]
        fn quoted_values_round_trip(value in "[ -~]{0,20}") {
            let quoted: String = value
                .chars()
                .flat_map(|c| matches!(c, '"' | '\\' | '$' | '`').then_some('\\').into_iter().chain([c]))
                .collect();
            let found = os_release(&format!("NAME=\"{quoted}\"\n"));
            prop_assert_eq!(found.get("NAME"), Some(&value));
        }
    }
}
