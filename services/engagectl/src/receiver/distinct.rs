//! Counts distinct ids exactly, up to a limit.
//!
//! Invariant: at most `limit` ids are kept (64-bit hashes; at 20 million ids the chance that any two
//! collide is 1 in 90 000); beyond it the set says that it is full and its count is a lower bound.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A set of ids, each with a short fingerprint of what came with it.
#[derive(Debug)]
pub(super) struct Distinct {
    seen: HashMap<u64, u32>,
    limit: usize,
    full: bool,
}

/// What adding an id showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// Not seen before (or the set is full and cannot tell).
    New,
    /// Seen before, with the same content.
    Repeat,
    /// Seen before with other content.
    Changed,
}

impl Distinct {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            seen: HashMap::new(),
            limit,
            full: false,
        }
    }

    pub(super) fn add(&mut self, id: &str, content: &[u8]) -> Added {
        let key = hash(&id);
        let [a, b, c, d, ..] = hash(&content).to_le_bytes();
        let fingerprint = u32::from_le_bytes([a, b, c, d]);
        match self.seen.get(&key) {
            Some(known) if *known == fingerprint => Added::Repeat,
            Some(_) => Added::Changed,
            None => {
                if self.seen.len() < self.limit {
                    self.seen.insert(key, fingerprint);
                } else {
                    self.full = true;
                }
                Added::New
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.full
    }
}

/// The 64-bit hash that stands for an id.
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
        assert_eq!(set.add("a", b"1"), Added::New);
        assert_eq!(set.add("a", b"1"), Added::Repeat);
        assert_eq!(set.add("a", b"2"), Added::Changed);
        assert_eq!(set.len(), 1);
    }

    #[test]
    fn a_full_set_says_so_and_grows_no_further() {
        let mut set = Distinct::new(2);
        for id in ["a", "b"] {
            set.add(id, b"");
        }
        assert!(!set.is_full());
        assert_eq!(set.add("c", b""), Added::New);
        assert_eq!(set.add("a", b""), Added::Repeat);
        assert!(set.is_full() && set.len() == 2);
    }
}
