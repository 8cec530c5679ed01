//! The operator's `engagectl lineage adopt --execute`, once, after a topic was made again.
//!
//! Invariant: the positions written are those of `services/engagectl/src/lineage/adopt`; what it cannot bring back is
//! noted as a gap, and only that may be missing in the end.

use std::collections::BTreeSet;

use engagement::event::Source;
use stream::Committed;
use stream::lineage::{Checkpoint, Mark, ReaderResume, Refusal, reader_proof, reader_resume};

use crate::enricher::{Enricher, standing, tail_of};
use crate::log::int;
use crate::rules::Rule;
use crate::sink::{Member, Sink};
use crate::truth::Fate;
use crate::world::{Remade, World};

impl<S: Sink> World<S> {
    /// A lane has stopped because a topic was made again, and for nothing that adoption does not repair.
    pub(crate) fn can_adopt(&self) -> bool {
        let repairable = !(self.beyond || self.adopted);
        self.remade != Remade::No && repairable && self.has_stopped()
    }

    /// The groups are stopped, their positions written, and started again.
    pub(crate) fn adopt(&mut self) {
        self.adopted = true;
        let known = self.sink.position();
        let enricher = self.enricher_decision(known.as_ref());
        let reader = self.reader_decision(known.as_ref());
        self.gap = self.gap(enricher.as_ref());
        if let Some(to) = enricher {
            for member in &mut self.enrichers.members {
                if let Enricher::Running(lane) = member {
                    self.wires
                        .extend(Some(lane.on_the_wire()).filter(|wire| !wire.is_empty()));
                }
                *member = Enricher::Idle;
            }
            self.enrichers.adopted(to);
        }
        if let Some(to) = reader {
            for index in 0..2 {
                self.sink_leaves(index);
                self.sink.group().members[index] = Member::Idle;
            }
            self.sink.adopted(to);
        }
    }

    /// As `adopt/enricher.rs`; `None`: it agrees with its log.
    fn enricher_decision(&self, reader: Option<&Committed>) -> Option<Committed> {
        let (around, low) = (self.around(), self.cdc.marks().low);
        let tail = tail_of(&self.out);
        let commit = self.enrichers.committed.as_ref();
        let refusal = standing(tail, self.out.marks(), commit, &around).err()?;
        let reached = commit.and_then(checkpoint).unwrap_or_default();
        let begin = match refusal {
            Refusal::Recreated { .. } => {
                let offset = commit.map_or(low, |commit| commit.offset);
                let begin = self.continued(offset, reached.mark);
                let goes_on = begin.0 == offset && begin.1.is_some();
                if goes_on && around.keeps(Rule::SamePositions) {
                    // the same changes at the same positions: what a reader has it knows
                    return Some(committed(begin, reached.epoch));
                }
                begin
            }
            Refusal::UnknownEnd { .. } | Refusal::Metadata { .. } => {
                let at = reader.and_then(checkpoint);
                match at.and_then(|at| Some((at.position?, at.mark))) {
                    Some((position, mark)) => self.continued(position.offset + 1, mark),
                    None => (low, None),
                }
            }
            _ if around.keeps(Rule::KeptMark) => {
                let written = tail.map(|out| mark(&out.source));
                let written = written.filter(|mark| mark.pair() != (0, 0));
                (low, written.or(reached.mark))
            }
            _ => (low, None),
        };
        let known = self.highest_epoch([commit, reader]);
        Some(committed(begin, known + 1))
    }

    /// Of what is written, and of what these groups have reached.
    fn highest_epoch(&self, commits: [Option<&Committed>; 2]) -> u8 {
        let epochs = commits.into_iter().flatten().filter_map(checkpoint);
        let known = epochs.map(|at| at.position.map_or(at.epoch, |position| position.epoch));
        let written = tail_of(&self.out).map(|out| out.source.epoch);
        known.chain(written).max().unwrap_or(0)
    }

    /// As `continued`: there, if the change topic is still the one in which it was reached.
    fn continued(&self, offset: i64, mark: Option<Mark>) -> (i64, Option<Mark>) {
        let low = self.cdc.marks().low;
        let before = self.cdc.at(offset - 1).map(|at| self.truth.get(*at));
        // what cannot be read says nothing of the log that it is in
        let readable = before.filter(|change| change.fate != Fate::Unreadable);
        let pair = readable.and_then(|change| {
            let meta = &change.event.meta;
            Some((meta.commit_lsn?, meta.lsn))
        });
        let is_another = mark.is_some_and(|mark| pair.is_some_and(|pair| pair > mark.pair()));
        if offset > self.cdc.marks().high || is_another {
            return (low, mark);
        }
        (offset, mark)
    }

    /// As `adopt/reader.rs`; `None`: it agrees with its log, or has no position.
    fn reader_decision(&self, stored: Option<&Committed>) -> Option<Committed> {
        let refused = match reader_resume(self.out.marks(), stored) {
            Err(_) => true,
            Ok(ReaderResume::Fresh) => false,
            Ok(ReaderResume::At { next, before, .. }) => before.is_some_and(|expected| {
                let found = self.out.at(next - 1).map(|out| Some(out.source.position()));
                reader_proof(next, expected, found).is_err()
            }),
        };
        let at = stored.and_then(checkpoint).unwrap_or_default();
        refused.then(|| Committed {
            offset: self.out.marks().low,
            metadata: Checkpoint { before: None, ..at }.to_string(),
        })
    }

    /// What stands in no topic any more: changes that the lost change topic had and the output has not, or those of
    /// the lost output before the place where the enricher goes on.
    fn gap(&self, enricher: Option<&Committed>) -> BTreeSet<usize> {
        if self.remade == Remade::Changes {
            let produced: BTreeSet<usize> = self.out.all().iter().map(|out| out.change).collect();
            return (0..self.born).filter(|at| !produced.contains(at)).collect();
        }
        let written = self.out.readable().map(|(_, out)| out.source.offset).min();
        let next = enricher.or(self.enrichers.committed.as_ref());
        let first = written.or(next.map(|commit| commit.offset)).unwrap_or(0);
        let changes = (0..).zip(self.cdc.all());
        let before = changes.take_while(|(offset, _)| int(*offset) < first);
        before.map(|(_, change)| *change).collect()
    }
}

/// The enricher's commit that begins there, with this mark, in this epoch.
fn committed((offset, mark): (i64, Option<Mark>), epoch: u8) -> Committed {
    let checkpoint = Checkpoint {
        epoch,
        mark,
        ..Checkpoint::default()
    };
    Committed {
        offset,
        metadata: checkpoint.to_string(),
    }
}

const fn mark(source: &Source) -> Mark {
    Mark {
        commit_lsn: source.commit_lsn,
        lsn: source.lsn,
        committed_at: source.committed_at,
    }
}

/// What a commit's metadata says, where it is ours.
fn checkpoint(commit: &Committed) -> Option<Checkpoint> {
    commit.metadata.parse().ok()
}
