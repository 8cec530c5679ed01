//! Reads whole partitions beside every group, at full speed.
//!
//! Invariant: never subscribes and never commits; reading ends where each partition ended when it was asked.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::metadata::{Metadata, MetadataPartition};
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::election::{is_a_lost_connection, once_elected, passes_by_itself};
use crate::error::LaneError;
use crate::probe::{SideConsumer, SideContext};
use crate::record::Record;
use crate::settings::KafkaSettings;

const ASK: Duration = Duration::from_secs(10);
/// A broker that sends nothing for so long, although records are there, is given up.
const SILENCE: Duration = Duration::from_secs(30);

/// Offsets of one partition: `[from, to)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The partition.
    pub partition: i32,
    /// The first offset to read.
    pub from: i64,
    /// The first offset not to read.
    pub to: i64,
}

/// What a reader without an end hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The next record of its partition.
    Record(Record),
    /// All that this partition holds now has been read.
    End(i32),
    /// Nothing, for a moment.
    Silence,
}

/// A reader of one topic. Its methods block.
pub struct Scanner {
    consumer: SideConsumer,
    topic: Arc<str>,
}

impl Scanner {
    /// A reader under a name that only shows in the broker's log; for [`Self::committed`], the group asked about.
    ///
    /// # Errors
    /// A setting is wrong.
    pub fn open(settings: &KafkaSettings, group: &str, topic: &str) -> Result<Self, LaneError> {
        let consumer = settings
            .scan_config(group)
            .create_with_context(SideContext)?;
        Ok(Self {
            consumer,
            topic: topic.into(),
        })
    }

    /// What each partition retains, in their order; empty when there is no such topic.
    ///
    /// # Errors
    /// The broker did not answer.
    pub fn spans(&self) -> Result<Vec<Span>, LaneError> {
        let ask = || {
            partitions_of(
                &self.consumer.fetch_metadata(Some(&self.topic), ASK)?,
                &self.topic,
            )
        };
        let partitions = once_elected(ASK, ask)
            .map_err(|error| LaneError::retry(format!("topic {}: {error}", self.topic)))?;
        let ends = partitions.into_iter().map(|partition| {
            let ask = || self.consumer.fetch_watermarks(&self.topic, partition, ASK);
            let (from, to) = once_elected(ASK, ask)?;
            Ok(Span {
                partition,
                from,
                to,
            })
        });
        ends.collect()
    }

    /// The part of each span that was written at or after a moment (milliseconds since 1970).
    ///
    /// # Errors
    /// The broker did not answer.
    pub fn since(&self, spans: &[Span], millis: i64) -> Result<Vec<Span>, LaneError> {
        if spans.is_empty() {
            // which librdkafka takes for a mistake
            return Ok(Vec::new());
        }
        let mut list = TopicPartitionList::new();
        for span in spans {
            let at = Offset::Offset(millis);
            list.add_partition_offset(&self.topic, span.partition, at)?;
        }
        let ask = || answered(self.consumer.offsets_for_times(list.clone(), ASK)?);
        let found = once_elected(ASK, ask)?;
        let first = |span: &Span| {
            let element = found.find_partition(&self.topic, span.partition)?;
            element.offset().to_raw().filter(|offset| *offset >= 0)
        };
        let part = |span: &Span| Span {
            // nothing was written since then
            from: first(span).map_or(span.to, |from| from.max(span.from)),
            ..*span
        };
        Ok(spans.iter().map(part).collect())
    }

    /// The committed offset of each partition that has one.
    ///
    /// # Errors
    /// The broker did not answer.
    pub fn committed(&self, partitions: &[i32]) -> Result<BTreeMap<i32, i64>, LaneError> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, *partition);
        }
        let ask = || answered(self.consumer.committed_offsets(list.clone(), ASK)?);
        let committed = once_elected(ASK, ask)?;
        let known = committed.elements().into_iter().filter_map(|element| {
            let offset = element.offset().to_raw().filter(|offset| *offset >= 0)?;
            Some((element.partition(), offset))
        });
        Ok(known.collect())
    }

    /// Hands every record of the spans to `visit`, each partition in order.
    ///
    /// # Errors
    /// The broker did not answer, or sent nothing more.
    pub fn read(&self, spans: &[Span], mut visit: impl FnMut(Record)) -> Result<(), LaneError> {
        let mut open: BTreeMap<i32, i64> = BTreeMap::new();
        let mut list = TopicPartitionList::new();
        for span in spans.iter().filter(|span| span.from < span.to) {
            open.insert(span.partition, span.to);
            list.add_partition_offset(&self.topic, span.partition, Offset::Offset(span.from))?;
        }
        self.consumer.assign(&list)?;
        let mut heard = Instant::now();
        while !open.is_empty() {
            match self.consumer.poll(Duration::from_millis(100)) {
                None if heard.elapsed() > SILENCE => return Err(self.silent(&open)),
                None => continue,
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.ends(partition, &mut open)?;
                }
                Some(Err(error)) if passes_by_itself(&error) && heard.elapsed() < SILENCE => {
                    continue;
                }
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(message)) => {
                    let to = open.get(&message.partition()).copied();
                    if to.is_some_and(|to| message.offset() < to) {
                        visit(Record::of(&self.topic, &message));
                    }
                    if to.is_some_and(|to| message.offset() + 1 >= to) {
                        open.remove(&message.partition());
                    }
                }
            }
            heard = Instant::now();
        }
        self.consumer.unassign()?;
        Ok(())
    }

    /// Reads on from the start of each span, whatever its end, each partition in order, until `hear` breaks. A broker that
    /// is away is waited for; `hear` is called at least every 100 ms.
    ///
    /// # Errors
    /// An offset that is no longer there, or a broker that refuses.
    pub fn follow(
        &self,
        spans: &[Span],
        mut hear: impl FnMut(Heard) -> ControlFlow<()>,
    ) -> Result<(), LaneError> {
        let mut list = TopicPartitionList::new();
        for span in spans {
            list.add_partition_offset(&self.topic, span.partition, Offset::Offset(span.from))?;
        }
        self.consumer.assign(&list)?;
        loop {
            let heard = match self.consumer.poll(Duration::from_millis(100)) {
                None => Heard::Silence,
                Some(Ok(message)) => Heard::Record(Record::of(&self.topic, &message)),
                Some(Err(KafkaError::PartitionEOF(partition))) => Heard::End(partition),
                Some(Err(error)) if is_a_lost_connection(&error) => Heard::Silence,
                Some(Err(error)) => return Err(error.into()),
            };
            if hear(heard).is_break() {
                break;
            }
        }
        self.consumer.unassign()?;
        Ok(())
    }

    /// A partition has told its last record. A leader that has just been chosen may not know of all that it has.
    fn ends(&self, partition: i32, open: &mut BTreeMap<i32, i64>) -> Result<(), LaneError> {
        let ask = || self.consumer.fetch_watermarks(&self.topic, partition, ASK);
        let (_, end) = once_elected(ASK, ask)?;
        open.retain(|number, to| *number != partition || *to > end);
        Ok(())
    }

    fn silent(&self, open: &BTreeMap<i32, i64>) -> LaneError {
        LaneError::retry(format!(
            "topic {}: nothing came for {} s of partitions {:?}",
            self.topic,
            SILENCE.as_secs(),
            open.keys().collect::<Vec<_>>()
        ))
    }
}

/// The partitions of a topic, in their order; empty when there is no such topic.
///
/// # Errors
/// The topic may not be seen, or nobody leads it for the moment.
pub fn partitions_of(metadata: &Metadata, topic: &str) -> KafkaResult<Vec<i32>> {
    use RDKafkaErrorCode as Code;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Ok(Vec::new());
    };
    match found.error().map(Code::from) {
        None => {}
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => return Ok(Vec::new()),
        Some(code) => return Err(KafkaError::MetadataFetch(code)),
    }
    let mut partitions: Vec<i32> = found
        .partitions()
        .iter()
        .map(MetadataPartition::id)
        .collect();
    partitions.sort_unstable();
    Ok(partitions)
}

/// A partition for which there is no answer would look like one that has nothing.
fn answered(list: TopicPartitionList) -> KafkaResult<TopicPartitionList> {
    for element in list.elements() {
        element.error()?;
    }
    Ok(list)
}
