//! Attributes by OpenTelemetry's semantic conventions for messaging (Kafka), and ours beside them.
//!
//! Invariant: no attribute holds personal data: no user, no payload, no title; ids of events, positions and times only.

use service::traces::KeyValue;

use super::Subject;
use crate::record::Record;

/// What is done with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Debezium brings a change into the log.
    Capture,
    /// A record is read and worked on.
    Process,
    /// A record is written.
    Send,
}

impl Operation {
    /// `messaging.operation.name`, and the first word of the span's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Capture => "capture",
            Self::Process => "process",
            Self::Send => "send",
        }
    }

    /// `messaging.operation.type`.
    const fn kind(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Capture | Self::Send => "send",
        }
    }

    /// The name of a span: what is done, and where.
    #[must_use]
    pub fn on(self, topic: &str) -> String {
        format!("{} {topic}", self.name())
    }

    /// The attributes of work on a partition of a topic.
    #[must_use]
    pub fn attributes(self, topic: &str, partition: i32) -> Vec<KeyValue> {
        vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.name", self.name()),
            KeyValue::new("messaging.operation.type", self.kind()),
            KeyValue::new("messaging.destination.name", topic.to_owned()),
            KeyValue::new("messaging.destination.partition.id", partition.to_string()),
        ]
    }
}

/// The attributes of work on one record.
#[must_use]
pub fn of_record(operation: Operation, record: &Record) -> Vec<KeyValue> {
    let mut attributes = operation.attributes(&record.topic, record.partition);
    attributes.push(KeyValue::new("messaging.kafka.offset", record.offset));
    attributes
}

impl Subject {
    /// Which event a span is about, and why it is traced: `head`, `parent`, or one of the reasons to keep it.
    #[must_use]
    pub fn attributes(&self, sampled: &'static str) -> [KeyValue; 3] {
        [
            KeyValue::new("engage.event.id", self.event_id.clone()),
            KeyValue::new("engage.source", self.position.to_string()),
            KeyValue::new("engage.sampled", sampled),
        ]
    }
}

/// The group that reads.
pub(super) fn group(name: &str) -> KeyValue {
    KeyValue::new("messaging.consumer.group.name", name.to_owned())
}
