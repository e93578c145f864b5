//! What ended protections kept: tell it, merge it, discard it.

use super::Output;
use crate::suite::Suite;
use crate::tour::account::bytes;
use anyhow::{Result, bail};
use clap::ValueEnum;
use oms_recovery::machine::ended::{
    EndedProtection, KnownImage, ReleasePlan, ReleaseState, Remains, RemainsKind,
};
use oms_recovery::replication::state::ActiveLocation;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// One of the two sites of a protection.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ValueEnum)]
pub(crate) enum SiteName {
    Primary,
    Recovery,
}

impl SiteName {
    const fn location(self) -> ActiveLocation {
        match self {
            Self::Primary => ActiveLocation::Primary,
            Self::Recovery => ActiveLocation::Recovery,
        }
    }

    const fn of(location: ActiveLocation) -> Self {
        match location {
            ActiveLocation::Recovery => Self::Recovery,
            _ => Self::Primary,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Recovery => "recovery",
        }
    }
}

/// What is to become of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Release {
    Merge,
    Discard,
}

impl Release {
    const fn verb(self) -> &'static str {
        match self {
            Self::Merge => "merge",
            Self::Discard => "discard",
        }
    }
}

pub(super) async fn tell(suite: &Suite, name: &str) -> Result<Output> {
    let protections = suite.recovery()?.ended_protections(name).await?;
    let mut text = String::new();
    for ended in protections.iter().filter(|it| !it.remains.is_empty() || !it.problems.is_empty()) {
        text.push_str(&format!("{name}, protected until {}\n", ended.ended));
        for remains in &ended.remains {
            text.push_str(&describe(name, remains));
        }
        for problem in &ended.problems {
            text.push_str(&format!("cannot be looked at: {problem}\n"));
        }
    }
    if text.is_empty() {
        text = format!("no ended protection of {name} has anything left at its sites\n");
    }
    let rows: Vec<_> = protections.iter().map(as_json).collect();
    Ok(Output::new(text, json!(rows)))
}

pub(super) async fn release(
    suite: &Suite,
    name: &str,
    site: Option<SiteName>,
    confirm: Option<&str>,
    release: Release,
) -> Result<Output> {
    let vault = suite.recovery()?;
    let site = match site {
        Some(site) => site,
        None => only_site(name, &vault.ended_protections(name).await?)?,
    };
    let plan = match release {
        Release::Merge => vault.plan_merge(name, site.location()).await?,
        Release::Discard => vault.plan_discard(name, site.location()).await?,
    };
    let (plan_text, image) = (planned(&plan, release), plan.item().site(site.location()).clone());
    let image = std::path::Path::new(&image.location).join(&image.image).display().to_string();
    let is_done = confirm.is_some();
    let text = match confirm {
        None => {
            let (verb, site) = (release.verb(), site.name());
            let command = format!("oms recovery {verb} {name} --site {site} --confirm {name}");
            format!("{plan_text}nothing was done; to do it, type: {command}\n")
        }
        Some(confirmation) => {
            plan.apply(confirmation).await?;
            match release {
                Release::Merge => format!("{image} has what was kept, and its files are removed\n"),
                Release::Discard => "what was kept is removed\n".to_owned(),
            }
        }
    };
    let data = json!({"name": name, "site": site.name(), "image": image, "is_done": is_done});
    Ok(Output::new(text, data))
}

/// The site that is meant where only one of them has something.
fn only_site(name: &str, protections: &[EndedProtection]) -> Result<SiteName> {
    let newest = protections.iter().rev().find(|ended| !ended.remains.is_empty());
    let remains = newest.map(|ended| &ended.remains[..]).unwrap_or_default();
    match remains {
        [one] => Ok(SiteName::of(one.location)),
        [] => bail!("no ended protection of {name} has anything left at its sites"),
        several => {
            let places = several
                .iter()
                .map(|it| format!("--site {} ({})", SiteName::of(it.location).name(), it.folder));
            bail!("both sites have something, say which: {}", places.collect::<Vec<_>>().join(", "))
        }
    }
}

fn planned(plan: &ReleasePlan, release: Release) -> String {
    let Some(remains) = plan.remains() else {
        return "its files are gone already; that is to be noted\n".to_owned();
    };
    let mut text = what(remains);
    let content = plan.content();
    match (release, remains.kind) {
        (Release::Merge, RemainsKind::Production | RemainsKind::FormerPrimary) => {
            text.push_str(&format!(
                "its log has {} writes, {}\n",
                content.writes,
                bytes(content.bytes)
            ));
        }
        (Release::Discard, RemainsKind::Replica) => text.push_str("it is removed\n"),
        (Release::Discard, _) => {
            text.push_str(&format!("{} stays as it is, without them\n", remains.image));
        }
        _ => {}
    }
    text
}

/// What it is, in plain words.
fn what(remains: &Remains) -> String {
    let Remains { kind, image, folder, log_bytes, known_image, state, .. } = remains;
    let site = SiteName::of(remains.location).name();
    let logs = bytes(*log_bytes);
    let is = match kind {
        RemainsKind::Production => format!("the log of production's disk {image}"),
        RemainsKind::FormerPrimary => format!(
            "the log of {image}, which was production's disk before a failover; what it has that the \
             other site has not, production went on without"
        ),
        RemainsKind::OneDisk => format!(
            "with {image} one disk: production's, since a failover that was not committed; a merge \
             commits it"
        ),
        RemainsKind::Replica => format!("with {image} a replica that nobody needs"),
        _ => "of a kind that this program does not know".to_owned(),
    };
    let mut text = format!("{site} site: {folder}, {logs}: {is}\n");
    match known_image {
        Some(KnownImage::Whole) => text.push_str("the image has everything of it\n"),
        Some(KnownImage::MayLack) => text.push_str(
            "the image may lack writes of it; what something else has written to the image since, a \
             merge may undo\n",
        ),
        Some(KnownImage::Changed) => text.push_str(
            "the image had everything of it, and something else has written to the image since\n",
        ),
        _ => {}
    }
    if *state != ReleaseState::Kept {
        text.push_str(&format!("{}: complete it\n", state.description()));
    }
    text
}

fn describe(name: &str, remains: &Remains) -> String {
    let mut text = what(remains);
    let site = SiteName::of(remains.location).name();
    for release in [Release::Merge, Release::Discard] {
        let makes_sense = match (release, remains.kind, remains.state) {
            (Release::Merge, RemainsKind::Replica, _)
            | (Release::Discard, RemainsKind::OneDisk, _)
            | (Release::Merge, _, ReleaseState::Discarding)
            | (Release::Discard, _, ReleaseState::Merging) => false,
            (Release::Merge, _, _) => remains.known_image != Some(KnownImage::Changed),
            (Release::Discard, _, _) => true,
        };
        if makes_sense {
            let verb = release.verb();
            text.push_str(&format!("  oms recovery {verb} {name} --site {site}\n"));
        }
    }
    text
}

fn as_json(ended: &EndedProtection) -> serde_json::Value {
    let remains = ended.remains.iter().map(|it| {
        json!({
            "site": SiteName::of(it.location).name(),
            "kind": format!("{:?}", it.kind),
            "image": it.image,
            "folder": it.folder,
            "log_bytes": it.log_bytes,
            "known_image": it.known_image.map(|it| format!("{it:?}")),
            "state": format!("{:?}", it.state),
        })
    });
    json!({"ended": ended.ended, "remains": remains.collect::<Vec<_>>(), "problems": ended.problems})
}
