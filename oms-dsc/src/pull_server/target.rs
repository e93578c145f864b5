//! What a node should have: its configurations, and which version of each it would get now.

use super::assignment::{self, Decision, named};
use super::node::Node;
use super::{CONFIGURATION_NAMES_MAX, PullServer};
use crate::Error;
use crate::protocol::{
    AgentId, Checksum, ClientStatus, ConfigurationName, GetDscActionRequest, Reply, Request, decode,
};
use std::collections::BTreeMap;

/// One configuration that a node should have.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    /// Which.
    pub(super) name: ConfigurationName,
    /// The version that the node would get now; none if nothing is published under the name.
    pub(super) version: Option<Checksum>,
}

/// Every configuration that a node should have, in the order in which it is told them. What is asked,
/// fetched and compared goes by the same targets.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Targets(pub(super) Vec<Target>);

impl Targets {
    /// The target that a name means; without a name the only one.
    ///
    /// # Errors
    /// [`Error::Name`]; [`Error::Invalid`] if no name is given and there is not exactly one;
    /// [`Error::NotFound`] if the node should not have it: its configurations are all that a node sees,
    /// because they may hold secrets.
    fn find(&self, name: Option<&str>) -> Result<&Target, Error> {
        let name: ConfigurationName = match (name, self.0.as_slice()) {
            (Some(name), _) => name.parse()?,
            (None, [only]) => return Ok(only),
            (None, _) => {
                let reason = "no configuration is named".to_owned();
                return Err(Error::Invalid { what: "GetConfiguration request", reason });
            }
        };
        let found = self.0.iter().find(|target| target.name == name);
        found.ok_or_else(|| Error::NotFound { what: "configuration", name: name.to_string() })
    }

    /// The targets that a node asks about: those that it names, or the only one.
    fn asked(&self, told: &[ClientStatus]) -> Vec<&Target> {
        let named: Vec<String> = told.iter().filter_map(named).map(str::to_lowercase).collect();
        match (named.is_empty(), self.0.as_slice()) {
            (true, [only]) => vec![only],
            _ => self.0.iter().filter(|target| named.contains(&target.name.key())).collect(),
        }
    }

    /// What a node says that it has, by the key of each name. A node with one configuration leaves its
    /// name out.
    pub(super) fn running(&self, told: &[ClientStatus]) -> BTreeMap<String, Checksum> {
        let only = match self.0.as_slice() {
            [only] => Some(only.name.key()),
            _ => None,
        };
        let pairs = told.iter().filter_map(|status| {
            let key = named(status).map(str::to_lowercase).or_else(|| only.clone())?;
            Some((key, status.checksum.trim().parse().ok()?))
        });
        pairs.collect()
    }
}

impl PullServer {
    /// What a node should have.
    pub(super) fn targets(&self, node: &Node) -> Targets {
        self.targets_with(node, false)
    }

    /// The same, after what the journal may hold beyond what is known was read.
    async fn targets_now(&self, node: &Node) -> Result<Targets, Error> {
        self.catch_up_with_rollouts(&self.assigned(node).0).await?;
        Ok(self.targets(node))
    }

    /// What it would be told to have if it asked now: a roll-out may give it a new version then.
    pub(super) fn prospects(&self, node: &Node) -> Targets {
        self.targets_with(node, true)
    }

    fn targets_with(&self, node: &Node, is_asking: bool) -> Targets {
        let target = |name: ConfigurationName| {
            let published = || Some(self.library.configuration(&name)?.checksum);
            let version = self.rollouts.version_for(&name, node, is_asking).or_else(published);
            Target { name, version }
        };
        Targets(self.assigned(node).0.into_iter().map(target).collect())
    }

    pub(super) async fn dsc_action(
        &self,
        agent_id: AgentId,
        request: &Request,
    ) -> Result<Reply, Error> {
        let presented = request.headers.certificate_thumbprint.as_deref();
        let node = self.authenticate(agent_id, presented, true).await?;
        let asked: GetDscActionRequest = decode("GetDscAction request", &request.body)?;
        if asked.client_status.len() > CONFIGURATION_NAMES_MAX {
            let (actual, limit) = (asked.client_status.len(), CONFIGURATION_NAMES_MAX);
            return Err(Error::TooLarge { what: "client status", actual, limit });
        }
        let targets = self.targets_now(&node).await?;
        let running = targets.running(&asked.client_status);
        for target in targets.asked(&asked.client_status) {
            let has = running.get(&target.name.key()).copied();
            self.rollout_asked(&node, &target.name, has).await?;
        }
        self.nodes.note(agent_id, running);
        let targets = self.targets(&node);
        match assignment::decide(&targets, &asked.client_status) {
            Decision::Answer(answer) => {
                Ok(Reply::odata(&request.base, "MSFT.DSCNodeStatus", answer))
            }
            Decision::NotPublished(name) => {
                Err(Error::NotFound { what: "configuration", name: name.to_string() })
            }
        }
    }

    pub(super) async fn configuration(
        &self,
        node: &Node,
        name: Option<&str>,
    ) -> Result<Reply, Error> {
        let targets = self.targets_now(node).await?;
        let Target { name, version } = targets.find(name)?;
        let not_found = || Error::NotFound { what: "configuration", name: name.to_string() };
        let version = version.ok_or_else(not_found)?;
        Ok(Reply::content(self.content(version).await?, version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::ErrorKind;

    fn targets(names: &[&str]) -> Targets {
        let target = |name: &&str| Target { name: name.parse().expect("a name"), version: None };
        Targets(names.iter().map(target).collect())
    }

    #[test]
    fn a_target_is_found_by_name_or_by_being_the_only_one() {
        let (one, two) = (targets(&["Web"]), targets(&["Web", "Base"]));
        let found = |targets: &Targets, name: Option<&str>| {
            targets.find(name).map(|target| target.name.to_string()).map_err(|error| error.kind())
        };
        assert_eq!(found(&one, None), Ok("Web".to_owned()));
        assert_eq!(found(&two, Some("bAsE")), Ok("Base".to_owned()));
        assert_eq!(found(&two, None), Err(ErrorKind::Invalid));
        assert_eq!(found(&targets(&[]), None), Err(ErrorKind::Invalid));
        assert_eq!(found(&one, Some("Base")), Err(ErrorKind::NotFound));
        assert_eq!(found(&one, Some("a/b")), Err(ErrorKind::Invalid));
    }

    #[test]
    fn what_a_node_has_goes_by_the_name_that_it_says_or_by_the_only_one() {
        let sum = Checksum::of(b"x");
        let told = |checksum: &str, name: Option<&str>| ClientStatus {
            checksum: checksum.to_owned(),
            configuration_name: name.map(str::to_owned),
            checksum_algorithm: "SHA-256".to_owned(),
        };
        let text = sum.to_string();
        let unnamed = [told(&text, None)];
        assert_eq!(targets(&["Web"]).running(&unnamed), BTreeMap::from([("web".to_owned(), sum)]));
        assert!(targets(&["Web", "Base"]).running(&unnamed).is_empty());
        let named = [told(&text, Some("Base")), told("", Some("Web")), told("junk", None)];
        let base = BTreeMap::from([("base".to_owned(), sum)]);
        assert_eq!(targets(&["Web", "Base"]).running(&named), base);
        let asked = |names: &[&str], told: &[ClientStatus]| {
            targets(names)
                .asked(told)
                .iter()
                .map(|target| target.name.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(asked(&["Web"], &[]), ["Web"]);
        assert_eq!(asked(&["Web", "Base"], &unnamed), [""; 0]);
        assert_eq!(asked(&["Web", "Base", "More"], &named), ["Web", "Base"]);
    }
}
