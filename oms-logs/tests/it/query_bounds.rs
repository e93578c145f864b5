//! What queries may take: memory, turns, and how much they make.

use super::query::{ask, check, options, refuse, tables};
use oms_core::ErrorKind;
use oms_logs::query;
use serde_json::json;

#[tokio::test]
async fn slices_of_one_allocation_count_for_their_rows() {
    let mut options = options();
    options.memory_bytes_max = 16 * 1024 * 1024;
    options.result_bytes_max = 4 * 1024 * 1024;
    let summed = "range x from 1 to 200000 step 1 | serialize r = row_cumsum(x) | summarize max(r)";
    let report = query::run(&tables(), summed, &options).await.expect("an answer");
    assert_eq!(json!(report.rows()), json!([[20_000_100_000_i64]]));
    let all = "range x from 1 to 200000 step 1";
    let report = query::run(&tables(), all, &options).await.expect("an answer");
    assert!(!report.is_partial);
    assert_eq!(report.statistics.bytes_returned, 8 * 200_000);
}

#[tokio::test]
async fn what_scan_keeps_is_of_the_memory_of_the_query() {
    let mut options = options();
    options.memory_bytes_max = 8 * 1024 * 1024;
    let scan = |rows: usize| {
        format!(
            "range x from 1 to {rows} step 1 | scan declare (s: string) with \
             (step all: true => s = strrep('x', 1000);) | count"
        )
    };
    let report = query::run(&tables(), &scan(1_000), &options).await.expect("an answer");
    assert_eq!(json!(report.rows()), json!([[1_000]]));
    let error = query::run(&tables(), &scan(20_000), &options).await.expect_err("too much");
    assert_eq!(error.kind(), ErrorKind::LimitExceeded { retry_after: None });
}

#[tokio::test]
async fn rows_without_a_bin_are_in_no_series() {
    check(
        "datatable(k: string, t: real, v: long)['a', real(nan), 7, 'a', 0.5, 1, 'a', 1.5, 2, 'b', real(nan), 9] | make-series s = sum(v) on t step 1.0 by k",
        "k:string s:dynamic t:dynamic",
        json!([["a", [1, 2], [0.0, 1.0]]]),
    )
    .await;
    check(
        "datatable(t: real)[real(nan)] | make-series s = count() on t step 1.0",
        "s:dynamic t:dynamic",
        json!([]),
    )
    .await;
}

#[tokio::test]
async fn limits_are_named() {
    for (text, limit) in [
        ("print t = 1 | make-series count() on t from 0 to 2000000 step 1", "series_values_max"),
        ("datatable(t: long)[0, 2000000] | make-series count() on t step 1", "series_values_max"),
        (
            "range k from 1 to 20 step 1 | extend t = 1 | make-series count() on t from 0 to 1000000 step 1 by k",
            "series_total_max=`16777216`",
        ),
        (
            "range k from 1 to 10001 step 1 | partition hint.strategy=native by k (count)",
            "partitions_max=`10000`",
        ),
        (
            "range t from 1 to 4000 step 1 | extend id = t | evaluate new_activity_metrics(id, t, 1, 10000, 1)",
            "operator_rows_max=`10000000`",
        ),
    ] {
        let error = refuse(text).await;
        assert!(error.to_string().contains(limit), "{text}: {error}");
        assert!(!matches!(error.kind(), ErrorKind::Internal), "{text}: {error:?}");
    }
}

#[tokio::test]
async fn joins_that_look_for_rows_do_not_pair_them() {
    for (kind, rows) in [("leftsemi", 100_000), ("leftanti", 0), ("rightsemi", 50_000)] {
        let text = format!(
            "range x from 1 to 100000 step 1 | extend k = 1 | join kind={kind} (range y from 1 to 50000 step 1 | extend k = 1) on k | count"
        );
        assert_eq!(json!(ask(&text).await.rows()), json!([[rows]]), "{kind}");
    }
}

#[tokio::test]
async fn rolling_windows_slide() {
    check(
        "datatable(d: string, t: long, v: long)['a', 0, 5, 'a', 1, 1, 'a', 10, 9, 'a', 20, 2, 'a', 41, 7, 'b', 0, 8] | evaluate rolling_percentile(v, 50, t, 10, 2, d) | sort by d asc, t asc",
        "t:long d:string rolling_2_percentile_v_50:long",
        json!([[0, "a", 1], [10, "a", 5], [20, "a", 2], [40, "a", 7], [0, "b", 8]]),
    )
    .await;
}

#[tokio::test]
async fn a_pivot_of_no_rows_has_its_keys() {
    let empty = "datatable(k: string, p: string, v: long)[] | evaluate pivot";
    check(&format!("{empty}(p, sum(v))"), "k:string", json!([])).await;
    check("datatable(p: string)[] | evaluate pivot(p)", "", json!([])).await;
}
