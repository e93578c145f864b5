//! The operators of a pipeline, one file per family: what columns each makes, and of what.

mod apply;

mod columns;

mod combine;

mod expand;

mod join;

mod rows;

mod source;

mod summarize;

mod shape;

mod parse;

mod parse_kv;

mod search;

pub(crate) mod window;

mod scan;

mod partition;
mod per_part;

mod series;

mod top;

mod values;

mod effort;

mod reduce;

mod several;

mod plugin;

pub(super) mod graph;
