//! Running the program.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A folder for one test.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// A command on the place's data directory.
    pub(crate) fn oms(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oms"));
        command.current_dir(self.folder.path()).arg("--data").arg(self.data()).args(arguments);
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.oms(arguments).output().expect("the program starts")
    }

    /// Runs a command that has to succeed; answers what it printed.
    pub(crate) fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = text(&output.stdout);
        assert!(output.status.success(), "{arguments:?}\n{said}{}", text(&output.stderr));
        said
    }

    /// Runs a command that has to fail; answers why.
    pub(crate) fn bad(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}\n{}", text(&output.stdout));
        text(&output.stderr)
    }

    /// Makes its data directory one of the same owner as another's, which was served before.
    #[cfg(feature = "interop")]
    pub(crate) fn join(&self, other: &Self) {
        let (from, to) = (other.data(), self.data());
        std::fs::create_dir_all(to.join("keys")).expect("a folder");
        std::fs::copy(from.join("admin.json"), to.join("admin.json")).expect("copied");
        for entry in std::fs::read_dir(from.join("keys")).expect("keys") {
            let entry = entry.expect("a key");
            std::fs::copy(entry.path(), to.join("keys").join(entry.file_name())).expect("copied");
        }
    }

    pub(crate) fn serve(&self) -> Server {
        Server::start(self.oms(&["serve", "--listen", "127.0.0.1:0"]))
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A process that serves, killed when dropped.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) url: String,
    /// Its standard output, so that it can go on writing.
    output: BufReader<std::process::ChildStdout>,
}

impl Server {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
        let mut output = BufReader::new(child.stdout.take().expect("its output"));
        let mut line = String::new();
        output.read_line(&mut line).expect("its first line");
        let url = line.trim().rsplit(' ').next().expect("an address").to_owned();
        assert!(url.starts_with("http"), "it did not serve: {line}");
        // The second line comes when everything listens.
        line.clear();
        output.read_line(&mut line).expect("its second line");
        Self { child, url, output }
    }

    /// Asks it to end, and answers whether it ended well.
    pub(crate) fn stop(self) -> bool {
        let id = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status().expect("kill");
        assert!(asked.success());
        self.ended()
    }

    /// Waits until it says that it is stopping, calls `again`, and answers its exit status.
    pub(crate) fn killed<T>(mut self, again: impl FnOnce() -> T) -> Option<i32> {
        let mut line = String::new();
        while line != "stopping\n" {
            line.clear();
            let count = self.output.read_line(&mut line).expect("its output");
            assert!(count > 0, "it ended by itself");
        }
        again();
        self.child.wait().expect("its end").code()
    }

    /// Waits for the end that it was asked for, and answers whether it ended well.
    pub(crate) fn ended(mut self) -> bool {
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.output, &mut rest).expect("its output");
        assert!(rest.contains("stopped"), "{rest}");
        self.child.wait().expect("its end").success()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a file that another process writes.
pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
