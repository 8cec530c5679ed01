//! The names of all fault points.
//!
//! Invariant: a name is `<service>.<step>.<before|after>`; those of `stream` count for every service that uses it.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// Declares each point once: its variant, its name, and whether the step can answer an error there.
macro_rules! points {
    ($($variant:ident = $name:literal $($fails:ident)?: $about:literal;)*) => {
        /// A place in a service.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Point {
            $(#[doc = $about] $variant,)*
        }

        impl Point {
            /// Every point.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name, for example `enricher.tail.before`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// Whether the step has an error to answer here (action `fail`).
            #[must_use]
            pub const fn can_fail(self) -> bool {
                match self { $(Self::$variant => points!(@fails $($fails)?)),* }
            }
        }
    };
    (@fails fails) => { true };
    (@fails) => { false };
}

points! {
    StreamOpenBefore = "stream.open.before" fails: "The commit of an assigned partition is about to be read.";
    StreamOpenAfter = "stream.open.after": "It was read, and belongs to this log.";
    StreamReadBefore = "stream.read.before" fails: "Records of the past are about to be read, to prove a position.";
    StreamReadAfter = "stream.read.after": "They were read.";
    StreamTailBefore = "stream.tail.before" fails: "The tail of the own output is about to be read.";
    StreamTailAfter = "stream.tail.after": "It was read.";
    StreamStartBefore = "stream.start.before" fails: "Delivery of a partition is about to begin.";
    StreamStartAfter = "stream.start.after": "It has begun.";
    StreamFirstCommitBefore = "stream.first-commit.before" fails: "The resolved start is about to be committed.";
    StreamFirstCommitAfter = "stream.first-commit.after": "The broker has it.";
    StreamCommitBefore = "stream.commit.before" fails: "The latest offsets are about to be committed.";
    StreamCommitAfter = "stream.commit.after": "They were sent, not answered yet.";
    StreamLastCommitBefore = "stream.last-commit.before" fails: "The last offset of a lane that has ended is about to be committed.";
    StreamLastCommitAfter = "stream.last-commit.after": "The broker has answered.";
    StreamRevokeBefore = "stream.revoke.before": "Partitions are taken away; their lanes still run.";
    StreamRevokeAfter = "stream.revoke.after": "They were given back.";
    StreamSendBefore = "stream.send.before" fails: "A record is about to be handed to the producer.";
    StreamSendAfter = "stream.send.after": "The producer has it.";
    StreamAckBefore = "stream.ack.before" fails: "The broker has acknowledged a record; nobody knows yet.";
    StreamAckAfter = "stream.ack.after": "The ledger knows.";
    StreamPurgeBefore = "stream.purge.before": "A producer was given up; its queue is about to be purged.";
    StreamPurgeAfter = "stream.purge.after": "It is purged and destroyed.";
    StreamDeadLetterBefore = "stream.dead-letter.before" fails: "A dead letter is about to be sent.";
    StreamDeadLetterAfter = "stream.dead-letter.after" fails: "The broker has it; the lane does not know yet.";
    EnricherCatalogBefore = "enricher.catalog.before": "The catalog is not complete yet.";
    EnricherCatalogAfter = "enricher.catalog.after": "It is; the group is about to be joined.";
    EnricherLookupBefore = "enricher.lookup.before" fails: "Postgres is about to be asked for contents.";
    EnricherLookupAfter = "enricher.lookup.after": "It has answered.";
    EnricherCommitBefore = "enricher.commit.before": "A frontier is about to be noted for the next commit.";
    EnricherCommitAfter = "enricher.commit.after": "It was noted.";
    ClickhouseSinkKillBefore = "clickhouse-sink.kill.before" fails: "Inserts in doubt are about to be killed.";
    ClickhouseSinkKillAfter = "clickhouse-sink.kill.after": "None of them runs.";
    ClickhouseSinkReadBackBefore = "clickhouse-sink.read-back.before" fails: "The table is about to be asked for a range of positions.";
    ClickhouseSinkReadBackAfter = "clickhouse-sink.read-back.after": "It has answered.";
    ClickhouseSinkInsertBefore = "clickhouse-sink.insert.before" fails: "Rows are about to be sent.";
    ClickhouseSinkInsertAfter = "clickhouse-sink.insert.after" fails: "The server has answered; nobody has read it yet.";
    ClickhouseSinkCommitBefore = "clickhouse-sink.commit.before": "A batch is in the table; its offset is about to be noted.";
    ClickhouseSinkCommitAfter = "clickhouse-sink.commit.after": "It was noted.";
    RedisAggregatorPositionBefore = "redis-aggregator.position.before" fails: "The position is about to be read from Redis.";
    RedisAggregatorPositionAfter = "redis-aggregator.position.after": "It was read.";
    RedisAggregatorBeginBefore = "redis-aggregator.begin.before" fails: "The state of a new partition is about to be made.";
    RedisAggregatorBeginAfter = "redis-aggregator.begin.after": "It was made; nothing is committed yet.";
    RedisAggregatorReaderKeysBefore = "redis-aggregator.reader-keys.before" fails: "Reader keys are about to be written again.";
    RedisAggregatorReaderKeysAfter = "redis-aggregator.reader-keys.after": "They were written.";
    RedisAggregatorScriptBefore = "redis-aggregator.script.before" fails: "A batch is about to be applied.";
    RedisAggregatorScriptAfter = "redis-aggregator.script.after" fails: "Redis has answered; nobody has read it yet.";
    RedisAggregatorPublishBefore = "redis-aggregator.publish.before" fails: "The leaderboards are about to be published.";
    RedisAggregatorPublishAfter = "redis-aggregator.publish.after": "They were.";
    RedisAggregatorCommitBefore = "redis-aggregator.commit.before": "A batch was applied; its offset is about to be noted.";
    RedisAggregatorCommitAfter = "redis-aggregator.commit.after": "It was noted.";
    WebhookForwarderEnrolBefore = "webhook-forwarder.enrol.before" fails: "A new endpoint's start is about to be committed.";
    WebhookForwarderEnrolAfter = "webhook-forwarder.enrol.after" fails: "The broker has answered.";
    WebhookForwarderAttemptBefore = "webhook-forwarder.attempt.before" fails: "A message is about to be posted.";
    WebhookForwarderAttemptAfter = "webhook-forwarder.attempt.after" fails: "The receiver has answered; nobody has read it yet.";
    WebhookForwarderSettleBefore = "webhook-forwarder.settle.before": "A delivered record is about to be noted.";
    WebhookForwarderSettleAfter = "webhook-forwarder.settle.after": "It was noted.";
    WebhookForwarderCommitBefore = "webhook-forwarder.commit.before": "A frontier is about to be noted for the next commit.";
    WebhookForwarderCommitAfter = "webhook-forwarder.commit.after": "It was noted.";
    EngagectlRedriveMarkBefore = "engagectl.redrive-mark.before": "The broker has copies of letters; that they were sent is about to be written down.";
    EngagectlRedriveMarkAfter = "engagectl.redrive-mark.after": "It was written down.";
}

impl Point {
    /// The service that it lies in, or `stream` for one that several services pass.
    #[must_use]
    pub fn service(self) -> &'static str {
        self.name().split('.').next().unwrap_or_default()
    }

    /// Whether a process of this service passes it.
    #[must_use]
    pub fn is_passed_by(self, service: &str) -> bool {
        self.service() == "stream" || self.service() == service
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Point {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .iter()
            .copied()
            .find(|point| point.name() == text)
            .ok_or_else(|| Error::Point(text.to_owned(), nearest(text)))
    }
}

/// The name that shares the longest beginning.
fn nearest(text: &str) -> &'static str {
    let common = |name: &str| {
        name.bytes()
            .zip(text.bytes())
            .take_while(|(a, b)| a == b)
            .count()
    };
    Point::ALL
        .iter()
        .map(|point| point.name())
        .max_by_key(|name| (common(name), std::cmp::Reverse(name.len())))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_is_unique_has_three_parts_and_is_read_back() {
        let names: BTreeSet<&str> = Point::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), Point::ALL.len());
        for point in Point::ALL {
            assert_eq!(point.name().parse(), Ok(*point));
            let parts: Vec<&str> = point.name().split('.').collect();
            assert!(matches!(parts[..], [_, _, "before" | "after"]), "{point}");
        }
    }

    #[test]
    fn a_point_of_stream_is_passed_by_every_service_and_another_by_its_own_only() {
        assert!(Point::StreamCommitBefore.is_passed_by("enricher"));
        assert!(Point::EnricherLookupBefore.is_passed_by("enricher"));
        assert!(!Point::EnricherLookupBefore.is_passed_by("clickhouse-sink"));
    }
}
