use super::*;
use crate::auth::{CredentialKind, Grants, NewCredential};
use crate::clock::ManualClock;
use crate::disk::Disk;
use crate::entropy::SeededEntropy;
use crate::http::mount;
use crate::journal::{Journal, MemoryJournal};
use crate::secret::KeyRing;
use crate::testkit::disk::SimDisk;
use axum::body::Body;
use http::Request;
use jiff::Timestamp;
use std::time::Duration;

const ARM: &str = "https%3A%2F%2Fmanagement.azure.com%2F.default";

fn service(clock: &Arc<ManualClock>, key: &str) -> Arc<TokenService> {
    let clients = BTreeMap::from([("app".to_owned(), Secret::from("p&ss"))]);
    let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
    Arc::new(TokenService::new("tenant", clients, key.into(), clock))
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH))
}

async fn ask_at(service: &Arc<TokenService>, uri: &str, form: String) -> (u16, serde_json::Value) {
    let mounted = mount(vec![service.surface()], Arc::new(Grants::default())).expect("mounts");
    let request = if form.is_empty() { Request::get(uri) } else { Request::post(uri) };
    let request = request.header("client-request-id", "11111111-2222-3333-4444-555555555555");
    let request = request.header("host", "h:1").body(Body::from(form)).expect("a request");
    let response = mounted.handle(request).await;
    let status = response.status().as_u16();
    let bytes = axum::body::to_bytes(response.into_body(), 10_000).await.expect("a body");
    (status, serde_json::from_slice(&bytes).expect("JSON"))
}

async fn ask(service: &Arc<TokenService>, form: String) -> (u16, serde_json::Value) {
    ask_at(service, "/TENANT/oauth2/v2.0/token", form).await
}

fn form(client: &str, secret: &str, scope: &str) -> String {
    let grant = "grant_type=client_credentials";
    format!("{grant}&client_id={client}&client_secret={secret}&scope={scope}")
}

fn bearer(token: &str) -> http::request::Parts {
    let request = Request::get("/").header("authorization", format!("Bearer {token}"));
    request.body(()).expect("a request").into_parts().0
}

#[tokio::test]
async fn a_secret_buys_a_token_that_names_its_client_until_it_expires() {
    let clock = clock();
    let service = service(&clock, "key");
    let (status, answer) = ask(&service, form("APP", "p%26ss", ARM)).await;
    assert_eq!((status, answer["token_type"].as_str()), (200, Some("Bearer")));
    let token = answer["access_token"].as_str().expect("a token");
    let caller = service.authenticate(&bearer(token)).expect("known");
    assert_eq!(caller, Principal::new(PrincipalKind::ClientSecret, "app"));
    clock.advance(Duration::from_secs(3598));
    assert!(service.authenticate(&bearer(token)).is_ok());
    clock.advance(Duration::from_secs(1));
    assert!(service.authenticate(&bearer(token)).is_err());
}

#[tokio::test]
async fn refusals_have_the_form_and_the_codes_of_the_identity_platform() {
    let clock = clock();
    let clients = BTreeMap::from([("app".to_owned(), Secret::from("p&ss"))]);
    let mut service = TokenService::new("tenant", clients, "key".into(), clock);
    service.audiences = vec![canonical("https://Management.azure.com/")];
    let service = Arc::new(service);
    let good = form("app", "p%26ss", ARM);
    assert_eq!(ask(&service, good.clone()).await.0, 200);
    let other = "https%3A%2F%2Fvault.azure.net%2F.default";
    let without = |name: &str| {
        let kept: Vec<&str> = good.split('&').filter(|pair| !pair.starts_with(name)).collect();
        kept.join("&")
    };
    for (form, status, error, code) in [
        (form("app", "nope", ARM), 401, "invalid_client", 7_000_215),
        (form("none", "p%26ss", ARM), 400, "unauthorized_client", 700_016),
        (form("app", "p%26ss", other), 400, "invalid_resource", 500_011),
        (form("app", "p%26ss", "x"), 400, "invalid_scope", 70_011),
        (form("app", "p%26ss", "%2F.default"), 400, "invalid_scope", 70_011),
        (form("app", "p%26ss", "a%20b%2F.default"), 400, "invalid_scope", 70_011),
        (good.replace("client_credentials", "password"), 400, "unsupported_grant_type", 70_003),
        (format!("{good}&client_assertion=x"), 401, "invalid_client", 700_023),
        (without("grant_type"), 400, "invalid_request", 900_144),
        (without("client_id"), 400, "invalid_request", 900_144),
        (without("client_secret"), 401, "invalid_client", 7_000_218),
        (without("scope"), 400, "invalid_scope", 70_011),
    ] {
        let (found, body) = ask(&service, form.clone()).await;
        assert_eq!((found, &body["error"]), (status, &error.into()), "{form}");
        assert_eq!(body["error_codes"], serde_json::json!([code]), "{form}");
        let description = body["error_description"].as_str().expect("text");
        assert!(description.starts_with(&format!("AADSTS{code}: ")), "{description}");
        assert!(!description.contains("p&ss") && !description.contains("nope"));
        assert_eq!(body["correlation_id"], "11111111-2222-3333-4444-555555555555");
        assert_eq!(body["timestamp"], "1970-01-01 00:00:00Z");
    }
    for uri in ["/other/oauth2/v2.0/token", "/other/v2.0/.well-known/openid-configuration"] {
        let form = if uri.ends_with("token") { good.clone() } else { String::new() };
        let (status, body) = ask_at(&service, uri, form).await;
        assert_eq!((status, &body["error_codes"]), (400, &serde_json::json!([90_002])));
    }
    let uri = "/tenant/v2.0/.well-known/openid-configuration";
    let (status, body) = ask_at(&service, uri, String::new()).await;
    assert_eq!(
        (status, &body["token_endpoint"]),
        (200, &"http://h:1/tenant/oauth2/v2.0/token".into())
    );
}

#[test]
fn tokens_of_another_key_and_changed_ones_are_refused() {
    let clock = clock();
    let (ours, theirs) = (service(&clock, "key"), service(&clock, "other"));
    let token = ours.issue("app", "a").expect("a token");
    assert!(ours.authenticate(&bearer(&token)).is_ok());
    let issue = |service: &TokenService, client| service.issue(client, "a").expect("a token");
    assert!(ours.authenticate(&bearer(&issue(&theirs, "app"))).is_err());
    assert!(ours.authenticate(&bearer(&issue(&ours, "removed"))).is_err());
    for index in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).expect("ASCII");
        // The last character of base64 may hold bits that do not count.
        let is_last = index + 1 == token.len();
        assert!(is_last || ours.authenticate(&bearer(&changed)).is_err(), "{index}");
    }
    assert!(ours.authenticate(&bearer("alg.none.")).is_err());
    let tenant = TokenService::new("other", BTreeMap::new(), "key".into(), clock);
    assert!(tenant.verify(&token).is_none(), "a token of another tenant");
}

#[test]
fn a_token_is_good_for_the_resource_that_it_was_given_for() {
    let service = service(&clock(), "key");
    let token = service.issue("app", &canonical("https://management.azure.com/")).expect("one");
    let logs = service.for_audiences(["https://api.loganalytics.io"]);
    assert!(logs.authenticate(&bearer(&token)).is_err());
    let arm =
        service.for_audiences(["https://api.loganalytics.io", "https://MANAGEMENT.azure.com"]);
    assert!(arm.authenticate(&bearer(&token)).is_ok());
    let challenge = arm.challenge(&bearer("x")).expect("a challenge");
    assert_eq!(challenge, "Bearer authorization_uri=\"http://localhost/tenant\"");
}

struct World {
    journal: Arc<dyn Journal>,
    ring: Arc<KeyRing>,
    clock: Arc<ManualClock>,
    entropy: Arc<dyn Entropy>,
}

impl World {
    fn new() -> Self {
        let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(1));
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::default());
        let ring = KeyRing::open_folder(disk, Arc::clone(&entropy), "a", false);
        let ring = Arc::new(ring.expect("a ring"));
        Self { journal: Arc::new(MemoryJournal::default()), ring, clock: clock(), entropy }
    }

    async fn keys(&self) -> Arc<SigningKeys> {
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        let (journal, ring) = (Arc::clone(&self.journal), Arc::clone(&self.ring));
        let keys = SigningKeys::open(journal, ring, clock, Arc::clone(&self.entropy)).await;
        Arc::new(keys.expect("opens"))
    }

    async fn credentials(&self) -> Arc<Credentials> {
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        let (journal, ring) = (Arc::clone(&self.journal), Arc::clone(&self.ring));
        let kept = Credentials::open(journal, ring, clock, Arc::clone(&self.entropy)).await;
        Arc::new(kept.expect("opens"))
    }

    fn service(&self, keys: &Arc<SigningKeys>, kept: &Arc<Credentials>) -> Arc<TokenService> {
        let service = TokenService::builder("tenant", Arc::clone(keys))
            .credentials(Arc::clone(kept))
            .clock(Arc::clone(&self.clock) as Arc<dyn Clock>)
            .entropy(Arc::clone(&self.entropy));
        Arc::new(service.build())
    }
}

#[tokio::test]
async fn keys_rotate_without_ending_tokens_and_a_revoked_one_ends_them() {
    let world = World::new();
    let (keys, kept, by) = (world.keys().await, world.credentials().await, Principal::local());
    let app = Principal::new(PrincipalKind::ClientSecret, "app");
    kept.draw(app, None, &by).await.expect("drawn");
    let service = world.service(&keys, &kept);
    let first = service.issue("app", "a").expect("a token");
    // A second at a time, so that a token of the old key outlives no more than its own time.
    world.clock.advance(Duration::from_secs(100));
    let newest = keys.rotate(&by).await.expect("rotated");
    let second = service.issue("app", "a").expect("a token");
    let restarted = world.service(&world.keys().await, &kept);
    for service in [&service, &restarted] {
        assert!(service.verify(&first).is_some() && service.verify(&second).is_some());
    }
    keys.revoke(newest, &by).await.expect("revoked");
    let restarted = world.service(&world.keys().await, &kept);
    for service in [&service, &restarted] {
        assert!(service.verify(&first).is_some() && service.verify(&second).is_none());
    }
    keys.rotate(&by).await.expect("rotated");
    world.clock.advance(Duration::from_secs(3599));
    let (kid, _) = first.split_once('.').expect("a token");
    assert!(service.verify(&first).is_none() && !kid.is_empty());
    assert_eq!(keys.verifying_count(world.clock.now()), 1, "the old key is over");
    assert!(!format!("{keys:?} {service:?}").contains("secret: \""));
}

#[tokio::test]
async fn a_client_whose_secret_is_revoked_or_expires_takes_its_tokens_with_it() {
    let world = World::new();
    let (keys, kept, by) = (world.keys().await, world.credentials().await, Principal::local());
    let service = world.service(&keys, &kept);
    let app = Principal::new(PrincipalKind::ClientSecret, "app");
    let hour = Timestamp::from_second(3600).expect("a time");
    let secret = "a-secret-of-enough-length";
    let proof = CredentialKind::Secret(secret.into());
    let new = NewCredential { principal: app, expires: Some(hour), proof };
    let credential = kept.add(&new, &by).await.expect("kept");
    let good = form("App", secret, ARM);
    let (status, answer) = ask(&service, good.clone()).await;
    assert_eq!(status, 200);
    let token = answer["access_token"].as_str().expect("a token");
    assert!(service.authenticate(&bearer(token)).is_ok());
    let wrong = ask(&service, form("app", "another-secret-of-length", ARM)).await;
    assert_eq!(wrong.1["error_codes"], serde_json::json!([7_000_215]));
    let unknown = ask(&service, form("none", secret, ARM)).await;
    assert_eq!(unknown.1["error_codes"], serde_json::json!([700_016]));
    world.clock.advance(Duration::from_secs(3600));
    let (_, expired) = ask(&service, good.clone()).await;
    assert_eq!(expired["error_codes"], serde_json::json!([7_000_222]));
    kept.revoke(credential.id, &by).await.expect("revoked");
    assert!(service.authenticate(&bearer(token)).is_err());
    let (_, revoked) = ask(&service, good).await;
    assert_eq!(revoked["error_codes"], serde_json::json!([700_016]));
}

const AUDIENCE: &str = "https://management.azure.com";

/// A service, and a caller with a token of it.
fn known() -> (Arc<TokenService>, crate::testkit::authenticator::Known) {
    let service = service(&clock(), "key");
    let token = service.issue("app", AUDIENCE).expect("a token");
    let principal = Principal::new(PrincipalKind::ClientSecret, "app");
    let value = format!("Bearer {token}");
    (service, crate::testkit::authenticator::Known::by_authorization(&value, principal))
}

/// A service as an authenticator of its own.
#[derive(Debug)]
struct Whole(Arc<TokenService>);

impl Authenticator for Whole {
    fn authenticate(&self, parts: &http::request::Parts) -> Result<Principal, AuthError> {
        self.0.authenticate(parts)
    }

    fn challenge(&self, parts: &http::request::Parts) -> Option<HeaderValue> {
        self.0.challenge(parts)
    }
}

mod whole {
    use super::*;
    crate::authenticator_conformance!(|| async {
        let (service, known) = known();
        (Whole(service), known)
    });
}

mod for_audiences {
    use super::*;
    crate::authenticator_conformance!(|| async {
        let (service, known) = known();
        (ForAudiences { service, audiences: vec![AUDIENCE.to_owned()] }, known)
    });
}
