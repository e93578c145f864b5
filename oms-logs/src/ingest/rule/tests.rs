use super::document::read;
use super::*;
use crate::Error;
use crate::query::{Column, KqlType};
use oms_core::entropy::SeededEntropy;
use oms_core::testkit::crash::crash_at_every_operation;
use oms_core::testkit::disk::SimDisk;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// A rule as the portal makes one for an application's access log.
pub(crate) fn rule() -> Value {
    json!({
        "location": "westeurope",
        "kind": "Direct",
        "tags": {"team": "web"},
        "properties": {
            "description": "access log of the shop",
            "dataCollectionEndpointId": "/subscriptions/s/resourceGroups/g/providers/e",
            "streamDeclarations": {
                "Custom-Access": {"columns": [
                    {"name": "TimeGenerated", "type": "datetime"},
                    {"name": "Line", "type": "string"},
                    {"name": "Code", "type": "int"},
                    {"name": "Seconds", "type": "real"},
                    {"name": "Cached", "type": "boolean"},
                    {"name": "Bytes", "type": "long"},
                    {"name": "Context", "type": "dynamic"}
                ]}
            },
            "dataSources": {"syslog": [{"name": "all", "streams": ["Microsoft-Syslog"]}]},
            "destinations": {"logAnalytics": [
                {"name": "here", "workspaceResourceId": "/subscriptions/s/workspaces/w"}
            ]},
            "dataFlows": [
                {
                    "streams": ["Custom-Access"],
                    "destinations": ["here"],
                    "transformKql":
                        "source | where Code >= 400 | project TimeGenerated, Line, Code, Who = tostring(Context.user)",
                    "outputStream": "Custom-Failures_CL"
                },
                {
                    "streams": ["Custom-Access"],
                    "destinations": ["here"],
                    "transformKql":
                        "source | extend SyslogMessage = Line, Facility = 'local0' | project TimeGenerated, SyslogMessage, Facility",
                    "outputStream": "Microsoft-Syslog"
                },
                {"streams": ["Microsoft-Perf", "Microsoft-Event"], "destinations": ["here"]}
            ]
        }
    })
}

fn problems(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut rule = rule();
    change(&mut rule);
    match check_document("shop", &rule) {
        Ok(()) => Vec::new(),
        Err(Error::Rule { problems, .. }) => problems.iter().map(ToString::to_string).collect(),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_rule_as_the_portal_makes_one_is_taken() {
    assert_eq!(problems(|_| {}), [""; 0]);
    assert_eq!(problems(|it| it["properties"]["new"] = json!({"x": 1})), [""; 0]);
}

#[test]
fn each_thing_that_is_wrong_is_told_with_its_place() {
    type Change = fn(&mut Value);
    let cases: &[(&str, Change)] = &[
        ("the document: is not an object", |it| *it = json!([])),
        ("properties: is missing", |it| *it = json!({})),
        ("properties.immutableId: is not `dcr-` and 32 lower-case hexadecimal digits", |it| {
            it["properties"]["immutableId"] = json!("dcr-12");
        }),
        (
            "properties.streamDeclarations.Access: the name of a declared stream begins with `Custom-`",
            |it| {
                it["properties"]["streamDeclarations"]["Access"] =
                    json!({"columns": [{"name": "a", "type": "int"}]});
            },
        ),
        (
            "properties.streamDeclarations.Custom-Access.columns[1].name: `TenantID` is reserved",
            |it| {
                columns(it)[1]["name"] = json!("TenantID");
            },
        ),
        (
            "properties.streamDeclarations.Custom-Access.columns[2].name: column name is longer than 45 bytes",
            |it| {
                columns(it)[2]["name"] = json!("x".repeat(46));
            },
        ),
        (
            "properties.streamDeclarations.Custom-Access.columns[2].name: there is a column `line` already",
            |it| {
                columns(it)[2]["name"] = json!("line");
            },
        ),
        (
            "properties.streamDeclarations.Custom-Access.columns[3].type: `double` is not one of boolean, datetime, dynamic, int, long, real, string",
            |it| {
                columns(it)[3]["type"] = json!("double");
            },
        ),
        ("properties.destinations: is missing", |it| {
            it["properties"].as_object_mut().expect("an object").remove("destinations");
        }),
        ("properties.dataFlows[1].destinations[0]: there is no destination `there`", |it| {
            flow(it, 1)["destinations"] = json!(["there"]);
        }),
        (
            "properties.dataFlows[1].destinations[0]: destination `hub` is no workspace; no other kind is supported",
            |it| {
                it["properties"]["destinations"]["eventHubs"] = json!([{"name": "hub"}]);
                flow(it, 1)["destinations"] = json!(["hub"]);
            },
        ),
        (
            "properties.dataFlows[1].destinations: a flow to several workspaces is not supported",
            |it| {
                let more = json!({"name": "there", "workspaceResourceId": "/other"});
                it["properties"]["destinations"]["logAnalytics"]
                    .as_array_mut()
                    .expect("a list")
                    .push(more);
                flow(it, 1)["destinations"] = json!(["here", "there"]);
            },
        ),
        ("properties.dataFlows[1].streams[0]: stream `Custom-Other` is not declared", |it| {
            flow(it, 1)["streams"] = json!(["Custom-Other"]);
        }),
        ("properties.dataFlows[2].streams: there is no stream `Microsoft-Nothing`", |it| {
            flow(it, 2)["streams"] = json!(["Microsoft-Nothing"]);
        }),
        ("properties.dataFlows[2].streams: a flow with a transformation has one stream", |it| {
            flow(it, 2)["transformKql"] = json!("source");
        }),
        (
            "properties.dataFlows[0].outputStream: `Custom-Failures` is no table: a custom table ends in `_CL`",
            |it| {
                flow(it, 0)["outputStream"] = json!("Custom-Failures");
            },
        ),
        ("properties.dataFlows[0].outputStream: there is no table `Nothing`", |it| {
            flow(it, 0)["outputStream"] = json!("Microsoft-Nothing");
        }),
        (
            "properties.dataFlows[0].outputStream: `Failures_CL` begins with neither `Custom-` nor `Microsoft-`",
            |it| {
                flow(it, 0)["outputStream"] = json!("Failures_CL");
            },
        ),
        (
            "properties.dataFlows[0].transformKql: 1:10: `summarize` cannot be used in a transformation",
            |it| {
                flow(it, 0)["transformKql"] = json!("source | summarize count()");
            },
        ),
        ("properties.dataFlows[0].transformKql: longer than 15360 characters", |it| {
            flow(it, 0)["transformKql"] = json!(" ".repeat(15_361));
        }),
        ("properties.dataFlows[0].transformKql: the rows have no `TimeGenerated`", |it| {
            flow(it, 0)["transformKql"] = json!("source | project Line");
        }),
        (
            "properties.dataFlows[0].transformKql: `TimeGenerated` is string, and has to be datetime",
            |it| {
                flow(it, 0)["transformKql"] = json!("source | extend TimeGenerated = Line");
            },
        ),
        (
            "properties.dataFlows[1].transformKql: column `Line`: table Syslog has no such column (custom columns of standard tables end in _CF)",
            |it| {
                flow(it, 1)["transformKql"] = json!("source | project TimeGenerated, Line");
            },
        ),
        (
            "properties.dataFlows[1].transformKql: column `SyslogMessage` of table Syslog is string, not int",
            |it| {
                flow(it, 1)["transformKql"] =
                    json!("source | project TimeGenerated, SyslogMessage = Code");
            },
        ),
        (
            "properties.dataFlows[1].transformKql: the workspace fills the column `_ItemId` itself",
            |it| {
                flow(it, 1)["transformKql"] =
                    json!("source | project TimeGenerated, ['_ItemId'] = Line");
            },
        ),
        (
            "properties.dataFlows[0].transformKql: `computer` differs from `Computer` in case alone",
            |it| {
                flow(it, 0)["transformKql"] =
                    json!("source | project TimeGenerated, computer = Line");
            },
        ),
        ("properties.dataFlows: is empty", |it| it["properties"]["dataFlows"] = json!([])),
        ("properties.dataFlows: more than 10 data flows", |it| {
            it["properties"]["dataFlows"] = json!(vec![json!({}); 11]);
        }),
        ("properties.dataFlows[0].streams[1]: names `Custom-Access` again", |it| {
            flow(it, 0)["streams"] = json!(["Custom-Access", "Custom-Access"]);
        }),
        (": 301170 bytes of a rule are more than 262144", |it| {
            it["tags"]["long"] = json!("x".repeat(300_000))
        }),
    ];
    for (expected, change) in cases {
        let found = problems(change);
        let is_told = found.iter().any(|it| it == expected || it.starts_with(expected));
        assert!(is_told, "{expected}\nfound: {found:#?}");
    }
    let both = problems(|it| {
        columns(it)[1]["name"] = json!("Type");
        columns(it)[3]["type"] = json!("float");
    });
    assert_eq!(both.len(), 2, "{both:?}");
}

fn columns(rule: &mut Value) -> &mut Value {
    &mut rule["properties"]["streamDeclarations"]["Custom-Access"]["columns"]
}

fn flow(rule: &mut Value, at: usize) -> &mut Value {
    &mut rule["properties"]["dataFlows"][at]
}

#[test]
fn a_name_is_a_word() {
    for name in ["", "a b", "a/b", &"x".repeat(65)] {
        let error = check_document(name, &rule()).expect_err(name);
        assert!(error.to_string().contains("a rule's name is"), "{error}");
    }
}

#[test]
fn values_become_what_is_declared_or_null_and_are_told() {
    let declared: Vec<Column> = [
        ("s", KqlType::String),
        ("i", KqlType::Int),
        ("l", KqlType::Long),
        ("r", KqlType::Real),
        ("b", KqlType::Bool),
        ("t", KqlType::DateTime),
        ("d", KqlType::Dynamic),
    ]
    .map(|(name, kql_type)| Column { name: name.to_owned(), kql_type })
    .to_vec();
    let records = [
        json!({"s": "x", "i": 1, "l": 2, "r": 1.5, "b": true, "t": "2026-11-23T10:00:00.5Z", "d": {"b": 1, "a": [null]}}),
        json!({"s": 7, "i": "12", "l": "-3", "r": "2.5", "b": "TRUE", "t": "2026-11-23", "d": "text"}),
        json!({"s": {"k": 1}, "i": 2.0, "l": 9007199254740993_i64, "r": 3, "b": 0, "t": null, "d": null}),
        json!({"s": null, "i": 2147483648_i64, "l": 1.5, "r": "x", "b": "yes", "t": 5, "d": false, "more": 1}),
        json!({"s": "ä".repeat(40_000), "l": 1e300, "i": true}),
    ];
    let Converted { rows, changes } = convert("Custom-A", &declared, &records).expect("converted");
    let table = table_rows(&declared, &rows, jiff::Timestamp::UNIX_EPOCH).expect("rows").rows;
    let mut json = Vec::new();
    let mut writer = arrow::json::LineDelimitedWriter::new(&mut json);
    let short = table.slice(0, 4);
    writer.write(&short).expect("written");
    writer.finish().expect("written");
    assert_eq!(
        String::from_utf8(json).expect("text"),
        concat!(
            r#"{"s":"x","i":1,"l":2,"r":1.5,"b":true,"t":"2026-11-23T10:00:00.500Z","d":"{\"a\":[null],\"b\":1}"}"#,
            "\n",
            r#"{"s":"7","i":12,"l":-3,"r":2.5,"b":true,"t":"2026-11-23T00:00:00Z","d":"\"text\""}"#,
            "\n",
            r#"{"s":"{\"k\":1}","i":2,"l":9007199254740993,"r":3.0,"b":false}"#,
            "\n",
            r#"{"d":"false"}"#,
            "\n",
        )
    );
    let texts = arrow::array::AsArray::as_string::<i32>(table.column(0));
    assert_eq!(texts.value(4).len(), TEXT_BYTES_MAX);
    let told: Vec<(&str, u64)> = changes.iter().map(|(what, n)| (what.as_str(), *n)).collect();
    assert_eq!(
        told,
        [
            ("a text of `s` was cut to 65536 bytes", 1),
            ("a value of `b` is no bool and became null", 1),
            ("a value of `i` is no int and became null", 2),
            ("a value of `l` is no long and became null", 2),
            ("a value of `r` is no real and became null", 1),
            ("a value of `t` is no datetime and became null", 1),
            ("field `more` is not declared by stream Custom-A and was left out", 1),
        ]
    );
    assert_eq!(convert("s", &declared, &[json!({}), json!(1)]).expect_err("refused").0, 1);
    let many: serde_json::Map<String, Value> =
        (0..30).map(|n| (format!("f{n}"), json!(1))).collect();
    let changes = convert("s", &declared, &[Value::Object(many)]).expect("converted").changes;
    assert_eq!(changes.len(), 11);
    assert_eq!(changes["more fields are not declared by stream s and were left out"], 20);
}

/// Documents in the making: parts of a rule, in all sorts of places.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<i64>().prop_map(Value::from),
        "[a-zA-Z_]{0,6}".prop_map(Value::from),
        prop::sample::select(vec![
            "Custom-A",
            "Custom-T_CL",
            "Microsoft-Syslog",
            "here",
            "source",
            "string",
            "int",
            "TimeGenerated",
            "source | where x > 1",
            "source | extend y = now()",
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        let keys = prop::sample::select(vec![
            "properties",
            "streamDeclarations",
            "Custom-A",
            "columns",
            "name",
            "type",
            "destinations",
            "logAnalytics",
            "workspaceResourceId",
            "dataFlows",
            "streams",
            "transformKql",
            "outputStream",
            "immutableId",
            "other",
        ]);
        let members = prop::collection::vec((keys, inner.clone()), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            members.prop_map(|members| {
                Value::Object(members.into_iter().map(|(key, it)| (key.to_owned(), it)).collect())
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Any document ends with a rule or with problems, each of which has a reason.
    #[test]
    fn any_document_is_taken_or_refused_with_reasons(document in value()) {
        match check_document("any", &document) {
            Ok(()) => prop_assert!(read("any", &document).is_ok()),
            Err(Error::Rule { problems, .. }) => {
                prop_assert!(!problems.is_empty() && problems.len() <= PROBLEMS_MAX);
                prop_assert!(problems.iter().all(|problem| !problem.reason.is_empty()));
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    /// A part of a good rule in the place of another never does more than that.
    #[test]
    fn a_rule_with_any_part_replaced_is_taken_or_refused(
        path in prop::sample::select(vec![
            "/properties", "/properties/streamDeclarations",
            "/properties/streamDeclarations/Custom-Access/columns/1", "/properties/destinations",
            "/properties/destinations/logAnalytics/0/name", "/properties/dataFlows/0",
            "/properties/dataFlows/0/streams", "/properties/dataFlows/1/transformKql",
            "/properties/dataFlows/1/outputStream", "/properties/dataFlows/2/destinations",
        ]),
        part in value(),
    ) {
        let mut rule = rule();
        if let Some(place) = rule.pointer_mut(path) {
            *place = part;
        }
        let refused = check_document("any", &rule);
        let is_named = match &refused {
            Ok(()) | Err(Error::Rule { .. }) => true,
            Err(_) => false,
        };
        prop_assert!(is_named, "{:?}", refused);
    }

    /// Records of any values become as many rows.
    #[test]
    fn any_objects_become_rows(records in prop::collection::vec(value(), 0..6)) {
        let kinds = [
            KqlType::Bool, KqlType::DateTime, KqlType::Decimal, KqlType::Dynamic, KqlType::Guid,
            KqlType::Int, KqlType::Long, KqlType::Real, KqlType::String, KqlType::TimeSpan,
        ];
        let names = ["name", "type", "columns", "streams", "other", "a", "b", "c", "d", "e"];
        let declared: Vec<Column> = names.iter().zip(kinds)
            .map(|(name, kql_type)| Column { name: (*name).to_owned(), kql_type }).collect();
        match convert("s", &declared, &records) {
            Ok(converted) => {
                prop_assert_eq!(converted.rows.num_rows(), records.len());
                let made = table_rows(&declared, &converted.rows, jiff::Timestamp::UNIX_EPOCH);
                prop_assert_eq!(made.expect("rows").rows.num_rows(), records.len());
            }
            Err((at, _)) => prop_assert!(!records[at].is_object()),
        }
    }
}

/// A rule that is soon compiled.
fn plain() -> Value {
    let mut rule = rule();
    rule["properties"]["dataFlows"] =
        json!([{"streams": ["Microsoft-Perf"], "destinations": ["here"]}]);
    rule
}

async fn put(
    store: &RuleStore,
    name: &str,
    document: Value,
) -> Result<(DataCollectionRule, bool), Error> {
    let table = |name: &oms_core::record::RecordType| crate::schema::TableSchema::initial(name);
    // Each name draws an id of its own.
    let seed = name.bytes().fold(0_u64, |seed, byte| seed * 257 + u64::from(byte));
    let entropy = SeededEntropy::new(seed);
    store.put(name, document, &entropy, table, jiff::Timestamp::UNIX_EPOCH).await
}

#[tokio::test]
async fn a_rule_keeps_its_id_and_is_found_by_both_names() {
    let disk = SimDisk::default();
    let open = || RuleStore::open(Arc::new(disk.clone()));
    let store = open().expect("open");
    let (first, is_new) = put(&store, "Shop", rule()).await.expect("taken");
    assert!(is_new);
    let (again, is_new) = put(&store, "SHOP", rule()).await.expect("taken");
    assert!(!is_new);
    assert_eq!((&again.name, &again.immutable_id), (&first.name, &first.immutable_id));
    assert_eq!(again.document["properties"]["immutableId"], json!(first.immutable_id));
    assert_eq!(again.document["tags"]["team"], json!("web"));
    let mut with_id = rule();
    with_id["properties"]["immutableId"] = json!("dcr-00000000000000000000000000000001");
    let error = put(&store, "shop", with_id.clone()).await.expect_err("another id");
    assert!(error.to_string().contains("the rule has the id"), "{error}");
    put(&store, "other", with_id.clone()).await.expect("taken");
    let error = put(&store, "third", with_id).await.expect_err("taken already");
    assert!(error.to_string().contains("another rule has this id"), "{error}");
    let store = open().expect("open");
    for name in ["shop", first.immutable_id.as_str()] {
        assert_eq!(store.rule(name).expect("there"), again);
    }
    assert_eq!(store.all().len(), 2);
    store.delete(&first.immutable_id).await.expect("removed");
    let error = store.delete("shop").await.expect_err("gone");
    assert!(matches!(error, Error::RuleNotFound { .. }));
    assert_eq!(open().expect("open").all().len(), 1);
}

/// Auditor: what a put or a delete was answered is there after a power failure at any operation, and
/// one that failed left the rules as they were or did what it was asked.
#[test]
fn power_may_fail_at_any_operation_of_a_change() {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime");
    type Known = (BTreeSet<&'static str>, Option<&'static str>);
    let work = |disk: &SimDisk, known: &Mutex<Known>| {
        runtime.block_on(async {
            let Ok(store) = RuleStore::open(Arc::new(disk.clone())) else { return false };
            for (name, is_put) in [("a", true), ("b", true), ("a", false), ("c", true)] {
                known.lock().expect("not poisoned").1 = Some(name);
                let done = match is_put {
                    true => put(&store, name, plain()).await.is_ok(),
                    false => store.delete(name).await.is_ok(),
                };
                if !done {
                    return false;
                }
                let mut known = known.lock().expect("not poisoned");
                known.1 = None;
                match is_put {
                    true => known.0.insert(name),
                    false => known.0.remove(name),
                };
            }
            true
        })
    };
    let audit = |disk: &SimDisk, known: Mutex<Known>, is_done: bool| {
        let store = RuleStore::open(Arc::new(disk.clone())).expect("the rules are whole");
        let found: BTreeSet<String> = store.all().into_iter().map(|rule| rule.name).collect();
        let (acknowledged, tried) = known.into_inner().expect("not poisoned");
        assert!(!is_done || tried.is_none());
        let settled = |name: &&str| Some(*name) != tried;
        let expected: BTreeSet<&str> = acknowledged.into_iter().filter(settled).collect();
        let found: BTreeSet<&str> = found.iter().map(String::as_str).filter(settled).collect();
        assert_eq!(found, expected);
    };
    let state = |_disk: &SimDisk| Mutex::new(Known::default());
    let operations = crash_at_every_operation(3, state, work, audit);
    assert!(operations >= 20, "{operations}");
}
