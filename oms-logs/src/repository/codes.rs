//! Columns of text as codes into a dictionary.
//!
//! Parquet keeps text that repeats so, and a query that does not look at each row's text reads it so.

use crate::repository::snapshot::INDEXES_AT_ONCE;
use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result as DataFusionResult;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetFileReaderFactory;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::{StreamExt as _, TryStreamExt as _};
use parquet::arrow::parquet_to_arrow_schema;
use parquet::file::metadata::ParquetMetaData;
use std::collections::BTreeSet;
use std::sync::Arc;

fn coded_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

fn is_coded(field: &Field) -> bool {
    matches!(field.data_type(), DataType::Dictionary(..))
}

/// A schema with these columns as codes, as far as they are text; `None` if that changes nothing.
pub(crate) fn with_codes(schema: &SchemaRef, columns: &BTreeSet<&str>) -> Option<SchemaRef> {
    let is_wanted = |field: &Field| {
        *field.data_type() == DataType::Utf8 && columns.contains(field.name().as_str())
    };
    if !schema.fields().iter().any(|field| is_wanted(field)) {
        return None;
    }
    Some(retyped(schema, is_wanted, &coded_type()))
}

/// A schema with every column of codes as text.
pub(crate) fn without_codes(schema: &SchemaRef) -> SchemaRef {
    match schema.fields().iter().any(|field| is_coded(field)) {
        true => retyped(schema, is_coded, &DataType::Utf8),
        false => Arc::clone(schema),
    }
}

fn retyped(schema: &Schema, is_meant: impl Fn(&Field) -> bool, data_type: &DataType) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| match is_meant(field) {
        true => Arc::new(Field::clone(field).with_data_type(data_type.clone())),
        false => Arc::clone(field),
    });
    let fields: Vec<_> = fields.collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// Rows with columns of text as codes, where a schema has them so.
pub(crate) fn encoded(rows: &RecordBatch, schema: &SchemaRef) -> DataFusionResult<RecordBatch> {
    if !schema.fields().iter().any(|field| is_coded(field)) {
        return Ok(rows.clone());
    }
    let columns = rows.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| cast(column, field.data_type()));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)?)
}

/// Has files give the columns as codes that a table's schema has so. A file that has no dictionary of
/// a column gives text, of which codes are made.
pub(crate) async fn read_as_codes(
    files: Vec<PartitionedFile>,
    schema: &SchemaRef,
    readers: &dyn ParquetFileReaderFactory,
) -> DataFusionResult<Vec<PartitionedFile>> {
    let columns = schema.fields().iter().filter(|field| is_coded(field));
    let columns: BTreeSet<&str> = columns.map(|field| field.name().as_str()).collect();
    if columns.is_empty() {
        return Ok(files);
    }
    let read = futures::stream::iter(files).map(|file| async {
        let metrics = ExecutionPlanMetricsSet::new();
        let mut reader = readers.create_reader(0, file.clone(), None, &metrics)?;
        let footer = reader.get_metadata(None).await?;
        let keys = footer.file_metadata().key_value_metadata();
        let stored = parquet_to_arrow_schema(footer.file_metadata().schema_descr(), keys)?;
        let mut kept = columns.clone();
        kept.retain(|column| has_dictionary(&footer, column));
        Ok(match with_codes(&Arc::new(stored), &kept) {
            Some(coded) => file.with_arrow_schema(coded),
            None => file,
        })
    });
    read.buffered(INDEXES_AT_ONCE).try_collect().await
}

/// Whether each part of a column has a dictionary.
fn has_dictionary(footer: &ParquetMetaData, column: &str) -> bool {
    footer.row_groups().iter().all(|group| {
        let mut columns = group.columns().iter();
        columns
            .find(|chunk| chunk.column_path().string() == column)
            .is_some_and(|chunk| chunk.dictionary_page_offset().is_some())
    })
}
