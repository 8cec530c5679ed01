//! The first contact: is there a broker, may we, and is the topic what it should be?
//!
//! Invariant: each way to fail has its own error; only a broker that does not answer is waited for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use tokio_util::sync::CancellationToken;

use super::LanesOptions;
use super::context::Client;
use crate::error::RunError;
use crate::status::Status;

const ASK: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(250);
/// A broker that has just started may not know its topics yet.
const MISSING_GRACE: Duration = Duration::from_secs(3);

pub(super) async fn check(
    options: &LanesOptions,
    status: &Arc<Status>,
    consumer: &Arc<Client>,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let begun = Instant::now();
    loop {
        let answer = ask(consumer, &options.topic).await?;
        match judge(options, status, answer) {
            Ok(()) => return Ok(()),
            Err(error) if !is_worth_waiting(&error, begun.elapsed(), options.startup) => {
                return Err(error);
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

fn is_worth_waiting(error: &RunError, waited: Duration, startup: Duration) -> bool {
    match error {
        RunError::Unreachable { .. } => waited < startup,
        RunError::MissingTopic { .. } => waited < MISSING_GRACE.min(startup),
        _ => false,
    }
}

enum Answer {
    Partitions(i32),
    TopicError(RDKafkaErrorCode),
    Failed(KafkaError),
}

async fn ask(consumer: &Arc<Client>, topic: &str) -> Result<Answer, RunError> {
    let (consumer, topic) = (Arc::clone(consumer), topic.to_owned());
    let asked = tokio::task::spawn_blocking(move || {
        let answer = read(&consumer.fetch_metadata(Some(&topic), ASK), &topic);
        // serves the error events, such as a refused login; they come one per poll
        (0..5).for_each(|_| drop(consumer.poll(Duration::from_millis(20))));
        answer
    });
    asked.await.map_err(|error| RunError::Fatal {
        cause: error.to_string(),
    })
}

fn read(metadata: &KafkaResult<Metadata>, topic: &str) -> Answer {
    let metadata = match metadata {
        Ok(metadata) => metadata,
        Err(error) => return Answer::Failed(error.clone()),
    };
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    match found.map(|found| (found.error(), found.partitions().len())) {
        None => Answer::TopicError(RDKafkaErrorCode::UnknownTopicOrPartition),
        Some((Some(error), _)) => Answer::TopicError(error.into()),
        Some((None, partitions)) => {
            Answer::Partitions(i32::try_from(partitions).unwrap_or(i32::MAX))
        }
    }
}

fn judge(options: &LanesOptions, status: &Status, answer: Answer) -> Result<(), RunError> {
    use RDKafkaErrorCode as Code;
    let servers = options.settings.bootstrap_servers.clone();
    let topic = options.topic.clone();
    match answer {
        Answer::Partitions(0) => Err(RunError::MissingTopic { topic, servers }),
        Answer::Partitions(found) => match options.partitions {
            Some(expected) if expected != found => Err(RunError::PartitionCount {
                topic,
                found,
                expected,
            }),
            _ => Ok(()),
        },
        Answer::TopicError(Code::TopicAuthorizationFailed) => {
            let cause = Code::TopicAuthorizationFailed.to_string();
            Err(RunError::Authorization {
                servers,
                what: format!("topic {topic}"),
                cause,
            })
        }
        Answer::TopicError(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
            Err(RunError::MissingTopic { topic, servers })
        }
        Answer::TopicError(code) => Err(unreachable(options, servers, code.to_string())),
        Answer::Failed(error) => Err(RunError::unanswered(
            servers,
            options.startup.as_secs(),
            status.last_error(),
            &error,
        )),
    }
}

fn unreachable(options: &LanesOptions, servers: String, cause: String) -> RunError {
    RunError::Unreachable {
        servers,
        seconds: options.startup.as_secs(),
        cause,
    }
}
