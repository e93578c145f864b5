//! `agentRegistrationInformation`: where machines register, and with which key. See `account.json` of
//! 2018-01-15.
//!
//! In Azure whoever may read an account reads its keys. Here a `GET` needs
//! `…/agentRegistrationInformation/listKeys/action`, which the role Reader does not have: who holds a key
//! registers machines, and a registered machine fetches configurations.

use super::request::{Answer, Request};
use crate::Error;
use crate::authoring::{CompileOptions, Source};
use crate::configuration::Schemas;
use crate::pull_server::{AccountKeyName, AccountKeys};
use http::StatusCode;
use oms_core::Secret;
use oms_core::http::respond;
use oms_core::task::blocking;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

/// `AgentRegistrationRegenerateKeyParameter`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    key_name: String,
}

/// What a machine is to be told to register here; its settings are Azure's.
const METACONFIGURATION: &str = "
configuration: RegistrationMetaConfig
parameters: {url: {type: string}, key: {type: secureString}, isClear: {type: bool}}
settings:
  RefreshMode: Pull
  AllowModuleOverwrite: false
  ActionAfterReboot: ContinueConfiguration
  RefreshFrequencyMins: 30
  RebootNodeIfNeeded: false
  ConfigurationModeFrequencyMins: 15
  ConfigurationMode: ApplyAndMonitor
resources:
- type: ConfigurationRepositoryWeb
  name: AzureAutomationDSC
  properties: &server
    ServerURL: \"[parameters('url')]\"
    RegistrationKey: \"[parameters('key')]\"
    AllowUnsecureConnection: \"[parameters('isClear')]\"
- {type: ResourceRepositoryWeb, name: AzureAutomationDSC, properties: *server}
- {type: ReportServerWeb, name: AzureAutomationDSC, properties: *server}
";

fn metaconfiguration(url: &str, key: &Secret) -> Result<String, Error> {
    let source = Source::read("RegistrationMetaConfig", METACONFIGURATION.as_bytes())?;
    let key = key
        .expose_text()
        .map_err(|_bytes| Error::Internal { reason: "a registration key is no text".to_owned() })?;
    let is_clear = !url.starts_with("https:");
    let parameters = BTreeMap::from([
        ("url".to_owned(), json!(url)),
        ("key".to_owned(), json!(key)),
        ("isClear".to_owned(), json!(is_clear)),
    ]);
    let options = CompileOptions { parameters, ..CompileOptions::default() };
    let compiled = source.compile(&Schemas::standard()?, &options)?;
    let text = compiled.into_iter().next().map(|document| document.text);
    text.ok_or_else(|| Error::Internal { reason: "no metaconfiguration was made".to_owned() })
}

async fn answer(request: &Request, keys: AccountKeys) -> Answer {
    let endpoint = format!("{}{}", request.call.base_url(), request.account.pull_path);
    let (url, key) = (endpoint.clone(), keys.primary.clone());
    let document = blocking(move || metaconfiguration(&url, &key)).await?;
    let shown = |key: &Secret| key.expose_text().unwrap_or_default().to_owned();
    let body = json!({
        "id": request.id(&["agentRegistrationInformation", &endpoint]),
        "endpoint": endpoint,
        "keys": {"primary": shown(&keys.primary), "secondary": shown(&keys.secondary)},
        "dscMetaConfiguration": document,
    });
    let mut response = respond::json(StatusCode::OK, &body);
    let never = http::HeaderValue::from_static("no-store");
    response.headers_mut().insert(http::header::CACHE_CONTROL, never);
    Ok(response)
}

/// `AgentRegistrationInformation_Get`
pub(super) async fn get(request: Request) -> Answer {
    let keys = request.server().account_keys(&request.actor()).await?;
    answer(&request, keys).await
}

/// `AgentRegistrationInformation_RegenerateKey`
pub(super) async fn regenerate(request: Request) -> Answer {
    let Parameters { key_name } = request.body()?;
    let name = match key_name.to_ascii_lowercase().as_str() {
        "primary" => AccountKeyName::Primary,
        "secondary" => AccountKeyName::Secondary,
        _ => {
            let reason = "neither `primary` nor `secondary`".to_owned();
            return Err(Error::Invalid { what: "keyName", reason }.into());
        }
    };
    let keys = request.server().regenerate_account_key(name, &request.actor()).await?;
    answer(&request, keys).await
}
