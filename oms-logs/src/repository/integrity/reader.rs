//! What queries read data files through.

use super::{CheckedFile, Sums};
use crate::repository::recent::Recent;
use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::{
    CachedParquetFileReaderFactory, CachedParquetMetaData, ParquetFileMetrics,
    ParquetFileReaderFactory,
};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::cache::cache_manager::{CachedFileMetadataEntry, FileMetadataCache};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use object_store::ObjectStore;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// The most bytes of sums and footers that are kept.
const BYTES_MAX: usize = 64 << 20;

/// The sums of the files that were read lately, by path. Files never change under their path.
#[derive(Debug)]
pub(crate) struct SumsCache {
    kept: Mutex<Recent<Arc<Sums>>>,
}

impl Default for SumsCache {
    fn default() -> Self {
        Self { kept: Mutex::new(Recent::new(BYTES_MAX)) }
    }
}

impl SumsCache {
    async fn sums(&self, file: &CheckedFile) -> Result<Arc<Sums>> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let path = file.path.as_ref();
        if let Some(known) = kept().find(path) {
            return Ok(known);
        }
        let sums = Arc::new(file.sums().await?);
        kept().add(path.to_owned(), Arc::clone(&sums), sums.end().len());
        Ok(sums)
    }
}

/// Reads data files verified, where they have checksums.
#[derive(Debug)]
pub(crate) struct Readers {
    store: Arc<dyn ObjectStore>,
    footers: Arc<FileMetadataCache>,
    sums: Arc<SumsCache>,
    table: Arc<str>,
    /// For files without checksums.
    others: CachedParquetFileReaderFactory,
}

impl Readers {
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        footers: Arc<FileMetadataCache>,
        sums: Arc<SumsCache>,
        table: Arc<str>,
    ) -> Self {
        let others = CachedParquetFileReaderFactory::new(Arc::clone(&store), Arc::clone(&footers));
        Self { store, footers, sums, table, others }
    }
}

impl ParquetFileReaderFactory for Readers {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> DataFusionResult<Box<dyn AsyncFileReader + Send>> {
        let path = file.object_meta.location.clone();
        if !CheckedFile::is_checked(&path) {
            return self.others.create_reader(partition_index, file, metadata_size_hint, metrics);
        }
        let checked = CheckedFile {
            store: Arc::clone(&self.store),
            size: file.object_meta.size,
            table: Arc::clone(&self.table),
            path,
        };
        let metrics = ParquetFileMetrics::new(partition_index, checked.path.as_ref(), metrics);
        let (footers, sums) = (Arc::clone(&self.footers), Arc::clone(&self.sums));
        Ok(Box::new(Reader { file, checked, metrics, footers, sums }))
    }
}

/// Reads one file.
struct Reader {
    file: PartitionedFile,
    checked: CheckedFile,
    metrics: ParquetFileMetrics,
    footers: Arc<FileMetadataCache>,
    sums: Arc<SumsCache>,
}

impl Reader {
    async fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let bytes: u64 = ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum();
        self.metrics.bytes_scanned.add(usize::try_from(bytes).unwrap_or(usize::MAX));
        let sums = self.sums.sums(&self.checked).await?;
        Ok(self.checked.read(&sums, ranges).await?)
    }

    /// The footer, with the page indexes unless nobody wants them.
    async fn metadata(&self, pages: PageIndexPolicy) -> Result<Arc<ParquetMetaData>> {
        let meta = &self.file.object_meta;
        let known = self.footers.get(&meta.location).filter(|known| known.is_valid_for(meta));
        let known = known.as_ref().and_then(|known| {
            let known = known.file_metadata.as_any().downcast_ref::<CachedParquetMetaData>();
            known.map(CachedParquetMetaData::parquet_metadata)
        });
        if let Some(known) = known {
            let has_pages = known.column_index().is_some() && known.offset_index().is_some();
            if has_pages || pages == PageIndexPolicy::Skip {
                return Ok(Arc::clone(known));
            }
        }
        let sums = self.sums.sums(&self.checked).await?;
        let mut reader = ParquetMetaDataReader::new().with_page_index_policy(pages);
        reader.try_parse_sized(sums.end(), meta.size)?;
        let metadata = Arc::new(reader.finish()?);
        let cached = Arc::new(CachedParquetMetaData::new(Arc::clone(&metadata)));
        let entry = CachedFileMetadataEntry::new(meta.clone(), cached);
        self.footers.put(&meta.location, entry);
        Ok(metadata)
    }
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        async move {
            let read = self.read(std::slice::from_ref(&range)).await?;
            let none = || ParquetError::EOF("a read of one range answered none".to_owned());
            read.into_iter().next().ok_or_else(none)
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move { self.read(&ranges).await }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        // Where nobody says, they are read for whoever comes next: it costs no other read.
        let pages = options.map_or(PageIndexPolicy::Optional, |it| it.column_index_policy());
        self.metadata(pages).boxed()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let ratio = &self.metrics.scan_efficiency_ratio;
        ratio.add_part(self.metrics.bytes_scanned.value());
        ratio.set_total(usize::try_from(self.file.object_meta.size).unwrap_or(usize::MAX));
    }
}
