//! Reading a data file that has checksums.

use super::{Decoded, FILE_SUFFIX, Sums, Wrong};
use crate::error::Damage;
use bytes::{Bytes, BytesMut};
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt as _};
use parquet::errors::ParquetError;
use std::ops::Range;
use std::sync::Arc;

/// How much of a file's end is read at first: most have their sums and their footer in it.
const END_BYTES: u64 = 256 << 10;

/// Bytes that a whole file is verified by at a time: whole blocks.
const STEP_BYTES: u64 = 4 << 20;

/// A data file that has checksums, and where it is.
#[derive(Clone, Debug)]
pub(crate) struct CheckedFile {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// From the root of the store.
    pub(crate) path: ObjectPath,
    /// As the table's log has it, in bytes.
    pub(crate) size: u64,
    /// The table that it is of.
    pub(crate) table: Arc<str>,
}

/// Why a file was not read.
#[derive(Debug)]
pub(crate) enum FileError {
    /// Its bytes are not those that were written.
    Damaged(Damage),
    /// The store failed.
    Store(object_store::Error),
}

impl From<FileError> for ParquetError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Damaged(damage) => Self::External(Box::new(damage)),
            FileError::Store(error) => Self::External(Box::new(error)),
        }
    }
}

impl CheckedFile {
    /// Whether a file has checksums.
    pub(crate) fn is_checked(path: &ObjectPath) -> bool {
        path.as_ref().ends_with(FILE_SUFFIX)
    }

    /// Reads the file's checksums and its footer, in one read unless they are long.
    pub(crate) async fn sums(&self) -> Result<Sums, FileError> {
        let start = self.size.saturating_sub(END_BYTES);
        let end = self.fetch(start..self.size).await?;
        let from = match Sums::decode(&end, self.size).map_err(|wrong| self.damaged(wrong))? {
            Decoded::Sums(sums) => return Ok(sums),
            Decoded::From(from) => from,
        };
        let mut whole = BytesMut::with_capacity((self.size - from) as usize);
        whole.extend_from_slice(&self.fetch(from..start).await?);
        whole.extend_from_slice(&end);
        match Sums::decode(&whole.freeze(), self.size).map_err(|wrong| self.damaged(wrong))? {
            Decoded::Sums(sums) => Ok(sums),
            Decoded::From(offset) => {
                let reason = "the mark of its checksums has other places".to_owned();
                Err(self.damaged(Wrong { offset, reason }))
            }
        }
    }

    /// Reads ranges of the file, verified.
    pub(crate) async fn read(
        &self,
        sums: &Sums,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, FileError> {
        let wanted = whole_blocks(sums, ranges);
        let blocks = match wanted.is_empty() {
            true => Vec::new(),
            false => match self.store.get_ranges(&self.path, &wanted).await {
                Ok(blocks) => blocks,
                Err(error) => return Err(self.failed(error).await),
            },
        };
        for (range, bytes) in wanted.iter().zip(&blocks) {
            self.check_length(range, bytes)?;
            sums.verify(range.start, bytes).map_err(|wrong| self.damaged(wrong))?;
        }
        let parts = ranges.iter().map(|range| cut(sums, &wanted, &blocks, range));
        parts.collect::<Option<Vec<_>>>().ok_or_else(|| {
            let reason = "its footer names places behind its end".to_owned();
            self.damaged(Wrong { offset: self.size, reason })
        })
    }

    /// The whole file, unverified; none if only its length is looked at.
    pub(crate) async fn whole(&self, is_read: bool) -> Result<Option<Bytes>, FileError> {
        let found = self.store.head(&self.path).await.map_err(FileError::Store)?;
        if found.size != self.size {
            return Err(self.damaged(self.cut_off(found.size)));
        }
        match is_read {
            true => self.fetch(0..self.size).await.map(Some),
            false => Ok(None),
        }
    }

    /// Verifies every block of the file; answers the first one that is damaged.
    pub(crate) async fn verify(&self, sums: &Sums) -> Result<(), FileError> {
        let mut at = 0;
        while at < sums.sums_at() {
            let step = sums.widened(&(at..(at + STEP_BYTES).min(sums.sums_at())));
            let bytes = self.fetch(step.clone()).await?;
            sums.verify(step.start, &bytes).map_err(|wrong| self.damaged(wrong))?;
            at = step.end;
        }
        Ok(())
    }

    async fn fetch(&self, range: Range<u64>) -> Result<Bytes, FileError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let bytes = match self.store.get_range(&self.path, range.clone()).await {
            Ok(bytes) => bytes,
            Err(error) => return Err(self.failed(error).await),
        };
        self.check_length(&range, &bytes)?;
        Ok(bytes)
    }

    fn check_length(&self, range: &Range<u64>, bytes: &Bytes) -> Result<(), FileError> {
        let (found, wanted) = (bytes.len() as u64, range.end - range.start);
        if found == wanted {
            return Ok(());
        }
        Err(self.damaged(self.cut_off(range.start + found)))
    }

    fn cut_off(&self, size: u64) -> Wrong {
        let reason = format!("it has {size} bytes in place of {}", self.size);
        Wrong { offset: size.min(self.size), reason }
    }

    /// A store that failed to read a range, or a file that is shorter than it was.
    async fn failed(&self, error: object_store::Error) -> FileError {
        if matches!(error, object_store::Error::NotFound { .. }) {
            return FileError::Store(error);
        }
        match self.store.head(&self.path).await {
            Ok(found) if found.size != self.size => self.damaged(self.cut_off(found.size)),
            _ => FileError::Store(error),
        }
    }

    fn damaged(&self, wrong: Wrong) -> FileError {
        let Wrong { offset, reason } = wrong;
        let (table, file) = (self.table.to_string(), file_in_table(&self.path));
        FileError::Damaged(Damage { table, file, offset, reason })
    }
}

/// A data file as its table's log names it: below the folder of its day.
pub(crate) fn file_in_table(path: &ObjectPath) -> String {
    let mut parts: Vec<_> = path.parts().collect();
    let last = parts.split_off(parts.len().saturating_sub(2));
    last.iter().map(|part| part.as_ref()).collect::<Vec<_>>().join("/")
}

/// The blocks that ranges lie in; what lies behind those that have sums is left out.
fn whole_blocks(sums: &Sums, ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let within = |range: &Range<u64>| range.start..range.end.min(sums.sums_at());
    let within = ranges.iter().map(within).filter(|range| range.start < range.end);
    let mut widened: Vec<_> = within.map(|range| sums.widened(&range)).collect();
    widened.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(widened.len());
    for range in widened {
        match merged.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// A range of what was read; none if it is not in the file.
fn cut(sums: &Sums, wanted: &[Range<u64>], blocks: &[Bytes], range: &Range<u64>) -> Option<Bytes> {
    let of_end = |range: Range<u64>| {
        let (start, end) = (range.start - sums.sums_at(), range.end - sums.sums_at());
        let (start, end) = (usize::try_from(start).ok()?, usize::try_from(end).ok()?);
        (start <= end && end <= sums.end().len()).then(|| sums.end().slice(start..end))
    };
    if range.start >= sums.sums_at() {
        return of_end(range.clone());
    }
    let within = range.start..range.end.min(sums.sums_at());
    if within.is_empty() {
        return Some(Bytes::new());
    }
    let nth = wanted.partition_point(|read| read.end <= within.start);
    let (read, bytes) = (wanted.get(nth)?, blocks.get(nth)?);
    let (start, end) = (within.start.checked_sub(read.start)?, within.end - read.start);
    let (start, end) = (start as usize, end as usize);
    let part = (end <= bytes.len()).then(|| bytes.slice(start..end))?;
    if within.end == range.end {
        return Some(part);
    }
    let mut both = BytesMut::from(part);
    both.extend_from_slice(&of_end(sums.sums_at()..range.end)?);
    Some(both.freeze())
}
