//! Files and directories.

use crate::support::files;
use oms_core::SystemClock;
use oms_dsc::configuration::Configuration;
use oms_dsc::node::{self, ResourceOutcome, ResourceStatus};
use oms_dsc::resource::{FileResource, Registry};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

/// A document of one file resource with these properties.
fn one(properties: &str) -> Arc<Configuration> {
    class("MSFT_FileDirectoryConfiguration", properties)
}

fn class(class: &str, properties: &str) -> Arc<Configuration> {
    let text = format!(
        "instance of {class} {{ ResourceID = \"[File]x\"; {properties} }};
         instance of OMI_ConfigurationDocument {{ Version = \"2.0.0\"; }};"
    );
    Arc::new(Configuration::parse("test", text.as_bytes()).expect(&text))
}

struct Folder {
    folder: tempfile::TempDir,
    resources: Registry,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let files = FileResource::within(folder.path()).expect("a root");
        Self { resources: Registry::new().with(Arc::new(files)), folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    async fn test(&self, configuration: &Arc<Configuration>) -> ResourceStatus {
        node::test(Arc::clone(configuration), &self.resources, &SystemClock).await.remove(0)
    }

    async fn apply(&self, configuration: &Arc<Configuration>) -> ResourceStatus {
        node::apply(Arc::clone(configuration), &self.resources, &SystemClock).await.remove(0)
    }

    /// Tests without effect, applies, and finds nothing more to do.
    async fn converge(&self, configuration: &Arc<Configuration>) -> ResourceStatus {
        let before = self.test(configuration).await;
        assert_eq!(before.outcome, ResourceOutcome::Different, "{before:?}");
        let done = self.apply(configuration).await;
        assert_eq!(done.outcome, ResourceOutcome::Corrected, "{done:?}");
        let again = self.apply(configuration).await;
        assert_eq!(again.outcome, ResourceOutcome::InDesiredState, "{again:?}");
        done
    }

    async fn fail(&self, configuration: &Arc<Configuration>, reason: &str) {
        let status = self.apply(configuration).await;
        assert_eq!(status.outcome, ResourceOutcome::Failed, "{status:?}");
        let error = status.error.unwrap_or_default();
        assert!(error.contains(reason), "{error}");
    }
}

#[tokio::test]
async fn contents_are_written_and_drift_is_corrected() {
    let folder = Folder::new();
    let path = folder.path("a/b/motd");
    let configuration = one(&format!("DestinationPath = \"{path}\"; Contents = \"hello\\n\";"));
    folder.converge(&configuration).await;
    assert_eq!(fs::read_to_string(&path).expect("a file"), "hello\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("a mode");
    fs::write(&path, "drift").expect("written");
    let status = folder.converge(&configuration).await;
    assert_eq!(status.differences[0].property, "Contents");
    assert_eq!(status.differences[0].found, "5 bytes");
    let mode = fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o640, "a file keeps its mode");
    let names: Vec<_> = fs::read_dir(folder.path("a/b")).expect("a folder").collect();
    assert_eq!(names.len(), 1, "nothing is left beside it");
}

#[tokio::test]
async fn every_type_appears_and_goes() {
    let folder = Folder::new();
    let (file, dir, link) = (folder.path("file"), folder.path("dir"), folder.path("link"));
    let present = |path: &str, kind: &str, more: &str| {
        one(&format!("DestinationPath = \"{path}\"; Type = \"{kind}\"; {more}"))
    };
    folder.converge(&present(&file, "File", "Mode = \"0600\";")).await;
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o7777, 0o600);
    folder.converge(&present(&file, "File", "Mode = \"644\";")).await;
    folder.converge(&present(&dir, "Directory", "Mode = \"0700\";")).await;
    assert!(Path::new(&dir).is_dir());
    let target = format!("SourcePath = \"{file}\";");
    folder.converge(&present(&link, "SymbolicLink", &target)).await;
    assert_eq!(fs::read_link(&link).expect("a link").display().to_string(), file);
    let found = node::get(&present(&file, "File", ""), &folder.resources).await.expect("a look");
    assert_eq!(found[0].1["Mode"], "0644");
    assert_eq!(found[0].1["Ensure"], "present");

    // What is of another type, or not empty, goes only by force.
    let absent = |path: &str, more: &str| {
        one(&format!("DestinationPath = \"{path}\"; Ensure = \"Absent\"; {more}"))
    };
    folder.fail(&present(&file, "Directory", ""), "Force is needed").await;
    folder.converge(&present(&file, "Directory", "Force = True;")).await;
    fs::write(Path::new(&dir).join("inside"), "x").expect("written");
    symlink(folder.folder.path(), Path::new(&dir).join("loop")).expect("a link");
    folder.fail(&absent(&dir, ""), "Force is needed").await;
    folder.fail(&absent(&dir, "Type = \"Directory\";"), "directory that is not empty").await;
    folder.converge(&absent(&dir, "Type = \"Directory\"; Force = True;")).await;
    assert!(Path::new(&link).is_symlink(), "a link inside was not followed");
    folder.converge(&absent(&link, "Type = \"SymbolicLink\"; SourcePath = \"/x\";")).await;
    assert!(!Path::new(&link).is_symlink());
    let found = node::get(&absent(&link, ""), &folder.resources).await.expect("a look");
    assert_eq!(found[0].1["Ensure"], "absent");
}

#[tokio::test]
async fn a_file_is_copied_and_compared_as_its_class_says() {
    let folder = Folder::new();
    let (source, to) = (folder.path("source"), folder.path("to"));
    fs::write(&source, "one").expect("written");
    let properties = format!("DestinationPath = \"{to}\"; SourcePath = \"{source}\";");
    let windows = one(&properties);
    let summed = one(&format!("{properties} Checksum = \"SHA-256\";"));
    let nx = class("MSFT_nxFileResource", &properties);
    folder.converge(&windows).await;
    fs::write(&source, "two").expect("written");
    assert!(folder.test(&windows).await.is_in_desired_state(), "the name alone counts");
    folder.converge(&summed).await;
    fs::write(&to, "xyz").expect("written");
    folder.converge(&nx).await;
    assert_eq!(fs::read_to_string(&to).expect("a copy"), "two");
    fs::remove_file(&source).expect("removed");
    folder.fail(&nx, "no such source").await;
}

#[tokio::test]
async fn nothing_outside_of_the_root_is_touched() {
    let folder = Folder::new();
    let outside = tempfile::tempdir().expect("a folder");
    fs::create_dir(outside.path().join("sub")).expect("a folder");
    let victim = outside.path().join("sub/victim");
    fs::write(&victim, "safe").expect("written");
    symlink(outside.path(), folder.folder.path().join("door")).expect("a link");
    symlink(&victim, folder.folder.path().join("alias")).expect("a link");
    let write = |path: &str| one(&format!("DestinationPath = \"{path}\"; Contents = \"x\";"));
    for (path, reason) in [
        (victim.display().to_string(), "outside of the allowed root"),
        (folder.path("../x"), "not an absolute path without `..`"),
        ("relative".to_owned(), "not an absolute path"),
        ("C:\\\\Windows\\\\x".to_owned(), "not an absolute path"),
        ("/".to_owned(), "the root cannot be"),
        (folder.folder.path().display().to_string(), "outside of the allowed root"),
        (folder.path("door/sub/victim"), "outside of the allowed root"),
        (folder.path("door/new/deep/file"), "outside of the allowed root"),
        (folder.path("alias"), "Force is needed"),
    ] {
        folder.fail(&write(&path), reason).await;
    }
    // By force the link itself is replaced, not what it leads to.
    let force =
        format!("DestinationPath = \"{}\"; Contents = \"x\"; Force = True;", folder.path("alias"));
    folder.converge(&one(&force)).await;
    let link = format!(
        "DestinationPath = \"{}\"; Type = \"SymbolicLink\"; SourcePath = \"{}\";",
        folder.path("link"),
        victim.display()
    );
    folder.fail(&one(&link), "outside of the allowed root").await;
    let copy = format!(
        "DestinationPath = \"{}\"; SourcePath = \"{}\";",
        folder.path("copy"),
        victim.display()
    );
    folder.fail(&one(&copy), "outside of the allowed root").await;
    assert_eq!(fs::read_to_string(&victim).expect("there"), "safe");
    assert!(!outside.path().join("new").exists());
}

#[tokio::test]
async fn what_cannot_be_done_says_so_by_name() {
    let folder = Folder::new();
    let path = folder.path("x");
    for (properties, reason) in [
        ("Owner = \"root\";", "property of a file is not supported. name=`Owner of [File]x`"),
        ("Recurse = True;", "name=`Recurse of [File]x`"),
        ("Mode = \"u=rw\";", "name=`Mode `u=rw` of [File]x`"),
        ("Checksum = \"ModifiedDate\";", "name=`Checksum `modifieddate` of [File]x`"),
        ("Ensure = \"maybe\";", "[File]x has Ensure: maybe"),
        ("Type = \"pipe\";", "[File]x has Type: pipe"),
        ("Mode = \"9\";", "[File]x has Mode: 9"),
        ("Contents = 5;", "[File]x has Contents: an integer"),
        ("Type = \"SymbolicLink\";", "[File]x has SourcePath: missing for a link"),
        ("Contents = \"a\"; SourcePath = \"/b\";", "given together with SourcePath"),
    ] {
        let configuration = one(&format!("DestinationPath = \"{path}\"; {properties}"));
        folder.fail(&configuration, reason).await;
    }
    folder.fail(&one(""), "[File]x has DestinationPath: missing").await;
    folder.fail(&class("MSFT_ServiceResource", ""), "name=`MSFT_ServiceResource`").await;
    // What is set to nothing asks for nothing.
    let empty = "Owner = \"\"; Recurse = False; Attributes = {}; Credential = NULL;";
    folder.converge(&one(&format!("DestinationPath = \"{path}\"; {empty}"))).await;
}

#[tokio::test]
async fn an_interrupted_write_is_done_again() {
    let folder = Folder::new();
    let path = folder.path("x");
    let text = files("test", &[("x", &path, "new")]);
    let configuration = Arc::new(Configuration::parse("test", text.as_bytes()).expect("valid"));
    folder.converge(&configuration).await;
    // What a crash before the rename leaves behind.
    let left = fs::read_dir(folder.folder.path()).expect("a folder").count();
    fs::remove_file(&path).expect("removed");
    let temporary = format!(".oms-new-{:08x}", crc32c::crc32c(b"x"));
    fs::write(folder.path(&temporary), "half").expect("written");
    folder.converge(&configuration).await;
    assert_eq!(fs::read_dir(folder.folder.path()).expect("a folder").count(), left);
}
