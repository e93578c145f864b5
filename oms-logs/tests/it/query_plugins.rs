//! `reduce`, the plugins over timelines and schemas, and older names, with the documented examples.

use crate::query::{ask, check, refuse};
use serde_json::json;

#[tokio::test]
async fn texts_are_reduced_to_patterns() {
    let texts = "range x from 1 to 10 step 1 | project str = strcat('foo', 'Z', tostring(x))";
    let columns = "Pattern:string Count:long Representative:dynamic";
    check(&format!("{texts} | reduce by str"), columns, json!([["others", 10, ""]])).await;
    check(
        &format!("{texts} | reduce by str with characters='Z'"),
        columns,
        json!([["foo*", 10, "fooZ1"]]),
    )
    .await;
    check(
        "range x from 0 to 999 step 1 | project MyText = strcat('MachineLearningX', tostring(x % 10))
         | reduce by MyText with threshold=0.001, characters='X'",
        columns,
        json!([["MachineLearning*", 1000, "MachineLearningX0"]]),
    )
    .await;
    // What too few texts have is gathered, and comes last.
    check(
        "range x from 1 to 100 step 1
         | extend s = iff(x % 2 == 0, 'disk 4 is full', strcat('user u', x, ' is here'))
         | reduce by s",
        columns,
        json!([
            ["user * is here", 50, "user u1 is here"],
            ["disk * is full", 50, "disk 4 is full"]
        ]),
    )
    .await;
    check(
        "range x from 1 to 20 step 1 | extend s = iff(x <= 18, 'up', strcat('down', x)) | reduce by s",
        columns,
        json!([["up", 18, "up"], ["others", 2, ""]]),
    )
    .await;
    check(
        "datatable(a:string, n:long)['foo 1', 1, 'foo 2', 2] | reduce kind=source by a",
        "a:string n:long Pattern:string",
        json!([["foo 1", 1, "foo *"], ["foo 2", 2, "foo *"]]),
    )
    .await;
    // Signs that are named do not separate.
    check(
        "print s = 'a-b c' | reduce by s with characters='-_'",
        columns,
        json!([["a-b c", 1, "a-b c"]]),
    )
    .await;
    check("datatable(a:string)[] | reduce by a", columns, json!([])).await;
    for (wrong, why) in
        [("kind=all by a", "`all` is not a kind"), ("by a with threshold=2", "`threshold`")]
    {
        let refused = refuse(&format!("print a = 'x' | reduce {wrong}")).await.to_string();
        assert!(refused.contains(why), "{wrong}: {refused}");
    }
}

/// Which users were there on which days of November 2019.
const USERS: &str = "let Users = datatable(Timestamp:datetime, users:dynamic)[
    datetime(2019-11-01), dynamic([0,2,3,4]), datetime(2019-11-02), dynamic([0,1,3,4,5]),
    datetime(2019-11-03), dynamic([0,2,4,5]), datetime(2019-11-04), dynamic([0,1,2,3]),
    datetime(2019-11-05), dynamic([0,1,2,3,4])] | mv-expand user = users to typeof(long);";

#[tokio::test]
async fn new_ids_are_followed() {
    let columns = "from_Timestamp:datetime to_Timestamp:datetime dcount_new_values:long \
                   dcount_retained_values:long dcount_churn_values:long retention_rate:real \
                   churn_rate:real";
    let new = "let StartDate = datetime(2019-11-01); let EndDate = datetime(2019-11-07);
        Users | evaluate new_activity_metrics(user, Timestamp, StartDate, EndDate-1tick, 1d";
    let row = |from: u8, to: u8, new: u8, kept: u8, gone: u8| {
        let at = |day: u8| format!("2019-11-0{day}T00:00:00Z");
        let all = f64::from(kept + gone);
        json!([at(from), at(to), new, kept, gone, f64::from(kept) / all, f64::from(gone) / all])
    };
    let second = [
        row(2, 2, 2, 2, 0),
        row(2, 3, 0, 1, 1),
        row(2, 4, 0, 1, 1),
        row(2, 5, 0, 1, 1),
        row(2, 6, 0, 0, 2),
    ];
    let mut all = vec![
        row(1, 1, 4, 4, 0),
        row(1, 2, 2, 3, 1),
        row(1, 3, 1, 3, 1),
        row(1, 4, 1, 3, 1),
        row(1, 5, 1, 4, 0),
        row(1, 6, 0, 0, 4),
    ];
    all.extend(second.clone());
    check(
        &format!("{USERS} {new}) | where from_Timestamp < datetime(2019-11-03)"),
        columns,
        json!(all),
    )
    .await;
    // The cohort of one period.
    let cohort = format!("{USERS} {new}, datetime(2019-11-02))");
    check(&cohort, columns, json!(second)).await;
    let none = format!("{USERS} {new}, datetime(2019-10-02))");
    check(&none, columns, json!([])).await;
    // Ids that were there before the analysis are not new.
    for lookback in ["before", "(before | project user)", "(before | project other = user)"] {
        let text = format!(
            "{USERS} let before = datatable(day:datetime, user:int)[datetime(2019-10-01), 0,
                datetime(2019-10-02), 5]; {new}, datetime(2019-11-02), {lookback})
             | project to_Timestamp, dcount_new_values, dcount_retained_values"
        );
        let of = if lookback == "before" {
            text.replace("day:datetime, ", "")
                .replace("datetime(2019-10-01), ", "")
                .replace("datetime(2019-10-02), ", "")
        } else {
            text
        };
        check(
            &of,
            "to_Timestamp:datetime dcount_new_values:long dcount_retained_values:long",
            json!([
                ["2019-11-02T00:00:00Z", 1, 1],
                ["2019-11-03T00:00:00Z", 0, 0],
                ["2019-11-04T00:00:00Z", 0, 1],
                ["2019-11-05T00:00:00Z", 0, 1],
                ["2019-11-06T00:00:00Z", 0, 0],
            ]),
        )
        .await;
    }
    for (wrong, why) in [
        ("(print a = 1, b = 2)", "the lookback has no column `user`"),
        ("datetime(2019-11-02), 7", "takes no more constants"),
        ("'x'", "constant datetime"),
    ] {
        let refused = refuse(&format!("{USERS} {new}, {wrong})")).await.to_string();
        assert!(refused.contains(why), "{wrong}: {refused}");
    }
}

#[tokio::test]
async fn periods_of_the_calendar_are_counted() {
    let metrics = |period: &str| {
        format!(
            "{USERS} Users | evaluate activity_metrics(user, Timestamp, datetime(2019-11-02), \
             datetime(2019-12-22), '{period}') | project Timestamp, dcount_values, dcount_newvalues"
        )
    };
    let columns = "Timestamp:datetime dcount_values:long dcount_newvalues:long";
    // The second of November is a Saturday; the first lies before the start.
    check(
        &format!("{} | take 2", metrics("week")),
        columns,
        json!([["2019-10-27T00:00:00Z", 5, 5], ["2019-11-03T00:00:00Z", 6, 1]]),
    )
    .await;
    check(
        &metrics("month"),
        columns,
        json!([["2019-11-01T00:00:00Z", 6, 6], ["2019-12-01T00:00:00Z", 0, 0]]),
    )
    .await;
    check(&metrics("year"), columns, json!([["2019-01-01T00:00:00Z", 6, 6]])).await;
    check(
        &format!(
            "{USERS} Users | evaluate activity_counts_metrics(user, Timestamp, \
             datetime(2019-11-01), datetime(2019-12-01), 'month')"
        ),
        "Timestamp:datetime count:long dcount:long new_dcount:long aggregated_dcount:long",
        json!([["2019-11-01T00:00:00Z", 22, 6, 6, 6]]),
    )
    .await;
    check(
        &format!(
            "{USERS} Users | evaluate new_activity_metrics(user, Timestamp, \
             datetime(2019-11-01), datetime(2019-11-30), 'week') | project from_Timestamp, \
             to_Timestamp, dcount_new_values | take 2"
        ),
        "from_Timestamp:datetime to_Timestamp:datetime dcount_new_values:long",
        json!([
            ["2019-10-27T00:00:00Z", "2019-10-27T00:00:00Z", 6],
            ["2019-10-27T00:00:00Z", "2019-11-03T00:00:00Z", 0],
        ]),
    )
    .await;
    for wrong in [
        metrics("day"),
        metrics("week").replace("activity_metrics(user, Timestamp", "activity_metrics(user, user"),
        metrics("week").replace("'week'", "'week', 'week'"),
        metrics("week").replace("activity_metrics", "session_count"),
    ] {
        refuse(&wrong).await;
    }
    let refused = refuse(&metrics("day")).await.to_string();
    assert!(refused.contains("`week`, `month` or `year`"), "{refused}");
}

#[tokio::test]
async fn dimensions_come_where_they_are_documented() {
    let events = "datatable(id:long, t:long, d:string)[1, 0, 'a', 1, 10, 'a', 2, 0, 'b']";
    for (plugin, columns) in [
        (
            "activity_metrics(id, t, 0, 19, 10, d)",
            "t:long dcount_values:long dcount_newvalues:long retention_rate:real churn_rate:real d:string",
        ),
        (
            "new_activity_metrics(id, t, 0, 19, 10, d)",
            "from_t:long to_t:long dcount_new_values:long dcount_retained_values:long \
             dcount_churn_values:long retention_rate:real churn_rate:real d:string",
        ),
        (
            "activity_engagement(id, t, 0, 19, 10, 20, d)",
            "t:long dcount_activities_inner:long dcount_activities_outer:long activity_ratio:real \
             d:string",
        ),
        (
            "activity_counts_metrics(id, t, 0, 19, 10, d)",
            "t:long d:string count:long dcount:long new_dcount:long aggregated_dcount:long",
        ),
        ("session_count(id, t, 0, 19, 10, 5, d)", "t:long d:string count_sessions:long"),
    ] {
        let report = ask(&format!("{events} | evaluate {plugin} | where d == 'b'")).await;
        let found: Vec<String> = report
            .columns
            .iter()
            .map(|column| format!("{}:{}", column.name, column.kql_type))
            .collect();
        assert_eq!(found.join(" "), columns);
        assert!(!report.rows().is_empty(), "{plugin}");
    }
}

#[tokio::test]
async fn schemas_are_merged() {
    let merged = |second: &str, options: &str| {
        format!(
            "let schema1 = datatable(Uri:string, HttpStatus:int)[] | getschema;
             let schema2 = datatable({second})[] | getschema;
             union schema1, schema2 | evaluate schema_merge({options})"
        )
    };
    let columns = "ColumnName:string ColumnOrdinal:int DataType:string ColumnType:string";
    let row = |name: &str, place: i32, inner: &str, outer: &str| json!([name, place, inner, outer]);
    let (text, int) = (("System.String", "string"), ("System.Int32", "int"));
    check(
        &merged("Uri:string, HttpStatus:int, Referrer:string", ""),
        columns,
        json!([
            row("Uri", 0, text.0, text.1),
            row("HttpStatus", 1, int.0, int.1),
            row("Referrer", 2, text.0, text.1),
        ]),
    )
    .await;
    let other = "Uri:string, Referrer:string, HttpStatus:int";
    let error = "ERROR(columns are out of order)";
    let inner = "ERROR(unknown CSL type:ERROR(columns are out of order))";
    for options in ["", "true", "PreserveOrder = true"] {
        check(
            &merged(other, options),
            columns,
            json!([
                row("Uri", 0, text.0, text.1),
                row("Referrer", 1, text.0, text.1),
                row("HttpStatus", -1, inner, error),
            ]),
        )
        .await;
    }
    check(
        &merged(other, "PreserveOrder = false"),
        columns,
        json!([
            row("Uri", 0, text.0, text.1),
            row("Referrer", 1, text.0, text.1),
            row("HttpStatus", 2, int.0, int.1),
        ]),
    )
    .await;
    // Numbers have a common type, and others do not.
    let error = "ERROR(string and long have no common type)";
    let inner = format!("ERROR(unknown CSL type:{error})");
    check(
        &merged("Uri:long, HttpStatus:long", ""),
        columns,
        json!([row("Uri", -1, &inner, error), row("HttpStatus", 1, "System.Int64", "long")]),
    )
    .await;
    let refused = refuse(&merged(other, "PreserveOrder = 1")).await.to_string();
    assert!(refused.contains("`true` or `false`"), "{refused}");
}

#[tokio::test]
async fn sequences_of_events_are_detected() {
    let events = "datatable(t:datetime, State:string, kind:string)[
        datetime(2007-05-08 00:00), 'CA', 'heat', datetime(2007-05-08 00:00), 'CA', 'heat',
        datetime(2007-05-08 16:02), 'CA', 'fire', datetime(2007-05-10 11:30), 'CA', 'fire',
        datetime(2007-05-14), 'CA', 'fire', datetime(2007-05-09), 'TX', 'fire',
        datetime(2007-05-07), 'TX', 'heat', datetime(null), 'TX', 'fire',
        datetime(2007-05-09 12:00), 'TX', 'flood']";
    check(
        &format!(
            "{events} | evaluate sequence_detect(t, 5d, 5d, heat=(kind == 'heat'), \
             wildfire=(kind == 'fire'), State)"
        ),
        "State:string heat_t:datetime wildfire_t:datetime Duration:timespan",
        json!([
            ["TX", "2007-05-07T00:00:00Z", "2007-05-09T00:00:00Z", "2.00:00:00"],
            ["CA", "2007-05-08T00:00:00Z", "2007-05-08T16:02:00Z", "16:02:00"],
            ["CA", "2007-05-08T00:00:00Z", "2007-05-10T11:30:00Z", "2.11:30:00"],
        ]),
    )
    .await;
    // Three steps, whose whole is bounded, over numbers.
    let numbers = "datatable(n:int, k:string)[1, 'a', 3, 'b', 6, 'c', 9, 'c', 4, 'b']";
    let steps = "k == 'a', two = k == 'b', k == 'c'";
    check(
        &format!("{numbers} | evaluate sequence_detect(n, 5, 7, {steps})"),
        "Expr1_n:long two_n:long Expr3_n:long Duration:long",
        json!([[1, 3, 6, 5], [1, 4, 6, 5]]),
    )
    .await;
    check(
        &format!("{numbers} | evaluate sequence_detect(n, 2, 7, {steps})"),
        "Expr1_n:long two_n:long Expr3_n:long Duration:long",
        json!([]),
    )
    .await;
    for (wrong, why) in [
        ("n, 5, 7, k", "conditions, one for each step"),
        ("n, 0, 7, k == 'a'", "positive size"),
        ("k, 5, 7, k == 'a'", "no timeline of string"),
    ] {
        let refused = refuse(&format!("{numbers} | evaluate sequence_detect({wrong})")).await;
        assert!(refused.to_string().contains(why), "{wrong}: {refused}");
    }
    let many =
        "range t from 1 to 5000 step 1 | evaluate sequence_detect(t, 5000, 5000, t > 0, t > 0)";
    assert!(refuse(many).await.to_string().contains("operator_rows_max"));
}

/// Storms of five episodes.
const STORMS: &str = "let Storms = datatable(Episode:long, Start:datetime, Kind:string)[
    1, datetime(2007-01-01 00:00), 'Hail', 1, datetime(2007-01-01 01:00), 'Tornado',
    1, datetime(2007-01-01 01:30), 'Tornado', 1, datetime(2007-01-01 02:00), 'Wind',
    2, datetime(2007-02-01 00:00), 'Tornado',
    3, datetime(2007-03-01 00:00), 'Hail', 3, datetime(2007-03-01 00:30), 'Flood',
    3, datetime(2007-03-01 03:00), 'Tornado', 3, datetime(2007-03-01 09:00), 'Wind',
    4, datetime(2007-04-01 00:00), 'Hail', 4, datetime(2007-04-03 00:00), 'Tornado',
    4, datetime(2007-04-03 00:10), 'Hail',
    5, datetime(2009-04-01 00:00), 'Tornado'];";

#[tokio::test]
async fn funnels_show_what_came_before_and_after() {
    let funnel = |sequence: &str| {
        format!(
            "{STORMS} Storms | evaluate funnel_sequence(Episode, Start, datetime(2007-01-01), \
             datetime(2008-01-01), 1d, 365d, Kind, dynamic({sequence}))"
        )
    };
    let start = "2007-01-01T00:00:00Z";
    check_first(
        &funnel("['Tornado']"),
        json!([
            [start, "", "", 1, [2]],
            [start, "Hail", "Hail", 1, [4]],
            [start, "Hail", "Wind", 1, [1]],
            [start, "Flood", "Wind", 1, [3]],
        ]),
    )
    .await;
    let report = ask(&funnel("['Tornado']")).await;
    assert_eq!(report.others[0].name, "PrevSequence");
    assert_eq!(
        json!(report.others[0].rows()),
        json!([[start, "Hail", 2, [1, 4]], [start, "", 1, [2]], [start, "Flood", 1, [3]]])
    );
    assert_eq!(report.others[1].name, "SequenceNext");
    assert_eq!(
        json!(report.others[1].rows()),
        json!([[start, "Wind", 2, [1, 3]], [start, "", 1, [2]], [start, "Hail", 1, [4]]])
    );
    // What lies between is passed over, and what is too late is not.
    check_first(&funnel("['Hail', 'Tornado', 'Wind']"), json!([[start, "", "", 2, [1, 3]]])).await;
    check_first(&funnel("['Hail', 'Snow']"), json!([])).await;
    for (wrong, why) in [
        ("['Hail', 'Hail']", "twice in a row"),
        ("[]", "an array of states"),
        ("'Hail'", "an array of states"),
    ] {
        let refused = refuse(&funnel(wrong)).await.to_string();
        assert!(refused.contains(why), "{wrong}: {refused}");
    }
}

/// The first of several tables.
async fn check_first(text: &str, rows: serde_json::Value) {
    let report = ask(text).await;
    let names: Vec<&str> = report.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["Start", "prev", "next", "dcount", "samples"], "{text}");
    assert_eq!(json!(report.rows()), rows, "{text}");
}

#[tokio::test]
async fn funnels_are_completed_within_periods() {
    let funnel = |state: &str, sequence: &str, periods: &str| {
        format!(
            "{STORMS} Storms | extend Level = iff(Kind == 'Hail', 1, 2)
             | evaluate funnel_sequence_completion(Episode, Start, datetime(2007-01-01), \
             datetime(2008-01-01), 365d, {state}, dynamic({sequence}), dynamic({periods}))"
        )
    };
    let start = "2007-01-01T00:00:00Z";
    check(
        &funnel("Kind", "['Hail', 'Tornado', 'Wind']", "[1h, 4h, 1d]"),
        "Start:datetime Kind:string Period:timespan dcount:long",
        json!([
            [start, "Hail", "01:00:00", 3],
            [start, "Tornado", "01:00:00", 1],
            [start, "Wind", "01:00:00", 0],
            [start, "Hail", "04:00:00", 3],
            [start, "Tornado", "04:00:00", 2],
            [start, "Wind", "04:00:00", 1],
            [start, "Hail", "1.00:00:00", 3],
            [start, "Tornado", "1.00:00:00", 2],
            [start, "Wind", "1.00:00:00", 2],
        ]),
    )
    .await;
    // States of another type.
    check(
        &funnel("Level", "[1, 2]", "['3.00:00:00']"),
        "Start:datetime Level:long Period:timespan dcount:long",
        json!([[start, 1, "3.00:00:00", 3], [start, 2, "3.00:00:00", 3]]),
    )
    .await;
    for (periods, why) in
        [("[1, 2]", "an array of timespans last"), ("1h", "an array of timespans last")]
    {
        let refused = refuse(&funnel("Kind", "['Hail']", periods)).await.to_string();
        assert!(refused.contains(why), "{periods}: {refused}");
    }
}

#[tokio::test]
async fn a_pivot_of_a_declared_schema_has_its_columns() {
    check(
        "datatable(State:string, EventType:string)['ALABAMA', 'High Wind', 'ALASKA', 'High Wind', \
         'ALABAMA', 'High Wind', 'TEXAS', 'Marine Wind']
         | evaluate pivot(State): (EventType:string, ALABAMA:long, ALASKA:long) | sort by EventType asc",
        "EventType:string ALABAMA:long ALASKA:long",
        json!([["High Wind", 2, 1], ["Marine Wind", 0, 0]]),
    )
    .await;
}

#[tokio::test]
async fn aggregates_have_older_names_too() {
    let rows = "datatable(k:string, v:long, s:string)['a', 1, 'x', 'a', 5, 'y', 'b', 3, 'z']";
    check(
        &format!("{rows} | summarize argmax(v, s), cnt() by k | sort by k asc"),
        "k:string max_v:long max_v_s:string cnt_:long",
        json!([["a", 5, "y", 2], ["b", 3, "z", 1]]),
    )
    .await;
    check(
        &format!("{rows} | summarize argmin(v, *) by k | sort by k asc"),
        "k:string min_v:long min_v_s:string",
        json!([["a", 1, "x"], ["b", 3, "z"]]),
    )
    .await;
    check(
        &format!("{rows} | summarize (low, what) = argmin(v, s)"),
        "low:long what:string",
        json!([[1, "x"]]),
    )
    .await;
    check(
        "range x from 1 to 100 step 1 | summarize variancepif(x, x % 2 == 0)",
        "variancepif_x:real",
        json!([[833.0]]),
    )
    .await;
}
