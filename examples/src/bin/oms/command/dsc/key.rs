//! Registration keys of the pull server.

use super::{Output, absolute};
use crate::data::read_secret;
use crate::suite::Suite;
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use oms_core::{Clock as _, SystemClock};
use oms_dsc::pull_server::{
    ConfigurationPattern, NewRegistrationKey, RegistrationKey, RegistrationKeyState, RevokeOptions,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum Key {
    /// Makes a key and shows it, once.
    Make(Make),
    /// Lists the keys, without what would let anyone use them.
    List,
    /// Revokes a key: nobody registers with it any more. Nodes that did stay.
    Revoke {
        /// The key's id in `oms dsc key list`.
        id: String,
        /// Take out the nodes that registered with it, too.
        #[arg(long)]
        remove_nodes: bool,
    },
}

/// A key to make.
#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct Make {
    /// What nodes may register for with it: a configuration, or Site.* for all whose names begin so;
    /// may be given several times. Without it, anything.
    #[arg(long, value_name = "PATTERN")]
    configuration: Vec<String>,
    /// After how many days it expires; never without it. Nodes that registered stay.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(1..))]
    expires_in_days: Option<u16>,
    /// What it is for.
    #[arg(long, default_value = "")]
    description: String,
    /// A file that holds the key, such as one line of a Windows server's RegistrationKeys.txt; a key
    /// is drawn without it.
    #[arg(long)]
    key_file: Option<PathBuf>,
}

impl Key {
    pub(super) fn absolute(&mut self) -> Result<()> {
        match self {
            Self::Make(make) => absolute(&mut make.key_file),
            Self::List | Self::Revoke { .. } => Ok(()),
        }
    }

    pub(super) async fn run(&self, suite: &Suite) -> Result<Output> {
        match self {
            Self::Make(new) => make(suite, new).await,
            Self::List => list(suite).await,
            Self::Revoke { id, remove_nodes } => revoke(suite, id, *remove_nodes).await,
        }
    }
}

async fn make(suite: &Suite, make: &Make) -> Result<Output> {
    let patterns = make.configuration.iter().map(|pattern| pattern.parse());
    let configurations = patterns.collect::<Result<Vec<ConfigurationPattern>, _>>()?;
    let days =
        make.expires_in_days.map(|days| jiff::SignedDuration::from_hours(24 * i64::from(days)));
    let expires = days.map(|days| SystemClock.now().checked_add(days)).transpose()?;
    let key = make.key_file.as_deref().map(read_secret).transpose()?;
    let description = make.description.clone();
    let new = NewRegistrationKey { key, description, configurations, expires };
    let (made, secret) = suite.dsc()?.make_registration_key(new).await?;
    let secret = secret.expose_text().context("the key is not text")?;
    let mut json = about(&made);
    let text = match make.key_file.is_some() {
        // Whoever gave it has it.
        true => format!("key {} is kept: {}\n", made.id, said(&made)),
        false => {
            json["key"] = secret.into();
            format!("key {} is kept: {}\n{secret}\nIt is not shown again.\n", made.id, said(&made))
        }
    };
    Ok(Output::new(text, json))
}

async fn list(suite: &Suite) -> Result<Output> {
    let (mut text, mut rows) = (String::new(), Vec::new());
    for key in suite.dsc()?.registration_keys().await? {
        text.push_str(&format!("{}  {}  {}\n", key.id, said(&key), key.description));
        rows.push(about(&key));
    }
    if rows.is_empty() {
        text.push_str("no key is kept; that of admin.json is good for anything\n");
    }
    Ok(Output::new(text, json!(rows)))
}

async fn revoke(suite: &Suite, id: &str, removes_nodes: bool) -> Result<Output> {
    let server = suite.dsc()?;
    let done = server.revoke_registration_key(id.parse()?, RevokeOptions { removes_nodes }).await?;
    let mut text = format!("key {} was revoked\n", done.key.id);
    if removes_nodes {
        text.push_str(&format!("{} nodes were removed\n", done.nodes_removed));
    }
    let mut json = about(&done.key);
    json["nodes_removed"] = done.nodes_removed.into();
    Ok(Output::new(text, json))
}

/// In words: whether it is good, for what, until when.
fn said(key: &RegistrationKey) -> String {
    let scope: Vec<&str> = key.configurations.iter().map(ConfigurationPattern::as_str).collect();
    let scope = if scope.is_empty() { "anything".to_owned() } else { scope.join(", ") };
    let end = match (key.revoked, key.expires) {
        (Some(revoked), _) => format!("revoked {revoked:.0}"),
        (None, Some(expires)) if key.has_expired(SystemClock.now()) => {
            format!("expired {expires:.0}")
        }
        (None, Some(expires)) => format!("until {expires:.0}"),
        (None, None) => "for ever".to_owned(),
    };
    format!("for {scope}, {end}")
}

fn about(key: &RegistrationKey) -> Value {
    let is_active = key.state == RegistrationKeyState::Active;
    json!({
        "id": key.id, "state": format!("{:?}", key.state), "description": key.description,
        "configurations": key.configurations, "created": key.created, "expires": key.expires,
        "revoked": key.revoked, "is_good": is_active && !key.has_expired(SystemClock.now()),
    })
}
