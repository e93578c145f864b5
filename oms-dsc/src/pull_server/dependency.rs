//! What nodes wait for: a resource of other nodes, as those reported it last.

use super::PullServer;
use crate::Error;
use crate::protocol::{
    AgentId, GetResourceStateRequest, GetResourceStateResponse, NODE_NAMES_MAX, NodeResourceState,
    Reply, ReportedState, Request, decode,
};
use crate::pull_server::Node;
use crate::report::resource_state;
use std::collections::HashMap;

impl PullServer {
    /// Answers a registered node about others. It learns of a resource whether it is in the desired
    /// state, and no more.
    pub(super) async fn resource_state(
        &self,
        agent_id: AgentId,
        request: &Request,
    ) -> Result<Reply, Error> {
        let presented = request.headers.certificate_thumbprint.as_deref();
        self.authenticate(agent_id, presented, true).await?;
        let asked: GetResourceStateRequest = decode("GetResourceState request", &request.body)?;
        let (actual, limit) = (asked.node_names.len(), NODE_NAMES_MAX);
        if actual > limit {
            return Err(Error::TooLarge { what: "names of nodes", actual, limit });
        }
        let mut wanted: HashMap<String, Vec<Node>> =
            asked.node_names.iter().map(|name| (name.to_lowercase(), Vec::new())).collect();
        for node in self.nodes().await? {
            if let Some(found) = wanted.get_mut(&node.agent.node_name.to_lowercase()) {
                found.push(node);
            }
        }
        let mut nodes = Vec::with_capacity(asked.node_names.len());
        for node_name in asked.node_names {
            let (state, reported) = match wanted.get(&node_name.to_lowercase()).map(Vec::as_slice) {
                None | Some([]) => (ReportedState::UnknownNode, None),
                Some([node]) => {
                    let state = self.reported_state(node, &asked.resource_id).await?;
                    let ended = node.last_report.as_ref().and_then(|report| report.end_time);
                    (state, ended.filter(|_| state != ReportedState::NotReported))
                }
                Some(_) => (ReportedState::SeveralNodes, None),
            };
            nodes.push(NodeResourceState { node_name, state, reported });
        }
        let answer = GetResourceStateResponse { nodes };
        Ok(Reply::odata(&request.base, "OMS.ResourceState", answer))
    }

    /// What a node's last finished run says of a resource.
    async fn reported_state(&self, node: &Node, id: &str) -> Result<ReportedState, Error> {
        let Some(summary) = &node.last_report else { return Ok(ReportedState::NotReported) };
        let listed = summary.resources.iter().find(|r| r.resource_id.eq_ignore_ascii_case(id));
        let is_in_state = match listed {
            Some(resource) => Some(resource.in_desired_state),
            // The summary of a large configuration does not list them all; its report does.
            None if (summary.resources.len() as u64) < summary.resource_count => {
                match self.report(node.agent_id, summary.job_id).await {
                    Ok(report) => resource_state(&report, id),
                    Err(Error::NotFound { .. }) => None,
                    Err(error) => return Err(error),
                }
            }
            None => None,
        };
        Ok(match is_in_state {
            Some(true) => ReportedState::InDesiredState,
            Some(false) => ReportedState::NotInDesiredState,
            None => ReportedState::NotReported,
        })
    }
}
