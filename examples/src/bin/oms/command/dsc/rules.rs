//! Tags of nodes, and the rules that give configurations to nodes.

use super::Output;
use crate::suite::Suite;
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use oms_dsc::pull_server::{AssignmentRule, AssignmentSource, NodeExpression, TagName};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};

/// Tags to set and to take away.
#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct Tag {
    /// The node: its id in `oms dsc nodes`, or its computer's name.
    node: String,
    /// Tags to set, such as role=web.
    #[arg(value_name = "NAME=VALUE", required_unless_present = "remove")]
    tags: Vec<String>,
    /// A tag to take away; may be given several times.
    #[arg(long, value_name = "NAME")]
    remove: Vec<String>,
}

#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum Rule {
    /// Sets a rule, in place of the one of its name.
    Set(Set),
    /// Takes a rule away.
    Remove {
        /// The rule.
        name: String,
    },
    /// Lists the rules in the order in which they are tried, with how many nodes each decides for.
    List,
}

/// A rule.
#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct Set {
    /// Its name.
    name: String,
    /// Its place: rules with lower numbers come first, then those of one number in order of name.
    #[arg(long, default_value_t = 100)]
    order: u32,
    /// For which nodes, such as: tag.role -eq web -and name -like 'web-*'
    #[arg(
        long,
        value_name = "EXPRESSION",
        conflicts_with = "tag",
        required_unless_present = "tag"
    )]
    when: Option<String>,
    /// For nodes with this tag; may be given several times, for nodes that have all of them.
    #[arg(long, value_name = "NAME=VALUE")]
    tag: Vec<String>,
    /// What they should have, such as Web.web-1.
    #[arg(required = true)]
    configurations: Vec<String>,
}

impl Set {
    fn expression(&self) -> Result<NodeExpression> {
        if let Some(when) = &self.when {
            return Ok(when.parse()?);
        }
        let mut all = Vec::new();
        for tag in &self.tag {
            let (name, value) = pair(tag)?;
            all.push(NodeExpression::tag(name, value)?.to_string());
        }
        Ok(all.join(" -and ").parse()?)
    }
}

/// `NAME` and `VALUE` of `NAME=VALUE`.
pub(super) fn pair(tag: &str) -> Result<(&str, &str)> {
    tag.split_once('=').with_context(|| format!("a tag is NAME=VALUE. tag=`{tag}`"))
}

/// Sets and takes away tags of a node.
pub(super) async fn tag(suite: &Suite, tag: &Tag) -> Result<Output> {
    let mut changes: BTreeMap<TagName, Option<String>> = BTreeMap::new();
    let set = tag.tags.iter().map(|tag| pair(tag).map(|(name, value)| (name, Some(value))));
    for change in set.chain(tag.remove.iter().map(|name| Ok((name.as_str(), None)))) {
        let (name, value) = change?;
        let name: TagName = name.parse()?;
        if changes.insert(name.clone(), value.map(str::to_owned)).is_some() {
            bail!("a tag is given twice. tag=`{name}`");
        }
    }
    let server = suite.dsc()?;
    let node = server.find_node(&tag.node).await?;
    let node = server.tag(node.agent_id, &changes).await?;
    let tags: Vec<String> =
        node.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let shown = if tags.is_empty() { "no tags".to_owned() } else { tags.join(" ") };
    Ok(Output::new(format!("{} has {shown}\n", node.handle()), super::nodes::about(server, &node)))
}

pub(super) async fn rule(suite: &Suite, rule: &Rule) -> Result<Output> {
    match rule {
        Rule::Set(rule) => set(suite, rule).await,
        Rule::Remove { name } => {
            suite.dsc()?.remove_rule(&name.parse()?).await?;
            Ok(Output::new(format!("rule {name} was removed\n"), json!({ "name": name })))
        }
        Rule::List => list(suite).await,
    }
}

async fn set(suite: &Suite, set: &Set) -> Result<Output> {
    let names = set.configurations.iter().map(|name| name.parse());
    let rule = AssignmentRule {
        name: set.name.parse()?,
        order: set.order,
        when: set.expression()?,
        configuration_names: names.collect::<Result<_, _>>()?,
    };
    let server = suite.dsc()?;
    server.set_rule(rule.clone()).await?;
    let decided = Decided::count(suite).await?;
    let mut text = format!("rule {} is set\n{}", rule.name, decided.line(&rule));
    let published = server.configurations();
    for name in &rule.configuration_names {
        if !published.iter().any(|published| published.name == *name) {
            text.push_str(&format!("nothing is published as {name} yet\n"));
        }
    }
    Ok(Output::new(text, decided.row(&rule)?))
}

async fn list(suite: &Suite) -> Result<Output> {
    let (rules, decided) = (suite.dsc()?.rules(), Decided::count(suite).await?);
    let mut text: String = rules.iter().map(|rule| decided.line(rule)).collect();
    if rules.is_empty() {
        text.push_str("there is no rule: nodes have what they registered for\n");
    }
    let rows: Result<Vec<_>> = rules.iter().map(|rule| decided.row(rule)).collect();
    Ok(Output::new(text, json!(rows?)))
}

/// For how many nodes each rule decides, and for how many it holds and is overruled.
struct Decided(HashMap<String, (usize, usize)>);

impl Decided {
    async fn count(suite: &Suite) -> Result<Self> {
        let (server, mut counts) = (suite.dsc()?, HashMap::<String, (usize, usize)>::new());
        for node in server.nodes().await? {
            let assignment = server.assignment(&node);
            if let AssignmentSource::Rule(name) = &assignment.source {
                counts.entry(name.to_string()).or_default().0 += 1;
            }
            for name in &assignment.overruled {
                counts.entry(name.to_string()).or_default().1 += 1;
            }
        }
        Ok(Self(counts))
    }

    fn of(&self, rule: &AssignmentRule) -> (usize, usize) {
        self.0.get(rule.name.as_str()).copied().unwrap_or_default()
    }

    fn line(&self, rule: &AssignmentRule) -> String {
        let (decides, overruled) = self.of(rule);
        let names: Vec<_> = rule.configuration_names.iter().map(ToString::to_string).collect();
        format!(
            "{:5}  {}  {}  ->  {}  ({decides} nodes; overruled for {overruled})\n",
            rule.order,
            rule.name,
            rule.when,
            names.join(", ")
        )
    }

    fn row(&self, rule: &AssignmentRule) -> Result<serde_json::Value> {
        let (decides, overruled) = self.of(rule);
        let mut row = serde_json::to_value(rule)?;
        (row["nodes"], row["overruledFor"]) = (decides.into(), overruled.into());
        Ok(row)
    }
}
