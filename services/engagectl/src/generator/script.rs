//! What happens to both tables, in order: rows, corrections, deletions, changes of contents.
//!
//! Invariant: pure, and the same whatever the batches: what a batch changes was chosen row by row, and no row is changed
//! twice, so the order within a batch changes nothing.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::contents::{ContentRow, contents};
use super::rows::{EventRow, Mix, RowSource};

/// Rows that may still be corrected or deleted; older ones stay as they are.
pub(super) const REMEMBERED: usize = 1000;
/// How often a change of the contents is a new content.
const ADDS: f64 = 0.3;

/// How often something changes, per row written; each between 0 and 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changes {
    /// Rows corrected by an update.
    pub update_ratio: f64,
    /// Rows deleted.
    pub delete_ratio: f64,
    /// Contents changed or added.
    pub content_churn: f64,
}

impl Changes {
    /// Whether rows are changed after they were inserted.
    #[must_use]
    pub fn touch_rows(&self) -> bool {
        self.update_ratio > 0.0 || self.delete_ratio > 0.0
    }
}

/// What is to be written together. Rows are numbered from 0, in the order in which they are inserted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The number of the first row.
    pub first: u64,
    /// Rows to insert.
    pub rows: Vec<EventRow>,
    /// Contents to insert or replace before them, by their place in the list.
    pub contents: BTreeMap<usize, ContentRow>,
    /// Rows to correct after that, by number.
    pub updated: Vec<u64>,
    /// Rows to delete after that, by number.
    pub deleted: Vec<u64>,
}

/// An endless source of batches.
#[derive(Clone, Debug)]
pub struct Script {
    seed: u64,
    rows: RowSource,
    rng: ChaCha8Rng,
    changes: Changes,
    contents: Vec<ContentRow>,
    editions: u64,
    written: u64,
    recent: Vec<u64>,
}

impl Script {
    /// Over so many contents, at first.
    #[must_use]
    pub fn new(seed: u64, mix: Mix, changes: Changes, count: usize) -> Self {
        let contents = contents(seed, count);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(1);
        Self {
            seed,
            rows: RowSource::new(seed, mix, &contents),
            rng,
            changes,
            contents,
            editions: 0,
            written: 0,
            recent: Vec::new(),
        }
    }

    /// The contents as they are now.
    #[must_use]
    pub fn contents(&self) -> &[ContentRow] {
        &self.contents
    }

    /// The next `count` rows with what changes along with them. `clock` is the time of a row, by its number, in microseconds
    /// since 1970.
    pub fn batch(&mut self, count: u64, clock: impl Fn(u64) -> i64) -> Batch {
        let mut batch = Batch {
            first: self.written,
            ..Batch::default()
        };
        for _ in 0..count {
            if self.chance(self.changes.content_churn) {
                let (index, row) = self.change_contents();
                batch.contents.insert(index, row);
            }
            let row = self.rows.next_row(clock(self.written));
            if self.changes.touch_rows() {
                self.change_rows(&row, &mut batch);
            }
            batch.rows.push(row);
            self.written += 1;
        }
        batch
    }

    fn change_rows(&mut self, row: &EventRow, batch: &mut Batch) {
        // a correction of what is given up would be given up, too
        if !row.is_poison() {
            if self.recent.len() >= REMEMBERED {
                let at = self.rng.random_range(0..self.recent.len());
                self.recent.swap_remove(at);
            }
            self.recent.push(self.written);
        }
        let oldest = (self.written + 1).saturating_sub(REMEMBERED as u64);
        self.recent.retain(|number| *number >= oldest);
        if self.chance(self.changes.update_ratio) {
            batch.updated.extend(self.some_row());
        }
        if self.chance(self.changes.delete_ratio) {
            batch.deleted.extend(self.some_row());
        }
    }

    /// A row that nobody gets again.
    fn some_row(&mut self) -> Option<u64> {
        if self.recent.is_empty() {
            return None;
        }
        let at = self.rng.random_range(0..self.recent.len());
        Some(self.recent.swap_remove(at))
    }

    fn change_contents(&mut self) -> (usize, ContentRow) {
        self.editions += 1;
        let count = self.contents.len();
        if count == 0 || self.chance(ADDS) {
            let row = ContentRow::at(self.seed, count, &mut self.rng);
            self.contents.push(row);
            return self.changed(count);
        }
        let index = self.rng.random_range(0..count);
        self.contents[index] = self.contents[index].changed(self.editions, &mut self.rng);
        self.changed(index)
    }

    fn changed(&mut self, index: usize) -> (usize, ContentRow) {
        let row = self.contents[index].clone();
        self.rows.set_length(index, row.length_seconds);
        (index, row)
    }

    fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.rng.random_bool(probability.min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const CHANGES: Changes = Changes {
        update_ratio: 0.2,
        delete_ratio: 0.1,
        content_churn: 0.05,
    };

    fn script(seed: u64) -> Script {
        let mix = Mix {
            poison_ratio: 0.02,
            disorder_ratio: 0.1,
            ..Mix::default()
        };
        Script::new(seed, mix, CHANGES, 30)
    }

    /// Rows, and which of them are corrected and deleted, all batches together.
    fn whole(seed: u64, sizes: &[u64]) -> Batch {
        let mut script = script(seed);
        let mut all = Batch::default();
        for size in sizes {
            let batch = script.batch(*size, |number| number.cast_signed() * 1000);
            all.rows.extend(batch.rows);
            all.contents.extend(batch.contents);
            all.updated.extend(batch.updated);
            all.deleted.extend(batch.deleted);
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_same_seed_gives_the_same_changes_however_they_are_cut_into_batches(
            seed in any::<u64>(), sizes in prop::collection::vec(0..400_u64, 1..8),
        ) {
            let count: u64 = sizes.iter().sum();
            prop_assert_eq!(whole(seed, &sizes), whole(seed, &[count]));
        }

        #[test]
        fn no_row_is_changed_twice_or_before_it_is_there_or_long_after(seed in any::<u64>()) {
            let mut script = script(seed);
            let mut seen = BTreeSet::new();
            for _ in 0..12 {
                let batch = script.batch(250, |_| 0);
                let end = batch.first + batch.rows.len() as u64;
                for number in batch.updated.iter().chain(&batch.deleted) {
                    prop_assert!(*number < end && *number + REMEMBERED as u64 >= batch.first, "{number}");
                    prop_assert!(seen.insert(*number), "{number} twice");
                }
            }
            prop_assert!(seen.len() > 300);
        }
    }

    #[test]
    fn nothing_changes_unless_it_is_asked_for() {
        let mut script = Script::new(1, Mix::default(), Changes::default(), 10);
        let batch = script.batch(1000, |_| 0);
        assert!(batch.contents.is_empty() && batch.updated.is_empty() && batch.deleted.is_empty());
        assert_eq!(batch.rows.len(), 1000);
    }

    #[test]
    fn contents_are_added_and_changed_and_events_refer_to_those_that_were_added() {
        let batch = whole(4, &[4000]);
        assert!(batch.contents.keys().any(|index| *index < 30));
        let added = batch.contents.keys().filter(|index| **index >= 30).count();
        assert!(added > 20, "{added}");
        let of_added = |row: &&EventRow| row.content.is_some_and(|index| index >= 30);
        assert!(batch.rows.iter().filter(of_added).count() > 100);
        let slugs: BTreeSet<&str> = batch
            .contents
            .values()
            .map(|row| row.slug.as_str())
            .collect();
        assert_eq!(slugs.len(), batch.contents.len());
    }

    #[test]
    fn poison_is_neither_corrected_nor_deleted() {
        let batch = whole(6, &[5000]);
        let poison = batch.rows.iter().filter(|row| row.is_poison()).count();
        assert!(poison > 50, "{poison}");
        for number in batch.updated.iter().chain(&batch.deleted) {
            let row = &batch.rows[usize::try_from(*number).unwrap()];
            assert!(!row.is_poison());
        }
    }
}
