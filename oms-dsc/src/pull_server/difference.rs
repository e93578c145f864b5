//! What a node runs against what it would get.

use super::PullServer;
use super::node::Node;
use super::target::Target;
use crate::Error;
use crate::configuration::{Configuration, ConfigurationChanges, ResourceChange};
use crate::content::ContentStore;
use crate::protocol::{AgentId, Checksum, ConfigurationName};
use oms_core::ErrorKind;
use oms_core::task::blocking;
use serde::Serialize;
use std::sync::Arc;

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
    /// How many more changes there are that are not told, see [`ConfigurationChanges::omitted`].
    pub omitted: usize,
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
    /// Comparing reads both documents whole. It is done for one node at a time, so that its memory and
    /// processor stay bounded, and away from what answers nodes.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Corrupt`], [`Error::Disk`], [`Error::Journal`].
    pub async fn diff(&self, agent_id: AgentId) -> Result<Vec<ConfigurationDifference>, Error> {
        let node = self.node(agent_id).await?;
        let (targets, said) = (self.prospects(&node), self.nodes.running(agent_id));
        let turn = Arc::clone(&self.comparing).acquire_owned().await;
        let turn = turn.map_err(|closed| Error::Internal { reason: closed.to_string() })?;
        let content = self.library.content.clone();
        blocking(move || {
            // It is held while the work goes on, also if nobody waits for it any more.
            let _turn = turn;
            let compared = targets.0.into_iter().map(|target| {
                let running = said.get(&target.name.key()).copied();
                compare(&content, target, running)
            });
            compared.collect()
        })
        .await
    }
}

fn compare(
    content: &ContentStore,
    Target { name, version: published }: Target,
    running: Option<Checksum>,
) -> Result<ConfigurationDifference, Error> {
    let parsed = |checksum| Configuration::parse(name.as_str(), &content.get(checksum)?);
    let changes = match (running, published) {
        (running, published) if running == published => Some(ConfigurationChanges::default()),
        (Some(running), Some(published)) => match parsed(running) {
            Ok(older) => Some(older.changes_to(&parsed(published)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        },
        _ => None,
    };
    let (changes, omitted) =
        changes.map_or((None, 0), |changes| (Some(changes.resources), changes.omitted));
    Ok(ConfigurationDifference { name, running, published, changes, omitted })
}
