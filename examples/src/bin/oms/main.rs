//! The whole suite in one program, with storage built in.
//!
//! `oms tour` shows every service at work on this machine; `oms serve` runs them. Every other
//! command does one thing to a data directory, directly or, if it is being served, through its
//! socket.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program prints its results")]

mod admin;
mod audit;
mod cli;
mod command;
mod config;
mod data;
mod identity;
mod journals;
mod logging;
mod metrics;
mod progress;
mod scrape;
mod serve;
mod socket;
mod suite;
mod tls;
mod tour;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let config = match cli.configured() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("oms: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("oms: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(cli.run(config)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("oms: {error:#}");
            ExitCode::FAILURE
        }
    }
}
