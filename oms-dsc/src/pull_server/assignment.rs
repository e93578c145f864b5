//! Which action a node needs: what it should have against what it says it has.

use super::target::{Target, Targets};
use crate::protocol::{
    Checksum, ClientStatus, ConfigurationName, ConfigurationStatus, DscAction, GetDscActionResponse,
};

/// What became of a decision.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Decision {
    /// This is the answer.
    Answer(GetDscActionResponse),
    /// The node's only configuration was never published.
    NotPublished(ConfigurationName),
}

/// Decides.
///
/// - No targets: nothing to do.
/// - A client that names none: with one target its checksum decides; with several it has to learn to
///   name them.
/// - A client that names some: each that is also a target is decided, the others are left out.
pub(super) fn decide(targets: &Targets, statuses: &[ClientStatus]) -> Decision {
    let is_named = statuses.iter().any(|status| named(status).is_some());
    let mut details = Vec::new();
    if is_named {
        for status in statuses {
            let asked = named(status).map(str::to_lowercase);
            let is_asked = |target: &&Target| Some(target.name.key()) == asked;
            let Some(target) = targets.0.iter().find(is_asked) else { continue };
            details.push(detail(&target.name, action(status, target.version)));
        }
    } else if let [Target { name, version }] = targets.0.as_slice() {
        let Some(version) = *version else { return Decision::NotPublished(name.clone()) };
        let none = ClientStatus::default();
        let status = statuses.first().unwrap_or(&none);
        details.push(detail(name, action(status, Some(version))));
    } else {
        let update = |target: &Target| detail(&target.name, DscAction::UpdateMetaConfig);
        details.extend(targets.0.iter().map(update));
    }
    let has = |wanted| details.iter().any(|detail: &ConfigurationStatus| detail.status == wanted);
    let order = [DscAction::UpdateMetaConfig, DscAction::GetConfiguration, DscAction::Retry];
    let node_status = order.into_iter().find(|wanted| has(*wanted)).unwrap_or(DscAction::Ok);
    Decision::Answer(GetDscActionResponse { node_status, details })
}

/// The name that a client gives.
pub(super) fn named(status: &ClientStatus) -> Option<&str> {
    status.configuration_name.as_deref().filter(|name| !name.is_empty())
}

fn detail(name: &ConfigurationName, status: DscAction) -> ConfigurationStatus {
    ConfigurationStatus { configuration_name: name.to_string(), status }
}

/// A checksum that cannot be read is one that differs: the node gets the newest.
fn action(status: &ClientStatus, published: Option<Checksum>) -> DscAction {
    match published {
        None => DscAction::Retry,
        Some(checksum) if status.checksum.trim().parse() == Ok(checksum) => DscAction::Ok,
        Some(_) => DscAction::GetConfiguration,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str], statuses: &[(&str, Option<&str>)], expect: &str) {
        // Every configuration but `none` is published, with its lower-case name as content.
        let target = |name: &&str| {
            let name: ConfigurationName = name.parse().expect("a name");
            let version = (name.as_str() != "none").then(|| Checksum::of(name.key().as_bytes()));
            Target { name, version }
        };
        let targets = Targets(names.iter().map(target).collect());
        let statuses: Vec<ClientStatus> = statuses
            .iter()
            .map(|(checksum, name)| ClientStatus {
                checksum: (*checksum).to_owned(),
                configuration_name: name.map(str::to_owned),
                checksum_algorithm: "SHA-256".to_owned(),
            })
            .collect();
        let shown = match decide(&targets, &statuses) {
            Decision::NotPublished(name) => format!("not published: {name}"),
            Decision::Answer(answer) => {
                let details: Vec<String> = answer
                    .details
                    .iter()
                    .map(|d| format!("{}={:?}", d.configuration_name, d.status))
                    .collect();
                format!("{:?} [{}]", answer.node_status, details.join(" "))
            }
        };
        assert_eq!(shown, expect);
    }

    #[test]
    fn decisions() {
        let a = Checksum::of(b"a").to_string();
        let lower = a.to_lowercase();
        check(&[], &[("", None)], "Ok []");
        check(&["a"], &[("", None)], "GetConfiguration [a=GetConfiguration]");
        check(&["a"], &[("junk", None)], "GetConfiguration [a=GetConfiguration]");
        check(&["a"], &[], "GetConfiguration [a=GetConfiguration]");
        check(&["a"], &[(&a, None)], "Ok [a=Ok]");
        check(&["a"], &[(&lower, Some(""))], "Ok [a=Ok]");
        check(&["none"], &[("", None)], "not published: none");
        let update = "UpdateMetaConfig [a=UpdateMetaConfig b=UpdateMetaConfig]";
        check(&["a", "b"], &[("", None)], update);
        check(&["a", "b"], &[("", Some("x")), ("", Some("y"))], "Ok []");
        check(
            &["a", "b"],
            &[(&a, Some("A")), ("", Some("B"))],
            "GetConfiguration [a=Ok b=GetConfiguration]",
        );
        check(&["a", "none"], &[(&a, Some("a")), ("", Some("none"))], "Retry [a=Ok none=Retry]");
    }
}
