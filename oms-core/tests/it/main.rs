//! Tests of the crate from outside: the suites can fail, and the durable journal lasts.

#[cfg(test)]
#[cfg(feature = "testkit")]
mod mutants;

#[cfg(test)]
#[cfg(feature = "sqlite")]
mod files;

#[cfg(test)]
#[cfg(feature = "sqlite")]
mod crash;

#[cfg(test)]
#[cfg(feature = "sqlite")]
mod round_trip;

#[cfg(test)]
mod values;
