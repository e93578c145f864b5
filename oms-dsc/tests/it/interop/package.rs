//! Packages, by the real `dpkg` and `apt-get`, in a system of their own and without a network.

use crate::system::{System, instance};
use oms_dsc::node;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds a package of one file; answers its path.
fn build(folder: &Path, name: &str, version: &str, script: Option<&str>) -> PathBuf {
    let tree = folder.join(format!("{name}-{version}"));
    fs::create_dir_all(tree.join("DEBIAN")).expect("folders");
    fs::create_dir_all(tree.join("usr/share").join(name)).expect("folders");
    fs::write(tree.join("usr/share").join(name).join("version"), version).expect("written");
    let control = format!(
        "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: nobody <n@localhost>\n\
         Description: a test\n"
    );
    fs::write(tree.join("DEBIAN/control"), control).expect("written");
    if let Some(script) = script {
        use std::os::unix::fs::PermissionsExt as _;
        let path = tree.join("DEBIAN/preinst");
        fs::write(&path, script).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    let package = folder.join(format!("{name}_{version}_all.deb"));
    let built = Command::new("dpkg-deb")
        .args(["--root-owner-group", "-b"])
        .args([&tree, &package])
        .output()
        .expect("dpkg-deb starts");
    assert!(built.status.success(), "{built:?}");
    package
}

/// A system with a source of packages in a folder.
fn system() -> System {
    let system = System::new();
    let root = system.root();
    for folder in [
        "etc/apt/apt.conf.d",
        "etc/apt/preferences.d",
        "etc/apt/trusted.gpg.d",
        "var/lib/dpkg/info",
        "var/lib/dpkg/updates",
        "var/lib/dpkg/triggers",
        "var/lib/apt/lists/partial",
        "var/log/apt",
        "var/cache/apt/archives/partial",
        "repo",
    ] {
        fs::create_dir_all(root.join(folder)).expect("folders");
    }
    system.write("var/lib/dpkg/status", "");
    system.write("var/lib/dpkg/available", "");
    let repository = root.join("repo").display().to_string();
    system.write("etc/apt/sources.list", &format!("deb [trusted=yes] file:{repository} ./\n"));
    system
}

fn publish(system: &System, packages: &[PathBuf]) {
    let mut index = String::new();
    for package in packages {
        let control = Command::new("dpkg-deb").arg("-f").arg(package).output().expect("it starts");
        let bytes = fs::read(package).expect("a package");
        let name = package.file_name().expect("a name").to_string_lossy().into_owned();
        index += &format!(
            "{}Filename: ./{name}\nSize: {}\nSHA256: {}\n\n",
            String::from_utf8(control.stdout).expect("text"),
            bytes.len(),
            oms_dsc::protocol::Checksum::of(&bytes).to_string().to_lowercase(),
        );
    }
    system.write("repo/Packages", &index);
}

#[tokio::test]
async fn packages_are_installed_updated_and_removed() {
    let system = system();
    let repository = system.root().join("repo");
    let first = build(&repository, "oms-test", "1.0", None);
    publish(&system, &[first]);
    let package = |properties: &str| instance("MSFT_nxPackageResource", properties);
    let present = package("Name = \"oms-test\"; PackageManager = \"apt\";");
    // The lists know nothing yet; they are brought up to date when they have to be.
    system.converge(&present).await;
    assert_eq!(system.read("usr/share/oms-test/version"), "1.0");
    let found = node::get(&present, &system.resources).await.expect("a look");
    assert_eq!((&found[0].1["Ensure"], &found[0].1["Version"]), (&"present".into(), &"1.0".into()));

    // A file of another version is another state.
    let second = build(&repository, "oms-test", "2.0", None);
    let path = second.display().to_string();
    let file = package(&format!("Name = \"oms-test\"; FilePath = \"{path}\";"));
    let status = system.converge(&file).await;
    assert_eq!(status.differences[0].to_string(), "Version is 1.0, desired is 2.0");
    assert_eq!(system.read("usr/share/oms-test/version"), "2.0");

    // One that a crash left unpacked is not there, and is brought to its end.
    let text = system.read("var/lib/dpkg/status");
    let half = text.replace("install ok installed", "install ok unpacked");
    assert_ne!(half, text);
    system.write("var/lib/dpkg/status", &half);
    let status = system.converge(&present).await;
    assert_eq!(status.differences[0].found, "unpacked");

    let absent = package("Name = \"oms-test\"; Ensure = \"Absent\";");
    system.converge(&absent).await;
    assert!(!Path::new(&system.path("usr/share/oms-test/version")).exists());

    let broken = build(&repository, "oms-broken", "1.0", Some("#!/no/such/shell\n"));
    let broken = broken.display().to_string();
    system.fail(&package("Name = \"no-such-package\";"), "Unable to locate package").await;
    let wrong = format!("Name = \"oms-test\"; FilePath = \"{broken}\";");
    system.fail(&package(&wrong), "holds `oms-broken`, and not `oms-test`").await;
    let file = format!("Name = \"oms-broken\"; FilePath = \"{broken}\";");
    system.fail(&package(&file), "exit code 1").await;
    for (properties, reason) in [
        ("Name = \"-o\";", "`-o` is not the name of a package"),
        ("Name = \"oms-test-\";", "[Thing]x has Name: `oms-test-` ends with `-`"),
        ("Name = \"a\"; PackageManager = \"yum\";", "name=`PackageManager `yum` of [Thing]x`"),
        ("Name = \"a\"; PackageGroup = True;", "name=`PackageGroup of [Thing]x`"),
        ("Name = \"a\"; FilePath = \"/etc/passwd\";", "outside of the allowed root"),
    ] {
        system.fail(&package(properties), reason).await;
    }
}

/// What a name says to `apt-get` beside being a name is not done.
#[tokio::test]
async fn a_name_is_a_name_and_no_expression() {
    let system = system();
    let repository = system.root().join("repo");
    let names = ["oms-test", "oms-other", "oms.test++"];
    publish(&system, &names.map(|name| build(&repository, name, "1.0", None)));
    let package = |name: &str, more: &str| {
        instance("MSFT_nxPackageResource", &format!("Name = \"{name}\"; {more}"))
    };
    system.converge(&package("oms-test", "")).await;
    let before = system.read("var/lib/dpkg/status");
    // As a regular expression this would be every package that there is.
    for (name, reason) in [
        ("oms.*", "`oms.*` is not the name of a package"),
        ("oms.other", "Unable to locate package oms.other"),
        ("oms-other+", "no such package. name=`oms-other+`"),
        ("oms-test-", "`oms-test-` ends with `-`"),
    ] {
        system.fail(&package(name, ""), reason).await;
        assert_eq!(system.read("var/lib/dpkg/status"), before, "{name}");
    }
    for name in ["oms.test++", "oms-other"] {
        system.converge(&package(name, "")).await;
        system.converge(&package(name, "Ensure = \"Absent\";")).await;
    }
}

/// A kill in the middle of `dpkg` leaves notes that nobody took over yet, of any package.
#[tokio::test]
async fn what_was_interrupted_is_brought_to_its_end_first() {
    let system = system();
    let repository = system.root().join("repo");
    let packages = ["oms-test", "oms-half"].map(|name| build(&repository, name, "1.0", None));
    publish(&system, &packages);
    let package = |name: &str| instance("MSFT_nxPackage", &format!("Name = \"{name}\";"));
    system.converge(&package("oms-half")).await;
    let text = system.read("var/lib/dpkg/status");
    let half = text.replace("install ok installed", "install ok unpacked");
    assert_ne!(half, text);
    system.write("var/lib/dpkg/updates/0000", half.trim_start());
    system.converge(&package("oms-test")).await;
    system.stay(&package("oms-half")).await;
    assert!(!Path::new(&system.path("var/lib/dpkg/updates/0000")).exists());
}

/// What other programs of the system read of what was written.
#[tokio::test]
async fn tools_of_the_system_take_accounts_and_keys() {
    let system = System::new();
    system.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
    system.write("etc/shadow", "root:*:20000:0:99999:7:::\n");
    system.write("etc/group", "root:x:0:\n");
    system.write("etc/gshadow", "root:*::\n");
    for folder in ["home/jo", "root", "bin"] {
        fs::create_dir_all(system.path(folder)).expect("a folder");
    }
    fs::copy("/bin/true", system.path("bin/sh")).expect("a shell, for who looks for one");
    let key = system.path("key");
    let made =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &key]).status();
    assert!(made.expect("ssh-keygen starts").success());
    let public = system.read("key.pub");
    for (class, properties) in [
        (
            "MSFT_nxUser",
            "UserName = \"jo\"; FullName = \"Jo\"; HomeDirectory = \"/home/jo\";".to_owned(),
        ),
        ("MSFT_nxGroup", "GroupName = \"crew\"; Members = {\"jo\"};".to_owned()),
    ] {
        system.converge(&instance(class, &properties)).await;
    }
    for program in ["/usr/sbin/pwck", "/usr/sbin/grpck"] {
        let checked = Command::new(program).args(["-r", "-R"]).arg(system.root()).output();
        let checked = checked.expect("it starts");
        assert!(checked.status.success(), "{program}: {checked:?}");
    }
    if rustix::process::geteuid().is_root() {
        let properties =
            format!("KeyComment = \"jo@desk\"; Username = \"jo\"; Key = \"{}\";", public.trim());
        system.converge(&instance("MSFT_nxSshAuthorizedKeys", &properties)).await;
        let file = system.path("home/jo/.ssh/authorized_keys");
        let listed = Command::new("ssh-keygen").args(["-l", "-f", &file]).output().expect("starts");
        assert!(
            String::from_utf8_lossy(&listed.stdout).contains(" jo@desk (ED25519)"),
            "{listed:?}"
        );
    }
}
