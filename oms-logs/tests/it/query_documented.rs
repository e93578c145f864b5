//! What the documentation shows of tabular operators, graphs and statements.

use crate::query::{ask, check, refuse};
use serde_json::json;

/// Two tables as those of the page of `find`.
const EVENTS: &str = "
    let E1 = view () { datatable(Session:string, Level:string, Text:string, Version:string)[
        'a', 'Information', 't1', 'v1', 'a', 'Error', 't2', 'v1', 'b', 'Error', 't3', 'v2'] };
    let E2 = view () { datatable(Session:string, Level:string, Text:string, Name:string)[
        'f', 'Information', 'o1', 'n1', 'a', 'Information', 'o2', 'n2', 'a', 'Error', 'o3', 'n3'] };";

#[tokio::test]
async fn find_packs_what_a_table_has_by_itself() {
    check(
        &format!(
            "{EVENTS} find in (E1, E2) where Session == 'a' and Level == 'Error'
                  project Text, Version, Name, pack_all()"
        ),
        "source_:string Text:string Version:string Name:string pack_:dynamic",
        json!([
            ["E1", "t2", "v1", "", {"Session": "a", "Level": "Error"}],
            ["E2", "o3", "", "n3", {"Session": "a", "Level": "Error"}],
        ]),
    )
    .await;
    check(
        &format!("{EVENTS} find in (E1, E2) where Session == 'a' and Level == 'Error'"),
        "source_:string Session:string Level:string Text:string pack_:dynamic",
        json!([
            ["E1", "a", "Error", "t2", {"Version": "v1"}],
            ["E2", "a", "Error", "o3", {"Name": "n3"}],
        ]),
    )
    .await;
    check(
        &format!(
            "{EVENTS} find in (E1, E2) where Version == 'v2' or Name == 'n1'
                  project pack_all()"
        ),
        "source_:string pack_:dynamic",
        json!([
            ["E1", {"Session": "b", "Level": "Error", "Text": "t3", "Version": "v2"}],
            ["E2", {"Session": "f", "Level": "Information", "Text": "o1", "Name": "n1"}],
        ]),
    )
    .await;
}

#[tokio::test]
async fn find_leaves_out_tables_that_a_condition_says_nothing_of() {
    let tables = "let A = view () { datatable(k:string, v:long)['x', 1] };
                  let B = view () { datatable(k:long)[1] };
                  let C = view () { datatable(other:long)[1] };";
    // No text equals a number, and the last table has no such column.
    check(
        &format!("{tables} find in (A, B, C) where k == 1"),
        "source_:string k:long",
        json!([["B", 1]]),
    )
    .await;
    check(
        &format!("{tables} find in (A, B, C) where v == 1"),
        "source_:string k:string v:long",
        json!([["A", "x", 1]]),
    )
    .await;
    let error = refuse(&format!("{tables} find in (A, B) where no_such_function(k)")).await;
    assert!(error.to_string().contains("no_such_function"), "{error}");
}

#[tokio::test]
async fn views_are_sources_by_their_names() {
    let views = "let V1 = view () { print x = 1 }; let V2 = view () { print x = toint(2) };
                 let V3 = view () { print x_long = 3 };";
    // The column that has the name by itself keeps it.
    check(
        &format!("{views} union withsource=Table V1, V2, V3"),
        "Table:string x_long1:long x_int:int x_long:long",
        json!([["V1", 1, null, null], ["V2", null, 2, null], ["V3", null, null, 3]]),
    )
    .await;
    check(
        &format!("{views} search in (V1, V3) * == 3"),
        "$table:string x:long x_long:long",
        json!([["V3", null, 3]]),
    )
    .await;
    check(
        &format!("{views} union isfuzzy=true (V1 | where x > 0), (NoTable | where x > 0) | count"),
        "Count:long",
        json!([[1]]),
    )
    .await;
    for wrong in [
        "union isfuzzy=true (V1 | where y > 0), V2",
        "union isfuzzy=true (NoTable | where x > 0)",
        "union (V1 | where x > 0), (NoTable | where x > 0)",
    ] {
        let error = refuse(&format!("{views} {wrong}")).await;
        assert!(error.to_string().contains("semantic"), "{wrong}: {error}");
    }
}

#[tokio::test]
async fn a_part_has_a_name_within_itself() {
    let rows = "datatable(d:string, m:long)['a', 1, 'a', 3, 'b', 5, '', 7]";
    check(
        &format!(
            "{rows} | partition by d (
                 as Part | extend share = m * 100.0 / toscalar(Part | summarize sum(m)))"
        ),
        "d:string m:long share:real",
        json!([["", 7, 100.0], ["a", 1, 25.0], ["a", 3, 75.0], ["b", 5, 100.0]]),
    )
    .await;
    check(
        "datatable(d:int, m:long)[] | partition by d (as P | where m < toscalar(P | count))",
        "d:int m:long",
        json!([]),
    )
    .await;
    check(
        "range x from 1 to 64 step 1 | partition by x (count) | count",
        "Count:long",
        json!([[64]]),
    )
    .await;
    check(
        "range x from 1 to 65 step 1 | partition hint.strategy=shuffle by x (count) | count",
        "Count:long",
        json!([[65]]),
    )
    .await;
    let error = refuse("range x from 1 to 65 step 1 | partition by x (count)").await;
    assert!(error.to_string().contains("partitions_max=`64`"), "{error}");
    let error =
        refuse("range x from 1 to 2 step 1 | partition hint.strategy=nativ by x (count)").await;
    assert!(error.to_string().contains("strategy"), "{error}");
}

#[tokio::test]
async fn a_function_of_nothing_is_called_by_its_name() {
    check(
        "let a = () { 123 }; print x = 2 | extend y = x * a, z = x * a()",
        "x:long y:long z:long",
        json!([[2, 246, 246]]),
    )
    .await;
    let error = refuse("let f = (n:long) { n }; print x = f").await;
    assert!(error.to_string().contains("argument `n`"), "{error}");
}

#[tokio::test]
async fn others_of_a_level_hold_what_the_levels_before_dropped() {
    let rows = "datatable(s:string, k:string, e:string, v:long)[
        'a','x','p',1, 'a','y','q',5, 'b','x','p',3, 'b','x','q',4, 'c','z','r',2]";
    check(
        &format!(
            "{rows} | top-nested 2 of s with others='OS' by sum(v), top-nested 1 of k by sum(v),
             top-nested 1 of e with others='OE' by sum(v)
             | sort by s asc, k asc, aggregated_e asc"
        ),
        "s:string aggregated_s:long k:string aggregated_k:long e:string aggregated_e:long",
        json!([
            ["OS", 2, "", null, "OE", 2],
            ["a", 6, "", null, "OE", 1],
            ["a", 6, "y", 5, "q", 5],
            ["b", 7, "x", 7, "OE", 3],
            ["b", 7, "x", 7, "q", 4],
        ]),
    )
    .await;
    check(
        &format!(
            "{rows} | top-nested 1 of s with others='OS' by n=count(),
             top-nested 1 of k with others='OK' by max(v) | sort by s asc, k asc"
        ),
        "s:string n:long k:string aggregated_k:long",
        json!([["OS", 3, "OK", 4], ["a", 2, "OK", 1], ["a", 2, "y", 5]]),
    )
    .await;
}

#[tokio::test]
async fn what_is_no_number_sorts_next_to_null() {
    let rows = "datatable(s:string, n:real)['2', 2, 'null', real(null), 'nan', real(nan),
        '+inf', real(+inf), '-inf', real(-inf)]";
    for (order, expect) in [
        ("sort by n asc", ["null", "nan", "-inf", "2", "+inf"]),
        ("sort by n desc", ["+inf", "2", "-inf", "nan", "null"]),
        ("sort by n asc nulls last", ["-inf", "2", "+inf", "nan", "null"]),
        ("sort by n desc nulls first", ["null", "nan", "+inf", "2", "-inf"]),
        // The processor's own quotient of zeros has the other sign.
        ("extend n = iff(isnan(n), -n, n) | sort by n desc", ["+inf", "2", "-inf", "nan", "null"]),
        ("top 5 by n desc", ["+inf", "2", "-inf", "nan", "null"]),
    ] {
        let expect: Vec<_> = expect.iter().map(|name| json!([name])).collect();
        check(&format!("{rows} | {order} | project s"), "s:string", json!(expect)).await;
    }
    check(
        &format!("{rows} | top-nested 3 of s by x = max(n) | project s"),
        "s:string",
        json!([["+inf"], ["2"], ["-inf"]]),
    )
    .await;
}

#[tokio::test]
async fn graphs_have_names() {
    let edges = "let e = datatable(s:string, t:string)['a', 'b', 'b', 'c'];
                 let n = datatable(name:string, k:long)['a', 1];";
    check(
        &format!(
            "{edges} let g = e | make-graph s --> t with_node_id=id;
             let marked = () {{ g | graph-mark-components }};
             marked | graph-match (x)-->(y) project x.id, y.id, x.ComponentId"
        ),
        "x_id:string y_id:string x_ComponentId:long",
        json!([["a", "b", 0], ["b", "c", 0]]),
    )
    .await;
    // A node that only edges name has its id, and is null otherwise.
    check(
        &format!(
            "{edges} let g = (kind:string) {{ e | make-graph s --> t with n on name }};
             g('x') | graph-match (x)-->(y) project x.name, y.name, x.k, none = labels(x)"
        ),
        "x_name:string y_name:string x_k:long none:dynamic",
        json!([["a", "b", 1, []], ["b", "c", null, []]]),
    )
    .await;
    // Ids are long where the edges' are, though the table of nodes has ints.
    check(
        "datatable(s:long, t:long)[1, 2] | make-graph s --> t with (datatable(i:int)[1]) on i
         | graph-to-table nodes | sort by i asc",
        "i:int",
        json!([[1], [2]]),
    )
    .await;
    check(
        &format!(
            "{edges} e | make-graph s --> t | graph-to-table edges with_source_id=from
                  | project-away from | take 1"
        ),
        "s:string t:string",
        json!([["a", "b"]]),
    )
    .await;
    for (wrong, says) in [
        ("let g = e | make-graph s --> t; g", "a graph is no answer"),
        ("let g = e | make-graph s --> t; g | count", "a graph is followed by"),
        ("let g = e | make-graph s --> t; union g, e", "a graph is no table"),
        ("let g = e | make-graph s --> t; print toscalar(g)", "not a graph"),
        ("let g = e | make-graph s --> t; print x = g", "is a graph"),
        ("e | graph-to-table nodes", "takes a graph"),
    ] {
        let error = refuse(&format!("{edges} {wrong}")).await;
        assert!(error.to_string().contains(says), "{wrong}: {error}");
    }
}

#[tokio::test]
async fn the_ids_of_a_graph_stand_first() {
    let report = ask("datatable(s:string, t:string)['a', 'b'] | make-graph s --> t
         | graph-to-table edges with_source_id=from with_target_id=to, nodes with_node_id=id")
    .await;
    let others = report.others.iter().map(|table| &table.columns);
    let names: Vec<Vec<&str>> = std::iter::once(&report.columns)
        .chain(others)
        .map(|columns| columns.iter().map(|column| column.name.as_str()).collect())
        .collect();
    assert_eq!(names, [vec!["from", "to", "s", "t"], vec!["id"]]);
}

#[tokio::test]
async fn properties_of_several_edges_are_an_array() {
    let graph = "datatable(who:string, boss:string)['Bob','Alice', 'Eve','Bob', 'Chris','Alice']
        | make-graph who --> boss with_node_id=name";
    check(
        &format!(
            "{graph} | graph-match (top)<-[reports*1..5]-(who) where top.name == 'Alice'
             project who = who.name, path = reports.boss | sort by who asc"
        ),
        "who:string path:dynamic",
        json!([["Bob", ["Alice"]], ["Chris", ["Alice"]], ["Eve", ["Alice", "Bob"]]]),
    )
    .await;
}

#[tokio::test]
async fn equal_decimals_are_one() {
    check(
        "datatable(a:decimal)[1.0, 1, '1.00', 2.5] | summarize n = count() by a | sort by n desc",
        "a:decimal n:long",
        json!([["1", 3], ["2.5", 1]]),
    )
    .await;
    check(
        "datatable(a:decimal)[1.5, 2, 3, decimal(null)] | where a in (decimal(1.50), 2)",
        "a:decimal",
        json!([["1.5"], ["2"]]),
    )
    .await;
    check(
        "datatable(a:decimal)[1.5, 2] | where a !in (decimal(1.50))",
        "a:decimal",
        json!([["2"]]),
    )
    .await;
    check(
        "datatable(t:long, a:decimal)[1, 1.5] | make-series sum(a) on t from 1 to 3 step 1
         | project sum_a",
        "sum_a:dynamic",
        json!([[["1.5", "0"]]]),
    )
    .await;
}

#[tokio::test]
async fn members_of_several_types_stay_dynamic() {
    check(
        "datatable(d:dynamic)[dynamic({'a':1}), dynamic({'a':2.5})] | evaluate bag_unpack(d)",
        "a:dynamic",
        json!([[1], [2.5]]),
    )
    .await;
    check("print x = series_sum(dynamic([]))", "x:real", json!([[0.0]])).await;
    check("range x from 1 to 1 step 1 | distinct hint.strategy=shuffle x", "x:long", json!([[1]]))
        .await;
}

#[tokio::test]
async fn any_value_is_one_that_is_there() {
    let rows = "datatable(a:string, b:long)['', long(null), 'x', 2]";
    check(
        &format!(
            "{rows} | summarize take_any(a), c = take_anyif(a, b > 1), take_any(b),
             d = take_anyif(b, true), e = take_anyif(a, b > 2)"
        ),
        "a:string c:string b:long d:long e:string",
        json!([["x", "x", 2, 2, ""]]),
    )
    .await;
}

#[tokio::test]
async fn digests_know_the_type_of_their_values() {
    check(
        "range x from 1 to 10 step 1 | summarize t = tdigest(x)
         | project percentiles_array_tdigest(t, range(0, 100, 50), typeof(int)),
             at = percentiles_array_tdigest(t, 50, typeof(real)), percentile_tdigest(t, 50)",
        "percentile_tdigest_t:dynamic at:real percentile_tdigest_t1:dynamic",
        json!([[[1, 5, 10], 5.0, 5]]),
    )
    .await;
    // Also when it was merged with another, and went through text.
    check(
        "range x from 1 to 3 step 1 | summarize t = tdigest(datetime(2020-01-01) + x * 1d)
         | extend t = todynamic(tostring(t)) | summarize merge_tdigest(t)
         | project at = percentile_tdigest(merge_tdigests_t, 100),
             both = percentiles_array_tdigest(merge_tdigests_t, dynamic([0, 100]))",
        "at:dynamic both:dynamic",
        json!([[
            "2020-01-04T00:00:00.0000000Z",
            ["2020-01-02T00:00:00.0000000Z", "2020-01-04T00:00:00.0000000Z"],
        ]]),
    )
    .await;
    check(
        "range x from 1 to 10 step 1 | summarize percentiles_array(x, 50), percentilesw_array(x, x, 50)",
        "percentiles_x:dynamic percentile_x:dynamic",
        json!([[[5], [7]]]),
    )
    .await;
}

#[tokio::test]
async fn scalars_as_their_pages_show_them() {
    for (call, kql_type, expect) in [
        ("base64_encode_fromarray(base64_decode_toarray('U3RyaW5n'))", "string", json!("U3RyaW5n")),
        ("base64_decode_tostring('S3VzdG8')", "string", json!("")),
        ("bag_zip(dynamic(['a', 8, 'b']), dynamic(1))", "dynamic", json!({"a": null, "b": null})),
        (
            "datetime_local_to_utc(datetime(2022-03-27 02:00), 'Europe/Brussels')",
            "datetime",
            json!("2022-03-27T00:00:00Z"),
        ),
        ("parse_command_line('a b', 'Windows')", "dynamic", json!(["a", "b"])),
        (
            "replace_strings('This is it', dynamic(['This', 'is']), dynamic([12345, 'was']))",
            "string",
            json!("This was it"),
        ),
        (
            "treepath(dynamic({'l': [100, 'x', {'y': 1}], 'm': 2}))",
            "dynamic",
            json!(["['l']", "['l'][0]", "['l'][0]['y']", "['m']"]),
        ),
        ("series_dot_product(dynamic([]), dynamic([1]))", "real", json!(null)),
        ("series_magnitude(dynamic([]))", "real", json!(0.0)),
        ("week_of_year(datetime(2015-01-08))", "long", json!(2)),
        ("weekofyear(datetime(2015-01-08))", "long", json!(1)),
        ("datetime_part('weekofyear', datetime(2015-01-08))", "long", json!(1)),
        ("datetime_part('week_of_year', datetime(2015-01-08))", "long", json!(2)),
    ] {
        check(&format!("print x = {call}"), &format!("x:{kql_type}"), json!([[expect]])).await;
    }
    let error = refuse("print base64_encode_fromguid('abcd1231')").await;
    assert!(error.to_string().contains("takes a guid"), "{error}");
    check(
        "print State = 'x' | project column_ifexists('Capital', State), column_ifexists('No', 'd')",
        "State:string Column1:string",
        json!([["x", "d"]]),
    )
    .await;
}

#[tokio::test]
async fn a_sub_query_that_is_run_before_has_no_row() {
    let tables =
        "let one = datatable(x:long)[1, 2]; let two = datatable(x:long, y:long)[1, 2, 3, 4];
                  let of = (x_:long) { toscalar(two | where x == x_ | project y) };";
    check(&format!("{tables} one | extend y = of(3)"), "x:long y:long", json!([[1, 4], [2, 4]]))
        .await;
    for wrong in [
        // Not even through a function that sees the value.
        "let f = (n:long) { let g = () { n + 1 }; toscalar(two | where x == g() | project y) };
         one | extend y = f(x)",
        "one | extend y = of(x)",
        "let f = (n:long) { 1 in ((two | where x == n)) }; one | extend y = f(x)",
    ] {
        let error = refuse(&format!("{tables} {wrong}")).await;
        assert!(error.to_string().contains("is a value of a row"), "{wrong}: {error}");
    }
    check(
        "let once = toscalar(new_guid()); range x from 1 to 3 step 1 | extend g = once
         | summarize n = dcount(g)",
        "n:long",
        json!([[1]]),
    )
    .await;
}

#[tokio::test]
async fn a_period_that_chance_could_make_is_none() {
    let report = ask("print y = dynamic([80, 139, 87, 110, 68, 54, 50, 51, 53, 133, 86, 141, 97, 156, 94,
        149, 95, 140, 77, 61, 50, 54, 47, 133, 72, 152, 94, 148, 105, 162, 101, 160, 87, 63, 53, 55,
        54, 151, 103, 189, 108, 183, 113, 175, 113, 178, 90, 71, 62, 62, 65, 165, 109, 181, 115, 182,
        121, 178, 114, 170]) | project series_periods_detect(y, 0.0, 50.0, 2)
        | project p = series_periods_detect_y_periods, s = round(todouble(series_periods_detect_y_scores[0]), 2), z = series_periods_detect_y_scores[1]").await;
    assert_eq!(json!(report.rows()), json!([[[14.0, 0.0], 0.84, 0.0]]));
}

#[tokio::test]
async fn old_forms_are_read() {
    for (operator, rows) in
        [("mvexpand x", 128), ("mvexpand x limit 150", 150), ("mv-expand x", 200)]
    {
        check(
            &format!("print x = range(1, 200) | {operator} | count"),
            "Count:long",
            json!([[rows]]),
        )
        .await;
    }
    check("print x = datetime(2025, 6, 14)", "x:datetime", json!([["2025-06-14T00:00:00Z"]])).await;
    for wrong in ["datetime(2025, 13, 1)", "datetime(2025, 6)", "datetime(1, 2, 3, 4)"] {
        let error = refuse(&format!("print x = {wrong}")).await;
        assert!(error.to_string().contains("is not a value of type datetime"), "{error}");
    }
    let tables = "let nets = datatable(net:string, name:string)['10.0.0.0/8', 'ten'];
                  let ips = datatable(ip:string)['10.1.2.3', '11.1.1.1'];";
    check(
        &format!("{tables} ips | evaluate ipv4_lookup(nets, ip, net, true) | sort by ip asc"),
        "ip:string net:string name:string",
        json!([["10.1.2.3", "10.0.0.0/8", "ten"], ["11.1.1.1", "", ""]]),
    )
    .await;
    check(
        &format!("{tables} ips | evaluate ipv4_lookup(nets, ip, net, false) | count"),
        "Count:long",
        json!([[1]]),
    )
    .await;
    let error = refuse(&format!("{tables} ips | evaluate ipv4_lookup(nets, ip, net, 1)")).await;
    assert!(error.to_string().contains("is no column and no bool"), "{error}");
}

#[tokio::test]
async fn functions_of_the_documentations_library_are_read() {
    for (text, columns, rows) in [
        ("print x = range(1, 3) | mv-expand x to typeof(long) take 2", "x:long", json!([[1], [2]])),
        (
            "print a = 0., b = 1.+2, c = 5 between (1..6), d = dynamic([1])[0]",
            "a:real b:real c:bool d:dynamic",
            json!([[0.0, 3.0, true, 1]]),
        ),
        (
            "print a = datetime(8:00) - startofday(now()),
             b = datetime(08:00:05.5) == startofday(now()) + 8h + 5.5s",
            "a:timespan b:bool",
            json!([["08:00:00", true]]),
        ),
        (
            "print a = dynamic(['2020-01-01']) | mv-apply a to typeof(DateTime) on (project a)",
            "a:datetime",
            json!([["2020-01-01T00:00:00Z"]]),
        ),
        (
            "let f = (n:string) { table(n) | count }; let T = datatable(x:long)[1, 2]; f('T')",
            "Count:long",
            json!([[2]]),
        ),
    ] {
        check(text, columns, rows).await;
    }
    let error = refuse("let f = (n:string) { table(n) }; f('NoTable')").await;
    assert!(error.to_string().contains("no table `NoTable`"), "{error}");
}

#[tokio::test]
async fn a_step_of_a_scan_may_assign_a_column_of_the_input() {
    check(
        "range x from 1 to 4 step 1 | extend v = iff(x % 2 == 1, x, long(null)) | sort by x asc
         | scan with (step s: true => v = iff(isnull(v), s.v, v);)",
        "x:long v:long",
        json!([[1, 1], [2, 1], [3, 3], [4, 3]]),
    )
    .await;
    // A step that does not assign it leaves it as it came.
    check(
        "range x from 1 to 3 step 1 | extend v = x
         | scan with_match_id=id declare (n:long=0) with (
             step a: x == 1 => v = v * 10, n = 1; step b: x > 1 => n = a.v + b.v;)",
        "x:long v:long n:long id:long",
        json!([[1, 10, 1, 0], [2, 2, null, 0], [3, 3, 12, 0]]),
    )
    .await;
}

#[tokio::test]
async fn order_lasts_to_the_next_operator() {
    let rows = "datatable(k:string, a:dynamic)['x', dynamic([1, 3, 2]), 'y', dynamic([5, 9, 7])]";
    check(
        &format!(
            "{rows} | mv-apply a to typeof(long) on (sort by a desc | take 2) | sort by a asc"
        ),
        "k:string a:long",
        json!([["x", 2], ["x", 3], ["y", 7], ["y", 9]]),
    )
    .await;
    check(
        &format!(
            "{rows} | mv-apply with_itemindex=i a to typeof(long) on (
                 order by i desc | extend b = a * 2 | where b > 4 | take 1) | sort by a asc"
        ),
        "k:string a:long i:long b:long",
        json!([["x", 3, 1, 6], ["y", 7, 2, 14]]),
    )
    .await;
    check(
        "datatable(k:string, v:long)['x', 1, 'x', 3, 'y', 5, 'y', 4]
         | partition hint.strategy=native by k (sort by v desc) | extend n = next(v)",
        "k:string v:long n:long",
        json!([["x", 3, 1], ["x", 1, 5], ["y", 5, 4], ["y", 4, null]]),
    )
    .await;
    check(
        "range x from 1 to 3 step 1 | sort by x desc | mv-expand y = range(1, 2) to typeof(long)",
        "x:long y:long",
        json!([[3, 1], [3, 2], [2, 1], [2, 2], [1, 1], [1, 2]]),
    )
    .await;
}

#[tokio::test]
async fn an_edge_of_variable_length_is_an_array_of_bags() {
    let graph = "let e = datatable(s:string, t:string, id:string)['a', 'b', 'e1', 'b', 'c', 'e2']
        | make-graph s --> t with_node_id=name;";
    check(
        &format!(
            "{graph} let f = (n:long, m:long) {{ e | graph-match (x)-[e*n..m]->(y)
                 project x.name, ids = e.id, count = array_length(e), first = e[0].t }};
             f(1, 2) | sort by tostring(ids) asc"
        ),
        "x_name:string ids:dynamic count:long first:dynamic",
        json!([["a", ["e1", "e2"], 2, "b"], ["a", ["e1"], 1, "b"], ["b", ["e2"], 1, "c"]]),
    )
    .await;
    for (wrong, says) in [
        ("e | graph-match (x)-[e*n..2]->(y) project x.name", "no column `n`"),
        ("let n = 'x'; e | graph-match (x)-[e*n..2]->(y) project x.name", "is no count of edges"),
        ("let n = -1; e | graph-match (x)-[e*n..2]->(y) project x.name", "is no count of edges"),
    ] {
        let error = refuse(&format!("{graph} {wrong}")).await;
        assert!(error.to_string().contains(says), "{wrong}: {error}");
    }
}

#[tokio::test]
async fn find_casts_a_column_of_several_types() {
    let tables =
        "(datatable(L:string, p:string)['a', '1001']), (datatable(L:string, p:int)['b', 1001])";
    check(
        &format!("find in ({tables}) where L in ('a', 'b') project p:string, L"),
        "source_:string p:string L:string",
        json!([["find_arg0", "1001", "a"], ["find_arg1", "1001", "b"]]),
    )
    .await;
    let error = refuse(&format!("find in ({tables}) where L == 'a' project p")).await;
    assert!(error.to_string().contains("has several types"), "{error}");
    check("print x = series_dot_product(dynamic([1, 2, 4]), 1)", "x:real", json!([[7.0]])).await;
}

#[tokio::test]
async fn columns_are_called_as_what_they_are_computed_from() {
    check(
        "print r = 4.0, l = 2 | project sqrt(r), log(r), sin(r), atan2(r, r), format_bytes(l), repeat(l, 1)",
        "r:real r1:real r2:real r3:real l:string repeat_l:dynamic",
        json!([[2.0, 4.0_f64.ln(), 4.0_f64.sin(), 1.0_f64.atan(), "2 Bytes", [2]]]),
    )
    .await;
    check(
        "print s = dynamic([1, null, 3]), d = dynamic({'a': 1})
         | project series_fill_linear(s), treepath(d), degrees(1.0) > 57",
        "s:dynamic tree_d:dynamic Column1:bool",
        json!([[[1, 2, 3], ["['a']"], true]]),
    )
    .await;
}
