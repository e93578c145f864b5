//! Archives that are unpacked and taken out again.

use crate::module::Zip;
use crate::system::{System, instance};
use oms_dsc::node;
use std::fs;
use std::path::Path;

fn nx(system: &System, more: &str) -> std::sync::Arc<oms_dsc::configuration::Configuration> {
    let (from, to) = (system.path("a.zip"), system.path("to/here"));
    let paths = format!("SourcePath = \"{from}\"; DestinationPath = \"{to}\"; {more}");
    instance("MSFT_nxArchiveResource", &paths)
}

#[tokio::test]
async fn an_archive_is_unpacked_kept_and_taken_out() {
    let system = System::new();
    let zip = Zip::of(&[("a", b"1"), ("sub/b", b"22"), ("sub/deep/c", b"333")]).finish();
    fs::write(system.path("a.zip"), zip).expect("written");
    let status = system.converge(&nx(&system, "")).await;
    assert_eq!(status.differences[0].property, "Ensure of a");
    assert_eq!(system.read("to/here/sub/deep/c"), "333");

    // Half of it is not all of it, and what is more stays. What differs is replaced by force.
    fs::remove_dir_all(system.path("to/here/sub/deep")).expect("removed");
    system.write("to/here/more", "mine");
    system.converge(&nx(&system, "")).await;
    system.write("to/here/a", "drift");
    system.fail(&nx(&system, ""), "Force is needed to replace").await;
    let status = system.converge(&nx(&system, "Force = True;")).await;
    assert_eq!(status.differences[0].to_string(), "Contents of a is 5 bytes, desired is 1 bytes");
    let found = node::get(&nx(&system, ""), &system.resources).await.expect("a look");
    assert_eq!((&found[0].1["Files"], &found[0].1["FilesPresent"]), (&3.into(), &3.into()));

    // Windows compares names, unless it is to validate.
    system.write("to/here/a", "drift");
    let windows = |more: &str| {
        let (from, to) = (system.path("a.zip"), system.path("to/here"));
        let paths = format!("Path = \"{from}\"; Destination = \"{to}\"; {more}");
        instance("MSFT_ArchiveResource", &paths)
    };
    system.stay(&windows("")).await;
    system.converge(&windows("Validate = True; Checksum = \"SHA-256\"; Force = True;")).await;
    assert_eq!(system.read("to/here/a"), "1");
    system.converge(&nx(&system, "Ensure = \"Absent\";")).await;
    assert!(!Path::new(&system.path("to/here/sub")).exists());
    assert_eq!(system.read("to/here/more"), "mine");
}

#[tokio::test]
async fn what_would_leave_the_destination_is_refused_whole() {
    let system = System::new();
    for name in ["../x", "/x", "a/../../x", "c:x"] {
        let zip = Zip::of(&[("good", b"1"), (name, b"2")]).finish();
        fs::write(system.path("a.zip"), zip).expect("written");
        system.fail(&nx(&system, "Force = True;"), "module package is not valid").await;
    }
    assert!(!Path::new(&system.path("to")).exists() && !Path::new(&system.path("x")).exists());
    // A link at the destination leads nowhere else.
    let outside = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(system.path("to/here")).expect("folders");
    let door = system.path("to/here/sub");
    std::os::unix::fs::symlink(outside.path(), door).expect("a link");
    let zip = Zip::of(&[("sub/b", b"2")]).finish();
    fs::write(system.path("a.zip"), zip).expect("written");
    system.fail(&nx(&system, "Force = True;"), "outside of the allowed root").await;
    assert_eq!(fs::read_dir(outside.path()).expect("a folder").count(), 0);

    for (bytes, why) in [
        (&b"\x1f\x8b tar"[..], "it does not unpack as gzip"),
        (b"\x28\xb5\x2f\xfd", "it does not unpack as zstd"),
        (b"\xfd7zXZ\0", "archive compressed by xz is not supported"),
        (b"BZh9", "archive compressed by bzip2 is not supported"),
        (b"none", "archive that is neither zip nor tar is not supported"),
        (b"", "archive that is neither zip nor tar is not supported"),
    ] {
        fs::write(system.path("a.zip"), bytes).expect("written");
        system.fail(&nx(&system, ""), why).await;
    }
    system.fail(&nx(&system, "Checksum = \"mtime\";"), "name=`Checksum `mtime` of [Thing]x`").await;
    fs::remove_file(system.path("a.zip")).expect("removed");
    system.fail(&nx(&system, ""), "no such archive").await;
}

/// A tar archive of one executable file, as bytes.
fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0006775");
    block[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    block[148..156].fill(b' ');
    block[156] = b'0';
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block.extend_from_slice(content);
    block.resize(block.len().next_multiple_of(512) + 1_024, 0);
    block
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut stream = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    stream.write_all(bytes).expect("packed");
    stream.finish().expect("packed")
}

#[tokio::test]
async fn a_tar_archive_is_unpacked_also_compressed() {
    use std::os::unix::fs::PermissionsExt as _;
    let archive = tar("./sub/tool", b"#!/bin/sh\n");
    let zstd = zstd::encode_all(&*archive, 0).expect("packed");
    let (head, rest) = archive.split_at(700);
    let parts = [gzip(head), gzip(rest)].concat();
    for packed in [archive.clone(), gzip(&archive), parts, zstd] {
        let system = System::new();
        fs::write(system.path("a.zip"), packed).expect("written");
        system.converge(&nx(&system, "")).await;
        let tool = system.path("to/here/sub/tool");
        let mode = || fs::metadata(&tool).expect("there").permissions().mode() & 0o7777;
        assert_eq!((mode(), &*system.read("to/here/sub/tool")), (0o755, "#!/bin/sh\n"));
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o777)).expect("a mode");
        let status = system.converge(&nx(&system, "Force = True;")).await;
        let difference = status.differences[0].to_string();
        assert_eq!(difference, "Mode of sub/tool is 0777, desired is 0755");
        assert_eq!(mode(), 0o755);
        system.converge(&nx(&system, "Ensure = \"Absent\";")).await;
        assert!(!Path::new(&tool).exists());
    }
    let system = System::new();
    fs::write(system.path("a.zip"), gzip(&tar("../x", b"1"))).expect("written");
    system.fail(&nx(&system, "Force = True;"), "its path leads out of its folder").await;
    assert!(!Path::new(&system.path("to")).exists());
    let cut = gzip(&archive);
    fs::write(system.path("a.zip"), &cut[..cut.len() - 4]).expect("written");
    system.fail(&nx(&system, ""), "it does not unpack as gzip").await;
}

#[tokio::test]
async fn links_do_not_lead_an_archive_out_of_its_destination() {
    let mut system = System::new();
    system.resources = oms_dsc::resource::Registry::standard(None).expect("resources");
    fs::create_dir_all(system.path("to/here")).expect("folders");
    fs::create_dir(system.path("beside")).expect("a folder");
    std::os::unix::fs::symlink("../../beside", system.path("to/here/sub")).expect("a link");
    fs::write(system.path("a.zip"), Zip::of(&[("sub/b", b"2")]).finish()).expect("written");
    system.fail(&nx(&system, "Force = True;"), "outside of the allowed root").await;
    assert_eq!(fs::read_dir(system.path("beside")).expect("a folder").count(), 0);
    system.write("beside/b", "mine");
    system.fail(&nx(&system, "Ensure = \"Absent\";"), "outside of the allowed root").await;
    assert_eq!(system.read("beside/b"), "mine");
    // An absolute one is refused by name, also where it leads below the destination.
    fs::remove_file(system.path("to/here/sub")).expect("removed");
    fs::create_dir(system.path("to/here/v1")).expect("a folder");
    std::os::unix::fs::symlink(system.path("to/here/v1"), system.path("to/here/sub"))
        .expect("a link");
    system.fail(&nx(&system, "Force = True;"), "or behind an absolute link. path=`").await;
    assert_eq!(fs::read_dir(system.path("to/here/v1")).expect("a folder").count(), 0);
    // One within the destination does as it says, and so does the destination itself.
    fs::remove_file(system.path("to/here/sub")).expect("removed");
    std::os::unix::fs::symlink("v1", system.path("to/here/sub")).expect("a link");
    system.converge(&nx(&system, "")).await;
    assert_eq!(system.read("to/here/v1/b"), "2");
    fs::remove_dir_all(system.path("to/here")).expect("removed");
    std::os::unix::fs::symlink("../beside", system.path("to/here")).expect("a link");
    system.converge(&nx(&system, "Force = True;")).await;
    assert_eq!(system.read("beside/sub/b"), "2");
    system.converge(&nx(&system, "Ensure = \"Absent\";")).await;
    assert_eq!(system.read("beside/b"), "mine");
    assert!(!Path::new(&system.path("beside/sub")).exists());
}

#[tokio::test]
async fn an_archive_is_not_lost_to_its_own_entry() {
    let system = System::new();
    system.write("to/a/kept", "mine");
    let zip = Zip::of(&[("a", b"1")]).finish();
    fs::write(system.path("to/a/a.zip"), &zip).expect("written");
    let (from, to) = (system.path("to/a/a.zip"), system.path("to"));
    let paths = format!("SourcePath = \"{from}\"; DestinationPath = \"{to}\"; Force = True;");
    system.fail(&instance("MSFT_nxArchiveResource", &paths), "holds the archive").await;
    assert_eq!(fs::read(&from).expect("kept"), zip);
    assert_eq!(system.read("to/a/kept"), "mine");
}

#[tokio::test]
async fn an_archive_is_no_larger_than_a_package() {
    let system = System::new();
    let file = fs::File::create(system.path("a.zip")).expect("made");
    file.set_len(300 << 20).expect("a length");
    let limit = format!("limit=`{}`", oms_dsc::module::MODULE_BYTES_MAX);
    system.fail(&nx(&system, ""), &limit).await;
}
