//! A process that applies a configuration and is killed in the middle of it, again and again.
//!
//! Auditor: a file is wholly of one version or wholly of the other at any time, also half-way through a
//! directory that is copied; and the next run, which nobody kills, brings everything to its version.

use crate::system::System;
use oms_core::SystemClock;
use oms_dsc::configuration::Configuration;
use oms_dsc::node::{self, ResourceStatus};
use oms_dsc::resource::Registry;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

const FILES: usize = 40;
const FILE_BYTES: usize = 64 << 10;

/// The folder that a child process of these tests works in.
const FOLDER: &str = "OMS_DSC_TEST_FOLDER";

/// Files of contents, and a copy of a folder.
fn document(folder: &Path, version: &str) -> Arc<Configuration> {
    let mut text = String::new();
    for index in 0..FILES {
        let path = folder.join(format!("to/{index:02}"));
        text += &format!(
            "instance of MSFT_nxFileResource {{ ResourceID = \"[File]{index}\"; DestinationPath = \"{}\"; \
             Contents = \"{}\"; }};\n",
            path.display(),
            version.repeat(FILE_BYTES)
        );
    }
    let (from, to) = (folder.join("from"), folder.join("copy"));
    text += &format!(
        "instance of MSFT_nxFileResource {{ ResourceID = \"[File]copy\"; DestinationPath = \"{}\"; \
         SourcePath = \"{}\"; Type = \"Directory\"; Recurse = True; }};\n\
         instance of OMI_ConfigurationDocument {{ Version = \"2.0.0\"; }};",
        to.display(),
        from.display()
    );
    Arc::new(Configuration::parse("killed", text.as_bytes()).expect("valid"))
}

fn make_source(folder: &Path, version: &str) {
    fs::create_dir_all(folder.join("from/sub")).expect("folders");
    for index in 0..FILES {
        let name = format!("from/sub/{index:02}");
        fs::write(folder.join(name), version.repeat(FILE_BYTES)).expect("written");
    }
}

/// How many files are of that version; panics at one that is of none.
fn audit(folder: &Path, version: &str) -> usize {
    let mut count = 0;
    for part in ["to", "copy/sub"] {
        for index in 0..FILES {
            let Ok(held) = fs::read(folder.join(part).join(format!("{index:02}"))) else {
                continue;
            };
            let first = held.first().copied().unwrap_or_default();
            let is_whole = held.len() == FILE_BYTES && held.iter().all(|byte| *byte == first);
            assert!(is_whole, "{part}/{index}: {} bytes", held.len());
            count += usize::from(first == version.as_bytes()[0]);
        }
    }
    count
}

async fn apply(folder: &Path, version: &str) -> Vec<ResourceStatus> {
    let resources = Registry::standard(Some(folder)).expect("a root");
    node::apply(document(folder, version), &resources, &SystemClock).await
}

/// What the child does; by itself it is the case that nobody kills.
#[tokio::test]
async fn a_whole_configuration_is_applied() {
    let system = System::new();
    let given = std::env::var(FOLDER).ok();
    let given = given.as_deref().and_then(|given| given.split_once(':'));
    let (version, folder) = match given {
        Some((version, folder)) => (version, Path::new(folder)),
        None => {
            make_source(system.root(), "a");
            ("a", system.root())
        }
    };
    let statuses = apply(folder, version).await;
    assert!(statuses.iter().all(ResourceStatus::is_in_desired_state), "{statuses:?}");
    assert_eq!(audit(folder, version), 2 * FILES);
}

#[tokio::test]
async fn a_kill_at_any_time_leaves_whole_files_and_converges() {
    let system = System::new();
    let folder = system.root();
    let mut killed_in_the_middle = 0;
    for round in 0..10 {
        let version = ["a", "b"][round % 2];
        make_source(folder, version);
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "killed::a_whole_configuration_is_applied"])
            .env(FOLDER, format!("{version}:{}", folder.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        // It is let come this far.
        let enough = 1 + round * 2 * FILES / 10;
        while audit(folder, version) < enough && child.try_wait().expect("a status").is_none() {
            std::thread::yield_now();
        }
        child.kill().expect("it is ours");
        child.wait().expect("it ends");
        killed_in_the_middle += usize::from(audit(folder, version) < 2 * FILES);
    }
    assert!(killed_in_the_middle > 3, "{killed_in_the_middle}");

    make_source(folder, "c");
    let statuses = apply(folder, "c").await;
    assert!(statuses.iter().all(ResourceStatus::is_in_desired_state), "{statuses:?}");
    assert_eq!(audit(folder, "c"), 2 * FILES);
    let left = |part: &str| fs::read_dir(folder.join(part)).expect("a folder").count();
    assert_eq!((left("to"), left("copy/sub")), (FILES, FILES), "nothing half-written stays");
}
