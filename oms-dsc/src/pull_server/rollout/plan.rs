//! What a roll-out does: its rings, and which node is in which.

use crate::Error;
use crate::authoring::from_yaml;
use crate::protocol::{AgentId, Checksum, ConfigurationName};
use crate::pull_server::expression::NodeExpression;
use crate::pull_server::name::RingName;
use crate::pull_server::node::Node;
use serde::{Deserialize, Serialize};

/// The most rings of one roll-out.
pub const RINGS_MAX: usize = 16;

/// The largest document of a plan, in bytes.
pub const ROLLOUT_PLAN_BYTES_MAX: usize = 64 << 10;

/// How deep the values of a plan may lie in each other.
const DEPTH_MAX: usize = 16;

/// The longest time of a ring, in minutes: a year.
const MINUTES_MAX: u32 = 366 * 24 * 60;

/// The rings of a roll-out, in the order in which they open.
///
/// ```
/// use oms_dsc::pull_server::RolloutPlan;
///
/// let plan = RolloutPlan::parse("rings.yaml", b"
/// rings:
///   - name: canary
///     when: tag.ring -eq canary
///     successesMin: 2
///   - name: tenth
///     percent: 10
///     failuresMax: 3
///     inFlightMax: 20
///   - name: everyone
///     percent: 100
///     failuresMax: 20
/// ")?;
/// assert_eq!(plan.rings()[1].name.as_str(), "tenth");
/// # Ok::<(), oms_dsc::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PlanDocument", into = "PlanDocument")]
pub struct RolloutPlan {
    rings: Vec<Ring>,
}

/// Nodes that get the new version together, and what is asked of them.
///
/// Of a ring's nodes that were given the new version, those *succeeded* whose last run since then found or
/// brought everything in the desired state, after the node had said that it has the new version. Those
/// *failed* whose last run since then failed or left something out of the desired state, and those that did
/// not succeed within `patience_minutes`. The others are *in flight*.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ring {
    /// Its name.
    pub name: RingName,
    /// The nodes that it holds for, of those that are in no earlier ring. Either this or `percent` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<NodeExpression>,
    /// The share of all nodes that are in this ring or an earlier one of this kind, in percent. Which nodes
    /// these are is drawn by their AgentIds and the configuration's name, the same each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// The most nodes of the ring that may have failed at a time: with one more the roll-out stops.
    #[serde(default)]
    pub failures_max: u32,
    /// The most nodes of the ring that may be in flight at a time; all of them without it. With it, no more
    /// than `failures_max + in_flight_max` nodes of the ring get a version with which every node fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight_max: Option<u32>,
    /// How many nodes of the ring have to succeed before the next one opens.
    #[serde(default = "successes_min")]
    pub successes_min: u32,
    /// For how long so many have to be, and to stay, before the next ring opens, in minutes.
    #[serde(default = "soak_minutes")]
    pub soak_minutes: u32,
    /// Within what time a node has to succeed, in minutes.
    #[serde(default = "patience_minutes")]
    pub patience_minutes: u32,
}

const fn successes_min() -> u32 {
    1
}

const fn soak_minutes() -> u32 {
    60
}

const fn patience_minutes() -> u32 {
    180
}

/// A plan as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanDocument {
    rings: Vec<Ring>,
}

impl RolloutPlan {
    /// A plan of these rings.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names the ring: 1 to [`RINGS_MAX`] rings of different names are needed, each
    /// with either a condition or a share, shares that grow, and a last ring of all nodes, so that no node
    /// gets the new version without one.
    pub fn new(rings: Vec<Ring>) -> Result<Self, Error> {
        let refused = |reason: String| Err(Error::Invalid { what: "roll-out plan", reason });
        if rings.is_empty() || rings.len() > RINGS_MAX {
            return refused(format!("it has {} rings, not 1 to {RINGS_MAX}", rings.len()));
        }
        let mut share = 0;
        for (index, ring) in rings.iter().enumerate() {
            let name = &ring.name;
            if rings[..index].iter().any(|earlier| earlier.name == *name) {
                return refused(format!("two rings are called `{name}`"));
            }
            if let Err(reason) = ring.check() {
                return refused(format!("ring `{name}` {reason}"));
            }
            if let Some(percent) = ring.percent {
                if percent <= share {
                    let reason = format!("ring `{name}` has {percent} percent after {share}");
                    return refused(reason);
                }
                share = percent;
            }
        }
        if rings.last().and_then(|ring| ring.percent) != Some(100) {
            return refused("the last ring has not `percent: 100`".to_owned());
        }
        Ok(Self { rings })
    }

    /// Reads a plan in YAML or JSON. `name` appears in errors.
    ///
    /// # Errors
    /// [`Error::Document`] with the place, those of [`RolloutPlan::new`], [`Error::TooLarge`].
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, Error> {
        let (actual, limit) = (bytes.len(), ROLLOUT_PLAN_BYTES_MAX);
        if actual > limit {
            return Err(Error::TooLarge { what: "roll-out plan", actual, limit });
        }
        let document: PlanDocument = from_yaml(bytes, DEPTH_MAX).map_err(|diagnostic| {
            Error::Document { document: name.to_owned(), diagnostics: vec![diagnostic] }
        })?;
        Self::new(document.rings)
    }

    /// Its rings, at least one.
    #[must_use]
    pub fn rings(&self) -> &[Ring] {
        &self.rings
    }

    /// The ring that a node is in, by its index: the first one that it fits.
    pub(super) fn ring_of(&self, configuration: &ConfigurationName, node: &Node) -> usize {
        let place = place(configuration, node.agent_id);
        let fits = |ring: &Ring| match (&ring.when, ring.percent) {
            (Some(when), _) => when.matches(node),
            (None, percent) => place < u64::from(percent.unwrap_or(100)) * PLACES / 100,
        };
        // The last ring has every node.
        self.rings.iter().position(fits).unwrap_or(self.rings.len() - 1)
    }
}

impl Ring {
    fn check(&self) -> Result<(), String> {
        match (&self.when, self.percent) {
            (Some(_), None) | (None, Some(1..=100)) => {}
            (None, Some(percent)) => return Err(format!("has {percent} percent, not 1 to 100")),
            _ => return Err("needs either `when` or `percent`".to_owned()),
        }
        if self.successes_min == 0 || self.in_flight_max == Some(0) {
            return Err("has no node that is to succeed, or that may be in flight".to_owned());
        }
        if self.patience_minutes == 0 || self.patience_minutes.max(self.soak_minutes) > MINUTES_MAX
        {
            return Err(format!("has a time that is not up to {MINUTES_MAX} minutes"));
        }
        Ok(())
    }
}

impl TryFrom<PlanDocument> for RolloutPlan {
    type Error = Error;

    fn try_from(document: PlanDocument) -> Result<Self, Error> {
        Self::new(document.rings)
    }
}

impl From<RolloutPlan> for PlanDocument {
    fn from(plan: RolloutPlan) -> Self {
        Self { rings: plan.rings }
    }
}

/// How finely shares are cut.
const PLACES: u64 = 1_000_000;

/// A node's place among all nodes in the order in which shares of them get this configuration. Another
/// configuration has another order, so that not always the same nodes come first.
fn place(configuration: &ConfigurationName, agent_id: AgentId) -> u64 {
    let text = format!("roll-out of {} to {agent_id}", configuration.key());
    let digits: String = Checksum::of(text.as_bytes()).to_string().chars().take(12).collect();
    u64::from_str_radix(&digits, 16).unwrap_or_default() % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plan(text: &str) -> Result<RolloutPlan, String> {
        RolloutPlan::parse("rings.yaml", text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn plans_are_read_with_their_defaults_and_kept_as_they_are() {
        let text = "rings:\n- {name: Canary, when: tag.ring -eq canary}\n- {name: all, percent: 100, \
                    failuresMax: 5, inFlightMax: 2, successesMin: 9, soakMinutes: 0, patienceMinutes: 7}";
        let plan = plan(text).expect("a plan");
        let (first, last) = (&plan.rings()[0], &plan.rings()[1]);
        assert_eq!(
            (first.name.as_str(), first.failures_max, first.successes_min),
            ("canary", 0, 1)
        );
        assert_eq!((first.soak_minutes, first.patience_minutes), (60, 180));
        assert_eq!((last.in_flight_max, last.soak_minutes), (Some(2), 0));
        let kept = serde_json::to_value(&plan).expect("JSON");
        assert_eq!(serde_json::from_value::<RolloutPlan>(kept).expect("a plan"), plan);
    }

    #[test]
    fn what_is_no_plan_is_told_by_ring_or_place() {
        let all = "{name: all, percent: 100}";
        for (text, expect) in [
            ("rings: []".to_owned(), "it has 0 rings, not 1 to 16"),
            (format!("rings: [{all}, {all}]"), "two rings are called `all`"),
            ("rings: [{name: a, percent: 50}]".to_owned(), "the last ring has not `percent: 100`"),
            ("rings: [{name: a, when: all}]".to_owned(), "the last ring has not `percent: 100`"),
            (format!("rings: [{{name: a}}, {all}]"), "`a` needs either `when` or `percent`"),
            (format!("rings: [{{name: a, percent: 0}}, {all}]"), "`a` has 0 percent, not 1 to 100"),
            (
                format!("rings: [{{name: a, percent: 20}}, {{name: b, percent: 10}}, {all}]"),
                "`b` has 10 percent after 20",
            ),
            (
                format!("rings: [{{name: a, percent: 1, successesMin: 0}}, {all}]"),
                "`a` has no node that is to succeed",
            ),
            (
                format!("rings: [{{name: a, percent: 1, patienceMinutes: 0}}, {all}]"),
                "`a` has a time that is not",
            ),
            (format!("rings: [{{name: a, colour: 1}}, {all}]"), "problems=`1:"),
            (format!("rings:\n- {{name: a, when: x -eq y}}\n- {all}"), "problems=`2:"),
            ("rings: [".to_owned(), "document is not valid. document=`rings.yaml`"),
        ] {
            let refused = plan(&text).expect_err(&text);
            assert!(refused.contains(expect), "{text}: {refused}");
        }
        let many = "a".repeat(ROLLOUT_PLAN_BYTES_MAX + 1);
        assert!(plan(&many).expect_err("too large").contains("too large"));
    }

    #[test]
    fn shares_are_about_as_large_as_they_say_and_the_same_each_time() {
        let text = "rings: [{name: c, when: tag.ring -eq canary}, {name: a, percent: 10}, \
                    {name: b, percent: 60}, {name: all, percent: 100}]";
        let plan = plan(text).expect("a plan");
        let (web, base) = ("Web".parse().expect("a name"), "Base".parse().expect("a name"));
        let (mut counts, mut moved) = ([0; 4], 0);
        for number in 0..2_000_u128 {
            let mut node = Node::new(AgentId(uuid::Uuid::from_u128(number * 7)));
            let ring = plan.ring_of(&web, &node);
            counts[ring] += 1;
            moved += usize::from(ring != plan.ring_of(&base, &node));
            assert_eq!(ring, plan.ring_of(&"WEB".parse().expect("a name"), &node));
            node.tags.insert("ring".parse().expect("a name"), "Canary".to_owned());
            assert_eq!(plan.ring_of(&web, &node), 0);
        }
        let [canary, tenth, half, rest] = counts;
        assert!(canary == 0 && (150..250).contains(&tenth), "{counts:?}");
        assert!((900..1_100).contains(&half) && (700..900).contains(&rest), "{counts:?}");
        assert!(moved > 500, "{moved}");
    }

    proptest! {
        #[test]
        fn any_text_is_a_plan_or_told_why_not(
            text in prop_oneof![
                ".{0,80}",
                "rings: \\[(\\{(name: [ab]|percent: [0-9]{1,3}|when: all|soakMinutes: 9|, ){0,5}\\}|, ){0,4}\\]",
            ],
        ) {
            if let Ok(plan) = RolloutPlan::parse("x", text.as_bytes()) {
                prop_assert_eq!(plan.rings().last().and_then(|ring| ring.percent), Some(100));
            }
        }
    }
}
