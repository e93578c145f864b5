//! A resource: its data, and the state table of its provisioning.

use super::{ResourceId, ResourceType, Tags};
use crate::auth::{Principal, PrincipalKind};
use crate::lifecycle::{IllegalTransition, Lifecycle};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;
use uuid::Uuid;

/// The largest properties, SKU and kind of one resource together, in bytes of JSON text.
pub const PROPERTIES_BYTES_MAX: usize = 256 * 1024;

/// Where a resource is in its life. The names are those of Azure's `provisioningState`; `Absent`
/// is before its creation and after its deletion.
///
/// ```text
///            Put          Succeed              Put
///  Absent ─────► Creating ───────► Succeeded ─────► Updating ─► Succeeded, Failed, Canceled
///    ▲              │ Fail, Cancel     │
///    │ Succeed      ▼                  │ Delete
///    └── Deleting ◄─ Failed, Canceled ◄┘   (Deleting ─Fail─► Failed)
///                Delete
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ProvisioningState {
    /// It is not there.
    #[default]
    Absent,
    /// Its service makes it.
    Creating,
    /// Its service changes it.
    Updating,
    /// It is as it was asked for.
    Succeeded,
    /// The last change did not succeed.
    Failed,
    /// The last change was called off.
    Canceled,
    /// Its service takes it away.
    Deleting,
}

/// What happens to a resource.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ProvisioningEvent {
    /// It was asked for, or for a change.
    Put,
    /// The service is done.
    Succeed,
    /// The service could not do it.
    Fail,
    /// The change was called off.
    Cancel,
    /// Its deletion was asked for.
    Delete,
}

impl Lifecycle for ProvisioningState {
    type Event = ProvisioningEvent;

    fn next(
        self,
        event: ProvisioningEvent,
    ) -> Result<Self, IllegalTransition<Self, ProvisioningEvent>> {
        use ProvisioningEvent as Event;
        match (self, event) {
            (Self::Absent, Event::Put) => Ok(Self::Creating),
            (Self::Succeeded | Self::Failed | Self::Canceled, Event::Put) => Ok(Self::Updating),
            (Self::Creating | Self::Updating, Event::Succeed) => Ok(Self::Succeeded),
            (Self::Creating | Self::Updating | Self::Deleting, Event::Fail) => Ok(Self::Failed),
            (Self::Creating | Self::Updating, Event::Cancel) => Ok(Self::Canceled),
            (Self::Succeeded | Self::Failed | Self::Canceled, Event::Delete) => Ok(Self::Deleting),
            (Self::Deleting, Event::Succeed) => Ok(Self::Absent),
            (state, event) => Err(IllegalTransition { state, event }),
        }
    }
}

impl ProvisioningState {
    /// Whether no change is under way.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        !matches!(self, Self::Creating | Self::Updating | Self::Deleting)
    }
}

/// Which version of a resource, as HTTP's entity tag: a quoted text.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ETag(String);

impl ETag {
    /// The tag of a version of a history.
    #[must_use]
    pub fn of(version: u64) -> Self {
        Self(format!("\"{version:016x}\""))
    }

    /// The tag with its quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a change asks of the version that is there. See RFC 9110, 13.1.1 and 13.1.2.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Preconditions {
    /// `If-Match`: `*`, or a list of entity tags.
    pub if_match: Option<String>,
    /// `If-None-Match`: `*`, or a list of entity tags.
    pub if_none_match: Option<String>,
}

impl Preconditions {
    /// Whether they hold for the version that is there, if one is. A tag without quotes counts as
    /// one with them: the portal and some clients send it so.
    #[must_use]
    pub fn hold(&self, current: Option<&ETag>) -> bool {
        let names = |list: &str, is_weak: bool| {
            let Some(current) = current else { return false };
            list.trim() == "*"
                || list.split(',').map(str::trim).any(|tag| {
                    let strong = if is_weak { tag.strip_prefix("W/").unwrap_or(tag) } else { tag };
                    strong.trim_matches('"') == current.0.trim_matches('"')
                })
        };
        // If-Match compares strongly, so a weak tag never matches; If-None-Match weakly.
        self.if_match.as_deref().is_none_or(|list| names(list, false))
            && self.if_none_match.as_deref().is_none_or(|list| !names(list, true))
    }
}

/// Who made and last changed a resource, and when.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SystemData {
    /// The name of the principal that created it.
    pub created_by: String,
    /// `User`, `Application` or `Key`.
    pub created_by_type: String,
    /// When.
    pub created_at: Timestamp,
    /// The name of the principal that changed it last.
    pub last_modified_by: String,
    /// `User`, `Application` or `Key`.
    pub last_modified_by_type: String,
    /// When.
    pub last_modified_at: Timestamp,
}

/// The word of Azure's `createdByType`.
pub(super) const fn by_type(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::Local => "User",
        PrincipalKind::ClientSecret | PrincipalKind::Certificate | PrincipalKind::Agent => {
            "Application"
        }
        PrincipalKind::SharedKey | PrincipalKind::RegistrationKey | PrincipalKind::WebhookToken => {
            "Key"
        }
    }
}

/// A resource of Azure Resource Manager, as its clients see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrackedResource {
    /// Its path, as its creator wrote it.
    pub id: ResourceId,
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub resource_type: ResourceType,
    /// Where it is; empty for a subscription and for child resources without one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub location: String,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
    /// Its version.
    pub etag: ETag,
    /// Its kind, where its type has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its SKU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sku: Option<Value>,
    /// What its service says of it, with its provisioning state.
    pub properties: Map<String, Value>,
    /// Where it is in its life.
    #[serde(skip)]
    pub state: ProvisioningState,
    /// Who made and last changed it.
    pub system_data: SystemData,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    /// Its identifier.
    pub id: Uuid,
    /// The name that people see.
    pub display_name: String,
    /// The tenant that it belongs to.
    pub tenant_id: String,
    /// Its tags.
    pub tags: Tags,
}

/// A resource group.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceGroup {
    /// Its path.
    pub id: ResourceId,
    /// Its name.
    pub name: String,
    /// Where its own data is.
    pub location: String,
    /// Its tags.
    pub tags: Tags,
    /// The resource that manages it.
    pub managed_by: Option<String>,
    /// Where it is in its life.
    pub state: ProvisioningState,
    /// Its version.
    pub etag: ETag,
}

/// What a resource is asked to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceSpec {
    /// Where; cannot change later.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub location: String,
    /// Its tags.
    pub tags: Tags,
    /// Its kind; cannot change later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its SKU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sku: Option<Value>,
    /// What its service is to know of it.
    pub properties: Map<String, Value>,
}

/// What a resource group is asked to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupSpec {
    /// Where its own data is; cannot change later.
    pub location: String,
    /// Its tags.
    pub tags: Tags,
    /// The resource that manages it.
    pub managed_by: Option<String>,
}

/// Whether a change is done when it is acknowledged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "done or not done")]
pub enum Completion {
    /// Nothing is left to do.
    Done,
    /// Its service goes on and settles it later.
    Pending,
}

/// How a pending change ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is done. Properties that the service adds replace those of the same name.
    Succeeded(Map<String, Value>),
    /// It could not be done.
    Failed {
        /// The ARM error code.
        code: String,
        /// What happened.
        message: String,
    },
    /// It was called off.
    Canceled,
}

impl TrackedResource {
    pub(super) fn stamp(system_data: &mut SystemData, by: &Principal, at: Timestamp) {
        system_data.last_modified_by.clone_from(&by.name);
        by_type(by.kind).clone_into(&mut system_data.last_modified_by_type);
        system_data.last_modified_at = at;
    }

    /// As a subscription, if it is one.
    #[must_use]
    pub fn as_subscription(&self) -> Option<Subscription> {
        if self.resource_type.as_str() != "Microsoft.Resources/subscriptions" {
            return None;
        }
        let text = |name: &str| self.properties.get(name).and_then(Value::as_str);
        Some(Subscription {
            id: Uuid::parse_str(&self.name).ok()?,
            display_name: text("displayName").unwrap_or_default().to_owned(),
            tenant_id: text("tenantId").unwrap_or_default().to_owned(),
            tags: self.tags.clone(),
        })
    }

    /// As a resource group, if it is one.
    #[must_use]
    pub fn as_group(&self) -> Option<ResourceGroup> {
        if self.resource_type.as_str() != "Microsoft.Resources/subscriptions/resourceGroups" {
            return None;
        }
        let managed_by = self.properties.get("managedBy").and_then(Value::as_str);
        Some(ResourceGroup {
            id: self.id.clone(),
            name: self.name.clone(),
            location: self.location.clone(),
            tags: self.tags.clone(),
            managed_by: managed_by.map(str::to_owned),
            state: self.state,
            etag: self.etag.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::listing;

    #[test]
    fn the_state_table_is_this_one() {
        let states = crate::every_variant!(ProvisioningState {
            Absent,
            Creating,
            Updating,
            Succeeded,
            Failed,
            Canceled,
            Deleting
        });
        let events =
            crate::every_variant!(ProvisioningEvent { Put, Succeed, Fail, Cancel, Delete });
        let expect = "Absent --Put--> Creating\n\
                      Creating --Succeed--> Succeeded\n\
                      Creating --Fail--> Failed\n\
                      Creating --Cancel--> Canceled\n\
                      Updating --Succeed--> Succeeded\n\
                      Updating --Fail--> Failed\n\
                      Updating --Cancel--> Canceled\n\
                      Succeeded --Put--> Updating\n\
                      Succeeded --Delete--> Deleting\n\
                      Failed --Put--> Updating\n\
                      Failed --Delete--> Deleting\n\
                      Canceled --Put--> Updating\n\
                      Canceled --Delete--> Deleting\n\
                      Deleting --Succeed--> Absent\n\
                      Deleting --Fail--> Failed\n";
        assert_eq!(listing(&states, &events), expect);
    }

    #[test]
    fn preconditions_follow_rfc_9110() {
        let tag = ETag::of(26);
        assert_eq!(tag.as_str(), "\"000000000000001a\"");
        let holds = |if_match: Option<&str>, if_none_match: Option<&str>, current| {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            let conditions =
                Preconditions { if_match: owned(if_match), if_none_match: owned(if_none_match) };
            conditions.hold(current)
        };
        let (this, other) = (Some("\"x\", \"000000000000001a\""), Some("\"x\""));
        let weak = Some("W/\"000000000000001a\"");
        for (if_match, if_none_match, current, expect) in [
            (None, None, None, true),
            (None, None, Some(&tag), true),
            (Some("*"), None, None, false),
            (Some("*"), None, Some(&tag), true),
            (this, None, Some(&tag), true),
            (this, None, None, false),
            (other, None, Some(&tag), false),
            (weak, None, Some(&tag), false),
            (Some("000000000000001a"), None, Some(&tag), true),
            (None, Some("*"), None, true),
            (None, Some("*"), Some(&tag), false),
            (None, this, Some(&tag), false),
            (None, weak, Some(&tag), false),
            (None, other, Some(&tag), true),
        ] {
            let held = holds(if_match, if_none_match, current);
            assert_eq!(held, expect, "{if_match:?} {if_none_match:?} {current:?}");
        }
    }
}
