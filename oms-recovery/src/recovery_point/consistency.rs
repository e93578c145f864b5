//! What a recovery point promises about the applications on the disk.

use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;

/// What a recovery point promises.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Consistency {
    /// The disk as a power loss would have left it (`CrashConsistent`).
    CrashConsistent,
    /// The disk while its applications had written out and stood still
    /// (`ApplicationConsistent`).
    ApplicationConsistent,
}

impl Consistency {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::CrashConsistent => 0,
            Self::ApplicationConsistent => 1,
        }
    }

    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::CrashConsistent),
            1 => Some(Self::ApplicationConsistent),
            _ => None,
        }
    }
}

/// Makes applications write out and stand still, as `fsfreeze` or VSS do. Its calls block.
pub trait Quiescer: Debug + Send + Sync {
    /// Everything that the applications want on the disk is written to it, and they write nothing
    /// until [`thaw`](Self::thaw).
    ///
    /// # Errors
    /// [`crate::Error::Quiesce`]; no recovery point is taken, and `thaw` is called.
    fn freeze(&self) -> Result<()>;

    /// The applications go on. Called after every `freeze`, also after one that failed.
    ///
    /// # Errors
    /// [`crate::Error::Quiesce`].
    fn thaw(&self) -> Result<()>;
}
