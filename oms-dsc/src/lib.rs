//! WIP

pub mod mof;

pub mod configuration;

pub mod module;

pub mod protocol;

pub mod pull_server;

pub mod report;

pub mod resource;

mod content;

pub mod error;

pub use error::Error;
pub use pull_server::PullServer;

/// Runs work that blocks where it holds up nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Error::Internal { reason: error.to_string() }),
    }
}
