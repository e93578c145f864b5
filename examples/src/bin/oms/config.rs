//! What `oms` is told by its file, its environment and its flags.
//!
//! `--config FILE` names a TOML file. An environment variable is worth more than the file, a flag
//! more than both. A key that is not known is refused with its place, so that a slip of the pen
//! does not leave a limit where it was.

use crate::logging::{self, Format};
use crate::store::{Options, Store};
use crate::suite::Service;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// The largest configuration file, in bytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Where it listens if nobody says otherwise.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8089);

/// Everything that can be set. A key that is not given leaves what the service has by itself.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<PathBuf>,
    /// `sqlite`, or a `postgres://` address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) journal: Option<String>,
    /// The schema of the PostgreSQL database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) journal_schema: Option<String>,
    /// Certificates in PEM that vouch for the PostgreSQL server; with it the connection is TLS,
    /// which a server on another machine needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) journal_ca: Option<PathBuf>,
    /// Where the services' bulk data is, if not in the data directory: a directory or a `file://`
    /// address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) store: Option<String>,
    /// Folders in which runbooks' interpreters are looked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) search_path: Vec<PathBuf>,
    pub(crate) serve: Serve,
    pub(crate) log: Log,
    pub(crate) logs: Logs,
    pub(crate) automation: Automation,
    pub(crate) dsc: Dsc,
}

/// How it serves.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Serve {
    /// Address and port; port 0 takes a free one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) listen: Option<SocketAddr>,
    /// Certificate chain in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Whether clear text is served on addresses that other machines reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) insecure_http: Option<bool>,
    /// Services to run; all of them if none is given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) services: Vec<Service>,
}

/// What it tells on standard error.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// Directives such as `warn,oms_logs=debug`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) filter: Option<String>,
    /// `text` or `json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) format: Option<Format>,
}

/// The log repository's limits.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Logs {
    /// Bytes of rows that may wait for a flush.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_bytes_max: Option<u64>,
    /// Bytes of waiting rows that start a flush.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) flush_bytes: Option<u64>,
    /// Age of the oldest waiting row that starts a flush, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) flush_age_seconds: Option<u32>,
    /// Bytes of one segment of the write-ahead log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) segment_bytes_max: Option<u64>,
    /// Opens the repository also where its write-ahead log is damaged, and moves what cannot be read
    /// to `wal/quarantine`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) quarantine: Option<bool>,
    /// Where the tables are, if not in the data directory: `s3://bucket/path`, `az://container/path`
    /// or `gs://bucket/path`. The write-ahead log stays in the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) store: Option<String>,
    /// Whether other processes, each with its data directory, write to the same store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shared: Option<bool>,
    /// How often it is looked what they wrote, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refresh_seconds: Option<u32>,
    /// Keeps the write-ahead log in the store, too: the name of this process's place among the
    /// writers, which one process at a time has. It is shared then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) diskless: Option<String>,
    /// How long what goes into one object of that log is gathered, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log_interval_milliseconds: Option<u32>,
    /// What the store's provider is told.
    #[serde(skip_serializing_if = "Options::is_empty")]
    pub(crate) store_options: Options,
}

/// The account's limits.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Automation {
    /// How many jobs run at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) concurrency: Option<usize>,
    /// How many jobs may be open, waiting ones among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) open_jobs_max: Option<usize>,
}

/// The pull server's limits.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Dsc {
    /// Minutes of silence after which a node counts as unresponsive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unresponsive_after_minutes: Option<u32>,
    /// Days for which reports are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) report_retention_days: Option<u16>,
    /// Seconds by which a registration's date may differ from this machine's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) clock_window_seconds: Option<u32>,
    /// Whether what the pull server of Windows refuses is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) strict: Option<bool>,
}

impl Config {
    /// What the file and the environment say; the defaults if there is no file.
    pub(crate) fn load(
        file: Option<&Path>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let mut config = match file {
            Some(path) => Self::read(path)?,
            None => Self::default(),
        };
        config.take_environment(variable)?;
        Ok(config)
    }

    fn read(path: &Path) -> Result<Self> {
        let named = || format!("configuration {}", path.display());
        let length = std::fs::metadata(path).with_context(named)?.len();
        if length > CONFIG_BYTES_MAX {
            bail!("{} is too large. bytes=`{length}`, limit=`{CONFIG_BYTES_MAX}`", named());
        }
        let text = std::fs::read_to_string(path).with_context(named)?;
        Self::parse(&text).with_context(named)
    }

    fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| anyhow::anyhow!("{}", error.to_string().trim_end()))
    }

    /// `OMS_LOGS_FLUSH_BYTES` for `logs.flush_bytes`, and so on. The variables that stand for flags
    /// are read with the flags.
    fn take_environment(&mut self, variable: impl Fn(&str) -> Option<String>) -> Result<()> {
        let take = Take { variable: &variable };
        take.one("OMS_JOURNAL", &mut self.journal)?;
        take.one("OMS_JOURNAL_SCHEMA", &mut self.journal_schema)?;
        take.one("OMS_JOURNAL_CA", &mut self.journal_ca)?;
        take.one("OMS_STORE", &mut self.store)?;
        take.one("OMS_INSECURE_HTTP", &mut self.serve.insecure_http)?;
        take.one("RUST_LOG", &mut self.log.filter)?;
        take.one("OMS_LOGS_MEMORY_BYTES_MAX", &mut self.logs.memory_bytes_max)?;
        take.one("OMS_LOGS_FLUSH_BYTES", &mut self.logs.flush_bytes)?;
        take.one("OMS_LOGS_FLUSH_AGE_SECONDS", &mut self.logs.flush_age_seconds)?;
        take.one("OMS_LOGS_SEGMENT_BYTES_MAX", &mut self.logs.segment_bytes_max)?;
        take.one("OMS_LOGS_QUARANTINE", &mut self.logs.quarantine)?;
        take.one("OMS_LOGS_STORE", &mut self.logs.store)?;
        take.one("OMS_LOGS_SHARED", &mut self.logs.shared)?;
        take.one("OMS_LOGS_REFRESH_SECONDS", &mut self.logs.refresh_seconds)?;
        take.one("OMS_LOGS_DISKLESS", &mut self.logs.diskless)?;
        let interval = &mut self.logs.log_interval_milliseconds;
        take.one("OMS_LOGS_LOG_INTERVAL_MILLISECONDS", interval)?;
        take.one("OMS_AUTOMATION_CONCURRENCY", &mut self.automation.concurrency)?;
        take.one("OMS_AUTOMATION_OPEN_JOBS_MAX", &mut self.automation.open_jobs_max)?;
        let silent = &mut self.dsc.unresponsive_after_minutes;
        take.one("OMS_DSC_UNRESPONSIVE_AFTER_MINUTES", silent)?;
        take.one("OMS_DSC_REPORT_RETENTION_DAYS", &mut self.dsc.report_retention_days)?;
        take.one("OMS_DSC_CLOCK_WINDOW_SECONDS", &mut self.dsc.clock_window_seconds)?;
        take.one("OMS_DSC_STRICT", &mut self.dsc.strict)?;
        Ok(())
    }

    /// The same with the defaults of what this program itself decides; what is left out is for the
    /// services.
    pub(crate) fn effective(&self, is_serving: bool) -> Self {
        let mut whole = self.clone();
        whole.data.get_or_insert_with(|| PathBuf::from("oms-data"));
        whole.journal.get_or_insert_with(|| "sqlite".to_owned());
        whole.serve.listen.get_or_insert(LISTEN);
        whole.serve.insecure_http.get_or_insert(false);
        if whole.serve.services.is_empty() {
            whole.serve.services = Service::ALL.to_vec();
        }
        whole.log.filter = Some(self.log_filter(is_serving));
        whole.log.format.get_or_insert_default();
        whole
    }

    /// Refuses what this build cannot do, by name.
    pub(crate) fn check(&self) -> Result<()> {
        match self.journal.as_deref() {
            Some(url) if is_postgres(url) => {}
            None | Some("sqlite") => {
                let (schema, authority) =
                    (self.journal_schema.is_some(), self.journal_ca.is_some());
                for (is_set, key) in [(schema, "journal_schema"), (authority, "journal_ca")] {
                    if is_set {
                        bail!("setting is for a journal in PostgreSQL only. key=`{key}`");
                    }
                }
            }
            Some(other) => {
                let shown = redacted(other);
                bail!("no such journal; `sqlite` or a `postgres://` address. journal=`{shown}`")
            }
        }
        if let Some(store) = &self.store {
            store_folder(store)?;
        }
        self.logs.check()
    }

    /// Where the journal is, if it is in PostgreSQL.
    pub(crate) fn postgres_url(&self) -> Option<&str> {
        self.journal.as_deref().filter(|journal| is_postgres(journal))
    }

    /// The folder of `store`, if one is set.
    pub(crate) fn store_folder(&self) -> Result<Option<PathBuf>> {
        self.store.as_deref().map(store_folder).transpose()
    }

    /// The log filter, with what is told if nobody says otherwise.
    pub(crate) fn log_filter(&self, is_serving: bool) -> String {
        let unset = if is_serving { logging::SERVING } else { logging::QUIET };
        self.log.filter.clone().unwrap_or_else(|| unset.to_owned())
    }

    /// The configuration as a file, without passwords.
    pub(crate) fn shown(&self) -> Result<String> {
        let mut shown = self.clone();
        shown.journal = shown.journal.map(|journal| redacted(&journal));
        shown.store = shown.store.map(|store| redacted(&store));
        shown.logs.store = shown.logs.store.map(|store| redacted(&store));
        for value in shown.logs.store_options.values_mut() {
            *value = "***".to_owned();
        }
        Ok(toml::to_string_pretty(&shown)?)
    }
}

impl Logs {
    /// The object store of the tables, if they are in one.
    pub(crate) fn object_store(&self) -> Result<Option<Store>> {
        let parse = |address: &String| Store::parse(address, &self.store_options);
        self.store.as_ref().map(parse).transpose().context("logs.store")
    }

    fn check(&self) -> Result<()> {
        if self.object_store()?.is_some() {
            return Ok(());
        }
        let shared = self.shared.unwrap_or(false);
        let options = !self.store_options.is_empty();
        for (is_set, key) in [
            (shared, "shared"),
            (options, "store_options"),
            (self.refresh_seconds.is_some(), "refresh_seconds"),
            (self.diskless.is_some(), "diskless"),
            (self.log_interval_milliseconds.is_some(), "log_interval_milliseconds"),
        ] {
            if is_set {
                bail!("setting is for tables in an object store only. key=`logs.{key}`");
            }
        }
        Ok(())
    }
}

/// Takes variables into settings.
struct Take<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Take<'_> {
    fn one<T>(&self, name: &str, into: &mut Option<T>) -> Result<()>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        let Some(text) = (self.variable)(name).filter(|text| !text.is_empty()) else {
            return Ok(());
        };
        let value = text.parse().map_err(|error| {
            anyhow::anyhow!("environment variable refused: {error}. name=`{name}`")
        })?;
        *into = Some(value);
        Ok(())
    }
}

fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// The folder that a store's address names.
fn store_folder(store: &str) -> Result<PathBuf> {
    let path = match store.split_once("://") {
        None => PathBuf::from(store),
        Some(("file", path)) if path.starts_with('/') => PathBuf::from(path),
        Some(("file", _)) => {
            bail!("store address names no absolute path. store=`{}`", redacted(store))
        }
        Some((scheme, _)) => bail!(
            "only folders are stores of every service; the tables of the log repository may be in \
             `logs.store`. scheme=`{scheme}`, store=`{}`",
            redacted(store)
        ),
    };
    Ok(std::path::absolute(path)?)
}

/// An address without what stands before its host, nor its query: both may hold secrets.
fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}{path}"),
        None => format!("{scheme}://{authority}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: fn(&str) -> Option<String> = |_| None;

    #[test]
    fn a_file_sets_and_the_environment_overrides_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("oms.toml");
        let text = "data = \"d\"\n[serve]\nlisten = \"127.0.0.1:1\"\nservices = [\"logs\"]\n\
                    [logs]\nflush_bytes = 5\nmemory_bytes_max = 6\n[log]\nformat = \"json\"\n";
        std::fs::write(&file, text).expect("written");
        let variable = |name: &str| match name {
            "OMS_LOGS_FLUSH_BYTES" => Some("7".to_owned()),
            "OMS_STORE" => Some(String::new()),
            "OMS_INSECURE_HTTP" => Some("true".to_owned()),
            _ => None,
        };
        let config = Config::load(Some(&file), variable).expect("a configuration");
        assert_eq!(config.data.as_deref(), Some(Path::new("d")));
        assert_eq!(config.store, None, "an empty variable says nothing");
        assert_eq!(config.serve.listen, Some("127.0.0.1:1".parse().expect("an address")));
        assert_eq!(config.serve.insecure_http, Some(true));
        assert_eq!(config.serve.services, [Service::Logs]);
        assert_eq!((config.logs.flush_bytes, config.logs.memory_bytes_max), (Some(7), Some(6)));
        assert_eq!(config.log.format, Some(Format::Json));
        let again = Config::parse(&config.shown().expect("shown")).expect("reads what it shows");
        assert_eq!(again, config);
    }

    #[test]
    fn the_example_of_the_readme_is_a_configuration_of_every_key() {
        let readme = include_str!("../../../../README.md");
        let (_, section) = readme.split_once("\n## Run it\n").expect("its section");
        let (_, block) = section.split_once("```toml\n").expect("an example");
        let (text, _) = block.split_once("```").expect("its end");
        let config = Config::parse(text).expect("a configuration");
        config.check().expect("this build can do it");
        assert_eq!(config.effective(true), config, "no key is left out");
        assert!(
            config.logs.flush_age_seconds.is_some() && config.dsc.report_retention_days.is_some()
        );
    }

    #[test]
    fn a_key_or_value_that_is_not_known_is_refused_with_its_place() {
        for (text, place, name) in [
            ("data = \"d\"\nlissen = 1\n", "line 2", "lissen"),
            ("[serve]\n\nlisten = \"nowhere\"\n", "line 3", "listen"),
            ("[serve]\nservices = [\"dns\"]\n", "line 2", "dns"),
            ("[logs]\nflush_bytes = -1\n", "line 2", "-1"),
            ("[nothing]\n", "line 1", "nothing"),
            ("data = ", "line 1", "data"),
        ] {
            let error = format!("{:#}", Config::parse(text).expect_err("refused"));
            assert!(error.contains(place) && error.contains(name), "{text}: {error}");
        }
        let variable = |name: &str| (name == "OMS_LOGS_FLUSH_BYTES").then(|| "many".to_owned());
        let error = format!("{:#}", Config::load(None, variable).expect_err("refused"));
        assert!(error.contains("OMS_LOGS_FLUSH_BYTES"), "{error}");
        let missing = Config::load(Some(Path::new("/nowhere.toml")), NONE).expect_err("missing");
        assert!(format!("{missing:#}").contains("/nowhere.toml"));
    }

    #[test]
    fn what_this_build_cannot_do_is_refused_by_name_and_without_passwords() {
        let with = |text: &str| Config::parse(text).expect("a configuration");
        let refused = |text: &str| format!("{:#}", with(text).check().expect_err("refused"));
        assert!(with("journal = \"sqlite\"").check().is_ok());
        let postgres = "journal = \"postgres://me:hunter2@host:5432/db?password=hunter2\"";
        assert!(with(postgres).check().is_ok());
        let shown = with(postgres).shown().expect("shown");
        assert!(shown.contains("@host:5432/db") && !shown.contains("hunter2"), "{shown}");
        assert!(refused("journal_ca = \"ca.pem\"").contains("key=`journal_ca`"));
        assert!(refused("journal = \"sqlite\"\njournal_schema = \"s\"").contains("journal_schema"));
        assert!(refused("journal = \"etcd\"").contains("etcd"));
        assert!(refused("store = \"s3://key:hunter2@bucket\"").contains("scheme=`s3`"));
        assert!(refused("store = \"file://relative\"").contains("absolute"));
        let local = with("store = \"file:///var/oms\"").store_folder().expect("a folder");
        assert_eq!(local, Some(PathBuf::from("/var/oms")));
    }

    #[test]
    fn tables_in_an_object_store_are_configured_without_a_secret_that_shows() {
        let with = |text: &str| Config::parse(text).expect("a configuration");
        let store = "[logs]\nstore = \"s3://bucket/logs\"\nshared = true\nrefresh_seconds = 2\n\
                     [logs.store_options]\nendpoint = \"http://127.0.0.1:9000\"\n\
                     secret_access_key = \"hunter2\"\n";
        assert!(with(store).check().is_ok());
        let shown = with(store).shown().expect("shown");
        assert!(shown.contains("s3://bucket/logs") && !shown.contains("hunter2"), "{shown}");
        let refused = |text: &str| format!("{:#}", with(text).check().expect_err("refused"));
        assert!(refused("[logs]\nstore = \"https://host/logs\"").contains("scheme=`https`"));
        assert!(refused("[logs]\nshared = true").contains("key=`logs.shared`"));
        assert!(refused("[logs]\nrefresh_seconds = 2").contains("key=`logs.refresh_seconds`"));
        assert!(refused("[logs]\ndiskless = \"a\"").contains("key=`logs.diskless`"));
        assert!(refused("store = \"s3://bucket\"").contains("logs.store"));
        let options = "[logs]\nstore = \"gs://bucket\"\n[logs.store_options]\npassword = \"x\"";
        assert!(refused(options).contains("option=`password`"));
    }
}
