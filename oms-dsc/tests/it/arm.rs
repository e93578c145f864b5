//! The management of an account by Azure's shapes, through the whole of what is mounted.

mod access;

#[cfg(feature = "interop")]
mod interop;

mod jobs;

mod nodes;

use crate::compilation::WEB;
use crate::support::World;
use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode, header};
use oms_core::auth::{Grant, Grants, Principal, PrincipalKind};
use oms_core::http::{Authenticator, ByToken, FirstOf, Mounted, mount};
use oms_core::resource::ResourceId;
use oms_dsc::PullServer;
use oms_dsc::arm::{ArmAccount, surface};
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) const ACCOUNT: &str = "/subscriptions/bbbbbbbb-0000-0000-0000-000000000002/resourceGroups/Oms\
                                  /providers/Microsoft.Automation/automationAccounts/Accounts-1";

fn principal(name: &str) -> Principal {
    Principal::new(PrincipalKind::ClientSecret, name)
}

/// Whoever sends its own name as the token.
fn authenticator() -> Arc<dyn Authenticator> {
    let known = |name: &str| -> Arc<dyn Authenticator> {
        Arc::new(ByToken { token: name.into(), principal: principal(name) })
    };
    Arc::new(FirstOf(vec![known("owner"), known("reader"), known("guest")]))
}

fn grants() -> Grants {
    let grant = |name: &str, operation: &str| Grant {
        principal: principal(name),
        operation: operation.to_owned(),
        scope: ResourceId::root(),
    };
    Grants::new(vec![grant("owner", "*"), grant("reader", "*/read")])
}

/// A server, mounted with its management and its nodes' protocol.
pub(crate) struct Managed {
    pub(crate) world: World,
    pub(crate) server: Arc<PullServer>,
    pub(crate) mounted: Mounted,
}

/// An answer: its status, its body, and its headers.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
    pub(crate) text: String,
    pub(crate) headers: HeaderMap,
}

impl Said {
    /// The code of an error.
    pub(crate) fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    pub(crate) fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or_default()
    }

    /// The names of what a list has.
    pub(crate) fn names(&self) -> Vec<&str> {
        let items = self.body["value"].as_array().expect("a list");
        items.iter().filter_map(|item| item["name"].as_str()).collect()
    }
}

impl Managed {
    pub(crate) async fn new(seed: u64) -> Self {
        let world = World::new(seed);
        let server = world.start_server().await;
        let account = ArmAccount {
            server: Arc::clone(&server),
            id: ACCOUNT.parse().expect("an account"),
            location: "local".to_owned(),
            pull_path: oms_dsc::http::PATH.to_owned(),
        };
        let managed = surface(account, authenticator()).expect("an account");
        let surfaces = vec![managed, oms_dsc::http::surface(Arc::clone(&server))];
        let mounted = mount(surfaces, Arc::new(grants())).expect("mounts");
        Self { world, server, mounted }
    }

    pub(crate) async fn send(
        &self,
        request: http::request::Builder,
        body: impl Into<Body>,
    ) -> Said {
        let request: Request<Body> = request.body(body.into()).expect("a request");
        let response = self.mounted.handle(request).await;
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = axum::body::to_bytes(response.into_body(), 64 << 20).await.expect("a body");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        Said { status, body, text, headers }
    }

    /// A request of the owner below the account.
    pub(crate) fn request(method: Method, below: &str) -> http::request::Builder {
        let separator = if below.contains('?') { '&' } else { '?' };
        Request::builder()
            .method(method)
            .uri(format!("{ACCOUNT}/{below}{separator}api-version=2018-01-15"))
            .header(header::HOST, "management.example")
            .header(header::AUTHORIZATION, "Bearer owner")
    }

    pub(crate) async fn get(&self, below: &str) -> Said {
        self.send(Self::request(Method::GET, below), Body::empty()).await
    }

    pub(crate) async fn delete(&self, below: &str) -> Said {
        self.send(Self::request(Method::DELETE, below), Body::empty()).await
    }

    pub(crate) async fn json(&self, method: Method, below: &str, body: &Value) -> Said {
        let request = Self::request(method, below).header("content-type", "application/json");
        self.send(request, body.to_string()).await
    }

    pub(crate) async fn put(&self, below: &str, body: &Value) -> Said {
        self.json(Method::PUT, below, body).await
    }

    /// Puts a source as a client of Azure does.
    pub(crate) async fn put_source(&self, name: &str, text: &str) -> Said {
        let source = json!({"type": "embeddedContent", "value": text});
        let body = json!({
            "name": name, "location": "westeurope", "tags": {"a": "b"},
            "properties": {"source": source, "description": "ours", "logVerbose": true},
        });
        self.put(&format!("configurations/{name}"), &body).await
    }
}

#[tokio::test]
async fn configurations_are_put_listed_changed_and_deleted() {
    let managed = Managed::new(1).await;
    let put = managed.put_source("Web", WEB).await;
    assert_eq!(put.status, StatusCode::CREATED, "{put:?}");
    assert_eq!(put.body["id"], format!("{ACCOUNT}/configurations/Web"));
    assert_eq!(put.body["type"], "Microsoft.Automation/AutomationAccounts/Configurations");
    let properties = &put.body["properties"];
    assert_eq!((&properties["state"], &properties["jobCount"]), (&json!("Published"), &json!(0)));
    assert_eq!(properties["creationTime"], "2026-01-01T00:00:00Z");
    let greeting = json!({
        "type": "string", "position": 0, "isMandatory": false, "defaultValue": "hello",
    });
    assert_eq!(properties["parameters"]["greeting"], greeting);
    assert_eq!(properties["parameters"]["port"]["defaultValue"], "80");
    assert_eq!(put.headers["etag"], put.body["etag"].as_str().expect("a tag"));

    // The same again is no change; a text alone leaves what is said of it.
    let again = managed.put_source("web", WEB).await;
    assert_eq!((again.status, &again.body["etag"]), (StatusCode::OK, &put.body["etag"]));
    assert_eq!(again.body["name"], "Web", "the spelling of whoever put it first");
    let request = Managed::request(Method::PUT, "configurations/Web");
    let request = request.header("content-type", "text/plain; charset=utf-8");
    let text = WEB.replace("hello", "moin");
    let changed = managed.send(request, text.clone()).await;
    assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    assert_eq!(changed.body["properties"]["description"], "ours");
    let content = managed.get("configurations/WEB/content").await;
    assert_eq!((content.status, content.text), (StatusCode::OK, text));
    assert_eq!(content.headers["content-type"], "text/plain; charset=utf-8");

    let patch = json!({"tags": {"c": "d"}, "properties": {"logVerbose": false}});
    let patched = managed.json(Method::PATCH, "configurations/Web", &patch).await;
    assert_eq!(patched.status, StatusCode::OK, "{patched:?}");
    assert_eq!(patched.body["tags"], json!({"c": "d"}));
    let properties = &patched.body["properties"];
    assert_eq!(
        (&properties["logVerbose"], &properties["description"]),
        (&json!(false), &json!("ours"))
    );
    assert_eq!(properties["parameters"]["greeting"]["defaultValue"], "moin", "the text stays");
    let none = managed.json(Method::PATCH, "configurations/None", &patch).await;
    assert_eq!((none.status, none.code()), (StatusCode::NOT_FOUND, "ResourceNotFound"));

    // Conditions on its version.
    let stale = Managed::request(Method::PATCH, "configurations/Web")
        .header("if-match", put.body["etag"].as_str().expect("a tag"));
    let stale = managed.send(stale, patch.to_string()).await;
    assert_eq!(
        (stale.status, stale.code()),
        (StatusCode::PRECONDITION_FAILED, "PreconditionFailed")
    );
    let current = Managed::request(Method::DELETE, "configurations/Web")
        .header("if-match", patched.body["etag"].as_str().expect("a tag"));
    assert_eq!(managed.send(current, Body::empty()).await.status, StatusCode::OK);
    assert_eq!(managed.delete("configurations/Web").await.status, StatusCode::NO_CONTENT);
    assert_eq!(managed.get("configurations/Web").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn lists_are_filtered_counted_and_paged() {
    let managed = Managed::new(1).await;
    for index in 0..130 {
        let name = format!("C{index:03}");
        let text = format!("configuration: {name}\nresources: []");
        managed.put_source(&name, &text).await;
    }
    let first = managed.get("configurations?$inlinecount=allpages").await;
    assert_eq!((first.names().len(), &first.body["totalCount"]), (100, &json!(130)));
    let link = first.body["nextLink"].as_str().expect("a link");
    let path = link.strip_prefix("http://management.example").expect("the same host");
    assert!(path.contains("api-version=2018%2D01%2D15"), "{link}");
    let request = Request::get(path).header(header::AUTHORIZATION, "Bearer owner");
    // What goes meanwhile moves nothing that was not seen.
    managed.delete("configurations/C003").await;
    let second = managed.send(request, Body::empty()).await;
    assert_eq!((second.names().len(), second.names()[0]), (30, "C100"));
    assert!(second.body.get("nextLink").is_none());

    let some = managed.get("configurations?$filter=contains(name,'c12')&$skip=2&$top=3").await;
    assert_eq!(some.names(), ["C122", "C123", "C124"]);
    assert!(some.body.get("totalCount").is_none() && some.body.get("nextLink").is_none());
    let beyond = managed.get("configurations?$skip=500").await;
    assert_eq!(beyond.names(), [""; 0]);
    for (query, expect) in [
        ("$filter=location%20eq%20'x'", "column 1: `location eq"),
        ("$filter=name%20eq", "column 8"),
        ("$top=ten", "`ten` is no number"),
        ("$top=5000", "at most 1000"),
        ("$skip=-1", "`-1` is no number"),
        ("$inlinecount=some", "neither `allpages` nor `none`"),
        ("$orderby=name", "not supported. name=`$orderby`"),
        ("$skiptoken=xyz", "it is none of this list"),
    ] {
        let said = managed.get(&format!("configurations?{query}")).await;
        assert!(said.status.is_client_error() || said.status == 501, "{said:?}");
        assert!(said.message().contains(expect), "{query}: {}", said.message());
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_configuration_is_told_with_its_place() {
    let managed = Managed::new(1).await;
    let wrong = "configuration: Web\nresource: []\nnodes: 7\n";
    let said = managed.put_source("Web", wrong).await;
    assert_eq!((said.status, said.code()), (StatusCode::BAD_REQUEST, "InvalidConfiguration"));
    let targets: Vec<_> = said.body["error"]["details"]
        .as_array()
        .expect("details")
        .iter()
        .map(|detail| detail["target"].as_str().expect("a place"))
        .collect();
    assert!(targets.contains(&"2:1") && targets.contains(&"3:8"), "{said:?}");

    let embedded = |source: Value| json!({"properties": {"source": source}});
    let hash = |algorithm: &str, value: &str| {
        let hash = json!({"algorithm": algorithm, "value": value});
        embedded(json!({"value": WEB, "hash": hash}))
    };
    let checksum = oms_dsc::protocol::Checksum::of(WEB.as_bytes()).to_string();
    for (body, status, expect) in [
        (json!({}), 400, "no properties.source"),
        (json!([]), 400, "body is not valid"),
        (json!({"properties": {"source": {"value": 7}}}), 400, "invalid type: integer"),
        (json!({"name": "Other", "properties": {}}), 400, "called `Web` in the path"),
        (embedded(json!({"type": "embeddedContent"})), 400, "it has no value"),
        (embedded(json!({"type": "uri", "value": "https://x"})), 501, "uri"),
        (hash("sha256", "00"), 400, "its hash is another's"),
        (hash("md5", &checksum), 501, "md5"),
        (embedded(json!({"value": "Configuration Web { }"})), 501, "PowerShell"),
    ] {
        let said = managed.put("configurations/Web", &body).await;
        assert_eq!(said.status, status, "{said:?}");
        assert!(said.message().contains(expect), "{expect}: {}", said.message());
    }
    let good = managed.put("configurations/Web", &hash("SHA-256", &checksum.to_lowercase())).await;
    assert_eq!(good.status, StatusCode::CREATED, "{good:?}");
    let media = Managed::request(Method::PUT, "configurations/Web");
    let said = managed.send(media.header("content-type", "application/xml"), "<x/>").await;
    assert!(said.message().contains("application/xml"), "{said:?}");
    let media = Managed::request(Method::PUT, "configurations/Web");
    let said = managed.send(media.header("content-type", "text/plain"), vec![b'a', 0xff]).await;
    assert!(said.message().contains("no UTF-8 after 1 bytes"), "{said:?}");
    let said = managed.send(Managed::request(Method::PUT, "configurations/Web"), "{").await;
    assert!(said.message().contains("EOF"), "{said:?}");
    for name in ["Web.a", "a%27b"] {
        let said = managed.put_source(name, WEB).await;
        assert_eq!((said.status, said.code()), (StatusCode::BAD_REQUEST, "BadRequest"), "{name}");
    }
}
