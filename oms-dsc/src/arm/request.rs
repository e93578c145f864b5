//! One request of a management client, and what it is answered when something is wrong.

use super::surface::ArmAccount;
use crate::Error;
use crate::pull_server::{CONDITION, PullServer};
use http::StatusCode;
use oms_core::ErrorKind;
use oms_core::http::{ArmError, Call, Response, preconditions, respond};
use oms_core::resource::{Preconditions, ResourceId};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::str::FromStr;
use std::sync::Arc;

/// The answer of a handler.
pub(super) type Answer = Result<Response, Refused>;

/// Why a request is refused.
pub(super) struct Refused(Error);

impl<E: Into<Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

/// A request below the account.
pub(super) struct Request {
    pub(super) call: Call,
    pub(super) account: Arc<ArmAccount>,
}

impl Request {
    pub(super) fn server(&self) -> &PullServer {
        &self.account.server
    }

    /// Who asks, as the journal names them.
    pub(super) fn actor(&self) -> String {
        let principal = self.call.principal.as_ref();
        principal.map_or_else(|| "unknown".to_owned(), ToString::to_string)
    }

    /// What the path calls something.
    pub(super) fn text(&self, capture: &str) -> &str {
        self.call.path.get(capture).unwrap_or_default()
    }

    /// The same, read as a name.
    pub(super) fn named<T: FromStr>(&self, capture: &str) -> Result<T, Error>
    where
        Error: From<T::Err>,
    {
        Ok(self.text(capture).parse()?)
    }

    /// The identity of something of the account, such as `configurations` and `Web`.
    pub(super) fn id(&self, parts: &[&str]) -> String {
        let account = self.account.id.as_str().trim_end_matches('/');
        format!("{account}/{}", parts.join("/"))
    }

    /// The body, read as JSON.
    pub(super) fn body<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.call.body)
            .map_err(|error| Error::Invalid { what: "body", reason: error.to_string() })
    }

    /// `If-Match` and `If-None-Match`.
    pub(super) fn conditions(&self) -> Preconditions {
        preconditions(&self.call)
    }

    /// Refuses conditions where there is no version that they could be on.
    pub(super) fn check_unconditional(&self) -> Result<(), Error> {
        for name in ["if-match", "if-none-match"] {
            if self.call.header(name).is_some_and(|value| value.trim() != "*") {
                return Err(Error::Unsupported { what: "header", name: name.to_owned() });
            }
        }
        Ok(())
    }

    /// Whether the path names the account that is served here.
    pub(super) fn check_account(&self) -> Result<(), Error> {
        let segments: Vec<&str> = self.account.id.segments().collect();
        let named = ["subscriptionId", "resourceGroupName", ACCOUNT];
        let places = [segments.get(1), segments.get(3), segments.last()];
        let is_it = named.iter().zip(places).all(|(capture, held)| {
            held.is_some_and(|held| held.eq_ignore_ascii_case(self.text(capture)))
        });
        match is_it {
            true => Ok(()),
            false => Err(Error::NotFound { what: "account", name: self.text(ACCOUNT).to_owned() }),
        }
    }
}

/// The capture of the account's name.
const ACCOUNT: &str = "automationAccountName";

/// Whether an identity is one of an account.
pub(super) fn is_account(id: &ResourceId) -> bool {
    let of = id.arm().ok().and_then(|id| id.resource_type());
    of.is_some_and(|of| of.to_string().eq_ignore_ascii_case(super::ACCOUNTS))
}

/// JSON, by which the resource is as it is now.
pub(super) fn shown(is_new: bool, resource: &Value) -> Response {
    respond::json(if is_new { StatusCode::CREATED } else { StatusCode::OK }, resource)
}

impl Refused {
    /// The error envelope of Azure Resource Manager.
    pub(super) fn response(&self) -> Response {
        let error = &self.0;
        let status = respond::status_of(error.kind());
        if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED {
            tracing::error!(%error, "management request failed");
            // What broke inside is in the server's log, under the request id of the reply.
            let why = "the server could not do this now";
            return ArmError::new(error.kind(), "InternalServerError", why).response();
        }
        let (code, status) = match error {
            Error::Document { .. } => ("InvalidConfiguration", None),
            Error::NotFound { .. } => ("ResourceNotFound", None),
            Error::AlreadyExists { .. } => ("Conflict", None),
            Error::IllegalState { reason, .. } if *reason == CONDITION => {
                ("PreconditionFailed", None)
            }
            Error::IllegalState { .. } => ("Conflict", Some(StatusCode::CONFLICT)),
            error => match error.kind() {
                ErrorKind::Invalid => ("BadRequest", None),
                ErrorKind::Unsupported => ("NotSupported", None),
                ErrorKind::TooLarge => ("RequestContentTooLarge", None),
                ErrorKind::LimitExceeded { .. } => ("TooManyRequests", None),
                ErrorKind::Conflict => ("Conflict", None),
                _ => ("RequestFailed", None),
            },
        };
        let mut envelope = ArmError::new(error.kind(), code, error.to_string());
        if let Some(status) = status {
            envelope = envelope.status(status);
        }
        if let Error::Document { diagnostics, .. } = error {
            for wrong in diagnostics {
                let detail = ArmError::new(ErrorKind::Invalid, code, wrong.message.clone());
                envelope = envelope.detail(detail.target(wrong.position.to_string()));
            }
        }
        envelope.response()
    }
}
