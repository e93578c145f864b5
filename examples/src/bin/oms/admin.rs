//! `admin.json`: the credentials of a new data directory, in clear for its owner alone.

use crate::data::write_durably;
use anyhow::{Context, Result};
use oms_core::{Entropy, EntropyExt};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// Everything that a client needs to know, in the spelling that scripts use.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Admin {
    pub(crate) tenant_id: String,
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) subscription_id: String,
    pub(crate) resource_group: String,
    pub(crate) workspace_id: String,
    pub(crate) workspace_key: String,
    pub(crate) dsc_registration_key: String,
    pub(crate) automation_account: String,
    pub(crate) automation_key: String,
    pub(crate) backup_vault: String,
    pub(crate) recovery_vault: String,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("tenant_id", &self.tenant_id).finish_non_exhaustive()
    }
}

impl Admin {
    /// Reads `admin.json`, or draws and writes a new one. Keys that exist are never replaced.
    pub(crate) fn load_or_create(root: &Path, entropy: &dyn Entropy) -> Result<Self> {
        let path = root.join("admin.json");
        if path.exists() {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("credentials in {}", path.display()))?;
            return serde_json::from_str(&text)
                .with_context(|| format!("credentials in {}", path.display()));
        }
        let admin = Self::draw(entropy);
        let text = serde_json::to_string_pretty(&admin)?;
        write_durably(root, "admin.json", text.as_bytes())
            .with_context(|| format!("credentials in {}", path.display()))?;
        Ok(admin)
    }

    fn draw(entropy: &dyn Entropy) -> Self {
        let id = || entropy.uuid().to_string();
        let key = |bytes: usize| {
            let mut secret = vec![0; bytes];
            entropy.fill(&mut secret);
            base64(&secret)
        };
        Self {
            tenant_id: id(),
            client_id: id(),
            client_secret: key(32),
            subscription_id: id(),
            resource_group: "oms".to_owned(),
            workspace_id: id(),
            workspace_key: key(64),
            dsc_registration_key: id().to_uppercase(),
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

    #[test]
    fn credentials_are_drawn_once_and_readable_by_their_owner_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = Admin::load_or_create(folder.path(), &SeededEntropy::new(1)).expect("drawn");
        let again = Admin::load_or_create(folder.path(), &SeededEntropy::new(2)).expect("read");
        assert_eq!(first.client_secret, again.client_secret);
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
}
