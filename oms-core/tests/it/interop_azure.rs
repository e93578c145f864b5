//! Azure's own client libraries for Python, unmodified, against surfaces of this crate over TLS.
//!
//! `OMS_INTEROP_PYTHON` names a Python that has the packages of `.ci/interop.txt`.

use crate::sample::{SUBSCRIPTION, Suite, TENANT};
use oms_core::http::{Accepted, Stream, Upgrade, serve_with};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// A certificate for loopback, in PEM, and what serves with it.
fn tls() -> (String, Upgrade) {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]);
    let certified = certified.expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.expect("a key"))
        .expect("certificate and key");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let upgrade: Upgrade = Arc::new(move |stream| {
        let acceptor = acceptor.clone();
        Box::pin(async move {
            let stream = acceptor.accept(stream).await?;
            let accepted: Accepted = (Box::new(stream) as Box<dyn Stream>, None);
            Ok(accepted)
        })
    });
    (certified.cert.pem(), upgrade)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_clients_get_tokens_manage_resources_and_poll() {
    let python = std::env::var("OMS_INTEROP_PYTHON").expect(
        "OMS_INTEROP_PYTHON names a Python that has azure-identity and the other packages of \
         .ci/interop.txt",
    );
    let suite = Suite::new().await;
    let text = |secret: &oms_core::Secret| secret.expose_text().expect("text").to_owned();
    let (owner, stranger) = (text(&suite.owner), text(&suite.stranger));
    let (pem, upgrade) = tls();
    let folder = tempfile::tempdir().expect("a folder");
    let authority = folder.path().join("ca.pem");
    std::fs::write(&authority, pem).expect("written");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address").to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve_with(listener, upgrade, Arc::new(suite.mounted), async {
        let _ = stopped.await;
    }));
    let mut command = std::process::Command::new(&python);
    command
        .args(["-c", include_str!("interop_azure.py")])
        .args([format!("https://{address}").as_str(), TENANT, SUBSCRIPTION])
        .env("REQUESTS_CA_BUNDLE", &authority)
        .env("NO_PROXY", "127.0.0.1")
        .env("OWNER_SECRET", owner)
        .env("STRANGER_SECRET", stranger);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    let output = output.unwrap_or_else(|error| panic!("{python} does not start: {error}"));
    stop.send(()).expect("the server runs");
    server.await.expect("no panic").expect("ends well");
    let (out, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{python} failed: {out}{errors}");
    let expect = "token\nallowed\nforbidden\nbroken token refused\nwrong secret refused\n\
                  wrong tenant refused\nwrong audience refused\nvault\nlong operation\n";
    assert_eq!(out, expect);
}
