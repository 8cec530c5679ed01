//! Waits for a condition.
//!
//! Invariant: no wait is endless, and one that ends in vain says what was last seen.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

const POLL: Duration = Duration::from_millis(50);

/// Waits until `look` answers `Ok`; `Err` is what it saw instead.
///
/// # Errors
/// What was wanted, how long, and what was last seen.
pub async fn until<T, E, F>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> F,
) -> anyhow::Result<T>
where
    E: Debug,
    F: Future<Output = Result<T, E>>,
{
    let deadline = Instant::now() + within;
    loop {
        let seen = match look().await {
            Ok(found) => return Ok(found),
            Err(seen) => seen,
        };
        if Instant::now() >= deadline {
            anyhow::bail!("{what}: not within {within:?}; last seen: {seen:?}");
        }
        tokio::time::sleep(POLL).await;
    }
}
