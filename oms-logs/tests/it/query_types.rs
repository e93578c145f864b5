//! What types operators take, and what the columns that nobody names are called and are.

use crate::query::{check, refuse};
use serde_json::json;

const BAGS: &str = "datatable(k:long, d:dynamic)[
    1, dynamic({'a': 1, 'b': 2.5, 'f': true, 'w': 'x'}), 2, dynamic({'a': 7, 'f': false}), 3, dynamic({})]";

#[tokio::test]
async fn a_dynamic_value_counts_as_what_it_stands_beside() {
    check(
        &format!(
            "{BAGS} | project k, x = d.a + 1, y = d.b * 2, z = 2.0 * d.a, m = d.a % 2, t = 1h - d.a, w = d.w + 1
             | sort by k asc | take 2"
        ),
        "k:long x:long y:long z:real m:long t:timespan w:long",
        json!([
            [1, 2, 4, 2.0, 1, "00:59:59.9999999", null],
            [2, 8, null, 14.0, 1, "00:59:59.9999993", null],
        ]),
    )
    .await;
    check(
        &format!(
            "{BAGS} | project k, between_ = d.a between (1 .. 5), i = iff(d.f, 'yes', 'no') | sort by k asc"
        ),
        "k:long between_:bool i:string",
        json!([[1, true, "yes"], [2, false, "no"], [3, null, "no"]]),
    )
    .await;
    check(
        &format!("{BAGS} | where d.f and d.a > 0 or d.a == 7 | project k | sort by k asc"),
        "k:long",
        json!([[1], [2]]),
    )
    .await;
    check(
        &format!(
            "{BAGS} | project k, s = d.a + d.b, p = d.a * d.a, q = d.a / 0 + d.a, n = -d.b, w = d.a - d.w
             | sort by k asc | take 1"
        ),
        "k:long s:dynamic p:dynamic q:long n:dynamic w:dynamic",
        json!([[1, 3.5, 1, null, -2.5, null]]),
    )
    .await;
    let error = refuse(&format!("{BAGS} | project d.a + 'x'")).await;
    assert!(error.to_string().contains("not defined for dynamic and string"), "{error}");
}

#[tokio::test]
async fn what_a_time_leaves_of_a_step() {
    check(
        "print a = datetime(2020-01-01 10:30) % 1h, b = datetime(2020-01-01 10:30) % 1d",
        "a:timespan b:timespan",
        json!([["00:30:00", "10:30:00"]]),
    )
    .await;
}

#[tokio::test]
async fn columns_of_aggregates_without_a_name() {
    let rows = "datatable(g:string, v:long)['a', 1, 'b', 2]";
    check(
        &format!("{rows} | summarize arg_max(v + 1, *)"),
        "max_:long g:string v:long",
        json!([[3, "b", 2]]),
    )
    .await;
    check(
        &format!("{rows} | summarize arg_min(v, strcat(g, '!'), g, v * 10)"),
        "v:long min_v_arg1:string g:string min_v_arg3:long",
        json!([[1, "a!", "a", 10]]),
    )
    .await;
    check(
        &format!("{rows} | summarize arg_max(v, y = g, z = strcat(g, '!'))"),
        "v:long y:string z:string",
        json!([[2, "b", "b!"]]),
    )
    .await;
    check(
        &format!("{rows} | where v == 1 | summarize take_any(strcat(g, '!'), v)"),
        "any_arg0:string v:long",
        json!([["a!", 1]]),
    )
    .await;
    check(
        &format!(
            "{rows} | where v == 1 | summarize take_any(v + 1), anyif(g, v > 0), binary_all_or(v)"
        ),
        "any_arg0:long anyif_g:string v:long",
        json!([[2, "a", 1]]),
    )
    .await;
}

#[tokio::test]
async fn percentiles_of_decimals_are_reals() {
    check(
        "datatable(d:decimal)[decimal(1), decimal(3.5), decimal(2)]
         | summarize percentile(d, 50), percentiles(d, 0, 100)",
        "percentile_d_50:real percentile_d_0:real percentile_d_100:real",
        json!([[2.0, 1.0, 3.5]]),
    )
    .await;
}

#[tokio::test]
async fn the_first_none_are_none() {
    let rows = "range x from 1 to 3 step 1 | extend k = 1";
    for operators in ["top 0 by x", "sort by x asc | take 0", "partition by k (top 0 by x)"] {
        check(&format!("{rows} | {operators}"), "x:long k:long", json!([])).await;
    }
    check(&format!("{rows} | top-hitters 0 of x"), "x:long approximate_count_x:long", json!([]))
        .await;
}
