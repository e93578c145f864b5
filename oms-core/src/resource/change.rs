//! Events of a resource's history, and what they make of it.

use super::tracked::by_type;
use super::{
    ETag, ProvisioningEvent, ProvisioningState, ResourceError, ResourceId, ResourceSpec,
    ResourceType, SystemData, TrackedResource,
};
use crate::auth::Principal;
use crate::journal::{Event, JournalEvent as _};
use crate::lifecycle::Lifecycle;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Histories of subscriptions, groups and resources, by their paths in lower case.
pub(super) const KIND: &str = "arm-resource";

/// What happens to a resource.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "camelCase")]
pub(super) enum Change {
    #[serde(rename_all = "camelCase")]
    Put {
        id: ResourceId,
        resource_type: ResourceType,
        spec: ResourceSpec,
        by: Principal,
    },
    Succeeded {
        properties: Map<String, Value>,
    },
    Failed {
        code: String,
        message: String,
    },
    Canceled,
    Deleting {
        by: Principal,
    },
    /// Something was created in it: whoever deletes it meanwhile meets a conflict.
    Member {
        id: ResourceId,
    },
}

crate::journal_event!(Change, format 1, whole, {
    Self::Put { .. } => "resource-put",
    Self::Succeeded { .. } => "resource-succeeded",
    Self::Failed { .. } => "resource-failed",
    Self::Canceled => "resource-canceled",
    Self::Deleting { .. } => "resource-deleting",
    Self::Member { .. } => "resource-member",
});

impl Change {
    const fn event(&self) -> Option<ProvisioningEvent> {
        match self {
            Self::Put { .. } => Some(ProvisioningEvent::Put),
            Self::Succeeded { .. } => Some(ProvisioningEvent::Succeed),
            Self::Failed { .. } => Some(ProvisioningEvent::Fail),
            Self::Canceled => Some(ProvisioningEvent::Cancel),
            Self::Deleting { .. } => Some(ProvisioningEvent::Delete),
            Self::Member { .. } => None,
        }
    }
}

/// One history, replayed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Node {
    /// How many events it holds.
    pub(super) version: u64,
    pub(super) state: ProvisioningState,
    /// None before its creation and after its deletion.
    pub(super) resource: Option<Arc<TrackedResource>>,
    /// Code and message of the last change, if it failed.
    pub(super) failure: Option<(String, String)>,
}

impl Node {
    pub(super) fn apply(&mut self, event: &Event) -> Result<(), ResourceError> {
        let corrupt =
            |reason: String| ResourceError::Corrupt { id: event.history.key().to_owned(), reason };
        if event.version != self.version + 1 {
            return Err(corrupt(format!("event {} after {}", event.version, self.version)));
        }
        let change = Change::open(&event.envelope)?;
        self.version = event.version;
        let Some(step) = change.event() else { return Ok(()) };
        self.state = self.state.next(step).map_err(|illegal| corrupt(illegal.to_string()))?;
        if self.state == ProvisioningState::Absent {
            self.resource = None;
            return Ok(());
        }
        if let Change::Failed { code, message } = &change {
            self.failure = Some((code.clone(), message.clone()));
        } else if !matches!(change, Change::Deleting { .. }) {
            self.failure = None;
        }
        let found = self.resource.as_deref().cloned();
        let mut resource = match (found, change) {
            (found, Change::Put { id, resource_type, spec, by }) => {
                put(found, id, resource_type, spec, &by, event)
            }
            (Some(mut found), Change::Succeeded { properties }) => {
                found.properties.extend(properties);
                found
            }
            (Some(mut found), Change::Deleting { by }) => {
                TrackedResource::stamp(&mut found.system_data, &by, event.envelope.time);
                found
            }
            (Some(found), _) => found,
            (None, _) => return Err(corrupt("a change before the first put".to_owned())),
        };
        resource.state = self.state;
        resource.etag = ETag::of(event.version);
        let shown = Value::String(format!("{:?}", self.state));
        resource.properties.insert("provisioningState".to_owned(), shown);
        self.resource = Some(Arc::new(resource));
        Ok(())
    }
}

fn put(
    found: Option<TrackedResource>,
    id: ResourceId,
    resource_type: ResourceType,
    spec: ResourceSpec,
    by: &Principal,
    event: &Event,
) -> TrackedResource {
    let at = event.envelope.time;
    let name = id.segments().last().unwrap_or_default().to_owned();
    let fresh = SystemData {
        created_by: by.name.clone(),
        created_by_type: by_type(by.kind).to_owned(),
        created_at: at,
        last_modified_by: by.name.clone(),
        last_modified_by_type: by_type(by.kind).to_owned(),
        last_modified_at: at,
    };
    // The spelling of its creator stays.
    let (id, name, resource_type, mut system_data) = match found {
        Some(found) => (found.id, found.name, found.resource_type, found.system_data),
        None => (id, name, resource_type, fresh),
    };
    TrackedResource::stamp(&mut system_data, by, at);
    TrackedResource {
        id,
        name,
        resource_type,
        location: spec.location,
        tags: spec.tags,
        etag: ETag::of(event.version),
        kind: spec.kind,
        sku: spec.sku,
        properties: spec.properties,
        state: ProvisioningState::Absent,
        system_data,
    }
}
