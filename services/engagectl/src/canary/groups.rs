//! Lag of every group from outside: by its commits and the ends of the logs, whether or not a process has the partition.
//!
//! Invariant: no group is joined and nothing is committed; a broker that does not answer leaves the gauges as they were.

use std::time::Duration;

use service::Context;
use stream::probe::Probe;
use tokio::time::{MissedTickBehavior, interval};

use super::metrics;
use crate::config::Config;
use crate::groups::{Group, Watched, first_after};

const NAME: &str = "engagectl-canary";

/// Measures in the background.
pub(super) fn watch(config: &Config, ctx: &Context) {
    let watched = Watched::of(config, NAME);
    let (every, stop) = (config.canary.groups_every, ctx.lifecycle.soft());
    let probe = Probe::new(&config.kafka, NAME);
    ctx.lifecycle.spawn("groups", async move {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let measuring = measure(&watched, &probe);
            if stop.run_until_cancelled(measuring).await.is_none() {
                break;
            }
        }
        Ok(())
    });
}

async fn measure(watched: &Watched, probe: &Probe) {
    let asked = watched.clone();
    let found = tokio::task::spawn_blocking(move || asked.look()).await;
    match found {
        Ok(Ok(groups)) => {
            for group in &groups {
                show(group, probe).await;
            }
        }
        Ok(Err(error)) => tracing::warn!(%error, "the groups' lag cannot be measured"),
        Err(error) => tracing::warn!(%error, "measuring the groups' lag ended"),
    }
}

async fn show(group: &Group, probe: &Probe) {
    metrics::group_members(&group.name, group.members.len());
    for (partition, place) in &group.partitions {
        let lag = place.lag();
        let behind = match lag {
            0 => 0.0,
            _ => age_at(probe, &group.topic, *partition, place.next()).await,
        };
        metrics::group_partition(&group.name, &group.topic, *partition, lag, behind);
    }
}

/// The age of the first record after an offset, in seconds; 0 where there is none.
async fn age_at(probe: &Probe, topic: &str, partition: i32, offset: i64) -> f64 {
    let first = first_after(probe, topic, partition, offset).await;
    let first = first.and_then(|record| record.timestamp_ms);
    let age = first.map_or(0, |at| service::clock::now() / 1000 - at);
    Duration::from_millis(u64::try_from(age).unwrap_or(0)).as_secs_f64()
}
