//! The webhook forwarder: deliveries that end in any order, and a frontier that is committed.
//!
//! Invariant: what may be committed comes from `stream::ledger`.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};

use stream::Committed;
use stream::ledger::Ledger;
use stream::lineage::{Checkpoint, Reader};

use crate::actions::SinkAction;
use crate::group::Group;
use crate::rules::Rule;
use crate::sink::{Cursor, Judged, Member, Opened, Outcome, Sink, Upstream};
use crate::truth::Fate;

/// Deliveries under way at most.
const SLOTS: usize = 3;

/// A lane of one endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) cursor: Cursor,
    ledger: Ledger<Checkpoint>,
    /// Offset and change of what is sent or answered and not settled yet.
    under_way: BTreeSet<(i64, usize, bool)>,
    committed: i64,
    highest: Option<(i64, String)>,
    late_letters: Vec<usize>,
}

impl Running {
    /// A position that is lost is not chosen again.
    fn open(up: &Upstream<'_>, committed: Option<&Committed>) -> Result<Self, String> {
        if committed.is_none() {
            return Err("the group has no position although it has run before".into());
        }
        let (mut cursor, _) = Cursor::resolve(up, committed)?;
        if cursor.reader.last().is_none() {
            // as `position::find`: a start in the middle continues the chain it finds there
            let before = up.out.readable().filter(|(at, _)| *at < cursor.next);
            let highest = before.map(|(_, out)| out.source.position()).max();
            cursor = Cursor::new(Reader::at(highest), cursor.next);
        }
        Ok(Self {
            committed: cursor.next,
            cursor,
            ledger: Ledger::new(),
            under_way: BTreeSet::new(),
            highest: None,
            late_letters: Vec::new(),
        })
    }

    pub(crate) fn can_take(&self, up: &Upstream<'_>) -> bool {
        self.under_way.len() < SLOTS && up.out.at(self.cursor.next).is_some()
    }

    pub(crate) fn take(&mut self, up: &Upstream<'_>) -> Result<(), String> {
        let offset = self.cursor.next;
        let judged = self.cursor.take(up);
        if let Judged::Hole(reason) = judged {
            return Err(reason);
        }
        let checkpoint = self.cursor.checkpoint();
        self.ledger
            .record(offset, checkpoint)
            .map_err(|error| error.to_string())?;
        match judged {
            Judged::Apply(out) => {
                self.under_way.insert((offset, out.change, false));
            }
            _ => self.done(offset, up),
        }
        Ok(())
    }

    /// The receiver gets it.
    pub(crate) fn post(&mut self, offset: i64) -> Option<usize> {
        let found = self.under_way.iter().find(|(at, ..)| *at == offset);
        let entry @ (_, change, _) = *found?;
        self.under_way.remove(&entry);
        self.under_way.insert((offset, change, true));
        Some(change)
    }

    /// Its answer arrives: 2xx, or in the end a refusal.
    pub(crate) fn settle(&mut self, offset: i64, up: &Upstream<'_>) -> Outcome {
        let found = self.under_way.iter().find(|(at, ..)| *at == offset);
        let Some(entry @ (_, change, _)) = found.copied() else {
            return Outcome::On;
        };
        self.under_way.remove(&entry);
        self.done(offset, up);
        if up.truth.get(change).fate != Fate::Refused {
            return Outcome::On;
        }
        if up.keeps(Rule::SinkLetterFirst) {
            return Outcome::Letter(change);
        }
        self.late_letters.push(change);
        Outcome::On
    }

    fn done(&mut self, offset: i64, up: &Upstream<'_>) {
        let _ = self.ledger.complete(offset);
        if !up.keeps(Rule::Frontier) {
            let next = (offset + 1).max(self.highest.as_ref().map_or(0, |(next, _)| *next));
            self.highest = Some((next, self.cursor.checkpoint().to_string()));
        }
        if !up.keeps(Rule::EffectFirst) {
            self.highest = Some((self.cursor.next, self.cursor.checkpoint().to_string()));
        }
    }

    pub(crate) fn commit(&self) -> Option<(i64, String)> {
        let frontier = self.ledger.frontier();
        let rightful = frontier.map(|frontier| (frontier.next, frontier.value.to_string()));
        self.highest
            .clone()
            .or(rightful)
            .filter(|(next, _)| *next > self.committed)
    }
}

/// The sink: its group, and what the receiver got.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Webhook {
    group: Group<Member<Running>>,
    received: BTreeSet<usize>,
}

impl Sink for Webhook {
    type Lane = Running;

    /// An endpoint has its positions before it joins its group.
    fn new() -> Self {
        let mut group = Group::new([Member::Idle, Member::Idle]);
        group.commit(0, Checkpoint::default().to_string());
        Self {
            group,
            received: BTreeSet::new(),
        }
    }

    fn group(&mut self) -> &mut Group<Member<Running>> {
        &mut self.group
    }

    fn view(&self) -> &Group<Member<Running>> {
        &self.group
    }

    fn open(&mut self, up: &Upstream<'_>) -> Opened<Running> {
        Running::open(up, self.group.committed.as_ref()).map(|lane| (lane, None))
    }

    fn choices(&self, index: usize, up: &Upstream<'_>, out: &mut Vec<SinkAction>) {
        let Member::Running(lane) = &self.group.members[index] else {
            return;
        };
        if lane.can_take(up) {
            out.push(SinkAction::Takes(index));
        }
        out.extend(lane.under_way.iter().map(|(offset, _, sent)| match sent {
            false => SinkAction::Posts(index, *offset),
            true => SinkAction::Settles(index, *offset),
        }));
    }

    fn act(&mut self, action: SinkAction, up: &Upstream<'_>) -> (usize, Outcome) {
        let (SinkAction::Takes(index)
        | SinkAction::Posts(index, _)
        | SinkAction::Settles(index, _)) = action
        else {
            return (0, Outcome::On);
        };
        let Some(lane) = self.group.members[index].running() else {
            return (index, Outcome::On);
        };
        let outcome = match action {
            SinkAction::Takes(_) => lane.take(up).into(),
            SinkAction::Posts(_, offset) => {
                let accepts = |change: &usize| up.truth.get(*change).fate != Fate::Refused;
                self.received.extend(lane.post(offset).filter(accepts));
                Outcome::On
            }
            SinkAction::Settles(_, offset) => lane.settle(offset, up),
            _ => Outcome::On,
        };
        (index, outcome)
    }

    fn commit(lane: &mut Running, take: bool) -> Option<(i64, String)> {
        let commit = lane.commit();
        if let (Some((next, _)), true) = (&commit, take) {
            lane.committed = *next;
        }
        commit
    }

    fn late_letter(lane: &mut Running) -> Option<usize> {
        lane.late_letters.pop()
    }

    fn has_late_letters(lane: &Running) -> bool {
        !lane.late_letters.is_empty()
    }

    fn done(&self) -> Vec<usize> {
        self.received.iter().copied().collect()
    }

    /// A repeat is allowed.
    fn doubled(&self) -> Option<usize> {
        None
    }

    fn durable(&self) -> i64 {
        self.group.committed.as_ref().map_or(0, |at| at.offset)
    }

    fn next(lane: &Running) -> i64 {
        lane.cursor.next
    }

    const RESUMES_AT_COMMIT: bool = true;
    const BEGINS_AGAIN: bool = false;
}

impl Hash for Running {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.cursor, &self.under_way, self.committed).hash(state);
        let frontier = self.ledger.frontier().map(|frontier| frontier.next);
        (frontier, &self.highest, &self.late_letters).hash(state);
    }
}
