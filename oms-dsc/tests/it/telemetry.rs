//! The span of a node's run is an interface: its name and its fields.

use crate::support::{World, cells};
use oms_dsc::node::{ConfigurationMode, RunReport};
use std::io;
use std::sync::{Arc, Mutex};
use tracing_subscriber::fmt::format::FmtSpan;

/// Where `tracing` writes.
#[derive(Clone, Debug, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Captured {
    /// The spans of that name which ended since it was asked last.
    fn take_spans(&self, name: &str) -> Vec<serde_json::Value> {
        let text = std::mem::take(&mut *self.0.lock().expect("not poisoned"));
        let lines = std::str::from_utf8(&text).expect("text").lines();
        let mut lines: Vec<serde_json::Value> =
            lines.map(|line| serde_json::from_str(line).expect("JSON")).collect();
        lines.retain(|line| line["fields"]["message"] == "close" && line["span"]["name"] == name);
        lines.into_iter().map(|mut line| line["span"].take()).collect()
    }
}

#[tokio::test]
async fn a_run_is_a_span_with_its_number_and_outcome() {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::INFO)
        .with_span_events(FmtSpan::CLOSE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let is_told = |run: &RunReport, outcome: &str| {
        let spans = captured.take_spans("dsc_session");
        let expected = serde_json::json!({
            "name": "dsc_session", "run": run.job_id.to_string(), "outcome": outcome,
        });
        assert_eq!(spans, [expected]);
    };

    let world = World::new(71);
    let server = world.start_server().await;
    server.publish("Web", cells("Web", &[("a", "1")]).as_bytes()).await.expect("published");
    let mut settings = world.settings(&["Web"]);
    settings.configuration_mode = ConfigurationMode::ApplyAndMonitor;
    let transport = Arc::new(world.direct.clone());
    let mut node = world.open_node(settings, transport).await.expect("the node opens");
    world.stop_server();
    let run = node.run().await.expect("a run");
    assert!(!run.is_success, "{run:?}");
    is_told(&run, "failed");

    let server = world.start_server().await;
    let run = node.run().await.expect("a run");
    is_told(&run, "compliant");
    drop(server);

    world.cell.0.lock().expect("not poisoned").insert("a".into(), "drifted".into());
    let run = node.run().await.expect("a run");
    assert!(run.is_success && !run.is_compliant, "{run:?}");
    is_told(&run, "not_compliant");
}
