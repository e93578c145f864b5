//! Messages: `Log` of Windows and `nxLog`, kept in `/var/log/oms-dsc.log`.
//!
//! Each resource's message is written once as long as that file is there: after it was rotated away, or
//! with another message, it is written again.

use super::property::Properties;
use super::tree::rooted;
use super::{Difference, Resource, SetReport};
use crate::Error;
use crate::configuration::ResourceInstance;
use async_trait::async_trait;
use oms_core::task::blocking;
use oms_core::{Clock, SystemClock};
use rustix::fs::{Mode, OFlags, fsync};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;

const CLASSES: [&str; 3] = ["MSFT_LogResource", "MSFT_nxLogResource", "MSFT_nxLog"];

const FILE: &str = "/var/log/oms-dsc.log";

rooted! {
    /// Messages in a file.
    pub struct LogResource {
        clock: Arc<dyn Clock> = Arc::new(SystemClock),
    };

    /// Messages in this system's folder of logs.
    everywhere;

    /// Messages in the folder of logs of the system whose files are below `root`.
    within;
}

impl LogResource {
    async fn with<T: Send + 'static>(
        &self,
        instance: &ResourceInstance,
        work: fn(&Self, &str) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let read = Properties::new(instance, "Log resource", &["Message"])?;
        let message = read.needed("Message")?;
        // One line a message, whatever it holds: nothing in it looks like another entry.
        let line = format!("{} {}\n", escaped(read.id()), escaped(message));
        let resource = self.clone();
        blocking(move || work(&resource, &line)).await
    }

    fn is_written(&self, line: &str) -> Result<bool, Error> {
        let text = self.root.read_system(FILE)?.unwrap_or_default();
        // Behind the time.
        let has = |found: &[u8]| {
            let mut parts = found.splitn(2, |byte| *byte == b' ');
            parts.next().is_some() && parts.next() == Some(line.as_bytes())
        };
        Ok(text.split_inclusive(|byte| *byte == b'\n').any(has))
    }

    fn write(&self, line: &str) -> Result<(), Error> {
        if self.is_written(line)? {
            return Ok(());
        }
        let path = self.root.system(FILE);
        let missing = || Error::NotFound { what: "folder of", name: path.display().to_string() };
        let place = self.root.place(&path, true)?.ok_or_else(missing)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND;
        let mut file = File::from(place.open(flags, Mode::from_raw_mode(0o640))?);
        let io = |source| Error::Io { operation: "write", path: path.clone(), source };
        // A line that a crash cut off ends here; it is none that is looked for.
        let text = self.root.read_system(FILE)?.unwrap_or_default();
        let start = if text.is_empty() || text.ends_with(b"\n") { "" } else { "\n" };
        let now = self.clock.now();
        file.write_all(format!("{start}{now:.3} {line}").as_bytes()).map_err(io)?;
        fsync(&file).map_err(super::tree::failed("sync", &path))?;
        tracing::info!(message = line.trim_end(), "message of a configuration");
        Ok(())
    }
}

/// Text without control characters.
fn escaped(text: &str) -> String {
    text.chars()
        .flat_map(|c| match c.is_control() || c == '\\' {
            true => c.escape_default().collect::<Vec<char>>(),
            false => vec![c],
        })
        .collect()
}

#[async_trait]
impl Resource for LogResource {
    fn classes(&self) -> &[&str] {
        &CLASSES
    }

    async fn get(&self, instance: &ResourceInstance) -> Result<BTreeMap<String, Value>, Error> {
        self.with(instance, |resource, line| {
            let path = resource.root.system(FILE).display().to_string();
            Ok(BTreeMap::from([
                ("IsWritten".to_owned(), json!(resource.is_written(line)?)),
                ("Path".to_owned(), json!(path)),
            ]))
        })
        .await
    }

    async fn test(&self, instance: &ResourceInstance) -> Result<Vec<Difference>, Error> {
        self.with(instance, |resource, line| {
            let is_written = resource.is_written(line)?;
            let difference = || Difference::new("Message", "not written", "written");
            Ok((!is_written).then(difference).into_iter().collect())
        })
        .await
    }

    async fn set(&self, instance: &ResourceInstance) -> Result<SetReport, Error> {
        self.with(instance, Self::write).await.map(|()| SetReport::default())
    }
}
