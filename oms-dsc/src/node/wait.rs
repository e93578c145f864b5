//! Waiting for a resource of other nodes: `WaitForAll`, `WaitForAny` and `WaitForSome`.
//!
//! The nodes of Windows ask each other; these ask their pull server, which knows what every node
//! reported at the end of its last run. So a node that waits for one that waits for it sees what the
//! other did in its run before, and what nobody reported nobody is told of.

use super::client::Transport;
use super::engine::accept;
use crate::Error;
use crate::configuration::{PropertyValue, ResourceInstance};
use crate::protocol::{
    AgentId, GetResourceStateRequest, GetResourceStateResponse, NODE_NAMES_MAX, NodeResourceState,
    Operation, ReportedState, Request, decode,
};
use crate::resource::{Difference, Resource, SetReport};
use async_trait::async_trait;
use bytes::Bytes;
use oms_core::{Clock, SystemClock};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

const ALL: &str = "MSFT_WaitForAll";
const ANY: &str = "MSFT_WaitForAny";
const SOME: &str = "MSFT_WaitForSome";
const CLASSES: [&str; 3] = [ALL, ANY, SOME];

const OPERATION: &str = "GetResourceState";

/// What an error calls it.
const WHAT: &str = "WaitFor resource";

/// The longest wait within one run, in seconds: the node does nothing else meanwhile. It is counted as it
/// passes, with what the server takes for its answers.
const WAIT_SECONDS_MAX: u64 = 86_400;

/// Waits for a resource on other nodes of the same pull server.
///
/// A local configuration manager has one for itself; it is public for who runs resources alone.
#[derive(Clone)]
pub struct WaitForResource {
    transport: Arc<dyn Transport>,
    agent_id: AgentId,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for WaitForResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever knows the AgentId is the node, and a transport may hold what it sent.
        f.debug_struct("WaitForResource").finish_non_exhaustive()
    }
}

impl WaitForResource {
    /// Asks that server as a node that is registered there.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>, agent_id: AgentId) -> Self {
        Self { transport, agent_id, clock: Arc::new(SystemClock) }
    }

    /// The clock that says how long it has waited; the operating system's without it.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    async fn ask(&self, wait: &Wait) -> Result<Vec<NodeResourceState>, Error> {
        let body = GetResourceStateRequest {
            resource_id: wait.resource_id.clone(),
            node_names: wait.node_names.clone(),
        };
        let body = serde_json::to_vec(&body)
            .map(Bytes::from)
            .map_err(|error| Error::Internal { reason: error.to_string() })?;
        let operation = Operation::GetResourceState { agent_id: self.agent_id };
        let answer = self.transport.exchange(&Request::new(operation, body)).await;
        let reply = accept(OPERATION, answer).map_err(|error| match error {
            Error::Refused { status: 404 | 405 | 501, .. } => Error::Unsupported {
                what: "operation of this pull server",
                name: format!("{OPERATION}, without which nobody waits for other nodes"),
            },
            other => other,
        })?;
        let told: GetResourceStateResponse = decode("GetResourceState response", &reply.body)?;
        let about = |name: &String| {
            let found = told.nodes.iter().find(|node| node.node_name.eq_ignore_ascii_case(name));
            found.cloned().ok_or_else(|| {
                let reason = format!("it says nothing of the node `{name}`");
                Error::Invalid { what: "GetResourceState response", reason }
            })
        };
        wait.node_names.iter().map(about).collect()
    }
}

#[async_trait]
impl Resource for WaitForResource {
    fn classes(&self) -> &[&str] {
        &CLASSES
    }

    async fn get(
        &self,
        instance: &ResourceInstance,
    ) -> Result<BTreeMap<String, serde_json::Value>, Error> {
        let wait = Wait::of(instance)?;
        let states = self.ask(&wait).await?;
        let found =
            states.iter().map(|node| (node.node_name.clone(), node.state.describe().into()));
        Ok(BTreeMap::from([
            ("ResourceName".to_owned(), wait.resource_id.clone().into()),
            ("Nodes".to_owned(), serde_json::Value::Object(found.collect())),
        ]))
    }

    async fn test(&self, instance: &ResourceInstance) -> Result<Vec<Difference>, Error> {
        let wait = Wait::of(instance)?;
        let states = self.ask(&wait).await?;
        if wait.is_over(&states) {
            return Ok(Vec::new());
        }
        let missing = states.iter().filter(|node| node.state != ReportedState::InDesiredState);
        let difference = |node: &NodeResourceState| {
            let property = format!("{} on {}", wait.resource_id, node.node_name);
            let desired = ReportedState::InDesiredState.describe();
            Difference::new(property, node.state.describe(), desired)
        };
        Ok(missing.map(difference).collect())
    }

    /// Asks until it is so, or it was asked as often as it may, or a day has passed. A server that cannot be
    /// reached is asked again too. What is still missing then is found by the test that follows.
    async fn set(&self, instance: &ResourceInstance) -> Result<SetReport, Error> {
        let wait = Wait::of(instance)?;
        let begun = self.clock.monotonic();
        for tries_left in (0..=wait.retry_count).rev() {
            let answer = self.ask(&wait).await;
            let passed = self.clock.monotonic().saturating_sub(begun);
            let would_pass = passed.saturating_add(wait.retry_interval);
            let is_last = tries_left == 0 || would_pass > Duration::from_secs(WAIT_SECONDS_MAX);
            match answer {
                Ok(states) if wait.is_over(&states) => break,
                // What asking again does not mend.
                Err(error) if is_last || !error.kind().is_retryable() => return Err(error),
                Ok(_) if is_last => break,
                Ok(_) | Err(_) => tokio::time::sleep(wait.retry_interval).await,
            }
        }
        Ok(SetReport::default())
    }
}

/// What is waited for.
#[derive(Debug)]
struct Wait {
    resource_id: String,
    /// Each once.
    node_names: Vec<String>,
    /// How many of them are enough.
    needed: usize,
    retry_interval: Duration,
    /// How often it is asked again.
    retry_count: u64,
}

impl Wait {
    fn of(instance: &ResourceInstance) -> Result<Self, Error> {
        const KNOWN: [&str; 6] = [
            "ResourceName",
            "NodeName",
            "NodeCount",
            "RetryIntervalSec",
            "RetryCount",
            // How many are asked at a time; the server is asked once for all.
            "ThrottleLimit",
        ];
        let id = &instance.resource_id;
        let invalid = |property: &str, problem: &str| Error::Invalid {
            what: WHAT,
            reason: format!("{id} has {property}: {problem}"),
        };
        for (name, value) in &instance.properties {
            let is_known = KNOWN.iter().any(|known| known.eq_ignore_ascii_case(name));
            // A credential for other nodes, which are not asked, is one too many.
            if !is_known && *value != PropertyValue::Null {
                let name = format!("{name} of {id}");
                return Err(Error::Unsupported { what: "property", name });
            }
        }
        let resource_id = match instance.property("ResourceName") {
            Some(PropertyValue::Text(text)) if text.starts_with('[') => text.clone(),
            _ => return Err(invalid("ResourceName", "not an id such as [File]motd")),
        };
        let number = |name: &str| match instance.property(name) {
            None => Ok(None),
            Some(PropertyValue::Integer(number)) => {
                u64::try_from(*number).map(Some).map_err(|_| invalid(name, "not a number from 0"))
            }
            Some(other) => Err(invalid(name, other.describe())),
        };
        let node_names = node_names(instance).ok_or_else(|| {
            invalid("NodeName", "neither a name nor names of nodes, or more than 1000 of them")
        })?;
        let is_some = instance.class.eq_ignore_ascii_case(SOME);
        let needed = match number("NodeCount")? {
            Some(count) if is_some => usize::try_from(count)
                .ok()
                .filter(|count| (1..=node_names.len()).contains(count))
                .ok_or_else(|| invalid("NodeCount", "not a number from 1 to that of the nodes"))?,
            Some(_) => return Err(invalid("NodeCount", "only WaitForSome has one")),
            None if is_some => return Err(invalid("NodeCount", "missing")),
            None if instance.class.eq_ignore_ascii_case(ANY) => 1,
            None => node_names.len(),
        };
        let seconds = number("RetryIntervalSec")?.unwrap_or(1).max(1);
        let retry_count = number("RetryCount")?.unwrap_or(0);
        if seconds.checked_mul(retry_count).is_none_or(|whole| whole > WAIT_SECONDS_MAX) {
            return Err(invalid("RetryCount", "with its interval more than a day, in one run"));
        }
        let retry_interval = Duration::from_secs(seconds);
        Ok(Self { resource_id, node_names, needed, retry_interval, retry_count })
    }

    fn is_over(&self, states: &[NodeResourceState]) -> bool {
        let is_done = |node: &&NodeResourceState| node.state == ReportedState::InDesiredState;
        states.iter().filter(is_done).count() >= self.needed
    }
}

/// The names of `NodeName`, each once: a name given twice is still one node.
fn node_names(instance: &ResourceInstance) -> Option<Vec<String>> {
    let values = match instance.property("NodeName")? {
        PropertyValue::Array(values) => values.as_slice(),
        one => std::slice::from_ref(one),
    };
    let (mut names, mut seen) = (Vec::new(), HashSet::new());
    for value in values {
        match value {
            PropertyValue::Text(name) if !name.is_empty() => {
                if seen.insert(name.to_lowercase()) {
                    names.push(name.clone());
                }
            }
            _ => return None,
        }
    }
    (!names.is_empty() && names.len() <= NODE_NAMES_MAX).then_some(names)
}
