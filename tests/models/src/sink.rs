//! What the sinks have in common: where a member starts, how a record is judged, what a member is doing.
//!
//! Invariant: decisions are those of `stream::lineage`; a member that stops names the reason.

use std::fmt::Debug;
use std::hash::{Hash, Hasher};

use engagement::event::{Position, Source};
use stream::lineage::{Checkpoint, Reader, ReaderResume, Verdict, reader_proof, reader_resume};
use stream::{Committed, Watermarks};

use crate::actions::SinkAction;
use crate::enricher::Out;
use crate::group::Group;
use crate::log::Log;
use crate::rules::Rule;
use crate::truth::Truth;

/// The sink at the end of the modelled pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Positions in the rows, read back in doubt.
    ClickHouse,
    /// Compare-and-set on the position, in the script that adds.
    Redis,
    /// At least once, by the frontier of what was delivered.
    Webhook,
}

/// What a member of a sink's group is doing.
#[derive(Clone, Debug)]
pub(crate) enum Member<R> {
    Idle,
    Running(Box<R>),
    Stopped(String),
}

impl<R> Member<R> {
    pub(crate) fn running(&mut self) -> Option<&mut R> {
        match self {
            Self::Running(running) => Some(running),
            _ => None,
        }
    }
}

impl<R: Hash> Hash for Member<R> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Idle => 0_u8.hash(state),
            Self::Running(running) => running.hash(state),
            Self::Stopped(reason) => reason.hash(state),
        }
    }
}

/// What opening a lane gives: the lane, and what it commits at once.
pub(crate) type Opened<L> = Result<(L, Option<(i64, String)>), String>;

/// What a step of a lane leads to, other than going on.
pub(crate) enum Outcome {
    /// Nothing more.
    On,
    /// This change's dead letter is acknowledged.
    Letter(usize),
    /// It stops for good.
    Stopped(String),
}

impl From<Result<(), String>> for Outcome {
    fn from(result: Result<(), String>) -> Self {
        result.map_or_else(Self::Stopped, |()| Self::On)
    }
}

/// A sink with its store.
pub(crate) trait Sink: Clone + Debug + Hash {
    /// A lane.
    type Lane: Clone + Debug + Hash;

    fn new() -> Self;
    fn group(&mut self) -> &mut Group<Member<Self::Lane>>;
    fn view(&self) -> &Group<Member<Self::Lane>>;
    fn open(&mut self, up: &Upstream<'_>) -> Opened<Self::Lane>;
    /// What member `index` can do now, other than what every member can.
    fn choices(&self, index: usize, up: &Upstream<'_>, out: &mut Vec<SinkAction>);
    /// What can happen at the server.
    fn events(&self, _out: &mut Vec<SinkAction>) {}
    /// Does one of them; who did it, and what it leads to.
    fn act(&mut self, action: SinkAction, up: &Upstream<'_>) -> (usize, Outcome);
    /// What a lane has to commit, and taking it.
    fn commit(lane: &mut Self::Lane, take: bool) -> Option<(i64, String)>;
    fn late_letter(lane: &mut Self::Lane) -> Option<usize>;
    fn has_late_letters(lane: &Self::Lane) -> bool;
    fn is_frozen(_lane: &Self::Lane) -> bool {
        false
    }
    fn freeze(_lane: &mut Self::Lane) {}
    /// Where the sink stands, in the form of a commit.
    fn position(&self) -> Option<Committed> {
        self.view().committed.clone()
    }
    /// `engagectl lineage adopt` writes where it goes on.
    fn adopted(&mut self, to: Committed) {
        self.group().adopted(to);
    }
    /// Whether something remembers the sink's position other than the group's commit.
    fn remembers(&self) -> bool {
        true
    }
    /// A member is gone: nobody waits for what it sent.
    fn left(&mut self, _index: usize) {}
    /// The changes that the store holds.
    fn done(&self) -> Vec<usize>;
    /// A change that it holds twice and must not.
    fn doubled(&self) -> Option<usize>;
    /// Offset below which the sink needs nothing any more.
    fn durable(&self) -> i64;
    /// Offset that a lane reads next.
    fn next(lane: &Self::Lane) -> i64;
    /// Whether the group's commit decides where it goes on.
    const RESUMES_AT_COMMIT: bool;
    /// Whether a group that has lost its commit can begin again at the start of the log.
    const BEGINS_AGAIN: bool;
}

/// What a sink sees of the rest of the world.
pub(crate) struct Upstream<'a> {
    pub(crate) truth: &'a Truth,
    pub(crate) out: &'a Log<Out>,
    pub(crate) broken: Option<Rule>,
}

impl Upstream<'_> {
    pub(crate) fn keeps(&self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }

    /// A record's source as a reader compares it.
    pub(crate) fn compared(&self, out: &Out) -> Source {
        let mut source = out.source;
        if !self.keeps(Rule::Epoch) {
            source.epoch = 0;
        }
        source
    }
}

/// Where a reader of the enriched topic goes on.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    pub(crate) reader: Reader,
    pub(crate) next: i64,
    before: Option<Position>,
}

/// A record, judged.
pub(crate) enum Judged {
    Apply(Out),
    Pass,
    Hole(String),
}

impl Cursor {
    pub(crate) fn new(reader: Reader, next: i64) -> Self {
        let before = reader.checkpoint().before;
        Self {
            reader,
            next,
            before,
        }
    }

    /// As `stream::resume::resolve_start`: the start, and whether it is the first of the group.
    pub(crate) fn resolve(
        up: &Upstream<'_>,
        committed: Option<&Committed>,
    ) -> Result<(Self, bool), String> {
        let refused = |refusal: stream::lineage::Refusal| refusal.to_string();
        let log: Watermarks = up.out.marks();
        match reader_resume(log, committed).map_err(refused)? {
            ReaderResume::Fresh => Ok((Self::new(Reader::new(), log.low), true)),
            ReaderResume::At {
                next,
                checkpoint,
                before,
            } => {
                if let (Some(expected), true) = (before, up.keeps(Rule::ReaderProof)) {
                    let found = up.out.at(next - 1).map(|out| Some(out.source.position()));
                    reader_proof(next, expected, found).map_err(refused)?;
                }
                Ok((Self::new(Reader::resume(&checkpoint), next), false))
            }
        }
    }

    /// Takes the next record.
    pub(crate) fn take(&mut self, up: &Upstream<'_>) -> Judged {
        let Some(out) = up.out.at(self.next).copied() else {
            return Judged::Hole(format!("offset {} is outside of the log", self.next));
        };
        let verdict = self.reader.check(&up.compared(&out));
        if let Verdict::Hole { last, prev, .. } = verdict
            && up.keeps(Rule::HoleCheck)
        {
            return Judged::Hole(format!("records between {last} and {prev} are missing"));
        }
        self.next += 1;
        self.before = Some(out.source.position());
        match verdict {
            Verdict::Duplicate if up.keeps(Rule::LineageCheck) => Judged::Pass,
            Verdict::Hole { .. } => {
                self.reader = Reader::at(Some(out.source.position()));
                Judged::Apply(out)
            }
            _ => Judged::Apply(out),
        }
    }

    /// What to commit with `next`.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            before: self.before,
            ..self.reader.checkpoint()
        }
    }
}

impl Hash for Cursor {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.next, self.before, self.reader.last()).hash(state);
    }
}
