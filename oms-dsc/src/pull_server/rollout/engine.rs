//! What a roll-out does next: a pure function of what it is, of the time, and of what comes in.

use super::{FailureReason, Outcome, Rollout, RolloutEvent, RolloutState};
use crate::protocol::{AgentId, JobId};
use crate::report::Compliance;
use jiff::{SignedDuration, Timestamp};

/// The most events of one step: what is left is done by the next one.
const STEP_EVENTS_MAX: usize = 1_000;

/// What comes in.
#[derive(Clone, Debug)]
pub(super) enum Input {
    /// A node of a ring asks what to do.
    Asked { agent_id: AgentId, ring: usize },
    /// A run of a node ended; `is_confirmed` if the node had said by then that it has the new version.
    Reported { agent_id: AgentId, job_id: JobId, compliance: Compliance, is_confirmed: bool },
    /// Time went by; these members are no nodes of the configuration any more.
    Elapsed { gone: Vec<AgentId> },
    /// Whatever follows from what is there.
    Settle,
}

impl Rollout {
    /// What happens now, as events to append and apply; [`Input::Settle`] tells what follows from them.
    pub(super) fn step(&self, now: Timestamp, input: &Input) -> Vec<RolloutEvent> {
        if !self.state.is_active() {
            return Vec::new();
        }
        match input {
            Input::Asked { agent_id, ring } => {
                let is_offered = !self.members.contains_key(agent_id) && self.may_offer(*ring);
                let offered = RolloutEvent::Offered { agent_id: *agent_id, ring: *ring };
                is_offered.then_some(offered).into_iter().collect()
            }
            Input::Reported { agent_id, job_id, compliance, is_confirmed } => {
                self.reported(*agent_id, *job_id, *compliance, *is_confirmed).into_iter().collect()
            }
            Input::Elapsed { gone } => self.elapsed(now, gone),
            Input::Settle => self.settle(now).into_iter().collect(),
        }
    }

    /// Whether one more node of a ring may be given the new version. It is asked of the failures that are
    /// there, and does not go by whether the stop that follows from them happened already.
    pub(super) fn may_offer(&self, ring: usize) -> bool {
        let Some(begun) = &self.begun else { return false };
        let (Some(wanted), Some(counts)) = (begun.plan.rings().get(ring), self.counts.get(ring))
        else {
            return false;
        };
        self.state == RolloutState::Running
            && ring <= self.ring
            && self.exceeded().is_none()
            && wanted.in_flight_max.is_none_or(|most| counts.in_flight < most)
    }

    /// The first ring in which more nodes failed than may, and how many.
    fn exceeded(&self) -> Option<(usize, u32)> {
        let rings = self.begun.iter().flat_map(|begun| begun.plan.rings());
        let failed = rings.zip(&self.counts).enumerate();
        let mut exceeded = failed.filter(|(_, (ring, counts))| counts.failed > ring.failures_max);
        exceeded.next().map(|(index, (_, counts))| (index, counts.failed))
    }

    fn reported(
        &self,
        agent_id: AgentId,
        job_id: JobId,
        compliance: Compliance,
        is_confirmed: bool,
    ) -> Option<RolloutEvent> {
        let was = self.members.get(&agent_id)?.outcome;
        let (outcome, event) = match compliance {
            // It may be about the old version.
            Compliance::Compliant if !is_confirmed => return None,
            Compliance::Compliant => {
                (Outcome::Succeeded, RolloutEvent::Succeeded { agent_id, job_id })
            }
            Compliance::NotCompliant => {
                let why = FailureReason::NotCompliant;
                (Outcome::Failed(why), RolloutEvent::Failed { agent_id, why })
            }
            Compliance::Failed => {
                let why = FailureReason::RunFailed;
                (Outcome::Failed(why), RolloutEvent::Failed { agent_id, why })
            }
        };
        (was != outcome).then_some(event)
    }

    fn elapsed(&self, now: Timestamp, gone: &[AgentId]) -> Vec<RolloutEvent> {
        let left = gone.iter().filter(|agent_id| self.members.contains_key(agent_id));
        let left = left.map(|agent_id| RolloutEvent::Left { agent_id: *agent_id });
        let is_overdue = |ring: usize, since: Timestamp| {
            let ring = self.begun.as_ref().and_then(|begun| begun.plan.rings().get(ring));
            ring.is_some_and(|ring| now.duration_since(since) > minutes(ring.patience_minutes))
        };
        let overdue = self.members.iter().filter(|(agent_id, member)| {
            member.outcome == Outcome::InFlight
                && is_overdue(member.ring, member.since)
                && !gone.contains(agent_id)
        });
        let overdue = overdue.map(|(agent_id, _)| RolloutEvent::Failed {
            agent_id: *agent_id,
            why: FailureReason::Overdue,
        });
        left.chain(overdue).take(STEP_EVENTS_MAX).collect()
    }

    fn settle(&self, now: Timestamp) -> Option<RolloutEvent> {
        if self.state != RolloutState::Running {
            return None;
        }
        if let Some((ring, failures)) = self.exceeded() {
            return Some(RolloutEvent::Stopped { ring, failures });
        }
        let ring = self.begun.as_ref()?.plan.rings().get(self.ring)?;
        let has_passed = now.duration_since(self.satisfied?) >= minutes(ring.soak_minutes);
        has_passed.then(|| self.next_ring())
    }

    /// What follows the ring that opened last.
    pub(super) fn next_ring(&self) -> RolloutEvent {
        match self.ring + 1 {
            ring if ring < self.counts.len() => RolloutEvent::RingOpened { ring },
            _ => RolloutEvent::Completed,
        }
    }
}

fn minutes(minutes: u32) -> SignedDuration {
    SignedDuration::from_mins(minutes.into())
}

#[cfg(test)]
mod tests {
    use super::super::RolloutPlan;
    use super::*;
    use crate::protocol::Checksum;
    use crate::pull_server::PublishedConfiguration;
    use uuid::Uuid;

    fn agent(number: u128) -> AgentId {
        AgentId(Uuid::from_u128(number))
    }

    fn at(minute: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minute)
    }

    fn version(content: &str) -> PublishedConfiguration {
        let (name, checksum) = ("Web".parse().expect("a name"), Checksum::of(content.as_bytes()));
        PublishedConfiguration { name, checksum, bytes: 1 }
    }

    fn begun(plan: &str) -> Rollout {
        let plan = RolloutPlan::parse("plan", plan.as_bytes()).expect("a plan");
        let mut rollout = Rollout::default();
        let event = RolloutEvent::Begun { old: version("old"), new: version("new"), plan };
        rollout.apply(at(0), event).expect("it begins");
        rollout
    }

    impl Rollout {
        /// Does what follows from an input; answers it in short.
        fn feed(&mut self, minute: i64, input: &Input) -> String {
            let (mut told, mut is_input) = (Vec::new(), true);
            let mut events = self.step(at(minute), input);
            while is_input || !events.is_empty() {
                is_input = false;
                for event in events {
                    told.push(match &event {
                        RolloutEvent::Offered { ring, .. } => format!("offered {ring}"),
                        RolloutEvent::Succeeded { .. } => "succeeded".to_owned(),
                        RolloutEvent::Failed { why, .. } => format!("failed {why:?}"),
                        RolloutEvent::RingOpened { ring } => format!("opened {ring}"),
                        RolloutEvent::Stopped { ring, failures } => {
                            format!("stopped {ring} {failures}")
                        }
                        other => format!("{other:?}"),
                    });
                    self.apply(at(minute), event).expect("it fits");
                }
                events = self.step(at(minute), &Input::Settle);
            }
            told.join(", ")
        }

        fn feed_ask(&mut self, minute: i64, number: u128, ring: usize) -> String {
            self.feed(minute, &Input::Asked { agent_id: agent(number), ring })
        }

        fn feed_report(&mut self, minute: i64, number: u128, compliance: Compliance) -> String {
            let (agent_id, job_id) = (agent(number), JobId(Uuid::from_u128(1)));
            let input = Input::Reported { agent_id, job_id, compliance, is_confirmed: true };
            self.feed(minute, &input)
        }

        fn feed_time(&mut self, minute: i64) -> String {
            self.feed(minute, &Input::Elapsed { gone: Vec::new() })
        }
    }

    const TWO_RINGS: &str = "rings:
      - {name: a, percent: 10, failuresMax: 1, successesMin: 2, soakMinutes: 30}
      - {name: b, percent: 100, inFlightMax: 2, soakMinutes: 0}";

    #[test]
    fn rings_open_one_after_the_other_and_the_last_one_completes() {
        let mut rollout = begun(TWO_RINGS);
        assert_eq!(rollout.feed_ask(1, 1, 0), "offered 0");
        assert_eq!(rollout.feed_ask(1, 1, 0), "", "once is enough");
        assert_eq!(rollout.feed_ask(1, 9, 1), "", "its ring is shut");
        assert_eq!(rollout.version_for(agent(1)), Some(version("new").checksum));
        assert_eq!(rollout.version_for(agent(9)), Some(version("old").checksum));
        let unconfirmed = Input::Reported {
            agent_id: agent(1),
            job_id: JobId(Uuid::nil()),
            compliance: Compliance::Compliant,
            is_confirmed: false,
        };
        assert_eq!(rollout.feed(2, &unconfirmed), "");
        assert_eq!(rollout.feed_report(3, 1, Compliance::Compliant), "succeeded");
        assert_eq!(rollout.feed_report(3, 9, Compliance::Failed), "", "it has the old version");
        assert_eq!(
            (rollout.feed_ask(4, 2, 0), rollout.feed_time(100)),
            ("offered 0".into(), "".into())
        );
        // A failure within the bound, which the next run makes good: the time begins then.
        assert_eq!(rollout.feed_report(101, 2, Compliance::NotCompliant), "failed NotCompliant");
        assert_eq!(rollout.feed_report(110, 2, Compliance::Compliant), "succeeded");
        assert_eq!(
            (rollout.feed_time(139), rollout.feed_time(140)),
            ("".into(), "opened 1".into())
        );
        assert_eq!(rollout.feed_ask(141, 9, 1), "offered 1");
        assert_eq!(rollout.feed_ask(141, 10, 1), "offered 1");
        assert_eq!(rollout.feed_ask(141, 11, 1), "", "two are in flight");
        assert_eq!(rollout.feed_ask(141, 3, 0), "offered 0", "an earlier ring stays open");
        assert_eq!(rollout.feed_report(150, 9, Compliance::Compliant), "succeeded, Completed");
        assert_eq!((rollout.state, rollout.version_for(agent(9))), (RolloutState::Completed, None));
        assert_eq!(rollout.feed_report(151, 9, Compliance::Failed), "");
        let kept = serde_json::to_value(&rollout).expect("a snapshot");
        let body = include_str!("../../../tests/fixtures/snapshots/dsc-rollout-1.json");
        let first: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(kept, first, "a snapshot that the first format kept: {kept}");
        let read: Rollout = serde_json::from_value(first).expect("it is read");
        assert_eq!(read, rollout);
    }

    #[test]
    fn failures_past_their_bound_stop_it() {
        let mut rollout = begun(TWO_RINGS);
        for number in 1..=4 {
            assert_eq!(rollout.feed_ask(1, number, 0), "offered 0");
        }
        assert_eq!(rollout.feed_report(2, 1, Compliance::Compliant), "succeeded");
        assert_eq!(rollout.feed_report(2, 2, Compliance::Compliant), "succeeded");
        assert_eq!(rollout.feed_report(3, 3, Compliance::Failed), "failed RunFailed");
        assert_eq!(rollout.feed_report(3, 3, Compliance::Failed), "", "it is one node");
        // One that had succeeded counts when it fails.
        assert_eq!(rollout.feed_report(4, 1, Compliance::Failed), "failed RunFailed, stopped 0 2");
        assert_eq!((rollout.feed_ask(5, 5, 0), rollout.feed_time(60)), ("".into(), "".into()));
        assert_eq!(rollout.version_for(agent(3)), Some(version("new").checksum));
        assert_eq!(rollout.version_for(agent(5)), Some(version("old").checksum));
        // What is reported while it is stopped is known when it goes on.
        assert_eq!(rollout.feed_report(61, 4, Compliance::Failed), "failed RunFailed");
        rollout.apply(at(62), RolloutEvent::Resumed).expect("it goes on");
        assert_eq!((rollout.counts[0].failed, rollout.counts[0].in_flight), (0, 3));
        assert_eq!(rollout.feed_ask(63, 5, 0), "offered 0");
        assert_eq!(rollout.feed_report(64, 3, Compliance::Failed), "failed RunFailed");
        assert_eq!(rollout.feed_report(64, 4, Compliance::Failed), "failed RunFailed, stopped 0 2");
        rollout.apply(at(65), RolloutEvent::Aborted).expect("it is taken back");
        assert_eq!(rollout.version_for(agent(3)), None);
    }

    #[test]
    fn silence_is_a_failure_and_who_left_is_none() {
        let mut rollout = begun(TWO_RINGS);
        for number in 1..=3 {
            assert_eq!(rollout.feed_ask(0, number, 0), "offered 0");
        }
        assert_eq!(rollout.feed_time(180), "");
        let gone = Input::Elapsed { gone: vec![agent(1), agent(7)] };
        let left = format!("{:?}", RolloutEvent::Left { agent_id: agent(1) });
        assert_eq!(
            rollout.feed(181, &gone),
            format!("{left}, failed Overdue, failed Overdue, stopped 0 2")
        );
        assert_eq!((rollout.members.len(), rollout.counts[0].failed), (2, 2));
    }

    /// The stop is an event of its own, which the failure may come without if the server ends between.
    #[test]
    fn nothing_is_offered_between_a_failure_and_its_stop() {
        let mut rollout = begun(TWO_RINGS);
        for number in 1..=2 {
            assert_eq!(rollout.feed_ask(1, number, 0), "offered 0");
            let why = FailureReason::RunFailed;
            let failed = RolloutEvent::Failed { agent_id: agent(number), why };
            rollout.apply(at(2), failed).expect("it fits");
        }
        assert_eq!((rollout.state, rollout.may_offer(0)), (RolloutState::Running, false));
        assert_eq!(rollout.feed_ask(3, 3, 0), "stopped 0 2");
    }
}
