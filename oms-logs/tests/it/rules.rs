//! Records that come through data collection rules.

use crate::{open, quiet, start};
use jiff::SignedDuration;
use oms_core::ErrorKind;
use oms_core::clock::ManualClock;
use oms_core::entropy::SeededEntropy;
use oms_core::testkit::disk::SimDisk;
use oms_logs::ingest::rule::{StreamBatch, StreamReport};
use oms_logs::query::QueryOptions;
use oms_logs::{Error, Workspace};
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;

/// Two flows of one stream into two tables, and one into the first of them again.
fn rule() -> Value {
    let flow = |kql: &str, output: &str| {
        json!({
            "streams": ["Custom-Access"], "destinations": ["here"],
            "transformKql": kql, "outputStream": output,
        })
    };
    json!({
        "location": "local",
        "properties": {
            "streamDeclarations": {"Custom-Access": {"columns": [
                {"name": "time", "type": "datetime"},
                {"name": "Line", "type": "string"},
                {"name": "Code", "type": "int"},
                {"name": "Context", "type": "dynamic"},
            ]}},
            "destinations": {"logAnalytics": [{"name": "here", "workspaceResourceId": "/w"}]},
            "dataFlows": [
                flow("source | where Code >= 400 | project TimeGenerated = time, Line, Code, User = tostring(Context.user), Computer = 'web'", "Custom-Failures_CL"),
                flow("source | project TimeGenerated = time, SyslogMessage = Line, SeverityLevel = iff(Code >= 400, 'err', 'info')", "Microsoft-Syslog"),
                flow("source | where Line has 'audit' | project TimeGenerated = time, Note = strcat('audited ', Line)", "Custom-Failures_CL"),
            ],
        },
    })
}

fn batch(sequence: u64, records: Vec<Value>) -> StreamBatch {
    let (producer, rule) = ("shop".to_owned(), "access".to_owned());
    StreamBatch { producer, sequence, rule, stream: "Custom-Access".to_owned(), records }
}

fn access(line: &str, code: u64) -> Value {
    json!({"time": "2026-11-23T10:00:00Z", "Line": line, "Code": code, "Context": {"user": "ann"}})
}

async fn ask(workspace: &Workspace, query: &str) -> Vec<Vec<Value>> {
    let now = start() + SignedDuration::from_hours(12);
    let options = QueryOptions::new(Arc::new(ManualClock::new(now)));
    workspace.query(query, &options).await.expect("an answer").rows()
}

#[tokio::test]
async fn each_flow_gets_its_copy_and_a_repeat_adds_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    let (put, is_new) = workspace.put_rule("access", rule()).await.expect("a rule");
    assert!(is_new && put.immutable_id.starts_with("dcr-"), "{put:?}");
    let records = vec![access("GET /", 200), access("GET /audit", 404), access("GET /no", 500)];
    let report = workspace.ingest_stream(batch(1, records.clone())).await.expect("taken");
    let StreamReport { records: 3, rows: 6, filtered: 3, is_repeat: false, .. } = report else {
        panic!("{report:?}");
    };
    let mut again = batch(1, records);
    again.rule = put.immutable_id;
    assert!(workspace.ingest_stream(again).await.expect("a repeat").is_repeat);
    let failures =
        "Failures_CL | sort by Line asc, Note asc | project Line, Code, User, Computer, Note";
    let expected = json!([
        ["", null, "", "", "audited GET /audit"],
        ["GET /audit", 404, "ann", "web", ""],
        ["GET /no", 500, "ann", "web", ""],
    ]);
    let syslog = "Syslog | summarize count() by SeverityLevel | sort by SeverityLevel asc";
    for _ in 0..2 {
        assert_eq!(json!(ask(&workspace, failures).await), expected);
        assert_eq!(json!(ask(&workspace, syslog).await), json!([["err", 2], ["info", 1]]));
        let ids = "union Failures_CL, Syslog | summarize dcount(_ItemId)";
        assert_eq!(json!(ask(&workspace, ids).await), json!([[6]]));
        workspace.flush().await.expect("flushed");
    }
}

#[tokio::test]
async fn what_is_lost_on_the_way_is_told_and_refusals_write_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    workspace.put_rule("access", rule()).await.expect("a rule");
    let mut odd = access("GET /odd", 500);
    odd["Code"] = json!("five hundred");
    odd["Extra"] = json!(1);
    odd["time"] = json!(null);
    let report = workspace.ingest_stream(batch(1, vec![odd.clone(), access("b", 1)])).await;
    assert_eq!((report.expect("taken").rows), 2);
    // Such a batch is refused whole, and told of; the same sequence goes on.
    let error = workspace.ingest_stream(batch(2, vec![access("x", 1), json!(3)])).await;
    let error = error.expect_err("no object");
    assert!(matches!(&error, Error::Record { index: 1, .. }), "{error}");
    let unknown = StreamBatch { stream: "Custom-Other".to_owned(), ..batch(2, Vec::new()) };
    let error = workspace.ingest_stream(unknown).await.expect_err("no such stream");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let unknown = StreamBatch { rule: "dcr-0".to_owned(), ..batch(2, Vec::new()) };
    let error = workspace.ingest_stream(unknown).await.expect_err("no such rule");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let report = workspace.ingest_stream(batch(2, Vec::new())).await.expect("nothing is taken too");
    assert_eq!(report, StreamReport::default());
    workspace.tell_refused().await.expect("told");
    let told = "Operation | sort by Detail asc | project OperationStatus, OperationKey, Detail";
    let told: Vec<String> =
        ask(&workspace, told).await.iter().map(|row| format!("{row:?}")).collect();
    let told = told.join("\n");
    for part in [
        "Warning\"), String(\"Failures_CL\"), String(\"1 records of Failures_CL were taken, and not all that they had: a value of `Code` is no int and became null",
        "field `Extra` is not declared by stream Custom-Access and was left out",
        "Warning\"), String(\"Syslog\"), String(\"1 records of Syslog were taken, and not all that they had: a row had no TimeGenerated and got the time of its arrival",
        "Error\"), String(\"Custom-Access\"), String(\"2 records of Custom-Access were refused, alone or with others: is not an object",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
    assert_eq!(told.lines().count(), 4, "{told}");
    let late = "Syslog | where SyslogMessage == 'GET /odd' | project TimeGenerated";
    assert_eq!(json!(ask(&workspace, late).await), json!([["2026-11-23T00:00:00Z"]]));
}

/// A flow whose rows do not fit refuses those of the others with its own.
#[tokio::test]
async fn a_flow_that_fails_takes_the_others_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    let mut wide = rule();
    let doubling = "| extend Line = strcat(Line, Line) ".repeat(21);
    wide["properties"]["dataFlows"][2]["transformKql"] = json!(format!(
        "source | extend TimeGenerated = time {doubling} | project TimeGenerated, Line"
    ));
    workspace.put_rule("access", wide).await.expect("a rule");
    let error = workspace.ingest_stream(batch(1, vec![access("a", 500)])).await.expect_err("long");
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    let told = error.to_string();
    assert!(told.contains("rule=`access`") && told.contains("properties.dataFlows[2]"), "{told}");
    assert!(workspace.tables().is_empty());
    workspace.tell_refused().await.expect("told");
    let told = ask(&workspace, "Operation | project OperationKey, Detail").await;
    assert_eq!(told.len(), 1);
    assert!(told[0][1].to_string().contains("1 records of Failures_CL were refused"), "{told:?}");
    // Another writer may have taken a column otherwise since the rule was put.
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    workspace.put_rule("access", rule()).await.expect("a rule");
    let record =
        oms_core::record::Record::new("Failures_CL".parse().expect("a name"), start(), "pc")
            .with("Code", "text");
    let records = vec![record];
    let other = oms_core::record::Batch { producer: "other".into(), sequence: 1, records };
    workspace.write(other).await.expect("written");
    let error = workspace.ingest_stream(batch(1, vec![access("a", 500)])).await.expect_err("text");
    assert!(matches!(&error, Error::Record { column, .. } if column == "Code"), "{error}");
    assert_eq!(ask(&workspace, "Syslog").await.len(), 0);
    let error = workspace.put_rule("access", rule()).await.expect_err("no int");
    assert!(
        error.to_string().contains("column `Code` of table Failures_CL is string, not int"),
        "{error}"
    );
}

#[tokio::test]
async fn rules_survive_a_restart_and_a_deleted_one_takes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    let (put, _) = workspace.put_rule("access", rule()).await.expect("a rule");
    workspace.close().await.expect("closed");
    let workspace = open(folder.path()).await;
    assert_eq!(workspace.rules().expect("rules"), std::slice::from_ref(&put));
    assert_eq!(workspace.rule(&put.immutable_id).expect("there"), put);
    workspace.ingest_stream(batch(1, vec![access("a", 500)])).await.expect("taken");
    workspace.delete_rule("ACCESS").await.expect("removed");
    let error = workspace.ingest_stream(batch(2, vec![access("b", 500)])).await;
    assert!(matches!(error, Err(Error::RuleNotFound { .. })));
    assert_eq!(ask(&workspace, "Failures_CL").await.len(), 1);
}

/// Auditor: wherever the log's disk stops, the rows of a batch that was acknowledged are there once
/// in every table, and those of another are in all of its tables or in none.
#[tokio::test]
async fn transformed_rows_are_there_once_after_any_crash() {
    let mut failed = 0;
    for operations in 0..24 {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = SimDisk::default();
        let on = || quiet(folder.path()).log_disk(Arc::new(disk.clone()));
        let workspace = on().build().await.expect("a workspace");
        workspace.put_rule("access", rule()).await.expect("a rule");
        disk.fail_after(operations, io::ErrorKind::Other);
        let mut taken = 0;
        for sequence in 1..=4 {
            let line = format!("line {sequence}");
            let sent = workspace.ingest_stream(batch(sequence, vec![access(&line, 500)])).await;
            if sent.is_err() {
                failed += 1;
                break;
            }
            taken = sequence;
            if sequence == 2 {
                let _ = workspace.flush().await;
            }
        }
        drop(workspace);
        disk.crash(&SeededEntropy::new(operations));
        let workspace = on().build().await.expect("a workspace");
        let count = async |table: &str| match workspace.table_names().iter().any(|it| it == table) {
            true => ask(&workspace, table).await.len() as u64,
            false => 0,
        };
        let found = count("Failures_CL").await;
        assert!((taken..=taken + 1).contains(&found), "after {operations}: {found} of {taken}");
        assert_eq!(count("Syslog").await, found, "after {operations}");
        // The sender goes on where it was.
        for sequence in taken.max(1)..=4 {
            let line = format!("line {sequence}");
            let records = vec![access(&line, 500)];
            workspace.ingest_stream(batch(sequence, records)).await.expect("taken");
        }
        workspace.flush().await.expect("flushed");
        for table in ["Failures_CL", "Syslog"] {
            assert_eq!(count(table).await, 4, "after {operations}: {table}");
        }
    }
    assert!(failed > 5, "{failed}");
}
