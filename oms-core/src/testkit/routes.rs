//! Walks over every route of mounted surfaces: nothing answers a stranger.

use crate::http::{Access, Mounted, RouteInfo};
use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};

/// A route, and how it answered a request without a body to its example path.
#[derive(Debug)]
pub struct Walked {
    /// The route.
    pub route: RouteInfo,
    /// How it answered.
    pub status: StatusCode,
}

/// A route that checks in its handler and whose protocol has a stranger answered by something else
/// than 401 or 403.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Prescribed {
    /// Method and pattern, such as `POST /{tenant}/oauth2/v2.0/token`.
    pub route: &'static str,
    /// The one status that is right.
    pub status: StatusCode,
    /// Where the protocol says so.
    pub reason: &'static str,
}

/// A route as [`Prescribed::route`] names it.
#[must_use]
pub fn shown(route: &RouteInfo) -> String {
    format!("{} {}", route.method, route.pattern)
}

/// Asks every route once, with these headers and no body.
///
/// # Panics
/// If a route's example is no address.
pub async fn walk(mounted: &Mounted, headers: &HeaderMap) -> Vec<Walked> {
    let mut walked = Vec::new();
    for route in mounted.routes() {
        let request = Request::builder().method(&route.method).uri(&route.example);
        let mut request = request.body(Body::empty()).expect("an example is an address");
        request.headers_mut().extend(headers.clone());
        let status = mounted.handle(request).await.status();
        walked.push(Walked { route, status });
    }
    walked
}

/// Checks how a caller without credentials, or with wrong ones, was answered: 401 where an operation
/// is needed, 401 or 403 where the handler checks, and nothing else unless it is prescribed.
/// Anonymous routes are not judged.
///
/// # Panics
/// If the route answered with anything else.
pub fn assert_refused(walked: &Walked, prescribed: &[Prescribed]) {
    let Walked { route, status } = walked;
    let shown = shown(route);
    let exception = prescribed.iter().find(|one| one.route == shown);
    match (&route.access, exception) {
        (Access::Anonymous { .. }, _) => {}
        (Access::InHandler { .. }, Some(exception)) => {
            assert_eq!(*status, exception.status, "{shown}: {}", exception.reason);
        }
        (Access::InHandler { .. }, None) => {
            let is_refused = matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
            assert!(is_refused, "{shown} answered a stranger {status}");
        }
        (Access::Operation { .. }, _) => {
            assert_eq!(*status, StatusCode::UNAUTHORIZED, "{shown} answered a stranger");
        }
    }
}

/// A caller without credentials: every route refuses it, as [`assert_refused`] has it, but those
/// that are returned: they are to be listed in SECURITY.md.
///
/// # Panics
/// If a route that is not anonymous lets the caller in or answers by a status that is neither 401 nor
/// 403 nor prescribed, or if one is prescribed that is not there.
pub async fn open_to_strangers(mounted: &Mounted, prescribed: &[Prescribed]) -> Vec<Walked> {
    let walked = walk(mounted, &HeaderMap::new()).await;
    let names: Vec<String> = walked.iter().map(|walked| shown(&walked.route)).collect();
    for Prescribed { route, .. } in prescribed {
        assert!(names.iter().any(|name| name == route), "there is no route {route}");
    }
    walked.iter().for_each(|walked| assert_refused(walked, prescribed));
    walked.into_iter().filter(|walked| walked.route.access.is_anonymous()).collect()
}

/// A caller that is known (by these headers) and holds no grant: every route that needs an
/// operation answers 403. Returns how many those are.
///
/// # Panics
/// If such a route lets the caller in.
pub async fn denied_without_grant(mounted: &Mounted, headers: &HeaderMap) -> usize {
    let mut denied = 0;
    for Walked { route, status } in walk(mounted, headers).await {
        if route.access.operation().is_some() {
            assert_eq!(status, StatusCode::FORBIDDEN, "{route:?} answered without a grant");
            denied += 1;
        }
    }
    denied
}
