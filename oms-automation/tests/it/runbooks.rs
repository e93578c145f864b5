//! Drafts and published versions.

use crate::host::{Host, completed, name};
use oms_automation::runbook::{LogSwitches, RunbookKind, RunbookState};
use oms_automation::{Error, JobOptions, RunbookOptions};
use oms_core::ErrorKind;

fn options(runbook: &str) -> RunbookOptions {
    RunbookOptions {
        name: name(runbook),
        kind: RunbookKind::Bash,
        description: "for a test".to_owned(),
        logs: LogSwitches::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_what_was_published() {
    let host = Host::new().await;
    let account = &host.account;
    let (runbook, other_case) = (name("Deploy"), name("DEPLOY"));
    assert_eq!(account.create_runbook(options("Deploy")).await.unwrap().state, RunbookState::New);
    let twice = account.create_runbook(options("deploy")).await.expect_err("there already");
    assert_eq!(twice.kind(), ErrorKind::AlreadyExists);

    let early = account.publish(&runbook).await.expect_err("nothing to publish");
    assert!(matches!(early, Error::RunbookState { state: RunbookState::New, .. }), "{early}");
    account.save_draft(&runbook, b"echo one", vec![]).await.expect("saved");
    let unpublished = account.start_job(&runbook, JobOptions::default()).await;
    let unpublished = unpublished.expect_err("a draft does not run");
    assert!(matches!(unpublished, Error::NotPublished { .. }), "{unpublished}");

    assert_eq!(account.publish(&other_case).await.unwrap().state, RunbookState::Published);
    let edited = account.save_draft(&runbook, b"echo two", vec![]).await.expect("saved");
    assert_eq!(edited.state, RunbookState::Edit);
    let job = host.run("Deploy", &[]).await;
    completed(&job);
    assert_eq!(account.output(job.id, 99).await.unwrap(), "one");

    let undone = account.undo_edit(&runbook).await.expect("undone");
    assert_eq!((undone.state, undone.draft), (RunbookState::Published, None));
    assert!(account.undo_edit(&runbook).await.is_err());
    account.save_draft(&runbook, b"echo three", vec![]).await.expect("saved");
    let published = account.publish(&runbook).await.expect("published").published.unwrap();
    assert_eq!(published.number, 2);
    assert_eq!(account.text(&published.content).await.unwrap(), b"echo three");
    assert_eq!(host.run("Deploy", &[]).await.task.runbook_version, 2);

    account.delete_runbook(&runbook).await.expect("deleted");
    account.delete_runbook(&runbook).await.expect("still deleted");
    let gone = account.runbook(&runbook).await.expect_err("gone");
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    assert_eq!(account.output(job.id, 99).await.unwrap(), "one", "jobs stay");
    account.create_runbook(options("Deploy")).await.expect("the name is free");
    assert_eq!(account.runbooks().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_no_interpreter_reads_are_refused_with_their_place() {
    let host = Host::new().await;
    host.account.create_runbook(options("Text")).await.expect("created");
    let save = async |text: &[u8]| {
        let saved = host.account.save_draft(&name("Text"), text, vec![]).await;
        saved.expect_err("refused").to_string()
    };
    assert!(save(b"ab\xff").await.contains("not UTF-8 at byte 2"));
    assert!(save(b"a\0").await.contains("NUL at byte 1"));
    assert!(save(&vec![b'a'; (1 << 20) + 1]).await.contains("limit=`1048576`"));
    let missing = host.account.save_draft(&name("Other"), b"", vec![]).await;
    assert!(matches!(missing, Err(Error::RunbookNotFound { .. })));
}
