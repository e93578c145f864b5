//! What a node runs against what it would get.

use super::PullServer;
use crate::Error;
use crate::configuration::{Configuration, ResourceChange};
use crate::protocol::{AgentId, Checksum, ClientStatus, ConfigurationName};
use oms_core::ErrorKind;
use serde::Serialize;
use std::collections::BTreeMap;

use super::node::Node;

/// One configuration of a node: what it runs against what it would get.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationDifference {
    /// Which.
    pub name: ConfigurationName,
    /// What the node said that it has, when it asked last since the server's start; none if it has
    /// nothing, or has not asked.
    pub running: Option<Checksum>,
    /// What it would get; none if nothing is published under the name.
    pub published: Option<Checksum>,
    /// What that would change; none if what it runs was not published here, so that it is not known.
    pub changes: Option<Vec<ResourceChange>>,
}

impl PullServer {
    /// The node that a name means: its handle ([`Node::handle`]), the name of its computer, or its
    /// AgentId.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] with the handles, if several computers have the name;
    /// [`Error::Journal`].
    pub async fn find_node(&self, name: &str) -> Result<Node, Error> {
        let agent_id = name.parse::<AgentId>().ok();
        let is_meant = |node: &Node| {
            node.agent.node_name.eq_ignore_ascii_case(name)
                || node.handle().eq_ignore_ascii_case(name)
                || agent_id == Some(node.agent_id)
        };
        let mut found: Vec<Node> = self.nodes().await?.into_iter().filter(is_meant).collect();
        match (found.pop(), found.len()) {
            (Some(node), 0) => Ok(node),
            (Some(node), _) => {
                let handles: Vec<String> = found.iter().chain([&node]).map(Node::handle).collect();
                let reason = format!("`{name}` are several: {}", handles.join(", "));
                Err(Error::Invalid { what: "node", reason })
            }
            (None, _) => Err(Error::NotFound { what: "node", name: name.to_owned() }),
        }
    }

    /// What each configuration of a node would change if it were fetched now.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Corrupt`], [`Error::Disk`], [`Error::Journal`].
    pub async fn diff(&self, agent_id: AgentId) -> Result<Vec<ConfigurationDifference>, Error> {
        let node = self.node(agent_id).await?;
        let said = self.nodes.running(agent_id);
        let mut differences = Vec::new();
        for name in node.configuration_names() {
            let published = self.library.configuration(name).map(|published| published.checksum);
            let running = said.get(&name.key()).copied();
            let changes = match (running, published) {
                (running, published) if running == published => Some(Vec::new()),
                (Some(running), Some(published)) => {
                    let newer = self.parsed(name, published).await?;
                    match self.parsed(name, running).await {
                        Ok(older) => Some(older.changes_to(&newer)),
                        Err(error) if error.kind() == ErrorKind::NotFound => None,
                        Err(error) => return Err(error),
                    }
                }
                _ => None,
            };
            let name = name.clone();
            differences.push(ConfigurationDifference { name, running, published, changes });
        }
        Ok(differences)
    }

    async fn parsed(
        &self,
        name: &ConfigurationName,
        checksum: Checksum,
    ) -> Result<Configuration, Error> {
        Configuration::parse(name.as_str(), &self.content(checksum).await?)
    }
}

/// What a node says that it has, by the key of each name.
pub(super) fn running(node: &Node, told: &[ClientStatus]) -> BTreeMap<String, Checksum> {
    let only = match node.configuration_names() {
        [only] => Some(only.key()),
        _ => None,
    };
    let pairs = told.iter().filter_map(|status| {
        let named = status.configuration_name.as_deref().filter(|name| !name.is_empty());
        let key = named.map(str::to_lowercase).or_else(|| only.clone())?;
        Some((key, status.checksum.trim().parse().ok()?))
    });
    pairs.collect()
}
