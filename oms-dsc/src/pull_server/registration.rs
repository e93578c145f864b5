//! Registration: who may become a node, and what it says of itself.

use super::node::{Node, NodeEvent};
use super::registration_key::{HeldKey, RegistrationKeys};
use super::registry::Nodes;
use super::signature::{self, SIGNATURE_HISTORY};
use crate::Error;
use crate::protocol::auth::{self, Signed};
use crate::protocol::strict;
use crate::protocol::{
    AgentId, ConfigurationName, RegisterDscAgentRequest, RegistrationMessageType, Request, decode,
};
use jiff::{SignedDuration, Timestamp};
use oms_core::Secret;
use oms_core::journal::JournalError;
use std::sync::Arc;

/// The largest registration, in bytes.
pub const REGISTRATION_BYTES_MAX: usize = 64 << 10;

/// The most configurations that one node may register for.
pub const CONFIGURATION_NAMES_MAX: usize = 64;

/// How often a registration is looked at again when its key changed meanwhile.
const ATTEMPTS_MAX: usize = 8;

/// Checks signatures.
///
/// Keys are given by the operator at each start and kept in memory only, or made and revoked while
/// servers run and kept in the journal. So is each signature that was used: no memory of a server's own
/// says what is a replay.
#[derive(Debug)]
pub(super) struct Registrar {
    /// Those given at the start: good for anything, for ever.
    pub(super) given: Vec<Secret>,
    pub(super) keys: RegistrationKeys,
    pub(super) window: SignedDuration,
    is_strict: bool,
}

/// A registration whose signature is good, and the key that made it if that is one that is kept.
type Verified = (Signed, Option<Arc<HeldKey>>);

impl Registrar {
    pub(super) fn new(
        given: Vec<Secret>,
        keys: RegistrationKeys,
        window: SignedDuration,
        is_strict: bool,
    ) -> Self {
        Self { given, keys, window, is_strict }
    }

    fn verify(&self, request: &Request, now: Timestamp) -> Result<Verified, Error> {
        let headers = &request.headers;
        let (authorization, date) =
            (headers.authorization.as_deref(), headers.x_ms_date.as_deref());
        let kept = self.keys.unrevoked();
        let secrets = kept.iter().filter_map(|held| held.secret.as_ref());
        let keys = self.given.iter().chain(secrets);
        let signed = auth::verify(keys, authorization, date, &request.body, now, self.window)?;
        let key = signed.key.checked_sub(self.given.len()).and_then(|index| kept.get(index));
        if key.is_some_and(|key| key.about.has_expired(now)) {
            return Err(Error::Unauthenticated { reason: "registration key has expired" });
        }
        Ok((signed, key.map(Arc::clone)))
    }

    /// Registers a node. It is durable when this returns.
    pub(super) async fn register(
        &self,
        nodes: &Nodes,
        agent_id: AgentId,
        request: &Request,
        now: Timestamp,
    ) -> Result<Node, Error> {
        if request.body.len() > REGISTRATION_BYTES_MAX {
            let (actual, limit) = (request.body.len(), REGISTRATION_BYTES_MAX);
            return Err(Error::TooLarge { what: "registration", actual, limit });
        }
        for _ in 0..ATTEMPTS_MAX {
            self.keys.refresh().await?;
            let (signed, key) = self.verify(request, now)?;
            let body = match self.is_strict {
                true => strict::registration(&request.body)?,
                false => decode("registration", &request.body)?,
            };
            let event = event(request, body, &signed, key.as_deref())?;
            let actor = format!("agent:{agent_id}");
            let used = signature::used(&signed, agent_id, now, &actor)?;
            // A replay under ever new names takes no room.
            if !nodes.journal.read(&used.history, 0, 1).await?.is_empty() {
                return Err(Error::Unauthenticated { reason: REPLAYED });
            }
            nodes.admit(agent_id)?;
            let mut others = vec![used];
            // A key that is revoked at this moment registers nobody.
            others.extend(key.map(|key| key.unchanged()).transpose()?);
            let decide = |node: &Node| {
                // Events of earlier versions are the only record of their signatures.
                let is_known = |(_, known): &(_, String)| *known == signed.signature;
                match node.signatures().any(is_known) {
                    true => Err(Error::Unauthenticated { reason: REPLAYED }),
                    false => Ok(Some(event.clone())),
                }
            };
            match nodes.change_with(agent_id, &actor, &others, decide).await {
                Err(Error::Journal(JournalError::Conflict { history, .. })) => {
                    if history.kind() == SIGNATURE_HISTORY {
                        return Err(Error::Unauthenticated { reason: REPLAYED });
                    }
                    // Somebody changed the key that this rests on: look again.
                }
                outcome => return outcome,
            }
        }
        Err(Error::Internal { reason: "a registration key changes too fast".to_owned() })
    }
}

/// Why a signature is not good a second time.
const REPLAYED: &str = "signature was used before";

fn event(
    request: &Request,
    body: RegisterDscAgentRequest,
    signed: &Signed,
    key: Option<&HeldKey>,
) -> Result<NodeEvent, Error> {
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
    let mut named = configuration_names.iter().flatten();
    if key.is_some_and(|key| !named.all(|name| key.about.covers(name))) {
        let reason = "registration key is not for a configuration that is named";
        return Err(Error::Unauthenticated { reason });
    }
    Ok(NodeEvent::Registered {
        message_type,
        agent: agent_information,
        certificate,
        configuration_names,
        signed: signed.date,
        signature: signed.signature.clone(),
        is_presented: presented.is_some(),
        registration_key: key.map(|key| key.about.id),
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
