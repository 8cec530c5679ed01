//! A question to the broker outside of any consumer group: whether it answers, and whether this user may see what a
//! service needs.
//!
//! Invariant: asking creates nothing and commits nothing, and each way to be refused has its own error.

use std::sync::Mutex;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use service::Finding;

use crate::error::RunError;
use crate::settings::{KafkaSettings, SettingsError};
use crate::sync::locked;

/// How long one question of [`findings`] may take.
const ASK: Duration = Duration::from_secs(10);

/// Notes why a connection cannot be made; that all brokers are down never replaces the reason why.
#[derive(Debug, Default)]
struct Noted(Mutex<Option<(RDKafkaErrorCode, String)>>);

impl ClientContext for Noted {
    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else {
            return;
        };
        let mut last = locked(&self.0);
        if code == RDKafkaErrorCode::AllBrokersDown {
            last.get_or_insert_with(|| (code, reason.to_owned()));
        } else if code != RDKafkaErrorCode::PartitionEOF {
            *last = Some((code, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Noted {}

/// How many partitions each topic has, in the order given; 0: there is none of that name. `group` is the name to connect with.
///
/// # Errors
/// The broker did not answer within `patience` a question, refused the credentials, or denies a topic.
pub async fn partitions(
    settings: &KafkaSettings,
    group: &str,
    topics: &[&str],
    patience: Duration,
) -> Result<Vec<usize>, RunError> {
    let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
    blocking(settings, group, move |asked| {
        let counts = topics.iter().map(|topic| asked.count(topic, patience));
        counts.collect()
    })
    .await
}

/// What `check` says of broker, topics and group.
pub async fn findings(settings: &KafkaSettings, topics: &[&str], group: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for topic in topics {
        let what = format!("kafka topic {topic}");
        match partitions(settings, group, &[topic], ASK).await {
            Ok(counts) if counts == [0] => {
                let servers = settings.bootstrap_servers.clone();
                let topic = (*topic).to_owned();
                findings.push(problem(what, &RunError::MissingTopic { topic, servers }));
            }
            Ok(counts) => findings.push(Finding::ok(what, format!("{} partitions", counts[0]))),
            Err(error) => {
                findings.push(problem(what, &error));
                if !matches!(error, RunError::Authorization { .. }) {
                    // the others would only say the same, each after its own wait
                    return findings;
                }
            }
        }
    }
    if let Some(topic) = topics.first() {
        findings.push(of_group(settings, topic, group).await);
    }
    findings
}

async fn of_group(settings: &KafkaSettings, topic: &str, group: &str) -> Finding {
    let (what, topic) = (format!("kafka group {group}"), topic.to_owned());
    let name = group.to_owned();
    let committed = blocking(settings, group, move |asked| asked.committed(&topic, &name));
    match committed.await {
        Err(error) => problem(what, &error),
        Ok(()) => Finding::ok(what, "its positions may be read"),
    }
}

fn problem(what: String, error: &RunError) -> Finding {
    Finding::problem(what, error.kind().into(), error.to_string(), error.remedy())
}

struct Asked {
    servers: String,
    consumer: BaseConsumer<Noted>,
}

async fn blocking<T: Send + 'static>(
    settings: &KafkaSettings,
    group: &str,
    ask: impl FnOnce(&Asked) -> Result<T, RunError> + Send + 'static,
) -> Result<T, RunError> {
    let config = settings.probe_config(group);
    let servers = settings.bootstrap_servers.clone();
    let asked = tokio::task::spawn_blocking(move || {
        let consumer = config
            .create_with_context(Noted::default())
            .map_err(SettingsError::from)?;
        ask(&Asked { servers, consumer })
    });
    asked.await.map_err(|error| RunError::Fatal {
        cause: error.to_string(),
    })?
}

impl Asked {
    fn count(&self, topic: &str, patience: Duration) -> Result<usize, RunError> {
        let metadata = self.answered(
            self.consumer.fetch_metadata(Some(topic), patience),
            patience,
        )?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        match found.map(|found| (found.error().map(RDKafkaErrorCode::from), found)) {
            Some((Some(code), _)) if code == RDKafkaErrorCode::TopicAuthorizationFailed => {
                Err(self.denied(format!("topic {topic}"), code))
            }
            Some((None, found)) => Ok(found.partitions().len()),
            Some((Some(_), _)) | None => Ok(0),
        }
    }

    fn committed(&self, topic: &str, group: &str) -> Result<(), RunError> {
        let mut partition = TopicPartitionList::new();
        partition.add_partition(topic, 0);
        let Err(error) = self.consumer.committed_offsets(partition, ASK) else {
            return Ok(());
        };
        // a denied coordinator is told by the way; the question itself only gets no answer in time
        let denied = RDKafkaErrorCode::GroupAuthorizationFailed;
        if error.rdkafka_error_code() == Some(denied) || self.was_told(denied) {
            return Err(self.denied(format!("group {group}"), denied));
        }
        self.answered(Err(error), ASK)
    }

    fn was_told(&self, code: RDKafkaErrorCode) -> bool {
        let polled = (0..5).filter_map(|_| self.consumer.poll(Duration::from_millis(20)));
        let mut errors = polled.filter_map(Result::err);
        let last = || {
            locked(&self.consumer.context().0)
                .as_ref()
                .map(|(last, _)| *last)
        };
        errors.any(|error| error.rdkafka_error_code() == Some(code)) || last() == Some(code)
    }

    fn denied(&self, what: String, code: RDKafkaErrorCode) -> RunError {
        RunError::Authorization {
            servers: self.servers.clone(),
            what,
            cause: code.to_string(),
        }
    }

    fn answered<T>(&self, answer: KafkaResult<T>, patience: Duration) -> Result<T, RunError> {
        answer.map_err(|error| {
            // serves the error events, such as a refused login; they come one per poll
            (0..5).for_each(|_| drop(self.consumer.poll(Duration::from_millis(20))));
            let last = locked(&self.consumer.context().0).clone();
            RunError::unanswered(self.servers.clone(), patience.as_secs(), last, &error)
        })
    }
}
