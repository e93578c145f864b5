use super::*;
use crate::clock::{Clock, ManualClock, PausedClock};
use crate::entropy::SeededEntropy;
use crate::journal::{
    Append, Envelope, Event, Journal, JournalError, JournalExt, MemoryJournal, Snapshot,
};
use crate::lifecycle::listing;
use crate::testkit::fault::{Faults, Faulty};
use jiff::Timestamp;
use proptest::prelude::*;
use std::sync::Arc;

#[test]
fn the_state_table_is_the_golden_one() {
    let golden = "\
Free --Acquired--> Held
Held --Confirmed--> Held
Held --TakenOver--> Held
Held --Released--> Free
";
    let states = crate::every_variant!(LeaseState { Free, Held });
    assert_eq!(listing(&states, &LeaseEvent::ALL), golden);
}

#[test]
fn names_and_settings_are_checked() {
    assert_eq!("a/b c".parse::<Duty>().expect("a duty").to_string(), "a/b c");
    for name in ["", "a#b", "a\nb", &"x".repeat(DUTY_BYTES_MAX + 1)] {
        assert!(name.parse::<Duty>().is_err(), "{name}");
    }
    let longest: Duty = "x".repeat(DUTY_BYTES_MAX).parse().expect("a duty");
    let renewals = longest.renewals(u64::MAX).to_string();
    assert_eq!(renewals.parse::<HistoryId>().expect("a name"), longest.renewals(u64::MAX));

    let default = LeaseSettings::default();
    default.check().expect("the defaults fit");
    for wrong in [
        LeaseSettings { term_millis: 99, ..default.clone() },
        LeaseSettings { margin_millis: 15_001, ..default.clone() },
        LeaseSettings { renew_every_millis: 27_000, ..default.clone() },
        LeaseSettings { call_millis_max: 0, ..default.clone() },
        LeaseSettings { renewals_max: 0, ..default.clone() },
        LeaseSettings { clock_drift_per_mille: 501, ..default.clone() },
    ] {
        assert!(matches!(wrong.check(), Err(LeaseError::Settings { .. })), "{wrong:?}");
    }
}

proptest! {
    /// The wait outlasts the term, whatever two clocks within the bound do.
    #[test]
    fn a_wait_on_a_fast_clock_outlasts_a_term_on_a_slow_one(
        term in 1_u64..=TERM_MILLIS_MAX,
        drift in 0_u16..=500,
    ) {
        let settings = LeaseSettings { clock_drift_per_mille: drift, ..LeaseSettings::default() };
        let wait = settings.wait(Duration::from_millis(term)).as_nanos();
        // Real time of the wait and of the term, both times (1000 + drift) * (1000 - drift).
        let (fast, slow) = (1000 + u128::from(drift), 1000 - u128::from(drift));
        prop_assert!(wait * slow >= u128::from(term) * 1_000_000 * fast);
    }

    /// Folding any events neither panics nor lets an epoch fall.
    #[test]
    fn an_ownership_takes_only_what_can_follow(
        events in prop::collection::vec((0_usize..5, 0_u64..4, any::<bool>()), 0..12),
    ) {
        let duty: Duty = "d".parse().expect("a duty");
        let mut ownership = Ownership::default();
        for (kind, epoch, has_claim) in events {
            let kind = LeaseEvent::ALL.get(kind).map_or("lease-lent", |event| event.kind());
            let id = ClaimId::draw(&SeededEntropy::new(epoch));
            let claim = has_claim.then(|| serde_json::json!({ "id": id, "term_millis": 9 }));
            let body = serde_json::json!({ "epoch": epoch, "claim": claim });
            let envelope = Envelope::new(kind, 1, Timestamp::UNIX_EPOCH, "me", &body);
            let version = ownership.version + 1;
            let (envelope, history) = (envelope.expect("JSON"), duty.history().clone());
            let event = Event { position: version, history, version, envelope };
            let before = ownership.clone();
            match ownership.apply(&event) {
                Ok(()) => prop_assert!(ownership.epoch >= before.epoch),
                Err(error) => {
                    prop_assert_eq!(error.kind(), ErrorKind::Corrupt);
                    prop_assert_eq!(&ownership, &before);
                }
            }
            let kept = ownership.snapshot().expect("JSON");
            prop_assert_eq!(Ownership::from_snapshot(kept).expect("a snapshot"), ownership.clone());
        }
    }

    /// Whatever answers come, a belief rests on an append that was answered, and is counted from
    /// before that append was asked for.
    #[test]
    fn a_belief_rests_on_an_answered_append(
        inputs in prop::collection::vec((0_u8..8, 0_u64..9_000), 1..60),
    ) {
        let settings = LeaseSettings { renewals_max: 2, ..LeaseSettings::default() };
        let belief = settings.belief();
        let claim = ClaimId::draw(&SeededEntropy::new(1));
        let mut engine = Engine::new("d".parse().expect("a duty"), "me", claim, settings);
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let mut asked: Option<(u64, Option<Duration>)> = None;
        let mut granted = None;
        for (kind, millis) in inputs {
            clock.advance(Duration::from_millis(millis));
            let now = Moment::of(&clock);
            let (call, appended_at) = asked.unwrap_or_default();
            let input = match kind {
                0 => Input::Wake,
                1 => Input::Abandon,
                2 => Input::Renew,
                3 => Input::Read { call, view: Some(View::default()) },
                4 => Input::Read { call, view: None },
                5 => Input::Appended { call, outcome: Outcome::Unknown },
                6 => Input::Appended { call, outcome: Outcome::Conflict },
                _ => {
                    granted = appended_at.or(granted);
                    Input::Appended { call, outcome: Outcome::Done }
                }
            };
            for effect in engine.step(now, input) {
                if let Effect::Append { call, appends } = effect {
                    prop_assert!(appends.iter().any(|append| !append.events.is_empty()));
                    asked = Some((call, Some(now.monotonic)));
                } else if let Effect::Read { call } = effect {
                    asked = Some((call, None));
                }
            }
            if engine.believes(now.monotonic) {
                let asked_at = granted.expect("an append was answered");
                prop_assert!(now.monotonic < asked_at + belief);
            }
        }
    }
}

fn leases(journal: &Arc<dyn Journal>, clock: &Arc<PausedClock>, renewals_max: u64) -> Leases {
    static SEED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let seed = SEED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let settings = LeaseSettings { renewals_max, ..LeaseSettings::default() };
    let (clock, entropy) = (Arc::clone(clock), Arc::new(SeededEntropy::new(seed)));
    Leases::new(Arc::clone(journal), clock, entropy, settings).expect("settings")
}

fn write(expected: u64) -> Vec<Append> {
    let event = Envelope::new("noted", 1, Timestamp::UNIX_EPOCH, "me", &()).expect("JSON");
    let history = HistoryId::new("work", "1").expect("a name");
    vec![Append { history, expected, events: vec![event] }]
}

#[tokio::test(start_paused = true)]
async fn a_kept_lease_outlasts_its_term_and_leaves_little_behind() {
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
    let clock = PausedClock::new();
    let (first, second) = (leases(&journal, &clock, 3), leases(&journal, &clock, 3));
    let duty: Duty = "d".parse().expect("a duty");
    let lease = first.acquire(&duty, "first").await.expect("it is free");
    let keeper = tokio::spawn({
        let lease = lease.clone();
        async move { lease.keep().await }
    });
    for n in 0..60 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let held = second.acquire(&duty, "second").await.expect_err("it is kept");
        assert!(matches!(held, LeaseError::Held { ref holder, .. } if holder == "first"), "{held}");
        assert_eq!(lease.guarded_append(write(n)).await.expect("the owner writes"), [n + 1]);
    }
    let renewals = journal.list_whole(RENEWAL_KIND).await.expect("list");
    assert!(renewals.len() <= 1, "{renewals:?}");
    let ownership = first.ownership(&duty).await.expect("read");
    assert!((10..=20).contains(&ownership.version) && ownership.epoch == 1, "{ownership:?}");
    lease.release().await.expect("release");
    assert_eq!(keeper.await.expect("it ends"), Standing::Released);
    assert_eq!(second.acquire(&duty, "second").await.expect("it is free").epoch(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_silent_owner_is_taken_over_after_its_term_and_not_before() {
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
    let clock = PausedClock::new();
    let (first, second) = (leases(&journal, &clock, 100), leases(&journal, &clock, 100));
    let duty: Duty = "d".parse().expect("a duty");
    let old = first.acquire(&duty, "first").await.expect("it is free");
    let guard = old.guard().expect("it is held");
    let begun = clock.monotonic();
    let new = second.contend(&duty, "second").await.expect("it becomes the owner");
    let waited = clock.monotonic() - begun;
    assert!(waited >= Duration::from_millis(30_600), "{waited:?}");
    assert!(waited <= Duration::from_millis(30_610 + 5_000), "{waited:?}");
    assert_eq!((new.epoch(), old.standing()), (2, Standing::Lost(Loss::Expired)));
    let late = old.guarded_append(write(0)).await.expect_err("it is lost");
    assert_eq!(late.kind(), ErrorKind::PreconditionFailed);
    let mut forced = write(0);
    forced.push(guard);
    let forced = journal.append(forced).await.expect_err("the journal refuses it");
    assert_eq!(forced.kind(), ErrorKind::Conflict);
    assert_eq!(new.guarded_append(write(0)).await.expect("the owner writes"), [1]);
    assert!(matches!(old.release().await, Err(LeaseError::Lost { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_holder_cut_off_is_told_before_its_term_ends() {
    let faults = Arc::new(Faults::new(1));
    let faulty = Faulty::new(MemoryJournal::default(), Arc::clone(&faults));
    let journal: Arc<dyn Journal> = Arc::new(faulty);
    let clock = PausedClock::new();
    let duty: Duty = "d".parse().expect("a duty");
    let lease = leases(&journal, &clock, 100).acquire(&duty, "me").await.expect("it is free");
    let mut changes = lease.watch();
    faults.set_before(1000);
    assert!(matches!(lease.renew().await, Err(LeaseError::Journal(_))));
    assert_eq!(lease.keep().await, Standing::Lost(Loss::Expired));
    let ended = clock.monotonic();
    assert!((26_999..28_000).contains(&ended.as_millis()), "{ended:?}");
    let is_lost = |standing: &Standing| matches!(standing, Standing::Lost(_));
    changes.wait_for(is_lost).await.expect("the channel tells");
    assert_eq!(lease.believed_for(), Duration::ZERO);
}

/// Answers that get lost neither lose the lease nor make another of it.
#[tokio::test(start_paused = true)]
async fn lost_answers_are_found_again() {
    let faults = Arc::new(Faults::new(3));
    let faulty = Faulty::new(MemoryJournal::default(), Arc::clone(&faults));
    let journal: Arc<dyn Journal> = Arc::new(faulty);
    let clock = PausedClock::new();
    let first = leases(&journal, &clock, 2);
    let duty: Duty = "d".parse().expect("a duty");
    faults.set_after(400);
    faults.set_before(100);
    let lease = first.contend(&duty, "me").await.expect("in the end it is told");
    let keeper = tokio::spawn({
        let lease = lease.clone();
        async move { lease.keep().await }
    });
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(matches!(lease.standing(), Standing::Held { .. }), "{:?}", lease.standing());
    assert!(faults.count() > 20, "{}", faults.count());
    faults.set_after(0);
    faults.set_before(0);
    lease.release().await.expect("release");
    assert_eq!(keeper.await.expect("it ends"), Standing::Released);
    let ownership = first.ownership(&duty).await.expect("read");
    assert_eq!((ownership.epoch, ownership.owner), (lease.epoch(), None));
}

/// With one renewal between confirmations, every other renewal moves the version that guards
/// depend on. Here the holder does not even hear of it.
#[tokio::test(start_paused = true)]
async fn a_write_survives_its_own_owners_confirmation() {
    let faults = Arc::new(Faults::new(1));
    let faulty = Faulty::new(MemoryJournal::default(), Arc::clone(&faults));
    let journal: Arc<dyn Journal> = Arc::new(faulty);
    let clock = PausedClock::new();
    let duty: Duty = "d".parse().expect("a duty");
    let lease = leases(&journal, &clock, 1).acquire(&duty, "me").await.expect("it is free");
    for n in 0..6 {
        lease.renew().await.expect("renew");
        let before = lease.guard().expect("held");
        faults.set_after(1000);
        assert!(matches!(lease.renew().await, Err(LeaseError::Journal(_))));
        faults.set_after(0);
        let version = lease.guarded_append(write(n)).await.expect("the owner writes");
        assert_eq!(version, [n + 1]);
        let after = lease.guard().expect("held");
        assert!(n > 0 || after.expected > before.expected, "the version moved");
    }
    let conflict = lease.guarded_append(write(0)).await.expect_err("the work's own version");
    assert!(matches!(conflict, LeaseError::Journal(_)) && conflict.kind() == ErrorKind::Conflict);
    let owner = journal.read_whole(duty.history()).await.expect("read");
    assert!(owner.len() > 3, "{owner:?}");
}

#[tokio::test]
async fn what_an_earlier_version_wrote_is_read_and_is_written_today() {
    let fixtures = crate::testkit::released();
    let duty: Duty = "watcher".parse().expect("a duty");
    let owned = fixtures[0].history("lease/watcher");
    for named in LeaseEvent::ALL {
        assert!(owned.iter().any(|event| event.envelope.kind == named.kind()), "{named:?}");
    }
    let writer = |event: &Event| {
        let claim =
            event.envelope.body["claim"]["id"].as_str().map(|id| id.parse().expect("an id"));
        let claim = claim.unwrap_or(ClaimId::draw(&SeededEntropy::new(1)));
        let (duty, holder) = (duty.clone(), event.envelope.actor.clone());
        (state::Writer { duty, holder, claim, term_millis: 30_000 }, event.envelope.time)
    };
    for event in &owned {
        let named = LeaseEvent::ALL.into_iter().find(|named| named.kind() == event.envelope.kind);
        let epoch = event.envelope.body["epoch"].as_u64().expect("a number");
        let (writer, time) = writer(event);
        assert_eq!(writer.event(time, named.expect("known"), epoch), event.envelope);
    }
    for event in fixtures[0].history(&duty.renewals(5).to_string()) {
        let (writer, time) = writer(&event);
        assert_eq!(writer.renewal(time, 3), event.envelope);
    }
    let view = view(&fixtures[0].journal().await, &duty).await.expect("a lease");
    assert_eq!((view.ownership.epoch, view.renewals), (3, 2));
    assert_eq!(view.ownership.owner.map(|owner| owner.holder).as_deref(), Some("one"));

    let mut newer = owned[0].clone();
    newer.envelope.format = 2;
    let refused = Ownership::default().apply(&newer).expect_err("a newer version's");
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
}

/// What the first format kept is read as it was meant.
#[test]
fn a_kept_ownership_is_read_by_later_versions() {
    let body = include_str!("../../tests/fixtures/snapshots/lease-1.json");
    let kept = |version, format| Snapshot {
        version,
        format,
        body: serde_json::from_str(body).expect("JSON"),
    };
    let ownership = Ownership::from_snapshot(kept(3, 1)).expect("a snapshot");
    assert_eq!((ownership.version, ownership.epoch), (3, 2));
    let owner = ownership.owner.as_ref().expect("an owner");
    assert_eq!((owner.holder.as_str(), owner.term()), ("one", Duration::from_secs(30)));
    assert_eq!(owner.since.to_string(), "2026-01-01T00:00:00Z");
    assert_eq!(ownership.snapshot().expect("JSON"), kept(3, 1));

    let newer = Ownership::from_snapshot(kept(3, 2)).expect_err("a newer format");
    assert!(matches!(newer, JournalError::Newer { found: 2, known: 1 }), "{newer}");
    let other = Ownership::from_snapshot(kept(4, 1)).expect_err("another version");
    assert_eq!(other.kind(), ErrorKind::Corrupt);
}
