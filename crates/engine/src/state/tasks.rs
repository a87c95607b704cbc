//! The engine's tasks, and its work on a runtime's blocking threads. A panic in one ends the engine's
//! service, as in one of its threads: most of them are never joined, so it would go unseen otherwise.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use quorate_transport::{catch_panic, panic_text};

use crate::error::FatalError;
use crate::state::fatal::Fatal;

/// Runs `body` as the task `name`, in the task that polls it; `None` if it panicked, which has latched
/// `fatal` by then.
pub(crate) async fn guarded<T>(
    fatal: Arc<Fatal>,
    name: &'static str,
    body: impl Future<Output = T>,
) -> Option<T> {
    let whole = async { Some(body.await) };
    catch_panic(whole, |reason| {
        fatal.latch(died(name, reason));
        None
    })
    .await
}

/// Starts `body` on the caller's runtime, guarded; no task joins it.
pub(crate) fn spawn_guarded(
    fatal: &Arc<Fatal>,
    name: &'static str,
    body: impl Future<Output = ()> + Send + 'static,
) {
    let task = guarded(Arc::clone(fatal), name, body);
    tokio::spawn(async move {
        // The guard has reported a panic already.
        let _ended: Option<()> = task.await;
    });
}

/// Runs `body` on a thread that may block. `None` if it panicked, which has latched `fatal` by then,
/// even if no caller waits any more; or if the runtime is shutting down.
pub(crate) async fn run_blocking<T: Send + 'static>(
    fatal: Arc<Fatal>,
    name: &'static str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let guarded = move || match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => Some(value),
        Err(panic) => {
            // The workers check the latch whenever they wake, at least once a second.
            fatal.latch(died(name, panic_text(&*panic)));
            None
        }
    };
    // An error means that the runtime shut down before the thread began.
    tokio::task::spawn_blocking(guarded).await.unwrap_or(None)
}

fn died(name: &str, reason: String) -> FatalError {
    FatalError::Task { task: name.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a panic on a blocking thread latches under its name, also if no caller waits for it, and
    /// work that ends well latches nothing. Method: a panic that is awaited, and one whose waiter is
    /// dropped after its first poll.
    #[tokio::test]
    async fn a_panic_of_blocking_work_latches() {
        let fatal = Arc::new(Fatal::default());
        assert_eq!(run_blocking(Arc::clone(&fatal), "look", || 7).await, Some(7));
        assert!(!fatal.is_set());
        let panicking = run_blocking(Arc::clone(&fatal), "look", || -> u8 { panic!("broken") });
        assert_eq!(panicking.await, None);
        let expected = FatalError::Task { task: "look".into(), reason: "broken".into() };
        assert_eq!(fatal.get(), Some(expected));

        let unseen = Arc::new(Fatal::default());
        let mut work =
            Box::pin(run_blocking(Arc::clone(&unseen), "look", || -> u8 { panic!("so") }));
        let waker = std::task::Waker::noop();
        let first = work.as_mut().poll(&mut std::task::Context::from_waker(waker));
        assert!(!matches!(first, std::task::Poll::Ready(Some(_))));
        drop(work);
        let latched = unseen.wait().await;
        assert_eq!(latched, FatalError::Task { task: "look".into(), reason: "so".into() });
    }
}
