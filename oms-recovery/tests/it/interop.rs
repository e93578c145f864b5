//! A real file system on the replicated disk, judged by e2fsprogs.

use oms_recovery::machine::disk::{BlockDevice, export_raw};
use oms_recovery::recovery_point::{Consistency, PointChoice};
use oms_recovery::{ProtectedItem, RecoveryVault, ReplicationPolicy};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const DISK_BYTES: u64 = 24 << 20;
const BLOCK: usize = 4096;

/// Runs a program of e2fsprogs; fails by its name if it is absent.
fn run(program: &str, arguments: &[&str]) -> String {
    let path = ["/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{program} of e2fsprogs is not installed"));
    let output = Command::new(path).args(arguments).output().expect("start");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}{errors}");
    text
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Every file below a folder.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.file_name().is_some_and(|name| name == "lost+found") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("below").to_owned();
                files.insert(name, std::fs::read(&path).expect("a file"));
            }
        }
    }
    files
}

/// A guest whose file system is changed by debugfs on a copy of its disk, block by block through
/// the protected disk.
struct Guest {
    dir: PathBuf,
    files: BTreeMap<PathBuf, Vec<u8>>,
    count: u32,
}

impl Guest {
    /// Writes files into the file system that `device` holds.
    fn write_files(&mut self, device: &dyn BlockDevice, files: &[(&str, Vec<u8>)]) {
        self.count += 1;
        let copy = self.dir.join(format!("guest{}.img", self.count));
        export_raw(device, &copy).expect("export");
        for (index, (name, bytes)) in files.iter().enumerate() {
            let source = self.dir.join(format!("source{}-{index}", self.count));
            std::fs::write(&source, bytes).expect("write");
            let (name, path) = (PathBuf::from(name), text(&source));
            if self.files.insert(name.clone(), bytes.clone()).is_some() {
                run("debugfs", &["-w", "-R", &format!("rm {}", text(&name)), text(&copy)]);
            }
            let request = format!("write {path} {}", text(&name));
            run("debugfs", &["-w", "-R", &request, text(&copy)]);
        }
        let changed = std::fs::read(&copy).expect("read");
        let mut before = vec![0; BLOCK];
        for (index, block) in changed.chunks(BLOCK).enumerate() {
            let offset = (index * BLOCK) as u64;
            device.read_at(offset, &mut before[..block.len()]).expect("read");
            if before[..block.len()] != *block {
                device.write_at(offset, block).expect("write");
            }
        }
    }

    /// Checks an exported disk with e2fsck and compares every file with what was written.
    fn check(&mut self, device: &dyn BlockDevice, files: &BTreeMap<PathBuf, Vec<u8>>) {
        self.count += 1;
        let image = self.dir.join(format!("check{}.img", self.count));
        export_raw(device, &image).expect("export");
        run("e2fsck", &["-fn", text(&image)]);
        let folder = self.dir.join(format!("check{}", self.count));
        std::fs::create_dir(&folder).expect("a folder");
        run("debugfs", &["-R", &format!("rdump / {}", text(&folder)), text(&image)]);
        let found = tree(&folder);
        assert_eq!(found.keys().collect::<Vec<_>>(), files.keys().collect::<Vec<_>>());
        assert!(found == *files, "contents of files");
    }
}

async fn protect(dir: &Path) -> (Guest, std::sync::Arc<ProtectedItem>) {
    let source = dir.join("source");
    std::fs::create_dir_all(source.join("etc")).expect("a folder");
    std::fs::write(source.join("etc/hostname"), "web1\n").expect("write");
    std::fs::write(source.join("index.html"), "<p>first</p>".repeat(5000)).expect("write");
    let image = dir.join("web1.img");
    let file = std::fs::File::create_new(&image).expect("create");
    file.set_len(DISK_BYTES).expect("length");
    run("mke2fs", &["-q", "-t", "ext4", "-d", text(&source), text(&image)]);
    let vault = RecoveryVault::builder(dir.join("vault")).build().expect("a vault");
    let policy = ReplicationPolicy::default();
    let item = vault
        .enable_protection("web1", &image, &dir.join("replica"), policy)
        .await
        .expect("enable");
    item.replicate().await.expect("replicate");
    (Guest { dir: dir.to_owned(), files: tree(&source), count: 0 }, item)
}

#[tokio::test]
async fn a_file_system_goes_there_and_comes_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut guest, item) = protect(folder.path()).await;
    guest.check(&*item.device().expect("device"), &guest.files.clone());

    let mut then = Vec::new();
    for round in 0..3_u8 {
        let page = vec![b'a' + round; 100_000 * usize::from(round + 1)];
        let name = format!("page{round}.html");
        let motd = format!("round {round}\n").into_bytes();
        guest.write_files(&*item.device().expect("device"), &[(&name, page), ("motd", motd)]);
        let point = item.take_recovery_point(Consistency::CrashConsistent).await.expect("point");
        then.push((point, guest.files.clone()));
    }
    for (point, files) in &then {
        let drill = item.test_failover(PointChoice::Point(point.id)).await.expect("drill");
        guest.check(&*drill.device(), files);
        item.cleanup_test_failover("e2fsck is clean").await.expect("cleanup");
    }

    guest.write_files(
        &*item.device().expect("device"),
        &[("last", b"written before the failover".to_vec())],
    );
    item.planned_failover().await.expect("failover");
    guest.check(&*item.device().expect("device"), &guest.files.clone());
    guest.write_files(&*item.device().expect("device"), &[("there", vec![7; 300_000])]);
    item.commit().await.expect("commit");
    guest.check(&*item.device().expect("device"), &guest.files.clone());

    item.reprotect().await.expect("reprotect");
    guest
        .write_files(&*item.device().expect("device"), &[("motd", b"about to come back".to_vec())]);
    item.failback().await.expect("failback");
    item.commit().await.expect("complete");
    item.device().expect("device").flush().expect("flush");
    // The primary's own file, as a hypervisor would attach it.
    run("e2fsck", &["-fn", text(&folder.path().join("web1.img"))]);
    guest.check(&*item.device().expect("device"), &guest.files.clone());
}

/// Any prefix of a file system's writes is a disk after a power loss: with a journal to replay it
/// comes up. debugfs does not journal, so here whole updates are the unit.
#[tokio::test]
async fn an_unplanned_failover_has_the_file_system_of_the_last_point() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut guest, item) = protect(folder.path()).await;
    guest.write_files(&*item.device().expect("device"), &[("kept", vec![1; 50_000])]);
    item.take_recovery_point(Consistency::CrashConsistent).await.expect("point");
    let files = guest.files.clone();
    guest.write_files(&*item.device().expect("device"), &[("lost", vec![2; 50_000])]);
    item.unplanned_failover(
        PointChoice::LatestProcessed,
        oms_recovery::SourceOperations::NotRequired,
    )
    .await
    .expect("failover");
    guest.check(&*item.device().expect("device"), &files);
}
