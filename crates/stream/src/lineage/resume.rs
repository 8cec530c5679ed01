//! Where to continue, and what must be shown to be true before. Decisions only; the reading is done elsewhere.
//!
//! Invariant: the output's tail decides for the enricher, the commit with its metadata for readers; every other
//! combination of facts is refused with the repair named.

use engagement::event::{Position, Source};

use super::refusal::Refusal;
use crate::checkpoint::{Checkpoint, Mark};
use crate::lanes::{Committed, Watermarks};

/// Where the enricher continues in the change topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnricherResume {
    /// Offset to read next.
    pub next: i64,
    /// Epoch of the chain.
    pub epoch: u8,
    /// `prev` of the next record produced; -1 starts the chain.
    pub prev: i64,
    /// Mark to continue with.
    pub mark: Option<Mark>,
    /// What must hold first.
    pub proof: Proof,
}

/// What must hold before the first record is processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing can be shown: nothing was produced yet, a new epoch, or the record has expired with its retention (rule 6).
    None,
    /// The record at this offset of the change topic must be the event that the output's tail was made from.
    SameEvent(i64),
}

/// Where a reader continues in its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReaderResume {
    /// No commit yet: the start policy decides.
    Fresh,
    /// At the commit, if the proof holds.
    At {
        /// Offset to read next.
        next: i64,
        /// What the commit said.
        checkpoint: Checkpoint,
        /// The last record below `next` must carry this source position; `None`: nothing can be shown.
        before: Option<Position>,
    },
}

/// Rules 3, 4 and 6: the enricher's decision for one partition.
///
/// `tail` is the record with the highest position among the last of the output; `committed` the group's commit on the change topic.
///
/// # Errors
/// A refusal stops the lane.
pub fn enricher_resume(
    input: Watermarks,
    output: Watermarks,
    tail: Option<&Source>,
    committed: Option<&Committed>,
) -> Result<EnricherResume, Refusal> {
    let resume = match (tail, committed) {
        (Some(last), Some(commit)) => match adopted(last, commit) {
            Some(adopted) => adopted,
            None => after_tail(last, input),
        },
        (Some(last), None) => after_tail(last, input),
        (None, Some(commit)) => after_commit(commit, output)?,
        (None, None) if output.high > 0 => return Err(Refusal::UnknownEnd { high: output.high }),
        (None, None) => EnricherResume {
            next: input.low,
            epoch: 0,
            prev: -1,
            mark: None,
            proof: Proof::None,
        },
    };
    within(resume.next, input)?;
    Ok(resume)
}

/// A commit with a higher epoch than the output has was written by `engagectl lineage adopt`.
fn adopted(last: &Source, commit: &Committed) -> Option<EnricherResume> {
    let checkpoint: Checkpoint = commit.metadata.parse().ok()?;
    (checkpoint.epoch > last.epoch).then_some(EnricherResume {
        next: commit.offset,
        epoch: checkpoint.epoch,
        prev: -1,
        // it has one unless the database is another, so that re-sent changes are known
        mark: checkpoint.mark,
        proof: Proof::None,
    })
}

fn after_tail(last: &Source, input: Watermarks) -> EnricherResume {
    let mark = Mark {
        commit_lsn: last.commit_lsn,
        lsn: last.lsn,
        committed_at: last.committed_at,
    };
    EnricherResume {
        next: last.offset + 1,
        epoch: last.epoch,
        prev: last.offset,
        mark: Some(mark).filter(|mark| mark.pair() != (0, 0)),
        proof: if last.offset >= input.low {
            Proof::SameEvent(last.offset)
        } else {
            Proof::None
        },
    }
}

fn after_commit(commit: &Committed, output: Watermarks) -> Result<EnricherResume, Refusal> {
    let checkpoint = checkpoint_of(commit)?;
    if let Some(position) = checkpoint.position
        && output.high == 0
        && position.epoch == checkpoint.epoch
    {
        return Err(Refusal::Recreated {
            had: position.offset,
        });
    }
    let produced = checkpoint
        .position
        .filter(|position| position.epoch == checkpoint.epoch);
    if produced.is_none() && output.high > 0 && checkpoint.epoch == 0 {
        return Err(Refusal::UnknownEnd { high: output.high });
    }
    Ok(EnricherResume {
        next: commit.offset,
        epoch: checkpoint.epoch,
        prev: produced.map_or(-1, |position| position.offset),
        mark: checkpoint.mark,
        proof: Proof::None,
    })
}

/// Rule 5: a reader's decision for one partition.
///
/// # Errors
/// A refusal stops the lane.
pub fn reader_resume(
    log: Watermarks,
    committed: Option<&Committed>,
) -> Result<ReaderResume, Refusal> {
    let Some(commit) = committed else {
        return Ok(ReaderResume::Fresh);
    };
    let checkpoint = checkpoint_of(commit)?;
    if log.high == 0 && commit.offset > 0 {
        return Err(Refusal::Recreated { had: commit.offset });
    }
    within(commit.offset, log)?;
    let before = checkpoint.before.filter(|_| commit.offset > log.low);
    Ok(ReaderResume::At {
        next: commit.offset,
        checkpoint,
        before,
    })
}

/// Compares the record before the committed offset with what the commit says; `found` is `None` where it has expired.
///
/// # Errors
/// They differ: the topic was recreated.
pub fn reader_proof(
    next: i64,
    expected: Position,
    found: Option<Option<Position>>,
) -> Result<(), Refusal> {
    let found = match found {
        None => return Ok(()),
        Some(Some(position)) if position == expected => return Ok(()),
        Some(Some(position)) => position.to_string(),
        Some(None) => "nothing of ours".to_owned(),
    };
    Err(Refusal::OtherRecord {
        next,
        expected: expected.to_string(),
        found,
    })
}

/// Is this still the log that this process has committed to? Asked whenever a lane is opened again.
///
/// # Errors
/// The commit has vanished or lies beyond the end: the topic was recreated.
pub fn same_log(
    remembered: Option<&Committed>,
    now: Option<&Committed>,
    log: Watermarks,
) -> Result<(), Refusal> {
    let Some(had) = remembered else { return Ok(()) };
    if now.is_none() {
        return Err(Refusal::CommitGone { had: had.offset });
    }
    if had.offset > log.high {
        return Err(Refusal::BeyondEnd {
            next: had.offset,
            high: log.high,
        });
    }
    Ok(())
}

fn checkpoint_of(commit: &Committed) -> Result<Checkpoint, Refusal> {
    let parsed = commit.metadata.parse::<Checkpoint>();
    parsed.map_err(|error| Refusal::Metadata {
        offset: commit.offset,
        cause: error.to_string(),
    })
}

fn within(next: i64, log: Watermarks) -> Result<(), Refusal> {
    if next > log.high {
        return Err(Refusal::BeyondEnd {
            next,
            high: log.high,
        });
    }
    if next < log.low {
        return Err(Refusal::Expired { next, low: log.low });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use engagement::event::{Lane, Micros};

    const fn log(low: i64, high: i64) -> Watermarks {
        Watermarks { low, high }
    }

    fn position(epoch: u8, offset: i64) -> Position {
        Position {
            lane: Lane::Live,
            epoch,
            partition: 3,
            offset,
        }
    }

    fn tail(epoch: u8, offset: i64) -> Source {
        Source {
            lane: Lane::Live,
            epoch,
            partition: 3,
            offset,
            prev: offset - 1,
            commit_lsn: 7,
            lsn: 8,
            tx_id: None,
            committed_at: Micros(9),
            snapshot: false,
        }
    }

    fn commit(offset: i64, epoch: u8, at: Option<Position>) -> Committed {
        let checkpoint = Checkpoint {
            epoch,
            position: at,
            before: at,
            ..Checkpoint::default()
        };
        Committed {
            offset,
            metadata: checkpoint.to_string(),
        }
    }

    #[test]
    fn nothing_produced_and_nothing_committed_starts_at_the_beginning_of_the_log() {
        let resume = enricher_resume(log(4, 9), log(0, 0), None, None).unwrap();
        assert_eq!(
            (resume.next, resume.prev, resume.proof),
            (4, -1, Proof::None)
        );
    }

    #[test]
    fn the_tail_decides_whatever_the_commit_says() {
        for committed in [
            None,
            Some(commit(3, 0, Some(position(0, 2)))),
            Some(commit(90, 0, Some(position(0, 89)))),
        ] {
            let resume = enricher_resume(
                log(0, 99),
                log(0, 50),
                Some(&tail(0, 41)),
                committed.as_ref(),
            )
            .unwrap();
            assert_eq!(
                (resume.next, resume.prev, resume.proof),
                (42, 41, Proof::SameEvent(41))
            );
            assert_eq!(resume.mark.map(Mark::pair), Some((7, 8)));
        }
    }

    #[test]
    fn an_expired_record_is_no_gap_as_long_as_the_next_one_is_there() {
        let resume = enricher_resume(log(42, 99), log(0, 50), Some(&tail(0, 41)), None).unwrap();
        assert_eq!((resume.next, resume.proof), (42, Proof::None));
        let at_the_end =
            enricher_resume(log(42, 42), log(0, 50), Some(&tail(0, 41)), None).unwrap();
        assert_eq!(at_the_end.next, 42);
        let refused = enricher_resume(log(43, 99), log(0, 50), Some(&tail(0, 41)), None);
        assert_eq!(refused, Err(Refusal::Expired { next: 42, low: 43 }));
    }

    #[test]
    fn a_tail_beyond_the_end_of_the_input_means_a_recreated_input() {
        let refused = enricher_resume(log(0, 5), log(0, 50), Some(&tail(0, 41)), None);
        assert_eq!(refused, Err(Refusal::BeyondEnd { next: 42, high: 5 }));
    }

    #[test]
    fn an_output_that_ends_at_zero_with_something_produced_was_recreated() {
        let refused = enricher_resume(
            log(0, 99),
            log(0, 0),
            None,
            Some(&commit(42, 0, Some(position(0, 41)))),
        );
        assert_eq!(refused, Err(Refusal::Recreated { had: 41 }));
    }

    #[test]
    fn a_commit_after_dead_letters_only_is_no_recreated_output() {
        let resume =
            enricher_resume(log(0, 99), log(0, 0), None, Some(&commit(3, 0, None))).unwrap();
        assert_eq!((resume.next, resume.prev), (3, -1));
    }

    #[test]
    fn an_output_emptied_by_retention_continues_at_the_commit() {
        let resume = enricher_resume(
            log(0, 99),
            log(50, 50),
            None,
            Some(&commit(42, 0, Some(position(0, 40)))),
        )
        .unwrap();
        assert_eq!((resume.next, resume.prev), (42, 40));
        let unknown = enricher_resume(log(0, 99), log(50, 50), None, None);
        assert_eq!(unknown, Err(Refusal::UnknownEnd { high: 50 }));
        let strange = Committed {
            offset: 42,
            metadata: "hello".into(),
        };
        assert!(matches!(
            enricher_resume(log(0, 99), log(50, 50), None, Some(&strange)),
            Err(Refusal::Metadata { .. })
        ));
    }

    #[test]
    fn a_commit_of_a_higher_epoch_opens_a_new_chain_without_mark() {
        let adopted = commit(0, 1, None);
        let resume =
            enricher_resume(log(0, 7), log(0, 50), Some(&tail(0, 41)), Some(&adopted)).unwrap();
        assert_eq!(
            (resume.next, resume.epoch, resume.prev, resume.mark),
            (0, 1, -1, None)
        );
        let empty = enricher_resume(log(0, 7), log(0, 0), None, Some(&adopted)).unwrap();
        assert_eq!((empty.next, empty.epoch, empty.prev), (0, 1, -1));
    }

    #[test]
    fn a_reader_without_a_commit_is_fresh() {
        assert_eq!(reader_resume(log(0, 9), None), Ok(ReaderResume::Fresh));
    }

    #[test]
    fn a_reader_proves_the_record_before_its_commit() {
        let resume = reader_resume(log(0, 9), Some(&commit(5, 0, Some(position(0, 77))))).unwrap();
        assert!(
            matches!(resume, ReaderResume::At { next: 5, before: Some(p), .. } if p == position(0, 77)),
            "{resume:?}"
        );
        assert_eq!(
            reader_proof(5, position(0, 77), Some(Some(position(0, 77)))),
            Ok(())
        );
        assert!(reader_proof(5, position(0, 77), Some(Some(position(0, 76)))).is_err());
        assert!(reader_proof(5, position(0, 77), Some(None)).is_err());
        assert_eq!(reader_proof(5, position(0, 77), None), Ok(()), "expired");
    }

    #[test]
    fn a_reader_at_the_start_of_the_log_has_nothing_left_to_prove() {
        let resume = reader_resume(log(5, 9), Some(&commit(5, 0, Some(position(0, 77))))).unwrap();
        assert!(
            matches!(resume, ReaderResume::At { before: None, .. }),
            "{resume:?}"
        );
    }

    #[test]
    fn a_reader_is_refused_outside_of_the_log() {
        assert!(matches!(
            reader_resume(log(0, 0), Some(&commit(5, 0, None))),
            Err(Refusal::Recreated { .. })
        ));
        assert!(matches!(
            reader_resume(log(0, 4), Some(&commit(5, 0, None))),
            Err(Refusal::BeyondEnd { .. })
        ));
        assert!(matches!(
            reader_resume(log(6, 9), Some(&commit(5, 0, None))),
            Err(Refusal::Expired { .. })
        ));
        assert!(
            reader_resume(log(0, 0), Some(&commit(0, 0, None))).is_ok(),
            "an empty topic that nobody has read"
        );
    }

    #[test]
    fn a_commit_that_vanishes_while_running_is_refused() {
        let had = commit(5, 0, None);
        assert!(matches!(
            same_log(Some(&had), None, log(0, 9)),
            Err(Refusal::CommitGone { had: 5 })
        ));
        assert!(matches!(
            same_log(Some(&had), Some(&had), log(0, 4)),
            Err(Refusal::BeyondEnd { .. })
        ));
        assert_eq!(same_log(Some(&had), Some(&had), log(0, 5)), Ok(()));
        assert_eq!(same_log(None, None, log(0, 0)), Ok(()));
    }
}
