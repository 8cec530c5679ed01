//! Counts distinct messages exactly, up to a limit, and tells them apart for a comparison.
//!
//! Invariant: at most `limit` messages are kept (16 bytes each, and as much again for finding them; at 20 million the chance
//! that any two collide is 1 in 90 000); beyond it the set says that it is full and its count is a lower bound.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use ::verify::delivery::{SLOTS, Slot, slot_of};

/// A set of messages, each with the hash of the first body that came with it.
#[derive(Debug)]
pub(super) struct Distinct {
    slots: Vec<HashMap<u64, u64>>,
    sums: Vec<Slot>,
    len: usize,
    limit: usize,
    full: bool,
}

/// What adding a message showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// Not seen before (or the set is full and cannot tell).
    New,
    /// Seen before, with the same body.
    Repeat,
    /// Seen before with another body.
    Changed,
}

impl Distinct {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            slots: vec![HashMap::new(); SLOTS],
            sums: vec![Slot::default(); SLOTS],
            len: 0,
            limit,
            full: false,
        }
    }

    /// Adds a message by the hashes of [`::verify::delivery`].
    pub(super) fn add(&mut self, key: u64, body: u64) -> Added {
        let slot = slot_of(key);
        match self.slots[slot].get(&key) {
            Some(known) if *known == body => Added::Repeat,
            Some(_) => Added::Changed,
            None => {
                if self.len < self.limit {
                    self.slots[slot].insert(key, body);
                    self.sums[slot].add(key, body);
                    self.len += 1;
                } else {
                    self.full = true;
                }
                Added::New
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    pub(super) fn sums(&self) -> Vec<Slot> {
        self.sums.clone()
    }

    /// The messages of a slot behind a key, by key: key and body.
    pub(super) fn page(&self, slot: usize, after: u64, limit: usize) -> Vec<(u64, u64)> {
        let messages = self.slots.get(slot).into_iter().flatten();
        let mut behind: Vec<(u64, u64)> = messages
            .map(|(key, body)| (*key, *body))
            .filter(|(key, _)| *key > after)
            .collect();
        behind.sort_unstable();
        behind.truncate(limit);
        behind
    }
}

/// The 64-bit hash that stands for an event's id.
pub(super) fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_and_changed_repeats_are_told_apart() {
        let mut set = Distinct::new(10);
        assert_eq!(set.add(1, 1), Added::New);
        assert_eq!(set.add(1, 1), Added::Repeat);
        assert_eq!(set.add(1, 2), Added::Changed);
        assert_eq!(set.len(), 1);
    }

    #[test]
    fn a_full_set_says_so_and_grows_no_further() {
        let mut set = Distinct::new(2);
        for key in [1, 2] {
            set.add(key, 0);
        }
        assert!(!set.is_full());
        assert_eq!(set.add(3, 0), Added::New);
        assert_eq!(set.add(1, 0), Added::Repeat);
        assert!(set.is_full() && set.len() == 2);
    }

    #[test]
    fn the_pages_of_a_slot_hold_each_of_its_messages_once() {
        let mut set = Distinct::new(100);
        let slots = SLOTS as u64;
        for n in [3, 1, 2] {
            set.add(5 + n * slots, n);
        }
        set.add(6, 9);
        let first = set.page(5, 0, 2);
        assert_eq!(first, [(5 + slots, 1), (5 + 2 * slots, 2)]);
        assert_eq!(set.page(5, first[1].0, 2), [(5 + 3 * slots, 3)]);
        assert_eq!(set.sums()[5].0, 3);
        assert!(set.page(SLOTS, 0, 2).is_empty());
    }
}
