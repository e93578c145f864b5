//! Tests of the crate from outside: the suites can fail, and the durable journal lasts.

#[cfg(test)]
#[cfg(feature = "testkit")]
mod mutants;

#[cfg(test)]
#[cfg(feature = "testkit")]
mod disk_mutants;

#[cfg(test)]
mod disk_lock;

#[cfg(test)]
#[cfg(feature = "testkit")]
mod lease;

#[cfg(test)]
#[cfg(feature = "testkit")]
mod mutants_seams;

#[cfg(test)]
#[cfg(feature = "testkit")]
mod mutants_arguments;

#[cfg(test)]
#[cfg(all(feature = "http", feature = "testkit"))]
mod mutants_gates;

#[cfg(test)]
#[cfg(feature = "testkit-object-store")]
mod mutants_object_store;

#[cfg(test)]
#[cfg(feature = "sqlite")]
mod files;

#[cfg(test)]
mod crash;

#[cfg(test)]
#[cfg(feature = "sqlite")]
mod round_trip;

#[cfg(test)]
mod schedule;

#[cfg(test)]
mod secrets;

#[cfg(test)]
mod sources;

#[cfg(test)]
mod secret_sources;

#[cfg(test)]
mod telemetry;

#[cfg(test)]
#[cfg(all(feature = "http", feature = "testkit"))]
mod sample;

#[cfg(test)]
#[cfg(all(feature = "http", feature = "testkit"))]
mod arm;

#[cfg(test)]
#[cfg(feature = "interop")]
mod interop;

#[cfg(test)]
#[cfg(feature = "interop")]
mod interop_azure;

#[cfg(test)]
#[cfg(feature = "testkit")]
mod key_files;

#[cfg(test)]
mod values;
