//! Waiting for a condition instead of for time.
//!
//! Invariant: whoever waits says at the deadline what was seen last.

use std::time::{Duration, Instant};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(40);

/// Looks until the answer is `Ok`.
///
/// # Panics
/// At the deadline, with what was seen last.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if begun.elapsed() > PATIENCE => {
                panic!("{what}: not within {PATIENCE:?}; seen last: {seen}")
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
