//! `scan`: sequences of rows that match steps, one row after the other.

use super::effort::Effort;
use crate::query::bind::{BindResult, Binder, Failed, Items, Scope, of_part};
use crate::query::bound::{Column, Expr, Relation, RelationKind, null_of};
use crate::query::diagnostic::Problem;
use crate::query::limits::{OPERATOR_ROWS_MAX, exceeded};
use crate::query::plan::{self, TableFunction};
use crate::query::syntax::Span;
use crate::query::syntax::ast::{self, ScanStep};
use crate::query::types::KqlType;
use async_trait::async_trait;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt64Array,
};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::row::{OwnedRow, RowConverter, Rows, SortField};
use datafusion::common::{Result, exec_err};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::scalar::ScalarValue;
use std::collections::HashMap;
use std::sync::Arc;

impl Binder<'_> {
    /// The rows that match, with the declared columns as the steps assign them.
    pub(crate) fn scan(
        &mut self,
        input: Arc<Relation>,
        scan: &ast::Scan,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        if !input.is_serialized() {
            let message = "`scan` needs rows in an order; sort or serialize them first";
            return Err(self.report(Problem::semantic(span, message)));
        }
        let (mut declared, mut defaults) = self.scan_declared(&input, scan)?;
        let replaced = replaced_columns(&input, scan);
        for column in &replaced {
            declared.push(Column::new(replacement(&column.name), column.kql_type));
            defaults.push(null_of(column.kql_type));
        }
        let row: Vec<Column> = input.columns.iter().chain(&declared).cloned().collect();
        let all = self.scan_scope(scan, &row, &replaced)?;
        let mut steps = Vec::new();
        for step in &scan.steps {
            steps.push(self.scan_step(step, &declared, &row, &all)?);
        }
        if steps.is_empty() {
            return Err(self.report(Problem::semantic(span, "`scan` has no steps")));
        }
        let before = row.clone();
        let mut columns = row;
        if let Some(name) = &scan.match_id {
            if columns.iter().any(|column| column.name == name.text) {
                let message = format!("there is a column `{}` already", name.text);
                return Err(self.report(Problem::semantic(name.span, message)));
            }
            columns.push(Column::new(&name.text, KqlType::Long));
        }
        let of_input = input.columns.len();
        let nulls = input.columns.iter().map(|column| null_of(column.kql_type)).collect();
        let (input, keys) = self.scan_keys(input, &scan.partition, span)?;
        let function = ScanFunction {
            columns: of_input,
            nulls,
            keys,
            defaults,
            steps,
            numbers_matches: scan.match_id.is_some(),
        };
        let kind = RelationKind::Table {
            inputs: vec![input],
            function: Arc::new(function),
            serialized: true,
        };
        let scanned = self.relation(kind, columns, span)?;
        self.scan_visible(scanned, &before, &replaced, span)
    }

    /// The columns that a step's conditions and assignments see: those of the row, and those of each
    /// step's last match, by its name.
    fn scan_scope(
        &mut self,
        scan: &ast::Scan,
        row: &[Column],
        replaced: &[Column],
    ) -> BindResult<Vec<Column>> {
        let mut all = row.to_vec();
        for (at, step) in scan.steps.iter().enumerate() {
            if scan.steps.iter().take(at).any(|before| before.name.text == step.name.text) {
                let message = format!("there is a step `{}` already", step.name.text);
                return Err(self.report(Problem::semantic(step.name.span, message)));
            }
            // Of a step, a column that steps assign is what was assigned.
            let of_step = row.iter().map(|column| {
                let is = |other: &&Column| other.name == column.name;
                let name = match column.name.strip_prefix(REPLACEMENT) {
                    Some(own) => own.to_owned(),
                    None if replaced.iter().any(|other| is(&other)) => replacement(&column.name),
                    None => column.name.clone(),
                };
                Column::new(of_part(&step.name.text, &name), column.kql_type)
            });
            all.extend(of_step);
        }
        Ok(all)
    }

    /// What was assigned in the place of the columns that it replaces.
    fn scan_visible(
        &mut self,
        scanned: Arc<Relation>,
        row: &[Column],
        replaced: &[Column],
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        if replaced.is_empty() {
            return Ok(scanned);
        }
        let mut items = Items::default();
        let added = scanned.columns.iter().skip(row.len());
        for column in row.iter().chain(added) {
            if column.name.starts_with(REPLACEMENT) {
                continue;
            }
            let is_replaced = replaced.iter().any(|other| other.name == column.name);
            let from = if is_replaced { replacement(&column.name) } else { column.name.clone() };
            items.replace(&column.name, Expr::column(from, column.kql_type, span));
        }
        self.projected(scanned, items, span)
    }

    /// The declared columns and their defaults.
    fn scan_declared(
        &mut self,
        input: &Relation,
        scan: &ast::Scan,
    ) -> BindResult<(Vec<Column>, Vec<ScalarValue>)> {
        let (mut declared, mut defaults) = (Vec::<Column>::new(), Vec::new());
        for (column, default) in &scan.declared {
            let name = &column.name;
            let kql_type = self.kql_type(&column.kql_type)?;
            let taken = |of: &Column| of.name == name.text;
            if input.columns.iter().any(taken) || declared.iter().any(taken) {
                let message = format!("there is a column `{}` already", name.text);
                return Err(self.report(Problem::semantic(name.span, message)));
            }
            let default = match default {
                Some(default) => {
                    let bound = self.expr(default, &mut Scope::constants())?;
                    let value = self.fitting(bound, kql_type, &name.text)?;
                    self.constant(&value)?
                }
                None => null_of(kql_type),
            };
            declared.push(Column::new(&name.text, kql_type));
            defaults.push(default);
        }
        Ok((declared, defaults))
    }

    fn scan_step(
        &mut self,
        step: &ScanStep,
        declared: &[Column],
        row: &[Column],
        all: &[Column],
    ) -> BindResult<Step> {
        let output = match step.output.as_ref().map(|output| output.text.as_str()) {
            None | Some("all") => Output::All,
            Some("last") => Output::Last,
            Some("none") => Output::None,
            Some(other) => {
                let at = step.output.as_ref().map_or(step.name.span, |output| output.span);
                let message = format!("`{other}` is not an output of a step");
                let problem = Problem::semantic(at, message).near(other, ["all", "last", "none"]);
                return Err(self.report(problem));
            }
        };
        let condition = self.condition(&step.condition, &mut Scope::rows(all))?;
        let condition = self.scan_expr(&condition, row.len(), all)?;
        let mut assignments = Vec::new();
        for (name, value) in &step.assignments {
            let wanted = replacement(&name.text);
            let is = |column: &Column| column.name == name.text || column.name == wanted;
            let Some(at) = declared.iter().position(is) else {
                let known = declared.iter().map(|column| column.name.as_str());
                let message = format!("no declared column `{}`", name.text);
                let problem = Problem::semantic(name.span, message).near(&name.text, known);
                return Err(self.report(problem));
            };
            let Some(column) = declared.get(at) else { return Err(Failed) };
            let bound = self.expr(value, &mut Scope::rows(all))?;
            let bound = self.fitting(bound, column.kql_type, &name.text)?;
            assignments.push((at, self.scan_expr(&bound, row.len(), all)?));
        }
        // What this step does not assign stays as it came.
        for (at, column) in declared.iter().enumerate() {
            let Some(own) = column.name.strip_prefix(REPLACEMENT) else { continue };
            if !assignments.iter().any(|(assigned, _)| *assigned == at) {
                let value = Expr::column(own, column.kql_type, step.name.span);
                assignments.push((at, self.scan_expr(&value, row.len(), all)?));
            }
        }
        Ok(Step { output, condition, assignments })
    }

    /// The expression over those columns only that it reads.
    fn scan_expr(&mut self, expr: &Expr, row: usize, all: &[Column]) -> BindResult<ScanExpr> {
        let made = plan::physical(expr, all).and_then(|whole| {
            let mut reads: Vec<usize> =
                collect_columns(&whole).iter().map(|column| column.index()).collect();
            reads.sort_unstable();
            let columns: Vec<Column> =
                reads.iter().filter_map(|at| all.get(*at).cloned()).collect();
            let narrow = plan::physical(expr, &columns)?;
            let schema = Arc::new(plan::computed_schema(&columns));
            let of_state = reads.iter().any(|at| *at >= row);
            Ok(ScanExpr { expr: narrow, reads, schema, of_state })
        });
        self.checked(made.map_err(|error| Problem::semantic(expr.span, error.strip_backtrace())))
    }

    /// The input with the keys of independent scans as its last columns.
    fn scan_keys(
        &mut self,
        input: Arc<Relation>,
        keys: &[ast::NamedExpr],
        span: Span,
    ) -> BindResult<(Arc<Relation>, usize)> {
        if keys.is_empty() {
            return Ok((input, 0));
        }
        let mut items = Items::of_columns(&input.columns, span);
        for (at, key) in keys.iter().enumerate() {
            let bound = self.expr(&key.expr, &mut Scope::rows(&input.columns))?;
            items.replace(&format!("$key{at}"), bound);
        }
        Ok((self.projected(input, items, span)?, keys.len()))
    }
}

/// Before the name of a column of the input, that of the column that steps assign in its place.
const REPLACEMENT: &str = "$assigned.";

fn replacement(name: &str) -> String {
    format!("{REPLACEMENT}{name}")
}

/// The columns of the input that steps assign.
fn replaced_columns(input: &Relation, scan: &ast::Scan) -> Vec<Column> {
    let assigned = |column: &&Column| {
        let mut names = scan.steps.iter().flat_map(|step| &step.assignments);
        names.any(|(name, _)| name.text == column.name)
    };
    input.columns.iter().filter(assigned).cloned().collect()
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Output {
    All,
    Last,
    None,
}

#[derive(Debug)]
struct Step {
    output: Output,
    condition: ScanExpr,
    assignments: Vec<(usize, ScanExpr)>,
}

/// An expression and the columns that it reads: of the row, then those declared, then both of each
/// step's state.
#[derive(Debug)]
struct ScanExpr {
    expr: Arc<dyn PhysicalExpr>,
    reads: Vec<usize>,
    schema: SchemaRef,
    of_state: bool,
}

#[derive(Debug)]
struct ScanFunction {
    /// The count of the input's columns, without keys.
    columns: usize,
    /// What each of them is for a step that no row has matched.
    nulls: Vec<ScalarValue>,
    keys: usize,
    defaults: Vec<ScalarValue>,
    steps: Vec<Step>,
    numbers_matches: bool,
}

/// A row that matched a step, with its declared columns.
#[derive(Clone, Debug)]
struct Record {
    row: usize,
    declared: Arc<Vec<ScalarValue>>,
}

impl Record {
    /// How much memory its declared columns take.
    fn bytes(&self) -> usize {
        self.declared.iter().map(ScalarValue::size).sum()
    }
}

/// The records of the steps up to one, and their match.
#[derive(Clone, Debug)]
struct Sequence {
    records: Vec<Option<Record>>,
    match_id: i64,
    /// What a step with `output=last` has yet to output.
    last: Option<Record>,
}

/// The sequences of each step.
type State = Vec<Option<Sequence>>;

/// One run over the rows.
struct Run<'a> {
    scan: &'a ScanFunction,
    input: &'a RecordBatch,
    /// The values of expressions that read no state, by step: the condition, then assignments.
    plain: Vec<Vec<Option<ArrayRef>>>,
    next_match: i64,
    rows: Vec<u64>,
    declared: Vec<Vec<ScalarValue>>,
    matches: Vec<i64>,
    effort: Effort,
}

#[async_trait]
impl TableFunction for ScanFunction {
    fn name(&self) -> &'static str {
        "scan"
    }

    async fn run(
        &self,
        inputs: Vec<RecordBatch>,
        schema: &SchemaRef,
        context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        let Some(input) = inputs.first() else { return exec_err!("scan takes a table") };
        let keys = self.key_rows(input)?;
        let mut run = Run::new(self, input, Effort::new(self.name(), context))?;
        let mut states: HashMap<Option<OwnedRow>, State> = HashMap::new();
        let mut order = Vec::new();
        for row in 0..input.num_rows() {
            let key = keys.as_ref().map(|keys| keys.row(row).owned());
            if !states.contains_key(&key) {
                run.effort.keep(self.state_bytes(key.as_ref()))?;
                order.push(key.clone());
            }
            let state = states.entry(key).or_insert_with(|| vec![None; self.steps.len()]);
            run.step_all(state, row)?;
            if run.rows.len() > OPERATOR_ROWS_MAX {
                let limit = "operator_rows_max";
                return exceeded("scan makes too many rows", limit, OPERATOR_ROWS_MAX);
            }
            run.effort.step().await;
        }
        for key in order {
            let state = states.remove(&key).unwrap_or_default();
            for sequence in state.into_iter().flatten() {
                run.flush(sequence)?;
            }
        }
        run.finish(schema)
    }
}

impl ScanFunction {
    /// About how much memory the state of a key takes.
    fn state_bytes(&self, key: Option<&OwnedRow>) -> usize {
        let sequence =
            size_of::<Option<Sequence>>() + self.steps.len() * size_of::<Option<Record>>();
        let of_key = key.map_or(0, |key| 2 * key.row().as_ref().len());
        of_key + 2 * size_of::<Option<OwnedRow>>() + self.steps.len() * sequence
    }

    fn key_rows(&self, input: &RecordBatch) -> Result<Option<Rows>> {
        if self.keys == 0 {
            return Ok(None);
        }
        let keys = input.columns().get(self.columns..).unwrap_or_default();
        let fields = keys.iter().map(|key| SortField::new(key.data_type().clone())).collect();
        Ok(Some(RowConverter::new(fields)?.convert_columns(keys)?))
    }
}

impl<'a> Run<'a> {
    fn new(scan: &'a ScanFunction, input: &'a RecordBatch, effort: Effort) -> Result<Self> {
        let mut run = Self {
            scan,
            input,
            plain: Vec::new(),
            next_match: 0,
            rows: Vec::new(),
            declared: scan.defaults.iter().map(|_| Vec::new()).collect(),
            matches: Vec::new(),
            effort,
        };
        for step in &scan.steps {
            let assigned = step.assignments.iter().map(|(_, value)| value);
            let values = std::iter::once(&step.condition)
                .chain(assigned)
                .map(|expr| if expr.of_state { Ok(None) } else { run.whole(expr).map(Some) });
            let values = values.collect::<Result<Vec<_>>>()?;
            run.plain.push(values);
        }
        Ok(run)
    }

    /// The expression over all rows.
    fn whole(&self, expr: &ScanExpr) -> Result<ArrayRef> {
        let rows = self.input.num_rows();
        let columns =
            expr.reads.iter().map(|at| match self.scan.defaults.get(self.declared_at(*at)) {
                Some(default) if *at >= self.scan.columns => Ok(default.to_array_of_size(rows)?),
                _ => Ok(Arc::clone(self.input.column(*at))),
            });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&expr.schema), columns, &options)?;
        expr.expr.evaluate(&batch)?.into_array(rows)
    }

    const fn declared_at(&self, at: usize) -> usize {
        at.saturating_sub(self.scan.columns)
    }

    /// The expression for one row and a state.
    fn value(
        &self,
        expr: &ScanExpr,
        plain: Option<&ArrayRef>,
        row: usize,
        sequence: Option<&Sequence>,
    ) -> Result<ScalarValue> {
        if let Some(plain) = plain {
            return ScalarValue::try_from_array(plain, row);
        }
        let width = self.scan.columns + self.scan.defaults.len();
        let columns = expr.reads.iter().map(|at| {
            let (place, column) = (at / width, at % width);
            let record = match place.checked_sub(1) {
                None => None,
                Some(step) => {
                    sequence.and_then(|state| state.records.get(step)).and_then(Option::as_ref)
                }
            };
            self.cell(column, row, place == 0, record)
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&expr.schema), columns, &options)?;
        let array = expr.expr.evaluate(&batch)?.into_array(1)?;
        ScalarValue::try_from_array(&array, 0)
    }

    /// One value of the current row, or of a record, or of a step that has none.
    fn cell(
        &self,
        column: usize,
        row: usize,
        is_current: bool,
        record: Option<&Record>,
    ) -> Result<ArrayRef> {
        if let Some(declared) = column.checked_sub(self.scan.columns) {
            let assigned = record.and_then(|record| record.declared.get(declared));
            return match assigned.or_else(|| self.scan.defaults.get(declared)) {
                Some(value) => value.to_array(),
                None => exec_err!("a scan reads a column that is not there"),
            };
        }
        let array = self.input.column(column);
        match (is_current, record, self.scan.nulls.get(column)) {
            (true, _, _) => Ok(array.slice(row, 1)),
            (false, Some(record), _) => Ok(array.slice(record.row, 1)),
            (false, None, Some(null)) => null.to_array(),
            (false, None, None) => exec_err!("a scan reads a column that is not there"),
        }
    }

    /// Checks the row against every step, the last one first.
    fn step_all(&mut self, state: &mut State, row: usize) -> Result<()> {
        for at in (0..self.scan.steps.len()).rev() {
            let before = at.checked_sub(1);
            let promoted = before.and_then(|before| state.get(before)).and_then(Option::as_ref);
            if promoted.is_some() && self.holds(at, row, promoted)? {
                let promoted = before.and_then(|before| state.get_mut(before)?.take());
                if let (Some(mut promoted), Some(slot)) = (promoted, state.get_mut(at)) {
                    self.flush_last(&mut promoted)?;
                    if let Some(replaced) = slot.take() {
                        self.flush(replaced)?;
                    }
                    self.matched(at, row, &mut promoted)?;
                    *slot = Some(promoted);
                }
                continue;
            }
            let Some(slot) = state.get_mut(at) else { continue };
            if (slot.is_none() && at > 0) || !self.holds(at, row, slot.as_ref())? {
                continue;
            }
            let mut sequence = match slot.take() {
                Some(sequence) => sequence,
                None => {
                    let match_id = self.next_match;
                    self.next_match += 1;
                    let records = vec![None; self.scan.steps.len()];
                    Sequence { records, match_id, last: None }
                }
            };
            self.matched(at, row, &mut sequence)?;
            *slot = Some(sequence);
        }
        Ok(())
    }

    fn holds(&self, at: usize, row: usize, sequence: Option<&Sequence>) -> Result<bool> {
        let (Some(step), Some(plain)) = (self.scan.steps.get(at), self.plain.get(at)) else {
            return Ok(false);
        };
        if let Some(Some(plain)) = plain.first() {
            let flags = plain.as_boolean();
            return Ok(!flags.is_null(row) && flags.value(row));
        }
        let value = self.value(&step.condition, None, row, sequence)?;
        Ok(value == ScalarValue::Boolean(Some(true)))
    }

    /// Assigns the step's values and puts the row into its state and the output.
    fn matched(&mut self, at: usize, row: usize, sequence: &mut Sequence) -> Result<()> {
        let scan = self.scan;
        let Some(step) = scan.steps.get(at) else { return Ok(()) };
        let mut declared = scan.defaults.clone();
        for (number, (column, value)) in step.assignments.iter().enumerate() {
            let plain = self.plain.get(at).and_then(|plain| plain.get(number + 1));
            let value = self.value(value, plain.and_then(Option::as_ref), row, Some(sequence))?;
            if let Some(slot) = declared.get_mut(*column) {
                *slot = value;
            }
        }
        let record = Record { row, declared: Arc::new(declared) };
        match step.output {
            Output::All => self.output(&record, sequence.match_id)?,
            Output::Last => sequence.last = Some(record.clone()),
            Output::None => {}
        }
        self.effort.keep(record.bytes())?;
        if let Some(slot) = sequence.records.get_mut(at) {
            let replaced = slot.replace(record);
            self.effort.release(replaced.as_ref().map_or(0, Record::bytes));
        }
        Ok(())
    }

    fn flush_last(&mut self, sequence: &mut Sequence) -> Result<()> {
        match sequence.last.take() {
            Some(last) => self.output(&last, sequence.match_id),
            None => Ok(()),
        }
    }

    /// Ends a sequence.
    fn flush(&mut self, mut sequence: Sequence) -> Result<()> {
        self.flush_last(&mut sequence)?;
        let records = sequence.records.iter().flatten();
        self.effort.release(records.map(Record::bytes).sum());
        Ok(())
    }

    fn output(&mut self, record: &Record, match_id: i64) -> Result<()> {
        self.effort.keep(size_of::<u64>() + size_of::<i64>() + record.bytes())?;
        self.rows.push(record.row as u64);
        for (column, value) in self.declared.iter_mut().zip(record.declared.iter()) {
            column.push(value.clone());
        }
        self.matches.push(match_id);
        Ok(())
    }

    fn finish(self, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
        if self.rows.is_empty() {
            return Ok(Vec::new());
        }
        let rows = UInt64Array::from(self.rows);
        let of_input = self.input.columns().iter().take(self.scan.columns);
        let mut columns =
            of_input.map(|column| Ok(take(column, &rows, None)?)).collect::<Result<Vec<_>>>()?;
        for values in self.declared {
            columns.push(ScalarValue::iter_to_array(values)?);
        }
        if self.scan.numbers_matches {
            columns.push(Arc::new(Int64Array::from(self.matches)));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(vec![RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?])
    }
}
