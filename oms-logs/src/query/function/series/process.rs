//! Functions of whole series that make one value.

use super::super::arguments::{Args, Column};
use super::super::{Function, Naming, Parameter as P, kernel};
use super::element::pairs;
use super::filter::{finite_response, infinite_response};
use super::item::{Item, finite, items, reals, write_items, write_reals};
use super::season::{
    Choices, Fence, THRESHOLD_DEFAULT, Trend, decompose, outliers, seasonal as season_of,
};
use super::statistics::{Fit, fit_line, fit_two_lines, pearson, statistics};
use crate::query::dynamic::{View, Writer};
use crate::query::types::KqlType;
use datafusion::arrow::array::{ArrayRef, Float64Array};
use datafusion::common::Result;

const PLAIN: Naming = Naming::Default;
const ONE: &[P] = &[P::AsDynamic];
const TWO: &[P] = &[P::AsDynamic, P::AsDynamic];

pub(super) const FUNCTIONS: &[Function] = &[
    kernel("series_sum", PLAIN, ONE, KqlType::Real, |args| {
        total(args, |values| values.fold(0.0, add))
    }),
    kernel("series_product", PLAIN, ONE, KqlType::Real, |args| {
        total(args, |values| values.product())
    }),
    kernel("series_magnitude", PLAIN, ONE, KqlType::Real, |args| {
        total(args, |values| values.map(|value| value * value).fold(0.0, add).sqrt())
    }),
    kernel("series_dot_product", PLAIN, TWO, KqlType::Real, |args| {
        let (first, second) = (args.dynamic(0)?, args.dynamic(1)?);
        Ok(args.make_real(|row| dot_product(first.get(row), second.get(row))))
    }),
    kernel(
        "series_cosine_similarity",
        PLAIN,
        &[P::AsDynamic, P::AsDynamic, P::Real, P::Real],
        KqlType::Real,
        cosine,
    )
    .optional(2),
    kernel("series_pearson_correlation", PLAIN, TWO, KqlType::Real, |args| {
        let (first, second) = (args.dynamic(0)?, args.dynamic(1)?);
        Ok(args.make_real(|row| pearson(&finite(first.get(row))?, &finite(second.get(row))?)))
    }),
    kernel(
        "series_fir",
        Naming::FirstArgument,
        &[P::AsDynamic, P::AsDynamic, P::Bool, P::Bool],
        KqlType::Dynamic,
        fir,
    )
    .optional(2),
    kernel("series_iir", Naming::FirstArgument, &[P::AsDynamic; 3], KqlType::Dynamic, iir),
    kernel(
        "series_stats_dynamic",
        PLAIN,
        &[P::AsDynamic, P::Bool],
        KqlType::Dynamic,
        stats_dynamic,
    )
    .optional(1),
    kernel("series_fit_line_dynamic", PLAIN, ONE, KqlType::Dynamic, |args| {
        let series = args.dynamic(0)?;
        args.make_dynamic(|row, writer| {
            match finite(series.get(row)).and_then(|values| fit_line(&values, 1.0)) {
                Some(fit) => writer.bag(|parts| {
                    write_fit(parts, &fit);
                    parts.member("line_fit", |writer| write_reals(writer, &fit.line));
                }),
                None => writer.null(),
            }
        })
    }),
    kernel("series_fit_2lines_dynamic", PLAIN, ONE, KqlType::Dynamic, two_lines_dynamic),
    kernel(
        "series_outliers",
        Naming::FirstArgument,
        &[P::AsDynamic, P::Text, P::AsDynamic, P::Real, P::Real, P::Long],
        KqlType::Dynamic,
        outlier_scores,
    )
    .optional(1),
    kernel("series_seasonal", PLAIN, &[P::AsDynamic, P::Long, P::Long], KqlType::Dynamic, seasonal)
        .optional(1),
    kernel(
        "series_decompose_forecast",
        PLAIN,
        &[P::AsDynamic, P::Long, P::Long, P::Text, P::Real],
        KqlType::Dynamic,
        forecast,
    )
    .optional(2),
];

/// Of the numbers of each row's series; null of none.
fn total(
    args: &Args<'_>,
    f: impl Fn(std::iter::Flatten<std::vec::IntoIter<Option<f64>>>) -> f64,
) -> Result<ArrayRef> {
    let series = args.dynamic(0)?;
    Ok(args.make_real(|row| Some(f(reals(series.get(row))?.into_iter().flatten()))))
}

/// The sum of no numbers is zero, and not its opposite.
fn add(a: f64, b: f64) -> f64 {
    a + b
}

/// Of the elements that both have.
fn dot_product(first: View<'_>, second: View<'_>) -> Option<f64> {
    // A number by itself stands for as many as the other series has.
    let is_empty =
        |series: View<'_>| series.as_array().is_some_and(|items| items.iter().len() == 0);
    if is_empty(first) || is_empty(second) {
        return None;
    }
    let pairs = pairs(first, second)?;
    Some(pairs.into_iter().filter_map(|(a, b)| Some(a.real()? * b.real()?)).fold(0.0, add))
}

fn cosine(args: &Args<'_>) -> Result<ArrayRef> {
    let (first, second) = (args.dynamic(0)?, args.dynamic(1)?);
    let given = |at| if at < args.len() { args.real(at).map(Some) } else { Ok(None) };
    let lengths = [given(2)?, given(3)?];
    Ok(args.make_real(|row| {
        let pairs = pairs(first.get(row), second.get(row))?;
        let pairs: Vec<(f64, f64)> =
            pairs.into_iter().filter_map(|(a, b)| Some((a.real()?, b.real()?))).collect();
        if pairs.is_empty() {
            return None;
        }
        let length = |at: usize, computed: f64| match &lengths[at] {
            Some(given) => given.get(row),
            None => Some(computed.sqrt()),
        };
        let a = length(0, pairs.iter().map(|(a, _)| a * a).sum())?;
        let b = length(1, pairs.iter().map(|(_, b)| b * b).sum())?;
        Some(pairs.iter().map(|(a, b)| a * b).sum::<f64>() / (a * b))
    }))
}

fn optional_bool(args: &Args<'_>, at: usize) -> Result<impl Fn(usize) -> Option<bool>> {
    let given = if at < args.len() { Some(args.bool(at)?) } else { None };
    Ok(move |row| given.as_ref().and_then(|given| given.get(row)))
}

fn fir(args: &Args<'_>) -> Result<ArrayRef> {
    let (series, filter) = (args.dynamic(0)?, args.dynamic(1)?);
    let (normalize, center) = (optional_bool(args, 2)?, optional_bool(args, 3)?);
    args.make_dynamic(|row, writer| {
        let (Some(values), Some(weights)) = (finite(series.get(row)), finite(filter.get(row)))
        else {
            return writer.null();
        };
        let has_negative = weights.iter().any(|weight| *weight < 0.0);
        let normalize = normalize(row).unwrap_or(!has_negative);
        if normalize && has_negative {
            return writer.null();
        }
        let made = finite_response(&values, &weights, normalize, center(row).unwrap_or(false));
        let Some(made) = made else { return writer.null() };
        let is_whole = |view| {
            items(view).is_some_and(|all| all.iter().all(|item| matches!(item, Item::Long(_))))
        };
        if !normalize && is_whole(series.get(row)) && is_whole(filter.get(row)) {
            let made: Vec<Item> = made.into_iter().map(|value| Item::Long(value as i64)).collect();
            write_items(writer, &made);
        } else {
            write_reals(writer, &made);
        }
    })
}

fn iir(args: &Args<'_>) -> Result<ArrayRef> {
    let (series, above, below) = (args.dynamic(0)?, args.dynamic(1)?, args.dynamic(2)?);
    args.make_dynamic(|row, writer| {
        let made = || {
            let (above, below) = (finite(above.get(row))?, finite(below.get(row))?);
            infinite_response(&finite(series.get(row))?, &above, &below)
        };
        match made() {
            Some(made) => write_reals(writer, &made),
            None => writer.null(),
        }
    })
}

/// The values to count: `None` if some are not finite and these are not to be ignored.
pub(super) fn countable(view: View<'_>, ignore: bool) -> Option<Vec<Option<f64>>> {
    let values = reals(view)?;
    let values: Vec<Option<f64>> =
        values.into_iter().map(|value| value.filter(|value| value.is_finite())).collect();
    (ignore || values.iter().all(Option::is_some)).then_some(values)
}

fn stats_dynamic(args: &Args<'_>) -> Result<ArrayRef> {
    let series = args.dynamic(0)?;
    let ignore = optional_bool(args, 1)?;
    args.make_dynamic(|row, writer| {
        let values = countable(series.get(row), ignore(row).unwrap_or(false));
        let Some(all) = values.and_then(|values| statistics(&values)) else {
            return writer.null();
        };
        writer.bag(|parts| {
            let index = |at: usize| i64::try_from(at).unwrap_or(i64::MAX);
            parts.member("min", |writer| writer.real(all.min));
            parts.member("min_idx", |writer| writer.long(index(all.min_index)));
            parts.member("max", |writer| writer.real(all.max));
            parts.member("max_idx", |writer| writer.long(index(all.max_index)));
            parts.member("avg", |writer| writer.real(all.average));
            parts.member("stdev", |writer| writer.real(all.variance.sqrt()));
            parts.member("variance", |writer| writer.real(all.variance));
            parts.member("sum", |writer| writer.real(all.sum));
            parts.member("len", |writer| writer.long(index(all.count)));
        });
    })
}

fn write_fit(parts: &mut crate::query::dynamic::Parts, fit: &Fit) {
    parts.member("rsquare", |writer| writer.real(fit.r_square));
    parts.member("slope", |writer| writer.real(fit.slope));
    parts.member("variance", |writer| writer.real(fit.variance));
    parts.member("rvariance", |writer| writer.real(fit.residual));
    parts.member("interception", |writer| writer.real(fit.interception));
}

fn two_lines_dynamic(args: &Args<'_>) -> Result<ArrayRef> {
    let series = args.dynamic(0)?;
    args.make_dynamic(|row, writer| {
        let Some(fit) = finite(series.get(row)).and_then(|values| fit_two_lines(&values)) else {
            return writer.null();
        };
        writer.bag(|parts| {
            parts.member("rsquare", |writer| writer.real(fit.r_square));
            let split = i64::try_from(fit.split).unwrap_or(i64::MAX);
            parts.member("split_idx", |writer| writer.long(split));
            parts.member("variance", |writer| writer.real(fit.variance));
            parts.member("rvariance", |writer| writer.real(fit.residual));
            parts.member("line_fit", |writer| write_reals(writer, &fit.line));
            parts.member("right", |writer| writer.bag(|parts| write_fit(parts, &fit.right)));
            parts.member("left", |writer| writer.bag(|parts| write_fit(parts, &fit.left)));
        });
    })
}

/// The method of a name; percentages that are not between 2 and 98 are not valid.
pub(super) fn fence(kind: &str, low: f64, high: f64) -> Option<Fence> {
    let valid = |percent: f64| (2.0..=98.0).contains(&percent);
    match kind {
        "tukey" => Some(Fence::Quartiles),
        "ctukey" | "" if valid(low) && valid(high) && low < high => {
            Some(Fence::Trimmed { low, high })
        }
        _ => None,
    }
}

fn outlier_scores(args: &Args<'_>) -> Result<ArrayRef> {
    let series = args.dynamic(0)?;
    let kind = if args.len() > 1 { Some(args.text(1)?) } else { None };
    let ignored = if args.len() > 2 { Some(args.dynamic(2)?) } else { None };
    let low = if args.len() > 3 { Some(args.real(3)?) } else { None };
    let high = if args.len() > 4 { Some(args.real(4)?) } else { None };
    let test_points = if args.len() > 5 { Some(args.long(5)?) } else { None };
    args.make_dynamic(|row, writer| {
        let scores = || {
            let ignored = ignored.as_ref().and_then(|all| Item::of(all.get(row)).real());
            let kept = |value: Option<f64>| value.filter(|value| Some(*value) != ignored);
            let values: Vec<_> = reals(series.get(row))?.into_iter().map(kept).collect();
            let percent = |given: &Option<Column<Float64Array>>, default| {
                given.as_ref().map_or(Some(default), |given| given.get(row))
            };
            let kind = kind.as_ref().map_or("", |kind| kind.get(row));
            let fence = fence(kind, percent(&low, 10.0)?, percent(&high, 90.0)?)?;
            let test_points = test_points.as_ref().map_or(Some(0), |given| given.get(row))?;
            Some(outliers(&values, fence, usize::try_from(test_points).ok()?))
        };
        match scores() {
            Some(scores) => write_reals(writer, &scores),
            None => writer.null(),
        }
    })
}

fn write_or_null(writer: &mut Writer<'_>, values: Option<Vec<f64>>) {
    match values {
        Some(values) => write_reals(writer, &values),
        None => writer.null(),
    }
}

fn seasonal(args: &Args<'_>) -> Result<ArrayRef> {
    let series = args.dynamic(0)?;
    let season = if args.len() > 1 { Some(args.long(1)?) } else { None };
    let test_points = if args.len() > 2 { Some(args.long(2)?) } else { None };
    args.make_dynamic(|row, writer| {
        let made = || {
            let season = season.as_ref().map_or(Some(-1), |given| given.get(row))?;
            let test_points = test_points.as_ref().map_or(Some(0), |given| given.get(row))?;
            let test_points = usize::try_from(test_points).ok()?;
            Some(season_of(&finite(series.get(row))?, season, test_points, THRESHOLD_DEFAULT))
        };
        write_or_null(writer, made());
    })
}

/// The elements as numbers, and those at the end that are not learned from as zero if there are
/// none.
pub(super) fn learnable(view: View<'_>, test_points: usize) -> Option<Vec<f64>> {
    let mut values = reals(view)?;
    let known = values.len().saturating_sub(test_points);
    values[known..].iter_mut().for_each(|value| *value = value.or(Some(0.0)));
    values.into_iter().map(|value| value.filter(|value| value.is_finite())).collect()
}

fn forecast(args: &Args<'_>) -> Result<ArrayRef> {
    let (series, points) = (args.dynamic(0)?, args.long(1)?);
    let season = if args.len() > 2 { Some(args.long(2)?) } else { None };
    let trend = if args.len() > 3 { Some(args.text(3)?) } else { None };
    let threshold = if args.len() > 4 { Some(args.real(4)?) } else { None };
    args.make_dynamic(|row, writer| {
        let made = || {
            let test_points = usize::try_from(points.get(row)?).ok()?;
            let default = Some(THRESHOLD_DEFAULT);
            let choices = Choices {
                season: season.as_ref().map_or(Some(-1), |given| given.get(row))?,
                trend: Trend::of_name(trend.as_ref().map_or("linefit", |given| given.get(row)))?,
                test_points,
                threshold: threshold.as_ref().map_or(default, |given| given.get(row))?,
            };
            Some(decompose(&learnable(series.get(row), test_points)?, choices).baseline)
        };
        write_or_null(writer, made());
    })
}
