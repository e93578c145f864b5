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
mod data;
mod serve;
mod socket;
mod suite;
mod tls;
mod tour;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("OMS_LOG")
        .unwrap_or_else(|_unset| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("oms: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(cli.run()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("oms: {error:#}");
            ExitCode::FAILURE
        }
    }
}
