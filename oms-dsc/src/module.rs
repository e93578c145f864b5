//! Resource module packages, as a pull server hands them out: name, version, zip archive.

mod package;

pub use package::{ENTRIES_MAX, INFLATED_BYTES_MAX, Package, PackageEntry};

use crate::Error;
use crate::protocol::check_name;
use oms_core::id::ParseIdError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The largest package, in bytes.
pub const MODULE_BYTES_MAX: usize = 64 << 20;

/// A module's version: one to four dotted numbers. `1.0` and `1.0.0` are two versions, of which
/// the longer is the newer.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModuleVersion(Vec<u32>);

impl FromStr for ModuleVersion {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let refuse = || ParseIdError::new("module version", text, "not one to four dotted numbers");
        let mut groups = Vec::new();
        for group in text.split('.') {
            let is_number = !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_digit());
            if !is_number || groups.len() == 4 {
                return Err(refuse());
            }
            groups.push(group.parse().map_err(|_too_large| refuse())?);
        }
        Ok(Self(groups))
    }
}

impl fmt::Display for ModuleVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, group) in self.0.iter().enumerate() {
            f.write_str(if index > 0 { "." } else { "" })?;
            write!(f, "{group}")?;
        }
        Ok(())
    }
}

impl TryFrom<String> for ModuleVersion {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<ModuleVersion> for String {
    fn from(version: ModuleVersion) -> Self {
        version.to_string()
    }
}

/// Checks a package before it is published: every entry is unpacked once, and nothing is kept.
///
/// # Errors
/// [`Error::Name`] for its name; those of [`Package::read`].
pub fn check_package(name: &str, bytes: &[u8]) -> Result<(), Error> {
    check_name("module name", name)?;
    Package::read(bytes).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number() {
        let version = |text: &str| text.parse::<ModuleVersion>().expect("a version");
        assert!(version("1.10") > version("1.9.9"));
        assert!(version("1.0.0") > version("1.0"));
        assert_eq!(version("1.1.0.0").to_string(), "1.1.0.0");
        for bad in ["", ".", "1.", "a", "1.2.3.4.5", "+1", "99999999999"] {
            assert!(bad.parse::<ModuleVersion>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_zip_archives_are_packages() {
        let empty = [&b"PK\x05\x06"[..], &[0; 18]].concat();
        assert!(check_package("nx", &empty).is_ok());
        assert!(check_package("../nx", &empty).is_err());
        assert!(check_package("nx", b"PK\x03\x04rest").is_err());
    }
}
