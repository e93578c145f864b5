//! What every [`Clock`] must do.

use crate::clock::{Clock, ManualClock, SystemClock};
use std::fmt::Debug;
use std::sync::{Arc, Barrier};
use std::time::Duration;

/// How many threads read a clock at a time.
const READERS: usize = 4;

/// How often each of them does.
const READINGS: usize = 2_000;

/// How much the time passes in a case.
const PASSES: Duration = Duration::from_millis(3);

/// A clock, and the world that it shows the time of.
pub trait TestedClock: Debug + Send + Sync {
    /// The clock.
    fn clock(&self) -> &dyn Clock;

    /// Lets at least so much time pass.
    fn pass(&self, time: Duration);

    /// Sets the wall clock back by an hour, as an administrator does; false if a test cannot.
    fn set_back(&self) -> bool;
}

/// The system's clock goes on by itself.
impl TestedClock for SystemClock {
    fn clock(&self) -> &dyn Clock {
        self
    }

    fn pass(&self, time: Duration) {
        let start = self.monotonic();
        while self.monotonic() - start < time {
            std::thread::yield_now();
        }
    }

    fn set_back(&self) -> bool {
        false
    }
}

impl TestedClock for ManualClock {
    fn clock(&self) -> &dyn Clock {
        self
    }

    fn pass(&self, time: Duration) {
        self.advance(time);
    }

    fn set_back(&self) -> bool {
        self.set(self.now() - jiff::SignedDuration::from_hours(1));
        true
    }
}

/// One requirement: its name and the function that checks it.
pub type Case = (&'static str, fn(&dyn TestedClock));

/// Time that passes is measured: both readings go on by at least so much.
pub fn time_passes(tested: &dyn TestedClock) {
    let clock = tested.clock();
    for _ in 0..3 {
        let before = (clock.now(), clock.monotonic());
        tested.pass(PASSES);
        let measured = clock.monotonic().saturating_sub(before.1);
        assert!(measured >= PASSES, "measured {measured:?}");
        // The system may set its clock meanwhile, so of it only this much is sure.
        assert!(clock.now() != before.0, "the wall clock stands still");
    }
}

/// The monotonic reading goes on where the wall clock is set back, and the wall clock follows.
pub fn a_clock_set_back_shortens_no_duration(tested: &dyn TestedClock) {
    let clock = tested.clock();
    tested.pass(PASSES);
    let before = (clock.now(), clock.monotonic());
    if !tested.set_back() {
        return;
    }
    assert!(clock.monotonic() >= before.1, "a duration would be negative");
    assert!(clock.now() < before.0, "the wall clock may jump");
    tested.pass(PASSES);
    assert!(clock.monotonic() - before.1 >= PASSES);
}

/// Every thread reads from one origin: what is read later is not less, whoever reads it.
pub fn threads_share_the_origin(tested: &dyn TestedClock) {
    tested.pass(PASSES);
    let (clock, mut latest) = (tested.clock(), tested.clock().monotonic());
    for _ in 0..READERS {
        let read = std::thread::scope(|scope| scope.spawn(|| clock.monotonic()).join());
        let read = read.expect("a reader");
        assert!(read >= latest, "{read:?} after {latest:?}");
        latest = read;
    }
}

/// Durations never go back, also where many read at a time.
pub fn durations_never_go_back(tested: &dyn TestedClock) {
    tested.pass(PASSES);
    let (clock, start) = (tested.clock(), Arc::new(Barrier::new(READERS + 1)));
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            let start = Arc::clone(&start);
            scope.spawn(move || {
                start.wait();
                let mut before = clock.monotonic();
                for _ in 0..READINGS {
                    let now = clock.monotonic();
                    assert!(now >= before, "{now:?} after {before:?}");
                    before = now;
                }
            });
        }
        start.wait();
        (0..20).for_each(|_| tested.pass(Duration::from_micros(50)));
    });
}

macro_rules! cases {
    ($($case:ident),+) => {
        /// Every requirement.
        pub const CASES: &[Case] = &[$((stringify!($case), $case)),+];
    };
}
cases!(
    time_passes,
    a_clock_set_back_shortens_no_duration,
    threads_share_the_origin,
    durations_never_go_back
);

/// Runs every requirement as a test of its own, each on a [`TestedClock`](crate::testkit::clock::TestedClock)
/// from the factory.
#[macro_export]
macro_rules! clock_conformance {
    ($make:expr) => {
        $crate::clock_conformance!(@each $make;
            time_passes, a_clock_set_back_shortens_no_duration, threads_share_the_origin,
            durations_never_go_back);
    };
    (@each $make:expr; $($case:ident),+) => {
        mod conformance {
            #[allow(unused_imports, reason = "the factory may need no imports")]
            use super::*;
            $(#[test]
            fn $case() {
                $crate::testkit::clock::$case(&($make)());
            })+
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::skew::SkewedClock;
    use jiff::{SignedDuration, Timestamp};

    mod system {
        use super::*;
        crate::clock_conformance!(|| SystemClock);
    }

    mod manual {
        use super::*;
        crate::clock_conformance!(|| ManualClock::new(Timestamp::UNIX_EPOCH));
    }

    #[derive(Debug)]
    struct Beside(Arc<ManualClock>, SkewedClock<ManualClock>);

    impl TestedClock for Beside {
        fn clock(&self) -> &dyn Clock {
            &self.1
        }

        fn pass(&self, time: Duration) {
            self.0.advance(time);
        }

        fn set_back(&self) -> bool {
            self.0.set_back()
        }
    }

    mod skewed {
        use super::*;
        crate::clock_conformance!(|| {
            let world = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
            let fast = SkewedClock::new(Arc::clone(&world), SignedDuration::from_hours(2), 40_000);
            Beside(world, fast)
        });
    }
}
