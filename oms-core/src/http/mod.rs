//! HTTP surfaces: what a service serves, and how several are served on one address.
//!
//! A crate exports `surface(Arc<T>) -> Surface`: the paths it claims and a route table. [`mount`]
//! composes surfaces and refuses two that claim the same path. A request takes this way:
//!
//! ```text
//!  request ─► path: decode, collapse `//`, ignore case ─► route ─► who calls? ─► may they?
//!                                                           │     Authenticator   Authorizer
//!                                                    404, 405          401           403
//!                                                                                     │
//!                        response ◄── handler(Call) ◄── body: limit, inflate ◄────────┘
//!                                                          413, 400
//! ```
//!
//! Services share the paths of Azure Resource Manager: a claim may have segments of any name, such
//! as `/subscriptions/{s}/resourceGroups/{g}/providers/Microsoft.Automation`, and
//! [`resource_surface`] serves what none of them owns. [`respond::list`], [`ArmError`] and
//! [`Operations`] make the lists, errors and long-running operations that its clients read, and a
//! [`TokenService`] gives their tokens out.
//!
//! What is refused before a handler sees it has the error envelope of Azure Resource Manager, or the form
//! that [`Surface::refusals`] gives.
//!
//! A route is closed unless it says otherwise: [`Access::Anonymous`] gives its reason, and
//! [`Access::InHandler`] names the scheme that only the handler can check (a signature over the
//! body).
//!
//! ```
//! use axum::body::Body;
//! use http::{Method, Request, StatusCode};
//! use oms_core::auth::Grants;
//! use oms_core::http::{Access, Call, Route, Surface, mount, respond};
//! use std::sync::Arc;
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let hello = |call: Call| async move {
//!     respond::text(StatusCode::OK, format!("node {}", call.path.get("id").unwrap_or("?")))
//! };
//! let open = Access::Anonymous { reason: "an example" };
//! let surface = Surface::new("example")
//!     .claim("/api")
//!     .route(Route::new(Method::GET, "/api/Nodes(AgentId='{id}')", open, hello));
//! let mounted = mount(vec![surface], Arc::new(Grants::default()))?;
//! let request = Request::get("/API//nodes(agentid='7')").body(Body::empty()).unwrap();
//! assert_eq!(mounted.handle(request).await.status(), StatusCode::OK);
//! # Ok::<(), oms_core::http::MountError>(())
//! # }).unwrap();
//! ```

mod path;

mod body;

mod call;

mod surface;

mod claim;

mod mount;

pub mod respond;

mod arm;

mod operation;

mod resources;

mod serve;

mod token;

pub use arm::{ArmError, preconditions};
pub use body::BodyLimits;
pub use call::{Call, Params, PeerCertificate, RequestIds, Transport};
pub use mount::{MountError, Mounted, RouteInfo, mount};
pub use operation::{
    OPERATIONS_MAX, Operation, OperationError, OperationEvent, OperationFailure, OperationId,
    OperationState, Operations, RESULT_RETENTION,
};
pub use path::PatternError;
pub use resources::surface as resource_surface;
#[cfg(unix)]
pub use serve::serve_unix;
pub use serve::{
    Accepted, CONNECTIONS_MAX, DRAIN_TIMEOUT, HEAD_TIMEOUT, Stream, Upgrade, serve, serve_with,
};
pub use surface::{
    Access, Authenticator, ByCertificate, ByToken, FirstOf, Handler, Refusal, RefusalForm, Route,
    Surface,
};
pub use token::{
    SigningKeyError, SigningKeyId, SigningKeys, TOKEN_SECONDS, TokenService, TokenServiceBuilder,
};

/// A response of any handler.
pub type Response = http::Response<axum::body::Body>;
