//! Answers that go into files, however long they are.

use super::bound::Column;
use super::diagnostic::Problem;
use super::report::json_rows;
use super::syntax::Span;
use super::types::KqlType;
use super::{
    QueryError, QueryOptions, TableSource, analyze, context, failure, plan, refused, shown, time,
};
use crate::{Error, Workspace};
use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::error::ArrowError;
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt as _;
use oms_core::ErrorKind;
use oms_core::clock::Stopwatch;
use oms_core::task::blocking;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::Value as Json;
use std::io::{self, Write};
use std::sync::Arc;
use tracing::Instrument as _;
use tracing::field::Empty;

/// Rows of one row group of an exported Parquet file.
const ROW_GROUP_ROWS: usize = 128 * 1024;

/// The form of an exported file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ExportFormat {
    /// Apache Parquet: `datetime` as a microsecond timestamp in UTC, `timespan` as 64-bit ticks of
    /// 100 ns, `guid`, `decimal` and `dynamic` (as JSON) as text.
    Parquet,
    /// Comma-separated values with a row of names first (RFC 4180). Null is an empty cell.
    Csv,
    /// One JSON object a line, without the members that are null.
    Ndjson,
}

/// What an export takes, beside the query.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct ExportOptions {
    /// The form of the file.
    pub format: ExportFormat,
    /// Whether rows past the interactive retention are among the tables' rows.
    pub is_total: bool,
    /// How the query runs. Its bounds on rows, bytes and time do not count, that on memory does.
    pub query: QueryOptions,
}

/// What an export wrote.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ExportReport {
    /// Rows.
    pub rows: u64,
    /// Their columns.
    pub columns: Vec<String>,
}

/// The tables of a workspace with all of their rows.
#[derive(Debug)]
struct Total<'a>(&'a Workspace);

impl TableSource for Total<'_> {
    fn table(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        let snapshot = self.0.table_snapshot_total(name)?;
        Some(Arc::new(snapshot))
    }

    fn table_names(&self) -> Vec<String> {
        self.0.table_names()
    }
}

impl Workspace {
    /// Writes the rows that a query answers, in bounded memory; the name of a table is a query for
    /// all of its rows. Answers the report, and the writer after the last byte.
    ///
    /// # Errors
    /// [`Error::Select`] tells what is wrong with the query or kept it from running, and
    /// [`Error::File`] what kept the rows from being written: what was written is not whole.
    pub async fn export<W: Write + Send + 'static>(
        &self,
        query: &str,
        options: &ExportOptions,
        into: W,
    ) -> Result<(ExportReport, W), Error> {
        let span =
            tracing::info_span!("export", text = shown(query), rows = Empty, outcome = Empty);
        let watch = Stopwatch::start();
        let exported = self.export_all(query, options, into).instrument(span.clone()).await;
        let outcome = ErrorKind::outcome(&exported, Error::kind);
        if let Ok((report, _into)) = &exported {
            span.record("rows", report.rows);
            metrics::counter!("oms_logs_export_rows_total").increment(report.rows);
        }
        span.record("outcome", outcome);
        metrics::histogram!("oms_logs_export_seconds", "outcome" => outcome)
            .record(watch.seconds());
        exported
    }

    async fn export_all<W: Write + Send + 'static>(
        &self,
        query: &str,
        options: &ExportOptions,
        into: W,
    ) -> Result<(ExportReport, W), Error> {
        let failed = || Error::select(&"of the query");
        let total = Total(self);
        let source: &dyn TableSource = if options.is_total { &total } else { self };
        let (columns, mut rows) = stream(source, query, &options.query).await.map_err(failed())?;
        let named = columns.iter().map(|column| column.name.clone()).collect();
        let mut report = ExportReport { rows: 0, columns: named };
        let (format, columns) = (options.format, Arc::new(columns));
        let started = {
            let columns = Arc::clone(&columns);
            blocking(move || Sheet::start(format, &columns, into)).await
        };
        let mut sheet = started?;
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(|error| failed()(failure(error, &options.query)))?;
            report.rows += batch.num_rows() as u64;
            let columns = Arc::clone(&columns);
            sheet = blocking(move || {
                sheet.write(&columns, &batch)?;
                Ok::<_, Error>(sheet)
            })
            .await?;
        }
        let into = blocking(move || sheet.finish()).await?;
        Ok((report, into))
    }
}

/// The columns and rows of a query's one table.
async fn stream(
    source: &dyn TableSource,
    text: &str,
    options: &QueryOptions,
) -> Result<(Vec<Column>, SendableRecordBatchStream), QueryError> {
    let mut bound = analyze(source, text, options).await?;
    if bound.tables.len() != 1 {
        let problem = Problem::unsupported(Span::default(), "export of several tables");
        return Err(refused(text, vec![problem]));
    }
    let (_, relation) = bound.tables.remove(0);
    let failed = |error| failure(error, options);
    let plan = plan::plan(&relation).map_err(failed)?;
    let context = context(source, options, relation.needs_order()).map_err(failed)?;
    let frame = context.execute_logical_plan(plan).await.map_err(failed)?;
    let rows = frame.execute_stream().await.map_err(failed)?;
    Ok((relation.columns.clone(), rows))
}

/// A file that is written.
enum Sheet<W: Write + Send> {
    Parquet { schema: SchemaRef, writer: Box<ArrowWriter<W>> },
    Csv(W),
    Ndjson(W),
}

fn unwritten<E: std::error::Error + Send + Sync + 'static>(error: E) -> Error {
    Error::file(&"of the export")(error)
}

impl<W: Write + Send> Sheet<W> {
    fn start(format: ExportFormat, columns: &[Column], mut into: W) -> Result<Self, Error> {
        Ok(match format {
            ExportFormat::Parquet => {
                let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
                let level = ZstdLevel::try_new(1).map_err(unwritten)?;
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(level))
                    .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
                    .build();
                let writer = ArrowWriter::try_new(into, Arc::clone(&schema), Some(properties));
                Self::Parquet { schema, writer: Box::new(writer.map_err(unwritten)?) }
            }
            ExportFormat::Csv => {
                let names: Vec<Json> =
                    columns.iter().map(|column| column.name.as_str().into()).collect();
                write_csv(&mut into, &names).map_err(unwritten)?;
                Self::Csv(into)
            }
            ExportFormat::Ndjson => Self::Ndjson(into),
        })
    }

    fn write(&mut self, columns: &[Column], batch: &RecordBatch) -> Result<(), Error> {
        match self {
            Self::Parquet { schema, writer } => {
                let arrays = columns.iter().zip(batch.columns()).zip(schema.fields());
                let arrays = arrays
                    .map(|((column, array), field)| stored(column, array, field.data_type()))
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(Error::arrow("export"))?;
                let batch = RecordBatch::try_new(Arc::clone(schema), arrays)
                    .map_err(Error::arrow("export"))?;
                writer.write(&batch).map_err(unwritten)
            }
            Self::Csv(into) => {
                let rows = json_rows(columns, std::slice::from_ref(batch));
                rows.iter().try_for_each(|row| write_csv(into, row)).map_err(unwritten)
            }
            Self::Ndjson(into) => {
                let rows = json_rows(columns, std::slice::from_ref(batch));
                rows.into_iter()
                    .try_for_each(|row| write_object(into, columns, row))
                    .map_err(unwritten)
            }
        }
    }

    fn finish(self) -> Result<W, Error> {
        match self {
            Self::Parquet { writer, .. } => writer.into_inner().map_err(unwritten),
            Self::Csv(mut into) | Self::Ndjson(mut into) => {
                into.flush().map_err(unwritten)?;
                Ok(into)
            }
        }
    }
}

fn write_csv(into: &mut impl Write, cells: &[Json]) -> io::Result<()> {
    let mut line = String::new();
    for (at, cell) in cells.iter().enumerate() {
        if at > 0 {
            line.push(',');
        }
        let text = match cell {
            Json::Null => continue,
            Json::String(text) => text.clone(),
            other => other.to_string(),
        };
        match text.contains([',', '"', '\n', '\r']) {
            true => line.push_str(&format!("\"{}\"", text.replace('"', "\"\""))),
            false => line.push_str(&text),
        }
    }
    line.push_str("\r\n");
    into.write_all(line.as_bytes())
}

fn write_object(into: &mut impl Write, columns: &[Column], row: Vec<Json>) -> io::Result<()> {
    let members = columns.iter().zip(row).filter(|(_, value)| !value.is_null());
    let object: serde_json::Map<String, Json> =
        members.map(|(column, value)| (column.name.clone(), value)).collect();
    serde_json::to_writer(&mut *into, &object)?;
    into.write_all(b"\n")
}

fn field(column: &Column) -> Field {
    let kind = match column.kql_type {
        KqlType::Bool => DataType::Boolean,
        KqlType::Int => DataType::Int32,
        KqlType::Long | KqlType::TimeSpan => DataType::Int64,
        KqlType::Real => DataType::Float64,
        KqlType::DateTime => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        KqlType::String | KqlType::Guid | KqlType::Decimal | KqlType::Dynamic => DataType::Utf8,
    };
    Field::new(&column.name, kind, true)
}

/// A column of an answer in the form of a file.
fn stored(column: &Column, array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
    let ticks = array.as_primitive_opt::<Int64Type>();
    if let (KqlType::DateTime, Some(ticks)) = (column.kql_type, ticks) {
        let in_range = ticks.iter().map(|tick| tick.and_then(time::in_range));
        let micros = in_range.map(|tick| tick.map(|tick| time::micros_of_ticks(tick).0));
        let times: TimestampMicrosecondArray = micros.collect();
        return Ok(Arc::new(times.with_timezone("UTC")));
    }
    cast(array, wanted)
}
