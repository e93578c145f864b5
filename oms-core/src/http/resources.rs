//! Subscriptions, resource groups and parent resources, over HTTP.
//!
//! What no single service owns is served here: a vault that carries backup and recovery, an
//! account that carries automation and configuration. Services claim the child types below them.

use super::{
    Access, ArmError, Authenticator, Call, Response, Route, Surface, preconditions, respond,
};
use crate::ErrorKind;
use crate::auth::Principal;
use crate::resource::{
    Completion, Filter, GroupSpec, ListQuery, Page, Preconditions, ResourceError, ResourceId,
    ResourceSpec, ResourceType, Resources, Scope, TrackedResource,
};
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::future::Future;
use std::sync::Arc;

const SUBSCRIPTION: &str = "/subscriptions/{subscriptionId}";
const GROUPS: &str = "/subscriptions/{subscriptionId}/resourceGroups";
const GROUP: &str = "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}";

type Answer = Result<Response, ArmError>;

/// Serves subscriptions, resource groups, lists of resources, and the resources of every type
/// that several services build on. Callers are recognised by `authenticator`.
#[must_use]
pub fn surface(resources: &Arc<Resources>, authenticator: Arc<dyn Authenticator>) -> Surface {
    let at = Routes { resources };
    let mut surface = Surface::new("resources")
        .authenticator(authenticator)
        .claim_exact("/subscriptions")
        .claim_exact(SUBSCRIPTION)
        .claim_exact(GROUPS)
        .claim_exact(GROUP);
    let list_all = "Microsoft.Resources/subscriptions/resources/read";
    let in_group = "Microsoft.Resources/subscriptions/resourceGroups/resources/read";
    for (of, operation) in [(SUBSCRIPTION, list_all), (GROUP, in_group)] {
        let pattern = format!("{of}/resources");
        surface = surface.claim_exact(&pattern).route(at.route(
            Method::GET,
            &pattern,
            operation,
            list_resources,
        ));
    }
    let moves = format!("{GROUP}/moveResources");
    let may_move = "Microsoft.Resources/subscriptions/resourceGroups/moveResources/action";
    surface = surface
        .claim_exact(&moves)
        .route(at.route(Method::POST, &moves, may_move, move_resources))
        .route(at.route(
            Method::GET,
            "/subscriptions",
            "Microsoft.Resources/subscriptions/read",
            list_subscriptions,
        ))
        .route(at.route(Method::GET, SUBSCRIPTION, "Microsoft.Resources/subscriptions/read", get))
        .route(at.route(Method::GET, GROUPS, READ_GROUP, list_groups))
        .route(at.route(Method::HEAD, GROUP, READ_GROUP, exists))
        .route(at.route(Method::GET, GROUP, READ_GROUP, get))
        .route(at.route(Method::PUT, GROUP, WRITE_GROUP, put_group))
        .route(at.route(Method::PATCH, GROUP, WRITE_GROUP, patch))
        .route(at.route(Method::DELETE, GROUP, DELETE_GROUP, delete));
    for info in resources.types().iter().filter(|info| info.is_shared) {
        // Operations live as long as the routes of the process.
        let operation = |verb| &*format!("{}/{verb}", info.resource_type).leak();
        let (read, write, gone) = (operation("read"), operation("write"), operation("delete"));
        let below = format!("/providers/{}", info.resource_type);
        let one = format!("{GROUP}{below}/{{resourceName}}");
        for scope in [SUBSCRIPTION, GROUP] {
            let all = format!("{scope}{below}");
            surface = surface.claim_exact(&all).route(at.route(Method::GET, &all, read, list_type));
        }
        surface = surface
            .claim_exact(&one)
            .route(at.route(Method::GET, &one, read, get))
            .route(at.route(Method::PUT, &one, write, put))
            .route(at.route(Method::PATCH, &one, write, patch))
            .route(at.route(Method::DELETE, &one, gone, delete));
    }
    surface
}

const READ_GROUP: &str = "Microsoft.Resources/subscriptions/resourceGroups/read";
const WRITE_GROUP: &str = "Microsoft.Resources/subscriptions/resourceGroups/write";
const DELETE_GROUP: &str = "Microsoft.Resources/subscriptions/resourceGroups/delete";

struct Routes<'a> {
    resources: &'a Arc<Resources>,
}

impl Routes<'_> {
    fn route<F, Fut>(
        &self,
        method: Method,
        pattern: &str,
        operation: &'static str,
        handler: F,
    ) -> Route
    where
        F: Fn(Arc<Resources>, Request) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        let resources = Arc::clone(self.resources);
        let access = Access::Operation { operation };
        Route::new(method, pattern, access, move |call: Call| {
            let resources = Arc::clone(&resources);
            async move {
                let answer = match Request::new(call) {
                    Ok(request) => handler(resources, request).await,
                    Err(error) => Err(error),
                };
                answer.unwrap_or_else(|error| error.response())
            }
        })
    }
}

/// A call with the path as an identity.
struct Request {
    call: Call,
    id: ResourceId,
    by: Principal,
    conditions: Preconditions,
}

impl Request {
    fn new(call: Call) -> Result<Self, ArmError> {
        let invalid = |why: String| ArmError::new(ErrorKind::Invalid, "InvalidRequestUri", why);
        let segments = super::path::segments(call.parts.uri.path())
            .map_err(|error| invalid(error.message().to_owned()))?;
        if segments.iter().any(|segment| segment.contains('/')) {
            return Err(invalid("a name has a slash".to_owned()));
        }
        let id = format!("/{}", segments.join("/")).parse::<ResourceId>();
        let id = id.map_err(|error| invalid(error.to_string()))?;
        let by = call.principal.clone().ok_or_else(|| {
            ArmError::new(ErrorKind::Unauthenticated, "AuthenticationFailed", "no caller")
        })?;
        let conditions = preconditions(&call);
        Ok(Self { call, id, by, conditions })
    }

    fn body<T: DeserializeOwned>(&self) -> Result<T, ArmError> {
        serde_json::from_slice(&self.call.body).map_err(|error| {
            let why = format!("body cannot be read: {error}");
            ArmError::new(ErrorKind::Invalid, "InvalidRequestContent", why)
        })
    }

    /// The path without its last segments.
    fn above(&self, levels: usize) -> ResourceId {
        (0..levels).fold(self.id.clone(), |id, _| id.above().unwrap_or_else(ResourceId::root))
    }

    fn query(&self, scope: Scope) -> Result<ListQuery, ArmError> {
        let query = &self.call.query;
        let filter: Filter = query.get("$filter").unwrap_or_default().parse().map_err(arm)?;
        let top = query.get("$top").map(|text| {
            text.parse::<usize>().map_err(|_nan| {
                ArmError::new(ErrorKind::Invalid, "InvalidQueryParameter", "$top is no number")
                    .target("$top")
            })
        });
        for refused in ["$expand", "$orderby", "$select", "$skip"] {
            if query.get(refused).is_some() {
                let why = format!("query option is not supported. option=`{refused}`");
                let error = ArmError::new(ErrorKind::Unsupported, "NotSupported", why);
                return Err(error.target(refused));
            }
        }
        let token = query.get("$skiptoken").map(str::to_owned);
        Ok(ListQuery { scope, filter, top: top.transpose()?, token })
    }

    fn list(&self, resources: &Resources, scope: Scope) -> Answer {
        let Page { items, next } = resources.list(&self.query(scope)?).map_err(arm)?;
        let shown: Vec<Value> = items.iter().map(|item| show(item)).collect();
        let link = next.map(|token| self.call.next_link(&token));
        Ok(respond::list(&shown, link.as_deref()))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn arm(error: ResourceError) -> ArmError {
    ArmError::from(&error)
}

/// A resource as its own type's clients read it.
fn show(resource: &TrackedResource) -> Value {
    if let Some(subscription) = resource.as_subscription() {
        return json!({
            "id": resource.id,
            "subscriptionId": subscription.id,
            "displayName": subscription.display_name,
            "tenantId": subscription.tenant_id,
            "state": "Enabled",
            "tags": subscription.tags,
        });
    }
    if let Some(group) = resource.as_group() {
        let mut shown = json!({
            "id": group.id,
            "name": group.name,
            "type": "Microsoft.Resources/resourceGroups",
            "location": group.location,
            "tags": group.tags,
            "properties": {"provisioningState": format!("{:?}", group.state)},
        });
        if let Some(managed_by) = group.managed_by {
            shown["managedBy"] = managed_by.into();
        }
        return shown;
    }
    serde_json::to_value(resource).unwrap_or_default()
}

fn shown(status: StatusCode, resource: &TrackedResource) -> Response {
    let mut response = respond::json(status, &show(resource));
    if let Ok(etag) = http::HeaderValue::from_str(resource.etag.as_str()) {
        response.headers_mut().insert(http::header::ETAG, etag);
    }
    response
}

async fn list_subscriptions(resources: Arc<Resources>, request: Request) -> Answer {
    request.list(&resources, Scope::Subscriptions)
}

async fn list_groups(resources: Arc<Resources>, request: Request) -> Answer {
    let scope = request.above(1);
    found(&resources, &scope)?;
    request.list(&resources, Scope::Groups(scope))
}

async fn list_resources(resources: Arc<Resources>, request: Request) -> Answer {
    let scope = request.above(1);
    found(&resources, &scope)?;
    request.list(&resources, Scope::Resources(scope))
}

async fn list_type(resources: Arc<Resources>, request: Request) -> Answer {
    let scope = request.above(3);
    found(&resources, &scope)?;
    let of: ResourceType = {
        let arm_id = request.id.arm().map_err(|error| arm(error.into()))?;
        arm_id.resource_type().ok_or_else(|| not_there(&request.id))?
    };
    request.list(&resources, Scope::Type(scope, of))
}

async fn get(resources: Arc<Resources>, request: Request) -> Answer {
    Ok(shown(StatusCode::OK, &*found(&resources, &request.id)?))
}

async fn exists(resources: Arc<Resources>, request: Request) -> Answer {
    found(&resources, &request.id)?;
    Ok(respond::empty(StatusCode::NO_CONTENT))
}

async fn put_group(resources: Arc<Resources>, request: Request) -> Answer {
    let spec: GroupSpec = request.body()?;
    let (id, conditions, by) = (&request.id, &request.conditions, &request.by);
    let put = resources.put_group(id, spec, conditions, by).await.map_err(arm)?;
    Ok(shown(created_or_ok(put.is_new), &put.resource))
}

async fn put(resources: Arc<Resources>, request: Request) -> Answer {
    let spec: ResourceSpec = request.body()?;
    let (id, conditions, by) = (&request.id, &request.conditions, &request.by);
    let put = resources.put(id, spec, conditions, Completion::Done, by).await.map_err(arm)?;
    Ok(shown(created_or_ok(put.is_new), &put.resource))
}

async fn patch(resources: Arc<Resources>, request: Request) -> Answer {
    let patch: Value = request.body()?;
    let (id, conditions, by) = (&request.id, &request.conditions, &request.by);
    let put = resources.patch(id, &patch, conditions, Completion::Done, by).await;
    Ok(shown(StatusCode::OK, &put.map_err(arm)?.resource))
}

async fn delete(resources: Arc<Resources>, request: Request) -> Answer {
    let (id, conditions, by) = (&request.id, &request.conditions, &request.by);
    let is_group = request.id.arm().is_ok_and(|arm_id| arm_id.providers().is_empty());
    match resources.delete(id, conditions, Completion::Done, by).await {
        // The clients of groups take 200 alone, those of the types below 204 alone.
        Ok(_) if is_group => Ok(respond::empty(StatusCode::OK)),
        Err(ResourceError::NotFound { id }) if is_group => Err(not_there(&id)),
        // What is not there need not be deleted.
        Ok(_) | Err(ResourceError::NotFound { .. }) => Ok(respond::empty(StatusCode::NO_CONTENT)),
        Err(error) => Err(arm(error)),
    }
}

async fn move_resources(resources: Arc<Resources>, request: Request) -> Answer {
    let target = request.above(1);
    resources.move_to(&target).map_err(arm)?;
    Ok(respond::empty(StatusCode::NO_CONTENT))
}

const fn created_or_ok(is_new: bool) -> StatusCode {
    if is_new { StatusCode::CREATED } else { StatusCode::OK }
}

fn found(resources: &Resources, id: &ResourceId) -> Result<Arc<TrackedResource>, ArmError> {
    resources.get(id).ok_or_else(|| not_there(id))
}

fn not_there(id: &ResourceId) -> ArmError {
    let of = id.arm().ok();
    let of = of.filter(|arm_id| arm_id.providers().is_empty());
    let code = match of.map(|arm_id| arm_id.resource_group().is_some()) {
        Some(true) => "ResourceGroupNotFound",
        Some(false) => "SubscriptionNotFound",
        None => "ResourceNotFound",
    };
    let why = ResourceError::NotFound { id: id.clone() }.to_string();
    ArmError::new(ErrorKind::NotFound, code, why)
}
