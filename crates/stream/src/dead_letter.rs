//! Records that cannot be processed, kept with their original bytes.
//!
//! Invariant: `send` returns `Ok` only when the broker has the record, so that nothing later overtakes it; key, value,
//! original headers and timestamp are byte for byte those of the source record.

mod budget;
mod letter;

use std::sync::Arc;

pub use budget::RejectBudget;
pub use letter::{
    Entry, LETTER, Letter, MARK, Place, PlaceError, RUN, RedriveMark, SENT_TO, TARGET_END,
    TOPIC_PREFIX, consumer, is_mark,
};

use bytes::Bytes;
use engagement::event::Micros;
use faults::Point;
use metrics::counter;

use crate::error::LaneError;
use crate::headers::{self, Headers};
use crate::metrics::DEAD_LETTERS_TOTAL;
use crate::producer::{OutRecord, Producer, ProducerOptions, SendError};
use crate::record::Record;
use crate::settings::{KafkaSettings, SettingsError};
use crate::trace::{self, LetterSpans};
use tokio::sync::RwLock;
use tracing::warn;

/// Names that Kafka Connect gives these headers (`DeadLetterQueueReporter`).
pub mod connect {
    /// Topic of the source record.
    pub const TOPIC: &str = "__connect.errors.topic";
    /// Partition of the source record.
    pub const PARTITION: &str = "__connect.errors.partition";
    /// Offset of the source record.
    pub const OFFSET: &str = "__connect.errors.offset";
    /// Service.
    pub const CONNECTOR_NAME: &str = "__connect.errors.connector.name";
    /// Lane, by its partition.
    pub const TASK_ID: &str = "__connect.errors.task.id";
    /// Step that failed.
    pub const STAGE: &str = "__connect.errors.stage";
    /// Code that failed.
    pub const CLASS_NAME: &str = "__connect.errors.class.name";
    /// Kind of error.
    pub const EXCEPTION_CLASS_NAME: &str = "__connect.errors.exception.class.name";
    /// What was wrong.
    pub const EXCEPTION_MESSAGE: &str = "__connect.errors.exception.message";
}

/// What the names of all topics of dead letters begin with.
pub const TOPICS: &str = "engagement.dlq.";

/// The topic of a service's dead letters, where it is not configured otherwise.
#[must_use]
pub fn topic(service: &str) -> String {
    format!("{TOPICS}{service}")
}

/// How often the record was tried.
pub const ATTEMPTS: &str = "engage.dlq.attempts";
/// When it failed first, RFC 3339.
pub const FIRST_FAILED_AT: &str = "engage.dlq.first_failed_at";
/// Kind of error, one word.
pub const ERROR_KIND: &str = "engage.dlq.error_kind";
/// Epoch of the chain that the record was given up in; makes its revision comparable with later ones when it is redriven.
pub const EPOCH: &str = "engage.dlq.epoch";
/// The webhook endpoint it was for; absent elsewhere.
pub const ENDPOINT: &str = "engage.dlq.endpoint";
/// How often it was redriven; a loop guard.
pub const REDRIVE_COUNT: &str = "engage.dlq.redrive_count";
/// When it was redriven last, RFC 3339; set by the redrive.
pub const REDRIVEN_AT: &str = "engage.dlq.redriven_at";

/// Largest dead letter: original records of 16 MiB with their headers fit.
pub const MAX_BYTES: usize = 20 * 1024 * 1024;

/// Why a record is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Kind, one word of few (`malformed`, `too_large`, ..); label of the metric.
    pub kind: &'static str,
    /// Step: `decode`, `enrich`, `produce`, `write`, `deliver`.
    pub stage: &'static str,
    /// Code that failed, such as `engagement::envelope`.
    pub class: &'static str,
    /// What was wrong, for a reader.
    pub message: String,
    /// What of it may stand outside of the letter, because it cannot repeat the record: an answer's status.
    pub shown: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it failed first; `None`: now.
    pub first_failed_at: Option<Micros>,
}

impl Reject {
    /// Failed once, just now.
    #[must_use]
    pub fn new(
        kind: &'static str,
        stage: &'static str,
        class: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            stage,
            class,
            message: message.into(),
            shown: None,
            attempts: 1,
            first_failed_at: None,
        }
    }
}

/// The dead-letter topic of one service; cheap to clone.
#[derive(Clone)]
pub struct DeadLetters {
    service: &'static str,
    topic: Arc<str>,
    producer: Producer,
    /// Letters share batches, which fail as a whole: one that was refused is tried once more while no other is sent.
    alone: Arc<RwLock<()>>,
}

impl DeadLetters {
    /// Topic `engagement.dlq.<service>`.
    ///
    /// # Errors
    /// A setting is wrong.
    pub fn new(settings: &KafkaSettings, service: &'static str) -> Result<Self, SettingsError> {
        Self::with_topic(settings, service, &format!("engagement.dlq.{service}"))
    }

    /// Another topic.
    ///
    /// # Errors
    /// A setting is wrong.
    pub fn with_topic(
        settings: &KafkaSettings,
        service: &'static str,
        topic: &str,
    ) -> Result<Self, SettingsError> {
        let options = ProducerOptions {
            max_bytes: Some(MAX_BYTES),
            ..ProducerOptions::default()
        };
        Ok(Self {
            service,
            topic: topic.into(),
            producer: Producer::new(settings, options)?,
            alone: Arc::default(),
        })
    }

    /// Writes the record to the same partition of the dead-letter topic and waits for the acknowledgement.
    ///
    /// # Errors
    /// `Retry`: the broker is away, the record may be there already. `Stop`: the topic is missing, has fewer partitions,
    /// or the record is too large even for it, by our limit or by the broker's.
    pub async fn send(
        &self,
        record: &Record,
        reject: &Reject,
        now: Micros,
    ) -> Result<(), LaneError> {
        faults::reach(Point::StreamDeadLetterBefore).await;
        if faults::fails(Point::StreamDeadLetterBefore) {
            return Err(LaneError::retry("the dead letter cannot be sent"));
        }
        let out = self.letter(record, reject, now);
        let spans = LetterSpans::begin(self.service, &self.topic, record, reject, now.0);
        let delivered = self.deliver(&out).await;
        if let Some(spans) = spans {
            let offset = delivered.as_ref().ok().map(|(_, offset)| *offset);
            spans.end(offset, service::clock::now());
        }
        delivered.map_err(|error| self.explain(error, record))?;
        faults::reach(Point::StreamDeadLetterAfter).await;
        if faults::fails(Point::StreamDeadLetterAfter) {
            return Err(LaneError::retry("the dead letter is there, or is not"));
        }
        counter!(DEAD_LETTERS_TOTAL, "service" => self.service, "reason" => reject.kind)
            .increment(1);
        self.tell(record, reject);
        Ok(())
    }

    /// The one line about it. What was wrong in words may repeat the record, and stands in the letter only.
    fn tell(&self, record: &Record, reject: &Reject) {
        let trace_id = trace::extract(&record.headers).map(|span| span.trace_id().to_string());
        warn!(
            topic = %record.topic,
            partition = record.partition,
            offset = record.offset,
            kind = reject.kind,
            stage = reject.stage,
            attempts = reject.attempts,
            endpoint = headers::last_text(&record.headers, ENDPOINT),
            letters = %self.topic,
            trace_id,
            "record dead-lettered"
        );
    }

    async fn deliver(&self, out: &OutRecord) -> Result<(i32, i64), SendError> {
        let together = {
            let _among_others = self.alone.read().await;
            self.producer.send_acked(out).await
        };
        match together {
            Err(SendError::Rejected { .. }) => {
                let _alone = self.alone.write().await;
                self.producer.send_acked(out).await
            }
            sent => sent,
        }
    }

    fn letter(&self, record: &Record, reject: &Reject, now: Micros) -> OutRecord {
        OutRecord {
            topic: Arc::clone(&self.topic),
            partition: Some(record.partition),
            key: record.key.clone(),
            payload: record.payload.clone(),
            headers: letter_headers(self.service, record, reject, now),
            timestamp_ms: record.timestamp_ms,
        }
    }

    fn explain(&self, error: SendError, record: &Record) -> LaneError {
        let at = format!(
            "dead letter of topic {} partition {} offset {} for topic {}",
            record.topic, record.partition, record.offset, self.topic
        );
        match error {
            SendError::Void { reason } => LaneError::retry(format!("{at}: {reason}")),
            SendError::TooLarge { size, limit, .. } => LaneError::stop(
                format!("{at}: {size} bytes exceed the limit of {limit}"),
                "keep max.message.bytes of the record's topic below that (`engagectl check` says what it should be); delete the records up to it \
                 with kafka-delete-records, and go on with `engagectl lineage adopt`",
            ),
            SendError::Rejected { reason } => LaneError::stop(
                format!("{at}: {reason}"),
                format!(
                    "raise max.message.bytes of {} (`engagectl check` says what it should be)",
                    self.topic
                ),
            ),
            SendError::Refused { reason, .. } => LaneError::stop(
                format!("{at}: {reason}"),
                "create the dead-letter topic with as many partitions as the source: engagectl init",
            ),
            SendError::Ledger(error) => {
                LaneError::stop(format!("{at}: {error}"), "report it with the log")
            }
        }
    }
}

/// The original headers in their order, then ours. What an earlier dead letter of the same record left is replaced.
#[must_use]
pub fn letter_headers(service: &str, record: &Record, reject: &Reject, now: Micros) -> Headers {
    let redriven = headers::last_text(&record.headers, REDRIVE_COUNT)
        .unwrap_or("0")
        .to_owned();
    let texts = [
        (connect::TOPIC, record.topic.to_string()),
        (connect::PARTITION, record.partition.to_string()),
        (connect::OFFSET, record.offset.to_string()),
        (connect::CONNECTOR_NAME, service.to_owned()),
        (connect::TASK_ID, record.partition.to_string()),
        (connect::STAGE, reject.stage.to_owned()),
        (connect::CLASS_NAME, reject.class.to_owned()),
        (connect::EXCEPTION_CLASS_NAME, reject.kind.to_owned()),
        (connect::EXCEPTION_MESSAGE, shortened(&reject.message)),
        (ATTEMPTS, reject.attempts.to_string()),
        (
            FIRST_FAILED_AT,
            reject.first_failed_at.unwrap_or(now).to_string(),
        ),
        (ERROR_KIND, reject.kind.to_owned()),
        (REDRIVE_COUNT, redriven),
    ];
    let mut headers = record.headers.clone();
    headers.retain(|(name, _)| !texts.iter().any(|(ours, _)| ours == name));
    headers.extend(texts.map(|(name, value)| (name.to_owned(), Some(Bytes::from(value)))));
    headers
}

/// A message may quote the record; a header should not repeat megabytes.
fn shortened(message: &str) -> String {
    const LONGEST: usize = 2000;
    message.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            topic: "cdc".into(),
            partition: 3,
            offset: 42,
            timestamp_ms: Some(5),
            key: Some(Bytes::from_static(b"k")),
            payload: None,
            headers: vec![
                ("a".into(), None),
                (ATTEMPTS.into(), Some("9".into())),
                (REDRIVE_COUNT.into(), Some("2".into())),
            ],
        }
    }

    #[test]
    fn the_letter_is_the_record_with_connects_names_appended() {
        let reject = Reject::new("malformed", "decode", "engagement::envelope", "no op");
        let headers = letter_headers("enricher", &record(), &reject, Micros(0));
        let texts: Vec<(&str, &str)> = headers
            .iter()
            .map(|(k, v)| {
                (
                    k.as_str(),
                    v.as_ref()
                        .map_or("null", |v| std::str::from_utf8(v).unwrap()),
                )
            })
            .collect();
        assert_eq!(
            texts,
            [
                ("a", "null"),
                ("__connect.errors.topic", "cdc"),
                ("__connect.errors.partition", "3"),
                ("__connect.errors.offset", "42"),
                ("__connect.errors.connector.name", "enricher"),
                ("__connect.errors.task.id", "3"),
                ("__connect.errors.stage", "decode"),
                ("__connect.errors.class.name", "engagement::envelope"),
                ("__connect.errors.exception.class.name", "malformed"),
                ("__connect.errors.exception.message", "no op"),
                ("engage.dlq.attempts", "1"),
                ("engage.dlq.first_failed_at", "1970-01-01T00:00:00Z"),
                ("engage.dlq.error_kind", "malformed"),
                ("engage.dlq.redrive_count", "2"),
            ]
        );
    }
}
