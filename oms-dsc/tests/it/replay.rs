//! A signature of a registration is good once, whoever shows it, and wherever.

use crate::registration_key::{agent, said, signed, signed_text};
use crate::support::{KEY, World};
use oms_core::Clock as _;
use oms_core::journal::{HistoryId, JournalEvent as _, JournalExt as _};
use oms_dsc::protocol::{Operation, Request};
use oms_dsc::pull_server::{SIGNATURE_HISTORY, SignatureUsed};
use oms_dsc::{PullServer, PullServerSettings};
use std::sync::Arc;
use std::time::Duration;

/// The same bytes and headers under another AgentId.
fn under(request: &Request, number: u128) -> Request {
    let operation = Operation::RegisterDscAgent { agent_id: agent(number) };
    Request { operation, ..request.clone() }
}

#[tokio::test]
async fn of_two_servers_on_one_journal_one_takes_a_signature() {
    let world = World::new(1);
    // Neither hears anything of the other but through the journal.
    let (first, second) = (world.start_server().await, world.start_server().await);
    for (number, winner, loser) in [(1, &first, &second), (2, &second, &first)] {
        let request = signed(&world, agent(number), &["Web"], &KEY.into());
        assert_eq!(winner.answer(request.clone()).await.status, 204);
        for replay in [request.clone(), under(&request, 7), under(&request, 8)] {
            for server in [loser, winner] {
                let refused = server.answer(replay.clone()).await;
                assert!(said(&refused).contains("signature was used before"), "{}", said(&refused));
            }
        }
    }
    let request = signed(&world, agent(3), &["Web"], &KEY.into());
    let (one, other) = (under(&request, 4), request);
    let (one, other) = tokio::join!(first.answer(one), second.answer(other));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 401]);
    let nodes = world.server_journal.list_whole("dsc-node").await.expect("heads");
    assert_eq!(nodes.len(), 3, "a replay makes no node");
}

#[tokio::test]
async fn a_refused_registration_uses_no_signature() {
    let world = World::new(2);
    let server = world.start_server().await;
    let request = signed(&world, agent(1), &["../x"], &KEY.into());
    assert_eq!(server.answer(request).await.status, 400);
    assert_eq!(world.server_journal.list_whole(SIGNATURE_HISTORY).await.expect("heads"), []);
}

#[tokio::test]
async fn used_signatures_are_forgotten_a_day_after_they_were_good() {
    let world = World::new(3);
    let server = world.start_server().await;
    let request = signed(&world, agent(1), &["Web"], &KEY.into());
    assert_eq!(server.answer(request.clone()).await.status, 204);
    let kept =
        async || world.server_journal.list_whole(SIGNATURE_HISTORY).await.expect("heads").len();
    world.clock.advance(Duration::from_secs(300 + 86_400));
    assert_eq!(server.maintain().await.expect("maintained").signatures_dropped, 0);
    assert_eq!(kept().await, 1);
    let late = signed(&world, agent(2), &["Web"], &KEY.into());
    assert_eq!(server.answer(late).await.status, 204);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(server.maintain().await.expect("maintained").signatures_dropped, 1);
    assert_eq!(kept().await, 1, "the newer one");
    let refused = server.answer(request).await;
    assert!(said(&refused).contains("too far from the server's clock"), "{}", said(&refused));
    assert!(world.clock.now() > crate::support::start());
}

#[tokio::test]
async fn old_signatures_are_forgotten_however_many_they_are() {
    let world = World::new(5);
    let server = world.start_server().await;
    let now = world.clock.now();
    for number in 0..2_500 {
        let key = format!("2015-01-01T00:00:00.0000000Z/{number}");
        let history = HistoryId::new(SIGNATURE_HISTORY, &key).expect("a history");
        let used = SignatureUsed { agent_id: agent(1) }.seal(now, "test").expect("an event");
        world.server_journal.append_to(&history, 0, vec![used]).await.expect("appended");
    }
    assert_eq!(server.maintain().await.expect("maintained").signatures_dropped, 2_500);
    assert_eq!(world.server_journal.list_whole(SIGNATURE_HISTORY).await.expect("heads"), []);
}

/// Strict mode is for what is good otherwise: the signature is looked at first.
#[tokio::test]
async fn a_strict_server_refuses_what_windows_refuses() {
    let world = World::new(4);
    let lenient = world.start_server().await;
    let strict = PullServer::builder("unused")
        .disk(Arc::new(world.server_disk.clone()))
        .journal(Arc::clone(&world.server_journal) as Arc<dyn oms_core::Journal>)
        .clock(Arc::clone(&world.clock) as Arc<dyn oms_core::Clock>)
        .registration_key(KEY.into())
        .settings(PullServerSettings { is_strict: true, ..Default::default() })
        .build()
        .await
        .expect("the server opens");
    let body = |computer: &str, certificate: &str| {
        format!(
            "{{\"AgentInformation\":{{\"LCMVersion\":\"2.0\",\"NodeName\":\"pc\"{computer}}},\
             \"RegistrationInformation\":{{\"CertificateInformation\":{certificate},\
             \"RegistrationMessageType\":\"ReportServer\"}}}}"
        )
    };
    let right = r#"{"FriendlyName":"a","Issuer":"b","Thumbprint":"AB","Version":3}"#;
    for (body, status) in [
        (body("", right), 204),
        (body(r#","Tag":"x""#, right), 400),
        (body("", r#"{"FriendlyName":"a","Serial":"1","Thumbprint":"AB"}"#), 400),
        (body("", r#"{"Issuer":"b","FriendlyName":"a","Thumbprint":"AB"}"#), 401),
    ] {
        let request = signed_text(&world, agent(1), body.clone(), &KEY.into());
        assert_eq!(strict.answer(request).await.status, status, "{body}");
        let request = signed_text(&world, agent(1), body.clone(), &KEY.into());
        assert_eq!(lenient.answer(request).await.status, 204, "{body}");
    }
    let text = body("", r#"{"FriendlyName":"a","Thumbprint":"AB","Version":"3"}"#);
    let request = signed_text(&world, agent(1), text.clone(), &KEY.into());
    assert_eq!(strict.answer(request).await.status, 500);
    let request = signed_text(&world, agent(1), text, &"another key, of nobody".into());
    assert_eq!(strict.answer(request).await.status, 401, "nobody learns of it without a key");

    let job =
        serde_json::json!({"JobId": uuid::Uuid::from_u128(7), "EndTime": "yesterday"}).to_string();
    let report = Request::new(Operation::SendReport { agent_id: agent(1) }, job);
    assert_eq!(strict.answer(report.clone()).await.status, 500);
    let held = strict.reports(agent(1)).await.expect("reports");
    assert_eq!(held.len(), 0, "what is refused is not kept");
    assert_eq!(lenient.answer(report).await.status, 400);
}
