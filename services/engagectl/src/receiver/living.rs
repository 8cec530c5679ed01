//! Counts the events that exist, whatever order their revisions come in.
//!
//! Invariant: the highest revision of an event decides; at most `limit` events are kept, beyond it
//! the set says that it is full and its count is a lower bound.

use std::collections::{HashMap, HashSet};

use super::distinct::hash;

/// The newest revision of each event, by the 64-bit hash of its id.
#[derive(Debug)]
pub(super) struct Living {
    revisions: HashMap<u64, u64>,
    deleted: HashSet<u64>,
    limit: usize,
    full: bool,
}

impl Living {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            revisions: HashMap::new(),
            deleted: HashSet::new(),
            limit,
            full: false,
        }
    }

    /// Notes a revision; one below the newest known changes nothing.
    pub(super) fn note(&mut self, id: &str, revision: u64, deleted: bool) {
        let key = hash(&id);
        let known = self.revisions.get(&key).copied();
        if known.is_some_and(|newest| revision < newest) {
            return;
        }
        if known.is_none() && self.revisions.len() >= self.limit {
            self.full = true;
            return;
        }
        self.revisions.insert(key, revision);
        if deleted {
            self.deleted.insert(key);
        } else {
            self.deleted.remove(&key);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.revisions.len() - self.deleted.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_revision_decides_whatever_the_order() {
        let mut living = Living::new(10);
        living.note("a", 1, false);
        living.note("a", 3, true);
        living.note("a", 2, false);
        assert_eq!(living.len(), 0);
        living.note("b", 5, true);
        living.note("b", 4, false);
        assert_eq!(living.len(), 0);
        living.note("a", 6, false);
        assert_eq!(living.len(), 1);
    }

    #[test]
    fn without_revisions_the_last_one_decides() {
        let mut living = Living::new(10);
        living.note("a", 0, false);
        living.note("a", 0, true);
        assert_eq!(living.len(), 0);
    }

    #[test]
    fn a_full_set_says_so_and_still_follows_the_events_it_has() {
        let mut living = Living::new(1);
        living.note("a", 1, false);
        living.note("b", 1, false);
        assert!(living.is_full() && living.len() == 1);
        living.note("a", 2, true);
        assert_eq!(living.len(), 0);
    }
}
