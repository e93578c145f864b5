//! What a function of whole tables takes while it runs: memory of the query's pool, and turns of the
//! thread that other tasks wait for.

use crate::query::plan::Held;
use datafusion::arrow::array::RecordBatch;
use datafusion::common::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};

/// After how many steps other tasks get a turn.
const STEPS_PER_TURN: usize = 1024;
/// How many bytes are asked of the pool at a time, which all queries' threads share.
const BYTES_AT_A_TIME: usize = 64 * 1024;

/// Accounts for what a function keeps and for how long it goes on.
#[derive(Debug)]
pub(super) struct Effort {
    reservation: MemoryReservation,
    /// How many of the reserved bytes are not in use.
    spare: usize,
    held: Held,
    steps: usize,
}

impl Effort {
    pub(super) fn new(function: &str, context: &TaskContext) -> Self {
        let reservation = MemoryConsumer::new(function).register(context.memory_pool());
        Self { reservation, spare: 0, held: Held::default(), steps: 0 }
    }

    /// Accounts for bytes that are kept until the function ends.
    ///
    /// # Errors
    /// `ResourcesExhausted` if the query has no more memory.
    pub(super) fn keep(&mut self, bytes: usize) -> Result<()> {
        if bytes > self.spare {
            let wanted = (bytes - self.spare).next_multiple_of(BYTES_AT_A_TIME);
            self.reservation.try_grow(wanted)?;
            self.spare += wanted;
        }
        self.spare -= bytes;
        Ok(())
    }

    /// Gives bytes back that are kept no longer, for what else the function keeps.
    pub(super) const fn release(&mut self, bytes: usize) {
        self.spare += bytes;
    }

    /// Accounts for rows that are kept until the function ends.
    ///
    /// # Errors
    /// As [`Self::keep`].
    pub(super) fn keep_rows(&mut self, rows: &RecordBatch) -> Result<()> {
        let bytes = self.held.add(rows);
        self.keep(bytes)
    }

    /// Takes a step. After many of them other tasks get a turn, among them the query's timeout.
    pub(super) async fn step(&mut self) {
        self.steps += 1;
        if self.steps.is_multiple_of(STEPS_PER_TURN) {
            tokio::task::yield_now().await;
        }
    }

    /// How many steps were taken.
    pub(super) const fn steps(&self) -> usize {
        self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use futures::FutureExt as _;
    use std::sync::Arc;

    #[tokio::test]
    async fn memory_is_of_the_pool_and_steps_give_turns() {
        let pool = Arc::new(GreedyMemoryPool::new(3 * BYTES_AT_A_TIME));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc().unwrap();
        let context = TaskContext::default().with_runtime(runtime);
        let mut effort = Effort::new("test", &context);
        for _ in 0..3 {
            effort.keep(BYTES_AT_A_TIME - 1).unwrap();
        }
        effort.keep(3).unwrap();
        assert!(effort.keep(1).is_err());
        effort.release(1);
        effort.keep(1).unwrap();
        drop(effort);
        assert_eq!(context.memory_pool().reserved(), 0);
        let mut effort = Effort::new("test", &context);
        for _ in 1..STEPS_PER_TURN {
            assert!(effort.step().now_or_never().is_some());
        }
        assert!(effort.step().now_or_never().is_none());
    }
}
