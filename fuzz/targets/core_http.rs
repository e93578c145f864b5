//! Paths, OData keys, queries and encoded bodies, through a mounted surface: what a handler gets is
//! within its limits and leads nowhere else.
#![no_main]

use axum::body::Body;
use http::{Method, Request, StatusCode};
use libfuzzer_sys::fuzz_target;
use oms_core::auth::Grants;
use oms_core::http::{Access, BodyLimits, Call, Mounted, Response, Route, Surface, mount, respond};
use std::sync::{Arc, OnceLock};

const LIMITS: BodyLimits = BodyLimits { sent_bytes_max: 2048, inflated_bytes_max: 4096 };

async fn check(call: Call) -> Response {
    assert!(call.body.len() <= LIMITS.inflated_bytes_max);
    for (name, value) in call.path.iter() {
        assert!(!value.chars().any(char::is_control), "{name}: {value:?}");
        let has_dots = value.split('/').any(|part| matches!(part, "." | ".."));
        assert!(name != "rest" || !has_dots, "{name}: {value:?}");
    }
    for (name, value) in call.query.iter() {
        assert!(call.query.get(name).is_some(), "{name}={value}");
    }
    respond::text(StatusCode::OK, "fine")
}

fn mounted() -> &'static Mounted {
    static MOUNTED: OnceLock<Mounted> = OnceLock::new();
    MOUNTED.get_or_init(|| {
        let mut surface = Surface::new("fuzz").claim("/f");
        for pattern in ["/f/a/{x}", "/f/a/{x}/{*rest}", "/f/N(A='{a}',B='{b}')/C", "/f/R()"] {
            let open = Access::Anonymous { reason: "fuzzing" };
            surface = surface.route(Route::new(Method::POST, pattern, open, check).limits(LIMITS));
        }
        mount(vec![surface], Arc::new(Grants::default())).expect("mounts")
    })
}

fuzz_target!(|data: &[u8]| {
    let (kind, rest) = fuzz::choose(data);
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let (uri, body) = (&rest[..end], rest.get(end + 1..).unwrap_or_default());
    let mut request = Request::builder().method(Method::POST).uri(uri);
    request = match kind % 4 {
        0 => request,
        1 => request.header("content-encoding", "gzip"),
        2 => request.header("content-encoding", "deflate"),
        _ => request.header("content-encoding", body),
    };
    let Ok(request) = request.body(Body::from(body.to_vec())) else { return };
    let status = fuzz::block_on(mounted().handle(request)).status();
    assert!(!status.is_server_error(), "{status}");
});
