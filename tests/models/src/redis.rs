//! The Redis aggregator: members that send a script, and a store that runs it once, twice or late.
//!
//! Invariant: the comparison is `redis_aggregator::script::Verdict::of`, the twin of what `lua/apply.lua` does first.

use std::hash::{Hash, Hasher};

use redis_aggregator::chain::{Chain, Step};
use redis_aggregator::position::Applied;
use redis_aggregator::script::Verdict;
use stream::Committed;
use stream::lineage::{Checkpoint, reader_proof, reader_resume};

use crate::actions::SinkAction;
use crate::group::Group;
use crate::rules::Rule;
use crate::sink::{Member, Opened, Outcome, Sink, Upstream};
use crate::truth::Fate;

/// Records of a batch at most.
const BATCH: usize = 2;

/// What a partition holds: its position and the changes that its sums are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct State {
    at: Option<(String, i64)>,
    pub(crate) counted: Vec<usize>,
}

/// A script call on its way; it runs when it arrives, which may be twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Call {
    by: usize,
    forsaken: bool,
    expected: String,
    applied: String,
    enriched: i64,
    changes: Vec<usize>,
    answer: Option<(&'static str, String)>,
}

/// The server.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Store {
    pub(crate) state: State,
    /// What a copy that lags behind holds.
    pub(crate) copy: State,
    calls: Vec<Call>,
}

/// What can happen at the server, or to an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Server {
    /// A call arrives and runs.
    Runs(usize),
    /// Its answer arrives.
    Answers(usize),
    /// Its answer is lost, or it is late: the caller sends it again, and the first one still is on its way.
    AnswerLost(usize),
    /// The copy catches up.
    Copied,
    /// The copy takes over, whatever it lacks.
    FailedOver,
    /// Everything is gone.
    Flushed,
}

impl Store {
    fn events(&self, out: &mut Vec<Server>) {
        for (index, call) in self.calls.iter().enumerate() {
            match &call.answer {
                None => out.push(Server::Runs(index)),
                Some(_) => out.push(Server::Answers(index)),
            }
            if !call.forsaken {
                out.push(Server::AnswerLost(index));
            }
        }
        if self.copy != self.state {
            out.extend([Server::Copied, Server::FailedOver]);
        }
        if self.state.at.is_some() {
            out.push(Server::Flushed);
        }
    }

    fn run(&mut self, index: usize, up: &Upstream<'_>) {
        let call = &mut self.calls[index];
        let stored = self.state.at.as_ref();
        let stored = stored.map(|(at, enriched)| (at.as_str(), *enriched));
        let mut verdict = Verdict::of(stored, &call.expected, call.enriched);
        if !up.keeps(Rule::CompareAndSet) && verdict != Verdict::Wiped {
            verdict = Verdict::Applied;
        }
        if verdict == Verdict::Applied {
            self.state.at = Some((call.applied.clone(), call.enriched));
            self.state.counted.extend(&call.changes);
        }
        let name = match verdict {
            Verdict::Applied => "APPLIED",
            Verdict::Already => "ALREADY",
            Verdict::Gap => "GAP",
            Verdict::Wiped => "WIPED",
        };
        let at = self.state.at.as_ref().map(|(at, _)| at.clone());
        call.answer = Some((name, at.unwrap_or_default()));
        self.forget();
    }

    fn forget(&mut self) {
        self.calls
            .retain(|call| call.answer.is_none() || !call.forsaken);
    }

    pub(crate) fn forsake(&mut self, member: usize) {
        for call in self.calls.iter_mut().filter(|call| call.by == member) {
            call.forsaken = true;
        }
        self.forget();
    }

    /// A change that is counted twice.
    pub(crate) fn doubled(&self) -> Option<usize> {
        let counted = &self.state.counted;
        let twice = (1..counted.len()).find(|at| counted[..*at].contains(&counted[*at]));
        twice.map(|at| counted[at])
    }
}

/// A lane of the aggregator.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    chain: Chain,
    /// What the store is known to hold.
    applied: Applied,
    pub(crate) next: i64,
    /// After the records taken.
    pending: Applied,
    changes: Vec<usize>,
    taken: usize,
    waits: bool,
    noted: Option<(i64, String)>,
}

impl Running {
    pub(crate) fn open(
        store: &mut Store,
        up: &Upstream<'_>,
        committed: Option<&Committed>,
    ) -> Opened<Self> {
        let log = up.out.marks();
        let has_applied = |committed: &&Committed| match committed.metadata.parse::<Checkpoint>() {
            Ok(checkpoint) => checkpoint.position.is_some() || checkpoint.before.is_some(),
            Err(_) => committed.offset > 0,
        };
        let Some((text, _)) = &store.state.at else {
            if committed.filter(has_applied).is_some() {
                return Err("redis was wiped".into());
            }
            let first = committed.map_or(log.low, |commit| commit.offset);
            let applied = Applied::nothing_before(first);
            prove(&applied, up)?;
            store.state.at = Some((applied.to_string(), applied.enriched));
            let first = (first, Checkpoint::default().to_string());
            return Ok((Self::at(applied), Some(first)));
        };
        let applied: Applied = text.parse()?;
        prove(&applied, up)?;
        Ok((Self::at(applied), None))
    }

    fn at(applied: Applied) -> Self {
        Self {
            chain: Chain::after(&applied),
            applied,
            next: applied.enriched + 1,
            pending: applied,
            changes: Vec::new(),
            taken: 0,
            waits: false,
            noted: None,
        }
    }

    pub(crate) fn can_take(&self, up: &Upstream<'_>) -> bool {
        !self.waits && self.taken < BATCH && up.out.at(self.next).is_some()
    }

    /// Takes a record; gives the change whose letter is acknowledged.
    pub(crate) fn take(&mut self, up: &Upstream<'_>) -> Result<Option<usize>, String> {
        let Some(out) = up.out.at(self.next).copied() else {
            return Err(format!("offset {} is outside of the log", self.next));
        };
        let mut letter = None;
        if up.truth.get(out.change).fate == Fate::Refused {
            // it cannot be read: a dead letter, and its header keeps its place
            self.chain.skip(Some(out.source.position()));
            letter = Some(out.change);
        } else {
            match self.chain.follow(&up.compared(&out)) {
                Ok(Step::Next) => self.changes.push(out.change),
                Ok(Step::Duplicate) if up.keeps(Rule::LineageCheck) => {}
                Ok(Step::Duplicate) => self.changes.push(out.change),
                Err(hole) if up.keeps(Rule::HoleCheck) => return Err(hole.to_string()),
                Err(_) => self.changes.push(out.change),
            }
        }
        self.pending = self.chain.applied(self.next);
        self.next += 1;
        self.taken += 1;
        Ok(letter)
    }

    /// There is something to send, or the next tick would find that the store has moved. (A tick that would find
    /// nothing changes nothing, and is left out.)
    pub(crate) fn can_step(&self, store: &Store) -> bool {
        let stored = store.state.at.as_ref().map(|(at, _)| at.as_str());
        let moved = stored != Some(self.applied.to_string().as_str());
        !self.waits && (self.taken > 0 || moved)
    }

    /// Sends what was taken.
    pub(crate) fn step(&mut self, member: usize, store: &mut Store, up: &Upstream<'_>) {
        if !up.keeps(Rule::EffectFirst) {
            self.note();
        }
        self.send(member, store);
        self.waits = true;
    }

    fn send(&self, member: usize, store: &mut Store) {
        store.calls.push(Call {
            by: member,
            forsaken: false,
            expected: self.applied.to_string(),
            applied: self.pending.to_string(),
            enriched: self.pending.enriched,
            changes: self.changes.clone(),
            answer: None,
        });
    }

    fn note(&mut self) {
        self.noted = Some((self.pending.enriched + 1, self.chain.checkpoint()));
    }

    /// As `Writer::judge`.
    fn answered(&mut self, verdict: &str, at: &str, up: &Upstream<'_>) -> Result<bool, String> {
        self.waits = false;
        match verdict {
            "WIPED" => return Err("redis was wiped".into()),
            "APPLIED" => {}
            "ALREADY" if at == self.pending.to_string() => {}
            // the lane opens again at what redis says
            _ => return Ok(false),
        }
        self.applied = self.pending;
        if up.keeps(Rule::EffectFirst) {
            self.note();
        }
        self.changes.clear();
        self.taken = 0;
        Ok(true)
    }
}

/// The sink.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Redis {
    group: Group<Member<Running>>,
    store: Store,
}

impl Sink for Redis {
    type Lane = Running;

    fn new() -> Self {
        Self {
            group: Group::new([Member::Idle, Member::Idle]),
            store: Store::default(),
        }
    }

    fn group(&mut self) -> &mut Group<Member<Running>> {
        &mut self.group
    }

    fn view(&self) -> &Group<Member<Running>> {
        &self.group
    }

    fn open(&mut self, up: &Upstream<'_>) -> Opened<Running> {
        Running::open(&mut self.store, up, self.group.committed.as_ref())
    }

    fn choices(&self, index: usize, up: &Upstream<'_>, out: &mut Vec<SinkAction>) {
        let Member::Running(lane) = &self.group.members[index] else {
            return;
        };
        if lane.can_take(up) {
            out.push(SinkAction::Takes(index));
        }
        if lane.can_step(&self.store) {
            out.push(SinkAction::Steps(index));
        }
    }

    fn events(&self, out: &mut Vec<SinkAction>) {
        let mut events = Vec::new();
        self.store.events(&mut events);
        // when the store and the group's commit are both gone, nothing is left that remembers
        let forgets = |event: &Server| match event {
            Server::FailedOver => self.store.copy.at.is_none(),
            Server::Flushed => true,
            _ => false,
        };
        events.retain(|event| self.group.committed.is_some() || !forgets(event));
        out.extend(events.into_iter().map(SinkAction::Redis));
    }

    fn act(&mut self, action: SinkAction, up: &Upstream<'_>) -> (usize, Outcome) {
        match action {
            SinkAction::Redis(event) => {
                happens(event, &mut self.store, up, &mut self.group.members);
                (0, Outcome::On)
            }
            SinkAction::Takes(index) => {
                let lane = self.group.members[index].running();
                let outcome = match lane.map(|lane| lane.take(up)) {
                    Some(Ok(Some(change))) => Outcome::Letter(change),
                    Some(Err(reason)) => Outcome::Stopped(reason),
                    Some(Ok(None)) | None => Outcome::On,
                };
                (index, outcome)
            }
            SinkAction::Steps(index) => {
                if let Some(lane) = self.group.members[index].running() {
                    lane.step(index, &mut self.store, up);
                }
                (index, Outcome::On)
            }
            _ => (0, Outcome::On),
        }
    }

    fn commit(lane: &mut Running, take: bool) -> Option<(i64, String)> {
        if take {
            return lane.noted.take();
        }
        lane.noted.clone()
    }

    fn late_letter(_lane: &mut Running) -> Option<usize> {
        None
    }

    fn has_late_letters(_lane: &Running) -> bool {
        false
    }

    /// As `lineage/aggregates.rs` of engagectl: the position is the one in the store.
    fn position(&self) -> Option<Committed> {
        let (at, _) = self.store.state.at.as_ref()?;
        let applied: Applied = at.parse().ok()?;
        let checkpoint = Checkpoint {
            epoch: applied.source.map_or(0, |source| source.epoch),
            position: applied.source,
            before: applied.before,
            ..Checkpoint::default()
        };
        Some(Committed {
            offset: applied.enriched + 1,
            metadata: checkpoint.to_string(),
        })
    }

    fn adopted(&mut self, to: Committed) {
        let checkpoint: Checkpoint = to.metadata.parse().unwrap_or_default();
        let applied = Applied {
            source: checkpoint.position,
            before: checkpoint.before,
            enriched: to.offset - 1,
        };
        self.store.state.at = Some((applied.to_string(), applied.enriched));
    }

    fn remembers(&self) -> bool {
        self.store.state.at.is_some()
    }

    fn left(&mut self, index: usize) {
        self.store.forsake(index);
    }

    fn done(&self) -> Vec<usize> {
        self.store.state.counted.clone()
    }

    fn doubled(&self) -> Option<usize> {
        self.store.doubled()
    }

    fn durable(&self) -> i64 {
        let kept = [&self.store.state, &self.store.copy].map(|state| state.at.as_ref());
        kept.map(|at| at.map_or(0, |(_, enriched)| enriched + 1))
            .into_iter()
            .min()
            .unwrap_or(0)
    }

    fn next(lane: &Running) -> i64 {
        lane.next
    }

    const RESUMES_AT_COMMIT: bool = false;
    const BEGINS_AGAIN: bool = true;
}

/// As `resume::prove` of the service.
fn prove(applied: &Applied, up: &Upstream<'_>) -> Result<(), String> {
    let refused = |refusal: stream::lineage::Refusal| refusal.to_string();
    let next = applied.enriched + 1;
    let checkpoint = Checkpoint {
        position: applied.source,
        before: applied.before,
        ..Checkpoint::default()
    };
    let stored = Committed {
        offset: next,
        metadata: checkpoint.to_string(),
    };
    reader_resume(up.out.marks(), Some(&stored)).map_err(refused)?;
    let low = up.out.marks().low;
    let Some(expected) = applied.before.filter(|_| applied.enriched >= low) else {
        return Ok(());
    };
    if !up.keeps(Rule::ReaderProof) {
        return Ok(());
    }
    let found = up.out.at(applied.enriched).map(|out| out.source.position());
    reader_proof(next, expected, Some(found)).map_err(refused)
}

/// Something happens at the server.
pub(crate) fn happens(
    event: Server,
    store: &mut Store,
    up: &Upstream<'_>,
    members: &mut [Member<Running>; 2],
) {
    match event {
        Server::Runs(index) => store.run(index, up),
        Server::Answers(index) => {
            let call = store.calls.remove(index);
            let (verdict, at) = call.answer.unwrap_or_default();
            answers(&mut members[call.by], verdict, &at, up);
            if !matches!(members[call.by], Member::Running(_)) {
                store.forsake(call.by);
            }
        }
        Server::AnswerLost(index) => {
            let call = &mut store.calls[index];
            call.forsaken = true;
            let member = call.by;
            store.forget();
            if let Some(lane) = members[member].running() {
                lane.send(member, store);
            }
        }
        Server::Copied => store.copy = store.state.clone(),
        Server::FailedOver => store.state = store.copy.clone(),
        Server::Flushed => {
            store.state = State::default();
            store.copy = State::default();
        }
    }
}

fn answers(member: &mut Member<Running>, verdict: &str, at: &str, up: &Upstream<'_>) {
    let Some(lane) = member.running() else {
        return;
    };
    match lane.answered(verdict, at, up) {
        Ok(true) => {}
        Ok(false) => *member = Member::Idle,
        Err(reason) => *member = Member::Stopped(reason),
    }
}

impl Hash for Running {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let texts = [&self.applied, &self.pending].map(ToString::to_string);
        (texts, self.chain.checkpoint(), self.next).hash(state);
        (&self.changes, self.taken, self.waits, &self.noted).hash(state);
    }
}
