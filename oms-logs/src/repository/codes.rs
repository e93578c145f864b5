//! Columns of text as codes into a dictionary.
//!
//! Parquet keeps text that repeats so, and a query that does not look at each row's text reads it so:
//!
//! - A column that is only [grouped by](crate::query) is given as codes.
//! - A column that is compared with constants is read as codes, compared by its dictionary, and given
//!   as text.
//!
//! A file may keep no dictionary, and fresh rows have none. Where codes are to be given all the same,
//! each row is a code of its own and its column the dictionary: nothing has to be looked up or copied.

use crate::repository::snapshot::INDEXES_AT_ONCE;
use arrow::array::{
    Array as _, ArrayRef, AsArray as _, DictionaryArray, Int32Array, RecordBatch,
    RecordBatchOptions,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{
    Transformed, TransformedResult as _, TreeNode as _, TreeNodeRecursion,
};
use datafusion::common::{Result as DataFusionResult, ScalarValue, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetFileReaderFactory;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_expr_adapter::{
    DefaultPhysicalExprAdapterFactory, PhysicalExprAdapter, PhysicalExprAdapterFactory,
};
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
    let columns = rows.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| match is_coded(field) {
        true => codes_of(column),
        false => Ok(Arc::clone(column)),
    });
    let columns = columns.collect::<DataFusionResult<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// Text as codes, one for each row.
fn codes_of(text: &ArrayRef) -> DataFusionResult<ArrayRef> {
    let Some(values) = text.as_string_opt::<i32>() else {
        return internal_err!("codes are made of text, not of {}", text.data_type());
    };
    let rows = i32::try_from(values.len()).unwrap_or(i32::MAX);
    let codes = Int32Array::new((0..rows).collect(), values.nulls().cloned());
    Ok(Arc::new(DictionaryArray::try_new(codes, Arc::clone(text))?))
}

/// Has files give columns as codes: those that a table's schema has so, and those that are only
/// compared with constants by the filters. A file that has no dictionary of a column gives text.
pub(crate) async fn read_as_codes(
    files: Vec<PartitionedFile>,
    schema: &SchemaRef,
    filters: &[Expr],
    readers: &dyn ParquetFileReaderFactory,
) -> DataFusionResult<Vec<PartitionedFile>> {
    let columns = schema.fields().iter().filter(|field| is_coded(field));
    let mut columns: BTreeSet<&str> = columns.map(|field| field.name().as_str()).collect();
    columns.extend(compared(filters));
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

/// The columns that filters compare with constants and have no other use for.
fn compared(filters: &[Expr]) -> BTreeSet<&str> {
    let (mut compared, mut others) = (BTreeSet::new(), BTreeSet::new());
    for filter in filters {
        find_compared(filter, &mut compared, &mut others);
    }
    compared.retain(|column| !others.contains(column));
    compared
}

fn find_compared<'e>(
    filter: &'e Expr,
    compared: &mut BTreeSet<&'e str>,
    others: &mut BTreeSet<&'e str>,
) {
    let is_constant = |expr: &Expr| matches!(expr, Expr::Literal(..));
    match filter {
        Expr::Not(inner) | Expr::IsTrue(inner) => find_compared(inner, compared, others),
        Expr::BinaryExpr(both) if matches!(both.op, Operator::And | Operator::Or) => {
            find_compared(&both.left, compared, others);
            find_compared(&both.right, compared, others);
        }
        Expr::BinaryExpr(both) if is_comparison(both.op) && is_constant(&both.right) => {
            match both.left.try_as_col() {
                Some(column) => _ = compared.insert(column.name.as_str()),
                None => find_compared(&both.left, compared, others),
            }
        }
        Expr::InList(list) if list.list.iter().all(is_constant) => match list.expr.try_as_col() {
            Some(column) => _ = compared.insert(column.name.as_str()),
            None => find_compared(&list.expr, compared, others),
        },
        other => others.extend(other.column_refs().into_iter().map(|it| it.name.as_str())),
    }
}

const fn is_comparison(operator: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(operator, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// Fits a file's columns to the table's: as DataFusion does, but that text becomes codes without
/// being looked up.
#[derive(Debug)]
pub(crate) struct CodesAdapterFactory;

impl PhysicalExprAdapterFactory for CodesAdapterFactory {
    fn create(
        &self,
        logical: SchemaRef,
        physical: SchemaRef,
    ) -> DataFusionResult<Arc<dyn PhysicalExprAdapter>> {
        let is_text = |field: &Field| {
            let stored = physical.field_with_name(field.name());
            is_coded(field) && stored.is_ok_and(|stored| *stored.data_type() == DataType::Utf8)
        };
        let from_text = logical.fields().iter().filter(|field| is_text(field));
        let from_text: BTreeSet<String> = from_text.map(|field| field.name().clone()).collect();
        if from_text.is_empty() {
            return DefaultPhysicalExprAdapterFactory.create(logical, physical);
        }
        let logical = retyped(&logical, is_text, &DataType::Utf8);
        let inner = DefaultPhysicalExprAdapterFactory.create(logical, Arc::clone(&physical))?;
        Ok(Arc::new(CodesAdapter { inner, from_text, physical }))
    }
}

#[derive(Debug)]
struct CodesAdapter {
    inner: Arc<dyn PhysicalExprAdapter>,
    /// Columns that the file has as text and the table as codes.
    from_text: BTreeSet<String>,
    physical: SchemaRef,
}

impl PhysicalExprAdapter for CodesAdapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> DataFusionResult<Arc<dyn PhysicalExpr>> {
        let expr = self.inner.rewrite(expr)?;
        let rewritten = expr.transform_down(|expr| {
            let column = expr.downcast_ref::<Column>();
            if !column.is_some_and(|column| self.from_text.contains(column.name())) {
                return Ok(Transformed::no(expr));
            }
            let function = Arc::new(ScalarUDF::from(AsCodes::default()));
            let options = Arc::new(ConfigOptions::default());
            let call = ScalarFunctionExpr::try_new(function, vec![expr], &self.physical, options)?;
            let call: Arc<dyn PhysicalExpr> = Arc::new(call);
            Ok(Transformed::new(call, true, TreeNodeRecursion::Jump))
        });
        rewritten.data()
    }
}

/// Text as [codes](codes_of), as a function.
#[derive(Debug, Eq, Hash, PartialEq)]
struct AsCodes(Signature);

impl Default for AsCodes {
    fn default() -> Self {
        Self(Signature::exact(vec![DataType::Utf8], Volatility::Immutable))
    }
}

impl ScalarUDFImpl for AsCodes {
    fn name(&self) -> &'static str {
        "as_codes"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _arguments: &[DataType]) -> DataFusionResult<DataType> {
        Ok(coded_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        match args.args.first() {
            Some(ColumnarValue::Array(text)) => codes_of(text).map(ColumnarValue::Array),
            Some(ColumnarValue::Scalar(text)) => {
                let codes = codes_of(&text.to_array()?)?;
                ScalarValue::try_from_array(&codes, 0).map(ColumnarValue::Scalar)
            }
            None => internal_err!("codes are made of one column"),
        }
    }
}
