//! Waits until nothing moves any more, then compares.
//!
//! Invariant: the report that is returned was made after the last wait, whatever it says.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{Error, Options, Report, Sources, run};

/// How long to wait between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Waits until every sink holds what it should, at most `within`, and returns the last comparison.
///
/// # Errors
/// A store that still cannot be read when the time is over.
pub async fn settle(sources: &Sources, within: Duration) -> Result<Report, Error> {
    settle_with(sources, &Options::default(), within).await
}

/// [`settle`] with options.
///
/// # Errors
/// As [`settle`].
pub async fn settle_with(
    sources: &Sources,
    options: &Options,
    within: Duration,
) -> Result<Report, Error> {
    let deadline = Instant::now() + within;
    loop {
        let found = Box::pin(run(sources, options)).await;
        if found.as_ref().is_ok_and(Report::is_equal) || Instant::now() >= deadline {
            return found;
        }
        sleep(PAUSE).await;
    }
}
