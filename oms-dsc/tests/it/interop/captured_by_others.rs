//! Captured conversations of real clients, and documents of others.
//!
//! `OMS_CONFORMANCE_DIR` names a folder with `golden/*.json` (conversations), beside which lie the
//! documents that clients have in them, and `mof/*.mof`. They are not part of this repository.

use crate::mof::read_and_print;
use crate::recorded::Replay;
use oms_dsc::configuration::Configuration;
use oms_dsc::protocol::Checksum;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    let root = std::env::var_os("OMS_CONFORMANCE_DIR");
    let root = root.expect("OMS_CONFORMANCE_DIR names a folder of conversations and documents");
    Path::new(&root).join(name)
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files.sort();
    assert!(!files.is_empty(), "no .{extension} in {folder:?}");
    files
}

#[test]
fn every_document_is_read_and_printed_back() {
    let (mut read, mut configurations, mut wrong) = (0, 0, Vec::new());
    let files = files(&folder("mof"), "mof");
    for path in &files {
        match read_and_print(&fs::read(path).expect("a document")) {
            Ok(document) => {
                read += 1;
                configurations += usize::from(Configuration::from_document(&document).is_ok());
            }
            Err(found) => wrong.push(format!("{}:{}", path.display(), found[0])),
        }
    }
    println!("{read} of {} documents read, {configurations} are configurations", files.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn captured_conversations_get_the_captured_answers() {
    let golden = folder("golden");
    let mut documents = BTreeMap::new();
    for path in files(&golden, "mof") {
        let bytes = fs::read(path).expect("a document");
        documents.insert(Checksum::of(&bytes), bytes);
    }
    let (mut equal, mut wrong) = (0, Vec::new());
    let conversations = files(&golden, "json");
    for path in &conversations {
        let text = fs::read_to_string(path).expect("a conversation");
        let conversation = serde_json::from_str(&text).expect("JSON");
        let replay = Replay::new(conversation, &golden, documents.clone()).await;
        let (_, differences) = replay.run().await;
        equal += usize::from(differences.is_empty());
        wrong.extend(differences.into_iter().map(|difference| format!("{path:?}\n{difference}")));
    }
    println!("{equal} of {} conversations answered as captured", conversations.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
