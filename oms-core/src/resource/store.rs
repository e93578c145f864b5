//! Subscriptions, groups and resources, kept in the journal.

use super::change::{Change, KIND};
use super::index::Index;
use super::tracked::PROPERTIES_BYTES_MAX;
use super::{
    ArmId, Completion, GroupSpec, ListQuery, NameRules, Outcome, Page, Preconditions,
    ProvisioningState, ResourceError, ResourceId, ResourceSpec, ResourceType, TrackedResource,
    TypeRegistry,
};
use crate::Clock;
use crate::auth::Principal;
use crate::journal::{
    Append, Event, HistoryId, Journal, JournalError, JournalEvent as _, JournalExt, READ_MAX,
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use uuid::Uuid;

/// The most resources of one group, so that a group goes in one append.
pub const MEMBERS_MAX: usize = 4_000;

/// The most subscriptions, groups and resources together.
const RESOURCES_MAX: usize = 200_000;

/// How often a write is planned again after another process was faster.
const ATTEMPTS_MAX: usize = 8;

/// What a put came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Put {
    /// The resource as it is now.
    pub resource: Arc<TrackedResource>,
    /// Whether it was not there before.
    pub is_new: bool,
}

/// What a write is to append, by path.
type Plan = Vec<(String, Vec<Change>)>;

/// Keeps subscriptions, resource groups and tracked resources, each a history of the journal.
///
/// Whatever is created in a parent is an event of the parent too, so that a parent and what is in
/// it go together or not at all, also where several processes write. Another process's changes
/// are seen by reads after [`Resources::refresh`]; a write always sees them.
pub struct Resources {
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    types: Arc<TypeRegistry>,
    index: RwLock<Index>,
    writing: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let live = self.read(Index::live);
        f.debug_struct("Resources").field("resources", &live).finish_non_exhaustive()
    }
}

impl Resources {
    /// Replays what the journal holds.
    ///
    /// # Errors
    /// [`ResourceError::Journal`]; [`ResourceError::Corrupt`].
    pub async fn open(
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
        types: Arc<TypeRegistry>,
    ) -> Result<Self, ResourceError> {
        let (index, writing) = (RwLock::default(), tokio::sync::Mutex::new(()));
        let this = Self { journal, clock, types, index, writing };
        this.refresh().await?;
        Ok(this)
    }

    /// Which types there are.
    #[must_use]
    pub const fn types(&self) -> &Arc<TypeRegistry> {
        &self.types
    }

    /// Reads what other processes appended.
    ///
    /// # Errors
    /// [`ResourceError::Journal`]; [`ResourceError::Corrupt`].
    pub async fn refresh(&self) -> Result<(), ResourceError> {
        let _writing = self.writing.lock().await;
        self.catch_up().await
    }

    /// A subscription, group or resource.
    #[must_use]
    pub fn get(&self, id: &ResourceId) -> Option<Arc<TrackedResource>> {
        self.read(|index| index.get(&id.canonical()).cloned())
    }

    /// Code and message of a resource's last change, if it failed.
    #[must_use]
    pub fn failure(&self, id: &ResourceId) -> Option<(String, String)> {
        self.read(|index| index.node(&id.canonical())?.failure.clone())
    }

    /// A page of a list.
    ///
    /// # Errors
    /// [`ResourceError::Token`]; [`ResourceError::Unsupported`] for a `$top` of 0.
    pub fn list(&self, query: &ListQuery) -> Result<Page, ResourceError> {
        self.read(|index| query.run(index))
    }

    /// Creates or changes a subscription.
    ///
    /// # Errors
    /// [`ResourceError`].
    pub async fn put_subscription(
        &self,
        id: Uuid,
        display_name: &str,
        tenant_id: &str,
        by: &Principal,
    ) -> Result<Put, ResourceError> {
        let path = ResourceId::of_subscription(&id.to_string())?;
        let text = |text: &str| Value::String(text.to_owned());
        let properties = Map::from_iter([
            ("displayName".to_owned(), text(display_name)),
            ("tenantId".to_owned(), text(tenant_id)),
        ]);
        let spec = ResourceSpec { properties, ..ResourceSpec::default() };
        self.write_put(&path, &Ask::Put(spec), &Preconditions::default(), Completion::Done, by)
            .await
    }

    /// Creates or changes a resource group.
    ///
    /// # Errors
    /// [`ResourceError`].
    pub async fn put_group(
        &self,
        id: &ResourceId,
        spec: GroupSpec,
        conditions: &Preconditions,
        by: &Principal,
    ) -> Result<Put, ResourceError> {
        if !matches!(id.arm()?.resource_type(), Some(of) if is_group(&of)) {
            return Err(ResourceError::Invalid { id: id.clone(), reason: "not a resource group" });
        }
        let managed_by = spec.managed_by.map(|by| ("managedBy".to_owned(), Value::String(by)));
        let properties = managed_by.into_iter().collect();
        let (location, tags) = (spec.location, spec.tags);
        let spec = ResourceSpec { location, tags, properties, ..ResourceSpec::default() };
        self.write_put(id, &Ask::Put(spec), conditions, Completion::Done, by).await
    }

    /// Creates or changes a tracked resource. With [`Completion::Pending`] its service settles it
    /// later, and until then it takes no further change.
    ///
    /// # Errors
    /// [`ResourceError`].
    pub async fn put(
        &self,
        id: &ResourceId,
        spec: ResourceSpec,
        conditions: &Preconditions,
        completion: Completion,
        by: &Principal,
    ) -> Result<Put, ResourceError> {
        self.write_put(id, &Ask::Put(spec), conditions, completion, by).await
    }

    /// Changes a part of a resource or group that is there: `location`, `tags`, `sku`, `kind` and
    /// `properties`, merged by RFC 7396.
    ///
    /// # Errors
    /// [`ResourceError`].
    pub async fn patch(
        &self,
        id: &ResourceId,
        patch: &Value,
        conditions: &Preconditions,
        completion: Completion,
        by: &Principal,
    ) -> Result<Put, ResourceError> {
        self.write_put(id, &Ask::Patch(patch.clone()), conditions, completion, by).await
    }

    /// Deletes a resource or group with everything in it, or begins to: with
    /// [`Completion::Pending`] nothing can be created in it any more, and it goes, with what is in
    /// it, when it is settled.
    ///
    /// # Errors
    /// [`ResourceError::Held`] if a guard or an unfinished change holds any of it; nothing goes
    /// then.
    pub async fn delete(
        &self,
        id: &ResourceId,
        conditions: &Preconditions,
        completion: Completion,
        by: &Principal,
    ) -> Result<Arc<TrackedResource>, ResourceError> {
        let _writing = self.writing.lock().await;
        self.follow(id).await?;
        let key = id.canonical();
        if id.arm()?.resource_type().is_some_and(|of| is_subscription(&of)) {
            let what = "deleting a subscription";
            return Err(ResourceError::Unsupported { what, at: id.to_string() });
        }
        for _ in 0..ATTEMPTS_MAX {
            let found = self.read(|index| index.get(&key).cloned());
            if !conditions.hold(found.as_deref().map(|found| &found.etag)) {
                return Err(ResourceError::PreconditionFailed { id: id.clone() });
            }
            let Some(found) = found else {
                return Err(ResourceError::NotFound { id: id.clone() });
            };
            self.check_guards(&key).await?;
            let plan = self.read(|index| {
                check_settled(&found)?;
                let deleting = Change::Deleting { by: by.clone() };
                match completion {
                    Completion::Pending => Ok(vec![(key.clone(), vec![deleting])]),
                    Completion::Done => plan_removal(index, &key, Some(deleting)),
                }
            })?;
            if self.append(plan, by).await? {
                return Ok(found);
            }
        }
        Err(ResourceError::Busy { id: id.clone(), state: ProvisioningState::Updating })
    }

    /// Ends a pending change. None if it was a deletion that succeeded.
    ///
    /// # Errors
    /// [`ResourceError::Busy`] if no change is under way.
    pub async fn settle(
        &self,
        id: &ResourceId,
        outcome: Outcome,
        by: &Principal,
    ) -> Result<Option<Arc<TrackedResource>>, ResourceError> {
        let _writing = self.writing.lock().await;
        self.follow(id).await?;
        let key = id.canonical();
        for _ in 0..ATTEMPTS_MAX {
            let plan = self.read(|index| {
                let found =
                    index.get(&key).ok_or_else(|| ResourceError::NotFound { id: id.clone() })?;
                if found.state.is_settled() {
                    return Err(ResourceError::Busy { id: id.clone(), state: found.state });
                }
                let change = match outcome.clone() {
                    Outcome::Succeeded(_) if found.state == ProvisioningState::Deleting => {
                        return plan_removal(index, &key, None);
                    }
                    Outcome::Succeeded(properties) => Change::Succeeded { properties },
                    Outcome::Failed { code, message } => Change::Failed { code, message },
                    Outcome::Canceled if found.state == ProvisioningState::Deleting => {
                        let reason = "a deletion cannot be called off";
                        return Err(ResourceError::Invalid { id: id.clone(), reason });
                    }
                    Outcome::Canceled => Change::Canceled,
                };
                Ok(vec![(key.clone(), vec![change])])
            })?;
            if self.append(plan, by).await? {
                return Ok(self.read(|index| index.get(&key).cloned()));
            }
        }
        Err(ResourceError::Busy { id: id.clone(), state: ProvisioningState::Updating })
    }

    /// Refuses to move resources to another group or subscription.
    ///
    /// # Errors
    /// [`ResourceError::Unsupported`], always: what names a resource elsewhere (recovery points,
    /// records, grants) does so by its path.
    pub fn move_to(&self, target: &ResourceId) -> Result<(), ResourceError> {
        let what = "moving resources to another group or subscription";
        Err(ResourceError::Unsupported { what, at: target.to_string() })
    }

    async fn write_put(
        &self,
        id: &ResourceId,
        ask: &Ask,
        conditions: &Preconditions,
        completion: Completion,
        by: &Principal,
    ) -> Result<Put, ResourceError> {
        let resource_type = self.check_name(id)?;
        let _writing = self.writing.lock().await;
        self.follow(id).await?;
        let key = id.canonical();
        if self.read(|index| index.get(&key).is_none()) {
            self.types.check_create(&resource_type, id).await?;
        }
        for _ in 0..ATTEMPTS_MAX {
            let (plan, is_new) = self.read(|index| {
                let found = index.get(&key);
                if !conditions.hold(found.map(|found| &found.etag)) {
                    return Err(ResourceError::PreconditionFailed { id: id.clone() });
                }
                let spec = ask.spec(id, found.map(|found| &**found))?;
                self.check_spec(id, &resource_type, &spec, found.map(|found| &**found))?;
                let mut plan = Vec::new();
                if found.is_none() {
                    plan.extend(self.plan_membership(index, id)?);
                }
                let of = resource_type.clone();
                let put = Change::Put { id: id.clone(), resource_type: of, spec, by: by.clone() };
                let mut changes = vec![put];
                if completion == Completion::Done {
                    changes.push(Change::Succeeded { properties: Map::new() });
                }
                plan.push((key.clone(), changes));
                Ok((plan, found.is_none()))
            })?;
            if self.append(plan, by).await? {
                let found = self.read(|index| index.get(&key).cloned());
                let resource = found.ok_or_else(|| ResourceError::NotFound { id: id.clone() })?;
                return Ok(Put { resource, is_new });
            }
        }
        Err(ResourceError::Busy { id: id.clone(), state: ProvisioningState::Updating })
    }

    /// The type of a path that names one resource with a name that its type takes.
    fn check_name(&self, id: &ResourceId) -> Result<ResourceType, ResourceError> {
        let invalid = |reason| ResourceError::Invalid { id: id.clone(), reason };
        let key = id.canonical();
        HistoryId::new(KIND, &key).map_err(|_long| invalid("path is longer than 512 bytes"))?;
        let arm = id.arm()?;
        let (Some(resource_type), Some(name)) = (arm.resource_type(), arm.name()) else {
            return Err(invalid("the path names no single resource"));
        };
        if is_subscription(&resource_type) {
            Uuid::parse_str(name).map_err(|_other| invalid("a subscription's name is a UUID"))?;
        } else if is_group(&resource_type) {
            NameRules::RESOURCE_GROUP.check(name)?;
        } else {
            match self.types.get(&resource_type) {
                Some(info) if info.is_tracked => info.names.check(name)?,
                _ => return Err(ResourceError::UnknownType { resource_type }),
            }
        }
        Ok(resource_type)
    }

    fn check_spec(
        &self,
        id: &ResourceId,
        of: &ResourceType,
        spec: &ResourceSpec,
        found: Option<&TrackedResource>,
    ) -> Result<(), ResourceError> {
        let needs_location = is_group(of) || (!is_subscription(of) && of.parent().is_none());
        if needs_location && spec.location.trim().is_empty() {
            return Err(ResourceError::Invalid { id: id.clone(), reason: "location is missing" });
        }
        if !(0..=128).contains(&spec.location.len()) {
            return Err(ResourceError::Invalid { id: id.clone(), reason: "location is too long" });
        }
        let bytes = serde_json::to_string(&(&spec.properties, &spec.sku, &spec.kind));
        let bytes = bytes.map_or(usize::MAX, |text| text.len());
        if bytes > PROPERTIES_BYTES_MAX {
            let limit = PROPERTIES_BYTES_MAX;
            return Err(ResourceError::TooLarge { what: "properties", bytes, limit });
        }
        let Some(found) = found else { return Ok(()) };
        check_settled(found)?;
        // "West Europe" and "westeurope" are one place.
        let place = |text: &str| text.replace(' ', "").to_ascii_lowercase();
        let immutable = |property| Err(ResourceError::Immutable { id: id.clone(), property });
        if place(&found.location) != place(&spec.location) {
            return immutable("location");
        }
        match found.kind == spec.kind {
            true => Ok(()),
            false => immutable("kind"),
        }
    }

    /// The event in the parent of what is created, if everything above takes it.
    fn plan_membership(&self, index: &Index, id: &ResourceId) -> Result<Plan, ResourceError> {
        if index.live() >= RESOURCES_MAX {
            return Err(ResourceError::TooMany { what: "resources", limit: RESOURCES_MAX });
        }
        let Some(parent) = self.kept_above(id)? else { return Ok(Vec::new()) };
        let mut above = Some(parent.clone());
        while let Some(scope) = above {
            let Some(found) = index.get(&scope.canonical()) else {
                let id = id.clone();
                return Err(ResourceError::ParentNotFound { id, parent: scope });
            };
            if found.state == ProvisioningState::Deleting {
                return Err(ResourceError::Busy { id: scope, state: found.state });
            }
            let is_group = is_group(&found.resource_type);
            if is_group && index.below(&scope.canonical(), None).count() >= MEMBERS_MAX {
                return Err(ResourceError::TooMany {
                    what: "resources of a group",
                    limit: MEMBERS_MAX,
                });
            }
            above = self.kept_above(&scope)?;
        }
        Ok(vec![(parent.canonical(), vec![Change::Member { id: id.clone() }])])
    }

    /// The nearest thing above that is kept here: a child type of a service is not.
    fn kept_above(&self, id: &ResourceId) -> Result<Option<ResourceId>, ResourceError> {
        let mut above = id.arm()?.parent();
        while let Some(scope) = above {
            let arm: ArmId<'_> = scope.arm()?;
            let Some(of) = arm.resource_type() else { return Ok(None) };
            let of_service = self.types.get(&of).is_some_and(|info| !info.is_tracked);
            if !of_service {
                return Ok(Some(scope));
            }
            above = arm.parent();
        }
        Ok(None)
    }

    /// Asks the guards of a resource and of what is in it.
    async fn check_guards(&self, key: &str) -> Result<(), ResourceError> {
        let asked: Vec<Arc<TrackedResource>> = self.read(|index| {
            let below = index.below(key, None).map(|(_, resource)| resource);
            index.get(key).into_iter().chain(below).cloned().collect()
        });
        for resource in asked {
            self.types.check_delete(&resource.resource_type, &resource.id).await?;
        }
        Ok(())
    }

    fn read<T>(&self, look: impl FnOnce(&Index) -> T) -> T {
        look(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Appends a plan and applies it. False if another process was faster: the index has its
    /// events then, and the caller plans again. The caller holds `writing`.
    async fn append(&self, plan: Plan, by: &Principal) -> Result<bool, ResourceError> {
        let now = self.clock.now();
        let mut appends = Vec::new();
        for (key, changes) in plan {
            let expected = self.read(|index| index.version(&key));
            let mut events = Vec::new();
            for change in changes {
                events.push(change.seal(now, &by.to_string())?);
            }
            appends.push(Append { history: HistoryId::new(KIND, &key)?, expected, events });
        }
        match self.journal.append(appends.clone()).await {
            Ok(_) => {}
            Err(JournalError::Conflict { .. }) => {
                self.catch_up().await?;
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        for Append { history, expected, events } in appends {
            for (version, envelope) in (expected + 1..).zip(events) {
                let history = history.clone();
                index.apply(&Event { position: 0, history, version, envelope })?;
            }
        }
        Ok(true)
    }

    /// Reads what other processes did to a resource, to what it lies in, and to what they created
    /// there. The caller holds `writing`.
    async fn follow(&self, id: &ResourceId) -> Result<(), ResourceError> {
        let mut keys = Vec::new();
        let mut above = Some(id.clone());
        while let Some(scope) = above {
            keys.push(scope.canonical());
            above = scope.arm()?.parent().filter(|parent| *parent != ResourceId::root());
        }
        while let Some(key) = keys.pop() {
            let Ok(history) = HistoryId::new(KIND, &key) else { continue };
            let known = self.read(|index| index.version(&key));
            let events = self.journal.read(&history, known, READ_MAX).await?;
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            for event in events {
                index.apply(&event)?;
                if let Change::Member { id } = Change::open(&event.envelope)? {
                    keys.push(id.canonical());
                }
            }
        }
        Ok(())
    }

    /// Reads the events that the index has not. The caller holds `writing`.
    async fn catch_up(&self) -> Result<(), ResourceError> {
        for head in self.journal.list_whole(KIND).await? {
            loop {
                let known = self.read(|index| index.version(head.history.key()));
                if known >= head.version {
                    break;
                }
                let events = self.journal.read(&head.history, known, READ_MAX).await?;
                if events.is_empty() {
                    break;
                }
                let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
                for event in events {
                    index.apply(&event)?;
                }
            }
        }
        Ok(())
    }
}

/// What a put asks for.
#[derive(Debug)]
enum Ask {
    Put(ResourceSpec),
    Patch(Value),
}

impl Ask {
    fn spec(
        &self,
        id: &ResourceId,
        found: Option<&TrackedResource>,
    ) -> Result<ResourceSpec, ResourceError> {
        let patch = match self {
            Self::Put(spec) => return Ok(spec.clone()),
            Self::Patch(patch) => patch,
        };
        let invalid = |reason| ResourceError::Invalid { id: id.clone(), reason };
        let found = found.ok_or_else(|| ResourceError::NotFound { id: id.clone() })?;
        let mut properties = found.properties.clone();
        properties.remove("provisioningState");
        let spec = ResourceSpec {
            location: found.location.clone(),
            tags: found.tags.clone(),
            kind: found.kind.clone(),
            sku: found.sku.clone(),
            properties,
        };
        let mut json = serde_json::to_value(spec).map_err(|_never| invalid("no JSON"))?;
        let Value::Object(fields) = patch else { return Err(invalid("a patch is an object")) };
        let known = ["location", "tags", "kind", "sku", "properties"];
        for (name, value) in fields {
            if known.contains(&name.as_str()) {
                merge(&mut json[name.as_str()], value, PATCH_DEPTH_MAX)
                    .map_err(|()| invalid("a patch is nested too deeply"))?;
            }
        }
        if let Value::Object(json) = &mut json {
            json.retain(|_, value| !value.is_null());
        }
        serde_json::from_value(json).map_err(|_bad| invalid("a patched field has a wrong form"))
    }
}

/// How deeply a patch may be nested.
const PATCH_DEPTH_MAX: usize = 32;

/// RFC 7396, 2.
fn merge(target: &mut Value, patch: &Value, depth: usize) -> Result<(), ()> {
    let depth = depth.checked_sub(1).ok_or(())?;
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return Ok(()) };
    for (name, value) in fields {
        match value {
            Value::Null => drop(target.remove(name)),
            _ => merge(target.entry(name.clone()).or_insert(Value::Null), value, depth)?,
        }
    }
    Ok(())
}

fn is_group(of: &ResourceType) -> bool {
    of.as_str().eq_ignore_ascii_case("Microsoft.Resources/subscriptions/resourceGroups")
}

fn is_subscription(of: &ResourceType) -> bool {
    of.as_str().eq_ignore_ascii_case("Microsoft.Resources/subscriptions")
}

fn check_settled(found: &TrackedResource) -> Result<(), ResourceError> {
    match found.state.is_settled() {
        true => Ok(()),
        false => Err(ResourceError::Busy { id: found.id.clone(), state: found.state }),
    }
}

/// The end of a resource and of everything in it. `first` is what comes before the resource's own
/// end; what is in it has always its deletion before.
fn plan_removal(index: &Index, key: &str, first: Option<Change>) -> Result<Plan, ResourceError> {
    let gone = || Change::Succeeded { properties: Map::new() };
    let mut plan = BTreeMap::new();
    let by = match &first {
        Some(Change::Deleting { by }) => by.clone(),
        _ => Principal::local(),
    };
    for (member, resource) in index.below(key, None) {
        check_settled(resource)?;
        let deleting = Change::Deleting { by: by.clone() };
        plan.insert(member.to_owned(), vec![deleting, gone()]);
    }
    plan.insert(key.to_owned(), first.into_iter().chain([gone()]).collect());
    Ok(plan.into_iter().collect())
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
