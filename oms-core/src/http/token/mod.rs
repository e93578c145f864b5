//! Bearer tokens for client secrets: the part of OAuth 2.0 that Azure's client libraries use.
//!
//! A client exchanges its id and secret for a token (RFC 6749, 4.4) and presents the token with
//! each request (RFC 6750, 2.1). A token is a JSON Web Token signed with a key of the server
//! (RFC 7519, HS256), so that nothing is kept for it and a restart does not end it.

mod keys;

mod refusal;

pub use keys::{SigningKeyError, SigningKeyId, SigningKeys};

use super::{Access, Authenticator, Call, Params, Response, Route, Surface, respond};
use crate::auth::{AuthError, Credentials, Principal, PrincipalKind, SecretVerdict};
use crate::entropy::{Entropy, EntropyExt, SystemEntropy};
use crate::{Clock, Secret, SystemClock};
use http::{HeaderValue, Method, StatusCode, header};
use jiff::SignedDuration;
use keys::{Claims, Signer};
use refusal::Refusal;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How long a token is good for, in seconds.
pub const TOKEN_SECONDS: i64 = 3599;

/// Gives out tokens, and recognises their bearers on every other surface.
///
/// azure-identity's `ClientSecretCredential` uses it unmodified, with the server's address as its
/// `authority` and `disable_instance_discovery`.
#[derive(Debug)]
pub struct TokenService {
    tenant: String,
    clients: Clients,
    signer: Signer,
    /// Resources that tokens are for; none for any.
    audiences: Vec<String>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

/// Whom tokens are given to.
#[derive(Debug)]
enum Clients {
    Listed(BTreeMap<String, Secret>),
    Kept(Arc<Credentials>),
}

/// Collects what a [`TokenService`] is made of.
#[derive(Debug)]
pub struct TokenServiceBuilder {
    service: TokenService,
}

impl TokenServiceBuilder {
    /// Whom tokens are given to: the client secrets that are kept. A client whose last credential
    /// is revoked or expires takes its tokens with it.
    #[must_use]
    pub fn credentials(mut self, credentials: Arc<Credentials>) -> Self {
        self.service.clients = Clients::Kept(credentials);
        self
    }

    /// The resources that tokens are for, such as `https://management.azure.com`. A scope of
    /// another one is refused. Without this, any is given.
    #[must_use]
    pub fn audiences(mut self, audiences: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let all = audiences.into_iter();
        self.service.audiences = all.map(|audience| canonical(audience.as_ref())).collect();
        self
    }

    /// Where the time is read.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.service.clock = clock;
        self
    }

    /// Where the identifiers of tokens are drawn.
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.service.entropy = entropy;
        self
    }

    /// The service.
    #[must_use]
    pub fn build(self) -> TokenService {
        self.service
    }
}

impl TokenService {
    /// A service of one tenant that gives tokens to nobody yet, signed with keys that rotate.
    #[must_use]
    pub fn builder(tenant: impl Into<String>, keys: Arc<SigningKeys>) -> TokenServiceBuilder {
        let clock = Arc::new(SystemClock);
        let mut service = Self::new(tenant, BTreeMap::new(), Secret::from(""), clock);
        service.signer = Signer::Rotating(keys);
        TokenServiceBuilder { service }
    }

    /// Serves one tenant's clients, each an id in lower case and its secret, with one key for
    /// good.
    #[must_use]
    pub fn new(
        tenant: impl Into<String>,
        clients: BTreeMap<String, Secret>,
        signing_key: Secret,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            tenant: tenant.into(),
            clients: Clients::Listed(clients),
            signer: Signer::Fixed(signing_key),
            audiences: Vec::new(),
            clock,
            entropy: Arc::new(SystemEntropy),
        }
    }

    /// The token endpoint and the document that describes it. Both are there for every tenant
    /// where no other surface claims the path, and refuse all tenants but one by name.
    #[must_use]
    pub fn surface(self: &Arc<Self>) -> Surface {
        const TOKEN: &str = "/{tenant}/oauth2/v2.0/token";
        const DISCOVERY: &str = "/{tenant}/v2.0/.well-known/openid-configuration";
        let (tokens, describes) = (Arc::clone(self), Arc::clone(self));
        let checks = Access::InHandler { scheme: "client id and secret in the form" };
        let open = Access::Anonymous { reason: "the addresses of the token endpoint, no data" };
        let grant = move |call: Call| {
            let service = Arc::clone(&tokens);
            async move {
                let granted = service.grant(&call);
                let mut response =
                    granted.unwrap_or_else(|refusal| refusal.response(&call, service.clock.now()));
                // RFC 6749, 5.1: a token is never cached on its way.
                let headers = response.headers_mut();
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
                response
            }
        };
        let describe = move |call: Call| {
            let service = Arc::clone(&describes);
            async move { service.describe(&call) }
        };
        Surface::new("token")
            .claim_yielding(TOKEN)
            .claim_yielding(DISCOVERY)
            .route(Route::new(Method::POST, TOKEN, checks, grant))
            .route(Route::new(Method::GET, DISCOVERY, open, describe))
    }

    /// Recognises the bearers of tokens for one of these resources alone. The service itself, as
    /// an [`Authenticator`], takes a token for any resource that it gave one for.
    #[must_use]
    pub fn for_audiences(
        self: &Arc<Self>,
        audiences: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Arc<dyn Authenticator> {
        let audiences = audiences.into_iter().map(|one| canonical(one.as_ref())).collect();
        Arc::new(ForAudiences { service: Arc::clone(self), audiences })
    }

    fn grant(&self, call: &Call) -> Result<Response, Refusal> {
        if !self.is_ours(call) {
            return Err(Refusal::TENANT);
        }
        let form = std::str::from_utf8(&call.body).map_err(|_bytes| Refusal::NOT_A_FORM)?;
        let form = Params::of_query(form);
        match form.get("grant_type") {
            Some("client_credentials") => {}
            Some(_) => return Err(Refusal::GRANT_TYPE),
            None => return Err(Refusal::NO_GRANT_TYPE),
        }
        if form.get("client_assertion").is_some() {
            return Err(Refusal::ASSERTION);
        }
        let client = form.get("client_id").ok_or(Refusal::NO_CLIENT)?;
        let secret = form.get("client_secret").ok_or(Refusal::NO_SECRET)?;
        let client = self.check_secret(client, &secret.into())?;
        let scope = form.get("scope").ok_or(Refusal::SCOPE)?.trim();
        let resource = scope.strip_suffix("/.default").filter(|resource| !resource.is_empty());
        let audience = canonical(resource.ok_or(Refusal::SCOPE)?);
        if audience.contains(char::is_whitespace) || audience.len() > 512 {
            return Err(Refusal::SCOPE);
        }
        if !self.audiences.is_empty() && !self.audiences.contains(&audience) {
            return Err(Refusal::RESOURCE);
        }
        let token = self.issue(&client, &audience).ok_or(Refusal::NO_KEY)?;
        Ok(respond::json(
            StatusCode::OK,
            &serde_json::json!({
                "token_type": "Bearer",
                "expires_in": TOKEN_SECONDS,
                "ext_expires_in": TOKEN_SECONDS,
                "access_token": token,
            }),
        ))
    }

    /// The client's id as it is kept, if the secret is right.
    fn check_secret(&self, client: &str, secret: &Secret) -> Result<String, Refusal> {
        match &self.clients {
            Clients::Listed(clients) => {
                let known = clients.get_key_value(&client.to_ascii_lowercase());
                let (id, kept) = known.ok_or(Refusal::UNKNOWN_CLIENT)?;
                if kept == secret { Ok(id.clone()) } else { Err(Refusal::WRONG_SECRET) }
            }
            Clients::Kept(credentials) => match credentials.judge_secret(client, secret) {
                SecretVerdict::Right(principal) => Ok(principal.name),
                SecretVerdict::UnknownName => Err(Refusal::UNKNOWN_CLIENT),
                SecretVerdict::Wrong => Err(Refusal::WRONG_SECRET),
                SecretVerdict::Expired => Err(Refusal::EXPIRED_SECRET),
            },
        }
    }

    fn describe(&self, call: &Call) -> Response {
        if !self.is_ours(call) {
            return Refusal::TENANT.response(call, self.clock.now());
        }
        let base = format!("{}/{}", call.base_url(), self.tenant);
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

    fn is_ours(&self, call: &Call) -> bool {
        call.path.get("tenant").is_some_and(|tenant| tenant.eq_ignore_ascii_case(&self.tenant))
    }

    fn issue(&self, client: &str, audience: &str) -> Option<String> {
        let now = self.clock.now();
        let expires = now.checked_add(SignedDuration::from_secs(TOKEN_SECONDS)).unwrap_or(now);
        self.signer.sign(&Claims {
            iss: self.tenant.clone(),
            aud: audience.to_owned(),
            sub: client.to_owned(),
            tid: self.tenant.clone(),
            appid: client.to_owned(),
            iat: now.as_second(),
            nbf: now.as_second(),
            exp: expires.as_second(),
            uti: self.entropy.uuid().to_string(),
            ver: "2.0".to_owned(),
        })
    }

    fn verify(&self, token: &str) -> Option<Claims> {
        let claims = self.signer.verify(token, self.clock.now())?;
        // A client that was removed takes its tokens with it.
        let is_active = match &self.clients {
            Clients::Listed(clients) => clients.contains_key(&claims.sub),
            Clients::Kept(credentials) => {
                let client = Principal::new(PrincipalKind::ClientSecret, claims.sub.clone());
                credentials.is_active(&client)
            }
        };
        (is_active && claims.iss == self.tenant && claims.tid == self.tenant).then_some(claims)
    }

    fn bearer(&self, parts: &http::request::Parts) -> Result<Claims, AuthError> {
        let refuse = |reason| AuthError::Unauthenticated { reason };
        let header = parts.headers.get(header::AUTHORIZATION);
        let header = header.ok_or_else(|| refuse("no Authorization header"))?;
        let header = header.to_str().map_err(|_bytes| refuse("Authorization is not text"))?;
        let token = match header.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => return Err(refuse("Authorization is not of the Bearer scheme")),
        };
        self.verify(token).ok_or_else(|| refuse("token is wrong or has expired"))
    }
}

impl Authenticator for TokenService {
    fn authenticate(&self, parts: &http::request::Parts) -> Result<Principal, AuthError> {
        let claims = self.bearer(parts)?;
        Ok(Principal::new(PrincipalKind::ClientSecret, claims.sub))
    }

    fn challenge(&self, parts: &http::request::Parts) -> Option<HeaderValue> {
        let call = Call {
            parts: parts.clone(),
            path: Params::default(),
            query: Params::default(),
            principal: None,
            body: bytes::Bytes::new(),
        };
        let address = format!("{}/{}", call.base_url(), self.tenant);
        HeaderValue::from_str(&format!("Bearer authorization_uri=\"{address}\"")).ok()
    }
}

/// A [`TokenService`] that looks at whom a token is for.
#[derive(Debug)]
struct ForAudiences {
    service: Arc<TokenService>,
    audiences: Vec<String>,
}

impl Authenticator for ForAudiences {
    fn authenticate(&self, parts: &http::request::Parts) -> Result<Principal, AuthError> {
        let claims = self.service.bearer(parts)?;
        if !self.audiences.contains(&claims.aud) {
            return Err(AuthError::Unauthenticated { reason: "token is for another resource" });
        }
        Ok(Principal::new(PrincipalKind::ClientSecret, claims.sub))
    }

    fn challenge(&self, parts: &http::request::Parts) -> Option<HeaderValue> {
        self.service.challenge(parts)
    }
}

/// A resource as scopes name it: case and slashes at the end do not matter.
fn canonical(audience: &str) -> String {
    audience.trim_end_matches('/').to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
