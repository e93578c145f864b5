//! `compilationjobs` and their streams. See `dscCompilationJob.json` of 2018-01-15.
//!
//! `PUT` answers 201 when the job is durable; it is compiled from then on, here or by another server on the
//! same journal, and clients poll it by its `provisioningState`. Values of parameters are text, as JSON but
//! that a string may go without its quotes. Values of secure parameters are sealed and not told.
//! `incrementNodeConfigurationBuild` adds a build, `Config.Node[2]`. `ConfigurationData` is refused: a source
//! has its nodes' data itself. In the streams' paths a job is named by its `jobId` or its name.

use super::filter::{Kind, Property, Value};
use super::request::{Answer, Request, shown};
use crate::Error;
use crate::pull_server::{
    CompilationJob, CompilationMessage, CompilationMessageKind, CompilationState, NewCompilation,
};
use jiff::Timestamp;
use oms_core::http::respond;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tracing::Instrument as _;

const PROPERTIES: [Property; 5] = [
    ("name", Kind::Text),
    ("properties/configuration/name", Kind::OneOf),
    ("properties/status", Kind::OneOf),
    ("properties/startTime", Kind::Time),
    ("properties/endTime", Kind::Time),
];

const STREAM_PROPERTIES: [Property; 2] =
    [("properties/streamType", Kind::OneOf), ("properties/time", Kind::Time)];

/// The longest summary of a stream, in characters.
const SUMMARY_CHARS_MAX: usize = 200;

/// `DscCompilationJobCreateParameters`
#[derive(Debug, Deserialize)]
struct Parameters {
    properties: Properties,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    configuration: Association,
    /// Null is no parameter.
    #[serde(default)]
    parameters: Option<BTreeMap<String, Option<String>>>,
    /// Its name before that of 2018.
    #[serde(alias = "newNodeConfigurationBuildVersionRequired")]
    increment_node_configuration_build: Option<bool>,
}

/// `DscConfigurationAssociationProperty`
#[derive(Debug, Deserialize)]
pub(super) struct Association {
    pub(super) name: String,
}

/// `JobProvisioningState`: what clients poll for.
const fn provisioning(state: CompilationState) -> &'static str {
    match state {
        CompilationState::Completed => "Succeeded",
        CompilationState::Failed => "Failed",
        _ => "Processing",
    }
}

fn resource(request: &Request, job: &CompilationJob) -> Json {
    let mut parameters: Map<String, Json> =
        job.parameters.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    parameters.extend(job.secure_parameters().map(|name| (name.to_owned(), Json::Null)));
    json!({
        "id": request.id(&["compilationjobs", job.name.as_str()]),
        "name": job.name,
        "type": "Microsoft.Automation/AutomationAccounts/CompilationJobs",
        "properties": {
            "configuration": {"name": job.configuration},
            "jobId": job.id,
            "startedBy": job.started_by,
            "provisioningState": provisioning(job.state),
            "status": job.state.as_str(),
            "statusDetails": "None",
            "creationTime": job.created,
            "startTime": job.started,
            "endTime": job.ended,
            "lastModifiedTime": job.modified(),
            "lastStatusModifiedTime": job.modified(),
            "exception": job.reason,
            "parameters": parameters,
            "incrementNodeConfigurationBuild": job.adds_build,
            "runOn": null,
        },
    })
}

/// A key by which the newest comes first.
fn newest_first(time: Timestamp, name: &str) -> String {
    let age = i128::from(i64::MAX) - i128::from(time.as_microsecond());
    format!("{age:020} {name}")
}

/// `DscCompilationJob_ListByAutomationAccount`
pub(super) async fn list(request: Request) -> Answer {
    let filter = request.filter(&PROPERTIES)?;
    let jobs = request.server().compilations().await?;
    let keyed = jobs.into_iter().map(|job| (newest_first(job.created, job.name.as_str()), job));
    let page = request.page(keyed.collect(), &filter, |job, property| match property {
        "name" => Value::Text(job.name.to_string()),
        "properties/configuration/name" => Value::Text(job.configuration.to_string()),
        "properties/status" => Value::Text(job.state.as_str().to_owned()),
        "properties/startTime" => Value::Time(job.started),
        _ => Value::Time(job.ended),
    })?;
    let shown = page.items.iter().map(|job| resource(&request, job)).collect();
    request.list(&page, shown)
}

/// `DscCompilationJob_Get`
pub(super) async fn get(request: Request) -> Answer {
    let job = named(&request).await?;
    Ok(shown(false, &resource(&request, &job)))
}

/// `DscCompilationJob_Create`
pub(super) async fn put(request: Request) -> Answer {
    request.check_unconditional()?;
    let Parameters { properties } = request.body()?;
    let given = properties.parameters.unwrap_or_default();
    let parameters = given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let new = NewCompilation {
        name: request.named("compilationJobName")?,
        configuration: properties.configuration.name.parse()?,
        parameters,
        adds_build: properties.increment_node_configuration_build.unwrap_or(false),
    };
    let job = request.server().begin_compilation(new, &request.actor()).await?;
    let (server, name) = (Arc::clone(&request.account.server), job.name.clone());
    let span = tracing::info_span!("compilation_job", %name);
    // Whoever asked may go away: the job is in the journal.
    tokio::spawn(
        async move {
            if let Err(error) = server.run_compilation(&name).await {
                tracing::error!(%error, "compilation job waits for the next maintenance");
            }
        }
        .instrument(span),
    );
    Ok(shown(true, &resource(&request, &job)))
}

/// The job that a path names.
async fn named(request: &Request) -> Result<CompilationJob, Error> {
    let text = request.text("compilationJobName");
    match request.server().compilation(&text.parse()?).await {
        Err(Error::NotFound { what, name }) => match text.parse() {
            Ok(id) => request.server().compilation_by_id(id).await,
            Err(_no_id) => Err(Error::NotFound { what, name }),
        },
        found => found,
    }
}

/// One message of a job as a stream.
struct Stream {
    id: String,
    time: Timestamp,
    message: CompilationMessage,
}

async fn streams_of(request: &Request) -> Result<(CompilationJob, Vec<Stream>), Error> {
    let job = named(request).await?;
    let messages = request.server().compilation_messages(&job).await?;
    let time = job.modified();
    let stream = |(index, message)| {
        let id = format!("{}_{:020}_{:020}", job.id, time.as_microsecond(), index + 1);
        Stream { id, time, message }
    };
    let streams = messages.into_iter().enumerate().map(stream).collect();
    Ok((job, streams))
}

fn stream_resource(request: &Request, job: &CompilationJob, stream: &Stream, whole: bool) -> Json {
    let Stream { id, time, message } = stream;
    let job_id = job.id.to_string();
    let summary: String = message.text.chars().take(SUMMARY_CHARS_MAX).collect();
    let mut shown = json!({
        "id": request.id(&["compilationjobs", &job_id, "streams", id]),
        "properties": {
            "jobStreamId": id, "time": time, "streamType": message.kind.as_str(),
            "summary": summary,
        },
    });
    if whole {
        shown["properties"]["streamText"] = message.text.as_str().into();
        let is_output = message.kind == CompilationMessageKind::Output;
        shown["properties"]["value"] = match is_output {
            true => json!({"value": message.text}),
            false => json!({}),
        };
    }
    shown
}

/// `DscCompilationJobStream_ListByJob`
pub(super) async fn streams(request: Request) -> Answer {
    let filter = request.filter(&STREAM_PROPERTIES)?;
    let (job, streams) = streams_of(&request).await?;
    let keyed = streams.into_iter().map(|stream| (stream.id.clone(), stream)).collect();
    let page = request.page(keyed, &filter, |stream, property| match property {
        "properties/time" => Value::Time(Some(stream.time)),
        _ => Value::Text(stream.message.kind.as_str().to_owned()),
    })?;
    let shown =
        page.items.iter().map(|stream| stream_resource(&request, &job, stream, false)).collect();
    request.list(&page, shown)
}

/// `DscCompilationJob_GetStream`
pub(super) async fn stream(request: Request) -> Answer {
    let (job, streams) = streams_of(&request).await?;
    let id = request.text("jobStreamId");
    let found = streams.iter().find(|stream| stream.id.eq_ignore_ascii_case(id));
    let found = found.ok_or_else(|| Error::NotFound { what: "job stream", name: id.to_owned() })?;
    Ok(respond::json(http::StatusCode::OK, &stream_resource(&request, &job, found, true)))
}
