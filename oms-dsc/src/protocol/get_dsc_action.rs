//! `GetDscAction`. See \[MS-DSCPM\] 3.9.

use serde::{Deserialize, Deserializer, Serialize};

/// What the node has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetDscActionRequest {
    /// One item for each configuration.
    pub client_status: Vec<ClientStatus>,
}

/// One configuration of the node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ClientStatus {
    /// The checksum of what it has: 64 hexadecimal digits, or empty.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub checksum: String,
    /// Its name; a node with one configuration leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_name: Option<String>,
    /// `SHA-256`
    #[serde(default, deserialize_with = "null_is_empty")]
    pub checksum_algorithm: String,
}

fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Option::<String>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// What a node should do, in the wire's spelling.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DscAction {
    /// Nothing: it has the newest.
    #[serde(rename = "Ok", alias = "OK", alias = "ok")]
    Ok,
    /// Fetch the configuration.
    GetConfiguration,
    /// Ask again with the names of its configurations (`UpdateMetaConfiguration` in the
    /// specification).
    #[serde(alias = "UpdateMetaConfiguration")]
    UpdateMetaConfig,
    /// Ask again later.
    #[serde(alias = "RETRY")]
    Retry,
}

/// The server's decision; `odata.metadata` stands before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetDscActionResponse {
    /// For the node as a whole.
    pub node_status: DscAction,
    /// For each configuration.
    #[serde(default)]
    pub details: Vec<ConfigurationStatus>,
}

/// The decision for one configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ConfigurationStatus {
    /// Which one.
    pub configuration_name: String,
    /// What to do.
    pub status: DscAction,
}
