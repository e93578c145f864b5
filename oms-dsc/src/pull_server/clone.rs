//! What is done about a node that may be two machines: an operator is told.

use super::node::{Node, NodeEvent};
use super::{PullServer, check_registered};
use crate::Error;
use crate::protocol::AgentId;

impl PullServer {
    /// Tells of a node that may be two machines, once: its next registrations and reports find it in
    /// [`Node::clone_suspected`]. Both go on being served: which of them is the right one nobody
    /// here knows.
    pub(super) async fn note_clone(&self, node: Node) -> Result<Node, Error> {
        let now = self.clock.now();
        if node.new_suspicion(now).is_none() {
            return Ok(node);
        }
        let decide = |node: &Node| {
            let suspicion = node.new_suspicion(now).filter(|_| node.is_registered());
            let node_name = node.agent.node_name.clone();
            Ok(suspicion.map(|suspicion| NodeEvent::CloneSuspected { node_name, suspicion }))
        };
        let node = self.nodes.change(node.agent_id, "local", decide).await?;
        if let Some((_, suspicion)) = &node.clone_suspected {
            let (handle, sign) = (node.handle(), suspicion.sign);
            tracing::warn!(node = handle, ?sign, "a node may be two machines with one AgentId");
        }
        Ok(node)
    }

    /// Says that a node is one machine, whatever it looks like so far.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Journal`].
    pub async fn dismiss_clone(&self, agent_id: AgentId) -> Result<Node, Error> {
        let decide = |node: &Node| {
            check_registered(node)?;
            Ok(node.clone_suspected.is_some().then_some(NodeEvent::CloneDismissed))
        };
        self.nodes.change(agent_id, "local", decide).await
    }
}
