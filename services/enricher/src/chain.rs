//! One partition's chain as a state machine without I/O: what each change record is, and what the next output links to.
//!
//! Invariant: in the order of offsets, every change that is neither re-sent nor refused is emitted exactly once, and
//! `prev` of each emitted record is the offset of the one emitted before it.

mod verdict;

pub use verdict::{Halt, Replayed, Skip, Verdict};

use std::collections::BTreeSet;

use engagement::enrich::Place;
use engagement::envelope::{
    CdcRecord, EventChange, Input, Meta, Parser, Reject, RejectKind, is_move_header,
};
use engagement::event::{EnrichedEvent, Lane, Position, Source};
use stream::lineage::{
    Change, Checkpoint, Database, Duplicates, EnricherResume, Identity, Mark, Recognition,
};
use stream::{Record, redrive};

/// Changes remembered where the envelope has no `sequence`.
const WINDOW: i64 = 8192;

/// The state of one partition.
#[derive(Clone, Debug)]
pub struct Chain {
    partition: i32,
    epoch: u8,
    prev: i64,
    duplicates: Duplicates,
    /// Redriven letters behind the resume point that are in the output already, by offset.
    redriven: BTreeSet<i64>,
}

impl Chain {
    /// Continues where `resume` says; give it the records before with [`Chain::replay`] first.
    #[must_use]
    pub fn resume(partition: i32, resume: &EnricherResume) -> Self {
        let EnricherResume {
            epoch, prev, mark, ..
        } = *resume;
        Self {
            partition,
            epoch,
            prev,
            duplicates: Duplicates::resume(mark),
            redriven: BTreeSet::new(),
        }
    }

    /// What the end of the output holds of redriven letters: they do not move the resume point, and are not written again.
    pub fn redriven(&mut self, written: impl IntoIterator<Item = (u8, i64)>) {
        let of_epoch = written
            .into_iter()
            .filter(|(epoch, _)| *epoch == self.epoch);
        self.redriven.extend(of_epoch.map(|(_, offset)| offset));
    }

    /// A record from before the resume point: completes the set of changes at the mark.
    pub fn replay(&mut self, parser: &Parser, record: &Record) -> Replayed {
        // a redriven letter stands out of the order
        if redrive::is_copy(record) {
            return Replayed::Other;
        }
        match parser.event(input(record)) {
            Ok(CdcRecord::Change(change)) => self.remember(&change),
            _ => Replayed::Other,
        }
    }

    /// A change from before the resume point, see [`Chain::replay`].
    pub fn remember(&mut self, change: &EventChange<'_>) -> Replayed {
        let change = self.fingerprint(change);
        self.duplicates.replay(&change);
        match (change.snapshot, change.mark, self.duplicates.mark()) {
            (false, Some(seen), Some(mark)) if seen.pair() < mark.pair() => Replayed::BelowMark,
            (false, None, _) => Replayed::Unmarked,
            _ => Replayed::Other,
        }
    }

    /// An event of the end of the output: what its change was is known even where the change record has expired.
    /// A mark that was carried into a new epoch is still one of the same log, so events of the old epoch count.
    pub fn produced(&mut self, event: &EnrichedEvent) {
        let Source {
            commit_lsn,
            lsn,
            tx_id,
            committed_at,
            snapshot,
            ..
        } = event.source;
        // one LSN is one kind of change; the event does not tell an insert from an update whose old row was unknown
        let operations: &[char] = if event.deleted { &['d'] } else { &['c', 'u'] };
        for operation in operations.iter().copied() {
            let key = event.event_id.clone();
            let identity = Identity {
                operation,
                key,
                tx: tx_id,
            };
            self.duplicates.replay(&Change {
                identity,
                mark: Some(Mark {
                    commit_lsn,
                    lsn,
                    committed_at,
                }),
                snapshot,
            });
        }
    }

    /// Whether enough was replayed, given what the oldest run of it was and how many offsets are covered.
    ///
    /// A run that reaches below the mark holds all changes at the mark: Debezium sends again in order, so whatever was
    /// at the mark before a re-send is in the re-send too. Without a mark, a window of the newest changes serves.
    #[must_use]
    pub fn is_restored(&self, oldest: &[Replayed], covered: i64) -> bool {
        match self.duplicates.mark() {
            Some(_) => oldest.contains(&Replayed::BelowMark),
            None => !oldest.contains(&Replayed::Unmarked) || covered >= WINDOW,
        }
    }

    /// What `record` is, given all records before it.
    pub fn judge<'a>(&mut self, parser: &Parser, record: &'a Record) -> Verdict<'a> {
        if let Some(epoch) = redrive::epoch(record) {
            return self.judge_redriven(parser, record, epoch);
        }
        match parser.event(input(record)) {
            Ok(CdcRecord::Change(change)) => self.recognise(change),
            Ok(CdcRecord::Tombstone) => Verdict::Skip(Skip::Tombstone),
            Ok(CdcRecord::Message(_)) => Verdict::Skip(Skip::Message),
            Ok(CdcRecord::Truncate) => Verdict::Stop(Halt::Truncate),
            Err(reject) if reject.kind == RejectKind::WrongKey => {
                Verdict::Stop(Halt::WrongKey(reject))
            }
            Err(reject) => Verdict::Reject(reject),
        }
    }

    /// A letter that was sent back passes beside the mark, which would take it for a re-send (DESIGN section 11, rule 13).
    /// Whatever is wrong with it makes it a letter again: it says nothing about the stream.
    fn judge_redriven<'a>(
        &self,
        parser: &Parser,
        record: &'a Record,
        epoch: Option<u8>,
    ) -> Verdict<'a> {
        if self.redriven.contains(&record.offset) {
            return Verdict::Skip(Skip::Redriven);
        }
        let Some(epoch) = epoch.filter(|epoch| *epoch <= self.epoch) else {
            let message = format!(
                "the header {} of a redriven record is not an epoch up to {}, the present one",
                stream::dead_letter::EPOCH,
                self.epoch
            );
            return Verdict::Reject(Reject::new(RejectKind::WrongType, message));
        };
        match parser.event(input(record)) {
            Ok(CdcRecord::Change(change)) => Verdict::Redrive(change, epoch),
            Ok(CdcRecord::Tombstone) => Verdict::Skip(Skip::Tombstone),
            Ok(CdcRecord::Message(_)) => Verdict::Skip(Skip::Message),
            Ok(CdcRecord::Truncate) => Verdict::Reject(Reject::new(
                RejectKind::UnknownOperation,
                "op is t, which a redriven record cannot be",
            )),
            Err(Reject {
                kind: RejectKind::WrongKey,
                message,
            }) => Verdict::Reject(Reject::new(RejectKind::WrongType, message)),
            Err(reject) => Verdict::Reject(reject),
        }
    }

    /// What a change is, given all before it: emitted, a duplicate, or a reason to stop.
    pub fn recognise<'a>(&mut self, change: EventChange<'a>) -> Verdict<'a> {
        match self.duplicates.recognise(&self.fingerprint(&change)) {
            Recognition::New => Verdict::Emit(change),
            Recognition::Duplicate => Verdict::Duplicate,
            Recognition::Contradiction(contradiction) => {
                Verdict::Stop(Halt::Contradiction(contradiction))
            }
        }
    }

    fn fingerprint(&self, change: &EventChange<'_>) -> Change {
        let (meta, id) = (&change.meta, &change.row.event_id);
        let mark = self.mark_of(meta);
        let key = match mark {
            Some(_) => id.to_string(),
            // the window has no pair to compare, so the LSN is part of the identity
            None => format!("{id}@{:x}", meta.lsn),
        };
        let identity = Identity {
            operation: meta.op.letter(),
            key,
            tx: meta.tx_id,
        };
        Change {
            identity,
            mark,
            snapshot: meta.is_snapshot(),
        }
    }

    /// The first transaction after a snapshot has no `sequence[0]`. Its LSNs rise, and no other transaction stands
    /// between it and the mark, so it takes the mark's. Where the mark is already past its LSN it must be a re-send,
    /// which the lowest pair says. Without any sequence, transactions cannot be told apart, and the window decides.
    fn mark_of(&self, meta: &Meta) -> Option<Mark> {
        let marked = self.duplicates.mark().map_or(0, |mark| mark.commit_lsn);
        let commit_lsn = match meta.commit_lsn {
            Some(commit_lsn) => commit_lsn,
            None if meta.lsn < marked => 0,
            None if meta.has_sequence => marked,
            None => return None,
        };
        Some(Mark {
            commit_lsn,
            lsn: meta.lsn,
            committed_at: meta.committed_at.unwrap_or_default(),
        })
    }

    /// The epoch of what it writes.
    #[must_use]
    pub const fn epoch(&self) -> u8 {
        self.epoch
    }

    /// The mark after the record judged last.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        self.duplicates.mark()
    }

    /// Where the record made from `offset` goes, given the mark after it.
    #[must_use]
    pub fn place(&self, offset: i64, mark: Option<Mark>) -> Place {
        let (commit_lsn, lsn) = mark.map_or((0, 0), Mark::pair);
        Place {
            position: self.position(offset),
            prev: self.prev,
            commit_lsn,
            lsn,
        }
    }

    /// Where the record made from the redriven letter at `offset` goes: beside the chain, which does not move.
    #[must_use]
    pub fn redrive_place(&self, offset: i64, mark: Option<Mark>) -> Place {
        let place = self.place(offset, mark);
        Place {
            position: Position {
                lane: Lane::Redrive,
                ..place.position
            },
            ..place
        }
    }

    const fn position(&self, offset: i64) -> Position {
        Position {
            lane: Lane::Live,
            epoch: self.epoch,
            partition: self.partition,
            offset,
        }
    }

    /// A record made from `offset` was handed to the producer: the next one links to it.
    pub fn emitted(&mut self, offset: i64) {
        self.prev = offset;
    }

    /// What is true after a record, given the mark after it.
    #[must_use]
    pub const fn progress(&self, mark: Option<Mark>) -> Progress {
        Progress {
            prev: self.prev,
            mark,
        }
    }

    /// What to commit where `progress` was made.
    #[must_use]
    pub fn checkpoint(&self, progress: Progress, database: Option<Database>) -> Checkpoint {
        let Progress { prev, mark } = progress;
        let position = (prev >= 0).then_some(self.position(prev));
        Checkpoint {
            epoch: self.epoch,
            position,
            before: None,
            mark,
            database,
            hole: None,
            stored: None,
        }
    }
}

/// The part of a checkpoint that every record changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Offset of the last record emitted; -1 for none.
    pub prev: i64,
    /// The mark.
    pub mark: Option<Mark>,
}

/// A change record's bytes as the parser takes them.
#[must_use]
pub fn input(record: &Record) -> Input<'_> {
    let moved = record.headers.iter().any(|(name, _)| is_move_header(name));
    Input {
        key: record.key.as_deref(),
        payload: record.payload.as_deref(),
        moved,
    }
}

#[cfg(test)]
mod tests;
