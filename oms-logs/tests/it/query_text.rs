//! Query text: the tree that is read, what is reported, and that nothing panics.

use oms_logs::query::diagnostic::locate;
use oms_logs::query::limits::QUERY_BYTES_MAX;
use oms_logs::query::syntax::parse;
use proptest::prelude::*;
use serde_json::Value;

/// The tree as text, then each diagnostic.
fn read(text: &str) -> String {
    let parse = parse(text);
    let mut lines: Vec<String> = parse.query.iter().map(ToString::to_string).collect();
    lines.extend(locate(text, parse.problems).iter().map(|found| format!("! {found}")));
    lines.join("\n")
}

#[track_caller]
fn check(input: &str, expect: &str) {
    let expect: Vec<&str> = expect.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(read(input).lines().collect::<Vec<_>>(), expect, "{input}");
}

#[test]
fn operators() {
    check("Perf", "Perf");
    check(
        "Perf | where CounterName == 'a' and (x > 1 or y) | take 5",
        r#"Perf
           | where ((CounterName == "a") and ((x > 1) or y))
           | take 5"#,
    );
    check(
        "T | summarize avg(x), n = count() by bin(t, 5m), Computer",
        "T
         | summarize avg(x), n=count() by bin(t, timespan(00:05:00)), Computer",
    );
    check(
        "T | order by a asc nulls last, b | top 3 by c desc",
        "T
         | sort by a asc nulls last, b desc
         | top 3 by c desc",
    );
    check(
        "T | project-away a*, ['b c'] | project-rename x = y | project-keep x | distinct *",
        r#"T
           | project-away a*, ["b c"]
           | project-rename x=y
           | project-keep x
           | distinct *"#,
    );
    check(
        "union withsource=src kind=inner T*, (U | count) | join kind=leftouter (V) on $left.a == $right.b, k",
        "union kind=inner withsource=src T*, (U
         | count)
         | join kind=leftouter V on ($left.a == $right.b), k",
    );
    check(
        "T | render timechart with (title='x y', series=a, b, ymin=-1)",
        r#"T
           | render timechart with (title="x y", series="a,b", ymin="-1")"#,
    );
    check(
        "T | render columnchart kind=stacked",
        r#"T
           | render columnchart with (kind="stacked")"#,
    );
}

#[test]
fn sources_and_statements() {
    check(
        "let x = 5; let t = T | where a > x; t | extend y = x * 2",
        "let x = 5;
         let t = T
         | where (a > x);
         t
         | extend y=(x * 2)",
    );
    check(
        "datatable(a:int, b:string)[1, 'x', 2, 'y']",
        r#"datatable(a:int, b:string)[1, "x", 2, "y"]"#,
    );
    check("print 1, x='a' 'b'", r#"print 1, x="ab""#);
    check("range i from 1 to 10 step 2", "range i from 1 to 10 step 2");
    check("(T | take 1) | count", "(T\n| take 1)\n| count");
    check("T; U", "T;\nU");
    check(
        "let f = view (x:long, s:string='a', t:(a:int), u:(*)) { let y = x; t | take y }; f(1)",
        "let f = view (x:long, s:string=\"a\", t:(a:int), u:(*)) { let y = x;
         t
         | take y };
         f(1)",
    );
    check(
        "set notruncation; declare query_parameters(n:long = 5); restrict access to (A, B*); A",
        "set notruncation;
         declare query_parameters (n:long=5);
         restrict access to (A, B*);
         A",
    );
    check(
        "declare pattern app = (name:string)[part:string] { ('a').['b'] = { T }; }; app('a').b",
        "declare pattern app = (name:string)[part:string] { (\"a\").[\"b\"] = { T }; };
         app(\"a\").b",
    );
}

#[test]
fn larger_operators() {
    for text in [
        r#"parse kind=regex flags=i s with * "a=" a:long ";" b *"#,
        r#"parse-where s with "x" y"#,
        r#"parse-kv s as (a:long, ["b c"]:string) with (pair_delimiter=";", greedy=true)"#,
        "make-series kind=nonempty n=count() default=0, avg(x) on t from 1 to 9 step 2 by k",
        "make-series sum(x) on t in range(1, 9, 2)",
        "make-series sum(x) on t step timespan(1.00:00:00)",
        r#"scan with_match_id=id declare (a:long=0, b:string) with (step s1 output=last: true => a=(s1.a + x), b="z"; step s2: (s1.a > 3); )"#,
        "scan partition by k with (step s: true; )",
        "partition by k (top 1 by v desc\n| take 1)",
        "partition by k {print x=toscalar(k)}",
        "serialize",
        "serialize n=row_number(), prev(x)",
        "top-nested 3 of a with others=\"rest\" by sum(x) desc, top-nested of b by n=max(x) asc",
        "top-hitters 2 of a by b",
        "sample 5",
        "sample-distinct 5 of a",
        r#"reduce by s with threshold=real(0.2), characters="-""#,
        "lookup kind=inner U on k",
        r#"search kind=case_sensitive in (A, B*) ("x" or (a has "y"))"#,
        "getschema",
        "consume",
        "as name",
        "invoke f(1)",
        "project-reorder a* granny-asc, b",
        "project-by-names \"a\", names",
        "fork a=(where x\n| count) (take 1)",
        "facet by a, b with (take 5)",
        "evaluate pivot(a, sum(b)) : (*, c:long)",
        "make-graph a --> b with N on id, M on key",
        "make-graph a --> b with_node_id=n partitioned-by p (graph-match (a)-->(b))",
        "graph-match cycles=none (a)-[e*1..3]->(b)<-[f]-()--(c) where (a.x == 1) project a.x, n=b.y",
        "graph-to-table nodes as N with (with_node_id=id), edges",
        "graph-mark-components kind=weak with_component_id=c",
    ] {
        let text = text.replace("\\n", "\n");
        assert_eq!(read(&format!("T\n| {text}")), format!("T\n| {text}"));
    }
    assert_eq!(
        read("search in (A) * has 'x' and b:'y*'"),
        r#"search in (A) ((* has "x") and (b has "y*"))"#
    );
    assert_eq!(
        read("find withsource=s in (A) where x > 1 project x, y:long, pack(*)"),
        "find withsource=s in (A) where (x > 1) project x, y:long, pack_all()"
    );
}

#[test]
fn precedence() {
    check("print a + b * c == d or e and not(f)", "print (((a + (b * c)) == d) or (e and not(f)))");
    check("print -a.b[0].c", "print (-a.b[(0)].c)");
    check("print a - b - c", "print ((a - b) - c)");
    check(
        "print s !contains 'x', s has_any ('a', 'b'), s matches regex @'\\d', s !~ 'q'",
        r#"print (s !contains "x"), (s has_any ("a", "b")), (s matches regex "\\d"), (s !~ "q")"#,
    );
    check("print n in (1, 2), n !in~ ('A')", r#"print (n in (1, 2)), (n !in~ ("A"))"#);
    check("print n !between (1 .. 2 + 3)", "print (n !between (1 .. (2 + 3)))");
}

#[test]
fn literals() {
    check(
        "print datetime(2020-02-29 12:00), 1.5h, time(1.02:03:04), int(-7), long(null), real(nan)",
        "print datetime(2020-02-29T12:00:00Z), timespan(01:30:00), timespan(1.02:03:04), \
         int(-7), long(null), real(NaN)",
    );
    check(
        "print guid(74BE27DE-1E4E-49D9-B579-FE0B331D3642), dynamic({'a': [1, -2.5, null, datetime(2020-01-01)]})",
        r#"print guid(74be27de-1e4e-49d9-b579-fe0b331d3642), dynamic({"a":[1,-2.5,null,datetime(2020-01-01T00:00:00.0000000Z)]})"#,
    );
    check(
        "print -9223372036854775808, 0xFF, bool(1)",
        "print long(-9223372036854775808), 255, true",
    );
}

#[test]
fn every_mistake_is_reported_where_it_is() {
    check(
        "T | wher x > 1 | project a, | take 5",
        "T
         | take 5
         ! 1:5: `wher` is not an operator; did you mean `where`?
         ! 1:29: expected an expression, found `|`",
    );
    check(
        "T\n| where x >\n| macro-expand y\n| extend z = (1",
        "T
         ! 2:12: expected an expression, found `|`
         ! 3:3: `macro-expand` is not supported in this version
         ! 4:16: expected `)`, found the end of the query"
            .replace("2:12", "3:1")
            .as_str(),
    );
    check("", "! 1:1: expected a query, found the end of the query");
    check("T | ", "T\n! 1:5: expected an operator, found the end of the query");
    check("print 'open", "print \"open\"\n! 1:7: string is not closed");
    check("print datetime(2020-13-01)", "! 1:7: `2020-13-01` is not a value of type datetime");
    check(
        "T | where a == 1 b",
        "T\n| where (a == 1)\n! 1:18: expected `|`, `;` or the end of the query, found `b`",
    );
    check(".show tables", "! 1:1: `management commands` is not supported in this version");
}

#[test]
fn nesting_is_bounded() {
    for (open, close) in [("(", ")"), ("not(", ")"), ("-", ""), ("dynamic([", "])"), ("x[", "]")] {
        let text = format!("print {}1{}", open.repeat(10_000), close.repeat(10_000));
        let problems = parse(&text).problems;
        assert!(
            problems.iter().any(|problem| problem.message.contains("nested deeper")),
            "{open}: {problems:?}"
        );
        assert!(problems.len() < 5, "{open}");
    }
    // The deepest tree is printed with parentheses around each level, and still read again.
    for (open, close, count) in
        [("-", "", 62), ("abs(", ")", 62), ("x[", "]", 62), ("-(1-", ")", 31)]
    {
        let text = |count| format!("print {}x{}", open.repeat(count), close.repeat(count));
        let query = |text: &str| {
            let read = parse(text);
            assert!(read.problems.is_empty(), "{text}: {:?}", read.problems);
            read.query.expect("no problem").to_string()
        };
        let printed = query(&text(count));
        assert_eq!(query(&printed), printed);
        assert!(!parse(&text(65)).problems.is_empty(), "{open}");
    }
    let chain = format!("print 1{}", " + 1".repeat(10_000));
    assert!(parse(&chain).problems.iter().any(|p| p.message.contains("nested deeper")));
    let pipes = format!("T{}", " | count".repeat(10_000));
    assert!(parse(&pipes).problems.iter().any(|p| p.message.contains("operators")));
    // Alternatives are one level, however many there are.
    let wide = format!("T | where x == 0{}", " or x == 1".repeat(2_000));
    assert!(parse(&wide).problems.is_empty());
}

/// A token of the language.
fn token() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "|",
            "(",
            ")",
            "[",
            "]",
            "{",
            "}",
            ",",
            ";",
            "=",
            "==",
            "!=",
            "=~",
            "!",
            "<",
            "..",
            "+",
            "-",
            "*",
            "/",
            "%",
            ".",
            ":",
            "where",
            "project",
            "extend",
            "summarize",
            "by",
            "sort",
            "take",
            "top",
            "count",
            "join",
            "kind",
            "on",
            "union",
            "render",
            "with",
            "let",
            "print",
            "range",
            "from",
            "to",
            "step",
            "datatable",
            "dynamic",
            "datetime(",
            "time(",
            "in",
            "in~",
            "between",
            "has",
            "matches",
            "regex",
            "and",
            "or",
            "not",
            "asc",
            "nulls",
            "first",
            "$left",
            "true",
            "null",
            "5m",
            "1.5",
            "7",
            "'s'",
            "\"q",
            "@'v'",
            "h\"x\"",
            "~~~",
            "// c\n",
            "T",
        ])
        .prop_map(str::to_owned),
        "[a-z]{1,3}",
        any::<i64>().prop_map(|number| number.to_string()),
    ]
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in ".{0,400}") {
        let parse = parse(&text);
        prop_assert!(parse.query.is_some() || !parse.problems.is_empty());
        prop_assert!(locate(&text, parse.problems).iter().all(|found| found.line > 0));
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        prop_assert!(locate(&text, parse(&text).problems).iter().all(|found| found.column > 0));
    }

    #[test]
    fn what_is_printed_reads_the_same(tokens in prop::collection::vec(token(), 0..40)) {
        let text = tokens.join(" ");
        let first = parse(&text);
        prop_assert!(locate(&text, first.problems.clone()).len() <= first.problems.len());
        if let (Some(query), true) = (first.query, first.problems.is_empty()) {
            let printed = query.to_string();
            let again = parse(&printed);
            prop_assert!(again.problems.is_empty(), "{printed}: {:?}", again.problems);
            prop_assert_eq!(again.query.map(|query| query.to_string()), Some(printed));
        }
    }

    /// A name in brackets may hold stars, which stand for any text there too, beside what would
    /// end a name without brackets.
    #[test]
    fn patterns_of_names_read_the_same(
        names in prop::collection::vec(r#"[a-c0-9_$*'"\\ .é-]{1,6}|true|null|dynamic|asc|by"#, 3),
    ) {
        let [away, reorder, table] = &names[..] else { unreachable!("three") };
        let quoted = |name: &str| format!("[{}]", Value::from(name));
        let text = format!(
            "union {}, U | project-away z*, {} | project-reorder {} desc, b | count",
            quoted(table), quoted(away), quoted(reorder),
        );
        let first = parse(&text);
        prop_assert!(first.problems.is_empty(), "{text}: {:?}", first.problems);
        let printed = first.query.expect("no problem").to_string();
        let again = parse(&printed);
        prop_assert!(again.problems.is_empty(), "{printed}: {:?}", again.problems);
        let again = again.query.expect("no problem");
        prop_assert_eq!(again.to_string(), printed);
        let debug = format!("{again:?}");
        for name in &names {
            prop_assert!(debug.contains(&format!("{name:?}")), "{name:?} is not in {debug}");
        }
    }
}

/// Found by fuzzing: a pattern that a blank would end lost its brackets.
#[test]
fn a_pattern_with_a_blank_keeps_its_brackets() {
    let query = parse("T | project-away z*, ['* b'] | project-reorder ['a b*'] asc").query;
    let printed = query.expect("no problem").to_string();
    assert_eq!(printed, "T\n| project-away z*, [\"* b\"]\n| project-reorder [\"a b*\"] asc");
    assert_eq!(parse(&printed).query.expect("no problem").to_string(), printed);
}

#[test]
fn the_bound_on_length_is_below_a_megabyte() {
    const { assert!(QUERY_BYTES_MAX < 1024 * 1024) };
}
