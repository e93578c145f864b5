//! Operators over the rows of each part by themselves: `mv-apply`, `partition`, `partitioned-by`.

use crate::query::{ask, check, refuse};
use oms_core::ErrorKind;
use serde_json::json;

const ROWS: &str = "datatable(k:string, a:dynamic)
    ['x', dynamic([1, 3, 2]), 'y', dynamic([5, 9, 7, 8]), 'z', dynamic([])]";

#[tokio::test]
async fn window_functions_begin_again_with_each_row() {
    check(
        &format!(
            "{ROWS} | mv-apply v = a to typeof(long) on (
                 extend r = row_number(), p = prev(v, 1, 0), s = row_cumsum(v) | project v, r, p, s)
             | project-away a | sort by k asc, r asc"
        ),
        "k:string v:long r:long p:long s:long",
        json!([
            ["x", 1, 1, 0, 1],
            ["x", 3, 2, 1, 4],
            ["x", 2, 3, 3, 6],
            ["y", 5, 1, 0, 5],
            ["y", 9, 2, 5, 14],
            ["y", 7, 3, 9, 21],
            ["y", 8, 4, 7, 29],
        ]),
    )
    .await;
    // By the order that the operators make.
    check(
        &format!(
            "{ROWS} | mv-apply v = a to typeof(long) on (
                 sort by v desc | extend gap = prev(v) - v | summarize gaps = make_list(gap))
             | project k, gaps | sort by k asc"
        ),
        "k:string gaps:dynamic",
        json!([["x", [1, 1]], ["y", [1, 1, 2]], ["z", []]]),
    )
    .await;
}

#[tokio::test]
async fn any_operator_can_stand_within_mv_apply() {
    for (operators, columns, expect) in [
        (
            "where v > 2 | serialize n = row_number() | count",
            "k:string Count:long",
            json!([["x", 1], ["y", 4], ["z", 0]]),
        ),
        (
            "top-nested 1 of v by m = max(v) desc | project v",
            "k:string v:long",
            json!([["x", 3], ["y", 9]]),
        ),
        (
            "extend t = strcat('n=', v) | parse t with 'n=' n:long | summarize n = sum(n)",
            "k:string n:long",
            json!([["x", 6], ["y", 29], ["z", 0]]),
        ),
        (
            "make-series c = count() default=0 on v from 1 to 4 step 1 | project c",
            "k:string c:dynamic",
            json!([["x", [1, 1, 1]]]),
        ),
        (
            "sort by v asc | scan declare (n:long = 0) with (step s: true => n = s.n + v;) | summarize n = max(n)",
            "k:string n:long",
            json!([["x", 6], ["y", 29], ["z", null]]),
        ),
        (
            "union (print v = 100) | summarize n = max(v)",
            "k:string n:long",
            json!([["x", 100], ["y", 100], ["z", 100]]),
        ),
        (
            "partition hint.strategy=native by v (extend w = v * 2) | summarize n = sum(w)",
            "k:string n:long",
            json!([["x", 12], ["y", 58], ["z", 0]]),
        ),
        (
            "summarize n = count() by odd = v % 2 == 1 | evaluate narrow() | summarize n = dcount(Column)",
            "k:string n:long",
            json!([["x", 2], ["y", 2], ["z", 0]]),
        ),
    ] {
        let query = format!(
            "{ROWS} | mv-apply v = a to typeof(long) on ({operators}) | project-away a | sort by k asc"
        );
        check(&query, columns, expect).await;
    }
}

#[tokio::test]
async fn parts_of_parts() {
    check(
        "datatable(k:string, a:dynamic)['x', dynamic([[1, 2], [4]]), 'y', dynamic([[8, 16]])]
         | mv-apply r = a on (
             mv-apply v = r to typeof(long) on (extend s = row_cumsum(v) | summarize s = max(s))
             | serialize n = row_number() | summarize l = make_list(s * 100 + n))
         | project k, l | sort by k asc",
        "k:string l:dynamic",
        json!([["x", [301, 402]], ["y", [2401]]]),
    )
    .await;
    check(
        &format!(
            "{ROWS} | partition hint.strategy=native by k (
                 mv-apply v = a to typeof(long) on (extend r = row_number() | where r == 2)
                 | project k, v)
             | sort by k asc"
        ),
        "k:string v:long",
        json!([["x", 3], ["y", 9]]),
    )
    .await;
}

#[tokio::test]
async fn what_cannot_be_known_of_a_part_is_refused() {
    let of_own = format!(
        "{ROWS} | mv-apply v = a to typeof(long) on (as T | where v == toscalar(T | summarize max(v)))"
    );
    let error = refuse(&of_own).await;
    assert!(error.to_string().contains("own rows within mv-apply"), "{error}");
    assert!(matches!(error.kind(), ErrorKind::Unsupported), "{error:?}");
}

#[tokio::test]
async fn operators_follow_the_matches_of_each_graph() {
    let graph = "datatable(f:long, t:long, p:string)[1, 2, 'a', 1, 2, 'b', 2, 3, 'b', 3, 4, 'b']
         | make-graph f --> t with_node_id=k partitioned-by p (graph-match (x)-[e]->(y) project x.k, y.k, p = e.p";
    check(
        &format!("{graph} | top 1 by x_k desc) | sort by p asc"),
        "x_k:long y_k:long p:string",
        json!([[1, 2, "a"], [3, 4, "b"]]),
    )
    .await;
    check(
        &format!("{graph} | summarize n = count(), furthest = max(y_k)) | sort by n asc"),
        "n:long furthest:long",
        json!([[1, 2], [3, 4]]),
    )
    .await;
    check(
        &format!("{graph} | extend r = row_number(1) | where r == 1) | count"),
        "Count:long",
        json!([[2]]),
    )
    .await;
}

#[tokio::test]
async fn many_branches_are_no_long_pipeline() {
    let branch = |n: usize| format!("(print x = {n} | extend y = x | where y >= 0 | project y)");
    let branches: Vec<String> = (0..150).map(branch).collect();
    let query = format!("union {} | summarize sum(y)", branches.join(", "));
    assert_eq!(json!(ask(&query).await.rows()), json!([[150 * 149 / 2]]));
    let branches: Vec<String> = (0..700).map(branch).collect();
    let error = refuse(&format!("union {} | count", branches.join(", "))).await;
    assert!(error.to_string().contains("more than 1000 operators"), "{error}");
    let long = format!("print x = 1{}", " | where x > 0".repeat(101));
    let error = refuse(&long).await;
    assert!(error.to_string().contains("more than 100 operators"), "{error}");
    let joined = (0..6).fold(String::from("print x = 1"), |query, _| {
        format!("union ({query}{})", " | where x > 0".repeat(40))
    });
    let error = refuse(&joined).await;
    assert!(error.to_string().contains("one after the other"), "{error}");
}

#[tokio::test]
async fn each_of_fifty_parts_has_a_value_of_its_own() {
    check(
        "range x from 1 to 500 step 1 | extend k = x % 50
         | partition by k (as Part | where x == toscalar(Part | summarize max(x)) | extend y = x * 2)
         | summarize count(), sum(y)",
        "count_:long sum_y:long",
        json!([[50, 47_550]]),
    )
    .await;
}
