//! What to do next with a batch, whatever the last answer was. No I/O: `sink.rs` does what it says.
//!
//! ```text
//!            doubt, assignment                    all rows written
//!   Resolve <-----------------  Insert (a run) ------------------> Done
//!      |  ------------------------^   |  one bad row alone
//!      +------------------------------+--> Bury (dead letter first)
//! ```
//! Invariant: after any answer but a clean success nothing is inserted before the table was read back, so a row is
//! neither written twice nor taken for written.

use std::collections::HashSet;
use std::ops::Range;

use crate::plan::{Entry, Planned};
use crate::row::ITSELF;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask the table what it holds and plan; with `settle` first make sure that nothing of this lane still runs there.
    Resolve {
        /// An insert may still be on its way.
        settle: bool,
    },
    /// Insert these planned rows in one statement; they lie in one table partition.
    Insert(Range<usize>),
    /// Dead-letter this entry; its row was refused alone, for this reason.
    Bury(usize, String),
    /// All rows are written or buried: the offset may move.
    Done,
}

/// One batch on its way into the table.
#[derive(Clone, Debug)]
pub struct Delivery {
    planned: Vec<Planned>,
    written: usize,
    state: State,
    /// Rows per insert; halves at each bad row and doubles at each success.
    limit: usize,
    condemned: Option<(usize, String)>,
    buried: HashSet<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unplanned,
    Doubt,
    Planned,
}

impl Delivery {
    /// A batch of which nothing was sent by us. `doubt`: another owner of the partition may have sent a part of it.
    #[must_use]
    pub fn new(doubt: bool) -> Self {
        let state = if doubt {
            State::Doubt
        } else {
            State::Unplanned
        };
        Self {
            planned: Vec::new(),
            written: 0,
            state,
            limit: usize::MAX,
            condemned: None,
            buried: HashSet::new(),
        }
    }

    /// What to do next.
    #[must_use]
    pub fn next(&self) -> Step {
        match (&self.condemned, self.state) {
            (Some((entry, reason)), _) => Step::Bury(*entry, reason.clone()),
            (None, State::Unplanned) => Step::Resolve { settle: false },
            (None, State::Doubt) => Step::Resolve { settle: true },
            (None, State::Planned) => match self.run() {
                run if run.is_empty() => Step::Done,
                run => Step::Insert(run),
            },
        }
    }

    /// The rows that [`Step::Insert`] points into.
    #[must_use]
    pub fn rows(&self, run: Range<usize>) -> &[Planned] {
        &self.planned[run]
    }

    /// [`Step::Resolve`] is done: these rows are missing.
    pub fn resolved(&mut self, mut missing: Vec<Planned>) {
        missing.sort_by_key(|row| row.month);
        (self.planned, self.written, self.state) = (missing, 0, State::Planned);
    }

    /// [`Step::Insert`] is acknowledged.
    pub fn inserted(&mut self) {
        self.written = self.run().end;
        self.limit = self.limit.saturating_mul(2);
    }

    /// [`Step::Insert`] has no clean answer; its rows may be in the table, now or soon.
    pub fn doubted(&mut self) {
        self.state = State::Doubt;
    }

    /// [`Step::Insert`] was refused because of a row.
    pub fn refused_for_a_row(&mut self, reason: String) {
        let run = self.run();
        if run.len() == 1 {
            self.condemned = Some((self.planned[run.start].entry, reason));
        }
        self.limit = (run.len() / 2).max(1);
        self.state = State::Doubt;
    }

    /// [`Step::Bury`] is acknowledged.
    pub fn buried(&mut self) {
        self.buried
            .extend(self.condemned.take().map(|(entry, _)| entry));
    }

    /// Entries that were dead-lettered; not to be planned again.
    #[must_use]
    pub fn buried_entries(&self) -> &HashSet<usize> {
        &self.buried
    }

    /// Once it is done: the entries whose own row the table holds for certain. What was applied by id may have had nothing
    /// to say, so of those only what was planned last.
    pub fn held<'a>(&self, entries: &'a [Entry]) -> impl Iterator<Item = &'a Entry> {
        let own = self.planned.iter().filter(|row| row.src_row == ITSELF);
        let planned: HashSet<usize> = own.map(|row| row.entry).collect();
        let all = entries.iter().enumerate();
        all.filter(move |(index, entry)| {
            !self.buried.contains(index) && (!entry.by_id || planned.contains(index))
        })
        .map(|(_, entry)| entry)
    }

    /// The next rows of one table partition, at most `limit`.
    fn run(&self) -> Range<usize> {
        let rest = &self.planned[self.written..];
        let Some(first) = rest.first() else {
            return self.written..self.written;
        };
        let same = rest
            .iter()
            .take(self.limit)
            .take_while(|row| row.month == first.month)
            .count();
        self.written..self.written + same
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use engagement::event::{EnrichedEvent, Micros, Origin, Position};
    use engagement::testing::{EVENT_TS, Sample};
    use proptest::prelude::*;

    use super::*;
    use crate::plan::{Entry, Held, Known, plan};
    use crate::row::{EventIdType, Key};

    #[test]
    fn a_batch_over_two_table_partitions_is_two_inserts() {
        let late = Sample::new()
            .at_position(0, 2)
            .event_ts(Micros(EVENT_TS.0 + 40 * 86_400_000_000))
            .build();
        let entries = entries(&[
            late,
            Sample::new().at_position(0, 1).build(),
            Sample::new().at_position(0, 3).event_id(3).build(),
        ]);
        let mut delivery = Delivery::new(false);
        delivery.resolved(plan(&entries, Held::default(), &HashSet::new()));
        assert_eq!(delivery.next(), Step::Insert(0..2));
        delivery.inserted();
        assert_eq!(delivery.next(), Step::Insert(2..3));
        delivery.inserted();
        assert_eq!(delivery.next(), Step::Done);
    }

    #[test]
    fn a_doubtful_answer_is_read_back_before_anything_else() {
        let entries = entries(&[Sample::new().build()]);
        let mut delivery = Delivery::new(false);
        delivery.resolved(plan(&entries, Held::default(), &HashSet::new()));
        delivery.doubted();
        assert_eq!(delivery.next(), Step::Resolve { settle: true });
    }

    #[test]
    fn one_bad_row_among_many_costs_about_two_inserts_per_halving() {
        let events: Vec<_> = (0..1000)
            .map(|n| Sample::new().event_id(n).at_position(0, n).build())
            .collect();
        for bad in [0, 499, 999] {
            let mut server = Server {
                bad: HashSet::from([bad]),
                ..Server::default()
            };
            let inserts = deliver(
                &entries(&events),
                &mut server,
                &mut std::iter::repeat(Fate::Clean),
                false,
            )
            .expect("no crash");
            assert_eq!((server.rows.len(), server.buried.clone()), (999, vec![bad]));
            assert!(inserts < 50, "{inserts} inserts for row {bad}");
        }
    }

    /// What happens to one insert.
    #[derive(Clone, Copy, Debug)]
    enum Fate {
        Clean,
        /// It ran, the answer was lost.
        AnswerLost,
        /// It neither ran nor failed yet: it runs just before it is killed, or never.
        StillRunning {
            runs: bool,
        },
        /// Refused, nothing written.
        Outage,
        /// It ran, then this process died.
        CrashAfter,
        /// This process died, the insert may still run.
        CrashDuring {
            runs: bool,
        },
    }

    #[derive(Clone, Debug)]
    struct Stored {
        position: Position,
        src_row: u8,
        id: Box<[u8]>,
        known: Known,
    }

    #[derive(Default)]
    struct Server {
        rows: Vec<Stored>,
        running: Vec<(Vec<Stored>, bool)>,
        bad: HashSet<i64>,
        buried: Vec<i64>,
    }

    impl Server {
        fn settle(&mut self) {
            for (rows, runs) in self.running.drain(..) {
                self.rows.extend(runs.then_some(rows).into_iter().flatten());
            }
        }

        fn read_back(&self, entries: &[Entry]) -> Held {
            let mut held = Held::default();
            for entry in entries {
                let rows = self
                    .rows
                    .iter()
                    .filter(|row| row.position == entry.position);
                held.positions
                    .extend(rows.map(|row| (row.position, row.src_row)));
                let mut keys: HashMap<Key, Known> = HashMap::new();
                for row in self.rows.iter().filter(|row| *row.id == *entry.row.id()) {
                    let newest = keys
                        .entry(row.known.key.clone())
                        .or_insert_with(|| row.known.clone());
                    if row.known.revision >= newest.revision {
                        *newest = row.known.clone();
                    }
                }
                if entry.by_id && !keys.is_empty() {
                    held.events
                        .insert(entry.row.id().into(), keys.into_values().collect());
                }
            }
            held
        }
    }

    fn stored(entries: &[Entry], planned: &Planned) -> Stored {
        let entry = &entries[planned.entry];
        // Remembering into an empty list gives what the table would say of this row.
        let own = Key {
            bytes: entry.row.key().into(),
            month: entry.row.month(),
        };
        let (revision, deleted, missing) = entry.state();
        let known = Known {
            deleted: deleted || planned.deletes.is_some(),
            key: planned.deletes.clone().unwrap_or(own),
            source: entry.row.source().into(),
            revision,
            missing,
        };
        Stored {
            position: entry.position,
            src_row: planned.src_row,
            id: entry.row.id().into(),
            known,
        }
    }

    /// Runs one delivery; `None` when the process died, else the number of inserts.
    fn deliver(
        entries: &[Entry],
        server: &mut Server,
        fates: &mut dyn Iterator<Item = Fate>,
        doubt: bool,
    ) -> Option<usize> {
        let mut delivery = Delivery::new(doubt);
        for inserts in 0.. {
            while let Step::Resolve { settle } = delivery.next() {
                if settle {
                    server.settle();
                }
                let missing = plan(
                    entries,
                    server.read_back(entries),
                    delivery.buried_entries(),
                );
                delivery.resolved(missing);
            }
            match delivery.next() {
                Step::Resolve { .. } => unreachable!("resolved above"),
                Step::Done => return Some(inserts),
                Step::Bury(entry, _) => {
                    server.buried.push(entries[entry].offset);
                    delivery.buried();
                }
                Step::Insert(run) => {
                    let rows: Vec<Stored> = delivery
                        .rows(run)
                        .iter()
                        .map(|row| stored(entries, row))
                        .collect();
                    insert(
                        rows,
                        server,
                        fates.next().unwrap_or(Fate::Clean),
                        &mut delivery,
                    )?;
                }
            }
        }
        None
    }

    fn insert(
        rows: Vec<Stored>,
        server: &mut Server,
        fate: Fate,
        delivery: &mut Delivery,
    ) -> Option<()> {
        if rows
            .iter()
            .any(|row| server.bad.contains(&row.position.offset))
        {
            delivery.refused_for_a_row("bad".into());
            return Some(());
        }
        match fate {
            Fate::Clean => {
                server.rows.extend(rows);
                delivery.inserted();
            }
            Fate::AnswerLost => {
                server.rows.extend(rows);
                delivery.doubted();
            }
            Fate::StillRunning { runs } => {
                server.running.push((rows, runs));
                delivery.doubted();
            }
            Fate::Outage => delivery.doubted(),
            Fate::CrashAfter => {
                server.rows.extend(rows);
                return None;
            }
            Fate::CrashDuring { runs } => {
                server.running.push((rows, runs));
                return None;
            }
        }
        Some(())
    }

    fn entries(events: &[EnrichedEvent]) -> Vec<Entry> {
        events
            .iter()
            .map(|event| Entry::of(event, event.source.offset, EventIdType::Int64).unwrap())
            .collect()
    }

    fn fate() -> impl Strategy<Value = Fate> {
        prop_oneof![
            3 => Just(Fate::Clean),
            1 => Just(Fate::AnswerLost),
            1 => any::<bool>().prop_map(|runs| Fate::StillRunning { runs }),
            1 => Just(Fate::Outage),
            1 => Just(Fate::CrashAfter),
            1 => any::<bool>().prop_map(|runs| Fate::CrashDuring { runs }),
        ]
    }

    /// A history of a few events: creations, updates with and without a new sort key, deletions, snapshots.
    fn history() -> impl Strategy<Value = Vec<EnrichedEvent>> {
        let step = (0..4_u8, 0..5_u8, 0..3_i64, 0..3_i64);
        proptest::collection::vec(step, 1..25).prop_map(|steps| {
            let mut current: HashMap<u8, EnrichedEvent> = HashMap::new();
            let mut events = Vec::new();
            for (offset, (id, kind, month, duration)) in (0..).zip(steps) {
                let at = Micros(EVENT_TS.0 + month * 31 * 86_400_000_000);
                let new = Sample::new().event_id(id).at_position(0, offset);
                let event = match (kind, current.get(&id)) {
                    (0, Some(before)) => Sample::new()
                        .event_id(id)
                        .at_position(0, offset)
                        .event_ts(before.event_ts)
                        .deleted()
                        .build(),
                    (1, Some(before)) => new
                        .event_ts(before.event_ts)
                        .duration_ms(before.duration_ms)
                        .origin(Origin::Snapshot)
                        .build(),
                    (_, Some(before)) => new
                        .event_ts(at)
                        .duration_ms(duration)
                        .replacing(before)
                        .build(),
                    (1, None) => new
                        .event_ts(at)
                        .duration_ms(duration)
                        .origin(Origin::Snapshot)
                        .build(),
                    (_, None) => new.event_ts(at).duration_ms(duration).build(),
                };
                if event.deleted {
                    current.remove(&id);
                } else {
                    current.insert(id, event.clone());
                }
                events.push(event);
            }
            events
        })
    }

    /// The view `events`: per sort key the newest revision, if that is not a deletion.
    #[expect(clippy::type_complexity, reason = "two encoded columns, only here")]
    fn visible(rows: &[Stored]) -> Vec<(Box<[u8]>, Box<[u8]>)> {
        let mut newest: HashMap<&Key, &Known> = HashMap::new();
        for row in rows {
            let entry = newest.entry(&row.known.key).or_insert(&row.known);
            if row.known.revision >= entry.revision {
                *entry = &row.known;
            }
        }
        let live = newest.into_values().filter(|known| !known.deleted);
        let mut live: Vec<_> = live
            .map(|known| (known.key.bytes.clone(), known.source.clone()))
            .collect();
        live.sort();
        live
    }

    /// Offsets of the events that have both a snapshot and a record in the dead letters. A snapshot that is read back
    /// after a fault may find a row newer than the dead letter, and is superfluous then; without the fault it was
    /// written before. Both are right until the letter is redriven, and the same after it.
    fn undecided(events: &[EnrichedEvent], bad: &HashSet<i64>) -> HashSet<i64> {
        let ids_of = |wanted: &dyn Fn(&EnrichedEvent) -> bool| -> HashSet<&str> {
            let found = events.iter().filter(|event| wanted(event));
            found.map(|event| event.event_id.as_str()).collect()
        };
        let dead = ids_of(&|event| bad.contains(&event.source.offset));
        let snapshots = ids_of(&|event| event.origin == Origin::Snapshot);
        let open = events.iter().filter(|event| {
            let id = event.event_id.as_str();
            dead.contains(id) && snapshots.contains(id)
        });
        open.map(|event| event.source.offset).collect()
    }

    /// The dead letters as they come again: in a lane of their own, applied by id and revision.
    fn redriven(events: &[EnrichedEvent], buried: &[i64]) -> Vec<Entry> {
        let wanted = events
            .iter()
            .filter(|event| buried.contains(&event.source.offset));
        let letters: Vec<EnrichedEvent> = wanted
            .cloned()
            .map(|mut event| {
                event.source.lane = engagement::event::Lane::Redrive;
                event
            })
            .collect();
        entries(&letters)
    }

    /// What the database holds after this history, as [`visible`] shows it.
    #[expect(clippy::type_complexity, reason = "two encoded columns, only here")]
    fn current(events: &[EnrichedEvent]) -> Vec<(Box<[u8]>, Box<[u8]>)> {
        let mut rows: HashMap<&str, &EnrichedEvent> = HashMap::new();
        for event in events {
            if event.deleted {
                rows.remove(event.event_id.as_str());
            } else {
                rows.insert(&event.event_id, event);
            }
        }
        let entries: Vec<EnrichedEvent> = rows.into_values().cloned().collect();
        let mut current: Vec<_> = self::entries(&entries)
            .iter()
            .map(|entry| (entry.row.key().into(), entry.row.source().into()))
            .collect();
        current.sort();
        current
    }

    /// Rows of the records that are applied by position. A snapshot may find that a newer row makes it superfluous.
    fn streamed(rows: &[Stored], entries: &[Entry]) -> Vec<(Position, u8)> {
        let by_id: HashSet<Position> = entries
            .iter()
            .filter(|entry| entry.by_id)
            .map(|entry| entry.position)
            .collect();
        let rows = rows.iter().filter(|row| !by_id.contains(&row.position));
        let mut rows: Vec<_> = rows.map(|row| (row.position, row.src_row)).collect();
        rows.sort_unstable();
        rows
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn no_fault_doubles_or_loses_a_row(events in history(), fates in proptest::collection::vec(fate(), 0..40),
                                           batch in 1_usize..10, bad in proptest::collection::hash_set(0_i64..25, 0..2)) {
            let all = entries(&events);
            let open = undecided(&events, &bad);
            let mut clean = Server { bad: bad.clone(), ..Server::default() };
            for batch in all.chunks(batch) {
                deliver(batch, &mut clean, &mut std::iter::empty(), false).unwrap();
            }
            let mut server = Server { bad, ..Server::default() };
            let mut fates = fates.into_iter();
            for batch in all.chunks(batch) {
                let mut doubt = false;
                while deliver(batch, &mut server, &mut fates, doubt).is_none() {
                    doubt = true;
                }
            }
            prop_assert!(server.running.is_empty(), "an insert is left running");
            let mut seen = HashSet::new();
            for row in &server.rows {
                prop_assert!(seen.insert((row.position, row.src_row)), "row {:?} twice", row);
            }
            prop_assert_eq!(streamed(&server.rows, &all), streamed(&clean.rows, &all));
            let decided = |rows: &[Stored]| -> Vec<Stored> {
                let known = |row: &&Stored| !open.contains(&row.position.offset);
                rows.iter().filter(known).cloned().collect()
            };
            prop_assert_eq!(visible(&decided(&server.rows)), visible(&decided(&clean.rows)));
            // Of the others a fault may leave out a superseded snapshot, and never show what is not there without it.
            let without_fault: HashSet<_> = visible(&clean.rows).into_iter().map(|(key, _)| key).collect();
            for (key, _) in visible(&server.rows) {
                prop_assert!(without_fault.contains(&key), "a fault made {:?} visible", key);
            }
            server.buried.dedup();
            clean.buried.dedup();
            prop_assert_eq!(&server.buried, &clean.buried);
            // Once the letters are redriven nothing is open any more: the fault has left no trace.
            let letters = redriven(&events, &server.buried);
            for server in [&mut server, &mut clean] {
                server.bad.clear();
                deliver(&letters, server, &mut std::iter::empty(), true).unwrap();
            }
            prop_assert_eq!(visible(&server.rows), visible(&clean.rows));
            // An event of which a snapshot came after its dead letter is left out: a snapshot that says what the table
            // holds already is not written, so that an older letter goes over it.
            if open.is_empty() {
                prop_assert_eq!(visible(&server.rows), current(&events));
            }
        }
    }
}
