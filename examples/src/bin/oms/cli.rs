//! The command line.

use crate::command::{Command, Dsc, Interrupted, Output, Place};
use crate::config::Config;
use crate::data::{DataDir, OpenError};
use crate::logging::Format;
use crate::suite::{Suite, Wanted};
use crate::{admin, logging, progress, serve, socket, tour};
use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use oms_core::{Clock, SystemClock, SystemEntropy};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::UnixStream;

/// An operations management suite: logs, runbooks, desired state, backup and site recovery.
#[derive(Debug, Parser)]
#[command(name = "oms", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// The directory that holds everything [default: oms-data].
    #[arg(long, global = true, env = "OMS_DATA")]
    data: Option<PathBuf>,
    /// A TOML file with settings; variables and flags are worth more.
    #[arg(long, global = true, env = "OMS_CONFIG")]
    config: Option<PathBuf>,
    /// What is told on standard error, such as `warn,oms_logs=debug`; RUST_LOG is read too.
    #[arg(long, global = true, env = "OMS_LOG")]
    log: Option<String>,
    /// How it is told.
    #[arg(long, global = true, env = "OMS_LOG_FORMAT", value_enum)]
    log_format: Option<Format>,
    /// Folders in which runbooks' interpreters are looked for, separated by colons.
    #[arg(long, global = true, env = "OMS_SEARCH_PATH", value_delimiter = ':')]
    search_path: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Shows every service at work on this machine, and ends.
    Tour(tour::Options),
    /// Runs the services until it is asked to end.
    Serve(serve::Options),
    #[command(flatten)]
    Command(Command),
}

impl Cli {
    /// What file, environment and flags say together. Begins to log by it.
    pub(crate) fn configured(&self) -> Result<Config> {
        let variable = |name: &str| std::env::var(name).ok();
        let mut config = Config::load(self.config.as_deref(), variable)?;
        take(&mut config.data, &self.data);
        take(&mut config.log.filter, &self.log);
        take(&mut config.log.format, &self.log_format);
        if !self.search_path.is_empty() {
            config.search_path.clone_from(&self.search_path);
        }
        let is_serving = match &self.verb {
            Verb::Serve(options) => {
                options.configure(&mut config.serve);
                true
            }
            Verb::Command(Command::Dsc(Dsc::Serve(options))) => {
                options.configure(&mut config.serve);
                true
            }
            Verb::Tour(_) | Verb::Command(_) => false,
        };
        let filter = config.log_filter(is_serving);
        logging::start(&filter, config.log.format.unwrap_or_default())?;
        progress::enable(self.json || is_serving);
        Ok(config)
    }

    pub(crate) async fn run(self, config: Config) -> Result<ExitCode> {
        if let Verb::Serve(options) = &self.verb
            && options.print_config
        {
            return Ok(match print(&config.effective(true).shown()?)? {
                Printed::Whole => ExitCode::SUCCESS,
                Printed::Unwanted => ExitCode::from(BROKEN_PIPE),
            });
        }
        config.check()?;
        // A serving process has another working directory, so paths are made whole here.
        let root = std::path::absolute(config.effective(false).data.unwrap_or_default())?;
        match self.verb {
            Verb::Tour(options) => tour::run(&root, &options, &config, self.json).await,
            Verb::Serve(_) => serve::run(&root, &config, None).await,
            Verb::Command(Command::Dsc(Dsc::Serve(options))) => {
                serve::run(&root, &config, options.registration_key()?).await
            }
            Verb::Command(command) => {
                let done = execute(&root, command.absolute()?, &config, self.json);
                let output = Box::pin(done).await?;
                let code = output.code();
                let text = match self.json {
                    true => format!("{}\n", serde_json::to_string_pretty(&output.json)?),
                    false => output.text,
                };
                Ok(match print(&text)? {
                    Printed::Whole => ExitCode::from(code),
                    Printed::Unwanted => ExitCode::from(BROKEN_PIPE),
                })
            }
        }
    }
}

/// The status of a program whose reader has gone: 128 and the number of SIGPIPE.
const BROKEN_PIPE: u8 = 141;

/// What became of what was printed.
enum Printed {
    Whole,
    /// The reader, such as `head`, has what it wanted.
    Unwanted,
}

/// Prints to standard output.
fn print(text: &str) -> Result<Printed> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(Printed::Whole),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Printed::Unwanted),
        Err(error) => Err(error).context("standard output"),
    }
}

/// Tells what a command line lacks, or the help that it asks for.
pub(crate) fn tell_usage(told: &clap::Error) -> ExitCode {
    match told.print() {
        Ok(()) => ExitCode::from(told.exit_code().unsigned_abs() as u8),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::from(BROKEN_PIPE),
        Err(error) => {
            crate::tell(&format!("standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn take<T: Clone>(into: &mut Option<T>, given: &Option<T>) {
    if given.is_some() {
        into.clone_from(given);
    }
}

/// Runs a command here, or in the process that serves the directory.
async fn execute(root: &Path, command: Command, config: &Config, json: bool) -> Result<Output> {
    if !command.needs_data() {
        return command.run_alone(&Place { data: root, json }).await;
    }
    let data = match take_or_reach(root).await? {
        Taken::Directory(data) => data,
        Taken::Server(stream) => return socket::send(root, stream, &command).await,
    };
    let admin = admin::Admin::load_or_create(data.root(), &SystemEntropy)?;
    let mut config = config.clone();
    if command.puts_damage_aside() {
        config.logs.quarantine = Some(true);
    } else if let Some(slot) = &mut config.logs.diskless {
        // A place of its own: the process that has this one may serve on another machine.
        slot.push_str(".command");
    }
    let suite = Suite::open(data, &admin, Wanted::new(&command.services(), &config)).await?;
    let output = match command.runs_jobs() {
        true => run_until_interrupted(&command, &suite).await,
        false => command.run(&suite).await,
    };
    if let Err(error) = suite.close().await {
        // Everything acknowledged is durable without it; the command's own outcome counts.
        tracing::warn!(error = format!("{error:#}"), "the data directory was not closed well");
    }
    output
}

/// How long a command waits for another one that has the directory, and how often it looks.
const TURN_WAIT: Duration = Duration::from_secs(5);
const TURN_LOOK: Duration = Duration::from_millis(50);

/// How a command gets at a data directory.
enum Taken {
    Directory(DataDir),
    Server(UnixStream),
}

/// Takes the directory, or reaches the process that serves it. One that has it and serves nothing runs a
/// command, too, or is about to serve, so it is waited for.
async fn take_or_reach(root: &Path) -> Result<Taken> {
    let begin = SystemClock.monotonic();
    loop {
        let (path, holder) = match DataDir::open(root) {
            Ok(data) => return Ok(Taken::Directory(data)),
            Err(OpenError::InUse { path, holder }) => (path, holder),
            Err(error) => return Err(error.into()),
        };
        let error = match socket::connect(root).await {
            Ok(stream) => return Ok(Taken::Server(stream)),
            Err(error) => error,
        };
        if SystemClock.monotonic() - begin >= TURN_WAIT {
            bail!(
                "data directory is in use by process {holder}, which takes no commands ({error}). \
                 path=`{}`",
                path.display()
            );
        }
        tokio::time::sleep(TURN_LOOK).await;
    }
}

/// How long jobs that were asked to stop may take to end.
const STOP_SECONDS_MAX: u64 = 30;

/// Runs a command whose jobs are this process's own: a signal that asks it to end stops them first, with
/// all that they started, as a person would. Other commands are simply killed; what they acknowledged is
/// durable.
async fn run_until_interrupted(command: &Command, suite: &Suite) -> Result<Output> {
    let mut signals = serve::Signals::listen()?;
    let mut running = std::pin::pin!(command.run(suite));
    let signal = tokio::select! {
        output = &mut running => return output,
        signal = signals.number() => signal,
    };
    let stopped = async {
        if let Err(error) = suite.ask_jobs_to_stop("interrupted").await {
            tracing::warn!(error = format!("{error:#}"), "jobs were not asked to stop");
            return None;
        }
        Some((&mut running).await)
    };
    let ended = tokio::select! {
        output = stopped => output,
        () = signals.next() => None,
        () = tokio::time::sleep(Duration::from_secs(STOP_SECONDS_MAX)) => None,
    };
    match ended {
        // What succeeded all the same keeps its status.
        Some(output) => output.map(|output| match output.is_success {
            true => output,
            false => output.interrupted(signal),
        }),
        None => {
            suite.stop_jobs().await;
            let what = "the job was ended, with every process that it had started";
            Err(Interrupted { signal, what }.into())
        }
    }
}

/// The command of a line, for tests.
#[cfg(test)]
pub(crate) fn command(line: &[&str]) -> Command {
    let cli = Cli::try_parse_from([&["oms"], line].concat()).expect("a line");
    let Verb::Command(command) = cli.verb else { panic!("not a command: {line:?}") };
    command
}
