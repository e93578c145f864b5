//! Which configurations a node gets: by hand, by rules over what is known of it, or as it registered.

use crate::support::{World, cells};
use oms_core::ErrorKind;
use oms_core::journal::Journal;
use oms_dsc::pull_server::{
    AssignmentRule, AssignmentSource, Node, NodeState, RULES_MAX, TAGS_MAX,
};
use oms_dsc::{Lcm, PullServer};
use std::collections::BTreeMap;
use std::sync::Arc;

fn rule(name: &str, order: u32, when: &str, configurations: &[&str]) -> AssignmentRule {
    let names = configurations.iter().map(|name| name.parse().expect("a name"));
    AssignmentRule {
        name: name.parse().expect("a name"),
        order,
        when: when.parse().expect("an expression"),
        configuration_names: names.collect(),
    }
}

fn tags(tags: &[(&str, Option<&str>)]) -> BTreeMap<oms_dsc::pull_server::TagName, Option<String>> {
    let tags = tags.iter();
    tags.map(|(name, value)| (name.parse().expect("a name"), value.map(str::to_owned))).collect()
}

fn shown(server: &PullServer, node: &Node) -> String {
    let assignment = server.assignment(node);
    let source = match assignment.source {
        AssignmentSource::Operator => "operator".to_owned(),
        AssignmentSource::Rule(name) => name.to_string(),
        AssignmentSource::Registration => "registration".to_owned(),
        _ => "something new".to_owned(),
    };
    let names: Vec<_> = assignment.configuration_names.iter().map(ToString::to_string).collect();
    let overruled: Vec<_> = assignment.overruled.iter().map(ToString::to_string).collect();
    format!("{} by {source}, not {}", names.join("+"), overruled.join("+"))
}

/// A node that applied `Own`, which it registered for.
async fn started(world: &World, server: &PullServer) -> (Lcm, Node) {
    for (name, cell) in [("Own", "own"), ("Web", "web"), ("Base", "base")] {
        server.publish(name, cells(name, &[(cell, "1")]).as_bytes()).await.expect("published");
    }
    let mut lcm = world.start_node(&["Own"]).await;
    assert!(lcm.run().await.expect("a run").is_success);
    let node = server.nodes().await.expect("nodes").remove(0);
    (lcm, node)
}

#[tokio::test]
async fn the_first_rule_that_holds_decides_and_the_others_are_told() {
    let world = World::new(61);
    let server = world.start_server().await;
    let (mut lcm, node) = started(&world, &server).await;
    assert_eq!(shown(&server, &node), "Own by registration, not ");
    server.set_rule(rule("base", 20, "all", &["Base"])).await.expect("set");
    server.set_rule(rule("web", 10, "tag.role -eq web", &["Web", "Base"])).await.expect("set");
    server.set_rule(rule("a-late-one", 20, "name -like node-*", &["Own"])).await.expect("set");
    assert_eq!(shown(&server, &node), "Own by a-late-one, not base");

    let tagged = server.tag(node.agent_id, &tags(&[("Role", Some("web"))])).await.expect("tagged");
    assert_eq!(shown(&server, &tagged), "Web+Base by web, not a-late-one+base");
    // Tags say nothing of the last run.
    assert_eq!(tagged.state, NodeState::Compliant);
    let run = lcm.run().await.expect("a run");
    let names: Vec<&str> = run.configurations.keys().map(|name| name.as_str()).collect();
    assert_eq!((names, run.is_compliant), (vec!["Base", "Web"], true), "{run:?}");
    assert_eq!(world.cell.values().len(), 3);

    // What an operator gives to one node counts before every rule.
    let by_hand = server.assign(node.agent_id, &["Base"]).await.expect("assigned");
    assert_eq!(shown(&server, &by_hand), "Base by operator, not web+a-late-one");
    let given_back = server.assign(node.agent_id, &[]).await.expect("given back");
    assert_eq!(shown(&server, &given_back), "Web+Base by web, not a-late-one+base");

    let untagged = server.tag(node.agent_id, &tags(&[("role", None)])).await.expect("untagged");
    server.remove_rule(&"a-late-one".parse().expect("a name")).await.expect("removed");
    assert_eq!(shown(&server, &untagged), "Base by base, not ");
}

#[tokio::test]
async fn rules_and_tags_outlive_the_server_and_reach_the_others() {
    let world = World::new(62);
    let server = world.start_server().await;
    let (_lcm, node) = started(&world, &server).await;
    let journal = || Arc::clone(&world.server_journal) as Arc<dyn Journal>;
    let other = world.open_server(journal()).await.expect("it opens");
    server.set_rule(rule("web", 10, "tag.role -eq web", &["Web"])).await.expect("set");
    server.tag(node.agent_id, &tags(&[("role", Some("Web"))])).await.expect("tagged");
    assert!(other.rules().is_empty());
    other.refresh().await.expect("refreshed");
    assert_eq!(other.rules(), server.rules());
    // Both change the same rule: neither is lost, and the last one counts.
    other.set_rule(rule("web", 10, "tag.role -eq web", &["Base"])).await.expect("set");
    server.set_rule(rule("web", 11, "tag.role -eq web", &["Own"])).await.expect("set");
    other.refresh().await.expect("refreshed");
    assert_eq!((other.rules()[0].order, other.rules() == server.rules()), (11, true));

    let again = world.open_server(journal()).await.expect("it opens");
    let node = again.node(node.agent_id).await.expect("known");
    assert_eq!(shown(&again, &node), "Own by web, not ");
    server.remove_node(node.agent_id).await.expect("removed");
    let again = world.open_server(journal()).await.expect("it opens");
    assert!(again.nodes().await.expect("nodes").is_empty());
}

#[tokio::test]
async fn what_is_no_rule_or_tag_is_refused_by_name() {
    let world = World::new(63);
    let server = world.start_server().await;
    let (_lcm, node) = started(&world, &server).await;
    let nothing = server.set_rule(rule("web", 1, "all", &[])).await.expect_err("nothing given");
    assert!(nothing.to_string().contains("`web` gives no configuration"), "{nothing}");
    let gone = server.remove_rule(&"web".parse().expect("a name")).await.expect_err("none");
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    for number in 0..RULES_MAX {
        let name = format!("rule-{number}");
        server.set_rule(rule(&name, 1, "tag.x", &["Web"])).await.expect("set");
    }
    let full = server.set_rule(rule("more", 1, "tag.x", &["Web"])).await.expect_err("full");
    assert_eq!(full.kind(), ErrorKind::LimitExceeded { retry_after: None });
    server.set_rule(rule("rule-7", 2, "tag.x", &["Web"])).await.expect("one that is there");

    let long = "x".repeat(257);
    for wrong in ["", "a\nb", long.as_str()] {
        let refused = server.tag(node.agent_id, &tags(&[("role", Some(wrong))])).await;
        assert_eq!(refused.expect_err(wrong).kind(), ErrorKind::Invalid);
    }
    let names: Vec<String> = (0..=TAGS_MAX).map(|number| format!("tag-{number}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), Some("x"))).collect();
    let refused = server.tag(node.agent_id, &tags(&many)).await.expect_err("too many");
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    server.tag(node.agent_id, &tags(&many[1..])).await.expect("as many as may be");
    assert!(server.node(node.agent_id).await.expect("known").tags.len() == TAGS_MAX);
}
