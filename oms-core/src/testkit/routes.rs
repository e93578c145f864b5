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

/// A caller without credentials: every route that needs an operation answers 401, one that checks
/// in its handler refuses, and the others are returned: they are to be listed in SECURITY.md.
///
/// # Panics
/// If a route that is not anonymous lets the caller in.
pub async fn open_to_strangers(mounted: &Mounted) -> Vec<Walked> {
    let mut open = Vec::new();
    for walked in walk(mounted, &HeaderMap::new()).await {
        let Walked { route, status } = &walked;
        match route.access {
            Access::Anonymous { .. } => open.push(walked),
            Access::InHandler { .. } => {
                assert!(status.is_client_error(), "{route:?} answered a stranger {status}");
            }
            Access::Operation { .. } => {
                assert_eq!(*status, StatusCode::UNAUTHORIZED, "{route:?} answered a stranger");
            }
        }
    }
    open
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
