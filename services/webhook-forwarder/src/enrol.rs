//! The first position of an endpoint, and how a known endpoint is told from a new one.
//!
//! An endpoint is **known** when its group has a committed position on any partition of the topic.
//! A new one gets a position on *all* partitions in one commit, before it joins the group, so that
//! no crash and no second replica can leave it half known. From then on a partition without a
//! position has lost it, and its lane stops instead of skipping.
//!
//! Invariant: a position is chosen only for a group that has none at all; nothing is overwritten.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use faults::Point;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::MetadataPartition;
use rdkafka::{Offset, TopicPartitionList};
use stream::election::once_elected;
use stream::lineage::Checkpoint;
use stream::{KafkaSettings, RunError};
use tokio_util::sync::CancellationToken;

use crate::config::Start;

/// How long one question may take.
const ASK: Duration = Duration::from_secs(5);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(250);
/// A broker that has just started may not know its topics yet.
const MISSING_GRACE: Duration = Duration::from_secs(3);

/// Why an endpoint cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The group has no position and the configuration says that it must.
    #[error(
        "group {group} has no position on {topic}, and the endpoint says start = \"resume\": its positions are lost"
    )]
    Lost {
        /// The group.
        group: String,
        /// The topic.
        topic: String,
    },
    /// The broker cannot be asked.
    #[error(transparent)]
    Broker(#[from] RunError),
}

/// What to enrol, and where.
#[derive(Clone, Debug)]
pub struct Enrolment {
    /// The broker.
    pub settings: KafkaSettings,
    /// The consumer group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// Where a new group begins.
    pub start: Start,
    /// How long the broker is waited for.
    pub patience: Duration,
}

/// What the committed offsets of a group say. Pure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing is committed anywhere.
    New,
    /// Something is.
    Known,
}

fn standing(committed: &BTreeMap<i32, Option<i64>>) -> Standing {
    match committed.values().any(Option::is_some) {
        true => Standing::Known,
        false => Standing::New,
    }
}

/// Gives a new group its position on every partition; leaves a known one alone. Ends early, without
/// error, when `stop` is cancelled.
///
/// # Errors
/// [`EnrolError`].
pub async fn enrol(enrolment: Enrolment, stop: &CancellationToken) -> Result<(), EnrolError> {
    let begun = Instant::now();
    loop {
        let asked = enrolment.clone();
        let answer = tokio::task::spawn_blocking(move || asked.attempt()).await;
        let answer = answer.unwrap_or_else(|panic| {
            Err(EnrolError::Broker(RunError::Fatal {
                cause: panic.to_string(),
            }))
        });
        let patience = match &answer {
            Err(EnrolError::Broker(RunError::Unreachable { .. })) => enrolment.patience,
            Err(EnrolError::Broker(RunError::MissingTopic { .. })) => MISSING_GRACE,
            _ => return answer,
        };
        if begun.elapsed() >= patience {
            return answer;
        }
        let pause = tokio::time::sleep(PAUSE);
        if stop.run_until_cancelled(pause).await.is_none() {
            return Ok(());
        }
    }
}

impl Enrolment {
    fn attempt(&self) -> Result<(), EnrolError> {
        let context = Complaints::default();
        let config = self.settings.probe_config(&self.group);
        let consumer: BaseConsumer<Complaints> = config
            .create_with_context(context.clone())
            .map_err(|error| RunError::Settings(error.into()))?;
        let partitions = self.partitions(&consumer, &context)?;
        let failed = |error| self.failed(&error, &context);
        let committed = self.committed(&consumer, &partitions).map_err(failed)?;
        if standing(&committed) == Standing::Known {
            return Ok(());
        }
        if self.start == Start::Resume {
            return Err(EnrolError::Lost {
                group: self.group.clone(),
                topic: self.topic.clone(),
            });
        }
        let positions = self.positions(&consumer, &partitions).map_err(failed)?;
        self.pass(Point::WebhookForwarderEnrolBefore)?;
        let outcome = consumer.commit(&positions, CommitMode::Sync);
        self.pass(Point::WebhookForwarderEnrolAfter)?;
        // the broker decides per partition, and another replica may have been faster: what counts is what is there
        let committed = self.committed(&consumer, &partitions).map_err(failed)?;
        if committed.values().all(Option::is_some) {
            tracing::info!(group = self.group, topic = self.topic, start = ?self.start, "new endpoint, start committed");
            return Ok(());
        }
        let cause = outcome.err().map_or_else(
            || "positions were not kept".to_owned(),
            |error| error.to_string(),
        );
        Err(self.unreachable(cause).into())
    }

    fn partitions(
        &self,
        consumer: &BaseConsumer<Complaints>,
        context: &Complaints,
    ) -> Result<Vec<i32>, RunError> {
        let metadata = consumer.fetch_metadata(Some(&self.topic), ASK);
        // serves the error events, such as a refused login
        let _ = consumer.poll(Duration::ZERO);
        let metadata = metadata.map_err(|error| self.failed(&error, context))?;
        let topic = metadata.topics().iter().find(|t| t.name() == self.topic);
        let partitions: Vec<i32> = topic
            .filter(|topic| topic.error().is_none())
            .map(|topic| {
                topic
                    .partitions()
                    .iter()
                    .map(MetadataPartition::id)
                    .collect()
            })
            .unwrap_or_default();
        if partitions.is_empty() {
            return Err(RunError::MissingTopic {
                topic: self.topic.clone(),
                servers: self.settings.bootstrap_servers.clone(),
            });
        }
        Ok(partitions)
    }

    fn committed(
        &self,
        consumer: &BaseConsumer<Complaints>,
        partitions: &[i32],
    ) -> KafkaResult<BTreeMap<i32, Option<i64>>> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, *partition);
        }
        let ask = || consumer.committed_offsets(list.clone(), ASK);
        let answer = once_elected(ASK, ask)?;
        let mut committed = BTreeMap::new();
        for element in answer.elements() {
            element.error()?;
            let offset = match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            committed.insert(element.partition(), offset);
        }
        Ok(committed)
    }

    /// Where each partition begins, with the metadata of a reader that has seen nothing.
    fn positions(
        &self,
        consumer: &BaseConsumer<Complaints>,
        partitions: &[i32],
    ) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            let ask = || consumer.fetch_watermarks(&self.topic, *partition, ASK);
            let (low, high) = once_elected(ASK, ask)?;
            let offset = match self.start {
                Start::Earliest => low,
                Start::Latest | Start::Resume => high,
            };
            let mut element = list.add_partition(&self.topic, *partition);
            element.set_offset(Offset::Offset(offset))?;
            element.set_metadata(Checkpoint::default().to_string());
        }
        Ok(list)
    }

    fn failed(&self, error: &KafkaError, context: &Complaints) -> RunError {
        use RDKafkaErrorCode as Code;
        let servers = self.settings.bootstrap_servers.clone();
        match (context.last(), error.rdkafka_error_code()) {
            (Some((Code::Authentication | Code::SaslAuthenticationFailed, cause)), _) => {
                RunError::Authentication { servers, cause }
            }
            (_, Some(Code::GroupAuthorizationFailed | Code::TopicAuthorizationFailed)) => {
                RunError::Authorization {
                    servers,
                    what: format!("topic {} or group {}", self.topic, self.group),
                    cause: error.to_string(),
                }
            }
            (Some((_, cause)), _) => self.unreachable(cause),
            (None, _) => self.unreachable(error.to_string()),
        }
    }

    /// A fault point: the question or its answer is lost there.
    fn pass(&self, point: Point) -> Result<(), RunError> {
        faults::reach_blocking(point);
        if faults::fails(point) {
            return Err(self.unreachable("lost".to_owned()));
        }
        Ok(())
    }

    fn unreachable(&self, cause: String) -> RunError {
        RunError::Unreachable {
            servers: self.settings.bootstrap_servers.clone(),
            seconds: self.patience.as_secs(),
            cause,
        }
    }
}

/// Remembers the last error event of the client: it says more than the call that timed out.
#[derive(Clone, Default)]
struct Complaints(Arc<Mutex<Option<(RDKafkaErrorCode, String)>>>);

impl Complaints {
    fn last(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl ClientContext for Complaints {
    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some((code, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Complaints {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_position_anywhere_makes_a_group_known() {
        let none = BTreeMap::from([(0, None), (1, None)]);
        assert_eq!(standing(&none), Standing::New);
        let one = BTreeMap::from([(0, None), (1, Some(0))]);
        assert_eq!(standing(&one), Standing::Known);
        assert_eq!(standing(&BTreeMap::new()), Standing::New);
    }
}
