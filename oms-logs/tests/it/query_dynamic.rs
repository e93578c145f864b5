//! Dynamic values in queries.

use crate::query::{ask, check, refuse};
use oms_logs::query::QueryError;
use serde_json::json;

#[tokio::test]
async fn parts_of_values() {
    check(
        "print d = dynamic({'a': [10, {'b': 'x'}], 'c d': 2.5}), i = 1, k = 'c d'
         | project a = d.a[0], b = d['a'][i].b, c = d[k], last = d.a[-2], none = d.z.y, far = d.a[7]",
        "a:dynamic b:dynamic c:dynamic last:dynamic none:dynamic far:dynamic",
        json!([[10, "x", 2.5, 10, null, null]]),
    )
    .await;
    check(
        "Syslog | where ProcessID == 100 | project Details.a, n = toint(Details.a[0]), t = gettype(Details)",
        "Details_a:dynamic n:int t:string",
        json!([[[1, "x"], 1, "dictionary"]]),
    )
    .await;
    check(
        "print d = dynamic({'n': 5, 's': 'x', 't': datetime(2020-01-01), 'z': null})
         | project d.n == 5, d.s == 'x', d.n > 5.5, d.s in ('y', 'x'), todatetime(d.t) == datetime(2020-01-01), isnull(d.z)",
        "Column1:bool Column2:bool Column3:bool Column4:bool Column5:bool Column6:bool",
        json!([[true, true, false, true, true, true]]),
    )
    .await;
    check(
        "print t = parse_json('{\"a\": [1, 2.0]}'), bad = parse_json('{a'), none = isnull(parse_json('')), j = dynamic_to_json(dynamic({'b': 1, 'a': [null]}))",
        "t:dynamic bad:dynamic none:bool j:string",
        json!([[{"a": [1, 2.0]}, "{a", true, "{\"a\":[null],\"b\":1}"]]),
    )
    .await;
    check(
        "print extract_json('$.a[1].b', '{\"a\":[0,{\"b\":7}]}', typeof(long)), treepath(dynamic({'a': [1], 'b': 2}))",
        "print_0:long print_1:dynamic",
        json!([[7, ["['a']", "['a'][0]", "['b']"]]]),
    )
    .await;
}

#[tokio::test]
async fn arrays_are_looked_into() {
    check(
        "datatable(s:string, a:dynamic)['x y', dynamic(['Y', 'q']), 'z', dynamic(['Y'])]
         | project s has_any (a), s has_all (a), s in~ (a), 'Y' in (a), 1 in (a)",
        "Column1:bool Column2:bool Column3:bool Column4:bool Column5:bool",
        json!([[true, false, false, true, false], [false, false, false, true, false]]),
    )
    .await;
}

#[tokio::test]
async fn values_become_other_types() {
    check(
        "datatable(d:dynamic)[1, 2.9, '3', true, dynamic(null), dynamic([1])]
         | project tolong(d), toreal(d), tostring(d), tobool(d), gettype(d)",
        "d:long d1:real d2:string d3:bool type_d:string",
        json!([
            [1, 1.0, "1", true, "long"],
            [2, 2.9, "2.9", true, "real"],
            [3, 3.0, "3", true, "string"],
            [1, 1.0, "true", true, "bool"],
            [null, null, "", null, "null"],
            [null, null, "[1]", null, "array"],
        ]),
    )
    .await;
}

#[tokio::test]
async fn arrays_and_bags() {
    check(
        "print a = dynamic([3, 1, 2])
         | project array_length(a), array_slice(a, -2, -1), array_concat(a, dynamic(['x'])), array_sum(a), array_reverse(a),
             array_rotate_left(a, 1), array_shift_right(a, 1, 0), array_split(a, 1), array_index_of(a, 2), pack_array(a[0], 'y')",
        "Column1:long Column2:dynamic Column3:dynamic Column4:real Column5:dynamic Column6:dynamic Column7:dynamic Column8:dynamic Column9:long Column10:dynamic",
        json!([[3, [1, 2], [3, 1, 2, "x"], 6.0, [2, 1, 3], [1, 2, 3], [0, 3, 1], [[3], [1, 2]], 2, [3, "y"]]]),
    )
    .await;
    check(
        "print a = dynamic([3, 1, 3])
         | project array_index_of(a, 3, 1, -1), array_index_of(a, 3, 1, 1), array_index_of(a, 3, 0, -2), array_index_of(a, 3, 0, -1, -1)",
        "Column1:long Column2:long Column3:long Column4:long",
        json!([[2, -1, null, null]]),
    )
    .await;
    check(
        "print a = dynamic([3, 1, null]), b = dynamic(['x', 'y', 'z'])
         | project array_sort_asc(a, b), (down, other) = array_sort_desc(a, b, false), one = array_sort_asc(a)[0]",
        "a_sorted:dynamic b_sorted:dynamic down:dynamic other:dynamic one:dynamic",
        json!([[[1, 3, null], ["y", "x", "z"], [null, 3, 1], ["z", "x", "y"], 1]]),
    )
    .await;
    check(
        "print b = bag_pack('k', 1, 'l', 'x')
         | project bag_keys(b), bag_merge(b, dynamic({'k': 2, 'm': 3})), bag_remove_keys(b, dynamic(['l'])), bag_set_key(b, '$.n.o', 1s), bag_has_key(b, 'l'), bag_zip(dynamic(['p', 'q']), dynamic([1]))",
        "Column1:dynamic Column2:dynamic Column3:dynamic Column4:dynamic Column5:bool Column6:dynamic",
        json!([[["k", "l"], {"k": 1, "l": "x", "m": 3}, {"k": 1}, {"k": 1, "l": "x", "n": {"o": "00:00:01"}}, true, {"p": 1, "q": null}]]),
    )
    .await;
    check(
        "print x = 1, y = '' | project all = pack_all(), some = pack_all(true), two = bag_pack_columns(y, x)",
        "all:dynamic some:dynamic two:dynamic",
        json!([[{"x": 1, "y": ""}, {"x": 1}, {"y": "", "x": 1}]]),
    )
    .await;
    check(
        "print a = dynamic([1, 2, 2]), b = dynamic([2, 3])
         | project set_union(a, b), set_intersect(a, b), set_difference(a, b), set_has_element(a, '2'), jaccard_index(a, b), range(1, 7, 3), repeat('r', 2), zip(a, b)",
        "Column1:dynamic Column2:dynamic Column3:dynamic Column4:bool Column5:real Column6:dynamic Column7:dynamic Column8:dynamic",
        json!([[[1, 2, 3], [2], [1], false, 1.0 / 3.0, [1, 4, 7], ["r", "r"], [[1, 2], [2, 3], [2, null]]]]),
    )
    .await;
}

#[tokio::test]
async fn arrays_become_rows() {
    check(
        "datatable(k:int, d:dynamic)[1, dynamic([10, 20]), 2, dynamic([]), 3, dynamic(null), 4, dynamic('s')]
         | mv-expand with_itemindex=i d",
        "k:int d:dynamic i:long",
        json!([[1, 10, 0], [1, 20, 1], [3, null, 0], [4, "s", 0]]),
    )
    .await;
    check(
        "print a = dynamic([1, 2, 3]), b = dynamic(['x']), c = dynamic({'p': 1, 'q': 2})
         | mv-expand a to typeof(long), t = b to typeof(string), c limit 2",
        "a:long b:dynamic c:dynamic t:string",
        json!([[1, ["x"], {"p": 1}, "x"], [2, ["x"], {"q": 2}, ""]]),
    )
    .await;
    check("print c = dynamic({'p': 1}) | mv-expand kind=array c", "c:dynamic", json!([[["p", 1]]]))
        .await;
    check(
        "Syslog | mv-expand x = Details.a | project ProcessID, x | where isnotnull(x)",
        "ProcessID:long x:dynamic",
        json!([[100, 1], [100, "x"]]),
    )
    .await;
}

#[tokio::test]
async fn operators_over_the_rows_of_a_row() {
    let data = "datatable(k:string, v:dynamic)['a', dynamic([3, 1, 2]), 'b', dynamic([9]), 'c', dynamic([])]";
    check(
        &format!("{data} | mv-apply x = v to typeof(long) on (top 2 by x asc | summarize l = make_list(x), n = count()) | sort by k asc"),
        "k:string v:dynamic l:dynamic n:long",
        json!([["a", [3, 1, 2], [1, 2], 2], ["b", [9], [9], 1], ["c", [], [], 0]]),
    )
    .await;
    check(
        &format!("{data} | mv-apply x = v to typeof(long) on (where x > 1 | extend y = x * 10 | project y) | sort by k asc, y asc"),
        "k:string v:dynamic y:long",
        json!([["a", [3, 1, 2], 20], ["a", [3, 1, 2], 30], ["b", [9], 90]]),
    )
    .await;
    check(
        &format!("{data} | mv-apply x = v to typeof(long) on (summarize n = count() by odd = x % 2 == 1) | where odd | project k, n | sort by k asc"),
        "k:string n:long",
        json!([["a", 2], ["b", 1]]),
    )
    .await;
    check(
        &format!("{data} | mv-apply x = v to typeof(long) on (join kind=inner (datatable(x:long, n:string)[1, 'one', 9, 'nine']) on x | project n) | sort by k asc"),
        "k:string v:dynamic n:string",
        json!([["a", [3, 1, 2], "one"], ["b", [9], "nine"]]),
    )
    .await;
    check(
        "print d = dynamic([[1, 2], [3]]) | mv-apply r = d on (mv-apply x = r to typeof(long) on (summarize s = sum(x)) | summarize all = make_list(s))",
        "d:dynamic all:dynamic",
        json!([[[[1, 2], [3]], [3, 3]]]),
    )
    .await;
}

#[tokio::test]
async fn groups_are_gathered() {
    check(
        "datatable(k:int, v:long, s:string)[1, 5, 'a', 1, 5, '', 1, long(null), 'b', 2, 7, 'c']
         | summarize make_list(v), make_set(v), make_list_with_nulls(v), make_list_if(s, v == 5), make_bag(bag_pack(s, v)) by k
         | sort by k asc",
        "k:int list_v:dynamic set_v:dynamic list_v1:dynamic list_s:dynamic bag_:dynamic",
        json!([
            [1, [5, 5], [5], [5, 5, null], ["a", ""], {"a": 5, "": 5, "b": null}],
            [2, [7], [7], [7], [], {"c": 7}],
        ]),
    )
    .await;
    check(
        "datatable(a:long, b:string)[3, 'c', 1, 'a', 2, 'b'] | top 2 by a asc | project b | summarize l = make_list(b)",
        "l:dynamic",
        json!([[["a", "b"]]]),
    )
    .await;
    check(
        "range x from 1 to 5 step 1 | extend y = -x | sort by y asc | summarize l = make_list(x), first = make_list(x, 2)",
        "l:dynamic first:dynamic",
        json!([[[5, 4, 3, 2, 1], [5, 4]]]),
    )
    .await;
    check(
        "datatable(d:dynamic)[dynamic({'a': 1, 'b': [1.5]}), dynamic({'a': 'x'})] | summarize buildschema(d)",
        "schema_d:dynamic",
        json!([[{"a": ["long", "string"], "b": {"`indexer`": "double"}}]]),
    )
    .await;
    check(
        "range x from 1 to 4 step 1 | summarize binary_all_or(x), binary_all_xor(x), covariance(x, x), (m, n) = arg_max(x, x * 2), percentilesw(x, 5 - x, 50, 90)",
        "x:long x1:long covariance_x_x:real m:long n:long percentile_x_50:long percentile_x_90:long",
        json!([[7, 4, 1.6666666666666667, 4, 8, 2, 3]]),
    )
    .await;
    check(
        "range x from 1 to 100 step 1 | summarize h = hll(x), t = tdigest(x) by x % 2 | summarize h = hll_merge(h), t = tdigest_merge(t)
         | project dcount_hll(h), p = percentile_tdigest(t, 50, typeof(long))",
        "dcount_hll_h:long p:long",
        json!([[100, 50]]),
    )
    .await;
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    for (text, expect) in [
        ("print x = 1 | project x.a", "a long has no parts"),
        ("print x = 1 | mv-expand x", "only dynamic values are expanded"),
        ("print x = dynamic([1]) | mv-expand x to typeof(thing)", "`thing` is not a type"),
        ("print (a, b) = 1", "there is no column for the name `b`"),
        ("print extract_json('a', '{}')", "`a` is not a JSON path"),
        ("range x from 1 to 2 step 1 | summarize make_list(x, 'a')", "takes a constant count"),
    ] {
        let error = refuse(text).await;
        assert!(error.diagnostics()[0].to_string().contains(expect), "{text}: {error}");
    }
}

#[tokio::test]
async fn bags_become_columns() {
    let data = "datatable(b:dynamic, n:string)[dynamic({'y': 1, 'x': 'a'}), 'k', dynamic({'y': 2.5, 'z': [1]}), 'l', dynamic(null), 'm']";
    check(
        &format!("{data} | evaluate bag_unpack(b) | sort by n asc"),
        "n:string x:string y:dynamic z:dynamic",
        json!([["k", "a", 1, null], ["l", "", 2.5, [1]], ["m", "", null, null]]),
    )
    .await;
    check(
        &format!("{data} | evaluate bag_unpack(b, 'p_', ignoredProperties=dynamic(['z', 'x'])) | top 1 by n"),
        "n:string p_y:dynamic",
        json!([["m", null]]),
    )
    .await;
    check(
        &format!("{data} | evaluate bag_unpack(b) : (n:string, y:long) | top 1 by n asc"),
        "n:string y:long",
        json!([["k", 1]]),
    )
    .await;
    let clash = "print a = 'old', d = dynamic({'a': 1, 'd': 2}) | evaluate bag_unpack(d";
    check(&format!("{clash}, columnsConflict='replace_source')"), "a:long d:long", json!([[1, 2]]))
        .await;
    check(
        &format!("{clash}, columnsConflict='keep_source')"),
        "a:string d:long",
        json!([["old", 2]]),
    )
    .await;
    let error = refuse(&format!("{clash})")).await;
    assert!(error.to_string().contains("there is a column `a` already"), "{error}");
}

#[tokio::test]
async fn numbers_of_all_kinds_sort_and_compare_by_value() {
    // Many values, among them such as are equal as reals, so that a wrong order shows.
    let longs = "9007199254740993, 9007199254740992, 9007199254740991, 0, 5";
    let reals = "9007199254740992.0, -0.0, 0.5, real(nan), real(+inf), real(-inf)";
    check(
        &format!(
            "range i from 1 to 40 step 1
             | summarize l = make_list(pack_array({longs}, {reals}))
             | project s = array_sort_asc(l), d = array_sort_desc(l)
             | project array_length(s), first = s[0], last = s[-1], top = s[280], d[0], strcat_array(array_slice(s, 239, 240), ',')"
        ),
        "Column1:long first:dynamic last:dynamic top:dynamic d_0:dynamic Column2:string",
        json!([[440, "-Infinity", "NaN", 9_007_199_254_740_992_i64, "NaN", "9007199254740991,9007199254740992"]]),
    )
    .await;
    check(
        "print a = set_union(dynamic([0, 9007199254740993]), pack_array(-0.0, 9007199254740992.0)), b = set_has_element(dynamic([1152921504606846976]), 1152921504606846976.0)
         | project array_length(a), b",
        "Column1:long b:bool",
        json!([[3, true]]),
    )
    .await;
}

#[tokio::test]
async fn values_that_are_nested_too_deep_are_refused() {
    // A step of `scan` adds a level for each row.
    let deep = |function: &str, rows: usize| {
        format!(
            "range i from 1 to {rows} step 1
             | scan declare (d:dynamic) with (step s output=last: true => d = {function};)
             | project n = strlen(tostring(d))"
        )
    };
    for function in ["pack_array(s.d)", "bag_pack('a', s.d)", "zip(pack_array(s.d))"] {
        ask(&deep(function, 60)).await;
        let error = refuse(&deep(function, 200)).await;
        assert!(matches!(error, QueryError::LimitExceeded { .. }), "{error:?}");
        assert!(error.to_string().contains("nested deeper than 128 levels"), "{error}");
    }
}

#[tokio::test]
async fn calls_that_take_too_much_say_so() {
    for (text, function) in [
        ("print x = series_fir(range(1, 1000000), range(1, 2000))", "series_fir"),
        ("print x = series_iir(range(1, 1000000), range(1, 2000), dynamic([1]))", "series_iir"),
        (
            "range i from 1 to 2 step 1 | extend x = series_fir(range(i, 1000000), range(i, 2000))",
            "series_fir",
        ),
        (
            "print t = strrep('a', 1000000), l = repeat('b', 20000) | project x = t has_any (l)",
            "has_any_computed",
        ),
        (
            "print t = strrep('a', 1000000) | project x = replace_strings(t, repeat('b', 20000), repeat('c', 20000))",
            "replace_strings",
        ),
    ] {
        let error = refuse(text).await;
        let expect = format!("`{function}` takes more steps than a call may");
        assert!(error.to_string().contains(&expect), "{text}: {error}");
    }
}
