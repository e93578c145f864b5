//! The `oms` program, as its user runs it.

#[cfg(test)]
mod check;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod faults;
#[cfg(all(test, feature = "interop"))]
mod interop;
#[cfg(test)]
mod kql_eval;
#[cfg(test)]
mod load;
#[cfg(test)]
mod process;
#[cfg(test)]
mod serve;
#[cfg(test)]
mod support;
