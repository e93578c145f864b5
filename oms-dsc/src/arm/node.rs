//! `nodes` and `nodecounts`. See `dscNode.json` and `dscNodeCounts.json` of 2018-01-15.
//!
//! A node's `nodeId` is its [`handle`](Node::handle), which is the same ever after: in Azure it is the AgentId,
//! which here is a secret that whoever may read nodes must not learn. In a path either names it. A node that
//! should have several configurations shows them with commas between; `PATCH` gives it one, or with an empty
//! name none, so that rules and its registration decide again. What handles extensions of a virtual machine is
//! not known here: `extensionHandler` is empty, and no filter.

use super::filter::{Kind, Property, Value};
use super::node_configuration::{node_counts, published};
use super::request::{Answer, Request, shown};
use crate::Error;
use crate::protocol::AgentId;
use crate::pull_server::{Node, NodeState};
use http::StatusCode;
use oms_core::http::respond;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

const PROPERTIES: [Property; 5] = [
    ("name", Kind::Text),
    ("properties/nodeId", Kind::OneOf),
    ("properties/status", Kind::OneOf),
    ("properties/nodeConfiguration/name", Kind::OneOf),
    ("properties/lastSeen", Kind::Time),
];

/// `DscNodeUpdateParameters`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    node_id: Option<String>,
    properties: Properties,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    node_configuration: NodeConfiguration,
}

/// `DscNodeConfigurationAssociationProperty`
#[derive(Debug, Deserialize)]
struct NodeConfiguration {
    name: String,
}

/// `DscNodeStatus`
const fn status(state: NodeState) -> &'static str {
    match state {
        NodeState::New | NodeState::Removed | NodeState::Pending => "Pending",
        NodeState::Compliant => "Compliant",
        NodeState::NotCompliant => "NotCompliant",
        NodeState::Failed => "Failed",
        NodeState::Unresponsive => "Unresponsive",
    }
}

/// The names of what it should have, with commas between.
fn configurations(request: &Request, node: &Node) -> String {
    let names = request.server().assignment(node).configuration_names;
    let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    names.join(",")
}

fn resource(request: &Request, node: &Node) -> Json {
    let handle = node.handle();
    let address = node.agent.ip_address.split(';').map(str::trim).find(|text| !text.is_empty());
    json!({
        "id": request.id(&["nodes", &handle]),
        "name": node.agent.node_name,
        "type": "Microsoft.Automation/AutomationAccounts/Nodes",
        "properties": {
            "nodeId": handle,
            "status": status(node.state),
            "registrationTime": node.registered,
            "lastSeen": node.last_heard,
            "ip": address,
            "nodeConfiguration": {"name": configurations(request, node)},
            "extensionHandler": [],
        },
    })
}

/// The node that a path names, by its handle or its AgentId.
pub(super) async fn named(request: &Request) -> Result<Node, Error> {
    let text = request.text("nodeId");
    // Who names it by the secret is answered without it.
    let missing = || Error::NotFound {
        what: "node",
        name: text.parse::<AgentId>().map_or_else(|_handle| text.to_owned(), |_| "(its id)".into()),
    };
    if let Ok(agent_id) = text.parse() {
        return request.server().node(agent_id).await.map_err(|error| match error {
            Error::NotFound { .. } => missing(),
            error => error,
        });
    }
    let nodes = request.server().nodes().await?;
    let found = nodes.into_iter().find(|node| node.handle().eq_ignore_ascii_case(text));
    found.ok_or_else(missing)
}

/// `DscNode_ListByAutomationAccount`
pub(super) async fn list(request: Request) -> Answer {
    let filter = request.filter(&PROPERTIES)?;
    let nodes = request.server().nodes().await?;
    let keyed = nodes.into_iter().map(|node| (node.handle(), node)).collect();
    let page = request.page(keyed, &filter, |node, property| match property {
        "name" => Value::Text(node.agent.node_name.clone()),
        "properties/nodeId" => Value::Text(node.handle()),
        "properties/status" => Value::Text(status(node.state).to_owned()),
        "properties/nodeConfiguration/name" => Value::Text(configurations(&request, node)),
        _ => Value::Time(node.last_heard),
    })?;
    let shown = page.items.iter().map(|node| resource(&request, node)).collect();
    request.list(&page, shown)
}

/// `DscNode_Get`
pub(super) async fn get(request: Request) -> Answer {
    let node = named(&request).await?;
    Ok(shown(false, &resource(&request, &node)))
}

/// `DscNode_Update`
pub(super) async fn patch(request: Request) -> Answer {
    request.check_unconditional()?;
    let Parameters { node_id, properties } = request.body()?;
    let node = named(&request).await?;
    let is_other = |id: &str| {
        let is_handle = node.handle().eq_ignore_ascii_case(id);
        !is_handle && id.parse().ok() != Some(node.agent_id)
    };
    if node_id.as_deref().is_some_and(is_other) {
        let reason = "it is another than the path's".to_owned();
        return Err(Error::Invalid { what: "nodeId", reason }.into());
    }
    let wanted = properties.node_configuration.name;
    let names = match wanted.is_empty() {
        true => Vec::new(),
        false => vec![published(&request, &wanted.parse()?)?.name],
    };
    let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    let node = request.server().assign(node.agent_id, &names).await?;
    Ok(shown(false, &resource(&request, &node)))
}

/// `DscNode_Delete`: takes the node out, and answers it as it was.
pub(super) async fn delete(request: Request) -> Answer {
    request.check_unconditional()?;
    let node = named(&request).await?;
    let gone = resource(&request, &node);
    request.server().remove_node(node.agent_id).await?;
    Ok(respond::json(StatusCode::OK, &gone))
}

/// `NodeCountInformation_Get`
pub(super) async fn counts(request: Request) -> Answer {
    let counted: BTreeMap<String, u64> = match request.text("countType").to_lowercase().as_str() {
        "status" => {
            let mut counts = BTreeMap::new();
            for node in request.server().nodes().await? {
                *counts.entry(status(node.state).to_owned()).or_default() += 1;
            }
            counts
        }
        "nodeconfiguration" => {
            let counts = node_counts(&request).await?;
            let all = request.server().configurations().into_iter();
            let counted = all.filter_map(|held| {
                Some((held.name.to_string(), counts.get(&held.name.key()).copied()?))
            });
            counted.collect()
        }
        other => {
            let (what, name) = ("count of nodes", other.to_owned());
            return Err(Error::NotFound { what, name }.into());
        }
    };
    let value: Vec<Json> = counted
        .iter()
        .map(|(name, count)| json!({"name": name, "properties": {"count": count}}))
        .collect();
    let envelope = json!({"totalCount": value.len(), "value": value});
    Ok(respond::json(StatusCode::OK, &envelope))
}
