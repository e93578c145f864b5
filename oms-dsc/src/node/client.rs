//! How a node reaches its pull server.

use crate::Error;
use crate::protocol::{Reply, Request};
use async_trait::async_trait;
use std::fmt::Debug;

/// The way to a pull server.
#[async_trait]
pub trait Transport: Debug + Send + Sync {
    /// Sends a request and brings the answer, whatever its status.
    ///
    /// # Errors
    /// [`Error::Unreachable`]; whether the server got the request is unknown then.
    async fn exchange(&self, request: &Request) -> Result<Reply, Error>;
}

#[cfg(feature = "client")]
pub use http::{HttpOptions, HttpTransport, RESPONSE_BYTES_MAX};

#[cfg(feature = "client")]
mod http {
    use super::Transport;
    use crate::Error;
    use crate::protocol::{PROTOCOL_VERSION, Reply, Request};
    use async_trait::async_trait;
    use oms_core::task::blocking;
    use std::fmt;
    use std::sync::Arc;
    use std::time::Duration;
    use ureq::http;
    use ureq::tls::{Certificate, RootCerts, TlsConfig};

    /// The largest response, in bytes.
    pub const RESPONSE_BYTES_MAX: u64 = 64 << 20;

    /// How long one exchange may take.
    const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(120);

    /// How long it may take until a connection stands.
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

    /// How to reach a server.
    #[derive(Clone, Debug, Default)]
    pub struct HttpOptions {
        /// Whether clear text is allowed to a server that is not on this computer
        /// (`AllowUnsecureConnection`).
        pub allow_unsecure_connection: bool,
        /// Certificates of the authorities that vouch for the server, in PEM, in place of the
        /// public ones.
        pub root_certificates_pem: Option<Vec<u8>>,
    }

    /// HTTP/1.1 to one pull server. Redirects are refused: they would carry a registration to a
    /// server that nobody named.
    #[derive(Clone)]
    pub struct HttpTransport {
        agent: ureq::Agent,
        base: Arc<str>,
    }

    impl fmt::Debug for HttpTransport {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("HttpTransport").field("base", &self.base).finish_non_exhaustive()
        }
    }

    impl HttpTransport {
        /// A way to the server at `url`, such as `https://pull.example/PSDSCPullServer.svc`.
        ///
        /// # Errors
        /// [`Error::Invalid`] if the address is none, or is in clear text to another computer
        /// and that is not allowed.
        pub fn new(url: &str, options: &HttpOptions) -> Result<Self, Error> {
            let invalid = |reason: &str| Error::Invalid {
                what: "server address",
                reason: format!("{reason}: {url}"),
            };
            let base = url.trim_end_matches('/');
            let uri: http::Uri = base.parse().map_err(|_malformed| invalid("not an address"))?;
            let host = uri.host().ok_or_else(|| invalid("it names no host"))?;
            if uri.query().is_some() {
                return Err(invalid("it has a query"));
            }
            match uri.scheme_str() {
                Some("https") => {}
                Some("http") if is_loopback(host) || options.allow_unsecure_connection => {}
                Some("http") => {
                    return Err(invalid("clear text to another computer is not allowed"));
                }
                _ => return Err(invalid("neither https nor http")),
            }
            let mut tls = TlsConfig::builder();
            if let Some(pem) = &options.root_certificates_pem {
                tls = tls.root_certs(RootCerts::Specific(Arc::new(certificates(pem)?)));
            }
            let agent = ureq::Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .timeout_global(Some(EXCHANGE_TIMEOUT))
                .timeout_connect(Some(CONNECT_TIMEOUT))
                .tls_config(tls.build())
                .build()
                .new_agent();
            Ok(Self { agent, base: base.into() })
        }
    }

    fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, Error> {
        let invalid = |reason: String| Error::Invalid { what: "root certificates", reason };
        let mut found = Vec::new();
        for item in ureq::tls::parse_pem(pem) {
            match item.map_err(|error| invalid(error.to_string()))? {
                ureq::tls::PemItem::Certificate(certificate) => found.push(certificate),
                _ => return Err(invalid("something other than a certificate".into())),
            }
        }
        if found.is_empty() { Err(invalid("there is none".into())) } else { Ok(found) }
    }

    fn is_loopback(host: &str) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost")
            || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    #[async_trait]
    impl Transport for HttpTransport {
        async fn exchange(&self, request: &Request) -> Result<Reply, Error> {
            let (transport, request) = (self.clone(), request.clone());
            blocking(move || transport.send(&request)).await
        }
    }

    impl HttpTransport {
        fn send(&self, request: &Request) -> Result<Reply, Error> {
            let operation = request.operation.name();
            let unreachable = |reason: String| Error::Unreachable { operation, reason };
            let mut builder = http::Request::builder()
                .method(request.operation.method())
                .uri(format!("{}/{}", self.base, request.operation.path()))
                .header("ProtocolVersion", PROTOCOL_VERSION)
                .header("Accept", "application/json");
            let headers = &request.headers;
            for (name, value) in [
                ("Authorization", &headers.authorization),
                ("x-ms-date", &headers.x_ms_date),
                ("AgentId", &headers.agent_id),
                ("ConfigurationName", &headers.configuration_name),
            ] {
                if let Some(value) = value {
                    builder = builder.header(name, value);
                }
            }
            let malformed = |error: http::Error| unreachable(error.to_string());
            let response = if request.operation.method() == "GET" {
                self.agent.run(builder.body(()).map_err(malformed)?)
            } else {
                let builder = builder.header("Content-Type", "application/json; charset=utf-8");
                self.agent.run(builder.body(&request.body[..]).map_err(malformed)?)
            };
            let mut response = response.map_err(|error| unreachable(error.to_string()))?;
            let body = response
                .body_mut()
                .with_config()
                .limit(RESPONSE_BYTES_MAX)
                .read_to_vec()
                .map_err(|error| unreachable(error.to_string()))?;
            let header = |name: &'static str| {
                let value = response.headers().get(name)?.to_str().ok()?;
                Some((name, value.to_owned()))
            };
            let known = ["Checksum", "ChecksumAlgorithm", "ProtocolVersion", "Content-Type"];
            let headers = known.into_iter().filter_map(header).collect();
            Ok(Reply { status: response.status().as_u16(), headers, body: body.into() })
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn clear_text_stays_on_this_computer_unless_allowed_by_name() {
            let check = |url, allow_unsecure_connection| {
                let options = HttpOptions { allow_unsecure_connection, ..HttpOptions::default() };
                HttpTransport::new(url, &options).is_ok()
            };
            assert!(check("https://pull.example/PSDSCPullServer.svc", false));
            assert!(check("http://127.0.0.1:8080/x", false));
            assert!(check("http://[::1]:8080/x", false));
            assert!(check("http://LOCALHOST/x", false));
            assert!(!check("http://pull.example/x", false));
            assert!(!check("http://127.0.0.1.example/x", false));
            assert!(check("http://pull.example/x", true));
            for bad in ["", "pull.example", "ftp://pull.example", "http://a b", "https://a/?x=1"] {
                assert!(!check(bad, true), "{bad}");
            }
        }
    }
}
