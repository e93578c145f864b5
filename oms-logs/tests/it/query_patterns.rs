//! Plugins that find what many rows have in common.

use crate::query::{check, refuse};
use serde_json::json;

/// Of 100 requests: 60 from `a` answer 200, 25 from `b` answer 500 of which 20 are of version 2, and the
/// rest is of all kinds.
const REQUESTS: &str = "let T = range i from 0 to 99 step 1
    | extend host = case(i < 60, 'a', i < 85, 'b', strcat('h', i)),
             code = case(i < 60, 200, i < 85, 500, 200 + i % 3),
             version = case(i < 60, i % 2, i < 80, 2, i)
    | project host, code, version; ";

#[tokio::test]
async fn frequent_patterns_are_found_with_what_follows_from_them() {
    check(
        &format!("{REQUESTS} T | evaluate basket(0.2)"),
        "SegmentId:long Count:long Percent:real host:string code:long version:long",
        json!([
            [0, 60, 60.0, "a", 200, null],
            [1, 30, 30.0, "a", 200, 0],
            [2, 30, 30.0, "a", 200, 1],
            [3, 65, 65.0, "", 200, null],
            [4, 20, 20.0, "b", 500, 2],
            [5, 25, 25.0, "b", 500, null],
        ]),
    )
    .await;
    // Rows that stand for several, and what stands for any value.
    check(
        &format!(
            "{REQUESTS} T | summarize n = count() by host, code, version
             | evaluate basket(0.5, n, 1, '*', long(-1))"
        ),
        "SegmentId:long Count:long Percent:real host:string code:long version:long",
        json!([[0, 60, 60.0, "a", 200, -1], [1, 65, 65.0, "*", 200, -1]]),
    )
    .await;
    for (wrong, why) in [
        ("basket(0.01)", "threshold from 0.015 to 1"),
        ("basket('x')", "constant number"),
        ("basket('~', host)", "weights that are numbers"),
        ("basket('~', '~', 0)", "count from 1 to 1000"),
        ("basket('~', '~', '~', 'x', 'y')", "one constant for each type"),
        ("autocluster(1.0)", "between 0 and 1"),
        ("autocluster(real(nan))", "between 0 and 1"),
        ("diffpatterns(code, 200)", "lacks an argument"),
        ("diffpatterns(none, 1, 2)", "no column `none`"),
    ] {
        let refused = refuse(&format!("{REQUESTS} T | evaluate {wrong}")).await.to_string();
        assert!(refused.contains(why), "{wrong}: {refused}");
    }
}

#[tokio::test]
async fn rows_are_reduced_to_clusters() {
    check(
        &format!("{REQUESTS} T | evaluate autocluster()"),
        "SegmentId:long Count:long Percent:real host:string code:long version:long",
        json!([[0, 60, 60.0, "a", 200, null], [1, 20, 20.0, "b", 500, 2]]),
    )
    .await;
    let none = format!("{REQUESTS} T | where host == '' | evaluate autocluster()");
    check(
        &none,
        "SegmentId:long Count:long Percent:real host:string code:long version:long",
        json!([]),
    )
    .await;
}

#[tokio::test]
async fn patterns_tell_two_sets_apart() {
    check(
        &format!("{REQUESTS} T | evaluate diffpatterns(code, 200, 500)"),
        "SegmentId:long CountA:long CountB:long PercentA:real PercentB:real PercentDiffAB:real \
         host:string version:long",
        json!(
            [[0, 0, 25, 0.0, 100.0, 100.0, "b", null], [1, 60, 0, 92.31, 0.0, 92.31, "a", null],]
        ),
    )
    .await;
}

#[tokio::test]
async fn sets_are_told_by_values_of_any_type() {
    let columns = "SegmentId:long CountA:long CountB:long PercentA:real PercentB:real \
                   PercentDiffAB:real h:string v:long";
    // Rows of neither set, and of no weight, say nothing.
    for (kind, a, b, c) in [
        ("bool", "true", "false", "bool(null)"),
        ("real", "1", "2", "3"),
        ("long", "1", "2", "3"),
        ("string", "'1'", "'2'", "'3'"),
    ] {
        check(
            &format!(
                "datatable(s:{kind}, h:string, v:long)[{a},'a',1, {b},'b',9, {c},'a',2]
                 | evaluate diffpatterns(s, {a}, {b})"
            ),
            columns,
            json!([[0, 1, 0, 100.0, 0.0, 100.0, "a", 1], [1, 0, 1, 0.0, 100.0, 100.0, "b", 9],]),
        )
        .await;
    }
    check(
        "datatable(h:string, v:long, n:long)['a',1,60, 'a',2,0] | evaluate basket(0.5, n)",
        "SegmentId:long Count:long Percent:real h:string v:long",
        json!([[0, 60, 100.0, "a", 1]]),
    )
    .await;
    // Names that are ours elsewhere.
    check(
        "print ['$weight'] = 'x', weight = 2, set0 = 'y' | evaluate basket('~', weight)",
        "SegmentId:long Count:long Percent:real $weight:string set0:string",
        json!([[0, 2, 100.0, "x", "y"]]),
    )
    .await;
}
