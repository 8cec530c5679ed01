//! An instance of the enricher: what `services/enricher` does with one partition, without its I/O.
//!
//! Invariant: decisions are those of `stream::lineage`, `stream::ledger` and `enricher::chain`; only the order of the
//! steps around them is written here, as it stands in `lane.rs`, `resume.rs` and `work.rs` of the service.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};

use engagement::event::Source;
use enricher::chain::{Chain, Progress, Verdict};
use stream::ledger::Ledger;
use stream::lineage::{EnricherResume, Proof, Refusal, enricher_resume};
use stream::{Committed, Watermarks};

use crate::log::Log;
use crate::rules::Rule;
use crate::truth::{Fate, Truth, source};

/// Records in flight at most.
const WINDOW: usize = 3;

/// A record of the enriched topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Out {
    pub(crate) change: usize,
    pub(crate) source: Source,
}

/// Everything outside of an instance that it reads.
pub(crate) struct Around<'a> {
    pub(crate) truth: &'a Truth,
    pub(crate) cdc: &'a Log<usize>,
    pub(crate) out: &'a Log<Out>,
    pub(crate) committed: Option<&'a Committed>,
    pub(crate) broken: Option<Rule>,
}

impl Around<'_> {
    pub(crate) fn keeps(&self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }
}

/// What a member of the group is doing.
#[derive(Clone, Debug)]
pub(crate) enum Enricher {
    Idle,
    /// It has read the end of its output and the commit, and nothing else yet.
    Looked {
        tail: Option<Out>,
        output: Watermarks,
        committed: Option<Committed>,
    },
    Running(Box<Running>),
    Stopped(String),
}

/// A lane.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    chain: Chain,
    born: EnricherResume,
    replayed_from: i64,
    pub(crate) next: i64,
    flight: VecDeque<(i64, Out)>,
    /// How many of `flight` the broker has appended.
    appended: usize,
    ledger: Ledger<Progress>,
    /// Nothing was acknowledged yet.
    first: bool,
    late_letters: BTreeSet<usize>,
    committed: i64,
}

impl Enricher {
    /// First half of an opening: the end of the output and the commit.
    pub(crate) fn look(&mut self, around: &Around<'_>) {
        *self = Self::Looked {
            tail: tail_of(around.out),
            output: around.out.marks(),
            committed: around.committed.cloned(),
        };
    }

    /// Second half: decide, prove, rebuild the set at the mark. Gives what to commit at once.
    pub(crate) fn open(&mut self, around: &Around<'_>) -> Option<(i64, String)> {
        let Self::Looked {
            tail,
            output,
            committed,
        } = self
        else {
            return None;
        };
        let (tail, output, committed) = (*tail, *output, committed.take());
        match standing(tail, output, committed.as_ref(), around) {
            Err(refusal) => {
                *self = Self::Stopped(refusal.to_string());
                None
            }
            Ok(resume) => {
                let running = Running::new(resume, around);
                let chain = &running.chain;
                let metadata = chain
                    .checkpoint(chain.progress(chain.mark()), None)
                    .to_string();
                *self = Self::Running(Box::new(running));
                Some((resume.next, metadata))
            }
        }
    }
}

/// The record of the output with the highest position.
pub(crate) fn tail_of(out: &Log<Out>) -> Option<Out> {
    let readable = out.readable().map(|(_, out)| *out);
    readable.max_by_key(|out| (out.source.epoch, out.source.offset))
}

/// Whether the enricher goes on, and where.
pub(crate) fn standing(
    tail: Option<Out>,
    output: Watermarks,
    committed: Option<&Committed>,
    around: &Around<'_>,
) -> Result<EnricherResume, Refusal> {
    let source = tail
        .map(|out| out.source)
        .filter(|_| around.keeps(Rule::ResumeFromTail));
    let resume = enricher_resume(around.cdc.marks(), output, source.as_ref(), committed)?;
    if let (Proof::SameEvent(offset), true) = (resume.proof, around.keeps(Rule::ResumeProof)) {
        let found = around.cdc.at(offset).copied();
        if found != tail.map(|out| out.change) {
            let name = |change: Option<usize>| format!("{change:?}");
            return Err(Refusal::OtherRecord {
                next: resume.next,
                expected: name(tail.map(|out| out.change)),
                found: name(found),
            });
        }
    }
    Ok(resume)
}

impl Running {
    fn new(resume: EnricherResume, around: &Around<'_>) -> Self {
        let mut chain = Chain::resume(0, &resume);
        let low = around.cdc.marks().low;
        if around.keeps(Rule::EqualSet) {
            for (_, out) in around.out.readable() {
                chain.produced(&around.truth.enriched(out.change, &out.source));
            }
            for offset in low..resume.next {
                if let Some(change) = around.cdc.at(offset).map(|at| around.truth.get(*at))
                    && change.fate != Fate::Unreadable
                {
                    chain.remember(&change.event);
                }
            }
        }
        Self {
            chain,
            born: resume,
            replayed_from: low,
            next: resume.next,
            flight: VecDeque::new(),
            appended: 0,
            ledger: Ledger::new(),
            first: true,
            late_letters: BTreeSet::new(),
            committed: resume.next,
        }
    }

    /// Whether the next change record can be judged now.
    pub(crate) fn can_judge(&self, around: &Around<'_>) -> bool {
        let alone = self.first && around.keeps(Rule::FirstAlone);
        let room = if alone { 1 } else { WINDOW };
        around.cdc.at(self.next).is_some_and(|index| {
            let drained = around.truth.get(*index).fate != Fate::Unreadable
                || self.flight.is_empty()
                || !around.keeps(Rule::LetterFirst);
            self.flight.len() < room && drained
        })
    }

    /// Whether retention has taken the record that comes next.
    pub(crate) fn is_overtaken(&self, cdc: &Log<usize>) -> bool {
        self.next < cdc.marks().low
    }

    /// Judges the next change record and hands it to the producer, or passes it; gives a dead letter that is
    /// acknowledged.
    pub(crate) fn judge(&mut self, around: &Around<'_>) -> Result<Option<usize>, String> {
        let offset = self.next;
        let Some(index) = around.cdc.at(offset).copied() else {
            return Err(format!("offset {offset} is outside of the log"));
        };
        let change = around.truth.get(index);
        self.next = offset + 1;
        if change.fate == Fate::Unreadable {
            self.pass(offset);
            if around.keeps(Rule::LetterFirst) {
                return Ok(Some(index));
            }
            self.late_letters.insert(index);
            return Ok(None);
        }
        match self.chain.recognise(change.event.clone()) {
            Verdict::Emit(event) => {
                let mark = self.chain.mark();
                let place = self.chain.place(offset, mark);
                let source = source(&place, &event.meta);
                let progress = Progress { prev: offset, mark };
                self.ledger
                    .record(offset, progress)
                    .map_err(|error| error.to_string())?;
                self.flight.push_back((
                    offset,
                    Out {
                        change: index,
                        source,
                    },
                ));
                self.chain.emitted(offset);
            }
            Verdict::Stop(halt) => return Err(halt.reason()),
            _ => self.pass(offset),
        }
        Ok(None)
    }

    fn pass(&mut self, offset: i64) {
        let progress = self.chain.progress(self.chain.mark());
        let _ = self.ledger.skip(offset, progress);
    }

    pub(crate) fn can_append(&self) -> bool {
        self.appended < self.flight.len()
    }

    /// The broker appends the next record in flight.
    pub(crate) fn append(&mut self, out: &mut Log<Out>) {
        if let Some((_, record)) = self.flight.get(self.appended) {
            out.append(*record);
            self.appended += 1;
        }
    }

    /// The first request of a new producer is lost, and the broker takes the second for the first.
    pub(crate) fn can_lose_first(&self) -> bool {
        self.first && self.appended == 0 && self.flight.len() > 1
    }

    pub(crate) fn lose_first(&mut self) {
        self.appended = 1;
    }

    pub(crate) fn can_acknowledge(&self) -> bool {
        self.appended > 0
    }

    /// The broker's answer to the oldest record arrives.
    pub(crate) fn acknowledge(&mut self) {
        if let Some((offset, _)) = self.flight.pop_front() {
            let _ = self.ledger.complete(offset);
            self.appended -= 1;
            self.first = false;
        }
    }

    /// What is to be committed, if the frontier has moved.
    pub(crate) fn commit(&self) -> Option<(i64, String)> {
        let frontier = self.ledger.frontier()?;
        (frontier.next > self.committed).then(|| {
            let checkpoint = self.chain.checkpoint(frontier.value, None);
            (frontier.next, checkpoint.to_string())
        })
    }

    pub(crate) fn committed(&mut self, offset: i64) {
        self.committed = offset;
    }

    /// A dead letter that should have been acknowledged before.
    pub(crate) fn late_letter(&mut self) -> Option<usize> {
        self.late_letters.pop_first()
    }

    pub(crate) fn has_late_letters(&self) -> bool {
        !self.late_letters.is_empty()
    }

    /// What was sent and not appended: it may still arrive after this process is gone.
    pub(crate) fn on_the_wire(&self) -> VecDeque<Out> {
        let rest = self.flight.iter().skip(self.appended);
        rest.map(|(_, out)| *out).collect()
    }
}

impl Hash for Enricher {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Self::Idle => {}
            Self::Looked {
                tail,
                output,
                committed,
            } => {
                (tail, output.low, output.high).hash(state);
                committed
                    .as_ref()
                    .map(|c| (c.offset, &c.metadata))
                    .hash(state);
            }
            Self::Running(running) => running.hash(state),
            Self::Stopped(reason) => reason.hash(state),
        }
    }
}

/// The set at the mark follows from where the lane was born and how far it came, given the change log.
impl Hash for Running {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let EnricherResume {
            next, epoch, prev, ..
        } = self.born;
        (next, epoch, prev, self.replayed_from).hash(state);
        (self.next, &self.flight, self.appended, self.first).hash(state);
        (self.committed, &self.late_letters).hash(state);
        let frontier = self.ledger.frontier().map(|frontier| frontier.next);
        (frontier, self.ledger.open()).hash(state);
    }
}
