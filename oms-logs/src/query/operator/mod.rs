//! The operators of a pipeline, one file per family: what columns each makes, and of what.

mod apply;

mod columns;

mod combine;

mod expand;

mod join;

mod rows;

mod source;

mod summarize;
