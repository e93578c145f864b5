//! Several programs on one vault.

use crate::common::*;
use oms_backup::Error;
use oms_backup::operation::Control;
use oms_backup::vault::Vault;
use oms_core::testkit::disk::SimDisk;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn two_writers_at_once_both_succeed() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = local(&folder.path().join("vault"));
    create(Arc::clone(&disk));
    let sources: Vec<_> = (0..2).map(|n| folder.path().join(format!("source{n}"))).collect();
    for (number, source) in sources.iter().enumerate() {
        write(&source.join("own"), &random(number as u64, 6_000_000));
        write(&source.join("shared"), &random(99, 6_000_000));
    }
    std::thread::scope(|scope| {
        for source in &sources {
            let vault = open(Arc::clone(&disk));
            scope.spawn(move || backup(&vault, source));
        }
    });
    let vault = open(disk);
    assert!(verify(&vault, true).is_clean());
    assert_eq!(vault.points().expect("a list").len(), 2);
    for (number, source) in sources.iter().enumerate() {
        let point = vault
            .points()
            .expect("a list")
            .into_iter()
            .find(|point| point.snapshot.paths == [source.display().to_string()]);
        let target = folder.path().join(format!("target{number}"));
        restore(&vault, &point.expect("a point").id.to_string(), source, &target);
        assert_same(&describe(source), &describe(&target));
    }
}

#[test]
fn a_writer_that_slept_too_long_does_not_commit() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("file"), b"x");
    let disk = SimDisk::default();
    let clock: Arc<dyn oms_core::Clock> = Arc::new(SleepyClock::default());
    let vault = Vault::new(Arc::new(disk.clone()))
        .kdf(KDF)
        .clock(Arc::clone(&clock))
        .create(&passphrase())
        .expect("a vault");
    let plan = vault.plan_backup(&options(folder.path())).expect("a plan");
    let error = plan.run(&Control::default()).expect_err("too late");
    assert!(matches!(error, Error::LockLost { .. }), "{error}");
    assert!(vault.points().expect("a list").is_empty());
}

/// Every look at it is an hour after the one before: a computer that is suspended all the time.
#[derive(Debug, Default)]
struct SleepyClock(std::sync::atomic::AtomicI64);

impl oms_core::Clock for SleepyClock {
    fn now(&self) -> jiff::Timestamp {
        let hours = self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        jiff::Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(hours)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}
