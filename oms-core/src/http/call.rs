//! One request, as a handler sees it.

use crate::auth::Principal;
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use std::sync::Arc;

/// The certificate that the client presented, in DER; the server puts it into the request's
/// extensions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerCertificate(pub Arc<[u8]>);

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
}
