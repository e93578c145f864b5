//! A small suite: resources that two services share, a token endpoint, and a service of its own
//! with a long-running operation.

use http::{Method, StatusCode};
use oms_core::auth::{
    AssignmentId, Credentials, Principal, PrincipalKind, RoleAssignment, RoleAssignments,
    RoleDefinition,
};
use oms_core::http::{
    Access, Call, Mounted, Operations, Route, SigningKeys, Surface, TokenService, mount,
    resource_surface, respond,
};
use oms_core::journal::{Journal, MemoryJournal};
use oms_core::resource::{NameRules, ResourceId, Resources, TypeRegistry};
use oms_core::secret::KeyRing;
use oms_core::testkit::disk::SimDisk;
use oms_core::{Clock, Disk, Entropy, Secret, SystemClock, SystemEntropy};
use serde_json::json;
use std::sync::Arc;

pub(crate) const TENANT: &str = "aaaaaaaa-0000-0000-0000-000000000001";
pub(crate) const SUBSCRIPTION: &str = "bbbbbbbb-0000-0000-0000-000000000002";
pub(crate) const AUDIENCE: &str = "https://management.azure.com";

const VAULT: &str = "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}\
                     /providers/Microsoft.RecoveryServices/vaults/{vaultName}";

/// What is served, and the secrets of a client that owns the subscription and of one that holds
/// nothing.
pub(crate) struct Suite {
    pub(crate) mounted: Mounted,
    pub(crate) owner: Secret,
    pub(crate) stranger: Secret,
}

fn app(name: &str) -> Principal {
    Principal::new(PrincipalKind::ClientSecret, name)
}

/// Starts a drill, and ends it when it is told to.
fn drills(operations: &Arc<Operations>, tokens: &Arc<TokenService>) -> Surface {
    let (starts, ends) = (Arc::clone(operations), Arc::clone(operations));
    let start = move |call: Call| {
        let operations = Arc::clone(&starts);
        async move {
            let path = call.parts.uri.path();
            let scope: ResourceId =
                path.trim_end_matches("/start").parse().expect("a path that was routed");
            let by = call.principal.clone().expect("a known caller");
            match operations.begin("drill", &scope, &by).await {
                Ok(begun) => operations.accepted(&call, &begun, None),
                Err(error) => error.arm().response(),
            }
        }
    };
    let end = move |_call: Call| {
        let operations = Arc::clone(&ends);
        async move {
            for running in operations.running().await.expect("the journal reads") {
                let result = json!({"id": running.scope, "properties": {"drilled": true}});
                operations.succeed(running.id, result).await.expect("it runs");
            }
            respond::empty(StatusCode::NO_CONTENT)
        }
    };
    let pattern = format!("{VAULT}/drills/{{drillName}}");
    let may = |operation| Access::Operation { operation };
    let action = "Microsoft.RecoveryServices/vaults/drills/start/action";
    let mut surface = Surface::new("drills")
        .claim(&format!("{VAULT}/drills"))
        .authenticator(tokens.for_audiences([AUDIENCE]))
        .route(Route::new(Method::POST, &format!("{pattern}/start"), may(action), start))
        .route(Route::new(Method::POST, &format!("{pattern}/end"), may(action), end));
    for route in operations.routes(&pattern, "Microsoft.RecoveryServices/vaults/drills/read") {
        surface = surface.route(route);
    }
    surface
}

impl Suite {
    pub(crate) async fn new() -> Self {
        let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::default());
        let ring = KeyRing::open_folder(disk, Arc::clone(&entropy), "suite", false);
        let ring = Arc::new(ring.expect("a ring"));
        let parts = || (Arc::clone(&journal), Arc::clone(&clock), Arc::clone(&entropy));
        let by = Principal::local();

        let (j, c, e) = parts();
        let credentials = Credentials::open(j, Arc::clone(&ring), c, e).await.expect("opens");
        let (_, owner) = credentials.draw(app("owner"), None, &by).await.expect("drawn");
        let (_, stranger) = credentials.draw(app("stranger"), None, &by).await.expect("drawn");
        let (j, c, e) = parts();
        let keys = SigningKeys::open(j, ring, c, e).await.expect("opens");
        let tokens = TokenService::builder(TENANT, Arc::new(keys))
            .credentials(Arc::new(credentials))
            .audiences([AUDIENCE])
            .build();
        let tokens = Arc::new(tokens);

        let (j, c, e) = parts();
        let roles = RoleAssignments::open(j, c).await.expect("opens");
        let scope = ResourceId::of_subscription(SUBSCRIPTION).expect("a subscription");
        let role = RoleDefinition::named("Owner").expect("built in").id;
        let (id, principal) = (AssignmentId::draw(&*e), app("owner"));
        roles.assign(RoleAssignment { id, principal, role, scope }, &by).await.expect("assigned");

        let vaults = "Microsoft.RecoveryServices/vaults";
        let types = TypeRegistry::builder()
            .parent("backup", vaults, NameRules::VAULT)
            .parent("drills", vaults, NameRules::VAULT)
            .child("drills", "Microsoft.RecoveryServices/vaults/drills", NameRules::ANY)
            .build();
        let (j, c, e) = parts();
        let resources =
            Resources::open(Arc::clone(&j), Arc::clone(&c), Arc::new(types.expect("types")));
        let resources = Arc::new(resources.await.expect("opens"));
        let uuid = SUBSCRIPTION.parse().expect("a UUID");
        resources.put_subscription(uuid, "Ours", TENANT, &by).await.expect("a subscription");
        let operations = Arc::new(Operations::open(j, c, e).await.expect("opens"));

        let surfaces = vec![
            resource_surface(&resources, tokens.for_audiences([AUDIENCE])),
            drills(&operations, &tokens),
            tokens.surface(),
        ];
        let mounted = mount(surfaces, Arc::new(roles)).expect("mounts");
        Self { mounted, owner, stranger }
    }
}
