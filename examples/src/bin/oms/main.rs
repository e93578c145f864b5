//! The whole suite in one program, with storage built in.
//!
//! `oms tour` shows every service at work on this machine; `oms serve` runs them. Every other
//! command does one thing to a data directory, directly or, if it is being served, through its
//! socket.

#![expect(clippy::print_stderr, reason = "a program says why it fails")]

/// Says a line on standard output. Whether somebody still listens is no concern of what goes on.
macro_rules! say {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($argument)*);
    }};
}
pub(crate) use say;

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
mod store;
mod suite;
mod tls;
mod tour;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => return cli::tell_usage(&told),
    };
    let config = match cli.configured() {
        Ok(config) => config,
        Err(error) => {
            tell(&format!("{error:#}"));
            return ExitCode::FAILURE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tell(&format!("no runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(cli.run(config)) {
        Ok(code) => code,
        Err(error) => {
            tell(&format!("{error:#}"));
            let interrupted = error.downcast_ref::<command::Interrupted>();
            interrupted.map_or(ExitCode::FAILURE, |it| {
                ExitCode::from(command::Interrupted::status(it.signal))
            })
        }
    }
}

/// Says why it fails, if anybody listens.
fn tell(why: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "oms: {why}");
}
