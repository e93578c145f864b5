//! Several surfaces on one address.

use super::path::{Pattern, PatternError, segments};
use super::surface::{Access, Authenticator, Claim, Route, Surface};
use super::{Call, Params, Response, body, respond};
use crate::auth::{AuthError, Authorizer, Principal};
use crate::clock::Stopwatch;
use crate::resource::ResourceId;
use axum::body::Body;
use http::{HeaderValue, Method, Request, StatusCode, header};
use std::sync::Arc;

/// Why surfaces cannot be served together: a mistake in the program, found at start.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// A pattern or claim cannot be read.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// Two surfaces claim the same paths.
    #[error("two surfaces claim the same path. path=`{path}`, first=`{first}`, second=`{second}`")]
    Overlap {
        /// The claim of the second.
        path: String,
        /// The surface mounted first.
        first: &'static str,
        /// The surface mounted second.
        second: &'static str,
    },
    /// A route lies outside its surface's claims.
    #[error("route lies outside its surface's claims. surface=`{surface}`, pattern=`{pattern}`")]
    Unclaimed {
        /// The surface.
        surface: &'static str,
        /// The route's pattern.
        pattern: String,
    },
    /// A route needs a known caller and its surface recognises none.
    #[error("surface has no authenticator. surface=`{surface}`, pattern=`{pattern}`")]
    NoAuthenticator {
        /// The surface.
        surface: &'static str,
        /// The route's pattern.
        pattern: String,
    },
}

/// A mounted route, for listings and tests.
#[derive(Clone, Debug)]
pub struct RouteInfo {
    /// The surface it belongs to.
    pub surface: &'static str,
    /// Its method.
    pub method: Method,
    /// Its pattern.
    pub pattern: String,
    /// A path that fits the pattern.
    pub example: String,
    /// Who may use it.
    pub access: Access,
}

#[derive(Debug)]
struct Entry {
    surface: &'static str,
    route: Route,
    pattern: Pattern,
    authenticator: Option<Arc<dyn Authenticator>>,
}

/// Surfaces that answer requests. [`Mounted::handle`] never fails: every refusal is a response.
#[derive(Debug)]
pub struct Mounted {
    entries: Vec<Entry>,
    authorizer: Arc<dyn Authorizer>,
}

/// Puts surfaces together, with `GET /healthz` beside them.
///
/// # Errors
/// [`MountError`] if two claim the same paths, a route lies outside its claims, or a route that
/// needs a known caller has no authenticator.
pub fn mount(
    surfaces: Vec<Surface>,
    authorizer: Arc<dyn Authorizer>,
) -> Result<Mounted, MountError> {
    let mut claimed: Vec<(&'static str, Territory)> = Vec::new();
    let mut entries = Vec::new();
    for surface in surfaces.into_iter().chain([healthz()]) {
        let own = surface.claims.iter().map(Territory::new).collect::<Result<Vec<_>, _>>()?;
        for territory in &own {
            if let Some((first, _)) = claimed.iter().find(|(_, other)| territory.overlaps(other)) {
                let path = format!("/{}", territory.path.join("/"));
                return Err(MountError::Overlap { path, first, second: surface.name });
            }
        }
        claimed.extend(own.iter().cloned().map(|territory| (surface.name, territory)));
        for route in surface.routes {
            let authenticator = surface.authenticator.clone();
            entries.push(Entry::new(surface.name, route, authenticator, &own)?);
        }
    }
    Ok(Mounted { entries, authorizer })
}

/// `GET /healthz`: the process answers.
fn healthz() -> Surface {
    let access = Access::Anonymous { reason: "says only that the process answers" };
    let ok = |_call: Call| async { respond::text(StatusCode::OK, "ok\n") };
    Surface::new("health").claim("/healthz").route(Route::new(Method::GET, "/healthz", access, ok))
}

/// A claim, read.
#[derive(Clone, Debug)]
struct Territory {
    path: Vec<String>,
    is_exact: bool,
}

impl Territory {
    fn new(claim: &Claim) -> Result<Self, PatternError> {
        let path = segments(&claim.path).map_err(|error| PatternError {
            pattern: claim.path.clone(),
            reason: error.message(),
        })?;
        Ok(Self { path, is_exact: claim.is_exact })
    }

    fn overlaps(&self, other: &Self) -> bool {
        let common = self.path.len().min(other.path.len());
        let is_prefix = self.path[..common]
            .iter()
            .zip(&other.path[..common])
            .all(|(a, b)| a.eq_ignore_ascii_case(b));
        let (shorter, longer) = match self.path.len() <= other.path.len() {
            true => (self, other),
            false => (other, self),
        };
        is_prefix && (shorter.path.len() == longer.path.len() || !shorter.is_exact)
    }

    fn covers(&self, pattern: &Pattern) -> bool {
        pattern.is_below(&self.path) && (!self.is_exact || pattern.len() == self.path.len())
    }
}

impl Entry {
    fn new(
        surface: &'static str,
        route: Route,
        authenticator: Option<Arc<dyn Authenticator>>,
        own: &[Territory],
    ) -> Result<Self, MountError> {
        let pattern = Pattern::parse(&route.pattern)?;
        if !own.iter().any(|territory| territory.covers(&pattern)) {
            return Err(MountError::Unclaimed { surface, pattern: route.pattern });
        }
        let needs_caller = matches!(route.access, Access::Operation { .. });
        if needs_caller && authenticator.is_none() {
            return Err(MountError::NoAuthenticator { surface, pattern: route.pattern });
        }
        Ok(Self { surface, route, pattern, authenticator })
    }

    /// Recognises the caller and asks whether the call is allowed.
    fn admit(
        &self,
        parts: &http::request::Parts,
        path: &[String],
        authorizer: &dyn Authorizer,
    ) -> Result<Option<Principal>, AuthError> {
        let Access::Operation { operation } = self.route.access else { return Ok(None) };
        let Some(authenticator) = &self.authenticator else {
            return Err(AuthError::Unauthenticated { reason: "surface recognises no caller" });
        };
        let principal = authenticator.authenticate(parts)?;
        let resource = format!("/{}", path.join("/"));
        let resource = resource
            .parse::<ResourceId>()
            .map_err(|_not_a_path| AuthError::Unauthenticated { reason: "path is no resource" })?;
        authorizer.check(&principal, operation, &resource)?;
        Ok(Some(principal))
    }
}

impl Mounted {
    /// Every route, in the order in which they are tried.
    pub fn routes(&self) -> impl Iterator<Item = RouteInfo> {
        self.entries.iter().map(|entry| RouteInfo {
            surface: entry.surface,
            method: entry.route.method.clone(),
            pattern: entry.route.pattern.clone(),
            example: entry.pattern.example(),
            access: entry.route.access.clone(),
        })
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request<Body>) -> Response {
        let (watch, mut route) = (Stopwatch::start(), None);
        let response = self.answer(request, &mut route).await;
        observe(route, response.status(), watch.seconds());
        response
    }

    /// [`Mounted::handle`], with the route that answers.
    async fn answer<'a>(
        &'a self,
        request: Request<Body>,
        route: &mut Option<&'a Route>,
    ) -> Response {
        let (parts, request_body) = request.into_parts();
        let path = match segments(parts.uri.path()) {
            Ok(path) => path,
            Err(error) => return respond::text(StatusCode::BAD_REQUEST, error.message()),
        };
        let (entry, captured) = match self.find(&parts.method, &path) {
            Ok(found) => found,
            Err(refusal) => return *refusal,
        };
        *route = Some(&entry.route);
        let principal = match entry.admit(&parts, &path, &*self.authorizer) {
            Ok(principal) => principal,
            Err(error) => return refuse(&error),
        };
        let body = match body::read(&parts.headers, request_body, entry.route.limits).await {
            Ok(body) => body,
            Err(refusal) => return *refusal,
        };
        let query = Params::of_query(parts.uri.query().unwrap_or_default());
        let call = Call { parts, path: captured, query, principal, body };
        (entry.route.handler)(call).await
    }

    fn find(&self, method: &Method, path: &[String]) -> Result<(&Entry, Params), Box<Response>> {
        let mut allowed: Vec<&str> = Vec::new();
        for entry in &self.entries {
            let Some(captured) = entry.pattern.matches(path) else { continue };
            let is_head = method == Method::HEAD && entry.route.method == Method::GET;
            if entry.route.method == *method || is_head {
                return Ok((entry, Params::new(captured)));
            }
            allowed.push(entry.route.method.as_str());
        }
        if allowed.is_empty() {
            return Err(Box::new(respond::text(StatusCode::NOT_FOUND, "no such path")));
        }
        let mut response = respond::text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
        if let Ok(value) = HeaderValue::from_str(&allowed.join(", ")) {
            response.headers_mut().insert(header::ALLOW, value);
        }
        Err(Box::new(response))
    }
}

/// Counts a request. Labels come from the route table and not from the request, so that a stranger
/// cannot make new ones.
fn observe(route: Option<&Route>, status: StatusCode, seconds: f64) {
    let (method, pattern) = match route {
        Some(route) => (route.method.to_string(), route.pattern.clone()),
        None => ("none".to_owned(), "none".to_owned()),
    };
    metrics::counter!(
        "oms_http_requests_total",
        "method" => method, "route" => pattern.clone(), "status" => status.as_str().to_owned()
    )
    .increment(1);
    metrics::histogram!("oms_http_request_seconds", "route" => pattern).record(seconds);
}

fn refuse(error: &AuthError) -> Response {
    let code = match error {
        AuthError::Unauthenticated { .. } => "AuthenticationFailed",
        AuthError::Denied { .. } => "AuthorizationFailed",
    };
    respond::arm_error(error.kind(), code, &error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Grant, Grants, PrincipalKind};
    use crate::http::BodyLimits;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    #[derive(Debug)]
    struct Bearer;

    impl Authenticator for Bearer {
        fn authenticate(&self, parts: &http::request::Parts) -> Result<Principal, AuthError> {
            match parts.headers.get("authorization").map(HeaderValue::as_bytes) {
                Some(b"Bearer good") => Ok(Principal::new(PrincipalKind::ClientSecret, "app")),
                Some(b"Bearer other") => Ok(Principal::new(PrincipalKind::ClientSecret, "other")),
                _ => Err(AuthError::Unauthenticated { reason: "no token" }),
            }
        }
    }

    const OPEN: Access = Access::Anonymous { reason: "a test" };

    async fn echo(call: Call) -> Response {
        let who = call.principal.map_or("nobody".to_owned(), |p| p.to_string());
        let shown = format!("{who} {} {}", call.path.get("x").unwrap_or("-"), call.body.len());
        respond::text(StatusCode::OK, shown)
    }

    fn mounted() -> Mounted {
        let closed = Access::Operation { operation: "jobs/read" };
        let limits = BodyLimits { sent_bytes_max: 100, inflated_bytes_max: 1000 };
        let surface = Surface::new("jobs")
            .claim("/jobs")
            .authenticator(Arc::new(Bearer))
            .route(Route::new(Method::GET, "/jobs/{x}", closed, echo))
            .route(Route::new(Method::POST, "/jobs/open", OPEN, echo).limits(limits));
        let portal =
            Surface::new("portal").claim_exact("/").route(Route::new(Method::GET, "/", OPEN, echo));
        let grants = Grants::new(vec![Grant {
            principal: Principal::new(PrincipalKind::ClientSecret, "app"),
            operation: "jobs/*".into(),
            scope: "/jobs".parse().expect("a scope"),
        }]);
        mount(vec![surface, portal], Arc::new(grants)).expect("mounts")
    }

    async fn ask(request: http::request::Builder, body: impl Into<Body>) -> (StatusCode, String) {
        let response = mounted().handle(request.body(body.into()).expect("a request")).await;
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), 10_000).await.expect("a body");
        (status, String::from_utf8(bytes.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn a_route_is_closed_to_unknown_callers_and_to_known_ones_without_a_grant() {
        let (status, text) = ask(Request::get("/jobs/7"), "").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert!(text.contains("AuthenticationFailed"), "{text}");
        let other = Request::get("/jobs/7").header("authorization", "Bearer other");
        assert_eq!(ask(other, "").await.0, StatusCode::FORBIDDEN);
        let good = Request::get("/JOBS//7").header("authorization", "Bearer good");
        assert_eq!(ask(good, "").await, (StatusCode::OK, "ClientSecret:app 7 0".into()));
    }

    #[tokio::test]
    async fn unknown_paths_and_methods_are_told_apart() {
        assert_eq!(ask(Request::get("/none"), "").await.0, StatusCode::NOT_FOUND);
        assert_eq!(ask(Request::delete("/jobs/7"), "").await.0, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(ask(Request::get("/jobs/%2e%2e/x"), "").await.0, StatusCode::BAD_REQUEST);
        assert_eq!(ask(Request::get("/healthz"), "").await.0, StatusCode::OK);
        assert_eq!(ask(Request::get("/"), "").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn bodies_are_bounded_as_sent_and_inflated() {
        let post = || Request::post("/jobs/open");
        assert_eq!(ask(post(), vec![0; 100]).await.1, "nobody - 100");
        assert_eq!(ask(post(), vec![0; 101]).await.0, StatusCode::PAYLOAD_TOO_LARGE);
        let zipped = |count| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(&vec![0; count]).expect("write");
            encoder.finish().expect("finish")
        };
        let gzip = || post().header("content-encoding", "gzip");
        assert_eq!(ask(gzip(), zipped(1000)).await.1, "nobody - 1000");
        assert_eq!(ask(gzip(), zipped(1001)).await.0, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(ask(gzip(), "not gzip").await.0, StatusCode::BAD_REQUEST);
        let brotli = post().header("content-encoding", "br");
        assert_eq!(ask(brotli, "x").await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }

    #[test]
    fn overlapping_claims_are_refused() {
        let claim = |name, path: &str| Surface::new(name).claim(path);
        let mount = |surfaces| mount(surfaces, Arc::new(Grants::default()));
        for (a, b) in [("/a", "/A/b"), ("/a/b", "/a"), ("/a", "/a/")] {
            let error = mount(vec![claim("one", a), claim("two", b)]).expect_err("overlap");
            assert!(matches!(error, MountError::Overlap { first: "one", second: "two", .. }));
        }
        assert!(mount(vec![claim("one", "/a"), claim("two", "/ab")]).is_ok());
        assert!(mount(vec![claim("one", "/healthz")]).is_err());
        let exact = |path: &str| Surface::new("exact").claim_exact(path);
        assert!(mount(vec![exact("/"), claim("two", "/a")]).is_ok());
        assert!(mount(vec![exact("/a"), claim("two", "/a")]).is_err());
    }

    #[test]
    fn mistakes_in_a_surface_are_found_at_start() {
        let mount = |surface| mount(vec![surface], Arc::new(Grants::default())).map(|_| ());
        let outside = Surface::new("s").claim("/a");
        let outside = outside.route(Route::new(Method::GET, "/b", OPEN, echo));
        assert!(matches!(mount(outside), Err(MountError::Unclaimed { .. })));
        let closed = Access::Operation { operation: "x" };
        let nobody = Surface::new("s").claim("/a");
        let nobody = nobody.route(Route::new(Method::GET, "/a", closed, echo));
        assert!(matches!(mount(nobody), Err(MountError::NoAuthenticator { .. })));
    }

    #[tokio::test]
    async fn every_closed_route_refuses_a_caller_without_credentials() {
        let mounted = mounted();
        for route in mounted.routes() {
            let request = Request::builder().method(&route.method).uri(&route.example);
            let response = mounted.handle(request.body(Body::empty()).expect("request")).await;
            let is_closed = matches!(route.access, Access::Operation { .. });
            assert_eq!(
                response.status() == StatusCode::UNAUTHORIZED,
                is_closed,
                "{} {}",
                route.method,
                route.pattern
            );
        }
    }
}
