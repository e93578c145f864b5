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
#[cfg(feature = "sqlite")]
mod files;

#[cfg(test)]
#[cfg(feature = "sqlite")]
mod crash;

#[cfg(test)]
#[cfg(feature = "sqlite")]
mod round_trip;
