//! Work that blocks, off the threads that must not.

use crate::error::ErrorKind;
use tokio::task::{JoinError, spawn_blocking};

/// Why work on a blocking thread came to no end of its own. A crate's error takes it over with
/// `From`.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// It panicked: a defect.
    #[error("blocking work panicked. message=`{message}`")]
    Panicked {
        /// What the panic said.
        message: String,
    },
    /// The runtime ended before the work began.
    #[error("the runtime ended before blocking work began")]
    Stopped,
}

impl TaskError {
    /// What kind of failure it is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Panicked { .. } => ErrorKind::Internal,
            Self::Stopped => ErrorKind::Unavailable,
        }
    }
}

impl From<JoinError> for TaskError {
    fn from(error: JoinError) -> Self {
        let Ok(panic) = error.try_into_panic() else { return Self::Stopped };
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Self::Panicked { message: message.unwrap_or_else(|| "no text".to_owned()) }
    }
}

/// Runs what blocks on a thread that may, in the caller's tracing span.
///
/// Dropping the future does not end the work once it has begun.
///
/// ```
/// use oms_core::task::{TaskError, blocking};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let sum = blocking(|| Ok::<_, TaskError>((1..=4).sum::<u32>())).await?;
/// assert_eq!(sum, 10);
/// # Ok::<(), TaskError>(())
/// # }).unwrap();
/// ```
///
/// # Errors
/// The work's own, and [`TaskError`] as one of them.
pub async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<TaskError> + Send + 'static,
{
    offload(work).await.map_err(E::from)?
}

/// [`blocking`] for work that has no error, or one that cannot take a [`TaskError`] over.
///
/// # Errors
/// [`TaskError`].
pub async fn offload<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, TaskError> {
    let span = tracing::Span::current();
    Ok(spawn_blocking(move || span.in_scope(work)).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    enum Failure {
        Own,
        Task(TaskError),
    }

    impl From<TaskError> for Failure {
        fn from(error: TaskError) -> Self {
            Self::Task(error)
        }
    }

    #[tokio::test]
    async fn an_outcome_comes_back_and_a_panic_is_an_error_with_its_text() {
        assert_eq!(blocking(|| Ok::<_, Failure>(7)).await, Ok(7));
        assert_eq!(blocking(|| Err::<(), _>(Failure::Own)).await, Err(Failure::Own));
        let broken = blocking(|| -> Result<(), Failure> { panic!("number {}", 5) }).await;
        let message = "number 5".to_owned();
        assert_eq!(broken, Err(Failure::Task(TaskError::Panicked { message })));
        let text = offload(|| panic!("a constant")).await.map(|never: ()| never);
        assert_eq!(text, Err(TaskError::Panicked { message: "a constant".to_owned() }));
    }

    #[test]
    fn a_runtime_that_ended_is_told_apart_from_a_defect() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let handle = runtime.handle().clone();
        drop(runtime);
        let late = handle.spawn_blocking(|| ());
        let error = futures::executor::block_on(late).expect_err("nobody runs it");
        assert_eq!(TaskError::from(error), TaskError::Stopped);
        assert_eq!(TaskError::Stopped.kind(), ErrorKind::Unavailable);
    }
}
