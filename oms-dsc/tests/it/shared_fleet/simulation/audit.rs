//! What the journal says of nodes and keys, reckoned again, and what a server may answer by it.

use super::known::{Key, Known, Registration, ended, given};
use jiff::{SignedDuration, Timestamp};
use oms_core::Clock as _;
use oms_core::clock::ManualClock;
use oms_core::journal::{Event, Journal, JournalEvent as _, MemoryJournal, READ_MAX};
use oms_core::testkit::fault::Faults;
use oms_dsc::protocol::{
    AgentId, GetResourceStateResponse, Operation, Reply, ReportedState, Request,
};
use oms_dsc::pull_server::{
    NODE_HISTORY, NodeEvent, REGISTRATION_KEY_HISTORY, RegistrationKeyEvent, RegistrationKeyId,
    SIGNATURE_HISTORY,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The resource that reports tell of.
pub(super) const RESOURCE: &str = "[Cell]a";

/// How far the date of a registration may lie from the server's clock.
const WINDOW: SignedDuration = SignedDuration::from_mins(5);

/// How long a node may be silent.
const SILENCE: SignedDuration = SignedDuration::from_mins(90);

/// How far the clocks of two servers are apart at most, with what they gain in a run.
const APART: SignedDuration = SignedDuration::from_secs(260);

/// Everything that the journal says, and what was asked.
#[derive(Debug)]
pub(super) struct Book {
    seed: u64,
    clock: Arc<ManualClock>,
    faults: Arc<Faults>,
    position: u64,
    nodes: BTreeMap<AgentId, Known>,
    keys: BTreeMap<RegistrationKeyId, Key>,
    /// Every signature that made a registration.
    used: BTreeSet<String>,
    /// Every signature of which a node was told that it did.
    acknowledged: BTreeSet<String>,
    /// By signature, the registrations that nodes sent.
    registrations: HashMap<String, Registration>,
    /// By the thumbprint that they give, with what TLS presented: rotations that came to a server.
    rotations: HashMap<(AgentId, String), Vec<Option<String>>>,
    /// Certificates that came to a server, by node.
    presented: BTreeSet<(AgentId, String)>,
    /// When something of a node last came to a server.
    came: BTreeMap<AgentId, Timestamp>,
    /// When a node was last told that it was heard.
    heard: BTreeMap<AgentId, Timestamp>,
    /// Nodes that an operator is taking out.
    pub(super) removing: BTreeSet<AgentId>,
    /// Certificates that were a node's and no longer are.
    pub(super) void: BTreeSet<(AgentId, String)>,
    pub(super) tally: Counts,
}

/// What was so when a request came to a server.
#[derive(Debug)]
pub(super) struct Arrival {
    /// By the server's clock.
    now: Timestamp,
    was_used: bool,
    position: u64,
    faults: u64,
}

/// How often what was written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Counts {
    pub(super) registered: u64,
    pub(super) with_key: u64,
    pub(super) rotated: u64,
    pub(super) presented: u64,
    pub(super) asked: u64,
    pub(super) suspected: u64,
    pub(super) dismissed: u64,
    pub(super) removed: u64,
    pub(super) tagged: u64,
    pub(super) reported: u64,
    pub(super) called: u64,
    pub(super) silent: u64,
    pub(super) revoked: u64,
}

impl Counts {
    pub(super) const fn all(&self) -> [u64; 13] {
        [
            self.registered,
            self.with_key,
            self.rotated,
            self.presented,
            self.asked,
            self.suspected,
            self.dismissed,
            self.removed,
            self.tagged,
            self.reported,
            self.called,
            self.silent,
            self.revoked,
        ]
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.registered += other.registered;
        self.with_key += other.with_key;
        self.rotated += other.rotated;
        self.presented += other.presented;
        self.asked += other.asked;
        self.suspected += other.suspected;
        self.dismissed += other.dismissed;
        self.removed += other.removed;
        self.tagged += other.tagged;
        self.reported += other.reported;
        self.called += other.called;
        self.silent += other.silent;
        self.revoked += other.revoked;
    }
}

impl Book {
    pub(super) fn new(seed: u64, clock: Arc<ManualClock>, faults: Arc<Faults>) -> Self {
        Self {
            seed,
            clock,
            faults,
            position: 0,
            nodes: BTreeMap::new(),
            keys: BTreeMap::new(),
            used: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
            registrations: HashMap::new(),
            rotations: HashMap::new(),
            presented: BTreeSet::new(),
            came: BTreeMap::new(),
            heard: BTreeMap::new(),
            removing: BTreeSet::new(),
            void: BTreeSet::new(),
            tally: Counts::default(),
        }
    }

    pub(super) fn of(&self, agent_id: AgentId) -> Known {
        self.nodes.get(&agent_id).cloned().unwrap_or_default()
    }

    /// How far the journal is read.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// Whether a registration was made with this signature.
    pub(super) fn is_used(&self, request: &Request) -> bool {
        Registration::signature(request).is_some_and(|signature| self.used.contains(&signature))
    }

    /// Keeps a registration in mind before it arrives anywhere, with the key that signed it.
    pub(super) fn sent(
        &mut self,
        agent_id: AgentId,
        request: &Request,
        key: Option<RegistrationKeyId>,
    ) {
        let registration = Registration::of(agent_id, request, key);
        self.registrations.insert(registration.signature.clone(), registration);
    }

    /// Keeps in mind what comes to a server, whose clock shows `now`, before it answers.
    pub(super) fn arrives(
        &mut self,
        agent_id: AgentId,
        request: &Request,
        now: Timestamp,
    ) -> Arrival {
        let presented = request.headers.certificate_thumbprint.clone();
        if matches!(request.operation, Operation::CertificateRotation { .. }) {
            let key = (agent_id, given(request));
            self.rotations.entry(key).or_default().push(presented.clone());
        }
        self.presented.extend(presented.map(|presented| (agent_id, presented)));
        self.came.insert(agent_id, self.clock.now());
        let (was_used, faults) = (self.is_used(request), self.faults.count());
        Arrival { now, was_used, position: self.position, faults }
    }

    /// Reads what is new, and answers every state of one node since, the one before first; each event
    /// must be allowed where it stands.
    pub(super) async fn follow(&mut self, journal: &MemoryJournal, of: AgentId) -> Vec<Known> {
        let mut states = vec![self.of(of)];
        loop {
            let events = journal.read_all(self.position, READ_MAX).await.expect("events");
            let Some(last) = events.last() else { return states };
            self.position = last.position;
            for event in &events {
                self.read(event);
                if event.history.kind() == NODE_HISTORY && self.identity(event) == of {
                    states.push(self.of(of));
                }
            }
        }
    }

    fn identity(&self, event: &Event) -> AgentId {
        event.history.key().parse().unwrap_or_else(|_| panic!("seed {}: {event:?}", self.seed))
    }

    fn read(&mut self, event: &Event) {
        match event.history.kind() {
            SIGNATURE_HISTORY => {
                assert_eq!(event.version, 1, "seed {}: a signature is used twice", self.seed);
            }
            NODE_HISTORY => {
                let opened = NodeEvent::open(&event.envelope).expect("an event");
                self.apply(self.identity(event), opened, event.envelope.time);
            }
            REGISTRATION_KEY_HISTORY => {
                let id = event.history.key().parse().expect("an id");
                match RegistrationKeyEvent::open(&event.envelope).expect("an event") {
                    RegistrationKeyEvent::Made { configurations, expires, .. } => {
                        self.keys.insert(id, Key::new(&configurations, expires));
                    }
                    RegistrationKeyEvent::Revoked { removes_nodes } => {
                        self.tally.revoked += 1;
                        let key = self.keys.get_mut(&id).expect("it was made");
                        key.is_revoked = true;
                        key.removes_nodes |= removes_nodes;
                    }
                    other => panic!("seed {}: {other:?}", self.seed),
                }
            }
            _ => {}
        }
    }

    fn apply(&mut self, agent_id: AgentId, event: NodeEvent, time: Timestamp) {
        let seed = self.seed;
        let before = self.of(agent_id);
        let is_first = matches!(event, NodeEvent::Registered { .. });
        assert!(is_first || before.is_registered, "seed {seed}: {event:?} of nobody");
        self.check_event(agent_id, &before, &event, time);
        let mut node = before.clone();
        node.apply(event);
        let has = |known: &Known, one: &str| {
            known.certificate == one || known.next.as_deref() == Some(one)
        };
        let were = before.next.iter().chain([&before.certificate]).filter(|one| !one.is_empty());
        self.void.extend(were.filter(|one| !has(&node, one)).map(|one| (agent_id, one.clone())));
        for one in node.next.iter().chain([&node.certificate]) {
            self.void.remove(&(agent_id, one.clone()));
        }
        self.nodes.insert(agent_id, node);
    }

    /// Each event has its reason.
    fn check_event(
        &mut self,
        agent_id: AgentId,
        before: &Known,
        event: &NodeEvent,
        time: Timestamp,
    ) {
        let seed = self.seed;
        let count = &mut self.tally;
        match event {
            NodeEvent::Registered { signature, is_presented, registration_key, .. } => {
                count.registered += 1;
                count.with_key += u64::from(registration_key.is_some());
                assert!(self.used.insert(signature.clone()), "seed {seed}: a replay was accepted");
                let sent = &self.registrations[signature];
                let said = (agent_id, *is_presented, *registration_key);
                let expected = (sent.agent_id, sent.is_presented, sent.key);
                assert_eq!(said, expected, "seed {seed}: nobody sent it so");
                let key = registration_key.map(|id| self.keys[&id]).unwrap_or_default();
                assert!(!key.is_revoked, "seed {seed}: a revoked key registers");
                assert!(!key.has_expired(time), "seed {seed}: an expired key registers");
                assert!(!key.is_foreign, "seed {seed}: a key is used beyond its scope");
            }
            NodeEvent::Tagged { .. } => count.tagged += 1,
            NodeEvent::Reported { summary, message } => {
                count.reported += 1;
                let is_new = !before.reported.contains(&(summary.job_id, *message));
                assert!(is_new, "seed {seed}: the end of a run is told twice");
            }
            NodeEvent::RotationRequested => count.asked += 1,
            // A rotation rests on a certificate that was good when it was written, and none is in progress.
            NodeEvent::CertificateRotated { certificate } => {
                count.rotated += 1;
                assert_eq!(before.next, None, "seed {seed}: a third certificate is good");
                let given = certificate.thumbprint.clone();
                let askers = self.rotations.get(&(agent_id, given)).into_iter().flatten();
                let is_vouched =
                    askers.into_iter().any(|one| before.is_vouched_for(one.as_deref()));
                assert!(is_vouched, "seed {seed}: a void certificate was rotated");
            }
            NodeEvent::CertificatePresented => {
                count.presented += 1;
                let next = before.next.clone().expect("a certificate that is awaited");
                let came = self.presented.contains(&(agent_id, next));
                assert!(came, "seed {seed}: nobody presented the next certificate");
            }
            NodeEvent::CloneSuspected { .. } => {
                count.suspected += 1;
                assert!(!before.is_suspected, "seed {seed}: two machines are told of twice");
            }
            NodeEvent::CloneDismissed => count.dismissed += 1,
            NodeEvent::Heard => count.called += 1,
            // What a server answers is kept, or was kept within half of the time.
            NodeEvent::FellSilent { .. } => {
                count.silent += 1;
                let heard = self.heard.get(&agent_id).copied().unwrap_or(Timestamp::MIN);
                let silence = self.clock.now().duration_since(heard);
                let is_long = silence > SILENCE / 2 - APART;
                assert!(is_long, "seed {seed}: it is said to be silent for {silence}");
            }
            NodeEvent::Removed => {
                count.removed += 1;
                let goes = before.key.is_some_and(|id| self.keys[&id].removes_nodes);
                let is_meant = goes || self.removing.contains(&agent_id);
                assert!(is_meant, "seed {seed}: nobody took the node out");
            }
            other => panic!("seed {seed}: nobody does that: {other:?}"),
        }
    }

    /// Whether an answer is one that the node's states, while it was made, allow.
    pub(super) fn check(
        &mut self,
        arrival: &Arrival,
        request: &Request,
        reply: &Reply,
        states: &[Known],
    ) {
        let presented = request.headers.certificate_thumbprint.as_deref();
        let any = |is_such: &dyn Fn(&Known) -> bool| states.iter().any(is_such);
        let is_vouched = any(&|known| known.is_vouched_for(presented) && !known.is_silent);
        let is_refused = any(&|known| !known.is_vouched_for(presented));
        let is_right = match (&request.operation, reply.status) {
            // The journal was out of reach, and the node asks again.
            (_, 500 | 503) => true,
            (Operation::RegisterDscAgent { .. }, status) => {
                self.is_right_for_registration(arrival, request, status, states)
            }
            (Operation::CertificateRotation { .. }, 201) => {
                let given = given(request);
                let has = |known: &Known| {
                    known.certificate == given || known.next.as_ref() == Some(&given)
                };
                is_vouched && any(&has)
            }
            (Operation::CertificateRotation { .. }, 409) => any(&|known| known.next.is_some()),
            (Operation::CertificateRotation { .. }, 404) => is_refused,
            (operation, 200) => {
                let is_kept = match operation {
                    Operation::SendReport { .. } => ended(request)
                        .is_none_or(|report| any(&|known| known.reported.contains(&report))),
                    Operation::GetResourceState { .. } => self.is_reported_state(request, reply),
                    _ => true,
                };
                let is_known = self.faults.count() == arrival.faults;
                is_vouched && is_kept && asks_rightly(reply, states, is_known)
            }
            // It was taken out while its report was being kept.
            (Operation::SendReport { .. }, 404) => any(&|known| !known.is_registered),
            (_, 401) => is_refused,
            _ => false,
        };
        let seed = self.seed;
        let (status, said) = (reply.status, String::from_utf8_lossy(&reply.body));
        assert!(is_right, "seed {seed}: {status} {said} to {request:?} while it was {states:?}");
        if reply.is_success() {
            self.heard.insert(super::identity(request), self.clock.now());
        }
    }

    /// A registration is taken once, with a key that is good; the same bytes again are a replay,
    /// whoever sends them and whatever became of the answer. A new signature is another registration.
    fn is_right_for_registration(
        &mut self,
        arrival: &Arrival,
        request: &Request,
        status: u16,
        states: &[Known],
    ) -> bool {
        let signature = Registration::signature(request).expect("it is signed");
        let registration = &self.registrations[&signature];
        let key = registration.key.map(|id| self.keys[&id]).unwrap_or_default();
        let is_late = registration.date.duration_since(arrival.now).abs() > WINDOW;
        match status {
            204 => {
                let stands = states.iter().any(|known| known.stands(registration));
                let is_new = self.acknowledged.insert(signature);
                let is_good = !key.has_expired(arrival.now) && !key.is_foreign;
                stands && is_new && is_good && !arrival.was_used && !is_late
            }
            401 => {
                let is_bad = key.is_revoked || key.has_expired(arrival.now) || key.is_foreign;
                is_late || is_bad || self.used.contains(&signature)
            }
            _ => false,
        }
    }

    /// Who is refused changed nothing.
    pub(super) fn check_unchanged(&self, arrival: &Arrival, request: &Request, reply: &Reply) {
        let is_unchanged = !matches!(reply.status, 401 | 404) || self.position == arrival.position;
        assert!(is_unchanged, "seed {}: {reply:?} to {request:?} changed something", self.seed);
    }

    fn is_reported_state(&self, request: &Request, reply: &Reply) -> bool {
        let asked: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
        let name = asked["NodeNames"][0].as_str().expect("a name");
        let is_meant = |known: &&Known| known.is_registered && known.node_name == name;
        let mut found = self.nodes.values().filter(is_meant);
        let expected = match (found.next(), found.next()) {
            (None, _) => ReportedState::UnknownNode,
            (Some(_), Some(_)) => ReportedState::SeveralNodes,
            (Some(node), None) => match node.is_in_state {
                None => ReportedState::NotReported,
                Some(true) => ReportedState::InDesiredState,
                Some(false) => ReportedState::NotInDesiredState,
            },
        };
        let told: GetResourceStateResponse = serde_json::from_slice(&reply.body).expect("JSON");
        told.nodes[0].state == expected
    }

    /// After maintenance by a server that has been up since `opened`: who was not heard of for too long
    /// counts as silent, and who goes with a key is gone.
    pub(super) fn check_maintained(&self, opened: Timestamp) {
        let (seed, now) = (self.seed, self.clock.now());
        for (agent_id, known) in self.registered() {
            let since = self.came.get(&agent_id).copied().unwrap_or(opened).max(opened);
            let is_overdue = now.duration_since(since) > SILENCE + APART;
            assert!(
                known.is_silent || !is_overdue,
                "seed {seed}: silence is not noticed: {known:?}"
            );
        }
        self.check_none_goes();
    }

    /// No node is left that goes with a revoked key.
    pub(super) fn check_none_goes(&self) {
        for (_, known) in self.registered() {
            let goes = known.key.is_some_and(|id| self.keys[&id].removes_nodes);
            assert!(!goes, "seed {}: it goes with its key: {known:?}", self.seed);
        }
    }

    /// Whether a key that is kept was revoked.
    pub(super) fn is_revoked(&self, id: RegistrationKeyId) -> bool {
        self.keys.get(&id).is_some_and(|key| key.is_revoked)
    }

    /// Every node that is registered.
    pub(super) fn registered(&self) -> BTreeMap<AgentId, Known> {
        let registered = self.nodes.iter().filter(|(_, known)| known.is_registered);
        registered.map(|(agent_id, known)| (*agent_id, known.clone())).collect()
    }
}

/// Whether an answer asks for a rotation just if somebody does; where the journal was out of reach
/// meanwhile, the next one may.
fn asks_rightly(reply: &Reply, states: &[Known], is_known: bool) -> bool {
    let asks = reply.header("DSC-certificateRotation") == Some("True");
    let is_asked = |known: &Known| known.is_asked && known.next.is_none();
    states.iter().any(|known| asks == is_asked(known)) || (!asks && !is_known)
}
