//! Where a partition continues.
//!
//! Invariant: a lane never chooses a start by itself: an endpoint's positions exist before it joins
//! its group ([`crate::enrol`]), so a missing one is a lost one.

use engagement::event::{Lane, Position};
use stream::lineage::Reader;
use stream::resume::{StartPolicy, resolve_start, source_position};
use stream::{LaneError, LaneHandle, Record};

/// What the group of an endpoint's backfills has behind the endpoint's own.
pub const BACKFILLS: &str = ".backfill";
/// Records before a fresh start among which the highest position is looked for.
const LOOK_BACK: i64 = 256;

/// The offset to start at and the state of the reader there, proven (section 11, rule 5).
///
/// # Errors
/// `Stop` when the position is lost or does not belong to this topic.
pub async fn find(handle: &LaneHandle) -> Result<(i64, Reader), LaneError> {
    if handle.committed().is_none() {
        return Err(lost(handle));
    }
    // the policy is for a partition without a position, which was excluded above
    let resolved = resolve_start(handle, StartPolicy::Earliest).await;
    let (next, reader) = resolved.map_err(|error| named(error, handle.group()))?;
    if reader.last().is_some() {
        return Ok((next, reader));
    }
    let (topic, partition) = (handle.topic(), handle.partition());
    let from = next.saturating_sub(LOOK_BACK);
    let before = handle.read_range(topic, partition, from, next).await?;
    Ok((next, Reader::at(highest(&before))))
}

/// A start in the middle of the log continues the chain it finds there: a late copy of an earlier
/// record is then known as a copy, and does not look like a hole.
fn highest(records: &[Record]) -> Option<Position> {
    let positions = records.iter().filter_map(source_position);
    positions
        .filter(|position| position.lane == Lane::Live)
        .max_by_key(|position| (position.epoch, position.offset))
}

/// What a lane of backfills has not read comes back by another backfill; `engagectl lineage` knows the live topic only.
fn named(error: LaneError, group: &str) -> LaneError {
    match error {
        LaneError::Stop { reason, .. } if group.ends_with(BACKFILLS) => LaneError::stop(
            reason,
            format!(
                "stop every webhook-forwarder, `engagectl reset --group {group} --to-earliest --execute`, start them; then run again \
                 what was not delivered (`engagectl backfill --list`)"
            ),
        ),
        error => error,
    }
}

fn lost(handle: &LaneHandle) -> LaneError {
    let (topic, partition, group) = (handle.topic(), handle.partition(), handle.group());
    LaneError::stop(
        format!(
            "group {group} has no position on {topic}/{partition} although it has run before: where to continue is not known"
        ),
        format!(
            "stop every webhook-forwarder, delete the group (kafka-consumer-groups.sh --delete --group {group}), start again with \
             the endpoint's start = \"earliest\" (all that the topic holds, under the same webhook-ids) or \"latest\" (only what is new)"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use stream::headers::ENGAGEMENT_SOURCE;

    fn record(offset: i64, source: &str) -> Record {
        let header = (
            ENGAGEMENT_SOURCE.to_owned(),
            Some(Bytes::from(source.to_owned())),
        );
        Record {
            topic: "t".into(),
            partition: 0,
            offset,
            timestamp_ms: None,
            key: None,
            payload: None,
            headers: vec![header],
        }
    }

    #[test]
    fn a_lane_of_backfills_that_has_lost_its_place_names_the_command_that_moves_it() {
        let stopped = || LaneError::stop("expired", "engagectl lineage adopt");
        let LaneError::Stop { reason, remedy } = named(stopped(), "webhook-forwarder.crm.backfill")
        else {
            panic!("it stops")
        };
        assert_eq!(reason, "expired");
        let command =
            "engagectl reset --group webhook-forwarder.crm.backfill --to-earliest --execute";
        assert!(remedy.contains(command), "{remedy}");
        let LaneError::Stop { remedy, .. } = named(stopped(), "webhook-forwarder.crm") else {
            panic!("it stops")
        };
        assert_eq!(remedy, "engagectl lineage adopt");
    }

    #[test]
    fn a_start_in_the_middle_continues_the_highest_position_before_it() {
        let records = [
            record(1, "live/0/0/9"),
            record(2, "live/1/0/3"),
            record(3, "live/1/0/2"),
            record(4, "redrive/5/0/1"),
            record(5, "nonsense"),
        ];
        assert_eq!(highest(&records), "live/1/0/3".parse().ok());
        assert_eq!(highest(&[]), None);
    }
}
