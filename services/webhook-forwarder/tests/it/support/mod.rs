//! What the tests share: a broker, topics of their own, a receiver that does as it is told, the service.

mod forwarder;
mod receiver;
mod topics;

use std::time::{Duration, Instant};

pub(crate) use forwarder::{Forwarder, SECRET, config, endpoint};
pub(crate) use receiver::{Call, Receiver, Reply};
pub(crate) use topics::{Letter, Topics};

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// Waits until `look` answers `Ok`; fails with what it said last.
pub(crate) async fn eventually<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let begun = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if begun.elapsed() > PATIENCE => panic!("{what}: {seen}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(15)).await,
        }
    }
}
