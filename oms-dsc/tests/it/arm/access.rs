//! Who gets in, and how much they may send.

use super::{ACCOUNT, Managed};
use axum::body::Body;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use oms_core::testkit::routes;
use oms_dsc::arm::{ArmAccount, surface};
use serde_json::json;
use std::sync::Arc;

fn bearer(name: &str) -> HeaderMap {
    let value = HeaderValue::from_str(&format!("Bearer {name}")).expect("a header");
    HeaderMap::from_iter([(header::AUTHORIZATION, value)])
}

#[tokio::test]
async fn strangers_and_clients_without_a_grant_get_nothing() {
    let managed = Managed::new(1).await;
    let of_the_nodes: Vec<_> = managed
        .mounted
        .routes()
        .filter(|route| route.pattern.starts_with(oms_dsc::http::PATH))
        .map(|route| routes::shown(&route))
        .collect();
    let walked = routes::walk(&managed.mounted, &HeaderMap::new()).await;
    let mut refused = 0;
    for walked in walked.iter().filter(|one| !of_the_nodes.contains(&routes::shown(&one.route))) {
        routes::assert_refused(walked, &[]);
        refused += usize::from(walked.route.access.operation().is_some());
    }
    assert_eq!(refused, 26, "every route of the account");
    let denied = routes::denied_without_grant(&managed.mounted, &bearer("guest")).await;
    assert_eq!(denied, 26);
    assert_eq!(managed.world.events().await.len(), 0, "and nothing was written");
}

/// Who may read reads no key.
#[tokio::test]
async fn a_reader_changes_nothing_and_gets_no_key() {
    let managed = Managed::new(1).await;
    let send = |method: Method, below: &str| {
        let request = Request::builder().method(method).uri(format!("{ACCOUNT}/{below}"));
        managed.send(request.header(header::AUTHORIZATION, "Bearer reader"), Body::empty())
    };
    for below in ["configurations", "nodes", "nodecounts/status", "compilationjobs", "statistics"] {
        let said = send(Method::GET, below).await;
        assert_eq!(said.status, StatusCode::OK, "{below}: {said:?}");
    }
    for (method, below) in [
        (Method::GET, "agentRegistrationInformation"),
        (Method::POST, "agentRegistrationInformation/regenerateKey"),
        (Method::PUT, "configurations/Web"),
        (Method::PUT, "compilationjobs/j"),
        (Method::DELETE, "nodes/x"),
    ] {
        let said = send(method, below).await;
        assert_eq!((said.status, said.code()), (StatusCode::FORBIDDEN, "AuthorizationFailed"));
    }
    assert_eq!(managed.server.registration_keys().await.expect("keys"), []);
}

#[tokio::test]
async fn another_account_is_not_there() {
    let managed = Managed::new(1).await;
    let spelled = ACCOUNT.to_uppercase();
    let cases = [
        (spelled.as_str(), StatusCode::OK),
        (&ACCOUNT.replace("Accounts-1", "Accounts-2"), StatusCode::NOT_FOUND),
        (&ACCOUNT.replace("/Oms/", "/Other/"), StatusCode::NOT_FOUND),
        (&ACCOUNT.replace("bbbbbbbb", "cccccccc"), StatusCode::NOT_FOUND),
    ];
    for (account, expect) in cases {
        let request = Request::get(format!("{account}/nodes"));
        let request = request.header(header::AUTHORIZATION, "Bearer owner");
        assert_eq!(managed.send(request, Body::empty()).await.status, expect, "{account}");
    }
    for wrong in ["/subscriptions/s/resourceGroups/g", "/x"] {
        let account = ArmAccount {
            server: Arc::clone(&managed.server),
            id: wrong.parse().expect("an id"),
            location: String::new(),
            pull_path: String::new(),
        };
        let error = surface(account, super::authenticator()).expect_err("no account");
        assert!(error.to_string().contains(wrong), "{error}");
    }
}

#[tokio::test]
async fn bodies_are_bounded() {
    let managed = Managed::new(1).await;
    let large = "x".repeat(2 << 20);
    for (below, expect) in
        [("compilationjobs/j", "RequestContentTooLarge"), ("configurations/Web", "BadRequest")]
    {
        let said = managed.put(below, &json!({"x": large})).await;
        assert_eq!(said.code(), expect, "{below}");
    }
    let larger = "x".repeat(9 << 20);
    let said = managed.put_source("Web", &larger).await;
    assert_eq!(
        (said.status, said.code()),
        (StatusCode::PAYLOAD_TOO_LARGE, "RequestContentTooLarge")
    );
    let most = "x".repeat(17 << 20);
    let said = managed.put_source("Web", &most).await;
    assert_eq!(said.status, StatusCode::PAYLOAD_TOO_LARGE);
    let source = json!({"type": "embeddedContent", "value": "x".repeat(34 << 20)});
    let body = json!({"properties": {"source": source}});
    let said = managed.put("nodeConfigurations/Web.a", &body).await;
    assert_eq!(said.status, StatusCode::PAYLOAD_TOO_LARGE);
}

/// A condition on a version where there is none is not passed over.
#[tokio::test]
async fn conditions_that_cannot_be_checked_are_refused_by_name() {
    let managed = Managed::new(1).await;
    for (method, below, body) in [
        (Method::PUT, "compilationjobs/j", "{}"),
        (Method::PUT, "nodeConfigurations/Web.a", "{}"),
        (Method::DELETE, "nodeConfigurations/Web.a", ""),
        (Method::PATCH, "nodes/x", "{}"),
        (Method::DELETE, "nodes/x", ""),
    ] {
        let request = Managed::request(method, below).header("if-match", "\"1\"");
        let said = managed.send(request, body).await;
        assert_eq!(said.status, StatusCode::NOT_IMPLEMENTED, "{below}");
        assert!(said.message().contains("if-match"), "{said:?}");
    }
}
