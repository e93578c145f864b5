//! What one call of a function may take over one batch of rows: steps of computing, and bytes that
//! it makes.
//!
//! A query is cancelled between batches only, so these bound how long that takes to have effect. A
//! call runs on one thread from start to end, and what counts its steps lies far below it; so the
//! account is the thread's.

use datafusion::common::{DataFusionError, Result};
use std::cell::Cell;

/// How much a call may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// A step is as much as multiplying two numbers of a series or comparing two edges of shapes.
    pub(super) steps: usize,
    /// Bytes of text and of dynamic values. All rows of a batch may have the longest field that
    /// is ingested.
    pub(super) bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { steps: 1 << 30, bytes: 512 * 1024 * 1024 }
    }
}

/// A function does more than a call may.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Exceeded(pub(crate) String);

/// The error of what does more than it may.
pub(crate) fn exceeded(message: String) -> DataFusionError {
    DataFusionError::External(Box::new(Exceeded(message)))
}

/// What is left to the call, and what it ran out of.
#[derive(Clone, Copy, Debug)]
struct Account {
    left: Budget,
    lacking: Option<&'static str>,
}

thread_local! {
    static ACCOUNT: Cell<Option<Account>> = const { Cell::new(None) };
}

/// What a call of the function makes.
///
/// # Errors
/// [`Exceeded`] if it takes more than the budget, whatever it makes then.
pub(super) fn within<T>(
    budget: Budget,
    function: &str,
    run: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let outer = ACCOUNT.replace(Some(Account { left: budget, lacking: None }));
    let made = run();
    match ACCOUNT.replace(outer).and_then(|account| account.lacking) {
        Some(lacking) => Err(exceeded(format!(
            "`{function}` takes more {lacking} than a call may over one batch of rows"
        ))),
        None => made,
    }
}

fn take(lacking: &'static str, pay: impl FnOnce(&mut Budget) -> Option<()>) -> Option<()> {
    let mut account = ACCOUNT.get().unwrap_or_else(|| {
        // What is no call of a function, such as a plugin, has operations that are bounded one by one.
        Account { left: Budget::default(), lacking: None }
    });
    let paid = pay(&mut account.left);
    if paid.is_none() {
        // Nothing more is begun then.
        account = Account { left: Budget { steps: 0, bytes: 0 }, lacking: Some(lacking) };
    }
    if ACCOUNT.get().is_some() {
        ACCOUNT.set(Some(account));
    }
    paid
}

/// Counts steps before they are taken. `None` if the call has not so many left; it fails then, and
/// what it makes does not matter.
pub(super) fn steps(count: usize) -> Option<()> {
    take("steps", |left| {
        left.steps = left.steps.checked_sub(count)?;
        Some(())
    })
}

/// Counts looking through a text several times, likewise: many bytes are looked at in one step.
pub(super) fn scans(text: &str, times: usize) -> Option<()> {
    const BYTES_PER_STEP: usize = 16;
    steps((text.len() / BYTES_PER_STEP + 1).saturating_mul(times))
}

/// Counts bytes that were made, likewise.
pub(super) fn bytes(count: usize) -> Option<()> {
    take("bytes", |left| {
        left.bytes = left.bytes.checked_sub(count)?;
        Some(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_fails_that_takes_more_than_its_budget() {
        let budget = Budget { steps: 10, bytes: 100 };
        assert_eq!(within(budget, "f", || Ok(steps(10).and(bytes(100)))).ok(), Some(Some(())));
        let error = within(budget, "f", || Ok(steps(11))).expect_err("too many steps");
        assert!(error.to_string().contains("`f` takes more steps"), "{error}");
        let error = within(budget, "f", || Ok([bytes(60), bytes(60)])).expect_err("too many bytes");
        assert!(error.to_string().contains("`f` takes more bytes"), "{error}");
        // The next call has its own, and what is no call has one for each operation.
        assert_eq!(within(budget, "g", || Ok(steps(10))).ok(), Some(Some(())));
        assert_eq!((steps(1 << 30), steps(1 << 30), steps(usize::MAX)), (Some(()), Some(()), None));
    }
}
