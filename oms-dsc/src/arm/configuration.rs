//! `configurations`: source documents. See `dscConfiguration.json` of 2015-10-31.
//!
//! A source is what [`authoring`](crate::authoring) compiles, in YAML or JSON; a script of PowerShell is
//! refused by name. `PUT` and `PATCH` take it as the `value` of `properties.source` of type
//! `embeddedContent`, or as the whole body of type `text/plain`. A source at an address (`uri`) is refused:
//! this server fetches nothing for its clients.

use super::filter::{Kind, Property, Value};
use super::request::{Answer, Refused, Request, shown};
use crate::Error;
use crate::authoring::Source;
use crate::protocol::{Checksum, ConfigurationName};
use crate::pull_server::{ConfigurationSource, SourceAbout};
use http::{HeaderValue, StatusCode, header};
use oms_core::ErrorKind;
use oms_core::http::{Response, respond};
use oms_core::resource::{ETag, Preconditions};
use oms_core::task::blocking;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How often a change is tried again when somebody else changed the same source first.
const ATTEMPTS_MAX: usize = 8;

const PROPERTIES: [Property; 2] = [("name", Kind::Text), ("properties/state", Kind::OneOf)];

/// `DscConfigurationCreateOrUpdateParameters`, `DscConfigurationUpdateParameters`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    name: Option<String>,
    location: Option<String>,
    tags: Option<BTreeMap<String, String>>,
    #[serde(default)]
    properties: Properties,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    description: Option<String>,
    log_verbose: Option<bool>,
    log_progress: Option<bool>,
    source: Option<ContentSource>,
}

/// `ContentSource`
#[derive(Debug, Default, Deserialize)]
pub(super) struct ContentSource {
    hash: Option<ContentHash>,
    #[serde(rename = "type")]
    kind: Option<String>,
    value: Option<String>,
}

/// `ContentHash`
#[derive(Debug, Deserialize)]
struct ContentHash {
    algorithm: String,
    value: String,
}

impl ContentSource {
    /// The text, if it is embedded and fits its hash.
    pub(super) fn text(self) -> Result<String, Error> {
        let invalid = |reason: &str| Error::Invalid { what: "source", reason: reason.to_owned() };
        let kind = self.kind.unwrap_or_else(|| "embeddedContent".to_owned());
        if !kind.eq_ignore_ascii_case("embeddedContent") {
            return Err(Error::Unsupported { what: "type of a source", name: kind });
        }
        let text = self.value.ok_or_else(|| invalid("it has no value"))?;
        let Some(hash) = self.hash else { return Ok(text) };
        let algorithm = hash.algorithm.replace('-', "");
        if !algorithm.eq_ignore_ascii_case("sha256") {
            return Err(Error::Unsupported { what: "hash of a source", name: hash.algorithm });
        }
        match hash.value.trim().parse() == Ok(Checksum::of(text.as_bytes())) {
            true => Ok(text),
            false => Err(invalid("its hash is another's")),
        }
    }
}

/// What a request says of a source, and its text, if it says any.
struct Said {
    about: Parameters,
    text: Option<String>,
    /// Whether the text was the whole body, which says nothing else.
    is_text_alone: bool,
}

impl Said {
    fn read(request: &Request) -> Result<Self, Error> {
        let media = request.call.header(header::CONTENT_TYPE.as_str()).unwrap_or_default();
        let media = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if media.starts_with("text/") {
            let text = String::from_utf8(request.call.body.to_vec());
            let text = text.map_err(|error| Error::Invalid {
                what: "body",
                reason: format!("it is no UTF-8 after {} bytes", error.utf8_error().valid_up_to()),
            })?;
            return Ok(Self {
                about: Parameters::default(),
                text: Some(text),
                is_text_alone: true,
            });
        }
        if !matches!(media.as_str(), "" | "application/json") {
            return Err(Error::Unsupported { what: "content type", name: media });
        }
        let mut about: Parameters = request.body()?;
        let own = request.text("configurationName");
        if about.name.as_deref().is_some_and(|name| !name.eq_ignore_ascii_case(own)) {
            let reason = format!("it is called `{own}` in the path");
            return Err(Error::Invalid { what: "name of a configuration", reason });
        }
        let text = about.properties.source.take().map(ContentSource::text).transpose()?;
        Ok(Self { about, text, is_text_alone: false })
    }

    /// What is said of the source now: what is left out stays as it was in `before`.
    fn about(&self, before: Option<&SourceAbout>, location: &str) -> SourceAbout {
        let default = SourceAbout { location: location.to_owned(), ..SourceAbout::default() };
        let mut about = before.cloned().unwrap_or(default);
        let Properties { description, log_verbose, log_progress, .. } = &self.about.properties;
        let set = |place: &mut String, value: &Option<String>| {
            if let Some(value) = value {
                place.clone_from(value);
            }
        };
        set(&mut about.description, description);
        set(&mut about.location, &self.about.location);
        if let Some(tags) = &self.about.tags {
            about.tags.clone_from(tags);
        }
        about.log_verbose = log_verbose.unwrap_or(about.log_verbose);
        about.log_progress = log_progress.unwrap_or(about.log_progress);
        about
    }
}

/// Numbers of jobs and of node configurations, by the keys of configurations.
struct Counts {
    jobs: BTreeMap<String, u64>,
    node_configurations: BTreeMap<String, u64>,
}

impl Counts {
    async fn of(request: &Request) -> Result<Self, Error> {
        let (mut jobs, mut node_configurations) = (BTreeMap::new(), BTreeMap::new());
        for job in request.server().compilations().await? {
            *jobs.entry(job.configuration.key()).or_default() += 1;
        }
        for published in request.server().configurations() {
            if let Some((of, _node)) = published.name.key().split_once('.') {
                *node_configurations.entry(of.to_owned()).or_default() += 1;
            }
        }
        Ok(Self { jobs, node_configurations })
    }
}

fn resource(request: &Request, source: &ConfigurationSource, counts: &Counts) -> Json {
    let key = source.name.key();
    let count = |of: &BTreeMap<String, u64>| of.get(&key).copied().unwrap_or_default();
    json!({
        "id": request.id(&["configurations", source.name.as_str()]),
        "name": source.name,
        "type": "Microsoft.Automation/AutomationAccounts/Configurations",
        "location": source.about.location,
        "tags": source.about.tags,
        "etag": ETag::of(source.version).as_str(),
        "properties": {
            "provisioningState": "Succeeded",
            "state": "Published",
            "description": source.about.description,
            "logVerbose": source.about.log_verbose,
            "logProgress": source.about.log_progress,
            "creationTime": source.created,
            "lastModifiedTime": source.modified,
            "jobCount": count(&counts.jobs),
            "nodeConfigurationCount": count(&counts.node_configurations),
        },
    })
}

/// The same with what the source declares.
async fn whole(request: &Request, source: &ConfigurationSource) -> Result<Json, Error> {
    let mut shown = resource(request, source, &Counts::of(request).await?);
    let bytes = request.server().content(source.checksum).await?;
    let name = source.name.clone();
    let declared = blocking(move || {
        let source = Source::read(name.as_str(), &bytes)?;
        let parameter =
            |(position, (name, of)): (usize, (&str, crate::authoring::ParameterType))| {
                let default = source.default_of(name).map(|value| match value {
                    Json::String(text) => text,
                    value => value.to_string(),
                });
                let parameter = json!({
                    "type": of.as_str(), "position": position,
                    "isMandatory": source.is_mandatory(name), "defaultValue": default,
                });
                (name.to_owned(), parameter)
            };
        Ok::<_, Error>(source.parameters().enumerate().map(parameter).collect::<Map<_, _>>())
    })
    .await?;
    shown["properties"]["parameters"] = Json::Object(declared);
    shown["properties"]["source"] = json!({
        "type": "embeddedContent",
        "hash": {"algorithm": "sha256", "value": source.checksum},
    });
    Ok(shown)
}

async fn answer(request: &Request, source: &ConfigurationSource, is_new: bool) -> Answer {
    let mut response = shown(is_new, &whole(request, source).await?);
    if let Ok(tag) = HeaderValue::from_str(ETag::of(source.version).as_str()) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

/// `DscConfiguration_ListByAutomationAccount`
pub(super) async fn list(request: Request) -> Answer {
    let filter = request.filter(&PROPERTIES)?;
    let sources = request.server().sources().await?;
    let keyed = sources.into_iter().map(|source| (source.name.key(), source)).collect();
    let page = request.page(keyed, &filter, |source, property| match property {
        "name" => Value::Text(source.name.to_string()),
        _ => Value::Text("Published".to_owned()),
    })?;
    let counts = Counts::of(&request).await?;
    let shown = page.items.iter().map(|source| resource(&request, source, &counts)).collect();
    request.list(&page, shown)
}

/// `DscConfiguration_Get`
pub(super) async fn get(request: Request) -> Answer {
    let source = request.server().source(&request.named("configurationName")?).await?;
    answer(&request, &source, false).await
}

/// `DscConfiguration_GetContent`; in Azure the type is `text/powershell`.
pub(super) async fn content(request: Request) -> Answer {
    let source = request.server().source(&request.named("configurationName")?).await?;
    let text = request.server().content(source.checksum).await?;
    Ok(respond::body(StatusCode::OK, "text/plain; charset=utf-8", text))
}

/// `DscConfiguration_CreateOrUpdate`
pub(super) async fn put(request: Request) -> Answer {
    let said = Said::read(&request)?;
    if said.text.is_none() {
        let reason = "it has no properties.source".to_owned();
        return Err(Error::Invalid { what: "configuration", reason }.into());
    }
    change(&request, &said, false).await
}

/// `DscConfiguration_Update`
pub(super) async fn patch(request: Request) -> Answer {
    let said = Said::read(&request)?;
    change(&request, &said, true).await
}

/// Changes a source on condition that it is as it was read: what is left out stays, and is nobody's else.
async fn change(request: &Request, said: &Said, is_patch: bool) -> Answer {
    let name: ConfigurationName = request.named("configurationName")?;
    let given = request.conditions();
    let is_given = given.if_match.is_some() || given.if_none_match.is_some();
    let server = Arc::clone(&request.account.server);
    let actor = request.actor();
    for _ in 0..ATTEMPTS_MAX {
        let before = match server.source(&name).await {
            Err(Error::NotFound { .. }) if !is_patch => None,
            found => Some(found?),
        };
        // A body in JSON puts all that there is; a text alone leaves what is said of it.
        let kept = before.as_ref().filter(|_| is_patch || said.is_text_alone);
        let about = said.about(kept.map(|before| &before.about), &request.account.location);
        let conditions = match (is_given, &before) {
            (true, _) => given.clone(),
            (false, Some(before)) => Preconditions {
                if_match: Some(ETag::of(before.version).as_str().to_owned()),
                if_none_match: None,
            },
            (false, None) => Preconditions { if_match: None, if_none_match: Some("*".to_owned()) },
        };
        let changed = match &said.text {
            Some(text) => {
                server.put_source(&name, text.as_bytes(), &about, &conditions, &actor).await
            }
            None => {
                let described = server.describe_source(&name, &about, &conditions, &actor).await;
                described.map(|source| (source, false))
            }
        };
        match changed {
            Ok((source, is_new)) => return answer(request, &source, is_new).await,
            // Somebody else was first: read what they did.
            Err(error) if !is_given && error.kind() == ErrorKind::PreconditionFailed => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refused::from(Error::Internal { reason: format!("{name} changes too fast") }))
}

/// `DscConfiguration_Delete`; what was compiled stays.
pub(super) async fn delete(request: Request) -> Answer {
    let name = request.named("configurationName")?;
    let (conditions, actor) = (request.conditions(), request.actor());
    let empty = |status| -> Response { respond::empty(status) };
    match request.server().remove_source(&name, &conditions, &actor).await {
        Ok(()) => Ok(empty(StatusCode::OK)),
        // What is not there need not be deleted.
        Err(Error::NotFound { .. }) => Ok(empty(StatusCode::NO_CONTENT)),
        Err(error) => Err(error.into()),
    }
}
