//! The larger operators, statements and plugins, with answers worked out by hand.

use crate::query::{ask, check, refuse};
use serde_json::json;

#[tokio::test]
async fn text_is_parsed_into_columns() {
    let lines = "datatable(s:string)['id=7 name=ab;rest', 'id=x name=cd;', 'none']";
    check(
        &format!("{lines} | parse s with * 'id=' id:long ' name=' name ';' * | project id, name"),
        "id:long name:string",
        json!([[7, "ab"], [null, ""], [null, ""]]),
    )
    .await;
    check(
        &format!("{lines} | parse kind=relaxed s with 'id=' id:long ' name=' name ';' * | project id, name"),
        "id:long name:string",
        json!([[7, "ab"], [null, "cd"], [null, ""]]),
    )
    .await;
    check(
        &format!("{lines} | parse-where kind=regex flags=i s with 'ID=' id '[ ]+NAME=' name ';' | project id, name"),
        "id:string name:string",
        json!([["7", "ab"], ["x", "cd"]]),
    )
    .await;
    check(
        "print s = 'a=1;b=\"x;y\";a=2' | parse-kv s as (b:string, a:long, c:real)
         with (pair_delimiter=';', kv_delimiter='=', quote='\"') | project-away s",
        "b:string a:long c:real",
        json!([["x;y", 1, null]]),
    )
    .await;
}

#[tokio::test]
async fn rows_know_their_neighbours() {
    check(
        "datatable(g:string, v:long)['b', 5, 'a', 1, 'a', 1, 'a', 4] | sort by g asc, v asc
         | extend n = row_number(10), p = prev(v), q = next(v, 2, -1), new = g != prev(g)
         | extend s = row_cumsum(v, g != prev(g)), d = row_rank_dense(v), m = row_rank_min(v)
         | project-away new",
        "g:string v:long n:long p:long q:long s:long d:long m:long",
        json!([
            ["a", 1, 10, null, 4, 1, 1, 1],
            ["a", 1, 11, 1, 5, 2, 1, 1],
            ["a", 4, 12, 1, -1, 6, 2, 3],
            ["b", 5, 13, 4, -1, 5, 3, 4],
        ]),
    )
    .await;
    check(
        "datatable(m:decimal, new:bool)[decimal(0.1), false, decimal(0.2), false, decimal(null), false,
         decimal(5), true] | serialize s = row_cumsum(m, new) | project s",
        "s:decimal",
        json!([["0.1"], ["0.3"], ["0.3"], ["5"]]),
    )
    .await;
    check(
        "range x from 1 to 6 step 1 | serialize | where prev(x) % 2 == 0 | project x",
        "x:long",
        json!([[3], [5]]),
    )
    .await;
    for text in
        ["Perf | extend prev(Core)", "Perf | summarize count() by Core | extend n = row_number()"]
    {
        let error = refuse(text).await;
        assert!(error.to_string().contains("sort or serialize"), "{error}");
    }
}

#[tokio::test]
async fn scans_follow_sequences() {
    let events =
        "datatable(t:long, e:string)[1, 'x', 2, 'start', 3, 'x', 4, 'stop', 5, 'x', 6, 'start']";
    check(
        &format!(
            "{events} | sort by t asc | scan with_match_id=id declare (from:long) with (
               step a output=last: e == 'start' => from = t;
               step b: e != 'stop' => from = a.from;
               step c: e == 'stop' => from = b.from;)"
        ),
        "t:long e:string from:long id:long",
        json!([[2, "start", 2, 0], [3, "x", 2, 0], [4, "stop", 2, 0], [6, "start", 6, 1]]),
    )
    .await;
    check(
        "range x from 1 to 4 step 1 | scan declare (sum:long = 0) with (step s: true => sum = s.sum + x;)",
        "x:long sum:long",
        json!([[1, 1], [2, 3], [3, 6], [4, 10]]),
    )
    .await;
}

#[tokio::test]
async fn some_of_many() {
    let sales =
        "datatable(a:string, b:string, n:long)['x', 'p', 5, 'x', 'q', 9, 'y', 'p', 3, 'z', 'p', 1]";
    check(
        &format!("{sales} | top-nested 2 of a with others='rest' by sum(n), top-nested 1 of b by m=max(n) | sort by aggregated_a desc"),
        "a:string aggregated_a:long b:string m:long",
        json!([["x", 14, "q", 9], ["y", 3, "p", 3], ["rest", 1, "", null]]),
    )
    .await;
    check(
        &format!("{sales} | top-hitters 1 of a by n"),
        "a:string approximate_sum_n:long",
        json!([["x", 14]]),
    )
    .await;
    check(
        &format!("{sales} | partition by a (top 1 by n) | sort by n desc"),
        "a:string b:string n:long",
        json!([["x", "q", 9], ["y", "p", 3], ["z", "p", 1]]),
    )
    .await;
    check(&format!("{sales} | sample 2 | count"), "Count:long", json!([[2]])).await;
    check(&format!("{sales} | sample-distinct 9 of b | count"), "Count:long", json!([[2]])).await;
    check(
        &format!("{sales} | reduce by b | project Pattern, Count"),
        "Pattern:string Count:long",
        json!([["p", 3], ["q", 1]]),
    )
    .await;
}

#[tokio::test]
async fn series_have_a_value_for_each_bin() {
    let points =
        "datatable(t:long, v:real, k:string)[0, 1.5, 'a', 1, 2.5, 'a', 5, 4.0, 'b', 9, 8.0, 'b']";
    check(
        &format!("{points} | make-series sum(v), n=count() default=-1 on t from 0 to 6 step 2 by k | sort by k asc"),
        "k:string sum_v:dynamic n:dynamic t:dynamic",
        json!([
            ["a", [4.0, 0.0, 0.0], [2, -1, -1], [0, 2, 4]],
            ["b", [0.0, 0.0, 4.0], [-1, -1, 1], [0, 2, 4]],
        ]),
    )
    .await;
    check(
        &format!("{points} | make-series n=count() on t step 4"),
        "n:dynamic t:dynamic",
        json!([[[2, 1, 1], [0, 4, 8]]]),
    )
    .await;
    check(
        "Perf | take 0 | make-series kind=nonempty n=count() on TimeGenerated in range(datetime(2024-05-01), datetime(2024-05-02), 1d)",
        "n:dynamic TimeGenerated:dynamic",
        json!([[[0, 0], ["2024-05-01T00:00:00.0000000Z", "2024-05-02T00:00:00.0000000Z"]]]),
    )
    .await;
    assert!(refuse("Perf | make-series count() on Core step 0").await.to_string().contains("step"));
}

#[tokio::test]
async fn terms_are_found_in_any_column() {
    check(
        "search in (Syslog, Perf) 'db1' and ProcessID > 0 | project ['$table'], Computer, ProcessID",
        "$table:string Computer:string ProcessID:long",
        json!([["Syslog", "db1", 200]]),
    )
    .await;
    check(
        "datatable(a:string, b:string)['one two', 'x', 'three', 'oneself'] | search a:'one' or b:'on*'",
        "$table:string a:string b:string",
        json!([["search_arg0", "one two", "x"], ["search_arg0", "three", "oneself"]]),
    )
    .await;
    check("Syslog | where * has 'password' | count", "Count:long", json!([[1]])).await;
    check(
        "find in (Syslog) where ProcessID == 200 project ProcessID, Computer",
        "source_:string ProcessID:long Computer:string",
        json!([["Syslog", 200, "db1"]]),
    )
    .await;
}

#[tokio::test]
async fn tables_are_looked_up_and_reshaped() {
    let tables = "let L = datatable(k:long, v:string)[1, 'a', 2, 'b']; let R = datatable(k:long, v:string)[1, 'x'];";
    check(
        &format!("{tables} L | lookup R on k | sort by k asc"),
        "k:long v:string v1:string",
        json!([[1, "a", "x"], [2, "b", ""]]),
    )
    .await;
    check(
        &format!("{tables} L | lookup kind=inner R on $left.k == $right.k"),
        "k:long v:string v1:string",
        json!([[1, "a", "x"]]),
    )
    .await;
    check(
        &format!("{tables} union isfuzzy=true withsource=s (L | as One), Missing | count"),
        "Count:long",
        json!([[2]]),
    )
    .await;
    check(
        "datatable(a2:long, b:bool, a10:long)[] | project-reorder a* granny-desc | getschema | project ColumnName, ColumnType",
        "ColumnName:string ColumnType:string",
        json!([["a10", "long"], ["a2", "long"], ["b", "bool"]]),
    )
    .await;
    check(
        "print a = 1, b = 2, c = 3 | project-by-names dynamic(['c', 'none']), 'a'",
        "c:long a:long",
        json!([[3, 1]]),
    )
    .await;
}

#[tokio::test]
async fn queries_define_functions() {
    check(
        "let add = (a:long, b:long = 10) { let c = a + b; c };
         let many = (T:(x:long), n:long) { T | where x > n | extend y = add(x), z = add(b = 1, a = x) };
         range x from 1 to 3 step 1 | invoke many(1)",
        "x:long y:long z:long",
        json!([[2, 12, 3], [3, 13, 4]]),
    )
    .await;
    check(
        "let V = view () { print n = 5 }; let most = toscalar(range x from 1 to 9 step 1 | summarize max(x));
         union V, (print n = most) | where n in (range x from 5 to 6 step 1)",
        "n:long",
        json!([[5]]),
    )
    .await;
    check(
        "declare pattern app = (name:string)[part:string] { ('a').['b'] = { print found = name }; }; app('a').b",
        "found:string",
        json!([["a"]]),
    )
    .await;
    for (text, what) in [
        ("let f = (a:long) { a }; print f()", "needs its argument"),
        ("let f = (a:long) { a }; print f('x')", "`a` is a long"),
        ("restrict access to (Perf); Syslog | count", "restricted"),
        ("declare query_parameters (n:long); print n", "has no value"),
    ] {
        assert!(refuse(text).await.to_string().contains(what), "{text}");
    }
}

#[tokio::test]
async fn several_tables_are_one_answer() {
    let report = ask("print 1; print 2").await;
    assert_eq!(
        (report.rows(), report.others[0].rows()),
        (vec![vec![json!(1)]], vec![vec![json!(2)]])
    );
    let report =
        ask("range x from 1 to 4 step 1 | fork (count) small=(where x < 2 | project x)").await;
    assert_eq!(report.rows(), [[json!(4)]]);
    assert_eq!(report.others[0].name, "small");
    assert_eq!(report.others[0].rows(), [[json!(1)]]);
    let report = ask("datatable(a:string)['x', 'x', 'y'] | facet by a with (take 1)").await;
    assert_eq!(report.columns[1].name, "count_a");
    assert_eq!(report.rows().len(), 2);
    assert_eq!(report.others[0].rows().len(), 1);
}

#[tokio::test]
async fn plugins_make_tables() {
    check(
        "datatable(k:string, p:string, v:long)['a', 'x', 1, 'a', 'y', 2, 'b', 'x', 3] | evaluate pivot(p, sum(v)) | sort by k asc",
        "k:string x:long y:long",
        json!([["a", 1, 2], ["b", 3, 0]]),
    )
    .await;
    check(
        "print a = 1, b = 'x' | evaluate narrow()",
        "Row:long Column:string Value:string",
        json!([[0, "a", "1"], [0, "b", "x"]]),
    )
    .await;
    check(
        "range x from 1 to 9 step 1 | evaluate rows_near(x == 5, 1)",
        "x:long",
        json!([[4], [5], [6]]),
    )
    .await;
    check(
        "datatable(ip:string)['10.1.2.3', '11.0.0.1'] | evaluate ipv4_lookup((datatable(net:string, n:long)['10.1.0.0/16', 5]), ip, net, return_unmatched = true) | sort by ip asc",
        "ip:string net:string n:long",
        json!([["10.1.2.3", "10.1.0.0/16", 5], ["11.0.0.1", "", null]]),
    )
    .await;
    check(
        "datatable(id:string, t:long)['a', 0, 'b', 1, 'a', 11] | evaluate activity_counts_metrics(id, t, 0, 19, 10)",
        "t:long count:long dcount:long new_dcount:long aggregated_dcount:long",
        json!([[0, 2, 2, 2, 2], [10, 1, 1, 0, 2]]),
    )
    .await;
    assert!(refuse("Perf | evaluate pivott(Core)").await.to_string().contains("pivot"));
}

#[tokio::test]
async fn partitions_begin_with_tables_of_their_own() {
    check(
        "range x from 1 to 2 step 1 | partition hint.strategy=legacy by x { range y from 1 to 3 step 1 | where y <= toscalar(x) | extend k = toscalar(x) } | sort by k asc, y asc",
        "y:long k:long",
        json!([[1, 1], [1, 2], [2, 2]]),
    )
    .await;
    check(
        "range x from 1 to 2 step 1 | where x > 2 | partition by x { print k = toscalar(x) }",
        "k:long",
        json!([]),
    )
    .await;
    let many = "range x from 1 to 65 step 1 | partition by x { print toscalar(x) }";
    assert!(refuse(many).await.to_string().contains("partition_tables_max=`64`"));
    assert!(refuse("print x = 1 | partition by x { print x").await.to_string().contains('}'));
    // Outside of the braces the name is a column's only.
    assert!(
        refuse("print x = 1 | partition by x { print y = 2 } | extend x")
            .await
            .to_string()
            .contains("`x`")
    );
}

#[tokio::test]
async fn graphs_are_matched() {
    let graph = "let N = datatable(n:string, age:long)['a', 1, 'b', 2, 'c', 3];
         datatable(f:string, t:string, w:long)['a', 'b', 10, 'b', 'c', 20, 'c', 'd', 30]
         | make-graph f --> t with N on n";
    check(
        &format!("{graph} | graph-match (x)-[e]->(y) where x.age == 1 and e.w > 5 project x.n, to = y.n, w = e.w"),
        "x_n:string to:string w:long",
        json!([["a", "b", 10]]),
    )
    .await;
    check(
        &format!("{graph} | graph-match (x)-[e*2..3]->(y) where x.n == 'a' and all(e, w < 25) project last = y.n, ws = map(e, w), between = map(inner_nodes(e), n)"),
        "last:string ws:dynamic between:dynamic",
        json!([["c", [10, 20], ["b"]]]),
    )
    .await;
    check(
        &format!("{graph} | graph-match (x)<--(y) where node_degree_in(x) == 1 and isnull(x.age) project y.n"),
        "y_n:string",
        json!([["c"]]),
    )
    .await;
    check(
        &format!("{graph} | graph-mark-components with_component_id=c | graph-to-table nodes | summarize count(), max(c)"),
        "count_:long max_c:long",
        json!([[4, 0]]),
    )
    .await;
    check(
        &format!("{graph} | graph-shortest-paths (x)-[e*1..5]->(y) where x.n == 'a' and y.n == 'c' project hops = array_length(map(e, w))"),
        "hops:long",
        json!([[2]]),
    )
    .await;
    assert!(refuse(graph).await.to_string().contains("no answer"));
}

#[tokio::test]
async fn each_partition_is_a_graph() {
    let graph = "let N = datatable(id:long, p:string, n:string)
             [1, 'a', 'A1', 2, 'a', 'A2', 1, 'b', 'B1', 2, 'b', 'B2', 3, 'b', 'B3'];
         datatable(f:long, t:long, p:string)[1, 2, 'a', 1, 2, 'b', 2, 3, 'b', 3, 4, 'b']
         | make-graph f --> t with N on id partitioned-by p (";
    check(
        &format!("{graph}graph-match (x)-[e]->(y) project x.n, y.n, e.p) | sort by x_n asc"),
        "x_n:string y_n:string e_p:string",
        json!([["A1", "A2", "a"], ["B1", "B2", "b"], ["B2", "B3", "b"], ["B3", "", "b"]]),
    )
    .await;
    // No match is of two graphs, whether its chains have a node in common or not.
    check(
        &format!("{graph}graph-match (x)-[e]->(y), (u)-[g]->(w) where e.t == 2 and g.t == 2)"),
        "x_id:long x_p:string x_n:string y_id:long y_p:string y_n:string \
         u_id:long u_p:string u_n:string w_id:long w_p:string w_n:string \
         e_f:long e_t:long e_p:string g_f:long g_t:long g_p:string",
        json!([]),
    )
    .await;
    // Components are counted in each graph.
    check(
        &format!("{graph}graph-mark-components | graph-to-table nodes) | summarize max(ComponentId) by p | sort by p asc"),
        "p:string max_ComponentId:long",
        json!([["", 0], ["a", 0], ["b", 0]]),
    )
    .await;
    check(
        "datatable(f:long, t:long, p:long)[1, 2, 7, 1, 2, 8, 2, 3, 8]
         | make-graph f --> t with_node_id=k partitioned-by p (graph-to-table nodes)
         | summarize count() by k | sort by k asc",
        "k:long count_:long",
        json!([[1, 2], [2, 2], [3, 1]]),
    )
    .await;
    // What is of a node is shown, whatever it is called.
    check(
        "let N = datatable(k:long, ['$id']:long, ['$partition']:string)[1, 7, 'x', 2, 8, 'y'];
         datatable(f:long, t:long)[1, 2] | make-graph f --> t with N on k
         | graph-match (a)-->(b), (c) where c.k == 1 project a.['$id'], p = b.['$partition'], c.k",
        "a_$id:long p:string c_k:long",
        json!([[7, "y", 1]]),
    )
    .await;
    let unknown = "datatable(f:long, t:long)[1, 2] | make-graph f --> t partitioned-by q (graph-to-table nodes)";
    assert!(refuse(unknown).await.to_string().contains("no column `q`"));
    let more = format!("{graph}graph-to-table nodes | take 1)");
    assert!(refuse(&more).await.to_string().contains("within partitioned-by"));
}
