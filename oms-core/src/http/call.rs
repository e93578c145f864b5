//! One request, as a handler sees it.

use crate::auth::{Principal, thumbprint};
use crate::entropy::{Entropy, EntropyExt};
use crate::id::CorrelationId;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::sync::Arc;
use uuid::Uuid;

/// The certificate that the client presented, in DER; the server puts it into the request's
/// extensions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerCertificate(pub Arc<[u8]>);

impl PeerCertificate {
    /// Its SHA-1 thumbprint in upper-case hexadecimal: what Azure and DSC name certificates by.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        thumbprint(&self.0)
    }
}

/// What carries the request; the server puts it into the request's extensions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Transport {
    /// TCP in clear text.
    Clear,
    /// TLS.
    Tls,
    /// A socket of the file system.
    Local,
}

/// The longest identifier of a client that is echoed, in bytes.
const ECHO_BYTES_MAX: usize = 128;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-ms-correlation-request-id");
const CLIENT_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");
const RETURN_CLIENT_ID: HeaderName = HeaderName::from_static("x-ms-return-client-request-id");

/// What a request and its response are found by, in the request's extensions: an identifier of
/// its own (`x-ms-request-id`), and the one that the client gave to everything that belongs
/// together (`x-ms-correlation-request-id`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestIds {
    /// Drawn for this request.
    pub request: Uuid,
    correlation: HeaderValue,
    client: Option<HeaderValue>,
}

impl RequestIds {
    pub(super) fn of(headers: &HeaderMap, entropy: &dyn Entropy) -> Self {
        let echoed = |name: &HeaderName| {
            let value = headers.get(name)?;
            let fits = value.len() <= ECHO_BYTES_MAX && !value.is_empty();
            (fits && value.as_bytes().iter().all(u8::is_ascii_graphic)).then(|| value.clone())
        };
        let request = entropy.uuid();
        let own = || HeaderValue::from_str(&request.to_string());
        let correlation = echoed(&CORRELATION_ID)
            .or_else(|| own().ok())
            .unwrap_or(HeaderValue::from_static("none"));
        let is_wanted = headers
            .get(RETURN_CLIENT_ID)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
        let client = echoed(&CLIENT_ID).filter(|_| is_wanted);
        Self { request, correlation, client }
    }

    /// The client's correlation id if it is a UUID, else this request's own.
    #[must_use]
    pub fn correlation(&self) -> CorrelationId {
        let given = self.correlation.to_str().ok().and_then(|text| text.parse().ok());
        given.unwrap_or(CorrelationId(self.request))
    }

    /// Adds them to a response; what the handler set itself stays.
    pub(super) fn stamp(self, headers: &mut HeaderMap) {
        let request = HeaderValue::from_str(&self.request.to_string());
        if let Ok(request) = request {
            headers.entry(REQUEST_ID).or_insert(request);
        }
        headers.entry(CORRELATION_ID).or_insert(self.correlation);
        if let Some(client) = self.client {
            headers.entry(CLIENT_ID).or_insert(client);
        }
    }
}

/// Names and values. Names are compared without ASCII case.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Params(Vec<(String, String)>);

impl Params {
    pub(super) const fn new(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// Reads a query string; names and values are decoded, `+` is a space.
    pub(super) fn of_query(query: &str) -> Self {
        let decode = |text: &str| {
            let spaced = text.replace('+', " ");
            percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let split = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Self(split.map(|(name, value)| (decode(name), decode(value))).collect())
    }

    /// The first value of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Every name and value, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// One request that may be answered.
#[derive(Debug)]
pub struct Call {
    /// Method, headers, extensions and the address as it was sent.
    pub parts: http::request::Parts,
    /// What the route's pattern captured, decoded.
    pub path: Params,
    /// The query, decoded.
    pub query: Params,
    /// Who calls; none on routes that are anonymous or checked in their handler.
    pub principal: Option<Principal>,
    /// The body as sent but for its transfer and content encodings, within the route's limits.
    pub body: Bytes,
}

impl Call {
    /// A header as text; none if it is absent or not visible ASCII.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// What carries the request; clear text if the server did not say.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.parts.extensions.get().copied().unwrap_or(Transport::Clear)
    }

    /// The certificate that the client presented.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<&PeerCertificate> {
        self.parts.extensions.get()
    }

    /// What the request is found by in the journal; none outside [`Mounted`](super::Mounted).
    #[must_use]
    pub fn ids(&self) -> Option<&RequestIds> {
        self.parts.extensions.get()
    }

    /// The service's address as the client wrote it, without a slash at the end.
    #[must_use]
    pub fn base_url(&self) -> String {
        let scheme = match self.transport() {
            Transport::Tls => "https",
            Transport::Clear | Transport::Local => "http",
        };
        let authority = self.parts.uri.authority().map(http::uri::Authority::as_str);
        let host = self.header(header::HOST.as_str()).or(authority).unwrap_or("localhost");
        format!("{scheme}://{host}")
    }

    /// The address of the next page of a list: this request's own with `$skiptoken`.
    #[must_use]
    pub fn next_link(&self, token: &str) -> String {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mut link = format!("{}{}", self.base_url(), self.parts.uri.path());
        let mut separator = '?';
        let kept = self.query.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("$skiptoken"));
        for (name, value) in kept.chain([("$skiptoken", token)]) {
            // Clients tell query options by their dollar sign, which needs no encoding.
            let name = encode(name).replace("%24", "$").replace("%2D", "-");
            link.push_str(&format!("{separator}{name}={}", encode(value)));
            separator = '&';
        }
        link
    }

    /// The request's `api-version`, as given: none is refused.
    #[must_use]
    pub fn api_version(&self) -> Option<&str> {
        self.query.get("api-version")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_names_are_decoded_too() {
        let query = Params::of_query("api%2Dversion=2023-01-01&&q=a+b%2B&flag");
        assert_eq!(query.get("API-version"), Some("2023-01-01"));
        assert_eq!(query.get("q"), Some("a b+"));
        assert_eq!(query.get("flag"), Some(""));
        assert_eq!(query.get("none"), None);
    }

    #[test]
    fn identifiers_of_the_client_are_echoed_if_they_can_be_a_header() {
        let entropy = crate::entropy::SeededEntropy::new(1);
        let ids = |pairs: &[(HeaderName, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(name, HeaderValue::from_str(value).expect("a value"));
            }
            let ids = RequestIds::of(&headers, &entropy);
            let mut stamped = HeaderMap::new();
            ids.clone().stamp(&mut stamped);
            (ids, stamped)
        };
        let given = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";
        let (own, stamped) = ids(&[]);
        assert_eq!(stamped[&REQUEST_ID], own.request.to_string());
        assert_eq!(stamped[&CORRELATION_ID], own.request.to_string());
        assert_eq!(own.correlation(), CorrelationId(own.request));
        let (echoed, stamped) = ids(&[(CORRELATION_ID, given), (CLIENT_ID, "mine")]);
        assert_eq!(
            (&stamped[&CORRELATION_ID], stamped.get(CLIENT_ID)),
            (&given.parse().expect("a value"), None)
        );
        assert_eq!(echoed.correlation().to_string(), given);
        let (_, stamped) = ids(&[(CLIENT_ID, "mine"), (RETURN_CLIENT_ID, "True")]);
        assert_eq!(stamped[&CLIENT_ID], "mine");
        for bad in ["a b".to_owned(), "x".repeat(ECHO_BYTES_MAX + 1)] {
            let (own, stamped) = ids(&[(CORRELATION_ID, &bad)]);
            assert_eq!(stamped[&CORRELATION_ID], own.request.to_string(), "{bad}");
        }
    }

    #[test]
    fn a_link_to_the_next_page_keeps_the_query_and_follows_the_transport() {
        let query = "api%2Dversion=1&$filter=a%20eq%20'b'&$skipToken=old";
        let (mut parts, ()) = http::Request::get(format!("/subscriptions/S?{query}"))
            .header("host", "127.0.0.1:1")
            .body(())
            .expect("a request")
            .into_parts();
        parts.extensions.insert(Transport::Tls);
        let query = Params::of_query(query);
        let path = Params::default();
        let call = Call { parts, path, query, principal: None, body: Bytes::new() };
        let expect = "https://127.0.0.1:1/subscriptions/S\
                      ?api-version=1&$filter=a%20eq%20%27b%27&$skiptoken=t%2B1";
        assert_eq!(call.next_link("t+1"), expect);
        assert_eq!(call.api_version(), Some("1"));
    }

    #[test]
    fn a_certificate_is_named_by_its_thumbprint() {
        let certificate = PeerCertificate(Arc::from(&b"abc"[..]));
        assert_eq!(certificate.thumbprint(), "A9993E364706816ABA3E25717850C26C9CD0D89D");
    }
}
