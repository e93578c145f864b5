//! Random calls of every function: whatever the arguments are, a call answers or is refused, and
//! no failure is one of the libraries beneath.

use super::{Body, Function, Parameter, REGISTRY};
use crate::query::{QueryError, QueryOptions, TableSource, run};
use datafusion::catalog::TableProvider;
use oms_core::clock::ManualClock;
use proptest::prelude::*;
use proptest::sample::Index;
use std::sync::Arc;

#[derive(Debug)]
struct NoTables;

impl TableSource for NoTables {
    fn table(&self, _name: &str) -> Option<Arc<dyn TableProvider>> {
        None
    }

    fn table_names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Literals of one type.
type Literals = &'static [&'static str];

const TEXTS: Literals = &[
    "''",
    "'a'",
    "'ü€😀'",
    "'https://u:p@h:1/p?a=1&a=%zz#f'",
    "'<a b=\"1\"><c/>t<c>&#66;</c></a>'",
    "'{\"a\":[1,{\"b\":null}]}'",
    "'10.1.2.3/33'",
    "'::ffff:1.2.3.4/129'",
    "'2020-02-30 25:61'",
    "'-10675199.02:48:05.4775808'",
    "'(?P<x>a*)|(b)'",
    "'['",
    "'xn--999999b'",
    "'day'",
    "'Meter'",
    "'Europe/Berlin'",
    "'yyyy-MM-dd HH:mm:ss.fffffff tt'",
    "'u33dbfc'",
    "'1234567'",
    "'8a2a1072b59ffff'",
    "'$.a[9999999999].b'",
    "'1e99999'",
    "'H4sIAAAAAAAA/wMAAAAAAAAAAAA='",
    "'windows'",
    "'linefit'",
    "strrep('aX', 100000)",
];
const LONGS: Literals = &[
    "0",
    "1",
    "-1",
    "3",
    "30",
    "64",
    "1000000007",
    "9223372036854775807",
    "(-9223372036854775807 - 1)",
    "long(null)",
];
const INTS: Literals = &["int(0)", "int(-1)", "int(2147483647)", "int(-2147483648)", "int(null)"];
const REALS: Literals = &[
    "0.0",
    "-0.0",
    "0.5",
    "90.0",
    "-180.0",
    "1e308",
    "-1e308",
    "5e-324",
    "1e18",
    "real(nan)",
    "real(+inf)",
    "real(-inf)",
    "real(null)",
];
const TIMES: Literals = &[
    "datetime(0001-01-01)",
    "datetime(9999-12-31 23:59:59.9999999)",
    "datetime(2024-02-29 12:30)",
    "datetime(null)",
];
const SPANS: Literals = &[
    "0s",
    "1tick",
    "-1d",
    "time(10675199.02:48:05.4775807)",
    "time(-10675199.02:48:05.4775808)",
    "time(null)",
];
const BOOLS: Literals = &["true", "false", "bool(null)"];
const GUIDS: Literals = &["guid(74be27de-1e4e-49d9-b579-fe0b331d3642)", "guid(null)"];
const DECIMALS: Literals = &[
    "decimal(0)",
    "decimal(-1.5)",
    "decimal(1e6000)",
    "decimal(1e-6000)",
    "decimal(9999999999999999999999999999999999)",
    "decimal(null)",
];
const DYNAMICS: Literals = &[
    "dynamic(null)",
    "dynamic([])",
    "dynamic({})",
    "dynamic(5)",
    "dynamic('text')",
    "dynamic([1, 2.5, 'a', null, [], {}, true, datetime(2020-01-01), 1h])",
    "dynamic([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1])",
    "dynamic([9223372036854775807, -9223372036854775808, 9007199254740993, 9007199254740992.0])",
    "dynamic([1e308, -1e308, 1e308, 0.0, -0.0])",
    "pack_array(real(nan), real(+inf), 1.0, long(null))",
    "dynamic([0.1, 0.2, 0.7])",
    "dynamic([0.0])",
    "dynamic([[1.0, 1e308], [2.0, 9223372036854775807], [3.0, -1]])",
    "dynamic({'a': {'b': [1, 2]}, 'c d': 2.5, '': null})",
    "dynamic(['a', 'b', 'a', '10.0.0.0/8'])",
    "dynamic({'type': 'Point', 'coordinates': [180, -90]})",
    "dynamic({'type': 'LineString', 'coordinates': [[0, 0], [179.999, 0], [-179.999, 1]]})",
    "dynamic({'type': 'LineString', 'coordinates': [[0, 0], [180, 0]]})",
    "dynamic({'type': 'Polygon', 'coordinates': [[[0, 0], [10, 0], [10, 10], [0, 0]]]})",
    "dynamic({'type': 'Polygon', 'coordinates': [[[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]]})",
    "dynamic({'type': 'Polygon', 'coordinates': [[[-180, 80], [0, 80], [90, 80], [-180, 80]]]})",
    "dynamic({'type': 'MultiPolygon', 'coordinates': []})",
    "dynamic([[0, 0], [1e300, 5]])",
    "range(1, 2000)",
    "toobject(strrep('[', 200))",
];

const ALL: &[Literals] =
    &[TEXTS, LONGS, INTS, REALS, TIMES, SPANS, BOOLS, GUIDS, DECIMALS, DYNAMICS];

/// What types of literals a parameter takes.
const fn taken(parameter: Parameter) -> &'static [Literals] {
    match parameter {
        Parameter::Any | Parameter::AsDynamic => ALL,
        Parameter::Text => &[TEXTS, TEXTS, TEXTS, LONGS, DYNAMICS],
        Parameter::Long => &[LONGS, LONGS, INTS, DYNAMICS],
        Parameter::Real => &[REALS, REALS, LONGS, DECIMALS, DYNAMICS],
        Parameter::DateTime => &[TIMES, TIMES, DYNAMICS],
        Parameter::TimeSpan => &[SPANS, SPANS, DYNAMICS],
        Parameter::Bool => &[BOOLS],
        Parameter::Dynamic => &[DYNAMICS],
    }
}

/// A call over two rows, of which each argument is a column or a constant.
fn query_of(function: &Function, count: Index, arguments: &[[Index; 4]]) -> String {
    let (least, most) = match function.body {
        Body::Kernel(kernel) => {
            let more = if kernel.repeats { 2 } else { 0 };
            (kernel.required, kernel.parameters.len() + more)
        }
        Body::Special(_) | Body::Several(_) => (0, 6),
    };
    let count = least + count.index(most - least + 1);
    let (mut columns, mut call) = (String::new(), Vec::new());
    for (at, [kind, first, second, constant]) in arguments.iter().take(count).enumerate() {
        let kinds = match function.body {
            Body::Kernel(kernel) => {
                let parameter = kernel.parameters.get(at).or(kernel.parameters.last());
                taken(parameter.copied().unwrap_or(Parameter::Any))
            }
            Body::Special(_) | Body::Several(_) => ALL,
        };
        let literals = kinds[kind.index(kinds.len())];
        let [first, second] = [first, second].map(|at| literals[at.index(literals.len())]);
        if constant.index(3) == 0 {
            call.push(first.to_owned());
        } else {
            columns.push_str(&format!("| extend a{at} = iff(i == 1, {first}, {second}) "));
            call.push(format!("a{at}"));
        }
    }
    let call = call.join(", ");
    format!("range i from 1 to 2 step 1 {columns}| project x = {}({call})", function.name)
}

fn query() -> impl Strategy<Value = String> {
    let mut functions: Vec<&'static Function> = REGISTRY.values().copied().collect();
    functions.sort_by_key(|function| function.name);
    let argument = any::<[Index; 4]>();
    let arguments = proptest::collection::vec(argument, 10);
    (prop::sample::select(functions), any::<Index>(), arguments)
        .prop_map(|(function, count, arguments)| query_of(function, count, &arguments))
}

proptest! {
    #[test]
    fn any_call_answers_or_is_refused(text in query()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let now = "2024-05-01T12:00:00Z".parse().expect("a time");
        let options = QueryOptions::new(Arc::new(ManualClock::new(now)));
        let answer = runtime.expect("a runtime").block_on(run(&NoTables, &text, &options));
        match answer {
            Ok(report) => prop_assert_eq!(report.rows().len(), 2, "{}", text),
            Err(error) => prop_assert!(
                !matches!(error, QueryError::Execution { .. } | QueryError::Memory { .. }),
                "{text}: {error:?}"
            ),
        }
    }
}
