//! Points in time and lengths of time.

use super::arguments::Args;
use super::kernel::{KernelFn, call as kernel_call};
use super::{Call, Function, Naming, Parameter, cast, coerce, kernel, special};
use crate::query::bound::Expr;
use crate::query::diagnostic::Problem;
use crate::query::time::{
    self, Date, TICKS_PER_DAY, TICKS_PER_HOUR, TICKS_PER_MICROSECOND, TICKS_PER_MILLISECOND,
    TICKS_PER_MINUTE, TICKS_PER_SECOND, add_months, date_of, ticks_of_date,
};
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result as DfResult;
use datafusion::scalar::ScalarValue;

const PLAIN: Naming = Naming::Default;
const WITH_OFFSET: &[Parameter] = &[Parameter::DateTime, Parameter::Long];
const AT: &[Parameter] = &[Parameter::DateTime];

/// `startof…` and `endof…`: a datetime and, if given, how many periods later.
const fn edge(name: &'static str, naming: Naming, run: KernelFn) -> Function {
    kernel(name, naming, WITH_OFFSET, KqlType::DateTime, run).optional(1)
}

pub(super) const FUNCTIONS: &[Function] = &[
    special("now", PLAIN, now),
    special("ago", PLAIN, ago),
    edge("startofhour", PLAIN, |a| period(a, Period::Hour, false)),
    edge("endofhour", PLAIN, |a| period(a, Period::Hour, true)),
    edge("startofday", Naming::FirstArgument, |a| period(a, Period::Day, false)),
    edge("endofday", PLAIN, |a| period(a, Period::Day, true)),
    edge("startofweek", PLAIN, |a| period(a, Period::Week, false)),
    edge("endofweek", PLAIN, |a| period(a, Period::Week, true)),
    edge("startofmonth", PLAIN, |a| period(a, Period::Month, false)),
    edge("endofmonth", PLAIN, |a| period(a, Period::Month, true)),
    edge("startofyear", PLAIN, |a| period(a, Period::Year, false)),
    edge("endofyear", PLAIN, |a| period(a, Period::Year, true)),
    kernel("dayofweek", PLAIN, AT, KqlType::TimeSpan, |a| {
        each(a, |t| day_of_week(t) * TICKS_PER_DAY)
    }),
    special("dayofmonth", PLAIN, |call, arguments| part(call, arguments, "day")),
    special("dayofyear", PLAIN, |call, arguments| part(call, arguments, "dayofyear")),
    special("getyear", PLAIN, |call, arguments| part(call, arguments, "year")),
    special("getmonth", PLAIN, |call, arguments| part(call, arguments, "month")),
    special("monthofyear", PLAIN, |call, arguments| part(call, arguments, "month")),
    special("hourofday", PLAIN, |call, arguments| part(call, arguments, "hour")),
    special("week_of_year", PLAIN, |call, arguments| part(call, arguments, "week_of_year")),
    special("weekofyear", PLAIN, |call, arguments| part(call, arguments, "weekofyear")),
    special("datetime_part", PLAIN, datetime_part),
    special("datepart", PLAIN, datetime_part),
    special("datetime_diff", PLAIN, datetime_diff),
    special("datetime_add", PLAIN, datetime_add),
    special("make_datetime", PLAIN, bind_make_datetime),
    special("make_timespan", PLAIN, bind_make_timespan),
    kernel("unixtime_seconds_todatetime", PLAIN, &[Parameter::Real], KqlType::DateTime, |a| {
        unix(a, TICKS_PER_SECOND)
    }),
    kernel("unixtime_milliseconds_todatetime", PLAIN, &[Parameter::Real], KqlType::DateTime, |a| {
        unix(a, TICKS_PER_MILLISECOND)
    }),
    kernel("unixtime_microseconds_todatetime", PLAIN, &[Parameter::Real], KqlType::DateTime, |a| {
        unix(a, TICKS_PER_MICROSECOND)
    }),
    kernel("unixtime_nanoseconds_todatetime", PLAIN, &[Parameter::Real], KqlType::DateTime, |a| {
        let value = a.real(0)?;
        Ok(a.make_long(|row| {
            // A tick is 100 ns; what is below it is cut off.
            let ticks = time::real_to_ticks((value.get(row)? / 100.0).floor())?;
            ticks.checked_add(time::UNIX_EPOCH_TICKS).and_then(time::in_range)
        }))
    }),
];

fn instant(call: &Call<'_>, ticks: Option<i64>) -> Expr {
    let value = ScalarValue::Int64(ticks.and_then(time::in_range));
    Expr::constant(value, KqlType::DateTime, call.span)
}

/// The same instant everywhere in one query.
fn now(call: &Call<'_>, arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 0, 1)?;
    match arguments.into_iter().next() {
        Some(offset) => shifted(call, offset, 1),
        None => Ok(instant(call, Some(call.now))),
    }
}

fn ago(call: &Call<'_>, arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 1, 1)?;
    let offset = arguments.into_iter().next().ok_or_else(|| call.problem("one argument"))?;
    shifted(call, offset, -1)
}

fn shifted(call: &Call<'_>, offset: Expr, sign: i64) -> Result<Expr, Problem> {
    let offset = coerce(offset, Parameter::TimeSpan, call.name)?;
    if offset.as_constant().is_none() {
        use crate::query::syntax::ast::BinaryOperator;
        let operator = if sign < 0 { BinaryOperator::Subtract } else { BinaryOperator::Add };
        let now = instant(call, Some(call.now));
        return super::operator::arithmetic(operator, now, offset, call.span);
    }
    let ticks = offset.as_long().and_then(|ticks| ticks.checked_mul(sign)?.checked_add(call.now));
    Ok(instant(call, ticks))
}

fn each(args: &Args<'_>, f: impl Fn(i64) -> i64) -> DfResult<ArrayRef> {
    let at = args.long(0)?;
    Ok(args.make_long(|row| at.get(row).map(&f)))
}

/// Days since Sunday. 0001-01-01 was a Monday.
const fn day_of_week(ticks: i64) -> i64 {
    (ticks.div_euclid(TICKS_PER_DAY) + 1).rem_euclid(7)
}

fn day_of_year(ticks: i64) -> i64 {
    let first = Date { month: 1, day: 1, ..date_of(ticks) };
    (ticks - ticks_of_date(first).unwrap_or(ticks)) / TICKS_PER_DAY + 1
}

/// The ISO 8601 week: weeks start on Monday, and the first has the year's first Thursday.
fn week_of_year(ticks: i64) -> i64 {
    let day = ticks.div_euclid(TICKS_PER_DAY);
    let thursday = (day - day.rem_euclid(7) + 3) * TICKS_PER_DAY;
    (day_of_year(thursday) - 1) / 7 + 1
}

/// What `weekofyear` counts: weeks start on Sunday, and the first has the year's first Wednesday.
fn week_from_sunday(ticks: i64) -> i64 {
    let wednesday = ticks + (3 - day_of_week(ticks)) * TICKS_PER_DAY;
    (day_of_year(wednesday) - 1) / 7 + 1
}

#[derive(Clone, Copy, Debug)]
enum Period {
    Hour,
    Day,
    Week,
    Month,
    Year,
}

/// The first tick of the period that lies `offset` after the one of a datetime; not clamped to
/// year 1.
fn start_of(ticks: i64, period: Period, offset: i64) -> Option<i64> {
    let floor = |size: i64| ticks.div_euclid(size).checked_add(offset)?.checked_mul(size);
    let months = |date: Date, months: i64| {
        let date = add_months(date, months);
        // The year after the last one starts where the calendar ends.
        if date == (Date { year: 10_000, month: 1, day: 1 }) {
            Some(time::DATETIME_TICKS_MAX + 1)
        } else {
            ticks_of_date(date)
        }
    };
    let bounded = offset.clamp(-200_000, 200_000);
    match period {
        Period::Hour => floor(TICKS_PER_HOUR),
        Period::Day => floor(TICKS_PER_DAY),
        Period::Week => {
            let sunday = ticks.div_euclid(TICKS_PER_DAY) - day_of_week(ticks);
            sunday.checked_add(offset.checked_mul(7)?)?.checked_mul(TICKS_PER_DAY)
        }
        Period::Month => months(date_of(ticks), bounded),
        Period::Year => months(Date { month: 1, ..date_of(ticks) }, bounded * 12),
    }
}

fn period(args: &Args<'_>, period: Period, end: bool) -> DfResult<ArrayRef> {
    let at = args.long(0)?;
    let offset = if args.len() > 1 { Some(args.long(1)?) } else { None };
    Ok(args.make_long(|row| {
        let offset = match &offset {
            Some(offset) => offset.get(row)?,
            None => 0,
        };
        let ticks = if end {
            start_of(at.get(row)?, period, offset.checked_add(1)?)?.checked_sub(1)?
        } else {
            start_of(at.get(row)?, period, offset)?
        };
        time::in_range(ticks)
    }))
}

/// The constant text of the argument in lower case, without underscores.
fn unit(call: &Call<'_>, argument: Option<&Expr>) -> Result<String, Problem> {
    let text = argument.and_then(Expr::as_text);
    let Some(text) = text else {
        return Err(call.problem(format!("`{}` takes a constant name of a part first", call.name)));
    };
    let text = text.to_lowercase();
    // This is another part than the one without underscores.
    Ok(if text == "week_of_year" { text } else { text.replace('_', "") })
}

fn unknown_unit(call: &Call<'_>, unit: &str) -> Problem {
    call.problem(format!("`{unit}` is not a part of a datetime"))
}

fn datetime_part(call: &Call<'_>, mut arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 2, 2)?;
    let unit = unit(call, arguments.first())?;
    arguments.remove(0);
    part(call, arguments, &unit)
}

/// A part of a datetime as a number: an int, but a long if the datetime is a constant.
fn part(call: &Call<'_>, arguments: Vec<Expr>, unit: &str) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 1, 1)?;
    let (name, kernel): (_, KernelFn) = match unit {
        "year" => ("part_year", |a| each(a, |t| date_of(t).year)),
        "quarter" => ("part_quarter", |a| each(a, |t| (date_of(t).month - 1) / 3 + 1)),
        "month" => ("part_month", |a| each(a, |t| date_of(t).month)),
        "week_of_year" => ("part_week", |a| each(a, week_of_year)),
        "weekofyear" => ("part_week_from_sunday", |a| each(a, week_from_sunday)),
        "day" => ("part_day", |a| each(a, |t| date_of(t).day)),
        "dayofyear" => ("part_day_of_year", |a| each(a, day_of_year)),
        "hour" => ("part_hour", |a| each(a, |t| t / TICKS_PER_HOUR % 24)),
        "minute" => ("part_minute", |a| each(a, |t| t / TICKS_PER_MINUTE % 60)),
        "second" => ("part_second", |a| each(a, |t| t / TICKS_PER_SECOND % 60)),
        "millisecond" => ("part_millisecond", |a| each(a, |t| t / TICKS_PER_MILLISECOND % 1000)),
        "microsecond" => {
            ("part_microsecond", |a| each(a, |t| t / TICKS_PER_MICROSECOND % 1_000_000))
        }
        "nanosecond" => ("part_nanosecond", |a| each(a, |t| t % TICKS_PER_SECOND * 100)),
        _ => return Err(unknown_unit(call, unit)),
    };
    let at = arguments.into_iter().next().ok_or_else(|| call.problem("one argument"))?;
    let at = coerce(at, Parameter::DateTime, call.name)?;
    let constant = at.as_constant().is_some();
    let part = kernel_call(name, kernel, vec![at], KqlType::Long, call.span);
    Ok(if constant { part } else { cast(part, KqlType::Int) })
}

fn datetime_diff(call: &Call<'_>, arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 3, 3)?;
    let unit = unit(call, arguments.first())?;
    let (name, kernel): (_, KernelFn) = match unit.as_str() {
        "year" => ("diff_year", |a| difference(a, |t| date_of(t).year)),
        "quarter" => ("diff_quarter", |a| difference(a, |t| month_count(t).div_euclid(3))),
        "month" => ("diff_month", |a| difference(a, month_count)),
        "week" => ("diff_week", weeks),
        "day" => ("diff_day", |a| difference(a, |t| t / TICKS_PER_DAY)),
        "hour" => ("diff_hour", |a| difference(a, |t| t / TICKS_PER_HOUR)),
        "minute" => ("diff_minute", |a| difference(a, |t| t / TICKS_PER_MINUTE)),
        "second" => ("diff_second", |a| difference(a, |t| t / TICKS_PER_SECOND)),
        "millisecond" => ("diff_millisecond", |a| difference(a, |t| t / TICKS_PER_MILLISECOND)),
        "microsecond" => ("diff_microsecond", |a| difference(a, |t| t / TICKS_PER_MICROSECOND)),
        "nanosecond" => ("diff_nanosecond", |a| difference(a, |t| t.wrapping_mul(100))),
        _ => return Err(unknown_unit(call, &unit)),
    };
    let kql_type = if unit == "week" { KqlType::Real } else { KqlType::Long };
    let arguments = arguments
        .into_iter()
        .skip(1)
        .map(|argument| coerce(argument, Parameter::DateTime, call.name))
        .collect::<Result<_, _>>()?;
    Ok(kernel_call(name, kernel, arguments, kql_type, call.span))
}

const fn month_count(ticks: i64) -> i64 {
    let date = date_of(ticks);
    date.year * 12 + date.month - 1
}

/// How many borders of the unit lie between the second and the first datetime.
fn difference(args: &Args<'_>, count: impl Fn(i64) -> i64) -> DfResult<ArrayRef> {
    let (left, right) = (args.long(0)?, args.long(1)?);
    Ok(args.make_long(|row| Some(count(left.get(row)?).wrapping_sub(count(right.get(row)?)))))
}

/// Weeks start on Sunday; the engine answers with a real.
fn weeks(args: &Args<'_>) -> DfResult<ArrayRef> {
    let (left, right) = (args.long(0)?, args.long(1)?);
    let week = |ticks: i64| (ticks.div_euclid(TICKS_PER_DAY) + 1).div_euclid(7);
    #[expect(clippy::cast_precision_loss, reason = "there are half a million weeks")]
    Ok(args.make_real(|row| Some((week(left.get(row)?) - week(right.get(row)?)) as f64)))
}

fn datetime_add(call: &Call<'_>, arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 3, 3)?;
    let unit = unit(call, arguments.first())?;
    let (name, kernel): (_, KernelFn) = match unit.as_str() {
        "year" => ("add_year", |a| add_calendar(a, 12)),
        "quarter" => ("add_quarter", |a| add_calendar(a, 3)),
        "month" => ("add_month", |a| add_calendar(a, 1)),
        "week" => ("add_week", |a| add_ticks(a, 7 * TICKS_PER_DAY)),
        "day" => ("add_day", |a| add_ticks(a, TICKS_PER_DAY)),
        "hour" => ("add_hour", |a| add_ticks(a, TICKS_PER_HOUR)),
        "minute" => ("add_minute", |a| add_ticks(a, TICKS_PER_MINUTE)),
        "second" => ("add_second", |a| add_ticks(a, TICKS_PER_SECOND)),
        "millisecond" => ("add_millisecond", |a| add_ticks(a, TICKS_PER_MILLISECOND)),
        "microsecond" => ("add_microsecond", |a| add_ticks(a, TICKS_PER_MICROSECOND)),
        "nanosecond" => ("add_nanosecond", |a| {
            let (count, at) = (a.long(0)?, a.long(1)?);
            // A tick is 100 ns.
            Ok(a.make_long(|row| {
                at.get(row)?.checked_add(count.get(row)?.div_euclid(100)).and_then(time::in_range)
            }))
        }),
        _ => return Err(unknown_unit(call, &unit)),
    };
    let parameters = [Parameter::Long, Parameter::DateTime];
    let arguments = arguments
        .into_iter()
        .skip(1)
        .zip(parameters)
        .map(|(argument, parameter)| coerce(argument, parameter, call.name))
        .collect::<Result<_, _>>()?;
    Ok(kernel_call(name, kernel, arguments, KqlType::DateTime, call.span))
}

fn add_ticks(args: &Args<'_>, unit: i64) -> DfResult<ArrayRef> {
    let (count, at) = (args.long(0)?, args.long(1)?);
    Ok(args.make_long(|row| {
        at.get(row)?.checked_add(count.get(row)?.checked_mul(unit)?).and_then(time::in_range)
    }))
}

/// A day that the month does not have becomes its last one.
fn add_calendar(args: &Args<'_>, months: i64) -> DfResult<ArrayRef> {
    let (count, at) = (args.long(0)?, args.long(1)?);
    Ok(args.make_long(|row| {
        let (count, at) = (count.get(row)?, at.get(row)?);
        let date = date_of(at);
        let month = add_months(date, count.clamp(-120_000, 120_000) * months);
        let day = date.day.min(time::days_in_month(month.year, month.month));
        Some(ticks_of_date(Date { day, ..month })? + at.rem_euclid(TICKS_PER_DAY))
    }))
}

/// Seconds with a fraction, in ticks; digits past the seventh are cut off.
fn seconds_to_ticks(seconds: f64) -> Option<i64> {
    #[expect(clippy::cast_precision_loss, reason = "a second of ticks is far below 2^53")]
    let ticks = seconds * TICKS_PER_SECOND as f64;
    // The nearest tick unless it is clearly below: 9.6 s is 96,000,000 ticks, not 95,999,999.
    time::real_to_ticks((ticks + 1e-4).floor())
}

/// Arguments in the forms of their parameters.
fn coerced(
    call: &Call<'_>,
    arguments: Vec<Expr>,
    parameters: &[Parameter],
) -> Result<Vec<Expr>, Problem> {
    let pairs = arguments.into_iter().zip(parameters);
    pairs.map(|(argument, parameter)| coerce(argument, *parameter, call.name)).collect()
}

/// `make_datetime(year, month, day[, hour[, minute[, second]]])`, or one value that is converted.
fn bind_make_datetime(call: &Call<'_>, mut arguments: Vec<Expr>) -> Result<Expr, Problem> {
    if arguments.len() == 1 {
        return super::conversion::convert(arguments.remove(0), KqlType::DateTime);
    }
    call.arity(arguments.len(), 3, 6)?;
    let mut parameters = [Parameter::Long; 6];
    parameters[5] = Parameter::Real;
    let arguments = coerced(call, arguments, &parameters)?;
    Ok(kernel_call("make_datetime", make_datetime, arguments, KqlType::DateTime, call.span))
}

/// Two to four numbers, or one value that is converted.
fn bind_make_timespan(call: &Call<'_>, mut arguments: Vec<Expr>) -> Result<Expr, Problem> {
    if arguments.len() == 1 {
        return super::conversion::convert(arguments.remove(0), KqlType::TimeSpan);
    }
    call.arity(arguments.len(), 2, 4)?;
    // The last of three or four are seconds with a fraction.
    let last = if arguments.len() > 2 { arguments.len() - 1 } else { usize::MAX };
    let parameters: Vec<_> = (0..arguments.len())
        .map(|at| if at == last { Parameter::Real } else { Parameter::Long })
        .collect();
    let arguments = coerced(call, arguments, &parameters)?;
    Ok(kernel_call("make_timespan", make_timespan, arguments, KqlType::TimeSpan, call.span))
}

fn make_datetime(args: &Args<'_>) -> DfResult<ArrayRef> {
    let parts = (0..args.len().min(5)).map(|at| args.long(at)).collect::<DfResult<Vec<_>>>()?;
    let seconds = if args.len() > 5 { Some(args.real(5)?) } else { None };
    Ok(args.make_long(|row| {
        let part = |at: usize| match parts.get(at) {
            Some(part) => part.get(row),
            None => Some(0),
        };
        let seconds = match &seconds {
            Some(seconds) => seconds.get(row)?,
            None => 0.0,
        };
        let day = ticks_of_date(Date { year: part(0)?, month: part(1)?, day: part(2)? })?;
        let (hour, minute) = (part(3)?, part(4)?);
        if !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0.0..60.0).contains(&seconds)
        {
            return None;
        }
        Some(day + hour * TICKS_PER_HOUR + minute * TICKS_PER_MINUTE + seconds_to_ticks(seconds)?)
    }))
}

/// `(hours, minutes)`, `(hours, minutes, seconds)` or `(days, hours, minutes, seconds)`.
fn make_timespan(args: &Args<'_>) -> DfResult<ArrayRef> {
    let parts = (0..args.len()).map(|at| args.real(at)).collect::<DfResult<Vec<_>>>()?;
    Ok(args.make_long(|row| {
        let given = parts.iter().map(|part| part.get(row)).collect::<Option<Vec<f64>>>()?;
        let (days, hours, minutes, seconds) = match given.as_slice() {
            [hours, minutes] => (0.0, *hours, *minutes, 0.0),
            [hours, minutes, seconds] => (0.0, *hours, *minutes, *seconds),
            [days, hours, minutes, seconds] => (*days, *hours, *minutes, *seconds),
            _ => return None,
        };
        let valid = (0.0..10_000_000.0).contains(&days)
            && (0.0..24.0).contains(&hours)
            && (0.0..60.0).contains(&minutes)
            && (0.0..60.0).contains(&seconds);
        let whole = days * 86_400.0 + hours.trunc() * 3600.0 + minutes.trunc() * 60.0;
        if valid { seconds_to_ticks(whole)?.checked_add(seconds_to_ticks(seconds)?) } else { None }
    }))
}

fn unix(args: &Args<'_>, unit: i64) -> DfResult<ArrayRef> {
    let value = args.real(0)?;
    #[expect(clippy::cast_precision_loss, reason = "a unit of ticks is far below 2^53")]
    Ok(args.make_long(|row| {
        let ticks = time::real_to_ticks(value.get(row)? * unit as f64)?;
        ticks.checked_add(time::UNIX_EPOCH_TICKS).and_then(time::in_range)
    }))
}
