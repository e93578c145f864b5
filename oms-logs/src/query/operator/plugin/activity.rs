//! User analytics: distinct ids along a timeline.

use super::{Arguments, columns_from};
use crate::query::bind::{BindResult, Binder, Failed, Items, Scope};
use crate::query::bound::{Column, Expr, Relation};
use crate::query::diagnostic::Problem;
use crate::query::function::cast;
use crate::query::limits::{OPERATOR_ROWS_MAX, exceeded};
use crate::query::operator::effort::Effort;
use crate::query::operator::values::Groups;
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
use std::collections::hash_map::Entry;
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

/// The rows that were made, and what they took.
struct Made {
    group: usize,
    rows: Vec<Row>,
    effort: Effort,
}

impl Made {
    fn push(&mut self, times: Vec<i64>, counts: &[usize], reals: Vec<f64>) -> Result<()> {
        if self.rows.len() >= OPERATOR_ROWS_MAX {
            return too_many();
        }
        let longs: Vec<i64> = counts.iter().copied().map(count).collect();
        let values = times.len() + longs.len() + reals.len();
        self.effort.keep(size_of::<Row>() + values * size_of::<i64>())?;
        self.rows.push(Row { group: self.group, times, longs, reals });
        Ok(())
    }
}

/// Windows of one width, side by side.
#[derive(Clone, Copy)]
struct Windows {
    start: i64,
    width: i64,
    count: i64,
}

impl Windows {
    /// The first instant of a window and that after the last.
    const fn bounds(self, at: i64) -> (i64, i64) {
        let start = self.start.saturating_add(self.width.saturating_mul(at));
        (start, start.saturating_add(self.width))
    }

    /// The window to look at after an empty one: that of the next event, if there is one.
    fn skip(self, at: i64, next: Option<&(i64, u64)>) -> i64 {
        let place = |time: i64| time.saturating_sub(self.start).div_euclid(self.width);
        next.map_or(self.count, |(time, _)| place(*time).max(at + 1))
    }
}

/// The events between two instants that only ever move on, and how often each id is among them.
#[derive(Default)]
struct Sliding {
    from: usize,
    to: usize,
    counts: HashMap<u64, usize>,
}

impl Sliding {
    /// Moves to the events from one instant up to another, which is not included.
    async fn slide(&mut self, events: &[(i64, u64)], (from, to): (i64, i64), effort: &mut Effort) {
        while let Some((_, id)) = events.get(self.to).filter(|(time, _)| *time < to) {
            *self.counts.entry(*id).or_insert(0) += 1;
            self.to += 1;
            effort.step().await;
        }
        while let Some((_, id)) = events.get(self.from).filter(|(time, _)| *time < from) {
            if self.from >= self.to {
                break;
            }
            if let Entry::Occupied(mut entry) = self.counts.entry(*id) {
                *entry.get_mut() -= 1;
                if *entry.get() == 0 {
                    entry.remove();
                }
            }
            self.from += 1;
            effort.step().await;
        }
    }

    fn len(&self) -> usize {
        self.to.saturating_sub(self.from)
    }

    fn distinct(&self) -> usize {
        self.counts.len()
    }

    /// The first event after these.
    fn next<'e>(&self, events: &'e [(i64, u64)]) -> Option<&'e (i64, u64)> {
        events.get(self.to)
    }
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
        context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        let Some(input) = inputs.first() else { return exec_err!("it takes a table") };
        let Some(times) = input.column(1).as_primitive_opt::<Int64Type>() else {
            return exec_err!("an activity plugin takes a timeline");
        };
        let rows = input.num_rows();
        let ids = Groups::of(input.columns().get(..1).unwrap_or_default(), rows)?;
        let dimensions = columns_from(input, 2);
        let groups = Groups::of(dimensions, rows)?;
        let mut made =
            Made { group: 0, rows: Vec::new(), effort: Effort::new(self.name(), context) };
        let of_groups = groups.rows(|row| !times.is_null(row));
        for (group, rows) in of_groups.into_iter().enumerate() {
            let event = |row: u64| {
                let row = usize::try_from(row).ok()?;
                Some((times.value(row), *ids.numbers.get(row)? as u64))
            };
            let mut events: Events = rows.into_iter().filter_map(event).collect();
            events.sort_unstable();
            made.group = group;
            self.measure(&events, &mut made).await?;
            made.effort.step().await;
        }
        let made = made.rows;
        let firsts = groups.firsts;
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

fn too_many<T>() -> Result<T> {
    exceeded("an activity plugin makes too many rows", "operator_rows_max", OPERATOR_ROWS_MAX)
}

fn count(of: usize) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
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

    /// The windows of a width between the bounds.
    fn windows(&self, events: &[(i64, u64)], width: i64) -> Windows {
        let Some((start, end)) = self.extent(events, width) else {
            return Windows { start: 0, width, count: 0 };
        };
        let length = i128::from(end) - i128::from(start);
        let count = (length.div_euclid(i128::from(width)) + 1).max(0);
        Windows { start, width, count: i64::try_from(count).unwrap_or(i64::MAX) }
    }

    async fn measure(&self, events: &[(i64, u64)], made: &mut Made) -> Result<()> {
        match self.metric {
            Metric::ActiveUsers { lookback, period, periods, bin } => {
                self.active(events, (lookback, period, periods), bin, made).await
            }
            Metric::Counts { window } => self.counts(events, window, made).await,
            Metric::Retention { window } => self.retention(events, window, made).await,
            Metric::New { window } => self.new_ids(events, window, made).await,
            Metric::Engagement { inner, outer } => {
                self.engagement(events, (inner, outer), made).await
            }
            Metric::Sessions { bin, lookback } => {
                self.sessions(events, (bin, lookback), made).await
            }
            Metric::Sliding { lookback, bin } => self.sliding(events, (lookback, bin), made).await,
        }
    }

    async fn counts(&self, events: &[(i64, u64)], window: i64, made: &mut Made) -> Result<()> {
        let windows = self.windows(events, window);
        let (mut before, mut inside) = (HashSet::new(), Sliding::default());
        let mut at = 0;
        while at < windows.count {
            let (start, end) = windows.bounds(at);
            inside.slide(events, (start, end), &mut made.effort).await;
            if inside.len() == 0 {
                at = windows.skip(at, inside.next(events));
                continue;
            }
            let new = inside.counts.keys().filter(|id| before.insert(**id)).count();
            let counts = [inside.len(), inside.distinct(), new, before.len()];
            made.push(vec![start], &counts, vec![])?;
            at += 1;
        }
        Ok(())
    }

    async fn retention(&self, events: &[(i64, u64)], window: i64, made: &mut Made) -> Result<()> {
        let windows = self.windows(events, window);
        let (mut before, mut inside) = (HashSet::new(), Sliding::default());
        let mut at = 0;
        while at < windows.count {
            let (start, end) = windows.bounds(at);
            inside.slide(events, (start, end), &mut made.effort).await;
            if inside.len() == 0 && before.is_empty() {
                at = windows.skip(at, inside.next(events));
                continue;
            }
            let here: HashSet<u64> = inside.counts.keys().copied().collect();
            let new = here.difference(&before).count();
            let kept = ratio(here.len() - new, before.len());
            made.push(vec![start], &[here.len(), new], vec![kept, 1.0 - kept])?;
            before = here;
            at += 1;
        }
        Ok(())
    }

    async fn engagement(
        &self,
        events: &[(i64, u64)],
        (inner, outer): (i64, i64),
        made: &mut Made,
    ) -> Result<()> {
        let windows = self.windows(events, inner);
        let (mut inside, mut around) = (Sliding::default(), Sliding::default());
        let mut at = 0;
        while at < windows.count {
            let (start, end) = windows.bounds(at);
            inside.slide(events, (start, end), &mut made.effort).await;
            around.slide(events, (end.saturating_sub(outer), end), &mut made.effort).await;
            if around.len() == 0 {
                at = windows.skip(at, around.next(events));
                continue;
            }
            let counts = [inside.distinct(), around.distinct()];
            made.push(vec![start], &counts, vec![ratio(counts[0], counts[1])])?;
            made.effort.step().await;
            at += 1;
        }
        Ok(())
    }

    async fn sessions(
        &self,
        events: &[(i64, u64)],
        (bin, lookback): (i64, i64),
        made: &mut Made,
    ) -> Result<()> {
        let mut last: HashMap<u64, i64> = HashMap::new();
        let mut bins: BTreeMap<i64, usize> = BTreeMap::new();
        let (start, end) = self.bounds.unwrap_or((i64::MIN, i64::MAX));
        for (time, id) in events {
            let before = last.insert(*id, *time);
            let new = before.is_none_or(|before| time.saturating_sub(before) >= lookback);
            if new && (start..=end).contains(time) {
                let bin = time.saturating_sub(time.rem_euclid(bin));
                *bins.entry(bin).or_insert(0) += 1;
            }
            made.effort.step().await;
        }
        bins.into_iter().try_for_each(|(bin, count)| made.push(vec![bin], &[count], vec![]))
    }

    async fn sliding(
        &self,
        events: &[(i64, u64)],
        (lookback, bin): (i64, i64),
        made: &mut Made,
    ) -> Result<()> {
        let windows = self.windows(events, bin);
        let mut inside = Sliding::default();
        let mut at = 0;
        while at < windows.count {
            let (start, end) = windows.bounds(at);
            inside.slide(events, (end.saturating_sub(lookback), end), &mut made.effort).await;
            if inside.len() == 0 {
                at = windows.skip(at, inside.next(events));
                continue;
            }
            made.push(vec![start], &[inside.len(), inside.distinct()], vec![])?;
            made.effort.step().await;
            at += 1;
        }
        Ok(())
    }

    /// By bin, how many ids have an appearance before which they were there in enough periods.
    async fn active(
        &self,
        events: &[(i64, u64)],
        (lookback, period, periods): (i64, i64, i64),
        bin: i64,
        made: &mut Made,
    ) -> Result<()> {
        let (start, end) = self.bounds.unwrap_or((0, i64::MAX));
        let mut by_id: HashMap<u64, Vec<i64>> = HashMap::new();
        events.iter().for_each(|(time, id)| by_id.entry(*id).or_default().push(*time));
        let mut active: BTreeMap<i64, HashSet<u64>> = BTreeMap::new();
        for (id, times) in by_id {
            let mut first = 0;
            // The periods of the times in order, numbered: those of a stretch are its last number
            // less its first.
            let (mut numbers, mut last) = (Vec::with_capacity(times.len()), None);
            for time in &times {
                let own = time.saturating_sub(start).div_euclid(period);
                let number = numbers.last().map_or(0, |n: &i64| n + i64::from(last != Some(own)));
                last = Some(own);
                numbers.push(number);
                let from = time.saturating_sub(lookback);
                while times.get(first).is_some_and(|before| before <= &from) {
                    first += 1;
                }
                let seen = numbers.get(first).map_or(0, |first| number - first + 1);
                if seen >= periods && (start..=end).contains(time) {
                    let place = time.saturating_sub(start).div_euclid(bin);
                    let bin = start.saturating_add(place.saturating_mul(bin));
                    active.entry(bin).or_default().insert(id);
                }
                made.effort.step().await;
            }
        }
        active.into_iter().try_for_each(|(bin, ids)| made.push(vec![bin], &[ids.len()], vec![]))
    }

    /// The ids that are new in each window, and how many of them are there in each later one.
    async fn new_ids(&self, events: &[(i64, u64)], window: i64, made: &mut Made) -> Result<()> {
        let windows = self.windows(events, window);
        let mut inside = Sliding::default();
        let mut first: HashMap<u64, i64> = HashMap::new();
        // By the window in which ids are new and the one in which they are there.
        let mut kept: BTreeMap<(i64, i64), usize> = BTreeMap::new();
        let mut at = 0;
        while at < windows.count {
            inside.slide(events, windows.bounds(at), &mut made.effort).await;
            for id in inside.counts.keys() {
                let first = *first.entry(*id).or_insert(at);
                *kept.entry((first, at)).or_insert(0) += 1;
            }
            at = if inside.len() == 0 { windows.skip(at, inside.next(events)) } else { at + 1 };
        }
        let new = kept.iter().filter(|((first, at), _)| first == at);
        let rows = new.clone().map(|((at, _), _)| windows.count - at);
        let rows = rows.fold(count(made.rows.len()), i64::saturating_add);
        if rows > count(OPERATOR_ROWS_MAX) {
            return too_many();
        }
        for ((at, _), new) in new {
            for later in *at..windows.count {
                let kept = kept.get(&(*at, later)).copied().unwrap_or(0);
                let share = ratio(kept, *new);
                let times = vec![windows.bounds(*at).0, windows.bounds(later).0];
                made.push(times, &[*new, kept, new - kept], vec![share, 1.0 - share])?;
                made.effort.step().await;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn measured(
        metric: Metric,
        bounds: (i64, i64),
        events: &[(i64, u64)],
    ) -> Vec<(i64, Vec<i64>)> {
        let effort = Effort::new("test", &TaskContext::default());
        let mut made = Made { group: 0, rows: Vec::new(), effort };
        let activity = Activity { metric, bounds: Some(bounds) };
        activity.measure(events, &mut made).await.unwrap();
        made.rows.into_iter().map(|row| (row.times[0], row.longs)).collect()
    }

    #[tokio::test]
    async fn windows_count_ids() {
        let events = [(0, 1), (1, 2), (10, 1), (12, 3), (13, 3), (25, 2)];
        let counts = measured(Metric::Counts { window: 10 }, (0, 29), &events).await;
        assert_eq!(counts, [(0, vec![2, 2, 2, 2]), (10, vec![3, 2, 1, 3]), (20, vec![1, 1, 0, 3])]);
        let sliding = measured(Metric::Sliding { lookback: 20, bin: 10 }, (0, 39), &events).await;
        assert_eq!(
            sliding,
            [(0, vec![2, 2]), (10, vec![5, 3]), (20, vec![4, 3]), (30, vec![1, 1])]
        );
        let sessions = measured(Metric::Sessions { bin: 10, lookback: 10 }, (0, 39), &events).await;
        assert_eq!(sessions, [(0, vec![2]), (10, vec![2]), (20, vec![1])]);
        let inner = Metric::Engagement { inner: 10, outer: 20 };
        let engagement = measured(inner, (0, 49), &events).await;
        assert_eq!(
            engagement,
            [(0, vec![2, 2]), (10, vec![2, 3]), (20, vec![1, 3]), (30, vec![0, 1])]
        );
        let new = measured(Metric::New { window: 10 }, (0, 29), &events).await;
        assert_eq!(
            new,
            [
                (0, vec![2, 2, 0]),
                (0, vec![2, 1, 1]),
                (0, vec![2, 1, 1]),
                (10, vec![1, 1, 0]),
                (10, vec![1, 0, 1]),
            ]
        );
        let users = Metric::ActiveUsers { lookback: 15, period: 5, periods: 2, bin: 10 };
        assert_eq!(measured(users, (0, 29), &events).await, [(10, vec![1])]);
    }

    /// One that looks at every window, or at all that lies in each, never ends.
    #[tokio::test]
    async fn empty_windows_are_passed_over() {
        let far = i64::MAX / 4;
        let events = [(0, 1), (far, 1), (far + 1, 2)];
        let bounds = (0, far + 5);
        let counts = measured(Metric::Counts { window: 3 }, bounds, &events).await;
        assert_eq!(counts.iter().map(|(_, counts)| counts[0]).sum::<i64>(), 3);
        let retention = measured(Metric::Retention { window: 3 }, bounds, &events).await;
        assert_eq!(retention[..2], [(0, vec![1, 1]), (3, vec![0, 0])]);
        let many: Vec<(i64, u64)> = (0..20_000_i64).map(|at| (at, at.unsigned_abs())).collect();
        let sliding = Metric::Sliding { lookback: 20_000, bin: 1 };
        let sliding = measured(sliding, (0, 19_999), &many).await;
        assert_eq!(sliding.last(), Some(&(19_999, vec![20_000, 20_000])));
    }
}
