//! Which configurations a node should have: by hand, by rules, or as it registered.

use super::PullServer;
use super::expression::NodeExpression;
use super::name::{RuleName, TagName};
use super::node::{Node, NodeEvent};
use super::registration::CONFIGURATION_NAMES_MAX;
use crate::Error;
use crate::protocol::{AgentId, ConfigurationName};
use oms_core::Clock;
use oms_core::journal::{Event, HistoryId, Journal, JournalError, JournalEvent as _, JournalExt};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

/// The kind of an assignment rule's history; its key is the rule's name.
pub const RULE_HISTORY: &str = "dsc-assignment-rule";

/// The most assignment rules of one server.
pub const RULES_MAX: usize = 256;

/// The most tags of one node.
pub const TAGS_MAX: usize = 50;

/// The longest value of a tag, in bytes.
pub const TAG_VALUE_BYTES_MAX: usize = 256;

/// How often a change is tried again when another process changed the same rule first.
const ATTEMPTS_MAX: usize = 8;

/// Gives configurations to every node that a condition holds for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AssignmentRule {
    /// Its name.
    pub name: RuleName,
    /// Its place: rules with lower numbers come first, and those of one number in order of name.
    pub order: u32,
    /// For which nodes.
    pub when: NodeExpression,
    /// What they should have; at least one.
    pub configuration_names: Vec<ConfigurationName>,
}

/// What can happen to an assignment rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum RuleEvent {
    /// An operator set it, perhaps in place of what it was.
    Set(AssignmentRule),
    /// An operator took it away.
    Removed,
}

oms_core::journal_event!(RuleEvent, format 1, whole, {
    Self::Set(_) => "dsc-rule-set",
    Self::Removed => "dsc-rule-removed",
});

/// Why a node should have its configurations.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum AssignmentSource {
    /// An operator assigned them to this node.
    Operator,
    /// The first rule that holds for it.
    Rule(RuleName),
    /// It registered for them.
    Registration,
}

/// The configurations that a node should have, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// Which.
    pub configuration_names: Vec<ConfigurationName>,
    /// Why.
    pub source: AssignmentSource,
    /// The rules that hold for the node as well and would give it others, in their order.
    pub overruled: Vec<RuleName>,
}

/// Every rule of one server.
#[derive(Debug)]
pub(super) struct Rules {
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    known: RwLock<Known>,
    changing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    /// In the order in which they are tried.
    rules: Vec<Arc<AssignmentRule>>,
    /// How many events each history has, also of rules that were removed.
    versions: HashMap<HistoryId, u64>,
}

impl Known {
    fn apply(&mut self, event: &Event) -> Result<(), Error> {
        let name: RuleName = event.history.key().parse()?;
        let happened = RuleEvent::open(&event.envelope)?;
        self.versions.insert(event.history.clone(), event.version);
        self.rules.retain(|rule| rule.name != name);
        if let RuleEvent::Set(rule) = happened {
            self.rules.push(Arc::new(rule));
            self.rules
                .sort_by(|one, other| (one.order, &one.name).cmp(&(other.order, &other.name)));
        }
        Ok(())
    }
}

impl Rules {
    pub(super) async fn open(
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let rules = Self { journal, clock, known: RwLock::default(), changing: Default::default() };
        rules.refresh().await?;
        Ok(rules)
    }

    /// Reads what another server changed.
    pub(super) async fn refresh(&self) -> Result<(), Error> {
        let _changing = self.changing.lock().await;
        self.read_new().await
    }

    async fn read_new(&self) -> Result<(), Error> {
        let known = |history: &HistoryId| {
            self.read(|known| known.versions.get(history).copied().unwrap_or(0))
        };
        let new = self.journal.read_new(RULE_HISTORY, known).await?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        new.iter().try_for_each(|event| known.apply(event))
    }

    fn read<T>(&self, read: impl FnOnce(&Known) -> T) -> T {
        read(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Every rule, in the order in which they are tried.
    fn all(&self) -> Vec<Arc<AssignmentRule>> {
        self.read(|known| known.rules.clone())
    }

    /// The first rule that holds for a node.
    fn first(&self, node: &Node) -> Option<Arc<AssignmentRule>> {
        self.read(|known| known.rules.iter().find(|rule| rule.when.matches(node)).cloned())
    }

    /// Appends what `decide` makes of a rule as it is, none if it is not there.
    async fn change(
        &self,
        name: &RuleName,
        actor: &str,
        decide: impl Fn(Option<&AssignmentRule>, usize) -> Result<Option<RuleEvent>, Error> + Send,
    ) -> Result<(), Error> {
        let history = HistoryId::new(RULE_HISTORY, name.as_str())?;
        let _changing = self.changing.lock().await;
        for _ in 0..ATTEMPTS_MAX {
            let (event, expected) = self.read(|known| {
                let rule = known.rules.iter().find(|rule| rule.name == *name);
                let event = decide(rule.map(|rule| &**rule), known.rules.len());
                (event, known.versions.get(&history).copied().unwrap_or(0))
            });
            let Some(event) = event? else { return Ok(()) };
            let envelope = event.seal(self.clock.now(), actor)?;
            match self.journal.append_to(&history, expected, vec![envelope]).await {
                Ok(_) => return self.read_new().await,
                // Another server was first: read again and decide anew.
                Err(JournalError::Conflict { .. }) => self.read_new().await?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Internal { reason: format!("{history} changes too fast") })
    }
}

impl PullServer {
    /// Sets an assignment rule, in place of the one of its name. It is durable when this returns, and
    /// counts from the next time that a node asks.
    ///
    /// What a node should have is decided so: what an operator assigned to it by hand
    /// ([`PullServer::assign`]); else what the first rule gives that holds for it, alone; else what it
    /// registered for. Rules are tried in order of their number and then of their name, and those behind the
    /// first one give nothing: [`PullServer::assignment`] tells them.
    ///
    /// A node's state does not change: it is about its last run.
    ///
    /// # Errors
    /// [`Error::Invalid`] without a configuration, [`Error::TooLarge`] with too many,
    /// [`Error::LimitExceeded`] beyond [`RULES_MAX`], [`Error::Journal`].
    pub async fn set_rule(&self, rule: AssignmentRule) -> Result<(), Error> {
        let (actual, limit) = (rule.configuration_names.len(), CONFIGURATION_NAMES_MAX);
        if actual > limit {
            return Err(Error::TooLarge { what: "configuration names", actual, limit });
        }
        if actual == 0 {
            let reason = format!("`{}` gives no configuration", rule.name);
            return Err(Error::Invalid { what: "assignment rule", reason });
        }
        let decide = |known: Option<&AssignmentRule>, count| match known {
            Some(known) if *known == rule => Ok(None),
            None if count >= RULES_MAX => {
                Err(Error::LimitExceeded { what: "assignment rules", limit: RULES_MAX })
            }
            _ => Ok(Some(RuleEvent::Set(rule.clone()))),
        };
        self.rules.change(&rule.name, "local", decide).await
    }

    /// Takes an assignment rule away.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Journal`].
    pub async fn remove_rule(&self, name: &RuleName) -> Result<(), Error> {
        let decide = |known: Option<&AssignmentRule>, _count| match known {
            Some(_) => Ok(Some(RuleEvent::Removed)),
            None => Err(Error::NotFound { what: "assignment rule", name: name.to_string() }),
        };
        self.rules.change(name, "local", decide).await
    }

    /// Every assignment rule, in the order in which they are tried.
    #[must_use]
    pub fn rules(&self) -> Vec<AssignmentRule> {
        self.rules.all().into_iter().map(Arc::unwrap_or_clone).collect()
    }

    /// Which configurations a node should have, why, and which rules are overruled: those that hold for it
    /// and would give it others.
    #[must_use]
    pub fn assignment(&self, node: &Node) -> Assignment {
        let (configuration_names, source) = self.assigned(node);
        let holding = self.rules.all().into_iter().filter(|rule| rule.when.matches(node));
        let others = holding.filter(|rule| {
            let is_same = rule.configuration_names == configuration_names;
            !is_same && source != AssignmentSource::Rule(rule.name.clone())
        });
        let overruled = others.map(|rule| rule.name.clone()).collect();
        Assignment { configuration_names, source, overruled }
    }

    /// The same without what is overruled.
    pub(super) fn assigned(&self, node: &Node) -> (Vec<ConfigurationName>, AssignmentSource) {
        if !node.assigned_names.is_empty() {
            return (node.assigned_names.clone(), AssignmentSource::Operator);
        }
        match self.rules.first(node) {
            Some(rule) => {
                (rule.configuration_names.clone(), AssignmentSource::Rule(rule.name.clone()))
            }
            None => (node.registered_names.clone(), AssignmentSource::Registration),
        }
    }

    /// Sets tags of a node, and takes away those without a value; the others stay as they are.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] for a value that is empty, longer than
    /// [`TAG_VALUE_BYTES_MAX`] or has a control character; [`Error::TooLarge`] beyond [`TAGS_MAX`];
    /// [`Error::Journal`].
    pub async fn tag(
        &self,
        agent_id: AgentId,
        changes: &BTreeMap<TagName, Option<String>>,
    ) -> Result<Node, Error> {
        for (name, value) in changes {
            let Some(value) = value else { continue };
            if value.is_empty()
                || value.len() > TAG_VALUE_BYTES_MAX
                || value.chars().any(char::is_control)
            {
                let reason = format!(
                    "the value of `{name}` is not 1 to {TAG_VALUE_BYTES_MAX} bytes without control \
                     characters"
                );
                return Err(Error::Invalid { what: "tag", reason });
            }
        }
        let decide = |node: &Node| {
            super::check_registered(node)?;
            let mut tags = node.tags.clone();
            for (name, value) in changes {
                match value {
                    Some(value) => drop(tags.insert(name.clone(), value.clone())),
                    None => drop(tags.remove(name)),
                }
            }
            if tags.len() > TAGS_MAX {
                let (actual, limit) = (tags.len(), TAGS_MAX);
                return Err(Error::TooLarge { what: "tags", actual, limit });
            }
            Ok((tags != node.tags).then_some(NodeEvent::Tagged { tags }))
        };
        self.nodes.change(agent_id, "local", decide).await
    }
}
