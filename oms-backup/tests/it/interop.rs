//! Stock restic reads, checks and restores what we wrote, and we what restic wrote.

use crate::common::*;
use oms_backup::item::source::SourceWarningKind;
use oms_backup::vault::format::KdfParameters;
use oms_backup::vault::{Open, Vault};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const RESTIC: &str = "restic";

/// Runs restic on a repository with the tests' passphrase; its answer, once it succeeded.
fn restic(folder: &Path, repository: &Path, arguments: &[&str]) -> String {
    let output = Command::new(RESTIC)
        .args(["--no-cache", "-r"])
        .arg(repository)
        .args(arguments)
        .env("RESTIC_PASSWORD", passphrase().expose_text().expect("text"))
        .env("TMPDIR", folder)
        .output()
        .unwrap_or_else(|error| panic!("program `{RESTIC}` cannot be run: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "restic {arguments:?}: {text} {errors}");
    text
}

struct Places {
    folder: tempfile::TempDir,
    source: PathBuf,
    vault: PathBuf,
    target: PathBuf,
}

fn places() -> Places {
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str| folder.path().join(name);
    let (source, vault, target) = (place("source"), place("vault"), place("target"));
    std::fs::create_dir(&source).expect("a folder");
    make_nasty_tree(&source, 5_000_000);
    // What restic 0.14 stores with losses or not at all.
    std::fs::remove_file(source.join("link not utf-8")).expect("removed");
    std::fs::remove_file(source.join("socket")).expect("removed");
    let time = filetime::FileTime::from_unix_time(1_600_000_000, 42);
    filetime::set_file_mtime(&source, time).expect("a time");
    Places { folder, source, vault, target }
}

/// With the cost that programs use.
fn create_real(vault: &Path) -> Vault {
    Vault::new(local(vault)).kdf(KdfParameters::default()).create(&passphrase()).expect("a vault")
}

#[test]
fn restic_checks_lists_and_restores_our_vault() {
    let Places { folder, source, vault, target } = places();
    let ours = create_real(&vault);
    backup(&ours, &source);
    let run = |arguments: &[&str]| restic(folder.path(), &vault, arguments);
    let checked = run(&["check", "--read-data"]);
    assert!(checked.contains("no errors were found"), "{checked}");
    let listed = run(&["ls", "latest"]);
    assert!(listed.contains("/ünïcode/日本語/😀"), "{listed}");
    run(&["restore", "latest", "--target", &target.display().to_string()]);
    let restored = target.join(source.strip_prefix("/").expect("absolute"));
    assert_same(&describe(&source), &describe(&restored));
}

#[test]
fn our_vault_opens_lists_verifies_and_restores_what_restic_wrote() {
    let Places { folder, source, vault, target } = places();
    let run = |arguments: &[&str]| restic(folder.path(), &vault, arguments);
    run(&["init", "--repository-version", "2"]);
    run(&["backup", &source.display().to_string()]);
    let ours = open(local(&vault));
    let points = ours.points().expect("a list");
    assert_eq!(points[0].snapshot.paths, [source.display().to_string()]);
    let report = verify(&ours, true);
    assert!(report.is_clean(), "{:?}", report.findings);
    let restored = restore(&ours, "latest", &source, &target);
    assert!(restored.failures.is_empty(), "{:?}", restored.failures);
    assert_same(&describe(&source), &describe(&target));
}

#[test]
fn both_write_to_one_vault_in_turn() {
    let Places { folder, source, vault, target } = places();
    let run = |arguments: &[&str]| restic(folder.path(), &vault, arguments);
    let path = source.display().to_string();
    run(&["init", "--repository-version", "2"]);
    run(&["backup", &path]);
    // Ours takes restic's point as its parent, whatever computer name both have.
    let ours = open(local(&vault));
    let report = backup(&ours, &source);
    assert!(report.warnings.listed.iter().all(|w| w.kind == SourceWarningKind::Metadata));
    assert!(report.parent.is_some());
    run(&["backup", &path]);
    run(&["forget", "--keep-last", "1", "--prune", "--group-by", ""]);
    let checked = run(&["check", "--read-data"]);
    assert!(checked.contains("no errors were found"), "{checked}");
    let report = verify(&ours, true);
    assert!(report.is_clean(), "{:?}", report.findings);
    restore(&ours, "latest", &source, &target);
    assert_same(&describe(&source), &describe(&target));
}

#[test]
fn restic_keeps_away_from_a_vault_we_work_on() {
    let Places { folder, source, vault, .. } = places();
    let ours = create_real(&vault);
    backup(&ours, &source);
    // restic shows our kind of lock by refusing to delete while it is there.
    let locked = std::fs::read_dir(vault.join("locks")).expect("a folder").count();
    assert_eq!(locked, 0, "ours are gone");
    restic(folder.path(), &vault, &["prune"]);
    assert!(verify(&ours, true).is_clean());
}

const FILES_TO_LEAVE_OUT: [&str; 22] = [
    "a.c",
    "a.o",
    "sub/a.o",
    "sub/deep/b.c",
    "target/x",
    "sub/target/deep/y",
    "foo/bar/z",
    "foo/1/2/bar/z",
    "foobar/z",
    "[x]/q",
    "x/q",
    "ab1",
    "ab2",
    "Documents/keep",
    "Documents/no.tmp",
    "star*name/f",
    "cache/CACHEDIR.TAG",
    "cache/deep/f",
    "hidden/.git/objects",
    "sp ace/f",
    "日本語/f",
    "d$x/f",
];

fn make_files_to_leave_out(source: &Path) {
    for name in FILES_TO_LEAVE_OUT {
        write(&source.join(name), name.as_bytes());
    }
    let tag = b"Signature: 8a477f597d28d172789f06886806bc55\n# mine\n";
    write(&source.join("cache/CACHEDIR.TAG"), tag);
    write(&source.join("hidden/CACHEDIR.TAG"), b"no signature");
}

/// Those files, and a vault that restic made, which both work on.
struct Both {
    folder: tempfile::TempDir,
    source: PathBuf,
    ours: Vault<Open>,
}

impl Both {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let source = folder.path().join("source");
        make_files_to_leave_out(&source);
        let vault = folder.path().join("vault");
        restic(folder.path(), &vault, &["init", "--repository-version", "2"]);
        Self { source, ours: open(local(&vault)), folder }
    }

    fn path(&self) -> String {
        self.source.display().to_string()
    }

    fn restic(&self, arguments: &[&str]) -> String {
        restic(self.folder.path(), &self.folder.path().join("vault"), arguments)
    }

    /// The files of the latest recovery point, as restic lists them.
    fn listed(&self) -> BTreeSet<String> {
        let (listed, path) = (self.restic(&["ls", "latest"]), self.path());
        listed.lines().filter(|line| line.starts_with(&path)).map(str::to_owned).collect()
    }
}

/// The same patterns leave out the same files.
#[test]
fn restic_and_we_leave_out_the_same() {
    let both = Both::new();
    let path = both.path();
    let whole = format!("{path}/sub");
    let taken_back = format!("!{path}/Documents/keep");
    let sets: [&[&str]; 18] = [
        &["*.o"],
        &["target"],
        &["foo/bar"],
        &["foo/**/bar"],
        &["foo/**"],
        &["**/deep/**"],
        &[&whole],
        &["/sub"],
        &["ab[1x]"],
        &["ab[^1]"],
        &[r"\[x\]"],
        &["x"],
        &[r"star\*name"],
        &["*.tmp", "Documents/*", &taken_back],
        &["./sub//deep/../a.o"],
        &["日*"],
        &["sp ace/"],
        &["?.c", "!a.c"],
    ];
    let mut left_out = 0;
    for patterns in sets {
        let mut arguments = vec!["backup", &path];
        patterns.iter().for_each(|pattern| arguments.extend(["--exclude", *pattern]));
        both.restic(&arguments);
        let theirs = both.listed();
        let excludes = patterns.iter().map(ToString::to_string).collect();
        let options = oms_backup::operation::BackupOptions { excludes, ..options(&both.source) };
        let plan = both.ours.plan_backup(&options).expect("a plan");
        let report = plan.run(&oms_backup::operation::Control::default()).expect("a point");
        assert_eq!(both.listed(), theirs, "{patterns:?}");
        left_out += u64::from(report.excluded > 0);
    }
    assert!(left_out > 14, "too easy: {left_out}");
}

/// Files of patterns and folders of caches are read alike.
#[test]
fn restic_and_we_read_the_same_files_of_patterns() {
    let both = Both::new();
    let path = both.path();
    std::fs::write(both.folder.path().join("patterns"), "# mine\n  *.c  \n\nsub\n$$x\nd$$x\n")
        .expect("written");
    let file = both.folder.path().join("patterns").display().to_string();
    both.restic(&["backup", &path, "--exclude-file", &file, "--exclude-caches"]);
    let theirs = both.listed();
    let ours_with = |file: &str| {
        let bytes = std::fs::read(file).expect("read");
        let excludes = oms_backup::operation::exclude_file_patterns(&bytes, |_| None);
        let excludes = excludes.expect("patterns");
        let options = oms_backup::operation::BackupOptions {
            excludes,
            exclude_caches: true,
            ..options(&both.source)
        };
        both.ours.plan_backup(&options).expect("a plan").run(&Default::default()).expect("a point");
        both.listed()
    };
    assert_eq!(ours_with(&file), theirs);
    // With a byte order mark, as some editors write one.
    let utf_16 = "\u{feff}*.c\nsub\n".encode_utf16();
    for bytes in
        ["\u{feff}*.c\nsub\n".into(), utf_16.flat_map(u16::to_le_bytes).collect::<Vec<u8>>()]
    {
        std::fs::write(&file, bytes).expect("written");
        both.restic(&["backup", &path, "--exclude-file", &file, "--exclude-caches"]);
        let theirs = both.listed();
        assert_eq!(ours_with(&file), theirs);
    }
}
