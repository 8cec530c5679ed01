//! Topics: partitions that belong together, copies, keys, and the times that records carry.

use engagement::envelope::{Reject, RejectKind};

use crate::doctor::report::{Diagnosis, span};

/// A topic as the brokers describe it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::doctor) struct Topic {
    pub(in crate::doctor) name: String,
    pub(in crate::doctor) partitions: usize,
    /// Partitions that nobody leads.
    pub(in crate::doctor) headless: Vec<i32>,
    /// Partitions with copies that are behind.
    pub(in crate::doctor) behind: Vec<i32>,
}

/// The enricher copies partition p to partition p.
pub(in crate::doctor) fn parity(cdc: &Topic, enriched: &Topic) -> Diagnosis {
    let place = format!("topics {} and {}", cdc.name, enriched.name);
    if cdc.partitions == 0 || enriched.partitions == 0 {
        let missing = if cdc.partitions == 0 { cdc } else { enriched };
        return Diagnosis::error(place, format!("there is no topic {}", missing.name))
            .right("both are there, with the same number of partitions")
            .next("engagectl init");
    }
    let found = format!("{} and {} partitions", cdc.partitions, enriched.partitions);
    if cdc.partitions == enriched.partitions {
        return Diagnosis::ok(place, found);
    }
    Diagnosis::error(place, found)
        .right("the same number: partition p of the one is copied to partition p of the other")
        .next(format!(
            "stop the services; make {} anew with {} partitions (kafka-topics.sh --delete, then `engagectl init`); \
             `engagectl lineage adopt` says how each group goes on",
            enriched.name, cdc.partitions
        ))
}

/// Partitions that can be read and written, with all their copies.
pub(in crate::doctor) fn copies(topic: &Topic) -> Option<Diagnosis> {
    let place = format!("topic {}", topic.name);
    if !topic.headless.is_empty() {
        let found = format!("partitions {:?} have no leader", topic.headless);
        return Some(
            Diagnosis::error(place, found)
                .right("every partition has one")
                .next("start the brokers that have them"),
        );
    }
    (!topic.behind.is_empty()).then(|| {
        let found = format!("copies of partitions {:?} are behind", topic.behind);
        Diagnosis::warning(place, found)
            .right("every copy is in sync")
            .next("look at the brokers' disks and network; kafka-topics.sh --describe --under-replicated-partitions")
    })
}

/// The newest record of each partition: whether it was understood, where there is one.
pub(in crate::doctor) fn keys(topic: &str, newest: &[(i32, Result<(), Reject>)]) -> Diagnosis {
    let place = format!("keys of {topic}");
    let wrong = |(partition, read): &(i32, Result<(), Reject>)| match read {
        Err(reject) if reject.kind == RejectKind::WrongKey => {
            Some((*partition, reject.message.clone()))
        }
        _ => None,
    };
    if let Some((partition, message)) = newest.iter().find_map(wrong) {
        return Diagnosis::error(place, format!("partition {partition}: {message}"))
            .right("the key carries the content's id, so that all events of a content are in one partition")
            .next("set message.key.columns=public.engagement_events:content_id in the connector (`engagectl init` does)");
    }
    let found = match newest.len() {
        0 => "there is no record yet".to_owned(),
        partitions => {
            format!("carry the content's id, in the newest record of {partitions} partitions")
        }
    };
    Diagnosis::ok(place, found)
}

/// `ahead` is how many seconds the newest record is in the future, by this machine's clock.
pub(in crate::doctor) fn times(topic: &str, ahead: i64) -> Option<Diagnosis> {
    let seconds = u64::try_from(ahead).ok().filter(|ahead| *ahead > 2)?;
    Some(
        Diagnosis::warning(
            format!("clock of who writes {topic}"),
            format!("its newest record is {} in the future", span(seconds)),
        )
        .right("brokers and writers follow the same time as this machine")
        .next("timedatectl status, here, at the brokers and at Connect"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Severity;

    fn topic(name: &str, partitions: usize) -> Topic {
        Topic {
            name: name.into(),
            partitions,
            ..Topic::default()
        }
    }

    #[test]
    fn both_topics_have_as_many_partitions_or_it_is_an_error() {
        assert_eq!(
            parity(&topic("a", 16), &topic("b", 16)).severity,
            Severity::Ok
        );
        let found = parity(&topic("a", 16), &topic("b", 8));
        assert_eq!(found.severity, Severity::Error);
        assert!(found.next.contains("16 partitions"), "{found:?}");
        let missing = parity(&topic("a", 16), &topic("b", 0));
        assert!(missing.found.contains("no topic b"), "{missing:?}");
    }

    #[test]
    fn a_partition_without_a_leader_is_an_error_and_a_late_copy_a_warning() {
        let mut broken = topic("a", 3);
        assert_eq!(copies(&broken), None);
        broken.behind = vec![1];
        assert_eq!(copies(&broken).unwrap().severity, Severity::Warning);
        broken.headless = vec![2];
        assert_eq!(copies(&broken).unwrap().severity, Severity::Error);
    }

    #[test]
    fn a_key_without_the_content_names_the_setting() {
        let reject = Reject::new(RejectKind::WrongKey, "the key is {\"id\":1}");
        let found = keys("cdc", &[(0, Ok(())), (3, Err(reject))]);
        assert!(found.found.contains("partition 3") && found.next.contains("message.key.columns"));
        let other = Reject::new(RejectKind::MalformedJson, "x");
        assert_eq!(keys("cdc", &[(0, Err(other))]).severity, Severity::Ok);
        assert!(keys("cdc", &[]).found.contains("no record"));
    }

    #[test]
    fn only_the_future_is_a_wrong_clock() {
        assert_eq!(times("cdc", -500), None);
        assert_eq!(times("cdc", 2), None);
        assert!(times("cdc", 300).unwrap().found.contains("5 min"));
    }
}
