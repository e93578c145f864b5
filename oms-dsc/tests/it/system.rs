//! Resources of a whole system, whose files are below a folder of their own: users, groups, keys, lines,
//! variables, messages.

use oms_core::SystemClock;
use oms_dsc::configuration::Configuration;
use oms_dsc::node::{self, ResourceOutcome, ResourceStatus};
use oms_dsc::resource::Registry;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

/// A document of one resource with the id `[Thing]x`.
pub(crate) fn instance(class: &str, properties: &str) -> Arc<Configuration> {
    let text = format!(
        "instance of {class} {{ ResourceID = \"[Thing]x\"; {properties} }};
         instance of OMI_ConfigurationDocument {{ Version = \"2.0.0\"; }};"
    );
    Arc::new(Configuration::parse("test", text.as_bytes()).expect(&text))
}

/// Ids of a user and a group that this process may give files to: any, if it is root.
pub(crate) fn mapped() -> (u32, u32) {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if user == 0 { (1234, 5678) } else { (user, group) }
}

/// The files of a system in a folder.
pub(crate) struct System {
    folder: tempfile::TempDir,
    pub(crate) resources: Registry,
}

impl System {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let resources = Registry::standard(Some(folder.path())).expect("a root");
        Self { resources, folder }
    }

    /// With accounts as a new Debian has them, and one user.
    pub(crate) fn with_accounts() -> Self {
        let system = Self::new();
        system.write(
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n\
             jo:x:1000:1000:Jo,,,,:/home/jo:/bin/bash\n+nis\n",
        );
        system.write(
            "etc/shadow",
            "root:*:1:0:99999:7:::\ndaemon:*:1:0:99999:7:::\njo:!:1:0:99999:7:::\n",
        );
        system.write("etc/group", "root:x:0:\ndaemon:x:1:\nusers:x:100:jo\njo:x:1000:\n");
        system.write("etc/gshadow", "root:*::\ndaemon:*::\nusers:*::jo\njo:!::\n");
        system.write("etc/skel/.profile", "# new\n");
        fs::create_dir_all(system.path("home/jo")).expect("a home");
        system
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.root().join(name).display().to_string()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(path, text).expect("written");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.root().join(name)).expect(name)
    }

    /// Every file by its path, with mode, owner and contents.
    fn everything(&self) -> BTreeMap<String, (u32, u32, Vec<u8>)> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.root().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                let metadata = fs::symlink_metadata(&path).expect("there");
                let contents = match metadata.is_file() {
                    true => fs::read(&path).expect("read"),
                    false => Vec::new(),
                };
                if metadata.is_dir() {
                    folders.push(path.clone());
                }
                let name = path.display().to_string();
                found.insert(name, (metadata.mode(), metadata.uid(), contents));
            }
        }
        found
    }

    pub(crate) async fn test(&self, configuration: &Arc<Configuration>) -> ResourceStatus {
        node::test(Arc::clone(configuration), &self.resources, &SystemClock).await.remove(0)
    }

    pub(crate) async fn apply(&self, configuration: &Arc<Configuration>) -> ResourceStatus {
        node::apply(Arc::clone(configuration), &self.resources, &SystemClock).await.remove(0)
    }

    /// Tests without effect, applies, and finds nothing more to do.
    pub(crate) async fn converge(&self, configuration: &Arc<Configuration>) -> ResourceStatus {
        let untouched = self.everything();
        let before = self.test(configuration).await;
        assert_eq!(before.outcome, ResourceOutcome::Different, "{before:?}");
        assert_eq!(self.everything(), untouched, "a test changes nothing");
        let done = self.apply(configuration).await;
        assert_eq!(done.outcome, ResourceOutcome::Corrected, "{done:?}");
        self.stay(configuration).await;
        done
    }

    /// Applies, and nothing is to be done.
    pub(crate) async fn stay(&self, configuration: &Arc<Configuration>) {
        let before = self.everything();
        let again = self.apply(configuration).await;
        assert_eq!(again.outcome, ResourceOutcome::InDesiredState, "{again:?}");
        assert_eq!(self.everything(), before, "there was nothing to do");
    }

    pub(crate) async fn fail(&self, configuration: &Arc<Configuration>, reason: &str) {
        let status = self.apply(configuration).await;
        assert_eq!(status.outcome, ResourceOutcome::Failed, "{status:?}");
        let error = status.error.unwrap_or_default();
        assert!(error.contains(reason), "{error}");
    }
}

fn user(properties: &str) -> Arc<Configuration> {
    instance("MSFT_nxUserResource", properties)
}

fn group(properties: &str) -> Arc<Configuration> {
    instance("MSFT_nxGroupResource", properties)
}

/// Homes are given to their users, which root alone can do.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test]
async fn a_user_comes_changes_and_goes() {
    let system = System::with_accounts();
    if is_root() {
        let new = user("UserName = \"web\"; FullName = \"Web Server\"; Password = \"$6$x$y\";");
        system.converge(&new).await;
        let passwd = system.read("etc/passwd");
        assert!(
            passwd.ends_with("+nis\nweb:x:1001:1001:Web Server:/home/web:/bin/sh\n"),
            "{passwd}"
        );
        assert!(system.read("etc/shadow").contains("\nweb:$6$x$y:"));
        assert!(system.read("etc/group").ends_with("web:x:1001:\n"));
        assert!(system.read("etc/gshadow").ends_with("web:!::\n"));
        let home = fs::metadata(system.path("home/web")).expect("a home");
        assert_eq!((home.mode() & 0o7777, home.uid(), home.gid()), (0o700, 1001, 1001));
        let profile = fs::metadata(system.path("home/web/.profile")).expect("from the skeleton");
        assert_eq!(profile.uid(), 1001);
        let gone = user("UserName = \"web\"; Ensure = \"Absent\";");
        system.converge(&gone).await;
        assert!(
            !system.read("etc/passwd").contains("web") && !system.read("etc/group").contains("web")
        );
        assert!(Path::new(&system.path("home/web/.profile")).exists(), "a home is no account");
    }
    // What nobody asked about stays; each property is told and changed by itself.
    let shadow = system.read("etc/shadow");
    system.stay(&user("UserName = \"jo\"; FullName = \"Jo\";")).await;
    system.converge(&user("UserName = \"jo\"; Description = \"on call\"; GroupID = 100;")).await;
    assert!(
        system.read("etc/passwd").contains("\njo:x:1000:100:Jo,,,,on call:/home/jo:/bin/bash\n")
    );
    assert_eq!(system.read("etc/shadow"), shadow);
    for (properties, line) in [
        ("Password = \"$y$j9T$a$b\";", "jo:$y$j9T$a$b:1:"),
        ("Disabled = True;", "jo:!$y$j9T$a$b:1:"),
        ("Disabled = False; PasswordChangeRequired = True;", "jo:$y$j9T$a$b:0:"),
        ("Password = \"*\";", "jo:*:0:"),
    ] {
        system.converge(&user(&format!("UserName = \"jo\"; {properties}"))).await;
        assert!(system.read("etc/shadow").contains(line), "{properties}");
    }
    let found = node::get(&user("UserName = \"jo\";"), &system.resources).await.expect("a look");
    assert_eq!(found[0].1["Description"], "on call");
    assert!(!format!("{found:?}").contains('$'), "a hash is never shown");
    // Somebody who is gone from one file only is not gone.
    let text = system.read("etc/passwd").replace("jo:", "jim:");
    system.write("etc/passwd", &text);
    system.converge(&user("UserName = \"jo\"; Ensure = \"absent\";")).await;
    assert!(!system.read("etc/shadow").contains("jo:"));
    assert_eq!(system.read("etc/group"), "root:x:0:\ndaemon:x:1:\nusers:x:100:\njo:x:1000:\n");
}

/// A group that another resource looks after has the name of a user who should not be.
#[tokio::test]
async fn a_group_that_was_never_the_users_stays() {
    let system = System::with_accounts();
    let deploy = group("GroupName = \"deploy\";");
    let nobody = user("UserName = \"deploy\"; Ensure = \"Absent\";");
    system.converge(&deploy).await;
    system.stay(&nobody).await;
    system.stay(&deploy).await;
    // Nor does it go with a user of that name whose first group is another.
    system.write("etc/passwd", "deploy:x:1500:100::/home/deploy:/bin/sh\n");
    system.converge(&nobody).await;
    system.stay(&deploy).await;
    // A user's own group goes with the user, also at the second attempt, after a crash that left the
    // user and took the line of the group's password.
    system.write("etc/passwd", "jo:x:1000:1000::/home/jo:/bin/sh\n");
    system.write("etc/gshadow", "users:*::jo\ndeploy:!::\n");
    system.converge(&user("UserName = \"jo\"; Ensure = \"Absent\";")).await;
    assert_eq!(system.read("etc/gshadow"), "users:*::\ndeploy:!::\n");
    assert!(!system.read("etc/group").contains("jo"));
}

/// Several configurations are applied in one process at a time: none of them undoes another.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn accounts_that_are_changed_at_the_same_time_are_all_there() {
    const GROUPS: usize = 40;
    let system = Arc::new(System::with_accounts());
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..GROUPS {
        let system = Arc::clone(&system);
        tasks.spawn(async move {
            let new = format!("GroupName = \"g{index}\"; Members = {{\"jo\"}};");
            system.apply(&group(&new)).await
        });
    }
    while let Some(done) = tasks.join_next().await {
        let done = done.expect("it ends");
        assert_eq!(done.outcome, ResourceOutcome::Corrected, "{done:?}");
    }
    for file in ["etc/group", "etc/gshadow"] {
        let text = system.read(file);
        for index in 0..GROUPS {
            assert!(text.contains(&format!("\ng{index}:")), "g{index} is not in {file}: {text}");
        }
    }
}

/// Accounts of an old system: its names are of another character set. Everything that nobody asked
/// about is written as it was.
#[tokio::test]
async fn accounts_and_keys_that_are_not_utf8_keep_their_bytes() {
    let system = System::with_accounts();
    let (uid, gid) = mapped();
    let write = |name: &str, bytes: &[u8]| fs::write(system.path(name), bytes).expect("written");
    let read = |name: &str| fs::read(system.path(name)).expect("read");
    let jo = format!("jo:x:{uid}:{gid}:").into_bytes();
    write("etc/passwd", &[&*jo, b"J\xf6,Z\xfcrich,,:/home/jo:/bin/sh\n"].concat());
    write("etc/group", b"users:x:100:j\xfcrgen,jo\nm\xfcll:x:1001:jo\n");
    write("etc/gshadow", b"users:*:j\xfcrgen:j\xfcrgen,jo\n");
    let changed = "UserName = \"jo\"; Description = \"on call\"; HomeDirectory = \"/home/jo\";";
    system.converge(&user(changed)).await;
    let wanted = [&*jo, b"J\xf6,Z\xfcrich,,,on call:/home/jo:/bin/sh\n"].concat();
    assert_eq!(read("etc/passwd"), wanted);
    system.converge(&group("GroupName = \"users\"; MembersToExclude = {\"jo\"};")).await;
    assert_eq!(read("etc/group"), b"users:x:100:j\xfcrgen\nm\xfcll:x:1001:jo\n");
    assert_eq!(read("etc/gshadow"), b"users:*:j\xfcrgen:j\xfcrgen\n");

    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";
    let other = [b"command=\"/srv/\xe9t\xe9\" ", key.as_bytes(), b" andr\xe9\n"].concat();
    fs::create_dir(system.path("home/jo/.ssh")).expect("a folder");
    write("home/jo/.ssh/authorized_keys", &other);
    for name in ["home/jo/.ssh", "home/jo/.ssh/authorized_keys"] {
        std::os::unix::fs::chown(system.path(name), Some(uid), Some(gid)).expect("root may");
    }
    let properties = format!("KeyComment = \"desk\"; Username = \"jo\"; Key = \"{key}\";");
    system.converge(&instance("MSFT_nxSshAuthorizedKeys", &properties)).await;
    let wanted = [&*other, key.as_bytes(), b" desk\n"].concat();
    assert_eq!(read("home/jo/.ssh/authorized_keys"), wanted);

    system.converge(&user("UserName = \"jo\"; Ensure = \"Absent\";")).await;
    assert_eq!(read("etc/group"), b"users:x:100:j\xfcrgen\nm\xfcll:x:1001:\n");
    // A home that is no text is no path that a configuration could name.
    write("etc/passwd", &[&*jo, b":/home/j\xf6:/bin/sh\n"].concat());
    system.fail(&user("UserName = \"jo\"; FullName = \"Jo\";"), "`jo` has a home that").await;
}

#[tokio::test]
async fn groups_have_the_members_that_they_should() {
    let system = System::with_accounts();
    system.converge(&group("GroupName = \"crew\"; PreferredGroupID = 2000;")).await;
    assert!(system.read("etc/group").ends_with("crew:x:2000:\n"));
    assert!(system.read("etc/gshadow").ends_with("crew:!::\n"));
    for (properties, members) in [
        ("MembersToInclude = {\"jo\", \"daemon\"};", "daemon,jo"),
        ("MembersToExclude = {\"jo\"}; MembersToInclude = {\"root\"};", "daemon,root"),
        ("Members = {\"jo\"};", "jo"),
        ("Members = {};", ""),
    ] {
        system.converge(&group(&format!("GroupName = \"crew\"; {properties}"))).await;
        assert!(
            system.read("etc/group").contains(&format!("crew:x:2000:{members}\n")),
            "{properties}"
        );
        assert!(
            system.read("etc/gshadow").contains(&format!("crew:!::{members}\n")),
            "{properties}"
        );
    }
    for (properties, reason) in [
        (
            "GroupName = \"crew\"; Members = {\"nobody-at-all\"};",
            "no such user. name=`nobody-at-all`",
        ),
        (
            "GroupName = \"crew\"; Members = {\"jo\"}; MembersToExclude = {\"jo\"};",
            "given together",
        ),
        (
            "GroupName = \"crew\"; MembersToInclude = {\"jo\"}; MembersToExclude = {\"jo\"};",
            "also excluded: jo",
        ),
        ("GroupName = \"a:b\";", "`a:b` is not a name"),
        ("GroupName = \"jo\"; Ensure = \"Absent\";", "the primary group of the user `jo`"),
        ("GroupName = \"crew\"; Description = \"x\";", "name=`Description of [Thing]x`"),
    ] {
        system.fail(&group(properties), reason).await;
    }
    system.converge(&group("GroupName = \"crew\"; Ensure = \"Absent\";")).await;
    assert!(
        !system.read("etc/group").contains("crew") && !system.read("etc/gshadow").contains("crew")
    );
}

/// A home that is there already is a new user's own, as after a crash before the accounts were saved, or
/// root's.
#[tokio::test]
async fn a_new_user_gets_no_home_of_somebody_else() {
    if !is_root() {
        return;
    }
    let system = System::with_accounts();
    let web = user("UserName = \"web\";");
    fs::create_dir(system.path("home/web")).expect("a folder");
    let give = |id: u32| {
        std::os::unix::fs::chown(system.path("home/web"), Some(id), Some(id)).expect("root may");
    };
    give(1234);
    let before = system.read("etc/passwd");
    let refused = "the home /home/web of the new user `web` belongs to the id 1234";
    system.fail(&web, refused).await;
    let previewed = system.test(&web).await;
    assert!(previewed.error.is_some_and(|error| error.contains(refused)), "told beforehand too");
    assert_eq!(system.read("etc/passwd"), before);
    for id in [1001, 0] {
        give(id);
        system.converge(&web).await;
        system.converge(&user("UserName = \"web\"; Ensure = \"Absent\";")).await;
    }
    // A user who is there already may have one.
    give(1234);
    system.converge(&user("UserName = \"jo\"; HomeDirectory = \"/home/web\";")).await;
}

#[tokio::test]
async fn what_is_no_account_is_refused_by_name() {
    let system = System::with_accounts();
    let before = system.everything();
    for (properties, reason) in [
        ("UserName = \"../x\";", "`../x` is not a name"),
        ("UserName = \"jo\"; FullName = \"a:b\";", "a colon or a line break"),
        ("UserName = \"jo\"; Description = \"a, b\";", "[Thing]x has Description: a comma"),
        (
            "UserName = \"jo\"; Password = \"hunter2\";",
            "name=`Password that is neither a hash nor a credential of [Thing]x`",
        ),
        ("UserName = \"jo\"; GroupID = 77;", "no such group. name=`77`"),
        ("UserName = \"jo\"; HomeDirectory = \"x\";", "not an absolute path"),
        ("UserName = \"jo\"; HomeDirectory = \"/home/a:b\";", "has HomeDirectory: a colon"),
        (
            "UserName = \"jo\"; HomeDirectory = \"/jo\\nmallory:*:0:0::/:/bin/sh\";",
            "[Thing]x has HomeDirectory: a colon or a line break",
        ),
        (
            "UserName = \"jo\"; PasswordNeverExpires = True;",
            "name=`PasswordNeverExpires of [Thing]x`",
        ),
        ("", "[Thing]x has UserName: missing"),
    ] {
        system.fail(&user(properties), reason).await;
    }
    fs::remove_file(system.path("etc/.pwd.lock")).expect("a lock");
    assert_eq!(system.everything(), before);
    System::new().fail(&user("UserName = \"jo\";"), "no such file of accounts").await;
}

/// Where links of a user lead out of the home, nothing is written over them.
#[tokio::test]
async fn keys_of_a_user_come_change_and_go() {
    let system = System::with_accounts();
    let (user, group) = mapped();
    system.write("etc/passwd", &format!("jo:x:{user}:{group}::/home/jo:/bin/sh\n"));
    let (one, two) = (
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8f",
    );
    let key = |comment: &str, more: &str| {
        instance(
            "MSFT_nxSshAuthorizedKeysResource",
            &format!("KeyComment = \"{comment}\"; Username = \"jo\"; {more}"),
        )
    };
    let present = |comment: &str, text: &str| key(comment, &format!("Key = \"{text}\";"));
    system.converge(&present("jo@desk", one)).await;
    assert_eq!(system.read("home/jo/.ssh/authorized_keys"), format!("{one} jo@desk\n"));
    let of = |name: &str| {
        let found = fs::metadata(system.path(name)).expect("there");
        (found.mode() & 0o7777, found.uid(), found.gid())
    };
    assert_eq!(of("home/jo/.ssh"), (0o700, user, group));
    assert_eq!(of("home/jo/.ssh/authorized_keys"), (0o600, user, group));

    let mine = format!("# mine\nno-pty {two} other\n{two} jo@desk\n{one} jo@desk");
    system.write("home/jo/.ssh/authorized_keys", &mine);
    let restricted = format!("from=\\\"10.0.0.0/8\\\",no-pty {one}");
    system.converge(&present("jo@desk", &restricted)).await;
    let wanted = format!("# mine\nno-pty {two} other\nfrom=\"10.0.0.0/8\",no-pty {one} jo@desk\n");
    assert_eq!(system.read("home/jo/.ssh/authorized_keys"), wanted);
    // The server for SSH would not read what others may write.
    let open = fs::Permissions::from_mode(0o666);
    fs::set_permissions(system.path("home/jo/.ssh/authorized_keys"), open).expect("a mode");
    system.converge(&present("jo@desk", &restricted)).await;
    assert_eq!(of("home/jo/.ssh/authorized_keys").0, 0o644);
    system.converge(&key("jo@desk", "Ensure = \"absent\";")).await;
    let wanted = format!("# mine\nno-pty {two} other\n");
    assert_eq!(system.read("home/jo/.ssh/authorized_keys"), wanted);

    for (text, reason) in [
        ("ssh-rsa AAAA", "not a public key"),
        ("hello", "not a public key"),
        ("", "[Thing]x has Key: missing"),
    ] {
        system.fail(&present("x", text), reason).await;
    }
    system.fail(&present("a\\nb", one), "no text of one line").await;
    let stranger = format!("KeyComment = \"x\"; Username = \"nobody\"; Key = \"{one}\";");
    system.fail(&instance("MSFT_nxSshAuthorizedKeys", &stranger), "no such user").await;

    // More blanks than one make no other key of it: it goes when it should.
    let spaced = one.replace(' ', " \t ");
    system.write("home/jo/.ssh/authorized_keys", &format!("no-pty  {spaced}   jo@desk\n{two} x\n"));
    system.converge(&key("jo@desk", "Ensure = \"absent\";")).await;
    assert_eq!(system.read("home/jo/.ssh/authorized_keys"), format!("{two} x\n"));

    fs::create_dir(system.path("victim")).expect("a folder");
    fs::remove_dir_all(system.path("home/jo/.ssh")).expect("removed");
    symlink(system.path("victim"), system.path("home/jo/.ssh")).expect("a link");
    system.fail(&present("x", one), "outside of the allowed root").await;
    fs::remove_file(system.path("home/jo/.ssh")).expect("removed");
    fs::create_dir(system.path("home/jo/.ssh")).expect("a folder");
    system.write("victim/keys", "safe");
    let file = system.path("home/jo/.ssh/authorized_keys");
    symlink(system.path("victim/keys"), file).expect("a link");
    let refused = system.apply(&present("x", one)).await;
    assert_eq!(refused.outcome, ResourceOutcome::Failed, "{refused:?}");
    assert_eq!(system.read("victim/keys"), "safe");
}

/// What a node that was killed in the middle left, or somebody who copied keys as root.
#[tokio::test]
async fn keys_and_their_folder_become_the_users() {
    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";
    let system = System::with_accounts();
    let (user, group) = mapped();
    system.write("etc/passwd", &format!("jo:x:{user}:{group}::/home/jo:/bin/sh\n"));
    let properties = format!("KeyComment = \"desk\"; Username = \"jo\"; Key = \"{KEY}\";");
    let present = instance("MSFT_nxSshAuthorizedKeys", &properties);
    let of = |name: &str| {
        let found = fs::metadata(system.path(name)).expect("there");
        (found.mode() & 0o7777, found.uid(), found.gid())
    };
    // The folder is a link of the user's own, to another folder of the home.
    fs::create_dir_all(system.path("home/jo/dotfiles/ssh")).expect("a folder");
    let dotfiles = system.path("home/jo/dotfiles/ssh");
    std::os::unix::fs::chown(dotfiles, Some(user), Some(group)).expect("may be given");
    symlink("dotfiles/ssh", system.path("home/jo/.ssh")).expect("a link");
    system.apply(&present).await;
    system.stay(&present).await;
    let file = "home/jo/dotfiles/ssh/authorized_keys";
    assert_eq!(system.read(file), format!("{KEY} desk\n"));
    assert!(fs::symlink_metadata(system.path("home/jo/.ssh")).expect("there").is_symlink());
    // The server takes no keys where others write in the home or between; the user's own group is nobody
    // else's, as long as nobody else is in it.
    let passwd = format!("jo:x:{user}:{group}::/home/jo:/bin/sh\n");
    for name in ["home/jo", "home/jo/dotfiles"] {
        let path = system.path(name);
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode));
        std::os::unix::fs::chown(&path, None, Some(group)).expect("may be given");
        for (found, members, others, wanted) in [
            (0o757, "", "", Some("0755")),
            (0o775, "", "", None),
            (0o775, "jo", "", None),
            (0o777, "", "", Some("0775")),
            (0o775, "jo,kim", "", Some("0755")),
            (0o775, "", "kim", Some("0755")),
        ] {
            mode(found).expect("a mode");
            system.write("etc/group", &format!("root:x:0:\njo:x:{group}:{members}\n"));
            let other = format!("{others}:x:4321:{group}::/home/kim:/bin/sh\n");
            let other = if others.is_empty() { "" } else { &other };
            system.write("etc/passwd", &format!("{passwd}{other}"));
            match wanted {
                Some(wanted) => {
                    let told = format!("Mode of {path} is {found:04o}, desired is {wanted}");
                    system.fail(&present, &told).await;
                    assert_eq!(of(name).0, found, "it is not changed");
                }
                None => system.stay(&present).await,
            }
        }
        mode(0o755).expect("a mode");
        system.write("etc/passwd", &passwd);
        system.stay(&present).await;
    }
    // And so is the file.
    fs::rename(system.path(file), system.path("home/jo/dotfiles/keys")).expect("moved");
    symlink("../keys", system.path(file)).expect("a link");
    system.stay(&present).await;
    let second = properties.replace("desk", "lap");
    system.converge(&instance("MSFT_nxSshAuthorizedKeys", &second)).await;
    assert_eq!(system.read("home/jo/dotfiles/keys"), format!("{KEY} desk\n{KEY} lap\n"));
    assert_eq!(of("home/jo/dotfiles/keys"), (0o600, user, group));
    if !is_root() {
        return;
    }
    let file = "home/jo/.ssh/authorized_keys";
    fs::remove_file(system.path("home/jo/.ssh")).expect("removed");
    system.write(file, &format!("# of root\n{KEY} desk\n"));
    for (name, mode) in [("home/jo/.ssh", 0o700), (file, 0o600)] {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(system.path(name), mode).expect("a mode");
    }
    let status = system.converge(&present).await;
    let told: Vec<&str> = status.differences.iter().map(|d| &*d.property).collect();
    assert_eq!(told, ["Owner of .ssh", "Owner of authorized_keys"]);
    assert_eq!((of("home/jo/.ssh").1, of(file)), (user, (0o600, user, group)));
    assert_eq!(system.read(file), format!("# of root\n{KEY} desk\n"));
    // A user can give any file in the home that name; what is secret in it stays so.
    system.write(file, "password = hunter2\n");
    std::os::unix::fs::chown(system.path(file), Some(0), Some(0)).expect("root may");
    system.fail(&present, "belongs to the user 0 and holds what is no key").await;
    assert_eq!((of(file).1, system.read(file)), (0, "password = hunter2\n".to_owned()));
}

/// A user can lead the name of the folder to any folder of the home, and what root keeps on purpose so
/// that the user adds no keys is not given away.
#[tokio::test]
async fn what_root_keeps_in_a_home_is_not_given_away() {
    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";
    if !is_root() {
        return;
    }
    let system = System::with_accounts();
    let (user, group) = mapped();
    system.write("etc/passwd", &format!("jo:x:{user}:{group}::/home/jo:/bin/sh\n"));
    let properties = format!("KeyComment = \"desk\"; Username = \"jo\"; Key = \"{KEY}\";");
    let present = instance("MSFT_nxSshAuthorizedKeys", &properties);
    let lap = instance("MSFT_nxSshAuthorizedKeys", &properties.replace("desk", "lap"));
    let of = |name: &str| {
        let found = fs::metadata(system.path(name)).expect("there");
        (found.mode() & 0o7777, found.uid())
    };
    let set = |name: &str, mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(system.path(name), mode).expect("a mode");
    };
    let (folder, file) = ("home/jo/.ssh", "home/jo/.ssh/authorized_keys");

    // Closed to the user, so that nobody sees what is in it.
    system.write("home/jo/vault/secret", "hunter2");
    set("home/jo/vault", 0o700);
    symlink("vault", system.path(folder)).expect("a link");
    system.fail(&present, "belongs to the user 0 and holds secret").await;
    fs::remove_file(system.path(folder)).expect("removed");
    fs::rename(system.path("home/jo/vault"), system.path(folder)).expect("renamed");
    system.fail(&present, "belongs to the user 0 and holds secret").await;
    fs::remove_file(system.path("home/jo/.ssh/secret")).expect("removed");
    fs::rename(system.path(folder), system.path("home/jo/vault")).expect("renamed");
    symlink("vault", system.path(folder)).expect("a link");
    system.fail(&present, "belongs to the user 0 and is reached over a link").await;
    assert_eq!(of("home/jo/vault"), (0o700, 0));
    assert!(!Path::new(&system.path("home/jo/vault/authorized_keys")).exists());

    // Open to the user, so that the server for SSH takes it.
    fs::remove_file(system.path(folder)).expect("removed");
    fs::create_dir(system.path(folder)).expect("a folder");
    system.converge(&present).await;
    assert_eq!((of(folder), of(file)), ((0o755, 0), (0o644, 0)));
    system.converge(&lap).await;
    assert_eq!((of(folder), of(file)), ((0o755, 0), (0o644, 0)));
    assert_eq!(system.read(file), format!("{KEY} desk\n{KEY} lap\n"));
    // The user's group may be who it is open to.
    set(file, 0o640);
    std::os::unix::fs::chown(system.path(file), None, Some(group)).expect("root may");
    system.stay(&present).await;
    set(file, 0o660);
    let status = system.converge(&present).await;
    assert_eq!(status.differences[0].property, "Mode of authorized_keys");
    assert_eq!(of(file), (0o640, 0));
    // One that the user cannot read becomes the user's.
    set(file, 0o600);
    system.converge(&present).await;
    assert_eq!((of(folder), of(file)), ((0o755, 0), (0o600, user)));
}

#[tokio::test]
async fn a_line_a_variable_and_a_message_are_kept() {
    let system = System::new();
    system.write("etc/app.conf", "# app\nPort 1\nHost a\n");
    let line = |properties: &str| {
        let path = system.path("etc/app.conf");
        instance("MSFT_nxFileLineResource", &format!("FilePath = \"{path}\"; {properties}"))
    };
    let wanted = "ContainsLine = \"Port 2\"; DoesNotContainPattern = \"^Port \";";
    let status = system.converge(&line(wanted)).await;
    assert_eq!(system.read("etc/app.conf"), "# app\nHost a\nPort 2\n");
    let diff = status.differences[0].diff.as_deref();
    assert_eq!(diff, Some(" # app\n-Port 1\n Host a\n+Port 2\n"));
    system.converge(&line("DoesNotContainPattern = \"Host|#\";")).await;
    assert_eq!(system.read("etc/app.conf"), "Port 2\n");
    system.fail(&line("DoesNotContainPattern = \"(\";"), "has DoesNotContainPattern: regex").await;
    system.fail(&line("ContainsLine = \"a\\nb\";"), "more than one line").await;
    system.fail(&line(""), "ContainsLine: missing").await;
    let outside = "FilePath = \"/etc/hostname\"; ContainsLine = \"x\";";
    system.fail(&instance("MSFT_nxFileLine", outside), "outside of the allowed root").await;

    system.write("etc/environment", "# e\nLANG=C\nSEARCH=/a:/b\n");
    let variable = |properties: &str| instance("MSFT_EnvironmentResource", properties);
    for (properties, text) in [
        (
            "Name = \"LANG\"; Value = \"de DE\"; Target = {\"Machine\"};",
            "LANG=\"de DE\"\nSEARCH=/a:/b\n",
        ),
        (
            "Name = \"SEARCH\"; Value = \"/c:/a\"; Path = True;",
            "LANG=\"de DE\"\nSEARCH=\"/a:/b:/c\"\n",
        ),
        (
            "Name = \"SEARCH\"; Value = \"/b\"; Path = True; Ensure = \"Absent\";",
            "LANG=\"de DE\"\nSEARCH=\"/a:/c\"\n",
        ),
        ("Name = \"LANG\"; Ensure = \"Absent\";", "SEARCH=\"/a:/c\"\n"),
        ("Name = \"NEW\"; Value = \"1\";", "SEARCH=\"/a:/c\"\nNEW=\"1\"\n"),
    ] {
        system.converge(&variable(properties)).await;
        assert_eq!(system.read("etc/environment"), format!("# e\n{text}"));
    }
    system.fail(&variable("Name = \"A\"; Value = \"a#b\";"), "has Value: a quotation mark").await;
    system.fail(&variable("Name = \"A=B\"; Value = \"x\";"), "is not the name of a variable").await;
    system
        .fail(&variable("Name = \"A\"; Value = \"x\"; Target = {\"Process\"};"), "Target `Process`")
        .await;
    system.fail(&variable("Name = \"A\";"), "has Value: missing").await;

    let message = instance("MSFT_LogResource", "Message = \"two\\nlines \\\\ and more\";");
    system.converge(&message).await;
    let log = system.read("var/log/oms-dsc.log");
    assert!(
        log.ends_with(" [Thing]x two\\nlines \\\\ and more\n") && log.lines().count() == 1,
        "{log}"
    );
    // What a crash cut off is no message that was written.
    system.write("var/log/oms-dsc.log", &log[..log.len() - 3]);
    system.converge(&message).await;
    fs::remove_file(system.path("var/log/oms-dsc.log")).expect("rotated away");
    system.converge(&message).await;
    system.fail(&instance("MSFT_LogResource", ""), "has Message: missing").await;
}

#[derive(Clone, Debug)]
enum Wish {
    User(u8, bool, Option<bool>, bool),
    Group(u8, bool, Vec<u8>, bool),
}

impl Wish {
    fn document(&self) -> Arc<Configuration> {
        let ensure = |is_present: bool| if is_present { "Present" } else { "Absent" };
        match self {
            Self::User(name, is_present, disabled, has_name) => {
                let disabled =
                    disabled.map(|on| format!("Disabled = {};", if on { "True" } else { "False" }));
                user(&format!(
                    "UserName = \"u{name}\"; Ensure = \"{}\"; {} {}",
                    ensure(*is_present),
                    disabled.unwrap_or_default(),
                    if *has_name { "FullName = \"A Name\";" } else { "" },
                ))
            }
            Self::Group(name, is_present, members, is_whole) => {
                let members: Vec<String> = members.iter().map(|m| format!("\"u{m}\"")).collect();
                let list = if *is_whole { "Members" } else { "MembersToInclude" };
                group(&format!(
                    "GroupName = \"g{name}\"; Ensure = \"{}\"; {list} = {{{}}};",
                    ensure(*is_present),
                    members.join(", "),
                ))
            }
        }
    }
}

fn wish() -> impl Strategy<Value = Wish> {
    let user = (0u8..3, any::<bool>(), any::<Option<bool>>(), any::<bool>());
    let group = (0u8..2, any::<bool>(), proptest::collection::vec(0u8..3, 0..3), any::<bool>());
    prop_oneof![
        user.prop_map(|(name, present, disabled, full)| Wish::User(name, present, disabled, full)),
        group
            .prop_map(|(name, present, members, whole)| Wish::Group(name, present, members, whole)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// In whatever order accounts come, change and go: what was set is in its state, setting it again
    /// changes nothing, a member is a user, ids are not given twice, and the accounts that were there
    /// stay as they were.
    #[test]
    fn any_order_of_accounts_converges(wishes in proptest::collection::vec(wish(), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let system = System::with_accounts();
            // Homes that are there need nobody to give them away.
            for name in 0..3 {
                fs::create_dir_all(system.path(&format!("home/u{name}"))).expect("a home");
            }
            for wish in wishes {
                let document = wish.document();
                let done = system.apply(&document).await;
                match done.outcome {
                    ResourceOutcome::Failed => {
                        let error = done.error.unwrap_or_default();
                        prop_assert!(error.contains("no such user"), "{wish:?}: {error}");
                    }
                    _ => system.stay(&document).await,
                }
                let rows = |name: &str| -> Vec<Vec<String>> {
                    let row = |line: &str| line.split(':').map(str::to_owned).collect();
                    system.read(name).lines().map(row).collect()
                };
                for file in ["etc/passwd", "etc/group"] {
                    let mut ids: Vec<String> = rows(file).iter().filter_map(|row| row.get(2).cloned()).collect();
                    let count = ids.len();
                    ids.sort();
                    ids.dedup();
                    prop_assert_eq!(ids.len(), count, "{} {}", file, system.read(file));
                }
                let users: Vec<String> = rows("etc/passwd").iter().map(|row| row[0].clone()).collect();
                for row in rows("etc/group") {
                    let mut members = row[3].split(',').filter(|member| !member.is_empty());
                    prop_assert!(members.all(|member| users.iter().any(|user| user == member)));
                }
                let names = |file| rows(file).into_iter().map(|row| row[0].clone()).collect::<Vec<_>>();
                prop_assert_eq!(names("etc/group"), names("etc/gshadow"));
                prop_assert!(system.read("etc/passwd").contains("jo:x:1000:1000:Jo,,,,:/home/jo:/bin/bash\n+nis\n"));
            }
            Ok(())
        })?;
    }
}
