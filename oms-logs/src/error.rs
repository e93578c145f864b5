//! What can go wrong in the log repository.

use crate::ingest::rule::RuleProblem;
use deltalake_core::DeltaTableError;
use jiff::SignedDuration;
use oms_core::ErrorKind;
use oms_core::disk::DiskError;
use oms_core::task::TaskError;
use std::path::PathBuf;

/// Why the log repository did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A record does not fit its table; nothing of its batch was written.
    #[error("record refused: {reason}. record=`{index}`, type=`{record_type}`, column=`{column}`")]
    Record {
        /// The record's place in the batch, from 0.
        index: usize,
        /// The record's type.
        record_type: String,
        /// The column at fault.
        column: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The batch as a whole is wrong; nothing of it was written.
    #[error("batch refused: {reason}. producer=`{producer}`")]
    Batch {
        /// Who sent it, shortened to 200 characters.
        producer: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Too many bytes wait to be flushed; send again later.
    #[error("too much unflushed data. used_bytes=`{used}`, limit_bytes=`{limit}`")]
    Busy {
        /// Bytes that wait.
        used: u64,
        /// [`Settings::memory_bytes_max`](crate::workspace::Settings::memory_bytes_max).
        limit: u64,
    },
    /// The workspace was closed.
    #[error("workspace is closed")]
    Closed,
    /// Another process, or another `Workspace` of this one, holds the folder.
    #[error("workspace is in use by another process. path=`{}`", path.display())]
    Locked {
        /// The workspace's folder.
        path: PathBuf,
    },
    /// The object store holds the tables of another folder of the workspace, whose process may have
    /// records in its write-ahead log that are not in them yet.
    #[error("object store belongs to another folder of the workspace. url=`{url}`")]
    OtherFolder {
        /// Where the tables are.
        url: String,
    },
    /// The object store holds tables that several folders write to, which this one was not told of.
    #[error("object store is shared by several writers, open it as one of them. url=`{url}`")]
    SharedStore {
        /// Where the tables are.
        url: String,
    },
    /// Another process owns the maintenance of the tables, which one at a time does.
    #[error("maintenance is another writer's. holder=`{holder}`, url=`{url}`")]
    MaintainedElsewhere {
        /// The id of its folder, as in [`Workspace::writers`](crate::Workspace::writers), if it is
        /// known.
        holder: String,
        /// Where the tables are.
        url: String,
    },
    /// Other writers did not bring their rows into the tables in time, so that it is not known which
    /// there are; nothing was changed.
    #[error("other writers did not flush. table=`{table}`, writers=`{}`", writers.join(", "))]
    WritersBehind {
        /// The table that it was about.
        table: String,
        /// The ids of their folders, as in [`Workspace::writers`](crate::Workspace::writers).
        writers: Vec<String>,
    },
    /// This folder was given up as lost; its rows come into the tables no more. See
    /// [`Workspace::forget_writer`](crate::Workspace::forget_writer).
    #[error("this writer was given up. writer=`{writer}`")]
    WriterForgotten {
        /// The id of the folder.
        writer: String,
    },
    /// Another process took the place of this one, which keeps its log in the object store: what was
    /// acknowledged is the other one's now, and this one takes no more. See
    /// [`WorkspaceBuilder::diskless`](crate::workspace::WorkspaceBuilder::diskless).
    #[error("another process took the place of this writer. writer=`{writer}`")]
    WriterReplaced {
        /// The id of this process among the writers.
        writer: String,
    },
    /// Another writer changed the table, so that rows on their way into it were not taken; loading
    /// them again can succeed.
    #[error("table was changed meanwhile: {what}. table=`{table}`")]
    Superseded {
        /// The table.
        table: String,
        /// What happened to it.
        what: String,
    },
    /// The object store failed.
    #[error("object store failed. url=`{url}`")]
    Store {
        /// Where the tables are.
        url: String,
        /// What it says.
        source: object_store::Error,
    },
    /// The folder, or the object store, belongs to another workspace than the settings name.
    #[error("folder belongs to another workspace. path=`{}`, found=`{found}`, wanted=`{wanted}`", path.display())]
    OtherWorkspace {
        /// The workspace's folder, or the URL of its tables.
        path: PathBuf,
        /// The id there.
        found: String,
        /// The id in the settings, or that of the folder.
        wanted: String,
    },
    /// A file of the workspace cannot be understood.
    #[error("corrupt file: {reason}. path=`{path}`, offset=`{offset}`")]
    Corrupt {
        /// The file, relative to the workspace's folder.
        path: String,
        /// Where in the file, in bytes.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A table's data is not what was written: a bit flipped at rest, or a file was cut or lost. No row
    /// of it is answered. `oms logs check` and [`Workspace::check`](crate::Workspace::check) tell all
    /// that is damaged, and put data files aside.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The operating system refused a file operation.
    #[error("file operation failed")]
    Disk(#[from] DiskError),
    /// A table's Delta log could not be read or written.
    #[error("delta table failed. table=`{table}`")]
    Delta {
        /// The table.
        table: String,
        /// What the Delta library said.
        #[source]
        source: Box<DeltaTableError>,
    },
    /// A table's data file could not be written.
    #[error("data file failed. table=`{table}`")]
    File {
        /// The table.
        table: String,
        /// What failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A table uses something that this version cannot read.
    #[error("table is not supported: {what}. table=`{table}`")]
    Unsupported {
        /// The table.
        table: String,
        /// What is not supported, by name.
        what: String,
    },
    /// A setting is out of range; nothing was changed.
    #[error("setting refused: {reason}. of=`{of}`, setting=`{setting}`, value=`{value}`")]
    Setting {
        /// Whose setting it is.
        of: String,
        /// Which.
        setting: &'static str,
        /// The value.
        value: String,
        /// What it may be.
        reason: String,
    },
    /// The clock went on by more than it should have since retention ran last, so that nothing is
    /// removed on its word.
    #[error("clock jumped ahead, nothing is removed. now=`{now}`, last=`{last}`")]
    ClockJump {
        /// What the clock says.
        now: jiff::Timestamp,
        /// When retention ran last, or the newest row came.
        last: jiff::Timestamp,
    },
    /// The rows of a purge or an export could not be found out.
    #[error("rows could not be selected. table=`{table}`")]
    Select {
        /// The table.
        table: String,
        /// What is wrong with the text, or failed.
        #[source]
        source: Box<crate::query::QueryError>,
    },
    /// A data collection rule is wrong; nothing was changed.
    #[error(
        "data collection rule refused. rule=`{rule}`, first=`{}`, count=`{}`",
        first(.problems),
        .problems.len()
    )]
    Rule {
        /// Its name.
        rule: String,
        /// What is wrong, and where; never empty.
        problems: Vec<RuleProblem>,
    },
    /// There is no such data collection rule.
    #[error("no such data collection rule. rule=`{rule}`")]
    RuleNotFound {
        /// The name or immutable id that was asked for.
        rule: String,
    },
    /// No flow of the data collection rule reads this stream.
    #[error("data collection rule has no such stream. rule=`{rule}`, stream=`{stream}`")]
    StreamNotFound {
        /// The rule that was asked for.
        rule: String,
        /// The stream that was asked for.
        stream: String,
    },
    /// The transformation of a data collection rule failed; nothing of the batch was written.
    #[error("transformation failed. rule=`{rule}`, flow=`{flow}`, table=`{table}`")]
    Transform {
        /// The rule.
        rule: String,
        /// Where the flow stands in the rule.
        flow: String,
        /// The table that the rows were for.
        table: String,
        /// What failed.
        #[source]
        source: Box<crate::query::QueryError>,
    },
    /// Record batches could not be built, encoded or decoded.
    #[error("record batch failed. step=`{step}`")]
    Arrow {
        /// What was tried.
        step: &'static str,
        /// What Arrow said.
        #[source]
        source: arrow::error::ArrowError,
    },
    /// A part of this process ended that should not have.
    #[error("internal defect: {what}")]
    Internal {
        /// What was found.
        what: String,
    },
}

/// Where data at rest is not what was written.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, thiserror::Error)]
#[error("table is damaged: {reason}. table=`{table}`, file=`{file}`, offset=`{offset}`")]
#[non_exhaustive]
pub struct Damage {
    /// The table.
    pub table: String,
    /// The file, below the table's folder.
    pub file: String,
    /// Where in the file, in bytes: the block that has it, or the end of what can be read.
    pub offset: u64,
    /// What is wrong there.
    pub reason: String,
}

impl Damage {
    /// The damage that an error tells of, or one of its sources does.
    pub(crate) fn of<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(damage) = error.downcast_ref::<Self>() {
                return Some(damage);
            }
            if let Some(Error::Damaged(damage)) = error.downcast_ref::<Error>() {
                return Some(damage);
            }
            next = error.source();
        }
        None
    }
}

fn first(problems: &[RuleProblem]) -> String {
    problems.first().map(ToString::to_string).unwrap_or_default()
}

impl From<TaskError> for Error {
    fn from(error: TaskError) -> Self {
        Self::Internal { what: error.to_string() }
    }
}

impl Error {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Record { .. } | Self::Batch { .. } | Self::Setting { .. } | Self::Rule { .. } => {
                ErrorKind::Invalid
            }
            Self::RuleNotFound { .. } | Self::StreamNotFound { .. } => ErrorKind::NotFound,
            Self::ClockJump { .. } => ErrorKind::PreconditionFailed,
            Self::Select { source, .. } | Self::Transform { source, .. } => source.kind(),
            Self::Busy { .. } => {
                ErrorKind::LimitExceeded { retry_after: Some(SignedDuration::from_secs(1)) }
            }
            Self::Closed
            | Self::Locked { .. }
            | Self::MaintainedElsewhere { .. }
            | Self::WriterReplaced { .. }
            | Self::WritersBehind { .. } => ErrorKind::Unavailable,
            Self::OtherWorkspace { .. }
            | Self::OtherFolder { .. }
            | Self::SharedStore { .. }
            | Self::WriterForgotten { .. } => ErrorKind::PreconditionFailed,
            Self::Superseded { .. } => ErrorKind::Conflict,
            Self::Corrupt { .. } | Self::Damaged(_) => ErrorKind::Corrupt,
            Self::Disk(error) => error.kind(),
            Self::Delta { .. } | Self::File { .. } | Self::Store { .. } => ErrorKind::Unavailable,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Arrow { .. } | Self::Internal { .. } => ErrorKind::Internal,
        }
    }

    pub(crate) fn arrow(step: &'static str) -> impl FnOnce(arrow::error::ArrowError) -> Self {
        move |source| Self::Arrow { step, source }
    }

    pub(crate) fn delta(table: &impl ToString) -> impl FnOnce(DeltaTableError) -> Self {
        let table = table.to_string();
        move |source| Self::Delta { table, source: Box::new(source) }
    }

    pub(crate) fn select(table: &impl ToString) -> impl FnOnce(crate::query::QueryError) -> Self {
        let table = table.to_string();
        move |source| match source {
            crate::query::QueryError::Damaged(damage) => Self::Damaged(damage),
            source => Self::Select { table, source: Box::new(source) },
        }
    }

    pub(crate) fn file<E>(table: &impl ToString) -> impl FnOnce(E) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let table = table.to_string();
        move |source| match Damage::of(&source) {
            Some(damage) => Self::Damaged(damage.clone()),
            None => Self::File { table, source: Box::new(source) },
        }
    }
}
