//! Why a resource was not changed or listed.

use super::{ProvisioningState, ResourceId, ResourceType};
use crate::ErrorKind;
use crate::id::ParseIdError;
use crate::journal::JournalError;

/// Why a resource was not changed or listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResourceError {
    /// There is no such resource.
    #[error("resource is not there. id=`{id}`")]
    NotFound {
        /// Its path.
        id: ResourceId,
    },
    /// What it would lie in is not there.
    #[error("parent of the resource is not there. id=`{id}`, parent=`{parent}`")]
    ParentNotFound {
        /// The resource.
        id: ResourceId,
        /// What it would lie in.
        parent: ResourceId,
    },
    /// The version that is there is not the one that the caller asked for.
    #[error("precondition does not hold. id=`{id}`")]
    PreconditionFailed {
        /// The resource.
        id: ResourceId,
    },
    /// A change is under way, or was made by another process; read again and retry.
    #[error("resource is being changed. id=`{id}`, state=`{state:?}`")]
    Busy {
        /// The resource.
        id: ResourceId,
        /// Its state.
        state: ProvisioningState,
    },
    /// A guard holds the resource: something of its service is still in it.
    #[error("resource is held. id=`{id}`, reason=`{reason}`")]
    Held {
        /// The resource.
        id: ResourceId,
        /// What holds it.
        reason: String,
    },
    /// A property that cannot change would change.
    #[error("property cannot change. id=`{id}`, property=`{property}`")]
    Immutable {
        /// The resource.
        id: ResourceId,
        /// The property.
        property: &'static str,
    },
    /// Nothing of this type is kept here.
    #[error("resource type is not registered. type=`{resource_type}`")]
    UnknownType {
        /// The type.
        resource_type: ResourceType,
    },
    /// The input is wrong.
    #[error("not a valid resource. id=`{id}`, reason=`{reason}`")]
    Invalid {
        /// The resource.
        id: ResourceId,
        /// What is wrong.
        reason: &'static str,
    },
    /// The input is right and cannot be done here.
    #[error("not supported: {what}. at=`{at}`")]
    Unsupported {
        /// What.
        what: &'static str,
        /// Where it stands in the input.
        at: String,
    },
    /// A bound was reached.
    #[error("too many. what=`{what}`, limit=`{limit}`")]
    TooMany {
        /// What there would be too many of.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// An input is larger than its limit.
    #[error("too large. what=`{what}`, bytes=`{bytes}`, limit=`{limit}`")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// Its limit.
        limit: usize,
    },
    /// The token of a page is not one of this list.
    #[error("continuation token is not of this list")]
    Token,
    /// A name, path or tag cannot be read.
    #[error(transparent)]
    Id(#[from] ParseIdError),
    /// A stored history says what cannot be.
    #[error("history of a resource is damaged. id=`{id}`, reason=`{reason}`")]
    Corrupt {
        /// The resource.
        id: String,
        /// What cannot be.
        reason: String,
    },
    /// The journal did not do what it was asked.
    #[error("resources cannot use their journal")]
    Journal(#[from] JournalError),
}

impl ResourceError {
    /// What the caller can do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } | Self::ParentNotFound { .. } => ErrorKind::NotFound,
            Self::PreconditionFailed { .. } => ErrorKind::PreconditionFailed,
            Self::Busy { .. } | Self::Held { .. } | Self::Immutable { .. } => ErrorKind::Conflict,
            Self::UnknownType { .. } | Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Invalid { .. } | Self::Id(_) | Self::Token => ErrorKind::Invalid,
            Self::TooMany { .. } => ErrorKind::LimitExceeded { retry_after: None },
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Journal(error) => error.kind(),
        }
    }

    /// The error code that Azure Resource Manager gives.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "ResourceNotFound",
            Self::ParentNotFound { .. } => "ParentResourceNotFound",
            Self::PreconditionFailed { .. } => "PreconditionFailed",
            Self::Busy { .. } => "Conflict",
            Self::Held { .. } => "ScopeLocked",
            Self::Immutable { .. } => "PropertyChangeNotAllowed",
            Self::UnknownType { .. } => "InvalidResourceType",
            Self::Invalid { .. } => "InvalidRequestContent",
            Self::Unsupported { .. } => "NotSupported",
            Self::TooMany { .. } => "QuotaExceeded",
            Self::TooLarge { .. } => "RequestContentTooLarge",
            Self::Token => "InvalidContinuationToken",
            Self::Id(_) => "InvalidResourceName",
            Self::Corrupt { .. } | Self::Journal(_) => "InternalServerError",
        }
    }
}
