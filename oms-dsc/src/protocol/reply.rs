//! What a server answers.

use super::{CERTIFICATE_ROTATION_HEADER, CHECKSUM_ALGORITHM, Checksum, PROTOCOL_VERSION};
use bytes::Bytes;
use serde::Serialize;
use serde_json::json;

/// One response: status, headers in order, body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Names and values; `Content-Length` and `Date` are the transport's.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// The value of a header, its name compared without case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Whether the status is 2xx.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    fn new(status: u16, data_service_version: &str, body: impl Into<Bytes>) -> Self {
        let headers = vec![
            ("Cache-Control", "no-cache".to_owned()),
            ("ProtocolVersion", PROTOCOL_VERSION.to_owned()),
            ("X-Content-Type-Options", "nosniff".to_owned()),
            ("DataServiceVersion", data_service_version.to_owned()),
        ];
        Self { status, headers, body: body.into() }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// 204, without a body.
    pub(crate) fn no_content() -> Self {
        Self::new(204, "1.0;", Bytes::new())
    }

    /// 201, without a body.
    pub(crate) fn created() -> Self {
        Self::new(201, "1.0;", Bytes::new())
    }

    /// JSON that starts with `odata.metadata`, naming `kind`: `Edm.String`, `MSFT.DSCNodeStatus`.
    pub(crate) fn odata(base: &str, kind: &str, body: impl Serialize) -> Self {
        #[derive(Serialize)]
        struct WithMetadata<T> {
            #[serde(rename = "odata.metadata")]
            metadata: String,
            #[serde(flatten)]
            body: T,
        }
        let metadata = format!("{base}/$metadata#{kind}");
        Self::json(200, &WithMetadata { metadata, body })
    }

    /// `{"odata.metadata": …, "value": text}`
    pub(crate) fn odata_text(base: &str, value: &str) -> Self {
        #[derive(Serialize)]
        struct Value<'a> {
            value: &'a str,
        }
        Self::odata(base, "Edm.String", Value { value })
    }

    fn json(status: u16, body: &impl Serialize) -> Self {
        match serde_json::to_vec(body) {
            Ok(bytes) => Self::new(status, "3.0;", bytes).with(
                "Content-Type",
                "application/json;odata=minimalmetadata;streaming=true;charset=utf-8",
            ),
            Err(error) => {
                tracing::error!(%error, "a reply has no JSON form");
                Self::new(500, "3.0;", Bytes::new())
            }
        }
    }

    /// A download with its checksum.
    pub(crate) fn content(bytes: impl Into<Bytes>, checksum: Checksum) -> Self {
        Self::new(200, "1.0;", bytes)
            .with("Content-Type", "application/octet-stream")
            .with("Checksum", checksum.to_string())
            .with("ChecksumAlgorithm", CHECKSUM_ALGORITHM)
    }

    /// The same reply with `Prefer: return-content`, as modules and version 1 have it.
    pub(crate) fn returns_content(self) -> Self {
        self.with("Prefer", "return-content")
    }

    /// The same reply, asking for a CertificateRotation.
    pub(crate) fn asks_for_rotation(self) -> Self {
        self.with(CERTIFICATE_ROTATION_HEADER, "True")
    }

    /// The same reply with an identity of its own.
    pub(crate) fn identified(self, request_id: uuid::Uuid) -> Self {
        self.with("request-id", request_id.to_string())
    }

    /// An error in OData's form.
    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        let message = json!({ "lang": "en-US", "value": message });
        Self::json(status, &json!({ "odata.error": { "code": code, "message": message } }))
    }
}
