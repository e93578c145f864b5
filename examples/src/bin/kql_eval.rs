//! Runs Kusto queries and writes their answers, one JSON object a line: `kql_eval < CASES > ANSWERS`.
//!
//! A line in is `{"id": …, "query": "…"}`; other members are passed over. A line out is
//! `{"id": …, "columns": [{"name", "type"}], "rows": [[…]]}` or `{"id": …, "error": "…"}`, in the order
//! of the lines in. Cells are written as [`QueryReport::rows`] says. There are no tables but what a
//! query declares (`datatable`, `print`, `range`).
//!
//! Each query runs on its own, for at most [`SECONDS_MAX`], in a process that this one starts again
//! after a query that ended it. So a query that panics, overflows the stack or never ends is an
//! error, and the run goes on.
//!
//! Builds no other service: `cargo run --no-default-features --features logs --bin kql_eval`.

use oms_core::SystemClock;
use oms_logs::datafusion::catalog::TableProvider;
use oms_logs::query::{self, QueryError, QueryOptions, QueryReport, TableSource};
use serde_json::{Value as Json, json};
use std::fmt;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// The longest that one query may take.
const SECONDS_MAX: u64 = 20;

/// How much longer a process may take to say that its query timed out.
const SECONDS_OF_GRACE: u64 = 2;

/// The stack of the thread that a query runs on.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// The argument that makes a process answer for another.
const WORKER: &str = "--worker";

/// What the program says of itself.
const USAGE: &str = "\
Runs Kusto queries of its input and writes their answers, one JSON object a line.

Usage: kql_eval < CASES > ANSWERS

A line in:  {\"id\": ..., \"query\": \"print x = 1\"}; other members are passed over
A line out: {\"id\": ..., \"columns\": [{\"name\", \"type\"}], \"rows\": [[...]]}
        or: {\"id\": ..., \"error\": \"...\"}
There are no tables but what a query declares (datatable, print, range).
";

fn main() -> anyhow::Result<()> {
    let is_worker = match std::env::args().nth(1).as_deref() {
        None => false,
        Some(WORKER) => true,
        Some("-h" | "--help") => {
            std::io::stdout().write_all(USAGE.as_bytes())?;
            return Ok(());
        }
        Some(other) => anyhow::bail!("no such argument: {other}; see kql_eval --help"),
    };
    let lines = std::io::stdin().lock().lines();
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut worker = None;
    for line in lines {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let answer = if is_worker { answer(&line) } else { ask(&mut worker, &line)? };
        serde_json::to_writer(&mut out, &answer)?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
}

/// A process that answers, and the lines it writes.
struct Worker {
    process: Child,
    input: ChildStdin,
    answers: Receiver<String>,
}

impl Worker {
    fn start() -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(WORKER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            anyhow::bail!("a worker has no pipes");
        };
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { process, input, answers })
    }

    /// The answer, or why there is none; then the worker is of no more use.
    fn ask(&mut self, line: &str) -> Result<Json, String> {
        let sent = self.input.write_all(line.as_bytes());
        let sent =
            sent.and_then(|()| self.input.write_all(b"\n")).and_then(|()| self.input.flush());
        let longest = Duration::from_secs(SECONDS_MAX + SECONDS_OF_GRACE);
        let lost = || "the query ended its process".to_owned();
        sent.map_err(|_| lost())?;
        match self.answers.recv_timeout(longest) {
            Ok(answer) => serde_json::from_str(&answer).map_err(|_| lost()),
            Err(RecvTimeoutError::Timeout) => {
                Err(format!("query timed out. timeout_seconds=`{SECONDS_MAX}`"))
            }
            Err(RecvTimeoutError::Disconnected) => Err(lost()),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Asks the worker, which is started if there is none.
fn ask(worker: &mut Option<Worker>, line: &str) -> anyhow::Result<Json> {
    let mut running = match worker.take() {
        Some(running) => running,
        None => Worker::start()?,
    };
    Ok(match running.ask(line) {
        Ok(answer) => {
            *worker = Some(running);
            answer
        }
        Err(reason) => {
            let case: Json = serde_json::from_str(line).unwrap_or_default();
            json!({"id": case.get("id"), "error": reason})
        }
    })
}

/// The answer to one line.
fn answer(line: &str) -> Json {
    let case: Json = match serde_json::from_str(line) {
        Ok(case) => case,
        Err(error) => return json!({"id": null, "error": format!("not a JSON object: {error}")}),
    };
    let id = case.get("id").cloned().unwrap_or_default();
    let Some(text) = case.get("query").and_then(Json::as_str).map(str::to_owned) else {
        return json!({"id": id, "error": "no member `query` with text"});
    };
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || run(&text));
    let result = match thread.map(std::thread::JoinHandle::join) {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(format!("panic: {}", reason(&*panic))),
        Err(error) => Err(format!("no thread: {error}")),
    };
    match result {
        Ok(report) => {
            let columns = report.columns.iter();
            let columns: Vec<Json> = columns
                .map(|column| json!({"name": column.name, "type": column.kql_type.name()}))
                .collect();
            json!({"id": id, "columns": columns, "rows": report.rows()})
        }
        Err(error) => json!({"id": id, "error": error}),
    }
}

fn reason(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

fn run(text: &str) -> Result<QueryReport, String> {
    let mut options = QueryOptions::new(Arc::new(SystemClock));
    options.timeout = Duration::from_secs(SECONDS_MAX);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(query::run(&NoTables, text, &options)).map_err(|error| full(&error))
}

/// The error with its diagnostics and causes.
fn full(error: &QueryError) -> String {
    let mut text = error.to_string();
    for diagnostic in error.diagnostics().iter().skip(1) {
        text.push_str(&format!("; {diagnostic}"));
    }
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

/// Where no table is.
struct NoTables;

impl fmt::Debug for NoTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NoTables")
    }
}

impl TableSource for NoTables {
    fn table(&self, _name: &str) -> Option<Arc<dyn TableProvider>> {
        None
    }

    fn table_names(&self) -> Vec<String> {
        Vec::new()
    }
}
