//! Records to test with. The suite that a workspace passes is that of every record sink,
//! [`oms_core::testkit::sink`].

pub use oms_core::testkit::sink::{perf, perf_batch};
