//! An engine that acts on a schedule, with restarts, pauses and crashes.

use jiff::{SignedDuration, Timestamp};
use oms_core::entropy::{EntropyExt as _, SeededEntropy};
use oms_core::journal::{HistoryId, JournalEvent as _, JournalExt as _, MemoryJournal};
use oms_core::schedule::{Frequency, MisfirePolicy, Schedule};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How late the engine may be and still be on time: its longest sleep.
const LATENESS: SignedDuration = SignedDuration::from_mins(10);

#[derive(Debug, Serialize, Deserialize)]
enum Ran {
    Due { at: Timestamp },
}

oms_core::journal_event!(Ran, format 1, whole, {
    Self::Due { .. } => "schedule-due",
});

fn at(text: &str) -> Timestamp {
    text.parse().expect("an instant")
}

fn schedule(misfire: MisfirePolicy) -> Schedule {
    let zone = "Europe/Zurich".parse().expect("a name");
    let mut schedule = Schedule::new("2026-03-27T00:15:00".parse().expect("local"), zone);
    schedule.frequency = Frequency::Hour { interval: 1 };
    schedule.misfire = misfire;
    schedule
}

/// Runs the engine for a fortnight; answers when each instant was acted on, and the moments at
/// which the engine came back after being away.
async fn fortnight(
    schedule: &Schedule,
    seed: u64,
) -> (BTreeMap<Timestamp, Timestamp>, Vec<Timestamp>) {
    let (journal, entropy) = (MemoryJournal::default(), SeededEntropy::new(seed));
    let history = HistoryId::new("schedule", "hourly").expect("a name");
    let (begin, end) = (at("2026-03-26T23:00:00Z"), at("2026-04-09T23:00:00Z"));
    let (mut now, mut acted, mut returns) = (begin, BTreeMap::new(), Vec::new());
    while now < end {
        // A life: it knows what the journal says and nothing else.
        let rule = schedule.compile().expect("a schedule");
        let events = journal.read_whole(&history).await.expect("a history");
        let last = events.last().map(|event| Ran::open(&event.envelope).expect("known"));
        let mut since = last.map_or(begin, |Ran::Due { at }| at);
        let mut version = events.len() as u64;
        let dies_at = now + SignedDuration::from_mins(entropy.below(60 * 12) as i64);
        'life: while now < dies_at && now < end {
            for due in rule.due(since, now, LATENESS).due {
                let event = Ran::Due { at: due }.seal(now, "engine").expect("a body");
                if entropy.below(20) == 0 {
                    break 'life;
                }
                version = journal.append_to(&history, version, vec![event]).await.expect("append");
                since = due;
                let repeated = acted.insert(due, now);
                assert_eq!(repeated, None, "seed {seed}: {due} was acted on twice");
                if entropy.below(20) == 0 {
                    break 'life;
                }
            }
            now += SignedDuration::from_secs(60 + entropy.below(540) as i64);
        }
        now += SignedDuration::from_mins(entropy.below(60 * 5) as i64);
        returns.push(now);
    }
    (acted, returns)
}

#[tokio::test]
async fn what_was_missed_while_the_engine_was_down_follows_the_policy() {
    let deadline_seconds = 3600 * 24;
    let policies = [
        MisfirePolicy::Skip,
        MisfirePolicy::Once { deadline_seconds },
        MisfirePolicy::All { count_max: 100 },
        MisfirePolicy::All { count_max: 2 },
    ];
    for policy in policies {
        for seed in 0..6 {
            let schedule = schedule(policy);
            let (acted, returns) = fortnight(&schedule, seed).await;
            let case = format!("{policy:?}, seed {seed}");
            let rule = schedule.compile().expect("a schedule");
            let ruled: BTreeSet<Timestamp> = rule.iter().take(400).collect();
            assert!(acted.keys().all(|due| ruled.contains(due)), "{case}");
            let late = |(due, now): &(&Timestamp, &Timestamp)| now.duration_since(**due) > LATENESS;
            let mut made_up: BTreeMap<Timestamp, u32> = BTreeMap::new();
            for (_, now) in acted.iter().filter(late) {
                *made_up.entry(*now).or_default() += 1;
            }
            match policy {
                MisfirePolicy::Skip => assert!(made_up.is_empty(), "{case}: {made_up:?}"),
                MisfirePolicy::Once { .. } => {
                    assert!(!made_up.is_empty(), "{case}");
                    assert!(made_up.values().all(|count| *count == 1), "{case}: {made_up:?}");
                }
                MisfirePolicy::All { count_max: 100 } => {
                    let last = *acted.keys().next_back().expect("it acted");
                    let all: Vec<_> = rule.iter().take_while(|due| *due <= last).collect();
                    assert!(acted.keys().copied().eq(all), "{case}");
                }
                _ => assert!(made_up.values().all(|count| *count <= 2), "{case}: {made_up:?}"),
            }
            // Only a return makes up for anything.
            assert!(made_up.keys().all(|now| returns.contains(now)), "{case}");
        }
    }
}
