//! A rule's flows, ready to run: which rows go where, and by which transformation.

use super::document::{CUSTOM, Declared, DeclaredFlow, MICROSOFT};
use super::{Problems, RuleProblem};
use crate::ingest::admit::{OWN_COLUMNS, new_column, same_but_for_case};
use crate::query::{Column, KqlType, QueryError, Transform};
use crate::schema::{self, COMPUTER, ColumnType, TIME_GENERATED, TableSchema};
use jiff::Timestamp;
use oms_core::record::RecordType;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a rule does to the records of each of its streams.
#[derive(Debug)]
pub(crate) struct Program {
    streams: BTreeMap<String, Stream>,
}

/// A stream that flows read.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) columns: Vec<Column>,
    pub(crate) flows: Vec<Flow>,
}

/// A copy of a stream's rows on its way into a table.
#[derive(Debug)]
pub(crate) struct Flow {
    /// Where it stands in the document.
    pub(crate) place: String,
    pub(crate) table: RecordType,
    pub(crate) transform: Option<Transform>,
    /// What its rows have.
    pub(crate) columns: Vec<Column>,
}

impl Program {
    /// Prepares every flow. `table` answers with the schema that a table has or starts with.
    ///
    /// # Errors
    /// Everything that is wrong with the flows.
    pub(crate) fn compile(
        declared: &Declared,
        table: impl Fn(&RecordType) -> TableSchema,
        now: Timestamp,
    ) -> Result<Self, Vec<RuleProblem>> {
        let mut problems = Problems::default();
        let mut streams = BTreeMap::<String, Stream>::new();
        for flow in &declared.flows {
            for name in &flow.streams {
                let columns = match declared.streams.get(name) {
                    Some(columns) => columns.clone(),
                    None => match of_everyone(name) {
                        Some(columns) => columns,
                        None => {
                            let reason = format!("there is no stream `{name}`");
                            problems.add(format!("{}.streams", flow.place), reason);
                            continue;
                        }
                    },
                };
                let Some(made) = compile_flow(flow, name, &columns, &table, now, &mut problems)
                else {
                    continue;
                };
                let stream = streams.entry(name.clone());
                stream.or_insert_with(|| Stream { columns, flows: Vec::new() }).flows.push(made);
            }
        }
        match problems.0 {
            problems if problems.is_empty() => Ok(Self { streams }),
            problems => Err(problems),
        }
    }

    pub(crate) fn stream(&self, name: &str) -> Option<&Stream> {
        self.streams.get(name)
    }
}

/// The columns of a stream that needs no declaration: those of the standard table of its name.
fn of_everyone(stream: &str) -> Option<Vec<Column>> {
    let name: RecordType = stream.strip_prefix(MICROSOFT)?.parse().ok()?;
    let schema = TableSchema::standard(&name)?;
    let is_sent = |column: &&schema::Column| {
        let name = column.name.as_str();
        name == TIME_GENERATED || name == COMPUTER || !OWN_COLUMNS.contains(&name)
    };
    let column = |column: &schema::Column| {
        let kql_type = KqlType::of_name(column.column_type.as_str())?;
        Some(Column { name: column.name.clone(), kql_type })
    };
    schema.columns().iter().filter(is_sent).map(column).collect()
}

fn compile_flow(
    flow: &DeclaredFlow,
    stream: &str,
    columns: &[Column],
    table: &impl Fn(&RecordType) -> TableSchema,
    now: Timestamp,
    problems: &mut Problems,
) -> Option<Flow> {
    let of_output = format!("{}.outputStream", flow.place);
    let output = flow.output.as_deref().unwrap_or(stream);
    let name = match table_of(output) {
        Ok(name) => name,
        Err(reason) => {
            problems.add(of_output, reason);
            return None;
        }
    };
    let mut of_columns = format!("{}.streams", flow.place);
    let (transform, made) = match &flow.transform {
        None => (None, columns.to_vec()),
        Some(text) => {
            of_columns = format!("{}.transformKql", flow.place);
            match Transform::compile(text, columns.to_vec(), now) {
                Ok(transform) => {
                    let made = transform.columns().to_vec();
                    (Some(transform), made)
                }
                Err(error) => {
                    tell(&of_columns, &error, problems);
                    return None;
                }
            }
        }
    };
    check_columns(&of_columns, &made, &table(&name), problems);
    Some(Flow { place: flow.place.clone(), table: name, transform, columns: made })
}

/// Each thing that is wrong with a transformation, with its line and column.
fn tell(place: &str, error: &QueryError, problems: &mut Problems) {
    let diagnostics = error.diagnostics();
    for diagnostic in diagnostics {
        problems.add(place, diagnostic.to_string());
    }
    if diagnostics.is_empty() {
        problems.add(place, error.to_string());
    }
}

/// The table of an output stream.
fn table_of(output: &str) -> Result<RecordType, String> {
    let parsed = |name: &str| name.parse::<RecordType>().map_err(|error| error.to_string());
    if let Some(name) = output.strip_prefix(CUSTOM) {
        if !name.ends_with("_CL") {
            return Err(format!("`{output}` is no table: a custom table ends in `_CL`"));
        }
        return parsed(name);
    }
    let Some(name) = output.strip_prefix(MICROSOFT) else {
        return Err(format!("`{output}` begins with neither `Custom-` nor `Microsoft-`"));
    };
    let name = parsed(name)?;
    match TableSchema::standard(&name) {
        Some(_) => Ok(name),
        None => Err(format!("there is no table `{name}`")),
    }
}

/// Checks that a table can take rows with these columns.
fn check_columns(place: &str, made: &[Column], schema: &TableSchema, problems: &mut Problems) {
    let table = schema.name();
    match made.iter().find(|column| column.name == TIME_GENERATED) {
        None => problems.add(place, "the rows have no `TimeGenerated`"),
        Some(time) if time.kql_type != KqlType::DateTime => {
            let reason = format!("`TimeGenerated` is {}, and has to be datetime", time.kql_type);
            problems.add(place, reason);
        }
        Some(_) => {}
    }
    let mut added = Vec::new();
    for Column { name, kql_type } in made {
        let Ok(found) = kql_type.name().parse::<ColumnType>() else { continue };
        let known = schema.column(name);
        match known {
            _ if name == TIME_GENERATED => {}
            _ if name != COMPUTER && OWN_COLUMNS.contains(&name.as_str()) => {
                problems.add(place, format!("the workspace fills the column `{name}` itself"));
            }
            Some(column) if can_become(found, column.column_type) => {}
            Some(column) => {
                let wanted = column.column_type;
                let reason = format!("column `{name}` of table {table} is {wanted}, not {found}");
                problems.add(place, reason);
            }
            None => match new_column(schema, added.len(), name, found) {
                Ok(column) => match same_but_for_case(schema, &added, name) {
                    Some(other) => {
                        let reason = format!("`{name}` differs from `{other}` in case alone");
                        problems.add(place, reason);
                    }
                    None => added.extend(column),
                },
                Err(reason) => problems.add(place, format!("column `{name}`: {reason}")),
            },
        }
    }
}

/// Whether values of a type can go into a column, some of them at least.
fn can_become(found: ColumnType, column: ColumnType) -> bool {
    use ColumnType::{Decimal, Dynamic, Guid, Int, Long, Real, String};
    found == column
        || matches!(
            (column, found),
            (Dynamic, _)
                | (Long | Real | Decimal, Int)
                | (Int | Real | Decimal, Long)
                | (String, Guid | Decimal)
                | (Guid | Decimal, String)
        )
}

/// A program that is shared by whoever runs it.
pub(super) type Shared = Result<Arc<Program>, Vec<RuleProblem>>;
