//! A pull server and one of its nodes, embedded in one program: the node registers over HTTP,
//! fetches its configuration, applies it, and the server knows it as compliant.
//!
//! Builds no other service: `cargo run --no-default-features --features dsc --bin pull_server`.

#![expect(clippy::print_stdout, reason = "a program prints its results")]

use oms_core::Secret;
use oms_core::auth::Grants;
use oms_core::http::{mount, serve};
use oms_dsc::node::{Lcm, Metaconfiguration};
use oms_dsc::pull_server::NodeState;
use oms_dsc::resource::Registry;
use oms_dsc::{PullServer, http};
use std::sync::Arc;
use tokio::net::TcpListener;

const MOTD: &str = "kept by its pull server\n";

/// What the program says of itself.
const USAGE: &str = "\
Serves a configuration on a free port of 127.0.0.1, has a node register, fetch and apply it, and ends.

Usage: pull_server

It has no options and leaves nothing behind. A pull server that goes on: oms serve --services dsc";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        None => {}
        Some("-h" | "--help") => {
            println!("{USAGE}");
            return Ok(());
        }
        Some(other) => anyhow::bail!("no such argument: {other}; see pull_server --help"),
    }
    let folder = std::env::temp_dir().join(format!("pull-server-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let outcome = run(&folder).await;
    std::fs::remove_dir_all(&folder)?;
    outcome
}

async fn run(folder: &std::path::Path) -> anyhow::Result<()> {
    let key = Secret::from("a registration key");
    let server = PullServer::builder(folder.join("server")).registration_key(key.clone());
    let server = Arc::new(server.build().await?);
    let document = format!(
        r#"instance of MSFT_FileDirectoryConfiguration as $motd {{
             ResourceID = "[File]motd"; ModuleName = "PSDesiredStateConfiguration";
             DestinationPath = "{}"; Contents = "kept by its pull server\n"; Ensure = "Present";
           }};
           instance of OMI_ConfigurationDocument {{ Version = "2.0.0"; Name = "Web"; }};"#,
        folder.join("motd").display()
    );
    server.publish("Web", document.as_bytes()).await?;

    let mounted = mount(vec![http::surface(Arc::clone(&server))], Arc::new(Grants::default()))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}{}", listener.local_addr()?, http::PATH);
    println!("serving {url}");
    tokio::spawn(serve(listener, Arc::new(mounted), std::future::pending()));

    let mut settings = Metaconfiguration::new(url, key);
    settings.configuration_names = vec!["Web".to_owned()];
    let resources = Registry::standard(Some(folder))?;
    let mut node = Lcm::builder(folder.join("node"), settings).resources(resources).build().await?;
    let report = node.run().await?;
    anyhow::ensure!(report.is_success && report.is_compliant, "the run failed: {report:?}");
    anyhow::ensure!(std::fs::read_to_string(folder.join("motd"))? == MOTD, "another file");

    let nodes = server.nodes().await?;
    anyhow::ensure!(nodes.len() == 1 && nodes[0].state == NodeState::Compliant, "{nodes:?}");
    println!("node {} is {:?}", nodes[0].agent_id, nodes[0].state);
    Ok(())
}
