//! `SendReport` and `GetReports`. See \[MS-DSCPM\] 3.10 and 3.11.

use super::JobId;
use crate::Error;
use serde::{Deserialize, Deserializer, Serialize};

/// A report, in the wire's spelling. Two or more messages with one `JobId` make one report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StatusReport {
    /// The run it is about, as the client writes it.
    #[serde(default, deserialize_with = "text")]
    pub job_id: Option<String>,
    /// `Initial`, `Consistency`, `LocalConfigurationManager`, `ReadOnly`, `Reboot`.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub operation_type: Option<String>,
    /// `Pull`, `Push`.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub refresh_mode: Option<String>,
    /// `Success`, `Failure`; only at the end.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The computer's name.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Its addresses, separated by semicolons.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<String>,
    /// `LCMVersion`
    #[serde(
        default,
        rename = "LCMVersion",
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub lcm_version: Option<String>,
    /// `2.0`
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub report_format_version: Option<String>,
    /// `Version` of the configuration document.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub configuration_version: Option<String>,
    /// When the run began, with offset.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    /// When the run ended, with offset.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub end_time: Option<String>,
    /// `True`, `False`
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub reboot_requested: Option<String>,
    /// Each a JSON text.
    #[serde(default, deserialize_with = "texts", skip_serializing_if = "Option::is_none")]
    pub errors: Option<Vec<String>>,
    /// One JSON text; an overlong one is cut into several strings.
    #[serde(default, deserialize_with = "texts", skip_serializing_if = "Option::is_none")]
    pub status_data: Option<Vec<String>>,
    /// Further names and values, of newer clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_data: Option<Vec<AdditionalData>>,
}

/// A further name and value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AdditionalData {
    /// `OSVersion`, `PSVersion`.
    #[serde(deserialize_with = "text")]
    pub key: Option<String>,
    /// A JSON text, usually.
    #[serde(deserialize_with = "text")]
    pub value: Option<String>,
}

impl StatusReport {
    /// The run it is about.
    ///
    /// # Errors
    /// [`Error::Invalid`] without one, [`Error::Name`] if it is not a UUID.
    pub fn job(&self) -> Result<JobId, Error> {
        let text = self.job_id.as_deref().filter(|text| !text.is_empty());
        let text = text
            .ok_or_else(|| Error::Invalid { what: "report", reason: "there is no JobId".into() })?;
        Ok(text.parse()?)
    }
}

/// Scalars of any type as text: clients write numbers and booleans with and without quotes.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Scalar {
        Text(String),
        Flag(bool),
        Number(serde_json::Number),
    }
    Ok(Option::<Scalar>::deserialize(deserializer)?.map(|scalar| match scalar {
        Scalar::Text(text) => text,
        Scalar::Flag(true) => "True".to_owned(),
        Scalar::Flag(false) => "False".to_owned(),
        Scalar::Number(number) => number.to_string(),
    }))
}

/// One string, or several: the schema has the first, the wire the second.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<Option<String>>),
    }
    Ok(Option::<OneOrMany>::deserialize(deserializer)?.map(|texts| match texts {
        OneOrMany::One(text) => vec![text],
        OneOrMany::Many(texts) => texts.into_iter().flatten().collect(),
    }))
}
