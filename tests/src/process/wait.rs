//! Waits for a fact.

use std::time::{Duration, Instant};

/// Pause between two calls of `look`.
const LOOK: Duration = Duration::from_millis(20);

/// Calls `look` until it finds what it looks for, and returns that.
///
/// # Panics
/// If it finds nothing within `within`; tells what was seen last.
pub async fn until<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let began = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) => assert!(
                began.elapsed() < within,
                "{what}: not within {within:?}; seen last: {seen}"
            ),
        }
        tokio::time::sleep(LOOK).await;
    }
}
