//! Who owns the maintenance of a store that several processes write to.
//!
//! `owner/claim-EPOCH` is created once, by one process: it owns maintenance in this epoch, until there
//! is a higher one. `owner/beat-EPOCH` is written by the owner alone, again and again, so that others
//! see it alive.

use super::Documents;
use crate::Error;
use oms_core::Clock;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

const FOLDER: &str = "owner";

/// By how much clocks may run at different rates, in thousandths of a term.
const DRIFT_PER_MILLE: u32 = 20;

/// An ownership of maintenance.
#[derive(Clone, Debug)]
pub(crate) struct Epoch {
    /// Higher for each owner.
    pub(crate) number: u64,
    url: Arc<str>,
}

impl Epoch {
    /// What a former owner is told.
    pub(crate) fn is_over(&self) -> Error {
        let holder = "one that took it over since".to_owned();
        Error::MaintainedElsewhere { url: self.url.to_string(), holder }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Claim {
    /// Which writer made it.
    node: String,
    /// How long others have to see no life before they take over.
    term_millis: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Beat {
    /// Grows as long as the owner is alive.
    count: u64,
    /// Whether it gave the ownership up.
    is_over: bool,
}

/// The maintenance of a store, as one process sees it.
#[derive(Debug)]
pub(crate) struct Duty {
    documents: Arc<Documents>,
    clock: Arc<dyn Clock>,
    term: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    seen: Option<Seen>,
}

/// This process's own ownership.
#[derive(Debug)]
struct Held {
    number: u64,
    beats: u64,
    /// When it was asked for, or the last beat, by the monotonic clock.
    beaten: Duration,
}

/// Another process's ownership.
#[derive(Debug)]
struct Seen {
    number: u64,
    beats: u64,
    /// When it was first seen as it is.
    since: Duration,
}

impl Duty {
    pub(super) fn new(documents: Arc<Documents>, clock: Arc<dyn Clock>, term: Duration) -> Self {
        Self { documents, clock, term, state: Mutex::default() }
    }

    /// The ownership of this process, which becomes the owner if there is none, or if the owner
    /// showed no life for its term. What is done by it is refused by the tables once it is over.
    ///
    /// # Errors
    /// [`Error::MaintainedElsewhere`] names the owner; [`Error::Store`].
    pub(crate) async fn hold(&self) -> Result<Epoch, Error> {
        let mut state = self.state.lock().await;
        let asked = self.clock.monotonic();
        let newest = self.newest().await?;
        if let Some(held) = &mut state.held {
            if newest == Some(held.number) {
                if asked.saturating_sub(held.beaten) >= self.term / 3 {
                    held.beats += 1;
                    self.beat(held.number, held.beats, false).await?;
                    held.beaten = asked;
                }
                return Ok(self.epoch(held.number));
            }
            state.held = None;
        }
        let next = match newest {
            None => 1,
            Some(number) => {
                self.check_free(&mut state, number).await?;
                number + 1
            }
        };
        self.claim(&mut state, next, asked).await
    }

    /// Shows that the owner lives, if this process is it.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(crate) async fn keep(&self) -> Result<(), Error> {
        if self.state.lock().await.held.is_none() {
            return Ok(());
        }
        match self.hold().await {
            Ok(_) | Err(Error::MaintainedElsewhere { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives the ownership up, so that the next owner need not wait.
    ///
    /// # Errors
    /// [`Error::Store`]: others wait for the term.
    pub(crate) async fn give_up(&self) -> Result<(), Error> {
        let held = self.state.lock().await.held.take();
        match held {
            Some(held) => self.beat(held.number, held.beats + 1, true).await,
            None => Ok(()),
        }
    }

    fn epoch(&self, number: u64) -> Epoch {
        Epoch { number, url: Arc::clone(&self.documents.url) }
    }

    fn held_by(&self, holder: String) -> Error {
        Error::MaintainedElsewhere { url: self.documents.url.to_string(), holder }
    }

    /// That the owner of an epoch is none any more.
    async fn check_free(&self, state: &mut State, number: u64) -> Result<(), Error> {
        let claim = self.documents.read::<Claim>(&claim_name(number)).await?;
        // A newer owner clears up.
        let Some((claim, _)) = claim else { return Err(self.held_by("a new one".to_owned())) };
        let beat = self.documents.read::<Beat>(&beat_name(number)).await?;
        let beat = beat.map_or_else(Beat::default, |(beat, _)| beat);
        // One of this folder is of an earlier process, or its claim got no answer.
        if beat.is_over || claim.node == self.documents.node {
            return Ok(());
        }
        let now = self.clock.monotonic();
        let term = Duration::from_millis(claim.term_millis);
        let wait = term + term * DRIFT_PER_MILLE / 1_000;
        match &state.seen {
            Some(seen) if seen.number == number && seen.beats == beat.count => {
                if now.saturating_sub(seen.since) >= wait {
                    return Ok(());
                }
            }
            _ => state.seen = Some(Seen { number, beats: beat.count, since: now }),
        }
        Err(self.held_by(claim.node))
    }

    async fn claim(&self, state: &mut State, number: u64, asked: Duration) -> Result<Epoch, Error> {
        let term_millis = u64::try_from(self.term.as_millis()).unwrap_or(u64::MAX);
        let claim = Claim { node: self.documents.node.clone(), term_millis };
        let is_made = self.documents.put_if(&claim_name(number), &claim, None).await?;
        // Old claims are cleared up, so that one of a process which slept may be made although there
        // was a higher one.
        if !is_made || self.newest().await? != Some(number) {
            return Err(self.held_by("another one that claimed it".to_owned()));
        }
        self.beat(number, 1, false).await?;
        state.held = Some(Held { number, beats: 1, beaten: asked });
        state.seen = None;
        tracing::info!(epoch = number, url = %self.documents.url, "owns the tables' maintenance");
        if let Err(error) = self.clear_before(number).await {
            tracing::warn!(%error, "claims of former owners stay");
        }
        Ok(self.epoch(number))
    }

    async fn beat(&self, number: u64, count: u64, is_over: bool) -> Result<(), Error> {
        self.documents.put(&beat_name(number), &Beat { count, is_over }).await
    }

    /// The highest epoch that was claimed.
    async fn newest(&self) -> Result<Option<u64>, Error> {
        let names = self.documents.names(FOLDER).await?;
        Ok(names.iter().filter_map(|name| name.strip_prefix("claim-")?.parse().ok()).max())
    }

    async fn clear_before(&self, number: u64) -> Result<(), Error> {
        for name in self.documents.names(FOLDER).await? {
            let Some((_, old)) = name.rsplit_once('-') else { continue };
            if old.parse::<u64>().is_ok_and(|old| old < number) {
                self.documents.remove(&format!("{FOLDER}/{name}")).await?;
            }
        }
        Ok(())
    }
}

fn claim_name(number: u64) -> String {
    format!("{FOLDER}/claim-{number:020}")
}

fn beat_name(number: u64) -> String {
    format!("{FOLDER}/beat-{number:020}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStore;
    use object_store::memory::InMemory;
    use oms_core::EntropyExt as _;
    use oms_core::clock::ManualClock;
    use oms_core::entropy::SeededEntropy;
    use oms_core::testkit::fault::{Faults, Faulty};
    use oms_core::testkit::seeds::Seeds;

    const TERM: Duration = Duration::from_secs(30);

    fn duty(store: &Arc<dyn ObjectStore>, clock: &Arc<ManualClock>, node: &str) -> Duty {
        let (store, folder) = (Arc::clone(store), "logs/.oms".into());
        let url = "s3://bucket/logs/".into();
        let documents = Documents { store, folder, url, node: node.to_owned() };
        Duty::new(Arc::new(documents), Arc::<ManualClock>::clone(clock), TERM)
    }

    fn clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH))
    }

    #[tokio::test]
    async fn another_one_owns_it_when_the_owner_closes_or_shows_no_life() {
        let (store, clock): (Arc<dyn ObjectStore>, _) = (Arc::new(InMemory::new()), clock());
        let [a, b] = ["a", "b"].map(|node| duty(&store, &clock, node));
        let number = async |duty: &Duty| duty.hold().await.map(|epoch| epoch.number);
        assert_eq!(number(&a).await.expect("nobody's"), 1);
        let refused = number(&b).await.expect_err("a's").to_string();
        assert!(refused.contains("holder=`a`"), "{refused}");
        for _ in 0..10 {
            clock.advance(TERM / 2);
            assert_eq!(number(&a).await.expect("its own"), 1);
            number(&b).await.expect_err("a lives");
        }
        clock.advance(TERM / 2);
        number(&b).await.expect_err("not for a term yet");
        clock.advance(TERM);
        assert_eq!(number(&b).await.expect("a shows no life"), 2);
        number(&a).await.expect_err("a woke");
        a.give_up().await.expect("nothing to give up");
        number(&a).await.expect_err("still b's");
        b.give_up().await.expect("given up");
        assert_eq!(number(&a).await.expect("at once"), 3);
        let again = duty(&store, &clock, "a");
        assert_eq!(number(&again).await.expect("its own folder"), 4);
    }

    /// Auditor: an epoch has one owner; a higher one comes after it.
    #[tokio::test]
    async fn an_epoch_has_one_owner_whatever_the_store_answers() {
        let seeds = Seeds::of("share::duty", 0..20);
        seeds
            .run_async(|seed| async move {
                let (bare, clock): (Arc<dyn ObjectStore>, _) = (Arc::new(InMemory::new()), clock());
                let (faults, chance) = (Arc::new(Faults::new(seed)), SeededEntropy::new(seed));
                let faulty = Faulty::new(Arc::clone(&bare), Arc::clone(&faults));
                let store: Arc<dyn ObjectStore> = Arc::new(faulty);
                let nodes = ["a", "b", "c"];
                let mut duties = nodes.map(|node| duty(&store, &clock, node));
                let mut owners = std::collections::BTreeMap::new();
                faults.set_before(100);
                faults.set_after(150);
                faults.set_late(200);
                for _ in 0..200 {
                    let at = usize::try_from(chance.below(3)).expect("few");
                    match chance.below(8) {
                        0 => drop(duties[at].give_up().await),
                        1 => duties[at] = duty(&store, &clock, nodes[at]),
                        2 => clock.advance(TERM),
                        _ => {
                            clock.advance(TERM / 8);
                            let others = (at + 1) % 3;
                            let (one, other) =
                                tokio::join!(duties[at].hold(), duties[others].hold());
                            for (at, held) in [(at, one), (others, other)] {
                                let Ok(epoch) = held else { continue };
                                let owner = *owners.entry(epoch.number).or_insert(at);
                                assert_eq!(owner, at, "seed {seed}, epoch {}", epoch.number);
                            }
                        }
                    }
                }
                assert!(owners.len() > 3, "seed {seed}: {owners:?}");
            })
            .await;
    }
}
