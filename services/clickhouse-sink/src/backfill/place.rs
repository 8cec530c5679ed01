//! How far a partition of the backfill's topic was read, and whether it still is the same topic.
//!
//! Invariant: the record before the place is what proves it; a place is never taken for granted because of its offset alone.

use engagement::event::Position;
use stream::checkpoint::Checkpoint;
use stream::resume::source_position;
use stream::{Committed, Record};

/// How far the topic was read, and what proves that it still is the same one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The next offset.
    pub(crate) next: i64,
    /// Source position of the record before it.
    pub(crate) before: Option<Position>,
}

impl Place {
    /// Where the group's commit says; the beginning where there is none.
    pub(crate) fn of(committed: Option<Committed>) -> Self {
        committed.map_or_else(Self::default, |committed| {
            let checkpoint = committed.metadata.parse::<Checkpoint>().ok();
            Self {
                next: committed.offset,
                before: checkpoint.and_then(|checkpoint| checkpoint.before),
            }
        })
    }
}

/// What the topic says about the place in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// The record before it is the one that was read; or nothing had been read. So many of the first records are not new.
    Same { passed: usize },
    /// Retention has overtaken it: these are left.
    Expired,
    /// The record before it is another one, or the topic ends before it.
    Another,
}

/// `records` were read from the one before the place on; `end` is where the topic ended before that.
pub(crate) fn judge(place: Place, records: &[Record], end: i64) -> Judged {
    match records {
        _ if place.next == 0 => Judged::Same { passed: 0 },
        [before, ..] if before.offset == place.next - 1 => {
            if source_position(before) == place.before {
                Judged::Same { passed: 1 }
            } else {
                Judged::Another
            }
        }
        [first, ..] if first.offset == place.next => Judged::Same { passed: 0 },
        [] if end < place.next => Judged::Another,
        _ => Judged::Expired,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use stream::headers::ENGAGEMENT_SOURCE;

    use super::*;

    fn record(offset: i64) -> Record {
        let position = Bytes::from(format!("backfill/0/3/{offset}"));
        Record {
            topic: "t".into(),
            partition: 3,
            offset,
            timestamp_ms: None,
            key: None,
            payload: None,
            headers: vec![(ENGAGEMENT_SOURCE.to_owned(), Some(position))],
        }
    }

    fn place(next: i64) -> Place {
        Place {
            next,
            before: source_position(&record(next - 1)),
        }
    }

    #[test]
    fn the_record_before_the_place_proves_the_topic_and_is_not_read_again() {
        let records: Vec<Record> = (4..8).map(record).collect();
        assert_eq!(judge(place(5), &records, 8), Judged::Same { passed: 1 });
        let begun = judge(Place::default(), &records, 8);
        assert_eq!(begun, Judged::Same { passed: 0 });
    }

    #[test]
    fn a_topic_that_was_made_anew_is_recognised_longer_or_shorter() {
        let other = Place {
            next: 5,
            before: source_position(&record(9)),
        };
        let records: Vec<Record> = (4..8).map(record).collect();
        assert_eq!(judge(other, &records, 8), Judged::Another);
        assert_eq!(judge(place(5), &[], 3), Judged::Another);
    }

    #[test]
    fn what_has_expired_unread_is_told_from_what_has_expired_read() {
        let records: Vec<Record> = (5..8).map(record).collect();
        assert_eq!(judge(place(5), &records, 8), Judged::Same { passed: 0 });
        assert_eq!(judge(place(3), &records, 8), Judged::Expired);
        assert_eq!(judge(place(3), &[], 8), Judged::Expired);
    }
}
