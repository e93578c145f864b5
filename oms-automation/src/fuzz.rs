//! Parsers without a public name of their own, for the fuzz targets. No part of the interface.

use crate::runbook::{self, Argument, ParameterDefinition};
use crate::stream::LineSplitter;
use serde_json::Value;
use std::collections::BTreeMap;

/// What is wrong with what a runbook declares: the parameter and the reason.
///
/// # Errors
/// The first parameter that does not fit.
pub fn check_definitions(definitions: &[ParameterDefinition]) -> Result<(), (String, String)> {
    runbook::check_definitions(definitions)
}

/// The given values in the order of the program's arguments.
///
/// # Errors
/// The first parameter that does not fit, and why.
pub fn bind(
    definitions: &[ParameterDefinition],
    given: BTreeMap<String, Value>,
) -> Result<Vec<Argument>, (String, String)> {
    runbook::bind(definitions, given)
}

/// The lines of a pipe that these bytes came through: each at most `limit` bytes, and how many more
/// it had.
#[must_use]
pub fn lines(limit: usize, chunks: &[&[u8]]) -> Vec<(Vec<u8>, u64)> {
    let mut splitter = LineSplitter::new(limit);
    let mut lines: Vec<_> = chunks.iter().flat_map(|chunk| splitter.push(chunk)).collect();
    lines.extend(splitter.finish());
    lines.into_iter().map(|line| (line.bytes, line.cut_bytes)).collect()
}
