//! The way to a server on another machine.

use super::cluster::Cluster;
use super::*;
use oms_core::journal::{JournalError, JournalExt};
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
use std::fs;
use std::sync::Arc;

fn trusting(certificates: &[&rcgen::Certificate]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.der().clone()).expect("a root");
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_reached_through_tls_if_its_certificate_is_good() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    let foreign = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    let mut cluster = Cluster::begin("");
    let certificate = cluster.put("server.crt", &made.cert.pem());
    let key = cluster.put("server.key", &made.signing_key.serialize_pem());
    cluster.add_settings(&format!(
        "-c ssl=on -c ssl_cert_file={} -c ssl_key_file={}",
        certificate.display(),
        key.display()
    ));
    // Whoever comes in clear text is turned away.
    fs::write(cluster.data().join("pg_hba.conf"), "hostssl all all 127.0.0.1/32 trust\n")
        .expect("write");
    cluster.run();
    let settings = PostgresSettings::default();
    let url = |host: &str| {
        format!("host={host} hostaddr=127.0.0.1 port={} user=oms dbname=postgres", cluster.port)
    };

    let plain = PostgresJournal::connect(&url("localhost"), &settings).await;
    assert!(matches!(plain, Err(JournalError::Setup { .. })), "{plain:?}");
    let connect = async |host: &str, roots: &[&rcgen::Certificate]| {
        PostgresJournal::connect_tls(&url(host), &settings, trusting(roots)).await
    };
    for (host, roots) in [("localhost", &[&foreign.cert][..]), ("example.org", &[&made.cert])] {
        let refused = connect(host, roots).await;
        let Err(error) = refused else { panic!("{host} was believed") };
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    let journal = connect("localhost", &[&made.cert]).await.expect("open");
    let event = Envelope { body: "x".repeat(500_000).into(), ..envelope("") };
    journal.append_to(&job("1"), 0, vec![event.clone(); 3]).await.expect("append");
    let events = journal.read_whole(&job("1")).await.expect("read");
    assert!(events.len() == 3 && events.iter().all(|found| found.envelope == event));
    assert!(format!("{journal:?}").contains("is_encrypted: true"), "{journal:?}");
    journal.close().await;
    cluster.stop();
}

/// A server that does not sync is no place for a journal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_sync_is_refused() {
    let cluster = Cluster::start("-c fsync=off");
    match PostgresJournal::connect(&cluster.url(), &PostgresSettings::default()).await {
        Err(JournalError::Setup { reason }) => assert!(reason.contains("fsync"), "{reason}"),
        other => panic!("expected a refusal, got {other:?}"),
    }
    cluster.stop();
}
