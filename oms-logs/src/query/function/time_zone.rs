//! Local times: what clocks show in a time zone.

use super::arguments::Args;
use super::dynamic_text::make;
use super::kernel::{KernelFn, call as kernel_call};
use super::{Call, Function, Naming, Parameter, coerce, kernel, special};
use crate::query::bound::Expr;
use crate::query::diagnostic::Problem;
use crate::query::time::{self, TICKS_PER_DAY, TICKS_PER_HOUR, TICKS_PER_MINUTE, TICKS_PER_SECOND};
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result as DfResult;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::Value as Json;
use std::collections::HashMap;

const PLAIN: Naming = Naming::Default;

pub(super) const FUNCTIONS: &[Function] = &[
    special("datetime_utc_to_local", PLAIN, |call, arguments| {
        bind(call, "datetime_utc_to_local", arguments, |args| convert(args, to_local))
    }),
    special("datetime_local_to_utc", PLAIN, |call, arguments| {
        bind(call, "datetime_local_to_utc", arguments, |args| convert(args, to_utc))
    }),
    kernel("datetime_list_timezones", PLAIN, &[], KqlType::Dynamic, |args| {
        let mut names: Vec<String> =
            jiff::tz::db().available().map(|name| name.to_string()).collect();
        names.sort();
        make(args, |_| Some(Json::from(names.clone())))
    }),
];

fn bind(
    call: &Call<'_>,
    name: &'static str,
    arguments: Vec<Expr>,
    kernel: KernelFn,
) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 2, 2)?;
    if let Some(zone) = arguments.get(1)
        && let Some(text) = zone.as_text()
        && zone_of(text).is_none()
    {
        return Err(Problem::semantic(zone.span, format!("`{text}` is no time zone")));
    }
    let parameters = [Parameter::DateTime, Parameter::Text];
    let arguments = arguments
        .into_iter()
        .zip(parameters)
        .map(|(argument, parameter)| coerce(argument, parameter, call.name))
        .collect::<Result<_, _>>()?;
    Ok(kernel_call(name, kernel, arguments, KqlType::DateTime, call.span))
}

fn zone_of(name: &str) -> Option<TimeZone> {
    TimeZone::get(name).ok()
}

/// The zones of one call, looked up when they are first met. A name of none makes null.
fn convert(args: &Args<'_>, convert: fn(i64, &TimeZone) -> Option<i64>) -> DfResult<ArrayRef> {
    let (at, name) = (args.long(0)?, args.text(1)?);
    let mut zones: HashMap<&str, Option<TimeZone>> = HashMap::new();
    Ok(args.make_long(|row| {
        let name = name.get(row);
        let zone = zones.entry(name).or_insert_with(|| zone_of(name)).as_ref()?;
        convert(at.get(row)?, zone).and_then(time::in_range)
    }))
}

fn to_local(ticks: i64, zone: &TimeZone) -> Option<i64> {
    let nanoseconds = i128::from(ticks - time::UNIX_EPOCH_TICKS) * 100;
    let offset = zone.to_offset(Timestamp::from_nanosecond(nanoseconds).ok()?);
    ticks.checked_add(i64::from(offset.seconds()) * TICKS_PER_SECOND)
}

/// Of a time that clocks show twice, the earlier; a time that they skip, by the offset after.
fn to_utc(ticks: i64, zone: &TimeZone) -> Option<i64> {
    let date = time::date_of(ticks);
    let of_day = ticks.rem_euclid(TICKS_PER_DAY);
    let local = DateTime::new(
        i16::try_from(date.year).ok()?,
        i8::try_from(date.month).ok()?,
        i8::try_from(date.day).ok()?,
        i8::try_from(of_day / TICKS_PER_HOUR).ok()?,
        i8::try_from(of_day / TICKS_PER_MINUTE % 60).ok()?,
        i8::try_from(of_day / TICKS_PER_SECOND % 60).ok()?,
        i32::try_from(of_day % TICKS_PER_SECOND * 100).ok()?,
    )
    .ok()?;
    let at = zone.to_ambiguous_timestamp(local).earlier().ok()?;
    i64::try_from(at.as_nanosecond().div_euclid(100)).ok()?.checked_add(time::UNIX_EPOCH_TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_change() {
        let zone = zone_of("Europe/Berlin").expect("a zone");
        let at = |text| time::parse_datetime(text).expect("a datetime");
        for (utc, local) in [
            ("2024-01-15 12:00", "2024-01-15 13:00"),
            ("2024-07-15 12:00:00.1234567", "2024-07-15 14:00:00.1234567"),
        ] {
            assert_eq!(to_local(at(utc), &zone), Some(at(local)));
            assert_eq!(to_utc(at(local), &zone), Some(at(utc)));
        }
        // The hour that is there twice, and the one that is not there.
        assert_eq!(to_utc(at("2024-10-27 02:30"), &zone), Some(at("2024-10-27 00:30")));
        assert_eq!(to_utc(at("2024-03-31 02:30"), &zone), Some(at("2024-03-31 00:30")));
        assert!(zone_of("Europe/Nowhere").is_none());
    }
}
