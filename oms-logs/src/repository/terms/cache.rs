//! Indexes that were read lately.

use super::{PLACE_KEY, Terms};
use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetFileReaderFactory;
use datafusion::error::Result;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The most bytes of indexes that are kept.
const BYTES_MAX: usize = 64 << 20;

/// The indexes of files by path; none for a file without one. Files never change under their path.
#[derive(Debug, Default)]
pub(crate) struct TermsCache {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    files: BTreeMap<String, (u64, Option<Arc<Terms>>)>,
    bytes: usize,
    /// How often something was looked up: what was used least lately goes first.
    uses: u64,
}

/// What an entry counts, besides the index itself.
const ENTRY_BYTES: usize = 256;

impl Kept {
    fn find(&mut self, path: &str) -> Option<Option<Arc<Terms>>> {
        self.uses += 1;
        let (used, terms) = self.files.get_mut(path)?;
        *used = self.uses;
        Some(terms.clone())
    }

    fn add(&mut self, path: String, terms: Option<Arc<Terms>>) {
        let size =
            |terms: &Option<Arc<Terms>>| terms.as_ref().map_or(0, |it| it.bytes) + ENTRY_BYTES;
        self.bytes += size(&terms);
        if let Some((_, before)) = self.files.insert(path, (self.uses, terms)) {
            self.bytes -= size(&before);
        }
        while self.bytes > BYTES_MAX {
            let oldest = self.files.iter().min_by_key(|(_, (used, _))| *used);
            let Some(path) = oldest.map(|(path, _)| path.clone()) else { break };
            if let Some((_, terms)) = self.files.remove(&path) {
                self.bytes -= size(&terms);
            }
        }
    }
}

impl TermsCache {
    /// The index of a file; none if it has none or it is damaged.
    ///
    /// # Errors
    /// Those of reading the file.
    pub(crate) async fn terms(
        &self,
        file: &PartitionedFile,
        readers: &dyn ParquetFileReaderFactory,
    ) -> Result<Option<Arc<Terms>>> {
        let path = file.object_meta.location.to_string();
        if let Some(known) = self.kept.lock().unwrap_or_else(PoisonError::into_inner).find(&path) {
            return Ok(known);
        }
        let metrics = ExecutionPlanMetricsSet::new();
        let mut reader = readers.create_reader(0, file.clone(), None, &metrics)?;
        let footer = reader.get_metadata(None).await?;
        let keys = footer.file_metadata().key_value_metadata();
        let place = keys.into_iter().flatten().find(|pair| pair.key == PLACE_KEY);
        let place = place.and_then(|pair| pair.value.as_deref()?.split_once(':'));
        let place = place.and_then(|(offset, length)| {
            let offset: u64 = offset.parse().ok()?;
            Some(offset..offset.checked_add(length.parse().ok()?)?)
        });
        let terms = match place {
            Some(place) if place.end <= file.object_meta.size => {
                let bytes: Bytes = reader.get_bytes(place).await?;
                let rows = footer.file_metadata().num_rows().unsigned_abs();
                decoded(&path, &bytes, rows)
            }
            _ => None,
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.add(path, terms.clone());
        Ok(terms)
    }
}

fn decoded(path: &str, bytes: &Bytes, rows: u64) -> Option<Arc<Terms>> {
    let read = Terms::decode(bytes).and_then(|terms| match terms.rows == rows {
        true => Ok(terms),
        false => Err(format!("it has {} rows, and the file {rows}", terms.rows)),
    });
    match read {
        Ok(terms) => Some(Arc::new(terms)),
        Err(reason) => {
            tracing::warn!(file = path, reason, "the index of a file's terms is not used");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_lately_goes() {
        let mut kept = Kept::default();
        let terms = || {
            Some(Arc::new(Terms {
                rows: 0,
                columns: BTreeMap::new(),
                bytes: BYTES_MAX / 2 - 1_000,
            }))
        };
        kept.add("a".into(), terms());
        kept.add("b".into(), terms());
        assert!(kept.find("a").is_some());
        kept.add("c".into(), terms());
        assert!(kept.find("b").is_none());
        assert!(kept.find("a").is_some() && kept.find("c").is_some());
        assert!(kept.bytes <= BYTES_MAX);
        kept.add("c".into(), None);
        assert_eq!(kept.bytes, BYTES_MAX / 2 - 1_000 + 2 * ENTRY_BYTES);
    }
}
