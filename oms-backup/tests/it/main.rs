//! Integration tests of the backup crate.

#[cfg(test)]
mod common;
#[cfg(test)]
mod container;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod files;
#[cfg(test)]
#[cfg(feature = "interop")]
mod interop;
#[cfg(test)]
mod released;
#[cfg(test)]
mod resume;
#[cfg(test)]
mod select;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod writers;
