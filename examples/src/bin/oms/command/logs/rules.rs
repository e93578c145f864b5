//! Data collection rules, and the records of files that go through them.

use super::{BATCH_ROWS, INGESTING, PRODUCER, REFUSED_TOLD_MAX};
use crate::command::Output;
use crate::suite::Suite;
use crate::tour::account::counted;
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use oms_core::task::blocking;
use oms_logs::ingest::rule::{DataCollectionRule, StreamBatch};
use oms_logs::{Error, Workspace};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// The longest rule file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum Rule {
    /// Takes a rule, as Azure Resource Manager has it, in the place of the one of its name.
    Put {
        /// Its name; that in the file, or the file's own name without it.
        #[arg(long)]
        name: Option<String>,
        /// The JSON document with its properties.
        file: PathBuf,
    },
    /// Lists the rules with their immutable ids and streams.
    List,
    /// Prints a rule.
    Show {
        /// Its name or immutable id.
        name: String,
    },
    /// Removes a rule; the rows that came through it stay.
    Delete {
        /// Its name or immutable id.
        name: String,
    },
}

pub(super) async fn run(suite: &Suite, command: &Rule) -> Result<Output> {
    let logs = suite.logs()?;
    match command {
        Rule::Put { name, file } => put(logs, name.as_deref(), file).await,
        Rule::List => list(logs),
        Rule::Show { name } => {
            let rule = logs.rule(name)?;
            Ok(Output::new(format!("{:#}\n", rule.document), shown(&rule)))
        }
        Rule::Delete { name } => {
            let rule = logs.delete_rule(name).await?;
            let text = format!("rule {} is removed\n", rule.name);
            Ok(Output::new(text, json!({"removed": rule.name})))
        }
    }
}

fn shown(rule: &DataCollectionRule) -> Value {
    json!({"name": rule.name, "immutableId": rule.immutable_id, "document": rule.document})
}

async fn put(logs: &Workspace, name: Option<&str>, file: &Path) -> Result<Output> {
    let of_file = || format!("file {}", file.display());
    let bytes = file.metadata().with_context(of_file)?.len();
    if bytes > FILE_BYTES_MAX {
        bail!("{}: {bytes} bytes are more than {FILE_BYTES_MAX}", of_file());
    }
    let text = std::fs::read_to_string(file).with_context(of_file)?;
    let document: Value = serde_json::from_str(&text).with_context(of_file)?;
    let in_file = document.get("name").and_then(Value::as_str);
    let stem = file.file_stem().and_then(|stem| stem.to_str());
    let name = name.or(in_file).or(stem).unwrap_or_default().to_owned();
    match logs.put_rule(&name, document).await {
        Ok((rule, is_new)) => {
            let what = if is_new { "created" } else { "replaced" };
            let text = format!("rule {} is {what}: {}\n", rule.name, rule.immutable_id);
            Ok(Output::new(text, shown(&rule)))
        }
        Err(Error::Rule { rule, problems }) => {
            let mut text = format!("rule {rule} is refused:\n");
            for problem in &problems {
                text.push_str(&format!("  {problem}\n"));
            }
            let told: Vec<_> = problems
                .iter()
                .map(|problem| json!({"place": problem.place, "reason": problem.reason}))
                .collect();
            Ok(Output::new(text, json!({"rule": rule, "problems": told})).failed())
        }
        Err(error) => Err(error.into()),
    }
}

fn list(logs: &Workspace) -> Result<Output> {
    let (mut text, mut rules) = (String::new(), Vec::new());
    for rule in logs.rules()? {
        let flows = rule.document["properties"]["dataFlows"].as_array();
        let streams = flows.into_iter().flatten().filter_map(|flow| flow["streams"].as_array());
        let mut streams: Vec<&str> = streams.flatten().filter_map(Value::as_str).collect();
        streams.sort_unstable();
        streams.dedup();
        let (name, id) = (&rule.name, &rule.immutable_id);
        text.push_str(&format!("{name:<24} {id}  {}\n", streams.join(", ")));
        rules.push(json!({"name": name, "immutableId": id, "streams": streams}));
    }
    if rules.is_empty() {
        text.push_str("there are no data collection rules\n");
    }
    Ok(Output::new(text, json!(rules)))
}

/// Records of a file, each with the line that it begins at, or its place in the array.
pub(super) type Records = Vec<(u64, Value)>;

/// What became of the records of some files.
#[derive(Debug, Default)]
struct Sent {
    records: u64,
    rows: u64,
    filtered: u64,
    refused: u64,
    reasons: Vec<String>,
    changes: BTreeMap<String, u64>,
}

impl Sent {
    fn refuse(&mut self, records: u64, reason: String) {
        self.refused += records;
        if self.reasons.len() < REFUSED_TOLD_MAX {
            self.reasons.push(reason);
        }
    }
}

pub(super) async fn ingest(
    suite: &Suite,
    rule: &str,
    stream: &str,
    files: &[PathBuf],
) -> Result<Output> {
    let logs = suite.logs()?;
    logs.rule(rule)?;
    let mut opened = Vec::with_capacity(files.len());
    for path in files {
        opened.push(File::open(path).with_context(|| format!("file {}", path.display()))?);
    }
    let _turn = INGESTING.lock().await;
    let mut sent = Sent::default();
    for (path, file) in files.iter().zip(opened) {
        let (batches, mut read) = mpsc::channel::<Result<Records, (u64, String)>>(2);
        let reading = blocking(move || read_records(file, &batches));
        let sending = async {
            while let Some(records) = read.recv().await {
                match records {
                    Ok(records) => send(logs, (rule, stream), path, records, &mut sent).await?,
                    Err((number, reason)) => {
                        logs.note_refused(stream, &format!("records of files: {reason}"), 1)?;
                        sent.refuse(1, format!("{}:{number}: {reason}", path.display()));
                    }
                }
            }
            Ok::<(), anyhow::Error>(())
        };
        let (read, done) = tokio::join!(reading, sending);
        done?;
        read.with_context(|| format!("file {}", path.display()))?;
    }
    Ok(summary(&sent, rule, stream))
}

/// Reads an array of records, or one a line.
pub(super) fn read_records(
    file: File,
    batches: &mpsc::Sender<Result<Records, (u64, String)>>,
) -> Result<()> {
    let mut input = BufReader::with_capacity(1 << 20, file);
    if input.fill_buf()?.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        let records: Vec<Value> = serde_json::from_reader(input)?;
        let mut records = (1..).zip(records);
        loop {
            let batch: Records = records.by_ref().take(BATCH_ROWS).collect();
            if batch.is_empty() || batches.blocking_send(Ok(batch)).is_err() {
                return Ok(());
            }
        }
    }
    let mut records = Vec::new();
    for (number, line) in (1..).zip(input.split(b'\n')) {
        let line = line?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let record = match serde_json::from_slice::<Value>(&line) {
            Ok(record @ Value::Object(_)) => record,
            Ok(_) => {
                let refused = (number, "is not an object".to_owned());
                if batches.blocking_send(Err(refused)).is_err() {
                    return Ok(());
                }
                continue;
            }
            Err(error) => {
                if batches.blocking_send(Err((number, format!("is not JSON: {error}")))).is_err() {
                    return Ok(());
                }
                continue;
            }
        };
        records.push((number, record));
        if records.len() == BATCH_ROWS
            && batches.blocking_send(Ok(std::mem::take(&mut records))).is_err()
        {
            return Ok(());
        }
    }
    if !records.is_empty() {
        let _ = batches.blocking_send(Ok(records));
    }
    Ok(())
}

/// Sends a batch; one that is refused is told of and left out.
async fn send(
    logs: &Workspace,
    (rule, stream): (&str, &str),
    path: &Path,
    records: Records,
    sent: &mut Sent,
) -> Result<()> {
    let (count, first) = (records.len() as u64, records.first().map_or(1, |(number, _)| *number));
    let records: Vec<Value> = records.into_iter().map(|(_, record)| record).collect();
    loop {
        let batch = StreamBatch {
            producer: PRODUCER.to_owned(),
            sequence: logs.last_sequence(PRODUCER)? + 1,
            rule: rule.to_owned(),
            stream: stream.to_owned(),
            records: records.clone(),
        };
        match logs.ingest_stream(batch).await {
            Ok(report) => {
                sent.records += report.records;
                sent.rows += report.rows;
                sent.filtered += report.filtered;
                for (what, records) in report.changes {
                    *sent.changes.entry(what).or_default() += records;
                }
                return Ok(());
            }
            Err(Error::Busy { .. }) => drop(logs.flush().await?),
            Err(error @ (Error::Record { .. } | Error::Batch { .. } | Error::Transform { .. })) => {
                let place = format!("{}:{first}", path.display());
                let reason = format!("{:#}", anyhow::Error::from(error));
                sent.refuse(count, format!("{place} and {} after it: {reason}", count - 1));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn summary(sent: &Sent, rule: &str, stream: &str) -> Output {
    let Sent { records, rows, filtered, refused, reasons, changes } = sent;
    let mut text = format!(
        "{} of {stream} taken through {rule}: {} written, {filtered} filtered away\n",
        counted(*records, "record"),
        counted(*rows, "row")
    );
    for (what, count) in changes {
        text.push_str(&format!("  {count}: {what}\n"));
    }
    if *refused > 0 {
        text.push_str(&format!("{} refused:\n", counted(*refused, "record")));
        for reason in reasons {
            text.push_str(&format!("  {reason}\n"));
        }
    }
    let json = json!({
        "rule": rule, "stream": stream, "records": records, "rows": rows, "filtered": filtered,
        "changes": changes, "refused": refused, "reasons": reasons,
    });
    let output = Output::new(text, json);
    if *refused > 0 { output.failed() } else { output }
}
