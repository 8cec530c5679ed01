//! What a side consumer is asked about one partition. Blocks.
//!
//! Invariant: an answer is complete, or it says that it is not; one that ends early was asked to end early.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::{Most, SideConsumer};
use crate::election::once_elected;
use crate::error::LaneError;
use crate::lanes::Watermarks;
use crate::record::Record;

/// How long one question may take.
const ASK: Duration = Duration::from_secs(10);

/// One partition, asked by a side consumer that is nobody else's meanwhile.
pub(super) struct Question<'a> {
    pub(super) consumer: &'a SideConsumer,
    pub(super) topic: &'a Arc<str>,
    pub(super) partition: i32,
}

impl Question<'_> {
    /// How many records were told. Ends at `to` or at the end of the partition, whichever the broker tells first, so gaps
    /// cost nothing.
    pub(super) fn range(
        &self,
        from: i64,
        to: i64,
        records: &mut impl Extend<Record>,
    ) -> Result<usize, LaneError> {
        self.range_within(from, to, Most::ALL, records)
    }

    /// As [`Self::range`], and ends when there is enough.
    pub(super) fn range_within(
        &self,
        from: i64,
        to: i64,
        most: Most,
        records: &mut impl Extend<Record>,
    ) -> Result<usize, LaneError> {
        if from >= to {
            return Ok(0);
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(self.topic, self.partition, Offset::Offset(from))?;
        self.consumer.assign(&list)?;
        let told = self.tell(to, most, records);
        self.consumer.unassign()?;
        told
    }

    fn tell(
        &self,
        to: i64,
        most: Most,
        records: &mut impl Extend<Record>,
    ) -> Result<usize, LaneError> {
        let (mut told, mut bytes, begun) = (0, 0, Instant::now());
        while begun.elapsed() < ASK {
            match self.consumer.poll(Duration::from_millis(100)) {
                None => {}
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(told),
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(message))
                    if message.partition() != self.partition
                        || message.topic() != &**self.topic => {}
                Some(Ok(message)) if message.offset() >= to => return Ok(told),
                Some(Ok(message)) => {
                    let record = Record::of(self.topic, &message);
                    bytes += record.size();
                    records.extend([record]);
                    told += 1;
                    let is_enough = told >= most.records || bytes >= most.bytes;
                    if message.offset() + 1 >= to || is_enough {
                        return Ok(told);
                    }
                }
            }
        }
        if told > 0 && most != Most::ALL {
            return Ok(told);
        }
        Err(LaneError::retry(format!(
            "reading up to offset {to} took longer than {} s",
            ASK.as_secs()
        )))
    }
}

/// Start and end of the partition.
pub(super) fn ends(question: &Question<'_>) -> Result<Watermarks, LaneError> {
    let (topic, partition) = (question.topic, question.partition);
    let ask = || question.consumer.fetch_watermarks(topic, partition, ASK);
    let (low, high) = once_elected(ASK, ask)?;
    Ok(Watermarks { low, high })
}
