//! One line on a terminal that tells how far long work is.
//!
//! Nothing is written where standard error is no terminal, nor with `--json`, nor by a serving
//! process.

use oms_core::clock::Stopwatch;
use std::io::{IsTerminal, Write, stderr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the line is written again.
const REDRAW_EVERY: Duration = Duration::from_millis(200);

/// Characters of the bar.
const BAR_CHARACTERS: u64 = 24;

/// Whether this process shows progress.
static IS_SHOWN: AtomicBool = AtomicBool::new(false);

/// Shows progress from now on, if somebody is there to see it.
pub(crate) fn enable(is_json: bool) {
    IS_SHOWN.store(!is_json && stderr().is_terminal(), Ordering::Relaxed);
}

/// How far work is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Done {
    /// Bytes done.
    pub(crate) bytes: u64,
    /// All bytes, if that is known.
    pub(crate) total: Option<u64>,
}

/// Bytes that one side counts and the line shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counted(Arc<AtomicU64>);

impl Counted {
    pub(crate) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A line that is there until it is dropped.
#[derive(Debug)]
pub(crate) struct Line {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Line {
    /// Begins to show what `done` answers.
    pub(crate) fn start(label: &'static str, done: impl Fn() -> Done + Send + 'static) -> Self {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let watched = Arc::clone(&stop);
        // A thread of its own: the work may keep every other one busy.
        let thread = IS_SHOWN.load(Ordering::Relaxed).then(|| {
            std::thread::Builder::new()
                .name("oms-progress".to_owned())
                .spawn(move || draw(label, done, &watched))
        });
        // Without a thread the work goes on unseen.
        Self { stop, thread: thread.and_then(Result::ok) }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn draw(label: &str, done: impl Fn() -> Done, stop: &(Mutex<bool>, Condvar)) {
    let watch = Stopwatch::start();
    let mut stopped = stop.0.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        // A terminal that went away is no reason to end the work.
        let _ = write!(stderr(), "\r{}\x1b[K", render(label, done(), watch.seconds()));
        let _ = stderr().flush();
        if *stopped {
            break;
        }
        let waited = stop.1.wait_timeout(stopped, REDRAW_EVERY);
        stopped = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
    let _ = write!(stderr(), "\r\x1b[K");
    let _ = stderr().flush();
}

/// The line, without what moves the cursor.
fn render(label: &str, done: Done, seconds: f64) -> String {
    use crate::tour::account::bytes;
    let rate = if seconds > 0.0 { (done.bytes as f64 / seconds) as u64 } else { 0 };
    let rate = bytes(rate);
    match done.total.filter(|total| *total > 0) {
        None => format!("{label}  {}  {rate}/s", bytes(done.bytes)),
        Some(total) => {
            let part = done.bytes.min(total);
            let filled =
                (u128::from(part) * u128::from(BAR_CHARACTERS) / u128::from(total)) as usize;
            let percent = u128::from(part) * 100 / u128::from(total);
            let bar = format!("{:<1$}", "#".repeat(filled), BAR_CHARACTERS as usize);
            let (part, total) = (bytes(part), bytes(total));
            format!("{label}  [{bar}] {percent:>3} %  {part} of {total}  {rate}/s")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_bytes_and_rate_and_how_much_of_a_known_total() {
        let done = Done { bytes: 50 << 20, total: None };
        assert_eq!(render("backup", done, 5.0), "backup  50.0 MiB  10.0 MiB/s");
        let done = Done { bytes: 50 << 20, total: Some(200 << 20) };
        let line = render("restore", done, 0.0);
        assert!(line.starts_with("restore  [######                  ]  25 %"), "{line}");
        assert!(line.contains("50.0 MiB of 200.0 MiB"), "{line}");
        let over = Done { bytes: u64::MAX, total: Some(1) };
        assert!(render("x", over, 1.0).contains("100 %"), "more than all is all");
    }

    #[test]
    fn nothing_is_drawn_where_nobody_looks() {
        let line = Line::start("x", Done::default);
        assert!(line.thread.is_none());
    }
}
