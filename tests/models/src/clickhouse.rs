//! The ClickHouse sink: members that deliver batches, and a table whose inserts take their time.
//!
//! Invariant: what to do next comes from `clickhouse_sink::{delivery, plan, owner}`. An insert is on the wire, then
//! begun, then ended; a kill ends what has begun, a higher fence what has not.

use std::collections::HashMap;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};

use clickhouse_sink::delivery::{Delivery, Step};
use clickhouse_sink::fence::Fence;
use clickhouse_sink::owner::{Owner, Reached, Since};
use clickhouse_sink::plan::{Entry, Held, plan};
use clickhouse_sink::row::EventIdType;
use engagement::event::{Lane, Position};
use stream::Committed;
use stream::checkpoint::Checkpoint;

use crate::actions::SinkAction;
use crate::group::Group;
use crate::rules::Rule;
use crate::sink::{Cursor, Judged, Member, Opened, Outcome, Sink, Upstream};
use crate::truth::Fate;

/// Entries of a batch at most.
const BATCH: usize = 3;

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    position: Position,
    src_row: u8,
    pub(crate) change: usize,
    commit_lsn: u64,
}

/// Where an insert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Wire,
    Begun,
    Written,
    Refused,
    /// Killed, or under a fence that was not the highest: nothing was written.
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Insert {
    by: usize,
    /// Nobody waits for its answer any more.
    forsaken: bool,
    stage: Stage,
    fence: Fence,
    rows: Vec<Row>,
}

/// The server.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Table {
    pub(crate) rows: Vec<Row>,
    inserts: Vec<Insert>,
    /// The highest fence.
    fence: Fence,
}

/// What can happen at the server, or to an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Server {
    /// An insert arrives and begins.
    Begins(usize),
    /// It writes its rows, or is refused for one of them.
    Ends(usize),
    /// Its answer arrives.
    Answers(usize),
    /// Its answer is lost, or the connection breaks before there is one.
    AnswerLost(usize),
}

impl Table {
    fn events(&self, out: &mut Vec<Server>) {
        for (index, insert) in self.inserts.iter().enumerate() {
            match insert.stage {
                Stage::Wire => out.push(Server::Begins(index)),
                Stage::Begun => out.push(Server::Ends(index)),
                Stage::Written | Stage::Refused | Stage::Gone if !insert.forsaken => {
                    out.push(Server::Answers(index));
                }
                _ => {}
            }
            if !insert.forsaken {
                out.push(Server::AnswerLost(index));
            }
        }
    }

    fn begin(&mut self, index: usize, up: &Upstream<'_>) {
        let insert = &mut self.inserts[index];
        let is_late = insert.fence != self.fence && up.keeps(Rule::Fence);
        insert.stage = if is_late { Stage::Gone } else { Stage::Begun };
        self.forget();
    }

    fn end(&mut self, index: usize, up: &Upstream<'_>) {
        let insert = &mut self.inserts[index];
        let is_bad = |row: &Row| up.truth.get(row.change).fate == Fate::Refused;
        if insert.rows.iter().any(is_bad) {
            insert.stage = Stage::Refused;
        } else {
            insert.stage = Stage::Written;
            self.rows.extend(insert.rows.iter().copied());
        }
        self.forget();
    }

    /// Inserts that have ended and that nobody waits for are history.
    fn forget(&mut self) {
        let open = |insert: &Insert| matches!(insert.stage, Stage::Wire | Stage::Begun);
        self.inserts
            .retain(|insert| open(insert) || !insert.forsaken);
    }

    /// Nobody waits for the inserts of this member any more.
    pub(crate) fn forsake(&mut self, member: usize) {
        for insert in self.inserts.iter_mut().filter(|insert| insert.by == member) {
            insert.forsaken = true;
        }
        self.forget();
    }

    /// The fence is taken, then what runs is killed. Only whether a fence is the highest matters, and an older one never
    /// is again: so all older ones are one, or there would be no end of states.
    fn take(&mut self, member: usize, up: &Upstream<'_>) -> Fence {
        self.fence = Fence::default().next(member as u64);
        for insert in &mut self.inserts {
            insert.fence = Fence::default();
            if insert.stage == Stage::Begun && up.keeps(Rule::KillFirst) {
                insert.stage = Stage::Gone;
            }
        }
        self.forget();
        self.fence
    }

    fn held(&self, entries: &[(Entry, usize)], up: &Upstream<'_>) -> Held {
        let mut held = Held::default();
        if up.keeps(Rule::ReadBack) {
            let asked = |row: &&Row| entries.iter().any(|(e, _)| e.position == row.position);
            let rows = self.rows.iter().filter(asked);
            held.positions = rows.map(|row| (row.position, row.src_row)).collect();
        }
        held
    }

    /// Of what was committed there or later; of everything.
    fn highest(&self, since: Option<Since>) -> HashMap<(Lane, u8), i64> {
        let mut highest = HashMap::new();
        let from = since.map_or(0, |since| since.commit_lsn);
        for Row { position, .. } in self.rows.iter().filter(|row| row.commit_lsn >= from) {
            let at = highest
                .entry((position.lane, position.epoch))
                .or_insert(position.offset);
            *at = position.offset.max(*at);
        }
        highest
    }

    /// A change whose row is there twice.
    pub(crate) fn doubled(&self) -> Option<usize> {
        let mut seen = HashSet::new();
        let twice = self.rows.iter().find(|row| !seen.insert(row.change));
        twice.map(|row| row.change)
    }
}

/// A lane of the sink.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) cursor: Cursor,
    owner: Owner,
    since: Option<Since>,
    batch: Vec<(Entry, usize)>,
    /// Something was taken since the last batch was closed.
    taken: bool,
    delivery: Option<Delivery>,
    waits: bool,
    /// The process stands still.
    pub(crate) frozen: bool,
    noted: Option<(i64, String)>,
    late_letters: Vec<usize>,
}

impl Running {
    pub(crate) fn open(up: &Upstream<'_>, committed: Option<&Committed>) -> Opened<Self> {
        let (cursor, fresh) = Cursor::resolve(up, committed)?;
        let first = fresh.then(|| (cursor.next, cursor.checkpoint().to_string()));
        let known = committed.and_then(|commit| commit.metadata.parse::<Checkpoint>().ok());
        let running = Self {
            cursor,
            owner: Owner::Unknown,
            since: known.and_then(|known| Since::committed(&known)),
            batch: Vec::new(),
            taken: false,
            delivery: None,
            waits: false,
            frozen: false,
            noted: None,
            late_letters: Vec::new(),
        };
        Ok((running, first))
    }

    pub(crate) fn wake(&mut self) {
        self.frozen = false;
    }

    pub(crate) fn can_take(&self, up: &Upstream<'_>) -> bool {
        self.delivery.is_none() && self.batch.len() < BATCH && up.out.at(self.cursor.next).is_some()
    }

    pub(crate) fn take(&mut self, up: &Upstream<'_>) -> Result<(), String> {
        match self.cursor.take(up) {
            Judged::Hole(reason) => return Err(reason),
            Judged::Pass => {}
            Judged::Apply(out) => {
                let event = up.truth.enriched(out.change, &out.source);
                let entry = Entry::of(&event, self.cursor.next - 1, EventIdType::Int64)
                    .map_err(|error| error.to_string())?;
                self.batch.push((entry, out.change));
            }
        }
        self.taken = true;
        Ok(())
    }

    pub(crate) fn can_step(&self) -> bool {
        (self.taken || self.delivery.is_some()) && !self.waits
    }

    /// Closes the batch, or does what its delivery says next.
    pub(crate) fn step(&mut self, member: usize, table: &mut Table, up: &Upstream<'_>) -> Outcome {
        let Some(mut delivery) = self.delivery.take() else {
            self.begin(up);
            return Outcome::On;
        };
        match delivery.next() {
            Step::Resolve { settle } => {
                if settle && matches!(self.owner, Owner::Unknown) {
                    let fence = table.take(member, up);
                    let reached = Reached {
                        since: self.since,
                        highest: table.highest(self.since),
                        backfilled: 0,
                    };
                    self.owner = Owner::Holds(fence, reached);
                    self.delivery = Some(delivery);
                    return Outcome::On;
                }
                let held = table.held(&self.batch, up);
                delivery.resolved(plan(&self.entries(), held, delivery.buried_entries()));
            }
            Step::Insert(run) => {
                let Owner::Holds(fence, _) = self.owner else {
                    return Outcome::Stopped("an insert without a fence".into());
                };
                let rows = delivery.rows(run).iter();
                let rows = rows.map(|planned| Row {
                    position: self.batch[planned.entry].0.position,
                    src_row: planned.src_row,
                    change: self.batch[planned.entry].1,
                    commit_lsn: self.batch[planned.entry].0.commit_lsn,
                });
                table.inserts.push(Insert {
                    by: member,
                    forsaken: false,
                    stage: Stage::Wire,
                    fence,
                    rows: rows.collect(),
                });
                self.waits = true;
            }
            Step::Bury(entry, _) => {
                let change = self.batch[entry].1;
                delivery.buried();
                self.delivery = Some(delivery);
                if up.keeps(Rule::SinkLetterFirst) {
                    return Outcome::Letter(change);
                }
                self.late_letters.push(change);
                return Outcome::On;
            }
            Step::Done => {
                if up.keeps(Rule::EffectFirst) {
                    self.note();
                }
                self.since = Since::after(&self.entries()).or(self.since);
                self.batch.clear();
                return Outcome::On;
            }
        }
        self.delivery = Some(delivery);
        Outcome::On
    }

    fn entries(&self) -> Vec<Entry> {
        self.batch.iter().map(|(entry, _)| entry.clone()).collect()
    }

    fn note(&mut self) {
        self.noted = Some((self.cursor.next, self.cursor.checkpoint().to_string()));
    }

    fn begin(&mut self, up: &Upstream<'_>) {
        self.taken = false;
        if self.batch.is_empty() || !up.keeps(Rule::EffectFirst) {
            self.note();
        }
        if self.batch.is_empty() {
            return;
        }
        let entries = self.entries();
        self.owner.prepare(&mut self.since, &entries);
        let mut delivery = Delivery::new(matches!(self.owner, Owner::Unknown));
        if !self.owner.may_have_written(&entries) {
            delivery.resolved(plan(&entries, Held::default(), delivery.buried_entries()));
        }
        self.delivery = Some(delivery);
    }

    fn holds(&self) -> bool {
        matches!(self.owner, Owner::Holds(..))
    }

    /// Somebody else has taken the fence.
    fn lost_fence(&mut self) {
        if let Owner::Holds(fence, _) = &mut self.owner {
            *fence = Fence::default();
        }
    }

    /// The answer to its insert.
    fn answered(&mut self, stage: Stage) {
        self.waits = false;
        if stage != Stage::Written {
            self.owner = Owner::Unknown;
        }
        if let Some(delivery) = &mut self.delivery {
            match stage {
                Stage::Written => delivery.inserted(),
                Stage::Refused => delivery.refused_for_a_row("refused".into()),
                Stage::Wire | Stage::Begun | Stage::Gone => delivery.doubted(),
            }
        }
    }
}

/// The sink.
#[derive(Clone, Debug, Hash)]
pub(crate) struct ClickHouse {
    group: Group<Member<Running>>,
    table: Table,
}

impl Sink for ClickHouse {
    type Lane = Running;

    fn new() -> Self {
        Self {
            group: Group::new([Member::Idle, Member::Idle]),
            table: Table::default(),
        }
    }

    fn group(&mut self) -> &mut Group<Member<Running>> {
        &mut self.group
    }

    fn view(&self) -> &Group<Member<Running>> {
        &self.group
    }

    fn open(&mut self, up: &Upstream<'_>) -> Opened<Running> {
        Running::open(up, self.group.committed.as_ref())
    }

    fn choices(&self, index: usize, up: &Upstream<'_>, out: &mut Vec<SinkAction>) {
        let Member::Running(lane) = &self.group.members[index] else {
            return;
        };
        if lane.frozen {
            out.push(SinkAction::Wakes(index));
            return;
        }
        if lane.can_take(up) {
            out.push(SinkAction::Takes(index));
        }
        if lane.can_step() {
            out.push(SinkAction::Steps(index));
        }
    }

    fn events(&self, out: &mut Vec<SinkAction>) {
        let mut events = Vec::new();
        self.table.events(&mut events);
        let hears = |event: &Server| match event {
            Server::Answers(at) | Server::AnswerLost(at) => {
                let by = self.table.inserts[*at].by;
                !matches!(&self.group.members[by], Member::Running(lane) if lane.frozen)
            }
            _ => true,
        };
        out.extend(events.into_iter().filter(hears).map(SinkAction::ClickHouse));
    }

    fn act(&mut self, action: SinkAction, up: &Upstream<'_>) -> (usize, Outcome) {
        match action {
            SinkAction::ClickHouse(event) => {
                happens(event, &mut self.table, up, &mut self.group.members);
                (0, Outcome::On)
            }
            SinkAction::Takes(index) | SinkAction::Steps(index) | SinkAction::Wakes(index) => {
                let Some(lane) = self.group.members[index].running() else {
                    return (index, Outcome::On);
                };
                let held = lane.holds();
                let outcome = match action {
                    SinkAction::Takes(_) => lane.take(up).into(),
                    SinkAction::Steps(_) => lane.step(index, &mut self.table, up),
                    _ => {
                        lane.wake();
                        Outcome::On
                    }
                };
                let taken = !held && lane.holds();
                if let Some(other) = self.group.members[1 - index].running().filter(|_| taken) {
                    other.lost_fence();
                }
                (index, outcome)
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

    fn late_letter(lane: &mut Running) -> Option<usize> {
        lane.late_letters.pop()
    }

    fn has_late_letters(lane: &Running) -> bool {
        !lane.late_letters.is_empty()
    }

    fn is_frozen(lane: &Running) -> bool {
        lane.frozen
    }

    fn freeze(lane: &mut Running) {
        lane.frozen = true;
    }

    fn left(&mut self, index: usize) {
        self.table.forsake(index);
    }

    fn done(&self) -> Vec<usize> {
        self.table.rows.iter().map(|row| row.change).collect()
    }

    fn doubled(&self) -> Option<usize> {
        self.table.doubled()
    }

    fn durable(&self) -> i64 {
        self.group.committed.as_ref().map_or(0, |at| at.offset)
    }

    fn next(lane: &Running) -> i64 {
        lane.cursor.next
    }

    const RESUMES_AT_COMMIT: bool = true;
    const BEGINS_AGAIN: bool = true;
}

/// Something happens at the server; `members` are the lanes that may wait for an answer.
pub(crate) fn happens(
    event: Server,
    table: &mut Table,
    up: &Upstream<'_>,
    members: &mut [Member<Running>; 2],
) {
    match event {
        Server::Begins(index) => table.begin(index, up),
        Server::Ends(index) => table.end(index, up),
        Server::Answers(index) => {
            let insert = table.inserts.remove(index);
            if let Some(lane) = members[insert.by].running() {
                lane.answered(insert.stage);
            }
        }
        Server::AnswerLost(index) => {
            let insert = &mut table.inserts[index];
            insert.forsaken = true;
            if let Some(lane) = members[insert.by].running() {
                lane.answered(Stage::Gone);
            }
            table.forget();
        }
    }
}

impl Hash for Running {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.cursor.hash(state);
        match &self.owner {
            Owner::Unknown => None::<Fence>.hash(state),
            Owner::Holds(fence, reached) => {
                (
                    Some(fence),
                    reached.since,
                    reached.highest.get(&(Lane::Live, 0)),
                )
                    .hash(state);
            }
        }
        for (entry, change) in &self.batch {
            (entry.position, change).hash(state);
        }
        (self.since, self.taken, self.waits, self.frozen).hash(state);
        (&self.noted, &self.late_letters).hash(state);
        if let Some(delivery) = &self.delivery {
            format!("{delivery:?}").hash(state);
        }
    }
}
