//! One partition of the enriched topic as a reader takes it. Pure.
//!
//! Invariant: a record counts at most once, in order; what a reader would stop at is told, and reading goes on behind it.

use engagement::event::{EnrichedEvent, Lane, Origin, Position, Source};
use engagement::wire::{Format, decode};
use stream::Record;
use stream::headers::{CONTENT_TYPE, last_text};
use stream::lineage::{Reader, Verdict};
use stream::resume::source_position;

/// What to do with a record.
#[derive(Debug)]
pub(crate) enum Taken {
    /// A change in its place.
    Change(Box<EnrichedEvent>),
    /// A row that may repeat, or a redriven letter: counts by (id, revision).
    ById(Box<EnrichedEvent>),
    /// A row read by a snapshot that was taken again later.
    Replaced(Box<EnrichedEvent>),
    /// Seen before.
    Duplicate,
    /// No enriched event.
    Unreadable(String),
}

/// Where a reader of one partition is.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    reader: Reader,
    /// A record without a position was passed: the next one's predecessor may be it.
    unread: bool,
    streamed: bool,
    /// Revision of the newest snapshot before the first record of the stream.
    snapshot: Option<u64>,
    /// The last snapshot that counts, when it is known from an earlier reading.
    last_snapshot: Option<u64>,
    /// Snapshots that were taken again.
    pub(crate) replaced: u64,
    /// What the record before was missing.
    pub(crate) hole: Option<String>,
}

impl Chain {
    /// The same partition again, knowing which of its snapshots is the last one.
    pub(crate) fn again(&self) -> Self {
        Self {
            last_snapshot: self.snapshot,
            ..Self::default()
        }
    }

    /// The next record.
    pub(crate) fn take(&mut self, record: &Record) -> Taken {
        self.hole = None;
        // sent back to one reader: what it holds was here before
        if record.header(stream::redrive::TO).is_some() {
            return Taken::Duplicate;
        }
        let position = source_position(record);
        let event = match read(record) {
            Ok(event) => event,
            Err(reason) => return self.pass(position, reason),
        };
        match self.check(&event.source) {
            Verdict::Duplicate => return Taken::Duplicate,
            Verdict::Redriven => return Taken::ById(Box::new(event)),
            Verdict::Apply => {}
            Verdict::Hole { last, prev, found } => {
                self.hole = Some(format!(
                    "{found} follows source offset {prev}, the last one before it is {last}: records are missing"
                ));
                self.reader = Reader::at(Some(found));
            }
        }
        self.unread = false;
        self.judge(event)
    }

    /// The rule for snapshots: the last one before the stream counts whole, later rows count by id.
    fn judge(&mut self, event: EnrichedEvent) -> Taken {
        let event = Box::new(event);
        if event.origin == Origin::Stream && event.source.lane == Lane::Live {
            self.streamed = true;
            return Taken::Change(event);
        }
        if self.streamed || event.origin != Origin::Snapshot {
            return Taken::ById(event);
        }
        let revision = event.revision;
        if self.snapshot.is_some_and(|newest| revision > newest) {
            self.replaced += 1;
        }
        let newest = self.snapshot.max(Some(revision));
        self.snapshot = newest;
        if Some(revision) < self.last_snapshot.max(newest) {
            return Taken::Replaced(event);
        }
        Taken::Change(event)
    }

    fn check(&mut self, source: &Source) -> Verdict {
        let verdict = self.reader.check(source);
        let Verdict::Hole { prev, found, .. } = verdict else {
            return verdict;
        };
        if !self.unread {
            return verdict;
        }
        // What is in between is the record that could not be read.
        let between = Position {
            offset: prev,
            ..found
        };
        self.reader = Reader::at(Some(between));
        self.reader.check(source)
    }

    /// A record that cannot be read still holds its place in the chain, by its header.
    fn pass(&mut self, position: Option<Position>, reason: String) -> Taken {
        let order = |position: Position| (position.epoch, position.offset);
        match (position, self.reader.last()) {
            (None, _) => self.unread = true,
            (Some(new), Some(last)) if order(new) <= order(last) => return Taken::Duplicate,
            (Some(new), _) => self.reader = Reader::at(Some(new)),
        }
        Taken::Unreadable(reason)
    }
}

/// Reads the event of a record of the enriched topic.
pub(crate) fn read(record: &Record) -> Result<EnrichedEvent, String> {
    let payload = record.payload.as_deref().ok_or("the record has no value")?;
    let format = last_text(&record.headers, CONTENT_TYPE)
        .and_then(Format::from_content_type)
        .unwrap_or_default();
    let event = decode(payload, format).map_err(|error| error.to_string())?;
    if event.source.partition != record.partition {
        return Err(format!(
            "it says partition {} of the change topic",
            event.source.partition
        ));
    }
    Ok(event)
}
