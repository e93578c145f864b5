//! `schema_merge`: the schemas of several tables as one.

use super::Arguments;
use crate::query::bind::{BindResult, Binder, Items, Scope};
use crate::query::bound::{Column, Relation};
use crate::query::diagnostic::Problem;
use crate::query::function::common_type;
use crate::query::operator::effort::Effort;
use crate::query::operator::shape::data_type;
use crate::query::plan::TableFunction;
use crate::query::types::KqlType;
use async_trait::async_trait;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, RecordBatch, StringViewArray,
};
use datafusion::arrow::datatypes::{Int32Type, SchemaRef};
use datafusion::common::{Result, exec_err};
use datafusion::execution::TaskContext;
use datafusion::scalar::ScalarValue;
use std::collections::HashMap;
use std::sync::Arc;

impl Binder<'_> {
    /// The rows of `getschema` of several tables as those of one.
    pub(super) fn schema_merge(
        &mut self,
        input: Arc<Relation>,
        arguments: &Arguments<'_>,
    ) -> BindResult<Arc<Relation>> {
        let span = arguments.span();
        let columns = vec![
            Column::new("ColumnName", KqlType::String),
            Column::new("ColumnOrdinal", KqlType::Int),
            Column::new("DataType", KqlType::String),
            Column::new("ColumnType", KqlType::String),
        ];
        if !columns.iter().all(|column| input.columns.contains(column)) {
            let message = "`schema_merge` takes the rows of `getschema`";
            return Err(self.report(Problem::semantic(span, message)));
        }
        let positional = arguments.positional();
        let preserves_order = match arguments.named("PreserveOrder").or(positional.first().copied())
        {
            None => true,
            Some(argument) => {
                let bound = self.expr(argument, &mut Scope::constants())?;
                match bound.as_constant() {
                    Some(ScalarValue::Boolean(Some(preserves))) => *preserves,
                    _ => {
                        let message = "`PreserveOrder` of `schema_merge` is `true` or `false`";
                        return Err(self.report(Problem::semantic(argument.span, message)));
                    }
                }
            }
        };
        let input = self.projected(input, Items::of_columns(&columns, span), span)?;
        let function = SchemaMerge { preserves_order };
        self.table_function(vec![input], Arc::new(function), columns, true, span)
    }
}

#[derive(Debug)]
struct SchemaMerge {
    /// Whether a column must stand at the same place in every schema that has it.
    preserves_order: bool,
}

/// A column of one name in all schemas.
#[derive(Debug)]
struct Merged<'n> {
    name: &'n str,
    /// The first and last of its places.
    ordinals: (i32, i32),
    kql_type: std::result::Result<KqlType, String>,
}

impl Merged<'_> {
    fn add(&mut self, ordinal: i32, name: &str) {
        self.ordinals.0 = self.ordinals.0.min(ordinal);
        self.ordinals.1 = self.ordinals.1.max(ordinal);
        self.kql_type = match (&self.kql_type, type_of(name)) {
            (Ok(known), Ok(more)) => common_type([*known, more])
                .ok_or_else(|| format!("{known} and {more} have no common type")),
            (Err(why), _) => Err(why.clone()),
            (_, why) => why,
        };
    }
}

fn type_of(name: &str) -> std::result::Result<KqlType, String> {
    KqlType::of_name(name).ok_or_else(|| format!("unknown type {name}"))
}

impl SchemaMerge {
    /// The type, or why there is none.
    fn type_of(&self, column: &Merged<'_>) -> std::result::Result<KqlType, String> {
        let (first, last) = column.ordinals;
        if self.preserves_order && first != last {
            return Err("columns are out of order".to_owned());
        }
        column.kql_type.clone()
    }

    /// The columns of all schemas, by the last of their places.
    async fn merged<'n>(
        &self,
        rows: impl Iterator<Item = (&'n str, i32, &'n str)>,
        effort: &mut Effort,
    ) -> Result<Vec<Merged<'n>>> {
        let mut columns: Vec<Merged<'n>> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (name, ordinal, kql_type) in rows {
            effort.step().await;
            let place = *places.entry(name).or_insert(columns.len());
            match columns.get_mut(place) {
                Some(column) => column.add(ordinal, kql_type),
                None => {
                    effort.keep(2 * size_of::<Merged<'_>>())?;
                    let kql_type = type_of(kql_type);
                    columns.push(Merged { name, ordinals: (ordinal, ordinal), kql_type });
                }
            }
        }
        columns.sort_by_key(|column| column.ordinals.1);
        Ok(columns)
    }
}

#[async_trait]
impl TableFunction for SchemaMerge {
    fn name(&self) -> &'static str {
        "schema_merge"
    }

    async fn run(
        &self,
        inputs: Vec<RecordBatch>,
        schema: &SchemaRef,
        context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        let Some(input) = inputs.first() else { return exec_err!("it takes a table") };
        let (Some(names), Some(ordinals), Some(types)) = (
            input.column(0).as_string_view_opt(),
            input.column(1).as_primitive_opt::<Int32Type>(),
            input.column(3).as_string_view_opt(),
        ) else {
            return exec_err!("schema_merge takes the rows of getschema");
        };
        let rows = (0..input.num_rows()).filter(|row| !ordinals.is_null(*row));
        let rows = rows.map(|row| (names.value(row), ordinals.value(row), types.value(row)));
        let mut effort = Effort::new(self.name(), context);
        let merged = self.merged(rows, &mut effort).await?;
        let (mut places, mut inner, mut outer) = (Vec::new(), Vec::new(), Vec::new());
        for (place, column) in (0_i32..).zip(&merged) {
            match self.type_of(column) {
                Ok(kql_type) => {
                    places.push(place);
                    inner.push(data_type(kql_type).to_owned());
                    outer.push(kql_type.name().to_owned());
                }
                Err(why) => {
                    places.push(-1);
                    inner.push(format!("ERROR(unknown CSL type:ERROR({why}))"));
                    outer.push(format!("ERROR({why})"));
                }
            }
        }
        let names: StringViewArray = merged.iter().map(|column| Some(column.name)).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(names),
            Arc::new(Int32Array::from(places)),
            Arc::new(inner.into_iter().map(Some).collect::<StringViewArray>()),
            Arc::new(outer.into_iter().map(Some).collect::<StringViewArray>()),
        ];
        Ok(vec![RecordBatch::try_new(Arc::clone(schema), columns)?])
    }
}
