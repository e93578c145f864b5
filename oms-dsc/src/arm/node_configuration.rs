//! `nodeConfigurations`: what nodes get. See `dscNodeConfiguration.json` of 2018-01-15.
//!
//! Every published configuration is one, also those that no source was compiled to. `PUT` takes a document
//! in MOF; `configuration.name`, if it is given, is the part of the name in front of its first dot.
//! `incrementNodeConfigurationBuild` publishes it as the next build, `Config.Node[2]`, in place of changing
//! what nodes have. Taking one away leaves nodes as they are.

use super::compilation::Association;
use super::configuration::ContentSource;
use super::filter::{Kind, Property, Value};
use super::request::{Answer, Request, shown};
use crate::Error;
use crate::protocol::ConfigurationName;
use crate::pull_server::PublishedConfiguration;
use http::StatusCode;
use oms_core::http::respond;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

const PROPERTIES: [Property; 2] =
    [("name", Kind::Text), ("properties/configuration/name", Kind::OneOf)];

/// `DscNodeConfigurationCreateOrUpdateParameters`
#[derive(Debug, Deserialize)]
struct Parameters {
    name: Option<String>,
    properties: Properties,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    source: ContentSource,
    configuration: Option<Association>,
    increment_node_configuration_build: Option<bool>,
}

/// The configuration that a node configuration is of.
fn configuration_of(name: &ConfigurationName) -> &str {
    name.as_str().split('.').next().unwrap_or_default()
}

/// How many nodes should have each configuration, by the keys of their names.
pub(super) async fn node_counts(request: &Request) -> Result<BTreeMap<String, u64>, Error> {
    let mut counts = BTreeMap::new();
    for node in request.server().nodes().await? {
        for name in request.server().assignment(&node).configuration_names {
            *counts.entry(name.key()).or_default() += 1;
        }
    }
    Ok(counts)
}

async fn resource(
    request: &Request,
    published: &PublishedConfiguration,
    counts: &BTreeMap<String, u64>,
) -> Result<Json, Error> {
    let name = &published.name;
    let times = request.server().published_times(name).await?;
    Ok(json!({
        "id": request.id(&["nodeConfigurations", name.as_str()]),
        "name": name,
        "type": "Microsoft.Automation/AutomationAccounts/NodeConfigurations",
        "properties": {
            "configuration": {"name": configuration_of(name)},
            "creationTime": times.map(|(first, _last)| first),
            "lastModifiedTime": times.map(|(_first, last)| last),
            "nodeCount": counts.get(&name.key()).copied().unwrap_or_default(),
            "incrementNodeConfigurationBuild": name.as_str().ends_with(']'),
        },
    }))
}

/// One that is published.
pub(super) fn published(
    request: &Request,
    name: &ConfigurationName,
) -> Result<PublishedConfiguration, Error> {
    let found = request.server().configurations().into_iter().find(|held| held.name == *name);
    let missing = || Error::NotFound { what: "node configuration", name: name.to_string() };
    found.ok_or_else(missing)
}

/// `DscNodeConfiguration_ListByAutomationAccount`
pub(super) async fn list(request: Request) -> Answer {
    let filter = request.filter(&PROPERTIES)?;
    let all = request.server().configurations();
    let keyed = all.into_iter().map(|published| (published.name.key(), published)).collect();
    let page = request.page(keyed, &filter, |published, property| match property {
        "name" => Value::Text(published.name.to_string()),
        _ => Value::Text(configuration_of(&published.name).to_owned()),
    })?;
    let counts = node_counts(&request).await?;
    let mut shown = Vec::new();
    for published in &page.items {
        shown.push(resource(&request, published, &counts).await?);
    }
    request.list(&page, shown)
}

/// `DscNodeConfiguration_Get`
pub(super) async fn get(request: Request) -> Answer {
    let found = published(&request, &request.named("nodeConfigurationName")?)?;
    let counts = node_counts(&request).await?;
    Ok(shown(false, &resource(&request, &found, &counts).await?))
}

/// `DscNodeConfiguration_CreateOrUpdate`
pub(super) async fn put(request: Request) -> Answer {
    request.check_unconditional()?;
    let name: ConfigurationName = request.named("nodeConfigurationName")?;
    let Parameters { name: own, properties } = request.body()?;
    let unlike = |what: &'static str, told: &str| {
        let reason = format!("it is `{told}`, and the path names `{name}`");
        Error::Invalid { what, reason }
    };
    if let Some(own) = own.filter(|own| own.to_lowercase() != name.key()) {
        return Err(unlike("name of a node configuration", &own).into());
    }
    if let Some(of) = properties.configuration.map(|of| of.name)
        && of.to_lowercase() != configuration_of(&name).to_lowercase()
    {
        return Err(unlike("configuration of a node configuration", &of).into());
    }
    let is_new = published(&request, &name).is_err();
    let adds_build = properties.increment_node_configuration_build.unwrap_or(false);
    let text = properties.source.text()?;
    let server = request.server();
    let made = server.publish_build(name.as_str(), text.as_bytes(), adds_build).await?;
    let counts = node_counts(&request).await?;
    let is_created = is_new || made.name != name;
    Ok(shown(is_created, &resource(&request, &made, &counts).await?))
}

/// `DscNodeConfiguration_Delete`
pub(super) async fn delete(request: Request) -> Answer {
    request.check_unconditional()?;
    let name = request.named("nodeConfigurationName")?;
    request.server().unpublish(&name, &request.actor()).await?;
    Ok(respond::empty(StatusCode::OK))
}
