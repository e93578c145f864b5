//! Simulation, fault injection and conformance suites.
