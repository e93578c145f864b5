//! The configuration part: a node registers over HTTP, pulls, applies, drifts, is corrected.

use super::Tour;
use super::account::Teller;
use anyhow::{Context, Result, ensure};
use oms_core::auth::Grants;
use oms_core::http::{mount, serve};
use oms_core::{Clock, SystemClock};
use oms_dsc::node::{ConfigurationMode, Lcm, Metaconfiguration, RunReport};
use oms_dsc::resource::Registry;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// The configuration, as a compiler writes it: two resources, the second after the first.
fn document(folder: &Path, computer: &str) -> String {
    let quoted =
        |path: &Path| path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        r#"/* made by the tour */
instance of MSFT_FileDirectoryConfiguration as $folder
{{
    ResourceID = "[File]folder";
    DestinationPath = "{folder}";
    Type = "Directory";
    Ensure = "Present";
    ModuleName = "PSDesiredStateConfiguration";
    ModuleVersion = "1.0";
    ConfigurationName = "Greeting";
}};
instance of MSFT_FileDirectoryConfiguration as $motd
{{
    ResourceID = "[File]motd";
    DestinationPath = "{motd}";
    Contents = "This is {computer}, in its desired state.\n";
    Ensure = "Present";
    DependsOn = {{"[File]folder"}};
    ModuleName = "PSDesiredStateConfiguration";
    ModuleVersion = "1.0";
    ConfigurationName = "Greeting";
}};
instance of OMI_ConfigurationDocument
{{
    Version = "2.0.0";
    MinimumCompatibleVersion = "1.0.0";
    Author = "tour";
    Name = "Greeting";
}};
"#,
        folder = quoted(folder),
        motd = quoted(&folder.join("motd")),
    )
}

pub(super) async fn show(tour: &Tour, teller: &mut Teller) -> Result<String> {
    let server = tour.suite.dsc()?;
    let configured = tour.folder.join("configured");
    let (name, document) = (tour.name("Tour"), document(&configured, tour.suite.computer()));
    let published = server.publish(&name, document.as_bytes()).await?;
    teller.say(format!(
        "published {name}, {} bytes, SHA-256 {}",
        published.bytes, published.checksum
    ));

    let mounted =
        mount(vec![oms_dsc::http::surface(Arc::clone(server))], Arc::new(Grants::default()))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(serve(listener, Arc::new(mounted), async {
        let _ = stopped.await;
    }));
    let url = format!("http://{address}/PSDSCPullServer.svc");
    let outcome = visit(tour, teller, &url, &name, &configured).await;
    let _ = stop.send(());
    serving.await.context("the server broke")??;
    outcome
}

async fn visit(
    tour: &Tour,
    teller: &mut Teller,
    url: &str,
    name: &str,
    configured: &Path,
) -> Result<String> {
    let key = tour.admin.dsc_registration_key.clone();
    let mut settings = Metaconfiguration::new(url, key);
    settings.configuration_names = vec![name.to_owned()];
    settings.configuration_mode = ConfigurationMode::ApplyAndAutoCorrect;
    settings.node_name = tour.suite.computer().to_owned();
    let state = tour.folder.join("node");
    std::fs::create_dir_all(&state)?;
    let mut node = Lcm::builder(&state, settings)
        .resources(Registry::standard(Some(&tour.folder))?)
        .build()
        .await?;

    let begin = SystemClock.monotonic();
    let first = checked(node.run().await?)?;
    let milliseconds = (SystemClock.monotonic() - begin).as_secs_f64() * 1e3;
    let motd = configured.join("motd");
    let wanted = format!("This is {}, in its desired state.\n", tour.suite.computer());
    ensure!(std::fs::read_to_string(&motd)? == wanted, "the node wrote something else");
    teller.say(format!(
        "the node registered with a signature, fetched and applied {} resources in \
         {milliseconds:.0} ms",
        first.resources.len()
    ));

    std::fs::write(&motd, "somebody was here\n")?;
    let second = checked(node.run().await?)?;
    ensure!(std::fs::read_to_string(&motd)? == wanted, "drift was not corrected");
    let drifted: Vec<&str> = second
        .resources
        .iter()
        .filter(|status| !status.differences.is_empty())
        .map(|status| status.resource_id.as_str())
        .collect();
    ensure!(drifted == ["[File]motd"], "the wrong drift was found: {drifted:?}");
    teller.say("a change by hand was found as drift of [File]motd and corrected");

    let agent = node.record().await?.agent_id.context("the node has no identity")?;
    let server = tour.suite.dsc()?;
    let reports = server.reports(agent).await?;
    ensure!(reports.len() >= 2, "the server has {} reports of two runs", reports.len());
    ensure!(node.reports_waiting().await? == 0, "a report was not sent");
    let state = server.node(agent).await?.state;
    teller.say(format!("the server has {} reports of the node, which is {state:?}", reports.len()));
    ensure!(format!("{state:?}") == "Compliant", "the node is {state:?}");
    Ok(format!(
        "1 node, {} resources, drift corrected, {} reports",
        first.resources.len(),
        reports.len()
    ))
}

fn checked(report: RunReport) -> Result<RunReport> {
    let failed = report.resources.iter().filter_map(|status| status.error.as_deref());
    let errors: Vec<&str> = failed.chain(report.errors.iter().map(String::as_str)).collect();
    ensure!(report.is_success && report.is_compliant, "the node's run failed: {errors:?}");
    Ok(report)
}
