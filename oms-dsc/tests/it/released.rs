//! Events as released versions wrote them are read by this one.

use crate::support::World;
use oms_core::journal::{Append, Envelope, Journal};
use oms_dsc::node::LcmState;
use oms_dsc::pull_server::NodeState;
use serde::{Deserialize, Serialize};

/// One event of a fixture.
#[derive(Debug, Serialize, Deserialize)]
struct Released {
    history: String,
    envelope: Envelope,
}

/// Every event of the server and of the node, format 1, as version 0.1.0 wrote them.
const FORMAT_1: &str = include_str!("../fixtures/events-format-1.json");

#[tokio::test]
async fn events_of_format_1_are_read() {
    let events: Vec<Released> = serde_json::from_str(FORMAT_1).expect("a fixture");
    let world = World::new(1);
    for Released { history, envelope } in events {
        let history: oms_core::journal::HistoryId = history.parse().expect("a history");
        let journal = match history.kind() {
            "dsc-lcm" => &world.node_journal,
            _ => &world.server_journal,
        };
        let heads = journal.list(history.kind(), None, 100).await.expect("heads");
        let head = heads.iter().find(|head| head.history == history);
        let expected = head.map_or(0, |head| head.version);
        let append = Append { history, expected, events: vec![envelope] };
        journal.append(vec![append]).await.expect("appended");
    }
    let server = world.start_server().await;
    let nodes = server.nodes().await.expect("nodes");
    assert_eq!(nodes.len(), 1);
    let node = &nodes[0];
    assert_eq!((node.state, node.agent.node_name.as_str()), (NodeState::Unresponsive, "node-a"));
    assert_eq!(node.configuration_names()[0].as_str(), "Web");
    assert_eq!(node.last_report.as_ref().map(|report| report.resource_count), Some(1));
    assert_eq!(server.configurations()[0].name.as_str(), "Web");
    assert_eq!(server.modules()[0].version.to_string(), "1.0");

    let mut lcm = world.start_node(&["Web"]).await;
    let record = lcm.record().await.expect("a record");
    assert_eq!(record.state, LcmState::PendingConfiguration);
    assert_eq!(record.agent_id, Some(node.agent_id));
    assert_eq!(record.current.len(), 1);
    assert!(record.registered.is_some() && record.pending.is_some());
}
