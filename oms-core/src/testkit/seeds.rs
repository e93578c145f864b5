//! Which seeds a simulation runs.
//!
//! - Ordinarily a fixed set, so that a change that breaks something is seen by everyone.
//! - `OMS_SEED=7`: only that one, to look at a failure.
//! - `OMS_SIM_SECONDS=20`: fresh ones, one after the other, for about that long.
//!
//! A run that fails prints its seed and the command that repeats it.

use crate::clock::{Clock, SystemClock};
use crate::entropy::{EntropyExt, SystemEntropy};
use futures::FutureExt;
use std::fmt::Debug;
use std::future::Future;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::str::FromStr;
use std::time::Duration;

/// Runs the seed that it names and no other.
pub const ONE_SEED_VARIABLE: &str = "OMS_SEED";

/// Runs fresh seeds for so many seconds.
pub const FRESH_SECONDS_VARIABLE: &str = "OMS_SIM_SECONDS";

/// The longest time for fresh seeds, in seconds.
pub const FRESH_SECONDS_MAX: u64 = 24 * 3_600;

/// The seeds of one simulation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seeds {
    test: &'static str,
    plan: Plan,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Plan {
    Fixed(Range<u64>),
    One(u64),
    Fresh(Duration),
}

impl Seeds {
    /// The seeds that the environment asks for, or else `fixed`. `test` is the name of the test,
    /// with its module, for the command that repeats a failure.
    ///
    /// # Panics
    /// If a variable is no number, or the seconds are too many: the caller mistyped it.
    #[must_use]
    pub fn of(test: &'static str, fixed: Range<u64>) -> Self {
        let variable = |name| std::env::var(name).ok();
        Self::from(test, fixed, variable(ONE_SEED_VARIABLE), variable(FRESH_SECONDS_VARIABLE))
    }

    fn from(
        test: &'static str,
        fixed: Range<u64>,
        one: Option<String>,
        seconds: Option<String>,
    ) -> Self {
        let plan = match (one, seconds) {
            (Some(seed), _) => Plan::One(number(ONE_SEED_VARIABLE, &seed)),
            (None, Some(seconds)) => {
                let seconds = number(FRESH_SECONDS_VARIABLE, &seconds);
                assert!(
                    seconds <= FRESH_SECONDS_MAX,
                    "{FRESH_SECONDS_VARIABLE} is more than {FRESH_SECONDS_MAX}"
                );
                Plan::Fresh(Duration::from_secs(seconds))
            }
            (None, None) => Plan::Fixed(fixed),
        };
        Self { test, plan }
    }

    /// Whether it is the fixed set: only of that can a test say how much of each thing happens.
    #[must_use]
    pub const fn is_fixed(&self) -> bool {
        matches!(self.plan, Plan::Fixed(_))
    }

    /// Runs `world` with each seed; answers how many there were.
    ///
    /// # Panics
    /// As `world` does, after the seed is printed.
    pub fn run(&self, mut world: impl FnMut(u64)) -> u64 {
        let mut walk = Walk::new(&self.plan);
        while let Some(seed) = walk.next() {
            let ended = catch_unwind(AssertUnwindSafe(|| world(seed)));
            self.look(seed, ended);
        }
        walk.finish(self.test)
    }

    /// Runs `world` with each seed; answers how many there were.
    ///
    /// # Panics
    /// As `world` does, after the seed is printed.
    pub async fn run_async<F: Future<Output = ()>>(&self, mut world: impl FnMut(u64) -> F) -> u64 {
        let mut walk = Walk::new(&self.plan);
        while let Some(seed) = walk.next() {
            let ended = AssertUnwindSafe(world(seed)).catch_unwind().await;
            self.look(seed, ended);
        }
        walk.finish(self.test)
    }

    #[expect(clippy::print_stderr, reason = "a failing test prints how it is repeated")]
    fn look(&self, seed: u64, ended: std::thread::Result<()>) {
        if let Err(panic) = ended {
            eprintln!("{}", self.command(seed));
            resume_unwind(panic);
        }
    }

    /// What to type to see a failure again.
    fn command(&self, seed: u64) -> String {
        // Cargo tells a test which package it is of.
        let package = std::env::var("CARGO_PKG_NAME").unwrap_or_else(|_| "PACKAGE".to_owned());
        format!(
            "seed {seed} failed; again: {ONE_SEED_VARIABLE}={seed} cargo test -p {package} {}",
            self.test
        )
    }
}

fn number<T: FromStr<Err: Debug>>(variable: &str, text: &str) -> T {
    let number = text.parse().ok();
    assert!(number.is_some(), "{variable} is not a number: {text}");
    number.expect("checked")
}

/// One walk through a plan.
struct Walk {
    fixed: Range<u64>,
    /// When the last fresh seed may begin.
    until: Option<Duration>,
    count: u64,
}

impl Walk {
    fn new(plan: &Plan) -> Self {
        let (fixed, until) = match plan {
            Plan::Fixed(fixed) => (fixed.clone(), None),
            Plan::One(seed) => (*seed..seed.saturating_add(1), None),
            Plan::Fresh(time) => (0..0, Some(SystemClock.monotonic() + *time)),
        };
        Self { fixed, until, count: 0 }
    }

    fn next(&mut self) -> Option<u64> {
        let seed = match self.until {
            None => self.fixed.next()?,
            // At least one, however short the time is.
            Some(until) if self.count == 0 || SystemClock.monotonic() < until => {
                SystemEntropy.number() >> 16
            }
            Some(_) => return None,
        };
        self.count += 1;
        Some(seed)
    }

    #[expect(clippy::print_stderr, reason = "tells how much was simulated")]
    fn finish(self, test: &str) -> u64 {
        if self.until.is_some() {
            // One write, which what other tests say meanwhile cannot break.
            let line = format!("{test}: {} fresh seeds\n", self.count);
            eprint!("{line}");
        }
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds(one: Option<&str>, seconds: Option<&str>) -> Seeds {
        Seeds::from("sim", 3..6, one.map(str::to_owned), seconds.map(str::to_owned))
    }

    fn walked(seeds: &Seeds) -> Vec<u64> {
        let mut walked = Vec::new();
        assert_eq!(seeds.run(|seed| walked.push(seed)), walked.len() as u64);
        walked
    }

    #[test]
    fn a_fixed_set_one_seed_or_fresh_ones() {
        assert_eq!(walked(&seeds(None, None)), [3, 4, 5]);
        assert_eq!(walked(&seeds(Some("17"), Some("5"))), [17]);
        let (first, second) = (walked(&seeds(None, Some("0"))), walked(&seeds(None, Some("0"))));
        assert_eq!((first.len(), second.len()), (1, 1));
        assert_ne!(first, second);
        assert!(seeds(None, None).is_fixed() && !seeds(Some("1"), None).is_fixed());
    }

    #[tokio::test]
    async fn an_asynchronous_world_is_the_same() {
        let walked = std::sync::Mutex::new(Vec::new());
        let note = |seed| walked.lock().expect("not poisoned").push(seed);
        assert_eq!(seeds(None, None).run_async(|seed| async move { note(seed) }).await, 3);
        assert_eq!(*walked.lock().expect("not poisoned"), [3, 4, 5]);
    }

    #[test]
    fn a_failure_passes_on_and_names_its_seed() {
        let failed = catch_unwind(|| seeds(None, None).run(|seed| assert_ne!(seed, 4, "wrong")));
        let panic = failed.expect_err("it fails");
        let text = panic.downcast_ref::<String>().expect("a text");
        assert!(text.contains("wrong"), "{text}");
        let command = seeds(None, None).command(4);
        assert_eq!(command, "seed 4 failed; again: OMS_SEED=4 cargo test -p oms-core sim");
    }

    #[test]
    #[should_panic(expected = "OMS_SEED is not a number: x")]
    fn a_mistyped_seed_is_refused() {
        let _ = seeds(Some("x"), None);
    }
}
