//! What an operator does, what somebody tries who has seen it all, and what happens at once.

use super::audit::Arrival;
use super::computer::{Pending, TRIES, identity};
use super::known::Known;
use super::{COMPUTERS, STEPS_MAX, STRANGER, World};
use crate::registration_key::agent;
use crate::shared_fleet::{asks, rotates};
use oms_core::Clock as _;
use oms_dsc::protocol::{AgentId, Operation, Reply, Request};
use oms_dsc::pull_server::{NewRegistrationKey, RevokeOptions};
use oms_dsc::{Error, PullServer};
use std::collections::BTreeMap;
use std::time::Duration;

/// What an operator does to a node.
#[derive(Clone, Debug)]
enum Deed {
    Tag(String),
    AskForRotation,
    Dismiss,
    Remove,
}

impl Deed {
    /// Whether a node is as it is to be afterwards.
    fn is_done(&self, known: &Known) -> bool {
        match self {
            Self::Tag(value) => known.tags.get("role") == Some(value),
            Self::AskForRotation => known.is_asked && known.next.is_none(),
            Self::Dismiss => known.is_registered && !known.is_suspected,
            Self::Remove => !known.is_registered,
        }
    }
}

/// What happens together with others.
#[derive(Clone, Debug)]
enum Act {
    Send(Box<Request>),
    Do(Deed),
}

impl Act {
    fn is_report(&self) -> bool {
        let Self::Send(request) = self else { return false };
        matches!(request.operation, Operation::SendReport { .. })
    }
}

/// What came of it.
enum Outcome {
    Answered(Reply),
    Done(Result<(), Error>),
}

impl World {
    pub(super) async fn operate(&mut self) {
        match self.sim.below(8) {
            0..4 => self.do_deed().await,
            4 => self.make_key().await,
            5 => self.revoke_key().await,
            _ => self.compare().await,
        }
    }

    async fn do_deed(&mut self) {
        let index = self.sim.below(2) as usize;
        let agent_id = Self::agent_of(self.sim.below(4) as usize);
        let Some(server) = self.servers[index].clone() else { return };
        let deed = self.deed();
        self.note_deed(agent_id, &deed);
        let done = self.on(index, perform(&server, agent_id, &deed)).await;
        let states = self.book.follow(&self.journal, agent_id).await;
        self.book.removing.remove(&agent_id);
        if let Some(outcome) = done {
            // Nobody else did anything meanwhile.
            self.check_deed(&deed, &outcome, &states[states.len() - 1..]);
        }
    }

    fn deed(&mut self) -> Deed {
        match self.sim.below(12) {
            0 => Deed::Remove,
            1..4 => Deed::Tag(self.sim.below(1_000).to_string()),
            4..7 => Deed::Dismiss,
            _ => Deed::AskForRotation,
        }
    }

    fn note_deed(&mut self, agent_id: AgentId, deed: &Deed) {
        if matches!(deed, Deed::Remove) {
            self.book.removing.insert(agent_id);
        }
    }

    fn check_deed(&self, deed: &Deed, outcome: &Result<(), Error>, states: &[Known]) {
        let seed = self.seed();
        match outcome {
            Ok(()) => {
                let is_done = states.iter().any(|known| deed.is_done(known));
                assert!(is_done, "seed {seed}: {deed:?}: it is done, and not so: {states:?}");
            }
            Err(Error::NotFound { .. }) => {
                let is_none = states.iter().any(|known| !known.is_registered);
                assert!(is_none, "seed {seed}: {deed:?} of nobody: {states:?}");
            }
            Err(Error::Journal(_)) if !self.is_calm => {}
            Err(error) => panic!("seed {seed}: {deed:?}: {error}"),
        }
    }

    async fn make_key(&mut self) {
        let index = self.sim.below(2) as usize;
        let Some(server) = self.servers[index].clone() else { return };
        let scope = ["Web", "W*", "Other"].get(self.sim.below(4) as usize);
        let hours = 1 + self.sim.below(6);
        let expires =
            self.sim.chance(500).then(|| self.clock.now() + Duration::from_secs(hours * 3_600));
        let configurations = scope.iter().map(|text| text.parse().expect("a pattern")).collect();
        let new = NewRegistrationKey { configurations, expires, ..NewRegistrationKey::default() };
        let made = self.on(index, async move { server.make_registration_key(new).await }).await;
        self.book.follow(&self.journal, agent(STRANGER)).await;
        match made {
            Some(Ok((key, secret))) => {
                self.keys.push((Some(key.id), secret));
                self.tally.keys += 1;
            }
            // It may be there, and nobody knows it.
            Some(Err(Error::Journal(_))) | None => {}
            Some(Err(error)) => panic!("seed {}: {error}", self.seed()),
        }
    }

    /// A key that some node registered with, more often than not.
    async fn revoke_key(&mut self) {
        let index = self.sim.below(2) as usize;
        let number = match self.sim.chance(700) {
            true => self.computers[self.sim.below(4) as usize].key,
            false => self.sim.below(self.keys.len() as u64) as usize,
        };
        let (Some(id), Some(server)) = (self.keys[number].0, self.servers[index].clone()) else {
            return;
        };
        let removes_nodes = self.sim.chance(500);
        let options = RevokeOptions { removes_nodes };
        let revoked =
            self.on(index, async move { server.revoke_registration_key(id, options).await }).await;
        self.book.follow(&self.journal, agent(STRANGER)).await;
        match revoked {
            Some(Ok(_)) => {
                assert!(self.book.is_revoked(id), "seed {}: it is not revoked", self.seed());
                self.book.check_none_goes();
            }
            Some(Err(Error::Journal(_))) | None => {}
            Some(Err(error)) => panic!("seed {}: {error}", self.seed()),
        }
    }

    pub(super) async fn maintain(&mut self, index: usize) {
        let Some(server) = self.servers[index].clone() else { return };
        let maintained = self.on(index, async move { server.maintain().await }).await;
        self.book.follow(&self.journal, agent(STRANGER)).await;
        // What it did not come to, it does the next time.
        if let Some(Ok(done)) = maintained {
            self.tally.dropped += done.signatures_dropped as u64;
            self.book.check_maintained(self.opened[index]);
        }
    }

    /// Somebody who has seen everything, and holds no certificate of anybody, tries what that is worth.
    pub(super) async fn attack(&mut self) {
        let Some(request) = self.forged() else { return };
        let index = self.sim.below(2) as usize;
        let Some(server) = self.servers[index].clone() else { return };
        let (asked, before) = (request.clone(), self.book.position());
        let reply = self.on(index, async move { server.answer(asked).await }).await;
        self.book.follow(&self.journal, identity(&request)).await;
        let seed = self.seed();
        assert_eq!(before, self.book.position(), "seed {seed}: {request:?} changed something");
        let Some(reply) = reply else { return };
        let is_refused = matches!(reply.status, 401 | 404 | 500 | 503);
        assert!(is_refused, "seed {seed}: {reply:?} to {request:?}");
        self.tally.attacks += 1;
    }

    fn forged(&mut self) -> Option<Request> {
        if self.sim.chance(500) {
            return self.with_void_certificate();
        }
        // What was seen lately is still within the window, more often than not.
        let recent = self.seen.len().saturating_sub(3);
        let index = recent + self.sim.below((self.seen.len() - recent).max(1) as u64) as usize;
        let mut request = self.seen.get(index)?.clone();
        // One that was lost on its way is no replay.
        if !self.book.is_used(&request) {
            return None;
        }
        match self.sim.below(4) {
            0 => request.headers.certificate_thumbprint = None,
            1 => request.headers.certificate_thumbprint = Some(format!("{:040X}", u64::MAX)),
            2 => {
                let agent_id = agent(STRANGER);
                request.operation = Operation::RegisterDscAgent { agent_id };
            }
            // Exactly what the node sent, as one would that holds its certificate.
            _ => {}
        }
        Some(request)
    }

    fn with_void_certificate(&mut self) -> Option<Request> {
        let void: Vec<(AgentId, String)> = self.book.void.iter().cloned().collect();
        let index = self.sim.below(void.len().max(1) as u64) as usize;
        let (agent_id, certificate) = void.get(index)?.clone();
        if !self.book.of(agent_id).is_registered {
            return None;
        }
        let number = agent_id.0.as_u128();
        let mine = format!("{:040X}", u64::MAX);
        let mut request = match self.sim.chance(500) {
            true => asks(number),
            false => rotates(number, &mine, ""),
        };
        request.headers.certificate_thumbprint = Some(certificate);
        if self.sim.chance(300) && self.book.of(agent_id).is_bound {
            request.headers.certificate_thumbprint = None;
        }
        Some(request)
    }

    /// Three things happen to one node at once, on both servers, of which one may end meanwhile.
    pub(super) async fn race(&mut self) {
        let (Some(first), Some(second)) = (self.servers[0].clone(), self.servers[1].clone()) else {
            return;
        };
        let computer = self.sim.below(4) as usize;
        if self.computers[computer].pending.is_some() {
            return;
        }
        let agent_id = Self::agent_of(computer);
        let acts = self.acts(computer);
        let arrivals = self.arrivals(agent_id, &acts);
        let outcomes = match acts.iter().any(Act::is_report) {
            true => self.one_halts(agent_id, &acts, &first, &second).await,
            false => self.all_at_once(agent_id, &acts, &first, &second).await,
        };
        drop((first, second));
        self.ends_if_burnt(0);
        let states = self.book.follow(&self.journal, agent_id).await;
        self.book.removing.remove(&agent_id);
        for ((act, arrival), outcome) in acts.iter().zip(&arrivals).zip(outcomes) {
            self.raced(computer, act, arrival.as_ref(), outcome, &states).await;
        }
        self.tally.races += 1;
    }

    /// The first server does two things while the second one does another.
    async fn all_at_once(
        &mut self,
        agent_id: AgentId,
        [one, two, three]: &[Act; 3],
        first: &PullServer,
        second: &PullServer,
    ) -> [Option<Outcome>; 3] {
        self.faults.set_late(400);
        if self.sim.chance(100) {
            self.fuses[0].light(self.sim.below(STEPS_MAX));
        }
        let (fuse, other) = (&self.fuses[0], &self.fuses[1]);
        let (one, two, three) = Box::pin(async {
            tokio::join!(
                fuse.before_it_burns(happen(first, agent_id, one)),
                other.before_it_burns(happen(second, agent_id, two)),
                fuse.before_it_burns(happen(first, agent_id, three))
            )
        })
        .await;
        self.faults.set_late(0);
        [one, two, three]
    }

    /// The first server halts at some step, and goes on after the second one did the rest: what takes a
    /// thread's time, as a report does, must not race with anything if a seed is to do the same again.
    async fn one_halts(
        &mut self,
        agent_id: AgentId,
        [one, two, three]: &[Act; 3],
        first: &PullServer,
        second: &PullServer,
    ) -> [Option<Outcome>; 3] {
        self.fuses[0].light(self.sim.below(STEPS_MAX / 3));
        let mut work = Box::pin(happen(first, agent_id, one));
        let early = self.fuses[0].before_it_burns(work.as_mut()).await;
        let two = Box::pin(happen(second, agent_id, two)).await;
        let three = Box::pin(happen(second, agent_id, three)).await;
        self.fuses[0].put_out();
        let one = match early {
            Some(outcome) => outcome,
            None => work.await,
        };
        [Some(one), Some(two), Some(three)]
    }

    fn arrivals(&mut self, agent_id: AgentId, acts: &[Act; 3]) -> [Option<Arrival>; 3] {
        std::array::from_fn(|number| match &acts[number] {
            Act::Send(request) => {
                let server = match acts[0].is_report() {
                    true => number.min(1),
                    false => number % 2,
                };
                let now = self.clocks[server].now();
                Some(self.book.arrives(agent_id, request, now))
            }
            Act::Do(deed) => {
                self.note_deed(agent_id, deed);
                None
            }
        })
    }

    async fn raced(
        &mut self,
        computer: usize,
        act: &Act,
        arrival: Option<&Arrival>,
        outcome: Option<Outcome>,
        states: &[Known],
    ) {
        match (act, arrival, outcome) {
            (Act::Send(request), Some(arrival), Some(Outcome::Answered(reply))) => {
                self.check(arrival, request, &reply, states);
                self.calls += 1;
                let (call, request) = (self.calls, (**request).clone());
                self.computers[computer].pending = Some(Pending { call, request, tries: TRIES });
                self.answered(computer, call, &reply);
                self.computers[computer].pending = None;
            }
            (Act::Do(deed), _, Some(Outcome::Done(outcome))) => {
                self.check_deed(deed, &outcome, states);
            }
            // The server ended.
            _ => {}
        }
    }

    fn acts(&mut self, computer: usize) -> [Act; 3] {
        let number = COMPUTERS[computer].1;
        let presents = self.presents(computer);
        let known = self.book.of(Self::agent_of(computer));
        let with = |mut request: Request, presented: &Option<String>| {
            request.headers.certificate_thumbprint.clone_from(presented);
            Act::Send(Box::new(request))
        };
        let new = self.thumbprint();
        match self.sim.below(4) {
            // The same bytes come to both.
            0 => {
                let registration = Act::Send(Box::new(self.registration(computer)));
                [registration.clone(), registration, Act::Do(self.deed())]
            }
            // The new certificate is presented here, while the old one is used there.
            1 => [
                with(asks(number), &self.awaited(computer, &known)),
                with(rotates(number, &new, ""), &presents),
                with(asks(number), &presents),
            ],
            2 => [
                with(rotates(number, &new, ""), &presents),
                Act::Do(self.deed()),
                with(asks(number), &Some(new).filter(|_| presents.is_some())),
            ],
            // One server is told of a run, while the other one takes the node out.
            _ => [
                with(self.report(computer), &presents),
                Act::Do(if self.sim.chance(300) { Deed::Remove } else { self.deed() }),
                with(asks(number), &presents),
            ],
        }
    }
}

/// What an operator does, and whether it is done.
async fn perform(server: &PullServer, agent_id: AgentId, deed: &Deed) -> Result<(), Error> {
    match deed {
        Deed::Tag(value) => {
            let tags = BTreeMap::from([("role".parse().expect("a name"), Some(value.clone()))]);
            server.tag(agent_id, &tags).await.map(drop)
        }
        Deed::AskForRotation => server.request_rotation(agent_id).await.map(drop),
        Deed::Dismiss => server.dismiss_clone(agent_id).await.map(drop),
        Deed::Remove => server.remove_node(agent_id).await,
    }
}

async fn happen(server: &PullServer, agent_id: AgentId, act: &Act) -> Outcome {
    match act {
        Act::Send(request) => Outcome::Answered(server.answer((**request).clone()).await),
        Act::Do(deed) => Outcome::Done(perform(server, agent_id, deed).await),
    }
}
