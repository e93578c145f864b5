//! Several surfaces on one address.

use super::call::RequestIds;
use super::claim::Territory;
use super::path::{Pattern, PatternError, segments};
use super::surface::{Access, Authenticator, Refusal, RefusalForm, Route, Surface};
use super::{Call, Params, Response, body, respond};
use crate::auth::{AuthError, Authorizer, Principal};
use crate::clock::Stopwatch;
use crate::entropy::{Entropy, SystemEntropy};
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
    refusals: RefusalForm,
    /// Whether it answers only where no other surface claims the path.
    is_yielding: bool,
}

/// Surfaces that answer requests. [`Mounted::handle`] never fails: every refusal is a response.
#[derive(Debug)]
pub struct Mounted {
    entries: Vec<Entry>,
    /// What yielding claims yield to.
    claimed: Vec<Territory>,
    authorizer: Arc<dyn Authorizer>,
    entropy: Arc<dyn Entropy>,
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
                let path = territory.shown();
                return Err(MountError::Overlap { path, first, second: surface.name });
            }
        }
        claimed.extend(own.iter().cloned().map(|territory| (surface.name, territory)));
        for route in surface.routes {
            let how = (surface.authenticator.clone(), surface.refusals);
            entries.push(Entry::new(surface.name, route, how, &own)?);
        }
    }
    // A yielding route is tried after all others.
    entries.sort_by_key(|entry: &Entry| entry.is_yielding);
    let claimed = claimed.into_iter().map(|(_, territory)| territory);
    let claimed = claimed.filter(|territory| !territory.is_yielding).collect();
    Ok(Mounted { entries, claimed, authorizer, entropy: Arc::new(SystemEntropy) })
}

/// `GET /healthz`: the process answers.
fn healthz() -> Surface {
    let access = Access::Anonymous { reason: "says only that the process answers" };
    let ok = |_call: Call| async { respond::text(StatusCode::OK, "ok\n") };
    Surface::new("health").claim("/healthz").route(Route::new(Method::GET, "/healthz", access, ok))
}

impl Entry {
    fn new(
        surface: &'static str,
        route: Route,
        (authenticator, refusals): (Option<Arc<dyn Authenticator>>, RefusalForm),
        own: &[Territory],
    ) -> Result<Self, MountError> {
        let pattern = Pattern::parse(&route.pattern)?;
        let covering: Vec<_> = own.iter().filter(|claim| claim.covers(&pattern)).collect();
        if covering.is_empty() {
            return Err(MountError::Unclaimed { surface, pattern: route.pattern });
        }
        let is_yielding = covering.iter().all(|claim| claim.is_yielding);
        let needs_caller = matches!(route.access, Access::Operation { .. });
        if needs_caller && authenticator.is_none() {
            return Err(MountError::NoAuthenticator { surface, pattern: route.pattern });
        }
        Ok(Self { surface, route, pattern, authenticator, refusals, is_yielding })
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
        // A slash within a segment is no level: it must not lead into another scope.
        let levels: Vec<_> = path.iter().map(|segment| segment.replace('/', "%2F")).collect();
        let resource = format!("/{}", levels.join("/"));
        let resource = resource
            .parse::<ResourceId>()
            .map_err(|_not_a_path| AuthError::Unauthenticated { reason: "path is no resource" })?;
        authorizer.check(&principal, operation, &resource)?;
        Ok(Some(principal))
    }

    /// The answer to a caller that may not.
    fn refuse(&self, error: &AuthError, parts: &http::request::Parts) -> Response {
        let code = match error {
            AuthError::Unauthenticated { .. } => "AuthenticationFailed",
            AuthError::Denied { .. } => "AuthorizationFailed",
        };
        let refusal = Refusal::new(respond::status_of(error.kind()), code, error.to_string());
        let mut response = (self.refusals)(&refusal);
        let challenge = self.authenticator.as_ref().and_then(|known| known.challenge(parts));
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some(challenge) = challenge
        {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
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

    /// The same surfaces with identifiers of requests drawn from `entropy`.
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// Answers one request. The response carries `x-ms-request-id` and
    /// `x-ms-correlation-request-id`; the handler finds both in [`Call::ids`].
    pub async fn handle(&self, mut request: Request<Body>) -> Response {
        let ids = RequestIds::of(request.headers(), &*self.entropy);
        request.extensions_mut().insert(ids.clone());
        let (watch, mut route) = (Stopwatch::start(), None);
        let mut response = self.answer(request, &mut route).await;
        observe(route, response.status(), watch.seconds());
        ids.stamp(response.headers_mut());
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
            Err(error) => {
                body::discard(request_body).await;
                let (status, code) = (StatusCode::BAD_REQUEST, "InvalidRequestUri");
                return respond::refusal(status, code, error.message());
            }
        };
        let (entry, captured) = match self.find(&parts.method, &path) {
            Ok(found) => found,
            Err(refusal) => {
                body::discard(request_body).await;
                return *refusal;
            }
        };
        *route = Some(&entry.route);
        let principal = match entry.admit(&parts, &path, &*self.authorizer) {
            Ok(principal) => principal,
            Err(error) => {
                body::discard(request_body).await;
                return entry.refuse(&error, &parts);
            }
        };
        let body = match body::read(&parts.headers, request_body, entry.route.limits).await {
            Ok(body) => body,
            Err(refusal) => return (entry.refusals)(&refusal),
        };
        let query = Params::of_query(parts.uri.query().unwrap_or_default());
        let call = Call { parts, path: captured, query, principal, body };
        (entry.route.handler)(call).await
    }

    fn find(&self, method: &Method, path: &[String]) -> Result<(&Entry, Params), Box<Response>> {
        let mut allowed: Vec<&str> = Vec::new();
        let is_claimed = self.claimed.iter().any(|claim| claim.has(path));
        for entry in self.entries.iter().filter(|entry| !(entry.is_yielding && is_claimed)) {
            let Some(captured) = entry.pattern.matches(path) else { continue };
            let is_head = method == Method::HEAD && entry.route.method == Method::GET;
            if entry.route.method == *method || is_head {
                return Ok((entry, Params::new(captured)));
            }
            allowed.push(entry.route.method.as_str());
        }
        if allowed.is_empty() {
            let (status, code) = (StatusCode::NOT_FOUND, "NotFound");
            return Err(Box::new(respond::refusal(status, code, "no such path")));
        }
        let (status, code) = (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed");
        let mut response = respond::refusal(status, code, "method not allowed");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Grant, Grants, PrincipalKind};
    use crate::http::BodyLimits;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use futures::StreamExt as _;
    use std::io::Write;
    use std::sync::atomic::{AtomicUsize, Ordering};

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

    /// A sender that is still writing gets its answer: what it sends is read, within a bound.
    #[tokio::test]
    async fn what_a_refused_request_brings_is_read_and_not_without_end() {
        const UNAUTHORIZED: StatusCode = StatusCode::UNAUTHORIZED;
        const NOT_FOUND: StatusCode = StatusCode::NOT_FOUND;
        const BAD_REQUEST: StatusCode = StatusCode::BAD_REQUEST;
        let read = Arc::new(AtomicUsize::new(0));
        for (path, status) in
            [("/jobs/7", UNAUTHORIZED), ("/none", NOT_FOUND), ("/jobs/%2e%2e/x", BAD_REQUEST)]
        {
            for (chunks, expected) in [(10, 10), (1_000, 256)] {
                read.store(0, Ordering::Relaxed);
                let seen = Arc::clone(&read);
                let chunk = move |_| {
                    seen.fetch_add(1, Ordering::Relaxed);
                    Ok::<_, std::io::Error>(vec![0; 1 << 10])
                };
                let body = Body::from_stream(futures::stream::iter(0..chunks).map(chunk));
                assert_eq!(ask(Request::get(path), body).await.0, status);
                assert_eq!(read.load(Ordering::Relaxed), expected, "{path}");
            }
        }
    }

    /// A protocol answers in its own form what is refused before its handler sees it.
    #[tokio::test]
    async fn refusals_have_the_form_of_their_surface() {
        let closed = Access::Operation { operation: "jobs/read" };
        let limits = BodyLimits { sent_bytes_max: 10, inflated_bytes_max: 10 };
        let form = |refusal: &Refusal| {
            let text = format!("{} {}", refusal.status.as_u16(), refusal.code);
            respond::text(StatusCode::IM_A_TEAPOT, text)
        };
        let surface = Surface::new("own")
            .claim("/own")
            .authenticator(Arc::new(Bearer))
            .refusals(form)
            .route(Route::new(Method::POST, "/own", closed, echo).limits(limits))
            .route(Route::new(Method::POST, "/own/open", OPEN, echo).limits(limits));
        let mounted = mount(vec![surface], Arc::new(Grants::default())).expect("mounts");
        let ask = async |path: &str, token: &str, length: usize| {
            let request = Request::post(path).header("authorization", token);
            let request = request.body(Body::from(vec![0; length])).expect("a request");
            let response = mounted.handle(request).await;
            let status = response.status().as_u16();
            let bytes = axum::body::to_bytes(response.into_body(), 1000).await.expect("a body");
            (status, String::from_utf8(bytes.to_vec()).expect("text"))
        };
        let own = |text: &str| (418, text.to_owned());
        assert_eq!(ask("/own", "", 0).await, own("401 AuthenticationFailed"));
        assert_eq!(ask("/own", "Bearer other", 0).await, own("403 AuthorizationFailed"));
        assert_eq!(ask("/own/open", "", 11).await, own("413 RequestContentTooLarge"));
        assert_eq!(ask("/own/open", "", 10).await.0, 200);
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

    /// Services share the paths above the types that each of them owns.
    #[test]
    fn claims_with_any_names_overlap_where_some_path_lies_in_both() {
        let mount = |first: Surface, second: Surface| {
            mount(vec![first, second], Arc::new(Grants::default())).is_ok()
        };
        let claim = |path: &str| Surface::new("one").claim(path);
        let exact = |path: &str| Surface::new("two").claim_exact(path);
        let vault = "/s/{s}/vaults/{v}";
        let of = |child: &str| claim(&format!("{vault}/{child}"));
        assert!(mount(of("backupPolicies"), of("replicationFabrics")));
        assert!(!mount(of("backupPolicies"), of("{any}")));
        assert!(!mount(of("backupPolicies"), claim("/S/x/Vaults/y/BackupPolicies/z")));
        assert!(mount(of("backupPolicies"), exact(vault)));
        assert!(mount(claim("/s/{any}/a"), claim("/s/x/b")));
        assert!(!mount(claim("/s/{any}/a"), claim("/s/x")));
        assert!(!mount(exact("/s/{a}/b"), exact("/s/c/{d}")));
        assert!(!mount(claim("/{any}"), claim("/s")) && !mount(claim("/s"), claim("/{any}")));
        assert!(!mount(claim("/x/{*rest}"), claim("/y")), "a claim needs no rest");
    }

    #[tokio::test]
    async fn a_yielding_claim_answers_where_nobody_else_does() {
        let open = || Access::Anonymous { reason: "a test" };
        let anyone = Surface::new("tokens").claim_yielding("/{x}/token");
        let anyone = anyone.route(Route::new(Method::GET, "/{x}/token", open(), echo));
        let api = Surface::new("api").claim("/api");
        let api = api.route(Route::new(Method::GET, "/api/{y}/z", open(), echo));
        let both = mount(vec![anyone.clone(), api], Arc::new(Grants::default())).expect("mounts");
        let ask = |uri: &'static str| {
            let both = &both;
            async move {
                let request = Request::get(uri).body(Body::empty()).expect("a request");
                let response = both.handle(request).await;
                assert!(response.headers().contains_key("x-ms-request-id"), "{uri}");
                assert!(response.headers().contains_key("x-ms-correlation-request-id"), "{uri}");
                response.status()
            }
        };
        assert_eq!(ask("/tenant/token").await, StatusCode::OK);
        assert_eq!(ask("/API/token").await, StatusCode::NOT_FOUND);
        assert_eq!(ask("/api/token/z").await, StatusCode::OK);
        let twice = mount(vec![anyone.clone(), anyone], Arc::new(Grants::default()));
        assert!(matches!(twice, Err(MountError::Overlap { .. })));
    }

    /// A body that inflates a thousandfold is cut off at the limit, in each encoding.
    #[tokio::test]
    async fn a_bomb_is_refused() {
        let zeros = vec![0; 10 << 20];
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&zeros).expect("write");
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), Compression::best());
        zlib.write_all(&zeros).expect("write");
        let bombs = [("gzip", gzip.finish()), ("deflate", zlib.finish())];
        let limits = BodyLimits { sent_bytes_max: 1 << 20, inflated_bytes_max: 1 << 20 };
        let open = Access::Anonymous { reason: "a test" };
        let route = Route::new(Method::POST, "/b", open, echo).limits(limits);
        let surface = Surface::new("b").claim("/b").route(route);
        let mounted = mount(vec![surface], Arc::new(Grants::default())).expect("mounts");
        for (encoding, bomb) in bombs {
            let bomb = bomb.expect("finish");
            assert!(bomb.len() < 20_000, "{}", bomb.len());
            // Twice in one body: gzip has members, of which the sum counts.
            let body = [bomb.clone(), bomb].concat();
            let request = Request::post("/b").header("content-encoding", encoding);
            let response = mounted.handle(request.body(body.into()).expect("a request")).await;
            assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE, "{encoding}");
            assert_eq!(response.headers()["x-ms-error-code"], "RequestContentTooLarge");
        }
        let twice = Request::post("/b").header("content-encoding", "gzip, gzip");
        let response = mounted.handle(twice.body(Body::empty()).expect("a request")).await;
        assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
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
