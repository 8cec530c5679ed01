//! The whole pipeline for one partition: database, Debezium, topics, two enrichers, one sink with two members.
//!
//! Invariant: a change that the store holds was committed, and is there once; what is missing in the end is in the
//! dead letters; a lane stops only if something has happened that it cannot repair by itself.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::actions::Fault;
use crate::enricher::{Around, Enricher, Out};
use crate::group::Group;
use crate::log::Log;
use crate::rules::Rule;
use crate::sink::{Member, Sink, Upstream};
use crate::truth::{Fate, Truth};

/// What must never be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The store holds a change twice.
    Doubled(usize),
    /// Nothing more will happen, and a change is neither in the store nor in the dead letters.
    Lost(usize),
    /// A reader that makes the one comparison does not see the changes once and in order.
    Chain(Vec<usize>),
    /// A lane stopped although nothing has happened that would have to stop it.
    Stopped(String),
    /// It goes on for ever.
    Endless,
}

/// A topic that was deleted and made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Remade {
    No,
    Changes,
    Enriched,
}

/// A world, and how it came there.
#[derive(Clone, Debug)]
pub(crate) struct World<S> {
    pub(crate) broken: Option<Rule>,
    pub(crate) truth: Arc<Truth>,
    pub(crate) allowed: &'static [Fault],
    pub(crate) faults: usize,
    pub(crate) captured: usize,
    pub(crate) cdc: Log<usize>,
    pub(crate) out: Log<Out>,
    pub(crate) enrichers: Group<Enricher>,
    pub(crate) wires: Vec<VecDeque<Out>>,
    pub(crate) letters: BTreeSet<usize>,
    pub(crate) sink: S,
    pub(crate) sink_letters: BTreeSet<usize>,
    /// Something has happened that may stop a lane.
    pub(crate) cause: bool,
    /// Something of it that adoption does not repair.
    pub(crate) beyond: bool,
    pub(crate) remade: Remade,
    /// So many changes were sent at least once.
    pub(crate) sent: usize,
    /// The first change that the change topic of now holds, unless an older one is sent again.
    pub(crate) born: usize,
    pub(crate) adopted: bool,
    /// What adoption could not bring back.
    pub(crate) gap: BTreeSet<usize>,
    /// The broker has lost records at the end of the enriched topic.
    pub(crate) cut: bool,
}

impl<S: Sink> World<S> {
    pub(crate) fn new(
        truth: Arc<Truth>,
        faults: usize,
        allowed: &'static [Fault],
        broken: Option<Rule>,
    ) -> Self {
        Self {
            broken,
            truth,
            allowed,
            faults,
            captured: 0,
            cdc: Log::default(),
            out: Log::default(),
            enrichers: Group::new([Enricher::Idle, Enricher::Idle]),
            wires: Vec::new(),
            letters: BTreeSet::new(),
            sink: S::new(),
            sink_letters: BTreeSet::new(),
            cause: false,
            beyond: false,
            remade: Remade::No,
            sent: 0,
            born: 0,
            adopted: false,
            gap: BTreeSet::new(),
            cut: false,
        }
    }

    /// Two states with the same print are the same.
    pub(crate) fn print(&self) -> u128 {
        let half = |seed: u64| {
            let mut hasher = DefaultHasher::new();
            seed.hash(&mut hasher);
            (self.faults, self.captured, &self.cdc, &self.out).hash(&mut hasher);
            (&self.enrichers, &self.wires, &self.letters).hash(&mut hasher);
            (&self.sink, &self.sink_letters, self.cause).hash(&mut hasher);
            (self.remade, self.sent, self.born).hash(&mut hasher);
            (self.beyond, self.adopted, &self.gap).hash(&mut hasher);
            hasher.finish()
        };
        u128::from(half(1)) << 64 | u128::from(half(2))
    }

    pub(crate) fn upstream(&self) -> Upstream<'_> {
        Upstream {
            truth: &self.truth,
            out: &self.out,
            broken: self.broken,
        }
    }

    pub(crate) fn around(&self) -> Around<'_> {
        Around {
            truth: &self.truth,
            cdc: &self.cdc,
            out: &self.out,
            committed: self.enrichers.committed.as_ref(),
            broken: self.broken,
        }
    }

    /// What is wrong with this state, whatever comes next.
    pub(crate) fn judge(&self) -> Result<(), Violation> {
        self.sink
            .doubled()
            .map_or(Ok(()), |change| Err(Violation::Doubled(change)))
    }

    /// Whether a lane that owns its partition has stopped.
    pub(crate) fn has_stopped(&self) -> bool {
        let sink = self.sink.view();
        matches!(
            self.enrichers.members[self.enrichers.owner],
            Enricher::Stopped(_)
        ) || matches!(sink.members[sink.owner], Member::Stopped(_))
    }

    /// What is wrong with this state if nothing more will happen.
    pub(crate) fn judge_end(&self) -> Result<(), Violation> {
        if self.has_stopped() {
            return Ok(());
        }
        let done: BTreeSet<usize> = self.sink.done().into_iter().collect();
        for change in 0..self.truth.len() {
            let there = match self.truth.get(change).fate {
                Fate::Fine => done.contains(&change),
                Fate::Unreadable => self.letters.contains(&change),
                Fate::Refused => self.sink_letters.contains(&change),
            };
            // what is cut off at the end shows with the next record
            let is_last = || self.out.all().iter().all(|out| out.change <= change);
            if !(there || self.gap.contains(&change) || self.cut && is_last()) {
                return Err(Violation::Lost(change));
            }
        }
        self.judge_chain()
    }

    /// What a reader of one's own sees that makes the one comparison.
    fn judge_chain(&self) -> Result<(), Violation> {
        let (mut last, mut seen) = (None, Vec::new());
        for out in self.out.all() {
            let at = Some((out.source.epoch, out.source.offset));
            if at > last {
                last = at;
                seen.push(out.change);
            }
        }
        if self.adopted && !self.is_in_order(&seen) {
            return Err(Violation::Chain(seen));
        }
        let readable = |change: &usize| self.truth.get(*change).fate != Fate::Unreadable;
        let wanted: Vec<usize> = (0..self.truth.len()).filter(readable).collect();
        if self.cut || self.remade != Remade::No || seen == wanted {
            return Ok(());
        }
        Err(Violation::Chain(seen))
    }

    /// Each once, and in the order of the log; those of one statement may have been lost in part with the old topic, and
    /// have no order among them.
    fn is_in_order(&self, seen: &[usize]) -> bool {
        let pair = |change: &usize| {
            let meta = &self.truth.get(*change).event.meta;
            (meta.commit_lsn, meta.lsn)
        };
        let once: BTreeSet<&usize> = seen.iter().collect();
        once.len() == seen.len() && seen.is_sorted_by_key(pair)
    }
}
