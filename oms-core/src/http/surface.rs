//! What one service serves.

use super::{BodyLimits, Call, PeerCertificate, Response, respond};
use crate::Secret;
use crate::auth::{AuthError, Credentials, Principal};
use futures::future::BoxFuture;
use http::{HeaderValue, Method, StatusCode, header};
use std::fmt;
use std::future::Future;
use std::sync::Arc;

/// Recognises the caller of a request from its head: an `Authorization` header, a client
/// certificate.
pub trait Authenticator: fmt::Debug + Send + Sync {
    /// Who calls.
    ///
    /// # Errors
    /// [`AuthError::Unauthenticated`].
    fn authenticate(&self, parts: &http::request::Parts) -> Result<Principal, AuthError>;

    /// The `WWW-Authenticate` of a refusal: by which scheme a caller can make itself known. See
    /// RFC 9110, 11.6.1.
    fn challenge(&self, parts: &http::request::Parts) -> Option<HeaderValue> {
        let _ = parts;
        None
    }
}

/// Asks several authenticators in turn. The first that recognises the caller decides; if none
/// does, the last one says why.
#[derive(Debug)]
pub struct FirstOf(pub Vec<Arc<dyn Authenticator>>);

impl Authenticator for FirstOf {
    fn authenticate(&self, parts: &http::request::Parts) -> Result<Principal, AuthError> {
        let mut refused = AuthError::Unauthenticated { reason: "surface recognises no caller" };
        for authenticator in &self.0 {
            match authenticator.authenticate(parts) {
                Ok(principal) => return Ok(principal),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    fn challenge(&self, parts: &http::request::Parts) -> Option<HeaderValue> {
        self.0.iter().find_map(|authenticator| authenticator.challenge(parts))
    }
}

/// Recognises a caller by the certificate that the connection presented.
#[derive(Debug)]
pub struct ByCertificate(pub Arc<Credentials>);

impl Authenticator for ByCertificate {
    fn authenticate(&self, parts: &http::request::Parts) -> Result<Principal, AuthError> {
        let certificate: Option<&PeerCertificate> = parts.extensions.get();
        let certificate = certificate
            .ok_or(AuthError::Unauthenticated { reason: "the connection has no certificate" })?;
        self.0.verify_certificate(&certificate.0)
    }
}

/// Recognises whoever sends one token, `Authorization: Bearer TOKEN`: the holder of a file in which it
/// is kept.
#[derive(Debug)]
pub struct ByToken {
    /// The token.
    pub token: Secret,
    /// Who holds it.
    pub principal: Principal,
}

impl Authenticator for ByToken {
    fn authenticate(&self, parts: &http::request::Parts) -> Result<Principal, AuthError> {
        let given = parts.headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let reason = match given.and_then(|given| given.strip_prefix(b"Bearer ")) {
            Some(token) if Secret::new(token) == self.token => return Ok(self.principal.clone()),
            Some(_) => "the bearer token is another",
            None => "the bearer token is missing",
        };
        Err(AuthError::Unauthenticated { reason })
    }
}

/// Who may use a route.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Access {
    /// Everyone, for the reason given. Every such route is listed in SECURITY.md.
    Anonymous {
        /// Why nobody needs to be known here.
        reason: &'static str,
    },
    /// The handler checks, because the credential covers the body or is in the path.
    InHandler {
        /// What it checks.
        scheme: &'static str,
    },
    /// Whoever the surface's authenticator recognises and the authorizer allows this operation on
    /// the path.
    Operation {
        /// Such as `Microsoft.Automation/automationAccounts/jobs/read`.
        operation: &'static str,
    },
}

impl Access {
    /// The operation that a caller needs, if it needs one.
    #[must_use]
    pub const fn operation(&self) -> Option<&'static str> {
        match self {
            Self::Operation { operation } => Some(operation),
            Self::Anonymous { .. } | Self::InHandler { .. } => None,
        }
    }

    /// Whether nobody needs to be known.
    #[must_use]
    pub const fn is_anonymous(&self) -> bool {
        matches!(self, Self::Anonymous { .. })
    }
}

/// What a request is refused for before its handler sees it: its caller or its body.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Refusal {
    /// Such as 401 for a caller that nobody knows, or 413 for a body beyond its route's limits.
    pub status: StatusCode,
    /// Such as `AuthenticationFailed`.
    pub code: &'static str,
    /// What is wrong, in words.
    pub message: String,
}

impl Refusal {
    pub(super) const fn new(status: StatusCode, code: &'static str, message: String) -> Self {
        Self { status, code, message }
    }

    /// The error envelope of Azure Resource Manager.
    pub(super) fn response(&self) -> Response {
        respond::refusal(self.status, self.code, &self.message)
    }
}

/// A protocol's own form of refusals.
pub type RefusalForm = fn(&Refusal) -> Response;

/// A handler, once it is boxed.
pub type Handler = Arc<dyn Fn(Call) -> BoxFuture<'static, Response> + Send + Sync>;

/// A method and path, who may use it, and what answers.
#[derive(Clone)]
pub struct Route {
    pub(super) method: Method,
    pub(super) pattern: String,
    pub(super) access: Access,
    pub(super) limits: BodyLimits,
    pub(super) handler: Handler,
}

impl Route {
    /// A route with the default body limits.
    ///
    /// A segment of `pattern` is a name, `{capture}`, an OData function `Name(Key='{capture}')`,
    /// or, last, `{*rest}`.
    pub fn new<F, Fut>(method: Method, pattern: &str, access: Access, handler: F) -> Self
    where
        F: Fn(Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Response> + Send + 'static,
    {
        Self {
            method,
            pattern: pattern.to_owned(),
            access,
            limits: BodyLimits::default(),
            handler: Arc::new(move |call| Box::pin(handler(call))),
        }
    }

    /// The same route with other body limits.
    #[must_use]
    pub const fn limits(mut self, limits: BodyLimits) -> Self {
        self.limits = limits;
        self
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("method", &self.method)
            .field("pattern", &self.pattern)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

/// A path that a surface answers for.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) path: String,
    /// The path alone, without what lies below it.
    pub(super) is_exact: bool,
    /// Only where no other surface claims the path.
    pub(super) is_yielding: bool,
}

/// What one service serves: the paths it claims and the routes below them.
#[derive(Clone, Debug)]
pub struct Surface {
    pub(super) name: &'static str,
    pub(super) claims: Vec<Claim>,
    pub(super) routes: Vec<Route>,
    pub(super) authenticator: Option<Arc<dyn Authenticator>>,
    pub(super) refusals: RefusalForm,
}

impl Surface {
    /// A surface that claims nothing yet.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        let refusals = Refusal::response;
        Self { name, claims: Vec::new(), routes: Vec::new(), authenticator: None, refusals }
    }

    /// Claims a path and everything below it. Every route lies below a claim. A segment
    /// `{name}` stands for any one segment.
    #[must_use]
    pub fn claim(self, prefix: &str) -> Self {
        self.push(prefix, false, false)
    }

    /// Claims one path and nothing below it, such as `/`.
    #[must_use]
    pub fn claim_exact(self, path: &str) -> Self {
        self.push(path, true, false)
    }

    /// Claims one path where no other surface claims it, such as `/{tenant}/oauth2/v2.0/token`,
    /// which would overlap with every claim of one segment.
    #[must_use]
    pub fn claim_yielding(self, path: &str) -> Self {
        self.push(path, true, true)
    }

    fn push(mut self, path: &str, is_exact: bool, is_yielding: bool) -> Self {
        self.claims.push(Claim { path: path.to_owned(), is_exact, is_yielding });
        self
    }

    /// Method, pattern and access of every route, before they are mounted.
    pub fn routes(&self) -> impl Iterator<Item = (&Method, &str, &Access)> {
        self.routes.iter().map(|route| (&route.method, route.pattern.as_str(), &route.access))
    }

    /// Adds a route. Of two that fit a request the earlier answers.
    #[must_use]
    pub fn route(mut self, route: Route) -> Self {
        self.routes.push(route);
        self
    }

    /// Recognises the callers of [`Access::Operation`] routes.
    #[must_use]
    pub fn authenticator(mut self, authenticator: Arc<dyn Authenticator>) -> Self {
        self.authenticator = Some(authenticator);
        self
    }

    /// Answers what is refused before a handler sees it as its protocol has it, in place of the error
    /// envelope of Azure Resource Manager.
    #[must_use]
    pub const fn refusals(mut self, form: RefusalForm) -> Self {
        self.refusals = form;
        self
    }
}
