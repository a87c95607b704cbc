//! Waiting for a fact.

use std::time::{Duration, Instant};

/// How often is looked.
const LOOK: Duration = Duration::from_millis(20);

/// Looks until `look` finds what it looks for, and gives that.
///
/// # Panics
/// If it is not there within `within`; tells what was seen last.
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
