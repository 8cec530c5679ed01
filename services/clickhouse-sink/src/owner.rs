//! What is known of the rows that other owners of a partition have written. Pure.
//!
//! Invariant: a batch is written without asking the table only if nobody else can have written a part of it.

use std::collections::HashMap;

use engagement::event::Lane;

use crate::fence::Fence;
use crate::plan::Entry;

/// What is known about other owners' rows.
#[derive(Clone, Debug)]
pub enum Owner {
    /// Nothing: somebody else may have written, or one of our own inserts may still be on its way.
    Unknown,
    /// We hold this fence. Others, and we before, got so far in each lane and epoch.
    Holds(Fence, HashMap<(Lane, u8), i64>),
}

impl Owner {
    /// Whether the table must be asked before these entries are written.
    #[must_use]
    pub fn may_have_written(&self, entries: &[Entry]) -> bool {
        let Self::Holds(_, highest) = self else {
            return true;
        };
        entries.iter().any(|entry| {
            let reached = highest.get(&(entry.position.lane, entry.position.epoch));
            entry.by_id || reached.is_some_and(|reached| entry.position.offset <= *reached)
        })
    }
}
