//! `GET /metrics`: the process's metrics, for whoever has the token in `DIR/metrics.token`.

use crate::data::{read_secret, write_durably};
use crate::metrics::{CONTENT_TYPE, Registry};
use anyhow::{Context, Result};
use http::{Method, StatusCode};
use oms_core::auth::{Grant, Principal, PrincipalKind};
use oms_core::http::{Access, ByToken, Call, Route, Surface, respond};
use oms_core::{EntropyExt, SystemEntropy};
use std::path::Path;
use std::sync::Arc;

/// The file, in the data directory, with the token that `/metrics` asks for. It is made once and
/// stays, so that a collector elsewhere can be given it.
const TOKEN_FILE: &str = "metrics.token";

/// What reading metrics is called.
const OPERATION: &str = "oms/metrics/read";

const PATH: &str = "/metrics";

/// Whoever holds the token may read metrics and nothing else.
fn collector() -> Principal {
    Principal::new(PrincipalKind::ClientSecret, "metrics")
}

/// What the holder of the token may do.
pub(crate) fn grant() -> Result<Grant> {
    let scope = PATH.parse().context("the scope of metrics")?;
    Ok(Grant { principal: collector(), operation: OPERATION.to_owned(), scope })
}

/// The surface; makes the token of a directory that has none.
pub(crate) fn surface(root: &Path, registry: Registry) -> Result<Surface> {
    let path = root.join(TOKEN_FILE);
    if !path.exists() {
        let token = format!("{}{}", SystemEntropy.uuid().simple(), SystemEntropy.uuid().simple());
        write_durably(root, TOKEN_FILE, token.as_bytes()).context("the token for metrics")?;
    }
    let read = move |_call: Call| {
        let text = registry.render();
        async move { respond::body(StatusCode::OK, CONTENT_TYPE, text) }
    };
    let access = Access::Operation { operation: OPERATION };
    Ok(Surface::new("metrics")
        .claim(PATH)
        .authenticator(Arc::new(ByToken { token: read_secret(&path)?, principal: collector() }))
        .route(Route::new(Method::GET, PATH, access, read)))
}
