//! What most tests begin with: a log, a database, a sink that is not started yet.

use devstack::{Needs, shared_for_tests};
use engagement::event::EnrichedEvent;
use engagement::testing::Sample;

use crate::clickhouse::Database;
use crate::log::Log;
use crate::sink::{Setup, Sink};

pub(crate) struct Bench {
    pub(crate) log: Log,
    pub(crate) database: Database,
    pub(crate) setup: Setup,
    pub(crate) group: String,
}

impl Bench {
    /// `name` must be unique among the tests.
    pub(crate) async fn new(name: &str, partitions: i32) -> Self {
        Self::with_ids(name, partitions, "Int64").await
    }

    /// Waits until the group's commit of partition 0 says so.
    pub(crate) async fn committed_by(&self, sink: &mut Sink, next: i64) {
        let at = || async {
            let found = self.log.committed(&self.group, 0);
            format!("{:?}", found.map(|(offset, _)| offset))
        };
        sink.until(&format!("Some({next})"), at).await;
    }

    pub(crate) async fn with_ids(name: &str, partitions: i32, event_id_type: &str) -> Self {
        let stack = shared_for_tests(Needs::none().kafka().clickhouse());
        let log = Log::create(&stack.kafka().bootstrap, name, partitions).await;
        let database = Database::create(stack.clickhouse(), name, event_id_type).await;
        let setup = Setup::new(&log, &database, name).set("batch.interval", "200ms");
        Self {
            log,
            database,
            setup,
            group: name.to_owned(),
        }
    }
}

/// `count` events from offset `from` on in one partition; their ids are unique over partitions.
pub(crate) fn events(partition: i32, from: i64, count: i64) -> Vec<EnrichedEvent> {
    (from..from + count)
        .map(|offset| event(partition, offset).build())
        .collect()
}

/// The event at one position.
pub(crate) fn event(partition: i32, offset: i64) -> Sample {
    Sample::new()
        .event_id(i64::from(partition) * 10_000_000 + offset)
        .at_position(partition, offset)
}

/// What [`Database::totals`] says of `count` different events of [`events`].
pub(crate) fn totals(count: i64) -> String {
    format!("{count}\t{count}\t{}", count * 7_000)
}
