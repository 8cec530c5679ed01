//! Reads a range of the enriched log as a reader does, and writes down everything that a reader would stop at.
//!
//! Invariant: the comparison is [`stream::lineage::Reader`]'s, the same that every sink makes; memory is bounded,
//! however long the log is.

use engagement::event::{Position, Source};
use service::Failure;
use stream::lineage::{Reader, Verdict};
use stream::resume::source_position;
use stream::{Committed, Record, tail};

use super::broker::Broker;
use super::judge::checkpoint;

/// Offsets read at once.
const STEP: i64 = 2000;
/// Violations listed by name; further ones are only counted.
const LISTED: usize = 20;
/// Records looked at after a group's position: where it stops is right before what it stops at.
const AHEAD: i64 = 4000;

/// What a range holds.
#[derive(Debug, Default)]
pub(super) struct Scan {
    reader: Reader,
    /// A record without a position was passed: the next one's predecessor may be it.
    unread: bool,
    in_run: bool,
    /// Records read.
    pub(super) records: u64,
    /// Records at or below the last position: dropped by every reader.
    pub(super) duplicates: u64,
    /// Runs of such records: what an old instance appended.
    pub(super) runs: u64,
    /// Records beside the chain.
    pub(super) redriven: u64,
    /// How many places there are where records are missing.
    pub(super) holes: u64,
    /// How many records cannot be read.
    pub(super) unreadable: u64,
    /// The first of both, by offset.
    pub(super) violations: Vec<(i64, String)>,
    /// The predecessor that is missing at the last hole.
    missing: Option<Position>,
}

impl Scan {
    /// Continues after a position.
    pub(super) fn after(reader: Reader) -> Self {
        Self {
            reader,
            ..Self::default()
        }
    }

    /// The next record.
    pub(super) fn record(&mut self, record: &Record) {
        self.records += 1;
        // a letter that was sent back to one reader repeats what was passed
        if record.header(stream::redrive::TO).is_some() {
            self.redriven += 1;
            return;
        }
        let position = source_position(record);
        let event = match position {
            Some(position) => tail::read(record, position).map_err(|error| error.to_string()),
            None => Err("its header names no position".to_owned()),
        };
        match event {
            Ok(event) => self.follow(record.offset, &event.source),
            Err(reason) => {
                self.unreadable += 1;
                self.note(record.offset, reason);
                self.pass(position);
            }
        }
    }

    fn follow(&mut self, offset: i64, source: &Source) {
        let mut verdict = self.reader.check(source);
        if let (Verdict::Hole { prev, found, .. }, true) = (verdict, self.unread) {
            // what is in between is the record that could not be read
            let between = Position {
                offset: prev,
                ..found
            };
            self.reader = Reader::at(Some(between));
            verdict = self.reader.check(source);
        }
        match verdict {
            Verdict::Apply => (self.in_run, self.unread) = (false, false),
            Verdict::Redriven => self.redriven += 1,
            Verdict::Duplicate => {
                self.duplicates += 1;
                self.runs += u64::from(!std::mem::replace(&mut self.in_run, true));
            }
            Verdict::Hole { last, prev, found } => {
                self.holes += 1;
                let reason = format!(
                    "{found} follows source offset {prev}, but the last one before it is {last}: records are missing"
                );
                self.note(offset, reason);
                self.missing = Some(Position {
                    offset: prev,
                    ..found
                });
                self.reader = Reader::at(Some(found));
            }
        }
    }

    /// A record that cannot be read still holds its place in the chain, by its header.
    fn pass(&mut self, position: Option<Position>) {
        let newer =
            |last: Position, new: Position| (last.epoch, last.offset) < (new.epoch, new.offset);
        match position {
            None => self.unread = true,
            Some(new) if self.reader.last().is_none_or(|last| newer(last, new)) => {
                self.reader = Reader::at(Some(new));
            }
            Some(_) => {}
        }
    }

    fn note(&mut self, offset: i64, what: String) {
        if self.violations.len() < LISTED {
            self.violations.push((offset, what));
        }
    }

    /// Whether something was found that a reader stops at or gives up.
    pub(super) const fn is_violated(&self) -> bool {
        self.holes + self.unreadable > 0
    }
}

/// Reads the log from `from` to `to`, by default all that is retained.
pub(super) async fn run(
    broker: &Broker,
    partition: i32,
    from: Option<i64>,
    to: Option<i64>,
) -> Result<Scan, Failure> {
    let log = broker.ends(&broker.enriched, partition).await?;
    let mut scan = Scan::default();
    let mut at = from.unwrap_or(log.low).max(log.low);
    let end = to.unwrap_or(log.high).min(log.high);
    while at < end {
        let next = (at + STEP).min(end);
        let records = broker.range(&broker.enriched, partition, at, next).await?;
        records.iter().for_each(|record| scan.record(record));
        at = next;
    }
    Ok(scan)
}

/// What a group finds after its position.
pub(super) enum Ahead {
    /// Nothing that it would stop at.
    Clear,
    /// Records are missing.
    Hole {
        /// Offset of the record that says so.
        offset: i64,
        /// The predecessor that it names.
        missing: Position,
        /// What it says.
        reason: String,
    },
}

/// Looks ahead of a group's position with its own state.
pub(super) async fn ahead(
    broker: &Broker,
    partition: i32,
    next: i64,
    commit: &Committed,
) -> Result<Ahead, Failure> {
    let reader = checkpoint(commit).map_or_else(Reader::new, |at| Reader::resume(&at));
    let mut scan = Scan::after(reader);
    // without the record before, the position may be that of one that could not be read
    scan.unread = reader.last().is_some() && reader.checkpoint().before.is_none();
    let to = next.saturating_add(AHEAD);
    for record in &broker.range(&broker.enriched, partition, next, to).await? {
        scan.record(record);
        if let Some(missing) = scan.missing {
            let (offset, reason) = scan.violations.pop().unwrap_or_default();
            return Ok(Ahead::Hole {
                offset,
                missing,
                reason,
            });
        }
    }
    Ok(Ahead::Clear)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use engagement::testing::Sample;
    use engagement::wire::{self, Format};
    use stream::headers::{CONTENT_TYPE, ENGAGEMENT_SOURCE};

    use super::*;

    fn record(offset: i64, from: i64, prev: i64) -> Record {
        let mut event = Sample::new().at_position(3, from).build();
        event.source.prev = prev;
        let headers = [
            (ENGAGEMENT_SOURCE, event.source.position().to_string()),
            (CONTENT_TYPE, Format::Protobuf.content_type().to_owned()),
        ];
        Record {
            topic: "t".into(),
            partition: 3,
            offset,
            timestamp_ms: None,
            key: None,
            payload: Some(Bytes::from(wire::encode(&event, Format::Protobuf))),
            headers: headers
                .map(|(name, value)| (name.to_owned(), Some(Bytes::from(value))))
                .to_vec(),
        }
    }

    fn scan(records: &[Record]) -> Scan {
        let mut scan = Scan::default();
        records.iter().for_each(|record| scan.record(record));
        scan
    }

    #[test]
    fn runs_of_an_old_instance_are_counted_and_are_no_violation() {
        let chain = [
            (0, -1),
            (1, 0),
            (2, 1),
            (1, 0),
            (2, 1),
            (3, 2),
            (2, 1),
            (4, 3),
        ];
        let records: Vec<_> = (0..)
            .zip(chain)
            .map(|(at, (from, prev))| record(at, from, prev))
            .collect();
        let scan = scan(&records);
        assert_eq!((scan.records, scan.duplicates, scan.runs), (8, 3, 2));
        assert!(!scan.is_violated());
    }

    #[test]
    fn every_hole_is_named_once_and_the_scan_goes_on_behind_it() {
        let chain = [(0, -1), (2, 1), (3, 2), (9, 8), (10, 9)];
        let records: Vec<_> = (0..)
            .zip(chain)
            .map(|(at, (from, prev))| record(at, from, prev))
            .collect();
        let scan = scan(&records);
        let offsets: Vec<_> = scan.violations.iter().map(|(offset, _)| *offset).collect();
        assert_eq!((scan.holes, offsets), (2, vec![1, 3]));
        assert!(scan.violations[0].1.contains("live/0/3/2"), "{scan:?}");
    }

    #[test]
    fn a_record_that_cannot_be_read_is_a_violation_of_its_own_and_no_hole() {
        let mut broken = record(1, 1, 0);
        broken.payload = Some(Bytes::from_static(b"\xff"));
        let mut foreign = record(3, 3, 2);
        foreign.headers.clear();
        let scan = scan(&[
            record(0, 0, -1),
            broken,
            record(2, 2, 1),
            foreign,
            record(4, 4, 3),
        ]);
        assert_eq!((scan.unreadable, scan.holes), (2, 0), "{scan:?}");
    }
}
