//! User analytics: distinct ids along a timeline.

use super::timeline::{Period, Sliding, Windows};
use super::{Arguments, columns_from};
use crate::query::bind::{BindResult, Binder, Failed, Items, Scope};
use crate::query::bound::{Column, Expr, Relation};
use crate::query::diagnostic::Problem;
use crate::query::function::cast;
use crate::query::limits::{OPERATOR_ROWS_MAX, exceeded};
use crate::query::operator::effort::Effort;
use crate::query::operator::values::Groups;
use crate::query::plan::TableFunction;
use crate::query::syntax::{Span, ast};
use crate::query::types::KqlType;
use async_trait::async_trait;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, UInt64Array,
};
use datafusion::arrow::compute::{concat, take};
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
    Counts { window: Period },
    /// Each window beside the one before.
    Retention { window: Period },
    /// New ids of each window, or of that of one instant, and which of them come back in later ones.
    New { window: Period, cohort: Option<i64> },
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

    /// Whether the dimensions come before what is counted.
    const fn has_dimensions_first(self) -> bool {
        !matches!(self, Self::Retention { .. } | Self::New { .. } | Self::Engagement { .. })
    }

    /// The columns of the answer.
    fn columns(self, time: &str, time_type: KqlType, dimensions: Vec<Column>) -> Vec<Column> {
        let mut columns = if let Self::New { .. } = self {
            vec![
                Column::new(format!("from_{time}"), time_type),
                Column::new(format!("to_{time}"), time_type),
            ]
        } else {
            vec![Column::new(time, time_type)]
        };
        let counted = self.names().iter().map(|(name, of)| Column::new(*name, *of));
        if self.has_dimensions_first() {
            columns.extend(dimensions);
            columns.extend(counted);
        } else {
            columns.extend(counted);
            columns.extend(dimensions);
        }
        columns
    }

    /// What a plugin counts in periods of some sizes.
    fn new(plugin: &str, sizes: &[Period], cohort: Option<i64>) -> Option<Self> {
        use Period::Width;
        Some(match (plugin, sizes) {
            (
                "active_users_count",
                [Width(lookback), Width(period), Width(periods), Width(bin)],
            ) => Self::ActiveUsers {
                lookback: *lookback,
                period: *period,
                periods: *periods,
                bin: *bin,
            },
            ("activity_counts_metrics", [window]) => Self::Counts { window: *window },
            ("activity_metrics", [window]) => Self::Retention { window: *window },
            ("new_activity_metrics", [window]) => Self::New { window: *window, cohort },
            ("activity_engagement", [Width(inner), Width(outer)]) => {
                Self::Engagement { inner: *inner, outer: *outer }
            }
            ("session_count", [Width(bin), Width(lookback)]) => {
                Self::Sessions { bin: *bin, lookback: *lookback }
            }
            ("sliding_window_counts", [Width(lookback), Width(bin)]) => {
                Self::Sliding { lookback: *lookback, bin: *bin }
            }
            _ => return None,
        })
    }
}

impl Binder<'_> {
    /// `plugin(id, timeline, start, end, sizes…, cohort, dimensions…, lookback)`
    pub(super) fn activity(
        &mut self,
        input: Arc<Relation>,
        mut arguments: Arguments<'_>,
    ) -> BindResult<Arc<Relation>> {
        let (plugin, span) = (arguments.plugin, arguments.span());
        let id = self.plugin_column(&input, arguments.next(), plugin)?;
        let time = self.plugin_column(&input, arguments.next(), plugin)?;
        let (all, fewer) = Metric::counts(&plugin.text);
        let mut rest = arguments.positional();
        let is_new = plugin.text == "new_activity_metrics";
        let known = match rest.last() {
            Some(last) if is_new && self.is_lookback(&input, last) => {
                let last = *last;
                rest.pop();
                Some(self.lookback(last, &id)?)
            }
            _ => None,
        };
        let given = rest.iter().take_while(|argument| !is_column(&input, argument)).count();
        let (bounded, sizes) = match fewer {
            Some(fewer) if given == fewer => (false, fewer),
            _ => (true, all - 2),
        };
        let mut constants = rest.iter().copied().take(given).peekable();
        let bounds = if bounded {
            let start = self.timeline_constant(constants.next(), time.kql_type, span)?;
            let end = self.timeline_constant(constants.next(), time.kql_type, span)?;
            Some((start, end))
        } else {
            None
        };
        let sizes = self.periods(constants.by_ref().take(sizes), &time, plugin)?;
        let cohort = match constants.next_if(|_| is_new) {
            Some(cohort) => Some(self.timeline_constant(Some(cohort), time.kql_type, span)?),
            None => None,
        };
        if let Some(extra) = constants.next() {
            let message = format!("plugin `{}` takes no more constants here", plugin.text);
            return Err(self.report(Problem::semantic(extra.span, message)));
        }
        let Some(metric) = Metric::new(&plugin.text, &sizes, cohort) else {
            let message = format!("plugin `{}` lacks an argument", plugin.text);
            return Err(self.report(Problem::semantic(span, message)));
        };
        let time_type = self.timeline_type(&time, plugin)?;
        let mut items = Items::default();
        items.replace("$id", Expr::column(&id.name, id.kql_type, span));
        let of_time = Expr::column(&time.name, time.kql_type, span);
        let of_time =
            if time.kql_type == KqlType::Int { cast(of_time, time_type) } else { of_time };
        items.replace("$time", of_time);
        let mut dimensions = Vec::new();
        for dimension in rest.iter().skip(given) {
            let column = self.plugin_column(&input, Some(dimension), plugin)?;
            items.replace(&column.name, Expr::column(&column.name, column.kql_type, span));
            dimensions.push(column);
        }
        let columns = metric.columns(&time.name, time_type, dimensions);
        let input = self.projected(input, items, span)?;
        let function = Arc::new(Activity { metric, bounds });
        let inputs = std::iter::once(input).chain(known).collect();
        self.table_function(inputs, function, columns, false, span)
    }

    /// The type in which instants of a timeline are counted.
    pub(super) fn timeline_type(
        &mut self,
        time: &Column,
        plugin: &ast::Name,
    ) -> BindResult<KqlType> {
        match time.kql_type {
            KqlType::Int => Ok(KqlType::Long),
            KqlType::DateTime | KqlType::Long => Ok(time.kql_type),
            other => {
                let message = format!("plugin `{}` has no timeline of {other}", plugin.text);
                Err(self.report(Problem::semantic(plugin.span, message)))
            }
        }
    }

    /// The sizes of periods: numbers, timespans, or the name of a period of the calendar.
    fn periods<'e>(
        &mut self,
        arguments: impl Iterator<Item = &'e ast::Expr>,
        time: &Column,
        plugin: &ast::Name,
    ) -> BindResult<Vec<Period>> {
        let has_calendar = time.kql_type == KqlType::DateTime && plugin.text.ends_with("_metrics");
        let mut sizes = Vec::new();
        for argument in arguments {
            let size = self.expr(argument, &mut Scope::constants())?;
            let named = size.as_text().filter(|_| has_calendar).and_then(Period::of_name);
            match (named, size.as_long()) {
                (Some(period), _) => sizes.push(period),
                (None, Some(size)) if size > 0 => sizes.push(Period::Width(size)),
                _ => {
                    let or = if has_calendar { ", or `week`, `month` or `year`," } else { "" };
                    let message =
                        format!("plugin `{}` takes a positive size{or} here", plugin.text);
                    return Err(self.report(Problem::semantic(argument.span, message)));
                }
            }
        }
        Ok(sizes)
    }

    /// Whether an argument is a table rather than a column or a constant.
    fn is_lookback(&self, input: &Relation, argument: &ast::Expr) -> bool {
        match &argument.kind {
            ast::ExprKind::Name(name) => !is_column(input, argument) && self.has_table(name),
            ast::ExprKind::Pipeline(_) => true,
            _ => false,
        }
    }

    /// The ids of a table: its column of that name, or its only one.
    fn lookback(&mut self, argument: &ast::Expr, id: &Column) -> BindResult<Arc<Relation>> {
        let table = self.table(argument)?;
        let named = table.columns.iter().find(|column| column.name == id.name);
        let column = match (named, table.columns.as_slice()) {
            (Some(column), _) | (None, [column]) => column.clone(),
            _ => {
                let message = format!("the lookback has no column `{}`", id.name);
                return Err(self.report(Problem::semantic(argument.span, message)));
            }
        };
        let span = argument.span;
        let value = Expr::column(&column.name, column.kql_type, span);
        let mut items = Items::default();
        items.replace("$id", self.converted(value, id.kql_type)?);
        self.projected(table, items, span)
    }

    /// A constant instant.
    pub(super) fn timeline_constant(
        &mut self,
        argument: Option<&ast::Expr>,
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

/// Whether an argument names a column.
fn is_column(input: &Relation, argument: &ast::Expr) -> bool {
    matches!(&argument.kind, ast::ExprKind::Name(name)
        if input.columns.iter().any(|column| column.name == *name))
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
        let (ids, known) = ids(input, inputs.get(1))?;
        let dimensions = columns_from(input, 2);
        let groups = Groups::of(dimensions, rows)?;
        let mut made =
            Made { group: 0, rows: Vec::new(), effort: Effort::new(self.name(), context) };
        let of_groups = groups.rows(|row| !times.is_null(row));
        for (group, rows) in of_groups.into_iter().enumerate() {
            let event = |row: u64| {
                let row = usize::try_from(row).ok()?;
                let (time, id) = (times.value(row), *ids.get(row)? as u64);
                (self.is_within(time) && !known.contains(&id)).then_some((time, id))
            };
            let mut events: Events = rows.into_iter().filter_map(event).collect();
            events.sort_unstable();
            made.group = group;
            self.measure(&events, &mut made).await?;
            made.effort.step().await;
        }
        if made.rows.is_empty() {
            return Ok(Vec::new());
        }
        let columns = self.columns(&made.rows, &groups, dimensions)?;
        Ok(vec![RecordBatch::try_new(Arc::clone(schema), columns)?])
    }
}

/// A number for the id of each row, and the numbers of those that were there before.
fn ids(input: &RecordBatch, before: Option<&RecordBatch>) -> Result<(Vec<usize>, HashSet<u64>)> {
    let rows = input.num_rows();
    let Some(before) = before else {
        let ids = columns_from(input, 0).get(..1).unwrap_or_default();
        return Ok((Groups::of(ids, rows)?.numbers, HashSet::new()));
    };
    let both = concat(&[input.column(0).as_ref(), before.column(0).as_ref()])?;
    let mut numbers = Groups::of(&[both], rows + before.num_rows())?.numbers;
    let known = numbers.split_off(rows.min(numbers.len()));
    Ok((numbers, known.into_iter().map(|number| number as u64).collect()))
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
    /// The rows as columns.
    fn columns(
        &self,
        made: &[Row],
        groups: &Groups,
        dimensions: &[ArrayRef],
    ) -> Result<Vec<ArrayRef>> {
        let group = made.iter().map(|row| groups.firsts.get(row.group).copied().unwrap_or(0));
        let group = UInt64Array::from_iter_values(group);
        let dimensions = dimensions.iter().map(|dimension| Ok(take(dimension, &group, None)?));
        let dimensions: Vec<ArrayRef> = dimensions.collect::<Result<_>>()?;
        let longs = |of: &dyn Fn(&Row) -> &Vec<i64>, at: usize| -> ArrayRef {
            Arc::new(made.iter().map(|row| of(row).get(at).copied()).collect::<Int64Array>())
        };
        let times = made.first().map_or(1, |row| row.times.len());
        let mut columns: Vec<ArrayRef> =
            (0..times).map(|at| longs(&|row| &row.times, at)).collect();
        if self.metric.has_dimensions_first() {
            columns.extend(dimensions.iter().cloned());
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
        if !self.metric.has_dimensions_first() {
            columns.extend(dimensions);
        }
        Ok(columns)
    }

    /// Whether an event is looked at. The first and last period of the calendar reach beyond the bounds.
    fn is_within(&self, time: i64) -> bool {
        match (self.bounds, self.metric) {
            (
                Some((start, end)),
                Metric::Counts { window }
                | Metric::Retention { window }
                | Metric::New { window, .. },
            ) if !matches!(window, Period::Width(_)) => (start..=end).contains(&time),
            _ => true,
        }
    }

    /// The bounds; those of the events if none are given.
    fn extent(&self, events: &[(i64, u64)], period: Period) -> Option<(i64, i64)> {
        if let Some(bounds) = self.bounds {
            return Some(bounds);
        }
        Some((period.floor(events.first()?.0), events.last()?.0))
    }

    /// The windows of a size between the bounds.
    fn windows(&self, events: &[(i64, u64)], period: Period) -> Windows {
        match self.extent(events, period) {
            Some((start, end)) => Windows::between(period, start, end),
            None => Windows::none(period),
        }
    }

    async fn measure(&self, events: &[(i64, u64)], made: &mut Made) -> Result<()> {
        match self.metric {
            Metric::ActiveUsers { lookback, period, periods, bin } => {
                self.active(events, (lookback, period, periods), bin, made).await
            }
            Metric::Counts { window } => self.counts(events, window, made).await,
            Metric::Retention { window } => self.retention(events, window, made).await,
            Metric::New { window, cohort } => self.new_ids(events, (window, cohort), made).await,
            Metric::Engagement { inner, outer } => {
                self.engagement(events, (inner, outer), made).await
            }
            Metric::Sessions { bin, lookback } => {
                self.sessions(events, (bin, lookback), made).await
            }
            Metric::Sliding { lookback, bin } => self.sliding(events, (lookback, bin), made).await,
        }
    }

    async fn counts(&self, events: &[(i64, u64)], window: Period, made: &mut Made) -> Result<()> {
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

    async fn retention(
        &self,
        events: &[(i64, u64)],
        window: Period,
        made: &mut Made,
    ) -> Result<()> {
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
        let windows = self.windows(events, Period::Width(inner));
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
        let windows = self.windows(events, Period::Width(bin));
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

    /// The ids that are new in each window, how many of them are there in each later one, and how
    /// many are there that were in no window up to the first of both.
    async fn new_ids(
        &self,
        events: &[(i64, u64)],
        (window, cohort): (Period, Option<i64>),
        made: &mut Made,
    ) -> Result<()> {
        let windows = self.windows(events, window);
        let mut inside = Sliding::default();
        let mut first: HashMap<u64, i64> = HashMap::new();
        // By the window in which ids are new and the one in which they are there.
        let mut kept: BTreeMap<(i64, i64), usize> = BTreeMap::new();
        // By window, the ids that were in no window before those that were looked at.
        let mut unseen: HashMap<i64, usize> = HashMap::new();
        let mut at = 0;
        while at < windows.count {
            inside.slide(events, windows.bounds(at), &mut made.effort).await;
            for id in inside.counts.keys() {
                let first = *first.entry(*id).or_insert(at);
                *kept.entry((first, at)).or_insert(0) += 1;
                *unseen.entry(at).or_insert(0) += 1;
            }
            at = if inside.len() == 0 { windows.skip(at, inside.next(events)) } else { at + 1 };
        }
        let chosen = cohort.map(|cohort| windows.place(cohort));
        let is_chosen = |at: i64| chosen.is_none_or(|chosen| chosen == at);
        let new = kept.iter().filter(|((first, at), _)| first == at);
        let rows = new.clone().filter(|((at, _), _)| is_chosen(*at));
        let rows = rows.map(|((at, _), _)| windows.count - at);
        let rows = rows.fold(count(made.rows.len()), i64::saturating_add);
        if rows > count(OPERATOR_ROWS_MAX) {
            return too_many();
        }
        for ((at, _), new) in new {
            for ((_, later), kept) in kept.range((*at, *at)..=(*at, i64::MAX)) {
                if let Some(unseen) = unseen.get_mut(later) {
                    *unseen -= kept;
                }
                made.effort.step().await;
            }
            for later in (*at..windows.count).take_while(|_| is_chosen(*at)) {
                let kept = kept.get(&(*at, later)).copied().unwrap_or(0);
                let others = unseen.get(&later).copied().unwrap_or(0);
                let unseen = if later == *at { *new } else { others };
                let share = ratio(kept, *new);
                let times = vec![windows.bounds(*at).0, windows.bounds(later).0];
                made.push(times, &[unseen, kept, new - kept], vec![share, 1.0 - share])?;
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
        let counts = measured(Metric::Counts { window: Period::Width(10) }, (0, 29), &events).await;
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
        let new = Metric::New { window: Period::Width(10), cohort: None };
        let new = measured(new, (0, 29), &events).await;
        assert_eq!(
            new,
            [
                (0, vec![2, 2, 0]),
                (0, vec![1, 1, 1]),
                (0, vec![0, 1, 1]),
                (10, vec![1, 1, 0]),
                (10, vec![0, 0, 1]),
            ]
        );
        let cohort = Metric::New { window: Period::Width(10), cohort: Some(15) };
        let cohort = measured(cohort, (0, 29), &events).await;
        assert_eq!(cohort, [(10, vec![1, 1, 0]), (10, vec![0, 0, 1])]);
        let users = Metric::ActiveUsers { lookback: 15, period: 5, periods: 2, bin: 10 };
        assert_eq!(measured(users, (0, 29), &events).await, [(10, vec![1])]);
    }

    /// One that looks at every window, or at all that lies in each, never ends.
    #[tokio::test]
    async fn empty_windows_are_passed_over() {
        let far = i64::MAX / 4;
        let events = [(0, 1), (far, 1), (far + 1, 2)];
        let bounds = (0, far + 5);
        let counts = measured(Metric::Counts { window: Period::Width(3) }, bounds, &events).await;
        assert_eq!(counts.iter().map(|(_, counts)| counts[0]).sum::<i64>(), 3);
        let retention =
            measured(Metric::Retention { window: Period::Width(3) }, bounds, &events).await;
        assert_eq!(retention[..2], [(0, vec![1, 1]), (3, vec![0, 0])]);
        let many: Vec<(i64, u64)> = (0..20_000_i64).map(|at| (at, at.unsigned_abs())).collect();
        let sliding = Metric::Sliding { lookback: 20_000, bin: 1 };
        let sliding = measured(sliding, (0, 19_999), &many).await;
        assert_eq!(sliding.last(), Some(&(19_999, vec![20_000, 20_000])));
    }
}
