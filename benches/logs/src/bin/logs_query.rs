//! `logs_query FOLDER`: answers queries, one JSON object a line in and out, until the input ends.
//! In: `{"id", "kql"}`; out: `{"id", "ms", "rows", "sum"}`, the last being the total of all numbers of
//! the answer, or `{"id", "error"}`.

use anyhow::Result;
use arrow::array::AsArray as _;
use arrow::compute::{cast, sum};
use arrow::datatypes::{DataType, Float64Type};
use oms_core::SystemClock;
use oms_logs::query::{QueryOptions, QueryReport};
use serde_json::{Value as Json, json};
use std::io::{BufRead as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The total of a cell's numbers, also within arrays.
fn total(cell: &Json) -> f64 {
    match cell {
        Json::Number(number) => number.as_f64().unwrap_or(0.0),
        Json::Array(cells) => cells.iter().map(total).sum(),
        _ => 0.0,
    }
}

/// The total of an answer's numbers. Numbers alone, and not what is kept as one: times; and not what
/// the workspace adds to each row, such as `_BilledSize`.
fn total_of(report: &QueryReport) -> Result<f64> {
    let mut all = 0.0;
    let columns = report.columns.iter().enumerate();
    for (at, column) in columns.filter(|(_, column)| !column.name.starts_with('_')) {
        match column.kql_type.name() {
            "int" | "long" | "real" => {
                for batch in &report.batches {
                    let numbers = cast(batch.column(at), &DataType::Float64)?;
                    all += sum(numbers.as_primitive::<Float64Type>()).unwrap_or(0.0);
                }
            }
            "dynamic" => all += report.rows().iter().map(|row| total(&row[at])).sum::<f64>(),
            _ => {}
        }
    }
    Ok(all)
}

#[tokio::main]
async fn main() -> Result<()> {
    let [folder] = logs::arguments("logs_query FOLDER")?;
    let workspace = logs::open(&folder).await?;
    for line in std::io::stdin().lock().lines() {
        let ask: Json = serde_json::from_str(&line?)?;
        let mut options = QueryOptions::new(Arc::new(SystemClock));
        options.timeout = Duration::from_secs(300);
        let begin = Instant::now();
        let answer = workspace.query(ask["kql"].as_str().unwrap_or_default(), &options).await;
        let ms = begin.elapsed().as_secs_f64() * 1e3;
        let answer = match answer {
            // It would be no fair measure of the whole answer.
            Ok(report) if report.is_partial => json!({"error": "the answer is partial"}),
            Ok(report) => {
                let rows: usize = report.batches.iter().map(|batch| batch.num_rows()).sum();
                let sum = total_of(&report)?;
                json!({"ms": ms, "rows": rows, "sum": sum})
            }
            Err(error) => json!({"error": error.to_string()}),
        };
        let mut answer = answer;
        answer["id"] = ask["id"].clone();
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    workspace.close().await?;
    Ok(())
}
