//! Items and jobs, over a journal that fails and a program that ends.

use crate::common::*;
use oms_backup::Error;
use oms_backup::item::{ItemOptions, ProtectionContainer, ProtectionState};
use oms_backup::job::{JobEnd, JobState, records};
use oms_backup::operation::RestoreOptions;
use oms_core::entropy::SeededEntropy;
use oms_core::journal::{Journal, JournalExt, MemoryJournal, READ_MAX};
use oms_core::record::Value;
use oms_core::testkit::disk::SimDisk;
use oms_core::testkit::fault::{Faults, Faulty};
use oms_core::{Disk, EntropyExt as _, ErrorKind};
use std::path::Path;
use std::sync::Arc;

fn item(path: &Path) -> ItemOptions {
    let name = "documents".to_owned();
    ItemOptions { name, paths: vec![path.to_owned()], one_file_system: false }
}

async fn create_container(disk: Arc<dyn Disk>, journal: Arc<dyn Journal>) -> ProtectionContainer {
    let builder = ProtectionContainer::builder(disk, journal).kdf(KDF).name("pc");
    builder.create(&passphrase()).await.expect("a container")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_is_backed_up_and_restored_by_jobs() {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    write(&source.join("a"), &text(1, 100_000));
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
    let disk = local(&folder.path().join("vault"));
    let container = create_container(Arc::clone(&disk), Arc::clone(&journal)).await;
    let id = container.protect(item(&source)).await.expect("protected");
    assert_eq!(container.item(id).await.expect("it").state, ProtectionState::IrPending);
    let job = container.backup(id).await.expect("a job");
    let job = container.wait(job).await.expect("it ends");
    assert_eq!(job.state, JobState::Completed, "{job:?}");
    let outcome = job.outcome().expect("an outcome").clone();
    assert_eq!((outcome.files, outcome.bytes), (1, 100_000));
    let protected = container.item(id).await.expect("it");
    assert_eq!(protected.state, ProtectionState::Protected);
    assert_eq!(protected.latest.map(|(point, _)| point), outcome.point);

    let options = RestoreOptions { path: Some(source.clone()), ..RestoreOptions::latest(&target) };
    let restore = container.restore(options.clone()).await.expect("a job");
    let restore = container.wait(restore).await.expect("it ends");
    assert_eq!(restore.state, JobState::Completed, "{restore:?}");
    assert_same(&describe(&source), &describe(&target));
    let refused = container.restore(options).await.expect("a job");
    let refused = container.wait(refused).await.expect("it ends");
    assert!(
        matches!(&refused.end, Some(JobEnd::Failed { code, .. }) if code == "AlreadyExists"),
        "{refused:?}"
    );

    // After a restart everything is as it was.
    let (items, jobs) = (container.items().await, container.jobs().await.expect("a list"));
    drop(container);
    let builder = ProtectionContainer::builder(disk, Arc::clone(&journal)).name("pc");
    let again = builder.open(&passphrase()).await.expect("it opens");
    assert_eq!(again.items().await, items);
    assert_eq!(again.jobs().await.expect("a list"), jobs);
    assert_eq!(jobs.len(), 3);

    let events = journal.read_all(0, 100).await.expect("events");
    let all: Vec<_> =
        events.iter().flat_map(|event| records(event, "pc").expect("known")).collect();
    let rows = |table: &str| all.iter().filter(|r| r.record_type.as_str() == table).count();
    assert_eq!((rows("AddonAzureBackupJobs"), rows("CoreAzureBackup")), (3, 2));
    let statuses: Vec<_> = all.iter().filter_map(|record| record.fields.get("JobStatus")).collect();
    let status = |text: &str| Value::String(text.to_owned());
    assert_eq!(statuses, [&status("Completed"), &status("Completed"), &status("Failed")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
    let container = create_container(Arc::new(SimDisk::default()), journal).await;
    let unnamed = ItemOptions { name: String::new(), ..item(folder.path()) };
    assert_eq!(container.protect(unnamed).await.expect_err("no name").kind(), ErrorKind::Invalid);
    let relative = item(Path::new("relative"));
    assert_eq!(container.protect(relative).await.expect_err("it").kind(), ErrorKind::Invalid);
    let error = container.restore(RestoreOptions::latest("/x")).await.expect_err("no point");
    assert!(matches!(error, Error::PointNotFound { .. }), "{error}");
    let id = container.protect(item(&folder.path().join("missing"))).await.expect("protected");
    let job = container.backup(id).await.expect("a job");
    let job = container.wait(job).await.expect("it ends");
    assert!(matches!(&job.end, Some(JobEnd::Failed { code, .. }) if code == "NotFound"), "{job:?}");
    container.stop_protection(id).await.expect("stopped");
    let error = container.backup(id).await.expect_err("stopped");
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed);
    assert_eq!(container.cancel(job.id).await.expect_err("ended").kind(), ErrorKind::NotFound);
    container.resume_protection(id).await.expect("resumed");
    assert_eq!(container.item(id).await.expect("it").state, ProtectionState::IrPending);
}

/// The auditor: every accepted job ends, and it says that it completed if and only if the vault
/// has the recovery point it made.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_tell_the_truth_over_a_failing_journal_and_restarts() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("a"), &text(1, 10_000));
    for seed in 0..12 {
        let entropy = SeededEntropy::new(seed);
        let faults = Arc::new(Faults::new(seed));
        let journal: Arc<dyn Journal> =
            Arc::new(Faulty::new(MemoryJournal::default(), Arc::clone(&faults)));
        let disk = SimDisk::default();
        let mut container = create_container(Arc::new(disk.clone()), Arc::clone(&journal)).await;
        let id = container.protect(item(folder.path())).await.expect("protected");
        let mut accepted = Vec::new();
        for _ in 0..10 {
            faults.set_before(150);
            faults.set_after(150);
            if let Ok(job) = container.backup(id).await {
                accepted.push(job);
                if entropy.below(2) == 0 {
                    let _ = container.wait(job).await;
                }
            }
            if entropy.below(3) == 0 {
                faults.set_before(0);
                faults.set_after(0);
                // As a program that ends: what still runs in its threads is let go first, because
                // two programs must not have one container open.
                for job in container.jobs().await.expect("a list") {
                    let _ = container.wait(job.id).await;
                }
                drop(container);
                let builder =
                    ProtectionContainer::builder(Arc::new(disk.clone()), Arc::clone(&journal));
                let opened = builder.name("pc").open(&passphrase()).await;
                container = opened.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            }
        }
        faults.set_before(0);
        faults.set_after(0);
        let points = container.points().await.expect("a list");
        for job in container.jobs().await.expect("a list") {
            let job = container.wait(job.id).await.expect("it ends");
            let tag = format!("oms-job:{}", job.id);
            let is_made = container.points().await.expect("a list");
            let is_made = is_made.iter().any(|point| point.snapshot.tags.contains(&tag));
            let is_done = job.state == JobState::Completed;
            assert_eq!(is_made, is_done, "seed {seed}: {job:?}");
            accepted.retain(|id| *id != job.id);
        }
        assert!(accepted.is_empty(), "seed {seed}: accepted and lost: {accepted:?}");
        assert!(points.len() <= 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_program_ended_tells_what_became_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("a"), &text(1, 10_000));
    for is_committed in [false, true] {
        let faults = Arc::new(Faults::new(1));
        let journal: Arc<dyn Journal> =
            Arc::new(Faulty::new(MemoryJournal::default(), Arc::clone(&faults)));
        let disk = SimDisk::default();
        let container = create_container(Arc::new(disk.clone()), Arc::clone(&journal)).await;
        let id = container.protect(item(folder.path())).await.expect("protected");
        if !is_committed {
            disk.set_capacity(Some(0));
        }
        let job = container.backup(id).await.expect("a job");
        // The program ends before the journal has the job's end.
        faults.set_before(1000);
        while container.progress(job).is_some() {
            tokio::task::yield_now().await;
        }
        drop(container);
        faults.set_before(0);
        disk.set_capacity(None);
        let builder = ProtectionContainer::builder(Arc::new(disk), journal).name("pc");
        let again = builder.open(&passphrase()).await.expect("it opens");
        let job = again.job(job).await.expect("it is known");
        if is_committed {
            assert_eq!(job.state, JobState::Completed, "{job:?}");
        } else {
            let Some(JobEnd::Failed { code, .. }) = &job.end else { panic!("{job:?}") };
            assert!(code == "Interrupted" || code == "LimitExceeded", "{job:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_does_not_open_has_begun_no_job() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("a"), &text(1, 10_000));
    let (disk, journal) = (SimDisk::default(), Arc::new(MemoryJournal::default()));
    let container =
        create_container(Arc::new(disk.clone()), Arc::<MemoryJournal>::clone(&journal)).await;
    let mut jobs = Vec::new();
    for _ in 0..2 {
        let id = container.protect(item(folder.path())).await.expect("protected");
        jobs.push(container.backup(id).await.expect("a job"));
    }
    for job in &jobs {
        container.wait(*job).await.expect("it ends");
    }
    drop(container);
    let events = journal.read_all(0, READ_MAX).await.expect("events");
    let mut refusals = 0;
    for seed in 0..60 {
        // Two items whose jobs wait: their histories as they began.
        let faults = Arc::new(Faults::new(seed));
        let journal = Arc::new(Faulty::new(MemoryJournal::default(), Arc::clone(&faults)));
        for event in events.iter().filter(|event| event.version == 1) {
            let first = vec![event.envelope.clone()];
            journal.append_to(&event.history, 0, first).await.expect("appended");
        }
        faults.set_before(100);
        let container = loop {
            let failing = Arc::<Faulty<_>>::clone(&journal) as Arc<dyn Journal>;
            let builder = ProtectionContainer::builder(Arc::new(disk.clone()), failing).name("pc");
            match builder.open(&passphrase()).await {
                Ok(container) => break container,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "seed {seed}"),
            }
            refusals += 1;
            let heads = journal.inner().list("backup-job", None, READ_MAX).await.expect("heads");
            assert!(heads.iter().all(|head| head.version == 1), "seed {seed}: {heads:?}");
        };
        faults.set_before(0);
        for job in &jobs {
            let job = container.wait(*job).await.expect("it ends");
            assert_eq!(job.state, JobState::Completed, "seed {seed}: {job:?}");
        }
    }
    assert!(refusals > 0);
}
