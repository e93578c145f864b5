//! The candidate and the holder as one pure machine.

use super::state::{ClaimId, LeaseEvent, Ownership, View, Writer};
use super::{Duty, LeaseSettings};
use crate::clock::Clock;
use crate::journal::{Append, HistoryId, Snapshot};
use jiff::Timestamp;
use std::time::Duration;

/// After so many failures of the journal a release is given up.
pub const RELEASE_TRIES_MAX: u32 = 5;

/// A reading of both of a process's clocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Moment {
    /// Written into events and never compared.
    pub wall: Timestamp,
    /// What every wait and every belief is measured by.
    pub monotonic: Duration,
}

impl Moment {
    /// Reads a clock.
    #[must_use]
    pub fn of(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), monotonic: clock.monotonic() }
    }
}

/// What reaches an [`Engine`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Input {
    /// The time of an [`Effect::Wake`] has come, or the engine begins.
    Wake,
    /// The answer to [`Effect::Read`]; none if the journal failed.
    Read {
        /// Which one.
        call: u64,
        /// What it showed.
        view: Option<View>,
    },
    /// The answer to [`Effect::Append`].
    Appended {
        /// Which one.
        call: u64,
        /// What became of it.
        outcome: Outcome,
    },
    /// As [`Input::Wake`], and nobody waits for a call under way any more: it may have happened
    /// or may yet.
    Abandon,
    /// The holder wants to renew now.
    Renew,
    /// The holder lets go.
    Release,
}

/// What became of an append.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "it happened, it did not, or nobody knows")]
pub enum Outcome {
    /// It happened.
    Done,
    /// It did not: a history has changed.
    Conflict,
    /// It may have happened or may yet.
    Unknown,
}

/// What an [`Engine`] wants done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Effect {
    /// Read the duty's ownership and renewals, then answer with [`Input::Read`].
    Read {
        /// Comes back in the answer.
        call: u64,
    },
    /// Append, then answer with [`Input::Appended`].
    Append {
        /// Comes back in the answer.
        call: u64,
        /// All or none.
        appends: Vec<Append>,
    },
    /// Keep a snapshot of the ownership; nothing depends on it but the time to read.
    Save(Snapshot),
    /// Delete renewals of ownership versions below this; nothing depends on it but space.
    Trim {
        /// The ownership's version.
        below: u64,
    },
    /// Send [`Input::Wake`] at this reading of the monotonic clock. It replaces an earlier one.
    Wake {
        /// When.
        at: Duration,
    },
}

/// Where a candidate or holder stands.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Standing {
    /// It does not know yet who owns the duty.
    Asking,
    /// Another owns it.
    Waiting {
        /// Who.
        by: String,
        /// When a claim can succeed if the owner shows no life, by the monotonic clock.
        ready_at: Duration,
    },
    /// It owns the duty.
    Held {
        /// The fencing token.
        epoch: u64,
        /// Until when it may believe so, by the monotonic clock.
        until: Duration,
    },
    /// It owned the duty and must stop.
    Lost(Loss),
    /// It lets go, and must not act as the owner any more.
    Releasing,
    /// It let go, and others may claim the duty at once.
    Released,
    /// It let go, but the journal could not be told: others wait out its term.
    Abandoned,
}

/// Why a holder must stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "there are two ways to lose a lease")]
pub enum Loss {
    /// Its term has passed without a renewal.
    Expired,
    /// The journal names another owner.
    Superseded,
}

/// The owner's life as a candidate has seen it: unchanged since.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Watched {
    version: u64,
    renewals: u64,
    by: String,
    ready_at: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Call {
    number: u64,
    is_read: bool,
    asked_at: Duration,
}

#[derive(Clone, Debug)]
enum Phase {
    Candidate { watched: Option<Watched> },
    Claiming { claimed: Ownership, watched: Option<Watched> },
    Holding(Hold),
    Releasing { hold: Hold, tries: u32 },
    Ended(Standing),
}

#[derive(Clone, Debug)]
struct Hold {
    ownership: Ownership,
    renewals: u64,
    until: Duration,
    renew_at: Duration,
    /// Whether the append under way confirms the ownership.
    is_confirming: bool,
    /// Whether to look who owns the duty before the next renewal.
    is_unsure: bool,
}

/// A candidate that becomes the holder of a duty: what to do next, as a pure function of what
/// was seen and of one process's clock.
///
/// At most one call to the journal is under way. Answers to earlier calls are passed over, so
/// messages may be lost, late or doubled.
#[derive(Clone, Debug)]
pub struct Engine {
    writer: Writer,
    settings: LeaseSettings,
    phase: Phase,
    call: Option<Call>,
    last_call: u64,
}

impl Engine {
    /// A candidate for `duty` under a claim that nobody else uses.
    #[must_use]
    pub fn new(duty: Duty, holder: &str, claim: ClaimId, settings: LeaseSettings) -> Self {
        let (holder, term_millis) = (holder.to_owned(), settings.term_millis);
        let writer = Writer { duty, holder, claim, term_millis };
        let phase = Phase::Candidate { watched: None };
        Self { writer, settings, phase, call: None, last_call: 0 }
    }

    /// The same candidate with what this process has seen of the owner before.
    #[must_use]
    pub fn watching(mut self, watched: Option<Watched>) -> Self {
        self.phase = Phase::Candidate { watched };
        self
    }

    /// What it has seen of the owner, to be given to a later candidate of the same process.
    #[must_use]
    pub fn watched(&self) -> Option<Watched> {
        match &self.phase {
            Phase::Candidate { watched } => watched.clone(),
            _ => None,
        }
    }

    /// Where it stands. A holder past its `until` has lost the lease even before it is told the
    /// time.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match &self.phase {
            Phase::Candidate { watched: Some(Watched { by, ready_at, .. }) } => {
                Standing::Waiting { by: by.clone(), ready_at: *ready_at }
            }
            Phase::Candidate { watched: None } | Phase::Claiming { .. } => Standing::Asking,
            Phase::Holding(hold) => {
                Standing::Held { epoch: hold.ownership.epoch, until: hold.until }
            }
            Phase::Releasing { .. } => Standing::Releasing,
            Phase::Ended(standing) => standing.clone(),
        }
    }

    /// Whether it may believe at `now`, by its monotonic clock, that it owns the duty.
    #[must_use]
    pub fn believes(&self, now: Duration) -> bool {
        matches!(&self.phase, Phase::Holding(hold) if now < hold.until)
    }

    /// Whether the holder's last call was answered and it knows what the journal holds.
    #[must_use]
    pub fn is_sure(&self) -> bool {
        self.call.is_none() && matches!(&self.phase, Phase::Holding(hold) if !hold.is_unsure)
    }

    /// The condition under which the holder writes.
    #[must_use]
    pub fn guard(&self) -> Option<Append> {
        match &self.phase {
            Phase::Holding(hold) => Some(self.condition(hold)),
            _ => None,
        }
    }

    /// Takes one input and answers what is to be done.
    pub fn step(&mut self, now: Moment, input: Input) -> Vec<Effect> {
        if let Phase::Holding(hold) = &self.phase
            && now.monotonic >= hold.until
        {
            self.end(Standing::Lost(Loss::Expired));
        }
        match input {
            Input::Wake => self.wake(now),
            Input::Abandon => {
                self.give_up_call();
                self.wake(now)
            }
            Input::Read { call, view } if self.take_call(call, true).is_some() => {
                self.read(now, view)
            }
            Input::Appended { call, outcome } => match self.take_call(call, false) {
                Some(call) => self.appended(now, call.asked_at, outcome),
                None => Vec::new(),
            },
            Input::Renew => {
                self.give_up_call();
                if let Phase::Holding(hold) = &mut self.phase {
                    hold.renew_at = now.monotonic;
                }
                self.wake(now)
            }
            Input::Release => self.release(now),
            Input::Read { .. } => Vec::new(),
        }
    }

    fn wake(&mut self, now: Moment) -> Vec<Effect> {
        if let Some(call) = self.call {
            let late_at = call.asked_at + self.settings.call_max();
            if now.monotonic < late_at {
                return vec![self.wake_by(late_at)];
            }
            self.give_up_call();
        }
        match &self.phase {
            Phase::Candidate { .. } | Phase::Releasing { .. } => self.ask(now),
            Phase::Holding(hold) if now.monotonic < hold.renew_at => {
                vec![self.wake_by(hold.renew_at)]
            }
            Phase::Holding(hold) if hold.is_unsure => self.ask(now),
            Phase::Holding(hold) => {
                let hold = hold.clone();
                self.renew(now, hold)
            }
            Phase::Claiming { .. } | Phase::Ended(_) => Vec::new(),
        }
    }

    fn read(&mut self, now: Moment, view: Option<View>) -> Vec<Effect> {
        let Some(View { ownership, renewals }) = view else {
            self.doubt();
            return self.retry_later(now);
        };
        let is_mine = ownership.owner.as_ref().is_some_and(|o| o.claim == self.writer.claim);
        match &mut self.phase {
            Phase::Candidate { .. } => self.consider(now, &ownership, renewals, is_mine),
            Phase::Holding(hold) | Phase::Releasing { hold, .. }
                if is_mine && hold.ownership.epoch == ownership.epoch =>
            {
                hold.ownership = ownership;
                hold.renewals = renewals;
                hold.is_unsure = false;
                hold.renew_at = now.monotonic;
                let hold = hold.clone();
                match self.phase {
                    Phase::Releasing { tries, .. } => self.try_release(now, hold, tries),
                    _ => self.renew(now, hold),
                }
            }
            Phase::Holding(_) => {
                self.end(Standing::Lost(Loss::Superseded));
                Vec::new()
            }
            Phase::Releasing { .. } => {
                // The release of unknown outcome happened, or someone waited out the term.
                self.end(Standing::Released);
                Vec::new()
            }
            Phase::Claiming { .. } | Phase::Ended(_) => Vec::new(),
        }
    }

    /// A candidate has seen the journal.
    fn consider(
        &mut self,
        now: Moment,
        ownership: &Ownership,
        renewals: u64,
        is_mine: bool,
    ) -> Vec<Effect> {
        let owner = match &ownership.owner {
            None => return self.claim(now, LeaseEvent::Acquired, ownership, None),
            // An earlier claim of this candidate happened though it was not told. It never
            // believed in it, so there is nothing to wait for.
            Some(_) if is_mine => {
                return self.claim(now, LeaseEvent::TakenOver, ownership, None);
            }
            Some(owner) => owner,
        };
        let Phase::Candidate { watched } = &mut self.phase else { return Vec::new() };
        let version = ownership.version;
        let is_unchanged =
            |seen: &&mut Watched| (seen.version, seen.renewals) == (version, renewals);
        match watched.as_mut().filter(is_unchanged) {
            Some(seen) if now.monotonic >= seen.ready_at => {
                self.claim(now, LeaseEvent::TakenOver, ownership, Some(renewals))
            }
            Some(seen) => {
                let ready_at = seen.ready_at;
                self.look_again(now, ready_at)
            }
            None => {
                let ready_at = now.monotonic.saturating_add(self.settings.wait(owner.term()));
                let by = owner.holder.clone();
                *watched = Some(Watched { version, renewals, by, ready_at });
                self.look_again(now, ready_at)
            }
        }
    }

    fn look_again(&self, now: Moment, ready_at: Duration) -> Vec<Effect> {
        let at = ready_at.min(now.monotonic + self.settings.watch_every());
        vec![Effect::Wake { at }]
    }

    /// Asks for the ownership. `renewals` is what the owner must not have gone past.
    fn claim(
        &mut self,
        now: Moment,
        event: LeaseEvent,
        before: &Ownership,
        renewals: Option<u64>,
    ) -> Vec<Effect> {
        let epoch = before.epoch + 1;
        let mut appends = vec![Append {
            history: self.writer.history().clone(),
            expected: before.version,
            events: vec![self.writer.event(now.wall, event, epoch)],
        }];
        if let Some(renewals) = renewals {
            appends.push(Append::condition(self.renewals_of(before.version), renewals));
        }
        let owner = Some(super::Owner {
            holder: self.writer.holder.clone(),
            claim: self.writer.claim,
            term_millis: self.writer.term_millis,
            since: now.wall,
        });
        let claimed = Ownership { version: before.version + 1, epoch, owner };
        let watched = self.watched();
        self.phase = Phase::Claiming { claimed, watched };
        self.append(now, appends)
    }

    /// Renews, or after so many renewals confirms.
    fn renew(&mut self, now: Moment, mut hold: Hold) -> Vec<Effect> {
        let epoch = hold.ownership.epoch;
        hold.is_confirming = hold.renewals >= self.settings.renewals_max;
        let appends = if hold.is_confirming {
            vec![Append {
                history: self.writer.history().clone(),
                expected: hold.ownership.version,
                events: vec![self.writer.event(now.wall, LeaseEvent::Confirmed, epoch)],
            }]
        } else {
            let renewal = Append {
                history: self.renewals_of(hold.ownership.version),
                expected: hold.renewals,
                events: vec![self.writer.renewal(now.wall, epoch)],
            };
            vec![self.condition(&hold), renewal]
        };
        self.phase = Phase::Holding(hold);
        self.append(now, appends)
    }

    fn release(&mut self, now: Moment) -> Vec<Effect> {
        match &self.phase {
            Phase::Holding(hold) => {
                let hold = hold.clone();
                self.try_release(now, hold, 0)
            }
            Phase::Candidate { .. } | Phase::Claiming { .. } => {
                self.end(Standing::Abandoned);
                Vec::new()
            }
            Phase::Releasing { .. } | Phase::Ended(_) => Vec::new(),
        }
    }

    fn try_release(&mut self, now: Moment, hold: Hold, tries: u32) -> Vec<Effect> {
        let appends = vec![Append {
            history: self.writer.history().clone(),
            expected: hold.ownership.version,
            events: vec![self.writer.event(now.wall, LeaseEvent::Released, hold.ownership.epoch)],
        }];
        self.phase = Phase::Releasing { hold, tries };
        self.append(now, appends)
    }

    fn appended(&mut self, now: Moment, asked_at: Duration, outcome: Outcome) -> Vec<Effect> {
        match (&mut self.phase, outcome) {
            (Phase::Claiming { claimed, .. }, Outcome::Done) => {
                let ownership = std::mem::take(claimed);
                self.hold(asked_at, ownership, 0)
            }
            (Phase::Holding(hold), Outcome::Done) => {
                let mut ownership = hold.ownership.clone();
                if hold.is_confirming {
                    ownership.version += 1;
                    return self.hold(asked_at, ownership, 0);
                }
                let renewals = hold.renewals + 1;
                self.go_on(asked_at, ownership, renewals)
            }
            (Phase::Releasing { .. }, Outcome::Done) => {
                self.end(Standing::Released);
                Vec::new()
            }
            (Phase::Ended(_) | Phase::Candidate { .. }, _) => Vec::new(),
            (_, Outcome::Conflict) => {
                self.doubt();
                self.ask(now)
            }
            (_, _) => {
                self.doubt();
                self.retry_later(now)
            }
        }
    }

    /// The ownership has a new version: its earlier renewals are of no more use.
    fn hold(&mut self, asked_at: Duration, ownership: Ownership, renewals: u64) -> Vec<Effect> {
        let mut effects = vec![Effect::Trim { below: ownership.version }];
        effects.extend(ownership.snapshot().ok().map(Effect::Save));
        effects.extend(self.go_on(asked_at, ownership, renewals));
        effects
    }

    /// The belief is counted from before the question, so that it ends before anyone who saw its
    /// effect has waited out the term.
    fn go_on(&mut self, asked_at: Duration, ownership: Ownership, renewals: u64) -> Vec<Effect> {
        let until = asked_at.saturating_add(self.settings.belief());
        let renew_at = asked_at.saturating_add(self.settings.renew_every());
        let (is_confirming, is_unsure) = (false, false);
        self.phase =
            Phase::Holding(Hold { ownership, renewals, until, renew_at, is_confirming, is_unsure });
        vec![self.wake_by(renew_at)]
    }

    fn ask(&mut self, now: Moment) -> Vec<Effect> {
        if matches!(self.phase, Phase::Releasing { tries, .. } if tries >= RELEASE_TRIES_MAX) {
            self.end(Standing::Abandoned);
            return Vec::new();
        }
        let call = self.begin_call(now, true);
        vec![Effect::Read { call }, self.wake_by(now.monotonic + self.settings.call_max())]
    }

    fn append(&mut self, now: Moment, appends: Vec<Append>) -> Vec<Effect> {
        let call = self.begin_call(now, false);
        let wake = self.wake_by(now.monotonic + self.settings.call_max());
        vec![Effect::Append { call, appends }, wake]
    }

    fn retry_later(&mut self, now: Moment) -> Vec<Effect> {
        let at = now.monotonic + self.settings.retry_every();
        if let Phase::Holding(hold) = &mut self.phase {
            hold.renew_at = at;
        }
        vec![self.wake_by(at)]
    }

    /// What the journal holds is not known any more.
    fn doubt(&mut self) {
        match &mut self.phase {
            Phase::Claiming { watched, .. } => {
                let watched = watched.take();
                self.phase = Phase::Candidate { watched };
            }
            Phase::Holding(hold) => hold.is_unsure = true,
            Phase::Releasing { tries, .. } => *tries += 1,
            Phase::Candidate { .. } | Phase::Ended(_) => {}
        }
    }

    fn give_up_call(&mut self) {
        if self.call.take().is_some() {
            self.doubt();
        }
    }

    const fn begin_call(&mut self, now: Moment, is_read: bool) -> u64 {
        self.last_call += 1;
        self.call = Some(Call { number: self.last_call, is_read, asked_at: now.monotonic });
        self.last_call
    }

    fn take_call(&mut self, number: u64, is_read: bool) -> Option<Call> {
        self.call.take_if(|call| (call.number, call.is_read) == (number, is_read))
    }

    fn end(&mut self, standing: Standing) {
        self.call = None;
        self.phase = Phase::Ended(standing);
    }

    /// A holder is woken when its belief ends, whatever else it waits for.
    fn wake_by(&self, at: Duration) -> Effect {
        match &self.phase {
            Phase::Holding(hold) => Effect::Wake { at: at.min(hold.until) },
            _ => Effect::Wake { at },
        }
    }

    fn condition(&self, hold: &Hold) -> Append {
        Append::condition(self.writer.history().clone(), hold.ownership.version)
    }

    fn renewals_of(&self, version: u64) -> HistoryId {
        self.writer.duty.renewals(version)
    }
}
