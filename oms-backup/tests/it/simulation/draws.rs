//! Randomness of a program that has threads, the same each time.

use oms_core::Entropy;
use oms_core::entropy::SeededEntropy;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, ThreadId};

/// What the container draws. Threads that run beside each other must not share one stream: which of
/// them comes first is nobody's to say. How many boxes the threads that write for a backup seal before
/// a failure is noticed is neither, so what they draw counts for nothing that comes after them.
#[derive(Debug)]
pub(super) struct Apart {
    seed: u64,
    world: ThreadId,
    own: std::sync::Arc<SeededEntropy>,
    /// What the threads of jobs draw, of which there is one at a time, and how often they did.
    jobs: SeededEntropy,
    job_draws: AtomicU64,
    /// What each thread draws that writes for a job: it begins with where the job is then.
    writers: Mutex<HashMap<ThreadId, SeededEntropy>>,
}

impl Apart {
    /// To be made on the thread of the world, whose draws are those of `own`.
    pub(super) fn new(seed: u64, own: std::sync::Arc<SeededEntropy>) -> Self {
        let (jobs, job_draws, writers) =
            (SeededEntropy::new(!seed), AtomicU64::new(0), Mutex::default());
        Self { seed, world: thread::current().id(), own, jobs, job_draws, writers }
    }
}

impl Entropy for Apart {
    fn fill(&self, bytes: &mut [u8]) {
        let thread = thread::current();
        if thread.id() == self.world {
            return self.own.fill(bytes);
        }
        let role = match thread.name() {
            Some("backup-seal") => 1,
            Some("backup-store") => 2,
            _ => {
                self.job_draws.fetch_add(1, Ordering::Relaxed);
                return self.jobs.fill(bytes);
            }
        };
        let mut writers = self.writers.lock().expect("not poisoned");
        let begin = || {
            let job = self.job_draws.load(Ordering::Relaxed);
            SeededEntropy::new(self.seed ^ (job << 32) ^ (role << 16))
        };
        writers.entry(thread.id()).or_insert_with(begin).fill(bytes);
    }
}
