//! azure-mgmt-automation, unmodified, against the management of an account over HTTP on loopback.
//!
//! `OMS_INTEROP_PYTHON` names a Python that has the packages of `.ci/interop.txt`.

use super::Managed;
use crate::compilation::WEB;
use crate::support::cells;
use oms_core::Secret;
use oms_dsc::Metaconfiguration;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A client that stops where it wants a node to do something, and says so.
struct Client {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Client {
    fn start(python: &str, url: &str) -> Self {
        let mut child = Command::new(python)
            .args(["-c", include_str!("interop.py"), url])
            .env("NO_PROXY", "127.0.0.1")
            .env("SOURCE", WEB)
            .env("DOCUMENT", cells("Web", &[("a", "1")]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{python} does not start: {error}"));
        let said = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, said }
    }

    /// The next line that it says, none at its end.
    fn next(&mut self) -> Option<String> {
        let mut line = String::new();
        let count = self.said.read_line(&mut line).expect("a line");
        (count > 0).then(|| line.trim_end().to_owned())
    }

    fn answer(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        writeln!(stdin, "{text}").expect("it listens");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_mgmt_automation_manages_configurations_jobs_and_nodes() {
    let python = std::env::var("OMS_INTEROP_PYTHON").expect(
        "OMS_INTEROP_PYTHON names a Python that has azure-mgmt-automation and the other packages \
         of .ci/interop.txt",
    );
    let Managed { world, server, mounted } = Managed::new(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(oms_core::http::serve(listener, Arc::new(mounted), async {
        let _ = stopped.await;
    }));
    let mut client = tokio::task::block_in_place(|| Client::start(&python, &url));
    let mut node = None;
    let mut told = Vec::new();
    while let Some(line) = tokio::task::block_in_place(|| client.next()) {
        match line.split_once(' ') {
            // The node gets nothing but what the client was told for it.
            Some(("register", key)) => {
                let mut settings = Metaconfiguration::new("http://localhost/x", Secret::from(key));
                settings.node_name = "pc-1".to_owned();
                let transport = Arc::new(world.direct.clone());
                let mut lcm = world.open_node(settings, transport).await.expect("opens");
                lcm.run().await.expect("a run");
                node = Some(lcm);
                client.answer("registered");
            }
            Some(("run", _)) => {
                world.clock.advance(std::time::Duration::from_secs(900));
                let run = node.as_mut().expect("registered").run().await.expect("a run");
                client.answer(if run.is_success { "success" } else { "failure" });
            }
            _ => told.push(line),
        }
    }
    let status = client.child.wait().expect("it ends");
    stop.send(()).expect("it serves");
    serving.await.expect("no panic").expect("ends well");
    assert!(status.success(), "{python} failed after {told:?}");
    let expect = [
        "configurations",
        "compiled by the library",
        "a failed job is told",
        "streams",
        "node configurations",
        "registration",
        "nodes",
        "reports",
        "counts",
        "keys",
        "statistics",
        "refusals",
        "deleted",
    ];
    assert_eq!(told, expect);
    assert_eq!(server.nodes().await.expect("nodes"), []);
}
