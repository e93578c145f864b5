//! `RegisterDscAgent`. See \[MS-DSCPM\] 2.2.3 and 3.8.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The body of a registration; the fields are written in the order that real clients use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RegisterDscAgentRequest {
    /// Who registers.
    pub agent_information: AgentInformation,
    /// Which configurations it wants; only in messages of a configuration repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_names: Option<Vec<String>>,
    /// With which certificate, and as what.
    pub registration_information: RegistrationInformation,
}

/// The computer of the agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AgentInformation {
    /// `LCMVersion`: `2.0`.
    #[serde(rename = "LCMVersion")]
    pub lcm_version: String,
    /// The computer's name.
    pub node_name: String,
    /// `IPAddress`: its addresses, separated by semicolons.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
}

/// The body of a CertificateRotation. See \[MS-DSCPM\] 3.12.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CertificateRotationRequest {
    /// The certificate that is to take the place of the one the node registered with.
    pub certificate_information: CertificateInformation,
}

/// The certificate and the kind of message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RegistrationInformation {
    /// The agent's self-signed certificate.
    pub certificate_information: CertificateInformation,
    /// What the agent wants of this server.
    pub registration_message_type: RegistrationMessageType,
}

/// A certificate, as text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CertificateInformation {
    /// `DSC-OaaS Client Authentication`
    pub friendly_name: String,
    /// Its issuer.
    pub issuer: String,
    /// When it ends, with offset.
    pub not_after: String,
    /// When it begins, with offset.
    pub not_before: String,
    /// Its subject.
    pub subject: String,
    /// In base64; older clients send the name of a class there.
    pub public_key: String,
    /// SHA-1 of the certificate: 40 hexadecimal digits.
    pub thumbprint: String,
    /// 3
    pub version: i64,
}

impl CertificateInformation {
    /// Whether its thumbprint is this one, in either case.
    #[must_use]
    pub fn is_named(&self, thumbprint: &str) -> bool {
        self.thumbprint.eq_ignore_ascii_case(thumbprint)
    }

    /// Whether its thumbprint has the form of one: 40 hexadecimal digits.
    #[must_use]
    pub fn has_thumbprint(&self) -> bool {
        self.thumbprint.len() == 40 && self.thumbprint.bytes().all(|b| b.is_ascii_hexdigit())
    }

    /// When it ends, if that can be read.
    #[must_use]
    pub fn ends(&self) -> Option<Timestamp> {
        self.not_after.trim().parse().ok()
    }
}

/// What an agent wants of a server. One message is sent for each.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RegistrationMessageType {
    /// Configurations; the message carries their names.
    ConfigurationRepository,
    /// Modules.
    ResourceRepository,
    /// A place for reports.
    ReportServer,
}
