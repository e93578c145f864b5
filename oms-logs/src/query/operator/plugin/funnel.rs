//! `funnel_sequence`, `funnel_sequence_completion`: which ids went through states one after the other.

use super::Arguments;
use crate::query::bind::{BindResult, Binder, Failed, Items};
use crate::query::bound::{Column, Expr, Relation};
use crate::query::diagnostic::Problem;
use crate::query::dynamic::{Value, View};
use crate::query::function::{cast, text_of_dynamic, to_text};
use crate::query::limits::{OPERATOR_ROWS_MAX, exceeded};
use crate::query::operator::effort::Effort;
use crate::query::operator::values::{Groups, dynamic_column, value_of};
use crate::query::plan::TableFunction;
use crate::query::syntax::{Span, ast};
use crate::query::time::parse_timespan;
use crate::query::types::KqlType;
use async_trait::async_trait;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray,
};
use datafusion::arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::common::{Result, exec_err};
use datafusion::execution::TaskContext;
use datafusion::scalar::ScalarValue;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The most ids that a row names.
const SAMPLES_MAX: usize = 128;

/// What both plugins begin with.
struct Funnel {
    id: Column,
    time: Column,
    /// The type in which instants are counted.
    time_type: KqlType,
    bounds: (i64, i64),
}

impl Binder<'_> {
    /// `funnel_sequence(id, timeline, start, end, step_max, bin, state, sequence)`: three tables, of
    /// the states before and after the sequence, before it, and after it.
    pub(super) fn funnel_sequence(
        &mut self,
        input: Arc<Relation>,
        mut arguments: Arguments<'_>,
    ) -> BindResult<Arc<Relation>> {
        let (plugin, span) = (arguments.plugin, arguments.span());
        let funnel = self.funnel(&input, &mut arguments)?;
        let step_max = self.plugin_size(arguments.next(), plugin)?;
        let bin = self.plugin_size(arguments.next(), plugin)?;
        let state = self.plugin_column(&input, arguments.next(), plugin)?;
        let sequence = self.funnel_sequence_of(arguments.next(), plugin)?;
        if sequence.windows(2).any(|pair| pair.first() == pair.last()) {
            let message = "plugin `funnel_sequence` takes no state twice in a row";
            return Err(self.report(Problem::semantic(span, message)));
        }
        let input = self.funnel_input(input, &funnel, &state, span)?;
        let mut tables = Vec::new();
        for (name, before, after) in [
            ("PrimaryResult", true, true),
            ("PrevSequence", true, false),
            ("SequenceNext", false, true),
        ] {
            let mut columns = vec![Column::new(&funnel.time.name, funnel.time_type)];
            if before {
                columns.push(Column::new("prev", KqlType::String));
            }
            if after {
                columns.push(Column::new("next", KqlType::String));
            }
            columns.push(Column::new("dcount", KqlType::Long));
            columns.push(Column::new("samples", KqlType::Dynamic));
            let function = Around {
                search: Search { bounds: funnel.bounds, bin, sequence: sequence.clone() },
                step_max,
                id: funnel.id.kql_type,
                before,
                after,
            };
            let table = self.table_function(
                vec![Arc::clone(&input)],
                Arc::new(function),
                columns,
                true,
                span,
            )?;
            tables.push((name.to_owned(), table));
        }
        let first = tables.first().map(|(_, first)| Arc::clone(first));
        self.others.extend(tables);
        first.ok_or(Failed)
    }

    /// `funnel_sequence_completion(id, timeline, start, end, bin, state, sequence, periods)`: how many
    /// ids came to each state of the sequence within each period.
    pub(super) fn funnel_sequence_completion(
        &mut self,
        input: Arc<Relation>,
        mut arguments: Arguments<'_>,
    ) -> BindResult<Arc<Relation>> {
        let (plugin, span) = (arguments.plugin, arguments.span());
        let funnel = self.funnel(&input, &mut arguments)?;
        let bin = self.plugin_size(arguments.next(), plugin)?;
        let state = self.plugin_column(&input, arguments.next(), plugin)?;
        let sequence = self.funnel_sequence_of(arguments.next(), plugin)?;
        let periods = self.plugin_constant(arguments.next(), plugin)?;
        let is_time = funnel.time_type == KqlType::DateTime;
        let lengths = members(&periods, |member| match member {
            View::TimeSpan(length) if is_time => Some(*length),
            View::Text(text) if is_time => parse_timespan(text),
            View::Long(length) if !is_time => Some(*length),
            _ => None,
        });
        let lengths = lengths.filter(|lengths| lengths.iter().all(|length| *length > 0));
        let Some(periods) = lengths else {
            let what = if is_time { "timespans" } else { "numbers" };
            let message = format!("plugin `{}` takes an array of {what} last", plugin.text);
            return Err(self.report(Problem::semantic(periods.span, message)));
        };
        let period = if is_time { KqlType::TimeSpan } else { KqlType::Long };
        let columns = vec![
            Column::new(&funnel.time.name, funnel.time_type),
            Column::new("$state", KqlType::String),
            Column::new("Period", period),
            Column::new("dcount", KqlType::Long),
        ];
        let search = Search { bounds: funnel.bounds, bin, sequence };
        let function = Arc::new(Completion { search, periods });
        let input = self.funnel_input(input, &funnel, &state, span)?;
        let made = self.table_function(vec![input], function, columns.clone(), true, span)?;
        // The state as its column has it, under its column's name.
        let mut items = Items::default();
        for column in &columns {
            let value = Expr::column(&column.name, column.kql_type, span);
            if column.name == "$state" {
                let value = self.converted(value, state.kql_type)?;
                items.add_implied(Some(state.name.clone()), "Column", value);
            } else {
                items.add_implied(Some(column.name.clone()), "Column", value);
            }
        }
        self.projected(made, items, span)
    }

    /// Whose ids, on which timeline, from where to where.
    fn funnel(&mut self, input: &Relation, arguments: &mut Arguments<'_>) -> BindResult<Funnel> {
        let plugin = arguments.plugin;
        let id = self.plugin_column(input, arguments.next(), plugin)?;
        let time = self.plugin_column(input, arguments.next(), plugin)?;
        let time_type = self.timeline_type(&time, plugin)?;
        let start = self.timeline_constant(arguments.next(), time.kql_type, plugin.span)?;
        let end = self.timeline_constant(arguments.next(), time.kql_type, plugin.span)?;
        Ok(Funnel { id, time, time_type, bounds: (start, end) })
    }

    /// Ids, instants and, as text, states.
    fn funnel_input(
        &mut self,
        input: Arc<Relation>,
        funnel: &Funnel,
        state: &Column,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let column = |of: &Column| Expr::column(&of.name, of.kql_type, span);
        let mut items = Items::default();
        items.replace("$id", column(&funnel.id));
        let time = column(&funnel.time);
        let time = if time.kql_type == KqlType::Int { cast(time, funnel.time_type) } else { time };
        items.replace("$time", time);
        items.replace("$state", to_text(column(state)));
        self.projected(input, items, span)
    }

    /// The states of the sequence, as text.
    fn funnel_sequence_of(
        &mut self,
        argument: Option<&ast::Expr>,
        plugin: &ast::Name,
    ) -> BindResult<Vec<String>> {
        let sequence = self.plugin_constant(argument, plugin)?;
        match members(&sequence, |member| Some(text_of_dynamic(*member))) {
            Some(sequence) if !sequence.is_empty() => Ok(sequence),
            _ => {
                let message = format!("plugin `{}` takes an array of states here", plugin.text);
                Err(self.report(Problem::semantic(sequence.span, message)))
            }
        }
    }
}

/// What is made of each member of a constant array; `None` if it is no array or one makes nothing.
fn members<T>(expr: &Expr, make: impl Fn(&View<'_>) -> Option<T>) -> Option<Vec<T>> {
    match expr.as_constant()? {
        ScalarValue::BinaryView(Some(bytes)) => match View::of(bytes) {
            View::Array(items) => items.iter().map(|item| make(&View::of(item))).collect(),
            _ => None,
        },
        _ => None,
    }
}

/// What is looked for.
#[derive(Debug)]
struct Search {
    /// The first and last instant.
    bounds: (i64, i64),
    bin: i64,
    sequence: Vec<String>,
}

/// The states of one id, in order: instants and the numbers of states.
type Path = Vec<(i64, usize)>;

/// The paths of ids.
struct Paths<'b> {
    /// For each id a row that has it, and its path.
    of_ids: Vec<(usize, Path)>,
    /// The number of each state of the sequence; one that no event has where a state is nowhere.
    sequence: Vec<usize>,
    names: Vec<&'b str>,
}

impl Search {
    /// The first instant of the bin that an instant is in.
    const fn bin_of(&self, time: i64) -> i64 {
        let (start, _) = self.bounds;
        let place = time.saturating_sub(start).div_euclid(self.bin);
        start.saturating_add(place.saturating_mul(self.bin))
    }

    fn paths<'b>(&self, input: &'b RecordBatch) -> Result<Paths<'b>> {
        let (Some(times), Some(states)) =
            (input.column(1).as_primitive_opt::<Int64Type>(), input.column(2).as_string_view_opt())
        else {
            return exec_err!("a funnel takes a timeline and states");
        };
        let (rows, columns) = (input.num_rows(), input.columns());
        let ids = Groups::of(columns.get(..1).unwrap_or_default(), rows)?;
        let numbers = Groups::of(columns.get(2..3).unwrap_or_default(), rows)?;
        let (start, end) = self.bounds;
        let of_ids =
            ids.rows(|row| !times.is_null(row) && (start..=end).contains(&times.value(row)));
        let of_ids = of_ids.into_iter().zip(&ids.firsts).map(|(rows, first)| {
            let rows = rows.into_iter().filter_map(|row| usize::try_from(row).ok());
            let path = rows.filter_map(|row| Some((times.value(row), *numbers.numbers.get(row)?)));
            let mut path: Path = path.collect();
            // Events of one instant stay in the order of their rows.
            path.sort_by_key(|(time, _)| *time);
            (usize::try_from(*first).unwrap_or(0), path)
        });
        let name = |first: &u64| usize::try_from(*first).map_or("", |row| states.value(row));
        let names: Vec<&str> = numbers.firsts.iter().map(name).collect();
        let place = |state: &String| names.iter().position(|name| name == state);
        let sequence = self.sequence.iter().map(|state| place(state).unwrap_or(usize::MAX));
        Ok(Paths { of_ids: of_ids.collect(), sequence: sequence.collect(), names })
    }
}

/// The states before and after a sequence.
#[derive(Debug)]
struct Around {
    search: Search,
    /// The longest from one state of the sequence to the next.
    step_max: i64,
    id: KqlType,
    before: bool,
    after: bool,
}

/// A state that lasts from one event to another.
struct Stay {
    state: usize,
    first: i64,
    last: i64,
}

/// Where a sequence was: its bin, and the states before and after.
type Place = (i64, Option<usize>, Option<usize>);

/// How many ids were at a place, the last of them, and some of their rows.
#[derive(Default)]
struct Seen {
    count: i64,
    last: Option<usize>,
    samples: Vec<usize>,
}

impl Around {
    /// The stays of a path: a state that comes again at once is the same stay.
    fn stays(path: &Path) -> Vec<Stay> {
        let mut stays: Vec<Stay> = Vec::new();
        for (time, state) in path {
            match stays.last_mut().filter(|stay| stay.state == *state) {
                Some(stay) => stay.last = *time,
                None => stays.push(Stay { state: *state, first: *time, last: *time }),
            }
        }
        stays
    }

    /// The first and last stay of each sequence. A state in between is passed over; of sequences that
    /// start alike, the one that ends first counts.
    async fn sequences(
        &self,
        stays: &[Stay],
        sequence: &[usize],
        effort: &mut Effort,
    ) -> Vec<(usize, usize)> {
        let mut found: Vec<(usize, usize)> = Vec::new();
        // For each state of the sequence, the last event of the stay that came to it latest, and where
        // its sequence starts: a later stay is nearer and never starts earlier.
        let mut reached: Vec<Option<(i64, usize)>> = vec![None; sequence.len()];
        for (at, stay) in stays.iter().enumerate() {
            // Backwards, so that no stay is two states of one sequence.
            for place in (0..sequence.len()).rev() {
                effort.step().await;
                if sequence.get(place) != Some(&stay.state) {
                    continue;
                }
                let before = match place.checked_sub(1) {
                    None => Some((stay.first, at)),
                    Some(before) => reached.get(before).copied().flatten(),
                };
                let near =
                    |(last, _): &(i64, usize)| stay.first.saturating_sub(*last) <= self.step_max;
                let Some((_, start)) = before.filter(near) else { continue };
                if let Some(reached) = reached.get_mut(place) {
                    *reached = Some((stay.last, start));
                }
                let is_new = found.last().is_none_or(|(last, _)| *last != start);
                if place + 1 == sequence.len() && is_new {
                    found.push((start, at));
                }
            }
        }
        found
    }

    async fn places(&self, paths: &Paths<'_>, effort: &mut Effort) -> Result<Vec<(Place, Seen)>> {
        let mut places: HashMap<Place, Seen> = HashMap::new();
        for (row, path) in &paths.of_ids {
            let stays = Self::stays(path);
            let state = |at: Option<usize>| Some(stays.get(at?)?.state);
            for (start, end) in self.sequences(&stays, &paths.sequence, effort).await {
                let first = stays.get(start).map_or(0, |stay| stay.first);
                let before = state(start.checked_sub(1)).filter(|_| self.before);
                let after = state(end.checked_add(1)).filter(|_| self.after);
                let known = places.len();
                let seen = places.entry((self.search.bin_of(first), before, after)).or_default();
                if seen.last != Some(*row) {
                    seen.last = Some(*row);
                    seen.count += 1;
                    if seen.samples.len() < SAMPLES_MAX {
                        effort.keep(size_of::<usize>())?;
                        seen.samples.push(*row);
                    }
                }
                if places.len() > known {
                    effort.keep(2 * size_of::<(Place, Seen)>())?;
                }
            }
        }
        let mut places: Vec<(Place, Seen)> = places.into_iter().collect();
        places.sort_by_key(|((bin, before, after), seen)| {
            (*bin, std::cmp::Reverse(seen.count), *before, *after)
        });
        Ok(places)
    }
}

#[async_trait]
impl TableFunction for Around {
    fn name(&self) -> &'static str {
        "funnel_sequence"
    }

    async fn run(
        &self,
        inputs: Vec<RecordBatch>,
        schema: &SchemaRef,
        context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        let Some(input) = inputs.first() else { return exec_err!("it takes a table") };
        let mut effort = Effort::new(self.name(), context);
        let paths = self.search.paths(input)?;
        let places = self.places(&paths, &mut effort).await?;
        let bins = places.iter().map(|((bin, ..), _)| *bin);
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(bins))];
        let name = |state: Option<usize>| paths.names.get(state?).copied();
        if self.before {
            let before = places.iter().map(|((_, before, _), _)| name(*before).unwrap_or_default());
            columns.push(Arc::new(before.map(Some).collect::<StringViewArray>()));
        }
        if self.after {
            let after = places.iter().map(|((_, _, after), _)| name(*after).unwrap_or_default());
            columns.push(Arc::new(after.map(Some).collect::<StringViewArray>()));
        }
        let counts = places.iter().map(|(_, seen)| seen.count);
        columns.push(Arc::new(Int64Array::from_iter_values(counts)));
        let samples = places.iter().map(|(_, seen)| {
            let ids = seen.samples.iter().map(|row| value_of(input.column(0), self.id, *row));
            Value::Array(ids.collect())
        });
        columns.push(dynamic_column(&samples.collect::<Vec<_>>())?);
        Ok(vec![RecordBatch::try_new(Arc::clone(schema), columns)?])
    }
}

/// How far ids came.
#[derive(Debug)]
struct Completion {
    search: Search,
    periods: Vec<i64>,
}

/// By bin, period and state of the sequence, how many ids came there and the last of them.
type Reached = BTreeMap<(i64, usize, usize), (i64, usize)>;

impl Completion {
    /// Adds how far one id came within a period.
    async fn follow(
        &self,
        (row, path): &(usize, Path),
        (period, length): (usize, i64),
        sequence: &[usize],
        reached: &mut Reached,
        effort: &mut Effort,
    ) -> Result<()> {
        // For each state of the sequence, by bin the latest start from which it was reached.
        let mut starts: Vec<BTreeMap<i64, i64>> = vec![BTreeMap::new(); sequence.len()];
        for (time, state) in path {
            // Backwards, so that no event is two states of one sequence.
            for place in (0..sequence.len()).rev() {
                effort.step().await;
                if sequence.get(place) != Some(state) {
                    continue;
                }
                let from = match place.checked_sub(1).and_then(|before| starts.get_mut(before)) {
                    None => BTreeMap::from([(self.search.bin_of(*time), *time)]),
                    Some(before) => {
                        before.retain(|_, start| time.saturating_sub(*start) <= length);
                        before.clone()
                    }
                };
                for (bin, start) in from {
                    effort.step().await;
                    let known = reached.len();
                    let (count, last) =
                        reached.entry((bin, period, place)).or_insert((0, usize::MAX));
                    if *last != *row {
                        (*count, *last) = (*count + 1, *row);
                    }
                    if reached.len() > known {
                        effort.keep(2 * size_of::<((i64, usize, usize), (i64, usize))>())?;
                    }
                    if let Some(starts) = starts.get_mut(place) {
                        let latest = starts.entry(bin).or_insert(start);
                        *latest = (*latest).max(start);
                    }
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl TableFunction for Completion {
    fn name(&self) -> &'static str {
        "funnel_sequence_completion"
    }

    async fn run(
        &self,
        inputs: Vec<RecordBatch>,
        schema: &SchemaRef,
        context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        let Some(input) = inputs.first() else { return exec_err!("it takes a table") };
        let mut effort = Effort::new(self.name(), context);
        let paths = self.search.paths(input)?;
        let mut reached = Reached::new();
        for path in &paths.of_ids {
            for period in self.periods.iter().copied().enumerate() {
                self.follow(path, period, &paths.sequence, &mut reached, &mut effort).await?;
            }
        }
        let mut bins: Vec<i64> = reached.keys().map(|(bin, ..)| *bin).collect();
        bins.dedup();
        let states = paths.sequence.len();
        let rows = bins.len().saturating_mul(self.periods.len()).saturating_mul(states);
        if rows > OPERATOR_ROWS_MAX {
            let limit = "operator_rows_max";
            return exceeded("a funnel makes too many rows", limit, OPERATOR_ROWS_MAX);
        }
        let mut keys: Vec<(i64, usize, usize)> = Vec::new();
        for bin in bins {
            for period in 0..self.periods.len() {
                keys.extend((0..states).map(|place| (bin, period, place)));
            }
        }
        let period = |(_, period, _): &(i64, usize, usize)| self.periods.get(*period).copied();
        let state = |(_, _, place): &(i64, usize, usize)| self.search.sequence.get(*place);
        let count = |key| reached.get(key).map_or(0, |(count, _)| *count);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(keys.iter().map(|(bin, ..)| *bin))),
            Arc::new(keys.iter().map(state).collect::<StringViewArray>()),
            Arc::new(keys.iter().map(period).collect::<Int64Array>()),
            Arc::new(Int64Array::from_iter_values(keys.iter().map(count))),
        ];
        Ok(vec![RecordBatch::try_new(Arc::clone(schema), columns)?])
    }
}
