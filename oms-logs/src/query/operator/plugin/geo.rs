//! `geo_polygon_lookup`, `geo_line_lookup`: rows of places with rows of the shapes that they are in or
//! near.

use super::Arguments;
use crate::query::bind::{BindResult, Binder, Items};
use crate::query::bound::{Column, Expr, Relation};
use crate::query::diagnostic::Problem;
use crate::query::dynamic::{View, arrays_of};
use crate::query::function::cast;
use crate::query::function::geo::{LineLookup, PolygonLookup};
use crate::query::limits::OPERATOR_ROWS_MAX;
use crate::query::operator::values::take_or_empty;
use crate::query::plan::TableFunction;
use crate::query::syntax::ast;
use crate::query::types::KqlType;
use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, UInt64Array};
use datafusion::arrow::compute::cast as cast_array;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{Result, exec_err};
use datafusion::execution::TaskContext;
use datafusion::scalar::ScalarValue;
use std::sync::Arc;

impl Binder<'_> {
    /// `geo_polygon_lookup(table, polygon, longitude, latitude, radius, return_unmatched,
    /// lookup_area_radius, return_lookup_key)`, of which the last four can have names or be left out;
    /// `geo_line_lookup` needs the radius.
    pub(super) fn geo_lookup(
        &mut self,
        input: Arc<Relation>,
        mut arguments: Arguments<'_>,
        lines: bool,
    ) -> BindResult<Arc<Relation>> {
        let (plugin, span) = (arguments.plugin, arguments.span());
        let Some(table) = arguments.next() else {
            let message = format!("plugin `{}` takes a table", plugin.text);
            return Err(self.report(Problem::semantic(span, message)));
        };
        let table = self.table(table)?;
        let shape = self.plugin_column(&table, arguments.next(), plugin)?;
        let longitude = self.plugin_column(&input, arguments.next(), plugin)?;
        let latitude = self.plugin_column(&input, arguments.next(), plugin)?;
        let numbers = longitude.kql_type.is_number() && latitude.kql_type.is_number();
        if shape.kql_type != KqlType::Dynamic || !numbers {
            let message = format!("plugin `{}` takes shapes and places as numbers", plugin.text);
            return Err(self.report(Problem::semantic(span, message)));
        }
        let positional = arguments.positional();
        let given = |name: &str, at: usize| arguments.named(name).or(positional.get(at).copied());
        let radius = self.radius(given("radius", 0), plugin)?;
        if lines && radius.is_none() {
            let message = format!("plugin `{}` takes a radius", plugin.text);
            return Err(self.report(Problem::semantic(span, message)));
        }
        let unmatched = self.is_on(given("return_unmatched", 1), plugin)?;
        let with_key = self.is_on(given("return_lookup_key", 3), plugin)?;
        let place = |relation: &Relation, name: &str| {
            relation.columns.iter().position(|column| column.name == name).unwrap_or(0)
        };
        let function = GeoLookup {
            lines,
            radius,
            unmatched,
            with_key,
            shape: place(&table, &shape.name),
            longitude: place(&input, &longitude.name),
            latitude: place(&input, &latitude.name),
        };
        let mut names = Items::default();
        let of_table = table.columns.iter().filter(|column| with_key || column.name != shape.name);
        for column in input.columns.iter().chain(of_table) {
            let null = Expr::null(column.kql_type, span);
            names.add_implied(Some(column.name.clone()), "Column", null);
        }
        let columns: Vec<Column> = names.columns();
        self.table_function(vec![input, table], Arc::new(function), columns, false, span)
    }

    fn radius(
        &mut self,
        argument: Option<&ast::Expr>,
        plugin: &ast::Name,
    ) -> BindResult<Option<f64>> {
        let Some(argument) = argument else { return Ok(None) };
        let bound = self.plugin_constant(Some(argument), plugin)?;
        let value = match bound.kql_type.is_number() {
            true => self.constant(&cast(bound, KqlType::Real))?,
            false => ScalarValue::Null,
        };
        match value {
            ScalarValue::Float64(None) => Ok(None),
            ScalarValue::Float64(Some(radius)) if radius >= 0.0 => Ok(Some(radius)),
            _ => {
                let message = format!("plugin `{}` takes a radius in meters here", plugin.text);
                Err(self.report(Problem::semantic(argument.span, message)))
            }
        }
    }

    fn is_on(&mut self, argument: Option<&ast::Expr>, plugin: &ast::Name) -> BindResult<bool> {
        let Some(argument) = argument else { return Ok(false) };
        let bound = self.plugin_constant(Some(argument), plugin)?;
        Ok(bound.as_constant() == Some(&ScalarValue::Boolean(Some(true))))
    }
}

#[derive(Debug)]
struct GeoLookup {
    lines: bool,
    radius: Option<f64>,
    unmatched: bool,
    with_key: bool,
    shape: usize,
    longitude: usize,
    latitude: usize,
}

/// The shapes of a table by the places that they match.
enum Lookup {
    Polygons(PolygonLookup),
    Lines(LineLookup),
}

impl Lookup {
    fn matches(&self, longitude: f64, latitude: f64) -> Vec<usize> {
        match self {
            Self::Polygons(lookup) => lookup.matches(longitude, latitude).collect(),
            Self::Lines(lookup) => lookup.matches(longitude, latitude).collect(),
        }
    }
}

impl GeoLookup {
    fn lookup(&self, table: &RecordBatch) -> Result<Lookup> {
        let shapes = arrays_of(table.column(self.shape))?;
        let views = shapes.iter().map(|bytes| bytes.map_or(View::Null, View::of));
        Ok(match (self.lines, self.radius) {
            (true, radius) => Lookup::Lines(LineLookup::new(views, radius.unwrap_or_default())),
            (false, radius) => Lookup::Polygons(PolygonLookup::new(views, radius)),
        })
    }
}

fn reals(batch: &RecordBatch, at: usize) -> Result<Float64Array> {
    Ok(cast_array(batch.column(at), &DataType::Float64)?.as_primitive().clone())
}

#[async_trait]
impl TableFunction for GeoLookup {
    fn name(&self) -> &'static str {
        "geo_lookup"
    }

    async fn run(
        &self,
        inputs: Vec<RecordBatch>,
        schema: &SchemaRef,
        _context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        let [input, table] = inputs.as_slice() else { return exec_err!("it takes two tables") };
        let lookup = self.lookup(table)?;
        let (longitudes, latitudes) = (reals(input, self.longitude)?, reals(input, self.latitude)?);
        let (mut of_input, mut of_table): (Vec<u64>, Vec<Option<u64>>) = (Vec::new(), Vec::new());
        for row in 0..input.num_rows() {
            let before = of_input.len();
            if longitudes.is_valid(row) && latitudes.is_valid(row) {
                for shape in lookup.matches(longitudes.value(row), latitudes.value(row)) {
                    of_input.push(row as u64);
                    of_table.push(Some(shape as u64));
                }
            }
            if self.unmatched && of_input.len() == before {
                of_input.push(row as u64);
                of_table.push(None);
            }
            if of_input.len() > OPERATOR_ROWS_MAX {
                return exec_err!("the lookup makes more than {OPERATOR_ROWS_MAX} rows");
            }
        }
        let (of_input, of_table) = (UInt64Array::from(of_input), UInt64Array::from(of_table));
        let rows = |batch: &RecordBatch, places: &UInt64Array, left_out: Option<usize>| {
            let of = batch.schema();
            let columns = batch.columns().iter().zip(of.fields()).enumerate();
            let kept = columns.filter(|(at, _)| Some(*at) != left_out);
            kept.map(|(_, (column, field))| take_or_empty(column, places, field.is_nullable()))
                .collect::<Result<Vec<_>>>()
        };
        let left_out = (!self.with_key).then_some(self.shape);
        let mut columns: Vec<ArrayRef> = rows(input, &of_input, None)?;
        columns.extend(rows(table, &of_table, left_out)?);
        Ok(vec![RecordBatch::try_new(Arc::clone(schema), columns)?])
    }
}
