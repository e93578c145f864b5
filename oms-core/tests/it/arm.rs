//! Surfaces of several services together: nothing answers a stranger, and what is served is what
//! clients of Azure Resource Manager read.

use crate::sample::{SUBSCRIPTION, Suite, TENANT};
use axum::body::Body;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use oms_core::Secret;
use oms_core::testkit::routes::{Prescribed, denied_without_grant, open_to_strangers};
use serde_json::{Value, json};

struct Client<'a> {
    suite: &'a Suite,
    headers: HeaderMap,
}

impl<'a> Client<'a> {
    async fn new(suite: &'a Suite, name: &str, secret: &Secret) -> Self {
        let secret = secret.expose_text().expect("text");
        let form = format!(
            "grant_type=client_credentials&client_id={name}&client_secret={secret}\
             &scope=https%3A%2F%2Fmanagement.azure.com%2F%2F.default"
        );
        let anonymous = Self { suite, headers: HeaderMap::new() };
        let uri = format!("/{TENANT}/oauth2/v2.0/token");
        let (status, _, answer) = anonymous.send("POST", &uri, Body::from(form), &[]).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let token = answer["access_token"].as_str().expect("a token");
        let bearer = HeaderValue::from_str(&format!("Bearer {token}")).expect("a value");
        let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, bearer)]);
        Self { suite, headers }
    }

    async fn send(
        &self,
        method: &str,
        uri: &str,
        body: Body,
        more: &[(&'static str, &str)],
    ) -> (StatusCode, HeaderMap, Value) {
        let mut request = Request::builder().method(method).uri(uri).header("host", "h:1");
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        let mut request = request.body(body).expect("a request");
        request.headers_mut().extend(self.headers.clone());
        let (parts, body) = self.suite.mounted.handle(request).await.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
        let value = match bytes.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&bytes).unwrap_or_default(),
        };
        (parts.status, parts.headers, value)
    }

    async fn ask(&self, method: &str, uri: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let (status, _, value) = self.send(method, uri, body, &[]).await;
        (status.as_u16(), value)
    }
}

#[tokio::test]
async fn every_route_is_closed_to_strangers_and_to_callers_without_a_grant() {
    let suite = Suite::new().await;
    let token = Prescribed {
        route: "POST /{tenant}/oauth2/v2.0/token",
        status: StatusCode::BAD_REQUEST,
        reason: "RFC 6749, 5.2: a request without its parameters is `invalid_request`, by 400",
    };
    let open = open_to_strangers(&suite.mounted, &[token]).await;
    let shown: Vec<_> =
        open.iter().map(|w| format!("{} {}", w.route.method, w.route.pattern)).collect();
    assert_eq!(shown, ["GET /healthz", "GET /{tenant}/v2.0/.well-known/openid-configuration"]);
    let stranger = Client::new(&suite, "stranger", &suite.stranger).await;
    let denied = denied_without_grant(&suite.mounted, &stranger.headers).await;
    let closed = suite.mounted.routes().filter(|route| route.access.operation().is_some());
    assert_eq!(denied, closed.count());
    assert!(denied > 15, "{denied} routes");
}

#[tokio::test]
async fn groups_and_vaults_are_made_listed_and_deleted() {
    let suite = Suite::new().await;
    let client = Client::new(&suite, "owner", &suite.owner).await;
    let group = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/g");
    let vault = format!("{group}/providers/Microsoft.RecoveryServices/vaults/v1");
    let here = json!({"location": "westeurope", "sku": {"name": "Standard"}, "properties": {}});
    let (status, body) = client.ask("PUT", &vault, here.clone()).await;
    assert_eq!((status, &body["error"]["code"]), (404, &json!("ParentResourceNotFound")));
    assert_eq!(client.ask("HEAD", &group, Value::Null).await.0, 404);
    let (status, body) = client.ask("PUT", &group, json!({"location": "westeurope"})).await;
    assert_eq!((status, &body["properties"]["provisioningState"]), (201, &json!("Succeeded")));
    assert_eq!(client.ask("HEAD", &group, Value::Null).await.0, 204);
    let (status, made) = client.ask("PUT", &vault, here.clone()).await;
    assert_eq!((status, &made["name"]), (201, &json!("v1")));
    let etag = made["etag"].as_str().expect("a tag");
    let patch = Body::from(json!({"tags": {"a": "b"}}).to_string());
    let matches = [("if-match", etag)];
    let (status, headers, body) = client.send("PATCH", &vault, patch, &matches).await;
    assert_eq!((status, &body["tags"]), (StatusCode::OK, &json!({"a": "b"})));
    assert_ne!(headers["etag"], etag);
    let stale = client.send("DELETE", &vault, Body::empty(), &matches).await;
    assert_eq!((stale.0.as_u16(), &stale.2["error"]["code"]), (412, &json!("PreconditionFailed")));
    for number in 2..6 {
        let other = vault.replace("v1", &format!("v{number}"));
        assert_eq!(client.ask("PUT", &other, here.clone()).await.0, 201);
    }
    // A page at a time, each by the link of the one before.
    let vaults = "/providers/Microsoft.RecoveryServices/vaults";
    let mut next = format!("/subscriptions/{SUBSCRIPTION}{vaults}?api-version=1&$top=2");
    let mut names = Vec::new();
    loop {
        let (status, page) = client.ask("GET", &next, Value::Null).await;
        assert_eq!(status, 200, "{page}");
        let items = page["value"].as_array().expect("a list");
        names.extend(items.iter().map(|item| item["name"].clone()));
        let Some(link) = page["nextLink"].as_str() else { break };
        assert!(link.contains("api-version=1") && link.contains("$top=2"), "{link}");
        next = link.strip_prefix("http://h:1").expect("this server").to_owned();
    }
    assert_eq!(names, ["v1", "v2", "v3", "v4", "v5"]);
    let by_tag = format!("/subscriptions/{SUBSCRIPTION}/resources?$filter=tagName%20eq%20'a'");
    let (_, page) = client.ask("GET", &by_tag, Value::Null).await;
    assert_eq!(page["value"].as_array().map(Vec::len), Some(1));
    for (query, status, code) in [
        ("$filter=location%20eq%20'x'", 501, "NotSupported"),
        ("$expand=tags", 501, "NotSupported"),
        ("$top=x", 400, "InvalidQueryParameter"),
        ("$skiptoken=x", 400, "InvalidContinuationToken"),
    ] {
        let uri = format!("/subscriptions/{SUBSCRIPTION}/resources?{query}");
        let (found, body) = client.ask("GET", &uri, Value::Null).await;
        assert_eq!((found, &body["error"]["code"]), (status, &json!(code)), "{query}");
    }
    let (status, body) = client.ask("POST", &format!("{group}/moveResources"), json!({})).await;
    assert_eq!((status, &body["error"]["code"]), (501, &json!("NotSupported")));
    for expect in [204, 204] {
        assert_eq!(client.ask("DELETE", &vault, Value::Null).await.0, expect);
    }
    assert_eq!(client.ask("DELETE", &group, Value::Null).await.0, 200);
    let (status, body) = client.ask("GET", &group, Value::Null).await;
    assert_eq!((status, &body["error"]["code"]), (404, &json!("ResourceGroupNotFound")));
    assert_eq!(client.ask("DELETE", &group, Value::Null).await.0, 404);
}

#[tokio::test]
async fn a_grant_of_one_subscription_opens_no_other_also_not_by_a_slash_in_a_name() {
    let suite = Suite::new().await;
    let client = Client::new(&suite, "owner", &suite.owner).await;
    let own = format!("/subscriptions/{SUBSCRIPTION}");
    assert_eq!(client.ask("GET", &own, Value::Null).await.0, 200);
    let upper = own.to_ascii_uppercase();
    assert_eq!(client.ask("GET", &upper, Value::Null).await.0, 200);
    assert_eq!(client.ask("GET", "/subscriptions", Value::Null).await.0, 403);
    assert_eq!(client.ask("GET", &format!("{own}0"), Value::Null).await.0, 403);
    let slash = format!("/subscriptions/{SUBSCRIPTION}%2FresourceGroups");
    assert_eq!(client.ask("GET", &slash, Value::Null).await.0, 403);
    let slash = format!("{own}/resourceGroups/a%2Fb");
    let (status, body) = client.ask("GET", &slash, Value::Null).await;
    assert_eq!((status, &body["error"]["code"]), (400, &json!("InvalidRequestUri")));
}
