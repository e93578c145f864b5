//! A restart that the system waits for: `PendingReboot`.
//!
//! Debian's packages ask for one by `/run/reboot-required`, which is gone after it. So what this resource
//! finds outlives every crash, and no restart is asked for twice.

use super::property::Properties;
use super::tree::rooted;
use super::{Difference, Resource, SetReport};
use crate::Error;
use crate::configuration::ResourceInstance;
use async_trait::async_trait;
use oms_core::task::blocking;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const CLASSES: [&str; 2] = ["DSC_PendingReboot", "MSFT_PendingReboot"];

const FILE: &str = "/run/reboot-required";
const PACKAGES: &str = "/run/reboot-required.pkgs";

rooted! {
    /// Whether a system waits for a restart.
    pub struct PendingRebootResource;

    /// This system.
    everywhere;

    /// The system whose files are below `root`.
    within;
}

impl PendingRebootResource {
    /// The packages that wait for a restart; none if nothing does.
    async fn waiting(&self, instance: &ResourceInstance) -> Result<Option<Vec<String>>, Error> {
        let read = Properties::new(instance, "PendingReboot resource", &["Name"])?;
        read.needed("Name")?;
        let root = self.root.clone();
        blocking(move || {
            if root.read_system(FILE)?.is_none() {
                return Ok(None);
            }
            let packages = root.read_system(PACKAGES)?.unwrap_or_default();
            let packages = String::from_utf8_lossy(&packages).into_owned();
            let mut packages: Vec<String> = packages.lines().map(str::to_owned).collect();
            packages.sort();
            packages.dedup();
            Ok(Some(packages))
        })
        .await
    }
}

#[async_trait]
impl Resource for PendingRebootResource {
    fn classes(&self) -> &[&str] {
        &CLASSES
    }

    async fn get(&self, instance: &ResourceInstance) -> Result<BTreeMap<String, Value>, Error> {
        let waiting = self.waiting(instance).await?;
        Ok(BTreeMap::from([
            ("RebootRequired".to_owned(), json!(waiting.is_some())),
            ("Packages".to_owned(), json!(waiting.unwrap_or_default())),
        ]))
    }

    async fn test(&self, instance: &ResourceInstance) -> Result<Vec<Difference>, Error> {
        let Some(packages) = self.waiting(instance).await? else { return Ok(Vec::new()) };
        let found = match packages.is_empty() {
            true => "required".to_owned(),
            false => format!("required by {}", packages.join(", ")),
        };
        Ok(vec![Difference::new("Reboot", found, "not required")])
    }

    async fn set(&self, instance: &ResourceInstance) -> Result<SetReport, Error> {
        Ok(SetReport { reboot_required: self.waiting(instance).await?.is_some() })
    }
}
