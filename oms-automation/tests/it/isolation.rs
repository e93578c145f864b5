//! What a runbook cannot reach. Each negative has a positive control beside it.

use crate::host::{Host, completed, settings};
use oms_automation::AutomationSettings;
use oms_automation::job::JobState;
use oms_automation::runbook::RunbookKind;
use oms_automation::worker::{IsolationMode, IsolationSettings, ResourceLimits, RunAs, TcpAccess};
use oms_core::journal::{Journal, MemoryJournal};
use std::sync::Arc;

/// Tries to read a file in every way that a path can be spelled.
const READ: &str = "\
import os, sys
here, data = os.getcwd(), os.path.dirname(os.path.dirname(os.getcwd()))
open('mine', 'w').write('own')
os.symlink(os.path.join(data, 'canary'), 'link')
os.symlink('/proc/self/root' + data, 'rooted')
ways = {
    'own': 'mine',
    'own absolute': os.path.join(here, 'mine'),
    'own by root': '/proc/self/root' + os.path.join(here, 'mine'),
    'plain': os.path.join(data, 'canary'),
    'dots': '../../canary',
    'link': 'link',
    'root': '/proc/self/root' + os.path.join(data, 'canary'),
    'rooted': 'rooted/canary',
    'cwd': '/proc/self/cwd/../../canary',
    'parent': '/proc/%d/root%s/canary' % (os.getppid(), data),
}
for way, path in ways.items():
    try:
        print(way, '=', open(path).read())
    except OSError as error:
        print(way, '=', type(error).__name__)
for way, act in {
    'list': lambda: os.listdir(data),
    'write': lambda: open(os.path.join(data, 'new'), 'w'),
    'hard link': lambda: os.link(os.path.join(data, 'canary'), 'hard'),
    'rename': lambda: os.rename('mine', os.path.join(data, 'moved')),
    'remove': lambda: os.remove(os.path.join(data, 'canary')),
    'streams': lambda: os.listdir(os.path.join(data, 'streams')),
    'environ': lambda: open('/proc/%d/environ' % os.getppid(), 'rb').read(),
    'shadow': lambda: open('/etc/shadow').read(),
    'device': lambda: os.mknod('disk', 0o060600, os.makedev(254, 0)),
}.items():
    try:
        act()
        print(way, '= done')
    except OSError as error:
        print(way, '=', type(error).__name__)
";

#[tokio::test(flavor = "multi_thread")]
async fn a_runbook_reads_its_own_folder_and_not_the_data() {
    let host = Host::new().await;
    std::fs::write(host.folder.path().join("canary"), "secret data").expect("planted");
    let (job, output) = host.one(RunbookKind::Python3, READ).await;
    completed(&job);
    for line in output.lines() {
        let (way, found) = line.split_once(" = ").expect("a way and what it found");
        let expected = match way {
            own if own.starts_with("own") => "own",
            // Landlock refuses a link from elsewhere as one across file systems.
            "hard link" => "OSError",
            _ => "PermissionError",
        };
        assert_eq!(found, expected, "{way}\n{output}");
    }
    assert_eq!(output.lines().count(), 19, "{output}");
    let applied = job.isolation.expect("recorded");
    assert!(applied.landlock_abi.is_some_and(|abi| abi >= 1), "{applied}");
    assert!(applied.no_new_privileges && applied.has_own_session, "{applied}");
    assert!(!host.folder.path().join("sandbox").join(job.id.to_string()).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn ordinary_scripts_work_inside() {
    let host = Host::new().await;
    let text = "\
set -e
echo text > file; cat file
cat <(echo substituted)
echo to-stderr > /dev/stderr
echo nothing > /dev/null
mktemp > /dev/null
grep -c MemTotal /proc/meminfo
printf '#!/bin/bash\\necho from-script\\n' > script; chmod +x script; ./script
read -r line || echo no-input
getent hosts localhost > /dev/null && echo resolves
python3 -c 'import ssl, sqlite3, tempfile; tempfile.NamedTemporaryFile().write(b\"x\"); print(\"python\")'
";
    let (job, output) = host.bash(text).await;
    completed(&job);
    let expected =
        ["text", "substituted", "1", "from-script", "no-input", "resolves", "python"].join("\n");
    assert_eq!(output, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_and_descriptors_are_cleared() {
    // Cargo gives every test process this variable; the service's own secrets are like it.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let secret = tempfile::tempfile().expect("a file");
    rustix::io::fcntl_setfd(&secret, rustix::io::FdFlags::empty()).expect("its own file");
    let host = Host::new().await;
    let (job, output) = host.bash("env | cut -d= -f1 | sort").await;
    completed(&job);
    let names: Vec<&str> = output.lines().collect();
    assert_eq!(
        names,
        [
            "AUTOMATION_ACTIVITY_ID",
            "AUTOMATION_JOB_ID",
            "HOME",
            "LANG",
            "OMS_JOB_MARKER",
            "OMS_PARAMETERS_FILE",
            "PATH",
            "PWD",
            "SHLVL",
            "TMPDIR",
            "_",
        ]
    );
    assert!(job.isolation.expect("recorded").closed_descriptors >= 1);
    let check = "\
import os
for number in range(3, 1000):
    try:
        os.fstat(number)
        print('open', number)
    except OSError:
        pass
print('session', os.getsid(0) == os.getpid(), 'group', os.getpgid(0) == os.getpid())
";
    let (job, output) = host.one(RunbookKind::Python3, check).await;
    completed(&job);
    assert_eq!(output, "session True group True");
    drop(secret);
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_are_limited() {
    let limits = ResourceLimits {
        memory_bytes_max: 300 << 20,
        file_bytes_max: 1 << 20,
        files_max: 32,
        cpu_seconds_max: 1,
        ..ResourceLimits::default()
    };
    let isolation = IsolationSettings { limits, ..IsolationSettings::default() };
    let host = Host::with(AutomationSettings { isolation, ..settings() }).await;
    let text = "\
import os, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    bytearray(400 << 20)
except MemoryError:
    print('memory')
try:
    open('big', 'wb').write(bytes(2 << 20))
except OSError as error:
    print('file', error.errno)
kept = []
try:
    while True:
        kept.append(open('/dev/null'))
except OSError as error:
    print('files', error.errno)
while True:
    pass
";
    let (job, output) = host.one(RunbookKind::Python3, text).await;
    assert_eq!(output, "memory\nfile 27\nfiles 24");
    assert_eq!(job.state, JobState::Failed);
    let exception = job.exception.expect("why");
    assert!(exception.contains("CPU time") || exception.contains("signal 9"), "{exception}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runbook_cannot_signal_the_service_and_has_no_capabilities() {
    let host = Host::new().await;
    let (job, output) = host
        .bash(&format!(
            "kill -0 {} 2>/dev/null && echo reached || echo refused\n\
             sleep 100 & kill $! && echo own",
            std::process::id()
        ))
        .await;
    completed(&job);
    let scoped = job.isolation.expect("recorded").landlock_abi.is_some_and(|abi| abi >= 6);
    let expected = if scoped { "refused" } else { "reached" };
    assert_eq!(output, format!("{expected}\nown"));
    let check = "\
import ctypes
libc = ctypes.CDLL(None)
print('no new privileges', libc.prctl(39, 0, 0, 0, 0))
print('bounding set', sum(max(libc.prctl(23, n, 0, 0, 0), 0) for n in range(41)))
";
    let (job, output) = host.one(RunbookKind::Python3, check).await;
    completed(&job);
    assert!(output.contains("no new privileges 1"), "{output}");
    if job.isolation.expect("recorded").are_capabilities_dropped {
        assert!(output.contains("bounding set 0"), "{output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_is_allowed_unless_denied() {
    let text = "\
import socket, sys
try:
    socket.create_connection(('127.0.0.1', int(sys.argv[1]))).close()
    print('connected')
except OSError as error:
    print(type(error).__name__)
";
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    for (tcp, expected) in
        [(TcpAccess::Allowed, "connected"), (TcpAccess::Denied, "PermissionError")]
    {
        let isolation = IsolationSettings { tcp, ..IsolationSettings::default() };
        let host = Host::with(AutomationSettings { isolation, ..settings() }).await;
        host.publish("Connect", RunbookKind::Python3, text).await;
        let job = host.run("Connect", &[("port", port.into())]).await;
        completed(&job);
        assert_eq!(host.account.output(job.id, 99).await.expect("output"), expected);
        assert_eq!(job.isolation.expect("recorded").tcp, tcp);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_user_runs_jobs_where_root_allows_it() {
    let run_as = Some(RunAs { uid: 65_534, gid: 65_534 });
    let isolation = IsolationSettings { run_as, ..IsolationSettings::default() };
    let folder = tempfile::tempdir().expect("a temporary folder");
    // A temporary folder is its owner's alone; the other user passes through.
    let mut mode = std::fs::metadata(folder.path()).expect("there").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o711);
    std::fs::set_permissions(folder.path(), mode).expect("opened");
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
    let built = oms_automation::AutomationAccount::builder(folder.path().join("account"))
        .journal(Arc::clone(&journal))
        .settings(AutomationSettings { isolation, ..settings() })
        .build()
        .await;
    if !rustix::process::geteuid().is_root() {
        let error = built.expect_err("only root can");
        assert!(error.to_string().contains("only root"), "{error}");
        return;
    }
    let host = Host { account: built.expect("opens"), journal, folder };
    let (job, output) = host
        .bash("id -u; id -g; id -G; echo x > mine && cat mine; ls / >/dev/null 2>&1 || echo closed")
        .await;
    completed(&job);
    assert_eq!(output, "65534\n65534\n65534\nx\nclosed");
    assert_eq!(job.isolation.expect("recorded").user, run_as);
}

#[tokio::test(flavor = "multi_thread")]
async fn isolation_is_off_only_by_name() {
    let isolation = IsolationSettings { mode: IsolationMode::Off, ..IsolationSettings::default() };
    let host = Host::with(AutomationSettings { isolation, ..settings() }).await;
    std::fs::write(host.folder.path().join("canary"), "open").expect("planted");
    let (job, output) = host.bash("cat ../../canary").await;
    completed(&job);
    assert_eq!(output, "open", "the file is readable where nothing keeps it");
    assert_eq!(job.isolation.expect("recorded").to_string(), "none");
}
