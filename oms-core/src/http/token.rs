//! Bearer tokens for client secrets: the part of OAuth 2.0 that Azure's client libraries use.
//!
//! A client exchanges its id and secret for a token (RFC 6749, 4.4) and presents the token with
//! each request (RFC 6750, 2.1). A token is a JSON Web Token signed with a key of the server
//! (RFC 7519, HS256), so that nothing is kept for it and a restart does not end it.

use super::{Access, Authenticator, Call, Params, Response, Route, Surface, respond};
use crate::auth::{AuthError, Principal, PrincipalKind};
use crate::{Clock, Secret};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderValue, Method, StatusCode, header};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How long a token is good for, in seconds.
pub const TOKEN_SECONDS: i64 = 3599;

/// The longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 4096;

/// Gives out tokens, and recognises their bearers on every other surface.
#[derive(Debug)]
pub struct TokenService {
    tenant: String,
    clients: BTreeMap<String, Secret>,
    signing_key: Secret,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    iat: i64,
    exp: i64,
}

impl TokenService {
    /// Serves one tenant's clients, each an id and its secret.
    #[must_use]
    pub fn new(
        tenant: impl Into<String>,
        clients: BTreeMap<String, Secret>,
        signing_key: Secret,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { tenant: tenant.into(), clients, signing_key, clock }
    }

    /// The token endpoint and the document that describes it, below `/TENANT`.
    #[must_use]
    pub fn surface(self: &Arc<Self>) -> Surface {
        let tenant = &self.tenant;
        let (tokens, describes) = (Arc::clone(self), Arc::clone(self));
        let checks = Access::InHandler { scheme: "client id and secret in the form" };
        let open = Access::Anonymous { reason: "the addresses of the token endpoint, no data" };
        let grant = move |call: Call| {
            let service = Arc::clone(&tokens);
            async move { service.grant(&call) }
        };
        let describe = move |call: Call| {
            let service = Arc::clone(&describes);
            async move { service.describe(&call) }
        };
        let discovery = format!("/{tenant}/v2.0/.well-known/openid-configuration");
        Surface::new("token")
            .claim(&format!("/{tenant}"))
            .route(Route::new(Method::POST, &format!("/{tenant}/oauth2/v2.0/token"), checks, grant))
            .route(Route::new(Method::GET, &discovery, open, describe))
    }

    fn grant(&self, call: &Call) -> Response {
        let Ok(form) = std::str::from_utf8(&call.body) else {
            return refuse(StatusCode::BAD_REQUEST, "invalid_request", "the form is not UTF-8");
        };
        let form = Params::of_query(form);
        match form.get("grant_type") {
            Some("client_credentials") => {}
            Some(_) | None => {
                let why = "only the grant type client_credentials is supported";
                return refuse(StatusCode::BAD_REQUEST, "unsupported_grant_type", why);
            }
        }
        let (id, secret) = (form.get("client_id"), form.get("client_secret"));
        let known = id.and_then(|id| self.clients.get_key_value(&id.to_ascii_lowercase()));
        let is_right = known.zip(secret).is_some_and(|((_, known), given)| *known == given.into());
        let (Some((id, _)), true) = (known, is_right) else {
            let why = "the client is not known or its secret is wrong";
            return refuse(StatusCode::UNAUTHORIZED, "invalid_client", why);
        };
        let token = self.issue(id);
        let mut response = respond::json(
            StatusCode::OK,
            &serde_json::json!({
                "token_type": "Bearer",
                "expires_in": TOKEN_SECONDS,
                "ext_expires_in": TOKEN_SECONDS,
                "access_token": token,
            }),
        );
        // RFC 6749, 5.1: a token is never cached on its way.
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    fn describe(&self, call: &Call) -> Response {
        let host = call.header("host").unwrap_or("localhost");
        let base = format!("https://{host}/{}", self.tenant);
        respond::json(
            StatusCode::OK,
            &serde_json::json!({
                "issuer": format!("{base}/v2.0"),
                "token_endpoint": format!("{base}/oauth2/v2.0/token"),
                "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
                "token_endpoint_auth_methods_supported": ["client_secret_post"],
                "response_types_supported": ["token"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["HS256"],
            }),
        )
    }

    fn issue(&self, client: &str) -> String {
        let now = self.clock.now();
        let expires = now.checked_add(SignedDuration::from_secs(TOKEN_SECONDS)).unwrap_or(now);
        let claims = serde_json::json!({
            "iss": self.tenant, "sub": client, "iat": now.as_second(), "exp": expires.as_second(),
        });
        let encode = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = encode(serde_json::json!({"alg": "HS256", "typ": "JWT"}));
        let signed = format!("{head}.{}", encode(claims));
        let signature = self.mac(&signed).map(|mac| mac.finalize().into_bytes());
        let signature = signature.map(|bytes| URL_SAFE_NO_PAD.encode(bytes)).unwrap_or_default();
        format!("{signed}.{signature}")
    }

    fn mac(&self, signed: &str) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.signing_key.expose()).ok()?;
        mac.update(signed.as_bytes());
        Some(mac)
    }

    fn verify(&self, token: &str) -> Option<Claims> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        self.mac(signed)?.verify_slice(&signature).ok()?;
        let (_, claims) = signed.split_once('.')?;
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let is_current = claims.exp > self.clock.now().as_second() && claims.iss == self.tenant;
        // A client that was removed takes its tokens with it.
        (is_current && self.clients.contains_key(&claims.sub)).then_some(claims)
    }
}

impl Authenticator for TokenService {
    fn authenticate(&self, parts: &http::request::Parts) -> Result<Principal, AuthError> {
        let refuse = |reason| AuthError::Unauthenticated { reason };
        let header = parts.headers.get(header::AUTHORIZATION);
        let header = header.ok_or_else(|| refuse("no Authorization header"))?;
        let header = header.to_str().map_err(|_bytes| refuse("Authorization is not text"))?;
        let token = match header.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => return Err(refuse("Authorization is not of the Bearer scheme")),
        };
        let claims = self.verify(token).ok_or_else(|| refuse("token is wrong or has expired"))?;
        Ok(Principal::new(PrincipalKind::ClientSecret, claims.sub))
    }
}

fn refuse(status: StatusCode, error: &str, why: &str) -> Response {
    respond::json(status, &serde_json::json!({"error": error, "error_description": why}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Grants;
    use crate::clock::ManualClock;
    use crate::http::mount;
    use axum::body::Body;
    use http::Request;
    use jiff::Timestamp;
    use std::time::Duration;

    fn service(clock: &Arc<ManualClock>, key: &str) -> Arc<TokenService> {
        let clients = BTreeMap::from([("app".to_owned(), Secret::from("p&ss"))]);
        let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
        Arc::new(TokenService::new("tenant", clients, key.into(), clock))
    }

    fn clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH))
    }

    async fn ask(service: &Arc<TokenService>, form: &str) -> (StatusCode, serde_json::Value) {
        let mounted = mount(vec![service.surface()], Arc::new(Grants::default())).expect("mounts");
        let request = Request::post("/TENANT/oauth2/v2.0/token").body(Body::from(form.to_owned()));
        let response = mounted.handle(request.expect("a request")).await;
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), 10_000).await.expect("a body");
        (status, serde_json::from_slice(&bytes).expect("JSON"))
    }

    fn bearer(token: &str) -> http::request::Parts {
        let request = Request::get("/").header("authorization", format!("Bearer {token}"));
        request.body(()).expect("a request").into_parts().0
    }

    #[tokio::test]
    async fn a_secret_buys_a_token_that_names_its_client_until_it_expires() {
        let clock = clock();
        let service = service(&clock, "key");
        let form = "grant_type=client_credentials&client_id=APP&client_secret=p%26ss&scope=x";
        let (status, answer) = ask(&service, form).await;
        assert_eq!((status, answer["token_type"].as_str()), (StatusCode::OK, Some("Bearer")));
        let token = answer["access_token"].as_str().expect("a token");
        let caller = service.authenticate(&bearer(token)).expect("known");
        assert_eq!(caller, Principal::new(PrincipalKind::ClientSecret, "app"));
        clock.advance(Duration::from_secs(3600));
        assert!(service.authenticate(&bearer(token)).is_err());
    }

    #[tokio::test]
    async fn wrong_credentials_and_grants_are_refused() {
        let service = service(&clock(), "key");
        let wrong = "grant_type=client_credentials&client_id=app&client_secret=nope";
        assert_eq!(ask(&service, wrong).await.0, StatusCode::UNAUTHORIZED);
        let nobody = "grant_type=client_credentials&client_id=none&client_secret=p%26ss";
        assert_eq!(ask(&service, nobody).await.1["error"], "invalid_client");
        let other = "grant_type=password&client_id=app&client_secret=p%26ss";
        assert_eq!(ask(&service, other).await.1["error"], "unsupported_grant_type");
    }

    #[test]
    fn tokens_of_another_key_and_changed_ones_are_refused() {
        let clock = clock();
        let (ours, theirs) = (service(&clock, "key"), service(&clock, "other"));
        let token = ours.issue("app");
        assert!(ours.authenticate(&bearer(&token)).is_ok());
        assert!(ours.authenticate(&bearer(&theirs.issue("app"))).is_err());
        assert!(ours.authenticate(&bearer(&ours.issue("removed"))).is_err());
        for index in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            // The last character of base64 may hold bits that do not count.
            let is_last = index + 1 == token.len();
            assert!(is_last || ours.authenticate(&bearer(&changed)).is_err(), "{index}");
        }
        let none = HeaderValue::from_static("Bearer alg.none.");
        assert!(ours.authenticate(&bearer(none.to_str().expect("text"))).is_err());
    }
}
