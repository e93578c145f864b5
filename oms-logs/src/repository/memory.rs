//! How many bytes of rows may wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of rows that wait for a flush.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    used: AtomicU64,
}

/// Bytes that are given back unless they are kept.
#[derive(Debug)]
pub(crate) struct Reserved {
    memory: Arc<Memory>,
    bytes: u64,
}

impl Memory {
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes `bytes`, unless that passes `limit`. A batch that alone passes it is taken when
    /// nothing waits, since it would never be otherwise.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: u64, limit: u64) -> Option<Reserved> {
        let take = |used: u64| {
            let after = used.saturating_add(bytes);
            (after <= limit || used == 0).then_some(after)
        };
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .ok()
            .map(|_| Reserved { memory: Arc::clone(self), bytes })
    }

    pub(crate) fn release(&self, bytes: u64) {
        let less = |used: u64| Some(used.saturating_sub(bytes));
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

impl Reserved {
    /// Leaves them taken, until [`Memory::release`].
    pub(crate) fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.memory.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_larger_than_the_limit_is_taken_when_nothing_waits() {
        let memory = Arc::new(Memory::default());
        let large = memory.reserve(50, 10).expect("nothing waits");
        assert!(memory.reserve(1, 10).is_none());
        drop(large);
        memory.reserve(4, 10).expect("room").keep();
        assert!(memory.reserve(50, 10).is_none());
        assert_eq!(memory.used(), 4);
        memory.release(4);
        assert_eq!(memory.used(), 0);
    }
}
