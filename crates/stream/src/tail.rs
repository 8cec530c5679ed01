//! What the end of a partition of the output says about where to continue. Pure.
//!
//! Invariant: the highest position counts, not the last record: an old instance may still have appended a run that
//! starts at or below it.

use engagement::envelope::{EventChange, Op};
use engagement::event::{EnrichedEvent, Lane, Position};
use engagement::wire::{self, Format};

use crate::headers::{CONTENT_TYPE, ENGAGEMENT_SOURCE, last_text};
use crate::record::Record;

/// Records of the end looked at first; more than any instance has in flight in steady state.
pub const WANTED: u32 = 1000;
/// Records of the end looked at when the first look does not reach what was committed; more than a producer's queue holds.
pub const WANTED_MORE: u32 = 40_000;

/// Why the tail cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TailError {
    /// None of the last records is ours.
    #[error("none of the last {records} records was written by an enricher")]
    Foreign {
        /// How many were looked at.
        records: usize,
    },
    /// The record that the position names cannot be read.
    #[error("the record at offset {offset}, made from {position}, cannot be read: {cause}")]
    Unreadable {
        /// Its offset in the output.
        offset: i64,
        /// What its header says.
        position: Position,
        /// Why.
        cause: String,
    },
}

/// The event with the highest position among `records` of partition `partition`; `None` when there are none.
///
/// # Errors
/// There are records, and none is ours, or the decisive one cannot be read.
pub fn highest(records: &[Record], partition: i32) -> Result<Option<EnrichedEvent>, TailError> {
    let ours = records
        .iter()
        .filter_map(|record| Some((position(record, partition)?, record)));
    match ours.max_by_key(|(position, _)| (position.epoch, position.offset)) {
        Some((position, record)) => read(record, position).map(Some),
        None if records.is_empty() => Ok(None),
        None => Err(TailError::Foreign {
            records: records.len(),
        }),
    }
}

fn position(record: &Record, partition: i32) -> Option<Position> {
    let position: Position = last_text(&record.headers, ENGAGEMENT_SOURCE)?
        .parse()
        .ok()?;
    (position.lane == Lane::Live && position.partition == partition).then_some(position)
}

/// The event that a record holds; `position` is what its header says.
///
/// # Errors
/// It cannot be read, or its body names another position.
pub fn read(record: &Record, position: Position) -> Result<EnrichedEvent, TailError> {
    let unreadable = |cause: String| TailError::Unreadable {
        offset: record.offset,
        position,
        cause,
    };
    let content_type = last_text(&record.headers, CONTENT_TYPE).unwrap_or_default();
    let format = Format::from_content_type(content_type)
        .ok_or_else(|| unreadable(format!("content type {content_type:?} is not known")))?;
    let payload = record.payload.as_deref().unwrap_or_default();
    let event = wire::decode(payload, format).map_err(|error| unreadable(error.to_string()))?;
    if event.source.position() != position {
        return Err(unreadable(format!(
            "its body says {}",
            event.source.position()
        )));
    }
    Ok(event)
}

/// Whether an enriched event was made from this change: the proof that a change topic is still the one that was read.
#[must_use]
pub fn is_made_from(event: &EnrichedEvent, change: &EventChange<'_>) -> bool {
    let deleted = change.meta.op == Op::Delete;
    change.row.event_id == event.event_id.as_str()
        && deleted == event.deleted
        && change.meta.tx_id == event.source.tx_id
        && change
            .meta
            .committed_at
            .is_none_or(|at| at == event.source.committed_at)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use engagement::testing::Sample;

    use super::*;

    fn record(offset: i64, event: &EnrichedEvent) -> Record {
        let position = event.source.position().to_string();
        let headers = [
            (ENGAGEMENT_SOURCE, position.as_str()),
            (CONTENT_TYPE, Format::Protobuf.content_type()),
        ];
        Record {
            topic: Arc::from("engagement.enriched.v1"),
            partition: 3,
            offset,
            timestamp_ms: None,
            key: None,
            payload: Some(Bytes::from(wire::encode(event, Format::Protobuf))),
            headers: headers
                .map(|(name, value)| (name.to_owned(), Some(Bytes::from(value.to_owned()))))
                .to_vec(),
        }
    }

    fn made_from(offset: i64) -> EnrichedEvent {
        Sample::new().at_position(3, offset).build()
    }

    #[test]
    fn a_run_of_an_old_instance_at_the_end_does_not_hide_the_highest_position() {
        let positions = [40, 41, 42, 43, 41, 42];
        let records: Vec<_> = (0..)
            .zip(positions)
            .map(|(offset, from)| record(offset, &made_from(from)))
            .collect();
        assert_eq!(highest(&records, 3).unwrap().unwrap().source.offset, 43);
    }

    #[test]
    fn a_higher_epoch_goes_before_a_higher_offset() {
        let adopted = Sample::new().at_position(3, 5).epoch(1).build();
        let records = [
            record(0, &made_from(900)),
            record(1, &adopted),
            record(2, &made_from(901)),
        ];
        assert_eq!(
            highest(&records, 3).unwrap().unwrap().source.position(),
            adopted.source.position()
        );
    }

    #[test]
    fn other_lanes_and_partitions_do_not_count() {
        let redriven = Sample::new()
            .at_position(3, 900)
            .lane(Lane::Redrive)
            .build();
        let elsewhere = Sample::new().at_position(4, 900).build();
        let records = [
            record(0, &made_from(7)),
            record(1, &redriven),
            record(2, &elsewhere),
        ];
        assert_eq!(highest(&records, 3).unwrap().unwrap().source.offset, 7);
    }

    #[test]
    fn an_empty_output_has_no_tail_and_one_that_is_not_ours_is_refused() {
        assert_eq!(highest(&[], 3), Ok(None));
        let mut foreign = record(0, &made_from(7));
        foreign.headers.clear();
        assert_eq!(
            highest(&[foreign], 3),
            Err(TailError::Foreign { records: 1 })
        );
    }

    #[test]
    fn a_decisive_record_that_cannot_be_read_is_named() {
        let mut broken = record(9, &made_from(7));
        broken.payload = Some(Bytes::from_static(b"\xff\xff"));
        assert!(matches!(
            highest(&[broken], 3),
            Err(TailError::Unreadable { offset: 9, .. })
        ));
    }
}
