//! Why an operation of this crate failed.

use crate::replication::{DivergenceReason, Stamp};
use oms_core::ErrorKind;
use oms_core::disk::DiskError;
use oms_core::journal::JournalError;
use oms_core::task::TaskError;

/// Why replication, failover or failback did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A site's disk failed; what was acknowledged before stays.
    #[error("site storage failed")]
    Disk(#[from] DiskError),
    /// The vault's journal failed.
    #[error("recovery vault's journal failed")]
    Journal(#[from] JournalError),
    /// The addressed bytes are not on the disk.
    #[error("outside of the disk. offset=`{offset}`, length=`{length}`, disk_bytes=`{disk_bytes}`")]
    OutOfRange {
        /// First byte asked for.
        offset: u64,
        /// How many bytes.
        length: u64,
        /// How many bytes the disk has.
        disk_bytes: u64,
    },
    /// Production has moved to the other site; this side may not write any more.
    #[error("disk is fenced, production is at the other site. epoch=`{epoch}`")]
    Fenced {
        /// The epoch that fenced it.
        epoch: u64,
    },
    /// Writes are stopped while a planned failover drains, or while the journal does not tell whether
    /// production has moved: the item's next operation finds out.
    #[error("disk is quiesced while production moves")]
    Quiesced,
    /// A recovery point is never written to; write to an overlay.
    #[error("a recovery point is read-only")]
    ReadOnly,
    /// The device lost its image after its log was written; open the item again to redo.
    #[error("device is broken until it is opened again. reason=`{reason}`")]
    Broken {
        /// What failed first.
        reason: String,
    },
    /// Bytes from the other site are not a message of this protocol.
    #[error("cannot decode. what=`{what}`, position=`{position}`, reason=`{reason}`")]
    Decode {
        /// What was being read.
        what: &'static str,
        /// Byte position in the input.
        position: usize,
        /// What is wrong there.
        reason: &'static str,
    },
    /// Stored bytes that had been made durable do not match their checksum.
    #[error("stored bytes are damaged. path=`{path}`, offset=`{offset}`, reason=`{reason}`")]
    Corrupt {
        /// Which file.
        path: String,
        /// Where in it, in bytes.
        offset: u64,
        /// What does not match.
        reason: &'static str,
    },
    /// The item's state does not allow the operation.
    #[error("{operation} is not possible now: {state}. item=`{item}`")]
    IllegalState {
        /// The item.
        item: String,
        /// What was asked, in plain words.
        operation: String,
        /// The state it is in, in plain words.
        state: String,
    },
    /// No such item or recovery point.
    #[error("not found. what=`{what}`, name=`{name}`")]
    NotFound {
        /// The kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A thing of that name is there already.
    #[error("already exists. what=`{what}`, name=`{name}`")]
    AlreadyExists {
        /// The kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// An argument is wrong.
    #[error("invalid argument. what=`{what}`, value=`{value}`, reason=`{reason}`")]
    Invalid {
        /// Which argument.
        what: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// This version cannot do it.
    #[error("not supported. what=`{what}`")]
    Unsupported {
        /// What is not there.
        what: &'static str,
    },
    /// Frames of a former primary were refused.
    #[error("stale epoch refused. found=`{found}`, current=`{current}`")]
    StaleEpoch {
        /// The sender's epoch.
        found: u64,
        /// The replica's epoch.
        current: u64,
    },
    /// The replica did not take what was sent; what it acknowledged before stays.
    #[error("replica refused. reason=`{reason}`, is_full=`{is_full}`")]
    ReplicaRefused {
        /// In the replica's words.
        reason: String,
        /// Whether its disk is full.
        is_full: bool,
    },
    /// Primary and replica are no longer joined by the log: repair the replication.
    #[error("resynchronization required, repair the replication. item=`{item}`, reason=`{reason}`")]
    ResyncRequired {
        /// The item.
        item: String,
        /// Why.
        reason: DivergenceReason,
    },
    /// A site could not be opened; what says why is the operation that needs it.
    #[error("site cannot be opened. what=`{what}`")]
    SiteUnavailable {
        /// Which site.
        what: &'static str,
    },
    /// The other end of the channel is gone.
    #[error("replication channel closed")]
    ChannelClosed,
    /// The replica was asked for a point that is not a whole prefix of the writes.
    #[error("no such prefix at the replica. epoch=`{}`, sequence=`{}`", stamp.epoch, stamp.sequence)]
    NoSuchPrefix {
        /// The prefix asked for.
        stamp: Stamp,
    },
    /// Freezing or thawing the applications failed; no recovery point was taken.
    #[error("cannot quiesce the applications. reason=`{reason}`")]
    Quiesce {
        /// In the quiescer's words.
        reason: String,
    },
    /// A defect in this software.
    #[error("internal error. reason=`{reason}`")]
    Internal {
        /// What was not as it must be.
        reason: String,
    },
}

impl From<TaskError> for Error {
    fn from(error: TaskError) -> Self {
        Self::Internal { reason: error.to_string() }
    }
}

impl Error {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Disk(error) => error.kind(),
            Self::Journal(error) => error.kind(),
            Self::OutOfRange { .. } | Self::Invalid { .. } => ErrorKind::Invalid,
            Self::Fenced { .. } | Self::StaleEpoch { .. } | Self::ReadOnly => ErrorKind::Denied,
            Self::Quiesced
            | Self::Broken { .. }
            | Self::ChannelClosed
            | Self::SiteUnavailable { .. }
            | Self::Quiesce { .. } => ErrorKind::Unavailable,
            Self::Decode { .. } | Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::IllegalState { .. } | Self::ResyncRequired { .. } => {
                ErrorKind::PreconditionFailed
            }
            Self::NotFound { .. } | Self::NoSuchPrefix { .. } => ErrorKind::NotFound,
            Self::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::ReplicaRefused { is_full: true, .. } => {
                ErrorKind::LimitExceeded { retry_after: None }
            }
            Self::ReplicaRefused { .. } => ErrorKind::Unavailable,
            Self::Internal { .. } => ErrorKind::Internal,
        }
    }
}

/// What every fallible call of this crate answers.
pub type Result<T> = std::result::Result<T, Error>;
