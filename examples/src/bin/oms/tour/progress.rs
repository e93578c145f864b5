//! Where the tour is, kept so that a killed one is noticed.

use crate::data::write_durably;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

const FILE: &str = "progress.json";

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    run: u64,
    /// The part being shown; none when the run has ended.
    part: Option<String>,
}

/// One run of the tour: its number, its folder, the part it is in.
#[derive(Debug)]
pub(crate) struct Progress {
    root: PathBuf,
    folder: PathBuf,
    state: State,
}

impl Progress {
    /// Begins a run in `root`. If the last one was killed, its working files go and a note says
    /// so.
    pub(crate) fn begin(root: &Path) -> Result<(Self, Option<String>)> {
        let named = || format!("tour state in {}", root.display());
        let last: State = match fs::read(root.join(FILE)) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(named)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => State::default(),
            Err(error) => return Err(error).with_context(named),
        };
        let note = last.part.map(|part| {
            format!(
                "Run {} was interrupted in the part on {part}. Its working files are removed, its disk is \
                 no longer protected, the records it had made are kept, and this run starts clean.",
                last.run
            )
        });
        for entry in fs::read_dir(root).with_context(named)? {
            let path = entry.with_context(named)?.path();
            if path.is_dir() {
                fs::remove_dir_all(&path)
                    .with_context(|| format!("working files in {}", path.display()))?;
            }
        }
        let run = last.run + 1;
        let folder = root.join(format!("run-{run}"));
        let state = State { run, part: Some("preparations".to_owned()) };
        let progress = Self { root: root.to_owned(), folder, state };
        progress.save()?;
        fs::create_dir(&progress.folder).with_context(named)?;
        Ok((progress, note))
    }

    pub(crate) const fn run(&self) -> u64 {
        self.state.run
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Notes that a part begins.
    pub(crate) fn enter(&mut self, part: &str) -> Result<()> {
        self.state.part = Some(part.to_owned());
        self.save()
    }

    /// Notes that the run has ended.
    pub(crate) fn end(mut self, is_kept: bool) -> Result<()> {
        if !is_kept {
            fs::remove_dir_all(&self.folder)
                .with_context(|| format!("working files in {}", self.folder.display()))?;
        }
        self.state.part = None;
        self.save()
    }

    fn save(&self) -> Result<()> {
        let bytes = serde_json::to_vec(&self.state)?;
        write_durably(&self.root, FILE, &bytes)
            .with_context(|| format!("tour state in {}", self.root.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_run_is_noticed_and_its_files_go() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let (mut first, note) = Progress::begin(root.path()).expect("begins");
        assert_eq!((first.run(), note), (1, None));
        first.enter("Backup").expect("enters");
        fs::write(first.folder().join("left"), "x").expect("writes");
        let left = first.folder().to_owned();
        drop(first);
        let (second, note) = Progress::begin(root.path()).expect("begins");
        assert_eq!(second.run(), 2);
        assert!(note.is_some_and(|note| note.contains("Run 1") && note.contains("Backup")));
        assert!(!left.exists());
        second.end(false).expect("ends");
        let (third, note) = Progress::begin(root.path()).expect("begins");
        assert_eq!((third.run(), note), (3, None));
    }
}
