//! Waits until nothing moves any more, then compares.
//!
//! Invariant: the report that is returned was made after the last wait, whatever it says.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::log::progress;
use crate::{Error, Options, Report, Sink, Sources, run};

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
        let is_last = Instant::now() >= deadline;
        // Comparing costs more than asking: only what has drained is worth it, or what is left at the end.
        if is_last || is_drained(sources, options).await {
            options.say("everything has drained");
            let found = Box::pin(run(sources, options)).await;
            if found.as_ref().is_ok_and(Report::is_equal) || is_last {
                return found;
            }
        } else {
            options.say("waiting until the sinks have drained");
        }
        sleep(PAUSE).await;
    }
}

/// Every group that the comparison is about has done what its topic holds. A broker that does not answer has not drained.
async fn is_drained(sources: &Sources, options: &Options) -> bool {
    let is_for = |sink| options.sinks.contains(&sink);
    let kafka = &sources.kafka;
    let mut groups = vec![(kafka.enricher_group.clone(), kafka.cdc_topic.clone())];
    if sources.clickhouse.is_some() && is_for(Sink::Clickhouse) {
        groups.push((kafka.clickhouse_group.clone(), kafka.enriched_topic.clone()));
    }
    if let Some(receiver) = sources.receiver.as_ref().filter(|_| is_for(Sink::Webhook)) {
        groups.extend(receiver.groups(kafka));
    }
    for (group, topic) in groups {
        if !progress(kafka, &group, &topic)
            .await
            .is_ok_and(|(_, behind)| behind == 0)
        {
            return false;
        }
    }
    true
}
