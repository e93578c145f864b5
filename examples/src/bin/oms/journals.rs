//! The journal that the configuration names, and each service's right to write to it.
//!
//! A journal in SQLite is for this process alone, which the data directory's lock sees to. One in
//! PostgreSQL is shared: there each service runs in one process at a time, the one that holds its
//! lease, and the journal itself refuses what a former owner still writes.

use crate::config::Config;
use crate::suite::Service;
use anyhow::{Context, Result, bail};
use oms_core::journal::{PostgresJournal, PostgresSettings, SqliteJournal};
use oms_core::lease::{Duty, Fenced, Lease, LeaseError, LeaseSettings, Leases, Standing};
use oms_core::{Journal, SystemClock, SystemEntropy};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long an owner may be silent before another process takes its service over, in milliseconds.
const TERM_MILLIS: u64 = 10_000;

/// How long a service's turn is waited for: what a process that was killed leaves is over then.
const WAIT: Duration = Duration::from_millis(2 * TERM_MILLIS);

/// The journal, and what this process may write to it.
pub(crate) struct Journals {
    whole: Arc<dyn Journal>,
    /// None if nobody else can write.
    leases: Option<Leases>,
    holder: String,
    held: Vec<(Service, Lease)>,
    keepers: JoinSet<(Service, Standing)>,
}

impl Journals {
    /// Opens the journal; in the data directory, if the configuration names no other.
    pub(crate) async fn open(root: &Path, config: &Config, computer: &str) -> Result<Self> {
        let (whole, leases) = match config.postgres_url() {
            Some(url) => {
                let whole: Arc<dyn Journal> = Arc::new(connect(url, config).await?);
                let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
                let settings = LeaseSettings {
                    term_millis: TERM_MILLIS,
                    renew_every_millis: TERM_MILLIS / 4,
                    ..Default::default()
                };
                let leases = Leases::new(Arc::clone(&whole), clock, entropy, settings)?;
                (whole, Some(leases))
            }
            None => {
                let path = root.join("journal.db");
                let opened = tokio::task::spawn_blocking(move || SqliteJournal::open(path)).await?;
                (Arc::new(opened?) as Arc<dyn Journal>, None)
            }
        };
        let holder = format!("{computer}/{}", std::process::id());
        Ok(Self { whole, leases, holder, held: Vec::new(), keepers: JoinSet::new() })
    }

    /// The journal, for what every process may write.
    pub(crate) const fn whole(&self) -> &Arc<dyn Journal> {
        &self.whole
    }

    /// Whether other processes may write to it.
    pub(crate) const fn is_shared(&self) -> bool {
        self.leases.is_some()
    }

    /// The journal for a service of this process, once no other process runs it.
    pub(crate) async fn of(&mut self, service: Service) -> Result<Arc<dyn Journal>> {
        let Some(leases) = &self.leases else { return Ok(Arc::clone(&self.whole)) };
        let lease = acquire(leases, service, &self.holder).await?;
        let kept = lease.clone();
        self.keepers.spawn(async move { (service, kept.keep().await) });
        self.held.push((service, lease.clone()));
        Ok(Arc::new(Fenced::new(Arc::clone(&self.whole), lease)))
    }

    /// Answers when this process has lost a service to another: it has to stop.
    pub(crate) async fn lost(&mut self) -> anyhow::Error {
        match self.keepers.join_next().await {
            Some(Ok((service, standing))) => anyhow::anyhow!(
                "another process may run a service of this one. service=`{}`, lease=`{standing:?}`",
                service.name()
            ),
            Some(Err(error)) => anyhow::Error::new(error).context("a lease is not kept"),
            None => std::future::pending().await,
        }
    }

    /// Lets the services go, so that another process need not wait.
    pub(crate) async fn release(&mut self) {
        for (service, lease) in self.held.drain(..) {
            if let Err(error) = lease.release().await {
                let service = service.name();
                tracing::warn!(service, %error, "lease not released; it ends by itself");
            }
        }
        self.keepers.shutdown().await;
    }
}

/// The lease of a service. Waits for what a killed process left, not for one that goes on.
async fn acquire(leases: &Leases, service: Service, holder: &str) -> Result<Lease> {
    let service = service.name();
    let duty: Duty = format!("service/{service}").parse()?;
    match leases.acquire(&duty, holder).await {
        Err(LeaseError::Held { holder, .. }) => {
            tracing::warn!(service, holder, "waiting for a lease");
        }
        outcome => return outcome.context(service),
    }
    if let Ok(outcome) = tokio::time::timeout(WAIT, leases.contend(&duty, holder)).await {
        return outcome.context(service);
    }
    let owner = leases.ownership(&duty).await.context(service)?.owner;
    let owner = owner.map(|owner| owner.holder).unwrap_or_default();
    bail!("service runs in another process. service=`{service}`, process=`{owner}`")
}

async fn connect(url: &str, config: &Config) -> Result<PostgresJournal> {
    let mut settings = PostgresSettings::default();
    if let Some(schema) = &config.journal_schema {
        settings.schema.clone_from(schema);
    }
    let Some(authority) = &config.journal_ca else {
        return Ok(PostgresJournal::connect(url, &settings).await?);
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(authority)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| anyhow::anyhow!("{error}"))
        .with_context(|| format!("journal_ca {}", authority.display()))?;
    for certificate in certificates {
        roots.add(certificate).with_context(|| format!("journal_ca {}", authority.display()))?;
    }
    if roots.is_empty() {
        bail!("no certificate in the file. path=`{}`", authority.display());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(PostgresJournal::connect_tls(url, &settings, Arc::new(tls)).await?)
}
