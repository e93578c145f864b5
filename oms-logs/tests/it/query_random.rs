//! Random queries: whatever they are, they answer or are refused, and nothing is a defect.

use crate::query::{options, tables};
use oms_core::ErrorKind;
use oms_logs::query;
use proptest::prelude::*;

/// Words that make queries which often bind.
fn word() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "| where ",
        "| extend a = ",
        "| summarize ",
        "| sort by ",
        "| project ",
        "| take ",
        "| top 2 by ",
        "| distinct ",
        "| count ",
        " by ",
        ", ",
        "(",
        ")",
        "Computer ",
        "CounterValue ",
        "Core ",
        "TimeGenerated ",
        "Took ",
        "a ",
        "count() ",
        "sum(",
        "avg(",
        "max(",
        "dcount(",
        "percentile(",
        "bin(",
        "tostring(",
        "tolong(",
        "iff(",
        "strcat(",
        "substring(",
        "isnull(",
        "not(",
        "abs(",
        "startofmonth(",
        "datetime_diff('day', ",
        "case(",
        "coalesce(",
        "min_of(",
        "== ",
        "!= ",
        "< ",
        ">= ",
        "+ ",
        "- ",
        "* ",
        "/ ",
        "% ",
        "and ",
        "or ",
        "has ",
        "contains ",
        "in (",
        "between (",
        ".. ",
        "'x' ",
        "'' ",
        "0 ",
        "1 ",
        "-1 ",
        "2.5 ",
        "1h ",
        "0s ",
        "9223372036854775807 ",
        "int(null) ",
        "real(nan) ",
        "datetime(9999-12-31) ",
        "datetime(null) ",
        "dynamic([1]) ",
        "true ",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_words_are_bound_and_run_without_panic(
        words in prop::collection::vec(word(), 0..9),
    ) {
        let text = format!("Perf {}", words.concat());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let result = runtime
            .expect("a runtime")
            .block_on(query::run(&tables(), &text, &options()));
        if let Err(error) = result {
            prop_assert!(error.kind() != ErrorKind::Internal, "{text}: {error:?}");
        }
    }

    #[test]
    fn well_typed_queries_run(steps in prop::collection::vec(step(), 1..5)) {
        let text = format!("Perf {}", steps.concat());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let result = runtime
            .expect("a runtime")
            .block_on(query::run(&tables(), &text, &options()));
        match result {
            Ok(report) => prop_assert_eq!(report.rows().len(), report.statistics.rows_returned),
            Err(error) => prop_assert!(error.kind() == ErrorKind::Invalid, "{text}: {error:?}"),
        }
    }

    #[test]
    fn any_operation_on_any_values_answers(
        left in value(),
        operator in prop::sample::select(vec!["+", "-", "*", "/", "%", "==", "!=", "<", ">=", "has", "in"]),
        right in value(),
    ) {
        let text = format!("print x = {left} {operator} ({right})");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let result = runtime
            .expect("a runtime")
            .block_on(query::run(&tables(), &text, &options()));
        if let Err(error) = result {
            prop_assert!(error.kind() != ErrorKind::Internal, "{text}: {error:?}");
        }
    }
}

fn value() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "0",
        "1",
        "-1",
        "9223372036854775807",
        "-9223372036854775808",
        "int(2147483647)",
        "int(null)",
        "long(null)",
        "0.0",
        "-0.0",
        "1e308",
        "real(nan)",
        "real(+inf)",
        "real(null)",
        "true",
        "bool(null)",
        "''",
        "'a'",
        "1d",
        "-10675199d",
        "0s",
        "timespan(null)",
        "datetime(0001-01-01)",
        "datetime(9999-12-31 23:59:59.9999999)",
        "datetime(null)",
        "dynamic(null)",
        "dynamic([1])",
        "guid(null)",
        "guid(74be27de-1e4e-49d9-b579-fe0b331d3642)",
        "decimal(1.5)",
        "bin(1, 0)",
        "pow(10, 400)",
        "tolong('x')",
        "make_datetime(2020, 13, 1)",
        "exp(1000)",
        "round(1.5, 1000)",
        "substring('abc', -9223372036854775808, 5)",
        "strrep('a', -1)",
        "datetime_add('year', 9223372036854775807, datetime(2020-01-01))",
        "startofyear(datetime(2020-01-01), 9223372036854775807)",
        "endofweek(datetime(9999-12-31), 9223372036854775807)",
        "format_timespan(-10675199d, 'dddddddddddddddddd')",
        "make_timespan(1, 2, 3, 4)",
        "abs(-9223372036854775808)",
        "min_of(1, real(nan))",
        "totimespan('99999999999.00:00:00')",
        "unixtime_seconds_todatetime(1e300)",
        "toint(1e300)",
        "strcat('a', 1, 1h, true)",
        "indexof('abc', 'c', -5)",
        "bin_at(1.0, 0.0, 1.0)",
    ])
}

/// Expressions of three types over the columns of `Perf` and each other.
fn typed() -> impl Strategy<Value = (String, String, String)> {
    let number = prop::sample::select(vec![
        "Core",
        "CounterValue",
        "1",
        "-2.5",
        "int(null)",
        "real(nan)",
        "long(null)",
        "0",
    ]);
    let text = prop::sample::select(vec!["Computer", "CounterName", "'web1'", "''"]);
    let time = prop::sample::select(vec![
        "TimeGenerated",
        "ago(1h)",
        "datetime(null)",
        "datetime(2024-05-01 10:00:00.0000001)",
    ]);
    let leaf = (number, text, time)
        .prop_map(|(number, text, time)| (number.to_owned(), text.to_owned(), time.to_owned()));
    leaf.prop_recursive(3, 24, 2, |inner| {
        (inner.clone(), inner, 0..10_usize).prop_map(|((n, s, t), (m, z, u), which)| {
            let number = match which {
                0 => format!("({n} + {m})"),
                1 => format!("({n} % {m})"),
                2 => format!("abs({n})"),
                3 => format!("iff({s} has {z}, {n}, {m})"),
                4 => format!("strlen({s})"),
                5 => format!("coalesce({n}, {m})"),
                6 => format!("bin({n}, 2)"),
                7 => format!("datetime_diff('minute', {t}, {u})"),
                8 => format!("(({t} - {u}) / 1m)"),
                _ => format!("todouble({s})"),
            };
            let text = match which {
                0 => format!("strcat({s}, {n}, {t})"),
                1 => format!("toupper({s})"),
                2 => format!("tostring({t} == {u})"),
                3 => format!("substring({s}, tolong({n}), 2)"),
                4 => format!("case({n} > {m}, {s}, {t} < {u}, {z}, 'other')"),
                5 => format!("tostring({n} !in (1, 2.5) and {s} != {z})"),
                6 => format!("iff({n} == {m}, {s}, {z})"),
                7 => format!("tostring({n} between (0 .. 10) or isempty({s}))"),
                8 => format!("format_datetime({t}, 'yyyy-MM-dd')"),
                _ => format!("coalesce({s}, {z})"),
            };
            let time = match which {
                0 => format!("bin({t}, 1h)"),
                1 => format!("({t} + 1tick)"),
                2 => format!("startofday({t})"),
                3 => format!("min_of({t}, {u})"),
                4 => format!("iff({n} < {m}, {t}, {u})"),
                _ => format!("max_of({t}, {u})"),
            };
            (number, text, time)
        })
    })
}

fn step() -> impl Strategy<Value = String> {
    (typed(), typed(), 0..14_usize).prop_map(|((n, s, t), (m, z, u), which)| match which {
        0 => format!("| where {n} > {m} "),
        1 => format!("| where {s} == {z} or {t} >= {u} "),
        2 => format!("| where not({s} startswith_cs {z}) and {n} != {m} "),
        3 => format!("| extend Core = {n}, Computer = {s} "),
        4 => format!("| extend TimeGenerated = {t}, CounterValue = todouble({m}) "),
        5 => format!("| summarize Core = sum({n}), CounterValue = avg({m}), CounterName = take_any({s}) by Computer = {z}, TimeGenerated = {t} "),
        6 => format!("| summarize CounterValue = max({n}), Core = dcount({s}), Computer = min({z}), CounterName = max({s}) by TimeGenerated = {u} "),
        7 => format!("| sort by {n} asc, {s} | take 4 "),
        8 => format!("| top 3 by {t} asc nulls last "),
        9 => "| distinct TimeGenerated, Computer, CounterName, CounterValue, Core ".to_owned(),
        10 => "| union Perf ".to_owned(),
        11 => format!("| join kind=leftouter (Perf | extend Computer = {z}) on Computer "),
        12 => "| join kind=fullouter (Perf | take 3) on TimeGenerated, Core ".to_owned(),
        _ => format!("| summarize arg_max({t}, *), CounterValue2 = percentile({n}, 50), c = countif({s} has {z}) by Computer "),
    })
}
