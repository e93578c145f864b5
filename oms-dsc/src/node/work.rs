//! One pass over resources: what to do next, and what became of each.

use super::order::order;
use crate::Error;
use crate::configuration::{Configuration, ResourceInstance};
use crate::resource::{Difference, Registry, SetReport};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What became of a resource.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ResourceOutcome {
    /// It was in the desired state.
    InDesiredState,
    /// It was brought into it.
    Corrected,
    /// It is not in the desired state, and nobody was to change it.
    Different,
    /// It could not be tested or set.
    Failed,
    /// Something it depends on failed, or the computer has to restart first.
    Skipped,
    /// It was set, and counts once the computer has restarted.
    RebootPending,
}

/// One resource after a pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResourceStatus {
    /// `[File]motd`
    pub resource_id: String,
    /// The friendly type name: `File`.
    pub type_name: String,
    /// The name within the type: `motd`.
    pub instance_name: String,
    /// `SourceInfo`
    pub source_info: Option<String>,
    /// `ModuleName`
    pub module_name: Option<String>,
    /// `ModuleVersion`
    pub module_version: Option<String>,
    /// `ConfigurationName`
    pub configuration_name: Option<String>,
    /// What became of it.
    pub outcome: ResourceOutcome,
    /// How it differed when it was tested first.
    pub differences: Vec<Difference>,
    /// How it still differed after it was set; nothing if that helped.
    #[serde(default)]
    pub remaining: Vec<Difference>,
    /// Why it failed or was skipped.
    pub error: Option<String>,
    /// When it was begun.
    pub started: Timestamp,
    /// How long it took, in seconds.
    pub duration_seconds: f64,
}

impl ResourceStatus {
    /// Whether it is in the desired state now.
    #[must_use]
    pub const fn is_in_desired_state(&self) -> bool {
        matches!(self.outcome, ResourceOutcome::InDesiredState | ResourceOutcome::Corrected)
    }
}

/// What a pass does about differences.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    /// It reports them.
    Test,
    /// It corrects them.
    Apply,
}

/// What is to be done with a resource.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    Test,
    Set,
    /// The test after the set: a set that did not help is a failure.
    Verify,
}

/// One thing to do.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    configuration: Arc<Configuration>,
    index: usize,
    pub(crate) action: Action,
}

impl Task {
    pub(crate) fn instance(&self) -> &ResourceInstance {
        &self.configuration.resources[self.index]
    }

    /// Does it.
    pub(crate) async fn perform(&self, resources: &Registry) -> Result<Performed, Error> {
        let instance = self.instance();
        let resource = resources.find(instance)?;
        // Here and no sooner: what is opened is gone when this is done.
        let instance = resources.opened(instance, &self.configuration.document)?;
        match self.action {
            Action::Test | Action::Verify => resource.test(&instance).await.map(Performed::Tested),
            Action::Set => resource.set(&instance).await.map(Performed::Set),
        }
    }
}

/// What a task came to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Performed {
    Tested(Vec<Difference>),
    Set(SetReport),
}

/// A configuration of a pass, with the places of those in it that it depends on.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) configuration: Arc<Configuration>,
    /// All of them stand before it.
    pub(crate) depends_on: Vec<usize>,
    /// One that it depends on and that is not among them.
    pub(crate) missing: Option<String>,
}

impl From<Arc<Configuration>> for Part {
    fn from(configuration: Arc<Configuration>) -> Self {
        Self { name: String::new(), configuration, depends_on: Vec::new(), missing: None }
    }
}

/// A pass over the resources of some configurations.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    mode: Mode,
    parts: Vec<Part>,
    /// (configuration, resource) in the order in which they are done.
    order: Vec<(usize, usize)>,
    position: usize,
    action: Action,
    started: Option<Timestamp>,
    differences: Vec<Difference>,
    remaining: Vec<Difference>,
    /// Those that failed or were skipped.
    unfit: HashMap<(usize, usize), String>,
    unfit_parts: HashSet<usize>,
    /// The resource that asked for a restart.
    pub(crate) reboot_for: Option<String>,
    pub(crate) statuses: Vec<ResourceStatus>,
}

impl Work {
    pub(crate) fn new(mode: Mode, parts: Vec<Part>) -> Self {
        let mut whole = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            whole.extend(order(&part.configuration).into_iter().map(|index| (number, index)));
        }
        Self {
            mode,
            parts,
            order: whole,
            position: 0,
            action: Action::Test,
            started: None,
            differences: Vec::new(),
            remaining: Vec::new(),
            unfit: HashMap::new(),
            unfit_parts: HashSet::new(),
            reboot_for: None,
            statuses: Vec::new(),
        }
    }

    /// Whether it corrects differences.
    pub(crate) fn is_applying(&self) -> bool {
        self.mode == Mode::Apply
    }

    /// What to do now; none when all is done. Its outcome goes to [`Work::done`].
    pub(crate) fn next(&mut self, now: Timestamp) -> Option<Task> {
        loop {
            let (number, index) = *self.order.get(self.position)?;
            if self.action == Action::Test {
                self.started = Some(now);
                if let Some(reason) = self.obstacle(number, index) {
                    self.finish(now, ResourceOutcome::Skipped, Some(reason));
                    continue;
                }
            }
            let configuration = Arc::clone(&self.parts.get(number)?.configuration);
            return Some(Task { configuration, index, action: self.action });
        }
    }

    /// Why a resource is not to be set; none if it may be, or if nothing is.
    fn obstacle(&self, number: usize, index: usize) -> Option<String> {
        if self.mode == Mode::Test {
            return None;
        }
        if let Some(id) = &self.reboot_for {
            return Some(format!("the computer has to restart first, for {id}"));
        }
        let part = self.parts.get(number)?;
        let dependencies = &part.configuration.resources[index].dependencies;
        if let Some(id) = dependencies.iter().find_map(|on| self.unfit.get(&(number, *on))) {
            return Some(format!("it depends on {id}, which was not done"));
        }
        if let Some(name) = &part.missing {
            return Some(format!("its configuration depends on `{name}`, which is not there"));
        }
        let part = part.depends_on.iter().find(|part| self.unfit_parts.contains(part))?;
        let name = &self.parts.get(*part)?.name;
        Some(format!("its configuration depends on `{name}`, of which not all was done"))
    }

    /// Notes what became of the task that [`Work::next`] gave out last.
    pub(crate) fn done(&mut self, now: Timestamp, outcome: Result<Performed, Error>) {
        let performed = match outcome {
            Ok(performed) => performed,
            Err(error) => {
                return self.finish(now, ResourceOutcome::Failed, Some(with_sources(&error)));
            }
        };
        match (self.action, performed) {
            (Action::Test, Performed::Tested(found)) if found.is_empty() => {
                self.finish(now, ResourceOutcome::InDesiredState, None);
            }
            (Action::Test, Performed::Tested(found)) => {
                self.differences = found;
                match self.mode {
                    Mode::Test => self.finish(now, ResourceOutcome::Different, None),
                    Mode::Apply => self.action = Action::Set,
                }
            }
            (_, Performed::Set(SetReport { reboot_required: true })) => {
                let (number, index) = self.order[self.position];
                let instance = &self.parts[number].configuration.resources[index];
                self.reboot_for = Some(instance.resource_id.clone());
                self.finish(now, ResourceOutcome::RebootPending, None);
            }
            (_, Performed::Set(_)) => self.action = Action::Verify,
            (_, Performed::Tested(found)) if found.is_empty() => {
                self.finish(now, ResourceOutcome::Corrected, None);
            }
            (_, Performed::Tested(found)) => {
                let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
                let reason = format!("still different after it was set: {}", shown.join("; "));
                self.remaining = found;
                self.finish(now, ResourceOutcome::Failed, Some(reason));
            }
        }
    }

    fn finish(&mut self, now: Timestamp, outcome: ResourceOutcome, error: Option<String>) {
        let Some((number, index)) = self.order.get(self.position).copied() else { return };
        let instance = &self.parts[number].configuration.resources[index];
        if matches!(outcome, ResourceOutcome::Failed | ResourceOutcome::Skipped) {
            self.unfit.insert((number, index), instance.resource_id.clone());
            self.unfit_parts.insert(number);
        }
        let started = self.started.take().unwrap_or(now);
        self.statuses.push(ResourceStatus {
            resource_id: instance.resource_id.clone(),
            type_name: instance.type_name().to_owned(),
            instance_name: instance.instance_name().to_owned(),
            source_info: instance.source_info.clone(),
            module_name: instance.module_name.clone(),
            module_version: instance.module_version.clone(),
            configuration_name: instance.configuration_name.clone(),
            outcome,
            differences: std::mem::take(&mut self.differences),
            remaining: std::mem::take(&mut self.remaining),
            error,
            started,
            duration_seconds: now.duration_since(started).as_secs_f64().max(0.0),
        });
        self.position += 1;
        self.action = Action::Test;
    }
}

/// An error and what caused it, in one line.
fn with_sources(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
