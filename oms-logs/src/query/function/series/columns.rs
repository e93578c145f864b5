//! Functions of series that make several columns.

use super::super::arguments::{Args, Column};
use super::super::several::SeveralKernel;
use super::super::{Call, Function, Naming, Parameter as P, Several, several};
use super::filter::{Complex, fourier};
use super::item::{finite, write_reals};
use super::process::{countable, fence, learnable};
use super::season::{Choices, THRESHOLD_DEFAULT, Trend, decompose, detect, outliers, validate};
use super::statistics::{Fit, fit_line, fit_polynomial, fit_two_lines, statistics};
use crate::query::bound::Expr;
use crate::query::diagnostic::Problem;
use crate::query::dynamic::{Parts, Writer};
use crate::query::types::KqlType::{Dynamic, Long, Real};
use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, StringViewArray};
use datafusion::common::Result as DfResult;

/// The most periods that are detected or validated.
const PERIODS_MAX: i64 = 1 << 10;

/// The highest power of a polynomial.
const DEGREE_MAX: i64 = 32;

pub(super) const FUNCTIONS: &[Function] = &[
    several("series_stats", Naming::Default, bind),
    several("series_fit_line", Naming::Default, bind),
    several("series_fit_2lines", Naming::Default, bind),
    several("series_fit_poly", Naming::Default, bind),
    several("series_periods_detect", Naming::Default, bind),
    several("series_periods_validate", Naming::Default, bind),
    several("series_fft", Naming::Default, bind),
    several("series_ifft", Naming::Default, bind),
    several("series_decompose", Naming::Default, bind),
    several("series_decompose_anomalies", Naming::Default, bind),
];

fn bind(
    call: &Call<'_>,
    arguments: Vec<Expr>,
    names: &[Option<String>],
) -> Result<Several, Problem> {
    match KERNELS.iter().find(|kernel| kernel.name == call.name) {
        Some(kernel) => kernel.bind(call, arguments, names),
        None => Err(call.problem("no such function")),
    }
}

const KERNELS: &[SeveralKernel] = &[
    SeveralKernel::new(
        "series_stats",
        &[
            ("min", Real),
            ("min_idx", Long),
            ("max", Real),
            ("max_idx", Long),
            ("avg", Real),
            ("stdev", Real),
            ("variance", Real),
        ],
        &[P::AsDynamic, P::Bool],
        1,
        stats,
    ),
    SeveralKernel::new(
        "series_fit_line",
        &[
            ("rsquare", Real),
            ("slope", Real),
            ("variance", Real),
            ("rvariance", Real),
            ("interception", Real),
            ("line_fit", Dynamic),
        ],
        &[P::AsDynamic],
        1,
        line,
    ),
    SeveralKernel::new(
        "series_fit_2lines",
        &[
            ("rsquare", Real),
            ("split_idx", Long),
            ("variance", Real),
            ("rvariance", Real),
            ("line_fit", Dynamic),
            ("right_rsquare", Real),
            ("right_slope", Real),
            ("right_interception", Real),
            ("right_variance", Real),
            ("right_rvariance", Real),
            ("left_rsquare", Real),
            ("left_slope", Real),
            ("left_interception", Real),
            ("left_variance", Real),
            ("left_rvariance", Real),
        ],
        &[P::AsDynamic],
        1,
        two_lines,
    ),
    SeveralKernel::new(
        "series_fit_poly",
        &[
            ("rsquare", Real),
            ("coefficients", Dynamic),
            ("variance", Real),
            ("rvariance", Real),
            ("poly_fit", Dynamic),
        ],
        &[P::AsDynamic, P::AsDynamic, P::Long],
        1,
        polynomial,
    ),
    SeveralKernel::new(
        "series_periods_detect",
        &[("periods", Dynamic), ("scores", Dynamic)],
        &[P::AsDynamic, P::Real, P::Real, P::Long],
        4,
        periods,
    ),
    SeveralKernel::new(
        "series_periods_validate",
        &[("periods", Dynamic), ("scores", Dynamic)],
        &[P::AsDynamic, P::Real],
        2,
        validated,
    )
    .repeated(),
    SeveralKernel::new(
        "series_fft",
        &[("real", Dynamic), ("imag", Dynamic)],
        &[P::AsDynamic, P::AsDynamic],
        1,
        |args| transformed(args, false),
    ),
    SeveralKernel::new(
        "series_ifft",
        &[("real", Dynamic), ("imag", Dynamic)],
        &[P::AsDynamic, P::AsDynamic],
        1,
        |args| transformed(args, true),
    ),
    SeveralKernel::new(
        "series_decompose",
        &[("baseline", Dynamic), ("seasonal", Dynamic), ("trend", Dynamic), ("residual", Dynamic)],
        &[P::AsDynamic, P::Long, P::Text, P::Long, P::Real],
        1,
        decomposed,
    ),
    SeveralKernel::new(
        "series_decompose_anomalies",
        &[("ad_flag", Dynamic), ("ad_score", Dynamic), ("baseline", Dynamic)],
        &[P::AsDynamic, P::Real, P::Long, P::Text, P::Long, P::Text, P::Real],
        1,
        anomalies,
    ),
];

/// The parts that `each` writes of each row. An array without parts is null in every column.
fn make(args: &Args<'_>, each: impl Fn(usize, &mut Parts) -> Option<()>) -> DfResult<ArrayRef> {
    args.make_dynamic(|row, writer| {
        writer.array(|parts| each(row, parts).unwrap_or_default());
    })
}

fn real(parts: &mut Parts, value: f64) {
    parts.item(|writer| writer.real(value));
}

fn index(parts: &mut Parts, value: usize) {
    parts.item(|writer| writer.long(i64::try_from(value).unwrap_or(i64::MAX)));
}

fn series(parts: &mut Parts, values: &[f64]) {
    parts.item(|writer: &mut Writer<'_>| write_reals(writer, values));
}

fn stats(args: &Args<'_>) -> DfResult<ArrayRef> {
    let values = args.dynamic(0)?;
    let ignore = if args.len() > 1 { Some(args.bool(1)?) } else { None };
    make(args, |row, parts| {
        let ignore = ignore.as_ref().and_then(|ignore| ignore.get(row)).unwrap_or(false);
        let all = statistics(&countable(values.get(row), ignore)?)?;
        real(parts, all.min);
        index(parts, all.min_index);
        real(parts, all.max);
        index(parts, all.max_index);
        real(parts, all.average);
        real(parts, all.variance.sqrt());
        real(parts, all.variance);
        Some(())
    })
}

fn line(args: &Args<'_>) -> DfResult<ArrayRef> {
    let values = args.dynamic(0)?;
    make(args, |row, parts| {
        let fit = fit_line(&finite(values.get(row))?, 1.0)?;
        let numbers = [fit.r_square, fit.slope, fit.variance, fit.residual, fit.interception];
        numbers.into_iter().for_each(|value| real(parts, value));
        series(parts, &fit.line);
        Some(())
    })
}

fn two_lines(args: &Args<'_>) -> DfResult<ArrayRef> {
    let values = args.dynamic(0)?;
    make(args, |row, parts| {
        let fit = fit_two_lines(&finite(values.get(row))?)?;
        real(parts, fit.r_square);
        index(parts, fit.split);
        real(parts, fit.variance);
        real(parts, fit.residual);
        series(parts, &fit.line);
        let mut side = |fit: &Fit| {
            let numbers = [fit.r_square, fit.slope, fit.interception, fit.variance, fit.residual];
            numbers.into_iter().for_each(|value| real(parts, value));
        };
        side(&fit.right);
        side(&fit.left);
        Some(())
    })
}

fn polynomial(args: &Args<'_>) -> DfResult<ArrayRef> {
    let ys = args.dynamic(0)?;
    let xs = if args.len() > 1 { Some(args.dynamic(1)?) } else { None };
    let degree = if args.len() > 2 { Some(args.long(2)?) } else { None };
    make(args, |row, parts| {
        let ys = finite(ys.get(row))?;
        let xs = match &xs {
            Some(xs) => finite(xs.get(row))?,
            None => (1..=ys.len()).map(|x| x as f64).collect(),
        };
        let degree = degree.as_ref().map_or(Some(1), |degree| degree.get(row))?;
        let degree = usize::try_from(degree).ok().filter(|_| degree <= DEGREE_MAX)?;
        let fit = fit_polynomial(&ys, &xs, degree)?;
        real(parts, fit.r_square);
        series(parts, &fit.coefficients);
        real(parts, fit.variance);
        real(parts, fit.residual);
        series(parts, &fit.curve);
        Some(())
    })
}

fn periods(args: &Args<'_>) -> DfResult<ArrayRef> {
    let (values, least, most) = (args.dynamic(0)?, args.real(1)?, args.real(2)?);
    let count = args.long(3)?;
    make(args, |row, parts| {
        let count = count.get(row).filter(|count| (1..=PERIODS_MAX).contains(count))?;
        let count = usize::try_from(count).ok()?;
        let values = finite(values.get(row))?;
        let mut found = detect(&values, least.get(row)?, most.get(row)?, count);
        found.resize(count, (0.0, 0.0));
        let (periods, scores): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        series(parts, &periods);
        series(parts, &scores);
        Some(())
    })
}

fn validated(args: &Args<'_>) -> DfResult<ArrayRef> {
    let values = args.dynamic(0)?;
    let periods = (1..args.len()).map(|at| args.real(at)).collect::<DfResult<Vec<_>>>()?;
    make(args, |row, parts| {
        let periods = periods.iter().map(|period| period.get(row)).collect::<Option<Vec<_>>>()?;
        let scores = validate(&finite(values.get(row))?, &periods);
        series(parts, &periods);
        series(parts, &scores);
        Some(())
    })
}

fn transformed(args: &Args<'_>, inverse: bool) -> DfResult<ArrayRef> {
    let real = args.dynamic(0)?;
    let imaginary = if args.len() > 1 { Some(args.dynamic(1)?) } else { None };
    make(args, |row, parts| {
        let real = finite(real.get(row))?;
        let imaginary = match &imaginary {
            Some(imaginary) => finite(imaginary.get(row))?,
            None => vec![0.0; real.len()],
        };
        if real.len() != imaginary.len() {
            return None;
        }
        let values: Vec<Complex> = real.into_iter().zip(imaginary).collect();
        let (real, imaginary): (Vec<_>, Vec<_>) = fourier(&values, inverse).into_iter().unzip();
        series(parts, &real);
        series(parts, &imaginary);
        Some(())
    })
}

/// The arguments of a decomposition, each of which can be missing.
#[derive(Debug)]
struct ChoiceColumns {
    season: Option<Column<Int64Array>>,
    trend: Option<Column<StringViewArray>>,
    test_points: Option<Column<Int64Array>>,
    threshold: Option<Column<Float64Array>>,
}

impl ChoiceColumns {
    fn new(args: &Args<'_>, at: [usize; 4]) -> DfResult<Self> {
        let is_given = |at: usize| at < args.len();
        let [season, trend, test_points, threshold] = at;
        Ok(Self {
            season: is_given(season).then(|| args.long(season)).transpose()?,
            trend: is_given(trend).then(|| args.text(trend)).transpose()?,
            test_points: is_given(test_points).then(|| args.long(test_points)).transpose()?,
            threshold: is_given(threshold).then(|| args.real(threshold)).transpose()?,
        })
    }

    fn get(&self, row: usize) -> Option<Choices> {
        let test_points = self.test_points.as_ref().map_or(Some(0), |given| given.get(row))?;
        let default = Some(THRESHOLD_DEFAULT);
        Some(Choices {
            season: self.season.as_ref().map_or(Some(-1), |given| given.get(row))?,
            trend: Trend::of_name(self.trend.as_ref().map_or("avg", |given| given.get(row)))?,
            test_points: usize::try_from(test_points).ok()?,
            threshold: self.threshold.as_ref().map_or(default, |given| given.get(row))?,
        })
    }
}

fn decomposed(args: &Args<'_>) -> DfResult<ArrayRef> {
    let values = args.dynamic(0)?;
    let choices = ChoiceColumns::new(args, [1, 2, 3, 4])?;
    make(args, |row, parts| {
        let choices = choices.get(row)?;
        let made = decompose(&learnable(values.get(row), choices.test_points)?, choices);
        for part in [&made.baseline, &made.seasonal, &made.trend, &made.residual] {
            series(parts, part);
        }
        Some(())
    })
}

fn anomalies(args: &Args<'_>) -> DfResult<ArrayRef> {
    const FENCE_DEFAULT: f64 = 1.5;
    let values = args.dynamic(0)?;
    let limit = if args.len() > 1 { Some(args.real(1)?) } else { None };
    let choices = ChoiceColumns::new(args, [2, 3, 4, 6])?;
    let method = if args.len() > 5 { Some(args.text(5)?) } else { None };
    make(args, |row, parts| {
        let choices = choices.get(row)?;
        let limit = limit.as_ref().map_or(Some(FENCE_DEFAULT), |given| given.get(row))?;
        let method = method.as_ref().map_or("ctukey", |given| given.get(row));
        let values = learnable(values.get(row), choices.test_points)?;
        let made = decompose(&values, choices);
        let rest: Vec<Option<f64>> = made.residual.iter().copied().map(Some).collect();
        let scores = outliers(&rest, fence(method, 10.0, 90.0)?, choices.test_points);
        parts.item(|writer| {
            writer.array(|flags| {
                for score in &scores {
                    let flag = i64::from(*score > limit) - i64::from(*score < -limit);
                    flags.item(|writer| writer.long(flag));
                }
            });
        });
        series(parts, &scores);
        series(parts, &made.baseline);
        Some(())
    })
}
