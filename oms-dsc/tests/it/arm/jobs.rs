//! Compilation jobs, what they say, and what they make.

use super::{ACCOUNT, Managed, Said};
use crate::compilation::WEB;
use crate::support::cells;
use http::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;

fn job(configuration: &str, parameters: &Value) -> Value {
    json!({"properties": {"configuration": {"name": configuration}, "parameters": parameters}})
}

/// Polls a job as a client of Azure does, until it has ended.
async fn ended(managed: &Managed, name: &str) -> Said {
    for _ in 0..10_000 {
        let said = managed.get(&format!("compilationjobs/{name}")).await;
        assert_eq!(said.status, StatusCode::OK, "{said:?}");
        match said.body["properties"]["provisioningState"].as_str() {
            Some("Processing") => tokio::task::yield_now().await,
            _ => return said,
        }
    }
    panic!("{name} does not end");
}

#[tokio::test]
async fn a_job_is_created_polled_and_tells_what_it_made() {
    let managed = Managed::new(1).await;
    managed.put_source("Web", WEB).await;
    let parameters = json!({"greeting": "hi", "port": null});
    let created = managed.put("compilationjobs/First", &job("web", &parameters)).await;
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
    let properties = &created.body["properties"];
    assert_eq!(
        (&properties["status"], &properties["provisioningState"]),
        (&json!("New"), &json!("Processing"))
    );
    assert_eq!(properties["configuration"]["name"], "Web");
    assert_eq!((&properties["endTime"], &properties["exception"]), (&Value::Null, &Value::Null));
    assert_eq!(properties["startedBy"], "ClientSecret:owner");
    let done = ended(&managed, "first").await;
    assert_eq!(done.body["properties"]["status"], "Completed");
    assert_eq!(done.body["properties"]["provisioningState"], "Succeeded");
    assert_eq!(done.body["properties"]["parameters"], json!({"greeting": "hi"}));
    let again = managed.put("compilationjobs/First", &job("Web", &json!({}))).await;
    assert_eq!((again.status, again.code()), (StatusCode::CONFLICT, "Conflict"));

    let id = done.body["properties"]["jobId"].as_str().expect("an id");
    let streams = managed.get(&format!("compilationjobs/{id}/streams/")).await;
    let all = streams.body["value"].as_array().expect("a list");
    let kinds: Vec<_> = all.iter().map(|one| one["properties"]["streamType"].as_str()).collect();
    assert_eq!(kinds, [Some("Verbose"), Some("Output"), Some("Output")], "logVerbose is on");
    let filter = "streams?$filter=properties/streamType%20eq%20'output'";
    let output = managed.get(&format!("compilationjobs/first/{filter}")).await;
    assert_eq!(output.body["value"].as_array().map(Vec::len), Some(2));
    let path = all[1]["id"].as_str().expect("an id").strip_prefix(ACCOUNT).expect("below");
    let one = managed.get(&path[1..]).await;
    let text = one.body["properties"]["streamText"].as_str().expect("a text");
    assert!(text.contains("`Web.web-1`"), "{text}");
    let none = managed.get(&format!("compilationjobs/{id}/streams/none")).await;
    assert_eq!((none.status, none.code()), (StatusCode::NOT_FOUND, "ResourceNotFound"));

    let made = managed.get("nodeConfigurations").await;
    assert_eq!(made.names(), ["Web.web-1", "Web.web-2"]);
    assert_eq!(made.body["value"][0]["properties"]["configuration"]["name"], "Web");
    let source = managed.get("configurations/Web").await;
    let properties = &source.body["properties"];
    assert_eq!(
        (&properties["jobCount"], &properties["nodeConfigurationCount"]),
        (&json!(1), &json!(2))
    );
}

#[tokio::test]
async fn jobs_that_fail_say_why_and_lists_tell_them_apart() {
    let managed = Managed::new(1).await;
    managed.put_source("Web", WEB).await;
    let wrong =
        "configuration: Bad\nresources:\n- {type: nxFile, name: a, properties: {Contentz: x}}";
    managed.put_source("Bad", wrong).await;
    managed.put("compilationjobs/good", &job("Web", &json!({}))).await;
    ended(&managed, "good").await;
    managed.world.clock.advance(Duration::from_secs(3_600));
    managed.put("compilationjobs/bad", &job("Bad", &json!({}))).await;
    let bad = ended(&managed, "bad").await;
    assert_eq!(bad.body["properties"]["provisioningState"], "Failed");
    let exception = bad.body["properties"]["exception"].as_str().expect("a reason");
    assert!(exception.contains("Contentz"), "{exception}");
    let streams = managed.get("compilationjobs/bad/streams").await;
    assert_eq!(streams.body["value"][0]["properties"]["streamType"], "Error");
    let summary = streams.body["value"][0]["properties"]["summary"].as_str().expect("a text");
    assert!(summary.starts_with("Bad: 3:"), "{summary}");

    assert_eq!(managed.get("compilationjobs").await.names(), ["bad", "good"], "the newest first");
    for (filter, expect) in [
        ("properties/status eq 'Failed'", &["bad"][..]),
        ("properties/configuration/name eq 'web'", &["good"]),
        ("properties/startTime ge 2026-01-01T00:30:00.0000000Z", &["bad"]),
        ("properties/endTime le 2026-01-01T00:30:00Z and properties/status eq 'Failed'", &[]),
    ] {
        let filter = filter.replace(' ', "%20");
        let said = managed.get(&format!("compilationjobs?$filter={filter}")).await;
        assert_eq!(said.names(), expect, "{filter}");
    }
    for (body, status, expect) in [
        (job("None", &json!({})), 404, "no such configuration. name=`None`"),
        (job("Web", &json!({"greting": "x"})), 400, "`greting` is not declared"),
        (job("Web", &json!({"port": "x"})), 400, "`port` is no int"),
        (job("Web", &json!({"ConfigurationData": "{}"})), 501, "ConfigurationData"),
        (json!({"properties": {}}), 400, "missing field `configuration`"),
        (json!({}), 400, "missing field `properties`"),
        (job("a/b", &json!({})), 400, "slash"),
    ] {
        let said = managed.put("compilationjobs/x", &body).await;
        assert_eq!(said.status, status, "{said:?}");
        assert!(said.message().contains(expect), "{expect}: {}", said.message());
    }
    let named = managed.put("compilationjobs/a%20b", &job("Web", &json!({}))).await;
    assert_eq!(named.status, StatusCode::BAD_REQUEST);
    assert_eq!(managed.get("compilationjobs/none").await.status, StatusCode::NOT_FOUND);

    let counts = managed.get("statistics").await;
    let count = |said: &Said, status: &str| {
        let all = said.body["value"].as_array().expect("a list").clone();
        let one = all.into_iter().find(|one| one["counterProperty"] == status);
        one.expect("every status")["counterValue"].as_u64()
    };
    assert_eq!(counts.body["value"].as_array().map(Vec::len), Some(13));
    assert_eq!(count(&counts, "Completed"), Some(1));
    assert_eq!((count(&counts, "Failed"), count(&counts, "Blocked")), (Some(1), Some(0)));
    let late = "statistics?$filter=properties/startTime%20ge%202026-01-01T00:30:00Z";
    let counts = managed.get(late).await;
    assert_eq!((count(&counts, "Completed"), count(&counts, "Failed")), (Some(0), Some(1)));
    let odd =
        managed.get("statistics?$filter=properties/startTime%20le%202026-01-01T00:30:00Z").await;
    assert_eq!(odd.status, StatusCode::NOT_IMPLEMENTED);
    managed.world.clock.advance(Duration::from_secs(8 * 24 * 3_600));
    assert_eq!(count(&managed.get("statistics").await, "Failed"), Some(0), "over a week");
}

fn document(text: &str, configuration: &str, adds_build: bool) -> Value {
    json!({"properties": {
        "source": {"type": "embeddedContent", "value": text},
        "configuration": {"name": configuration},
        "incrementNodeConfigurationBuild": adds_build,
    }})
}

#[tokio::test]
async fn node_configurations_are_put_built_and_deleted() {
    let managed = Managed::new(1).await;
    let (one, two) = (cells("Web", &[("a", "1")]), cells("Web", &[("a", "2")]));
    let path = "nodeConfigurations/Web.pc";
    let put = managed.put(path, &document(&one, "Web", false)).await;
    assert_eq!((put.status, &put.body["name"]), (StatusCode::CREATED, &json!("Web.pc")), "{put:?}");
    managed.world.clock.advance(Duration::from_secs(60));
    let put = managed.put(path, &document(&two, "web", false)).await;
    assert_eq!(put.status, StatusCode::OK);
    let properties = &put.body["properties"];
    assert_eq!(properties["creationTime"], "2026-01-01T00:00:00Z");
    assert_eq!(properties["lastModifiedTime"], "2026-01-01T00:01:00Z");
    let built = managed.put(path, &document(&one, "Web", true)).await;
    assert_eq!((built.status, &built.body["name"]), (StatusCode::CREATED, &json!("Web.pc[2]")));
    let filter = "nodeConfigurations?$filter=properties/configuration/name%20eq%20'web'";
    assert_eq!(managed.get(filter).await.names(), ["Web.pc", "Web.pc[2]"]);
    assert_eq!(
        managed.get("nodeConfigurations?$filter=contains(name,'[2]')").await.names(),
        ["Web.pc[2]"]
    );

    let other = managed.put(path, &document(&one, "Site", false)).await;
    assert!(other.message().contains("`Site`, and the path names `Web.pc`"), "{other:?}");
    let wrong = managed.put(path, &document("instance of X {", "Web", false)).await;
    assert_eq!((wrong.status, wrong.code()), (StatusCode::BAD_REQUEST, "InvalidConfiguration"));
    assert_eq!(wrong.body["error"]["details"][0]["target"], "1:1");

    let gone = managed.delete("nodeConfigurations/web.PC[2]").await;
    assert_eq!((gone.status, gone.text.as_str()), (StatusCode::OK, ""));
    assert_eq!(managed.delete("nodeConfigurations/Web.pc[2]").await.status, StatusCode::NOT_FOUND);
    assert_eq!(managed.get("nodeConfigurations/Web.pc[2]").await.status, StatusCode::NOT_FOUND);
    assert_eq!(managed.get(path).await.status, StatusCode::OK);
}
