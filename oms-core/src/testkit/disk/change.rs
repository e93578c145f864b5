//! Unsynced changes of a file, and what power failures make of them.

use super::SECTOR_BYTES;
use crate::entropy::{Entropy, EntropyExt as _};

#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

impl Change {
    pub(super) fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                if image.len() < offset + bytes.len() {
                    image.resize(offset + bytes.len(), 0);
                }
                image[*offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Self::SetLen(len) => image.resize(*len, 0),
        }
    }

    /// How many bytes it brings; none if it only sets a length.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Write { bytes, .. } => bytes.len(),
            Self::SetLen(_) => 0,
        }
    }

    /// Whether a power failure can tear it.
    pub(super) fn is_large(&self) -> bool {
        matches!(self, Self::Write { offset, bytes } if split_at_sectors(*offset, bytes).len() > 1)
    }

    /// What of it reached the device when it is torn: of a write over several sectors some and not all
    /// of them, of anything else all.
    pub(super) fn torn(self, entropy: &dyn Entropy) -> Vec<Self> {
        let Self::Write { offset, bytes } = &self else { return vec![self] };
        let mut pieces = split_at_sectors(*offset, bytes);
        if pieces.len() < 2 {
            return vec![self];
        }
        let place = |count: usize| usize::try_from(entropy.below(count as u64)).unwrap_or(0);
        pieces.swap_remove(place(pieces.len()));
        let kept = pieces.swap_remove(place(pieces.len()));
        let others = pieces.into_iter().filter(|_| entropy.below(2) == 0);
        others.chain([kept]).collect()
    }

    /// What of it reached the device: all, nothing, or (of a write) any subset of its sectors.
    pub(super) fn survivors(self, entropy: &dyn Entropy) -> Vec<Self> {
        match entropy.below(4) {
            0 => Vec::new(),
            1 => match self {
                Self::Write { offset, bytes } => split_at_sectors(offset, &bytes)
                    .into_iter()
                    .filter(|_| entropy.below(2) == 0)
                    .collect(),
                Self::SetLen(_) => vec![self],
            },
            _ => vec![self],
        }
    }
}

/// Cuts a write into pieces that lie within one sector of the file each.
fn split_at_sectors(offset: usize, bytes: &[u8]) -> Vec<Change> {
    let mut pieces = Vec::new();
    let mut done = 0;
    while done < bytes.len() {
        let start = offset + done;
        let count = (SECTOR_BYTES - start % SECTOR_BYTES).min(bytes.len() - done);
        pieces.push(Change::Write { offset: start, bytes: bytes[done..done + count].to_vec() });
        done += count;
    }
    pieces
}
