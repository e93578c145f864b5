//! Leases in a journal, driven by the engine.

use super::engine::{Effect, Engine, Input, Moment, Outcome, Standing, Watched};
use super::state::{ClaimId, Ownership};
use super::{Duty, HOLDER_BYTES_MAX, LeaseError, LeaseSettings, Loss, trim, view};
use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::id::ParseIdError;
use crate::journal::{Append, Journal, JournalError};
use jiff::SignedDuration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// The most duties of which one [`Leases`] remembers since when their owner is unchanged.
pub const DUTIES_WATCHED_MAX: usize = 1024;

/// The most calls to the journal between two waits of one lease.
pub const TURN_CALLS_MAX: usize = 16;

/// How often a guarded append is tried that meets its own owner's confirmations.
pub const GUARD_TRIES_MAX: usize = 4;

/// Where a process gets its leases from.
///
/// Its futures need a Tokio runtime with time enabled.
#[derive(Debug)]
pub struct Leases {
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    settings: LeaseSettings,
    watched: Mutex<BTreeMap<Duty, Watched>>,
}

impl Leases {
    /// Leases kept in `journal`.
    ///
    /// # Errors
    /// [`LeaseError::Settings`].
    pub fn new(
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        settings: LeaseSettings,
    ) -> Result<Self, LeaseError> {
        settings.check()?;
        Ok(Self { journal, clock, entropy, settings, watched: Mutex::default() })
    }

    /// Who owns a duty now, and the epoch.
    ///
    /// # Errors
    /// Those of the journal.
    pub async fn ownership(&self, duty: &Duty) -> Result<Ownership, LeaseError> {
        Ok(view(&*self.journal, duty).await?.ownership)
    }

    /// Tries once to become the owner of `duty` under the name `holder`.
    ///
    /// # Errors
    /// [`LeaseError::Held`] while another owns it; [`LeaseError::Name`];
    /// [`LeaseError::Journal`], after which the duty may have an owner that is nobody, until its
    /// term has passed.
    pub async fn acquire(&self, duty: &Duty, holder: &str) -> Result<Lease, LeaseError> {
        let watched = lock(&self.watched).get(duty).cloned();
        let shared = self.candidate(duty, holder, watched)?;
        let outcome = self.attempt(&shared).await;
        self.remember(duty, &shared);
        outcome
    }

    /// Becomes the owner of `duty` as soon as it is free or its owner has shown no life for its
    /// term. It ends when that is so, or when it is dropped.
    ///
    /// # Errors
    /// [`LeaseError::Name`], and those of the journal that no retry can mend.
    pub async fn contend(&self, duty: &Duty, holder: &str) -> Result<Lease, LeaseError> {
        let watched = lock(&self.watched).get(duty).cloned();
        let shared = self.candidate(duty, holder, watched)?;
        loop {
            let pause = match self.attempt(&shared).await {
                Err(LeaseError::Held { retry_after, .. }) => {
                    let left = Duration::try_from(retry_after).unwrap_or_default();
                    left.min(self.settings.watch_every())
                }
                Err(error) if error.kind().is_retryable() => self.settings.retry_every(),
                outcome => {
                    self.remember(duty, &shared);
                    return outcome;
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn candidate(
        &self,
        duty: &Duty,
        holder: &str,
        watched: Option<Watched>,
    ) -> Result<Arc<Shared>, LeaseError> {
        if !(1..=HOLDER_BYTES_MAX).contains(&holder.len()) {
            return Err(ParseIdError::new("lease holder", holder, "not 1 to 256 bytes").into());
        }
        let claim = ClaimId::draw(&*self.entropy);
        let engine = Engine::new(duty.clone(), holder, claim, self.settings.clone());
        Ok(Arc::new(Shared {
            journal: Arc::clone(&self.journal),
            clock: Arc::clone(&self.clock),
            duty: duty.clone(),
            engine: Mutex::new(engine.watching(watched)),
            driving: tokio::sync::Mutex::new(()),
            standing: watch::Sender::new(Standing::Asking),
            failure: Mutex::new(None),
        }))
    }

    async fn attempt(&self, shared: &Arc<Shared>) -> Result<Lease, LeaseError> {
        shared.turn(Input::Abandon).await;
        match shared.standing() {
            Standing::Held { epoch, .. } => Ok(Lease { shared: Arc::clone(shared), epoch }),
            Standing::Waiting { by, ready_at } => {
                let left = ready_at.saturating_sub(self.clock.monotonic());
                let retry_after = SignedDuration::try_from(left).unwrap_or(SignedDuration::MAX);
                Err(LeaseError::Held { duty: shared.duty.clone(), holder: by, retry_after })
            }
            _ => Err(shared.take_failure().into()),
        }
    }

    fn remember(&self, duty: &Duty, shared: &Shared) {
        let mut all = lock(&self.watched);
        match lock(&shared.engine).watched() {
            Some(watched) => {
                // Forgetting one only makes its candidate wait longer.
                if all.len() >= DUTIES_WATCHED_MAX && !all.contains_key(duty) {
                    all.pop_first();
                }
                all.insert(duty.clone(), watched);
            }
            None => {
                all.remove(duty);
            }
        }
    }
}

/// The ownership of a duty. Clones are the same lease.
///
/// Dropping it does not release it: others wait out its term.
#[derive(Clone, Debug)]
pub struct Lease {
    shared: Arc<Shared>,
    epoch: u64,
}

impl Lease {
    /// The duty.
    #[must_use]
    pub fn duty(&self) -> &Duty {
        &self.shared.duty
    }

    /// The fencing token: higher than that of every earlier owner. A store outside the journal
    /// that remembers the highest it has seen can refuse a former owner.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Where it stands by this process's clock now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.shared.standing()
    }

    /// How long it may be believed in from now without a renewal; zero once it is lost.
    #[must_use]
    pub fn believed_for(&self) -> Duration {
        match self.standing() {
            Standing::Held { until, .. } => until.saturating_sub(self.shared.clock.monotonic()),
            _ => Duration::ZERO,
        }
    }

    /// Tells of every change of its standing that a call of this lease finds; [`Lease::keep`]
    /// finds its end on time.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Standing> {
        self.shared.standing.subscribe()
    }

    /// Keeps it renewed until it is lost or released, and answers which. A lost one is told of
    /// before the term ends by this process's clock.
    pub async fn keep(&self) -> Standing {
        let mut changes = self.watch();
        loop {
            let wake = self.shared.turn(Input::Abandon).await;
            let standing = self.shared.standing();
            if is_over(&standing) {
                return standing;
            }
            tokio::select! {
                () = self.shared.sleep_until(wake) => {}
                _ended = changes.wait_for(is_over) => {}
            }
        }
    }

    /// Renews it once, now.
    ///
    /// # Errors
    /// [`LeaseError::Lost`], or [`LeaseError::Journal`] while it may still be believed in.
    pub async fn renew(&self) -> Result<(), LeaseError> {
        self.believed_until()?;
        self.shared.turn(Input::Renew).await;
        self.believed_until()?;
        if lock(&self.shared.engine).is_sure() {
            return Ok(());
        }
        Err(self.shared.take_failure().into())
    }

    /// Lets go, so that the next owner need not wait. The lease is over in any case.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] if it was lost before; [`LeaseError::Journal`] if the journal could
    /// not be told.
    pub async fn release(&self) -> Result<(), LeaseError> {
        let mut input = Input::Release;
        loop {
            let wake = self.shared.turn(input).await;
            match self.shared.standing() {
                Standing::Released => return Ok(()),
                Standing::Abandoned => return Err(self.shared.take_failure().into()),
                Standing::Releasing => self.shared.sleep_until(wake).await,
                standing => return Err(self.lost(standing)),
            }
            input = Input::Abandon;
        }
    }

    /// The condition under which this owner may append now, to be put into an append by hand. A
    /// conflict that names [`Duty::history`] does not always mean that the lease is lost: see
    /// [`Lease::guarded_append`], which knows the difference.
    ///
    /// # Errors
    /// [`LeaseError::Lost`].
    pub fn guard(&self) -> Result<Append, LeaseError> {
        self.believed_until()?;
        let guard = lock(&self.shared.engine).guard();
        guard.ok_or_else(|| self.lost(self.standing()))
    }

    /// Appends, on condition that this is still the owner, and answers the new versions.
    ///
    /// # Errors
    /// [`LeaseError::Lost`], and then nothing was written; otherwise [`LeaseError::Journal`] with
    /// the errors of [`Journal::append`]. After [`JournalError::Unavailable`] the expected versions
    /// make a repeat safe, as ever.
    pub async fn guarded_append(&self, appends: Vec<Append>) -> Result<Vec<u64>, LeaseError> {
        for _ in 0..GUARD_TRIES_MAX {
            let guard = self.guard()?;
            let at = guard.expected;
            let mut all = vec![guard];
            all.extend(appends.iter().cloned());
            match self.shared.journal.append(all).await {
                Ok(mut versions) => {
                    versions.remove(0);
                    return Ok(versions);
                }
                Err(JournalError::Conflict { history, .. })
                    if history == *self.duty().history() =>
                {
                    // Either another owner, or a confirmation of this one, perhaps under way.
                    if self.guard()?.expected == at {
                        self.shared.turn(Input::Renew).await;
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        let reason = format!("the lease of {} changed at every try", self.duty());
        Err(JournalError::Unavailable { reason }.into())
    }

    fn believed_until(&self) -> Result<Duration, LeaseError> {
        match self.standing() {
            Standing::Held { until, .. } => Ok(until),
            standing => Err(self.lost(standing)),
        }
    }

    fn lost(&self, standing: Standing) -> LeaseError {
        LeaseError::Lost { duty: self.shared.duty.clone(), epoch: self.epoch, standing }
    }
}

const fn is_over(standing: &Standing) -> bool {
    matches!(standing, Standing::Lost(_) | Standing::Released | Standing::Abandoned)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One engine and what it acts on.
#[derive(Debug)]
struct Shared {
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    duty: Duty,
    engine: Mutex<Engine>,
    /// Held from a step to the end of its calls, so that one caller at a time acts.
    driving: tokio::sync::Mutex<()>,
    standing: watch::Sender<Standing>,
    /// What the journal failed with last.
    failure: Mutex<Option<JournalError>>,
}

impl Shared {
    fn standing(&self) -> Standing {
        let engine = lock(&self.engine);
        match engine.standing() {
            Standing::Held { .. } if !engine.believes(self.clock.monotonic()) => {
                Standing::Lost(Loss::Expired)
            }
            standing => standing,
        }
    }

    fn step(&self, input: Input) -> Vec<Effect> {
        let effects = lock(&self.engine).step(Moment::of(&*self.clock), input);
        let standing = self.standing();
        self.standing.send_if_modified(|known| {
            let is_new = *known != standing;
            *known = standing;
            is_new
        });
        effects
    }

    /// Steps, and makes calls to the journal until there is nothing to do but to wait; answers
    /// until when.
    async fn turn(&self, first: Input) -> Option<Duration> {
        let _driving = self.driving.lock().await;
        let mut input = first;
        let mut wake = None;
        for _ in 0..TURN_CALLS_MAX {
            let mut work = Vec::new();
            for effect in self.step(input) {
                match effect {
                    Effect::Wake { at } => wake = Some(at),
                    other => work.push(other),
                }
            }
            if work.is_empty() {
                return wake;
            }
            let answer = tokio::select! {
                biased;
                answer = self.perform(work) => answer,
                () = self.sleep_until(wake) => Some(Input::Abandon),
            };
            match answer {
                Some(answer) => input = answer,
                None => return wake,
            }
        }
        wake
    }

    async fn perform(&self, work: Vec<Effect>) -> Option<Input> {
        let mut answer = None;
        for effect in work {
            match effect {
                Effect::Read { call } => {
                    let view = view(&*self.journal, &self.duty).await;
                    answer = Some(Input::Read { call, view: self.note_failure(view) });
                }
                Effect::Append { call, appends } => {
                    let outcome = match self.journal.append(appends).await {
                        Ok(_) => Outcome::Done,
                        Err(JournalError::Conflict { .. }) => Outcome::Conflict,
                        Err(error) => {
                            *lock(&self.failure) = Some(error);
                            Outcome::Unknown
                        }
                    };
                    answer = Some(Input::Appended { call, outcome });
                }
                Effect::Save(snapshot) => {
                    let saved = self.journal.save_snapshot(self.duty.history(), snapshot).await;
                    self.note_upkeep(saved);
                }
                Effect::Trim { below } => {
                    self.note_upkeep(trim(&*self.journal, &self.duty, below).await);
                }
                Effect::Wake { .. } => {}
            }
        }
        answer
    }

    fn note_failure<T>(&self, outcome: Result<T, JournalError>) -> Option<T> {
        outcome.map_err(|error| *lock(&self.failure) = Some(error)).ok()
    }

    fn note_upkeep(&self, outcome: Result<(), JournalError>) {
        if let Err(error) = outcome {
            tracing::debug!(duty = %self.duty, %error, "lease left untidy");
        }
    }

    fn take_failure(&self) -> JournalError {
        let failure = lock(&self.failure).take();
        failure.unwrap_or_else(|| JournalError::Unavailable {
            reason: format!("no answer about the lease of {} in time", self.duty),
        })
    }

    async fn sleep_until(&self, at: Option<Duration>) {
        match at {
            Some(at) => tokio::time::sleep(at.saturating_sub(self.clock.monotonic())).await,
            None => std::future::pending().await,
        }
    }
}
