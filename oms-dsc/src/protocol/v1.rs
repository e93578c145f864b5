//! Version 1 of the protocol: nodes that are known by a `ConfigurationId` alone. See
//! \[MS-DSCPM\] 3.1 to 3.5.
//!
//! The id is the node's name, its configuration's name and its credential in one. Newer clients
//! use these addresses too, with `ProtocolVersion: 2.0`.

use super::encode;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a client of version 1 asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Operation {
    /// `POST Action(ConfigurationId='…')/GetAction`
    GetAction {
        /// Who asks.
        configuration_id: Uuid,
    },
    /// `GET Action(ConfigurationId='…')/ConfigurationContent`
    GetConfiguration {
        /// Who asks.
        configuration_id: Uuid,
    },
    /// `GET Module(ConfigurationId='…',ModuleName='…',ModuleVersion='…')/ModuleContent`
    GetModule {
        /// Who asks.
        configuration_id: Uuid,
        /// Which module.
        module_name: String,
        /// Which version; empty means the newest.
        module_version: String,
    },
    /// `POST Node(ConfigurationId='…')/SendStatusReport`
    SendStatusReport {
        /// Who reports.
        configuration_id: Uuid,
    },
    /// `GET Node(ConfigurationId='…')/StatusReports`, or `…/Reports(JobId='…')`
    GetStatusReports {
        /// Whose reports.
        configuration_id: Uuid,
        /// Which one; without it, all.
        job_id: Option<super::JobId>,
    },
}

impl Operation {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::GetAction { .. } => "GetAction",
            Self::GetConfiguration { .. } => "GetConfiguration (version 1)",
            Self::GetModule { .. } => "GetModule (version 1)",
            Self::SendStatusReport { .. } => "SendStatusReport",
            Self::GetStatusReports { .. } => "GetStatusReports",
        }
    }

    pub(super) const fn method(&self) -> &'static str {
        match self {
            Self::GetAction { .. } | Self::SendStatusReport { .. } => "POST",
            Self::GetConfiguration { .. }
            | Self::GetModule { .. }
            | Self::GetStatusReports { .. } => "GET",
        }
    }

    pub(super) fn path(&self) -> String {
        let key = |id: &Uuid| format!("ConfigurationId='{}'", id.to_string().to_uppercase());
        match self {
            Self::GetAction { configuration_id } => {
                format!("Action({})/GetAction", key(configuration_id))
            }
            Self::GetConfiguration { configuration_id } => {
                format!("Action({})/ConfigurationContent", key(configuration_id))
            }
            Self::GetModule { configuration_id, module_name, module_version } => format!(
                "Module({},ModuleName='{}',ModuleVersion='{}')/ModuleContent",
                key(configuration_id),
                encode(module_name),
                encode(module_version)
            ),
            Self::SendStatusReport { configuration_id } => {
                format!("Node({})/SendStatusReport", key(configuration_id))
            }
            Self::GetStatusReports { configuration_id, job_id: None } => {
                format!("Node({})/StatusReports", key(configuration_id))
            }
            Self::GetStatusReports { configuration_id, job_id: Some(job_id) } => {
                format!("Node({})/Reports(JobId='{job_id}')", key(configuration_id))
            }
        }
    }

    /// Whose request it is.
    pub(crate) const fn configuration_id(&self) -> Uuid {
        match self {
            Self::GetAction { configuration_id }
            | Self::GetConfiguration { configuration_id }
            | Self::GetModule { configuration_id, .. }
            | Self::SendStatusReport { configuration_id }
            | Self::GetStatusReports { configuration_id, .. } => *configuration_id,
        }
    }
}

/// The body of GetAction. Clients send every value as text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GetActionRequest {
    /// The checksum of what the node has, or empty.
    pub checksum: Option<String>,
    /// Whether it was compliant.
    pub node_compliant: serde_json::Value,
    /// `SHA-256`
    pub checksum_algorithm: Option<String>,
    /// What the last run ended with.
    pub status_code: serde_json::Value,
    /// Rarely sent.
    pub configuration_name: Option<String>,
}
