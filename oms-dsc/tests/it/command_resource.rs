//! Command resources of DSC version 3, by manifests in a folder of the test.

use crate::system::{instance, is_root};
use oms_core::SystemClock;
use oms_dsc::configuration::Configuration;
use oms_dsc::node::{self, ResourceOutcome, ResourceStatus};
use oms_dsc::resource::{CommandResource, Registry};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A resource that keeps a text in a file: `{path, text, _exist}`.
const PROGRAM: &str = r#"#!/bin/sh -eu
# What it is to do, then what it is told of, as JSON.
case "$2" in -) told=$(cat) ;; *) told=$2 ;; esac
value() { printf %s "$told" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
path=$(value path) text=$(value text)
case "$1" in
get | test)
    if [ -e "$path" ]; then
        printf '{"path":"%s","text":"%s","more":[1,2],"_exist":true}\n' "$path" "$(cat "$path")"
    else
        printf '{"path":"%s","_exist":false}\n' "$path"
    fi
    ;;
set) printf %s "$text" > "$path" && echo '{"_rebootRequested":false}' ;;
reboot) printf %s "$text" > "$path" && echo '{"_rebootRequested":true}' ;;
delete) rm -f "$path" ;;
fail) echo '{"error":"the first"}' >&2; echo '{"trace":"x"}' >&2; exit 7 ;;
esac
"#;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        folder.write("keep-text", PROGRAM, 0o755);
        folder.manifest("text", json!({
            "type": "Test.Files/Text", "version": "1.2.0",
            "get": {"executable": "sh", "args": ["keep-text", "get", "-"], "input": "stdin"},
            "set": {"executable": "sh", "args": ["keep-text", "set", "-"], "input": "stdin", "return": "state"},
            "delete": {"executable": "sh", "args": ["keep-text", "delete", "-"], "input": "stdin"},
            "exitCodes": {"0": "success", "7": "of no use"},
        }));
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        fs::create_dir_all(self.path(name).parent().expect("a folder")).expect("folders");
        fs::write(self.path(name), text).expect("written");
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).expect("a mode");
    }

    fn manifest(&self, name: &str, manifest: impl Into<Value>) {
        let manifest: Value = manifest.into();
        self.write(&format!("{name}.dsc.resource.json"), &manifest.to_string(), 0o644);
    }

    fn resources(&self) -> Registry {
        let folders = [PathBuf::from("/nowhere"), self.0.path().to_owned()];
        Registry::new().with(Arc::new(CommandResource::new(folders)))
    }

    async fn test(&self, configuration: &Arc<Configuration>) -> ResourceStatus {
        let tested = node::test(Arc::clone(configuration), &self.resources(), &SystemClock).await;
        tested.into_iter().next().expect("one resource")
    }

    async fn apply(&self, configuration: &Arc<Configuration>) -> ResourceStatus {
        let applied = node::apply(Arc::clone(configuration), &self.resources(), &SystemClock).await;
        applied.into_iter().next().expect("one resource")
    }

    async fn fail(&self, configuration: &Arc<Configuration>, reason: &str) {
        let status = self.apply(configuration).await;
        assert_eq!(status.outcome, ResourceOutcome::Failed, "{status:?}");
        let error = status.error.unwrap_or_default();
        assert!(error.contains(reason), "{error}");
    }
}

fn command(kind: &str, properties: &Value, more: &str) -> Arc<Configuration> {
    let properties = properties.to_string().replace('\\', "\\\\").replace('"', "\\\"");
    instance(
        "OMS_CommandResource",
        &format!("Type = \"{kind}\"; Name = \"x\"; Properties = \"{properties}\"; {more}"),
    )
}

#[tokio::test]
async fn a_resource_comes_changes_and_goes() {
    let folder = Folder::new();
    let path = folder.path("kept").display().to_string();
    let wanted = command("test.files/TEXT", &json!({"path": path, "text": "one"}), "");
    let before = folder.test(&wanted).await;
    assert_eq!(before.differences[0].to_string(), "_exist is false, desired is true");
    assert!(!folder.path("kept").exists(), "a test changes nothing");
    assert_eq!(folder.apply(&wanted).await.outcome, ResourceOutcome::Corrected);
    assert_eq!(fs::read_to_string(&path).expect("kept"), "one");
    assert_eq!(folder.apply(&wanted).await.outcome, ResourceOutcome::InDesiredState);

    let other =
        command("Test.Files/Text", &json!({"path": path, "text": "two", "more": [2, 1]}), "");
    let done = folder.apply(&other).await;
    assert_eq!(done.differences.len(), 1);
    assert_eq!(done.differences[0].to_string(), "text is one, desired is two");
    assert_eq!(done.outcome, ResourceOutcome::Corrected);
    let found = node::get(&other, &folder.resources()).await.expect("a look");
    assert_eq!(found[0].1["text"], "two");

    let gone = command("Test.Files/Text", &json!({"path": path, "_exist": false}), "");
    assert_eq!(folder.apply(&gone).await.outcome, ResourceOutcome::Corrected);
    assert!(!folder.path("kept").exists());
    assert_eq!(folder.apply(&gone).await.outcome, ResourceOutcome::InDesiredState);
}

/// What is in a document comes to a program as it is: no shell reads it.
#[tokio::test]
async fn no_shell_reads_what_a_document_says() {
    let folder = Folder::new();
    folder.write(
        "vars",
        "#!/bin/sh\nprintf '{\"seen\":\"%s\",\"home\":\"%s\"}' \"$seen\" \"$HOME\"\n",
        0o755,
    );
    folder.manifest("show", json!({
        "type": "Test/Show",
        "get": {"executable": "sh", "args": ["show", "--input", {"jsonInputArg": "--properties"}]},
    }));
    folder.manifest(
        "vars",
        json!({
            "type": "Test/Vars", "get": {"executable": "sh", "args": ["vars"], "input": "env"},
        }),
    );
    let mark = folder.path("injected");
    let text = format!("$(touch {0}); `touch {0}`; \" & touch {0} | x", mark.display());
    // The second argument is the name of the third.
    folder.write(
        "show",
        "#!/bin/sh\n[ \"$2\" = --properties ] && printf '{\"seen\":%s}' \"$3\"\n",
        0o755,
    );
    let wanted = json!({"seen": text});
    let found = node::get(&command("Test/Show", &wanted, ""), &folder.resources()).await;
    assert_eq!(found.expect("a look")[0].1["seen"], wanted);
    let wanted = json!({"seen": "$(touch x); `y`"});
    let found = node::get(&command("Test/Vars", &wanted, ""), &folder.resources()).await;
    let found = found.expect("a look");
    assert_eq!((&found[0].1["seen"], &found[0].1["home"]), (&wanted["seen"], &json!("")));
    assert!(!mark.exists());
    let nested = command("Test/Vars", &json!({"seen": [1]}), "");
    folder.fail(&nested, "name=`seen of Test/Vars, as a variable`").await;
    let equal = command("Test/Vars", &json!({"a=b": "x"}), "");
    folder.fail(&equal, "`a=b` cannot be a variable").await;
}

#[tokio::test]
async fn a_resources_own_test_and_its_wish_to_restart_count() {
    let folder = Folder::new();
    let text = |returned: &str, printed: &str| {
        folder.write("own", &format!("#!/bin/sh\necho '{printed}'\n"), 0o755);
        folder.manifest("own", json!({
            "type": "Test/Own",
            "test": {"executable": "sh", "args": ["own"], "return": returned},
            "set": {"executable": "sh", "args": ["keep-text", "reboot", "-"], "input": "stdin", "return": "state"},
        }));
    };
    let wanted = json!({"path": folder.path("kept"), "text": "x"});
    let wanted = command("Test/Own", &wanted, "");
    text("state", r#"{"text":"y","_inDesiredState":true}"#);
    assert_eq!(folder.test(&wanted).await.outcome, ResourceOutcome::InDesiredState);
    text("state", r#"{"text":"x","_inDesiredState":false}"#);
    let different = folder.test(&wanted).await;
    assert_eq!(
        different.differences[0].to_string(),
        "path is absent, desired is ".to_owned() + &folder.path("kept").display().to_string()
    );
    text("stateAndDiff", "{\"text\":\"y\"}\n[\"text\"]");
    let different = folder.test(&wanted).await;
    assert_eq!(different.differences.len(), 2, "{different:?}");
    assert_eq!(folder.apply(&wanted).await.outcome, ResourceOutcome::RebootPending);
    text("state", "no JSON");
    folder.fail(&wanted, "program=`Test/Own test`, reason=`its output is not JSON").await;
    text("state", "");
    folder.fail(&wanted, "it printed no state").await;
    let get = node::get(&wanted, &folder.resources()).await.expect_err("there is no get");
    assert!(get.to_string().contains("name=`get of Test/Own`"), "{get}");
}

#[tokio::test]
async fn what_cannot_be_run_says_why() {
    let folder = Folder::new();
    let kind = "Test.Files/Text";
    let nothing = json!({});
    folder
        .fail(&command("No/Such", &nothing, ""), "no such manifest of a resource. name=`No/Such`")
        .await;
    let bad = instance("OMS_CommandResource", "Type = \"a/b\"; Name = \"x\"; Properties = \"[]\";");
    folder.fail(&bad, "[Thing]x has Properties: no object of JSON").await;
    folder
        .fail(&command(kind, &nothing, "TimeoutSec = 86401;"), "has TimeoutSec: more than a day")
        .await;
    folder
        .fail(&command(kind, &nothing, "User = \"nobody-of-that-name\";"), "nobody-of-that-name")
        .await;
    folder.fail(&command(kind, &nothing, "Colour = \"red\";"), "name=`Colour of [Thing]x`").await;

    folder.manifest(
        "failing",
        json!({
            "type": "Test/Fail", "get": {"executable": "sh", "args": ["keep-text", "fail", "-"]},
            "exitCodes": {"7": "of no use"},
        }),
    );
    let failing = command("Test/Fail", &nothing, "");
    let why = "program=`Test/Fail get`, reason=`exit code 7: of no use: the first`";
    folder.fail(&failing, why).await;
    folder.manifest("adapter", json!({"type": "Test/Adapter", "kind": "adapter"}));
    folder.fail(&command("Test/Adapter", &nothing, ""), "name=`adapter Test/Adapter`").await;
    folder.manifest(
        "nowhere",
        json!({"type": "Test/Nowhere", "get": {"executable": "no-such-program"}}),
    );
    folder
        .fail(&command("Test/Nowhere", &nothing, ""), "no such program. name=`no-such-program`")
        .await;
    folder.write("loud", "#!/bin/sh\nyes | head -c 3000000\n", 0o755);
    folder.manifest(
        "loud",
        json!({"type": "Test/Loud", "get": {"executable": "sh", "args": ["loud"]}}),
    );
    folder.fail(&command("Test/Loud", &nothing, ""), "output of a resource, in bytes").await;
    folder.manifest(
        "broken",
        json!({"type": "Test/Broken", "get": {"executable": "x", "args": [1]}}),
    );
    folder.fail(&command("Test/Broken", &nothing, ""), "the argument 1 is not supported").await;

    folder.write("slow", "#!/bin/sh\nsleep 600 & wait\n", 0o755);
    folder.manifest(
        "slow",
        json!({"type": "Test/Slow", "get": {"executable": "sh", "args": ["slow"]}}),
    );
    let resource = CommandResource::new([folder.0.path().to_owned()]).timeout(Duration::ZERO);
    let resources = Registry::new().with(Arc::new(resource));
    let slow = command("Test/Slow", &nothing, "");
    let error = node::get(&slow, &resources).await.expect_err("too slow").to_string();
    assert!(error.contains("not done after 0 seconds, so it was ended"), "{error}");
}

/// A manifest says what root runs.
#[tokio::test]
async fn what_others_can_write_is_not_run() {
    let wanted = command("Test/Direct", &json!({"path": "/nowhere"}), "");
    for name in ["", "direct.dsc.resource.json", "keep-text"] {
        let folder = Folder::new();
        folder.manifest(
            "direct",
            json!({"type": "Test/Direct", "get": {"executable": "keep-text", "args": ["get"]}}),
        );
        let place = folder.path(name);
        let mode = fs::metadata(&place).expect("there").permissions().mode();
        fs::set_permissions(&place, fs::Permissions::from_mode(mode | 0o020)).expect("a mode");
        folder.fail(&wanted, "which says what this node runs").await;
        fs::set_permissions(&place, fs::Permissions::from_mode(mode)).expect("a mode");
        if is_root() {
            std::os::unix::fs::chown(&place, Some(1234), None).expect("root may");
            folder.fail(&wanted, "which says what this node runs").await;
        }
    }
}

/// Who can write in a folder above can put another in its place.
#[tokio::test]
async fn a_manifest_below_a_folder_of_others_is_not_read() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path("above/below")).expect("folders");
    let text = json!({"type": "Test/Deep", "get": {"executable": "sh", "args": ["say"]}});
    folder.write("above/below/deep.dsc.resource.json", &text.to_string(), 0o644);
    folder.write("above/below/say", "echo '{\"is\":1}'", 0o644);
    let resource = CommandResource::new([folder.path("above/below")]);
    let resources = Registry::new().with(Arc::new(resource));
    let wanted = command("Test/Deep", &json!({}), "");
    let look = || node::get(&wanted, &resources);
    assert_eq!(look().await.expect("a look")[0].1["is"], 1);
    let mode = |name: &str, mode| {
        fs::set_permissions(folder.path(name), fs::Permissions::from_mode(mode)).expect("a mode");
    };
    mode("above", 0o777);
    let error = look().await.expect_err("others can").to_string();
    let why = format!("others can write {}, which says", folder.path("above").display());
    assert!(error.contains(&why), "{error}");
    // Where only who made a file can replace it, others can still put new ones.
    mode("above", 0o1777);
    assert_eq!(look().await.expect("a look")[0].1["is"], 1);
    mode("above/below", 0o1777);
    assert!(look().await.expect_err("others can").to_string().contains("above/below, which says"));
    mode("above/below", 0o755);
    if is_root() {
        std::os::unix::fs::chown(folder.path("above"), Some(1234), None).expect("root may");
        let error = look().await.expect_err("it is another's").to_string();
        assert!(error.contains(&why), "{error}");
    }
}

/// What a link leads to today is not what it leads to tomorrow.
#[tokio::test]
async fn links_to_what_this_node_runs_are_refused_by_name() {
    let folder = Folder::new();
    let text = json!({"type": "Test/Linked", "get": {"executable": "real/say"}}).to_string();
    folder.write("real/linked.dsc.resource.json", &text, 0o644);
    folder.write("real/say", "#!/bin/sh\necho '{\"is\":1}'", 0o755);
    symlink("real", folder.path("way")).expect("a link");
    symlink("real/linked.dsc.resource.json", folder.path("linked.dsc.resource.json"))
        .expect("a link");
    let wanted = command("Test/Linked", &json!({}), "");
    let why = |name: &str| format!("{} is a symbolic link, which", folder.path(name).display());
    folder.fail(&wanted, &why("linked.dsc.resource.json")).await;
    let resource = CommandResource::new([folder.path("way")]);
    let resources = Registry::new().with(Arc::new(resource));
    let error = node::get(&wanted, &resources).await.expect_err("a link").to_string();
    assert!(error.contains(&why("way")), "{error}");

    let direct = |executable: &str| {
        let name = "direct.dsc.resource.json";
        let text = json!({"type": "Test/Direct", "get": {"executable": executable}}).to_string();
        folder.write(name, &text, 0o644);
        command("Test/Direct", &json!({}), "")
    };
    assert!(folder.test(&direct("real/say")).await.error.is_none());
    folder.fail(&direct("way/say"), &why("way")).await;
    symlink("real/say", folder.path("said")).expect("a link");
    folder.fail(&direct("said"), &why("said")).await;
    // Programs of the system are reached over links of root: `python3` is one.
    let link = folder.path("said").display().to_string();
    assert!(folder.test(&direct(&link)).await.error.is_none());
    let mode = fs::Permissions::from_mode;
    fs::set_permissions(folder.path("real"), mode(0o777)).expect("a mode");
    folder.fail(&direct(&link), "others can write").await;
    fs::set_permissions(folder.path("real"), mode(0o755)).expect("a mode");
    // One that leads to itself leads nowhere.
    symlink("round", folder.path("round")).expect("a link");
    folder.fail(&direct(&folder.path("round").display().to_string()), &why("round")).await;
    folder.fail(&direct("a\0b"), "a zero in its name").await;
    // Neither a pipe nor a folder is a manifest, and nobody waits for one.
    fs::remove_file(folder.path("linked.dsc.resource.json")).expect("removed");
    fs::create_dir(folder.path("linked.dsc.resource.json")).expect("a folder");
    folder.fail(&wanted, "is no file of at most 1048576 bytes").await;
}

/// The newest of several manifests of one type.
#[tokio::test]
async fn the_newest_manifest_counts() {
    let folder = Folder::new();
    for (name, version) in
        [("a", "1.10.0-rc.1"), ("b", "1.10.0"), ("c", "1.9.0"), ("d", "2026-01-15")]
    {
        // A program beside the manifest goes before those of the system.
        folder.write(
            &format!("{name}/sh"),
            &format!("#!/bin/sh\necho '{{\"is\":\"{name}\"}}'\n"),
            0o755,
        );
        folder.manifest(name, json!({
            "type": "Test/Versions", "version": version, "get": {"executable": format!("{name}/sh")},
        }));
    }
    let wanted = command("Test/Versions", &json!({}), "");
    let found = node::get(&wanted, &folder.resources()).await.expect("a look");
    assert_eq!(found[0].1["is"], "b");
}

/// A program runs as the user that the instance names, and in the folder of its manifest.
#[tokio::test]
async fn a_program_runs_as_the_user_that_is_named() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    fs::set_permissions(folder.path(""), fs::Permissions::from_mode(0o755)).expect("a mode");
    folder.write(
        "who",
        "#!/bin/sh\nprintf '{\"id\":%s,\"at\":\"%s\"}' \"$(id -u)\" \"$(pwd)\"\n",
        0o755,
    );
    folder
        .manifest("who", json!({"type": "Test/Who", "get": {"executable": "sh", "args": ["who"]}}));
    let wanted = command("Test/Who", &json!({}), "User = \"nobody\";");
    let found = node::get(&wanted, &folder.resources()).await.expect("a look");
    assert_eq!(found[0].1["id"], 65534);
    let at = fs::canonicalize(folder.path("")).expect("a folder");
    assert_eq!(found[0].1["at"], json!(at));
}
