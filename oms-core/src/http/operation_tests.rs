use super::*;
use crate::auth::{AuthError, Grant, Grants, PrincipalKind};
use crate::clock::ManualClock;
use crate::entropy::SeededEntropy;
use crate::http::{Authenticator, Mounted, Surface, mount};
use crate::journal::MemoryJournal;
use crate::lifecycle::listing;
use axum::body::Body;
use http::Request;
use serde_json::json;
use std::time::Duration;

const SCOPE: &str = "/subscriptions/s/providers/A.B/vaults/v";

struct World {
    journal: Arc<dyn Journal>,
    clock: Arc<ManualClock>,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        Self { journal: Arc::new(MemoryJournal::default()), clock }
    }

    async fn open(&self, seed: u64) -> Arc<Operations> {
        let (journal, clock) = (Arc::clone(&self.journal), Arc::clone(&self.clock));
        let entropy = Arc::new(SeededEntropy::new(seed));
        Arc::new(Operations::open(journal, clock, entropy).await.expect("opens"))
    }
}

fn by() -> Principal {
    Principal::new(PrincipalKind::ClientSecret, "app")
}

fn scope() -> ResourceId {
    SCOPE.parse().expect("a path")
}

#[derive(Debug)]
struct Everyone;

impl Authenticator for Everyone {
    fn authenticate(&self, _parts: &http::request::Parts) -> Result<Principal, AuthError> {
        Ok(by())
    }
}

/// A surface whose one action begins an operation.
fn mounted(operations: &Arc<Operations>) -> Mounted {
    let starter = Arc::clone(operations);
    let start = move |call: Call| {
        let operations = Arc::clone(&starter);
        async move {
            let begun = operations.begin("start", &scope(), &by()).await.expect("begun");
            operations.accepted(&call, &begun, None)
        }
    };
    let access = Access::Operation { operation: "A.B/vaults/start/action" };
    let pattern = "/subscriptions/{s}/providers/A.B/vaults/{v}";
    let mut surface = Surface::new("sample")
        .claim("/subscriptions/{s}/providers/A.B")
        .authenticator(Arc::new(Everyone))
        .route(Route::new(Method::POST, &format!("{pattern}/start"), access, start));
    for route in operations.routes(pattern, "A.B/vaults/read") {
        surface = surface.route(route);
    }
    let grant = Grant { principal: by(), operation: "*".into(), scope: ResourceId::root() };
    mount(vec![surface], Arc::new(Grants::new(vec![grant]))).expect("mounts")
}

async fn ask(mounted: &Mounted, method: Method, uri: &str) -> (StatusCode, http::HeaderMap, Value) {
    let request = Request::builder().method(method).uri(uri).header("host", "h:1");
    let response = mounted.handle(request.body(Body::empty()).expect("a request")).await;
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    let value =
        if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).expect("JSON") };
    (parts.status, parts.headers, value)
}

fn path(headers: &http::HeaderMap, name: &str) -> String {
    let address = headers[name].to_str().expect("text");
    address.strip_prefix("http://h:1").expect("this server").to_owned()
}

fn failure() -> OperationFailure {
    OperationFailure { code: "NoRoom".into(), message: "no room".into(), status: 409 }
}

#[test]
fn the_state_table_is_this_one() {
    let states = crate::every_variant!(OperationState { Running, Succeeded, Failed, Canceled });
    let events = crate::every_variant!(OperationEvent { Succeed, Fail, Cancel });
    let expect = "Running --Succeed--> Succeeded\n\
                  Running --Fail--> Failed\n\
                  Running --Cancel--> Canceled\n";
    assert_eq!(listing(&states, &events), expect);
}

#[tokio::test]
async fn a_poll_survives_a_restart_and_ends_with_the_result() {
    let world = World::new();
    let first = mounted(&world.open(1).await);
    let uri = format!("{SCOPE}/start?api-version=2030-01-01");
    let (status, headers, _) = ask(&first, Method::POST, &uri).await;
    assert_eq!((status, &headers["retry-after"]), (StatusCode::ACCEPTED, &HeaderValue::from(1)));
    let (state, result) = (path(&headers, "azure-asyncoperation"), path(&headers, "location"));
    assert!(state.ends_with("?api-version=2030-01-01") && result != state);
    // Another process over the same journal.
    let operations = world.open(2).await;
    let second = mounted(&operations);
    let (status, headers, body) = ask(&second, Method::GET, &state).await;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &Value::from("InProgress")));
    assert!(headers.contains_key("retry-after"));
    let (status, headers, _) = ask(&second, Method::GET, &result).await;
    assert_eq!((status, path(&headers, "location")), (StatusCode::ACCEPTED, result.clone()));
    let running = operations.running().await.expect("read");
    assert_eq!(running.len(), 1);
    let done = serde_json::json!({"id": "x"});
    operations.succeed(running[0].id, done.clone()).await.expect("ended");
    let again = operations.fail(running[0].id, failure()).await.expect_err("ended");
    assert_eq!(again.kind(), ErrorKind::PreconditionFailed);
    for mounted in [&first, &second] {
        let (_, _, body) = ask(mounted, Method::GET, &state.to_ascii_uppercase()).await;
        assert_eq!((&body["status"], &body["properties"]), (&Value::from("Succeeded"), &done));
        let (status, _, body) = ask(mounted, Method::GET, &result).await;
        assert_eq!((status, body), (StatusCode::OK, done.clone()));
        // Below another vault it is not there.
        let other = result.replace("vaults/v/", "vaults/w/");
        assert_eq!(ask(mounted, Method::GET, &other).await.0, StatusCode::NOT_FOUND);
    }
    let wrong = format!("{SCOPE}/operationResults/not-an-id");
    assert_eq!(ask(&first, Method::GET, &wrong).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn failures_and_cancellations_are_told_on_both_addresses() {
    let world = World::new();
    let operations = world.open(1).await;
    let mounted = mounted(&operations);
    for (is_failed, state, code, status) in
        [(true, "Failed", "NoRoom", 409), (false, "Canceled", "OperationCanceled", 409)]
    {
        let begun = operations.begin("x", &scope(), &by()).await.expect("begun");
        match is_failed {
            true => drop(operations.fail(begun.id, failure()).await.expect("ended")),
            false => drop(operations.cancel(begun.id).await.expect("ended")),
        }
        let uri = |kind: &str| format!("{SCOPE}/{kind}/{}", begun.id);
        let (_, _, body) = ask(&mounted, Method::GET, &uri("operationStatuses")).await;
        assert_eq!(body["status"], state);
        assert_eq!(body["error"]["code"] == "NoRoom", is_failed);
        let (found, _, body) = ask(&mounted, Method::GET, &uri("operationResults")).await;
        assert_eq!((found.as_u16(), &body["error"]["code"]), (status, &Value::from(code)));
    }
    let begun = operations.begin("x", &scope(), &by()).await.expect("begun");
    operations.succeed(begun.id, Value::Null).await.expect("ended");
    let uri = format!("{SCOPE}/operationResults/{}", begun.id);
    assert_eq!(ask(&mounted, Method::GET, &uri).await.0, StatusCode::NO_CONTENT);
    let large = Value::String("x".repeat(RESULT_BYTES_MAX));
    let begun = operations.begin("x", &scope(), &by()).await.expect("begun");
    let refused = operations.succeed(begun.id, large).await.expect_err("too large");
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn results_expire_and_running_operations_do_not() {
    let world = World::new();
    let operations = world.open(1).await;
    let ended = operations.begin("x", &scope(), &by()).await.expect("begun").id;
    let running = operations.begin("y", &scope(), &by()).await.expect("begun").id;
    operations.succeed(ended, Value::Null).await.expect("ended");
    world.clock.advance(Duration::from_secs(24 * 3600 - 1));
    assert_eq!(operations.sweep().await.expect("swept"), 0);
    assert!(operations.get(ended).await.is_ok());
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(operations.get(ended).await.expect_err("expired").kind(), ErrorKind::NotFound);
    for operations in [&operations, &world.open(2).await] {
        let _ = operations.sweep().await.expect("swept");
        assert!(operations.get(running).await.is_ok());
        assert_eq!(operations.kept().len(), 1);
    }
}

#[tokio::test]
async fn the_oldest_result_makes_way_and_running_ones_do_not() {
    let world = World::new();
    let operations = world.open(1).await;
    let first = operations.begin("x", &scope(), &by()).await.expect("begun").id;
    {
        let mut kept = operations.kept();
        let entropy = SeededEntropy::new(9);
        while kept.len() < OPERATIONS_MAX {
            kept.insert(OperationId::draw(&entropy), None);
        }
    }
    let refused = operations.begin("y", &scope(), &by()).await.expect_err("all of them run");
    assert!(matches!(refused.kind(), ErrorKind::LimitExceeded { retry_after: Some(_) }));
    operations.succeed(first, Value::Null).await.expect("ended");
    operations.begin("y", &scope(), &by()).await.expect("there is room");
    assert!(operations.get(first).await.is_err());
}

#[tokio::test]
async fn what_an_earlier_version_wrote_is_read() {
    let fixtures = crate::testkit::released();
    crate::testkit::Fixture::check::<Change>(&fixtures);
    let journal: Arc<dyn Journal> = Arc::new(fixtures[0].journal().await);
    let clock = Arc::new(ManualClock::new("2026-01-01T01:00:00Z".parse().expect("a time")));
    let entropy = Arc::new(SeededEntropy::new(1));
    let operations = Operations::open(Arc::clone(&journal), clock, entropy).await.expect("opens");
    let mut found = Vec::new();
    for head in journal.list_whole(KIND).await.expect("heads") {
        let id = head.history.key().parse().expect("an id");
        let Operation { name, state, result, failure, .. } = operations.get(id).await.expect("it");
        let failure = failure.map(|failure| (failure.code, failure.status));
        found.push((name, state, result, failure));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = |name: &str, state, result, failure: Option<(&str, u16)>| {
        let failure = failure.map(|(code, status)| (code.to_owned(), status));
        (name.to_owned(), state, result, failure)
    };
    use OperationState as S;
    let expected = [
        expected("backup", S::Succeeded, json!({"files": 3}), None),
        expected("failover", S::Canceled, Value::Null, None),
        expected("restore", S::Running, Value::Null, None),
        expected("testFailover", S::Failed, Value::Null, Some(("Lost", 409))),
    ];
    assert_eq!(found, expected);
}
