//! The pull protocol, without I/O. See \[MS-DSCPM\].
//!
//! A [`Request`] names one [`Operation`] and carries what the wire carries; a [`Reply`] is the
//! status, headers and body to send. Client and server share them, so that neither needs HTTP to
//! be tested. Where the specification and real clients differ, the wire wins: node states are
//! spelled `Ok`, `GetConfiguration` and `UpdateMetaConfig`, report errors and status data are
//! arrays of strings, and header values stand without quotes.

pub mod auth;

mod get_dsc_action;

mod register;

mod reply;

mod report;

mod resource_state;

pub mod strict;

pub mod v1;

pub use get_dsc_action::{
    ClientStatus, ConfigurationStatus, DscAction, GetDscActionRequest, GetDscActionResponse,
};
pub use register::{
    AgentInformation, CertificateInformation, CertificateRotationRequest, RegisterDscAgentRequest,
    RegistrationInformation, RegistrationMessageType,
};
pub use reply::Reply;
pub use report::{AdditionalData, StatusReport};
pub use resource_state::{
    GetResourceStateRequest, GetResourceStateResponse, NODE_NAMES_MAX, NodeResourceState,
    ReportedState,
};

use crate::Error;
use bytes::Bytes;
use oms_core::id::ParseIdError;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt::{self, Write as _};
use std::str::FromStr;

/// The value of `ProtocolVersion` in every request and response.
pub const PROTOCOL_VERSION: &str = "2.0";

/// The response header with which a server asks for a CertificateRotation; its only value is `True`.
/// See \[MS-DSCPM\] 2.2.2.8.
pub const CERTIFICATE_ROTATION_HEADER: &str = "DSC-certificateRotation";

/// The value of `ChecksumAlgorithm`, the only algorithm of the protocol.
pub const CHECKSUM_ALGORITHM: &str = "SHA-256";

oms_core::uuid_id! {
    /// One local configuration manager, chosen by itself (`AgentId`).
    AgentId, "agent id"
}

oms_core::uuid_id! {
    /// One run of a local configuration manager (`JobId`), or a node of protocol version 1
    /// (`ConfigurationId`).
    JobId, "job id"
}

/// The name of a node configuration: `Web`, `Site.WebServer`.
///
/// 1 to 255 bytes; no control characters, slashes, backslashes or quotes; not `.` or `..`.
/// Compared without regard to case.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConfigurationName(String);

impl ConfigurationName {
    /// The longest name, in bytes.
    pub const LENGTH_MAX: usize = 255;

    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is compared: the name in lower case.
    #[must_use]
    pub fn key(&self) -> String {
        self.0.to_lowercase()
    }
}

impl FromStr for ConfigurationName {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        check_name("configuration name", text)?;
        Ok(Self(text.to_owned()))
    }
}

/// Refuses what could mean anything but a name in a path, a URL or an OData key.
pub(crate) fn check_name(what: &'static str, text: &str) -> Result<(), ParseIdError> {
    let refuse = |reason| Err(ParseIdError::new(what, text, reason));
    if text.is_empty() || text.len() > ConfigurationName::LENGTH_MAX {
        return refuse("not 1 to 255 bytes");
    }
    if matches!(text, "." | "..") {
        return refuse("names a folder");
    }
    if text.chars().any(|c| c.is_control() || matches!(c, '/' | '\\' | '\'' | '"')) {
        return refuse("has a control character, slash, backslash or quote");
    }
    Ok(())
}

impl TryFrom<String> for ConfigurationName {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<ConfigurationName> for String {
    fn from(name: ConfigurationName) -> Self {
        name.0
    }
}

impl fmt::Display for ConfigurationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq for ConfigurationName {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for ConfigurationName {}

impl PartialOrd for ConfigurationName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ConfigurationName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// SHA-256 of a body; printed as 64 upper-case hexadecimal digits, read in any case.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Checksum([u8; 32]);

impl Checksum {
    /// The checksum of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl FromStr for Checksum {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let refuse = || ParseIdError::new("checksum", text, "not 64 hexadecimal digits");
        if text.len() != 64 || !text.is_ascii() {
            return Err(refuse());
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            let digits = &text[index * 2..index * 2 + 2];
            *byte = u8::from_str_radix(digits, 16).map_err(|_not_hex| refuse())?;
        }
        // `from_str_radix` takes a sign.
        if text.contains('+') { Err(refuse()) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for Checksum {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<Checksum> for String {
    fn from(checksum: Checksum) -> Self {
        checksum.to_string()
    }
}

/// What a client asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Operation {
    /// `PUT Nodes(AgentId='…')`. See \[MS-DSCPM\] 3.8.
    RegisterDscAgent {
        /// Who registers.
        agent_id: AgentId,
    },
    /// `POST Nodes(AgentId='…')/GetDscAction`. See \[MS-DSCPM\] 3.9.
    GetDscAction {
        /// Who asks.
        agent_id: AgentId,
    },
    /// `GET Nodes(AgentId='…')/Configurations(ConfigurationName='…')/ConfigurationContent`.
    /// See \[MS-DSCPM\] 3.6.
    GetConfiguration {
        /// Who asks.
        agent_id: AgentId,
        /// For which; empty means the header `ConfigurationName`, or the only one.
        configuration_name: String,
    },
    /// `GET Modules(ModuleName='…',ModuleVersion='…')/ModuleContent`. See \[MS-DSCPM\] 3.7.
    GetModule {
        /// Which module.
        module_name: String,
        /// Which version; empty means the newest.
        module_version: String,
    },
    /// `POST Nodes(AgentId='…')/SendReport`. See \[MS-DSCPM\] 3.10.
    SendReport {
        /// Who reports.
        agent_id: AgentId,
    },
    /// `GET Nodes(AgentId='…')/Reports(JobId='…')` or `…/Reports`. See \[MS-DSCPM\] 3.11.
    GetReports {
        /// Whose reports.
        agent_id: AgentId,
        /// Which one; without it, all.
        job_id: Option<JobId>,
    },
    /// `POST Nodes(AgentId='…')/CertificateRotation`. See \[MS-DSCPM\] 3.12.
    CertificateRotation {
        /// Who asks.
        agent_id: AgentId,
    },
    /// `POST Nodes(AgentId='…')/GetResourceState`: what other nodes reported of a resource. It is ours,
    /// and not in \[MS-DSCPM\].
    GetResourceState {
        /// Who asks.
        agent_id: AgentId,
    },
    /// A request of protocol version 1.
    V1(v1::Operation),
}

impl Operation {
    /// Its name in the specification.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::RegisterDscAgent { .. } => "RegisterDscAgent",
            Self::GetDscAction { .. } => "GetDscAction",
            Self::GetConfiguration { .. } => "GetConfiguration",
            Self::GetModule { .. } => "GetModule",
            Self::SendReport { .. } => "SendReport",
            Self::GetReports { .. } => "GetReports",
            Self::CertificateRotation { .. } => "CertificateRotation",
            Self::GetResourceState { .. } => "GetResourceState",
            Self::V1(operation) => operation.name(),
        }
    }

    /// The AgentId or ConfigurationId that it names; none for a module, whose caller is in a header.
    pub(crate) const fn identity(&self) -> Option<uuid::Uuid> {
        match self {
            Self::RegisterDscAgent { agent_id }
            | Self::GetDscAction { agent_id }
            | Self::GetConfiguration { agent_id, .. }
            | Self::SendReport { agent_id }
            | Self::GetReports { agent_id, .. }
            | Self::CertificateRotation { agent_id }
            | Self::GetResourceState { agent_id } => Some(agent_id.0),
            Self::GetModule { .. } => None,
            Self::V1(operation) => Some(operation.configuration_id()),
        }
    }

    /// The HTTP method.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Self::RegisterDscAgent { .. } => "PUT",
            Self::GetDscAction { .. }
            | Self::SendReport { .. }
            | Self::CertificateRotation { .. }
            | Self::GetResourceState { .. } => "POST",
            Self::GetConfiguration { .. } | Self::GetModule { .. } | Self::GetReports { .. } => {
                "GET"
            }
            Self::V1(operation) => operation.method(),
        }
    }

    /// The path below the service's address, with its values encoded.
    #[must_use]
    pub fn path(&self) -> String {
        let node = |agent_id: &AgentId| {
            format!("Nodes(AgentId='{}')", agent_id.to_string().to_uppercase())
        };
        match self {
            Self::RegisterDscAgent { agent_id } => node(agent_id),
            Self::GetDscAction { agent_id } => format!("{}/GetDscAction", node(agent_id)),
            Self::GetConfiguration { agent_id, configuration_name } => format!(
                "{}/Configurations(ConfigurationName='{}')/ConfigurationContent",
                node(agent_id),
                encode(configuration_name)
            ),
            Self::GetModule { module_name, module_version } => format!(
                "Modules(ModuleName='{}',ModuleVersion='{}')/ModuleContent",
                encode(module_name),
                encode(module_version)
            ),
            Self::SendReport { agent_id } => format!("{}/SendReport", node(agent_id)),
            Self::GetReports { agent_id, job_id: None } => format!("{}/Reports", node(agent_id)),
            Self::GetReports { agent_id, job_id: Some(job_id) } => {
                format!("{}/Reports(JobId='{job_id}')", node(agent_id))
            }
            Self::CertificateRotation { agent_id } => {
                format!("{}/CertificateRotation", node(agent_id))
            }
            Self::GetResourceState { agent_id } => format!("{}/GetResourceState", node(agent_id)),
            Self::V1(operation) => operation.path(),
        }
    }
}

/// Encodes a value of an OData key: quotes doubled, everything but letters, digits and `-._~`
/// in percent signs.
fn encode(value: &str) -> String {
    let mut encoded = String::new();
    for byte in value.replace('\'', "''").bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The header values that operations look at, and what the connection says of the client.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RequestHeaders {
    /// `Authorization`, of a registration.
    pub authorization: Option<String>,
    /// `x-ms-date`, of a registration.
    pub x_ms_date: Option<String>,
    /// `AgentId`, of GetModule.
    pub agent_id: Option<String>,
    /// `ConfigurationName`, of GetConfiguration, if the path has none.
    pub configuration_name: Option<String>,
    /// The SHA-1 thumbprint of the client certificate that TLS presented, in hexadecimal. It comes
    /// from the connection: no header says it.
    pub certificate_thumbprint: Option<String>,
}

/// One request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    /// What is asked for.
    pub operation: Operation,
    /// The headers that matter.
    pub headers: RequestHeaders,
    /// The address of the service as the client wrote it, without a slash at the end; it returns
    /// in `odata.metadata`.
    pub base: String,
    /// The body as it came: signatures and checksums cover these bytes.
    pub body: Bytes,
}

impl Request {
    /// A request without headers.
    #[must_use]
    pub fn new(operation: Operation, body: impl Into<Bytes>) -> Self {
        Self {
            operation,
            headers: RequestHeaders::default(),
            base: String::new(),
            body: body.into(),
        }
    }
}

/// Reads a JSON body.
pub(crate) fn decode<'a, T: Deserialize<'a>>(
    what: &'static str,
    body: &'a [u8],
) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| Error::Invalid { what, reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_their_place_are_refused() {
        for bad in ["", ".", "..", "../x", "a/b", "a\\b", "a'b", "a\"b", "a\nb", &"x".repeat(256)] {
            assert!(bad.parse::<ConfigurationName>().is_err(), "{bad:?}");
        }
        let name = |text: &str| text.parse::<ConfigurationName>().expect("a name");
        assert_eq!(name("Site.Web Server"), name("SITE.web server"));
    }

    #[test]
    fn checksums_print_in_upper_case_and_read_in_any() {
        let checksum = Checksum::of(b"abc");
        let text = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";
        assert_eq!(checksum.to_string(), text);
        assert_eq!(text.to_lowercase().parse(), Ok(checksum));
        for bad in ["", "AB", &"G".repeat(64), &"+F".repeat(32), &"ä".repeat(32)] {
            assert!(bad.parse::<Checksum>().is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_spelled_as_on_the_wire() {
        let agent_id = "91e51a37-b59f-11e5-9c04-14109fd663ae".parse().expect("an id");
        let configuration_name = "Web 1".to_owned();
        let path = Operation::GetConfiguration { agent_id, configuration_name }.path();
        assert_eq!(
            path,
            "Nodes(AgentId='91E51A37-B59F-11E5-9C04-14109FD663AE')\
             /Configurations(ConfigurationName='Web%201')/ConfigurationContent"
        );
    }
}
