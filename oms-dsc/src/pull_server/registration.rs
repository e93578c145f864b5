//! Registration: who may become a node, and what it says of itself.

use super::node::{NODES_MAX, Node, NodeEvent, Nodes};
use crate::Error;
use crate::protocol::auth::{self, Signed};
use crate::protocol::{
    AgentId, ConfigurationName, RegisterDscAgentRequest, RegistrationMessageType, Request, decode,
};
use jiff::{SignedDuration, Timestamp};
use oms_core::Secret;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The largest registration, in bytes.
pub const REGISTRATION_BYTES_MAX: usize = 64 << 10;

/// The most configurations that one node may register for.
pub const CONFIGURATION_NAMES_MAX: usize = 64;

/// The most signatures that are remembered; when they are all fresh, registrations wait.
const SIGNATURES_MAX: usize = 4 * NODES_MAX;

/// Checks signatures, and remembers them for as long as their date is accepted.
///
/// The keys are given by the operator at each start and kept in memory only, and a used signature is
/// in the event of the registration that used it. `oms_core::auth::Credentials` has another task:
/// it keeps what is drawn and revoked while a service runs, in a history of its own, and there a
/// signature would be used in one step and the node registered in another.
#[derive(Debug)]
pub(super) struct Registrar {
    keys: Vec<Secret>,
    window: SignedDuration,
    seen: Mutex<HashMap<String, Timestamp>>,
}

impl Registrar {
    pub(super) fn new(keys: Vec<Secret>, window: SignedDuration) -> Self {
        Self { keys, window, seen: Mutex::default() }
    }

    /// Remembers the signatures of a node that was read from the journal.
    pub(super) fn recall(&self, node: &Node) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.extend(node.signatures().map(|(date, signature)| (signature.clone(), *date)));
    }

    fn verify(&self, request: &Request, now: Timestamp) -> Result<Signed, Error> {
        let headers = &request.headers;
        let (authorization, date) =
            (headers.authorization.as_deref(), headers.x_ms_date.as_deref());
        let signed =
            auth::verify(&self.keys, authorization, date, &request.body, now, self.window)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= SIGNATURES_MAX {
            seen.retain(|_, date| now.duration_since(*date).abs() <= self.window);
        }
        if seen.len() >= SIGNATURES_MAX {
            return Err(Error::LimitExceeded { what: "registrations", limit: SIGNATURES_MAX });
        }
        if seen.insert(signed.signature.clone(), signed.date).is_some() {
            return Err(Error::Unauthenticated { reason: "signature was used before" });
        }
        Ok(signed)
    }

    fn forget(&self, signed: &Signed) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.remove(&signed.signature);
    }

    /// Registers a node. It is durable when this returns.
    pub(super) async fn register(
        &self,
        nodes: &Nodes,
        agent_id: AgentId,
        request: &Request,
        now: Timestamp,
    ) -> Result<(), Error> {
        if request.body.len() > REGISTRATION_BYTES_MAX {
            let (actual, limit) = (request.body.len(), REGISTRATION_BYTES_MAX);
            return Err(Error::TooLarge { what: "registration", actual, limit });
        }
        let signed = self.verify(request, now)?;
        let outcome = async {
            let event = event(request, &signed)?;
            nodes.admit(agent_id)?;
            let actor = format!("agent:{agent_id}");
            nodes.change(agent_id, &actor, |_| Ok(Some(event.clone()))).await
        };
        match outcome.await {
            Ok(_) => Ok(()),
            Err(error) => {
                // Nothing was registered, or nobody knows: the client may send it again.
                self.forget(&signed);
                Err(error)
            }
        }
    }
}

fn event(request: &Request, signed: &Signed) -> Result<NodeEvent, Error> {
    let body: RegisterDscAgentRequest = decode("registration", &request.body)?;
    let RegisterDscAgentRequest {
        agent_information,
        configuration_names,
        registration_information,
    } = body;
    let message_type = registration_information.registration_message_type;
    let certificate = Box::new(registration_information.certificate_information);
    let presented = request.headers.certificate_thumbprint.as_deref();
    if presented.is_some_and(|presented| !certificate.is_named(presented)) {
        // Who holds a certificate registers that one, and nobody binds a node to another's.
        return Err(Error::Unauthenticated { reason: "client certificate is not the one named" });
    }
    let is_repository = message_type == RegistrationMessageType::ConfigurationRepository;
    let names = configuration_names.filter(|_| is_repository);
    let configuration_names = names.map(parse_names).transpose()?;
    Ok(NodeEvent::Registered {
        message_type,
        agent: agent_information,
        certificate,
        configuration_names,
        signed: signed.date,
        signature: signed.signature.clone(),
        is_presented: presented.is_some(),
    })
}

fn parse_names(names: Vec<String>) -> Result<Vec<ConfigurationName>, Error> {
    if names.len() > CONFIGURATION_NAMES_MAX {
        let (actual, limit) = (names.len(), CONFIGURATION_NAMES_MAX);
        return Err(Error::TooLarge { what: "configuration names", actual, limit });
    }
    let mut parsed: Vec<ConfigurationName> = Vec::new();
    for name in names.into_iter().filter(|name| !name.is_empty()) {
        let name: ConfigurationName = name.parse()?;
        if !parsed.contains(&name) {
            parsed.push(name);
        }
    }
    Ok(parsed)
}
