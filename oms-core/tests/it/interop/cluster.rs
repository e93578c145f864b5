//! A server of the test's own, which it can stop as it likes.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A PostgreSQL server on a free port, with its data in a folder that goes with it.
#[derive(Debug)]
pub(super) struct Cluster {
    folder: TempDir,
    pub(super) port: u16,
    settings: String,
}

impl Cluster {
    /// Begins one that syncs, as a real one does, with more `settings` (`-c name=value`).
    pub(super) fn start(settings: &str) -> Self {
        let cluster = Self::begin(settings);
        cluster.run();
        cluster
    }

    /// The same before it runs.
    pub(super) fn begin(settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // The server's own user has to come through it.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).expect("set");
        let unused = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = unused.local_addr().expect("an address").port();
        let cluster = Self { folder, port, settings: settings.to_owned() };
        if is_root() {
            run(Command::new("install").args(["-d", "-o", "postgres", "-m", "0700"]), |install| {
                install.arg(cluster.place("home"))
            });
        } else {
            fs::create_dir(cluster.place("home")).expect("a folder");
        }
        let data = cluster.data();
        cluster.tool("initdb", |initdb| {
            initdb.args(["-U", "oms", "-A", "trust", "-E", "UTF8", "--locale=C", "-D"]).arg(&data)
        });
        cluster
    }

    pub(super) fn add_settings(&mut self, settings: &str) {
        self.settings.push_str(settings);
    }

    pub(super) fn place(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn data(&self) -> PathBuf {
        self.place("home/data")
    }

    pub(super) fn url(&self) -> String {
        format!("postgresql://oms@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts it and waits until it answers.
    pub(super) fn run(&self) {
        let options = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1 {}",
            self.port,
            self.place("home").display(),
            self.settings
        );
        self.control(&["-w", "-o", &options, "start"]);
    }

    /// Stops it at once, as a crash does: it has to recover when it is started again.
    pub(super) fn crash(&self) {
        self.control(&["-w", "-m", "immediate", "stop"]);
    }

    /// Stops it in order, which ends every session.
    pub(super) fn stop(&self) {
        self.control(&["-w", "-m", "fast", "stop"]);
    }

    fn control(&self, arguments: &[&str]) {
        let log = self.place("home/log");
        self.tool("pg_ctl", |pg_ctl| {
            pg_ctl.arg("-D").arg(self.data()).arg("-l").arg(log).arg("-s").args(arguments)
        });
    }

    fn tool(&self, name: &str, arguments: impl FnOnce(&mut Command) -> &mut Command) {
        let programs = std::env::var("OMS_INTEROP_POSTGRES_BIN")
            .expect("OMS_INTEROP_POSTGRES_BIN names the folder of PostgreSQL's programs");
        let program = Path::new(&programs).join(name);
        // It refuses to run as root.
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(self.place("home"));
        run(&mut command, arguments);
    }

    /// Puts a file that only the server's user reads.
    pub(super) fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.place("home").join(name);
        fs::write(&path, text).expect("write");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("set");
        if is_root() {
            run(Command::new("chown").arg("postgres"), |chown| chown.arg(&path));
        }
        path
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.data().join("postmaster.pid").exists() {
            self.crash();
        }
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").expect("this process").uid() == 0
}

fn run(command: &mut Command, arguments: impl FnOnce(&mut Command) -> &mut Command) {
    let command = arguments(command);
    // A server that it leaves behind would keep a pipe open.
    let status = command.stdout(std::process::Stdio::null()).status();
    let status = status.unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}
