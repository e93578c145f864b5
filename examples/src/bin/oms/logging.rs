//! What the process tells on standard error.

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::io::stderr;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// What commands tell unless they are asked for more.
pub(crate) const QUIET: &str = "warn";

/// What a serving process tells: what its own crates do, and what goes wrong elsewhere.
pub(crate) const SERVING: &str = "warn,oms=info,oms_core=info,oms_logs=info,oms_automation=info,\
                                  oms_dsc=info,oms_backup=info,oms_recovery=info";

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Begins to log. A span is one line, with its fields and its duration, when it ends.
pub(crate) fn start(filter: &str, format: Format) -> Result<()> {
    let filter: EnvFilter = filter.parse().with_context(|| format!("log filter `{filter}`"))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_span_events(FmtSpan::CLOSE);
    let started = match format {
        Format::Text => subscriber.with_ansi(false).try_init(),
        Format::Json => subscriber.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("no log: {error}"))
}
