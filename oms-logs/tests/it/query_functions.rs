//! Scalar functions and types, one expression a case.

use crate::query::{options, refuse, tables};
use oms_logs::query::{self, QueryError};
use serde_json::{Value as Json, json};

/// Each expression with the type and the value of its column.
async fn check(cases: &[(&str, &str, Json)]) {
    for (expression, kql_type, expect) in cases {
        let text = format!("print x = {expression}");
        let report = match query::run(&tables(), &text, &options()).await {
            Ok(report) => report,
            Err(error) => panic!("{expression}: {error}"),
        };
        let found = &report.rows()[0][0];
        let same = match (found.as_f64(), expect.as_f64()) {
            (Some(found), Some(expect)) => (found - expect).abs() <= 1e-12 * expect.abs().max(1.0),
            _ => found == expect,
        };
        assert!(same, "{expression}: {found} is not {expect}");
        assert_eq!(report.columns[0].kql_type.name(), *kql_type, "{expression}");
    }
}

/// The rows of a query.
async fn rows(text: &str) -> Json {
    match query::run(&tables(), text, &options()).await {
        Ok(report) => json!(report.rows()),
        Err(error) => panic!("{text}: {error}"),
    }
}

async fn refusal(text: &str) -> QueryError {
    query::run(&tables(), text, &options()).await.expect_err("a refusal")
}

#[tokio::test]
async fn patterns() {
    check(&[
        (r#"extract("x=([0-9.]+)", 1, "hello x=45.6|wo")"#, "string", json!("45.6")),
        (r#"extract("x=([0-9.]+)", 1, "hello x=45.6|wo", typeof(real))"#, "real", json!(45.6)),
        (r#"extract("(a)(b)?", 2, "a")"#, "string", json!("")),
        (r#"extract("nothing", 0, "text")"#, "string", json!("")),
        (r#"extract_all(@"(\w)(\d)", "a1 b2")"#, "dynamic", json!([["a", "1"], ["b", "2"]])),
        (r#"extract_all(@"(\d)", "a1 b2")"#, "dynamic", json!(["1", "2"])),
        (r#"extract_all(@"(\w)(\d)", dynamic([2]), "a1 b2")"#, "dynamic", json!(["1", "2"])),
        (r#"extract_all(@"(\d)", "none")"#, "dynamic", json!(null)),
        (r#"replace_regex("a1b22", @"(\d+)", @"<\1>")"#, "string", json!("a<1>b<22>")),
        (r#"replace_regex("abc", "", "-")"#, "string", json!("-a-b-c-")),
        (r#"trim("--", "----a--")"#, "string", json!("--a")),
        (r#"trim_start(@"[^\w]+", "- $a -")"#, "string", json!("a -")),
        (r#"trim_end(@"\s+", " a  ")"#, "string", json!(" a")),
        (r#"countof("aaaa", "aa")"#, "long", json!(3)),
        (r#"countof("aaaa", "aa", "regex")"#, "long", json!(2)),
        (r#"indexof("abcabc", "c", 0, -1, 2)"#, "long", json!(5)),
        (r#"indexof("abcabc", "c", 0, 2)"#, "long", json!(-1)),
        (r#"indexof("abcabc", "a", -3)"#, "long", json!(3)),
        (r#"indexof("abcabc", "a", 0, -2)"#, "long", json!(null)),
        (r#"indexof_regex("abcabc", "[bc]", 2)"#, "long", json!(2)),
        (r#"indexof_regex("abc", "a|ab", -1)"#, "long", json!(null)),
        (r#"regex_quote("1.5+")"#, "string", json!(r"1\.5\+")),
    ])
    .await;
    for condition in ["Computer != trim('(', Computer)", "Computer matches regex '('"] {
        let error = refusal(&format!("Perf | where {condition}")).await;
        assert!(error.diagnostics()[0].message.contains("unclosed group"), "{error}");
    }
    let error = refusal("Perf | extend p = strcat('(', Computer) | extend trim(p, 'x')").await;
    assert!(matches!(error, QueryError::Regex { .. }), "{error}");
    let found = rows(
        "datatable(p: string, t: string)['a+', 'aab', 'b', 'ab', '', 'x'] | project countof(t, p), \
         replace_regex(t, p, '.')",
    );
    assert_eq!(found.await, json!([[0, ".b"], [1, "a."], [0, ".x."]]));
}

#[tokio::test]
async fn parts_of_text() {
    check(&[
        (r#"split("a_b_c", "_")"#, "dynamic", json!(["a", "b", "c"])),
        (r#"split("a_b_c", "_", 1)"#, "dynamic", json!(["b"])),
        (r#"split("a_b", "_", 5)"#, "dynamic", json!(null)),
        (r#"translate("krasp", "otsku", "spark")"#, "string", json!("kusto")),
        (r#"translate("abc", "x", "abcd")"#, "string", json!("xxxd")),
        (r#"translate("abc", "", "abd")"#, "string", json!("d")),
        (
            r#"replace_strings("a b", dynamic(["a", "b"]), dynamic(["b", "c"]))"#,
            "string",
            json!("b c"),
        ),
        ("format_bytes(564)", "string", json!("564 Bytes")),
        ("format_bytes(1536, 2)", "string", json!("1.5 KB")),
        ("format_bytes(1536, 0, 'MB')", "string", json!("0 MB")),
        (r#"parse_csv("a,\"b,c\"")"#, "dynamic", json!(["a", "b,c"])),
        (r#"parse_version("0.2.1")"#, "decimal", json!("20000000100000000")),
        (r#"parse_version("1.x")"#, "decimal", json!(null)),
        (
            r#"parse_urlquery("a=1&b=2")"#,
            "dynamic",
            json!({"Query Parameters": {"a": "1", "b": "2"}}),
        ),
        (r#"parse_xml("<e><a>1</a></e>")"#, "dynamic", json!({"e": {"a": "1"}})),
        (r#"parse_command_line("a \"b c\"", "windows")"#, "dynamic", json!(["a", "b c"])),
        (r#"isascii("abc") and not(isascii("é"))"#, "bool", json!(true)),
    ])
    .await;
}

#[tokio::test]
async fn lists_can_be_computed() {
    let found = rows(
        "datatable(s: string, l: dynamic, t: string)['a x', dynamic(['A']), 'y', 'b', dynamic('c'), 'b'] \
         | project s has_any (l), s has_all (l, t), s in~ (l, t), s !in~ (t)",
    );
    let expect = json!([[true, false, false, true], [false, false, true, false]]);
    assert_eq!(found.await, expect);
    check(&[(
        "tostring(parse_urlquery('b=1&a=2&b=3'))",
        "string",
        json!(r#"{"Query Parameters":{"b":"3","a":"2"}}"#),
    )])
    .await;
}

#[tokio::test]
async fn any_column_and_computed_parts() {
    let found = rows(
        "datatable(a: string, b: string)['x', 'y', 'y', 'y'] | where * !contains 'x' | project a",
    );
    assert_eq!(found.await, json!([["y"]]));
    let found = rows("print d = dynamic({'k': {'a b': 1}}), k = 'k' | project d.[k].['a b']");
    assert_eq!(found.await, json!([[1]]));
}

#[tokio::test]
async fn encodings() {
    check(&[
        (r#"base64_encode_tostring("Kusto")"#, "string", json!("S3VzdG8=")),
        (r#"base64_decode_tostring("S3VzdG8=")"#, "string", json!("Kusto")),
        (r#"base64_decode_tostring("_")"#, "string", json!("")),
        (r#"base64_decode_toarray("AQI=")"#, "dynamic", json!([1, 2])),
        (r#"base64_encode_fromarray(dynamic([1, 2]))"#, "string", json!("AQI=")),
        (
            "base64_decode_toguid(base64_encode_fromguid(guid(10e99626-bc2b-4c75-bb3e-fe606de25700)))",
            "guid",
            json!("10e99626-bc2b-4c75-bb3e-fe606de25700"),
        ),
        (r#"url_encode("a b/ü")"#, "string", json!("a+b%2f%c3%bc")),
        (r#"url_encode_component("a b")"#, "string", json!("a%20b")),
        (r#"url_decode("a%20b+c%2")"#, "string", json!("a b c%2")),
        (
            "gzip_decompress_from_base64_string(gzip_compress_to_base64_string('abc'))",
            "string",
            json!("abc"),
        ),
        (
            "zlib_decompress_from_base64_string(zlib_compress_to_base64_string('abc'))",
            "string",
            json!("abc"),
        ),
        (r#"zlib_decompress_from_base64_string("x")"#, "string", json!("")),
        (r#"punycode_from_string("bücher")"#, "string", json!("bcher-kva")),
        (r#"punycode_domain_from_string("xn--bcher-kva.de")"#, "string", json!("bücher.de")),
        (r#"unicode_codepoints_from_string("aé")"#, "dynamic", json!([97, 233])),
        (r#"unicode_codepoints_to_string(97, dynamic([98, 99]))"#, "string", json!("abc")),
        (r#"hash_md5("abc")"#, "string", json!("900150983cd24fb0d6963f7d28e17f72")),
        (
            r#"hash_sha1("abc")"#,
            "string",
            json!("a9993e364706816aba3e25717850c26c9cd0d89d"),
        ),
        (
            r#"hash_sha256("abc")"#,
            "string",
            json!("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ),
        (r#"hash("World")"#, "long", json!(1_846_988_464_401_551_951_i64)),
        (r#"hash_xxhash64("World", 100)"#, "long", json!(51)),
    ])
    .await;
}

#[tokio::test]
async fn numbers() {
    check(&[
        ("gamma(5)", "real", json!(24.0)),
        ("loggamma(5)", "real", json!(3.178_053_830_347_945_8)),
        ("erf(1)", "real", json!(0.842_700_792_949_714_9)),
        ("erfc(1)", "real", json!(0.157_299_207_050_285_13)),
        ("beta_cdf(0.5, 2, 2)", "real", json!(0.5)),
        ("bin(int(7), int(2))", "int", json!(6)),
        ("bin(decimal(7.9), decimal(0.5))", "decimal", json!("7.5")),
        ("bin_at(7, 5, 1)", "long", json!(6)),
        ("bin_at(6.5, 2.5, 7)", "real", json!(4.5)),
        ("iff(true, dynamic([1]), 2)", "dynamic", json!([1])),
        ("coalesce(dynamic(null), 'x')", "dynamic", json!("x")),
        ("around(5, 4, 1)", "bool", json!(true)),
        (
            "around(datetime(2021-01-01 01:29), datetime(2021-01-01 01:30), 1s)",
            "bool",
            json!(false),
        ),
        ("binary_shift_left(1, 65)", "long", json!(2)),
        ("binary_shift_right(8, -1)", "long", json!(null)),
        ("bitset_count_ones(-1)", "long", json!(64)),
        ("convert_length(1.5, 'Kilometer', 'Meter')", "real", json!(1500.0)),
        ("convert_length(1.5, 'Kilometre', 'Meter')", "real", json!(null)),
        ("convert_temperature(0, 'DegreeCelsius', 'Kelvin')", "real", json!(273.15)),
        ("tohex(256)", "string", json!("100")),
        ("tohex(-256)", "string", json!("ffffffffffffff00")),
        ("tohex(toint(-256), 8)", "string", json!("ffffff00")),
        ("tohex(256, 8)", "string", json!("00000100")),
    ])
    .await;
}

#[tokio::test]
async fn bins_are_set_for_the_query() {
    let found = rows(
        "set query_bin_auto_size=1h; set query_bin_auto_at=datetime(2017-01-01 00:05); \
         range t from datetime(2017-01-01 00:05) to datetime(2017-01-01 02:00) step 1m \
         | summarize count() by bin_auto(t) | sort by t asc",
    );
    let expect = json!([["2017-01-01T00:05:00Z", 60], ["2017-01-01T01:05:00Z", 56]]);
    assert_eq!(found.await, expect);
    let found = rows("set query_bin_auto_size=10; print bin_auto(25)");
    assert_eq!(found.await, json!([[20]]));
    let error = refusal("print bin_auto(25)").await;
    assert!(error.diagnostics()[0].message.contains("query_bin_auto_size"), "{error}");
}

#[tokio::test]
async fn draws_differ() {
    let found = rows(
        "range i from 1 to 1000 step 1 | extend a = rand(), b = rand(), c = rand(10), g = new_guid() \
         | summarize dcount(a), dcount(b), dcount(c), dcount(g), countif(a == b), min(c), max(c)",
    );
    assert_eq!(found.await, json!([[1000, 1000, 10, 1000, 0, 0.0, 9.0]]));
    let found = rows(
        "print text = 'abc', n = int(1) | project estimate_data_size(*), estimate_data_size(n), \
         isnull(ingestion_time())",
    );
    assert_eq!(found.await, json!([[7, 4, true]]));
    let names = rows("print column_names_of((Syslog | project ProcessID))").await;
    assert_eq!(names, json!([[["ProcessID"]]]));
}

#[tokio::test]
async fn decimals() {
    check(&[
        ("decimal(1.50)", "decimal", json!("1.5")),
        ("abs(decimal(-1.5))", "decimal", json!("1.5")),
        ("abs(decimal(null))", "decimal", json!(null)),
        ("todecimal('0.1') + todecimal('0.2')", "decimal", json!("0.3")),
        ("decimal(10) / 3", "decimal", json!("3.333333333333333333333333333333333")),
        ("decimal(1) / 0", "decimal", json!(null)),
        ("-decimal(2) * 1.5", "decimal", json!("-3")),
        ("decimal(7.5) % 2", "decimal", json!("1.5")),
        ("decimal(1.0) == 1", "bool", json!(true)),
        ("decimal(10) > decimal(9.5)", "bool", json!(true)),
        ("decimal(5) between (decimal(4) .. decimal(10))", "bool", json!(true)),
        ("max_of(decimal(10), decimal(9))", "decimal", json!("10")),
        ("tolong(decimal(-2.9))", "long", json!(-2)),
        ("todouble(decimal(2.5))", "real", json!(2.5)),
        ("tostring(decimal(1e3))", "string", json!("1000")),
        ("todecimal('x')", "decimal", json!(null)),
        ("todecimal(true)", "decimal", json!("1")),
        ("sqrt(decimal(4))", "real", json!(2.0)),
    ])
    .await;
    let found = rows(
        "datatable(d: decimal)[decimal(10), decimal(9.5), decimal(null), decimal(-3)] | sort by d asc",
    );
    assert_eq!(found.await, json!([[null], ["-3"], ["9.5"], ["10"]]));
    let found = rows(
        "datatable(g: string, d: decimal)['a', decimal(10), 'a', decimal(9.5), 'b', decimal(null)] \
         | summarize sum(d), avg(d), min(d), max(d) by g | sort by g asc",
    );
    let expect = json!([["a", "19.5", "9.75", "9.5", "10"], ["b", "0", null, null, null]]);
    assert_eq!(found.await, expect);
    let error = refusal("print decimal(1.2.3)").await;
    assert!(matches!(error, QueryError::Syntax { .. }), "{error}");
}

#[tokio::test]
async fn conversions() {
    check(&[
        ("tobool(1d)", "bool", json!(true)),
        ("tobool(decimal(0))", "bool", json!(false)),
        ("todatetime(1.9)", "datetime", json!("0001-01-01T00:00:00.0000001Z")),
        ("totimespan(true)", "timespan", json!(null)),
        ("tolong(guid(74be27de-1e4e-49d9-b579-fe0b331d3642))", "long", json!(null)),
        ("true == 1 and 0.0 == false and true > 0", "bool", json!(true)),
        ("tostring(0.1 + 0.2)", "string", json!("0.30000000000000007")),
        ("tostring(1.0 / 3)", "string", json!("0.3333333333333333")),
        ("tostring(real(-inf))", "string", json!("-inf")),
        ("iscolumnexists('x')", "bool", json!(false)),
        ("datetime_add('nanosecond', -100, datetime(2020-01-01))", "datetime", {
            json!("2019-12-31T23:59:59.9999999Z")
        }),
    ])
    .await;
}

#[tokio::test]
async fn times() {
    check(&[
        (
            "datetime_utc_to_local(datetime(2024-07-01 12:00), 'Europe/Berlin')",
            "datetime",
            json!("2024-07-01T14:00:00Z"),
        ),
        (
            "datetime_local_to_utc(datetime(2024-01-01 12:00), 'US/Pacific')",
            "datetime",
            json!("2024-01-01T20:00:00Z"),
        ),
        ("todatetime('Sat, 8 Nov 14 15:05:02 GMT')", "datetime", json!("2014-11-08T15:05:02Z")),
        ("make_datetime('2014-11-08')", "datetime", json!("2014-11-08T00:00:00Z")),
        ("make_timespan(1, 2, 3.5)", "timespan", json!("01:02:03.5000000")),
        ("make_timespan(1, 60)", "timespan", json!(null)),
        (
            "unixtime_nanoseconds_todatetime(1546300800000000100)",
            "datetime",
            json!("2019-01-01T00:00:00Z"),
        ),
        ("datetime() == now()", "bool", json!(true)),
    ])
    .await;
    let error = refusal("print datetime_utc_to_local(now(), 'Europe/Nowhere')").await;
    assert!(error.diagnostics()[0].message.contains("no time zone"), "{error}");
}

#[tokio::test]
async fn addresses() {
    check(&[
        ("parse_ipv4('192.168.1.1')", "long", json!(3_232_235_777_i64)),
        ("parse_ipv4('192.168.1.256')", "long", json!(null)),
        ("parse_ipv4_mask('192.168.1.1', 24)", "long", json!(3_232_235_776_i64)),
        ("parse_ipv6('127.0.0.1')", "string", json!("0000:0000:0000:0000:0000:ffff:7f00:0001")),
        ("parse_ipv6('x')", "string", json!("")),
        ("format_ipv4('192.168.1.1', 24)", "string", json!("192.168.1.0")),
        ("format_ipv4_mask(3232236034, 24)", "string", json!("192.168.2.0/24")),
        ("ipv4_compare('10.0.0.1', '10.0.0.2')", "long", json!(-1)),
        ("ipv4_compare('10.0.0.1', '10.0.0.2', 24)", "long", json!(0)),
        ("ipv4_is_match('10.0.0.1/24', '10.0.0.9')", "bool", json!(true)),
        ("ipv6_is_match('fe80::1', 'fe80::2', 64)", "bool", json!(true)),
        ("ipv4_is_in_range('10.1.2.3', '10.0.0.0/8')", "bool", json!(true)),
        (
            "ipv4_is_in_any_range('10.1.2.3', dynamic(['127.0.0.0/8', '10.0.0.0/8']))",
            "bool",
            json!(true),
        ),
        ("ipv4_is_in_any_range('10.1.2.3', '127.0.0.0/8', '11.0.0.0/8')", "bool", json!(false)),
        ("ipv4_is_private('192.168.0.1')", "bool", json!(true)),
        ("ipv4_is_private('x')", "bool", json!(null)),
        ("ipv4_netmask_suffix('10.1.2.3/9')", "long", json!(9)),
        (
            "ipv4_range_to_cidr_list('1.1.128.0', '1.1.140.255')",
            "dynamic",
            json!(["1.1.128.0/21", "1.1.136.0/22", "1.1.140.0/24"]),
        ),
        ("has_ipv4('a 127.0.0.1 b', '127.0.0.1')", "bool", json!(true)),
        ("has_ipv4('a127.0.0.1 b', '127.0.0.1')", "bool", json!(false)),
        ("has_ipv4_prefix('a 127.0.0.1 b', '127.0.')", "bool", json!(true)),
        ("has_ipv4_prefix('a 127.0.0.1 b', '127.0')", "bool", json!(false)),
        ("has_any_ipv4('a 127.0.0.1', dynamic(['1.1.1.1', '127.0.0.1']))", "bool", json!(true)),
    ])
    .await;
}

#[tokio::test]
async fn text_in_other_forms_is_not_longer_than_text_may_be() {
    for (call, function) in [
        ("regex_quote(strrep('.', 600000))", "regex_quote"),
        ("url_encode(strrep('?', 400000))", "url_encode"),
        ("base64_encode_tostring(strrep('a', 1000000))", "base64_encode_tostring"),
        ("base64_encode_fromarray(repeat(1, 1000000))", "base64_encode_fromarray"),
        ("unicode_codepoints_to_string(repeat(8364, 500000))", "unicode_codepoints_to_string"),
        ("translate('a', '€', strrep('a', 400000))", "translate"),
    ] {
        let error = refuse(&format!("print x = {call}")).await;
        let expect = format!("`{function}` makes a string of more than 1048576 bytes");
        assert!(error.to_string().contains(&expect), "{call}: {error}");
    }
}
