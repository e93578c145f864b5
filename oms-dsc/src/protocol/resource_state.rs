//! `GetResourceState`: what other nodes reported of a resource, for those that wait for it.
//!
//! This operation is ours: \[MS-DSCPM\] has none, and the nodes of Windows ask each other.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The most nodes that are asked about at once.
pub const NODE_NAMES_MAX: usize = 1_000;

/// Which resource, and on which nodes.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetResourceStateRequest {
    /// `[Type]Name`, compared without regard to case.
    pub resource_id: String,
    /// Names of computers, as they were told when they registered; at most [`NODE_NAMES_MAX`].
    pub node_names: Vec<String>,
}

/// What is known of each, in the order in which they were asked about; `odata.metadata` stands before it.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetResourceStateResponse {
    /// One item for each name.
    pub nodes: Vec<NodeResourceState>,
}

/// The resource on one node.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NodeResourceState {
    /// The name, as it was asked about.
    pub node_name: String,
    /// What is known.
    pub state: ReportedState,
    /// When the run ended that reported it, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<Timestamp>,
}

/// What the server knows of a resource on a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ReportedState {
    /// It was in the desired state when the node's last run ended.
    InDesiredState,
    /// It was not.
    NotInDesiredState,
    /// The node's last report does not name it, or there is none.
    NotReported,
    /// No node of that name is registered.
    UnknownNode,
    /// Several nodes of that name are, of which nobody knows which is meant.
    SeveralNodes,
}

impl ReportedState {
    /// What it is, for messages.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::InDesiredState => "in the desired state",
            Self::NotInDesiredState => "not in the desired state",
            Self::NotReported => "not reported yet",
            Self::UnknownNode => "on a node that the server does not know",
            Self::SeveralNodes => "on a name that several nodes have",
        }
    }
}
