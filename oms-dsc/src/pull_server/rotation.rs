//! A node's next certificate.
//!
//! ```text
//!  operator, or a certificate that ends soon
//!        │ DSC-certificateRotation: True, with every answer
//!        ▼
//!  POST CertificateRotation ──► 201: the old and the new certificate are good
//!                                      │ the new one is presented
//!                                      ▼
//!                               the new one alone is good
//! ```
//!
//! A node that presents no certificate has none to wait for: it has the new one at once.

use super::node::{Node, NodeEvent};
use super::registry::not_found;
use super::{PullServer, check_registered};
use crate::Error;
use crate::protocol::{AgentId, CertificateRotationRequest, Operation, Request, decode};
use jiff::{SignedDuration, Timestamp};

impl PullServer {
    /// Asks a node to rotate its certificate: each answer to it says so until it does. A rotation that
    /// it began and did not end, because it never presented the new certificate, is void.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Journal`].
    pub async fn request_rotation(&self, agent_id: AgentId) -> Result<Node, Error> {
        let decide = |node: &Node| {
            check_registered(node)?;
            let is_asked = node.rotation_requested.is_some() && node.next_certificate.is_none();
            Ok((!is_asked).then_some(NodeEvent::RotationRequested))
        };
        self.nodes.change(agent_id, "local", decide).await
    }

    /// Takes a node's next certificate. It is durable when this returns; a repeat changes nothing.
    pub(super) async fn rotate(
        &self,
        agent_id: AgentId,
        presented: Option<&str>,
        request: &Request,
    ) -> Result<(), Error> {
        let body: CertificateRotationRequest =
            decode("CertificateRotation request", &request.body)?;
        let certificate = Box::new(body.certificate_information);
        if !certificate.has_thumbprint() {
            let reason = "Thumbprint is not 40 hexadecimal digits".to_owned();
            return Err(Error::Invalid { what: "CertificateRotation request", reason });
        }
        let decide = |node: &Node| {
            check_registered(node)?;
            // The one that was presented may have become void meanwhile; this operation has no 401.
            node.check_vouched_for(presented).map_err(|_void| not_found(agent_id))?;
            let given = &certificate.thumbprint;
            match &node.next_certificate {
                Some(next) if next.is_named(given) => Ok(None),
                Some(_) => Err(Error::RotationInProgress { node: node.handle() }),
                // The answer to the first was lost, and the certificate presented already.
                None if node.certificate.is_named(given) => Ok(None),
                None => {
                    Ok(Some(NodeEvent::CertificateRotated { certificate: certificate.clone() }))
                }
            }
        };
        let actor = format!("agent:{agent_id}");
        self.nodes.change(agent_id, &actor, decide).await.map(drop)
    }

    /// Voids a node's old certificate once its new one is presented.
    pub(super) async fn note_presented(
        &self,
        node: Node,
        presented: Option<&str>,
    ) -> Result<Node, Error> {
        if !node.is_next(presented) {
            return Ok(node);
        }
        let decide =
            |node: &Node| Ok(node.is_next(presented).then_some(NodeEvent::CertificatePresented));
        let actor = format!("agent:{}", node.agent_id);
        self.nodes.change(node.agent_id, &actor, decide).await
    }

    /// Whether the answer to a node that was recognised asks it to rotate its certificate. Those of
    /// registration and of rotation itself never do. See \[MS-DSCPM\] 2.2.2.8.
    pub(super) async fn asks_for_rotation(&self, request: &Request) -> bool {
        let header = request.headers.agent_id.as_deref();
        let agent_id = match &request.operation {
            Operation::RegisterDscAgent { .. }
            | Operation::CertificateRotation { .. }
            | Operation::V1(_) => None,
            Operation::GetModule { .. } => header.and_then(|id| id.parse().ok()),
            other => other.identity().map(AgentId),
        };
        let ends = self.rotation_limit();
        match agent_id {
            Some(agent_id) => self.nodes.is_such(agent_id, |node| node.should_rotate(ends)).await,
            None => false,
        }
    }

    /// Certificates that end before this are to be rotated; none if none are.
    fn rotation_limit(&self) -> Option<Timestamp> {
        let days = i64::from(self.settings.rotation_before_days);
        let limit = self.clock.now().checked_add(SignedDuration::from_hours(24 * days));
        limit.ok().filter(|_| days > 0)
    }
}
