//! Nodes of the pull server: who they are, what they should have, and what they reported.

use super::Output;
use crate::suite::Suite;
use anyhow::{Result, bail};
use oms_dsc::PullServer;
use oms_dsc::protocol::StatusReport;
use oms_dsc::pull_server::Node;
use oms_dsc::report::ReportSummary;
use serde_json::{Value, json};

/// The most resources of a report that are shown as text; JSON has all that are kept.
const RESOURCES_SHOWN_MAX: usize = 50;

/// Every node. An AgentId is a node's secret and is shown only if it is asked for.
pub(super) async fn list(suite: &Suite, shows_agent_ids: bool) -> Result<Output> {
    let mut text = String::new();
    let mut rows = Vec::new();
    let server = suite.dsc()?;
    for node in server.nodes().await? {
        let mut row = about(server, &node);
        let heard = node.last_heard.map(|at| at.to_string()).unwrap_or_default();
        text.push_str(&format!(
            "{}  {:12}  {}  {}  {heard}",
            node.handle(),
            format!("{:?}", node.state),
            node.agent.node_name,
            names(server, &node).join(", ")
        ));
        if shows_agent_ids {
            row["agent_id"] = node.agent_id.to_string().into();
            text.push_str(&format!("  {}", node.agent_id));
        }
        if let Some((since, why)) = &node.clone_suspected {
            text.push_str(&format!(
                "  MAY BE TWO MACHINES since {since:.0}: {:?} `{}`, `{}`",
                why.sign, why.now, why.before
            ));
        }
        text.push('\n');
        rows.push(row);
    }
    if rows.is_empty() {
        text.push_str("no node has registered yet\n");
    }
    Ok(Output::new(text, json!(rows)))
}

fn names(server: &PullServer, node: &Node) -> Vec<String> {
    server.assignment(node).configuration_names.iter().map(ToString::to_string).collect()
}

pub(super) fn about(server: &PullServer, node: &Node) -> Value {
    let assignment = server.assignment(node);
    json!({
        "id": node.handle(), "state": format!("{:?}", node.state),
        "node_name": node.agent.node_name, "configurations": names(server, node),
        "is_assigned": !node.assigned_names.is_empty(), "source": assignment.source,
        "overruled": assignment.overruled, "tags": node.tags, "registered": node.registered,
        "last_heard": node.last_heard, "certificate_ends": node.certificate.ends(),
        "rotation_requested": node.rotation_requested,
        "is_rotating": node.next_certificate.is_some(), "clone_suspected": node.clone_suspected,
    })
}

/// Gives a node configurations in place of those that it registered for; none gives those back.
pub(super) async fn assign(suite: &Suite, node: &str, configurations: &[String]) -> Result<Output> {
    let server = suite.dsc()?;
    let agent_id = server.find_node(node).await?.agent_id;
    let published = server.configurations();
    let is_there =
        |name: &String| published.iter().any(|p| p.name.as_str().eq_ignore_ascii_case(name));
    let wanted: Vec<&str> = configurations.iter().map(String::as_str).collect();
    let node = server.assign(agent_id, &wanted).await?;
    let mut text = match node.assigned_names.is_empty() {
        true => {
            let names = names(server, &node).join(", ");
            format!(
                "{} has what rules give it, or what it registered for: {names}\n",
                node.handle()
            )
        }
        false => format!("{} has {}\n", node.handle(), names(server, &node).join(", ")),
    };
    for name in configurations.iter().filter(|name| !is_there(name)) {
        text.push_str(&format!("nothing is published as {name} yet\n"));
    }
    Ok(Output::new(text, about(server, &node)))
}

/// Asks a node for a new certificate.
pub(super) async fn rotate(suite: &Suite, node: &str) -> Result<Output> {
    let server = suite.dsc()?;
    let node = server.request_rotation(server.find_node(node).await?.agent_id).await?;
    let name = &node.agent.node_name;
    let text = format!("{} {name} is asked for a new certificate\n", node.handle());
    Ok(Output::new(text, about(server, &node)))
}

/// Says that a node is one machine, whatever it looks like so far.
pub(super) async fn dismiss_clone(suite: &Suite, node: &str) -> Result<Output> {
    let server = suite.dsc()?;
    let node = server.dismiss_clone(server.find_node(node).await?.agent_id).await?;
    let text = format!("{} {} is taken for one machine\n", node.handle(), node.agent.node_name);
    Ok(Output::new(text, about(server, &node)))
}

/// Takes a node out. It may register again.
pub(super) async fn remove(suite: &Suite, node: &str) -> Result<Output> {
    let server = suite.dsc()?;
    let node = server.find_node(node).await?;
    server.remove_node(node.agent_id).await?;
    let text = format!("{} {} was removed\n", node.handle(), node.agent.node_name);
    Ok(Output::new(text, about(server, &node)))
}

/// What a node reported: its newest runs, or one of them in full.
pub(super) async fn report(
    suite: &Suite,
    node: &str,
    job: Option<&str>,
    limit: usize,
) -> Result<Output> {
    let server = suite.dsc()?;
    let node = server.find_node(node).await?;
    if let Some(job) = job {
        let report = server.report(node.agent_id, job.parse()?).await?;
        let text = in_full(&report);
        let mut json = serde_json::to_value(report)?;
        hide(&mut json, &node.agent_id.to_string(), &node.handle());
        return Ok(Output::new(text, json));
    }
    let reports = server.reports(node.agent_id).await?;
    if reports.is_empty() {
        return Ok(Output::new(format!("{} has reported nothing yet\n", node.handle()), json!([])));
    }
    let (mut text, mut rows) = (String::new(), Vec::new());
    for report in reports.iter().take(limit) {
        let summary = ReportSummary::of(report);
        let state = summary.as_ref().map_or("-", |summary| summary.compliance.as_str());
        let field = |field: &Option<String>| field.clone().unwrap_or_default();
        text.push_str(&format!(
            "{}  {state:12}  {:12}  {}\n",
            field(&report.job_id),
            field(&report.operation_type),
            field(&report.start_time)
        ));
        rows.push(json!({
            "job_id": report.job_id, "operation": report.operation_type, "state": state,
            "start": report.start_time, "end": report.end_time,
            "resources": summary.map_or(0, |summary| summary.resource_count),
        }));
    }
    Ok(Output::new(text, json!(rows)))
}

/// Puts a node's handle in place of its AgentId, which is a secret and which a report holds; a long text
/// of one is in pieces.
fn hide(json: &mut Value, agent_id: &str, handle: &str) {
    let hidden =
        |text: &str| text.replace(agent_id, handle).replace(&agent_id.to_uppercase(), handle);
    match json {
        Value::String(text) => *text = hidden(text),
        Value::Array(values) if values.iter().all(Value::is_string) => {
            let whole: String = values.iter().filter_map(Value::as_str).collect();
            let shown = hidden(&whole);
            if shown != whole {
                *values = vec![shown.into()];
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| hide(value, agent_id, handle)),
        Value::Object(map) => map.values_mut().for_each(|value| hide(value, agent_id, handle)),
        _ => {}
    }
}

fn in_full(report: &StatusReport) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!("{name}: {value}\n"));
        }
    };
    line("run", &report.job_id);
    line("operation", &report.operation_type);
    line("status", &report.status);
    line("start", &report.start_time);
    line("end", &report.end_time);
    line("reboot requested", &report.reboot_requested);
    let Some(summary) = ReportSummary::of(report) else {
        text.push_str("the run has not ended, or is about no configuration\n");
        return text;
    };
    text.push_str(&format!(
        "{}, {} resources\n",
        summary.compliance.as_str(),
        summary.resource_count
    ));
    for resource in summary.resources.iter().take(RESOURCES_SHOWN_MAX) {
        let mark = if resource.in_desired_state { "ok  " } else { "DIFF" };
        text.push_str(&format!("  {mark} {}\n", resource.resource_id));
        if let Some(error) = &resource.error {
            text.push_str(&format!("       {error}\n"));
        }
    }
    if let Some(more) = summary.resources.len().checked_sub(RESOURCES_SHOWN_MAX).filter(|n| *n > 0)
    {
        text.push_str(&format!("  and {more} more\n"));
    }
    for error in report.errors.iter().flatten() {
        text.push_str(&format!("error: {error}\n"));
    }
    text
}

/// What a node runs against what it would get.
pub(super) async fn diff(suite: &Suite, node: &str) -> Result<Output> {
    let server = suite.dsc()?;
    let node = server.find_node(node).await?;
    let differences = server.diff(node.agent_id).await?;
    if differences.is_empty() {
        bail!("node has no configuration. node=`{}`", node.handle());
    }
    let mut text = String::new();
    for difference in &differences {
        let said = match (&difference.running, &difference.published, &difference.changes) {
            (_, None, _) => "nothing is published under the name".to_owned(),
            (None, Some(new), _) => {
                format!(
                    "the node has not said what it has since the server's start; it would get {new}"
                )
            }
            (Some(_), Some(_), Some(changes)) if changes.is_empty() => {
                "nothing would change".to_owned()
            }
            (Some(old), Some(new), None) => {
                format!("the node has {old}, which is not kept here; it would get {new}")
            }
            (Some(old), Some(new), Some(_)) => format!("{old} -> {new}"),
        };
        text.push_str(&format!("{}: {said}\n", difference.name));
        for change in difference.changes.iter().flatten() {
            text.push_str(&format!("{change}\n"));
        }
        if difference.omitted > 0 {
            text.push_str(&format!("and {} more resources\n", difference.omitted));
        }
    }
    Ok(Output::new(text, serde_json::to_value(differences)?))
}
