//! Which jobs wait, and how many may.

use super::JobId;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Waiting jobs, first come first served.
///
/// Its length is bounded where jobs come in, by [`Admission`]: a job that is in the journal is
/// owed its turn and is never dropped here.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: VecDeque<JobId>,
}

impl Queue {
    /// Adds a job at the end, unless it waits already.
    pub fn push(&mut self, job: JobId) {
        if !self.waiting.contains(&job) {
            self.waiting.push_back(job);
        }
    }

    /// Takes the job that has waited longest.
    pub fn pop(&mut self) -> Option<JobId> {
        self.waiting.pop_front()
    }

    /// Takes a job out wherever it stands.
    pub fn remove(&mut self, job: JobId) {
        self.waiting.retain(|other| *other != job);
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Counts the jobs that have not ended, so that no more than a limit are let in.
#[derive(Clone, Debug)]
pub struct Admission {
    limit: usize,
    open: Arc<AtomicUsize>,
}

impl Admission {
    /// Lets in up to `limit` jobs.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, open: Arc::new(AtomicUsize::new(0)) }
    }

    /// Takes one place, or none if all are taken.
    #[must_use]
    pub fn reserve(&self) -> Option<Reservation> {
        let take = |open: usize| (open < self.limit).then_some(open + 1);
        self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).ok()?;
        Some(Reservation { open: Arc::clone(&self.open), is_kept: false })
    }

    /// Takes a place for a job that was let in before this process began.
    pub fn readmit(&self) {
        self.open.fetch_add(1, Ordering::AcqRel);
    }

    /// Gives back the place of a job that ended.
    pub fn release(&self) {
        release(&self.open);
    }

    /// How many places are taken.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }
}

fn release(open: &AtomicUsize) {
    let give = |open: usize| Some(open.saturating_sub(1));
    // The closure always answers, so the update cannot be refused.
    let _ = open.fetch_update(Ordering::AcqRel, Ordering::Acquire, give);
}

/// A place that is given back when dropped, unless it is kept.
#[derive(Debug)]
pub struct Reservation {
    open: Arc<AtomicUsize>,
    is_kept: bool,
}

impl Reservation {
    /// The job is in the journal: the place is its until it ends.
    pub fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.is_kept {
            release(&self.open);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::entropy::SeededEntropy;

    #[test]
    fn first_come_first_served_and_once() {
        let entropy = SeededEntropy::new(1);
        let [a, b, c] = [(); 3].map(|()| JobId::draw(&entropy));
        let mut queue = Queue::default();
        for job in [a, b, a, c] {
            queue.push(job);
        }
        queue.remove(b);
        assert_eq!((queue.pop(), queue.pop(), queue.pop()), (Some(a), Some(c), None));
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let admission = Admission::new(2);
        let first = admission.reserve().expect("a place");
        admission.reserve().expect("another").keep();
        assert!(admission.reserve().is_none());
        drop(first);
        assert_eq!(admission.open(), 1);
        admission.release();
        admission.release();
        assert_eq!(admission.open(), 0);
    }
}
