//! Who may call and what is managed: clients, roles, signing keys, the subscription with its
//! resources.
//!
//! A new data directory gets one client, `client_id` of `admin.json`, that owns everything.
//! All of it is in the journal, so processes that share one see each other's changes.

use crate::admin::Admin;
use crate::suite::Service;
use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use oms_core::auth::{
    AnyOf, AssignmentId, Authorizer, CredentialKind, Credentials, Grant, Grants, NewCredential,
    Principal, PrincipalKind, RoleAssignment, RoleAssignments, RoleDefinition,
};
use oms_core::http::{Authenticator, SigningKeys, Surface, TokenService, resource_surface};
use oms_core::resource::{
    Completion, GroupSpec, Preconditions, ResourceGuard, ResourceId, ResourceSpec, Resources,
    TypeRegistry,
};
use oms_core::secret::KeyRing;
use oms_core::{Clock, Disk, Entropy, Journal, LocalDisk, SystemClock, SystemEntropy};
use oms_dsc::PullServer;
use oms_dsc::arm::ArmAccount;
use oms_dsc::pull_server::{COMPILATION_HISTORY, REGISTRATION_KEY_HISTORY};
use oms_logs::http::{INGEST_OPERATION, SharedKeys, data_collector};
use std::path::PathBuf;
use std::sync::Arc;

/// What tokens are for: the names under which Azure's clients ask for the management API.
const AUDIENCES: [&str; 2] =
    ["https://management.azure.com", "https://management.core.windows.net"];

/// Where resources of this process are said to be.
const LOCATION: &str = "local";

/// The kinds of histories with something in them that only the key ring opens.
const SEALED: [&str; 4] =
    ["credential", "token-signing-key", REGISTRATION_KEY_HISTORY, COMPILATION_HISTORY];

/// The identities of one journal.
pub(crate) struct Identity {
    ring: Arc<KeyRing>,
    tokens: Arc<TokenService>,
    keys: Arc<SigningKeys>,
    credentials: Arc<Credentials>,
    roles: Arc<RoleAssignments>,
    resources: Arc<Resources>,
    /// Whoever signs with the workspace's key.
    workspace: Principal,
    /// The account whose configurations a pull server of this process has.
    account: ResourceId,
}

impl Identity {
    /// Reads what the journal holds; draws and writes what a new one lacks.
    pub(crate) async fn open(
        folder: PathBuf,
        journal: &Arc<dyn Journal>,
        admin: &Admin,
        services: &[Service],
    ) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let parts = || (Arc::clone(journal), Arc::clone(&clock), Arc::clone(&entropy));
        let mut has_sealed = false;
        for kind in SEALED {
            has_sealed |= !journal.list(kind, None, 1).await?.is_empty();
        }
        let disk: Arc<dyn Disk> = Arc::new(LocalDisk::new(folder)?);
        let ring = KeyRing::open_folder(disk, Arc::clone(&entropy), "oms", has_sealed);
        let ring = Arc::new(ring.context(
            "the key ring; a journal that several processes share needs the folder `keys` of the \
             directory that made it",
        )?);

        let (j, c, e) = parts();
        let credentials = Arc::new(Credentials::open(j, Arc::clone(&ring), c, e).await?);
        let (j, c, e) = parts();
        let keys = Arc::new(SigningKeys::open(j, Arc::clone(&ring), c, e).await?);
        let (j, c, _) = parts();
        let roles = Arc::new(RoleAssignments::open(j, c).await?);
        let (j, c, _) = parts();
        let types = Arc::new(types(admin, services)?);
        let resources = Arc::new(Resources::open(j, c, types).await?);
        let tokens = TokenService::builder(admin.tenant_id.clone(), Arc::clone(&keys))
            .credentials(Arc::clone(&credentials))
            .audiences(AUDIENCES.into_iter().chain([oms_logs::http::INGEST_AUDIENCE]))
            .build();
        let tokens = Arc::new(tokens);
        let workspace = Principal::new(PrincipalKind::SharedKey, admin.workspace_id.to_lowercase());
        let account = resource_of(admin, Service::Dsc)?;
        let identity =
            Self { ring, tokens, keys, credentials, roles, resources, workspace, account };
        identity.furnish(admin, services).await?;
        if journal.list(SEALED[0], None, 1).await?.is_empty() {
            identity.admit(admin).await?;
        }
        identity.admit_workspace(admin).await?;
        Ok(identity)
    }

    /// The subscription, its group and the services' resources, where they are missing.
    async fn furnish(&self, admin: &Admin, services: &[Service]) -> Result<()> {
        let by = Principal::local();
        let resources = &self.resources;
        let subscription = ResourceId::of_subscription(&admin.subscription_id)?;
        match resources.get(&subscription) {
            Some(found) => {
                let tenant = found.as_subscription().map(|subscription| subscription.tenant_id);
                if tenant.as_deref() != Some(admin.tenant_id.as_str()) {
                    bail!(
                        "the subscription of admin.json belongs to another tenant. \
                         subscription=`{subscription}`"
                    );
                }
            }
            None if !self.credentials.list(PrincipalKind::ClientSecret).is_empty() => bail!(
                "the journal belongs to another directory; take its admin.json and its folder \
                 `keys`. subscription=`{subscription}`"
            ),
            None => {
                let id = admin.subscription_id.parse().context("subscription_id in admin.json")?;
                resources.put_subscription(id, "OMS", &admin.tenant_id, &by).await?;
            }
        }
        let group = ResourceId::of_group(&admin.subscription_id, &admin.resource_group)?;
        let any = Preconditions::default();
        if resources.get(&group).is_none() {
            let spec = GroupSpec { location: LOCATION.to_owned(), ..GroupSpec::default() };
            resources.put_group(&group, spec, &any, &by).await?;
        }
        for id in resources_of(admin, services)? {
            if resources.get(&id).is_none() {
                let spec =
                    ResourceSpec { location: LOCATION.to_owned(), ..ResourceSpec::default() };
                resources.put(&id, spec, &any, Completion::Done, &by).await?;
            }
        }
        Ok(())
    }

    /// Makes the client of `admin.json` the owner. Its credential comes last: it says that this
    /// was done, also when it is revoked later.
    async fn admit(&self, admin: &Admin) -> Result<()> {
        let by = Principal::local();
        let client = Principal::new(PrincipalKind::ClientSecret, &admin.client_id);
        let scope = ResourceId::root();
        let is_owner = self.roles.assignments(&scope).iter().any(|held| held.principal == client);
        if !is_owner {
            let role = RoleDefinition::named("Owner").context("the role Owner")?.id;
            let id = AssignmentId::draw(&SystemEntropy);
            let assignment = RoleAssignment { id, principal: client.clone(), role, scope };
            self.roles.assign(assignment, &by).await?;
        }
        let proof = CredentialKind::Secret(admin.client_secret.clone());
        let credential = NewCredential { principal: client, expires: None, proof };
        self.credentials.add(&credential, &by).await?;
        Ok(())
    }

    /// Keeps the workspace's key, unless it was kept before: one that was revoked stays so.
    async fn admit_workspace(&self, admin: &Admin) -> Result<()> {
        if self.credentials.has_known(&self.workspace) {
            return Ok(());
        }
        let proof = CredentialKind::Key(admin.workspace_key.clone());
        let principal = self.workspace.clone();
        let credential = NewCredential { principal, expires: None, proof };
        self.credentials.add(&credential, &Principal::local()).await?;
        Ok(())
    }

    /// Reads what other processes changed.
    pub(crate) async fn refresh(&self) -> Result<()> {
        // One that fails does not keep the others from it.
        let credentials = self.credentials.refresh().await;
        let keys = self.keys.refresh().await;
        let roles = self.roles.refresh().await;
        let resources = self.resources.refresh().await;
        credentials?;
        keys?;
        roles?;
        Ok(resources?)
    }

    /// What seals keys in the journal.
    pub(crate) const fn key_ring(&self) -> &Arc<KeyRing> {
        &self.ring
    }

    /// The token endpoint, and subscriptions with what is in them.
    pub(crate) fn surfaces(&self) -> [Surface; 2] {
        let authenticator = self.tokens.for_audiences(AUDIENCES);
        [self.tokens.surface(), resource_surface(&self.resources, authenticator)]
    }

    /// The management of the account's configurations and nodes, for its clients.
    pub(crate) fn configurations(&self, server: &Arc<PullServer>) -> Result<Surface> {
        let account = ArmAccount {
            server: Arc::clone(server),
            id: self.account.clone(),
            location: LOCATION.to_owned(),
            pull_path: oms_dsc::http::PATH.to_owned(),
        };
        Ok(oms_dsc::arm::surface(account, self.tokens.for_audiences(AUDIENCES))?)
    }

    /// What recognises senders of records by their tokens.
    pub(crate) fn senders(&self) -> Arc<dyn Authenticator> {
        self.tokens.for_audiences([oms_logs::http::INGEST_AUDIENCE])
    }

    /// What recognises senders of records by the workspace's key.
    pub(crate) fn signers(&self) -> Arc<dyn Authenticator> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        Arc::new(SharedKeys::new(Arc::clone(&self.credentials), clock))
    }

    /// What the holder of the workspace's key may do: send records.
    pub(crate) fn grant(&self) -> Result<Grant> {
        let scope = data_collector::PATH.parse().context("the scope of the workspace's key")?;
        let (principal, operation) = (self.workspace.clone(), INGEST_OPERATION.to_owned());
        Ok(Grant { principal, operation, scope })
    }

    /// Roles, beside what `grants` say.
    pub(crate) fn authorizer(&self, grants: Grants) -> Arc<dyn Authorizer> {
        let roles: Arc<dyn Authorizer> = Arc::<RoleAssignments>::clone(&self.roles);
        Arc::new(AnyOf(vec![Arc::new(grants), roles]))
    }
}

/// The types of the services that run here. What lies below the parents gets its routes with the
/// services' management APIs.
fn types(admin: &Admin, services: &[Service]) -> Result<TypeRegistry> {
    let running = Arc::new(Running { own: resources_of(admin, services)? });
    let mut types = TypeRegistry::builder();
    for service in services {
        types = match service {
            Service::Logs => oms_logs::arm::arm_types(types),
            Service::Automation => oms_automation::arm::arm_types(types),
            Service::Dsc => oms_dsc::arm::arm_types(types),
            Service::Backup => oms_backup::arm::arm_types(types),
            Service::Recovery => oms_recovery::arm::arm_types(types),
        };
        types = types.guard(Arc::<Running>::clone(&running));
    }
    Ok(types.build()?)
}

/// The type of resource that a service hangs everything below.
const fn kind(service: Service) -> &'static str {
    match service {
        Service::Logs => oms_logs::arm::WORKSPACES,
        Service::Automation => oms_automation::arm::ACCOUNTS,
        Service::Dsc => oms_dsc::arm::ACCOUNTS,
        Service::Backup => oms_backup::arm::VAULTS,
        Service::Recovery => oms_recovery::arm::VAULTS,
    }
}

/// What runs in this process.
fn resources_of(admin: &Admin, services: &[Service]) -> Result<Vec<ResourceId>> {
    let mut ids: Vec<ResourceId> = Vec::new();
    for service in services {
        let id = resource_of(admin, *service)?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// What a service of this process hangs everything below.
fn resource_of(admin: &Admin, service: Service) -> Result<ResourceId> {
    let group = ResourceId::of_group(&admin.subscription_id, &admin.resource_group)?;
    let name = match service {
        Service::Logs => WORKSPACE,
        Service::Automation | Service::Dsc => &admin.automation_account,
        Service::Backup => &admin.backup_vault,
        Service::Recovery => &admin.recovery_vault,
    };
    Ok(format!("{group}/providers/{}/{name}", kind(service)).parse()?)
}

/// The name of the workspace, whose clients know it by its id.
const WORKSPACE: &str = "oms-logs";

/// Holds what a service of this process has behind it, and refuses what none would have.
#[derive(Debug)]
struct Running {
    own: Vec<ResourceId>,
}

#[async_trait]
impl ResourceGuard for Running {
    async fn check_create(&self, id: &ResourceId) -> Result<(), &'static str> {
        match self.own.contains(id) {
            true => Ok(()),
            false => Err("another resource of this type in one data directory"),
        }
    }

    async fn check_delete(&self, _id: &ResourceId) -> Result<(), String> {
        Err("a service of this process keeps its data there".to_owned())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use axum::body::Body;
    use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
    use oms_core::http::{Mounted, mount};
    use oms_core::journal::MemoryJournal;
    use oms_core::testkit::routes;
    use serde_json::Value;

    fn admin() -> Admin {
        let folder = tempfile::tempdir().expect("a folder");
        Admin::load_or_create(folder.path(), &SystemEntropy).expect("credentials")
    }

    struct Place {
        folder: tempfile::TempDir,
        journal: Arc<dyn Journal>,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            Self { folder, journal: Arc::new(MemoryJournal::default()) }
        }

        async fn open(&self, admin: &Admin) -> Result<(Identity, Mounted)> {
            let keys = self.folder.path().join("keys");
            let identity = Identity::open(keys, &self.journal, admin, &Service::ALL).await?;
            let server = PullServer::builder(self.folder.path().join("dsc"))
                .journal(Arc::clone(&self.journal))
                .key_ring(Arc::clone(identity.key_ring()))
                .build()
                .await?;
            let authorizer = identity.authorizer(Grants::new(Vec::new()));
            let mut surfaces = Vec::from(identity.surfaces());
            surfaces.push(identity.configurations(&Arc::new(server))?);
            let mounted = mount(surfaces, authorizer)?;
            Ok((identity, mounted))
        }
    }

    async fn token(mounted: &Mounted, tenant: &str, client: &str, secret: &str) -> Option<String> {
        let form = format!(
            "grant_type=client_credentials&client_id={client}&client_secret={}&scope=https%3A%2F%2F\
             management.azure.com%2F.default",
            secret.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
        );
        let request = Request::post(format!("/{tenant}/oauth2/v2.0/token"))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form))
            .expect("a request");
        let (status, body) = answer(mounted, request).await;
        let token = body["access_token"].as_str().map(str::to_owned);
        assert_eq!(token.is_some(), status == StatusCode::OK, "{body}");
        token
    }

    /// What a client sends that is known and has no role.
    pub(crate) async fn guest(identity: &Identity, mounted: &Mounted, tenant: &str) -> HeaderMap {
        let client = Principal::new(PrincipalKind::ClientSecret, "guest");
        let drawn = identity.credentials.draw(client, None, &Principal::local()).await;
        let (_, secret) = drawn.expect("drawn");
        let secret = secret.expose_text().expect("text");
        let token = token(mounted, tenant, "guest", secret).await.expect("a token");
        let bearer = HeaderValue::from_str(&format!("Bearer {token}")).expect("a header");
        HeaderMap::from_iter([(header::AUTHORIZATION, bearer)])
    }

    async fn answer(mounted: &Mounted, request: Request<Body>) -> (StatusCode, Value) {
        let response = mounted.handle(request).await;
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    async fn send(
        mounted: &Mounted,
        method: Method,
        path: &str,
        token: &str,
    ) -> (StatusCode, Value) {
        let request = Request::builder()
            .method(method)
            .uri(format!("{path}?api-version=2024-01-01"))
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .body(Body::empty())
            .expect("a request");
        answer(mounted, request).await
    }

    /// The client of admin.json owns the subscription, before and after a restart.
    #[tokio::test]
    async fn the_first_client_owns_what_there_is() {
        let (place, admin) = (Place::new(), admin());
        for _start in 0..2 {
            let (_identity, mounted) = place.open(&admin).await.expect("opens");
            let secret = admin.client_secret.expose_text().expect("text");
            let token = token(&mounted, &admin.tenant_id, &admin.client_id, secret).await;
            let token = token.expect("a token");
            let group = format!(
                "/subscriptions/{}/resourceGroups/{}",
                admin.subscription_id, admin.resource_group
            );
            let (status, listed) =
                send(&mounted, Method::GET, &format!("{group}/resources"), &token).await;
            assert_eq!(status, StatusCode::OK);
            let types: Vec<&str> = listed["value"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|one| one["type"].as_str())
                .collect();
            assert_eq!(types.len(), 3, "{listed}");
            let (status, listed) = send(&mounted, Method::GET, "/subscriptions", &token).await;
            assert_eq!(status, StatusCode::OK, "{listed}");
            assert_eq!(listed["value"].as_array().map(Vec::len), Some(1), "{listed}");
            // What holds a service's data does not go.
            let (status, why) = send(&mounted, Method::DELETE, &group, &token).await;
            assert_eq!(status, StatusCode::CONFLICT, "{why}");
        }
        let events = place.journal.read_all(0, 1_000).await.expect("reads").len();
        place.open(&admin).await.expect("opens");
        let again = place.journal.read_all(0, 1_000).await.expect("reads").len();
        assert_eq!(again, events, "a start writes nothing that is there");
    }

    /// Parents that two services share, and what each of them keeps below.
    #[tokio::test]
    async fn services_share_parents_and_register_what_they_keep_below() {
        let (place, admin) = (Place::new(), admin());
        let (identity, mounted) = place.open(&admin).await.expect("opens");
        let services = |of: &str| {
            let types = identity.resources.types();
            types.get(&of.parse().expect("a type")).map(|info| info.services.join(" "))
        };
        let is_of = |of: &str, by: &str| assert_eq!(services(of).as_deref(), Some(by), "{of}");
        is_of("Microsoft.RecoveryServices/vaults", "backup recovery");
        is_of("Microsoft.RecoveryServices/vaults/backupJobs", "backup");
        is_of("Microsoft.RecoveryServices/vaults/replicationFabrics", "recovery");
        is_of("Microsoft.Automation/automationAccounts", "automation dsc");
        is_of("Microsoft.Automation/automationAccounts/runbooks", "automation");
        is_of("Microsoft.Automation/automationAccounts/nodes", "dsc");
        is_of("Microsoft.OperationalInsights/workspaces", "logs");
        is_of("Microsoft.OperationalInsights/workspaces/tables", "logs");

        let secret = admin.client_secret.expose_text().expect("text");
        let token =
            token(&mounted, &admin.tenant_id, &admin.client_id, secret).await.expect("a token");
        let vaults = format!(
            "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.RecoveryServices/vaults",
            admin.subscription_id, admin.resource_group
        );
        let one = format!("{vaults}/{}", admin.backup_vault);
        let (status, found) = send(&mounted, Method::GET, &one.to_uppercase(), &token).await;
        assert_eq!((status, found["name"].as_str()), (StatusCode::OK, Some(&*admin.backup_vault)));
        let (status, why) = send(&mounted, Method::DELETE, &one, &token).await;
        assert_eq!(status, StatusCode::CONFLICT, "{why}");
        // A vault that no service would keep anything in is no silent success.
        let request = Request::put(format!("{vaults}/another?api-version=2024-01-01"))
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .body(Body::from("{\"location\": \"local\"}"))
            .expect("a request");
        let (status, why) = answer(&mounted, request).await;
        assert_eq!(status, StatusCode::NOT_IMPLEMENTED, "{why}");
        assert!(why.to_string().contains("/vaults/another"), "{why}");
    }

    /// The account of admin.json is the one whose nodes are managed.
    #[tokio::test]
    async fn the_first_client_manages_configurations_of_the_account() {
        let (place, admin) = (Place::new(), admin());
        let (_identity, mounted) = place.open(&admin).await.expect("opens");
        let secret = admin.client_secret.expose_text().expect("text");
        let token = token(&mounted, &admin.tenant_id, &admin.client_id, secret).await;
        let token = token.expect("a token");
        let account = resource_of(&admin, Service::Dsc).expect("an account");
        for below in ["nodes", "configurations", "compilationjobs", "statistics"] {
            let path = format!("{account}/{below}");
            let (status, listed) = send(&mounted, Method::GET, &path, &token).await;
            assert_eq!(status, StatusCode::OK, "{below}: {listed}");
            assert!(listed["value"].is_array(), "{below}: {listed}");
        }
        let other = format!("{account}-2/nodes");
        let (status, why) = send(&mounted, Method::GET, &other, &token).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{why}");
    }

    mod guard {
        use super::*;
        use oms_core::testkit::guard::TestedGuard;

        oms_core::resource_guard_conformance!(|| {
            let vault = |name: &str| -> ResourceId {
                let vaults = "/subscriptions/s/resourceGroups/g/providers/Oms.Test/vaults";
                format!("{vaults}/{name}").parse().expect("a resource")
            };
            TestedGuard {
                guard: Running { own: vec![vault("own")] },
                held: vault("own"),
                free: None,
                wanted: vault("own"),
                unwanted: Some(vault("another")),
            }
        });
    }

    /// Who was sent away does not come back by a restart.
    #[tokio::test]
    async fn a_revoked_client_stays_revoked() {
        let (place, admin) = (Place::new(), admin());
        let (identity, _) = place.open(&admin).await.expect("opens");
        let held = identity.credentials.list(PrincipalKind::ClientSecret);
        let [credential] = held.as_slice() else { panic!("one credential: {held:?}") };
        identity.credentials.revoke(credential.id, &Principal::local()).await.expect("revoked");
        drop(identity);
        let (identity, mounted) = place.open(&admin).await.expect("opens");
        assert!(identity.credentials.list(PrincipalKind::ClientSecret).is_empty());
        let secret = admin.client_secret.expose_text().expect("text");
        let token = token(&mounted, &admin.tenant_id, &admin.client_id, secret).await;
        assert_eq!(token, None);
    }

    /// The key of admin.json signs for the workspace, also in a directory that an earlier version made,
    /// and not any more once it is revoked.
    #[tokio::test]
    async fn the_workspaces_key_is_kept_once() {
        let (place, admin) = (Place::new(), admin());
        let (identity, _) = place.open(&admin).await.expect("opens");
        assert_eq!(identity.credentials.keys(&identity.workspace)[0], admin.workspace_key);
        for _start in 0..2 {
            let held = identity.credentials.list(PrincipalKind::SharedKey);
            assert_eq!(held.len(), 1, "{held:?}");
            place.open(&admin).await.expect("opens");
        }
        let held = identity.credentials.list(PrincipalKind::SharedKey);
        identity.credentials.revoke(held[0].id, &Principal::local()).await.expect("revoked");
        let (identity, _) = place.open(&admin).await.expect("opens");
        assert!(identity.credentials.keys(&identity.workspace).is_empty());
    }

    /// A known client without a role is denied at every route, and a stranger before it.
    #[tokio::test]
    async fn strangers_and_clients_without_a_role_get_nothing() {
        let (place, admin) = (Place::new(), admin());
        let (identity, mounted) = place.open(&admin).await.expect("opens");
        let headers = guest(&identity, &mounted, &admin.tenant_id).await;
        assert!(routes::denied_without_grant(&mounted, &headers).await > 34);
        let token = routes::Prescribed {
            route: "POST /{tenant}/oauth2/v2.0/token",
            status: StatusCode::BAD_REQUEST,
            reason: "RFC 6749, 5.2: a request without its parameters is `invalid_request`, by 400",
        };
        let open = routes::open_to_strangers(&mounted, &[token]).await;
        // Whether the process lives, and where the token endpoint is.
        assert_eq!(open.len(), 2, "{open:?}");
    }

    #[tokio::test]
    async fn a_journal_of_another_owner_is_refused_by_name() {
        let place = Place::new();
        place.open(&admin()).await.expect("opens");
        let error = format!("{:#}", place.open(&admin()).await.err().expect("refused"));
        assert!(error.contains("belongs to another directory"), "{error}");
        let elsewhere = Place { folder: tempfile::tempdir().expect("a folder"), ..place };
        let error = format!("{:#}", elsewhere.open(&admin()).await.err().expect("refused"));
        assert!(error.contains("key"), "{error}");
    }
}
