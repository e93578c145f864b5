//! Indexes that were read lately.

use super::{PLACE_KEY, Terms};
use crate::error::Damage;
use crate::repository::recent::Recent;
use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetFileReaderFactory;
use datafusion::error::Result;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The most bytes of indexes that are kept.
const BYTES_MAX: usize = 64 << 20;

/// The indexes of files by path; none for a file without one. Files never change under their path.
#[derive(Debug)]
pub(crate) struct TermsCache {
    kept: Mutex<Recent<Option<Arc<Terms>>>>,
}

impl Default for TermsCache {
    fn default() -> Self {
        Self { kept: Mutex::new(Recent::new(BYTES_MAX)) }
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
                let rows = footer.file_metadata().num_rows().unsigned_abs();
                match reader.get_bytes(place).await {
                    Ok(bytes) => decoded(&path, &bytes, rows),
                    Err(error) => match Damage::of(&error) {
                        Some(damage) => {
                            unused(&path, &damage.to_string());
                            None
                        }
                        None => return Err(error.into()),
                    },
                }
            }
            _ => None,
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = terms.as_ref().map_or(0, |terms| terms.bytes);
        kept.add(path, terms.clone(), bytes);
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
            unused(path, &reason);
            None
        }
    }
}

fn unused(path: &str, reason: &str) {
    tracing::warn!(file = path, reason, "the index of a file's terms is not used");
}
