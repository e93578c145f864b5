//! The computer under a local configuration manager: its starts, and how it is restarted.

use crate::Error;
use async_trait::async_trait;
use std::fmt::Debug;

/// The computer that a local configuration manager runs on.
#[async_trait]
pub trait Host: Debug + Send + Sync {
    /// Tells the present start of the operating system from every other.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Unsupported`] where nothing tells it.
    fn boot_id(&self) -> Result<String, Error>;

    /// Restarts the computer. It may end this process before it returns.
    ///
    /// # Errors
    /// What kept it from doing so.
    async fn restart(&self) -> Result<(), Error>;
}

/// This computer.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemHost;

#[cfg(target_os = "linux")]
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Programs that restart the computer, the preferred one first.
#[cfg(target_os = "linux")]
const RESTARTS: [(&str, &[&str]); 3] = [
    ("/usr/bin/systemctl", &["reboot"]),
    ("/sbin/shutdown", &["-r", "now"]),
    ("/sbin/reboot", &[]),
];

#[cfg(target_os = "linux")]
#[async_trait]
impl Host for SystemHost {
    fn boot_id(&self) -> Result<String, Error> {
        let read = std::fs::read_to_string(BOOT_ID);
        let read = read.map_err(|source| Error::Io {
            operation: "read the id of this start",
            path: BOOT_ID.into(),
            source,
        })?;
        Ok(read.trim().to_owned())
    }

    async fn restart(&self) -> Result<(), Error> {
        for (program, arguments) in RESTARTS {
            if !std::path::Path::new(program).exists() {
                continue;
            }
            let status = tokio::process::Command::new(program).args(arguments).status().await;
            let status = status.map_err(|source| Error::Io {
                operation: "start",
                path: program.into(),
                source,
            })?;
            if status.success() {
                return Ok(());
            }
            tracing::warn!(program, %status, "the computer was not restarted");
        }
        let name = "restart: neither systemctl nor shutdown did it".to_owned();
        Err(Error::Unsupported { what: "operation", name })
    }
}

#[cfg(not(target_os = "linux"))]
#[async_trait]
impl Host for SystemHost {
    fn boot_id(&self) -> Result<String, Error> {
        Err(Error::Unsupported { what: "operation", name: "restart, outside of Linux".to_owned() })
    }

    async fn restart(&self) -> Result<(), Error> {
        self.boot_id().map(|_| ())
    }
}
