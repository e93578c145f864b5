//! Source documents and compilation jobs, as a program that embeds the server uses them.

mod simulation;

use crate::support::World;
use oms_core::journal::{HistoryId, Journal as _, JournalEvent as _, JournalExt as _};
use oms_core::resource::Preconditions;
use oms_core::{Clock as _, ErrorKind};
use oms_dsc::Error;
use oms_dsc::PullServer;
use oms_dsc::protocol::ConfigurationName;
use oms_dsc::pull_server::{
    COMPILATION_HISTORY, COMPILATIONS_MAX, COMPILATIONS_PENDING_MAX, CompilationEvent,
    CompilationJob, CompilationMessageKind, CompilationName, CompilationState, NewCompilation,
    SourceAbout,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A source with two nodes.
pub(crate) const WEB: &str = "
configuration: Web
parameters:
  greeting: {type: string, defaultValue: hello}
  port: {type: int, defaultValue: 80}
nodes: {web-1: {}, web-2: {}}
resources:
  - type: nxFile
    name: motd
    properties:
      DestinationPath: /etc/motd
      Contents: \"[format('{0} from {1}:{2}', parameters('greeting'), nodeName(), string(parameters('port')))]\"
";

pub(crate) fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a name")
}

pub(crate) fn job(job: &str, configuration: &str, parameters: &[(&str, &str)]) -> NewCompilation {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    NewCompilation {
        name: name(job),
        configuration: name(configuration),
        parameters: parameters.iter().map(pair).collect(),
        adds_build: false,
    }
}

async fn put(server: &PullServer, of: &str, text: &str) -> Result<bool, Error> {
    let (about, any) = (SourceAbout::default(), Preconditions::default());
    let put = server.put_source(&name(of), text.as_bytes(), &about, &any, "me").await;
    put.map(|(_source, is_new)| is_new)
}

async fn run(server: &PullServer, new: NewCompilation) -> CompilationJob {
    let begun = server.begin_compilation(new, "me").await.expect("begun");
    assert_eq!((begun.state, begun.attempts), (CompilationState::New, 0));
    server.run_compilation(&begun.name).await.expect("run")
}

async fn published(server: &PullServer, of: &str) -> String {
    let of: ConfigurationName = name(of);
    let found = server.configurations().into_iter().find(|held| held.name == of);
    let text = server.content(found.expect("published").checksum).await.expect("content");
    String::from_utf8(text).expect("text")
}

fn names(server: &PullServer) -> Vec<String> {
    server.configurations().iter().map(|held| held.name.to_string()).collect()
}

#[tokio::test]
async fn a_source_is_compiled_and_published() {
    let world = World::new(1);
    let server = world.start_server().await;
    assert!(put(&server, "Web", WEB).await.expect("put"));
    assert!(!put(&server, "Web", WEB).await.expect("put again"));
    let source = server.source(&name("WEB")).await.expect("kept");
    assert_eq!((source.version, source.bytes), (1, WEB.len() as u64));
    let ended = run(&server, job("first", "web", &[("greeting", "hi"), ("port", "8080")])).await;
    assert_eq!((ended.state, ended.node_configurations), (CompilationState::Completed, 2));
    assert_eq!((ended.started_by.as_str(), ended.attempts), ("me", 1));
    assert_eq!(names(&server), ["Web.web-1", "Web.web-2"]);
    assert!(published(&server, "Web.web-2").await.contains("hi from web-2:8080"));
    let messages = server.compilation_messages(&ended).await.expect("messages");
    let kinds: Vec<_> = messages.iter().map(|message| message.kind).collect();
    assert_eq!(kinds, [CompilationMessageKind::Output; 2]);
    assert!(messages[0].text.contains("`Web.web-1`"), "{messages:?}");

    // What PowerShell's clients send is JSON; `True` is what Python's write.
    world.clock.advance(Duration::from_secs(1));
    run(&server, job("second", "Web", &[("greeting", "\"again\"")])).await;
    assert!(published(&server, "Web.web-1").await.contains("again from web-1:80"));
    let again = server.run_compilation(&name("second")).await.expect("ended");
    assert_eq!(again.attempts, 1, "what has ended is not begun again");
    let jobs = server.compilations().await.expect("jobs");
    assert_eq!(jobs.iter().map(|job| job.name.as_str()).collect::<Vec<_>>(), ["second", "first"]);
    let by_id = server.compilation_by_id(jobs[1].id).await.expect("found");
    assert_eq!(by_id, server.compilation(&name("FIRST")).await.expect("found"));

    // A restart knows all of it, and has nothing to do.
    let server = world.start_server().await;
    assert_eq!(server.compilations().await.expect("jobs"), jobs);
    assert_eq!(server.sources().await.expect("sources"), [source]);
    assert_eq!(server.resume_compilations().await.expect("nothing waits"), 0);
    let any = Preconditions::default();
    server.remove_source(&name("Web"), &any, "me").await.expect("removed");
    assert_eq!(names(&server).len(), 2, "what was compiled stays");
    let gone = server.begin_compilation(job("third", "Web", &[]), "me").await;
    assert_eq!(gone.expect_err("no source").kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_build_is_added_in_place_of_changing_what_is_published() {
    let world = World::new(1);
    let server = world.start_server().await;
    put(&server, "Web", WEB).await.expect("put");
    for (index, greeting) in ["one", "two", "three"].into_iter().enumerate() {
        let new = job(&format!("job-{index}"), "Web", &[("greeting", greeting)]);
        run(&server, NewCompilation { adds_build: true, ..new }).await;
    }
    let expect =
        ["Web.web-1", "Web.web-1[2]", "Web.web-1[3]", "Web.web-2", "Web.web-2[2]", "Web.web-2[3]"];
    assert_eq!(names(&server), expect);
    assert!(published(&server, "Web.web-1").await.contains("one from"));
    assert!(published(&server, "web.WEB-1[3]").await.contains("three from"));
    let document = published(&server, "Web.web-1").await;
    let built = server.publish_build("Web.web-1", document.as_bytes(), true).await;
    assert_eq!(built.expect("published").name.as_str(), "Web.web-1[4]");

    let times = server.published_times(&name("Web.web-1[4]")).await.expect("times");
    assert_eq!(times, Some((world.clock.now(), world.clock.now())));
    server.unpublish(&name("Web.web-1[4]"), "me").await.expect("taken away");
    let gone = server.unpublish(&name("Web.web-1[4]"), "me").await.expect_err("gone");
    assert_eq!(gone.to_string(), "no such node configuration. name=`Web.web-1[4]`");
    assert_eq!(server.published_times(&name("Web.web-1[4]")).await.expect("times"), None);
    // Others on the journal, and a restart, see that it is gone and that it comes again.
    let other = world.start_server().await;
    assert_eq!(names(&other), expect);
    world.clock.advance(Duration::from_secs(60));
    server.publish("Web.web-1[4]", document.as_bytes()).await.expect("published again");
    other.refresh().await.expect("refreshed");
    assert_eq!(names(&other).len(), 7);
    let times = other.published_times(&name("Web.web-1[4]")).await.expect("times");
    assert_eq!(times, Some((world.clock.now(), world.clock.now())));
}

#[tokio::test]
async fn what_is_wrong_with_a_source_is_told_where_it_is_put() {
    let world = World::new(1);
    let server = world.start_server().await;
    for (of, text, expect) in [
        ("Web", "configuration: [", "document is not valid"),
        ("Web", "configuration: Web\nresource: []", "2:1"),
        ("Site", WEB, "it says that it is of `Web`, and is put as `Site`"),
        ("Web.a", WEB, "has a dot"),
        ("Web", "Configuration Web { Node a {} }", "PowerShell"),
        ("Web", "configuration: Web\nsettings: {}\nresources: []", "one of metaconfigurations"),
    ] {
        let error = put(&server, of, text).await.expect_err(expect).to_string();
        assert!(error.contains(expect), "{error}");
    }
    let large = format!("{WEB}# {}", "x".repeat(9 << 20));
    assert_eq!(put(&server, "Web", &large).await.expect_err("large").kind(), ErrorKind::TooLarge);
    let about = SourceAbout { description: "x".repeat(2_000), ..SourceAbout::default() };
    let any = Preconditions::default();
    let error = server.put_source(&name("Web"), WEB.as_bytes(), &about, &any, "me").await;
    assert_eq!(error.expect_err("large").kind(), ErrorKind::TooLarge);
    assert_eq!(server.sources().await.expect("none"), []);

    let none = Preconditions { if_none_match: Some("*".into()), ..Preconditions::default() };
    let about = SourceAbout { description: "ours".into(), ..SourceAbout::default() };
    let text = WEB.as_bytes();
    server.put_source(&name("Web"), text, &about, &none, "me").await.expect("the first");
    let error = server.put_source(&name("Web"), text, &about, &none, "me").await;
    assert_eq!(error.expect_err("the second").kind(), ErrorKind::PreconditionFailed);
    let described = SourceAbout { description: "new".into(), ..about };
    let changed = server.describe_source(&name("web"), &described, &any, "me").await;
    assert_eq!(changed.expect("described").about.description, "new");
    let missing = server.describe_source(&name("other"), &described, &any, "me").await;
    assert_eq!(missing.expect_err("none").kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_job_that_cannot_be_compiled_fails_by_name_and_publishes_nothing() {
    let world = World::new(1);
    let server = world.start_server().await;
    put(&server, "Web", WEB).await.expect("put");
    for (parameters, expect) in [
        (&[("greting", "x")][..], "`greting` is not declared; `greeting` is meant?"),
        (&[("port", "eighty")], "the value of `port` is no int"),
        (&[("ConfigurationData", "{}")], "is not supported"),
    ] {
        let new = job("bad", "Web", parameters);
        let error = server.begin_compilation(new, "me").await.expect_err(expect).to_string();
        assert!(error.contains(expect.split(';').next().expect("a part")), "{error}");
    }
    let large = "x".repeat(300 << 10);
    let new = job("bad", "Web", &[("greeting", &large)]);
    let error = server.begin_compilation(new, "me").await.expect_err("large");
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(server.compilations().await.expect("none"), []);

    // Right for one of its nodes, and wrong for the other.
    let half = "
configuration: Half
nodes: {good: {path: /etc/motd}, bad: {path: 7}}
resources:
  - {type: nxFile, name: motd, properties: {DestinationPath: \"[node('path')]\", Contents: x}}
";
    put(&server, "Half", half).await.expect("put");
    let failed = run(&server, job("half", "Half", &[])).await;
    assert_eq!(failed.state, CompilationState::Failed);
    let reason = failed.reason.clone().expect("a reason");
    assert!(reason.contains("Half") && reason.contains("DestinationPath"), "{reason}");
    let messages = server.compilation_messages(&failed).await.expect("messages");
    assert_eq!(messages[0].kind, CompilationMessageKind::Error);
    assert!(messages[0].text.starts_with("Half: 5:"), "the place: {messages:?}");
    let taken = server.begin_compilation(job("half", "Half", &[]), "me").await;
    assert_eq!(taken.expect_err("taken").kind(), ErrorKind::AlreadyExists);

    assert_eq!(names(&server), [""; 0]);
}

/// The value of a secure parameter is in no journal, and comes back only where it is compiled.
#[tokio::test]
async fn secrets_of_a_job_are_sealed() {
    let world = World::new(1);
    let server = world.start_server().await;
    let text = "
configuration: Safe
parameters: {password: {type: secureString}}
resources:
  - type: User
    name: app
    properties:
      UserName: app
      Password: {userName: app, password: \"[parameters('password')]\"}
";
    put(&server, "Safe", text).await.expect("put");
    let begun = server.begin_compilation(job("j", "Safe", &[("password", "hunter2!")]), "me").await;
    let begun = begun.expect("begun");
    assert_eq!(begun.secure_parameters().collect::<Vec<_>>(), ["password"]);
    assert_eq!(begun.parameters, BTreeMap::new());
    let journal = world.server_journal.read_all(0, 1_000).await.expect("events");
    let is_told = |text: String| text.contains("hunter2");
    assert!(!journal.iter().any(|event| is_told(event.envelope.body.to_string())));
    assert!(!is_told(format!("{begun:?}")));
    // A restart opens it, with the ring that sealed it.
    let server = world.start_server().await;
    assert_eq!(server.resume_compilations().await.expect("resumed"), 1);
    let ended = server.compilation(&name("j")).await.expect("there");
    // There is no certificate to encrypt it for, and it is written nowhere in the clear.
    assert_eq!(ended.state, CompilationState::Failed);
    let messages = server.compilation_messages(&ended).await.expect("messages");
    assert!(messages[0].text.contains("certificate"), "{messages:?}");
    assert!(!is_told(format!("{messages:?}{ended:?}")));

    // Without the ring the server says so, and begins no other.
    let elsewhere = World { server_journal: Arc::clone(&world.server_journal), ..World::new(2) };
    let error = elsewhere.open_server(Arc::clone(&world.server_journal) as _).await;
    assert!(matches!(error.expect_err("no ring"), Error::Key(_)));
}

#[tokio::test]
async fn a_roll_out_keeps_a_job_from_publishing() {
    let world = World::new(1);
    let server = world.start_server().await;
    put(&server, "Web", WEB).await.expect("put");
    run(&server, job("first", "Web", &[])).await;
    let new = published(&server, "Web.web-2").await.replace("hello", "new");
    let plan = "rings: [{name: all, percent: 100}]";
    let plan = oms_dsc::pull_server::RolloutPlan::parse("rings", plan.as_bytes()).expect("a plan");
    server.begin_rollout("Web.web-2", new.as_bytes(), plan).await.expect("begun");
    let failed = run(&server, job("second", "Web", &[("greeting", "x")])).await;
    assert_eq!(failed.state, CompilationState::Failed);
    let reason = failed.reason.expect("a reason");
    assert!(reason.contains("`Web.web-2`") && reason.contains("roll-out"), "{reason}");
    let first = published(&server, "Web.web-1").await;
    assert!(first.contains("hello from web-1"), "the other is not published either");
    let kept = server.unpublish(&name("Web.web-2"), "me").await.expect_err("it is rolled out");
    assert_eq!(kept.kind(), ErrorKind::PreconditionFailed);
}

/// Another server took a job up, and this one takes it over when that may have ended.
#[tokio::test]
async fn a_job_that_a_server_left_is_taken_up_and_not_for_ever() {
    let world = World::new(1);
    let server = world.start_server().await;
    put(&server, "Web", WEB).await.expect("put");
    let begun = server.begin_compilation(job("left", "Web", &[]), "me").await.expect("begun");
    let history = HistoryId::new(COMPILATION_HISTORY, begun.name.as_str()).expect("a history");
    let other = CompilationEvent::Started { server: uuid::Uuid::from_u128(7) };
    let start = |version| {
        let envelope = other.seal(world.clock.now(), "other").expect("sealed");
        world.server_journal.append_to(&history, version, vec![envelope])
    };
    start(1).await.expect("another began");
    let running = server.run_compilation(&begun.name).await.expect("left to it");
    assert_eq!((running.state, running.attempts), (CompilationState::Running, 1));
    assert_eq!(server.resume_compilations().await.expect("left to it"), 0);
    world.clock.advance(Duration::from_secs(11 * 60));
    assert_eq!(server.maintain().await.expect("maintained").compilations_ended, 1);
    let ended = server.compilation(&begun.name).await.expect("there");
    assert_eq!((ended.state, ended.attempts), (CompilationState::Completed, 2));

    let begun = server.begin_compilation(job("cursed", "Web", &[]), "me").await.expect("begun");
    let history = HistoryId::new(COMPILATION_HISTORY, begun.name.as_str()).expect("a history");
    for version in 1..=5 {
        let envelope = other.seal(world.clock.now(), "other").expect("sealed");
        let append = world.server_journal.append_to(&history, version, vec![envelope]);
        append.await.expect("another began and ended");
    }
    // One that starts anew does not wait for servers of before.
    world.clock.advance(Duration::from_secs(1));
    let server = world.start_server().await;
    let failed = server.run_compilation(&begun.name).await.expect("ended");
    assert_eq!(failed.state, CompilationState::Failed);
    assert!(failed.reason.expect("a reason").contains("ended, again and again"));
}

#[tokio::test]
async fn waiting_jobs_are_bounded_and_old_ones_make_way() {
    let world = World::new(1);
    let server = world.start_server().await;
    put(&server, "Tiny", "configuration: Tiny\nresources: []").await.expect("put");
    let begin =
        |index: usize| server.begin_compilation(job(&format!("j{index}"), "Tiny", &[]), "me");
    for index in 0..COMPILATIONS_PENDING_MAX {
        begin(index).await.expect("begun");
    }
    let error = begin(COMPILATIONS_PENDING_MAX).await.expect_err("too many");
    assert!(matches!(error.kind(), ErrorKind::LimitExceeded { .. }), "{error}");
    let resumed = server.resume_compilations().await.expect("resumed");
    assert_eq!(resumed, COMPILATIONS_PENDING_MAX);

    // As many as are kept, written as an earlier run would have.
    let history = HistoryId::new(COMPILATION_HISTORY, "j0").expect("a history");
    let events = world.server_journal.read_whole(&history).await.expect("events");
    for index in COMPILATIONS_PENDING_MAX..COMPILATIONS_MAX {
        let history = HistoryId::new(COMPILATION_HISTORY, &format!("j{index}")).expect("a history");
        let envelopes = events.iter().map(|event| event.envelope.clone()).collect();
        world.server_journal.append_to(&history, 0, envelopes).await.expect("written");
    }
    world.clock.advance(Duration::from_secs(1));
    begin(COMPILATIONS_MAX).await.expect("room is made");
    let jobs = server.compilations().await.expect("jobs");
    assert_eq!(jobs.len(), COMPILATIONS_MAX);
    assert_eq!(jobs[0].name.as_str(), format!("j{COMPILATIONS_MAX}"));
    let name: CompilationName = name("j999");
    assert_eq!(server.compilation(&name).await.expect_err("gone").kind(), ErrorKind::NotFound);
}
