//! `geo_polygon_lookup`, `geo_line_lookup`: rows of places with rows of the shapes that they are in or
//! near.

use super::Arguments;
use super::lookup::{Matches, place, side_by_side};
use crate::query::bind::{BindResult, Binder};
use crate::query::bound::Relation;
use crate::query::diagnostic::Problem;
use crate::query::dynamic::{View, arrays_of};
use crate::query::function::cast;
use crate::query::function::geo::{LineLookup, PolygonLookup};
use crate::query::operator::effort::Effort;
use crate::query::plan::TableFunction;
use crate::query::syntax::ast;
use crate::query::types::KqlType;
use async_trait::async_trait;
use datafusion::arrow::array::{Array, AsArray, Float64Array, RecordBatch};
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
        let table = self.lookup_table(&mut arguments)?;
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
        let function = GeoLookup {
            lines,
            radius,
            unmatched,
            with_key,
            shape: place(&table, &shape.name),
            longitude: place(&input, &longitude.name),
            latitude: place(&input, &latitude.name),
        };
        let of_table = table.columns.iter().filter(|column| with_key || column.name != shape.name);
        let columns = side_by_side(input.columns.iter().chain(of_table), span);
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
        context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        let [input, table] = inputs.as_slice() else { return exec_err!("it takes two tables") };
        let lookup = self.lookup(table)?;
        let (longitudes, latitudes) = (reals(input, self.longitude)?, reals(input, self.latitude)?);
        let mut matches = Matches::new(self.unmatched, Effort::new(self.name(), context));
        for row in 0..input.num_rows() {
            let found = match longitudes.is_valid(row) && latitudes.is_valid(row) {
                true => lookup.matches(longitudes.value(row), latitudes.value(row)),
                false => Vec::new(),
            };
            matches.add(row, found.into_iter().map(|shape| shape as u64))?;
            matches.step().await;
        }
        let (mut columns, mut of_table) = matches.columns(input, table)?;
        if !self.with_key {
            of_table.remove(self.shape);
        }
        columns.extend(of_table);
        Ok(vec![RecordBatch::try_new(Arc::clone(schema), columns)?])
    }
}
