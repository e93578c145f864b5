//! The folder that is restored to, reached only through descriptors.
//!
//! Every name is resolved relative to an open folder and no link is followed on the way, so that
//! neither a hostile recovery point nor someone who plants links in the target makes a restore
//! write outside of it.

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(not(target_os = "linux"))]
use elsewhere as system;
#[cfg(target_os = "linux")]
use linux as system;
pub(crate) use system::{Folder, finish_file, join, open_root, ownership, write_all_at};

use oms_core::{Entropy, EntropyExt as _};

/// What a restore does where something is already.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum CopyOption {
    /// The restore does not begin if a file would be replaced (`FailOnConflict`).
    #[default]
    FailOnConflict,
    /// What is there stays (`Skip`), but a folder that an interrupted restore made gets its metadata.
    Skip,
    /// What is there is replaced; folders are merged (`Overwrite`). A file whose content is right, which
    /// is verified, stays and gets its metadata, unless it is another user's or lets somebody write whom
    /// the recovery point does not let: so a restore that was interrupted goes on.
    Overwrite,
}

/// Who may be given files: only the superuser can give them away.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nothing is restored there"))]
pub(crate) struct Ownership {
    pub(crate) is_restored: bool,
}

/// Whose a folder is that a restore fills.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nothing is restored there"))]
pub(crate) enum Made {
    /// This restore made it.
    Now,
    /// Another one made it and did not come to its end.
    Unfinished,
    /// It was there.
    Before,
}

/// What became of an attempt to give a finished file its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nothing is restored there"))]
pub(crate) enum Placed {
    Placed,
    KeptExisting,
}

const TEMPORARY: &str = ".oms-restore-";

/// A name that no file of the recovery point is likely to have.
pub(crate) fn temporary_name(entropy: &dyn Entropy) -> String {
    format!("{TEMPORARY}{:016x}", entropy.number())
}

/// Whether a name is one of those.
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nothing is restored there"))]
pub(crate) fn is_temporary_name(name: &[u8]) -> bool {
    let number = name.strip_prefix(TEMPORARY.as_bytes());
    number.is_some_and(|it| it.len() == 16 && it.iter().all(u8::is_ascii_hexdigit))
}
