//! Runbooks: a script with its parameters, as draft and as published version.

mod content;
mod kind;
mod parameters;
mod state;

pub use content::{ContentId, ContentStore, RUNBOOK_BYTES_MAX};
pub use kind::RunbookKind;
pub use parameters::{
    ARGUMENT_BYTES_MAX, Argument, NAME_CHARACTERS_MAX, PARAMETERS_BYTES_MAX, PARAMETERS_MAX,
    ParameterDefinition, ParameterType,
};
pub(crate) use parameters::{bind, check_definitions};
pub use state::{RunbookEvent, RunbookState};

use crate::Error;
use crate::settings::AccountName;
use jiff::Timestamp;
use oms_core::id::ParseIdError;
use oms_core::journal::{Event, HistoryId, Journal, JournalExt as _};
use oms_core::lifecycle::{IllegalTransition, Lifecycle};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// The kind of the histories of runbooks.
pub const RUNBOOK_HISTORY: &str = "automation-runbook";

oms_core::uuid_id! {
    /// One runbook, from its creation to its deletion.
    RunbookId, "runbook id"
}

/// A runbook's name: a letter, then letters, digits, underscores and hyphens, at most 63.
///
/// Compared without regard to case and printed as written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunbookName(String);

impl RunbookName {
    /// The longest name, in characters.
    pub const LENGTH_MAX: usize = 63;

    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunbookName {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let refuse = |reason| Err(ParseIdError::new("runbook name", text, reason));
        if text.len() > Self::LENGTH_MAX {
            return refuse("longer than 63 characters");
        }
        if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return refuse("does not start with a letter");
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
            return refuse("has a character other than letters, digits, underscore and hyphen");
        }
        Ok(Self(text.to_owned()))
    }
}

impl PartialEq for RunbookName {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for RunbookName {}

impl Hash for RunbookName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_ascii_lowercase().hash(state);
    }
}

impl fmt::Display for RunbookName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for RunbookName {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<RunbookName> for String {
    fn from(name: RunbookName) -> Self {
        name.0
    }
}

/// Which of the streams that are off by default are kept for a runbook's jobs. Output, Error and
/// Warning are always kept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct LogSwitches {
    /// `logVerbose`: keep Verbose records.
    pub verbose: bool,
    /// `logProgress`: keep Progress records.
    pub progress: bool,
    /// `logDebug`: keep Debug records.
    pub debug: bool,
}

/// One text of a runbook, with what it takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunbookContent {
    /// Where its text is kept.
    pub content: ContentId,
    /// How long the text is, in bytes.
    pub bytes: u64,
    /// What it takes, in the order of the program's arguments.
    pub parameters: Vec<ParameterDefinition>,
}

/// The version of a runbook that runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PublishedVersion {
    /// Counts publications, from 1.
    pub number: u64,
    /// Its text.
    pub content: RunbookContent,
}

/// A runbook as it stands.
#[derive(Clone, Debug, Serialize)]
pub struct Runbook {
    /// Its id.
    pub id: RunbookId,
    /// Its name, as it was created.
    pub name: RunbookName,
    /// Its language.
    pub kind: RunbookKind,
    /// What it is for.
    pub description: String,
    /// Which of its streams are kept.
    pub logs: LogSwitches,
    /// Where it stands.
    pub state: RunbookState,
    /// The text being edited.
    pub draft: Option<RunbookContent>,
    /// The version that runs.
    pub published: Option<PublishedVersion>,
    /// When it was created.
    pub creation_time: Timestamp,
    /// When it last changed.
    pub last_modified_time: Timestamp,
    /// How many events its history has.
    pub(crate) version: u64,
}

/// What a runbook's history holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "body")]
#[non_exhaustive]
pub enum RunbookRecorded {
    /// It was created.
    #[serde(rename = "runbook-created")]
    Created {
        /// Its id.
        id: RunbookId,
        /// Its name.
        name: RunbookName,
        /// Its language.
        kind: RunbookKind,
        /// What it is for.
        description: String,
        /// Which of its streams are kept.
        logs: LogSwitches,
    },
    /// Its draft was saved.
    #[serde(rename = "runbook-draft-saved")]
    DraftSaved {
        /// The draft.
        draft: RunbookContent,
    },
    /// Its draft was published.
    #[serde(rename = "runbook-published")]
    Published {
        /// The new version.
        published: PublishedVersion,
    },
    /// Its draft was thrown away.
    #[serde(rename = "runbook-edit-undone")]
    EditUndone {},
    /// It was deleted.
    #[serde(rename = "runbook-deleted")]
    Deleted {},
}

oms_core::journal_event!(RunbookRecorded, format 1, content, {
    Self::Created { .. } => "runbook-created",
    Self::DraftSaved { .. } => "runbook-draft-saved",
    Self::Published { .. } => "runbook-published",
    Self::EditUndone {} => "runbook-edit-undone",
    Self::Deleted {} => "runbook-deleted",
});

impl RunbookRecorded {
    /// The step in the state table.
    #[must_use]
    pub const fn transition(&self) -> RunbookEvent {
        match self {
            Self::Created { .. } => RunbookEvent::Create,
            Self::DraftSaved { .. } => RunbookEvent::SaveDraft,
            Self::Published { .. } => RunbookEvent::Publish,
            Self::EditUndone {} => RunbookEvent::UndoEdit,
            Self::Deleted {} => RunbookEvent::Delete,
        }
    }
}

/// What is known of a name: how many events its history has, and its runbook if there is one.
#[derive(Debug, Default)]
pub(crate) struct Named {
    pub(crate) version: u64,
    pub(crate) runbook: Option<Runbook>,
}

impl Named {
    /// Folds a history.
    pub(crate) async fn read(journal: &dyn Journal, history: &HistoryId) -> Result<Self, Error> {
        let fold = |named: &mut Self, recorded: RunbookRecorded, event: &Event| {
            let time = event.envelope.time;
            named.apply(time, recorded).map_err(|illegal| event.corrupt(&illegal))?;
            named.version = event.version;
            if let Some(runbook) = &mut named.runbook {
                runbook.version = event.version;
            }
            Ok::<(), Error>(())
        };
        Ok(journal.replay(history, Self::default(), fold).await?.state)
    }

    pub(crate) fn state(&self) -> RunbookState {
        self.runbook.as_ref().map_or(RunbookState::Absent, |runbook| runbook.state)
    }

    fn apply(
        &mut self,
        time: Timestamp,
        event: RunbookRecorded,
    ) -> Result<(), IllegalTransition<RunbookState, RunbookEvent>> {
        let state = self.state().next(event.transition())?;
        if let RunbookRecorded::Created { id, name, kind, description, logs } = event {
            self.runbook = Some(Runbook {
                id,
                name,
                kind,
                description,
                logs,
                state,
                draft: None,
                published: None,
                creation_time: time,
                last_modified_time: time,
                version: 0,
            });
            return Ok(());
        }
        let Some(runbook) = &mut self.runbook else { return Ok(()) };
        runbook.state = state;
        runbook.last_modified_time = time;
        match event {
            RunbookRecorded::DraftSaved { draft } => runbook.draft = Some(draft),
            RunbookRecorded::Published { published } => {
                runbook.published = Some(published);
                runbook.draft = None;
            }
            RunbookRecorded::EditUndone {} => runbook.draft = None,
            RunbookRecorded::Deleted {} => self.runbook = None,
            RunbookRecorded::Created { .. } => {}
        }
        Ok(())
    }
}

/// The history of a runbook's name.
pub(crate) fn history(account: &AccountName, name: &RunbookName) -> Result<HistoryId, Error> {
    let key = format!("{account}/{}", name.as_str().to_ascii_lowercase());
    Ok(HistoryId::new(RUNBOOK_HISTORY, &key)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_case_and_checked() {
        let parse = |text: &str| text.parse::<RunbookName>();
        assert_eq!(parse("Stop-VM").expect("a name"), parse("stop-vm").expect("a name"));
        for bad in ["", "1a", "a b", "a/b", "../a", "ä", &"x".repeat(64)] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
