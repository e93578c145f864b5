//! `admin.json`: the credentials of a new data directory, in clear for its owner alone.

use crate::data::replace;
use anyhow::{Context, Result, bail};
use oms_core::disk::{Disk, DiskExt as _, LocalDisk, OpenMode};
use oms_core::{Entropy, EntropyExt, Secret};
use serde::{Deserialize, Deserializer, Serialize};
use std::path::Path;

/// The file's name in the data directory.
const FILE: &str = "admin.json";

/// The most bytes it may have.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Everything that a client needs to know, in the spelling that scripts use.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Admin {
    pub(crate) tenant_id: String,
    pub(crate) client_id: String,
    #[serde(deserialize_with = "secret")]
    pub(crate) client_secret: Secret,
    pub(crate) subscription_id: String,
    pub(crate) resource_group: String,
    pub(crate) workspace_id: String,
    #[serde(deserialize_with = "secret")]
    pub(crate) workspace_key: Secret,
    #[serde(deserialize_with = "secret")]
    pub(crate) dsc_registration_key: Secret,
    pub(crate) automation_account: String,
    #[serde(deserialize_with = "secret")]
    pub(crate) automation_key: Secret,
    pub(crate) backup_vault: String,
    pub(crate) recovery_vault: String,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    Ok(Secret::new(String::deserialize(deserializer)?))
}

/// The same in clear, which [`Admin::expose_for_file`] alone makes: the one place where these
/// secrets are written out.
#[derive(Serialize)]
struct AdminFile<'a> {
    tenant_id: &'a str,
    client_id: &'a str,
    client_secret: &'a str,
    subscription_id: &'a str,
    resource_group: &'a str,
    workspace_id: &'a str,
    workspace_key: &'a str,
    dsc_registration_key: &'a str,
    automation_account: &'a str,
    automation_key: &'a str,
    backup_vault: &'a str,
    recovery_vault: &'a str,
}

impl Admin {
    /// Reads `admin.json`, or draws and writes a new one. Keys that exist are never replaced.
    pub(crate) fn load_or_create(root: &Path, entropy: &dyn Entropy) -> Result<Self> {
        LocalDisk::new(root)
            .map_err(anyhow::Error::from)
            .and_then(|disk| Self::load_or_create_on(&disk, entropy))
            .with_context(|| format!("credentials in {}", root.join(FILE).display()))
    }

    fn load_or_create_on(disk: &dyn Disk, entropy: &dyn Entropy) -> Result<Self> {
        if disk.list(Path::new(""))?.iter().any(|name| name == FILE) {
            // What is told to clients must not change after a power failure.
            disk.settle(Path::new(FILE))?;
            let file = disk.open(Path::new(FILE), OpenMode::Read)?;
            let length = file.len()?;
            if length > FILE_BYTES_MAX {
                bail!("too long. bytes=`{length}`, most=`{FILE_BYTES_MAX}`");
            }
            let mut text = vec![0; usize::try_from(length)?];
            file.read_at(0, &mut text)?;
            return Ok(serde_json::from_slice(Secret::new(text).expose())?);
        }
        let admin = Self::draw(entropy);
        replace(disk, FILE, admin.expose_for_file()?.expose())?;
        Ok(admin)
    }

    /// The text of `admin.json`, with every secret in clear.
    fn expose_for_file(&self) -> Result<Secret> {
        let file = AdminFile {
            tenant_id: &self.tenant_id,
            client_id: &self.client_id,
            client_secret: self.client_secret.expose_text()?,
            subscription_id: &self.subscription_id,
            resource_group: &self.resource_group,
            workspace_id: &self.workspace_id,
            workspace_key: self.workspace_key.expose_text()?,
            dsc_registration_key: self.dsc_registration_key.expose_text()?,
            automation_account: &self.automation_account,
            automation_key: self.automation_key.expose_text()?,
            backup_vault: &self.backup_vault,
            recovery_vault: &self.recovery_vault,
        };
        Ok(Secret::new(serde_json::to_vec_pretty(&file)?))
    }

    fn draw(entropy: &dyn Entropy) -> Self {
        let id = || entropy.uuid().to_string();
        let key = |bytes: usize| {
            let mut secret = vec![0; bytes];
            entropy.fill(&mut secret);
            Secret::new(base64(&secret))
        };
        Self {
            tenant_id: id(),
            client_id: id(),
            client_secret: key(32),
            subscription_id: id(),
            resource_group: "oms".to_owned(),
            workspace_id: id(),
            workspace_key: key(64),
            dsc_registration_key: Secret::new(id().to_uppercase()),
            automation_account: "oms".to_owned(),
            automation_key: key(64),
            backup_vault: "oms".to_owned(),
            recovery_vault: "oms".to_owned(),
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::entropy::SeededEntropy;
    use oms_core::testkit::crash::{crash_at_every_operation, kill_at_every_operation};
    use oms_core::testkit::disk::SimDisk;
    use std::cell::RefCell;

    #[test]
    fn credentials_are_drawn_once_and_readable_by_their_owner_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = Admin::load_or_create(folder.path(), &SeededEntropy::new(1)).expect("drawn");
        let again = Admin::load_or_create(folder.path(), &SeededEntropy::new(2)).expect("read");
        assert_eq!(first.client_secret, again.client_secret);
        let text = std::fs::read_to_string(folder.path().join("admin.json")).expect("written");
        let key = first.workspace_key.expose_text().expect("text");
        assert!(text.contains(&format!("\"workspace_key\": \"{key}\"")), "in clear for its owner");
        assert!(!format!("{first:?}").contains(key), "and nowhere else");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let file = std::fs::metadata(folder.path().join("admin.json")).expect("written");
            assert_eq!(file.permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn damaged_credentials_are_an_error_and_never_new_ones() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("admin.json"), "{").expect("write");
        assert!(Admin::load_or_create(folder.path(), &SeededEntropy::new(1)).is_err());
    }

    /// Auditor: credentials that were told to somebody are the same ever after, also where they
    /// were found as a killed process had left them; others are not there, or whole.
    #[test]
    fn power_may_fail_at_any_operation_of_drawing_credentials() {
        let load = |disk: &SimDisk, seed| {
            Admin::load_or_create_on(disk, &SeededEntropy::new(seed)).map(|admin| admin.tenant_id)
        };
        let work = |disk: &SimDisk, told: &RefCell<Option<String>>| {
            *told.borrow_mut() = load(disk, 1).ok();
            told.borrow().is_some()
        };
        let audit = |disk: &SimDisk, told: RefCell<Option<String>>| {
            let found = load(disk, 2).expect("whole, or drawn now");
            assert!(told.into_inner().is_none_or(|told| told == found), "they are the same");
        };
        let operations = crash_at_every_operation(
            20,
            |_disk| RefCell::default(),
            work,
            |disk, told, _is_done| audit(disk, told),
        );
        assert_eq!(operations, 7);
        kill_at_every_operation(20, |_disk| RefCell::default(), work, audit);
    }
}
