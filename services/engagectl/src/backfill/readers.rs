//! Who reads what a run writes: clickhouse-sink, and each webhook endpoint that takes historical events in a group of its own.
//!
//! Invariant: a run for webhooks begins only where some endpoint will get it.

use service::Failure;
use stream::backfill::Addressee;

use crate::config::Config;
use crate::groups::{Group, Watched};
use crate::kafka;
use crate::off_the_runtime;

/// A name to connect with; it is no group that anybody is in.
const NAME: &str = "engagectl-backfill";

/// The groups that a run for these sinks is read by.
///
/// # Errors
/// The broker does not answer (69), or it is for webhooks and no endpoint reads it (64).
pub(super) async fn of(config: &Config, sinks: &[Addressee]) -> Result<Vec<String>, Failure> {
    let mut readers = Vec::new();
    if sinks.contains(&Addressee::Clickhouse) {
        readers.push(config.groups.clickhouse.clone());
    }
    if !sinks.contains(&Addressee::Webhook) {
        return Ok(readers);
    }
    let watched = Watched::of(config, NAME);
    let groups = off_the_runtime(move || watched.look()).await?;
    let groups = groups.map_err(kafka::unanswered)?;
    let endpoints = endpoints(config, &groups);
    if endpoints.is_empty() {
        return Err(Failure::usage(format!(
            "no webhook endpoint reads {}: what is written for webhooks now, nobody would get",
            config.topics.backfill
        ))
        .remedy(
            "set `historical = true` for the endpoints that are to get it and start webhook-forwarder: it notes where each of them begins; \
             or leave webhook out of --sinks",
        )
        .next("engagectl lag"));
    }
    readers.extend(endpoints);
    Ok(readers)
}

/// The groups of endpoints that have a position in the topic of backfills: from there on they get everything.
fn endpoints(config: &Config, groups: &[Group]) -> Vec<String> {
    let prefix = format!("{}.", config.groups.webhooks);
    let reads = |group: &&Group| {
        group.topic == config.topics.backfill
            && group.name.starts_with(&prefix)
            && group
                .partitions
                .values()
                .any(|place| place.committed.is_some())
    };
    let found = groups.iter().filter(reads);
    found.map(|group| group.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::groups::Place;

    #[test]
    fn only_endpoints_with_a_position_in_the_topic_of_backfills_will_get_it() {
        let config = Config::default();
        let group = |name: &str, topic: &str, committed| Group {
            name: name.into(),
            topic: topic.into(),
            members: Vec::new(),
            partitions: [(
                0,
                Place {
                    committed,
                    start: 0,
                    end: 9,
                },
            )]
            .into(),
        };
        let (live, beside) = (&config.topics.enriched, &config.topics.backfill);
        let groups = [
            group("webhook-forwarder.crm", live, Some(4)),
            group("webhook-forwarder.crm.backfill", beside, Some(4)),
            group("webhook-forwarder.new.backfill", beside, None),
            group("somebody", beside, Some(4)),
        ];
        assert_eq!(
            endpoints(&config, &groups),
            ["webhook-forwarder.crm.backfill"]
        );
    }
}
