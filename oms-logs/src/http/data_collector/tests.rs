use super::*;
use crate::http::{INGEST_OPERATION, SharedKeys, shared_key};
use crate::query::QueryOptions;
use axum::body::Body;
use http::{HeaderMap, Request};
use jiff::SignedDuration;
use oms_core::auth::{CredentialKind, Credentials, Grant, Grants, NewCredential};
use oms_core::auth::{Principal, PrincipalKind};
use oms_core::clock::ManualClock;
use oms_core::entropy::SeededEntropy;
use oms_core::http::{Mounted, mount};
use oms_core::journal::MemoryJournal;
use oms_core::secret::KeyRing;
use oms_core::testkit::authenticator::Known;
use oms_core::testkit::disk::SimDisk;
use oms_core::{Clock, Entropy, Secret};
use serde_json::{Value, json};

const WORKSPACE: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";
const NOW: &str = "2026-11-23T10:00:00Z";
const DATE: &str = "Mon, 23 Nov 2026 10:00:00 GMT";
/// The base64 of "a shared key of some length".
const KEY: &str = "YSBzaGFyZWQga2V5IG9mIHNvbWUgbGVuZ3Ro";
const SECOND_KEY: &str = "dGhlIHNlY29uZGFyeSBrZXkgb2YgaXQ=";

struct Place {
    _folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    disk: SimDisk,
    workspace: Arc<Workspace>,
    mounted: Mounted,
}

async fn credentials(clock: &Arc<ManualClock>) -> Credentials {
    let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(1));
    let ring = KeyRing::open_folder(Arc::new(SimDisk::default()), Arc::clone(&entropy), "a", false);
    let (journal, ring) = (Arc::new(MemoryJournal::default()), Arc::new(ring.expect("a ring")));
    let opened = Credentials::open(journal, ring, Arc::clone(clock) as Arc<dyn Clock>, entropy);
    let credentials = opened.await.expect("opens");
    for (name, key) in [(WORKSPACE, KEY), (WORKSPACE, SECOND_KEY), (OTHER, KEY)] {
        let principal = Principal::new(PrincipalKind::SharedKey, name);
        let proof = CredentialKind::Key(Secret::from(key));
        let new = NewCredential { principal, expires: None, proof };
        credentials.add(&new, &Principal::local()).await.expect("kept");
    }
    credentials
}

/// A workspace whose key is known and that may not send.
const OTHER: &str = "00000000-8b86-d011-b42d-00cf4fc964ff";

async fn place() -> Place {
    place_with(crate::Settings::default()).await
}

async fn place_with(settings: crate::Settings) -> Place {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(ManualClock::new(NOW.parse().expect("a time")));
    let disk = SimDisk::default();
    let workspace = Workspace::builder(folder.path())
        .settings(settings)
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .log_disk(Arc::new(disk.clone()));
    let workspace = Arc::new(workspace.build().await.expect("a workspace"));
    let keys = SharedKeys::new(Arc::new(credentials(&clock).await), Arc::clone(&clock) as _);
    let surface = surface(Arc::clone(&workspace), Arc::new(keys));
    let grant = Grant {
        principal: Principal::new(PrincipalKind::SharedKey, WORKSPACE),
        operation: INGEST_OPERATION.to_owned(),
        scope: PATH.parse().expect("a scope"),
    };
    let mounted = mount(vec![surface], Arc::new(Grants::new(vec![grant]))).expect("mounts");
    Place { _folder: folder, clock, disk, workspace, mounted }
}

mod keys {
    use super::*;

    oms_core::authenticator_conformance!(|| async {
        let clock = Arc::new(ManualClock::new(NOW.parse().expect("a time")));
        let keys = SharedKeys::new(Arc::new(credentials(&clock).await), Arc::clone(&clock) as _);
        let mut request = Request::builder().method(Method::POST).uri(PATH);
        for (name, value) in Sent::new("[]").headers {
            request = request.header(name, value);
        }
        let parts = request.body(()).expect("a request").into_parts().0;
        (keys, Known { parts, principal: Principal::new(PrincipalKind::SharedKey, WORKSPACE) })
    });
}

/// A request, as a sender makes it.
#[derive(Clone)]
struct Sent {
    path: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Sent {
    fn new(body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let signature = shared_key::signature(&KEY.into(), body.len(), "application/json", DATE);
        let authorization = format!("SharedKey {WORKSPACE}:{}", signature.expect("base64"));
        let headers = vec![
            ("content-type", "application/json".to_owned()),
            ("content-length", body.len().to_string()),
            ("authorization", authorization),
            ("log-type", "App".to_owned()),
            ("x-ms-date", DATE.to_owned()),
        ];
        Self { path: "/api/logs?api-version=2016-04-01", headers, body }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self
    }

    fn at(self, path: &'static str) -> Self {
        Self { path, ..self }
    }

    /// Signed by another, or for another type of content or date.
    fn signed(self, workspace: &str, key: &str, kind: &str, date: &str) -> Self {
        let signature = shared_key::signature(&key.into(), self.body.len(), kind, date);
        let value = format!("SharedKey {workspace}:{}", signature.expect("base64"));
        self.with("authorization", &value).with("content-type", kind).with("x-ms-date", date)
    }
}

impl Place {
    async fn send(&self, sent: Sent) -> (u16, Value, HeaderMap) {
        let mut request = Request::builder().method(Method::POST).uri(sent.path);
        for (name, value) in sent.headers {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
            request = request.header(name, value);
        }
        let request = request.body(Body::from(sent.body)).expect("a request");
        let response = self.mounted.handle(request).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null), headers)
    }

    async fn status(&self, sent: Sent) -> u16 {
        self.send(sent).await.0
    }

    async fn ask(&self, query: &str) -> Vec<Vec<Value>> {
        let options = QueryOptions::new(Arc::clone(&self.clock) as Arc<dyn Clock>);
        self.workspace.query(query, &options).await.expect("an answer").rows()
    }
}

#[tokio::test]
async fn records_are_taken_in_columns_of_their_types() {
    let place = place().await;
    let records = json!([
        {"Level": 3, "Text": "a", "At": "2026-11-23T09:00:00Z", "Ok": true},
        {"Level": "4", "Text": "b", "Id": "8145d82213a744ad859c36f31a84f6dd"},
    ]);
    let sent = Sent::new(records.to_string())
        .with("time-generated-field", "At")
        .with("x-ms-azureresourceid", "/subscriptions/s/resourceGroups/g");
    assert_eq!(place.send(sent).await.1, Value::Null);
    // One record, and none, and a header that says nothing.
    let single = Sent::new(r#"{"Level": 5}"#).with("time-generated-field", "");
    assert_eq!(place.status(single).await, 200);
    assert_eq!(place.status(Sent::new("[]").with("log-type", "Empty")).await, 200);
    let rows = place
        .ask(
            "App_CL | sort by Level_d asc | project TimeGenerated, Level_d, Text_s, At_t, Ok_b, Id_g, \
             _ResourceId, SourceSystem",
        )
        .await;
    let id = "/subscriptions/s/resourceGroups/g";
    let expected = json!([
        ["2026-11-23T09:00:00Z", 3.0, "a", "2026-11-23T09:00:00Z", true, "", id, "RestAPI"],
        [NOW, 4.0, "b", null, null, "8145d822-13a7-44ad-859c-36f31a84f6dd", id, "RestAPI"],
        [NOW, 5.0, "", null, null, "", "", "RestAPI"],
    ]);
    let shown = |rows: &Vec<Vec<Value>>| {
        let row = |row: &Vec<Value>| {
            let cell = |value: &Value| match value {
                Value::Null => json!(""),
                other => other.clone(),
            };
            Value::Array(row.iter().map(cell).collect())
        };
        Value::Array(rows.iter().map(row).collect())
    };
    let expected: Vec<Vec<Value>> = serde_json::from_value(expected).expect("rows");
    assert_eq!(shown(&rows), shown(&expected));
    let tables: Vec<_> = place.workspace.tables().into_iter().map(|table| table.name).collect();
    assert_eq!(tables, ["App_CL"], "nothing is made for no records");
}

/// Senders that are there: a doubled slash, an encoded name of a parameter, a parameter in the type.
#[tokio::test]
async fn a_request_may_look_as_real_senders_write_it() {
    let place = place().await;
    let body = r#"[{"a":1}]"#;
    assert_eq!(place.status(Sent::new(body).at("//api/logs?api-version=2016-04-01")).await, 200);
    assert_eq!(place.status(Sent::new(body).at("/api/logs?api%2Dversion=2016-04-01")).await, 200);
    assert_eq!(place.status(Sent::new(body).at("/API/Logs?api-version=2016-04-01")).await, 200);
    let kind = "application/json; charset=utf-8";
    assert_eq!(place.status(Sent::new(body).signed(WORKSPACE, KEY, kind, DATE)).await, 200);
    let upper = WORKSPACE.to_uppercase();
    let second = Sent::new(body).signed(&upper, SECOND_KEY, "application/json", DATE);
    assert_eq!(place.status(second).await, 200, "the other key");
    let iso = Sent::new(body).signed(WORKSPACE, KEY, "application/json", "2026-11-23T10:10:00Z");
    assert_eq!(place.status(iso).await, 200);
    assert_eq!(place.ask("App_CL | count").await, [[json!(6)]]);
}

#[tokio::test]
async fn refusals_have_the_documented_codes_and_a_flat_body() {
    let place = place().await;
    let good = || Sent::new(r#"[{"a":1}]"#);
    let json = "application/json";
    let long = "x".repeat(LOG_TYPE_CHARS_MAX + 1);
    let large = vec![b' '; BODY_BYTES_MAX + 1];
    let long_id = "/".repeat(RESOURCE_ID_BYTES_MAX + 1);
    let late = "Mon, 23 Nov 2026 09:44:59 GMT";
    let cases: Vec<(Sent, u16, &str, &str)> = vec![
        (good().without("authorization"), 403, "InvalidAuthorization", "no authorization"),
        (good().with("authorization", "Bearer x"), 403, "InvalidAuthorization", "SharedKey"),
        (good().with("authorization", "SharedKey x:y="), 400, "InvalidCustomerId", "not a GUID"),
        (good().signed(WORKSPACE, "d3Jvbmc=", json, DATE), 403, "InvalidAuthorization", "match"),
        (good().signed(OTHER, KEY, json, DATE), 403, "InvalidAuthorization", "not allowed"),
        (good().with("content-length", "10"), 403, "InvalidAuthorization", "match"),
        (good().with("content-type", "text/json"), 403, "InvalidAuthorization", "match"),
        (good().with("x-ms-date", "today"), 403, "InvalidAuthorization", "match"),
        (good().without("x-ms-date"), 403, "InvalidAuthorization", "x-ms-date"),
        (good().signed(WORKSPACE, KEY, json, "today"), 403, "InvalidAuthorization", "not a date"),
        (good().signed(WORKSPACE, KEY, json, late), 403, "InvalidAuthorization", "15 minutes"),
        (good().at("/api/logs"), 400, "MissingApiVersion", ""),
        (good().at("/api/logs?api-version=2017-01-01"), 400, "InvalidApiVersion", "2017-01-01"),
        (good().signed(WORKSPACE, KEY, "", DATE), 400, "MissingContentType", ""),
        (
            good().signed(WORKSPACE, KEY, "text/plain", DATE),
            400,
            "UnsupportedContentType",
            "text/plain",
        ),
        (good().without("log-type"), 400, "MissingLogType", ""),
        (good().with("log-type", "a b"), 400, "InvalidLogType", "a b"),
        (good().with("log-type", "1a"), 400, "InvalidLogType", "1a"),
        (good().with("log-type", &long), 400, "InvalidLogType", "60"),
        (good().with("log-type", "../x"), 400, "InvalidLogType", "../x"),
        (good().with("x-ms-azureresourceid", &long_id), 400, "InvalidDataFormat", "2048"),
        (good().with("time-generated-field", "Zeit\u{fc}"), 400, "InvalidDataFormat", "ASCII"),
        (Sent::new("[{]"), 400, "InvalidDataFormat", "line 1 column 3"),
        (Sent::new("3"), 400, "InvalidDataFormat", "neither an array"),
        (Sent::new(r#"[{}, 3]"#), 400, "InvalidDataFormat", "record 1 is not an object"),
        (Sent::new(r#"[{}, {"RawData": 1}]"#), 400, "InvalidDataFormat", "record=`1`"),
        (Sent::new(large), 404, "RequestTooLarge", "too large"),
        (
            Sent::new("x").with("content-encoding", "gzip"),
            400,
            "InvalidDataFormat",
            "content encoding",
        ),
    ];
    for (sent, status, code, reason) in cases {
        let (found, body, _) = place.send(sent).await;
        assert_eq!((found, body["Error"].as_str()), (status, Some(code)), "{body}");
        let message = body["Message"].as_str().expect("a message");
        assert!(message.contains(reason), "{message}");
        assert_eq!(body.as_object().map(serde_json::Map::len), Some(2), "flat: {body}");
    }
    assert!(place.workspace.tables().is_empty());
    // What was refused left no gap in the numbers.
    assert_eq!(place.status(good()).await, 200);
    assert_eq!(place.workspace.last_sequence(numbers::PRODUCER).expect("open"), 1);
    // Those who may send are told of in `Operation`; strangers are not.
    assert_eq!(place.workspace.tell_refused().await.expect("told"), 4);
    let told = place.ask("Operation | where OperationKey == 'App_CL' | count").await;
    assert_eq!(told, [[json!(4)]]);
}

#[tokio::test]
async fn cut_text_is_told_in_operation_and_bytes_in_usage() {
    let place = place().await;
    let records = json!([{"Text": "x".repeat(40_000), "Old": "2026-11-01T00:00:00Z"}]);
    let sent = Sent::new(records.to_string()).with("time-generated-field", "Old");
    assert_eq!(place.status(sent).await, 200);
    assert_eq!(place.ask("App_CL | project strlen(Text_s)").await, [[json!(32_768)]]);
    assert_eq!(place.workspace.tell_refused().await.expect("told"), 2);
    let told = place
        .ask("Operation | where OperationStatus == 'Warning' | sort by Detail asc | project Detail")
        .await;
    assert!(told[0][0].as_str().is_some_and(|it| it.contains("`Text` was cut")), "{told:?}");
    assert!(told[1][0].as_str().is_some_and(|it| it.contains("48 hours old")), "{told:?}");
    place
        .clock
        .set(NOW.parse::<jiff::Timestamp>().expect("a time") + SignedDuration::from_hours(2));
    place.workspace.account_usage().await.expect("told");
    let told = "Usage | where DataType == 'App_CL' | project Quantity * 1000000, IsBillable";
    let counted = place.ask("App_CL | summarize sum(_BilledSize)").await;
    assert_eq!(place.ask(told).await, [[counted[0][0].clone(), json!(true)]]);
}

#[tokio::test]
async fn a_full_workspace_says_when_to_come_back_and_a_full_disk_that_it_is_not_there() {
    let full = crate::Settings { memory_bytes_max: 1, ..Default::default() };
    let place = place_with(full).await;
    let body = r#"[{"a":1}]"#;
    assert_eq!(place.status(Sent::new(body)).await, 200, "one is taken alone");
    let (status, answer, headers) = place.send(Sent::new(body)).await;
    assert_eq!((status, answer["Error"].as_str()), (429, Some("TooManyRequests")), "{answer}");
    assert_eq!(headers[header::RETRY_AFTER], "1");

    let place = self::place().await;
    assert_eq!(place.status(Sent::new(body)).await, 200);
    let used: usize = place.disk.contents().values().map(Vec::len).sum();
    place.disk.set_capacity(Some(used as u64 + 10));
    let (status, answer, _) = place.send(Sent::new(body)).await;
    assert_eq!((status, answer["Error"].as_str()), (503, Some("ServiceUnavailable")), "{answer}");
    place.disk.set_capacity(None);
    assert_eq!(place.status(Sent::new(body)).await, 200);
    place.workspace.close().await.expect("closed");
    assert_eq!(place.status(Sent::new(body)).await, 503);
}

/// What the log alone has, too.
#[tokio::test]
async fn what_is_acknowledged_is_there_after_a_restart() {
    let place = place().await;
    for level in 0..20 {
        let body = json!([{"Level": level, format!("Field{level}"): "x"}]).to_string();
        assert_eq!(place.status(Sent::new(body)).await, 200);
    }
    let Place { _folder: folder, clock, disk, workspace, mounted } = place;
    drop((mounted, workspace));
    let workspace = Workspace::builder(folder.path())
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .log_disk(Arc::new(disk));
    let workspace = workspace.build().await.expect("opens");
    let options = QueryOptions::new(clock);
    let query = "App_CL | summarize count(), sum(Level_d), countif(isnotempty(Field7_s))";
    let answer = workspace.query(query, &options).await.expect("an answer");
    assert_eq!(answer.rows(), [[json!(20), json!(190.0), json!(1)]]);
}
