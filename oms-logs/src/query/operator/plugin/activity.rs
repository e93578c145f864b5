//! User analytics: distinct ids along a timeline.

use super::{Arguments, columns_from, groups};
use crate::query::bind::{BindResult, Binder, Failed, Items, Scope};
use crate::query::bound::{Column, Expr, Relation};
use crate::query::diagnostic::Problem;
use crate::query::function::cast;
use crate::query::limits::OPERATOR_ROWS_MAX;
use crate::query::plan::TableFunction;
use crate::query::syntax::Span;
use crate::query::types::KqlType;
use async_trait::async_trait;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, UInt64Array,
};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::common::{Result, exec_err};
use datafusion::execution::TaskContext;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// What is counted, with its sizes in the timeline's unit.
#[derive(Clone, Copy, Debug)]
enum Metric {
    /// Ids that were there in enough periods before.
    ActiveUsers { lookback: i64, period: i64, periods: i64, bin: i64 },
    /// Each window beside all windows before.
    Counts { window: i64 },
    /// Each window beside the one before.
    Retention { window: i64 },
    /// New ids of each window, and which of them come back in later ones.
    New { window: i64 },
    /// An inner window beside an outer one that ends with it.
    Engagement { inner: i64, outer: i64 },
    /// Appearances of ids that were not there for a while.
    Sessions { bin: i64, lookback: i64 },
    /// A window that slides.
    Sliding { lookback: i64, bin: i64 },
}

impl Metric {
    const fn names(self) -> &'static [(&'static str, KqlType)] {
        match self {
            Self::ActiveUsers { .. } => &[("dcount", KqlType::Long)],
            Self::Counts { .. } => &[
                ("count", KqlType::Long),
                ("dcount", KqlType::Long),
                ("new_dcount", KqlType::Long),
                ("aggregated_dcount", KqlType::Long),
            ],
            Self::Retention { .. } => &[
                ("dcount_values", KqlType::Long),
                ("dcount_newvalues", KqlType::Long),
                ("retention_rate", KqlType::Real),
                ("churn_rate", KqlType::Real),
            ],
            Self::New { .. } => &[
                ("dcount_new_values", KqlType::Long),
                ("dcount_retained_values", KqlType::Long),
                ("dcount_churn_values", KqlType::Long),
                ("retention_rate", KqlType::Real),
                ("churn_rate", KqlType::Real),
            ],
            Self::Engagement { .. } => &[
                ("dcount_activities_inner", KqlType::Long),
                ("dcount_activities_outer", KqlType::Long),
                ("activity_ratio", KqlType::Real),
            ],
            Self::Sessions { .. } => &[("count_sessions", KqlType::Long)],
            Self::Sliding { .. } => &[("Count", KqlType::Long), ("Dcount", KqlType::Long)],
        }
    }

    /// How many constants come after the timeline, with and without its bounds.
    fn counts(plugin: &str) -> (usize, Option<usize>) {
        match plugin {
            "active_users_count" => (6, None),
            "activity_counts_metrics" | "new_activity_metrics" => (3, None),
            "activity_metrics" => (3, Some(1)),
            "activity_engagement" => (4, Some(2)),
            _ => (4, None),
        }
    }

    fn new(plugin: &str, sizes: &[i64]) -> Option<Self> {
        Some(match (plugin, sizes) {
            ("active_users_count", [lookback, period, periods, bin]) => Self::ActiveUsers {
                lookback: *lookback,
                period: *period,
                periods: *periods,
                bin: *bin,
            },
            ("activity_counts_metrics", [window]) => Self::Counts { window: *window },
            ("activity_metrics", [window]) => Self::Retention { window: *window },
            ("new_activity_metrics", [window]) => Self::New { window: *window },
            ("activity_engagement", [inner, outer]) => {
                Self::Engagement { inner: *inner, outer: *outer }
            }
            ("session_count", [bin, lookback]) => Self::Sessions { bin: *bin, lookback: *lookback },
            ("sliding_window_counts", [lookback, bin]) => {
                Self::Sliding { lookback: *lookback, bin: *bin }
            }
            _ => return None,
        })
    }
}

impl Binder<'_> {
    /// `plugin(id, timeline, start, end, sizes…, dimensions…)`
    pub(super) fn activity(
        &mut self,
        input: Arc<Relation>,
        mut arguments: Arguments<'_>,
    ) -> BindResult<Arc<Relation>> {
        let (plugin, span) = (arguments.plugin, arguments.span());
        let id = self.plugin_column(&input, arguments.next(), plugin)?;
        let time = self.plugin_column(&input, arguments.next(), plugin)?;
        let (all, fewer) = Metric::counts(&plugin.text);
        let rest = arguments.positional();
        let is_column = |expr: &&crate::query::syntax::ast::Expr| {
            matches!(&expr.kind, crate::query::syntax::ast::ExprKind::Name(name)
                if input.columns.iter().any(|column| column.name == *name))
        };
        let given = rest.iter().take_while(|argument| !is_column(argument)).count();
        let (bounded, sizes) = match fewer {
            Some(fewer) if given == fewer => (false, fewer),
            _ => (true, all - 2),
        };
        let mut constants = rest.iter().take(given);
        let bounds = if bounded {
            let start = self.timeline_constant(constants.next().copied(), time.kql_type, span)?;
            let end = self.timeline_constant(constants.next().copied(), time.kql_type, span)?;
            Some((start, end))
        } else {
            None
        };
        let mut made = Vec::new();
        for argument in constants.by_ref().take(sizes) {
            let size = self.expr(argument, &mut Scope::constants())?;
            match size.as_long() {
                Some(size) if size > 0 => made.push(size),
                _ => {
                    let message = format!("plugin `{}` takes a positive size here", plugin.text);
                    return Err(self.report(Problem::semantic(argument.span, message)));
                }
            }
        }
        if constants.next().is_some() {
            let what = format!("a cohort or a lookback of plugin {}", plugin.text);
            return Err(self.report(Problem::unsupported(span, what)));
        }
        let Some(metric) = Metric::new(&plugin.text, &made) else {
            let message = format!("plugin `{}` lacks an argument", plugin.text);
            return Err(self.report(Problem::semantic(span, message)));
        };
        let time_type = match time.kql_type {
            KqlType::Int => KqlType::Long,
            KqlType::DateTime | KqlType::Long => time.kql_type,
            other => {
                let message = format!("plugin `{}` has no timeline of {other}", plugin.text);
                return Err(self.report(Problem::semantic(span, message)));
            }
        };
        let mut columns = if let Metric::New { .. } = metric {
            vec![
                Column::new(format!("from_{}", time.name), time_type),
                Column::new(format!("to_{}", time.name), time_type),
            ]
        } else {
            vec![Column::new(&time.name, time_type)]
        };
        let mut items = Items::default();
        items.replace("$id", Expr::column(&id.name, id.kql_type, span));
        let of_time = Expr::column(&time.name, time.kql_type, span);
        let of_time =
            if time.kql_type == KqlType::Int { cast(of_time, time_type) } else { of_time };
        items.replace("$time", of_time);
        for dimension in rest.iter().skip(given) {
            let column = self.plugin_column(&input, Some(dimension), plugin)?;
            items.replace(&column.name, Expr::column(&column.name, column.kql_type, span));
            columns.push(column);
        }
        columns.extend(metric.names().iter().map(|(name, of)| Column::new(*name, *of)));
        let input = self.projected(input, items, span)?;
        let function = Activity { metric, bounds };
        self.table_function(vec![input], Arc::new(function), columns, false, span)
    }

    fn timeline_constant(
        &mut self,
        argument: Option<&crate::query::syntax::ast::Expr>,
        kql_type: KqlType,
        span: Span,
    ) -> BindResult<i64> {
        let Some(argument) = argument else {
            return Err(self.report(Problem::semantic(span, "the timeline lacks its bounds")));
        };
        let bound = self.expr(argument, &mut Scope::constants())?;
        let same =
            bound.kql_type == kql_type || (bound.kql_type.is_number() && kql_type.is_number());
        match bound.as_long() {
            Some(value) if same => Ok(value),
            _ => {
                let message = format!("expected a constant {kql_type} as a bound of the timeline");
                self.report(Problem::semantic(argument.span, message));
                Err(Failed)
            }
        }
    }
}

#[derive(Debug)]
struct Activity {
    metric: Metric,
    /// The first and last instant.
    bounds: Option<(i64, i64)>,
}

/// The appearances of one group: instants and ids, in order.
type Events = Vec<(i64, u64)>;

/// A window of one group and what was counted in it.
struct Row {
    group: usize,
    times: Vec<i64>,
    longs: Vec<i64>,
    reals: Vec<f64>,
}

#[async_trait]
impl TableFunction for Activity {
    fn name(&self) -> &'static str {
        "activity"
    }

    async fn run(
        &self,
        inputs: Vec<RecordBatch>,
        schema: &SchemaRef,
        _context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        let Some(input) = inputs.first() else { return exec_err!("it takes a table") };
        let Some(times) = input.column(1).as_primitive_opt::<Int64Type>() else {
            return exec_err!("an activity plugin takes a timeline");
        };
        let rows = input.num_rows();
        let ids = input.columns().get(..1).unwrap_or_default();
        let (ids, _) = groups(ids, rows)?;
        let dimensions = columns_from(input, 2);
        let (numbers, firsts) = groups(dimensions, rows)?;
        let mut events: Vec<Events> = vec![Vec::new(); firsts.len()];
        for (row, (group, id)) in numbers.iter().zip(&ids).enumerate() {
            if let Some(events) = events.get_mut(*group).filter(|_| !times.is_null(row)) {
                events.push((times.value(row), *id as u64));
            }
        }
        let mut made = Vec::new();
        for (group, mut events) in events.into_iter().enumerate() {
            events.sort_unstable();
            self.measure(group, &events, &mut made)?;
            if made.len() > OPERATOR_ROWS_MAX {
                return exec_err!("the plugin makes more than {OPERATOR_ROWS_MAX} rows");
            }
            tokio::task::yield_now().await;
        }
        let group = made.iter().map(|row| firsts.get(row.group).copied().unwrap_or(0));
        let group = UInt64Array::from_iter_values(group);
        let longs = |of: &dyn Fn(&Row) -> &Vec<i64>, at: usize| -> ArrayRef {
            Arc::new(made.iter().map(|row| of(row).get(at).copied()).collect::<Int64Array>())
        };
        let time_columns = made.first().map_or(1, |row| row.times.len());
        let mut columns: Vec<ArrayRef> =
            (0..time_columns).map(|at| longs(&|row| &row.times, at)).collect();
        if made.is_empty() {
            return Ok(Vec::new());
        }
        for dimension in dimensions {
            columns.push(take(dimension, &group, None)?);
        }
        let (mut long, mut real) = (0, 0);
        for (_, kql_type) in self.metric.names() {
            if *kql_type == KqlType::Real {
                let values = made.iter().map(|row| row.reals.get(real).copied());
                columns.push(Arc::new(values.collect::<Float64Array>()));
                real += 1;
            } else {
                columns.push(longs(&|row| &row.longs, long));
                long += 1;
            }
        }
        Ok(vec![RecordBatch::try_new(Arc::clone(schema), columns)?])
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio of counts")]
fn ratio(part: usize, of: usize) -> f64 {
    part as f64 / of as f64
}

fn count(of: usize) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}

/// The ids from one instant up to another, which is not included.
fn ids(events: &[(i64, u64)], from: i64, to: i64) -> HashSet<u64> {
    within(events, from, to).iter().map(|(_, id)| *id).collect()
}

/// The events from one instant up to another, which is not included.
fn within(events: &[(i64, u64)], from: i64, to: i64) -> &[(i64, u64)] {
    let start = events.partition_point(|(time, _)| *time < from);
    let end = events.partition_point(|(time, _)| *time < to);
    events.get(start..end.max(start)).unwrap_or_default()
}

impl Activity {
    /// The bounds; those of the events if none are given.
    fn extent(&self, events: &[(i64, u64)], width: i64) -> Option<(i64, i64)> {
        if let Some(bounds) = self.bounds {
            return Some(bounds);
        }
        let (first, last) = (events.first()?.0, events.last()?.0);
        Some((first.saturating_sub(first.rem_euclid(width)), last))
    }

    /// The starts of windows of a width between the bounds.
    fn windows(&self, events: &[(i64, u64)], width: i64) -> Result<Vec<i64>> {
        let Some((start, end)) = self.extent(events, width) else { return Ok(Vec::new()) };
        let length = i128::from(end) - i128::from(start);
        let windows = length.div_euclid(i128::from(width)) + 1;
        match usize::try_from(windows) {
            Ok(windows) if windows <= OPERATOR_ROWS_MAX => Ok((0..count(windows))
                .map(|at| start.saturating_add(width.saturating_mul(at)))
                .collect()),
            Ok(_) => exec_err!("the plugin makes more than {OPERATOR_ROWS_MAX} windows"),
            Err(_) => Ok(Vec::new()),
        }
    }

    fn measure(&self, group: usize, events: &[(i64, u64)], made: &mut Vec<Row>) -> Result<()> {
        let row =
            |times: Vec<i64>, longs: Vec<i64>, reals: Vec<f64>| Row { group, times, longs, reals };
        match self.metric {
            Metric::ActiveUsers { lookback, period, periods, bin } => {
                let active = self.active(events, (lookback, period, periods), bin);
                made.extend(
                    active
                        .into_iter()
                        .map(|(bin, ids)| row(vec![bin], vec![count(ids.len())], vec![])),
                );
            }
            Metric::Counts { window } => {
                let mut before: HashSet<u64> = HashSet::new();
                for start in self.windows(events, window)? {
                    let inside = within(events, start, start.saturating_add(window));
                    if inside.is_empty() {
                        continue;
                    }
                    let here: HashSet<u64> = inside.iter().map(|(_, id)| *id).collect();
                    let new = here.difference(&before).count();
                    let distinct = here.len();
                    before.extend(here);
                    let longs = [inside.len(), distinct, new, before.len()].map(count).to_vec();
                    made.push(row(vec![start], longs, vec![]));
                }
            }
            Metric::Retention { window } => {
                let mut before: HashSet<u64> = HashSet::new();
                for start in self.windows(events, window)? {
                    let here = ids(events, start, start.saturating_add(window));
                    let new = here.difference(&before).count();
                    let kept = ratio(here.len() - new, before.len());
                    let longs = [here.len(), new].map(count).to_vec();
                    if !(here.is_empty() && before.is_empty()) {
                        made.push(row(vec![start], longs, vec![kept, 1.0 - kept]));
                    }
                    before = here;
                }
            }
            Metric::New { window } => self.new_ids(group, events, window, made)?,
            Metric::Engagement { inner, outer } => {
                for start in self.windows(events, inner)? {
                    let end = start.saturating_add(inner);
                    let within = ids(events, start, end).len();
                    let around = ids(events, end.saturating_sub(outer), end).len();
                    if around > 0 {
                        let longs = [within, around].map(count).to_vec();
                        made.push(row(vec![start], longs, vec![ratio(within, around)]));
                    }
                }
            }
            Metric::Sessions { bin, lookback } => {
                let mut last: HashMap<u64, i64> = HashMap::new();
                let mut bins: BTreeMap<i64, i64> = BTreeMap::new();
                let (start, end) = self.bounds.unwrap_or((i64::MIN, i64::MAX));
                for (time, id) in events {
                    let before = last.insert(*id, *time);
                    let new = before.is_none_or(|before| time.saturating_sub(before) >= lookback);
                    if new && (start..=end).contains(time) {
                        let bin = time.saturating_sub(time.rem_euclid(bin));
                        *bins.entry(bin).or_insert(0) += 1;
                    }
                }
                made.extend(
                    bins.into_iter().map(|(bin, count)| row(vec![bin], vec![count], vec![])),
                );
            }
            Metric::Sliding { lookback, bin } => {
                for start in self.windows(events, bin)? {
                    let end = start.saturating_add(bin);
                    let inside = within(events, end.saturating_sub(lookback), end);
                    let distinct: HashSet<u64> = inside.iter().map(|(_, id)| *id).collect();
                    if !inside.is_empty() {
                        let longs = [inside.len(), distinct.len()].map(count).to_vec();
                        made.push(row(vec![start], longs, vec![]));
                    }
                }
            }
        }
        Ok(())
    }

    /// By bin, the ids with an appearance before which they were there in enough periods.
    fn active(
        &self,
        events: &[(i64, u64)],
        (lookback, period, periods): (i64, i64, i64),
        bin: i64,
    ) -> BTreeMap<i64, HashSet<u64>> {
        let (start, end) = self.bounds.unwrap_or((0, i64::MAX));
        let mut by_id: HashMap<u64, Vec<i64>> = HashMap::new();
        events.iter().for_each(|(time, id)| by_id.entry(*id).or_default().push(*time));
        let mut active: BTreeMap<i64, HashSet<u64>> = BTreeMap::new();
        for (id, times) in by_id {
            for time in times.iter().filter(|time| (start..=end).contains(time)) {
                let from = time.saturating_sub(lookback);
                let first = times.partition_point(|before| *before <= from);
                let seen: HashSet<i64> = times
                    .iter()
                    .skip(first)
                    .take_while(|before| *before <= time)
                    .map(|before| before.saturating_sub(start).div_euclid(period))
                    .collect();
                if count(seen.len()) >= periods {
                    let place = time.saturating_sub(start).div_euclid(bin);
                    let bin = start.saturating_add(place.saturating_mul(bin));
                    active.entry(bin).or_default().insert(id);
                }
            }
        }
        active
    }

    /// The ids that are new in each window, and which of them are there in each later one.
    fn new_ids(
        &self,
        group: usize,
        events: &[(i64, u64)],
        window: i64,
        made: &mut Vec<Row>,
    ) -> Result<()> {
        let windows = self.windows(events, window)?;
        if windows.len().saturating_mul(windows.len()) > OPERATOR_ROWS_MAX {
            return exec_err!("the plugin makes more than {OPERATOR_ROWS_MAX} rows");
        }
        let here: Vec<HashSet<u64>> =
            windows.iter().map(|start| ids(events, *start, start.saturating_add(window))).collect();
        let mut before: HashSet<u64> = HashSet::new();
        for (at, (start, own)) in windows.iter().zip(&here).enumerate() {
            let new: HashSet<u64> = own.difference(&before).copied().collect();
            before.extend(own);
            if new.is_empty() {
                continue;
            }
            for (later, of_later) in windows.iter().zip(&here).skip(at) {
                let kept = new.intersection(of_later).count();
                let longs = [new.len(), kept, new.len() - kept].map(count).to_vec();
                let kept = ratio(kept, new.len());
                let reals = vec![kept, 1.0 - kept];
                made.push(Row { group, times: vec![*start, *later], longs, reals });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(metric: Metric, bounds: (i64, i64), events: &[(i64, u64)]) -> Vec<(i64, Vec<i64>)> {
        let mut made = Vec::new();
        let activity = Activity { metric, bounds: Some(bounds) };
        activity.measure(0, events, &mut made).unwrap();
        made.into_iter().map(|row| (row.times[0], row.longs)).collect()
    }

    #[test]
    fn windows_count_ids() {
        let events = [(0, 1), (1, 2), (10, 1), (12, 3), (13, 3), (25, 2)];
        let counts = measured(Metric::Counts { window: 10 }, (0, 29), &events);
        assert_eq!(counts, [(0, vec![2, 2, 2, 2]), (10, vec![3, 2, 1, 3]), (20, vec![1, 1, 0, 3])]);
        let sliding = measured(Metric::Sliding { lookback: 20, bin: 10 }, (0, 39), &events);
        assert_eq!(
            sliding,
            [(0, vec![2, 2]), (10, vec![5, 3]), (20, vec![4, 3]), (30, vec![1, 1])]
        );
        let sessions = measured(Metric::Sessions { bin: 10, lookback: 10 }, (0, 39), &events);
        assert_eq!(sessions, [(0, vec![2]), (10, vec![2]), (20, vec![1])]);
    }
}
