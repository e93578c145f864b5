//! Scripts of this system, and restarts that one in a folder asks for.

use crate::system::{System, instance, is_root};
use oms_dsc::node::{self, ResourceOutcome};
use oms_dsc::resource::{Registry, ScriptResource};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn a_restart_is_required_as_long_as_the_system_says_so() {
    let system = System::new();
    let pending = instance("DSC_PendingReboot", "Name = \"any\";");
    fs::create_dir(system.path("run")).expect("a folder");
    system.stay(&pending).await;
    system.write("run/reboot-required", "*** System restart required ***\n");
    system.write("run/reboot-required.pkgs", "linux-image\nlibc6\nlinux-image\n");
    let status = system.apply(&pending).await;
    assert_eq!(status.outcome, ResourceOutcome::RebootPending);
    assert_eq!(status.differences[0].found, "required by libc6, linux-image");
    fs::remove_file(system.path("run/reboot-required")).expect("restarted");
    system.stay(&pending).await;
}

/// Scripts can do anything, so they are no resource of a system in a folder.
#[tokio::test]
async fn scripts_test_set_and_get() {
    let mut system = System::new();
    let path = system.path("made");
    let script = |get: &str, test: &str, set: &str, more: &str| {
        let quote =
            |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        instance(
            "MSFT_nxScriptResource",
            &format!(
                "GetScript = \"{}\"; TestScript = \"{}\"; SetScript = \"{}\"; {more}",
                quote(get),
                quote(test),
                quote(set)
            ),
        )
    };
    let make = script(
        &format!("#!/bin/bash\ncat {path}"),
        &format!("test -e {path} || {{ echo it is not there >&2; exit 3; }}"),
        &format!("#!/bin/bash -e\r\nread line || true\r\necho \"$0 $line $HOME\" > {path}\r\n"),
        "",
    );
    system.fail(&make, "resource class is not supported. name=`MSFT_nxScriptResource`").await;
    system.resources = Registry::new().with(Arc::new(ScriptResource::new()));
    let status = system.converge(&make).await;
    assert_eq!(status.differences[0].found, "exit code 3: it is not there");
    let made = system.read("made");
    assert!(!made.contains('\r') && made.contains(".oms-dsc-"), "{made}");
    let file = made.split_whitespace().next().expect("a path").to_owned();
    assert!(!Path::new(&file).exists(), "a script does not stay behind");
    let found = node::get(&make, &system.resources).await.expect("a look");
    assert_eq!(found[0].1["Result"], made);

    system.fail(&script("x", "exit 1", "echo no; exit 4", ""), "exit code 4: no").await;
    system.fail(&script("x", "exit 1", "true", ""), "still different after it was set").await;
    system
        .fail(
            &script("x", "kill -9 $$", "true", ""),
            "program failed. program=`TestScript`, reason=`ended by a signal`",
        )
        .await;
    system.fail(&script("x", "", "true", ""), "has TestScript: missing").await;
    system.fail(&script("x", "true", "true", "User = \"nobody-at-all\";"), "no such user").await;
    system
        .fail(&script("x", "#!/no/such/shell\n", "x", ""), "no such program. name=`/no/such/shell`")
        .await;
    let reboot = system.apply(&script("x", "exit 1", "exit 194", "")).await;
    assert_eq!(reboot.outcome, ResourceOutcome::RebootPending);
    let loud = script("x", "yes no | head -c 3000000; exit 1", "true", "");
    assert_eq!(system.test(&loud).await.outcome, ResourceOutcome::Different);

    // What takes too long ends with all that it started; what stays behind holds nobody up.
    let patience = Duration::from_millis(300);
    system.resources = Registry::new().with(Arc::new(ScriptResource::new().timeout(patience)));
    let endless = script("x", &format!("sleep 60 & echo $! > {path}; wait"), "true", "");
    system.fail(&endless, "not done after 0 seconds").await;
    let id = system.read("made").trim().parse().expect("an id");
    let id = rustix::process::Pid::from_raw(id).expect("an id");
    let is_gone = || match fs::read_to_string(format!("/proc/{}/stat", id.as_raw_nonzero())) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    };
    for _ in 0..1_000 {
        if is_gone() {
            break;
        }
        tokio::task::yield_now().await;
        std::thread::yield_now();
    }
    assert!(is_gone(), "what a script started ends with it");
    if is_root() {
        system.resources = Registry::new().with(Arc::new(ScriptResource::new()));
        let as_user =
            script("x", "test \"$(id -un)$HOME\" = daemon/usr/sbin", "false", "User = \"daemon\";");
        assert!(system.test(&as_user).await.is_in_desired_state());
    }
}
