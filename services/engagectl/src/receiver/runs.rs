//! Which messages a backfill has brought, run by run. Pure.
//!
//! Invariant: a message belongs to the run that brought it first; at most `limit` messages and [`MOST_RUNS`] runs are told apart,
//! and beyond it the set says that it is full.

use std::collections::{BTreeMap, HashMap};

use ::verify::delivery::{RunSum, SLOTS, Slot, slot_of};

use super::distinct::Added;

/// Runs that are told apart; the sums of one take 64 KiB.
const MOST_RUNS: usize = 256;

/// Messages of backfills.
#[derive(Debug)]
pub(super) struct Runs {
    run_of: HashMap<u64, i64>,
    books: BTreeMap<i64, RunBook>,
    limit: usize,
    full: bool,
}

#[derive(Debug)]
struct RunBook {
    slots: Vec<Slot>,
    messages: u64,
    repeats: u64,
}

impl Runs {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            run_of: HashMap::new(),
            books: BTreeMap::new(),
            limit,
            full: false,
        }
    }

    /// Notes a delivery with the run of its header, by the hashes of [`::verify::delivery`].
    pub(super) fn note(&mut self, added: Added, run: Option<i64>, key: u64, body: u64) {
        match (added, run) {
            (Added::New, Some(run)) => self.first(run, key, body),
            (Added::Repeat, _) => self.again(key),
            (Added::New, None) | (Added::Changed, _) => {}
        }
    }

    fn first(&mut self, run: i64, key: u64, body: u64) {
        let is_new = !self.books.contains_key(&run);
        if self.run_of.len() >= self.limit || (is_new && self.books.len() >= MOST_RUNS) {
            self.full = true;
            return;
        }
        let book = self.books.entry(run).or_insert_with(|| RunBook {
            slots: vec![Slot::default(); SLOTS],
            messages: 0,
            repeats: 0,
        });
        book.slots[slot_of(key)].add(key, body);
        book.messages += 1;
        self.run_of.insert(key, run);
    }

    fn again(&mut self, key: u64) {
        let run = self.run_of.get(&key);
        if let Some(book) = run.and_then(|run| self.books.get_mut(run)) {
            book.repeats += 1;
        }
    }

    /// The run that brought a message.
    pub(super) fn of(&self, key: u64) -> Option<i64> {
        self.run_of.get(&key).copied()
    }

    /// What came of each run, the oldest first.
    pub(super) fn sums(&self) -> Vec<RunSum> {
        let sum = |(run, book): (&i64, &RunBook)| RunSum {
            run: *run,
            messages: book.messages,
            repeats: book.repeats,
        };
        self.books.iter().map(sum).collect()
    }

    /// The sums of a run; of one that nothing came of, empty ones.
    pub(super) fn slots(&self, run: i64) -> Vec<Slot> {
        let book = self.books.get(&run);
        book.map_or_else(|| vec![Slot::default(); SLOTS], |book| book.slots.clone())
    }

    pub(super) fn is_full(&self) -> bool {
        self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_counts_for_the_run_that_brought_the_message_first() {
        let mut runs = Runs::new(10);
        runs.note(Added::New, Some(7), 1, 1);
        runs.note(Added::Repeat, Some(8), 1, 1);
        runs.note(Added::Repeat, None, 1, 1);
        runs.note(Added::New, None, 2, 1);
        runs.note(Added::Repeat, Some(7), 2, 1);
        let expected = RunSum {
            run: 7,
            messages: 1,
            repeats: 2,
        };
        assert_eq!(runs.sums(), [expected]);
        assert_eq!((runs.of(1), runs.of(2)), (Some(7), None));
    }

    #[test]
    fn more_runs_or_messages_than_are_told_apart_are_said_and_grow_nothing() {
        let mut runs = Runs::new(2);
        for key in 1..=3 {
            assert!(!runs.is_full());
            runs.note(Added::New, Some(7), key, 1);
        }
        assert!(runs.is_full() && runs.sums()[0].messages == 2);
        let mut runs = Runs::new(10_000);
        for run in 0..=256 {
            assert!(!runs.is_full(), "{run}");
            runs.note(Added::New, Some(run), run.unsigned_abs(), 1);
        }
        assert!(runs.is_full());
        assert_eq!(runs.sums().len(), MOST_RUNS);
    }
}
