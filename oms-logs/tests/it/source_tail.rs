//! Following files through everything that is done to log files.

use oms_logs::source::FIELD_BYTES_MAX;
use oms_logs::source::tail::{
    FilePosition, LINES_PER_COLLECT_MAX, LinePosition, LineTail, StartAt,
};
use proptest::prelude::*;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

struct Log {
    folder: tempfile::TempDir,
    tail: LineTail,
}

impl Log {
    fn new() -> Self {
        Self::starting(StartAt::Beginning)
    }

    fn starting(start: StartAt) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let tail = LineTail::new(folder.path().join("syslog"), start);
        Self { folder, tail }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn append(&self, text: impl AsRef<[u8]>) {
        append(&self.path("syslog"), text.as_ref());
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).expect("renamed");
    }

    /// As a new process does, with the position as it was stored.
    fn restart(&mut self) {
        let stored = serde_json::to_string(&self.tail.position()).expect("stored");
        let position: LinePosition = serde_json::from_str(&stored).expect("read");
        self.tail = LineTail::new(self.path("syslog"), StartAt::Beginning);
        self.tail.resume(position);
    }

    fn collect(&mut self) -> Vec<String> {
        let lines = self.tail.collect().expect("collected").lines;
        lines.into_iter().map(|line| line.text).collect()
    }

    /// Collects until nothing comes any more, as several rounds do.
    fn drain(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..6 {
            all.extend(self.collect());
        }
        all
    }
}

fn append(path: &Path, text: &[u8]) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("opened");
    file.write_all(text).expect("written");
}

fn none() -> Vec<String> {
    Vec::new()
}

#[test]
fn a_line_is_given_once_its_end_is_written() {
    let mut log = Log::new();
    assert_eq!(log.collect(), none(), "there is no file yet");
    log.append("one\ntw");
    assert_eq!(log.collect(), ["one"]);
    assert_eq!(log.collect(), none());
    log.restart();
    log.append("o\r\n\n\nthree\n");
    assert_eq!(log.collect(), ["two", "three"]);
}

#[test]
fn the_end_of_a_renamed_file_comes_before_the_new_file() {
    let mut log = Log::new();
    log.append("a1\n");
    assert_eq!(log.collect(), ["a1"]);
    log.append("a2\n");
    log.rename("syslog", "syslog.1");
    log.append("b1\n");
    assert_eq!(log.collect(), ["a2"]);
    // The daemon still writes to the file it has open.
    append(&log.path("syslog.1"), b"a3\nunfinished");
    assert_eq!(log.collect(), ["a3"]);
    log.append("b2\n");
    assert_eq!(log.drain(), ["unfinished", "b1", "b2"]);
}

#[test]
fn several_rotations_during_a_restart_are_caught_up_in_order() {
    for dates in [false, true] {
        let mut log = Log::new();
        log.append("a1\n");
        assert_eq!(log.collect(), ["a1"]);
        log.append("a2\n");
        if dates {
            log.rename("syslog", "syslog-20261122");
            log.append("b1\nb2\n");
            log.rename("syslog", "syslog-20261123");
        } else {
            log.rename("syslog", "syslog.1");
            log.append("b1\nb2\n");
            log.rename("syslog.1", "syslog.2");
            log.rename("syslog", "syslog.1");
        }
        // An older one, and others that are not the log's.
        append(&log.path(if dates { "syslog-20261121" } else { "syslog.3" }), b"old\n");
        append(&log.path("syslog.backup"), b"no\n");
        append(&log.path("syslog.4.gz"), b"no\n");
        fs::create_dir(log.path("syslog.5")).expect("a folder");
        log.append("c1\n");
        log.restart();
        assert_eq!(log.drain(), ["a2", "b1", "b2", "c1"], "dates: {dates}");
    }
}

#[test]
fn a_removed_file_is_read_to_its_end_while_it_is_open() {
    let mut log = Log::new();
    log.append("a1\n");
    assert_eq!(log.collect(), ["a1"]);
    log.append("a2\n");
    fs::remove_file(log.path("syslog")).expect("removed");
    log.append("b1\n");
    assert_eq!(log.drain(), ["a2", "b1"]);
}

#[test]
fn a_file_that_is_gone_after_a_restart_is_a_gap() {
    let mut log = Log::new();
    log.append("a1\n");
    assert_eq!(log.collect(), ["a1"]);
    log.append("a2\n");
    log.restart();
    // The new file is written before the old one goes, so that it has another number.
    append(&log.path("new"), b"b1\n");
    log.rename("new", "syslog");
    let lines = log.tail.collect().expect("collected");
    assert_eq!((lines.lines[0].text.as_str(), lines.notes.gaps), ("b1", 1));
}

#[test]
fn a_number_that_is_used_again_is_not_the_same_file() {
    let mut log = Log::new();
    log.append("a1 is a long line\n");
    assert_eq!(log.collect(), ["a1 is a long line"]);
    let position = log.tail.position();
    // The same number and more bytes, but another beginning.
    fs::write(log.path("syslog"), "b1\nb2\nb3\nb4\nb5\nb6\nb7\nb8\n").expect("written");
    log.restart();
    assert_eq!(log.tail.position(), position);
    assert_eq!(log.collect(), ["b1", "b2", "b3", "b4", "b5", "b6", "b7", "b8"]);
}

#[test]
fn a_truncated_file_begins_anew() {
    let mut log = Log::new();
    log.append("a1\na2\n");
    assert_eq!(log.collect(), ["a1", "a2"]);
    fs::write(log.path("syslog"), "").expect("truncated");
    assert_eq!(log.collect(), none());
    log.append("b1\n");
    assert_eq!(log.collect(), ["b1"]);
}

#[test]
fn what_was_written_before_a_copy_and_truncation_is_in_the_copy() {
    let mut log = Log::new();
    log.append("a1\n");
    assert_eq!(log.collect(), ["a1"]);
    log.append("a2\na3\n");
    fs::copy(log.path("syslog"), log.path("syslog.1")).expect("copied");
    fs::write(log.path("syslog"), "").expect("truncated");
    log.append("b1\n");
    log.restart();
    assert_eq!(log.drain(), ["a2", "a3", "b1"]);
}

/// A program without append mode goes on at its offset, in front of which there is a hole.
#[test]
fn a_hole_in_front_of_a_line_is_passed() {
    let mut log = Log::new();
    log.append("a1\n");
    assert_eq!(log.collect(), ["a1"]);
    let mut bytes = vec![0; 100_000];
    bytes.extend(b"b1\n");
    fs::write(log.path("syslog"), bytes).expect("written");
    assert_eq!(log.collect(), ["b1"]);
}

#[test]
fn long_lines_are_cut_and_counted_across_collections() {
    let mut log = Log::new();
    log.append("x".repeat(FIELD_BYTES_MAX + 10));
    let first = log.tail.collect().expect("collected");
    assert_eq!((first.lines.len(), first.notes.truncated), (1, 1));
    assert_eq!(first.lines[0].text.len(), FIELD_BYTES_MAX);
    assert!(first.lines[0].truncated);
    log.restart();
    log.append("y".repeat(3 * FIELD_BYTES_MAX));
    assert_eq!(log.collect(), none());
    log.append(format!("\n{}\nlast\n", "ä".repeat(FIELD_BYTES_MAX)));
    let second = log.tail.collect().expect("collected");
    assert_eq!((second.notes.truncated, second.notes.lossy), (1, 0), "cut between characters");
    assert_eq!(second.lines[1].text, "last");
}

#[test]
fn bytes_that_are_not_utf8_are_replaced_and_counted() {
    let mut log = Log::new();
    log.append(b"caf\xe9 au lait\ngood\n");
    let lines = log.tail.collect().expect("collected");
    assert_eq!(lines.lines[0].text, "caf\u{fffd} au lait");
    assert_eq!((lines.notes.lossy, lines.lines[1].lossy), (1, false));
}

#[test]
fn a_collection_is_bounded_and_says_so() {
    let mut log = Log::new();
    let count = LINES_PER_COLLECT_MAX * 2 + 1;
    log.append((0..count).map(|n| format!("{n}\n")).collect::<String>());
    let mut all = Vec::new();
    let mut calls = 0;
    loop {
        let lines = log.tail.collect().expect("collected");
        assert!(lines.lines.len() <= LINES_PER_COLLECT_MAX);
        all.extend(lines.lines.into_iter().map(|line| line.text));
        calls += 1;
        if !lines.more {
            break;
        }
    }
    assert_eq!(calls, 3);
    assert!(all.iter().enumerate().all(|(n, line)| *line == n.to_string()));
    assert_eq!(all.len(), count);
}

#[test]
fn following_from_the_end_leaves_out_what_was_there() {
    let mut log = Log::starting(StartAt::End);
    log.append("old\n");
    assert_eq!(log.collect(), none());
    log.append("new\n");
    assert_eq!(log.collect(), ["new"]);
}

#[test]
fn a_file_that_appears_later_is_new_from_its_beginning() {
    let mut log = Log::starting(StartAt::End);
    assert_eq!(log.collect(), none(), "there is no file yet");
    log.append("first\n");
    assert_eq!(log.collect(), ["first"]);
}

/// The newest rotated file may be written to for a while; older ones are read without waiting.
#[test]
fn a_backlog_of_rotated_files_takes_a_few_rounds() {
    let mut log = Log::new();
    log.append("0\n");
    assert_eq!(log.collect(), ["0"]);
    for turn in 1..30_u32 {
        for older in (1..turn).rev() {
            log.rename(&format!("syslog.{older}"), &format!("syslog.{}", older + 1));
        }
        log.rename("syslog", "syslog.1");
        log.append(format!("{turn}\n"));
    }
    let want: Vec<String> = (1..30).map(|turn| turn.to_string()).collect();
    assert_eq!(log.drain(), want, "six rounds are enough");
}

#[test]
fn what_is_no_file_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = LineTail::new(folder.path(), StartAt::Beginning).collect().expect_err("a folder");
    assert_eq!(error.kind(), oms_core::ErrorKind::Unsupported);
    let below_a_file = folder.path().join("file");
    File::create(&below_a_file).expect("created");
    let error = LineTail::new(below_a_file.join("log"), StartAt::Beginning).collect();
    assert!(error.is_err(), "{error:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However a file grows and whenever the process is restarted, each finished line is given once
    /// and in order.
    #[test]
    fn every_line_is_given_once(
        steps in prop::collection::vec(
            (prop::sample::select(vec!["a", "bc\n", "\n", "d\r\n", "é\n"]), 0..4_u8),
            0..24,
        ),
    ) {
        let mut log = Log::new();
        let (mut written, mut seen) = (String::new(), Vec::new());
        for (text, act) in steps {
            log.append(text);
            written.push_str(text);
            match act {
                0 => seen.extend(log.collect()),
                1 => log.restart(),
                _ => {}
            }
        }
        log.append("\n");
        written.push('\n');
        seen.extend(log.drain());
        let expected: Vec<&str> = written.lines().filter(|line| !line.is_empty()).collect();
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn any_position_is_read_on_from(
        offset: u64, head_bytes: u64, inode: u64, head_crc: u32, skipping: bool, is_here: bool,
    ) {
        use std::os::unix::fs::MetadataExt;
        let mut log = Log::new();
        log.append("one\ntwo\n");
        let found = fs::metadata(log.path("syslog")).expect("a file");
        let inode = if is_here { found.ino() } else { inode };
        let file = FilePosition { device: found.dev(), inode, offset, head_bytes, head_crc };
        log.tail.resume(LinePosition { file: Some(file), skipping });
        for line in log.drain() {
            prop_assert!(["one", "two"].contains(&line.as_str()), "{line:?}");
        }
    }
}
