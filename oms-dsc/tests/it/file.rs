//! Files and directories.

use crate::support::files;
use crate::system::{System, instance, mapped};
use oms_dsc::configuration::Configuration;
use oms_dsc::node;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

/// A document of one file resource with these properties.
fn one(properties: &str) -> Arc<Configuration> {
    instance("MSFT_FileDirectoryConfiguration", properties)
}

#[tokio::test]
async fn contents_are_written_and_drift_is_corrected() {
    let folder = System::new();
    let path = folder.path("a/b/motd");
    let configuration = one(&format!("DestinationPath = \"{path}\"; Contents = \"hello\\n\";"));
    folder.converge(&configuration).await;
    assert_eq!(fs::read_to_string(&path).expect("a file"), "hello\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("a mode");
    fs::write(&path, "drift").expect("written");
    let status = folder.converge(&configuration).await;
    assert_eq!(status.differences[0].property, "Contents");
    assert!(status.differences[0].found.starts_with("5 bytes, SHA-256 "), "{status:?}");
    let diff = status.differences[0].diff.as_deref();
    assert_eq!(diff, Some("-drift (no line break)\n+hello\n"));
    let mode = fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o640, "a file keeps its mode");
    let names: Vec<_> = fs::read_dir(folder.path("a/b")).expect("a folder").collect();
    assert_eq!(names.len(), 1, "nothing is left beside it");
}

#[tokio::test]
async fn every_type_appears_and_goes() {
    let folder = System::new();
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
    symlink(folder.root(), Path::new(&dir).join("loop")).expect("a link");
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
    let folder = System::new();
    let (source, to) = (folder.path("source"), folder.path("to"));
    fs::write(&source, "one").expect("written");
    let properties = format!("DestinationPath = \"{to}\"; SourcePath = \"{source}\";");
    let windows = one(&properties);
    let summed = one(&format!("{properties} Checksum = \"SHA-256\";"));
    let nx = instance("MSFT_nxFileResource", &properties);
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
    let folder = System::new();
    let outside = tempfile::tempdir().expect("a folder");
    fs::create_dir(outside.path().join("sub")).expect("a folder");
    let victim = outside.path().join("sub/victim");
    fs::write(&victim, "safe").expect("written");
    symlink(outside.path(), folder.root().join("door")).expect("a link");
    symlink(&victim, folder.root().join("alias")).expect("a link");
    let write = |path: &str| one(&format!("DestinationPath = \"{path}\"; Contents = \"x\";"));
    for (path, reason) in [
        (victim.display().to_string(), "outside of the allowed root"),
        (folder.path("../x"), "not an absolute path without `..`"),
        ("relative".to_owned(), "not an absolute path"),
        ("C:\\\\Windows\\\\x".to_owned(), "not an absolute path"),
        ("/".to_owned(), "the root cannot be"),
        (folder.root().display().to_string(), "outside of the allowed root"),
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
    let folder = System::new();
    let path = folder.path("x");
    for (properties, reason) in [
        ("Owner = \"nobody-at-all\";", "no such user. name=`nobody-at-all`"),
        ("Attributes = {\"Hidden\"};", "property is not supported. name=`Attributes of [Thing]x`"),
        ("Group = \"nobody-at-all\";", "no such group. name=`nobody-at-all`"),
        ("ModifiedDate = \"2026\";", "name=`ModifiedDate, which is only read, of [Thing]x`"),
        ("Links = \"some\";", "[Thing]x has Links: some"),
        ("Mode = \"u=rw\";", "name=`Mode `u=rw` of [Thing]x`"),
        ("Checksum = \"CRC\";", "name=`Checksum `crc` of [Thing]x`"),
        ("Ensure = \"maybe\";", "[Thing]x has Ensure: maybe"),
        ("Type = \"pipe\";", "[Thing]x has Type: pipe"),
        ("Mode = \"9\";", "[Thing]x has Mode: 9"),
        ("Contents = 5;", "[Thing]x has Contents: an integer"),
        ("Type = \"SymbolicLink\";", "[Thing]x has SourcePath: missing for a link"),
        ("Contents = \"a\"; SourcePath = \"/b\";", "given together with SourcePath"),
    ] {
        let configuration = one(&format!("DestinationPath = \"{path}\"; {properties}"));
        folder.fail(&configuration, reason).await;
    }
    folder.fail(&one(""), "[Thing]x has DestinationPath: missing").await;
    folder.fail(&instance("MSFT_ServiceResource", ""), "name=`MSFT_ServiceResource`").await;
    // What is set to nothing asks for nothing.
    let empty = "Owner = \"\"; Recurse = False; Attributes = {}; Credential = NULL;";
    folder.converge(&one(&format!("DestinationPath = \"{path}\"; {empty}"))).await;
}

#[tokio::test]
async fn an_interrupted_write_is_done_again() {
    let folder = System::new();
    let path = folder.path("x");
    let text = files("test", &[("x", &path, "new")]);
    let configuration = Arc::new(Configuration::parse("test", text.as_bytes()).expect("valid"));
    folder.converge(&configuration).await;
    // What a crash before the rename leaves behind.
    let left = fs::read_dir(folder.root()).expect("a folder").count();
    fs::remove_file(&path).expect("removed");
    for slot in [0, 3] {
        let left = folder.path(&format!("{}-{slot}", temporary("x")));
        fs::write(left, "half").expect("written");
    }
    let link = folder.path(&format!("{}-3.link", temporary("x")));
    symlink("nowhere", link).expect("a link");
    folder.converge(&configuration).await;
    assert_eq!(fs::read_dir(folder.root()).expect("a folder").count(), left);
}

fn tree(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        match fs::symlink_metadata(&path).expect("there").file_type() {
            kind if kind.is_symlink() => {
                found
                    .push(format!("{name} -> {}", fs::read_link(&path).expect("a link").display()));
            }
            kind if kind.is_dir() => {
                found.extend(tree(&path).into_iter().map(|inside| format!("{name}/{inside}")));
                found.push(format!("{name}/"));
            }
            _ => found.push(format!("{name}={}", fs::read_to_string(&path).expect("text"))),
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_directory_is_a_copy_of_its_source() {
    let folder = System::new();
    let (source, to) = (folder.path("source"), folder.path("to"));
    fs::create_dir_all(folder.path("source/sub/deep")).expect("folders");
    fs::create_dir(folder.path("elsewhere")).expect("a folder");
    for (name, text) in
        [("source/a", "1"), ("source/sub/b", "2"), ("source/sub/deep/c", "3"), ("elsewhere/e", "5")]
    {
        fs::write(folder.path(name), text).expect("written");
    }
    fs::set_permissions(folder.path("source/a"), fs::Permissions::from_mode(0o750)).expect("mode");
    symlink("../a", folder.path("source/sub/link")).expect("a link");
    symlink(folder.path("elsewhere"), folder.path("source/other")).expect("a link");
    let copy = |class: &str, more: &str| {
        instance(
            class,
            &format!(
                "DestinationPath = \"{to}\"; SourcePath = \"{source}\"; Type = \"Directory\"; {more}"
            ),
        )
    };
    let nx = |more: &str| copy("MSFT_nxFileResource", more);

    // Without Recurse, what is directly in it; then all of it.
    folder.converge(&nx("Links = \"ignore\";")).await;
    assert_eq!(tree(Path::new(&to)), ["a=1"]);
    let mode = fs::metadata(folder.path("to/a")).expect("there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o750, "a new file is as its source is");
    folder.converge(&nx("Recurse = True; Links = \"manage\";")).await;
    let other = format!("other -> {}", folder.path("elsewhere"));
    let whole = ["a=1", &other, "sub/", "sub/b=2", "sub/deep/", "sub/deep/c=3", "sub/link -> ../a"];
    assert_eq!(tree(Path::new(&to)), whole);
    // Over links, what they lead to: where a link is in the way, by force.
    let follow = nx("Recurse = True; Links = \"follow\";");
    folder.fail(&follow, "Force is needed to replace").await;
    folder.converge(&nx("Recurse = True; Force = True;")).await;
    let whole = [
        "a=1",
        "other/",
        "other/e=5",
        "sub/",
        "sub/b=2",
        "sub/deep/",
        "sub/deep/c=3",
        "sub/link=1",
    ];
    assert_eq!(tree(Path::new(&to)), whole);
    assert_eq!(fs::read_to_string(folder.path("elsewhere/e")).expect("there"), "5");

    // Half of a copy is no copy, what changed is told by name, and what is more stays.
    fs::remove_dir_all(folder.path("to/sub/deep")).expect("removed");
    fs::write(folder.path("to/sub/b"), "drift").expect("written");
    fs::write(folder.path("to/more"), "mine").expect("written");
    let status = folder.converge(&follow).await;
    let told: Vec<&str> = status.differences.iter().map(|d| d.property.as_str()).collect();
    assert_eq!(told, ["Contents of sub/b", "Ensure of sub/deep"]);
    assert!(tree(Path::new(&to)).contains(&"more=mine".to_owned()));
    // Windows compares names alone, unless it is told to look; a new file of the source counts.
    fs::write(folder.path("to/sub/b"), "drift").expect("written");
    let windows =
        |more: &str| copy("MSFT_FileDirectoryConfiguration", &format!("Recurse = True; {more}"));
    assert!(folder.test(&windows("")).await.is_in_desired_state());
    fs::write(folder.path("source/new"), "n").expect("written");
    folder.converge(&windows("MatchSource = True;")).await;
    folder.converge(&windows("Checksum = \"SHA-256\";")).await;
    assert_eq!(fs::read_to_string(folder.path("to/sub/b")).expect("there"), "2");

    folder.fail(&copy("MSFT_nxFile", "Contents = \"x\";"), "given for a directory").await;
    fs::remove_dir_all(&source).expect("removed");
    folder.fail(&follow, "no such source").await;
}

#[tokio::test]
async fn times_of_a_source_are_compared_and_taken_over() {
    let folder = System::new();
    let (source, to) = (folder.path("source"), folder.path("to"));
    fs::write(&source, "one").expect("written");
    fs::write(&to, "two").expect("written");
    let compared = |checksum: &str| {
        one(&format!(
            "DestinationPath = \"{to}\"; SourcePath = \"{source}\"; Checksum = \"{checksum}\";"
        ))
    };
    let modified = |path: &str| fs::metadata(path).expect("there").modified().expect("a time");
    let past = modified(&source) - std::time::Duration::from_secs(3_600);
    fs::File::options().write(true).open(&to).expect("opens").set_modified(past).expect("a time");
    folder.converge(&compared("ModifiedDate")).await;
    assert_eq!(
        (fs::read_to_string(&to).expect("there"), modified(&to)),
        ("one".into(), modified(&source))
    );
    // Who writes the same time on another text is believed, as the kind of comparison says.
    let time = modified(&source);
    let file = fs::File::options().write(true).open(&to).expect("opens");
    std::io::Write::write_all(&mut &file, b"xyz").expect("written");
    file.set_modified(time).expect("a time");
    assert!(folder.test(&compared("mtime")).await.is_in_desired_state());
    // The source was changed later than the copy was, as soon as the file system's clock can tell.
    let changed = |path: &str| {
        use std::os::unix::fs::MetadataExt as _;
        let found = fs::metadata(path).expect("there");
        (found.ctime(), found.ctime_nsec())
    };
    while changed(&source) <= changed(&to) {
        fs::write(&source, "three").expect("written");
    }
    folder.converge(&compared("ctime")).await;
    assert_eq!(fs::read_to_string(&to).expect("there"), "three");
}

#[tokio::test]
async fn owners_and_modes_go_as_deep_as_they_are_told_to() {
    let folder = System::new();
    folder.write("etc/passwd", &format!("root:x:0:0::/root:/bin/sh\njo:x:{}:1::/:\n", mapped().0));
    folder.write("etc/group", &format!("root:x:0:\ncrew:x:{}:\n", mapped().1));
    fs::create_dir_all(folder.path("dir/sub")).expect("folders");
    fs::write(folder.path("dir/sub/file"), "x").expect("written");
    symlink("file", folder.path("dir/sub/link")).expect("a link");
    fs::set_permissions(folder.path("dir"), fs::Permissions::from_mode(0o700)).expect("a mode");
    let dir = folder.path("dir");
    let owned = |more: &str| {
        one(&format!(
            "DestinationPath = \"{dir}\"; Type = \"Directory\"; Owner = \"jo\"; Group = \"crew\"; {more}"
        ))
    };
    let of = |name: &str| {
        use std::os::unix::fs::MetadataExt as _;
        let found = fs::symlink_metadata(folder.path(name)).expect("there");
        (found.mode() & 0o7777, found.uid(), found.gid())
    };
    let (uid, gid) = mapped();
    folder.converge(&owned("Mode = \"0750\";")).await;
    assert_eq!(of("dir"), (0o750, uid, gid));
    let before = of("dir/sub/file").0;
    assert_ne!(before, 0o640);
    folder.converge(&owned("Recurse = True; Mode = \"rw-r-----\";")).await;
    assert_eq!(of("dir"), (0o750, uid, gid), "who may read it may enter it");
    assert_eq!(of("dir/sub"), (0o750, uid, gid));
    assert_eq!(of("dir/sub/file"), (0o640, uid, gid));
    assert_eq!((of("dir/sub/link").1, of("dir/sub/link").2), (uid, gid));
    let found = node::get(&owned(""), &folder.resources).await.expect("a look");
    assert_eq!((&found[0].1["Owner"], &found[0].1["Group"]), (&"jo".into(), &"crew".into()));
    // A file that is written anew has its owner before anybody can see it.
    let path = folder.path("new");
    let file = one(&format!(
        "DestinationPath = \"{path}\"; Contents = \"x\"; Owner = \"{uid}\"; Mode = \"4700\";"
    ));
    folder.converge(&file).await;
    assert_eq!((of("new").0, of("new").1), (0o4700, uid));
}

/// What the names of temporary files beside `name` begin with.
fn temporary(name: &str) -> String {
    format!(".oms-new-{:08x}", crc32c::crc32c(name.as_bytes()))
}

#[tokio::test]
async fn writers_of_one_path_leave_each_other_alone() {
    let folder = System::new();
    let path = folder.path("shared");
    let write = async |letter: &str| {
        for length in 1..=60 {
            let text = letter.repeat(length * 100);
            let wanted = one(&format!("DestinationPath = \"{path}\"; Contents = \"{text}\";"));
            let status = folder.apply(&wanted).await;
            // Another may have been the last one.
            let error = status.error.unwrap_or_default();
            assert!(error.is_empty() || error.starts_with("still different after"), "{error}");
            let found = fs::read_to_string(&path).expect("there");
            let first = found.get(..1).expect("a reader never sees an empty file");
            assert_eq!(found, first.repeat(found.len()), "one writer's text, whole");
            assert_eq!(found.len() % 100, 0, "one writer's text, whole");
        }
    };
    tokio::join!(write("a"), write("b"), write("c"));
    let names: Vec<_> = fs::read_dir(folder.root()).expect("a folder").collect();
    assert_eq!(names.len(), 1, "nothing is left beside it: {names:?}");
}

#[tokio::test]
async fn what_another_writer_holds_is_not_taken_from_it() {
    let folder = System::new();
    let path = folder.path("x");
    let held = folder.path(&format!("{}-0", temporary("x")));
    fs::write(&held, "another's half").expect("written");
    let writer = fs::File::open(&held).expect("opens");
    rustix::fs::flock(&writer, rustix::fs::FlockOperation::LockExclusive).expect("a lock");
    let wanted = |text: &str| one(&format!("DestinationPath = \"{path}\"; Contents = \"{text}\";"));
    folder.converge(&wanted("new")).await;
    assert_eq!(fs::read_to_string(&held).expect("there"), "another's half");
    // That writer is killed.
    drop(writer);
    folder.converge(&wanted("newer")).await;
    assert!(!Path::new(&held).exists());
}

#[tokio::test]
async fn a_new_copy_is_as_closed_as_its_source() {
    let folder = System::new();
    let (source, to) = (folder.path("key"), folder.path("to"));
    fs::write(&source, "secret").expect("written");
    let set = |path: &str, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    };
    let mode = |path: &str| fs::metadata(path).expect("there").permissions().mode() & 0o7777;
    let copy =
        |more: &str| one(&format!("DestinationPath = \"{to}\"; SourcePath = \"{source}\"; {more}"));
    set(&source, 0o600);
    folder.converge(&copy("")).await;
    assert_eq!(mode(&to), 0o600);
    // One that is there stays as it was, and what is said is worth more.
    set(&to, 0o640);
    fs::write(&source, "changed").expect("written");
    folder.converge(&copy("Checksum = \"SHA-256\";")).await;
    assert_eq!(mode(&to), 0o640);
    fs::remove_file(&to).expect("removed");
    folder.converge(&copy("Mode = \"0444\";")).await;
    assert_eq!(mode(&to), 0o444);
    // The copy belongs to another than its source: nobody gets that one's rights by it.
    fs::remove_file(&to).expect("removed");
    set(&source, 0o4755);
    folder.converge(&copy("")).await;
    assert_eq!(mode(&to), 0o755);
    let tree = format!(
        "DestinationPath = \"{}\"; SourcePath = \"{}\"; Type = \"Directory\"; Recurse = True;",
        folder.path("tree"),
        folder.path("keys")
    );
    fs::create_dir(folder.path("keys")).expect("a folder");
    fs::write(folder.path("keys/tool"), "x").expect("written");
    set(&folder.path("keys/tool"), 0o4750);
    // Directories too: what is open in a closed one is so to nobody else.
    fs::create_dir(folder.path("keys/sealed")).expect("a folder");
    set(&folder.path("keys/sealed"), 0o2550);
    set(&folder.path("keys"), 0o700);
    folder.converge(&one(&tree)).await;
    assert_eq!(mode(&folder.path("tree/tool")), 0o750);
    assert_eq!(mode(&folder.path("tree")), 0o700);
    assert_eq!(mode(&folder.path("tree/sealed")), 0o750);
}

#[tokio::test]
async fn links_lead_where_the_system_says() {
    let folder = System::new();
    folder.write("secret", "wrong");
    folder.write("real/secret", "right");
    folder.write("real/deep/file", "x");
    symlink("real/deep", folder.path("short")).expect("a link");
    symlink("../secret", folder.path("real/deep/link")).expect("a link");
    symlink("..", folder.path("real/deep/up")).expect("a link");
    let copy = |from: &str, more: &str| {
        let (from, to) = (folder.path(from), folder.path("to"));
        one(&format!("DestinationPath = \"{to}\"; SourcePath = \"{from}\"; {more}"))
    };
    folder.converge(&copy("short/link", "")).await;
    assert_eq!(folder.read("to"), "right");
    assert_eq!(fs::read_to_string(folder.path("short/link")).expect("read"), "right");
    fs::remove_file(folder.path("to")).expect("removed");
    folder.converge(&copy("short/up", "Type = \"Directory\"; Links = \"ignore\";")).await;
    assert_eq!(tree(Path::new(&folder.path("to"))), ["secret=right"]);
    // Out of the root it leads nowhere.
    symlink("../..", folder.path("real/out")).expect("a link");
    symlink("../../x", folder.path("real/out-file")).expect("a link");
    let out = copy("real/out", "Type = \"Directory\"; Checksum = \"SHA-256\";");
    folder.fail(&out, "outside of the allowed root").await;
    fs::remove_dir_all(folder.path("to")).expect("removed");
    folder.fail(&copy("real/out-file", ""), "outside of the allowed root").await;
}

#[test]
fn links_lead_there_while_others_rename_files() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let folder = System::new();
    folder.write("real/file", "x");
    fs::create_dir(folder.path("real/deep")).expect("a folder");
    symlink("../file", folder.path("real/deep/link")).expect("a link");
    let (from, to) = (folder.path("real/deep/link"), folder.path("to"));
    let copy =
        one(&format!("DestinationPath = \"{to}\"; SourcePath = \"{from}\"; Checksum = \"MD5\";"));
    runtime.block_on(folder.converge(&copy));
    let other = tempfile::tempdir().expect("a folder");
    let names = ["a", "b"].map(|name| other.path().join(name));
    fs::create_dir(&names[0]).expect("a folder");
    let ends = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ends.load(std::sync::atomic::Ordering::Relaxed) {
                fs::rename(&names[0], &names[1]).expect("renamed");
                fs::rename(&names[1], &names[0]).expect("renamed");
            }
        });
        let looks = (0..300).map(|_| runtime.block_on(folder.test(&copy)).error);
        let failed: Vec<String> = looks.flatten().collect();
        ends.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(failed, Vec::<String>::new());
    });
}

#[tokio::test]
async fn a_directory_is_not_copied_into_itself() {
    let folder = System::new();
    folder.write("srv/a", "1");
    folder.write("srv/sub/b", "2");
    fs::create_dir(folder.path("other")).expect("a folder");
    symlink("srv", folder.path("alias")).expect("a link");
    symlink(folder.path("srv"), folder.path("other/door")).expect("a link");
    let copy = |from: &str, to: &str| {
        let (from, to) = (folder.path(from), folder.path(to));
        let paths = format!("DestinationPath = \"{to}\"; SourcePath = \"{from}\";");
        instance("MSFT_nxFile", &format!("{paths} Type = \"Directory\"; Recurse = True;"))
    };
    let before = tree(folder.root());
    for (from, to) in
        [("srv", "srv/copy"), ("srv", "alias/new/copy"), ("alias", "srv/sub/copy"), ("srv", "srv")]
    {
        folder.fail(&copy(from, to), "would be copied into itself").await;
    }
    assert_eq!(tree(folder.root()), before, "nothing was made");
    // Over a link in the source it shows on the way.
    folder.fail(&copy("other", "srv/copy"), "would be copied into itself").await;
    assert!(!Path::new(&folder.path("srv/copy/door/copy/door")).exists());
    fs::create_dir(folder.path("round")).expect("a folder");
    symlink(".", folder.path("round/again")).expect("a link");
    folder.fail(&copy("round", "to"), "would be copied into itself").await;
    assert!(!Path::new(&folder.path("to/again/again")).exists());
    // Beside it, and out of it, there is room.
    folder.converge(&copy("srv/sub", "srv/sub-copy")).await;
    folder.converge(&copy("srv/sub", "srv")).await;
}

/// A source may lie in the directory that becomes its copy, but what holds it does not give way to it.
#[tokio::test]
async fn a_copy_does_not_remove_its_own_source() {
    let folder = System::new();
    for file in ["app/app/app", "app/app/other", "out/real/real", "out/deep/z/z", "srv/plain"] {
        folder.write(file, file);
    }
    symlink("../out/real/real", folder.path("srv/real")).expect("a link");
    fs::create_dir(folder.path("links")).expect("a folder");
    symlink("../out/deep/z", folder.path("links/deep")).expect("a link");
    let before = tree(folder.root());
    for (from, to, kind, more) in [
        ("app/app", "app", "Directory", ""),
        ("app/app", "app", "Directory", "Recurse = True;"),
        ("app/app/app", "app", "File", ""),
        ("app/app/app", "app", "SymbolicLink", ""),
        // The entry leads into what has its name there, and then the directory that it leads to.
        ("srv", "out", "Directory", "Links = \"Follow\";"),
        ("links", "out", "Directory", "Links = \"Follow\"; Recurse = True;"),
    ] {
        let (from, to) = (folder.path(from), folder.path(to));
        let paths = format!("DestinationPath = \"{to}\"; SourcePath = \"{from}\";");
        let copy = format!("{paths} Type = \"{kind}\"; Force = True; {more}");
        let copy = instance("MSFT_nxFile", &copy);
        let looked = folder.test(&copy).await.error.unwrap_or_default();
        assert!(looked.contains("holds its source"), "{kind} {from}: {looked}");
        folder.fail(&copy, "holds its source").await;
        assert_eq!(tree(folder.root()), before, "{kind} {from}");
    }
}

#[tokio::test]
async fn many_differences_are_counted() {
    let folder = System::new();
    for number in 0..60 {
        folder.write(&format!("from/{number:02}"), "new");
        folder.write(&format!("to/{number:02}"), "old");
    }
    let (from, to) = (folder.path("from"), folder.path("to"));
    let paths =
        format!("DestinationPath = \"{to}\"; SourcePath = \"{from}\"; Type = \"Directory\";");
    let status = folder.converge(&instance("MSFT_nxFile", &paths)).await;
    assert_eq!(status.differences.len(), 51);
    assert_eq!(
        status.differences[49].diff.as_deref().map(str::lines).map(Iterator::count),
        Some(2)
    );
    assert_eq!(status.differences[50].to_string(), "more is 10 differences, desired is none");
}

#[tokio::test]
async fn owners_and_modes_pass_by_what_is_no_file() {
    use std::os::unix::fs::MetadataExt as _;
    let folder = System::new();
    let dir = folder.path("dir");
    folder.write("dir/file", "x");
    let _socket = std::os::unix::net::UnixListener::bind(folder.path("dir/socket")).expect("bound");
    let pipe = folder.path("dir/pipe");
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, 0o622.into(), 0).expect("a pipe");
    let of = |name: &str| {
        let found = fs::symlink_metadata(folder.path(name)).expect("there");
        (found.mode() & 0o7777, found.uid(), found.gid())
    };
    let modes = (of("dir/socket").0, of("dir/pipe").0);
    let (uid, gid) = mapped();
    folder
        .converge(&one(&format!(
            "DestinationPath = \"{dir}\"; Type = \"Directory\"; Recurse = True; Mode = \"0640\"; \
             Owner = \"{uid}\"; Group = \"{gid}\";"
        )))
        .await;
    assert_eq!(of("dir/file"), (0o640, uid, gid));
    assert_eq!(of("dir/socket"), (modes.0, uid, gid));
    assert_eq!(of("dir/pipe"), (modes.1, uid, gid));
}
