use super::*;
use ::http::{HeaderMap, Request};
use axum::body::Body;
use oms_core::auth::{AuthError, Grant, Grants, Principal, PrincipalKind};
use oms_core::http::{Mounted, mount};
use oms_core::testkit::disk::SimDisk;
use serde_json::json;
use std::io::Write as _;

/// Takes whoever calls for the name in `Authorization`.
#[derive(Debug)]
struct ByName;

impl Authenticator for ByName {
    fn authenticate(&self, parts: &::http::request::Parts) -> Result<Principal, AuthError> {
        let name = parts.headers.get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
        let name = name.ok_or(AuthError::Unauthenticated { reason: "no name" })?;
        Ok(Principal::new(PrincipalKind::ClientSecret, name))
    }
}

struct Place {
    _folder: tempfile::TempDir,
    disk: SimDisk,
    workspace: Arc<Workspace>,
    mounted: Mounted,
    rule: String,
}

async fn place() -> Place {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = SimDisk::default();
    let workspace = Workspace::builder(folder.path()).log_disk(Arc::new(disk.clone()));
    let workspace = Arc::new(workspace.build().await.expect("a workspace"));
    let (rule, _) =
        workspace.put_rule("shop", crate::ingest::rule::tests::rule()).await.expect("a rule");
    let mounted = mounted(&workspace);
    let rule = rule.immutable_id;
    Place { _folder: folder, disk, workspace, mounted, rule }
}

fn mounted(workspace: &Arc<Workspace>) -> Mounted {
    let surface = surface(Arc::clone(workspace), Arc::new(ByName));
    let sender = Principal::new(PrincipalKind::ClientSecret, "sender");
    let grant = Grant {
        principal: sender,
        operation: INGEST_OPERATION.to_owned(),
        scope: "/".parse().expect("a scope"),
    };
    mount(vec![surface], Arc::new(Grants::new(vec![grant]))).expect("mounts")
}

impl Place {
    async fn send(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> (u16, Value, HeaderMap) {
        Self::send_to(&self.mounted, path, headers, body).await
    }

    async fn send_to(
        mounted: &Mounted,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> (u16, Value, HeaderMap) {
        let mut request = Request::builder().method(Method::POST).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = mounted.handle(request.body(Body::from(body)).expect("a request")).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null), headers)
    }

    fn path(&self) -> String {
        format!("/dataCollectionRules/{}/streams/Custom-Access?api-version=2023-01-01", self.rule)
    }

    async fn post(&self, body: &Value) -> (u16, Value) {
        let headers = [("authorization", "sender"), ("content-type", "application/json")];
        let (status, answer, _) =
            self.send(&self.path(), &headers, body.to_string().into_bytes()).await;
        (status, answer)
    }

    fn rows(&self) -> u64 {
        self.workspace.tables().iter().filter(|it| it.name == "Syslog").map(|it| it.rows).sum()
    }
}

fn record(code: u64) -> Value {
    json!({"TimeGenerated": "2026-11-23T10:00:00Z", "Line": "GET /", "Code": code})
}

#[tokio::test]
async fn arrays_and_single_records_are_taken_plain_and_compressed() {
    let place = place().await;
    assert_eq!(place.post(&json!([record(1), record(2)])).await, (204, Value::Null));
    assert_eq!(place.post(&record(3)).await, (204, Value::Null));
    assert_eq!(place.post(&json!([])).await, (204, Value::Null));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(json!([record(4)]).to_string().as_bytes()).expect("compressed");
    let gzip = gzip.finish().expect("compressed");
    let headers = [("authorization", "sender"), ("content-encoding", "gzip")];
    // The JavaScript client encodes the name of the parameter.
    let path = place.path().replace("api-version", "api%2Dversion");
    assert_eq!(place.send(&path, &headers, gzip).await.0, 204);
    assert_eq!(place.rows(), 4);
    // As many records as a sender puts into a post, with what stands between them.
    let many = vec![json!({}); (1 << 19) - 1];
    let (status, answer) = place.post(&json!(many)).await;
    assert!(status == 400 && answer.to_string().contains("100000"), "{answer}");
}

/// Two listeners over one workspace, such as one for each network: while one writes a batch, none of
/// the other's passes for a repeat of it.
#[tokio::test]
async fn surfaces_of_one_workspace_number_their_batches_together() {
    let place = place().await;
    let other = mounted(&place.workspace);
    let numbers = Arc::clone(&place.workspace.inner().expect("open").http_numbers);
    let under_way = numbers.take(&place.workspace).await.expect("a number");
    let (path, headers) = (place.path(), [("authorization", "sender")]);
    for (mounted, code) in [(&place.mounted, 1), (&other, 2)] {
        let body = record(code).to_string().into_bytes();
        assert_eq!(Place::send_to(mounted, &path, &headers, body).await.0, 204);
    }
    let batch = StreamBatch {
        producer: numbers::PRODUCER.to_owned(),
        sequence: under_way.sequence(),
        rule: place.rule.clone(),
        stream: "Custom-Access".to_owned(),
        records: vec![record(3)],
    };
    let sent = place.workspace.ingest_stream(batch).await;
    assert!(sent.as_ref().is_ok_and(|sent| !sent.is_repeat), "{sent:?}");
    under_way.settle(&sent);
    assert_eq!(place.rows(), 3);
}

#[tokio::test]
async fn refusals_have_their_status_and_name_what_is_wrong() {
    let place = place().await;
    let ok = ("authorization", "sender");
    let path = place.path();
    let other_rule = path.replace(&place.rule, "dcr-00000000000000000000000000000000");
    let other_stream = path.replace("Custom-Access", "Custom-Other");
    let no_version = path.replace("?api-version=2023-01-01", "");
    let plain = ("content-type", "text/plain");
    let large = vec![b' '; BODY_BYTES_MAX + 1];
    let body = || json!([record(1)]).to_string().into_bytes();
    type Case<'a> = (&'a str, Vec<(&'a str, &'a str)>, Vec<u8>, u16, &'a str);
    let cases: [Case<'_>; 10] = [
        (&path, vec![], body(), 401, ""),
        (&path, vec![("authorization", "stranger")], body(), 403, ""),
        (&other_rule, vec![ok], body(), 404, "DataCollectionRuleNotFound"),
        (&other_stream, vec![ok], body(), 404, "StreamNotFound"),
        (&no_version, vec![ok], body(), 400, "MissingApiVersionParameter"),
        (&path, vec![ok, plain], body(), 415, "UnsupportedMediaType"),
        (&path, vec![ok], b"[{]".to_vec(), 400, "InvalidRequestContent"),
        (&path, vec![ok], b"3".to_vec(), 400, "InvalidRequestContent"),
        (&path, vec![ok], b"[{}, 3]".to_vec(), 400, "InvalidRequestContent"),
        (&path, vec![ok], large, 413, "RequestContentTooLarge"),
    ];
    for (path, headers, body, expected, code) in cases {
        let (status, answer, _) = place.send(path, &headers, body).await;
        assert_eq!(status, expected, "{path} {answer}");
        assert!(answer["error"]["code"].as_str().is_some_and(|it| it.contains(code)), "{answer}");
        assert!(answer["error"]["message"].is_string(), "{answer}");
    }
    assert_eq!(place.rows(), 0);
    // What was refused left no gap in the numbers.
    assert_eq!(place.post(&json!([record(1)])).await.0, 204);
    assert_eq!(place.workspace.last_sequence(numbers::PRODUCER).expect("open"), 1);
}

#[tokio::test]
async fn a_full_workspace_says_when_to_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = crate::Settings { memory_bytes_max: 1, ..Default::default() };
    let workspace = Workspace::builder(folder.path()).settings(settings);
    let workspace = Arc::new(workspace.build().await.expect("a workspace"));
    workspace.put_rule("shop", crate::ingest::rule::tests::rule()).await.expect("a rule");
    let filler = oms_core::testkit::sink::perf_batch("a", 1, 0..4);
    workspace.write(filler).await.expect("one is taken alone");
    let whole = place().await;
    let rule = workspace.rule("shop").expect("there").immutable_id;
    let surface = surface(Arc::clone(&workspace), Arc::new(ByName));
    let grants = Grants::new(vec![Grant {
        principal: Principal::new(PrincipalKind::ClientSecret, "sender"),
        operation: INGEST_OPERATION.to_owned(),
        scope: "/".parse().expect("a scope"),
    }]);
    let mounted = mount(vec![surface], Arc::new(grants)).expect("mounts");
    let full = Place { workspace, mounted, rule, ..whole };
    let headers = [("authorization", "sender")];
    let body = json!([record(1)]).to_string().into_bytes();
    let (status, answer, headers) = full.send(&full.path(), &headers, body).await;
    assert_eq!(status, 429, "{answer}");
    assert_eq!(headers[header::RETRY_AFTER], "1");
}

/// A number whose batch may be in the log is never used for other records.
#[tokio::test]
async fn batches_that_failed_leave_no_gap_and_no_other_records_in_their_place() {
    let place = place().await;
    assert_eq!(place.post(&json!([record(1)])).await.0, 204);
    let used: usize = place.disk.contents().values().map(Vec::len).sum();
    place.disk.set_capacity(Some(used as u64 + 10));
    for _ in 0..300 {
        let (status, answer) = place.post(&json!([record(2)])).await;
        assert_ne!(status, 204, "{answer}");
    }
    place.disk.set_capacity(None);
    for code in 0..5 {
        let (status, answer) = place.post(&json!([record(code)])).await;
        assert_eq!(status, 204, "{answer}");
    }
    assert_eq!(place.rows(), 6);
    // 1, the one in doubt that an empty batch filled, and five.
    assert_eq!(place.workspace.last_sequence(numbers::PRODUCER).expect("open"), 7);
}
