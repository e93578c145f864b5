//! One pass over resources: what to do next, and what became of each.

use super::order::order;
use crate::Error;
use crate::configuration::{Configuration, ResourceInstance};
use crate::resource::{Difference, Registry};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
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
    /// Something it depends on failed.
    Skipped,
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
    pub(crate) async fn perform(&self, resources: &Registry) -> Result<Vec<Difference>, Error> {
        let instance = self.instance();
        let resource = resources.find(instance)?;
        match self.action {
            Action::Test | Action::Verify => resource.test(instance).await,
            Action::Set => resource.set(instance).await.map(|()| Vec::new()),
        }
    }
}

/// A pass over the resources of some configurations.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    mode: Mode,
    configurations: Vec<Arc<Configuration>>,
    /// (configuration, resource) in the order in which they are done.
    order: Vec<(usize, usize)>,
    position: usize,
    action: Action,
    started: Option<Timestamp>,
    differences: Vec<Difference>,
    /// Those that failed or were skipped.
    unfit: HashMap<(usize, usize), String>,
    pub(crate) statuses: Vec<ResourceStatus>,
}

impl Work {
    pub(crate) fn new(mode: Mode, configurations: Vec<Arc<Configuration>>) -> Self {
        let mut whole = Vec::new();
        for (number, configuration) in configurations.iter().enumerate() {
            whole.extend(order(configuration).into_iter().map(|index| (number, index)));
        }
        Self {
            mode,
            configurations,
            order: whole,
            position: 0,
            action: Action::Test,
            started: None,
            differences: Vec::new(),
            unfit: HashMap::new(),
            statuses: Vec::new(),
        }
    }

    /// What to do now; none when all is done. Its outcome goes to [`Work::done`].
    pub(crate) fn next(&mut self, now: Timestamp) -> Option<Task> {
        loop {
            let (number, index) = *self.order.get(self.position)?;
            let configuration = self.configurations.get(number)?;
            if self.action == Action::Test {
                self.started = Some(now);
                let missing = configuration.resources[index]
                    .dependencies
                    .iter()
                    .find_map(|dependency| self.unfit.get(&(number, *dependency)))
                    .filter(|_| self.mode == Mode::Apply);
                if let Some(id) = missing {
                    let reason = format!("it depends on {id}, which was not done");
                    self.finish(now, ResourceOutcome::Skipped, Some(reason));
                    continue;
                }
            }
            let configuration = Arc::clone(configuration);
            return Some(Task { configuration, index, action: self.action });
        }
    }

    /// Notes what became of the task that [`Work::next`] gave out last.
    pub(crate) fn done(&mut self, now: Timestamp, outcome: Result<Vec<Difference>, Error>) {
        let found = match outcome {
            Ok(found) => found,
            Err(error) => {
                return self.finish(now, ResourceOutcome::Failed, Some(with_sources(&error)));
            }
        };
        match (self.action, found.is_empty()) {
            (Action::Test, true) => self.finish(now, ResourceOutcome::InDesiredState, None),
            (Action::Test, false) => {
                self.differences = found;
                match self.mode {
                    Mode::Test => self.finish(now, ResourceOutcome::Different, None),
                    Mode::Apply => self.action = Action::Set,
                }
            }
            (Action::Set, _) => self.action = Action::Verify,
            (Action::Verify, true) => self.finish(now, ResourceOutcome::Corrected, None),
            (Action::Verify, false) => {
                let found: Vec<String> = found.iter().map(ToString::to_string).collect();
                let reason = format!("still different after it was set: {}", found.join("; "));
                self.finish(now, ResourceOutcome::Failed, Some(reason));
            }
        }
    }

    fn finish(&mut self, now: Timestamp, outcome: ResourceOutcome, error: Option<String>) {
        let Some((number, index)) = self.order.get(self.position).copied() else { return };
        let instance = &self.configurations[number].resources[index];
        if matches!(outcome, ResourceOutcome::Failed | ResourceOutcome::Skipped) {
            self.unfit.insert((number, index), instance.resource_id.clone());
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
