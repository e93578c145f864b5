//! The way to the server: what is allowed on it, and how a session is prepared.

use super::schema::Schema;
use super::tls::MakeRustls;
use super::{PostgresSettings, column, describe, failure};
use crate::journal::JournalError;
use rustls::ClientConfig;
use std::fmt;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Socket};

/// How long one attempt to connect may take, unless the URL says otherwise.
const CONNECT_SECONDS_MAX: u64 = 5;

/// After how long without an answer from the network a connection counts as lost, unless the URL
/// says otherwise.
const SILENCE_SECONDS_MAX: u64 = 30;

/// What every session is set to. A process that stops in the middle of its transaction loses the
/// session and with it the lock; whoever waits for the lock longer than that gives up, so that no
/// call waits for ever. All queries find their rows by an index, which the planner cannot know of
/// tables that are still small. What it is told to avoid and cannot (the one row of `log`) it takes
/// for so costly that it would compile each such query, in 30 ms.
const SESSION: &str = "
    SET lock_timeout = '20s';
    SET idle_in_transaction_session_timeout = '10s';
    SET client_min_messages = 'warning';
    SET enable_seqscan = off;
    SET enable_hashjoin = off;
    SET enable_mergejoin = off;
    SET jit = off;
";

/// Where the journal is.
pub(super) struct Server {
    config: Config,
    tls: Option<MakeRustls>,
    pub(super) schema: Schema,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("hosts", &self.config.get_hosts())
            .field("ports", &self.config.get_ports())
            .field("database", &self.config.get_dbname())
            .field("schema", &self.schema)
            .field("is_encrypted", &self.tls.is_some())
            .finish()
    }
}

impl Server {
    pub(super) fn new(
        url: &str,
        settings: &PostgresSettings,
        tls: Option<Arc<ClientConfig>>,
    ) -> Result<Self, JournalError> {
        let schema = Schema::new(&settings.schema)?;
        let mut config: Config =
            url.parse().map_err(|error| JournalError::Setup { reason: describe(&error) })?;
        let refuse = |reason: &str| Err(JournalError::Setup { reason: reason.to_owned() });
        match &tls {
            Some(_) => {
                config.ssl_mode(SslMode::Require);
            }
            None if config.get_ssl_mode() == SslMode::Require => {
                return refuse("the URL asks for TLS, and none was given");
            }
            None if !is_local(&config) => {
                return refuse("clear text to another machine than this one is not supported");
            }
            None => {
                config.ssl_mode(SslMode::Disable);
            }
        }
        if config.get_application_name().is_none() {
            config.application_name("oms-journal");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(CONNECT_SECONDS_MAX));
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(Duration::from_secs(SILENCE_SECONDS_MAX));
        }
        config
            .keepalives_idle(Duration::from_secs(SILENCE_SECONDS_MAX / 3))
            .keepalives_interval(Duration::from_secs(SILENCE_SECONDS_MAX / 6))
            .keepalives_retries(4)
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        Ok(Self { config, tls: tls.map(MakeRustls), schema })
    }

    /// A session that is prepared for the journal's queries.
    pub(super) async fn connect(&self) -> Result<Client, JournalError> {
        self.listen(|_unasked| {}).await.map(|(client, _driver)| client)
    }

    /// The same, with what is done with the text of each notification, and the task that ends
    /// with the connection.
    pub(super) async fn listen(
        &self,
        told: impl Fn(&str) + Send + 'static,
    ) -> Result<(Client, JoinHandle<()>), JournalError> {
        let (client, driver) = match &self.tls {
            Some(tls) => self.start(tls.clone(), told).await?,
            None => self.start(NoTls, told).await?,
        };
        prepare(&client).await?;
        Ok((client, driver))
    }

    async fn start<T>(
        &self,
        tls: T,
        told: impl Fn(&str) + Send + 'static,
    ) -> Result<(Client, JoinHandle<()>), JournalError>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
    {
        let (client, mut connection) =
            self.config.connect(tls).await.map_err(|error| failure(&error))?;
        let driver = tokio::spawn(async move {
            while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
                match message {
                    Ok(AsyncMessage::Notification(notification)) => told(notification.payload()),
                    Ok(_notice) => {}
                    // Whoever waits for an answer on it is told; this is for those who look on.
                    Err(error) => {
                        tracing::debug!(error = describe(&error), "journal connection lost");
                        return;
                    }
                }
            }
        });
        Ok((client, driver))
    }
}

/// Whether every address of it is on this machine.
fn is_local(config: &Config) -> bool {
    let addresses = config.get_hostaddrs();
    if !addresses.is_empty() {
        return addresses.iter().all(IpAddr::is_loopback);
    }
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_path) => true,
    })
}

/// Sets the session, and refuses a server on which an acknowledgement would mean nothing.
async fn prepare(client: &Client) -> Result<(), JournalError> {
    let query = "SELECT pg_catalog.current_setting('fsync'),
         pg_catalog.current_setting('server_encoding'),
         pg_catalog.current_setting('synchronous_commit')";
    let rows = client.query(query, &[]).await.map_err(|error| failure(&error))?;
    let Some(row) = rows.first() else {
        let reason = "the server answered nothing about its settings".to_owned();
        return Err(JournalError::Unavailable { reason });
    };
    let (fsync, encoding, synchronous): (String, String, String) =
        (column(row, 0)?, column(row, 1)?, column(row, 2)?);
    if fsync != "on" {
        let reason = "the server runs with fsync = off, so that nothing is durable".to_owned();
        return Err(JournalError::Setup { reason });
    }
    if encoding != "UTF8" {
        let reason = format!("the database's encoding is {encoding}, not UTF8");
        return Err(JournalError::Setup { reason });
    }
    client.batch_execute(SESSION).await.map_err(|error| failure(&error))?;
    // Every other value waits for the sync of the local disk at least.
    if synchronous == "off" {
        let query = "SET synchronous_commit = on";
        client.batch_execute(query).await.map_err(|error| failure(&error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(url: &str) -> String {
        match Server::new(url, &PostgresSettings::default(), None) {
            Err(JournalError::Setup { reason }) => reason,
            other => panic!("expected a refusal of {url}, got {other:?}"),
        }
    }

    #[test]
    fn clear_text_stays_on_this_machine() {
        for url in [
            "postgresql://oms@127.0.0.1/a",
            "postgresql://oms@[::1]:5433/a",
            "postgresql://oms@localhost/a",
            "host=/run/postgresql user=oms",
            "host=example.org hostaddr=127.0.0.1 user=oms",
        ] {
            assert!(Server::new(url, &PostgresSettings::default(), None).is_ok(), "{url}");
        }
        for url in [
            "postgresql://oms@example.org/a",
            "postgresql://oms@127.0.0.1,10.0.0.1/a",
            "host=localhost hostaddr=10.0.0.1 user=oms",
        ] {
            assert!(reason(url).contains("clear text"), "{url}");
        }
        assert!(reason("postgresql://oms@127.0.0.1/a?sslmode=require").contains("TLS"));
        assert!(!reason("http://example.org").is_empty());
    }

    #[test]
    fn debug_shows_no_password() {
        let url = "postgresql://oms:hunter2@127.0.0.1/a";
        let server = Server::new(url, &PostgresSettings::default(), None).expect("a URL");
        let shown = format!("{server:?}");
        assert!(shown.contains("127.0.0.1") && !shown.contains("hunter2"), "{shown}");
    }
}
